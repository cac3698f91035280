//! Formulas for people: infix in PEtab math.

use super::graph::{ExprId, Graph, Node};
use super::op::{Binary, Unary};
use super::parse::FUNCTIONS;

/// Longer formulas are cut here (bytes).
const MAX_LENGTH: usize = 2000;

/// Binding strength, loosest first, as in the grammar of the parser.
const LOGICAL: u8 = 0;
const COMPARISON: u8 = 1;
const SUM: u8 = 2;
const PRODUCT: u8 = 3;
const SIGN: u8 = 4;
const POWER: u8 = 5;
const ATOM: u8 = 6;

/// What is still to be written.
enum Task {
    Text(&'static str),
    /// An expression, in parentheses if it binds less tightly than the number.
    Expression(ExprId, u8),
    /// The absolute value of a constant.
    Absolute(f64),
}

impl Graph {
    /// The expression in PEtab math with few parentheses; shared parts are written out each time. Beyond 2,000 bytes it ends with
    /// an ellipsis. What PEtab math lacks (`floor`, `ceil`, `factorial`, `rem`, `quotient`, `xor`, NaN) is written in the same
    /// manner, but the parser does not read that back.
    pub fn print(&self, e: ExprId) -> String {
        let mut text = String::new();
        // An explicit stack, since chains of operations can be deeper than the call stack.
        let mut tasks = vec![Task::Expression(e, LOGICAL)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Text(part) => text.push_str(part),
                Task::Absolute(value) => text.push_str(&number(value.abs())),
                Task::Expression(e, least) => {
                    let parentheses = self.strength(e) < least;
                    if parentheses {
                        text.push('(');
                        tasks.push(Task::Text(")"));
                    }
                    let first = tasks.len();
                    match self.node(e) {
                        Node::Constant(bits) => text.push_str(&number(f64::from_bits(bits))),
                        Node::Symbol(symbol) => text.push_str(self.name(symbol)),
                        Node::Unary(op, a) => self.unary_parts(op, a, &mut tasks),
                        Node::Binary(op, a, b) => self.binary_parts(op, a, b, &mut tasks),
                        Node::Select(..) => self.select_parts(e, &mut tasks),
                    }
                    // The parts were pushed in reading order.
                    tasks[first..].reverse();
                }
            }
            if text.len() > MAX_LENGTH {
                let end = (0..=MAX_LENGTH).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
                return text;
            }
        }
        text
    }

    fn strength(&self, e: ExprId) -> u8 {
        match self.node(e) {
            Node::Constant(bits) if f64::from_bits(bits) < 0.0 => SIGN,
            Node::Unary(Unary::Neg, a) if self.is_product(a) => PRODUCT,
            Node::Unary(Unary::Neg | Unary::Not, _) => SIGN,
            Node::Binary(op, ..) => match op {
                Binary::And | Binary::Or => LOGICAL,
                Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => COMPARISON,
                Binary::Add | Binary::Sub => SUM,
                Binary::Mul | Binary::Div => PRODUCT,
                Binary::Pow => POWER,
                Binary::Min | Binary::Max | Binary::Rem | Binary::Quotient | Binary::Xor => ATOM,
            },
            Node::Constant(_) | Node::Symbol(_) | Node::Unary(..) | Node::Select(..) => ATOM,
        }
    }

    fn is_product(&self, e: ExprId) -> bool {
        matches!(self.node(e), Node::Binary(Binary::Mul | Binary::Div, ..))
    }

    fn unary_parts(&self, op: Unary, a: ExprId, tasks: &mut Vec<Task>) {
        match op {
            // -(a b) and (-a) b are the same number, so no parentheses are needed.
            Unary::Neg => tasks.extend([Task::Text("-"), Task::Expression(a, if self.is_product(a) { PRODUCT } else { SIGN })]),
            Unary::Not => tasks.extend([Task::Text("!"), Task::Expression(a, SIGN)]),
            _ => {
                let name = match op {
                    Unary::Floor => "floor",
                    Unary::Ceil => "ceil",
                    Unary::Factorial => "factorial",
                    _ => FUNCTIONS.iter().find(|(_, f)| *f == op).map_or("?", |(name, _)| name),
                };
                tasks.extend([Task::Text(name), Task::Text("("), Task::Expression(a, LOGICAL), Task::Text(")")]);
            }
        }
    }

    fn binary_parts(&self, op: Binary, a: ExprId, b: ExprId, tasks: &mut Vec<Task>) {
        let (symbol, level) = match op {
            Binary::Add => (" + ", SUM),
            Binary::Sub => (" - ", SUM),
            Binary::Mul => (" * ", PRODUCT),
            Binary::Div => (" / ", PRODUCT),
            Binary::Lt => (" < ", COMPARISON),
            Binary::Le => (" <= ", COMPARISON),
            Binary::Gt => (" > ", COMPARISON),
            Binary::Ge => (" >= ", COMPARISON),
            Binary::Eq => (" == ", COMPARISON),
            Binary::Ne => (" != ", COMPARISON),
            Binary::And => (" && ", LOGICAL),
            Binary::Or => (" || ", LOGICAL),
            Binary::Pow => {
                tasks.extend([Task::Expression(a, ATOM), Task::Text("^"), Task::Expression(b, SIGN)]);
                return;
            }
            Binary::Min | Binary::Max | Binary::Rem | Binary::Quotient | Binary::Xor => {
                let name = match op {
                    Binary::Min => "min(",
                    Binary::Max => "max(",
                    Binary::Rem => "rem(",
                    Binary::Quotient => "quotient(",
                    _ => "xor(",
                };
                let parts =
                    [Task::Text(name), Task::Expression(a, LOGICAL), Task::Text(", "), Task::Expression(b, LOGICAL), Task::Text(")")];
                tasks.extend(parts);
                return;
            }
        };
        let (mut a, mut b) = (a, b);
        // Sums and products commute exactly: the side that would need parentheses, or a negative number, goes where it reads best.
        if op == Binary::Add || op == Binary::Mul {
            let (left, right) = (self.strength(a), self.strength(b));
            let negative = |e| self.constant_value(e).is_some_and(|x| x < 0.0);
            let turned = match op {
                Binary::Add => negative(a) || (right == level && left > level && !negative(b)),
                _ => left > level && (right == level || self.constant_value(b).is_some()),
            };
            if turned {
                (a, b) = (b, a);
            }
            if let Some(value) = self.constant_value(b)
                && op == Binary::Add
                && value < 0.0
            {
                tasks.extend([Task::Expression(a, level), Task::Text(" - "), Task::Absolute(value)]);
                return;
            }
        }
        // `a < b < c` and `a || b && c` mean what few readers expect: these get parentheses though the grammar needs none.
        let left = match (level, self.node(a)) {
            (COMPARISON, _) => level + 1,
            (LOGICAL, Node::Binary(inner, ..)) if inner != op => level + 1,
            _ => level,
        };
        tasks.extend([Task::Expression(a, left), Task::Text(symbol), Task::Expression(b, level + 1)]);
    }

    /// Nested choices become one `piecewise`.
    fn select_parts(&self, e: ExprId, tasks: &mut Vec<Task>) {
        tasks.push(Task::Text("piecewise("));
        let mut rest = e;
        while let Node::Select(condition, then, otherwise) = self.node(rest) {
            tasks.extend([Task::Expression(then, LOGICAL), Task::Text(", "), Task::Expression(condition, LOGICAL), Task::Text(", ")]);
            rest = otherwise;
        }
        tasks.extend([Task::Expression(rest, LOGICAL), Task::Text(")")]);
    }
}

/// The shortest digits that give the same number back.
fn number(value: f64) -> String {
    match value.abs() {
        x if x.is_nan() => "nan".to_string(),
        x if x == 0.0 || x.is_infinite() || (1e-5..1e15).contains(&x) => format!("{value}"),
        _ => format!("{value:e}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::expr::{AstKind, Binary, Graph, Unary, parse};

    /// Reads a formula and prints it.
    fn round(text: &str) -> String {
        let mut graph = Graph::new();
        let ast = parse(text).unwrap();
        let e = graph.lower(&ast, &mut |g, node| match &node.kind {
            AstKind::Name(name) => Some(g.symbol(name)),
            _ => Some(g.symbol("time")),
        });
        graph.print(e.unwrap())
    }

    #[test]
    fn few_parentheses() {
        // Text and how it is printed; None: as it was.
        let cases = [
            ("a + b + c", None),
            ("a - b - c", None),
            ("a - (b - c)", None),
            ("a - (b + c)", None),
            ("a + (b + c)", Some("b + c + a")),
            ("a * b / c", None),
            ("a / (b * c)", None),
            ("(a + b) * c", None),
            ("x * 2", Some("2 * x")),
            ("-x * y", None),
            ("-(x * y)", Some("-x * y")),
            ("-(x + y)", None),
            ("-x^n", None),
            ("(-x)^n", None),
            ("a^-n", None),
            ("(a^b)^c", None),
            ("a^b^c", None),
            ("2^x", None),
            ("(-2)^x", None),
            ("x + -3", Some("x - 3")),
            ("-3 + x", Some("x - 3")),
            ("x - -3", None),
            ("1e-9 * x + 2.5e20", None),
            ("a < b && b < c || !d", Some("(a < b && b < c) || !d")),
            ("(a < b) == c", Some("(a < b) == c")),
            ("piecewise(1, a, piecewise(2, b, 3))", Some("piecewise(1, a, 2, b, 3)")),
            // Operands stand in order of first appearance.
            ("Vmax * S / (Km + S)", Some("Vmax * S / (S + Km)")),
            ("log(x) + arccoth(x) + min(x, inf)", Some("ln(x) + arccoth(x) + min(x, inf)")),
            ("exp(-time / tau)", Some("exp(-time / tau)")),
        ];
        for (text, expected) in cases {
            assert_eq!(round(text), expected.unwrap_or(text));
        }
    }

    #[test]
    fn long_and_deep_formulas_are_cut() {
        let mut graph = Graph::new();
        let mut e = graph.symbol("µ");
        for _ in 0..100_000 {
            let sine = graph.unary(Unary::Sin, e);
            e = graph.binary(Binary::Add, sine, e);
        }
        let text = graph.print(e);
        assert!(text.len() < 2010 && text.ends_with('…'), "{}", text.len());
    }
}
