//! The objective of a whole problem: rows of the typical individual plus the population's terms.

use super::adjoint::{Choice, Request};
use super::fixed::FixedEffects;
use super::parameters::ParameterMap;
use super::population::{self, IndividualSummary, Population, PopulationOptions};
use super::prior::{Convention, Priors};
use super::simulated::Pool;
use super::{Estimated, Evaluation, EvaluationError, Objective, Order};
use crate::model::CompiledModel;
use crate::ode::{Counts, Options};
use crate::petab::{DataKind, Problem};
use std::sync::Arc;

/// Negative log-posterior of a problem: that of all rows and of the priors.
pub struct ProblemObjective {
    pool: Arc<Pool>,
    map: ParameterMap,
    fixed: FixedEffects,
    population: Option<Population>,
    priors: Priors,
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
    /// The objective of `problem`, with the default convention of priors; the error says what is not supported yet.
    pub fn new(model: Arc<CompiledModel>, problem: &Problem, options: Options, population: &PopulationOptions) -> Result<Self, String> {
        let pool = Arc::new(Pool::new(model, options));
        let fixed = FixedEffects::new(pool.clone(), problem);
        let population = match &problem.nlme {
            Some(nlme) => Some(Population::new(pool.clone(), problem, nlme, population)?),
            None => None,
        };
        let priors = Priors::new(problem, Convention::default());
        Ok(ProblemObjective { pool, map: ParameterMap::new(problem), fixed, population, priors })
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

    /// The part of the ordinary rows.
    pub fn fixed(&self) -> &FixedEffects {
        &self.fixed
    }

    /// Chooses how gradients of the ordinary rows are computed, see [`FixedEffects::choose_method`]. The rows of a population
    /// always have forward sensitivities.
    pub fn choose_method(&mut self, request: Request, advantage: f64, natural: &[f64]) -> Choice {
        self.fixed.choose_method(request, advantage, natural)
    }

    /// The part of the population.
    pub fn population(&self) -> Option<&Population> {
        self.population.as_ref()
    }

    /// The priors.
    pub fn priors(&self) -> &Priors {
        &self.priors
    }

    /// The simulators, for curves.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Work done so far.
    pub fn counts(&self) -> Counts {
        self.pool.counts()
    }

    /// The objective at natural parameter values (all rows of the parameter table), taken apart.
    pub fn summary(&self, natural: &[f64]) -> Result<Summary, EvaluationError> {
        let fitted = self.fixed.fitted(natural)?;
        let mut summary = Summary { chi2: fitted.chi2, simulations: fitted.simulations, sigmas: fitted.sigmas, ..Summary::default() };
        if self.population.is_none() || !self.fixed.experiments().is_empty() {
            summary.terms.push(("typical", -fitted.llh));
        }
        if let Some(population) = &self.population {
            population.summarise(natural, &mut summary)?;
        }
        let nllh: f64 = summary.terms.iter().map(|(_, v)| v).sum();
        summary.llh = -nllh;
        summary.log_prior = self.priors.log_densities(natural);
        summary.nllh = nllh - summary.log_prior.iter().map(|(_, v)| v).sum::<f64>();
        Ok(summary)
    }
}

impl Objective for ProblemObjective {
    type Memory = population::Memory;

    fn parameters(&self) -> &[Estimated] {
        self.map.estimated()
    }

    fn memory(&self) -> Self::Memory {
        self.population.as_ref().map(Population::memory).unwrap_or_default()
    }

    fn evaluate(&self, x: &[f64], order: Order, memory: &mut Self::Memory) -> Result<Evaluation, EvaluationError> {
        let mut evaluation = self.fixed.evaluate(x, order, &mut ())?;
        self.priors.add(&self.map.natural(x), &mut evaluation)?;
        if let Some(population) = &self.population {
            population.add(&self.map, x, order, memory, &mut evaluation)?;
        }
        Ok(evaluation)
    }
}
