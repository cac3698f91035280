//! `mixode check`: read everything, report every problem.

use super::load::{check, check_model, finish};
use super::output::print;
use super::{Format, Status};
use crate::diag::Diagnostics;
use crate::petab::is_problem;
use std::path::PathBuf;

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// PEtab YAML file, its folder, an SBML file, which may be compressed, or an archive that holds a problem or a model
    problem: PathBuf,
    /// Name of the model or problem file in an archive that holds several
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
    let entry = arguments.entry.as_deref();
    let what = if !is_problem(path, entry) {
        check_model(path, entry, &mut diagnostics)
            .map(|(m, s)| format!("{}: SBML L{}V{}, {} states", path.display(), m.level_version.0, m.level_version.1, s.states.len()))
    } else {
        check(path, entry, &mut diagnostics).map(|l| {
            format!(
                "{}: {} experiments, {} measurements, {} parameters to estimate",
                l.problem.name,
                l.parts().map(|p| p.problem.experiments.len()).sum::<usize>(),
                l.parts().map(|p| p.problem.measurements.len()).sum::<usize>(),
                l.problem.parameters.iter().filter(|p| p.estimate).count()
            )
        })
    };
    let line = finish(what, &diagnostics, arguments.format)?;
    print(&format!("{line}: {}\n", counts(&diagnostics)))
}
