//! The compiled model: every function of the system with its derivatives, ready to call from any thread.

use super::system::OdeSystem;
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
/// a < b stand for both orders. z = (x, p, q): states at 0..nx, parameters at nx..nx+np, placeholders from nx+np on.
#[derive(Debug, Clone)]
pub struct TensorKernel {
    /// Writes the entries' values in order.
    pub kernel: Kernel,
    /// (output, first variable, second variable), sorted.
    pub entries: Vec<[u32; 3]>,
}

/// A vector function of (t, x, p, q) and its derivatives. Derivatives with respect to parameters are kept for *active* parameters
/// only, that is those that can depend on an estimated parameter.
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

/// A discontinuity of the right-hand side: a comparison inside a formula. Its truth value stands in the parameter
/// `flag` (0 or 1) so that the right-hand side is smooth between switches; output j of [`CompiledModel::roots`] is positive
/// where the flag is 1 and negative where it is 0.
#[derive(Debug, Clone)]
pub struct Switch {
    /// Index of the flag in p.
    pub flag: usize,
    /// Whether the root depends on time and parameters only, and affinely on time: then it is at t = -g(0)/g_t and the
    /// integrator stops there; otherwise it is found by root finding.
    pub explicit_time: bool,
    /// Truth value of the comparison where its sides are equal (`<=`, `>=`: true). The flag at the start of a simulation when g = 0 and dg/dt = 0.
    pub true_when_equal: bool,
}

/// What a period change sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A state.
    State(usize),
    /// A parameter.
    Parameter(usize),
}

/// Simultaneous changes at the start of a later period of an experiment.
#[derive(Debug, Clone)]
pub struct PeriodChange {
    /// When.
    pub time: f64,
    /// What is set, one per output of `function`.
    pub targets: Vec<Target>,
    /// The new values as functions of (t, x, p) just before.
    pub function: Function,
}

/// An experiment, ready to run.
#[derive(Debug, Clone)]
pub struct CompiledExperiment {
    /// Identifier.
    pub id: String,
    /// Start time.
    pub start: f64,
    /// Outputs: all np parameters, then all nx initial states, as functions of p with only the theta part filled in.
    pub setup: Function,
    /// Changes at later times, in order.
    pub changes: Vec<PeriodChange>,
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
    /// How kernels are run.
    pub backend: Backend,
}

/// Derives and compiles all functions of a system.
pub fn compile(system: &OdeSystem, options: CompileOptions) -> Result<Arc<CompiledModel>, CompileError> {
    let mut deriver = Deriver::new(system, options.second);
    let rates: Vec<ExprId> = system.states.iter().map(|s| s.rate).collect();
    let rhs = deriver.function(&rates);
    let roots: Vec<ExprId> = system.switches.iter().map(|s| s.root).collect();
    let roots = deriver.function(&roots);
    let observables: Vec<usize> = system.observables.iter().map(|o| deriver.function(&[o.value, o.noise])).collect();
    let experiments: Vec<(usize, Vec<usize>)> = system
        .experiments
        .iter()
        .map(|e| {
            let outputs: Vec<ExprId> = e.parameters.iter().chain(&e.states).copied().collect();
            (deriver.function(&outputs), e.changes.iter().map(|c| deriver.function(&c.values)).collect())
        })
        .collect();
    let functions = deriver.compile(options.backend)?;
    Ok(Arc::new(CompiledModel {
        states: system.states.iter().map(|s| s.id.clone()).collect(),
        parameters: system.parameters.iter().map(|p| p.id.clone()).collect(),
        theta: system.theta,
        rhs: functions[rhs].clone(),
        switches: system
            .switches
            .iter()
            .map(|s| Switch { flag: s.flag, explicit_time: s.explicit_time, true_when_equal: s.true_when_equal })
            .collect(),
        roots: functions[roots].clone(),
        observables: observables.iter().map(|f| functions[*f].clone()).collect(),
        experiments: (system.experiments.iter().zip(experiments))
            .map(|(e, (setup, changes))| CompiledExperiment {
                id: e.id.clone(),
                start: e.start,
                setup: functions[setup].clone(),
                changes: (e.changes.iter().zip(changes))
                    .map(|(c, f)| PeriodChange { time: c.time, targets: c.targets.clone(), function: functions[f].clone() })
                    .collect(),
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
    second: bool,
    programs: Vec<Vec<ExprId>>,
    patterns: Vec<Patterns>,
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
        Deriver { graph: system.graph.clone(), layout, time: system.time, variables, nx, second, programs: Vec::new(), patterns: Vec::new() }
    }

    /// The variables an expression depends on, in order of their index in z.
    fn variables_of(&self, e: ExprId) -> Vec<(u32, SymbolId)> {
        let mut found: Vec<(u32, SymbolId)> = self.graph.symbols_of(&[e]).into_iter().filter_map(|s| Some((*self.variables.get(&s)?, s))).collect();
        found.sort_unstable();
        found
    }

    fn function(&mut self, outputs: &[ExprId]) -> usize {
        let zero = self.graph.constant(0.0);
        let (mut dx, mut dp) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        let (mut dx_values, mut dp_values, mut dt_values) = (Vec::new(), Vec::new(), Vec::new());
        let (mut second, mut second_values) = (Vec::new(), Vec::new());
        for (i, e) in outputs.iter().enumerate() {
            for (a, symbol) in self.variables_of(*e) {
                let slope = self.graph.derivative(*e, symbol);
                if slope == zero {
                    continue;
                }
                let (pattern, values, column) = if a < self.nx { (&mut dx, &mut dx_values, a) } else { (&mut dp, &mut dp_values, a - self.nx) };
                pattern.0.push(i as u32);
                pattern.1.push(column);
                values.push(slope);
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

    fn compile(self, backend: Backend) -> Result<Vec<Function>, CompileError> {
        let programs: Vec<&[ExprId]> = self.programs.iter().map(Vec::as_slice).collect();
        let kernels = jit::compile(&self.graph, &self.layout, &programs, backend)?;
        let kernel = |i: usize| kernels[i].clone();
        Ok(self
            .patterns
            .into_iter()
            .map(|p| Function {
                value: kernel(p.first_program),
                dx: SparseKernel { kernel: kernel(p.first_program + 1), rows: p.dx.0, columns: p.dx.1 },
                dp: SparseKernel { kernel: kernel(p.first_program + 2), rows: p.dp.0, columns: p.dp.1 },
                dt: kernel(p.first_program + 3),
                second: p.second.map(|entries| TensorKernel { kernel: kernel(p.first_program + 4), entries }),
            })
            .collect())
    }
}
