//! Densities of measurements against independent densities and difference quotients.
#![allow(clippy::unwrap_used)]

use mixode::likelihood::EvaluationError;
use mixode::likelihood::noise::{Density, density};
use mixode::petab::NoiseDistribution::{self, *};
use statrs::distribution::{Continuous, LogNormal as StatrsLogNormal, Normal as StatrsNormal};
use std::f64::consts::LN_10;

const ALL: [NoiseDistribution; 6] = [Normal, LogNormal, Log10Normal, Laplace, LogLaplace, Log10Laplace];
const POINTS: [(f64, f64, f64); 5] = [(1.3, 0.9, 0.4), (0.02, 0.5, 0.1), (7.0, 6.5, 2.0), (1.1, 1.7, 0.05), (3e4, 2e4, 0.3)];

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs())), "{a} is not {b}");
}

fn at(distribution: NoiseDistribution, (m, y, s): (f64, f64, f64)) -> Density {
    density(distribution, m, y, s).unwrap()
}

/// The density of m follows from that of its logarithm by the change of variables; statrs gives the normal ones independently, the
/// Laplace density is written out.
#[test]
fn values_are_negative_log_densities_of_the_measurement() {
    let laplace = |x: f64, at: f64, b: f64| -(-(x - at).abs() / b).exp().ln() + (2.0 * b).ln();
    for (m, y, s) in POINTS {
        // With small scales exp underflows in the reference, so the scale grows with the values here.
        let s = s.max(0.1 * m.abs());
        let p = (m, y, s);
        close(at(Normal, p).value, -StatrsNormal::new(y, s).unwrap().ln_pdf(m), 1e-13);
        close(at(LogNormal, p).value, -StatrsLogNormal::new(y.ln(), s).unwrap().ln_pdf(m), 1e-13);
        close(at(Log10Normal, p).value, -StatrsNormal::new(y.log10(), s).unwrap().ln_pdf(m.log10()) + (m * LN_10).ln(), 1e-13);
        close(at(Laplace, p).value, laplace(m, y, s), 1e-13);
        close(at(LogLaplace, p).value, laplace(m.ln(), y.ln(), s) + m.ln(), 1e-13);
        close(at(Log10Laplace, p).value, laplace(m.log10(), y.log10(), s) + (m * LN_10).ln(), 1e-13);
    }
}

/// PETAB.md 3.4 written out for m = 2, y = 1, s = 1/2.
#[test]
fn values_of_the_table() {
    let p = (2.0, 1.0, 0.5);
    let n = (2.0 * std::f64::consts::PI * 0.25).ln() / 2.0;
    let (l, d) = (2f64.ln() / 0.5, 2f64.log10() / 0.5);
    let expected = [
        (n + 2.0, 2.0),
        (n + 2f64.ln() + l * l / 2.0, l),
        (n + (2.0 * LN_10).ln() + d * d / 2.0, d),
        (2.0, 2.0),
        (2f64.ln() + l, l),
        ((2.0 * LN_10).ln() + d, d),
    ];
    for (distribution, (value, residual)) in ALL.into_iter().zip(expected) {
        let result = at(distribution, p);
        close(result.value, value, 1e-14);
        close(result.residual, residual, 1e-14);
    }
}

#[test]
fn derivatives_are_those_of_the_value() {
    for distribution in ALL {
        for (m, y, s) in POINTS {
            // Step relative to the point; fourth-order differences of exact first derivatives.
            let difference = |f: &dyn Fn(f64) -> f64, h: f64| (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
            let (hy, hs) = (1e-3 * y, 1e-3 * s);
            let result = at(distribution, (m, y, s));
            let scale = 1.0 + result.value.abs();
            let check = |exact: f64, numeric: f64, unit: f64| {
                assert!((exact - numeric).abs() * unit <= 1e-7 * scale, "{distribution:?} at {m} {y} {s}: {exact} is not {numeric}");
            };
            check(result.dy, difference(&|h| at(distribution, (m, y + h, s)).value, hy), y);
            check(result.ds, difference(&|h| at(distribution, (m, y, s + h)).value, hs), s);
            check(result.dyy, difference(&|h| at(distribution, (m, y + h, s)).dy, hy), y * y);
            check(result.dys, difference(&|h| at(distribution, (m, y, s + h)).dy, hs), y * s);
            check(result.dss, difference(&|h| at(distribution, (m, y, s + h)).ds, hs), s * s);
        }
    }
}

/// Expected information: the integral of the squared score against the density, over the transformed measurement.
#[test]
fn information_is_the_expectation_of_the_squared_score() {
    for distribution in ALL {
        let (y, s) = (1.6_f64, 0.2);
        let base = match distribution {
            Normal | Laplace => 0.0,
            LogNormal | LogLaplace => 1.0,
            Log10Normal | Log10Laplace => LN_10,
        };
        let measurement = |t: f64| if base == 0.0 { t } else { (t * base).exp() };
        let centre = if base == 0.0 { y } else { y.ln() / base };
        // Midpoints, so that the kink of the Laplace density at its centre lies between two of them.
        let (steps, half_width) = (20_000, 40.0 * s);
        let h = 2.0 * half_width / f64::from(steps);
        let (mut total, mut yy, mut ys, mut ss) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..steps {
            let t = centre - half_width + (f64::from(i) + 0.5) * h;
            let m = measurement(t);
            if m <= 0.0 && base != 0.0 {
                continue;
            }
            let d = at(distribution, (m, y, s));
            // dm = m * base dt under a logarithm.
            let weight = h * (-d.value).exp() * if base == 0.0 { 1.0 } else { m * base };
            total += weight;
            yy += weight * d.dy * d.dy;
            ys += weight * d.dy * d.ds;
            ss += weight * d.ds * d.ds;
        }
        let expected = at(distribution, (1.0, y, s));
        close(total, 1.0, 1e-4);
        close(yy, expected.fisher_yy, 1e-4);
        close(ss, expected.fisher_ss, 1e-4);
        close(ys, 0.0, 1e-9);
    }
}

#[test]
fn impossible_arguments_are_named() {
    let message = |d, m, y, s| match density(d, m, y, s) {
        Err(EvaluationError::Density(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(message(Normal, 1.0, 1.0, 0.0), "the noise of a measurement is not positive (0)");
    assert_eq!(message(Laplace, 1.0, 1.0, -2.0), "the noise of a measurement is not positive (-2)");
    assert!(message(LogNormal, 1.0, 0.0, 1.0).starts_with("the simulation of a measurement is not positive, but its noise is on a log"));
    assert!(message(Log10Laplace, -1.0, 1.0, 1.0).starts_with("the measurement is not positive"));
    assert!(message(Normal, 1.0, f64::NAN, 1.0).contains("simulation of a measurement is not a finite number"));
    assert!(message(Normal, f64::NAN, 1.0, 1.0).contains("the measurement is not a finite number"));
    assert!(message(Normal, 1.0, 1.0, f64::INFINITY).contains("noise of a measurement is not a finite number"));
    assert!(message(Normal, 1.0, 1e200, 1.0).contains("vanishes"));
    // Negative simulations are fine without a logarithm.
    assert!(density(Normal, -1.0, -2.0, 1.0).is_ok());
}
