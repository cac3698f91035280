//! Likelihoods: from simulations and data to the objective, the negative log-posterior.
//!
//! The objective is always minimised. Values hold every constant (2 pi terms, Jacobians of log transformations).
//!
//! | code | meaning |
//! | --- | --- |
//! | P0480 | a random effect has no variance in the covariance table |
//! | P0481 | a covariance is given twice |
//! | P0482 | an entry of a kind that cannot stand there |

pub mod adjoint;
pub mod composite;
pub mod coordinates;
pub mod covariance;
pub mod cubature;
pub mod distribution;
pub mod ebe;
pub mod fixed;
mod group;
pub mod hazard;
pub mod importance;
pub mod individual;
pub mod integration;
pub mod laplace;
pub mod nodes;
pub mod noise;
pub mod parameters;
pub mod parametrisation;
pub mod population;
pub mod population_rows;
pub mod population_statistics;
pub mod prior;
pub mod problem;
pub mod quadrature;
pub mod simulated;
pub mod simulated_individual;
pub mod snapshot;
pub mod subpopulations;
pub mod synthetic;
mod synthetic_reports;

use crate::ode::SimulationError;
use crate::petab::Scale;
use nalgebra::{DMatrix, DVector};

/// A parameter to estimate. Bounds (within them, what the prior allows) and nominal value are on the estimation scale.
#[derive(Debug, Clone)]
pub struct Estimated {
    /// Identifier.
    pub id: String,
    /// Estimation scale.
    pub scale: Scale,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Nominal value (NaN where the problem gives none).
    pub nominal: f64,
    /// What starting values are drawn from; `None`: uniformly between the bounds.
    pub start: Option<prior::Prior>,
}

/// What to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// The value.
    Value,
    /// Value and gradient.
    Gradient,
    /// Value, gradient and, where the objective has one, an approximate Hessian (Fisher information / Gauss-Newton).
    Fisher,
}

/// A value of the objective.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Negative log-posterior.
    pub value: f64,
    /// Its gradient on the estimation scale (empty for [`Order::Value`]).
    pub gradient: DVector<f64>,
    /// Approximate Hessian, positive semidefinite.
    pub fisher: Option<DMatrix<f64>>,
}

/// Why the objective has no value at a point.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EvaluationError {
    /// A simulation failed.
    #[error("experiment `{experiment}`{}: {source}", individual.as_ref().map(|i| format!(", individual `{i}`")).unwrap_or_default())]
    Simulation {
        /// Where.
        experiment: String,
        /// Whose.
        individual: Option<String>,
        /// Why.
        source: SimulationError,
    },
    /// The density of a measurement is zero or undefined (noise not positive, simulation outside the support).
    #[error("{0}")]
    Density(String),
    /// A prior density is zero or infinite.
    #[error("the prior of `{parameter}` has no finite density at {value}")]
    Prior {
        /// Of which parameter.
        parameter: String,
        /// Its natural value.
        value: f64,
    },
    /// An inner problem (empirical Bayes estimate) did not converge.
    #[error("{0}")]
    Inner(String),
}

/// What an estimator needs to know of a problem.
pub trait Objective: Sync {
    /// Warm starts carried from one evaluation to the next within one optimisation; never shared between starts.
    type Memory: Clone + Send + Sync;

    /// The parameters, in order of the problem's table.
    fn parameters(&self) -> &[Estimated];

    /// A fresh memory.
    fn memory(&self) -> Self::Memory;

    /// Evaluates at `x` (estimation scale).
    fn evaluate(&self, x: &[f64], order: Order, memory: &mut Self::Memory) -> Result<Evaluation, EvaluationError>;
}
