//! The gradient of an objective against finite differences of its value.

use crate::likelihood::{EvaluationError, Objective, Order};

/// Whether a derivative is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It agrees with the finite difference within tolerance.
    Agrees,
    /// It differs by more than the tolerance, the error of the difference itself, and what is of no consequence.
    Differs,
    /// The finite difference is not accurate enough to tell, or both are far below the other derivatives.
    Unclear,
}

/// How a gradient is checked.
#[derive(Debug, Clone)]
pub struct GradientCheckOptions {
    /// Largest allowed deviation, relative to the derivative. A larger one is no mistake yet while it is within the tolerance of 1e-3 of
    /// the largest derivative: an error so far below the others is of no consequence.
    pub tolerance: f64,
    /// Steps that are tried, relative to max(1, |x|), in decreasing order; at least two. The one is chosen whose difference changes least
    /// against the step before.
    pub steps: Vec<f64>,
}

impl Default for GradientCheckOptions {
    fn default() -> Self {
        GradientCheckOptions { tolerance: 1e-4, steps: vec![1e-1, 1e-2, 1e-3, 1e-4, 1e-5] }
    }
}

/// The derivative by one parameter.
#[derive(Debug, Clone)]
pub struct GradientCheck {
    /// Identifier of the parameter.
    pub id: String,
    /// Derivative given by the objective.
    pub analytic: f64,
    /// Difference of second order at the chosen step.
    pub second_order: f64,
    /// Difference of fourth order (where a bound is near, of third) at the chosen step.
    pub difference: f64,
    /// Estimated error of `difference`: its change against the step before, or what is seen of the values' own errors.
    pub error: f64,
    /// The chosen step (estimation scale); NaN where no difference could be taken.
    pub step: f64,
    /// Conclusion.
    pub verdict: Verdict,
}

/// Compares every derivative at `x` with differences of the objective's value.
///
/// With steps h and 2h and Richardson's extrapolation: central differences (f(x + h) - f(x - h)) / 2h, of fourth order together; where a
/// bound is nearer than 2h or the objective has no value on one side, one-sided ones (4 f(x + h) - 3 f(x) - f(x + 2h)) / 2h, of third order
/// together. Steps with neither are left out. Errors: only a failure at `x` itself.
pub fn gradient_check<O: Objective>(
    objective: &O,
    x: &[f64],
    options: &GradientCheckOptions,
    memory: &mut O::Memory,
) -> Result<Vec<GradientCheck>, EvaluationError> {
    let centre = objective.evaluate(x, Order::Gradient, memory)?;
    let here = objective.evaluate(x, Order::Value, memory)?.value;
    let largest = centre.gradient.amax();
    let mut checks = Vec::with_capacity(x.len());
    for (i, parameter) in objective.parameters().iter().enumerate() {
        let analytic = centre.gradient[i];
        // The value at some distance; NaN where there is none.
        let mut value = |h: f64| {
            let mut moved = x.to_vec();
            moved[i] += h;
            let evaluated = objective.evaluate(&moved, Order::Value, memory).ok();
            evaluated.map_or(f64::NAN, |e| e.value)
        };
        let inside = |h: f64| (parameter.lower..=parameter.upper).contains(&(x[i] + h));
        // Second-order and extrapolated difference; NaN where none can be taken.
        let mut differences = |h: f64| {
            let mut found = (f64::NAN, f64::NAN);
            if inside(2.0 * h) && inside(-2.0 * h) {
                let near = (value(h) - value(-h)) / (2.0 * h);
                let far = (value(2.0 * h) - value(-2.0 * h)) / (4.0 * h);
                found = (near, (4.0 * near - far) / 3.0);
            }
            for h in [h, -h].into_iter().filter(|h| inside(4.0 * h)) {
                if found.1.is_nan() {
                    let (first, second, fourth) = (value(h), value(2.0 * h), value(4.0 * h));
                    let near = (4.0 * first - 3.0 * here - second) / (2.0 * h);
                    let far = (4.0 * second - 3.0 * here - fourth) / (4.0 * h);
                    found = (near, (4.0 * near - far) / 3.0);
                }
            }
            found
        };
        let steps: Vec<f64> = options.steps.iter().map(|relative| relative * x[i].abs().max(1.0)).collect();
        let found: Vec<(f64, f64)> = steps.iter().map(|h| differences(*h)).collect();
        let changes = (1..steps.len()).map(|k| (k, (found[k].1 - found[k - 1].1).abs())).filter(|(_, change)| change.is_finite());
        let best = changes.min_by(|a, b| a.1.total_cmp(&b.1));
        let (step, second_order, difference, error) = match best {
            Some((k, change)) => {
                // What the values' own errors do to a difference grows with 1 / step, and shows most at the smallest one.
                let last = steps.len() - 1;
                let noise = (found[last].1 - found[k].1).abs() * steps[last] / steps[k];
                (steps[k], found[k].0, found[k].1, change.max(noise))
            }
            None => (f64::NAN, f64::NAN, f64::NAN, f64::INFINITY),
        };
        let deviation = (analytic - difference).abs();
        let negligible = options.tolerance * 1e-3 * largest;
        let allowed = options.tolerance * analytic.abs();
        let verdict = if deviation <= allowed {
            Verdict::Agrees
        } else if deviation > allowed.max(negligible) + 10.0 * error {
            Verdict::Differs
        } else {
            Verdict::Unclear
        };
        checks.push(GradientCheck { id: parameter.id.clone(), analytic, second_order, difference, error, step, verdict });
    }
    Ok(checks)
}
