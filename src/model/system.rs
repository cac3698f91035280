//! The system of equations as expressions: everything downstream reads only this.

use super::compiled::Target;
use crate::expr::{ExprId, Graph, SymbolId};
use indexmap::IndexMap;

/// A differential state.
#[derive(Debug, Clone)]
pub struct State {
    /// Identifier of the model entity.
    pub id: String,
    /// Its symbol.
    pub symbol: SymbolId,
    /// Time derivative; comparisons that switch it are replaced by flags.
    pub rate: ExprId,
}

/// A quantity that is constant between two changes of an experiment.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Identifier; flags are called `<switch j>`.
    pub id: String,
    /// Its symbol.
    pub symbol: SymbolId,
    /// Whether it can depend on an estimated parameter in some experiment, so that derivatives with respect to it are needed.
    pub active: bool,
}

/// A discontinuity of the right-hand side, see [`compiled::Switch`](super::compiled::Switch).
#[derive(Debug, Clone)]
pub struct SwitchRoot {
    /// Index of the flag in the parameters.
    pub flag: usize,
    /// Positive where the comparison is true.
    pub root: ExprId,
    /// Depends on time (affinely) and parameters only.
    pub explicit_time: bool,
    /// Truth value of the comparison where both sides are equal.
    pub true_when_equal: bool,
}

/// A measured quantity.
#[derive(Debug, Clone)]
pub struct ObservableFormula {
    /// Identifier.
    pub id: String,
    /// Simulation as a function of (t, x, p, q).
    pub value: ExprId,
    /// Noise scale.
    pub noise: ExprId,
    /// The placeholders q: observable placeholders first, then noise placeholders.
    pub placeholders: Vec<SymbolId>,
}

/// Simultaneous changes at a later time of an experiment.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub time: f64,
    /// What is set.
    pub targets: Vec<Target>,
    /// New values as functions of (t, x, p) just before.
    pub values: Vec<ExprId>,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Identifier.
    pub id: String,
    /// Start time.
    pub start: f64,
    /// All parameters as functions of theta.
    pub parameters: Vec<ExprId>,
    /// All initial states as functions of theta.
    pub states: Vec<ExprId>,
    /// Later changes in order of time.
    pub changes: Vec<Change>,
}

/// A species' conversion between amount and concentration.
#[derive(Debug, Clone, Copy)]
pub struct SpeciesUnit {
    /// Whether the symbol means the amount.
    pub amount: bool,
    /// Size of its compartment.
    pub volume: ExprId,
}

/// The system of equations of a problem.
#[derive(Debug, Clone)]
pub struct OdeSystem {
    /// All expressions.
    pub graph: Graph,
    /// Symbol of time.
    pub time: SymbolId,
    /// States x.
    pub states: Vec<State>,
    /// Parameters p: theta, constants, flags.
    pub parameters: Vec<Parameter>,
    /// Number of leading parameters that are rows of the PEtab parameter table.
    pub theta: usize,
    /// For each row of theta whether it is estimated.
    pub estimated: Vec<bool>,
    /// Discontinuities.
    pub switches: Vec<SwitchRoot>,
    /// Observables.
    pub observables: Vec<ObservableFormula>,
    /// Experiments.
    pub experiments: Vec<Experiment>,
    /// Every entity of the SBML model (species, compartments, parameters, reactions, species references) as a function of (t, x, p).
    pub entities: IndexMap<String, ExprId>,
    /// Units of the species.
    pub species: IndexMap<String, SpeciesUnit>,
}

/// In which unit a species is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As formulas see it.
    Model,
    /// Amount of substance.
    Amount,
    /// Amount per compartment size.
    Concentration,
}

impl OdeSystem {
    /// Index of a parameter by id.
    pub fn parameter(&self, id: &str) -> Option<usize> {
        self.parameters.iter().position(|p| p.id == id)
    }

    /// Adds an observable without noise for an entity of the model. `None` if there is no such entity.
    pub fn observe_entity(&mut self, id: &str, unit: Unit) -> Option<()> {
        let mut value = *self.entities.get(id)?;
        if let Some(species) = self.species.get(id) {
            match (unit, species.amount) {
                (Unit::Amount, false) => value = self.graph.mul(value, species.volume),
                (Unit::Concentration, true) => value = self.graph.div(value, species.volume),
                _ => {}
            }
        }
        let noise = self.graph.constant(1.0);
        self.observables.push(ObservableFormula { id: id.to_string(), value, noise, placeholders: Vec::new() });
        Some(())
    }
}
