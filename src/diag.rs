//! Diagnostics: what is wrong with the input, where, and what to do about it.
//!
//! Readers and checks push into a [`Diagnostics`] sink and go on, so that a user sees all problems of an input at
//! once. Only the boundary of a stage turns "has errors" into a failure. Every diagnostic has a stable code: `S` SBML,
//! `P` PEtab (01 table syntax, 02 references, 03 formulas, 04 extension `nlme`), `M` model building,
//! `F` files of models.
//!
//! Three forms for readers: [`Diagnostics::render`] (text with the marked places), [`Diagnostics::concise`] (one line
//! each, for editors and CI), [`Diagnostics::to_json`] (for programs).

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// How many diagnostics [`Diagnostics::render`] shows; more would scroll the first ones out of sight.
pub const SHOWN: usize = 20;

/// A text that was read, with the name under which messages refer to it. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Source(Arc<SourceText>);

#[derive(Debug)]
struct SourceText {
    name: String,
    text: String,
    /// Byte offsets at which lines start, found when the first place is asked for.
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// A source named `name` (normally the path as the user would write it) holding `text`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source(Arc::new(SourceText { name: name.into(), text: text.into(), lines: OnceLock::new() }))
    }

    /// The name used in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// A span of this source; `range` is in bytes, is clipped to the text and widened to whole characters.
    pub fn span(&self, range: Range<usize>) -> Span {
        let start = self.text().floor_char_boundary(range.start.min(range.end));
        Span { source: self.clone(), range: start..self.text().ceil_char_boundary(range.end.max(start)) }
    }

    /// Line and column, both counted from 1 and in characters, of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text().len());
        let line = self.line_of(offset);
        let start = self.line_starts()[line - 1];
        // Bytes that begin a character: fast enough for thousands of messages about a file of one long line.
        let column = self.text().as_bytes()[start..offset].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
        (line, column)
    }

    /// Number (from 1) of the line that holds a byte offset.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts().partition_point(|start| *start <= offset)
    }

    fn line_starts(&self) -> &[usize] {
        self.0.lines.get_or_init(|| {
            let ends = self.text().bytes().enumerate().filter(|(_, b)| *b == b'\n');
            std::iter::once(0).chain(ends.map(|(i, _)| i + 1)).collect()
        })
    }

    /// Number of the first line and text of the whole lines that hold `range`, without the last line's end.
    fn lines_around(&self, range: Range<usize>) -> (usize, Range<usize>) {
        let first = self.line_of(range.start);
        // A range that ends with a line break ends on that line.
        let last = self.line_of(range.end.saturating_sub(1).max(range.start));
        let start = self.line_starts()[first - 1];
        let end = self.line_starts().get(last).map_or(self.text().len(), |next| next - 1);
        let end = if self.text()[start..end].ends_with('\r') { end - 1 } else { end };
        (first, start..end)
    }

    fn same(&self, other: &Source) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.name() == other.name() && self.text().len() == other.text().len())
    }
}

/// A place in a [`Source`].
#[derive(Debug, Clone)]
pub struct Span {
    /// The text that holds the place.
    pub source: Source,
    /// Byte range in the text.
    pub range: Range<usize>,
}

impl Span {
    /// The text at this place.
    pub fn text(&self) -> &str {
        self.source.text().get(self.range.clone()).unwrap_or("")
    }

    /// `file:line:column`.
    pub fn position(&self) -> String {
        let (line, column) = self.source.line_column(self.range.start);
        format!("{}:{line}:{column}", self.source.name())
    }

    /// The span of a part of this one, `range` counted from its start. Used for errors inside a formula.
    pub fn part(&self, range: Range<usize>) -> Span {
        self.source
            .span(self.range.start + range.start..(self.range.start + range.end).min(self.range.end.max(self.range.start + range.start)))
    }
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input cannot be used.
    Error,
    /// The input can be used but is probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One message about the input.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code such as `P0203`.
    pub code: &'static str,
    /// One sentence that names the thing in backticks.
    pub message: String,
    /// The place, where there is one.
    pub span: Option<Span>,
    /// What was expected at the place (shown under the marked text).
    pub label: String,
    /// Other places that matter, with a label each.
    pub related: Vec<(Span, String)>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A new error.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A new warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A new diagnostic without a place.
    pub fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity, code, message: message.into(), span: None, label: String::new(), related: Vec::new(), help: Vec::new() }
    }

    /// Adds the place and what was expected there.
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.span = Some(span.clone());
        self.label = label.into();
        self
    }

    /// Adds another place that matters.
    pub fn also(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.related.push((span.clone(), label.into()));
        self
    }

    /// Adds a sentence of advice.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds "did you mean `x`?" when one of the candidates is close to `name`.
    pub fn suggest<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, candidates) {
            Some(found) => self.help(format!("did you mean `{found}`?")),
            None => self,
        }
    }
}

/// The candidate nearest to `name`, if it is near enough (Damerau-Levenshtein distance at most 1 + length/4).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + name.chars().count() / 4;
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(d, c)| *d <= limit && *d < c.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// A growing list of diagnostics.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    /// Adds all of another list.
    pub fn append(&mut self, mut other: Diagnostics) {
        self.items.append(&mut other.items);
    }

    /// Adds the messages that are not there yet.
    pub fn append_new(&mut self, other: Diagnostics) {
        let key = |d: &Diagnostic| (d.code, d.message.clone(), d.span.as_ref().map(Span::position));
        for diagnostic in other.items {
            if !self.items.iter().any(|known| key(known) == key(&diagnostic)) {
                self.items.push(diagnostic);
            }
        }
    }

    /// Adds messages on what changes no number: their errors are warnings.
    pub fn append_as_warnings(&mut self, mut other: Diagnostics) {
        for diagnostic in &mut other.items {
            diagnostic.severity = diagnostic.severity.max(Severity::Warning);
        }
        self.append(other);
    }

    /// Puts together the warnings from number `from` on that say the same of several things: messages that differ only in the first
    /// name in backticks. The first stays and names the others.
    pub fn group(&mut self, from: usize) {
        let found = self.items.split_off(from.min(self.items.len()));
        let mut groups: Vec<(Diagnostic, Vec<String>)> = Vec::new();
        for diagnostic in found {
            let parts = |d: &Diagnostic| d.message.splitn(3, '`').map(str::to_string).collect::<Vec<_>>();
            let own = parts(&diagnostic);
            let alike = |d: &Diagnostic| {
                let other = parts(d);
                let warnings = d.severity == Severity::Warning && diagnostic.severity == Severity::Warning;
                warnings && d.code == diagnostic.code && own.len() == 3 && other.len() == 3 && own[0] == other[0] && own[2] == other[2]
            };
            match groups.iter_mut().find(|(first, _)| alike(first)) {
                Some((_, others)) => others.push(own[1].clone()),
                None => groups.push((diagnostic, Vec::new())),
            }
        }
        for (diagnostic, others) in groups {
            let names: Vec<String> = others.iter().take(8).map(|name| format!("`{name}`")).collect();
            let more = if others.len() > names.len() { ", ..." } else { "" };
            self.items.push(match others.len() {
                0 => diagnostic,
                1 => diagnostic.help(format!("the same of {}", names[0])),
                count => diagnostic.help(format!("the same of {count} others: {}{more}", names.join(", "))),
            });
        }
    }

    /// All, in the order in which they were found.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// Whether there is at least one error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.items.iter().filter(|d| d.severity == severity).count()
    }

    /// All, sorted by file and place; those without a place come first.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.items.iter().collect();
        sorted.sort_by(|a, b| a.place().cmp(&b.place()));
        sorted
    }

    /// The text for people: every diagnostic with its marked place, sorted by file and line, then a line that counts.
    ///
    /// At most [`SHOWN`] are shown, errors before warnings where some must be left out. `color` adds terminal escapes.
    pub fn render(&self, color: bool) -> String {
        let mut shown = self.sorted();
        if shown.len() > SHOWN {
            shown.sort_by_key(|d| d.severity); // stable: still by place within a severity
            shown.truncate(SHOWN);
            shown.sort_by(|a, b| a.place().cmp(&b.place()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &shown {
            let text = renderer.render(&[diagnostic.group()]);
            // The renderer pads empty source lines; trailing blanks are noise in logs and golden files.
            text.lines().for_each(|line| out.extend([line.trim_end(), "\n"]));
            out.push('\n');
        }
        if self.items.len() > shown.len() {
            let _ = writeln!(out, "... and {} more", self.items.len() - shown.len());
        }
        if !self.items.is_empty() {
            out.push_str(&self.summary());
            out.push('\n');
        }
        out
    }

    /// "3 errors, 1 warning"; what there is none of is left out.
    pub fn summary(&self) -> String {
        let parts: Vec<String> = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
            .iter()
            .map(|(severity, name)| (self.count(*severity), name))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
            .collect();
        if parts.is_empty() { "no errors".to_string() } else { parts.join(", ") }
    }

    /// One line each, `file:line:column: error[P0203]: message`, sorted by file and line.
    pub fn concise(&self) -> String {
        let mut out = String::new();
        for d in self.sorted() {
            let place = d.span.as_ref().map(|s| format!("{}: ", s.position())).unwrap_or_default();
            let _ = writeln!(out, "{place}{}[{}]: {}", d.severity.name(), d.code, d.message);
        }
        out
    }

    /// For programs: `{"errors": 1, "warnings": 0, "diagnostics": [{severity, code, message, place, label, related, help}]}`,
    /// where a place is `{file, line, column, endLine, endColumn}` (counted from 1, end exclusive) or null.
    pub fn to_json(&self) -> Value {
        let place = |span: &Span| {
            let (line, column) = span.source.line_column(span.range.start);
            let (end_line, end_column) = span.source.line_column(span.range.end);
            json!({"file": span.source.name(), "line": line, "column": column, "endLine": end_line, "endColumn": end_column})
        };
        let items: Vec<Value> = self
            .sorted()
            .into_iter()
            .map(|d| {
                let related: Vec<Value> = d.related.iter().map(|(s, label)| json!({"place": place(s), "label": label})).collect();
                json!({
                    "severity": d.severity.name(), "code": d.code, "message": d.message,
                    "place": d.span.as_ref().map(place), "label": d.label, "related": related, "help": d.help,
                })
            })
            .collect();
        json!({"errors": self.count(Severity::Error), "warnings": self.count(Severity::Warning), "diagnostics": items})
    }
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

impl Diagnostic {
    /// What diagnostics are sorted by. Diagnostics without a place come first.
    fn place(&self) -> Option<(&str, usize, usize)> {
        self.span.as_ref().map(|s| (s.source.name(), s.range.start, s.range.end))
    }

    /// What the renderer draws: the title, one excerpt per file (the first with the marked place), the advice.
    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()).id(self.code));
        // Only the lines from the first to the last place are handed over: files may be large.
        let mut marks: Vec<(&Span, &str, AnnotationKind)> = Vec::new();
        marks.extend(self.span.iter().map(|s| (s, self.label.as_str(), AnnotationKind::Primary)));
        marks.extend(self.related.iter().map(|(s, label)| (s, label.as_str(), AnnotationKind::Context)));
        while let Some((first, ..)) = marks.first() {
            let source = first.source.clone();
            let (here, elsewhere): (Vec<_>, Vec<_>) = marks.into_iter().partition(|(s, ..)| s.source.same(&source));
            marks = elsewhere;
            let start = here.iter().map(|(s, ..)| s.range.start).min().unwrap_or(0);
            let end = here.iter().map(|(s, ..)| s.range.end).max().unwrap_or(0);
            let (line, lines) = source.lines_around(start..end);
            let mut snippet = Snippet::source(source.text()[lines.clone()].to_string()).line_start(line).path(source.name().to_string());
            for (span, label, kind) in here {
                // A span's fields are public, so its range is made sound again here: the renderer insists on characters.
                let range = source.span(span.range.clone()).range;
                let clip = |offset: usize| offset.clamp(lines.start, lines.end) - lines.start;
                let annotation = kind.span(clip(range.start)..clip(range.end));
                snippet = snippet.annotation(if label.is_empty() { annotation } else { annotation.label(label) });
            }
            group = group.element(snippet);
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn example() -> Diagnostics {
        let text = "observableId\tsimulationConditionId\ttime\tmeasurement\r\nGFP_obs\tc0\t0.5\t13.9\r\nGFP_osb\tc0\t0.5\t-\r\n";
        let table = Source::new("measurements.tsv", text);
        let model =
            Source::new("model.xml", "<sbml>\n  <species id=\"GFP\" compartment=\"cel\"/>\n\n\n  <compartment id=\"cell\"/>\n</sbml>\n");
        let at =
            |source: &Source, what: &str| source.span(source.text().find(what).unwrap()..source.text().find(what).unwrap() + what.len());
        let mut all = Diagnostics::new();
        all.push(
            Diagnostic::error("S0117", "species `GFP` is placed in an unknown compartment `cel`")
                .at(&at(&model, "cel"), "no compartment has this id")
                .also(&at(&model, "cell"), "the model's only compartment")
                .suggest("cel", ["cell"]),
        );
        let minus = table.span(text.rfind('-').unwrap()..text.rfind('-').unwrap() + 1);
        all.push(
            Diagnostic::error("P0105", "`measurement` is not a number")
                .at(&minus, "expected a finite number")
                .help("delete the row to mark a missing value; PEtab has no NA"),
        );
        all.push(
            Diagnostic::error("P0203", "measurement refers to an undefined observable `GFP_osb`")
                .at(&at(&table, "GFP_osb"), "not in the observable table"),
        );
        all.push(Diagnostic::warning("P0505", "extension `x` is not known").help("it is ignored"));
        all
    }

    #[test]
    fn text_marks_places_behind_tabs_and_carriage_returns() {
        let expected = "\
warning[P0505]: extension `x` is not known
 |
 = help: it is ignored

error[P0203]: measurement refers to an undefined observable `GFP_osb`
 --> measurements.tsv:3:1
  |
3 | GFP_osb    c0    0.5    -
  | ^^^^^^^ not in the observable table

error[P0105]: `measurement` is not a number
 --> measurements.tsv:3:16
  |
3 | GFP_osb    c0    0.5    -
  |                         ^ expected a finite number
  |
  = help: delete the row to mark a missing value; PEtab has no NA

error[S0117]: species `GFP` is placed in an unknown compartment `cel`
 --> model.xml:2:34
  |
2 |   <species id=\"GFP\" compartment=\"cel\"/>
  |                                  ^^^ no compartment has this id
...
5 |   <compartment id=\"cell\"/>
  |                    ---- the model's only compartment
  |
  = help: did you mean `cell`?

3 errors, 1 warning
";
        assert_eq!(example().render(false), expected);
    }

    #[test]
    fn concise_form_is_one_line_each() {
        assert_eq!(
            example().concise(),
            "warning[P0505]: extension `x` is not known\n\
             measurements.tsv:3:1: error[P0203]: measurement refers to an undefined observable `GFP_osb`\n\
             measurements.tsv:3:16: error[P0105]: `measurement` is not a number\n\
             model.xml:2:34: error[S0117]: species `GFP` is placed in an unknown compartment `cel`\n"
        );
    }

    #[test]
    fn json_has_places_and_counts() {
        let json = example().to_json();
        assert_eq!(json["errors"], 3);
        assert_eq!(json["warnings"], 1);
        assert_eq!(json["diagnostics"][0]["place"], Value::Null);
        assert_eq!(json["diagnostics"][3]["place"], json!({"file": "model.xml", "line": 2, "column": 34, "endLine": 2, "endColumn": 37}));
        assert_eq!(json["diagnostics"][3]["related"][0]["place"]["line"], 5);
    }

    #[test]
    fn at_most_twenty_are_shown_and_errors_win() {
        let source = Source::new("a.tsv", "x\n".repeat(40));
        let mut all = Diagnostics::new();
        (0..30).for_each(|i| all.push(Diagnostic::warning("P0501", format!("w{i}")).at(&source.span(2 * i..2 * i + 1), "")));
        all.push(Diagnostic::error("P0101", "late error").at(&source.span(70..71), ""));
        let text = all.render(false);
        assert!(text.contains("late error") && text.contains("w18") && !text.contains("w19"));
        assert!(text.ends_with("... and 11 more\n1 error, 30 warnings\n"), "{text}");
    }

    #[test]
    fn color_adds_escapes_only() {
        let plain = example().render(false);
        let mut stripped = String::new();
        let mut escape = false;
        for c in example().render(true).chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                _ if escape => {}
                _ => stripped.push(c),
            }
        }
        let trim = |s: &str| s.lines().map(|l| l.trim_end().to_string()).collect::<Vec<_>>();
        assert_eq!(trim(&stripped), trim(&plain));
    }

    #[test]
    fn line_and_column_count_characters() {
        let source = Source::new("a", "\u{3b1}b\nc");
        assert_eq!(source.line_column(2), (1, 2));
        assert_eq!(source.line_column(3), (1, 3));
        assert_eq!(source.line_column(4), (2, 1));
        assert_eq!(source.line_column(99), (2, 2));
        assert_eq!(source.span(1..2).text(), "\u{3b1}", "whole characters");
        assert_eq!(source.span(4..99).text(), "c");
    }
}
