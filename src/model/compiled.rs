//! The compiled model: every function of the system with its derivatives, ready to call from any thread.

use super::conservation::Conservation;
use super::setup::{Setting, Setup};
use super::system::{AssignmentFormulas, OdeSystem};
use crate::expr::{ExprId, Graph, SymbolId};
use crate::jit::{self, Backend, CompileError, Kernel, Layout};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Input arrays of every kernel of a model.
pub mod array {
    /// Time (length 1).
    pub const TIME: usize = 0;
    /// States x.
    pub const STATES: usize = 1;
    /// Parameters p.
    pub const PARAMETERS: usize = 2;
    /// Placeholders q of an observable.
    pub const PLACEHOLDERS: usize = 3;
}

/// A sparse matrix of expressions. Entries are sorted by row, then column.
#[derive(Debug, Clone)]
pub struct SparseKernel {
    /// Writes the entries' values in order.
    pub kernel: Kernel,
    /// Row of each entry.
    pub rows: Vec<u32>,
    /// Column of each entry.
    pub columns: Vec<u32>,
}

/// Second derivatives of a vector function: value k is d2 f_i / (dz_a dz_b) with `[i, a, b] = entries[k]`, a <= b; entries with
/// a < b stand for both orders. z = (x, p, q): states at 0..nx, parameters at nx..nx+np, placeholders from nx+np on. Functions
/// that are evaluated at moving times (roots, events, changes, invariants) have no placeholders; there nx+np is time.
#[derive(Debug, Clone)]
pub struct TensorKernel {
    /// Writes the entries' values in order.
    pub kernel: Kernel,
    /// (output, first variable, second variable), sorted.
    pub entries: Vec<[u32; 3]>,
}

/// A vector function of (t, x, p, q) and its derivatives. Derivatives with respect to parameters are kept for *active* parameters
/// only, that is those that can depend on a varying parameter.
#[derive(Debug, Clone)]
pub struct Function {
    /// The values.
    pub value: Kernel,
    /// Derivatives with respect to the states (columns 0..nx).
    pub dx: SparseKernel,
    /// Derivatives with respect to parameters (columns 0..np) and placeholders (columns np..).
    pub dp: SparseKernel,
    /// Derivatives with respect to explicit time, one per output.
    pub dt: Kernel,
    /// Second derivatives with respect to z, where they were asked for.
    pub second: Option<TensorKernel>,
}

/// What of a formula jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchKind {
    /// A comparison, by its truth value where the root function (the difference of its sides) is negative, zero, positive.
    Comparison([bool; 3]),
    /// The root function rounded down.
    Floor,
    /// The root function rounded up.
    Ceil,
    /// The root function rounded towards 0.
    Truncate,
}

/// A part of a formula that jumps: a comparison or a rounded number. Its value stands in the parameter `flag` so that right-hand side and
/// triggers are smooth between switches; output j of [`CompiledModel::roots`] decides about it.
#[derive(Debug, Clone)]
pub struct Switch {
    /// Index of the flag in p.
    pub flag: usize,
    /// Whether the root depends on time and parameters only, and affinely on time: then it is at t = -g(0)/g_t and the
    /// integrator stops there; otherwise it is found by root finding.
    pub explicit_time: bool,
    /// Whether the root depends on time otherwise than affinely, so that it can change sign between long steps.
    pub curved_in_time: bool,
    /// How the value follows from the root function.
    pub kind: SwitchKind,
    /// Whether only observed events depend on it: where none is waited for, the switch need not be watched.
    pub only_observed: bool,
}

/// An event, see [`EventFormula`](super::system::EventFormula).
#[derive(Debug, Clone)]
pub struct Event {
    /// Identifier.
    pub id: String,
    /// Value of the trigger just before the start.
    pub initial_value: bool,
    /// Whether the event is executed even if the condition becomes false before.
    pub persistent: bool,
    /// Time from trigger to execution (one output).
    pub delay: Option<Function>,
    /// Greater ones are executed first (one output).
    pub priority: Option<Kernel>,
    /// Whether values are computed when the event is triggered.
    pub values_from_trigger_time: bool,
    /// What is set.
    pub assignments: Assignments,
    /// Switches whose flags the trigger depends on.
    pub switches: Vec<usize>,
}

/// An event whose time is measured (event table of `nlme`). It happens to the model as events without assignments do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedEvent {
    /// Indices of the events that count: one for each direction of the crossing.
    pub events: Vec<usize>,
    /// Which of the crossings, counted from 1.
    pub occurrence: usize,
}

/// Equations r(t, x, p) = 0 that hold at all times, see [`Invariant`](super::system::Invariant).
#[derive(Debug, Clone)]
pub struct Invariants {
    /// The residuals r.
    pub residuals: Function,
    /// For each entry of `directions`: invariant and state.
    pub places: Vec<(usize, usize)>,
    /// How much the states yield.
    pub directions: Kernel,
    /// Whether any direction is no number but a function of the parameters.
    pub directions_vary: bool,
    /// For each invariant whether its states are amounts, which stay positive.
    pub positive: Vec<bool>,
}

/// Quantities at earlier times.
#[derive(Debug, Clone)]
pub struct Delays {
    /// The parameter in which each stands.
    pub parameters: Vec<usize>,
    /// The quantities as functions of (t, x, p), one kernel each.
    pub values: Vec<Kernel>,
    /// How much earlier, one kernel each.
    pub delays: Vec<Kernel>,
}

/// What a period change sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A state.
    State(usize),
    /// A parameter.
    Parameter(usize),
}

/// Simultaneous assignments.
#[derive(Debug, Clone)]
pub struct Assignments {
    /// What is set.
    pub targets: Vec<Target>,
    /// The new values as functions of (t, x, p) just before and of `numbers` (as placeholders), one output per target.
    pub values: Arc<Function>,
    /// Factors that turn values, where they are concentrations, into the amounts that the states are; one output per target.
    pub volumes: Option<Arc<Function>>,
    /// Numbers in which changes of different experiments differ.
    pub numbers: Vec<f64>,
}

/// Simultaneous changes at the start of a later period of an experiment.
#[derive(Debug, Clone)]
pub struct PeriodChange {
    /// When.
    pub time: f64,
    /// What is set.
    pub assignments: Assignments,
}

/// The way to a steady state before an experiment (pre-equilibration). It starts from the experiment's setup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equilibration {
    /// The time at which the way starts.
    pub start: f64,
    /// Experiments with the same number have the same steady state.
    pub number: usize,
}

/// An experiment, ready to run.
#[derive(Debug, Clone)]
pub struct CompiledExperiment {
    /// Identifier.
    pub id: String,
    /// Start time.
    pub start: f64,
    /// The steady state with which the experiment begins, if it does; the first change is made at `start` then.
    pub equilibration: Option<Equilibration>,
    /// Parameters and initial states.
    pub setup: Setup,
    /// Changes at later times, in order.
    pub changes: Vec<PeriodChange>,
    /// For each delayed quantity its values before the start, as a function of (t, theta).
    pub before: Vec<Kernel>,
}

impl CompiledExperiment {
    /// What the course of the experiment follows from: equal for experiments whose simulations are the same whatever theta is.
    pub fn course(&self) -> Vec<u64> {
        let mut key = vec![self.start.to_bits()];
        key.extend(self.equilibration.iter().flat_map(|e| [e.start.to_bits(), e.number as u64]));
        key.extend(self.setup.key());
        for change in &self.changes {
            let Assignments { targets, values, volumes, numbers } = &change.assignments;
            key.extend([change.time.to_bits(), Arc::as_ptr(values) as u64, volumes.as_ref().map_or(0, |v| Arc::as_ptr(v) as u64)]);
            key.extend(numbers.iter().map(|v| v.to_bits()));
            key.extend(targets.iter().flat_map(|t| match t {
                Target::State(i) => [0, *i as u64],
                Target::Parameter(j) => [1, *j as u64],
            }));
        }
        key
    }
}

/// All functions of a model. `Send + Sync`, shared by `Arc`.
#[derive(Debug, Clone)]
pub struct CompiledModel {
    /// Names of the states.
    pub states: Vec<String>,
    /// Names of the parameters p (theta first).
    pub parameters: Vec<String>,
    /// Number of leading parameters that are rows of the PEtab parameter table.
    pub theta: usize,
    /// Right-hand side dx/dt = f(t, x, p).
    pub rhs: Function,
    /// Discontinuities of the right-hand side.
    pub switches: Vec<Switch>,
    /// Root functions of the switches, one output each.
    pub roots: Function,
    /// Events.
    pub events: Vec<Event>,
    /// Conditions of the events, one output each.
    pub triggers: Kernel,
    /// Events whose times are measured, in the order of the problem's event table.
    pub observed_events: Vec<ObservedEvent>,
    /// Equations that hold at all times.
    pub invariants: Invariants,
    /// Conserved quantities, where the problem has steady states.
    pub conserved: Vec<Conservation>,
    /// Quantities at earlier times.
    pub delays: Delays,
    /// Conditions that are watched, one output each: not 0 where the model is to be trusted.
    pub constraints: Kernel,
    /// Quantities to be written.
    pub outputs: Kernel,
    /// Observables: outputs (simulation, noise scale) as functions of (t, x, p, q).
    pub observables: Vec<Function>,
    /// Experiments.
    pub experiments: Vec<CompiledExperiment>,
}

/// What to derive and how to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompileOptions {
    /// Second derivatives too (population models need them).
    pub second: bool,
    /// No derivatives but those that the integration of the states needs.
    pub values_only: bool,
    /// How kernels are run.
    pub backend: Backend,
}

/// Derives and compiles all functions of a system.
pub fn compile(system: &OdeSystem, options: CompileOptions) -> Result<Arc<CompiledModel>, CompileError> {
    let mut deriver = Deriver::new(system, options.second);
    let rates: Vec<ExprId> = system.states.iter().map(|s| s.rate).collect();
    let rhs = deriver.function(&rates);
    deriver.moving_time = true;
    let roots: Vec<ExprId> = system.switches.iter().map(|s| s.root).collect();
    let roots = deriver.function(&roots);
    let residuals: Vec<ExprId> = system.invariants.iter().map(|i| i.residual).collect();
    let residuals = deriver.function(&residuals);
    deriver.values_only = options.values_only;
    deriver.moving_time = false;
    let observables: Vec<usize> = system.observables.iter().map(|o| deriver.function(&[o.value, o.noise])).collect();
    // What no condition touches is the same in all setups.
    let outputs: Vec<Vec<ExprId>> = system.setups.iter().map(|s| s.parameters.iter().chain(&s.states).copied().collect()).collect();
    let common: Vec<ExprId> = outputs.first().cloned().unwrap_or_default();
    let common_function = deriver.function(&common);
    let setups: Vec<(usize, Arc<[u32]>)> = (outputs.iter())
        .map(|outputs| {
            let own: Vec<usize> = (0..outputs.len()).filter(|i| outputs[*i] != common[*i]).collect();
            let function = deriver.function(&own.iter().map(|i| outputs[*i]).collect::<Vec<_>>());
            (function, own.iter().map(|i| *i as u32).collect())
        })
        .collect();
    let mut ways: FxHashMap<(usize, Vec<(u8, u64)>), usize> = FxHashMap::default();
    let equilibrations: Vec<Option<Equilibration>> = (system.experiments.iter())
        .map(|e| {
            let start = e.equilibration?;
            let settings = e.settings.iter().map(|s| match s {
                Setting::Number(v) => (0, v.to_bits()),
                Setting::Theta(j) => (1, *j as u64),
            });
            let next = ways.len();
            Some(Equilibration { start, number: *ways.entry((e.setup, settings.collect())).or_insert(next) })
        })
        .collect();
    deriver.moving_time = true;
    let changes: Vec<Vec<AssignmentFunctions>> =
        system.experiments.iter().map(|e| e.changes.iter().map(|c| deriver.assignments(&c.assignments)).collect()).collect();
    let events: Vec<(Option<usize>, AssignmentFunctions)> =
        system.events.iter().map(|e| (e.delay.map(|d| deriver.function(&[d])), deriver.assignments(&e.assignments))).collect();
    let places: Vec<(usize, usize)> =
        system.invariants.iter().enumerate().flat_map(|(k, i)| i.directions.iter().map(move |d| (k, d.0))).collect();
    let directions: Vec<ExprId> = system.invariants.iter().flat_map(|i| &i.directions).map(|d| d.1).collect();
    let directions_vary = directions.iter().any(|d| system.graph.constant_value(*d).is_none());
    let mut kernel = |outputs: Vec<ExprId>| deriver.kernel(outputs);
    let directions = kernel(directions);
    let triggers = kernel(system.events.iter().map(|e| e.trigger).collect());
    let outputs = kernel(system.outputs.clone());
    let constraints = kernel(system.constraints.iter().map(|c| c.condition).collect());
    let priorities: Vec<Option<usize>> = system.events.iter().map(|e| e.priority.map(|p| kernel(vec![p]))).collect();
    let delayed: Vec<[usize; 2]> = system.delays.iter().map(|d| [kernel(vec![d.value]), kernel(vec![d.delay])]).collect();
    let before: Vec<Vec<usize>> = system.setups.iter().map(|e| e.before.iter().map(|b| kernel(vec![*b])).collect()).collect();
    let (functions, kernels) = deriver.compile(options.backend)?;
    let functions: Vec<Arc<Function>> = functions.into_iter().map(Arc::new).collect();
    let function = |i: usize| Function::clone(&functions[i]);
    let assignments = |a: &AssignmentFormulas, f: AssignmentFunctions| Assignments {
        targets: a.targets.clone(),
        values: functions[f.values].clone(),
        volumes: a.volumes.is_some().then(|| functions[f.volumes].clone()),
        numbers: f.numbers,
    };
    let flags: FxHashMap<SymbolId, usize> =
        system.switches.iter().enumerate().map(|(j, s)| (system.parameters[s.flag].symbol, j)).collect();
    Ok(Arc::new(CompiledModel {
        states: system.states.iter().map(|s| s.id.clone()).collect(),
        parameters: system.parameters.iter().map(|p| p.id.clone()).collect(),
        theta: system.theta,
        rhs: function(rhs),
        switches: system
            .switches
            .iter()
            .map(|s| Switch {
                flag: s.flag,
                explicit_time: s.explicit_time,
                curved_in_time: s.curved_in_time,
                kind: s.kind,
                only_observed: s.only_observed,
            })
            .collect(),
        roots: function(roots),
        events: (system.events.iter().zip(events).zip(priorities))
            .map(|((e, (delay, places)), priority)| Event {
                id: e.id.clone(),
                initial_value: e.initial_value,
                persistent: e.persistent,
                delay: delay.map(function),
                priority: priority.map(|p| kernels[p].clone()),
                values_from_trigger_time: e.values_from_trigger_time,
                assignments: assignments(&e.assignments, places),
                switches: system.graph.symbols_of(&[e.trigger]).iter().filter_map(|s| flags.get(s).copied()).collect(),
            })
            .collect(),
        triggers: kernels[triggers].clone(),
        observed_events: system.observed_events.clone(),
        invariants: Invariants {
            residuals: function(residuals),
            places,
            directions: kernels[directions].clone(),
            directions_vary,
            positive: system.invariants.iter().map(|i| i.positive).collect(),
        },
        conserved: system.conserved.clone(),
        delays: Delays {
            parameters: system.delays.iter().map(|d| d.parameter).collect(),
            values: delayed.iter().map(|d| kernels[d[0]].clone()).collect(),
            delays: delayed.iter().map(|d| kernels[d[1]].clone()).collect(),
        },
        constraints: kernels[constraints].clone(),
        outputs: kernels[outputs].clone(),
        observables: observables.iter().map(|f| function(*f)).collect(),
        experiments: (system.experiments.iter().zip(changes).zip(equilibrations))
            .map(|((e, changes), equilibration)| CompiledExperiment {
                id: e.id.clone(),
                start: e.start,
                equilibration,
                setup: Setup {
                    common: functions[common_function].clone(),
                    own: functions[setups[e.setup].0].clone(),
                    own_outputs: setups[e.setup].1.clone(),
                    settings: e.settings.clone(),
                },
                changes: (e.changes.iter().zip(changes))
                    .map(|(c, places)| PeriodChange { time: c.time, assignments: assignments(&c.assignments, places) })
                    .collect(),
                before: before[e.setup].iter().map(|b| kernels[*b].clone()).collect(),
            })
            .collect(),
    }))
}

/// Collects the expression lists of all functions so that they are compiled together.
struct Deriver {
    graph: Graph,
    layout: Layout,
    time: SymbolId,
    /// Index in z of every symbol that is differentiated by: states, active parameters, placeholders.
    variables: FxHashMap<SymbolId, u32>,
    nx: u32,
    /// Index of time in z.
    clock: u32,
    second: bool,
    /// Whether second derivatives by time are wanted too.
    moving_time: bool,
    /// Whether functions get no derivatives.
    values_only: bool,
    /// Functions that assignments share.
    known: FxHashMap<Vec<ExprId>, usize>,
    programs: Vec<Vec<ExprId>>,
    patterns: Vec<Patterns>,
}

/// Functions of assignments, by their numbers.
struct AssignmentFunctions {
    values: usize,
    volumes: usize,
    numbers: Vec<f64>,
}

/// Sparsity of one function; its programs stand at value, dx, dp, dt, second in this order.
struct Patterns {
    first_program: usize,
    dx: (Vec<u32>, Vec<u32>),
    dp: (Vec<u32>, Vec<u32>),
    second: Option<Vec<[u32; 3]>>,
}

impl Deriver {
    fn new(system: &OdeSystem, second: bool) -> Self {
        let mut layout = Layout::new();
        layout.place(system.time, array::TIME, 0);
        let mut variables = FxHashMap::default();
        let (nx, np) = (system.states.len() as u32, system.parameters.len() as u32);
        for (i, s) in system.states.iter().enumerate() {
            layout.place(s.symbol, array::STATES, i);
            variables.insert(s.symbol, i as u32);
        }
        for (j, p) in system.parameters.iter().enumerate() {
            layout.place(p.symbol, array::PARAMETERS, j);
            if p.active {
                variables.insert(p.symbol, nx + j as u32);
            }
        }
        for o in &system.observables {
            for (k, q) in o.placeholders.iter().enumerate() {
                layout.place(*q, array::PLACEHOLDERS, k);
                variables.insert(*q, nx + np + k as u32);
            }
        }
        for (k, input) in system.inputs.iter().enumerate() {
            layout.place(*input, array::PLACEHOLDERS, k);
            variables.insert(*input, nx + np + k as u32);
        }
        Deriver {
            graph: system.graph.clone(),
            layout,
            time: system.time,
            variables,
            nx,
            clock: nx + np,
            second,
            moving_time: false,
            values_only: false,
            known: FxHashMap::default(),
            programs: Vec::new(),
            patterns: Vec::new(),
        }
    }

    /// The variables an expression depends on, in order of their index in z.
    fn variables_of(&self, e: ExprId) -> Vec<(u32, SymbolId)> {
        let clock = |s: SymbolId| (self.moving_time && s == self.time).then_some(self.clock);
        let index = |s: SymbolId| self.variables.get(&s).copied().or_else(|| clock(s));
        let mut found: Vec<(u32, SymbolId)> = self.graph.symbols_of(&[e]).into_iter().filter_map(|s| Some((index(s)?, s))).collect();
        found.sort_unstable();
        found
    }

    fn function(&mut self, outputs: &[ExprId]) -> usize {
        let zero = self.graph.constant(0.0);
        let (mut dx, mut dp) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        let (mut dx_values, mut dp_values, mut dt_values) = (Vec::new(), Vec::new(), Vec::new());
        let (mut second, mut second_values) = (Vec::new(), Vec::new());
        let derived = if self.values_only { &[] } else { outputs };
        for (i, e) in derived.iter().enumerate() {
            for (a, symbol) in self.variables_of(*e) {
                let slope = self.graph.derivative(*e, symbol);
                if slope == zero {
                    continue;
                }
                if !(self.moving_time && a == self.clock) {
                    let (pattern, values, column) =
                        if a < self.nx { (&mut dx, &mut dx_values, a) } else { (&mut dp, &mut dp_values, a - self.nx) };
                    pattern.0.push(i as u32);
                    pattern.1.push(column);
                    values.push(slope);
                }
                if self.second {
                    for (b, symbol) in self.variables_of(slope).into_iter().filter(|(b, _)| *b >= a) {
                        let curvature = self.graph.derivative(slope, symbol);
                        if curvature != zero {
                            second.push([i as u32, a, b]);
                            second_values.push(curvature);
                        }
                    }
                }
            }
            dt_values.push(self.graph.derivative(*e, self.time));
        }
        let first_program = self.programs.len();
        self.programs.extend([outputs.to_vec(), dx_values, dp_values, dt_values]);
        if self.second {
            self.programs.push(second_values);
        }
        self.patterns.push(Patterns { first_program, dx, dp, second: self.second.then_some(second) });
        self.patterns.len() - 1
    }

    /// A function that may have been made before.
    fn shared_function(&mut self, outputs: Vec<ExprId>) -> usize {
        if let Some(known) = self.known.get(&outputs) {
            return *known;
        }
        let function = self.function(&outputs);
        self.known.insert(outputs, function);
        function
    }

    /// Values and volumes of assignments. Numbers are inputs, so that conditions that differ in them share the functions.
    fn assignments(&mut self, assignments: &AssignmentFormulas) -> AssignmentFunctions {
        let mut numbers = Vec::new();
        let mut values = assignments.values.clone();
        for value in &mut values {
            if let Some(number) = self.graph.constant_value(*value) {
                *value = self.graph.symbol(&format!("<number {}>", numbers.len()));
                if let Some(symbol) = self.graph.symbol_id(*value) {
                    self.layout.place(symbol, array::PLACEHOLDERS, numbers.len());
                }
                numbers.push(number);
            }
        }
        let values = self.shared_function(values);
        let volumes = self.shared_function(assignments.volumes.clone().unwrap_or_default());
        AssignmentFunctions { values, volumes, numbers }
    }

    /// A list of expressions without derivatives; returns the index of its kernel.
    fn kernel(&mut self, outputs: Vec<ExprId>) -> usize {
        self.programs.push(outputs);
        self.programs.len() - 1
    }

    /// All functions, and all kernels.
    fn compile(self, backend: Backend) -> Result<(Vec<Function>, Vec<Kernel>), CompileError> {
        let programs: Vec<&[ExprId]> = self.programs.iter().map(Vec::as_slice).collect();
        let kernels = jit::compile(&self.graph, &self.layout, &programs, backend)?;
        let kernel = |i: usize| kernels[i].clone();
        let functions = self
            .patterns
            .into_iter()
            .map(|p| Function {
                value: kernel(p.first_program),
                dx: SparseKernel { kernel: kernel(p.first_program + 1), rows: p.dx.0, columns: p.dx.1 },
                dp: SparseKernel { kernel: kernel(p.first_program + 2), rows: p.dp.0, columns: p.dp.1 },
                dt: kernel(p.first_program + 3),
                second: p.second.map(|entries| TensorKernel { kernel: kernel(p.first_program + 4), entries }),
            })
            .collect();
        Ok((functions, kernels))
    }
}
