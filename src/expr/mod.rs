//! Expressions: parse, build, differentiate, print, evaluate.
//!
//! A formula is read into an [`Ast`] (names unresolved, every node with its place), then lowered into a [`Graph`], where
//! equal subexpressions are one node. Invariants of the graph: hash-consed, children before parents, so an [`ExprId`]
//! is also a topological position. The interpreter ([`Graph::evaluate`]) is slow and obvious; it is the oracle of the JIT.

pub mod ast;
mod derivative;
mod graph;
mod interpret;
pub mod op;
mod parse;
mod print;

pub use ast::{Ast, AstKind};
pub use graph::{ExprId, Graph, Node, SymbolId};
pub use op::{Binary, Unary};
pub use parse::{ParseError, parse};
