//! `mixode check`: read everything, report every problem.

use super::load::{check, check_model, finish};
use super::model_file::is_problem;
use super::output::print;
use super::{Format, Status};
use crate::diag::Diagnostics;
use std::path::PathBuf;

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// PEtab YAML file, its folder, or an SBML file, which may be compressed or in an archive
    problem: PathBuf,
    /// Name of the model in an archive that holds several (SBML)
    #[arg(long)]
    entry: Option<String>,
    /// Form of the messages
    #[arg(long, value_enum, default_value = "full")]
    format: Format,
}

/// "no errors", "0 errors, 2 warnings".
fn counts(diagnostics: &Diagnostics) -> String {
    if diagnostics.items().is_empty() { diagnostics.summary() } else { format!("0 errors, {}", diagnostics.summary()) }
}

/// Runs `check`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let mut diagnostics = Diagnostics::new();
    let path = &arguments.problem;
    let what = if !is_problem(path) {
        check_model(path, arguments.entry.as_deref(), &mut diagnostics)
            .map(|(m, s)| format!("{}: SBML L{}V{}, {} states", path.display(), m.level_version.0, m.level_version.1, s.states.len()))
    } else {
        check(path, &mut diagnostics).map(|l| {
            format!(
                "{}: {} experiments, {} measurements, {} parameters to estimate",
                l.problem.name,
                l.problem.experiments.len(),
                l.problem.measurements.len(),
                l.problem.parameters.iter().filter(|p| p.estimate).count()
            )
        })
    };
    let line = finish(what, &diagnostics, arguments.format)?;
    print(&format!("{line}: {}\n", counts(&diagnostics)))
}
