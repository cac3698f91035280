//! Event tables and tables of composite statistics of the extension `nlme` (specification of the extension, section
//! "Extension tables").

use super::random_effects::undefined_parameter;
use super::table::{Cell, Repeated, Table, duplicate, parse_number};
use super::{CompositeStatistic, Direction, EventTrigger, Experiment, Functional, Measurement, Observable, formula, unsupported};
use crate::diag::{Diagnostic, Diagnostics, Span};

/// Reads the event tables.
///
/// An event has either a `triggerFormula`, whose crossing of 0 it is, or a `hazardFormula` lambda: then it comes at random with that rate, given
/// the individual's parameters, and the time of a `time_to_event` row has the density lambda(T) exp(-Lambda(T)) with Lambda the integral of
/// lambda from the start of the experiment.
pub fn read_events(tables: &[Table], d: &mut Diagnostics) -> Vec<EventTrigger> {
    let mut events: Vec<EventTrigger> = Vec::new();
    for table in tables {
        let hazard = table.find("hazardFormula");
        let trigger = if hazard.is_some() { table.find("triggerFormula") } else { table.require("triggerFormula", &[], d) };
        let (Some(id), true) = (table.require("eventId", &[], d), trigger.or(hazard).is_some()) else { continue };
        let optional = ["direction", "occurrence", "sbmlEventId", "armedFrom"].map(|name| table.find(name));
        for row in 0..table.rows() {
            let [direction, occurrence, sbml, armed] = optional.map(|column| table.cell(row, column));
            let id_cell = table.cell(row, Some(id));
            for (cell, construct) in [(sbml, "the link of an observed event to an SBML event"), (armed, "`armedFrom` of an event")] {
                if !cell.is_missing() {
                    d.push(unsupported(&cell.span(), construct, "give a trigger formula that is true only then"));
                }
            }
            let (trigger, hazard) = (table.cell(row, trigger), table.cell(row, hazard));
            let is_hazard = trigger.is_missing();
            if is_hazard == hazard.is_missing() {
                let found = if is_hazard { "neither" } else { "both" };
                d.push(
                    Diagnostic::error("P0424", "an event has either a trigger or a hazard")
                        .at(&id_cell.span(), format!("has {found} of `triggerFormula` and `hazardFormula`"))
                        .help("a trigger says when the event happens, a hazard at which rate it happens at random"),
                );
                continue;
            }
            for cell in [direction, occurrence].iter().filter(|cell| is_hazard && !cell.is_missing()) {
                d.push(
                    Diagnostic::warning("P0522", format!("`{}` has no effect on an event that has a hazard", cell.column_name()))
                        .at(&cell.span(), "expected nothing"),
                );
            }
            let formula = formula::read(if is_hazard { &hazard } else { &trigger }, d);
            let direction = direction.word(&[("up", Direction::Up), ("down", Direction::Down), ("any", Direction::Any)], d);
            let occurrence = match occurrence.text() {
                "" | "first" => 1,
                text => text.parse().ok().filter(|n| *n > 0).unwrap_or_else(|| {
                    occurrence.not_a_number("`first` or a positive whole number", d);
                    1
                }),
            };
            let (Some(id), Some(formula), Ok(direction)) = (id_cell.id(d), formula, direction) else { continue };
            if let Some(first) = events.iter().find(|e| e.id == id) {
                duplicate("event", id, &id_cell.span(), &first.span, d);
                continue;
            }
            let direction = direction.unwrap_or(Direction::Any);
            let cumulative_hazard = is_hazard.then(|| format!("<cumulative hazard of {id}>"));
            events.push(EventTrigger { id: id.to_string(), formula, cumulative_hazard, direction, occurrence, span: id_cell.span() });
        }
    }
    events
}

/// The integral of a hazard never is in a steady state.
pub fn check_hazards(events: &[EventTrigger], experiments: &[Experiment], measurements: &[Measurement], d: &mut Diagnostics) {
    let Some(event) = events.iter().find(|e| e.cumulative_hazard.is_some()) else { return };
    let begins_there = |e: &Experiment| e.periods.first().is_some_and(|p| p.time == f64::NEG_INFINITY);
    if experiments.iter().any(begins_there) || measurements.iter().any(|m| m.time == f64::INFINITY) {
        d.push(unsupported(
            &event.span,
            "a hazard in a problem with steady states",
            "give initial values, and finite times of measurements",
        ));
    }
}

/// Reads the tables of composite statistics.
///
/// `parameters` are the ids of the parameter table, where it could be read: beside functionals, formulas have these names only.
pub fn read_statistics(
    tables: &[Table],
    observables: &[Observable],
    parameters: Option<&[&str]>,
    d: &mut Diagnostics,
) -> Vec<CompositeStatistic> {
    const BUILT_IN: [&str; 6] = ["mean", "variance", "sd", "covariance", "log_variance", "fraction_event"];
    let mut statistics: Vec<CompositeStatistic> = Vec::new();
    let mut repeated = Repeated::default();
    for table in tables {
        let (Some(id), Some(formula)) = (table.require("statisticId", &[], d), table.require("formula", &[], d)) else { continue };
        for row in 0..table.rows() {
            let id_cell = table.cell(row, Some(id));
            let statistic = composite(&table.cell(row, Some(formula)), observables, &mut repeated, d);
            let (Some(id), Some((formula, functionals))) = (id_cell.id(d), statistic) else { continue };
            formula::names(&formula, &mut |name, place| {
                let known = functionals.iter().enumerate().any(|(i, _)| name == format!("_f{i}"));
                if let Some(parameters) = parameters.filter(|p| !known && !p.contains(&name)) {
                    undefined_parameter(name, &place, parameters.iter().copied(), &mut repeated);
                }
            });
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
fn composite(
    cell: &Cell,
    observables: &[Observable],
    repeated: &mut Repeated,
    d: &mut Diagnostics,
) -> Option<(super::Formula, Vec<Functional>)> {
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
                None => undefined_observable(name, &span.part(place..place + name.len()), observables, repeated),
                Some(found) if !observables[found].observable_placeholders.is_empty() => {
                    d.push(unsupported(
                        &span.part(place..place + name.len()),
                        "a statistic of an observable with placeholders",
                        "use an observable without placeholders",
                    ));
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
            ("quantile", 2) if number(1).is_some_and(|p| p > 0.0 && p < 1.0) => {
                observable(0).zip(number(1)).map(|(o, p)| Functional::Quantile(o, p))
            }
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

/// Notes an observable of a statistic that does not exist.
pub fn undefined_observable(name: &str, span: &Span, observables: &[Observable], repeated: &mut Repeated) {
    repeated.push(format!("second observable {name}"), || {
        let message = if name.is_empty() {
            "a covariance needs a second observable".to_string()
        } else {
            format!("a statistic refers to an undefined observable `{name}`")
        };
        Diagnostic::error("P0417", message).at(span, "not in the observable table").suggest(name, observables.iter().map(|o| o.id.as_str()))
    });
}
