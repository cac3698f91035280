//! MathML to [`Ast`] (the subset of SBML level 3 version 2, section 3.4; older levels use less of it).
//!
//! Operators with any number of arguments become chains of binary ones. Booleans are 1 and 0, so the empty sum and product,
//! conjunction and disjunction are numbers. Ranges are byte ranges of the file.

use super::xml::{Element, Reader, is_identifier, parse_double};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Ast, AstKind, Binary, Unary};
use std::ops::Range;

/// Namespace of MathML.
pub(super) const MATHML: &str = "http://www.w3.org/1998/Math/MathML";

/// The constant of the csymbol `avogadro`, in 1/mol: the CODATA 2006 value that both versions of level 3 fix.
const AVOGADRO: f64 = 6.02214179e23;

/// Deepest nesting of elements that is read. It bounds the stack that this and all later recursions need.
const MAX_NESTING: usize = 500;

/// Deepest tree that is handed on.
const MAX_DEPTH: usize = 2000;

/// Most nodes that may arise by repeating the middle arguments of relations such as a < b < c.
const MAX_REPEATED: usize = 100_000;

/// Chains longer than this are split, so that a sum of many terms does not make a deep tree.
const CHAIN: usize = 16;

/// The formula in a `math` element; `None` after an error.
pub(super) fn formula(reader: &mut Reader<'_>, math: Element<'_>) -> Option<Ast> {
    let mut converter = Converter { reader, repeated: 0, gave_up: false };
    let content = converter.only_child(math, "one formula")?;
    converter.finish(content)
}

/// Arguments and body of the `lambda` in a function definition's `math` element; `None` after an error.
pub(super) fn lambda(reader: &mut Reader<'_>, math: Element<'_>) -> Option<(Vec<String>, Ast)> {
    let mut converter = Converter { reader, repeated: 0, gave_up: false };
    let mut content = converter.only_child(math, "one `lambda`")?;
    while is(content, "semantics") {
        content = content.first_element_child()?;
    }
    if !is(content, "lambda") {
        converter.structure(content, "a function definition holds no `lambda`", "expected `lambda`");
        return None;
    }
    let mut arguments = Vec::new();
    let mut body = None;
    for child in elements(content) {
        if is(child, "bvar") {
            let name = converter.only_child(child, "one `ci`")?;
            let (name, _) = converter.identifier(name)?;
            if arguments.contains(&name) {
                converter.structure(child, &format!("the function has two arguments `{name}`"), "second argument of this name");
                return None;
            }
            arguments.push(name);
        } else if body.replace(child).is_some() {
            converter.structure(child, "a `lambda` has more than one body", "expected the end of the `lambda`");
            return None;
        }
    }
    let Some(body) = body else {
        converter.structure(content, "a `lambda` has no body", "expected a formula after the arguments");
        return None;
    };
    Some((arguments, converter.finish(body)?))
}

/// The depth limit for formulas of any origin: reports a tree that is too deep.
pub(super) fn limit_depth(reader: &mut Reader<'_>, ast: Ast, span: &Span) -> Option<Ast> {
    fn depth(ast: &Ast) -> usize {
        1 + match &ast.kind {
            AstKind::Number(_) | AstKind::Name(_) | AstKind::Time => 0,
            AstKind::Unary(_, a) | AstKind::RateOf(a) => depth(a),
            AstKind::Binary(_, a, b) | AstKind::Delay(a, b) => depth(a).max(depth(b)),
            AstKind::Call(_, arguments) => arguments.iter().map(depth).max().unwrap_or(0),
            AstKind::Piecewise(pieces, otherwise) => {
                let pieces = pieces.iter().map(|(value, condition)| depth(value).max(depth(condition))).max().unwrap_or(0);
                pieces.max(otherwise.as_deref().map_or(0, depth))
            }
        }
    }
    if depth(&ast) <= MAX_DEPTH {
        return Some(ast);
    }
    too_large(reader, span);
    None
}

/// Reports a formula beyond the limits of this module.
pub(super) fn too_large(reader: &mut Reader<'_>, span: &Span) {
    reader.push(
        Diagnostic::error("S0205", "a formula is nested too deeply")
            .at(span, "too many levels")
            .help("split the formula with assignment rules"),
    );
}

/// The value of a formula that is arithmetic of numbers only.
pub(super) fn constant_value(ast: &Ast) -> Option<f64> {
    match &ast.kind {
        AstKind::Number(value) => Some(*value),
        AstKind::Unary(Unary::Neg, a) => constant_value(a).map(|a| -a),
        AstKind::Binary(op, a, b) => {
            let (a, b) = (constant_value(a)?, constant_value(b)?);
            match op {
                Binary::Add => Some(a + b),
                Binary::Sub => Some(a - b),
                Binary::Mul => Some(a * b),
                Binary::Div => Some(a / b),
                Binary::Pow => Some(a.powf(b)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn elements<'a>(node: Element<'a>) -> impl Iterator<Item = Element<'a>> {
    node.children().filter(|c| c.is_element())
}

fn is(node: Element<'_>, name: &str) -> bool {
    node.tag_name().namespace() == Some(MATHML) && node.tag_name().name() == name
}

fn unary_operator(name: &str) -> Option<Unary> {
    use Unary::*;
    Some(match name {
        "not" => Not,
        "abs" => Abs,
        "floor" => Floor,
        "ceiling" => Ceil,
        "factorial" => Factorial,
        "exp" => Exp,
        "ln" => Ln,
        "sin" => Sin,
        "cos" => Cos,
        "tan" => Tan,
        "sec" => Sec,
        "csc" => Csc,
        "cot" => Cot,
        "arcsin" => Asin,
        "arccos" => Acos,
        "arctan" => Atan,
        "arcsec" => Asec,
        "arccsc" => Acsc,
        "arccot" => Acot,
        "sinh" => Sinh,
        "cosh" => Cosh,
        "tanh" => Tanh,
        "sech" => Sech,
        "csch" => Csch,
        "coth" => Coth,
        "arcsinh" => Asinh,
        "arccosh" => Acosh,
        "arctanh" => Atanh,
        "arcsech" => Asech,
        "arccsch" => Acsch,
        "arccoth" => Acoth,
        _ => return None,
    })
}

/// Operators of exactly two arguments.
fn binary_operator(name: &str) -> Option<Binary> {
    Some(match name {
        "divide" => Binary::Div,
        "power" => Binary::Pow,
        "quotient" => Binary::Quotient,
        "rem" => Binary::Rem,
        "neq" => Binary::Ne,
        _ => return None,
    })
}

/// Operators of any number of arguments, with the value for none where SBML defines one (level 3 version 2, table 6).
fn chain_operator(name: &str) -> Option<(Binary, Option<f64>)> {
    Some(match name {
        "plus" => (Binary::Add, Some(0.0)),
        "times" => (Binary::Mul, Some(1.0)),
        "and" => (Binary::And, Some(1.0)),
        "or" => (Binary::Or, Some(0.0)),
        "xor" => (Binary::Xor, Some(0.0)),
        "min" => (Binary::Min, None),
        "max" => (Binary::Max, None),
        _ => return None,
    })
}

/// Relations of two or more arguments.
fn relation(name: &str) -> Option<Binary> {
    Some(match name {
        "eq" => Binary::Eq,
        "lt" => Binary::Lt,
        "leq" => Binary::Le,
        "gt" => Binary::Gt,
        "geq" => Binary::Ge,
        _ => return None,
    })
}

fn constant(name: &str) -> Option<f64> {
    Some(match name {
        "true" => 1.0,
        "false" => 0.0,
        "pi" => std::f64::consts::PI,
        "exponentiale" => std::f64::consts::E,
        "infinity" => f64::INFINITY,
        "notanumber" => f64::NAN,
        _ => return None,
    })
}

fn is_operator(name: &str) -> bool {
    unary_operator(name).is_some()
        || binary_operator(name).is_some()
        || chain_operator(name).is_some()
        || relation(name).is_some()
        || matches!(name, "minus" | "root" | "log" | "implies")
}

fn unary(op: Unary, a: Ast, range: &Range<usize>) -> Ast {
    Ast { kind: AstKind::Unary(op, Box::new(a)), range: range.clone() }
}

fn binary(op: Binary, a: Ast, b: Ast, range: &Range<usize>) -> Ast {
    Ast { kind: AstKind::Binary(op, Box::new(a), Box::new(b)), range: range.clone() }
}

fn number(value: f64, range: &Range<usize>) -> Ast {
    Ast { kind: AstKind::Number(value), range: range.clone() }
}

/// `a op b op c …`, from the left; long lists are halved first. `None` for an empty list.
fn chain(op: Binary, mut arguments: Vec<Ast>, range: &Range<usize>) -> Option<Ast> {
    if arguments.len() > CHAIN {
        let right = arguments.split_off(arguments.len().div_ceil(2));
        return Some(binary(op, chain(op, arguments, range)?, chain(op, right, range)?, range));
    }
    arguments.into_iter().reduce(|a, b| binary(op, a, b, range))
}

/// The root of the given degree: a square root or a power.
fn root(x: Ast, degree: Ast, range: &Range<usize>) -> Ast {
    match constant_value(&degree) {
        Some(2.0) => unary(Unary::Sqrt, x, range),
        _ => {
            let exponent = binary(Binary::Div, number(1.0, range), degree, range);
            binary(Binary::Pow, x, exponent, range)
        }
    }
}

/// The logarithm to a base.
fn logarithm(x: Ast, base: Ast, range: &Range<usize>) -> Ast {
    match constant_value(&base) {
        Some(10.0) => unary(Unary::Log10, x, range),
        Some(2.0) => unary(Unary::Log2, x, range),
        _ => binary(Binary::Div, unary(Unary::Ln, x, range), unary(Unary::Ln, base, range), range),
    }
}

struct Converter<'r, 's> {
    reader: &'r mut Reader<'s>,
    /// Nodes made by repeating arguments.
    repeated: usize,
    /// The size limit has been reported.
    gave_up: bool,
}

impl Converter<'_, '_> {
    fn finish(&mut self, content: Element<'_>) -> Option<Ast> {
        let ast = self.convert(content, 0)?;
        let span = self.reader.tag(content);
        limit_depth(self.reader, ast, &span)
    }

    fn convert(&mut self, node: Element<'_>, nesting: usize) -> Option<Ast> {
        if nesting > MAX_NESTING {
            self.give_up(node);
            return None;
        }
        let range = node.range();
        if node.tag_name().namespace() != Some(MATHML) {
            self.unknown(node);
            return None;
        }
        let name = node.tag_name().name();
        match name {
            "cn" => self.literal(node).map(|value| number(value, &range)),
            "ci" => {
                let (name, range) = self.identifier(node)?;
                Some(Ast { kind: AstKind::Name(name), range })
            }
            "csymbol" => match self.symbol(node)? {
                "time" => Some(Ast { kind: AstKind::Time, range }),
                "avogadro" => Some(number(AVOGADRO, &range)),
                other => {
                    self.structure(node, &format!("csymbol `{other}` has no arguments"), "expected to stand first in an `apply`");
                    None
                }
            },
            "apply" => self.apply(node, nesting),
            "piecewise" => self.piecewise(node, nesting),
            "semantics" => match elements(node).next() {
                Some(content) => self.convert(content, nesting + 1),
                None => {
                    self.structure(node, "`semantics` is empty", "expected a formula");
                    None
                }
            },
            _ => match constant(name) {
                Some(value) => Some(number(value, &range)),
                None => {
                    self.unknown(node);
                    None
                }
            },
        }
    }

    fn apply(&mut self, node: Element<'_>, nesting: usize) -> Option<Ast> {
        let range = node.range();
        let mut children = elements(node);
        let Some(head) = children.next() else {
            self.structure(node, "`apply` is empty", "expected an operator and its arguments");
            return None;
        };
        let name = if head.tag_name().namespace() == Some(MATHML) { head.tag_name().name() } else { "" };
        // An `apply` around nothing but another `apply` is no more than parentheses. Published models have it, and other
        // readers take it.
        if name == "apply" && head.next_sibling_element().is_none() {
            return self.convert(head, nesting + 1);
        }

        // The qualifier of `root` and `log` stands before the argument.
        let qualifier_name = match name {
            "root" => "degree",
            "log" => "logbase",
            _ => "",
        };
        let mut qualifier = None;
        let mut arguments = Vec::new();
        let mut complete = true;
        for child in children {
            if !qualifier_name.is_empty() && qualifier.is_none() && is(child, qualifier_name) {
                let content = self.only_child(child, "one formula");
                match content.and_then(|content| self.convert(content, nesting + 2)) {
                    Some(ast) => qualifier = Some(ast),
                    None => complete = false,
                }
            } else {
                // All arguments are read even after an error in one, so that the others are checked as well.
                match self.convert(child, nesting + 1) {
                    Some(ast) => arguments.push(ast),
                    None => complete = false,
                }
            }
        }
        match name {
            "ci" => {
                let (name, _) = self.identifier(head)?;
                complete.then_some(Ast { kind: AstKind::Call(name, arguments), range })
            }
            "csymbol" => {
                let symbol = self.symbol(head)?;
                if !complete {
                    return None;
                }
                match symbol {
                    "delay" => {
                        let [a, b] = self.exactly(head, arguments)?;
                        Some(Ast { kind: AstKind::Delay(Box::new(a), Box::new(b)), range })
                    }
                    "rateOf" => {
                        let [a] = self.exactly(head, arguments)?;
                        if !matches!(a.kind, AstKind::Name(_)) {
                            self.structure(head, "`rateOf` is applied to a formula", "expected the name of a variable as argument");
                            return None;
                        }
                        Some(Ast { kind: AstKind::RateOf(Box::new(a)), range })
                    }
                    other => {
                        self.structure(head, &format!("csymbol `{other}` is not a function"), "expected an operator or a function");
                        None
                    }
                }
            }
            _ if !is_operator(name) => {
                self.unknown(head);
                None
            }
            _ if !complete => None,
            _ => self.operator(name, head, qualifier, arguments, &range),
        }
    }

    fn operator(
        &mut self,
        name: &str,
        head: Element<'_>,
        qualifier: Option<Ast>,
        mut arguments: Vec<Ast>,
        range: &Range<usize>,
    ) -> Option<Ast> {
        if let Some(op) = unary_operator(name) {
            let [a] = self.exactly(head, arguments)?;
            return Some(unary(op, a, range));
        }
        if let Some(op) = binary_operator(name) {
            let [a, b] = self.exactly(head, arguments)?;
            return Some(binary(op, a, b, range));
        }
        if let Some((op, identity)) = chain_operator(name) {
            let logical = matches!(op, Binary::And | Binary::Or | Binary::Xor);
            if arguments.is_empty() || arguments.len() == 1 && logical {
                // With its neutral element a logical operator of one argument turns a number into 0 or 1.
                let Some(identity) = identity else {
                    self.arity(head, "at least 1 argument", 0);
                    return None;
                };
                arguments.insert(0, number(identity, range));
            }
            return chain(op, arguments, range);
        }
        if let Some(op) = relation(name) {
            return self.relations(op, head, arguments, range);
        }
        match name {
            "minus" => match <[Ast; 1]>::try_from(arguments) {
                Ok([a]) => Some(unary(Unary::Neg, a, range)),
                Err(arguments) if arguments.len() == 2 => {
                    let [a, b] = self.exactly(head, arguments)?;
                    Some(binary(Binary::Sub, a, b, range))
                }
                Err(arguments) => {
                    self.arity(head, "1 or 2 arguments", arguments.len());
                    None
                }
            },
            "implies" => {
                let [a, b] = self.exactly(head, arguments)?;
                Some(binary(Binary::Or, unary(Unary::Not, a, range), b, range))
            }
            "root" => {
                let [x] = self.exactly(head, arguments)?;
                Some(root(x, qualifier.unwrap_or_else(|| number(2.0, range)), range))
            }
            _ => {
                let [x] = self.exactly(head, arguments)?;
                Some(logarithm(x, qualifier.unwrap_or_else(|| number(10.0, range)), range))
            }
        }
    }

    /// `a < b < c` as `a < b and b < c`.
    fn relations(&mut self, op: Binary, head: Element<'_>, arguments: Vec<Ast>, range: &Range<usize>) -> Option<Ast> {
        if arguments.len() < 2 {
            self.arity(head, "at least 2 arguments", arguments.len());
            return None;
        }
        // The middle arguments occur twice; nested deeply this doubles at each level.
        for middle in &arguments[1..arguments.len() - 1] {
            middle.walk(&mut |_| self.repeated += 1);
        }
        if self.repeated > MAX_REPEATED {
            self.give_up(head);
            return None;
        }
        let mut pairs = Vec::new();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(a) = arguments.next() {
            if let Some(b) = arguments.peek() {
                pairs.push(binary(op, a, b.clone(), range));
            }
        }
        chain(Binary::And, pairs, range)
    }

    fn piecewise(&mut self, node: Element<'_>, nesting: usize) -> Option<Ast> {
        let mut pieces = Vec::new();
        let mut otherwise = None;
        let mut complete = true;
        for child in elements(node) {
            let expected = if is(child, "piece") {
                2
            } else if is(child, "otherwise") && otherwise.is_none() {
                1
            } else {
                self.structure(child, "a `piecewise` holds something else than pieces", "expected `piece` or one `otherwise`");
                return None;
            };
            let parts: Vec<_> = elements(child).collect();
            if parts.len() != expected {
                self.arity(child, if expected == 2 { "a value and a condition" } else { "1 value" }, parts.len());
                return None;
            }
            let converted: Vec<_> = parts.into_iter().filter_map(|part| self.convert(part, nesting + 2)).collect();
            match (<[Ast; 2]>::try_from(converted), expected) {
                (Ok([value, condition]), 2) => pieces.push((value, condition)),
                (Err(mut one), 1) if one.len() == 1 => otherwise = one.pop(),
                _ => complete = false,
            }
        }
        complete.then(|| Ast { kind: AstKind::Piecewise(pieces, otherwise.map(Box::new)), range: node.range() })
    }

    /// The value of a `cn`.
    fn literal(&mut self, node: Element<'_>) -> Option<f64> {
        let mut parts = vec![String::new()];
        for child in node.children() {
            if child.is_text() {
                if let Some(part) = parts.last_mut() {
                    part.push_str(child.text().unwrap_or(""));
                }
            } else if is(child, "sep") {
                parts.push(String::new());
            } else if child.is_element() {
                self.unknown(child);
                return None;
            }
        }
        let parts: Vec<&str> = parts.iter().map(|part| part.trim()).collect();
        let kind = node.attribute("type").unwrap_or("real").trim();
        let value = match (kind, parts.as_slice()) {
            ("real", [text]) => parse_double(text),
            ("integer", [text]) => parse_double(text).filter(|value| value.fract() == 0.0),
            // Read as one text, so that 1 <sep/> -3 is the same number as 1e-3.
            ("e-notation", [mantissa, exponent]) if !mantissa.contains(['e', 'E']) => {
                exponent.parse::<i64>().ok().and_then(|exponent| parse_double(&format!("{mantissa}e{exponent}")))
            }
            ("rational", [numerator, denominator]) => parse_double(numerator).zip(parse_double(denominator)).map(|(p, q)| p / q),
            _ => None,
        };
        let base_is_ten = node.attribute("base").is_none_or(|base| base.trim() == "10");
        if value.is_none() || !base_is_ten {
            let span = self.content_span(node);
            let expected = match kind {
                "integer" => "expected an integer",
                "e-notation" => "expected mantissa <sep/> exponent",
                "rational" => "expected numerator <sep/> denominator",
                "real" => "expected a number",
                _ => "expected type real, integer, e-notation or rational",
            };
            self.reader.push(Diagnostic::error("S0203", "a `cn` does not hold a decimal number").at(&span, expected));
            return None;
        }
        value
    }

    /// The name in a `ci` and its byte range.
    fn identifier(&mut self, node: Element<'_>) -> Option<(String, Range<usize>)> {
        let text: String = node.children().filter(|c| c.is_text()).filter_map(|c| c.text()).collect();
        let name = text.trim();
        let span = self.content_span(node);
        if !is(node, "ci") || !is_identifier(name) {
            self.reader
                .push(Diagnostic::error("S0206", "a `ci` does not hold an identifier").at(&span, "expected a name such as <ci> k1 </ci>"));
            return None;
        }
        Some((name.to_owned(), span.range))
    }

    /// Place of an element's text without surrounding space; the whole element if there is none.
    fn content_span(&self, node: Element<'_>) -> Span {
        let whole = node.range();
        let (Some(first), Some(last)) = (node.first_child(), node.last_child()) else { return self.reader.span(whole) };
        let range = first.range().start..last.range().end;
        let text = self.reader.source.text().get(range.clone()).unwrap_or("");
        if text.trim().is_empty() {
            return self.reader.span(whole);
        }
        let start = range.start + (text.len() - text.trim_start().len());
        self.reader.span(start..start + text.trim().len())
    }

    /// Which of SBML's symbols a csymbol means.
    fn symbol(&mut self, node: Element<'_>) -> Option<&'static str> {
        const SYMBOLS: [&str; 4] = ["time", "delay", "avogadro", "rateOf"];
        let url = node.attribute("definitionURL").unwrap_or("").trim();
        let name = url.strip_prefix("http://www.sbml.org/sbml/symbols/").and_then(|name| SYMBOLS.into_iter().find(|s| *s == name));
        if name.is_none() {
            let span = match node.attribute_node("definitionURL") {
                Some(attribute) => self.reader.span(attribute.range_value()),
                None => self.reader.tag(node),
            };
            self.reader.push(
                Diagnostic::error("S0204", "a `csymbol` has an unknown definitionURL")
                    .at(&span, "expected http://www.sbml.org/sbml/symbols/ and time, delay, avogadro or rateOf"),
            );
        }
        name
    }

    /// The arguments as an array, or an error about their number.
    fn exactly<const N: usize>(&mut self, head: Element<'_>, arguments: Vec<Ast>) -> Option<[Ast; N]> {
        match arguments.try_into() {
            Ok(arguments) => Some(arguments),
            Err(arguments) => {
                self.arity(head, if N == 1 { "1 argument" } else { "2 arguments" }, arguments.len());
                None
            }
        }
    }

    fn arity(&mut self, head: Element<'_>, expected: &str, found: usize) {
        let span = self.reader.tag(head);
        let name = head.tag_name().name();
        self.reader
            .push(Diagnostic::error("S0202", format!("`{name}` takes {expected}, not {found}")).at(&span, format!("expected {expected}")));
    }

    /// The only element in `node`.
    fn only_child<'a>(&mut self, node: Element<'a>, expected: &str) -> Option<Element<'a>> {
        let mut children = elements(node);
        let first = children.next();
        if let (Some(first), None) = (first, children.next()) {
            return Some(first);
        }
        let name = node.tag_name().name();
        self.structure(node, &format!("`{name}` does not hold exactly one element"), &format!("expected {expected}"));
        None
    }

    fn structure(&mut self, node: Element<'_>, message: &str, expected: &str) {
        let span = self.reader.tag(node);
        self.reader.push(Diagnostic::error("S0207", message).at(&span, expected));
    }

    fn unknown(&mut self, node: Element<'_>) {
        let name = node.tag_name().name();
        let span = self.reader.tag(node);
        let diagnostic = Diagnostic::error("S0201", format!("`{name}` cannot stand here in a formula"));
        self.reader.push(match name {
            _ if node.tag_name().namespace() != Some(MATHML) => diagnostic.at(&span, "not an element of MathML"),
            "lambda" => diagnostic.at(&span, "expected a formula; `lambda` belongs into function definitions"),
            _ if is_operator(name) => diagnostic.at(&span, "an operator stands first in an `apply`"),
            _ => diagnostic.at(&span, "not in SBML's subset of MathML"),
        });
    }

    fn give_up(&mut self, node: Element<'_>) {
        if !self.gave_up {
            self.gave_up = true;
            let span = self.reader.tag(node);
            too_large(self.reader, &span);
        }
    }
}
