//! Priors of parameters: log densities on the scale of the estimation, and quantiles for starting points.
//!
//! Version 2: the density of the parameter itself, truncated to its bounds. As soon as one estimated parameter has a prior, every other
//! one has the uniform density between its bounds; where a bound is infinite there is no such density, and no term.
//!
//! Version 1 does not say of which quantity `objectivePriorType` is the density, nor whether the bounds truncate it; see [`Convention`].
//! `parameterScaleUniform`, the default, is no term under any of them. Fixed parameters never have one, nor have those whose bounds
//! are equal.
//!
//! The change of variables from a parameter to the scale it is estimated on enters the derivatives, never the density: the maximum of
//! the posterior does not depend on the scale of the estimation.
//!
//! To add a family: `PriorFamily` and its row in `petab/priors.rs`, its distribution in [`Prior::new`].

use super::distribution::Distribution;
use super::parameters::{ParameterMap, scale_direction};
use super::{Evaluation, EvaluationError};
use crate::petab::{self, Parameter, PriorFamily, Problem, Scale, Version};
use nalgebra::DMatrix;

/// What the objective priors of PEtab 1 mean. The optima of the first and the others differ where a `parameterScale...` prior
/// stands on a logarithmic scale; the last two differ by constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convention {
    /// Densities of `parameterScale...` priors are those of the parameter on its scale, all others those of the parameter; the bounds
    /// do not truncate them. This is what pyPESTO and PEtab.jl do.
    #[default]
    OwnScale,
    /// All are densities of the parameter itself, truncated to the bounds. This is what libpetab does.
    Linear,
    /// All are densities of the parameter itself, not truncated.
    LinearUntruncated,
}

/// A parameter this close to an end of its interval (relative to the end) counts as inside: at its bound it may be off by the rounding
/// of logarithms.
const ROUNDING: f64 = 1e-12;

/// Distance from the kink of a Laplace density, in units of its scale, below which the curvature of [`Prior::curvature`] grows no more.
const KINK: f64 = 1e-6;

/// The same distance, below which an estimate counts as lying at the kink: differences of the gradient reach across it.
const AT_KINK: f64 = 1e-3;

/// The prior distribution of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    distribution: Distribution,
    /// The scale on which the parameter has this distribution.
    scale: Scale,
    /// Whether the density is that of the parameter; otherwise it is that of the parameter on `scale`.
    of_parameter: bool,
    /// Ends of what the density is not zero on, natural values.
    interval: (f64, f64),
    /// Logarithm of the probability that truncation leaves; 0 without truncation.
    log_mass: f64,
}

impl Prior {
    /// The prior of a row of the parameter table that is estimated on `scale`. With `bounds` it is truncated to them.
    pub fn new(prior: &petab::Prior, scale: Scale, bounds: Option<(f64, f64)>, of_parameter: bool) -> Prior {
        use Distribution::{Cauchy, Gamma, Laplace, Normal, Rayleigh, Uniform};
        // The reader has made sure that every family has its number of parameters.
        let p = |i: usize| prior.parameters.get(i).copied().unwrap_or(f64::NAN);
        let (scale, of_parameter) = match prior.family {
            PriorFamily::ScaleUniform | PriorFamily::ScaleNormal | PriorFamily::ScaleLaplace => (scale, of_parameter),
            PriorFamily::LogUniform | PriorFamily::LogNormal | PriorFamily::LogLaplace => (Scale::Log, true),
            _ => (Scale::Lin, true),
        };
        let distribution = match prior.family {
            PriorFamily::Uniform | PriorFamily::ScaleUniform => Uniform { lower: p(0), upper: p(1) },
            PriorFamily::LogUniform => Uniform { lower: p(0).ln(), upper: p(1).ln() },
            PriorFamily::Normal | PriorFamily::LogNormal | PriorFamily::ScaleNormal => Normal { mean: p(0), sd: p(1) },
            PriorFamily::Laplace | PriorFamily::LogLaplace | PriorFamily::ScaleLaplace => Laplace { location: p(0), scale: p(1) },
            PriorFamily::Cauchy => Cauchy { location: p(0), scale: p(1) },
            PriorFamily::ChiSquare => Gamma { shape: 0.5 * p(0), scale: 2.0 },
            PriorFamily::Exponential => Gamma { shape: 1.0, scale: p(0) },
            PriorFamily::Gamma => Gamma { shape: p(0), scale: p(1) },
            PriorFamily::Rayleigh => Rayleigh { scale: p(0) },
        };
        Prior::of(distribution, scale, bounds, of_parameter)
    }

    /// The uniform density between two finite bounds.
    fn uniform(lower: f64, upper: f64) -> Prior {
        Prior::of(Distribution::Uniform { lower, upper }, Scale::Lin, None, true)
    }

    fn of(distribution: Distribution, scale: Scale, bounds: Option<(f64, f64)>, of_parameter: bool) -> Prior {
        let (low, high) = distribution.support();
        let support = (scale.unscale(low), scale.unscale(high));
        let (mut interval, mut log_mass) = (support, 0.0);
        if let Some((lower, upper)) = bounds {
            interval = (lower.max(support.0), upper.min(support.1));
            log_mass = distribution.log_mass(scale.scale(interval.0).max(low), scale.scale(interval.1).min(high));
        }
        Prior { distribution, scale, of_parameter, interval, log_mass }
    }

    /// The interval outside of which the density is zero, in natural values.
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// Log density at the natural value `x`, with its first and second derivative by the parameter on the scale `by`. -inf, 0, 0 outside
    /// of the interval; the value at an end of it may be infinite too.
    pub fn log_density(&self, x: f64, by: Scale) -> [f64; 3] {
        let (low, high) = self.interval;
        if x < low - ROUNDING * low.abs() || x > high + ROUNDING * high.abs() {
            return [f64::NEG_INFINITY, 0.0, 0.0];
        }
        let x = x.clamp(low, high);
        let (support_low, support_high) = self.distribution.support();
        let u = self.scale.scale(x).clamp(support_low, support_high);
        let [value, first, second] = self.distribution.log_density(u);
        let (du, ddu) = self.slope(x, by);
        let mut result = [value - self.log_mass, first * du, second * du * du + first * ddu];
        if let (true, Some(base)) = (self.of_parameter, logarithm(self.scale)) {
            result[0] -= (x * base).ln();
            match logarithm(by) {
                Some(base_by) => result[1] -= base_by,
                None => {
                    result[1] -= 1.0 / x;
                    result[2] += 1.0 / (x * x);
                }
            }
        }
        result
    }

    /// Curvature of the negative log density for an approximate Hessian: the second derivative where it is positive. A Laplace density has
    /// none but its kink, which Newton steps without curvature jump over again and again; it gets that of the parabola that touches
    /// |z| at the point and lies above it elsewhere (Hunter & Li 2005), whose minimum is the kink.
    fn curvature(&self, x: f64, by: Scale) -> f64 {
        let curvature = (-self.log_density(x, by)[2]).max(0.0);
        let Distribution::Laplace { scale, .. } = self.distribution else { return curvature };
        curvature + (self.slope(x, by).0 / scale).powi(2) / self.kink_distance(x).max(KINK)
    }

    /// Distance from the kink of a Laplace density in units of its scale; infinite for all others.
    fn kink_distance(&self, x: f64) -> f64 {
        match self.distribution {
            Distribution::Laplace { location, scale } => ((self.scale.scale(x) - location) / scale).abs(),
            _ => f64::INFINITY,
        }
    }

    /// First and second derivative of the parameter on the distribution's scale by the parameter on the scale `by`.
    fn slope(&self, x: f64, by: Scale) -> (f64, f64) {
        match (logarithm(self.scale), logarithm(by)) {
            (None, _) => {
                let direction = scale_direction(0, by, x);
                (direction.first, direction.second)
            }
            (Some(base), None) => (1.0 / (x * base), -1.0 / (x * x * base)),
            (Some(base), Some(base_by)) => (base_by / base, 0.0),
        }
    }

    /// Quantile `u` (0 < u < 1) on the natural scale; of the truncated distribution where it is truncated.
    pub fn quantile(&self, u: f64) -> f64 {
        let (low, high) = self.interval;
        let value = self.scale.unscale(self.distribution.quantile(u, self.scale.scale(low), self.scale.scale(high)));
        value.max(low).min(high)
    }
}

/// Natural logarithm of the base of a logarithmic scale.
fn logarithm(scale: Scale) -> Option<f64> {
    match scale {
        Scale::Lin => None,
        Scale::Log => Some(1.0),
        Scale::Log10 => Some(std::f64::consts::LN_10),
    }
}

/// The prior in the objective of a parameter, by its own row of the table.
fn objective_prior(parameter: &Parameter, version: Version, convention: Convention) -> Option<Prior> {
    let prior = parameter.prior.as_ref().filter(|_| parameter.estimate && parameter.lower < parameter.upper)?;
    let truncated = version == Version::V2 || convention == Convention::Linear;
    let bounds = truncated.then_some((parameter.lower, parameter.upper));
    Some(Prior::new(prior, parameter.scale, bounds, convention != Convention::OwnScale))
}

/// What a parameter is estimated between: its bounds, and within them what its prior allows. Natural values.
pub fn limits(parameter: &Parameter, version: Version) -> (f64, f64) {
    let (lower, upper) = (parameter.lower, parameter.upper);
    match objective_prior(parameter, version, Convention::default()).map(|p| p.interval()) {
        Some((low, high)) if low.max(lower) <= high.min(upper) => (low.max(lower), high.min(upper)),
        _ => (lower, upper),
    }
}

/// The distribution that starting values of a parameter are drawn from, truncated to its bounds; `None`: uniform between the bounds on
/// the scale of the estimation. Version 1: the initialisation prior where there is one, otherwise the objective prior if a
/// bound is infinite. Version 2: the prior.
pub fn start(parameter: &Parameter, version: Version) -> Option<Prior> {
    let bounded = [parameter.lower, parameter.upper].iter().all(|b| parameter.scale.scale(*b).is_finite());
    let objective = parameter.prior.as_ref().filter(|_| version == Version::V2 || !bounded);
    let prior = parameter.start.as_ref().or(objective).filter(|_| parameter.lower < parameter.upper)?;
    Some(Prior::new(prior, parameter.scale, Some((parameter.lower, parameter.upper)), true))
}

/// The priors of a problem's estimated parameters.
#[derive(Debug, Clone)]
pub struct Priors {
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    id: String,
    /// Index among the estimated parameters, and row of the parameter table.
    place: usize,
    row: usize,
    scale: Scale,
    prior: Prior,
}

impl Priors {
    /// All priors; `convention` matters for version 1 only.
    pub fn new(problem: &Problem, convention: Convention) -> Priors {
        let map = ParameterMap::new(problem);
        let estimated = || problem.parameters.iter().filter(|p| p.estimate);
        let default_uniform = problem.version == Version::V2 && estimated().any(|p| p.prior.is_some());
        let terms = estimated().enumerate().filter_map(|(place, p)| {
            let uniform = || {
                let proper = p.prior.is_none() && p.lower.is_finite() && p.upper.is_finite() && p.lower < p.upper;
                (default_uniform && proper).then(|| Prior::uniform(p.lower, p.upper))
            };
            let prior = objective_prior(p, problem.version, convention).or_else(uniform)?;
            Some(Term { id: p.id.clone(), place, row: map.theta(place), scale: p.scale, prior })
        });
        Priors { terms: terms.collect() }
    }

    /// Number of parameters with a term.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether no parameter has a term.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Log density of every parameter that has a term, at natural values of the whole parameter table; -inf outside of the support.
    pub fn log_densities(&self, natural: &[f64]) -> Vec<(String, f64)> {
        self.terms.iter().map(|t| (t.id.clone(), t.prior.log_density(natural[t.row], t.scale)[0])).collect()
    }

    /// Whether estimated parameter `place` lies at the kink of a Laplace density: there the posterior has no second derivative, and a
    /// standard error from differences of its gradient means nothing.
    pub fn at_kink(&self, place: usize, natural: &[f64]) -> bool {
        self.terms.iter().any(|t| t.place == place && t.prior.kink_distance(natural[t.row]) < AT_KINK)
    }

    /// Adds the negative log densities to an objective and their derivatives to what it has of them. To the approximate Hessian go
    /// curvatures that are not negative, so that it stays positive semidefinite.
    ///
    /// Fails where a density is zero or infinite.
    pub fn add(&self, natural: &[f64], evaluation: &mut Evaluation) -> Result<(), EvaluationError> {
        for t in &self.terms {
            let [value, first, _] = t.prior.log_density(natural[t.row], t.scale);
            if !value.is_finite() {
                return Err(EvaluationError::Prior { parameter: t.id.clone(), value: natural[t.row] });
            }
            evaluation.value -= value;
            if let Some(g) = evaluation.gradient.get_mut(t.place) {
                *g -= first;
            }
            if let Some(f) = evaluation.fisher.as_mut().and_then(|f: &mut DMatrix<f64>| f.get_mut((t.place, t.place))) {
                *f += t.prior.curvature(natural[t.row], t.scale);
            }
        }
        Ok(())
    }
}
