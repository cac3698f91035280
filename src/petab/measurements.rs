//! The measurement table (v1 "Measurement table", v2 "Measurement Table", columns of `nlme`: `population.rs`).
//!
//! Rows without a value are left out with a warning. Every other row is a term of the objective; equal
//! rows are replicates. The row a measurement came from is kept for writing tables back.

use super::experiments::{Conditions, Planned, Resolver, is_or_are};
use super::population::{Individuals, RowReader};
use super::table::{self, Cell, Repeated, Table, counted, is_id, listing, parse_number};
use super::{Experiment, Measurement, NoiseDistribution, Observable, Override, Version};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::AstKind;
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

/// What the reader of the measurement tables has to know.
pub struct Context<'a> {
    /// Format version.
    pub version: Version,
    /// The observables.
    pub observables: &'a [Observable],
    /// Whether all observable tables and all experiment tables could be read. What is undefined may be a follow-up if not.
    pub complete: (bool, bool),
    /// The conditions.
    pub conditions: &'a Conditions,
    /// The experiments of version 2.
    pub planned: Option<&'a IndexMap<String, Planned>>,
    /// Whether an id can stand in an override; reported where it cannot.
    pub is_parameter: &'a dyn Fn(&str) -> bool,
    /// Ids to suggest for a misspelt parameter.
    pub parameter_ids: &'a [&'a str],
    /// Ids of the models (version 2).
    pub model_ids: &'a [&'a str],
    /// Ids of the events of `nlme`; `None` if the problem does not use the extension.
    pub nlme: Option<&'a super::population::Known<'a>>,
}

/// What the measurement tables hold.
pub struct Measured {
    /// The measurements in file order.
    pub measurements: Vec<Measurement>,
    /// For each measurement its table and row.
    pub rows: Vec<(u32, u32)>,
    /// For each measurement the model it is of.
    pub models: Vec<usize>,
    /// The experiments that are named, in order of first use.
    pub experiments: Vec<Experiment>,
    /// The individuals in order of first appearance.
    pub individuals: Individuals,
}

/// Columns of one measurement table.
struct Columns {
    observable: usize,
    measurement: usize,
    time: usize,
    experiment: Option<usize>,
    preequilibration: Option<usize>,
    simulation: Option<usize>,
    model: Option<usize>,
    observable_parameters: Option<usize>,
    noise_parameters: Option<usize>,
}

fn columns(table: &Table, version: Version, d: &mut Diagnostics) -> Option<Columns> {
    let v1 = [
        ("simulationConditionId", "`simulationConditionId` is PEtab v1; this problem says format_version 2. Set 1, or rename the column"),
        (
            "preequilibrationConditionId",
            "`preequilibrationConditionId` is PEtab v1; in PEtab v2 the experiment table says what comes before",
        ),
    ];
    let v2 = [("experimentId", "`experimentId` is PEtab v2; this problem says format_version 1. Set 2.0.0, or name conditions instead")];
    let observable = table.require("observableId", &[], d);
    let (experiment, simulation) = match version {
        Version::V1 => (None, Some(table.require("simulationConditionId", &v2, d))),
        Version::V2 => (Some(table.require("experimentId", &v1, d)), None),
    };
    let time = table.require("time", &[], d);
    let measurement = table.require("measurement", &[], d);
    if experiment == Some(None) || simulation == Some(None) {
        return None;
    }
    Some(Columns {
        observable: observable?,
        measurement: measurement?,
        time: time?,
        experiment: experiment.flatten(),
        simulation: simulation.flatten(),
        preequilibration: (version == Version::V1).then(|| table.find("preequilibrationConditionId")).flatten(),
        model: (version == Version::V2).then(|| table.find("modelId")).flatten(),
        observable_parameters: table.find("observableParameters"),
        noise_parameters: table.find("noiseParameters"),
    })
}

/// Reads the measurement tables.
pub fn read(tables: &[Table], context: &Context, d: &mut Diagnostics) -> Measured {
    let observables: FxHashMap<&str, usize> = context.observables.iter().enumerate().map(|(i, o)| (o.id.as_str(), i)).collect();
    let mut resolver = Resolver::new(context.conditions, context.planned, context.complete.1);
    let mut out = Measured {
        measurements: Vec::new(),
        rows: Vec::new(),
        models: Vec::new(),
        experiments: Vec::new(),
        individuals: Individuals::default(),
    };
    let mut repeated = Repeated::default();
    let mut skipped: Vec<Span> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let Some(columns) = columns(table, context.version, d) else { continue };
        let nlme = RowReader::new(table, context.nlme, d);
        out.measurements.reserve(table.rows());
        for row in 0..table.rows() {
            let cell = |column: usize| table.cell(row, Some(column));
            let optional = |column: Option<usize>| table.cell(row, column);
            let observable = cell(columns.observable).id(d);
            let observable = observable.and_then(|id| {
                let found = observables.get(id).copied();
                if found.is_none() && context.complete.0 {
                    repeated.push(format!("observable {id}"), || {
                        undefined_observable(id, &cell(columns.observable).span(), context.observables)
                    });
                }
                found
            });
            let experiment = match (columns.experiment, columns.simulation) {
                (Some(column), _) => {
                    let cell = cell(column);
                    // Spellings of "missing" are no ids here, but a table written by pandas may hold them.
                    let known = |id: &str| context.planned.is_some_and(|p| p.contains_key(id));
                    let id = if cell.is_missing() && !known(cell.text()) { "" } else { cell.text() };
                    resolver.experiment(id, || cell.span())
                }
                (None, Some(column)) => {
                    let before = optional(columns.preequilibration);
                    let before = if before.is_missing() && !context.conditions.by_id.contains_key(before.text()) {
                        None
                    } else {
                        Some((before.text(), before.span()))
                    };
                    cell(column).id(d).and_then(|id| resolver.pair(before, (id, cell(column).span())))
                }
                (None, None) => None,
            };
            let model = model_of(&optional(columns.model), &cell(columns.observable), context.model_ids, &mut repeated);
            let mut time = cell(columns.time).number(d);
            if time == Some(f64::NEG_INFINITY) {
                cell(columns.time).not_a_number("a finite time, or `inf` for a steady state", d);
                time = None;
            }
            let Ok(value) = cell(columns.measurement).optional_number(d) else { continue };
            let Some(value) = value.filter(|v| !v.is_nan()) else {
                skipped.push(cell(columns.measurement).span());
                continue;
            };
            if !value.is_finite() {
                cell(columns.measurement).not_a_number("a finite number", d);
            }
            let mut overrides = |column: Option<usize>, noise: bool| {
                let cell = optional(column);
                let values = read_overrides(&cell, context, &mut repeated, d);
                match (observable, values) {
                    (Some(index), Some(values)) => {
                        check_count(values, &cell, &context.observables[index], noise, context.version, &mut repeated)
                    }
                    _ => Vec::new(),
                }
            };
            let (observable_parameters, noise_parameters) =
                (overrides(columns.observable_parameters, false), overrides(columns.noise_parameters, true));
            let (Some(observable), Some(experiment), Some(time), Some(model)) = (observable, experiment, time, model) else { continue };
            let start = resolver.experiments[experiment].periods.iter().map(|p| p.time).find(|t| t.is_finite());
            if let Some(start) = start.filter(|start| time < *start) {
                before_start(&cell(columns.time), start, &resolver.experiments[experiment].id, &mut repeated);
            }
            let span = cell(columns.measurement).span();
            let mut measurement = Measurement {
                observable,
                experiment,
                time,
                value,
                observable_parameters,
                noise_parameters,
                kind: super::DataKind::Typical,
                weight: 1.0,
                censoring: super::Censoring::None,
                span,
            };
            if nlme.read(row, &mut measurement, &mut out.individuals, &mut repeated, context, d).is_some() {
                out.measurements.push(measurement);
                out.rows.push((number as u32, row as u32));
                out.models.push(model);
            }
        }
    }
    if let Some(first) = skipped.first() {
        d.push(
            Diagnostic::warning(
                "P0501",
                format!("{} without a value {} left out", counted(skipped.len(), "measurement"), are(skipped.len())),
            )
            .at(first, format!("no number{}", and_lines(&skipped))),
        );
    }
    check_positive(&out.measurements, context.observables, d);
    if let Some(table) = tables.first().filter(|_| tables.iter().all(|t| t.rows() == 0)) {
        d.push(
            Diagnostic::warning("P0520", "there are no measurements")
                .at(&table.source().span(0..0), "the measurement table has no rows")
                .help("the objective is 0 for all parameters"),
        );
    }
    repeated.finish(d);
    out.experiments = resolver.finish(d);
    out
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// "; also in lines 3, 5, ..." for all places but the first.
fn and_lines(places: &[Span]) -> String {
    let lines: Vec<String> = places.iter().skip(1).map(|s| s.source.line_column(s.range.start).0.to_string()).collect();
    match lines.len() {
        0 => String::new(),
        1 => format!("; also in line {}", lines[0]),
        _ => format!("; also in lines {}", listing(lines.iter().map(String::as_str))),
    }
}

fn undefined_observable(id: &str, span: &Span, observables: &[Observable]) -> Diagnostic {
    let names = || observables.iter().map(|o| o.id.as_str());
    let mut diagnostic = Diagnostic::error("P0203", format!("measurement refers to an undefined observable `{id}`"))
        .at(span, "not in the observable table")
        .suggest(id, names());
    if let Some(first) = observables.first() {
        diagnostic = diagnostic.help(format!("observables defined in {}: {}", first.span.source.name(), listing(names())));
    }
    diagnostic
}

/// The model of a row. With one model it need not be named; `row` is a cell to point at where there is no such column.
fn model_of(cell: &Cell, row: &Cell, models: &[&str], repeated: &mut Repeated) -> Option<usize> {
    if cell.is_missing() {
        if models.len() > 1 {
            repeated.push("model missing", || {
                let place = if cell.column_name().is_empty() { row } else { cell };
                Diagnostic::error("P0217", "a measurement names no model, but the problem has several")
                    .at(&place.span(), format!("expected one of {} in the column `modelId`", table::listing(models.iter().copied())))
            });
            return None;
        }
        return Some(0);
    }
    let found = models.iter().position(|m| *m == cell.text());
    if found.is_none() {
        repeated.push(format!("model {}", cell.text()), || {
            let label = match models {
                [model] => format!("the problem's model is `{model}`"),
                _ => format!("models: {}", table::listing(models.iter().copied())),
            };
            Diagnostic::error("P0214", format!("measurement refers to an undefined model `{}`", cell.text()))
                .at(&cell.span(), label)
                .suggest(cell.text(), models.iter().copied())
        });
    }
    found
}

fn before_start(cell: &Cell, start: f64, experiment: &str, repeated: &mut Repeated) {
    repeated.push(format!("before {experiment}"), || {
        let what = if experiment.is_empty() { "simulation".to_string() } else { format!("experiment `{experiment}`") };
        Diagnostic::error("P0209", format!("a measurement precedes the start of the {what}"))
            .at(&cell.span(), format!("it starts at {}", table::show(start)))
    });
}

/// The list of a cell: numbers and ids separated by semicolons. `None` if something else stands there, which is reported.
fn read_overrides(cell: &Cell, context: &Context, repeated: &mut Repeated, d: &mut Diagnostics) -> Option<Vec<Override>> {
    if cell.is_missing() {
        return Some(Vec::new());
    }
    let mut values = Vec::new();
    let mut start = 0;
    for part in cell.text().split(';') {
        let name = part.trim();
        let place = start + (part.len() - part.trim_start().len());
        start += part.len() + 1;
        if let Some(number) = parse_number(name).filter(|v| !v.is_nan()) {
            values.push(Override::Number(number));
        } else if is_id(name) {
            let span = cell.span().part(place..place + name.len());
            if !(context.is_parameter)(name) {
                repeated.push(format!("parameter {name}"), || {
                    Diagnostic::error("P0206", format!("measurement refers to an undefined parameter `{name}`"))
                        .at(&span, "not in the parameter table")
                        .suggest(name, context.parameter_ids.iter().copied())
                });
            }
            values.push(Override::Id(name.to_string(), span));
        } else {
            cell.not_a_number("numbers or identifiers separated by semicolons", d);
            return None;
        }
    }
    Some(values)
}

fn check_count(
    values: Vec<Override>,
    cell: &Cell,
    observable: &Observable,
    noise: bool,
    version: Version,
    repeated: &mut Repeated,
) -> Vec<Override> {
    let (placeholders, formula) = match noise {
        false => (&observable.observable_placeholders, &observable.formula),
        true => (&observable.noise_placeholders, &observable.noise),
    };
    let (given, wanted) = (values.len(), placeholders.len());
    let unreadable = matches!(formula.ast.kind, AstKind::Number(value) if value.is_nan());
    if given == wanted || unreadable {
        return values;
    }
    let column = if noise { "noiseParameters" } else { "observableParameters" };
    let id = &observable.id;
    if noise && wanted == 0 && version == Version::V1 {
        repeated.push(format!("ignored {id}"), || {
            Diagnostic::warning("P0504", format!("`noiseParameters` is ignored: the noise formula of `{id}` has no placeholder"))
                .at(&cell.span(), "not used")
                .also(&formula.span, "the noise formula")
        });
        return Vec::new();
    }
    repeated.push(format!("{column} {given} {id}"), || {
        let kind = if noise { "noise" } else { "observable" };
        let message =
            format!("the {kind} formula of `{id}` has {}, and {} given", counted(wanted, "placeholder"), is_or_are(given, "value"));
        let mut diagnostic =
            Diagnostic::error("P0205", message).at(&cell.span(), format!("expected {} in `{column}`", counted(wanted, "value")));
        diagnostic = diagnostic.also(&formula.span, "the formula");
        if wanted > 0 {
            diagnostic = diagnostic.help(format!("placeholders: {}", placeholders.join(", ")));
        } else if !noise && version == Version::V1 {
            diagnostic = diagnostic.help(format!("a placeholder of this observable is called `observableParameter1_{id}`"));
        } else if version == Version::V2 {
            diagnostic =
                diagnostic.help("placeholders are declared in the observable table: `observablePlaceholders`, `noisePlaceholders`");
        }
        diagnostic
    });
    Vec::new()
}

/// Reports values that have density 0 under logarithmic noise, with which no parameters have a finite likelihood.
fn check_positive(measurements: &[Measurement], observables: &[Observable], d: &mut Diagnostics) {
    use super::DataKind::{Bulk, SnapshotStatistic};
    let bad = |m: &&Measurement| {
        m.value <= 0.0
            && !matches!(observables[m.observable].distribution, NoiseDistribution::Normal | NoiseDistribution::Laplace)
            && !matches!(m.kind, Bulk(_) | SnapshotStatistic(_))
    };
    let bad: Vec<&Measurement> = measurements.iter().filter(bad).collect();
    let places: Vec<Span> = bad.iter().map(|m| m.span.clone()).collect();
    if let (Some(first), Some(observable)) = (places.first(), bad.first().map(|m| m.observable)) {
        d.push(
            Diagnostic::error(
                "P0215",
                format!(
                    "{} of {} measurements {} not positive under log-normal or log-Laplace noise",
                    places.len(),
                    measurements.len(),
                    are(places.len())
                ),
            )
            .at(first, format!("such a value has density 0{}", and_lines(&places)))
            .also(&observables[observable].span, "the observable")
            .help("delete the row, or choose a noise distribution that allows the value"),
        );
    }
}
