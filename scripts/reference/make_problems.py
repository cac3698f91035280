#!/usr/bin/env python3
"""Writes the tables, truth.tsv and expected.json of the synthetic problems in petab_problems/.

    scripts/reference/make_problems.py            rewrites the files (they do not change: every seed is fixed)
    scripts/reference/make_problems.py --check    fails if a file on disk differs from what would be written
                                                  (last digits may, with another C library)

Nothing of mixode is used: data and expected values come from closed-form solutions. Derivatives are exact, by second-order
forward differentiation (class Jet). model.xml, problem.yaml and README.md are written by hand. Standard library only.

Closed forms
    conversion     B(t) = k1/(k1+k2) * (1 - exp(-(k1+k2) t)),  A(0) = 1, B(0) = 0
    transfection   GFP(t) = k/(delta-gamma) * (exp(-gamma (t-t0)) - exp(-delta (t-t0))) for t > t0, else 0
"""

import json
import math
import random
import sys
from pathlib import Path
from statistics import NormalDist

PROBLEMS = Path(__file__).resolve().parent.parent.parent / "petab_problems"
LOG_2PI = math.log(2 * math.pi)


# ---------------------------------------------------------------- second-order forward differentiation
class Jet:
    """A number with its gradient and Hessian by n variables."""

    def __init__(self, value, gradient, hessian):
        self.value, self.gradient, self.hessian = value, gradient, hessian

    @staticmethod
    def variables(values):
        n = len(values)
        zero = [[0.0] * n for _ in range(n)]
        return [Jet(v, [1.0 if i == j else 0.0 for j in range(n)], zero) for i, v in enumerate(values)]

    def constant(self, value):
        n = len(self.gradient)
        return Jet(value, [0.0] * n, [[0.0] * n for _ in range(n)])

    def apply(self, value, first, second):
        """f(self), given f, f' and f'' at the value."""
        g, h, n = self.gradient, self.hessian, range(len(self.gradient))
        return Jet(value, [first * a for a in g], [[first * h[i][j] + second * g[i] * g[j] for j in n] for i in n])

    def lift(self, other):
        return other if isinstance(other, Jet) else self.constant(other)

    def __add__(self, other):
        o, n = self.lift(other), range(len(self.gradient))
        return Jet(self.value + o.value, [a + b for a, b in zip(self.gradient, o.gradient)],
                   [[self.hessian[i][j] + o.hessian[i][j] for j in n] for i in n])

    def __mul__(self, other):
        o, n = self.lift(other), range(len(self.gradient))
        a, b, g, k = self.value, o.value, self.gradient, o.gradient
        return Jet(a * b, [x * b + a * y for x, y in zip(g, k)],
                   [[self.hessian[i][j] * b + g[i] * k[j] + g[j] * k[i] + a * o.hessian[i][j] for j in n] for i in n])

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -self.lift(other)

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        o = self.lift(other)
        return self * o.apply(1 / o.value, -1 / o.value**2, 2 / o.value**3)

    __radd__, __rmul__ = __add__, __mul__


def exp(x):
    return x.apply(math.exp(x.value), math.exp(x.value), math.exp(x.value)) if isinstance(x, Jet) else math.exp(x)


def log(x):
    return x.apply(math.log(x.value), 1 / x.value, -1 / x.value**2) if isinstance(x, Jet) else math.log(x)


# ---------------------------------------------------------------- models
def conversion(t, k1, k2):
    return k1 / (k1 + k2) * (1 - exp(-(k1 + k2) * t))


def transfection(t, delta, gamma, k, t0):
    since = t - t0
    if (since.value if isinstance(since, Jet) else since) <= 0:
        return 0.0 * since
    return k / (delta - gamma) * (exp(-gamma * since) - exp(-delta * since))


# ---------------------------------------------------------------- linear algebra and quadrature for a few dimensions
def cholesky(matrix):
    """Lower factor, or None where the matrix is not positive definite."""
    n = len(matrix)
    low = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i][j] - math.fsum(low[i][m] * low[j][m] for m in range(j))
            if i == j:
                if rest <= 0:
                    return None
                low[i][i] = math.sqrt(rest)
            else:
                low[i][j] = rest / low[j][j]
    return low


def solve(low, right):
    n, x = len(low), list(right)
    for i in range(n):
        x[i] = (x[i] - sum(low[i][m] * x[m] for m in range(i))) / low[i][i]
    for i in reversed(range(n)):
        x[i] = (x[i] - sum(low[m][i] * x[m] for m in range(i + 1, n))) / low[i][i]
    return x


def newton(objective, start):
    """Minimises a function of a list that returns a Jet. Returns point, value, Hessian and its Cholesky factor."""
    point = list(start)
    now = objective(point)
    for _ in range(200):
        damping = 0.0
        while True:
            low = cholesky([[h + (damping if i == j else 0) for j, h in enumerate(row)] for i, row in enumerate(now.hessian)])
            if low:
                step = solve(low, now.gradient)
                trial_point = [p - s for p, s in zip(point, step)]
                trial = objective(trial_point)
                if trial.value <= now.value + 1e-12 * (1 + abs(now.value)):
                    break
            damping = max(4 * damping, 1e-3)
            if damping > 1e12:
                raise ArithmeticError("no descent")
        small = max(map(abs, step)) < 1e-12
        point, now = trial_point, trial
        if small and damping == 0:
            break
    low = cholesky(now.hessian)
    if low is None or max(map(abs, now.gradient)) > 1e-7:
        raise ArithmeticError("no minimum found")
    return point, now.value, now.hessian, low


def gauss_hermite(n):
    """Nodes and weights of the standard normal distribution, by Newton steps on the orthonormal Hermite polynomials."""
    nodes, weights = [], []
    for guess in range(n):
        x = -math.cos(math.pi * (guess + 0.75) / (n + 0.5)) * math.sqrt(4 * n + 2) if n > 1 else 0.0
        for _ in range(200):
            previous, value = 0.0, 1.0
            for degree in range(n):
                previous, value = value, (x * value - math.sqrt(degree) * previous) / math.sqrt(degree + 1)
            # Roots found already are divided out, so that every guess ends at another one.
            slope = math.sqrt(n) * previous - value * sum(1 / (x - root) for root in nodes if root != x)
            step = value / slope
            x -= step
            if abs(step) < 1e-14 * (1 + abs(x)):
                break
        nodes.append(x)
        weights.append(1 / (n * previous**2))
    pairs = sorted(zip(nodes, weights))
    if abs(math.fsum(weights) - 1) > 1e-12 or abs(math.fsum(w * x * x for x, w in pairs) - 1) > 1e-11:
        raise ArithmeticError("quadrature nodes are wrong")
    return pairs


def normal_nll(residual, sd):
    return 0.5 * (residual / sd) * (residual / sd) + 0.5 * LOG_2PI + log(sd)


def radical_inverse(index, base):
    value, place = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        place /= base
        value += digit * place
    return value


def starting_points(omegas, count=20):
    """Zero, and Halton points of the random effects' normal distribution with its standard deviations doubled."""
    quantile = NormalDist().inv_cdf
    points = [[2 * omega * quantile(radical_inverse(i + 1, base)) for omega, base in zip(omegas, [2, 3, 5, 7])] for i in range(count)]
    return [[0.0] * len(omegas), *points]


def descend(residuals, start):
    """Lowers half the sum of squares of residuals by Levenberg-Marquardt steps with difference quotients; a rough but fast search."""
    def value(r):
        return 0.5 * math.fsum(x * x for x in r)

    n, h = len(start), 1e-6
    point, now, damping = list(start), residuals(start), 1e-2
    for _ in range(200):
        moved = [residuals([p + h * (i == j) for j, p in enumerate(point)]) for i in range(n)]
        slopes = [[(a - b) / h for a, b in zip(m, now)] for m in moved]
        gradient = [math.fsum(map(float.__mul__, s, now)) for s in slopes]
        normal = [[math.fsum(map(float.__mul__, a, b)) for b in slopes] for a in slopes]
        before = value(now)
        while damping < 1e12:
            low = cholesky([[v * (1 + damping * (i == j)) for j, v in enumerate(row)] for i, row in enumerate(normal)])
            if low:
                trial_point = [p - s for p, s in zip(point, solve(low, gradient))]
                # A factor of exp(20) to the median is far beyond any mode.
                trial = residuals(trial_point) if max(map(abs, trial_point)) < 20 else None
                if trial and value(trial) < before:
                    break
            damping = max(4 * damping, 1e-6)
        else:
            break
        point, now, damping = trial_point, trial, damping / 10
        if before - value(now) < 1e-7:
            break
    return value(now), point


def laplace(residuals, sigma, omegas, starts):
    """Negative log marginal likelihood of a cell by the Laplace approximation with the exact Hessian at the best mode, with its parts.

    residuals(b) are model minus data over sigma given the random effects, as floats or Jets; the effects are independent with
    standard deviations omegas. A cell may have several modes: each start is followed downhill, and Newton's method runs from the
    distinct ends within 10 of the lowest. The lowest minimum counts.
    """
    def joint(point):
        b = Jet.variables(point)
        total = b[0].constant(0.0)
        for r in residuals(b):
            total = total + (0.5 * r * r + (0.5 * LOG_2PI + math.log(sigma)))
        for value, omega in zip(b, omegas):
            total = total + 0.5 * value * value * (1 / omega**2) + math.log(omega)
        return total

    def with_prior(point):
        return [*residuals(point), *(v / omega for v, omega in zip(point, omegas))]

    ends = []
    for value, point in sorted(descend(with_prior, start) for start in starts):
        if all(max(abs(a - b) for a, b in zip(point, other)) > 1e-2 for _, other in ends):
            ends.append((value, point))
    found = []
    for value, point in ends:
        if value < ends[0][0] + 10:
            try:
                found.append(newton(joint, point))
            except ArithmeticError:
                # A search may end at a kink, where t0 passes a time of measurement.
                continue
    if not found:
        raise ArithmeticError("no smooth minimum found")
    mode, value, _, low = min(found, key=lambda f: f[1])
    constant = len(residuals(mode)) * (0.5 * LOG_2PI + math.log(sigma)) + math.fsum(map(math.log, omegas))
    if value > ends[0][0] + constant + 1e-6:
        raise ArithmeticError("the lowest point is no smooth minimum")
    return mode, value + sum(math.log(low[i][i]) for i in range(len(low))), low, joint


def adaptive_quadrature(mode, low, joint, nodes):
    """Negative log marginal likelihood of a cell with two random effects by Gauss-Hermite quadrature around the mode."""
    terms = []
    for x, wx in nodes:
        for y, wy in nodes:
            # b = mode + L^-T z, so that z is about standard normal.
            second = y / low[1][1]
            first = (x - low[1][0] * second) / low[0][0]
            value = joint([mode[0] + first, mode[1] + second]).value
            terms.append(math.log(wx) + math.log(wy) + 0.5 * (x * x + y * y) - value)
    top = max(terms)
    # The factor (2 pi)^(q/2) of the integral over b cancels against the one of the random effects' density.
    return -(top + math.log(math.fsum(math.exp(t - top) for t in terms))) + math.log(low[0][0]) + math.log(low[1][1])


# ---------------------------------------------------------------- writing
class Random:
    """Normal deviates by inversion of uniform ones, so that they do not depend on the Python version."""

    def __init__(self, seed):
        self.uniform = random.Random(seed)

    def normal(self):
        return NormalDist().inv_cdf(min(max(self.uniform.random(), 1e-300), 1 - 1e-16))


CHECK = "--check" in sys.argv[1:]
changed = []


def write(path, text):
    if CHECK:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(str(path))
    else:
        path.write_text(text, encoding="utf-8")


def table(path, header, rows):
    write(path, "".join("\t".join(map(str, row)) + "\n" for row in [header, *rows]))


def expected(path, content):
    write(path, json.dumps(content, indent=1) + "\n")


def rounded(value, digits=6):
    """What stands in the table is the datum: everything computed from data uses the rounded number."""
    return float(f"{value:.{digits}g}")


PARAMETER_COLUMNS = ["parameterId", "lowerBound", "upperBound", "nominalValue", "estimate"]


def parameter_rows(entries):
    return [[name, low, high, value, "true"] for name, low, high, value in entries]


# ---------------------------------------------------------------- conversion
def make_conversion():
    folder, seed = PROBLEMS / "conversion", 20261
    truth = {"k1": 0.6, "k2": 0.2, "sigma": 0.03}
    draw = Random(seed)
    times = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0]
    data = [(t, rounded(conversion(t, truth["k1"], truth["k2"]) + truth["sigma"] * draw.normal())) for t in times for _ in range(3)]

    table(folder / "measurements.tsv", ["observableId", "experimentId", "measurement", "time"], [["B_fraction", "", y, t] for t, y in data])
    table(folder / "observables.tsv", ["observableId", "observableName", "observableFormula", "noiseFormula", "noiseDistribution"],
          [["B_fraction", "fraction of B", "B", "sigma", "normal"]])
    table(folder / "parameters.tsv", PARAMETER_COLUMNS,
          parameter_rows([("k1", 1e-3, 1e3, 0.6), ("k2", 1e-3, 1e3, 0.2), ("sigma", 1e-3, 1, 0.03)]))
    table(folder / "truth.tsv", ["parameterId", "value"], list(truth.items()))

    def nll(point, by_logarithm):
        p = Jet.variables(point)
        k1, k2, sigma = map(exp, p) if by_logarithm else p
        return sum((normal_nll(conversion(t, k1, k2) - y, sigma) for t, y in data), p[0].constant(0.0))

    at_truth = nll(list(truth.values()), False)
    chi2 = math.fsum(((conversion(t, truth["k1"], truth["k2"]) - y) / truth["sigma"]) ** 2 for t, y in data)
    best, value, hessian, low = newton(lambda x: nll(x, True), [math.log(v) for v in truth.values()])
    errors = [math.sqrt(solve(low, [float(i == j) for j in range(3)])[i]) for i in range(3)]
    expected(folder / "expected.json", {
        "origin": "scripts/reference/make_problems.py: closed form of B(t), derivatives by forward differentiation",
        "tolerance": {"llh": 1e-6, "chi2": 1e-5, "gradient": 1e-4, "optimum": 1e-4},
        "tolerance_reason": "absolute for llh and chi2, relative in norm for the gradient; integration at rtol 1e-8 against an exact solution",
        "parameters": truth,
        "llh": -at_truth.value,
        "nllh": at_truth.value,
        "chi2": chi2,
        "gradient_linear": dict(zip(truth, at_truth.gradient)),
        "gradient_log": {name: truth[name] * g for name, g in zip(truth, at_truth.gradient)},
        "optimum": {"nllh": value, "parameters": {n: math.exp(b) for n, b in zip(truth, best)},
                    "standard_errors_log": dict(zip(truth, errors))},
    })


# ---------------------------------------------------------------- conversion_cells
def make_conversion_cells():
    folder, seed = PROBLEMS / "conversion_cells", 20262
    truth = {"k1": 0.6, "k2": 0.2, "scale": 2.5, "sigma": 0.06, "omega_k1": 0.3, "omega_k2": 0.4}
    k1, k2, scale, sigma, omega1, omega2 = truth.values()
    bulk_sd, flow_noise, many = 0.01, 0.03, 2000
    draw = Random(seed)

    def cell():
        return k1 * math.exp(omega1 * draw.normal()), k2 * math.exp(omega2 * draw.normal())

    times = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
    cells = {}
    for i in range(20):
        a, b = cell()
        cells[f"c{i + 1:02}"] = [(t, rounded(scale * conversion(t, a, b) + sigma * draw.normal())) for t in times]
    bulk = []
    for t in times:
        mean = math.fsum(conversion(t, *cell()) for _ in range(many)) / many
        bulk.append((t, rounded(mean + bulk_sd * draw.normal())))
    flow = []
    for t in [1.0, 2.0, 4.0, 8.0]:
        values = [conversion(t, *cell()) + flow_noise * draw.normal() for _ in range(many)]
        mean = math.fsum(values) / many
        variance = math.fsum((v - mean) ** 2 for v in values) / (many - 1)
        fourth = math.fsum((v - mean) ** 4 for v in values) / many
        flow.append((t, rounded(variance), rounded(math.sqrt((fourth - variance**2) / many), 3)))

    header = ["observableId", "experimentId", "measurement", "time", "dataType", "individualId"]
    table(folder / "measurements_cells.tsv", header,
          [["B_signal", "", y, t, "trajectory", name] for name, rows in cells.items() for t, y in rows])
    header = ["observableId", "experimentId", "measurement", "time", "dataType", "statistic", "sampleSize", "statisticSd"]
    table(folder / "measurements_bulk.tsv", header, [["B_bulk", "", y, t, "bulk", "mean", many, bulk_sd] for t, y in bulk])
    table(folder / "measurements_snapshot.tsv", header,
          [["B_flow", "", y, t, "snapshot_statistic", "variance", many, sd] for t, y, sd in flow])
    table(folder / "observables.tsv", ["observableId", "observableName", "observableFormula", "noiseFormula", "noiseDistribution"],
          [["B_signal", "fluorescence of B in one cell", "scale*B", "sigma", "normal"],
           ["B_bulk", "mean of B over cells", "B", bulk_sd, "normal"],
           ["B_flow", "B in one cell, flow cytometry", "B", flow_noise, "normal"]])
    table(folder / "parameters.tsv", PARAMETER_COLUMNS,
          parameter_rows([("k1", 1e-2, 1e2, k1), ("k2", 1e-2, 1e2, k2), ("scale", 1e-1, 1e2, scale), ("sigma", 1e-3, 1, sigma)]))
    table(folder / "hyperparameters.tsv", PARAMETER_COLUMNS, parameter_rows([("omega_k1", 1e-2, 2, omega1), ("omega_k2", 1e-2, 2, omega2)]))
    table(folder / "random_effects.tsv", ["randomEffectId", "targetId", "transformation", "level", "distribution"],
          [["b_k1", "k1", "log", "individual", "normal"], ["b_k2", "k2", "log", "individual", "normal"]])
    table(folder / "random_effect_covariance.tsv", ["rowId", "colId", "kind", "value"],
          [["b_k1", "b_k1", "sd", "omega_k1"], ["b_k2", "b_k2", "sd", "omega_k2"]])
    table(folder / "truth.tsv", ["parameterId", "value"], list(truth.items()))

    fine = gauss_hermite(21)
    individuals, exact_total = {}, 0.0
    for name, rows in cells.items():
        def residuals(b, rows=rows):
            a, c = k1 * exp(b[0]), k2 * exp(b[1])
            return [(scale * conversion(t, a, c) - y) * (1 / sigma) for t, y in rows]

        mode, value, low, joint = laplace(residuals, sigma, [omega1, omega2], starting_points([omega1, omega2]))
        exact = adaptive_quadrature(mode, low, joint, fine)
        check = adaptive_quadrature(mode, low, joint, gauss_hermite(15))
        if abs(exact - check) > 1e-6:
            raise ArithmeticError(f"{name}: quadrature has not converged ({exact - check})")
        individuals[name] = {"ebe": {"b_k1": mode[0], "b_k2": mode[1]}, "laplace": value, "exact": exact}
        exact_total += exact

    def moments(t, nodes):
        values = [(wx * wy, conversion(t, k1 * math.exp(omega1 * x), k2 * math.exp(omega2 * y))) for x, wx in nodes for y, wy in nodes]
        mean = math.fsum(w * v for w, v in values)
        return mean, math.fsum(w * (v - mean) ** 2 for w, v in values)

    grid = gauss_hermite(30)
    bulk_nll = math.fsum(normal_nll(moments(t, grid)[0] - y, bulk_sd) for t, y in bulk)
    flow_nll = math.fsum(normal_nll(moments(t, grid)[1] + flow_noise**2 - y, sd) for t, y, sd in flow)
    coarse = math.fsum(normal_nll(moments(t, fine)[1] + flow_noise**2 - y, sd) for t, y, sd in flow)
    if abs(coarse - flow_nll) > 1e-8:
        raise ArithmeticError("population quadrature has not converged")
    cells_laplace = math.fsum(c["laplace"] for c in individuals.values())
    expected(folder / "expected.json", {
        "origin": "scripts/reference/make_problems.py: closed form of B(t); cells by the Laplace approximation with the exact Hessian at the lowest "
                  "mode found from 21 starting points and by "
                  "Gauss-Hermite quadrature around the mode (21 x 21 nodes, 15 x 15 agree within 1e-6); population by 30 x 30 nodes",
        "tolerance": {"laplace": 1e-6, "exact": 1e-5, "bulk": 1e-6, "snapshot_statistic": 1e-6, "ebe": 1e-5},
        "tolerance_reason": "absolute; integration at rtol 1e-8 against an exact solution. An engine that takes Sobol points for the population "
                            "terms needs its own, wider tolerance there",
        "parameters": truth,
        "nllh": cells_laplace + bulk_nll + flow_nll,
        "nllh_exact": exact_total + bulk_nll + flow_nll,
        "terms": {"trajectory": cells_laplace, "trajectory_exact": exact_total, "bulk": bulk_nll, "snapshot_statistic": flow_nll},
        "individuals": individuals,
    })


# ---------------------------------------------------------------- transfection
def make_transfection():
    folder, seed = PROBLEMS / "transfection", 20263
    truth = {"delta": 0.3, "gamma": 0.05, "k": 100.0, "t0": 2.0, "offset": 5.0, "sigma": 0.05,
             "omega_delta": 0.25, "omega_gamma": 0.2, "omega_k": 0.4, "omega_t0": 0.25}
    median, omegas = list(truth.values())[:4], list(truth.values())[6:]
    offset, sigma = truth["offset"], truth["sigma"]
    draw = Random(seed)
    times = [0.5 * (i + 1) for i in range(60)]
    cells = {}
    for i in range(30):
        own = [m * math.exp(o * draw.normal()) for m, o in zip(median, omegas)]
        cells[f"c{i + 1:02}"] = [(t, rounded(math.log(offset + transfection(t, *own)) + sigma * draw.normal())) for t in times]

    table(folder / "measurements.tsv", ["observableId", "experimentId", "measurement", "time", "dataType", "individualId"],
          [["log_fluorescence", "", y, t, "trajectory", name] for name, rows in cells.items() for t, y in rows])
    table(folder / "observables.tsv", ["observableId", "observableName", "observableFormula", "noiseFormula", "noiseDistribution"],
          [["log_fluorescence", "logarithm of the fluorescence", "log(offset + GFP)", "sigma", "normal"]])
    table(folder / "parameters.tsv", PARAMETER_COLUMNS,
          parameter_rows([("delta", 0.12, 5, 0.3), ("gamma", 0.002, 0.12, 0.05), ("k", 1, 1e4, 100), ("t0", 0.1, 10, 2),
                          ("offset", 0.1, 100, 5), ("sigma", 1e-3, 1, 0.05)]))
    names = ["delta", "gamma", "k", "t0"]
    table(folder / "hyperparameters.tsv", PARAMETER_COLUMNS, parameter_rows([(f"omega_{n}", 0.01, 2, truth[f"omega_{n}"]) for n in names]))
    table(folder / "random_effects.tsv", ["randomEffectId", "targetId", "transformation", "level", "distribution"],
          [[f"b_{n}", n, "log", "individual", "normal"] for n in names])
    table(folder / "random_effect_covariance.tsv", ["rowId", "colId", "kind", "value"],
          [[f"b_{n}", f"b_{n}", "sd", f"omega_{n}"] for n in names])
    table(folder / "truth.tsv", ["parameterId", "value"], list(truth.items()))

    individuals = {}
    for name, rows in cells.items():
        def residuals(b, rows=rows):
            own = [m * exp(v) for m, v in zip(median, b)]
            return [(log(offset + transfection(t, *own)) - y) * (1 / sigma) for t, y in rows]

        # delta and gamma change places: the same curve, at another density of the random effects.
        swap = math.log(median[0] / median[1])
        starts = [[p[0] - swap * sign, p[1] + swap * sign, *p[2:]] for p in starting_points(omegas) for sign in (0, 1)]
        mode, value, _, _ = laplace(residuals, sigma, omegas, starts)
        individuals[name] = {"ebe": {f"b_{n}": v for n, v in zip(names, mode)}, "laplace": value}
    total = math.fsum(c["laplace"] for c in individuals.values())
    expected(folder / "expected.json", {
        "origin": "scripts/reference/make_problems.py: closed form of GFP(t); Laplace approximation with the exact Hessian at the lowest mode found "
                  "from 42 starting points a cell",
        "tolerance": {"laplace": 1e-5, "ebe": 1e-5},
        "tolerance_reason": "absolute; integration at rtol 1e-8 against an exact solution, 60 log-transformed values a cell",
        "parameters": truth,
        "nllh": total,
        "terms": {"trajectory": total},
        "individuals": individuals,
    })


if __name__ == "__main__":
    make_conversion()
    make_conversion_cells()
    make_transfection()
    if changed:
        sys.exit("these files are not what this script writes:\n  " + "\n  ".join(changed))
