//! Marginal likelihood of one individual by nodes centred and scaled by the empirical Bayes estimate and the curvature there: adaptive
//! Gauss-Hermite quadrature (Pinheiro and Bates 1995), which converges to the exact value as the number of nodes grows and with one node is
//! Laplace's approximation, and importance sampling with fixed draws.

use super::ebe::Whitened;
use super::importance::Proposal;
use super::individual::{Conditional, ConditionalOrder, Scope};
use super::nodes::{Nodes, log_sum_exp};
use super::{EvaluationError, Order};
use crate::random::sobol_normal;
use nalgebra::{DMatrix, DVector};
use std::f64::consts::PI;

/// Degrees of freedom of the distribution that draws come from.
pub const PROPOSAL_DEGREES: f64 = 5.0;

/// Nodes z, to be placed at u + C z where u is the mode and C C^T the inverse of the curvature there.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Nodes, one column each.
    z: DMatrix<f64>,
    /// Logarithms of what the integrand is multiplied with at each node, without (2 pi)^(n_b/2).
    log_weights: Vec<f64>,
    /// Share of the rule at each node.
    shares: Vec<f64>,
}

impl Rule {
    /// Tensor product of Gauss-Hermite rules with `points` points each.
    pub fn gauss_hermite(dimension: usize, points: usize) -> Rule {
        let nodes = Nodes::gauss_hermite(dimension, points);
        // The density of the rule stands under the integrand. Nodes of small weight count as much as others.
        let log_weights = nodes.z.column_iter().zip(&nodes.weights).map(|(z, w)| w.ln() + 0.5 * z.norm_squared()).collect();
        Rule { z: nodes.z, log_weights, shares: nodes.weights }
    }

    /// Quasi-random draws of the t distribution with [`PROPOSAL_DEGREES`]. `None` without draws.
    pub fn draws(dimension: usize, draws: usize, seed: u64) -> Option<Rule> {
        let scores = DMatrix::from_vec(dimension + 1, draws, sobol_normal(draws, dimension + 1, seed));
        let proposal = Proposal::student(&scores, PROPOSAL_DEGREES).filter(|p| !p.is_empty())?;
        let n = draws as f64;
        let constant = n.ln() + 0.5 * dimension as f64 * (2.0 * PI).ln();
        let (z, log_density) = proposal.parts();
        Some(Rule { z, log_weights: log_density.iter().map(|d| -d - constant).collect(), shares: vec![n.recip(); draws] })
    }
}

/// Largest share of the rule at nodes that may fail.
const FAILED: f64 = 1e-3;

/// Approximation V of the negative log integral of exp(-data - |u|^2/2) (2 pi)^(-n_b/2) over u, with what its derivative is made of. The
/// data term and its gradient g are taken at phi_typical + Z L u.
pub(super) struct Integral {
    /// V.
    pub value: f64,
    /// Derivative by phi_typical with everything else fixed: the mean of g.
    pub gradient: DVector<f64>,
    /// Mean of (L^T Z^T g) u^T: how V changes with L, at fixed nodes.
    pub spread: DMatrix<f64>,
    /// Derivative of V by a shift of all nodes.
    pub shift: DVector<f64>,
    /// Derivative of V by the curvature A that scales the nodes, as a sum of positive semidefinite matrices with signs.
    pub curvature: Vec<(f64, DMatrix<f64>)>,
}

/// Integrates with the nodes u + C z of a rule, where C is the lower Cholesky factor of `inverse`, the inverse of the curvature A.
///
/// The nodes move with the parameters, through the mode and the curvature: the derivative is Fisher's identity plus what that displacement
/// adds. With dC = -C half(C^T dA C), where half takes the lower triangle with half of the diagonal, the part of C in the derivative is
/// linear in dA.
///
/// # Errors
/// The first error of the conditional likelihood if nodes with more than 0.1 % of the rule fail; [`EvaluationError::Inner`] if the sum is
/// not finite.
pub(super) fn integrate<C: Conditional + ?Sized>(
    whitened: &mut Whitened<C>,
    mode: &DVector<f64>,
    inverse: &DMatrix<f64>,
    rule: &Rule,
    order: Order,
) -> Result<Integral, EvaluationError> {
    let not_finite = || EvaluationError::Inner("the marginal likelihood of an individual is not finite at any node".to_string());
    let root = inverse.clone().cholesky().ok_or_else(not_finite)?.l();
    let gradient = order > Order::Value;
    let conditional_order = if gradient { ConditionalOrder::Gradient } else { ConditionalOrder::Value };
    let (n, nb) = (whitened.phi_typical.len(), mode.len());
    let mut terms = Vec::with_capacity(rule.shares.len());
    let mut points = Vec::new();
    let mut failed = 0.0;
    for (q, z) in rule.z.column_iter().enumerate() {
        let u = mode + &root * z;
        match whitened.conditional.evaluate(&whitened.phi(&u), conditional_order, Scope::All) {
            Ok(data) => {
                terms.push(rule.log_weights[q] - data.value - 0.5 * u.norm_squared());
                points.push((u, data.gradient));
            }
            Err(error) => {
                // Data that are impossible at a node, as the time of an event that never happens there, have the density zero: that is no failure.
                failed += if matches!(error, EvaluationError::Density(_)) { 0.0 } else { rule.shares[q] };
                if failed > FAILED {
                    return Err(error);
                }
                terms.push(f64::NEG_INFINITY);
                points.push((u, DVector::zeros(if gradient { n } else { 0 })));
            }
        }
    }
    let log_det_root: f64 = root.diagonal().iter().map(|x| x.ln()).sum();
    let (log_sum, shares) = log_sum_exp(&terms).filter(|_| log_det_root.is_finite()).ok_or_else(not_finite)?;
    let mut integral = Integral {
        value: -log_sum - log_det_root,
        gradient: DVector::zeros(n),
        spread: DMatrix::zeros(nb, nb),
        shift: DVector::zeros(nb),
        curvature: Vec::new(),
    };
    if !gradient {
        return Ok(integral);
    }
    // Mean of the gradient of the integrand by u times z^T: how V changes with C, without its determinant.
    let mut stretch = DMatrix::zeros(nb, nb);
    for (((u, g), z), share) in points.iter().zip(rule.z.column_iter()).zip(shares.iter()).filter(|(_, share)| **share > 0.0) {
        let random = DVector::from_iterator(nb, whitened.targets.iter().map(|&j| g[j]));
        let slope = whitened.omega.l.tr_mul(&random);
        integral.gradient += g * *share;
        integral.spread += &slope * u.transpose() * *share;
        let slope = slope + u;
        integral.shift += &slope * *share;
        stretch += slope * z.transpose() * *share;
    }
    let lower = half(&(root.tr_mul(&stretch) - DMatrix::identity(nb, nb)));
    let eigen = (-(&lower + lower.transpose()) * 0.5).symmetric_eigen();
    for sign in [1.0, -1.0] {
        let part =
            &eigen.eigenvectors * DMatrix::from_diagonal(&eigen.eigenvalues.map(|x| (sign * x).max(0.0))) * eigen.eigenvectors.transpose();
        if part.amax() > 0.0 {
            integral.curvature.push((sign, &root * part * root.transpose()));
        }
    }
    Ok(integral)
}

/// The lower triangle with half of the diagonal.
pub(super) fn half(m: &DMatrix<f64>) -> DMatrix<f64> {
    DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Greater => m[(i, j)],
        std::cmp::Ordering::Equal => 0.5 * m[(i, j)],
        std::cmp::Ordering::Less => 0.0,
    })
}
