//! The figures that the problem's visualization table asks for: datasets in common axes, by colour and shape.

use super::axis::Axis;
use super::number::typeset;
use super::svg::{Frame, Mark, Svg, shorten, thin};
use super::{Plot, PlotSet, Point};
use crate::petab::{DataType, PlotScale, PlotType};

/// Figures drawn at most.
pub const FIGURES: usize = 48;
/// Datasets of a figure at most, and entries of its legend.
const SETS: usize = 24;
const LEGEND: usize = 12;
/// Points of a curve and measurements of a dataset at most.
const CURVE: usize = 121;
const POINTS: usize = 150;
/// Colours in the page's style sheet; further datasets repeat them with dashes.
const COLOURS: usize = 8;
const MARKS: [Mark; 4] = [Mark::Disc, Mark::Square, Mark::Diamond, Mark::Triangle];
/// Room at the right for the steady state.
const INFINITE: f64 = 22.0;
/// Characters of a bar's name at most, and the width of one.
const NAME: usize = 17;
const CHARACTER: f64 = 6.4;

/// What is drawn at one abscissa of a dataset.
struct Summary {
    x: f64,
    measurement: f64,
    /// Ends of the error bar, where there is one.
    range: Option<(f64, f64)>,
    simulation: f64,
}

/// Draws a figure.
pub fn figure(plot: &Plot) -> String {
    let sets = &plot.sets[..plot.sets.len().min(SETS)];
    let frame = Frame { left: 52.0, right: 312.0, top: 22.0, bottom: 172.0 };
    let legend = if sets.len() > 1 && plot.kind != PlotType::Bar { sets.len().min(LEGEND) } else { 0 };
    let more = if legend < sets.len() && legend > 0 || sets.len() < plot.sets.len() { 14.0 } else { 0.0 };
    let drawn = if plot.kind == PlotType::Bar { bar_summaries(plot, sets) } else { Vec::new() };
    let names = bar_names(plot, sets, &drawn);
    let below = frame.bottom + 40.0 + 14.0 * legend.div_ceil(2) as f64 + more;
    let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).min(NAME) as f64;
    let mut svg = Svg::new(320.0, if upright(&names, frame) { below + (CHARACTER * longest - 25.0).max(0.0) } else { below });
    let missing = match plot.kind {
        PlotType::Line => lines(&mut svg, frame, plot, sets),
        PlotType::Bar => bars(&mut svg, frame, plot, &drawn, names),
        PlotType::Scatter => scatter(&mut svg, frame, plot, sets),
    };
    svg.label("title", 8.0, 13.0, &plot.title, if missing > 0 { 22 } else { 40 });
    if missing > 0 {
        svg.text("note end", frame.right, 13.0, &format!("{missing} not on these axes"));
    }
    for (i, set) in sets.iter().take(legend).enumerate() {
        let (x, y) = (frame.left - 40.0 + 156.0 * (i % 2) as f64, frame.bottom + 46.0 + 14.0 * (i / 2) as f64);
        svg.line(&format!("curve {}", class(i)), (x, y - 3.5), (x + 18.0, y - 3.5));
        svg.mark(&format!("spot {}", class(i)), MARKS[i % MARKS.len()], x + 9.0, y - 3.5);
        svg.label("note", x + 23.0, y, &set.legend, 19);
    }
    if more > 0.0 {
        let y = frame.bottom + 46.0 + 14.0 * legend.div_ceil(2) as f64;
        let hidden = plot.sets.len() - if legend > 0 { legend } else { sets.len() };
        svg.text("note", frame.left - 40.0, y, &format!("and {hidden} more datasets"));
    }
    svg.finish(&format!("{}: data and model", plot.title))
}

fn class(set: usize) -> String {
    format!("s{}{}", set % COLOURS, if set % (2 * COLOURS) < COLOURS { "" } else { " dashed" })
}

/// Measurements and simulations at each abscissa: all of them, or their means.
fn summaries(set: &PlotSet, data: DataType) -> Vec<Summary> {
    let mut points: Vec<&Point> = set.points.iter().filter(|p| !p.t.is_nan()).collect();
    points.sort_by(|a, b| a.t.total_cmp(&b.t));
    if matches!(data, DataType::Replicate | DataType::Provided) {
        let own = |p: &&Point| {
            let (low, high) = if set.log {
                (p.measurement * (-p.sigma).exp(), p.measurement * p.sigma.exp())
            } else {
                (p.measurement - p.sigma, p.measurement + p.sigma)
            };
            Summary {
                x: p.t,
                measurement: p.measurement,
                range: (data == DataType::Provided && p.sigma.is_finite()).then_some((low, high)),
                simulation: p.simulation,
            }
        };
        return thin(&points, POINTS).iter().map(own).collect();
    }
    let all: Vec<Summary> = points
        .chunk_by(|a, b| a.t == b.t)
        .map(|at| {
            let n = at.len() as f64;
            let mean = at.iter().map(|p| p.measurement).sum::<f64>() / n;
            let sd = (at.iter().map(|p| (p.measurement - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            let spread = if data == DataType::MeanAndSem { sd / n.sqrt() } else { sd };
            let range = (at.len() > 1).then_some((mean - spread, mean + spread));
            Summary { x: at[0].t, measurement: mean, range, simulation: at.iter().map(|p| p.simulation).sum::<f64>() / n }
        })
        .collect();
    let few: Vec<usize> = thin(&(0..all.len()).collect::<Vec<_>>(), POINTS);
    all.into_iter().enumerate().filter(|(i, _)| few.binary_search(i).is_ok()).map(|(_, s)| s).collect()
}

fn values(summaries: &[Vec<Summary>]) -> impl Iterator<Item = f64> + Clone {
    summaries.iter().flatten().flat_map(|s| {
        let (low, high) = s.range.unwrap_or((s.measurement, s.measurement));
        [s.measurement, s.simulation, low, high]
    })
}

fn value_axis(plot: &Plot, values: impl Iterator<Item = f64>, start: f64, end: f64) -> Axis {
    if plot.y_scale == PlotScale::Logarithmic { Axis::log(values, start, end) } else { Axis::linear(values, start, end) }
}

/// Draws lines; gives the number of measurements that have no place.
fn lines(svg: &mut Svg, frame: Frame, plot: &Plot, sets: &[PlotSet]) -> usize {
    let drawn: Vec<Vec<Summary>> = sets.iter().map(|s| summaries(s, plot.data)).collect();
    let curve = |i: usize| sets[i].curves.iter().map(|c| thin(c, CURVE));
    let curves: Vec<Vec<(f64, f64)>> = (0..sets.len()).flat_map(curve).collect();
    let infinite = drawn.iter().flatten().any(|s| s.x == f64::INFINITY);
    let right = if infinite { frame.right - INFINITE } else { frame.right };
    let abscissae = || drawn.iter().flatten().map(|s| s.x).chain(curves.iter().flatten().map(|p| p.0));
    // Abscissae that have names or an order stand at equal distances.
    let mut places: Vec<f64> = Vec::new();
    if !plot.names.is_empty() || plot.x_scale == PlotScale::Order {
        places = abscissae().filter(|x| x.is_finite()).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
    }
    let name = |x: &f64| plot.names.get(*x as usize).cloned().unwrap_or_else(|| typeset(*x, 3));
    let x_axis = match plot.x_scale {
        _ if !places.is_empty() => Axis::named(places.iter().map(name).collect(), frame.left, right),
        PlotScale::Logarithmic => Axis::log(abscissae(), frame.left, right),
        _ => Axis::linear(abscissae(), frame.left, right),
    };
    let x = |value: f64| match value {
        f64::INFINITY => Some(frame.right - 8.0),
        _ if places.is_empty() => x_axis.position(value),
        _ => x_axis.position(places.iter().position(|p| *p == value)? as f64),
    };
    let y = value_axis(plot, values(&drawn).chain(curves.iter().flatten().map(|p| p.1)), frame.bottom, frame.top);
    svg.axes(frame, &x_axis, &y, (5, 5), (&shorten(&plot.x_label, 40), &shorten(&plot.y_label, 24)));
    if infinite {
        svg.line("grid", (frame.right - 8.0, frame.top), (frame.right - 8.0, frame.bottom));
        svg.text("tick mid", frame.right - 8.0, frame.bottom + 13.0, "∞");
    }
    let mut missing = 0;
    for (i, summaries) in drawn.iter().enumerate() {
        let class = class(i);
        if sets[i].curves.is_empty() {
            let line = summaries.iter().filter(|s| s.x.is_finite()).map(|s| Some((x(s.x)?, y.position(s.simulation)?)));
            svg.path(&format!("curve {class}"), line);
        }
        for line in curve(i) {
            svg.path(&format!("curve {class}"), line.iter().map(|(t, v)| Some((x(*t)?, y.position(*v)?))));
        }
        let one = summaries.len() == 1;
        for s in summaries {
            if let (true, Some(x), Some(simulated)) = (one || s.x == f64::INFINITY, x(s.x), y.position(s.simulation)) {
                svg.line(&format!("curve {class}"), (x - 7.0, simulated), (x + 7.0, simulated));
            }
            match (x(s.x), y.position(s.measurement)) {
                (Some(x), Some(at)) => spot(svg, i, (x, at), s, &y),
                _ => missing += 1,
            }
        }
        missing += sets[i].points.iter().filter(|p| p.t.is_nan()).count();
    }
    missing
}

/// A measurement with its error bar.
fn spot(svg: &mut Svg, set: usize, (x, at): (f64, f64), s: &Summary, y: &Axis) {
    let class = class(set);
    if let Some((low, high)) = s.range {
        // Where the lower end has no place on a logarithmic axis, the bar begins at the value.
        svg.line(&format!("error {class}"), (x, y.position(low).unwrap_or(at)), (x, y.position(high).unwrap_or(at)));
    }
    svg.mark(&format!("spot {class}"), MARKS[set % MARKS.len()], x, at);
}

/// The bars of each dataset: one, or where abscissae are conditions one for each of them.
fn bar_summaries(plot: &Plot, sets: &[PlotSet]) -> Vec<Vec<Summary>> {
    let pooled = |s: &PlotSet| PlotSet { points: s.points.iter().map(|p| Point { t: 0.0, ..p.clone() }).collect(), ..s.clone() };
    let set = |s: &PlotSet| summaries(&if plot.names.is_empty() { pooled(s) } else { s.clone() }, mean_of(plot.data));
    sets.iter().map(set).collect()
}

/// What the bars are called.
fn bar_names(plot: &Plot, sets: &[PlotSet], drawn: &[Vec<Summary>]) -> Vec<String> {
    let name = |set: &PlotSet, bars: &[Summary], s: &Summary| match plot.names.get(s.x as usize) {
        Some(name) if bars.len() > 1 => name.clone(),
        _ => set.legend.clone(),
    };
    sets.iter().zip(drawn).flat_map(|(set, bars)| bars.iter().map(move |s| name(set, bars, s))).collect()
}

/// Whether the names of bars are too long to stand side by side.
fn upright(names: &[String], frame: Frame) -> bool {
    let longest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    (longest * names.len()) as f64 * CHARACTER > frame.right - frame.left
}

/// Bars are measurements, lines across them simulations. Gives the number of bars that have no place.
fn bars(svg: &mut Svg, frame: Frame, plot: &Plot, drawn: &[Vec<Summary>], names: Vec<String>) -> usize {
    let zero = (plot.y_scale != PlotScale::Logarithmic).then_some(0.0);
    let y = value_axis(plot, values(drawn).chain(zero), frame.bottom, frame.top);
    let count = names.len();
    let turned = upright(&names, frame);
    let shown = if turned { vec![String::new(); count] } else { names.clone() };
    let x = Axis::named(shown, frame.left, frame.right);
    svg.axes(frame, &x, &y, (count, 5), ("", &shorten(&plot.y_label, 24)));
    let half = 0.35 * (frame.right - frame.left) / count.max(1) as f64;
    let base = zero.and_then(|z| y.position(z)).unwrap_or(frame.bottom);
    let mut missing = 0;
    let bars = drawn.iter().enumerate().flat_map(|(i, summaries)| summaries.iter().map(move |s| (i, s)));
    for (place, ((i, s), name)) in bars.zip(&names).enumerate() {
        let center = x.position(place as f64).unwrap_or(frame.left);
        if turned {
            svg.text_below(center + 3.5, frame.bottom + 6.0, &shorten(name, NAME));
        }
        if let Some(at) = y.position(s.measurement) {
            svg.rect(&format!("column s{}", i % COLOURS), center - half, at.min(base), 2.0 * half, (at - base).abs());
            if let Some((low, high)) = s.range {
                svg.line("error", (center, y.position(low).unwrap_or(base)), (center, y.position(high).unwrap_or(at)));
            }
        } else {
            missing += 1;
        }
        if let Some(simulated) = y.position(s.simulation) {
            svg.line("model", (center - 1.25 * half, simulated), (center + 1.25 * half, simulated));
        }
    }
    missing
}

/// Bars show means even where points would be shown for themselves.
fn mean_of(data: DataType) -> DataType {
    if data == DataType::MeanAndSem { data } else { DataType::MeanAndSd }
}

/// Simulations over measurements. Gives the number of measurements that have no place.
fn scatter(svg: &mut Svg, frame: Frame, plot: &Plot, sets: &[PlotSet]) -> usize {
    let all = || sets.iter().flat_map(|s| &s.points).flat_map(|p| [p.measurement, p.simulation]);
    let (x, y) = (value_axis(plot, all(), frame.left, frame.right), value_axis(plot, all(), frame.bottom, frame.top));
    svg.axes(frame, &x, &y, (5, 5), ("measured", "simulated"));
    let finite = || all().filter(|v| v.is_finite());
    let ends = [finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max)];
    svg.path("thin", ends.map(|v| Some((x.position(v)?, y.position(v)?))));
    let mut missing = 0;
    for (i, set) in sets.iter().enumerate() {
        for p in thin(&set.points.iter().collect::<Vec<_>>(), POINTS) {
            match (x.position(p.measurement), y.position(p.simulation)) {
                (Some(x), Some(y)) => svg.mark(&format!("spot {}", class(i)), MARKS[i % MARKS.len()], x, y),
                _ => missing += 1,
            }
        }
    }
    missing
}
