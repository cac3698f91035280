//! Marries an SBML model and a PEtab problem into one [`OdeSystem`].
//!
//! Order of work: classify the entities (`entities.rs`), find what the algebraic rules determine (`algebraic.rs`), lower rules,
//! rates and events into the graph (`rates.rs`, `events.rs`), replace comparisons by flags (`switches.rs`), resolve the initial
//! values of every experiment (`initial.rs`), and fold what is the same number everywhere (`finish.rs`).

use super::entities::Kind;
use super::system::{ConstraintFormula, DelayFormula, Invariant, OdeSystem, Parameter, SpeciesUnit, State};
use crate::diag::{Diagnostic, Diagnostics, Severity, Source, Span};
use crate::expr::{Ast, AstKind, ExprId, Graph, SymbolId};
use crate::petab::{self, Problem};
use crate::sbml::{self, Model};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxHashMap, FxHashSet};

/// Name of the time symbol; no SBML or PEtab identifier can be spelled like this.
const TIME: &str = "<time>";

/// Deepest nesting of calls of function definitions, which bounds the stack.
const DEEPEST_CALL: usize = 200;

/// Most fast reactions and nonlinear algebraic rules: their rates are solved for symbolically, at a cost that grows with the cube.
const MOST_INVARIANTS: usize = 80;

/// Most calls of function definitions in a model.
const MOST_CALLS: usize = 1_000_000;

/// Builds the system. Without a problem there is one experiment, "the model as it is", that starts at `start`.
/// Everything wrong is reported; `None` if there was an error.
pub fn build(model: &Model, problem: Option<&Problem>, start: f64, diagnostics: &mut Diagnostics) -> Option<OdeSystem> {
    let errors_before = diagnostics.count(Severity::Error);
    let mut builder = Builder::new(model, problem, diagnostics);
    let system = builder.run(start);
    (diagnostics.count(Severity::Error) == errors_before).then_some(system)
}

/// Where a formula stands, to place messages.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// Ranges of the tree are byte ranges of an SBML file.
    Sbml(&'a Source),
    /// Ranges count from the start of this table cell.
    Petab(&'a Span),
}

/// What names mean inside a formula.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) origin: Origin<'a>,
    /// Function arguments, local parameters, placeholders: looked up first.
    pub(super) local: &'a FxHashMap<String, ExprId>,
    /// Inside a function definition only the arguments are visible.
    pub(super) only_local: bool,
    pub(super) stage: Stage,
}

/// At which point of an experiment a formula is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// During integration: names are states, parameters and assignment rules of (t, x, p).
    Running,
    /// Before integration: names are initial values as functions of theta.
    Initial,
}

/// What the changes of a first period put in the place of an entity's own initial value.
#[derive(Clone, Copy)]
pub(super) enum Override<'a> {
    Formula(&'a petab::Formula),
    /// The symbol of an input.
    Input(ExprId),
}

/// Changes of a first period by what they change.
pub(super) type Overrides<'a> = FxHashMap<&'a str, Override<'a>>;

/// The initial values of one experiment as they are found.
pub(super) struct Initial<'a> {
    pub(super) start: f64,
    /// Whether time runs: values at times before the start, where initial assignments are functions of time.
    pub(super) before: bool,
    pub(super) overrides: Overrides<'a>,
    pub(super) values: FxHashMap<String, Option<ExprId>>,
}

/// A delayed quantity as it stands in its formula, to be lowered once more for the times before the start.
pub(super) struct Past {
    value: Ast,
    source: Source,
    local: FxHashMap<String, ExprId>,
    only_local: bool,
}

pub(super) struct Builder<'a> {
    pub(super) model: &'a Model,
    pub(super) problem: Option<&'a Problem>,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) graph: Graph,
    pub(super) time: SymbolId,
    pub(super) kinds: IndexMap<&'a str, Kind>,
    pub(super) rules: FxHashMap<&'a str, &'a sbml::Assignment>,
    pub(super) rate_rules: FxHashMap<&'a str, &'a sbml::Assignment>,
    pub(super) initial_assignments: FxHashMap<&'a str, &'a sbml::Assignment>,
    pub(super) species: FxHashMap<&'a str, &'a sbml::Species>,
    pub(super) references: FxHashMap<&'a str, &'a sbml::SpeciesReference>,
    pub(super) reactions: FxHashMap<&'a str, &'a sbml::Reaction>,
    pub(super) functions: FxHashMap<&'a str, &'a sbml::FunctionDefinition>,
    pub(super) event_targets: FxHashSet<&'a str>,
    pub(super) theta: FxHashSet<&'a str>,
    pub(super) parameters: IndexSet<String>,
    pub(super) state_ids: Vec<&'a str>,
    /// Species that formulas see as concentrations but the system holds as amounts, because their compartment changes; by
    /// the name of the amount's symbol.
    pub(super) amounts: FxHashMap<String, &'a str>,
    /// Lowered assignment rules and reaction rates; `None` while being lowered (to find circles) or after an error.
    pub(super) running: FxHashMap<String, Option<ExprId>>,
    pub(super) rates: Vec<Option<ExprId>>,
    pub(super) rate_in_progress: FxHashSet<usize>,
    /// Reactions by the species they change: (reaction, reference, sign).
    pub(super) changes_of: FxHashMap<&'a str, Vec<(&'a sbml::Reaction, &'a sbml::SpeciesReference, f64)>>,
    /// Residuals of the invariants, each with the symbol of the unknown rate along its directions.
    pub(super) residuals: Vec<Residual>,
    pub(super) delays: Vec<DelayFormula>,
    pub(super) pasts: Vec<Past>,
    pub(super) initial: Option<Initial<'a>>,
    /// What has no value in a model that stands alone, and the value taken.
    pub(super) defaulted: FxHashMap<&'a str, f64>,
    /// Calls of function definitions that are being written out, and all of them so far.
    call_depth: usize,
    calls: usize,
    pub(super) reported: FxHashSet<String>,
}

/// An invariant in the making, see [`Invariant`].
#[derive(Clone, Copy)]
pub(super) struct Residual {
    pub(super) residual: ExprId,
    /// Rate at which the states move along the directions, solved for in the end.
    pub(super) rate: SymbolId,
    pub(super) positive: bool,
}

impl<'a> Builder<'a> {
    fn new(model: &'a Model, problem: Option<&'a Problem>, diagnostics: &'a mut Diagnostics) -> Self {
        let mut graph = Graph::new();
        let time = symbol_of(&mut graph, TIME);
        let references = model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products));
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
            references: references.filter_map(|r| Some((r.id.as_deref()?, r))).collect(),
            reactions: model.reactions.iter().map(|r| (r.id.as_str(), r)).collect(),
            functions: model.functions.iter().map(|f| (f.id.as_str(), f)).collect(),
            event_targets: model.events.iter().flat_map(|e| &e.assignments).map(|a| a.variable.as_str()).collect(),
            theta: problem.iter().flat_map(|p| &p.parameters).map(|p| p.id.as_str()).collect(),
            parameters: problem.iter().flat_map(|p| &p.parameters).map(|p| p.id.clone()).collect(),
            state_ids: Vec::new(),
            amounts: FxHashMap::default(),
            running: FxHashMap::default(),
            rates: Vec::new(),
            rate_in_progress: FxHashSet::default(),
            changes_of: FxHashMap::default(),
            residuals: Vec::new(),
            delays: Vec::new(),
            pasts: Vec::new(),
            initial: None,
            defaulted: FxHashMap::default(),
            call_depth: 0,
            calls: 0,
            reported: FxHashSet::default(),
        }
    }

    fn run(&mut self, start: f64) -> OdeSystem {
        self.classify();
        self.rates = vec![None; self.state_ids.len()];
        self.solve_algebraic_rules();
        self.check_names();
        self.declare_parameters();
        self.rates = vec![None; self.state_ids.len()];
        let entities = self.lower_entities();
        for i in 0..self.state_ids.len() {
            self.rate(i);
        }
        let hazards = self.lower_hazards();
        let nan = self.graph.constant(f64::NAN);
        let rates = self.rates.iter().map(|r| r.unwrap_or(nan)).collect();
        let mut events = self.lower_events();
        let observed_events = self.lower_observed_events(&mut events);
        let constraints = self.lower_constraints();
        let mut observables = self.lower_observables();
        observables.extend(hazards);
        let species = self.model.species.iter();
        let volume = |s: &sbml::Species| entities.get(&s.compartment).copied().unwrap_or(nan);
        let species = species.map(|s| (s.id.clone(), SpeciesUnit { amount: self.is_amount(s), volume: volume(s) })).collect();
        // Initial values can call for delayed quantities too.
        let (experiments, setups, inputs) = self.experiments(start);
        let mut system = OdeSystem {
            graph: Graph::new(),
            time: self.time,
            states: Vec::new(),
            parameters: Vec::new(),
            theta: self.theta.len(),
            varying: self.problem.map_or_else(Vec::new, varying),
            switches: Vec::new(),
            events,
            observed_events,
            invariants: Vec::new(),
            conserved: Vec::new(),
            inputs,
            setups,
            experiments,
            delays: std::mem::take(&mut self.delays),
            constraints,
            outputs: Vec::new(),
            observables,
            entities,
            unused: Vec::new(),
            species,
        };
        self.add_states(&mut system, rates);
        self.solve_invariants(&mut system);
        self.extract_switches(&mut system);
        self.finish(&mut system);
        system
    }

    /// Adds states and parameters to the system, and moves the graph there.
    fn add_states(&mut self, system: &mut OdeSystem, rates: Vec<ExprId>) {
        for (i, rate) in rates.into_iter().enumerate() {
            let symbol = self.symbol_of(self.state_ids[i]);
            system.states.push(State { id: self.state_ids[i].to_string(), symbol, rate });
        }
        for id in &self.parameters {
            let symbol = symbol_of(&mut self.graph, id);
            system.parameters.push(Parameter { id: id.clone(), symbol, active: false });
        }
        system.graph = std::mem::take(&mut self.graph);
    }

    /// Whether formulas see the species as an amount. In a compartment without dimensions there is no concentration.
    pub(super) fn is_amount(&self, species: &sbml::Species) -> bool {
        species.only_substance_units || self.model.compartments.iter().any(|c| c.id == species.compartment && c.dimensions == 0.0)
    }

    /// Lowers a formula of the model that stands for itself.
    pub(super) fn lower_sbml(&mut self, ast: &Ast, place: &Span, stage: Stage) -> Option<ExprId> {
        self.lower(ast, Scope { origin: Origin::Sbml(&place.source), local: &FxHashMap::default(), only_local: false, stage })
    }

    /// Lowers a formula; reports undefined names.
    pub(super) fn lower(&mut self, ast: &Ast, scope: Scope) -> Option<ExprId> {
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
            AstKind::Time => Some(match scope.stage {
                Stage::Running => self.graph.symbol_expr(self.time),
                Stage::Initial => self.start_time(),
            }),
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
                if !self.enter_call(node, scope) {
                    return Some(self.graph.constant(f64::NAN));
                }
                let nan = self.graph.constant(f64::NAN);
                let mut local = FxHashMap::default();
                for (name, argument) in function.arguments.iter().zip(arguments) {
                    let value = self.lower(argument, scope).unwrap_or(nan);
                    local.insert(name.clone(), value);
                }
                let origin = Origin::Sbml(&function.span.source);
                let value = self.lower(&function.body, Scope { origin, local: &local, only_local: true, stage: scope.stage });
                self.call_depth -= 1;
                value
            }
            AstKind::RateOf(argument) if scope.stage == Stage::Initial && self.is_before() => {
                let value = self.lower(argument, scope)?;
                let time = self.time;
                Some(self.graph.derivative(value, time))
            }
            AstKind::RateOf(argument) => {
                let value = self.lower(argument, Scope { stage: Stage::Running, ..scope })?;
                let rate = self.total_derivative(value)?;
                match scope.stage {
                    Stage::Running => Some(rate),
                    Stage::Initial => self.at_start(rate),
                }
            }
            AstKind::Delay(value, delay) => match scope.stage {
                Stage::Running => self.delayed(value, delay, scope),
                Stage::Initial => {
                    let running = Scope { stage: Stage::Running, ..scope };
                    let delayed = self.delayed(value, delay, running)?;
                    self.at_start(delayed)
                }
            },
            _ => None,
        }
    }

    /// Counts a call of a function definition. Definitions are written out where they are called, which must end.
    fn enter_call(&mut self, node: &Ast, scope: Scope) -> bool {
        self.calls += 1;
        if self.call_depth < DEEPEST_CALL && self.calls < MOST_CALLS {
            self.call_depth += 1;
            return true;
        }
        if self.reported.insert("calls".to_string()) {
            let span = self.place(node, scope);
            self.diagnostics.push(
                Diagnostic::error("M0104", "functions that call functions make a formula too large")
                    .at(&span, format!("more than {DEEPEST_CALL} calls deep, or more than {MOST_CALLS} calls in all"))
                    .help("give results that are used again a name by an assignment rule"),
            );
        }
        false
    }

    /// `value` as it was `delay` before: a parameter that the integrator keeps up to date.
    fn delayed(&mut self, value: &Ast, delay: &Ast, scope: Scope) -> Option<ExprId> {
        let formula = value;
        let (value, delay) = (self.lower(value, scope)?, self.lower(delay, scope)?);
        if self.graph.constant_value(value).is_some() || self.graph.constant_value(delay) == Some(0.0) {
            return Some(value);
        }
        if let Some(known) = self.delays.iter().find(|d| d.value == value && d.delay == delay) {
            let name = self.parameters[known.parameter].clone();
            return Some(self.graph.symbol(&name));
        }
        let name = delay_name(self.delays.len());
        let (parameter, _) = self.parameters.insert_full(name.clone());
        self.delays.push(DelayFormula { parameter, value, delay });
        let source = match scope.origin {
            Origin::Sbml(source) => source.clone(),
            Origin::Petab(span) => span.source.clone(),
        };
        self.pasts.push(Past { value: formula.clone(), source, local: scope.local.clone(), only_local: scope.only_local });
        Some(self.graph.symbol(&name))
    }

    /// Delayed quantity `k` at times before the start of the current experiment, as a function of time and theta.
    pub(super) fn before(&mut self, k: usize) -> Option<ExprId> {
        let initial = self.initial.take()?;
        let (start, overrides) = (initial.start, initial.overrides.clone());
        self.initial = Some(Initial { start, before: true, overrides, values: FxHashMap::default() });
        let local = self.pasts[k].local.clone();
        let local = local.into_iter().filter_map(|(name, value)| Some((name, self.at_start(value)?))).collect();
        let (value, source, only_local) = (self.pasts[k].value.clone(), self.pasts[k].source.clone(), self.pasts[k].only_local);
        let result = self.lower(&value, Scope { origin: Origin::Sbml(&source), local: &local, only_local, stage: Stage::Initial });
        self.initial = Some(initial);
        result
    }

    fn is_before(&self) -> bool {
        self.initial.as_ref().is_some_and(|i| i.before)
    }

    /// The time of initial values.
    fn start_time(&mut self) -> ExprId {
        if self.is_before() {
            return self.graph.symbol_expr(self.time);
        }
        let start = self.initial.as_ref().map_or(0.0, |i| i.start);
        self.graph.constant(start)
    }

    /// An expression of (t, x, p) at the start of the current experiment.
    pub(super) fn at_start(&mut self, e: ExprId) -> Option<ExprId> {
        let time = self.start_time();
        let mut values = FxHashMap::default();
        for symbol in self.graph.symbols_of(&[e]) {
            let name = self.graph.name(symbol).to_string();
            let value = if symbol == self.time {
                time
            } else if let Some(k) = (0..self.pasts.len()).find(|k| delay_name(*k) == name) {
                let before = self.before(k)?;
                let delay = self.delays[k].delay;
                let delay = self.at_start(delay)?;
                let earlier = self.graph.sub(time, delay);
                self.graph.substitute(&[before], &FxHashMap::from_iter([(self.time, earlier)]))[0]
            } else {
                self.initial_of_symbol(&name)?
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
            Origin::Sbml(source) => source.span(node.range.clone()),
            Origin::Petab(span) => span.part(node.range.clone()),
        }
    }

    /// Reports an undefined name. The value NaN lets the work go on to find other mistakes.
    fn undefined(&mut self, name: &str, node: &Ast, scope: Scope) -> Option<ExprId> {
        let span = self.place(node, scope);
        let label = match scope.origin {
            Origin::Sbml(_) => "not defined in the model",
            Origin::Petab(_) => "neither a model entity nor a PEtab parameter",
        };
        let candidates =
            self.kinds.keys().copied().chain(self.parameters.iter().map(String::as_str)).chain(scope.local.keys().map(String::as_str));
        let diagnostic =
            Diagnostic::error("M0101", format!("formula uses an undefined symbol `{name}`")).at(&span, label).suggest(name, candidates);
        let diagnostic = match self.local_parameter(name) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        };
        self.diagnostics.push(diagnostic);
        Some(self.graph.constant(f64::NAN))
    }

    /// The symbol in which the system holds an entity.
    pub(super) fn symbol_of(&mut self, id: &str) -> SymbolId {
        let name = self.symbol_name(id);
        symbol_of(&mut self.graph, &name)
    }

    /// Name of the symbol in which the system holds an entity.
    pub(super) fn symbol_name(&self, id: &str) -> String {
        let amount = amount_name(id);
        if self.amounts.contains_key(&amount) { amount } else { id.to_string() }
    }

    fn lower_constraints(&mut self) -> Vec<ConstraintFormula> {
        let model = self.model;
        let lowered = model.constraints.iter().map(|c| {
            let condition = self.lower_sbml(&c.condition, &c.span, Stage::Running)?;
            Some(ConstraintFormula { condition, message: c.message.clone(), span: c.span.clone() })
        });
        lowered.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// Solves for the rates along the directions of the invariants, and puts the solution everywhere.
    ///
    /// d/dt r(t, x, p) = r_t + r_x x' = 0, where x' is linear in the unknown rates.
    fn solve_invariants(&mut self, system: &mut OdeSystem) {
        if self.residuals.is_empty() {
            return;
        }
        if self.residuals.len() > MOST_INVARIANTS {
            let count = self.residuals.len();
            let mut diagnostic = Diagnostic::error(
                "M0901",
                format!("{count} fast reactions and nonlinear algebraic rules are not supported, only {MOST_INVARIANTS}"),
            );
            if let Some(first) = self.model.reactions.iter().find(|r| r.fast) {
                diagnostic =
                    diagnostic.at(&first.span, "first fast reaction").help("if the reactions are not in equilibrium, remove fast=\"true\"");
            }
            self.diagnostics.push(diagnostic);
            return;
        }
        let graph = &mut system.graph;
        let unknowns: Vec<SymbolId> = self.residuals.iter().map(|r| r.rate).collect();
        let slopes: Vec<ExprId> = self
            .residuals
            .iter()
            .map(|r| {
                let mut terms = vec![graph.derivative(r.residual, system.time)];
                for state in &system.states {
                    if graph.depends_on(r.residual, state.symbol) {
                        let slope = graph.derivative(r.residual, state.symbol);
                        terms.push(graph.mul(slope, state.rate));
                    }
                }
                graph.sum(&terms)
            })
            .collect();
        for r in &self.residuals {
            let directions = system.states.iter().enumerate().map(|(i, s)| (i, graph.derivative(s.rate, r.rate)));
            let directions = directions.collect::<Vec<_>>();
            let zero = graph.constant(0.0);
            let directions = directions.into_iter().filter(|(_, d)| *d != zero).collect();
            system.invariants.push(Invariant { residual: r.residual, directions, positive: r.positive });
        }
        let solution = super::algebraic::solve_linear(graph, &slopes, &unknowns, true);
        let values: FxHashMap<SymbolId, ExprId> = unknowns.into_iter().zip(solution.unwrap_or_default()).collect();
        system.substitute(&values);
    }
}

/// Name of the symbol that holds the amount of a species seen as a concentration.
pub(super) fn amount_name(id: &str) -> String {
    format!("<amount of {id}>")
}

fn delay_name(k: usize) -> String {
    format!("<delay {k}>")
}

pub(super) fn symbol_of(graph: &mut Graph, name: &str) -> SymbolId {
    let e = graph.symbol(name);
    graph.symbol_id(e).expect("a symbol was just made")
}
/// For each row of the parameter table whether it is estimated or differs between individuals.
fn varying(problem: &Problem) -> Vec<bool> {
    let mut varying: Vec<bool> = problem.parameters.iter().map(|p| p.estimate).collect();
    if let Some(nlme) = &problem.nlme {
        let replaced = nlme.subpopulations.iter().flat_map(|s| s.values.iter().map(|(target, _)| *target));
        for target in nlme.random_effects.iter().map(|e| e.target).chain(replaced) {
            varying[target] = true;
        }
    }
    varying
}
