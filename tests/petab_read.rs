//! Reading PEtab problems: the official test suites, the benchmark collection, the published NLME problems, and small
//! problems written here. Where the reference data are not there, what is left out is printed.

#![allow(clippy::unwrap_used)]

use mixode::diag::{Diagnostics, Severity};
use mixode::petab::{self, Problem};
use std::path::{Path, PathBuf};

/// The folder of reference data, or `None` with a visible note.
fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MIXODE_SHARED").map(PathBuf::from).unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join(part);
    if !path.exists() {
        eprintln!("left out: {} is not there (set MIXODE_SHARED)", path.display());
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> (Option<Problem>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let problem = petab::read(path, &mut diagnostics);
    (problem, diagnostics)
}

/// All problem files in the folders of `root`, sorted.
fn problem_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml") && !p.to_string_lossy().ends_with("_solution.yaml"))
        .collect();
    files.sort();
    files
}

/// Reads all problems below `part` and returns those that gave errors, with the codes.
fn failures(part: &str) -> Option<(usize, Vec<(String, Vec<&'static str>)>)> {
    let root = shared(part)?;
    let files = problem_files(&root);
    let mut failed = Vec::new();
    for file in &files {
        let (problem, diagnostics) = read(file);
        assert_eq!(problem.is_none(), diagnostics.has_errors(), "{}", file.display());
        if std::env::var_os("SHOW").is_some() {
            eprintln!("{}\n{}", file.display(), diagnostics.render(false));
        }
        if diagnostics.has_errors() {
            eprintln!("{}", diagnostics.render(false));
            let codes = diagnostics.items().iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect();
            failed.push((file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), codes));
        }
    }
    Some((files.len(), failed))
}

#[test]
fn suite_version_1() {
    let Some((count, failed)) = failures("suites/petab/v1") else { return };
    assert_eq!((count, failed), (15, vec![]));
}

#[test]
fn suite_version_2() {
    let Some((count, failed)) = failures("suites/petab/v2") else { return };
    assert_eq!((count, failed), (23, vec![]));
}

#[test]
fn suite_version_2_pysb_is_unsupported() {
    let Some((count, failed)) = failures("suites/petab/v2-pysb") else { return };
    assert_eq!(failed.len(), count);
    assert!(failed.iter().all(|(_, codes)| codes.contains(&"P0009")), "{failed:?}");
}

#[test]
fn benchmarks() {
    let Some((count, failed)) = failures("suites/benchmarks") else { return };
    assert!(count >= 26, "{count}");
    // This variant names a model file that the collection does not have under that name.
    let expected = vec![("Zhao_QuantBiol2020/petab_test_Zhao_QuantBiol2020.yaml".to_string(), vec!["P0002"])];
    assert_eq!(failed, expected);
}

#[test]
fn nlme_problems() {
    let Some((count, failed)) = failures("problems") else { return };
    assert!(count >= 10, "{count}");
    assert_eq!(failed, vec![]);
}
