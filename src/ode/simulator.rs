//! One simulator per thread: owns the integrator and all its memory, re-used without allocation.

use super::SimulationError;
use super::cvodes::{Failure, Integrator, Method, Step};
use super::switch::{self, Occurrence, near};
use super::system::System;
use crate::model::CompiledModel;
use crate::model::compiled::{PeriodChange, Target};
use sundials_sys as flags;
use std::sync::Arc;

/// Integration settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Relative tolerance of the states.
    pub rtol: f64,
    /// Absolute tolerance of the states.
    pub atol: f64,
    /// Factor by which the tolerances of sensitivity columns are looser than the states'.
    pub sensitivity_factor: f64,
    /// Most steps between two output times.
    pub max_steps: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { rtol: 1e-10, atol: 1e-12, sensitivity_factor: 10.0, max_steps: 100_000 }
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
}

/// Block shapes whose integrators are kept: states alone, with first and with second derivatives, for two sets of directions.
const KEPT_SHAPES: usize = 6;

impl Simulator {
    /// A simulator for `model`. Fails only for options that cannot be meant.
    pub fn new(model: Arc<CompiledModel>, options: Options) -> Result<Self, SimulationError> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        if !(positive(options.rtol) && positive(options.atol) && positive(options.sensitivity_factor)) {
            return Err(SimulationError::Unsupported { what: "a tolerance that is not a positive number".into() });
        }
        let counts = Counts::default();
        Ok(Simulator { model, options, integrators: vec![], trajectory: Trajectory::default(), spare: vec![], counts })
    }

    /// Simulates from `input.start` and returns the blocks at `times` (sorted, finite, not before the start). At a time where a period
    /// changes or a switch happens, the output is the state after it.
    ///
    /// A switch exactly at the start has happened already: the sensitivities do not jump there, although one side of the
    /// derivative with respect to a parameter that is the switching time would say so. The same holds for a switch exactly at a change.
    pub fn simulate(&mut self, input: &Input, times: &[f64]) -> Result<&Trajectory, SimulationError> {
        check_input(&self.model, input, times)?;
        let pairs = input.second.map_or(0, |s| s.pairs.len());
        self.reset_trajectory(times, 1 + input.directions + pairs);
        let mut integrator = self.take_integrator(input.directions, pairs)?;
        let (system, y) = integrator.parts();
        system.start(input, y);
        let mut run = Run {
            integrator: &mut integrator,
            trajectory: &mut self.trajectory,
            spare: &mut self.spare,
            input,
            max_steps: self.options.max_steps,
            last: times.last().copied().unwrap_or(input.start),
            next: 0,
            steps: 0,
            stalled: (f64::NAN, 0),
            restart_block: vec![],
        };
        let result = run.run();
        self.counts.add(&integrator.take_counts());
        self.counts.simulations += 1;
        self.integrators.push(integrator);
        result.map(|()| &self.trajectory)
    }

    /// Work done since the simulator was made.
    pub fn counts(&self) -> Counts {
        self.counts
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
        Integrator::new(system, &self.options, Method::Block)
            .map_err(|f| SimulationError::Solver { function: f.function, flag: f.flag, time: 0.0 })
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
        let mut functions = std::iter::once(&model.rhs).chain(input.changes.iter().map(|c| &c.function));
        if !second.pairs.is_empty() && functions.any(|f| f.second.is_none()) {
            return unsupported("a second-order sensitivity of a model compiled without second derivatives");
        }
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
        (flags::CV_RTFUNC_FAIL, _) => SimulationError::NonFinite { time, what: "condition of a piecewise formula".into() },
        (flags::CV_ERR_FAILURE | flags::CV_CONV_FAILURE | flags::CV_REPTD_RHSFUNC_ERR, _) => {
            let state = integrator.worst_state().map(|i| model.states[i].clone());
            SimulationError::StepTooSmall { time, state }
        }
        (flag, _) => SimulationError::Solver { function: failure.function, flag, time },
    }
}

/// How an advance of the integrator ended.
enum Event {
    /// All outputs are written.
    Done,
    /// At the stop time.
    Stop,
    /// At roots of these state switches, with their values after.
    Roots(Vec<(usize, bool)>),
    /// The flags were put right and the integration must begin anew.
    Restart,
}

/// One simulation.
struct Run<'a> {
    integrator: &'a mut Integrator,
    trajectory: &'a mut Trajectory,
    spare: &'a mut Vec<Vec<f64>>,
    input: &'a Input<'a>,
    max_steps: usize,
    last: f64,
    /// The next output.
    next: usize,
    /// Steps since the last output.
    steps: usize,
    /// Time of the last restart, and how many there were.
    stalled: (f64, usize),
    /// The block at the last restart.
    restart_block: Vec<f64>,
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), SimulationError> {
        let changes = self.input.changes;
        let mut t = self.input.start;
        let mut done = 0;
        self.begin_segment();
        while self.next < self.trajectory.times.len() {
            while let Some(change) = changes.get(done).filter(|c| c.time <= t || near(c.time, t)) {
                self.apply_change(change, t)?;
                self.begin_segment();
                done += 1;
            }
            let end = changes.get(done).map(|c| c.time).filter(|&e| e <= self.last || near(e, self.last));
            t = self.period(t, end)?;
        }
        Ok(())
    }

    /// Integrates from `t` to `end`, or to the last output. Outputs at `end` are left for after the change there.
    fn period(&mut self, mut t: f64, end: Option<f64>) -> Result<f64, SimulationError> {
        let (system, y) = self.integrator.parts();
        switch::set_flags(system, t, y, &[])?;
        self.update_segment();
        loop {
            self.write_outputs_here(t);
            if self.next == self.trajectory.times.len() {
                return Ok(t);
            }
            let crossings = switch::crossings_after(self.integrator.parts().0, t);
            let stop = crossings.iter().map(|c| c.0).chain(end).filter(|&s| s <= self.last || near(s, self.last)).reduce(f64::min);
            let (reached, event) = self.advance(t, stop)?;
            t = reached;
            if let (Event::Stop | Event::Roots(_), Some(end)) = (&event, end)
                && near(t, end)
            {
                return Ok(end);
            }
            let mut switches = match event {
                Event::Done => return Ok(t),
                Event::Restart => {
                    self.update_or_begin_segment();
                    continue;
                }
                Event::Stop => vec![],
                Event::Roots(switches) => switches,
            };
            switches.extend(crossings.iter().filter(|c| near(c.0, t)).map(|&(_, j)| (j, !self.flag(j))));
            let mut kept: Vec<usize> = switches.iter().map(|s| s.0).collect();
            let step = self.integrator.last_step();
            let span = self.last - self.input.start;
            for (switch, value) in switches {
                kept.retain(|&other| other != switch);
                let (system, y) = self.integrator.parts();
                switch::apply(system, y, &Occurrence { switch, value, time: t, step, span }, &kept)?;
            }
            self.update_or_begin_segment();
        }
    }

    fn flag(&self, j: usize) -> bool {
        let system = self.integrator.system();
        system.parameters[system.model.switches[j].flag] != 0.0
    }

    /// Integrates from the current block at `t` until something happens.
    fn advance(&mut self, t: f64, stop: Option<f64>) -> Result<(f64, Event), SimulationError> {
        if self.integrator.system().shape.rows == 0 {
            return self.advance_without_states(stop);
        }
        // Restarts that make no progress: the trajectory slides along a switch, or a bug; either must end.
        self.stalled = if near(t, self.stalled.0) { (t, self.stalled.1 + 1) } else { (t, 1) };
        if self.stalled.1 > 10 + 2 * self.integrator.system().model.switches.len() {
            return Err(SimulationError::StepTooSmall { time: t, state: None });
        }
        let horizon = stop.unwrap_or(self.last);
        let fail = |integrator: &mut Integrator, failure, time| Err(simulation_error(integrator, failure, time));
        if let Err(failure) = self.integrator.restart(t, stop) {
            return fail(self.integrator, failure, t);
        }
        let guards = !self.integrator.system().state_switches.is_empty();
        if guards {
            self.restart_block.clear();
            self.restart_block.extend_from_slice(self.integrator.block());
        }
        let (mut now, mut first, mut idle) = (t, true, 0);
        loop {
            let step = match self.integrator.step(horizon) {
                Ok(step) => step,
                Err(failure) => return fail(self.integrator, failure, now),
            };
            self.steps += 1;
            match step {
                Step::Taken(reached) => {
                    idle = if reached > now { 0 } else { idle + 1 };
                    if idle > 10 {
                        let state = self.integrator.worst_state().map(|i| self.integrator.system().model.states[i].clone());
                        return Err(SimulationError::StepTooSmall { time: now, state });
                    }
                    now = reached;
                    if guards {
                        let wrong = switch::contradictions(self.integrator.system());
                        if !wrong.is_empty() {
                            // A root function that was 0 has left it to the side that its derivative did not tell.
                            if !first {
                                self.write_outputs_until(now, true)?;
                            }
                            let (system, y) = self.integrator.parts();
                            if first {
                                y.copy_from_slice(&self.restart_block);
                            }
                            for j in wrong {
                                let flag = system.model.switches[j].flag;
                                system.parameters[flag] = 1.0 - system.parameters[flag];
                            }
                            system.parameters_changed();
                            return Ok((if first { t } else { now }, Event::Restart));
                        }
                    }
                    first = false;
                    self.write_outputs_until(now, true)?;
                    if self.next == self.trajectory.times.len() {
                        return Ok((now, Event::Done));
                    }
                }
                Step::Stop(reached) => {
                    self.write_outputs_until(reached, false)?;
                    return Ok((reached, Event::Stop));
                }
                Step::Root(reached) => {
                    self.write_outputs_until(reached, false)?;
                    if self.next == self.trajectory.times.len() {
                        return Ok((reached, Event::Done));
                    }
                    let directions = match self.integrator.root_directions() {
                        Ok(directions) => directions,
                        Err(failure) => return fail(self.integrator, failure, reached),
                    };
                    let found = self.integrator.system().state_switches.iter().zip(directions).filter(|(_, d)| *d != 0);
                    let switches = found.map(|(&j, d)| (j as usize, d > 0)).collect();
                    return Ok((reached, Event::Roots(switches)));
                }
            }
            if self.steps >= self.max_steps {
                return Err(SimulationError::StepLimit { time: now, steps: self.steps });
            }
        }
    }

    /// Without states there is nothing to integrate: outputs and parameters change only at switches.
    fn advance_without_states(&mut self, stop: Option<f64>) -> Result<(f64, Event), SimulationError> {
        let end = stop.unwrap_or(self.last);
        while let Some(&time) = self.trajectory.times.get(self.next) {
            if stop.is_some_and(|s| time >= s || near(time, s)) {
                break;
            }
            if !self.integrator.system().state_switches.is_empty() {
                // Conditions on time alone that are not affine: their flags matter only where they are looked at.
                let (system, y) = self.integrator.parts();
                switch::set_flags(system, time, y, &[])?;
                self.update_or_begin_segment();
            }
            self.write_outputs_here(time);
        }
        Ok((end, if stop.is_some() { Event::Stop } else { Event::Done }))
    }

    /// Starts a segment of the trajectory with the current parameters and seeds.
    fn begin_segment(&mut self) {
        let system = self.integrator.system();
        let mut copy = |values: &[f64]| {
            let mut v = self.spare.pop().unwrap_or_default();
            v.clear();
            v.extend_from_slice(values);
            v
        };
        self.trajectory.parameters.push(copy(&system.parameters));
        self.trajectory.parameter_seeds.push(copy(&system.seeds));
        self.trajectory.parameter_second.push(copy(&system.seeds_second));
    }

    /// Brings the parameters of the current segment up to date.
    fn update_segment(&mut self) {
        if let Some(last) = self.trajectory.parameters.last_mut() {
            last.copy_from_slice(&self.integrator.system().parameters);
        }
    }

    /// After a switch: a new segment, unless the current one has no output yet.
    fn update_or_begin_segment(&mut self) {
        let current = self.trajectory.parameters.len() - 1;
        if self.trajectory.segment.last() == Some(&current) {
            self.begin_segment();
        } else {
            self.update_segment();
        }
    }

    /// Writes the outputs at the current block's time.
    fn write_outputs_here(&mut self, t: f64) {
        while self.trajectory.times.get(self.next).is_some_and(|&time| time <= t || near(time, t)) {
            write(self.trajectory, self.integrator.block(), self.integrator.system().shape.stride);
            self.next += 1;
            self.steps = 0;
        }
    }

    /// Writes the outputs that lie before `t` in the last step, and at `t` if `inclusive`.
    fn write_outputs_until(&mut self, t: f64, inclusive: bool) -> Result<(), SimulationError> {
        while let Some(&time) = self.trajectory.times.get(self.next) {
            if time > t || (!inclusive && near(time, t)) {
                break;
            }
            let stride = self.integrator.system().shape.stride;
            match self.integrator.interpolate(time) {
                Ok(block) => write(self.trajectory, block, stride),
                Err(failure) => return Err(simulation_error(self.integrator, failure, time)),
            }
            self.next += 1;
            self.steps = 0;
        }
        Ok(())
    }

    /// Applies the change of a period to states, parameters and their sensitivities. All of it is computed from the values before.
    fn apply_change(&mut self, change: &PeriodChange, t: f64) -> Result<(), SimulationError> {
        let (system, y) = self.integrator.parts();
        let (columns, stride, ns, pairs) = (system.shape.columns, system.shape.stride, system.directions, system.pairs.len());
        assert_eq!(change.targets.len(), change.function.value.outputs(), "targets of a change");
        let mut rows = self.spare.pop().unwrap_or_default();
        rows.clear();
        rows.resize(change.targets.len() * columns, 0.0);
        system.differentiate(&change.function, t, y, &mut rows);
        for (target, row) in change.targets.iter().zip(rows.chunks_exact(columns)) {
            let name = match *target {
                Target::State(i) => {
                    y[i * stride..][..columns].copy_from_slice(row);
                    &system.model.states[i]
                }
                Target::Parameter(b) => {
                    system.parameters[b] = row[0];
                    system.seeds[b * ns..][..ns].copy_from_slice(&row[1..1 + ns]);
                    system.seeds_second[b * pairs..][..pairs].copy_from_slice(&row[1 + ns..]);
                    &system.model.parameters[b]
                }
            };
            if matches!(target, Target::State(_)) && row.iter().any(|v| !v.is_finite()) {
                return Err(SimulationError::NonFinite { time: t, what: format!("new value of {name}") });
            }
        }
        self.spare.push(rows);
        system.parameters_changed();
        system.seeds_changed();
        Ok(())
    }
}

/// Appends a block without its padding.
fn write(trajectory: &mut Trajectory, block: &[f64], stride: usize) {
    for row in block.chunks_exact(stride) {
        trajectory.blocks.extend_from_slice(&row[..trajectory.columns]);
    }
    trajectory.segment.push(trajectory.parameters.len() - 1);
}
