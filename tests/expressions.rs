//! Formulas from text to machine code: the published PEtab math suite.
#![allow(clippy::unwrap_used)]

use mixode::expr::{self, Ast, AstKind, ExprId, Graph};
use std::path::{Path, PathBuf};

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
