//! Random effects that individuals of a group share: likelihoods in closed form, gradients against difference quotients.

#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{Objective, Order};
use nalgebra::{DMatrix, DVector};
use oracle_support::{DECAY, Integration, read, tight};
use std::path::Path;

/// Measurements by individual: name, group, times and values.
type Data = [(&'static str, &'static str, &'static [(f64, f64)])];

const LINES: &Data = &[
    ("a", "one", &[(0.0, 1.2), (1.0, 2.3), (2.0, 3.1)]),
    ("b", "one", &[(0.5, 2.0), (1.0, 2.2)]),
    ("c", "two", &[(0.0, 0.3), (2.0, 2.4)]),
    ("d", "two", &[(1.0, 1.2), (1.5, 1.5), (3.0, 3.3)]),
    ("e", "two", &[(0.0, -0.1)]),
    ("f", "three", &[(1.0, 2.0), (2.0, 2.6)]),
];

const DECAYS: &Data = &[
    ("a", "one", &[(0.4, 1.5), (1.0, 1.0), (2.0, 0.5)]),
    ("b", "one", &[(0.5, 1.2), (1.0, 0.7)]),
    ("c", "two", &[(0.5, 0.9), (2.0, 0.2)]),
    ("d", "two", &[(1.0, 0.3), (1.5, 0.2)]),
];

const LINE_EFFECTS: &str =
    "randomEffectId\ttargetId\ttransformation\tlevel\ng\tbase\tadditive\tgroup\nb\tbase\tadditive\tindividual\ns\tslope\tadditive\t\n";
const DECAY_EFFECTS: &str =
    "randomEffectId\ttargetId\ttransformation\tlevel\ns\tk\tlog\tindividual\ng\tk\tlog\tgroup\nb\tfactor\tlog\tgroup\n";

fn write(folder: &Path, observable: &str, effects: &str, data: &Data) {
    let yaml = "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
         observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\nextensions:\n  nlme:\n    version: 0.1.0\n    required: true\n    \
         hyperparameter_files: [hyperparameters.tsv]\n    random_effect_files: [effects.tsv]\n    covariance_files: [covariance.tsv]\n";
    let mut rows = "observableId\texperimentId\tmeasurement\ttime\tdataType\tindividualId\tgroupId\n".to_string();
    for (id, group, values) in data {
        for (time, value) in *values {
            rows += &format!("y\t\t{value}\t{time}\ttrajectory\t{id}\t{group}\n");
        }
    }
    let observables = format!("observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\ny\t{observable}\tsigma\tnormal\n");
    for (name, text) in [
        ("problem.yaml", yaml),
        ("model.xml", DECAY),
        ("observables.tsv", observables.as_str()),
        (
            "parameters.tsv",
            "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nbase\t-10\t10\t0.9\ttrue\nslope\t-10\t10\t0.8\ttrue\nsigma\t0.01\t1\t0.15\ttrue\n\
             k\t0.01\t10\t0.7\ttrue\nfactor\t0.1\t10\t1.1\ttrue\n",
        ),
        (
            "hyperparameters.tsv",
            "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nsd_g\t0.01\t2\t0.4\ttrue\nsd_b\t0.01\t2\t0.2\ttrue\nsd_s\t0.01\t2\t0.3\ttrue\n",
        ),
        ("effects.tsv", effects),
        ("covariance.tsv", "rowId\tcolId\tkind\tvalue\ng\tg\tsd\tsd_g\nb\tb\tsd\tsd_b\ns\ts\tsd\tsd_s\n"),
        ("measurements.tsv", rows.as_str()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn objective(observable: &str, effects: &str, data: &Data, integration: Integration) -> ProblemObjective {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), observable, effects, data);
    oracle_support::objective(&read(folder.path()), tight(), integration)
}

fn nominal(objective: &ProblemObjective) -> Vec<f64> {
    objective.parameters().iter().map(|p| p.nominal).collect()
}

fn value(objective: &ProblemObjective, x: &[f64]) -> f64 {
    objective.evaluate(x, Order::Value, &mut objective.memory()).unwrap().value
}

/// Of every group the residuals and covariance of its measurements: y = base + g + b + (slope + s) t + noise is normal.
fn line_groups(data: &Data) -> Vec<(Vec<&'static str>, DVector<f64>, DMatrix<f64>)> {
    let (base, slope, sigma, sd_g, sd_b, sd_s) = (0.9, 0.8, 0.15, 0.4, 0.2, 0.3);
    let mut names: Vec<&str> = data.iter().map(|(_, group, _)| *group).collect();
    names.dedup();
    names
        .iter()
        .map(|name| {
            let rows: Vec<(&'static str, f64, f64)> =
                data.iter().filter(|(_, g, _)| g == name).flat_map(|(id, _, v)| v.iter().map(|(t, y)| (*id, *t, *y))).collect();
            let residuals = DVector::from_iterator(rows.len(), rows.iter().map(|(_, t, y)| y - base - slope * t));
            let covariance = DMatrix::from_fn(rows.len(), rows.len(), |i, j| {
                let same = if rows[i].0 == rows[j].0 { sd_b * sd_b + sd_s * sd_s * rows[i].1 * rows[j].1 } else { 0.0 };
                sd_g * sd_g + same + if i == j { sigma * sigma } else { 0.0 }
            });
            (rows.iter().map(|r| r.0).collect(), residuals, covariance)
        })
        .collect()
}

/// A linear model with normal effects and noise: Laplace's approximation, quadrature and importance sampling are exact, estimates are the
/// best linear predictions.
#[test]
fn lines_have_a_normal_marginal() {
    let expected: f64 = line_groups(LINES)
        .iter()
        .map(|(_, r, v)| {
            let factor = v.clone().cholesky().unwrap();
            let log_det = 2.0 * factor.l().diagonal().map(f64::ln).sum();
            0.5 * (r.dot(&factor.solve(r)) + log_det + r.len() as f64 * (2.0 * std::f64::consts::PI).ln())
        })
        .sum();
    for integration in [Integration::Laplace, Integration::GaussNewton] {
        let o = objective("base + slope*time", LINE_EFFECTS, LINES, integration);
        let found = value(&o, &nominal(&o));
        assert!((found - expected).abs() < 1e-9 * expected.abs(), "{integration}: {found} but {expected}");
    }
    let o = objective("base + slope*time", LINE_EFFECTS, LINES, Integration::Laplace);
    let natural = o.map().natural(&nominal(&o));
    let sampled = o.importance(&natural, 2000, 1).unwrap();
    assert!((sampled.value - expected).abs() < 4.0 * sampled.standard_error.max(1e-3), "{} but {expected}", sampled.value);
    let summary = o.summary(&natural).unwrap();
    assert!((summary.terms[0].1 - expected).abs() < 1e-9 * expected.abs());
    for (names, residuals, covariance) in line_groups(LINES) {
        let shared = 0.16 * covariance.clone().cholesky().unwrap().solve(&residuals).sum();
        for individual in summary.individuals.iter().filter(|i| names.contains(&i.id.as_str())) {
            let found = individual.ebe.iter().find(|(id, _)| id == "g").unwrap().1;
            assert!((found - shared).abs() < 1e-9, "{}: {found} but {shared}", individual.id);
            assert!(individual.group.is_some());
        }
    }
}

/// Central differences of fourth order; the bound is that of the specification, 1e-6.
#[test]
fn gradients_are_exact() {
    for integration in [Integration::Laplace, Integration::GaussNewton] {
        for (observable, effects, data) in [("base + slope*time", LINE_EFFECTS, LINES), ("factor*x", DECAY_EFFECTS, DECAYS)] {
            let o = objective(observable, effects, data, integration);
            let x = nominal(&o);
            let found = o.evaluate(&x, Order::Fisher, &mut o.memory()).unwrap();
            let norm = found.gradient.norm();
            for k in 0..x.len() {
                let at = |step: f64| {
                    let mut moved = x.clone();
                    moved[k] += step;
                    value(&o, &moved)
                };
                let h = 2e-3;
                let quotient = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
                let (id, g) = (&o.parameters()[k].id, found.gradient[k]);
                assert!((g - quotient).abs() < 1e-6 * norm, "{integration}, {observable}, {id}: {g} but {quotient}");
            }
            assert!(found.fisher.unwrap().symmetric_eigenvalues().min() > -1e-9);
        }
    }
}

/// A group of one is an individual with all effects; groups are independent; the order of rows means nothing.
#[test]
fn groups_are_independent() {
    let alone = |data: &Data| {
        let o = objective("factor*x", DECAY_EFFECTS, data, Integration::Laplace);
        value(&o, &nominal(&o))
    };
    let whole = alone(DECAYS);
    assert!((whole - alone(&DECAYS[..2]) - alone(&DECAYS[2..])).abs() < 1e-9);
    let mixed = [DECAYS[3], DECAYS[0], DECAYS[2], DECAYS[1]];
    assert!((whole - alone(&mixed)).abs() < 1e-9);
    let individual = DECAY_EFFECTS.replace("\tgroup", "\tindividual");
    let o = objective("factor*x", &individual, &DECAYS[..1], Integration::Laplace);
    assert!((value(&o, &nominal(&o)) - alone(&DECAYS[..1])).abs() < 1e-9);
}

/// Synthetic data have the shared effects: the spread between groups is that of the effects.
#[test]
fn synthetic_groups_share_their_effects() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<(&'static str, &'static str, &'static [(f64, f64)])> = (0..120)
        .map(|i| {
            let (id, group): (&'static str, &'static str) =
                (Box::leak(format!("i{i}").into_boxed_str()), Box::leak(format!("g{}", i / 2).into_boxed_str()));
            (id, group, &[(0.0, 1.0)][..])
        })
        .collect();
    let problem = folder.path().join("problem");
    std::fs::create_dir(&problem).unwrap();
    write(&problem, "base + slope*time", LINE_EFFECTS, &data);
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_mixode"))
        .current_dir(folder.path())
        .args(["simulate", "problem", "--noise", "--seed", "7", "-o", "new"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(folder.path().join("new/measurements.tsv")).unwrap();
    let values: Vec<f64> = reader.records().map(|r| r.unwrap()[2].parse().unwrap()).collect();
    let pairs: Vec<(f64, f64)> = values.chunks(2).map(|v| (v[0] - 0.9, v[1] - 0.9)).collect();
    // Covariance within pairs 0.16, variance 0.16 + 0.04 + 0.0225; 60 pairs, four standard errors.
    let covariance = pairs.iter().map(|(a, b)| a * b).sum::<f64>() / 60.0;
    let variance = values.iter().map(|v| (v - 0.9).powi(2)).sum::<f64>() / 120.0;
    assert!((covariance - 0.16).abs() < 4.0 * 0.2745 / 60f64.sqrt(), "{covariance}");
    assert!((variance - 0.2225).abs() < 4.0 * 0.2225 * (2.0 / 60.0f64).sqrt(), "{variance}");
}
