//! One simulation, from moment to moment.

use super::SimulationError;
use super::cvodes::{Integrator, Step};
use super::events::{Agenda, assign};
use super::history;
use super::invariant;
use super::record::{Happening, Record};
use super::roots::RootFinder;
use super::simulator::{Awaited, Input, Options, Trajectory, nth_occurrence, simulation_error};
use super::steady_state::{Found, Search};
use super::switch::{Crossing, explicit_crossings, near};
use super::system::System;
use crate::model::compiled::PeriodChange;
use std::sync::atomic::{AtomicU64, Ordering};

/// A root function that bends in time is looked at at least this often in a simulation.
const LOOKS: f64 = 200.0;

/// What is not at rest at this time will not be.
const LATEST: f64 = 1e100;

/// What a simulation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The outputs at finite times. Where there are others, the simulation ends when nothing is planned any more.
    Outputs,
    /// A steady state.
    SteadyState,
}

/// How a simulation ended.
#[derive(Debug, Clone)]
pub struct End {
    /// The time reached.
    pub time: f64,
    /// The triggers there.
    pub triggers: Vec<bool>,
    /// The steady state, if that was the goal.
    pub found: Option<Found>,
}

/// How an advance of the integrator ended.
enum Advance {
    /// All outputs are written, or the goal is reached; the time reached.
    Done(f64),
    /// At the stop time.
    Stop(f64),
    /// Where root functions cross 0.
    Roots(f64, Vec<Crossing>),
}

/// The trajectory that is being written.
struct Output<'a> {
    trajectory: &'a mut Trajectory,
    spare: &'a mut Vec<Vec<f64>>,
    /// The next output.
    next: usize,
    /// Steps since the last output.
    steps: usize,
}

/// Writes the outputs at infinite time: the block `y` of a steady state.
pub fn write_steady_state(system: &mut System, y: &[f64], trajectory: &mut Trajectory, spare: &mut Vec<Vec<f64>>) {
    let next = trajectory.segment.len();
    Output { trajectory, spare, next, steps: 0 }.write_steady_state(system, y);
}

struct Run<'a> {
    integrator: &'a mut Integrator,
    output: Output<'a>,
    input: &'a Input<'a>,
    agenda: Agenda,
    finder: RootFinder,
    /// What backward integration needs, where that is to follow.
    record: Option<&'a mut Record>,
    max_steps: usize,
    goal: Goal,
    search: Search,
    found: Option<Found>,
    /// The last time that matters: infinity for steady states.
    last: f64,
    /// Whether nothing but the integration itself is planned.
    quiet: bool,
    /// Time of the last restart, and how many there were.
    stalled: (f64, usize),
    /// Where the time reached is shown.
    clock: &'a AtomicU64,
}

/// Runs the simulation whose start the integrator holds, and fills the trajectory, which has its output times, and the record. The
/// bits of the time that is reached go to `clock`.
///
/// Outputs at infinite time are not written here: with the goal of outputs, the run ends where nothing more is planned; with the
/// goal of a steady state, column 0 of the block is the steady state in the end.
#[allow(clippy::too_many_arguments)]
pub fn run(
    integrator: &mut Integrator,
    trajectory: &mut Trajectory,
    spare: &mut Vec<Vec<f64>>,
    input: &Input,
    options: &Options,
    goal: Goal,
    clock: &AtomicU64,
    record: Option<&mut Record>,
) -> Result<End, SimulationError> {
    let agenda = Agenda::new(integrator.system(), options.seed, input.triggers);
    let last = trajectory.times.last().copied().unwrap_or(input.start);
    let (finder, stalled, max_steps) = (RootFinder::default(), (f64::NAN, 0), options.max_steps);
    let output = Output { trajectory, spare, next: 0, steps: 0 };
    let (search, found, quiet) = (Search::new(options.steady_state, input.start), None, false);
    let mut run = Run { integrator, output, input, agenda, finder, record, max_steps, goal, search, found, last, quiet, stalled, clock };
    let result = run.run();
    run.output.trajectory.executions.append(&mut run.agenda.executions);
    result.map(|time| End { time, triggers: run.agenda.triggers().to_vec(), found: run.found })
}

impl Run<'_> {
    /// Returns the time reached.
    fn run(&mut self) -> Result<f64, SimulationError> {
        let changes = self.input.changes;
        let mut t = self.input.start;
        let mut done = 0;
        self.output.begin_segment(self.integrator.system());
        let (system, y) = self.integrator.parts();
        let with_delays = !system.model.delays.parameters.is_empty();
        if with_delays {
            history::start(system, t, y, self.input.before);
        }
        let mut crossings = vec![];
        let mut moving = false;
        self.record_moment(t, 0, &crossings, moving, true)?;
        let (system, y) = self.integrator.parts();
        invariant::project(system, t, y)?;
        loop {
            if with_delays && t > self.input.start {
                // What is to happen now may make the past jump here.
                let (system, y) = self.integrator.parts();
                history::record(system, t, y);
            }
            if t > self.input.start {
                self.record_moment(t, done, &crossings, moving, false)?;
            }
            let first_output = self.output.next;
            let mut jumped = false;
            while let Some(change) = changes.get(done).filter(|c| c.time <= t || near(c.time, t)) {
                let (system, y) = self.integrator.parts();
                apply_change(system, y, change, t)?;
                done += 1;
                (moving, jumped) = (false, true);
            }
            let span = self.span(t);
            let (system, y) = self.integrator.parts();
            let output = &mut self.output;
            let mut observe = |system: &mut System, y: &[f64]| output.write_here(system, y, t);
            jumped |= self.agenda.settle(system, y, t, std::mem::take(&mut crossings), moving, span, &mut observe)?;
            if with_delays {
                history::begin(system, t, y, jumped || t == self.input.start);
            }
            self.output.update_or_begin_segment(self.integrator.system());
            if let Some(record) = &mut self.record {
                record.begin_piece(&self.integrator.system().parameters, first_output..self.output.next);
            }
            if self.is_over() {
                return Ok(t);
            }
            let system = self.integrator.parts().0;
            let mut explicit = explicit_crossings(system);
            explicit.retain(|c| c.0 > t && !near(c.0, t));
            let stops = (explicit.iter().map(|c| c.0))
                .chain(changes.get(done).map(|c| c.time))
                .chain(self.agenda.next().map(|time| time.max(t)))
                .chain(history::next_kink(system, t));
            let stop = stops.filter(|&s| s <= self.last || near(s, self.last)).reduce(f64::min);
            self.quiet = stop.is_none();
            if self.quiet && self.goal == Goal::Outputs && self.output.waits() {
                return Ok(t);
            }
            let advance = self.advance(t, stop)?;
            if let Some(record) = &mut self.record {
                record.end_piece(self.output.next);
            }
            match advance {
                Advance::Done(time) => return Ok(time),
                Advance::Stop(time) => t = time,
                Advance::Roots(time, found) => (t, crossings) = (time, found),
            }
            crossings.extend(explicit.iter().filter(|c| near(c.0, t)).map(|&(_, switch, direction)| Crossing {
                switch,
                value: 0.0,
                direction,
            }));
            moving = true;
        }
    }

    /// Records what is about to happen at `t`; `done` changes of period have been made before, `first` says whether this is the start.
    fn record_moment(&mut self, t: f64, done: usize, crossings: &[Crossing], moving: bool, first: bool) -> Result<(), SimulationError> {
        let Some(record) = &mut self.record else { return Ok(()) };
        let changes = &self.input.changes[done..];
        let due = changes.iter().take_while(|c| c.time <= t || near(c.time, t)).count();
        let happening = Happening {
            time: t,
            first,
            changes: &changes[..due],
            crossings,
            moving: moving && due == 0,
            span: self.last - self.input.start,
            seen: self.output.next_time().is_some_and(|time| time <= t || near(time, t)),
        };
        let (system, y) = self.integrator.parts();
        record.moment(system, y, &happening, &self.agenda)
    }

    /// Records the current states.
    fn record_state(&mut self, t: f64) {
        if let Some(record) = &mut self.record {
            let (system, y) = self.integrator.parts();
            record.state(t, system.states(y));
        }
    }

    /// Integrates from the current block at `t` until something happens.
    fn advance(&mut self, t: f64, stop: Option<f64>) -> Result<Advance, SimulationError> {
        if self.integrator.system().shape.rows == 0 {
            return self.advance_without_states(stop);
        }
        // Restarts that make no progress: the trajectory slides along a switch, or a bug; either must end.
        self.stalled = if near(t, self.stalled.0) { (t, self.stalled.1 + 1) } else { (t, 1) };
        if self.stalled.1 > 10 + 2 * self.integrator.system().model.switches.len() {
            return Err(SimulationError::StepTooSmall { time: t, state: None });
        }
        if self.seeks() {
            let (system, y) = self.integrator.parts();
            self.search.begin(system, y);
            if self.is_steady(t) {
                return Ok(Advance::Done(t));
            }
        }
        if let Some(stop) = stop.filter(|&s| s <= t || near(s, t)) {
            return Ok(Advance::Stop(stop.max(t)));
        }
        // Of an endless simulation the first step is a guess.
        let horizon = stop.unwrap_or(if self.last.is_finite() { self.last } else { t + self.span(t) });
        let fail = |integrator: &mut Integrator, failure, time| Err(simulation_error(integrator, failure, time));
        let longest = self.longest_step(t);
        if let Err(failure) = self.integrator.restart(t, stop, longest) {
            return fail(self.integrator, failure, t);
        }
        self.record_state(t);
        let watches = !self.integrator.system().state_switches.is_empty();
        let with_delays = !self.integrator.system().model.delays.parameters.is_empty();
        let (mut now, mut idle) = (t, 0);
        loop {
            let step = match self.integrator.step(horizon) {
                Ok(step) => step,
                Err(failure) => return fail(self.integrator, failure, now),
            };
            self.output.steps += 1;
            let (Step::Taken(reached) | Step::Stop(reached)) = step;
            if watches {
                match self.finder.first(self.integrator, now, reached, &self.agenda.cells) {
                    Ok(None) => {}
                    Ok(Some((time, crossings))) => {
                        self.write_until(time, false)?;
                        if self.is_over() {
                            self.record_state(reached);
                            return Ok(Advance::Done(time));
                        }
                        if let Err(failure) = self.integrator.go_back(time) {
                            return fail(self.integrator, failure, time);
                        }
                        self.record_state(time);
                        return Ok(Advance::Roots(time, crossings));
                    }
                    Err(failure) => return fail(self.integrator, failure, reached),
                }
            }
            self.record_state(reached);
            if let Step::Stop(reached) = step {
                self.write_until(reached, false)?;
                return Ok(Advance::Stop(reached));
            }
            idle = if reached > now { 0 } else { idle + 1 };
            if idle > 10 {
                let state = self.integrator.worst_state().map(|i| self.integrator.system().model.states[i].clone());
                return Err(SimulationError::StepTooSmall { time: now, state });
            }
            now = reached;
            self.clock.store(now.to_bits(), Ordering::Relaxed);
            if with_delays {
                let (system, y) = self.integrator.parts();
                history::record(system, now, y);
            }
            self.write_until(now, true)?;
            let ready = self.quiet && self.goal == Goal::Outputs && self.output.waits();
            if self.is_over() || ready || (self.seeks() && self.is_steady(now)) {
                return Ok(Advance::Done(now));
            }
            // Steps of a drift that never ends grow beyond all numbers.
            if self.output.steps >= self.max_steps || now.abs() > LATEST {
                return Err(self.too_long(now));
            }
        }
    }

    /// Whether all that is wanted is there.
    fn is_over(&self) -> bool {
        let happened = |awaited: &Awaited| {
            let events = &self.integrator.system().model.observed_events;
            awaited.events.iter().all(|e| nth_occurrence(&self.agenda.executions, &events[*e]).is_some())
        };
        self.output.is_complete() || self.input.awaited.as_ref().is_some_and(|a| self.output.next >= a.outputs && happened(a))
    }

    /// Whether a steady state would be the end.
    fn seeks(&self) -> bool {
        self.goal == Goal::SteadyState && self.quiet
    }

    fn is_steady(&mut self, t: f64) -> bool {
        let (system, y) = self.integrator.parts();
        self.found = self.search.look(system, y, t, &self.agenda.cells);
        self.found.is_some()
    }

    fn too_long(&self, time: f64) -> SimulationError {
        let steps = self.output.steps;
        if self.goal == Goal::Outputs {
            return SimulationError::StepLimit { time, steps };
        }
        let model = &self.integrator.system().model;
        SimulationError::SteadyState { time, steps, rate: self.search.largest_rate.map(|(i, rate)| (model.states[i].clone(), rate)) }
    }

    /// Length of the simulation; as far as it is known where it is endless.
    fn span(&self, t: f64) -> f64 {
        let start = self.input.start;
        if self.last.is_finite() {
            return self.last - start;
        }
        let times = self.output.trajectory.times.iter().copied().filter(|t| t.is_finite()).chain(self.input.changes.iter().map(|c| c.time));
        let span = times.fold(t, f64::max) - start;
        if span > 0.0 { span } else { 1.0 }
    }

    /// Steps should not be longer than a delay, nor than what a root function that bends in time may do unseen.
    fn longest_step(&mut self, t: f64) -> f64 {
        let span = self.span(t);
        let (system, y) = self.integrator.parts();
        let bends = system.model.switches.iter().any(|s| s.curved_in_time);
        let longest = if bends { span / LOOKS } else { f64::INFINITY };
        // Delays far shorter than the simulation are bridged by extrapolation.
        history::shortest(system, t, y).map_or(longest, |d| longest.min(d.max(1e-5 * span)))
    }

    /// Without states there is nothing to integrate: outputs and parameters change only at switches.
    fn advance_without_states(&mut self, stop: Option<f64>) -> Result<Advance, SimulationError> {
        while let Some(time) = self.output.next_time() {
            if stop.is_some_and(|s| time >= s || near(time, s)) {
                break;
            }
            if time.is_finite() && !self.integrator.system().state_switches.is_empty() {
                // Conditions that bend in time are looked at where they matter: at outputs.
                return Ok(Advance::Stop(time));
            }
            let (system, y) = self.integrator.parts();
            self.output.write_here(system, y, time);
        }
        Ok(match stop {
            Some(stop) => Advance::Stop(stop),
            None => Advance::Done(self.last),
        })
    }

    /// Writes the outputs that lie before `t` in the last step, and at `t` if `inclusive`.
    fn write_until(&mut self, t: f64, inclusive: bool) -> Result<(), SimulationError> {
        while let Some(time) = self.output.next_time() {
            if time > t || (!inclusive && near(time, t)) {
                break;
            }
            match self.integrator.interpolated(time) {
                Ok((system, block)) => self.output.write(system, block, time),
                Err(failure) => return Err(simulation_error(self.integrator, failure, time)),
            }
        }
        Ok(())
    }
}

/// Applies the change of a period to states, parameters and their sensitivities. All of it is computed from the values before.
pub(super) fn apply_change(system: &mut System, y: &mut [f64], change: &PeriodChange, t: f64) -> Result<(), SimulationError> {
    let mut rows = vec![0.0; change.assignments.targets.len() * system.shape.columns];
    system.differentiate(&change.assignments.values, &change.assignments.numbers, t, y, &mut rows);
    assign(system, t, y, &change.assignments, &rows)
}

impl Output<'_> {
    fn is_complete(&self) -> bool {
        self.next == self.trajectory.times.len()
    }

    /// Whether all outputs at finite times are written, and others are not.
    fn waits(&self) -> bool {
        self.next_time().is_some_and(|t| t == f64::INFINITY)
    }

    fn next_time(&self) -> Option<f64> {
        self.trajectory.times.get(self.next).copied()
    }

    /// Writes the outputs at infinite time.
    fn write_steady_state(&mut self, system: &mut System, y: &[f64]) {
        self.begin_segment(system);
        while !self.is_complete() {
            self.write(system, y, f64::INFINITY);
        }
    }

    /// Starts a segment of the trajectory with the current parameters and seeds.
    fn begin_segment(&mut self, system: &System) {
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

    /// Brings the current segment up to date, or begins a new one if it has an output already.
    fn update_or_begin_segment(&mut self, system: &System) {
        let current = self.trajectory.parameters.len() - 1;
        if self.trajectory.segment.last() == Some(&current) {
            let same = self.trajectory.parameters[current] == system.parameters
                && self.trajectory.parameter_seeds[current] == system.seeds
                && self.trajectory.parameter_second[current] == system.seeds_second;
            if !same {
                self.begin_segment(system);
            }
            return;
        }
        self.trajectory.parameters[current].copy_from_slice(&system.parameters);
        self.trajectory.parameter_seeds[current].copy_from_slice(&system.seeds);
        self.trajectory.parameter_second[current].copy_from_slice(&system.seeds_second);
    }

    /// Writes the outputs at `t`, where the block is `y` and parameters may have changed.
    fn write_here(&mut self, system: &mut System, y: &[f64], t: f64) {
        if self.next_time().is_some_and(|time| time <= t || near(time, t)) {
            self.update_or_begin_segment(system);
        }
        while self.next_time().is_some_and(|time| time <= t || near(time, t)) {
            self.write(system, y, t);
        }
    }

    /// Writes one output: a block without its padding.
    fn write(&mut self, system: &mut System, block: &[f64], t: f64) {
        if !system.model.delays.parameters.is_empty() {
            // Delayed values stand among the parameters, so every output has a segment of its own.
            let x = system.states(block).to_vec();
            system.refresh_delays(t, &x);
            self.update_or_begin_segment(system);
        }
        for row in block.chunks_exact(system.shape.stride) {
            self.trajectory.blocks.extend_from_slice(&row[..self.trajectory.columns]);
        }
        self.trajectory.segment.push(self.trajectory.parameters.len() - 1);
        self.next += 1;
        self.steps = 0;
    }
}
