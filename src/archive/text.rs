//! Bytes as text, in any encoding that they declare.

use crate::diag::{Diagnostic, Source};
use std::borrow::Cow;

/// The text of bytes, as a source.
///
/// # Errors
/// It is not the text that it says it is.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Source, Box<Diagnostic>> {
    text(bytes, false).map(|text| Source::new(name, text)).map_err(|(reason, at)| {
        let mut diagnostic = Diagnostic::error("F0007", format!("cannot read the text of `{name}`: {reason}"));
        if let Some(at) = at {
            let shown = Source::new(name, String::from_utf8_lossy(bytes));
            diagnostic = diagnostic.at(&shown.span(at..at + 1), "this belongs to another encoding");
        }
        diagnostic.help("save the file as UTF-8, or declare its encoding on the first line, such as encoding=\"ISO-8859-1\"").into()
    })
}

/// The text of bytes of which the last character may be incomplete; empty where they are no text.
pub fn beginning(bytes: &[u8]) -> Cow<'_, str> {
    text(bytes, true).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn encodings() {
        let source = |bytes: &[u8]| decode("m.xml", bytes);
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
}
