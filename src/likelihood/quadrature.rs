//! Marginal likelihood of one individual by adaptive Gauss-Hermite quadrature: nodes centred and scaled by the empirical Bayes estimate
//! and the curvature there (Pinheiro and Bates 1995). Converges to the exact value as the number of nodes grows; one node is Laplace's
//! approximation.

use super::covariance::Omega;
use super::ebe::cell_parameters;
use super::individual::{Conditional, ConditionalOrder, Scope};
use super::laplace::IndividualTerm;
use super::nodes::{Nodes, log_sum_exp};
use super::{EvaluationError, Order};
use nalgebra::DVector;

/// Marginal likelihood by quadrature.
#[derive(Debug, Clone)]
pub struct Quadrature {
    /// Negative log marginal likelihood.
    pub value: f64,
    /// Gradient by phi_typical (empty for [`Order::Value`]).
    pub d_phi: DVector<f64>,
    /// Gradient by the natural covariance parameters (empty for [`Order::Value`]).
    pub d_parameters: DVector<f64>,
    /// Share of the proposal's weight at nodes without a value; they count as zero density.
    pub failed: f64,
}

/// Largest weight of the rule at nodes that may fail.
const FAILED: f64 = 1e-3;

/// Integrates over the random effects with the rule `nodes` around the estimate of `laplace`, which
/// [`individual_marginal`](super::laplace::individual_marginal) gave at the same parameters.
///
/// The gradient is Fisher's identity: the mean of the gradient of the joint density over the distribution of the effects given the data,
/// by the same nodes. It converges to the gradient of the exact marginal as fast as the value does, but it is not the derivative of the
/// quadrature formula, whose nodes move with the parameters.
///
/// # Errors
/// The first error of the conditional likelihood if nodes with more than 0.1 % of the rule's weight fail; [`EvaluationError::Inner`] if
/// the sum is not finite.
pub fn adaptive_gauss_hermite<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    laplace: &IndividualTerm,
    nodes: &Nodes,
    order: Order,
) -> Result<Quadrature, EvaluationError> {
    let gradient = order > Order::Value;
    let conditional_order = if gradient { ConditionalOrder::Gradient } else { ConditionalOrder::Value };
    let mut terms = Vec::with_capacity(nodes.len());
    let mut gradients = Vec::new();
    let mut failed = 0.0;
    for q in 0..nodes.len() {
        let z = nodes.z.column(q);
        let b = &laplace.b + &laplace.posterior_root * z;
        let point = conditional.evaluate(&cell_parameters(phi_typical, targets, &b), conditional_order, Scope::All);
        match point {
            Ok(data) => {
                // The density of the rule, exp(-|z|^2/2) (2 pi)^(-n_b/2), stands under the integrand; (2 pi)^(-n_b/2) cancels the prior's.
                terms.push(nodes.weights[q].ln() - data.value - omega.prior(&b) + 0.5 * z.norm_squared());
                if gradient {
                    gradients.push((data.gradient, omega.prior_gradient(&b)));
                }
            }
            Err(error) => {
                failed += nodes.weights[q];
                if failed > FAILED {
                    return Err(error);
                }
                terms.push(f64::NEG_INFINITY);
                if gradient {
                    gradients.push((DVector::zeros(phi_typical.len()), DVector::zeros(omega.dd.len())));
                }
            }
        }
    }
    let log_det_root = if targets.is_empty() { 0.0 } else { laplace.posterior_root.determinant().abs().ln() };
    let Some((log_sum, shares)) = log_sum_exp(&terms).filter(|_| log_det_root.is_finite()) else {
        return Err(EvaluationError::Inner("the marginal likelihood of an individual is not finite at any node".to_string()));
    };
    let mean = |n: usize, part: &dyn Fn(usize) -> DVector<f64>| {
        (0..gradients.len()).fold(DVector::zeros(if gradient { n } else { 0 }), |sum, q| sum + part(q) * shares[q])
    };
    Ok(Quadrature {
        value: -log_sum - log_det_root,
        d_phi: mean(phi_typical.len(), &|q| gradients[q].0.clone()),
        d_parameters: mean(omega.dd.len(), &|q| gradients[q].1.clone()),
        failed,
    })
}
