#!/usr/bin/env python3
"""Data and expected.json of petab_problems/subpopulations.

    scripts/reference/subpopulations.py            rewrites expected.json from the problem's tables
    scripts/reference/subpopulations.py --check    fails if the file on disk differs from what would be written

The data were drawn in the design that measurements.tsv has by `mixode simulate petab_problems/subpopulations --noise --seed 20271`; nothing of mixode is used
for the expected values: R(t) = k/d + (1 - k/d) exp(-d t), log-normal noise, the random effect of responders by the trapezoidal rule, the classes by their
weighted sum. Standard library only.
"""

import csv
import json
import math
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "petab_problems" / "subpopulations"


def read(name):
    with open(FOLDER / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def density(measured, simulated, sigma):
    """Log-normal density of a measurement."""
    z = (math.log(measured) - math.log(simulated)) / sigma
    return math.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * sigma * measured)


def reporter(k, d, t):
    return k / d + (1 - k / d) * math.exp(-d * t)


def main():
    value = {row["parameterId"]: float(row["nominalValue"]) for name in ("parameters.tsv", "hyperparameters.tsv") for row in read(name)}
    n, reach = 4001, 9.0
    scores = [-reach + 2 * reach * i / (n - 1) for i in range(n)]
    weights = [math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * 2 * reach / (n - 1) for z in scores]
    total = 0.0
    for row in read("measurements.tsv"):
        y, t = float(row["measurement"]), float(row["time"])
        on = math.fsum(
            w * density(y, reporter(value["k_on"] * math.exp(value["omega_on"] * z), value["d"], t), value["sigma"]) for z, w in zip(scores, weights)
        )
        off = density(y, reporter(value["k_off"], value["d"], t), value["sigma"])
        total -= math.log(value["p_on"] * on + (1 - value["p_on"]) * off)
    expected = {
        "origin": "scripts/reference/subpopulations.py: closed form of the reporter, trapezoidal rule over the random effect, weighted sum over the classes",
        "tolerance": {"snapshot": 1e-3, "llh": 1e-3},
        "llh": -total,
        "tolerance_reason": "absolute, for all 450 cells together: 15 Gauss-Hermite nodes of the random effect against the fine rule",
        "parameters": value,
        "nllh": total,
        "terms": {"snapshot": total},
    }
    text = json.dumps(expected, indent=1) + "\n"
    path = FOLDER / "expected.json"
    if "--check" in sys.argv[1:]:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what would be written")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
