//! XML to [`Model`].

use super::check;
use super::comp::{self, COMP};
use super::comp_files::{self, Load};
use super::fbc;
use super::infix;
use super::mathml::{self, MATHML};
use super::model::{
    AlgebraicRule, Assignment, Compartment, Constraint, Event, FunctionDefinition, Model, Parameter, Reaction, Species, SpeciesReference,
};
use super::xml::{Element, Reader, Unsupported};
use crate::diag::{Diagnostic, Diagnostics, Severity, Source, Span};
use crate::expr::{Ast, AstKind};
use rustc_hash::FxHashSet;

/// Namespaces of the core: level, version, URI. Both versions of level 1 share one.
const CORE: [(u32, u32, &str); 9] = [
    (1, 1, "http://www.sbml.org/sbml/level1"),
    (1, 2, "http://www.sbml.org/sbml/level1"),
    (2, 1, "http://www.sbml.org/sbml/level2"),
    (2, 2, "http://www.sbml.org/sbml/level2/version2"),
    (2, 3, "http://www.sbml.org/sbml/level2/version3"),
    (2, 4, "http://www.sbml.org/sbml/level2/version4"),
    (2, 5, "http://www.sbml.org/sbml/level2/version5"),
    (3, 1, "http://www.sbml.org/sbml/level3/version1/core"),
    (3, 2, "http://www.sbml.org/sbml/level3/version2/core"),
];

/// What is read of a document, and what only the checks need of it.
pub(super) struct Draft {
    pub(super) model: Model,
    /// Compartments named by species.
    pub(super) placements: Vec<Mention>,
    /// Species named by reactions.
    pub(super) participants: Vec<Mention>,
    /// Targets of rules, initial assignments and events.
    pub(super) targets: Vec<Target>,
    /// Parameters named as conversion factors.
    pub(super) factors: Vec<Mention>,
    /// Functions that are declared without a body.
    pub(super) functions_without_body: Vec<String>,
    /// Species references of level 3 without a stoichiometry.
    pub(super) missing_stoichiometries: Vec<SpeciesReference>,
}

impl Draft {
    /// Adds everything of another draft.
    pub(super) fn append(&mut self, other: Draft) {
        let (own, model) = (&mut self.model, other.model);
        own.compartments.extend(model.compartments);
        own.species.extend(model.species);
        own.parameters.extend(model.parameters);
        own.functions.extend(model.functions);
        own.initial_assignments.extend(model.initial_assignments);
        own.assignment_rules.extend(model.assignment_rules);
        own.rate_rules.extend(model.rate_rules);
        own.algebraic_rules.extend(model.algebraic_rules);
        own.constraints.extend(model.constraints);
        own.reactions.extend(model.reactions);
        own.events.extend(model.events);
        self.placements.extend(other.placements);
        self.participants.extend(other.participants);
        self.targets.extend(other.targets);
        self.factors.extend(other.factors);
        self.functions_without_body.extend(other.functions_without_body);
        self.missing_stoichiometries.extend(other.missing_stoichiometries);
    }
}

/// One element naming another.
pub(super) struct Mention {
    /// The element that names, in words.
    pub(super) by: String,
    pub(super) name: String,
    pub(super) span: Span,
}

/// The variable that a rule, initial assignment or event sets.
pub(super) struct Target {
    pub(super) kind: TargetKind,
    pub(super) name: String,
    pub(super) span: Span,
    /// Without a formula a rule has no effect.
    pub(super) has_formula: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetKind {
    InitialAssignment,
    AssignmentRule,
    RateRule,
    Event,
}

impl TargetKind {
    pub(super) fn words(self) -> &'static str {
        match self {
            TargetKind::InitialAssignment => "initial assignment",
            TargetKind::AssignmentRule => "assignment rule",
            TargetKind::RateRule => "rate rule",
            TargetKind::Event => "event assignment",
        }
    }
}

/// Reads an SBML document of level 1 version 1 to level 3 version 2.
///
/// Everything wrong or not supported is reported, all of it in one pass, with the codes listed in [`crate::sbml`]; `None`
/// if there was an error. Formulas come as they stand: names are checked to exist but nothing is substituted or evaluated.
///
/// Source: SBML Level 3 Version 2 Core Release 2, and the specifications of the older levels for their defaults.
///
/// Hierarchical models (package comp) are flattened. Files that hold parts of them are read where they stand beside the file,
/// so the name of `source` must be its path; [`read_with`] gets them from elsewhere.
pub fn read(source: &Source, diagnostics: &mut Diagnostics) -> Option<Model> {
    read_with(source, &comp_files::beside, diagnostics)
}

/// [`read`], with a function that gets the files to which the model refers.
pub fn read_with(source: &Source, load: Load<'_>, diagnostics: &mut Diagnostics) -> Option<Model> {
    let errors_before = diagnostics.count(Severity::Error);
    let document = match roxmltree::Document::parse(source.text()) {
        Ok(document) => document,
        Err(error) => {
            malformed(source, diagnostics, &error);
            return None;
        }
    };
    let root = document.root_element();
    let mut reader = open(source, diagnostics, root)?;
    packages(&mut reader, root);
    let Some(node) = reader.elements(root).find(|c| c.tag_name().name() == "model") else {
        let span = reader.tag(root);
        reader.push(Diagnostic::error("S0005", "the document has no model").at(&span, "expected a `model` element"));
        return None;
    };
    let draft = if comp::is_used(root) {
        composed(&mut reader, load)
    } else {
        let draft = model(&mut reader, node);
        check::check(&mut reader, &draft);
        Some(draft)
    };
    reader.report_unsupported();
    draft.map(|draft| draft.model).filter(|_| diagnostics.count(Severity::Error) == errors_before)
}

/// Reads and checks a hierarchical model. What is wrong with a definition that is used several times is said once.
fn composed(reader: &mut Reader<'_>, load: Load<'_>) -> Option<Draft> {
    let before = std::mem::take(reader.diagnostics);
    let files = comp_files::gather(reader.source, load, reader.diagnostics);
    let trees: Vec<_> = files.iter().map(|file| roxmltree::Document::parse(file.source.text()).ok()).collect();
    let draft = comp::flatten(&files, &trees, reader.diagnostics);
    let reading = std::mem::take(reader.diagnostics);
    if let Some(draft) = &draft {
        check::check(reader, draft);
    }
    let checking = std::mem::replace(reader.diagnostics, before);
    let place = |d: &Diagnostic| d.span.as_ref().map(|s| (s.source.name().to_owned(), s.range.clone()));
    let mut said = std::collections::HashSet::new();
    for (found, by_message) in [(reading, true), (checking, false)] {
        for diagnostic in found.items() {
            // Checks know things by their flat names, which differ from one use to the next.
            let message = if by_message { diagnostic.message.clone() } else { String::new() };
            if said.insert((diagnostic.code, place(diagnostic), message)) {
                reader.push(diagnostic.clone());
            }
        }
    }
    draft
}

/// Reports XML that is not well-formed.
pub(super) fn malformed(source: &Source, diagnostics: &mut Diagnostics, error: &roxmltree::Error) {
    use roxmltree::Error;
    let text = source.text();
    let start = match error {
        // These come without a place.
        Error::UnclosedRootNode | Error::UnexpectedEndOfStream | Error::NoRootNode => text.trim_end().len(),
        Error::DtdDetected => text.find("<!DOCTYPE").unwrap_or(0),
        _ => {
            let position = error.pos();
            let line: usize = text.split_inclusive('\n').take((position.row as usize).saturating_sub(1)).map(str::len).sum();
            let rest = text.get(line..).unwrap_or("");
            line + rest.char_indices().nth((position.col as usize).saturating_sub(1)).map_or(rest.len(), |(i, _)| i)
        }
    };
    let length = text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let words = error.to_string();
    // The place is shown by the span already.
    let words = words.rsplit_once(" at ").map_or(words.as_str(), |(words, _)| words);
    let diagnostic = Diagnostic::error("S0001", "the file is not well-formed XML").at(&source.span(start..start + length), words);
    diagnostics.push(match error {
        Error::DtdDetected => diagnostic.help("remove the document type declaration; SBML has no use for it"),
        _ => diagnostic,
    });
}

/// Finds out level and version from the root element.
pub(super) fn open<'s>(source: &'s Source, diagnostics: &'s mut Diagnostics, root: Element<'_>) -> Option<Reader<'s>> {
    let namespace = root.tag_name().namespace().unwrap_or("");
    let mut reader = Reader::new(source, diagnostics, "");
    let tag = reader.tag(root);
    if root.tag_name().name() != "sbml" || !namespace.starts_with("http://www.sbml.org/sbml/level") {
        reader.push(
            Diagnostic::error("S0002", "the file is not an SBML document")
                .at(&tag, "expected `sbml` in a namespace that begins with http://www.sbml.org/sbml/level"),
        );
        return None;
    }
    let level = reader.required(root, "level")?;
    let version = reader.required(root, "version")?;
    let (numbers, place) = ((level.0.parse().ok(), version.0.parse().ok()), version.1);
    let known = CORE.into_iter().find(|(l, v, _)| numbers == (Some(*l), Some(*v)));
    let Some((level, version, core)) = known else {
        reader.push(
            Diagnostic::error("S0003", format!("SBML level {} version {} is unknown", level.0, version.0))
                .at(&place, "expected level 1, level 2 version 1 to 5, or level 3 version 1 or 2"),
        );
        return None;
    };
    if core != namespace {
        reader.push(
            Diagnostic::error("S0004", format!("the namespace is not that of SBML level {level} version {version}"))
                .at(&tag, format!("its namespace is {namespace}"))
                .help(format!("level {level} version {version} has xmlns=\"{core}\"")),
        );
        return None;
    }
    reader.level = level;
    reader.version = version;
    reader.core = core;
    Some(reader)
}

/// Reports packages: those that change the meaning of the model are not supported.
pub(super) fn packages(reader: &mut Reader<'_>, root: Element<'_>) {
    for attribute in root.attributes().filter(|a| a.name() == "required") {
        let Some(uri) = attribute.namespace() else { continue };
        let name = uri.split('/').rev().find(|part| !part.is_empty() && !part.starts_with("version")).unwrap_or(uri);
        // The MathML of level 3 version 2, offered to version 1 as a package, is read always.
        if name == "l3v2extendedmath" || uri == COMP || fbc::is_fbc(uri) {
            continue;
        }
        let span = reader.span(attribute.range());
        let used = root.descendants().any(|node| {
            node.tag_name().namespace() == Some(uri) || node.attributes().any(|a| a.namespace() == Some(uri) && a.name() != "required")
        });
        if used && matches!(attribute.value().trim(), "true" | "1") {
            reader.unsupported(Unsupported::Package, name, span);
        } else {
            let reason = if used { "does not change the meaning of the model" } else { "declared but not used" };
            reader.push(Diagnostic::new(Severity::Note, "S0802", format!("SBML package `{name}` is ignored")).at(&span, reason));
        }
    }
}

/// Reads one model.
pub(super) fn model(reader: &mut Reader<'_>, node: Element<'_>) -> Draft {
    reader.vocabulary(node);
    let id = reader.attribute(node, if reader.level == 1 { "name" } else { "id" }).map_or("", |(id, _)| id).to_owned();
    let mut draft = Draft {
        model: Model {
            source: reader.source.clone(),
            level_version: (reader.level, reader.version),
            id,
            conversion_factor: None,
            compartments: Vec::new(),
            species: Vec::new(),
            parameters: Vec::new(),
            functions: Vec::new(),
            initial_assignments: Vec::new(),
            assignment_rules: Vec::new(),
            rate_rules: Vec::new(),
            algebraic_rules: Vec::new(),
            constraints: Vec::new(),
            reactions: Vec::new(),
            events: Vec::new(),
            flux_balance: None,
        },
        placements: Vec::new(),
        participants: Vec::new(),
        targets: Vec::new(),
        factors: Vec::new(),
        functions_without_body: Vec::new(),
        missing_stoichiometries: Vec::new(),
    };
    draft.model.conversion_factor = conversion_factor(reader, node, "the model", &mut draft.factors);
    for item in reader.items(node, "listOfFunctionDefinitions") {
        function(reader, item, &mut draft);
    }
    for item in reader.items(node, "listOfCompartments") {
        let item = compartment(reader, item);
        draft.model.compartments.extend(item);
    }
    for item in reader.items(node, "listOfSpecies") {
        species(reader, item, &mut draft);
    }
    for item in reader.items(node, "listOfParameters") {
        let item = parameter(reader, item);
        draft.model.parameters.extend(item);
    }
    for item in reader.items(node, "listOfInitialAssignments") {
        assignment(reader, item, "symbol", TargetKind::InitialAssignment, &mut draft);
    }
    for item in reader.items(node, "listOfRules") {
        rule(reader, item, &mut draft);
    }
    for item in reader.items(node, "listOfReactions") {
        reaction(reader, item, &mut draft);
    }
    for item in reader.items(node, "listOfEvents") {
        event(reader, item, &mut draft);
    }
    for item in reader.items(node, "listOfConstraints") {
        constraint(reader, item, &mut draft);
    }
    if reader.level == 1 {
        fill_in_constancy(&mut draft);
    }
    draft.model.flux_balance = fbc::read(reader, node, &draft);
    draft
}

/// Level 1 has no attribute `constant`: what no rule sets is constant, unless an algebraic rule may determine it.
fn fill_in_constancy(draft: &mut Draft) {
    let mut variable: FxHashSet<&str> = draft.targets.iter().map(|target| target.name.as_str()).collect();
    for rule in &draft.model.algebraic_rules {
        rule.formula.walk(&mut |node| {
            if let AstKind::Name(name) = &node.kind {
                variable.insert(name);
            }
        });
    }
    for compartment in &mut draft.model.compartments {
        compartment.constant = !variable.contains(compartment.id.as_str());
    }
    for parameter in &mut draft.model.parameters {
        parameter.constant = !variable.contains(parameter.id.as_str());
    }
}

/// The default of a boolean attribute that level 3 requires. Level 1 does not have these attributes.
fn default_before_level_3(reader: &Reader<'_>, value: bool) -> Option<bool> {
    (reader.level < 3).then_some(value)
}

fn compartment(reader: &mut Reader<'_>, node: Element<'_>) -> Option<Compartment> {
    reader.vocabulary(node);
    let size = if reader.level == 1 { reader.number(node, "volume").or(Some(1.0)) } else { reader.number(node, "size") };
    let dimensions = reader.number(node, "spatialDimensions").unwrap_or(3.0);
    let constant = reader.boolean(node, "constant", default_before_level_3(reader, true));
    let (id, span) = reader.id(node)?;
    Some(Compartment { id, size, dimensions, constant, span })
}

fn species(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    reader.vocabulary(node);
    let by = reader.describe(node);
    let compartment = reader.required(node, "compartment").map(|(name, span)| (name.to_owned(), span));
    let initial_amount = reader.number(node, "initialAmount");
    let initial_concentration = reader.number(node, "initialConcentration");
    if let (Some((_, amount)), Some((_, concentration))) =
        (reader.attribute(node, "initialAmount"), reader.attribute(node, "initialConcentration"))
    {
        reader.push(
            Diagnostic::error("S0109", format!("{by} has both an initial amount and an initial concentration"))
                .at(&concentration, "only one of the two may be given")
                .also(&amount, "the other"),
        );
    }
    let conversion_factor = conversion_factor(reader, node, &by, &mut draft.factors);
    let default = default_before_level_3(reader, false);
    let only_substance_units = reader.boolean(node, "hasOnlySubstanceUnits", default);
    let boundary = reader.boolean(node, "boundaryCondition", default);
    let constant = reader.boolean(node, "constant", default);
    let Some((id, span)) = reader.id(node) else { return };
    let mut item = Species {
        id,
        compartment: String::new(),
        initial_amount,
        initial_concentration,
        only_substance_units,
        boundary,
        constant,
        conversion_factor,
        span,
    };
    if let Some((name, span)) = compartment {
        item.compartment.clone_from(&name);
        draft.placements.push(Mention { by, name, span });
    }
    draft.model.species.push(item);
}

/// The parameter that attribute `conversionFactor` names (level 3).
fn conversion_factor(reader: &mut Reader<'_>, node: Element<'_>, by: &str, factors: &mut Vec<Mention>) -> Option<String> {
    reader.attribute(node, "conversionFactor")?;
    let (name, span) = reader.identifier(node, "conversionFactor")?;
    factors.push(Mention { by: by.to_owned(), name: name.clone(), span });
    Some(name)
}

fn parameter(reader: &mut Reader<'_>, node: Element<'_>) -> Option<Parameter> {
    reader.vocabulary(node);
    let value = reader.number(node, "value");
    // A local parameter of level 3 is constant always.
    let default = if node.tag_name().name() == "localParameter" { Some(true) } else { default_before_level_3(reader, true) };
    let constant = reader.boolean(node, "constant", default);
    let (id, span) = reader.id(node)?;
    Some(Parameter { id, value, constant, span })
}

/// The `math` element of a node, if it has one.
fn math<'a>(reader: &mut Reader<'_>, node: Element<'a>) -> Option<Element<'a>> {
    let mut found = node.children().filter(|c| c.is_element() && c.tag_name().namespace() == Some(MATHML));
    let first = found.next();
    if let Some(second) = found.next().or(first.filter(|first| first.tag_name().name() != "math")) {
        let span = reader.tag(second);
        let message = format!("{} does not hold exactly one `math` element", reader.describe(node));
        reader.push(Diagnostic::error("S0011", message).at(&span, "expected one `math` element"));
        return None;
    }
    if first.is_none() {
        let span = reader.tag(node);
        let message = format!("{} has no formula and is ignored", reader.describe(node));
        reader.push(Diagnostic::warning("S0804", message).at(&span, "has no effect"));
    }
    first
}

/// The formula of a node: its `math` element, in level 1 its attribute `formula`. The flag says whether it has one at
/// all, even if it cannot be read.
fn formula(reader: &mut Reader<'_>, node: Element<'_>) -> (bool, Option<Ast>) {
    if reader.level == 1 {
        let found = reader.required(node, "formula");
        return (true, found.and_then(|(_, span)| infix::formula(reader, &span)));
    }
    match math(reader, node) {
        Some(math) => (true, mathml::formula(reader, math)),
        None => (false, None),
    }
}

fn function(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    reader.vocabulary(node);
    let definition = math(reader, node).and_then(|math| mathml::lambda(reader, math));
    let Some((id, span)) = reader.id(node) else { return };
    match definition {
        Some((arguments, body)) => draft.model.functions.push(FunctionDefinition { id, arguments, body, span }),
        None => draft.functions_without_body.push(id),
    }
}

fn rule(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    let target = match node.tag_name().name() {
        "assignmentRule" => return assignment(reader, node, "variable", TargetKind::AssignmentRule, draft),
        "rateRule" => return assignment(reader, node, "variable", TargetKind::RateRule, draft),
        "algebraicRule" => {
            reader.vocabulary(node);
            let span = reader.tag(node);
            let rule = formula(reader, node).1.map(|formula| AlgebraicRule { formula, span });
            return draft.model.algebraic_rules.extend(rule);
        }
        "parameterRule" => "name",
        "compartmentVolumeRule" => "compartment",
        "speciesConcentrationRule" => "species",
        "specieConcentrationRule" => "specie",
        // Reported as an unknown element already.
        _ => return,
    };
    let kind = match reader.attribute(node, "type") {
        Some(("rate", _)) => TargetKind::RateRule,
        _ => TargetKind::AssignmentRule,
    };
    assignment(reader, node, target, kind, draft);
}

fn assignment(reader: &mut Reader<'_>, node: Element<'_>, attribute: &str, kind: TargetKind, draft: &mut Draft) {
    reader.vocabulary(node);
    let (has_formula, formula) = formula(reader, node);
    let Some((variable, span)) = reader.identifier(node, attribute) else { return };
    draft.targets.push(Target { kind, name: variable.clone(), span: span.clone(), has_formula });
    let Some(formula) = formula else { return };
    let item = Assignment { variable, formula, span };
    match kind {
        TargetKind::InitialAssignment => draft.model.initial_assignments.push(item),
        TargetKind::AssignmentRule => draft.model.assignment_rules.push(item),
        TargetKind::RateRule => draft.model.rate_rules.push(item),
        // The event it belongs to is the last one.
        TargetKind::Event => {
            if let Some(event) = draft.model.events.last_mut() {
                event.assignments.push(item);
            }
        }
    }
}

/// The formula in the child called `name` of a node.
fn child_formula(reader: &mut Reader<'_>, node: Element<'_>, name: &str) -> Option<Ast> {
    let child = reader.elements(node).find(|c| c.tag_name().name() == name)?;
    reader.vocabulary(child);
    formula(reader, child).1
}

fn event(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    reader.vocabulary(node);
    let (id, span) = match reader.attribute(node, "id") {
        Some(_) => match reader.identifier(node, "id") {
            Some((id, span)) => (Some(id), span),
            None => return,
        },
        None => (None, reader.tag(node)),
    };
    let values_from_trigger_time = reader.boolean(node, "useValuesFromTriggerTime", default_before_level_3(reader, true));
    let trigger = reader.elements(node).find(|c| c.tag_name().name() == "trigger");
    let (mut initial_value, mut persistent) = (true, true);
    if let Some(trigger) = trigger.filter(|_| reader.level == 3) {
        initial_value = reader.boolean(trigger, "initialValue", None);
        persistent = reader.boolean(trigger, "persistent", None);
    }
    if trigger.is_none() && (reader.level, reader.version) < (3, 2) {
        let tag = reader.tag(node);
        let message = format!("{} has no trigger", reader.describe(node));
        reader.push(Diagnostic::error("S0012", message).at(&tag, "expected an element `trigger`"));
    }
    let formula = child_formula(reader, node, "trigger");
    let delay = child_formula(reader, node, "delay");
    let priority = child_formula(reader, node, "priority");
    // Without a condition the event never happens; what it holds is read all the same, for the mistakes in it.
    let listed = formula.is_some();
    draft.model.events.push(Event {
        id,
        trigger: formula.unwrap_or(Ast::number(0.0)),
        initial_value,
        persistent,
        delay,
        priority,
        values_from_trigger_time,
        assignments: Vec::new(),
        span,
    });
    for item in reader.items(node, "listOfEventAssignments") {
        assignment(reader, item, "variable", TargetKind::Event, draft);
    }
    if !listed {
        draft.model.events.pop();
    }
}

fn constraint(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    reader.vocabulary(node);
    let span = reader.tag(node);
    let message = reader.elements(node).find(|c| c.tag_name().name() == "message");
    let message = message.map(|m| m.descendants().filter(|d| d.is_text()).filter_map(|d| d.text()).collect::<String>());
    let message = message.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(condition) = formula(reader, node).1 {
        draft.model.constraints.push(Constraint { condition, message, span });
    }
}

fn reaction(reader: &mut Reader<'_>, node: Element<'_>, draft: &mut Draft) {
    reader.vocabulary(node);
    let by = reader.describe(node);
    let fast = reader.boolean(node, "fast", Some(false));
    if let Some((name, span)) = reader.attribute(node, "compartment") {
        draft.placements.push(Mention { by: by.clone(), name: name.to_owned(), span });
    }
    let mut sides = [Vec::new(), Vec::new()];
    for (list, side) in ["listOfReactants", "listOfProducts"].into_iter().zip(&mut sides) {
        for item in reader.items(node, list) {
            side.extend(species_reference(reader, item, &by, draft));
        }
    }
    for item in reader.items(node, "listOfModifiers") {
        reader.vocabulary(item);
        if let Some((name, span)) = reader.identifier(item, "species") {
            draft.participants.push(Mention { by: by.clone(), name, span });
        }
    }
    let mut rate = None;
    let mut local_parameters = Vec::new();
    if let Some(law) = reader.elements(node).find(|c| c.tag_name().name() == "kineticLaw") {
        reader.vocabulary(law);
        rate = formula(reader, law).1;
        for list in ["listOfParameters", "listOfLocalParameters"] {
            for item in reader.items(law, list) {
                let item = parameter(reader, item);
                local_parameters.extend(item);
            }
        }
    }
    let Some((id, span)) = reader.id(node) else { return };
    let [reactants, products] = sides;
    draft.model.reactions.push(Reaction { id, reactants, products, rate, fast, local_parameters, span });
}

fn species_reference(reader: &mut Reader<'_>, node: Element<'_>, by: &str, draft: &mut Draft) -> Option<SpeciesReference> {
    reader.vocabulary(node);
    let attribute = if reader.level == 1 && reader.attribute(node, "species").is_none() { "specie" } else { "species" };
    let id = match reader.attribute(node, "id") {
        Some(_) => Some(reader.identifier(node, "id")?.0),
        None => None,
    };
    let stoichiometry_math = child_formula(reader, node, "stoichiometryMath");
    let number = reader.number(node, "stoichiometry").map(|value| value / reader.number(node, "denominator").unwrap_or(1.0));
    let constant = reader.boolean(node, "constant", default_before_level_3(reader, true));
    let (species, span) = reader.identifier(node, attribute)?;
    draft.participants.push(Mention { by: by.to_owned(), name: species.clone(), span: span.clone() });
    let stoichiometry = number.or((reader.level < 3 && stoichiometry_math.is_none()).then_some(1.0));
    let item = SpeciesReference { id, species, stoichiometry, stoichiometry_math, constant, span };
    if stoichiometry.is_none() && reader.level == 3 && reader.attribute(node, "stoichiometry").is_none() {
        draft.missing_stoichiometries.push(item.clone());
    }
    Some(item)
}
