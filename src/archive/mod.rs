//! Files as they come: plain, compressed with gzip, or many in a zip file or a COMBINE archive.
//!
//! What a file is, its first bytes tell, not its name. Which entry of an archive is wanted, its readers decide: the command line for
//! models, the room `petab` for problems; the archive's manifest tells them the format of entries and which one is the master. Nothing
//! is written to disk, so entries are never more than names here, and what is unpacked has a limit. `text` turns bytes into text.
//!
//! | code | meaning |
//! | --- | --- |
//! | F0001 | a file cannot be read |
//! | F0002 | a compressed file or an archive is broken |
//! | F0003 | a file is too large after unpacking |
//! | F0006 | an archive has no entry of that name |
//! | F0007 | a text has another encoding than it says |

mod text;

pub use text::{beginning, decode};

use crate::diag::{Diagnostic, Source};
use flate2::read::MultiGzDecoder;
use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;
use zip::ZipArchive;

/// Largest number of bytes after unpacking, of a file or of all that is read from an archive. What is larger is a bomb rather than a
/// model or a problem.
pub const LARGEST: u64 = 1 << 30;

/// Names of entries shown in a message at most.
const NAMES: usize = 10;

/// A file's content.
#[derive(Debug)]
pub enum Content {
    /// Its bytes, decompressed.
    Plain(Vec<u8>),
    /// Further files.
    Archive(Archive),
}

/// A zip file or COMBINE archive.
#[derive(Debug)]
pub struct Archive {
    name: String,
    zip: ZipArchive<Cursor<Vec<u8>>>,
    files: Vec<String>,
    limit: u64,
    left: u64,
}

/// An entry that the manifest of a COMBINE archive lists.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Name in the archive.
    pub location: String,
    /// Format in small letters: the address of a specification or a media type.
    pub format: String,
    /// Whether the archive is about this entry.
    pub master: bool,
}

/// The bytes of a file.
///
/// # Errors
/// It cannot be read or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let name = path.display().to_string();
    let bytes = std::fs::File::open(path).and_then(|file| read_limited(file, LARGEST)).map_err(|error| {
        let help = if path.is_dir() { "this is a folder; name the file of the model in it" } else { "check the path" };
        Diagnostic::error("F0001", format!("cannot read `{name}`: {error}")).help(help)
    })?;
    bytes.ok_or_else(|| too_large(&name, LARGEST).into())
}

/// Whether a file begins as a zip file does.
pub fn is_zip(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4).read_to_end(&mut head));
    read.is_ok() && begins_as_zip(&head)
}

/// An empty zip file has only its end record.
fn begins_as_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

/// What the bytes of the file `name` hold; no more than `limit` bytes are unpacked.
///
/// # Errors
/// The file is broken or too large.
pub fn unpack(name: &str, bytes: Vec<u8>, limit: u64) -> Result<Content, Box<Diagnostic>> {
    let unzipped = if bytes.starts_with(&[0x1f, 0x8b]) {
        let unzipped = read_limited(MultiGzDecoder::new(bytes.as_slice()), limit).map_err(|error| broken(name, error))?;
        unzipped.ok_or_else(|| too_large(name, limit))?
    } else {
        bytes
    };
    if !begins_as_zip(&unzipped) {
        return Ok(Content::Plain(unzipped));
    }
    let zip = ZipArchive::new(Cursor::new(unzipped)).map_err(|error| broken(name, error))?;
    // Entries whose names cannot be decoded could not be named either.
    let names = zip.file_names().filter_map(|name| name.ok().map(Cow::into_owned));
    let mut files: Vec<String> = names.filter(|n| !n.ends_with('/') && !n.starts_with("__MACOSX/")).collect();
    files.sort();
    Ok(Content::Archive(Archive { name: name.to_owned(), zip, files, limit, left: limit }))
}

impl Archive {
    /// Name of the archive's file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of all files in it, sorted.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// The file that a name means: `./` and `/` before it mean the archive's root.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|f| plain(f) == plain(name)).map(String::as_str)
    }

    /// The file that the user wants.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn wanted(&self, name: &str) -> Result<&str, Box<Diagnostic>> {
        self.find(name).ok_or_else(|| {
            no_entry(format!("the archive `{}` has no entry `{name}`", self.name))
                .suggest(name, self.files.iter().map(String::as_str))
                .help(format!("it holds {}", listed(&self.files)))
                .into()
        })
    }

    /// The bytes of an entry.
    ///
    /// # Errors
    /// The archive is broken, or the entry is too large together with what was read before.
    pub fn read(&mut self, entry: &str) -> Result<Vec<u8>, Box<Diagnostic>> {
        let inner = format!("{}/{entry}", self.name);
        let file = self.zip.by_name(entry).map_err(|error| broken(&inner, error))?;
        let bytes = read_limited(file, self.left).map_err(|error| broken(&inner, error))?;
        let bytes = bytes.ok_or_else(|| too_large(&inner, self.limit))?;
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }

    /// The first bytes of an entry, at most `length`.
    ///
    /// # Errors
    /// The archive is broken.
    pub fn head(&mut self, entry: &str, length: u64) -> Result<Vec<u8>, Box<Diagnostic>> {
        let inner = format!("{}/{entry}", self.name);
        let file = self.zip.by_name(entry).map_err(|error| broken(&inner, error))?;
        let mut head = Vec::new();
        file.take(length).read_to_end(&mut head).map_err(|error| broken(&inner, error))?;
        Ok(head)
    }

    /// What the manifest lists; nothing where there is no manifest.
    ///
    /// # Errors
    /// The manifest is broken.
    pub fn manifest(&mut self) -> Result<Vec<Listed>, Box<Diagnostic>> {
        let Some(entry) = self.find("manifest.xml").map(str::to_owned) else { return Ok(Vec::new()) };
        let inner = format!("{}/{entry}", self.name);
        let source: Source = decode(&inner, &self.read(&entry)?)?;
        let document = roxmltree::Document::parse(source.text()).map_err(|error| broken(&inner, error))?;
        let contents = document.root_element().children().filter(|n| n.tag_name().name() == "content");
        let listed = contents.filter_map(|n| {
            Some(Listed {
                location: n.attribute("location")?.to_owned(),
                format: n.attribute("format").unwrap_or("").to_ascii_lowercase(),
                master: matches!(n.attribute("master"), Some("true" | "1")),
            })
        });
        Ok(listed.collect())
    }

    /// The file of an entry of the manifest.
    ///
    /// # Errors
    /// It is not there.
    pub fn file_of(&self, listed: &Listed) -> Result<String, Box<Diagnostic>> {
        let found = self.find(&listed.location).map(str::to_owned);
        found.ok_or_else(|| broken(&self.name, format_args!("its manifest lists `{}`, which is not there", listed.location)).into())
    }
}

/// A file that is no archive was asked for an entry.
pub fn not_an_archive(name: &str, entry: &str) -> Diagnostic {
    no_entry(format!("`{name}` is not an archive, so there is no entry `{entry}` in it")).help("leave out --entry")
}

/// All bytes of a reader, or none if there are more than `limit`.
fn read_limited(reader: impl Read, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// A name in an archive without what means the archive's root.
fn plain(name: &str) -> &str {
    name.trim_start_matches("./").trim_start_matches('/')
}

/// Some names as a sentence has them.
pub fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().take(NAMES).map(|n| format!("`{n}`")).collect();
    let rest = names.len().saturating_sub(NAMES);
    match names.len() {
        0 => "nothing".to_owned(),
        _ if rest > 0 => format!("{} and {rest} more", quoted.join(", ")),
        _ => quoted.join(", "),
    }
}

fn too_large(name: &str, limit: u64) -> Diagnostic {
    Diagnostic::error("F0003", format!("`{name}` is larger than {} MiB after unpacking", limit >> 20))
        .help("nothing of that size can be read")
}

fn broken(name: &str, error: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("F0002", format!("`{name}` is broken: {error}")).help("get the file again, or unpack it and give what is in it")
}

fn no_entry(message: String) -> Diagnostic {
    Diagnostic::error("F0006", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    const LIMIT: u64 = 1 << 20;

    fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn archive(bytes: &[u8], limit: u64) -> Archive {
        match unpack("a.zip", bytes.to_vec(), limit).unwrap() {
            Content::Archive(archive) => archive,
            Content::Plain(_) => unreachable!(),
        }
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let zeros = vec![b' '; LIMIT as usize + 1];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&zeros).unwrap();
        assert_eq!(unpack("a.gz", encoder.finish().unwrap(), LIMIT).unwrap_err().code, "F0003");
        let bytes = zipped(&[("model.xml", &zeros), ("small.tsv", b"a")]);
        assert_eq!(archive(&bytes, LIMIT).read("model.xml").unwrap_err().code, "F0003");
        // All that is read counts.
        let mut archive = archive(&bytes, LIMIT + 1);
        assert!(archive.read("model.xml").is_ok());
        assert_eq!(archive.read("small.tsv").unwrap_err().code, "F0003");
    }
}
