//! Expressions as text.

use super::graph::{ExprId, Graph};

impl Graph {
    /// The expression in infix notation.
    pub fn print(&self, e: ExprId) -> String {
        format!("{:?}", self.node(e))
    }
}
