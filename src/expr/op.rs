//! The table of operators and functions: evaluation (the definition that interpreter and machine code share) and names.
//!
//! Booleans are numbers: a comparison yields 1 or 0, and everything but 0 counts as true (NaN, too).
//!
//! To add a function: a variant here with its value in `apply` and its name in `name`, a rule in `derivative.rs`, and, if
//! PEtab math knows it, its name in the table of `parse.rs`. The code generator calls `apply` unless it knows better.

/// Operators and functions of one argument.
///
/// `Factorial` is meant for whole numbers and NaN elsewhere. The inverse functions are principal values; those of the
/// reciprocal functions are `f(1/x)`, so `Acot` is within (-pi/2, pi/2].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Unary {
    Neg, Not, Abs, Sign, Floor, Ceil, Factorial,
    Sqrt, Exp, Ln, Log10, Log2,
    Sin, Cos, Tan, Sec, Csc, Cot,
    Asin, Acos, Atan, Asec, Acsc, Acot,
    Sinh, Cosh, Tanh, Sech, Csch, Coth,
    Asinh, Acosh, Atanh, Asech, Acsch, Acoth,
}

/// Operators and functions of two arguments.
///
/// `Rem` has the sign of the dividend; `Quotient` truncates; `Root(n, x)` does not exist (it is a power). `Min` and `Max`
/// are NaN if one of their arguments is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Binary {
    Add, Sub, Mul, Div, Pow,
    Min, Max, Rem, Quotient,
    Lt, Le, Gt, Ge, Eq, Ne,
    And, Or, Xor,
}

/// The number that stands for a truth value.
pub(crate) fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

impl Unary {
    /// All functions, for tables and tests.
    #[rustfmt::skip]
    pub const ALL: [Unary; 36] = {
        use Unary::*;
        [
            Neg, Not, Abs, Sign, Floor, Ceil, Factorial, Sqrt, Exp, Ln, Log10, Log2, Sin, Cos, Tan, Sec, Csc, Cot, Asin, Acos, Atan,
            Asec, Acsc, Acot, Sinh, Cosh, Tanh, Sech, Csch, Coth, Asinh, Acosh, Atanh, Asech, Acsch, Acoth,
        ]
    };

    /// The value at `x`. Outside the domain it is NaN or infinite, as IEEE 754 has it.
    #[rustfmt::skip]
    pub fn apply(self, x: f64) -> f64 {
        use Unary::*;
        match self {
            Neg => -x,
            Not => truth(x == 0.0),
            Abs => x.abs(),
            Sign => if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x + 0.0 }, // NaN stays, -0 becomes 0
            Floor => x.floor(),
            Ceil => x.ceil(),
            Factorial => factorial(x),
            Sqrt => x.sqrt(),
            Exp => x.exp(),
            Ln => x.ln(),
            Log10 => x.log10(),
            Log2 => x.log2(),
            Sin => x.sin(),
            Cos => x.cos(),
            Tan => x.tan(),
            Sec => 1.0 / x.cos(),
            Csc => 1.0 / x.sin(),
            Cot => 1.0 / x.tan(),
            Asin => x.asin(),
            Acos => x.acos(),
            Atan => x.atan(),
            Asec => (1.0 / x).acos(),
            Acsc => (1.0 / x).asin(),
            Acot => (1.0 / x).atan(),
            Sinh => x.sinh(),
            Cosh => x.cosh(),
            Tanh => x.tanh(),
            Sech => 1.0 / x.cosh(),
            Csch => 1.0 / x.sinh(),
            Coth => 1.0 / x.tanh(),
            Asinh => x.asinh(),
            Acosh => x.acosh(),
            Atanh => x.atanh(),
            Asech => (1.0 / x).acosh(),
            Acsch => (1.0 / x).asinh(),
            Acoth => (1.0 / x).atanh(),
        }
    }

    /// Name as PEtab math spells it (the operators by their sign; floor, ceil and factorial are unknown there).
    #[rustfmt::skip]
    pub fn name(self) -> &'static str {
        use Unary::*;
        match self {
            Neg => "-", Not => "!", Abs => "abs", Sign => "sign", Floor => "floor", Ceil => "ceil", Factorial => "factorial",
            Sqrt => "sqrt", Exp => "exp", Ln => "ln", Log10 => "log10", Log2 => "log2",
            Sin => "sin", Cos => "cos", Tan => "tan", Sec => "sec", Csc => "csc", Cot => "cot",
            Asin => "arcsin", Acos => "arccos", Atan => "arctan", Asec => "arcsec", Acsc => "arccsc", Acot => "arccot",
            Sinh => "sinh", Cosh => "cosh", Tanh => "tanh", Sech => "sech", Csch => "csch", Coth => "coth",
            Asinh => "arcsinh", Acosh => "arccosh", Atanh => "arctanh",
            Asech => "arcsech", Acsch => "arccsch", Acoth => "arccoth",
        }
    }
}

/// x! of a whole number (infinite from 171 on), NaN of anything else.
fn factorial(x: f64) -> f64 {
    if x < 0.0 || x.fract() != 0.0 {
        return f64::NAN; // also for NaN and infinity, whose fractional part is NaN
    }
    (2..=x.min(171.0) as u32).map(f64::from).product()
}

impl Binary {
    /// All operators and functions, for tables and tests.
    #[rustfmt::skip]
    pub const ALL: [Binary; 18] = {
        use Binary::*;
        [Add, Sub, Mul, Div, Pow, Min, Max, Rem, Quotient, Lt, Le, Gt, Ge, Eq, Ne, And, Or, Xor]
    };

    /// The value at `(a, b)`.
    #[rustfmt::skip]
    pub fn apply(self, a: f64, b: f64) -> f64 {
        use Binary::*;
        match self {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Pow => power(a, b),
            Min => if a < b || a.is_nan() { a } else { b },
            Max => if a > b || a.is_nan() { a } else { b },
            Rem => a % b,
            Quotient => (a / b).trunc(),
            Lt => truth(a < b),
            Le => truth(a <= b),
            Gt => truth(a > b),
            Ge => truth(a >= b),
            Eq => truth(a == b),
            Ne => truth(a != b),
            And => truth(a != 0.0 && b != 0.0),
            Or => truth(a != 0.0 || b != 0.0),
            Xor => truth((a != 0.0) != (b != 0.0)),
        }
    }

    /// Name as PEtab math spells it (rem, quotient and xor are unknown there).
    #[rustfmt::skip]
    pub fn name(self) -> &'static str {
        use Binary::*;
        match self {
            Add => "+", Sub => "-", Mul => "*", Div => "/", Pow => "^", Min => "min", Max => "max", Rem => "rem", Quotient => "quotient",
            Lt => "<", Le => "<=", Gt => ">", Ge => ">=", Eq => "==", Ne => "!=", And => "&&", Or => "||", Xor => "xor",
        }
    }

    /// Whether the value is a truth value.
    pub fn is_boolean(self) -> bool {
        use Binary::*;
        matches!(self, Lt | Le | Gt | Ge | Eq | Ne | And | Or | Xor)
    }

    /// Whether the arguments may be swapped.
    pub(crate) fn is_commutative(self) -> bool {
        use Binary::*;
        matches!(self, Add | Mul | Min | Max | Eq | Ne | And | Or | Xor)
    }
}

/// An exponent whose power is not computed by the `pow` of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerPlan {
    /// x^n, n within 1..=8, by multiplications.
    Product(u32),
    /// 1 / x^n.
    Reciprocal(u32),
    /// Square root.
    Root,
    /// 1 / square root.
    ReciprocalRoot,
}

/// How x^`exponent` is computed if not by `pow`: whole exponents up to 8 and +-1/2.
pub(crate) fn power_plan(exponent: f64) -> Option<PowerPlan> {
    if exponent == 0.5 {
        Some(PowerPlan::Root)
    } else if exponent == -0.5 {
        Some(PowerPlan::ReciprocalRoot)
    } else if exponent.fract() == 0.0 && (1.0..=8.0).contains(&exponent.abs()) {
        let n = exponent.abs() as u32;
        Some(if exponent > 0.0 { PowerPlan::Product(n) } else { PowerPlan::Reciprocal(n) })
    } else {
        None
    }
}

/// x^n for n within 1..=8 by squaring: the squares x^2 and x^4 are shared between the powers of one base. `multiply` builds
/// one product, so that interpreter and machine code take the same steps.
pub(crate) fn whole_power<T: Copy>(x: T, n: u32, mut multiply: impl FnMut(T, T) -> T) -> T {
    debug_assert!((1..=8).contains(&n));
    let mut product = None;
    let mut square = x;
    let mut rest = n;
    loop {
        if rest & 1 == 1 {
            product = Some(match product {
                None => square,
                Some(p) => multiply(square, p),
            });
        }
        rest >>= 1;
        if rest == 0 {
            return product.unwrap_or(x);
        }
        square = multiply(square, square);
    }
}

/// a^b with the short cuts of [`power_plan`].
fn power(a: f64, b: f64) -> f64 {
    match power_plan(b) {
        Some(PowerPlan::Product(n)) => whole_power(a, n, |x, y| x * y),
        Some(PowerPlan::Reciprocal(n)) => 1.0 / whole_power(a, n, |x, y| x * y),
        Some(PowerPlan::Root) => a.sqrt(),
        Some(PowerPlan::ReciprocalRoot) => 1.0 / a.sqrt(),
        None => a.powf(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_by_multiplication_agree_with_pow() {
        for x in [-2.5f64, -1.0, 0.0, 0.3, 1.0, 7.25] {
            for n in -8..=8 {
                let (got, want) = (Binary::Pow.apply(x, f64::from(n)), x.powi(n));
                assert!(got == want || ((got - want) / want).abs() < 1e-15, "{x}^{n}: {got} {want}");
            }
        }
        assert_eq!(Binary::Pow.apply(2.0, 0.5), 2f64.sqrt());
        assert_eq!(Binary::Pow.apply(0.0, 0.0), 1.0);
        assert_eq!(Binary::Pow.apply(2.0, 9.0), 512.0);
    }

    #[test]
    fn values_at_the_edges() {
        assert_eq!(Unary::Acoth.apply(1.0), f64::INFINITY);
        assert_eq!(Unary::Ln.apply(0.0), f64::NEG_INFINITY);
        assert_eq!(Unary::Acot.apply(-1.0), -std::f64::consts::FRAC_PI_4);
        assert_eq!(Unary::Sign.apply(-0.0), 0.0);
        assert_eq!([0.0, 1.0, 5.0, 170.0].map(|x| Unary::Factorial.apply(x))[..3], [1.0, 1.0, 120.0]);
        assert_eq!(Unary::Factorial.apply(1e300), f64::INFINITY);
        assert!([-1.0, 0.5, f64::NAN].iter().all(|x| Unary::Factorial.apply(*x).is_nan()));
        assert_eq!((Binary::Rem.apply(-7.0, 3.0), Binary::Quotient.apply(-7.0, 3.0)), (-1.0, -2.0));
        for op in [Binary::Min, Binary::Max] {
            assert!(op.apply(f64::NAN, 1.0).is_nan() && op.apply(1.0, f64::NAN).is_nan());
        }
    }
}
