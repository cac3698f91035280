#!/usr/bin/env python3
"""Reads and simulates every SBML file of a collection, and says what keeps the others from running.

    scripts/compare/biomodels.py [COLLECTION] [--mixode PATH] [--timeout 60] [--jobs 2] [--only WORDS] [--json FILE]

COLLECTION is a folder or a zip file of SBML files. Without it, the 1041 curated BioModels of the PyPI package SBMLKinetics 1.1.1
are taken, which pip downloads into target/corpus. Each file goes through `mixode check` and `mixode simulate --duration 10 --steps
10`. A reason is the exit status with the code and construct of the first error. Printed are counts by reason with two examples,
and the slowest models; the JSON (default target/corpus/biomodels.json) has everything. Standard library only.
"""

import argparse
import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "target/corpus"
WHEEL = "SBMLKinetics==1.1.1"
INSIDE = "SBMLKinetics/data/curated.zip"


def curated():
    """The zip file of curated BioModels, downloaded where it is not there yet."""
    path = CORPUS / "curated.zip"
    if path.exists():
        return path
    CORPUS.mkdir(parents=True, exist_ok=True)
    if not list(CORPUS.glob("SBMLKinetics-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CORPUS), WHEEL]
        subprocess.run(command, check=True)
    with zipfile.ZipFile(next(CORPUS.glob("SBMLKinetics-*.whl"))) as wheel:
        path.write_bytes(wheel.read(INSIDE))
    return path


def unpacked(collection, scratch):
    """All SBML files of a folder or zip file, as {name: path}."""
    if collection.is_file():
        with zipfile.ZipFile(collection) as archive:
            archive.extractall(scratch)
        collection = Path(scratch)
    files = (p for p in collection.rglob("*") if p.suffix in (".xml", ".sbml") and not p.name.startswith("."))
    return {str(p.relative_to(collection)): p for p in sorted(files)}


def run(command, timeout):
    """Status, seconds, standard output and standard error; status None after a timeout."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return None, timeout, "", ""
    return done.returncode, time.perf_counter() - start, done.stdout, done.stderr


def first_error(stderr):
    """Code and message of the first error in JSON diagnostics, or the first line of text that says something."""
    for line in stderr.splitlines():
        try:
            items = json.loads(line)
        except ValueError:
            continue
        items = items.get("diagnostics", []) if isinstance(items, dict) else items
        for item in items:
            if isinstance(item, dict) and item.get("severity") == "error":
                return item.get("code", ""), item.get("message", "")
    for line in stderr.splitlines():
        if "panicked" in line or line.startswith("error"):
            return "", line.removeprefix("error: ")
    return "", (stderr.strip().splitlines() or [""])[0]


def construct(message):
    """A message without what differs between models: names, numbers, counts."""
    message = re.sub(r"`[^`]*`", "`…`", message)
    return re.sub(r"[-+]?\b\d[\d.,]*(e[-+]?\d+)?", "N", message)


def reason(step, status, stderr):
    if status is None:
        return f"{step}: timeout", ""
    code, message = first_error(stderr)
    # A code stands for one kind of mistake; the construct is for readers.
    return f"{step}: exit {status} {code or construct(message)}", message


def examine(name, path, arguments):
    mixode = str(arguments.mixode.resolve())
    result = {"name": name}
    status, seconds, _, stderr = run([mixode, "check", "--format", "json", str(path)], arguments.timeout)
    result.update(check_status=status, check_seconds=seconds)
    if status != 0:
        result["reason"], result["message"] = reason("check", status, stderr)
        return result
    command = [mixode, "simulate", str(path), "--duration", "10", "--steps", "10"]
    status, seconds, stdout, stderr = run(command, arguments.timeout)
    result.update(simulate_status=status, simulate_seconds=seconds)
    if status != 0:
        result["reason"], result["message"] = reason("simulate", status, stderr)
    elif any(word in line.upper() for line in stdout.splitlines()[1:] for word in ("NAN", "INF")):
        result["reason"], result["message"] = "ok, with values that are not finite", ""
    else:
        result["reason"], result["message"] = "ok", ""
    return result


def report(results):
    by_reason = defaultdict(list)
    for result in results:
        by_reason[result["reason"]].append(result)
    print(f"{'models':>6}  reason")
    for text, members in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        said = construct(members[0]["message"])
        print(f"{len(members):6}  {text}" + (f": {said}" if said and said not in text else ""))
        for member in members[:2] if text != "ok" else []:
            print(f"{'':8}{member['name']}: {member['message'][:200]}")
    print("\nslowest models, seconds of check and simulate")
    slowest = sorted(results, key=lambda r: -(r["check_seconds"] + r.get("simulate_seconds", 0.0)))
    for result in slowest[:10]:
        print(f"  {result['check_seconds']:7.2f} {result.get('simulate_seconds', 0.0):7.2f}  {result['name']}")
    good = sum(r["reason"].startswith("ok") for r in results)
    unsupported = sum(77 in (r["check_status"], r.get("simulate_status")) for r in results)
    print(f"\n{good} ran, {unsupported} need something unsupported, {len(results) - good - unsupported} failed, of {len(results)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, nargs="?", help="folder or zip file; default: the curated BioModels")
    parser.add_argument("--mixode", type=Path, default=ROOT / "target/release/mixode")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one step of one model")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="only files whose names contain one of these")
    parser.add_argument("--json", type=Path, default=CORPUS / "biomodels.json")
    arguments = parser.parse_args()
    if not arguments.mixode.exists():
        sys.exit(f"no program {arguments.mixode}; build it with `cargo build --release`")
    collection = arguments.collection or curated()
    if not collection.exists():
        sys.exit(f"no collection {collection}")
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        files = unpacked(collection, scratch)
        chosen = {n: p for n, p in files.items() if not arguments.only or any(word in n for word in arguments.only)}
        if not chosen:
            sys.exit(f"no SBML files in {collection}")
        results = []
        for result in pool.map(lambda item: examine(*item, arguments), chosen.items()):
            results.append(result)
            if sys.stderr.isatty():
                print(f"\r{len(results)} of {len(chosen)}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    report(results)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
