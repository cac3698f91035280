//! The gradient of a function of simulated rows by adjoint sensitivities, and the choice between them and forward ones. No array here is as
//! long as parameters times directions.

use super::simulated::{Derivatives, Equilibrium, Rows, Simulated, Start, Worker, first_derivatives, observe, triggers_after};
use crate::model::CompiledModel;
use crate::ode::{Input, SimulationError, Weights};

/// How a gradient is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Forward sensitivities, with Fisher information.
    Forward,
    /// Adjoint sensitivities, without.
    Adjoint,
}

impl Method {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Forward => "forward",
            Method::Adjoint => "adjoint",
        }
    }
}

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// What costs less by estimate.
    Auto,
    /// Forward sensitivities.
    Forward,
    /// Adjoint sensitivities.
    Adjoint,
}

/// A method and why it is taken.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The method.
    pub method: Method,
    /// One line.
    pub reason: String,
}

/// Steps of a simulation of which nothing is known.
pub const USUAL_STEPS: f64 = 1000.0;

/// Chooses the method for a problem with these `simulations` (columns, output times) of `steps` steps each without derivatives; see
/// [`FixedEffects::choose_method`](super::fixed::FixedEffects::choose_method).
pub fn choose(request: Request, advantage: f64, model: &CompiledModel, simulations: &[(usize, usize)], steps: f64) -> Choice {
    let (nx, count) = (model.states.len(), simulations.len().max(1));
    let [forward, adjoint] = costs(model, simulations, steps).map(|seconds| 1e3 * seconds);
    let wanted = match request {
        Request::Forward => Method::Forward,
        Request::Adjoint => Method::Adjoint,
        Request::Auto if adjoint * advantage < forward => Method::Adjoint,
        Request::Auto => Method::Forward,
    };
    let columns = simulations.iter().map(|s| s.0).sum::<usize>() as f64 / count as f64;
    let times = simulations.iter().map(|s| s.1).sum::<usize>() as f64 / count as f64;
    let why = match request {
        Request::Auto if advantage > 1.0 => {
            format!("adjoint is taken where it is {advantage} times cheaper, since it has no Fisher information")
        }
        Request::Auto => "the cheaper one is taken".into(),
        _ => "as asked for".into(),
    };
    let reason = format!(
        "gradient: {} sensitivities ({} simulations of {nx} states with {columns:.0} columns, {times:.0} output times and {steps:.0} steps each: estimated {forward:.1} ms forward, {adjoint:.1} ms adjoint; {why})",
        wanted.name(),
        simulations.len(),
    );
    Choice { method: wanted, reason }
}

/// Estimated seconds for the forward and for the adjoint gradient on one core.
///
/// The constants are nanoseconds per unit of work, and ratios of numbers of steps, chosen by hand for the benchmark problems at default
/// tolerances. Only the ratio of the two costs matters.
fn costs(model: &CompiledModel, simulations: &[(usize, usize)], steps: f64) -> [f64; 2] {
    let n = model.states.len() as f64;
    let (jacobian, by_parameters) = (model.rhs.dx.rows.len() as f64, model.rhs.dp.rows.len() as f64);
    let (fill, elimination) = factor_sizes(model.states.len(), &model.rhs.dx.rows, &model.rhs.dx.columns);
    let factorisation = 0.3 * elimination + n * n;
    let solution = jacobian + fill + 10.0 * n;
    let plain = 300.0 + 1.0 * solution + 10.0 * n + 0.2 * factorisation;
    let back = 1000.0 + factorisation + 3.0 * (2.0 * jacobian + 2.0 * by_parameters + 6.0 * n) + 5.0 * (2.0 * jacobian + fill + 5.0 * n);
    let mut total = [0.0; 2];
    for &(columns, times) in simulations {
        let columns = columns as f64;
        // As in `newton.rs`: many columns have new factors at every step.
        let renewed = if 3.0 * (1.0 + columns) >= n { 1.0 } else { 0.2 };
        total[0] += 1.3 * steps * (plain + renewed * factorisation + 0.12 * columns * (2.0 * jacobian + 2.0 * fill + 30.0 * n));
        // Where a stretch is stiff, backward steps follow the forward ones; else a few for every output do.
        total[1] += 1.7 * steps * plain + steps.max(9.0 * times as f64) * back;
    }
    total.map(|nanoseconds| 1e-9 * nanoseconds)
}

/// Nonzeros of the LU factors of I - gamma J without pivoting, and numbers that a row-wise elimination touches.
fn factor_sizes(n: usize, rows: &[u32], columns: &[u32]) -> (f64, f64) {
    let words = n.div_ceil(64);
    let mut pattern = vec![0_u64; n * words];
    let entries = rows.iter().zip(columns).map(|(i, j)| (*i as usize, *j as usize)).chain((0..n).map(|i| (i, i)));
    entries.for_each(|(i, j)| pattern[i * words + j / 64] |= 1 << (j % 64));
    let mut touched = 0;
    for k in 0..n {
        let (above, below) = pattern.split_at_mut((k + 1) * words);
        let pivot = &above[k * words..];
        for row in below.chunks_exact_mut(words.max(1)).filter(|row| row[k / 64] >> (k % 64) & 1 == 1) {
            touched += n - k;
            row[k / 64..].iter_mut().zip(&pivot[k / 64..]).for_each(|(a, b)| *a |= b);
        }
    }
    let fill: u32 = pattern.iter().map(|word| word.count_ones()).sum();
    (f64::from(fill), touched as f64)
}

impl Worker {
    /// Simulations and noise scales of the rows at `theta`, as [`Worker::simulate`] gives them; [`Worker::backward`] can follow.
    pub fn record(&mut self, rows: &Rows, theta: &[f64], equilibrium: Option<&Equilibrium>) -> Result<Simulated, SimulationError> {
        let model = self.model.clone();
        let experiment = &model.experiments[rows.experiment];
        let mut start = Start::new(&model, experiment, &[], theta, &[], Derivatives::None, &mut self.scratch);
        if let Some(equilibrium) = equilibrium {
            start.begin_at(equilibrium, &[]);
        }
        let triggers = equilibrium.map(|e| triggers_after(&model, &e.end));
        let input = Input { changes: &experiment.changes, triggers: triggers.as_deref(), ..start.input(experiment) };
        let trajectory = self.simulator.record(&input, &rows.times)?;
        Ok(observe(&model, rows, &start, trajectory, &mut self.scratch))
    }

    /// The gradient by theta of a function of the rows just recorded at `theta`, from its derivatives (by simulation, by noise scale) row
    /// by row.
    pub fn backward(
        &mut self,
        rows: &Rows,
        theta: &[f64],
        slopes: &[(f64, f64)],
        equilibrium: Option<&Equilibrium>,
    ) -> Result<Vec<f64>, SimulationError> {
        let weights = self.weights(rows, slopes);
        let mut by_start = self.simulator.backward(&weights)?;
        if let Some(equilibrium) = equilibrium {
            by_start = self.simulator.backward_from_steady_state(&equilibrium.end, by_start)?;
        }
        let (model, np) = (&self.model, self.model.parameters.len());
        let setup = &model.experiments[rows.experiment].setup;
        let mut input = vec![0.0; np];
        input[..model.theta].copy_from_slice(&theta[..model.theta]);
        let mut gradient = vec![0.0; model.theta];
        for (output, row, value) in setup.derivatives(&input, &mut self.scratch) {
            let outer = if output < np { by_start.parameters[output] } else { by_start.states[output - np] };
            // A derivative that is not finite matters only where something depends on it.
            if outer != 0.0 {
                gradient[row] += outer * value;
            }
        }
        Ok(gradient)
    }

    /// From derivatives by the rows to derivatives by states and parameters at the output times.
    fn weights(&mut self, rows: &Rows, slopes: &[(f64, f64)]) -> Weights {
        let (nx, np) = (self.model.states.len(), self.model.parameters.len());
        let trajectory = self.simulator.trajectory();
        let mut weights = Weights { states: vec![0.0; rows.times.len() * nx], parameters: vec![vec![]; rows.times.len()] };
        let (mut q, mut buffer) = (vec![], vec![]);
        for (row, &(by_y, by_sigma)) in rows.rows.iter().zip(slopes) {
            let i = row.time;
            let p = &trajectory.parameters[trajectory.segment[i]];
            row.fill_placeholders(p, &mut q);
            let arrays = [std::slice::from_ref(&rows.times[i]), trajectory.block(i), p, &q];
            for (output, a, value) in first_derivatives(&self.model.observables[row.observable], arrays, nx, &mut buffer, &mut self.scratch)
            {
                let slope = value * if output == 0 { by_y } else { by_sigma };
                if slope == 0.0 {
                } else if a < nx {
                    weights.states[i * nx + a] += slope;
                } else if let Some(b) = row.parameter(a - nx, np) {
                    weights.parameters[i].push((b, slope));
                }
            }
        }
        weights
    }
}
