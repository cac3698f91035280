//! `mixode simulate` of a model with an objective of fluxes: one row of fluxes in steady state.

use super::load::finish;
use super::{Format, Status, fail};
use crate::diag::{Diagnostics, Source, nearest};
use crate::flux_balance::{FluxBalanceError, Optimum, optimize};
use crate::sbml;
use indexmap::IndexMap;

/// A name under which the value of the objective can be had, whatever its id is.
const OBJECTIVE: &str = "OBJF";

/// The fluxes of the wanted reactions and the value of the active objective, in a column of its id, as a CSV of one row; all of
/// them if none is named.
///
/// Where there is no optimum the numbers are NaN or infinite, and a message says why.
pub fn run(source: Option<Source>, mut diagnostics: Diagnostics, wanted: &[String]) -> Result<String, Status> {
    let model = source.and_then(|source| sbml::read(&source, &mut diagnostics));
    let model = finish(model, &diagnostics, Format::Full)?;
    let found = match optimize(&model) {
        Ok(found) => found,
        Err(error) => {
            let objective = match &error {
                FluxBalanceError::Infeasible(_) | FluxBalanceError::Contradiction { .. } => f64::NAN,
                FluxBalanceError::Unbounded { upwards, .. } => {
                    if *upwards {
                        f64::INFINITY
                    } else {
                        f64::NEG_INFINITY
                    }
                }
                FluxBalanceError::Solver(_) => return Err(fail(Status::Numerics, error)),
                _ => return Err(fail(Status::Input, error)),
            };
            eprintln!("warning: {error}");
            Optimum { objective, fluxes: model.reactions.iter().map(|r| (r.id.clone(), f64::NAN)).collect() }
        }
    };
    let mut values: IndexMap<&str, f64> = found.fluxes.iter().map(|(id, flux)| (id.as_str(), *flux)).collect();
    let objective = model.flux_balance.as_ref().and_then(|balance| balance.objectives.get(balance.active?));
    values.insert(objective.map_or(OBJECTIVE, |o| o.id.as_str()), found.objective);
    let wanted: Vec<&str> = wanted.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).collect();
    let columns: Vec<&str> = if wanted.is_empty() { values.keys().copied().collect() } else { wanted };
    values.entry(OBJECTIVE).or_insert(found.objective);
    let mut row = Vec::new();
    for id in &columns {
        let Some(value) = values.get(id) else {
            let near = nearest(id, values.keys().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(fail(Status::Input, format_args!("the model has no reaction `{id}`{near}")));
        };
        row.push(super::time_course::number_text(*value));
    }
    Ok(format!("{}\n{}\n", columns.join(","), row.join(",")))
}
