//! The system of differential equations that is integrated: the states and, column by column, the sensitivity equations.
//!
//! With directions xi, s_k = dx/dxi_k, v_k = dp/dxi_k and u_k = (s_k, v_k):
//!
//! * column 0: x' = f(t, x, p);
//! * first order: s_k' = J s_k + f_p v_k;
//! * second order: s_kl' = J s_kl + f_p v_kl + f_zz(u_k, u_l), with z = (x, p).
//!
//! The equations of each order are linear in its own columns, with the same matrix J. `newton.rs` makes use of that.

use super::block::{self, Shape};
use super::clock::Clock;
use super::history::{self, History};
use super::linear::DenseLu;
use super::newton::Memory;
use super::simulator::{Input, Options};
use crate::jit::Scratch;
use crate::model::CompiledModel;
use crate::model::compiled::Function;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// An initial value below this is a rounding error.
const NOTHING: f64 = 1e-10;

/// Absolute tolerances shrink with initial values down to this.
const LEAST_SCALE: f64 = 1e-4;

/// A number that was not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// Where in time.
    pub time: f64,
    /// The state whose derivative it was.
    pub row: usize,
    /// Column of the block: 0 for the state itself.
    pub column: usize,
}

/// One product u_a u_b of second-order terms, and the outputs in which it occurs.
#[derive(Debug, Clone)]
struct Product {
    /// Positions in `second_variables`.
    a: u32,
    b: u32,
    /// Which of `second_uses` it serves.
    uses: Range<u32>,
}

/// Entries of f_p whose parameter moves, with the columns in which it does.
#[derive(Debug, Clone, Default)]
struct Moving {
    /// (entry, row, range of `columns`).
    entries: Vec<(u32, u32, Range<u32>)>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Moving {
    fn clear(&mut self) {
        self.entries.clear();
        self.columns.clear();
        self.values.clear();
    }

    fn push(&mut self, entry: usize, row: u32, first_column: usize, seeds: &[f64]) {
        let start = self.columns.len() as u32;
        for (k, &v) in seeds.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            self.columns.push((first_column + k) as u32);
            self.values.push(v);
        }
        let end = self.columns.len() as u32;
        if end > start {
            self.entries.push((entry as u32, row, start..end));
        }
    }

    #[inline(always)]
    fn add(&self, jacobian: &[f64], stride: usize, out: &mut [f64]) {
        for (entry, row, range) in &self.entries {
            let a = jacobian[*entry as usize];
            let row = &mut out[*row as usize * stride..][..stride];
            let range = range.start as usize..range.end as usize;
            for (&k, &v) in self.columns[range.clone()].iter().zip(&self.values[range]) {
                row[k as usize] += a * v;
            }
        }
    }
}

/// Everything the integrator's callbacks need for blocks of one shape.
pub struct System {
    /// The model.
    pub model: Arc<CompiledModel>,
    /// Size of the block.
    pub shape: Shape,
    /// Number of first-order directions.
    pub directions: usize,
    /// Second-order directions.
    pub pairs: Vec<(u32, u32)>,
    /// Parameters now in force, with the flags of the switches.
    pub parameters: Vec<f64>,
    /// dp/dxi, np by ns.
    pub seeds: Vec<f64>,
    /// d2p/dxi2, np by pairs.
    pub seeds_second: Vec<f64>,
    /// State switches: indices into the model's switches.
    pub state_switches: Arc<[u32]>,
    all_switches: Arc<[u32]>,
    /// Those on which more depends than the times of observed events.
    ruling_switches: Arc<[u32]>,
    /// Values of all root functions at the last evaluation.
    pub roots: Vec<f64>,
    /// Derivatives of the time to which the block is carried, see `clock.rs`.
    pub clock: Clock,
    /// The past, where the model has delays.
    pub history: History,
    /// The last number that was not finite, until cleared.
    pub not_finite: Option<NotFinite>,
    /// A panic of a callback on its way through the integrator.
    pub panic: Option<Box<dyn Any + Send>>,
    /// Working memory of kernel calls.
    pub scratch: Scratch,

    rtol: f64,
    /// One per state.
    atol: Vec<f64>,
    given_atol: f64,
    scaled_atol: bool,
    weight_factors: Vec<f64>,

    /// Memory of Newton's method.
    pub(super) newton: Memory,
    /// Whether every step factorises anew at its end, see `newton.rs`.
    pub(super) renews_factors: bool,
    /// Evaluations of f, of J, and factorisations.
    pub evaluations: [u64; 3],

    x: Vec<f64>,
    f: Vec<f64>,
    jacobian: Vec<f64>,
    row_start: Vec<u32>,
    linear: DenseLu,

    parameter_jacobian: Vec<f64>,
    moving_first: Moving,
    moving_second: Moving,

    second: Vec<f64>,
    /// z-indices of the variables of second-order terms.
    second_variables: Vec<u32>,
    /// u of these variables at the first and at the second direction of every pair.
    second_first: Vec<f64>,
    second_other: Vec<f64>,
    second_products: Vec<Product>,
    /// (entry of the tensor, row).
    second_uses: Vec<(u32, u32)>,
    /// Whether a variable moves at all.
    second_moves: Vec<bool>,
    product: Vec<f64>,
    /// f_zz(u_k, u_l), rows by pairs.
    second_terms: Vec<f64>,
    work: Vec<f64>,
}

impl System {
    /// The equations for blocks with `directions` first-order and `pairs` second-order columns.
    pub fn new(model: Arc<CompiledModel>, options: &Options, directions: usize, pairs: usize) -> Self {
        let nx = model.states.len();
        let np = model.parameters.len();
        let shape = Shape::new(nx, 1 + directions + pairs);
        let mut weight_factors = vec![0.0; shape.stride];
        weight_factors[..shape.columns].fill(1.0 / options.sensitivity_factor);
        weight_factors[0] = 1.0;

        let dx = &model.rhs.dx;
        let mut row_start = vec![0u32; nx + 1];
        for &i in &dx.rows {
            row_start[i as usize + 1] += 1;
        }
        for i in 0..nx {
            row_start[i + 1] += row_start[i];
        }

        let mut second_variables: Vec<u32> = vec![];
        let mut second_products: Vec<Product> = vec![];
        let mut second_uses = vec![];
        let mut second = vec![];
        if let (true, Some(tensor)) = (pairs > 0, &model.rhs.second) {
            second.resize(tensor.entries.len(), 0.0);
            // The same product of two variables, a reaction's say, occurs in several rows: it is formed once.
            let mut order: Vec<u32> =
                (0..tensor.entries.len() as u32).filter(|&k| (tensor.entries[k as usize][2] as usize) < nx + np).collect();
            order.sort_by_key(|&k| {
                let [i, a, b] = tensor.entries[k as usize];
                (a, b, i)
            });
            second_variables = order.iter().flat_map(|&k| tensor.entries[k as usize][1..].to_vec()).collect();
            second_variables.sort_unstable();
            second_variables.dedup();
            let place = |z: u32| second_variables.partition_point(|&v| v < z) as u32;
            for &k in &order {
                let [i, a, b] = tensor.entries[k as usize];
                let (a, b) = (place(a), place(b));
                let end = second_uses.len() as u32 + 1;
                match second_products.last_mut() {
                    Some(last) if (last.a, last.b) == (a, b) => last.uses.end = end,
                    _ => second_products.push(Product { a, b, uses: end - 1..end }),
                }
                second_uses.push((k, i));
            }
        }

        System {
            shape,
            directions,
            pairs: vec![(0, 0); pairs],
            parameters: vec![0.0; np],
            seeds: vec![0.0; np * directions],
            seeds_second: vec![0.0; np * pairs],
            state_switches: watched_switches(&model, true),
            all_switches: watched_switches(&model, true),
            ruling_switches: watched_switches(&model, false),
            roots: vec![0.0; model.switches.len()],
            clock: Clock::fixed(directions, pairs),
            history: History::default(),
            not_finite: None,
            panic: None,
            scratch: Scratch::default(),
            rtol: options.rtol,
            atol: vec![options.atol; nx],
            given_atol: options.atol,
            scaled_atol: options.scaled_atol,
            weight_factors,
            x: vec![0.0; nx],
            f: vec![0.0; nx],
            jacobian: vec![0.0; dx.rows.len()],
            row_start,
            newton: Memory::new(nx),
            // A factorisation costs 2/3 n^3 operations, an iteration 2 n^2 for each column.
            renews_factors: directions > 0 && 3 * shape.columns >= nx,
            evaluations: [0; 3],
            linear: DenseLu::new(nx),
            parameter_jacobian: vec![0.0; model.rhs.dp.rows.len()],
            moving_first: Moving::default(),
            moving_second: Moving::default(),
            second,
            second_first: vec![0.0; second_variables.len() * pairs],
            second_other: vec![0.0; second_variables.len() * pairs],
            second_moves: vec![true; second_variables.len()],
            second_variables,
            second_products,
            second_uses,
            product: vec![0.0; pairs],
            second_terms: vec![0.0; nx * pairs],
            work: vec![],
            model,
        }
    }

    /// Sets the tolerances of the simulations to come.
    pub fn set_tolerances(&mut self, rtol: f64, atol: f64) {
        (self.rtol, self.given_atol) = (rtol, atol);
    }

    /// Takes over the start of a simulation: parameters, seeds, and the block of the initial states into `y`.
    pub fn start(&mut self, input: &Input, y: &mut [f64]) {
        let (ns, stride) = (self.directions, self.shape.stride);
        self.parameters.copy_from_slice(input.parameters);
        self.seeds.copy_from_slice(input.parameter_seeds);
        if let Some(second) = &input.second {
            self.pairs.copy_from_slice(second.pairs);
            self.seeds_second.copy_from_slice(second.parameters);
        }
        self.state_switches = if input.awaited.is_some() { &self.all_switches } else { &self.ruling_switches }.clone();
        let np = self.pairs.len();
        y.fill(0.0);
        for (i, row) in y.chunks_exact_mut(stride).enumerate() {
            row[0] = input.states[i];
            row[1..1 + ns].copy_from_slice(&input.state_seeds[i * ns..(i + 1) * ns]);
            if let Some(second) = &input.second {
                row[1 + ns..1 + ns + np].copy_from_slice(&second.states[i * np..(i + 1) * np]);
            }
        }
        self.set_absolute_tolerances(input.states);
        self.not_finite = None;
        self.clock = Clock::fixed(ns, np);
        self.history = History::default();
        self.seeds_changed();
    }

    /// The absolute tolerance is meant for states of the order of 1. A state that starts smaller is small by nature (an active
    /// fraction of 1e-6 that drives all that follows), and its tolerance is in proportion; one that starts at 0 tells nothing.
    fn set_absolute_tolerances(&mut self, states: &[f64]) {
        let largest = states.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let all = if self.scaled_atol && largest > 0.0 && largest < 1.0 { largest } else { 1.0 };
        for (atol, x) in self.atol.iter_mut().zip(states) {
            let own = if self.scaled_atol || x.abs() < NOTHING { 1.0 } else { x.abs().clamp(LEAST_SCALE, 1.0) };
            *atol = self.given_atol * all * own;
        }
    }

    /// To be called after every change of `seeds` or `seeds_second`: finds which terms of the sensitivity equations do not vanish.
    pub fn seeds_changed(&mut self) {
        let (ns, pairs, nx) = (self.directions, self.pairs.len(), self.shape.rows);
        self.moving_first.clear();
        self.moving_second.clear();
        if ns == 0 {
            return;
        }
        let dp = &self.model.rhs.dp;
        for (entry, (&row, &parameter)) in dp.rows.iter().zip(&dp.columns).enumerate() {
            let b = parameter as usize;
            if b < self.parameters.len() {
                self.moving_first.push(entry, row, 1, &self.seeds[b * ns..(b + 1) * ns]);
                self.moving_second.push(entry, row, 1 + ns, &self.seeds_second[b * pairs..(b + 1) * pairs]);
            }
        }
        for (slot, &z) in self.second_variables.iter().enumerate() {
            let Some(b) = (z as usize).checked_sub(nx) else { continue };
            let seeds = &self.seeds[b * ns..(b + 1) * ns];
            self.second_moves[slot] = seeds.iter().any(|&v| v != 0.0);
            for (m, &(k, l)) in self.pairs.iter().enumerate() {
                self.second_first[slot * pairs + m] = seeds[k as usize];
                self.second_other[slot * pairs + m] = seeds[l as usize];
            }
        }
    }

    #[inline(always)]
    fn gather_states(&mut self, y: &[f64]) {
        for (x, row) in self.x.iter_mut().zip(y.chunks_exact(self.shape.stride)) {
            *x = row[0];
        }
    }

    /// f at the states `x`, into [`System::rates`]. Returns false, and notes where, if it is not finite.
    #[inline(always)]
    pub(super) fn evaluate_states(&mut self, t: f64, x: &[f64]) -> bool {
        self.evaluations[0] += 1;
        self.refresh_delays(t, x);
        self.model.rhs.value.call([&[t][..], x, &self.parameters, &[]], &mut self.f, &mut self.scratch);
        if let Some(row) = self.f.iter().position(|v| !v.is_finite()) {
            self.not_finite = Some(NotFinite { time: t, row, column: 0 });
            return false;
        }
        true
    }

    /// The last f.
    #[inline(always)]
    pub(super) fn rates(&self) -> &[f64] {
        &self.f
    }

    /// J at the states `x`. Returns false, and notes where, if it is not finite.
    #[inline(always)]
    pub(super) fn evaluate_jacobian(&mut self, t: f64, x: &[f64]) -> bool {
        self.evaluations[1] += 1;
        let model = self.model.clone();
        let dx = &model.rhs.dx;
        dx.kernel.call([&[t][..], x, &self.parameters, &[]], &mut self.jacobian, &mut self.scratch);
        let finite = block::all_finite(&self.jacobian) || (self.directions == 0 && self.difference_jacobian(t, x));
        if !finite {
            let entry = self.jacobian.iter().position(|v| !v.is_finite()).unwrap_or(0);
            self.not_finite = Some(NotFinite { time: t, row: dx.rows[entry] as usize, column: self.directions.min(1) });
            return false;
        }
        true
    }

    /// Replaces entries of J that are not finite, such as the slope of a root at 0, by differences. Newton's method for the states
    /// alone needs no more than an approximation. Returns whether all are finite then.
    #[cold]
    fn difference_jacobian(&mut self, t: f64, x: &[f64]) -> bool {
        let model = self.model.clone();
        let dx = &model.rhs.dx;
        let mut f = vec![0.0; x.len()];
        let mut moved_f = f.clone();
        model.rhs.value.call([&[t][..], x, &self.parameters, &[]], &mut f, &mut self.scratch);
        let mut moved = x.to_vec();
        for k in 0..self.jacobian.len() {
            if self.jacobian[k].is_finite() {
                continue;
            }
            let (i, j) = (dx.rows[k] as usize, dx.columns[k] as usize);
            let step = f64::EPSILON.sqrt() * x[j].abs().max(1e3 * self.atol[j]);
            moved[j] = x[j] + step;
            model.rhs.value.call([&[t][..], &moved, &self.parameters, &[]], &mut moved_f, &mut self.scratch);
            moved[j] = x[j];
            self.jacobian[k] = (moved_f[i] - f[i]) / step;
        }
        block::all_finite(&self.jacobian)
    }

    /// The entries of the last J.
    pub(super) fn jacobian(&self) -> &[f64] {
        &self.jacobian
    }

    /// Absolute tolerance of states of the order of 1.
    pub(super) fn absolute_tolerance(&self) -> f64 {
        self.atol.iter().copied().fold(f64::MIN_POSITIVE, f64::max)
    }

    /// Factor by which the tolerances of the sensitivities are looser.
    pub(super) fn sensitivity_factor(&self) -> f64 {
        self.weight_factors.get(1).map_or(1.0, |w| 1.0 / w)
    }

    /// f_p at the states `x`, if any parameter moves.
    #[inline(always)]
    pub(super) fn evaluate_parameter_jacobian(&mut self, t: f64, x: &[f64]) {
        if self.moving_first.entries.is_empty() && self.moving_second.entries.is_empty() {
            return;
        }
        let dp = &self.model.rhs.dp;
        dp.kernel.call([&[t][..], x, &self.parameters, &[]], &mut self.parameter_jacobian, &mut self.scratch);
    }

    /// Factorises I - gamma J with the last J. Returns false where that is singular.
    #[inline(always)]
    pub(super) fn factorise(&mut self, gamma: f64) -> bool {
        self.evaluations[2] += 1;
        let dx = &self.model.rhs.dx;
        self.linear.factorise(gamma, &dx.rows, &dx.columns, &self.jacobian)
    }

    /// Solves with the last factors in place, for the columns of a [`covering`](block::covering) range.
    #[inline(always)]
    pub(super) fn solve_columns(&self, b: &mut [f64], stride: usize, columns: Range<usize>) {
        self.linear.solve(b, stride, &columns);
    }

    /// Derivatives of the sensitivities in `columns` of the block `y`, with J, f_p and second-order terms as last evaluated.
    /// Writes all columns of the covering range.
    #[inline(always)]
    pub(super) fn sensitivity_rhs(&self, y: &[f64], ydot: &mut [f64], columns: &Range<usize>) {
        let (stride, first_pair, pairs) = (self.shape.stride, 1 + self.directions, self.pairs.len());
        let wide = block::covering(columns, stride);
        let dx = &self.model.rhs.dx;
        for (i, row) in ydot.chunks_exact_mut(stride).enumerate() {
            let range = self.row_start[i] as usize..self.row_start[i + 1] as usize;
            row[wide.clone()].fill(0.0);
            block::accumulate_rows(row, y, &dx.columns[range.clone()], &self.jacobian[range], &wide);
        }
        if columns.start < first_pair {
            self.moving_first.add(&self.parameter_jacobian, stride, ydot);
        }
        if columns.end > first_pair {
            self.moving_second.add(&self.parameter_jacobian, stride, ydot);
            for (row, terms) in ydot.chunks_exact_mut(stride).zip(self.second_terms.chunks_exact(pairs)) {
                block::linear_sum_in_place(1.0, terms, 1.0, &mut row[first_pair..first_pair + pairs]);
            }
        }
    }

    /// The right-hand side of the whole block. Returns false, and notes where, if it is not finite.
    #[inline(always)]
    pub fn rhs(&mut self, t: f64, y: &[f64], ydot: &mut [f64]) -> bool {
        let stride = self.shape.stride;
        let mut x = std::mem::take(&mut self.x);
        for (x, row) in x.iter_mut().zip(y.chunks_exact(stride)) {
            *x = row[0];
        }
        let mut finite = self.evaluate_states(t, &x);
        if finite && self.directions > 0 {
            finite = self.evaluate_jacobian(t, &x);
            self.evaluate_parameter_jacobian(t, &x);
            if !self.pairs.is_empty() {
                self.evaluate_second(t, &x, y);
            }
            self.sensitivity_rhs(y, ydot, &(1..self.shape.columns));
        }
        for (f, row) in self.f.iter().zip(ydot.chunks_exact_mut(stride)) {
            row[0] = *f;
        }
        self.x = x;
        if !finite || block::all_finite(ydot) {
            return finite;
        }
        // Columns first: a state that is not finite spoils its sensitivities, and is the cause to report.
        let mut places = (0..stride).flat_map(|c| (0..self.shape.rows).map(move |r| (r, c)));
        if let Some((row, column)) = places.find(|&(r, c)| !ydot[r * stride + c].is_finite()) {
            self.not_finite = Some(NotFinite { time: t, row, column });
        }
        false
    }

    /// f_zz(u_k, u_l) of all pairs at the states `x`, with the sensitivities of the block `y`.
    #[inline(always)]
    pub(super) fn evaluate_second(&mut self, t: f64, x: &[f64], y: &[f64]) {
        let (nx, stride, pairs) = (self.shape.rows, self.shape.stride, self.pairs.len());
        self.second_terms.fill(0.0);
        if let (false, Some(tensor)) = (self.second_products.is_empty(), &self.model.rhs.second) {
            tensor.kernel.call([&[t][..], x, &self.parameters, &[]], &mut self.second, &mut self.scratch);
        }
        for (slot, &z) in self.second_variables.iter().enumerate().take_while(|(_, z)| (**z as usize) < nx) {
            let s = &y[z as usize * stride + 1..][..self.directions];
            let one = &mut self.second_first[slot * pairs..][..pairs];
            let other = &mut self.second_other[slot * pairs..][..pairs];
            for (m, &(k, l)) in self.pairs.iter().enumerate() {
                one[m] = s[k as usize];
                other[m] = s[l as usize];
            }
        }
        for product in &self.second_products {
            let (a, b) = (product.a as usize, product.b as usize);
            if !(self.second_moves[a] && self.second_moves[b]) {
                continue;
            }
            let (a_first, a_other) = (&self.second_first[a * pairs..][..pairs], &self.second_other[a * pairs..][..pairs]);
            let (b_first, b_other) = (&self.second_first[b * pairs..][..pairs], &self.second_other[b * pairs..][..pairs]);
            let w = &mut self.product[..pairs];
            if a == b {
                for m in 0..pairs {
                    w[m] = a_first[m] * a_other[m];
                }
            } else {
                for m in 0..pairs {
                    w[m] = a_first[m] * b_other[m] + b_first[m] * a_other[m];
                }
            }
            for &(entry, row) in &self.second_uses[product.uses.start as usize..product.uses.end as usize] {
                let h = self.second[entry as usize];
                if h == 0.0 {
                    continue;
                }
                block::linear_sum_in_place(h, w, 1.0, &mut self.second_terms[row as usize * pairs..][..pairs]);
            }
        }
    }

    /// Error weights of a block.
    #[inline(always)]
    pub fn weights(&self, y: &[f64], w: &mut [f64]) {
        block::weights(y, w, self.rtol, &self.atol, &self.weight_factors);
    }

    /// Brings delayed values up to date, where the model has any.
    #[inline(always)]
    pub fn refresh_delays(&mut self, t: f64, x: &[f64]) {
        if !self.model.delays.parameters.is_empty() {
            history::refresh(self, t, x);
        }
    }

    /// Column 0 of a block into `x`, and delayed values to match.
    fn gather_all(&mut self, t: f64, y: &[f64]) {
        self.gather_states(y);
        if !self.model.delays.parameters.is_empty() {
            let x = std::mem::take(&mut self.x);
            history::refresh(self, t, &x);
            self.x = x;
        }
    }

    /// Evaluates all root functions at a block into `roots`.
    pub fn evaluate_roots(&mut self, t: f64, y: &[f64]) {
        self.gather_all(t, y);
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        self.model.roots.value.call(inputs, &mut self.roots, &mut self.scratch);
    }

    /// f(t, x, p) with x from column 0 of a block.
    pub fn states_rhs(&mut self, t: f64, y: &[f64], f: &mut [f64]) {
        self.gather_all(t, y);
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        self.model.rhs.value.call(inputs, f, &mut self.scratch);
    }

    /// x'' = J f + f_t, given f.
    pub fn states_second_rate(&mut self, t: f64, y: &[f64], f: &[f64], out: &mut [f64]) {
        self.gather_states(y);
        let function = &self.model.rhs;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        function.dt.call(inputs, out, &mut self.scratch);
        function.dx.kernel.call(inputs, &mut self.jacobian, &mut self.scratch);
        for ((&i, &j), &v) in function.dx.rows.iter().zip(&function.dx.columns).zip(&self.jacobian) {
            out[i as usize] += v * f[j as usize];
        }
    }

    /// Column 0 of a block.
    pub fn states(&mut self, y: &[f64]) -> &[f64] {
        self.gather_states(y);
        &self.x
    }

    /// Component `z` of u_k = (s_k, v_k, tau_k).
    #[inline(always)]
    pub fn direction(&self, y: &[f64], z: usize, k: usize) -> f64 {
        let nx = self.shape.rows;
        if z < nx {
            y[z * self.shape.stride + 1 + k]
        } else if z < nx + self.parameters.len() {
            self.seeds[(z - nx) * self.directions + k]
        } else {
            self.clock.first[k]
        }
    }

    /// Directional derivatives of every output of `function` along the columns of block `y`: its values in column 0 of
    /// `out` (outputs by `columns`, not padded), first and second derivatives in the others.
    ///
    /// This is the chain rule for a function evaluated at the time whose derivatives stand in `clock`. `numbers` are its
    /// placeholders.
    pub fn differentiate(&mut self, function: &Function, numbers: &[f64], t: f64, y: &[f64], out: &mut [f64]) {
        let (nx, stride, ns, columns) = (self.shape.rows, self.shape.stride, self.directions, self.shape.columns);
        let np = self.parameters.len();
        self.gather_all(t, y);
        let inputs = [&[t][..], &self.x, &self.parameters, numbers];
        let mut values = std::mem::take(&mut self.work);
        values.resize(function.value.outputs(), 0.0);
        function.value.call(inputs, &mut values, &mut self.scratch);
        out.fill(0.0);
        for (o, v) in values.iter().enumerate() {
            out[o * columns] = *v;
        }
        if ns == 0 {
            self.work = values;
            return;
        }
        values.resize(function.dx.kernel.outputs(), 0.0);
        function.dx.kernel.call(inputs, &mut values, &mut self.scratch);
        for ((&o, &j), &g) in function.dx.rows.iter().zip(&function.dx.columns).zip(&values) {
            for c in 1..columns {
                out[o as usize * columns + c] += g * y[j as usize * stride + c];
            }
        }
        values.resize(function.dp.kernel.outputs(), 0.0);
        function.dp.kernel.call(inputs, &mut values, &mut self.scratch);
        let pairs = self.pairs.len();
        for ((&o, &b), &g) in function.dp.rows.iter().zip(&function.dp.columns).zip(&values) {
            let b = b as usize;
            if b >= np {
                continue;
            }
            let row = &mut out[o as usize * columns..][..columns];
            for k in 0..ns {
                row[1 + k] += g * self.seeds[b * ns + k];
            }
            for m in 0..pairs {
                row[1 + ns + m] += g * self.seeds_second[b * pairs + m];
            }
        }
        if self.clock.first.iter().chain(&self.clock.second).any(|v| *v != 0.0) {
            values.resize(function.dt.outputs(), 0.0);
            function.dt.call(inputs, &mut values, &mut self.scratch);
            for (row, g) in out.chunks_exact_mut(columns).zip(&values) {
                row[1..1 + ns].iter_mut().zip(&self.clock.first).for_each(|(v, tau)| *v += g * tau);
                row[1 + ns..].iter_mut().zip(&self.clock.second).for_each(|(v, tau)| *v += g * tau);
            }
        }
        if let (true, Some(tensor)) = (pairs > 0, &function.second) {
            values.resize(tensor.kernel.outputs(), 0.0);
            tensor.kernel.call(inputs, &mut values, &mut self.scratch);
            for (&[o, a, b], &h) in tensor.entries.iter().zip(&values) {
                let (a, b) = (a as usize, b as usize);
                if b > nx + np {
                    continue;
                }
                for (m, &(k, l)) in self.pairs.iter().enumerate() {
                    let (k, l) = (k as usize, l as usize);
                    let mut w = self.direction(y, a, k) * self.direction(y, b, l);
                    if a != b {
                        w += self.direction(y, b, k) * self.direction(y, a, l);
                    }
                    out[o as usize * columns + 1 + ns + m] += h * w;
                }
            }
        }
        self.work = values;
    }
}

/// The switches that root finding looks for: those of explicit time are known beforehand.
fn watched_switches(model: &CompiledModel, observed: bool) -> Arc<[u32]> {
    let watched = |j: &u32| {
        let switch = &model.switches[*j as usize];
        !switch.explicit_time && (observed || !switch.only_observed)
    };
    (0..model.switches.len() as u32).filter(watched).collect()
}
