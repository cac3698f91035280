//! YAML as a tree in which every value knows its place. What the problem file means: `problem_file.rs`.

use crate::diag::{Diagnostic, Diagnostics, Source};
use serde::de::{self, Deserialize, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::ops::Range;

/// A YAML value with its byte range.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it stands (for lists and maps: where they start).
    pub range: Range<usize>,
}

/// The kinds of YAML values. Scalars keep their spelling: `2.0.0` and `2` are texts until someone asks for a number.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Keys with their places, and values, in file order.
    Map(Vec<(String, Range<usize>, Node)>),
}

impl Node {
    /// "a list", "a map", ... for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_string(),
            Kind::Scalar(text) => format!("`{text}`"),
            Kind::List(_) => "a list".to_string(),
            Kind::Map(_) => "a map".to_string(),
        }
    }
}

/// Parses YAML into a tree.
pub fn parse(source: &Source, diagnostics: &mut Diagnostics) -> Option<Node> {
    match serde_saphyr::from_str::<Spanned<Raw>>(source.text()) {
        Ok(raw) => Some(raw.into_node(source.text())),
        Err(error) => {
            let error = error.without_snippet();
            let place = error.location().map_or(0, |l| offset_of(source.text(), l.line() as usize, l.column() as usize));
            let mut message = error.to_string();
            // The parser's own place, in words, would stand beside ours.
            if let Some(cut) = message.rfind(" at line ") {
                message.truncate(cut);
            }
            diagnostics.push(
                Diagnostic::error("P0004", "the problem file is not valid YAML").at(&source.span(place..place + 1), message.trim().to_string()),
            );
            None
        }
    }
}

/// Byte offset of a line and column, both from 1 and in characters.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    start + text[start..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>()
}

/// A value as the deserializer hands it over; numbers lose their spelling, which [`Spanned`] brings back.
enum Raw {
    Null,
    Plain,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Key>, Spanned<Raw>)>),
}

/// A map's key, always kept as a text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}

trait IntoNode {
    fn into_node(self, text: &str) -> Node;
}

fn range_of<T>(spanned: &Spanned<T>) -> Range<usize> {
    let span = spanned.referenced.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    start..start + span.byte_len().unwrap_or(0) as usize
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, text: &str) -> Node {
        let range = range_of(&self);
        let written = text.get(range.clone()).unwrap_or("").trim();
        let kind = match self.value {
            Raw::Null => Kind::Null,
            Raw::Plain => Kind::Scalar(written.to_string()),
            Raw::Text(text) => Kind::Scalar(text),
            Raw::List(items) => Kind::List(items.into_iter().map(|i| i.into_node(text)).collect()),
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let range = range_of(&key);
                        (key.value.0, range, value.into_node(text))
                    })
                    .collect(),
            ),
        };
        let range = match kind {
            Kind::Scalar(_) => range.start..range.start + written.len().max(1),
            _ => range.start..range.start + 1,
        };
        Node { kind, range }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }
            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_string()))
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        deserializer.deserialize_any(RawVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(text: &str) -> (Node, Source) {
        let source = Source::new("p.yaml", text);
        let mut d = Diagnostics::new();
        let node = parse(&source, &mut d).unwrap_or_else(|| panic!("{}", d.render(false)));
        (node, source)
    }

    #[test]
    fn values_keep_spelling_and_place() {
        let text = "# c\nformat_version: 2.0.0\nn: 1\nf: 1.50\nempty:\nquoted: 'a b'\nlist:\n- a.tsv\n- b.tsv\nflow: [x.tsv, y.tsv]\nm: {k: v}\nb: true\n";
        let (node, source) = tree(text);
        let Kind::Map(entries) = &node.kind else { panic!("{node:?}") };
        let get = |key: &str| entries.iter().find(|e| e.0 == key).unwrap();
        let scalar = |n: &Node| match &n.kind {
            Kind::Scalar(s) => s.clone(),
            other => panic!("{other:?}"),
        };
        for (key, value, written) in
            [("format_version", "2.0.0", "2.0.0"), ("n", "1", "1"), ("f", "1.50", "1.50"), ("quoted", "a b", "'a b'"), ("b", "true", "true")]
        {
            let entry = get(key);
            assert_eq!(scalar(&entry.2), value);
            assert_eq!(source.span(entry.2.range.clone()).text(), written);
            assert_eq!(source.span(entry.1.clone()).text(), key);
        }
        assert_eq!(get("empty").2.kind, Kind::Null);
        for (key, names) in [("list", ["a.tsv", "b.tsv"]), ("flow", ["x.tsv", "y.tsv"])] {
            let Kind::List(items) = &get(key).2.kind else { panic!() };
            assert_eq!(items.iter().map(|i| source.span(i.range.clone()).text().to_string()).collect::<Vec<_>>(), names);
        }
        let Kind::Map(inner) = &get("m").2.kind else { panic!() };
        assert_eq!(source.span(inner[0].2.range.clone()).text(), "v");
    }

    #[test]
    fn syntax_errors_have_a_place() {
        for (text, line) in [("a: [1, 2\nb: 3\n", 2), ("a: 1\n  b: 2\n", 2), ("x: 1\na: 'x\n", 2), ("a: 1\na: 2\n", 2)] {
            let mut d = Diagnostics::new();
            assert!(parse(&Source::new("p.yaml", text), &mut d).is_none(), "{text}");
            let span = d.items()[0].span.clone().unwrap();
            assert_eq!(span.source.line_column(span.range.start).0, line, "{}", d.render(false));
        }
    }
}
