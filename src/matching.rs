//! Which equation determines which unknown: a maximum matching between the two.
//!
//! Equations and unknowns are numbers; what they stand for is the caller's affair. With n equations, m mentions of unknowns
//! and k equations that do not get their first wish, the work is O(n + m + k m).

use std::collections::VecDeque;

/// A matching: no unknown is determined by two equations, and no matching has more pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// For each equation the unknown that it determines; `None` where all its candidates are needed by other equations.
    pub unknown_of: Vec<Option<usize>>,
    /// For each unknown the equation that determines it.
    pub equation_of: Vec<Option<usize>>,
}

/// Finds a maximum matching. `equations` holds for each equation the unknowns (below `unknowns`) that it could determine,
/// the preferred ones first.
///
/// Equations with one candidate come first, then the others in their order. Each takes its first candidate that is free; if
/// none is, the fewest possible earlier equations move on to another of their candidates. An equation that has an unknown
/// keeps some unknown, so of too many equations the later ones stay without.
pub fn matching(equations: &[Vec<usize>], unknowns: usize) -> Matching {
    let mut matching = Matching { unknown_of: vec![None; equations.len()], equation_of: vec![None; unknowns] };
    // The search in which an unknown was last seen, and the equation from which it was reached.
    let mut seen = vec![usize::MAX; unknowns];
    let mut from = vec![0; unknowns];
    let decided = (0..equations.len()).filter(|e| equations[*e].len() == 1);
    let open = (0..equations.len()).filter(|e| equations[*e].len() > 1);
    for start in decided.chain(open) {
        let mut queue = VecDeque::from([start]);
        let mut end = None;
        'search: while let Some(equation) = queue.pop_front() {
            for unknown in equations[equation].iter().copied().filter(|u| *u < unknowns) {
                if seen[unknown] == start {
                    continue;
                }
                seen[unknown] = start;
                from[unknown] = equation;
                match matching.equation_of[unknown] {
                    Some(owner) => queue.push_back(owner),
                    None => {
                        end = Some(unknown);
                        break 'search;
                    }
                }
            }
        }
        // Along the way back every equation gives up its unknown for the one behind it.
        while let Some(unknown) = end {
            let equation = from[unknown];
            end = matching.unknown_of[equation].replace(unknown);
            matching.equation_of[unknown] = Some(equation);
        }
    }
    matching
}

impl Matching {
    /// For an equation without an unknown: all equations that together have too few unknowns, this one included, in
    /// ascending order. `equations` is what the matching was made of.
    pub fn overdetermined(&self, equations: &[Vec<usize>], equation: usize) -> Vec<usize> {
        let mut reached = vec![false; equations.len()];
        let mut stack = vec![equation];
        while let Some(equation) = stack.pop() {
            if reached.get(equation).is_some_and(|reached| !reached) {
                reached[equation] = true;
                stack.extend(equations[equation].iter().filter_map(|unknown| self.equation_of.get(*unknown).copied().flatten()));
            }
        }
        (0..equations.len()).filter(|equation| reached[*equation]).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes_are_granted_in_order() {
        assert_eq!(matching(&[vec![2, 0], vec![1, 2]], 3).unknown_of, [Some(2), Some(1)]);
        // The first moves on rather than the third staying without.
        assert_eq!(matching(&[vec![0, 1], vec![0, 2], vec![0, 2]], 3).unknown_of, [Some(1), Some(2), Some(0)]);
        // An equation without a choice comes first, wherever it stands.
        assert_eq!(matching(&[vec![0, 1], vec![0]], 2).unknown_of, [Some(1), Some(0)]);
    }

    #[test]
    fn too_many_equations_are_named_together() {
        let equations = [vec![0, 1], vec![3, 2], vec![1, 0], vec![1], vec![]];
        let found = matching(&equations, 4);
        assert_eq!(found.unknown_of, [Some(0), Some(3), None, Some(1), None]);
        assert_eq!(found.overdetermined(&equations, 2), [0, 2, 3]);
        assert_eq!(found.overdetermined(&equations, 4), [4]);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let n = 100_000;
        // The last one drives all others one further.
        let mut equations: Vec<Vec<usize>> = (0..n).map(|i| vec![i, i + 1]).collect();
        equations.push(vec![0, 0]);
        let found = matching(&equations, n + 1);
        assert_eq!(found.unknown_of.iter().flatten().count(), n + 1);
        assert_eq!((found.unknown_of[0], found.unknown_of[n]), (Some(1), Some(0)));
    }

    /// The size of a maximum matching by trying everything.
    fn largest(equations: &[Vec<usize>], taken: u32) -> usize {
        let Some((first, rest)) = equations.split_first() else { return 0 };
        let without = largest(rest, taken);
        let with = first.iter().filter(|u| taken & 1 << **u == 0).map(|u| 1 + largest(rest, taken | 1 << *u)).max();
        without.max(with.unwrap_or(0))
    }

    proptest! {
        #[test]
        fn no_matching_is_larger(equations in prop::collection::vec(prop::collection::vec(0usize..6, 0..4), 0..7)) {
            let found = matching(&equations, 6);
            prop_assert_eq!(found.unknown_of.iter().flatten().count(), largest(&equations, 0));
            for (equation, unknown) in found.unknown_of.iter().enumerate() {
                match unknown {
                    Some(unknown) => {
                        prop_assert!(equations[equation].contains(unknown));
                        prop_assert_eq!(found.equation_of[*unknown], Some(equation));
                    }
                    None => {
                        let set = found.overdetermined(&equations, equation);
                        let candidates: std::collections::BTreeSet<usize> = set.iter().flat_map(|e| equations[*e].clone()).collect();
                        prop_assert_eq!(candidates.len() + 1, set.len());
                    }
                }
            }
        }
    }
}
