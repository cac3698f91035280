//! The last steps: what is the same number everywhere is folded, and what is missing is reported.

use super::build::Builder;
use super::compiled::Target;
use super::conservation::conserved;
use super::setup::Setting;
use super::system::OdeSystem;
use crate::diag::Diagnostic;
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
        let at_infinity = self.problem.is_some_and(|p| p.measurements.iter().any(|m| m.time == f64::INFINITY));
        if at_infinity || system.experiments.iter().any(|e| e.equilibration.is_some()) {
            system.conserved = conserved(system);
        }
        // What could not be read has no value and no effect, which needs no further words.
        if !self.diagnostics.has_errors() {
            self.report_missing_values(system);
            system.unused = self.unused_parameters(system);
        }
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
}

/// What stands in an input in the experiments that begin alike.
#[derive(Debug, Clone, Default)]
struct Settings {
    /// The distinct numbers; of more than one only two.
    numbers: Vec<f64>,
    /// The rows of theta.
    rows: FxHashSet<usize>,
}

impl Settings {
    /// The number that stands there in all of them.
    fn number(&self) -> Option<f64> {
        if self.rows.is_empty() && self.numbers.len() == 1 { self.numbers.first().copied() } else { None }
    }
}

/// For each setup and input what stands there.
fn settings_by_setup(system: &OdeSystem) -> Vec<Vec<Settings>> {
    let mut all = vec![vec![Settings::default(); system.inputs.len()]; system.setups.len()];
    for experiment in &system.experiments {
        for (known, setting) in all[experiment.setup].iter_mut().zip(&experiment.settings) {
            match *setting {
                Setting::Number(v) if known.numbers.len() < 2 && !known.numbers.iter().any(|n| n.to_bits() == v.to_bits()) => {
                    known.numbers.push(v)
                }
                Setting::Number(_) => {}
                Setting::Theta(j) => {
                    known.rows.insert(j);
                }
            }
        }
    }
    all
}

/// Substitutes parameters that are the same number in every experiment and never change, and removes them.
fn fold_constants(system: &mut OdeSystem, keep: &FxHashSet<String>) {
    let changes = system.experiments.iter().flat_map(|e| &e.changes).flat_map(|c| &c.assignments.targets);
    let changed = changes.chain(system.events.iter().flat_map(|e| &e.assignments.targets));
    let changed: FxHashSet<usize> = (changed.filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None }))
        .chain(system.switches.iter().map(|s| s.flag))
        .chain(system.delays.iter().map(|d| d.parameter))
        .collect();
    let inputs = settings_by_setup(system);
    let mut values = FxHashMap::default();
    let mut stays = vec![true; system.parameters.len()];
    for (j, stays) in stays.iter_mut().enumerate().skip(system.theta) {
        if changed.contains(&j) || keep.contains(&system.parameters[j].id) {
            continue;
        }
        let mut numbers = system.setups.iter().zip(&inputs).map(|(setup, inputs)| {
            let value = setup.parameters[j];
            let input = system.graph.symbol_id(value).and_then(|s| system.inputs.iter().position(|i| *i == s));
            input.map_or_else(|| system.graph.constant_value(value), |k| inputs[k].number())
        });
        let Some(first) = numbers.next().flatten().filter(|v| !v.is_nan()) else { continue };
        if numbers.all(|v| v == Some(first)) {
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
    let values = values.into_iter().map(|(symbol, v)| (symbol, system.graph.constant(v))).collect();
    system.substitute(&values);
    system.switches.iter_mut().for_each(|s| s.flag = new_index[s.flag]);
    system.delays.iter_mut().for_each(|d| d.parameter = new_index[d.parameter]);
    for e in &mut system.setups {
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

/// Marks the parameters that can depend on a varying one.
fn mark_active(system: &mut OdeSystem) {
    let varying: FxHashSet<SymbolId> = (0..system.theta).filter(|j| system.varying[*j]).map(|j| system.parameters[j].symbol).collect();
    let graph = &system.graph;
    if !varying.is_empty() {
        let set = system
            .events
            .iter()
            .flat_map(|e| &e.assignments.targets)
            .filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None });
        for j in set.chain(system.delays.iter().map(|d| d.parameter)) {
            system.parameters[j].active = true;
        }
    }
    for (setup, inputs) in system.setups.iter().zip(&settings_by_setup(system)) {
        let moving = system.inputs.iter().zip(inputs).filter(|(_, s)| s.rows.iter().any(|j| system.varying[*j])).map(|(i, _)| *i);
        let moving: FxHashSet<SymbolId> = moving.chain(varying.iter().copied()).collect();
        for (p, value) in system.parameters.iter_mut().zip(&setup.parameters) {
            p.active |= graph.symbols_of(&[*value]).iter().any(|s| moving.contains(s));
        }
    }
    // What a change sets to a number, or to what cannot depend on a varying parameter, has no derivative.
    let states: FxHashSet<SymbolId> = system.states.iter().map(|s| s.symbol).collect();
    let changes = || system.experiments.iter().flat_map(|e| &e.changes).map(|c| &c.assignments);
    loop {
        let moving: FxHashSet<SymbolId> =
            system.parameters.iter().filter(|p| p.active).map(|p| p.symbol).chain(states.iter().copied()).collect();
        let moves = |e: &ExprId| !varying.is_empty() && graph.symbols_of(&[*e]).iter().any(|s| moving.contains(s));
        let found: Vec<usize> = changes()
            .flat_map(|a| a.targets.iter().zip(&a.values).zip(a.volumes.iter().flatten().map(Some).chain(std::iter::repeat(None))))
            .filter(|((_, value), volume)| moves(value) || volume.is_some_and(&moves))
            .filter_map(|((t, _), _)| if let Target::Parameter(j) = t { Some(*j) } else { None })
            .filter(|j| !system.parameters[*j].active)
            .collect();
        if found.is_empty() {
            return;
        }
        found.into_iter().for_each(|j| system.parameters[j].active = true);
    }
}

/// Rates, switches and triggers.
pub(super) fn driving(system: &OdeSystem) -> Vec<ExprId> {
    let rates = system.states.iter().map(|s| s.rate);
    rates.chain(system.switches.iter().map(|s| s.root)).chain(system.events.iter().map(|e| e.trigger)).collect()
}

/// The symbols on which rates, observables, switches and triggers depend.
pub(super) fn used_symbols(system: &OdeSystem) -> FxHashSet<SymbolId> {
    let mut used = driving(system);
    used.extend(system.observables.iter().flat_map(|o| [o.value, o.noise]));
    system.graph.symbols_of(&used).into_iter().collect()
}
