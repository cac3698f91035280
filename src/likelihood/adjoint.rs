//! The gradient of a function of simulated rows by adjoint sensitivities: no array here is as long as parameters times directions.

use super::simulated::{Derivatives, Equilibrium, Rows, Simulated, Start, Worker, first_derivatives, observe};
use crate::ode::{Input, SimulationError, Weights};

/// How a gradient is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Forward sensitivities, with Fisher information.
    #[default]
    Forward,
    /// Adjoint sensitivities, without.
    Adjoint,
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
        let triggers = equilibrium.map(|e| e.end.triggers.as_slice());
        let input = Input { changes: &experiment.changes, triggers, ..start.input(experiment) };
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
