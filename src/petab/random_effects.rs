//! Random effects and their covariance: the tables of the extension `nlme` (specification of the extension, section
//! "Extension tables"). Hyperparameters have the parameter table's columns: `parameters.rs`.

use super::experiments::undefined_experiment;
use super::table::{Cell, Repeated, Table, duplicate, is_id, parse_number};
use super::{CovarianceEntry, CovarianceKind, Experiment, Parameter, RandomEffect, TableValue, Transformation, unsupported};
use crate::diag::{Diagnostic, Diagnostics, Span};

/// Reads the random-effect tables. `defined` are the ids an effect can be restricted to.
pub fn read(
    tables: &[Table],
    parameters: &[Parameter],
    experiments: &[Experiment],
    defined: &[&str],
    d: &mut Diagnostics,
) -> Vec<RandomEffect> {
    let mut effects: Vec<RandomEffect> = Vec::new();
    let mut repeated = Repeated::default();
    for table in tables {
        let columns = ["randomEffectId", "targetId", "transformation"].map(|name| table.require(name, &[], d));
        let [Some(id), Some(target), Some(transformation)] = columns else { continue };
        let optional = ["level", "distribution", "experimentIds"].map(|name| table.find(name));
        for row in 0..table.rows() {
            let [level, distribution, restricted] = optional.map(|column| table.cell(row, column));
            let (id_cell, target_cell, kind_cell) =
                (table.cell(row, Some(id)), table.cell(row, Some(target)), table.cell(row, Some(transformation)));
            let of_group = level.word(&[("individual", false), ("group", true)], d) == Ok(Some(true));
            if let Ok(Some(true)) = distribution.word(&[("normal", false), ("t", true), ("mixture", true)], d) {
                d.push(unsupported(
                    &distribution.span(),
                    &format!("a random effect with the distribution `{}`", distribution.text()),
                    "use `normal`",
                ));
            }
            let (id, target) = (id_cell.id(d), target_cell.id(d));
            let kind = read_transformation(&kind_cell, d);
            let target_index = target.and_then(|target| {
                let found = parameters.iter().position(|p| p.id == target && !p.hyper);
                if found.is_none() {
                    let place = target_cell.span();
                    undefined_parameter(target, &place, parameters.iter().filter(|p| !p.hyper).map(|p| p.id.as_str()), &mut repeated);
                }
                found
            });
            let mut only = None;
            if !restricted.is_missing() {
                let mut list = Vec::new();
                for name in restricted.text().split(';').map(str::trim).filter(|n| !n.is_empty()) {
                    if !defined.contains(&name) {
                        undefined_experiment(name, &restricted.span(), defined.iter().copied(), &mut repeated);
                    }
                    let named = |e: &Experiment| e.conditions.as_ref().map_or(e.id.as_str(), |c| c.1.as_str()) == name;
                    list.extend(experiments.iter().enumerate().filter(|(_, e)| named(e)).map(|(i, _)| i));
                }
                list.sort_unstable();
                list.dedup();
                only = Some(list);
            }
            let (Some(id), Some(target), Some(transformation)) = (id, target_index, kind) else { continue };
            check_target(&parameters[target], transformation, &kind_cell, d);
            if let Some(first) = effects.iter().find(|e| e.id == id) {
                duplicate("random effect", id, &id_cell.span(), &first.span, d);
                continue;
            }
            effects.push(RandomEffect { id: id.to_string(), target, transformation, experiments: only, of_group, span: id_cell.span() });
        }
    }
    repeated.finish(d);
    effects
}

fn read_transformation(cell: &Cell, d: &mut Diagnostics) -> Option<Transformation> {
    if let Some(limits) = cell.text().strip_prefix("logit;") {
        let limits: Vec<f64> = limits.split(';').filter_map(|t| parse_number(t.trim())).collect();
        if let [lower, upper] = limits[..]
            && lower < upper
        {
            return Some(Transformation::Logit(lower, upper));
        }
        cell.not_a_number("`logit;lower;upper` with lower below upper", d);
        return None;
    }
    match cell
        .word(&[("additive", Transformation::Additive), ("log", Transformation::Log), ("logit;lower;upper", Transformation::Additive)], d)
    {
        Ok(None) => {
            cell.empty("`additive`, `log` or `logit;lower;upper`", d);
            None
        }
        Ok(found) => found,
        Err(_) => None,
    }
}

/// The nominal value must be inside the transformation's domain.
fn check_target(parameter: &Parameter, transformation: Transformation, cell: &Cell, d: &mut Diagnostics) {
    let (lower, upper) = match transformation {
        Transformation::Additive => return,
        Transformation::Log => (0.0, f64::INFINITY),
        Transformation::Logit(lower, upper) => (lower, upper),
    };
    if let Some(value) = parameter.nominal.filter(|v| *v <= lower || *v >= upper) {
        d.push(
            Diagnostic::error(
                "P0420",
                format!("the nominal value {value} of `{}` is outside the domain of the random effect's transformation", parameter.id),
            )
            .at(&cell.span(), format!("expected a value between {lower} and {upper}"))
            .also(&parameter.span, "the parameter"),
        );
    }
}

/// Reads the covariance tables and checks that the covariance is complete and positive definite at the nominal values.
pub fn read_covariance(tables: &[Table], effects: &[RandomEffect], parameters: &[Parameter], d: &mut Diagnostics) -> Vec<CovarianceEntry> {
    let mut entries: Vec<CovarianceEntry> = Vec::new();
    let mut repeated = Repeated::default();
    let mut complete = true;
    for table in tables {
        let columns = ["rowId", "colId", "kind", "value"].map(|name| table.require(name, &[], d));
        let [Some(row_id), Some(column_id), Some(kind), Some(value)] = columns else {
            complete = false;
            continue;
        };
        for row in 0..table.rows() {
            let cell = |column| table.cell(row, Some(column));
            let mut effect = |cell: Cell, d: &mut Diagnostics| {
                let name = cell.id(d)?;
                let found = effects.iter().position(|e| e.id == name);
                if found.is_none() {
                    repeated.push(format!("effect {name}"), || {
                        Diagnostic::error("P0406", format!("undefined random effect `{name}`"))
                            .at(&cell.span(), "not in the random-effect table")
                            .suggest(name, effects.iter().map(|e| e.id.as_str()))
                    });
                }
                found
            };
            let (first, second) = (effect(cell(row_id), d), effect(cell(column_id), d));
            use CovarianceKind::*;
            let words = [("sd", Sd), ("var", Var), ("log_var", LogVar), ("corr", Corr), ("chol", Chol)];
            let kind_cell = cell(kind);
            let kind = kind_cell.word(&words, d).ok().flatten();
            if kind_cell.is_missing() {
                kind_cell.empty("sd, var, log_var, corr or chol", d);
            }
            let value_cell = cell(value);
            let value = reference(&value_cell, parameters, &mut repeated, d);
            let (Some(first), Some(second), Some(kind), Some(value)) = (first, second, kind, value) else {
                complete = false;
                continue;
            };
            let diagonal = first == second;
            let wrong = match kind {
                Sd | Var | LogVar if !diagonal => Some("only entries with equal rowId and colId have this kind"),
                Corr if diagonal => Some("a correlation is between two random effects"),
                Chol if first < second => {
                    Some("`chol` entries form the lower triangle: rowId comes after colId in the random-effect table")
                }
                _ if effects[first].of_group != effects[second].of_group => Some("effects of groups and of individuals are independent"),
                _ if entries.first().is_some_and(|e| (e.kind == Chol) != (kind == Chol)) => {
                    Some("`chol` entries cannot be mixed with other kinds")
                }
                _ => None,
            };
            if let Some(reason) = wrong {
                d.push(
                    Diagnostic::error("P0421", format!("`{}` cannot be used for this entry of the covariance", kind_cell.text()))
                        .at(&kind_cell.span(), reason),
                );
                complete = false;
                continue;
            }
            if let Some(other) = entries.iter().find(|e| (e.row, e.column) == (first, second) || (e.row, e.column) == (second, first)) {
                duplicate(
                    "covariance entry",
                    &format!("{}, {}", effects[first].id, effects[second].id),
                    &cell(row_id).span(),
                    &other.span,
                    d,
                );
                complete = false;
                continue;
            }
            entries.push(CovarianceEntry { row: first, column: second, kind, value, span: value_cell.span() });
        }
    }
    repeated.finish(d);
    for (index, effect) in effects.iter().enumerate() {
        if complete && !entries.iter().any(|e| e.row == index && e.column == index) {
            complete = false;
            d.push(
                Diagnostic::error("P0408", format!("the random effect `{}` has no variance", effect.id))
                    .at(&effect.span, "no entry of the covariance table has it as rowId and colId")
                    .help(format!("add a row `{}`, `{}`, sd, and a number or a hyperparameter", effect.id, effect.id)),
            );
        }
    }
    if complete {
        check_definite(&entries, effects, parameters, d);
    }
    entries
}

/// The covariance at the nominal values must be positive definite. Entries without a nominal value leave it undecided.
fn check_definite(entries: &[CovarianceEntry], effects: &[RandomEffect], parameters: &[Parameter], d: &mut Diagnostics) {
    let size = effects.len();
    let mut matrix = nalgebra::DMatrix::<f64>::zeros(size, size);
    let value = |e: &CovarianceEntry| match e.value {
        TableValue::Number(value) => Some(value),
        TableValue::Parameter(index) => parameters[index].nominal,
    };
    let mut worst: Option<&CovarianceEntry> = None;
    for entry in entries.iter().filter(|e| e.row == e.column || e.kind == CovarianceKind::Chol) {
        let Some(value) = value(entry) else { return };
        matrix[(entry.row, entry.column)] = match entry.kind {
            CovarianceKind::Sd => value * value,
            CovarianceKind::LogVar => value.exp(),
            _ => value,
        };
        if entry.row == entry.column && (value <= 0.0 && entry.kind != CovarianceKind::LogVar) {
            worst = Some(entry);
        }
    }
    for entry in entries.iter().filter(|e| e.kind == CovarianceKind::Corr) {
        let Some(value) = value(entry) else { return };
        let covariance = value * (matrix[(entry.row, entry.row)] * matrix[(entry.column, entry.column)]).sqrt();
        matrix[(entry.row, entry.column)] = covariance;
        matrix[(entry.column, entry.row)] = covariance;
        if value.abs() >= 1.0 {
            worst = Some(entry);
        }
    }
    let factor = entries.first().is_some_and(|e| e.kind == CovarianceKind::Chol);
    let definite = worst.is_none() && (factor || matrix.cholesky().is_some());
    if !definite && let Some(entry) = worst.or(entries.last()) {
        d.push(
            Diagnostic::error("P0415", "the covariance of the random effects is not positive definite at the nominal values")
                .at(&entry.span, if entry.row == entry.column { "expected a positive value" } else { "together with the other entries" }),
        );
    }
}

/// A number, or a parameter of the parameter table or a hyperparameter. `None` if it is neither, which is reported.
pub fn reference(cell: &Cell, parameters: &[Parameter], repeated: &mut Repeated, d: &mut Diagnostics) -> Option<TableValue> {
    match parse_number(cell.text()).filter(|v| v.is_finite()) {
        Some(number) => Some(TableValue::Number(number)),
        None if is_id(cell.text()) => {
            let found = parameters.iter().position(|p| p.id == cell.text());
            if found.is_none() {
                undefined_parameter(cell.text(), &cell.span(), parameters.iter().map(|p| p.id.as_str()), repeated);
            }
            found.map(TableValue::Parameter)
        }
        None => {
            cell.not_a_number("a number or a parameter", d);
            None
        }
    }
}

/// Notes a parameter that does not exist, in a table of the extension.
pub fn undefined_parameter<'n>(name: &str, span: &Span, known: impl Iterator<Item = &'n str>, repeated: &mut Repeated) {
    repeated.push(format!("nlme parameter {name}"), || {
        Diagnostic::error("P0407", format!("undefined parameter `{name}`"))
            .at(span, "neither in the parameter table nor in a hyperparameter table")
            .suggest(name, known)
    });
}
