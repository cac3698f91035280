//! Estimates of the best starts within their bounds.

use super::RunResults;
use super::svg::{Mark, Svg};

/// Parameters drawn at most.
pub const LIMIT: usize = 60;
/// Starts drawn at most.
pub const STARTS: usize = 10;

/// Position of a value (estimation scale) between its bounds, from 0 to 1; none without finite bounds.
fn share(value: f64, low: f64, high: f64) -> Option<f64> {
    let share = (value - low) / (high - low);
    share.is_finite().then(|| share.clamp(0.0, 1.0))
}

/// One row per parameter, a line per start; none without a finished start or bounds.
pub fn parallel(results: &RunResults) -> Option<String> {
    let mut starts: Vec<_> = results.fit.starts.iter().filter(|s| s.value.is_finite()).collect();
    starts.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.index.cmp(&b.index)));
    starts.truncate(STARTS);
    let rows = results.parameters.iter().take(LIMIT).count();
    if starts.is_empty() || rows == 0 {
        return None;
    }
    let (left, right, top, step) = (230.0, 720.0, 18.0, 17.0);
    let y = |i: usize| top + 8.0 + step * i as f64;
    let mut svg = Svg::new(740.0, y(rows) + 4.0);
    svg.text("tick start", left, 11.0, "lower bound");
    svg.text("tick end", right, 11.0, "upper bound");
    svg.line("grid", (left, top), (left, y(rows) - 6.0));
    svg.line("grid", (right, top), (right, y(rows) - 6.0));
    for (i, p) in results.parameters.iter().take(rows).enumerate() {
        svg.label("name end", left - 12.0, y(i) + 3.5, &p.id, 32);
        svg.line("grid", (left, y(i)), (right, y(i)));
    }
    for (rank, start) in starts.iter().enumerate().rev() {
        let points: Vec<Option<(f64, f64)>> = results
            .parameters
            .iter()
            .take(rows)
            .enumerate()
            .map(|(i, p)| {
                let value = *start.point.get(i)?;
                let place = share(value, p.scale.scale(p.lower_bound), p.scale.scale(p.upper_bound))?;
                Some((left + place * (right - left), y(i)))
            })
            .collect();
        svg.path(if rank == 0 { "model" } else { "many" }, points.iter().copied());
        if rank == 0 {
            points.into_iter().flatten().for_each(|(x, y)| svg.mark("m-good", Mark::Disc, x, y));
        }
    }
    Some(svg.finish("Estimates of the best starts between their bounds"))
}

/// A bar with the place of the estimate and its interval between the bounds, for a table row.
pub fn bar(p: &super::ParameterRow) -> Option<String> {
    let place = |natural: f64| share(p.scale.scale(natural), p.scale.scale(p.lower_bound), p.scale.scale(p.upper_bound));
    let at = share(p.scaled, p.scale.scale(p.lower_bound), p.scale.scale(p.upper_bound))?;
    let x = |share: f64| 5.0 + 110.0 * share;
    let mut svg = Svg::new(120.0, 14.0);
    svg.line("axis", (x(0.0), 7.0), (x(1.0), 7.0));
    // An interval may reach below zero, where a logarithmic scale has no place for it: then it starts at the bound.
    if let (Some(low), Some(high)) = (p.lower95, p.upper95) {
        svg.line("model", (x(place(low).unwrap_or(0.0)), 7.0), (x(place(high).unwrap_or(1.0)), 7.0));
    }
    svg.mark(if p.at_bound { "m-bad" } else { "m-good" }, if p.at_bound { Mark::Cross } else { Mark::Disc }, x(at), 7.0);
    Some(svg.finish("place between the bounds"))
}
