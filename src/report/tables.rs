//! Tables of a run directory: tab-separated, numbers as the shortest text that reads back as the same number, empty cells for
//! what is unknown.

use super::RunResults;
use crate::estimate::{Start, StopReason};
use crate::petab::Scale;

/// Estimates with intervals and bounds, natural values; `rse` is a fraction.
pub fn estimates(results: &RunResults) -> String {
    let header =
        "parameterId estimate scale standardError rse lower95 upper95 lowerBound upperBound atBound nominalValue robustStandardError";
    let mut table = Table::new(header.split(' '));
    for p in &results.parameters {
        table.row([
            text(&p.id),
            number(p.estimate),
            scale(p.scale).to_owned(),
            optional(p.standard_error),
            optional(p.rse),
            optional(p.lower95),
            optional(p.upper95),
            number(p.lower_bound),
            number(p.upper_bound),
            p.at_bound.to_string(),
            optional(p.nominal),
            optional(p.robust_error),
        ]);
    }
    table.text
}

/// Starts of the optimisation with their final points (natural values).
pub fn starts(results: &RunResults) -> String {
    let header = "start seed initialObjective finalObjective gradientNorm iterations evaluations seconds stopReason message";
    let mut table = Table::new(header.split(' ').chain(results.parameters.iter().map(|p| p.id.as_str())));
    for s in &results.fit.starts {
        let mut row = vec![
            s.index.to_string(),
            results.info.seed.to_string(),
            number(s.initial_value),
            number(s.value),
            number(s.gradient_norm),
            s.iterations.to_string(),
            s.evaluations.to_string(),
            format!("{:.3}", s.duration.as_secs_f64()),
            stop(&s.stop).to_owned(),
            message(s),
        ];
        // A failed start may have no point.
        row.extend(results.parameters.iter().enumerate().map(|(i, p)| optional(s.point.get(i).map(|v| p.scale.unscale(*v)))));
        table.row(row);
    }
    table.text
}

/// Objective after each iteration of each start.
pub fn trace(results: &RunResults) -> String {
    let mut table = Table::new(["start", "iteration", "objective"]);
    for s in &results.fit.starts {
        for (i, value) in s.trace.iter().enumerate() {
            table.row([s.index.to_string(), i.to_string(), number(*value)]);
        }
    }
    table.text
}

/// Cells: empirical Bayes estimates, individual parameters, contribution to the objective.
pub fn cells(results: &RunResults) -> String {
    let mut names: indexmap::IndexSet<&str> = indexmap::IndexSet::new();
    for c in &results.cells {
        names.extend(c.parameters.iter().map(|p| p.0.as_str()));
    }
    let ebe = results.effect_ids.iter().map(|id| format!("ebe_{id}"));
    let sd = results.effect_ids.iter().map(|id| format!("posteriorSd_{id}"));
    let mut header = vec!["experimentId".to_owned(), "cellId".to_owned()];
    header.extend(ebe.chain(sd).chain(names.iter().map(|n| (*n).to_owned())));
    let classes: Vec<&str> = results.cells.first().map_or(Vec::new(), |c| c.subpopulations.iter().map(|s| s.0.as_str()).collect());
    header.extend(classes.iter().map(|id| format!("probability_{id}")));
    header.extend(["negLogLikelihood".to_owned(), "status".to_owned()]);
    let mut table = Table::new(header.iter().map(String::as_str));
    for c in &results.cells {
        let mut row = vec![text(&c.experiment), text(&c.cell)];
        for values in [&c.ebe, &c.posterior_sd] {
            row.extend((0..results.effect_ids.len()).map(|i| optional(values.get(i).copied().flatten())));
        }
        row.extend(names.iter().map(|n| optional(c.parameters.iter().find(|p| p.0 == *n).map(|p| p.1))));
        row.extend(c.subpopulations.iter().map(|s| number(s.1)));
        row.extend([number(c.nll), text(&c.status)]);
        table.row(row);
    }
    table.text
}

/// Random effects; `shrinkage` is a fraction.
pub fn random_effects(results: &RunResults) -> String {
    let mut table = Table::new(["effectId", "target", "variance", "standardDeviation", "cvPercent", "shrinkage"]);
    for e in &results.random_effects {
        let row = [text(&e.id), text(&e.target), number(e.sd * e.sd), number(e.sd), optional(e.cv_percent), optional(e.shrinkage)];
        table.row(row);
    }
    table.text
}

/// Scale as PEtab writes it.
pub fn scale(scale: Scale) -> &'static str {
    match scale {
        Scale::Lin => "lin",
        Scale::Log => "log",
        Scale::Log10 => "log10",
    }
}

/// One word for the end of a start.
pub fn stop(reason: &StopReason) -> &'static str {
    match reason {
        StopReason::Gradient => "gradient",
        StopReason::Function => "function",
        StopReason::Step => "step",
        StopReason::Iterations => "iterations",
        StopReason::Interrupted => "interrupted",
        StopReason::Failed(_) => "failed",
    }
}

fn message(start: &Start) -> String {
    match &start.stop {
        StopReason::Failed(message) => text(message),
        _ => String::new(),
    }
}

struct Table {
    text: String,
}

impl Table {
    fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
        let mut table = Table { text: String::new() };
        table.row(header.into_iter().map(text));
        table
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        for (i, cell) in cells.into_iter().enumerate() {
            if i > 0 {
                self.text.push('\t');
            }
            self.text.push_str(&cell);
        }
        self.text.push('\n');
    }
}

fn text(value: &str) -> String {
    // The format knows no escapes: what would break a row becomes a space.
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn number(value: f64) -> String {
    format!("{value:?}")
}

fn optional(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}
