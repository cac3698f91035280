//! CVODES' own forward sensitivities: the oracle of the block method.
//!
//! The staggered corrector with sensitivities in the error test, one vector for each direction, as AMICI uses it. Slower by an
//! order of magnitude than [`Simulator`](super::Simulator), and without switches, changes of period and second order.

use super::SimulationError;
use super::cvodes::{Integrator, Method, Step};
use super::simulator::{Counts, Input, Options, Trajectory, check_input, simulation_error};
use super::system::System;
use crate::model::CompiledModel;
use crate::model::compiled::PeriodChange;
use crate::ode::block::Shape;
use std::sync::Arc;

/// Simulates a smooth model with first-order sensitivities by CVODES' staggered method.
///
/// Arguments and result are those of [`Simulator::simulate`](super::Simulator::simulate); tolerances apply to states and sensitivities alike,
/// `options.sensitivity_factor` is not used. Fails with `Unsupported` where there are switches, changes or pairs.
pub fn cvodes_forward(model: &Arc<CompiledModel>, options: &Options, input: &Input, times: &[f64]) -> Result<(Trajectory, Counts), SimulationError> {
    check_input(model, input, times)?;
    let (nx, ns) = (model.states.len(), input.directions);
    let no_changes: &[PeriodChange] = &[];
    if !model.switches.is_empty() || input.changes.len() != no_changes.len() || input.second.is_some() || nx == 0 {
        return Err(SimulationError::Unsupported { what: "a switch, a change of period or second order in the staggered method".into() });
    }
    let mut trajectory = Trajectory { times: times.to_vec(), nx, columns: 1 + ns, ..Default::default() };
    trajectory.parameters.push(input.parameters.to_vec());
    trajectory.parameter_seeds.push(input.parameter_seeds.to_vec());
    trajectory.parameter_second.push(vec![]);

    let mut system = System::new(model.clone(), options, ns, 0);
    system.parameters.copy_from_slice(input.parameters);
    system.seeds.copy_from_slice(input.parameter_seeds);
    // The integrator's vectors have one column.
    system.shape = Shape::new(nx, 1);
    let failed = |f: super::cvodes::Failure| SimulationError::Solver { function: f.function, flag: f.flag, time: input.start };
    let mut integrator = Integrator::new(system, options, Method::Staggered).map_err(failed)?;
    integrator.parts().1.copy_from_slice(input.states);
    for k in 0..ns {
        for (i, v) in integrator.sensitivity(k).iter_mut().enumerate() {
            *v = input.state_seeds[i * ns + k];
        }
    }

    let mut next = 0;
    while times.get(next).is_some_and(|t| *t == input.start) {
        for i in 0..nx {
            trajectory.blocks.push(input.states[i]);
            trajectory.blocks.extend_from_slice(&input.state_seeds[i * ns..(i + 1) * ns]);
        }
        next += 1;
    }
    let (mut now, mut steps) = (input.start, 0);
    integrator.restart(now, None).map_err(failed)?;
    let mut block = vec![0.0; nx * (1 + ns)];
    while next < times.len() {
        match integrator.step(times[times.len() - 1]) {
            Ok(Step::Taken(t) | Step::Stop(t) | Step::Root(t)) => now = t,
            Err(failure) => return Err(simulation_error(&mut integrator, failure, now)),
        }
        steps += 1;
        if steps >= options.max_steps {
            return Err(SimulationError::StepLimit { time: now, steps });
        }
        while let Some(&t) = times.get(next).filter(|t| **t <= now) {
            for c in 0..=ns {
                let column = if c == 0 { integrator.interpolate(t) } else { integrator.interpolate_sensitivity(t, c - 1) }.map_err(failed)?;
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
    Ok((trajectory, integrator.take_counts()))
}
