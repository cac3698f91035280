//! CVODES' own forward sensitivities: the oracle of the block method.
//!
//! The staggered corrector with sensitivities in the error test, one vector for each direction, as AMICI uses it, with SUNDIALS' own vectors,
//! matrix and linear solver. It shares nothing with [`Simulator`](super::Simulator) but the compiled functions. Slower by an order of
//! magnitude, and without switches, changes of period and second order.

use super::SimulationError;
use super::cvodes::{Failure, Forward, ForwardSystem};
use super::simulator::{Counts, Input, Options, Trajectory, check_input};
use crate::jit::Scratch;
use crate::model::CompiledModel;
use std::sync::Arc;

struct Equations<'a> {
    model: &'a CompiledModel,
    parameters: &'a [f64],
    seeds: &'a [f64],
    directions: usize,
    jacobian: Vec<f64>,
    parameter_jacobian: Vec<f64>,
    scratch: Scratch,
}

fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}

impl ForwardSystem for Equations<'_> {
    fn rhs(&mut self, t: f64, y: &[f64], ydot: &mut [f64]) -> bool {
        self.model.rhs.value.call([&[t], y, self.parameters, &[]], ydot, &mut self.scratch);
        all_finite(ydot)
    }

    fn jacobian(&mut self, t: f64, y: &[f64], columns: &mut [f64]) -> bool {
        let dx = &self.model.rhs.dx;
        dx.kernel.call([&[t], y, self.parameters, &[]], &mut self.jacobian, &mut self.scratch);
        columns.fill(0.0);
        for ((&i, &j), &v) in dx.rows.iter().zip(&dx.columns).zip(&self.jacobian) {
            columns[j as usize * y.len() + i as usize] = v;
        }
        all_finite(&self.jacobian)
    }

    fn sensitivities(&mut self, t: f64, y: &[f64], s: &[&[f64]], sdot: &mut [&mut [f64]]) -> bool {
        let function = &self.model.rhs;
        let inputs = [&[t][..], y, self.parameters, &[]];
        function.dx.kernel.call(inputs, &mut self.jacobian, &mut self.scratch);
        function.dp.kernel.call(inputs, &mut self.parameter_jacobian, &mut self.scratch);
        for (k, (s, sdot)) in s.iter().zip(sdot.iter_mut()).enumerate() {
            sdot.fill(0.0);
            for ((&i, &j), &v) in function.dx.rows.iter().zip(&function.dx.columns).zip(&self.jacobian) {
                sdot[i as usize] += v * s[j as usize];
            }
            for ((&i, &b), &v) in function.dp.rows.iter().zip(&function.dp.columns).zip(&self.parameter_jacobian) {
                if (b as usize) < self.parameters.len() {
                    sdot[i as usize] += v * self.seeds[b as usize * self.directions + k];
                }
            }
            if !all_finite(sdot) {
                return false;
            }
        }
        true
    }
}

/// Simulates a smooth model with first-order sensitivities by CVODES' staggered method.
///
/// Arguments and result are those of [`Simulator::simulate`](super::Simulator::simulate); tolerances apply to states and sensitivities alike,
/// `options.sensitivity_factor` is not used. Fails with `Unsupported` where there are switches, changes or pairs.
pub fn cvodes_forward(
    model: &Arc<CompiledModel>,
    options: &Options,
    input: &Input,
    times: &[f64],
) -> Result<(Trajectory, Counts), SimulationError> {
    check_input(model, input, times)?;
    let (nx, ns) = (model.states.len(), input.directions);
    if !model.switches.is_empty() || !input.changes.is_empty() || input.second.is_some() || nx == 0 {
        return Err(SimulationError::Unsupported { what: "a switch, a change of period or second order in the staggered method".into() });
    }
    let mut trajectory = Trajectory { times: times.to_vec(), nx, columns: 1 + ns, ..Default::default() };
    trajectory.parameters.push(input.parameters.to_vec());
    trajectory.parameter_seeds.push(input.parameter_seeds.to_vec());
    trajectory.parameter_second.push(vec![]);

    let mut next = 0;
    while times.get(next).is_some_and(|t| *t == input.start) {
        for i in 0..nx {
            trajectory.blocks.push(input.states[i]);
            trajectory.blocks.extend_from_slice(&input.state_seeds[i * ns..(i + 1) * ns]);
        }
        next += 1;
    }
    let equations = Equations {
        model,
        parameters: input.parameters,
        seeds: input.parameter_seeds,
        directions: ns,
        jacobian: vec![0.0; model.rhs.dx.rows.len()],
        parameter_jacobian: vec![0.0; model.rhs.dp.rows.len()],
        scratch: Scratch::default(),
    };
    let columns: Vec<Vec<f64>> = (0..ns).map(|k| (0..nx).map(|i| input.state_seeds[i * ns + k]).collect()).collect();
    let failed = |f: Failure, time: f64| SimulationError::Solver { function: f.function, flag: f.flag, time };
    let mut integrator = Forward::new(equations, options, input.start, input.states, &columns).map_err(|f| failed(f, input.start))?;
    let (mut now, mut steps) = (input.start, 0);
    let mut block = vec![0.0; nx * (1 + ns)];
    while next < times.len() {
        now = integrator.step(times[times.len() - 1]).map_err(|f| failed(f, now))?;
        steps += 1;
        if steps >= options.max_steps {
            return Err(SimulationError::StepLimit { time: now, steps });
        }
        while let Some(&t) = times.get(next).filter(|t| **t <= now) {
            for c in 0..=ns {
                let column = integrator.interpolate(t, c).map_err(|f| failed(f, t))?;
                for (i, v) in column.iter().enumerate() {
                    block[i * (1 + ns) + c] = *v;
                }
            }
            trajectory.blocks.extend_from_slice(&block);
            next += 1;
            steps = 0;
        }
    }
    trajectory.segment.resize(times.len(), 0);
    Ok((trajectory, integrator.counts()))
}
