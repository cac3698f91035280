//! What `mixode check` says about a model beyond what reading it needs: units, dead references and probable slips.
//!
//! Nothing here keeps a model from being simulated, so [`read`](super::read()) does not look at it. Part of it is not in the
//! [`Model`], therefore the document is read once more.

use super::mathml::constant_value;
use super::model::Model;
use super::xml::{Element, Reader, is_identifier};
use super::{comp, read, unit_check, units};
use crate::diag::{Diagnostic, Diagnostics, Severity, Source, Span};
use crate::expr::{Ast, AstKind};
use rustc_hash::{FxHashMap, FxHashSet};

/// Checks what [`read`](super::read()) passes over. `model` is its result; without it, as after errors, only the
/// names in the document are looked at.
pub fn lint(source: &Source, model: Option<&Model>, diagnostics: &mut Diagnostics) {
    let Ok(document) = roxmltree::Document::parse(source.text()) else { return };
    let root = document.root_element();
    // What is wrong with the root has been reported when the document was read.
    if read::open(source, &mut Diagnostics::new(), root).is_none() {
        return;
    }
    let Some(mut reader) = read::open(source, diagnostics, root) else { return };
    let Some(node) = reader.elements(root).find(|c| c.tag_name().name() == "model") else { return };
    let units = units::read(&mut reader, node);
    references(&mut reader, node);
    participants(&mut reader, node);
    // The submodels of a flattened model stand elsewhere in the document, or in others, and have units of their own.
    let Some(model) = model.filter(|_| !comp::is_used(root)) else { return };
    modifiers(&mut reader, model, node);
    shadows(&mut reader, model);
    events(&mut reader, model);
    unit_check::check(&mut reader, model, &units);
}

/// The items of a list, without the checks that were made when it was read.
fn items<'a>(reader: &Reader<'_>, node: Element<'a>, list: &str) -> Vec<Element<'a>> {
    let lists = reader.elements(node).filter(|c| c.tag_name().name() == list);
    lists.flat_map(|list| reader.elements(list)).collect()
}

fn id_of<'a>(reader: &Reader<'_>, node: Element<'a>) -> &'a str {
    reader.attribute(node, if reader.level == 1 { "name" } else { "id" }).map_or("", |(id, _)| id)
}

/// The compartment around a compartment (20504), and the types of compartments and species (20510, 20612) exist.
fn references(reader: &mut Reader<'_>, model: Element<'_>) {
    let lists = [
        ("listOfCompartments", "outside", "listOfCompartments", "compartment"),
        ("listOfCompartments", "compartmentType", "listOfCompartmentTypes", "compartment type"),
        ("listOfSpecies", "speciesType", "listOfSpeciesTypes", "species type"),
    ];
    for (list, attribute, targets, what) in lists {
        let known: Vec<&str> = items(reader, model, targets).into_iter().map(|node| id_of(reader, node)).collect();
        let set: FxHashSet<&str> = known.iter().copied().collect();
        for node in items(reader, model, list) {
            let Some((name, span)) = reader.attribute(node, attribute) else { continue };
            if !set.contains(name) {
                let label = if is_identifier(name) { format!("no {what} has this id") } else { "not an identifier".to_owned() };
                let message = format!("attribute `{attribute}` of {} names an unknown {what} `{name}`", reader.describe(node));
                reader.push(Diagnostic::error("S0120", message).at(&span, label).suggest(name, known.iter().copied()));
            }
        }
    }
}

/// Before level 3 version 2 a reaction has reactants or products (21101).
fn participants(reader: &mut Reader<'_>, model: Element<'_>) {
    if (reader.level, reader.version) >= (3, 2) {
        return;
    }
    for reaction in items(reader, model, "listOfReactions") {
        let count: usize = ["listOfReactants", "listOfProducts"].into_iter().map(|list| items(reader, reaction, list).len()).sum();
        if count == 0 && reaction.tag_name().name() == "reaction" {
            let message = format!("{} has neither reactants nor products", reader.describe(reaction));
            let place = reader.tag(reaction);
            let rule = format!("SBML level {} version {} requires at least one of them", reader.level, reader.version);
            reader.push(Diagnostic::error("S0121", message).at(&place, rule));
        }
    }
}

/// A kinetic law uses only species that take part in the reaction (21121). It is simulated as it stands, but diagrams and
/// other programs rely on the lists.
fn modifiers(reader: &mut Reader<'_>, model: &Model, node: Element<'_>) {
    // Level 1 has no modifiers.
    if reader.level == 1 {
        return;
    }
    let species: FxHashMap<&str, &Span> = model.species.iter().map(|s| (s.id.as_str(), &s.span)).collect();
    let mut listed: FxHashMap<&str, FxHashSet<&str>> = FxHashMap::default();
    for reaction in items(reader, node, "listOfReactions") {
        let modifiers = items(reader, reaction, "listOfModifiers").into_iter().filter_map(|m| m.attribute("species")).map(str::trim);
        listed.insert(id_of(reader, reaction), modifiers.collect());
    }
    for reaction in &model.reactions {
        let (Some(rate), Some(modifiers)) = (&reaction.rate, listed.get(reaction.id.as_str())) else { continue };
        let mut known: FxHashSet<&str> = modifiers.clone();
        known.extend(reaction.reactants.iter().chain(&reaction.products).map(|r| r.species.as_str()));
        known.extend(reaction.local_parameters.iter().map(|p| p.id.as_str()));
        let mut missing: Vec<(&str, Span)> = Vec::new();
        names(rate, &mut |name, ast| {
            if species.contains_key(name) && known.insert(name) {
                missing.push((name, reaction.span.source.span(ast.range.clone())));
            }
        });
        let Some((name, place)) = missing.first() else { continue };
        let all = missing.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let message = format!("the rate of reaction `{}` depends on {all}, not listed in the reaction", reaction.id);
        reader.push(
            Diagnostic::warning("S0806", message)
                .at(place, "neither a reactant, a product nor a modifier")
                .also(&reaction.span, "of this reaction")
                .help(format!("add <modifierSpeciesReference species=\"{name}\"/> to its listOfModifiers")),
        );
    }
}

/// Calls `visit` with every name in a formula.
fn names<'a>(formula: &'a Ast, visit: &mut dyn FnMut(&'a str, &'a Ast)) {
    formula.walk(&mut |node| {
        if let AstKind::Name(name) = &node.kind {
            visit(name, node);
        }
    });
}

/// Local parameters that hide something else of the same name: allowed, but easily a mistake. Parameters that are hidden by
/// parameters of the same value are harmless.
fn shadows(reader: &mut Reader<'_>, model: &Model) {
    let globals: FxHashMap<&str, (&Span, &str, Option<f64>)> =
        (model.compartments.iter().map(|c| (c.id.as_str(), (&c.span, "a compartment", None))))
            .chain(model.species.iter().map(|s| (s.id.as_str(), (&s.span, "a species", None))))
            .chain(model.reactions.iter().map(|r| (r.id.as_str(), (&r.span, "a reaction", None))))
            .chain(model.parameters.iter().map(|p| {
                let value = p.value.filter(|_| p.constant);
                (p.id.as_str(), (&p.span, "a global parameter", value))
            }))
            .collect();
    for reaction in &model.reactions {
        for local in &reaction.local_parameters {
            let Some((place, what, value)) = globals.get(local.id.as_str()) else { continue };
            if value.is_some() && *value == local.value {
                continue;
            }
            let message = format!("local parameter `{}` of reaction `{}` hides {what} of the same name", local.id, reaction.id);
            reader.push(
                Diagnostic::new(Severity::Note, "S0807", message)
                    .at(&local.span, "the rate uses this one")
                    .also(place, "everything else uses this one"),
            );
        }
    }
}

/// Events whose trigger cannot change, and delays below zero.
fn events(reader: &mut Reader<'_>, model: &Model) {
    let initial: FxHashSet<&str> = model.initial_assignments.iter().map(|a| a.variable.as_str()).collect();
    let constants: FxHashMap<&str, Option<f64>> = model
        .parameters
        .iter()
        .filter(|p| p.constant)
        .map(|p| (p.id.as_str(), p.value.filter(|_| !initial.contains(p.id.as_str()))))
        .collect();
    for event in &model.events {
        let name = event.id.as_ref().map_or_else(|| "an event".to_owned(), |id| format!("event `{id}`"));
        let place = |ast: &Ast| event.span.source.span(ast.range.clone());
        let mut changes = false;
        event.trigger.walk(&mut |node| {
            changes |= match &node.kind {
                AstKind::Name(name) => !constants.contains_key(name.as_str()),
                AstKind::Time | AstKind::RateOf(_) | AstKind::Delay(..) => true,
                _ => false,
            };
        });
        // With an initial value of false the event happens at the start, which people use.
        if !changes && event.initial_value {
            reader.push(
                Diagnostic::warning("S0808", format!("{name} never happens: its trigger does not change"))
                    .at(&place(&event.trigger), "everything in it is constant")
                    .also(&event.span, "the event"),
            );
        }
        let Some(delay) = &event.delay else { continue };
        let value = match &delay.kind {
            AstKind::Name(name) => constants.get(name.as_str()).copied().flatten(),
            _ => constant_value(delay),
        };
        if let Some(value) = value.filter(|value| *value < 0.0) {
            reader.push(
                Diagnostic::error("S0122", format!("the delay of {name} is negative"))
                    .at(&place(delay), format!("this is {value}; events cannot be executed before they are triggered"))
                    .also(&event.span, "the event"),
            );
        }
    }
}
