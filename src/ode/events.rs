//! Events (SBML level 3 version 2, section 4.11): what happens at one moment of a simulation.
//!
//! A moment is a time at which conditions change, delayed events are due, or a period begins. At it
//!
//! 1. the conditions are looked at *at* the time and then *just after* it (`switch.rs`);
//! 2. events whose trigger became true are put on the agenda, with their assigned values if those belong to the trigger's time;
//!    pending events that are not persistent and whose trigger became false are taken off;
//! 3. of the events that are due, the one of greatest priority is executed, and the conditions are looked at anew.
//!
//! Sensitivities are carried to the moving time of what triggered the event (`clock.rs`), so simultaneous events of different causes
//! and cascades of events have right derivatives. Where events of equal priority compete, one is drawn at random.

use super::SimulationError;
use super::clock::{Clock, carry, crossing_clock};
use super::invariant;
use super::switch::{Cells, Crossing, near, settle_flags};
use super::system::System;
use crate::jit::Kernel;
use crate::model::compiled::{Assignments, Function, Target};
use crate::random::{self, Purpose};
use rand_chacha::ChaCha8Rng;

/// Executions at one moment after which the model is taken to loop.
const MOST_EXECUTIONS: usize = 20_000;

/// An event that was executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// Index of the event in the model.
    pub event: usize,
    /// When.
    pub time: f64,
    /// Derivatives of the time.
    pub clock: Clock,
    /// Whether the order of execution was drawn at random; what follows then depends on the seed, and has no derivatives in the strict sense.
    pub drawn: bool,
}

/// An event that was triggered and is not executed yet.
#[derive(Debug, Clone)]
struct Pending {
    /// How many were triggered before it.
    number: usize,
    event: usize,
    time: f64,
    clock: Clock,
    /// Assigned values with derivatives, one row per target, where they belong to the trigger's time.
    values: Option<Vec<f64>>,
}

/// What was determined at an earlier moment and is used at a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Time and values of a pending event, by its number.
    Pending(usize),
    /// The time since which a root function rests at 0.
    Resting(usize),
}

/// What is to come, and what the conditions were.
#[derive(Debug, Clone)]
pub struct Agenda {
    pending: Vec<Pending>,
    /// How many events were triggered so far.
    triggered: usize,
    triggers: Vec<bool>,
    /// How many assignments each event makes.
    targets: Vec<usize>,
    generator: ChaCha8Rng,
    /// In which cells the root functions are since the last moment.
    pub cells: Cells,
    /// For root functions that came to rest at 0: the derivatives of the time since which they do.
    resting: Vec<Option<Clock>>,
    /// What was executed so far.
    pub executions: Vec<Execution>,
}

/// The moment in progress.
struct Moment<'a> {
    system: &'a mut System,
    y: &'a mut [f64],
    t: f64,
    /// Length of the simulation.
    span: f64,
    crossings: Vec<Crossing>,
    /// For each crossing the derivatives of its time; `None` where it only touches 0.
    clocks: Vec<Option<Clock>>,
    /// A crossing without derivatives on which something depends.
    grazing: Option<usize>,
    executed: usize,
}

/// A block at a fixed time, with parameters and their first and second derivatives.
struct Snapshot {
    block: Vec<f64>,
    parameters: [Vec<f64>; 3],
}

impl Agenda {
    /// Nothing is pending, and the triggers have their values from before the start, or those given.
    pub fn new(system: &System, seed: u64, triggers: Option<&[bool]>) -> Self {
        Agenda {
            pending: vec![],
            triggered: 0,
            triggers: triggers.map_or_else(|| system.model.events.iter().map(|e| e.initial_value).collect(), <[bool]>::to_vec),
            targets: system.model.events.iter().map(|e| e.assignments.targets.len()).collect(),
            generator: random::stream(seed, Purpose::Events, 0),
            cells: Cells::default(),
            resting: vec![None; system.model.switches.len()],
            executions: vec![],
        }
    }

    /// What is held, with the first derivatives of its numbers.
    pub fn held(&self, directions: usize) -> Vec<(Held, Vec<&[f64]>)> {
        let pending = self.pending.iter().map(|p| {
            let values = p.values.iter().flat_map(|v| v.chunks_exact((v.len() / self.targets[p.event].max(1)).max(1)));
            (Held::Pending(p.number), std::iter::once(&p.clock.first[..]).chain(values.map(|row| &row[1..1 + directions])).collect())
        });
        let resting = self.resting.iter().enumerate().filter_map(|(j, clock)| Some((Held::Resting(j), vec![&clock.as_ref()?.first[..]])));
        pending.chain(resting).collect()
    }

    /// The same agenda of a simulation without derivatives for one with `directions`, where what is held moves along the directions from
    /// `first(held)` on, number by number, or not at all.
    pub fn widened(&self, directions: usize, first: impl Fn(Held) -> Option<usize>) -> Agenda {
        let unit = |held: Held, k: usize| {
            let mut row = vec![0.0; directions];
            first(held).into_iter().for_each(|place| row[place + k] = 1.0);
            row
        };
        let clock = |held: Held| Clock { first: unit(held, 0), second: vec![] };
        let mut wide = self.clone();
        for p in &mut wide.pending {
            let held = Held::Pending(p.number);
            p.clock = clock(held);
            let values = p.values.iter().flatten().enumerate();
            let rows = values.flat_map(|(k, v)| std::iter::once(*v).chain(unit(held, 1 + k))).collect();
            p.values = p.values.is_some().then_some(rows);
        }
        for (j, resting) in wide.resting.iter_mut().enumerate() {
            *resting = resting.is_some().then(|| clock(Held::Resting(j)));
        }
        wide
    }

    /// When the next delayed event is due.
    pub fn next(&self) -> Option<f64> {
        self.pending.iter().map(|p| p.time).reduce(f64::min)
    }

    /// The triggers as they were last.
    pub fn triggers(&self) -> &[bool] {
        &self.triggers
    }

    /// Everything that happens at `t`. `observe` gets to see the system after what happens *at* `t`; of what happens just after it
    /// only what no event does. `moving` says whether the crossings' times have derivatives (not at the start of a period).
    /// `span` is the length of the simulation.
    ///
    /// Returns whether the states jumped.
    #[allow(clippy::too_many_arguments)]
    pub fn settle(
        &mut self,
        system: &mut System,
        y: &mut [f64],
        t: f64,
        crossings: Vec<Crossing>,
        moving: bool,
        span: f64,
        observe: &mut dyn FnMut(&mut System, &[f64]),
    ) -> Result<bool, SimulationError> {
        let (ns, pairs) = (system.directions, system.pairs.len());
        let model = system.model.clone();
        let fixed = || Some(Clock::fixed(ns, pairs));
        let mut clocks = Vec::with_capacity(crossings.len());
        for c in &crossings {
            clocks.push(match &self.resting[c.switch] {
                _ if ns == 0 || !moving => fixed(),
                Some(clock) => Some(clock.clone()),
                None => crossing_clock(system, t, y, c.switch, span)?,
            });
        }
        let before = if ns > 0 { y.to_vec() } else { vec![] };
        let mut rates = vec![0.0; if ns > 0 { system.shape.rows } else { 0 }];
        if ns > 0 {
            system.states_rhs(t, y, &mut rates);
        }
        let mut moment = Moment { system, y, t, span, crossings, clocks, grazing: None, executed: 0 };
        self.look(&mut moment, false)?;
        self.execute_due(&mut moment, false)?;
        let snapshot = moment.snapshot()?;
        let executed_at = moment.executed;
        self.look(&mut moment, true)?;
        self.execute_due(&mut moment, true)?;
        let Moment { system, y, crossings, grazing, mut executed, .. } = moment;
        if !crossings.is_empty() && !model.invariants.positive.is_empty() {
            // The invariants themselves may have switched.
            let before = system.states(y).to_vec();
            invariant::project(system, t, y)?;
            executed += usize::from(system.states(y) != before);
        }
        let only_at = executed == executed_at;
        self.remember_rest(system);
        if ns > 0 {
            let mut new_rates = vec![0.0; rates.len()];
            system.states_rhs(t, y, &mut new_rates);
            let bends = rates.iter().zip(&new_rates).any(|(a, b)| (a - b).abs() > 1e-10 * (a.abs() + b.abs()));
            match grazing {
                Some(j) if executed > 0 || bends => {
                    let flag = model.switches[j].flag;
                    return Err(SimulationError::Grazing { time: t, switch: model.parameters[flag].clone() });
                }
                // Nothing happened to the states: to carry them forth and back would only add rounding errors. A kink of the rates
                // shows in second derivatives.
                _ if executed == 0 && !bends && (pairs == 0 || grazing.is_some()) => {
                    y.copy_from_slice(&before);
                    system.clock = Clock::fixed(ns, pairs);
                }
                _ => carry(system, t, y, &Clock::fixed(ns, pairs))?,
            }
            system.seeds_changed();
        }
        if only_at {
            observe(system, y);
        } else {
            let Snapshot { block, mut parameters } = snapshot;
            std::mem::swap(&mut system.parameters, &mut parameters[0]);
            std::mem::swap(&mut system.seeds, &mut parameters[1]);
            std::mem::swap(&mut system.seeds_second, &mut parameters[2]);
            observe(system, &block);
            let [p, seeds, second] = parameters;
            (system.parameters, system.seeds, system.seeds_second) = (p, seeds, second);
        }
        Ok(executed > 0)
    }

    /// Notes which root functions rest at 0, and since when.
    fn remember_rest(&mut self, system: &System) {
        for (j, resting) in self.resting.iter_mut().enumerate() {
            if !self.cells.rests(j) {
                *resting = None;
            } else if resting.is_none() {
                *resting = Some(system.clock.clone());
            }
        }
    }

    /// Brings flags and triggers up to date, and puts what was triggered on the agenda.
    fn look(&mut self, moment: &mut Moment, after: bool) -> Result<(), SimulationError> {
        moment.set_flags(self, after)?;
        let model = moment.system.model.clone();
        let now: Vec<bool> = moment.evaluate(&model.triggers).iter().map(|v| *v != 0.0 && !v.is_nan()).collect();
        let was = std::mem::replace(&mut self.triggers, now);
        for (event, was) in was.into_iter().enumerate() {
            match (was, self.triggers[event]) {
                (false, true) => {
                    let pending = moment.trigger(event, self.triggered)?;
                    self.triggered += 1;
                    self.pending.push(pending);
                }
                (true, false) if !model.events[event].persistent => self.pending.retain(|p| p.event != event),
                _ => {}
            }
        }
        Ok(())
    }

    fn execute_due(&mut self, moment: &mut Moment, after: bool) -> Result<(), SimulationError> {
        let model = moment.system.model.clone();
        loop {
            let due: Vec<usize> =
                (0..self.pending.len()).filter(|p| self.pending[*p].time <= moment.t || near(self.pending[*p].time, moment.t)).collect();
            if due.is_empty() {
                return Ok(());
            }
            let priorities: Vec<f64> = due
                .iter()
                .map(|p| {
                    let kernel = model.events[self.pending[*p].event].priority.as_ref();
                    kernel.map_or(f64::NAN, |kernel| moment.evaluate(kernel)[0])
                })
                .collect();
            // Without a priority an event comes after those that have one, in order of triggering.
            let highest = priorities.iter().copied().fold(f64::NAN, f64::max);
            let candidates: Vec<usize> =
                due.iter().zip(&priorities).filter(|(_, p)| **p == highest || highest.is_nan()).map(|(d, _)| *d).collect();
            let drawn = candidates.len() > 1 && !highest.is_nan();
            let place = if drawn { (random::uniform(&mut self.generator) * candidates.len() as f64) as usize } else { 0 };
            let pending = self.pending.remove(candidates[place.min(candidates.len() - 1)]);
            if moment.executed == MOST_EXECUTIONS {
                return Err(SimulationError::EventLoop { time: moment.t, event: model.events[pending.event].id.clone() });
            }
            moment.execute(&pending)?;
            let clock = moment.system.clock.clone();
            self.executions.push(Execution { event: pending.event, time: moment.t, clock, drawn });
            self.look(moment, after)?;
        }
    }
}

impl Moment<'_> {
    /// The system as it is at a fixed time.
    fn snapshot(&mut self) -> Result<Snapshot, SimulationError> {
        let clock = self.system.clock.clone();
        let mut block = self.y.to_vec();
        carry(self.system, self.t, &mut block, &Clock::fixed(clock.first.len(), clock.second.len()))?;
        self.system.clock = clock;
        let parameters = [self.system.parameters.clone(), self.system.seeds.clone(), self.system.seeds_second.clone()];
        Ok(Snapshot { block, parameters })
    }

    /// The outputs of a kernel now.
    fn evaluate(&mut self, kernel: &Kernel) -> Vec<f64> {
        let x = self.system.states(self.y).to_vec();
        self.system.refresh_delays(self.t, &x);
        let mut out = vec![0.0; kernel.outputs()];
        kernel.call([&[self.t][..], &x, &self.system.parameters, &[]], &mut out, &mut self.system.scratch);
        out
    }

    /// The outputs of a function now with their derivatives, a row each.
    fn differentiate(&mut self, function: &Function, numbers: &[f64]) -> Vec<f64> {
        let mut rows = vec![0.0; function.value.outputs() * self.system.shape.columns];
        self.system.differentiate(function, numbers, self.t, self.y, &mut rows);
        rows
    }

    /// Sets the flags. Those of crossings change while the block is carried to the time of the crossing.
    fn set_flags(&mut self, agenda: &mut Agenda, after: bool) -> Result<(), SimulationError> {
        let old = self.system.parameters.clone();
        agenda.cells = settle_flags(self.system, self.t, self.y, &self.crossings, after, self.span);
        if self.system.directions == 0 || self.crossings.is_empty() {
            return Ok(());
        }
        let new = std::mem::replace(&mut self.system.parameters, old);
        for c in 0..self.crossings.len() {
            let flag = self.system.model.switches[self.crossings[c].switch].flag;
            if self.system.parameters[flag] != new[flag] {
                self.carry_to(c)?;
                self.system.parameters[flag] = new[flag];
            }
        }
        self.system.parameters = new;
        Ok(())
    }

    /// Carries the block to the time of a crossing.
    fn carry_to(&mut self, crossing: usize) -> Result<(), SimulationError> {
        match self.clocks[crossing].clone() {
            Some(clock) => carry(self.system, self.t, self.y, &clock),
            None => {
                self.grazing = Some(self.crossings[crossing].switch);
                Ok(())
            }
        }
    }

    /// Event `event` was triggered: by a crossing, or by what was executed before.
    fn trigger(&mut self, event: usize, number: usize) -> Result<Pending, SimulationError> {
        let model = self.system.model.clone();
        let event_of = &model.events[event];
        if let Some(cause) = self.crossings.iter().position(|c| event_of.switches.contains(&c.switch)) {
            self.carry_to(cause)?;
        }
        let mut clock = self.system.clock.clone();
        let mut time = self.t;
        if let Some(delay) = &event_of.delay {
            let row = self.differentiate(delay, &[]);
            let ns = self.system.directions;
            if row[0].is_nan() || row[0] < 0.0 {
                return Err(SimulationError::Delay { time, event: event_of.id.clone(), delay: row[0] });
            }
            time += row[0];
            clock.first.iter_mut().zip(&row[1..]).for_each(|(tau, d)| *tau += d);
            clock.second.iter_mut().zip(&row[1 + ns..]).for_each(|(tau, d)| *tau += d);
        }
        let values =
            event_of.values_from_trigger_time.then(|| self.differentiate(&event_of.assignments.values, &event_of.assignments.numbers));
        Ok(Pending { number, event, time, clock, values })
    }

    fn execute(&mut self, pending: &Pending) -> Result<(), SimulationError> {
        let model = self.system.model.clone();
        let event = &model.events[pending.event];
        carry(self.system, self.t, self.y, &pending.clock)?;
        let rows = match &pending.values {
            Some(values) => values.clone(),
            None => self.differentiate(&event.assignments.values, &event.assignments.numbers),
        };
        self.executed += 1;
        assign(self.system, self.t, self.y, &event.assignments, &rows)
    }
}

/// Sets states and parameters to values with derivatives, one row each, and moves back onto the invariants.
pub fn assign(system: &mut System, t: f64, y: &mut [f64], assignments: &Assignments, rows: &[f64]) -> Result<(), SimulationError> {
    let (columns, stride, ns, pairs) = (system.shape.columns, system.shape.stride, system.directions, system.pairs.len());
    assert_eq!(assignments.targets.len(), assignments.values.value.outputs(), "targets of assignments");
    let mut rows = rows.to_vec();
    if let Some(volumes) = &assignments.volumes {
        let mut factors = vec![0.0; rows.len()];
        system.differentiate(volumes, &[], t, y, &mut factors);
        for (row, factor) in rows.chunks_exact_mut(columns).zip(factors.chunks_exact(columns)) {
            multiply(row, factor, ns, &system.pairs);
        }
    }
    for (target, row) in assignments.targets.iter().zip(rows.chunks_exact(columns)) {
        match *target {
            Target::State(i) => {
                if row.iter().any(|v| !v.is_finite()) {
                    return Err(SimulationError::NonFinite { time: t, what: format!("new value of {}", system.model.states[i]) });
                }
                y[i * stride..][..columns].copy_from_slice(row);
            }
            Target::Parameter(b) => {
                system.parameters[b] = row[0];
                system.seeds[b * ns..][..ns].copy_from_slice(&row[1..1 + ns]);
                system.seeds_second[b * pairs..][..pairs].copy_from_slice(&row[1 + ns..]);
            }
        }
    }
    invariant::project(system, t, y)?;
    system.seeds_changed();
    Ok(())
}

/// Product of two numbers with their first and second derivatives, into `a`.
fn multiply(a: &mut [f64], b: &[f64], ns: usize, pairs: &[(u32, u32)]) {
    for (m, &(k, l)) in pairs.iter().enumerate() {
        let (k, l, m) = (1 + k as usize, 1 + l as usize, 1 + ns + m);
        a[m] = a[m] * b[0] + a[k] * b[l] + a[l] * b[k] + a[0] * b[m];
    }
    for k in 1..=ns {
        a[k] = a[k] * b[0] + a[0] * b[k];
    }
    a[0] *= b[0];
}
