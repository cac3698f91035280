//! `mixode fit`: multi-start estimation, uncertainty, run directory.

use super::evaluate::{compile, objective_of};
use super::load::Loaded;
use super::pooled::PooledStart;
use super::progress::Progress;
use super::{PopulationArguments, PriorConvention, ProblemArguments, SolverArguments, Status, describe, fail, series};
use crate::estimate::multistart::{MultistartOptions, Stages, multistart_staged, refine_best};
use crate::estimate::trust_region;
use crate::estimate::uncertainty::{Uncertainty, sandwich, uncertainty_from, uncertainty_of};
use crate::estimate::{Fit, Start};
use crate::likelihood::Objective;
use crate::likelihood::adjoint::{Choice, Request};
use crate::likelihood::individual::Curvature;
use crate::likelihood::integration::Integration;
use crate::likelihood::population::{ImportanceSummary, Memory, Population, PopulationOptions};
use crate::likelihood::population_rows::MonteCarlo;
use crate::likelihood::prior::Convention;
use crate::likelihood::problem::{ProblemObjective, Summary};
use crate::petab::{self, Problem, Transformation};
use crate::report::{self, CellRow, ObjectiveSummary, ParameterRow, RandomEffectRow, RunInfo, RunResults};
use nalgebra::DMatrix;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How gradients are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Gradient {
    /// Forward, unless adjoint is far cheaper by estimate
    Auto,
    /// Forward sensitivities
    Forward,
    /// Adjoint sensitivities
    Adjoint,
}

impl Gradient {
    pub(super) fn request(self) -> Request {
        match self {
            Gradient::Auto => Request::Auto,
            Gradient::Forward => Request::Forward,
            Gradient::Adjoint => Request::Adjoint,
        }
    }
}

/// What adjoint gradients have to gain for `auto` to take them: without Fisher information an optimisation takes several times as many
/// iterations.
const ADVANTAGE: f64 = 5.0;

/// Arguments of `fit`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    problem: ProblemArguments,
    /// Run directory; it must not exist (default: NAME-fit-001 and so on here)
    #[arg(short = 'o', long)]
    out: Option<PathBuf>,
    /// Number of starting points (Latin hypercube between the bounds, or over the problem's priors for them)
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Seed of the starting points
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first start begins at the nominal values
    #[arg(long)]
    nominal: bool,
    /// Gradient of ordinary rows: forward sensitivities give a Fisher information besides, with adjoint ones the curvature is learnt (BFGS)
    #[arg(long, value_enum, default_value = "auto")]
    gradient: Gradient,
    /// Stop each start after this many iterations
    #[arg(long, default_value_t = 1000)]
    max_iterations: usize,
    /// Stop each start after this many seconds with what it has
    #[arg(long, value_name = "SECONDS")]
    time: Option<f64>,
    /// Leave out standard errors
    #[arg(long)]
    no_uncertainty: bool,
    /// Draws per individual for the likelihood by importance sampling (0: none; default: 500, fewer with more than 1000 individuals)
    #[arg(long)]
    importance: Option<usize>,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// What the objective priors of a PEtab 1 problem mean
    #[arg(long, value_enum, default_value = "own-scale")]
    prior_convention: PriorConvention,
    #[command(flatten)]
    population: PopulationArguments,
    #[command(flatten)]
    solver: SolverArguments,
}

/// Runs `fit`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    arguments.solver.start_threads();
    let begin = Instant::now();
    let loaded = arguments.problem.load()?;
    let directory = match &arguments.out {
        Some(path) => path.clone(),
        None => report::next_run_directory(Path::new("."), &loaded.problem.name),
    };
    if directory.exists() {
        return Err(fail(Status::Files, format_args!("{} exists already; a run directory is never overwritten", directory.display())));
    }
    let models = compile(&loaded)?;
    let solver = solver_options(arguments, &loaded.problem);
    let objective_with = |problems: &[&Problem], options: &PopulationOptions| {
        objective_of(&models, problems, solver.clone(), options)
            .map(|o| o.with_convention(&loaded.problem, arguments.prior_convention.into()))
    };
    let problems: Vec<&Problem> = loaded.parts().map(|part| &part.problem).collect();
    let mut objective = objective_with(&problems, &arguments.population.options())?;
    let nominal = objective.map().nominal().to_vec();
    let choice = objective.choose_method(arguments.gradient.request(), ADVANTAGE, &nominal);
    if !arguments.quiet && objective.has_ordinary_rows() {
        eprintln!("{}", choice.reason);
    }
    if objective.parameters().is_empty() {
        return Err(fail(Status::Input, "the problem has no parameter to estimate"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupts(&stop);
    let options = MultistartOptions {
        starts: arguments.starts,
        seed: arguments.seed,
        include_nominal: arguments.nominal,
        optimiser: trust_region::Options {
            max_iterations: arguments.max_iterations,
            time: arguments.time.map(Duration::from_secs_f64),
            // Below this a change of the likelihood means nothing, and the errors of the simulations begin.
            function_absolute: match loaded.problem.nlme.is_some() {
                true => 1e-5_f64.max(1e-6 * objective.individuals() as f64),
                false => trust_region::Options::default().function_absolute,
            },
            noise: if loaded.problem.nlme.is_some() { (1e-5, 1e-9) } else { (0.0, 0.0) },
            ..trust_region::Options::default()
        },
    };
    let minimised = if objective.priors().is_empty() { "-log L" } else { "-log posterior" };
    let progress = Progress::new(arguments.starts, minimised, arguments.quiet);
    // A part of many individuals leads close to the optimum of all, and so does the Gauss-Newton determinant, whose gradient needs no third
    // derivatives.
    let fewer = few_individuals(&problems);
    let first: Vec<&Problem> = fewer.as_ref().map_or_else(|| problems.clone(), |fewer| fewer.iter().collect());
    let exact = objective.populations().any(|p| p.individuals() > 0 && p.integration().curvature() == Curvature::Exact);
    let coarse = match (exact, &fewer) {
        (true, _) => Some(objective_with(
            &first,
            &PopulationOptions { integration: Some(Integration::GaussNewton), ..arguments.population.options() },
        )?),
        (false, Some(_)) => Some(objective_with(&first, &arguments.population.options())?),
        (false, None) => None,
    };
    let pooled = match objective.individuals() > 0 {
        true => PooledStart::new(&models, &first, solver.clone(), arguments.seed),
        false => None,
    };
    let prepare =
        |index: usize, point: &[f64]| pooled.as_ref().map_or_else(|| point.to_vec(), |pooled| pooled.prepare(index, point, &stop));
    let stages = Stages { coarse: coarse.as_ref(), shares_memory: fewer.is_none(), prepare: Some(&prepare) };
    let (mut fit, mut memory) = multistart_staged(&stages, &objective, &options, &|start: &Start| progress.finished(start), &stop);
    progress.done();
    // Nodes are added until their error is small beside that of the data. What the user asked for stays.
    let mut monte_carlo = monte_carlo(&objective, &fit)?;
    while let Some(error) = monte_carlo.as_ref().filter(|e| e.ratio > NODES_ERROR && e.nodes < MOST_NODES) {
        if arguments.population.nodes.is_some() || stop.load(Ordering::Relaxed) {
            break;
        }
        let wanted = error.nodes as f64 * (error.ratio / NODES_ERROR).min(16.0);
        let nodes = (wanted as usize).next_power_of_two().clamp(2 * error.nodes, MOST_NODES);
        if !arguments.quiet {
            eprintln!("{}: going on with {nodes}", describe_error(error));
        }
        objective = objective_with(&problems, &PopulationOptions { nodes: Some(nodes), ..arguments.population.options() })?;
        memory = refine_best(&mut fit, &objective, &options, &stop);
        monte_carlo = self::monte_carlo(&objective, &fit)?;
    }
    let interrupted = stop.load(Ordering::Relaxed);
    let best = fit.best().cloned();
    let mut at_best = match &best {
        None => None,
        Some(start) => {
            let memory = memory.unwrap_or_else(|| objective.memory());
            Some(AtBest::new(&objective, start, memory, arguments, interrupted)?)
        }
    };
    if let (Some(best), Some(error)) = (&mut at_best, &monte_carlo) {
        best.warnings.extend((error.ratio > NODES_ERROR).then(|| format!("{}; `--nodes` adds some", describe_error(error))));
        best.monte_carlo = Some(describe_error(error));
    }
    let results = results(arguments, &loaded, &objective, &choice, fit, at_best.as_ref(), begin.elapsed().as_secs_f64());
    report::write_run(&directory, &results).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            fail(Status::Files, format_args!("{} exists already; a run directory is never overwritten", directory.display()))
        }
        _ => fail(Status::Files, format_args!("cannot write {}: {e}", directory.display())),
    })?;
    print!("{}", report::summary_text(&results));
    println!("report: {}", directory.join("report.html").display());
    match (best, interrupted) {
        (_, true) => Err(Status::Interrupted),
        (None, _) => Err(fail(Status::Numerics, "no start produced a value; the run directory's starts.tsv has the reasons")),
        _ => Ok(()),
    }
}

/// Error of population statistics by their nodes up to which it does no harm, in units of the data's error (NLME.md 8.2).
const NODES_ERROR: f64 = 0.1;

/// Nodes are not added beyond this number.
const MOST_NODES: usize = 1 << 16;

/// The error of population statistics by their nodes at the best point.
fn monte_carlo(objective: &ProblemObjective, fit: &Fit) -> Result<Option<MonteCarlo>, Status> {
    let Some(best) = fit.best() else { return Ok(None) };
    objective.monte_carlo(&objective.map().natural(&best.point)).map_err(|e| fail(Status::Numerics, e))
}

fn describe_error(error: &MonteCarlo) -> String {
    format!(
        "with {} nodes population statistics are off by up to {:.2} of the data's error (experiment `{}`, eight scrambles)",
        error.nodes, error.ratio, error.experiment
    )
}

/// Settings of the integrator: populations take thousands of simulations, and their likelihood is smooth enough at looser tolerances.
fn solver_options(arguments: &Arguments, problem: &Problem) -> crate::ode::Options {
    let mut default = crate::ode::Options::default();
    if problem.nlme.is_some() {
        (default.rtol, default.atol) = (1e-8, 1e-10);
    }
    arguments.solver.options_or(default)
}

/// What is computed at the best point.
struct AtBest {
    natural: Vec<f64>,
    x: Vec<f64>,
    summary: Summary,
    uncertainty: Option<Uncertainty>,
    /// Covariance of the estimates by the sandwich.
    robust: Option<DMatrix<f64>>,
    importance: Option<ImportanceSummary>,
    warnings: Vec<String>,
    /// Error of population statistics by their nodes, in words.
    monte_carlo: Option<String>,
}

impl AtBest {
    fn new(
        objective: &ProblemObjective,
        start: &Start,
        mut memory: Vec<Memory>,
        arguments: &Arguments,
        interrupted: bool,
    ) -> Result<Self, Status> {
        let numerics = |e| fail(Status::Numerics, e);
        let natural = objective.map().natural(&start.point);
        let mut summary = objective.summary_from(&natural, &mut memory).map_err(numerics)?;
        let units: usize = objective.populations().map(Population::units).sum();
        let mut warnings = Vec::new();
        let mut errors = None;
        if !arguments.no_uncertainty && !interrupted {
            let found = match units > BY_SCORES {
                true => {
                    objective.score_information(&start.point, &mut memory).map(|i| uncertainty_of(objective.parameters(), &start.point, &i))
                }
                false => uncertainty_from(objective, &start.point, &memory),
            };
            match found {
                Ok(u) => {
                    if u.covariance.is_none() {
                        warnings.push("the observed information is singular or not positive definite: no standard errors".to_string());
                    }
                    let parameters = objective.parameters().iter().enumerate();
                    let kinks: Vec<&str> =
                        parameters.filter(|(k, _)| objective.priors().at_kink(*k, &natural)).map(|(_, p)| p.id.as_str()).collect();
                    if !kinks.is_empty() {
                        let names = kinks.join(", ");
                        warnings.push(format!("at the peak of its Laplace prior, so held fixed and without standard error: {names}"));
                    }
                    errors = Some(u);
                }
                Err(e) => warnings.push(format!("no standard errors: {e}")),
            }
        }
        // Ordinary measurements share what the model gets wrong, so that they are no independent terms.
        let robust = match errors.as_ref().and_then(|u: &Uncertainty| u.covariance.as_ref()).filter(|_| (1..=BY_SCORES).contains(&units)) {
            Some(covariance) => Some(sandwich(covariance, &objective.scores(&start.point, &mut memory).map_err(numerics)?)),
            None => None,
        };
        let mut importance = None;
        let draws = arguments.importance.unwrap_or_else(|| usual_draws(units));
        if units > 0 && draws > 0 && !interrupted {
            match objective.importance_from(&natural, draws, arguments.seed, &mut memory) {
                Ok(i) => {
                    let integration = objective.populations().find(|p| p.individuals() > 0).map(Population::integration);
                    warnings.extend(compare(&mut summary, &i, integration.unwrap_or_default()));
                    if i.worst_pareto_shape > 0.7 {
                        warnings.push(format!(
                            "importance sampling is not reliable for every individual (largest Pareto shape {:.2})",
                            i.worst_pareto_shape
                        ));
                    }
                    importance = Some(i);
                }
                Err(e) => warnings.push(format!("no likelihood by importance sampling: {e}")),
            }
        }
        let troubled = summary.individuals.iter().filter(|i| !i.status.is_empty()).count();
        if troubled > 0 {
            warnings.push(format!("{troubled} individuals need attention, see the status column of cells.tsv"));
        }
        Ok(AtBest { natural, x: start.point.clone(), summary, uncertainty: errors, robust, importance, warnings, monte_carlo: None })
    }
}

/// With more individuals than these, standard errors come from the scores, whose sum of squares then is as good an information matrix as differences of
/// the gradient, for one evaluation in the place of two per parameter.
const BY_SCORES: usize = 1000;

/// Draws of importance sampling per individual unless asked for: 500, fewer where there are many individuals, whose errors cancel.
fn usual_draws(individuals: usize) -> usize {
    (500_000 / individuals.max(1)).clamp(50, 500)
}

/// Individuals of a first fit where there are more than twice as many.
const FIRST_INDIVIDUALS: usize = 150;

/// The problems with a part of their individuals, spread evenly; whole groups where random effects are shared. `None` where there are few.
fn few_individuals(problems: &[&Problem]) -> Option<Vec<Problem>> {
    let ranks = |problem: &Problem| -> Vec<usize> {
        let Some(nlme) = &problem.nlme else { return Vec::new() };
        if !nlme.random_effects.iter().any(|e| e.of_group) {
            return (0..nlme.individuals.len()).collect();
        }
        let mut groups: indexmap::IndexSet<Option<&str>> = indexmap::IndexSet::new();
        nlme.individuals.iter().map(|i| groups.insert_full(i.group.as_deref()).0).collect()
    };
    let individuals: usize = problems.iter().flat_map(|p| &p.nlme).map(|n| n.individuals.len()).sum();
    if individuals <= 2 * FIRST_INDIVIDUALS {
        return None;
    }
    let stride = individuals / FIRST_INDIVIDUALS;
    let reduced = problems.iter().map(|problem| {
        let ranks = ranks(problem);
        problem.of_individuals(&|i| ranks.get(i).is_some_and(|rank| rank % stride == 0))
    });
    Some(reduced.collect())
}

/// How far the likelihood of an individual may be off.
const POOR: f64 = 0.1;

/// Marks the individuals whose likelihood by the method of the fit differs from that by importance sampling, and says so.
fn compare(summary: &mut Summary, importance: &ImportanceSummary, integration: Integration) -> Option<String> {
    let method = match integration {
        Integration::Laplace | Integration::GaussNewton => "Laplace approximation".to_string(),
        other => other.to_string(),
    };
    let mut worst: Option<(String, f64)> = None;
    let mut count = 0;
    let sampled: FxHashMap<&str, (f64, f64)> =
        importance.individuals.iter().map(|(id, value, error)| (id.as_str(), (*value, *error))).collect();
    for individual in &mut summary.individuals {
        let unit = individual.group.as_ref().unwrap_or(&individual.id);
        let Some((value, error)) = sampled.get(unit.as_str()) else { continue };
        let off = individual.nll - value;
        if off.abs() <= POOR.max(3.0 * error) {
            continue;
        }
        count += 1;
        if !individual.status.is_empty() {
            individual.status += "; ";
        }
        individual.status += &format!("{method} off by {off:.2}");
        if worst.as_ref().is_none_or(|(_, w)| w.abs() < off.abs()) {
            worst = Some((individual.id.clone(), off));
        }
    }
    let (id, off) = worst?;
    Some(format!(
        "-log L by {method} is off by more than {POOR} in {count} individuals (most in `{id}`: {off:.2}); -2 log L by importance sampling holds, \
         and `--integration exact` fits such individuals right where they have at most four random effects"
    ))
}

fn results(
    arguments: &Arguments,
    loaded: &Loaded,
    objective: &ProblemObjective,
    choice: &Choice,
    fit: Fit,
    at_best: Option<&AtBest>,
    seconds: f64,
) -> RunResults {
    let problem = &loaded.problem;
    let solver = solver_options(arguments, problem);
    let info = RunInfo {
        problem: problem.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        seed: arguments.seed,
        threads: rayon::current_num_threads(),
        inputs: problem.files.iter().map(|file| (file.path.display().to_string(), file.sha256.clone())).collect(),
        options: json!({"starts": arguments.starts, "seed": arguments.seed, "nominal": arguments.nominal, "max_iterations": arguments.max_iterations,
            "time": arguments.time, "importance": arguments.importance, "uncertainty": !arguments.no_uncertainty,
            "prior_convention": format!("{:?}", Convention::from(arguments.prior_convention)),
            "rtol": solver.rtol, "atol": solver.atol, "steady_state": [solver.steady_state.0, solver.steady_state.1], "sensitivity_factor": solver.sensitivity_factor,
            "gradient_method": {"method": choice.method.name(), "reason": choice.reason}, "max_steps": solver.max_steps}),
        seconds,
        warnings: at_best.map(|b| b.warnings.clone()).unwrap_or_default(),
        description: describe::description(loaded, arguments.prior_convention.into()),
    };
    let counts = objective.counts();
    let health = vec![
        ("simulations".to_string(), counts.simulations.to_string()),
        ("integrator steps".to_string(), counts.steps.to_string()),
        ("right-hand sides".to_string(), counts.rhs_evaluations.to_string()),
        ("factorisations".to_string(), counts.factorisations.to_string()),
        ("error test failures".to_string(), counts.error_test_failures.to_string()),
        (
            "tolerances".to_string(),
            format!("rtol {:e}, atol {:e}, sensitivities {} times looser", solver.rtol, solver.atol, solver.sensitivity_factor),
        ),
    ];
    let mut results = RunResults {
        info,
        objective: at_best.map_or_else(no_objective, |best| objective_summary(loaded, objective, best)),
        fit,
        parameters: Vec::new(),
        random_effects: Vec::new(),
        effect_ids: Vec::new(),
        cells: Vec::new(),
        series: Vec::new(),
        plots: Vec::new(),
        simulations_tsv: String::new(),
        parameters_tsv: String::new(),
        health,
    };
    let Some(best) = at_best else { return results };
    if let Some(i) = &best.importance {
        let laplace = best.summary.terms.iter().find(|(k, _)| *k == "trajectory").map_or(f64::NAN, |(_, v)| *v);
        results.health.push((
            "Laplace against importance sampling".to_string(),
            format!(
                "-log L of the individuals {:.4} by Laplace, {:.4} (standard error {:.4}) by importance sampling; smallest effective sample size {:.0}, largest Pareto shape {:.2}",
                laplace, i.value, i.standard_error, i.least_sample_size, i.worst_pareto_shape
            ),
        ));
    }
    results.health.extend(best.monte_carlo.iter().map(|text| ("quasi-random nodes".to_string(), text.clone())));
    results.parameters = parameter_rows(objective, best);
    population_tables(loaded, objective, best, &mut results);
    (results.series, results.plots) = series::all(loaded, objective, &best.natural, &best.summary);
    let mut bytes = Vec::new();
    if petab::write_simulations(problem, &best.summary.simulations, &mut bytes).is_ok() {
        results.simulations_tsv = String::from_utf8_lossy(&bytes).into_owned();
    }
    let mut bytes = Vec::new();
    if petab::write_parameters(problem, &best.natural, &mut bytes).is_ok() {
        results.parameters_tsv = String::from_utf8_lossy(&bytes).into_owned();
    }
    results
}

fn objective_summary(loaded: &Loaded, objective: &ProblemObjective, best: &AtBest) -> ObjectiveSummary {
    let individuals = objective.individuals();
    let n_parameters = objective.parameters().len();
    let n_data: usize = loaded.parts().map(|p| p.problem.measurements.len()).sum();
    let laplace = best.summary.terms.iter().find(|(k, _)| *k == "trajectory").map_or(0.0, |(_, v)| *v);
    // Without the priors, which are not data.
    let nll = -best.summary.llh;
    let (minus2ll, error, method) = match &best.importance {
        Some(i) => (2.0 * (nll - laplace + i.value), Some(2.0 * i.standard_error), "importance sampling"),
        None if individuals > 0 => (2.0 * nll, None, "Laplace"),
        None => (2.0 * nll, None, "exact"),
    };
    let log_prior = (!objective.priors().is_empty()).then(|| best.summary.log_prior.iter().map(|(_, v)| v).sum::<f64>());
    let terms = best.summary.terms.iter().map(|(kind, value)| (kind.to_string(), *value));
    let (bic_n, bic_unit) = if individuals > 0 { (individuals, "cells") } else { (n_data, "measurements") };
    ObjectiveSummary {
        nllh: best.summary.nllh,
        llh: best.summary.llh,
        log_prior,
        terms: terms.chain(log_prior.map(|v| ("prior".to_string(), -v))).collect(),
        n_parameters,
        n_data,
        n_individuals: individuals,
        aic: minus2ll + 2.0 * n_parameters as f64,
        bic: minus2ll + (bic_n as f64).ln() * n_parameters as f64,
        bic_n: format!("{bic_n} {bic_unit}"),
        minus2ll,
        method: method.to_string(),
        standard_error: error,
    }
}

/// The objective of a run in which no start had a value.
fn no_objective() -> ObjectiveSummary {
    ObjectiveSummary {
        nllh: f64::NAN,
        llh: f64::NAN,
        log_prior: None,
        terms: Vec::new(),
        n_parameters: 0,
        n_data: 0,
        n_individuals: 0,
        aic: f64::NAN,
        bic: f64::NAN,
        bic_n: String::new(),
        minus2ll: f64::NAN,
        method: "none".to_string(),
        standard_error: None,
    }
}

/// Half width of a 95 % interval in standard errors.
const Z95: f64 = 1.959_963_984_540_054;

fn parameter_rows(objective: &ProblemObjective, best: &AtBest) -> Vec<ParameterRow> {
    (objective.parameters().iter().enumerate())
        .map(|(k, p)| {
            let natural = p.scale.unscale(best.x[k]);
            let scaled_error =
                best.uncertainty.as_ref().and_then(|u| u.standard_error(k)).filter(|_| !objective.priors().at_kink(k, &best.natural));
            // The delta method carries the standard error to the natural scale; the interval is mapped itself.
            let to_natural = p.scale.derivative(natural).abs();
            let standard_error = scaled_error.map(|se| se * to_natural);
            let robust = best.robust.as_ref().filter(|_| scaled_error.is_some()).map(|c| c[(k, k)].sqrt() * to_natural);
            ParameterRow {
                id: p.id.clone(),
                scale: p.scale,
                estimate: natural,
                scaled: best.x[k],
                standard_error,
                robust_error: robust,
                rse: standard_error.map(|se| se / natural.abs()),
                lower95: scaled_error.map(|se| p.scale.unscale(best.x[k] - Z95 * se)),
                upper95: scaled_error.map(|se| p.scale.unscale(best.x[k] + Z95 * se)),
                lower_bound: p.scale.unscale(p.lower),
                upper_bound: p.scale.unscale(p.upper),
                at_bound: best.uncertainty.as_ref().is_some_and(|u| u.at_bound[k]),
                nominal: p.nominal.is_finite().then(|| p.scale.unscale(p.nominal)),
            }
        })
        .collect()
}

/// Random effects with shrinkage, and the individuals.
fn population_tables(loaded: &Loaded, objective: &ProblemObjective, best: &AtBest, results: &mut RunResults) {
    let (Some(population), Some(nlme)) = (objective.populations().next(), &loaded.problem.nlme) else { return };
    let Ok(omega) = population.omega(&best.natural) else { return };
    let individuals = &best.summary.individuals;
    let value_of = |i: usize, id: &str| individuals[i].ebe.iter().find(|(e, _)| e == id).map(|(_, b)| *b);
    for (k, effect) in nlme.random_effects.iter().enumerate() {
        let variance = omega.d[(k, k)];
        let estimates: Vec<f64> = (0..individuals.len()).filter_map(|i| value_of(i, &effect.id)).collect();
        let shrinkage = (estimates.len() > 1).then(|| {
            let mean = estimates.iter().sum::<f64>() / estimates.len() as f64;
            let spread = estimates.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (estimates.len() - 1) as f64;
            1.0 - spread / variance
        });
        // The coefficient of variation of a log-normal parameter.
        let cv_percent = (effect.transformation == Transformation::Log).then(|| 100.0 * (variance.exp() - 1.0).sqrt());
        results.random_effects.push(RandomEffectRow {
            id: effect.id.clone(),
            target: loaded.problem.parameters[effect.target].id.clone(),
            sd: variance.sqrt(),
            cv_percent,
            shrinkage,
        });
    }
    let mut moved: Vec<usize> = nlme.random_effects.iter().map(|e| e.target).collect();
    moved.sort_unstable();
    moved.dedup();
    results.effect_ids = nlme.random_effects.iter().map(|e| e.id.clone()).collect();
    results.cells = individuals
        .iter()
        .enumerate()
        .map(|(i, s)| CellRow {
            experiment: s.experiment.clone(),
            cell: s.id.clone(),
            ebe: nlme.random_effects.iter().map(|e| value_of(i, &e.id)).collect(),
            posterior_sd: nlme
                .random_effects
                .iter()
                .map(|e| s.ebe.iter().position(|(id, _)| *id == e.id).map(|k| s.posterior_sd[k]))
                .collect(),
            parameters: moved
                .iter()
                .map(|t| {
                    let own = s.parameters.iter().find(|(theta, _)| theta == t).map_or(best.natural[*t], |(_, v)| *v);
                    (loaded.problem.parameters[*t].id.clone(), own)
                })
                .collect(),
            nll: s.nll,
            subpopulations: s.subpopulations.clone(),
            status: if s.status.is_empty() { "ok".to_string() } else { s.status.clone() },
        })
        .collect();
}

/// The first interrupt asks the running evaluations to finish, the second ends the process.
fn watch_interrupts(stop: &Arc<AtomicBool>) {
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(Status::Interrupted as i32);
        }
    };
    if ctrlc::set_handler(handler).is_err() {
        eprintln!("warning: interrupts cannot be caught; Ctrl-C ends the run without results");
    }
}
