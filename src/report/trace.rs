//! Objective over the iterations of the starts, relative to the best.

use super::RunResults;
use super::axis::Axis;
use super::svg::{Frame, Svg, thin};
use super::waterfall::FLOOR;

/// Starts drawn at most (the best ones).
pub const LIMIT: usize = 50;

/// Points per start at most.
const POINTS: usize = 150;

/// The figure; none without a trace that belongs to a finished start.
pub fn trace(results: &RunResults) -> Option<String> {
    let best = results.fit.best()?.value;
    let mut starts: Vec<_> = results.fit.starts.iter().filter(|s| s.value.is_finite() && s.trace.len() > 1).collect();
    starts.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.index.cmp(&b.index)));
    starts.truncate(LIMIT);
    let difference = |value: f64| (value - best).max(FLOOR);
    let length = starts.iter().map(|s| s.trace.len()).max()?;

    let frame = Frame { left: 62.0, right: 560.0, top: 10.0, bottom: 250.0 };
    let mut svg = Svg::new(740.0, 290.0);
    let x = Axis::linear([0.0, (length - 1) as f64], frame.left, frame.right);
    let values = starts.iter().flat_map(|s| s.trace.iter().map(|v| difference(*v)));
    let y = Axis::log(values.chain([FLOOR, 1.0]), frame.bottom, frame.top);
    svg.axes(frame, &x, &y, (8, 7), ("iteration", &format!("{} above the best", results.objective.name())));
    // The best start is drawn last, so that it lies on top.
    for (rank, start) in starts.iter().enumerate().rev() {
        let points: Vec<(usize, f64)> = start.trace.iter().copied().enumerate().collect();
        let class = if rank == 0 { "model" } else { "many" };
        let line = thin(&points, POINTS);
        svg.path(class, line.iter().map(|(i, v)| Some((x.position(*i as f64)?, y.position(difference(*v)).filter(|_| v.is_finite())?))));
    }
    svg.line("model", (576.0, 24.0), (590.0, 24.0));
    svg.text("note", 596.0, 28.0, "best start");
    if starts.len() > 1 {
        svg.line("many", (576.0, 44.0), (590.0, 44.0));
        svg.text("note", 596.0, 48.0, "other starts");
    }
    Some(svg.finish("Objective over iterations, relative to the best"))
}
