//! The hash-consed expression graph and its smart constructors.

use super::ast::{Ast, AstKind};
use super::op::{Binary, Unary};
use rustc_hash::FxHashMap;
use std::sync::Arc;

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

/// A directed acyclic graph of expressions over named symbols.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    index: FxHashMap<Node, ExprId>,
    names: Vec<String>,
    by_name: FxHashMap<String, SymbolId>,
    /// For every node the set of symbols it depends on, as an index into `sets`.
    dependencies: Vec<u32>,
    sets: Vec<Arc<[SymbolId]>>,
    set_index: FxHashMap<Arc<[SymbolId]>, u32>,
    unions: FxHashMap<(u32, u32), u32>,
    pub(super) derivatives: FxHashMap<(ExprId, SymbolId), ExprId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was built yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of an expression.
    pub fn node(&self, e: ExprId) -> Node {
        self.nodes[e.0 as usize]
    }

    /// The symbol called `name`, made if there is none.
    pub fn symbol(&mut self, name: &str) -> ExprId {
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => {
                let id = SymbolId(self.names.len() as u32);
                self.names.push(name.to_string());
                self.by_name.insert(name.to_string(), id);
                id
            }
        };
        self.intern(Node::Symbol(id))
    }

    /// The symbol called `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<SymbolId> {
        self.by_name.get(name).copied()
    }

    /// Name of a symbol.
    pub fn name(&self, symbol: SymbolId) -> &str {
        &self.names[symbol.0 as usize]
    }

    /// The expression that is just this symbol.
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

    /// A number. All NaN are one node, and so are the two zeros.
    pub fn constant(&mut self, value: f64) -> ExprId {
        let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
        self.intern(Node::Constant(value.to_bits()))
    }

    /// The value, if the expression is a number.
    pub fn constant_value(&self, e: ExprId) -> Option<f64> {
        match self.node(e) {
            Node::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    pub(super) fn intern(&mut self, node: Node) -> ExprId {
        if let Some(id) = self.index.get(&node) {
            return *id;
        }
        let id = ExprId(self.nodes.len() as u32);
        let set = match node {
            Node::Constant(_) => self.set(Arc::new([])),
            Node::Symbol(s) => self.set(Arc::new([s])),
            Node::Unary(_, a) => self.dependencies[a.0 as usize],
            Node::Binary(_, a, b) => self.union(self.dependencies[a.0 as usize], self.dependencies[b.0 as usize]),
            Node::Select(c, a, b) => {
                let branches = self.union(self.dependencies[a.0 as usize], self.dependencies[b.0 as usize]);
                self.union(self.dependencies[c.0 as usize], branches)
            }
        };
        self.nodes.push(node);
        self.dependencies.push(set);
        self.index.insert(node, id);
        id
    }

    fn set(&mut self, symbols: Arc<[SymbolId]>) -> u32 {
        if let Some(id) = self.set_index.get(&symbols) {
            return *id;
        }
        let id = self.sets.len() as u32;
        self.sets.push(Arc::clone(&symbols));
        self.set_index.insert(symbols, id);
        id
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b {
            return a;
        }
        let key = (a.min(b), a.max(b));
        if let Some(id) = self.unions.get(&key) {
            return *id;
        }
        let mut merged: Vec<SymbolId> = self.sets[a as usize].iter().chain(self.sets[b as usize].iter()).copied().collect();
        merged.sort_unstable();
        merged.dedup();
        let id = self.set(merged.into());
        self.unions.insert(key, id);
        id
    }

    /// The symbols that any of the expressions depends on, sorted.
    pub fn symbols_of(&self, expressions: &[ExprId]) -> Vec<SymbolId> {
        match expressions {
            [e] => self.sets[self.dependencies[e.0 as usize] as usize].to_vec(),
            _ => {
                let mut sets: Vec<u32> = expressions.iter().map(|e| self.dependencies[e.0 as usize]).collect();
                sets.sort_unstable();
                sets.dedup();
                let mut symbols: Vec<SymbolId> = sets.iter().flat_map(|s| self.sets[*s as usize].iter().copied()).collect();
                symbols.sort_unstable();
                symbols.dedup();
                symbols
            }
        }
    }

    /// Whether the expression contains the symbol.
    pub fn depends_on(&self, e: ExprId, symbol: SymbolId) -> bool {
        self.sets[self.dependencies[e.0 as usize] as usize].binary_search(&symbol).is_ok()
    }

    /// All nodes that the expressions consist of, children before parents.
    pub fn reachable(&self, expressions: &[ExprId]) -> Vec<ExprId> {
        let mut seen = rustc_hash::FxHashSet::default();
        let mut stack: Vec<ExprId> = expressions.to_vec();
        while let Some(e) = stack.pop() {
            if seen.insert(e) {
                match self.node(e) {
                    Node::Constant(_) | Node::Symbol(_) => {}
                    Node::Unary(_, a) => stack.push(a),
                    Node::Binary(_, a, b) => stack.extend([a, b]),
                    Node::Select(c, a, b) => stack.extend([c, a, b]),
                }
            }
        }
        let mut nodes: Vec<ExprId> = seen.into_iter().collect();
        nodes.sort_unstable();
        nodes
    }

    /// The expressions with symbols replaced by other expressions.
    pub fn substitute(&mut self, expressions: &[ExprId], values: &FxHashMap<SymbolId, ExprId>) -> Vec<ExprId> {
        let map: FxHashMap<ExprId, ExprId> = values.iter().map(|(s, e)| (self.symbol_expr(*s), *e)).collect();
        self.replace(expressions, &map)
    }

    /// The expressions with subexpressions replaced; what is inside a replacement is left as it is.
    pub fn replace(&mut self, expressions: &[ExprId], map: &FxHashMap<ExprId, ExprId>) -> Vec<ExprId> {
        if map.is_empty() {
            return expressions.to_vec();
        }
        let mut new: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        for e in self.reachable(expressions) {
            let value = match map.get(&e) {
                Some(value) => *value,
                None => match self.node(e) {
                    Node::Constant(_) | Node::Symbol(_) => e,
                    Node::Unary(op, a) => self.unary(op, new[&a]),
                    Node::Binary(op, a, b) => self.binary(op, new[&a], new[&b]),
                    Node::Select(c, a, b) => self.select(new[&c], new[&a], new[&b]),
                },
            };
            new.insert(e, value);
        }
        expressions.iter().map(|e| new[e]).collect()
    }

    /// a + b
    pub fn add(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(Binary::Add, a, b)
    }

    /// a - b
    pub fn sub(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(Binary::Sub, a, b)
    }

    /// a * b
    pub fn mul(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(Binary::Mul, a, b)
    }

    /// a / b
    pub fn div(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(Binary::Div, a, b)
    }

    /// a ^ b
    pub fn pow(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(Binary::Pow, a, b)
    }

    /// -a
    pub fn neg(&mut self, a: ExprId) -> ExprId {
        self.unary(Unary::Neg, a)
    }

    /// Sum of the terms from left to right; 0 without terms.
    pub fn sum(&mut self, terms: &[ExprId]) -> ExprId {
        let zero = self.constant(0.0);
        terms.iter().fold(zero, |sum, t| self.add(sum, *t))
    }

    /// Operator or function of one argument, simplified.
    pub fn unary(&mut self, op: Unary, a: ExprId) -> ExprId {
        if let Some(x) = self.constant_value(a) {
            return self.constant(op.apply(x));
        }
        match (op, self.node(a)) {
            // -(-x) = x, -(x - y) = y - x; equal but for the sign of zero
            (Unary::Neg, Node::Unary(Unary::Neg, x)) => x,
            (Unary::Neg, Node::Binary(Binary::Sub, x, y)) => self.sub(y, x),
            // -(c x) = (-c) x, -(c / x) = (-c) / x
            (Unary::Neg, Node::Binary(inner @ (Binary::Mul | Binary::Div), x, y)) => {
                let (left, right) = (self.constant_value(x), self.constant_value(y));
                match (inner, left, right) {
                    (_, Some(c), _) => {
                        let c = self.constant(-c);
                        self.binary(inner, c, y)
                    }
                    (Binary::Mul, _, Some(c)) => {
                        let c = self.constant(-c);
                        self.mul(x, c)
                    }
                    _ => self.intern(Node::Unary(op, a)),
                }
            }
            // |-x| = |x|
            (Unary::Abs, Node::Unary(Unary::Neg, x)) => self.unary(Unary::Abs, x),
            _ => self.intern(Node::Unary(op, a)),
        }
    }

    /// Operator or function of two arguments, simplified.
    pub fn binary(&mut self, op: Binary, a: ExprId, b: ExprId) -> ExprId {
        let (x, y) = (self.constant_value(a), self.constant_value(b));
        if let (Some(x), Some(y)) = (x, y) {
            return self.constant(op.apply(x, y));
        }
        match op {
            Binary::Add => {
                if x == Some(0.0) {
                    return b;
                }
                if y == Some(0.0) {
                    return a;
                }
                match (self.node(a), self.node(b)) {
                    // x + (-y) = x - y
                    (_, Node::Unary(Unary::Neg, c)) => return self.sub(a, c),
                    (Node::Unary(Unary::Neg, c), _) => return self.sub(b, c),
                    _ => {}
                }
            }
            Binary::Sub => {
                if y == Some(0.0) {
                    return a;
                }
                if x == Some(0.0) {
                    return self.neg(b);
                }
                if a == b {
                    return self.constant(0.0);
                }
                if let Node::Unary(Unary::Neg, c) = self.node(b) {
                    return self.add(a, c);
                }
            }
            Binary::Mul => {
                if x == Some(0.0) || y == Some(0.0) {
                    return self.constant(0.0);
                }
                if x == Some(1.0) {
                    return b;
                }
                if y == Some(1.0) {
                    return a;
                }
                if x == Some(-1.0) {
                    return self.neg(b);
                }
                if y == Some(-1.0) {
                    return self.neg(a);
                }
                match (self.node(a), self.node(b)) {
                    // (-x)(-y) = x y; (-x) y = -(x y)
                    (Node::Unary(Unary::Neg, c), Node::Unary(Unary::Neg, d)) => return self.mul(c, d),
                    (Node::Unary(Unary::Neg, c), _) => {
                        let product = self.mul(c, b);
                        return self.neg(product);
                    }
                    (_, Node::Unary(Unary::Neg, d)) => {
                        let product = self.mul(a, d);
                        return self.neg(product);
                    }
                    _ => {}
                }
            }
            Binary::Div => {
                if x == Some(0.0) {
                    return a;
                }
                if y == Some(1.0) {
                    return a;
                }
                match (self.node(a), self.node(b)) {
                    // (-x) / (-y) = x / y; (-x) / y = x / (-y) = -(x / y)
                    (Node::Unary(Unary::Neg, c), Node::Unary(Unary::Neg, d)) => return self.div(c, d),
                    (Node::Unary(Unary::Neg, c), _) => {
                        let quotient = self.div(c, b);
                        return self.neg(quotient);
                    }
                    (_, Node::Unary(Unary::Neg, d)) => {
                        let quotient = self.div(a, d);
                        return self.neg(quotient);
                    }
                    _ => {}
                }
            }
            Binary::Pow => {
                if let Some(n) = y {
                    return self.constant_power(a, n);
                }
                if x == Some(1.0) {
                    return a;
                }
            }
            Binary::Min | Binary::Max if a == b => return a,
            Binary::And | Binary::Or => {
                let known = match (x, y) {
                    (Some(c), _) => Some((c != 0.0, b)),
                    (_, Some(c)) => Some((c != 0.0, a)),
                    _ => None,
                };
                match known {
                    Some((c, _)) if c == (op == Binary::Or) => return self.constant(if c { 1.0 } else { 0.0 }),
                    // true && e = false || e = e, if e is 0 or 1
                    Some((_, e)) if self.is_truth(e) => return e,
                    _ => {}
                }
                if a == b && self.is_truth(a) {
                    return a;
                }
            }
            _ => {}
        }
        // The operands of commutative operators stand in order of their ids, so that a + b and b + a are one node.
        let commutative = matches!(op, Binary::Add | Binary::Mul | Binary::And | Binary::Or | Binary::Xor | Binary::Eq | Binary::Ne);
        let (a, b) = if commutative && b < a { (b, a) } else { (a, b) };
        self.intern(Node::Binary(op, a, b))
    }

    /// Whether the value can only be 0 or 1.
    fn is_truth(&self, e: ExprId) -> bool {
        use Binary::{And, Eq, Ge, Gt, Le, Lt, Ne, Or, Xor};
        matches!(self.node(e), Node::Unary(Unary::Not, _) | Node::Binary(Lt | Le | Gt | Ge | Eq | Ne | And | Or | Xor, ..))
    }

    /// x^n with a constant exponent: small integer powers are products, halves are square roots, so that `pow` is not called.
    fn constant_power(&mut self, a: ExprId, n: f64) -> ExprId {
        if n == 0.0 {
            return self.constant(1.0);
        }
        if n == 1.0 {
            return a;
        }
        if n == 0.5 {
            return self.unary(Unary::Sqrt, a);
        }
        if n.fract() == 0.0 && n.abs() <= 8.0 {
            let product = self.integer_power(a, n.abs() as u32);
            if n > 0.0 {
                return product;
            }
            let one = self.constant(1.0);
            return self.div(one, product);
        }
        let exponent = self.constant(n);
        self.intern(Node::Binary(Binary::Pow, a, exponent))
    }

    fn integer_power(&mut self, a: ExprId, n: u32) -> ExprId {
        match n {
            1 => a,
            _ => {
                let half = self.integer_power(a, n / 2);
                let square = self.mul(half, half);
                if n.is_multiple_of(2) { square } else { self.mul(square, a) }
            }
        }
    }

    /// `condition != 0 ? then : otherwise`, simplified.
    pub fn select(&mut self, condition: ExprId, then: ExprId, otherwise: ExprId) -> ExprId {
        match self.constant_value(condition) {
            Some(c) => {
                if c != 0.0 {
                    then
                } else {
                    otherwise
                }
            }
            None if then == otherwise => then,
            None => match self.node(condition) {
                Node::Unary(Unary::Not, c) => self.select(c, otherwise, then),
                _ => self.intern(Node::Select(condition, then, otherwise)),
            },
        }
    }

    /// Builds the expression of a parsed formula. `resolve` is asked for what only the caller knows: names, time, calls, `rateOf` and
    /// `delay`; `None` from it gives up.
    pub fn lower(&mut self, ast: &Ast, resolve: &mut dyn FnMut(&mut Graph, &Ast) -> Option<ExprId>) -> Option<ExprId> {
        /// What is still to be done; operations take their operands from `values`, the last operand on top.
        enum Task<'a> {
            Lower(&'a Ast),
            Unary(Unary),
            Binary(Binary),
            /// Value if there is no `otherwise`.
            Undefined,
            /// Operands: otherwise, condition, value.
            Select,
        }
        // An explicit stack, since chains of operations can be deeper than the call stack.
        let mut tasks = vec![Task::Lower(ast)];
        let mut values: Vec<ExprId> = Vec::new();
        while let Some(task) = tasks.pop() {
            let value = match task {
                Task::Lower(ast) => match &ast.kind {
                    AstKind::Number(value) => self.constant(*value),
                    AstKind::Name(_) | AstKind::Time | AstKind::Call(..) | AstKind::RateOf(_) | AstKind::Delay(..) => resolve(self, ast)?,
                    AstKind::Unary(op, a) => {
                        tasks.extend([Task::Unary(*op), Task::Lower(a)]);
                        continue;
                    }
                    AstKind::Binary(op, a, b) => {
                        tasks.extend([Task::Binary(*op), Task::Lower(b), Task::Lower(a)]);
                        continue;
                    }
                    AstKind::Piecewise(pieces, otherwise) => {
                        // The first piece is the outermost choice.
                        for (piece, condition) in pieces {
                            tasks.extend([Task::Select, Task::Lower(piece), Task::Lower(condition)]);
                        }
                        tasks.push(otherwise.as_deref().map_or(Task::Undefined, Task::Lower));
                        continue;
                    }
                },
                Task::Undefined => self.constant(f64::NAN),
                Task::Unary(op) => {
                    let a = values.pop()?;
                    self.unary(op, a)
                }
                Task::Binary(op) => {
                    let (b, a) = (values.pop()?, values.pop()?);
                    self.binary(op, a, b)
                }
                Task::Select => {
                    let (piece, condition, otherwise) = (values.pop()?, values.pop()?, values.pop()?);
                    self.select(condition, piece, otherwise)
                }
            };
            values.push(value);
        }
        values.pop()
    }
}
