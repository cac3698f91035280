//! The last steps: what is the same number everywhere is folded, and what is missing is reported.

use super::build::Builder;
use super::compiled::Target;
use super::system::OdeSystem;
use crate::diag::{Diagnostic, Span};
use crate::expr::{ExprId, SymbolId};
use crate::petab;
use rustc_hash::{FxHashMap, FxHashSet};

impl Builder<'_> {
    /// Folds constants, marks what derivatives are needed for, and reports what is missing.
    pub(super) fn finish(&mut self, system: &mut OdeSystem) {
        self.report_defaults(system);
        let keep = self.named_by_overrides();
        fold_constants(system, &keep);
        mark_active(system);
        self.report_missing_values(system);
        self.report_unsupported();
    }

    /// Says which values are taken that the model does not give and the equations use.
    fn report_defaults(&mut self, system: &OdeSystem) {
        let used = used_symbols(system);
        let defaulted: Vec<(&str, f64)> = self.defaulted.iter().map(|(id, value)| (*id, *value)).collect();
        let mut taken: Vec<(&str, f64)> =
            defaulted.into_iter().filter(|(id, _)| system.graph.find(&self.symbol_name(id)).is_some_and(|s| used.contains(&s))).collect();
        taken.sort_by_key(|t| t.0);
        if let [(id, value), others @ ..] = taken.as_slice() {
            let more = if others.is_empty() { String::new() } else { format!(", and {} others likewise", others.len()) };
            let mut diagnostic = Diagnostic::warning("M0802", format!("`{id}` has no value; {value} is taken{more}"))
                .help("give it a value or an initial assignment");
            if let Some(span) = self.model_span(id) {
                diagnostic = diagnostic.at(&span, "used by the equations");
            }
            self.diagnostics.push(diagnostic);
        }
    }

    /// Parameters that measurement rows or the extension's tables name, which therefore keep their place.
    fn named_by_overrides(&mut self) -> FxHashSet<String> {
        let mut names = FxHashSet::default();
        let Some(problem) = self.problem else { return names };
        for m in &problem.measurements {
            for o in m.observable_parameters.iter().chain(&m.noise_parameters) {
                if let petab::Override::Id(id, span) = o {
                    if !self.parameters.contains(id) && self.reported.insert(format!("override {id}")) {
                        self.diagnostics.push(
                            Diagnostic::error("M0203", format!("the override `{id}` is not a parameter"))
                                .at(span, "neither in the parameter table nor a constant of the model")
                                .suggest(id, self.parameters.iter().map(String::as_str)),
                        );
                    }
                    names.insert(id.clone());
                }
            }
        }
        names
    }

    /// What the tables ask for and this version cannot do.
    fn report_unsupported(&mut self) {
        let Some(problem) = self.problem else { return };
        if let Some(m) = problem.measurements.iter().find(|m| m.time == f64::INFINITY) {
            self.diagnostics.push(
                Diagnostic::error("M0903", "measurements of a steady state (time `inf`) are not supported yet")
                    .at(&m.span, "first of them"),
            );
        }
    }

    fn report_missing_values(&mut self, system: &OdeSystem) {
        let used = used_symbols(system);
        let missing = |e: ExprId| system.graph.constant_value(e).is_some_and(f64::is_nan);
        for experiment in &system.experiments {
            let unset = (system.parameters.iter().zip(&experiment.parameters).map(|(p, e)| (&p.id, p.symbol, *e)))
                .chain(system.states.iter().zip(&experiment.states).map(|(s, e)| (&s.id, s.symbol, *e)));
            for (id, symbol, value) in unset {
                let is_flag = id.starts_with('<');
                if used.contains(&symbol) && missing(value) && !is_flag && self.reported.insert(format!("missing {id}")) {
                    let mut diagnostic = Diagnostic::error("M0204", format!("`{id}` has no value"))
                        .help("give it a value in the model, an initial assignment, the parameter table or the condition table");
                    if let Some(span) = self.model_span(id) {
                        diagnostic = diagnostic.at(&span, "used by the equations");
                    }
                    self.diagnostics.push(diagnostic);
                }
            }
        }
    }

    fn model_span(&self, id: &str) -> Option<Span> {
        let model = self.model;
        (model.species.iter().find(|s| s.id == id).map(|s| &s.span))
            .or_else(|| model.parameters.iter().find(|p| p.id == id).map(|p| &p.span))
            .or_else(|| model.compartments.iter().find(|c| c.id == id).map(|c| &c.span))
            .cloned()
    }
}

/// Substitutes parameters that are the same number in every experiment and never change, and removes them.
fn fold_constants(system: &mut OdeSystem, keep: &FxHashSet<String>) {
    let changes = system.experiments.iter().flat_map(|e| &e.changes).flat_map(|c| &c.assignments.targets);
    let changed = changes.chain(system.events.iter().flat_map(|e| &e.assignments.targets));
    let changed: FxHashSet<usize> = (changed.filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None }))
        .chain(system.switches.iter().map(|s| s.flag))
        .chain(system.delays.iter().map(|d| d.parameter))
        .collect();
    let mut values = FxHashMap::default();
    let mut stays = vec![true; system.parameters.len()];
    for (j, stays) in stays.iter_mut().enumerate().skip(system.theta) {
        if changed.contains(&j) || keep.contains(&system.parameters[j].id) {
            continue;
        }
        let Some(first) = system.experiments.first().map(|e| e.parameters[j]) else { continue };
        let same_everywhere = system.experiments.iter().all(|e| e.parameters[j] == first);
        if same_everywhere && system.graph.constant_value(first).is_some_and(|v| !v.is_nan()) {
            values.insert(system.parameters[j].symbol, first);
            *stays = false;
        }
    }
    let new_index: Vec<usize> = stays
        .iter()
        .scan(0, |n, s| {
            let i = *n;
            *n += usize::from(*s);
            Some(i)
        })
        .collect();
    system.substitute(&values);
    system.switches.iter_mut().for_each(|s| s.flag = new_index[s.flag]);
    system.delays.iter_mut().for_each(|d| d.parameter = new_index[d.parameter]);
    for e in &mut system.experiments {
        let mut j = 0;
        e.parameters.retain(|_| {
            j += 1;
            stays[j - 1]
        });
    }
    let changes = system.experiments.iter_mut().flat_map(|e| &mut e.changes).flat_map(|c| &mut c.assignments.targets);
    for target in changes.chain(system.events.iter_mut().flat_map(|e| &mut e.assignments.targets)) {
        if let Target::Parameter(j) = target {
            *j = new_index[*j];
        }
    }
    let mut j = 0;
    system.parameters.retain(|_| {
        j += 1;
        stays[j - 1]
    });
}

/// Marks the parameters that can depend on an estimated one.
fn mark_active(system: &mut OdeSystem) {
    let estimated: FxHashSet<SymbolId> = (0..system.theta).filter(|j| system.estimated[*j]).map(|j| system.parameters[j].symbol).collect();
    let graph = &system.graph;
    if !estimated.is_empty() {
        let set = system
            .events
            .iter()
            .flat_map(|e| &e.assignments.targets)
            .filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None });
        for j in set.chain(system.delays.iter().map(|d| d.parameter)) {
            system.parameters[j].active = true;
        }
    }
    for e in &system.experiments {
        for (p, value) in system.parameters.iter_mut().zip(&e.parameters) {
            p.active |= graph.symbols_of(&[*value]).iter().any(|s| estimated.contains(s));
        }
        if !estimated.is_empty() {
            for t in e.changes.iter().flat_map(|c| &c.assignments.targets) {
                if let Target::Parameter(j) = t {
                    system.parameters[*j].active = true;
                }
            }
        }
    }
}

/// The symbols on which rates, observables, switches and triggers depend.
fn used_symbols(system: &OdeSystem) -> FxHashSet<SymbolId> {
    let used: Vec<ExprId> = system
        .states
        .iter()
        .map(|s| s.rate)
        .chain(system.observables.iter().flat_map(|o| [o.value, o.noise]))
        .chain(system.switches.iter().map(|s| s.root))
        .chain(system.events.iter().map(|e| e.trigger))
        .collect();
    system.graph.symbols_of(&used).into_iter().collect()
}
