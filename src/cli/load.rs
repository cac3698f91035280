//! Reading a problem: files, model, system; messages on the way.

use super::{Format, Status, model_file};
use crate::diag::{Diagnostics, Severity, Source};
use crate::model::{self, OdeSystem};
use crate::petab::{self, Problem};
use crate::sbml;
use std::io::IsTerminal;
use std::path::Path;

/// A problem that was read without errors.
#[derive(Debug)]
pub struct Loaded {
    /// The tables.
    pub problem: Problem,
    /// The model.
    pub model: sbml::Model,
    /// Both together.
    pub system: OdeSystem,
    /// The parts of further models.
    pub others: Vec<Loaded>,
}

impl Loaded {
    /// The parts of all models, this one first.
    pub fn parts(&self) -> impl Iterator<Item = &Loaded> {
        std::iter::once(self).chain(&self.others)
    }
}

/// Reads a problem and everything it refers to; `entry` names the problem file of an archive. All messages go into `diagnostics`.
pub fn read(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Loaded> {
    let problem = petab::read_what_is_there(path, entry, diagnostics)?;
    finish_reading(problem, &sbml::read, diagnostics)
}

/// Like [`read`], and says besides what does not keep a problem from being used.
pub fn check(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Loaded> {
    let problem = petab::read_what_is_there(path, entry, diagnostics)?;
    finish_reading(problem, &checked_model, diagnostics)
}

/// Like [`check`] for a bare SBML file.
pub fn check_model(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<(sbml::Model, OdeSystem)> {
    let source = source(path, entry, diagnostics)?;
    let model = checked_model(&source, diagnostics)?;
    let system = model::build(&model, None, 0.0, diagnostics)?;
    Some((model, system))
}

fn checked_model(source: &Source, diagnostics: &mut Diagnostics) -> Option<sbml::Model> {
    let model = sbml::read(source, diagnostics);
    sbml::lint(source, model.as_ref(), diagnostics);
    model
}

/// Reads the models of a problem with `read`, and marries each with its part of the problem.
fn finish_reading(
    problem: Problem,
    read: &dyn Fn(&Source, &mut Diagnostics) -> Option<sbml::Model>,
    diagnostics: &mut Diagnostics,
) -> Option<Loaded> {
    let mut models: Vec<Option<sbml::Model>> = problem.parts().map(|part| read(&part.model, diagnostics)).collect();
    for (model, part) in models.iter_mut().zip(problem.parts()) {
        if let Some(model) = model {
            model::apply_aliases(model, part, diagnostics);
        }
    }
    let models = models.into_iter().collect::<Option<Vec<sbml::Model>>>()?;
    // Formulas are only looked at when the tables are right, since mistakes there would show again.
    if diagnostics.has_errors() {
        return None;
    }
    let mut systems = Vec::new();
    for (number, (model, part)) in models.iter().zip(problem.parts()).enumerate() {
        let mut own = Diagnostics::new();
        systems.push(model::build(model, Some(part), 0.0, &mut own));
        if number == 0 { diagnostics.append(own) } else { diagnostics.append_new(own) }
    }
    let systems = systems.into_iter().collect::<Option<Vec<OdeSystem>>>()?;
    model::report_unused_parameters(&problem, &systems.iter().collect::<Vec<_>>(), diagnostics);
    let others = problem.others.clone();
    let problems = std::iter::once(problem).chain(others);
    let mut parts =
        problems.zip(models).zip(systems).map(|((problem, model), system)| Loaded { problem, model, system, others: Vec::new() });
    let first = parts.next()?;
    Some(Loaded { others: parts.collect(), ..first })
}

/// Reads a problem, prints all messages, and gives the exit status where it cannot be used.
pub fn load(path: &Path, entry: Option<&str>) -> Result<Loaded, Status> {
    let mut diagnostics = Diagnostics::new();
    let loaded = read(path, entry, &mut diagnostics);
    finish(loaded, &diagnostics, Format::Full)
}

/// Reads the text of an SBML model, which may be compressed or in an archive; `entry` names it there.
pub fn source(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Source> {
    model_file::read(path, entry).map_err(|diagnostic| diagnostics.push(*diagnostic)).ok()
}

/// Prints the messages; turns errors into an exit status.
pub fn finish<T>(value: Option<T>, diagnostics: &Diagnostics, format: Format) -> Result<T, Status> {
    show(diagnostics, format);
    match value {
        Some(value) if !diagnostics.has_errors() => Ok(value),
        _ => Err(status_of(diagnostics)),
    }
}

/// Prints messages to stderr.
pub fn show(diagnostics: &Diagnostics, format: Format) {
    if diagnostics.items().is_empty() {
        return;
    }
    let text = match format {
        Format::Full => diagnostics.render(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()),
        Format::Concise => diagnostics.concise(),
        Format::Json => diagnostics.to_json().to_string(),
    };
    eprintln!("{}", text.trim_end());
}

/// 5 where the file named on the command line cannot be read, 77 where every error is about something not supported yet (codes
/// `x09..`), else 1.
pub fn status_of(diagnostics: &Diagnostics) -> Status {
    let errors: Vec<_> = diagnostics.items().iter().filter(|d| d.severity == Severity::Error).collect();
    if errors.iter().any(|d| d.code == "F0001" || (d.code == "P0002" && d.span.is_none())) {
        Status::Files
    } else if !errors.is_empty() && errors.iter().all(|d| d.code.get(1..3) == Some("09")) {
        Status::Unsupported
    } else {
        Status::Input
    }
}
