//! `mixode describe`, `mixode gradient-check` and the counts of `mixode check` as a user sees them.
//!
//! `tests/describe` has the pages word for word; `UPDATE=1 cargo test --test describe` rewrites them.
#![allow(clippy::unwrap_used)]

mod reference_data;
use mixode::cli::{describe, load};
use mixode::diag::Diagnostics;
use std::path::Path;
use std::process::{Command, Output};

fn mixode(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn problems_are_described_as_expected() {
    let problems =
        [("plain_v1", "tests/diagnostics/rules_v1"), ("periods_v2", "tests/diagnostics/rules_v2"), ("nlme", "petab_problems/transfection")];
    for (name, problem) in problems {
        let mut diagnostics = Diagnostics::new();
        let page = describe::page(&load::read(Path::new(problem), None, &mut diagnostics).unwrap());
        let file = Path::new("tests/describe").join(format!("{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &page).unwrap();
        }
        assert_eq!(page, std::fs::read_to_string(&file).unwrap_or_default(), "{name}");
    }
}

#[test]
fn describe_says_how_long_things_take() {
    let run = mixode(&["describe", "tests/diagnostics/rules_v1"]);
    assert!(run.status.success());
    let page = text(&run.stdout);
    let last = page.lines().last().unwrap();
    assert!(
        page.contains("\ngradient     ")
            && last.starts_with("kernels      ready in ")
            && last.contains("; one objective ")
            && last.contains(", with gradient "),
        "{page}"
    );
}

/// Every line of a table fits a terminal; the status is 0 where no derivative is off.
fn gradient_is_right(problem: &str, arguments: &[&str]) {
    let run = mixode(&[&["gradient-check", problem], arguments].concat());
    let table = text(&run.stdout);
    assert!(run.status.success(), "{problem}: {table}{}", text(&run.stderr));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains(" ok, 0 off, "), "{table}");
}

#[test]
fn gradients_of_the_example_problems_are_right() {
    for problem in std::fs::read_dir("petab_problems").unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        // Differences of `apoptosis` take minutes; tests/published.rs has gradients of such a problem.
        if !problem.ends_with("apoptosis") {
            gradient_is_right(problem.to_str().unwrap(), &[]);
        }
    }
    gradient_is_right("petab_problems/conversion", &["--at", "random", "--seed", "7"]);
    for problem in ["tests/diagnostics/rules_v1", "tests/diagnostics/rules_v2"] {
        gradient_is_right(problem, &["--step", "1e-2,1e-3,1e-4"]);
    }
}

/// At the optimum most derivatives are small, so the values have to be accurate for a verdict.
#[test]
fn the_gradient_of_boehm_is_right() {
    let Some(problem) = reference_data::shared("suites/benchmarks/Boehm_JProteomeRes2014/Boehm_JProteomeRes2014.yaml") else { return };
    let problem = problem.to_str().unwrap();
    gradient_is_right(problem, &[]);
    gradient_is_right(problem, &["--at", "random", "--seed", "2"]);
    let run = mixode(&["gradient-check", problem, "--json", "--rtol", "1e-13", "--atol", "1e-15"]);
    let value: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let verdicts: Vec<&str> = value["parameters"].as_array().unwrap().iter().map(|p| p["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts.len(), 9);
    assert!(verdicts.iter().filter(|v| **v == "ok").count() >= 8 && !verdicts.contains(&"off"), "{verdicts:?}");
}

#[test]
fn gradient_check_refuses_what_makes_no_sense() {
    for arguments in [["--step", "0"], ["--step", "-1e-3"], ["--tolerance", "0"]] {
        let run = mixode(&["gradient-check", "petab_problems/conversion", &format!("{}={}", arguments[0], arguments[1])]);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn check_counts_errors_and_warnings() {
    let run = mixode(&["check", "tests/diagnostics/rules_v1"]);
    assert!(text(&run.stdout).ends_with("no errors\n") && run.stderr.is_empty() && run.status.success());
    let run = mixode(&["check", "tests/diagnostics/v1_unused_condition"]);
    assert!(text(&run.stdout).ends_with("0 errors, 1 warning\n") && run.status.success());
    let run = mixode(&["check", "tests/diagnostics/v1_bounds_order"]);
    assert!(text(&run.stderr).ends_with("1 error\n") && run.stdout.is_empty() && run.status.code() == Some(1));
    let run = mixode(&["check", "tests/diagnostics/v1_bounds_order", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&run.stderr).unwrap();
    assert_eq!((value["errors"].as_u64(), value["warnings"].as_u64()), (Some(1), Some(0)));
    assert_eq!(value["diagnostics"][0]["place"]["line"].as_u64(), Some(2));
}
