//! Time course of a simulated model as a picture of its own: SVG, or a page with the picture and a table.
//!
//! Up to twenty curves can be told apart by colour and dashes; of more, those that change most are drawn, and the picture says so. The
//! legend follows the order in which the curves end, from the top down, so that the eye finds them.

use askama::Template;

use super::axis::Axis;
use super::number::typeset;
use super::svg::{Frame, Svg, allowed, shorten};

/// Curves drawn at most: ten colours, each solid and dashed.
pub const CURVES: usize = 20;

/// Colours told apart by most eyes, dark enough for thin lines on white.
const COLOURS: [&str; 10] = ["#1f6fb4", "#e07b1a", "#2f9150", "#c9302c", "#7a55b0", "#8a5a44", "#d65aa8", "#5f6b73", "#a39a00", "#16a3b5"];

/// Characters of a name in the legend at most.
const NAME: usize = 26;

/// Intervals of time in which a curve is drawn by its ends and extremes, where it has more points.
const INTERVALS: usize = 700;

/// Width of the legend at least, for the note on what is left out.
const LEGEND: f64 = 140.0;

/// Width of a character of the figure's text, on average and generously.
const CHARACTER: f64 = 6.4;

/// A variable over time.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    /// Name of the variable.
    pub name: &'a str,
    /// Values at the picture's times.
    pub values: &'a [f64],
}

/// What is drawn.
#[derive(Debug, Clone)]
pub struct Picture<'a> {
    /// Title, such as the model's name.
    pub title: String,
    /// What the values are, such as `concentration`.
    pub value_name: &'a str,
    /// Whether the axis of values is logarithmic.
    pub log: bool,
    /// Times, ascending.
    pub times: &'a [f64],
    /// All variables.
    pub curves: Vec<Curve<'a>>,
}

#[derive(Template)]
#[template(path = "time_course.html")]
struct Page {
    title: String,
    svg: String,
    span: String,
    rows: Vec<(String, [String; 4])>,
}

impl Picture<'_> {
    /// The picture as an SVG file.
    pub fn svg(&self) -> String {
        self.draw(&self.title)
    }

    /// The figure under a heading, which a page has already.
    fn draw(&self, heading: &str) -> String {
        let drawn = self.drawn();
        let everything = || drawn.iter().flat_map(|i| self.curves[*i].values.iter().copied());
        let longest = drawn.iter().map(|i| shorten(self.curves[*i].name, NAME).chars().count()).max().unwrap_or(0);
        let legend = (longest as f64 * CHARACTER + 40.0).max(LEGEND);
        let top = if heading.is_empty() { 12.0 } else { 40.0 };
        let bottom = top + (17.0 * drawn.len() as f64 + 34.0).max(340.0);
        // The labels of the axis need room that is only known when there is an axis.
        let labels = self.value_axis(everything(), top, bottom).ticks(8).into_iter().map(|t| t.2.chars().count()).max().unwrap_or(1);
        let left = 34.0 + labels as f64 * CHARACTER;
        let frame = Frame { left, right: left + 620.0, top, bottom };
        let mut svg = Svg::new(frame.right + legend + 16.0, bottom + 44.0);

        let (first, last) = (self.times.first().copied().unwrap_or(0.0), self.times.last().copied().unwrap_or(1.0));
        let x = if first < last {
            Axis::exact(first, last, false, frame.left, frame.right)
        } else {
            Axis::linear([first], frame.left, frame.right)
        };
        let y = self.value_axis(everything(), top, bottom);
        svg.label("title", frame.left, 22.0, heading, 80);
        svg.axes(frame, &x, &y, (8, 8), ("time", self.value_name));
        for (place, i) in drawn.iter().enumerate() {
            let points = thin_curve(self.times, self.curves[*i].values);
            svg.path(&class(place), points.into_iter().map(|(t, v)| Some((x.position(t)?, y.position(v)?))));
        }
        let mut order: Vec<usize> = (0..drawn.len()).collect();
        let end =
            |place: &usize| self.curves[drawn[*place]].values.iter().rev().copied().find(|v| v.is_finite()).unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|a, b| end(b).total_cmp(&end(a)));
        for (row, place) in order.into_iter().enumerate() {
            let at = frame.top + 10.0 + 17.0 * row as f64;
            svg.line(&class(place), (frame.right + 14.0, at - 4.0), (frame.right + 36.0, at - 4.0));
            svg.label("note", frame.right + 42.0, at, self.curves[drawn[place]].name, NAME);
        }
        if drawn.len() < self.curves.len() {
            let at = frame.top + 18.0 + 17.0 * drawn.len() as f64;
            svg.text("note", frame.right + 14.0, at, &format!("{} of {}: those that", drawn.len(), self.curves.len()));
            svg.text("note", frame.right + 14.0, at + 14.0, "change most");
        }
        svg.finish_alone(&format!("{}: time course", self.title), &style())
    }

    /// A page with the picture and a table of all variables.
    ///
    /// # Errors
    /// Only what the template engine reports, which no input leads to.
    pub fn html(&self) -> Result<String, askama::Error> {
        let clean = |text: &str| text.chars().map(allowed).collect::<String>();
        let row = |curve: &Curve| {
            let finite = || curve.values.iter().copied().filter(|v| v.is_finite());
            let ends = [curve.values.first(), curve.values.last()].map(|v| v.map_or_else(|| "–".to_owned(), |v| typeset(*v, 6)));
            let extremes =
                [finite().reduce(f64::min), finite().reduce(f64::max)].map(|v| v.map_or_else(|| "–".to_owned(), |v| typeset(v, 6)));
            let ([first, last], [smallest, largest]) = (ends, extremes);
            (clean(curve.name), [first, smallest, largest, last])
        };
        let ends = (self.times.first().copied().unwrap_or(0.0), self.times.last().copied().unwrap_or(0.0));
        Page {
            title: clean(&self.title),
            svg: self.draw(""),
            span: format!("time {} to {}, {} points", typeset(ends.0, 6), typeset(ends.1, 6), self.times.len()),
            rows: self.curves.iter().map(row).collect(),
        }
        .render()
    }

    /// Indices of the curves that are drawn.
    fn drawn(&self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.curves.len()).collect();
        if all.len() > CURVES {
            let change = |i: &usize| change(self.curves[*i].values, self.log);
            all.sort_by(|a, b| change(b).total_cmp(&change(a)));
            all.truncate(CURVES);
            all.sort_unstable();
        }
        all
    }

    fn value_axis(&self, values: impl Iterator<Item = f64> + Clone, top: f64, bottom: f64) -> Axis {
        if self.log {
            return Axis::log(values, bottom, top);
        }
        // An axis of amounts that comes near zero begins there.
        let (low, high) =
            values.clone().filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        let zero = (low > 0.0 && low < 0.5 * high).then_some(0.0);
        Axis::linear(values.chain(zero), bottom, top)
    }
}

/// Largest minus smallest value, of the logarithms where these are drawn.
fn change(values: &[f64], log: bool) -> f64 {
    let drawn = || values.iter().map(|v| if log { v.log10() } else { *v }).filter(|v| v.is_finite());
    drawn().fold(f64::NEG_INFINITY, f64::max) - drawn().fold(f64::INFINITY, f64::min)
}

/// The points of a curve; of many, in each of some intervals the first, the lowest, the highest and the last, so that no peak is lost.
fn thin_curve(times: &[f64], values: &[f64]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = times.iter().copied().zip(values.iter().copied()).collect();
    if points.len() <= 4 * INTERVALS {
        return points;
    }
    let mut thinned = Vec::new();
    for part in points.chunks(points.len().div_ceil(INTERVALS)) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let chosen = [part.first(), part.iter().min_by(by_value), part.iter().max_by(by_value), part.last()];
        let mut chosen: Vec<(f64, f64)> = chosen.into_iter().flatten().copied().collect();
        chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
        chosen.dedup();
        thinned.append(&mut chosen);
    }
    thinned
}

/// Class of the curve drawn as number `place`.
fn class(place: usize) -> String {
    format!("c{}", place % CURVES)
}

fn style() -> String {
    let mut css = "text{font:11px system-ui,\"Liberation Sans\",Arial,sans-serif;fill:#1d2125}.tick,.note{fill:#3d444b}\
.title{font-weight:600;font-size:14px}.mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#e4e7ea}.axis{stroke:#9aa2aa}"
        .to_owned();
    for place in 0..CURVES {
        let dashes = if place < COLOURS.len() { "" } else { ";stroke-dasharray:6 3" };
        css.push_str(&format!(
            ".c{place}{{fill:none;stroke:{};stroke-width:1.8;stroke-linejoin:round{dashes}}}",
            COLOURS[place % COLOURS.len()]
        ));
    }
    css
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_peak_between_many_points_is_kept() {
        let times: Vec<f64> = (0..100_000).map(f64::from).collect();
        let mut values = vec![1.0; times.len()];
        values[54_321] = 7.0;
        let thin = thin_curve(&times, &values);
        assert!(thin.len() <= 4 * INTERVALS && thin.contains(&(54_321.0, 7.0)));
        assert!(thin.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!((thin[0].0, thin[thin.len() - 1].0), (0.0, 99_999.0));
    }

    #[test]
    fn of_many_curves_those_that_change_are_drawn() {
        let values: Vec<Vec<f64>> = (0..30).map(|i| vec![0.0, f64::from(i), f64::NAN]).collect();
        let names: Vec<String> = (0..30).map(|i| format!("S{i}")).collect();
        let curves = names.iter().zip(&values).map(|(name, values)| Curve { name, values }).collect();
        let picture = Picture { title: "<m>".into(), value_name: "amount", log: false, times: &[0.0, 1.0, 2.0], curves };
        let svg = picture.svg();
        assert!(svg.contains(">S29<") && svg.contains(">S10<") && !svg.contains(">S9<"));
        assert!(svg.contains("20 of 30") && svg.contains("&lt;m&gt;"));
        assert!(roxmltree::Document::parse(&svg).is_ok());
        assert!(picture.html().unwrap().contains("<td>S9</td>"));
        assert!(Picture { curves: Vec::new(), times: &[], log: true, ..picture }.svg().contains("</svg>"));
    }
}
