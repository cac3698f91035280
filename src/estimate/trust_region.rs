//! Bounded trust-region reflective minimisation, after Coleman & Li (1996) as in fides (Fröhlich & Sorger 2022). The geometry of a
//! step is in `reflective.rs`, the curvature in `curvature.rs`; here are the loop, the radius and the criteria to stop.

use super::curvature::Approximation;
use super::reflective::{Bounds, Step, best_step};
use super::{Start, StopReason};
use crate::likelihood::{Evaluation, Objective, Order};
use nalgebra::DVector;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Source of the model's curvature. Objectives without a Fisher information get BFGS in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Curvature {
    /// Fisher information (Gauss-Newton): best where the model describes the data well.
    Fisher,
    /// BFGS updates from gradients; never asks for a Fisher information.
    Bfgs,
    /// Symmetric rank-one updates from gradients, possibly indefinite.
    Sr1,
    /// Fisher information, with a structured BFGS correction for what it leaves out whenever the corrected model has predicted
    /// the objective better (the switching rule of NL2SOL). The default: equal to Fisher where that works, faster where
    /// residuals are large.
    #[default]
    Hybrid,
}

/// How to minimise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Curvature of the model.
    pub curvature: Curvature,
    /// Largest number of iterations (trial steps).
    pub max_iterations: usize,
    /// Stop when no |g_i| min(1, distance to the bound that stops descent) exceeds this and the model promises less than the
    /// function tolerance.
    pub gradient_tolerance: f64,
    /// Absolute function tolerance.
    pub function_absolute: f64,
    /// Function tolerance relative to the objective. Steps in a row, not shortened by the radius, that neither promise nor bring
    /// more than both tolerances together end the minimisation: two with Fisher information. With curvature learnt from steps,
    /// which may not know a flat direction yet, it takes as many as there are parameters (3 to 20) and 1e-3 of the tolerance.
    pub function_relative: f64,
    /// Error of the objective's values, absolute and relative. Steps that promise less cannot be told from steps that bring nothing: [`UNJUDGED`] of
    /// them in a row end the minimisation, and so do [`REJECTED`] steps that are not confirmed, where there is noise.
    pub noise: (f64, f64),
    /// Stop when no parameter moves by more than this times max(1, |x|).
    pub step_tolerance: f64,
    /// Initial radius in affinely scaled variables (parameter / sqrt(distance to bound)).
    pub initial_radius: f64,
    /// Time limit.
    pub time: Option<Duration>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            curvature: Curvature::Hybrid,
            max_iterations: 1000,
            gradient_tolerance: 1e-6,
            function_absolute: 1e-8,
            function_relative: 1e-11,
            noise: (0.0, 0.0),
            step_tolerance: 1e-13,
            initial_radius: 1.0,
            time: None,
        }
    }
}

/// State after an iteration, for progress displays.
#[derive(Debug, Clone, Copy)]
pub struct Iteration {
    /// Iterations so far.
    pub iteration: usize,
    /// Objective at the current point.
    pub value: f64,
    /// Optimality measure there, see [`Options::gradient_tolerance`].
    pub gradient_norm: f64,
}

/// Radius factors and thresholds of Coleman & Li and fides.
const SHRINK: f64 = 0.25;
const GROW: f64 = 2.0;
const POOR: f64 = 0.25;
const GOOD: f64 = 0.75;

/// Steps in a row below the noise of the objective that end a minimisation.
const UNJUDGED: usize = 3;

/// Steps in a row that an objective with noise did not confirm, each a quarter as long as the one before: their promise was in its errors.
const REJECTED: usize = 6;

/// Curvature learnt from steps underestimates what flat directions still offer; the function tolerance is smaller by this.
const LEARNT: f64 = 1e-3;

/// Minimises `objective` from `x0` (moved into the bounds if outside). `stop` interrupts after the current evaluation. Never
/// fails: [`Start::stop`] says how it ended, and [`Start::point`] is the best point seen. The index of the start is 0.
pub fn minimise<O: Objective>(objective: &O, x0: &[f64], options: &Options, stop: &AtomicBool) -> Start {
    minimise_with(objective, x0, options, stop, &mut |_| {})
}

/// Like [`minimise`]; `progress` is called after every iteration.
pub fn minimise_with<O: Objective>(
    objective: &O,
    x0: &[f64],
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Iteration),
) -> Start {
    minimise_from(objective, x0, objective.memory(), options, stop, progress).0
}

/// Like [`minimise_with`], with the memory of earlier evaluations; gives it back.
pub fn minimise_from<O: Objective>(
    objective: &O,
    x0: &[f64],
    memory: O::Memory,
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Iteration),
) -> (Start, O::Memory) {
    let clock = Instant::now();
    let parameters = objective.parameters();
    let bounds = Bounds { lower: parameters.iter().map(|p| p.lower).collect(), upper: parameters.iter().map(|p| p.upper).collect() };
    let x = bounds.clamp(&DVector::from_column_slice(x0));
    let mut evaluator = Evaluator { objective, memory, options, count: 0 };
    let mut run = match evaluator.evaluate(&x) {
        Ok(first) => Run::new(x.clone(), first, bounds, options),
        Err(message) => {
            let start = Start {
                index: 0,
                initial: x.as_slice().to_vec(),
                initial_value: f64::INFINITY,
                point: x.as_slice().to_vec(),
                value: f64::INFINITY,
                gradient: Vec::new(),
                gradient_norm: f64::INFINITY,
                iterations: 0,
                evaluations: evaluator.count,
                duration: clock.elapsed(),
                stop: StopReason::Failed(message),
                trace: Vec::new(),
            };
            return (start, evaluator.memory);
        }
    };
    let initial_value = run.value;
    let mut trace = Vec::new();
    let reason = loop {
        if stop.load(Ordering::Relaxed) || options.time.is_some_and(|limit| clock.elapsed() >= limit) {
            break StopReason::Interrupted;
        }
        let step = best_step(&run.x, &run.gradient, &run.curvature.matrix(), &run.bounds, run.radius);
        if let Some(reason) = run.stop_before(&step, options) {
            break reason;
        }
        if trace.len() >= options.max_iterations {
            break StopReason::Iterations;
        }
        let target = run.bounds.clamp(&(&run.x + &step.step));
        let verdict = match evaluator.evaluate(&target) {
            Ok(trial) => run.learn(target, trial, &step, options),
            Err(message) => run.recover(message, &step, options),
        };
        trace.push(run.value);
        progress(Iteration { iteration: trace.len(), value: run.value, gradient_norm: run.optimality() });
        if let Some(reason) = verdict {
            break reason;
        }
    };
    if reason.converged() {
        run.settle_on_bounds(&mut evaluator);
    }
    let start = Start {
        index: 0,
        initial: x.as_slice().to_vec(),
        initial_value,
        gradient_norm: run.optimality(),
        point: run.x.as_slice().to_vec(),
        value: run.value,
        gradient: run.gradient.as_slice().to_vec(),
        iterations: trace.len(),
        evaluations: evaluator.count,
        duration: clock.elapsed(),
        stop: reason,
        trace,
    };
    (start, evaluator.memory)
}

/// The objective with its memory and a counter.
struct Evaluator<'a, O: Objective> {
    objective: &'a O,
    memory: O::Memory,
    options: &'a Options,
    count: usize,
}

impl<O: Objective> Evaluator<'_, O> {
    /// Value, gradient and curvature at `x`. A value or gradient that is not finite is a failure like any other.
    fn evaluate(&mut self, x: &DVector<f64>) -> Result<Evaluation, String> {
        let order = match self.options.curvature {
            Curvature::Fisher | Curvature::Hybrid => Order::Fisher,
            Curvature::Bfgs | Curvature::Sr1 => Order::Gradient,
        };
        self.count += 1;
        let mut evaluation = self.objective.evaluate(x.as_slice(), order, &mut self.memory).map_err(|error| error.to_string())?;
        if !evaluation.value.is_finite() {
            return Err(format!("the objective is {}", evaluation.value));
        }
        if evaluation.gradient.len() != x.len() {
            return Err(format!("the gradient has {} entries for {} parameters", evaluation.gradient.len(), x.len()));
        }
        if let Some(i) = evaluation.gradient.iter().position(|g| !g.is_finite()) {
            let id = self.objective.parameters().get(i).map_or("", |p| p.id.as_str());
            return Err(format!("the derivative of the objective by `{id}` is {}", evaluation.gradient[i]));
        }
        evaluation.fisher = evaluation.fisher.filter(|f| f.shape() == (x.len(), x.len()) && crate::linalg::is_finite(f));
        Ok(evaluation)
    }
}

/// The current point and what is known there.
struct Run {
    x: DVector<f64>,
    value: f64,
    gradient: DVector<f64>,
    curvature: Approximation,
    bounds: Bounds,
    radius: f64,
    /// Trials in a row that brought and promised next to nothing, although the radius did not shorten the step.
    small: usize,
    /// The same, also counting steps that the radius shortened.
    slow: usize,
    /// Steps in a row that promised and brought less than the noise of the objective.
    unjudged: usize,
    /// Steps in a row that were not accepted.
    rejected: usize,
    /// Value at the last [`Run::fresh_look`], infinite before the first.
    looked_at: f64,
    /// Trial points without a value in a row.
    failures: usize,
    /// The last trial point without a value: the message, and how many trials ago.
    last_failure: Option<(String, usize)>,
}

impl Run {
    fn new(x: DVector<f64>, first: Evaluation, bounds: Bounds, options: &Options) -> Run {
        let curvature = Approximation::new(options.curvature, x.len(), first.fisher);
        let radius = options.initial_radius;
        Run {
            x,
            value: first.value,
            gradient: first.gradient,
            curvature,
            bounds,
            radius,
            small: 0,
            slow: 0,
            unjudged: 0,
            rejected: 0,
            looked_at: f64::INFINITY,
            failures: 0,
            last_failure: None,
        }
    }

    fn optimality(&self) -> f64 {
        self.bounds.optimality(&self.x, &self.gradient)
    }

    fn function_tolerance(&self, options: &Options) -> f64 {
        let tolerance = options.function_absolute + options.function_relative * self.value.abs();
        if self.curvature.is_local() { tolerance } else { LEARNT * tolerance }
    }

    /// Whether the radius rather than the model or a bound decided the length of the step.
    fn hindered(&self, step: &Step) -> bool {
        step.scaled_norm > 0.9 * self.radius
    }

    /// Criteria that need no evaluation.
    fn stop_before(&self, step: &Step, options: &Options) -> Option<StopReason> {
        let optimality = self.optimality();
        if optimality <= options.gradient_tolerance && step.predicted <= self.function_tolerance(options) {
            return Some(StopReason::Gradient);
        }
        if step.predicted <= 0.0 {
            // The model sees no descent although the gradient is not small: only rounding can do that.
            return Some(StopReason::Function);
        }
        let moved = (0..self.x.len()).any(|i| step.step[i].abs() > options.step_tolerance * self.x[i].abs().max(1.0));
        (!moved).then(|| self.exhausted(StopReason::Step))
    }

    /// The reason to stop when steps have become too short: `reason`, unless points without a value have made them short.
    fn exhausted(&self, reason: StopReason) -> StopReason {
        match &self.last_failure {
            Some((message, age)) if *age < 10 => StopReason::Failed(message.clone()),
            _ => reason,
        }
    }

    /// Judges a trial point with a value.
    fn learn(&mut self, target: DVector<f64>, trial: Evaluation, step: &Step, options: &Options) -> Option<StopReason> {
        self.failures = 0;
        if let Some((_, age)) = &mut self.last_failure {
            *age += 1;
        }
        let change = trial.value - self.value;
        let ratio = (-change - step.scaling_term) / step.predicted;
        let hindered = self.hindered(step);
        let tolerance = self.function_tolerance(options);
        let accepted = change < 0.0;
        let (s, y) = (&target - &self.x, &trial.gradient - &self.gradient);
        self.curvature.learn(&s, &y, change, &self.gradient, trial.fisher, accepted);
        if ratio >= GOOD && hindered {
            self.radius *= GROW;
        } else if ratio <= POOR || ratio.is_nan() {
            self.radius = (SHRINK * self.radius).min(SHRINK * step.scaled_norm);
        }
        let noise = options.noise.0 + options.noise.1 * self.value.abs();
        self.unjudged = if step.predicted <= noise && change.abs() <= noise { self.unjudged + 1 } else { 0 };
        let negligible = -change <= tolerance && step.predicted <= tolerance;
        self.slow = if negligible { self.slow + 1 } else { 0 };
        if accepted {
            self.x = target;
            self.value = trial.value;
            self.gradient = trial.gradient;
            self.small = if negligible && !hindered && ratio > POOR { self.small + 1 } else { 0 };
        } else if negligible && (!hindered || self.small > 0) {
            // A promise below the tolerance was not kept: noise, or curvature still to be learnt.
            self.small += 1;
        } else if step.predicted <= 16.0 * f64::EPSILON * self.value.abs() {
            // A promise below rounding of the value can never be seen to be kept.
            return Some(self.exhausted(StopReason::Function));
        }
        self.rejected = if accepted { 0 } else { self.rejected + 1 };
        if self.unjudged >= UNJUDGED || (noise > 0.0 && self.rejected >= REJECTED) {
            return Some(StopReason::Function);
        }
        let enough = if self.curvature.is_local() { 2 } else { self.x.len().clamp(3, 20) };
        let still = self.small >= enough;
        if (!still && self.slow < 5 * enough) || self.fresh_look(options) {
            return None;
        }
        Some(if still { StopReason::Function } else { self.exhausted(StopReason::Function) })
    }

    /// Where learnt curvature sees no progress although the gradient is not small, it may be the curvature that is wrong, left
    /// over from another region: it is forgotten and the search goes on, unless the last such look has brought nothing.
    fn fresh_look(&mut self, options: &Options) -> bool {
        let doubtful = !self.curvature.is_local() && self.optimality() > 10.0 * options.gradient_tolerance;
        if !doubtful || self.looked_at - self.value <= options.function_absolute {
            return false;
        }
        self.looked_at = self.value;
        self.curvature.forget();
        self.radius = options.initial_radius;
        (self.small, self.slow) = (0, 0);
        true
    }

    /// After a trial point without a value: a smaller region, unless that has become pointless.
    fn recover(&mut self, message: String, step: &Step, options: &Options) -> Option<StopReason> {
        self.failures += 1;
        self.last_failure = Some((message.clone(), 0));
        self.radius = (SHRINK * self.radius).min(SHRINK * step.scaled_norm);
        let longest = step.step.amax();
        // A bound of the domain inside of the box: every step fails however short.
        let short = longest <= options.step_tolerance || (self.failures >= 10 && longest <= 1e-8 * self.x.amax().max(1.0));
        short.then_some(StopReason::Failed(message))
    }

    /// Interior steps only approach an active bound. At convergence parameters that are pressed against a near bound are put on it,
    /// if that makes the objective no worse.
    fn settle_on_bounds<O: Objective>(&mut self, evaluator: &mut Evaluator<'_, O>) {
        let mut target = self.x.clone();
        for i in 0..target.len() {
            let bound = if self.gradient[i] > 0.0 { self.bounds.lower[i] } else { self.bounds.upper[i] };
            let width = (self.bounds.upper[i] - self.bounds.lower[i]).min(1.0);
            if self.gradient[i] != 0.0 && (target[i] - bound).abs() <= 1e-4 * width {
                target[i] = bound;
            }
        }
        if target == self.x {
            return;
        }
        if let Ok(trial) = evaluator.evaluate(&target)
            && trial.value <= self.value
            && self.bounds.optimality(&target, &trial.gradient) <= self.optimality().max(evaluator.options.gradient_tolerance)
        {
            self.x = target;
            self.value = trial.value;
            self.gradient = trial.gradient;
        }
    }
}
