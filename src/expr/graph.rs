//! The hash-consed expression graph and its smart constructors.

use super::op::{Binary, Unary};
use rustc_hash::FxHashMap;

/// An expression of a [`Graph`]. Smaller ids never depend on larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExprId(pub(crate) u32);

/// A named input of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId(pub(crate) u32);

/// A node. Constants are held by their bits so that nodes can be compared and hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// Bits of an f64.
    Constant(u64),
    /// A named input.
    Symbol(SymbolId),
    /// One argument.
    Unary(Unary, ExprId),
    /// Two arguments.
    Binary(Binary, ExprId, ExprId),
    /// `condition != 0 ? then : otherwise`; the branch not taken may be anything, NaN included.
    Select(ExprId, ExprId, ExprId),
}

/// A directed acyclic graph of expressions over named symbols.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) index: FxHashMap<Node, ExprId>,
    pub(super) names: Vec<String>,
    pub(super) by_name: FxHashMap<String, SymbolId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }
}
