//! Estimation: from an [`Objective`](crate::likelihood::Objective) to a [`Fit`]. Knows nothing of ODEs, cells or files.
//!
//! [`multistart`] draws starting points and runs [`trust_region`] from each; [`uncertainty`] describes the optimum;
//! [`gradient_check`] compares derivatives with finite differences.

mod curvature;
pub mod gradient_check;
pub mod multistart;
mod reflective;
pub mod trust_region;
pub mod uncertainty;

pub use gradient_check::{GradientCheck, GradientCheckOptions, Verdict, gradient_check};
pub use multistart::{
    Control, MultistartOptions, Plateau, Progress, Stages, multistart, multistart_staged, multistart_with, plateau, waterfall,
};
pub use uncertainty::{Bound, ParameterUncertainty, Uncertainty, uncertainty};

use std::time::Duration;

/// Why an optimisation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum StopReason {
    /// The (projected) gradient is small.
    Gradient,
    /// The objective does not change any more.
    Function,
    /// The steps became tiny.
    Step,
    /// Iteration limit.
    Iterations,
    /// Time limit or interruption.
    Interrupted,
    /// No value at the first point or later; with the message.
    Failed(String),
}

impl StopReason {
    /// Whether the optimisation ended at an optimum.
    pub fn converged(&self) -> bool {
        matches!(self, StopReason::Gradient | StopReason::Function | StopReason::Step)
    }
}

/// One optimisation run.
#[derive(Debug, Clone)]
pub struct Start {
    /// Number of the start, from 0.
    pub index: usize,
    /// Starting point (estimation scale).
    pub initial: Vec<f64>,
    /// Objective there (infinite if it failed).
    pub initial_value: f64,
    /// Final point.
    pub point: Vec<f64>,
    /// Objective there.
    pub value: f64,
    /// Gradient there.
    pub gradient: Vec<f64>,
    /// Norm of the gradient without components that push against an active bound.
    pub gradient_norm: f64,
    /// Iterations.
    pub iterations: usize,
    /// Objective evaluations.
    pub evaluations: usize,
    /// Wall time.
    pub duration: Duration,
    /// Why it ended.
    pub stop: StopReason,
    /// Objective after each iteration.
    pub trace: Vec<f64>,
}

/// Result of a multi-start estimation.
#[derive(Debug, Clone)]
pub struct Fit {
    /// All starts in order of their index.
    pub starts: Vec<Start>,
    /// Wall time.
    pub duration: Duration,
}

impl Fit {
    /// The start with the smallest finite objective.
    pub fn best(&self) -> Option<&Start> {
        self.starts.iter().filter(|s| s.value.is_finite()).min_by(|a, b| a.value.total_cmp(&b.value))
    }
}
