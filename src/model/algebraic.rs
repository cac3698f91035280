//! Algebraic rules (SBML level 3 version 2, section 4.9.2): which variable each determines, and its value.
//!
//! Rules and the variables that nothing else determines are matched one to one; rules that need each other form blocks. A block that
//! is linear in its variables is solved symbolically. The variables of any other block become states: the equation is
//! differentiated, and their initial values solve it ([`Invariant`](super::system::Invariant)).

use super::build::{Builder, Residual, Stage, symbol_of};
use super::entities::Kind;
use super::rates::extent_name;
use crate::diag::Diagnostic;
use crate::expr::{ExprId, Graph, SymbolId};
use rustc_hash::FxHashMap;

impl<'a> Builder<'a> {
    /// Finds what the algebraic rules determine, and what keeps fast reactions in equilibrium.
    pub(super) fn solve_algebraic_rules(&mut self) {
        let model = self.model;
        let mut rules = Vec::new();
        for rule in &model.algebraic_rules {
            if let Some(residual) = self.lower_sbml(&rule.formula, &rule.span, Stage::Running) {
                // A rule without variables says nothing that could be solved for.
                if self.graph.constant_value(residual).is_none() {
                    rules.push((rule, residual));
                }
            }
        }
        if !rules.is_empty() {
            let candidates = self.candidates();
            let symbols: Vec<SymbolId> = candidates.iter().map(|id| self.symbol_of(id)).collect();
            let graph = &self.graph;
            let mentioned: Vec<Vec<usize>> =
                rules.iter().map(|(_, r)| (0..symbols.len()).filter(|u| graph.depends_on(*r, symbols[*u])).collect()).collect();
            let matching = match_equations(&mentioned, symbols.len());
            for ((rule, _), matched) in rules.iter().zip(&matching) {
                if matched.is_none() {
                    self.diagnostics.push(
                        Diagnostic::error("M0104", "an algebraic rule has no variable left to determine")
                            .at(&rule.span, "everything in it is constant or determined by other rules or reactions")
                            .help("the model is overdetermined: remove a rule, or let a variable of this one vary (constant=\"false\")"),
                    );
                }
            }
            let pairs: Vec<(ExprId, usize)> = rules.iter().zip(&matching).filter_map(|((_, r), m)| Some((*r, (*m)?))).collect();
            let residuals: Vec<ExprId> = pairs.iter().map(|p| p.0).collect();
            let unknowns: Vec<SymbolId> = pairs.iter().map(|p| symbols[p.1]).collect();
            let ids: Vec<&'a str> = pairs.iter().map(|p| candidates[p.1]).collect();
            self.solve_blocks(&residuals, &unknowns, &ids);
            // What was lowered so far does not know the solutions.
            self.running.clear();
            self.rates.clear();
            self.rates.resize(self.state_ids.len(), None);
        }
        self.add_fast_reactions();
    }

    /// Variables that nothing determines yet, those that events set last.
    fn candidates(&self) -> Vec<&'a str> {
        let model = self.model;
        let variable = |id: &str| {
            model.species.iter().any(|s| s.id == id && !s.constant)
                || model.compartments.iter().any(|c| c.id == id && !c.constant)
                || model.parameters.iter().any(|p| p.id == id && !p.constant)
                || self.references.get(id).is_some_and(|r| !r.constant)
        };
        let free = self.kinds.iter().filter(|(_, kind)| **kind == Kind::Parameter).map(|(id, _)| *id);
        let (late, early): (Vec<_>, Vec<_>) = free.filter(|id| variable(id)).partition(|id| self.event_targets.contains(id));
        early.into_iter().chain(late).collect()
    }

    /// Solves block by block, blocks that others need first.
    fn solve_blocks(&mut self, residuals: &[ExprId], unknowns: &[SymbolId], ids: &[&'a str]) {
        let n = residuals.len();
        // reaches[a][b]: solving equation a needs the variable of b.
        let mut reaches: Vec<Vec<bool>> =
            residuals.iter().map(|r| unknowns.iter().map(|u| self.graph.depends_on(*r, *u)).collect()).collect();
        for k in 0..n {
            for a in 0..n {
                if reaches[a][k] {
                    for b in 0..n {
                        reaches[a][b] |= reaches[k][b];
                    }
                }
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

/// Matches every equation to one of the unknowns in it, each unknown at most once; earlier unknowns are preferred (augmenting paths).
fn match_equations(mentioned: &[Vec<usize>], unknowns: usize) -> Vec<Option<usize>> {
    fn augment(equation: usize, mentioned: &[Vec<usize>], owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for &u in &mentioned[equation] {
            if !std::mem::replace(&mut seen[u], true) && owner[u].is_none_or(|other| augment(other, mentioned, owner, seen)) {
                owner[u] = Some(equation);
                return true;
            }
        }
        false
    }
    let mut owner = vec![None; unknowns];
    for equation in 0..mentioned.len() {
        augment(equation, mentioned, &mut owner, &mut vec![false; unknowns]);
    }
    let mut matching = vec![None; mentioned.len()];
    for (u, equation) in owner.into_iter().enumerate() {
        if let Some(equation) = equation {
            matching[equation] = Some(u);
        }
    }
    matching
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
            for j in k + 1..=n {
                let product = graph.mul(factor, matrix[k][j]);
                matrix[i][j] = graph.sub(matrix[i][j], product);
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
