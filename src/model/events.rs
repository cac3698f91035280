//! Events, and the changes that the periods of an experiment make.

use super::build::{Builder, Origin, Scope, Stage, amount_name};
use super::compiled::{ObservedEvent, Target};
use super::entities::Kind;
use super::system::{AssignmentFormulas, Change, EventFormula, ObservableFormula};
use crate::expr::{Binary, ExprId};
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
            let assignments = self.assignments(&assigned);
            events.push(EventFormula {
                id: event.id.clone().unwrap_or_else(|| format!("<event {}>", number + 1)),
                trigger,
                initial_value: event.initial_value,
                persistent: event.persistent,
                delay,
                priority,
                values_from_trigger_time: event.values_from_trigger_time,
                assignments,
            });
        }
        events
    }

    /// Lowers the event table of `nlme`: crossings of the trigger formula through 0 are events that assign nothing.
    ///
    /// A formula that is beyond 0 in the wanted direction from the start counts as an event there (specification of the
    /// extension, section "Extension tables"); where both directions count, there is no such direction.
    pub(super) fn lower_observed_events(&mut self, events: &mut Vec<EventFormula>) -> Vec<ObservedEvent> {
        let nothing = FxHashMap::default();
        let observed = self.problem.and_then(|p| p.nlme.as_ref()).map_or(&[][..], |nlme| &nlme.events);
        let mut result = Vec::new();
        for event in observed {
            if event.cumulative_hazard.is_some() {
                result.push(ObservedEvent { events: Vec::new(), occurrence: 1 });
                continue;
            }
            let scope = Scope { origin: Origin::Petab(&event.formula.span), local: &nothing, only_local: false, stage: Stage::Running };
            let root = self.lower(&event.formula.ast, scope).unwrap_or_else(|| self.graph.constant(f64::NAN));
            let zero = self.graph.constant(0.0);
            let wanted: &[Binary] = match event.direction {
                petab::Direction::Up => &[Binary::Gt],
                petab::Direction::Down => &[Binary::Lt],
                petab::Direction::Any => &[Binary::Gt, Binary::Lt],
            };
            let first = events.len();
            for comparison in wanted {
                events.push(EventFormula {
                    id: format!("<observed {}>", event.id),
                    trigger: self.graph.binary(*comparison, root, zero),
                    initial_value: event.direction == petab::Direction::Any,
                    persistent: true,
                    delay: None,
                    priority: None,
                    values_from_trigger_time: true,
                    assignments: AssignmentFormulas::default(),
                });
            }
            result.push(ObservedEvent { events: (first..events.len()).collect(), occurrence: event.occurrence as usize });
        }
        result
    }

    /// Adds a state for every event of `nlme` that has a hazard: the integral of the hazard from the start of the experiment. For each there is an
    /// observable with the state as its value and the hazard as its noise.
    pub(super) fn lower_hazards(&mut self) -> Vec<ObservableFormula> {
        let nothing = FxHashMap::default();
        let observed = self.problem.and_then(|p| p.nlme.as_ref()).map_or(&[][..], |nlme| &nlme.events);
        let mut observables = Vec::new();
        for event in observed {
            let Some(state) = &event.cumulative_hazard else { continue };
            let scope = Scope { origin: Origin::Petab(&event.formula.span), local: &nothing, only_local: false, stage: Stage::Running };
            let hazard = self.lower(&event.formula.ast, scope).unwrap_or_else(|| self.graph.constant(f64::NAN));
            self.state_ids.push(state);
            self.rates.push(Some(hazard));
            let value = self.graph.symbol(state);
            observables.push(ObservableFormula { id: state.clone(), value, noise: hazard, placeholders: Vec::new() });
        }
        observables
    }

    /// What simultaneous assignments set of the system. What algebraic rules determine cannot be set.
    ///
    /// A concentration is that in the compartment as it is before the assignments, also where they set its size.
    fn assignments(&mut self, assigned: &[(&str, ExprId)]) -> AssignmentFormulas {
        let mut result = AssignmentFormulas::default();
        let one = self.graph.constant(1.0);
        let mut volumes = Vec::new();
        for (id, value) in assigned {
            let target = match self.kinds.get(id) {
                Some(Kind::State(i)) => Some(Target::State(*i)),
                Some(Kind::Parameter) | None => self.parameters.get_index_of(&self.symbol_name(id)).map(Target::Parameter),
                Some(_) => None,
            };
            let Some(target) = target else { continue };
            let compartment = self.species.get(id).filter(|_| self.amounts.contains_key(&amount_name(id))).map(|s| s.compartment.as_str());
            volumes.push(compartment.and_then(|c| self.entity(c, None)).unwrap_or(one));
            result.targets.push(target);
            result.values.push(*value);
        }
        result.volumes = volumes.iter().any(|v| *v != one).then_some(volumes);
        result
    }

    /// What the changes of a period set. Unlike events, they keep the concentrations of species in a compartment that they resize
    /// (PETAB.md 4.5).
    pub(super) fn period_assignments(&mut self, assigned: &[(&'a str, ExprId)]) -> AssignmentFormulas {
        let mut all = assigned.to_vec();
        let model = self.model;
        for species in &model.species {
            let resized = assigned.iter().any(|a| a.0 == species.compartment) && self.amounts.contains_key(&amount_name(&species.id));
            if resized && !assigned.iter().any(|a| a.0 == species.id) {
                all.extend(self.entity(&species.id, None).map(|value| (species.id.as_str(), value)));
            }
        }
        let mut result = self.assignments(&all);
        for ((id, _), volume) in all.iter().zip(result.volumes.iter_mut().flatten()) {
            let compartment = self.species.get(id).map_or("", |s| s.compartment.as_str());
            if let Some((_, new)) = assigned.iter().find(|a| a.0 == compartment).filter(|_| self.amounts.contains_key(&amount_name(id))) {
                *volume = *new;
            }
        }
        result
    }

    /// Lowers the changes of later periods.
    pub(super) fn lower_changes(&mut self, periods: &'a [petab::Period]) -> Vec<Change> {
        let nothing = FxHashMap::default();
        let mut changes = Vec::new();
        for period in periods {
            let mut assigned: Vec<(&'a str, ExprId)> = Vec::new();
            for c in &period.changes {
                let scope = Scope { origin: Origin::Petab(&c.value.span), local: &nothing, only_local: false, stage: Stage::Running };
                if let Some(value) = self.lower(&c.value.ast, scope) {
                    assigned.push((c.target.as_str(), value));
                }
            }
            let assignments = self.period_assignments(&assigned);
            changes.push(Change { time: period.time, assignments });
        }
        changes
    }
}
