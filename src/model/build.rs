//! Marries an SBML model and a PEtab problem into one [`OdeSystem`].
//!
//! Order of work: classify the entities, lower assignment rules and rates into the graph, replace comparisons that switch a
//! rate by flags, resolve the initial values of every experiment, lower the observables, and fold what is the same number everywhere.

use super::compiled::Target;
use super::system::{Change, Experiment, ObservableFormula, OdeSystem, Parameter, SpeciesUnit, State, SwitchRoot};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::{Ast, AstKind, Binary, ExprId, Graph, Node, SymbolId};
use crate::petab::{self, Problem};
use crate::sbml::{self, Model};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxHashMap, FxHashSet};

/// Name of the time symbol; no SBML or PEtab identifier can be spelled like this.
const TIME: &str = "<time>";

/// Builds the system. Without a problem there is one experiment, "the model as it is", that starts at `start`.
/// Everything wrong is reported; `None` if there was an error.
pub fn build(model: &Model, problem: Option<&Problem>, start: f64, diagnostics: &mut Diagnostics) -> Option<OdeSystem> {
    let errors_before = diagnostics.count(crate::diag::Severity::Error);
    let mut builder = Builder::new(model, problem, diagnostics);
    let system = builder.run(start);
    (diagnostics.count(crate::diag::Severity::Error) == errors_before).then_some(system)
}

/// Where a formula stands, to place messages.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// Ranges of the tree are byte ranges of the SBML file.
    Sbml,
    /// Ranges count from the start of this table cell.
    Petab(&'a Span),
}

/// What names mean inside a formula.
#[derive(Clone, Copy)]
struct Scope<'a> {
    origin: Origin<'a>,
    /// Function arguments, local parameters, placeholders: looked up first.
    local: &'a FxHashMap<String, ExprId>,
    /// Inside a function definition only the arguments are visible.
    only_local: bool,
    stage: Stage,
}

/// At which point of an experiment a formula is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// During integration: names are states, parameters and assignment rules of (t, x, p).
    Running,
    /// Before integration: names are initial values as functions of theta.
    Initial,
}

/// The initial values of one experiment as they are found.
struct Initial<'a> {
    start: f64,
    overrides: FxHashMap<&'a str, &'a petab::Formula>,
    values: FxHashMap<String, Option<ExprId>>,
}

/// Kinds of model entities.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    State(usize),
    Parameter,
    Assigned,
    Reaction,
    Stoichiometry(f64),
}

struct Builder<'a> {
    model: &'a Model,
    problem: Option<&'a Problem>,
    diagnostics: &'a mut Diagnostics,
    graph: Graph,
    time: SymbolId,
    kinds: IndexMap<&'a str, Kind>,
    rules: FxHashMap<&'a str, &'a sbml::Assignment>,
    rate_rules: FxHashMap<&'a str, &'a sbml::Assignment>,
    initial_assignments: FxHashMap<&'a str, &'a sbml::Assignment>,
    species: FxHashMap<&'a str, &'a sbml::Species>,
    functions: FxHashMap<&'a str, &'a sbml::FunctionDefinition>,
    theta: FxHashSet<&'a str>,
    parameters: IndexSet<String>,
    state_ids: Vec<&'a str>,
    /// Lowered assignment rules and reaction rates; `None` while being lowered (to find circles) or after an error.
    running: FxHashMap<String, Option<ExprId>>,
    rates: Vec<Option<ExprId>>,
    rate_in_progress: FxHashSet<usize>,
    initial: Option<Initial<'a>>,
    reported: FxHashSet<String>,
}

impl<'a> Builder<'a> {
    fn new(model: &'a Model, problem: Option<&'a Problem>, diagnostics: &'a mut Diagnostics) -> Self {
        let mut graph = Graph::new();
        let time_expr = graph.symbol(TIME);
        let time = graph.symbol_id(time_expr).expect("a symbol was just made");
        Builder {
            model,
            problem,
            diagnostics,
            graph,
            time,
            kinds: IndexMap::new(),
            rules: model.assignment_rules.iter().map(|a| (a.variable.as_str(), a)).collect(),
            rate_rules: model.rate_rules.iter().map(|a| (a.variable.as_str(), a)).collect(),
            initial_assignments: model.initial_assignments.iter().map(|a| (a.variable.as_str(), a)).collect(),
            species: model.species.iter().map(|s| (s.id.as_str(), s)).collect(),
            functions: model.functions.iter().map(|f| (f.id.as_str(), f)).collect(),
            theta: problem.iter().flat_map(|p| &p.parameters).map(|p| p.id.as_str()).collect(),
            parameters: IndexSet::new(),
            state_ids: Vec::new(),
            running: FxHashMap::default(),
            rates: Vec::new(),
            rate_in_progress: FxHashSet::default(),
            initial: None,
            reported: FxHashSet::default(),
        }
    }

    fn run(&mut self, start: f64) -> OdeSystem {
        self.classify();
        self.declare_parameters();
        self.rates = vec![None; self.state_ids.len()];
        let entities = self.lower_entities();
        for i in 0..self.state_ids.len() {
            self.rate(i);
        }
        let nan = self.graph.constant(f64::NAN);
        let rates: Vec<ExprId> = self.rates.iter().map(|r| r.unwrap_or(nan)).collect();
        let observables = self.lower_observables();
        let experiments = self.experiments(start);
        let (rates, switches) = self.extract_switches(rates);
        let zero = self.graph.constant(0.0);
        let mut experiments = experiments;
        for e in &mut experiments {
            e.parameters.resize(self.parameters.len(), zero);
        }
        let units = self
            .model
            .species
            .iter()
            .map(|s| {
                let volume = entities.get(&s.compartment).copied().unwrap_or(nan);
                (s.id.clone(), SpeciesUnit { amount: self.is_amount(s), volume })
            })
            .collect();
        let states = self
            .state_ids
            .iter()
            .zip(rates)
            .map(|(id, rate)| State { id: id.to_string(), symbol: symbol_of(&mut self.graph, id), rate })
            .collect();
        let parameters =
            self.parameters.iter().map(|id| Parameter { id: id.clone(), symbol: symbol_of(&mut self.graph, id), active: false }).collect();
        let mut system = OdeSystem {
            graph: std::mem::take(&mut self.graph),
            time: self.time,
            states,
            parameters,
            theta: self.theta.len(),
            estimated: self.problem.iter().flat_map(|p| &p.parameters).map(|p| p.estimate).collect(),
            switches,
            observables,
            experiments,
            entities,
            species: units,
        };
        fold_constants(&mut system, &self.named_by_overrides());
        mark_active(&mut system);
        self.report_missing_values(&system);
        self.report_unsupported();
        system
    }

    /// Whether formulas see the species as an amount. In a compartment without dimensions there is no concentration.
    fn is_amount(&self, species: &sbml::Species) -> bool {
        species.only_substance_units || self.model.compartments.iter().any(|c| c.id == species.compartment && c.dimensions == 0.0)
    }

    /// Decides for every entity whether it is a state, a parameter or given by a rule.
    fn classify(&mut self) {
        let reacting: FxHashSet<&str> =
            self.model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products)).map(|s| s.species.as_str()).collect();
        let resized: FxHashSet<&str> = self
            .model
            .compartments
            .iter()
            .map(|c| c.id.as_str())
            .filter(|id| self.rules.contains_key(id) || self.rate_rules.contains_key(id))
            .collect();
        let add = |id: &'a str, dynamic: bool, kinds: &mut IndexMap<&'a str, Kind>, states: &mut Vec<&'a str>| {
            let kind = if self.rules.contains_key(id) {
                Kind::Assigned
            } else if dynamic || self.rate_rules.contains_key(id) {
                states.push(id);
                Kind::State(states.len() - 1)
            } else {
                Kind::Parameter
            };
            kinds.insert(id, kind);
        };
        let (mut kinds, mut states) = (IndexMap::new(), Vec::new());
        for s in &self.model.species {
            let changed_by_reactions = reacting.contains(s.id.as_str()) && !s.boundary && !s.constant;
            let diluted = resized.contains(s.compartment.as_str()) && !self.is_amount(s);
            add(&s.id, changed_by_reactions || diluted, &mut kinds, &mut states);
        }
        for c in &self.model.compartments {
            add(&c.id, false, &mut kinds, &mut states);
        }
        for p in &self.model.parameters {
            add(&p.id, false, &mut kinds, &mut states);
        }
        for r in &self.model.reactions {
            kinds.insert(&r.id, Kind::Reaction);
            for reference in r.reactants.iter().chain(&r.products) {
                if let Some(id) = &reference.id {
                    kinds.insert(id, Kind::Stoichiometry(reference.stoichiometry.unwrap_or(1.0)));
                }
            }
        }
        self.kinds = kinds;
        self.state_ids = states;
    }

    /// Lists the parameters: theta, then the model's constants, then names that only changes introduce.
    fn declare_parameters(&mut self) {
        if let Some(problem) = self.problem {
            for p in &problem.parameters {
                match self.kinds.get(p.id.as_str()) {
                    None | Some(Kind::Parameter) => {}
                    Some(Kind::State(_)) => self.diagnostics.push(
                        Diagnostic::error("M0202", format!("parameter `{}` of the parameter table is a state of the model", p.id))
                            .at(&p.span, "a state changes over time and cannot be estimated itself")
                            .help("introduce a parameter for its initial value"),
                    ),
                    Some(_) => self.not_settable(&p.id, &p.span, "it is given by a rule or reaction of the model"),
                }
                self.parameters.insert(p.id.clone());
            }
        }
        for (id, kind) in &self.kinds {
            if *kind == Kind::Parameter {
                self.parameters.insert(id.to_string());
            }
        }
        let problem = self.problem;
        for change in problem.iter().flat_map(|p| &p.experiments).flat_map(|e| &e.periods).flat_map(|p| &p.changes) {
            match self.kinds.get(change.target.as_str()) {
                None => {
                    self.parameters.insert(change.target.clone());
                }
                Some(Kind::State(_) | Kind::Parameter) => {}
                Some(_) => self.not_settable(&change.target, &change.span, "it is given by a rule or reaction of the model"),
            }
        }
    }

    fn not_settable(&mut self, id: &str, span: &Span, why: &str) {
        if self.reported.insert(format!("settable {id}")) {
            self.diagnostics.push(
                Diagnostic::error("M0201", format!("`{id}` cannot be set"))
                    .at(span, why)
                    .help("set or estimate a constant, or the initial value of a state"),
            );
        }
    }

    /// Lowers every entity of the model, so that mistakes in formulas that nothing uses are found too.
    fn lower_entities(&mut self) -> IndexMap<String, ExprId> {
        let ids: Vec<&'a str> = self.kinds.keys().copied().collect();
        let mut entities = IndexMap::new();
        for id in ids {
            if let Some(value) = self.entity(id, None) {
                entities.insert(id.to_string(), value);
            }
        }
        entities
    }

    /// The value of an entity during integration. `asked_at` is where it was named, for messages about circles.
    fn entity(&mut self, id: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        match *self.kinds.get(id)? {
            Kind::State(_) | Kind::Parameter => Some(self.graph.symbol(id)),
            Kind::Stoichiometry(value) => Some(self.graph.constant(value)),
            Kind::Assigned | Kind::Reaction => {
                if let Some(known) = self.running.get(id).copied() {
                    return known.or_else(|| self.circle(id, asked_at));
                }
                self.running.insert(id.to_string(), None);
                let value = self.definition(id, Stage::Running);
                self.running.insert(id.to_string(), value);
                value
            }
        }
    }

    /// Lowers the rule or kinetic law that defines `id`.
    fn definition(&mut self, id: &str, stage: Stage) -> Option<ExprId> {
        if let Some(rule) = self.rules.get(id).copied() {
            return self.lower(&rule.formula, Scope { origin: Origin::Sbml, local: &FxHashMap::default(), only_local: false, stage });
        }
        let reaction = self.model.reactions.iter().find(|r| r.id == id)?;
        let mut local = FxHashMap::default();
        for p in &reaction.local_parameters {
            local.insert(p.id.clone(), self.graph.constant(p.value.unwrap_or(f64::NAN)));
        }
        match &reaction.rate {
            Some(rate) => self.lower(rate, Scope { origin: Origin::Sbml, local: &local, only_local: false, stage }),
            None => Some(self.graph.constant(0.0)),
        }
    }

    /// Reports that `id` depends on itself. The value NaN lets the work go on to find other mistakes.
    fn circle(&mut self, id: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        // A circle is met again from each of its members; one message is enough.
        if self.reported.insert(format!("circle {id}")) {
            let mut diagnostic = Diagnostic::error("M0102", format!("the definition of `{id}` refers to itself"));
            if let Some(span) = asked_at {
                diagnostic = diagnostic.at(span, "used here, directly or through other definitions");
            }
            self.diagnostics.push(diagnostic);
        }
        Some(self.graph.constant(f64::NAN))
    }

    /// Time derivative of state `i`.
    fn rate(&mut self, i: usize) -> Option<ExprId> {
        if let Some(rate) = self.rates[i] {
            return Some(rate);
        }
        if !self.rate_in_progress.insert(i) {
            return self.circle(self.state_ids[i], None);
        }
        let id = self.state_ids[i];
        let rate = match self.rate_rules.get(id).copied() {
            Some(rule) => self.lower(
                &rule.formula,
                Scope { origin: Origin::Sbml, local: &FxHashMap::default(), only_local: false, stage: Stage::Running },
            ),
            None => self.species_rate(id),
        };
        self.rate_in_progress.remove(&i);
        self.rates[i] = rate;
        rate
    }

    /// Change of a species by reactions and by dilution: amount' = sum of stoichiometry times rate, and for a
    /// concentration c = n/V: c' = n'/V - c V'/V.
    fn species_rate(&mut self, id: &str) -> Option<ExprId> {
        let species = self.species.get(id).copied()?;
        let mut terms = Vec::new();
        if !species.boundary {
            for reaction in &self.model.reactions {
                let coefficient: f64 =
                    reaction.products.iter().filter(|s| s.species == id).map(|s| s.stoichiometry.unwrap_or(1.0)).sum::<f64>()
                        - reaction.reactants.iter().filter(|s| s.species == id).map(|s| s.stoichiometry.unwrap_or(1.0)).sum::<f64>();
                if coefficient != 0.0 {
                    let rate = self.entity(&reaction.id, Some(&reaction.span))?;
                    let coefficient = self.graph.constant(coefficient);
                    terms.push(self.graph.mul(coefficient, rate));
                }
            }
        }
        let amount_rate = self.graph.sum(&terms);
        if self.is_amount(species) {
            return Some(amount_rate);
        }
        let volume = self.entity(&species.compartment, Some(&species.span))?;
        let volume_rate = self.total_derivative(volume)?;
        let concentration = self.graph.symbol(id);
        let inflow = self.graph.div(amount_rate, volume);
        let relative = self.graph.div(volume_rate, volume);
        let dilution = self.graph.mul(concentration, relative);
        Some(self.graph.sub(inflow, dilution))
    }

    /// d/dt of an expression of (t, x, p) along the solution.
    fn total_derivative(&mut self, e: ExprId) -> Option<ExprId> {
        let time = self.time;
        let mut terms = vec![self.graph.derivative(e, time)];
        for i in 0..self.state_ids.len() {
            let symbol = symbol_of(&mut self.graph, self.state_ids[i]);
            if self.graph.depends_on(e, symbol) {
                let slope = self.graph.derivative(e, symbol);
                let rate = self.rate(i)?;
                terms.push(self.graph.mul(slope, rate));
            }
        }
        Some(self.graph.sum(&terms))
    }

    /// Lowers a formula; reports undefined names.
    fn lower(&mut self, ast: &Ast, scope: Scope) -> Option<ExprId> {
        let mut graph = std::mem::take(&mut self.graph);
        // The graph travels between the lowering loop and this builder, which needs it to resolve names.
        let result = graph.lower(ast, &mut |g, node| {
            std::mem::swap(g, &mut self.graph);
            let value = self.resolve(node, scope);
            std::mem::swap(g, &mut self.graph);
            value
        });
        self.graph = graph;
        result
    }

    fn resolve(&mut self, node: &Ast, scope: Scope) -> Option<ExprId> {
        match &node.kind {
            AstKind::Time => match (scope.stage, &self.initial) {
                (Stage::Initial, Some(initial)) => {
                    let start = initial.start;
                    Some(self.graph.constant(start))
                }
                _ => Some(self.graph.symbol_expr(self.time)),
            },
            AstKind::Name(name) => self.resolve_name(name, node, scope),
            AstKind::Call(name, arguments) => {
                let function = self.functions.get(name.as_str()).copied();
                let Some(function) = function else { return self.undefined(name, node, scope) };
                if function.arguments.len() != arguments.len() {
                    let span = self.place(node, scope);
                    self.diagnostics.push(
                        Diagnostic::error("M0103", format!("`{name}` is called with {} arguments", arguments.len()))
                            .at(&span, format!("it takes {}", function.arguments.len()))
                            .also(&function.span, "defined here"),
                    );
                    return Some(self.graph.constant(f64::NAN));
                }
                let mut local = FxHashMap::default();
                for (name, argument) in function.arguments.iter().zip(arguments) {
                    let value = self.lower(argument, scope)?;
                    local.insert(name.clone(), value);
                }
                self.lower(&function.body, Scope { origin: Origin::Sbml, local: &local, only_local: true, stage: scope.stage })
            }
            AstKind::RateOf(argument) => {
                let value = self.lower(argument, Scope { stage: Stage::Running, ..scope })?;
                let rate = self.total_derivative(value)?;
                match scope.stage {
                    Stage::Running => Some(rate),
                    Stage::Initial => self.at_start(rate),
                }
            }
            AstKind::Delay(..) => {
                let span = self.place(node, scope);
                self.diagnostics
                    .push(Diagnostic::error("M0901", "the `delay` function is not supported yet").at(&span, "delay differential equation"));
                Some(self.graph.constant(f64::NAN))
            }
            _ => None,
        }
    }

    /// An expression of (t, x, p) at the start of the current experiment.
    fn at_start(&mut self, e: ExprId) -> Option<ExprId> {
        let mut values = FxHashMap::default();
        for symbol in self.graph.symbols_of(&[e]) {
            let name = self.graph.name(symbol).to_string();
            let value = if symbol == self.time {
                let start = self.initial.as_ref().map_or(0.0, |i| i.start);
                self.graph.constant(start)
            } else {
                self.initial_value(&name, None)?
            };
            values.insert(symbol, value);
        }
        Some(self.graph.substitute(&[e], &values)[0])
    }

    fn resolve_name(&mut self, name: &str, node: &Ast, scope: Scope) -> Option<ExprId> {
        if let Some(value) = scope.local.get(name) {
            return Some(*value);
        }
        if !scope.only_local {
            let known = self.kinds.contains_key(name) || self.parameters.contains(name);
            if known {
                let span = self.place(node, scope);
                return match scope.stage {
                    Stage::Initial => self.initial_value(name, Some(&span)),
                    Stage::Running if self.kinds.contains_key(name) => self.entity(name, Some(&span)),
                    Stage::Running => Some(self.graph.symbol(name)),
                };
            }
        }
        self.undefined(name, node, scope)
    }

    fn place(&self, node: &Ast, scope: Scope) -> Span {
        match scope.origin {
            Origin::Sbml => self.model.source.span(node.range.clone()),
            Origin::Petab(span) => span.part(node.range.clone()),
        }
    }

    /// Reports an undefined name. The value NaN lets the work go on to find other mistakes.
    fn undefined(&mut self, name: &str, node: &Ast, scope: Scope) -> Option<ExprId> {
        let span = self.place(node, scope);
        let label = match scope.origin {
            Origin::Sbml => "not defined in the model",
            Origin::Petab(_) => "neither a model entity nor a PEtab parameter",
        };
        let candidates =
            self.kinds.keys().copied().chain(self.parameters.iter().map(String::as_str)).chain(scope.local.keys().map(String::as_str));
        let diagnostic =
            Diagnostic::error("M0101", format!("formula uses an undefined symbol `{name}`")).at(&span, label).suggest(name, candidates);
        self.diagnostics.push(diagnostic);
        Some(self.graph.constant(f64::NAN))
    }

    /// The value of `name` at the start of the current experiment, as a function of theta.
    ///
    /// What wins: a change of the first period, the parameter table, an assignment rule, an initial assignment, the value in the file
    /// (PETAB.md 3.1 and 4.5).
    fn initial_value(&mut self, name: &str, asked_at: Option<&Span>) -> Option<ExprId> {
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
        let nothing = FxHashMap::default();
        let scope = Scope { origin: Origin::Sbml, local: &nothing, only_local: false, stage: Stage::Initial };
        if let Some(formula) = change {
            return self.lower(&formula.ast, Scope { origin: Origin::Petab(&formula.span), ..scope });
        }
        if self.theta.contains(name) {
            return Some(self.graph.symbol(name));
        }
        match self.kinds.get(name) {
            Some(Kind::Assigned | Kind::Reaction) => return self.definition(name, Stage::Initial),
            Some(Kind::Stoichiometry(value)) => {
                let value = *value;
                return Some(self.graph.constant(value));
            }
            _ => {}
        }
        if let Some(assignment) = self.initial_assignments.get(name).copied() {
            return self.lower(&assignment.formula, scope);
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

    fn experiments(&mut self, start: f64) -> Vec<Experiment> {
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
        self.initial = Some(Initial { start, overrides, values: FxHashMap::default() });
        let nan = self.graph.constant(f64::NAN);
        let names: Vec<String> = self.parameters.iter().cloned().collect();
        let parameters = names.iter().map(|name| self.initial_value(name, None).unwrap_or(nan)).collect();
        let states = (0..self.state_ids.len()).map(|i| self.initial_value(self.state_ids[i], None).unwrap_or(nan)).collect();
        self.initial = None;
        Experiment { id, start, parameters, states, changes }
    }

    fn lower_changes(&mut self, periods: &'a [petab::Period]) -> Vec<Change> {
        let nothing = FxHashMap::default();
        let mut changes = Vec::new();
        for period in periods {
            let mut change = Change { time: period.time, targets: Vec::new(), values: Vec::new() };
            for c in &period.changes {
                let target = match self.kinds.get(c.target.as_str()) {
                    Some(Kind::State(i)) => Some(Target::State(*i)),
                    _ => self.parameters.get_index_of(&c.target).map(Target::Parameter),
                };
                let scope = Scope { origin: Origin::Petab(&c.value.span), local: &nothing, only_local: false, stage: Stage::Running };
                if let (Some(target), Some(value)) = (target, self.lower(&c.value.ast, scope)) {
                    change.targets.push(target);
                    change.values.push(value);
                }
            }
            changes.push(change);
        }
        changes
    }

    fn lower_observables(&mut self) -> Vec<ObservableFormula> {
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

    /// Replaces every comparison that can change during a simulation by a flag, so that the rates are smooth between switches.
    fn extract_switches(&mut self, rates: Vec<ExprId>) -> (Vec<ExprId>, Vec<SwitchRoot>) {
        let states: FxHashSet<SymbolId> = self.state_ids.iter().map(|id| symbol_of(&mut self.graph, id)).collect();
        let mut map: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        let mut switches = Vec::new();
        // Children come before parents, so a comparison inside another one is replaced first.
        for node in self.graph.reachable(&rates) {
            let Node::Binary(op @ (Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge), a, b) = self.graph.node(node) else { continue };
            let difference = if matches!(op, Binary::Lt | Binary::Le) { self.graph.sub(b, a) } else { self.graph.sub(a, b) };
            let symbols = self.graph.symbols_of(&[difference]);
            let depends_on_state = symbols.iter().any(|s| states.contains(s));
            if !depends_on_state && !symbols.contains(&self.time) {
                continue;
            }
            let root = self.graph.replace(&[difference], &map)[0];
            let slope = self.graph.derivative(root, self.time);
            let affine = !depends_on_state && !self.graph.depends_on(slope, self.time);
            let name = format!("<switch {}>", switches.len());
            let flag = self.graph.symbol(&name);
            let (index, _) = self.parameters.insert_full(name);
            map.insert(node, flag);
            switches.push(SwitchRoot { flag: index, root, explicit_time: affine, true_when_equal: matches!(op, Binary::Le | Binary::Ge) });
        }
        (self.graph.replace(&rates, &map), switches)
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
        let with_prior: Vec<_> = problem.parameters.iter().filter(|p| p.estimate && p.prior.is_some()).collect();
        if let Some(prior) = with_prior.first().and_then(|p| p.prior.as_ref()) {
            self.diagnostics.push(
                Diagnostic::warning("M0801", format!("the objective priors of {} parameters are not used yet", with_prior.len()))
                    .at(&prior.span, "first of them")
                    .help("the objective is the negative log-likelihood"),
            );
        }
    }

    fn report_missing_values(&mut self, system: &OdeSystem) {
        let used: Vec<ExprId> = system
            .states
            .iter()
            .map(|s| s.rate)
            .chain(system.observables.iter().flat_map(|o| [o.value, o.noise]))
            .chain(system.switches.iter().map(|s| s.root))
            .collect();
        let used: FxHashSet<SymbolId> = system.graph.symbols_of(&used).into_iter().collect();
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

fn symbol_of(graph: &mut Graph, name: &str) -> SymbolId {
    let e = graph.symbol(name);
    graph.symbol_id(e).expect("a symbol was just made")
}

/// Substitutes parameters that are the same number in every experiment and never change, and removes them.
fn fold_constants(system: &mut OdeSystem, keep: &FxHashSet<String>) {
    let changed: FxHashSet<usize> = (system.experiments.iter().flat_map(|e| &e.changes).flat_map(|c| &c.targets))
        .filter_map(|t| if let Target::Parameter(j) = t { Some(*j) } else { None })
        .collect();
    let flags: FxHashSet<usize> = system.switches.iter().map(|s| s.flag).collect();
    let mut values = FxHashMap::default();
    let mut stays = vec![true; system.parameters.len()];
    for (j, stays) in stays.iter_mut().enumerate().skip(system.theta) {
        if changed.contains(&j) || flags.contains(&j) || keep.contains(&system.parameters[j].id) {
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
    let graph = &mut system.graph;
    for state in &mut system.states {
        state.rate = graph.substitute(&[state.rate], &values)[0];
    }
    for o in &mut system.observables {
        o.value = graph.substitute(&[o.value], &values)[0];
        o.noise = graph.substitute(&[o.noise], &values)[0];
    }
    for s in &mut system.switches {
        s.root = graph.substitute(&[s.root], &values)[0];
        s.flag = new_index[s.flag];
    }
    for e in system.entities.values_mut() {
        *e = graph.substitute(&[*e], &values)[0];
    }
    for s in system.species.values_mut() {
        s.volume = graph.substitute(&[s.volume], &values)[0];
    }
    for e in &mut system.experiments {
        let mut j = 0;
        e.parameters.retain(|_| {
            j += 1;
            stays[j - 1]
        });
        for c in &mut e.changes {
            c.values = graph.substitute(&c.values, &values);
            for t in &mut c.targets {
                if let Target::Parameter(j) = t {
                    *j = new_index[*j];
                }
            }
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
    for e in &system.experiments {
        for (p, value) in system.parameters.iter_mut().zip(&e.parameters) {
            p.active |= graph.symbols_of(&[*value]).iter().any(|s| estimated.contains(s));
        }
        if !estimated.is_empty() {
            for t in e.changes.iter().flat_map(|c| &c.targets) {
                if let Target::Parameter(j) = t {
                    system.parameters[*j].active = true;
                }
            }
        }
    }
}
