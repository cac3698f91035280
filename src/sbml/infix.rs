//! The formula strings of level 1 to [`Ast`] (SBML Level 1 Version 2, section 3.1 and appendix C).
//!
//! Precedence from the highest: function call and parentheses, negation, `^`, `*` and `/`, `+` and `-`; all binary operators
//! associate to the left, so -x^2 is (-x)^2 and a^b^c is (a^b)^c. `log` is the natural logarithm.

use super::mathml::{limit_depth, too_large};
use super::xml::{Reader, parse_double};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Ast, AstKind, Binary, Unary};
use std::ops::Range;

/// Deepest nesting of parentheses and signs, and most binary operators of one formula: bounds on the depth of the tree.
const MAX_NESTING: usize = 200;
const MAX_OPERATORS: usize = 5000;

/// The formula at `span`, the value of an attribute; `None` after an error.
pub(super) fn formula(reader: &mut Reader<'_>, span: &Span) -> Option<Ast> {
    let mut parser = Parser { text: span.text(), at: 0, nesting: 0, operators: 0 };
    let parsed = parser.sum().and_then(|ast| if parser.peek().is_none() { Ok(ast) } else { Err(Failure::Expected("an operator")) });
    match parsed {
        Ok(mut ast) => {
            shift(&mut ast, span.range.start);
            limit_depth(reader, ast, span)
        }
        Err(Failure::TooLarge) => {
            too_large(reader, span);
            None
        }
        Err(Failure::Expected(expected)) => {
            let length = parser.peek().map_or(0, char::len_utf8);
            let place = reader.span(span.range.start + parser.at..span.range.start + parser.at + length);
            reader.push(Diagnostic::error("S0208", "a formula cannot be read").at(&place, format!("expected {expected}")));
            None
        }
    }
}

enum Failure {
    Expected(&'static str),
    TooLarge,
}

/// Moves all ranges from the formula's own text to the file.
fn shift(ast: &mut Ast, offset: usize) {
    ast.range = ast.range.start + offset..ast.range.end + offset;
    match &mut ast.kind {
        AstKind::Unary(_, a) => shift(a, offset),
        AstKind::Binary(_, a, b) => {
            shift(a, offset);
            shift(b, offset);
        }
        AstKind::Call(_, arguments) => arguments.iter_mut().for_each(|a| shift(a, offset)),
        // The rest of the kinds have no parts or cannot be written in level 1.
        _ => {}
    }
}

fn function(name: &str) -> Option<Unary> {
    Some(match name {
        "abs" => Unary::Abs,
        "acos" => Unary::Acos,
        "asin" => Unary::Asin,
        "atan" => Unary::Atan,
        "ceil" => Unary::Ceil,
        "cos" => Unary::Cos,
        "exp" => Unary::Exp,
        "floor" => Unary::Floor,
        "log" => Unary::Ln,
        "log10" => Unary::Log10,
        "sin" => Unary::Sin,
        "sqrt" => Unary::Sqrt,
        "tan" => Unary::Tan,
        _ => return None,
    })
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    nesting: usize,
    operators: usize,
}

impl Parser<'_> {
    /// The next character after space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    /// The longest prefix of which all characters fit.
    fn word(&mut self, fits: impl Fn(char) -> bool) -> Range<usize> {
        let start = self.at;
        let rest = &self.text[start..];
        self.at += rest.find(|c| !fits(c)).unwrap_or(rest.len());
        start..self.at
    }

    /// A chain of the operators of one precedence, whose operands `next` reads.
    fn chain(&mut self, operators: &[(char, Binary)], next: fn(&mut Self) -> Result<Ast, Failure>) -> Result<Ast, Failure> {
        let mut left = next(self)?;
        while let Some((_, op)) = self.peek().and_then(|c| operators.iter().find(|(sign, _)| *sign == c)) {
            self.at += 1;
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(Failure::TooLarge);
            }
            let right = next(self)?;
            let range = left.range.start..right.range.end;
            left = Ast { kind: AstKind::Binary(*op, Box::new(left), Box::new(right)), range };
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Ast, Failure> {
        self.chain(&[('+', Binary::Add), ('-', Binary::Sub)], Self::product)
    }

    fn product(&mut self) -> Result<Ast, Failure> {
        self.chain(&[('*', Binary::Mul), ('/', Binary::Div)], Self::power)
    }

    fn power(&mut self) -> Result<Ast, Failure> {
        self.chain(&[('^', Binary::Pow)], Self::signed)
    }

    fn signed(&mut self) -> Result<Ast, Failure> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Failure::TooLarge);
        }
        self.peek();
        let start = self.at;
        let result = if self.take('-') {
            let operand = self.signed()?;
            let range = start..operand.range.end;
            Ok(Ast { kind: AstKind::Unary(Unary::Neg, Box::new(operand)), range })
        } else if self.take('+') {
            self.signed()
        } else {
            self.operand()
        };
        self.nesting -= 1;
        result
    }

    fn operand(&mut self) -> Result<Ast, Failure> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.sum()?;
                if self.take(')') { Ok(inner) } else { Err(Failure::Expected("`)`")) }
            }
            Some(c) if c.is_ascii_digit() || c == '.' => {
                let start = self.at;
                self.word(|c| c.is_ascii_digit() || c == '.');
                let mantissa = self.at;
                if self.text[self.at..].starts_with(['e', 'E']) {
                    self.at += 1;
                    if self.text[self.at..].starts_with(['+', '-']) {
                        self.at += 1;
                    }
                    if self.word(|c| c.is_ascii_digit()).is_empty() {
                        self.at = mantissa;
                    }
                }
                let range = start..self.at;
                match parse_double(&self.text[range.clone()]) {
                    Some(value) => Ok(Ast { kind: AstKind::Number(value), range }),
                    None => {
                        self.at = start;
                        Err(Failure::Expected("a number"))
                    }
                }
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let range = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
                let name = &self.text[range.clone()];
                if self.take('(') { self.call(name, range.start) } else { Ok(Ast { kind: AstKind::Name(name.to_owned()), range }) }
            }
            _ => Err(Failure::Expected("a number, a name, a function or `(`")),
        }
    }

    /// The rest of a call after its opening parenthesis.
    fn call(&mut self, name: &str, start: usize) -> Result<Ast, Failure> {
        let mut arguments = Vec::new();
        if !self.take(')') {
            loop {
                arguments.push(self.sum()?);
                if self.take(')') {
                    break;
                }
                if !self.take(',') {
                    return Err(Failure::Expected("`,` or `)`"));
                }
            }
        }
        let range = start..self.at;
        let two = || Ast { kind: AstKind::Number(2.0), range: range.clone() };
        let power = |a, b| AstKind::Binary(Binary::Pow, Box::new(a), Box::new(b));
        let kind = match (name, function(name), arguments.len()) {
            ("sqr", _, 1) => power(arguments.remove(0), two()),
            ("pow", _, 2) => power(arguments.remove(0), arguments.remove(0)),
            (_, Some(op), 1) => AstKind::Unary(op, Box::new(arguments.remove(0))),
            // With a wrong number of arguments it is a call of a function that nobody defined, and reported as such.
            _ => AstKind::Call(name.to_owned(), arguments),
        };
        Ok(Ast { kind, range })
    }
}
