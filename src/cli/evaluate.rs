//! `mixode evaluate`: objective, gradient, terms and simulations at given parameters.

use super::load::Loaded;
use super::{PopulationArguments, PriorConvention, ProblemArguments, SolverArguments, Status, cannot_write, fail};
use crate::likelihood::adjoint::Request;
use crate::likelihood::population::PopulationOptions;
use crate::likelihood::problem::ProblemObjective;
use crate::likelihood::{EvaluationError, Objective, Order};
use crate::model::{self, CompileOptions, CompiledModel};
use crate::ode::Options;
use crate::petab::{self, Problem};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How the gradient is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Gradient {
    /// The cheaper of the two by estimate
    Auto,
    /// Forward sensitivities
    Forward,
    /// Adjoint sensitivities
    Adjoint,
    /// No gradient
    None,
}

impl Gradient {
    fn request(self) -> Option<Request> {
        match self {
            Gradient::Auto => Some(Request::Auto),
            Gradient::Forward => Some(Request::Forward),
            Gradient::Adjoint => Some(Request::Adjoint),
            Gradient::None => None,
        }
    }
}

/// Arguments of `evaluate`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    problem: ProblemArguments,
    /// Gradient of the objective on the estimation scale
    #[arg(long, value_enum, default_value = "none")]
    gradient: Gradient,
    /// Table of parameter values (columns parameterId, value; natural scale); others keep their nominal value
    #[arg(long)]
    parameters: Option<PathBuf>,
    /// Write the result here as JSON; without it, to standard output
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the simulation table (PEtab columns) here
    #[arg(long)]
    simulations: Option<PathBuf>,
    /// Also compute the individuals' likelihood by importance sampling with this many draws each
    #[arg(long, value_name = "DRAWS")]
    importance: Option<usize>,
    /// What the objective priors of a PEtab 1 problem mean
    #[arg(long, value_enum, default_value = "own-scale")]
    prior_convention: PriorConvention,
    #[command(flatten)]
    population: PopulationArguments,
    #[command(flatten)]
    solver: SolverArguments,
}

/// Runs `evaluate`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    arguments.solver.start_threads();
    let begin = Instant::now();
    let loaded = arguments.problem.load()?;
    let read_seconds = begin.elapsed().as_secs_f64();
    let natural = natural_parameters(&loaded.problem, arguments.parameters.as_deref())?;
    let begin = Instant::now();
    let mut objective = objective(&loaded, arguments.solver.options(), &arguments.population.options())?
        .with_convention(&loaded.problem, arguments.prior_convention.into());
    let compile_seconds = begin.elapsed().as_secs_f64();
    let numerics = |e: EvaluationError| fail(Status::Numerics, e);
    let begin = Instant::now();
    let summary = objective.summary(&natural).map_err(numerics)?;
    let value_seconds = begin.elapsed().as_secs_f64();
    let mut result = Map::new();
    result.insert("llh".into(), number(summary.llh));
    result.insert("chi2".into(), number(summary.chi2));
    result.insert("log_prior".into(), summary.log_prior.iter().map(|(k, v)| (k.clone(), number(*v))).collect::<Map<_, _>>().into());
    result.insert("unnorm_log_posterior".into(), number(-summary.nllh));
    result.insert("nllh".into(), number(summary.nllh));
    result.insert("terms".into(), summary.terms.iter().map(|(k, v)| (k.to_string(), number(*v))).collect::<Map<_, _>>().into());
    if !summary.individuals.is_empty() {
        let individuals: Map<_, _> = (summary.individuals.iter())
            .map(|i| {
                let ebe: Map<_, _> = i.ebe.iter().map(|(k, v)| (k.clone(), number(*v))).collect();
                let mut entry = json!({"experiment": i.experiment, "laplace": number(i.nll), "ebe": ebe});
                if !i.subpopulations.is_empty() {
                    let of: Map<String, Value> = i.subpopulations.iter().map(|(id, p)| (id.clone(), number(*p))).collect();
                    entry["subpopulations"] = Value::Object(of);
                }
                (i.id.clone(), entry)
            })
            .collect();
        result.insert("individuals".into(), individuals.into());
    }
    if let Some(draws) = arguments.importance.filter(|_| objective.individuals() > 0) {
        let i = objective.importance(&natural, draws, 1).map_err(numerics)?;
        let others: f64 = summary.terms.iter().filter(|(kind, _)| *kind != "trajectory").map(|(_, v)| v).sum();
        result.insert(
            "importance".into(),
            json!({"minus2LL": number(2.0 * (others + i.value)), "standard_error": number(2.0 * i.standard_error),
                "worst_pareto_shape": number(i.worst_pareto_shape), "least_effective_sample_size": number(i.least_sample_size)}),
        );
    }
    let choice = arguments.gradient.request().map(|request| (request, objective.choose_method(request, 1.0, &natural)));
    let begin = Instant::now();
    if let Some((request, choice)) = choice {
        if request == Request::Auto {
            eprintln!("{}", choice.reason);
        }
        result.insert("gradient_method".into(), json!({"method": choice.method.name(), "reason": choice.reason}));
        let x = objective.map().scaled(&natural);
        let evaluation = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).map_err(numerics)?;
        let (mut gradient, mut scales) = (Map::new(), Map::new());
        for (p, g) in objective.parameters().iter().zip(evaluation.gradient.iter()) {
            gradient.insert(p.id.clone(), number(*g));
            scales.insert(p.id.clone(), format!("{:?}", p.scale).to_lowercase().into());
        }
        result.insert("gradient".into(), gradient.into());
        result.insert("scales".into(), scales.into());
    }
    let gradient_seconds = begin.elapsed().as_secs_f64();
    result.insert(
        "timings".into(),
        json!({"read": read_seconds, "compile": compile_seconds, "objective": value_seconds, "gradient": gradient_seconds}),
    );
    let c = objective.counts();
    result.insert(
        "counts".into(),
        json!({"simulations": c.simulations, "steps": c.steps, "rhs_evaluations": c.rhs_evaluations, "jacobian_evaluations": c.jacobian_evaluations,
            "factorisations": c.factorisations, "newton_iterations": c.newton_iterations, "error_test_failures": c.error_test_failures,
            "newton_failures": c.newton_failures}),
    );
    if let Some(path) = &arguments.simulations {
        let mut bytes = Vec::new();
        petab::write_simulations(&loaded.problem, &summary.simulations, &mut bytes).map_err(|e| cannot_write(path, &e))?;
        std::fs::write(path, bytes).map_err(|e| cannot_write(path, &e))?;
    }
    let text = serde_json::to_string_pretty(&Value::Object(result)).map_err(|e| fail(Status::Files, e))?;
    match &arguments.json {
        Some(path) => std::fs::write(path, text).map_err(|e| cannot_write(path, &e))?,
        None => super::output::print(&format!("{text}\n"))?,
    }
    Ok(())
}

/// JSON has no infinities; they are written as texts.
pub fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("nan")
    } else {
        json!(if value > 0.0 { "inf" } else { "-inf" })
    }
}

/// Compiles a problem and makes its objective, with the default convention of priors.
pub fn objective(loaded: &Loaded, options: Options, population: &PopulationOptions) -> Result<ProblemObjective, Status> {
    objective_of(&compile(loaded)?, &loaded.parts().map(|part| &part.problem).collect::<Vec<_>>(), options, population)
}

/// Compiles the models of a problem with the derivatives that their data need.
pub fn compile(loaded: &Loaded) -> Result<Vec<Arc<CompiledModel>>, Status> {
    let compiled = loaded.parts().map(|part| {
        let compile = CompileOptions { second: ProblemObjective::needs_second_order(&part.problem), ..CompileOptions::default() };
        model::compile(&part.system, compile).map_err(|e| fail(Status::Numerics, e))
    });
    compiled.collect()
}

/// The objective of a problem whose models are compiled.
pub fn objective_of(
    models: &[Arc<CompiledModel>],
    problems: &[&Problem],
    options: Options,
    population: &PopulationOptions,
) -> Result<ProblemObjective, Status> {
    let parts: Vec<_> = models.iter().cloned().zip(problems.iter().copied()).collect();
    ProblemObjective::of_parts(&parts, options, population).map_err(|message| fail(Status::Unsupported, message))
}

/// Simulations of all measurements at natural parameter values.
pub fn simulate_rows(loaded: &Loaded, options: Options, natural: &[f64]) -> Result<Vec<f64>, Status> {
    Ok(objective(loaded, options, &PopulationOptions::default())?.summary(natural).map_err(|e| fail(Status::Numerics, e))?.simulations)
}

/// Natural values of the parameter table: nominal, replaced by those of `file`.
pub fn natural_parameters(problem: &Problem, file: Option<&Path>) -> Result<Vec<f64>, Status> {
    let mut values: Vec<f64> = problem.parameters.iter().map(|p| p.nominal.unwrap_or(f64::NAN)).collect();
    if let Some(path) = file {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(b'\t')
            .comment(Some(b'#'))
            .from_path(path)
            .map_err(|e| fail(Status::Files, format_args!("cannot read {}: {e}", path.display())))?;
        let headers = reader.headers().map_err(|e| fail(Status::Input, e))?.clone();
        let column = |name: &str| {
            headers.iter().position(|h| h.trim() == name).ok_or_else(|| {
                fail(Status::Input, format_args!("{}:1:1: no column `{name}`; wanted are parameterId and value", path.display()))
            })
        };
        let (id_column, value_column) = (column("parameterId")?, column("value")?);
        let mut errors = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| fail(Status::Input, e))?;
            let line = record.position().map_or(0, csv::Position::line);
            let id = record.get(id_column).unwrap_or("").trim();
            match (problem.parameters.iter().position(|p| p.id == id), record.get(value_column).unwrap_or("").trim().parse::<f64>()) {
                (Some(i), Ok(value)) => values[i] = value,
                (None, _) => errors.push(format!("{}:{line}: `{id}` is not in the parameter table", path.display())),
                (_, Err(_)) => errors.push(format!("{}:{line}: the value of `{id}` is not a number", path.display())),
            }
        }
        if !errors.is_empty() {
            return Err(fail(Status::Input, errors.join("\nerror: ")));
        }
    }
    let missing: Vec<&str> = problem.parameters.iter().zip(&values).filter(|(_, v)| v.is_nan()).map(|(p, _)| p.id.as_str()).collect();
    if !missing.is_empty() {
        return Err(fail(
            Status::Input,
            format_args!("no value for {}: give them by --parameters or as nominal values", missing.join(", ")),
        ));
    }
    Ok(values)
}
