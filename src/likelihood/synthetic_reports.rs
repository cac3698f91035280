//! How a drawn value is reported in the design of a data set: exactly, beyond a detection limit, or as an interval.
//!
//! What the design says never depends on the drawn value, so that the rows have the likelihood that the censoring claims: every report is one cell
//! of a partition of all possible values that is fixed beforehand.

use super::noise::is_positive;
use crate::petab::{Censoring, Measurement, Problem};

/// Limits beyond which an observable is not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Limits {
    lower: Option<f64>,
    upper: Option<f64>,
}

/// The limits of every observable: those of its censored rows, where they agree. Rows without censoring do not say what limit they had.
pub(super) fn limits(problem: &Problem) -> Vec<Limits> {
    let agreed = |observable: usize, kind: Censoring| {
        let mut values = problem.measurements.iter().filter(|m| m.observable == observable && m.censoring == kind).map(|m| m.value);
        let first = values.next()?;
        values.all(|v| v == first).then_some(first)
    };
    (0..problem.observables.len()).map(|o| Limits { lower: agreed(o, Censoring::Left), upper: agreed(o, Censoring::Right) }).collect()
}

/// A value in the design of the row `m`: its own limit or interval comes before those of its observable.
pub(super) fn reported(value: f64, m: &Measurement, problem: &Problem, limits: &[Limits]) -> (f64, Censoring) {
    let mut limits = limits[m.observable];
    match m.censoring {
        Censoring::Interval(upper) if upper.is_finite() => {
            let least = if is_positive(problem.observables[m.observable].distribution) { 0.0 } else { f64::NEG_INFINITY };
            return in_interval(value, [m.value, upper], least);
        }
        Censoring::Left => limits.lower = Some(m.value),
        Censoring::Right | Censoring::Interval(_) => limits.upper = Some(m.value),
        Censoring::None => {}
    }
    match limits {
        Limits { lower: Some(lower), .. } if value < lower => (lower, Censoring::Left),
        Limits { upper: Some(upper), .. } if value > upper => (upper, Censoring::Right),
        _ => (value, Censoring::None),
    }
}

/// The interval around `value` among those that continue `interval` in both directions. No value is below `least`, so the interval that holds it
/// has no lower end.
fn in_interval(value: f64, interval: [f64; 2], least: f64) -> (f64, Censoring) {
    let [first, width] = [interval[0], interval[1] - interval[0]];
    let steps = ((value - first) / width).floor();
    let (lower, upper) = (first + steps * width, first + (steps + 1.0) * width);
    if lower <= least { (upper, Censoring::Left) } else { (lower, Censoring::Interval(upper)) }
}

/// The time of an event in the design of the row `m`, for an individual that is watched from `start` to `end`; `time` is infinite where the event
/// never happens.
pub(super) fn reported_event(time: f64, m: &Measurement, start: f64, end: f64) -> (f64, Censoring) {
    match m.censoring {
        Censoring::Interval(upper) if upper.is_finite() => {
            // The last inspection; rounding must not lose one.
            let width = upper - m.value;
            let last = m.value + ((end - m.value) / width + 1e-9).floor() * width;
            if time < last { in_interval(time, [m.value, upper], start) } else { (last, Censoring::Right) }
        }
        Censoring::Left if time < m.value => (m.value, Censoring::Left),
        // Nobody looks again after the first inspection.
        Censoring::Left if end <= m.value => (m.value, Censoring::Right),
        _ if time <= end => (time, Censoring::None),
        _ => (end, Censoring::Right),
    }
}

/// Counts of `values` in the intervals between all ends of the censored rows `rows`, as (value, censoring, count), empty ones left out.
pub(super) fn histogram(values: &[f64], rows: &[&Measurement]) -> Vec<(f64, Censoring, u64)> {
    let upper = |m: &Measurement| if let Censoring::Interval(upper) = m.censoring { Some(upper) } else { None };
    let mut ends: Vec<f64> =
        rows.iter().filter(|m| m.censoring != Censoring::None).flat_map(|m| std::iter::once(m.value).chain(upper(m))).collect();
    ends.retain(|end| end.is_finite());
    ends.sort_by(f64::total_cmp);
    ends.dedup();
    let mut counts = vec![0u64; ends.len() + 1];
    values.iter().for_each(|v| counts[ends.partition_point(|end| end <= v)] += 1);
    let bin = |i: usize| match (i.checked_sub(1).and_then(|i| ends.get(i)), ends.get(i)) {
        (Some(lower), Some(upper)) => (*lower, Censoring::Interval(*upper)),
        (Some(lower), None) => (*lower, Censoring::Right),
        (None, Some(upper)) => (*upper, Censoring::Left),
        (None, None) => (f64::NAN, Censoring::None),
    };
    let filled = counts.into_iter().enumerate().filter(|(_, n)| *n > 0);
    filled.map(|(i, n)| (bin(i).0, bin(i).1, n)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::diag::Source;
    use crate::petab::DataKind;

    fn row(value: f64, censoring: Censoring) -> Measurement {
        Measurement {
            observable: 0,
            experiment: 0,
            time: value,
            value,
            observable_parameters: Vec::new(),
            noise_parameters: Vec::new(),
            kind: DataKind::Typical,
            weight: 1.0,
            censoring,
            span: Source::new("m.tsv", "").span(0..0),
        }
    }

    #[test]
    fn events_are_reported_as_their_design_has_them() {
        use Censoring::{Interval, Left, None, Right};
        let never = f64::INFINITY;
        for (design, time, end, expected) in [
            (row(3.0, None), 4.0, 10.0, (4.0, None)),
            (row(3.0, None), 12.0, 10.0, (10.0, Right)),
            (row(10.0, Right), never, 10.0, (10.0, Right)),
            (row(10.0, Right), 2.0, 10.0, (2.0, None)),
            (row(4.0, Interval(6.0)), 5.0, 11.0, (4.0, Interval(6.0))),
            (row(4.0, Interval(6.0)), 7.5, 11.0, (6.0, Interval(8.0))),
            // The inspection of 12 is after the end: after the one of 10 nothing is known.
            (row(4.0, Interval(6.0)), 10.5, 11.0, (10.0, Right)),
            (row(4.0, Interval(6.0)), 10.5, 12.0, (10.0, Interval(12.0))),
            (row(4.0, Interval(6.0)), 1.0, 11.0, (2.0, Left)),
            (row(4.0, Interval(6.0)), never, 6.0, (6.0, Right)),
            (row(4.0, Left), 3.0, 4.0, (4.0, Left)),
            (row(4.0, Left), 5.0, 4.0, (4.0, Right)),
            (row(4.0, Left), 5.0, 8.0, (5.0, None)),
            (row(4.0, Left), never, 8.0, (8.0, Right)),
        ] {
            assert_eq!(reported_event(time, &design, 0.0, end), expected, "{:?} at {time}, watched until {end}", design.censoring);
        }
        // Ends that are not exact in binary: the last inspection is kept.
        assert_eq!(reported_event(never, &row(0.1, Interval(0.2)), 0.0, 0.3).1, Right);
        assert!((reported_event(never, &row(0.1, Interval(0.2)), 0.0, 0.3).0 - 0.3).abs() < 1e-12);
    }

    #[test]
    fn histograms_lose_nobody() {
        let design = [row(1.0, Censoring::Interval(2.0)), row(2.0, Censoring::Interval(3.0))];
        let counts = histogram(&[0.5, 1.0, 1.5, 2.0, 7.0, 8.0], &design.iter().collect::<Vec<_>>());
        let expected =
            [(1.0, Censoring::Left, 1), (1.0, Censoring::Interval(2.0), 2), (2.0, Censoring::Interval(3.0), 1), (3.0, Censoring::Right, 2)];
        assert_eq!(counts, expected);
    }
}
