//! The tree that the parsers (PEtab math, MathML) produce: names are not resolved yet, every node knows its place.

use super::op::{Binary, Unary};
use std::ops::Range;

/// Longest chain of one operator that is kept as it was written, from left to right.
pub const LONG_CHAIN: usize = 32;

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

    /// An operator or function of one argument, at the argument's place.
    pub fn unary(op: Unary, a: Ast) -> Self {
        let range = a.range.clone();
        Ast { kind: AstKind::Unary(op, Box::new(a)), range }
    }

    /// An operator or function of two arguments, at the place from the first one to the second.
    pub fn binary(op: Binary, a: Ast, b: Ast) -> Self {
        let range = a.range.start.min(b.range.start)..a.range.end.max(b.range.end);
        Ast { kind: AstKind::Binary(op, Box::new(a), Box::new(b)), range }
    }

    /// `terms[0] op terms[1] op ...` for an associative operator; `None` without terms. A chain of up to [`LONG_CHAIN`] terms goes
    /// from left to right; a longer one becomes a balanced tree, so that thousands of terms make no deep tree.
    pub fn chain(op: Binary, terms: Vec<Ast>) -> Option<Self> {
        if terms.len() <= LONG_CHAIN {
            return terms.into_iter().reduce(|a, b| Ast::binary(op, a, b));
        }
        let mut level = terms;
        while level.len() > 1 {
            let mut pairs = Vec::with_capacity(level.len().div_ceil(2));
            let mut rest = level.into_iter();
            while let Some(a) = rest.next() {
                pairs.push(match rest.next() {
                    Some(b) => Ast::binary(op, a, b),
                    None => a,
                });
            }
            level = pairs;
        }
        level.pop()
    }

    /// Calls `visit` for the direct children, in the order of the text.
    pub(super) fn for_each_child<'a>(&'a self, mut visit: impl FnMut(&'a Ast)) {
        match &self.kind {
            AstKind::Number(_) | AstKind::Name(_) | AstKind::Time => {}
            AstKind::Unary(_, a) | AstKind::RateOf(a) => visit(a),
            AstKind::Binary(_, a, b) | AstKind::Delay(a, b) => {
                visit(a);
                visit(b);
            }
            AstKind::Call(_, arguments) => arguments.iter().for_each(visit),
            AstKind::Piecewise(pieces, otherwise) => {
                for (value, condition) in pieces {
                    visit(value);
                    visit(condition);
                }
                if let Some(a) = otherwise {
                    visit(a);
                }
            }
        }
    }

    /// Calls `visit` for every node, parents first. Iterative, so that a deep tree is no danger to the stack.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Ast)) {
        let mut stack = vec![self];
        while let Some(node) = stack.pop() {
            visit(node);
            let first = stack.len();
            node.for_each_child(|child| stack.push(child));
            stack[first..].reverse();
        }
    }
}
