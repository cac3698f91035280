//! One simulator per thread: owns the integrator and all its memory, re-used without allocation.

use super::SimulationError;
use crate::model::CompiledModel;
use crate::model::compiled::PeriodChange;
use std::sync::Arc;

/// Integration settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Relative tolerance of the states.
    pub rtol: f64,
    /// Absolute tolerance of the states.
    pub atol: f64,
    /// Factor by which the tolerances of sensitivity columns are looser than the states'.
    pub sensitivity_factor: f64,
    /// Most steps between two output times.
    pub max_steps: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { rtol: 1e-8, atol: 1e-12, sensitivity_factor: 10.0, max_steps: 100_000 }
    }
}

/// Second-order directions.
#[derive(Debug, Clone, Copy)]
pub struct Second<'a> {
    /// Pairs (k, l), k <= l, of first-order directions.
    pub pairs: &'a [(u32, u32)],
    /// d2 x0 / (dxi_k dxi_l): nx rows by pairs columns, row-major.
    pub states: &'a [f64],
    /// d2 p / (dxi_k dxi_l): np rows by pairs columns, row-major.
    pub parameters: &'a [f64],
}

/// Start of a simulation and the directions to propagate. Directions should be scaled to be of the order of the states
/// themselves (derivatives by log-parameters are), since their absolute tolerance is the states'.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Start time.
    pub start: f64,
    /// Initial states (nx).
    pub states: &'a [f64],
    /// Parameters (np); the flags of switches are set by the simulator.
    pub parameters: &'a [f64],
    /// Changes at later times.
    pub changes: &'a [PeriodChange],
    /// Number ns of first-order directions.
    pub directions: usize,
    /// dx0/dxi: nx rows by ns columns, row-major.
    pub state_seeds: &'a [f64],
    /// dp/dxi: np rows by ns columns, row-major.
    pub parameter_seeds: &'a [f64],
    /// Second-order directions.
    pub second: Option<Second<'a>>,
}

/// Work done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub simulations: u64,
    pub steps: u64,
    pub rhs_evaluations: u64,
    pub jacobian_evaluations: u64,
    pub factorisations: u64,
    pub newton_iterations: u64,
    pub error_test_failures: u64,
    pub newton_failures: u64,
}

/// States and sensitivities at the output times, with the parameters and seeds in force there.
#[derive(Debug, Clone, Default)]
pub struct Trajectory {
    /// Output times.
    pub times: Vec<f64>,
    /// Number of states.
    pub nx: usize,
    /// Columns of a block: 1 + directions + pairs.
    pub columns: usize,
    /// One block per output time: nx rows by `columns`, row-major.
    pub blocks: Vec<f64>,
    /// Which segment (period) each output time belongs to.
    pub segment: Vec<usize>,
    /// Parameters of each segment (np).
    pub parameters: Vec<Vec<f64>>,
    /// dp/dxi (np by ns) of each segment.
    pub parameter_seeds: Vec<Vec<f64>>,
    /// d2p/dxi2 (np by pairs) of each segment.
    pub parameter_second: Vec<Vec<f64>>,
}

impl Trajectory {
    /// The block of output time `i`.
    pub fn block(&self, i: usize) -> &[f64] {
        let n = self.nx * self.columns;
        &self.blocks[i * n..(i + 1) * n]
    }
}

/// Integrates one model; not shared between threads.
pub struct Simulator {
    #[allow(dead_code)]
    model: Arc<CompiledModel>,
}

impl Simulator {
    /// A simulator for `model`.
    pub fn new(_model: Arc<CompiledModel>, _options: Options) -> Result<Self, SimulationError> {
        todo!()
    }

    /// Simulates from `input.start` and returns the blocks at `times` (sorted, finite, not before the start). At a time where a period
    /// changes, the output is the state after the change.
    pub fn simulate(&mut self, _input: &Input, _times: &[f64]) -> Result<&Trajectory, SimulationError> {
        todo!()
    }

    /// Work done since the simulator was made.
    pub fn counts(&self) -> Counts {
        todo!()
    }
}
