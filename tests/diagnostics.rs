//! What a user sees when the input is wrong.
//!
//! Every folder in `tests/diagnostics` holds a small problem, or a model alone, with one mistake or several and `expected.txt`, the text that
//! is printed. To add a case: a folder with a problem, then `UPDATE=1 cargo test --test diagnostics`, and read what it says.

#![allow(clippy::unwrap_used)]

use mixode::cli::load;
use mixode::diag::Diagnostics;
use std::path::{Path, PathBuf};

/// What `mixode check` does. A folder with nothing but a model is checked as a bare SBML file.
fn check(path: &Path) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    if is_bare_model(path) {
        load::check_model(&path.join("model.xml"), None, &mut diagnostics);
    } else {
        load::check(path, &mut diagnostics);
    }
    diagnostics
}

fn is_bare_model(path: &Path) -> bool {
    let others = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name());
    path.join("model.xml").is_file() && others.into_iter().all(|name| name == "model.xml" || name == "expected.txt")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir("tests/diagnostics").unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// The text, with file names as seen from the case's folder.
fn rendered(case: &Path) -> (Diagnostics, String) {
    let diagnostics = check(case);
    let text = diagnostics.render(false).replace(&format!("{}/", case.display()), "").replace(&case.display().to_string(), "FOLDER");
    (diagnostics, text)
}

#[test]
fn messages_are_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (_, text) = rendered(&case);
        let file = case.join("expected.txt");
        if update {
            std::fs::write(&file, text).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if text != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}\n--- found\n{text}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 rewrites the expected texts", wrong.join("\n"));
}

/// Every code of the table in `src/petab/mod.rs` is raised in exactly one place, no other code is raised, and every code is
/// shown by some case here.
#[test]
fn every_code_has_one_place_and_a_case() {
    let mut raised: Vec<String> = Vec::new();
    let mut listed: Vec<String> = Vec::new();
    for file in std::fs::read_dir("src/petab").unwrap().map(|e| e.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code_part = text.split("#[cfg(test)]").next().unwrap();
        for (index, _) in code_part.match_indices("\"P0") {
            raised.push(code_part[index + 1..index + 6].to_string());
        }
        listed.extend(text.lines().filter_map(|l| l.strip_prefix("//! | P0")).map(|l| format!("P0{}", &l[..3])));
    }
    raised.sort();
    listed.sort();
    assert_eq!(raised, listed, "codes raised in the sources (left) and listed in src/petab/mod.rs (right)");

    let shown: String = cases().iter().map(|case| rendered(case).1).collect();
    let unseen: Vec<&String> = listed.iter().filter(|code| !shown.contains(&format!("[{code}]"))).collect();
    assert!(unseen.is_empty(), "no case shows {unseen:?}");
}

#[test]
fn the_same_input_gives_the_same_text() {
    for case in cases() {
        assert_eq!(rendered(&case).1, rendered(&case).1);
    }
}
