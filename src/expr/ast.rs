//! The tree that the parsers (PEtab math, MathML) produce: names are not resolved yet, every node knows its place.

use super::op::{Binary, Unary};
use std::ops::Range;

/// A parsed formula.
#[derive(Debug, Clone, PartialEq)]
pub struct Ast {
    /// What it is.
    pub kind: AstKind,
    /// Byte range: within the formula's own text for PEtab math, within the whole file for MathML.
    pub range: Range<usize>,
}

/// The node kinds. Operators with any number of arguments are folded by the parsers into chains of binary ones.
#[derive(Debug, Clone, PartialEq)]
pub enum AstKind {
    /// A literal number (booleans are 1 and 0; may be infinite or, from MathML, NaN).
    Number(f64),
    /// An identifier.
    Name(String),
    /// The simulation time (`time` in PEtab math, the csymbol in MathML).
    Time,
    /// Operator or elementary function of one argument.
    Unary(Unary, Box<Ast>),
    /// Operator or function of two arguments.
    Binary(Binary, Box<Ast>, Box<Ast>),
    /// Value-condition pairs, first true condition wins; without `otherwise` and without a true condition the value is NaN.
    Piecewise(Vec<(Ast, Ast)>, Option<Box<Ast>>),
    /// Call of a user-defined function (SBML function definitions only).
    Call(String, Vec<Ast>),
    /// csymbol `rateOf`.
    RateOf(Box<Ast>),
    /// csymbol `delay`: value, delay.
    Delay(Box<Ast>, Box<Ast>),
}

impl Ast {
    /// A literal without a place.
    pub fn number(value: f64) -> Self {
        Ast { kind: AstKind::Number(value), range: 0..0 }
    }

    /// An identifier without a place.
    pub fn name(name: impl Into<String>) -> Self {
        Ast { kind: AstKind::Name(name.into()), range: 0..0 }
    }

    /// Calls `visit` for every node, parents first, arguments from left to right.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Ast)) {
        // An explicit stack, since chains of operations can be deeper than the call stack.
        let mut stack = vec![self];
        while let Some(ast) = stack.pop() {
            visit(ast);
            match &ast.kind {
                AstKind::Number(_) | AstKind::Name(_) | AstKind::Time => {}
                AstKind::Unary(_, a) | AstKind::RateOf(a) => stack.push(a),
                AstKind::Binary(_, a, b) | AstKind::Delay(a, b) => stack.extend([&**b, &**a]),
                AstKind::Call(_, arguments) => stack.extend(arguments.iter().rev()),
                AstKind::Piecewise(pieces, otherwise) => {
                    stack.extend(otherwise.as_deref());
                    stack.extend(pieces.iter().rev().flat_map(|(value, condition)| [condition, value]));
                }
            }
        }
    }
}
