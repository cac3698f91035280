//! What is done to the system: conditions and experiments of both versions.
//!
//! * Version 1 "Condition table": wide, one column per changed entity. A pair (pre-equilibration condition, simulation
//!   condition) that measurements name becomes an [`Experiment`] with the periods -inf (if there is a pre-equilibration) and 0.
//!   An empty or NaN cell changes nothing: the state keeps its value from the pre-equilibration, the parameter its value
//!   from the model, so in version 1 a period's changes replace those of the period before.
//! * Version 2 "Conditions table" and "Experiments table": long, one row per change and per (experiment, time, condition).
//!   In version 2 a change stays in force in later periods.

use super::table::{self, Repeated, Table, counted, listing};
use super::{Change, Experiment, Formula, Period, formula};
use crate::diag::{Diagnostic, Diagnostics, Span};
use indexmap::IndexMap;

/// A condition: changes that belong together.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The changes in file order.
    pub changes: Vec<Change>,
    /// Place of the id.
    pub span: Span,
}

/// All conditions.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// By id, in file order.
    pub by_id: IndexMap<String, Condition>,
    /// Everything that is changed by some condition, with a place.
    pub targets: IndexMap<String, Span>,
    /// Whether all condition tables could be read. If not, an undefined condition may be a follow-up of that.
    pub complete: bool,
}

/// Reads the condition tables of version 1.
pub fn read_conditions_v1(tables: &[Table], complete: bool, d: &mut Diagnostics) -> Conditions {
    let mut conditions = Conditions { by_id: IndexMap::new(), targets: IndexMap::new(), complete };
    for table in tables {
        let hint = "one row per change (`targetId`, `targetValue`) is PEtab v2; this problem says format_version 1";
        if let Some((_, place)) = table.columns().find(|(name, _)| *name == "targetId") {
            wrong_layout(hint, &place, "expected one column per changed entity", d);
            conditions.complete = false;
            continue;
        }
        let Some(id) = table.require("conditionId", &[], d) else {
            conditions.complete = false;
            continue;
        };
        let mut targets = Vec::new();
        for (column, (name, place)) in table.columns().enumerate() {
            if column == id || name == "conditionName" || name.is_empty() {
                continue;
            }
            if !table::is_id(name) {
                table::invalid_id(name, &place, "a column of the condition table names a model entity", d);
                continue;
            }
            conditions.targets.entry(name.to_string()).or_insert_with(|| place.clone());
            targets.push((column, name.to_string(), place));
        }
        for row in 0..table.rows() {
            let cell = table.cell(row, Some(id));
            let Some(name) = cell.id(d) else {
                conditions.complete = false;
                continue;
            };
            if let Some(first) = conditions.by_id.get(name) {
                table::duplicate("condition", name, &cell.span(), &first.span, d);
                conditions.complete = false;
                continue;
            }
            let mut changes = Vec::new();
            for (column, target, place) in &targets {
                let value = table.cell(row, Some(*column));
                if value.is_missing() {
                    continue;
                }
                if table::parse_number(value.text()).is_none() && !table::is_id(value.text()) {
                    value.not_a_number("a number, an identifier or nothing", d);
                    continue;
                }
                if let Some(value) = formula::read(&value, d) {
                    changes.push(Change { target: target.clone(), value, span: place.clone() });
                }
            }
            conditions.by_id.insert(name.to_string(), Condition { changes, span: cell.span() });
        }
    }
    conditions
}

/// Reads the condition tables of version 2.
pub fn read_conditions_v2(tables: &[Table], complete: bool, d: &mut Diagnostics) -> Conditions {
    let mut conditions = Conditions { by_id: IndexMap::new(), targets: IndexMap::new(), complete };
    for table in tables {
        if table.find("targetId").is_none() && table.find("targetValue").is_none() && table.find("conditionId").is_some() {
            let place = table.columns().next().map(|(_, place)| place).unwrap_or_else(|| table.source().span(0..0));
            let hint = "one column per changed entity is PEtab v1; this problem says format_version 2";
            wrong_layout(hint, &place, "expected the columns `conditionId`, `targetId`, `targetValue`", d);
            conditions.complete = false;
            continue;
        }
        let columns = ["conditionId", "targetId", "targetValue"].map(|name| table.require(name, &[], d));
        let [Some(id), Some(target), Some(value)] = columns else {
            conditions.complete = false;
            continue;
        };
        for row in 0..table.rows() {
            let (id_cell, target_cell, value_cell) =
                (table.cell(row, Some(id)), table.cell(row, Some(target)), table.cell(row, Some(value)));
            let (id, target, value) = (id_cell.id(d), target_cell.id(d), formula::read(&value_cell, d));
            let Some(id) = id else {
                conditions.complete = false;
                continue;
            };
            let condition =
                conditions.by_id.entry(id.to_string()).or_insert_with(|| Condition { changes: Vec::new(), span: id_cell.span() });
            let Some(target) = target else { continue };
            conditions.targets.entry(target.to_string()).or_insert_with(|| target_cell.span());
            if let Some(first) = condition.changes.iter().find(|c| c.target == target) {
                overlapping(&format!("the condition `{id}` changes `{target}` twice"), &target_cell.span(), &first.span, d);
                continue;
            }
            if let Some(value) = value {
                condition.changes.push(Change { target: target.to_string(), value, span: target_cell.span() });
            }
        }
    }
    conditions
}

fn wrong_layout(help: &str, place: &Span, label: &str, d: &mut Diagnostics) {
    d.push(Diagnostic::error("P0119", "the condition table has the layout of the other PEtab version").at(place, label).help(help));
}

fn overlapping(message: &str, second: &Span, first: &Span, d: &mut Diagnostics) {
    d.push(
        Diagnostic::error("P0208", message)
            .at(second, "the second change")
            .also(first, "the first change")
            .help("changes at one time happen at once, so their order cannot decide"),
    );
}

/// An experiment of version 2 with its place.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The experiment.
    pub experiment: Experiment,
    /// Place of its first row.
    pub span: Span,
}

/// Reads the experiment tables of version 2.
///
/// `complete` becomes false if a table could not be read.
/// An experiment with a period at -inf and none at a finite time gets one at 0 without changes, as case 0023 of the v2 test suite expects.
pub fn read_experiments(tables: &[Table], conditions: &Conditions, complete: &mut bool, d: &mut Diagnostics) -> IndexMap<String, Planned> {
    // For each experiment its place and the conditions by time; times are few, so a list serves.
    type Schedule<'c> = Vec<(f64, Vec<(&'c Condition, Span)>)>;
    let mut plan: IndexMap<String, (Span, Schedule)> = IndexMap::new();
    let mut undefined = Repeated::default();
    let mut named = rustc_hash::FxHashSet::default();
    for table in tables {
        let columns = ["experimentId", "time", "conditionId"].map(|name| table.require(name, &[], d));
        let [Some(id), Some(time), Some(condition)] = columns else {
            *complete = false;
            continue;
        };
        for row in 0..table.rows() {
            let (id_cell, time_cell, condition_cell) =
                (table.cell(row, Some(id)), table.cell(row, Some(time)), table.cell(row, Some(condition)));
            let (id, time, condition) = (id_cell.id(d), time_cell.number(d), condition_cell.optional_id(d));
            if let Some(condition) = condition.filter(|c| !conditions.by_id.contains_key(*c)) {
                undefined_condition(condition, "the experiment table", &condition_cell.span(), conditions, &mut undefined);
            }
            let Some(id) = id else {
                *complete = false;
                continue;
            };
            let periods = &mut plan.entry(id.to_string()).or_insert_with(|| (id_cell.span(), Vec::new())).1;
            let Some(time) = time else { continue };
            if time == f64::INFINITY {
                d.push(
                    Diagnostic::error("P0211", format!("a period of the experiment `{id}` starts at infinite time"))
                        .at(&time_cell.span(), "expected a finite time, or `-inf` for a pre-equilibration"),
                );
                continue;
            }
            let period = match periods.iter_mut().position(|p| p.0 == time) {
                Some(index) => &mut periods[index],
                None => {
                    periods.push((time, Vec::new()));
                    let last = periods.len() - 1;
                    &mut periods[last]
                }
            };
            let Some((name, found)) = condition.and_then(|c| conditions.by_id.get_key_value(c)) else { continue };
            named.insert(name.as_str());
            match period.1.iter().find(|(other, _)| std::ptr::eq(*other, found)) {
                Some((_, first)) => d.push(
                    Diagnostic::error(
                        "P0216",
                        format!("the experiment `{id}` has the condition `{name}` twice at time {}", table::show(time)),
                    )
                    .at(&condition_cell.span(), "the second row")
                    .also(first, "the first row")
                    .help("delete one of them, or correct its time"),
                ),
                None => period.1.push((found, condition_cell.span())),
            }
        }
    }
    undefined.finish(d);
    unused_conditions(conditions, &named, "experiment", d);
    let mut planned = IndexMap::new();
    for (id, (span, mut periods)) in plan {
        periods.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged = Vec::new();
        for (time, conditions) in &periods {
            let mut changes: Vec<Change> = Vec::new();
            for change in conditions.iter().flat_map(|(c, _)| &c.changes) {
                match changes.iter().find(|c| c.target == change.target) {
                    Some(first) => overlapping(
                        &format!("two conditions at time {time} of the experiment `{id}` change `{}`", change.target),
                        &change.span,
                        &first.span,
                        d,
                    ),
                    None => changes.push(change.clone()),
                }
            }
            merged.push(Period { time: *time, changes });
        }
        if merged.iter().all(|p| p.time == f64::NEG_INFINITY) {
            merged.push(Period { time: 0.0, changes: Vec::new() });
        }
        planned.insert(id.clone(), Planned { experiment: Experiment { id, conditions: None, periods: merged }, span });
    }
    planned
}

/// Warns of conditions that are not `named` by any experiment or, in version 1, measurement.
fn unused_conditions(conditions: &Conditions, named: &rustc_hash::FxHashSet<&str>, by: &str, d: &mut Diagnostics) {
    let unused: Vec<(&String, &Condition)> = conditions.by_id.iter().filter(|(name, _)| !named.contains(name.as_str())).collect();
    // With mistakes in other names it is not known what is unused.
    if let Some((_, first)) = unused.first().filter(|_| !d.has_errors()) {
        d.push(
            Diagnostic::warning("P0506", format!("{} named by no {by}", is_or_are(unused.len(), "condition")))
                .at(&first.span, format!("not used: {}", listing(unused.iter().map(|u| u.0.as_str())))),
        );
    }
}

/// "the condition `x` is", "3 conditions are".
pub fn is_or_are(count: usize, noun: &str) -> String {
    format!("{} {}", counted(count, noun), if count == 1 { "is" } else { "are" })
}

fn undefined_condition(id: &str, place: &str, span: &Span, conditions: &Conditions, undefined: &mut Repeated) {
    if !conditions.complete {
        return;
    }
    undefined.push(format!("{place} {id}"), || {
        let mut diagnostic = Diagnostic::error("P0204", format!("{place} refers to an undefined condition `{id}`"))
            .at(span, "not in the condition table")
            .suggest(id, conditions.by_id.keys().map(String::as_str));
        if !conditions.by_id.is_empty() {
            diagnostic = diagnostic.help(format!("defined conditions: {}", listing(conditions.by_id.keys().map(String::as_str))));
        }
        diagnostic
    });
}

/// From the names in a measurement row to an index into [`Problem::experiments`](super::Problem::experiments), which grows
/// as new experiments are named.
pub struct Resolver<'a> {
    conditions: &'a Conditions,
    /// The experiments of version 2; `None` in version 1.
    planned: Option<&'a IndexMap<String, Planned>>,
    /// Whether all experiments are known.
    complete: bool,
    /// The experiments met so far.
    pub experiments: Vec<Experiment>,
    index: rustc_hash::FxHashMap<(String, String), usize>,
    /// The experiment of the row before.
    last: Option<usize>,
    undefined: Repeated,
}

impl<'a> Resolver<'a> {
    /// For version 1 (`planned` is `None`) or 2.
    pub fn new(conditions: &'a Conditions, planned: Option<&'a IndexMap<String, Planned>>, complete: bool) -> Self {
        Resolver {
            conditions,
            planned,
            complete,
            experiments: Vec::new(),
            index: Default::default(),
            last: None,
            undefined: Repeated::default(),
        }
    }

    /// Version 1: the experiment of a pair of conditions.
    pub fn pair(&mut self, preequilibration: Option<(&str, Span)>, simulation: (&str, Span)) -> Option<usize> {
        let before = preequilibration.as_ref().map_or("", |p| p.0);
        // Rows of one experiment follow each other by the thousand: looked at before anything is copied.
        if let Some(last) = self.last
            && let Some((preequilibration, name)) = &self.experiments[last].conditions
            && preequilibration.as_deref().unwrap_or("") == before
            && name == simulation.0
        {
            return Some(last);
        }
        let key = (before.to_string(), simulation.0.to_string());
        if let Some(found) = self.index.get(&key) {
            self.last = Some(*found);
            return self.last;
        }
        let mut periods = Vec::new();
        for ((name, span), time) in preequilibration.into_iter().map(|p| (p, f64::NEG_INFINITY)).chain([(simulation, 0.0)]) {
            match self.conditions.by_id.get(name) {
                Some(condition) => periods.push(Some(Period { time, changes: condition.changes.clone() })),
                None => {
                    undefined_condition(name, "the measurement table", &span, self.conditions, &mut self.undefined);
                    periods.push(None);
                }
            }
        }
        let periods = periods.into_iter().collect::<Option<Vec<_>>>()?;
        let (before, name) = key.clone();
        let id = if before.is_empty() { name.clone() } else { format!("{before}__{name}") };
        self.add(key, Experiment { id, conditions: Some((Some(before).filter(|b| !b.is_empty()), name)), periods })
    }

    /// Version 2: the experiment of this id; an empty id is the model as it is.
    pub fn experiment(&mut self, id: &str, span: impl FnOnce() -> Span) -> Option<usize> {
        if let Some(last) = self.last.filter(|last| self.experiments[*last].id == id) {
            return Some(last);
        }
        let key = (String::new(), id.to_string());
        if let Some(found) = self.index.get(&key) {
            self.last = Some(*found);
            return self.last;
        }
        if id.is_empty() {
            let periods = vec![Period { time: 0.0, changes: Vec::new() }];
            return self.add(key, Experiment { id: String::new(), conditions: None, periods });
        }
        let known = self.planned?;
        match known.get(id) {
            Some(found) => self.add(key, found.experiment.clone()),
            None if !self.complete => None,
            None => {
                undefined_experiment(id, &span(), known.keys().map(String::as_str), &mut self.undefined);
                None
            }
        }
    }

    fn add(&mut self, key: (String, String), experiment: Experiment) -> Option<usize> {
        self.experiments.push(experiment);
        self.index.insert(key, self.experiments.len() - 1);
        self.last = Some(self.experiments.len() - 1);
        self.last
    }

    /// Reports what was undefined and hands over the experiments.
    pub fn finish(self, d: &mut Diagnostics) -> Vec<Experiment> {
        self.undefined.finish(d);
        let pairs = self.experiments.iter().filter_map(|e| e.conditions.as_ref());
        let named = pairs.flat_map(|(before, simulation)| before.iter().chain([simulation])).map(String::as_str).collect();
        if self.planned.is_none() && !self.experiments.is_empty() {
            unused_conditions(self.conditions, &named, "measurement", d);
        }
        if let Some(planned) = self.planned {
            let unused: Vec<_> = planned.values().filter(|p| !self.index.contains_key(&(String::new(), p.experiment.id.clone()))).collect();
            if let Some(first) = unused.first().filter(|_| !d.has_errors() && !self.experiments.is_empty()) {
                d.push(
                    Diagnostic::warning("P0514", format!("{} named by no measurement", is_or_are(unused.len(), "experiment")))
                        .at(&first.span, format!("not used: {}", listing(unused.iter().map(|p| p.experiment.id.as_str())))),
                );
            }
        }
        self.experiments
    }
}

/// Notes a reference to an experiment (version 1: simulation condition) that does not exist.
pub fn undefined_experiment<'n>(id: &str, span: &Span, known: impl Iterator<Item = &'n str> + Clone, undefined: &mut Repeated) {
    undefined.push(format!("experiment {id}"), || {
        let mut diagnostic = Diagnostic::error("P0202", format!("undefined experiment `{id}`"))
            .at(span, "not in the experiment table")
            .suggest(id, known.clone());
        let names = listing(known);
        if !names.is_empty() {
            diagnostic = diagnostic.help(format!("defined experiments: {names}"));
        }
        diagnostic
    });
}

/// Names in the values of an experiment's first period that are not parameters of the parameter table: nothing else has a
/// value before the model is initialised (PEtab v2 "Initialization").
pub fn check_first_periods(planned: &IndexMap<String, Planned>, is_parameter: &dyn Fn(&str) -> bool, d: &mut Diagnostics) {
    let mut found = Repeated::default();
    let firsts = planned.values().filter_map(|p| p.experiment.periods.first());
    for Change { value, .. } in firsts.flat_map(|p| &p.changes) {
        check_first_value(value, is_parameter, &mut found);
    }
    found.finish(d);
}

fn check_first_value(value: &Formula, is_parameter: &dyn Fn(&str) -> bool, found: &mut Repeated) {
    formula::names(value, &mut |name, span| {
        if !is_parameter(name) {
            found.push(format!("{} {name}", span.position()), || {
                Diagnostic::error("P0306", format!("`{name}` has no value yet when the first period's changes are made"))
                    .at(&span, "not in the parameter table")
                    .help("changes of the first period come before the model is initialised; they may use parameters of the parameter table and `time`")
            });
        }
    });
}
