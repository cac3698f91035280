//! Data and model curves for the report.

use super::load::Loaded;
use crate::likelihood::problem::{Part, ProblemObjective, Summary};
use crate::likelihood::simulated::{Rows, placeholders, places};
use crate::petab::{self, DataKind, Measurement, NoiseDistribution, Override, PopulationStatistic, Problem, Statistic};
use crate::report::{Plot, PlotSet, Point, Series};
use indexmap::IndexMap;
use rustc_hash::FxHashSet;

/// Points of a model curve.
const CURVE_POINTS: usize = 120;

/// Model curves of one dataset in a figure of the visualization table at most.
const CURVES: usize = 6;

/// The series of a problem at natural parameter values, and the figures of its visualization tables.
pub fn all(loaded: &Loaded, objective: &ProblemObjective, natural: &[f64], summary: &Summary) -> (Vec<Series>, Vec<Plot>) {
    let (mut series, mut plots) = (Vec::new(), Vec::new());
    for (loaded, part) in loaded.parts().zip(objective.parts()) {
        let own = of_part(loaded, part, natural, &summary.of(part));
        series.extend(own.0);
        plots.extend(own.1);
    }
    (series, plots)
}

fn of_part(loaded: &Loaded, part: &Part, natural: &[f64], summary: &Summary) -> (Vec<Series>, Vec<Plot>) {
    let problem = &loaded.problem;
    // Rows of one observable, experiment, individual and set of placeholder values make one curve.
    let mut groups: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (i, m) in problem.measurements.iter().enumerate() {
        let kind = match &m.kind {
            DataKind::Typical | DataKind::Trajectory { .. } => {
                let placeholders: Vec<String> = m.observable_parameters.iter().map(place_text).collect();
                format!("{:?} {}", individual(m), placeholders.join(";"))
            }
            DataKind::Bulk(s) => format!("bulk {}", statistic_name(s)),
            DataKind::SnapshotStatistic(s) => format!("snapshot {}", statistic_name(s)),
            DataKind::Snapshot { .. } => "snapshot".to_string(),
            DataKind::TimeToEvent { .. } => continue,
        };
        groups.entry(format!("{} {} {kind}", m.observable, m.experiment)).or_default().push(i);
    }
    let mut series: Vec<Series> = groups.values().map(|rows| series(loaded, part, natural, summary, rows)).collect();
    let mut place = vec![None; problem.measurements.len()];
    for (k, rows) in groups.values().enumerate() {
        rows.iter().for_each(|i| place[*i] = Some(k));
    }
    let plots: Vec<Plot> = problem.plots.iter().filter_map(|p| plot(problem, p, summary, &series, &place)).collect();
    let shown: FxHashSet<usize> = problem.plots.iter().flat_map(|p| &p.datasets).flat_map(|d| &d.points).map(|p| p.0).collect();
    for (s, rows) in series.iter_mut().zip(groups.values()) {
        s.plotted = rows.iter().all(|i| shown.contains(i));
    }
    (series, plots)
}

/// A figure of the visualization table; none where no dataset in it has measurements. `place` is the series of each measurement.
fn plot(problem: &Problem, plot: &petab::Plot, summary: &Summary, series: &[Series], place: &[Option<usize>]) -> Option<Plot> {
    let set = |d: &petab::Dataset| {
        let moved = |y: f64| y + d.y_offset;
        let point = |(i, x): &(usize, f64)| Point {
            t: x + d.x_offset,
            measurement: moved(problem.measurements[*i].value),
            simulation: moved(summary.simulations[*i]),
            sigma: summary.sigmas[*i],
        };
        let mut shown: Vec<usize> = d.points.iter().filter_map(|(i, _)| place[*i]).collect();
        shown.sort_unstable();
        shown.dedup();
        // Steady states alone have no curve; a dataset of many experiments would be a tangle of them.
        let curves = shown.iter().map(|k| &series[*k].curve).filter(|c| c.len() > 1 && plot.over_time && shown.len() <= CURVES);
        let curves = curves.map(|c| c.iter().map(|(t, y)| (t + d.x_offset, moved(*y))).collect()).collect();
        let log = shown.first().is_some_and(|k| series[*k].log);
        PlotSet { legend: d.legend.clone(), points: d.points.iter().map(point).collect(), curves, log }
    };
    let sets: Vec<PlotSet> = plot.datasets.iter().filter(|d| !d.points.is_empty()).map(set).collect();
    (!sets.is_empty()).then(|| Plot {
        title: plot.title.clone(),
        kind: plot.kind,
        data: plot.data,
        x_label: plot.x_label.clone(),
        y_label: plot.y_label.clone(),
        x_scale: plot.x_scale,
        y_scale: plot.y_scale,
        names: plot.conditions.clone(),
        sets,
    })
}

fn individual(m: &Measurement) -> Option<usize> {
    match &m.kind {
        DataKind::Trajectory { individual } => Some(*individual),
        _ => None,
    }
}

fn individual_id(loaded: &Loaded, m: &Measurement) -> Option<String> {
    Some(loaded.problem.nlme.as_ref()?.individuals[individual(m)?].id.clone())
}

fn place_text(o: &Override) -> String {
    match o {
        Override::Number(value) => value.to_string(),
        Override::Id(id, _) => id.clone(),
    }
}

fn statistic_name(s: &PopulationStatistic) -> &'static str {
    match s.statistic {
        Statistic::Mean => "mean",
        Statistic::Variance => "variance",
        Statistic::Sd => "standard deviation",
        Statistic::LogVariance => "variance of the logarithm",
        Statistic::Covariance(_) => "covariance",
        Statistic::FractionEvent(_) => "fraction with the event",
        Statistic::Composite(_) => "composite statistic",
    }
}

fn series(loaded: &Loaded, part: &Part, natural: &[f64], summary: &Summary, rows: &[usize]) -> Series {
    let problem = &loaded.problem;
    let m = &problem.measurements[rows[0]];
    let o = &problem.observables[m.observable];
    let id = individual_id(loaded, m);
    // An individual's curve is drawn at its own parameters.
    let mut theta = natural.to_vec();
    if let Some(s) = summary.individuals.iter().find(|s| Some(&s.id) == id.as_ref()) {
        for (row, value) in &s.parameters {
            theta[*row] = *value;
        }
    }
    let kind = match &m.kind {
        DataKind::Trajectory { .. } => "trajectory".to_string(),
        DataKind::Bulk(s) => format!("bulk {}", statistic_name(s)),
        DataKind::SnapshotStatistic(s) => format!("snapshot {}", statistic_name(s)),
        DataKind::Snapshot { .. } => "snapshot".to_string(),
        DataKind::Typical | DataKind::TimeToEvent { .. } => "typical".to_string(),
    };
    let at = |i: &usize| {
        let m = &problem.measurements[*i];
        Point { t: m.time, measurement: m.value, simulation: summary.simulations[*i], sigma: summary.sigmas[*i] }
    };
    // Population statistics are only known at the times of the data.
    let curve = match &m.kind {
        DataKind::Typical | DataKind::Trajectory { .. } => curve(part, problem, m, &theta, rows).unwrap_or_default(),
        _ => rows.iter().map(at).map(|p| (p.t, p.simulation)).collect(),
    };
    Series {
        observable: o.id.clone(),
        experiment: problem.experiments[m.experiment].id.clone(),
        individual: id,
        kind,
        points: rows.iter().map(at).collect(),
        curve,
        log: matches!(m.kind, DataKind::Typical | DataKind::Trajectory { .. })
            && !matches!(o.distribution, NoiseDistribution::Normal | NoiseDistribution::Laplace),
        plotted: false,
    }
}

fn curve(part: &Part, problem: &Problem, m: &Measurement, theta: &[f64], rows: &[usize]) -> Option<Vec<(f64, f64)>> {
    let model = part.pool().model();
    let start = model.experiments[m.experiment].start;
    let end = rows.iter().map(|i| problem.measurements[*i].time).filter(|t| t.is_finite()).fold(start, f64::max);
    if end <= start {
        return None;
    }
    let times: Vec<f64> = (0..=CURVE_POINTS).map(|i| start + (end - start) * i as f64 / CURVE_POINTS as f64).collect();
    let rows = Rows {
        experiment: m.experiment,
        times: times.clone(),
        events: Vec::new(),
        rows: Vec::new(),
        reaching: Vec::new(),
        reaching_states: Vec::new(),
    };
    let curves = part.pool().with(|w| w.curves(&rows, theta, &times, &[(m.observable, placeholders(&places(model), m))])).ok()?.ok()?;
    Some(times.into_iter().zip(curves[0].iter().map(|(y, _)| *y)).collect())
}
