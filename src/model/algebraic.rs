//! Algebraic rules (SBML level 3 version 2, section 4.9.2): which variable each determines, and its value.
//!
//! Rules and the variables that nothing else determines are matched one to one (`sbml/determination.rs`); rules that need each
//! other form blocks. A block that is linear in its variables is solved symbolically. The variables of any other block become states: the equation is
//! differentiated, and their initial values solve it ([`Invariant`](super::system::Invariant)).

use super::build::{Builder, Residual, Stage, symbol_of};
use super::entities::Kind;
use super::rates::extent_name;
use crate::expr::{ExprId, Graph, SymbolId};
use rustc_hash::FxHashMap;

impl<'a> Builder<'a> {
    /// Finds what the algebraic rules determine, and what keeps fast reactions in equilibrium.
    pub(super) fn solve_algebraic_rules(&mut self) {
        let model = self.model;
        let determined = crate::sbml::determined_by_algebraic_rules(model);
        let mut pairs: Vec<(ExprId, &'a str)> = Vec::new();
        for (rule, id) in model.algebraic_rules.iter().zip(determined) {
            // Reading the model has checked that there are not too many rules.
            let id = id.and_then(|id| self.kinds.get_key_value(id.as_str()).map(|(id, _)| *id));
            if let (Some(residual), Some(id)) = (self.lower_sbml(&rule.formula, &rule.span, Stage::Running), id) {
                pairs.push((residual, id));
            }
        }
        if !pairs.is_empty() {
            let residuals: Vec<ExprId> = pairs.iter().map(|p| p.0).collect();
            let ids: Vec<&'a str> = pairs.iter().map(|p| p.1).collect();
            let unknowns: Vec<SymbolId> = ids.iter().map(|id| self.symbol_of(id)).collect();
            self.solve_blocks(&residuals, &unknowns, &ids);
            // What was lowered so far does not know the solutions.
            self.running.clear();
            self.rates.clear();
            self.rates.resize(self.state_ids.len(), None);
        }
        self.add_fast_reactions();
    }

    /// Solves block by block, blocks that others need first.
    fn solve_blocks(&mut self, residuals: &[ExprId], unknowns: &[SymbolId], ids: &[&'a str]) {
        let n = residuals.len();
        // reaches[a][b]: solving equation a needs the variable of b.
        let mut reaches: Vec<Vec<bool>> =
            residuals.iter().map(|r| unknowns.iter().map(|u| self.graph.depends_on(*r, *u)).collect()).collect();
        for k in 0..n {
            let through = reaches[k].clone();
            for row in reaches.iter_mut().filter(|row| row[k]) {
                row.iter_mut().zip(&through).for_each(|(reached, further)| *reached |= further);
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|a| reaches[*a].iter().filter(|r| **r).count());
        let mut solved: FxHashMap<SymbolId, ExprId> = FxHashMap::default();
        let mut done = vec![false; n];
        for a in order {
            if done[a] {
                continue;
            }
            let block: Vec<usize> = (0..n).filter(|b| *b == a || (reaches[a][*b] && reaches[*b][a])).collect();
            let equations: Vec<ExprId> = block.iter().map(|b| residuals[*b]).collect();
            let equations = self.graph.substitute(&equations, &solved);
            let symbols: Vec<SymbolId> = block.iter().map(|b| unknowns[*b]).collect();
            match solve_linear(&mut self.graph, &equations, &symbols, false) {
                Some(solution) => {
                    for (b, value) in block.iter().zip(solution) {
                        self.kinds.insert(ids[*b], Kind::Solved(value));
                        solved.insert(unknowns[*b], value);
                    }
                }
                None => {
                    for (b, residual) in block.iter().zip(equations) {
                        self.state_ids.push(ids[*b]);
                        self.kinds.insert(ids[*b], Kind::State(self.state_ids.len() - 1));
                        let rate = symbol_of(&mut self.graph, &extent_name(ids[*b]));
                        self.residuals.push(Residual { residual, rate, positive: false });
                    }
                }
            }
            block.into_iter().for_each(|b| done[b] = true);
        }
    }
}

/// The unknowns for which all `equations` are 0, if these are linear in them; by elimination. With `guarded`, an unknown whose pivot
/// is 0 becomes 0 (a fast reaction that is switched off).
pub(super) fn solve_linear(graph: &mut Graph, equations: &[ExprId], unknowns: &[SymbolId], guarded: bool) -> Option<Vec<ExprId>> {
    let n = unknowns.len();
    let zero = graph.constant(0.0);
    let nothing: FxHashMap<SymbolId, ExprId> = unknowns.iter().map(|u| (*u, zero)).collect();
    let mut matrix: Vec<Vec<ExprId>> = Vec::with_capacity(n);
    for e in equations {
        let mut row: Vec<ExprId> = unknowns.iter().map(|u| graph.derivative(*e, *u)).collect();
        if graph.symbols_of(&row).iter().any(|s| unknowns.contains(s)) {
            return None;
        }
        let rest = graph.substitute(&[*e], &nothing)[0];
        row.push(graph.neg(rest));
        matrix.push(row);
    }
    for k in 0..n {
        // A number makes the best pivot, since it cannot become 0.
        let usable = |graph: &Graph, e: ExprId| graph.constant_value(e).is_none_or(|v| v != 0.0);
        let pivot = (k..n).filter(|i| usable(graph, matrix[*i][k])).min_by_key(|i| graph.constant_value(matrix[*i][k]).is_none());
        let Some(pivot) = pivot else {
            if guarded {
                continue;
            }
            return None;
        };
        matrix.swap(k, pivot);
        for i in k + 1..n {
            if matrix[i][k] == zero {
                continue;
            }
            let factor = quotient(graph, matrix[i][k], matrix[k][k], guarded);
            let pivot_row = matrix[k].clone();
            for (entry, of_pivot) in matrix[i].iter_mut().zip(pivot_row).skip(k + 1) {
                let product = graph.mul(factor, of_pivot);
                *entry = graph.sub(*entry, product);
            }
        }
    }
    let mut solution = vec![zero; n];
    for k in (0..n).rev() {
        let mut right = matrix[k][n];
        for j in k + 1..n {
            let product = graph.mul(matrix[k][j], solution[j]);
            right = graph.sub(right, product);
        }
        solution[k] = quotient(graph, right, matrix[k][k], guarded);
    }
    Some(solution)
}

fn quotient(graph: &mut Graph, a: ExprId, b: ExprId, guarded: bool) -> ExprId {
    let value = graph.div(a, b);
    if !guarded || graph.constant_value(b).is_some_and(|v| v != 0.0) {
        return value;
    }
    let zero = graph.constant(0.0);
    graph.select(b, value, zero)
}
