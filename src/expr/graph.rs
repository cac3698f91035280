//! The hash-consed expression graph and its smart constructors.
//!
//! The constructors fold constants and apply local identities. Each identity holds for all finite values, to the last bit
//! but for the sign of zero and for the merging of whole-number factors, which may move a rounding; what could turn NaN or
//! an infinity of finite inputs into a number (`x/x`, `0/x`) is left alone. They look at most two levels deep.

use super::depends::{SetId, SymbolSets};
use super::op::{Binary, Unary, truth};
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

impl Node {
    /// Calls `visit` for every argument, in order.
    pub(crate) fn for_each_argument(self, mut visit: impl FnMut(ExprId)) {
        match self {
            Node::Constant(_) | Node::Symbol(_) => {}
            Node::Unary(_, a) => visit(a),
            Node::Binary(_, a, b) => {
                visit(a);
                visit(b);
            }
            Node::Select(c, a, b) => {
                visit(c);
                visit(a);
                visit(b);
            }
        }
    }
}

/// A directed acyclic graph of expressions over named symbols.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    index: FxHashMap<Node, ExprId>,
    names: Vec<String>,
    by_name: FxHashMap<String, SymbolId>,
    /// Symbols of each node.
    depends: Vec<SetId>,
    sets: SymbolSets,
    /// Derivatives made so far.
    pub(super) derivatives: FxHashMap<(ExprId, SymbolId), ExprId>,
}

/// Sums up to this length are plain chains from left to right; longer ones are balanced trees.
const CHAIN: usize = 16;

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of nodes made so far.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of an expression.
    pub fn node(&self, e: ExprId) -> Node {
        self.nodes[e.0 as usize]
    }

    /// The one node equal to `node`, new or old. No simplification.
    fn intern(&mut self, node: Node) -> ExprId {
        if let Some(e) = self.index.get(&node) {
            return *e;
        }
        let e = ExprId(u32::try_from(self.nodes.len()).expect("a graph has fewer than 2^32 nodes"));
        let set = match node {
            Node::Constant(_) => SetId::EMPTY,
            Node::Symbol(s) => self.sets.single(s),
            _ => {
                let mut set = SetId::EMPTY;
                node.for_each_argument(|a| set = self.sets.union(set, self.depends[a.0 as usize]));
                set
            }
        };
        self.nodes.push(node);
        self.depends.push(set);
        self.index.insert(node, e);
        e
    }

    // Symbols.

    /// The symbol of that name as an expression; the first call makes the symbol.
    pub fn symbol(&mut self, name: &str) -> ExprId {
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => {
                let id = SymbolId(u32::try_from(self.names.len()).expect("a graph has fewer than 2^32 symbols"));
                self.names.push(name.to_owned());
                self.by_name.insert(name.to_owned(), id);
                id
            }
        };
        self.symbol_expr(id)
    }

    /// The symbol of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<SymbolId> {
        self.by_name.get(name).copied()
    }

    /// Name of a symbol.
    pub fn name(&self, symbol: SymbolId) -> &str {
        &self.names[symbol.0 as usize]
    }

    /// A symbol as an expression.
    pub fn symbol_expr(&mut self, symbol: SymbolId) -> ExprId {
        self.intern(Node::Symbol(symbol))
    }

    /// The symbol, if the expression is one.
    pub fn symbol_id(&self, e: ExprId) -> Option<SymbolId> {
        match self.node(e) {
            Node::Symbol(s) => Some(s),
            _ => None,
        }
    }

    /// All symbols that any of the expressions depends on, sorted.
    pub fn symbols_of(&self, expressions: &[ExprId]) -> Vec<SymbolId> {
        let mut sets: Vec<SetId> = expressions.iter().map(|e| self.depends[e.0 as usize]).collect();
        sets.sort_unstable();
        sets.dedup();
        let mut symbols: Vec<SymbolId> = sets.into_iter().flat_map(|set| self.sets.members(set).iter().copied()).collect();
        symbols.sort_unstable();
        symbols.dedup();
        symbols
    }

    /// Whether `symbol` occurs in the expression.
    pub fn depends_on(&self, e: ExprId, symbol: SymbolId) -> bool {
        self.sets.contains(self.depends[e.0 as usize], symbol)
    }

    /// Whether any symbol occurs in the expression that `wanted` holds of.
    fn depends_on_any(&self, e: ExprId, wanted: impl Fn(SymbolId) -> bool) -> bool {
        self.sets.members(self.depends[e.0 as usize]).iter().any(|s| wanted(*s))
    }

    // Constants.

    /// A number. All NaNs are one constant, and so are the two zeros.
    pub fn constant(&mut self, value: f64) -> ExprId {
        let value = if value.is_nan() { f64::NAN } else { value + 0.0 }; // -0 + 0 = 0
        self.intern(Node::Constant(value.to_bits()))
    }

    /// The number, if the expression is one.
    pub fn constant_value(&self, e: ExprId) -> Option<f64> {
        match self.node(e) {
            Node::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn is_constant(&self, e: ExprId, value: f64) -> bool {
        self.constant_value(e) == Some(value)
    }

    /// Whether the expression is the constant 0.
    pub fn is_zero(&self, e: ExprId) -> bool {
        self.is_constant(e, 0.0)
    }

    /// Whether the value can only be 0 or 1.
    fn is_boolean(&self, e: ExprId) -> bool {
        match self.node(e) {
            Node::Constant(bits) => [0.0, 1.0].contains(&f64::from_bits(bits)),
            Node::Unary(op, _) => op == Unary::Not,
            Node::Binary(op, ..) => op.is_boolean(),
            Node::Symbol(_) | Node::Select(..) => false,
        }
    }

    /// The argument of a node of kind `op`.
    fn argument_of(&self, op: Unary, e: ExprId) -> Option<ExprId> {
        match self.node(e) {
            Node::Unary(found, a) if found == op => Some(a),
            _ => None,
        }
    }

    /// Arguments of a node of kind `op`.
    fn arguments_of(&self, op: Binary, e: ExprId) -> Option<(ExprId, ExprId)> {
        match self.node(e) {
            Node::Binary(found, a, b) if found == op => Some((a, b)),
            _ => None,
        }
    }

    // Constructors.

    /// `op(a)`, simplified.
    pub fn unary(&mut self, op: Unary, a: ExprId) -> ExprId {
        if let Some(x) = self.constant_value(a) {
            return self.constant(op.apply(x));
        }
        match op {
            Unary::Neg => self.neg(a),
            // !!b = b where b is 0 or 1
            Unary::Not => match self.argument_of(Unary::Not, a) {
                Some(inner) if self.is_boolean(inner) => inner,
                _ => self.intern(Node::Unary(op, a)),
            },
            // |-x| = |x|, ||x|| = |x|
            Unary::Abs => {
                let a = self.argument_of(Unary::Neg, a).unwrap_or(a);
                if self.argument_of(Unary::Abs, a).is_some() { a } else { self.intern(Node::Unary(op, a)) }
            }
            _ => self.intern(Node::Unary(op, a)),
        }
    }

    /// `op(a, b)`, simplified.
    pub fn binary(&mut self, op: Binary, a: ExprId, b: ExprId) -> ExprId {
        if let (Some(x), Some(y)) = (self.constant_value(a), self.constant_value(b)) {
            return self.constant(op.apply(x, y));
        }
        match op {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Pow => self.pow(a, b),
            Binary::And | Binary::Or | Binary::Xor => self.logical(op, a, b),
            // min(x, x) = x
            Binary::Min | Binary::Max if a == b => a,
            Binary::Lt | Binary::Gt | Binary::Ne if a == b => self.constant(0.0),
            Binary::Le | Binary::Ge | Binary::Eq if a == b => self.constant(1.0),
            _ => self.intern_binary(op, a, b),
        }
    }

    /// A node with its arguments in canonical order: constants first, then by id.
    fn intern_binary(&mut self, op: Binary, a: ExprId, b: ExprId) -> ExprId {
        let swap = op.is_commutative() && (self.constant_value(a).is_none(), a) > (self.constant_value(b).is_none(), b);
        self.intern(if swap { Node::Binary(op, b, a) } else { Node::Binary(op, a, b) })
    }

    /// `condition != 0 ? then : otherwise`.
    pub fn select(&mut self, condition: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
        if let Some(c) = self.constant_value(condition) {
            return if c != 0.0 { then } else { otherwise };
        }
        if then == otherwise {
            return then;
        }
        // !c ? a : b = c ? b : a
        if let Some(c) = self.argument_of(Unary::Not, condition) {
            return self.select(c, otherwise, then);
        }
        self.intern(Node::Select(condition, then, otherwise))
    }

    /// a + b
    pub fn add(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if let (Some(x), Some(y)) = (self.constant_value(a), self.constant_value(b)) {
            return self.constant(x + y);
        }
        if self.is_zero(a) {
            return b; // 0 + b = b
        }
        if self.is_zero(b) {
            return a; // a + 0 = a
        }
        if let Some(c) = self.argument_of(Unary::Neg, b) {
            return self.sub(a, c); // a + -c = a - c
        }
        if let Some(c) = self.argument_of(Unary::Neg, a) {
            return self.sub(b, c); // -c + b = b - c
        }
        if a == b {
            let two = self.constant(2.0);
            return self.mul(two, a); // a + a = 2 a
        }
        self.intern_binary(Binary::Add, a, b)
    }

    /// a - b
    pub fn sub(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if a == b {
            return self.constant(0.0); // a - a = 0
        }
        if let Some(y) = self.constant_value(b) {
            let minus = self.constant(-y);
            return self.add(minus, a); // a - y = -y + a
        }
        if self.is_zero(a) {
            return self.neg(b); // 0 - b = -b
        }
        if let Some(c) = self.argument_of(Unary::Neg, b) {
            return self.add(a, c); // a - -c = a + c
        }
        if let Some(c) = self.argument_of(Unary::Neg, a) {
            let sum = self.add(c, b);
            return self.neg(sum); // -c - b = -(c + b)
        }
        self.intern(Node::Binary(Binary::Sub, a, b))
    }

    /// -a
    pub fn neg(&mut self, a: ExprId) -> ExprId {
        match self.node(a) {
            Node::Constant(bits) => self.constant(-f64::from_bits(bits)),
            Node::Unary(Unary::Neg, inner) => inner,               // --a = a
            Node::Binary(Binary::Sub, x, y) => self.sub(y, x),     // -(x - y) = y - x
            Node::Binary(op @ (Binary::Add | Binary::Mul | Binary::Div), x, y) => match self.constant_value(x) {
                None => self.intern(Node::Unary(Unary::Neg, a)),
                Some(c) => {
                    let c = self.constant(-c);
                    match op {
                        Binary::Add => self.sub(c, y), // -(c + y) = -c - y
                        Binary::Mul => self.mul(c, y), // -(c y) = (-c) y
                        _ => self.div(c, y),           // -(c / y) = (-c) / y
                    }
                }
            },
            _ => self.intern(Node::Unary(Unary::Neg, a)),
        }
    }

    /// a b
    pub fn mul(&mut self, a: ExprId, b: ExprId) -> ExprId {
        if self.constant_value(b).is_some() && self.constant_value(a).is_none() {
            return self.mul(b, a); // constants first
        }
        if let Some(x) = self.constant_value(a) {
            if let Some(y) = self.constant_value(b) {
                return self.constant(x * y);
            }
            if x == 0.0 {
                return a; // 0 b = 0
            }
            if x == 1.0 {
                return b; // 1 b = b
            }
            if x == -1.0 {
                return self.neg(b); // -1 b = -b
            }
            if let Some(c) = self.argument_of(Unary::Neg, b) {
                let minus = self.constant(-x);
                return self.mul(minus, c); // x (-c) = (-x) c
            }
            // x (y c) = (x y) c for whole numbers: no product overflows that did not before.
            if let Some((y, c)) = self.arguments_of(Binary::Mul, b)
                && let Some(y) = self.constant_value(y)
                && [x, y].iter().all(|v| v.fract() == 0.0 && v.abs() <= 1e6)
            {
                let product = self.constant(x * y);
                return self.mul(product, c);
            }
        }
        // (-c) b = -(c b)
        if let Some(c) = self.argument_of(Unary::Neg, a) {
            let product = self.mul(c, b);
            return self.neg(product);
        }
        if let Some(c) = self.argument_of(Unary::Neg, b) {
            let product = self.mul(a, c);
            return self.neg(product);
        }
        if a == b {
            let two = self.constant(2.0);
            return self.pow(a, two); // a a = a^2
        }
        self.intern_binary(Binary::Mul, a, b)
    }

    /// a / b
    pub fn div(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let (x, y) = (self.constant_value(a), self.constant_value(b));
        if let (Some(x), Some(y)) = (x, y) {
            return self.constant(x / y);
        }
        if y == Some(1.0) {
            return a; // a / 1 = a
        }
        if y == Some(-1.0) {
            return self.neg(a); // a / -1 = -a
        }
        match (self.argument_of(Unary::Neg, a), self.argument_of(Unary::Neg, b)) {
            (Some(c), Some(d)) => self.div(c, d), // -c / -d = c / d
            (Some(c), None) => match y {
                Some(y) => {
                    let minus = self.constant(-y);
                    self.div(c, minus) // -c / y = c / -y
                }
                None => {
                    let quotient = self.div(c, b);
                    self.neg(quotient) // -c / b = -(c / b)
                }
            },
            (None, Some(d)) => {
                let quotient = self.div(a, d);
                self.neg(quotient) // a / -d = -(a / d)
            }
            (None, None) => self.intern(Node::Binary(Binary::Div, a, b)),
        }
    }

    /// a^b
    pub fn pow(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let (x, y) = (self.constant_value(a), self.constant_value(b));
        if let (Some(x), Some(y)) = (x, y) {
            return self.constant(Binary::Pow.apply(x, y));
        }
        if y == Some(0.0) {
            return self.constant(1.0); // a^0 = 1, also for a = 0
        }
        if y == Some(1.0) {
            return a; // a^1 = a
        }
        if x == Some(1.0) {
            return a; // 1^b = 1
        }
        if y == Some(0.5) {
            return self.unary(Unary::Sqrt, a); // a^0.5 = sqrt(a)
        }
        if y == Some(-1.0) {
            let one = self.constant(1.0);
            return self.div(one, a); // a^-1 = 1 / a
        }
        if y == Some(2.0)
            && let Some(c) = self.argument_of(Unary::Neg, a)
        {
            return self.pow(c, b); // (-c)^2 = c^2
        }
        self.intern(Node::Binary(Binary::Pow, a, b))
    }

    /// And, or, exclusive or.
    fn logical(&mut self, op: Binary, a: ExprId, b: ExprId) -> ExprId {
        let (constant, other) = match (self.constant_value(a), self.constant_value(b)) {
            (Some(x), _) => (Some(x != 0.0), b),
            (None, Some(y)) => (Some(y != 0.0), a),
            (None, None) => (None, a),
        };
        match (op, constant) {
            (Binary::And, Some(false)) | (Binary::Or, Some(true)) => self.constant(truth(op == Binary::Or)), // 0 && x = 0, 1 || x = 1
            (Binary::And, Some(true)) | (Binary::Or | Binary::Xor, Some(false)) => self.truth_of(other),     // 1 && x = 0 || x = x
            (_, Some(_)) => self.unary(Unary::Not, other),                                                   // xor(1, x) = !x
            (Binary::Xor, None) if a == b => self.constant(0.0),                                             // xor(x, x) = 0
            (_, None) if a == b => self.truth_of(a),                                                         // x && x = x || x = x
            _ => self.intern_binary(op, a, b),
        }
    }

    /// `a` where it is a truth value already, else `a != 0`.
    fn truth_of(&mut self, a: ExprId) -> ExprId {
        if self.is_boolean(a) {
            return a;
        }
        let zero = self.constant(0.0);
        self.binary(Binary::Ne, zero, a)
    }

    /// The sum of the terms, 0 if there is none. Long sums become balanced trees, so that nothing gets deep.
    pub fn sum(&mut self, terms: &[ExprId]) -> ExprId {
        if terms.len() <= CHAIN {
            let mut sum = self.constant(0.0);
            for term in terms {
                sum = self.add(sum, *term);
            }
            return sum;
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        let (left, right) = (self.sum(left), self.sum(right));
        self.add(left, right)
    }

    // Rewriting.

    /// All nodes that the roots need, in topological order (arguments first).
    pub(crate) fn reachable(&self, roots: &[ExprId]) -> Vec<ExprId> {
        self.reachable_below(roots, |_| true)
    }

    /// As [`Graph::reachable`], but does not look below nodes for which `enter` is false.
    pub(super) fn reachable_below(&self, roots: &[ExprId], enter: impl Fn(ExprId) -> bool) -> Vec<ExprId> {
        let size = roots.iter().map(|e| e.0 as usize + 1).max().unwrap_or(0);
        let mut seen = vec![false; size];
        let mut found = Vec::new();
        let mut stack = roots.to_vec();
        while let Some(e) = stack.pop() {
            if !std::mem::replace(&mut seen[e.0 as usize], true) {
                found.push(e);
                if enter(e) {
                    self.node(e).for_each_argument(|a| stack.push(a));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The expressions with symbols replaced, all at once: replacements are not replaced again.
    pub fn substitute(&mut self, expressions: &[ExprId], map: &FxHashMap<SymbolId, ExprId>) -> Vec<ExprId> {
        let order = self.reachable_below(expressions, |e| self.depends_on_any(e, |s| map.contains_key(&s)));
        let mut new: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        for e in order {
            let replaced = match self.symbol_id(e) {
                Some(s) => map.get(&s).copied().unwrap_or(e),
                None => self.rebuild(e, &new),
            };
            new.insert(e, replaced);
        }
        expressions.iter().map(|e| new[e]).collect()
    }

    /// The expressions with subexpressions replaced. Outer matches win over inner ones, and replacements are not replaced again.
    pub fn replace(&mut self, expressions: &[ExprId], map: &FxHashMap<ExprId, ExprId>) -> Vec<ExprId> {
        let order = self.reachable_below(expressions, |e| !map.contains_key(&e));
        let mut new: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        for e in order {
            let replaced = match map.get(&e) {
                Some(by) => *by,
                None => self.rebuild(e, &new),
            };
            new.insert(e, replaced);
        }
        expressions.iter().map(|e| new[e]).collect()
    }

    /// The node with its arguments mapped; arguments that `new` lacks stay as they are.
    fn rebuild(&mut self, e: ExprId, new: &FxHashMap<ExprId, ExprId>) -> ExprId {
        let mapped = |a: ExprId| new.get(&a).copied().unwrap_or(a);
        match self.node(e) {
            Node::Constant(_) | Node::Symbol(_) => e,
            Node::Unary(op, a) => match mapped(a) {
                x if x == a => e,
                x => self.unary(op, x),
            },
            Node::Binary(op, a, b) => match (mapped(a), mapped(b)) {
                (x, y) if (x, y) == (a, b) => e,
                (x, y) => self.binary(op, x, y),
            },
            Node::Select(c, a, b) => match (mapped(c), mapped(a), mapped(b)) {
                (x, y, z) if (x, y, z) == (c, a, b) => e,
                (x, y, z) => self.select(x, y, z),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn equal_expressions_are_one_node() {
        let mut g = Graph::new();
        let (x, y) = (g.symbol("x"), g.symbol("y"));
        assert_eq!(g.symbol("x"), x);
        assert_eq!(g.add(x, y), g.add(y, x));
        assert_eq!(g.mul(x, y), g.mul(y, x));
        assert_ne!(g.sub(x, y), g.sub(y, x));
        assert_eq!(g.find("y"), g.symbol_id(y));
        assert_eq!(g.find("z"), None);
        assert_eq!(g.constant(-0.0), g.constant(0.0));
        assert_eq!(g.constant(f64::NAN), g.constant(-f64::NAN));
    }

    #[test]
    fn identities() {
        let mut g = Graph::new();
        let x = g.symbol("x");
        let y = g.symbol("y");
        let [zero, one, two, half] = [0.0, 1.0, 2.0, 0.5].map(|c| g.constant(c));
        let minus_x = g.neg(x);
        assert_eq!(g.add(x, zero), x);
        assert_eq!(g.mul(one, x), x);
        assert_eq!(g.mul(x, zero), zero);
        assert_eq!(g.sub(x, x), zero);
        assert_eq!(g.div(x, one), x);
        assert_eq!(g.pow(x, one), x);
        assert_eq!(g.pow(x, zero), one);
        assert_eq!(g.neg(minus_x), x);
        assert_eq!(g.add(y, minus_x), g.sub(y, x));
        assert_eq!(g.mul(x, x), g.pow(x, two));
        assert_eq!(g.pow(x, half), g.unary(Unary::Sqrt, x));
        assert_eq!(g.add(x, x), g.mul(two, x));
        assert_eq!(g.sum(&[]), zero);
        // What could hide a NaN stays.
        let quotients = [g.div(x, x), g.div(zero, x)];
        assert!(quotients.iter().all(|q| g.constant_value(*q).is_none()));
        // Conditions.
        let less = g.binary(Binary::Lt, x, y);
        let not = g.unary(Unary::Not, less);
        assert_eq!(g.unary(Unary::Not, not), less);
        assert_eq!(g.select(not, x, y), g.select(less, y, x));
        assert_eq!(g.select(one, x, y), x);
        assert_eq!(g.binary(Binary::And, one, less), less);
        assert_eq!(g.binary(Binary::Or, less, two), one);
        assert_eq!(g.binary(Binary::Xor, less, two), not);
        assert_eq!(g.binary(Binary::And, one, x), g.binary(Binary::Ne, x, zero));
    }

    #[test]
    fn symbols_substitution_replacement() {
        let mut g = Graph::new();
        let (x, y, z) = (g.symbol("x"), g.symbol("y"), g.symbol("z"));
        let (sx, sy, sz) = (g.find("x").unwrap(), g.find("y").unwrap(), g.find("z").unwrap());
        let xy = g.mul(x, y);
        let e = g.add(xy, z);
        assert_eq!(g.symbols_of(&[e]), [sx, sy, sz]);
        assert_eq!(g.symbols_of(&[xy, x]), [sx, sy]);
        assert!(g.depends_on(e, sz) && !g.depends_on(xy, sz));
        // x and y change places at once.
        let swapped = g.substitute(&[e, z], &FxHashMap::from_iter([(sx, y), (sy, x)]));
        assert_eq!(swapped, [e, z]);
        let two = g.constant(2.0);
        let doubled = g.substitute(&[e], &FxHashMap::from_iter([(sy, two)]))[0];
        let two_x = g.mul(two, x);
        assert_eq!(doubled, g.add(two_x, z));
        // The outer match wins; its replacement is left alone.
        let replaced = g.replace(&[e, x], &FxHashMap::from_iter([(xy, x), (x, z)]));
        assert_eq!(replaced, [g.add(x, z), z]);
    }

    #[test]
    fn long_sums_and_deep_chains() {
        let mut g = Graph::new();
        let terms: Vec<ExprId> = (0..5000).map(|i| g.symbol(&format!("s{i}"))).collect();
        let sum = g.sum(&terms);
        assert_eq!(g.evaluate(&[sum], &|s| f64::from(s.0)), [f64::from(5000 * 4999 / 2)]);
        let x = g.symbol("s0");
        let mut deep = x;
        for _ in 0..100_000 {
            deep = g.unary(Unary::Sin, deep);
        }
        let s = g.symbol_id(x).unwrap();
        let derivative = g.derivative(deep, s);
        let values = g.evaluate(&[deep, derivative], &|_| 0.5);
        assert!(values[0] > 0.0 && values[0] < 0.01 && values[1] > 0.0);
        let renamed = g.substitute(&[deep], &FxHashMap::from_iter([(s, terms[1])]))[0];
        assert_eq!(g.evaluate(&[renamed], &|_| 0.5), [values[0]]);
    }
}
