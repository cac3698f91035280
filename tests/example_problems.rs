//! The project's own problems, compared through the binary as anyone would run it. The suites of the reference data are judged by
//! `scripts/test`.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Compares one number of two JSON values; the message names both.
fn compare(what: &str, found: &Value, expected: &Value, tolerance: f64) -> Option<String> {
    let close = found.as_f64().zip(expected.as_f64()).is_some_and(|(f, e)| (f - e).abs() <= tolerance);
    (!close).then(|| format!("{what} is {found}, expected {expected} within {tolerance:e}"))
}

/// Compares the gradient of an evaluation with a reference by natural logarithms, relative in the Euclidean norm.
///
/// In version 2 of PEtab an estimated parameter with positive bounds is fitted on that scale.
fn compare_gradient(found: &Value, expected: &serde_json::Map<String, Value>, tolerance: f64) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut error, mut norm) = (0.0, 0.0);
    for (name, reference) in expected {
        if found["scales"][name] != "log" {
            problems.push(format!("scale of {name} is {}, expected \"log\"", found["scales"][name]));
        }
        let reference = reference.as_f64().unwrap();
        // An entry that is missing makes the error not a number, which fails below.
        error += (found["gradient"][name].as_f64().unwrap_or(f64::NAN) - reference).powi(2);
        norm += reference.powi(2);
    }
    let relative = (error / norm).sqrt();
    if relative.is_nan() || relative > tolerance {
        problems.push(format!(
            "gradient is {}, expected {expected:?} within {tolerance:e} of its norm, is off by {relative:e}",
            found["gradient"]
        ));
    }
    problems
}

/// The folder of a problem of `petab_problems/`.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("petab_problems").join(name)
}

/// What `mixode evaluate` with `arguments` says of the problem in a folder at its nominal parameters.
fn evaluate(folder: &Path, arguments: &[&str]) -> Value {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("evaluation.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixode"));
    command.arg("evaluate").arg(folder.join("problem.yaml")).arg("--json").arg(&output).args(arguments);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    read_json(&output)
}

/// Terms of the population, of which a problem may have several.
const POPULATION: [&str; 3] = ["bulk", "snapshot", "snapshot_statistic"];

/// Compares a problem at its nominal parameters with its `expected.json`.
///
/// The total adds up what each cell and each population term may be off.
fn check_example(name: &str) {
    let expected = read_json(&folder(name).join("expected.json"));
    let gradient: &[&str] = if expected.get("gradient_log").is_some() { &["--gradient", "forward"] } else { &[] };
    let found = evaluate(&folder(name), gradient);

    let tolerance = |key: &str| expected["tolerance"][key].as_f64();
    let mut problems = Vec::new();
    for key in ["llh", "chi2"] {
        if let Some(allowed) = tolerance(key) {
            problems.extend(compare(key, &found[key], &expected[key], allowed));
        }
    }
    for kind in POPULATION.iter().filter(|kind| expected["terms"].get(**kind).is_some()) {
        problems.extend(compare(kind, &found["terms"][kind], &expected["terms"][kind], tolerance(kind).unwrap()));
    }
    if let Some(cells) = expected["individuals"].as_object() {
        let allowed = tolerance("laplace").unwrap();
        let total = allowed * cells.len() as f64 + POPULATION.iter().filter_map(|kind| tolerance(kind)).sum::<f64>();
        problems.extend(compare("nllh", &found["nllh"], &expected["nllh"], total));
        problems.extend(compare_cells("laplace", &found, &expected));
    } else {
        problems.extend(compare("nllh", &found["nllh"], &expected["nllh"], tolerance("llh").unwrap()));
    }
    if let Some(reference) = expected["gradient_log"].as_object() {
        problems.extend(compare_gradient(&found, reference, tolerance("gradient").unwrap()));
    }
    assert!(problems.is_empty(), "{name}:\n  {}", problems.join("\n  "));
}

/// Compares the cells' terms with those of `rule`, `laplace` or `exact`.
fn compare_cells(rule: &str, found: &Value, expected: &Value) -> Vec<String> {
    let allowed = expected["tolerance"][rule].as_f64().unwrap();
    let cells = expected["individuals"].as_object().unwrap();
    // The entry is called so whatever integrates.
    let own = |cell: &String| &found["individuals"][cell]["laplace"];
    cells.iter().filter_map(|(cell, reference)| compare(&format!("{rule} of cell {cell}"), own(cell), &reference[rule], allowed)).collect()
}

/// Compares the exact marginal likelihoods of some of a problem's cells, in a copy of the problem that has no others.
fn check_exact(name: &str, cells: &[&str]) {
    let mut expected = read_json(&folder(name).join("expected.json"));
    expected["individuals"].as_object_mut().unwrap().retain(|cell, _| cells.contains(&cell.as_str()));
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder(name)).unwrap().map(Result::unwrap) {
        let mut text = std::fs::read_to_string(file.path()).unwrap();
        if file.file_name() == "measurements_cells.tsv" {
            let lines = text.lines().enumerate();
            let kept = lines.filter(|(i, line)| *i == 0 || line.split('\t').any(|field| cells.contains(&field)));
            text = kept.map(|(_, line)| format!("{line}\n")).collect();
        }
        std::fs::write(copy.path().join(file.file_name()), text).unwrap();
    }
    let problems = compare_cells("exact", &evaluate(copy.path(), &["--integration", "exact"]), &expected);
    assert!(problems.is_empty(), "{name}:\n  {}", problems.join("\n  "));
}

#[test]
fn conversion_has_its_expected_values() {
    check_example("conversion");
}

#[test]
fn conversion_cells_has_its_expected_values() {
    check_example("conversion_cells");
}

#[test]
fn transfection_has_its_expected_values() {
    check_example("transfection");
}

#[test]
fn subpopulations_has_its_expected_values() {
    check_example("subpopulations");
}

#[test]
fn conversion_joint_has_its_expected_values() {
    check_example("conversion_joint");
}

#[test]
fn survival_has_its_expected_values() {
    check_example("survival");
}

#[test]
fn apoptosis_has_its_expected_values() {
    check_example("apoptosis");
}

/// Intervals, survivors, and thin, bent ridges: posteriors that are no normal peaks.
#[test]
fn marginals_of_cells_are_exact_where_asked_for() {
    check_exact("survival", &["c0001", "c0006", "c0009"]);
    check_exact("conversion_cells", &["c03", "c20"]);
    check_exact("conversion_joint", &["c0006", "c0014"]);
}
