//! Where the fits of populations begin: at an optimum of the naive pooled reading.
//!
//! Random points between wide bounds mostly lie where the model explains nothing, and the likelihood of a population is flat there. The pooled
//! reading (one typical individual behind all rows) takes a simulation per experiment, so many points can be tried.

use crate::estimate::multistart::{MultistartOptions, starting_points};
use crate::estimate::trust_region::{self, minimise};
use crate::likelihood::Objective;
use crate::likelihood::problem::ProblemObjective;
use crate::model::CompiledModel;
use crate::ode::Options;
use crate::petab::{CovarianceKind, Problem, TableValue, Transformation};
use crate::random::{Purpose, stream, uniform};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Points from which the pooled reading is fitted for each start, the start's own among them.
const TRIES: usize = 8;

/// Standard deviation with which random effects on logarithmic and logistic scales begin.
const SPREAD: f64 = 0.5;

/// The pooled reading of a problem.
pub struct PooledStart {
    objective: ProblemObjective,
    /// For parameters of the covariance: position in x, and the value to begin with as a function of the natural values.
    spreads: Vec<(usize, Spread)>,
    seed: u64,
}

/// What a parameter of the covariance begins with.
#[derive(Clone, Copy)]
enum Spread {
    /// A number.
    Value(f64),
    /// A standard deviation that is a part of the size of a parameter (row of the parameter table), squared if so.
    OfParameter(usize, bool),
}

impl PooledStart {
    /// `None` if there is nothing to pool.
    pub fn new(models: &[Arc<CompiledModel>], problems: &[&Problem], options: Options, seed: u64) -> Option<Self> {
        let parts: Vec<_> = models.iter().cloned().zip(problems.iter().copied()).collect();
        let objective = ProblemObjective::pooled(&parts, options).filter(ProblemObjective::has_ordinary_rows)?;
        let spreads = spreads(problems.first()?, &objective);
        Some(PooledStart { objective, spreads, seed })
    }

    /// The best of the optima from `point` and from random points, with random effects of moderate size. `point` itself if the pooled
    /// reading has no value anywhere.
    pub fn prepare(&self, index: usize, point: &[f64], stop: &AtomicBool) -> Vec<f64> {
        let mut generator = stream(self.seed, Purpose::Pooled, index as u64);
        let seed = (uniform(&mut generator) * 2f64.powi(53)) as u64;
        let more = MultistartOptions { starts: TRIES - 1, seed, ..MultistartOptions::default() };
        let options = trust_region::Options { max_iterations: 200, function_absolute: 1e-3, ..trust_region::Options::default() };
        let points = std::iter::once(point.to_vec()).chain(starting_points(self.objective.parameters(), &more));
        let optima = points.map(|p| minimise(&self.objective, &p, &options, stop)).filter(|s| s.value.is_finite());
        let Some(best) = optima.min_by(|a, b| a.value.total_cmp(&b.value)) else { return point.to_vec() };
        let natural = self.objective.map().natural(&best.point);
        let mut x = best.point;
        for (place, spread) in &self.spreads {
            let value = match *spread {
                Spread::Value(value) => value,
                Spread::OfParameter(theta, squared) => {
                    let sd = (SPREAD * natural[theta].abs()).max(f64::MIN_POSITIVE);
                    if squared { sd * sd } else { sd }
                }
            };
            let parameter = &self.objective.parameters()[*place];
            x[*place] = parameter.scale.scale(value).max(parameter.lower).min(parameter.upper);
        }
        x
    }
}

fn spreads(problem: &Problem, objective: &ProblemObjective) -> Vec<(usize, Spread)> {
    let Some(nlme) = &problem.nlme else { return Vec::new() };
    let place = |row: usize| objective.parameters().iter().position(|p| p.id == problem.parameters[row].id);
    let mut result = Vec::new();
    for entry in &nlme.covariance {
        let TableValue::Parameter(row) = entry.value else { continue };
        let Some(place) = place(row) else { continue };
        let effect = &nlme.random_effects[entry.row];
        let additive = effect.transformation == Transformation::Additive;
        let spread = match entry.kind {
            CovarianceKind::Corr => Spread::Value(0.0),
            CovarianceKind::Chol if entry.row != entry.column => Spread::Value(0.0),
            CovarianceKind::LogVar => Spread::Value(2.0 * SPREAD.ln()),
            CovarianceKind::Var if additive => Spread::OfParameter(effect.target, true),
            CovarianceKind::Var => Spread::Value(SPREAD * SPREAD),
            CovarianceKind::Sd | CovarianceKind::Chol if additive => Spread::OfParameter(effect.target, false),
            CovarianceKind::Sd | CovarianceKind::Chol => Spread::Value(SPREAD),
        };
        result.push((place, spread));
    }
    result
}
