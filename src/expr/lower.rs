//! From the parsed tree to the graph. Iterative, so that a deep tree is no danger to the stack.

use super::ast::{Ast, AstKind};
use super::graph::{ExprId, Graph};

/// What is left to do.
enum Task<'a> {
    /// Lower this tree and push its value.
    Visit(&'a Ast),
    /// Pop the arguments' values, which were lowered before, and push the value of this node.
    Build(&'a Ast),
}

impl Graph {
    /// The expression of a tree.
    ///
    /// `resolve` is asked for the nodes whose meaning the caller knows: `Name`, `Time`, `Call`, `RateOf` and `Delay`. When
    /// it has no answer, lowering stops and the result is `None`.
    pub fn lower(&mut self, ast: &Ast, resolve: &mut dyn FnMut(&mut Graph, &Ast) -> Option<ExprId>) -> Option<ExprId> {
        let mut tasks = vec![Task::Visit(ast)];
        let mut values: Vec<ExprId> = Vec::new();
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit(node) => match &node.kind {
                    AstKind::Number(x) => values.push(self.constant(*x)),
                    AstKind::Name(_) | AstKind::Time | AstKind::Call(..) | AstKind::RateOf(_) | AstKind::Delay(..) => {
                        values.push(resolve(self, node)?);
                    }
                    AstKind::Unary(..) | AstKind::Binary(..) | AstKind::Piecewise(..) => {
                        tasks.push(Task::Build(node));
                        let first = tasks.len();
                        node.for_each_child(|child| tasks.push(Task::Visit(child)));
                        tasks[first..].reverse(); // names are asked for in the order of the text
                    }
                },
                Task::Build(node) => {
                    let value = self.build(node, &mut values)?;
                    values.push(value);
                }
            }
        }
        values.pop()
    }

    /// The expression of an operator node whose arguments stand at the end of `values`, which are taken away.
    fn build(&mut self, node: &Ast, values: &mut Vec<ExprId>) -> Option<ExprId> {
        match &node.kind {
            AstKind::Unary(op, _) => {
                let a = values.pop()?;
                Some(self.unary(*op, a))
            }
            AstKind::Binary(op, ..) => {
                let b = values.pop()?;
                let a = values.pop()?;
                Some(self.binary(*op, a, b))
            }
            AstKind::Piecewise(pieces, otherwise) => {
                let mut value = match otherwise {
                    Some(_) => values.pop()?,
                    None => self.constant(f64::NAN),
                };
                for _ in pieces {
                    let condition = values.pop()?;
                    let then = values.pop()?;
                    value = self.select(condition, then, value);
                }
                Some(value)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::expr::{Binary, Unary};

    #[test]
    fn deep_trees_and_names_in_order() {
        let mut ast = Ast::name("a");
        for name in ["b", "c"] {
            ast = Ast::binary(Binary::Add, ast, Ast::name(name));
        }
        for _ in 0..5000 {
            ast = Ast::unary(Unary::Sin, ast);
        }
        let mut graph = Graph::new();
        let mut seen = Vec::new();
        let e = graph.lower(&ast, &mut |g, node| {
            let AstKind::Name(name) = &node.kind else { return None };
            seen.push(name.clone());
            Some(g.symbol(name))
        });
        assert!(e.is_some());
        assert_eq!(seen, ["a", "b", "c"]);
        assert_eq!(graph.lower(&ast, &mut |_, _| None), None);
    }

    #[test]
    fn piecewise_without_otherwise_is_nan() {
        let piece = |c: f64| (Ast::number(5.0), Ast::number(c));
        let ast = |c| Ast { kind: AstKind::Piecewise(vec![piece(0.0), piece(c)], None), range: 0..0 };
        let mut graph = Graph::new();
        let mut value = |c| {
            let e = graph.lower(&ast(c), &mut |_, _| None).unwrap();
            graph.constant_value(e).unwrap()
        };
        assert_eq!(value(1.0), 5.0);
        assert!(value(0.0).is_nan());
    }
}
