//! Residuals of all measurements in units of σ: over time and against the normal distribution.

use statrs::distribution::{ContinuousCDF, Normal};

use super::RunResults;
use super::axis::Axis;
use super::fits::residual;
use super::svg::{Frame, Svg, thin};

/// Measurements drawn at most.
pub const LIMIT: usize = 1500;

/// Residuals against time beside a quantile plot; none with fewer than five finite residuals.
pub fn residuals(results: &RunResults) -> Option<(String, usize)> {
    let all = results.series.iter().flat_map(|s| s.points.iter().map(|p| (p.t, residual(p, s.log))));
    let all: Vec<(f64, f64)> = all.filter(|r| r.1.is_finite()).collect();
    if all.len() < 5 {
        return None;
    }
    let normal = Normal::new(0.0, 1.0).ok()?;
    let mut sorted: Vec<f64> = all.iter().map(|r| r.1).collect();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let quantiles: Vec<(f64, f64)> = sorted.iter().enumerate().map(|(i, r)| (normal.inverse_cdf((i as f64 + 0.5) / count), *r)).collect();

    let mut svg = Svg::new(980.0, 290.0);
    let left = Frame { left: 56.0, right: 600.0, top: 22.0, bottom: 250.0 };
    let right = Frame { left: 690.0, right: 968.0, top: 22.0, bottom: 250.0 };
    let y = Axis::linear(sorted.iter().copied().chain([-2.0, 2.0]), left.bottom, left.top);
    let x = Axis::linear(all.iter().map(|r| r.0), left.left, left.right);
    let q = Axis::linear(quantiles.iter().map(|r| r.0), right.left, right.right);
    svg.text("title", left.left, 13.0, "over time");
    svg.text("title", right.left, 13.0, "against the normal distribution");
    if let (Some(a), Some(b)) = (y.position(2.0), y.position(-2.0)) {
        svg.rect("band", left.left, a, left.right - left.left, b - a);
    }
    svg.axes(left, &x, &y, (8, 6), ("time", "residual / σ"));
    svg.axes(right, &q, &y, (6, 6), ("normal quantile", ""));
    if let Some(zero) = y.position(0.0) {
        svg.line("axis", (left.left, zero), (left.right, zero));
    }
    svg.dots("dots small", thin(&all, LIMIT).into_iter().filter_map(|(t, r)| Some((x.position(t)?, y.position(r)?))));
    // The line of equality, as far as both axes have it.
    let ends =
        [-10.0, 10.0].map(|v: f64| v.clamp(quantiles[0].0.max(sorted[0]), quantiles[quantiles.len() - 1].0.min(sorted[sorted.len() - 1])));
    svg.path("model", ends.map(|v| Some((q.position(v)?, y.position(v)?))));
    svg.dots("dots small", thin(&quantiles, LIMIT).into_iter().filter_map(|(t, r)| Some((q.position(t)?, y.position(r)?))));
    Some((svg.finish("Residuals over time and their quantiles"), all.len()))
}
