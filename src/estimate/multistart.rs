//! Many optimisations from Latin hypercube points.

use super::trust_region::{self, minimise};
use super::{Fit, Start};
use crate::likelihood::{Objective, Order};
use crate::random::{Purpose, latin_hypercube, stream, uniform};
use rayon::prelude::*;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Settings of a multi-start estimation.
#[derive(Debug, Clone)]
pub struct MultistartOptions {
    /// Number of starts.
    pub starts: usize,
    /// Seed of the starting points.
    pub seed: u64,
    /// Start 0 is the nominal point where it is finite.
    pub include_nominal: bool,
    /// Settings of each optimisation.
    pub optimiser: trust_region::Options,
}

impl Default for MultistartOptions {
    fn default() -> Self {
        MultistartOptions { starts: 50, seed: 1, include_nominal: false, optimiser: trust_region::Options::default() }
    }
}

/// A starting point at which the objective has no value is drawn again at most this often.
const REDRAWS: u64 = 50;

/// Half width, on the estimation scale, of the range of a starting value around the nominal one where a bound is infinite.
const OPEN_RANGE: f64 = 5.0;

/// Runs all starts on the current thread pool. The result is the same for any number of threads: points are keyed by (seed, start, draw),
/// and every start has a memory of its own.
pub fn multistart<O: Objective>(objective: &O, options: &MultistartOptions, progress: &(dyn Fn(&Start) + Sync), stop: &AtomicBool) -> Fit {
    let begin = Instant::now();
    let parameters = objective.parameters();
    let centre = |nominal: f64| if nominal.is_finite() { nominal } else { 0.0 };
    let lower: Vec<f64> = parameters.iter().map(|p| if p.lower.is_finite() { p.lower } else { centre(p.nominal).min(p.upper) - OPEN_RANGE }).collect();
    let upper: Vec<f64> = parameters.iter().map(|p| if p.upper.is_finite() { p.upper } else { centre(p.nominal).max(p.lower) + OPEN_RANGE }).collect();
    let mut points = latin_hypercube(options.starts, &lower, &upper, options.seed);
    if options.include_nominal && parameters.iter().all(|p| p.nominal.is_finite()) {
        if let Some(first) = points.first_mut() {
            *first = parameters.iter().map(|p| p.nominal).collect();
        }
    }
    let starts = points
        .into_par_iter()
        .enumerate()
        .map(|(index, mut point)| {
            for draw in 0..REDRAWS {
                let value = objective.evaluate(&point, Order::Value, &mut objective.memory());
                if value.is_ok_and(|e| e.value.is_finite()) {
                    break;
                }
                let mut rng = stream(options.seed, Purpose::Starts, (1 << 32) + index as u64 * REDRAWS + draw);
                point = lower.iter().zip(&upper).map(|(a, b)| a + (b - a) * uniform(&mut rng)).collect();
            }
            let start = Start { index, ..minimise(objective, &point, &options.optimiser, stop) };
            progress(&start);
            start
        })
        .collect();
    Fit { starts, duration: begin.elapsed() }
}
