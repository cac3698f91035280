//! Formulas as short texts, for tests of readers.

use mixode::expr::{Ast, AstKind};

/// A formula in a compact form without places: `Add(a, 1)`.
pub fn show(ast: &Ast) -> String {
    let list = |parts: Vec<String>| parts.join(", ");
    match &ast.kind {
        AstKind::Number(value) => value.to_string(),
        AstKind::Name(name) => name.clone(),
        AstKind::Time => "time".to_owned(),
        AstKind::Unary(op, a) => format!("{op:?}({})", show(a)),
        AstKind::Binary(op, a, b) => format!("{op:?}({}, {})", show(a), show(b)),
        AstKind::Call(name, arguments) => format!("{name}({})", list(arguments.iter().map(show).collect())),
        AstKind::RateOf(a) => format!("rateOf({})", show(a)),
        AstKind::Delay(a, b) => format!("delay({}, {})", show(a), show(b)),
        AstKind::Piecewise(pieces, otherwise) => {
            let pieces = pieces.iter().map(|(value, condition)| format!("{} if {}", show(value), show(condition)));
            format!("piecewise({})", list(pieces.chain(otherwise.as_deref().map(show)).collect()))
        }
    }
}
