//! Density of one measurement around its simulation (PEtab noise distributions) with derivatives.
//!
//! The transformation T is the identity, the natural or the decadic logarithm; the simulation is the median of the distribution.
//! With the residual r = (T(m) - T(y)) / s the negative log densities of the *untransformed* measurement m are
//!
//! * normal: 1/2 log(2 pi s^2) + r^2 / 2 - log T'(m),
//! * Laplace: log(2 s) + |r| - log T'(m),
//!
//! with T'(m) = 1, 1/m or 1/(m ln 10).

use super::EvaluationError;
use crate::petab::NoiseDistribution;
use std::f64::consts::{LN_10, PI};

/// Negative log density of one measurement and its derivatives with respect to the simulation y and the noise scale s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Density {
    /// Negative log density of the untransformed measurement, all constants included.
    pub value: f64,
    /// First derivative by y.
    pub dy: f64,
    /// First derivative by s.
    pub ds: f64,
    /// Second derivative by y.
    pub dyy: f64,
    /// Mixed second derivative.
    pub dys: f64,
    /// Second derivative by s.
    pub dss: f64,
    /// Expected information of y, the expectation of `dyy` over measurements. That of (y, s) together is zero for every distribution here.
    pub fisher_yy: f64,
    /// Expected information of s, the expectation of `dss` over measurements.
    pub fisher_ss: f64,
    /// Residual r, whose square is the measurement's contribution to chi2.
    pub residual: f64,
}

/// What a distribution is made of.
#[derive(Clone, Copy)]
enum Shape {
    Normal,
    Laplace,
}

/// Logarithm applied to measurement and simulation, as the natural logarithm of its base.
#[derive(Clone, Copy)]
enum Transform {
    Identity,
    /// log(x) / log(base): 1 for the natural and ln 10 for the decadic logarithm.
    Log(f64),
}

/// Negative log density of `measurement` under `distribution` with median `y` and scale `sigma` (standard deviation or Laplace scale on
/// the transformed scale).
///
/// The second derivatives are those of the density itself; of the Laplace distribution's |r| the derivative at r = 0 is taken as 0.
///
/// # Errors
/// [`EvaluationError::Density`] where the density is zero or undefined: a number that is not finite, `sigma` not positive, a simulation
/// or measurement that is not positive under a logarithm.
pub fn density(distribution: NoiseDistribution, measurement: f64, y: f64, sigma: f64) -> Result<Density, EvaluationError> {
    let (shape, transform) = match distribution {
        NoiseDistribution::Normal => (Shape::Normal, Transform::Identity),
        NoiseDistribution::LogNormal => (Shape::Normal, Transform::Log(1.0)),
        NoiseDistribution::Log10Normal => (Shape::Normal, Transform::Log(LN_10)),
        NoiseDistribution::Laplace => (Shape::Laplace, Transform::Identity),
        NoiseDistribution::LogLaplace => (Shape::Laplace, Transform::Log(1.0)),
        NoiseDistribution::Log10Laplace => (Shape::Laplace, Transform::Log(LN_10)),
    };
    let refuse = |what: &str, value: f64| Err(EvaluationError::Density(format!("{what} ({value})")));
    if !measurement.is_finite() {
        return refuse("the measurement is not a finite number", measurement);
    }
    if !y.is_finite() {
        return refuse("the simulation of a measurement is not a finite number", y);
    }
    if !sigma.is_finite() {
        return refuse("the noise of a measurement is not a finite number", sigma);
    }
    if sigma <= 0.0 {
        return refuse("the noise of a measurement is not positive", sigma);
    }
    // Difference T(m) - T(y), the derivatives T'(y) and T''(y), and -log T'(m).
    let (difference, first, second, jacobian) = match transform {
        Transform::Identity => (measurement - y, 1.0, 0.0, 0.0),
        Transform::Log(base) => {
            if measurement <= 0.0 {
                return refuse("the measurement is not positive, but its noise is on a logarithmic scale", measurement);
            }
            if y <= 0.0 {
                return refuse("the simulation of a measurement is not positive, but its noise is on a logarithmic scale", y);
            }
            ((measurement.ln() - y.ln()) / base, 1.0 / (y * base), -1.0 / (y * y * base), (measurement * base).ln())
        }
    };
    let r = difference / sigma;
    let precision = 1.0 / (sigma * sigma);
    // Value and derivatives by the transformed simulation v = T(y) and by s.
    let (value, dv, dvv, ds, dvs, dss, fisher_ss) = match shape {
        Shape::Normal => (
            0.5 * (2.0 * PI).ln() + sigma.ln() + 0.5 * r * r,
            -r / sigma,
            precision,
            (1.0 - r * r) / sigma,
            2.0 * r * precision,
            (3.0 * r * r - 1.0) * precision,
            2.0 * precision,
        ),
        Shape::Laplace => {
            let sign = if r == 0.0 { 0.0 } else { r.signum() };
            (
                (2.0 * sigma).ln() + r.abs(),
                -sign / sigma,
                0.0,
                (1.0 - r.abs()) / sigma,
                sign * precision,
                (2.0 * r.abs() - 1.0) * precision,
                precision,
            )
        }
    };
    let density = Density {
        value: value + jacobian,
        dy: dv * first,
        ds,
        dyy: dvv * first * first + dv * second,
        dys: dvs * first,
        dss,
        fisher_yy: precision * first * first,
        fisher_ss,
        residual: r,
    };
    // A simulation or a noise scale near the limits of the number range overflows; that is a zero density, not a value.
    if !density.value.is_finite() || !density.dy.is_finite() || !density.ds.is_finite() {
        return refuse("the density of a measurement vanishes at the simulation", y);
    }
    Ok(density)
}
