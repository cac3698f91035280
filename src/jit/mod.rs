//! Machine code for lists of expressions.
//!
//! A kernel reads up to four input arrays and writes one output array. What the arrays mean is the caller's business: a
//! [`Layout`] says for each symbol in which array and at which place it stands. Kernels are pure functions: they read the
//! inputs, write `out` and the scratch, and touch nothing else, so one kernel may run on many threads at once.

use crate::expr::{ExprId, Graph, SymbolId};
use rustc_hash::FxHashMap;
use schedule::{Program, schedule};
use std::sync::Arc;

mod schedule;

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

    /// Places `symbol` at `offset` of input array `array`.
    ///
    /// # Panics
    /// If `array` is not below [`ARRAYS`] or `offset` not below 2^28 (machine code addresses 2^31 bytes).
    pub fn place(&mut self, symbol: SymbolId, array: usize, offset: usize) {
        assert!(array < ARRAYS && offset < 1 << 28, "no place {offset} in input array {array}");
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

/// One compiled list of expressions. Cloning is cheap; the code is freed with the last clone.
#[derive(Debug, Clone)]
pub struct Kernel {
    outputs: usize,
    lengths: [usize; ARRAYS],
    body: Body,
}

/// What runs.
#[derive(Debug, Clone)]
enum Body {
    Interpreted(Arc<Program>),
}

/// Working memory of kernel calls; grows to the largest need and is re-used.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    values: Vec<f64>,
}

impl Kernel {
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Evaluates all outputs into `out` (length [`Kernel::outputs`]).
    ///
    /// # Panics
    /// Where `out` has another length, or an input array does not reach to the largest offset that this kernel reads from it:
    /// that is a bug of the caller.
    pub fn call(&self, inputs: [&[f64]; ARRAYS], out: &mut [f64], scratch: &mut Scratch) {
        assert_eq!(out.len(), self.outputs, "length of a kernel's output");
        for (array, (input, needed)) in inputs.iter().zip(self.lengths).enumerate() {
            assert!(input.len() >= needed, "input array {array} of a kernel has {} elements, {needed} are read", input.len());
        }
        match &self.body {
            Body::Interpreted(program) => program.interpret(inputs, out, &mut scratch.values),
        }
    }
}

/// Compiles several expression lists over one layout into one piece of code, in the order given.
///
/// Fails: [`CompileError::Unplaced`] where an output needs a symbol that the layout lacks.
pub fn compile(graph: &Graph, layout: &Layout, programs: &[&[ExprId]], _backend: Backend) -> Result<Vec<Kernel>, CompileError> {
    let mut kernels = Vec::with_capacity(programs.len());
    for outputs in programs {
        let program = schedule(graph, layout, outputs)?;
        kernels.push(Kernel { outputs: outputs.len(), lengths: program.lengths, body: Body::Interpreted(Arc::new(program)) });
    }
    Ok(kernels)
}
