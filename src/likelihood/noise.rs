//! Density of one measurement around its simulation (PEtab noise distributions) with derivatives.
//!
//! The transformation T is the identity, the natural or the decadic logarithm; the simulation is the median of the distribution.
//! With the residual r = (T(m) - T(y)) / s the negative log densities of the *untransformed* measurement m are
//!
//! * normal: 1/2 log(2 pi s^2) + r^2 / 2 - log T'(m),
//! * Laplace: log(2 s) + |r| - log T'(m),
//!
//! with T'(m) = 1, 1/m or 1/(m ln 10). Of a value that is only known to lie in an interval the negative log probability of the interval
//! takes the place of the density (NLME.md 3.3).

use super::{EvaluationError, hazard};
use crate::petab::{Censoring, NoiseDistribution};
use crate::random::normal_quantile;
use std::f64::consts::{LN_2, LN_10, PI};

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

impl Density {
    /// A value that depends on nothing.
    pub fn certain(value: f64) -> Self {
        Density { value, dy: 0.0, ds: 0.0, dyy: 0.0, dys: 0.0, dss: 0.0, fisher_yy: 0.0, fisher_ss: 0.0, residual: 0.0 }
    }
}

/// A measured value with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Distribution around the simulation.
    pub distribution: NoiseDistribution,
    /// The value, or the end of what it was censored to.
    pub value: f64,
    /// Whether it was measured exactly.
    pub censoring: Censoring,
    /// Whether it is the time of an event that has a hazard. Then the cumulative hazard stands in the place of the simulation and the hazard in
    /// that of the noise scale; see [`hazard::density`].
    pub has_hazard: bool,
}

impl Measured {
    /// Whether it was measured exactly, with noise that is normal on some scale.
    pub fn is_normal(&self) -> bool {
        self.censoring == Censoring::None && !self.has_hazard && matches!(parts(self.distribution).0, Shape::Normal)
    }

    /// Negative log density (or probability) at the simulation `y` with the noise scale `sigma`.
    ///
    /// # Errors
    /// Those of [`density`], [`censored_density`] and [`hazard::density`].
    pub fn density(&self, y: f64, sigma: f64) -> Result<Density, EvaluationError> {
        if self.has_hazard {
            return hazard::density(self.censoring, y, sigma);
        }
        match self.censoring {
            Censoring::None => density(self.distribution, self.value, y, sigma),
            Censoring::Right => censored_density(self.distribution, [self.value, f64::INFINITY], y, sigma),
            Censoring::Left => censored_density(self.distribution, [f64::NEG_INFINITY, self.value], y, sigma),
            Censoring::Interval(upper) => censored_density(self.distribution, [self.value, upper], y, sigma),
        }
    }
}

impl Measured {
    /// Derivatives of `curvature` of the density (yy, y sigma, sigma sigma) by y and by sigma, by differences of fourth order.
    pub fn curvature_slopes(&self, y: f64, sigma: f64, curvature: impl Fn(&Density) -> [f64; 3]) -> Result<[[f64; 3]; 2], EvaluationError> {
        // Hazards are positive, as their integrals are.
        let steps = if self.has_hazard { [1e-3 * y, 1e-3 * sigma] } else { [1e-3 * sigma; 2] };
        let at = |y: f64, sigma: f64| self.density(y, sigma).map(|d| curvature(&d));
        let slope = |f: &dyn Fn(f64) -> Result<[f64; 3], EvaluationError>, step: f64| -> Result<[f64; 3], EvaluationError> {
            if step == 0.0 {
                return Ok([0.0; 3]);
            }
            let [a, b, c, d] = [f(step)?, f(-step)?, f(2.0 * step)?, f(-2.0 * step)?];
            Ok(std::array::from_fn(|i| (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * step)))
        };
        Ok([slope(&|h| at(y + h, sigma), steps[0])?, slope(&|h| at(y, sigma + h), steps[1])?])
    }
}

/// The value below which a measurement lies with the probability `u`, 0 < u < 1: with uniform `u`, a draw of the measurement.
///
/// # Errors
/// [`EvaluationError::Density`] where there is no distribution: `sigma` not positive, a simulation that is not finite, or not positive
/// under a logarithm.
pub fn quantile(distribution: NoiseDistribution, u: f64, y: f64, sigma: f64) -> Result<f64, EvaluationError> {
    let (shape, transform) = parts(distribution);
    let refuse = |what: &str, value: f64| Err(EvaluationError::Density(format!("{what} ({value})")));
    if !y.is_finite() {
        return refuse("the simulation of a measurement is not a finite number", y);
    }
    if !sigma.is_finite() || sigma <= 0.0 {
        return refuse("the noise of a measurement is not a positive number", sigma);
    }
    let z = match shape {
        Shape::Normal => normal_quantile(u),
        Shape::Laplace if u < 0.5 => (2.0 * u).ln(),
        Shape::Laplace => -(2.0 * (1.0 - u)).ln(),
    };
    match transform {
        Transform::Identity => Ok(y + sigma * z),
        Transform::Log(_) if y <= 0.0 => {
            refuse("the simulation of a measurement is not positive, but its noise is on a logarithmic scale", y)
        }
        Transform::Log(base) => Ok(y * (base * sigma * z).exp()),
    }
}

/// Whether a distribution has no values but positive ones.
pub fn is_positive(distribution: NoiseDistribution) -> bool {
    matches!(parts(distribution).1, Transform::Log(_))
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

fn parts(distribution: NoiseDistribution) -> (Shape, Transform) {
    match distribution {
        NoiseDistribution::Normal => (Shape::Normal, Transform::Identity),
        NoiseDistribution::LogNormal => (Shape::Normal, Transform::Log(1.0)),
        NoiseDistribution::Log10Normal => (Shape::Normal, Transform::Log(LN_10)),
        NoiseDistribution::Laplace => (Shape::Laplace, Transform::Identity),
        NoiseDistribution::LogLaplace => (Shape::Laplace, Transform::Log(1.0)),
        NoiseDistribution::Log10Laplace => (Shape::Laplace, Transform::Log(LN_10)),
    }
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
    let (shape, transform) = parts(distribution);
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

/// Negative log probability that a value lies between the ends of `interval` (which may be infinite), under `distribution` with median `y`
/// and scale `sigma`. For the time of an event `y` is infinite if it never happens.
///
/// With the standardised ends a < b, the distribution function F, A = f(a)/P and B = f(b)/P, P = F(b) - F(a), the derivatives follow
/// from f' = -h f (h(z) = z for the normal and sign(z) for the Laplace distribution). There is no expected information of a
/// censored value; `fisher_yy` and `fisher_ss` are the second derivatives where these are positive. `residual` is 0.
///
/// # Errors
/// As for [`density`]; [`EvaluationError::Density`] where the probability vanishes.
pub fn censored_density(distribution: NoiseDistribution, interval: [f64; 2], y: f64, sigma: f64) -> Result<Density, EvaluationError> {
    let (shape, transform) = parts(distribution);
    let refuse = |what: &str, value: f64| Err(EvaluationError::Density(format!("{what} ({value})")));
    let [lower, upper] = interval;
    if lower.is_nan() || upper.is_nan() || lower >= upper {
        return refuse("the ends of a censored measurement are not an interval from", lower);
    }
    if !sigma.is_finite() || sigma <= 0.0 {
        return refuse("the noise of a measurement is not a positive number", sigma);
    }
    if y == f64::INFINITY && upper == f64::INFINITY {
        return Ok(Density::certain(0.0));
    }
    if !y.is_finite() {
        return refuse("the simulation of a censored measurement is not a finite number", y);
    }
    // The standardised ends, and the derivatives T'(y) and T''(y).
    let (ends, first, second) = match transform {
        Transform::Identity => (interval.map(|m| (m - y) / sigma), 1.0, 0.0),
        Transform::Log(base) => {
            if y <= 0.0 {
                return refuse("the simulation of a measurement is not positive, but its noise is on a logarithmic scale", y);
            }
            // Nothing lies below 0.
            let end = |m: f64| if m <= 0.0 { f64::NEG_INFINITY } else { (m.ln() - y.ln()) / (base * sigma) };
            (interval.map(end), 1.0 / (y * base), -1.0 / (y * y * base))
        }
    };
    let [a, b] = ends;
    let log_p = log_probability(shape, a, b);
    if log_p == f64::NEG_INFINITY || log_p.is_nan() {
        return refuse("the probability of a censored measurement vanishes at the simulation", y);
    }
    // f(z)/P with z f/P, h f/P, z h f/P and z^2 h f/P; an infinite end contributes nothing.
    let terms = |z: f64| {
        if z.is_infinite() {
            return [0.0; 5];
        }
        let ratio = (log_density(shape, z) - log_p).exp();
        let h = match shape {
            Shape::Normal => z,
            Shape::Laplace => z.signum(),
        };
        [ratio, z * ratio, h * ratio, z * h * ratio, z * z * h * ratio]
    };
    let (at_a, at_b) = (terms(a), terms(b));
    let [d, s, hd, zhd, zzhd] = std::array::from_fn(|i| at_b[i] - at_a[i]);
    let precision = 1.0 / (sigma * sigma);
    let (dv, dvv) = (d / sigma, (hd + d * d) * precision);
    let dvs = (zhd + d * s - d) * precision;
    let dss = (zzhd + s * s - 2.0 * s) * precision;
    let result = Density {
        value: -log_p,
        dy: dv * first,
        ds: s / sigma,
        dyy: dvv * first * first + dv * second,
        dys: dvs * first,
        dss,
        fisher_yy: dvv.max(0.0) * first * first,
        fisher_ss: dss.max(0.0),
        residual: 0.0,
    };
    if !result.dy.is_finite() || !result.ds.is_finite() {
        return refuse("the probability of a censored measurement vanishes at the simulation", y);
    }
    Ok(result)
}

/// Log density of the standardised distribution.
fn log_density(shape: Shape, z: f64) -> f64 {
    match shape {
        Shape::Normal => -0.5 * z * z - 0.5 * (2.0 * PI).ln(),
        Shape::Laplace => -z.abs() - LN_2,
    }
}

/// Log of the standardised distribution function.
fn log_distribution(shape: Shape, z: f64) -> f64 {
    match shape {
        Shape::Normal => log_normal_distribution(z),
        Shape::Laplace if z < 0.0 => z - LN_2,
        Shape::Laplace => (-0.5 * (-z).exp()).ln_1p(),
    }
}

/// log(F(b) - F(a)), a < b, without cancellation.
fn log_probability(shape: Shape, a: f64, b: f64) -> f64 {
    // Both distributions are symmetric: in the upper tail the difference is one of the survival functions.
    let (a, b) = if a > 0.0 { (-b, -a) } else { (a, b) };
    let (below, above) = (log_distribution(shape, a), log_distribution(shape, b));
    if below == f64::NEG_INFINITY {
        return above;
    }
    above + (-(below - above).exp_m1()).ln()
}

/// log Phi(z) with full relative accuracy in both tails.
pub fn log_normal_distribution(z: f64) -> f64 {
    if z > -5.0 {
        // Close to 0 the logarithm is that of a number close to 1.
        return if z > 1.0 { (-0.5 * libm::erfc(z / 2f64.sqrt())).ln_1p() } else { (0.5 * libm::erfc(-z / 2f64.sqrt())).ln() };
    }
    if z == f64::NEG_INFINITY {
        return z;
    }
    // Mills ratio (1 - Phi(x))/phi(x) at x = -z as a continued fraction 1/(x + 1/(x + 2/(x + 3/...))), which converges fast here.
    let x = -z;
    let tail = (1..=60).rev().fold(x, |rest, k| x + f64::from(k) / rest);
    log_density(Shape::Normal, z) - tail.ln()
}
