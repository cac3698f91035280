//! The units that a document declares: unit definitions, the units of the model, and those of its symbols and numbers.
//!
//! They do not change the meaning of a model, so [`read`](super::read()) passes over them and only the checks of `mixode check`
//! read them here. What declares no unit has none here, and nothing is said about it.

use super::unit::{Unit, kinds};
use super::xml::{Element, Reader, is_identifier};
use crate::diag::{Diagnostic, Span};
use rustc_hash::FxHashMap;

/// Attributes that name a unit, over all levels.
const ATTRIBUTES: [&str; 8] =
    ["units", "substanceUnits", "timeUnits", "volumeUnits", "areaUnits", "lengthUnits", "extentUnits", "spatialSizeUnits"];

/// Units that levels 1 and 2 define and a model may define anew.
const BUILT_IN: [(&str, &str, f64); 5] =
    [("substance", "mole", 1.0), ("volume", "litre", 1.0), ("area", "metre", 2.0), ("length", "metre", 1.0), ("time", "second", 1.0)];

/// What a model declares. A unit is missing where the document has none, or one that cannot be made out.
#[derive(Default)]
pub(super) struct Units {
    /// Unit of the simulation time.
    pub(super) time: Option<Unit>,
    /// Unit of the extent of reactions.
    pub(super) extent: Option<Unit>,
    /// Unit of the amounts of species that have none of their own.
    substance: Option<Unit>,
    /// Units of sizes of one, two and three dimensions.
    sizes: [Option<Unit>; 3],
    /// Units of compartments, global parameters, and amounts of species by identifier.
    declared: FxHashMap<String, Unit>,
    /// Units of the sizes by which amounts of species are divided (level 2).
    species_sizes: FxHashMap<String, Unit>,
    /// Units of local parameters, by reaction.
    locals: FxHashMap<String, FxHashMap<String, Unit>>,
    /// Units of extent per time of kinetic laws that have units of their own (level 2 version 1 and older), by reaction.
    laws: FxHashMap<String, Unit>,
    /// Units of numbers, by the byte at which their element starts (level 3).
    numbers: FxHashMap<usize, Unit>,
}

impl Units {
    /// Unit of a compartment or global parameter, or of the amount of a species.
    pub(super) fn declared(&self, id: &str) -> Option<&Unit> {
        self.declared.get(id)
    }

    /// Unit of the amount of a species.
    pub(super) fn amount(&self, id: &str) -> Option<&Unit> {
        self.declared.get(id).or(self.substance.as_ref())
    }

    /// Unit of a compartment's size.
    pub(super) fn size(&self, id: &str, dimensions: f64) -> Option<&Unit> {
        let default = [1.0, 2.0, 3.0].iter().position(|d| *d == dimensions).and_then(|i| self.sizes[i].as_ref());
        self.declared.get(id).or(default)
    }

    /// Unit of the size by which the amount of a species is divided, where the species says so itself.
    pub(super) fn species_size(&self, id: &str) -> Option<&Unit> {
        self.species_sizes.get(id)
    }

    /// Unit of a local parameter.
    pub(super) fn local(&self, reaction: &str, id: &str) -> Option<&Unit> {
        self.locals.get(reaction)?.get(id)
    }

    /// Unit of the rate of a reaction.
    pub(super) fn rate(&self, reaction: &str) -> Option<Unit> {
        let general = || Some(self.extent.clone()?.times(self.time.as_ref()?, -1.0));
        self.laws.get(reaction).cloned().or_else(general)
    }

    /// Unit of the number whose element starts at a byte of the file.
    pub(super) fn number(&self, start: usize) -> Option<&Unit> {
        self.numbers.get(&start)
    }
}

/// Reads the units of a model. Reports names of units that mean nothing, and units defined twice.
pub(super) fn read(reader: &mut Reader<'_>, model: Element<'_>) -> Units {
    let definitions = definitions(reader, model);
    let mut resolver = Resolver { reader, definitions };
    let mut units = Units::default();
    if resolver.reader.level < 3 {
        let built_in = |name: &str| resolver.named(name).flatten();
        units.substance = built_in("substance");
        units.extent.clone_from(&units.substance);
        units.time = built_in("time");
        units.sizes = [built_in("length"), built_in("area"), built_in("volume")];
    } else {
        units.substance = resolver.attribute(model, "substanceUnits");
        units.extent = resolver.attribute(model, "extentUnits");
        units.time = resolver.attribute(model, "timeUnits");
        units.sizes = ["lengthUnits", "areaUnits", "volumeUnits"].map(|name| resolver.attribute(model, name));
    }
    let core = resolver.reader.core;
    let key = if resolver.reader.level == 1 { "name" } else { "id" };
    let id = |node: Element<'_>| node.attribute(key).unwrap_or("").trim().to_owned();
    // The reaction in which the elements are that come now.
    let mut reaction = String::new();
    for node in model.descendants().filter(|n| n.is_element()) {
        if node.tag_name().namespace() != Some(core) {
            if let Some(unit) = resolver.number(node) {
                units.numbers.insert(node.range().start, unit);
            }
            continue;
        }
        match node.tag_name().name() {
            "model" | "unitDefinition" | "unit" => {}
            "reaction" => reaction = id(node),
            "species" | "specie" => {
                let attribute = if resolver.reader.level == 1 { "units" } else { "substanceUnits" };
                units.declared.extend(resolver.attribute(node, attribute).map(|unit| (id(node), unit)));
                units.species_sizes.extend(resolver.attribute(node, "spatialSizeUnits").map(|unit| (id(node), unit)));
            }
            "compartment" => units.declared.extend(resolver.attribute(node, "units").map(|unit| (id(node), unit))),
            "parameter" | "localParameter" => {
                let Some(unit) = resolver.attribute(node, "units") else { continue };
                let in_law = node.ancestors().any(|n| n.tag_name().name() == "kineticLaw");
                let table = if in_law { units.locals.entry(reaction.clone()).or_default() } else { &mut units.declared };
                table.insert(id(node), unit);
            }
            "kineticLaw" => {
                let own = (resolver.attribute(node, "substanceUnits"), resolver.attribute(node, "timeUnits"));
                if own.0.is_some() || own.1.is_some() {
                    let (extent, time) = (own.0.or_else(|| units.extent.clone()), own.1.or_else(|| units.time.clone()));
                    units.laws.extend(extent.zip(time).map(|(extent, time)| (reaction.clone(), extent.times(&time, -1.0))));
                }
            }
            // Other elements name units that the checks do not need, but they should exist.
            _ => {
                for attribute in ATTRIBUTES {
                    resolver.attribute(node, attribute);
                }
            }
        }
    }
    units
}

/// Unit definitions by their ids; no unit where a definition is empty or incomplete.
fn definitions(reader: &mut Reader<'_>, model: Element<'_>) -> FxHashMap<String, Option<Unit>> {
    let mut definitions: FxHashMap<String, (Option<Unit>, Span)> = FxHashMap::default();
    let known: Vec<&str> = kinds(reader.level, reader.version).collect();
    for node in reader.items(model, "listOfUnitDefinitions") {
        reader.vocabulary(node);
        let mut unit = Some(Unit::default());
        let mut empty = true;
        for part in reader.items(node, "listOfUnits") {
            reader.vocabulary(part);
            empty = false;
            let part = factor(reader, part, &known);
            unit = unit.zip(part).map(|(unit, part)| unit.times(&part, 1.0));
        }
        let Some((id, span)) = reader.id(node) else { continue };
        let first = definitions.get(&id).map(|(_, span)| span.clone());
        let label = match &first {
            Some(_) => "expected an id that no other unit has",
            None if known.contains(&id.as_str()) => "SBML itself defines this unit",
            None => {
                definitions.insert(id, (unit.filter(|_| !empty), span));
                continue;
            }
        };
        let mut diagnostic = Diagnostic::error("S0119", format!("unit `{id}` is defined twice")).at(&span, label);
        if let Some(first) = &first {
            diagnostic = diagnostic.also(first, "first defined here");
        }
        reader.push(diagnostic);
    }
    definitions.into_iter().map(|(id, (unit, _))| (id, unit)).collect()
}

/// One `unit` of a definition: (multiplier 10^scale kind)^exponent.
fn factor(reader: &mut Reader<'_>, node: Element<'_>, known: &[&str]) -> Option<Unit> {
    let optional = reader.level < 3;
    let mut number = |name: &str, default: f64| {
        if reader.attribute(node, name).is_none() && !optional {
            reader.required(node, name)?;
        }
        if reader.attribute(node, name).is_none() { Some(default) } else { reader.number(node, name) }
    };
    let (exponent, scale, multiplier) = (number("exponent", 1.0), number("scale", 0.0), number("multiplier", 1.0));
    let (kind, span) = reader.required(node, "kind")?;
    if !known.contains(&kind) {
        undefined(reader, kind, &span, "not a unit of SBML; a definition can only use those", known);
        return None;
    }
    Unit::new(kind, multiplier? * 10f64.powf(scale?), exponent?)
}

/// Reports a name that is no unit.
fn undefined(reader: &mut Reader<'_>, name: &str, span: &Span, label: &str, candidates: &[&str]) {
    let mut diagnostic =
        Diagnostic::warning("S0811", format!("unit `{name}` is not defined")).at(span, label).suggest(name, candidates.iter().copied());
    if reader.level == 3 && BUILT_IN.iter().any(|(built_in, ..)| *built_in == name) {
        diagnostic = diagnostic.help(format!("level 3 has no built-in unit `{name}`; define it, or leave the attribute out"));
    }
    reader.push(diagnostic);
}

/// Names of units to units.
struct Resolver<'r, 's> {
    reader: &'r mut Reader<'s>,
    definitions: FxHashMap<String, Option<Unit>>,
}

impl Resolver<'_, '_> {
    /// The unit of this name, which may be one of unknown content; `None` if nothing has this name.
    fn named(&self, name: &str) -> Option<Option<Unit>> {
        if let Some(unit) = self.definitions.get(name) {
            return Some(unit.clone());
        }
        if let Some(kind) = kinds(self.reader.level, self.reader.version).find(|kind| *kind == name) {
            return Some(Unit::new(kind, 1.0, 1.0));
        }
        let built_in = BUILT_IN.iter().find(|(built_in, ..)| *built_in == name && self.reader.level < 3);
        built_in.map(|(_, kind, exponent)| Unit::new(kind, 1.0, *exponent))
    }

    /// The unit that an attribute names; its absence and, reported, a name without meaning give `None`.
    fn attribute(&mut self, node: Element<'_>, attribute: &str) -> Option<Unit> {
        let (name, span) = self.reader.attribute(node, attribute)?;
        self.resolve(name, &span)
    }

    /// The unit of a `cn`.
    fn number(&mut self, node: Element<'_>) -> Option<Unit> {
        let core = self.reader.core;
        let attribute = node.attributes().find(|a| a.name() == "units" && a.namespace() == Some(core))?;
        let span = self.reader.span(attribute.range_value());
        self.resolve(attribute.value().trim(), &span)
    }

    fn resolve(&mut self, name: &str, span: &Span) -> Option<Unit> {
        if let Some(unit) = self.named(name) {
            return unit;
        }
        let label = if is_identifier(name) { "neither a unit definition nor a unit of SBML" } else { "not an identifier" };
        let (level, version) = (self.reader.level, self.reader.version);
        let mut candidates: Vec<&str> = self.definitions.keys().map(String::as_str).collect();
        kinds(level, version).for_each(|kind| candidates.push(kind));
        candidates.extend(BUILT_IN.iter().map(|(name, ..)| *name).filter(|_| level < 3));
        // The first of equally near names is suggested, so their order must not depend on a hash.
        candidates.sort_unstable();
        undefined(self.reader, name, span, label, &candidates);
        None
    }
}
