//! The objective of an ordinary PEtab problem: every row belongs to the typical individual.

use super::adjoint::{self, Choice, Method, Request};
use super::parameters::ParameterMap;
use super::simulated::{Derivatives, Direction, Equilibrium, Pool, Row, Rows, Simulated, Worker, failure, places};
use super::{Estimated, Evaluation, EvaluationError, Objective, Order};
use crate::model::compiled::CompiledExperiment;
use crate::ode::SimulationError;
use crate::petab::{DataKind, Problem, Statistic};
use indexmap::IndexMap;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use std::sync::Arc;

/// Negative log-likelihood of the rows of the typical individual.
pub struct FixedEffects {
    pool: Arc<Pool>,
    map: ParameterMap,
    experiments: Vec<Rows>,
    /// The distinct steady states with which experiments begin.
    equilibrations: Vec<Equilibration>,
    measurements: usize,
    method: Method,
    /// Whether experiments for which there is no adjoint gradient get a forward one.
    falls_back: bool,
}

/// A steady state with which some experiments begin.
struct Equilibration {
    /// Positions in the list of experiments.
    experiments: Vec<usize>,
    /// Rows of theta that can reach a state in any of them, sorted.
    reaching_states: Vec<usize>,
}

/// What `evaluate` reports beside the objective.
#[derive(Debug, Clone, Default)]
pub struct Fitted {
    /// Log-likelihood.
    pub llh: f64,
    /// Sum of squared normalised residuals.
    pub chi2: f64,
    /// Simulation of every measurement of the problem (NaN for rows of another kind).
    pub simulations: Vec<f64>,
    /// Noise scale of every measurement.
    pub sigmas: Vec<f64>,
}

impl FixedEffects {
    /// The objective of the rows of kind `Typical`.
    pub fn new(pool: Arc<Pool>, problem: &Problem) -> Self {
        Self::of_rows(pool, problem, &|kind| *kind == DataKind::Typical)
    }

    /// The objective of the naive pooled reading: rows of individuals and bulk means too are taken for those of the typical individual.
    /// Other population rows are left out.
    pub fn pooled(pool: Arc<Pool>, problem: &Problem) -> Self {
        Self::of_rows(pool, problem, &|kind| match kind {
            DataKind::Typical | DataKind::Trajectory { .. } | DataKind::TimeToEvent { .. } => true,
            DataKind::Bulk(s) => s.statistic == Statistic::Mean && s.sd.is_none(),
            DataKind::Snapshot { .. } | DataKind::SnapshotStatistic(_) => false,
        })
    }

    fn of_rows(pool: Arc<Pool>, problem: &Problem, counts: &dyn Fn(&DataKind) -> bool) -> Self {
        // Conditions often differ in what concerns the bookkeeping of the data only: such experiments are simulated once.
        let courses: Vec<Vec<u64>> = pool.model().experiments.iter().map(CompiledExperiment::course).collect();
        let mut by_course: IndexMap<&[u64], (usize, Vec<usize>)> = IndexMap::new();
        for (i, m) in problem.measurements.iter().enumerate() {
            if counts(&m.kind) {
                by_course.entry(&courses[m.experiment]).or_insert_with(|| (m.experiment, Vec::new())).1.push(i);
            }
        }
        let by_name = places(pool.model());
        let experiments: Vec<Rows> =
            by_course.values().map(|(e, rows)| Rows::new(pool.model(), &by_name, problem, *e, rows, &[])).collect();
        let mut equilibrations: IndexMap<usize, Equilibration> = IndexMap::new();
        for (position, rows) in experiments.iter().enumerate() {
            let Some(way) = pool.model().experiments[rows.experiment].equilibration else { continue };
            let shared =
                equilibrations.entry(way.number).or_insert_with(|| Equilibration { experiments: Vec::new(), reaching_states: Vec::new() });
            shared.experiments.push(position);
            shared.reaching_states.extend(&rows.reaching_states);
        }
        let mut equilibrations: Vec<Equilibration> = equilibrations.into_values().collect();
        for shared in &mut equilibrations {
            shared.reaching_states.sort_unstable();
            shared.reaching_states.dedup();
        }
        let (map, measurements) = (ParameterMap::new(problem), problem.measurements.len());
        FixedEffects { pool, map, experiments, equilibrations, measurements, method: Method::Forward, falls_back: true }
    }

    /// The simulations: one entry per experiment that has rows, or several that take the same course.
    pub fn experiments(&self) -> &[Rows] {
        &self.experiments
    }

    /// Chooses how gradients are computed, with the adjoint method where it was asked for or where by estimate it is more than
    /// `advantage` times cheaper. With adjoint sensitivities there is no Fisher information.
    ///
    /// The estimate simulates once without derivatives at `natural`, to know how many steps there are; their number is the same on every
    /// machine, and so is the choice.
    pub fn choose_method(&mut self, request: Request, advantage: f64, natural: &[f64]) -> Choice {
        let mut steps = adjoint::USUAL_STEPS;
        if request == Request::Auto {
            let before = self.pool.counts();
            let done = self.fitted(natural).is_ok();
            let after = self.pool.counts();
            if done && after.simulations > before.simulations {
                steps = (after.steps - before.steps) as f64 / (after.simulations - before.simulations) as f64;
            }
        }
        let columns = |rows: &Rows| {
            let reaches = |k: &usize| rows.reaching_states.binary_search(&self.map.theta(*k)).is_ok();
            (0..self.map.estimated().len()).filter(reaches).count()
        };
        let simulations: Vec<_> = self.experiments.iter().map(|rows| (columns(rows), rows.times.len())).collect();
        let choice = adjoint::choose(request, advantage, self.pool.model(), &simulations, steps);
        self.method = choice.method;
        self.falls_back = request == Request::Auto;
        choice
    }

    fn simulate(
        &self,
        rows: &Rows,
        natural: &[f64],
        directions: &[Direction],
        order: Derivatives,
        equilibrium: Option<&Equilibrium>,
    ) -> Result<Simulated, EvaluationError> {
        let id = &self.pool.model().experiments[rows.experiment].id;
        self.pool.with(|w| w.simulate(rows, natural, directions, order, equilibrium)).and_then(|r| r).map_err(|e| failure(id, None, e))
    }

    /// The estimated parameters among some rows of theta, and their directions.
    fn directions(&self, thetas: &[usize], natural: &[f64]) -> (Vec<usize>, Vec<Direction>) {
        let chosen: Vec<usize> = (0..self.map.estimated().len()).filter(|k| thetas.binary_search(&self.map.theta(*k)).is_ok()).collect();
        let directions = chosen.iter().map(|k| self.map.direction(*k, natural[self.map.theta(*k)])).collect();
        (chosen, directions)
    }

    /// For each experiment the steady state with which it begins, if it does.
    fn equilibria(&self, natural: &[f64], order: Derivatives) -> Result<Vec<Option<Arc<Equilibrium>>>, EvaluationError> {
        let found: Vec<Result<Arc<Equilibrium>, EvaluationError>> = (self.equilibrations.par_iter())
            .map(|shared| {
                let first = self.experiments[shared.experiments[0]].experiment;
                let directions = if order == Derivatives::None { vec![] } else { self.directions(&shared.reaching_states, natural).1 };
                (self.pool.with(|w| w.equilibrium(first, &shared.reaching_states, natural, &directions, order)).and_then(|r| r))
                    .map(Arc::new)
                    .map_err(|e| failure(&self.pool.model().experiments[first].id, None, e))
            })
            .collect();
        let mut by_experiment = vec![None; self.experiments.len()];
        for (shared, found) in self.equilibrations.iter().zip(found) {
            let found = found?;
            shared.experiments.iter().for_each(|e| by_experiment[*e] = Some(found.clone()));
        }
        Ok(by_experiment)
    }

    /// Likelihood, chi2 and simulations at natural parameter values (all rows of the parameter table).
    pub fn fitted(&self, natural: &[f64]) -> Result<Fitted, EvaluationError> {
        let mut fitted =
            Fitted { simulations: vec![f64::NAN; self.measurements], sigmas: vec![f64::NAN; self.measurements], ..Fitted::default() };
        for (rows, s) in self.experiments.iter().zip(self.simulated(natural)?) {
            for (r, row) in rows.rows.iter().enumerate() {
                fitted.simulations[row.measurement] = s.y[r];
                fitted.sigmas[row.measurement] = s.sigma[r];
                let d = row.measured.density(s.y[r], s.sigma[r])?;
                fitted.llh -= d.value;
                fitted.chi2 += d.residual * d.residual;
            }
        }
        Ok(fitted)
    }

    /// The simulated rows of every experiment at natural parameter values, without derivatives.
    pub fn simulated(&self, natural: &[f64]) -> Result<Vec<Simulated>, EvaluationError> {
        let equilibria = self.equilibria(natural, Derivatives::None)?;
        let simulated: Vec<_> = (self.experiments.par_iter().zip(&equilibria))
            .map(|(rows, equilibrium)| self.simulate(rows, natural, &[], Derivatives::None, equilibrium.as_deref()))
            .collect();
        simulated.into_iter().collect()
    }

    fn forward_part(
        &self,
        rows: &Rows,
        natural: &[f64],
        order: Order,
        equilibrium: Option<&Equilibrium>,
    ) -> Result<ExperimentPart, EvaluationError> {
        let derivatives = if order == Order::Value { Derivatives::None } else { Derivatives::First };
        let (chosen, directions) = if order == Order::Value { (vec![], vec![]) } else { self.directions(&rows.reaching, natural) };
        let s = self.simulate(rows, natural, &directions, derivatives, equilibrium)?;
        let nd = directions.len();
        let mut value = 0.0;
        let mut gradient = vec![0.0; nd];
        let mut fisher = (order == Order::Fisher).then(|| DMatrix::zeros(nd, nd));
        for (r, row) in rows.rows.iter().enumerate() {
            let d = row.measured.density(s.y[r], s.sigma[r])?;
            value += d.value;
            let (dy, ds) = (&s.dy[r * nd..(r + 1) * nd], &s.ds[r * nd..(r + 1) * nd]);
            for k in 0..nd {
                gradient[k] += d.dy * dy[k] + d.ds * ds[k];
            }
            if let Some(f) = &mut fisher {
                for l in 0..nd {
                    let (wy, ws) = (d.fisher_yy * dy[l], d.fisher_ss * ds[l]);
                    if wy != 0.0 || ws != 0.0 {
                        for k in 0..nd {
                            f[(k, l)] += dy[k] * wy + ds[k] * ws;
                        }
                    }
                }
            }
        }
        Ok(ExperimentPart { value, chosen, gradient, fisher })
    }

    /// Gradients by x of the negative log-likelihoods of all measurements, from forward sensitivities.
    pub fn scores(&self, x: &[f64]) -> Result<Vec<DVector<f64>>, EvaluationError> {
        let natural = self.map.natural(x);
        let equilibria = self.equilibria(&natural, Derivatives::First)?;
        let scores = (self.experiments.par_iter().zip(&equilibria)).map(|(rows, equilibrium)| {
            let (chosen, directions) = self.directions(&rows.reaching, &natural);
            let s = self.simulate(rows, &natural, &directions, Derivatives::First, equilibrium.as_deref())?;
            let nd = directions.len();
            let score = |(r, row): (usize, &Row)| {
                let d = row.measured.density(s.y[r], s.sigma[r])?;
                let mut score = DVector::zeros(x.len());
                for (i, k) in chosen.iter().enumerate() {
                    score[*k] = d.dy * s.dy[r * nd + i] + d.ds * s.ds[r * nd + i];
                }
                Ok(score)
            };
            rows.rows.iter().enumerate().map(score).collect::<Result<Vec<_>, EvaluationError>>()
        });
        Ok(scores.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn adjoint_part(&self, rows: &Rows, natural: &[f64], equilibrium: Option<&Equilibrium>) -> Result<ExperimentPart, EvaluationError> {
        let id = &self.pool.model().experiments[rows.experiment].id;
        let failed = |e: SimulationError| failure(id, None, e);
        let run = |worker: &mut Worker| {
            let s = worker.record(rows, natural, equilibrium).map_err(failed)?;
            let mut value = 0.0;
            let mut slopes = Vec::with_capacity(rows.rows.len());
            for (r, row) in rows.rows.iter().enumerate() {
                let d = row.measured.density(s.y[r], s.sigma[r])?;
                value += d.value;
                slopes.push((d.dy, d.ds));
            }
            let by_theta = worker.backward(rows, natural, &slopes, equilibrium).map_err(failed)?;
            let (chosen, directions) = self.directions(&rows.reaching, natural);
            let gradient = directions.iter().map(|d| by_theta[d.theta] * d.first).collect();
            Ok(ExperimentPart { value, chosen, gradient, fisher: None })
        };
        self.pool.with(run).map_err(failed)?
    }
}

/// What one experiment adds to the objective.
struct ExperimentPart {
    value: f64,
    /// Estimated parameters that the experiment depends on; gradient and Fisher information are by these.
    chosen: Vec<usize>,
    gradient: Vec<f64>,
    fisher: Option<DMatrix<f64>>,
}

impl Objective for FixedEffects {
    type Memory = ();

    fn parameters(&self) -> &[Estimated] {
        self.map.estimated()
    }

    fn memory(&self) {}

    fn evaluate(&self, x: &[f64], order: Order, _memory: &mut ()) -> Result<Evaluation, EvaluationError> {
        let natural = self.map.natural(x);
        let n = x.len();
        let adjoint = self.method == Method::Adjoint && order != Order::Value;
        let derivatives = if order == Order::Value || adjoint { Derivatives::None } else { Derivatives::First };
        let equilibria = self.equilibria(&natural, derivatives)?;
        let parts: Vec<Result<ExperimentPart, EvaluationError>> = (self.experiments.par_iter().zip(&equilibria))
            .map(|(rows, equilibrium)| {
                if !adjoint {
                    return self.forward_part(rows, &natural, order, equilibrium.as_deref());
                }
                match self.adjoint_part(rows, &natural, equilibrium.as_deref()) {
                    Err(EvaluationError::Simulation { source: SimulationError::Unsupported { .. }, .. }) if self.falls_back => {
                        self.forward_part(rows, &natural, Order::Gradient, None)
                    }
                    part => part,
                }
            })
            .collect();
        // Summed in order of the experiments, so that the result does not depend on the number of threads.
        let mut evaluation = Evaluation {
            value: 0.0,
            gradient: DVector::zeros(if order == Order::Value { 0 } else { n }),
            fisher: (order == Order::Fisher && self.method == Method::Forward).then(|| DMatrix::zeros(n, n)),
        };
        for part in parts {
            let ExperimentPart { value, chosen, gradient, fisher } = part?;
            evaluation.value += value;
            for (k, g) in chosen.iter().zip(&gradient) {
                evaluation.gradient[*k] += g;
            }
            if let (Some(total), Some(f)) = (&mut evaluation.fisher, fisher) {
                for (i, k) in chosen.iter().enumerate() {
                    for (j, l) in chosen.iter().enumerate() {
                        total[(*k, *l)] += f[(i, j)];
                    }
                }
            }
        }
        Ok(evaluation)
    }
}
