//! The parameter table (v1 "Parameter table", v2 "Parameter Table") and, with the same columns, the hyperparameter tables of
//! the extension `nlme`.
//!
//! Estimation scale. Version 1 states it (`parameterScale`). Version 2 has none; what is estimated there on the natural
//! logarithm is our decision: parameters that are estimated, with a positive lower and a finite upper bound. Such bounds say
//! that the sign is known, and over the decades they usually span a step of the optimizer should be relative. All others are
//! estimated as they are. Values and gradients per parameter are reported on the estimation scale; no likelihood depends on it.

use super::table::{Cell, Table, parse_number, show};
use super::{Parameter, PriorFamily, Scale, Version, priors};
use crate::diag::{Diagnostic, Diagnostics};

/// Reads the parameter tables; `hyper` marks the rows as hyperparameters of `nlme`. `complete` becomes false if a table
/// cannot be read at all.
pub fn read(tables: &[Table], version: Version, hyper: bool, complete: &mut bool, diagnostics: &mut Diagnostics) -> Vec<Parameter> {
    tables.iter().flat_map(|table| read_table(table, version, hyper, complete, diagnostics)).collect()
}

fn read_table(table: &Table, version: Version, hyper: bool, complete: &mut bool, d: &mut Diagnostics) -> Vec<Parameter> {
    let v1 = version == Version::V1;
    let v2 = [("priorDistribution", "`priorDistribution` is PEtab v2, which has no `parameterScale`; this problem says format_version 1")];
    let id = table.require("parameterId", &[], d);
    let estimate = table.require("estimate", &[], d);
    let scale = if v1 { table.require("parameterScale", &v2, d) } else { None };
    let (Some(id), Some(estimate)) = (id, estimate) else {
        *complete = false;
        return Vec::new();
    };
    let lower_column = table.find("lowerBound");
    let upper_column = table.find("upperBound");
    let nominal = table.find("nominalValue");
    let prior_columns = if v1 { ["objectivePriorType", "objectivePriorParameters"] } else { ["priorDistribution", "priorParameters"] };
    let prior_columns = prior_columns.map(|c| table.find(c));
    let start_columns = ["initializationPriorType", "initializationPriorParameters"].map(|c| table.find(c).filter(|_| v1));

    let before = d.items().len();
    let mut parameters = Vec::new();
    for row in 0..table.rows() {
        let cell = |column: usize| table.cell(row, Some(column));
        let optional = |column: Option<usize>| table.cell(row, column);
        let Some(name) = cell(id).id(d) else {
            *complete = false;
            continue;
        };
        let span = cell(id).span();
        // A row with a mistake stays, so that the parameter is not reported as undefined elsewhere.
        let estimate = read_estimate(&cell(estimate), version, d);
        let fixed = estimate == Some(false);
        let estimate = estimate.unwrap_or(false);
        let mut bound = |column: Option<usize>, default: f64| {
            let Ok(value) = optional(column).optional_number(d) else { return default };
            if value.is_none() && estimate {
                d.push(
                    Diagnostic::error("P0113", format!("the estimated parameter `{name}` needs bounds"))
                        .at(
                            &optional(column).span(),
                            if column.is_some() { "expected a number" } else { "the table has no column for this bound" },
                        )
                        .help("`-inf` and `inf` are allowed in PEtab v2"),
                );
            }
            value.filter(|v| !v.is_nan()).unwrap_or(default)
        };
        let (lower, upper) = (bound(lower_column, f64::NEG_INFINITY), bound(upper_column, f64::INFINITY));
        let nominal_value = optional(nominal).optional_number(d);
        let unreadable = nominal_value.is_err();
        let nominal_value = nominal_value.unwrap_or(None).filter(|v| !v.is_nan());
        if nominal_value.is_none() && fixed && !unreadable {
            let place = optional(nominal).span();
            d.push(
                Diagnostic::error("P0114", format!("the parameter `{name}` is not estimated and has no nominal value"))
                    .at(&place, "expected a number in `nominalValue`")
                    .help("give the value, or estimate the parameter"),
            );
        }
        if lower > upper {
            d.push(
                Diagnostic::error("P0115", format!("the lower bound of `{name}` is above its upper bound"))
                    .at(&optional(lower_column).span(), format!("above {}", show(upper))),
            );
        }
        // What is said of an absent or unreadable bound is enough.
        let lower_given = parse_number(optional(lower_column).text()).is_some();
        let scale = match version {
            Version::V1 => read_scale(&optional(scale), name, estimate, lower_given.then_some(lower), d),
            Version::V2 if estimate && lower > 0.0 && upper.is_finite() => Scale::Log,
            Version::V2 => Scale::Lin,
        };
        // The value 0 occurs in published problems and can be simulated, so it only counts as outside the bounds.
        let logarithmic = estimate && v1 && scale != Scale::Lin;
        if let Some(value) = nominal_value.filter(|v| logarithmic && *v < 0.0) {
            d.push(
                Diagnostic::error("P0122", format!("the nominal value of `{name}` is negative, and its scale logarithmic"))
                    .at(&optional(nominal).span(), format!("{} has no logarithm", show(value)))
                    .help("give a positive value, or use the scale `lin`"),
            );
        } else if let Some(value) = nominal_value.filter(|v| estimate && lower <= upper && (*v < lower || *v > upper)) {
            d.push(
                Diagnostic::warning("P0509", format!("the nominal value of `{name}` is outside its bounds"))
                    .at(&optional(nominal).span(), format!("{} is not within {} to {}", show(value), show(lower), show(upper))),
            );
        }
        let id = name.to_string();
        let mut parameter = Parameter { id, scale, lower, upper, nominal: nominal_value, estimate, prior: None, start: None, hyper, span };
        // The uniform distribution on the scale of the parameter, the default, means that the objective has no prior.
        let prior = priors::read(prior_columns.map(optional), version, &parameter, d);
        parameter.prior = prior.filter(|p| p.family != PriorFamily::ScaleUniform);
        parameter.start = priors::read(start_columns.map(optional), version, &parameter, d);
        parameters.push(parameter);
    }
    d.group(before);
    parameters
}

fn read_estimate(cell: &Cell, version: Version, d: &mut Diagnostics) -> Option<bool> {
    // The empty word ends what a message lists; what follows is read as other tools write it.
    const V1: [(&str, bool); 9] = [
        ("0", false),
        ("1", true),
        ("", false),
        ("0.0", false),
        ("1.0", true),
        ("true", true),
        ("false", false),
        ("True", true),
        ("False", false),
    ];
    const V2: [(&str, bool); 9] = [
        ("true", true),
        ("false", false),
        ("", false),
        ("True", true),
        ("False", false),
        ("TRUE", true),
        ("FALSE", false),
        ("1", true),
        ("0", false),
    ];
    let words = if version == Version::V1 { &V1 } else { &V2 };
    match cell.word(words, d) {
        Ok(None) => {
            cell.empty(if version == Version::V1 { "0 or 1" } else { "true or false" }, d);
            None
        }
        Ok(value) => value,
        Err(_) => None,
    }
}

fn read_scale(cell: &Cell, name: &str, estimate: bool, lower: Option<f64>, d: &mut Diagnostics) -> Scale {
    let scale = cell.word(&[("lin", Scale::Lin), ("log", Scale::Log), ("log10", Scale::Log10)], d);
    let Ok(scale) = scale.map(|s| s.unwrap_or(Scale::Lin)) else { return Scale::Lin };
    let Some(lower) = lower.filter(|_| scale != Scale::Lin && estimate) else { return scale };
    if lower < 0.0 {
        d.push(
            Diagnostic::error("P0116", format!("the parameter `{name}` is estimated on a logarithmic scale and may be negative"))
                .at(&cell.span(), format!("its lower bound is {}", show(lower)))
                .help("raise the lower bound above 0, or use the scale `lin`"),
        );
    } else if lower == 0.0 {
        d.push(
            Diagnostic::warning("P0510", format!("the lower bound of `{name}` is 0, on the logarithmic scale minus infinity"))
                .at(&cell.span(), "start points cannot be spread over an infinite range"),
        );
    }
    scale
}
