//! Which symbols an expression depends on: interned sorted sets, one id per node of the graph.
//!
//! Expressions of a reaction network depend on few symbols and share their sets, so the sets cost little beside the
//! nodes, and the question whether a derivative vanishes is a binary search.

use super::graph::SymbolId;
use rustc_hash::FxHashMap;

/// An interned set. 0 is the empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SetId(u32);

impl SetId {
    /// The empty set.
    pub const EMPTY: SetId = SetId(0);
}

/// All sets of a graph.
#[derive(Debug, Clone)]
pub(super) struct SymbolSets {
    sets: Vec<Box<[SymbolId]>>,
    index: FxHashMap<Box<[SymbolId]>, SetId>,
    unions: FxHashMap<(SetId, SetId), SetId>,
}

impl Default for SymbolSets {
    fn default() -> Self {
        let empty: Box<[SymbolId]> = Box::default();
        SymbolSets { sets: vec![empty.clone()], index: FxHashMap::from_iter([(empty, SetId::EMPTY)]), unions: FxHashMap::default() }
    }
}

impl SymbolSets {
    /// The members of a set, sorted.
    pub fn members(&self, set: SetId) -> &[SymbolId] {
        &self.sets[set.0 as usize]
    }

    /// Whether `symbol` is a member of `set`.
    pub fn contains(&self, set: SetId, symbol: SymbolId) -> bool {
        self.members(set).binary_search(&symbol).is_ok()
    }

    /// The set of one symbol.
    pub fn single(&mut self, symbol: SymbolId) -> SetId {
        self.intern(Box::new([symbol]))
    }

    /// The union of two sets.
    pub fn union(&mut self, a: SetId, b: SetId) -> SetId {
        if a == b || b == SetId::EMPTY {
            return a;
        }
        if a == SetId::EMPTY {
            return b;
        }
        let key = (a.min(b), a.max(b));
        if let Some(set) = self.unions.get(&key) {
            return *set;
        }
        let merged = merge(self.members(a), self.members(b));
        let set = self.intern(merged.into());
        self.unions.insert(key, set);
        set
    }

    fn intern(&mut self, members: Box<[SymbolId]>) -> SetId {
        if let Some(set) = self.index.get(&members) {
            return *set;
        }
        let set = SetId(u32::try_from(self.sets.len()).expect("fewer sets than nodes, which are fewer than 2^32"));
        self.sets.push(members.clone());
        self.index.insert(members, set);
        set
    }
}

/// Merges two sorted lists without repetition.
fn merge(a: &[SymbolId], b: &[SymbolId]) -> Vec<SymbolId> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let next = a[i].min(b[j]);
        merged.push(next);
        i += usize::from(a[i] == next);
        j += usize::from(b[j] == next);
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}
