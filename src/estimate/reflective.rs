//! One step of the bounded trust-region method: affine scaling by the distance to the bounds, the quadratic model in scaled
//! variables and the best feasible step among several. After T. F. Coleman & Y. Li, An interior trust region approach for
//! nonlinear minimization subject to bounds, SIAM J. Optim. 6 (1996) 418-445, and F. Fröhlich & P. K. Sorger, Fides: reliable
//! trust-region optimization for parameter estimation of ordinary differential equation models, PLoS Comput. Biol. 18 (2022).

use crate::linalg;
use nalgebra::{DMatrix, DVector};

/// Largest number of parameters for which the subproblem is solved in the full space; above, in two dimensions.
const FULL_SPACE: usize = 150;

/// Largest part of the way to a bound that a step may go.
const THETA: f64 = 0.95;

/// A box; bounds may be infinite, and equal ones fix a parameter.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
}

impl Bounds {
    /// The point of the box nearest to `x`.
    pub fn clamp(&self, x: &DVector<f64>) -> DVector<f64> {
        DVector::from_fn(x.len(), |i, _| x[i].max(self.lower[i]).min(self.upper[i]))
    }

    /// Distance from `x` to the bound towards which the objective falls (1 if there is none), and whether there is one.
    fn distance(&self, x: &DVector<f64>, gradient: &DVector<f64>, i: usize) -> (f64, bool) {
        let bound = if gradient[i] >= 0.0 { self.lower[i] } else { self.upper[i] };
        if bound.is_finite() { ((x[i] - bound).abs(), true) } else { (1.0, false) }
    }

    /// Largest |g_i| min(1, v_i), v_i the distance to the bound that stops the descent: zero exactly at first-order optimal
    /// points of the box, and the largest entry of the gradient in the interior.
    pub fn optimality(&self, x: &DVector<f64>, gradient: &DVector<f64>) -> f64 {
        (0..x.len()).map(|i| gradient[i].abs() * self.distance(x, gradient, i).0.min(1.0)).fold(0.0, f64::max)
    }
}

/// A feasible step and what the model says of it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The step in the parameters.
    pub step: DVector<f64>,
    /// Norm of the step in scaled variables, at most the radius.
    pub scaled_norm: f64,
    /// Decrease of the model, the term of the affine scaling included.
    pub predicted: f64,
    /// What the affine scaling adds to the objective at the new point.
    pub scaling_term: f64,
}

/// The quadratic model in scaled variables s^ = s / d.
struct Model<'a> {
    x: &'a DVector<f64>,
    bounds: &'a Bounds,
    /// Scaling d = sqrt(v).
    d: DVector<f64>,
    /// Gradient in scaled variables.
    gradient: DVector<f64>,
    /// d B d + C in scaled variables.
    hessian: DMatrix<f64>,
    radius: f64,
    theta: f64,
}

/// The best of several feasible steps from `x` with |s / d| at most `radius` for the model with curvature `b`.
pub(super) fn best_step(x: &DVector<f64>, gradient: &DVector<f64>, b: &DMatrix<f64>, bounds: &Bounds, radius: f64) -> Step {
    let n = x.len();
    let mut d = DVector::zeros(n);
    let mut c = DVector::zeros(n);
    for i in 0..n {
        let (distance, bounded) = bounds.distance(x, gradient, i);
        d[i] = if bounds.lower[i] == bounds.upper[i] { 0.0 } else { distance.sqrt() };
        c[i] = if bounded { gradient[i].abs() } else { 0.0 };
    }
    let scaled = gradient.component_mul(&d);
    let mut hessian = DMatrix::from_fn(n, n, |i, j| d[i] * b[(i, j)] * d[j]);
    for i in 0..n {
        hessian[(i, i)] += c[i];
    }
    // Near an optimum the step may go ever closer to the bound, which makes convergence to it superlinear.
    let theta = THETA.max(1.0 - scaled.component_mul(&d).amax());
    let model = Model { x, bounds, d, gradient: scaled, hessian, radius, theta };
    let chosen = model.choose();
    Step {
        scaled_norm: chosen.norm(),
        predicted: linalg::predicted_reduction(&model.gradient, &model.hessian, &chosen),
        scaling_term: 0.5 * (0..n).map(|i| c[i] * chosen[i] * chosen[i]).sum::<f64>(),
        step: chosen.component_mul(&model.d),
    }
}

impl Model<'_> {
    /// The candidate with the smallest model value.
    fn choose(&self) -> DVector<f64> {
        let full = subproblem(&self.gradient, &self.hessian, self.radius);
        if self.reach(&DVector::zeros(full.len()), &full).0 > 1.0 {
            return full;
        }
        let mut candidates = self.reflected(&full);
        candidates.push(self.fixed(full));
        let zero = DVector::zeros(self.d.len());
        candidates.push(self.along(&zero, &-&self.gradient));
        let value = |s: &DVector<f64>| -linalg::predicted_reduction(&self.gradient, &self.hessian, s);
        candidates.into_iter().min_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(zero)
    }

    /// How far one can go from `from` along `direction` (both scaled) until a bound is met, and the parameter that meets it.
    fn reach(&self, from: &DVector<f64>, direction: &DVector<f64>) -> (f64, Option<usize>) {
        let mut nearest = (f64::INFINITY, None);
        for i in 0..direction.len() {
            let move_ = direction[i] * self.d[i];
            if move_ == 0.0 {
                continue;
            }
            let bound = if move_ > 0.0 { self.bounds.upper[i] } else { self.bounds.lower[i] };
            let t = (bound - self.x[i] - from[i] * self.d[i]) / move_;
            if t < nearest.0 {
                nearest = (t.max(0.0), Some(i));
            }
        }
        nearest
    }

    /// The point with the smallest model value on the ray, short of bounds and radius.
    fn along(&self, from: &DVector<f64>, direction: &DVector<f64>) -> DVector<f64> {
        let square = direction.norm_squared();
        if square == 0.0 || !square.is_finite() {
            return from.clone();
        }
        // |from + t direction| = radius.
        let projection = from.dot(direction);
        let root = (projection * projection + square * (self.radius * self.radius - from.norm_squared()).max(0.0)).sqrt();
        let to_radius = (root - projection) / square;
        let limit = to_radius.min(self.theta * self.reach(from, direction).0).max(0.0);
        let slope = direction.dot(&(&self.gradient + &self.hessian * from));
        let curvature = direction.dot(&(&self.hessian * direction));
        let t = if slope < 0.0 && curvature * limit > -slope {
            -slope / curvature
        } else if slope * limit + 0.5 * curvature * limit * limit < 0.0 {
            limit
        } else {
            0.0
        };
        from + direction * t
    }

    /// The path of the trust-region step, reflected at each bound it meets: the best point on each of its pieces.
    fn reflected(&self, full: &DVector<f64>) -> Vec<DVector<f64>> {
        let mut candidates = Vec::new();
        let (mut from, mut direction) = (DVector::zeros(full.len()), full.clone());
        for _ in 0..full.len().min(10) {
            candidates.push(self.along(&from, &direction));
            let (t, hit) = self.reach(&from, &direction);
            let Some(hit) = hit else { break };
            from += &direction * (self.theta * t);
            if from.norm() >= self.radius {
                break;
            }
            direction[hit] = -direction[hit];
        }
        candidates
    }

    /// Parameters that the trust-region step carries over a bound are stopped just before it, and the subproblem is solved again
    /// in the others, until none goes over.
    fn fixed(&self, full: DVector<f64>) -> DVector<f64> {
        let n = full.len();
        let mut step = full;
        let mut free: Vec<usize> = (0..n).collect();
        loop {
            let before = free.len();
            free.retain(|&i| {
                let target = self.x[i] + step[i] * self.d[i];
                let (lower, upper) = (self.bounds.lower[i], self.bounds.upper[i]);
                let inside = self.d[i] == 0.0 || step[i] == 0.0 || (target > lower && target < upper);
                if !inside {
                    let bound = if step[i] > 0.0 { upper } else { lower };
                    step[i] = self.theta * (bound - self.x[i]) / self.d[i];
                }
                inside
            });
            if free.len() == before {
                return step;
            }
            for &i in &free {
                step[i] = 0.0;
            }
            let rest = (self.radius * self.radius - step.norm_squared()).max(0.0).sqrt();
            if free.is_empty() || rest == 0.0 {
                return step;
            }
            let shifted = &self.gradient + &self.hessian * &step;
            let gradient = shifted.select_rows(&free);
            let hessian = self.hessian.select_rows(&free).select_columns(&free);
            let reduced = subproblem(&gradient, &hessian, rest);
            for (&i, &value) in free.iter().zip(reduced.iter()) {
                step[i] = value;
            }
        }
    }
}

/// The trust-region subproblem: exact in small problems, else in the plane of the gradient and the Newton step (or, where the
/// curvature is indefinite, the direction of most negative curvature; Byrd, Schnabel & Shultz 1988).
fn subproblem(gradient: &DVector<f64>, hessian: &DMatrix<f64>, radius: f64) -> DVector<f64> {
    let n = gradient.len();
    if n <= FULL_SPACE {
        return linalg::trust_region_step(gradient, hessian, radius);
    }
    let second = match linalg::cholesky(hessian) {
        Some(factor) => factor.solve(gradient),
        None => match linalg::symmetric_eigen(hessian) {
            Some((_, vectors)) => vectors.column(0).into_owned(),
            None => DVector::zeros(n),
        },
    };
    let mut plane: Vec<DVector<f64>> = Vec::new();
    for vector in [gradient.clone(), second] {
        let mut rest = vector.clone();
        // Orthogonalised twice, which is enough to full precision.
        for _ in 0..2 {
            for base in &plane {
                rest -= base * base.dot(&rest);
            }
        }
        let norm = rest.norm();
        if norm.is_finite() && norm > 1e-12 * vector.norm() {
            plane.push(rest / norm);
        }
    }
    if plane.is_empty() {
        return DVector::zeros(n);
    }
    let basis = DMatrix::from_columns(&plane);
    let reduced = linalg::symmetrised(&(basis.transpose() * hessian * &basis));
    &basis * linalg::trust_region_step(&basis.tr_mul(gradient), &reduced, radius)
}
