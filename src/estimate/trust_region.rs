//! Bounded trust-region reflective optimisation (Coleman and Li 1996, in the form of fides: Froehlich and Sorger 2022).
//!
//! Coordinates are scaled by the square root of their distance to the bound towards which they move, so that steps stay inside; a step
//! that meets a bound is cut short, reflected or replaced by a gradient step, whichever the quadratic model likes best.
//!
//! Curvature: the Fisher information (Gauss-Newton) as long as it predicts well. When progress stalls although the gradient is not
//! small, it is replaced for good by a BFGS matrix that starts from it (*hybrid*). Objectives without Fisher information use BFGS.

use super::{Start, StopReason};
use crate::likelihood::{Evaluation, EvaluationError, Objective, Order};
use crate::linalg::trust_region_step;
use nalgebra::{DMatrix, DVector};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Which curvature is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Curvature {
    /// Fisher information only.
    Fisher,
    /// BFGS only.
    Bfgs,
    /// Fisher information first, BFGS when it stalls.
    #[default]
    Hybrid,
}

/// Settings of one optimisation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most iterations.
    pub max_iterations: usize,
    /// Largest component of the scaled gradient at convergence.
    pub gradient_tolerance: f64,
    /// Converged when the objective changes by less than this times (1 + |objective|) in two accepted steps in a row.
    pub function_tolerance: f64,
    /// Converged when the trust region is smaller than this.
    pub step_tolerance: f64,
    /// Time limit.
    pub time: Option<Duration>,
    /// Curvature.
    pub curvature: Curvature,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_iterations: 1000, gradient_tolerance: 1e-6, function_tolerance: 1e-9, step_tolerance: 1e-10, time: None, curvature: Curvature::Hybrid }
    }
}

/// Iterations without visible progress after which the Fisher information is given up.
const STALLED: usize = 5;

struct Search<'a, O: Objective> {
    objective: &'a O,
    lower: Vec<f64>,
    upper: Vec<f64>,
    memory: O::Memory,
    evaluations: usize,
}

impl<O: Objective> Search<'_, O> {
    fn evaluate(&mut self, x: &DVector<f64>) -> Result<Evaluation, EvaluationError> {
        self.evaluations += 1;
        let e = self.objective.evaluate(x.as_slice(), Order::Fisher, &mut self.memory)?;
        let finite = e.value.is_finite() && e.gradient.iter().all(|g| g.is_finite());
        let finite = finite && e.fisher.as_ref().is_none_or(|f| f.iter().all(|v| v.is_finite()));
        if finite { Ok(e) } else { Err(EvaluationError::Density("the objective or its gradient is not a finite number".into())) }
    }

    /// Coleman and Li's scaling: distance v to the bound the gradient points away from, and its derivative.
    fn scaling(&self, x: &DVector<f64>, g: &DVector<f64>) -> (DVector<f64>, DVector<f64>) {
        let n = x.len();
        let (mut root, mut slope) = (DVector::from_element(n, 1.0), DVector::zeros(n));
        for i in 0..n {
            let bound = if g[i] < 0.0 { self.upper[i] } else { self.lower[i] };
            if bound.is_finite() {
                root[i] = (x[i] - bound).abs().sqrt();
                slope[i] = 1.0;
            }
        }
        (root, slope)
    }

    /// Largest fraction (at most 1) of the step that stays within the bounds, and the coordinate that limits it.
    fn room(&self, x: &DVector<f64>, step: &DVector<f64>) -> (f64, Option<usize>) {
        let mut best = (1.0, None);
        for i in 0..x.len() {
            let bound = if step[i] > 0.0 { self.upper[i] } else { self.lower[i] };
            if step[i] != 0.0 && bound.is_finite() {
                let fraction = (bound - x[i]) / step[i];
                if fraction < best.0 {
                    best = (fraction.max(0.0), Some(i));
                }
            }
        }
        best
    }
}

/// Minimises from `x0`. Failed evaluations shrink the trust region; only a failure at `x0` itself ends the search.
pub fn minimise<O: Objective>(objective: &O, x0: &[f64], options: &Options, stop: &AtomicBool) -> Start {
    let begin = Instant::now();
    let parameters = objective.parameters();
    let n = x0.len();
    let mut search = Search {
        objective,
        lower: parameters.iter().map(|p| p.lower).collect(),
        upper: parameters.iter().map(|p| p.upper).collect(),
        memory: objective.memory(),
        evaluations: 0,
    };
    // The method needs a point strictly inside.
    let mut x = DVector::from_fn(n, |i, _| inside(x0[i], search.lower[i], search.upper[i]));
    let mut start = Start {
        index: 0,
        initial: x.as_slice().to_vec(),
        initial_value: f64::INFINITY,
        point: x.as_slice().to_vec(),
        value: f64::INFINITY,
        gradient: vec![f64::NAN; n],
        gradient_norm: f64::NAN,
        iterations: 0,
        evaluations: 0,
        duration: Duration::ZERO,
        stop: StopReason::Iterations,
        trace: Vec::new(),
    };
    let mut current = match search.evaluate(&x) {
        Ok(e) => e,
        Err(error) => {
            start.stop = StopReason::Failed(error.to_string());
            start.evaluations = search.evaluations;
            start.duration = begin.elapsed();
            return start;
        }
    };
    start.initial_value = current.value;
    start.trace.push(current.value);
    let mut bfgs: Option<DMatrix<f64>> = match (options.curvature, &current.fisher) {
        (Curvature::Fisher | Curvature::Hybrid, Some(_)) => None,
        _ => Some(DMatrix::identity(n, n)),
    };
    let mut first_update = true;
    let mut radius = f64::NAN;
    let (mut small_changes, mut stalled) = (0, 0);
    for iteration in 0..options.max_iterations {
        start.iterations = iteration;
        let (root, slope) = search.scaling(&x, &current.gradient);
        let scaled_gradient = current.gradient.component_mul(&root);
        if scaled_gradient.amax() < options.gradient_tolerance {
            start.stop = StopReason::Gradient;
            break;
        }
        if stop.load(Ordering::Relaxed) || options.time.is_some_and(|t| begin.elapsed() > t) {
            start.stop = StopReason::Interrupted;
            break;
        }
        if radius.is_nan() {
            radius = DVector::from_fn(n, |i, _| x[i] / root[i]).norm().max(1.0);
        }
        let hessian = match (&bfgs, &current.fisher) {
            (Some(b), _) => b.clone(),
            (None, Some(f)) => f.clone(),
            (None, None) => DMatrix::identity(n, n),
        };
        // Scaled model: D H D + |g| dv on the diagonal.
        let correction = DVector::from_fn(n, |i, _| current.gradient[i].abs() * slope[i]);
        let mut scaled_hessian = DMatrix::from_fn(n, n, |i, j| root[i] * hessian[(i, j)] * root[j]);
        for i in 0..n {
            scaled_hessian[(i, i)] += correction[i];
        }
        let scaled = choose_step(&search, &x, &root, &scaled_gradient, &scaled_hessian, radius);
        let predicted = -(scaled_gradient.dot(&scaled) + 0.5 * scaled.dot(&(&scaled_hessian * &scaled)));
        let length = scaled.norm();
        let step = scaled.component_mul(&root);
        let trial = DVector::from_fn(n, |i, _| inside(x[i] + step[i], search.lower[i], search.upper[i]));
        let outcome = search.evaluate(&trial);
        let mut accepted = None;
        match outcome {
            Ok(e) => {
                let actual = current.value - e.value - 0.5 * scaled.dot(&scaled.component_mul(&correction));
                let ratio = actual / predicted;
                // Below the rounding error of the objective the ratio says nothing.
                let noise = 1e-13 * (1.0 + current.value.abs());
                if ratio < 0.25 && (current.value - e.value).abs() > noise {
                    radius = radius.min(length) / 4.0;
                } else if ratio > 0.75 && length > 0.9 * radius {
                    radius *= 2.0;
                }
                if e.value < current.value || (e.value <= current.value + noise && e.gradient.norm() < current.gradient.norm()) {
                    accepted = Some(e);
                } else {
                    radius = radius.min(length / 4.0);
                }
            }
            Err(_) => radius = radius.min(length) / 4.0,
        }
        if let Some(e) = accepted {
            let change = current.value - e.value;
            let moved = &trial - &x;
            let turned = &e.gradient - &current.gradient;
            if let Some(b) = &mut bfgs {
                update_bfgs(b, &moved, &turned, first_update && current.fisher.is_none());
                first_update = false;
            }
            stalled = if change < 1e-3 * predicted.max(1e-3 * (1.0 + current.value.abs())) { stalled + 1 } else { 0 };
            if options.curvature == Curvature::Hybrid && bfgs.is_none() && stalled >= STALLED {
                bfgs = e.fisher.clone().map(regular);
                stalled = 0;
            }
            x = trial;
            current = e;
            start.trace.push(current.value);
            small_changes = if change < options.function_tolerance * (1.0 + current.value.abs()) { small_changes + 1 } else { 0 };
            if small_changes >= 2 {
                start.stop = StopReason::Function;
                break;
            }
        } else {
            start.trace.push(current.value);
        }
        if radius < options.step_tolerance {
            start.stop = StopReason::Step;
            break;
        }
    }
    let (root, _) = search.scaling(&x, &current.gradient);
    start.gradient_norm = current.gradient.component_mul(&root.map(|r| r.min(1.0))).norm();
    start.point = x.as_slice().to_vec();
    start.value = current.value;
    start.gradient = current.gradient.as_slice().to_vec();
    start.evaluations = search.evaluations;
    start.duration = begin.elapsed();
    start
}

/// Moves a value strictly inside its bounds.
fn inside(x: f64, lower: f64, upper: f64) -> f64 {
    let width = if lower.is_finite() && upper.is_finite() { upper - lower } else { 1.0 };
    let margin = 1e-10 * width;
    let x = if lower.is_finite() { x.max(lower + margin) } else { x };
    if upper.is_finite() { x.min(upper - margin) } else { x }
}

/// The best of the cut, the reflected and the gradient step under the quadratic model, in scaled coordinates.
fn choose_step<O: Objective>(search: &Search<O>, x: &DVector<f64>, root: &DVector<f64>, g: &DVector<f64>, h: &DMatrix<f64>, radius: f64) -> DVector<f64> {
    let model = |s: &DVector<f64>| g.dot(s) + 0.5 * s.dot(&(h * s));
    // Steps keep this fraction of the way to a bound, closer to it as the gradient vanishes.
    let keep = 0.95f64.max(1.0 - g.amax());
    // Minimum of the model along a direction within the trust region and the bounds, starting at `from`.
    let along = |from: &DVector<f64>, direction: &DVector<f64>| {
        let (a, b) = (direction.dot(&(h * direction)), (g + h * from).dot(direction));
        let base = x + from.component_mul(root);
        let (fraction, hit) = search.room(&base, &direction.component_mul(root));
        let bound = if hit.is_some() { keep * fraction } else { fraction };
        // |from + t direction| <= radius
        let (dd, fd, ff) = (direction.norm_squared(), from.dot(direction), from.norm_squared());
        let reach = if dd > 0.0 { (-fd + (fd * fd + dd * (radius * radius - ff).max(0.0)).sqrt()) / dd } else { 0.0 };
        let limit = bound.min(reach).max(0.0);
        let best = if a > 0.0 { (-b / a).clamp(0.0, limit) } else { limit };
        from + direction * best
    };
    let full = trust_region_step(g, h, radius);
    let zero = DVector::zeros(g.len());
    let (fraction, hit) = search.room(x, &full.component_mul(root));
    let Some(hit) = hit else { return full };
    let cut = &full * (keep * fraction);
    // Reflection: go to the bound, then on with the limiting coordinate turned round.
    let at_bound = &full * fraction * (1.0 - 1e-12);
    let mut turned = full.clone();
    turned[hit] = -turned[hit];
    let reflected = along(&(&at_bound * keep), &turned);
    // Steepest descent stretched to the radius.
    let norm = g.norm();
    let gradient = if norm > 0.0 { along(&zero, &(g * (-radius / norm))) } else { zero.clone() };
    // With the coordinate at its bound held fixed, the others can still take their own full step.
    let mut reduced_g = g.clone();
    reduced_g[hit] = 0.0;
    let mut reduced_h = h.clone();
    for i in 0..g.len() {
        if i != hit {
            reduced_h[(i, hit)] = 0.0;
            reduced_h[(hit, i)] = 0.0;
        }
    }
    let mut held = trust_region_step(&reduced_g, &reduced_h, radius);
    held[hit] = 0.0;
    let held = along(&zero, &held);
    [cut, reflected, gradient, held].into_iter().min_by(|a, b| model(a).total_cmp(&model(b))).unwrap_or(zero)
}

/// A positive definite matrix near a Fisher information, to start BFGS from.
fn regular(fisher: DMatrix<f64>) -> DMatrix<f64> {
    let floor = 1e-8 * fisher.diagonal().amax().max(1e-8);
    let n = fisher.nrows();
    fisher + DMatrix::identity(n, n) * floor
}

/// BFGS update, skipped where the curvature along the step is not positive. The first update of an identity scales it first
/// (Nocedal and Wright 2006, eq. 6.20).
fn update_bfgs(b: &mut DMatrix<f64>, s: &DVector<f64>, y: &DVector<f64>, scale_first: bool) {
    let sy = s.dot(y);
    if sy <= 1e-12 * s.norm() * y.norm() {
        return;
    }
    if scale_first {
        *b *= y.norm_squared() / sy;
    }
    let bs = &*b * s;
    let sbs = s.dot(&bs);
    if sbs > 0.0 {
        *b += y * y.transpose() / sy - &bs * bs.transpose() / sbs;
    }
}
