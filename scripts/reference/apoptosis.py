#!/usr/bin/env python3
"""Data and expected.json of the problem `apoptosis` in petab_problems/.

    scripts/reference/apoptosis.py            rewrites expected.json from the problem's tables
    scripts/reference/apoptosis.py --check    fails if a file on disk differs from what would be written
    scripts/reference/apoptosis.py --draw     first draws the data anew, by `mixode simulate --population N --noise --seed S`
                                                       (last digits follow the integrator, so all expected values move)

Data are drawn by mixode in a design that stands here; nothing of mixode is used for the expected values. Caspase-8 is integrated by the classical
Runge-Kutta method with a fixed step; all else follows in closed form from the time integrals of active caspase-8:

    I = integral of p18, J = integral of p43 + p18
    PrER(t) = PrER_0 exp(-kprobe I), PrNES(t) = PrNES_0 exp(-kprobe J), BID(t) = BID_0 exp(-kBID J), tBID = BID_0 - BID
    death (tBID = threshold) at J = -log(1 - threshold/BID_0)/kBID, or never

Derivatives by the three initial amounts that caspase-8 depends on are differences of simulations, all others exact. Standard library only.
"""

import itertools
import math
import sys

from make_problems import CHECK, LOG_2PI, PARAMETER_COLUMNS, PROBLEMS, Jet, changed, cholesky, exp, expected, gauss_hermite, log, normal_nll, parameter_rows, solve
from simulated_problems import COVARIANCE_COLUMNS, EFFECT_COLUMNS, EVENT_COLUMNS, INFINITY, OBSERVABLE_COLUMNS, draw, event_nll, individuals, read

FOLDER = PROBLEMS / "apoptosis"
KINETICS = {"KDR": 8.98496674617627, "KDL": 15.421878766215, "kon_FADD": 8.11711012144556e-4, "koff_FADD": 5.66528253772301e-3,
            "kon_p55": 4.91828591049766e-4, "kcis": 1.14186392006403e-2, "ktr_p55": 4.46994772958953e-4, "ktr_p43": 3.43995957326369e-3,
            "kinact": 9.49914492651531e-2, "kBID": 5.2867403363568e-4, "kprobe": 1.52252549827479e-3}
AMOUNTS = {"CD95_0_A": 116.0, "CD95_0_H": 12.0, "FADD_0": 93.0, "p55_0": 155.0, "BID_0": 236.0, "PrER_0_A": 5178.0, "PrER_0_H": 3316.0,
           "PrNES_0_A": 973.0, "PrNES_0_H": 1909.0, "threshold": 74.0}
OTHERS = {"s_GFP": 0.0035, "s_mCh": 0.0173, "sigma_GFP": 0.3, "sigma_mCh": 0.5}
OMEGAS = {"omega_CD95": 0.3, "omega_FADD": 0.2, "omega_p55": 0.25, "omega_BID": 0.2, "omega_probe": 0.3, "omega_threshold": 0.2}
SPREAD = {**{a: "omega_" + a.split("_")[0] for a in ["CD95_0_A", "CD95_0_H", "FADD_0", "p55_0", "BID_0"]},
          **{f"{p}_0_{line}": "omega_probe" for p in ["PrER", "PrNES"] for line in "AH"}, "threshold": "omega_threshold"}
TRUTH = {**KINETICS, **AMOUNTS, **OTHERS, **OMEGAS}
DEATH_NOISE = 5.0
FLOW_NOISE = 0.05
# Line, ligand in nM, minutes of the film, times of the probes' measurements.
FILMS = {
    "A_50": ("A", 1.66, 180, [20, 40, 60, 80, 100, 120]),
    "A_500": ("A", 16.6, 120, [10, 20, 30, 40, 50, 60]),
    "H_500": ("H", 16.6, 300, [30, 60, 90, 120, 150, 180]),
    "H_10000": ("H", 332.0, 660, [100, 200, 300, 400, 500, 600]),
}
BLOT_TIMES = [20, 40, 60]


# ---------------------------------------------------------------- drawing
def draw_data():
    cell = ["observableId", "experimentId", "measurement", "time", "dataType", "individualId", "eventId", "censoring"]
    cells = []
    for i, (experiment, (_, _, end, times)) in enumerate(FILMS.items()):
        cells += [[f"{probe}_signal", experiment, 1, t, "trajectory", f"d{i}", "", ""] for probe in ["PrER", "PrNES"] for t in times]
        cells.append(["time_of_death", experiment, end, end, "time_to_event", f"d{i}", "death", "right"])
    bulk = ["observableId", "experimentId", "measurement", "time", "dataType", "statistic", "statisticSd"]
    blots = [[f"blot_{name}", "A_500", 0.5, t, "bulk", f"fraction_{name}", 0.03] for t in BLOT_TIMES for name in ["p55", "p43", "p18", "tBID"]]
    blots += [[f"amount_{name}", f"{line}_0", 1, 0, "bulk", "mean", ""] for line in "AH" for name in BLOTTED]
    flow = ["observableId", "experimentId", "measurement", "time", "dataType", "statistic", "sampleSize"]
    flows = [[f"flow_{name}", f"{line}_0", 0.1, 0, "snapshot_statistic", "log_variance", 1000]
             for line in "AH" for name in ["CD95", "FADD", "p55", "BID"]]
    conditions = [[f"line_{line}", f"{p}_0", f"{p}_0_{line}"] for line in "AH" for p in ["CD95", "PrER", "PrNES"]]
    conditions += [["no_ligand", "CD95L", 0]]
    conditions += [[f"ligand_{name}", "CD95L", dose] for name, dose in {e.split("_")[1]: f[1] for e, f in FILMS.items()}.items()]
    experiments = [[e, 0, c] for e in FILMS for c in [f"line_{e[0]}", f"ligand_{e.split('_')[1]}"]]
    experiments += [[f"{line}_0", 0, c] for line in "AH" for c in [f"line_{line}", "no_ligand"]]
    all_p55 = "(mean_at(blot_p55, 0) + mean_at(blot_p43, 0) + mean_at(blot_p30, 0) + mean_at(blot_p18, 0))"
    observables = [
        ["PrER_signal", "fluorescence of the probe at the endoplasmic reticulum", "s_GFP*PrER", "sigma_GFP", "normal"],
        ["PrNES_signal", "fluorescence of the probe in the cytosol", "s_mCh*PrNES", "sigma_mCh", "normal"],
        ["time_of_death", "time at which a cell dies, minutes", "time", DEATH_NOISE, "normal"],
        *[[f"blot_{n}", f"{n} on a western blot", f, 1, "normal"] for n, f in
          {"p55": "p55 + DISCp55", "p43": "p43", "p30": "p30", "p18": "p18 + p18i", "BID": "BID", "tBID": "tBID"}.items()],
        *[[f"amount_{n}", f"mean amount of {n}, quantitative blot, nM", AMOUNT[n], sd, "normal"] for n, sd in BLOTTED.items()],
        *[[f"flow_{n}", f"amount of {n} in one cell, flow cytometry", AMOUNT[n], FLOW_NOISE, "log-normal"] for n in ["CD95", "FADD", "p55", "BID"]],
    ]
    wide = {"sigma_GFP": (1e-2, 10), "sigma_mCh": (1e-2, 10)}
    draw("apoptosis", {"measurements_cells.tsv": (cell, cells), "measurements_bulk.tsv": (bulk, blots), "measurements_snapshot.tsv": (flow, flows)},
         24, 20266, {
        "conditions.tsv": (["conditionId", "targetId", "targetValue"], conditions),
        "experiments.tsv": (["experimentId", "time", "conditionId"], experiments),
        "observables.tsv": (OBSERVABLE_COLUMNS, observables),
        "events.tsv": (EVENT_COLUMNS, [["death", "tBID - threshold", "up", "first"]]),
        "statistics.tsv": (["statisticId", "formula"], [[f"fraction_{n}", f"mean(blot_{n})/{all_p55}"] for n in ["p55", "p43", "p18"]]
                           + [["fraction_tBID", "mean(blot_tBID)/(mean_at(blot_BID, 0) + mean_at(blot_tBID, 0))"]]),
        "parameters.tsv": (PARAMETER_COLUMNS, parameter_rows(
            [(n, *wide.get(n, (float(f"{v / 100:.1g}"), float(f"{v * 100:.1g}"))), v) for n, v in {**KINETICS, **AMOUNTS, **OTHERS}.items()])),
        "hyperparameters.tsv": (PARAMETER_COLUMNS, parameter_rows([(n, 1e-2, 2, v) for n, v in OMEGAS.items()])),
        "random_effects.tsv": (EFFECT_COLUMNS, [[f"b_{a}", a, "log", "individual", "normal"] for a in SPREAD]),
        "random_effect_covariance.tsv": (COVARIANCE_COLUMNS, [[f"b_{a}", f"b_{a}", "sd", omega] for a, omega in SPREAD.items()]),
    })


# Quantity on a quantitative blot: the standard deviation of its mean.
BLOTTED = {"CD95": 5, "FADD": 5, "p55": 8, "BID": 10, "PrER": 200, "PrNES": 80}
AMOUNT = {"CD95": "CD95_0", "FADD": "FADD + DISC + DISCp55 + p30 + p43", "p55": "p55 + DISCp55 + p30 + p43 + p18 + p18i", "BID": "BID + tBID",
          "PrER": "PrER", "PrNES": "PrNES"}


# ---------------------------------------------------------------- caspase-8
def active_receptors(ligand, cd95):
    kdr, kdl = KINETICS["KDR"], KINETICS["KDL"]
    return kdl**2 * ligand * cd95**3 / ((ligand + kdl) * (kdl**2 * cd95**2 + kdr * ligand**2 + 2 * kdr * kdl * ligand + kdr * kdl**2))


def rates(x, active):
    """Right-hand side of FADD, DISC, p55, DISCp55, p30, p43, p18, I, J."""
    k = KINETICS
    fadd, disc, p55, discp55, p30, p43, p18, _, _ = x
    binding = k["kon_FADD"] * active * fadd - k["koff_FADD"] * disc
    recruitment = k["kon_p55"] * p55 * disc
    trans = k["ktr_p55"] * (discp55 + p30) + k["ktr_p43"] * p43
    to_p30, to_p43, finished, done = k["kcis"] * discp55, trans * discp55, k["kcis"] * p43, trans * p30
    return (-binding, binding - recruitment + finished + done, -recruitment, recruitment - to_p30 - to_p43, to_p30 - done, to_p43 - finished,
            finished + done - k["kinact"] * p18, p18, p43 + p18)


def step(x, h, active):
    def moved(slope, by):
        return [u + by * v for u, v in zip(x, slope)]

    a = rates(x, active)
    b = rates(moved(a, h / 2), active)
    c = rates(moved(b, h / 2), active)
    d = rates(moved(c, h), active)
    return [u + h / 6 * (p + 2 * (q + r) + s) for u, p, q, r, s in zip(x, a, b, c, d)]


def simulate(times, ligand, cd95, fadd, p55, h):
    """The states at the times, in steps of about h."""
    active = active_receptors(ligand, cd95)
    x, now, states = [fadd, 0.0, p55, *[0.0] * 6], 0.0, []
    for t in times:
        n = math.ceil((t - now) / h - 1e-9)
        for _ in range(n):
            x = step(x, (t - now) / n, active)
        now = t
        states.append(x)
    return states


def time_of(level, ligand, amounts, h):
    """When J reaches the level, to rounding."""
    active = active_receptors(ligand, amounts[0])
    x, now = [amounts[1], 0.0, amounts[2], *[0.0] * 6], 0.0
    while now < 3000:
        after = step(x, h, active)
        if after[8] >= level:
            part = 0.5 * h
            for _ in range(60):
                trial = step(x, part, active)
                move = (level - trial[8]) / (trial[5] + trial[6])
                part += move
                if abs(move) < 1e-12 * (1 + now):
                    break
            return now + part
        x, now = after, now + h
    return INFINITY


DIFFERENCE = 2e-4


def caspase_jets(times, ligand, amounts, variables, h):
    """At each time J' = p43 + p18, J'', and I and J as Jets in all `variables`, of which the first three are the logarithms of the amounts."""
    moves = {}

    def run(*shift):
        if shift not in moves:
            own = [a * math.exp(DIFFERENCE * s) for a, s in zip(amounts, shift)]
            moves[shift] = simulate(times, ligand, *own, h)
        return moves[shift]

    def unit(i, sign):
        return [sign * (i == j) for j in range(3)]

    def jet(value):
        """The Jet of value(states) by second-order central differences."""
        centre = value(run(0, 0, 0))
        gradient, hessian = [0.0] * variables, [[0.0] * variables for _ in range(variables)]
        for i in range(3):
            up, down = value(run(*unit(i, 1))), value(run(*unit(i, -1)))
            gradient[i] = (up - down) / (2 * DIFFERENCE)
            hessian[i][i] = (up - 2 * centre + down) / DIFFERENCE**2
            for j in range(i):
                corners = [(a, b, value(run(*[a * p + b * q for p, q in zip(unit(i, 1), unit(j, 1))]))) for a in (1, -1) for b in (1, -1)]
                hessian[i][j] = hessian[j][i] = sum(a * b * v for a, b, v in corners) / (4 * DIFFERENCE**2)
        return Jet(centre, gradient, hessian)

    return [(jet(lambda s, i=i: s[i][7]), jet(lambda s, i=i: s[i][8]), jet(lambda s, i=i: s[i][5] + s[i][6])) for i in range(len(times))]


# ---------------------------------------------------------------- one cell
EFFECTS = ["CD95_0", "FADD_0", "p55_0", "BID_0", "PrER_0", "PrNES_0", "threshold"]


def of_line(name, line):
    return f"{name}_{line}" if f"{name}_{line}" in AMOUNTS else name


def joint(rows, h):
    """Negative log joint density of a cell's data and effects, less the constant of the effects, as a function that returns a Jet."""
    line, ligand, _, times = FILMS[rows[0]["experimentId"]]
    names = [of_line(e, line) for e in EFFECTS]
    omegas = [OMEGAS[SPREAD[n]] for n in names]
    k = KINETICS

    def evaluate(b):
        variables = Jet.variables(b)
        own = [AMOUNTS[n] * exp(v) for n, v in zip(names, variables)]
        caspase = [v.value for v in own[:3]]
        ratio = own[6] / own[3]
        dies, level = INFINITY, None
        if ratio.value < 1:
            level = -log(1.0 - ratio) / k["kBID"]
            dies = time_of(level.value, ligand, caspase, h)
        asked = sorted({*times, *([dies] if dies < INFINITY else [])})
        jets = dict(zip(asked, caspase_jets(asked, ligand, caspase, len(b), h)))
        if dies < INFINITY:
            # J(t) = J + J' d + J''/2 d^2 at d after the time found, solved for d to second order.
            _, reached, slope = jets[dies]
            x = simulate([dies], ligand, *caspase, h)[0]
            change = rates(x, active_receptors(ligand, caspase[0]))
            first = (level - reached) / slope
            when = dies + first - 0.5 * (change[5] + change[6]) / slope.value * first * first
        else:
            when = INFINITY
        total = variables[0].constant(0.0)
        for row in rows:
            y, t = float(row["measurement"]), float(row["time"])
            if row["dataType"] == "time_to_event":
                total = total + event_nll(when, row, DEATH_NOISE)
            elif row["observableId"] == "PrER_signal":
                total = total + normal_nll(OTHERS["s_GFP"] * own[4] * exp(-k["kprobe"] * jets[t][0]) - y, total.constant(OTHERS["sigma_GFP"]))
            else:
                total = total + normal_nll(OTHERS["s_mCh"] * own[5] * exp(-k["kprobe"] * jets[t][1]) - y, total.constant(OTHERS["sigma_mCh"]))
        for value, omega in zip(variables, omegas):
            total = total + (0.5 / omega**2) * value * value + math.log(omega)
        return total

    return evaluate, names


def minimum(objective, start, tolerance):
    """Newton's method, damped where the Hessian is not positive definite or a step does not descend. Ends by the size of the step."""
    point, now, damping = list(start), objective(list(start)), 0.0
    for _ in range(100):
        while True:
            low = cholesky([[v + (damping * (1 + abs(row[i])) if i == j else 0.0) for j, v in enumerate(row)] for i, row in enumerate(now.hessian)])
            if low:
                step_ = solve(low, now.gradient)
                trial_point = [p - s for p, s in zip(point, step_)]
                trial = objective(trial_point) if max(map(abs, trial_point)) < 3 else None
                if trial and trial.value <= now.value + 1e-9:
                    break
            damping = max(4 * damping, 1e-2)
            if damping > 1e9:
                raise ArithmeticError("no descent")
        point, now = trial_point, trial
        if max(map(abs, step_)) < tolerance and damping < 1e-3:
            return point, now, cholesky(now.hessian)
        damping = damping / 10 if damping > 1e-3 else 0.0
    raise ArithmeticError("no minimum found")


def cell(rows, h=0.5):
    """The entries of expected.json, by a search from b = 0."""
    objective, names = joint(rows, h)
    mode, value, low = minimum(objective, [0.0] * len(names), 1e-6)
    return {"ebe": {f"b_{n}": v for n, v in zip(names, mode)}, "laplace": value.value + sum(math.log(low[i][i]) for i in range(len(low)))}


# ---------------------------------------------------------------- population
def blots(points, h):
    """The fractions on the western blots at each time, by Gauss-Hermite nodes in the three amounts that caspase-8 depends on."""
    nodes, k = gauss_hermite(points), KINETICS
    names = ["CD95_0_A", "FADD_0", "p55_0"]
    totals = [[0.0] * 4 for _ in BLOT_TIMES]
    whole = 0.0
    for choice in itertools.product(nodes, repeat=3):
        weight = math.prod(w for _, w in choice)
        own = [AMOUNTS[n] * math.exp(OMEGAS[SPREAD[n]] * z) for n, (z, _) in zip(names, choice)]
        whole += weight * own[2]
        for total, x in zip(totals, simulate(BLOT_TIMES, FILMS["A_500"][1], *own, h)):
            values = [x[2] + x[3], x[5], own[2] - x[2] - x[3] - x[4] - x[5], 1 - math.exp(-k["kBID"] * x[8])]
            for i, v in enumerate(values):
                total[i] += weight * v
    return {(name, t): v / (1.0 if name == "tBID" else whole)
            for t, total in zip(BLOT_TIMES, totals) for name, v in zip(["p55", "p43", "p18", "tBID"], total)}


def mean_amount(name, line):
    a = of_line(f"{name}_0", line)
    return AMOUNTS[a] * math.exp(0.5 * OMEGAS[SPREAD[a]] ** 2)


def bulk_nll(points, h):
    fractions, total = blots(points, h), 0.0
    for row in read(FOLDER / "measurements_bulk.tsv"):
        kind, name = row["observableId"].split("_")
        if kind == "blot":
            total += normal_nll(fractions[name, int(row["time"])] - float(row["measurement"]), float(row["statisticSd"]))
        else:
            total += normal_nll(mean_amount(name, row["experimentId"][0]) - float(row["measurement"]), BLOTTED[name])
    return total


def flow_nll():
    """Variances of logarithms, which are normal: the sample variance of n of them has the variance 2 v^2/(n - 1)."""
    total = 0.0
    for row in read(FOLDER / "measurements_snapshot.tsv"):
        omega = OMEGAS[SPREAD[of_line(row["observableId"].split("_")[1] + "_0", row["experimentId"][0])]]
        variance = omega**2 + FLOW_NOISE**2
        total += normal_nll(variance - float(row["measurement"]), variance * math.sqrt(2 / (int(row["sampleSize"]) - 1)))
    return total


def expect():
    found = individuals(FOLDER, ["measurements_cells.tsv"])
    result = {name: cell(rows) for name, rows in found.items()}
    fine, coarse = bulk_nll(11, 0.5), bulk_nll(9, 0.5)
    if abs(fine - coarse) > 1e-4:
        raise ArithmeticError(f"the population's quadrature has not converged ({fine - coarse})")
    cells, flow = math.fsum(c["laplace"] for c in result.values()), flow_nll()
    expected(FOLDER / "expected.json", {
        "origin": "scripts/reference/apoptosis.py: caspase-8 by the classical Runge-Kutta method with steps of half a minute, all else in closed form; cells "
                  "by the Laplace approximation at the mode found from b = 0; blots by 11 x 11 x 11 Gauss-Hermite nodes, amounts and flow cytometry in closed form",
        "tolerance": {"laplace": 1e-5, "bulk": 3e-3, "snapshot_statistic": 1e-6, "ebe": 1e-4},
        "tolerance_reason": "absolute, for each cell and for the sum of each kind of population terms; steps of a quarter minute move the cells tried by 1e-8, "
                            "9 x 9 x 9 nodes the blots by less than 1e-4. bulk: 7 nodes for each of four effects",
        "parameters": TRUTH,
        "nllh": cells + fine + flow,
        "terms": {"trajectory": cells, "bulk": fine, "snapshot_statistic": flow},
        "individuals": result,
    })


if __name__ == "__main__":
    if "--draw" in sys.argv[1:] and not CHECK:
        draw_data()
    expect()
    if changed:
        sys.exit("these files are not what this script writes:\n  " + "\n  ".join(changed))
