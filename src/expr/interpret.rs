//! The slow obvious evaluator: oracle of the JIT and fallback where there is none.

use super::graph::{ExprId, Graph, Node, SymbolId};
use rustc_hash::FxHashMap;

impl Graph {
    /// Values of the expressions; `value` gives those of the symbols.
    pub fn evaluate(&self, expressions: &[ExprId], value: &dyn Fn(SymbolId) -> f64) -> Vec<f64> {
        let nodes = self.reachable(expressions);
        let mut values: FxHashMap<ExprId, f64> = FxHashMap::default();
        for e in nodes {
            let v = match self.node(e) {
                Node::Constant(bits) => f64::from_bits(bits),
                Node::Symbol(s) => value(s),
                Node::Unary(op, a) => op.apply(values[&a]),
                Node::Binary(op, a, b) => op.apply(values[&a], values[&b]),
                Node::Select(c, a, b) => values[if values[&c] != 0.0 { &a } else { &b }],
            };
            values.insert(e, v);
        }
        expressions.iter().map(|e| values[e]).collect()
    }
}
