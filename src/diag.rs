//! Diagnostics: what is wrong with the input, where, and what to do about it.
//!
//! Readers and checks push into a [`Diagnostics`] sink and go on, so that a user sees all problems of an input at
//! once. Only the boundary of a stage turns "has errors" into a failure. Every diagnostic has a stable code: `S` SBML,
//! `P` PEtab (01 table syntax, 02 references, 03 formulas, 04 extension `nlme`), `M` model building.

use std::ops::Range;
use std::sync::Arc;

/// A text that was read, with the name under which messages refer to it. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Source(Arc<SourceText>);

#[derive(Debug)]
struct SourceText {
    name: String,
    text: String,
}

impl Source {
    /// A source named `name` (normally the path as the user would write it) holding `text`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Source(Arc::new(SourceText { name: name.into(), text: text.into() }))
    }

    /// The name used in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// A span of this source; `range` is in bytes and is clipped to the text.
    pub fn span(&self, range: Range<usize>) -> Span {
        let end = range.end.min(self.text().len());
        Span { source: self.clone(), range: range.start.min(end)..end }
    }

    /// Line and column, both counted from 1 and in characters, of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text().as_bytes()[..offset.min(self.text().len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        (line, column)
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
        self.source.span(self.range.start + range.start..(self.range.start + range.end).min(self.range.end.max(self.range.start + range.start)))
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
}
