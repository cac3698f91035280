//! `mixode simulate`: a bare SBML model to CSV, or a PEtab problem to a simulation table.

use super::load::{finish, load, source};
use super::{Status, cannot_write, evaluate, fail, flux_balance};
use crate::diag::Diagnostics;
use crate::likelihood::simulated::{Rows, Worker};
use crate::model::{self, CompileOptions, Unit};
use crate::ode::Options;
use crate::sbml;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// SBML file, or PEtab YAML file or folder
    model: PathBuf,
    /// Start time (SBML)
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    start: f64,
    /// Length of the simulation (SBML); empty means flux balance, with the objective of package fbc
    #[arg(long, default_value = "10", allow_hyphen_values = true)]
    duration: String,
    /// Number of output steps; there is one row more than steps (SBML)
    #[arg(long, default_value = "100")]
    steps: String,
    /// Output variables, comma separated: species, compartments, parameters, reactions (SBML; default: all species)
    #[arg(long, value_delimiter = ',')]
    variables: Vec<String>,
    /// Species wanted as amounts
    #[arg(long, value_delimiter = ',')]
    amounts: Vec<String>,
    /// Species wanted as concentrations
    #[arg(long, value_delimiter = ',')]
    concentrations: Vec<String>,
    /// Relative tolerance of the integrator
    #[arg(long, default_value_t = 1e-10)]
    rtol: f64,
    /// Absolute tolerance of the integrator
    #[arg(long, default_value_t = 1e-12)]
    atol: f64,
    /// Table of parameter values (parameterId, value), natural scale (PEtab)
    #[arg(long)]
    parameters: Option<PathBuf>,
    /// Output file; standard output without it
    #[arg(short = 'o', long)]
    output: Option<PathBuf>,
}

/// Runs `simulate`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let is_sbml = arguments.model.extension().is_some_and(|e| e == "xml" || e == "sbml");
    let text = if is_sbml { simulate_sbml(arguments)? } else { simulate_problem(arguments)? };
    match &arguments.output {
        None => print!("{text}"),
        Some(path) => std::fs::write(path, text).map_err(|e| cannot_write(path, &e))?,
    }
    Ok(())
}

fn simulate_problem(arguments: &Arguments) -> Result<String, Status> {
    let loaded = load(&arguments.model)?;
    let options = Options { rtol: arguments.rtol, atol: arguments.atol, ..Options::default() };
    let point = evaluate::natural_parameters(&loaded.problem, arguments.parameters.as_deref())?;
    let simulations = evaluate::simulate_rows(&loaded, options, &point)?;
    let mut bytes = Vec::new();
    crate::petab::write_simulations(&loaded.problem, &simulations, &mut bytes).map_err(|e| fail(Status::Files, e))?;
    String::from_utf8(bytes).map_err(|e| fail(Status::Files, e))
}

fn simulate_sbml(arguments: &Arguments) -> Result<String, Status> {
    let number = |text: &str, name: &str| {
        text.trim().parse::<f64>().map_err(|_| fail(Status::Usage, format_args!("--{name} `{text}` is not a number")))
    };
    let mut diagnostics = Diagnostics::new();
    if arguments.duration.trim().is_empty() {
        return flux_balance::run(source(&arguments.model, &mut diagnostics), diagnostics, &arguments.variables);
    }
    let duration = number(&arguments.duration, "duration")?;
    let steps = number(&arguments.steps, "steps")?.max(1.0) as usize;
    let system = source(&arguments.model, &mut diagnostics)
        .and_then(|s| sbml::read(&s, &mut diagnostics))
        .and_then(|m| model::build(&m, None, arguments.start, &mut diagnostics));
    let mut system = finish(system, &diagnostics, super::Format::Full)?;
    let variables: Vec<String> = if arguments.variables.iter().any(|v| !v.is_empty()) {
        arguments.variables.iter().map(|v| v.trim().to_string()).filter(|v| !v.is_empty()).collect()
    } else {
        system.species.keys().cloned().collect()
    };
    for id in &variables {
        let listed = |list: &[String]| list.iter().any(|v| v.trim() == id);
        let unit = match (listed(&arguments.amounts), listed(&arguments.concentrations)) {
            (true, _) => Unit::Amount,
            (_, true) => Unit::Concentration,
            _ => Unit::Model,
        };
        if system.observe_entity(id, unit).is_none() {
            let mut message = format!("the model has no variable `{id}`");
            if let Some(near) = crate::diag::nearest(id, system.entities.keys().map(String::as_str)) {
                let _ = write!(message, "; did you mean `{near}`?");
            }
            return Err(fail(Status::Input, message));
        }
    }
    let compiled = model::compile(&system, CompileOptions::default()).map_err(|e| fail(Status::Numerics, e))?;
    let times: Vec<f64> = (0..=steps).map(|i| arguments.start + duration * i as f64 / steps as f64).collect();
    let rows = Rows { experiment: 0, times: times.clone(), rows: Vec::new(), reaching: Vec::new(), reaching_states: Vec::new() };
    let options = Options { rtol: arguments.rtol, atol: arguments.atol, ..Options::default() };
    let wanted: Vec<_> = (0..variables.len()).map(|o| (o, Vec::new())).collect();
    let curves =
        Worker::new(compiled, options).and_then(|mut w| w.curves(&rows, &[], &times, &wanted)).map_err(|e| fail(Status::Numerics, e))?;
    let mut text = format!("time,{}\n", variables.join(","));
    for (i, t) in times.iter().enumerate() {
        let _ = write!(text, "{t}");
        for curve in &curves {
            let _ = write!(text, ",{}", number_text(curve[i].0));
        }
        text.push('\n');
    }
    Ok(text)
}

/// Shortest text that reads back to the same number, with the spellings of infinity and NaN that readers of CSV know.
pub fn number_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "INF".into() } else { "-INF".into() }
    } else {
        format!("{value:e}")
    }
}
