//! The files of a hierarchical model: those that external model definitions name, found from one file to the next.

use super::comp::COMP;
use super::read::malformed;
use crate::diag::{Diagnostic, Diagnostics, Source};
use rustc_hash::FxHashMap;
use std::path::{Component, Path, PathBuf};

/// Most files of one model. A loader that makes up files could go on for ever.
const MAX_FILES: usize = 1000;

/// Gets the file that a file refers to: the referring file, and the reference as it stands there. The error says why not.
pub type Load<'l> = &'l dyn Fn(&Source, &str) -> Result<Source, String>;

/// Reads a file whose place is given relative to the referring file. Nothing else is looked up, and nothing over a network.
pub fn beside(referring: &Source, reference: &str) -> Result<Source, String> {
    let relative = reference.strip_prefix("file:").unwrap_or(reference);
    if relative.contains(':') || relative.starts_with(['/', '\\']) {
        return Err("only files given relative to the model are read".to_owned());
    }
    let folder = Path::new(referring.name()).parent().unwrap_or_else(|| Path::new(""));
    // A file in an archive is named as if the archive were a folder. Detours must not lead out of it.
    if folder.ancestors().any(Path::is_file) {
        return Err("a model in an archive cannot refer to other files yet".to_owned());
    }
    let path = without_detours(&folder.join(relative));
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    Ok(Source::new(path.display().to_string(), text))
}

/// A path without `.` and `a/..`, so that a file has one name however files refer to it.
fn without_detours(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// A file, and which file each of its references means.
pub(super) struct File {
    pub(super) source: Source,
    /// Index of the file by the text of the attribute `source`.
    pub(super) references: FxHashMap<String, usize>,
}

/// The file and all files that it needs, itself first. Files that cannot be had are reported.
pub(super) fn gather(main: &Source, load: Load<'_>, diagnostics: &mut Diagnostics) -> Vec<File> {
    let mut files = vec![File { source: main.clone(), references: FxHashMap::default() }];
    let mut next = 0;
    while next < files.len() {
        let source = files[next].source.clone();
        match roxmltree::Document::parse(source.text()) {
            Ok(document) => {
                for attribute in references(&document) {
                    let reference = attribute.value().trim();
                    let found = load(&source, reference).and_then(|found| match files.len() {
                        MAX_FILES => Err(format!("the model has more than {MAX_FILES} files")),
                        _ => Ok(found),
                    });
                    match found {
                        Ok(found) => {
                            let known = files.iter().position(|file| file.source.name() == found.name());
                            let index = known.unwrap_or(files.len());
                            if known.is_none() {
                                files.push(File { source: found, references: FxHashMap::default() });
                            }
                            files[next].references.insert(reference.to_owned(), index);
                        }
                        Err(reason) => diagnostics.push(
                            Diagnostic::error("S0303", format!("the file `{reference}` of an external model definition cannot be read"))
                                .at(&source.span(attribute.range_value()), reason),
                        ),
                    }
                }
            }
            Err(error) => malformed(&source, diagnostics, &error),
        }
        next += 1;
    }
    files
}

/// The attributes that name files.
fn references<'a>(document: &'a roxmltree::Document<'a>) -> impl Iterator<Item = roxmltree::Attribute<'a, 'a>> {
    let definitions = document.descendants().filter(|n| n.has_tag_name((COMP, "externalModelDefinition")));
    definitions.filter_map(|n| n.attributes().find(|a| a.name() == "source" && matches!(a.namespace(), None | Some(COMP))))
}
