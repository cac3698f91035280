//! The system of equations as expressions: everything downstream reads only this.

use super::compiled::{ObservedEvent, SwitchKind, Target};
use super::conservation::Conservation;
use super::setup::Setting;
use crate::diag::Span;
use crate::expr::{ExprId, Graph, SymbolId};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

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
    /// Whether it can depend on a varying parameter in some experiment, so that derivatives with respect to it are needed.
    pub active: bool,
}

/// A comparison or rounded number whose value changes during a simulation, see [`compiled::Switch`](super::compiled::Switch).
#[derive(Debug, Clone)]
pub struct SwitchRoot {
    /// Index of the flag in the parameters.
    pub flag: usize,
    /// Difference of the two sides, positive where an inequality holds; or the number that is rounded.
    pub root: ExprId,
    /// Depends on time (affinely) and parameters only.
    pub explicit_time: bool,
    /// Depends on time otherwise than affinely.
    pub curved_in_time: bool,
    /// How the flag follows from the root function.
    pub kind: SwitchKind,
    /// Whether only observed events depend on it, so that it matters to nothing but the times at which they happen.
    pub only_observed: bool,
}

/// An event (SBML level 3 version 2, section 4.11).
#[derive(Debug, Clone)]
pub struct EventFormula {
    /// Identifier, or a name made from the event's place in the list.
    pub id: String,
    /// Condition; comparisons are replaced by flags.
    pub trigger: ExprId,
    /// Value of the condition just before the start.
    pub initial_value: bool,
    /// Whether the event is executed even if the condition becomes false before.
    pub persistent: bool,
    /// Time from trigger to execution.
    pub delay: Option<ExprId>,
    /// Greater ones are executed first.
    pub priority: Option<ExprId>,
    /// Whether values are computed when the event is triggered.
    pub values_from_trigger_time: bool,
    /// What is set.
    pub assignments: AssignmentFormulas,
}

/// Simultaneous assignments, see [`Assignments`](super::compiled::Assignments).
#[derive(Debug, Clone, Default)]
pub struct AssignmentFormulas {
    /// What is set.
    pub targets: Vec<Target>,
    /// New values as functions of (t, x, p) just before.
    pub values: Vec<ExprId>,
    /// Factors from values to what the states hold, where there is any but 1.
    pub volumes: Option<Vec<ExprId>>,
}

/// An equation r(t, x, p) = 0 that holds at all times: an algebraic rule, or the equilibrium of a fast reaction.
///
/// The right-hand side keeps it by itself (the equation was differentiated); initial values and jumps are moved back onto
/// it along `directions`.
#[derive(Debug, Clone)]
pub struct Invariant {
    /// r.
    pub residual: ExprId,
    /// States that yield, and by how much: numbers or functions of p.
    pub directions: Vec<(usize, ExprId)>,
    /// Whether the states that yield are amounts, which stay positive.
    pub positive: bool,
}

/// A quantity at an earlier time, which stands in a parameter.
#[derive(Debug, Clone)]
pub struct DelayFormula {
    /// Index of the parameter.
    pub parameter: usize,
    /// The quantity as a function of (t, x, p).
    pub value: ExprId,
    /// How much earlier.
    pub delay: ExprId,
}

/// A condition under which the model is to be trusted (SBML constraint).
#[derive(Debug, Clone)]
pub struct ConstraintFormula {
    /// True (not 0) where the model holds.
    pub condition: ExprId,
    /// What the model's author says of it.
    pub message: String,
    /// Place in the model file.
    pub span: Span,
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
    pub assignments: AssignmentFormulas,
}

/// How experiments of one kind begin: functions of theta and the inputs.
#[derive(Debug, Clone)]
pub struct SetupFormulas {
    /// All parameters.
    pub parameters: Vec<ExprId>,
    /// All initial states.
    pub states: Vec<ExprId>,
    /// For each delayed quantity its values before the start, as a function of time and theta.
    pub before: Vec<ExprId>,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Identifier.
    pub id: String,
    /// Start time.
    pub start: f64,
    /// Where the experiment begins with a steady state (pre-equilibration): the time at which the way there starts. The setup is that
    /// of this time, and the first change is made at `start`.
    pub equilibration: Option<f64>,
    /// Index of how it begins.
    pub setup: usize,
    /// What stands in each input; a missing one is not used.
    pub settings: Vec<Setting>,
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
    /// For each row of theta whether it is estimated or differs between individuals, so that derivatives by it are needed.
    pub varying: Vec<bool>,
    /// Discontinuities.
    pub switches: Vec<SwitchRoot>,
    /// Events of the model, then those that are only observed.
    pub events: Vec<EventFormula>,
    /// The event table of `nlme`, in its order.
    pub observed_events: Vec<ObservedEvent>,
    /// Equations that hold at all times.
    pub invariants: Vec<Invariant>,
    /// Conserved quantities, where the problem has steady states.
    pub conserved: Vec<Conservation>,
    /// Quantities at earlier times.
    pub delays: Vec<DelayFormula>,
    /// Conditions that are watched.
    pub constraints: Vec<ConstraintFormula>,
    /// Quantities to be written, as functions of (t, x, p).
    pub outputs: Vec<ExprId>,
    /// Observables.
    pub observables: Vec<ObservableFormula>,
    /// Symbols that stand for what conditions put into the model when an experiment begins.
    pub inputs: Vec<SymbolId>,
    /// The different ways in which experiments begin.
    pub setups: Vec<SetupFormulas>,
    /// Experiments.
    pub experiments: Vec<Experiment>,
    /// Every entity of the SBML model (species, compartments, parameters, reactions, species references) as a function of (t, x, p).
    pub entities: IndexMap<String, ExprId>,
    /// Rows of the parameter table that are without effect.
    pub unused: Vec<usize>,
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

    /// Substitutes in every expression of (t, x, p). Setups of experiments, functions of theta alone, stay.
    pub fn substitute(&mut self, values: &FxHashMap<SymbolId, ExprId>) {
        let mut places: Vec<&mut ExprId> = Vec::new();
        places.extend(self.states.iter_mut().map(|s| &mut s.rate));
        places.extend(self.switches.iter_mut().map(|s| &mut s.root));
        for event in &mut self.events {
            places.push(&mut event.trigger);
            places.extend(event.delay.iter_mut().chain(&mut event.priority));
            places.extend(event.assignments.values.iter_mut().chain(event.assignments.volumes.iter_mut().flatten()));
        }
        for invariant in &mut self.invariants {
            places.push(&mut invariant.residual);
            places.extend(invariant.directions.iter_mut().map(|d| &mut d.1));
        }
        places.extend(self.delays.iter_mut().flat_map(|d| [&mut d.value, &mut d.delay]));
        places.extend(self.constraints.iter_mut().map(|c| &mut c.condition));
        places.extend(&mut self.outputs);
        places.extend(self.observables.iter_mut().flat_map(|o| [&mut o.value, &mut o.noise]));
        places.extend(self.entities.values_mut());
        places.extend(self.species.values_mut().map(|s| &mut s.volume));
        for change in self.experiments.iter_mut().flat_map(|e| &mut e.changes) {
            places.extend(change.assignments.values.iter_mut().chain(change.assignments.volumes.iter_mut().flatten()));
        }
        let old: Vec<ExprId> = places.iter().map(|e| **e).collect();
        let new = self.graph.substitute(&old, values);
        places.into_iter().zip(new).for_each(|(place, e)| *place = e);
    }

    /// Adds an entity of the model to the outputs. `None` if there is no such entity.
    pub fn output_entity(&mut self, id: &str, unit: Unit) -> Option<()> {
        let mut value = *self.entities.get(id)?;
        if let Some(species) = self.species.get(id) {
            match (unit, species.amount) {
                (Unit::Amount, false) => value = self.graph.mul(value, species.volume),
                (Unit::Concentration, true) => value = self.graph.div(value, species.volume),
                _ => {}
            }
        }
        self.outputs.push(value);
        Some(())
    }
}
