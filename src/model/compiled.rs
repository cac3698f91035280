//! The compiled model: every function of the system with its derivatives, ready to call from any thread.

use crate::jit::Kernel;

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
