//! The parser of PEtab math (PETAB.md 5; the grammar of the PEtab 2.0 specification, appendix "Math expressions syntax").
//!
//! Operators, loosest first: `&&` and `||` on one level, comparisons, `+ -`, `* /`, the signs and `!`, `^`. All levels associate to
//! the left but `^`. Booleans are numbers here, which agrees with the specification's conversions both ways.

use super::ast::{Ast, AstKind};
use super::op::{Binary, Unary};
use std::ops::Range;

/// Why a formula cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The offending bytes of the text; empty at its end if something is missing there.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that can be guessed.
    pub help: Option<String>,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

/// How deep parentheses, calls, signs and exponents may be nested.
const MAX_NESTING: usize = 200;
/// How deep the tree may be, so that code which walks it by recursion does not exhaust its stack.
const MAX_DEPTH: u32 = 2000;
/// Longer chains of operators of one level become balanced trees.
const MAX_CHAIN: usize = 256;
/// Terms per node group of a balanced chain.
const GROUP: usize = 32;

/// Functions of one argument by their PEtab names (`log` apart, which may have a base).
pub(super) const FUNCTIONS: [(&str, Unary); 31] = [
    ("abs", Unary::Abs),
    ("sign", Unary::Sign),
    ("sqrt", Unary::Sqrt),
    ("exp", Unary::Exp),
    ("ln", Unary::Ln),
    ("log10", Unary::Log10),
    ("log2", Unary::Log2),
    ("sin", Unary::Sin),
    ("cos", Unary::Cos),
    ("tan", Unary::Tan),
    ("sec", Unary::Sec),
    ("csc", Unary::Csc),
    ("cot", Unary::Cot),
    ("arcsin", Unary::Asin),
    ("arccos", Unary::Acos),
    ("arctan", Unary::Atan),
    ("arcsec", Unary::Asec),
    ("arccsc", Unary::Acsc),
    ("arccot", Unary::Acot),
    ("sinh", Unary::Sinh),
    ("cosh", Unary::Cosh),
    ("tanh", Unary::Tanh),
    ("sech", Unary::Sech),
    ("csch", Unary::Csch),
    ("coth", Unary::Coth),
    ("arcsinh", Unary::Asinh),
    ("arccosh", Unary::Acosh),
    ("arctanh", Unary::Atanh),
    ("arcsech", Unary::Asech),
    ("arccsch", Unary::Acsch),
    ("arccoth", Unary::Acoth),
];

/// Reads a formula in PEtab math.
///
/// `time` becomes [`AstKind::Time`]; which other names exist is the caller's business. A part made of literals alone must be a
/// number: `1/0`, `log(-1)` and `inf - inf` are errors, as there is no NaN in PEtab math.
///
/// # Errors
/// The first place where the text departs from the grammar, an unknown function, a wrong number of arguments, a literal part
/// without a value, or nesting beyond a few hundred levels.
pub fn parse(text: &str) -> Result<Ast, ParseError> {
    let tokens = lex(text)?;
    let mut parser = Parser { text, tokens, next: 0, nesting: 0 };
    if parser.tokens.is_empty() {
        return Err(ParseError { range: 0..text.len(), message: "the formula is empty".into(), help: None });
    }
    let term = parser.level(Level::Logical)?;
    match parser.tokens.get(parser.next) {
        None => Ok(term.ast),
        Some((token, range)) => Err(unexpected_after_operand(text, *token, range.clone())),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Number(f64),
    Name,
    Operator(Binary),
    /// `^`
    Caret,
    Bang,
    Open,
    Close,
    Comma,
}

fn lex(text: &str) -> Result<Vec<(Token, Range<usize>)>, ParseError> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        let token = match bytes[i] {
            b' ' | b'\t' | b'\n' | b'\r' => {
                i += 1;
                continue;
            }
            b'0'..=b'9' | b'.' => {
                i = number_end(bytes, i);
                match text[start..i].parse() {
                    Ok(value) => Token::Number(value),
                    Err(_) => return Err(ParseError { range: start..i, message: "a single `.` is no number".into(), help: None }),
                }
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                while at(i).is_ascii_alphanumeric() || at(i) == b'_' {
                    i += 1;
                }
                word(&text[start..i], start..i)?
            }
            first => {
                let (token, length) = match (first, at(i + 1)) {
                    (b'&', b'&') => (Token::Operator(Binary::And), 2),
                    (b'|', b'|') => (Token::Operator(Binary::Or), 2),
                    (b'<', b'=') => (Token::Operator(Binary::Le), 2),
                    (b'>', b'=') => (Token::Operator(Binary::Ge), 2),
                    (b'=', b'=') => (Token::Operator(Binary::Eq), 2),
                    (b'!', b'=') => (Token::Operator(Binary::Ne), 2),
                    (b'*', b'*') => return Err(wrong_operator(text, start, 2, "^")),
                    (b'<', b'>') => return Err(wrong_operator(text, start, 2, "!=")),
                    (b'=', _) => return Err(wrong_operator(text, start, 1, "==")),
                    (b'&', _) => return Err(wrong_operator(text, start, 1, "&&")),
                    (b'|', _) => return Err(wrong_operator(text, start, 1, "||")),
                    (b'<', _) => (Token::Operator(Binary::Lt), 1),
                    (b'>', _) => (Token::Operator(Binary::Gt), 1),
                    (b'!', _) => (Token::Bang, 1),
                    (b'+', _) => (Token::Operator(Binary::Add), 1),
                    (b'-', _) => (Token::Operator(Binary::Sub), 1),
                    (b'*', _) => (Token::Operator(Binary::Mul), 1),
                    (b'/', _) => (Token::Operator(Binary::Div), 1),
                    (b'^', _) => (Token::Caret, 1),
                    (b'(', _) => (Token::Open, 1),
                    (b')', _) => (Token::Close, 1),
                    (b',', _) => (Token::Comma, 1),
                    _ => {
                        let length = text[start..].chars().next().map_or(1, char::len_utf8);
                        let range = start..start + length;
                        let message = format!("unexpected character `{}`", &text[range.clone()]);
                        return Err(ParseError { range, message, help: None });
                    }
                };
                i += length;
                token
            }
        };
        tokens.push((token, start..i));
    }
    Ok(tokens)
}

/// End of the number that starts at `i`: digits, a point, digits, exponent; the caller's conversion rejects a lone point.
fn number_end(bytes: &[u8], mut i: usize) -> usize {
    let digits = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    i = digits(i);
    if bytes.get(i) == Some(&b'.') {
        i = digits(i + 1);
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(i + 1), Some(b'+' | b'-')));
        let end = digits(i + 1 + sign);
        if end > i + 1 + sign {
            return end;
        }
    }
    i
}

/// A name or a literal spelled as a word. Other spellings of the literals are reserved.
fn word(word: &str, range: Range<usize>) -> Result<Token, ParseError> {
    match word {
        "true" => return Ok(Token::Number(1.0)),
        "false" => return Ok(Token::Number(0.0)),
        "inf" => return Ok(Token::Number(f64::INFINITY)),
        _ => {}
    }
    if word.eq_ignore_ascii_case("nan") {
        return Err(ParseError { range, message: format!("`{word}`: there is no NaN in formulas"), help: None });
    }
    match ["true", "false", "inf"].iter().find(|literal| word.eq_ignore_ascii_case(literal)) {
        Some(literal) => Err(ParseError {
            range,
            message: format!("the name `{word}` is reserved"),
            help: Some(format!("the literal is written `{literal}`")),
        }),
        None => Ok(Token::Name),
    }
}

fn wrong_operator(text: &str, start: usize, length: usize, right: &str) -> ParseError {
    let range = start..start + length;
    let message = format!("there is no operator `{}`", &text[range.clone()]);
    ParseError { range, message, help: Some(format!("write `{right}`")) }
}

fn unexpected_after_operand(text: &str, token: Token, range: Range<usize>) -> ParseError {
    let found = &text[range.clone()];
    let (message, help) = match token {
        Token::Close => ("unexpected `)`: no parenthesis is open".to_string(), None),
        Token::Comma => ("unexpected `,` outside a function call".to_string(), None),
        Token::Name | Token::Number(_) | Token::Open | Token::Bang => {
            (format!("expected an operator before `{found}`"), Some("a product is written with `*`".to_string()))
        }
        Token::Operator(_) | Token::Caret => (format!("unexpected `{found}`"), None),
    };
    ParseError { range, message, help }
}

/// The levels of left-associative operators, loosest first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Logical,
    Comparison,
    Sum,
    Product,
}

impl Level {
    fn holds(self, op: Binary) -> bool {
        let level = match op {
            Binary::And | Binary::Or => Level::Logical,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => Level::Comparison,
            Binary::Add | Binary::Sub => Level::Sum,
            _ => Level::Product,
        };
        level == self
    }
}

/// A parsed part, its depth as a tree, and its value if it consists of literals only.
struct Term {
    ast: Ast,
    depth: u32,
    value: Option<f64>,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
    nesting: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.next).map(|t| t.0)
    }

    /// Takes the next token if it is this one.
    fn take(&mut self, token: Token) -> Option<Range<usize>> {
        let range = self.tokens.get(self.next).filter(|t| t.0 == token)?.1.clone();
        self.next += 1;
        Some(range)
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, range: &Range<usize>, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.nesting == MAX_NESTING {
            return Err(too_deep(range.clone()));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn level(&mut self, level: Level) -> Result<Term, ParseError> {
        let operand = |parser: &mut Self| match level {
            Level::Logical => parser.level(Level::Comparison),
            Level::Comparison => parser.level(Level::Sum),
            Level::Sum => parser.level(Level::Product),
            Level::Product => parser.signed(),
        };
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(Token::Operator(op)) = self.peek() {
            if !level.holds(op) {
                break;
            }
            self.next += 1;
            rest.push((op, operand(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.chain(level, first, rest)
    }

    /// The chain `first op term op term ...`, from left to right. Very long chains are regrouped into trees of small depth:
    /// a - b + c - d = a - (b - c + d), likewise for products, and runs of one logical operator are associative.
    fn chain(&self, level: Level, first: Term, rest: Vec<(Binary, Term)>) -> Result<Term, ParseError> {
        if rest.len() <= MAX_CHAIN || level == Level::Comparison {
            return rest.into_iter().try_fold(first, |left, (op, right)| self.binary(op, left, right));
        }
        let flip = |op: Binary| match op {
            Binary::Add => Binary::Sub,
            Binary::Sub => Binary::Add,
            Binary::Mul => Binary::Div,
            Binary::Div => Binary::Mul,
            other => other,
        };
        let mut groups = Vec::new();
        let mut rest = rest.into_iter().peekable();
        let length = rest.len();
        while let Some((op, head)) = rest.next() {
            let inverse = matches!(op, Binary::Sub | Binary::Div);
            let mut group = head;
            for _ in 1..GROUP {
                match rest.next_if(|(next, _)| level != Level::Logical || *next == op) {
                    Some((next, term)) => group = self.binary(if inverse { flip(next) } else { next }, group, term)?,
                    None => break,
                }
            }
            groups.push((op, group));
        }
        if groups.len() == length {
            // Alternating `&&` and `||` cannot be regrouped; the depth is checked on the way.
            return groups.into_iter().try_fold(first, |left, (op, right)| self.binary(op, left, right));
        }
        self.chain(level, first, groups)
    }

    /// signed := ('+' | '-' | '!')* power
    fn signed(&mut self) -> Result<Term, ParseError> {
        let start = self.next;
        while matches!(self.peek(), Some(Token::Operator(Binary::Add | Binary::Sub) | Token::Bang)) {
            self.next += 1;
        }
        let signs = start..self.next;
        let mut term = self.power()?;
        for index in signs.rev() {
            let (sign, range) = self.tokens[index].clone();
            let range = range.start..term.ast.range.end;
            term = match sign {
                Token::Operator(Binary::Sub) => self.unary(Unary::Neg, term, range)?,
                Token::Bang => self.unary(Unary::Not, term, range)?,
                _ => term,
            };
        }
        Ok(term)
    }

    /// power := atom ('^' signed)?
    fn power(&mut self) -> Result<Term, ParseError> {
        let base = self.atom()?;
        match self.take(Token::Caret) {
            None => Ok(base),
            Some(range) => {
                let exponent = self.nested(&range, Self::signed)?;
                self.binary(Binary::Pow, base, exponent)
            }
        }
    }

    fn atom(&mut self) -> Result<Term, ParseError> {
        let Some((token, range)) = self.tokens.get(self.next).cloned() else {
            let end = self.text.len();
            return Err(ParseError { range: end..end, message: "the formula ends where a value is expected".into(), help: None });
        };
        self.next += 1;
        match token {
            Token::Number(value) => Ok(Term { ast: Ast { kind: AstKind::Number(value), range }, depth: 1, value: Some(value) }),
            Token::Name => match self.take(Token::Open) {
                Some(open) => self.call(range, open),
                None => {
                    let name = &self.text[range.clone()];
                    let kind = if name == "time" { AstKind::Time } else { AstKind::Name(name.to_string()) };
                    Ok(Term { ast: Ast { kind, range }, depth: 1, value: None })
                }
            },
            Token::Open => {
                let mut term = self.nested(&range, |p| p.level(Level::Logical))?;
                let close = self.close(&range)?;
                term.ast.range = range.start..close.end;
                Ok(term)
            }
            Token::Operator(_) | Token::Caret | Token::Bang | Token::Close | Token::Comma => {
                let message = format!("expected a value, found `{}`", &self.text[range.clone()]);
                Err(ParseError { range, message, help: None })
            }
        }
    }

    /// The closing parenthesis of the one opened at `open`.
    fn close(&mut self, open: &Range<usize>) -> Result<Range<usize>, ParseError> {
        if let Some(range) = self.take(Token::Close) {
            return Ok(range);
        }
        match self.tokens.get(self.next) {
            Some((Token::Comma, range)) => {
                Err(ParseError { range: range.clone(), message: "unexpected `,` outside a function call".into(), help: None })
            }
            Some((token, range)) => Err(unexpected_after_operand(self.text, *token, range.clone())),
            None => Err(ParseError { range: open.clone(), message: "this parenthesis is not closed".into(), help: None }),
        }
    }

    fn call(&mut self, name: Range<usize>, open: Range<usize>) -> Result<Term, ParseError> {
        let mut arguments = Vec::new();
        if self.peek() != Some(Token::Close) {
            loop {
                arguments.push(self.nested(&open, |p| p.level(Level::Logical))?);
                if self.take(Token::Comma).is_none() {
                    break;
                }
            }
        }
        let close = self.close(&open)?;
        let range = name.start..close.end;
        let function = &self.text[name.clone()];
        let expect = |wanted: &str, right: bool| {
            if right {
                return Ok(());
            }
            let count = match arguments.len() {
                0 => "none".to_string(),
                n => n.to_string(),
            };
            Err(ParseError { range: range.clone(), message: format!("`{function}` takes {wanted}, here are {count}"), help: None })
        };
        if let Some((_, op)) = FUNCTIONS.iter().find(|(n, _)| *n == function) {
            expect("one argument", arguments.len() == 1)?;
            return match arguments.pop() {
                Some(argument) => self.unary(*op, argument, range),
                None => Err(unknown_function(function, name)),
            };
        }
        match function {
            "pow" | "min" | "max" => expect("two arguments", arguments.len() == 2)?,
            "log" => expect("one argument or two (the second is the base)", matches!(arguments.len(), 1 | 2))?,
            "piecewise" => expect("an odd number of arguments (value, condition, ..., value otherwise)", arguments.len() % 2 == 1)?,
            _ => return Err(unknown_function(function, name)),
        }
        let last = arguments.pop();
        let before = if function == "piecewise" { None } else { arguments.pop() };
        let mut term = match (function, before, last) {
            ("log", Some(x), Some(base)) => self.logarithm(x, base, range.clone())?,
            ("log", None, Some(x)) => self.unary(Unary::Ln, x, range.clone())?,
            ("pow", Some(x), Some(y)) => self.binary(Binary::Pow, x, y)?,
            ("min", Some(x), Some(y)) => self.binary(Binary::Min, x, y)?,
            ("max", Some(x), Some(y)) => self.binary(Binary::Max, x, y)?,
            (_, _, Some(otherwise)) => piecewise(arguments, otherwise, range.clone())?,
            _ => return Err(unknown_function(function, name)),
        };
        term.ast.range = range;
        Ok(term)
    }

    /// log(x, b) = ln x / ln b, so log(0, 10) = -inf; the bases 2 and 10 have their own, more exact functions.
    fn logarithm(&self, x: Term, base: Term, range: Range<usize>) -> Result<Term, ParseError> {
        match base.ast.kind {
            AstKind::Number(2.0) => return self.unary(Unary::Log2, x, range),
            AstKind::Number(10.0) => return self.unary(Unary::Log10, x, range),
            _ => {}
        }
        let (x_range, base_range) = (x.ast.range.clone(), base.ast.range.clone());
        let (x, base) = (self.unary(Unary::Ln, x, x_range)?, self.unary(Unary::Ln, base, base_range)?);
        self.binary(Binary::Div, x, base)
    }

    fn unary(&self, op: Unary, a: Term, range: Range<usize>) -> Result<Term, ParseError> {
        let value = a.value.map(|x| op.apply(x));
        if value.is_some_and(f64::is_nan) {
            return Err(self.no_number(range));
        }
        limited(Term { ast: Ast { kind: AstKind::Unary(op, Box::new(a.ast)), range }, depth: a.depth + 1, value })
    }

    fn binary(&self, op: Binary, a: Term, b: Term) -> Result<Term, ParseError> {
        let range = a.ast.range.start..b.ast.range.end;
        let value = a.value.zip(b.value).map(|(x, y)| op.apply(x, y));
        if value.is_some_and(f64::is_nan) || (op == Binary::Div && value.is_some() && b.value == Some(0.0)) {
            return Err(self.no_number(range));
        }
        let depth = a.depth.max(b.depth) + 1;
        limited(Term { ast: Ast { kind: AstKind::Binary(op, Box::new(a.ast), Box::new(b.ast)), range }, depth, value })
    }

    fn no_number(&self, range: Range<usize>) -> ParseError {
        let part = self.text.get(range.clone()).unwrap_or_default();
        ParseError { range, message: format!("`{part}` has no value among the real numbers"), help: None }
    }
}

fn piecewise(arguments: Vec<Term>, otherwise: Term, range: Range<usize>) -> Result<Term, ParseError> {
    let depth = arguments.iter().map(|a| a.depth).max().unwrap_or(0).max(otherwise.depth) + 1;
    let mut value = otherwise.value;
    for pair in arguments.rchunks_exact(2) {
        value = match (pair[1].value, pair[0].value) {
            (Some(condition), taken) if condition != 0.0 => taken,
            (Some(_), _) => value,
            (None, _) => None,
        };
    }
    let mut pieces = Vec::with_capacity(arguments.len() / 2);
    let mut arguments = arguments.into_iter();
    while let (Some(v), Some(c)) = (arguments.next(), arguments.next()) {
        pieces.push((v.ast, c.ast));
    }
    limited(Term { ast: Ast { kind: AstKind::Piecewise(pieces, Some(Box::new(otherwise.ast))), range }, depth, value })
}

fn limited(term: Term) -> Result<Term, ParseError> {
    if term.depth > MAX_DEPTH { Err(too_deep(term.ast.range)) } else { Ok(term) }
}

fn too_deep(range: Range<usize>) -> ParseError {
    ParseError { range, message: "the formula is nested too deeply".into(), help: None }
}

fn unknown_function(name: &str, range: Range<usize>) -> ParseError {
    // Spellings of other languages first, then the most similar name.
    let other = match name {
        "power" => Some("pow"),
        "if" | "ifelse" | "ite" => Some("piecewise"),
        "asin" => Some("arcsin"),
        "acos" => Some("arccos"),
        "atan" => Some("arctan"),
        "asinh" => Some("arcsinh"),
        "acosh" => Some("arccosh"),
        "atanh" => Some("arctanh"),
        _ => None,
    };
    let names = FUNCTIONS.iter().map(|(n, _)| *n).chain(["log", "pow", "min", "max", "piecewise"]);
    let near = names.filter(|n| strsim::damerau_levenshtein(n, name) <= 2);
    let similar = near.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let help = other.or(similar).map(|n| format!("did you mean `{n}`?"));
    ParseError { range, message: format!("there is no function `{name}`"), help }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::expr::Graph;

    fn value(text: &str) -> f64 {
        let mut graph = Graph::new();
        let ast = parse(text).unwrap_or_else(|e| panic!("`{text}`: {e:?}"));
        let e = graph.lower(&ast, &mut |_, _| None).unwrap_or_else(|| panic!("`{text}` has names"));
        graph.evaluate(&[e], &|_| f64::NAN)[0]
    }

    /// Values checked with libpetab's parser (PETAB.md 5).
    #[test]
    fn precedence_and_conversions() {
        let cases = [
            ("9*3^-2", 1.0),
            ("2^2^3", 256.0),
            ("2^-2^2", 0.0625),
            ("-2^2", -4.0),
            ("2--3", 5.0),
            ("0^0", 1.0),
            ("1<2<3", 1.0),
            ("3>2>1", 0.0),
            ("!1==0", 1.0),
            ("!-1", 0.0),
            ("-!0", -1.0),
            ("!!2", 1.0),
            ("+-+1", -1.0),
            ("8-4-2", 2.0),
            ("8/4/2", 1.0),
            ("8/4*2", 4.0),
            ("true || false && false", 0.0),
            ("3 + true", 4.0),
            ("-true", -1.0),
            ("true == 2", 0.0),
            ("arccot(-1)", -std::f64::consts::FRAC_PI_4),
            ("log(0, 10)", f64::NEG_INFINITY),
            ("log(0)", f64::NEG_INFINITY),
            ("log10(0)", f64::NEG_INFINITY),
            ("log2(0)", f64::NEG_INFINITY),
            ("arccoth(1)", f64::INFINITY),
            ("log(8, 2)", 3.0),
            ("log(1000, 10)", 3.0),
            ("log(25, 5)", 2.0),
            ("piecewise(1, -0.1, 0)", 1.0),
            ("piecewise(7)", 7.0),
            ("piecewise(1, 1 > 2, 2, 3 > 2, 0)", 2.0),
            ("min(2, 1) + max(2, 1)", 3.0),
            (".5 + 5. + 1.e1 + 2E-1 + 1e+1", 25.7),
            ("\t1 +\n2 ", 3.0),
            ("1e400", f64::INFINITY),
        ];
        for (text, expected) in cases {
            let found = value(text);
            assert!(found == expected || (found - expected).abs() <= 1e-15 * expected.abs(), "{text} = {found}, expected {expected}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        // Text, the offending part (first occurrence), part of the message or of the help.
        let cases = [
            ("", "", "empty"),
            ("  ", "  ", "empty"),
            ("1 = 1", "=", "`==`"),
            ("a b", "b", "operator"),
            ("2a", "a", "operator"),
            ("2(a)", "(", "operator"),
            ("a.b", ".", "no number"),
            ("a.5", ".5", "operator"),
            ("1..2", ".2", "operator"),
            ("1e", "e", "operator"),
            ("min(1,2,3)", "min(1,2,3)", "two arguments"),
            ("piecewise(1,0)", "piecewise(1,0)", "odd"),
            ("sin()", "sin()", "none"),
            ("log(1,2,3)", "log(1,2,3)", "base"),
            ("True", "True", "`true`"),
            ("Inf", "Inf", "`inf`"),
            ("nan", "nan", "NaN"),
            ("NaN + 1", "NaN", "NaN"),
            ("x + 1/0", "1/0", "no value"),
            ("log(-1)", "log(-1)", "no value"),
            ("sqrt(-1)*x", "sqrt(-1)", "no value"),
            ("inf - inf", "inf - inf", "no value"),
            ("(1 + 2", "(", "not closed"),
            ("sin(1", "(", "not closed"),
            ("1)", ")", "no parenthesis"),
            ("1, 2", ",", "outside"),
            ("(1, 2)", ",", "outside"),
            ("sinn(1)", "sinn", "`sin`"),
            ("asin(1)", "asin", "`arcsin`"),
            ("2 ** 3", "**", "`^`"),
            ("a & b", "&", "`&&`"),
            ("a | b", "|", "`||`"),
            ("1 + * 2", "*", "value"),
            ("µ + 1", "µ", "character"),
            ("f(x)", "f", "no function"),
        ];
        for (text, part, words) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(&text[error.range.clone()], part, "{text}: {error:?}");
            let said = format!("{} {}", error.message, error.help.clone().unwrap_or_default());
            assert!(said.contains(words), "{text}: {said}");
        }
        let error = parse("1 +").expect_err("no second operand");
        assert_eq!(error.range, 3..3);
    }

    #[test]
    fn ranges_of_nodes() {
        let text = " (a + b)*sin( c )^2";
        let ast = parse(text).unwrap();
        let mut parts = Vec::new();
        ast.walk(&mut |node| parts.push(&text[node.range.clone()]));
        assert_eq!(parts, ["(a + b)*sin( c )^2", "(a + b)", "a", "b", "sin( c )^2", "sin( c )", "c", "2"]);
        assert_eq!(parse("time").unwrap().kind, AstKind::Time);
        assert_eq!(parse("pi").unwrap().kind, AstKind::Name("pi".into()));
    }

    #[test]
    fn nesting_is_limited_and_chains_are_not() {
        for text in ["(".repeat(100_000), "2^".repeat(100_000) + "2", "sin(".repeat(100_000), "-".repeat(100_000) + "1"] {
            assert!(parse(&text).expect_err("too deep").message.contains("deep"), "{:.20}", parse(&text).unwrap_err());
        }
        assert_eq!(value(&("(".repeat(190) + "1" + &")".repeat(190))), 1.0);
        // 1 - 1 + 1 - ... and 1 / 2 * 2 / ...: whole numbers and powers of two, so regrouping changes no bit.
        let n = 20_000;
        assert_eq!(value(&("1".to_string() + &"-3+1+1".repeat(n))), 1.0 - n as f64);
        assert_eq!(value(&("1".to_string() + &"/2*4/2".repeat(n))), 1.0);
        assert_eq!(value(&("0".to_string() + &"||0".repeat(n) + "||1")), 1.0);
        assert_eq!(value(&("1".to_string() + &"&&1".repeat(n) + "||0&&0")), 0.0);
        assert!(parse(&("1".to_string() + &"<1".repeat(n))).is_err());
        assert!(parse(&("1".to_string() + &"||0&&1".repeat(n))).is_err());
        assert_eq!(value(&("1".to_string() + &"||0&&1".repeat(300))), 1.0);
    }
}
