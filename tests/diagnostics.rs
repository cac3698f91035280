//! What a user sees when the input is wrong.
//!
//! Every folder in `tests/diagnostics` holds a small problem, or a model alone, with one mistake or several and `expected.txt`, the text that
//! is printed. To add a case: a folder with a problem, then `UPDATE=1 cargo test --test diagnostics`, and read what it says.
//!
//! The folders `v1_*` and `v2_*` go through the rules of the two PEtab versions (what libpetab's lint checks, and more). Each makes one
//! mistake in a copy of one file of the correct problems `rules_v1` and `rules_v2`, and takes the other files from there.

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
        load::check(path, None, &mut diagnostics);
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
    // Conversion has messages of its own, which tests/convert.rs looks at.
    let conversion = std::fs::read_to_string("src/petab/convert.rs").unwrap();
    let unseen: Vec<&String> =
        (listed.iter()).filter(|code| !shown.contains(&format!("[{code}]")) && !conversion.contains(&format!("\"{code}\""))).collect();
    assert!(unseen.is_empty(), "no case shows {unseen:?}");
}

/// The cases of one rule each: the correct problems they start from have no message, every case has exactly one, and like the messages of
/// all other cases it names file, line and column. Only what concerns no file has no place.
#[test]
fn one_mistake_gives_one_message_with_its_place() {
    let name = |case: &Path| case.file_name().unwrap().to_string_lossy().into_owned();
    let mut rules = 0;
    for case in cases() {
        let (diagnostics, _) = rendered(&case);
        match name(&case).as_str() {
            "rules_v1" | "rules_v2" => assert_eq!(diagnostics.items().len(), 0, "{}", case.display()),
            n if n.starts_with("v1_") || n.starts_with("v2_") => {
                assert_eq!(diagnostics.items().len(), 1, "{}", case.display());
                rules += 1;
            }
            _ => {}
        }
        let expected = std::fs::read_to_string(case.join("expected.txt")).unwrap();
        let messages = expected.split("\n\n").filter(|block| ["error[", "warning[", "note["].iter().any(|head| block.starts_with(head)));
        for message in messages.filter(|m| !m.contains("[P0003]")) {
            let place = message.lines().find_map(|line| line.trim_start().strip_prefix("--> "));
            let mut parts = place.unwrap_or_else(|| panic!("{}: no place in\n{message}", case.display())).rsplitn(3, ':');
            let column_and_line = [parts.next(), parts.next()].map(|part| part.and_then(|p| p.parse::<usize>().ok()).unwrap_or(0));
            assert!(column_and_line.iter().all(|n| *n > 0), "{}: {place:?}", case.display());
            let file = parts.next().unwrap();
            assert!(case.join(file).is_file(), "{}: there is no file {file}", case.display());
        }
    }
    assert!(rules >= 40, "{rules} cases of one rule each");
}

#[test]
fn the_same_input_gives_the_same_text() {
    for case in cases() {
        assert_eq!(rendered(&case).1, rendered(&case).1);
    }
}
