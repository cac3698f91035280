//! From a path to the text of an SBML model: plain, compressed with gzip, in a zip file or in a COMBINE archive.
//!
//! Of an archive the model is the SBML entry that the manifest marks as master, else its only SBML entry; where there are several, the
//! user must name one. Text may have any encoding that it declares. Codes are listed in `mod.rs`.

use crate::archive::{self, Archive, Content, LARGEST, listed};
use crate::diag::{Diagnostic, Source};
use std::path::Path;

/// Bytes of an archive's entry that are looked at to see whether it is SBML. Comments before the root element are rarely longer.
const HEAD: u64 = 1 << 16;

/// Reads the model in the file `path`; `entry` is the name of the wanted model in an archive.
///
/// # Errors
/// One diagnostic: the file is missing, broken or too large, or the model in it is not there or not clear.
pub fn read(path: &Path, entry: Option<&str>) -> Result<Source, Box<Diagnostic>> {
    let name = path.display().to_string();
    match (archive::unpack(&name, archive::read(path)?, LARGEST)?, entry) {
        (Content::Archive(mut archive), _) => {
            let chosen = match entry {
                Some(entry) => archive.wanted(entry)?.to_owned(),
                None => choose(&mut archive)?,
            };
            archive::decode(&format!("{name}/{chosen}"), &archive.read(&chosen)?)
        }
        (Content::Plain(_), Some(entry)) => Err(archive::not_an_archive(&name, entry).into()),
        (Content::Plain(bytes), None) => archive::decode(&name, &bytes),
    }
}

/// Name of the entry that holds the model.
fn choose(archive: &mut Archive) -> Result<String, Box<Diagnostic>> {
    let mut models = archive.manifest()?;
    models.retain(|m| m.format.contains("sbml"));
    if let Some(master) = models.iter().find(|m| m.master) {
        models = vec![master.clone()];
    }
    let mut names = models.iter().map(|m| archive.file_of(m)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        for file in archive.files().to_vec() {
            if is_sbml(&archive.head(&file, HEAD)?) {
                names.push(file);
            }
        }
    }
    let name = archive.name();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Diagnostic::error("F0004", format!("the archive `{name}` holds no SBML model"))
            .help(format!("it holds {}", listed(archive.files())))
            .into()),
        [first, ..] => Err(Diagnostic::error("F0005", format!("the archive `{name}` holds {} SBML models", names.len()))
            .help(format!("they are {}", listed(&names)))
            .help(format!("choose one, as with --entry '{first}'"))
            .into()),
    }
}

/// Whether the root element of an entry, whose first bytes these are, is `sbml`.
fn is_sbml(head: &[u8]) -> bool {
    root_element(&archive::beginning(head)).is_some_and(|root| root.rsplit(':').next() == Some("sbml"))
}

/// Name of the first element of an XML document, of which only the beginning may be there.
fn root_element(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    loop {
        let end = match rest {
            _ if rest.starts_with("<?") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ if rest.starts_with("<!") => ">",
            _ => break,
        };
        rest = rest.split_once(end)?.1.trim_start();
    }
    rest.strip_prefix('<')?.split(|c: char| c.is_whitespace() || c == '>' || c == '/').next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_element_is_found() {
        assert_eq!(root_element("<?xml version='1.0'?>\n<!-- <a> --><!DOCTYPE x>\n<sbml:sbml a='1'>"), Some("sbml:sbml"));
        assert_eq!(root_element("<sbml/>"), Some("sbml"));
        assert_eq!(root_element("<!-- no end"), None);
        assert_eq!(root_element("text"), None);
        assert_eq!(root_element(""), None);
    }
}
