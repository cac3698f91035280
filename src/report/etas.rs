//! Empirical Bayes estimates of the cells against the fitted normal distribution, one panel per random effect.

use statrs::distribution::{Continuous, Normal};

use super::axis::Axis;
use super::number::typeset;
use super::summary::SHRINKAGE_LIMIT;
use super::svg::{Frame, Svg};
use super::{RandomEffectRow, RunResults};

/// Panels drawn at most.
pub const LIMIT: usize = 24;

/// One panel per effect that has estimates, and the number of effects left out.
pub fn etas(results: &RunResults) -> (Vec<String>, usize) {
    let mut panels = Vec::new();
    let mut left_out = 0;
    for (i, id) in results.effect_ids.iter().enumerate() {
        let values = results.cells.iter().filter_map(|c| c.ebe.get(i).copied().flatten()).filter(|v| v.is_finite() && v.abs() < 1e6);
        let values: Vec<f64> = values.collect();
        if values.is_empty() {
            continue;
        }
        if panels.len() == LIMIT {
            left_out += 1;
            continue;
        }
        let row = results.random_effects.iter().find(|e| e.id == *id);
        panels.push(panel(id, &values, row));
    }
    (panels, left_out)
}

fn panel(id: &str, values: &[f64], row: Option<&RandomEffectRow>) -> String {
    let sd = row.map(|r| r.sd).filter(|s| s.is_finite() && *s > 0.0 && *s < 1e6);
    // Zero in the middle: the effect's mean under the model.
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let reach = sd.map_or(largest, |s| largest.max(3.0 * s)).max(1e-9) * 1.02;
    let bins = ((2.0 * (values.len() as f64).cbrt() * 1.8).ceil() as usize).clamp(6, 40);
    let width = 2.0 * reach / bins as f64;
    let mut heights = vec![0usize; bins];
    for v in values {
        heights[(((v + reach) / width) as usize).min(bins - 1)] += 1;
    }
    let normal = sd.and_then(|s| Normal::new(0.0, s).ok());
    let expected = |v: f64| normal.as_ref().map_or(0.0, |n| n.pdf(v) * width * values.len() as f64);
    let highest = heights.iter().copied().max().unwrap_or(1) as f64;

    let frame = Frame { left: 40.0, right: 306.0, top: 34.0, bottom: 150.0 };
    let mut svg = Svg::new(320.0, 184.0);
    let x = Axis::exact(-reach, reach, false, frame.left, frame.right);
    let y = Axis::exact(0.0, highest.max(expected(0.0)) * 1.08, false, frame.bottom, frame.top);
    svg.label("title", frame.left, 13.0, id, 38);
    let mut subtitle = format!("{} cells", values.len());
    if let Some(r) = row {
        subtitle = format!("on {} · SD {}", super::svg::shorten(&r.target, 22), typeset(r.sd, 3));
        if let Some(shrinkage) = r.shrinkage {
            let flag = if shrinkage > SHRINKAGE_LIMIT { " !" } else { "" };
            subtitle.push_str(&format!(" · shrinkage {:.0} %{flag}", 100.0 * shrinkage));
        }
    }
    svg.text("note", frame.left, 27.0, &subtitle);
    svg.axes(frame, &x, &y, (5, 4), ("effect η", ""));
    for (i, height) in heights.iter().enumerate().filter(|(_, h)| **h > 0) {
        let (a, b) = (-reach + i as f64 * width, -reach + (i + 1) as f64 * width);
        if let (Some(x0), Some(x1), Some(top)) = (x.position(a), x.position(b), y.position(*height as f64)) {
            svg.rect("bar", x0 + 0.5, top, x1 - x0 - 1.0, frame.bottom - top);
        }
    }
    if normal.is_some() {
        svg.path(
            "model",
            (0..=80).map(|i| -reach + 2.0 * reach * f64::from(i) / 80.0).map(|v| Some((x.position(v)?, y.position(expected(v))?))),
        );
    }
    svg.finish(&format!("Histogram of the effect {id} over {} cells", values.len()))
}
