//! The nonlinear system of one BDF step, y_n = a_n + gamma f(t_n, y_n), solved for a whole block.
//!
//! A staggered corrector (Feehery, Tolsma and Barton 1997, Appl. Numer. Math. 25:41; Caracotsios and Stewart 1985,
//! Comput. Chem. Eng. 9:359): Newton's method converges in the states first, a system of one column. At the states found, the
//! equations of the first-order sensitivities are linear, and after them those of the second-order ones, so their columns
//! need no iteration if the matrix I - gamma J is factorised there: one factorisation for each step, one product of the
//! Jacobian with the block, one solution of all columns together.
//!
//! Where there are many states for few columns, a factorisation costs more than an iteration of the columns. Then the
//! factors of earlier steps are kept as long as the iteration converges with them, as CVODES does.

use super::block;
use super::system::{NotFinite, System};
use std::ops::Range;

/// Most iterations with one matrix.
const MAX_ITERATIONS: usize = 3;
/// Relative change of gamma that asks for a new factorisation.
const GAMMA_CHANGE: f64 = 0.3;
/// Steps after which factors are renewed.
const FACTOR_STEPS: usize = 20;
/// Steps after which the Jacobian is renewed.
const JACOBIAN_STEPS: usize = 50;
/// Convergence rates are remembered with this factor.
const RATE_MEMORY: f64 = 0.3;
/// Growth of the corrections that counts as divergence.
const DIVERGENCE: f64 = 2.0;

/// One step's system, as the integrator states it.
pub struct StepSystem<'a> {
    /// Time of the step's end.
    pub time: f64,
    /// Step size times the method's coefficient.
    pub gamma: f64,
    /// With `rate`: the predicted derivative, times gamma.
    pub scale: f64,
    /// Predicted block.
    pub predicted: &'a [f64],
    /// The block whose `scale`-fold is gamma times the predicted derivative.
    pub rate: &'a [f64],
    /// Error weights.
    pub weights: &'a [f64],
    /// Norm of the correction's error that is small enough.
    pub tolerance: f64,
    /// Wanted: what to add to the prediction. Zero on entry.
    pub correction: &'a mut [f64],
    /// Room for one block.
    pub y: &'a mut [f64],
    /// Room for another.
    pub delta: &'a mut [f64],
}

/// How a solution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solution {
    /// The correction is found.
    Converged,
    /// Newton's method did not converge, or the matrix is singular.
    Diverged,
    /// A right-hand side or Jacobian is not finite; where is noted in the system.
    NotFinite,
}

/// What Newton's method remembers from step to step.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// gamma of the factors, 0 where there are none.
    factor_gamma: f64,
    factor_age: usize,
    jacobian_age: usize,
    /// Estimated convergence rates of the states and of the sensitivities.
    rate: f64,
    sensitivity_rate: f64,
    states: Vec<f64>,
    predicted: Vec<f64>,
    constant: Vec<f64>,
    correction: Vec<f64>,
    delta: Vec<f64>,
    weights: Vec<f64>,
    /// Iterations of the last solution, in the states.
    pub iterations: usize,
    /// Failed attempts of the last solution.
    pub failures: usize,
}

impl Memory {
    /// Memory for `n` states.
    pub fn new(n: usize) -> Self {
        let v = || vec![0.0; n];
        Memory { states: v(), predicted: v(), constant: v(), correction: v(), delta: v(), weights: v(), ..Default::default() }
    }

    /// Forgets everything, so that the next step does not depend on earlier ones.
    pub fn reset(&mut self) {
        self.factor_gamma = 0.0;
        self.factor_age = 0;
        self.jacobian_age = usize::MAX;
        self.rate = 1.0;
        self.sensitivity_rate = 1.0;
    }
}

impl Memory {
    fn factors_renewed(&mut self, gamma: f64) {
        (self.factor_gamma, self.factor_age, self.rate, self.sensitivity_rate) = (gamma, 0, 1.0, 1.0);
    }
}

/// The convergence test of CVODES: whether a correction of norm `size` leaves an error below `tolerance`. `None`: diverging.
fn converges(size: f64, previous: Option<f64>, rate: &mut f64, tolerance: f64) -> Option<bool> {
    if let Some(previous) = previous {
        *rate = (RATE_MEMORY * *rate).max(size / previous);
    }
    if size * rate.min(1.0) <= tolerance {
        return Some(true);
    }
    match previous {
        Some(previous) if size > DIVERGENCE * previous => None,
        _ if size.is_nan() => None,
        _ => Some(false),
    }
}

impl System {
    /// Solves one step's system.
    #[inline(always)]
    pub fn solve_step(&mut self, step: &mut StepSystem) -> Solution {
        let mut memory = std::mem::take(&mut self.newton);
        memory.iterations = 0;
        memory.failures = 0;
        let mut solution = self.solve_states(&mut memory, step);
        if solution == Solution::Converged && self.directions > 0 {
            solution = self.solve_sensitivities(&mut memory, step);
        }
        memory.factor_age = memory.factor_age.saturating_add(1);
        memory.jacobian_age = memory.jacobian_age.saturating_add(1);
        if solution != Solution::Converged {
            memory.factor_gamma = 0.0;
            memory.jacobian_age = usize::MAX;
        }
        self.newton = memory;
        solution
    }

    /// Newton's method for column 0. Leaves the states in `memory.states` and writes column 0 of the correction.
    #[inline(always)]
    fn solve_states(&mut self, memory: &mut Memory, step: &mut StepSystem) -> Solution {
        let stride = self.shape.stride;
        for (i, row) in step.predicted.chunks_exact(stride).enumerate() {
            memory.predicted[i] = row[0];
        }
        for (i, row) in step.rate.chunks_exact(stride).enumerate() {
            memory.constant[i] = step.scale * row[0];
        }
        for (i, row) in step.weights.chunks_exact(stride).enumerate() {
            memory.weights[i] = row[0];
        }
        memory.correction.fill(0.0);
        let ratio = |m: &Memory| step.gamma / m.factor_gamma;
        let mut setup = memory.factor_gamma == 0.0 || (ratio(memory) - 1.0).abs() > GAMMA_CHANGE || memory.factor_age >= FACTOR_STEPS;
        let mut fresh = false;
        loop {
            block::linear_sum(1.0, &memory.predicted, 1.0, &memory.correction, &mut memory.states);
            if !self.evaluate_states(step.time, &memory.states) {
                return Solution::NotFinite;
            }
            if setup {
                // With sensitivities the Jacobian at the last step's end is at hand, which is fresh enough.
                if !fresh && memory.jacobian_age >= JACOBIAN_STEPS {
                    fresh = true;
                }
                if fresh {
                    if !self.evaluate_jacobian(step.time, &memory.states) {
                        return Solution::NotFinite;
                    }
                    memory.jacobian_age = 0;
                }
                memory.factor_gamma = 0.0;
                if !self.factorise(step.gamma) {
                    if fresh {
                        return Solution::Diverged;
                    }
                    fresh = true;
                    continue;
                }
                memory.factors_renewed(step.gamma);
            }
            // The factors belong to another gamma; this scaling halves the error (Hindmarsh et al. 2005, section 2.1).
            let scale = 2.0 / (1.0 + ratio(memory));
            let mut previous = None;
            let mut converged = None;
            for iteration in 0..MAX_ITERATIONS {
                memory.iterations += 1;
                for i in 0..memory.delta.len() {
                    memory.delta[i] = scale * (step.gamma * self.rates()[i] - memory.constant[i] - memory.correction[i]);
                }
                self.solve_columns(&mut memory.delta, 1, 0..1);
                block::linear_sum_in_place(1.0, &memory.delta, 1.0, &mut memory.correction);
                let size = block::wrms_norm(&memory.delta, &memory.weights, block::Shape::new(memory.delta.len(), 1));
                converged = converges(size, previous, &mut memory.rate, step.tolerance);
                if converged != Some(false) {
                    break;
                }
                previous = Some(size);
                if iteration + 1 < MAX_ITERATIONS {
                    block::linear_sum(1.0, &memory.predicted, 1.0, &memory.correction, &mut memory.states);
                    if !self.evaluate_states(step.time, &memory.states) {
                        converged = None;
                        break;
                    }
                }
            }
            if converged == Some(true) {
                break;
            }
            memory.failures += 1;
            if fresh {
                return Solution::Diverged;
            }
            // Once more with a Jacobian at the prediction.
            (setup, fresh) = (true, true);
            memory.correction.fill(0.0);
        }
        block::linear_sum(1.0, &memory.predicted, 1.0, &memory.correction, &mut memory.states);
        for (row, v) in step.correction.chunks_exact_mut(stride).zip(&memory.correction) {
            row[0] = *v;
        }
        Solution::Converged
    }

    /// The sensitivity columns at the states that [`System::solve_states`] found.
    #[inline(always)]
    fn solve_sensitivities(&mut self, memory: &mut Memory, step: &mut StepSystem) -> Solution {
        let (stride, first_pair) = (self.shape.stride, 1 + self.directions);
        if !self.evaluate_jacobian(step.time, &memory.states) {
            return Solution::NotFinite;
        }
        memory.jacobian_age = 0;
        self.evaluate_parameter_jacobian(step.time, &memory.states);
        if self.renews_factors {
            memory.factor_gamma = 0.0;
            if !self.factorise(step.gamma) {
                return Solution::Diverged;
            }
            memory.factors_renewed(step.gamma);
        }
        step.y.copy_from_slice(step.predicted);
        for (row, x) in step.y.chunks_exact_mut(stride).zip(&memory.states) {
            row[0] = *x;
        }
        let first_order = self.solve_phase(memory, step, 1..first_pair);
        if first_order != Solution::Converged || self.pairs.is_empty() {
            return first_order;
        }
        self.evaluate_second(step.time, &memory.states, step.y);
        self.solve_phase(memory, step, first_pair..self.shape.columns)
    }

    /// Solves for the columns of one order, all lower ones being known. `step.y` holds the prediction and receives the solution.
    #[inline(always)]
    fn solve_phase(&mut self, memory: &mut Memory, step: &mut StepSystem, columns: Range<usize>) -> Solution {
        let (rows, stride) = (self.shape.rows, self.shape.stride);
        // Work on whole registers; what this does to neighbouring columns is thrown away.
        let wide = block::covering(&columns, stride);
        let (mut previous, mut exact, mut iterations) = (None, self.renews_factors, 0);
        loop {
            // delta = gamma f(y) - gamma y'_predicted - correction
            self.sensitivity_rhs(step.y, step.delta, &columns);
            let factor = if exact { 1.0 } else { 2.0 / (1.0 + step.gamma / memory.factor_gamma) };
            for i in 0..rows {
                let range = i * stride + wide.start..i * stride + wide.end;
                let (rate, correction) = (&step.rate[range.clone()], &step.correction[range.clone()]);
                for ((d, r), c) in step.delta[range].iter_mut().zip(rate).zip(correction) {
                    *d = factor * (step.gamma * *d - step.scale * r - c);
                }
            }
            self.solve_columns(step.delta, stride, wide.clone());
            for i in 0..rows {
                let range = i * stride + columns.start..i * stride + columns.end;
                let (y, correction) = (&mut step.y[range.clone()], &mut step.correction[range.clone()]);
                for ((d, y), c) in step.delta[range].iter().zip(y).zip(correction) {
                    *c += d;
                    *y += d;
                }
            }
            let size = block::wrms_norm_of(step.delta, step.weights, stride, &columns);
            if !size.is_finite() {
                let bad = columns.clone().flat_map(|c| (0..rows).map(move |r| (r, c))).find(|&(r, c)| !step.y[r * stride + c].is_finite());
                let (row, column) = bad.unwrap_or((0, columns.start));
                self.not_finite = Some(NotFinite { time: step.time, row, column });
                return Solution::NotFinite;
            }
            iterations += 1;
            if exact {
                return Solution::Converged;
            }
            match converges(size, previous, &mut memory.sensitivity_rate, step.tolerance) {
                Some(true) => return Solution::Converged,
                Some(false) if iterations < MAX_ITERATIONS => previous = Some(size),
                _ => {
                    // The factors are too old. With new ones the next iteration is the last.
                    memory.factor_gamma = 0.0;
                    if !self.factorise(step.gamma) {
                        return Solution::Diverged;
                    }
                    memory.factors_renewed(step.gamma);
                    exact = true;
                }
            }
        }
    }
}
