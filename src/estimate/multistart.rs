//! Many local minimisations from Latin hypercube points. Starts share nothing, so the fit is the same bit for bit for any number of
//! threads (unless a time limit or an interruption cuts it short).

use super::trust_region::{self, Iteration, minimise_from};
use super::{Fit, Start, StopReason};
use crate::likelihood::{Estimated, Objective, Order};
use crate::petab::Scale;
use crate::random::{Purpose, latin_hypercube, stream, uniform};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What to estimate from: together with the objective this determines the result.
#[derive(Debug, Clone)]
pub struct MultistartOptions {
    /// Number of starts, the nominal one included.
    pub starts: usize,
    /// Seed of the starting points.
    pub seed: u64,
    /// Whether start 0 begins at the nominal values, where the problem gives all of them, instead of a random point.
    pub include_nominal: bool,
    /// Settings of each optimisation. Its time limit holds for each start.
    pub optimiser: trust_region::Options,
}

impl Default for MultistartOptions {
    fn default() -> MultistartOptions {
        MultistartOptions { starts: 50, seed: 1, include_nominal: false, optimiser: trust_region::Options::default() }
    }
}

/// How to run it.
#[derive(Debug, Clone)]
pub struct Control {
    /// Threads over starts (at least 1).
    pub threads: usize,
    /// Time limit for all starts together. Starts not begun by then are in the fit as [`StopReason::Interrupted`].
    pub time: Option<Duration>,
    /// Starts of an earlier, killed run with the same problem and options; taken over by their index.
    pub completed: Vec<Start>,
}

impl Default for Control {
    fn default() -> Control {
        Control { threads: rayon::current_num_threads(), time: None, completed: Vec::new() }
    }
}

/// How often a random starting point without a value of the objective is drawn again.
pub const REDRAWS: u64 = 50;

/// What happened, for displays and for saving finished starts. Comes from the thread of the start.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A start made an iteration.
    Iteration {
        /// Index of the start.
        start: usize,
        /// Its state.
        state: Iteration,
    },
    /// A start ended.
    Finished {
        /// The start.
        start: &'a Start,
        /// Number of starts that have ended.
        finished: usize,
        /// Number of starts.
        total: usize,
    },
}

/// Runs all starts on as many threads as the current rayon pool has; `progress` is told of each that has ended. See
/// [`multistart_with`].
pub fn multistart<O: Objective>(objective: &O, options: &MultistartOptions, progress: &(dyn Fn(&Start) + Sync), stop: &AtomicBool) -> Fit {
    let finished = |event: Progress<'_>| {
        if let Progress::Finished { start, .. } = event {
            progress(start);
        }
    };
    multistart_with(objective, options, &Control::default(), &finished, stop)
}

/// Turns a random starting point, given with the index of the start, into one from which to begin.
pub type Prepare<'a> = &'a (dyn Fn(usize, &[f64]) -> Vec<f64> + Sync);

/// How a start comes closer before it minimises the objective.
pub struct Stages<'a, O> {
    /// Minimised first: close to the objective and cheaper.
    pub coarse: Option<&'a O>,
    /// Whether what the coarse objective remembers is of use to the other one.
    pub shares_memory: bool,
    /// Prepares random starting points.
    pub prepare: Option<Prepare<'a>>,
}

/// Like [`multistart`], in stages, and with what `objective` remembers of the best start. Final values and points are those of `objective`; the trace is of the coarse objective and this one in
/// turn, and iterations and evaluations are counted together.
pub fn multistart_staged<O: Objective>(
    stages: &Stages<O>,
    objective: &O,
    options: &MultistartOptions,
    progress: &(dyn Fn(&Start) + Sync),
    stop: &AtomicBool,
) -> (Fit, Option<O::Memory>) {
    let finished = |event: Progress<'_>| {
        if let Progress::Finished { start, .. } = event {
            progress(start);
        }
    };
    run_starts(stages, objective, options, &Control::default(), &finished, stop)
}

/// Runs all starts; [`Fit::starts`] is in order of the index whatever the order of completion. A random starting point where the
/// objective has no value is replaced by another one that depends on (seed, start, attempt) only, at most [`REDRAWS`] times.
pub fn multistart_with<O: Objective>(
    objective: &O,
    options: &MultistartOptions,
    control: &Control,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    stop: &AtomicBool,
) -> Fit {
    run_starts(&Stages { coarse: None, shares_memory: false, prepare: None }, objective, options, control, progress, stop).0
}

fn run_starts<O: Objective>(
    stages: &Stages<O>,
    objective: &O,
    options: &MultistartOptions,
    control: &Control,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    stop: &AtomicBool,
) -> (Fit, Option<O::Memory>) {
    let clock = Instant::now();
    let points = starting_points(objective.parameters(), options);
    let total = points.len();
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done: Mutex<Vec<Start>> = Mutex::new(Vec::with_capacity(total));
    let remembered: Mutex<Option<(f64, usize, O::Memory)>> = Mutex::new(None);
    let (first, refine) = match stages.coarse {
        Some(coarse) => (coarse, Some(objective)),
        None => (objective, None),
    };
    let mut first_options = options.clone();
    if refine.is_some() {
        let optimiser = &mut first_options.optimiser;
        optimiser.function_absolute = optimiser.function_absolute.max(COARSE);
        optimiser.noise.0 = optimiser.noise.0.max(COARSE);
    }
    let first_options = &first_options;
    // Own threads rather than a pool of rayon: there, an objective that is parallel inside would pick up another start while it
    // waits, and that start's time would count for both.
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(index) else { return };
            let start = match control.completed.iter().find(|s| s.index == index) {
                Some(start) => start.clone(),
                None => {
                    let deadline = control.time.map(|limit| clock + limit);
                    let nominal = index == 0 && begins_at_nominal(objective.parameters(), options);
                    let prepared = stages.prepare.filter(|_| !nominal).map(|prepare| prepare(index, point));
                    let begin = prepared.as_deref().unwrap_or(point);
                    let (mut start, mut memory) = one_start(first, index, begin, first_options, deadline, progress, stop);
                    if let Some(refine) = refine.filter(|_| start.value.is_finite()) {
                        let known = if stages.shares_memory { memory } else { refine.memory() };
                        (start, memory) = refined(refine, start, known, options, deadline, progress, stop);
                    }
                    let mut best = remembered.lock().unwrap_or_else(PoisonError::into_inner);
                    if start.value.is_finite() && best.as_ref().is_none_or(|b| (start.value, index) < (b.0, b.1)) {
                        *best = Some((start.value, index, memory));
                    }
                    drop(best);
                    let finished = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(Progress::Finished { start: &start, finished, total });
                    start
                }
            };
            // A poisoned lock only means that another start panicked; that panic is passed on when its thread is joined.
            done.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        }
    };
    finished.store(control.completed.iter().filter(|s| s.index < total).count(), Ordering::Relaxed);
    let threads = control.threads.clamp(1, total.max(1));
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut starts = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    starts.sort_by_key(|s| s.index);
    let memory = remembered.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(.., memory)| memory);
    (Fit { starts, duration: clock.elapsed() }, memory)
}

/// Goes on from the best start of `fit` with `objective`, which is a better approximation than the former one. The other starts keep their points and get
/// its values there. Gives what `objective` remembers of the best.
pub fn refine_best<O: Objective>(fit: &mut Fit, objective: &O, options: &MultistartOptions, stop: &AtomicBool) -> Option<O::Memory> {
    let best = fit.best()?.index;
    let mut remembered = None;
    for start in fit.starts.iter_mut().filter(|start| start.value.is_finite()) {
        if start.index == best {
            let (better, memory) = refined(objective, start.clone(), objective.memory(), options, None, &|_| {}, stop);
            (*start, remembered) = (better, Some(memory));
        } else {
            let value = objective.evaluate(&start.point, Order::Value, &mut objective.memory());
            start.value = value.map_or(f64::INFINITY, |evaluation| evaluation.value);
        }
    }
    remembered
}

/// Function tolerance of a coarse objective, whose optimum is not the one that is looked for.
const COARSE: f64 = 1e-3;

/// One start with its redraws.
fn one_start<O: Objective>(
    objective: &O,
    index: usize,
    point: &[f64],
    options: &MultistartOptions,
    deadline: Option<Instant>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    stop: &AtomicBool,
) -> (Start, O::Memory) {
    let parameters = objective.parameters();
    let nominal = index == 0 && begins_at_nominal(parameters, options);
    let own_clock = Instant::now();
    let mut point = point.to_vec();
    let mut evaluations = 0;
    for attempt in 0.. {
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) || rest.is_some_and(|rest| rest.is_zero()) {
            break;
        }
        let own = options.optimiser.time.map(|limit| limit.saturating_sub(own_clock.elapsed()));
        let local = trust_region::Options { time: [rest, own].into_iter().flatten().min(), ..options.optimiser.clone() };
        let mut report = |state| progress(Progress::Iteration { start: index, state });
        let (mut start, memory) = minimise_from(objective, &point, objective.memory(), &local, stop, &mut report);
        evaluations += start.evaluations;
        if start.initial_value.is_finite() || nominal || attempt >= REDRAWS {
            start.index = index;
            start.evaluations = evaluations;
            start.duration = own_clock.elapsed();
            return (start, memory);
        }
        // Attempts fill the lower 16 bits of the stream's index, starts the others.
        let mut generator = stream(options.seed, Purpose::Redraws, ((index as u64) << 16) | attempt);
        for (value, parameter) in point.iter_mut().zip(parameters) {
            *value = starting_value(parameter, uniform(&mut generator));
        }
    }
    let nothing = Start {
        index,
        initial: point.clone(),
        initial_value: f64::INFINITY,
        point,
        value: f64::INFINITY,
        gradient: Vec::new(),
        gradient_norm: f64::INFINITY,
        iterations: 0,
        evaluations,
        duration: own_clock.elapsed(),
        stop: StopReason::Interrupted,
        trace: Vec::new(),
    };
    (nothing, objective.memory())
}

/// Goes on with another objective where a start ended.
fn refined<O: Objective>(
    objective: &O,
    before: Start,
    memory: O::Memory,
    options: &MultistartOptions,
    deadline: Option<Instant>,
    progress: &(dyn Fn(Progress<'_>) + Sync),
    stop: &AtomicBool,
) -> (Start, O::Memory) {
    let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let own = options.optimiser.time.map(|limit| limit.saturating_sub(before.duration));
    let local = trust_region::Options { time: [rest, own].into_iter().flatten().min(), ..options.optimiser.clone() };
    let index = before.index;
    let mut report = |mut state: Iteration| {
        state.iteration += before.iterations;
        progress(Progress::Iteration { start: index, state });
    };
    let (after, memory) = minimise_from(objective, &before.point, memory, &local, stop, &mut report);
    let whole = Start {
        index,
        initial: before.initial,
        initial_value: before.initial_value,
        iterations: before.iterations + after.iterations,
        evaluations: before.evaluations + after.evaluations,
        duration: before.duration + after.duration,
        trace: before.trace.into_iter().chain(after.trace).collect(),
        ..after
    };
    (whole, memory)
}

/// Whether start 0 is the nominal point.
fn begins_at_nominal(parameters: &[Estimated], options: &MultistartOptions) -> bool {
    options.include_nominal && parameters.iter().all(|p| p.nominal.is_finite())
}

/// The starting points in order of their index, on the estimation scale. Random ones are one Latin hypercube, each coordinate of which
/// is mapped by [`starting_value`].
pub fn starting_points(parameters: &[Estimated], options: &MultistartOptions) -> Vec<Vec<f64>> {
    let nominal = begins_at_nominal(parameters, options) && options.starts > 0;
    let mut points = Vec::with_capacity(options.starts);
    if nominal {
        points.push(parameters.iter().map(|p| p.nominal).collect());
    }
    let unit = (vec![0.0; parameters.len()], vec![1.0; parameters.len()]);
    let cube = latin_hypercube(options.starts - points.len(), &unit.0, &unit.1, options.seed);
    points.extend(cube.iter().map(|point| parameters.iter().zip(point).map(|(p, u)| starting_value(p, *u)).collect()));
    points
}

/// The starting value (estimation scale) at `u` between 0 and 1: that quantile of what the problem says starting values are drawn from,
/// without such a prior of the uniform distribution over [`range`].
fn starting_value(parameter: &Estimated, u: f64) -> f64 {
    let (low, high) = range(parameter);
    let Some(prior) = &parameter.start else { return (low * (1.0 - u) + high * u).clamp(low, high) };
    // A quantile of 0 has no logarithm.
    let least = if parameter.scale == Scale::Lin { f64::MIN } else { f64::MIN_POSITIVE };
    let value = parameter.scale.scale(prior.quantile(u).clamp(least, f64::MAX));
    value.max(parameter.lower).min(parameter.upper)
}

/// Where starting values of a parameter without a prior for them are drawn from (estimation scale): its bounds. In place of an infinite bound stands the
/// nominal value (else the other bound, else 0) minus or plus three decades on a logarithmic scale, or max(1, |value|) on the
/// linear one, moved where necessary to the allowed side of the finite bound.
pub fn range(parameter: &Estimated) -> (f64, f64) {
    let (lower, upper) = (parameter.lower, parameter.upper);
    if lower.is_finite() && upper.is_finite() {
        return (lower, upper);
    }
    let anchor = [parameter.nominal, lower, upper].into_iter().find(|v| v.is_finite()).unwrap_or(0.0).max(lower).min(upper);
    let reach = match parameter.scale {
        Scale::Log10 => 3.0,
        Scale::Log => 3.0 * std::f64::consts::LN_10,
        Scale::Lin => anchor.abs().max(1.0),
    };
    (lower.max(anchor - reach), upper.min(anchor + reach))
}

/// Starts with a value, as (index, value) in order of increasing value (equal values by index).
pub fn waterfall(fit: &Fit) -> Vec<(usize, f64)> {
    let mut values: Vec<(usize, f64)> = fit.starts.iter().filter(|s| s.value.is_finite()).map(|s| (s.index, s.value)).collect();
    values.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    values
}

/// How often the best value was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// Smallest objective.
    pub best: f64,
    /// Starts within 0.01 of it.
    pub within_001: usize,
    /// Starts within 0.1 of it.
    pub within_01: usize,
    /// Starts that ended at an optimum by their own judgement.
    pub converged: usize,
    /// Starts with a value.
    pub valued: usize,
}

/// The plateau of the best value; None if no start has one. An optimum found by one start only may not be the global one.
pub fn plateau(fit: &Fit) -> Option<Plateau> {
    let values = waterfall(fit);
    let best = values.first()?.1;
    let within = |distance: f64| values.iter().filter(|(_, v)| v - best <= distance).count();
    Some(Plateau {
        best,
        within_001: within(0.01),
        within_01: within(0.1),
        converged: fit.starts.iter().filter(|s| s.stop.converged()).count(),
        valued: values.len(),
    })
}
