//! What a fit says of its own accuracy: robust standard errors, errors by quasi-random nodes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const MODEL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">
  <model id="constant">
    <listOfParameters><parameter id="unused" value="1" constant="true"/></listOfParameters>
  </model>
</sbml>
"#;

/// A problem of the observable `base` plus normal effects with these standard deviations, and noise of 0.1.
fn write(folder: &Path, effects: &[f64], rows: &str) {
    let covariance: String = effects.iter().enumerate().map(|(i, sd)| format!("b{i}\tb{i}\tsd\t{sd}\n")).collect();
    let effects: String = (0..effects.len()).map(|i| format!("b{i}\tbase\tadditive\n")).collect();
    for (name, text) in [
        (
            "problem.yaml",
            "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
             observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\nextensions:\n  nlme:\n    version: 0.1.0\n    required: true\n    \
             random_effect_files: [effects.tsv]\n    covariance_files: [covariance.tsv]\n",
        ),
        ("model.xml", MODEL),
        (
            "observables.tsv",
            "observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\ny\tbase\t0.1\tnormal\ncube\tbase*exp(base)\t0.1\tnormal\n",
        ),
        ("parameters.tsv", "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nbase\t-10\t10\t0.9\ttrue\n"),
        ("effects.tsv", &format!("randomEffectId\ttargetId\ttransformation\n{effects}")),
        ("covariance.tsv", &format!("rowId\tcolId\tkind\tvalue\n{covariance}")),
        ("measurements.tsv", &format!("observableId\texperimentId\tmeasurement\ttime\tdataType\tindividualId\tstatisticSd\n{rows}")),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// Fits the problem in `folder`; its estimates by parameter, and what it said.
fn fit(folder: &Path, options: &[&str]) -> (BTreeMap<String, BTreeMap<String, String>>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixode"));
    let output =
        command.current_dir(folder).args(["fit", ".", "-o", "fit", "--starts", "2", "--importance", "0"]).args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(folder.join("fit/estimates.tsv")).unwrap();
    let names = reader.headers().unwrap().clone();
    let rows = reader.records().map(|r| names.iter().map(str::to_string).zip(r.unwrap().iter().map(str::to_string)).collect());
    (rows.map(|r: BTreeMap<String, String>| (r["parameterId"].clone(), r)).collect(), said)
}

/// Independent values that spread more than the model says: the observed information believes the model, v / n, the sandwich the data,
/// sum of (y - mean)^2 / n^2.
#[test]
fn the_sandwich_believes_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let values = [0.2, 1.9, -0.7, 0.4, 1.1, 2.5, -1.3, 0.6];
    let rows: String = values.iter().enumerate().map(|(i, y)| format!("y\t\t{y}\t0\ttrajectory\tc{i}\t\n")).collect();
    write(folder.path(), &[0.3], &rows);
    let (estimates, _) = fit(folder.path(), &["-q"]);
    let (n, mean) = (values.len() as f64, values.iter().sum::<f64>() / values.len() as f64);
    let number = |column: &str| estimates["base"][column].parse::<f64>().unwrap();
    let squares: f64 = values.iter().map(|y| (y - mean).powi(2)).sum();
    assert!((number("estimate") - mean).abs() < 1e-6);
    assert!((number("standardError") - ((0.09 + 0.01) / n).sqrt()).abs() < 1e-6);
    assert!((number("robustStandardError") - squares.sqrt() / n).abs() < 1e-5, "{}", number("robustStandardError"));
}

/// With five random effects the nodes are quasi-random. A statistic that was measured very precisely needs more of them than the default, and
/// gets them; the estimate then is that of the exact mean, E[x exp x] = (m + v) exp(m + v/2).
#[test]
fn nodes_are_added_where_data_are_precise() {
    let (m, v): (f64, f64) = (0.5, 5.0 * 0.09);
    let mean = (m + v) * (m + v / 2.0).exp();
    let rows = |sd: f64| format!("cube\t\t{mean}\t0\tbulk\t\t{sd}\n");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[0.3; 5], &rows(2e-3));
    let (estimates, said) = fit(folder.path(), &[]);
    assert!(said.contains("going on with"), "{said}");
    let found = estimates["base"]["estimate"].parse::<f64>().unwrap();
    let error = estimates["base"]["standardError"].parse::<f64>().unwrap();
    assert!((found - m).abs() < 0.5 * error, "{found} +- {error}");
    // A number of nodes that was asked for stays, with a warning in the report.
    std::fs::remove_dir_all(folder.path().join("fit")).unwrap();
    let (_, said) = fit(folder.path(), &["--nodes", "256"]);
    assert!(!said.contains("going on with"), "{said}");
    let page = std::fs::read_to_string(folder.path().join("fit/run.json")).unwrap();
    assert!(page.contains("of the data's error"), "{page}");
    // Coarse data do not need more.
    let coarse = tempfile::tempdir().unwrap();
    write(coarse.path(), &[0.3; 5], &rows(0.5));
    let (_, said) = fit(coarse.path(), &[]);
    assert!(!said.contains("going on with"), "{said}");
}
