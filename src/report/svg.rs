//! SVG as text: a few kinds of marks, always with the same bytes for the same input. Colours come from the page's style sheet by
//! class, so that they follow light, dark and print.

use std::fmt::Write as _;

use super::axis::Axis;

/// A figure under construction.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// The area inside the axes of a figure.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Top edge.
    pub top: f64,
    /// Bottom edge.
    pub bottom: f64,
}

/// Shapes that differ without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Filled disc.
    Disc,
    /// Filled square.
    Square,
    /// Filled diamond.
    Diamond,
    /// Open triangle.
    Triangle,
    /// Open circle.
    Ring,
    /// Diagonal cross.
    Cross,
}

impl Svg {
    /// An empty figure of the given size.
    pub fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{}" y1="{}" x2="{}" y2="{}"/>"#,
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
    }

    /// A rectangle.
    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let (x, y, width, height) = (number(x), number(y), number(width.max(0.0)), number(height.max(0.0)));
        let _ = writeln!(self.body, r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#);
    }

    /// Line through points; where one is missing, the line is broken.
    pub fn path(&mut self, class: &str, points: impl IntoIterator<Item = Option<(f64, f64)>>) {
        let mut data = String::new();
        let mut pen = false;
        for point in points {
            match point {
                Some((x, y)) => {
                    let _ = write!(data, "{}{} {}", if pen { 'L' } else { 'M' }, number(x), number(y));
                    pen = true;
                }
                None => pen = false,
            }
        }
        self.raw_path(class, &data);
    }

    /// A filled area between a lower and an upper line over the same abscissae.
    pub fn area(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let mut data = String::new();
        let there = points.iter().map(|p| (p.0, p.1));
        let back = points.iter().rev().map(|p| (p.0, p.2));
        for (i, (x, y)) in there.chain(back).enumerate() {
            let _ = write!(data, "{}{} {}", if i == 0 { 'M' } else { 'L' }, number(x), number(y));
        }
        if !data.is_empty() {
            data.push('Z');
        }
        self.raw_path(class, &data);
    }

    /// Dots, compact: segments of no length with round ends, so the class needs a stroke.
    pub fn dots(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut data = String::new();
        for (x, y) in points {
            let _ = write!(data, "M{} {}h0", number(x), number(y));
        }
        self.raw_path(class, &data);
    }

    /// A mark of about 8 units.
    pub fn mark(&mut self, class: &str, mark: Mark, x: f64, y: f64) {
        let data = match mark {
            Mark::Disc | Mark::Ring => {
                let _ = writeln!(self.body, r#"<circle class="{class}" cx="{}" cy="{}" r="3.5"/>"#, number(x), number(y));
                return;
            }
            Mark::Square => "m-3.2-3.2h6.4v6.4h-6.4z",
            Mark::Diamond => "m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z",
            Mark::Triangle => "m0-4.4l4.2 7.6h-8.4z",
            Mark::Cross => "m-3.4-3.4l6.8 6.8m0-6.8l-6.8 6.8",
        };
        self.raw_path(class, &format!("M{} {}{data}", number(x), number(y)));
    }

    /// Text; `class` also sets the anchor.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let _ = writeln!(self.body, r#"<text class="{class}" x="{}" y="{}">{}</text>"#, number(x), number(y), escape(text));
    }

    /// Text of at most `length` characters; a longer one is cut in the middle, and shown whole by the browser on hovering.
    pub fn label(&mut self, class: &str, x: f64, y: f64, text: &str, length: usize) {
        let short = shorten(text, length);
        if short == text {
            return self.text(class, x, y, text);
        }
        let (x, y, short, whole) = (number(x), number(y), escape(&short), escape(text));
        let _ = writeln!(self.body, r#"<text class="{class}" x="{x}" y="{y}">{short}<title>{whole}</title></text>"#);
    }

    /// Text turned to read upwards.
    pub fn text_upwards(&mut self, x: f64, y: f64, text: &str) {
        let (x, y) = (number(x), number(y));
        let _ = writeln!(self.body, r#"<text class="name mid" transform="translate({x} {y}) rotate(-90)">{}</text>"#, escape(text));
    }

    /// Text under an axis, turned to read upwards; it ends at the given place.
    pub fn text_below(&mut self, x: f64, y: f64, text: &str) {
        let (x, y) = (number(x), number(y));
        let _ = writeln!(self.body, r#"<text class="tick end" transform="translate({x} {y}) rotate(-90)">{}</text>"#, escape(text));
    }

    /// Grid lines, ticks' labels and names of both axes. `infinite` labels the position of infinite abscissae.
    pub fn axes(&mut self, frame: Frame, x: &Axis, y: &Axis, ticks: (usize, usize), names: (&str, &str)) {
        for (_, at, label) in y.ticks(ticks.1) {
            self.line("grid", (frame.left, at), (frame.right, at));
            self.text("tick end", frame.left - 4.0, at + 3.5, &label);
        }
        for (_, at, label) in x.ticks(ticks.0) {
            self.line("grid", (at, frame.top), (at, frame.bottom));
            self.text("tick mid", at, frame.bottom + 13.0, &label);
        }
        self.line("axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
        self.line("axis", (frame.left, frame.top), (frame.left, frame.bottom));
        if !names.0.is_empty() {
            self.text("name mid", 0.5 * (frame.left + frame.right), frame.bottom + 28.0, names.0);
        }
        if !names.1.is_empty() {
            self.text_upwards(12.0, 0.5 * (frame.top + frame.bottom), names.1);
        }
    }

    /// The figure as an element; `title` is what a screen reader says.
    pub fn finish(self, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>",
            number(self.width),
            number(self.height),
            escape(title),
            self.body
        )
    }

    /// The figure as a file of its own: with its colours and a white ground. `style` is CSS for the classes.
    pub fn finish_alone(self, title: &str, style: &str) -> String {
        let (width, height) = (number(self.width), number(self.height));
        let ground = format!("<style>{style}</style>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n");
        Svg { body: ground + &self.body, ..self }.finish(title).replacen(
            "viewBox",
            &format!("width=\"{width}\" height=\"{height}\" viewBox"),
            1,
        )
    }

    fn raw_path(&mut self, class: &str, data: &str) {
        if !data.is_empty() {
            let _ = writeln!(self.body, r#"<path class="{class}" d="{data}"/>"#);
        }
    }
}

/// A coordinate with one decimal.
fn number(value: f64) -> String {
    let value = if value.is_finite() { value.clamp(-1e5, 1e5) } else { 0.0 };
    let tenths = (value * 10.0).round() as i64;
    if tenths % 10 == 0 { (tenths / 10).to_string() } else { format!("{:.1}", tenths as f64 / 10.0) }
}

/// Characters with a meaning in XML as references; those that XML forbids as the replacement character.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(allowed(c)),
        }
    }
    out
}

/// A character that may stand in an XML document (XML 1.0, production 2).
pub fn allowed(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        _ => c,
    }
}

/// At most `length` characters, the middle replaced by an ellipsis: names often differ at their ends.
pub fn shorten(text: &str, length: usize) -> String {
    let count = text.chars().count();
    if count <= length {
        return text.to_owned();
    }
    let (head, tail) = (length.saturating_sub(1).div_ceil(2), length.saturating_sub(1) / 2);
    let mut out: String = text.chars().take(head).collect();
    out.push('…');
    out.extend(text.chars().skip(count - tail));
    out
}

/// At most `limit` of `items`, evenly spaced, with the first and the last.
pub fn thin<T: Copy>(items: &[T], limit: usize) -> Vec<T> {
    if items.len() <= limit || limit < 2 {
        return items.to_vec();
    }
    (0..limit).map(|i| items[i * (items.len() - 1) / (limit - 1)]).collect()
}
