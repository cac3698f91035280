//! Whether the units in formulas fit together. All of it is warnings, since a model with wrong units can be simulated.
//!
//! A unit is inferred for every part of a formula. What has no declared unit is unknown, and so is what is made of it: nothing
//! is said about that. Numbers without a unit are unknown too, as they may hide one, but for small whole numbers, 1/2, pi and e
//! and what functions such as exp yield: those are pure numbers, which go with everything. A formula gets one message at most.

use super::mathml::constant_value;
use super::model::{Assignment, FunctionDefinition, Model, Reaction};
use super::unit::{Difference, Unit, short};
use super::units::Units;
use super::xml::Reader;
use crate::diag::{Diagnostic, Source, Span};
use crate::expr::{Ast, AstKind, Binary, Unary};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// Most parts of a formula, with those of the functions it calls, that are looked at: functions can call each other so that
/// the work doubles with each.
const BUDGET: usize = 100_000;

/// What is known about the unit of a part of a formula.
#[derive(Debug, Clone)]
enum Inferred {
    Unknown,
    /// A number that is dimensionless as a factor, and could be anything as a summand.
    Pure,
    Known(Unit),
}

impl From<Option<&Unit>> for Inferred {
    fn from(unit: Option<&Unit>) -> Self {
        unit.map_or(Inferred::Unknown, |unit| Inferred::Known(unit.clone()))
    }
}

/// Two parts that do not fit, or one that does not fit its place.
struct Clash {
    message: String,
    part: Part,
    other: Option<Part>,
    /// Function in whose body the parts are.
    function: Option<String>,
}

/// A part of a formula, and what to say about it.
struct Part {
    source: Source,
    range: Range<usize>,
    label: String,
}

/// What the names in a formula mean.
struct Scope<'a> {
    source: &'a Source,
    /// Local parameters or arguments. What is listed here hides global names.
    locals: FxHashMap<&'a str, Inferred>,
    /// Local parameters that are plain numbers.
    values: FxHashMap<&'a str, f64>,
    /// Name of the function whose body this is.
    function: Option<&'a str>,
}

struct Checker<'m> {
    model: &'m Model,
    units: &'m Units,
    symbols: FxHashMap<&'m str, Unit>,
    functions: FxHashMap<&'m str, &'m FunctionDefinition>,
    /// Compartments of species.
    places: FxHashMap<&'m str, &'m str>,
    /// Constant parameters that are plain numbers.
    values: FxHashMap<&'m str, f64>,
    budget: usize,
}

/// Checks all formulas of a model.
pub(super) fn check(reader: &mut Reader<'_>, model: &Model, units: &Units) {
    let initial: FxHashSet<&str> = model.initial_assignments.iter().map(|a| a.variable.as_str()).collect();
    let constants = model.parameters.iter().filter(|p| p.constant && !initial.contains(p.id.as_str()));
    let mut checker = Checker {
        model,
        units,
        symbols: symbols(model, units),
        functions: model.functions.iter().map(|f| (f.id.as_str(), f)).collect(),
        places: model.species.iter().map(|s| (s.id.as_str(), s.compartment.as_str())).collect(),
        values: constants.filter_map(|p| Some((p.id.as_str(), p.value?))).collect(),
        budget: 0,
    };
    let before = reader.diagnostics.items().len();
    checker.run(reader);
    reader.diagnostics.group(before);
}

/// The units of global names in formulas.
fn symbols<'m>(model: &'m Model, units: &Units) -> FxHashMap<&'m str, Unit> {
    let mut symbols: FxHashMap<&str, Unit> = FxHashMap::default();
    let mut sizes: FxHashMap<&str, (Option<&Unit>, f64)> = FxHashMap::default();
    for compartment in &model.compartments {
        let unit = units.size(&compartment.id, compartment.dimensions);
        sizes.insert(&compartment.id, (unit, compartment.dimensions));
        symbols.extend(unit.map(|unit| (compartment.id.as_str(), unit.clone())));
    }
    for species in &model.species {
        let Some(amount) = units.amount(&species.id) else { continue };
        let (size, dimensions) = sizes.get(species.compartment.as_str()).copied().unwrap_or((None, 0.0));
        let unit = if species.only_substance_units || dimensions == 0.0 {
            Some(amount.clone())
        } else {
            units.species_size(&species.id).or(size).map(|size| amount.clone().times(size, -1.0))
        };
        symbols.extend(unit.map(|unit| (species.id.as_str(), unit)));
    }
    symbols.extend(model.parameters.iter().filter_map(|p| Some((p.id.as_str(), units.declared(&p.id)?.clone()))));
    symbols.extend(model.reactions.iter().filter_map(|r| Some((r.id.as_str(), units.rate(&r.id)?))));
    let references = model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products));
    symbols.extend(references.filter_map(|r| Some((r.id.as_deref()?, Unit::default()))));
    symbols
}

impl<'m> Checker<'m> {
    fn run(&mut self, reader: &mut Reader<'_>) {
        let model = self.model;
        let of = |this: &Self, variable: &str| this.symbols.get(variable).cloned();
        let per_time = |this: &Self, unit: Option<Unit>| Some(unit?.times(this.units.time.as_ref()?, -1.0));
        let lists: [(&'m [Assignment], &str); 3] = [
            (&model.initial_assignments, "initial assignment"),
            (&model.assignment_rules, "assignment rule"),
            (&model.rate_rules, "rate rule"),
        ];
        for (assignments, what) in lists {
            for Assignment { variable, formula, span } in assignments {
                let unit = of(self, variable);
                let unit = if what == "rate rule" { per_time(self, unit) } else { unit };
                let reason =
                    if what == "rate rule" { format!("the unit of `{variable}` per time") } else { format!("the unit of `{variable}`") };
                self.formula(reader, formula, span, &format!("the {what} for `{variable}`"), unit.map(|unit| (unit, reason)));
            }
        }
        for rule in &model.algebraic_rules {
            self.formula(reader, &rule.formula, &rule.span, "the algebraic rule", None);
        }
        for constraint in &model.constraints {
            self.formula(reader, &constraint.condition, &constraint.span, "the constraint", None);
        }
        for event in &model.events {
            let name = event.id.as_ref().map_or_else(|| "the event".to_owned(), |id| format!("event `{id}`"));
            self.formula(reader, &event.trigger, &event.span, &format!("the trigger of {name}"), None);
            if let Some(delay) = &event.delay {
                let time = self.units.time.clone().map(|time| (time, "the unit of time".to_owned()));
                self.formula(reader, delay, &event.span, &format!("the delay of {name}"), time);
            }
            if let Some(priority) = &event.priority {
                self.formula(reader, priority, &event.span, &format!("the priority of {name}"), None);
            }
            for Assignment { variable, formula, span } in &event.assignments {
                let unit = of(self, variable).map(|unit| (unit, format!("the unit of `{variable}`")));
                self.formula(reader, formula, span, &format!("the assignment to `{variable}` of {name}"), unit);
            }
        }
        for reaction in &model.reactions {
            self.reaction(reader, reaction);
        }
    }

    fn reaction(&mut self, reader: &mut Reader<'_>, reaction: &'m Reaction) {
        for reference in reaction.reactants.iter().chain(&reaction.products) {
            if let Some(formula) = &reference.stoichiometry_math {
                let none = Some((Unit::default(), "the unit of stoichiometries".to_owned()));
                self.formula(reader, formula, &reference.span, &format!("the stoichiometry of `{}`", reference.species), none);
            }
        }
        let Some(rate) = &reaction.rate else { return };
        let parameters = reaction.local_parameters.iter();
        let scope = Scope {
            source: &reaction.span.source,
            locals: parameters.clone().map(|p| (p.id.as_str(), self.units.local(&reaction.id, &p.id).into())).collect(),
            values: parameters.filter_map(|p| Some((p.id.as_str(), p.value?))).collect(),
            function: None,
        };
        let owner = format!("the rate of reaction `{}`", reaction.id);
        let Some(found) = self.infer_whole(reader, rate, &scope, &owner) else { return };
        let Some(expected) = self.units.rate(&reaction.id) else { return };
        let Some(mut diagnostic) = mismatch(rate, &scope, &owner, &found, &expected, "an amount (or extent) per time") else { return };
        // The classic mistake: concentration per time.
        let species = reaction.reactants.iter().chain(&reaction.products).map(|r| r.species.as_str());
        let mut places: Vec<&str> = species.filter_map(|s| self.places.get(s).copied()).collect();
        places.dedup();
        let fits = |id: &str| {
            let size = self.symbols.get(id)?;
            Some(found.clone().times(size, 1.0).difference(&expected) != Difference::Dimension)
        };
        if let Some(compartment) = places.into_iter().find(|id| fits(id) == Some(true)) {
            diagnostic = diagnostic.help(format!("multiply by the compartment: {compartment} * {}", factor_text(rate)));
        }
        reader.push(diagnostic);
    }

    /// Checks a formula of global names. `expected` is the unit that it should have, and why.
    fn formula(&mut self, reader: &mut Reader<'_>, formula: &Ast, span: &Span, owner: &str, expected: Option<(Unit, String)>) {
        let scope = Scope { source: &span.source, locals: FxHashMap::default(), values: FxHashMap::default(), function: None };
        let found = self.infer_whole(reader, formula, &scope, owner);
        if let (Some(found), Some((expected, reason))) = (found, expected)
            && let Some(diagnostic) = mismatch(formula, &scope, owner, &found, &expected, &reason)
        {
            reader.push(diagnostic);
        }
    }

    /// The unit of a formula where it is known; what does not fit within it is reported.
    fn infer_whole(&mut self, reader: &mut Reader<'_>, formula: &Ast, scope: &Scope<'_>, owner: &str) -> Option<Unit> {
        self.budget = BUDGET;
        match self.infer(formula, scope) {
            Ok(Inferred::Known(unit)) => Some(unit),
            Ok(_) => None,
            Err(clash) => {
                reader.push(clash.diagnostic(owner));
                None
            }
        }
    }

    fn infer(&mut self, ast: &Ast, scope: &Scope<'_>) -> Result<Inferred, Box<Clash>> {
        let Some(budget) = self.budget.checked_sub(1) else { return Ok(Inferred::Unknown) };
        self.budget = budget;
        Ok(match &ast.kind {
            AstKind::Number(value) => self.number(ast, *value, scope),
            AstKind::Name(name) => match scope.locals.get(name.as_str()) {
                Some(inferred) => inferred.clone(),
                None => self.symbols.get(name.as_str()).into(),
            },
            AstKind::Time => self.units.time.as_ref().into(),
            AstKind::RateOf(variable) => match (self.infer(variable, scope)?, &self.units.time) {
                (Inferred::Known(unit), Some(time)) => Inferred::Known(unit.times(time, -1.0)),
                _ => Inferred::Unknown,
            },
            AstKind::Delay(value, delay) => {
                if let (Inferred::Known(unit), Some(time)) = (self.infer(delay, scope)?, &self.units.time)
                    && unit.difference(time) != Difference::None
                {
                    let message = format!("delays by `{unit}`, but time is in `{time}`");
                    return Err(Clash::new(message, scope, (delay, &unit), None));
                }
                self.infer(value, scope)?
            }
            AstKind::Unary(op, a) => self.unary(*op, a, scope)?,
            AstKind::Binary(op, a, b) => self.binary(*op, a, b, ast, scope)?,
            AstKind::Piecewise(pieces, otherwise) => {
                for (_, condition) in pieces {
                    self.infer(condition, scope)?;
                }
                let values: Vec<&Ast> = pieces.iter().map(|(value, _)| value).chain(otherwise.as_deref()).collect();
                self.alike("chooses between", &values, scope)?
            }
            AstKind::Call(name, arguments) => self.call(name, arguments, scope)?,
        })
    }

    fn number(&self, ast: &Ast, value: f64, scope: &Scope<'_>) -> Inferred {
        use std::f64::consts::{E, PI};
        // Formulas of other files have numbers at other places.
        if scope.source.name() == self.model.source.name()
            && let Some(unit) = self.units.number(ast.range.start)
        {
            return Inferred::Known(unit.clone());
        }
        let small = value.fract() == 0.0 && value.abs() < 10.0 && value != 0.0;
        if small || value == 0.5 || value == PI || value == E { Inferred::Pure } else { Inferred::Unknown }
    }

    fn unary(&mut self, op: Unary, a: &Ast, scope: &Scope<'_>) -> Result<Inferred, Box<Clash>> {
        let inferred = self.infer(a, scope)?;
        Ok(match op {
            Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil => inferred,
            Unary::Not | Unary::Sign => Inferred::Pure,
            Unary::Sqrt => match inferred {
                Inferred::Known(unit) => Inferred::Known(Unit::default().times(&unit, 0.5)),
                other => other,
            },
            _ => {
                let name = function_name(op);
                self.dimensionless(&format!("takes `{name}` of"), a, inferred, scope)?;
                Inferred::Pure
            }
        })
    }

    /// Only a dimensionless value makes sense here.
    fn dimensionless(&self, verb: &str, part: &Ast, inferred: Inferred, scope: &Scope<'_>) -> Result<(), Box<Clash>> {
        match inferred {
            Inferred::Known(unit) if unit.difference(&Unit::default()) != Difference::None => {
                let message = format!("{verb} something in `{unit}`, which is not dimensionless");
                Err(Clash::new(message, scope, (part, &unit), None))
            }
            _ => Ok(()),
        }
    }

    fn binary(&mut self, op: Binary, a: &Ast, b: &Ast, whole: &Ast, scope: &Scope<'_>) -> Result<Inferred, Box<Clash>> {
        Ok(match op {
            Binary::Add | Binary::Sub => {
                let mut terms = Vec::new();
                summands(whole, &mut terms);
                self.alike("adds", &terms, scope)?
            }
            Binary::Min | Binary::Max => self.alike("compares", &[a, b], scope)?,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => {
                self.alike("compares", &[a, b], scope)?;
                Inferred::Pure
            }
            Binary::And | Binary::Or | Binary::Xor => {
                self.infer(a, scope)?;
                self.infer(b, scope)?;
                Inferred::Pure
            }
            Binary::Mul => product(self.infer(a, scope)?, self.infer(b, scope)?, 1.0),
            Binary::Div | Binary::Quotient => product(self.infer(a, scope)?, self.infer(b, scope)?, -1.0),
            Binary::Rem => {
                self.infer(b, scope)?;
                self.infer(a, scope)?
            }
            Binary::Pow => {
                let (base, exponent) = (self.infer(a, scope)?, self.infer(b, scope)?);
                self.dimensionless("has as exponent", b, exponent, scope)?;
                match (base, self.exponent(b, scope)) {
                    (Inferred::Known(unit), Some(power)) if power.is_finite() => Inferred::Known(Unit::default().times(&unit, power)),
                    (Inferred::Known(unit), None) if unit.difference(&Unit::default()) == Difference::None => Inferred::Known(unit),
                    (Inferred::Pure, _) => Inferred::Pure,
                    _ => Inferred::Unknown,
                }
            }
        })
    }

    /// The value of an exponent that is a number or a constant parameter.
    fn exponent(&self, ast: &Ast, scope: &Scope<'_>) -> Option<f64> {
        match &ast.kind {
            AstKind::Name(name) if scope.locals.contains_key(name.as_str()) => scope.values.get(name.as_str()).copied(),
            AstKind::Name(name) => self.values.get(name.as_str()).copied(),
            AstKind::Unary(Unary::Neg, a) => self.exponent(a, scope).map(|value| -value),
            _ => constant_value(ast),
        }
    }

    /// Parts that must have the same unit; gives that unit, if any of them is known.
    fn alike(&mut self, verb: &str, parts: &[&Ast], scope: &Scope<'_>) -> Result<Inferred, Box<Clash>> {
        let mut common: Option<(&Ast, Unit)> = None;
        let mut pure = true;
        for part in parts {
            let unit = match self.infer(part, scope)? {
                Inferred::Known(unit) => unit,
                other => {
                    pure &= matches!(other, Inferred::Pure);
                    continue;
                }
            };
            let Some((first, expected)) = &common else {
                common = Some((part, unit));
                continue;
            };
            let link = if verb == "adds" { "to" } else { "and" };
            let message = match unit.difference(expected) {
                Difference::None => continue,
                Difference::Dimension => format!("{verb} `{expected}` {link} `{unit}`"),
                Difference::Factor(factor) => {
                    format!("{verb} `{expected}` {link} `{unit}`, which differ by a factor of {}", short(factor.max(1.0 / factor)))
                }
            };
            return Err(Clash::new(message, scope, (part, &unit), Some((first, expected))));
        }
        Ok(match common {
            Some((_, unit)) => Inferred::Known(unit),
            None if pure && !parts.is_empty() => Inferred::Pure,
            None => Inferred::Unknown,
        })
    }

    fn call(&mut self, name: &str, arguments: &[Ast], scope: &Scope<'_>) -> Result<Inferred, Box<Clash>> {
        let mut inferred = Vec::new();
        for argument in arguments {
            inferred.push(self.infer(argument, scope)?);
        }
        let Some(function) = self.functions.get(name).copied() else { return Ok(Inferred::Unknown) };
        let names = || function.arguments.iter().map(String::as_str);
        let values: Vec<Option<f64>> = arguments.iter().map(|argument| self.exponent(argument, scope)).collect();
        let inner = Scope {
            source: &function.span.source,
            locals: names().zip(inferred).collect(),
            values: names().zip(values).filter_map(|(name, value)| Some((name, value?))).collect(),
            function: Some(&function.id),
        };
        self.infer(&function.body, &inner)
    }
}

/// The operands of a sum, without regard to the order of addition.
fn summands<'a>(ast: &'a Ast, terms: &mut Vec<&'a Ast>) {
    match &ast.kind {
        AstKind::Binary(Binary::Add | Binary::Sub, a, b) => {
            summands(a, terms);
            summands(b, terms);
        }
        _ => terms.push(ast),
    }
}

fn product(a: Inferred, b: Inferred, power: f64) -> Inferred {
    match (a, b) {
        (Inferred::Unknown, _) | (_, Inferred::Unknown) => Inferred::Unknown,
        (Inferred::Pure, Inferred::Pure) => Inferred::Pure,
        (Inferred::Known(a), Inferred::Known(b)) => Inferred::Known(a.times(&b, power)),
        (Inferred::Known(a), Inferred::Pure) => Inferred::Known(a),
        (Inferred::Pure, Inferred::Known(b)) => Inferred::Known(Unit::default().times(&b, power)),
    }
}

impl Clash {
    fn new(message: String, scope: &Scope<'_>, part: (&Ast, &Unit), other: Option<(&Ast, &Unit)>) -> Box<Clash> {
        let part_of = |(ast, unit): (&Ast, &Unit)| Part {
            source: scope.source.clone(),
            range: ast.range.clone(),
            label: format!("{} is in `{unit}`", text(ast)),
        };
        Box::new(Clash { message, part: part_of(part), other: other.map(part_of), function: scope.function.map(str::to_owned) })
    }

    fn diagnostic(self, owner: &str) -> Diagnostic {
        let owner = match self.function {
            Some(name) => format!("function `{name}`, called in {owner},"),
            None => owner.to_owned(),
        };
        let message = format!("{owner} {}", self.message);
        let mut diagnostic = Diagnostic::warning("S0809", message).at(&place(&self.part), self.part.label);
        if let Some(other) = self.other {
            diagnostic = diagnostic.also(&place(&other), other.label.clone());
        }
        diagnostic
    }
}

/// A formula that has another unit than what it sets.
fn mismatch(formula: &Ast, scope: &Scope<'_>, owner: &str, found: &Unit, expected: &Unit, reason: &str) -> Option<Diagnostic> {
    let factor = match found.difference(expected) {
        Difference::None => return None,
        Difference::Dimension => String::new(),
        Difference::Factor(factor) => format!(": they differ by a factor of {}", short(factor.max(1.0 / factor))),
    };
    let part = Part { source: scope.source.clone(), range: formula.range.clone(), label: String::new() };
    let message = format!("{owner} is in `{found}`, not `{expected}`{factor}");
    Some(Diagnostic::warning("S0810", message).at(&place(&part), format!("{}: expected {reason}", text(formula))))
}

/// The place of a part. Of long MathML only the beginning is shown: the tag and the operator.
fn place(part: &Part) -> Span {
    let text = part.source.text().get(part.range.clone()).unwrap_or("");
    let is_long = text.contains('\n');
    let end = text.match_indices('>').nth(1).map(|(index, _)| index + 1).filter(|_| is_long);
    part.source.span(part.range.start..end.map_or(part.range.end, |end| part.range.start + end))
}

fn function_name(op: Unary) -> String {
    format!("{op:?}").to_lowercase()
}

/// A formula in one line for people, cut where it is long.
fn text(ast: &Ast) -> String {
    const LONGEST: usize = 50;
    let mut out = String::new();
    write(ast, 0, 2 * LONGEST, &mut out);
    if out.chars().count() > LONGEST {
        out = out.chars().take(LONGEST - 2).chain(" …".chars()).collect();
    }
    format!("`{out}`")
}

/// A formula as a factor of a product, cut where it is long.
fn factor_text(ast: &Ast) -> String {
    let text = text(ast);
    let text = text.trim_matches('`');
    if matches!(ast.kind, AstKind::Binary(Binary::Add | Binary::Sub, ..)) { format!("({text})") } else { text.to_owned() }
}

/// Writes a formula until `out` has `limit` bytes. `outer` is how strongly the operator around it binds.
fn write(ast: &Ast, outer: u8, limit: usize, out: &mut String) {
    if out.len() > limit {
        return;
    }
    let list = |parts: &[&Ast], out: &mut String| {
        for (index, part) in parts.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            write(part, 0, limit, out);
        }
        out.push(')');
    };
    match &ast.kind {
        AstKind::Number(value) => out.push_str(&short(*value)),
        AstKind::Name(name) => out.push_str(name),
        AstKind::Time => out.push_str("time"),
        AstKind::Unary(Unary::Neg, a) => {
            out.push('-');
            write(a, 3, limit, out);
        }
        AstKind::Unary(op, a) => {
            out.push_str(&function_name(*op));
            out.push('(');
            list(&[a], out);
        }
        AstKind::Binary(op, a, b) => {
            let (symbol, strength) = match op {
                Binary::Or | Binary::Xor => (" or ", 0),
                Binary::And => (" and ", 0),
                Binary::Lt => (" < ", 1),
                Binary::Le => (" <= ", 1),
                Binary::Gt => (" > ", 1),
                Binary::Ge => (" >= ", 1),
                Binary::Eq => (" == ", 1),
                Binary::Ne => (" != ", 1),
                Binary::Add => (" + ", 2),
                Binary::Sub => (" - ", 2),
                Binary::Mul => (" * ", 3),
                Binary::Div => (" / ", 3),
                Binary::Pow => ("^", 5),
                Binary::Min | Binary::Max | Binary::Rem | Binary::Quotient => {
                    out.push_str(&format!("{op:?}(").to_lowercase());
                    return list(&[a, b], out);
                }
            };
            let parentheses = outer > strength;
            out.push_str(if parentheses { "(" } else { "" });
            write(a, if *op == Binary::Pow { 6 } else { strength }, limit, out);
            out.push_str(symbol);
            write(b, strength + u8::from(matches!(op, Binary::Sub | Binary::Div)), limit, out);
            out.push_str(if parentheses { ")" } else { "" });
        }
        AstKind::Piecewise(pieces, otherwise) => {
            out.push_str("piecewise(");
            let parts: Vec<&Ast> = pieces.iter().flat_map(|(value, condition)| [value, condition]).chain(otherwise.as_deref()).collect();
            list(&parts, out);
        }
        AstKind::Call(name, arguments) => {
            out.push_str(name);
            out.push('(');
            list(&arguments.iter().collect::<Vec<_>>(), out);
        }
        AstKind::RateOf(a) => {
            out.push_str("rateOf(");
            list(&[a], out);
        }
        AstKind::Delay(a, b) => {
            out.push_str("delay(");
            list(&[a, b], out);
        }
    }
}
