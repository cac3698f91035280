//! Synthetic data: values of every type of data drawn from the distribution that the likelihood claims for them, in the design (rows, times,
//! experiments, weights, sizes, censoring) of existing data.
//!
//! Individuals get a draw of their random effects, and noise on every row. Statistics of which the likelihood knows the sampling error are those
//! of as many drawn individuals; of others the population's value gets the noise that the row states. Every draw is keyed by seed,
//! purpose and index, so that the data do not depend on the number of threads.

use super::EvaluationError;
use super::coordinates::Coordinates;
use super::nodes::Nodes;
use super::noise::quantile;
use super::population::{IndividualData, Population};
use super::population_rows::{PopulationRows, Sd, TermData};
use super::population_statistics::{Channel, Functional};
use super::problem::Part;
use super::simulated::{Derivatives, Pool, Rows, failure, places};
use super::synthetic_reports::{Limits, histogram, limits, reported, reported_event};
use crate::petab::{Censoring, DataKind, Measurement, Problem, SyntheticRow};
use crate::random::{Purpose, normal, stream, uniform};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Number of individuals, which have the designs of the existing ones in turn; `None`: the existing ones.
    pub individuals: Option<usize>,
    /// Whether values have noise. Random effects are drawn in any case.
    pub noise: bool,
    /// Seed.
    pub seed: u64,
}

/// What all rows of one part need.
struct Context<'a> {
    problem: &'a Problem,
    pool: &'a Pool,
    natural: &'a [f64],
    limits: Vec<Limits>,
    settings: &'a Settings,
    /// Measurements of the parts before.
    offset: usize,
}

impl Context<'_> {
    /// `y` with noise at the probability `u`, or without.
    fn noisy(&self, m: usize, u: f64, y: f64, sigma: f64) -> Result<f64, EvaluationError> {
        let distribution = self.problem.observables[self.problem.measurements[m].observable].distribution;
        if self.settings.noise { quantile(distribution, u, y, sigma) } else { Ok(y) }
    }

    fn row(&self, measurement: usize, individual: Option<usize>, (value, censoring): (f64, Censoring), cells: Option<u64>) -> SyntheticRow {
        SyntheticRow { measurement: self.offset + measurement, individual, value, censoring, cells }
    }
}

/// Draws all data of a problem, of its `parts` in turn, at natural parameter values. Rows come in order of the parts: ordinary rows and statistics as
/// in the tables, then individuals one after the other.
pub fn draw(parts: &[(&Part, &Problem)], natural: &[f64], settings: &Settings) -> Result<Vec<SyntheticRow>, EvaluationError> {
    let contexts: Vec<Context> = parts
        .iter()
        .map(|(part, problem)| Context {
            problem,
            pool: part.pool(),
            natural,
            limits: limits(problem),
            settings,
            offset: part.measurements().start,
        })
        .collect();
    let mut rows = Vec::new();
    for ((part, _), context) in parts.iter().zip(&contexts) {
        rows.extend(ordinary(context, part)?);
        for group in part.population().iter().flat_map(|p| p.rows.iter().map(move |rows| (p, rows))) {
            rows.extend(population_rows(context, group.0, group.1)?);
        }
    }
    let designs: Vec<(&Context, &Population, &IndividualData)> = (parts.iter().zip(&contexts))
        .filter_map(|((part, _), context)| part.population().map(|p| (context, p)))
        .flat_map(|(context, p)| p.individuals.iter().map(move |data| (context, p, data)))
        .collect();
    if designs.is_empty() {
        return Ok(rows);
    }
    let count = settings.individuals.unwrap_or(designs.len());
    let drawn: Vec<Result<_, EvaluationError>> = (0..count)
        .into_par_iter()
        .map(|i| {
            let (context, population, data) = designs[i % designs.len()];
            individual(context, population, data, i)
        })
        .collect();
    for individual in drawn {
        rows.extend(individual?);
    }
    Ok(rows)
}

/// The ordinary rows of a part, those of the typical individual.
fn ordinary(context: &Context, part: &Part) -> Result<Vec<SyntheticRow>, EvaluationError> {
    let mut rows = Vec::new();
    for (measured, s) in part.fixed().experiments().iter().zip(part.fixed().simulated(context.natural)?) {
        for (r, row) in measured.rows.iter().enumerate() {
            let mut generator = stream(context.settings.seed, Purpose::Noise, (context.offset + row.measurement) as u64);
            let value = context.noisy(row.measurement, uniform(&mut generator), s.y[r], s.sigma[r])?;
            let m = &context.problem.measurements[row.measurement];
            rows.push(context.row(row.measurement, None, reported(value, m, context.problem, &context.limits), None));
        }
    }
    Ok(rows)
}

/// Individual `number`, who has the design of `data`.
fn individual(
    context: &Context,
    population: &Population,
    data: &IndividualData,
    number: usize,
) -> Result<Vec<SyntheticRow>, EvaluationError> {
    let Context { problem, pool, natural, settings, .. } = context;
    let design: Vec<usize> = data.rows.rows.iter().map(|row| row.measurement).collect();
    let ends: Vec<f64> = design.iter().filter_map(|m| end_of_watch(problem, &design, *m)).collect();
    // Events are waited for at least until nobody watches any more.
    let model = pool.model();
    let rows = Rows::new(model, &places(model), problem, data.rows.experiment, &design, &ends);
    let effects = problem.nlme.as_ref().map_or(&[][..], |n| &n.random_effects);
    let mut generator = stream(settings.seed, Purpose::Individuals, number as u64);
    let subpopulations = population.subpopulations();
    let class = match subpopulations.classes() {
        [only] => only,
        classes => &classes[subpopulations.probabilities(natural)?.draw(uniform(&mut generator))],
    };
    let coordinates = Coordinates::new(problem, effects, &rows, class).map_err(EvaluationError::Inner)?;

    let omega = population.omega(natural)?;
    let mut z = DVector::from_fn(omega.dimension(), |_, _| normal(&mut generator));
    // Effects of different levels are independent, so that component k of L z needs those of its own level only.
    if let Some(group) = problem.nlme.as_ref().and_then(|n| n.individuals.iter().position(|i| i.group.is_some() && i.group == data.group)) {
        let mut generator = stream(settings.seed, Purpose::Groups, group as u64);
        for (z, effect) in z.iter_mut().zip(effects) {
            let shared = normal(&mut generator);
            if effect.of_group {
                *z = shared;
            }
        }
    }
    let b = &omega.l * z;
    let mut phi = coordinates.typical(natural);
    for (effect, target) in coordinates.effects.iter().zip(&coordinates.targets) {
        phi[*target] += b[*effect];
    }
    let mut values = class.natural(natural);
    for ((coordinate, phi), _) in coordinates.all.iter().zip(&phi).zip(&coordinates.random).filter(|(_, random)| **random) {
        values[coordinate.theta] = coordinate.kind.natural(*phi).0;
    }
    let fail = |e| failure(&data.experiment, Some(&data.id), e);
    let s = pool.with(|worker| worker.simulate(&rows, &values, &[], Derivatives::None, None)).map_err(fail)?.map_err(fail)?;

    let start = model.experiments[data.rows.experiment].start;
    let number = settings.individuals.map(|_| number);
    let mut result = Vec::with_capacity(rows.rows.len());
    for (r, row) in rows.rows.iter().enumerate() {
        let (m, u) = (&problem.measurements[row.measurement], uniform(&mut generator));
        if row.measured.has_hazard {
            return Err(EvaluationError::Inner("times of events that have a hazard cannot be drawn yet".to_string()));
        }
        let report = if row.event.is_some() {
            let time = if s.y[r] == f64::INFINITY { f64::INFINITY } else { context.noisy(row.measurement, u, s.y[r], s.sigma[r])? };
            let end = end_of_watch(problem, &design, row.measurement).unwrap_or(m.value);
            reported_event(time, m, start, end)
        } else {
            reported(context.noisy(row.measurement, u, s.y[r], s.sigma[r])?, m, problem, &context.limits)
        };
        result.push(context.row(row.measurement, number, report, None));
    }
    Ok(result)
}

/// The time until which an individual with the rows `design` is watched for the event of the row `row`: its censoring time, else its last time.
/// Where all its rows are event times, which say nothing of the time after them, it is the last time of such rows of all individuals of
/// the experiment. `None` where the row has no event.
fn end_of_watch(problem: &Problem, design: &[usize], row: usize) -> Option<f64> {
    let m = &problem.measurements[row];
    let event = event_of(m)?;
    if m.censoring == Censoring::Right {
        return Some(m.value);
    }
    let last = |m: &Measurement| match m.censoring {
        Censoring::Interval(upper) if upper.is_finite() => upper,
        _ if event_of(m).is_some() => m.value,
        _ => m.time,
    };
    let own = design.iter().map(|i| last(&problem.measurements[*i])).fold(m.value, f64::max);
    if design.iter().any(|i| event_of(&problem.measurements[*i]).is_none()) {
        return Some(own);
    }
    let others = problem.measurements.iter().filter(|other| other.experiment == m.experiment && event_of(other) == Some(event));
    Some(others.map(last).fold(own, f64::max))
}

fn event_of(m: &Measurement) -> Option<&str> {
    if let DataKind::TimeToEvent { event, .. } = &m.kind { Some(event) } else { None }
}

/// Individuals that are drawn for one term: how many.
fn sampled(problem: &Problem, data: &TermData, measurement: usize, noise: bool) -> u64 {
    match data {
        TermData::Cell(_) => match problem.measurements[measurement].kind {
            DataKind::Snapshot { cells, .. } => cells,
            _ => 1,
        },
        TermData::Fraction { size, .. } | TermData::Statistic { sd: Sd::Sampling(size), .. } if noise => *size,
        _ => 0,
    }
}

/// Snapshots and statistics that share an experiment.
fn population_rows(context: &Context, population: &Population, rows: &PopulationRows) -> Result<Vec<SyntheticRow>, EvaluationError> {
    let Context { problem, pool, natural, settings, .. } = context;
    let omega = population.omega(natural)?;
    let probabilities = population.subpopulations().probabilities(natural)?;
    let is_predicted = |data: &TermData, count: u64| count == 0 && !matches!(data, TermData::Cell(_));
    let counts: Vec<u64> = rows.terms.iter().map(|t| sampled(problem, &t.data, t.measurements[0], settings.noise)).collect();
    let predicted = rows.terms.iter().zip(&counts).any(|(t, n)| is_predicted(&t.data, *n));
    let sample = if predicted { Some(rows.sample(pool, natural, &omega, &probabilities, false)?) } else { None };

    let mut result = Vec::new();
    // Values of single cells by measurement.
    let mut seen: Vec<(usize, Vec<f64>)> = Vec::new();
    for (term, count) in rows.terms.iter().zip(&counts) {
        let first = term.measurements[0];
        let key = (context.offset + first) as u64;
        if let (Some(sample), true) = (&sample, is_predicted(&term.data, *count)) {
            let Some(p) = rows.prediction(term, sample, natural)? else { continue };
            let u = uniform(&mut stream(settings.seed, Purpose::Noise, key));
            let value = if settings.noise { quantile(p.distribution, u, p.statistic.value, p.sd.value)? } else { p.statistic.value };
            result.push(context.row(first, None, (value, Censoring::None), None));
            continue;
        }
        let mut generators: Vec<_> = (0..*count).map(|k| stream(settings.seed, Purpose::Sampled, (key << 32) | k)).collect();
        let of_class: Vec<usize> = match rows.classes.len() {
            1 => vec![0; generators.len()],
            _ => generators.iter_mut().map(|generator| probabilities.draw(uniform(generator))).collect(),
        };
        let mut cells = vec![Vec::new(); generators.len()];
        for (c, class) in rows.classes.iter().enumerate() {
            let block = omega.select(&class.coordinates.effects);
            let members: Vec<usize> = (0..generators.len()).filter(|k| of_class[*k] == c).collect();
            let mut z = DMatrix::zeros(block.dimension(), members.len());
            for (mut column, k) in z.column_iter_mut().zip(&members) {
                column.iter_mut().for_each(|z| *z = normal(&mut generators[*k]));
            }
            let simulated = rows.at_nodes(pool, class, &Nodes::from_normal_scores(z), natural, &block, false);
            for (k, result) in members.into_iter().zip(simulated) {
                cells[k] = result?.0;
            }
        }
        match &term.data {
            TermData::Cell(list) => {
                for (measurement, s) in term.measurements.iter().zip(list) {
                    let values = cells.iter().zip(&mut generators);
                    let values = values.map(|(cell, g)| context.noisy(*measurement, uniform(g), cell[s.value], cell[s.noise]));
                    seen.push((*measurement, values.collect::<Result<_, _>>()?));
                }
            }
            TermData::Fraction { quantity, .. } => {
                let had = cells.iter().zip(generators.iter_mut()).map(|(cell, g)| u64::from(uniform(g) < cell[*quantity])).sum::<u64>();
                result.push(context.row(first, None, (had as f64 / cells.len() as f64, Censoring::None), None));
            }
            TermData::Statistic { functional, .. } => {
                let mut noise = |k: usize| normal(&mut generators[k]);
                let value = of_sample(*functional, &cells, &mut noise)?;
                result.push(context.row(first, None, (value, Censoring::None), None));
            }
            // Their precision is always stated.
            TermData::Composite { .. } => {}
        }
    }
    result.extend(snapshots(context, &seen));
    Ok(result)
}

/// The rows of cells that were seen once. Censored rows of which one is an interval are the bins of a histogram.
fn snapshots(context: &Context, seen: &[(usize, Vec<f64>)]) -> Vec<SyntheticRow> {
    let all = &context.problem.measurements;
    let same = |a: usize, b: usize| {
        let (a, b) = (&all[a], &all[b]);
        let alone = |m: &Measurement| matches!(&m.kind, DataKind::Snapshot { individual: None, .. }) && m.censoring != Censoring::None;
        alone(a)
            && alone(b)
            && (a.observable, a.time) == (b.observable, b.time)
            && a.weight == b.weight
            && a.observable_parameters == b.observable_parameters
            && a.noise_parameters == b.noise_parameters
    };
    let mut rows = Vec::new();
    for (place, (measurement, values)) in seen.iter().enumerate() {
        let group: Vec<&(usize, Vec<f64>)> = seen.iter().filter(|(other, _)| same(*measurement, *other)).collect();
        if group.iter().any(|(m, _)| matches!(all[*m].censoring, Censoring::Interval(_))) {
            // All bins are written in the place of the first.
            if seen[..place].iter().any(|(other, _)| same(*measurement, *other)) {
                continue;
            }
            let design: Vec<&Measurement> = group.iter().map(|(m, _)| &all[*m]).collect();
            let values: Vec<f64> = group.iter().flat_map(|(_, v)| v.iter().copied()).collect();
            let bins = histogram(&values, &design).into_iter();
            rows.extend(bins.map(|(value, censoring, n)| context.row(*measurement, None, (value, censoring), Some(n))));
            continue;
        }
        // Equal reports, which only censoring makes, are one row.
        let mut reports: Vec<((f64, Censoring), u64)> = Vec::new();
        for value in values {
            let report = reported(*value, &all[*measurement], context.problem, &context.limits);
            match reports.iter_mut().find(|(r, _)| report.1 != Censoring::None && *r == report) {
                Some((_, n)) => *n += 1,
                None => reports.push((report, 1)),
            }
        }
        rows.extend(reports.into_iter().map(|(report, n)| context.row(*measurement, None, report, Some(n))));
    }
    rows
}

/// The statistic of a sample of measured individuals: of variances, the unbiased estimate. `noise` gives standard normal numbers for
/// an individual.
fn of_sample(functional: Functional, cells: &[Vec<f64>], noise: &mut dyn FnMut(usize) -> f64) -> Result<f64, EvaluationError> {
    let mut measured = |c: Channel, logarithm: bool| -> Result<Vec<f64>, EvaluationError> {
        let one = |(k, cell): (usize, &Vec<f64>)| {
            let y = if logarithm { cell[c.value].ln() } else { cell[c.value] };
            if !y.is_finite() {
                return Err(EvaluationError::Density(format!("the logarithm of a value that is not positive ({})", cell[c.value])));
            }
            Ok(y + c.noise.map_or(0.0, |i| cell[i]) * noise(k))
        };
        cells.iter().enumerate().map(one).collect()
    };
    let n = cells.len() as f64;
    let mean = |x: &[f64]| x.iter().sum::<f64>() / n;
    let covariance = |x: &[f64], y: &[f64]| {
        let (a, b) = (mean(x), mean(y));
        x.iter().zip(y).map(|(x, y)| (x - a) * (y - b)).sum::<f64>() / (n - 1.0)
    };
    Ok(match functional {
        Functional::Mean(c) => mean(&measured(c, false)?),
        Functional::Variance(c) => {
            let x = measured(c, false)?;
            covariance(&x, &x)
        }
        Functional::LogVariance(c) => {
            let x = measured(c, true)?;
            covariance(&x, &x)
        }
        Functional::Sd(c) => {
            let x = measured(c, false)?;
            covariance(&x, &x).sqrt()
        }
        Functional::Covariance(a, b) => covariance(&measured(a, false)?, &measured(b, false)?),
    })
}
