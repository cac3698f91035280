//! Forms in which an SBML model may come: plain, gzip, zip, COMBINE archive, encodings. Archives are built here, when the test runs;
//! the program itself is run where the exit status counts.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MODEL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">
  <model id="decay">
    <listOfParameters><parameter id="x" value="2" constant="false"/></listOfParameters>
    <listOfRules><rateRule variable="x"><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><minus/><ci>x</ci></apply></math></rateRule></listOfRules>
  </model>
</sbml>
"#;

const SBML: &str = "http://identifiers.org/combine.specifications/sbml.level-3.version-1";
const SEDML: &str = "http://identifiers.org/combine.specifications/sed-ml.level-1.version-4";

fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A manifest of a COMBINE archive: location, format, whether it is the master.
fn manifest(contents: &[(&str, &str, bool)]) -> String {
    let lines: String = contents.iter().map(|(l, f, m)| format!("<content location=\"{l}\" format=\"{f}\" master=\"{m}\"/>\n")).collect();
    format!(
        "<?xml version='1.0' encoding='utf-8'?>\n<omexManifest xmlns='http://identifiers.org/combine.specifications/omex-manifest'>\n<content location='.' format='http://identifiers.org/combine.specifications/omex'/>\n{lines}</omexManifest>"
    )
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn mixode(command: &str, path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).arg(command).arg(path).args(more).output().unwrap()
}

/// Runs `check` and `simulate`, which must agree; gives the message.
fn refused(path: &Path, status: i32, more: &[&str]) -> String {
    let check = mixode("check", path, more);
    let simulate = mixode("simulate", path, more);
    let message = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(status), "{message}");
    assert_eq!(simulate.status.code(), Some(status), "{message}");
    assert!(check.stdout.is_empty() && simulate.stdout.is_empty());
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn accepted(path: &Path, more: &[&str]) {
    let plain = Folder::new();
    let plain = mixode("simulate", &plain.file("plain.xml", MODEL.as_bytes()), &["--variables", "x", "--steps", "3"]);
    let ours = mixode("simulate", path, &[&["--variables", "x", "--steps", "3"], more].concat());
    assert!(ours.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&ours.stderr));
    assert_eq!(ours.stdout, plain.stdout);
    assert!(mixode("check", path, more).status.success());
}

#[test]
fn compressed_models_are_told_by_their_content() {
    let folder = Folder::new();
    accepted(&folder.file("model.xml.gz", &gzipped(MODEL)), &[]);
    accepted(&folder.file("model.sbml", &gzipped(MODEL)), &[]);
    accepted(&folder.file("model.dat", MODEL.as_bytes()), &[]);
    accepted(&folder.file("model.zip", &zipped(&[("folder/model.xml", MODEL), ("readme.txt", "the model is in <sbml>")])), &[]);
    let marked = [b"\xef\xbb\xbf", MODEL.as_bytes()].concat();
    accepted(&folder.file("marked.xml", &marked), &[]);
    let utf16: Vec<u8> =
        [0xfe, 0xff].into_iter().chain(MODEL.replace("UTF-8", "UTF-16").encode_utf16().flat_map(u16::to_be_bytes)).collect();
    accepted(&folder.file("utf16.xml", &utf16), &[]);
    let latin = MODEL.replace("UTF-8", "ISO-8859-1").replace("id=\"decay\"", "id=\"decay\" name=\"d\u{e9}cay\"");
    accepted(&folder.file("latin.xml", &latin.chars().map(|c| c as u8).collect::<Vec<_>>()), &[]);
}

#[test]
fn combine_archives_give_their_model() {
    let folder = Folder::new();
    let other = MODEL.replace("\"2\"", "\"3\"");
    // The master is SBML.
    let list = manifest(&[("./a.xml", SBML, false), ("./b.xml", SBML, true)]);
    accepted(&folder.file("master.omex", &zipped(&[("manifest.xml", &list), ("a.xml", &other), ("b.xml", MODEL)])), &[]);
    // The master is a simulation experiment.
    let list = manifest(&[("./run.sedml", SEDML, true), ("./b.xml", SBML, false)]);
    let experiment = zipped(&[("manifest.xml", &list), ("run.sedml", "<sedML/>"), ("b.xml", MODEL), ("unlisted.xml", &other)]);
    accepted(&folder.file("experiment.omex", &experiment), &[]);
    // Formats that say nothing: the content does.
    let list = manifest(&[("b.xml", "application/xml", false)]);
    accepted(&folder.file("vague.omex", &zipped(&[("manifest.xml", &list), ("b.xml", MODEL)])), &[]);
    // Several models: the user chooses.
    let list = manifest(&[("./a.xml", SBML, false), ("./sub/b.xml", SBML, false)]);
    let several = folder.file("several.omex", &zipped(&[("manifest.xml", &list), ("a.xml", &other), ("sub/b.xml", MODEL)]));
    accepted(&several, &["--entry", "sub/b.xml"]);
    accepted(&several, &["--entry", "./sub/b.xml"]);
    let message = refused(&several, 1, &[]);
    for part in ["F0005", "`a.xml`, `sub/b.xml`", "--entry"] {
        assert!(message.contains(part), "{message}");
    }
    let message = refused(&several, 1, &["--entry", "sub/c.xml"]);
    assert!(message.contains("F0006") && message.contains("did you mean `sub/b.xml`?"), "{message}");
}

#[test]
fn archives_without_a_model_are_refused() {
    let folder = Folder::new();
    let message = refused(&folder.file("text.zip", &zipped(&[("notes.txt", "nothing"), ("data.csv", "1,2")])), 1, &[]);
    assert!(message.contains("F0004") && message.contains("`data.csv`, `notes.txt`"), "{message}");
    assert!(refused(&folder.file("empty.zip", &zipped(&[])), 1, &[]).contains("F0004"));
    let list = manifest(&[("./gone.xml", SBML, true)]);
    assert!(refused(&folder.file("gone.omex", &zipped(&[("manifest.xml", &list), ("a.xml", MODEL)])), 1, &[]).contains("gone.xml"));
    assert!(refused(&folder.file("manifest.omex", &zipped(&[("manifest.xml", "<omex"), ("a.xml", MODEL)])), 1, &[]).contains("F0002"));
    assert!(refused(&folder.file("model.xml", MODEL.as_bytes()), 1, &["--entry", "model.xml"]).contains("not an archive"));
}

#[test]
fn broken_files_are_refused() {
    let folder = Folder::new();
    let (zip, gz) = (zipped(&[("model.xml", MODEL)]), gzipped(MODEL));
    for (i, length) in [5, 30, zip.len() / 2, zip.len() - 3].into_iter().enumerate() {
        assert!(refused(&folder.file(&format!("{i}.zip"), &zip[..length]), 1, &[]).contains("F0002"));
    }
    for (i, length) in [3, gz.len() / 2, gz.len() - 3].into_iter().enumerate() {
        assert!(refused(&folder.file(&format!("{i}.xml.gz"), &gz[..length]), 1, &[]).contains("F0002"));
    }
    // A byte of the compressed text is wrong.
    let mut wrong = zip;
    wrong[60] ^= 0x55;
    let message = refused(&folder.file("wrong.zip", &wrong), 1, &[]);
    assert!(message.contains("F0002"), "{message}");
    refused(&folder.file("empty.xml", b""), 1, &[]);
    let message = refused(&folder.file("latin.xml", b"<?xml version='1.0'?>\n<sbml name='\xe9'/>"), 1, &[]);
    assert!(message.contains("F0007") && message.contains(":2:13"), "{message}");
}

#[test]
fn missing_files_have_their_own_status() {
    let folder = Folder::new();
    let message = refused(&folder.0.path().join("missing.xml"), 5, &[]);
    assert!(message.contains("F0001") && message.contains("missing.xml"), "{message}");
    refused(&folder.0.path().join("missing.yaml"), 5, &[]);
    refused(&folder.0.path().join("missing"), 5, &[]);
}
