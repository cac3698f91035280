//! Time course of a bare SBML model: what is asked for, the simulation, CSV, picture and timings.

use super::load::{finish, source};
use super::progress::Waiting;
use super::simulate::Arguments;
use super::{Format, Status, fail, flux_balance, output};
use crate::diag::Diagnostics;
use crate::model::system::ConstraintFormula;
use crate::model::{self, CompileOptions, OdeSystem, Unit};
use crate::ode::{self, Options, Simulator};
use crate::report::time_course::{Curve, Picture};
use crate::sbml;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

/// Most output steps: more rows than anyone can read are a slip of the pen.
const MOST_STEPS: f64 = 1e8;

/// Simulates the model and writes the picture and the timings; gives the CSV.
pub fn run(arguments: &Arguments) -> Result<String, Status> {
    if arguments.duration.trim().is_empty() {
        let mut diagnostics = Diagnostics::new();
        let text = source(&arguments.model, arguments.entry.as_deref(), &mut diagnostics);
        return flux_balance::run(text, diagnostics, &arguments.variables);
    }
    let times = times(arguments)?;
    let form = arguments.plot.as_deref().map(Form::of).transpose()?;
    let begin = Instant::now();
    let mut diagnostics = Diagnostics::new();
    let text = source(&arguments.model, arguments.entry.as_deref(), &mut diagnostics);
    let model = text.and_then(|s| sbml::read(&s, &mut diagnostics));
    let read = begin.elapsed();
    let built = model.and_then(|m| model::build(&m, None, times[0], &mut diagnostics).map(|s| (m, s)));
    let (model, mut system) = finish(built, &diagnostics, Format::Full)?;
    let variables = variables(arguments, &model, &system);
    observe(arguments, &variables, &mut system)?;
    let build = begin.elapsed();
    let waiting = Waiting::new("compiling");
    let only_values = CompileOptions { values_only: true, ..CompileOptions::default() };
    let compiled = model::compile(&system, only_values).map_err(|e| fail(Status::Numerics, e))?;
    let load = begin.elapsed();

    let begin = Instant::now();
    let options = Options { scaled_atol: true, ..arguments.options() };
    let simulated = Simulator::new(compiled.clone(), options).and_then(|mut simulator| {
        waiting.say_share("simulating", simulator.now(), times[0], times[times.len() - 1]);
        ode::time_course(&compiled, &mut simulator, &times)
    });
    let simulate = begin.elapsed();
    drop(waiting);
    let course = simulated.map_err(|e| fail(Status::Numerics, e))?;
    for (k, time) in &course.violated {
        let ConstraintFormula { message, span, .. } = &system.constraints[*k];
        let words = if message.is_empty() { String::new() } else { format!(": {message}") };
        eprintln!("warning: the constraint at {} does not hold at t = {time}{words}", span.position());
    }
    if let Some(drawn) = course.executions.iter().find(|e| e.drawn) {
        eprintln!("note: events of equal priority competed at t = {}; their order was drawn with --seed {}", drawn.time, arguments.seed);
    }
    let curves: Vec<Vec<f64>> = (0..variables.len()).map(|v| course.outputs.iter().map(|row| row[v]).collect()).collect();

    if let (Some(form), Some(path)) = (form, &arguments.plot) {
        let picture = Picture {
            title: if model.id.is_empty() { arguments.model.display().to_string() } else { model.id.clone() },
            value_name: value_name(arguments, &variables, &model, &system),
            log: arguments.log,
            times: &times,
            curves: variables.iter().zip(&curves).map(|(id, values)| Curve { name: id, values }).collect(),
        };
        let text = match form {
            Form::Svg => picture.svg(),
            Form::Html => picture.html().map_err(|e| fail(Status::Files, e))?,
        };
        output::write_file(path, text.as_bytes())?;
    }
    if let Some(path) = &arguments.timings {
        let timings = serde_json::json!({
            "load": load.as_secs_f64(), "read": read.as_secs_f64(), "build": (build - read).as_secs_f64(),
            "compile": (load - build).as_secs_f64(), "simulate": simulate.as_secs_f64(),
        });
        output::write_file(path, format!("{timings:#}\n").as_bytes())?;
    }
    Ok(csv(&variables, &times, &curves))
}

/// Form of the picture.
#[derive(Clone, Copy)]
enum Form {
    Svg,
    Html,
}

impl Form {
    fn of(path: &Path) -> Result<Form, Status> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "svg" => Ok(Form::Svg),
            "html" | "htm" => Ok(Form::Html),
            "png" | "pdf" | "jpg" | "jpeg" => Err(fail(
                Status::Usage,
                format_args!(
                    "--plot writes no {}: write .svg or .html, which browsers and Inkscape turn into it",
                    extension.to_uppercase()
                ),
            )),
            _ => Err(fail(Status::Usage, format_args!("--plot {}: the name must end in .svg or .html", path.display()))),
        }
    }
}

/// Output times.
fn times(arguments: &Arguments) -> Result<Vec<f64>, Status> {
    let number = |text: &str, name: &str| match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(fail(Status::Usage, format_args!("--{name} `{text}` is not a number"))),
    };
    let duration = number(&arguments.duration, "duration")?;
    let steps = number(&arguments.steps, "steps")?;
    if duration < 0.0 {
        return Err(fail(Status::Usage, format_args!("--duration {duration} is negative")));
    }
    if !(0.0..=MOST_STEPS).contains(&steps) || steps.fract() != 0.0 {
        return Err(fail(Status::Usage, format_args!("--steps {steps} is not a whole number from 0 to {MOST_STEPS}")));
    }
    let start = number(&arguments.start, "start")?;
    if !(start + duration).is_finite() {
        return Err(fail(Status::Usage, format_args!("--start {start} is not a number that time can start at")));
    }
    let steps = (steps as usize).max(1);
    Ok((0..=steps).map(|i| start + duration * i as f64 / steps as f64).collect())
}

/// Names of the output variables.
fn variables(arguments: &Arguments, model: &sbml::Model, system: &OdeSystem) -> Vec<String> {
    let named: Vec<String> = arguments.variables.iter().map(|v| v.trim().to_string()).filter(|v| !v.is_empty()).collect();
    if !named.is_empty() {
        return named;
    }
    let species = model.species.iter().map(|s| &s.id);
    if arguments.all {
        let compartments = model.compartments.iter().map(|c| &c.id);
        let others = model.parameters.iter().map(|p| &p.id).chain(model.reactions.iter().map(|r| &r.id));
        // What has no value, such as a reaction without kinetic law, is no entity of the system.
        return species.chain(compartments).chain(others).filter(|id| system.entities.contains_key(*id)).cloned().collect();
    }
    if !system.species.is_empty() {
        return system.species.keys().cloned().collect();
    }
    system.states.iter().map(|s| &s.id).filter(|id| system.entities.contains_key(*id)).cloned().collect()
}

/// Makes the variables the outputs of the system.
fn observe(arguments: &Arguments, variables: &[String], system: &mut OdeSystem) -> Result<(), Status> {
    for id in variables {
        if system.output_entity(id, unit(arguments, id)).is_none() {
            return Err(unknown(id, system));
        }
    }
    let units = arguments.amounts.iter().chain(&arguments.concentrations).map(|id| id.trim());
    match units.filter(|id| !id.is_empty()).find(|id| !system.entities.contains_key(*id)) {
        Some(id) => Err(unknown(id, system)),
        None => Ok(()),
    }
}

fn unknown(id: &str, system: &OdeSystem) -> Status {
    let mut message = format!("the model has no variable `{id}`");
    if let Some(near) = crate::diag::nearest(id, system.entities.keys().map(String::as_str)) {
        let _ = write!(message, "; did you mean `{near}`?");
    }
    fail(Status::Input, message)
}

/// In which unit a variable is wanted.
fn unit(arguments: &Arguments, id: &str) -> Unit {
    let listed = |list: &[String]| list.iter().any(|v| v.trim() == id);
    match (listed(&arguments.amounts), listed(&arguments.concentrations)) {
        (true, _) => Unit::Amount,
        (_, true) => Unit::Concentration,
        _ => Unit::Model,
    }
}

/// What the values of all variables are, for the axis of the picture.
fn value_name(arguments: &Arguments, variables: &[String], model: &sbml::Model, system: &OdeSystem) -> &'static str {
    let kind = |id: &String| match (system.species.get(id), unit(arguments, id)) {
        (Some(_), Unit::Amount) => "amount",
        (Some(_), Unit::Concentration) => "concentration",
        (Some(species), Unit::Model) => match species.amount {
            true => "amount",
            false => "concentration",
        },
        (None, _) if model.reactions.iter().any(|r| r.id == *id) => "rate",
        (None, _) => "value",
    };
    match variables.first().map(kind) {
        Some(first) if variables.iter().all(|id| kind(id) == first) => first,
        _ => "value",
    }
}

/// Comma-separated values: a row for each time.
fn csv(variables: &[String], times: &[f64], curves: &[Vec<f64>]) -> String {
    let mut text = "time".to_owned();
    for id in variables {
        let _ = write!(text, ",{id}");
    }
    text.push('\n');
    for (i, t) in times.iter().enumerate() {
        let _ = write!(text, "{t}");
        for curve in curves {
            let _ = write!(text, ",{}", number_text(curve[i]));
        }
        text.push('\n');
    }
    text
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
