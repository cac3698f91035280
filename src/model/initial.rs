//! Initial values, experiments and observables.

use super::build::{Builder, Initial, Origin, Scope, Stage};
use super::entities::Kind;
use super::system::{Change, Experiment, ObservableFormula};
use crate::diag::{Diagnostic, Span};
use crate::expr::ExprId;
use crate::petab;
use crate::sbml;
use rustc_hash::FxHashMap;

impl<'a> Builder<'a> {
    /// The value of `name` at the start of the current experiment, as a function of theta.
    ///
    /// What wins: a change of the first period, the parameter table, an assignment rule, an initial assignment, the value in the file
    /// (PETAB.md 3.1 and 4.5).
    pub(super) fn initial_value(&mut self, name: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        let initial = self.initial.as_mut()?;
        if let Some(known) = initial.values.get(name) {
            let known = *known;
            return known.or_else(|| self.circle(name, asked_at));
        }
        initial.values.insert(name.to_string(), None);
        let change = initial.overrides.get(name).copied();
        let value = self.find_initial_value(name, change);
        if let Some(initial) = self.initial.as_mut() {
            initial.values.insert(name.to_string(), value);
        }
        value
    }

    fn find_initial_value(&mut self, name: &str, change: Option<&petab::Formula>) -> Option<ExprId> {
        if let Some(formula) = change {
            let (origin, local) = (Origin::Petab(&formula.span), &FxHashMap::default());
            return self.lower(&formula.ast, Scope { origin, local, only_local: false, stage: Stage::Initial });
        }
        if self.theta.contains(name) {
            return Some(self.graph.symbol(name));
        }
        match self.kinds.get(name) {
            Some(Kind::Assigned | Kind::Reaction) => return self.definition(name, Stage::Initial),
            Some(Kind::Solved(_)) => {
                let value = self.entity(name, None)?;
                return self.at_start(value);
            }
            _ => {}
        }
        if let Some(assignment) = self.initial_assignments.get(name).copied() {
            return self.lower_sbml(&assignment.formula, &assignment.span, Stage::Initial);
        }
        if let Some(reference) = self.references.get(name).copied() {
            return self.stoichiometry(reference, Stage::Initial);
        }
        if let Some(species) = self.species.get(name).copied() {
            return self.initial_species(species);
        }
        let model = self.model;
        let number = (model.parameters.iter().find(|p| p.id == name).map(|p| p.value))
            .or_else(|| model.compartments.iter().find(|c| c.id == name).map(|c| c.size))
            .flatten();
        Some(self.graph.constant(number.unwrap_or(f64::NAN)))
    }

    /// The initial value of what stands in a symbol of the system.
    pub(super) fn initial_of_symbol(&mut self, name: &str) -> Option<ExprId> {
        if let Some(id) = self.amounts.get(name).copied() {
            let species = self.species.get(id).copied()?;
            let concentration = self.initial_value(id, None)?;
            let volume = self.initial_value(&species.compartment, Some(&species.span))?;
            return Some(self.graph.mul(concentration, volume));
        }
        if name.starts_with('<') {
            // Flags and delayed values are set by the integrator.
            return Some(self.graph.constant(0.0));
        }
        self.initial_value(name, None)
    }

    fn initial_species(&mut self, species: &sbml::Species) -> Option<ExprId> {
        let (number, is_amount) = match (species.initial_amount, species.initial_concentration) {
            (Some(amount), _) => (amount, true),
            (None, Some(concentration)) => (concentration, false),
            (None, None) => (f64::NAN, self.is_amount(species)),
        };
        let value = self.graph.constant(number);
        if is_amount == self.is_amount(species) {
            return Some(value);
        }
        let volume = self.initial_value(&species.compartment, Some(&species.span))?;
        Some(if is_amount { self.graph.div(value, volume) } else { self.graph.mul(value, volume) })
    }

    pub(super) fn experiments(&mut self, start: f64) -> Vec<Experiment> {
        let Some(problem) = self.problem else {
            return vec![self.experiment(String::new(), start, FxHashMap::default(), Vec::new())];
        };
        let mut experiments = Vec::new();
        for e in &problem.experiments {
            let (first, later) = e.periods.split_first().map_or((None, &[][..]), |(f, l)| (Some(f), l));
            if let Some(period) = first.filter(|p| !p.time.is_finite()) {
                let mut diagnostic = Diagnostic::error(
                    "M0902",
                    format!("experiment `{}` begins with a steady state (pre-equilibration), which is not supported yet", e.id),
                );
                if let Some(change) = period.changes.first() {
                    diagnostic = diagnostic.at(&change.span, "applied during pre-equilibration");
                }
                self.diagnostics.push(diagnostic);
                continue;
            }
            let overrides = first.map(|p| p.changes.iter().map(|c| (c.target.as_str(), &c.value)).collect()).unwrap_or_default();
            let changes = self.lower_changes(later);
            experiments.push(self.experiment(e.id.clone(), first.map_or(start, |p| p.time), overrides, changes));
        }
        experiments
    }

    fn experiment(
        &mut self,
        id: String,
        start: f64,
        overrides: FxHashMap<&'a str, &'a petab::Formula>,
        changes: Vec<Change>,
    ) -> Experiment {
        self.initial = Some(Initial { start, before: false, overrides, values: FxHashMap::default() });
        let nan = self.graph.constant(f64::NAN);
        let names: Vec<String> = self.parameters.iter().cloned().collect();
        let parameters = names.iter().map(|name| self.initial_of_symbol(name).unwrap_or(nan)).collect();
        let states = (0..self.state_ids.len()).map(|i| self.initial_state(self.state_ids[i]).unwrap_or(nan)).collect();
        let mut before = Vec::new();
        // A quantity before the start can be delayed itself.
        while before.len() < self.pasts.len() {
            let value = self.before(before.len()).unwrap_or(nan);
            before.push(value);
        }
        self.initial = None;
        Experiment { id, start, parameters, states, changes, before }
    }

    /// The initial value of a state. What algebraic rules determine starts its search at the file's value, or at 1.
    fn initial_state(&mut self, id: &str) -> Option<ExprId> {
        let name = self.symbol_name(id);
        let value = self.initial_of_symbol(&name)?;
        let determined = !self.rate_rules.contains_key(id) && !self.changes_of.contains_key(id);
        let missing = self.graph.constant_value(value).is_some_and(f64::is_nan);
        Some(if determined && missing { self.graph.constant(1.0) } else { value })
    }

    pub(super) fn lower_observables(&mut self) -> Vec<ObservableFormula> {
        let nan = self.graph.constant(f64::NAN);
        let mut observables = Vec::new();
        let problem = self.problem;
        for o in problem.iter().flat_map(|p| &p.observables) {
            let mut local = FxHashMap::default();
            let mut placeholders = Vec::new();
            for name in o.observable_placeholders.iter().chain(&o.noise_placeholders) {
                // Placeholders belong to one observable, so the observable's name is part of the symbol's.
                let symbol = self.graph.symbol(&format!("<{} of {}>", name, o.id));
                placeholders.extend(self.graph.symbol_id(symbol));
                local.insert(name.clone(), symbol);
            }
            let scope = Scope { origin: Origin::Petab(&o.formula.span), local: &local, only_local: false, stage: Stage::Running };
            let value = self.lower(&o.formula.ast, scope).unwrap_or(nan);
            local.insert(o.id.clone(), value);
            let scope = Scope { origin: Origin::Petab(&o.noise.span), local: &local, only_local: false, stage: Stage::Running };
            let noise = self.lower(&o.noise.ast, scope).unwrap_or(nan);
            observables.push(ObservableFormula { id: o.id.clone(), value, noise, placeholders });
        }
        observables
    }
}
