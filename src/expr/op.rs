//! The table of operators and functions: evaluation (the definition that interpreter and machine code share) and names.
//!
//! Booleans are numbers: a comparison yields 1 or 0, and everything but 0 counts as true.

/// Operators and functions of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Unary {
    Neg, Not, Abs, Sign, Floor, Ceil, Factorial,
    Sqrt, Exp, Ln, Log10, Log2,
    Sin, Cos, Tan, Sec, Csc, Cot,
    Asin, Acos, Atan, Asec, Acsc, Acot,
    Sinh, Cosh, Tanh, Sech, Csch, Coth,
    Asinh, Acosh, Atanh, Asech, Acsch, Acoth,
}

/// Operators and functions of two arguments. `Rem` has the sign of the dividend; `Quotient` truncates; `Root(n, x)` does not exist (it is a power).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Binary {
    Add, Sub, Mul, Div, Pow,
    Min, Max, Rem, Quotient,
    Lt, Le, Gt, Ge, Eq, Ne,
    And, Or, Xor,
}

fn truth(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

impl Unary {
    /// The function's value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Unary::Neg => -x,
            Unary::Not => truth(x == 0.0),
            Unary::Abs => x.abs(),
            Unary::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    // Keeps NaN.
                    x * 0.0
                }
            }
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Factorial => factorial(x),
            Unary::Sqrt => x.sqrt(),
            Unary::Exp => x.exp(),
            Unary::Ln => x.ln(),
            Unary::Log10 => x.log10(),
            Unary::Log2 => x.log2(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Tan => x.tan(),
            Unary::Sec => 1.0 / x.cos(),
            Unary::Csc => 1.0 / x.sin(),
            Unary::Cot => 1.0 / x.tan(),
            Unary::Asin => x.asin(),
            Unary::Acos => x.acos(),
            Unary::Atan => x.atan(),
            Unary::Asec => (1.0 / x).acos(),
            Unary::Acsc => (1.0 / x).asin(),
            // In (-pi/2, pi/2], as PEtab's reference implementation has it (PETAB.md 5).
            Unary::Acot => (1.0 / x).atan(),
            Unary::Sinh => x.sinh(),
            Unary::Cosh => x.cosh(),
            Unary::Tanh => x.tanh(),
            Unary::Sech => 1.0 / x.cosh(),
            Unary::Csch => 1.0 / x.sinh(),
            Unary::Coth => 1.0 / x.tanh(),
            Unary::Asinh => x.asinh(),
            Unary::Acosh => x.acosh(),
            Unary::Atanh => x.atanh(),
            Unary::Asech => (1.0 / x).acosh(),
            Unary::Acsch => (1.0 / x).asinh(),
            Unary::Acoth => (1.0 / x).atanh(),
        }
    }
}

/// x! for whole numbers by product, gamma(x + 1) otherwise.
fn factorial(x: f64) -> f64 {
    if x >= 0.0 && x.fract() == 0.0 && x <= 170.0 {
        (2..=x as u32).map(f64::from).product()
    } else if x > 170.0 {
        f64::INFINITY
    } else {
        statrs::function::gamma::gamma(x + 1.0)
    }
}

impl Binary {
    /// The function's value.
    pub fn apply(self, x: f64, y: f64) -> f64 {
        match self {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::Pow => x.powf(y),
            Binary::Min => if x <= y || x.is_nan() { x } else { y },
            Binary::Max => if x >= y || x.is_nan() { x } else { y },
            Binary::Rem => x % y,
            Binary::Quotient => (x / y).trunc(),
            Binary::Lt => truth(x < y),
            Binary::Le => truth(x <= y),
            Binary::Gt => truth(x > y),
            Binary::Ge => truth(x >= y),
            Binary::Eq => truth(x == y),
            Binary::Ne => truth(x != y),
            Binary::And => truth(x != 0.0 && y != 0.0),
            Binary::Or => truth(x != 0.0 || y != 0.0),
            Binary::Xor => truth((x != 0.0) != (y != 0.0)),
        }
    }
}
