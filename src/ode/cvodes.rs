//! CVODES behind a safe interface: the only foreign code, and the only `unsafe`, of this room.
//!
//! SUNDIALS 7.1.1 (Hindmarsh et al. 2005, ACM TOMS 31:363; Serban and Hindmarsh 2005) works on three objects of ours:
//! a vector that is a whole block, a matrix without content, and a direct linear solver that solves all columns of a
//! block with one factorisation. The matrix is set up by `CVodeSetLinSysFn`, which factorises at once, so none of the
//! matrix operations of SUNDIALS are needed.
//!
//! Ownership: an [`Integrator`] owns its [`System`] on the heap; the callbacks receive it as `user_data`. While `CVode`
//! runs, Rust holds no other reference to it.

use super::block::{self, Shape};
use super::simulator::{Counts, Options};
use super::system::System;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{NonNull, null_mut};
use sundials_sys as sys;
use sundials_sys::{N_Vector, SUNErrCode, SUNLinearSolver, SUNMatrix};

/// Compiles functions of other files for the baseline processor and for AVX2, and chooses at run time.
macro_rules! dispatch {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:path;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::*;
            $(#[target_feature(enable = "avx2")]
            pub fn $name($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            })*
        }
        $(#[inline]
        fn $name($($argument: $type),*) $(-> $result)? {
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
    fn factorise(system: &mut System, t: f64, y: &[f64], reuse: bool, gamma: f64) -> (bool, bool) = System::factorise;
    fn solve(system: &System, b: &mut [f64]) = System::solve;
    fn weights(system: &System, y: &[f64], w: &mut [f64]) = System::weights;
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
unsafe fn content<'a>(v: N_Vector) -> &'a Content {
    // SAFETY: by the contract, `content` points to the `Content` that `new_vector` boxed.
    unsafe { &*(*v).content.cast::<Content>() }
}

/// The numbers of a vector.
///
/// # Safety
/// As [`content`], and nobody writes to the vector during 'a.
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

/// The right-hand side of the states alone, for CVODES' own sensitivities.
unsafe extern "C" fn states_callback(t: f64, y: N_Vector, ydot: N_Vector, data: *mut c_void) -> c_int {
    // SAFETY: see above.
    unsafe {
        callback(data, |system| {
            let ydot = write(ydot);
            system.states_rhs(t, read(y), ydot);
            if block::all_finite(ydot) { 0 } else { 1 }
        })
    }
}

unsafe extern "C" fn forward_callback(
    n: c_int, t: f64, y: N_Vector, _ydot: N_Vector, s: *mut N_Vector, sdot: *mut N_Vector, data: *mut c_void, _tmp1: N_Vector, _tmp2: N_Vector,
) -> c_int {
    // SAFETY: see above; SUNDIALS passes `n` sensitivity vectors and as many different ones for their derivatives.
    unsafe {
        callback(data, |system| {
            let s: Vec<&[f64]> = (0..n as usize).map(|k| read(*s.add(k))).collect();
            let mut sdot: Vec<&mut [f64]> = (0..n as usize).map(|k| write(*sdot.add(k))).collect();
            if system.forward_rhs(t, read(y), &s, &mut sdot) { 0 } else { 1 }
        })
    }
}

#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn linear_system_callback(
    t: f64, y: N_Vector, _f: N_Vector, _a: SUNMatrix, reuse: c_int, current: *mut c_int, gamma: f64, data: *mut c_void, _tmp1: N_Vector,
    _tmp2: N_Vector, _tmp3: N_Vector,
) -> c_int {
    // SAFETY: see above; `current` points to an integer of the integrator.
    unsafe {
        callback(data, |system| {
            let (is_current, regular) = factorise(system, t, read(y), reuse != 0, gamma);
            *current = is_current as c_int;
            if regular { 0 } else { 1 }
        })
    }
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

unsafe extern "C" fn roots_callback(t: f64, y: N_Vector, out: *mut f64, data: *mut c_void) -> c_int {
    // SAFETY: see above; `out` has room for as many numbers as state switches were registered.
    unsafe {
        callback(data, |system| {
            let ok = system.evaluate_roots(t, read(y));
            for (i, &j) in system.state_switches.iter().enumerate() {
                *out.add(i) = system.roots[j as usize];
            }
            if ok { 0 } else { -1 }
        })
    }
}

unsafe extern "C" fn solver_type(_: SUNLinearSolver) -> sys::SUNLinearSolver_Type {
    sys::SUNLinearSolver_Type_SUNLINEARSOLVER_DIRECT
}

unsafe extern "C" fn solver_id(_: SUNLinearSolver) -> sys::SUNLinearSolver_ID {
    sys::SUNLinearSolver_ID_SUNLINEARSOLVER_CUSTOM
}

unsafe extern "C" fn solver_initialize(_: SUNLinearSolver) -> SUNErrCode {
    0
}

/// The factorisation is done where the matrix is set up.
unsafe extern "C" fn solver_setup(_: SUNLinearSolver, _: SUNMatrix) -> c_int {
    0
}

unsafe extern "C" fn solver_solve(solver: SUNLinearSolver, _: SUNMatrix, x: N_Vector, b: N_Vector, _tolerance: f64) -> c_int {
    // SAFETY: see above; the solver's content is the same pointer to the `System`, and x and b are different vectors.
    unsafe {
        callback((*solver).content, |system| {
            let x = write(x);
            x.copy_from_slice(read(b));
            solve(system, x);
            0
        })
    }
}

unsafe extern "C" fn matrix_id(_: SUNMatrix) -> sys::SUNMatrix_ID {
    sys::SUNMatrix_ID_SUNMATRIX_CUSTOM
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
    /// At a root of a state switch.
    Root(f64),
}

/// How sensitivities are integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As further columns of the block.
    Block,
    /// By CVODES' staggered corrector, one vector for each direction.
    Staggered,
}

/// CVODES memory for blocks of one shape, re-used by [`Integrator::restart`].
pub struct Integrator {
    system: NonNull<System>,
    context: sys::SUNContext,
    memory: *mut c_void,
    y: N_Vector,
    output: N_Vector,
    sensitivities: Vec<N_Vector>,
    matrix: SUNMatrix,
    solver: SUNLinearSolver,
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

impl Integrator {
    /// An integrator of `system`. Fails only for lack of memory or illegal options.
    pub fn new(system: System, options: &Options, method: Method) -> Result<Self, Failure> {
        let shape = match method {
            Method::Block => system.shape,
            Method::Staggered => Shape::new(system.shape.rows, 1),
        };
        let (directions, roots) = (system.directions, system.state_switches.len());
        let mut it = Integrator {
            system: NonNull::from(Box::leak(Box::new(system))),
            context: null_mut(),
            memory: null_mut(),
            y: null_mut(),
            output: null_mut(),
            sensitivities: vec![],
            matrix: null_mut(),
            solver: null_mut(),
            uncounted: false,
            counts: Counts::default(),
        };
        // SAFETY: every object is checked before use, kept in `it`, and freed once by `drop`, whatever fails in between. The
        // arguments are as the SUNDIALS manual demands; `user_data` stays valid for the life of the integrator.
        unsafe {
            check("SUNContext_Create", sys::SUNContext_Create(sys::SUN_COMM_NULL, &mut it.context))?;
            // A library does not print: no error handler, no logger.
            check("SUNContext_ClearErrHandlers", sys::SUNContext_ClearErrHandlers(it.context))?;
            check("SUNContext_SetLogger", sys::SUNContext_SetLogger(it.context, null_mut()))?;
            it.y = allocated("N_VNew", new_vector(it.context, shape))?;
            it.output = allocated("N_VNew", new_vector(it.context, shape))?;
            it.memory = allocated("CVodeCreate", sys::CVodeCreate(sys::CV_BDF, it.context))?;
            let (memory, data) = (it.memory, it.system.as_ptr().cast::<c_void>());
            let f = if method == Method::Block { rhs_callback } else { states_callback };
            check("CVodeInit", sys::CVodeInit(memory, Some(f), 0.0, it.y))?;
            check("CVodeSetUserData", sys::CVodeSetUserData(memory, data))?;
            match method {
                Method::Block => check("CVodeWFtolerances", sys::CVodeWFtolerances(memory, Some(weights_callback)))?,
                Method::Staggered => check("CVodeSStolerances", sys::CVodeSStolerances(memory, options.rtol, options.atol))?,
            }
            it.matrix = allocated("SUNMatNewEmpty", sys::SUNMatNewEmpty(it.context))?;
            (*(*it.matrix).ops).getid = Some(matrix_id);
            it.solver = allocated("SUNLinSolNewEmpty", sys::SUNLinSolNewEmpty(it.context))?;
            (*it.solver).content = data;
            let ops = &mut *(*it.solver).ops;
            ops.gettype = Some(solver_type);
            ops.getid = Some(solver_id);
            ops.initialize = Some(solver_initialize);
            ops.setup = Some(solver_setup);
            ops.solve = Some(solver_solve);
            check("CVodeSetLinearSolver", sys::CVodeSetLinearSolver(memory, it.solver, it.matrix))?;
            check("CVodeSetLinSysFn", sys::CVodeSetLinSysFn(memory, Some(linear_system_callback)))?;
            // One call of `CVode` is one step here, and the caller counts.
            check("CVodeSetMaxNumSteps", sys::CVodeSetMaxNumSteps(memory, 10))?;
            check("CVodeSetMaxErrTestFails", sys::CVodeSetMaxErrTestFails(memory, 20))?;
            check("CVodeSetMaxConvFails", sys::CVodeSetMaxConvFails(memory, 20))?;
            check("CVodeSetMaxHnilWarns", sys::CVodeSetMaxHnilWarns(memory, -1))?;
            if roots > 0 && method == Method::Block {
                check("CVodeRootInit", sys::CVodeRootInit(memory, roots as c_int, Some(roots_callback)))?;
                check("CVodeSetNoInactiveRootWarn", sys::CVodeSetNoInactiveRootWarn(memory))?;
            }
            if method == Method::Staggered && directions > 0 {
                for _ in 0..directions {
                    it.sensitivities.push(allocated("N_VNew", new_vector(it.context, shape))?);
                }
                let mut atol = vec![options.atol; directions];
                let s = it.sensitivities.as_mut_ptr();
                check("CVodeSensInit", sys::CVodeSensInit(memory, directions as c_int, sys::CV_STAGGERED, Some(forward_callback), s))?;
                check("CVodeSensSStolerances", sys::CVodeSensSStolerances(memory, options.rtol, atol.as_mut_ptr()))?;
                check("CVodeSetSensErrCon", sys::CVodeSetSensErrCon(memory, 1))?;
            }
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

    /// The current block: the last step's end, stop or root.
    pub fn block(&self) -> &[f64] {
        // SAFETY: `y` is owned and `&self` excludes writers.
        unsafe { read(self.y) }
    }

    /// Sensitivity vector k of the staggered method, to be set before [`Integrator::restart`].
    pub fn sensitivity(&mut self, k: usize) -> &mut [f64] {
        // SAFETY: the vectors are owned and `&mut self` excludes every other reference.
        unsafe { write(self.sensitivities[k]) }
    }

    /// Begins anew at time `t` with the current block, and stops at `stop` if there is such a time.
    pub fn restart(&mut self, t: f64, stop: Option<f64>) -> Result<(), Failure> {
        self.collect_counts();
        // SAFETY: memory and vectors are living objects of this integrator.
        unsafe {
            check("CVodeReInit", sys::CVodeReInit(self.memory, t, self.y))?;
            if !self.sensitivities.is_empty() {
                check("CVodeSensReInit", sys::CVodeSensReInit(self.memory, sys::CV_STAGGERED, self.sensitivities.as_mut_ptr()))?;
            }
            match stop {
                Some(stop) => check("CVodeSetStopTime", sys::CVodeSetStopTime(self.memory, stop)),
                None => check("CVodeClearStopTime", sys::CVodeClearStopTime(self.memory)),
            }
        }
    }

    /// One internal step. `horizon` bounds the first step after a restart to a tenth of the way there.
    ///
    /// The end is in [`Integrator::block`]. Panics where a kernel panicked.
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
            sys::CV_ROOT_RETURN => Ok(Step::Root(t)),
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

    /// Sensitivity vector k of the staggered method at a time within the last step.
    pub fn interpolate_sensitivity(&mut self, t: f64, k: usize) -> Result<&[f64], Failure> {
        // SAFETY: memory and vector are living objects of this integrator.
        unsafe {
            check("CVodeGetSensDky1", sys::CVodeGetSensDky1(self.memory, t, 0, k as c_int, self.output))?;
            Ok(read(self.output))
        }
    }

    /// For each state switch the direction of the root just found: 1 rising, -1 falling, 0 none.
    pub fn root_directions(&mut self) -> Result<Vec<i32>, Failure> {
        let mut found = vec![0; self.system().state_switches.len()];
        // SAFETY: `found` has room for all root functions.
        unsafe { check("CVodeGetRootInfo", sys::CVodeGetRootInfo(self.memory, found.as_mut_ptr()))? };
        Ok(found)
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

    /// Size of the last step, 0 before the first.
    pub fn last_step(&self) -> f64 {
        let mut h = 0.0;
        // SAFETY: memory is a living object of this integrator.
        unsafe { sys::CVodeGetLastStep(self.memory, &mut h) };
        h
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
        let new = Counts {
            simulations: 0,
            steps: get(sys::CVodeGetNumSteps),
            rhs_evaluations: get(sys::CVodeGetNumRhsEvals),
            jacobian_evaluations: get(sys::CVodeGetNumJacEvals),
            factorisations: get(sys::CVodeGetNumLinSolvSetups),
            newton_iterations: get(sys::CVodeGetNumNonlinSolvIters),
            error_test_failures: get(sys::CVodeGetNumErrTestFails),
            newton_failures: get(sys::CVodeGetNumNonlinSolvConvFails),
        };
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
                sys::SUNLinSolFreeEmpty(self.solver);
            }
            if !self.matrix.is_null() {
                sys::SUNMatFreeEmpty(self.matrix);
            }
            for v in [self.y, self.output].into_iter().chain(self.sensitivities.drain(..)) {
                vector_destroy(v);
            }
            if !self.context.is_null() {
                sys::SUNContext_Free(&mut self.context);
            }
            drop(Box::from_raw(self.system.as_ptr()));
        }
    }
}
