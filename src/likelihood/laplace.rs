//! Marginal likelihood of one individual by Laplace's method, with its exact gradient (NLME.md 2.4).
//!
//! NLL = J(b) + 1/2 log det C at the empirical Bayes estimate b, with C = J_bb (exact) or its Gauss-Newton form. In whitened coordinates
//! u = L^-1 b this is
//!
//! data(phi) + 1/2 |u|^2 + 1/2 log det A,  A = I + (Z L)^T (Hess data) (Z L),
//!
//! because 1/2 log det D cancels between prior and determinant. That form has no inverse of D and stays exact as D goes to zero.

use super::covariance::Omega;
use super::ebe::{EbeOptions, WarmStart, Whitened, cell_parameters, empirical_bayes_estimate};
use super::individual::{Conditional, ConditionalOrder, Curvature, Scope, missing};
use super::quadrature::{Integral, Rule, half, integrate};
use super::{EvaluationError, Order};
use nalgebra::{DMatrix, DVector};

/// Settings of the marginal likelihood of an individual.
#[derive(Debug, Clone, Default)]
pub struct MarginalOptions {
    /// Matrix in the determinant.
    pub curvature: Curvature,
    /// Nodes around the estimate that take the place of the Laplace approximation (for as many effects as they have rows); `curvature` must
    /// be the exact one.
    pub rule: Option<Rule>,
    /// Search for the empirical Bayes estimate.
    pub ebe: EbeOptions,
}

/// An eigenvalue of A below this times the largest one is raised to it.
const EIGENVALUE_FLOOR: f64 = 1e-8;

/// An estimate further than this many prior standard deviations from the typical individual is flagged.
const FAR: f64 = 8.0;

/// The three parts of a Laplace marginal; their sum is the value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    /// -log p(data | b).
    pub data: f64,
    /// 1/2 b^T D^-1 b + 1/2 log det D.
    pub prior: f64,
    /// 1/2 log det C, or what nodes put in its place. The (2 pi)^(n_b/2) of the prior and of the integral cancel.
    pub half_log_det: f64,
}

/// What deserves attention in a marginal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Number of eigenvalues of A that had to be raised because the curvature at the estimate is not positive definite. The gradient is
    /// then approximate.
    pub floored: usize,
    /// The estimate lies more than eight prior standard deviations from the typical individual.
    pub far: bool,
    /// The search met its tolerance.
    pub converged: bool,
    /// Distinct modes within three units of J (only known with several starting points).
    pub modes: usize,
}

/// Marginal likelihood of one individual.
#[derive(Debug, Clone)]
pub struct IndividualTerm {
    /// Negative log marginal likelihood.
    pub value: f64,
    /// Its gradient by phi_typical, n_phi (empty for [`Order::Value`]).
    pub d_phi: DVector<f64>,
    /// Its gradient by the natural covariance parameters, in the order of [`Omega::parameters`] (empty for [`Order::Value`]).
    pub d_parameters: DVector<f64>,
    /// Empirical Bayes estimate.
    pub b: DVector<f64>,
    /// C, the matrix in the determinant: J_bb or what [`Curvature`] puts in its place, n_b by n_b.
    pub hessian: DMatrix<f64>,
    /// Inverse of the exact J_bb (floored as flagged): the normal approximation of the covariance of b given the data.
    pub posterior: DMatrix<f64>,
    /// A square root of `posterior`: posterior = root root^T.
    pub posterior_root: DMatrix<f64>,
    /// Parts of the value.
    pub parts: Parts,
    /// What deserves attention.
    pub flags: Flags,
    /// Evaluations of the conditional likelihood with derivatives that the search took.
    pub evaluations: usize,
}

/// A symmetric matrix near the identity with its floored spectrum.
struct Spectrum {
    vectors: DMatrix<f64>,
    values: DVector<f64>,
    floored: usize,
}

impl Spectrum {
    fn new(a: &DMatrix<f64>) -> Self {
        let eigen = a.clone().symmetric_eigen();
        let floor = EIGENVALUE_FLOOR * eigen.eigenvalues.amax().max(1.0);
        let floored = eigen.eigenvalues.iter().filter(|x| **x < floor).count();
        Spectrum { vectors: eigen.eigenvectors, values: eigen.eigenvalues.map(|x| x.max(floor)), floored }
    }

    fn log_det(&self) -> f64 {
        self.values.iter().map(|x| x.ln()).sum()
    }

    fn apply(&self, f: impl Fn(f64) -> f64) -> DMatrix<f64> {
        &self.vectors * DMatrix::from_diagonal(&self.values.map(f)) * self.vectors.transpose()
    }

    /// A^-1/2 as V diag(lambda^-1/2), without the rotation back.
    fn inverse_root(&self) -> DMatrix<f64> {
        &self.vectors * DMatrix::from_diagonal(&self.values.map(|x| x.sqrt().recip()))
    }
}

/// Negative log marginal likelihood of one individual with parameters phi_typical + Z b, b ~ N(0, D), where effect k moves component
/// `targets[k]`.
///
/// [`Order::Fisher`] gives what [`Order::Gradient`] gives. With a gradient, the estimate is stored in `warm` for the next call, which is
/// best made at nearby parameters; without one, only if `warm` is empty.
///
/// The gradient is exact: it holds the derivative of the estimate through the exact Hessian, and that of the determinant through
/// [`Conditional::trace_gradient`]. The determinant and its derivative use the matrix of `options.curvature`. With a rule, nodes move with
/// the estimate and its exact curvature, and the same derivatives carry them over.
///
/// # Errors
/// Those of the conditional likelihood and of the search; [`EvaluationError::Inner`] if the value is not finite.
///
/// # Panics
/// If `targets` does not have one entry below `phi_typical.len()` for each effect of `omega`.
pub fn individual_marginal<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    options: &MarginalOptions,
    warm: &mut WarmStart,
    order: Order,
) -> Result<IndividualTerm, EvaluationError> {
    assert_eq!(targets.len(), omega.dimension(), "one target for each random effect");
    let gradient = order > Order::Value;
    if targets.is_empty() {
        return without_effects(conditional, phi_typical, omega, gradient);
    }
    let scope = if gradient { Scope::All } else { Scope::Random };
    let mode = empirical_bayes_estimate(conditional, phi_typical, targets, omega, &options.ebe, warm, scope)?;
    let mut whitened = Whitened { conditional, phi_typical, targets, omega };
    let hessian = mode.data.hessian.as_ref().ok_or_else(missing)?;
    let exact = whitened.curvature(hessian);
    let spectrum = Spectrum::new(&exact);
    // C in whitened coordinates, and its spectrum: of A itself or of its Gauss-Newton form.
    let other = match options.curvature {
        Curvature::Exact => None,
        Curvature::GaussNewton => Some(mode.data.gauss_newton.clone().ok_or_else(missing)?),
        Curvature::Expected => Some(whitened.conditional.information(&whitened.phi(&mode.u))?),
    };
    let (determinant, other) = match other {
        None => (exact, None),
        Some(matrix) => {
            let a = whitened.curvature(&matrix);
            let spectrum = Spectrum::new(&a);
            (a, Some(spectrum))
        }
    };
    let determinant_spectrum = other.as_ref().unwrap_or(&spectrum);
    let u = &mode.u;
    let inverse = spectrum.apply(f64::recip);
    let mut integral = match &options.rule {
        Some(rule) => integrate(&mut whitened, u, &inverse, rule, order)?,
        None => {
            let at_mode = u * -u.transpose();
            Integral {
                value: mode.value + 0.5 * determinant_spectrum.log_det(),
                gradient: mode.data.gradient.clone(),
                spread: at_mode,
                shift: DVector::zeros(u.len()),
                curvature: vec![(1.0, determinant_spectrum.apply(|x| 0.5 / x))],
            }
        }
    };
    let value = integral.value;
    if !value.is_finite() {
        return Err(EvaluationError::Inner("the marginal likelihood of an individual is not finite".to_string()));
    }
    let root = &omega.l * spectrum.inverse_root();
    let mut inverse_l = DMatrix::identity(targets.len(), targets.len());
    // The diagonal of L is positive, so the substitution cannot fail.
    omega.l.solve_lower_triangular_mut(&mut inverse_l);
    let mut term = IndividualTerm {
        value,
        d_phi: DVector::zeros(0),
        d_parameters: DVector::zeros(0),
        b: mode.b.clone(),
        hessian: inverse_l.tr_mul(&(&determinant * &inverse_l)),
        posterior: &root * root.transpose(),
        posterior_root: root,
        parts: Parts {
            data: mode.data.value,
            prior: 0.5 * u.norm_squared() + 0.5 * omega.log_det,
            half_log_det: value - mode.value - 0.5 * omega.log_det,
        },
        flags: Flags {
            floored: determinant_spectrum.floored.max(spectrum.floored),
            far: u.amax() > FAR,
            converged: mode.converged,
            modes: mode.modes,
        },
        evaluations: mode.evaluations,
    };
    let cross = whitened.project(hessian);
    if !options.ebe.starts.is_empty() {
        warm.note_search(&mode);
    }
    if warm.is_empty() || gradient {
        warm.store(phi_typical, omega, u, &cross, &inverse);
    }
    if !gradient {
        return Ok(term);
    }
    // A mode at a kink of J, as a time of switching that fits best where a measurement was made, stays there when the parameters move: the data term then
    // changes with the prior's pull, whatever the slopes on either side, and the curvature stays as it is.
    let kink = mode.kink && options.rule.is_none();
    if kink {
        let mut pull = u.clone();
        inverse_l.tr_mul_to(u, &mut pull);
        for (k, &j) in targets.iter().enumerate() {
            integral.gradient[j] = -pull[k];
        }
    }
    // T = gradient by phi of tr(Z L M L^T Z^T Hess), with M the derivative of the value by A: the third derivatives of the data term.
    let phi = whitened.phi(u);
    let mut trace = DVector::zeros(phi_typical.len());
    let mut by_curvature = DMatrix::zeros(targets.len(), targets.len());
    for (sign, m) in &integral.curvature {
        let block = &omega.l * m * omega.l.transpose();
        let mut weights = DMatrix::zeros(phi_typical.len(), phi_typical.len());
        for (k, &i) in targets.iter().enumerate() {
            for (l, &j) in targets.iter().enumerate() {
                weights[(i, j)] += block[(k, l)];
            }
        }
        if !kink {
            trace += whitened.conditional.trace_gradient(&phi, &mode.data, targets, &weights, options.curvature)? * *sign;
        }
        by_curvature += m * *sign;
    }
    // Derivative of the value by u, carried over to the parameters by du = -A^-1 ((Z L)^T Hess dphi_typical - E u).
    let random = DVector::from_iterator(targets.len(), targets.iter().map(|&j| trace[j]));
    let adjoint = &inverse * (omega.l.tr_mul(&random) + &integral.shift);
    term.d_phi = &integral.gradient + &trace - cross.tr_mul(&adjoint);
    // By D, with E = L^-1 dD L^-T and dL = L half(E): u moves by A^-1 E u - half(E) u, and A by half(E)^T (A - I) + (A - I) half(E) besides
    // its third derivatives.
    let excess = determinant_spectrum.apply(|x| x - 1.0);
    let by_root = &integral.spread + excess * by_curvature * 2.0 - &integral.shift * u.transpose();
    let e = omega.dd.iter().map(|dd| {
        let half = &inverse_l * dd;
        half * inverse_l.transpose()
    });
    term.d_parameters = DVector::from_iterator(
        omega.dd.len(),
        e.map(|e| {
            let eu = &e * u;
            by_root.dot(&half(&e)) + adjoint.dot(&eu)
        }),
    );
    Ok(term)
}

/// The likelihood of an individual that no random effect reaches.
fn without_effects<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    omega: &Omega,
    gradient: bool,
) -> Result<IndividualTerm, EvaluationError> {
    let order = if gradient { ConditionalOrder::Gradient } else { ConditionalOrder::Value };
    let data = conditional.evaluate(phi_typical, order, Scope::All)?;
    Ok(IndividualTerm {
        value: data.value,
        d_phi: if gradient { data.gradient } else { DVector::zeros(0) },
        d_parameters: DVector::zeros(if gradient { omega.dd.len() } else { 0 }),
        b: DVector::zeros(0),
        hessian: DMatrix::zeros(0, 0),
        posterior: DMatrix::zeros(0, 0),
        posterior_root: DMatrix::zeros(0, 0),
        parts: Parts { data: data.value, ..Parts::default() },
        flags: Flags { converged: true, modes: 1, ..Flags::default() },
        evaluations: 1,
    })
}

impl IndividualTerm {
    /// Parameters of the individual at its empirical Bayes estimate.
    pub fn parameters(&self, phi_typical: &[f64], targets: &[usize]) -> Vec<f64> {
        cell_parameters(phi_typical, targets, &self.b)
    }
}
