//! Checks of the tables that need the model: names that hide its entities, changes of nothing, parameters without effect, values that
//! are missing.

use super::build::Builder;
use super::compiled::Target;
use super::finish::{driving, used_symbols};
use super::setup::Setting;
use super::system::OdeSystem;
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::{Ast, AstKind, ExprId, SymbolId};
use crate::petab::{DataKind, Override, Problem, TableValue};
use rustc_hash::FxHashSet;

impl Builder<'_> {
    /// Reports observables and placeholders with the name of a model entity, and changes of what neither the model nor a formula knows.
    pub(super) fn check_names(&mut self) {
        let Some(problem) = self.problem else { return };
        for observable in &problem.observables {
            let placeholders = observable.observable_placeholders.iter().chain(&observable.noise_placeholders);
            let names = placeholders.map(|id| ("a placeholder", id)).chain([("an observable", &observable.id)]);
            for (what, id) in names.filter(|(_, id)| self.kinds.contains_key(id.as_str())) {
                let mut diagnostic = Diagnostic::error("M0206", format!("`{id}` is the name of {what} and of a model entity"))
                    .at(&observable.span, if what == "an observable" { "this observable" } else { "a placeholder of this observable" })
                    .help("rename it: formulas could mean either");
                if let Some(span) = self.model_span(id) {
                    diagnostic = diagnostic.also(&span, "the model entity");
                }
                self.diagnostics.push(diagnostic);
            }
        }
        let used = names_in_formulas(problem);
        for parameter in problem.parameters.iter().filter(|p| !self.kinds.contains_key(p.id.as_str()) && !used.contains(p.id.as_str())) {
            if let Some(help) = self.local_parameter(&parameter.id) {
                self.diagnostics.push(
                    Diagnostic::error("M0207", format!("`{}` of the parameter table is a local parameter of the model", parameter.id))
                        .at(&parameter.span, "expected a global parameter")
                        .help(help),
                );
            }
        }
        let mut changes = problem.experiments.iter().flat_map(|e| &e.periods).flat_map(|p| &p.changes);
        let mut unknown = FxHashSet::default();
        let unknown: Vec<_> = changes
            .by_ref()
            .filter(|c| !self.kinds.contains_key(c.target.as_str()) && !used.contains(c.target.as_str()))
            .filter(|c| unknown.insert(c.target.as_str()))
            .collect();
        for change in unknown {
            let known = self.kinds.keys().copied().chain(used.iter().copied()).filter(|id| *id != change.target);
            let mut diagnostic = Diagnostic::error("M0205", format!("a condition changes `{}`, which does not exist", change.target))
                .at(&change.span, "neither an entity of the model nor used by a formula of the tables");
            diagnostic = match self.local_parameter(&change.target) {
                Some(help) => diagnostic.help(help),
                None => diagnostic.suggest(&change.target, known),
            };
            self.diagnostics.push(diagnostic);
        }
    }

    /// What to say of a name that is a parameter of a reaction only.
    pub(super) fn local_parameter(&self, id: &str) -> Option<String> {
        let reaction = self.model.reactions.iter().find(|r| r.local_parameters.iter().any(|p| p.id == id))?;
        Some(format!(
            "the model's `{id}` is a local parameter, which nothing but the reaction `{}` sees; make it a global one",
            reaction.id
        ))
    }

    /// Rows of the parameter table on which nothing depends: estimated ones, and those that are not in the model either.
    pub(super) fn unused_parameters(&self, system: &OdeSystem) -> Vec<usize> {
        let Some(problem) = self.problem else { return Vec::new() };
        let mut used = used_symbols(system);
        let graph = &system.graph;
        let mut roots: Vec<ExprId> = Vec::new();
        roots.extend(system.invariants.iter().flat_map(|i| i.directions.iter().map(|d| d.1).chain([i.residual])));
        roots.extend(system.delays.iter().flat_map(|d| [d.value, d.delay]));
        let changes = system.experiments.iter().flat_map(|e| &e.changes).map(|c| &c.assignments);
        for assignments in changes.chain(system.events.iter().map(|e| &e.assignments)) {
            roots.extend(assignments.values.iter().chain(assignments.volumes.iter().flatten()));
        }
        roots.extend(system.events.iter().flat_map(|e| e.delay.iter().chain(&e.priority)));
        roots.extend(system.setups.iter().flat_map(|s| s.states.iter().chain(&s.before)));
        used.extend(graph.symbols_of(&roots));
        let mut named = names_elsewhere(problem);
        for setting in system.experiments.iter().flat_map(|e| &e.settings) {
            if let Setting::Theta(j) = setting {
                named.insert(&problem.parameters[*j].id);
            }
        }
        used.extend(system.parameters.iter().filter(|p| named.contains(p.id.as_str())).map(|p| p.symbol));
        // What the values of used constants are computed from is used too; theta stands for itself.
        let mut open: Vec<usize> = (0..system.parameters.len()).collect();
        loop {
            let (found, rest): (Vec<usize>, Vec<usize>) = open.into_iter().partition(|j| used.contains(&system.parameters[*j].symbol));
            if found.is_empty() {
                break;
            }
            open = rest;
            let values: Vec<ExprId> = found.iter().flat_map(|j| system.setups.iter().map(|s| s.parameters[*j])).collect();
            used.extend(graph.symbols_of(&values));
        }
        (problem.parameters.iter().zip(&system.parameters).enumerate())
            .filter(|(_, (p, held))| !used.contains(&held.symbol) && (p.estimate || !self.kinds.contains_key(p.id.as_str())))
            .map(|(j, _)| j)
            .collect()
    }

    /// Reports what the equations need and what has no value in some experiment.
    pub(super) fn report_missing_values(&mut self, system: &OdeSystem) {
        let used = used_symbols(system);
        let driving: FxHashSet<SymbolId> = system.graph.symbols_of(&driving(system)).into_iter().collect();
        let missing = |e: ExprId| system.graph.constant_value(e).is_some_and(f64::is_nan);
        for (number, setup) in system.setups.iter().enumerate() {
            // During a pre-equilibration nothing is observed.
            let mut set_later: Option<FxHashSet<SymbolId>> = None;
            for experiment in system.experiments.iter().filter(|e| e.setup == number) {
                let changes = experiment.equilibration.and(experiment.changes.first());
                let set: FxHashSet<SymbolId> = (changes.into_iter().flat_map(|c| &c.assignments.targets))
                    .filter_map(|t| if let Target::Parameter(j) = t { Some(system.parameters[*j].symbol) } else { None })
                    .collect();
                set_later = Some(set_later.map_or_else(|| set.clone(), |old| &old & &set));
            }
            let set_later = set_later.unwrap_or_default();
            let unset = (system.parameters.iter().zip(&setup.parameters).map(|(p, e)| (&p.id, p.symbol, *e)))
                .chain(system.states.iter().zip(&setup.states).map(|(s, e)| (&s.id, s.symbol, *e)));
            for (id, symbol, value) in unset {
                let is_flag = id.starts_with('<');
                let needed = driving.contains(&symbol) || (used.contains(&symbol) && !set_later.contains(&symbol));
                if needed && missing(value) && !is_flag && self.reported.insert(format!("missing {id}")) {
                    let experiment = system.experiments.iter().find(|e| e.setup == number);
                    self.missing_value(id, experiment.map_or("", |e| e.id.as_str()));
                }
            }
        }
    }

    fn missing_value(&mut self, id: &str, experiment: &str) {
        let changes = self.problem.iter().flat_map(|p| &p.experiments).flat_map(|e| &e.periods).flat_map(|p| &p.changes);
        let set_elsewhere = changes.into_iter().find(|c| c.target == id).map(|c| c.span.clone());
        let place = if experiment.is_empty() { String::new() } else { format!(" in the experiment `{experiment}`") };
        let mut diagnostic = Diagnostic::error("M0204", format!("`{id}` has no value{place}"))
            .help("give it a value in the model, an initial assignment, the parameter table or the condition table");
        match (self.model_span(id), set_elsewhere) {
            (Some(span), other) => {
                diagnostic = diagnostic.at(&span, "used by the equations");
                if let Some(other) = other {
                    diagnostic = diagnostic.also(&other, "set by some conditions only");
                }
            }
            (None, Some(other)) => diagnostic = diagnostic.at(&other, "set by some conditions only"),
            (None, None) => {}
        }
        self.diagnostics.push(diagnostic);
    }

    /// Where the model defines an entity.
    pub(super) fn model_span(&self, id: &str) -> Option<Span> {
        let model = self.model;
        (model.species.iter().find(|s| s.id == id).map(|s| &s.span))
            .or_else(|| model.parameters.iter().find(|p| p.id == id).map(|p| &p.span))
            .or_else(|| model.compartments.iter().find(|c| c.id == id).map(|c| &c.span))
            .or_else(|| model.reactions.iter().find(|r| r.id == id).map(|r| &r.span))
            .cloned()
    }
}

/// Warns of rows of the parameter table that are without effect in every model. libpetab refuses those that are in no model either; here
/// they are harmless: an estimated one stays in the vector of parameters with gradient 0.
pub fn report_unused_parameters(problem: &Problem, systems: &[&OdeSystem], d: &mut Diagnostics) {
    if problem.parts().all(|p| p.measurements.is_empty()) {
        return;
    }
    let everywhere = |j: &usize| systems.iter().all(|s| s.unused.contains(j));
    let unused: Vec<_> = (0..problem.parameters.len()).filter(everywhere).map(|j| &problem.parameters[j]).collect();
    let Some(first) = unused.first() else { return };
    let message = match unused.len() {
        1 => format!("no measurement depends on the parameter `{}`", first.id),
        count => format!("no measurement depends on {count} parameters of the parameter table"),
    };
    let others: Vec<String> = unused.iter().skip(1).take(8).map(|p| format!("`{}`", p.id)).collect();
    let more = if unused.len() > 9 { ", ..." } else { "" };
    let label = if others.is_empty() { "without effect".to_string() } else { format!("without effect, like {}{more}", others.join(", ")) };
    let mut diagnostic = Diagnostic::warning("M0803", message).at(&first.span, label);
    if unused.iter().any(|p| p.estimate) {
        diagnostic = diagnostic.help("the data say nothing of it; other tools may refuse such a problem");
    }
    d.push(diagnostic);
}

/// Names in the formulas of the tables and in the overrides of measurements.
fn names_in_formulas(problem: &Problem) -> FxHashSet<&str> {
    let observables = problem.observables.iter().flat_map(|o| [&o.formula, &o.noise]);
    let changes = problem.experiments.iter().flat_map(|e| &e.periods).flat_map(|p| &p.changes).map(|c| &c.value);
    let events = problem.nlme.iter().flat_map(|n| &n.events).map(|e| &e.formula);
    let mut names = names_elsewhere(problem);
    for formula in observables.chain(changes).chain(events) {
        add_names(&formula.ast, &mut names);
    }
    names
}

fn add_names<'a>(ast: &'a Ast, names: &mut FxHashSet<&'a str>) {
    ast.walk(&mut |node| {
        if let AstKind::Name(name) = &node.kind {
            names.insert(name);
        }
    });
}

/// What overrides and the tables of `nlme` name; the formulas of its events and statistics included, as they are evaluated apart.
fn names_elsewhere(problem: &Problem) -> FxHashSet<&str> {
    let mut names = FxHashSet::default();
    for m in &problem.measurements {
        let sd = match &m.kind {
            DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => s.sd.as_ref(),
            _ => None,
        };
        for value in m.observable_parameters.iter().chain(&m.noise_parameters).chain(sd) {
            if let Override::Id(id, _) = value {
                names.insert(id.as_str());
            }
        }
    }
    let Some(nlme) = &problem.nlme else { return names };
    for formula in nlme.events.iter().map(|e| &e.formula).chain(nlme.statistics.iter().map(|s| &s.formula)) {
        add_names(&formula.ast, &mut names);
    }
    let classes = nlme.subpopulations.iter().flat_map(|s| s.probability.iter().chain(s.values.iter().map(|(_, value)| value)));
    for value in nlme.covariance.iter().map(|entry| &entry.value).chain(classes) {
        if let TableValue::Parameter(j) = value {
            names.insert(&problem.parameters[*j].id);
        }
    }
    names
}
