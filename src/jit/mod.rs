//! Machine code for lists of expressions.
//!
//! A kernel reads up to four input arrays and writes one output array. What the arrays mean is the caller's business: a
//! [`Layout`] says for each symbol in which array and at which place it stands. Kernels are pure functions: they read the
//! inputs, write `out` and the scratch, and touch nothing else, so one kernel may run on many threads at once.

mod cranelift;
mod program;

use crate::expr::{ExprId, Graph, SymbolId};
use cranelift::Code;
use program::Program;
use rustc_hash::FxHashMap;
use std::sync::Arc;

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
    /// If `array` is not below [`ARRAYS`] or `offset` not below 2^28: machine code addresses places by 32-bit byte offsets.
    pub fn place(&mut self, symbol: SymbolId, array: usize, offset: usize) {
        assert!(array < ARRAYS, "input array {array} of a kernel");
        assert!(offset < 1 << 28, "offset {offset} of a kernel's input");
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

/// One compiled list of expressions. Cloning is cheap; the machine code is freed with the last clone of all kernels compiled together.
#[derive(Debug, Clone)]
pub struct Kernel {
    outputs: usize,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Program(Arc<Program>),
    /// The code and the number of the kernel in it.
    Machine(Arc<Code>, usize),
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
    /// If an input array is shorter than the largest offset placed in it that the kernel reads, or `out` has another length.
    pub fn call(&self, inputs: [&[f64]; ARRAYS], out: &mut [f64], scratch: &mut Scratch) {
        match &self.body {
            Body::Program(program) => program.interpret(inputs, out, &mut scratch.values),
            Body::Machine(code, kernel) => code.call(*kernel, inputs, out, &mut scratch.values),
        }
    }
}

/// Compiles several expression lists over one layout into one piece of code, in the order given.
///
/// # Errors
/// A symbol without a place; with [`Backend::Machine`] also an unsupported processor; failures of the code generator.
pub fn compile(graph: &Graph, layout: &Layout, programs: &[&[ExprId]], backend: Backend) -> Result<Vec<Kernel>, CompileError> {
    let programs = programs.iter().map(|outputs| Program::new(graph, layout, outputs)).collect::<Result<Vec<_>, _>>()?;
    let outputs: Vec<usize> = programs.iter().map(|p| p.outputs.len()).collect();
    let machine = match backend {
        Backend::Interpreter => false,
        Backend::Machine => true,
        // Without outputs there is nothing to compile.
        Backend::Auto => cranelift::supported() && outputs.iter().any(|n| *n > 0),
    };
    let bodies: Vec<Body> = if machine {
        let code = Arc::new(cranelift::compile(&programs)?);
        (0..programs.len()).map(|kernel| Body::Machine(Arc::clone(&code), kernel)).collect()
    } else {
        programs.into_iter().map(|program| Body::Program(Arc::new(program))).collect()
    };
    Ok(outputs.into_iter().zip(bodies).map(|(outputs, body)| Kernel { outputs, body }).collect())
}
