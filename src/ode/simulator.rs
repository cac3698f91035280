//! One simulator per thread: owns the integrator and all its memory, re-used without allocation.

use super::SimulationError;
use super::adjoint::{self, Gradient, Weights};
use super::cvodes::{Failure, Integrator};
use super::events::Execution;
use super::record::Record;
use super::run::{self, End, Goal};
use super::steady_state::{self, Found};
use super::system::System;
use crate::jit::Kernel;
use crate::model::CompiledModel;
use crate::model::compiled::{ObservedEvent, PeriodChange};
use crate::model::conservation::Conservation;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use sundials_sys as flags;

/// Integration settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Relative tolerance of the states.
    pub rtol: f64,
    /// Absolute tolerance of the states.
    pub atol: f64,
    /// Whether the absolute tolerance is meant for states of the order of 1, and is smaller where all initial states are: in
    /// units of the largest of them. (A model in mol per litre has states of 1e-9.)
    pub scaled_atol: bool,
    /// Factor by which the tolerances of sensitivity columns are looser than the states'.
    pub sensitivity_factor: f64,
    /// Factor by which the relative tolerance of adjoint sensitivities, which is one of the gradient as a whole, is looser.
    pub adjoint_factor: f64,
    /// Factor by which the tolerances of a recorded simulation are tighter: where there are no sensitivities in the error test, the states
    /// alone must carry the accuracy of the gradient.
    pub record_factor: f64,
    /// Most steps between two output times, or to a steady state.
    pub max_steps: usize,
    /// Where Newton's method does not apply, a steady state is where every rate is at most the first number times the state plus
    /// the second one, per unit of time and per time that has passed.
    pub steady_state: (f64, f64),
    /// Seed of the order in which simultaneous events of equal priority are executed.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rtol: 1e-10,
            atol: 1e-12,
            scaled_atol: false,
            sensitivity_factor: 10.0,
            adjoint_factor: 100.0,
            record_factor: 0.01,
            max_steps: 100_000,
            steady_state: (1e-8, 1e-12),
            seed: 1,
        }
    }
}

/// Second-order directions.
#[derive(Debug, Clone, Copy)]
pub struct Second<'a> {
    /// Pairs (k, l), k <= l, of first-order directions.
    pub pairs: &'a [(u32, u32)],
    /// d2 x0 / (dxi_k dxi_l): nx rows by pairs columns, row-major.
    pub states: &'a [f64],
    /// d2 p / (dxi_k dxi_l): np rows by pairs columns, row-major.
    pub parameters: &'a [f64],
}

/// Start of a simulation and the directions to propagate. Directions should be scaled to be of the order of the states
/// themselves (derivatives by log-parameters are), since their absolute tolerance is the states'.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Start time.
    pub start: f64,
    /// Initial states (nx).
    pub states: &'a [f64],
    /// Parameters (np); the flags of switches are set by the simulator.
    pub parameters: &'a [f64],
    /// Changes at later times. Those at the start are made there.
    pub changes: &'a [PeriodChange],
    /// Values of the triggers just before the start, where something came before it.
    pub triggers: Option<&'a [bool]>,
    /// Delayed quantities at times before the start, as functions of (t, theta); see [`crate::model::compiled::CompiledExperiment`].
    pub before: &'a [Kernel],
    /// Number ns of first-order directions.
    pub directions: usize,
    /// dx0/dxi: nx rows by ns columns, row-major.
    pub state_seeds: &'a [f64],
    /// dp/dxi: np rows by ns columns, row-major.
    pub parameter_seeds: &'a [f64],
    /// Second-order directions.
    pub second: Option<Second<'a>>,
    /// Events whose times are wanted.
    pub awaited: Option<Awaited<'a>>,
}

/// Observed events that a simulation waits for. Without them the switches of observed events are not watched.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    /// Indices into [`CompiledModel::observed_events`].
    pub events: &'a [usize],
    /// Number of leading output times that are wanted in any case. The later ones, which say how long to wait, are left out once
    /// every event has happened: the trajectory then has no blocks for them.
    pub outputs: usize,
}

/// Work done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub simulations: u64,
    pub steps: u64,
    pub rhs_evaluations: u64,
    pub jacobian_evaluations: u64,
    pub factorisations: u64,
    pub newton_iterations: u64,
    pub error_test_failures: u64,
    pub newton_failures: u64,
}

impl Counts {
    /// Adds the work of `other`.
    pub fn add(&mut self, other: &Counts) {
        self.simulations += other.simulations;
        self.steps += other.steps;
        self.rhs_evaluations += other.rhs_evaluations;
        self.jacobian_evaluations += other.jacobian_evaluations;
        self.factorisations += other.factorisations;
        self.newton_iterations += other.newton_iterations;
        self.error_test_failures += other.error_test_failures;
        self.newton_failures += other.newton_failures;
    }
}

/// States and sensitivities at the output times, with the parameters and seeds in force there.
#[derive(Debug, Clone, Default)]
pub struct Trajectory {
    /// Output times.
    pub times: Vec<f64>,
    /// Number of states.
    pub nx: usize,
    /// Columns of a block: 1 + directions + pairs.
    pub columns: usize,
    /// One block per output time: nx rows by `columns`, row-major.
    pub blocks: Vec<f64>,
    /// Which segment each output time belongs to. A segment begins at the start, at every change of period and at every switch.
    pub segment: Vec<usize>,
    /// Parameters of each segment (np).
    pub parameters: Vec<Vec<f64>>,
    /// dp/dxi (np by ns) of each segment.
    pub parameter_seeds: Vec<Vec<f64>>,
    /// d2p/dxi2 (np by pairs) of each segment.
    pub parameter_second: Vec<Vec<f64>>,
    /// The events that were executed, in order.
    pub executions: Vec<Execution>,
    /// Values of the triggers in the end.
    pub triggers: Vec<bool>,
    /// Of the steady state at infinity, if there is one, the time at which it was found and, where it is isolated and nothing happened on the
    /// way, the conserved quantities: then [`Simulator::backward`] can go through it.
    pub steady: Option<(f64, Option<Vec<Conservation>>)>,
}

impl Trajectory {
    /// When an observed event happened, with derivatives; `None` if it did not until the end.
    pub fn event(&self, event: &ObservedEvent) -> Option<&Execution> {
        nth_occurrence(&self.executions, event)
    }

    /// The block of output time `i`.
    pub fn block(&self, i: usize) -> &[f64] {
        let n = self.nx * self.columns;
        &self.blocks[i * n..(i + 1) * n]
    }
}

/// The execution that counts, if there were so many.
pub(super) fn nth_occurrence<'a>(executions: &'a [Execution], event: &ObservedEvent) -> Option<&'a Execution> {
    executions.iter().filter(|e| event.events.contains(&e.event)).nth(event.occurrence - 1)
}

/// Integrates one model; not shared between threads.
///
/// The integration does not depend on the output times: steps are the integrator's own, and outputs are interpolated.
pub struct Simulator {
    model: Arc<CompiledModel>,
    options: Options,
    /// Integrators of the block shapes used lately, the latest last.
    integrators: Vec<Integrator>,
    trajectory: Trajectory,
    /// Vectors of earlier trajectories, for re-use.
    spare: Vec<Vec<f64>>,
    counts: Counts,
    now: Arc<AtomicU64>,
    record: Record,
    /// Whether the record is that of the trajectory.
    recorded: bool,
}

/// The finest relative tolerance that rounding errors allow.
const FINEST: f64 = 1e-13;

/// Block shapes whose integrators are kept: states alone, with first and with second derivatives, for two sets of directions.
const KEPT_SHAPES: usize = 6;

impl Simulator {
    /// A simulator for `model`. Fails only for options that cannot be meant.
    pub fn new(model: Arc<CompiledModel>, options: Options) -> Result<Self, SimulationError> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        if !(positive(options.rtol)
            && positive(options.atol)
            && positive(options.sensitivity_factor)
            && positive(options.adjoint_factor)
            && positive(options.record_factor))
        {
            return Err(SimulationError::Unsupported { what: "a tolerance that is not a positive number".into() });
        }
        let counts = Counts::default();
        let (trajectory, now) = (Trajectory::default(), Arc::default());
        Ok(Simulator {
            model,
            options,
            integrators: vec![],
            trajectory,
            spare: vec![],
            counts,
            now,
            record: Record::default(),
            recorded: false,
        })
    }

    /// Simulates from `input.start` and returns the blocks at `times` (sorted, not before the start). At a time where a period
    /// changes or a switch happens, the output is the state after it; of events those are in it whose condition holds at the time
    /// itself, not just after it (`time >= t`, not `time > t`). At infinity, the output is the steady state that is reached after everything that is planned.
    ///
    /// A switch exactly at the start has happened already: the sensitivities do not jump there, although one side of the
    /// derivative with respect to a parameter that is the switching time would say so. The same holds for a switch exactly at a change.
    pub fn simulate(&mut self, input: &Input, times: &[f64]) -> Result<&Trajectory, SimulationError> {
        self.run(input, times, None)?;
        Ok(&self.trajectory)
    }

    /// Simulates without directions, at tighter tolerances, and notes what [`Simulator::backward`] needs.
    pub fn record(&mut self, input: &Input, times: &[f64]) -> Result<&Trajectory, SimulationError> {
        assert_eq!(input.directions, 0, "directions of a simulation to be differentiated backward");
        if !self.model.delays.parameters.is_empty() {
            return Err(SimulationError::Unsupported { what: "a derivative of a delay differential equation".into() });
        }
        let tighten = |tolerance: f64| tolerance.min(FINEST.max(tolerance * self.options.record_factor));
        let tolerances = (tighten(self.options.rtol), self.options.atol * self.options.record_factor);
        match self.run(input, times, Some(tolerances)) {
            // What is asked for in vain can be had at the tolerances of simulations without derivatives.
            Err(SimulationError::StepTooSmall { .. } | SimulationError::StepLimit { .. }) => {
                self.run(input, times, Some((self.options.rtol, self.options.atol)))?;
            }
            result => result?,
        }
        Ok(&self.trajectory)
    }

    /// Derivatives by the start of the simulation of a function of its outputs with derivatives `weights`. The last simulation
    /// must be one by [`Simulator::record`] that has not failed.
    pub fn backward(&mut self, weights: &Weights) -> Result<Gradient, SimulationError> {
        if !self.recorded {
            return Err(SimulationError::Unsupported { what: "a backward integration without a recorded simulation".into() });
        }
        let (nx, np) = (self.model.states.len(), self.model.parameters.len());
        let times = self.trajectory.times.clone();
        assert_eq!(weights.states.len(), times.len() * nx, "weights of the outputs");
        let finite = times.partition_point(|t| t.is_finite());
        let mut end = vec![0.0; nx + np];
        for i in finite..times.len() {
            end.iter_mut().zip(&weights.states[i * nx..(i + 1) * nx]).for_each(|(e, w)| *e += w);
            weights.parameters.get(i).into_iter().flatten().for_each(|&(b, w)| end[nx + b] += w);
        }
        if end[..nx].iter().any(|w| *w != 0.0) {
            let trajectory = std::mem::take(&mut self.trajectory);
            let result = self.through_steady_state(&trajectory, finite, &mut end);
            self.trajectory = trajectory;
            result?;
        }
        // What is not finite would stop the integration, and matters only where something depends on it.
        let undefined: Vec<usize> = (0..np).filter(|b| !end[nx + b].is_finite()).collect();
        undefined.iter().for_each(|b| end[nx + b] = 0.0);
        let (mut gradient, counts) = adjoint::backward(&self.record, &self.model, &self.options, &times[..finite], weights, &end)?;
        undefined.iter().for_each(|b| gradient.parameters[*b] = f64::NAN);
        self.counts.add(&counts);
        Ok(gradient)
    }

    /// From derivatives by a simulation's start to those by the start of the way to the steady state with which it began: `steady` is the
    /// trajectory to there, of one output at infinity.
    pub fn backward_from_steady_state(&mut self, steady: &Trajectory, after: Gradient) -> Result<Gradient, SimulationError> {
        let nx = self.model.states.len();
        let mut end = [after.states, after.parameters].concat();
        self.through_steady_state(steady, 0, &mut end)?;
        let parameters = end.split_off(nx);
        Ok(Gradient { states: end, parameters })
    }

    /// Replaces derivatives `z` by the steady state (output `i` of a trajectory without directions) and parameters by those by states
    /// and parameters before it.
    fn through_steady_state(&mut self, trajectory: &Trajectory, i: usize, z: &mut [f64]) -> Result<(), SimulationError> {
        let nx = self.model.states.len();
        let refused = || SimulationError::Unsupported {
            what: "an adjoint derivative through a steady state that is not isolated, or with events on the way,".into(),
        };
        let Some((time, Some(laws))) = &trajectory.steady else { return Err(refused()) };
        let mut integrator = self.take_integrator(0, 0)?;
        let system = integrator.parts().0;
        system.parameters.copy_from_slice(&trajectory.parameters[trajectory.segment[i]]);
        let x: Vec<f64> = trajectory.block(i).iter().step_by(trajectory.columns).copied().collect();
        let result = steady_state::backward(system, *time, &x, laws, &z[..nx]);
        self.integrators.push(integrator);
        let (before, by_parameters) = result.ok_or_else(refused)?;
        z[..nx].copy_from_slice(&before);
        by_parameters.into_iter().for_each(|(b, w)| z[nx + b] += w);
        Ok(())
    }

    /// Simulates; with a record, and at other tolerances (relative, absolute), where these are given.
    fn run(&mut self, input: &Input, times: &[f64], recorded: Option<(f64, f64)>) -> Result<(), SimulationError> {
        check_input(&self.model, input, times)?;
        let pairs = input.second.map_or(0, |s| s.pairs.len());
        self.reset_trajectory(times, 1 + input.directions + pairs);
        let mut integrator = self.take_integrator(input.directions, pairs)?;
        let (system, y) = integrator.parts();
        let (rtol, atol) = recorded.unwrap_or((self.options.rtol, self.options.atol));
        system.set_tolerances(rtol, atol);
        system.start(input, y);
        let mut record = recorded.is_some().then_some(&mut self.record);
        record.iter_mut().for_each(|record| record.begin(&self.model, input, &self.options));
        let (goal, now) = (Goal::Outputs, &self.now);
        let result = run::run(&mut integrator, &mut self.trajectory, &mut self.spare, input, &self.options, goal, now, record);
        let result =
            result.and_then(|end| if times.last() == Some(&f64::INFINITY) { self.settle(&mut integrator, input, end) } else { Ok(end) });
        self.recorded = recorded.is_some() && result.is_ok();
        self.counts.add(&integrator.take_counts());
        self.counts.simulations += 1;
        self.integrators.push(integrator);
        self.trajectory.triggers = result?.triggers;
        Ok(())
    }

    /// The last trajectory.
    pub fn trajectory(&self) -> &Trajectory {
        &self.trajectory
    }

    /// From the end of a simulation to its steady state, which is written as the output at infinity.
    ///
    /// The states alone are simulated, since the sensitivities of an isolated steady state do not depend on the way there. If
    /// that cannot be (events on the way, a steady state that is not isolated), all is simulated together.
    fn settle(&mut self, integrator: &mut Integrator, before: &Input, end: End) -> Result<End, SimulationError> {
        let nx = self.model.states.len();
        let ns = before.directions;
        let (system, y) = integrator.parts();
        if nx == 0 {
            run::write_steady_state(system, y, &mut self.trajectory, &mut self.spare);
            return Ok(end);
        }
        let (stride, columns) = (system.shape.stride, system.shape.columns);
        let part =
            |range: std::ops::Range<usize>| -> Vec<f64> { y.chunks_exact(stride).flat_map(|row| row[range.clone()].to_vec()).collect() };
        let (states, state_seeds, state_second) = (part(0..1), part(1..1 + ns), part(1 + ns..columns));
        let (parameters, seeds, seeds_second) = (system.parameters.clone(), system.seeds.clone(), system.seeds_second.clone());
        let all = Input {
            start: end.time,
            states: &states,
            parameters: &parameters,
            changes: &[],
            triggers: Some(&end.triggers),
            before: before.before,
            directions: ns,
            state_seeds: &state_seeds,
            parameter_seeds: &seeds,
            second: before.second.map(|s| Second { pairs: s.pairs, states: &state_second, parameters: &seeds_second }),
            awaited: None,
        };
        let mut way = Trajectory { times: vec![f64::INFINITY], nx, columns: 1, ..Trajectory::default() };
        if ns > 0 {
            let alone = Input { directions: 0, state_seeds: &[], parameter_seeds: &[], second: None, ..all };
            let mut lone = self.take_integrator(0, 0)?;
            let (system, y) = lone.parts();
            system.start(&alone, y);
            let limit = run::run(&mut lone, &mut way, &mut self.spare, &alone, &self.options, Goal::SteadyState, &self.now, None);
            let (limit_states, limit_parameters) = (lone.parts().1.to_vec(), lone.system().parameters.clone());
            self.counts.add(&lone.take_counts());
            self.integrators.push(lone);
            let limit = limit?;
            if let (Some(Found::Isolated(laws)), true) = (&limit.found, way.executions.is_empty()) {
                let (system, y) = integrator.parts();
                y.iter_mut().step_by(stride).zip(&limit_states).for_each(|(y, x)| *y = *x);
                system.parameters.copy_from_slice(&limit_parameters);
                if steady_state::differentiate(system, limit.time, y, laws) {
                    self.trajectory.steady = Some((limit.time, Some(laws.clone())));
                    run::write_steady_state(system, y, &mut self.trajectory, &mut self.spare);
                    return Ok(limit);
                }
            }
        }
        way = Trajectory { times: vec![f64::INFINITY], nx, columns, ..Trajectory::default() };
        let (system, y) = integrator.parts();
        system.start(&all, y);
        let limit = run::run(integrator, &mut way, &mut self.spare, &all, &self.options, Goal::SteadyState, &self.now, None)?;
        let (system, y) = integrator.parts();
        let mut laws = None;
        if let Some(Found::Isolated(found)) = &limit.found {
            if !steady_state::differentiate(system, limit.time, y, found) {
                return Err(SimulationError::NonFinite { time: limit.time, what: "a derivative of the steady state".into() });
            }
            laws = Some(found.clone()).filter(|_| way.executions.is_empty());
        }
        self.trajectory.steady = Some((limit.time, laws));
        self.trajectory.executions.append(&mut way.executions);
        run::write_steady_state(system, y, &mut self.trajectory, &mut self.spare);
        Ok(limit)
    }

    /// Work done since the simulator was made.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The bits of the time that the simulation in progress has reached, for other threads to look at.
    pub fn now(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.now)
    }

    fn reset_trajectory(&mut self, times: &[f64], columns: usize) {
        let t = &mut self.trajectory;
        self.spare.extend(t.parameters.drain(..).chain(t.parameter_seeds.drain(..)).chain(t.parameter_second.drain(..)));
        t.times.clear();
        t.times.extend_from_slice(times);
        t.nx = self.model.states.len();
        t.columns = columns;
        t.blocks.clear();
        t.segment.clear();
        t.executions.clear();
        t.triggers.clear();
        t.steady = None;
    }

    fn take_integrator(&mut self, directions: usize, pairs: usize) -> Result<Integrator, SimulationError> {
        let fits = |i: &Integrator| i.system().directions == directions && i.system().pairs.len() == pairs;
        if let Some(place) = self.integrators.iter().position(fits) {
            return Ok(self.integrators.remove(place));
        }
        if self.integrators.len() >= KEPT_SHAPES {
            self.integrators.remove(0);
        }
        let system = System::new(self.model.clone(), &self.options, directions, pairs);
        Integrator::new(system).map_err(|f| SimulationError::Solver { function: f.function, flag: f.flag, time: 0.0 })
    }
}

/// The input's shapes are the caller's promise; what a model cannot do is an error.
pub(super) fn check_input(model: &CompiledModel, input: &Input, times: &[f64]) -> Result<(), SimulationError> {
    let (nx, np, ns) = (model.states.len(), model.parameters.len(), input.directions);
    assert_eq!(input.states.len(), nx, "initial states");
    assert_eq!(input.parameters.len(), np, "parameters");
    assert_eq!(input.state_seeds.len(), nx * ns, "seeds of the states");
    assert_eq!(input.parameter_seeds.len(), np * ns, "seeds of the parameters");
    let unsupported = |what: &str| Err(SimulationError::Unsupported { what: what.into() });
    if let Some(second) = &input.second {
        assert_eq!(second.states.len(), nx * second.pairs.len(), "second-order seeds of the states");
        assert_eq!(second.parameters.len(), np * second.pairs.len(), "second-order seeds of the parameters");
        assert!(second.pairs.iter().all(|&(k, l)| (k.max(l) as usize) < ns), "pairs of directions");
        let assignments = input.changes.iter().map(|c| &c.assignments).chain(model.events.iter().map(|e| &e.assignments));
        let mut functions = std::iter::once(&model.rhs).chain(assignments.map(|a| &*a.values));
        if !second.pairs.is_empty() && functions.any(|f| f.second.is_none()) {
            return unsupported("a second-order sensitivity of a model compiled without second derivatives");
        }
    }
    if ns > 0 && !model.delays.parameters.is_empty() {
        return unsupported("a derivative of a delay differential equation");
    }
    if !input.start.is_finite() || times.iter().any(|t| t.is_nan()) {
        return unsupported("a start or output time that is not a number");
    }
    if times.last() == Some(&f64::INFINITY) && !model.delays.parameters.is_empty() {
        return unsupported("a steady state of a delay differential equation");
    }
    if input.awaited.is_some() && times.last() == Some(&f64::INFINITY) {
        return unsupported("waiting for an event until a steady state");
    }
    if times.windows(2).any(|w| w[0] > w[1]) || times.first().is_some_and(|t| *t < input.start) {
        return unsupported("an output time before the start or out of order");
    }
    if input.changes.iter().any(|c| c.time.is_nan()) || input.changes.windows(2).any(|w| w[0].time > w[1].time) {
        return unsupported("a change of period out of order");
    }
    for (what, values) in [("initial state", input.states), ("initial sensitivity", input.state_seeds)] {
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let name = &model.states[if what == "initial state" { bad } else { bad / ns.max(1) }];
            return Err(SimulationError::NonFinite { time: input.start, what: format!("{what} of {name}") });
        }
    }
    Ok(())
}

/// The error of a failed call of the integrator.
pub(super) fn simulation_error(integrator: &mut Integrator, failure: Failure, time: f64) -> SimulationError {
    let not_finite = integrator.system().not_finite;
    let model = integrator.system().model.clone();
    let rate = |row: usize| format!("d({})/dt", model.states[row]);
    match (failure.flag, not_finite) {
        (flags::CV_FIRST_RHSFUNC_ERR | flags::CV_REPTD_RHSFUNC_ERR | flags::CV_UNREC_RHSFUNC_ERR | flags::CV_LSETUP_FAIL, Some(bad)) => {
            let what = if bad.column == 0 { rate(bad.row) } else { format!("a derivative of {} by parameters", rate(bad.row)) };
            SimulationError::NonFinite { time: bad.time, what }
        }
        (flags::CV_ERR_FAILURE | flags::CV_CONV_FAILURE | flags::CV_REPTD_RHSFUNC_ERR, _) => {
            let state = integrator.worst_state().map(|i| model.states[i].clone());
            SimulationError::StepTooSmall { time, state }
        }
        (flag, _) => SimulationError::Solver { function: failure.function, flag, time },
    }
}
