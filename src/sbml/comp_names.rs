//! A submodel's content in the names and units of the whole model (package comp, sections 3.9 and 3.10).
//!
//! What is called x in a submodel has another name in the flat model, and may have another value there: new = factor · old.
//! So formulas use x as new / factor, and what sets x is multiplied by the factor. Time goes by its own factor.

use super::model::{Assignment, Model, Parameter, Reaction};
use super::read::Draft;
use crate::expr::{Ast, AstKind, Binary};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// What a name of a submodel is in the flat model.
#[derive(Debug, Clone)]
pub(super) struct Meaning {
    /// Its name there.
    pub(super) name: String,
    /// Its value there is the value here times this.
    pub(super) factor: Option<Ast>,
}

/// How one submodel is seen from outside.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What stands before names that nothing outside has replaced.
    pub(super) prefix: String,
    pub(super) global: FxHashMap<String, Meaning>,
    /// Local parameters that are replaced by something global: reaction and parameter, as the submodel calls them.
    pub(super) local: FxHashMap<(String, String), Meaning>,
    /// The whole model's time is the submodel's time times this.
    pub(super) time: Option<Ast>,
    /// The whole model's extents of reactions are those of the submodel times this.
    pub(super) extent: Option<Ast>,
    /// Rates of reactions of the whole model are those of the submodel times this.
    pub(super) rate: Option<Ast>,
}

/// Names that have a meaning only within one formula; `None` where they stay as they are.
type Local<'l> = FxHashMap<&'l str, Option<Meaning>>;

/// The product of two factors of which each may be missing.
pub(super) fn product(a: Option<Ast>, b: Option<Ast>) -> Option<Ast> {
    match (a, b) {
        (Some(a), Some(b)) => Some(binary(Binary::Mul, a, b, &(0..0))),
        (a, b) => a.or(b),
    }
}

/// The quotient of two factors of which each may be missing.
pub(super) fn quotient(a: Option<Ast>, b: Option<Ast>) -> Option<Ast> {
    match b {
        Some(b) => Some(binary(Binary::Div, a.unwrap_or(Ast::number(1.0)), b, &(0..0))),
        None => a,
    }
}

fn binary(op: Binary, a: Ast, b: Ast, range: &Range<usize>) -> Ast {
    Ast { kind: AstKind::Binary(op, Box::new(a), Box::new(b)), range: range.clone() }
}

/// A factor at a place in a formula. Messages about it then show the place where it is used.
fn placed(mut factor: Ast, range: &Range<usize>) -> Ast {
    factor.range = range.clone();
    if let AstKind::Binary(op, a, b) = factor.kind {
        factor.kind = AstKind::Binary(op, Box::new(placed(*a, range)), Box::new(placed(*b, range)));
    }
    factor
}

/// `formula` times or divided by a factor, where there is one.
fn scaled(op: Binary, formula: Ast, factor: Option<&Ast>) -> Ast {
    let Some(factor) = factor else { return formula };
    let range = formula.range.clone();
    let factor = placed(factor.clone(), &range);
    binary(op, formula, factor, &range)
}

impl Names {
    pub(super) fn meaning(&self, name: &str) -> Meaning {
        let own = || Meaning { name: format!("{}{name}", self.prefix), factor: None };
        self.global.get(name).cloned().unwrap_or_else(own)
    }

    fn rename(&self, name: &mut String) {
        *name = self.meaning(name).name;
    }

    fn formula(&self, formula: &mut Ast) {
        self.formula_with(formula, &Local::default());
    }

    fn formula_with(&self, formula: &mut Ast, local: &Local<'_>) {
        let taken = std::mem::replace(formula, Ast::number(0.0));
        *formula = self.convert(taken, local);
    }

    fn convert(&self, ast: Ast, local: &Local<'_>) -> Ast {
        let Ast { kind, range } = ast;
        let inner = |a: Box<Ast>| Box::new(self.convert(*a, local));
        let kind = match kind {
            AstKind::Name(name) => {
                let meaning = match local.get(name.as_str()) {
                    Some(None) => return Ast { kind: AstKind::Name(name), range },
                    Some(Some(meaning)) => meaning.clone(),
                    None => self.meaning(&name),
                };
                let renamed = Ast { kind: AstKind::Name(meaning.name), range };
                return scaled(Binary::Div, renamed, meaning.factor.as_ref());
            }
            AstKind::Time => return scaled(Binary::Div, Ast { kind, range }, self.time.as_ref()),
            AstKind::Delay(value, delay) => {
                let delay = scaled(Binary::Mul, self.convert(*delay, local), self.time.as_ref());
                AstKind::Delay(inner(value), Box::new(delay))
            }
            // It needs a bare name as argument, so the factor of the value stands outside.
            AstKind::RateOf(value) => {
                let value = self.convert(*value, local);
                let (value, factor) = match value.kind {
                    AstKind::Binary(Binary::Div, name, factor) => (*name, Some(*factor)),
                    kind => (Ast { kind, range: value.range }, None),
                };
                let rate = Ast { kind: AstKind::RateOf(Box::new(value)), range };
                return scaled(Binary::Div, scaled(Binary::Mul, rate, self.time.as_ref()), factor.as_ref());
            }
            AstKind::Unary(op, a) => AstKind::Unary(op, inner(a)),
            AstKind::Binary(op, a, b) => AstKind::Binary(op, inner(a), inner(b)),
            AstKind::Call(name, arguments) => {
                AstKind::Call(self.meaning(&name).name, arguments.into_iter().map(|a| self.convert(a, local)).collect())
            }
            AstKind::Piecewise(pieces, otherwise) => {
                let pieces = pieces.into_iter().map(|(a, b)| (self.convert(a, local), self.convert(b, local))).collect();
                AstKind::Piecewise(pieces, otherwise.map(inner))
            }
            AstKind::Number(value) => AstKind::Number(value),
        };
        Ast { kind, range }
    }

    fn assignment(&self, assignment: &mut Assignment) {
        let meaning = self.meaning(&assignment.variable);
        self.formula(&mut assignment.formula);
        scale(&mut assignment.formula, Binary::Mul, meaning.factor.as_ref());
        assignment.variable = meaning.name;
    }

    fn reaction(&self, reaction: &mut Reaction) {
        for reference in reaction.reactants.iter_mut().chain(&mut reaction.products) {
            self.rename(&mut reference.species);
            reference.id.iter_mut().for_each(|id| self.rename(id));
            reference.stoichiometry_math.iter_mut().for_each(|formula| self.formula(formula));
        }
        if let Some(rate) = &mut reaction.rate {
            let replaced = self.local.iter().filter(|((of, _), _)| *of == reaction.id);
            let mut local: Local<'_> = replaced.map(|((_, name), meaning)| (name.as_str(), Some(meaning.clone()))).collect();
            // A local parameter must not take the place of something global that comes in by its new name.
            let mut used: FxHashSet<String> = FxHashSet::default();
            used.extend(local.values().flatten().map(|meaning| meaning.name.clone()));
            let factors = [&self.time, &self.rate].into_iter().flatten();
            factors.for_each(|factor| names_in(factor, &mut used));
            let shadowed = |name: &String| local.contains_key(name.as_str()) || reaction.local_parameters.iter().any(|p| p.id == *name);
            rate.walk(&mut |node| {
                if let AstKind::Name(name) = &node.kind
                    && !shadowed(name)
                {
                    let meaning = self.meaning(name);
                    meaning.factor.iter().for_each(|factor| names_in(factor, &mut used));
                    used.insert(meaning.name);
                }
            });
            let renamed: Vec<(String, String)> = reaction.local_parameters.iter_mut().map(|p| keep_apart(p, &mut used)).collect();
            for (old, new) in &renamed {
                let meaning = (old != new).then(|| Meaning { name: new.clone(), factor: None });
                local.insert(old, meaning);
            }
            self.formula_with(rate, &local);
            scale(rate, Binary::Mul, self.rate.as_ref());
        }
        self.rename(&mut reaction.id);
    }

    /// Turns everything in a draft into the names and units of the whole model.
    pub(super) fn apply(&self, draft: &mut Draft) {
        self.apply_to_model(&mut draft.model);
        for mention in draft.placements.iter_mut().chain(&mut draft.participants).chain(&mut draft.factors) {
            self.rename(&mut mention.name);
        }
        draft.targets.iter_mut().for_each(|t| self.rename(&mut t.name));
        draft.functions_without_body.iter_mut().for_each(|id| self.rename(id));
        for reference in &mut draft.missing_stoichiometries {
            self.rename(&mut reference.species);
            reference.id.iter_mut().for_each(|id| self.rename(id));
        }
    }

    fn apply_to_model(&self, model: &mut Model) {
        // The model's conversion factor is that of its own species only.
        let general = model.conversion_factor.take();
        for species in &mut model.species {
            self.rename(&mut species.id);
            self.rename(&mut species.compartment);
            species.conversion_factor = species.conversion_factor.take().or_else(|| general.clone());
            species.conversion_factor.iter_mut().for_each(|factor| self.rename(factor));
        }
        model.compartments.iter_mut().for_each(|c| self.rename(&mut c.id));
        model.parameters.iter_mut().for_each(|p| self.rename(&mut p.id));
        for function in &mut model.functions {
            self.rename(&mut function.id);
            let arguments: Local<'_> = function.arguments.iter().map(|argument| (argument.as_str(), None)).collect();
            self.formula_with(&mut function.body, &arguments);
        }
        model.initial_assignments.iter_mut().for_each(|a| self.assignment(a));
        model.assignment_rules.iter_mut().for_each(|a| self.assignment(a));
        for rule in &mut model.rate_rules {
            self.assignment(rule);
            scale(&mut rule.formula, Binary::Div, self.time.as_ref());
        }
        model.algebraic_rules.iter_mut().for_each(|r| self.formula(&mut r.formula));
        model.constraints.iter_mut().for_each(|c| self.formula(&mut c.condition));
        model.reactions.iter_mut().for_each(|r| self.reaction(r));
        for event in &mut model.events {
            event.id.iter_mut().for_each(|id| self.rename(id));
            self.formula(&mut event.trigger);
            event.priority.iter_mut().for_each(|formula| self.formula(formula));
            if let Some(delay) = &mut event.delay {
                self.formula(delay);
                scale(delay, Binary::Mul, self.time.as_ref());
            }
            event.assignments.iter_mut().for_each(|a| self.assignment(a));
        }
    }
}

/// Gives global entities of a model other names, everywhere in it.
pub fn rename(model: &mut Model, names: &[(String, String)]) {
    let meaning = |new: &String| Meaning { name: new.clone(), factor: None };
    let global = names.iter().map(|(old, new)| (old.clone(), meaning(new))).collect();
    Names { global, ..Names::default() }.apply_to_model(model);
}

fn scale(formula: &mut Ast, op: Binary, factor: Option<&Ast>) {
    let taken = std::mem::replace(formula, Ast::number(0.0));
    *formula = scaled(op, taken, factor);
}

fn names_in(formula: &Ast, names: &mut FxHashSet<String>) {
    formula.walk(&mut |node| {
        if let AstKind::Name(name) = &node.kind {
            names.insert(name.clone());
        }
    });
}

/// Renames a local parameter where its name is used already; old and new name.
fn keep_apart(parameter: &mut Parameter, used: &mut FxHashSet<String>) -> (String, String) {
    let old = parameter.id.clone();
    while used.contains(&parameter.id) {
        parameter.id.push('_');
    }
    used.insert(parameter.id.clone());
    (old, parameter.id.clone())
}
