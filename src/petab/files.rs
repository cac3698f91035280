//! Where the files of a problem come from: a folder, or a zip file or COMBINE archive that holds them all.

use super::problem_file::FileName;
use crate::archive::{self, Archive, Content, LARGEST, listed};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use sha2::Digest;
use std::path::{Path, PathBuf};

/// Bytes of a YAML file in an archive that are looked at to see whether it is a problem file.
const HEAD: u64 = 1 << 16;

/// A file that was read.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// Its path, of a file in an archive behind the archive's.
    pub path: PathBuf,
    /// SHA-256 of the bytes that were read, in hexadecimal digits.
    pub sha256: String,
    /// Its text; an archive has none.
    pub source: Option<Source>,
    /// Where the problem file names it.
    pub named: Vec<Span>,
}

/// The files of a problem, as they are read.
#[derive(Debug)]
pub struct Files {
    /// Path of the problem file.
    pub problem: PathBuf,
    /// What was read so far.
    pub read: Vec<InputFile>,
    /// The archive, and the problem file in it.
    archive: Option<(Archive, String)>,
}

/// Why a file cannot be had: a reason in words and the names beside it, or a message of its own.
enum Failure {
    Absent { reason: String, beside: Vec<String> },
    Archive(Box<Diagnostic>),
}

/// Whether a path means a PEtab problem: a folder, a YAML file, or an archive that holds a problem and is not marked as one about a
/// model. `entry` is what is wanted of an archive. Everything else is taken for SBML.
pub fn is_problem(path: &Path, entry: Option<&str>) -> bool {
    if path.is_dir() || is_yaml(path) {
        return true;
    }
    if !archive::is_zip(path) {
        return false;
    }
    if let Some(entry) = entry {
        return is_yaml(Path::new(entry));
    }
    let open = || match archive::unpack("", archive::read(path)?, LARGEST)? {
        Content::Archive(mut archive) => {
            let about_model = archive.manifest()?.iter().any(|e| e.master && e.format.contains("sbml"));
            Ok::<bool, Box<Diagnostic>>(!about_model && !candidates(&mut archive)?.is_empty())
        }
        Content::Plain(_) => Ok(false),
    };
    // What is wrong with the archive its reader will say.
    open().unwrap_or(false)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"))
}

/// The problem files of an archive, one if it is clear which is meant: the one that the manifest marks as master, else those that it
/// lists as PEtab, else `problem.yaml` at the top, else all YAML files that have a format version.
fn candidates(archive: &mut Archive) -> Result<Vec<String>, Box<Diagnostic>> {
    let mut entries = archive.manifest()?;
    entries.retain(|e| e.format.contains("petab") || (e.master && is_yaml(Path::new(&e.location))));
    if let Some(master) = entries.iter().find(|e| e.master) {
        return Ok(vec![archive.file_of(master)?]);
    }
    let mut problems = entries.iter().map(|e| archive.file_of(e)).collect::<Result<Vec<_>, _>>()?;
    if problems.len() > 1 {
        // Tables may be listed as parts of a PEtab problem as well.
        problems.retain(|name| is_yaml(Path::new(name)));
    }
    if problems.is_empty() {
        problems.extend(archive.find("problem.yaml").map(str::to_owned));
    }
    if problems.is_empty() {
        for name in archive.files().to_vec() {
            if is_yaml(Path::new(&name)) && archive::beginning(&archive.head(&name, HEAD)?).contains("format_version") {
                problems.push(name);
            }
        }
    }
    Ok(problems)
}

impl Files {
    /// Finds the problem file: `path` itself, or the one in the folder or archive, where `entry` may name it.
    pub fn find(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Files> {
        match Files::look(path, entry) {
            Ok(files) => Some(files),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                None
            }
        }
    }

    fn look(path: &Path, entry: Option<&str>) -> Result<Files, Box<Diagnostic>> {
        let name = path.display().to_string();
        if !is_yaml(path) && archive::is_zip(path) {
            let bytes = archive::read(path)?;
            let sha256 = sha256(&bytes);
            if let Content::Archive(mut archive) = archive::unpack(&name, bytes, LARGEST)? {
                let chosen = match entry {
                    Some(entry) => archive.wanted(entry)?.to_owned(),
                    None => only(&format!("archive {name}"), candidates(&mut archive)?, archive.files())?,
                };
                let read = vec![InputFile { path: path.to_path_buf(), sha256, source: None, named: Vec::new() }];
                return Ok(Files { problem: path.join(&chosen), read, archive: Some((archive, chosen)) });
            }
        }
        if let Some(entry) = entry {
            return Err(archive::not_an_archive(&name, entry).into());
        }
        let problem = if path.is_dir() { in_folder(path)? } else { path.to_path_buf() };
        Ok(Files { problem, read: Vec::new(), archive: None })
    }

    /// The problem file's text.
    pub fn problem_file(&mut self, diagnostics: &mut Diagnostics) -> Option<Source> {
        let path = self.problem.clone();
        let bytes = match &mut self.archive {
            Some((archive, entry)) => archive.read(entry).map_err(Failure::Archive),
            None => on_disk(&path),
        };
        self.text(&path, bytes, None, diagnostics)
    }

    /// The text of a file that the problem file names.
    pub fn named(&mut self, name: &FileName, diagnostics: &mut Diagnostics) -> Option<Source> {
        let mut path = self.problem.parent().unwrap_or(Path::new("")).join(&name.name);
        let bytes = match &mut self.archive {
            None => on_disk(&path),
            Some((archive, problem)) => match inside(problem, &name.name) {
                None => Err(Failure::Absent { reason: "it lies outside the archive".to_string(), beside: Vec::new() }),
                Some(entry) => {
                    path = Path::new(archive.name()).join(&entry);
                    match archive.find(&entry).map(str::to_owned) {
                        Some(entry) => archive.read(&entry).map_err(Failure::Archive),
                        None => {
                            let folder = &entry[..entry.rfind('/').map_or(0, |i| i + 1)];
                            let beside = archive.files().iter().filter_map(|f| f.strip_prefix(folder)).map(str::to_owned).collect();
                            Err(Failure::Absent { reason: "there is no such file".to_string(), beside })
                        }
                    }
                }
            },
        };
        self.text(&path, bytes, Some(&name.span), diagnostics)
    }

    /// The bytes of a file as UTF-8 without byte order mark; the file is noted. `named` is where its name stands.
    fn text(
        &mut self,
        path: &Path,
        bytes: Result<Vec<u8>, Failure>,
        named: Option<&Span>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Source> {
        let name = path.display().to_string();
        let at = |diagnostic: Diagnostic| match named {
            Some(span) => diagnostic.at(span, "named here"),
            None => diagnostic,
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(Failure::Archive(diagnostic)) => {
                diagnostics.push(at(*diagnostic));
                return None;
            }
            Err(Failure::Absent { reason, beside }) => {
                let mut diagnostic = at(Diagnostic::error("P0002", format!("cannot read {name}: {reason}")));
                if name.contains("://") {
                    diagnostic = diagnostic.help("files are not fetched from the network; download it and name the copy");
                } else if let Some(wanted) = path.file_name().and_then(|n| n.to_str()) {
                    diagnostic = diagnostic.suggest(wanted, beside.iter().map(String::as_str));
                }
                diagnostics.push(diagnostic);
                return None;
            }
        };
        let known = self.read.iter().position(|f| f.path == path).unwrap_or_else(|| {
            self.read.push(InputFile { path: path.to_path_buf(), sha256: sha256(&bytes), source: None, named: Vec::new() });
            self.read.len() - 1
        });
        self.read[known].named.extend(named.cloned());
        match String::from_utf8(bytes) {
            Ok(text) => {
                let source = Source::new(name, text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text));
                self.read[known].source = Some(source.clone());
                Some(source)
            }
            Err(error) => {
                let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
                let message = format!("{name} is not UTF-8: line {line} has a byte that belongs to another encoding");
                diagnostics.push(at(Diagnostic::error("P0110", message)).help("save the file as UTF-8"));
                None
            }
        }
    }

    /// A name for the problem: the problem file's without its ending, or if that is `problem`, the folder's or the archive's.
    pub fn name(&self) -> String {
        let stem = |path: &Path| path.file_stem().and_then(|s| s.to_str()).map(str::to_string);
        let own = stem(&self.problem).unwrap_or_else(|| "problem".to_string());
        if own != "problem" {
            return own;
        }
        let absolute = std::path::absolute(&self.problem).ok();
        let folder = absolute.as_deref().and_then(Path::parent);
        let name = match &self.archive {
            Some((_, entry)) if !entry.contains('/') => folder.and_then(stem),
            _ => folder.and_then(Path::file_name).and_then(|n| n.to_str()).map(str::to_string),
        };
        name.unwrap_or(own)
    }
}

/// The problem file of a folder: `problem.yaml`, else the only YAML file.
fn in_folder(path: &Path) -> Result<PathBuf, Box<Diagnostic>> {
    let usual = path.join("problem.yaml");
    if usual.is_file() {
        return Ok(usual);
    }
    let entries = std::fs::read_dir(path).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_else(|_| Vec::new());
    let mut files: Vec<String> = entries.iter().filter(|p| is_yaml(p)).map(|p| p.display().to_string()).collect();
    files.sort();
    only(&format!("folder {}", path.display()), files, &[]).map(PathBuf::from)
}

/// The only problem file. `place` is the folder or archive, `others` what an archive holds.
fn only(place: &str, mut files: Vec<String>, others: &[String]) -> Result<String, Box<Diagnostic>> {
    if files.len() == 1
        && let Some(file) = files.pop()
    {
        return Ok(file);
    }
    let archive = place.starts_with("archive");
    let message = match files.len() {
        0 => format!("the {place} has no problem file"),
        count if archive => format!("the {place} has {count} problem files"),
        count => format!("the {place} has {count} YAML files and none is called problem.yaml"),
    };
    let help = match files.as_slice() {
        [] if archive => format!("expected problem.yaml or another YAML file with a format_version; it holds {}", listed(others)),
        [] => "expected problem.yaml, or one file that ends with .yaml".to_string(),
        [first, ..] if archive => format!("they are {}; choose one, as with --entry '{first}'", listed(&files)),
        _ => format!("name one of them: {}", files.join(", ")),
    };
    Err(Diagnostic::error("P0003", message).help(help).into())
}

/// The bytes of a file.
fn on_disk(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_string(),
            std::io::ErrorKind::PermissionDenied => "no permission".to_string(),
            _ if path.is_dir() => "it is a folder".to_string(),
            _ => error.to_string(),
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let mut beside: Vec<String> = entries.into_iter().filter_map(|e| e.file_name().into_string().ok()).collect();
        beside.sort();
        Failure::Absent { reason, beside }
    })
}

/// The entry that `name` means in the file `entry` of an archive; `None` where it leads out of the archive.
fn inside(entry: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = entry.split('/').collect();
    parts.pop();
    if name.starts_with(['/', '\\']) || name.contains(':') {
        return None;
    }
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_an_archive() {
        assert_eq!(inside("problem.yaml", "a.tsv").as_deref(), Some("a.tsv"));
        assert_eq!(inside("x/problem.yaml", "./y/../a.tsv").as_deref(), Some("x/a.tsv"));
        assert_eq!(inside("x/problem.yaml", "../a.tsv").as_deref(), Some("a.tsv"));
        for outside in ["../../a.tsv", "/a.tsv", "y/../../../x/a.tsv", "C:\\a.tsv", "https://example.org/a.tsv"] {
            assert_eq!(inside("x/problem.yaml", outside), None, "{outside}");
        }
    }
}
