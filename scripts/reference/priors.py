#!/usr/bin/env python3
"""Writes tests/reference_data/priors.json: log probabilities, log densities of priors with derivatives, and quantiles.

    scripts/reference/priors.py

Nothing of mixode is used: densities and distribution functions are the textbook ones, in 500 digits, so that plain differences of
distribution functions serve in the tails too; derivatives are those of the log density, by mpmath's numerical differentiation.
Needs mpmath (1.3.0 wrote the file). Numbers have 17 digits.
"""

import json
from pathlib import Path

from mpmath import atan, diff, erfc, exp, gamma, gammainc, inf, log, mp, mpf, nstr, pi, sqrt

mp.dps = 500
TARGET = Path(__file__).resolve().parent.parent.parent / "tests/reference_data/priors.json"
BASES = {"lin": None, "log": mpf(1), "log10": log(10)}


# ---------------------------------------------------------------- standard forms: density and distribution function of u
def normal(m, s):
    return (lambda u: exp(-((u - m) / s) ** 2 / 2) / (s * sqrt(2 * pi)), lambda u: erfc(-(u - m) / (s * sqrt(2))) / 2, (-inf, inf))


def laplace(m, b):
    def below(u):
        return exp((u - m) / b) / 2 if u < m else 1 - exp(-(u - m) / b) / 2

    return (lambda u: exp(-abs(u - m) / b) / (2 * b), below, (-inf, inf))


def cauchy(m, s):
    return (lambda u: 1 / (pi * s * (1 + ((u - m) / s) ** 2)), lambda u: mpf(1) / 2 + atan((u - m) / s) / pi, (-inf, inf))


def gamma_(k, s):
    return (lambda u: u ** (k - 1) * exp(-u / s) / (gamma(k) * s**k), lambda u: gammainc(k, 0, u / s, regularized=True), (mpf(0), inf))


def rayleigh(s):
    return (lambda u: u / s**2 * exp(-(u**2) / (2 * s**2)), lambda u: 1 - exp(-(u**2) / (2 * s**2)), (mpf(0), inf))


def uniform(a, b):
    return (lambda u: 1 / (b - a), lambda u: (u - a) / (b - a), (a, b))


def at(distribution, u):
    """Distribution function, also at the ends."""
    low, high = distribution[2]
    return mpf(0) if u <= low else mpf(1) if u >= high else distribution[1](u)


STANDARD = {"normal": normal, "laplace": laplace, "cauchy": cauchy, "gamma": gamma_, "rayleigh": rayleigh, "uniform": uniform}


# ---------------------------------------------------------------- priors
def of_family(family, p, scale):
    """Distribution, and the scale on which the parameter has it."""
    if family in ("normal", "laplace", "cauchy", "gamma", "rayleigh", "uniform"):
        return STANDARD[family](*p), "lin"
    if family == "chisquare":
        return gamma_(p[0] / 2, mpf(2)), "lin"
    if family == "exponential":
        return gamma_(mpf(1), p[0]), "lin"
    if family in ("log-normal", "logNormal"):
        return normal(*p), "log"
    if family in ("log-laplace", "logLaplace"):
        return laplace(*p), "log"
    if family == "log-uniform":
        return uniform(log(p[0]), log(p[1])), "log"
    return {"parameterScaleNormal": normal, "parameterScaleLaplace": laplace}[family](*p), scale


def on(scale, x):
    if scale == "lin":
        return x
    return -inf if x == 0 else inf if x == inf else log(x) / BASES[scale]


def off(scale, u):
    return u if scale == "lin" else exp(u * BASES[scale])


def log_density(family, p, scale, bounds, own_scale, x):
    distribution, link = of_family(family, p, scale)
    density = distribution[0](on(link, x))
    if link != "lin" and not (own_scale and family.startswith("parameterScale")):
        density /= x * BASES[link]
    if bounds:
        density /= at(distribution, on(link, bounds[1])) - at(distribution, on(link, bounds[0]))
    return log(density)


def text(x):
    return {inf: "inf", -inf: "-inf"}.get(x, None) or nstr(x, 17)


def number(x):
    return x if x in (inf, -inf) else float(nstr(x, 17))


def masses():
    cases = {
        ("normal", 0, 1): [(-1, 2), (3, 4), (40, 50), (-45, -41), (1e-9, 3e-9), (-1e-8, 1e-8), (8, 9), (30, inf), (-inf, -20), (4.99, 5.01),
                           (6, 6.0001), (-7, 7), (20, 20.0009765625), (-3, 6)],
        ("laplace", 0, 1): [(-1, 3), (100, 101), (800, 900), (-1000, -900), (-1e-10, 1e-10), (2, 2.0000001), (0, 1e-12), (-40, 0.5)],
        ("cauchy", 0, 1): [(-1, 3), (1e10, 2e10), (-1e9, -1e8), (0.5, 0.50000001), (5, 6), (-2, 1e6)],
        ("rayleigh", 1): [(0, 1), (1, 2), (30, 40), (0, 1e-9), (1e-9, 2e-9), (3, 3.0000001), (0.5, 40)],
        ("gamma", 3, 1): [(0, 2), (50, 60), (500, 600), (2, 2.0000001)],
        ("gamma", 0.5, 1): [(0, 1e-20), (30, 31), (1e-3, 1e-2)],
        ("gamma", 0.01, 1): [(1e-10, 1e-3), (1e-100, 1)],
        ("gamma", 20, 1): [(1, 2), (19, 21), (0, 30)],
        ("gamma", 100, 1): [(1e-3, 1e-2), (90, 110), (300, inf)],
        ("gamma", 7, 2): [(7, 7.0009765625), (14, 15)],
    }
    for (name, *parameters), intervals in cases.items():
        distribution = STANDARD[name](*map(mpf, parameters))
        for a, b in intervals:
            mass = at(distribution, mpf(b)) - at(distribution, mpf(a))
            yield {"family": name, "parameters": parameters, "a": text(mpf(a)), "b": text(mpf(b)), "log_mass": number(log(mass))}


def densities():
    v2 = {
        "cauchy": [(3, 5)], "chisquare": [(4,), (1,)], "exponential": [(3,)], "gamma": [(3, 5), (0.5, 2)], "laplace": [(3, 5)],
        "log-laplace": [(3, 5)], "log-normal": [(5, 2), (0.3, 0.7)], "log-uniform": [(0.3, 50)], "normal": [(4, 2)], "rayleigh": [(3,)],
        "uniform": [(0.2, 8)],
    }
    v1 = {
        "uniform": [(0.2, 8)], "normal": [(4, 2)], "laplace": [(3, 5)], "logNormal": [(0.3, 0.7)], "logLaplace": [(0.1, 0.8)],
        "parameterScaleNormal": [(0.4, 0.3)], "parameterScaleLaplace": [(-0.2, 1.5)],
    }
    # Bounds in the middle, at zero, and far out in a tail of some families.
    problems = [(2, scale, family, p, bounds, "own-scale") for family, ps in v2.items() for p in ps
                for scale, bounds in [("log", (0.5, 7)), ("lin", (0, 10)), ("lin", (0, inf)), ("log", (4.9, 5.3)), ("log", (6.5, 7.5))]]
    problems += [(1, scale, family, p, (0.25, 9), convention) for family, ps in v1.items() for p in ps for scale in BASES
                 for convention in ("own-scale", "linear", "linear-untruncated")]
    for version, scale, family, p, bounds, convention in problems:
        truncated = version == 2 or convention == "linear"
        low = max(mpf(bounds[0]), mpf("0.21"))
        points = [low + (min(mpf(bounds[1]), mpf(8)) - low) * f / 10 for f in (1, 4, 9)]
        values = []
        for x in (mpf(nstr(x, 10)) for x in points):
            def by_scale(u):
                return log_density(family, list(map(mpf, p)), scale, tuple(map(mpf, bounds)) if truncated else None,
                                   convention == "own-scale", off(scale, u))

            mp.dps = 60
            u = on(scale, x)
            first, second = diff(by_scale, u), diff(by_scale, u, 2)
            values.append({"x": number(x), "value": number(by_scale(u)), "first": number(first), "second": number(second)})
            mp.dps = 500
        yield {"version": version, "scale": scale, "family": family, "parameters": p, "bounds": [text(mpf(b)) for b in bounds],
               "convention": convention, "at": values}


def main():
    result = {
        "origin": "scripts/reference/priors.py, mpmath " + __import__("mpmath").__version__,
        "masses": list(masses()),
        "densities": list(densities()),
    }
    lines = ["{", f'  "origin": {json.dumps(result["origin"])},']
    for key in ("masses", "densities"):
        rows = ",\n".join("    " + json.dumps(row) for row in result[key])
        lines += [f'  "{key}": [', rows, "  ]" + ("," if key == "masses" else "")]
    TARGET.write_text("\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
