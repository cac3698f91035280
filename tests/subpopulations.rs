//! Mixtures of subpopulations: likelihoods against those of the single classes, gradients against difference quotients.

#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{Objective, Order};
use oracle_support::{DECAY, Integration, read, tight};
use std::path::Path;
use std::process::Command;

const MEASUREMENTS: &str = "observableId\texperimentId\tmeasurement\ttime\tdataType\tindividualId\tstatistic\tstatisticSd\tsampleSize\n";
const TRAJECTORIES: [&str; 3] = [
    "y\t\t1.2\t0.5\ttrajectory\ta\t\t\t\ny\t\t0.8\t1\ttrajectory\ta\t\t\t\n",
    "y\t\t0.3\t0.5\ttrajectory\tb\t\t\t\ny\t\t0.2\t1\ttrajectory\tb\t\t\t\n",
    "y\t\t0.6\t0.7\ttrajectory\tc\t\t\t\n",
];
const SNAPSHOTS: [&str; 2] = ["y\t\t1.1\t0.6\tsnapshot\t\t\t\t\n", "y\t\t0.25\t0.6\tsnapshot\t\t\t\t\n"];
const STATISTICS: &str = "y\t\t0.7\t0.6\tbulk\t\t\t0.05\t\ny\t\t0.3\t0.6\tsnapshot_statistic\t\tvariance\t\t400\n\
    y\t\t0.3\t0.6\tsnapshot_statistic\t\tcentre\tsd_centre\t\ny\t\t0.4\t0.6\tsnapshot_statistic\t\tlog_variance\t\t300\n";

const CLASSES: &str = "subpopulationId\tprobability\tk\tleak\nslow\tp_slow\tk_slow\t\nquick\t\tk_quick\t0.05\n";

/// Writes the problem with these measurements and this table of subpopulations.
fn write(folder: &Path, measurements: &str, classes: &str) {
    let table = if classes.is_empty() { "" } else { "    subpopulation_files: [subpopulations.tsv]\n" };
    let yaml = format!(
        "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {{location: model.xml, language: sbml}}\n\
         observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\nextensions:\n  nlme:\n    version: 0.1.0\n    required: true\n    \
         hyperparameter_files: [hyperparameters.tsv]\n    random_effect_files: [effects.tsv]\n    covariance_files: [covariance.tsv]\n    \
         statistic_files: [statistics.tsv]\n{table}"
    );
    let files = [
        ("problem.yaml", yaml.as_str()),
        ("model.xml", DECAY),
        ("observables.tsv", "observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\ny\tx\tsigma\tnormal\n"),
        (
            "parameters.tsv",
            "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nk\t\t\t1\tfalse\nleak\t0.01\t1\t0.1\ttrue\nk_slow\t0.01\t100\t0.9\ttrue\n\
             k_quick\t0.01\t100\t3.2\ttrue\nsigma\t0.01\t1\t0.1\ttrue\nsd_centre\t0.01\t1\t0.1\ttrue\n",
        ),
        (
            "hyperparameters.tsv",
            "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nsd_slow\t0.01\t2\t0.3\ttrue\nsd_quick\t0.01\t2\t0.2\ttrue\np_slow\t0.001\t0.999\t0.35\ttrue\n",
        ),
        ("effects.tsv", "randomEffectId\ttargetId\ttransformation\nb_slow\tk_slow\tlog\nb_quick\tk_quick\tlog\nb_k\tk\tlog\n"),
        (
            "covariance.tsv",
            "rowId\tcolId\tkind\tvalue\nb_slow\tb_slow\tsd\tsd_slow\nb_quick\tb_quick\tsd\tsd_quick\nb_k\tb_k\tsd\tsd_quick\n",
        ),
        ("statistics.tsv", "statisticId\tformula\ncentre\tquantile(y, 0.4)/mean(y)\n"),
        ("measurements.tsv", measurements),
        ("subpopulations.tsv", classes),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn objective(measurements: &str, classes: &str) -> ProblemObjective {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), measurements, classes);
    oracle_support::objective(&read(folder.path()), tight(), Integration::Laplace)
}

fn rows(parts: &[&str]) -> String {
    MEASUREMENTS.to_string() + &parts.concat()
}

fn value(objective: &ProblemObjective) -> f64 {
    let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
    objective.evaluate(&x, Order::Value, &mut objective.memory()).unwrap().value
}

/// A class with the probability one.
const SLOW: &str = "subpopulationId\tprobability\tk\tleak\nslow\t1\tk_slow\t\n";
const QUICK: &str = "subpopulationId\tprobability\tk\tleak\nquick\t\tk_quick\t0.05\n";

/// Cells seen over time and once: the density is the weighted sum of those in the classes, each computed alone.
#[test]
fn densities_are_weighted_sums() {
    for row in TRAJECTORIES.iter().chain(&SNAPSHOTS) {
        let data = rows(&[row]);
        let [slow, quick, both] = [SLOW, QUICK, CLASSES].map(|classes| value(&objective(&data, classes)));
        let expected = -(0.35 * (-slow).exp() + 0.65 * (-quick).exp()).ln();
        assert!((both - expected).abs() < 1e-9 * expected.abs().max(1.0), "{row}: {both} but {expected}");
    }
}

/// Moments of the mixture by the law of total variance, from the moments of the classes.
#[test]
fn moments_are_those_of_the_mixture() {
    let moments = |classes: &str| {
        let statistic = |row: &str| objective(&rows(&[row]), classes);
        let summary = |o: &ProblemObjective| {
            let natural: Vec<f64> = o.map().natural(&o.parameters().iter().map(|p| p.nominal).collect::<Vec<_>>());
            o.summary(&natural).unwrap().simulations[0]
        };
        let mean = summary(&statistic("y\t\t0.7\t0.6\tbulk\t\t\t0.05\t\n"));
        let variance = summary(&statistic("y\t\t0.3\t0.6\tsnapshot_statistic\t\tvariance\t\t400\n"));
        (mean, variance)
    };
    let ((m1, v1), (m2, v2), (m, v)) = (moments(SLOW), moments(QUICK), moments(CLASSES));
    let (p, q) = (0.35, 0.65);
    assert!((m - (p * m1 + q * m2)).abs() < 1e-12, "{m}");
    assert!((v - (p * v1 + q * v2 + p * q * (m1 - m2).powi(2))).abs() < 1e-12, "{v}");
}

/// Equal classes are no mixture. (Only quantiles, which interpolate between nodes, differ a little where every node is there twice.)
#[test]
fn equal_classes_are_one() {
    let statistics: String = STATISTICS.lines().filter(|row| !row.contains("centre")).map(|row| format!("{row}\n")).collect();
    let data = rows(&[TRAJECTORIES[0], TRAJECTORIES[2], SNAPSHOTS[0], &statistics]);
    let twice = "subpopulationId\tprobability\tk\none\tp_slow\tk_slow\nother\t\tk_slow\n";
    let (one, two) = (objective(&data, SLOW), objective(&data, twice));
    assert!((value(&one) - value(&two)).abs() < 1e-9, "{} but {}", value(&two), value(&one));
    let x: Vec<f64> = two.parameters().iter().map(|p| p.nominal).collect();
    let g = two.evaluate(&x, Order::Gradient, &mut two.memory()).unwrap().gradient;
    let p = two.parameters().iter().position(|p| p.id == "p_slow").unwrap();
    assert!(g[p].abs() < 1e-8, "{}", g[p]);
}

/// Central differences of fourth order; the bound is that of the specification, 1e-6.
#[test]
fn gradients_are_exact() {
    let all = rows(&[TRAJECTORIES[0], TRAJECTORIES[1], TRAJECTORIES[2], SNAPSHOTS[0], SNAPSHOTS[1], STATISTICS]);
    let objective = objective(&all, CLASSES);
    let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
    let mut memory = objective.memory();
    let g = objective.evaluate(&x, Order::Fisher, &mut memory).unwrap();
    let norm = g.gradient.iter().map(|v| v * v).sum::<f64>().sqrt();
    for k in 0..x.len() {
        let at = |step: f64| {
            let mut moved = x.clone();
            moved[k] += step;
            objective.evaluate(&moved, Order::Value, &mut objective.memory()).unwrap().value
        };
        let h = 2e-3;
        let quotient = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let id = &objective.parameters()[k].id;
        assert!((g.gradient[k] - quotient).abs() < 1e-6 * norm, "{id}: {} but {quotient}", g.gradient[k]);
    }
    assert!(g.fisher.unwrap().symmetric_eigenvalues().min() > -1e-9);
}

/// From synthetic data of two subpopulations a fit finds both, and says of each cell where it belongs.
#[test]
fn a_fit_tells_them_apart() {
    let folder = tempfile::tempdir().unwrap();
    let problem = folder.path().join("problem");
    std::fs::create_dir(&problem).unwrap();
    let design: String = (0..120).map(|_| "y\t\t1\t0.4\tsnapshot\t\t\t\t\ny\t\t1\t0.9\tsnapshot\t\t\t\t\n").collect();
    write(&problem, &rows(&[TRAJECTORIES[0], &design]), CLASSES);
    let mixode = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mixode")).current_dir(folder.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    mixode(&["simulate", "problem", "--population", "30", "--noise", "--seed", "5", "-o", "data"]);
    mixode(&["fit", "data", "-o", "fit", "--starts", "4", "--seed", "2", "--importance", "0", "-q"]);
    let read = |name: &str| {
        let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(folder.path().join("fit").join(name)).unwrap();
        let names = reader.headers().unwrap().clone();
        reader.records().map(|r| names.iter().map(str::to_string).zip(r.unwrap().iter().map(str::to_string)).collect()).collect()
    };
    let estimates: Vec<std::collections::BTreeMap<String, String>> = read("estimates.tsv");
    for (id, truth) in [("k_slow", 0.9f64), ("k_quick", 3.2), ("p_slow", 0.35)] {
        let row = estimates.iter().find(|r| r["parameterId"] == id).unwrap();
        let number = |column: &str| row[column].parse::<f64>().unwrap();
        // Three standard errors, from the 95 % interval on the scale of the estimate.
        let (low, high) = (number("lower95").ln(), number("upper95").ln());
        let error = (number("estimate").ln() - truth.ln()).abs();
        assert!(error < 1.6 * (high - low).abs(), "{id}: {row:?}");
        assert!(high - low < 2.0, "{id}: {row:?}");
    }
    let cells: Vec<std::collections::BTreeMap<String, String>> = read("cells.tsv");
    let mut decided = 0;
    for cell in &cells {
        let p = ["probability_slow", "probability_quick"].map(|name| cell[name].parse::<f64>().unwrap());
        assert!((p[0] + p[1] - 1.0).abs() < 1e-12);
        decided += usize::from(p[0].max(p[1]) > 0.95);
    }
    assert!(cells.len() == 30 && decided > 20, "{decided} of {} cells", cells.len());
}
