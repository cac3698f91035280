//! Reading SBML: small models for each construct, each error with its place, and the staged collections of models.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use mixode::diag::{Diagnostics, Severity, Source};
use mixode::sbml;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("MIXODE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("left out: no reference data at {}", path.display());
    None
}

fn models_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            models_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "xml") {
            found.push(path);
        }
    }
}

/// Reads every model below the folders; counts the outcomes, and lists errors that do not say "not supported".
fn survey(folders: &[&str]) -> (BTreeMap<String, usize>, Vec<String>) {
    let Some(shared) = shared() else { return Default::default() };
    let mut files = Vec::new();
    folders.iter().for_each(|folder| models_below(&shared.join(folder), &mut files));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let source = Source::new(file.strip_prefix(&shared).unwrap().display().to_string(), text);
        let mut diagnostics = Diagnostics::new();
        let model = sbml::read(&source, &mut diagnostics);
        assert_eq!(model.is_some(), !diagnostics.has_errors(), "{}", source.name());
        let mut codes: Vec<_> = diagnostics.items().iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect();
        codes.sort();
        codes.dedup();
        let outcome = if codes.is_empty() { "read".to_owned() } else { codes.join(" ") };
        *outcomes.entry(outcome).or_default() += 1;
        for d in diagnostics.items() {
            if d.severity == Severity::Error && !d.code.starts_with("S09") {
                wrong.push(format!("{} {} {}", d.code, d.span.as_ref().map_or(String::new(), |s| s.position()), d.message));
            }
            if matches!(d.code, "S0803" | "S0805") {
                println!("{} {} {}", d.code, d.span.as_ref().map_or(String::new(), |s| s.position()), d.message);
            }
        }
    }
    println!("{folders:?}: {outcomes:#?}");
    (outcomes, wrong)
}

#[test]
fn models_of_petab_problems_are_read() {
    let (_, wrong) = survey(&["suites/petab", "suites/benchmarks", "problems"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cases_of_the_sbml_suite_are_read_or_named_unsupported() {
    let (_, wrong) = survey(&["suites/sbml"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn published_models_are_read_or_named_unsupported() {
    let (_, wrong) = survey(&["suites/biomodels", "suites/biomodels-import-only"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
