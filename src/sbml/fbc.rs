//! Package fbc: objectives and limits of fluxes.
//!
//! Source: SBML Level 3 Package, Flux Balance Constraints, versions 1 to 3. Version 1 lists its limits with numbers; versions 2
//! and 3 name parameters at the reactions. Genes, formulas and charges do not change the fluxes and are passed over.

use super::model::{FluxBalance, FluxBound, FluxLimit, FluxTerm, FluxValue, Objective};
use super::read::Draft;
use super::xml::{Element, Reader, Unsupported};
use crate::diag::{Diagnostic, Span};

/// What the namespaces of all versions begin with.
const FBC: &str = "http://www.sbml.org/sbml/level3/version1/fbc/version";

/// Whether a namespace is that of a version of the package.
pub(super) fn is_fbc(uri: &str) -> bool {
    uri.strip_prefix(FBC).is_some_and(|version| matches!(version, "1" | "2" | "3"))
}

fn in_package<'a>(node: Element<'a>, name: &str) -> bool {
    node.tag_name().name() == name && node.tag_name().namespace().is_some_and(is_fbc)
}

fn items<'a>(node: Element<'a>, list: &'static str, item: &'static str) -> impl Iterator<Item = Element<'a>> {
    let lists = node.children().filter(move |c| in_package(*c, list));
    lists.flat_map(move |list| list.children().filter(move |c| in_package(*c, item)))
}

/// An attribute of the package: the trimmed value and its place.
fn attribute<'a>(reader: &Reader<'_>, node: Element<'a>, name: &str) -> Option<(&'a str, Span)> {
    // Objectives and bounds belong to the package as a whole, so some files leave its prefix away there.
    let own = node.tag_name().namespace().is_some_and(is_fbc);
    let found = node.attributes().find(|a| a.name() == name && a.namespace().map_or(own, is_fbc))?;
    Some((found.value().trim(), reader.span(found.range_value())))
}

fn required<'a>(reader: &mut Reader<'_>, node: Element<'a>, name: &str) -> Option<(&'a str, Span)> {
    let found = attribute(reader, node, name);
    if found.is_none() {
        reader.missing(node, name);
    }
    found
}

fn number(reader: &mut Reader<'_>, node: Element<'_>, name: &str) -> Option<f64> {
    let (text, span) = required(reader, node, name)?;
    reader.parse_number(node, name, text, &span)
}

/// Reads what a model says about fluxes, and checks that what it names exists.
pub(super) fn read(reader: &mut Reader<'_>, model: Element<'_>, draft: &Draft) -> Option<FluxBalance> {
    let mut found = FluxBalance { objectives: Vec::new(), active: None, bounds: Vec::new() };
    for node in items(model, "listOfFluxBounds", "fluxBound") {
        let bound = bound(reader, node, draft);
        found.bounds.extend(bound);
    }
    let lists = reader.elements(model).filter(|c| c.tag_name().name() == "listOfReactions");
    let reactions: Vec<_> = lists.flat_map(|list| reader.elements(list)).collect();
    for node in reactions {
        bounds_of(reader, node, draft, &mut found.bounds);
    }
    for node in items(model, "listOfObjectives", "objective") {
        let objective = objective(reader, node, draft);
        found.objectives.extend(objective);
    }
    for node in items(model, "listOfUserDefinedConstraints", "userDefinedConstraint") {
        reader.unsupported(Unsupported::FluxConstraint, attribute(reader, node, "id").map_or("", |(id, _)| id), reader.tag(node));
    }
    if let Some(list) = model.children().find(|c| in_package(*c, "listOfObjectives")) {
        let (name, span) = required(reader, list, "activeObjective")?;
        found.active = found.objectives.iter().position(|o| o.id == name);
        // An objective with a mistake of its own is reported already.
        let ids = || items(model, "listOfObjectives", "objective").filter_map(|o| Some(attribute(reader, o, "id")?.0));
        if !ids().any(|id| id == name) {
            let known: Vec<&str> = ids().collect();
            reader.push(
                Diagnostic::error("S0404", format!("there is no objective `{name}`"))
                    .at(&span, "no objective has this id")
                    .suggest(name, known),
            );
        }
    }
    (!found.objectives.is_empty() || !found.bounds.is_empty()).then_some(found)
}

/// The reaction that an attribute names.
fn reaction(reader: &mut Reader<'_>, node: Element<'_>, draft: &Draft) -> Option<(String, Span)> {
    let (name, span) = required(reader, node, "reaction")?;
    let reactions = || draft.model.reactions.iter().map(|r| r.id.as_str());
    if !reactions().any(|id| id == name) {
        let message = format!("{} refers to an unknown reaction `{name}`", reader.describe(node));
        reader.push(Diagnostic::error("S0401", message).at(&span, "no reaction has this id").suggest(name, reactions()));
        return None;
    }
    Some((name.to_owned(), span))
}

/// Reports a word that is none of those expected.
fn unknown_word(reader: &mut Reader<'_>, word: &str, span: &Span, expected: &[&str]) {
    reader.push(
        Diagnostic::error("S0403", format!("`{word}` has no meaning here"))
            .at(span, format!("expected {}", expected.join(" or ")))
            .suggest(word, expected.iter().copied()),
    );
}

fn objective(reader: &mut Reader<'_>, node: Element<'_>, draft: &Draft) -> Option<Objective> {
    let id = required(reader, node, "id");
    let direction = required(reader, node, "type");
    let mut terms = Vec::new();
    for term in items(node, "listOfFluxObjectives", "fluxObjective") {
        let coefficient = number(reader, term, "coefficient");
        if let Some(("quadratic", span)) = attribute(reader, term, "variableType") {
            reader.unsupported(Unsupported::FluxConstraint, "", span);
        }
        let Some((reaction, span)) = reaction(reader, term, draft) else { continue };
        terms.extend(coefficient.map(|coefficient| FluxTerm { reaction, coefficient, span }));
    }
    let (direction, place) = direction?;
    if !matches!(direction, "maximize" | "minimize") {
        unknown_word(reader, direction, &place, &["maximize", "minimize"]);
    }
    let (id, span) = id?;
    Some(Objective { id: id.to_owned(), maximize: direction == "maximize", terms, span })
}

/// A limit of version 1.
fn bound(reader: &mut Reader<'_>, node: Element<'_>, draft: &Draft) -> Option<FluxBound> {
    let value = number(reader, node, "value");
    let operation = required(reader, node, "operation");
    let (reaction, span) = reaction(reader, node, draft)?;
    let (operation, place) = operation?;
    let limit = match operation {
        // Early files have the strict relations; on real numbers an optimum needs its limit.
        "less" | "lessEqual" => FluxLimit::Upper,
        "greater" | "greaterEqual" => FluxLimit::Lower,
        "equal" => FluxLimit::Equal,
        other => {
            unknown_word(reader, other, &place, &["lessEqual", "greaterEqual", "equal"]);
            return None;
        }
    };
    Some(FluxBound { reaction, limit, value: FluxValue::Number(value?), span })
}

/// The limits at a reaction (versions 2 and 3).
fn bounds_of(reader: &mut Reader<'_>, node: Element<'_>, draft: &Draft, bounds: &mut Vec<FluxBound>) {
    let Some((reaction, _)) = reader.attribute(node, "id") else { return };
    for (name, limit) in [("lowerFluxBound", FluxLimit::Lower), ("upperFluxBound", FluxLimit::Upper)] {
        let Some((parameter, span)) = attribute(reader, node, name) else { continue };
        let parameters = || draft.model.parameters.iter().map(|p| p.id.as_str());
        if !parameters().any(|id| id == parameter) {
            let message = format!("the flux bound `{parameter}` of {} is not a parameter", reader.describe(node));
            reader.push(Diagnostic::error("S0402", message).at(&span, "no parameter has this id").suggest(parameter, parameters()));
            continue;
        }
        bounds.push(FluxBound { reaction: reaction.to_owned(), limit, value: FluxValue::Parameter(parameter.to_owned()), span });
    }
}
