#!/usr/bin/env python3
"""Compares gradients at the nominal parameters with AMICI's at tight tolerances.

    scripts/compare/gradients.py [PROBLEM ...] [--mixode PATH] [--gradient forward|adjoint|auto] [--tolerance 1e-4]
    scripts/compare/gradients.py --table [PROBLEM ...]

PROBLEM is (the start of) a name in $MIXODE_SHARED/suites/benchmarks; default: those below. The reference is
baseline/amici_baseline.json, setting `tight` (atol 1e-14, rtol 1e-12), forward sensitivities, or where AMICI fails with them
(Smith, which has events) adjoint ones; both gradients are of the negative
log-likelihood on the estimation scale. Criterion: |difference|_2 < tolerance * |reference|_2. The agreement of AMICI's own forward
and adjoint gradients, where both exist, is below 1e-4 for all of these.

--table prints instead, for every problem, the relative differences of our forward and adjoint gradients at default settings from each
other, from a forward run of our own at tight tolerances (rtol 1e-13, atol 1e-15), and of that run from AMICI's tight gradient, with
the seconds of the objective and of both gradients, on one thread. A dash stands where a run failed or took longer than --timeout; nothing
is judged.

The last line reads `N passed, M failed, K skipped`. Standard library only.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("MIXODE_SHARED", ROOT.parent / "shared")).resolve()
PROBLEMS = """Alkan Armistead Bachmann Beer Bertozzi Blasi Boehm Borghans Brannmark Fiedler Fujita Giordano Isensee Lucarelli Okuonghae Perelson
Rahman Raimundez SalazarCavazos Smith Sneyd Zhao Zheng""".split()
LEFT_OUT = {
    "Crauste_CellSystems2017": "AMICI's forward and adjoint gradients disagree by 20 %",
    "Chen_MSB2009": "no AMICI gradient at tight tolerances",
    "Lang_PLOSComputBiol2024": "no AMICI gradient",
}


def norm(values):
    return math.sqrt(sum(v * v for v in values))


def prior_gradient(folder, names, scaled):
    """Gradient of the negative log prior on the estimation scale, in the convention own-scale, at the scaled values. The families are
    those of the benchmark collection."""
    slopes = {"lin": lambda x: 1.0, "log": lambda x: x, "log10": lambda x: x * math.log(10)}
    natural = {"lin": lambda u: u, "log": math.exp, "log10": lambda u: 10.0**u}
    gradient = [0.0] * len(names)
    for path in folder.glob(f"parameters_{folder.name}.tsv"):
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                kind = (row.get("objectivePriorType") or "").strip()
                if row["parameterId"] not in names or kind in ("", "parameterScaleUniform"):
                    continue
                place = names.index(row["parameterId"])
                scale = (row["parameterScale"] or "lin").strip()
                x = natural[scale](scaled[place])
                location, spread = map(float, row["objectivePriorParameters"].split(";"))
                if kind == "parameterScaleNormal":
                    gradient[place] = (scaled[place] - location) / spread**2
                elif kind == "laplace":
                    gradient[place] = (x > location) - (x < location)
                    gradient[place] *= slopes[scale](x) / spread
                elif kind != "uniform":
                    raise ValueError(f"prior {kind} of {row['parameterId']} is not known to this script")
    return gradient


def evaluate(name, arguments, options):
    """What `mixode evaluate` says of one problem."""
    folder = SHARED / "suites/benchmarks" / name
    yaml = json.loads((folder / "reference.json").read_text(encoding="utf-8"))["yaml"]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "evaluation.json"
        command = [str(arguments.mixode.resolve()), "evaluate", str(folder / yaml), *options, "--json", str(out)]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=arguments.timeout, check=False)
        if run.returncode != 0 or not out.exists():
            raise ValueError(f"exit {run.returncode}: {(run.stderr.strip().splitlines() or ['no output'])[0]}")
        return json.loads(out.read_text(encoding="utf-8"))


def reference_of(name, baseline, result):
    """AMICI's tight gradient of what we minimise."""
    folder = SHARED / "suites/benchmarks" / name
    tight = baseline["settings"]["tight"]
    names, reference = baseline["x_free_ids"], tight["fwd" if tight["fwd"]["ok"] else "adj"]["grad"]
    if result["log_prior"]:
        # What is minimised holds the prior, the reference does not.
        prior = prior_gradient(folder, names, baseline["x_nominal_scaled"])
        reference = [r + p for r, p in zip(reference, prior)]
    return names, reference


def compare(name, baseline, arguments):
    """Relative difference of one problem, and the parameter with the largest one."""
    result = evaluate(name, arguments, ["--gradient", arguments.gradient])
    names, reference = reference_of(name, baseline, result)
    gradient = result.get("gradient")
    if not isinstance(gradient, dict):
        raise ValueError("the JSON has no object `gradient`")
    if set(gradient) != set(names):
        raise ValueError(f"other parameters than the reference: {sorted(set(gradient) ^ set(names))[:5]}")
    difference = [float(gradient[n]) - r for n, r in zip(names, reference)]
    worst = max(range(len(names)), key=lambda i: abs(difference[i]))
    return norm(difference) / norm(reference), names[worst]


def table(names, baselines, arguments):
    """Prints how the gradients differ, and what they cost."""
    runs = {
        "forward": ["--gradient", "forward"],
        "adjoint": ["--gradient", "adjoint"],
        "tight": ["--gradient", "forward", "--rtol", "1e-13", "--atol", "1e-15"],
    }
    heads = "adj-fwd fwd-tight adj-tight tight-AMICI value_s fwd_s adj_s".split()
    print(f"{'problem':34}" + "".join(f"{head:>12}" for head in heads))
    for name in names:
        results = {}
        for kind, options in runs.items():
            try:
                results[kind] = evaluate(name, arguments, [*options, "-j", "1"])
            except (ValueError, OSError, subprocess.TimeoutExpired) as error:
                print(f"  {name}, {kind}: {error}", file=sys.stderr)
        gradients = {kind: {k: float(v) for k, v in result["gradient"].items()} for kind, result in results.items()}
        if name in baselines and "tight" in results:
            try:
                gradients["AMICI"] = dict(zip(*reference_of(name, baselines[name], results["tight"])))
            except (ValueError, KeyError, TypeError) as error:
                print(f"  {name}, AMICI: {error}", file=sys.stderr)

        def difference(one, other):
            if one not in gradients or other not in gradients or set(gradients[one]) != set(gradients[other]):
                return None
            size = norm(gradients[other].values())
            return norm([gradients[one][k] - v for k, v in gradients[other].items()]) / size if size > 0 else None

        def seconds(kind, what):
            return results[kind]["timings"][what] if kind in results else None

        pairs = [("adjoint", "forward"), ("forward", "tight"), ("adjoint", "tight"), ("tight", "AMICI")]
        differences = [difference(*pair) for pair in pairs]
        times = [seconds("adjoint", "objective"), seconds("forward", "gradient"), seconds("adjoint", "gradient")]
        cells = [f"{v:12.1e}" if v is not None else f"{'-':>12}" for v in differences]
        cells += [f"{v:12.4f}" if v is not None else f"{'-':>12}" for v in times]
        print(f"{name:34}" + "".join(cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=PROBLEMS)
    parser.add_argument("--mixode", type=Path, default=ROOT / "target/release/mixode")
    parser.add_argument("--gradient", default="forward", choices=["forward", "adjoint", "auto"])
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()

    path = SHARED / "baseline/amici_baseline.json"
    if not path.exists():
        sys.exit(f"no baseline at {path}")
    baselines = json.loads(path.read_text(encoding="utf-8"))["problems"]
    if arguments.table:
        folders = sorted(path.name for path in (SHARED / "suites/benchmarks").iterdir() if path.is_dir())
        table([name for name in folders if any(name.startswith(wanted) for wanted in arguments.problems)], baselines, arguments)
        return 0
    passed = failed = skipped = 0
    for wanted in arguments.problems:
        matches = [name for name in baselines if name.startswith(wanted)]
        if len(matches) != 1:
            sys.exit(f"`{wanted}` is the start of {len(matches)} problems of the baseline")
        name = matches[0]
        if name in LEFT_OUT:
            skipped += 1
            print(f"skip {name}: {LEFT_OUT[name]}")
            continue
        try:
            relative, worst = compare(name, baselines[name], arguments)
        except (ValueError, KeyError, TypeError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAIL {name}: {error}")
            continue
        good = relative < arguments.tolerance  # false for NaN
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok  ' if good else 'FAIL'} {name}: relative difference {relative:.2e}, largest in {worst}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
