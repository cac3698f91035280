//! `mixode convert`: a PEtab version 1 problem as version 2.

use super::load::{read, show};
use super::{Format, ProblemArguments, Status, cannot_write, fail};
use crate::diag::{Diagnostic, Diagnostics};
use crate::expr::AstKind;
use crate::petab::convert::{Converted, ModelFacts, to_version_2};
use crate::sbml::Model;
use std::path::PathBuf;

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    problem: ProblemArguments,
    /// Folder for the version 2 problem; must not exist
    #[arg(short, long)]
    output: PathBuf,
}

/// Runs `convert`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let directory = &arguments.output;
    if directory.exists() {
        return Err(fail(Status::Files, format_args!("{} exists; results are never overwritten", directory.display())));
    }
    let mut diagnostics = Diagnostics::new();
    let loaded = read(&arguments.problem.path, arguments.problem.entry.as_deref(), &mut diagnostics);
    let converted = loaded.as_ref().and_then(|l| to_version_2(&l.problem, &facts(&l.model), "model.xml", &mut diagnostics));
    if let Some(place) = converted.as_ref().and_then(|c| c.first_prior.as_ref()) {
        diagnostics.push(
            Diagnostic::warning("F0008", "priors of version 2 are densities of the parameter itself, within its bounds")
                .at(place, "the likelihood stays the same; the posterior changes by constants and, on logarithmic scales, by the Jacobian")
                .help("version 2 also gives the other estimated parameters a uniform prior within their bounds"),
        );
    }
    show(&diagnostics, Format::Full);
    let (Some(loaded), Some(Converted { mut files, .. })) = (loaded, converted) else { return Err(super::load::status_of(&diagnostics)) };
    files.push(("model.xml".to_string(), loaded.problem.model.text().to_string()));
    std::fs::create_dir_all(directory).map_err(|e| cannot_write(directory, &e))?;
    for (name, text) in &files {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|e| cannot_write(&path, &e))?;
    }
    println!("{}: PEtab 2.0.0, {} files", directory.join("problem.yaml").display(), files.len());
    Ok(())
}

/// What the conversion has to know of the model.
fn facts(model: &Model) -> ModelFacts {
    let mut facts = ModelFacts::default();
    facts.variable.extend(model.species.iter().map(|s| s.id.clone()));
    facts.variable.extend(model.assignment_rules.iter().chain(&model.rate_rules).map(|r| r.variable.clone()));
    let constants = model.parameters.iter().map(|p| (&p.id, p.value)).chain(model.compartments.iter().map(|c| (&c.id, c.size)));
    for (id, value) in constants.filter(|(id, _)| !facts.variable.contains(*id)).collect::<Vec<_>>() {
        match (model.initial_assignments.iter().find(|a| a.variable == *id), value) {
            (Some(assignment), _) => {
                let mut names = Vec::new();
                assignment.formula.walk(&mut |node| {
                    if let AstKind::Name(name) = &node.kind {
                        names.push(name.clone());
                    }
                });
                facts.assigned.push((id.clone(), names));
            }
            (None, Some(value)) => {
                facts.numbers.insert(id.clone(), value);
            }
            (None, None) => {
                facts.without_value.insert(id.clone());
            }
        }
    }
    facts
}
