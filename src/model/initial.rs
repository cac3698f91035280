//! Initial values, experiments and observables.

use super::build::{Builder, Initial, Origin, Override, Overrides, Scope, Stage, symbol_of};
use super::entities::Kind;
use super::setup::Setting;
use super::system::{Change, Experiment, ObservableFormula, SetupFormulas};
use crate::diag::Span;
use crate::expr::{Ast, AstKind, ExprId, SymbolId};
use crate::petab;
use crate::sbml;
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

fn overrides_of(period: &petab::Period) -> Overrides<'_> {
    period.changes.iter().map(|c| (c.target.as_str(), Override::Formula(&c.value))).collect()
}

/// Name of the symbol for what conditions put in the place of an entity's initial value.
fn input_name(target: &str) -> String {
    format!("<set {target}>")
}

/// What tells the ways in which experiments begin from each other: the start time, and for each target whether it is an input, else
/// the formula.
type SetupKey<'a> = (u64, Vec<(&'a str, Option<*const petab::Formula>)>);

impl<'a> Builder<'a> {
    /// The value of `name` at the start of the current experiment, as a function of theta.
    ///
    /// What wins: a change of the first period, the parameter table, an assignment rule, an initial assignment, the value in the file
    /// (PETAB.md 3.1 and 4.5).
    pub(super) fn initial_value(&mut self, name: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        if let Some(known) = self.initial.as_ref()?.values.get(name) {
            let known = *known;
            return known.or_else(|| self.circle(name, asked_at));
        }
        // Long chains are lowered from their ends, so that the stack does not grow with them.
        let known = |b: &Self, id: &str| b.initial.as_ref().is_none_or(|i| i.values.contains_key(id));
        for needed in self.needed_first(name, known, Builder::initial_formulas) {
            self.new_initial_value(&needed);
        }
        self.new_initial_value(name)
    }

    /// The formulas that define the initial value of an entity.
    fn initial_formulas(&self, name: &str) -> Vec<&'a Ast> {
        if self.theta.contains(name) || self.initial.as_ref().is_none_or(|i| i.overrides.contains_key(name)) {
            return Vec::new();
        }
        match self.initial_assignments.get(name) {
            Some(assignment) => vec![&assignment.formula],
            None => self.defining_formulas(name),
        }
    }

    fn new_initial_value(&mut self, name: &str) -> Option<ExprId> {
        let initial = self.initial.as_mut()?;
        initial.values.insert(name.to_string(), None);
        let change = initial.overrides.get(name).copied();
        let value = self.find_initial_value(name, change);
        if let Some(initial) = self.initial.as_mut() {
            initial.values.insert(name.to_string(), value);
        }
        value
    }

    fn find_initial_value(&mut self, name: &str, change: Option<Override>) -> Option<ExprId> {
        match change {
            Some(Override::Formula(formula)) => {
                let (origin, local) = (Origin::Petab(&formula.span), &FxHashMap::default());
                return self.lower(&formula.ast, Scope { origin, local, only_local: false, stage: Stage::Initial });
            }
            Some(Override::Input(symbol)) => return Some(symbol),
            None => {}
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
        let number = match model.compartments.iter().find(|c| c.id == name) {
            Some(compartment) if compartment.size.is_none() && self.problem.is_none() => {
                self.defaulted.insert(&compartment.id, 1.0);
                Some(1.0)
            }
            Some(compartment) => compartment.size,
            None => model.parameters.iter().find(|p| p.id == name).and_then(|p| p.value),
        };
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

    fn initial_species(&mut self, species: &'a sbml::Species) -> Option<ExprId> {
        let (number, is_amount) = match (species.initial_amount, species.initial_concentration) {
            (Some(amount), _) => (amount, true),
            (None, Some(concentration)) => (concentration, false),
            // Of a model alone every simulator takes 0 here; in a problem the tables should have said something.
            (None, None) if self.problem.is_none() => {
                self.defaulted.insert(&species.id, 0.0);
                (0.0, self.is_amount(species))
            }
            (None, None) => (f64::NAN, self.is_amount(species)),
        };
        let value = self.graph.constant(number);
        if is_amount == self.is_amount(species) {
            return Some(value);
        }
        let volume = self.initial_value(&species.compartment, Some(&species.span))?;
        Some(if is_amount { self.graph.div(value, volume) } else { self.graph.mul(value, volume) })
    }

    /// All experiments, the ways in which they begin, and the inputs.
    pub(super) fn experiments(&mut self, start: f64) -> (Vec<Experiment>, Vec<SetupFormulas>, Vec<SymbolId>) {
        let Some(problem) = self.problem else {
            let setup = self.setup(start, Overrides::default());
            let experiment = Experiment { id: String::new(), start, equilibration: None, setup: 0, settings: vec![], changes: vec![] };
            return (vec![experiment], vec![setup], vec![]);
        };
        let rows: FxHashMap<&'a str, usize> = problem.parameters.iter().enumerate().map(|(j, p)| (p.id.as_str(), j)).collect();
        // Values before the start are functions of time and theta alone.
        let mut delays = !self.delays.is_empty();
        for assignment in &self.model.initial_assignments {
            assignment.formula.walk(&mut |node| delays |= matches!(node.kind, AstKind::Delay(..)));
        }
        let mut inputs: IndexMap<&'a str, SymbolId> = IndexMap::new();
        let mut setups: IndexMap<SetupKey<'a>, SetupFormulas> = IndexMap::new();
        let mut experiments = Vec::new();
        for e in &problem.experiments {
            let (first, later) = e.periods.split_first().map_or((None, &[][..]), |(f, l)| (Some(f), l));
            let equilibrates = first.is_some_and(|p| p.time == f64::NEG_INFINITY);
            let changes = match (first, later) {
                (Some(first), [period]) if equilibrates && e.conditions.is_some() => {
                    vec![self.condition_after_equilibration(&overrides_of(first), period)]
                }
                _ => self.lower_changes(later),
            };
            let finite = if equilibrates { later.first() } else { first }.map_or(start, |p| p.time);
            let begin = if equilibrates { start } else { finite };
            let mut settings = vec![];
            let mut overrides = Overrides::default();
            let mut key: SetupKey<'a> = (begin.to_bits(), vec![]);
            for change in first.iter().flat_map(|p| &p.changes) {
                let setting = match &change.value.ast.kind {
                    AstKind::Number(value) => Some(Setting::Number(*value)),
                    AstKind::Name(name) => rows.get(name.as_str()).map(|j| Setting::Theta(*j)),
                    _ => None,
                };
                let target = change.target.as_str();
                let Some(setting) = setting.filter(|_| !delays) else {
                    overrides.insert(target, Override::Formula(&change.value));
                    key.1.push((target, Some(&raw const change.value)));
                    continue;
                };
                let name = input_name(target);
                let (input, _) = inputs.insert_full(target, symbol_of(&mut self.graph, &name));
                settings.resize(settings.len().max(input + 1), Setting::Number(f64::NAN));
                settings[input] = setting;
                overrides.insert(target, Override::Input(self.graph.symbol(&name)));
                key.1.push((target, None));
            }
            key.1.sort_unstable();
            let setup = match setups.get_index_of(&key) {
                Some(setup) => setup,
                None => {
                    let setup = self.setup(begin, overrides);
                    setups.insert_full(key, setup).0
                }
            };
            let equilibration = equilibrates.then_some(begin);
            experiments.push(Experiment { id: e.id.clone(), start: finite, equilibration, setup, settings, changes });
        }
        for experiment in &mut experiments {
            experiment.settings.resize(inputs.len(), Setting::Number(f64::NAN));
        }
        (experiments, setups.into_values().collect(), inputs.into_values().collect())
    }

    /// Version 1: what the simulation condition of `period` sets after a pre-equilibration under `before` (PETAB.md 3.7).
    ///
    /// Constants get the values they have under this condition, initial assignments included, also those that only the
    /// pre-equilibration changed; of the states only those that the condition names.
    fn condition_after_equilibration(&mut self, before: &Overrides<'a>, period: &'a petab::Period) -> Change {
        let now = overrides_of(period);
        let named: Vec<&'a str> = period.changes.iter().map(|c| c.target.as_str()).collect();
        let constants = self.kinds.iter().filter(|(id, kind)| **kind == Kind::Parameter && !named.contains(id)).map(|(id, _)| *id);
        let others = before.keys().copied().filter(|id| !self.kinds.contains_key(id) && !named.contains(id));
        let mut ids: Vec<&'a str> = others.collect();
        ids.sort_unstable();
        let ids: Vec<&'a str> = named.iter().copied().chain(constants).chain(ids).collect();
        let [old, new] = [before, &now].map(|overrides| self.initial_values(period.time, overrides.clone(), &ids));
        let assigned: Vec<(&'a str, ExprId)> = ids
            .iter()
            .zip(old.into_iter().zip(new))
            .filter(|(id, (old, new))| named.contains(id) || old != new)
            .filter_map(|(id, (_, new))| Some((*id, new?)))
            .collect();
        Change { time: period.time, assignments: self.period_assignments(&assigned) }
    }

    /// Initial values of some entities as functions of theta.
    fn initial_values(&mut self, start: f64, overrides: Overrides<'a>, ids: &[&str]) -> Vec<Option<ExprId>> {
        self.initial = Some(Initial { start, before: false, overrides, values: FxHashMap::default() });
        let values = ids.iter().map(|id| self.initial_value(id, None)).collect();
        self.initial = None;
        values
    }

    fn setup(&mut self, start: f64, overrides: Overrides<'a>) -> SetupFormulas {
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
        SetupFormulas { parameters, states, before }
    }

    /// The initial value of a state. What algebraic rules determine starts its search at the file's value, or at 1.
    fn initial_state(&mut self, id: &str) -> Option<ExprId> {
        let name = self.symbol_name(id);
        let value = self.initial_of_symbol(&name)?;
        let determined = !self.rate_rules.contains_key(id) && !self.changes_of.contains_key(id);
        let missing = self.defaulted.contains_key(id) || self.graph.constant_value(value).is_some_and(f64::is_nan);
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
