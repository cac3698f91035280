//! The interpreter: slow and obvious. It is the oracle of the machine code.

use super::graph::{ExprId, Graph, Node, SymbolId};

impl Graph {
    /// Values of the expressions where each symbol has the value that `value_of` gives.
    ///
    /// Both branches of a `Select` are computed and one is taken, so that NaN and infinity in the other do no harm;
    /// `value_of` is asked for the symbols of both.
    pub fn evaluate(&self, expressions: &[ExprId], value_of: &dyn Fn(SymbolId) -> f64) -> Vec<f64> {
        let order = self.reachable(expressions);
        let mut values = vec![0.0; order.last().map_or(0, |e| e.0 as usize + 1)];
        for e in order {
            let value = |a: ExprId| values[a.0 as usize];
            values[e.0 as usize] = match self.node(e) {
                Node::Constant(bits) => f64::from_bits(bits),
                Node::Symbol(s) => value_of(s),
                Node::Unary(op, a) => op.apply(value(a)),
                Node::Binary(op, a, b) => op.apply(value(a), value(b)),
                Node::Select(c, a, b) => {
                    if value(c) != 0.0 {
                        value(a)
                    } else {
                        value(b)
                    }
                }
            };
        }
        expressions.iter().map(|e| values[e.0 as usize]).collect()
    }
}
