//! The gradient of an objective against finite differences of its value.

use crate::likelihood::{EvaluationError, Objective, Order};

/// Whether a derivative is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It agrees with the finite difference within tolerance.
    Agrees,
    /// It differs by more than the tolerance and the error of the difference itself.
    Differs,
    /// The finite difference is not accurate enough to tell.
    Unclear,
}

/// The derivative by one parameter.
#[derive(Debug, Clone)]
pub struct GradientCheck {
    /// Identifier of the parameter.
    pub id: String,
    /// Derivative given by the objective.
    pub analytic: f64,
    /// Central difference of second order at the chosen step.
    pub central: f64,
    /// Central difference of fourth order at the chosen step.
    pub fourth_order: f64,
    /// Estimated error of the fourth-order difference.
    pub error: f64,
    /// The chosen step (estimation scale); NaN where no difference could be taken.
    pub step: f64,
    /// Conclusion.
    pub verdict: Verdict,
}

/// Steps tried, relative to max(1, |x|); the one whose difference changes least on the way to the next is chosen.
const STEPS: [f64; 5] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5];

/// Compares every derivative at `x` with differences (f(x + h) - f(x - h)) / 2h and their fourth-order extension over 2h.
///
/// `tolerance` is relative to the larger of the derivative and 1e-3 of the largest derivative: an error far below the others is of no
/// consequence. Steps that leave the bounds or have no value are left out. Errors: only a failure at `x` itself.
pub fn gradient_check<O: Objective>(
    objective: &O,
    x: &[f64],
    tolerance: f64,
    memory: &mut O::Memory,
) -> Result<Vec<GradientCheck>, EvaluationError> {
    let centre = objective.evaluate(x, Order::Gradient, memory)?;
    let largest = centre.gradient.amax();
    let mut checks = Vec::with_capacity(x.len());
    for (i, parameter) in objective.parameters().iter().enumerate() {
        let analytic = centre.gradient[i];
        let mut value = |h: f64| {
            let mut moved = x.to_vec();
            moved[i] += h;
            let inside = moved[i] >= parameter.lower && moved[i] <= parameter.upper;
            let evaluated = if inside { objective.evaluate(&moved, Order::Value, memory).ok() } else { None };
            evaluated.map_or(f64::NAN, |e| e.value)
        };
        // Differences (step, second order, fourth order); NaN where a point has no value.
        let differences: Vec<(f64, f64, f64)> = STEPS
            .iter()
            .map(|relative| {
                let h = relative * x[i].abs().max(1.0);
                let near = (value(h) - value(-h)) / (2.0 * h);
                let far = (value(2.0 * h) - value(-2.0 * h)) / (4.0 * h);
                (h, near, (4.0 * near - far) / 3.0)
            })
            .collect();
        let mut best = (f64::NAN, f64::NAN, f64::NAN, f64::INFINITY);
        for pair in differences.windows(2) {
            let change = (pair[1].2 - pair[0].2).abs();
            if change < best.3 {
                best = (pair[1].0, pair[1].1, pair[1].2, change);
            }
        }
        let (step, central, fourth_order, error) = best;
        let allowed = tolerance * analytic.abs().max(1e-3 * largest);
        let deviation = (analytic - fourth_order).abs();
        let verdict = if deviation <= allowed {
            Verdict::Agrees
        } else if deviation > allowed + 10.0 * error {
            Verdict::Differs
        } else {
            Verdict::Unclear
        };
        checks.push(GradientCheck { id: parameter.id.clone(), analytic, central, fourth_order, error, step, verdict });
    }
    Ok(checks)
}
