//! The population's part of the objective: individuals with their own random effects, and statistics over all of them.

use super::coordinates::{Coordinate, Coordinates};
use super::covariance::{Covariance, Omega};
use super::cubature::{CubatureOptions, cubature};
use super::ebe::{EbeOptions, WarmStart, cell_parameters};
use super::group::{Group, MemberEstimate};
use super::importance::{Importance, Proposal, importance_sampling};
use super::individual::Conditional;
use super::integration::Integration;
use super::laplace::{Flags, IndividualTerm, MarginalOptions, individual_marginal};
use super::nodes::Nodes;
use super::parameters::ParameterMap;
use super::population_rows::{MonteCarlo, PopulationRows, composite_times};
use super::problem::Summary;
use super::quadrature::{PROPOSAL_DEGREES, Rule};
use super::simulated::{Derivatives, Pool, Rows, Worker, failure, is_initial, places};
use super::simulated_individual::{SimulatedIndividual, View};
use super::subpopulations::{Mixed, Probabilities, Subpopulations};
use super::{Evaluation, EvaluationError, Order};
use crate::model::CompiledModel;
use crate::petab::{self, DataKind, Nlme, Problem, Scale};
use crate::random::sobol_normal;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use std::sync::Arc;

/// Settings of the population's part.
#[derive(Debug, Clone, Default)]
pub struct PopulationOptions {
    /// How the random effects of single individuals are integrated out; `None`: as the problem hints, else by Laplace's approximation.
    pub integration: Option<Integration>,
    /// Number of quasi-random nodes for population statistics with more than four random effects and for fractions of individuals that have had
    /// an event; `None`: as the problem hints, else 4096.
    pub nodes: Option<usize>,
    /// Seed of the nodes; `None`: as the problem hints, else 1.
    pub seed: Option<u64>,
}

impl PopulationOptions {
    /// Number of nodes and their seed.
    pub(super) fn nodes(&self, nlme: &Nlme) -> (usize, u64) {
        let (nodes, seed) = (self.nodes.or(nlme.defaults.population_nodes), self.seed.or(nlme.defaults.seed));
        (nodes.unwrap_or(4096), seed.unwrap_or(1))
    }
}

/// Individuals and population rows of a problem.
pub struct Population {
    pool: Arc<Pool>,
    covariance: Covariance,
    subpopulations: Subpopulations,
    effect_ids: Vec<String>,
    pub(super) individuals: Vec<IndividualData>,
    /// Groups of them that share random effects; none where each stands alone.
    groups: Vec<Group>,
    pub(super) rows: Vec<PopulationRows>,
    integration: Integration,
    /// Settings of the marginal likelihoods, by number of effects.
    options: Vec<MarginalOptions>,
    /// The same with several starting points for the estimates.
    searching: Vec<MarginalOptions>,
}

/// Warm starts of all individuals.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// By individual and class, or by group.
    warm: Vec<Vec<WarmStart>>,
    /// Evaluations with a gradient so far.
    gradients: usize,
}

/// Every so many evaluations with a gradient the search for the empirical Bayes estimates starts from several points, since posteriors
/// may have more than one mode (NLME.md 8.3).
const SEARCH_ANEW: usize = 10;

/// The first evaluations with a gradient search from several points each, where that is of use: far from the optimum, modes come and go.
const SEARCH_ALWAYS: usize = 8;

/// Estimates of other individuals that are among the starting points at most.
const NEIGHBOURS: usize = 24;

/// Searches for an estimate from other starting points every [`SEARCH_ANEW`] evaluations.
const DESCENTS_ANEW: usize = 6;

/// Number of quasi-random starting points of such a search.
const SEARCH_POINTS: usize = 16;

/// One individual's data.
pub(super) struct IndividualData {
    pub(super) id: String,
    pub(super) experiment: String,
    pub(super) group: Option<String>,
    pub(super) rows: Rows,
    /// One for each class.
    pub(super) classes: Vec<Coordinates>,
    pub(super) weight: f64,
}

/// Marginal likelihood of all individuals by importance sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportanceSummary {
    /// Negative log-likelihood of the individuals.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Largest Pareto shape of an individual's weights; above 0.7 the value is not reliable.
    pub worst_pareto_shape: f64,
    /// Smallest effective sample size of an individual.
    pub least_sample_size: f64,
    /// Every individual, or every group where random effects are shared: identifier, negative log-likelihood without the weight, and its standard error.
    pub individuals: Vec<(String, f64, f64)>,
}

impl ImportanceSummary {
    /// That of no individual.
    pub fn none() -> Self {
        ImportanceSummary {
            value: 0.0,
            standard_error: 0.0,
            worst_pareto_shape: f64::NEG_INFINITY,
            least_sample_size: f64::INFINITY,
            individuals: Vec::new(),
        }
    }

    /// Adds that of other individuals.
    pub fn add(&mut self, other: ImportanceSummary) {
        self.value += other.value;
        self.standard_error = self.standard_error.hypot(other.standard_error);
        self.worst_pareto_shape = self.worst_pareto_shape.max(other.worst_pareto_shape);
        self.least_sample_size = self.least_sample_size.min(other.least_sample_size);
        self.individuals.extend(other.individuals);
    }
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
    /// The group it is of, where random effects are shared; `nll` is then that of the whole group.
    pub group: Option<String>,
    /// Natural values of the parameters that random effects move: row of the parameter table and value.
    pub parameters: Vec<(usize, f64)>,
    /// Subpopulations with the probability that the individual is of them, given its data; empty where there are none. The estimates above are
    /// those of the most probable.
    pub subpopulations: Vec<(String, f64)>,
    /// What deserves attention, empty if nothing.
    pub status: String,
}

/// One individual at its empirical Bayes estimate.
struct AtEstimate {
    /// Negative log marginal likelihood, of the group where it has one.
    value: f64,
    /// The most probable class, and the probabilities of all.
    class: usize,
    posterior: Vec<f64>,
    estimate: MemberEstimate,
    flags: Flags,
    group: Option<String>,
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

    /// For every component of xi = (phi_typical, natural parameters of distributions, as rows of the parameter table) its place in x and
    /// dxi/dx, where it is estimated.
    pub fn slopes(&self, natural: &[f64], coordinates: &[Coordinate], parameters: &[usize]) -> Vec<Option<(usize, f64)>> {
        let phi = coordinates.iter().map(|c| self.places[c.source].map(|(k, scale)| (k, c.chain(scale, natural[c.source]))));
        let others = parameters.iter().map(|row| self.places[*row].map(|(k, scale)| (k, scale.derivative(natural[*row]))));
        phi.chain(others).collect()
    }
}

/// What one individual, group or measured statistic adds to the objective, with derivatives by xi = (phi_typical, natural parameters of
/// distributions).
pub(super) struct Contribution {
    pub(super) value: f64,
    pub(super) gradient: Vec<f64>,
    /// Place in x and dxi/dx of each component of xi.
    pub(super) slopes: Vec<Option<(usize, f64)>>,
    pub(super) information: Option<DMatrix<f64>>,
}

impl Contribution {
    /// That of a marginal likelihood, without information; `slopes` are wanted for its gradient.
    fn of_term(term: &IndividualTerm, order: Order, slopes: impl FnOnce() -> Vec<Option<(usize, f64)>>) -> Self {
        Contribution {
            value: term.value,
            gradient: term.d_phi.iter().chain(term.d_parameters.iter()).copied().collect(),
            slopes: if order > Order::Value { slopes() } else { Vec::new() },
            information: None,
        }
    }

    /// Adds it to an evaluation.
    pub(super) fn add(&self, weight: f64, evaluation: &mut Evaluation) {
        evaluation.value += weight * self.value;
        self.add_gradient(weight, &mut evaluation.gradient);
        if let (Some(fisher), Some(information)) = (&mut evaluation.fisher, &self.information) {
            add_information(fisher, information, &self.slopes, weight);
        }
    }

    /// Adds its gradient by x.
    pub(super) fn add_gradient(&self, weight: f64, gradient: &mut DVector<f64>) {
        for (g, slope) in self.gradient.iter().zip(&self.slopes) {
            if let Some((k, s)) = slope {
                gradient[*k] += weight * g * s;
            }
        }
    }
}

/// The part of an individual from its parts in all classes; `slopes` are those of the probabilities. The information is the expectation over the
/// classes of what each has, and of the class itself the outer product of the scores.
fn mixture_part(
    mixed: Mixed<Contribution>,
    probabilities: &Probabilities,
    slopes: Vec<Option<(usize, f64)>>,
    order: Order,
) -> Contribution {
    let mut mixture = Contribution { value: mixed.value, gradient: Vec::new(), slopes: Vec::new(), information: None };
    if order == Order::Value {
        return mixture;
    }
    let ratios: Vec<(usize, f64)> = mixed.members.iter().map(|(class, _, part)| (*class, (mixed.value - part.value).exp())).collect();
    let score = |slopes: &Vec<f64>| -ratios.iter().map(|(class, ratio)| slopes[*class] * ratio).sum::<f64>();
    let scores = DVector::from_iterator(probabilities.slopes.len(), probabilities.slopes.iter().map(score));
    let mut informations = Vec::new();
    for (_, share, part) in mixed.members {
        mixture.gradient.extend(part.gradient.iter().map(|g| share * g));
        mixture.slopes.extend(part.slopes);
        informations.extend(part.information.map(|i| i * share));
    }
    mixture.gradient.extend(scores.iter());
    mixture.slopes.extend(slopes);
    if order == Order::Fisher {
        informations.push(&scores * scores.transpose());
        let mut information = DMatrix::zeros(mixture.gradient.len(), mixture.gradient.len());
        let mut place = 0;
        for block in informations {
            information.view_mut((place, place), block.shape()).copy_from(&block);
            place += block.nrows();
        }
        mixture.information = Some(information);
    }
    mixture
}

/// Adds an information matrix by xi to one by x; `slopes` has the place in x and dxi/dx of every component.
fn add_information(total: &mut DMatrix<f64>, information: &DMatrix<f64>, slopes: &[Option<(usize, f64)>], weight: f64) {
    for (i, a) in slopes.iter().enumerate() {
        for (j, b) in slopes.iter().enumerate() {
            if let (Some((k, s)), Some((l, r))) = (a, b) {
                total[(*k, *l)] += weight * information[(i, j)] * s * r;
            }
        }
    }
}

/// Expected information about xi = (phi_typical, covariance parameters) when the data have information `m` about phi and phi = phi_typical + Z b.
///
/// For a linear model with normal noise this is exact: with A = Z^T M Z and P = (A + D^-1)^-1 it is M - M Z P Z^T M for phi_typical, and
/// 1/2 tr(W dD_k W dD_l) with W = A - A P A for the covariance parameters, without cross terms.
fn linearised_information(m: &DMatrix<f64>, targets: &[usize], omega: &Omega) -> Result<DMatrix<f64>, EvaluationError> {
    let (n, nb, np) = (m.nrows(), targets.len(), omega.dd.len());
    let mut information = DMatrix::zeros(n + np, n + np);
    if nb == 0 {
        information.view_mut((0, 0), (n, n)).copy_from(m);
        return Ok(information);
    }
    let mz = DMatrix::from_fn(n, nb, |i, j| m[(i, targets[j])]);
    let a = DMatrix::from_fn(nb, nb, |i, j| m[(targets[i], targets[j])]);
    let p = (&a + &omega.inverse)
        .cholesky()
        .ok_or_else(|| EvaluationError::Inner("the information about an individual is not finite".into()))?;
    information.view_mut((0, 0), (n, n)).copy_from(&(m - &mz * p.solve(&mz.transpose())));
    let w = &a - &a * p.solve(&a);
    let products: Vec<DMatrix<f64>> = omega.dd.iter().map(|d| &w * d).collect();
    for k in 0..np {
        for l in 0..np {
            information[(n + k, n + l)] = 0.5 * (&products[k] * &products[l]).trace();
        }
    }
    Ok(information)
}

/// The population rows of an experiment in groups that share nodes.
///
/// A simulation that only has initial values costs nothing, so there every statistic has nodes of its own, over the few effects that reach it: an
/// exact tensor rule in the place of quasi-random points. Fractions of individuals that have had an event need many nodes, smooth functions of few
/// effects good ones: see [`PopulationRows::new`].
fn sharing_nodes(model: &CompiledModel, problem: &Problem, nlme: &Nlme, experiment: usize, measurements: Vec<usize>) -> Vec<Vec<usize>> {
    let mut times = composite_times(problem, nlme, &measurements);
    times.extend(measurements.iter().map(|m| problem.measurements[*m].time));
    if !is_initial(model, &model.experiments[experiment], &times) {
        let has_event = |m: &usize| matches!(&problem.measurements[*m].kind, DataKind::Bulk(s) if matches!(s.statistic, petab::Statistic::FractionEvent(_)));
        let (fractions, others): (Vec<usize>, Vec<usize>) = measurements.into_iter().partition(has_event);
        return [others, fractions].into_iter().filter(|group| !group.is_empty()).collect();
    }
    let is_statistic = |m: &usize| matches!(problem.measurements[*m].kind, DataKind::Bulk(_) | DataKind::SnapshotStatistic(_));
    let (statistics, cells): (Vec<usize>, Vec<usize>) = measurements.into_iter().partition(is_statistic);
    statistics.into_iter().map(|m| vec![m]).chain((!cells.is_empty()).then_some(cells)).collect()
}

/// First-order methods replace the simulation by a linear one with normal noise of a fixed size.
fn refuse_other_noise(integration: Integration, individuals: &[IndividualData]) -> Result<(), String> {
    let other = individuals.iter().find(|i| i.rows.rows.iter().any(|r| !r.measured.is_normal()));
    match other {
        Some(i) => {
            Err(format!("the method {integration} for measurements that are censored or whose noise is not normal (individual `{}`)", i.id))
        }
        None => Ok(()),
    }
}

impl Population {
    /// The population of `problem`; the error names what is not supported yet.
    pub fn new(pool: Arc<Pool>, problem: &Problem, nlme: &Nlme, options: &PopulationOptions) -> Result<Self, String> {
        let effect_ids: Vec<String> = nlme.random_effects.iter().map(|e| e.id.clone()).collect();
        let covariance = Covariance::new(&nlme.covariance, &effect_ids).map_err(|d| d.concise())?;
        let subpopulations = Subpopulations::new(nlme);
        let mut by_individual = vec![Vec::new(); nlme.individuals.len()];
        let mut by_experiment: Vec<Vec<usize>> = vec![Vec::new(); problem.experiments.len()];
        for (i, m) in problem.measurements.iter().enumerate() {
            match &m.kind {
                DataKind::Typical => {}
                DataKind::Trajectory { individual } | DataKind::TimeToEvent { individual, .. } => by_individual[*individual].push(i),
                DataKind::Snapshot { .. } | DataKind::SnapshotStatistic(_) | DataKind::Bulk(_) => by_experiment[m.experiment].push(i),
            }
        }
        let mut individuals = Vec::new();
        let model = pool.model().clone();
        let by_name = places(&model);
        for (individual, measurements) in nlme.individuals.iter().zip(by_individual).filter(|(_, m)| !m.is_empty()) {
            let rows = Rows::new(pool.model(), &by_name, problem, individual.experiment, &measurements, &[]);
            let of_class = |class| Coordinates::new(problem, &nlme.random_effects, &rows, class);
            let classes = subpopulations.classes().iter().map(of_class).collect::<Result<_, _>>()?;
            let weight = problem.measurements[measurements[0]].weight;
            let experiment = problem.experiments[individual.experiment].id.clone();
            individuals.push(IndividualData {
                id: individual.id.clone(),
                experiment,
                group: individual.group.clone(),
                rows,
                classes,
                weight,
            });
        }
        let mut rows = Vec::new();
        for (experiment, measurements) in by_experiment.into_iter().enumerate().filter(|(_, m)| !m.is_empty()) {
            for group in sharing_nodes(&model, problem, nlme, experiment, measurements) {
                rows.push(PopulationRows::new(&pool, problem, nlme, experiment, &group, &subpopulations, options)?);
            }
        }
        let seed = options.nodes(nlme).1;
        // An unknown hint has had its warning.
        let hint = nlme.defaults.individual_integration.as_deref().and_then(|hint| hint.parse().ok());
        let integration = options.integration.or(hint).unwrap_or_default();
        if integration.view() != View::Simulated {
            refuse_other_noise(integration, &individuals)?;
        }
        // The gradient of a simulated likelihood is no more accurate than the simulation.
        let ebe = EbeOptions { tolerance: EbeOptions::default().tolerance.max(100.0 * pool.options().rtol), ..EbeOptions::default() };
        let effects = |data: &IndividualData| data.classes.iter().map(|c| c.effects.len()).max().unwrap_or(0);
        let most = individuals.iter().map(|i| (i, effects(i))).max_by_key(|(_, n)| *n);
        if let Some((data, n)) = most
            && let Some(reason) = integration.too_many_effects(n)
        {
            return Err(format!("{reason} (`{}` has {n} random effects)", data.id));
        }
        let marginal_options = |n: usize| {
            let rule = match integration {
                Integration::GaussHermite(points) => Some(Rule::gauss_hermite(n, points)),
                Integration::Importance(draws) => Rule::draws(n, draws, seed),
                _ => None,
            };
            MarginalOptions { curvature: integration.curvature(), rule, ebe: ebe.clone() }
        };
        let options: Vec<MarginalOptions> = (0..=most.map_or(0, |(_, n)| n)).map(marginal_options).collect();
        let groups = Group::all(&nlme.random_effects, &individuals, &|n| {
            if integration.view() != View::Simulated || integration == Integration::Exact {
                return Err(format!("random effects of groups with the method {integration}"));
            }
            match integration.too_many_effects(n) {
                Some(reason) => Err(reason),
                None => Ok(marginal_options(n)),
            }
        })?;
        if !groups.is_empty() && subpopulations.classes().len() > 1 {
            return Err("subpopulations together with random effects of groups".into());
        }
        let searching = options
            .iter()
            .enumerate()
            .map(|(n, options)| {
                let points = sobol_normal(SEARCH_POINTS, n, seed);
                let starts = if n == 0 { Vec::new() } else { points.chunks(n).map(DVector::from_row_slice).collect() };
                MarginalOptions { ebe: EbeOptions { starts, ..options.ebe.clone() }, ..options.clone() }
            })
            .collect();
        Ok(Population { pool, covariance, subpopulations, effect_ids, individuals, groups, rows, integration, options, searching })
    }

    /// Ids of the random effects.
    pub fn effects(&self) -> &[String] {
        &self.effect_ids
    }

    /// How the random effects of single individuals are integrated out.
    pub fn integration(&self) -> Integration {
        self.integration
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
        let mut memory = Memory::default();
        self.make_room(&mut memory);
        memory
    }

    /// Gives every individual and class a warm start, empty where there is none yet.
    fn make_room(&self, memory: &mut Memory) {
        memory.warm.resize(self.individuals.len(), vec![WarmStart::default(); self.subpopulations.classes().len()]);
    }

    /// The classes of the population.
    pub fn subpopulations(&self) -> &Subpopulations {
        &self.subpopulations
    }

    /// Runs `task` on the conditional likelihood of an individual of a class.
    fn with_individual<R>(
        &self,
        data: &IndividualData,
        class: usize,
        natural: &[f64],
        task: impl FnOnce(&mut SimulatedIndividual) -> Result<R, EvaluationError>,
    ) -> Result<R, EvaluationError> {
        self.pool
            .with(|worker: &mut Worker| {
                task(&mut SimulatedIndividual {
                    worker,
                    rows: &data.rows,
                    coordinates: &data.classes[class].all,
                    random: &data.classes[class].random,
                    natural: self.subpopulations.classes()[class].natural(natural),
                    experiment: &data.experiment,
                    individual: &data.id,
                    view: View::default(),
                    typical: None,
                    last: None,
                })
            })
            .map_err(|e| failure(&data.experiment, Some(&data.id), e))?
    }

    /// The marginal of one individual were it of a class. Where nothing is known of its mode, the search begins at several points.
    fn marginal(
        &self,
        data: &IndividualData,
        class: usize,
        natural: &[f64],
        omega: &Omega,
        warm: &mut WarmStart,
    ) -> Result<IndividualTerm, EvaluationError> {
        let n = data.classes[class].effects.len();
        let options = if warm.is_empty() { &self.searching[n] } else { &self.options[n] };
        self.with_individual(data, class, natural, |c| self.marginal_of(c, data, class, natural, omega, warm, options, Order::Value))
    }

    /// Settings of a search from several points: quasi-random ones, and where the searches of other individuals with the same effects ended
    /// last (`estimates`). Of cells that are alike, those whose search went astray find their mode by those whose did not.
    /// `anew`: from more of them.
    fn searching(
        &self,
        individual: usize,
        class: usize,
        omega: &Omega,
        estimates: &[Vec<Option<DVector<f64>>>],
        anew: bool,
    ) -> MarginalOptions {
        let effects = &self.individuals[individual].classes[class].effects;
        let mut options = self.searching[effects.len()].clone();
        let same = |i: &usize| *i != individual && &self.individuals[*i].classes[class].effects == effects;
        let known: Vec<&DVector<f64>> = (0..estimates.len()).filter(same).filter_map(|i| estimates[i][class].as_ref()).collect();
        let stride = known.len().div_ceil(NEIGHBOURS).max(1);
        let whitened = known.into_iter().skip(individual % stride).step_by(stride).map(|b| omega.whiten(b));
        options.ebe.starts.extend(whitened.filter(|u| u.iter().all(|x| x.is_finite())));
        if anew {
            options.ebe.descents = DESCENTS_ANEW;
        }
        options
    }

    #[allow(clippy::too_many_arguments)]
    fn marginal_of(
        &self,
        conditional: &mut SimulatedIndividual,
        data: &IndividualData,
        class: usize,
        natural: &[f64],
        omega: &Omega,
        warm: &mut WarmStart,
        options: &MarginalOptions,
        order: Order,
    ) -> Result<IndividualTerm, EvaluationError> {
        let typical = data.classes[class].typical(natural);
        let (n, targets) = (typical.len(), &data.classes[class].targets);
        conditional.view = self.integration.view();
        let phi = typical.repeat(conditional.dimension() / n.max(1));
        let exact = self.integration == Integration::Exact && !targets.is_empty();
        let named = |e: EvaluationError| match e {
            EvaluationError::Inner(message) => EvaluationError::Inner(format!("individual `{}`: {message}", data.id)),
            other => other,
        };
        let laplace_order = if exact { Order::Value } else { order };
        let term = individual_marginal(conditional, &phi, targets, omega, options, warm, laplace_order).map_err(named);
        if conditional.view != View::Simulated {
            (conditional.view, conditional.last) = (View::Simulated, None);
        }
        let mut term = term?;
        if exact {
            let integral = cubature(conditional, &phi, targets, omega, &term, &CubatureOptions::default(), order).map_err(named)?;
            (term.value, term.d_phi, term.d_parameters) = (integral.value, integral.d_phi, integral.d_parameters);
        }
        // A view's vector holds phi_typical twice.
        if term.d_phi.len() > n {
            term.d_phi = term.d_phi.rows(0, n) + term.d_phi.rows(n, n);
        }
        Ok(term)
    }

    /// Adds the population's value, gradient and curvature to an evaluation.
    ///
    /// The curvature of an individual is the expected information of its model linearised at the empirical Bayes estimate, see
    /// [`linearised_information`]; that of population rows is Gauss-Newton. Outer products of the gradients, the other usual choice, make far too
    /// short steps where the fit is bad.
    pub fn add(
        &self,
        map: &ParameterMap,
        x: &[f64],
        order: Order,
        memory: &mut Memory,
        evaluation: &mut Evaluation,
    ) -> Result<(), EvaluationError> {
        self.contributions(map, x, order, memory, &mut |weight, part| part.add(weight, evaluation))
    }

    /// Gradients by x of what individuals (or groups) and measured statistics add to the objective, which are independent of each other: those of
    /// individuals first.
    pub fn scores(&self, map: &ParameterMap, x: &[f64], memory: &mut Memory) -> Result<Vec<DVector<f64>>, EvaluationError> {
        let mut scores = Vec::new();
        self.contributions(map, x, Order::Gradient, memory, &mut |weight, part| {
            let mut score = DVector::zeros(x.len());
            part.add_gradient(weight, &mut score);
            scores.push(score);
        })?;
        Ok(scores)
    }

    /// Adds the information about x that the likelihood has, for a large number of individuals: the outer products of their scores (Berndt, Hall, Hall and
    /// Hausman 1974), and the expected information of measured statistics.
    pub fn add_score_information(
        &self,
        map: &ParameterMap,
        x: &[f64],
        memory: &mut Memory,
        information: &mut DMatrix<f64>,
    ) -> Result<(), EvaluationError> {
        let mut units = self.units();
        self.contributions(map, x, Order::Fisher, memory, &mut |weight, part| {
            if units > 0 {
                units -= 1;
                let mut score = DVector::zeros(x.len());
                part.add_gradient(weight, &mut score);
                information.ger(1.0, &score, &score, 1.0);
            } else if let Some(own) = &part.information {
                add_information(information, own, &part.slopes, weight);
            }
        })
    }

    /// Number of individuals, or of groups where they share random effects: independent terms of the likelihood.
    pub fn units(&self) -> usize {
        if self.groups.is_empty() { self.individuals.len() } else { self.groups.len() }
    }

    /// Hands what individuals, or groups of them, and population rows contribute to `each`, with its weight. The order does not depend on the
    /// number of threads.
    fn contributions(
        &self,
        map: &ParameterMap,
        x: &[f64],
        order: Order,
        memory: &mut Memory,
        each: &mut dyn FnMut(f64, &Contribution),
    ) -> Result<(), EvaluationError> {
        let natural = map.natural(x);
        let omega = self.covariance.evaluate(&natural)?;
        let probabilities = self.subpopulations.probabilities(&natural)?;
        let chain = Chain::new(map, natural.len());
        self.make_room(memory);
        if self.groups.is_empty() {
            let parts = self.individual_parts(&natural, &omega, &probabilities, &chain, order, memory);
            for (data, part) in self.individuals.iter().zip(parts) {
                each(data.weight, &part?);
            }
        } else {
            for (group, part) in self.groups.iter().zip(self.group_parts(&natural, &omega, &chain, order, memory)) {
                each(group.weight, &part?);
            }
        }
        for rows in &self.rows {
            rows.contributions(&self.pool, &natural, &omega, &probabilities, &chain, order, each)?;
        }
        Ok(())
    }

    fn individual_parts(
        &self,
        natural: &[f64],
        omega: &Omega,
        probabilities: &Probabilities,
        chain: &Chain,
        order: Order,
        memory: &mut Memory,
    ) -> Vec<Result<Contribution, EvaluationError>> {
        let anew = memory.gradients.is_multiple_of(SEARCH_ANEW);
        let search = order > Order::Value && (anew || memory.gradients < SEARCH_ALWAYS);
        memory.gradients += usize::from(order > Order::Value);
        let estimates = |classes: &Vec<WarmStart>| classes.iter().map(WarmStart::estimate).collect();
        let neighbours: Vec<Vec<Option<DVector<f64>>>> = if search { memory.warm.iter().map(estimates).collect() } else { Vec::new() };
        self.individuals
            .par_iter()
            .zip(memory.warm.par_iter_mut())
            .enumerate()
            .map(|(i, (data, warm))| {
                let part_of = |(class, warm): (usize, &mut WarmStart)| {
                    let coordinates = &data.classes[class];
                    let block = omega.select(&coordinates.effects);
                    let options = match search && (anew || !warm.is_settled()) {
                        true => self.searching(i, class, &block, &neighbours, anew),
                        false => self.options[coordinates.effects.len()].clone(),
                    };
                    self.with_individual(data, class, natural, |c| {
                        let term = self.marginal_of(c, data, class, natural, &block, warm, &options, order)?;
                        let slopes = || chain.slopes(natural, &coordinates.all, &block.parameters);
                        let mut part = Contribution::of_term(&term, order, slopes);
                        if order == Order::Fisher {
                            let targets = &coordinates.targets;
                            let phi = cell_parameters(&coordinates.typical(natural), targets, &term.b);
                            part.information = Some(linearised_information(&c.information(&phi)?, targets, &block)?);
                        }
                        Ok(part)
                    })
                };
                let mixed = probabilities.mix(warm.iter_mut().enumerate().map(part_of), |part| part.value)?;
                Ok(mixture_part(mixed, probabilities, chain.slopes(natural, &[], &probabilities.parameters), order))
            })
            .collect()
    }

    fn group_parts(
        &self,
        natural: &[f64],
        omega: &Omega,
        chain: &Chain,
        order: Order,
        memory: &mut Memory,
    ) -> Vec<Result<Contribution, EvaluationError>> {
        (self.groups.par_iter().zip(memory.warm.par_iter_mut()))
            .map(|(group, warm)| {
                let (term, information) = group.marginal(&self.pool, &self.individuals, natural, omega, &mut warm[0], order)?;
                let slopes = || group.slopes(&self.individuals, natural, omega, chain);
                let mut part = Contribution::of_term(&term, order, slopes);
                if let Some((information, omega)) = information {
                    part.information = Some(linearised_information(&information, &group.layout.targets, &omega)?);
                }
                Ok(part)
            })
            .collect()
    }

    /// Negative log marginal likelihood of all individuals by importance sampling with `draws` draws each, from a t distribution with five
    /// degrees of freedom around the empirical Bayes estimate (quasi-random, seeded). `memory` knows of the estimates near `natural`, or is fresh.
    pub fn importance(&self, natural: &[f64], draws: usize, seed: u64, memory: &mut Memory) -> Result<ImportanceSummary, EvaluationError> {
        self.make_room(memory);
        let omega = self.covariance.evaluate(natural)?;
        let probabilities = self.subpopulations.probabilities(natural)?;
        let proposals: Vec<Option<Proposal>> = (0..=self.effect_ids.len())
            .map(|n| Proposal::student(&DMatrix::from_vec(n + 1, draws, sobol_normal(draws, n + 1, seed)), PROPOSAL_DEGREES))
            .collect();
        let alone = if self.groups.is_empty() { &self.individuals[..] } else { &[] };
        let parts: Vec<Result<_, EvaluationError>> = (alone.par_iter().zip(memory.warm.par_iter_mut()))
            .map(|(data, warm)| {
                let in_class = |((class, coordinates), warm): ((usize, &Coordinates), &mut WarmStart)| {
                    let block = omega.select(&coordinates.effects);
                    let term = self.marginal(data, class, natural, &block, warm)?;
                    let phi = coordinates.typical(natural);
                    let proposal = proposals[coordinates.effects.len()].as_ref();
                    let proposal = proposal.ok_or_else(|| EvaluationError::Inner("importance sampling needs draws".into()))?;
                    let sample = |c: &mut SimulatedIndividual| importance_sampling(c, &phi, &coordinates.targets, &block, &term, proposal);
                    self.with_individual(data, class, natural, sample)
                };
                let mixed = probabilities.mix(data.classes.iter().enumerate().zip(warm).map(in_class), |i| i.value)?;
                // The classes were sampled apart, so their errors are independent; that of one that is improbable does not matter.
                let parts = || mixed.members.iter().map(|(_, share, i)| (i, share)).filter(|(_, share)| **share > 1e-3);
                Ok(Importance {
                    value: mixed.value,
                    standard_error: parts().map(|(i, share)| share * i.standard_error).fold(0.0, f64::hypot),
                    effective_sample_size: parts().map(|(i, _)| i.effective_sample_size).fold(f64::INFINITY, f64::min),
                    pareto_shape: parts().map(|(i, _)| i.pareto_shape).fold(f64::NEG_INFINITY, f64::max),
                    failed: parts().map(|(i, _)| i.failed).sum(),
                })
            })
            .collect();
        let grouped: Vec<Result<Importance, EvaluationError>> = (self.groups.par_iter().zip(memory.warm.par_iter_mut()))
            .map(|(group, warm)| {
                let (term, _) = group.marginal(&self.pool, &self.individuals, natural, &omega, &mut warm[0], Order::Value)?;
                let targets = &group.layout.targets;
                let proposal = Proposal::student(&Nodes::sobol(targets.len() + 1, draws, seed).z, PROPOSAL_DEGREES);
                let proposal = proposal.ok_or_else(|| EvaluationError::Inner("importance sampling needs draws".into()))?;
                group.with(&self.pool, &self.individuals, natural, &omega, |c, phi, omega| {
                    importance_sampling(c, phi, targets, omega, &term, &proposal)
                })
            })
            .collect();
        let mut summary = ImportanceSummary::none();
        let units = alone.iter().map(|data| (&data.id, data.weight)).chain(self.groups.iter().map(|group| (&group.id, group.weight)));
        for ((id, weight), part) in units.zip(parts.into_iter().chain(grouped)) {
            let i = part?;
            summary.add(ImportanceSummary {
                value: weight * i.value,
                standard_error: weight * i.standard_error,
                worst_pareto_shape: i.pareto_shape,
                least_sample_size: i.effective_sample_size,
                individuals: vec![(id.clone(), i.value, i.standard_error)],
            });
        }
        Ok(summary)
    }

    /// The largest error of a population row that comes from its quasi-random nodes, in units of the data's error; `None` where there are none. For
    /// single cells it is the error of their log-likelihood together.
    pub fn monte_carlo(&self, natural: &[f64]) -> Result<Option<MonteCarlo>, EvaluationError> {
        let omega = self.covariance.evaluate(natural)?;
        let probabilities = self.subpopulations.probabilities(natural)?;
        let mut worst: Option<MonteCarlo> = None;
        for rows in &self.rows {
            if let Some(found) = rows.monte_carlo(&self.pool, natural, &omega, &probabilities)?
                && worst.as_ref().is_none_or(|w| w.ratio < found.ratio)
            {
                worst = Some(found);
            }
        }
        Ok(worst)
    }

    /// Adds terms, individuals and simulations to a summary. `memory` knows of the estimates near `natural`, or is fresh.
    pub fn summarise(&self, natural: &[f64], memory: &mut Memory, summary: &mut Summary) -> Result<(), EvaluationError> {
        self.make_room(memory);
        let omega = self.covariance.evaluate(natural)?;
        let probabilities = self.subpopulations.probabilities(natural)?;
        let alone = if self.groups.is_empty() { &self.individuals[..] } else { &[] };
        let mut parts: Vec<Result<(usize, AtEstimate), EvaluationError>> = (alone.par_iter().zip(memory.warm.par_iter_mut()).enumerate())
            .map(|(i, (data, warm))| {
                let in_class = |((class, c), warm): ((usize, &Coordinates), &mut WarmStart)| {
                    self.marginal(data, class, natural, &omega.select(&c.effects), warm)
                };
                let mixed = probabilities.mix(data.classes.iter().enumerate().zip(warm).map(in_class), |term| term.value)?;
                let mut posterior = vec![0.0; probabilities.values.len()];
                mixed.members.iter().for_each(|(class, share, _)| posterior[*class] = *share);
                let (value, best) = (mixed.value, mixed.members.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)));
                let (class, _, term) = best.ok_or_else(|| EvaluationError::Inner("an individual of no class".into()))?;
                let c = &data.classes[class];
                let estimate = MemberEstimate {
                    b: term.b.iter().copied().collect(),
                    variances: term.posterior.diagonal().iter().copied().collect(),
                    phi: cell_parameters(&c.typical(natural), &c.targets, &term.b),
                };
                Ok((i, AtEstimate { value, class, posterior, estimate, flags: term.flags, group: None }))
            })
            .collect();
        let grouped: Vec<Result<Vec<_>, EvaluationError>> = (self.groups.par_iter().zip(memory.warm.par_iter_mut()))
            .map(|(group, warm)| {
                let (term, _) = group.marginal(&self.pool, &self.individuals, natural, &omega, &mut warm[0], Order::Value)?;
                let member = |(number, i): (usize, &usize)| {
                    let c = &self.individuals[*i].classes[0];
                    let estimate = group.of_member(number, c, &c.typical(natural), &term);
                    let (value, flags) = (term.value, term.flags);
                    (*i, AtEstimate { value, class: 0, posterior: vec![1.0], estimate, flags, group: Some(group.id.clone()) })
                };
                Ok(group.members.iter().enumerate().map(member).collect())
            })
            .collect();
        for members in grouped {
            parts.extend(members?.into_iter().map(Ok));
        }
        let mut parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
        parts.sort_by_key(|(i, _)| *i);
        let mut total = 0.0;
        let mut counted: Vec<&str> = Vec::new();
        for (i, at) in &parts {
            let data = &self.individuals[*i];
            let AtEstimate { estimate, flags, .. } = at;
            let s = self.with_individual(data, at.class, natural, |c| c.simulate(&estimate.phi, &[], Derivatives::None))?;
            match &at.group {
                Some(group) if counted.contains(&group.as_str()) => {}
                group => {
                    total += data.weight * at.value;
                    counted.extend(group.as_deref());
                }
            }
            for (r, row) in data.rows.rows.iter().enumerate() {
                summary.simulations[row.measurement] = s.y[r];
                summary.sigmas[row.measurement] = s.sigma[r];
            }
            let mut status = Vec::new();
            if !flags.converged {
                status.push("estimate not converged");
            }
            if flags.floored > 0 {
                status.push("curvature not positive definite");
            }
            if flags.far {
                status.push("far from the typical individual");
            }
            let c = &data.classes[at.class];
            let classes = self.subpopulations.classes().iter().zip(&at.posterior).filter(|(class, _)| !class.id.is_empty());
            let moved = (0..c.all.len()).filter(|k| c.random[*k]);
            summary.individuals.push(IndividualSummary {
                id: data.id.clone(),
                experiment: data.experiment.clone(),
                nll: at.value,
                ebe: c.effects.iter().zip(&estimate.b).map(|(e, b)| (self.effect_ids[*e].clone(), *b)).collect(),
                posterior_sd: estimate.variances.iter().map(|v| v.sqrt()).collect(),
                group: at.group.clone(),
                parameters: moved.map(|k| (c.all[k].source, c.all[k].kind.natural(estimate.phi[k]).0)).collect(),
                subpopulations: classes.map(|(class, p)| (class.id.clone(), *p)).collect(),
                status: status.join("; "),
            });
        }
        if !self.individuals.is_empty() {
            summary.terms.push(("trajectory", total));
        }
        for rows in &self.rows {
            rows.summarise(&self.pool, natural, &omega, &probabilities, summary)?;
        }
        Ok(())
    }
}
