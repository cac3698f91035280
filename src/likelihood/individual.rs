//! What the marginal likelihood of one individual needs to know of its data.
//!
//! A cell has the parameter vector phi = phi_typical + Z b, where Z selects: effect k moves the component `targets[k]`, and several effects
//! may move the same one. Components are on a scale on which random effects are additive, normally log parameters.

use super::EvaluationError;
use nalgebra::{DMatrix, DVector};

/// What to compute of a conditional likelihood; each order includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionalOrder {
    /// The value.
    Value,
    /// The gradient (first-order sensitivities).
    Gradient,
    /// The Gauss-Newton matrix (first-order sensitivities).
    GaussNewton,
    /// The Hessian (second-order sensitivities).
    Hessian,
}

/// Which derivatives are read. The others may be left zero, which saves sensitivities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Gradient entries of the components that random effects move, and matrix entries with row *and* column among them.
    Random,
    /// The whole gradient, and matrix entries with row *or* column among the components that random effects move.
    All,
}

/// Which second-derivative matrix of the conditional likelihood stands in the determinant of the Laplace approximation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Curvature {
    /// The Hessian (Laplace approximation).
    #[default]
    Exact,
    /// The Gauss-Newton matrix, with the noise curvature of the measured values.
    GaussNewton,
    /// The expected information, with the expectation of the noise curvature (first-order conditional estimation with interaction as NONMEM
    /// has it).
    Expected,
}

/// Negative log-likelihood of one individual's data given its parameters, with derivatives by phi.
#[derive(Debug, Clone)]
pub struct ConditionalValue {
    /// -log p(data | phi), all constants included.
    pub value: f64,
    /// Gradient, n_phi (empty for [`ConditionalOrder::Value`]).
    pub gradient: DVector<f64>,
    /// Gauss-Newton matrix, n_phi by n_phi: noise curvature between first derivatives of the simulation. Present from
    /// [`ConditionalOrder::GaussNewton`] on.
    pub gauss_newton: Option<DMatrix<f64>>,
    /// Hessian, n_phi by n_phi. Present for [`ConditionalOrder::Hessian`].
    pub hessian: Option<DMatrix<f64>>,
}

/// The data of one individual given its parameters.
pub trait Conditional {
    /// Number n_phi of parameters.
    fn dimension(&self) -> usize;

    /// Negative log-likelihood at `phi`.
    fn evaluate(&mut self, phi: &[f64], order: ConditionalOrder, scope: Scope) -> Result<ConditionalValue, EvaluationError>;

    /// Expected information of the data about phi, n_phi by n_phi, positive semidefinite: the Gauss-Newton matrix with the expected
    /// curvature of the noise distribution.
    ///
    /// # Errors
    /// Those of an evaluation; the default has none to give.
    fn information(&mut self, _phi: &[f64]) -> Result<DMatrix<f64>, EvaluationError> {
        Err(missing())
    }

    /// Gradient by phi of tr(M C(phi)) with C the matrix that `which` names and M = `weights` symmetric, n_phi by n_phi, zero
    /// outside the rows and columns of the components `targets` that random effects move. `at` is the conditional likelihood at `phi`, with
    /// all derivatives of [`Scope::All`].
    ///
    /// Override where third derivatives are at hand (for the Gauss-Newton matrix, second ones). The default takes central differences,
    /// see [`trace_gradient_by_differences`].
    fn trace_gradient(
        &mut self,
        phi: &[f64],
        at: &ConditionalValue,
        targets: &[usize],
        weights: &DMatrix<f64>,
        which: Curvature,
    ) -> Result<DVector<f64>, EvaluationError> {
        trace_gradient_by_differences(self, phi, at, targets, weights, which)
    }
}

/// Length of the steps along the directions in which M is the identity: a twentieth of a standard deviation of the conditional
/// distribution when M is its covariance. The truncation error is h^4/30 times a fifth derivative in these units, and errors e of the
/// simulated Hessian enter as about e/h, so that h must not be much smaller.
const STEP: f64 = 0.05;

/// Length of the steps along components without random effects, relative to max(1, |phi_j|).
const FIXED_STEP: f64 = 0.01;

/// The default of [`Conditional::trace_gradient`].
///
/// Hessian: third derivatives are symmetric, so with M = sum_r s_r v_r v_r^T (s_r = 1 or -1) the gradient is the sum over r of
/// s_r d/dh Hessian(phi + h v_r) v_r, one directional difference for each random component rather than one for each parameter. The other
/// matrices have no such symmetry and are differenced along every component.
///
/// # Errors
/// Those of the evaluations.
pub fn trace_gradient_by_differences<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi: &[f64],
    at: &ConditionalValue,
    targets: &[usize],
    weights: &DMatrix<f64>,
    which: Curvature,
) -> Result<DVector<f64>, EvaluationError> {
    let n = phi.len();
    let mut random = targets.to_vec();
    random.sort_unstable();
    random.dedup();
    random.retain(|&j| weights[(j, j)] != 0.0);
    let point = |direction: &DVector<f64>, h: f64| phi.iter().zip(direction.iter()).map(|(p, d)| p + h * d).collect::<Vec<f64>>();
    let mut result = DVector::zeros(n);
    match which {
        Curvature::Exact if second_order_columns(n, random.len()) > MOST_SECOND_ORDER => {
            // Where there are many parameters, gradients at more points cost less than Hessians.
            let mut gradient = |phi: &[f64]| Ok(conditional.evaluate(phi, ConditionalOrder::Gradient, Scope::All)?.gradient);
            let hessian = at.hessian.as_ref().ok_or_else(missing)?;
            for (sign, direction) in directions(weights, &random) {
                let (ahead, behind) = (gradient(&point(&direction, MEDIUM_STEP))?, gradient(&point(&direction, -MEDIUM_STEP))?);
                let square = MEDIUM_STEP * MEDIUM_STEP;
                let bend = (&ahead + &behind - &at.gradient * 2.0) / square;
                // The first derivative is known exactly, which tells the third; with the second it tells how large the fourth may be.
                let slope = random.iter().fold(DVector::zeros(n), |sum, &j| sum + hessian.row(j).transpose() * direction[j]);
                let third = ((ahead - behind) / (2.0 * MEDIUM_STEP) - slope).amax() * 6.0 / square;
                let error = square / 12.0 * third * third / bend.amax().max(f64::MIN_POSITIVE);
                if error <= 1e-6 * bend.amax() + 1e-8 * at.gradient.amax().max(1.0) {
                    result += bend * sign;
                    continue;
                }
                let mut sum = |h: f64| Ok(gradient(&point(&direction, h))? + gradient(&point(&direction, -h))?);
                result += bend_at_zero(&mut sum, &at.gradient)? * sign;
            }
        }
        Curvature::Exact => {
            for (sign, direction) in directions(weights, &random) {
                let mut product = |h: f64| -> Result<DVector<f64>, EvaluationError> {
                    let value = conditional.evaluate(&point(&direction, h), ConditionalOrder::Hessian, Scope::All)?;
                    let hessian = value.hessian.ok_or_else(missing)?;
                    // Only the rows of random components are filled; the matrix is symmetric.
                    Ok(random.iter().fold(DVector::zeros(n), |sum, &j| sum + hessian.row(j).transpose() * direction[j]))
                };
                result += derivative_at_zero(&mut product, STEP, ACCURACY)? * sign;
            }
        }
        Curvature::GaussNewton | Curvature::Expected => {
            for l in 0..n {
                let mut direction = DVector::zeros(n);
                direction[l] = if random.contains(&l) { weights[(l, l)].abs().sqrt() * STEP } else { FIXED_STEP * phi[l].abs().max(1.0) };
                let length = direction[l];
                let mut trace = |h: f64| -> Result<DVector<f64>, EvaluationError> {
                    let at = point(&direction, h);
                    let matrix = match which {
                        Curvature::Expected => conditional.information(&at)?,
                        _ => conditional.evaluate(&at, ConditionalOrder::GaussNewton, Scope::Random)?.gauss_newton.ok_or_else(missing)?,
                    };
                    let sum = random.iter().flat_map(|&i| random.iter().map(move |&j| (i, j))).map(|p| weights[p] * matrix[p]).sum();
                    Ok(DVector::from_element(1, sum))
                };
                result[l] = derivative_at_zero(&mut trace, 1.0, 0.01 * ACCURACY)?[0] / length;
            }
        }
    }
    Ok(result)
}

/// First derivative at 0 by central differences of fourth order, (8 (f(h) - f(-h)) - f(2h) + f(-2h)) / 12h.
///
/// The two differences of second order in it tell how far h is from small: for a function that changes over a length L they are off by
/// (h/L)^2/6, and what is left of that in the fourth order is about the square of it. Where that is too much, as at the edge beyond which an
/// event never happens, h is halved.
fn derivative_at_zero(f: &mut Vector, h: f64, accuracy: f64) -> Result<DVector<f64>, EvaluationError> {
    let mut slope = |h: f64| -> Result<DVector<f64>, EvaluationError> { Ok((f(h)? - f(-h)?) / (2.0 * h)) };
    let mut far = slope(2.0 * h)?;
    let mut step = h;
    loop {
        let near = slope(step)?;
        let error = (&near - &far).amax() / 3.0;
        let result = (&near * 4.0 - &far) / 3.0;
        let size = result.amax();
        if error * error <= accuracy * size.max(1e-3) * size.max(0.1) {
            return Ok(result);
        }
        if step < h / HALVINGS {
            // Differences that still grow are those across a jump, which has no derivative; beside it there is none to speak of.
            return Ok(if error > 0.3 * near.amax() { result * 0.0 } else { result });
        }
        far = near;
        step *= 0.5;
    }
}

/// Second-order sensitivities of n parameters, `random` of which are in all their pairs.
fn second_order_columns(n: usize, random: usize) -> usize {
    random * (random + 1) / 2 + random * (n - random)
}

/// With more second-order sensitivities than these, differences of gradients take the place of differences of Hessians.
const MOST_SECOND_ORDER: usize = 40;

/// Length of the steps of second differences where higher derivatives are small.
const MEDIUM_STEP: f64 = 0.1;

/// Length of the steps of second differences, longer than [`STEP`] because errors e of the gradients enter as about e/h^2.
const LONG_STEP: f64 = 0.2;

/// Second derivative at 0 of a vector with the value `centre` there, from the sums f(h) + f(-h), by central differences of fourth order. The
/// step is halved as in [`derivative_at_zero`], as long as that brings the second-order differences closer together.
fn bend_at_zero(sum: &mut Vector, centre: &DVector<f64>) -> Result<DVector<f64>, EvaluationError> {
    let mut bend = |h: f64| -> Result<DVector<f64>, EvaluationError> { Ok((sum(h)? - centre * 2.0) / (h * h)) };
    let mut far = bend(2.0 * LONG_STEP)?;
    let mut step = LONG_STEP;
    let mut last: Option<(f64, DVector<f64>)> = None;
    loop {
        let near = bend(step)?;
        let error = (&near - &far).amax() / 3.0;
        let result = (&near * 4.0 - &far) / 3.0;
        if let Some((before, best)) = last
            && error > 0.5 * before
        {
            return Ok(best);
        }
        let size = result.amax();
        if error * error <= ACCURACY * size.max(1e-3) * size.max(0.1) || step < LONG_STEP / HALVINGS {
            return Ok(result);
        }
        last = Some((error, result));
        far = near;
        step *= 0.5;
    }
}

/// Relative accuracy at which the differences are good enough.
const ACCURACY: f64 = 1e-8;

/// Steps are shortened by this factor at most: below, the errors of the simulation outweigh those of the difference.
const HALVINGS: f64 = 100.0;

type Vector<'a> = dyn FnMut(f64) -> Result<DVector<f64>, EvaluationError> + 'a;

/// Signed directions v_r with M = sum_r s_r v_r v_r^T, from the eigenvectors of M scaled to unit diagonal, so that components of different
/// size keep their digits.
fn directions(weights: &DMatrix<f64>, random: &[usize]) -> Vec<(f64, DVector<f64>)> {
    if random.is_empty() {
        return Vec::new();
    }
    let scale: Vec<f64> = random.iter().map(|&j| weights[(j, j)].abs().sqrt()).collect();
    let correlation = DMatrix::from_fn(random.len(), random.len(), |i, j| weights[(random[i], random[j])] / (scale[i] * scale[j]));
    let eigen = correlation.symmetric_eigen();
    let mut result = Vec::new();
    for (r, &lambda) in eigen.eigenvalues.iter().enumerate() {
        if lambda.abs() < 1e-14 {
            continue;
        }
        let mut direction = DVector::zeros(weights.nrows());
        for (i, &j) in random.iter().enumerate() {
            direction[j] = eigen.eigenvectors[(i, r)] * scale[i] * lambda.abs().sqrt();
        }
        result.push((lambda.signum(), direction));
    }
    result
}

pub(super) fn missing() -> EvaluationError {
    EvaluationError::Inner("the conditional likelihood gave fewer derivatives than were asked for".to_string())
}
