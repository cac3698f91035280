//! PEtab math.

use super::ast::Ast;
use std::ops::Range;

/// Why a formula could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Place in the formula, in bytes.
    pub range: Range<usize>,
    /// One sentence that names the thing in backticks.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Reads a formula of PEtab math (PEtab v2, appendix "Math expressions syntax").
pub fn parse(_text: &str) -> Result<Ast, ParseError> {
    todo!()
}
