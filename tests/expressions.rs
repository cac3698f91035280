//! Formulas from text to machine code: the published PEtab math suite; machine code against the interpreter, derivatives against
//! differences, printing against parsing, simplification against direct evaluation.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use mixode::expr::{self, Ast, AstKind, Binary, ExprId, Graph, SymbolId, Unary};
use mixode::jit::{self, Backend, Layout, Scratch};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const UNARY: [Unary; 36] = [
    Unary::Neg,
    Unary::Not,
    Unary::Abs,
    Unary::Sign,
    Unary::Floor,
    Unary::Ceil,
    Unary::Factorial,
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

const BINARY: [Binary; 18] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Pow,
    Binary::Min,
    Binary::Max,
    Binary::Rem,
    Binary::Quotient,
    Binary::Lt,
    Binary::Le,
    Binary::Gt,
    Binary::Ge,
    Binary::Eq,
    Binary::Ne,
    Binary::And,
    Binary::Or,
    Binary::Xor,
];

/// Lowers a formula whose names become symbols.
fn lower(graph: &mut Graph, ast: &Ast) -> ExprId {
    let mut resolve = |graph: &mut Graph, node: &Ast| match &node.kind {
        AstKind::Name(name) => Some(graph.symbol(name)),
        AstKind::Time => Some(graph.symbol("time")),
        _ => None,
    };
    graph.lower(ast, &mut resolve).expect("only names and time are unresolved")
}

/// The PEtab 2.0 test suite's math cases: relative error at most 1e-12 (the tolerance of the suite's judge).
#[test]
fn petab_math_suite() {
    let shared = std::env::var_os("MIXODE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(shared.join("suites/petab/math/math_tests.json")) else {
        eprintln!("LEFT OUT: no PEtab math suite at $MIXODE_SHARED/suites/petab/math");
        return;
    };
    let suite: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = suite["cases"].as_array().unwrap();
    assert!(cases.len() > 60, "only {} cases", cases.len());
    for case in cases {
        let text = case["expression"].as_str().unwrap();
        let ast = expr::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let mut graph = Graph::new();
        let found = lower(&mut graph, &ast);
        let expected = match &case["expected"] {
            serde_json::Value::Number(number) => number.as_f64().unwrap(),
            serde_json::Value::String(word) => match word.as_str() {
                "inf" => f64::INFINITY,
                "-inf" => f64::NEG_INFINITY,
                "a * b" => {
                    let (a, b) = (graph.symbol("a"), graph.symbol("b"));
                    assert_eq!(found, graph.mul(a, b));
                    continue;
                }
                other => panic!("{text}: unexpected `{other}`"),
            },
            other => panic!("{text}: unexpected {other}"),
        };
        let value = graph.constant_value(found).expect("literals fold to a constant");
        assert!(value == expected || (value - expected).abs() <= 1e-12 * expected.abs(), "{text} = {value}, expected {expected}");
    }
}

/// Equal bits, or NaN both (whose bits no standard fixes).
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Numbers on which operators differ most.
fn number() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 170.0, 1e300, -1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    prop_oneof![2 => prop::sample::select(special.to_vec()), 3 => -3.0..3.0, 1 => -1e3..1e3, 1 => any::<f64>()]
}

/// One operation on earlier values: kind, operator and operands as indices (taken modulo what there is).
type Operation = (u8, u8, u16, u16, u16);

const SYMBOLS: usize = 6;

fn operations(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec((0..12_u8, any::<u8>(), any::<u16>(), any::<u16>(), any::<u16>()), length)
}

/// The expressions that the operations build, symbols and constants first.
fn build(graph: &mut Graph, constants: &[f64], operations: &[Operation], unary: &[Unary], binary: &[Binary]) -> Vec<ExprId> {
    let mut values: Vec<ExprId> = (0..SYMBOLS).map(|i| graph.symbol(&format!("s{i}"))).collect();
    values.extend(constants.iter().map(|c| graph.constant(*c)));
    for &(kind, op, a, b, c) in operations {
        // Mostly operands from nearby, as in real formulas, some from far away, which live long.
        let pick = |at: u16| {
            let back = if at.is_multiple_of(4) { at as usize / 4 } else { at as usize % 12 };
            values[values.len() - 1 - back % values.len()]
        };
        let (a, b, c) = (pick(a), pick(b), pick(c));
        let value = match kind {
            0..4 => graph.unary(unary[op as usize % unary.len()], a),
            4..10 => graph.binary(binary[op as usize % binary.len()], a, b),
            10 => graph.binary(binary[op as usize % 4 % binary.len()], a, b),
            _ => graph.select(a, b, c),
        };
        values.push(value);
    }
    values
}

/// Symbols alternate between two input arrays.
fn layout(graph: &Graph) -> Layout {
    let mut layout = Layout::new();
    for i in 0..SYMBOLS {
        layout.place(graph.find(&format!("s{i}")).unwrap(), 1 + i % 2, i / 2);
    }
    layout
}

fn arrays(inputs: &[f64]) -> (Vec<f64>, Vec<f64>) {
    (inputs.iter().step_by(2).copied().collect(), inputs.iter().skip(1).step_by(2).copied().collect())
}

fn machine_code_agrees(constants: &[f64], operations: &[Operation], inputs: &[Vec<f64>]) -> Result<(), TestCaseError> {
    let mut graph = Graph::new();
    let values = build(&mut graph, constants, operations, &UNARY, &BINARY);
    let layout = layout(&graph);
    // All values, some of them, none, all backwards and twice: kernels of one piece of code, with different chunks.
    let some: Vec<ExprId> = values.iter().copied().step_by(7).collect();
    let twice: Vec<ExprId> = values.iter().rev().chain(&values).copied().collect();
    let lists: [&[ExprId]; 4] = [&values, &some, &[], &twice];
    let machine = jit::compile(&graph, &layout, &lists, Backend::Machine).unwrap();
    let slow = jit::compile(&graph, &layout, &lists, Backend::Interpreter).unwrap();
    let mut scratch = Scratch::default();
    for input in inputs {
        let (even, odd) = arrays(input);
        for ((list, machine), slow) in lists.iter().zip(&machine).zip(&slow) {
            let (mut found, mut expected) = (vec![7.0; list.len()], vec![8.0; list.len()]);
            machine.call([&[], &even, &odd, &[]], &mut found, &mut scratch);
            slow.call([&[], &even, &odd, &[]], &mut expected, &mut scratch);
            for ((e, f), x) in list.iter().zip(&found).zip(&expected) {
                prop_assert!(same(*f, *x), "{}: machine {f:?}, interpreter {x:?}, at {input:?}", graph.print(*e));
            }
            let symbol = |s: SymbolId| input[graph.name(s)[1..].parse::<usize>().unwrap()];
            for ((e, x), direct) in list.iter().zip(&expected).zip(graph.evaluate(list, &symbol)) {
                prop_assert!(same(direct, *x), "{}: {direct:?} and {x:?}", graph.print(*e));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn machine_code_of_short_programs(
        constants in prop::collection::vec(number(), 3), operations in operations(1..60),
        inputs in prop::collection::vec(prop::collection::vec(number(), SYMBOLS), 8),
    ) {
        machine_code_agrees(&constants, &operations, &inputs)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Long enough for several functions, between which values cross in scratch memory.
    #[test]
    fn machine_code_of_long_programs(
        constants in prop::collection::vec(number(), 3), operations in operations(1200..1500),
        inputs in prop::collection::vec(prop::collection::vec(number(), SYMBOLS), 4),
    ) {
        machine_code_agrees(&constants, &operations, &inputs)?;
    }
}

/// Every operator on every pair of special numbers, with operands that no constructor can fold.
#[test]
fn machine_code_of_every_operator() {
    let mut graph = Graph::new();
    let (x, y) = (graph.symbol("x"), graph.symbol("y"));
    let mut list: Vec<ExprId> = UNARY.iter().map(|op| graph.unary(*op, x)).collect();
    list.extend(BINARY.iter().map(|op| graph.binary(*op, x, y)));
    list.push(graph.select(x, y, x));
    // Choices by a comparison, by its negation, and by a truth value made of others.
    let (less, more) = (graph.binary(Binary::Lt, x, y), graph.binary(Binary::Ge, x, y));
    let (not, both, xor) = (graph.unary(Unary::Not, less), graph.binary(Binary::And, less, y), graph.binary(Binary::Xor, more, x));
    list.extend([less, not, both, xor].map(|c| graph.select(c, x, y)));
    list.push(graph.add(less, not));
    let mut layout = Layout::new();
    layout.place(graph.find("x").unwrap(), 0, 0);
    layout.place(graph.find("y").unwrap(), 3, 2);
    let kernel = |backend| jit::compile(&graph, &layout, &[&list], backend).unwrap().remove(0);
    let (machine, slow) = (kernel(Backend::Machine), kernel(Backend::Interpreter));
    let numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        3.0,
        -3.0,
        5.5,
        -5.5,
        1e-3,
        20.0,
        170.0,
        171.5,
        -170.5,
        1e9,
        1e300,
        -1e300,
        f64::MIN_POSITIVE,
        5e-324,
        -5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let (mut found, mut expected) = (vec![0.0; list.len()], vec![0.0; list.len()]);
    let mut scratch = Scratch::default();
    for x in numbers {
        for y in numbers {
            machine.call([&[x], &[], &[], &[f64::NAN, f64::NAN, y]], &mut found, &mut scratch);
            slow.call([&[x], &[], &[], &[f64::NAN, f64::NAN, y]], &mut expected, &mut scratch);
            for ((e, f), s) in list.iter().zip(&found).zip(&expected) {
                assert!(same(*f, *s), "{} at ({x:?}, {y:?}): machine {f:?}, interpreter {s:?}", graph.print(*e));
            }
        }
    }
}

/// Kernels may be called from many threads at once, outlive their siblings, and check their arguments.
#[test]
fn kernels_are_shared_and_checked() {
    let mut graph = Graph::new();
    let x = graph.symbol("x");
    let outputs: Vec<ExprId> = (0..2000)
        .map(|i| {
            let c = graph.constant(f64::from(i));
            let sum = graph.add(x, c);
            graph.unary(Unary::Exp, sum)
        })
        .collect();
    let mut layout = Layout::new();
    layout.place(graph.find("x").unwrap(), 2, 4);
    let mut kernels = jit::compile(&graph, &layout, &[&outputs[..1], &outputs], Backend::Auto).unwrap();
    let kernel = kernels.pop().unwrap();
    drop(kernels);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let kernel = kernel.clone();
            scope.spawn(move || {
                let mut scratch = Scratch::default();
                let mut out = vec![0.0; kernel.outputs()];
                for round in 0..50 {
                    let x = f64::from(thread) - 0.1 * f64::from(round);
                    kernel.call([&[], &[], &[0.0, 0.0, 0.0, 0.0, x], &[]], &mut out, &mut scratch);
                    assert!(out.iter().enumerate().all(|(i, o)| *o == (x + i as f64).exp()));
                }
            });
        }
    });
    let call = |input: &[f64], length: usize| {
        let run = || kernel.call([&[], &[], input, &[]], &mut vec![0.0; length], &mut Scratch::default());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok()
    };
    assert!(call(&[0.0; 5], 2000));
    assert!(!call(&[0.0; 4], 2000), "an input is too short");
    assert!(!call(&[0.0; 5], 1999), "the output is too short");
    let unplaced = jit::compile(&graph, &Layout::new(), &[&outputs], Backend::Auto);
    assert!(matches!(unplaced, Err(jit::CompileError::Unplaced(name)) if name == "x"));
    assert_eq!(jit::compile(&graph, &Layout::new(), &[&[]], Backend::Auto).unwrap()[0].outputs(), 0);
}

/// Operators that PEtab math can express.
fn printable() -> (Vec<Unary>, Vec<Binary>) {
    let unary = UNARY.into_iter().filter(|op| !matches!(op, Unary::Floor | Unary::Ceil | Unary::Factorial)).collect();
    let binary = BINARY.into_iter().filter(|op| !matches!(op, Binary::Rem | Binary::Quotient | Binary::Xor)).collect();
    (unary, binary)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_formulas_read_back(
        constants in prop::collection::vec(number(), 3), operations in operations(1..25), input in prop::collection::vec(number(), SYMBOLS),
    ) {
        let mut graph = Graph::new();
        let (unary, binary) = printable();
        for e in build(&mut graph, &constants, &operations, &unary, &binary) {
            let text = graph.print(e);
            if text.contains("nan") || text.ends_with('…') {
                continue;
            }
            let ast = expr::parse(&text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            let again = lower(&mut graph, &ast);
            let symbol = |s: SymbolId| input[graph.name(s)[1..].parse::<usize>().unwrap()];
            let values = graph.evaluate(&[e, again], &symbol);
            prop_assert!(same(values[0], values[1]), "{text}, read as {}: {values:?} at {input:?}", graph.print(again));
        }
    }
}

/// Value of a tree by recursion, without any simplification; None where a part is not finite, or is zero where the sign of zero
/// decides (the constructors do not keep it).
fn direct(ast: &Ast, symbols: &[f64]) -> Option<f64> {
    let value = match &ast.kind {
        AstKind::Number(value) => *value,
        AstKind::Name(name) => symbols[name[1..].parse::<usize>().unwrap()],
        AstKind::Unary(op, a) => {
            let a = direct(a, symbols)?;
            if a == 0.0 && matches!(op, Unary::Acot | Unary::Acsch | Unary::Csch | Unary::Coth | Unary::Csc | Unary::Cot) {
                return None;
            }
            op.apply(a)
        }
        AstKind::Binary(op, a, b) => op.apply(direct(a, symbols)?, direct(b, symbols)?),
        AstKind::Piecewise(pieces, otherwise) => {
            let mut value = direct(otherwise.as_ref().unwrap(), symbols)?;
            for (piece, condition) in pieces.iter().rev() {
                let (piece, condition) = (direct(piece, symbols)?, direct(condition, symbols)?);
                value = if condition != 0.0 { piece } else { value };
            }
            value
        }
        other => panic!("unexpected {other:?}"),
    };
    value.is_finite().then_some(value)
}

/// Trees with many of the constants that constructors simplify; powers only with constant exponents up to 3.
fn tree() -> impl Strategy<Value = Ast> {
    let node = |kind| Ast { kind, range: 0..0 };
    let leaf = prop_oneof![
        2 => (0..3_usize).prop_map(|i| Ast::name(format!("s{i}"))),
        1 => prop::sample::select(vec![0.0, 1.0, -1.0, 2.0, 0.5, -3.0]).prop_map(Ast::number),
    ];
    leaf.prop_recursive(6, 60, 4, move |inner| {
        let exact: Vec<Binary> = BINARY.into_iter().filter(|op| *op != Binary::Pow).collect();
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            2 => (prop::sample::select(UNARY.to_vec()), inner.clone()).prop_map(move |(op, a)| node(AstKind::Unary(op, a.into()))),
            2 => inner.clone().prop_map(move |a| node(AstKind::Unary(Unary::Neg, a.into()))),
            3 => (prop::sample::select(exact), pair.clone()).prop_map(move |(op, (a, b))| node(AstKind::Binary(op, a.into(), b.into()))),
            4 => (0..4_usize, pair.clone()).prop_map(move |(op, (a, b))| node(AstKind::Binary(BINARY[op], a.into(), b.into()))),
            1 => (pair, inner).prop_map(move |((a, b), c)| node(AstKind::Piecewise(vec![(a, b)], Some(c.into())))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where all parts are finite, simplification changes no bit but the sign of zero.
    #[test]
    fn constructors_keep_values(ast in tree(), symbols in prop::collection::vec(prop_oneof![-2.0..2.0, Just(1.0), Just(0.0)], 3)) {
        if let Some(expected) = direct(&ast, &symbols) {
            let mut graph = Graph::new();
            let e = lower(&mut graph, &ast);
            let found = graph.evaluate(&[e], &|s| symbols[graph.name(s)[1..].parse::<usize>().unwrap()])[0];
            prop_assert!(found == expected, "{} = {found:?}, expected {expected:?} of {ast:?}", graph.print(e));
        }
    }

    /// Powers with small integer exponents are products: equal to `powf` up to the roundings of at most seven factors and a division.
    #[test]
    fn small_powers_keep_values(x in prop_oneof![-50.0..50.0, Just(0.0), Just(f64::INFINITY)], n in -8..9_i32, half in any::<bool>()) {
        let n = if half { 0.5 } else { f64::from(n) };
        let mut graph = Graph::new();
        let (s, exponent) = (graph.symbol("s0"), graph.constant(n));
        let power = graph.pow(s, exponent);
        let found = graph.evaluate(&[power], &|_| x)[0];
        let expected = x.powf(n);
        prop_assert!(same(found, expected) || (found - expected).abs() <= 8.0 * f64::EPSILON * expected.abs(), "{x}^{n} = {found}, {expected}");
    }
}

/// Derivative of a function by Richardson extrapolation of central differences (Ridders 1982) with its estimate of the error.
fn richardson(f: impl Fn(f64) -> f64, x: f64, step: f64) -> (f64, f64) {
    let difference = |h: f64| (f(x + h) - f(x - h)) / (2.0 * h);
    let mut table = vec![difference(step)];
    let (mut best, mut error) = (table[0], f64::INFINITY);
    let mut h = step;
    for _ in 1..8 {
        h /= 2.0;
        let mut row = vec![difference(h)];
        let mut factor = 4.0;
        for previous in &table {
            let last = row[row.len() - 1];
            row.push(last + (last - previous) / (factor - 1.0));
            factor *= 4.0;
        }
        let (a, b, c) = (row[row.len() - 1], row[row.len() - 2], table[table.len() - 1]);
        let now = (a - b).abs().max((a - c).abs());
        if now < error {
            (best, error) = (a, now);
        }
        table = row;
    }
    (best, error)
}

/// Compares the symbolic derivative by `s0` and `s1` at a point with differences: 1e-8 relative to the value or slope, whichever is larger.
fn check_derivatives(graph: &mut Graph, e: ExprId, point: [f64; 2], step: f64) {
    for k in 0..2 {
        let by = graph.find(&format!("s{k}")).unwrap();
        let derivative = graph.derivative(e, by);
        let at = |e: ExprId, point: [f64; 2]| graph.evaluate(&[e], &|s| point[graph.name(s)[1..].parse::<usize>().unwrap()])[0];
        let found = at(derivative, point);
        let moved = |x: f64| {
            let mut p = point;
            p[k] = x;
            at(e, p)
        };
        let (expected, error) = richardson(moved, point[k], step);
        let tolerance = 1e-8 * (1.0 + expected.abs() + at(e, point).abs());
        assert!(error <= tolerance, "differences of {} at {point:?} do not settle: {expected} +- {error}", graph.print(e));
        assert!(
            (found - expected).abs() <= tolerance,
            "d {} / ds{k} at {point:?}: {found}, expected {expected} +- {error}",
            graph.print(e)
        );
    }
}

#[test]
fn derivatives_of_every_operator() {
    let mut graph = Graph::new();
    let (x, y) = (graph.symbol("s0"), graph.symbol("s1"));
    for op in UNARY {
        // Points inside the domain, off the jumps and the poles.
        let points: &[f64] = match op {
            Unary::Sqrt | Unary::Ln | Unary::Log10 | Unary::Log2 => &[0.3, 1.0, 7.5],
            Unary::Asin | Unary::Acos | Unary::Atanh => &[-0.7, 0.0, 0.3],
            Unary::Asec | Unary::Acsc | Unary::Acoth => &[-2.5, 1.5, 4.0],
            Unary::Acosh => &[1.5, 4.0],
            Unary::Asech => &[0.2, 0.8],
            Unary::Factorial => &[],
            _ => &[-2.3, -0.6, 0.4, 1.2],
        };
        let e = graph.unary(op, x);
        for point in points {
            check_derivatives(&mut graph, e, [*point, 0.0], 0.05);
        }
        // The chain rule: the same argument as s0 + 0.1 s0 s1 at s1 = 0.
        let (tenth, product) = (graph.constant(0.1), graph.mul(x, y));
        let product = graph.mul(tenth, product);
        let inner = graph.add(x, product);
        let e = graph.unary(op, inner);
        for point in points {
            check_derivatives(&mut graph, e, [*point, 0.0], 0.05);
        }
    }
    for op in BINARY {
        let points: &[[f64; 2]] = match op {
            Binary::Pow => &[[0.5, 2.3], [2.0, -1.4], [1.0, 0.2]],
            _ => &[[0.5, 2.3], [-2.0, 1.4], [3.7, -1.6], [-0.4, -0.3]],
        };
        let e = graph.binary(op, x, y);
        for point in points {
            check_derivatives(&mut graph, e, *point, 0.05);
        }
    }
}

/// Derivatives at the edge of the domain that models reach: concentrations of exactly zero.
#[test]
fn derivatives_at_zero() {
    let mut graph = Graph::new();
    let parsed = expr::parse("s0^s1 / (2^s1 + s0^s1)").unwrap();
    let hill = lower(&mut graph, &parsed);
    let (x, n) = (graph.find("s0").unwrap(), graph.find("s1").unwrap());
    let first = [graph.derivative(hill, x), graph.derivative(hill, n)];
    let second = [graph.derivative(first[0], x), graph.derivative(first[1], n), graph.derivative(first[0], n)];
    let all: Vec<ExprId> = first.into_iter().chain(second).collect();
    let values = |n: f64| graph.evaluate(&all, &|s| if s == x { 0.0 } else { n });
    // Of x^n / (2^n + x^n) near zero, x^n 2^-n: all derivatives vanish for n > 2.
    assert_eq!(values(2.5), [0.0; 5]);
    // For n = 1 the slope is 1/2; by n the value stays zero.
    assert_eq!(values(1.0)[..2], [0.5, 0.0]);
    // For n = 2 the second derivative is 2/2^2.
    assert_eq!(values(2.0)[2], 0.5);
}

/// Smooth functions of two variables whose arguments stay inside all domains: u goes through tanh first.
fn smooth() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..22_u8, any::<u8>(), any::<u8>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn derivatives_of_compositions(operations in smooth(), x in -1.0..1.0, y in -1.0..1.0) {
        let mut graph = Graph::new();
        let mut values = vec![graph.symbol("s0"), graph.symbol("s1")];
        for (kind, a, b) in operations {
            let pick = |at: u8| values[values.len() - 1 - at as usize % values.len().min(4)];
            let (a, b) = (pick(a), pick(b));
            let bounded = |graph: &mut Graph, u| graph.unary(Unary::Tanh, u);
            let (u, v) = (bounded(&mut graph, a), bounded(&mut graph, b));
            // In (0.5, 2.5).
            let (middle, half) = (graph.constant(1.5), graph.constant(0.5));
            let positive = graph.add(u, middle);
            let value = match kind {
                0 => graph.add(a, b),
                1 => graph.sub(a, b),
                2 => graph.mul(u, b),
                3 => graph.div(v, positive),
                4 => graph.pow(positive, v),
                5 => graph.unary(Unary::Sqrt, positive),
                6 => graph.unary(Unary::Ln, positive),
                7 => graph.unary(Unary::Exp, u),
                8 => graph.unary(Unary::Sin, u),
                9 => graph.unary(Unary::Cos, u),
                10 => graph.unary(Unary::Log2, positive),
                11 => graph.unary(Unary::Sinh, u),
                12 => graph.unary(Unary::Asinh, a),
                13 => {
                    let small = graph.mul(half, u);
                    graph.unary(Unary::Asin, small)
                }
                14 => graph.unary(Unary::Atan, a),
                15 => graph.neg(a),
                16 => {
                    let three = graph.constant(3.0);
                    graph.pow(u, three)
                }
                17 => {
                    let exponent = graph.constant(-1.7);
                    graph.pow(positive, exponent)
                }
                18 => graph.unary(Unary::Coth, positive),
                19 => {
                    // Both branches, the condition fixed.
                    let condition = graph.constant(if kind % 2 == 0 { 0.0 } else { 1.0 });
                    graph.select(condition, u, b)
                }
                20 => {
                    // A condition on a variable far from its threshold.
                    let (ten, s0) = (graph.constant(10.0), graph.symbol("s0"));
                    let less = graph.binary(Binary::Lt, s0, ten);
                    graph.select(less, u, b)
                }
                _ => {
                    let ten = graph.constant(10.0);
                    let far = graph.add(v, ten);
                    let least = graph.binary(Binary::Min, far, u);
                    let most = graph.binary(Binary::Max, far, v);
                    graph.add(least, most)
                }
            };
            values.push(value);
        }
        let last = values[values.len() - 1];
        check_derivatives(&mut graph, last, [x, y], 0.05);
    }
}

/// A chain of 500 states, its Jacobian and the gradient of one long sum.
#[test]
fn large_graphs() {
    let mut graph = Graph::new();
    let states: Vec<ExprId> = (0..500).map(|i| graph.symbol(&format!("x{i}"))).collect();
    let rates: Vec<ExprId> = (0..500)
        .map(|i| {
            let (v, k) = (graph.symbol(&format!("v{i}")), graph.symbol(&format!("k{i}")));
            let top = graph.mul(v, states[i]);
            let bottom = graph.add(k, states[i]);
            let bottom = graph.add(bottom, states[(i * 7) % 500]);
            graph.div(top, bottom)
        })
        .collect();
    let total = graph.sum(&rates);
    let mut entries = 0;
    for i in 1..500 {
        let flow = graph.sub(rates[i - 1], rates[i]);
        for symbol in graph.symbols_of(&[flow]) {
            let derivative = graph.derivative(flow, symbol);
            entries += usize::from(graph.constant_value(derivative) != Some(0.0));
        }
    }
    assert!(entries > 3000, "{entries}");
    assert_eq!(graph.symbols_of(&[total]).len(), 1500);
    for symbol in graph.symbols_of(&[total]) {
        graph.derivative(total, symbol);
    }
    // Derivatives share their parts: the whole gradient of the sum stays within a few hundred nodes a symbol.
    assert!(graph.len() < 1_000_000, "{} nodes", graph.len());
}
