//! Empirical Bayes estimate: the mode b of J(b) = -log p(data | phi_typical + Z b) + 1/2 b^T D^-1 b + 1/2 log det D (NLME.md 2.3, 8.3).
//!
//! The search runs in the whitened coordinates u = L^-1 b, in which the prior is |u|^2 / 2 and the Hessian is A = I + (Z L)^T Hess (Z L).

use super::EvaluationError;
use super::covariance::Omega;
use super::individual::{Conditional, ConditionalOrder, ConditionalValue, Scope, missing};
use crate::linalg::trust_region_step;
use nalgebra::{DMatrix, DVector};

/// Settings of the search.
#[derive(Debug, Clone)]
pub struct EbeOptions {
    /// Converged when every component of the gradient in u is below this times 1 + |J|.
    pub tolerance: f64,
    /// Most evaluations with derivatives from one starting point.
    pub max_evaluations: usize,
    /// More starting points u. The search runs from each, and the best mode is taken.
    pub starts: Vec<DVector<f64>>,
    /// Number of them from which a search begins: those with the smallest J.
    pub descents: usize,
}

impl Default for EbeOptions {
    fn default() -> Self {
        EbeOptions { tolerance: 1e-8, max_evaluations: 200, starts: Vec::new(), descents: 2 }
    }
}

/// Where the last search of an individual ended, to start the next one from. Empty at first.
#[derive(Debug, Clone, Default)]
pub struct WarmStart {
    last: Option<Last>,
    /// Searches from several points, one after the other, that found no better mode than the one from the last estimate.
    idle: usize,
}

#[derive(Debug, Clone)]
struct Last {
    phi_typical: Vec<f64>,
    d: DMatrix<f64>,
    l: DMatrix<f64>,
    u: DVector<f64>,
    /// du/dphi_typical at fixed D, n_b by n_phi.
    slope: DMatrix<f64>,
    /// A^-1 of the exact Hessian in u.
    inverse: DMatrix<f64>,
}

/// So many searches from several points in vain, and the next ones are left out.
const IDLE: usize = 3;

impl WarmStart {
    /// Whether there is nothing to start from yet.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Whether the last searches from several points were of no use.
    pub fn is_settled(&self) -> bool {
        self.idle >= IDLE
    }

    /// Notes what a search from several points was good for.
    pub(super) fn note_search(&mut self, mode: &Mode) {
        self.idle = if mode.from_elsewhere { 0 } else { self.idle + 1 };
    }

    /// The estimate b where the last search ended.
    pub fn estimate(&self) -> Option<DVector<f64>> {
        self.last.as_ref().map(|last| &last.l * &last.u)
    }

    /// Remembers a mode with the quantities of its implicit derivative: `cross` = (Z L)^T Hess, n_b by n_phi, and `inverse` = A^-1.
    pub(super) fn store(&mut self, phi_typical: &[f64], omega: &Omega, u: &DVector<f64>, cross: &DMatrix<f64>, inverse: &DMatrix<f64>) {
        self.last = Some(Last {
            phi_typical: phi_typical.to_vec(),
            d: omega.d.clone(),
            l: omega.l.clone(),
            u: u.clone(),
            slope: -inverse * cross,
            inverse: inverse.clone(),
        });
    }

    /// A of the last search, which still is about right.
    fn curvature(&self, omega: &Omega) -> Option<DMatrix<f64>> {
        let last = self.last.as_ref().filter(|last| last.u.len() == omega.dimension())?;
        last.inverse.clone().try_inverse()
    }

    /// Starting points in u for new parameters, best guess first: the old mode moved along its implicit derivative (by at most two
    /// prior standard deviations), the old mode, the typical individual.
    fn starts(&self, phi_typical: &[f64], omega: &Omega) -> Vec<DVector<f64>> {
        let n = omega.dimension();
        let mut starts = Vec::new();
        if let Some(last) = &self.last
            && last.u.len() == n
            && last.phi_typical.len() == phi_typical.len()
        {
            let step = DVector::from_iterator(phi_typical.len(), phi_typical.iter().zip(&last.phi_typical).map(|(a, b)| a - b));
            // db = L du + L A^-1 E u with E = L^-1 dD L^-T: the mode depends on D through D^-1 b only.
            let mut e = &omega.d - &last.d;
            last.l.solve_lower_triangular_mut(&mut e);
            e.transpose_mut();
            last.l.solve_lower_triangular_mut(&mut e);
            let old = omega.whiten(&(&last.l * &last.u));
            let moved = omega.whiten(&(&last.l * (&last.u + &last.slope * step + &last.inverse * (e * &last.u))));
            let mut change = moved - &old;
            let length = change.norm();
            if length.is_finite() {
                change *= (2.0 / length).min(1.0);
                starts.push(&old + change);
            }
            if old.iter().all(|x| x.is_finite()) {
                starts.push(old);
            }
        }
        starts.push(DVector::zeros(n));
        starts
    }
}

/// A mode of J.
#[derive(Debug, Clone)]
pub struct Mode {
    /// The mode in whitened coordinates.
    pub u: DVector<f64>,
    /// The mode b = L u.
    pub b: DVector<f64>,
    /// J without 1/2 log det D: data term and |u|^2 / 2.
    pub value: f64,
    /// Largest component of the gradient in u.
    pub gradient_norm: f64,
    /// Whether the tolerance of the gradient was met. If not, J is still within 1e-3 of its minimum, or has a kink there.
    pub converged: bool,
    /// Whether J has a kink there: the slopes on its sides are not small, but nothing beside it is lower.
    pub kink: bool,
    /// Evaluations with derivatives, over all starting points.
    pub evaluations: usize,
    /// Whether it was found from one of the extra starting points.
    pub from_elsewhere: bool,
    /// Distinct modes found within three units of J of the best (1 if the search had one start).
    pub modes: usize,
    /// The data term at the mode with Hessian and all derivatives of the scope that was asked for.
    pub data: ConditionalValue,
}

/// The data term seen from u.
pub(super) struct Whitened<'a, C: ?Sized> {
    pub conditional: &'a mut C,
    pub phi_typical: &'a [f64],
    pub targets: &'a [usize],
    pub omega: &'a Omega,
}

/// J and its derivatives in u at one point.
struct Point {
    /// The search ended because no smaller value was found however short the step: a minimum at a kink, or the limit of accuracy.
    stuck: bool,
    u: DVector<f64>,
    value: f64,
    gradient: DVector<f64>,
    /// A from the Gauss-Newton matrix or the Hessian.
    curvature: DMatrix<f64>,
    exact: bool,
    data: ConditionalValue,
}

impl<C: Conditional + ?Sized> Whitened<'_, C> {
    /// phi_typical + Z L u.
    pub fn phi(&self, u: &DVector<f64>) -> Vec<f64> {
        cell_parameters(self.phi_typical, self.targets, &(&self.omega.l * u))
    }

    /// (Z L)^T M for a matrix M with n_phi rows.
    pub fn project(&self, m: &DMatrix<f64>) -> DMatrix<f64> {
        let rows = DMatrix::from_fn(self.targets.len(), m.ncols(), |k, j| m[(self.targets[k], j)]);
        self.omega.l.tr_mul(&rows)
    }

    /// I + (Z L)^T M (Z L), symmetric.
    pub fn curvature(&self, m: &DMatrix<f64>) -> DMatrix<f64> {
        let a = self.project(&self.project(m).transpose());
        (&a + a.transpose()) * 0.5 + DMatrix::identity(a.nrows(), a.nrows())
    }

    fn point(&mut self, u: DVector<f64>, exact: bool, scope: Scope) -> Result<Point, EvaluationError> {
        let order = if exact { ConditionalOrder::Hessian } else { ConditionalOrder::GaussNewton };
        let data = self.conditional.evaluate(&self.phi(&u), order, scope)?;
        let matrix = if exact { data.hessian.as_ref() } else { data.gauss_newton.as_ref() }.ok_or_else(missing)?;
        let curvature = self.curvature(matrix);
        let slope = DVector::from_iterator(self.targets.len(), self.targets.iter().map(|&j| data.gradient[j]));
        let gradient = self.omega.l.tr_mul(&slope) + &u;
        let value = data.value + 0.5 * u.norm_squared();
        if !value.is_finite() || gradient.iter().chain(curvature.iter()).any(|x| !x.is_finite()) {
            return Err(EvaluationError::Inner("the conditional likelihood or its derivatives are not finite".to_string()));
        }
        Ok(Point { stuck: false, u, value, gradient, curvature, exact, data })
    }
}

/// phi_typical + Z b.
pub fn cell_parameters(phi_typical: &[f64], targets: &[usize], b: &DVector<f64>) -> Vec<f64> {
    let mut phi = phi_typical.to_vec();
    for (&j, b) in targets.iter().zip(b.iter()) {
        phi[j] += b;
    }
    phi
}

/// Finds the mode of J. The data term of the result has the Hessian, in the given scope.
///
/// # Errors
/// The error of the data term if it fails at every starting point; [`EvaluationError::Inner`] if the search runs out of evaluations before it
/// is within 1e-3 of the minimum of J, estimated by the Newton decrement. A minimum at a kink of J, as the start time of a response has
/// between two measurements, is accepted with `converged` false.
pub fn empirical_bayes_estimate<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    options: &EbeOptions,
    warm: &WarmStart,
    scope: Scope,
) -> Result<Mode, EvaluationError> {
    let mut whitened = Whitened { conditional, phi_typical, targets, omega };
    let mut evaluations = 0;
    let mut failure = None;
    let mut found: Vec<Point> = Vec::new();
    let mut warm_value = f64::INFINITY;
    // One search from the first of the warm starts that has a value, then one from each extra start.
    let mut started = false;
    let known = warm.curvature(omega);
    let warm = warm.starts(phi_typical, omega).into_iter().map(|u| (u, true));
    let promising = most_promising(&mut whitened, options);
    for (u, is_warm) in warm.chain(promising.into_iter().map(|u| (u, false))) {
        if is_warm && started {
            continue;
        }
        match minimise(&mut whitened, u, known.as_ref().filter(|_| is_warm), &found, options, &mut evaluations) {
            Ok(None) => {}
            Ok(Some(point)) => {
                // A search that got stuck is no reason to leave out the next starting point.
                started |= is_warm && newton_decrement(&point) <= 1e-6;
                if is_warm {
                    warm_value = warm_value.min(point.value);
                }
                found.push(point);
            }
            Err(error) => failure = Some(error),
        }
    }
    found.sort_by(|a, b| a.value.total_cmp(&b.value));
    // A stationary point with an indefinite curvature is no mode.
    let minima: Vec<&Point> = found.iter().filter(|p| p.value <= found[0].value + 3.0 && newton_decrement(p).is_finite()).collect();
    let modes = minima.iter().enumerate().filter(|(i, p)| minima[..*i].iter().all(|q| (&q.u - &p.u).amax() > 1e-3)).count().max(1);
    let Some(best) = found.into_iter().next() else {
        // There is always a starting point, so without a mode there is an error.
        return Err(failure.unwrap_or_else(missing));
    };
    let stuck = best.stuck;
    let from_elsewhere = best.value < warm_value;
    let best = polish(&mut whitened, best, scope, options, &mut evaluations)?;
    let gradient_norm = best.gradient.amax();
    let converged = gradient_norm <= options.tolerance * (1.0 + best.value.abs());
    if !converged {
        let decrement = newton_decrement(&best);
        if !stuck && (decrement.is_nan() || decrement > ACCEPTED.max(options.tolerance * (1.0 + best.value.abs()))) {
            return Err(EvaluationError::Inner(format!(
                "the empirical Bayes estimate of an individual did not converge in {evaluations} evaluations (gradient {gradient_norm:.1e})"
            )));
        }
    }
    let kink = !converged && stuck && newton_decrement(&best) > KINK;
    let b = &omega.l * &best.u;
    Ok(Mode { u: best.u, b, value: best.value, gradient_norm, converged, kink, evaluations, from_elsewhere, modes, data: best.data })
}

/// Where J could still fall by so much by its slopes, and does not, it has a kink; less is the limit of accuracy.
const KINK: f64 = 1e-5;

/// A search that did not meet its tolerance is accepted, and flagged, if J is this close to its minimum.
const ACCEPTED: f64 = 1e-3;

/// The extra starting points with the smallest J. Comparing values costs no sensitivities, where a search costs many.
fn most_promising<C: Conditional + ?Sized>(whitened: &mut Whitened<C>, options: &EbeOptions) -> Vec<DVector<f64>> {
    let mut valued: Vec<(f64, &DVector<f64>)> = Vec::new();
    for u in &options.starts {
        let phi = whitened.phi(u);
        if let Ok(data) = whitened.conditional.evaluate(&phi, ConditionalOrder::Value, Scope::Random) {
            valued.push((data.value + 0.5 * u.norm_squared(), u));
        }
    }
    valued.sort_by(|a, b| a.0.total_cmp(&b.0));
    valued.into_iter().take(options.descents).map(|(_, u)| u.clone()).collect()
}

/// Trust-region Newton from `u`: Gauss-Newton steps until they are short or poor, then steps with the exact curvature. That costs many
/// times what a gradient does and changes little from step to step, so it is only computed anew where steps with an older one (at first
/// `known`, from an earlier search) reduce the gradient by less than [`SLOW`].
///
/// `None` if the search comes close to one of the modes `found`, where it would end.
fn minimise<C: Conditional + ?Sized>(
    whitened: &mut Whitened<C>,
    u: DVector<f64>,
    known: Option<&DMatrix<f64>>,
    found: &[Point],
    options: &EbeOptions,
    evaluations: &mut usize,
) -> Result<Option<Point>, EvaluationError> {
    let near = |point: &Point, mode: &Point| {
        let apart = &point.u - &mode.u;
        newton_decrement(mode).is_finite() && apart.dot(&(&mode.curvature * &apart)) < CLOSE * CLOSE
    };
    let mut radius = 1.0_f64;
    // The exact curvature in use, and whether it is that of the current point.
    let (mut exact, mut fresh) = (known.cloned(), false);
    let mut wants_exact = exact.is_some();
    *evaluations += 1;
    let mut current = whitened.point(u, false, Scope::Random)?;
    for _ in 1..options.max_evaluations {
        let tolerance = options.tolerance * (1.0 + current.value.abs());
        if current.gradient.amax() <= FINER * tolerance {
            break;
        }
        if wants_exact && exact.is_none() {
            *evaluations += 1;
            current = whitened.point(current.u, true, Scope::Random)?;
            (exact, fresh) = (Some(current.curvature.clone()), true);
        }
        let curvature = exact.as_ref().filter(|_| wants_exact).unwrap_or(&current.curvature);
        let step = trust_region_step(&current.gradient, curvature, radius);
        let predicted = -(current.gradient.dot(&step) + 0.5 * step.dot(&(curvature * &step)));
        if !wants_exact && step.norm() < 0.1 {
            wants_exact = true;
            continue;
        }
        // Below this the value cannot tell a better point from a worse one: the gradient decides.
        let resolvable = predicted > 0.01 * tolerance;
        *evaluations += 1;
        let trial = match whitened.point(&current.u + &step, false, Scope::Random) {
            Ok(trial) => trial,
            Err(_) => {
                radius = 0.25 * step.norm();
                if radius < 1e-10 {
                    current.stuck = true;
                    break;
                }
                continue;
            }
        };
        let ratio = (current.value - trial.value) / predicted;
        let slow = trial.gradient.norm() > SLOW * current.gradient.norm();
        let accepted = if resolvable { ratio > 1e-4 } else { trial.gradient.norm() < current.gradient.norm() };
        if resolvable {
            if ratio < 0.25 {
                radius = 0.25 * step.norm();
                wants_exact = true;
            } else if ratio > 0.75 && step.norm() > 0.9 * radius {
                radius = (2.0 * radius).min(8.0);
            }
        }
        if accepted {
            current = trial;
            if found.iter().any(|mode| near(&current, mode)) {
                return Ok(None);
            }
            fresh = false;
            if slow {
                exact = None;
            }
        } else if !resolvable && fresh {
            // No better gradient from an exact Newton step: the accuracy of the data term is exhausted, or the point is a kink.
            current.stuck = true;
            break;
        } else if !resolvable && current.gradient.amax() <= tolerance {
            break;
        } else if !fresh {
            (exact, wants_exact) = (None, true);
        }
    }
    Ok(Some(current))
}

/// A search that comes within this many standard deviations of the normal approximation at a known mode ends there.
const CLOSE: f64 = 0.3;

/// The search goes on to this part of its tolerance as long as that is cheap: the determinant can change much faster than J.
const FINER: f64 = 0.01;

/// A step with an exact curvature from an earlier point should reduce the gradient at least by this factor.
const SLOW: f64 = 0.2;

/// The point with its exact curvature and the derivatives of `scope`; one Newton step more if its gradient is not small enough yet.
fn polish<C: Conditional + ?Sized>(
    whitened: &mut Whitened<C>,
    mut point: Point,
    scope: Scope,
    options: &EbeOptions,
    evaluations: &mut usize,
) -> Result<Point, EvaluationError> {
    let stuck = point.stuck;
    if !point.exact || scope == Scope::All {
        *evaluations += 1;
        point = whitened.point(point.u, true, scope)?;
        point.stuck = stuck;
    }
    if point.gradient.amax() <= options.tolerance * (1.0 + point.value.abs()) {
        return Ok(point);
    }
    let step = trust_region_step(&point.gradient, &point.curvature, 0.1);
    *evaluations += 1;
    match whitened.point(&point.u + step, true, scope) {
        Ok(trial) if trial.gradient.norm() <= point.gradient.norm() => Ok(trial),
        _ => Ok(point),
    }
}

/// Half of g^T A^-1 g: by how much a quadratic model of J could still fall. Infinite if A is not positive definite.
fn newton_decrement(point: &Point) -> f64 {
    match nalgebra::Cholesky::new(point.curvature.clone()) {
        Some(factor) => 0.5 * point.gradient.dot(&factor.solve(&point.gradient)),
        None => f64::INFINITY,
    }
}
