//! The time course of a model as it is: its outputs, without parameters to estimate and without derivatives.

use super::simulator::{Input, Simulator, Trajectory};
use super::{Execution, SimulationError};
use crate::jit::{Kernel, Scratch};
use crate::model::CompiledModel;

/// Outputs at the times asked for, and what happened on the way.
#[derive(Debug, Clone)]
pub struct TimeCourse {
    /// For each time the outputs, in the order of the system's.
    pub outputs: Vec<Vec<f64>>,
    /// Constraints that did not hold at an output time, each with the first such time.
    pub violated: Vec<(usize, f64)>,
    /// The events that were executed.
    pub executions: Vec<Execution>,
}

/// Simulates the first experiment of a model without theta, at `times`.
///
/// Fails as [`Simulator::simulate`].
pub fn time_course(model: &CompiledModel, simulator: &mut Simulator, times: &[f64]) -> Result<TimeCourse, SimulationError> {
    let Some(experiment) = model.experiments.first() else {
        return Err(SimulationError::Unsupported { what: "a time course of a model without experiment".into() });
    };
    let np = model.parameters.len();
    let mut scratch = Scratch::default();
    let values = experiment.setup.values(&vec![0.0; np], &mut scratch);
    let input = Input {
        start: experiment.start,
        states: &values[np..],
        parameters: &values[..np],
        changes: &experiment.changes,
        triggers: None,
        before: &experiment.before,
        directions: 0,
        state_seeds: &[],
        parameter_seeds: &[],
        second: None,
        awaited: None,
    };
    let trajectory = simulator.simulate(&input, times)?;
    let outputs = evaluate(&model.outputs, trajectory, &mut scratch);
    let conditions = evaluate(&model.constraints, trajectory, &mut scratch);
    let broken = |k: usize| conditions.iter().position(|c| c[k] == 0.0).map(|i| (k, times[i]));
    let violated = (0..model.constraints.outputs()).filter_map(broken).collect();
    Ok(TimeCourse { outputs, violated, executions: trajectory.executions.clone() })
}

/// The outputs of a kernel at every time of a trajectory of states alone.
fn evaluate(kernel: &Kernel, trajectory: &Trajectory, scratch: &mut Scratch) -> Vec<Vec<f64>> {
    let at = |(i, t): (usize, &f64)| {
        let mut out = vec![0.0; kernel.outputs()];
        let parameters = &trajectory.parameters[trajectory.segment[i]];
        kernel.call([std::slice::from_ref(t), trajectory.block(i), parameters, &[]], &mut out, scratch);
        out
    };
    trajectory.times.iter().enumerate().map(at).collect()
}
