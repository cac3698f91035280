//! PEtab problems in archives: built here from an example problem, when the test runs; the program itself is run. What it says and what
//! it computes must be as with the folder.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXAMPLE: &str = "petab_problems/conversion";
const PETAB: &str = "http://identifiers.org/combine.specifications/petab.version-1";
const SBML: &str = "http://identifiers.org/combine.specifications/sbml.level-2.version-4";
const YAML: &str = "http://purl.org/NET/mediatypes/application/x-yaml";
const TSV: &str = "http://purl.org/NET/mediatypes/text/tab-separated-values";

type Entries = Vec<(String, Vec<u8>)>;

/// The example's files, in the folder `below` of the archive.
fn example(below: &str) -> Entries {
    let mut files: Vec<PathBuf> = std::fs::read_dir(EXAMPLE).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    let name = |path: &Path| format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// One of the example's files with another text.
fn with(mut entries: Entries, name: &str, change: impl Fn(&str) -> String) -> Entries {
    let entry = entries.iter_mut().find(|e| e.0 == name).unwrap();
    entry.1 = change(std::str::from_utf8(&entry.1).unwrap()).into_bytes();
    entries
}

fn and(mut entries: Entries, name: &str, text: &str) -> Entries {
    entries.push((name.to_owned(), text.as_bytes().to_vec()));
    entries
}

/// A manifest of a COMBINE archive: location, format, whether it is the master.
fn manifest(contents: &[(&str, &str, bool)]) -> String {
    let lines: String = contents.iter().map(|(l, f, m)| format!("<content location=\"{l}\" format=\"{f}\" master=\"{m}\"/>\n")).collect();
    format!("<omexManifest xmlns='http://identifiers.org/combine.specifications/omex-manifest'>\n{lines}</omexManifest>")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn archive(&self, name: &str, entries: &Entries) -> PathBuf {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        let path = self.0.path().join(name);
        std::fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
        path
    }
}

fn mixode(command: &str, path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).arg(command).arg(path).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `evaluate` gives for a path, without times.
fn evaluated(path: &Path, more: &[&str]) -> serde_json::Value {
    let output = mixode("evaluate", path, &[&["--gradient", "forward"], more].concat());
    assert!(output.status.success(), "{}: {}", path.display(), text(&output.stderr));
    let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value.as_object_mut().unwrap().remove("timings");
    value
}

/// The archive gives what the folder gives.
fn accepted(path: &Path, more: &[&str]) {
    assert_eq!(evaluated(path, more), evaluated(Path::new(EXAMPLE), &[]), "{}", path.display());
}

/// The messages of every command that takes a problem, which must agree; `check` and `simulate` take models as well.
fn refused(path: &Path, status: i32, more: &[&str]) -> String {
    let messages = ["evaluate", "describe", "gradient-check", "check", "simulate"].map(|command| {
        let output = mixode(command, path, more);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{command}: {message}");
        message
    });
    for message in &messages {
        assert!(*message == messages[0] && !message.contains("panicked"), "{message}");
    }
    messages[0].clone()
}

#[test]
fn an_archive_gives_what_its_folder_gives() {
    let folder = Folder::new();
    accepted(&folder.archive("plain.zip", &example("")), &[]);
    accepted(&folder.archive("below.zip", &and(example("a folder/"), "notes.yaml", "just: notes\n")), &[]);
    // What an archive is, its content tells.
    accepted(&folder.archive("archive.dat", &example("")), &[]);
    let archive = folder.archive("plain.omex", &example(""));
    for command in ["simulate", "describe", "check"] {
        let ours = mixode(command, &archive, &[]);
        assert!(ours.status.success(), "{command}: {}", text(&ours.stderr));
        let theirs = mixode(command, Path::new(EXAMPLE), &[]);
        assert_eq!(ours.stdout.len() > 20, theirs.stdout.len() > 20);
        if command == "simulate" {
            assert_eq!(text(&ours.stdout), text(&theirs.stdout));
        }
    }
}

#[test]
fn the_manifest_says_which_problem_is_meant() {
    let folder = Folder::new();
    let other = |text: &str| text.replace("measurements.tsv", "other.tsv");
    let two = |master: &[(&str, &str, bool)]| {
        let entries = with(example(""), "problem.yaml", other);
        let right = std::fs::read_to_string(Path::new(EXAMPLE).join("problem.yaml")).unwrap();
        and(and(entries, "right.yaml", &right), "manifest.xml", &manifest(master))
    };
    let master = [("./problem.yaml", PETAB, false), ("./right.yaml", PETAB, true), ("./model.xml", SBML, false)];
    accepted(&folder.archive("master.omex", &two(&master)), &[]);
    let master = [("right.yaml", YAML, true), ("model.xml", SBML, false)];
    accepted(&folder.archive("yaml.omex", &two(&master)), &[]);
    let only = [("./right.yaml", PETAB, false), ("./problem.yaml", YAML, false), ("./model.xml", SBML, false)];
    accepted(&folder.archive("only.omex", &two(&only)), &[]);
    let tables = [("./right.yaml", PETAB, false), ("./measurements.tsv", PETAB, false), ("./parameters.tsv", TSV, false)];
    accepted(&folder.archive("tables.omex", &two(&tables)), &[]);
    // Nothing is marked: problem.yaml it is.
    let message = refused(&folder.archive("unmarked.omex", &two(&[])), 1, &[]);
    assert!(message.contains("P0002") && message.contains("other.tsv"), "{message}");
    accepted(&folder.archive("chosen.omex", &two(&[])), &["--entry", "./right.yaml"]);
    let message = refused(&folder.archive("gone.omex", &two(&[("./gone.yaml", PETAB, true)])), 1, &["--entry", "wright.yaml"]);
    assert!(message.contains("F0006") && message.contains("did you mean `right.yaml`?"), "{message}");
    let gone = mixode("evaluate", &folder.archive("gone.omex", &two(&[("./gone.yaml", PETAB, true)])), &[]);
    assert!(text(&gone.stderr).contains("its manifest lists `./gone.yaml`"), "{}", text(&gone.stderr));
}

#[test]
fn several_problems_are_listed() {
    let folder = Folder::new();
    let archive = folder.archive("two.omex", &[example("a/"), example("b/")].concat());
    let message = refused(&archive, 1, &[]);
    for part in ["P0003", "two.omex has 2 problem files", "`a/problem.yaml`, `b/problem.yaml`", "--entry 'a/problem.yaml'"] {
        assert!(message.contains(part), "{message}");
    }
    accepted(&archive, &["--entry", "b/problem.yaml"]);
    // An archive of a model is none of a problem.
    let model = folder.archive("model.zip", &example("").into_iter().filter(|e| e.0.ends_with(".xml")).collect());
    assert!(mixode("check", &model, &[]).status.success());
    let message = text(&mixode("evaluate", &model, &[]).stderr);
    assert!(message.contains("P0003") && message.contains("it holds `model.xml`"), "{message}");
    // The master says what an archive is about.
    let about = manifest(&[("model.xml", SBML, true), ("problem.yaml", PETAB, false)]);
    let about = folder.archive("about.omex", &and(example(""), "manifest.xml", &about));
    assert!(text(&mixode("check", &about, &[]).stdout).contains("SBML L"));
    accepted(&about, &[]);
    let message = text(&mixode("evaluate", Path::new(EXAMPLE), &["--entry", "problem.yaml"]).stderr);
    assert!(message.contains("F0006") && message.contains("not an archive"), "{message}");
}

#[test]
fn nothing_outside_an_archive_is_read() {
    let folder = Folder::new();
    std::fs::copy(Path::new(EXAMPLE).join("measurements.tsv"), folder.0.path().join("measurements.tsv")).unwrap();
    let absolute = folder.0.path().join("measurements.tsv").display().to_string();
    let up = "../../measurements.tsv".to_owned();
    for outside in [up, absolute, "https://example.org/measurements.tsv".to_owned()] {
        let entries = with(example("p/"), "p/problem.yaml", |text| text.replace("measurements.tsv", &outside));
        let entries: Entries = entries.into_iter().filter(|e| e.0 != "p/measurements.tsv").collect();
        let message = refused(&folder.archive("x.omex", &entries), 1, &[]);
        assert!(message.contains("P0002") && message.contains("outside the archive"), "{outside}: {message}");
        assert!(message.contains("x.omex/p/problem.yaml:"), "{message}");
    }
    // A model's own references lead nowhere either.
    let model = "<sbml xmlns='http://www.sbml.org/sbml/level3/version1/core' xmlns:comp='http://www.sbml.org/sbml/level3/version1/comp/version1' level='3' version='1' comp:required='true'><model id='m'/><comp:listOfExternalModelDefinitions><comp:externalModelDefinition comp:id='e' comp:source='../outside.xml'/></comp:listOfExternalModelDefinitions></sbml>";
    std::fs::write(folder.0.path().join("outside.xml"), model.replace("../outside.xml", "gone.xml")).unwrap();
    let message = text(&mixode("check", &folder.archive("m.omex", &and(Vec::new(), "m.xml", model)), &[]).stderr);
    assert!(message.contains("S0303") && message.contains("in an archive") && !message.contains("gone.xml"), "{message}");
    // Detours that stay inside are none.
    let entries = with(example("p/"), "p/problem.yaml", |text| text.replace("measurements.tsv", "../p/./measurements.tsv"));
    accepted(&folder.archive("inside.omex", &entries), &[]);
}

#[test]
fn messages_name_the_file_in_the_archive() {
    let folder = Folder::new();
    let entries = with(example("dir/"), "dir/measurements.tsv", |text| text.replacen("\t0", "\tzero", 1));
    let message = refused(&folder.archive("x.omex", &entries), 1, &[]);
    assert!(message.contains("P0105") && message.contains("x.omex/dir/measurements.tsv:2:"), "{message}");
    let entries = with(example("dir/"), "dir/problem.yaml", |text| text.replace("measurements.tsv", "measurement.tsv"));
    let message = refused(&folder.archive("y.omex", &entries), 1, &[]);
    assert!(message.contains("y.omex/dir/measurement.tsv: there is no such file"), "{message}");
    assert!(message.contains("did you mean `measurements.tsv`?"), "{message}");
    // Broken archives.
    let whole = std::fs::read(folder.archive("z.omex", &example(""))).unwrap();
    let cut = folder.0.path().join("cut.omex");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(&cut, 1, &[]).contains("F0002"));
    assert!(text(&mixode("evaluate", &folder.archive("empty.omex", &Vec::new()), &[]).stderr).contains("it holds nothing"));
    refused(&folder.0.path().join("missing.yaml"), 5, &[]);
}

#[test]
fn a_fit_of_an_archive_names_and_hashes_what_was_read() {
    let folder = Folder::new();
    let archive = folder.archive("x.omex", &example("dir/"));
    let out = folder.0.path().join("run");
    let fit = mixode("fit", &archive, &["--starts", "1", "--quiet", "--no-uncertainty", "-o", out.to_str().unwrap()]);
    assert!(fit.status.success(), "{}", text(&fit.stderr));
    let run: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(out.join("run.json")).unwrap()).unwrap();
    let inputs = text(&serde_json::to_vec(&run["inputs"]).unwrap());
    let sha = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let measurements = sha(&std::fs::read(Path::new(EXAMPLE).join("measurements.tsv")).unwrap());
    for part in ["x.omex/dir/problem.yaml", "x.omex/dir/model.xml", &measurements, &sha(&std::fs::read(&archive).unwrap())] {
        assert!(inputs.contains(part), "{part}: {inputs}");
    }
    // The archive is as it was, and nothing else lies beside it.
    let mut beside: Vec<_> = std::fs::read_dir(folder.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["run", "x.omex"]);
}
