//! Programs as machine code, made in process by Cranelift.
//!
//! The code computes bit for bit what the interpreter computes: arithmetic and comparisons are single IEEE instructions (never
//! fused), everything else calls the very functions of [`Unary::apply`] and [`Binary::apply`].
//!
//! Compile time grows faster than linearly with the length of a function, so long programs are cut into several functions, run
//! one after another; values that cross go through scratch memory.

use super::program::{Chunk, Item, Program, Step};
use super::{ARRAYS, CompileError};
use crate::expr::{Binary, Unary};
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, SigRef, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

/// Items per function. From 128 to 512 neither the time to compile nor that to run changes much (benches/kernels.rs).
const CHUNK: usize = 256;

/// One function of machine code: four input arrays, output, scratch.
type Entry = unsafe extern "C" fn(*const f64, *const f64, *const f64, *const f64, *mut f64, *mut f64);

/// Machine code and the functions in it.
pub(super) struct Code {
    /// Present until drop.
    module: Option<JITModule>,
    entries: Vec<Entry>,
    kernels: Vec<Shape>,
}

/// The functions of one kernel and what it demands of its arguments.
struct Shape {
    entries: std::ops::Range<usize>,
    needs: [usize; ARRAYS],
    outputs: usize,
    scratch: usize,
}

// SAFETY: After `compile` has finished, code pages are read-only and neither `module` nor the other fields change until drop.
// Kernels read their inputs and write only to the output and scratch of their caller, and the functions that they call
// (`Unary::apply`, `Binary::apply`) are pure; no kernel touches globals. So references may be used on several threads at once.
unsafe impl Sync for Code {}
// `Send` needs no word: `JITModule` and function pointers are `Send`.

impl Drop for Code {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: The entries are private to this value and called only through a reference to it, so none can be running or
            // be called later.
            unsafe { module.free_memory() }
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Code({} kernels, {} functions)", self.kernels.len(), self.entries.len())
    }
}

impl Code {
    /// Runs a kernel. The arguments' lengths are checked.
    pub fn call(&self, kernel: usize, inputs: [&[f64]; ARRAYS], out: &mut [f64], scratch: &mut Vec<f64>) {
        let shape = &self.kernels[kernel];
        assert_eq!(out.len(), shape.outputs, "length of a kernel's output");
        for (input, need) in inputs.iter().zip(shape.needs) {
            assert!(input.len() >= need, "an input array of a kernel is too short");
        }
        if scratch.len() < shape.scratch {
            scratch.resize(shape.scratch, 0.0);
        }
        let [a, b, c, d] = inputs.map(<[f64]>::as_ptr);
        let (out, scratch) = (out.as_mut_ptr(), scratch.as_mut_ptr());
        for entry in &self.entries[shape.entries.clone()] {
            // SAFETY: The function was compiled for this signature and calling convention and its pages live as long as `self`. It
            // reads input array k below `needs[k]`, writes `out` below `outputs`, and reads and writes `scratch` below
            // `shape.scratch`, all checked above; the borrows keep the three kinds of memory apart.
            unsafe { entry(a, b, c, d, out, scratch) }
        }
    }
}

/// The host's code generator, or why there is none.
fn host() -> Result<&'static OwnedTargetIsa, CompileError> {
    static HOST: OnceLock<Result<OwnedTargetIsa, String>> = OnceLock::new();
    HOST.get_or_init(|| {
        let mut flags = settings::builder();
        let values = [
            ("use_colocated_libcalls", "false"),
            ("is_pic", "false"),
            ("unwind_info", "false"),
            ("probestack_strategy", "inline"),
            // Measured with benches/kernels.rs: optimised code is faster and, being shorter, not compiled more slowly; the
            // single-pass register allocator saves little time.
            ("opt_level", "speed"),
            ("regalloc_algorithm", "backtracking"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ];
        for (name, value) in values {
            flags.set(name, value).map_err(|e| e.to_string())?;
        }
        cranelift_native::builder()?.finish(settings::Flags::new(flags)).map_err(|e| e.to_string())
    })
    .as_ref()
    .map_err(|e| CompileError::Backend(e.clone()))
}

/// Whether the host can run machine code.
pub(super) fn supported() -> bool {
    host().is_ok()
}

/// Compiles programs into one piece of code; kernel `i` of it is program `i`.
pub(super) fn compile(programs: &[Program]) -> Result<Code, CompileError> {
    let failed = |e: ModuleError| CompileError::Backend(e.to_string());
    let isa = host()?;
    let builder = JITBuilder::with_isa(isa.clone(), cranelift_module::default_libcall_names());
    let mut code = Code { module: None, entries: Vec::new(), kernels: Vec::new() };
    let module = code.module.insert(JITModule::new(builder));
    let signatures = Signatures::new(&**isa);

    let mut parts = Vec::new();
    for program in programs {
        let first = parts.len();
        let mut scratch = 0;
        if !program.outputs.is_empty() {
            let chunks;
            (chunks, scratch) = program.cut(CHUNK);
            for chunk in chunks {
                let id = module.declare_anonymous_function(&signatures.kernel).map_err(failed)?;
                parts.push((id, program, chunk));
            }
        }
        code.kernels.push(Shape { entries: first..parts.len(), needs: program.needs, outputs: program.outputs.len(), scratch });
    }

    let workspace = || (Context::new(), FunctionBuilderContext::new());
    let generate = |(context, builder): &mut (Context, FunctionBuilderContext), (id, program, chunk): &(FuncId, &Program, Chunk)| {
        generate(*id, program, chunk, &signatures, &**isa, context, builder)
    };
    // A few functions are ready sooner than other threads are awake.
    let functions: Vec<Result<Function, CompileError>> = if parts.len() < 4 {
        let mut workspace = workspace();
        parts.iter().map(|part| generate(&mut workspace, part)).collect()
    } else {
        parts.par_iter().map_init(workspace, generate).collect()
    };
    for ((id, ..), function) in parts.iter().zip(functions) {
        let function = function?;
        module.define_function_bytes(*id, function.alignment, &function.bytes, &function.relocations).map_err(failed)?;
    }
    module.finalize_definitions().map_err(failed)?;
    for (id, ..) in &parts {
        let address = module.get_finalized_function(*id);
        // SAFETY: The address is that of a finished function, compiled for the host's C calling convention with the six pointer
        // parameters of `Entry` and no result.
        code.entries.push(unsafe { std::mem::transmute::<*const u8, Entry>(address) });
    }
    Ok(code)
}

/// The signatures of kernel functions and of the functions that they call.
struct Signatures {
    pointer: types::Type,
    kernel: Signature,
    unary: Signature,
    binary: Signature,
}

impl Signatures {
    fn new(isa: &dyn TargetIsa) -> Self {
        let pointer = isa.pointer_type();
        let number = AbiParam::new(types::F64);
        let new = |parameters: &[AbiParam], results: &[AbiParam]| {
            let mut signature = Signature::new(isa.default_call_conv());
            signature.params.extend_from_slice(parameters);
            signature.returns.extend_from_slice(results);
            signature
        };
        Signatures {
            pointer,
            kernel: new(&[AbiParam::new(pointer); ARRAYS + 2], &[]),
            unary: new(&[number], &[number]),
            binary: new(&[number; 2], &[number]),
        }
    }
}

/// A compiled function, not yet at its place in memory.
struct Function {
    bytes: Vec<u8>,
    alignment: u64,
    relocations: Vec<ModuleReloc>,
}

/// Compiles the function of a chunk.
fn generate(
    id: FuncId,
    program: &Program,
    chunk: &Chunk,
    signatures: &Signatures,
    isa: &dyn TargetIsa,
    context: &mut Context,
    builder_context: &mut FunctionBuilderContext,
) -> Result<Function, CompileError> {
    context.clear();
    context.func.signature = signatures.kernel.clone();
    context.func.name = UserFuncName::user(0, id.as_u32());
    emit(program, chunk, signatures, isa, context, builder_context);
    let compiled = context.compile(isa, &mut Default::default()).map_err(|e| CompileError::Backend(e.inner.to_string()))?;
    let bytes = compiled.code_buffer().to_vec();
    let alignment = u64::from(compiled.buffer.alignment).max(isa.function_alignment().minimum.into()).max(isa.symbol_alignment());
    let relocations = compiled.buffer.relocs().to_vec();
    let relocations = relocations.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
    Ok(Function { bytes, alignment, relocations })
}

/// Writes the function of a chunk in Cranelift's language.
fn emit(
    program: &Program,
    chunk: &Chunk,
    signatures: &Signatures,
    isa: &dyn TargetIsa,
    context: &mut Context,
    builder_context: &mut FunctionBuilderContext,
) {
    let mut builder = FunctionBuilder::new(&mut context.func, builder_context);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let parameters: Vec<Value> = builder.block_params(block).to_vec();
    let mut emitter = Emitter {
        steps: &program.steps,
        builder,
        parameters,
        signatures,
        unary: None,
        binary: None,
        places: chunk.imports.iter().copied().collect(),
        numbers: FxHashMap::default(),
        truths: FxHashMap::default(),
    };
    let mut exports = chunk.exports.iter().peekable();
    for item in &chunk.items {
        match *item {
            Item::Compute(step) => {
                emitter.compute(step);
                if let Some((_, place)) = exports.next_if(|(export, _)| *export == step) {
                    emitter.store(step, ARRAYS + 1, *place);
                }
            }
            Item::Store { output, step } => emitter.store(step, ARRAYS, output),
        }
    }
    emitter.builder.ins().return_(&[]);
    emitter.builder.finalize(isa.frontend_config());
}

struct Emitter<'a> {
    steps: &'a [Step],
    builder: FunctionBuilder<'a>,
    /// The function's six pointers.
    parameters: Vec<Value>,
    signatures: &'a Signatures,
    /// The imported signatures of functions of one and two arguments.
    unary: Option<SigRef>,
    binary: Option<SigRef>,
    /// Scratch places of values from earlier chunks.
    places: FxHashMap<u32, u32>,
    /// Values of steps as f64, and those that are also known as truth values (i8, 0 or 1).
    numbers: FxHashMap<u32, Value>,
    truths: FxHashMap<u32, Value>,
}

/// Byte offset of an element of an array.
fn offset(index: u32) -> i32 {
    8 * index as i32
}

impl Emitter<'_> {
    fn load(&mut self, parameter: usize, index: u32) -> Value {
        self.builder.ins().load(types::F64, MemFlagsData::trusted(), self.parameters[parameter], offset(index))
    }

    fn store(&mut self, step: u32, parameter: usize, index: u32) {
        let value = self.number(step);
        self.builder.ins().store(MemFlagsData::trusted(), value, self.parameters[parameter], offset(index));
    }

    /// The value of a step as a number.
    fn number(&mut self, step: u32) -> Value {
        if let Some(value) = self.numbers.get(&step) {
            return *value;
        }
        let value = match self.steps[step as usize] {
            Step::Constant(value) => self.builder.ins().f64const(value),
            Step::Load(array, index) => self.load(array as usize, index),
            _ => match (self.truths.get(&step).copied(), self.places.get(&step).copied()) {
                (Some(truth), _) => {
                    let wide = self.builder.ins().uextend(types::I32, truth);
                    self.builder.ins().fcvt_from_sint(types::F64, wide)
                }
                (None, Some(place)) => self.load(ARRAYS + 1, place),
                // Steps come in order, so an operand is there or comes from an earlier chunk.
                (None, None) => unreachable!("step {step} is used before it is computed"),
            },
        };
        self.numbers.insert(step, value);
        value
    }

    /// Whether the value of a step is not 0.
    fn truth(&mut self, step: u32) -> Value {
        if let Some(value) = self.truths.get(&step) {
            return *value;
        }
        let value = self.number(step);
        let truth = self.nonzero(value);
        self.truths.insert(step, truth);
        truth
    }

    fn nonzero(&mut self, value: Value) -> Value {
        let zero = self.builder.ins().f64const(0.0);
        // NaN counts as true, as in `x != 0.0`.
        self.builder.ins().fcmp(FloatCC::NotEqual, value, zero)
    }

    fn compare(&mut self, condition: FloatCC, a: u32, b: u32) -> Value {
        let (a, b) = (self.number(a), self.number(b));
        self.builder.ins().fcmp(condition, a, b)
    }

    /// Calls a function by its address.
    fn call(&mut self, signature: SigRef, address: usize, arguments: &[Value]) -> Value {
        let callee = self.builder.ins().iconst(self.signatures.pointer, address as i64);
        let call = self.builder.ins().call_indirect(signature, callee, arguments);
        self.builder.inst_results(call)[0]
    }

    fn call_unary(&mut self, op: Unary, a: Value) -> Value {
        let signature = *self.unary.get_or_insert_with(|| self.builder.import_signature(self.signatures.unary.clone()));
        self.call(signature, unary_address(op), &[a])
    }

    fn call_binary(&mut self, op: Binary, a: Value, b: Value) -> Value {
        let signature = *self.binary.get_or_insert_with(|| self.builder.import_signature(self.signatures.binary.clone()));
        self.call(signature, binary_address(op), &[a, b])
    }

    fn compute(&mut self, step: u32) {
        let number = match self.steps[step as usize] {
            Step::Constant(_) | Step::Load(..) => return,
            Step::Select(c, a, b) => {
                let (c, a, b) = (self.truth(c), self.number(a), self.number(b));
                self.builder.ins().select(c, a, b)
            }
            Step::Unary(Unary::Not, a) => {
                let truth = match self.truths.get(&a).copied() {
                    Some(truth) => self.builder.ins().bxor_imm_u(truth, 1),
                    None => {
                        let a = self.number(a);
                        let zero = self.builder.ins().f64const(0.0);
                        self.builder.ins().fcmp(FloatCC::Equal, a, zero)
                    }
                };
                self.truths.insert(step, truth);
                return;
            }
            Step::Unary(op, a) => {
                let a = self.number(a);
                match op {
                    Unary::Neg => self.builder.ins().fneg(a),
                    Unary::Abs => self.builder.ins().fabs(a),
                    Unary::Sqrt => self.builder.ins().sqrt(a),
                    Unary::Floor if rounds() => self.builder.ins().floor(a),
                    Unary::Ceil if rounds() => self.builder.ins().ceil(a),
                    _ => self.call_unary(op, a),
                }
            }
            Step::Binary(op, a, b) => {
                let truth = match op {
                    Binary::Lt => Some(self.compare(FloatCC::LessThan, a, b)),
                    Binary::Le => Some(self.compare(FloatCC::LessThanOrEqual, a, b)),
                    Binary::Gt => Some(self.compare(FloatCC::GreaterThan, a, b)),
                    Binary::Ge => Some(self.compare(FloatCC::GreaterThanOrEqual, a, b)),
                    Binary::Eq => Some(self.compare(FloatCC::Equal, a, b)),
                    Binary::Ne => Some(self.compare(FloatCC::NotEqual, a, b)),
                    Binary::And | Binary::Or | Binary::Xor => {
                        let (a, b) = (self.truth(a), self.truth(b));
                        Some(match op {
                            Binary::And => self.builder.ins().band(a, b),
                            Binary::Or => self.builder.ins().bor(a, b),
                            _ => self.builder.ins().bxor(a, b),
                        })
                    }
                    _ => None,
                };
                if let Some(truth) = truth {
                    self.truths.insert(step, truth);
                    return;
                }
                let (a, b) = (self.number(a), self.number(b));
                match op {
                    Binary::Add => self.builder.ins().fadd(a, b),
                    Binary::Sub => self.builder.ins().fsub(a, b),
                    Binary::Mul => self.builder.ins().fmul(a, b),
                    Binary::Div => self.builder.ins().fdiv(a, b),
                    Binary::Min | Binary::Max => {
                        let condition = if op == Binary::Min { FloatCC::LessThanOrEqual } else { FloatCC::GreaterThanOrEqual };
                        let first = self.builder.ins().fcmp(condition, a, b);
                        let nan = self.builder.ins().fcmp(FloatCC::Unordered, a, a);
                        let first = self.builder.ins().bor(first, nan);
                        self.builder.ins().select(first, a, b)
                    }
                    Binary::Quotient if rounds() => {
                        let quotient = self.builder.ins().fdiv(a, b);
                        self.builder.ins().trunc(quotient)
                    }
                    _ => self.call_binary(op, a, b),
                }
            }
        };
        self.numbers.insert(step, number);
    }
}

/// Whether the processor has rounding instructions; without, Cranelift would call functions of the C library.
fn rounds() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sse4.1");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

/// Address of a function with the C calling convention that applies the operator.
fn unary_address(op: Unary) -> usize {
    macro_rules! addresses {
        ($($op:ident)+) => {
            match op {
                $(Unary::$op => {
                    extern "C" fn apply(x: f64) -> f64 {
                        Unary::$op.apply(x)
                    }
                    apply as extern "C" fn(f64) -> f64 as usize
                })+
            }
        };
    }
    addresses!(
        Neg Not Abs Sign Floor Ceil Factorial Sqrt Exp Ln Log10 Log2 Sin Cos Tan Sec Csc Cot Asin Acos Atan Asec Acsc Acot
        Sinh Cosh Tanh Sech Csch Coth Asinh Acosh Atanh Asech Acsch Acoth
    )
}

/// Likewise for operators of two arguments.
fn binary_address(op: Binary) -> usize {
    macro_rules! addresses {
        ($($op:ident)+) => {
            match op {
                $(Binary::$op => {
                    extern "C" fn apply(x: f64, y: f64) -> f64 {
                        Binary::$op.apply(x, y)
                    }
                    apply as extern "C" fn(f64, f64) -> f64 as usize
                })+
            }
        };
    }
    addresses!(Add Sub Mul Div Pow Min Max Rem Quotient Lt Le Gt Ge Eq Ne And Or Xor)
}
