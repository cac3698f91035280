//! `mixode gradient-check`: the gradient of the objective against finite differences.

use super::evaluate::{natural_parameters, number, objective};
use super::fit::Gradient;
use super::output::print;
use super::{PopulationArguments, PriorConvention, ProblemArguments, SolverArguments, Status, fail};
use crate::estimate::multistart::{MultistartOptions, starting_points};
use crate::estimate::{GradientCheck, GradientCheckOptions, Verdict, gradient_check};
use crate::likelihood::problem::ProblemObjective;
use crate::likelihood::{Estimated, Objective, Order};
use crate::petab::Scale;
use crate::report::number::{general, objective as likelihood};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Where the gradient is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Point {
    /// The nominal values of the parameter table
    Nominal,
    /// A random point between the bounds
    Random,
}

/// Arguments of `gradient-check`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    problem: ProblemArguments,
    /// Where
    #[arg(long, value_enum, default_value = "nominal")]
    at: Point,
    /// Seed of the random point
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Table of parameter values (columns parameterId, value; natural scale); others keep their nominal value
    #[arg(long, conflicts_with = "at")]
    parameters: Option<PathBuf>,
    /// Which gradient
    #[arg(long, value_enum, default_value = "auto")]
    gradient: Gradient,
    /// What the objective priors of a PEtab 1 problem mean
    #[arg(long, value_enum, default_value = "own-scale")]
    prior_convention: PriorConvention,
    /// Largest relative deviation that is still right
    #[arg(long, default_value_t = GradientCheckOptions::default().tolerance)]
    tolerance: f64,
    /// Steps of the differences on the estimation scale, relative to max(1, |x|); the best of several is taken
    #[arg(long, value_name = "STEP,...", value_delimiter = ',')]
    step: Vec<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    population: PopulationArguments,
    #[command(flatten)]
    solver: SolverArguments,
}

/// Runs `gradient-check`. A derivative that is off is a numerical failure.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    arguments.solver.start_threads();
    let options = options(arguments)?;
    let loaded = arguments.problem.load()?;
    let x = match arguments.at {
        Point::Nominal => Some(natural_parameters(&loaded.problem, arguments.parameters.as_deref())?),
        Point::Random => None,
    };
    let mut objective = objective(&loaded, arguments.solver.options(), &arguments.population.options())?
        .with_convention(&loaded.problem, arguments.prior_convention.into());
    let x = match x {
        Some(natural) => objective.map().scaled(&natural),
        None => random_point(&objective, arguments.seed)?,
    };
    let natural = objective.map().natural(&x);
    let choice = objective.choose_method(arguments.gradient.request(), 1.0, &natural);
    if x.is_empty() {
        return Err(fail(Status::Input, "no parameter is estimated, so there is no gradient"));
    }
    if let Some((p, _)) = objective.parameters().iter().zip(&x).find(|(_, x)| !x.is_finite()) {
        return Err(fail(Status::Input, format_args!("`{}` has no finite value on its estimation scale ({})", p.id, scale_name(p.scale))));
    }
    let mut memory = objective.memory();
    let value = objective.evaluate(&x, Order::Value, &mut memory).map_err(|e| fail(Status::Numerics, e))?.value;
    let checks = gradient_check(&objective, &x, &options, &mut memory).map_err(|e| fail(Status::Numerics, e))?;
    let place = match (arguments.at, &arguments.parameters) {
        (Point::Random, _) => format!("at the random point of seed {}", arguments.seed),
        (Point::Nominal, None) => "at the nominal values".to_string(),
        (Point::Nominal, Some(path)) => format!("at {}", path.display()),
    };
    let text = if arguments.json {
        let value = as_json(&checks, objective.parameters(), &x, value, &options);
        serde_json::to_string_pretty(&value).map_err(|e| fail(Status::Files, e))? + "\n"
    } else {
        format!(
            "{}: {} gradient {place}\nobjective {}\n\n{}",
            loaded.problem.name,
            choice.method.name(),
            likelihood(value, 6),
            table(&checks, objective.parameters(), options.tolerance)
        )
    };
    print(&text)?;
    if checks.iter().any(|c| c.verdict == Verdict::Differs) { Err(Status::Numerics) } else { Ok(()) }
}

/// Tolerance and steps, largest step first. A single step is compared with half of it.
fn options(arguments: &Arguments) -> Result<GradientCheckOptions, Status> {
    let mut steps = arguments.step.clone();
    if steps.iter().chain([&arguments.tolerance]).any(|v| !v.is_finite() || *v <= 0.0) {
        return Err(fail(Status::Usage, "--step and --tolerance take positive numbers"));
    }
    steps.sort_by(|a, b| b.total_cmp(a));
    match steps[..] {
        [] => steps = GradientCheckOptions::default().steps,
        [only] => steps.push(0.5 * only),
        _ => {}
    }
    Ok(GradientCheckOptions { tolerance: arguments.tolerance, steps })
}

/// The first point of a Latin hypercube at which the objective has a value.
fn random_point(objective: &ProblemObjective, seed: u64) -> Result<Vec<f64>, Status> {
    const POINTS: usize = 50;
    let options = MultistartOptions { starts: POINTS, seed, include_nominal: false, ..MultistartOptions::default() };
    let points = starting_points(objective.parameters(), &options);
    let has_value = |x: &Vec<f64>| objective.evaluate(x, Order::Value, &mut objective.memory()).is_ok_and(|e| e.value.is_finite());
    let found = points.into_iter().find(has_value);
    found.ok_or_else(|| fail(Status::Numerics, format_args!("the objective has no value at any of {POINTS} random points")))
}

/// A dash where there is no number.
fn shown_number(value: f64, digits: usize) -> String {
    if value.is_nan() { "-".to_string() } else { general(value, digits) }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "ok",
        Verdict::Differs => "off",
        Verdict::Unclear => "cannot tell",
    }
}

fn scale_name(scale: Scale) -> &'static str {
    match scale {
        Scale::Lin => "lin",
        Scale::Log => "log",
        Scale::Log10 => "log10",
    }
}

/// At most 80 columns wide.
fn table(checks: &[GradientCheck], parameters: &[Estimated], tolerance: f64) -> String {
    const WIDEST: usize = 24;
    let shown = |id: &str| -> String {
        if id.chars().count() <= WIDEST { id.to_string() } else { id.chars().take(WIDEST - 1).chain(['…']).collect() }
    };
    let width = checks.iter().map(|c| shown(&c.id).chars().count()).max().unwrap_or(0).max("parameter".len());
    let mut text =
        format!("{:<width$}  {:<5}  {:>12}  {:>12}  {:>8}  verdict\n", "parameter", "scale", "analytic", "difference", "rel.dev.");
    for (check, parameter) in checks.iter().zip(parameters) {
        let relative = (check.analytic - check.difference).abs() / check.analytic.abs().max(check.difference.abs());
        // Two zeros agree.
        let relative = if check.analytic == check.difference { 0.0 } else { relative };
        let _ = writeln!(
            text,
            "{:<width$}  {:<5}  {:>12}  {:>12}  {:>8}  {}",
            shown(&check.id),
            scale_name(parameter.scale),
            general(check.analytic, 7),
            shown_number(check.difference, 7),
            shown_number(relative, 2),
            word(check.verdict)
        );
    }
    let count = |verdict: Verdict| checks.iter().filter(|c| c.verdict == verdict).count();
    let (right, off, unclear) = (count(Verdict::Agrees), count(Verdict::Differs), count(Verdict::Unclear));
    let _ = writeln!(text, "\n{right} ok, {off} off, {unclear} cannot tell (tolerance {})", general(tolerance, 3));
    if off > 0 {
        text += "off: this is not the derivative of the objective as it is computed; where smaller\ntolerances (--rtol, --atol) change either, the integration is to blame\n";
    }
    if unclear > 0 {
        text += "cannot tell: the differences are less accurate than the deviation, or both\nnumbers far below the largest; try smaller tolerances of the integrator\n(--rtol, --atol) or other steps (--step)\n";
    }
    text
}

fn as_json(checks: &[GradientCheck], parameters: &[Estimated], x: &[f64], value: f64, options: &GradientCheckOptions) -> Value {
    let rows: Vec<Value> = (checks.iter().zip(parameters).zip(x))
        .map(|((c, p), x)| {
            json!({"parameterId": c.id, "scale": scale_name(p.scale), "x": number(*x), "analytic": number(c.analytic),
                "difference": number(c.difference), "second_order": number(c.second_order), "error": number(c.error),
                "step": number(c.step), "verdict": word(c.verdict)})
        })
        .collect();
    let off = checks.iter().filter(|c| c.verdict == Verdict::Differs).count();
    json!({"objective": number(value), "tolerance": options.tolerance, "steps": options.steps, "off": off, "parameters": rows})
}
