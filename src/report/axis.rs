//! Axes: from values to positions in a figure, with ticks at round numbers.

use super::number::{superscript, typeset};
use super::svg::shorten;

/// Width of a character of a tick's label, on average.
const CHARACTER: f64 = 6.2;

/// An axis from `low` to `high`, drawn from position `start` to `end`.
#[derive(Debug, Clone)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    start: f64,
    end: f64,
    /// Names of the values 0, 1, ..., where values are names.
    names: Vec<String>,
}

impl Axis {
    /// A linear axis over the finite ones of `values`, with a small margin; 0 to 1 where there are none.
    pub fn linear(values: impl IntoIterator<Item = f64>, start: f64, end: f64) -> Axis {
        let (low, high) = range(values.into_iter().filter(|v| v.is_finite()));
        // Beyond this the width would overflow.
        let (low, high) = (low.max(-1e300), high.min(1e300));
        let (low, high) = match (low <= high, high - low > 1e-12 * low.abs().max(high.abs())) {
            (false, _) => (0.0, 1.0),
            (true, false) => (low - 0.5 * low.abs().max(1e-300), high + 0.5 * high.abs().max(1e-300)),
            (true, true) => (low, high),
        };
        let (low, high) = if low == high || high - low < 1e-290 { (low - 0.5, high + 0.5) } else { (low, high) };
        Axis { low, high, log: false, start, end, names: Vec::new() }.padded(0.03)
    }

    /// A logarithmic axis over the positive finite ones of `values`, with a small margin; 0.1 to 10 where there are none.
    pub fn log(values: impl IntoIterator<Item = f64>, start: f64, end: f64) -> Axis {
        let (low, high) = range(values.into_iter().filter(|v| v.is_finite() && *v > 0.0).map(|v| v.clamp(1e-290, 1e290)));
        let (low, high) = if low > high {
            (0.1, 10.0)
        } else if high / low < 1.1 {
            (low / 1.5, high * 1.5)
        } else {
            (low, high)
        };
        Axis { low, high, log: true, start, end, names: Vec::new() }.padded(0.03)
    }

    /// An axis from `low` to `high` as given.
    pub fn exact(low: f64, high: f64, log: bool, start: f64, end: f64) -> Axis {
        Axis { low, high, log, start, end, names: Vec::new() }
    }

    /// An axis of names, which stand at 0, 1, ... at equal distances.
    pub fn named(names: Vec<String>, start: f64, end: f64) -> Axis {
        Axis { low: -0.5, high: names.len().max(1) as f64 - 0.5, log: false, start, end, names }
    }

    fn padded(self, share: f64) -> Axis {
        let (a, b) = (self.inner(self.low), self.inner(self.high));
        let pad = share * (b - a);
        let back = |v: f64| if self.log { 10f64.powf(v) } else { v };
        Axis { low: back(a - pad), high: back(b + pad), ..self }
    }

    fn inner(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    /// Position of a value; none if it has no place on the axis (not finite, not positive on a logarithmic one). Values beyond
    /// the ends are placed at them, a little outside.
    pub fn position(&self, value: f64) -> Option<f64> {
        let (a, b) = (self.inner(self.low), self.inner(self.high));
        let share = (self.inner(value) - a) / (b - a);
        share.is_finite().then(|| self.start + share.clamp(-0.02, 1.02) * (self.end - self.start))
    }

    /// Whether a value lies between the ends.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// At most about `count` ticks: value, position and label.
    pub fn ticks(&self, count: usize) -> Vec<(f64, f64, String)> {
        if !self.names.is_empty() {
            // As many characters as there is room for.
            let room = ((self.end - self.start).abs() / (CHARACTER * self.names.len() as f64)).floor().max(1.0) as usize;
            let stride = self.names.len().div_ceil((2 * count).max(1));
            let shown = self.names.iter().enumerate().step_by(stride.max(1));
            return shown.filter_map(|(i, name)| Some((i as f64, self.position(i as f64)?, shorten(name, room * stride)))).collect();
        }
        let values = if self.log { log_ticks(self.low, self.high, count) } else { linear_ticks(self.low, self.high, count) };
        values.into_iter().filter_map(|(v, label)| Some((v, self.position(v)?, label))).collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
}

/// Multiples of 1, 2 or 5 times a power of ten between `low` and `high`, at most about `count`.
pub fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let raw = (high - low) / count.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let largest = low.abs().max(high.abs());
    let first = (low / step - 1e-9).ceil();
    let number = ((high / step + 1e-9).floor() - first).clamp(-1.0, 4.0 * count as f64 + 4.0) as i64;
    (0..=number)
        .map(|i| {
            let value = (first + i as f64) * step;
            let label = if value == 0.0 {
                "0".to_owned()
            } else if !(1e-3..1e6).contains(&largest) {
                // As many digits as tell neighbours apart.
                typeset(value, ((largest / step).log10().ceil().max(0.0) as usize + 1).min(12))
            } else {
                format!("{value:.decimals$}").replace('-', "−")
            };
            (value, label)
        })
        .collect()
}

/// Powers of ten between `low` and `high`, at most about `count`; with 2 and 5 times them over less than two decades, and as on a
/// linear axis where even those are too few.
pub fn log_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let (a, b) = (low.log10(), high.log10());
    if !(a.is_finite() && b.is_finite() && b > a) {
        return Vec::new();
    }
    let (first, last) = ((a - 1e-9).ceil() as i32, (b + 1e-9).floor() as i32);
    let decades = (last - first + 1).max(0) as usize;
    if decades >= 3 || (decades == 2 && count <= 4) {
        let stride = decades.div_ceil(count.max(1)).max(1) as i32;
        // Multiples of the stride, so that neighbouring figures agree.
        let start = first.div_euclid(stride) * stride;
        let exponents = (0..).map(|i| start + i * stride).take_while(|e| *e <= last).filter(|e| *e >= first);
        return exponents.map(|e| (10f64.powi(e), power_label(e))).collect();
    }
    let between: Vec<_> = (first - 1..=last)
        .flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)))
        .filter(|v| *v >= low * (1.0 - 1e-9) && *v <= high * (1.0 + 1e-9))
        .map(|v| (v, typeset(v, 3)))
        .collect();
    if between.len() >= 2 { between } else { linear_ticks(low, high, count) }
}

fn power_label(exponent: i32) -> String {
    match exponent {
        0..=3 => 10i64.pow(exponent as u32).to_string(),
        -3..=-1 => format!("{:.*}", -exponent as usize, 10f64.powi(exponent)),
        _ => format!("10{}", superscript(&exponent.to_string())),
    }
}
