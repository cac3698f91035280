//! mixode: mixed-effects ODE models for single-cell and bulk data.

pub mod cli;
pub mod diag;
pub mod estimate;
pub mod expr;
pub mod jit;
pub mod likelihood;
pub mod linalg;
pub mod model;
pub mod ode;
pub mod petab;
pub mod random;
pub mod report;
pub mod sbml;
