//! The extra columns that the extension `nlme` gives the measurement table (specification of the extension, section
//! "Measurement table"): kinds of data, individuals, events, censoring, population statistics, weights.

use super::measurements::Context;
use super::random_effects::undefined_parameter;
use super::statistics::undefined_observable;
use super::table::{Cell, Repeated, Table, is_id, listing, parse_number};
use super::{
    Censoring, CompositeStatistic, DataKind, EventTrigger, Individual, Measurement, Override, PopulationStatistic, RandomEffect, Statistic,
    unsupported,
};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::AstKind;
use rustc_hash::FxHashMap;

/// Ids that measurement rows may refer to.
pub struct Known<'a> {
    /// Events.
    pub events: &'a [EventTrigger],
    /// Composite statistics.
    pub statistics: &'a [CompositeStatistic],
}

/// Columns that only this extension gives a meaning.
const COLUMNS: [&str; 11] = [
    "dataType",
    "individualId",
    "eventId",
    "censoring",
    "measurementUpper",
    "statistic",
    "observableId2",
    "sampleSize",
    "statisticSd",
    "weight",
    "groupId",
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
const GROUP_ID: usize = 10;

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
    /// The first row with a group that is about no individual.
    grouped: Option<Span>,
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
        if self.known.is_none() {
            return Some(());
        }
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
        let group = cell(GROUP_ID).optional_id(d);
        if group.is_some() && !matches!(kind, Type::Trajectory | Type::TimeToEvent) {
            individuals.grouped.get_or_insert_with(|| cell(GROUP_ID).span());
        }
        if matches!(kind, Type::SnapshotStatistic | Type::Bulk) && measurement.censoring != Censoring::None {
            repeated.push("censored statistic", || {
                Diagnostic::error("P0422", "a statistic of the population cannot be censored")
                    .at(&cell(CENSORING).span(), "expected nothing")
                    .also(&cell(DATA_TYPE).span(), "a statistic of many individuals")
            });
        }
        measurement.kind = match kind {
            Type::Typical => DataKind::Typical,
            Type::Trajectory | Type::TimeToEvent => {
                let Some(id) = id else {
                    self.needs_individual(row, kind, repeated);
                    return None;
                };
                let individual = individuals.index((id, group), measurement, [&cell(INDIVIDUAL_ID), &cell(GROUP_ID)], repeated);
                if kind == Type::Trajectory {
                    DataKind::Trajectory { individual }
                } else {
                    DataKind::TimeToEvent { individual, event: self.event(row, kind, measurement, repeated, context, d)? }
                }
            }
            Type::Snapshot => {
                if let Some(id) = id {
                    individuals.snapshots.entry(id.to_string()).or_insert_with(|| cell(INDIVIDUAL_ID).span());
                }
                let cells = self.size(row, d)?.unwrap_or(1);
                if id.is_some() && cells > 1 {
                    repeated.push("snapshot of several", || {
                        Diagnostic::error("P0423", "a snapshot row that stands for several individuals names one of them")
                            .at(&cell(INDIVIDUAL_ID).span(), "expected nothing")
                            .also(&cell(SAMPLE_SIZE).span(), format!("{cells} individuals"))
                    });
                }
                DataKind::Snapshot { individual: id.map(str::to_string), cells }
            }
            Type::SnapshotStatistic | Type::Bulk => {
                if id.is_some() {
                    repeated.push("population row with individual", || {
                        Diagnostic::error("P0404", "a row about the population names an individual")
                            .at(&cell(INDIVIDUAL_ID).span(), "expected nothing")
                            .also(&cell(DATA_TYPE).span(), "a statistic of many individuals")
                    });
                }
                let statistic = self.statistic(row, kind, measurement, repeated, context, d)?;
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

    /// The event of a row, whose observable is the time.
    fn event(
        &self,
        row: usize,
        kind: Type,
        measurement: &Measurement,
        repeated: &mut Repeated,
        context: &Context,
        d: &mut Diagnostics,
    ) -> Option<String> {
        let known = self.known?;
        let cell = self.cell(row, EVENT_ID);
        let row_kind = if kind == Type::TimeToEvent { "time_to_event" } else { "fraction_event" };
        let name = cell.optional_id(d);
        if name.is_none_or(|name| known.events.iter().all(|e| e.id != name)) {
            let ids = || known.events.iter().map(|e| e.id.as_str());
            let name = name.unwrap_or("");
            repeated.push(format!("event {name}"), || {
                let mut diagnostic = Diagnostic::error(
                    "P0405",
                    if name.is_empty() { format!("a `{row_kind}` row names no event") } else { format!("undefined event `{name}`") },
                )
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
        let has_hazard = known.events.iter().any(|e| Some(e.id.as_str()) == name && e.cumulative_hazard.is_some());
        if has_hazard && kind != Type::TimeToEvent {
            repeated.push(format!("fraction {}", cell.text()), || {
                unsupported(
                    &cell.span(),
                    "`fraction_event` of an event that has a hazard",
                    "measure an observable that is the expected fraction",
                )
            });
        }
        let observable = &context.observables[measurement.observable];
        if !matches!(observable.formula.ast.kind, AstKind::Time) {
            repeated.push(format!("event observable {}", observable.id), || {
                Diagnostic::error("P0412", format!("the observable `{}` of a `{row_kind}` row is not the time", observable.id))
                    .at(&observable.formula.span, "expected `time`")
                    .also(&measurement.span, "measured here")
                    .help(
                        "the noise formula then is the standard deviation of the event time (without effect where the event has a hazard)",
                    )
            });
        }
        if kind == Type::TimeToEvent && (measurement.time - measurement.value).abs() > 1e-9 * measurement.value.abs() {
            repeated.push("event time", || {
                Diagnostic::warning("P0512", "`time` and `measurement` of a `time_to_event` row differ")
                    .at(&measurement.span, "this is taken as the event time")
                    .help("readers without the extension compare the two")
            });
        }
        name.map(str::to_string)
    }

    fn statistic(
        &self,
        row: usize,
        kind: Type,
        measurement: &Measurement,
        repeated: &mut Repeated,
        context: &Context,
        d: &mut Diagnostics,
    ) -> Option<PopulationStatistic> {
        let known = self.known?;
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
                "fraction_event" => Statistic::FractionEvent(self.event(row, kind, measurement, repeated, context, d)?),
                _ => Statistic::Covariance(self.second_observable(row, context, repeated)?),
            }
        } else if known.statistics.iter().any(|s| s.id == name) {
            Statistic::Composite(name.to_string())
        } else {
            let place = if cell.column_name().is_empty() { self.cell(row, DATA_TYPE) } else { cell };
            let candidates = || built_in.iter().copied().chain(known.statistics.iter().map(|s| s.id.as_str()));
            repeated.push(format!("statistic {name}"), || {
                let message = if name.is_empty() {
                    "a `snapshot_statistic` row names no statistic".to_string()
                } else {
                    format!("undefined statistic `{name}`")
                };
                Diagnostic::error("P0411", message)
                    .at(&place.span(), format!("expected one of {} or an id of the statistics table", built_in.join(", ")))
                    .suggest(name, candidates())
            });
            return None;
        };
        let size = self.size(row, d)?;
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
        if sd.is_none() && !optional && (composite || size.is_none_or(|n| n < 2)) {
            let place = if sd_cell.column_name().is_empty() { self.cell(row, DATA_TYPE) } else { sd_cell };
            let expected = if composite {
                "`statisticSd`, because the statistic is composite"
            } else {
                "`statisticSd`, or a `sampleSize` of at least 2"
            };
            repeated.push(format!("precision {name}"), || {
                Diagnostic::error("P0413", format!("the precision of the statistic `{name}` is not known"))
                    .at(&place.span(), format!("expected {expected}"))
            });
        }
        Some(PopulationStatistic { statistic, sample_size: size, sd })
    }

    /// The number of individuals behind a row; `None` if it is wrong, which is reported.
    fn size(&self, row: usize, d: &mut Diagnostics) -> Option<Option<u64>> {
        let cell = self.cell(row, SAMPLE_SIZE);
        let size = cell.optional_number(d).ok()?;
        if size.is_some_and(|n| n < 1.0 || n.fract() != 0.0) {
            cell.not_a_number("a positive whole number", d);
            return None;
        }
        Some(size.map(|n| n as u64))
    }

    fn second_observable(&self, row: usize, context: &Context, repeated: &mut Repeated) -> Option<usize> {
        let cell = self.cell(row, OBSERVABLE_ID_2);
        let found = context.observables.iter().position(|o| o.id == cell.text());
        if found.is_none() {
            let place = if cell.column_name().is_empty() { self.cell(row, STATISTIC) } else { cell };
            undefined_observable(cell.text(), &place.span(), context.observables, repeated);
        }
        found
    }
}

impl Individuals {
    /// The individual's index; reports what contradicts its earlier rows.
    fn index(
        &mut self,
        (id, group): (&str, Option<&str>),
        measurement: &Measurement,
        [cell, group_cell]: [&Cell; 2],
        repeated: &mut Repeated,
    ) -> usize {
        // Rows of one individual follow each other.
        let last = self.list.len().checked_sub(1).filter(|last| self.list[*last].id == id);
        let index = match last.or_else(|| self.index.get(id).copied()) {
            Some(index) => index,
            None => {
                self.list.push(Individual { id: id.to_string(), experiment: measurement.experiment, group: group.map(str::to_string) });
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
        if self.list[index].group.as_deref() != group {
            repeated.push(format!("groups of {id}"), || {
                Diagnostic::error("P0425", format!("the individual `{id}` is in two groups"))
                    .at(&group_cell.span(), format!("expected `{}`", self.list[index].group.as_deref().unwrap_or("")))
                    .also(first, "its first row")
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

    /// Reports what is in no group although there are random effects of groups, or is in one that cannot be.
    pub fn check_groups(&self, effects: &[RandomEffect], d: &mut Diagnostics) {
        let Some(effect) = effects.iter().find(|e| e.of_group) else { return };
        let mut without = self.list.iter().zip(&self.first).filter(|(individual, _)| individual.group.is_none());
        if let Some((individual, (first, _))) = without.next() {
            let mut diagnostic = Diagnostic::error("P0426", format!("the individual `{}` is in no group", individual.id))
                .at(first, "`groupId` is empty in this row")
                .also(&effect.span, "an effect that individuals of a group share");
            if without.next().is_some() {
                diagnostic = diagnostic.help("the same in others");
            }
            d.push(diagnostic);
        }
        if let Some(place) = &self.grouped {
            d.push(unsupported(
                place,
                "a group of a row that is about no single individual",
                "leave it empty: such rows are of the population of all groups",
            ));
        }
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
