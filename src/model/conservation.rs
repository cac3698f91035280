//! Conserved quantities: linear combinations of states whose rates cancel.
//!
//! At a steady state the rates do not say what a conserved quantity is; its value at the start does (DESIGN.md 2.6). Every
//! rate is written as a sum of terms with numeric coefficients (for reactions: stoichiometry times rate), x' = N v. The rows
//! of N that are linear combinations of others, found by Gaussian elimination, give the conserved quantities (Reder 1988,
//! J. Theor. Biol. 135:175, there for the stoichiometric matrix).

use super::system::OdeSystem;
use crate::expr::{Binary, ExprId, Graph, Node, Unary};
use std::collections::BTreeMap;

/// Entries this small beside what they are the difference of are rounding errors.
const CANCELS: f64 = 1e-11;

/// A conserved quantity: the sum of weight times state does not change between jumps.
#[derive(Debug, Clone, PartialEq)]
pub struct Conservation {
    /// States and their weights, in order of the states.
    pub weights: Vec<(usize, f64)>,
    /// The state whose rate follows from the others'.
    pub dependent: usize,
}

/// A row of N, or a combination of rows.
type Row = BTreeMap<u32, f64>;

/// All independent conserved quantities of a system.
pub fn conserved(system: &OdeSystem) -> Vec<Conservation> {
    let mut found = Vec::new();
    // Reduced rows with their pivots, each with the combination of states it stands for.
    let mut reduced: Vec<(u32, Row, Row)> = Vec::new();
    let mut by_pivot: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, state) in system.states.iter().enumerate() {
        let mut row = terms(&system.graph, state.rate);
        let mut combination = Row::from([(i as u32, 1.0)]);
        // Eliminating a pivot can bring in later ones, so the search starts again.
        while let Some((pivot, place)) = row.keys().find_map(|term| by_pivot.get(term).map(|place| (*term, *place))) {
            let (_, other, other_combination) = &reduced[place];
            let factor = row[&pivot] / other[&pivot];
            subtract(&mut row, other, factor);
            row.remove(&pivot);
            subtract(&mut combination, other_combination, factor);
        }
        // The largest entry as the pivot keeps factors small.
        match row.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) {
            Some((pivot, _)) => {
                let pivot = *pivot;
                by_pivot.insert(pivot, reduced.len());
                // Earlier rows may hold the new pivot; they are cleared of it so that every search ends.
                for (_, other, other_combination) in &mut reduced {
                    if let Some(value) = other.get(&pivot).copied() {
                        let factor = value / row[&pivot];
                        subtract(other, &row, factor);
                        other.remove(&pivot);
                        subtract(other_combination, &combination, factor);
                    }
                }
                reduced.push((pivot, row, combination));
            }
            None => {
                let weights = combination.into_iter().map(|(state, weight)| (state as usize, weight)).collect();
                found.push(Conservation { weights, dependent: i });
            }
        }
    }
    found
}

/// a -= factor b, without what cancels.
fn subtract(a: &mut Row, b: &Row, factor: f64) {
    for (key, value) in b {
        let change = factor * value;
        let entry = a.entry(*key).or_insert(0.0);
        let size = entry.abs().max(change.abs());
        *entry -= change;
        if entry.abs() <= CANCELS * size {
            a.remove(key);
        }
    }
}

/// A rate as a sum of terms, by the index of the term's node. Constants are terms as well.
fn terms(graph: &Graph, rate: ExprId) -> Row {
    let mut row = Row::new();
    let mut sizes = Row::new();
    let mut stack = vec![(rate, 1.0)];
    while let Some((e, factor)) = stack.pop() {
        let constant = |e: ExprId| graph.constant_value(e).filter(|v| v.is_finite());
        match graph.node(e) {
            Node::Unary(Unary::Neg, a) => stack.push((a, -factor)),
            Node::Binary(Binary::Add, a, b) => stack.extend([(a, factor), (b, factor)]),
            Node::Binary(Binary::Sub, a, b) => stack.extend([(a, factor), (b, -factor)]),
            Node::Binary(Binary::Mul, a, b) if constant(a).is_some() => stack.push((b, factor * constant(a).unwrap_or(1.0))),
            Node::Binary(Binary::Mul, a, b) if constant(b).is_some() => stack.push((a, factor * constant(b).unwrap_or(1.0))),
            Node::Binary(Binary::Div, a, b) if constant(b).is_some_and(|v| v != 0.0) => {
                stack.push((a, factor / constant(b).unwrap_or(1.0)));
            }
            Node::Constant(_) if constant(e) == Some(0.0) => {}
            _ => {
                *row.entry(e.0).or_insert(0.0) += factor;
                *sizes.entry(e.0).or_insert(0.0) += factor.abs();
            }
        }
    }
    row.retain(|key, value| value.abs() > CANCELS * sizes[key]);
    row
}
