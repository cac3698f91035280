//! The content of an SBML file as plain data. Every item keeps its place in the file.

use crate::diag::{Source, Span};
use crate::expr::Ast;

/// A model. Defaults of older levels are filled in; what is absent in the file is `None`.
#[derive(Debug, Clone)]
pub struct Model {
    /// The file.
    pub source: Source,
    /// SBML level and version.
    pub level_version: (u32, u32),
    /// Model id (may be empty).
    pub id: String,
    /// Compartments.
    pub compartments: Vec<Compartment>,
    /// Species.
    pub species: Vec<Species>,
    /// Global parameters.
    pub parameters: Vec<Parameter>,
    /// User-defined functions.
    pub functions: Vec<FunctionDefinition>,
    /// Initial assignments.
    pub initial_assignments: Vec<Assignment>,
    /// Assignment rules.
    pub assignment_rules: Vec<Assignment>,
    /// Rate rules.
    pub rate_rules: Vec<Assignment>,
    /// Reactions.
    pub reactions: Vec<Reaction>,
}

/// A compartment.
#[derive(Debug, Clone)]
pub struct Compartment {
    /// Identifier.
    pub id: String,
    /// Size; level 1 and 2 default where the specification has one.
    pub size: Option<f64>,
    /// Dimensions (3 unless the file says otherwise). With 0 there is no size, and species are amounts.
    pub dimensions: f64,
    /// Whether the size is constant.
    pub constant: bool,
    /// Place of the element's id.
    pub span: Span,
}

/// A species.
#[derive(Debug, Clone)]
pub struct Species {
    /// Identifier.
    pub id: String,
    /// Compartment id.
    pub compartment: String,
    /// Initial amount.
    pub initial_amount: Option<f64>,
    /// Initial concentration.
    pub initial_concentration: Option<f64>,
    /// In formulas the symbol means the amount (true) or the concentration (false).
    pub only_substance_units: bool,
    /// Not changed by reactions.
    pub boundary: bool,
    /// Whether the value is constant.
    pub constant: bool,
    /// Place of the element's id.
    pub span: Span,
}

/// A parameter (global or local to a reaction).
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Identifier.
    pub id: String,
    /// Value.
    pub value: Option<f64>,
    /// Whether the value is constant.
    pub constant: bool,
    /// Place of the element's id.
    pub span: Span,
}

/// A function definition. The ranges in the tree are byte ranges of the file.
#[derive(Debug, Clone)]
pub struct FunctionDefinition {
    /// Identifier.
    pub id: String,
    /// Names of the arguments.
    pub arguments: Vec<String>,
    /// Body.
    pub body: Ast,
    /// Place of the element's id.
    pub span: Span,
}

/// `variable := formula` of an initial assignment, assignment rule or rate rule. Items without math are not listed.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Target identifier.
    pub variable: String,
    /// Formula; the ranges in the tree are byte ranges of the file.
    pub formula: Ast,
    /// Place of the target's name.
    pub span: Span,
}

/// A reaction.
#[derive(Debug, Clone)]
pub struct Reaction {
    /// Identifier.
    pub id: String,
    /// Reactants (consumed).
    pub reactants: Vec<SpeciesReference>,
    /// Products.
    pub products: Vec<SpeciesReference>,
    /// Rate in substance per time; `None` where the file has no kinetic law or no math.
    pub rate: Option<Ast>,
    /// Parameters that shadow global names in the rate.
    pub local_parameters: Vec<Parameter>,
    /// Place of the element's id.
    pub span: Span,
}

/// A species taking part in a reaction.
#[derive(Debug, Clone)]
pub struct SpeciesReference {
    /// Id of the reference itself (level 2 and up; a name in formulas that means the stoichiometry).
    pub id: Option<String>,
    /// Species id.
    pub species: String,
    /// Stoichiometric coefficient; 1 (with a warning) where level 3 has none.
    pub stoichiometry: f64,
    /// Place of the species name.
    pub span: Span,
}
