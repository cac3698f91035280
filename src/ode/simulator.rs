//! One simulator per thread: owns the integrator and all its memory, re-used without allocation.

use super::SimulationError;
use super::adjoint::{self, Gradient, Weights};
use super::cvodes::{Failure, Integrator};
use super::events::Execution;
use super::record::Record;
use super::run;
use super::system::System;
use crate::jit::Kernel;
use crate::model::CompiledModel;
use crate::model::compiled::PeriodChange;
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
    /// Most steps between two output times.
    pub max_steps: usize,
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
    /// Changes at later times.
    pub changes: &'a [PeriodChange],
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
}

impl Trajectory {
    /// The block of output time `i`.
    pub fn block(&self, i: usize) -> &[f64] {
        let n = self.nx * self.columns;
        &self.blocks[i * n..(i + 1) * n]
    }
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

    /// Simulates from `input.start` and returns the blocks at `times` (sorted, finite, not before the start). At a time where a period
    /// changes or a switch happens, the output is the state after it; of events those are in it whose condition holds at the time
    /// itself, not just after it (`time >= t`, not `time > t`).
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
        assert_eq!(weights.states.len(), self.trajectory.times.len() * self.model.states.len(), "weights of the outputs");
        let (gradient, counts) = adjoint::backward(&self.record, &self.model, &self.options, &self.trajectory.times, weights)?;
        self.counts.add(&counts);
        Ok(gradient)
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
        let result = run::run(&mut integrator, &mut self.trajectory, &mut self.spare, input, &self.options, &self.now, record);
        self.recorded = recorded.is_some() && result.is_ok();
        self.counts.add(&integrator.take_counts());
        self.counts.simulations += 1;
        self.integrators.push(integrator);
        result
    }

    /// The last trajectory.
    pub fn trajectory(&self) -> &Trajectory {
        &self.trajectory
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
        let events = model.events.iter().map(|e| &e.assignments.values);
        let mut functions = std::iter::once(&model.rhs).chain(input.changes.iter().map(|c| &c.assignments.values)).chain(events);
        if !second.pairs.is_empty() && functions.any(|f| f.second.is_none()) {
            return unsupported("a second-order sensitivity of a model compiled without second derivatives");
        }
    }
    if ns > 0 && !model.delays.parameters.is_empty() {
        return unsupported("a derivative of a delay differential equation");
    }
    if !input.start.is_finite() || times.iter().any(|t| !t.is_finite()) {
        return unsupported("a start or output time that is not a finite number");
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
