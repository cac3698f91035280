//! The content of an SBML file as plain data. Every item keeps its place in the file.

use crate::diag::{Source, Span};
use crate::expr::Ast;

/// A model. Defaults of older levels are filled in; what is absent in the file is `None`. Hierarchical models (package comp)
/// are flattened. Ranges in formulas are byte ranges of the source of their item's `span`.
#[derive(Debug, Clone)]
pub struct Model {
    /// The file.
    pub source: Source,
    /// SBML level and version.
    pub level_version: (u32, u32),
    /// Model id (may be empty).
    pub id: String,
    /// Parameter by which the extents of reactions are multiplied for every species that has no factor of its own (level 3).
    pub conversion_factor: Option<String>,
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
    /// Algebraic rules: the formula is 0 at all times.
    pub algebraic_rules: Vec<AlgebraicRule>,
    /// Constraints: conditions under which the model is to be trusted.
    pub constraints: Vec<Constraint>,
    /// Reactions.
    pub reactions: Vec<Reaction>,
    /// Events.
    pub events: Vec<Event>,
    /// Objectives and limits of fluxes (package fbc), where the file has any.
    pub flux_balance: Option<FluxBalance>,
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
    /// Parameter by which the extents of reactions are multiplied for this species (level 3).
    pub conversion_factor: Option<String>,
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

/// A function definition.
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
    /// Formula.
    pub formula: Ast,
    /// Place of the target's name.
    pub span: Span,
}

/// An algebraic rule.
#[derive(Debug, Clone)]
pub struct AlgebraicRule {
    /// What is 0.
    pub formula: Ast,
    /// Place of the element.
    pub span: Span,
}

/// A constraint.
#[derive(Debug, Clone)]
pub struct Constraint {
    /// Condition that should hold.
    pub condition: Ast,
    /// Text of its message, without markup (may be empty).
    pub message: String,
    /// Place of the element.
    pub span: Span,
}

/// An event. Events without a trigger formula never happen and are not listed.
#[derive(Debug, Clone)]
pub struct Event {
    /// Identifier, where it has one.
    pub id: Option<String>,
    /// The event happens when this condition becomes true.
    pub trigger: Ast,
    /// Value of the condition just before the start (level 3; true in older levels).
    pub initial_value: bool,
    /// Whether the event is executed even if the condition becomes false before (level 3; true in older levels).
    pub persistent: bool,
    /// Time between trigger and execution.
    pub delay: Option<Ast>,
    /// Among simultaneous executions those of greater priority come first (level 3).
    pub priority: Option<Ast>,
    /// Whether the assigned values are computed when the event is triggered (true) or executed (false).
    pub values_from_trigger_time: bool,
    /// What is set.
    pub assignments: Vec<Assignment>,
    /// Place of the element's id, or of its tag.
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
    /// Rate in substance per time (extent per time in level 3); `None` where the file has no kinetic law or no math.
    pub rate: Option<Ast>,
    /// Whether the reaction is so fast that it is in equilibrium at all times (level 3 version 1 and older).
    pub fast: bool,
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
    /// Stoichiometric coefficient, where the file gives a number (levels 1 and 2: or no formula, then 1).
    pub stoichiometry: Option<f64>,
    /// Stoichiometric coefficient as a formula (level 2).
    pub stoichiometry_math: Option<Ast>,
    /// Whether nothing changes the coefficient during a simulation (level 3; true in older levels).
    pub constant: bool,
    /// Place of the species name.
    pub span: Span,
}

/// What a model says about fluxes in steady state (package fbc).
#[derive(Debug, Clone)]
pub struct FluxBalance {
    /// Objectives.
    pub objectives: Vec<Objective>,
    /// Index of the objective to be used.
    pub active: Option<usize>,
    /// Limits of fluxes. A reaction without one may have any flux.
    pub bounds: Vec<FluxBound>,
}

/// A sum of fluxes that shall be as large or small as possible.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Identifier.
    pub id: String,
    /// Whether it shall be large (true) or small.
    pub maximize: bool,
    /// Its terms.
    pub terms: Vec<FluxTerm>,
    /// Place of the id.
    pub span: Span,
}

/// A term of an objective.
#[derive(Debug, Clone)]
pub struct FluxTerm {
    /// Reaction id.
    pub reaction: String,
    /// Coefficient of its flux.
    pub coefficient: f64,
    /// Place of the reaction's name.
    pub span: Span,
}

/// A limit of a flux.
#[derive(Debug, Clone)]
pub struct FluxBound {
    /// Reaction id.
    pub reaction: String,
    /// On which side it limits.
    pub limit: FluxLimit,
    /// Its value.
    pub value: FluxValue,
    /// Place of what names the reaction (version 1) or the parameter.
    pub span: Span,
}

/// The side on which a [`FluxBound`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FluxLimit {
    /// The flux is not smaller.
    Lower,
    /// The flux is not larger.
    Upper,
    /// The flux is equal (version 1).
    Equal,
}

/// The value of a [`FluxBound`].
#[derive(Debug, Clone, PartialEq)]
pub enum FluxValue {
    /// A number (version 1).
    Number(f64),
    /// The value of a parameter (versions 2 and 3).
    Parameter(String),
}
