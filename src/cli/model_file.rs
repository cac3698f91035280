//! From a path to the text of an SBML model: plain, compressed with gzip, in a zip file or in a COMBINE archive.
//!
//! What a file is, its first bytes tell, not its name. Of an archive the model is the SBML entry that the manifest marks as master,
//! else its only SBML entry; where there are several, the user must name one. Text may have any encoding that it declares.
//! Codes are listed in `mod.rs`.

use crate::diag::{Diagnostic, Source};
use flate2::read::MultiGzDecoder;
use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;
use zip::ZipArchive;

/// Largest model in bytes after unpacking. Larger ones are bombs rather than models.
const LARGEST: u64 = 1 << 30;

/// Bytes of an archive's entry that are looked at to see whether it is SBML. Comments before the root element are rarely longer.
const HEAD: u64 = 1 << 16;

/// Names of entries shown in a message at most.
const NAMES: usize = 10;

type Archive = ZipArchive<Cursor<Vec<u8>>>;

/// Whether a path given to a command means a PEtab problem: a folder or a YAML file. Everything else is taken for SBML.
pub fn is_problem(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"))
}

/// Reads the model in the file `path`; `entry` is the name of the wanted model in an archive.
///
/// # Errors
/// One diagnostic: the file is missing, broken or too large, or the model in it is not there or not clear.
pub fn read(path: &Path, entry: Option<&str>) -> Result<Source, Box<Diagnostic>> {
    let name = path.display().to_string();
    let bytes = std::fs::File::open(path).and_then(|file| read_limited(file, LARGEST)).map_err(|error| {
        let help = if path.is_dir() { "this is a folder; name the file of the model in it" } else { "check the path" };
        Diagnostic::error("F0001", format!("cannot read `{name}`: {error}")).help(help)
    })?;
    unpack(&name, bytes.ok_or_else(|| too_large(&name, LARGEST))?, entry, LARGEST)
}

/// The model in the bytes of a file.
fn unpack(name: &str, bytes: Vec<u8>, entry: Option<&str>, limit: u64) -> Result<Source, Box<Diagnostic>> {
    let unzipped = if bytes.starts_with(&[0x1f, 0x8b]) {
        let unzipped = read_limited(MultiGzDecoder::new(bytes.as_slice()), limit).map_err(|error| broken(name, error))?;
        unzipped.ok_or_else(|| too_large(name, limit))?
    } else {
        bytes
    };
    // An empty zip file has only its end record.
    if unzipped.starts_with(b"PK\x03\x04") || unzipped.starts_with(b"PK\x05\x06") {
        let mut archive = ZipArchive::new(Cursor::new(unzipped)).map_err(|error| broken(name, error))?;
        let chosen = choose(name, &mut archive, entry)?;
        let inner = format!("{name}/{chosen}");
        let file = archive.by_name(&chosen).map_err(|error| broken(&inner, error))?;
        let bytes = read_limited(file, limit).map_err(|error| broken(&inner, error))?;
        return decode(&inner, &bytes.ok_or_else(|| too_large(&inner, limit))?);
    }
    match entry {
        Some(entry) => {
            Err(no_entry(format!("`{name}` is not an archive, so there is no entry `{entry}` in it")).help("leave out --entry").into())
        }
        None => decode(name, &unzipped),
    }
}

/// All bytes of a reader, or none if there are more than `limit`.
fn read_limited(reader: impl Read, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Name of the entry that holds the model.
fn choose(name: &str, archive: &mut Archive, wanted: Option<&str>) -> Result<String, Box<Diagnostic>> {
    // Entries whose names cannot be decoded could not be named either.
    let names = archive.file_names().filter_map(|name| name.ok().map(Cow::into_owned));
    let mut files: Vec<String> = names.filter(|n| !n.ends_with('/') && !n.starts_with("__MACOSX/")).collect();
    files.sort();
    if let Some(wanted) = wanted {
        return match files.iter().find(|f| plain(f) == plain(wanted)) {
            Some(found) => Ok(found.clone()),
            None => Err(no_entry(format!("the archive `{name}` has no entry `{wanted}`"))
                .suggest(wanted, files.iter().map(String::as_str))
                .help(format!("it holds {}", listed(&files)))
                .into()),
        };
    }
    let mut models = manifest(name, archive)?;
    if let Some(master) = models.iter().find(|m| m.master) {
        models = vec![master.clone()];
    }
    let mut names = Vec::new();
    for model in &models {
        match files.iter().find(|f| plain(f) == plain(&model.location)) {
            Some(file) => names.push(file.clone()),
            None => return Err(broken(name, format_args!("its manifest lists `{}`, which is not there", model.location)).into()),
        }
    }
    if names.is_empty() {
        for file in &files {
            if is_sbml(name, archive, file)? {
                names.push(file.clone());
            }
        }
    }
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Diagnostic::error("F0004", format!("the archive `{name}` holds no SBML model"))
            .help(if files.is_empty() { "it is empty".to_owned() } else { format!("it holds {}", listed(&files)) })
            .into()),
        [first, ..] => Err(Diagnostic::error("F0005", format!("the archive `{name}` holds {} SBML models", names.len()))
            .help(format!("they are {}", listed(&names)))
            .help(format!("choose one, as with --entry '{first}'"))
            .into()),
    }
}

/// An SBML model that the manifest of a COMBINE archive lists.
#[derive(Clone)]
struct Listed {
    location: String,
    master: bool,
}

/// The SBML models that the archive's manifest lists; none where there is no manifest.
fn manifest(name: &str, archive: &mut Archive) -> Result<Vec<Listed>, Box<Diagnostic>> {
    let Some(file) = archive.index_for_name("manifest.xml") else { return Ok(Vec::new()) };
    let file = archive.by_index(file).map_err(|error| broken(name, error))?;
    let bytes = read_limited(file, LARGEST).map_err(|error| broken(name, error))?;
    let inner = format!("{name}/manifest.xml");
    let source = decode(&inner, &bytes.ok_or_else(|| too_large(&inner, LARGEST))?)?;
    let document = roxmltree::Document::parse(source.text()).map_err(|error| broken(&inner, error))?;
    let contents = document.root_element().children().filter(|n| n.tag_name().name() == "content");
    let models = contents.filter(|n| n.attribute("format").is_some_and(|f| f.to_ascii_lowercase().contains("sbml")));
    let listed = models.filter_map(|n| {
        let master = matches!(n.attribute("master"), Some("true" | "1"));
        n.attribute("location").map(|location| Listed { location: location.to_owned(), master })
    });
    Ok(listed.collect())
}

/// A name in an archive without what means the archive's root.
fn plain(name: &str) -> &str {
    name.trim_start_matches("./").trim_start_matches('/')
}

/// Some names as a sentence has them.
fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().take(NAMES).map(|n| format!("`{n}`")).collect();
    let rest = names.len().saturating_sub(NAMES);
    if rest > 0 { format!("{} and {rest} more", quoted.join(", ")) } else { quoted.join(", ") }
}

/// Whether the root element of an entry is `sbml`.
fn is_sbml(name: &str, archive: &mut Archive, entry: &str) -> Result<bool, Box<Diagnostic>> {
    let inner = format!("{name}/{entry}");
    let file = archive.by_name(entry).map_err(|error| broken(&inner, error))?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).map_err(|error| broken(&inner, error))?;
    // What is no text is no model.
    let text = text(&head, true).unwrap_or_default();
    Ok(root_element(&text).is_some_and(|root| root.rsplit(':').next() == Some("sbml")))
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

/// The text of bytes, as a source.
fn decode(name: &str, bytes: &[u8]) -> Result<Source, Box<Diagnostic>> {
    text(bytes, false).map(|text| Source::new(name, text)).map_err(|(reason, at)| {
        let mut diagnostic = Diagnostic::error("F0007", format!("cannot read the text of `{name}`: {reason}"));
        if let Some(at) = at {
            let shown = Source::new(name, String::from_utf8_lossy(bytes));
            diagnostic = diagnostic.at(&shown.span(at..at + 1), "this belongs to another encoding");
        }
        diagnostic.help("save the file as UTF-8, or declare its encoding on the first line, such as encoding=\"ISO-8859-1\"").into()
    })
}

/// Bytes as text without a byte order mark; `cut` allows the last character to be incomplete. Failing gives the reason, and for UTF-8
/// the offset of the first wrong byte.
fn text(bytes: &[u8], cut: bool) -> Result<Cow<'_, str>, (String, Option<usize>)> {
    let (encoding, skip) = match encoding_rs::Encoding::for_bom(bytes) {
        Some(found) => found,
        None => (declared_encoding(bytes).map_err(|label| (format!("its encoding `{label}` is not known"), None))?, 0),
    };
    let body = &bytes[skip..];
    if cut {
        return Ok(encoding.decode_without_bom_handling(body).0);
    }
    if encoding == encoding_rs::UTF_8 {
        let place = |error: std::str::Utf8Error| ("it is not UTF-8".to_owned(), Some(skip + error.valid_up_to()));
        return std::str::from_utf8(body).map(Cow::Borrowed).map_err(place);
    }
    let decoded = encoding.decode_without_bom_handling_and_without_replacement(body);
    decoded.ok_or_else(|| (format!("it is not {}", encoding.name()), None))
}

/// The encoding of XML without byte order mark: by its first bytes, else as its first line declares, else UTF-8. Fails with a
/// name that is not known.
fn declared_encoding(bytes: &[u8]) -> Result<&'static encoding_rs::Encoding, String> {
    match bytes {
        [b'<', 0, ..] => return Ok(encoding_rs::UTF_16LE),
        [0, b'<', ..] => return Ok(encoding_rs::UTF_16BE),
        _ => {}
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let declaration = head.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or("", |(inside, _)| inside);
    let Some((_, value)) = declaration.split_once("encoding") else { return Ok(encoding_rs::UTF_8) };
    let label = value.trim_start().trim_start_matches('=').trim_start();
    let label = label.split(['"', '\'']).nth(1).unwrap_or("").trim();
    match encoding_rs::Encoding::for_label(label.as_bytes()) {
        // Text whose declaration could be read byte by byte is not UTF-16, whatever it says.
        Some(encoding) if encoding == encoding_rs::UTF_16LE || encoding == encoding_rs::UTF_16BE => Ok(encoding_rs::UTF_8),
        Some(encoding) => Ok(encoding),
        None => Err(label.to_owned()),
    }
}

fn too_large(name: &str, limit: u64) -> Diagnostic {
    Diagnostic::error("F0003", format!("`{name}` is larger than {} MiB after unpacking", limit >> 20))
        .help("no model of that size can be read")
}

fn broken(name: &str, error: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("F0002", format!("`{name}` is broken: {error}")).help("get the file again, or unpack it and give the model itself")
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

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let zeros = vec![b' '; LIMIT as usize + 1];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&zeros).unwrap();
        assert_eq!(unpack("a.gz", encoder.finish().unwrap(), None, LIMIT).unwrap_err().code, "F0003");
        let archive = zipped(&[("model.xml", &zeros)]);
        assert_eq!(unpack("a.zip", archive.clone(), Some("model.xml"), LIMIT).unwrap_err().code, "F0003");
        assert!(unpack("a.zip", archive, Some("model.xml"), LIMIT + 1).is_ok());
    }

    #[test]
    fn encodings() {
        let source = |bytes: &[u8]| unpack("m.xml", bytes.to_vec(), None, LIMIT);
        assert_eq!(source(b"\xef\xbb\xbf<sbml/>").unwrap().text(), "<sbml/>");
        assert_eq!(source("<m>α</m>".as_bytes()).unwrap().text(), "<m>α</m>");
        assert!(source(b"<?xml version='1.0' encoding='ISO-8859-1'?><m>\xe9\xb5</m>").unwrap().text().ends_with("<m>éµ</m>"));
        assert!(source(b"<?xml version='1.0' encoding = \"us-ascii\" ?><m/>").unwrap().text().ends_with("<m/>"));
        // A declaration that its own bytes contradict.
        assert!(source(b"<?xml version='1.0' encoding='UTF-16'?><m/>").unwrap().text().ends_with("<m/>"));
        let utf16: Vec<u8> = "<m>é</m>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(source(&utf16).unwrap().text(), "<m>é</m>");
        assert_eq!(source(&[&[0xff, 0xfe][..], &utf16].concat()).unwrap().text(), "<m>é</m>");
        let error = source(b"<m>\n\xe9</m>").unwrap_err();
        assert_eq!((error.code, error.span.unwrap().position()), ("F0007", "m.xml:2:1".to_owned()));
        assert!(source(b"<?xml version='1.0' encoding='klingon'?><m/>").unwrap_err().message.contains("klingon"));
    }

    #[test]
    fn the_first_element_is_found() {
        assert_eq!(root_element("<?xml version='1.0'?>\n<!-- <a> --><!DOCTYPE x>\n<sbml:sbml a='1'>"), Some("sbml:sbml"));
        assert_eq!(root_element("<sbml/>"), Some("sbml"));
        assert_eq!(root_element("<!-- no end"), None);
        assert_eq!(root_element("text"), None);
        assert_eq!(root_element(""), None);
    }
}
