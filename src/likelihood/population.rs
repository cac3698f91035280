//! The population's part of the objective: individuals with their own random effects, and statistics over all of them.

use super::coordinates::{Coordinate, CoordinateKind};
use super::covariance::{Covariance, Omega};
use super::ebe::{WarmStart, cell_parameters};
use super::individual::Curvature;
use super::laplace::{IndividualTerm, MarginalOptions, individual_marginal};
use super::parameters::ParameterMap;
use super::population_rows::PopulationRows;
use super::problem::Summary;
use super::simulated::{Derivatives, Pool, Rows, Worker, failure};
use super::simulated_individual::SimulatedIndividual;
use super::{Evaluation, EvaluationError, Order};
use crate::petab::{Censoring, DataKind, Nlme, Problem, RandomEffect, Scale};
use rayon::prelude::*;
use std::sync::Arc;

/// Settings of the population's part.
#[derive(Debug, Clone)]
pub struct PopulationOptions {
    /// Matrix in the determinant of the Laplace approximation.
    pub curvature: Curvature,
    /// Number of quasi-random nodes for population statistics with more than four random effects.
    pub nodes: usize,
    /// Seed of the nodes.
    pub seed: u64,
}

impl Default for PopulationOptions {
    fn default() -> Self {
        PopulationOptions { curvature: Curvature::Exact, nodes: 4096, seed: 1 }
    }
}

/// Individuals and population rows of a problem.
pub struct Population {
    pool: Arc<Pool>,
    covariance: Covariance,
    effect_ids: Vec<String>,
    individuals: Vec<IndividualData>,
    rows: Vec<PopulationRows>,
    options: MarginalOptions,
}

/// Warm starts of all individuals.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    warm: Vec<WarmStart>,
}

/// Coordinates of phi for one simulation and the random effects that move them.
#[derive(Debug, Clone)]
pub struct Coordinates {
    /// The coordinates.
    pub all: Vec<Coordinate>,
    /// Which of them random effects move.
    pub random: Vec<bool>,
    /// Random effects (indices) that reach the rows.
    pub effects: Vec<usize>,
    /// Coordinate that each of them moves.
    pub targets: Vec<usize>,
}

impl Coordinates {
    /// Coordinates of everything that `rows` depend on and that is estimated or random.
    pub fn new(problem: &Problem, effects: &[RandomEffect], rows: &Rows) -> Result<Self, String> {
        let applies = |e: &RandomEffect| e.experiments.as_ref().is_none_or(|list| list.contains(&rows.experiment));
        let mut result = Coordinates { all: Vec::new(), random: Vec::new(), effects: Vec::new(), targets: Vec::new() };
        for theta in &rows.reaching {
            let acting: Vec<usize> = (0..effects.len()).filter(|k| effects[*k].target == *theta && applies(&effects[*k])).collect();
            if acting.is_empty() && !problem.parameters[*theta].estimate {
                continue;
            }
            let kind = match acting.first() {
                Some(k) => CoordinateKind::from(effects[*k].transformation),
                None => CoordinateKind::from(problem.parameters[*theta].scale),
            };
            if let Some(other) = acting.iter().find(|k| CoordinateKind::from(effects[**k].transformation) != kind) {
                return Err(format!(
                    "random effects with different transformations on one parameter (`{}` on `{}`)",
                    effects[*other].id, problem.parameters[*theta].id
                ));
            }
            result.targets.extend(acting.iter().map(|_| result.all.len()));
            result.random.push(!acting.is_empty());
            result.effects.extend(acting);
            result.all.push(Coordinate { theta: *theta, kind });
        }
        // Effects in the problem's order, as the covariance has them.
        let mut order: Vec<usize> = (0..result.effects.len()).collect();
        order.sort_by_key(|i| result.effects[*i]);
        result.targets = order.iter().map(|i| result.targets[*i]).collect();
        result.effects = order.iter().map(|i| result.effects[*i]).collect();
        Ok(result)
    }

    /// phi of the typical individual.
    pub fn typical(&self, natural: &[f64]) -> Vec<f64> {
        self.all.iter().map(|c| c.kind.of(natural[c.theta])).collect()
    }
}

/// One individual's data.
struct IndividualData {
    id: String,
    experiment: String,
    rows: Rows,
    coordinates: Coordinates,
    weight: f64,
}

/// One individual at the point of a summary.
#[derive(Debug, Clone)]
pub struct IndividualSummary {
    /// Identifier.
    pub id: String,
    /// Experiment.
    pub experiment: String,
    /// Negative log marginal likelihood, without the weight.
    pub nll: f64,
    /// Empirical Bayes estimates by effect.
    pub ebe: Vec<(String, f64)>,
    /// Posterior standard deviations by effect.
    pub posterior_sd: Vec<f64>,
    /// Natural values of the parameters that random effects move: row of the parameter table and value.
    pub parameters: Vec<(usize, f64)>,
    /// What deserves attention, empty if nothing.
    pub status: String,
}

/// How the gradient of one term enters the whole: d phi_typical / dx and d omega parameter / dx.
pub(super) struct Chain {
    /// For every row of the parameter table its place in x and its scale.
    pub places: Vec<Option<(usize, Scale)>>,
}

impl Chain {
    fn new(map: &ParameterMap, rows: usize) -> Self {
        let mut places = vec![None; rows];
        for (k, e) in map.estimated().iter().enumerate() {
            places[map.theta(k)] = Some((k, e.scale));
        }
        Chain { places }
    }

    /// For every component of xi = (phi_typical, natural covariance parameters) its place in x and dxi/dx, where it is estimated.
    pub fn slopes(&self, natural: &[f64], coordinates: &[Coordinate], omega: &Omega) -> Vec<Option<(usize, f64)>> {
        let phi = coordinates.iter().map(|c| self.places[c.theta].map(|(k, scale)| (k, c.chain(scale, natural[c.theta]))));
        let covariance = omega.parameters.iter().map(|row| self.places[*row].map(|(k, scale)| (k, scale.derivative(natural[*row]))));
        phi.chain(covariance).collect()
    }
}

impl Population {
    /// The population of `problem`; the error names what is not supported yet.
    pub fn new(pool: Arc<Pool>, problem: &Problem, nlme: &Nlme, options: &PopulationOptions) -> Result<Self, String> {
        let effect_ids: Vec<String> = nlme.random_effects.iter().map(|e| e.id.clone()).collect();
        let covariance = Covariance::new(&nlme.covariance, &effect_ids).map_err(|d| d.concise())?;
        let mut by_individual = vec![Vec::new(); nlme.individuals.len()];
        let mut by_experiment: Vec<Vec<usize>> = vec![Vec::new(); problem.experiments.len()];
        for (i, m) in problem.measurements.iter().enumerate() {
            if m.censoring != Censoring::None {
                return Err("censored measurements are not supported yet".into());
            }
            match &m.kind {
                DataKind::Typical => {}
                DataKind::Trajectory { individual } => by_individual[*individual].push(i),
                DataKind::TimeToEvent { .. } => return Err("time_to_event data are not supported yet".into()),
                DataKind::Snapshot { .. } | DataKind::SnapshotStatistic(_) | DataKind::Bulk(_) => by_experiment[m.experiment].push(i),
            }
        }
        let mut individuals = Vec::new();
        for (individual, measurements) in nlme.individuals.iter().zip(by_individual).filter(|(_, m)| !m.is_empty()) {
            let rows = Rows::new(pool.model(), problem, individual.experiment, &measurements);
            let coordinates = Coordinates::new(problem, &nlme.random_effects, &rows)?;
            let weight = problem.measurements[measurements[0]].weight;
            let experiment = problem.experiments[individual.experiment].id.clone();
            individuals.push(IndividualData { id: individual.id.clone(), experiment, rows, coordinates, weight });
        }
        let mut rows = Vec::new();
        for (experiment, measurements) in by_experiment.into_iter().enumerate().filter(|(_, m)| !m.is_empty()) {
            rows.push(PopulationRows::new(&pool, problem, nlme, experiment, &measurements, options)?);
        }
        let options = MarginalOptions { curvature: options.curvature, ..MarginalOptions::default() };
        Ok(Population { pool, covariance, effect_ids, individuals, rows, options })
    }

    /// Ids of the random effects.
    pub fn effects(&self) -> &[String] {
        &self.effect_ids
    }

    /// Number of individuals.
    pub fn individuals(&self) -> usize {
        self.individuals.len()
    }

    /// Covariance of the random effects at natural parameter values.
    pub fn omega(&self, natural: &[f64]) -> Result<Omega, EvaluationError> {
        self.covariance.evaluate(natural)
    }

    /// Warm starts for one optimisation.
    pub fn memory(&self) -> Memory {
        Memory { warm: vec![WarmStart::default(); self.individuals.len()] }
    }

    /// Runs `task` on the conditional likelihood of an individual.
    fn with_individual<R>(
        &self,
        data: &IndividualData,
        natural: &[f64],
        task: impl FnOnce(&mut SimulatedIndividual) -> Result<R, EvaluationError>,
    ) -> Result<R, EvaluationError> {
        self.pool
            .with(|worker: &mut Worker| {
                task(&mut SimulatedIndividual {
                    worker,
                    rows: &data.rows,
                    coordinates: &data.coordinates.all,
                    random: &data.coordinates.random,
                    natural: natural.to_vec(),
                    experiment: &data.experiment,
                    individual: &data.id,
                })
            })
            .map_err(|e| failure(&data.experiment, Some(&data.id), e))?
    }

    fn marginal(&self, data: &IndividualData, natural: &[f64], omega: &Omega, warm: &mut WarmStart, order: Order) -> Result<IndividualTerm, EvaluationError> {
        let phi = data.coordinates.typical(natural);
        self.with_individual(data, natural, |c| individual_marginal(c, &phi, &data.coordinates.targets, omega, &self.options, warm, order))
    }

    /// Adds the population's value, gradient and curvature to an evaluation.
    ///
    /// The curvature of the individuals' part is the sum of outer products of their gradients (Berndt, Hall, Hall and Hausman
    /// 1974), that of population rows is Gauss-Newton; both are consistent estimates of the expected information.
    pub fn add(&self, map: &ParameterMap, x: &[f64], order: Order, memory: &mut Memory, evaluation: &mut Evaluation) -> Result<(), EvaluationError> {
        let natural = map.natural(x);
        let omega = self.covariance.evaluate(&natural)?;
        let chain = Chain::new(map, natural.len());
        memory.warm.resize(self.individuals.len(), WarmStart::default());
        let terms: Vec<Result<(f64, Vec<(usize, f64)>), EvaluationError>> = self
            .individuals
            .par_iter()
            .zip(memory.warm.par_iter_mut())
            .map(|(data, warm)| {
                let block = omega.select(&data.coordinates.effects);
                let term = self.marginal(data, &natural, &block, warm, order)?;
                let gradient = if order == Order::Value {
                    Vec::new()
                } else {
                    let xi = term.d_phi.iter().chain(term.d_parameters.iter());
                    let slopes = chain.slopes(&natural, &data.coordinates.all, &block);
                    slopes.into_iter().zip(xi).filter_map(|(slope, d)| slope.map(|(k, s)| (k, d * s))).collect()
                };
                Ok((term.value, gradient))
            })
            .collect();
        let n = x.len();
        for (data, term) in self.individuals.iter().zip(terms) {
            let (value, gradient) = term?;
            evaluation.value += data.weight * value;
            let mut dense = vec![0.0; if order == Order::Fisher { n } else { 0 }];
            for (k, g) in gradient {
                evaluation.gradient[k] += data.weight * g;
                if order == Order::Fisher {
                    dense[k] += g;
                }
            }
            if let Some(fisher) = &mut evaluation.fisher {
                for k in (0..n).filter(|k| dense[*k] != 0.0) {
                    for l in 0..n {
                        fisher[(k, l)] += data.weight * dense[k] * dense[l];
                    }
                }
            }
        }
        for rows in &self.rows {
            rows.add(&self.pool, &natural, &omega, &chain, order, evaluation)?;
        }
        Ok(())
    }

    /// Adds terms, individuals and simulations to a summary.
    pub fn summarise(&self, natural: &[f64], summary: &mut Summary) -> Result<(), EvaluationError> {
        let omega = self.covariance.evaluate(natural)?;
        let parts: Vec<Result<_, EvaluationError>> = self
            .individuals
            .par_iter()
            .map(|data| {
                let block = omega.select(&data.coordinates.effects);
                let term = self.marginal(data, natural, &block, &mut WarmStart::default(), Order::Value)?;
                let phi = cell_parameters(&data.coordinates.typical(natural), &data.coordinates.targets, &term.b);
                let s = self.with_individual(data, natural, |c| c.simulate(&phi, &[], Derivatives::None))?;
                Ok((term, phi, s))
            })
            .collect();
        let mut total = 0.0;
        for (data, part) in self.individuals.iter().zip(parts) {
            let (term, phi, s) = part?;
            total += data.weight * term.value;
            for (r, row) in data.rows.rows.iter().enumerate() {
                summary.simulations[row.measurement] = s.y[r];
                summary.sigmas[row.measurement] = s.sigma[r];
            }
            let mut status = Vec::new();
            if !term.flags.converged {
                status.push("estimate not converged");
            }
            if term.flags.floored > 0 {
                status.push("curvature not positive definite");
            }
            if term.flags.far {
                status.push("far from the typical individual");
            }
            let c = &data.coordinates;
            summary.individuals.push(IndividualSummary {
                id: data.id.clone(),
                experiment: data.experiment.clone(),
                nll: term.value,
                ebe: c.effects.iter().zip(term.b.iter()).map(|(e, b)| (self.effect_ids[*e].clone(), *b)).collect(),
                posterior_sd: term.posterior.diagonal().iter().map(|v| v.sqrt()).collect(),
                parameters: (0..c.all.len()).filter(|k| c.random[*k]).map(|k| (c.all[k].theta, c.all[k].kind.natural(phi[k]).0)).collect(),
                status: status.join("; "),
            });
        }
        if !self.individuals.is_empty() {
            summary.terms.push(("trajectory", total));
        }
        for rows in &self.rows {
            rows.summarise(&self.pool, natural, &omega, summary)?;
        }
        Ok(())
    }
}
