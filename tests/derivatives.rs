//! Symbolic derivatives against dual numbers: an independent set of rules, evaluated at points of random graphs over all operators,
//! first and second derivatives.
#![allow(clippy::unwrap_used)]

use mixode::expr::{Binary, ExprId, Graph, Node, SymbolId, Unary, parse};
use proptest::prelude::*;
use rustc_hash::FxHashMap;

/// Value, derivative, and the sum of the magnitudes of all terms that the derivative is a sum of: rounding errors of the derivative
/// are small against it. It is NaN once the value depends on something infinite, undefined, or so large or small that squares of it
/// leave the range of numbers (different but equivalent rules overflow at different places).
#[derive(Debug, Clone, Copy)]
struct Dual {
    value: f64,
    slope: f64,
    size: f64,
    /// False where the value is constant around the point, because of the branch taken or of the operator.
    varies: bool,
}

impl Dual {
    fn constant(value: f64) -> Self {
        let moderate = value == 0.0 || (1e-30..1e30).contains(&value.abs());
        Dual { value, slope: 0.0, size: if moderate { 0.0 } else { f64::NAN }, varies: false }
    }

    /// A function of the arguments with these partial derivatives. What does not vary contributes nothing; where moreover the partial
    /// derivative is not finite, the symbolic rules give 0 in simple cases only, so that nothing is said (`constant_branches` has these).
    fn function(value: f64, arguments: &[(Dual, f64)]) -> Self {
        let mut result = Dual::constant(value);
        for (argument, rate) in arguments {
            if argument.varies {
                result.slope += rate * argument.slope;
                result.varies = true;
            }
            result.size += if argument.varies || !rate.is_finite() { rate.abs() * argument.size } else { argument.size };
        }
        result
    }

    fn unary(self, op: Unary) -> Self {
        use Unary::*;
        let x = self.value;
        let squares = (1.0 - x) * (1.0 + x);
        let rate = match op {
            Neg => -1.0,
            Not | Sign | Floor | Ceil | Factorial => return Dual::constant(op.apply(x)),
            Abs => x.signum() * f64::from(u8::from(x != 0.0)),
            Sqrt => 0.5 / x.sqrt(),
            Exp => x.exp(),
            Ln => 1.0 / x,
            Log10 => std::f64::consts::LOG10_E / x,
            Log2 => std::f64::consts::LOG2_E / x,
            Sin => x.cos(),
            Cos => -x.sin(),
            Tan => x.cos().powi(-2),
            Sec => x.sin() * x.cos().powi(-2),
            Csc => -x.cos() * x.sin().powi(-2),
            Cot => -x.sin().powi(-2),
            Asin => 1.0 / squares.sqrt(),
            Acos => -1.0 / squares.sqrt(),
            Atan => 1.0 / (1.0 + x * x),
            Asec => 1.0 / (x.abs() * (-squares).sqrt()),
            Acsc => -1.0 / (x.abs() * (-squares).sqrt()),
            Acot => -1.0 / (1.0 + x * x),
            Sinh => x.cosh(),
            Cosh => x.sinh(),
            Tanh => x.cosh().powi(-2),
            Sech => -x.tanh() / x.cosh(),
            Csch => -1.0 / (x.tanh() * x.sinh()),
            Coth => -x.sinh().powi(-2),
            Asinh => 1.0 / x.hypot(1.0),
            Acosh => 1.0 / ((x - 1.0).sqrt() * (x + 1.0).sqrt()),
            Atanh | Acoth => 1.0 / squares,
            Asech => -1.0 / (x * squares.sqrt()),
            Acsch => -1.0 / (x.abs() * x.hypot(1.0)),
        };
        Dual::function(op.apply(x), &[(self, rate)])
    }

    fn binary(self, op: Binary, other: Dual) -> Self {
        use Binary::*;
        let (a, b) = (self.value, other.value);
        let value = op.apply(a, b);
        let by = |rate_a: f64, rate_b: f64| Dual::function(value, &[(self, rate_a), (other, rate_b)]);
        match op {
            Add => by(1.0, 1.0),
            Sub => by(1.0, -1.0),
            Mul => by(b, a),
            Div => by(1.0 / b, -(a / b) / b),
            Pow => by(b * a.powf(b - 1.0), if a > 0.0 { value * a.ln() } else { 0.0 }),
            Min | Max if value.is_nan() => Dual::constant(value),
            Min if a <= b => self,
            Max if a >= b => self,
            Min | Max => other,
            Rem => by(1.0, -(a / b).trunc()),
            Quotient | Lt | Le | Gt | Ge | Eq | Ne | And | Or | Xor => Dual::constant(value),
        }
    }
}

/// Evaluates with the derivative by `symbol`.
fn dual(graph: &Graph, e: ExprId, symbol: SymbolId, point: &dyn Fn(SymbolId) -> f64) -> Dual {
    let mut values: FxHashMap<ExprId, Dual> = FxHashMap::default();
    for e in graph.reachable(&[e]) {
        let value = match graph.node(e) {
            Node::Constant(bits) => Dual::constant(f64::from_bits(bits)),
            Node::Symbol(s) if s == symbol => Dual { value: point(s), slope: 1.0, size: 1.0, varies: true },
            Node::Symbol(s) => Dual::constant(point(s)),
            Node::Unary(op, a) => values[&a].unary(op),
            Node::Binary(op, a, b) => values[&a].binary(op, values[&b]),
            Node::Select(c, a, b) => values[if values[&c].value != 0.0 { &a } else { &b }],
        };
        values.insert(e, value);
    }
    values[&e]
}

const SYMBOLS: usize = 4;

/// Operator and operands of one node, taken modulo what there is.
type Operation = (u8, u8, u8, u8);

fn build(graph: &mut Graph, operations: &[Operation]) -> Vec<ExprId> {
    let unary = [
        Unary::Neg,
        Unary::Not,
        Unary::Abs,
        Unary::Sign,
        Unary::Floor,
        Unary::Ceil,
        Unary::Sqrt,
        Unary::Exp,
        Unary::Ln,
        Unary::Log10,
        Unary::Log2,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Sec,
        Unary::Csc,
        Unary::Cot,
        Unary::Asin,
        Unary::Acos,
        Unary::Atan,
        Unary::Asec,
        Unary::Acsc,
        Unary::Acot,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Tanh,
        Unary::Sech,
        Unary::Csch,
        Unary::Coth,
        Unary::Asinh,
        Unary::Acosh,
        Unary::Atanh,
        Unary::Asech,
        Unary::Acsch,
        Unary::Acoth,
    ];
    let binary = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Pow,
        Binary::Add,
        Binary::Mul,
        Binary::Div,
        Binary::Pow,
        Binary::Min,
        Binary::Max,
        Binary::Rem,
        Binary::Quotient,
        Binary::Lt,
        Binary::And,
    ];
    let mut values: Vec<ExprId> = [2.0, 0.5, -1.5, 3.0].map(|c| graph.constant(c)).into();
    values.extend((0..SYMBOLS).map(|i| graph.symbol(&format!("s{i}"))));
    for &(op, a, b, c) in operations {
        // Mostly recent values, so that most of what is built depends on a symbol by a chain of operators.
        let pick = |at: u8| {
            let reach = if at < 192 { 3 } else { values.len() };
            values[values.len() - 1 - at as usize % reach]
        };
        let (a, b, c) = (pick(a), pick(b), pick(c));
        let value = match op as usize % (unary.len() + 2 * binary.len() + 4) {
            i if i < unary.len() => graph.unary(unary[i], a),
            i if i < unary.len() + 2 * binary.len() => graph.binary(binary[(i - unary.len()) % binary.len()], a, b),
            _ => graph.select(c, a, b),
        };
        values.push(value);
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Relative error 1e-9 of the terms' total size, where dual numbers give a finite answer.
    #[test]
    fn symbolic_derivatives_agree_with_dual_numbers(
        operations in prop::collection::vec(any::<Operation>(), 1..14), point in prop::collection::vec(-3.0..3.0, SYMBOLS), scale in 0.01..8.0,
    ) {
        let mut graph = Graph::new();
        let values = build(&mut graph, &operations);
        let symbols: Vec<SymbolId> = (0..SYMBOLS).map(|i| graph.find(&format!("s{i}")).unwrap()).collect();
        let at = |s: SymbolId| scale * point[symbols.iter().position(|x| *x == s).unwrap()];
        for last in values.into_iter().skip(4 + SYMBOLS) {
            for first in [symbols[2], symbols[3]] {
                let slope = graph.derivative(last, first);
                for (e, by) in [(last, first), (slope, symbols[1]), (slope, symbols[3])] {
                    let derivative = graph.derivative(e, by);
                    let expected = dual(&graph, e, by, &at);
                    if !(expected.slope.is_finite() && expected.size.is_finite()) {
                        continue;
                    }
                    let found = graph.evaluate(&[derivative], &at)[0];
                    prop_assert!(
                        (found - expected.slope).abs() <= 1e-9 * expected.size + f64::MIN_POSITIVE,
                        "d ({}) / d {} = {found:e} by {}, expected {expected:?}, at {:?}",
                        graph.print(e), graph.name(by), graph.print(derivative), symbols.iter().map(|s| at(*s)).collect::<Vec<_>>(),
                    );
                }
            }
        }
    }
}

/// Where the branch taken is constant, the derivative is 0 though the outer function's slope is infinite there.
#[test]
fn constant_branches() {
    let formulas = [
        "sqrt(max(0, x))",
        "max(x, 0)^0.5",
        "-2 * sqrt(3 * max(0, x))",
        "(1 - max(0, -max(0, x)))^1.5 + max(0, x)^0.3",
        "arccos(max(-1, min(1, 1 + x * x)))",
        "ln(max(0, x) * 3) / 2 + ln(1 / max(0, x))",
        "sqrt(piecewise(0, x < -2, 0, x < 0, x))",
        "piecewise(0, x < 0, sqrt(x))",
    ];
    for formula in formulas {
        let mut graph = Graph::new();
        let ast = parse(formula).unwrap();
        let e = graph.lower(&ast, &mut |graph, _| Some(graph.symbol("x"))).unwrap();
        let x = graph.find("x").unwrap();
        let derivative = graph.derivative(e, x);
        for point in [-1.0, -3.0] {
            assert_eq!(graph.evaluate(&[derivative], &|_| point), [0.0], "{formula}: {}", graph.print(derivative));
        }
    }
}
