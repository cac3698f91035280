//! The observable table (v1 "Observables table", v2 "Observable Table"): formulas, noise, placeholders.
//!
//! Placeholders of version 1 are recognised by name: `observableParameter{n}_{observableId}` and
//! `noiseParameter{n}_{observableId}` with this row's own id; such a name with another id is an ordinary parameter.
//! They are numbered from 1 and taken in numeric order. Version 2 declares placeholders in columns.

use super::table::{self, Table, is_id};
use super::{Formula, NoiseDistribution, Observable, Version, formula};
use crate::diag::{Diagnostic, Diagnostics};
use rustc_hash::FxHashMap;

/// Reads the observable tables. `complete` becomes false if a table cannot be read at all.
pub fn read(tables: &[Table], version: Version, complete: &mut bool, diagnostics: &mut Diagnostics) -> Vec<Observable> {
    tables.iter().flat_map(|table| read_table(table, version, complete, diagnostics)).collect()
}

fn read_table(table: &Table, version: Version, complete: &mut bool, d: &mut Diagnostics) -> Vec<Observable> {
    let id = table.require("observableId", &[], d);
    let observable = table.require("observableFormula", &[], d);
    let noise = table.require("noiseFormula", &[], d);
    let (Some(id), Some(observable), Some(noise)) = (id, observable, noise) else {
        *complete = false;
        return Vec::new();
    };
    let name = table.find("observableName");
    let transformation = table.find("observableTransformation");
    let distribution = table.find("noiseDistribution");
    let placeholders = [table.find("observablePlaceholders"), table.find("noisePlaceholders")];

    let mut observables = Vec::new();
    for row in 0..table.rows() {
        let cell = |column: Option<usize>| table.cell(row, column);
        let id_cell = cell(Some(id));
        let (id, formula) = (id_cell.id(d), formula::read(&cell(Some(observable)), d));
        let noise_formula = formula::read(&cell(Some(noise)), d);
        let distribution = match version {
            Version::V1 => distribution_v1(&cell(transformation), &cell(distribution), d),
            Version::V2 => distribution_v2(&cell(distribution), d),
        };
        let Some(id) = id else {
            *complete = false;
            continue;
        };
        // A formula that could not be read has been reported; a row without it would cause follow-up errors elsewhere, so it stays.
        let unread = |formula: Option<Formula>, column| formula.unwrap_or_else(|| unknown(cell(Some(column)).span()));
        let (formula, noise) = (unread(formula, observable), unread(noise_formula, noise));
        let [observable_placeholders, noise_placeholders] = match version {
            Version::V1 => [
                numbered(&format!("observableParameter#_{id}"), &[&formula, &noise], d),
                numbered(&format!("noiseParameter#_{id}"), &[&noise], d),
            ],
            Version::V2 => placeholders.map(|column| {
                let cell = cell(column);
                let names = cell.text().split(';').map(str::trim).filter(|p| !p.is_empty() && !cell.is_missing());
                let names: Vec<String> = names.map(str::to_string).collect();
                for name in names.iter().filter(|name| !is_id(name)) {
                    table::invalid_id(name, &cell.span(), "a placeholder", d);
                }
                names
            }),
        };
        if version == Version::V2 {
            let declared = [(&observable_placeholders, placeholders[0]), (&noise_placeholders, placeholders[1])];
            for (name, column) in declared.iter().flat_map(|(names, column)| names.iter().map(move |name| (name, *column))) {
                let mut used = false;
                [&formula, &noise].iter().for_each(|f| formula::names(f, &mut |other, _| used |= other == name));
                if !used {
                    d.push(
                        Diagnostic::warning("P0517", format!("the placeholder `{name}` is not used"))
                            .at(&cell(column).span(), "declared here, but in none of the row's formulas"),
                    );
                }
            }
        }
        observables.push(Observable {
            id: id.to_string(),
            name: Some(cell(name)).filter(|c| !c.is_missing()).map(|c| c.text().to_string()),
            formula,
            noise,
            distribution: distribution.unwrap_or(NoiseDistribution::Normal),
            observable_placeholders,
            noise_placeholders,
            span: id_cell.span(),
        });
    }
    observables
}

/// Stands for a formula that could not be read; the problem is not handed out then.
fn unknown(span: crate::diag::Span) -> Formula {
    Formula { ast: crate::expr::Ast::number(f64::NAN), span }
}

fn distribution_v1(transformation: &super::table::Cell, noise: &super::table::Cell, d: &mut Diagnostics) -> Option<NoiseDistribution> {
    use NoiseDistribution::*;
    let transformation =
        transformation.word(&[("lin", [Normal, Laplace]), ("log", [LogNormal, LogLaplace]), ("log10", [Log10Normal, Log10Laplace])], d);
    let noise = noise.word(&[("normal", 0), ("laplace", 1)], d);
    Some(transformation.ok()?.unwrap_or([Normal, Laplace])[noise.ok()?.unwrap_or(0)])
}

fn distribution_v2(noise: &super::table::Cell, d: &mut Diagnostics) -> Option<NoiseDistribution> {
    use NoiseDistribution::*;
    let words = [("normal", Normal), ("log-normal", LogNormal), ("laplace", Laplace), ("log-laplace", LogLaplace)];
    Some(noise.word(&words, d).ok()?.unwrap_or(Normal))
}

/// The placeholders of version 1 in numeric order; `pattern` has `#` for the number.
fn numbered(pattern: &str, formulas: &[&Formula], d: &mut Diagnostics) -> Vec<String> {
    let Some((before, behind)) = pattern.split_once('#') else { return Vec::new() };
    let mut found: FxHashMap<usize, crate::diag::Span> = FxHashMap::default();
    for formula in formulas {
        formula::names(formula, &mut |name, span| {
            let digits = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            // `parse` would take a sign or leading zeros, which are other names.
            let plain = digits.filter(|t| t.bytes().all(|b| b.is_ascii_digit()) && !t.starts_with('0'));
            if let Some(number) = plain.and_then(|t| t.parse::<usize>().ok()) {
                found.entry(number).or_insert(span);
            }
        });
    }
    let largest = found.keys().copied().max().unwrap_or(0);
    if let Some(gap) = (1..=largest.min(found.len())).find(|n| !found.contains_key(n)) {
        d.push(
            Diagnostic::error("P0303", format!("the placeholder `{before}{gap}{behind}` is not used"))
                .at(&found[&largest], "this one is")
                .help("placeholders are numbered from 1 without gaps"),
        );
    }
    (1..=found.len()).map(|n| format!("{before}{n}{behind}")).collect()
}
