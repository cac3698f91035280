//! Waterfall: final objectives of all starts, sorted, relative to the best, on a logarithmic axis, marked by stop reason.

use super::RunResults;
use super::axis::Axis;
use super::summary::PLATEAU;
use super::svg::{Frame, Mark, Svg, thin};
use super::tables;

/// Differences below this are drawn at it: the logarithm of the best start's own difference would be infinite.
pub const FLOOR: f64 = 1e-4;

/// Starts drawn at most.
const LIMIT: usize = 1000;

/// Stop reasons in order with mark and class, as the legend shows them.
const REASONS: [(&str, &str, Mark, &str); 6] = [
    ("gradient", "gradient small", Mark::Disc, "m-good"),
    ("function", "objective constant", Mark::Square, "m-good"),
    ("step", "steps tiny", Mark::Diamond, "m-good"),
    ("iterations", "iteration limit", Mark::Triangle, "m-open"),
    ("interrupted", "interrupted", Mark::Ring, "m-open"),
    ("failed", "failed", Mark::Cross, "m-bad"),
];

/// The figure; none without a finished start.
pub fn waterfall(results: &RunResults) -> Option<String> {
    let best = results.fit.best()?.value;
    let mut starts: Vec<_> = results.fit.starts.iter().filter(|s| s.value.is_finite()).collect();
    starts.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.index.cmp(&b.index)));
    let ranked: Vec<_> = starts.into_iter().enumerate().collect();
    let difference = |value: f64| (value - best).max(FLOOR);

    let frame = Frame { left: 62.0, right: 560.0, top: 10.0, bottom: 250.0 };
    let mut svg = Svg::new(740.0, 290.0);
    let count = ranked.len();
    let x = Axis::exact(0.0, count as f64 + 1.0, false, frame.left, frame.right);
    let values = ranked.iter().map(|(_, s)| difference(s.value));
    let y = Axis::log(values.chain([FLOOR, 1.0]), frame.bottom, frame.top);
    if let (Some(top), Some(bottom)) = (y.position(PLATEAU), y.position(FLOOR)) {
        svg.rect("band", frame.left, top, frame.right - frame.left, bottom - top);
    }
    svg.axes(frame, &x, &y, (count.min(8), 7), ("start, best first", &format!("{} above the best", results.objective.name())));
    let shown = thin(&ranked, LIMIT);
    let line = shown.iter().map(|(i, s)| Some((x.position(*i as f64 + 1.0)?, y.position(difference(s.value))?)));
    svg.path("thin", line);
    for (i, s) in &shown {
        if let (Some(px), Some(py)) = (x.position(*i as f64 + 1.0), y.position(difference(s.value))) {
            let reason = REASONS.iter().find(|r| r.0 == tables::stop(&s.stop)).unwrap_or(&REASONS[5]);
            svg.mark(reason.3, reason.2, px, py);
        }
    }
    let mut at = 24.0;
    for (key, name, mark, class) in REASONS {
        let number = results.fit.starts.iter().filter(|s| tables::stop(&s.stop) == key).count();
        if number > 0 {
            svg.mark(class, mark, 582.0, at);
            svg.text("note", 594.0, at + 4.0, &format!("{name}: {number}"));
            at += 20.0;
        }
    }
    svg.rect("band", 576.0, at - 6.0, 12.0, 12.0);
    svg.text("note", 594.0, at + 4.0, &format!("within {PLATEAU} of the best"));
    if results.fit.starts.len() > count {
        svg.text("note", 576.0, at + 26.0, &format!("{} without a value: not drawn", results.fit.starts.len() - count));
    }
    Some(svg.finish("Final objectives of all starts, sorted, relative to the best"))
}
