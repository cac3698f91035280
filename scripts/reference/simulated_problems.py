#!/usr/bin/env python3
"""Data and expected.json of the problems `survival` and `conversion_joint` in petab_problems/.

    scripts/reference/simulated_problems.py            rewrites expected.json from the problems' tables
    scripts/reference/simulated_problems.py --check    fails if a file on disk differs from what would be written
    scripts/reference/simulated_problems.py --draw     first draws the data anew, by `mixode simulate --population N --noise --seed S`
                                                       (last digits follow the integrator, so all expected values move)

Data are drawn by mixode in a design that stands here; nothing of mixode is used for the expected values, which come from closed forms.
Marginals of cells are exact by the trapezoidal rule on a fine grid of the random effects, which converges exponentially since the
integrand is smooth and vanishes at the ends. model.xml, problem.yaml and README.md are written by hand. Standard library only.

Closed forms
    survival            D(t) = a dose/r (1 - exp(-r t)); death at D = 1, at t = -log(1 - r/(a dose))/r, or never
    conversion_joint    B(t) = k1/(k1+k2) (1 - exp(-(k1+k2) t)); division at B = h, at t = -log(1 - h (k1+k2)/k1)/(k1+k2), or never
"""

import csv
import itertools
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from make_problems import (CHECK, LOG_2PI, PROBLEMS, PARAMETER_COLUMNS, Jet, changed, conversion, exp, expected, gauss_hermite, log, newton,
                           normal_nll, parameter_rows, table)

ROOT = PROBLEMS.parent
INFINITY = math.inf


# ---------------------------------------------------------------- event times
def tail(z):
    """Probability of a standard normal number below z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def bell(z):
    return math.exp(-0.5 * z * z - 0.5 * LOG_2PI)


def interval_nll(t, lower, upper, sigma):
    """-log probability that the reported time of an event at t lies between lower and upper; t a number or a Jet."""
    at = t.value if isinstance(t, Jet) else t
    if at == INFINITY:
        return 0.0 if upper == INFINITY else INFINITY
    a, b = (lower - at) / sigma, (upper - at) / sigma
    # The difference is taken in the tail that holds less.
    p = tail(-a) - tail(-b) if a > 0 else tail(b) - tail(a)
    if p <= 0:
        return INFINITY
    if not isinstance(t, Jet):
        return -math.log(p)
    fa, fb = bell(a), bell(b)
    slope = -(fb - fa) / sigma
    curvature = -((b * fb if b < INFINITY else 0.0) - (a * fa if a > -INFINITY else 0.0)) / sigma**2
    return t.apply(-math.log(p), -slope / p, (slope / p) ** 2 - curvature / p)


def event_nll(t, row, sigma):
    """The term of a row about an event at t."""
    kind, value = row.get("censoring") or "none", float(row["measurement"])
    if kind == "right":
        return interval_nll(t, value, INFINITY, sigma)
    if kind == "left":
        return interval_nll(t, -INFINITY, value, sigma)
    if kind == "interval":
        return interval_nll(t, value, float(row["measurementUpper"]), sigma)
    if not isinstance(t, Jet):
        return INFINITY if t == INFINITY else 0.5 * ((t - value) / sigma) ** 2 + 0.5 * LOG_2PI + math.log(sigma)
    return normal_nll(t - value, t.constant(sigma))


def first_passage(level, top, rate):
    """When top (1 - exp(-rate t)) reaches level: a Jet or number, infinite where it never does."""
    rest = (top - level) / top
    if (rest.value if isinstance(rest, Jet) else rest) <= 0:
        return INFINITY
    return -log(rest) / rate


# ---------------------------------------------------------------- marginals of cells
def individuals(folder, files):
    """Rows of each individual, in order of appearance."""
    found = {}
    for name in files:
        for row in read(folder / name):
            if row["individualId"]:
                found.setdefault(row["individualId"], []).append(row)
    return found


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def with_prior(data, omegas):
    """Negative log joint density of the data and of independent random effects, less the constant (2 pi)^(n/2) of the latter."""
    def joint(b):
        total = data(b)
        for value, omega in zip(b, omegas):
            total = total + (0.5 / omega**2) * value * value + math.log(omega)
        return total

    return joint


def laplace(data, omegas):
    """The lowest mode and the Laplace approximation with the exact Hessian there; searches begin at the lowest points of a grid."""
    joint = with_prior(data, omegas)
    line = [[omega * (-5 + 10 * i / n) for i in range(n + 1)] for omega, n in zip(omegas, {1: [2000], 2: [80, 80]}[len(omegas)])]
    grid = sorted((joint(list(point)), list(point)) for point in itertools.product(*line))
    found = []
    for value, start in grid[:10]:
        try:
            found.append(newton(lambda point: joint(Jet.variables(point)), start))
        except ArithmeticError:
            continue
    mode, value, _, low = min(found, key=lambda f: f[1])
    if value > grid[0][0]:
        raise ArithmeticError("a point of the grid is below the lowest mode")
    return mode, value + sum(math.log(low[i][i]) for i in range(len(low)))


def exact(data, omegas, points, reach=6.5):
    """The negative log marginal likelihood on a grid of `points` for each random effect, to `reach` standard deviations."""
    step = 2 * reach / (points - 1)
    scores = [-reach + step * i for i in range(points)]
    weights = [math.exp(-0.5 * z * z) for z in scores]
    values = [[omega * z for z in scores] for omega in omegas]
    if len(omegas) == 1:
        total = math.fsum(w * math.exp(-data([x])) for x, w in zip(values[0], weights))
    else:
        total = math.fsum(w * math.fsum(v * math.exp(-data([x, y])) for y, v in zip(values[1], weights)) for x, w in zip(values[0], weights))
    return -math.log(total) - len(omegas) * (math.log(step) - 0.5 * LOG_2PI)


def cells(found, data_of, omegas, names, points):
    """For each individual the entries of expected.json."""
    result = {}
    for name, rows in found.items():
        data = data_of(rows)
        mode, value = laplace(data, omegas)
        fine, coarse = exact(data, omegas, points), exact(data, omegas, points // 2)
        if abs(fine - coarse) > 1e-5:
            raise ArithmeticError(f"{name}: the grid is too coarse ({fine - coarse})")
        result[name] = {"ebe": dict(zip(names, mode)), "laplace": value, "exact": fine}
    return result


def binomial_nll(fraction, size, p):
    n, with_event = size, fraction * size
    choose = math.lgamma(n + 1) - math.lgamma(with_event + 1) - math.lgamma(n - with_event + 1)
    return -with_event * math.log(p) - (n - with_event) * math.log(1 - p) - choose


def summary(result, terms):
    """Sums of a problem's terms: cells by both rules, and the others."""
    total = {"trajectory": math.fsum(c["laplace"] for c in result.values()), "trajectory_exact": math.fsum(c["exact"] for c in result.values())}
    others = math.fsum(terms.values())
    return {"nllh": total["trajectory"] + others, "nllh_exact": total["trajectory_exact"] + others, "terms": {**total, **terms},
            "individuals": result}


# ---------------------------------------------------------------- drawing data
def draw(name, design, population, seed, tables):
    """Writes the tables of `design` (file: header, rows) and the data that mixode draws in this design at the nominal values."""
    folder = PROBLEMS / name
    mixode = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "mixode"
    with tempfile.TemporaryDirectory() as scratch:
        problem, drawn = Path(scratch) / "design", Path(scratch) / "drawn"
        problem.mkdir()
        for file in ["model.xml", "problem.yaml"]:
            (problem / file).write_bytes((folder / file).read_bytes())
        for file, (header, rows) in {**tables, **design}.items():
            table(problem / file, header, rows)
        for file, (header, rows) in tables.items():
            table(folder / file, header, rows)
        command = [mixode, "simulate", problem, "--population", str(population), "--noise", "--seed", str(seed), "-o", drawn]
        subprocess.run(command, check=True)
        for file in [*design, "truth.tsv"]:
            (folder / file).write_bytes((drawn / file).read_bytes())


OBSERVABLE_COLUMNS = ["observableId", "observableName", "observableFormula", "noiseFormula", "noiseDistribution"]
EFFECT_COLUMNS = ["randomEffectId", "targetId", "transformation", "level", "distribution"]
COVARIANCE_COLUMNS = ["rowId", "colId", "kind", "value"]
EVENT_COLUMNS = ["eventId", "triggerFormula", "direction", "occurrence"]


# ---------------------------------------------------------------- survival
SURVIVAL = {"a": 0.1, "r": 0.08, "omega_a": 0.4}
DEATH_NOISE = 0.25
DOSES = {"low": 1.0, "high": 2.0}


def draw_survival():
    individual = ["observableId", "experimentId", "measurement", "time", "dataType", "individualId", "eventId", "censoring", "measurementUpper"]
    population = ["observableId", "experimentId", "measurement", "time", "dataType", "statistic", "eventId", "sampleSize"]
    # The low dose: a picture every two hours for two days. The high dose: a film of half a day. The cells are drawn in these two designs
    # in turn; the last row of each says how long it is watched.
    design = {
        "measurements_cells.tsv": (individual, [
            ["time_of_death", "low", 46, 46, "time_to_event", "d1", "death", "interval", 48],
            ["time_of_death", "high", 12, 12, "time_to_event", "d2", "death", "right", ""]]),
        "measurements_bulk.tsv": (population, [["time_of_death", e, 0.5, t, "bulk", "fraction_event", "death", 300]
                                               for e, t in [("low", 12), ("low", 24), ("low", 48), ("high", 4), ("high", 8), ("high", 24)]]),
    }
    a, r, omega = SURVIVAL.values()
    draw("survival", design, 80, 20264, {
        "conditions.tsv": (["conditionId", "targetId", "targetValue"], [[f"dose_{e}", "dose", dose] for e, dose in DOSES.items()]),
        "experiments.tsv": (["experimentId", "time", "conditionId"], [[e, 0, f"dose_{e}"] for e in DOSES]),
        "observables.tsv": (OBSERVABLE_COLUMNS, [["time_of_death", "time at which a cell dies", "time", DEATH_NOISE, "normal"]]),
        "events.tsv": (EVENT_COLUMNS, [["death", "damage - 1", "up", "first"]]),
        "parameters.tsv": (PARAMETER_COLUMNS, parameter_rows([("a", 1e-3, 10, a), ("r", 1e-3, 10, r)])),
        "hyperparameters.tsv": (PARAMETER_COLUMNS, parameter_rows([("omega_a", 1e-2, 3, omega)])),
        "random_effects.tsv": (EFFECT_COLUMNS, [["b_a", "a", "log", "individual", "normal"]]),
        "random_effect_covariance.tsv": (COVARIANCE_COLUMNS, [["b_a", "b_a", "sd", "omega_a"]]),
    })


def expect_survival():
    folder, (a, r, omega) = PROBLEMS / "survival", SURVIVAL.values()

    def time_of_death(b, dose):
        return first_passage(1.0, a * dose / r * exp(b), r)

    def data_of(rows):
        return lambda b: sum((event_nll(time_of_death(b[0], DOSES[row["experimentId"]]), row, DEATH_NOISE) for row in rows), 0.0 * b[0])

    result = cells(individuals(folder, ["measurements_cells.tsv"]), data_of, [omega], ["b_a"], 20001)

    def fraction(row):
        seen = {"measurement": row["time"], "censoring": "left"}
        return math.exp(-exact(lambda b: event_nll(time_of_death(b[0], DOSES[row["experimentId"]]), seen, DEATH_NOISE), [omega], 20001))

    bulk = [binomial_nll(float(row["measurement"]), int(row["sampleSize"]), fraction(row)) for row in read(folder / "measurements_bulk.tsv")]
    expected(folder / "expected.json", {
        "origin": "scripts/reference/simulated_problems.py: closed form of the time of death; cells by the Laplace approximation with the exact "
                  "Hessian at the lowest mode, searched from a grid, and exactly on a grid of 20001 points of the random effect; fractions "
                  "on the same grid",
        "tolerance": TOLERANCES["survival"],
        "tolerance_reason": TOLERANCE_REASON,
        "parameters": SURVIVAL,
        **summary(result, {"bulk": math.fsum(bulk)}),
    })


# ---------------------------------------------------------------- conversion_joint
CONVERSION = {"k1": 0.6, "k2": 0.2, "scale": 2.5, "sigma": 0.06, "h": 0.6, "omega_k1": 0.3, "omega_k2": 0.4}
DIVISION_NOISE, SEEN_NOISE, BULK_NOISE = 0.15, 0.05, 0.01


def draw_conversion():
    individual = ["observableId", "experimentId", "measurement", "time", "dataType", "individualId", "eventId", "censoring"]
    snapshot = ["observableId", "experimentId", "measurement", "time", "dataType", "censoring", "measurementUpper", "statistic", "sampleSize"]
    bulk = ["observableId", "experimentId", "measurement", "time", "dataType", "statistic", "eventId", "sampleSize"]
    # Two kinds of cells in turn: with a trajectory and a time of division, and with a time of division only.
    filmed = [["B_signal", "", 1, t, "trajectory", "d1", "", ""] for t in [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]]
    divisions = [["time_of_division", "", 4, 4, "time_to_event", d, "division", "right"] for d in ["d1", "d2"]]
    seen = [["B_seen", "", 0.5, t, "snapshot", "", "", "", ""] for t in [1.0, 3.0] for _ in range(30)]
    bins = [["B_seen", "", i / 10, 2.0, "snapshot", "interval", (i + 1) / 10, "", 40] for i in range(2, 9)]
    variance = [["B_seen", "", 0.01, 4.0, "snapshot_statistic", "", "", "variance", 500]]
    means = [["B_bulk", "", 0.5, t, "bulk", "mean", "", ""] for t in [0.5, 1.0, 2.0, 4.0, 8.0]]
    fractions = [["time_of_division", "", 0.5, t, "bulk", "fraction_event", "division", 300] for t in [1.5, 2.5, 4.0]]
    truth = CONVERSION
    draw("conversion_joint", {"measurements_cells.tsv": (individual, filmed + divisions), "measurements_snapshot.tsv": (snapshot, seen + bins + variance),
                              "measurements_bulk.tsv": (bulk, means + fractions)}, 24, 20265, {
        "observables.tsv": (OBSERVABLE_COLUMNS, [
            ["B_signal", "fluorescence of B in one cell", "scale*B", "sigma", "normal"],
            ["time_of_division", "time at which a cell divides", "time", DIVISION_NOISE, "normal"],
            ["B_seen", "B in one cell, flow cytometry", "B", SEEN_NOISE, "normal"],
            ["B_bulk", "mean of B over cells", "B", BULK_NOISE, "normal"]]),
        "events.tsv": (EVENT_COLUMNS, [["division", "B - h", "up", "first"]]),
        "parameters.tsv": (PARAMETER_COLUMNS, parameter_rows([
            ("k1", 1e-2, 1e2, truth["k1"]), ("k2", 1e-2, 1e2, truth["k2"]), ("scale", 1e-1, 1e2, truth["scale"]), ("sigma", 1e-3, 1, truth["sigma"]),
            ("h", 1e-1, 1, truth["h"])])),
        "hyperparameters.tsv": (PARAMETER_COLUMNS, parameter_rows([(f"omega_{k}", 1e-2, 2, truth[f"omega_{k}"]) for k in ["k1", "k2"]])),
        "random_effects.tsv": (EFFECT_COLUMNS, [[f"b_{k}", k, "log", "individual", "normal"] for k in ["k1", "k2"]]),
        "random_effect_covariance.tsv": (COVARIANCE_COLUMNS, [[f"b_{k}", f"b_{k}", "sd", f"omega_{k}"] for k in ["k1", "k2"]]),
    })


def expect_conversion():
    folder, (k1, k2, scale, sigma, h, *omegas) = PROBLEMS / "conversion_joint", CONVERSION.values()

    def time_of_division(b):
        a, c = k1 * exp(b[0]), k2 * exp(b[1])
        return first_passage(h, a / (a + c), a + c)

    def trajectory_nll(t, y, b):
        difference = (scale * conversion(t, k1 * exp(b[0]), k2 * exp(b[1])) - y) * (1 / sigma)
        return 0.5 * difference * difference + (0.5 * LOG_2PI + math.log(sigma))

    def data_of(rows):
        values = [(float(row["time"]), float(row["measurement"])) for row in rows if row["dataType"] == "trajectory"]
        events = [row for row in rows if row["dataType"] == "time_to_event"]
        return lambda b: sum((trajectory_nll(t, y, b) for t, y in values), 0.0 * b[0]) + sum(event_nll(time_of_division(b), e, DIVISION_NOISE) for e in events)

    result = cells(individuals(folder, ["measurements_cells.tsv"]), data_of, omegas, ["b_k1", "b_k2"], 800)

    # The population on one grid of weights and amounts.
    def grid(t, points=400, reach=6.5):
        line = [(math.exp(-0.5 * z * z), z) for z in (-reach + 2 * reach * i / (points - 1) for i in range(points))]
        step = 2 * reach / (points - 1)
        return [(v * w * step * step / (2 * math.pi), conversion(t, k1 * math.exp(omegas[0] * x), k2 * math.exp(omegas[1] * y)))
                for v, x in line for w, y in line]

    grids = {t: grid(t) for t in [0.5, 1.0, 2.0, 3.0, 4.0, 8.0]}
    terms = {"snapshot": 0.0, "snapshot_statistic": 0.0, "bulk": 0.0}
    for row in read(folder / "measurements_snapshot.tsv"):
        nodes, y = grids[float(row["time"])], float(row["measurement"])
        if row["dataType"] == "snapshot_statistic":
            mean = math.fsum(w * b for w, b in nodes)
            second, fourth = (math.fsum(w * (b - mean) ** k for w, b in nodes) for k in (2, 4))
            n, noise = int(row["sampleSize"]), SEEN_NOISE**2
            variance, fourth = second + noise, fourth + 6 * second * noise + 3 * noise**2
            terms["snapshot_statistic"] += normal_nll(variance - y, math.sqrt((fourth - variance**2 * (n - 3) / (n - 1)) / n))
            continue
        count = int(row["sampleSize"] or 1)
        if row["censoring"]:
            ends = {"left": (-INFINITY, y), "right": (y, INFINITY), "interval": (y, float(row["measurementUpper"] or "nan"))}[row["censoring"]]
            probability = math.fsum(w * (tail((ends[1] - b) / SEEN_NOISE) - tail((ends[0] - b) / SEEN_NOISE)) for w, b in nodes)
        else:
            probability = math.fsum(w * bell((y - b) / SEEN_NOISE) for w, b in nodes) / SEEN_NOISE
        terms["snapshot"] -= count * math.log(probability)
    for row in read(folder / "measurements_bulk.tsv"):
        t, y = float(row["time"]), float(row["measurement"])
        if row["statistic"] == "mean":
            terms["bulk"] += normal_nll(math.fsum(w * b for w, b in grids[t]) - y, BULK_NOISE)
        else:
            seen = {"measurement": row["time"], "censoring": "left"}
            p = math.exp(-exact(lambda b: event_nll(time_of_division(b), seen, DIVISION_NOISE), omegas, 800))
            terms["bulk"] += binomial_nll(y, int(row["sampleSize"]), p)
    expected(folder / "expected.json", {
        "origin": "scripts/reference/simulated_problems.py: closed forms of B(t) and of the time of division; cells by the Laplace approximation with "
                  "the exact Hessian at the lowest mode, searched from a grid, and exactly on a grid of 800 x 800 points of the random effects; "
                  "population on grids of 400 x 400 and, for fractions, 800 x 800 points",
        "tolerance": TOLERANCES["conversion_joint"],
        "tolerance_reason": TOLERANCE_REASON,
        "parameters": CONVERSION,
        **summary(result, terms),
    })


TOLERANCE_REASON = ("absolute, for each cell and for the sum of each kind of population terms; integration at rtol 1e-8 against closed forms. bulk and snapshot: "
                    "4096 Sobol points for the steps that events are in the random effects, 15 x 15 nodes for snapshots; exact: adaptive cubature to 1e-4")
TOLERANCES = {
    "survival": {"laplace": 1e-6, "exact": 1e-5, "bulk": 1e-3, "ebe": 1e-5},
    "conversion_joint": {"laplace": 1e-6, "exact": 3e-4, "bulk": 0.03, "snapshot": 2e-3, "snapshot_statistic": 1e-6, "ebe": 1e-5},
}


if __name__ == "__main__":
    if "--draw" in sys.argv[1:] and not CHECK:
        draw_survival()
        draw_conversion()
    expect_survival()
    expect_conversion()
    if changed:
        sys.exit("these files are not what this script writes:\n  " + "\n  ".join(changed))
