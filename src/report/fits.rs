//! Data against model: small panels per observable and experiment; for trajectories all cells in one figure and the best, middle
//! and worst cells in panels.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use super::axis::Axis;
use super::number::{objective, typeset};
use super::svg::{Frame, Svg, thin};
use super::{Point, RunResults, Series};

/// Panels of population and bulk data at most.
pub const PANELS: usize = 48;
/// Groups of trajectories (observable and experiment) drawn at most.
pub const GROUPS: usize = 4;
/// Cells in the figure of all cells at most.
const SPAGHETTI: usize = 100;
/// Points of a line in a panel, and in the figure of all cells, at most.
const CURVE: usize = 120;
const STRAND: usize = 60;
/// Measurements in a panel at most.
const POINTS: usize = 300;

/// All figures of the section.
#[derive(Debug)]
pub struct Fits {
    /// Panels of data without cells, in the order of the series.
    pub panels: Vec<String>,
    /// Number of such series, drawn or not.
    pub n_panels: usize,
    /// Trajectories by observable and experiment.
    pub groups: Vec<Group>,
    /// Number of such groups, drawn or not.
    pub n_groups: usize,
}

/// Trajectories of one observable in one experiment.
#[derive(Debug)]
pub struct Group {
    /// Observable and experiment.
    pub title: String,
    /// All cells.
    pub spaghetti: String,
    /// Single cells: best, middle, worst.
    pub panels: Vec<String>,
    /// Number of cells, drawn or not.
    pub cells: usize,
    /// Number of cells in `spaghetti`.
    pub shown: usize,
}

/// Draws the section's figures.
pub fn fits(results: &RunResults) -> Fits {
    let mut bulk: Vec<&Series> = Vec::new();
    let mut groups: IndexMap<(&str, &str), Vec<&Series>> = IndexMap::new();
    for s in &results.series {
        match s.individual {
            Some(_) => groups.entry((&s.observable, &s.experiment)).or_default().push(s),
            // What the problem's own figures show is not shown again.
            None if s.plotted => {}
            None => bulk.push(s),
        }
    }
    let nll: FxHashMap<(&str, &str), f64> = results.cells.iter().map(|c| ((c.experiment.as_str(), c.cell.as_str()), c.nll)).collect();
    let (n_panels, n_groups) = (bulk.len(), groups.len());
    Fits {
        panels: worst(bulk).into_iter().map(bulk_panel).collect(),
        n_panels,
        groups: groups.into_iter().take(GROUPS).map(|((o, e), series)| group(o, e, series, &nll)).collect(),
        n_groups,
    }
}

/// The series that fit worst, as many as there is room for, in their original order.
fn worst(series: Vec<&Series>) -> Vec<&Series> {
    if series.len() <= PANELS {
        return series;
    }
    let mut ranked: Vec<(usize, f64)> = series.iter().enumerate().map(|(i, s)| (i, rms(s).unwrap_or(f64::INFINITY))).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut chosen: Vec<usize> = ranked.into_iter().take(PANELS).map(|(i, _)| i).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|i| series[i]).collect()
}

/// Residual in units of σ.
pub fn residual(point: &Point, log: bool) -> f64 {
    let difference = if log { point.measurement.ln() - point.simulation.ln() } else { point.measurement - point.simulation };
    difference / point.sigma
}

/// Root mean square of the residuals in units of σ, over those that are finite.
fn rms(series: &Series) -> Option<f64> {
    let finite: Vec<f64> = series.points.iter().map(|p| residual(p, series.log)).filter(|r| r.is_finite()).collect();
    (!finite.is_empty()).then(|| (finite.iter().map(|r| r * r).sum::<f64>() / finite.len() as f64).sqrt())
}

fn bulk_panel(series: &Series) -> String {
    let mut note = series.kind.clone();
    if let Some(rms) = rms(series) {
        note.push_str(&format!(" · residual {} σ (RMS)", typeset(rms, 2)));
    }
    panel(series, &series.observable, &[&series.experiment, &note], &[series])
}

fn group(observable: &str, experiment: &str, mut series: Vec<&Series>, nll: &FxHashMap<(&str, &str), f64>) -> Group {
    let value = |s: &Series| nll.get(&(s.experiment.as_str(), s.individual.as_deref().unwrap_or(""))).copied().unwrap_or(f64::INFINITY);
    let title = format!("{observable}, {experiment}");
    let cells = series.len();
    let shown = thin(&series, SPAGHETTI);
    let spaghetti = spaghetti(&title, &shown);
    series.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let chosen: Vec<(usize, &str)> = if cells <= 9 {
        (0..cells).map(|i| (i, "")).collect()
    } else {
        let middle = cells / 2 - 1;
        let row = |first: usize, word| (first..first + 3).map(move |i| (i, word));
        row(0, "best · ").chain(row(middle, "middle · ")).chain(row(cells - 3, "worst · ")).collect()
    };
    // One scale for all panels, so that cells can be compared.
    let drawn: Vec<&Series> = chosen.iter().map(|(i, _)| series[*i]).collect();
    let panels = chosen
        .iter()
        .map(|(i, word)| {
            let s = series[*i];
            let note = if value(s).is_finite() { format!("{word}−log L {}", objective(value(s), 2)) } else { word.to_string() };
            panel(s, s.individual.as_deref().unwrap_or(""), &[&note], &drawn)
        })
        .collect();
    Group { title, spaghetti, panels, cells, shown: shown.len() }
}

/// Where values of several series are drawn.
struct Axes {
    x: Axis,
    y: Axis,
    last: f64,
    infinite: bool,
}

impl Axes {
    fn new(series: &[&Series], frame: Frame) -> Axes {
        let points = || series.iter().flat_map(|s| s.points.iter());
        let curves = || series.iter().flat_map(|s| s.curve.iter());
        let infinite = points().any(|p| p.t == f64::INFINITY);
        let last = points().map(|p| p.t).chain(curves().map(|c| c.0)).filter(|t| t.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        // Measurements in steady state stand at the right edge.
        let right = if infinite { frame.right - 22.0 } else { frame.right };
        let x = Axis::linear(points().map(|p| p.t).chain(curves().map(|c| c.0)), frame.left, right);
        let values = points().flat_map(|p| [p.measurement, p.simulation]).chain(curves().map(|c| c.1));
        let log = series.iter().any(|s| s.log);
        let y = if log { Axis::log(values, frame.bottom, frame.top) } else { Axis::linear(values, frame.bottom, frame.top) };
        Axes { x, y, last, infinite }
    }

    fn x(&self, t: f64, frame: Frame) -> Option<f64> {
        if t == f64::INFINITY { Some(frame.right - 8.0) } else { self.x.position(t) }
    }

    fn draw(&self, svg: &mut Svg, frame: Frame, ticks: (usize, usize), names: (&str, &str)) {
        svg.axes(frame, &self.x, &self.y, ticks, names);
        if self.infinite {
            svg.line("grid", (frame.right - 8.0, frame.top), (frame.right - 8.0, frame.bottom));
            svg.text("tick mid", frame.right - 8.0, frame.bottom + 13.0, "∞");
        }
    }
}

/// The model's line: the curve, or where there is none the simulated values.
fn curve(series: &Series) -> Vec<(f64, f64)> {
    if !series.curve.is_empty() {
        return series.curve.clone();
    }
    let mut points: Vec<(f64, f64)> = series.points.iter().map(|p| (p.t, p.simulation)).filter(|p| p.0.is_finite()).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by(|a, b| a.0 == b.0);
    points
}

/// σ at any time by linear interpolation between measurements; none where no σ is known.
fn sigma(series: &Series) -> impl Fn(f64) -> Option<f64> {
    let known = series.points.iter().filter(|p| p.t.is_finite() && p.sigma.is_finite() && p.sigma >= 0.0);
    let mut known: Vec<(f64, f64)> = known.map(|p| (p.t, p.sigma)).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    known.dedup_by(|a, b| a.0 == b.0);
    move |t| {
        let next = known.partition_point(|k| k.0 < t);
        match (next.checked_sub(1).map(|i| known[i]), known.get(next)) {
            (Some(a), Some(b)) => Some(a.1 + (b.1 - a.1) * (t - a.0) / (b.0 - a.0)),
            (Some(k), None) => Some(k.1),
            (None, Some(k)) => Some(k.1),
            (None, None) => None,
        }
    }
}

fn panel(series: &Series, title: &str, notes: &[&str], scale: &[&Series]) -> String {
    let top = 20.0 + 13.0 * notes.len() as f64;
    let frame = Frame { left: 48.0, right: 312.0, top, bottom: top + 122.0 };
    let mut svg = Svg::new(320.0, frame.bottom + 20.0);
    svg.label("title", 8.0, 13.0, title, 42);
    for (i, note) in notes.iter().enumerate() {
        svg.label("note", 8.0, 27.0 + 13.0 * i as f64, note, 52);
    }
    let axes = Axes::new(scale, frame);
    let line = thin(&curve(series), CURVE);
    let sigma = sigma(series);
    let band = line.iter().filter_map(|(t, v)| {
        let s = sigma(*t)?;
        let (low, high) = if series.log { (v * (-s).exp(), v * s.exp()) } else { (v - s, v + s) };
        Some((axes.x.position(*t)?, axes.y.position(low)?, axes.y.position(high)?))
    });
    svg.area("band", &band.collect::<Vec<_>>());
    axes.draw(&mut svg, frame, (5, 4), ("", ""));
    svg.path("model", line.iter().map(|(t, v)| Some((axes.x.position(*t)?, axes.y.position(*v)?))));
    let shown = thin(&series.points.iter().collect::<Vec<_>>(), POINTS);
    let small = shown.len() > 40;
    // Without a line to look at, the simulated values are marks: steady states, single times.
    let steady = shown.iter().filter(|p| !p.t.is_finite() || line.len() < 2);
    for p in steady {
        if let (Some(x), Some(y)) = (axes.x(p.t, frame), axes.y.position(p.simulation)) {
            svg.line("model", (x - 6.0, y), (x + 6.0, y));
        }
    }
    let at: Vec<_> = shown.iter().filter_map(|p| Some((axes.x(p.t, frame)?, axes.y.position(p.measurement)?))).collect();
    let missing = shown.len() - at.len();
    svg.dots(if small { "dots small" } else { "dots" }, at);
    if missing > 0 {
        svg.text("note end", frame.right, frame.top + 9.0, &format!("{missing} not on this axis"));
    }
    svg.finish(&format!("{title}: data and model"))
}

fn spaghetti(title: &str, series: &[&Series]) -> String {
    let mut svg = Svg::new(980.0, 300.0);
    let frames =
        [(56.0, "data"), (540.0, "model")].map(|(left, name)| (Frame { left, right: left + 424.0, top: 22.0, bottom: 262.0 }, name));
    for (frame, name) in frames {
        // Both halves share their scales.
        let axes = Axes::new(series, frame);
        axes.draw(&mut svg, frame, (7, 6), ("time", ""));
        svg.text("title", frame.left, 13.0, name);
        for s in series {
            let mut points = if name == "model" { curve(s) } else { s.points.iter().map(|p| (p.t, p.measurement)).collect() };
            points.retain(|p| p.0 <= axes.last);
            let strand = thin(&points, STRAND);
            svg.path("many", strand.iter().map(|(t, v)| Some((axes.x.position(*t)?, axes.y.position(*v)?))));
        }
    }
    svg.finish(&format!("{title}: all cells, data and model"))
}
