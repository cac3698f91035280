//! Machine code for lists of expressions.
//!
//! A kernel reads up to four input arrays and writes one output array. What the arrays mean is the caller's business: a
//! [`Layout`] says for each symbol in which array and at which place it stands. Kernels are pure functions: they read the
//! inputs, write `out` and the scratch, and touch nothing else, so one kernel may run on many threads at once.

use crate::expr::{ExprId, Graph, SymbolId};
use rustc_hash::FxHashMap;

/// Number of input arrays of a kernel.
pub const ARRAYS: usize = 4;

/// Place of every symbol: (array, offset).
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub(crate) places: FxHashMap<SymbolId, (u8, u32)>,
}

impl Layout {
    /// No symbol placed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places `symbol` at `offset` of input array `array` (below [`ARRAYS`]).
    pub fn place(&mut self, symbol: SymbolId, array: usize, offset: usize) {
        self.places.insert(symbol, (array as u8, offset as u32));
    }
}

/// How kernels are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Machine code where the processor is supported, else the interpreter.
    #[default]
    Auto,
    /// Machine code or an error.
    Machine,
    /// The interpreter.
    Interpreter,
}

/// Why no code could be made.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A symbol of an output has no place in the layout.
    #[error("symbol `{0}` has no place in the kernel's inputs")]
    Unplaced(String),
    /// The code generator failed.
    #[error("code generation failed: {0}")]
    Backend(String),
}

/// One compiled list of expressions. Cloning is cheap; the machine code is freed with the last clone.
#[derive(Debug, Clone)]
pub struct Kernel {
    outputs: usize,
}

/// Working memory of kernel calls; grows to the largest need and is re-used.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    #[allow(dead_code)]
    values: Vec<f64>,
}

impl Kernel {
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Evaluates all outputs into `out` (length [`Kernel::outputs`]). Input arrays must be at least as long as the
    /// largest offset placed in them; shorter ones are a bug and panic.
    pub fn call(&self, _inputs: [&[f64]; ARRAYS], _out: &mut [f64], _scratch: &mut Scratch) {
        todo!()
    }
}

/// Compiles several expression lists over one layout into one piece of code, in the order given.
pub fn compile(_graph: &Graph, _layout: &Layout, _programs: &[&[ExprId]], _backend: Backend) -> Result<Vec<Kernel>, CompileError> {
    todo!()
}
