//! Measurement rows against a simulated experiment: simulations, noise scales and their derivatives.
//!
//! A *direction* is a coordinate that moves one row of theta (a parameter on its estimation scale, or the transformed
//! parameter of an individual). Directions that can reach a state get a column in the integrator; the others act through the observables only.

use super::EvaluationError;
use super::noise::Measured;
use crate::jit::Scratch;
use crate::model::CompiledModel;
use crate::model::compiled::{CompiledExperiment, Function, Target};
use crate::ode::{Awaited, Counts, Execution, Input, Options, Second, SimulationError, Simulator, Trajectory};
use crate::petab::{Censoring, DataKind, Measurement, NoiseDistribution, Override, PopulationStatistic, Problem, Statistic};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Value of a placeholder in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Placeholder {
    /// A number.
    Number(f64),
    /// The parameter p of this index.
    Parameter(usize),
}

/// One measured value.
#[derive(Debug, Clone)]
pub struct Row {
    /// Index of the measurement in the problem.
    pub measurement: usize,
    /// Index of the observable.
    pub observable: usize,
    /// Index into [`Rows::times`].
    pub time: usize,
    /// Measured value.
    pub measured: Measured,
    /// Placeholder values in the observable's order.
    pub placeholders: Vec<Placeholder>,
    /// The observed event whose time was measured; its time takes the place of the observable.
    pub event: Option<usize>,
    /// For an event that has a hazard and happened in an interval: index into [`Rows::times`] of the end of the interval, at which the observable
    /// takes the place of the noise.
    pub upper: Option<usize>,
}

impl Row {
    /// The parameter that stands at column `a` of an observable's derivatives by (p, q); None for a placeholder that is a number.
    pub(super) fn parameter(&self, a: usize, np: usize) -> Option<usize> {
        match a.checked_sub(np) {
            None => Some(a),
            Some(k) => match self.placeholders.get(k) {
                Some(Placeholder::Parameter(j)) => Some(*j),
                _ => None,
            },
        }
    }

    /// Values of the placeholders with parameters `p`.
    pub(super) fn fill_placeholders(&self, p: &[f64], q: &mut Vec<f64>) {
        q.clear();
        q.extend(self.placeholders.iter().map(|v| match v {
            Placeholder::Number(value) => *value,
            Placeholder::Parameter(j) => p[*j],
        }));
    }
}

/// The measured values of one simulation.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Index of the experiment.
    pub experiment: usize,
    /// Sorted distinct times of the rows. Where events are awaited there is one more, until which they are.
    pub times: Vec<f64>,
    /// The observed events that the rows measure.
    pub events: Vec<usize>,
    /// The rows in order of the measurement table.
    pub rows: Vec<Row>,
    /// Rows of theta on which the simulation or the noise of any row depends, sorted.
    pub reaching: Vec<usize>,
    /// Those of them that reach a state.
    pub reaching_states: Vec<usize>,
}

impl Rows {
    /// Gathers the given measurements, which all belong to one experiment; `more` are further times to be simulated.
    pub fn new(model: &CompiledModel, places: &Places, problem: &Problem, experiment: usize, measurements: &[usize], more: &[f64]) -> Self {
        let wanted = measurements.iter().flat_map(|m| {
            let (time, upper) = times_of(problem, &problem.measurements[*m]);
            std::iter::once(time).chain(upper)
        });
        let mut times: Vec<f64> = wanted.chain(more.iter().copied()).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        let rows: Vec<Row> = measurements.iter().map(|i| row(places, problem, *i, &times)).collect();
        let mut events: Vec<usize> = rows.iter().filter_map(|r| r.event).collect();
        events.sort_unstable();
        events.dedup();
        if !events.is_empty() {
            let start = model.experiments[experiment].start;
            let uppers = rows.iter().filter_map(|r| match r.measured.censoring {
                Censoring::Interval(upper) if upper.is_finite() => Some(upper),
                _ => None,
            });
            let last = times.iter().copied().chain(uppers).fold(start, f64::max);
            times.push(last + (WAITING - 1.0) * (last - start));
        }
        let (reaching, reaching_states) = reach(model, &model.experiments[experiment], &times, &rows);
        Rows { experiment, times, events, rows, reaching, reaching_states }
    }

    /// The same experiment and times with other rows.
    pub fn with_rows(&self, model: &CompiledModel, rows: Vec<Row>) -> Self {
        let (reaching, reaching_states) = reach(model, &model.experiments[self.experiment], &self.times, &rows);
        Rows { experiment: self.experiment, times: self.times.clone(), events: self.events.clone(), rows, reaching, reaching_states }
    }
}

/// An event is waited for this many times as long as there are measurements. Later, it counts as one that never happens.
const WAITING: f64 = 10.0;

/// Indices of the parameters by name.
pub type Places<'a> = FxHashMap<&'a str, usize>;

/// Indices of a model's parameters.
pub fn places(model: &CompiledModel) -> Places<'_> {
    model.parameters.iter().enumerate().map(|(j, name)| (name.as_str(), j)).collect()
}

/// Values of the placeholders of a measurement, in the observable's order.
pub fn placeholders(places: &Places, m: &Measurement) -> Vec<Placeholder> {
    let place = |o: &Override| match o {
        Override::Number(value) => Placeholder::Number(*value),
        // Building the model has checked that the name is a parameter.
        Override::Id(id, _) => places.get(id.as_str()).map_or(Placeholder::Number(f64::NAN), |j| Placeholder::Parameter(*j)),
    };
    m.observable_parameters.iter().chain(&m.noise_parameters).map(place).collect()
}

/// The event of a row that has a hazard: its place among those events.
fn hazard_of(problem: &Problem, m: &Measurement) -> Option<usize> {
    let DataKind::TimeToEvent { event, .. } = &m.kind else { return None };
    problem.nlme.iter().flat_map(|n| &n.events).filter(|e| e.cumulative_hazard.is_some()).position(|e| e.id == *event)
}

/// The times at which the observable of a row is wanted: one, and of an interval of a hazard both ends.
fn times_of(problem: &Problem, m: &Measurement) -> (f64, Option<f64>) {
    match (hazard_of(problem, m), m.censoring) {
        (Some(_), Censoring::Interval(upper)) if upper.is_finite() => (m.value, Some(upper)),
        (Some(_), _) => (m.value, None),
        (None, _) => (m.time, None),
    }
}

fn row(places: &Places, problem: &Problem, index: usize, times: &[f64]) -> Row {
    let m: &Measurement = &problem.measurements[index];
    let hazard = hazard_of(problem, m);
    let event = match &m.kind {
        _ if hazard.is_some() => None,
        DataKind::TimeToEvent { event, .. } => Some(event),
        DataKind::Bulk(PopulationStatistic { statistic: Statistic::FractionEvent(event), .. }) => Some(event),
        _ => None,
    };
    let place = |time: f64| times.partition_point(|t| t.total_cmp(&time).is_lt());
    let (time, upper) = times_of(problem, m);
    Row {
        measurement: index,
        // The model has the observables of hazards after those of the problem.
        observable: hazard.map_or(m.observable, |k| problem.observables.len() + k),
        time: place(time),
        upper: upper.map(place),
        measured: Measured {
            distribution: problem.observables[m.observable].distribution,
            value: m.value,
            censoring: m.censoring,
            has_hazard: hazard.is_some(),
        },
        placeholders: if hazard.is_some() { Vec::new() } else { placeholders(places, m) },
        event: event.and_then(|event| problem.nlme.iter().flat_map(|n| &n.events).position(|e| e.id == *event)),
    }
}

/// Rows of theta that matter for these rows at all, and those among them that reach a state.
fn reach(model: &CompiledModel, experiment: &CompiledExperiment, times: &[f64], rows: &[Row]) -> (Vec<usize>, Vec<usize>) {
    let np = model.parameters.len();
    let mut by_output: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
    for (output, theta) in experiment.setup.dependencies(np) {
        by_output.entry(output).or_default().push(theta);
    }
    let behind = |output: &usize| by_output.get(output).into_iter().flatten().copied();
    let states: BTreeSet<usize> = if is_initial(model, experiment, times) {
        // Nothing happens to the initial values that the observables see.
        rows.iter().flat_map(|r| &model.observables[r.observable].dx.columns).flat_map(|i| behind(&(np + *i as usize))).collect()
    } else {
        let used = used_parameters(model, experiment, rows);
        let initial = by_output.iter().filter(|(output, _)| **output >= np).flat_map(|(_, thetas)| thetas.iter().copied());
        used.iter().filter(|j| **j < np).flat_map(behind).chain(initial).collect()
    };
    let mut all = states.clone();
    for r in rows {
        for column in &model.observables[r.observable].dp.columns {
            let j = r.parameter(*column as usize, np);
            all.extend(j.iter().flat_map(behind));
        }
    }
    (all.into_iter().collect(), states.into_iter().collect())
}

/// Parameters that the equations use, or that an event or a later period changes.
fn used_parameters(model: &CompiledModel, experiment: &CompiledExperiment, rows: &[Row]) -> BTreeSet<usize> {
    let awaits = rows.iter().any(|r| r.event.is_some());
    let roots = model.roots.dp.rows.iter().zip(&model.roots.dp.columns);
    let roots = roots.filter(|(j, _)| awaits || !model.switches[**j as usize].only_observed).map(|(_, column)| column);
    let mut used: BTreeSet<usize> = model.rhs.dp.columns.iter().chain(roots).map(|c| *c as usize).collect();
    let events = model.events.iter().map(|e| &e.assignments);
    for assignments in experiment.changes.iter().map(|c| &c.assignments).chain(events) {
        let functions = std::iter::once(&assignments.values).chain(&assignments.volumes);
        used.extend(functions.flat_map(|f| &f.dp.columns).map(|c| *c as usize));
        used.extend(assignments.targets.iter().filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None }));
    }
    let others = model.events.iter().filter_map(|e| e.delay.as_ref()).chain([&model.invariants.residuals]);
    used.extend(others.flat_map(|f| &f.dp.columns).map(|c| *c as usize));
    used
}

/// Whether the times only are the start, and nothing that changes a state happens there.
pub(super) fn is_initial(model: &CompiledModel, experiment: &CompiledExperiment, times: &[f64]) -> bool {
    let observed: usize = model.observed_events.iter().map(|o| o.events.len()).sum();
    times.iter().all(|t| *t == experiment.start)
        && experiment.equilibration.is_none()
        && experiment.changes.iter().all(|c| c.time > experiment.start)
        && model.events.len() == observed
        && model.invariants.places.is_empty()
}

/// A coordinate xi that moves one row of theta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Direction {
    /// Row of theta.
    pub theta: usize,
    /// dtheta/dxi.
    pub first: f64,
    /// d2theta/dxi2.
    pub second: f64,
    /// Whether second derivatives by this and any other direction are wanted. Two directions that both are not paired have none.
    pub paired: bool,
}

/// Simulated rows. Derivatives are row-major: rows by directions, rows by pairs (k, l) with k <= l in the order (0,0), (0,1), ..., (1,1), ...;
/// those of pairs of directions that both are not paired are 0.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    /// Simulations.
    pub y: Vec<f64>,
    /// Noise scales.
    pub sigma: Vec<f64>,
    /// dy/dxi.
    pub dy: Vec<f64>,
    /// dsigma/dxi.
    pub ds: Vec<f64>,
    /// d2y/dxi2.
    pub dyy: Vec<f64>,
    /// d2sigma/dxi2.
    pub dss: Vec<f64>,
}

/// Highest derivative wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Derivatives {
    None,
    First,
    Second,
}

/// A simulator with its working memory.
pub struct Worker {
    pub(super) simulator: Simulator,
    pub(super) model: Arc<CompiledModel>,
    pub(super) scratch: Scratch,
}

impl Worker {
    /// A worker for `model`.
    pub fn new(model: Arc<CompiledModel>, options: Options) -> Result<Self, SimulationError> {
        Ok(Worker { simulator: Simulator::new(model.clone(), options)?, model, scratch: Scratch::default() })
    }

    /// Work done since the worker was made.
    pub fn counts(&self) -> Counts {
        self.simulator.counts()
    }

    /// Simulates the rows at `theta` (natural scale, all rows of the parameter table that belong to the model).
    ///
    /// `equilibrium` is the steady state with which the experiment begins, if it does and it is known.
    pub fn simulate(
        &mut self,
        rows: &Rows,
        theta: &[f64],
        directions: &[Direction],
        order: Derivatives,
        equilibrium: Option<&Equilibrium>,
    ) -> Result<Simulated, SimulationError> {
        let model = self.model.clone();
        let experiment = &model.experiments[rows.experiment];
        let mut start = Start::new(&model, experiment, &rows.reaching_states, theta, directions, order, &mut self.scratch);
        let own = match (&experiment.equilibration, equilibrium) {
            (Some(_), None) => Some(self.equilibrate(experiment, &start, directions)?),
            _ => None,
        };
        let equilibrium = equilibrium.or(own.as_ref());
        if let Some(equilibrium) = equilibrium {
            start.begin_at(equilibrium, directions);
        }
        let triggers = equilibrium.map(|e| triggers_after(&model, &e.end));
        let outputs = rows.times.len() - usize::from(!rows.events.is_empty());
        let input = Input {
            start: experiment.start,
            changes: &experiment.changes,
            triggers: triggers.as_deref(),
            awaited: (!rows.events.is_empty()).then_some(Awaited { events: &rows.events, outputs }),
            ..start.input(experiment)
        };
        let trajectory = self.simulator.simulate(&input, &rows.times)?;
        Ok(observe(&model, rows, &start, trajectory, &mut self.scratch))
    }

    /// The steady state with which an experiment begins, with first derivatives by the directions that are in `reaching`.
    pub fn equilibrium(
        &mut self,
        experiment: usize,
        reaching: &[usize],
        theta: &[f64],
        directions: &[Direction],
        order: Derivatives,
    ) -> Result<Equilibrium, SimulationError> {
        let model = self.model.clone();
        let experiment = &model.experiments[experiment];
        let start = Start::new(&model, experiment, reaching, theta, directions, order, &mut self.scratch);
        self.equilibrate(experiment, &start, directions)
    }

    fn equilibrate(
        &mut self,
        experiment: &CompiledExperiment,
        start: &Start,
        directions: &[Direction],
    ) -> Result<Equilibrium, SimulationError> {
        let begin = experiment.equilibration.map_or(experiment.start, |e| e.start);
        let end = self.simulator.simulate(&Input { start: begin, ..start.input(experiment) }, &[f64::INFINITY])?.clone();
        let columns = start.columns.iter().map(|k| (directions[*k].theta, directions[*k].first * start.stretch[*k])).collect();
        Ok(Equilibrium { columns, place_of_pair: start.place_of_pair.clone(), end })
    }

    /// States and observables are evaluated at `times` without derivatives: one vector of simulations per time, in the observables' order,
    /// with all placeholders at the values of `placeholders[observable]`.
    pub fn curves(
        &mut self,
        rows: &Rows,
        theta: &[f64],
        times: &[f64],
        wanted: &[(usize, Vec<Placeholder>)],
    ) -> Result<Vec<Vec<(f64, f64)>>, SimulationError> {
        let dense = Rows { times: times.to_vec(), events: Vec::new(), rows: Vec::new(), ..rows.clone() };
        let all: Vec<Row> = wanted
            .iter()
            .flat_map(|(observable, placeholders)| {
                (0..times.len()).map(|time| Row {
                    measurement: 0,
                    observable: *observable,
                    time,
                    measured: Measured {
                        distribution: NoiseDistribution::Normal,
                        value: 0.0,
                        censoring: Censoring::None,
                        has_hazard: false,
                    },
                    placeholders: placeholders.clone(),
                    event: None,
                    upper: None,
                })
            })
            .collect();
        let s = self.simulate(&Rows { rows: all, ..dense }, theta, &[], Derivatives::None, None)?;
        Ok(s.y.iter().copied().zip(s.sigma.iter().copied()).collect::<Vec<_>>().chunks(times.len().max(1)).map(<[_]>::to_vec).collect())
    }
}

/// The triggers with which an experiment goes on after a steady state. What is only observed is not looked at before the
/// experiment begins.
pub(super) fn triggers_after(model: &CompiledModel, end: &Trajectory) -> Vec<bool> {
    let mut triggers = end.triggers.clone();
    for event in model.observed_events.iter().flat_map(|o| &o.events) {
        triggers[*event] = model.events[*event].initial_value;
    }
    triggers
}

/// A steady state with its derivatives.
#[derive(Debug, Clone)]
pub struct Equilibrium {
    /// For each direction its row of theta, and the derivative of that by the direction as it was stretched.
    columns: Vec<(usize, f64)>,
    /// Place of each pair of them among the second derivatives, by [`pair_index`].
    place_of_pair: Vec<Option<usize>>,
    /// A trajectory of one output, the steady state.
    pub(super) end: Trajectory,
}

/// Initial values and seeds of one simulation.
pub(super) struct Start {
    /// Number of all directions.
    nd: usize,
    /// Directions that have a column in the integrator.
    columns: Vec<usize>,
    /// Column of each direction.
    column_of: Vec<Option<usize>>,
    /// Pairs of columns.
    pairs: Vec<(u32, u32)>,
    /// Place of each pair of columns among them, by [`pair_index`].
    place_of_pair: Vec<Option<usize>>,
    /// Pairs of directions whose second derivatives are wanted, with their [`pair_index`].
    wanted: Vec<(usize, usize, usize)>,
    /// Factor by which each direction was stretched so that its column is of the order of the states.
    stretch: Vec<f64>,
    order: Derivatives,
    states: Vec<f64>,
    parameters: Vec<f64>,
    state_seeds: Vec<f64>,
    /// np by columns, for the integrator.
    parameter_seeds: Vec<f64>,
    state_second: Vec<f64>,
    parameter_second: Vec<f64>,
    /// np by nd, all directions.
    all_seeds: Vec<f64>,
    /// np by all pairs of directions.
    all_second: Vec<f64>,
}

fn pair_count(n: usize) -> usize {
    n * (n + 1) / 2
}

/// Index of the pair (k, l), k <= l, among n directions.
pub fn pair_index(n: usize, k: usize, l: usize) -> usize {
    k * n - k * (k + 1) / 2 + l
}

impl Start {
    /// `reaching`: rows of theta, sorted, whose directions get a column in the integrator.
    pub(super) fn new(
        model: &CompiledModel,
        experiment: &CompiledExperiment,
        reaching: &[usize],
        theta: &[f64],
        directions: &[Direction],
        order: Derivatives,
        scratch: &mut Scratch,
    ) -> Self {
        let (nx, np) = (model.states.len(), model.parameters.len());
        let setup = &experiment.setup;
        let mut input = vec![0.0; np];
        input[..model.theta].copy_from_slice(&theta[..model.theta]);
        let mut outputs = setup.values(&input, scratch);
        let nd = if order == Derivatives::None { 0 } else { directions.len() };
        let directions = &directions[..nd];
        let stretch: Vec<f64> = directions
            .iter()
            .map(|d| {
                let factor = (theta[d.theta] / d.first).abs();
                if factor.is_finite() && factor > 0.0 { factor } else { 1.0 }
            })
            .collect();
        let columns: Vec<usize> = (0..nd).filter(|k| reaching.binary_search(&directions[*k].theta).is_ok()).collect();
        let mut column_of = vec![None; nd];
        for (c, k) in columns.iter().enumerate() {
            column_of[*k] = Some(c);
        }
        let ns = columns.len();
        let (mut pairs, mut wanted) = (Vec::new(), Vec::new());
        let mut place_of_pair = Vec::new();
        if order == Derivatives::Second {
            for k in 0..nd {
                wanted.extend((k..nd).filter(|l| directions[k].paired || directions[*l].paired).map(|l| (k, l, pair_index(nd, k, l))));
            }
            place_of_pair = vec![None; pair_count(ns)];
            for (k, l, _) in &wanted {
                if let (Some(c), Some(d)) = (column_of[*k], column_of[*l]) {
                    place_of_pair[pair_index(ns, c, d)] = Some(pairs.len());
                    pairs.push((c as u32, d as u32));
                }
            }
        }
        let mut seeds = vec![0.0; (np + nx) * nd];
        let n_second = if order == Derivatives::Second { pair_count(nd) } else { 0 };
        let mut second = vec![0.0; (np + nx) * n_second];
        if nd > 0 {
            // Several directions never move the same row of theta, so each derivative belongs to at most one direction.
            let mut direction_of = vec![usize::MAX; np];
            for (k, d) in directions.iter().enumerate() {
                direction_of[d.theta] = k;
            }
            for (output, theta, value) in setup.derivatives(&input, scratch) {
                let k = direction_of[theta];
                if k < nd {
                    seeds[output * nd + k] += value * directions[k].first * stretch[k];
                    if n_second > 0 {
                        second[output * n_second + pair_index(nd, k, k)] += value * directions[k].second * stretch[k] * stretch[k];
                    }
                }
            }
            if n_second > 0 {
                for ([output, a, b], value) in setup.second_derivatives(&input, nx, scratch) {
                    let (k, l) = (direction_of[a], direction_of[b]);
                    if k < nd && l < nd {
                        let (k, l) = (k.min(l), k.max(l));
                        second[output * n_second + pair_index(nd, k, l)] +=
                            value * directions[k].first * directions[l].first * stretch[k] * stretch[l];
                    }
                }
            }
        }
        let pick = |source: &[f64], rows: std::ops::Range<usize>, stride: usize, chosen: &[usize]| -> Vec<f64> {
            rows.flat_map(|r| chosen.iter().map(move |c| r * stride + c)).map(|i| source[i]).collect()
        };
        let chosen_pairs: Vec<usize> = pairs.iter().map(|(k, l)| pair_index(nd, columns[*k as usize], columns[*l as usize])).collect();
        let parameter_seeds = pick(&seeds, 0..np, nd, &columns);
        let state_seeds = pick(&seeds, np..np + nx, nd, &columns);
        let parameter_second = pick(&second, 0..np, n_second, &chosen_pairs);
        let state_second = pick(&second, np..np + nx, n_second, &chosen_pairs);
        seeds.truncate(np * nd);
        second.truncate(np * n_second);
        let states = outputs.split_off(np);
        Start {
            nd,
            columns,
            column_of,
            pairs,
            place_of_pair,
            wanted,
            stretch,
            order,
            states,
            parameters: outputs,
            state_seeds,
            parameter_seeds,
            state_second,
            parameter_second,
            all_seeds: seeds,
            all_second: second,
        }
    }

    /// The start as the integrator's input, without changes.
    pub(super) fn input<'a>(&'a self, experiment: &'a CompiledExperiment) -> Input<'a> {
        let second = Second { pairs: &self.pairs, states: &self.state_second, parameters: &self.parameter_second };
        Input {
            start: experiment.start,
            states: &self.states,
            parameters: &self.parameters,
            changes: &[],
            triggers: None,
            before: &experiment.before,
            directions: self.columns.len(),
            state_seeds: &self.state_seeds,
            parameter_seeds: &self.parameter_seeds,
            second: (self.order == Derivatives::Second).then_some(second),
            awaited: None,
        }
    }

    /// Replaces initial values and seeds by those of a steady state. Directions that it does not have do not move it.
    pub(super) fn begin_at(&mut self, equilibrium: &Equilibrium, directions: &[Direction]) {
        let end = &equilibrium.end;
        let (ns, known, block) = (self.columns.len(), equilibrium.columns.len(), end.block(0));
        let (nx, np) = (self.states.len(), self.parameters.len());
        // The column of the steady state for each of ours, and by how much ours is longer.
        let places: Vec<Option<(usize, f64)>> = (self.columns.iter())
            .map(|k| {
                let place = equilibrium.columns.iter().position(|c| c.0 == directions[*k].theta)?;
                Some((place, directions[*k].first * self.stretch[*k] / equilibrium.columns[place].1))
            })
            .collect();
        self.states = block.iter().step_by(end.columns).copied().collect();
        let segment = end.segment[0];
        self.parameters.copy_from_slice(&end.parameters[segment]);
        let pairs: Vec<Option<(usize, f64)>> = (self.pairs.iter())
            .map(|&(k, l)| {
                let ((k, stretch_k), (l, stretch_l)) = (places[k as usize]?, places[l as usize]?);
                Some((equilibrium.place_of_pair[pair_index(known, k.min(l), k.max(l))]?, stretch_k * stretch_l))
            })
            .collect();
        let value = |source: &dyn Fn(usize) -> f64, place: &Option<(usize, f64)>| place.map_or(0.0, |(c, stretch)| source(c) * stretch);
        for (i, row) in self.state_seeds.chunks_exact_mut(ns.max(1)).enumerate().take(nx) {
            row.iter_mut().zip(&places).for_each(|(v, place)| *v = value(&|c| block[i * end.columns + 1 + c], place));
        }
        for (i, row) in self.state_second.chunks_exact_mut(pairs.len().max(1)).enumerate().take(nx) {
            row.iter_mut().zip(&pairs).for_each(|(v, place)| *v = value(&|c| block[i * end.columns + 1 + known + c], place));
        }
        let n_pairs = end.columns - 1 - known;
        for j in 0..np {
            // Parameters that only the experiment's own directions move keep their derivatives.
            for (c, place) in places.iter().enumerate().filter(|(_, place)| place.is_some()) {
                self.parameter_seeds[j * ns + c] = value(&|c| end.parameter_seeds[segment][j * known + c], place);
            }
            for (c, place) in pairs.iter().enumerate().filter(|(_, place)| place.is_some()) {
                self.parameter_second[j * pairs.len() + c] = value(&|c| end.parameter_second[segment][j * n_pairs + c], place);
            }
        }
    }
}

/// Evaluates observable and noise of every row with derivatives.
pub(super) fn observe(model: &CompiledModel, rows: &Rows, start: &Start, trajectory: &Trajectory, scratch: &mut Scratch) -> Simulated {
    let mut result = observe_at(model, rows, &|row| row.time, start, trajectory, scratch);
    if rows.rows.iter().any(|row| row.upper.is_some()) {
        let ends = observe_at(model, rows, &|row| row.upper.unwrap_or(row.time), start, trajectory, scratch);
        let n = rows.rows.len();
        let (nd, n_pairs) = (result.dy.len() / n, result.dyy.len() / n);
        for r in (0..n).filter(|r| rows.rows[*r].upper.is_some()) {
            result.sigma[r] = ends.y[r];
            result.ds[r * nd..(r + 1) * nd].copy_from_slice(&ends.dy[r * nd..(r + 1) * nd]);
            result.dss[r * n_pairs..(r + 1) * n_pairs].copy_from_slice(&ends.dyy[r * n_pairs..(r + 1) * n_pairs]);
        }
    }
    result
}

/// The same at the times that `place` says (indices into [`Rows::times`]).
fn observe_at(
    model: &CompiledModel,
    rows: &Rows,
    place: &dyn Fn(&Row) -> usize,
    start: &Start,
    trajectory: &Trajectory,
    scratch: &mut Scratch,
) -> Simulated {
    let (nx, np, nd) = (model.states.len(), model.parameters.len(), start.nd);
    let ns = start.columns.len();
    let n_pairs = if start.order == Derivatives::Second { pair_count(nd) } else { 0 };
    let n = rows.rows.len();
    let mut result = Simulated {
        y: vec![0.0; n],
        sigma: vec![0.0; n],
        dy: vec![0.0; n * nd],
        ds: vec![0.0; n * nd],
        dyy: vec![0.0; n * n_pairs],
        dss: vec![0.0; n * n_pairs],
    };
    // Seeds of the parameters in the period at hand: those of the columns follow the integrator's.
    let (mut seeds, mut second) = (start.all_seeds.clone(), start.all_second.clone());
    let mut period = usize::MAX;
    let mut x = vec![0.0; nx];
    let mut buffer = Vec::new();
    let mut q = Vec::new();
    // In order of time, so that seeds are refreshed once per period.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|r| place(&rows.rows[*r]));
    for r in order {
        let row = &rows.rows[r];
        let at = place(row);
        let block = trajectory.block(at);
        let segment = trajectory.segment[at];
        if segment != period {
            period = segment;
            refresh(&mut seeds, nd, &trajectory.parameter_seeds[segment], ns, &start.columns);
            if n_pairs > 0 {
                let chosen: Vec<usize> =
                    start.pairs.iter().map(|(k, l)| pair_index(nd, start.columns[*k as usize], start.columns[*l as usize])).collect();
                refresh(&mut second, n_pairs, &trajectory.parameter_second[segment], start.pairs.len(), &chosen);
            }
        }
        let p = &trajectory.parameters[segment];
        for i in 0..nx {
            x[i] = block[i * trajectory.columns];
        }
        row.fill_placeholders(p, &mut q);
        let time = [rows.times[at]];
        let arrays = [&time[..], &x[..], &p[..], &q[..]];
        let f = &model.observables[row.observable];
        let mut values = [0.0; 2];
        f.value.call(arrays, &mut values, scratch);
        result.y[r] = values[0];
        result.sigma[r] = values[1];
        if nd == 0 {
            continue;
        }
        // d z_a / d xi_k for z = (x, p, q).
        let parameter = |a: usize| row.parameter(a, np);
        let u = |a: usize, k: usize| {
            if a < nx {
                start.column_of[k].map_or(0.0, |c| block[a * trajectory.columns + 1 + c])
            } else {
                parameter(a - nx).map_or(0.0, |j| seeds[j * nd + k])
            }
        };
        let first = first_derivatives(f, arrays, nx, &mut buffer, scratch);
        for (output, a, value) in &first {
            let target = if *output == 0 { &mut result.dy } else { &mut result.ds };
            for k in 0..nd {
                target[r * nd + k] += value * u(*a, k);
            }
        }
        if n_pairs == 0 {
            continue;
        }
        let u2 = |a: usize, k: usize, l: usize| {
            if a < nx {
                match (start.column_of[k], start.column_of[l]) {
                    (Some(c), Some(d)) => start.place_of_pair[pair_index(ns, c.min(d), c.max(d))]
                        .map_or(0.0, |place| block[a * trajectory.columns + 1 + ns + place]),
                    _ => 0.0,
                }
            } else {
                parameter(a - nx).map_or(0.0, |j| second[j * n_pairs + pair_index(nd, k, l)])
            }
        };
        for (output, a, value) in &first {
            let target = if *output == 0 { &mut result.dyy } else { &mut result.dss };
            for &(k, l, place) in &start.wanted {
                target[r * n_pairs + place] += value * u2(*a, k, l);
            }
        }
        if let Some(tensor) = &f.second {
            buffer.resize(tensor.entries.len(), 0.0);
            tensor.kernel.call(arrays, &mut buffer, scratch);
            for ([output, a, b], value) in tensor.entries.iter().zip(&buffer) {
                let target = if *output == 0 { &mut result.dyy } else { &mut result.dss };
                let (a, b) = (*a as usize, *b as usize);
                for &(k, l, place) in &start.wanted {
                    let mut product = u(a, k) * u(b, l);
                    if a != b {
                        product += u(b, k) * u(a, l);
                    }
                    target[r * n_pairs + place] += value * product;
                }
            }
        }
    }
    for (r, row) in rows.rows.iter().enumerate() {
        if let Some(event) = row.event {
            write_event_time(trajectory.event(&model.observed_events[event]), start, &mut result, r);
        }
    }
    for r in 0..n {
        for k in 0..nd {
            result.dy[r * nd + k] /= start.stretch[k];
            result.ds[r * nd + k] /= start.stretch[k];
            if n_pairs > 0 {
                for l in k..nd {
                    let i = r * n_pairs + pair_index(nd, k, l);
                    result.dyy[i] /= start.stretch[k] * start.stretch[l];
                    result.dss[i] /= start.stretch[k] * start.stretch[l];
                }
            }
        }
    }
    result
}

/// Puts the time of an event in the place of row `r`'s observable: infinite if it did not happen.
fn write_event_time(event: Option<&Execution>, start: &Start, result: &mut Simulated, r: usize) {
    let nd = start.nd;
    let n_pairs = if start.order == Derivatives::Second { pair_count(nd) } else { 0 };
    result.y[r] = event.map_or(f64::INFINITY, |e| e.time);
    result.dy[r * nd..(r + 1) * nd].fill(0.0);
    result.dyy[r * n_pairs..(r + 1) * n_pairs].fill(0.0);
    let Some(clock) = event.map(|e| &e.clock) else { return };
    for (k, value) in start.columns.iter().zip(&clock.first) {
        result.dy[r * nd + k] = *value;
    }
    for ((k, l), value) in start.pairs.iter().zip(&clock.second) {
        result.dyy[r * n_pairs + pair_index(nd, start.columns[*k as usize], start.columns[*l as usize])] = *value;
    }
}

/// Copies the integrator's columns over those of all directions.
fn refresh(all: &mut [f64], stride: usize, columns: &[f64], n: usize, chosen: &[usize]) {
    if n == 0 {
        return;
    }
    for (row, source) in all.chunks_mut(stride).zip(columns.chunks(n)) {
        for (c, value) in chosen.iter().zip(source) {
            row[*c] = *value;
        }
    }
}

/// All first derivatives of a function as (output, index in z, value).
pub(super) fn first_derivatives(
    f: &Function,
    arrays: [&[f64]; 4],
    nx: usize,
    buffer: &mut Vec<f64>,
    scratch: &mut Scratch,
) -> Vec<(u32, usize, f64)> {
    let mut entries = Vec::with_capacity(f.dx.rows.len() + f.dp.rows.len());
    for (kernel, shift) in [(&f.dx, 0), (&f.dp, nx)] {
        buffer.resize(kernel.rows.len(), 0.0);
        kernel.kernel.call(arrays, buffer, scratch);
        entries.extend(kernel.rows.iter().zip(&kernel.columns).zip(buffer.iter()).map(|((r, c), v)| (*r, *c as usize + shift, *v)));
    }
    entries
}

/// Workers that are handed out to tasks and come back. A worker carries nothing from one task to the next that changes a result.
pub struct Pool {
    model: Arc<CompiledModel>,
    options: Options,
    free: Mutex<Vec<Worker>>,
}

impl Pool {
    /// A pool for `model`; workers are made when they are first needed.
    pub fn new(model: Arc<CompiledModel>, options: Options) -> Self {
        Pool { model, options, free: Mutex::new(Vec::new()) }
    }

    /// Settings of the simulations.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The model.
    pub fn model(&self) -> &Arc<CompiledModel> {
        &self.model
    }

    /// Runs `task` with a worker.
    pub fn with<R>(&self, task: impl FnOnce(&mut Worker) -> R) -> Result<R, SimulationError> {
        let waiting = self.free.lock().ok().and_then(|mut free| free.pop());
        let mut worker = match waiting {
            Some(worker) => worker,
            None => Worker::new(self.model.clone(), self.options.clone())?,
        };
        let result = task(&mut worker);
        if let Ok(mut free) = self.free.lock() {
            free.push(worker);
        }
        Ok(result)
    }

    /// Work done by all workers together.
    pub fn counts(&self) -> Counts {
        let mut total = Counts::default();
        if let Ok(free) = self.free.lock() {
            free.iter().for_each(|w| total.add(&w.counts()));
        }
        total
    }
}

/// Wraps a simulation failure with the experiment's and individual's name.
pub fn failure(experiment: &str, individual: Option<&str>, source: SimulationError) -> EvaluationError {
    EvaluationError::Simulation { experiment: experiment.to_string(), individual: individual.map(str::to_string), source }
}
