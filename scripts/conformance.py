#!/usr/bin/env python3
"""Runs the PEtab judge with mixode and holds its outcome against a list of known open cases.

    scripts/conformance.py SUITE [--only IDS] [--mixode PATH] [--open FILE] [--jobs N]

SUITE is a folder the judge understands, such as $MIXODE_SHARED/suites/petab. FILE (default scripts/petab_skip.txt) names one
case a line, then two blanks or a tab and the reason; a name that ends in / stands for all cases below it.
The last line reads `N passed, M failed, K skipped`; known open cases count as skipped. Exit status 1 if anything else failed,
or if the judge itself could not run. Cases of the list that pass now are named, so that their lines can go.
Standard library only.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def read_open(path):
    """{case or prefix: reason} of a list of known open cases."""
    open_cases = {}
    if not path.exists():
        return open_cases
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, *reason = re.split(r"\t|  +", line, maxsplit=1)
        if not reason:
            sys.exit(f"{path}:{number}: `{name}` has no reason")
        open_cases[name] = reason[0].strip()
    return open_cases


def reason_for(case, open_cases):
    for name, reason in open_cases.items():
        if case == name or (name.endswith("/") and case.startswith(name)):
            return reason
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--only", help="comma-separated prefixes of case names")
    parser.add_argument("--mixode", type=Path, default=ROOT / "target/release/mixode")
    parser.add_argument("--open", type=Path, default=ROOT / "scripts/petab_skip.txt", dest="open_list")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one case")
    arguments = parser.parse_args()

    shared = Path(os.environ.get("MIXODE_SHARED", ROOT.parent / "shared")).resolve()
    judge = shared / "judge/judge_petab.py"
    if not judge.exists():
        sys.exit(f"no judge at {judge}")
    open_cases = read_open(arguments.open_list)
    engine = f"'{arguments.mixode.resolve()}' evaluate {{problem}} --json {{json}} --simulations {{sim}}"
    with tempfile.TemporaryDirectory() as scratch:
        report_path = Path(scratch) / "report.json"
        command = [sys.executable, str(judge), str(arguments.suite), "--engine", engine, "--json", str(report_path)]
        command += ["-j", str(arguments.jobs), "--timeout", str(arguments.timeout)]
        if arguments.only:
            command += ["--only", arguments.only]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if not report_path.exists():
            sys.exit(f"the judge gave no report (exit {run.returncode}):\n{run.stdout}{run.stderr}")
        report = json.loads(report_path.read_text(encoding="utf-8"))

    passed = failed = skipped = 0
    for case in report["cases"]:
        reason = reason_for(case["id"], open_cases)
        if case["status"] == "pass":
            passed += 1
            if reason:
                print(f"now passes, its line can go: {case['id']}")
        elif reason:
            skipped += 1
            print(f"open {case['id']}: {reason}")
        elif case["status"] == "skip":
            skipped += 1
            print(f"skip {case['id']}: {case['message']}")
        else:
            failed += 1
            print(f"FAIL {case['id']}: {case['message']}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed + skipped == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
