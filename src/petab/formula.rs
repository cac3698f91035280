//! Table cells that hold PEtab math, with short cuts for what most cells are: a number or a name.

use super::Formula;
use super::table::{Cell, is_id, parse_number};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::{Ast, AstKind};

/// Names that stand for something else in PEtab math when they are written in lower case.
const WORDS: [&str; 5] = ["time", "inf", "true", "false", "nan"];

/// Reads the formula of a cell. `None` if the cell is empty or cannot be read, which is reported.
pub fn read(cell: &Cell, diagnostics: &mut Diagnostics) -> Option<Formula> {
    if cell.is_empty() {
        cell.empty("a formula", diagnostics);
        return None;
    }
    parse(cell.text(), cell.span(), diagnostics)
}

/// Reads a formula that stands at `span`.
pub fn parse(text: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<Formula> {
    if let Some(value) = parse_number(text).filter(|v| !v.is_nan()) {
        return Some(Formula { ast: Ast { kind: AstKind::Number(value), range: 0..text.len() }, span });
    }
    if is_id(text) && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return Some(Formula { ast: Ast { kind: AstKind::Name(text.to_string()), range: 0..text.len() }, span });
    }
    match crate::expr::parse(text) {
        Ok(ast) => Some(Formula { ast, span }),
        Err(error) => {
            let place = if error.range.is_empty() { error.range.start..error.range.start + 1 } else { error.range.clone() };
            // An error at the end of the formula is marked at its last character.
            let place = if place.start >= text.len() { text.len().saturating_sub(1)..text.len() } else { place };
            let diagnostic = Diagnostic::error("P0302", "a formula cannot be read").at(&span.part(place), error.message);
            let diagnostic = match error.help {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            };
            diagnostics.push(diagnostic);
            None
        }
    }
}

/// Calls `visit` for every name in a formula, with its place.
pub fn names(formula: &Formula, visit: &mut dyn FnMut(&str, Span)) {
    formula.ast.walk(&mut |node| {
        if let AstKind::Name(name) = &node.kind {
            visit(name, formula.span.part(node.range.clone()));
        }
    });
}
