//! Back onto the invariants (algebraic rules, equilibria of fast reactions) at the start and after every jump.
//!
//! With directions D the states become x + D u such that r(t, x + D u, p) = 0. Their derivatives follow from the implicit
//! function theorem: r_x (X_k + D u_k) + r_p P_k + r_t tau_k = 0, and once more for the second order.
//!
//! Algebraic rules are solved by Newton's method. Fast reactions have their direction, which chooses among several equilibria:
//! they are followed from where they are by implicit Euler steps of growing length, which end as Newton's method
//! (pseudo-transient continuation, Kelley and Keyes 1998, SIAM J. Numer. Anal. 35:508).

use super::SimulationError;
use super::system::System;
use nalgebra::{DMatrix, DVector};

/// Most steps towards the invariants.
const MAX_ITERATIONS: usize = 300;

/// Moves the carried block `y` onto the invariants. Fails with `Invariant` where there is no solution near.
pub fn project(system: &mut System, t: f64, y: &mut [f64]) -> Result<(), SimulationError> {
    let model = system.model.clone();
    let invariants = &model.invariants;
    let m = invariants.positive.len();
    if m == 0 {
        return Ok(());
    }
    let (nx, ns, stride) = (system.shape.rows, system.directions, system.shape.stride);
    let mut x = system.states(y).to_vec();
    let mut directions = vec![0.0; invariants.places.len()];
    invariants.directions.call([&[t][..], &x, &system.parameters, &[]], &mut directions, &mut system.scratch);
    let along = |u: &DVector<f64>| {
        let mut dx = vec![0.0; nx];
        for (&(k, i), d) in invariants.places.iter().zip(&directions) {
            dx[i] += d * u[k];
        }
        dx
    };
    let bounded: Vec<bool> = (0..nx).map(|i| invariants.places.iter().any(|p| p.1 == i && invariants.positive[p.0])).collect();
    let mut matrix = DMatrix::zeros(m, m);
    let mut residual = DVector::zeros(m);
    let mut moved = false;
    let (mut last, mut last_residual, mut inverse_step) = (f64::INFINITY, f64::INFINITY, 0.0);
    // A fast reaction whose rate law vanishes just now, whatever the amounts, is looked at a moment later.
    evaluate(system, t, &x, &directions, &mut residual, &mut matrix);
    let vanishes = |k: usize| invariants.positive[k] && residual[k] == 0.0 && matrix.row(k).iter().all(|v| *v == 0.0);
    let moment = if (0..m).any(vanishes) { 1e-9 * t.abs().max(1.0) } else { 0.0 };
    let mut f = vec![0.0; nx];
    if moment > 0.0 {
        system.states_rhs(t, y, &mut f);
    }
    for iteration in 0.. {
        let later: Vec<f64> = x.iter().zip(&f).map(|(x, f)| x + moment * f).collect();
        evaluate(system, t + moment, &later, &directions, &mut residual, &mut matrix);
        if residual.iter().any(|r| !r.is_finite()) {
            return Err(SimulationError::NonFinite { time: t, what: "algebraic rule or rate of a fast reaction".into() });
        }
        if residual.iter().all(|r| *r == 0.0) {
            break;
        }
        let size = residual.amax();
        let largest = x.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let least = 2.0 * matrix.amax() + size / largest;
        inverse_step = if size < last_residual && iteration > 0 { inverse_step * (size / last_residual).max(0.1) } else { least };
        last_residual = size;
        let mut shifted = -&matrix;
        (0..m).filter(|k| invariants.positive[*k]).for_each(|k| shifted[(k, k)] += inverse_step);
        let mut step = along(&solve(&shifted, &residual));
        let length: f64 = step.iter().zip(&x).map(|(d, x)| d.abs() / (x.abs() + 1e-8)).fold(0.0, f64::max);
        // At rounding level steps stop to shrink.
        if length <= 4.0 * f64::EPSILON || (length < 1e-12 && length >= 0.5 * last) {
            break;
        }
        last = length;
        if iteration == MAX_ITERATIONS || !length.is_finite() {
            return Err(SimulationError::Invariant { time: t });
        }
        let room = (0..nx).filter(|&i| bounded[i] && x[i] > 0.0 && x[i] + step[i] < 0.0).map(|i| -x[i] / step[i]);
        let shorter = room.fold(1.0, f64::min);
        step.iter_mut().for_each(|d| *d *= shorter);
        x.iter_mut().zip(&step).for_each(|(x, d)| *x += d);
        moved = true;
    }
    for (row, x) in y.chunks_exact_mut(stride).zip(&x) {
        row[0] = *x;
    }
    if ns == 0 {
        return Ok(());
    }
    if moved && invariants.directions_vary {
        return Err(SimulationError::Unsupported {
            what: "a derivative of a fast reaction whose stoichiometry or volume is a parameter".into(),
        });
    }
    let columns = system.shape.columns;
    let mut rows = vec![0.0; m * columns];
    for order in [1..1 + ns, 1 + ns..columns] {
        if order.is_empty() {
            continue;
        }
        system.differentiate(&invariants.residuals, &[], t, y, &mut rows);
        for c in order {
            let right = DVector::from_iterator(m, (0..m).map(|k| -rows[k * columns + c]));
            let dx = along(&solve(&matrix, &right));
            y.chunks_exact_mut(stride).zip(dx).for_each(|(row, d)| row[c] += d);
        }
    }
    Ok(())
}

/// Residuals and their derivatives along the directions.
fn evaluate(system: &mut System, t: f64, x: &[f64], directions: &[f64], residual: &mut DVector<f64>, matrix: &mut DMatrix<f64>) {
    let model = system.model.clone();
    let invariants = &model.invariants;
    let inputs = [&[t][..], x, &system.parameters, &[]];
    invariants.residuals.value.call(inputs, residual.as_mut_slice(), &mut system.scratch);
    let dx = &invariants.residuals.dx;
    let mut values = vec![0.0; dx.kernel.outputs()];
    dx.kernel.call(inputs, &mut values, &mut system.scratch);
    matrix.fill(0.0);
    for ((&r, &i), v) in dx.rows.iter().zip(&dx.columns).zip(&values) {
        for (&(k, place), d) in invariants.places.iter().zip(directions) {
            if place == i as usize {
                matrix[(r as usize, k)] += v * d;
            }
        }
    }
}

/// The solution, of least length where there are several (reactions that are switched off).
fn solve(matrix: &DMatrix<f64>, right: &DVector<f64>) -> DVector<f64> {
    let largest = matrix.amax();
    if let Some(solution) = matrix.clone().lu().solve(right)
        && solution.iter().all(|v| v.is_finite())
    {
        return solution;
    }
    matrix.clone().svd(true, true).solve(right, 1e-14 * largest).unwrap_or_else(|_| DVector::zeros(right.len()))
}
