//! Tables of subpopulations of the extension `nlme` (petab_problems/EXTENSION.md, section "Subpopulations"): the classes of a mixture, one
//! row each, with their probability and the parameters that have another value in them, one column each.

use super::random_effects::{reference, undefined_parameter};
use super::table::{Cell, Repeated, Table, duplicate, show};
use super::{Parameter, Subpopulation, TableValue};
use crate::diag::{Diagnostic, Diagnostics};

/// Reads the tables; `parameters` are those of the parameter table and the hyperparameters.
pub fn read(tables: &[Table], parameters: &[Parameter], d: &mut Diagnostics) -> Vec<Subpopulation> {
    let mut found: Vec<Subpopulation> = Vec::new();
    let mut repeated = Repeated::default();
    let mut rest: Option<Cell> = None;
    let mut sum = Some(0.0);
    let mut last: Option<Cell> = None;
    for table in tables {
        let columns = ["subpopulationId", "probability"].map(|name| table.require(name, &[], d));
        let [Some(id), Some(probability)] = columns else { continue };
        let mut targets = Vec::new();
        for (name, place) in table.columns().filter(|(name, _)| !["subpopulationId", "probability", ""].contains(name)) {
            match parameters.iter().position(|p| p.id == name && !p.hyper) {
                Some(target) => targets.push((target, table.find(name))),
                None => undefined_parameter(name, &place, parameters.iter().filter(|p| !p.hyper).map(|p| p.id.as_str()), &mut repeated),
            }
        }
        for row in 0..table.rows() {
            let (id_cell, probability) = (table.cell(row, Some(id)), table.cell(row, Some(probability)));
            let value = if probability.is_missing() {
                if let Some(first) = &rest {
                    d.push(
                        improbable("two subpopulations have no probability")
                            .at(&probability.span(), "one subpopulation may be the rest")
                            .also(&first.span(), "the first without"),
                    );
                }
                rest.get_or_insert(probability);
                None
            } else {
                reference(&probability, parameters, &mut repeated, d)
            };
            sum = match value {
                Some(TableValue::Number(p)) => sum.map(|sum| sum + p),
                Some(TableValue::Parameter(j)) => sum.zip(parameters[j].nominal).map(|(sum, p)| sum + p),
                None => sum,
            };
            last = Some(probability);
            let values = targets
                .iter()
                .map(|(target, column)| (*target, table.cell(row, *column)))
                .filter(|(_, cell)| !cell.is_missing())
                .filter_map(|(target, cell)| Some((target, reference(&cell, parameters, &mut repeated, d)?)))
                .collect();
            let Some(id) = id_cell.id(d) else { continue };
            if let Some(first) = found.iter().find(|s| s.id == id) {
                duplicate("subpopulation", id, &id_cell.span(), &first.span, d);
                continue;
            }
            found.push(Subpopulation { id: id.to_string(), probability: value, values, span: id_cell.span() });
        }
    }
    repeated.finish(d);
    // Ids of parameters without a nominal value leave the sum undecided.
    if let (Some(sum), Some(place)) = (sum.filter(|_| !d.has_errors()), last) {
        let possible = if rest.is_some() { sum <= 1.0 } else { (sum - 1.0).abs() < 1e-9 };
        if !possible {
            d.push(
                improbable(&format!("the probabilities of the subpopulations sum to {} at the nominal values", show(sum)))
                    .at(&rest.unwrap_or(place).span(), "together with the others")
                    .help("leave one cell empty: that subpopulation is the rest"),
            );
        }
    }
    found
}

fn improbable(message: &str) -> Diagnostic {
    Diagnostic::error("P0427", message.to_string())
}
