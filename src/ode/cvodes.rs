//! CVODES behind a safe interface: the only foreign code, and the only `unsafe`, of this room.
//!
//! SUNDIALS 7.1.1 (Hindmarsh et al. 2005, ACM TOMS 31:363; Serban and Hindmarsh 2005) chooses steps and orders of the BDF method. It
//! works on two objects of ours: a vector that is a whole block, and a nonlinear solver that solves each step's equations
//! by `newton.rs`. To SUNDIALS the latter is of the fixed-point type, which means that it brings its own linear algebra.
//!
//! Ownership: an [`Integrator`] owns its [`System`] on the heap; the callbacks receive it as `user_data`. While `CVode`
//! runs, Rust holds no other reference to it. [`Forward`] is CVODES with its own vectors, matrix and sensitivity method.

use super::SimulationError;
use super::adjoint::Backward;
use super::block::{self, Shape};
use super::newton::{Solution, StepSystem};
use super::simulator::{Counts, Options};
use super::system::System;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{NonNull, null_mut};
use sundials_sys as sys;
use sundials_sys::{N_Vector, SUNErrCode, SUNLinearSolver, SUNMatrix, SUNNonlinearSolver};

/// Compiles functions of other files for the baseline processor and for AVX2, and chooses at run time.
macro_rules! dispatch {
    ($($visible:vis fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:path;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::*;
            $(#[target_feature(enable = "avx2")]
            pub fn $name($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            })*
        }
        $(#[inline]
        $visible fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, the only feature the function is compiled for.
                return unsafe { avx2::$name($($argument),*) };
            }
            $body($($argument),*)
        })*
    };
}

dispatch! {
    fn linear_sum(a: f64, x: &[f64], b: f64, y: &[f64], z: &mut [f64]) = block::linear_sum;
    fn linear_sum_in_place(a: f64, x: &[f64], b: f64, z: &mut [f64]) = block::linear_sum_in_place;
    fn scale(c: f64, x: &[f64], z: &mut [f64]) = block::scale;
    fn scale_in_place(c: f64, z: &mut [f64]) = block::scale_in_place;
    fn wrms_norm(x: &[f64], w: &[f64], shape: Shape) -> f64 = block::wrms_norm;
    fn rhs(system: &mut System, t: f64, y: &[f64], ydot: &mut [f64]) -> bool = System::rhs;
    fn solve_step(system: &mut System, step: &mut StepSystem) -> Solution = System::solve_step;
    fn weights(system: &System, y: &[f64], w: &mut [f64]) = System::weights;
    pub(super) fn backward_step(backward: &mut Backward, t: f64, h: f64, lambda: &[f64]) -> Result<Option<f64>, SimulationError> = Backward::step;
}

// ---------------------------------------------------------------------------------------------------------------------
// The vector

/// Content of our N_Vectors.
struct Content {
    data: NonNull<f64>,
    shape: Shape,
}

impl Content {
    /// One cache line.
    const ALIGNMENT: usize = 64;

    fn layout(shape: Shape) -> Option<Layout> {
        Layout::from_size_align(shape.len().max(1) * size_of::<f64>(), Self::ALIGNMENT).ok()
    }

    fn new(shape: Shape) -> Option<Self> {
        let layout = Self::layout(shape)?;
        // SAFETY: the layout is not empty.
        let data = NonNull::new(unsafe { alloc_zeroed(layout) }.cast())?;
        Some(Content { data, shape })
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.shape) {
            // SAFETY: `data` was allocated with this very layout in `new`.
            unsafe { dealloc(self.data.as_ptr().cast(), layout) }
        }
    }
}

/// The content of a vector.
///
/// # Safety
/// `v` is a living vector made by [`new_vector`].
#[inline]
unsafe fn content<'a>(v: N_Vector) -> &'a Content {
    // SAFETY: by the contract, `content` points to the `Content` that `new_vector` boxed.
    unsafe { &*(*v).content.cast::<Content>() }
}

/// The numbers of a vector.
///
/// # Safety
/// As [`content`], and nobody writes to the vector during 'a.
#[inline]
unsafe fn read<'a>(v: N_Vector) -> &'a [f64] {
    // SAFETY: the content owns `len` initialised numbers at `data`.
    unsafe {
        let c = content(v);
        std::slice::from_raw_parts(c.data.as_ptr(), c.shape.len())
    }
}

/// The numbers of a vector, to be changed.
///
/// # Safety
/// As [`content`], and nobody else reads or writes the vector during 'a.
#[inline]
unsafe fn write<'a>(v: N_Vector) -> &'a mut [f64] {
    // SAFETY: the content owns `len` initialised numbers at `data`.
    unsafe {
        let c = content(v);
        std::slice::from_raw_parts_mut(c.data.as_ptr(), c.shape.len())
    }
}

/// The numbers of a vector that may be passed several times in one call.
///
/// # Safety
/// As [`content`], and nobody writes except through cells during 'a.
#[inline]
unsafe fn cells<'a>(v: N_Vector) -> &'a [Cell<f64>] {
    // SAFETY: `Cell<f64>` has the layout of `f64`, and cells allow aliased writes on one thread.
    unsafe {
        let c = content(v);
        std::slice::from_raw_parts(c.data.as_ptr().cast(), c.shape.len())
    }
}

/// A new vector of zeros, or null.
///
/// # Safety
/// `context` is a living SUNDIALS context, or the one of another vector.
unsafe fn new_vector(context: sys::SUNContext, shape: Shape) -> N_Vector {
    let Some(content) = Content::new(shape) else { return null_mut() };
    // SAFETY: `N_VNewEmpty` allocates the vector and its table of operations, or returns null; we own both until `vector_destroy`.
    unsafe {
        let v = sys::N_VNewEmpty(context);
        if v.is_null() {
            return v;
        }
        (*v).content = Box::into_raw(Box::new(content)).cast();
        let ops = &mut *(*v).ops;
        ops.nvclone = Some(vector_clone);
        ops.nvdestroy = Some(vector_destroy);
        ops.nvgetlength = Some(vector_length);
        ops.nvgetlocallength = Some(vector_length);
        ops.nvlinearsum = Some(vector_linear_sum);
        ops.nvconst = Some(vector_const);
        ops.nvprod = Some(vector_prod);
        ops.nvdiv = Some(vector_div);
        ops.nvscale = Some(vector_scale);
        ops.nvabs = Some(vector_abs);
        ops.nvinv = Some(vector_inv);
        ops.nvaddconst = Some(vector_add_const);
        ops.nvdotprod = Some(vector_dot_prod);
        ops.nvmaxnorm = Some(vector_max_norm);
        ops.nvwrmsnorm = Some(vector_wrms_norm);
        ops.nvmin = Some(vector_min);
        ops.nvlinearcombination = Some(vector_linear_combination);
        ops.nvscaleaddmulti = Some(vector_scale_add_multi);
        ops.nvscalevectorarray = Some(vector_scale_array);
        v
    }
}

// SAFETY of all `vector_*` functions: SUNDIALS passes living vectors made by `new_vector` (it clones those it is given), all of
// one shape, on the thread that called it. Vectors may be the same object; each function that writes through a `&mut` slice
// first rules out, by comparing the pointers, that another slice is of the same vector.

unsafe extern "C" fn vector_clone(w: N_Vector) -> N_Vector {
    // SAFETY: see above.
    unsafe { new_vector((*w).sunctx, content(w).shape) }
}

unsafe extern "C" fn vector_destroy(v: N_Vector) {
    if v.is_null() {
        return;
    }
    // SAFETY: the content was boxed by `new_vector`, and `N_VFreeEmpty` frees what `N_VNewEmpty` allocated.
    unsafe {
        drop(Box::from_raw((*v).content.cast::<Content>()));
        (*v).content = null_mut();
        sys::N_VFreeEmpty(v);
    }
}

unsafe extern "C" fn vector_length(v: N_Vector) -> sys::sunindextype {
    // SAFETY: see above.
    unsafe { content(v).shape.len() as sys::sunindextype }
}

unsafe extern "C" fn vector_linear_sum(a: f64, x: N_Vector, b: f64, y: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe {
        match (x == z, y == z) {
            (false, false) => linear_sum(a, read(x), b, read(y), write(z)),
            (false, true) => linear_sum_in_place(a, read(x), b, write(z)),
            (true, false) => linear_sum_in_place(b, read(y), a, write(z)),
            (true, true) => scale_in_place(a + b, write(z)),
        }
    }
}

unsafe extern "C" fn vector_const(c: f64, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::fill(c, write(z)) }
}

unsafe extern "C" fn vector_prod(x: N_Vector, y: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::map2(cells(x), cells(y), cells(z), |x, y| x * y) }
}

unsafe extern "C" fn vector_div(x: N_Vector, y: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::map2(cells(x), cells(y), cells(z), |x, y| x / y) }
}

unsafe extern "C" fn vector_scale(c: f64, x: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe {
        if x == z {
            scale_in_place(c, write(z));
        } else {
            scale(c, read(x), write(z));
        }
    }
}

unsafe extern "C" fn vector_abs(x: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::map(cells(x), cells(z), f64::abs) }
}

unsafe extern "C" fn vector_inv(x: N_Vector, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::map(cells(x), cells(z), f64::recip) }
}

unsafe extern "C" fn vector_add_const(x: N_Vector, b: f64, z: N_Vector) {
    // SAFETY: see above.
    unsafe { block::map(cells(x), cells(z), |x| x + b) }
}

unsafe extern "C" fn vector_dot_prod(x: N_Vector, y: N_Vector) -> f64 {
    // SAFETY: see above; both are only read.
    unsafe { read(x).iter().zip(read(y)).map(|(x, y)| x * y).sum() }
}

unsafe extern "C" fn vector_max_norm(x: N_Vector) -> f64 {
    // SAFETY: see above.
    unsafe { block::max_norm(read(x)) }
}

unsafe extern "C" fn vector_wrms_norm(x: N_Vector, w: N_Vector) -> f64 {
    // SAFETY: see above; both are only read.
    unsafe { wrms_norm(read(x), read(w), content(x).shape) }
}

unsafe extern "C" fn vector_min(x: N_Vector) -> f64 {
    // SAFETY: see above.
    unsafe { read(x).iter().copied().fold(f64::INFINITY, f64::min) }
}

/// z = sum c_i x_i; z may be x_0.
unsafe extern "C" fn vector_linear_combination(n: c_int, c: *mut f64, x: *mut N_Vector, z: N_Vector) -> SUNErrCode {
    // SAFETY: see above; SUNDIALS passes `n` >= 1 coefficients and vectors, and only x_0 may be z.
    unsafe {
        let (c, x) = (std::slice::from_raw_parts(c, n as usize), std::slice::from_raw_parts(x, n as usize));
        vector_scale(c[0], x[0], z);
        for (&c, &x) in c.iter().zip(x).skip(1) {
            linear_sum_in_place(c, read(x), 1.0, write(z));
        }
    }
    0
}

/// z_i = c_i x + y_i; z_i may be y_i.
unsafe extern "C" fn vector_scale_add_multi(n: c_int, c: *mut f64, x: N_Vector, y: *mut N_Vector, z: *mut N_Vector) -> SUNErrCode {
    // SAFETY: see above; SUNDIALS passes `n` coefficients and vectors.
    unsafe {
        for i in 0..n as usize {
            vector_linear_sum(*c.add(i), x, 1.0, *y.add(i), *z.add(i));
        }
    }
    0
}

/// z_i = c_i x_i; z_i may be x_i.
unsafe extern "C" fn vector_scale_array(n: c_int, c: *mut f64, x: *mut N_Vector, z: *mut N_Vector) -> SUNErrCode {
    // SAFETY: see above; SUNDIALS passes `n` coefficients and vectors.
    unsafe {
        for i in 0..n as usize {
            vector_scale(*c.add(i), *x.add(i), *z.add(i));
        }
    }
    0
}

// ---------------------------------------------------------------------------------------------------------------------
// The callbacks

/// Runs a callback. Returns its flag (0 success, 1 recoverable, -1 fatal); a panic is kept for [`Integrator::step`] to resume,
/// because unwinding must not cross foreign code.
///
/// # Safety
/// `data` is the `System` of a living integrator to which no other reference exists.
#[inline]
unsafe fn callback(data: *mut c_void, body: impl FnOnce(&mut System) -> c_int) -> c_int {
    // SAFETY: by the contract.
    let system = unsafe { &mut *data.cast::<System>() };
    match catch_unwind(AssertUnwindSafe(|| body(system))) {
        Ok(flag) => flag,
        Err(panic) => {
            system.panic = Some(panic);
            -1
        }
    }
}

// SAFETY of all callbacks: `data` is what the integrator registered, the `System` that it owns; vectors are as for `vector_*`,
// and input and output vectors are different ones.

unsafe extern "C" fn rhs_callback(t: f64, y: N_Vector, ydot: N_Vector, data: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe { callback(data, |system| if rhs(system, t, read(y), write(ydot)) { 0 } else { 1 }) }
}

unsafe extern "C" fn weights_callback(y: N_Vector, w: N_Vector, data: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe {
        callback(data, |system| {
            weights(system, read(y), write(w));
            0
        })
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The nonlinear solver

/// Flag of CVODES (`cvodes_impl.h`) for a right-hand side that may be finite with a smaller step.
const RHS_RECOVERABLE: c_int = 10;

unsafe extern "C" fn solver_type(_: SUNNonlinearSolver) -> sys::SUNNonlinearSolver_Type {
    sys::SUNNonlinearSolver_Type_SUNNONLINEARSOLVER_FIXEDPOINT
}

/// The system function and the convergence test that CVODES offers are not needed.
unsafe extern "C" fn solver_ignore_function(_: SUNNonlinearSolver, _: sys::SUNNonlinSolSysFn) -> SUNErrCode {
    0
}

unsafe extern "C" fn solver_ignore_test(_: SUNNonlinearSolver, _: sys::SUNNonlinSolConvTestFn, _: *mut c_void) -> SUNErrCode {
    0
}

unsafe extern "C" fn solver_solve(
    _: SUNNonlinearSolver,
    _y0: N_Vector,
    correction: N_Vector,
    weights: N_Vector,
    tolerance: f64,
    _setup: c_int,
    memory: *mut c_void,
) -> c_int {
    let (mut time, mut gamma, mut scale) = (0.0, 0.0, 0.0);
    let (mut predicted, mut y, mut f, mut rate, mut data) = (null_mut(), null_mut(), null_mut(), null_mut(), null_mut());
    // SAFETY: see above; `memory` is the CVODES memory that called, and all vectors it hands out and passes are different ones.
    unsafe {
        let flag = sys::CVodeGetNonlinearSystemData(
            memory,
            &mut time,
            &mut predicted,
            &mut y,
            &mut f,
            &mut gamma,
            &mut scale,
            &mut rate,
            &mut data,
        );
        if flag < 0 {
            return flag;
        }
        callback(data, |system| {
            let mut step = StepSystem {
                time,
                gamma,
                scale,
                predicted: read(predicted),
                rate: read(rate),
                weights: read(weights),
                tolerance,
                correction: write(correction),
                y: write(y),
                delta: write(f),
            };
            match solve_step(system, &mut step) {
                Solution::Converged => 0,
                Solution::Diverged => sys::SUN_NLS_CONV_RECVR,
                Solution::NotFinite => RHS_RECOVERABLE,
            }
        })
    }
}

unsafe extern "C" fn solver_iterations(solver: SUNNonlinearSolver, n: *mut c_long) -> SUNErrCode {
    // SAFETY: the solver's content is the `System`, which nobody else refers to here; `n` is a number of the caller.
    unsafe { *n = (*(*solver).content.cast::<System>()).newton.iterations as c_long };
    0
}

unsafe extern "C" fn solver_failures(solver: SUNNonlinearSolver, n: *mut c_long) -> SUNErrCode {
    // SAFETY: as in `solver_iterations`.
    unsafe { *n = (*(*solver).content.cast::<System>()).newton.failures as c_long };
    0
}

// ---------------------------------------------------------------------------------------------------------------------
// The integrator

/// A failed call of SUNDIALS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The function called.
    pub function: &'static str,
    /// What it returned.
    pub flag: i32,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// At the end of an internal step.
    Taken(f64),
    /// At the stop time.
    Stop(f64),
}

/// CVODES memory for blocks of one shape, re-used by [`Integrator::restart`].
pub struct Integrator {
    system: NonNull<System>,
    context: sys::SUNContext,
    memory: *mut c_void,
    y: N_Vector,
    output: N_Vector,
    solver: SUNNonlinearSolver,
    /// Whether CVODES' counters hold work that `counts` does not have yet.
    uncounted: bool,
    counts: Counts,
}

// SAFETY: all memory behind the pointers is owned by the integrator alone, and neither SUNDIALS nor the callbacks use
// thread-local or global state.
unsafe impl Send for Integrator {}

fn check(function: &'static str, flag: c_int) -> Result<(), Failure> {
    if flag < 0 { Err(Failure { function, flag }) } else { Ok(()) }
}

fn allocated<T>(function: &'static str, pointer: *mut T) -> Result<*mut T, Failure> {
    if pointer.is_null() { Err(Failure { function, flag: sys::CV_MEM_FAIL }) } else { Ok(pointer) }
}

/// A SUNDIALS context that does not print: no error handler, no logger.
fn silent_context(context: &mut sys::SUNContext) -> Result<(), Failure> {
    // SAFETY: the context is created here; a null logger is allowed and silences every message.
    unsafe {
        check("SUNContext_Create", sys::SUNContext_Create(sys::SUN_COMM_NULL, context))?;
        check("SUNContext_ClearErrHandlers", sys::SUNContext_ClearErrHandlers(*context))?;
        check("SUNContext_SetLogger", sys::SUNContext_SetLogger(*context, null_mut()))
    }
}

/// Limits that both methods share.
///
/// # Safety
/// `memory` is CVODES memory.
unsafe fn set_limits(memory: *mut c_void) -> Result<(), Failure> {
    // SAFETY: by the contract.
    unsafe {
        // One call of `CVode` is one step here, and the caller counts.
        check("CVodeSetMaxNumSteps", sys::CVodeSetMaxNumSteps(memory, 10))?;
        check("CVodeSetMaxErrTestFails", sys::CVodeSetMaxErrTestFails(memory, 20))?;
        check("CVodeSetMaxConvFails", sys::CVodeSetMaxConvFails(memory, 20))?;
        check("CVodeSetMaxHnilWarns", sys::CVodeSetMaxHnilWarns(memory, -1))
    }
}

impl Integrator {
    /// An integrator of `system`. Fails only for lack of memory.
    pub fn new(system: System) -> Result<Self, Failure> {
        let shape = system.shape;
        let mut it = Integrator {
            system: NonNull::from(Box::leak(Box::new(system))),
            context: null_mut(),
            memory: null_mut(),
            y: null_mut(),
            output: null_mut(),
            solver: null_mut(),
            uncounted: false,
            counts: Counts::default(),
        };
        silent_context(&mut it.context)?;
        // SAFETY: every object is checked before use, kept in `it`, and freed once by `drop`, whatever fails in between. The
        // arguments are as the SUNDIALS manual demands; `user_data` stays valid for the life of the integrator.
        unsafe {
            it.y = allocated("N_VNew", new_vector(it.context, shape))?;
            it.output = allocated("N_VNew", new_vector(it.context, shape))?;
            it.memory = allocated("CVodeCreate", sys::CVodeCreate(sys::CV_BDF, it.context))?;
            let (memory, data) = (it.memory, it.system.as_ptr().cast::<c_void>());
            check("CVodeInit", sys::CVodeInit(memory, Some(rhs_callback), 0.0, it.y))?;
            check("CVodeSetUserData", sys::CVodeSetUserData(memory, data))?;
            check("CVodeWFtolerances", sys::CVodeWFtolerances(memory, Some(weights_callback)))?;
            it.solver = allocated("SUNNonlinSolNewEmpty", sys::SUNNonlinSolNewEmpty(it.context))?;
            (*it.solver).content = data;
            let ops = &mut *(*it.solver).ops;
            ops.gettype = Some(solver_type);
            ops.solve = Some(solver_solve);
            ops.setsysfn = Some(solver_ignore_function);
            ops.setctestfn = Some(solver_ignore_test);
            ops.getnumiters = Some(solver_iterations);
            ops.getnumconvfails = Some(solver_failures);
            check("CVodeSetNonlinearSolver", sys::CVodeSetNonlinearSolver(memory, it.solver))?;
            set_limits(memory)?;
        }
        Ok(it)
    }

    /// The equations.
    pub fn system(&self) -> &System {
        // SAFETY: `system` is owned, and `&self` excludes a running `CVode`, which needs `&mut self`.
        unsafe { self.system.as_ref() }
    }

    /// The equations and the current block, to be changed between steps.
    pub fn parts(&mut self) -> (&mut System, &mut [f64]) {
        // SAFETY: both are owned, do not overlap, and `&mut self` excludes every other reference.
        unsafe { (self.system.as_mut(), write(self.y)) }
    }

    /// Begins anew at time `t` with the current block, and stops at `stop` if there is such a time. Steps are no longer than
    /// `longest`.
    pub fn restart(&mut self, t: f64, stop: Option<f64>, longest: f64) -> Result<(), Failure> {
        self.collect_counts();
        self.parts().0.newton.reset();
        // SAFETY: memory and vectors are living objects of this integrator.
        unsafe {
            check("CVodeReInit", sys::CVodeReInit(self.memory, t, self.y))?;
            // To CVODES 0 means no limit.
            check("CVodeSetMaxStep", sys::CVodeSetMaxStep(self.memory, if longest.is_finite() { longest } else { 0.0 }))?;
            match stop {
                Some(stop) => check("CVodeSetStopTime", sys::CVodeSetStopTime(self.memory, stop)),
                None => check("CVodeClearStopTime", sys::CVodeClearStopTime(self.memory)),
            }
        }
    }

    /// One internal step. `horizon` bounds the first step after a restart to a tenth of the way there.
    ///
    /// The end is the block of [`Integrator::parts`]. Panics where a kernel panicked.
    pub fn step(&mut self, horizon: f64) -> Result<Step, Failure> {
        self.uncounted = true;
        let mut t = 0.0;
        // SAFETY: memory and vector are living objects of this integrator; `&mut self` ensures that the callbacks have the only
        // reference to the system.
        let flag = unsafe { sys::CVode(self.memory, horizon, self.y, &mut t, sys::CV_ONE_STEP) };
        if let Some(panic) = self.parts().0.panic.take() {
            resume_unwind(panic);
        }
        match flag {
            sys::CV_TSTOP_RETURN => Ok(Step::Stop(t)),
            flag => check("CVode", flag).map(|()| Step::Taken(t)),
        }
    }

    /// The block at a time within the last step.
    pub fn interpolate(&mut self, t: f64) -> Result<&[f64], Failure> {
        // SAFETY: memory and vector are living objects of this integrator.
        unsafe {
            check("CVodeGetDky", sys::CVodeGetDky(self.memory, t, 0, self.output))?;
            Ok(read(self.output))
        }
    }

    /// The equations and the block at a time within the last step.
    pub fn interpolated(&mut self, t: f64) -> Result<(&mut System, &[f64]), Failure> {
        self.interpolate(t)?;
        // SAFETY: system and output are owned, do not overlap, and `&mut self` excludes every other reference.
        unsafe { Ok((self.system.as_mut(), read(self.output))) }
    }

    /// Goes back to a time within the last step: its block becomes the current one.
    pub fn go_back(&mut self, t: f64) -> Result<(), Failure> {
        self.interpolate(t)?;
        // SAFETY: both vectors are owned and different; `&mut self` excludes every other reference.
        unsafe { write(self.y).copy_from_slice(read(self.output)) };
        Ok(())
    }

    /// The state whose weighted error estimate is largest in column 0, after a failed step.
    pub fn worst_state(&mut self) -> Option<usize> {
        let stride = self.system().shape.stride;
        // SAFETY: `output` and `y` are living vectors of this integrator; they receive the error estimates and the weights.
        unsafe {
            if sys::CVodeGetEstLocalErrors(self.memory, self.output) < 0 || sys::CVodeGetErrWeights(self.memory, self.y) < 0 {
                return None;
            }
            let error = read(self.output).iter().zip(read(self.y)).step_by(stride).map(|(e, w)| (e * w).abs());
            error.enumerate().filter(|(_, e)| *e > 0.0).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
        }
    }

    /// Adds CVODES' counters, which a restart clears, to ours.
    fn collect_counts(&mut self) {
        if !std::mem::take(&mut self.uncounted) {
            return;
        }
        let get = |f: unsafe extern "C" fn(*mut c_void, *mut c_long) -> c_int| {
            let mut n: c_long = 0;
            // SAFETY: memory is a living object of this integrator, and `f` is one of CVODES' counters.
            let flag = unsafe { f(self.memory, &mut n) };
            if flag < 0 { 0 } else { n as u64 }
        };
        let mut new = Counts {
            steps: get(sys::CVodeGetNumSteps),
            newton_iterations: get(sys::CVodeGetNumNonlinSolvIters),
            error_test_failures: get(sys::CVodeGetNumErrTestFails),
            newton_failures: get(sys::CVodeGetNumNonlinSolvConvFails),
            ..Default::default()
        };
        [new.rhs_evaluations, new.jacobian_evaluations, new.factorisations] = std::mem::take(&mut self.parts().0.evaluations);
        self.counts.add(&new);
    }

    /// Work done since the last call.
    pub fn take_counts(&mut self) -> Counts {
        self.collect_counts();
        std::mem::take(&mut self.counts)
    }
}

impl Drop for Integrator {
    fn drop(&mut self) {
        // SAFETY: each object is freed once, objects before the context they live in; null ones were never made.
        unsafe {
            if !self.memory.is_null() {
                sys::CVodeFree(&mut self.memory);
            }
            if !self.solver.is_null() {
                (*self.solver).content = null_mut();
                sys::SUNNonlinSolFreeEmpty(self.solver);
            }
            vector_destroy(self.y);
            vector_destroy(self.output);
            if !self.context.is_null() {
                sys::SUNContext_Free(&mut self.context);
            }
            drop(Box::from_raw(self.system.as_ptr()));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// CVODES' own sensitivities

/// Right-hand sides for [`Forward`].
pub trait ForwardSystem {
    /// f(t, y). Returns whether it is finite.
    fn rhs(&mut self, t: f64, y: &[f64], ydot: &mut [f64]) -> bool;
    /// The Jacobian by columns.
    fn jacobian(&mut self, t: f64, y: &[f64], columns: &mut [f64]) -> bool;
    /// Derivatives of the sensitivities: `s[k]` and `sdot[k]` belong to direction k.
    fn sensitivities(&mut self, t: f64, y: &[f64], s: &[&[f64]], sdot: &mut [&mut [f64]]) -> bool;
}

/// CVODES as its manual describes it: serial vectors, dense matrix, Newton's method, and the staggered corrector for one
/// vector per direction, with the sensitivities in the error test.
pub struct Forward<S: ForwardSystem> {
    system: Box<S>,
    context: sys::SUNContext,
    memory: *mut c_void,
    states: usize,
    y: N_Vector,
    output: N_Vector,
    sensitivities: Vec<N_Vector>,
    matrix: SUNMatrix,
    solver: SUNLinearSolver,
}

/// The numbers of one of SUNDIALS' serial vectors.
///
/// # Safety
/// `v` is a living serial vector of `n` numbers that nobody else uses during 'a.
unsafe fn serial<'a>(v: N_Vector, n: usize) -> &'a mut [f64] {
    // SAFETY: by the contract.
    unsafe { std::slice::from_raw_parts_mut(sys::N_VGetArrayPointer(v), n) }
}

/// # Safety
/// As for the callbacks of the integrator, with `data` a `Forward<S>`.
unsafe extern "C" fn forward_rhs<S: ForwardSystem>(t: f64, y: N_Vector, ydot: N_Vector, data: *mut c_void) -> c_int {
    // SAFETY: by the contract; the two vectors are different ones.
    unsafe {
        let n = sys::N_VGetLength(y) as usize;
        if (*data.cast::<S>()).rhs(t, serial(y, n), serial(ydot, n)) { 0 } else { 1 }
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn forward_jacobian<S: ForwardSystem>(
    t: f64,
    y: N_Vector,
    _f: N_Vector,
    j: SUNMatrix,
    data: *mut c_void,
    _tmp1: N_Vector,
    _tmp2: N_Vector,
    _tmp3: N_Vector,
) -> c_int {
    // SAFETY: as in `forward_rhs`; the dense matrix has n by n numbers.
    unsafe {
        let n = sys::N_VGetLength(y) as usize;
        let columns = std::slice::from_raw_parts_mut(sys::SUNDenseMatrix_Data(j), n * n);
        if (*data.cast::<S>()).jacobian(t, serial(y, n), columns) { 0 } else { 1 }
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn forward_sensitivities<S: ForwardSystem>(
    ns: c_int,
    t: f64,
    y: N_Vector,
    _ydot: N_Vector,
    s: *mut N_Vector,
    sdot: *mut N_Vector,
    data: *mut c_void,
    _tmp1: N_Vector,
    _tmp2: N_Vector,
) -> c_int {
    // SAFETY: as in `forward_rhs`; SUNDIALS passes `ns` sensitivity vectors and as many different ones for their derivatives.
    unsafe {
        let n = sys::N_VGetLength(y) as usize;
        let s: Vec<&[f64]> = (0..ns as usize).map(|k| &*serial(*s.add(k), n)).collect();
        let mut sdot: Vec<&mut [f64]> = (0..ns as usize).map(|k| serial(*sdot.add(k), n)).collect();
        if (*data.cast::<S>()).sensitivities(t, serial(y, n), &s, &mut sdot) { 0 } else { 1 }
    }
}

impl<S: ForwardSystem> Forward<S> {
    /// Integration of `system` from `t` with the states `x` and sensitivities `s` (one slice per direction).
    pub fn new(system: S, options: &Options, t: f64, x: &[f64], s: &[Vec<f64>]) -> Result<Self, Failure> {
        let mut it = Forward {
            system: Box::new(system),
            context: null_mut(),
            memory: null_mut(),
            states: x.len(),
            y: null_mut(),
            output: null_mut(),
            sensitivities: vec![],
            matrix: null_mut(),
            solver: null_mut(),
        };
        silent_context(&mut it.context)?;
        // SAFETY: as in `Integrator::new`. The system lives in a box of its own, so its address stays.
        unsafe {
            let n = x.len() as sys::sunindextype;
            it.y = allocated("N_VNew_Serial", sys::N_VNew_Serial(n, it.context))?;
            it.output = allocated("N_VNew_Serial", sys::N_VNew_Serial(n, it.context))?;
            serial(it.y, x.len()).copy_from_slice(x);
            it.memory = allocated("CVodeCreate", sys::CVodeCreate(sys::CV_BDF, it.context))?;
            let memory = it.memory;
            check("CVodeInit", sys::CVodeInit(memory, Some(forward_rhs::<S>), t, it.y))?;
            check("CVodeSetUserData", sys::CVodeSetUserData(memory, (&raw mut *it.system).cast()))?;
            check("CVodeSStolerances", sys::CVodeSStolerances(memory, options.rtol, options.atol))?;
            it.matrix = allocated("SUNDenseMatrix", sys::SUNDenseMatrix(n, n, it.context))?;
            it.solver = allocated("SUNLinSol_Dense", sys::SUNLinSol_Dense(it.y, it.matrix, it.context))?;
            check("CVodeSetLinearSolver", sys::CVodeSetLinearSolver(memory, it.solver, it.matrix))?;
            check("CVodeSetJacFn", sys::CVodeSetJacFn(memory, Some(forward_jacobian::<S>)))?;
            set_limits(memory)?;
            for column in s {
                let v = allocated("N_VNew_Serial", sys::N_VNew_Serial(n, it.context))?;
                it.sensitivities.push(v);
                serial(v, x.len()).copy_from_slice(column);
            }
            if !s.is_empty() {
                let mut atol = vec![options.atol; s.len()];
                let vectors = it.sensitivities.as_mut_ptr();
                let f = Some(forward_sensitivities::<S> as unsafe extern "C" fn(_, _, _, _, _, _, _, _, _) -> _);
                check("CVodeSensInit", sys::CVodeSensInit(memory, s.len() as c_int, sys::CV_STAGGERED, f, vectors))?;
                check("CVodeSensSStolerances", sys::CVodeSensSStolerances(memory, options.rtol, atol.as_mut_ptr()))?;
                check("CVodeSetSensErrCon", sys::CVodeSetSensErrCon(memory, 1))?;
            }
        }
        Ok(it)
    }

    /// One internal step; returns its end.
    pub fn step(&mut self, horizon: f64) -> Result<f64, Failure> {
        let mut t = 0.0;
        // SAFETY: memory and vector are living objects of ours, and the callbacks have the only reference to the system.
        check("CVode", unsafe { sys::CVode(self.memory, horizon, self.y, &mut t, sys::CV_ONE_STEP) })?;
        Ok(t)
    }

    /// Column 0 (states) or k (sensitivities of direction k - 1) at a time within the last step.
    pub fn interpolate(&mut self, t: f64, column: usize) -> Result<&[f64], Failure> {
        // SAFETY: memory and vector are living objects of ours.
        unsafe {
            let flag = match column {
                0 => sys::CVodeGetDky(self.memory, t, 0, self.output),
                k => sys::CVodeGetSensDky1(self.memory, t, 0, (k - 1) as c_int, self.output),
            };
            check("CVodeGetDky", flag)?;
            Ok(serial(self.output, self.states))
        }
    }

    /// Steps and iterations; evaluations are counted by the system.
    pub fn counts(&self) -> Counts {
        let get = |f: unsafe extern "C" fn(*mut c_void, *mut c_long) -> c_int| {
            let mut n: c_long = 0;
            // SAFETY: memory is a living object of ours, and `f` is one of CVODES' counters.
            let flag = unsafe { f(self.memory, &mut n) };
            if flag < 0 { 0 } else { n as u64 }
        };
        Counts {
            simulations: 1,
            steps: get(sys::CVodeGetNumSteps),
            rhs_evaluations: get(sys::CVodeGetNumRhsEvals),
            jacobian_evaluations: get(sys::CVodeGetNumJacEvals),
            factorisations: get(sys::CVodeGetNumLinSolvSetups),
            newton_iterations: get(sys::CVodeGetNumNonlinSolvIters),
            error_test_failures: get(sys::CVodeGetNumErrTestFails),
            newton_failures: get(sys::CVodeGetNumNonlinSolvConvFails),
        }
    }
}

impl<S: ForwardSystem> Drop for Forward<S> {
    fn drop(&mut self) {
        // SAFETY: each object is freed once, objects before the context they live in; null ones were never made.
        unsafe {
            if !self.memory.is_null() {
                sys::CVodeFree(&mut self.memory);
            }
            if !self.solver.is_null() {
                sys::SUNLinSolFree(self.solver);
            }
            if !self.matrix.is_null() {
                sys::SUNMatDestroy(self.matrix);
            }
            for v in [self.y, self.output].into_iter().chain(self.sensitivities.drain(..)).filter(|v| !v.is_null()) {
                sys::N_VDestroy(v);
            }
            if !self.context.is_null() {
                sys::SUNContext_Free(&mut self.context);
            }
        }
    }
}
