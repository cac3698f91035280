//! Data and model curves for the report.

use super::load::Loaded;
use crate::likelihood::problem::{ProblemObjective, Summary};
use crate::likelihood::simulated::{Rows, placeholders, places};
use crate::petab::{DataKind, Measurement, NoiseDistribution, Override, PopulationStatistic, Statistic};
use crate::report::{Point, Series};
use indexmap::IndexMap;

/// Points of a model curve.
const CURVE_POINTS: usize = 120;

/// The series of a problem at natural parameter values.
pub fn all(loaded: &Loaded, objective: &ProblemObjective, natural: &[f64], summary: &Summary) -> Vec<Series> {
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
    groups.values().map(|rows| series(loaded, objective, natural, summary, rows)).collect()
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

fn series(loaded: &Loaded, objective: &ProblemObjective, natural: &[f64], summary: &Summary, rows: &[usize]) -> Series {
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
        DataKind::Typical | DataKind::Trajectory { .. } => curve(objective, problem, m, &theta, rows).unwrap_or_default(),
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
    }
}

fn curve(
    objective: &ProblemObjective,
    problem: &crate::petab::Problem,
    m: &Measurement,
    theta: &[f64],
    rows: &[usize],
) -> Option<Vec<(f64, f64)>> {
    let model = objective.pool().model();
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
    let curves =
        objective.pool().with(|w| w.curves(&rows, theta, &times, &[(m.observable, placeholders(&places(model), m))])).ok()?.ok()?;
    Some(times.into_iter().zip(curves[0].iter().map(|(y, _)| *y)).collect())
}
