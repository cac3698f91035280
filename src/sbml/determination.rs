//! What determines which variable: definitions that go round in a circle, and algebraic rules that are too many.
//!
//! Source: SBML level 3 version 2, sections 3.4.3 (20906) and 4.11.5 (10601). There every equation is matched with a variable;
//! rules, kinetic laws and the rates of change of species have one candidate each, so only algebraic rules are matched here.

use super::model::{Model, Species};
use super::xml::Reader;
use crate::diag::{Diagnostic, Span};
use crate::expr::{Ast, AstKind};
use crate::matching::matching;
use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// How many places a message shows besides the first.
const RELATED: usize = 6;

/// Checks both.
pub(super) fn check(reader: &mut Reader<'_>, model: &Model) {
    circles(reader, model);
    overdetermined(reader, model);
}

/// The variable that each algebraic rule determines, in the order of the rules; `None` where a model has too many of them.
///
/// Candidates are the variables in the formula that nothing else determines: no rule, and no reaction. Preferred are those
/// without a value, then those that no event sets, then those that come first in the formula.
pub fn determined_by_algebraic_rules(model: &Model) -> Vec<Option<String>> {
    let candidates = Candidates::new(model);
    let found = matching(&candidates.of_rules, candidates.names.len());
    found.unknown_of.into_iter().map(|unknown| unknown.map(|u| candidates.names[u].to_owned())).collect()
}

/// What algebraic rules could determine.
struct Candidates<'m> {
    names: Vec<&'m str>,
    /// For each algebraic rule its candidates as indices into `names`, the preferred ones first.
    of_rules: Vec<Vec<usize>>,
    /// Variables that something else determines: where, and by what in words.
    decided: FxHashMap<&'m str, (&'m Span, &'static str)>,
}

impl<'m> Candidates<'m> {
    fn new(model: &'m Model) -> Self {
        let mut decided: FxHashMap<&str, (&Span, &'static str)> = FxHashMap::default();
        let species: FxHashMap<&str, &Species> = model.species.iter().map(|s| (s.id.as_str(), s)).collect();
        let references = || model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products));
        for reference in references().filter(|r| species.get(r.species.as_str()).is_some_and(|s| !s.boundary && !s.constant)) {
            decided.entry(&reference.species).or_insert((&reference.span, "changed by this reaction"));
        }
        decided.extend(model.assignment_rules.iter().map(|r| (r.variable.as_str(), (&r.span, "set by this assignment rule"))));
        decided.extend(model.rate_rules.iter().map(|r| (r.variable.as_str(), (&r.span, "changed by this rate rule"))));

        let initial: FxHashSet<&str> = model.initial_assignments.iter().map(|a| a.variable.as_str()).collect();
        let by_events: FxHashSet<&str> = model.events.iter().flat_map(|e| &e.assignments).map(|a| a.variable.as_str()).collect();
        // The lower, the better; only variables are listed.
        let rank = |id: &str, has_value: bool| (has_value || initial.contains(id), by_events.contains(id));
        let variables: FxHashMap<&str, (bool, bool)> =
            (model.compartments.iter().filter(|c| !c.constant).map(|c| (c.id.as_str(), rank(&c.id, c.size.is_some()))))
                .chain(
                    model
                        .species
                        .iter()
                        .filter(|s| !s.constant)
                        .map(|s| (s.id.as_str(), rank(&s.id, s.initial_amount.is_some() || s.initial_concentration.is_some()))),
                )
                .chain(model.parameters.iter().filter(|p| !p.constant).map(|p| (p.id.as_str(), rank(&p.id, p.value.is_some()))))
                .chain(references().filter(|r| !r.constant).filter_map(|r| {
                    let id = r.id.as_deref()?;
                    Some((id, rank(id, r.stoichiometry.is_some())))
                }))
                .filter(|(id, _)| !decided.contains_key(id))
                .collect();

        let mut names = indexmap::IndexSet::<&str>::new();
        let mut of_rules = Vec::new();
        for rule in &model.algebraic_rules {
            let mut found: Vec<(bool, bool, usize)> = Vec::new();
            for (name, _) in mentioned(&rule.formula, true) {
                if let Some((valued, by_event)) = variables.get(name) {
                    found.push((*valued, *by_event, names.insert_full(name).0));
                }
            }
            // The sort is stable, so the order in the formula decides last.
            found.sort_by_key(|(valued, by_event, _)| (*valued, *by_event));
            of_rules.push(found.into_iter().map(|(.., name)| name).collect());
        }
        Candidates { names: names.into_iter().collect(), of_rules, decided }
    }
}

/// The names in a formula, each once, with the place of its first use. Without `all` those that count at other times only,
/// or by their rate of change, are left out.
fn mentioned(formula: &Ast, all: bool) -> IndexMap<&str, Range<usize>> {
    let mut names = IndexMap::new();
    let mut later: FxHashSet<*const Ast> = FxHashSet::default();
    formula.walk(&mut |node| {
        let skipped = later.contains(&std::ptr::from_ref(node));
        match &node.kind {
            AstKind::Name(name) if !skipped => {
                names.entry(name.as_str()).or_insert_with(|| node.range.clone());
            }
            AstKind::RateOf(value) | AstKind::Delay(value, _) if !all => {
                value.walk(&mut |part| {
                    later.insert(std::ptr::from_ref(part));
                });
            }
            _ => {}
        }
    });
    names
}

/// Algebraic rules have a variable each (10601).
fn overdetermined(reader: &mut Reader<'_>, model: &Model) {
    let candidates = Candidates::new(model);
    let found = matching(&candidates.of_rules, candidates.names.len());
    for (index, rule) in model.algebraic_rules.iter().enumerate() {
        if found.unknown_of.get(index).is_some_and(Option::is_some) {
            continue;
        }
        let rivals: Vec<usize> = found.overdetermined(&candidates.of_rules, index).into_iter().filter(|r| *r != index).collect();
        let mut diagnostic = Diagnostic::error("S0116", "the model has too many equations: an algebraic rule has no variable left");
        if rivals.is_empty() {
            let decided: Vec<_> = mentioned(&rule.formula, true)
                .into_keys()
                .filter_map(|name| candidates.decided.get(name).map(|(span, words)| (name, *span, *words)))
                .collect();
            let label = if decided.is_empty() { "everything in it is constant" } else { "all its variables are determined elsewhere" };
            diagnostic = diagnostic.at(&rule.span, label);
            for (name, span, words) in decided.iter().take(RELATED) {
                diagnostic = diagnostic.also(span, format!("`{name}` is {words}"));
            }
            diagnostic = diagnostic.help(if decided.is_empty() {
                "write constant=\"false\" at what the rule shall determine"
            } else {
                "an algebraic rule needs a variable that is not constant and that no other rule or reaction changes"
            });
        } else {
            let mut shared: Vec<usize> = rivals.iter().flat_map(|r| candidates.of_rules[*r].iter().copied()).collect();
            shared.sort_unstable();
            shared.dedup();
            let shared: Vec<&str> = shared.into_iter().map(|name| candidates.names[name]).collect();
            diagnostic = diagnostic.at(&rule.span, format!("could only determine {}", list(&shared)));
            for rival in rivals.iter().take(RELATED) {
                let label = if shared.len() == 1 { "which this rule determines" } else { "which this rule needs as well" };
                diagnostic = diagnostic.also(&model.algebraic_rules[*rival].span, label);
            }
            diagnostic = diagnostic.help("remove one of the rules, or make another quantity in them variable");
        }
        reader.push(diagnostic);
    }
}

/// "`a`, `b` and `c`".
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// One definition that others may use: what it needs, with the place where it says so.
struct Definition<'m> {
    name: &'m str,
    needs: Vec<(usize, Range<usize>)>,
    /// The place of the item, whose source holds the ranges.
    span: &'m Span,
}

/// Initial assignments, assignment rules and kinetic laws do not need each other in a circle (20906).
fn circles(reader: &mut Reader<'_>, model: &Model) {
    let definitions = definitions(model);
    let mut state = vec![State::New; definitions.len()];
    let mut reported = vec![false; definitions.len()];
    for start in 0..definitions.len() {
        if state[start] != State::New {
            continue;
        }
        // Definitions being looked at, each with the number of its next need; each is needed by the one before.
        let mut path = vec![(start, 0)];
        state[start] = State::Open;
        while let Some((current, next)) = path.last_mut() {
            let Some((needed, _)) = definitions[*current].needs.get(*next) else {
                state[*current] = State::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match state[*needed] {
                State::New => {
                    state[*needed] = State::Open;
                    path.push((*needed, 0));
                }
                State::Open => {
                    let first = path.iter().position(|(d, _)| d == needed).unwrap_or(0);
                    // The number of the need that leads on is one behind by now.
                    let circle: Vec<(usize, usize)> = path[first..].iter().map(|(d, next)| (*d, next - 1)).collect();
                    if !circle.iter().any(|(d, _)| reported[*d]) {
                        circle.iter().for_each(|(d, _)| reported[*d] = true);
                        circular(reader, &definitions, &circle);
                    }
                }
                State::Done => {}
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

fn definitions(model: &Model) -> Vec<Definition<'_>> {
    let assignments = model.initial_assignments.iter().chain(&model.assignment_rules);
    let assignments = assignments.map(|a| (a.variable.as_str(), &a.formula, &a.span, [].as_slice()));
    let laws = model.reactions.iter().filter_map(|r| Some((r.id.as_str(), r.rate.as_ref()?, &r.span, r.local_parameters.as_slice())));
    let all: Vec<_> = assignments.chain(laws).collect();
    let index: FxHashMap<&str, usize> = all.iter().enumerate().map(|(i, (name, ..))| (*name, i)).collect();

    // A concentration that no rule sets is an amount divided by the size of its compartment, so it needs a size that a rule sets.
    let ruled: FxHashSet<&str> = model.assignment_rules.iter().map(|r| r.variable.as_str()).collect();
    let sizes: FxHashMap<&str, usize> = (model.species.iter())
        .filter(|s| !s.only_substance_units && !ruled.contains(s.id.as_str()) && ruled.contains(s.compartment.as_str()))
        .filter_map(|s| Some((s.id.as_str(), *index.get(s.compartment.as_str())?)))
        .collect();

    let needs = |formula, locals: &[super::model::Parameter]| {
        let names = mentioned(formula, false).into_iter().filter(|(name, _)| locals.iter().all(|p| p.id != *name));
        let found = names.flat_map(|(name, range)| {
            let direct = index.get(name).map(|i| (*i, range.clone()));
            let size = sizes.get(name).map(|i| (*i, range));
            direct.into_iter().chain(size)
        });
        found.collect()
    };
    all.iter().map(|(name, formula, span, locals)| Definition { name, needs: needs(formula, locals), span }).collect()
}

/// Reports a circle of definitions, each with the number of the need that leads to the next.
fn circular(reader: &mut Reader<'_>, definitions: &[Definition<'_>], circle: &[(usize, usize)]) {
    let names: Vec<&str> = circle.iter().map(|(d, _)| definitions[*d].name).collect();
    let message = match names.as_slice() {
        [name] => format!("the definition of `{name}` refers to itself"),
        names => format!("the definitions of {} need each other in a circle", list(names)),
    };
    let mut diagnostic = Diagnostic::error("S0117", message);
    for (step, (definition, need)) in circle.iter().enumerate().take(1 + RELATED) {
        let Definition { name, needs, span } = &definitions[*definition];
        let Some((needed, range)) = needs.get(*need) else { continue };
        let (needed, place) = (definitions[*needed].name, span.source.span(range.clone()));
        let used = place.text().trim();
        // A species may be needed for the size of its compartment.
        let through = if used == needed { String::new() } else { format!(" as the compartment of `{used}`") };
        let label =
            if circle.len() == 1 && through.is_empty() { "used here".to_owned() } else { format!("`{name}` needs `{needed}`{through}") };
        diagnostic = if step == 0 { diagnostic.at(&place, label) } else { diagnostic.also(&place, label) };
    }
    if circle.len() > 1 + RELATED {
        diagnostic = diagnostic.help(format!("the circle goes on over {} more definitions", circle.len() - 1 - RELATED));
    }
    reader.push(diagnostic.help("where the values depend on each other, an algebraic rule can say so"));
}
