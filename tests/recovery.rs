//! `scripts/recovery`: that a study runs and its intervals cover the truth. Without Python there is nothing to test.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn study(folder: &Path, arguments: &[&str]) -> Option<Output> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let works = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("left out: no python3");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(root.join("scripts/recovery")).arg(root.join("petab_problems/conversion"));
    Some(command.args(["--mixode", env!("CARGO_BIN_EXE_mixode")]).args(arguments).current_dir(folder).output().unwrap())
}

#[test]
fn a_study_covers_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let Some(output) = study(folder.path(), &["--replicates", "3", "--json", "study.json", "--keep", "kept"]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("study.json")).unwrap()).unwrap();
    assert_eq!(found["failures"].as_array().unwrap().len(), 0);
    let parameters = found["parameters"].as_array().unwrap();
    let names: Vec<&str> = parameters.iter().map(|p| p["parameter"].as_str().unwrap()).collect();
    assert_eq!(names, ["k1", "k2", "sigma"]);
    for p in parameters {
        assert_eq!((p["estimates"].as_u64(), p["intervals"].as_u64(), p["scale"].as_str()), (Some(3), Some(3), Some("log")));
        // The seeds are fixed: two of three intervals at least hold the truth, and no estimate is far off.
        assert!(p["covered"].as_u64().unwrap() >= 2, "{p}");
        assert!(p["bias"].as_f64().unwrap().abs() < 0.3 && p["suspicious"] == false, "{p}");
        assert!((0.01..0.3).contains(&p["se"].as_f64().unwrap()), "{p}");
    }
    assert!(folder.path().join("kept/003/fit/estimates.tsv").is_file());
    // What is there is never written over.
    let again = study(folder.path(), &["--replicates", "1", "--keep", "kept"]).unwrap();
    assert_eq!(again.status.code(), Some(2));
}

#[test]
fn fits_that_fail_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.tsv"), "parameterId\tvalue\nsigma\t-1\n").unwrap();
    let Some(output) = study(folder.path(), &["--replicates", "1", "--parameters", "p.tsv"]) else { return };
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("replicate 1 (seed 1): error: "), "{text}");
}
