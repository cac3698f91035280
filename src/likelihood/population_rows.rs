//! The population rows of one experiment: bulk means, fractions with an event, composite statistics, snapshot statistics and snapshots of
//! individual cells, which share their nodes.

use super::composite::{Composite, SampleFunctional};
use super::coordinates::{Coordinate, CoordinateKind, Coordinates};
use super::covariance::Omega;
use super::nodes::Nodes;
use super::noise::{Density, Measured};
use super::population::{Chain, Contribution, PopulationOptions};
use super::population_statistics::{Channel, Functional, Sample, Statistic, fraction_term, standard_deviation, statistic_term};
use super::problem::Summary;
use super::simulated::{Derivatives, Direction, Placeholder, Pool, Row, Rows, Simulated, failure, places};
use super::snapshot::{SnapshotMeasurement, snapshot_density};
use super::subpopulations::{Class, Probabilities, Subpopulations};
use super::{EvaluationError, Order};
use crate::petab::{self, Censoring, DataKind, Nlme, NoiseDistribution, Override, PopulationStatistic, Problem};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

/// Nodes that one task simulates.
const NODES_PER_TASK: usize = 16;

/// Values at one node and their Jacobian by phi.
type NodeResult = Result<(Vec<f64>, DMatrix<f64>), EvaluationError>;

/// The population rows of one experiment.
pub struct PopulationRows {
    pub(super) experiment: String,
    /// Distinct simulated quantities; quantity i has the values 2i (observable) and 2i + 1 (noise scale) in a sample.
    pub(super) rows: Rows,
    /// One for each class.
    pub(super) classes: Vec<ClassNodes>,
    pub(super) terms: Vec<Term>,
    /// Seed of the nodes.
    seed: u64,
}

/// Error of population rows by the choice of their quasi-random nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct MonteCarlo {
    /// Experiment of the row with the largest error.
    pub experiment: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Standard deviation over independent scrambles of the nodes, in standard deviations of the measurement.
    pub ratio: f64,
}

/// Independent scrambles of the nodes that tell their error (NLME.md 8.2).
const SCRAMBLES: u64 = 8;

/// The individuals of a class.
pub(super) struct ClassNodes {
    class: Class,
    pub(super) coordinates: Coordinates,
    nodes: Nodes,
    /// Whether the nodes are quasi-random rather than those of a quadrature rule.
    quasi_random: bool,
}

/// One term of the likelihood.
pub(super) struct Term {
    kind: &'static str,
    pub(super) measurements: Vec<usize>,
    weight: f64,
    pub(super) data: TermData,
}

pub(super) enum TermData {
    Statistic {
        functional: Functional,
        distribution: NoiseDistribution,
        value: f64,
        sd: Sd,
    },
    /// A composite statistic with its measured value.
    Composite {
        composite: Box<Composite>,
        value: f64,
        sd: Sd,
    },
    /// The fraction of this many individuals that have had an event; the quantity is each individual's probability of it.
    Fraction {
        quantity: usize,
        value: f64,
        size: u64,
    },
    Cell(Vec<SnapshotMeasurement>),
}

/// Where the standard deviation of a statistic comes from.
pub(super) enum Sd {
    Number(f64),
    /// Row of the parameter table, and its coordinate if it is estimated.
    Parameter(usize, Option<usize>),
    /// Sampling error of this many individuals.
    Sampling(u64),
    /// The observable's noise formula.
    Noise(usize),
}

/// What the model says of a statistic: its value, standard deviation and distribution.
pub(super) struct Prediction {
    pub(super) statistic: Statistic,
    pub(super) sd: Statistic,
    pub(super) distribution: NoiseDistribution,
}

/// What a term adds to the objective.
struct TermValue {
    value: f64,
    gradient: DVector<f64>,
    gauss_newton: DMatrix<f64>,
    /// Model value and standard deviation of a statistic; NaN for single cells.
    model: f64,
    sd: f64,
}

impl PopulationRows {
    /// Gathers the rows; the error names what is not supported yet.
    pub fn new(
        pool: &Pool,
        problem: &Problem,
        nlme: &Nlme,
        experiment: usize,
        measurements: &[usize],
        subpopulations: &Subpopulations,
        options: &PopulationOptions,
    ) -> Result<Self, String> {
        let more = composite_times(problem, nlme, measurements);
        let start = pool.model().experiments[experiment].start;
        if let Some(time) = more.iter().find(|t| **t < start) {
            return Err(format!("a composite statistic has the time {time}, before its experiment begins at {start}"));
        }
        let all = Rows::new(pool.model(), &places(pool.model()), problem, experiment, measurements, &more);
        let mut quantities: Vec<Row> = Vec::new();
        let mut quantity = |row: &Row| {
            let same =
                |q: &Row| (q.observable, q.time, q.event) == (row.observable, row.time, row.event) && q.placeholders == row.placeholders;
            quantities.iter().position(same).unwrap_or_else(|| {
                quantities.push(row.clone());
                quantities.len() - 1
            })
        };
        let channel = |i: usize| Channel { value: 2 * i, noise: Some(2 * i + 1) };
        let mut terms: Vec<Term> = Vec::new();
        let mut cells: Vec<(String, usize)> = Vec::new();
        let mut sd_parameters = Vec::new();
        for row in &all.rows {
            let m = &problem.measurements[row.measurement];
            if let DataKind::Bulk(PopulationStatistic { statistic: petab::Statistic::Composite(id), sd, .. })
            | DataKind::SnapshotStatistic(PopulationStatistic { statistic: petab::Statistic::Composite(id), sd, .. }) = &m.kind
            {
                // The row's observable only names the quantity.
                let kind = if matches!(m.kind, DataKind::Bulk(_)) { "bulk" } else { "snapshot_statistic" };
                let statistic = nlme.statistics.iter().find(|s| s.id == *id).ok_or_else(|| format!("undefined statistic `{id}`"))?;
                let mut value_of = |observable: usize, time: Option<f64>| {
                    let time = time.map_or(row.time, |time| all.times.partition_point(|t| t.total_cmp(&time).is_lt()));
                    2 * quantity(&noise_free(problem, row, observable, time))
                };
                let functionals: Vec<SampleFunctional> = statistic.functionals.iter().map(|f| functional(f, &mut value_of)).collect();
                let composite = Box::new(Composite::new(problem, statistic, &functionals));
                sd_parameters.extend(composite.parameters());
                let sd = given_sd(problem, sd.as_ref(), &mut sd_parameters)?.ok_or("a composite statistic needs statisticSd")?;
                let data = TermData::Composite { composite, value: m.value, sd };
                terms.push(Term { kind, measurements: vec![row.measurement], weight: m.weight, data });
                continue;
            }
            let i = quantity(row);
            match &m.kind {
                DataKind::Snapshot { individual, cells: count } => {
                    let seen = SnapshotMeasurement { value: 2 * i, noise: 2 * i + 1, measured: row.measured };
                    let known = individual.as_ref().and_then(|id| cells.iter().find(|(c, _)| c == id)).map(|(_, t)| *t);
                    match known.map(|t| &mut terms[t]) {
                        Some(Term { data: TermData::Cell(list), measurements, .. }) => {
                            list.push(seen);
                            measurements.push(row.measurement);
                        }
                        _ => {
                            cells.extend(individual.iter().map(|id| (id.clone(), terms.len())));
                            terms.push(Term {
                                kind: "snapshot",
                                measurements: vec![row.measurement],
                                weight: m.weight * *count as f64,
                                data: TermData::Cell(vec![seen]),
                            });
                        }
                    }
                }
                DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => {
                    let bulk = matches!(m.kind, DataKind::Bulk(_));
                    let functional = match &s.statistic {
                        petab::Statistic::Mean => Functional::Mean(channel(i)),
                        petab::Statistic::Variance => Functional::Variance(channel(i)),
                        petab::Statistic::Sd => Functional::Sd(channel(i)),
                        petab::Statistic::LogVariance => Functional::LogVariance(channel(i)),
                        petab::Statistic::Covariance(other) => {
                            let observable = &problem.observables[*other];
                            if !observable.observable_placeholders.is_empty() {
                                return Err(format!(
                                    "a covariance with `{}`, whose formula has placeholders, is not supported",
                                    observable.id
                                ));
                            }
                            let j = quantity(&noise_free(problem, row, *other, row.time));
                            Functional::Covariance(channel(i), channel(j))
                        }
                        // The mean over individuals of the probability, see `probability_of_event`.
                        petab::Statistic::FractionEvent(_) => {
                            if let (None, Some(size)) = (&s.sd, s.sample_size) {
                                let data = TermData::Fraction { quantity: 2 * i, value: m.value, size };
                                terms.push(Term { kind: "bulk", measurements: vec![row.measurement], weight: m.weight, data });
                                continue;
                            }
                            Functional::Mean(channel(i))
                        }
                        petab::Statistic::Composite(_) => continue,
                    };
                    let sd = statistic_sd(problem, s, bulk, i, &mut sd_parameters)?;
                    // Bulk values have the observable's distribution around the mean; a statistic of a sample is normal.
                    let plain = bulk && row.event.is_none();
                    let distribution = if plain { row.measured.distribution } else { NoiseDistribution::Normal };
                    let kind = if bulk { "bulk" } else { "snapshot_statistic" };
                    let data = TermData::Statistic { functional, distribution, value: m.value, sd };
                    terms.push(Term { kind, measurements: vec![row.measurement], weight: m.weight, data });
                }
                DataKind::Typical | DataKind::Trajectory { .. } | DataKind::TimeToEvent { .. } => {}
            }
        }
        let rows = all.with_rows(pool.model(), quantities);
        let (n, seed) = options.nodes(nlme);
        let mut classes = Vec::new();
        for class in subpopulations.classes() {
            let coordinates = Coordinates::new(problem, &nlme.random_effects, &rows, class)?;
            // The probability of an event rises from 0 to 1 within the noise of its time: a step in the random effects, between the few points
            // of a tensor rule.
            let (dimension, steps) = (coordinates.effects.len(), rows.rows.iter().any(|row| row.event.is_some()));
            let quasi_random = Nodes::tensor_points(dimension).is_none() || (steps && dimension > 0);
            let nodes = if quasi_random { Nodes::sobol(dimension, n, seed) } else { Nodes::new(dimension, n, seed) };
            classes.push(ClassNodes { class: class.clone(), coordinates, nodes, quasi_random });
        }
        // What no simulation depends on is among the coordinates of the first class.
        let coordinates = &mut classes[0].coordinates;
        for theta in sd_parameters {
            if problem.parameters[theta].estimate && !coordinates.all.iter().any(|c| c.source == theta) {
                coordinates.all.push(Coordinate { theta, source: theta, kind: CoordinateKind::from(problem.parameters[theta].scale) });
                coordinates.random.push(false);
            }
        }
        for term in &mut terms {
            if let TermData::Statistic { sd: Sd::Parameter(theta, place), .. }
            | TermData::Composite { sd: Sd::Parameter(theta, place), .. } = &mut term.data
            {
                *place = coordinates.all.iter().position(|c| c.source == *theta);
            }
        }
        Ok(PopulationRows { experiment: problem.experiments[experiment].id.clone(), rows, classes, terms, seed })
    }

    /// Simulates all nodes.
    pub(super) fn sample(
        &self,
        pool: &Pool,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
        derivatives: bool,
    ) -> Result<Sample, EvaluationError> {
        let nodes: Vec<&Nodes> = self.classes.iter().map(|c| &c.nodes).collect();
        self.sample_at(&nodes, pool, natural, omega, probabilities, derivatives)
    }

    /// Simulates the individuals of the classes at `nodes`.
    fn sample_at(
        &self,
        nodes: &[&Nodes],
        pool: &Pool,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
        derivatives: bool,
    ) -> Result<Sample, EvaluationError> {
        let samples = self.classes.iter().zip(nodes).map(|(c, nodes)| {
            let block = omega.select(&c.coordinates.effects);
            Sample::collect(nodes, &c.coordinates.targets, &block, self.at_nodes(pool, c, nodes, natural, &block, derivatives))
        });
        Ok(Sample::mixture(samples.collect::<Result<_, _>>()?, probabilities))
    }

    /// The values of individuals of a class at given nodes, in their order; `omega` is the covariance of the effects that reach them.
    pub(super) fn at_nodes(
        &self,
        pool: &Pool,
        class: &ClassNodes,
        nodes: &Nodes,
        natural: &[f64],
        omega: &Omega,
        derivatives: bool,
    ) -> Vec<NodeResult> {
        let c = &class.coordinates;
        let phi_typical = c.typical(natural);
        let natural = class.class.natural(natural);
        let tasks: Vec<usize> = (0..nodes.len()).step_by(NODES_PER_TASK).collect();
        let order = if derivatives { Derivatives::First } else { Derivatives::None };
        let fail = |e| failure(&self.experiment, None, e);
        tasks
            .par_iter()
            .flat_map_iter(|first| {
                let task = *first..(*first + NODES_PER_TASK).min(nodes.len());
                let simulated = pool.with(|worker| {
                    let mut values = natural.clone();
                    task.clone()
                        .map(|q| {
                            let phi = nodes.cell_parameters(q, &phi_typical, &c.targets, omega);
                            let mut directions: Vec<Direction> = Vec::with_capacity(phi.len());
                            for (coordinate, phi) in c.all.iter().zip(&phi) {
                                let (value, direction) = coordinate.direction(*phi);
                                values[coordinate.theta] = value;
                                directions.push(direction);
                            }
                            let mut s = worker.simulate(&self.rows, &values, &directions, order, None).map_err(fail)?;
                            probability_of_event(&self.rows, &mut s)?;
                            let (n, nd) = (s.y.len(), if derivatives { directions.len() } else { 0 });
                            let interleaved = s.y.iter().zip(&s.sigma).flat_map(|(y, s)| [*y, *s]).collect();
                            let jacobian = DMatrix::from_fn(if derivatives { 2 * n } else { 0 }, nd, |i, k| {
                                if i % 2 == 0 { s.dy[i / 2 * nd + k] } else { s.ds[i / 2 * nd + k] }
                            });
                            Ok((interleaved, jacobian))
                        })
                        .collect::<Vec<_>>()
                });
                simulated.unwrap_or_else(|e| task.map(|_| Err(fail(e.clone()))).collect())
            })
            .collect()
    }

    /// What the model says of the statistic of a term; `None` for single cells.
    pub(super) fn prediction(&self, term: &Term, sample: &Sample, natural: &[f64]) -> Result<Option<Prediction>, EvaluationError> {
        let n = sample.gradient_len();
        let (statistic, sd, distribution) = match &term.data {
            TermData::Cell(_) => return Ok(None),
            TermData::Composite { composite, sd, .. } => {
                let place = |theta: usize| self.classes[0].coordinates.all.iter().position(|c| c.source == theta);
                let statistic = composite.evaluate(sample, &|theta| self.parameter(theta, place(theta), natural, n));
                let sd = match sd {
                    Sd::Parameter(theta, place) => self.parameter(*theta, *place, natural, n),
                    Sd::Number(value) => Statistic::constant(*value, n),
                    Sd::Sampling(_) | Sd::Noise(_) => Statistic::constant(f64::NAN, n),
                };
                (statistic, sd, NoiseDistribution::Normal)
            }
            TermData::Fraction { quantity, size, .. } => {
                let statistic = sample.mean(*quantity);
                let sd = Statistic::constant((statistic.value * (1.0 - statistic.value) / *size as f64).sqrt(), n);
                (statistic, sd, NoiseDistribution::Normal)
            }
            TermData::Statistic { functional, distribution, sd, .. } => {
                let statistic = sample.functional(*functional)?;
                let sd = match sd {
                    Sd::Number(value) => Statistic::constant(*value, n),
                    Sd::Parameter(theta, place) => self.parameter(*theta, *place, natural, n),
                    Sd::Sampling(size) => standard_deviation(&sample.sampling_variance(*functional, *size)?, &Statistic::constant(0.0, n))?,
                    Sd::Noise(i) => sample.mean(*i),
                };
                (statistic, sd, *distribution)
            }
        };
        Ok(Some(Prediction { statistic, sd, distribution }))
    }

    fn term(&self, term: &Term, sample: &Sample, natural: &[f64]) -> Result<TermValue, EvaluationError> {
        let predicted = self.prediction(term, sample, natural)?;
        let t = match (&term.data, &predicted) {
            (TermData::Fraction { value, size, .. }, Some(p)) => fraction_term(*value, *size, &p.statistic)?,
            (TermData::Composite { value, .. } | TermData::Statistic { value, .. }, Some(p)) => {
                statistic_term(p.distribution, *value, &p.statistic, &p.sd)?
            }
            (TermData::Cell(cell), _) => {
                let t = snapshot_density(sample, cell)?;
                let gauss_newton = &t.gradient * t.gradient.transpose();
                return Ok(TermValue { value: t.value, gradient: t.gradient, gauss_newton, model: f64::NAN, sd: f64::NAN });
            }
            (_, None) => return Err(EvaluationError::Inner("a statistic without a prediction".into())),
        };
        let (model, sd) = predicted.map_or((f64::NAN, f64::NAN), |p| (p.statistic.value, p.sd.value));
        Ok(TermValue { value: t.value, gradient: t.gradient, gauss_newton: t.gauss_newton, model, sd })
    }

    /// A row of the parameter table, with its place among the coordinates if it is estimated, as a statistic.
    fn parameter(&self, theta: usize, place: Option<usize>, natural: &[f64], n: usize) -> Statistic {
        let mut s = Statistic::constant(natural[theta], n);
        if let (Some(k), true) = (place, n > 0) {
            let c = self.classes[0].coordinates.all[k];
            s.gradient[k] = c.kind.natural(c.kind.of(natural[theta])).1;
        }
        s
    }

    /// Hands what every term contributes to `each`, with its weight.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn contributions(
        &self,
        pool: &Pool,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
        chain: &Chain,
        order: Order,
        each: &mut dyn FnMut(f64, &Contribution),
    ) -> Result<(), EvaluationError> {
        let sample = self.sample(pool, natural, omega, probabilities, order > Order::Value)?;
        let mut part = Contribution { value: 0.0, gradient: Vec::new(), slopes: Vec::new(), information: None };
        // Every term has the same map to x from xi = (phi and covariance parameters of each class, probabilities): its nonzero slopes.
        for c in &self.classes {
            part.slopes.extend(chain.slopes(natural, &c.coordinates.all, &omega.select(&c.coordinates.effects).parameters));
        }
        if self.classes.len() > 1 {
            part.slopes.extend(chain.slopes(natural, &[], &probabilities.parameters));
        }
        for term in &self.terms {
            let t = self.term(term, &sample, natural)?;
            part.value = t.value;
            if order > Order::Value {
                debug_assert_eq!(t.gradient.len(), part.slopes.len());
                part.gradient = t.gradient.iter().copied().collect();
            }
            part.information = (order == Order::Fisher).then_some(t.gauss_newton);
            each(term.weight, &part);
        }
        Ok(())
    }

    /// See [`Population::monte_carlo`](super::population::Population::monte_carlo).
    pub(super) fn monte_carlo(
        &self,
        pool: &Pool,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
    ) -> Result<Option<MonteCarlo>, EvaluationError> {
        if !self.classes.iter().any(|c| c.quasi_random) {
            return Ok(None);
        }
        // Of every scramble the statistics, and last the log-likelihood of all single cells.
        let mut values: Vec<Vec<f64>> = Vec::new();
        let mut errors: Vec<f64> = Vec::new();
        for scramble in 1..=SCRAMBLES {
            let scrambled = |c: &ClassNodes| match c.quasi_random {
                true => Nodes::sobol(c.coordinates.effects.len(), c.nodes.len(), self.seed + scramble),
                false => c.nodes.clone(),
            };
            let nodes: Vec<Nodes> = self.classes.iter().map(scrambled).collect();
            let sample = self.sample_at(&nodes.iter().collect::<Vec<_>>(), pool, natural, omega, probabilities, false)?;
            let (mut statistics, mut cells) = (Vec::new(), 0.0);
            errors.clear();
            for term in &self.terms {
                match self.prediction(term, &sample, natural)? {
                    Some(p) => {
                        statistics.push(p.statistic.value);
                        errors.push(p.sd.value);
                    }
                    None => cells += term.weight * self.term(term, &sample, natural)?.value,
                }
            }
            statistics.push(cells);
            errors.push(1.0);
            values.push(statistics);
        }
        let mut worst = MonteCarlo {
            experiment: self.experiment.clone(),
            nodes: self.classes.iter().map(|c| c.nodes.len()).max().unwrap_or(0),
            ratio: 0.0,
        };
        for (i, error) in errors.iter().enumerate() {
            let column: Vec<f64> = values.iter().map(|v| v[i]).collect();
            let mean = column.iter().sum::<f64>() / column.len() as f64;
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (column.len() - 1) as f64;
            worst.ratio = worst.ratio.max(variance.sqrt() / error);
        }
        Ok(Some(worst))
    }

    pub(super) fn summarise(
        &self,
        pool: &Pool,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
        summary: &mut Summary,
    ) -> Result<(), EvaluationError> {
        let sample = self.sample(pool, natural, omega, probabilities, false)?;
        for term in &self.terms {
            let t = self.term(term, &sample, natural)?;
            match summary.terms.iter_mut().find(|(kind, _)| *kind == term.kind) {
                Some((_, total)) => *total += term.weight * t.value,
                None => summary.terms.push((term.kind, term.weight * t.value)),
            }
            match &term.data {
                TermData::Statistic { .. } | TermData::Composite { .. } | TermData::Fraction { .. } => {
                    summary.simulations[term.measurements[0]] = t.model;
                    summary.sigmas[term.measurements[0]] = t.sd;
                }
                // A single cell is compared with the population's mean.
                TermData::Cell(cell) => {
                    for (m, seen) in term.measurements.iter().zip(cell) {
                        summary.simulations[*m] = sample.mean(seen.value).value;
                        summary.sigmas[*m] = sample.mean(seen.noise).value;
                    }
                }
            }
        }
        Ok(())
    }
}

fn statistic_sd(
    problem: &Problem,
    s: &PopulationStatistic,
    bulk: bool,
    quantity: usize,
    parameters: &mut Vec<usize>,
) -> Result<Sd, String> {
    match (given_sd(problem, s.sd.as_ref(), parameters)?, s.sample_size) {
        (Some(sd), _) => Ok(sd),
        (None, _) if bulk && s.statistic == petab::Statistic::Mean => Ok(Sd::Noise(2 * quantity + 1)),
        (None, Some(size)) => Ok(Sd::Sampling(size)),
        (None, None) => Err("a statistic needs statisticSd or sampleSize".into()),
    }
}

/// The standard deviation that a row gives. Parameters are noted.
fn given_sd(problem: &Problem, sd: Option<&Override>, parameters: &mut Vec<usize>) -> Result<Option<Sd>, String> {
    match sd {
        None => Ok(None),
        Some(Override::Number(value)) => Ok(Some(Sd::Number(*value))),
        Some(Override::Id(id, span)) => match problem.parameters.iter().position(|p| p.id == *id) {
            Some(theta) => {
                parameters.push(theta);
                Ok(Some(Sd::Parameter(theta, None)))
            }
            None => Err(format!("{}: the statisticSd `{id}` is not in the parameter table", span.position())),
        },
    }
}

/// The times that composite statistics name beside the rows' own.
pub(super) fn composite_times(problem: &Problem, nlme: &Nlme, measurements: &[usize]) -> Vec<f64> {
    let composites = measurements.iter().filter_map(|m| match &problem.measurements[*m].kind {
        DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => match &s.statistic {
            petab::Statistic::Composite(id) => nlme.statistics.iter().find(|s| s.id == *id),
            _ => None,
        },
        _ => None,
    });
    let functionals = composites.flat_map(|s| &s.functionals);
    functionals.filter_map(|f| if let petab::Functional::Mean { time, .. } = f { *time } else { None }).collect()
}

/// A functional of the statistics table; `value_of` gives the place of an observable at a time (without one, the row's) among the values.
fn functional(f: &petab::Functional, value_of: &mut dyn FnMut(usize, Option<f64>) -> usize) -> SampleFunctional {
    match f {
        petab::Functional::Mean { observable, time } => SampleFunctional::Mean(value_of(*observable, *time)),
        petab::Functional::Variance(observable) => {
            let i = value_of(*observable, None);
            SampleFunctional::Covariance(i, i)
        }
        petab::Functional::Covariance(a, b) => SampleFunctional::Covariance(value_of(*a, None), value_of(*b, None)),
        petab::Functional::Quantile(observable, p) => SampleFunctional::Quantile(value_of(*observable, None), *p),
    }
}

/// An observable at a time of which only the simulation is wanted; its noise placeholders stand for nothing.
fn noise_free(problem: &Problem, row: &Row, observable: usize, time: usize) -> Row {
    let definition = &problem.observables[observable];
    let measured = Measured { distribution: definition.distribution, ..row.measured };
    let placeholders = vec![Placeholder::Number(1.0); definition.noise_placeholders.len()];
    Row { observable, time, placeholders, measured, event: None, ..row.clone() }
}

/// Replaces the times of events by the probability that the event was seen by the row's time, which has the noise of the row: the expected
/// fraction of such individuals (NLME.md 3.3, "bulk survival data").
fn probability_of_event(rows: &Rows, s: &mut Simulated) -> Result<(), EvaluationError> {
    let nd = s.dy.len() / s.y.len().max(1);
    for (r, row) in rows.rows.iter().enumerate().filter(|(_, row)| row.event.is_some()) {
        let by = Measured { value: rows.times[row.time], censoring: Censoring::Left, ..row.measured };
        if s.y[r] == f64::INFINITY {
            (s.y[r], s.sigma[r]) = (0.0, 1.0);
            s.ds[r * nd..(r + 1) * nd].fill(0.0);
            continue;
        }
        let d = match by.density(s.y[r], s.sigma[r]) {
            Ok(d) => d,
            // So long after the time that the probability is no positive number.
            Err(_) if s.y[r] > by.value && s.sigma[r] > 0.0 => Density::certain(f64::INFINITY),
            Err(error) => return Err(error),
        };
        let probability = (-d.value).exp();
        for k in r * nd..(r + 1) * nd {
            s.dy[k] = -probability * (d.dy * s.dy[k] + d.ds * s.ds[k]);
        }
        s.y[r] = probability;
    }
    Ok(())
}
