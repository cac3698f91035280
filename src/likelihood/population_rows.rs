//! Statistics over the population at the times of one experiment.

use super::covariance::Omega;
use super::population::{Chain, PopulationOptions};
use super::problem::Summary;
use super::simulated::Pool;
use super::{Evaluation, EvaluationError, Order};
use crate::petab::{Nlme, Problem};

/// The population rows of one experiment.
pub struct PopulationRows {}

impl PopulationRows {
    /// Gathers the rows.
    pub fn new(_pool: &Pool, _problem: &Problem, _nlme: &Nlme, _experiment: usize, _measurements: &[usize], _options: &PopulationOptions) -> Result<Self, String> {
        Err("bulk and snapshot rows are not supported yet".into())
    }

    pub(super) fn add(&self, _pool: &Pool, _natural: &[f64], _omega: &Omega, _chain: &Chain, _order: Order, _evaluation: &mut Evaluation) -> Result<(), EvaluationError> {
        Ok(())
    }

    pub(super) fn summarise(&self, _pool: &Pool, _natural: &[f64], _omega: &Omega, _summary: &mut Summary) -> Result<(), EvaluationError> {
        Ok(())
    }
}
