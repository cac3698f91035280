//! Symbolic forward derivatives, memoised per (expression, symbol).

use super::graph::{ExprId, Graph, Node, SymbolId};
use super::op::{Binary, Unary};

impl Graph {
    /// The derivative of an expression with respect to a symbol. Comparisons, `floor`, `ceil`, `sign` and `factorial` count as
    /// constant (their jumps are the integrator's business).
    pub fn derivative(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        // An explicit stack, since chains of operations can be deeper than the call stack.
        let mut stack = vec![e];
        while let Some(&top) = stack.last() {
            if self.known(top, symbol).is_some() {
                stack.pop();
                continue;
            }
            let children: &[ExprId] = match self.node(top) {
                Node::Unary(_, a) => &[a],
                Node::Binary(_, a, b) => &[a, b],
                Node::Select(_, a, b) => &[a, b],
                Node::Constant(_) | Node::Symbol(_) => &[],
            };
            let before = stack.len();
            for child in children {
                if self.known(*child, symbol).is_none() {
                    stack.push(*child);
                }
            }
            if stack.len() == before {
                let value = self.rule(top, symbol);
                self.derivatives.insert((top, symbol), value);
                stack.pop();
            }
        }
        self.derivative_of(e, symbol)
    }

    fn known(&self, e: ExprId, symbol: SymbolId) -> Option<Option<ExprId>> {
        if !self.depends_on(e, symbol) {
            return Some(None);
        }
        self.derivatives.get(&(e, symbol)).map(|d| Some(*d))
    }

    /// Derivative of a child, which is known already.
    fn derivative_of(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        match self.known(e, symbol) {
            Some(Some(d)) => d,
            _ => self.constant(0.0),
        }
    }

    fn rule(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        match self.node(e) {
            Node::Constant(_) => self.constant(0.0),
            Node::Symbol(s) => self.constant(if s == symbol { 1.0 } else { 0.0 }),
            Node::Unary(op, a) => {
                let da = self.derivative_of(a, symbol);
                if self.constant_value(da) == Some(0.0) {
                    return da;
                }
                match op {
                    Unary::Neg => self.neg(da),
                    // d sqrt(a) = da / (2 sqrt(a)); written with the node itself, which is there already.
                    Unary::Sqrt => {
                        let two = self.constant(2.0);
                        let denominator = self.mul(two, e);
                        self.div(da, denominator)
                    }
                    Unary::Ln => self.div(da, a),
                    Unary::Log10 | Unary::Log2 => {
                        let base = self.constant(if op == Unary::Log10 { std::f64::consts::LN_10 } else { std::f64::consts::LN_2 });
                        let denominator = self.mul(base, a);
                        self.div(da, denominator)
                    }
                    _ => {
                        let slope = self.slope(op, a, e);
                        self.mul(slope, da)
                    }
                }
            }
            Node::Binary(op, a, b) => {
                let (da, db) = (self.derivative_of(a, symbol), self.derivative_of(b, symbol));
                self.binary_rule(op, a, b, e, da, db)
            }
            Node::Select(c, a, b) => {
                let (da, db) = (self.derivative_of(a, symbol), self.derivative_of(b, symbol));
                self.select(c, da, db)
            }
        }
    }

    /// f'(a) of a function of one argument; `e` is f(a).
    fn slope(&mut self, op: Unary, a: ExprId, e: ExprId) -> ExprId {
        let one = self.constant(1.0);
        let square = |g: &mut Graph, x| g.mul(x, x);
        match op {
            Unary::Neg => self.constant(-1.0),
            Unary::Not | Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Factorial => self.constant(0.0),
            Unary::Abs => self.unary(Unary::Sign, a),
            Unary::Sqrt => {
                let half = self.constant(0.5);
                self.div(half, e)
            }
            Unary::Exp => e,
            Unary::Ln => self.div(one, a),
            Unary::Log10 | Unary::Log2 => {
                let factor = self.constant(if op == Unary::Log10 { std::f64::consts::LOG10_E } else { std::f64::consts::LOG2_E });
                self.div(factor, a)
            }
            Unary::Sin => self.unary(Unary::Cos, a),
            Unary::Cos => {
                let sin = self.unary(Unary::Sin, a);
                self.neg(sin)
            }
            // tan' = 1 + tan^2, cot' = -(1 + cot^2)
            Unary::Tan | Unary::Cot => {
                let s = square(self, e);
                let s = self.add(one, s);
                if op == Unary::Tan { s } else { self.neg(s) }
            }
            Unary::Sec => {
                let tan = self.unary(Unary::Tan, a);
                self.mul(e, tan)
            }
            Unary::Csc => {
                let cot = self.unary(Unary::Cot, a);
                let product = self.mul(e, cot);
                self.neg(product)
            }
            Unary::Asin | Unary::Acos => {
                let s = square(self, a);
                let root = self.sub(one, s);
                let root = self.unary(Unary::Sqrt, root);
                let slope = self.div(one, root);
                if op == Unary::Asin { slope } else { self.neg(slope) }
            }
            Unary::Atan | Unary::Acot => {
                let s = square(self, a);
                let denominator = self.add(one, s);
                let slope = self.div(one, denominator);
                if op == Unary::Atan { slope } else { self.neg(slope) }
            }
            // arcsec' = 1 / (x^2 sqrt(1 - 1/x^2)), arccsc' its negative
            Unary::Asec | Unary::Acsc => {
                let s = square(self, a);
                let inverse = self.div(one, s);
                let root = self.sub(one, inverse);
                let root = self.unary(Unary::Sqrt, root);
                let denominator = self.mul(s, root);
                let slope = self.div(one, denominator);
                if op == Unary::Asec { slope } else { self.neg(slope) }
            }
            Unary::Sinh => self.unary(Unary::Cosh, a),
            Unary::Cosh => self.unary(Unary::Sinh, a),
            // tanh' = 1 - tanh^2, and the same formula for coth
            Unary::Tanh | Unary::Coth => {
                let s = square(self, e);
                self.sub(one, s)
            }
            Unary::Sech => {
                let tanh = self.unary(Unary::Tanh, a);
                let product = self.mul(e, tanh);
                self.neg(product)
            }
            Unary::Csch => {
                let coth = self.unary(Unary::Coth, a);
                let product = self.mul(e, coth);
                self.neg(product)
            }
            Unary::Asinh => {
                let s = square(self, a);
                let root = self.add(s, one);
                let root = self.unary(Unary::Sqrt, root);
                self.div(one, root)
            }
            // 1 / (sqrt(x - 1) sqrt(x + 1)) keeps the domain of arccosh
            Unary::Acosh => {
                let (minus, plus) = (self.sub(a, one), self.add(a, one));
                let (minus, plus) = (self.unary(Unary::Sqrt, minus), self.unary(Unary::Sqrt, plus));
                let denominator = self.mul(minus, plus);
                self.div(one, denominator)
            }
            Unary::Atanh | Unary::Acoth => {
                let s = square(self, a);
                let denominator = self.sub(one, s);
                self.div(one, denominator)
            }
            // arcsech' = -1 / (x sqrt(1 - x^2))
            Unary::Asech => {
                let s = square(self, a);
                let root = self.sub(one, s);
                let root = self.unary(Unary::Sqrt, root);
                let denominator = self.mul(a, root);
                let slope = self.div(one, denominator);
                self.neg(slope)
            }
            // arccsch' = -1 / (x^2 sqrt(1 + 1/x^2))
            Unary::Acsch => {
                let s = square(self, a);
                let inverse = self.div(one, s);
                let root = self.add(one, inverse);
                let root = self.unary(Unary::Sqrt, root);
                let denominator = self.mul(s, root);
                let slope = self.div(one, denominator);
                self.neg(slope)
            }
        }
    }

    fn binary_rule(&mut self, op: Binary, a: ExprId, b: ExprId, e: ExprId, da: ExprId, db: ExprId) -> ExprId {
        let zero = self.constant(0.0);
        match op {
            Binary::Add => self.add(da, db),
            Binary::Sub => self.sub(da, db),
            Binary::Mul => {
                let (left, right) = (self.mul(da, b), self.mul(a, db));
                self.add(left, right)
            }
            // (a/b)' = (a' - (a/b) b') / b
            Binary::Div => {
                let correction = self.mul(e, db);
                let numerator = self.sub(da, correction);
                self.div(numerator, b)
            }
            Binary::Pow => {
                let mut total = zero;
                if da != zero {
                    // b a^(b-1) a'
                    let one = self.constant(1.0);
                    let exponent = self.sub(b, one);
                    let power = self.pow(a, exponent);
                    let slope = self.mul(b, power);
                    total = self.mul(slope, da);
                }
                if db != zero {
                    // a^b log(a) b'; where a is not positive the limit is 0 if a^b is (a Hill function at zero concentration).
                    let log = self.unary(Unary::Ln, a);
                    let product = self.mul(e, log);
                    let positive = self.binary(Binary::Gt, a, zero);
                    let slope = self.select(positive, product, zero);
                    let term = self.mul(slope, db);
                    total = self.add(total, term);
                }
                total
            }
            Binary::Min | Binary::Max => {
                let comparison = if op == Binary::Min { Binary::Le } else { Binary::Ge };
                let first = self.binary(comparison, a, b);
                self.select(first, da, db)
            }
            // rem(a, b) = a - b trunc(a/b)
            Binary::Rem => {
                let quotient = self.binary(Binary::Quotient, a, b);
                let correction = self.mul(quotient, db);
                self.sub(da, correction)
            }
            Binary::Quotient
            | Binary::Lt
            | Binary::Le
            | Binary::Gt
            | Binary::Ge
            | Binary::Eq
            | Binary::Ne
            | Binary::And
            | Binary::Or
            | Binary::Xor => zero,
        }
    }
}
