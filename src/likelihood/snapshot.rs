//! Likelihood of single cells that were seen once: the density of their measurements over the population, by the nodes that all
//! statistics of an experiment share (NLME.md 3.4-1).

use super::EvaluationError;
use super::nodes::log_sum_exp;
use super::noise::{Density, Measured};
use super::population_statistics::Sample;
use nalgebra::DVector;

/// One measurement of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SnapshotMeasurement {
    /// Index of the noise-free observable among the sample's values.
    pub value: usize,
    /// Index of its noise scale among the sample's values.
    pub noise: usize,
    /// What was measured.
    pub measured: Measured,
}

/// Negative log density of one cell's measurements.
#[derive(Debug, Clone)]
pub struct SnapshotTerm {
    /// Value, all constants included.
    pub value: f64,
    /// Gradient by xi (see [`population_statistics`](super::population_statistics)).
    pub gradient: DVector<f64>,
    /// Number of nodes that carry the sum, 1 / sum of squared shares. If it is about one, the noise is narrower than the distance between
    /// nodes and the value is not reliable: use more nodes, or the marginal of the single cell.
    pub effective_nodes: f64,
}

/// -log sum_q w_q prod_c p(measurement_c | node q) for the simultaneous measurements of one cell.
///
/// # Errors
/// [`EvaluationError::Density`] if the density is zero or undefined at every node.
pub fn snapshot_density(sample: &Sample, cell: &[SnapshotMeasurement]) -> Result<SnapshotTerm, EvaluationError> {
    let mut terms = Vec::with_capacity(sample.len());
    let mut densities: Vec<Vec<Option<Density>>> = vec![Vec::with_capacity(sample.len()); cell.len()];
    let mut failure = None;
    for q in 0..sample.len() {
        let mut term = sample.weights()[q].ln();
        for (c, densities) in cell.iter().zip(&mut densities) {
            match c.measured.density(sample.value(q, c.value), sample.value(q, c.noise)) {
                Ok(d) => {
                    term -= d.value;
                    densities.push(Some(d));
                }
                Err(error) => {
                    term = f64::NEG_INFINITY;
                    failure = Some(error);
                    densities.push(None);
                }
            }
        }
        terms.push(term);
    }
    let Some((log_sum, shares)) = log_sum_exp(&terms) else {
        let default = || EvaluationError::Density("the density of a snapshot vanishes at every node of the population".to_string());
        return Err(failure.unwrap_or_else(default));
    };
    let mut gradient = DVector::zeros(sample.gradient_len());
    if sample.gradient_len() > 0 {
        // The share of a node is its weight times its density, relative to the sum; a node of weight zero has no share to divide.
        let relative = shares.iter().zip(sample.weights().iter()).map(|(share, w)| if *w > 0.0 { share / w } else { 0.0 });
        gradient -= sample.weight_derivative(&DVector::from_iterator(sample.len(), relative));
        for (c, densities) in cell.iter().zip(&densities) {
            // A node without a density has share zero.
            let weighted = |slope: &dyn Fn(&Density) -> f64| {
                DVector::from_iterator(
                    sample.len(),
                    densities.iter().zip(shares.iter()).map(|(d, share)| d.as_ref().map_or(0.0, |d| share * slope(d))),
                )
            };
            gradient += sample.derivative(c.value, &weighted(&|d| d.dy)) + sample.derivative(c.noise, &weighted(&|d| d.ds));
        }
    }
    Ok(SnapshotTerm { value: -log_sum, gradient, effective_nodes: 1.0 / shares.norm_squared() })
}
