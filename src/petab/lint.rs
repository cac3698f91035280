//! Checks that concern several tables (those of libpetab's lint and of the specification), as far as they need no model.

use super::experiments::{Conditions, Planned, check_first_periods, is_or_are};
use super::table::{Table, duplicate, listing, show};
use super::{Alias, CompositeStatistic, DataKind, Functional, Measurement, Observable, Parameter, Statistic, Version, formula};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::AstKind;
use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

/// Words of PEtab math, which version 2 keeps from being identifiers.
const RESERVED: [&str; 41] = [
    "true",
    "false",
    "inf",
    "time",
    "nan",
    "pow",
    "exp",
    "sqrt",
    "log",
    "ln",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "arcsin",
    "arccos",
    "arctan",
    "arccot",
    "arcsec",
    "arccsc",
    "sinh",
    "cosh",
    "tanh",
    "coth",
    "sech",
    "csch",
    "arcsinh",
    "arccosh",
    "arctanh",
    "arccoth",
    "arcsech",
    "arccsch",
    "piecewise",
    "abs",
    "sign",
    "min",
    "max",
];

/// All checks on what was read. `complete`: all parameter tables could be read.
pub fn problem(
    version: Version,
    parameters: &[Parameter],
    observables: &[Observable],
    conditions: &Conditions,
    planned: Option<&IndexMap<String, Planned>>,
    complete: bool,
    d: &mut Diagnostics,
) {
    let mut by_id: FxHashMap<&str, &Parameter> = FxHashMap::default();
    for parameter in parameters {
        match by_id.get(parameter.id.as_str()) {
            Some(first) => duplicate("parameter", &parameter.id, &parameter.span, &first.span, d),
            None => {
                by_id.insert(&parameter.id, parameter);
            }
        }
    }
    let mut names: FxHashMap<&str, &Observable> = FxHashMap::default();
    for observable in observables {
        match names.get(observable.id.as_str()) {
            Some(first) => duplicate("observable", &observable.id, &observable.span, &first.span, d),
            None => {
                names.insert(&observable.id, observable);
            }
        }
        if let AstKind::Number(value) = observable.noise.ast.kind
            && value <= 0.0
        {
            d.push(
                Diagnostic::error("P0308", format!("the noise of `{}` is {}", observable.id, show(value)))
                    .at(&observable.noise.span, "expected a positive number or a formula")
                    .help("it is the standard deviation (of Laplace noise the scale) of the measurements"),
            );
        }
        for placeholder in observable.observable_placeholders.iter().chain(&observable.noise_placeholders) {
            if let Some(parameter) = by_id.get(placeholder.as_str()) {
                d.push(
                    Diagnostic::error("P0213", format!("`{placeholder}` is a placeholder and a parameter"))
                        .at(&parameter.span, "in the parameter table")
                        .also(&observable.span, "a placeholder of this observable")
                        .help("a placeholder gets its value from each measurement row"),
                );
            }
        }
    }
    for (target, span) in &conditions.targets {
        if let Some(parameter) = by_id.get(target.as_str()).filter(|p| !p.hyper) {
            d.push(
                Diagnostic::error("P0210", format!("`{target}` is changed by a condition and stands in the parameter table"))
                    .at(span, "changed here")
                    .also(&parameter.span, "in the parameter table")
                    .help("take it out of the parameter table; to estimate the value, let the condition set it to another parameter"),
            );
        }
    }
    let ids = defined(version, parameters, observables, conditions, planned);
    let mut first: FxHashMap<&str, (&str, &Span)> = FxHashMap::default();
    for (what, id, span) in &ids {
        match first.get(id) {
            Some((other, place)) if other != what => shared(&format!("{other} and {what}"), id, span, place, d),
            Some(_) => {}
            None => {
                first.insert(id, (what, span));
            }
        }
    }
    for observable in observables {
        // The own name in the observable formula can only mean a model entity, which the model's checks look at.
        for (which, noise) in [(&observable.formula, false), (&observable.noise, true)] {
            formula::names(which, &mut |name, span| {
                if names.contains_key(name) && name != observable.id {
                    d.push(
                        Diagnostic::error("P0307", format!("the formula uses the observable `{name}`"))
                            .at(&span, if noise { "only the row's own observable can be used" } else { "observables cannot be used here" })
                            .help("write out that observable's formula; if an entity of the model is meant, rename the observable"),
                    );
                }
            });
        }
    }
    if version == Version::V1 {
        return;
    }
    let placeholders =
        observables.iter().flat_map(|o| o.observable_placeholders.iter().chain(&o.noise_placeholders).map(move |p| (p.as_str(), &o.span)));
    for (id, span) in ids.iter().map(|(_, id, span)| (*id, *span)).chain(placeholders) {
        if RESERVED.contains(&id.to_ascii_lowercase().as_str()) {
            d.push(
                Diagnostic::error("P0118", format!("`{id}` cannot be used as an identifier"))
                    .at(span, "defined here")
                    .help("the word has a meaning in formulas, in upper and lower case"),
            );
        }
    }
    if let Some(planned) = planned.filter(|_| complete) {
        check_first_periods(planned, &|id| by_id.get(id).is_some_and(|p| !p.hyper), d);
    }
}

/// What the tables define, as (kind, id, place). In version 1 conditions have names of their own; in version 2 all identifiers of a problem
/// are different.
fn defined<'a>(
    version: Version,
    parameters: &'a [Parameter],
    observables: &'a [Observable],
    conditions: &'a Conditions,
    planned: Option<&'a IndexMap<String, Planned>>,
) -> Vec<(&'static str, &'a str, &'a Span)> {
    let mut ids: Vec<_> = parameters.iter().map(|p| ("a parameter", p.id.as_str(), &p.span)).collect();
    ids.extend(observables.iter().map(|o| ("an observable", o.id.as_str(), &o.span)));
    if version == Version::V2 {
        ids.extend(conditions.by_id.iter().map(|(id, c)| ("a condition", id.as_str(), &c.span)));
        ids.extend(planned.into_iter().flatten().map(|(id, p)| ("an experiment", id.as_str(), &p.span)));
    }
    ids
}

/// Warns of observables that no measurement and no composite statistic uses.
pub fn unmeasured(observables: &[Observable], measurements: &[Measurement], statistics: &[CompositeStatistic], d: &mut Diagnostics) {
    let mut used: FxHashSet<usize> = measurements.iter().map(|m| m.observable).collect();
    used.extend(measurements.iter().filter_map(|m| match &m.kind {
        DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => match s.statistic {
            Statistic::Covariance(other) => Some(other),
            _ => None,
        },
        _ => None,
    }));
    used.extend(statistics.iter().flat_map(|s| &s.functionals).flat_map(|f| match *f {
        Functional::Mean { observable, .. } | Functional::Variance(observable) | Functional::Quantile(observable, _) => [observable; 2],
        Functional::Covariance(a, b) => [a, b],
    }));
    let unused: Vec<&Observable> = observables.iter().enumerate().filter(|(i, _)| !used.contains(i)).map(|(_, o)| o).collect();
    if let Some(first) = unused.first().filter(|_| !measurements.is_empty()) {
        d.push(
            Diagnostic::warning("P0519", format!("{} not measured", is_or_are(unused.len(), "observable")))
                .at(&first.span, format!("without measurements: {}", listing(unused.iter().map(|o| o.id.as_str())))),
        );
    }
}

fn shared(what: &str, id: &str, span: &Span, other: &Span, d: &mut Diagnostics) {
    d.push(
        Diagnostic::error("P0212", format!("`{id}` is the name of {what}"))
            .at(span, "one")
            .also(other, "the other")
            .help("rename one of them"),
    );
}

/// The aliases of the mapping tables; rows that only annotate are none.
pub fn mappings(tables: &[Table], d: &mut Diagnostics) -> Vec<Alias> {
    let mut aliases: Vec<Alias> = Vec::new();
    for table in tables {
        let (Some(id), Some(entity)) = (table.require("petabEntityId", &[], d), table.require("modelEntityId", &[], d)) else { continue };
        for row in 0..table.rows() {
            let (id, entity) = (table.cell(row, Some(id)), table.cell(row, Some(entity)));
            let Some(name) = id.id(d).filter(|name| !entity.is_missing() && *name != entity.text()) else { continue };
            if let Some(first) = aliases.iter().find(|a| a.id == name || a.entity == entity.text()) {
                let what = if first.id == name { "alias" } else { "alias of one model entity" };
                duplicate(what, name, &id.span(), &first.span, d);
                continue;
            }
            aliases.push(Alias { id: name.to_string(), entity: entity.text().to_string(), span: entity.span() });
        }
    }
    aliases
}

/// Warns of columns that mean something in the other version only.
pub fn columns(parameters: &[Table], observables: &[Table], measurements: &[Table], version: Version, d: &mut Diagnostics) {
    let (other, lists): (_, [&[&str]; 3]) = match version {
        Version::V1 => (2, [&["priorDistribution", "priorParameters"], &["observablePlaceholders", "noisePlaceholders"], &[]]),
        Version::V2 => (
            1,
            [
                &[
                    "parameterScale",
                    "objectivePriorType",
                    "objectivePriorParameters",
                    "initializationPriorType",
                    "initializationPriorParameters",
                ],
                &["observableTransformation"],
                &["preequilibrationConditionId", "simulationConditionId"],
            ],
        ),
    };
    for (tables, names) in [parameters, observables, measurements].into_iter().zip(lists) {
        for table in tables {
            // In a measurement table without `experimentId` the missing column is what to talk about.
            if version == Version::V2 && table.kind() == "measurement" && table.find("experimentId").is_none() {
                continue;
            }
            for (name, place) in table.columns().filter(|(name, _)| names.contains(name)) {
                // Empty columns are left behind by converters.
                let column = table.find(name);
                if (0..table.rows()).all(|row| table.cell(row, column).is_missing()) {
                    continue;
                }
                d.push(
                    Diagnostic::warning("P0503", format!("the column `{name}` has no effect"))
                        .at(&place, format!("PEtab v{other}; this problem says format_version {}", if other == 1 { 2 } else { 1 })),
                );
            }
        }
    }
}
