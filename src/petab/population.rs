//! The extension `nlme` (NLME.md 4.4 and 4.5): extra columns of the measurement table, random effects and their covariance,
//! events, composite statistics. Hyperparameters have the parameter table's columns: `parameters.rs`.

use super::experiments::undefined_experiment;
use super::measurements::Context;
use super::table::{Cell, Repeated, Table, duplicate, is_id, listing, parse_number};
use super::{
    Censoring, CompositeStatistic, CovarianceEntry, CovarianceKind, CovarianceValue, DataKind, Direction, EventTrigger, Experiment, Functional,
    Individual, Measurement, Observable, Override, Parameter, PopulationStatistic, RandomEffect, Statistic, Transformation, formula, unsupported,
};
use crate::diag::{Diagnostic, Diagnostics, Span, nearest};
use crate::expr::AstKind;
use rustc_hash::FxHashMap;

/// Ids that measurement rows may refer to.
pub struct Known<'a> {
    /// Events.
    pub events: &'a [EventTrigger],
    /// Composite statistics.
    pub statistics: &'a [CompositeStatistic],
}

/// Columns that only this extension gives a meaning. (`groupId` is read with random effects of level `group`, which are
/// not supported.)
const COLUMNS: [&str; 10] = [
    "dataType", "individualId", "eventId", "censoring", "measurementUpper", "statistic", "observableId2", "sampleSize", "statisticSd", "weight",
];
const DATA_TYPE: usize = 0;
const INDIVIDUAL_ID: usize = 1;
const EVENT_ID: usize = 2;
const CENSORING: usize = 3;
const MEASUREMENT_UPPER: usize = 4;
const STATISTIC: usize = 5;
const OBSERVABLE_ID_2: usize = 6;
const SAMPLE_SIZE: usize = 7;
const STATISTIC_SD: usize = 8;
const WEIGHT: usize = 9;

/// The individuals while the measurement tables are read.
#[derive(Default)]
pub struct Individuals {
    /// In order of first appearance.
    pub list: Vec<Individual>,
    index: FxHashMap<String, usize>,
    /// For each individual its first row's place and weight.
    first: Vec<(Span, f64)>,
    /// Individuals that snapshot rows name, with a place.
    snapshots: FxHashMap<String, Span>,
}

/// Reads the extension's columns of one measurement table.
pub struct RowReader<'a> {
    table: &'a Table,
    /// Positions of [`COLUMNS`]; all `None` where the problem does not use the extension.
    columns: [Option<usize>; COLUMNS.len()],
    known: Option<&'a Known<'a>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Typical,
    Trajectory,
    TimeToEvent,
    Snapshot,
    SnapshotStatistic,
    Bulk,
}

impl<'a> RowReader<'a> {
    /// Finds the columns; warns if there are some but the problem does not name the extension.
    pub fn new(table: &'a Table, known: Option<&'a Known<'a>>, d: &mut Diagnostics) -> Self {
        let mut columns = COLUMNS.map(|name| table.find(name));
        // `weight` and the like are common names for columns of the user's own; `dataType` is what makes rows special.
        if known.is_none() {
            if let Some((_, place)) = table.columns().find(|(name, _)| *name == "dataType") {
                d.push(
                    Diagnostic::warning("P0511", "`dataType` has no effect: the problem does not name the extension `nlme`")
                        .at(&place, "all rows are read as ordinary measurements")
                        .help("add `extensions: {nlme: {version: 0.1.0, required: true}}` to the problem file"),
                );
            }
            columns = [None; COLUMNS.len()];
        }
        RowReader { table, columns, known }
    }

    fn cell(&self, row: usize, column: usize) -> Cell<'a> {
        self.table.cell(row, self.columns[column])
    }

    /// Completes `measurement`; `None` if the row cannot be used, which has been reported.
    pub fn read(
        &self,
        row: usize,
        measurement: &mut Measurement,
        individuals: &mut Individuals,
        repeated: &mut Repeated,
        context: &Context,
        d: &mut Diagnostics,
    ) -> Option<()> {
        let Some(known) = self.known else { return Some(()) };
        let cell = |column| self.cell(row, column);
        let kind = cell(DATA_TYPE).word(
            &[
                ("typical", Type::Typical),
                ("trajectory", Type::Trajectory),
                ("time_to_event", Type::TimeToEvent),
                ("snapshot", Type::Snapshot),
                ("snapshot_statistic", Type::SnapshotStatistic),
                ("bulk", Type::Bulk),
            ],
            d,
        );
        let kind = kind.ok()?.unwrap_or(Type::Typical);
        measurement.censoring = self.censoring(row, measurement.value, d)?;
        measurement.weight = self.weight(row, repeated, d)?;
        let id = cell(INDIVIDUAL_ID).optional_id(d);
        measurement.kind = match kind {
            Type::Typical => DataKind::Typical,
            Type::Trajectory | Type::TimeToEvent => {
                let Some(id) = id else {
                    self.needs_individual(row, kind, repeated);
                    return None;
                };
                let individual = individuals.index(id, measurement, &cell(INDIVIDUAL_ID), repeated);
                if kind == Type::Trajectory {
                    DataKind::Trajectory { individual }
                } else {
                    DataKind::TimeToEvent { individual, event: self.event(row, known, measurement, repeated, context, d)? }
                }
            }
            Type::Snapshot => {
                if let Some(id) = id {
                    individuals.snapshots.entry(id.to_string()).or_insert_with(|| cell(INDIVIDUAL_ID).span());
                }
                DataKind::Snapshot { individual: id.map(str::to_string) }
            }
            Type::SnapshotStatistic | Type::Bulk => {
                if id.is_some() {
                    repeated.push("population row with individual", || {
                        Diagnostic::error("P0404", "a row about the population names an individual")
                            .at(&cell(INDIVIDUAL_ID).span(), "expected nothing")
                            .also(&cell(DATA_TYPE).span(), "a statistic of many individuals")
                    });
                }
                let statistic = self.statistic(row, kind, known, repeated, context, d)?;
                if kind == Type::Bulk { DataKind::Bulk(statistic) } else { DataKind::SnapshotStatistic(statistic) }
            }
        };
        Some(())
    }

    fn censoring(&self, row: usize, value: f64, d: &mut Diagnostics) -> Option<Censoring> {
        const WORDS: [(&str, u8); 4] = [("none", 0), ("right", 1), ("left", 2), ("interval", 3)];
        Some(match self.cell(row, CENSORING).word(&WORDS, d).ok()?.unwrap_or(0) {
            0 => Censoring::None,
            1 => Censoring::Right,
            2 => Censoring::Left,
            _ => {
                let cell = self.cell(row, MEASUREMENT_UPPER);
                let upper = cell.optional_number(d).ok()?;
                let Some(upper) = upper.filter(|upper| *upper > value) else {
                    d.push(
                        Diagnostic::error("P0416", "an interval-censored row needs an upper end above the measurement")
                            .at(&cell.span(), format!("expected a number above {value} in `measurementUpper`")),
                    );
                    return None;
                };
                Censoring::Interval(upper)
            }
        })
    }

    fn weight(&self, row: usize, repeated: &mut Repeated, d: &mut Diagnostics) -> Option<f64> {
        let cell = self.cell(row, WEIGHT);
        let weight = cell.optional_number(d).ok()?.filter(|w| !w.is_nan()).unwrap_or(1.0);
        if !(weight >= 0.0 && weight.is_finite()) {
            cell.not_a_number("a number that is not negative", d);
            return None;
        }
        if weight != 1.0 {
            repeated.push("weights", || {
                Diagnostic::warning("P0513", "rows are weighted: the objective is not a likelihood")
                    .at(&cell.span(), "a weight other than 1")
                    .help("standard errors, likelihood ratios and information criteria of such a fit are not valid")
            });
        }
        Some(weight)
    }

    fn needs_individual(&self, row: usize, kind: Type, repeated: &mut Repeated) {
        let name = if kind == Type::Trajectory { "trajectory" } else { "time_to_event" };
        repeated.push(format!("needs individual {name}"), || {
            Diagnostic::error("P0403", format!("a `{name}` row needs an individual"))
                .at(&self.cell(row, DATA_TYPE).span(), "`individualId` is empty in this row")
                .help("rows with the same `individualId` share one draw of the random effects")
        });
    }

    fn event(
        &self,
        row: usize,
        known: &Known,
        measurement: &Measurement,
        repeated: &mut Repeated,
        context: &Context,
        d: &mut Diagnostics,
    ) -> Option<String> {
        let cell = self.cell(row, EVENT_ID);
        let name = cell.optional_id(d);
        if name.is_none_or(|name| known.events.iter().all(|e| e.id != name)) {
            let ids = || known.events.iter().map(|e| e.id.as_str());
            let name = name.unwrap_or("");
            repeated.push(format!("event {name}"), || {
                let mut diagnostic = Diagnostic::error("P0405", if name.is_empty() { "a `time_to_event` row names no event".to_string() } else { format!("undefined event `{name}`") })
                    .at(&cell.span(), "not in the event table")
                    .suggest(name, ids());
                if known.events.is_empty() {
                    diagnostic = diagnostic.help("list the event table under `event_files` of the extension `nlme`");
                } else {
                    diagnostic = diagnostic.help(format!("defined events: {}", listing(ids())));
                }
                diagnostic
            });
            return None;
        }
        let observable = &context.observables[measurement.observable];
        if !matches!(observable.formula.ast.kind, AstKind::Time) {
            repeated.push(format!("event observable {}", observable.id), || {
                Diagnostic::error("P0412", format!("the observable `{}` of a `time_to_event` row is not the time", observable.id))
                    .at(&observable.formula.span, "expected `time`")
                    .also(&measurement.span, "measured here")
                    .help("the noise formula then is the standard deviation of the event time")
            });
        }
        if (measurement.time - measurement.value).abs() > 1e-9 * measurement.value.abs() {
            repeated.push("event time", || {
                Diagnostic::warning("P0512", "`time` and `measurement` of a `time_to_event` row differ")
                    .at(&measurement.span, "this is taken as the event time")
                    .help("readers without the extension compare the two")
            });
        }
        name.map(str::to_string)
    }

    fn statistic(&self, row: usize, kind: Type, known: &Known, repeated: &mut Repeated, context: &Context, d: &mut Diagnostics) -> Option<PopulationStatistic> {
        let cell = self.cell(row, STATISTIC);
        let built_in: &[&str] = match kind {
            Type::Bulk => &["mean", "fraction_event"],
            _ => &["mean", "variance", "sd", "covariance", "log_variance"],
        };
        let name = match cell.text() {
            "" if kind == Type::Bulk => "mean",
            name => name,
        };
        let statistic = if built_in.contains(&name) {
            match name {
                "mean" => Statistic::Mean,
                "variance" => Statistic::Variance,
                "sd" => Statistic::Sd,
                "log_variance" => Statistic::LogVariance,
                "fraction_event" => Statistic::FractionEvent,
                _ => Statistic::Covariance(self.second_observable(row, context, repeated)?),
            }
        } else if known.statistics.iter().any(|s| s.id == name) {
            Statistic::Composite(name.to_string())
        } else {
            let place = if cell.column_name().is_empty() { self.cell(row, DATA_TYPE) } else { cell };
            let candidates = || built_in.iter().copied().chain(known.statistics.iter().map(|s| s.id.as_str()));
            repeated.push(format!("statistic {name}"), || {
                let message = if name.is_empty() { "a `snapshot_statistic` row names no statistic".to_string() } else { format!("undefined statistic `{name}`") };
                Diagnostic::error("P0411", message)
                    .at(&place.span(), format!("expected one of {} or an id of the statistics table", built_in.join(", ")))
                    .suggest(name, candidates())
            });
            return None;
        };
        let size_cell = self.cell(row, SAMPLE_SIZE);
        let size = size_cell.optional_number(d).ok()?;
        if size.is_some_and(|n| n < 1.0 || n.fract() != 0.0) {
            size_cell.not_a_number("a positive whole number", d);
            return None;
        }
        let sd_cell = self.cell(row, STATISTIC_SD);
        let sd = match parse_number(sd_cell.text()) {
            _ if sd_cell.is_missing() => None,
            Some(sd) if sd > 0.0 => Some(Override::Number(sd)),
            None if is_id(sd_cell.text()) => {
                let name = sd_cell.text();
                if !context.parameter_ids.contains(&name) {
                    undefined_parameter(name, &sd_cell.span(), context.parameter_ids.iter().copied(), repeated);
                }
                Some(Override::Id(name.to_string(), sd_cell.span()))
            }
            _ => {
                sd_cell.not_a_number("a positive number or a parameter", d);
                return None;
            }
        };
        let composite = matches!(statistic, Statistic::Composite(_));
        let optional = kind == Type::Bulk && statistic == Statistic::Mean;
        if sd.is_none() && !optional && (composite || size.is_none_or(|n| n < 2.0)) {
            let place = if sd_cell.column_name().is_empty() { self.cell(row, DATA_TYPE) } else { sd_cell };
            let expected = if composite { "`statisticSd`, because the statistic is composite" } else { "`statisticSd`, or a `sampleSize` of at least 2" };
            repeated.push(format!("precision {name}"), || {
                Diagnostic::error("P0413", format!("the precision of the statistic `{name}` is not known")).at(&place.span(), format!("expected {expected}"))
            });
        }
        Some(PopulationStatistic { statistic, sample_size: size.map(|n| n as u64), sd })
    }

    fn second_observable(&self, row: usize, context: &Context, repeated: &mut Repeated) -> Option<usize> {
        let cell = self.cell(row, OBSERVABLE_ID_2);
        let found = context.observables.iter().position(|o| o.id == cell.text());
        if found.is_none() {
            let place = if cell.column_name().is_empty() { self.cell(row, STATISTIC) } else { cell };
            second_undefined(cell.text(), &place.span(), context.observables, repeated);
        }
        found
    }
}

fn second_undefined(name: &str, span: &Span, observables: &[Observable], repeated: &mut Repeated) {
    repeated.push(format!("second observable {name}"), || {
        let message = if name.is_empty() { "a covariance needs a second observable".to_string() } else { format!("a statistic refers to an undefined observable `{name}`") };
        Diagnostic::error("P0417", message)
            .at(span, "not in the observable table")
            .suggest(name, observables.iter().map(|o| o.id.as_str()))
    });
}

fn undefined_parameter<'n>(name: &str, span: &Span, known: impl Iterator<Item = &'n str>, repeated: &mut Repeated) {
    repeated.push(format!("nlme parameter {name}"), || {
        Diagnostic::error("P0407", format!("undefined parameter `{name}`"))
            .at(span, "neither in the parameter table nor in a hyperparameter table")
            .suggest(name, known)
    });
}

impl Individuals {
    /// The individual's index; reports what contradicts its earlier rows.
    fn index(&mut self, id: &str, measurement: &Measurement, cell: &Cell, repeated: &mut Repeated) -> usize {
        // Rows of one individual follow each other.
        let last = self.list.len().checked_sub(1).filter(|last| self.list[*last].id == id);
        let index = match last.or_else(|| self.index.get(id).copied()) {
            Some(index) => index,
            None => {
                self.list.push(Individual { id: id.to_string(), experiment: measurement.experiment });
                self.index.insert(id.to_string(), self.list.len() - 1);
                self.first.push((cell.span(), measurement.weight));
                self.list.len() - 1
            }
        };
        let (first, weight) = &self.first[index];
        if self.list[index].experiment != measurement.experiment {
            repeated.push(format!("experiments of {id}"), || {
                Diagnostic::error("P0409", format!("the individual `{id}` is in two experiments"))
                    .at(&cell.span(), "another experiment than in its first row")
                    .also(first, "its first row")
                    .help("an individual stays in one experiment; use two ids, or one experiment with several periods")
            });
        }
        if *weight != measurement.weight {
            repeated.push(format!("weights of {id}"), || {
                Diagnostic::error("P0414", format!("the rows of the individual `{id}` have different weights"))
                    .at(&cell.span(), format!("weight {}", measurement.weight))
                    .also(first, format!("weight {weight}"))
                    .help("the weight multiplies the individual's marginal log-likelihood, so it is one number")
            });
        }
        index
    }

    /// Reports individuals with rows over time and snapshot rows.
    pub fn check(&self, d: &mut Diagnostics) {
        for (individual, (first, _)) in self.list.iter().zip(&self.first) {
            if let Some(snapshot) = self.snapshots.get(&individual.id) {
                d.push(
                    Diagnostic::error("P0410", format!("cell `{}` has trajectory rows and snapshot rows", individual.id))
                        .at(snapshot, "a snapshot row")
                        .also(first, "a row over time")
                        .help("a cell is measured either over time or once; give the snapshot cells other ids"),
                );
            }
        }
    }
}

/// Reads the event tables.
pub fn read_events(tables: &[Table], d: &mut Diagnostics) -> Vec<EventTrigger> {
    let mut events: Vec<EventTrigger> = Vec::new();
    for table in tables {
        let (Some(id), Some(trigger)) = (table.require("eventId", &[], d), table.require("triggerFormula", &[], d)) else { continue };
        let optional = ["direction", "occurrence", "sbmlEventId", "armedFrom"].map(|name| table.find(name));
        for row in 0..table.rows() {
            let [direction, occurrence, sbml, armed] = optional.map(|column| table.cell(row, column));
            let id_cell = table.cell(row, Some(id));
            for (cell, construct) in [(sbml, "the link of an observed event to an SBML event"), (armed, "`armedFrom` of an event")] {
                if !cell.is_missing() {
                    d.push(unsupported(&cell.span(), construct, "give a trigger formula that is true only then"));
                }
            }
            let trigger = formula::read(&table.cell(row, Some(trigger)), d);
            let direction = direction.word(&[("up", Direction::Up), ("down", Direction::Down), ("any", Direction::Any)], d);
            let occurrence = match occurrence.text() {
                "" | "first" => 1,
                text => text.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| {
                    occurrence.not_a_number("`first` or a positive whole number", d);
                    1
                }),
            };
            let (Some(id), Some(trigger), Ok(direction)) = (id_cell.id(d), trigger, direction) else { continue };
            if let Some(first) = events.iter().find(|e| e.id == id) {
                duplicate("event", id, &id_cell.span(), &first.span, d);
                continue;
            }
            let direction = direction.unwrap_or(Direction::Any);
            events.push(EventTrigger { id: id.to_string(), trigger, direction, occurrence, span: id_cell.span() });
        }
    }
    events
}

/// Reads the tables of composite statistics.
pub fn read_statistics(tables: &[Table], observables: &[Observable], d: &mut Diagnostics) -> Vec<CompositeStatistic> {
    const BUILT_IN: [&str; 6] = ["mean", "variance", "sd", "covariance", "log_variance", "fraction_event"];
    let mut statistics: Vec<CompositeStatistic> = Vec::new();
    let mut repeated = Repeated::default();
    for table in tables {
        let (Some(id), Some(formula)) = (table.require("statisticId", &[], d), table.require("formula", &[], d)) else { continue };
        for row in 0..table.rows() {
            let id_cell = table.cell(row, Some(id));
            let statistic = composite(&table.cell(row, Some(formula)), observables, &mut repeated, d);
            let (Some(id), Some((formula, functionals))) = (id_cell.id(d), statistic) else { continue };
            if BUILT_IN.contains(&id) {
                d.push(
                    Diagnostic::error("P0418", format!("a composite statistic cannot be called `{id}`"))
                        .at(&id_cell.span(), "the name of a built-in statistic"),
                );
            }
            if let Some(first) = statistics.iter().find(|s| s.id == id) {
                duplicate("statistic", id, &id_cell.span(), &first.span, d);
                continue;
            }
            statistics.push(CompositeStatistic { id: id.to_string(), formula, functionals, span: id_cell.span() });
        }
    }
    repeated.finish(d);
    statistics
}

/// Takes the functionals out of a composite statistic and reads what is left as PEtab math.
///
/// A call such as `mean(obs)` is overwritten by a name `_f0` and blanks, so that places in the formula stay right.
fn composite(cell: &Cell, observables: &[Observable], repeated: &mut Repeated, d: &mut Diagnostics) -> Option<(super::Formula, Vec<Functional>)> {
    let text = cell.text();
    let span = cell.span();
    let (mut rest, mut done) = (String::new(), 0);
    let mut functionals: Vec<Functional> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let word = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count();
        if word == 0 {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let (name, start) = (&text[at..at + word], at);
        at += word;
        let open = text[at..].len() - text[at..].trim_start().len() + at;
        if !["mean", "mean_at", "var", "cov", "quantile"].contains(&name) || !text[open..].starts_with('(') {
            continue;
        }
        // Without a closing parenthesis there are no arguments.
        let Some(close) = text[open..].find(')').map(|i| open + i) else {
            wrong_arguments(name, &span.part(start..text.len()), d);
            return None;
        };
        let mut arguments = Vec::new();
        let mut offset = open + 1;
        for argument in text[open + 1..close].split(',') {
            let blanks = argument.len() - argument.trim_start().len();
            arguments.push((argument.trim(), offset + blanks));
            offset += argument.len() + 1;
        }
        let mut observable = |index: usize| {
            let (name, place) = *arguments.get(index)?;
            let found = observables.iter().position(|o| o.id == name);
            match found {
                None => second_undefined(name, &span.part(place..place + name.len()), observables, repeated),
                Some(found) if !observables[found].observable_placeholders.is_empty() => {
                    d.push(unsupported(&span.part(place..place + name.len()), "a statistic of an observable with placeholders", "use an observable without placeholders"));
                }
                Some(_) => {}
            }
            found
        };
        let number = |index: usize| arguments.get(index).and_then(|a| parse_number(a.0)).filter(|v| v.is_finite());
        let functional = match (name, arguments.len()) {
            ("mean", 1) => observable(0).map(|observable| Functional::Mean { observable, time: None }),
            ("mean_at", 2) if number(1).is_some() => observable(0).map(|observable| Functional::Mean { observable, time: number(1) }),
            ("var", 1) => observable(0).map(Functional::Variance),
            ("cov", 2) => observable(0).zip(observable(1)).map(|(a, b)| Functional::Covariance(a, b)),
            ("quantile", 2) if number(1).is_some_and(|p| p > 0.0 && p < 1.0) => observable(0).zip(number(1)).map(|(o, p)| Functional::Quantile(o, p)),
            _ => {
                wrong_arguments(name, &span.part(start..close + 1), d);
                return None;
            }
        };
        let functional = functional?;
        let index = functionals.iter().position(|f| *f == functional).unwrap_or_else(|| {
            functionals.push(functional);
            functionals.len() - 1
        });
        rest.push_str(&text[done..start]);
        rest.push_str(&format!("{:width$}", format!("_f{index}"), width = close + 1 - start));
        at = close + 1;
        done = at;
    }
    rest.push_str(&text[done..]);
    if cell.is_empty() {
        cell.empty("a formula", d);
        return None;
    }
    let formula = formula::parse(rest.trim_end(), span, d)?;
    Some((formula, functionals))
}

fn wrong_arguments(name: &str, span: &Span, d: &mut Diagnostics) {
    d.push(
        Diagnostic::error("P0419", format!("`{name}` has the wrong arguments"))
            .at(span, "expected mean(obs), mean_at(obs, time), var(obs), cov(obs, obs) or quantile(obs, p)"),
    );
}

/// Reads the random-effect tables. `defined` are the ids an effect can be restricted to.
pub fn read_random_effects(
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
            let (id_cell, target_cell, kind_cell) = (table.cell(row, Some(id)), table.cell(row, Some(target)), table.cell(row, Some(transformation)));
            if level.word(&[("individual", false), ("group", true)], d) == Ok(Some(true)) {
                d.push(unsupported(&level.span(), "a random effect of level `group`", "use `individual`"));
            }
            if let Ok(Some(true)) = distribution.word(&[("normal", false), ("t", true), ("mixture", true)], d) {
                d.push(unsupported(&distribution.span(), &format!("a random effect with the distribution `{}`", distribution.text()), "use `normal`"));
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
            effects.push(RandomEffect { id: id.to_string(), target, transformation, experiments: only, span: id_cell.span() });
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
    match cell.word(&[("additive", Transformation::Additive), ("log", Transformation::Log), ("logit;lower;upper", Transformation::Additive)], d) {
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
            Diagnostic::error("P0420", format!("the nominal value {value} of `{}` is outside the domain of the random effect's transformation", parameter.id))
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
            let value = match parse_number(value_cell.text()).filter(|v| v.is_finite()) {
                Some(number) => Some(CovarianceValue::Number(number)),
                None if is_id(value_cell.text()) => {
                    let found = parameters.iter().position(|p| p.id == value_cell.text());
                    if found.is_none() {
                        undefined_parameter(value_cell.text(), &value_cell.span(), parameters.iter().map(|p| p.id.as_str()), &mut repeated);
                    }
                    found.map(CovarianceValue::Parameter)
                }
                None => {
                    value_cell.not_a_number("a number or a hyperparameter", d);
                    None
                }
            };
            let (Some(first), Some(second), Some(kind), Some(value)) = (first, second, kind, value) else {
                complete = false;
                continue;
            };
            let diagonal = first == second;
            let wrong = match kind {
                Sd | Var | LogVar if !diagonal => Some("only entries with equal rowId and colId have this kind"),
                Corr if diagonal => Some("a correlation is between two random effects"),
                Chol if first < second => Some("`chol` entries form the lower triangle: rowId comes after colId in the random-effect table"),
                _ if entries.first().is_some_and(|e| (e.kind == Chol) != (kind == Chol)) => Some("`chol` entries cannot be mixed with other kinds"),
                _ => None,
            };
            if let Some(reason) = wrong {
                d.push(Diagnostic::error("P0421", format!("`{}` cannot be used for this entry of the covariance", kind_cell.text())).at(&kind_cell.span(), reason));
                complete = false;
                continue;
            }
            if let Some(other) = entries.iter().find(|e| (e.row, e.column) == (first, second) || (e.row, e.column) == (second, first)) {
                duplicate("covariance entry", &format!("{}, {}", effects[first].id, effects[second].id), &cell(row_id).span(), &other.span, d);
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
        CovarianceValue::Number(value) => Some(value),
        CovarianceValue::Parameter(index) => parameters[index].nominal,
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

/// Known words of the hints `individual_integration` and `population_integration`; others are passed on with a warning.
pub fn check_hint(key: &str, word: &str, span: &Span, d: &mut Diagnostics) {
    let known: &[&str] = match key {
        "individual_integration" => &["laplace", "gauss_newton", "gauss_hermite", "importance"],
        _ => &["sobol", "gauss_hermite", "monte_carlo"],
    };
    if !known.contains(&word) {
        let mut diagnostic = Diagnostic::warning("P0515", format!("the hint `{key}: {word}` is not known"))
            .at(span, format!("known: {}", known.join(", ")));
        if let Some(near) = nearest(word, known.iter().copied()) {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        d.push(diagnostic);
    }
}
