//! The objective of a whole problem: for each model rows of the typical individual plus the population's terms, and the priors.

use super::adjoint::{Choice, Method, Request};
use super::fixed::FixedEffects;
use super::parameters::ParameterMap;
use super::population::{self, ImportanceSummary, IndividualSummary, Population, PopulationOptions};
use super::population_rows::MonteCarlo;
use super::prior::{Convention, Priors};
use super::simulated::Pool;
use super::{Estimated, Evaluation, EvaluationError, Objective, Order};
use crate::model::CompiledModel;
use crate::ode::{Counts, Options};
use crate::petab::{DataKind, Problem};
use nalgebra::{DMatrix, DVector};
use std::ops::Range;
use std::sync::Arc;

/// Negative log-posterior of a problem: that of all rows and of the priors.
pub struct ProblemObjective {
    map: ParameterMap,
    parts: Vec<Part>,
    priors: Priors,
}

/// The part of one model.
pub struct Part {
    pool: Arc<Pool>,
    fixed: FixedEffects,
    population: Option<Population>,
    /// Its measurements among those of all parts.
    measurements: Range<usize>,
}

impl Part {
    /// The ordinary rows.
    pub fn fixed(&self) -> &FixedEffects {
        &self.fixed
    }

    /// The population.
    pub fn population(&self) -> Option<&Population> {
        self.population.as_ref()
    }

    /// The simulators, for curves.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Its measurements among those of all parts.
    pub fn measurements(&self) -> Range<usize> {
        self.measurements.clone()
    }
}

/// The objective at one point, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Log-likelihood with all constants, without priors.
    pub llh: f64,
    /// Log density of every parameter with a prior.
    pub log_prior: Vec<(String, f64)>,
    /// Sum of squared normalised residuals of the ordinary rows.
    pub chi2: f64,
    /// What is minimised: the negative log-posterior (not normalised), which is the negative log-likelihood where there are no priors.
    pub nllh: f64,
    /// Negative log-likelihood by kind of data.
    pub terms: Vec<(&'static str, f64)>,
    /// Individuals with their marginal likelihoods and empirical Bayes estimates.
    pub individuals: Vec<IndividualSummary>,
    /// Simulation of every measurement: at the empirical Bayes estimate for individuals, the population statistic for population rows.
    pub simulations: Vec<f64>,
    /// Noise scale of every measurement.
    pub sigmas: Vec<f64>,
}

impl ProblemObjective {
    /// The objective of a problem of one model, with the default convention of priors; the error says what is not supported yet.
    pub fn new(model: Arc<CompiledModel>, problem: &Problem, options: Options, population: &PopulationOptions) -> Result<Self, String> {
        Self::of_parts(&[(model, problem)], options, population)
    }

    /// The objective of a problem of several models, each with its part of the problem.
    pub fn of_parts(models: &[(Arc<CompiledModel>, &Problem)], options: Options, population: &PopulationOptions) -> Result<Self, String> {
        let (_, first) = models.first().ok_or("a problem has no model")?;
        let mut parts: Vec<Part> = Vec::new();
        for (model, problem) in models {
            let pool = Arc::new(Pool::new(model.clone(), options.clone()));
            let fixed = FixedEffects::new(pool.clone(), problem);
            let population = match &problem.nlme {
                Some(nlme) => Some(Population::new(pool.clone(), problem, nlme, population)?),
                None => None,
            };
            let start = parts.last().map_or(0, |p| p.measurements.end);
            parts.push(Part { pool, fixed, population, measurements: start..start + problem.measurements.len() });
        }
        Ok(ProblemObjective { map: ParameterMap::new(first), parts, priors: Priors::new(first, Convention::default()) })
    }

    /// The naive pooled reading of a problem: one typical individual behind all rows, see [`FixedEffects::pooled`]. Parameters of the
    /// covariance are without effect. A place to start from.
    pub fn pooled(models: &[(Arc<CompiledModel>, &Problem)], options: Options) -> Option<Self> {
        let (_, first) = models.first()?;
        let mut parts: Vec<Part> = Vec::new();
        for (model, problem) in models {
            let pool = Arc::new(Pool::new(model.clone(), options.clone()));
            let start = parts.last().map_or(0, |p| p.measurements.end);
            let measurements = start..start + problem.measurements.len();
            parts.push(Part { fixed: FixedEffects::pooled(pool.clone(), problem), pool, population: None, measurements });
        }
        Some(ProblemObjective { map: ParameterMap::new(first), parts, priors: Priors::new(first, Convention::default()) })
    }

    /// The same with another convention of the priors of version 1.
    pub fn with_convention(self, problem: &Problem, convention: Convention) -> Self {
        ProblemObjective { priors: Priors::new(problem, convention), ..self }
    }

    /// Whether second derivatives of the model are needed: individuals with random effects have an inner problem.
    pub fn needs_second_order(problem: &Problem) -> bool {
        problem.measurements.iter().any(|m| matches!(m.kind, DataKind::Trajectory { .. } | DataKind::TimeToEvent { .. }))
    }

    /// How parameters are mapped.
    pub fn map(&self) -> &ParameterMap {
        &self.map
    }

    /// The parts of the models.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether there are ordinary rows.
    pub fn has_ordinary_rows(&self) -> bool {
        self.parts.iter().any(|p| !p.fixed.experiments().is_empty())
    }

    /// The populations of the parts. All have the same random effects.
    pub fn populations(&self) -> impl Iterator<Item = &Population> {
        self.parts.iter().filter_map(|p| p.population.as_ref())
    }

    /// Number of individuals with random effects.
    pub fn individuals(&self) -> usize {
        self.populations().map(Population::individuals).sum()
    }

    /// Chooses how gradients of the ordinary rows are computed, see [`FixedEffects::choose_method`]. The rows of a population
    /// always have forward sensitivities. Of several models the choices are made one by one, and that of the first is given.
    pub fn choose_method(&mut self, request: Request, advantage: f64, natural: &[f64]) -> Choice {
        let choices: Vec<Choice> = self.parts.iter_mut().map(|p| p.fixed.choose_method(request, advantage, natural)).collect();
        choices.into_iter().next().unwrap_or(Choice { method: Method::Forward, reason: String::new() })
    }

    /// The priors.
    pub fn priors(&self) -> &Priors {
        &self.priors
    }

    /// Work done so far.
    pub fn counts(&self) -> Counts {
        let mut total = Counts::default();
        self.parts.iter().for_each(|p| total.add(&p.pool.counts()));
        total
    }

    /// Negative log marginal likelihood of all individuals by importance sampling, see [`Population::importance`].
    pub fn importance(&self, natural: &[f64], draws: usize, seed: u64) -> Result<ImportanceSummary, EvaluationError> {
        self.importance_from(natural, draws, seed, &mut self.memory())
    }

    /// The same with what is known of the estimates near `natural`.
    pub fn importance_from(
        &self,
        natural: &[f64],
        draws: usize,
        seed: u64,
        memory: &mut [population::Memory],
    ) -> Result<ImportanceSummary, EvaluationError> {
        let mut total = ImportanceSummary::none();
        for (part, memory) in self.parts.iter().zip(memory) {
            if let Some(population) = &part.population {
                total.add(population.importance(natural, draws, seed, memory)?);
            }
        }
        Ok(total)
    }

    /// The largest error of population statistics by their quasi-random nodes, see [`Population::monte_carlo`].
    pub fn monte_carlo(&self, natural: &[f64]) -> Result<Option<MonteCarlo>, EvaluationError> {
        let found = self.populations().map(|p| p.monte_carlo(natural)).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().max_by(|a, b| a.ratio.total_cmp(&b.ratio)))
    }

    /// Gradients at `x` of the independent terms of the likelihood, without priors: of individuals (or groups), measured statistics and ordinary
    /// measurements. Their sum is the gradient of the negative log-likelihood.
    pub fn scores(&self, x: &[f64], memory: &mut [population::Memory]) -> Result<Vec<DVector<f64>>, EvaluationError> {
        let mut scores = Vec::new();
        for (part, memory) in self.parts.iter().zip(memory) {
            scores.extend(part.fixed.scores(x)?);
            if let Some(population) = &part.population {
                scores.extend(population.scores(&self.map, x, memory)?);
            }
        }
        Ok(scores)
    }

    /// Information about x for a large number of individuals, see [`Population::add_score_information`]; of ordinary measurements and priors the
    /// expected one.
    pub fn score_information(&self, x: &[f64], memory: &mut [population::Memory]) -> Result<DMatrix<f64>, EvaluationError> {
        let mut whole = Evaluation { value: 0.0, gradient: DVector::zeros(x.len()), fisher: Some(DMatrix::zeros(x.len(), x.len())) };
        self.priors.add(&self.map.natural(x), &mut whole)?;
        let mut information = whole.fisher.unwrap_or_else(|| DMatrix::zeros(x.len(), x.len()));
        for (part, memory) in self.parts.iter().zip(memory) {
            if let Some(fisher) = part.fixed.evaluate(x, Order::Fisher, &mut ())?.fisher {
                information += fisher;
            }
            if let Some(population) = &part.population {
                population.add_score_information(&self.map, x, memory, &mut information)?;
            }
        }
        Ok(information)
    }

    /// The objective at natural parameter values (all rows of the parameter table), taken apart.
    pub fn summary(&self, natural: &[f64]) -> Result<Summary, EvaluationError> {
        self.summary_from(natural, &mut self.memory())
    }

    /// The same with what is known of the estimates near `natural`.
    pub fn summary_from(&self, natural: &[f64], memory: &mut [population::Memory]) -> Result<Summary, EvaluationError> {
        let mut whole = Summary::default();
        for (part, memory) in self.parts.iter().zip(memory) {
            let fitted = part.fixed.fitted(natural)?;
            let mut summary = Summary { chi2: fitted.chi2, simulations: fitted.simulations, sigmas: fitted.sigmas, ..Summary::default() };
            if part.population.is_none() || !part.fixed.experiments().is_empty() {
                summary.terms.push(("typical", -fitted.llh));
            }
            if let Some(population) = &part.population {
                population.summarise(natural, memory, &mut summary)?;
            }
            whole.append(summary);
        }
        let nllh: f64 = whole.terms.iter().map(|(_, v)| v).sum();
        whole.llh = -nllh;
        whole.log_prior = self.priors.log_densities(natural);
        whole.nllh = nllh - whole.log_prior.iter().map(|(_, v)| v).sum::<f64>();
        Ok(whole)
    }
}

impl Summary {
    /// The simulations of one model's part, with all terms and individuals.
    pub fn of(&self, part: &Part) -> Summary {
        let (simulations, sigmas) = (self.simulations[part.measurements()].to_vec(), self.sigmas[part.measurements()].to_vec());
        Summary {
            simulations,
            sigmas,
            terms: self.terms.clone(),
            log_prior: self.log_prior.clone(),
            individuals: self.individuals.clone(),
            ..*self
        }
    }

    /// Puts the terms, individuals and simulations of another model behind those that are there.
    fn append(&mut self, other: Summary) {
        self.chi2 += other.chi2;
        for (kind, value) in other.terms {
            match self.terms.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, total)) => *total += value,
                None => self.terms.push((kind, value)),
            }
        }
        self.individuals.extend(other.individuals);
        self.simulations.extend(other.simulations);
        self.sigmas.extend(other.sigmas);
    }
}

impl Objective for ProblemObjective {
    /// One memory for each part.
    type Memory = Vec<population::Memory>;

    fn parameters(&self) -> &[Estimated] {
        self.map.estimated()
    }

    fn memory(&self) -> Self::Memory {
        self.parts.iter().map(|p| p.population.as_ref().map(Population::memory).unwrap_or_default()).collect()
    }

    fn evaluate(&self, x: &[f64], order: Order, memory: &mut Self::Memory) -> Result<Evaluation, EvaluationError> {
        let mut whole: Option<Evaluation> = None;
        memory.resize_with(self.parts.len(), population::Memory::default);
        for (part, memory) in self.parts.iter().zip(memory) {
            let mut evaluation = part.fixed.evaluate(x, order, &mut ())?;
            if let Some(population) = &part.population {
                population.add(&self.map, x, order, memory, &mut evaluation)?;
            }
            match &mut whole {
                None => whole = Some(evaluation),
                Some(whole) => {
                    whole.value += evaluation.value;
                    whole.gradient += evaluation.gradient;
                    whole.fisher = whole.fisher.take().zip(evaluation.fisher).map(|(a, b)| a + b);
                }
            }
        }
        let mut evaluation = whole.ok_or_else(|| EvaluationError::Inner("a problem has no model".into()))?;
        self.priors.add(&self.map.natural(x), &mut evaluation)?;
        Ok(evaluation)
    }
}
