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
