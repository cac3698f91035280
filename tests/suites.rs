//! Reference values, compared through the binary as anyone would run it: the SBML semantic test suite, and the project's own problems.
//!
//! The SBML suite is found by `MIXODE_SHARED` (default `../shared`); where it is absent, the test says so and passes. By default every
//! tenth time course is run, which takes seconds; `MIXODE_SUITE=all` runs all of them. A case passes if every value u is within
//! `absolute + relative * |c|` of the expected c, with the tolerances of its settings file. A case that ends with the exit status for
//! what is not supported yet is left out and counted; anything else fails. A least number of passes keeps many left-out cases from
//! hiding an error.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Every how many cases one is run by default.
const STRIDE: usize = 10;

/// Fewest cases that must pass: of the 134 run by default (68 did when this was set), of all 1331 (666 did).
const LEAST: usize = 65;
const LEAST_OF_ALL: usize = 650;

/// Longest time for one case. The slowest takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exit status of a model that needs something mixode does not do yet.
const UNSUPPORTED: i32 = 77;

/// What became of a case that does not pass.
#[derive(Debug)]
enum Miss {
    /// Exit status 77, with its message.
    LeftOut(String),
    /// Any other status, a wrong number, no output.
    Failed(String),
}

impl From<String> for Miss {
    fn from(message: String) -> Self {
        Miss::Failed(message)
    }
}

/// Writes to the terminal even where the test harness captures what a passing test prints.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A binary without any command line can neither simulate nor evaluate; as soon as it has one, every case counts.
fn has_command_line() -> bool {
    let help = Command::new(env!("CARGO_BIN_EXE_mixode")).arg("--help").output().unwrap();
    let empty = help.stdout.is_empty() && help.stderr.is_empty();
    if empty {
        say("LEFT OUT: this binary has no command line");
    }
    !empty
}

fn suite() -> Option<PathBuf> {
    let shared = std::env::var_os("MIXODE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let suite = shared.join("suites/sbml");
    suite.join("index.csv").exists().then_some(suite)
}

/// Number of every time course. The other cases, of flux balance analysis, have no times at which to compare.
fn index(suite: &Path) -> Vec<String> {
    let mut reader = csv::Reader::from_path(suite.join("index.csv")).unwrap();
    let rows = reader.deserialize::<BTreeMap<String, String>>().map(|row| row.unwrap());
    rows.filter(|row| row["type"] == "TimeCourse").map(|row| row["case"].clone()).collect()
}

/// A case's settings file: key to value.
fn settings(folder: &Path, case: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder.join(format!("{case}-settings.txt"))).unwrap();
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim().to_string(), v.trim().to_string())).collect()
}

/// The model of the highest level and version.
fn model(folder: &Path, case: &str) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| {
        f.extension().is_some_and(|e| e == "xml") && f.file_name().unwrap().to_str().unwrap().starts_with(&format!("{case}-sbml-l"))
    });
    files.into_iter().max().unwrap()
}

/// A CSV table of numbers: names of the columns, rows.
fn table(path: &Path) -> Result<(Vec<String>, Vec<Vec<f64>>), String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| e.to_string())?;
    let names = reader.headers().map_err(|e| e.to_string())?.iter().map(str::to_string).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let numbers = record.iter().map(|cell| cell.parse::<f64>().map_err(|_| format!("`{cell}` is not a number")));
        rows.push(numbers.collect::<Result<_, _>>()?);
    }
    Ok((names, rows))
}

/// Runs the binary; standard error is the message where it fails.
fn run(command: &mut Command) -> Result<(), Miss> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let start = Instant::now();
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            return Err(Miss::Failed(format!("no end after {PATIENCE:?}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next().unwrap_or("no message");
    match output.status.code() {
        Some(0) => Ok(()),
        Some(UNSUPPORTED) => Err(Miss::LeftOut(first.to_string())),
        _ => Err(Miss::Failed(format!("{}: {first}", output.status))),
    }
}

fn judge(suite: &Path, case: &str, scratch: &Path) -> Result<(), Miss> {
    let folder = suite.join(case);
    let settings = settings(&folder, case);
    let list = |key: &str| settings.get(key).map(|v| v.split(',').map(str::trim).collect::<Vec<_>>().join(",")).unwrap_or_default();
    let output = scratch.join(format!("{case}.csv"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixode"));
    command.arg("simulate").arg(model(&folder, case)).args(["--start", &settings["start"], "--duration", &settings["duration"]]);
    command.args(["--steps", &settings["steps"], "--variables", &list("variables"), "--amounts", &list("amount")]);
    command.args(["--concentrations", &list("concentration"), "--rtol", "1e-10", "--atol", "1e-14", "--output"]).arg(&output);
    run(&mut command)?;

    let (names, computed) = table(&output)?;
    let (expected_names, expected) = table(&folder.join(format!("{case}-results.csv")))?;
    if computed.len() != expected.len() {
        return Err(format!("{} rows, expected {}", computed.len(), expected.len()).into());
    }
    let number = |key: &str| settings[key].parse::<f64>().map_err(|e| format!("settings {key}: {e}"));
    let (absolute, relative) = (number("absolute")?, number("relative")?);
    for (column, name) in expected_names.iter().enumerate() {
        // The first column is the time, whatever its name; a variable may be called `Time` too.
        let found = names.iter().skip(1).position(|n| n == name).map(|p| p + 1);
        let place = if column == 0 { 0 } else { found.ok_or_else(|| format!("no column `{name}`"))? };
        for (row, (u, c)) in computed.iter().map(|r| r[place]).zip(expected.iter().map(|r| r[column])).enumerate() {
            let close = if c.is_finite() { (u - c).abs() <= absolute + relative * c.abs() } else { u == c || (u.is_nan() && c.is_nan()) };
            if !close {
                return Err(format!("`{name}` in row {row} is {u}, expected {c}").into());
            }
        }
    }
    Ok(())
}

#[test]
fn sbml_semantic_suite() {
    let Some(suite) = suite() else {
        say("LEFT OUT: no SBML suite at $MIXODE_SHARED/suites/sbml");
        return;
    };
    if !has_command_line() {
        return;
    }
    let all = std::env::var("MIXODE_SUITE").is_ok_and(|v| v == "all");
    let cases = index(&suite);
    let chosen: Vec<&String> = cases.iter().step_by(if all { 1 } else { STRIDE }).collect();

    let scratch = tempfile::tempdir().unwrap();
    let misses = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(miss) = judge(&suite, case, scratch.path()) {
                        misses.lock().unwrap().insert((*case).clone(), miss);
                    }
                }
            });
        }
    });
    // Cases left out by the code of their message, such as S0901, with one message as an example.
    let mut left_out: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut failures = Vec::new();
    for (case, miss) in misses.into_inner().unwrap() {
        match miss {
            Miss::LeftOut(message) => {
                let code = message.split(['[', ']']).nth(1).unwrap_or_default().to_string();
                left_out.entry(code).or_insert((message, Vec::new())).1.push(case);
            }
            Miss::Failed(message) => failures.push(format!("  {case}: {message}")),
        }
    }
    let (run, failed, open) = (chosen.len(), failures.len(), left_out.values().map(|(_, cases)| cases.len()).sum::<usize>());
    let passed = run - failed - open;
    say(&format!("SBML suite: of {run} cases {passed} pass, {failed} fail, {open} are LEFT OUT as not supported yet:"));
    for (message, cases) in left_out.values() {
        say(&format!("  {:3} like {}: {message}", cases.len(), cases[0]));
    }
    assert!(failures.is_empty(), "{failed} of {run} cases fail:\n{}", failures.join("\n"));
    let least = if all { LEAST_OF_ALL } else { LEAST };
    assert!(passed >= least, "only {passed} of {run} cases pass, at least {least} must: has something become unsupported?");
}

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

/// Evaluates a problem of `petab_problems/` at its nominal parameters and compares with its `expected.json`.
///
/// The total adds up what each cell and each population term may be off.
fn check_example(name: &str) {
    if !has_command_line() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("petab_problems").join(name);
    let expected = read_json(&folder.join("expected.json"));
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("evaluation.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixode"));
    command.arg("evaluate").arg(folder.join("problem.yaml")).arg("--json").arg(&output);
    if expected.get("gradient_log").is_some() {
        command.args(["--gradient", "forward"]);
    }
    run(&mut command).unwrap();
    let found = read_json(&output);

    let tolerance = |key: &str| expected["tolerance"][key].as_f64();
    let mut problems = Vec::new();
    for key in ["llh", "chi2"] {
        if let Some(allowed) = tolerance(key) {
            problems.extend(compare(key, &found[key], &expected[key], allowed));
        }
    }
    if let Some(cells) = expected["individuals"].as_object() {
        let allowed = tolerance("laplace").unwrap();
        let total = allowed * cells.len() as f64 + tolerance("bulk").unwrap_or(0.0) + tolerance("snapshot_statistic").unwrap_or(0.0);
        problems.extend(compare("nllh", &found["nllh"], &expected["nllh"], total));
        for (cell, reference) in cells {
            let own =
                [&found["individuals"][cell], &found["terms"]["individuals"][cell], &found["terms"]["trajectory"]["individuals"][cell]];
            let own = own.into_iter().find(|v| !v.is_null()).unwrap_or(&Value::Null);
            problems.extend(compare(&format!("laplace of cell {cell}"), &own["laplace"], &reference["laplace"], allowed));
        }
    } else {
        problems.extend(compare("nllh", &found["nllh"], &expected["nllh"], tolerance("llh").unwrap()));
    }
    if let Some(reference) = expected["gradient_log"].as_object() {
        problems.extend(compare_gradient(&found, reference, tolerance("gradient").unwrap()));
    }
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
