//! The rules of the source tree, held by tests: who may import whom, where `unsafe` may stand, what library code does not do,
//! that every module has a front page, that every diagnostic code is raised in one place and listed, and how long a file may be.
//!
//! The checks read the text of `src/`. Comments, strings and code under `#[cfg(test)]` are blanked out before names are looked for,
//! so a word in a message or a doc comment never counts.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Rooms and their levels. A room imports only from lower levels; rooms on one level do not know each other.
const LEVELS: &[(&str, u32)] = &[
    ("diag", 0),
    ("linalg", 0),
    ("matching", 0),
    ("parallel", 0),
    ("random", 0),
    ("archive", 1),
    ("expr", 1),
    ("sbml", 2),
    ("petab", 2),
    ("jit", 2),
    ("model", 3),
    ("flux_balance", 3),
    ("ode", 4),
    ("likelihood", 5),
    ("estimate", 6),
    ("report", 7),
    ("cli", 8),
    ("python", 9),
];

/// The only files that may hold `unsafe`: calls of machine code, and of the C library.
const UNSAFE_FILES: &[&str] = &["jit/cranelift.rs", "ode/cvodes.rs"];

/// How far above an `unsafe` block its safety comment may stand, in lines.
const SAFETY_REACH: usize = 12;

/// Calls that library code does not make: it returns errors, and what is printed is for `cli` to decide.
const FORBIDDEN: &[&str] = &[".unwrap()", "panic!", "todo!", "unimplemented!", "dbg!", "println!", "eprintln!", "print!", "eprint!"];

/// Of these, what the command line may do.
const CLI_MAY: &[&str] = &["println!", "eprintln!", "print!", "eprint!"];

/// Longest file, in lines. A file that outgrows it holds two things.
const LONGEST_FILE: usize = 900;

/// Files that are allowed to be longer, each with a reason.
const LONG_FILES: &[(&str, &str)] = &[];

struct File {
    /// Path below `src/`, with forward slashes.
    name: String,
    /// First component of the path, without `.rs`.
    room: String,
    text: String,
    /// Same length and lines as `text`; comments, strings and test code are blanks.
    code: String,
}

fn sources() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let room = name.split('/').next().unwrap().trim_end_matches(".rs").to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                let code = without_tests(&without_comments(&text, true));
                files.push(File { name, room, text, code });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.len() > 10, "the sources were not found");
    files
}

/// Blanks comments, and with `strings` also the content of string and character literals. Lines stay where they are.
fn without_comments(text: &str, strings: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let blank = |out: &mut [u8], from: usize, to: usize| out[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    let mut i = 0;
    while i < bytes.len() {
        let rest = &bytes[i..];
        let start = i;
        if rest.starts_with(b"//") {
            i += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            blank(&mut out, start, i);
        } else if rest.starts_with(b"/*") {
            let mut depth = 0;
            while i < bytes.len() {
                if bytes[i..].starts_with(b"/*") {
                    depth += 1;
                    i += 2;
                } else if bytes[i..].starts_with(b"*/") {
                    depth -= 1;
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    i += 1;
                }
            }
            blank(&mut out, start, i);
        } else if let Some((opening, hashes)) = raw_string(bytes, i) {
            let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let body = i + opening;
            let length = bytes[body..].windows(end.len()).position(|w| w == end).unwrap_or(bytes.len() - body);
            i = (body + length + end.len()).min(bytes.len());
            if strings {
                blank(&mut out, body, body + length);
            }
        } else if rest[0] == b'"' {
            i += 1;
            while i < bytes.len() && bytes[i] != b'"' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            let end = i.min(bytes.len());
            if strings {
                blank(&mut out, start + 1, end);
            }
            i = end + 1;
        } else if rest[0] == b'\'' {
            // A character literal, unless it is a lifetime: 'x' or '\...'.
            let after = text[i + 1..].chars().next().map_or(1, char::len_utf8);
            if rest.get(1) == Some(&b'\\') {
                let length = rest[3..].iter().position(|b| *b == b'\'').map_or(rest.len(), |p| p + 4);
                i += length.min(rest.len());
            } else if rest.get(1 + after) == Some(&b'\'') {
                i += after + 2;
            } else {
                i += 1;
            }
            if strings && i > start + 1 {
                blank(&mut out, start + 1, i - 1);
            }
        } else {
            i += 1;
        }
    }
    // Blanking whole characters byte by byte keeps the text valid, as only complete ones are blanked.
    String::from_utf8(out).unwrap()
}

/// Whether a raw string starts here: length of its opening and number of hashes.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
        return None;
    }
    let prefix = [&b"r"[..], b"br", b"cr"].iter().find(|p| bytes[at..].starts_with(p))?.len();
    let hashes = bytes[at + prefix..].iter().take_while(|b| **b == b'#').count();
    (bytes.get(at + prefix + hashes) == Some(&b'"')).then_some((prefix + hashes + 1, hashes))
}

/// Blanks the items that stand under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    while let Some(start) = out.find("#[cfg(test)]") {
        let mut depth = 0usize;
        let mut end = out.len();
        for (offset, c) in out[start..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && (c == '}' || c == ';') {
                end = start + offset + 1;
                break;
            }
        }
        let blanked: Vec<u8> = out[start..end].bytes().map(|b| if b == b'\n' { b'\n' } else { b' ' }).collect();
        out.replace_range(start..end, &String::from_utf8(blanked).unwrap());
    }
    out
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Byte offsets at which `word` stands as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).map(|(i, _)| i).filter(move |i| {
        let starts_with_name = word.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let ends_with_name = word.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let before = starts_with_name && part_of_name(code[..*i].chars().next_back());
        let after = ends_with_name && part_of_name(code[i + word.len()..].chars().next());
        !before && !after
    })
}

/// The names that a path starting at the crate's root goes on with: one, or those of a group in braces.
fn heads(after: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else { return vec![name(after)] };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[i + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// Rooms that a file names by `crate::` or by enough `super::` to reach the crate's root, with the lines.
fn imports(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for i in words(&file.code, "crate").filter(|i| file.code[i + 5..].trim_start().starts_with("::")) {
        let after = file.code[i + 5..].trim_start();
        found.extend(heads(&after[2..]).into_iter().map(|name| (line_of(&file.code, i), name)));
    }
    let depth = file.name.split('/').filter(|part| *part != "mod.rs").count();
    let climb = "super::".repeat(depth);
    for i in words(&file.code, &climb) {
        let after = &file.code[i + climb.len()..];
        if !file.code[..i].ends_with("super::") && !after.starts_with("super::") && !inside_inline_module(&file.code, i) {
            found.extend(heads(after).into_iter().map(|name| (line_of(&file.code, i), name)));
        }
    }
    found
}

/// Whether an offset stands within `mod name { ... }`, where `super` means something else.
fn inside_inline_module(code: &str, offset: usize) -> bool {
    let mut module_depths = Vec::new();
    let mut depth = 0;
    for (i, c) in code[..offset].char_indices() {
        match c {
            '{' => {
                depth += 1;
                let head = code[..i].rsplit(['{', '}', ';']).next().unwrap_or("");
                if words(head, "mod").next().is_some() {
                    module_depths.push(depth);
                }
            }
            '}' => {
                module_depths.retain(|d| *d != depth);
                depth -= 1;
            }
            _ => {}
        }
    }
    !module_depths.is_empty()
}

fn level(room: &str) -> Option<u32> {
    LEVELS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

/// Fails with all findings, one a line.
fn report(rule: &str, findings: &[String]) {
    let mut text = String::new();
    findings.iter().for_each(|f| writeln!(text, "  {f}").unwrap());
    assert!(findings.is_empty(), "{rule}:\n{text}");
}

#[test]
fn every_room_has_a_level() {
    let unknown: BTreeSet<_> = sources().into_iter().map(|f| f.room).filter(|r| r != "lib" && r != "main" && level(r).is_none()).collect();
    report("rooms that tests/architecture.rs does not know", &unknown.into_iter().collect::<Vec<_>>());
}

#[test]
fn rooms_import_only_from_below() {
    let mut findings = Vec::new();
    for file in sources() {
        let Some(own) = level(&file.room) else { continue };
        for (line, other) in imports(&file) {
            let Some(other_level) = level(&other) else { continue };
            if other != file.room && other_level >= own {
                findings.push(format!("src/{}:{line}: `{}` (level {own}) imports `{other}` (level {other_level})", file.name, file.room));
            }
        }
    }
    report("a room imports only from rooms on a lower level", &findings);
}

#[test]
fn unsafe_stands_only_at_the_two_borders_and_is_argued() {
    let mut findings = Vec::new();
    for file in sources() {
        for i in words(&file.code, "unsafe") {
            let line = line_of(&file.code, i);
            if !UNSAFE_FILES.contains(&file.name.as_str()) {
                findings.push(format!("src/{}:{line}: unsafe outside {UNSAFE_FILES:?}", file.name));
            }
            let after = file.code[i + "unsafe".len()..].trim_start();
            let argued = file.text.lines().skip(line.saturating_sub(SAFETY_REACH + 1)).take(SAFETY_REACH + 1);
            let argued = argued.filter(|l| l.contains("//")).any(|l| l.to_lowercase().contains("safety"));
            if (after.starts_with('{') || after.starts_with("impl")) && !argued {
                findings.push(format!("src/{}:{line}: no safety comment within {SAFETY_REACH} lines above", file.name));
            }
        }
    }
    report("unsafe code", &findings);
}

#[test]
fn library_code_neither_panics_nor_prints() {
    let mut findings = Vec::new();
    for file in sources() {
        let interactive = file.room == "cli" || file.room == "main";
        for pattern in FORBIDDEN {
            if interactive && CLI_MAY.contains(pattern) {
                continue;
            }
            findings.extend(words(&file.code, pattern).map(|i| format!("src/{}:{}: {pattern}", file.name, line_of(&file.code, i))));
        }
    }
    report("library code returns errors and prints nothing", &findings);
}

#[test]
fn every_module_has_a_front_page() {
    let mut findings = Vec::new();
    for file in sources().into_iter().filter(|f| f.room != "main") {
        let page: String = file.text.lines().take_while(|l| l.starts_with("//!")).map(|l| l.trim_start_matches("//!").trim()).collect();
        // A word or two is a file name, no front page.
        if page.split_whitespace().count() < 3 && page.len() < 20 {
            findings.push(format!("src/{}: starts with no doc comment that says what it is for", file.name));
        }
    }
    report("every module says on its first lines what it is for", &findings);
}

/// Codes such as `P0203` in a text, with their offsets.
fn codes(text: &str) -> Vec<(usize, String)> {
    let bytes = text.as_bytes();
    let whole = |i: usize| bytes.get(i).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
    (0..bytes.len().saturating_sub(4))
        .filter(|i| b"FMPS".contains(&bytes[*i]) && bytes[i + 1..i + 5].iter().all(u8::is_ascii_digit))
        .filter(|i| (*i == 0 || whole(i - 1)) && whole(i + 5))
        .map(|i| (i, text[i..i + 5].to_string()))
        .collect()
}

/// A room's table of codes: the front page of its `mod.rs` (`//!` lines), or a file `codes.rs` in it.
#[test]
fn every_diagnostic_code_is_raised_once_and_listed() {
    let mut raised: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources() {
        if ["diag", "report", "main", "lib"].contains(&file.room.as_str()) {
            continue; // they show codes of others
        }
        let table = file.name.ends_with("/codes.rs");
        let page = file.name.ends_with("/mod.rs");
        let lines = file.text.lines().filter(|l| table || (page && l.starts_with("//!")));
        listed.entry(file.room.clone()).or_default().extend(lines.flat_map(codes).map(|(_, code)| code));
        if table {
            continue;
        }
        // Strings count here, comments and tests do not.
        let with_strings = without_comments(&file.text, false);
        for (i, code) in codes(&with_strings) {
            let in_test = file.code.as_bytes()[i - 1] == b' ';
            // Who asks for a code does not raise it.
            let compared = with_strings[..i].ends_with("== \"");
            if with_strings[..i].ends_with('"') && with_strings[i + 5..].starts_with('"') && !in_test && !compared {
                let place = format!("src/{}:{}", file.name, line_of(&file.text, i));
                raised.entry((code, file.room.clone())).or_default().push(place);
            }
        }
    }
    let mut findings = Vec::new();
    let mut places: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for ((code, room), at) in &raised {
        places.entry(code).or_default().extend(at);
        if !listed.get(room).is_some_and(|l| l.contains(code)) {
            findings.push(format!("{code} ({}) has no line in the table of codes in src/{room}/mod.rs", at[0]));
        }
    }
    for (code, at) in places.iter().filter(|(_, at)| at.len() > 1) {
        findings.push(format!("{code} is raised in {} places: {at:?}", at.len()));
    }
    for (room, codes) in &listed {
        let unused = codes.iter().filter(|c| !raised.contains_key(&((*c).clone(), room.clone())));
        findings.extend(unused.map(|c| format!("{c} is listed in src/{room} but raised nowhere in it")));
    }
    report("every diagnostic code is raised in one place and has a line in its room's table", &findings);
}

#[test]
fn no_file_outgrows_its_reader() {
    let mut findings = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        let excused = LONG_FILES.iter().any(|(name, _)| *name == file.name);
        if lines > LONGEST_FILE && !excused {
            findings.push(format!("src/{}: {lines} lines, at most {LONGEST_FILE}", file.name));
        }
        if excused && lines <= LONGEST_FILE {
            findings.push(format!("src/{}: is no longer long, its line in LONG_FILES can go", file.name));
        }
    }
    report("files are split before they grow too long", &findings);
}

/// The checks above are only as good as the reading of the text.
#[test]
fn the_reader_sees_code_and_nothing_else() {
    let text = r##"
//! crate::cli in a comment
use crate::{expr::{Graph, crate_x}, diag};
fn f<'a>(x: &'a str) -> char { let _ = "panic! \" crate::report"; let _ = r#"todo!( "x" "#; /* a /* b */ unsafe */ '"' }
fn g() { super::super::jit::call() } // unsafe
mod inner { fn h() { super::super::cli::x() } }
#[cfg(test)]
mod tests { use crate::cli; fn t() { x.unwrap(); let c = '}'; } }
fn last() { x.unwrap() }
"##;
    let code = without_tests(&without_comments(text, true));
    assert_eq!(code.lines().count(), text.lines().count());
    let file = File { name: "model/build.rs".into(), room: "model".into(), text: text.into(), code };
    let names: Vec<_> = imports(&file).into_iter().map(|(line, name)| format!("{line} {name}")).collect();
    assert_eq!(names, ["3 expr", "3 diag", "5 jit"]);
    assert_eq!(words(&file.code, ".unwrap()").map(|i| line_of(&file.code, i)).collect::<Vec<_>>(), [9]);
    for absent in ["panic!", "todo!", "unsafe", "report"] {
        assert_eq!(words(&file.code, absent).count(), 0, "{absent}");
    }
    assert_eq!(words("eprintln!(1); x.print!()", "print!").count(), 1);
    assert_eq!(codes("`P0203`, \"S0001\" XP0203 P02034").into_iter().map(|c| c.1).collect::<Vec<_>>(), ["P0203", "S0001"]);
}
