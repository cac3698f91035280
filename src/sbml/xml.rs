//! Elements and attributes of an SBML document, each with its place, and the list of unsupported constructs met so far.

use crate::diag::{Diagnostic, Diagnostics, Severity, Source, Span};
use roxmltree::NodeId;
use rustc_hash::FxHashSet;
use std::ops::Range;
use std::rc::Rc;

/// A node of the XML document.
pub(super) type Element<'a> = roxmltree::Node<'a, 'a>;

/// What this reader understands but cannot hand on yet. Each kind has its own code and is reported once per file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsupported {
    Package,
    FluxConstraint,
}

impl Unsupported {
    /// Code, the construct in the singular and in the plural, and advice.
    fn words(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Unsupported::Package => ("S0905", "the required SBML package", "required SBML packages", "export the model as plain SBML core"),
            Unsupported::FluxConstraint => (
                "S0906",
                "the constraint or quadratic objective of fluxes",
                "constraints or quadratic objectives of fluxes",
                "use limits and linear objectives",
            ),
        }
    }
}

/// Names that may stand at an element, over all levels: element, attributes, children. `id`, `name`, `metaid`,
/// `sboTerm`, `notes` and `annotation` may stand everywhere.
const VOCABULARY: &[(&str, &[&str], &[&str])] = &[
    (
        "model",
        &["substanceUnits", "timeUnits", "volumeUnits", "areaUnits", "lengthUnits", "extentUnits", "conversionFactor"],
        &[
            "listOfFunctionDefinitions",
            "listOfUnitDefinitions",
            "listOfCompartmentTypes",
            "listOfSpeciesTypes",
            "listOfCompartments",
            "listOfSpecies",
            "listOfParameters",
            "listOfInitialAssignments",
            "listOfRules",
            "listOfConstraints",
            "listOfReactions",
            "listOfEvents",
        ],
    ),
    ("listOfFunctionDefinitions", &[], &["functionDefinition"]),
    ("functionDefinition", &[], &[]),
    ("listOfUnitDefinitions", &[], &["unitDefinition"]),
    ("unitDefinition", &[], &["listOfUnits"]),
    ("listOfUnits", &[], &["unit"]),
    ("unit", &["kind", "exponent", "scale", "multiplier", "offset"], &[]),
    ("listOfCompartments", &[], &["compartment"]),
    ("compartment", &["size", "volume", "spatialDimensions", "units", "constant", "outside", "compartmentType"], &[]),
    ("listOfSpecies", &[], &["species", "specie"]),
    ("species", SPECIES, &[]),
    ("specie", SPECIES, &[]),
    ("listOfParameters", &[], &["parameter"]),
    ("parameter", &["value", "units", "constant"], &[]),
    ("listOfInitialAssignments", &[], &["initialAssignment"]),
    ("initialAssignment", &["symbol"], &[]),
    (
        "listOfRules",
        &[],
        &[
            "assignmentRule",
            "rateRule",
            "algebraicRule",
            "parameterRule",
            "compartmentVolumeRule",
            "speciesConcentrationRule",
            "specieConcentrationRule",
        ],
    ),
    ("assignmentRule", &["variable"], &[]),
    ("rateRule", &["variable"], &[]),
    ("algebraicRule", &["formula"], &[]),
    ("parameterRule", &["formula", "type", "units"], &[]),
    ("compartmentVolumeRule", &["formula", "type", "compartment"], &[]),
    ("speciesConcentrationRule", &["formula", "type", "species"], &[]),
    ("specieConcentrationRule", &["formula", "type", "specie"], &[]),
    ("listOfConstraints", &[], &["constraint"]),
    ("constraint", &[], &["message"]),
    ("listOfEvents", &[], &["event"]),
    ("event", &["useValuesFromTriggerTime", "timeUnits"], &["trigger", "delay", "priority", "listOfEventAssignments"]),
    ("trigger", &["initialValue", "persistent"], &[]),
    ("delay", &[], &[]),
    ("priority", &[], &[]),
    ("listOfEventAssignments", &[], &["eventAssignment"]),
    ("eventAssignment", &["variable"], &[]),
    ("listOfReactions", &[], &["reaction"]),
    ("reaction", &["reversible", "fast", "compartment"], &["listOfReactants", "listOfProducts", "listOfModifiers", "kineticLaw"]),
    ("listOfReactants", &[], &["speciesReference", "specieReference"]),
    ("listOfProducts", &[], &["speciesReference", "specieReference"]),
    ("listOfModifiers", &[], &["modifierSpeciesReference"]),
    ("speciesReference", REFERENCE, &["stoichiometryMath"]),
    ("specieReference", REFERENCE, &[]),
    ("modifierSpeciesReference", &["species"], &[]),
    ("stoichiometryMath", &[], &[]),
    ("kineticLaw", &["formula", "timeUnits", "substanceUnits"], &["listOfParameters", "listOfLocalParameters"]),
    ("listOfLocalParameters", &[], &["localParameter"]),
    ("localParameter", &["value", "units", "constant"], &[]),
];

const SPECIES: &[&str] = &[
    "compartment",
    "initialAmount",
    "initialConcentration",
    "substanceUnits",
    "spatialSizeUnits",
    "units",
    "hasOnlySubstanceUnits",
    "boundaryCondition",
    "constant",
    "charge",
    "speciesType",
    "conversionFactor",
];

const REFERENCE: &[&str] = &["species", "specie", "stoichiometry", "denominator", "constant"];

/// A number as SBML's attributes and the parts of a `cn` write it (XML Schema `double`): decimal, or INF, -INF, NaN.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    match text {
        "INF" => Some(f64::INFINITY),
        "-INF" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust would also take "inf", "infinity" and "nan" in any case.
        _ if text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) => text.parse().ok(),
        _ => None,
    }
}

/// Whether `text` is an identifier of SBML (type SId).
pub(super) fn is_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The document being read, and where its errors go.
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    pub(super) diagnostics: &'s mut Diagnostics,
    pub(super) level: u32,
    pub(super) version: u32,
    /// Namespace of the level and version.
    pub(super) core: &'static str,
    /// Nodes that are passed over: deleted or replaced in a hierarchical model.
    pub(super) removed: Rc<FxHashSet<NodeId>>,
    unsupported: Vec<(Unsupported, String, Span)>,
}

impl<'s> Reader<'s> {
    /// A reader of a document whose level and version are still to be set.
    pub(super) fn new(source: &'s Source, diagnostics: &'s mut Diagnostics, core: &'static str) -> Self {
        Reader { source, diagnostics, level: 0, version: 0, core, removed: Rc::default(), unsupported: Vec::new() }
    }

    pub(super) fn span(&self, range: Range<usize>) -> Span {
        self.source.span(range)
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Place of the name in an element's opening tag.
    pub(super) fn tag(&self, node: Element<'_>) -> Span {
        let range = node.range();
        let text = self.source.text().get(range.clone()).unwrap_or("");
        let length = text.char_indices().skip(1).find(|(_, c)| c.is_whitespace() || "/>".contains(*c)).map_or(text.len(), |(i, _)| i);
        self.span((range.start + 1).min(range.end)..range.start + length)
    }

    /// Element children that are core SBML.
    pub(super) fn elements<'a>(&self, node: Element<'a>) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let (core, removed) = (self.core, Rc::clone(&self.removed));
        node.children().filter(move |c| c.is_element() && c.tag_name().namespace() == Some(core) && !removed.contains(&c.id()))
    }

    /// All items in the children `list` of a node, after a check of the names used in the list.
    pub(super) fn items<'a>(&mut self, node: Element<'a>, list: &str) -> Vec<Element<'a>> {
        let lists: Vec<_> = self.elements(node).filter(|c| c.tag_name().name() == list).collect();
        let mut items = Vec::new();
        for list in lists {
            self.vocabulary(list);
            items.extend(self.elements(list).filter(|c| !matches!(c.tag_name().name(), "notes" | "annotation")));
        }
        items
    }

    /// Reports attributes and children that no level knows at this element.
    pub(super) fn vocabulary(&mut self, node: Element<'_>) {
        let name = node.tag_name().name();
        let Some((_, attributes, children)) = VOCABULARY.iter().find(|(element, ..)| *element == name) else { return };
        for attribute in node.attributes().filter(|a| a.namespace().is_none()) {
            if !["id", "name", "metaid", "sboTerm"].contains(&attribute.name()) && !attributes.contains(&attribute.name()) {
                let span = self.span(attribute.range_qname());
                self.push(
                    Diagnostic::warning("S0803", format!("attribute `{}` of `{name}` is unknown and ignored", attribute.name()))
                        .at(&span, "not an attribute of this element in any level of SBML")
                        .suggest(attribute.name(), attributes.iter().copied().chain(["id", "name"])),
                );
            }
        }
        let unknown: Vec<_> = self
            .elements(node)
            .filter(|c| !["notes", "annotation"].contains(&c.tag_name().name()) && !children.contains(&c.tag_name().name()))
            .collect();
        for child in unknown {
            let found = child.tag_name().name();
            let span = self.tag(child);
            let mut diagnostic = Diagnostic::error("S0006", format!("element `{found}` cannot stand in `{name}`"))
                .at(&span, "not an element of SBML here")
                .suggest(found, children.iter().copied());
            if found == "math" {
                diagnostic = diagnostic.help("a `math` element needs xmlns=\"http://www.w3.org/1998/Math/MathML\"");
            }
            self.push(diagnostic);
        }
    }

    /// The trimmed text of an attribute and its place.
    pub(super) fn attribute<'a>(&self, node: Element<'a>, name: &str) -> Option<(&'a str, Span)> {
        let attribute = node.attributes().find(|a| a.namespace().is_none() && a.name() == name)?;
        Some((attribute.value().trim(), self.span(attribute.range_value())))
    }

    /// Like [`Reader::attribute`], but its absence is an error.
    pub(super) fn required<'a>(&mut self, node: Element<'a>, name: &str) -> Option<(&'a str, Span)> {
        let found = self.attribute(node, name);
        if found.is_none() {
            self.missing(node, name);
        }
        found
    }

    /// Reports that an attribute is missing.
    pub(super) fn missing(&mut self, node: Element<'_>, name: &str) {
        let tag = self.tag(node);
        let message = format!("{} has no attribute `{name}`", self.describe(node));
        let rule = format!("required in SBML level {} version {}", self.level, self.version);
        self.push(Diagnostic::error("S0007", message).at(&tag, rule));
    }

    /// The identifier an element gives itself: attribute `id`, in level 1 `name`.
    pub(super) fn id(&mut self, node: Element<'_>) -> Option<(String, Span)> {
        self.identifier(node, if self.level == 1 { "name" } else { "id" })
    }

    /// A required attribute that holds an identifier.
    pub(super) fn identifier(&mut self, node: Element<'_>, name: &str) -> Option<(String, Span)> {
        let (text, span) = self.required(node, name)?;
        if is_identifier(text) {
            return Some((text.to_owned(), span));
        }
        self.push(
            Diagnostic::error("S0008", format!("`{text}` is not an identifier"))
                .at(&span, "expected letters, digits and underscores, not beginning with a digit"),
        );
        None
    }

    /// An attribute that holds a number; `None` if it is absent or (reported) something else.
    pub(super) fn number(&mut self, node: Element<'_>, name: &str) -> Option<f64> {
        let (text, span) = self.attribute(node, name)?;
        self.parse_number(node, name, text, &span)
    }

    /// The number that an attribute holds; `None` if it is (reported) something else.
    pub(super) fn parse_number(&mut self, node: Element<'_>, name: &str, text: &str, span: &Span) -> Option<f64> {
        let value = parse_double(text);
        if value.is_none() {
            let message = format!("attribute `{name}` of {} is not a number", self.describe(node));
            self.push(Diagnostic::error("S0009", message).at(span, "expected a number such as 0.1 or 1e-3, INF, -INF or NaN"));
        }
        value
    }

    /// An attribute that holds true or false. Without `default` its absence is an error.
    pub(super) fn boolean(&mut self, node: Element<'_>, name: &str, default: Option<bool>) -> bool {
        if let (None, Some(default)) = (self.attribute(node, name), default) {
            return default;
        }
        let Some((text, span)) = self.required(node, name) else { return false };
        if !matches!(text, "true" | "1" | "false" | "0") {
            let message = format!("attribute `{name}` of {} is neither true nor false", self.describe(node));
            self.push(Diagnostic::error("S0010", message).at(&span, "expected true or false"));
        }
        matches!(text, "true" | "1")
    }

    /// An element in words: "species `S1`", or "`kineticLaw`" where there is no identifier.
    pub(super) fn describe(&self, node: Element<'_>) -> String {
        let name = node.tag_name().name();
        let key = ["id", "variable", "symbol", "species", "name"].into_iter().find_map(|key| self.attribute(node, key));
        match key {
            Some((id, _)) => format!("{name} `{id}`"),
            None => format!("`{name}`"),
        }
    }

    /// Notes an unsupported construct. `name` is empty where the construct has none.
    pub(super) fn unsupported(&mut self, kind: Unsupported, name: impl Into<String>, span: Span) {
        self.unsupported.push((kind, name.into(), span));
    }

    /// Reports what [`Reader::unsupported`] has collected: one error for each kind.
    pub(super) fn report_unsupported(&mut self) {
        let mut found = std::mem::take(&mut self.unsupported);
        found.sort_by_key(|(kind, ..)| *kind);
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            let [(kind, name, span), others @ ..] = group else { continue };
            let (code, singular, plural, help) = kind.words();
            let name = if name.is_empty() { String::new() } else { format!(" `{name}`") };
            let message = match others.len() {
                0 => format!("{singular}{name} is not supported yet"),
                n => format!("{plural} are not supported yet:{name} and {n} more"),
            };
            let mut diagnostic = Diagnostic::new(Severity::Error, code, message).at(span, "not supported yet");
            for (_, _, other) in others.iter().take(4) {
                diagnostic = diagnostic.also(other, "and here");
            }
            self.push(diagnostic.help(help));
        }
    }
}
