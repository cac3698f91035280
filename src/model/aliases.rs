//! Names that the mapping table of a problem gives to entities of the model (PEtab v2 "Mapping Table").

use crate::diag::{Diagnostic, Diagnostics};
use crate::petab::Problem;
use crate::sbml::{self, Model};

/// Renames the entities of the model that have an alias, so that everything else knows them by it only.
pub fn apply_aliases(model: &mut Model, problem: &Problem, diagnostics: &mut Diagnostics) {
    let mut names = Vec::new();
    for alias in &problem.aliases {
        let known: Vec<&str> = entities(model).collect();
        let diagnostic = if !known.contains(&alias.entity.as_str()) {
            Diagnostic::error("M0208", format!("the mapping table names `{}`, which is not in the model", alias.entity))
                .at(&alias.span, "no entity of the model")
                .suggest(&alias.entity, known)
        } else if known.contains(&alias.id.as_str()) {
            Diagnostic::error("M0209", format!("the alias `{}` is the name of an entity of the model", alias.id))
                .at(&alias.span, "an alias is a new name")
                .help("choose another alias, or use the entity's own name")
        } else {
            names.push((alias.entity.clone(), alias.id.clone()));
            continue;
        };
        diagnostics.push(diagnostic);
    }
    if !names.is_empty() {
        sbml::rename(model, &names);
    }
}

fn entities(model: &Model) -> impl Iterator<Item = &str> {
    let species = model.species.iter().map(|s| s.id.as_str());
    let others = model.compartments.iter().map(|c| c.id.as_str()).chain(model.parameters.iter().map(|p| p.id.as_str()));
    species.chain(others).chain(model.reactions.iter().map(|r| r.id.as_str()))
}
