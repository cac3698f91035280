//! Tables of tab-separated values: header, rows, and for every cell its place in the file.
//!
//! PEtab v1 "File formats" and v2 "Overview": UTF-8, one header line, any order of columns, case-sensitive names. Met in
//! the wild and accepted: byte order mark, CRLF, quoted cells, empty lines, rows that end early (editors strip trailing
//! tabs; where a value is needed its absence is reported), blanks around a value (reported; around names of columns and identifiers an error), the spellings of "missing"
//! that pandas knows (in cells for values, never in cells for identifiers).

use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Spellings of "no value" in cells that hold values (the defaults of `pandas.read_csv`).
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None",
    "n/a", "nan", "null",
];

/// A table as it stands in its file.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it is, in words: `measurement`, `observable`, ...
    kind: &'static str,
    source: Source,
    columns: Vec<(String, Range<usize>)>,
    /// Byte ranges of the cells' values, row by row; quotes and outer blanks are not part of them.
    cells: Vec<(u32, u32)>,
    /// Values of cells that are not a piece of the text (quotes inside quotes), by index into `cells`.
    unquoted: FxHashMap<usize, String>,
}

/// A value could not be read, and a diagnostic says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported;

/// A cell, or the place where an absent column's cell would be.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    table: &'a Table,
    row: usize,
    column: Option<usize>,
}

impl Table {
    /// Splits a text into cells.
    ///
    /// `kind` names the table in messages. `None` (with a diagnostic) if there is no header.
    pub fn parse(kind: &'static str, source: &Source, diagnostics: &mut Diagnostics) -> Option<Table> {
        let mut table = Table { kind, source: source.clone(), columns: Vec::new(), cells: Vec::new(), unquoted: FxHashMap::default() };
        let text = source.text();
        if text.len() >= u32::MAX as usize {
            diagnostics.push(super::unsupported(
                &source.span(0..0),
                "a table of more than 4 GB",
                "split the file; PEtab takes lists of files",
            ));
            return None;
        }
        let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut record = csv::ByteRecord::new();
        let mut fields: Vec<(Range<usize>, Option<String>)> = Vec::new();
        let mut blanks: Option<(usize, Range<usize>)> = None;
        let mut blank_names: Option<(usize, Range<usize>)> = None;
        // Reading bytes from memory with a flexible row length has no way to fail; an error would end the table early.
        while reader.read_byte_record(&mut record).unwrap_or(false) {
            let start = record.position().map_or(0, |p| p.byte() as usize);
            fields.clear();
            let closed = locate(text, start, &record, &mut fields);
            if !closed {
                let range = fields.last().map_or(start..start, |f| f.0.clone());
                diagnostics.push(
                    Diagnostic::error("P0112", format!("a quoted cell of the {kind} table is never closed"))
                        .at(
                            &source.span(range.start.saturating_sub(1)..range.start),
                            "the quote opens here and swallows the rest of the file",
                        )
                        .help("close it, or write two quotes for one"),
                );
                return None;
            }
            if table.columns.is_empty() {
                table.header(&fields, diagnostics);
                let with_blanks =
                    fields.iter().filter(|(range, value)| value.is_none() && text[range.clone()].trim() != &text[range.clone()]);
                with_blanks.for_each(|(range, _)| blank_names.get_or_insert((0, range.clone())).0 += 1);
                continue;
            }
            if fields.iter().all(|(range, _)| text[range.clone()].trim().is_empty()) {
                continue;
            }
            let width = table.columns.len();
            let end = fields.last().map_or(start, |f| f.0.end);
            if let Some((extra, _)) = fields.iter().skip(width).find(|(range, _)| !text[range.clone()].trim().is_empty()) {
                diagnostics.push(
                    Diagnostic::error("P0104", format!("a row of the {kind} table has {} cells, the header has {width}", fields.len()))
                        .at(&source.span(extra.clone()), "no column for this cell")
                        .also(&source.span(table.columns[width - 1].1.clone()), "the last column"),
                );
            }
            fields.resize(width, (end..end, None));
            for (column, (range, value)) in fields.drain(..).enumerate() {
                let whole = &text[range.clone()];
                let trimmed = whole.trim();
                let name = table.columns[column].0.as_str();
                // Names and labels are for people.
                let label = name.ends_with("Name") || name.ends_with("Label") || name == "legendEntry";
                if trimmed.len() < whole.len() && value.is_none() && !trimmed.is_empty() && !label {
                    let kind = if name.ends_with("Id") { &mut blank_names } else { &mut blanks };
                    kind.get_or_insert((0, range.clone())).0 += 1;
                }
                if let Some(value) = value {
                    table.unquoted.insert(table.cells.len(), value);
                }
                let start = range.start + (whole.len() - whole.trim_start().len());
                table.cells.push((start as u32, (start + trimmed.len()) as u32));
            }
        }
        if table.columns.is_empty() {
            let place = source.span(0..0);
            diagnostics.push(
                Diagnostic::error("P0101", format!("the {kind} table is empty"))
                    .at(&place, "expected a line with the names of the columns"),
            );
            return None;
        }
        if let Some((count, range)) = blank_names {
            let more = if count > 1 { format!("; {} others like it", count - 1) } else { String::new() };
            diagnostics.push(
                Diagnostic::error("P0121", format!("blanks around `{}` in the {kind} table", text[range.clone()].trim()))
                    .at(&source.span(range), format!("expected the name alone{more}"))
                    .help("remove the blanks: to other tools they are part of the name"),
            );
        }
        if let Some((count, range)) = blanks {
            diagnostics.push(
                Diagnostic::warning(
                    "P0502",
                    format!("{} of the {kind} table {} blanks around the value", counted(count, "cell"), has(count)),
                )
                .at(&source.span(range), "read without the blanks"),
            );
        }
        Some(table)
    }

    fn header(&mut self, fields: &[(Range<usize>, Option<String>)], diagnostics: &mut Diagnostics) {
        for (range, value) in fields {
            let name = value.as_deref().unwrap_or(&self.source.text()[range.clone()]).trim().to_string();
            if let Some((_, first)) = self.columns.iter().find(|(other, _)| *other == name && !name.is_empty()) {
                diagnostics.push(
                    Diagnostic::error("P0103", format!("the {} table has two columns `{name}`", self.kind))
                        .at(&self.source.span(range.clone()), "the second one")
                        .also(&self.source.span(first.clone()), "the first one"),
                );
            }
            self.columns.push((name, range.clone()));
        }
    }

    /// What the table is, in words.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The text and its name.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Number of rows below the header that are not empty.
    pub fn rows(&self) -> usize {
        self.cells.len() / self.columns.len().max(1)
    }

    /// Names of the columns with their places, in file order. Columns without a name have an empty one.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Span)> {
        self.columns.iter().map(|(name, range)| (name.as_str(), self.source.span(range.clone())))
    }

    /// Position of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(n, _)| n == name)
    }

    /// Position of a column that must be there.
    ///
    /// `hints` are pairs of another version's column and advice, shown when that column is there instead.
    pub fn require(&self, name: &str, hints: &[(&str, &str)], diagnostics: &mut Diagnostics) -> Option<usize> {
        let found = self.find(name);
        if found.is_none() {
            let header = self.columns.first().map_or(0, |c| c.1.start)..self.columns.last().map_or(0, |c| c.1.end);
            let names: Vec<&str> = self.columns.iter().map(|c| c.0.as_str()).filter(|n| !n.is_empty()).collect();
            let mut diagnostic = Diagnostic::error("P0102", format!("the {} table has no column `{name}`", self.kind));
            let hint = hints.iter().find(|(other, _)| names.contains(other));
            let near = crate::diag::nearest(name, names.iter().copied());
            let marked = hint.map(|h| h.0).or(near).and_then(|n| self.find(n)).map(|i| self.columns[i].1.clone());
            diagnostic = match marked {
                Some(range) => diagnostic.at(&self.source.span(range), format!("expected `{name}`")),
                None => diagnostic.at(&self.source.span(header), "the columns it has"),
            };
            if let Some((_, advice)) = hint {
                diagnostic = diagnostic.help(*advice);
            } else if let Some(near) = near {
                diagnostic = diagnostic.help(format!("rename `{near}` to `{name}`"));
            }
            diagnostics.push(diagnostic);
        }
        found
    }

    /// A cell; of a column that is not there, an empty one.
    pub fn cell(&self, row: usize, column: Option<usize>) -> Cell<'_> {
        Cell { table: self, row, column }
    }
}

/// Finds the fields of a record, whose values are known, in the text: quotes and line ends are not in the values.
/// Whether the last field's quote is closed.
fn locate(text: &str, start: usize, record: &csv::ByteRecord, fields: &mut Vec<(Range<usize>, Option<String>)>) -> bool {
    let bytes = text.as_bytes();
    // The reader counts the line ends before a record (of the line above, of empty lines) as part of it.
    let mut at = start + bytes[start..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    for value in record {
        if bytes.get(at) != Some(&b'"') {
            fields.push((at..at + value.len(), None));
            at += value.len() + 1;
            continue;
        }
        let mut end = at + 1;
        let closed = loop {
            match (bytes.get(end), bytes.get(end + 1)) {
                (Some(b'"'), Some(b'"')) => end += 2,
                (Some(b'"'), _) => break true,
                (Some(_), _) => end += 1,
                (None, _) => break false,
            }
        };
        let inner = at + 1..end;
        let plain = text.get(inner.clone()).is_some_and(|t| t.as_bytes() == value);
        fields.push((inner, (!plain).then(|| String::from_utf8_lossy(value).into_owned())));
        if !closed {
            return false;
        }
        // Behind the closing quote comes a tab or the line's end; anything else belongs to the value.
        at = end + 1;
        while bytes.get(at).is_some_and(|b| !matches!(b, b'\t' | b'\r' | b'\n')) {
            at += 1;
        }
        at += 1;
    }
    true
}

/// "1 row", "2 rows".
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn has(count: usize) -> &'static str {
    if count == 1 { "has" } else { "have" }
}

/// A number for a message: as people write it, very small and large ones with an exponent.
pub fn show(value: f64) -> String {
    if value != 0.0 && value.is_finite() && !(1e-4..1e15).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

/// Whether a text has the form of a PEtab identifier.
pub fn is_id(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reports a text that should be an identifier.
pub fn invalid_id(text: &str, span: &Span, place: &str, diagnostics: &mut Diagnostics) {
    diagnostics.push(
        Diagnostic::error("P0108", format!("`{text}` is not a valid identifier"))
            .at(span, place)
            .help("identifiers have letters, digits and underscores and do not start with a digit"),
    );
}

/// Reports an identifier that is defined twice.
pub fn duplicate(what: &str, id: &str, span: &Span, first: &Span, diagnostics: &mut Diagnostics) {
    diagnostics.push(
        Diagnostic::error("P0109", format!("the {what} `{id}` is defined twice"))
            .at(span, "the second definition")
            .also(first, "the first definition"),
    );
}

/// A list of names for a message, cut where it would become long.
pub fn listing<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}

/// Mistakes that tend to stand in many rows: each is reported once, at its first row, with the number of further rows.
#[derive(Default)]
pub struct Repeated {
    found: IndexMap<String, (Diagnostic, usize)>,
}

impl Repeated {
    /// Notes a mistake. Equal keys are the same mistake.
    pub fn push(&mut self, key: impl Into<String>, make: impl FnOnce() -> Diagnostic) {
        self.found.entry(key.into()).and_modify(|found| found.1 += 1).or_insert_with(|| (make(), 0));
    }

    /// Hands all over.
    pub fn finish(self, diagnostics: &mut Diagnostics) {
        for (diagnostic, more) in self.found.into_values() {
            diagnostics.push(if more > 0 { diagnostic.help(format!("the same in {}", counted(more, "more row"))) } else { diagnostic });
        }
    }
}

/// A number as tables write it: more spellings than formulas allow (`.5`, `5.`, `+1`, `inf`).
pub fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok()
}

impl<'a> Cell<'a> {
    /// The value, without quotes and outer blanks.
    pub fn text(&self) -> &'a str {
        let Some(column) = self.column else { return "" };
        let index = self.row * self.table.columns.len() + column;
        if let Some(value) = self.table.unquoted.get(&index) {
            return value;
        }
        let (start, end) = self.table.cells[index];
        &self.table.source.text()[start as usize..end as usize]
    }

    /// Where the value stands. For an absent column: the row's first cell.
    pub fn span(&self) -> Span {
        let (start, end) = self.table.cells[self.row * self.table.columns.len() + self.column.unwrap_or(0)];
        self.table.source.span(start as usize..end as usize)
    }

    /// The column's name.
    pub fn column_name(&self) -> &'a str {
        self.column.map_or("", |c| self.table.columns[c].0.as_str())
    }

    /// Whether nothing stands here.
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// Whether nothing or a spelling of "missing" stands here. For cells that hold values.
    pub fn is_missing(&self) -> bool {
        let text = self.text();
        // Most cells hold something else, which the first character shows.
        text.is_empty() || (matches!(text.as_bytes()[0], b'#' | b'-' | b'1' | b'<' | b'N' | b'n') && MISSING.contains(&text))
    }

    /// An identifier, which must be there.
    pub fn id(&self, diagnostics: &mut Diagnostics) -> Option<&'a str> {
        let text = self.text();
        if text.is_empty() {
            self.empty("an identifier", diagnostics);
            return None;
        }
        self.optional_id(diagnostics)
    }

    /// An identifier or nothing (`None`).
    pub fn optional_id(&self, diagnostics: &mut Diagnostics) -> Option<&'a str> {
        let text = self.text();
        if text.is_empty() || is_id(text) {
            return Some(text).filter(|t| !t.is_empty());
        }
        invalid_id(text, &self.span(), &format!("`{}` of the {} table", self.column_name(), self.table.kind), diagnostics);
        None
    }

    /// A number, which must be there. NaN and missing values are not numbers here.
    pub fn number(&self, diagnostics: &mut Diagnostics) -> Option<f64> {
        if self.is_empty() {
            self.empty("a number", diagnostics);
            return None;
        }
        let value = parse_number(self.text()).filter(|v| !v.is_nan());
        if value.is_none() {
            self.not_a_number("a number", diagnostics);
        }
        value
    }

    /// A number or a missing value (`None`). `Err` if it is neither, which has been reported.
    pub fn optional_number(&self, diagnostics: &mut Diagnostics) -> Result<Option<f64>, Reported> {
        if self.is_missing() {
            return Ok(None);
        }
        match parse_number(self.text()) {
            Some(value) => Ok(Some(value)),
            None => {
                self.not_a_number(if self.column_name() == "measurement" { "a finite number" } else { "a number" }, diagnostics);
                Err(Reported)
            }
        }
    }

    /// Reports that the cell does not hold what was expected of it, a kind of number.
    pub fn not_a_number(&self, expected: &str, diagnostics: &mut Diagnostics) {
        let text = self.text();
        let plain = ["a number", "a finite number"].contains(&expected) && parse_number(text).is_none();
        let message = if plain {
            format!("`{}` is not a number", self.column_name())
        } else {
            format!("`{}` cannot be `{text}`", self.column_name())
        };
        let mut diagnostic = Diagnostic::error("P0105", message).at(&self.span(), format!("expected {expected}"));
        if text.contains(',') && parse_number(&text.replacen(',', ".", 1)).is_some() {
            diagnostic = diagnostic.help(format!("write `{}`: numbers have a decimal point", text.replacen(',', ".", 1)));
        } else if self.column_name() == "measurement" && plain {
            diagnostic = diagnostic.help("delete the row to mark a missing value; PEtab has no NA");
        }
        diagnostics.push(diagnostic);
    }

    /// One of a list of words (`None` if the cell is missing). `Err` if it is another word, which has been reported.
    pub fn word<T: Copy>(&self, words: &[(&str, T)], diagnostics: &mut Diagnostics) -> Result<Option<T>, Reported> {
        if self.is_missing() {
            return Ok(None);
        }
        let text = self.text();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*value));
        }
        // Aliases that are read but not advertised come after the advertised words, with an empty slot between them.
        let listed: Vec<&str> = words.iter().map(|w| w.0).take_while(|w| !w.is_empty()).collect();
        diagnostics.push(
            Diagnostic::error("P0107", format!("`{}` cannot be `{text}`", self.column_name()))
                .at(&self.span(), format!("expected one of {}", listed.join(", ")))
                .suggest(text, listed.iter().copied()),
        );
        Err(Reported)
    }

    /// Reports that the cell must not be empty.
    pub fn empty(&self, expected: &str, diagnostics: &mut Diagnostics) {
        let span = self.span();
        diagnostics.push(
            Diagnostic::error("P0106", format!("`{}` is empty in a row of the {} table", self.column_name(), self.table.kind))
                .at(&span, format!("expected {expected}")),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(text: &str) -> (Table, Diagnostics) {
        let mut d = Diagnostics::new();
        let table = Table::parse("test", &Source::new("t.tsv", text), &mut d).unwrap();
        (table, d)
    }

    #[test]
    fn cells_know_their_place() {
        let text = "a\tb\tc\r\n1\t\"x y\"\t\r\n\r\n\t\t\n 2 \t\"say \"\"hi\"\"\"\tlast";
        let (t, d) = table(text);
        assert_eq!(t.rows(), 2);
        let cell = |row, name| t.cell(row, t.find(name));
        assert_eq!(cell(0, "a").text(), "1");
        assert_eq!(cell(0, "b").text(), "x y");
        assert_eq!(cell(0, "b").span().text(), "x y");
        assert_eq!(cell(0, "b").span().position(), "t.tsv:2:4");
        assert!(cell(0, "c").is_empty());
        assert_eq!(cell(0, "c").span().position(), "t.tsv:2:9");
        assert_eq!(cell(1, "a").text(), "2");
        assert_eq!(cell(1, "a").span().position(), "t.tsv:5:2");
        assert_eq!(cell(1, "b").text(), "say \"hi\"");
        assert_eq!(cell(1, "c").span().text(), "last");
        assert!(cell(1, "zzz").is_empty());
        assert_eq!(d.items().len(), 1);
        assert_eq!(d.items()[0].code, "P0502");
    }

    #[test]
    fn rows_of_wrong_length() {
        let (t, d) = table("a\tb\n1\n1\t2\t\n1\t2\t3\n");
        assert_eq!(t.rows(), 3);
        assert!(t.cell(0, Some(1)).is_empty());
        let codes: Vec<_> = d.items().iter().map(|d| d.code).collect();
        assert_eq!(codes, ["P0104"]);
        assert_eq!(d.items()[0].span.as_ref().unwrap().position(), "t.tsv:4:5");
    }

    #[test]
    fn numbers_as_tables_write_them() {
        for (text, value) in
            [("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), ("+1", 1.0)]
        {
            assert_eq!(parse_number(text), Some(value));
        }
        let (t, mut d) = table("a\n1,5\n1.5x\nNaN\n");
        (0..3).for_each(|row| assert_eq!(t.cell(row, Some(0)).number(&mut d), None));
        assert_eq!(d.items().len(), 3);
        assert_eq!(d.items()[0].help, ["write `1.5`: numbers have a decimal point"]);
        assert_eq!(t.cell(2, Some(0)).optional_number(&mut d), Ok(None));
    }

    #[test]
    fn missing_and_double_columns() {
        let (t, mut d) = table("measurment\tb\tb\n");
        assert_eq!(t.require("measurement", &[], &mut d), None);
        assert_eq!(t.require("time", &[("b", "b is the old name")], &mut d), None);
        assert_eq!(d.items().iter().map(|d| d.code).collect::<Vec<_>>(), ["P0103", "P0102", "P0102"]);
        assert_eq!(d.items()[1].help, ["rename `measurment` to `measurement`"]);
        assert_eq!(d.items()[2].help, ["b is the old name"]);
    }

    #[test]
    fn open_quotes_and_empty_tables_are_errors() {
        for (text, code) in [("a\tb\n1\t\"x\n2\ty\n", "P0112"), ("", "P0101"), ("\n\n", "P0101")] {
            let mut d = Diagnostics::new();
            assert!(Table::parse("test", &Source::new("t.tsv", text), &mut d).is_none());
            assert_eq!(d.items()[0].code, code);
        }
    }
}
