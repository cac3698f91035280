//! Events, and the changes that the periods of an experiment make.

use super::build::{Builder, Origin, Scope, Stage, amount_name};
use super::compiled::Target;
use super::entities::Kind;
use super::system::{Change, EventFormula};
use crate::expr::ExprId;
use crate::petab;
use rustc_hash::FxHashMap;

impl<'a> Builder<'a> {
    /// Lowers all events.
    pub(super) fn lower_events(&mut self) -> Vec<EventFormula> {
        let model = self.model;
        let mut events = Vec::new();
        for (number, event) in model.events.iter().enumerate() {
            let mut lower = |ast: &Option<crate::expr::Ast>| ast.as_ref().and_then(|a| self.lower_sbml(a, &event.span, Stage::Running));
            let (delay, priority) = (lower(&event.delay), lower(&event.priority));
            let Some(trigger) = self.lower_sbml(&event.trigger, &event.span, Stage::Running) else { continue };
            let mut assigned = Vec::new();
            for assignment in &event.assignments {
                if let Some(value) = self.lower_sbml(&assignment.formula, &assignment.span, Stage::Running) {
                    assigned.push((assignment.variable.as_str(), value));
                }
            }
            let (targets, values) = self.targets(&assigned);
            events.push(EventFormula {
                id: event.id.clone().unwrap_or_else(|| format!("<event {}>", number + 1)),
                trigger,
                initial_value: event.initial_value,
                persistent: event.persistent,
                delay,
                priority,
                values_from_trigger_time: event.values_from_trigger_time,
                targets,
                values,
            });
        }
        events
    }

    /// What simultaneous assignments set of the system, and the values. What algebraic rules determine cannot be set.
    fn targets(&mut self, assigned: &[(&str, ExprId)]) -> (Vec<Target>, Vec<ExprId>) {
        let mut result = (Vec::new(), Vec::new());
        for (id, value) in assigned {
            let target = match self.kinds.get(id) {
                Some(Kind::State(i)) => Some(Target::State(*i)),
                Some(Kind::Parameter) | None => self.parameters.get_index_of(&self.symbol_name(id)).map(Target::Parameter),
                Some(_) => None,
            };
            let Some(target) = target else { continue };
            let mut held = *value;
            if self.amounts.contains_key(&amount_name(id)) {
                // The concentration is that in the compartment as it is after all assignments.
                let compartment = self.species.get(id).map_or("", |s| s.compartment.as_str());
                let volume = assigned.iter().find(|a| a.0 == compartment).map(|a| a.1);
                let Some(volume) = volume.or_else(|| self.entity(compartment, None)) else { continue };
                held = self.graph.mul(held, volume);
            }
            result.0.push(target);
            result.1.push(held);
        }
        result
    }

    /// Lowers the changes of later periods.
    pub(super) fn lower_changes(&mut self, periods: &'a [petab::Period]) -> Vec<Change> {
        let nothing = FxHashMap::default();
        let mut changes = Vec::new();
        for period in periods {
            let mut assigned = Vec::new();
            for c in &period.changes {
                let scope = Scope { origin: Origin::Petab(&c.value.span), local: &nothing, only_local: false, stage: Stage::Running };
                if let Some(value) = self.lower(&c.value.ast, scope) {
                    assigned.push((c.target.as_str(), value));
                }
            }
            let (targets, values) = self.targets(&assigned);
            changes.push(Change { time: period.time, targets, values });
        }
        changes
    }
}
