#!/usr/bin/env python3
"""Times loading and simulating SBML models side by side with libRoadRunner, one thread each, in one run.

    scripts/compare/sbml_speed.py [SUITE] [--rtol 1e-8] [--atol 1e-12] [--repeats 3] [--only PREFIX ...] [--sample N] [--json FILE]

SUITE is a folder of cases as in the SBML Test Suite (NNNNN/NNNNN-sbml-lXvY.xml with NNNNN-settings.txt), default
$MIXODE_SHARED/suites/sbml, or a folder or zip file of plain SBML files, which are simulated over --duration in --steps.
libRoadRunner comes from PyPI, into target/venv.

Both tools load the same file from disk, integrate with the same tolerances and give the same variables at the same times:
  load      libRoadRunner: RoadRunner(file).  mixode: read, build and compile, as it reports itself with --timings.
  simulate  libRoadRunner: simulate(...) of a model just loaded.  mixode: the integration, likewise.
  process   the whole mixode process, from its start to its end, with writing the CSV; libRoadRunner has no counterpart.
Of the repeats, each a fresh load, the fastest counts. Cases that either tool rejects are left out and counted. The last values of both
are compared too: a fast wrong answer is no answer. Standard library only; the part inside target/venv uses libRoadRunner.
"""

import argparse
import csv
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("MIXODE_SHARED", ROOT.parent / "shared")).resolve()
VENV = ROOT / "target/venv"
QUANTITIES = ("load", "simulate", "total")


def worker():
    """Answers one line of JSON per case, until the end of the input. Runs inside target/venv."""
    import gc

    import roadrunner

    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_FATAL)
    # What the library prints must not get into the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        case = json.loads(line)
        try:
            best = {"load": math.inf, "simulate": math.inf}
            for _ in range(case["repeats"]):
                gc.collect()
                begin = time.perf_counter()
                model = roadrunner.RoadRunner(case["model"])
                loaded = time.perf_counter()
                known = set(model.model.getFloatingSpeciesIds()) | set(model.model.getBoundarySpeciesIds())
                names = case["variables"] or [s for s in case["species"] if s in known]
                model.timeCourseSelections = ["time"] + [f"[{n}]" if n in known and n not in case["amounts"] else n for n in names]
                model.integrator.relative_tolerance = case["rtol"]
                model.integrator.absolute_tolerance = case["atol"]
                started = time.perf_counter()
                table = model.simulate(case["start"], case["start"] + case["duration"], case["steps"] + 1)
                ended = time.perf_counter()
                best["load"] = min(best["load"], loaded - begin)
                best["simulate"] = min(best["simulate"], ended - started)
                last = [float(v) for v in table[-1][1:]]
                del model, table
            answer = {**best, "last": dict(zip(names, last))}
        except Exception as error:  # whatever the library raises is a rejection
            answer = {"error": " ".join(str(error).split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


class RoadRunner:
    """The worker process; it is started again after a crash."""

    def __init__(self, python):
        self.python, self.process = python, None

    def ask(self, case):
        if self.process is None or self.process.poll() is not None:
            command = [str(self.python), __file__, "--worker"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            self.process.stdin.write(json.dumps(case) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        return json.loads(line) if line else {"error": "the process ended"}

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def roadrunner_python():
    """Python of target/venv, in which libRoadRunner is installed where it is not yet."""
    python = VENV / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    if subprocess.run([str(python), "-c", "import roadrunner"], capture_output=True, check=False).returncode != 0:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "libroadrunner", "numpy"], check=True)
    return python


def mixode(case, arguments):
    """Best times of one case, and its last values."""
    best = {"load": math.inf, "simulate": math.inf, "process": math.inf}
    with tempfile.TemporaryDirectory() as scratch:
        table, timings = Path(scratch) / "table.csv", Path(scratch) / "timings.json"
        command = [str(arguments.mixode.resolve()), "simulate", case["model"], "--start", repr(case["start"]), "--duration", repr(case["duration"])]
        command += ["--steps", str(case["steps"]), "--rtol", repr(case["rtol"]), "--atol", repr(case["atol"]), "-o", str(table)]
        names = case["variables"]
        if names:
            command += ["--variables", ",".join(names)]
        species = [n for n in names or case["species"] if n in case["species"]]
        command += ["--amounts", ",".join(n for n in species if n in case["amounts"])]
        command += ["--concentrations", ",".join(n for n in species if n not in case["amounts"])]
        command += ["--timings", str(timings)]
        for _ in range(case["repeats"]):
            begin = time.perf_counter()
            try:
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RAYON_NUM_THREADS": "1"}, timeout=arguments.timeout, check=False)
            except subprocess.TimeoutExpired:
                return {"error": "timeout"}
            process = time.perf_counter() - begin
            if done.returncode != 0:
                return {"error": f"exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[0][:300]}"}
            reported = json.loads(timings.read_text(encoding="utf-8"))
            found = {"load": reported["load"], "simulate": reported["simulate"], "process": process}
            best = {key: min(best[key], found[key]) for key in best}
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    return {**best, "last": dict(zip(rows[0][1:], (float(v) for v in rows[-1][1:])))}


def species_of(path):
    """Identifiers of the species in a file; good enough for a list of names."""
    text = path.read_text(encoding="utf-8", errors="replace")
    tags = re.findall(r"<(?:\w+:)?speci(?:es|e)\s[^>]*>", text)
    level1 = re.search(r"<(?:\w+:)?sbml[^>]*\slevel=[\"']1", text)
    found = (re.search(r"\sname=[\"']([^\"']+)" if level1 else r"\sid=[\"']([^\"']+)", tag) for tag in tags)
    return [match.group(1) for match in found if match]


def read_settings(path):
    settings = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        settings[key.strip().lower()] = value.strip()
    return settings


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def collect(suite, scratch, arguments):
    """All cases as dictionaries, and how many the suite has that are no time courses."""
    common = {"rtol": arguments.rtol, "atol": arguments.atol, "repeats": arguments.repeats}
    if suite.is_file():
        with zipfile.ZipFile(suite) as archive:
            archive.extractall(scratch)
        suite = Path(scratch)
    cases, other = [], 0
    settings_files = sorted(suite.glob("*/*-settings.txt"))
    for path in settings_files:
        name = path.parent.name
        # The highest level comes last.
        models = sorted(path.parent.glob(f"{name}-sbml-l*v*.xml"))
        settings = read_settings(path)
        if not models or not settings.get("duration"):
            other += 1
            continue
        case = {
            "name": name,
            "model": str(models[-1]),
            "start": float(settings.get("start") or 0.0),
            "duration": float(settings["duration"]),
            "steps": int(float(settings["steps"])),
            "variables": words(settings.get("variables", "")),
            "amounts": words(settings.get("amount", "")),
            "species": species_of(models[-1]),
        }
        cases.append({**case, **common})
    if not settings_files:
        for path in sorted(p for p in suite.rglob("*") if p.suffix in (".xml", ".sbml") and not p.name.startswith(".")):
            case = {"name": path.stem, "model": str(path), "start": 0.0, "duration": arguments.duration, "steps": arguments.steps}
            cases.append({**case, "variables": [], "amounts": [], "species": species_of(path), **common})
    if arguments.only:
        cases = [c for c in cases if any(c["name"].startswith(prefix) for prefix in arguments.only)]
    if arguments.sample and len(cases) > arguments.sample:
        cases = [cases[i * len(cases) // arguments.sample] for i in range(arguments.sample)]
    return cases, other


def differs(ours, theirs):
    """The first variable whose last values differ by more than a thousandth."""
    scale = max((abs(v) for v in theirs.values() if math.isfinite(v)), default=0.0)
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if not (a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-3 * abs(b) + 1e-6 * scale):
            return f"{name}: {a:g} against {b:g}"
    return None


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def report(results, rejected, arguments):
    print(f"rtol {arguments.rtol:g}, atol {arguments.atol:g}, best of {arguments.repeats}, times in ms\n")
    print(f"{'':10}{'libRoadRunner':>28}{'mixode':>28}{'libRoadRunner : mixode':>30}")
    print(f"{'':10}{'median':>12}{'95 %':>8}{'sum':>8}{'median':>12}{'95 %':>8}{'sum':>8}{'geometric mean':>20}{'faster':>10}")
    for key in QUANTITIES:
        theirs, ours = ([r[tool][key] * 1e3 for r in results] for tool in ("roadrunner", "mixode"))
        ratios = [a / b for a, b in zip(theirs, ours) if b > 0.0 and a > 0.0]
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        cells = "".join(f"{statistics.median(v):12.3f}{percentile(v, 0.95):8.2f}{sum(v):8.0f}" for v in (theirs, ours))
        print(f"{key:10}{cells}{mean:20.2f}{sum(r > 1.0 for r in ratios) / len(ratios):10.0%}")
    process = [r["mixode"]["process"] * 1e3 for r in results]
    print(f"{'process':10}{'':28}{statistics.median(process):12.3f}{percentile(process, 0.95):8.2f}{sum(process):8.0f}")
    print("\n`faster`: share of cases in which mixode is faster.")
    for key in QUANTITIES[:2]:
        worst = sorted(results, key=lambda r: r["roadrunner"][key] / max(r["mixode"][key], 1e-9))[:5]
        names = ", ".join(f"{r['name']} ({r['roadrunner'][key] * 1e3:.2f} : {r['mixode'][key] * 1e3:.2f})" for r in worst)
        print(f"{key}, least favourable to mixode: {names}")
    different = [(r["name"], r["difference"]) for r in results if r["difference"]]
    print(f"\n{len(results)} cases timed; last values differ in {len(different)}")
    for name, difference in different[:20]:
        print(f"  {name}: {difference}")
    for tool, names in rejected.items():
        print(f"left out as {tool}: {len(names)}" + (f", such as {names[0][0]} ({names[0][1]})" if names else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, nargs="?", default=SHARED / "suites/sbml")
    parser.add_argument("--mixode", type=Path, default=ROOT / "target/release/mixode")
    parser.add_argument("--rtol", type=float, default=1e-8)
    parser.add_argument("--atol", type=float, default=1e-12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--duration", type=float, default=100.0, help="for files without settings")
    parser.add_argument("--steps", type=int, default=50, help="for files without settings")
    parser.add_argument("--only", nargs="*", default=[], help="only cases that begin with one of these")
    parser.add_argument("--sample", type=int, help="this many cases, evenly spread")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one run of mixode")
    parser.add_argument("--json", type=Path, default=ROOT / "target/sbml_speed.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker()
    if not arguments.mixode.exists():
        sys.exit(f"no program {arguments.mixode}; build it with `cargo build --release`")
    if not arguments.suite.exists():
        sys.exit(f"no suite {arguments.suite}; set MIXODE_SHARED")
    roadrunner = RoadRunner(roadrunner_python())
    results = []
    rejected = {"rejected by mixode only": [], "rejected by libRoadRunner only": [], "rejected by both": []}
    with tempfile.TemporaryDirectory() as scratch:
        cases, other = collect(arguments.suite, scratch, arguments)
        for number, case in enumerate(cases, 1):
            ours, theirs = mixode(case, arguments), roadrunner.ask(case)
            if sys.stderr.isatty():
                print(f"\r{number} of {len(cases)}", end="", file=sys.stderr)
            if "error" in ours or "error" in theirs:
                who = "both" if "error" in ours and "error" in theirs else "mixode only" if "error" in ours else "libRoadRunner only"
                rejected[f"rejected by {who}"].append((case["name"], ours.get("error") or theirs.get("error")))
                continue
            for tool in (ours, theirs):
                tool["total"] = tool["load"] + tool["simulate"]
            difference = differs(ours.pop("last"), theirs.pop("last"))
            results.append({"name": case["name"], "mixode": ours, "roadrunner": theirs, "difference": difference})
    roadrunner.close()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if not results:
        sys.exit("no case was simulated by both")
    report(results, rejected, arguments)
    if other:
        print(f"left out as no time course: {other}")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"rtol": arguments.rtol, "atol": arguments.atol, "repeats": arguments.repeats}
    arguments.json.write_text(json.dumps({**settings, "cases": results, "rejected": rejected}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
