//! Memoised symbolic forward derivatives.
//!
//! Nodes that do not depend on the symbol are never visited. The rules re-use the function's own value where that costs no
//! accuracy (exp, tan, quotients), since the value is computed anyway.
//!
//! Where a function has no derivative at single points, the rules give a one-sided one or zero: 0 for comparisons, logical
//! operators, `sign`, `floor`, `ceil`, `quotient` and `factorial` (defined on whole numbers only); the derivative of the branch
//! taken for `min`, `max` and piecewise functions; 0 for `abs` at 0.

use super::graph::{ExprId, Graph, Node, SymbolId};
use super::op::{Binary, Unary};
use std::f64::consts::{LN_2, LN_10};

impl Graph {
    /// The partial derivative of the expression with respect to a symbol.
    pub fn derivative(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        let mut stack = vec![(e, false)];
        while let Some((e, ready)) = stack.pop() {
            if !self.depends_on(e, symbol) || self.derivatives.contains_key(&(e, symbol)) {
                continue;
            }
            if ready {
                let derivative = self.differentiate(e, symbol);
                self.derivatives.insert((e, symbol), derivative);
            } else {
                stack.push((e, true));
                self.node(e).for_each_argument(|a| stack.push((a, false)));
            }
        }
        self.made_derivative(e, symbol)
    }

    /// The derivative of an expression that has been differentiated already or does not depend on the symbol.
    fn made_derivative(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        match self.derivatives.get(&(e, symbol)) {
            Some(derivative) => *derivative,
            None => self.constant(0.0),
        }
    }

    /// The derivative of a node whose arguments have been differentiated already.
    fn differentiate(&mut self, e: ExprId, symbol: SymbolId) -> ExprId {
        match self.node(e) {
            Node::Constant(_) => self.constant(0.0),
            Node::Symbol(s) => self.constant(if s == symbol { 1.0 } else { 0.0 }),
            Node::Unary(op, u) => {
                let du = self.made_derivative(u, symbol);
                if self.is_zero(du) { du } else { self.differentiate_unary(op, e, u, du) }
            }
            Node::Binary(op, a, b) => {
                let (da, db) = (self.made_derivative(a, symbol), self.made_derivative(b, symbol));
                if self.is_zero(da) && self.is_zero(db) { da } else { self.differentiate_binary(op, e, [a, b], [da, db]) }
            }
            Node::Select(c, a, b) => {
                let (da, db) = (self.made_derivative(a, symbol), self.made_derivative(b, symbol));
                self.select(c, da, db)
            }
        }
    }

    /// The derivative of `e = op(u)`, where that of u is `du`.
    #[rustfmt::skip]
    fn differentiate_unary(&mut self, op: Unary, e: ExprId, u: ExprId, du: ExprId) -> ExprId {
        use Unary::*;
        match op {
            Neg => self.neg(du),
            Not | Sign | Floor | Ceil | Factorial => self.constant(0.0),
            Abs => { let s = self.unary(Sign, u); self.mul(s, du) }
            // du / (2 sqrt(u))
            Sqrt => { let d = self.times(2.0, e); self.ratio(du, d) }
            Exp => self.mul(e, du),
            Ln => self.ratio(du, u),
            Log10 => { let d = self.times(LN_10, u); self.ratio(du, d) }
            Log2 => { let d = self.times(LN_2, u); self.ratio(du, d) }
            Sin => { let d = self.unary(Cos, u); self.mul(d, du) }
            Cos => { let d = self.unary(Sin, u); self.minus_product(d, du) }
            // tan' = 1 + tan^2
            Tan => { let d = self.one_plus_square(e); self.mul(d, du) }
            // sec' = sec tan
            Sec => { let t = self.unary(Tan, u); let d = self.mul(e, t); self.mul(d, du) }
            // csc' = -csc cot
            Csc => { let t = self.unary(Cot, u); let d = self.mul(e, t); self.minus_product(d, du) }
            // cot' = -(1 + cot^2)
            Cot => { let d = self.one_plus_square(e); self.minus_product(d, du) }
            // arcsin' = 1 / sqrt(1 - u^2)
            Asin => { let d = self.root_of_one_minus_square(u); self.ratio(du, d) }
            Acos => { let d = self.root_of_one_minus_square(u); self.minus_ratio(du, d) }
            // arctan' = 1 / (1 + u^2)
            Atan => { let d = self.one_plus_square(u); self.ratio(du, d) }
            // arcsec' = 1 / (|u| sqrt(u^2 - 1))
            Asec => { let d = self.abs_times_root(u, -1.0); self.ratio(du, d) }
            Acsc => { let d = self.abs_times_root(u, -1.0); self.minus_ratio(du, d) }
            Acot => { let d = self.one_plus_square(u); self.minus_ratio(du, d) }
            Sinh => { let d = self.unary(Cosh, u); self.mul(d, du) }
            Cosh => { let d = self.unary(Sinh, u); self.mul(d, du) }
            // tanh' = sech^2 (1 - tanh^2 would cancel)
            Tanh => { let s = self.unary(Sech, u); let d = self.square(s); self.mul(d, du) }
            // sech' = -sech tanh
            Sech => { let t = self.unary(Tanh, u); let d = self.mul(e, t); self.minus_product(d, du) }
            // csch' = -csch coth
            Csch => { let t = self.unary(Coth, u); let d = self.mul(e, t); self.minus_product(d, du) }
            // coth' = -csch^2
            Coth => { let s = self.unary(Csch, u); let d = self.square(s); self.minus_product(d, du) }
            // arcsinh' = 1 / sqrt(1 + u^2)
            Asinh => { let d = self.one_plus_square(u); let d = self.unary(Sqrt, d); self.ratio(du, d) }
            // arccosh' = 1 / sqrt(u^2 - 1), in factors that do not cancel
            Acosh => { let d = self.square_minus_one(u); let d = self.unary(Sqrt, d); self.ratio(du, d) }
            // arctanh' = arccoth' = 1 / (1 - u^2)
            Atanh | Acoth => { let d = self.square_minus_one(u); self.minus_ratio(du, d) }
            // arcsech' = -1 / (u sqrt(1 - u^2))
            Asech => { let d = self.root_of_one_minus_square(u); let d = self.mul(u, d); self.minus_ratio(du, d) }
            // arccsch' = -1 / (|u| sqrt(1 + u^2))
            Acsch => { let d = self.abs_times_root(u, 1.0); self.minus_ratio(du, d) }
        }
    }

    /// The derivative of `e = op(a, b)`, where those of a and b are `da` and `db`.
    fn differentiate_binary(&mut self, op: Binary, e: ExprId, [a, b]: [ExprId; 2], [da, db]: [ExprId; 2]) -> ExprId {
        use Binary::*;
        match op {
            Add => self.add(da, db),
            Sub => self.sub(da, db),
            Mul => {
                let (x, y) = (self.mul(da, b), self.mul(a, db));
                self.add(x, y)
            }
            // (da - (a / b) db) / b
            Div => {
                let correction = self.mul(e, db);
                let numerator = self.sub(da, correction);
                self.ratio(numerator, b)
            }
            Pow => self.differentiate_power(e, [a, b], [da, db]),
            Min => {
                let first = self.binary(Lt, a, b);
                self.select(first, da, db)
            }
            Max => {
                let first = self.binary(Gt, a, b);
                self.select(first, da, db)
            }
            // rem(a, b) = a - quotient(a, b) b
            Rem => {
                let quotient = self.binary(Quotient, a, b);
                let correction = self.mul(quotient, db);
                self.sub(da, correction)
            }
            Quotient | Lt | Le | Gt | Ge | Eq | Ne | And | Or | Xor => self.constant(0.0),
        }
    }

    /// The derivative of e = a^b, that is b a^(b-1) da + a^b ln(a) db.
    ///
    /// The first term is not written as b e / a, which is NaN at a = 0. In the second one the logarithm counts as 0 where a is not
    /// positive: at a = 0 the limit is 0 for b > 0, and for negative a the power is real for whole b only, which cannot vary.
    fn differentiate_power(&mut self, e: ExprId, [a, b]: [ExprId; 2], [da, db]: [ExprId; 2]) -> ExprId {
        let zero = self.constant(0.0);
        let mut derivative = zero;
        if !self.is_zero(da) {
            let one = self.constant(1.0);
            let exponent = self.sub(b, one);
            let power = self.pow(a, exponent);
            let slope = self.mul(b, power);
            derivative = self.mul(slope, da);
        }
        if !self.is_zero(db) {
            let positive = self.binary(Binary::Gt, a, zero);
            let ln = self.unary(Unary::Ln, a);
            let ln = self.select(positive, ln, zero);
            let slope = self.mul(e, ln);
            let term = self.mul(slope, db);
            derivative = self.add(derivative, term);
        }
        derivative
    }

    /// n / d, and 0 for n = 0 whatever d is: a function that is constant has the derivative 0 wherever it is defined.
    fn ratio(&mut self, n: ExprId, d: ExprId) -> ExprId {
        if self.is_zero(n) { n } else { self.div(n, d) }
    }

    fn minus_ratio(&mut self, n: ExprId, d: ExprId) -> ExprId {
        let ratio = self.ratio(n, d);
        self.neg(ratio)
    }

    fn minus_product(&mut self, a: ExprId, b: ExprId) -> ExprId {
        let product = self.mul(a, b);
        self.neg(product)
    }

    fn times(&mut self, factor: f64, a: ExprId) -> ExprId {
        let factor = self.constant(factor);
        self.mul(factor, a)
    }

    fn square(&mut self, a: ExprId) -> ExprId {
        self.mul(a, a)
    }

    fn one_plus_square(&mut self, a: ExprId) -> ExprId {
        let (one, square) = (self.constant(1.0), self.square(a));
        self.add(one, square)
    }

    /// (u - 1) (u + 1)
    fn square_minus_one(&mut self, u: ExprId) -> ExprId {
        let one = self.constant(1.0);
        let (below, above) = (self.sub(u, one), self.add(u, one));
        self.mul(below, above)
    }

    /// sqrt((1 - u) (1 + u))
    fn root_of_one_minus_square(&mut self, u: ExprId) -> ExprId {
        let one = self.constant(1.0);
        let (below, above) = (self.sub(one, u), self.add(one, u));
        let product = self.mul(below, above);
        self.unary(Unary::Sqrt, product)
    }

    /// |u| sqrt(u^2 + shift)
    fn abs_times_root(&mut self, u: ExprId, shift: f64) -> ExprId {
        let (square, shift) = (self.square(u), self.constant(shift));
        let sum = self.add(square, shift);
        let (abs, root) = (self.unary(Unary::Abs, u), self.unary(Unary::Sqrt, sum));
        self.mul(abs, root)
    }
}
