//! The system of differential equations that is integrated: the states and, column by column, the sensitivity equations.
//!
//! With directions xi, s_k = dx/dxi_k, v_k = dp/dxi_k and u_k = (s_k, v_k):
//!
//! * column 0: x' = f(t, x, p);
//! * first order: s_k' = J s_k + f_p v_k;
//! * second order: s_kl' = J s_kl + f_p v_kl + f_zz(u_k, u_l), with z = (x, p).
//!
//! Pair columns need s_k and s_l, so the Newton matrix of the whole block is block lower triangular. Only its diagonal
//! blocks I - gamma J, which are all the same, are used: the usual simultaneous corrector.

use super::block::{self, Shape};
use super::linear::DenseLu;
use super::simulator::{Input, Options};
use crate::jit::Scratch;
use crate::model::CompiledModel;
use crate::model::compiled::Function;
use std::any::Any;
use std::sync::Arc;

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
    uses: std::ops::Range<u32>,
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
    pub state_switches: Vec<u32>,
    /// Values of all root functions at the last evaluation.
    pub roots: Vec<f64>,
    /// The last number that was not finite, until cleared.
    pub not_finite: Option<NotFinite>,
    /// A panic of a callback on its way through the integrator.
    pub panic: Option<Box<dyn Any + Send>>,
    /// Working memory of kernel calls.
    pub scratch: Scratch,

    rtol: f64,
    atol: f64,
    weight_factors: Vec<f64>,

    x: Vec<f64>,
    f: Vec<f64>,
    jacobian: Vec<f64>,
    /// Time at which `jacobian` belongs to `x`; NaN where it does not.
    jacobian_time: f64,
    /// The Jacobian of the last factorisation.
    newton_jacobian: Vec<f64>,
    row_start: Vec<u32>,
    linear: DenseLu,

    parameter_jacobian: Vec<f64>,
    /// Entries of f_p whose parameter moves in some direction: (entry, row, range of `seed_columns`).
    moving: Vec<(u32, u32, std::ops::Range<u32>)>,
    seed_columns: Vec<u32>,
    seed_values: Vec<f64>,

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
            let mut order: Vec<u32> = (0..tensor.entries.len() as u32).filter(|&k| (tensor.entries[k as usize][2] as usize) < nx + np).collect();
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
            state_switches: (0..model.switches.len() as u32).filter(|&j| !model.switches[j as usize].explicit_time).collect(),
            roots: vec![0.0; model.switches.len()],
            not_finite: None,
            panic: None,
            scratch: Scratch::default(),
            rtol: options.rtol,
            atol: options.atol,
            weight_factors,
            x: vec![0.0; nx],
            f: vec![0.0; nx],
            jacobian: vec![0.0; dx.rows.len()],
            jacobian_time: f64::NAN,
            newton_jacobian: vec![0.0; dx.rows.len()],
            row_start,
            linear: DenseLu::new(nx),
            parameter_jacobian: vec![0.0; model.rhs.dp.rows.len()],
            moving: vec![],
            seed_columns: vec![],
            seed_values: vec![],
            second,
            second_first: vec![0.0; second_variables.len() * pairs],
            second_other: vec![0.0; second_variables.len() * pairs],
            second_moves: vec![true; second_variables.len()],
            second_variables,
            second_products,
            second_uses,
            product: vec![0.0; pairs],
            work: vec![],
            model,
        }
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
        let np = self.pairs.len();
        y.fill(0.0);
        for (i, row) in y.chunks_exact_mut(stride).enumerate() {
            row[0] = input.states[i];
            row[1..1 + ns].copy_from_slice(&input.state_seeds[i * ns..(i + 1) * ns]);
            if let Some(second) = &input.second {
                row[1 + ns..1 + ns + np].copy_from_slice(&second.states[i * np..(i + 1) * np]);
            }
        }
        self.not_finite = None;
        self.parameters_changed();
        self.seeds_changed();
    }

    /// To be called after every change of `parameters`.
    pub fn parameters_changed(&mut self) {
        self.jacobian_time = f64::NAN;
    }

    /// To be called after every change of `seeds` or `seeds_second`: finds which terms of the sensitivity equations do not vanish.
    pub fn seeds_changed(&mut self) {
        let (ns, pairs, nx) = (self.directions, self.pairs.len(), self.shape.rows);
        self.moving.clear();
        self.seed_columns.clear();
        self.seed_values.clear();
        if ns == 0 {
            return;
        }
        let dp = &self.model.rhs.dp;
        for (entry, (&row, &parameter)) in dp.rows.iter().zip(&dp.columns).enumerate() {
            let b = parameter as usize;
            if b >= self.parameters.len() {
                continue;
            }
            let start = self.seed_columns.len() as u32;
            let first = self.seeds[b * ns..(b + 1) * ns].iter();
            let second = self.seeds_second[b * pairs..(b + 1) * pairs].iter();
            for (k, &v) in first.chain(second).enumerate() {
                if v != 0.0 {
                    self.seed_columns.push(1 + k as u32);
                    self.seed_values.push(v);
                }
            }
            let end = self.seed_columns.len() as u32;
            if end > start {
                self.moving.push((entry as u32, row, start..end));
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

    /// The right-hand side of the whole block. Returns false, and notes where, if it is not finite.
    #[inline(always)]
    pub fn rhs(&mut self, t: f64, y: &[f64], ydot: &mut [f64]) -> bool {
        let stride = self.shape.stride;
        self.gather_states(y);
        let function = &self.model.rhs;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        function.value.call(inputs, &mut self.f, &mut self.scratch);
        if self.directions > 0 {
            function.dx.kernel.call(inputs, &mut self.jacobian, &mut self.scratch);
            self.jacobian_time = t;
            for (i, row) in ydot.chunks_exact_mut(stride).enumerate() {
                let range = self.row_start[i] as usize..self.row_start[i + 1] as usize;
                row.fill(0.0);
                block::accumulate_rows(row, y, &function.dx.columns[range.clone()], &self.jacobian[range]);
            }
            if !self.moving.is_empty() {
                function.dp.kernel.call(inputs, &mut self.parameter_jacobian, &mut self.scratch);
                for (entry, row, range) in &self.moving {
                    let a = self.parameter_jacobian[*entry as usize];
                    let row = &mut ydot[*row as usize * stride..][..stride];
                    let range = range.start as usize..range.end as usize;
                    for (&k, &v) in self.seed_columns[range.clone()].iter().zip(&self.seed_values[range]) {
                        row[k as usize] += a * v;
                    }
                }
            }
            if !self.second_products.is_empty() {
                self.add_second_order(t, y, ydot);
            }
        }
        for (f, row) in self.f.iter().zip(ydot.chunks_exact_mut(stride)) {
            row[0] = *f;
        }
        if block::all_finite(ydot) {
            return true;
        }
        // Columns first: a state that is not finite spoils its sensitivities, and is the cause to report.
        let mut places = (0..stride).flat_map(|c| (0..self.shape.rows).map(move |r| (r, c)));
        if let Some((row, column)) = places.find(|&(r, c)| !ydot[r * stride + c].is_finite()) {
            self.not_finite = Some(NotFinite { time: t, row, column });
        }
        false
    }

    /// Adds f_zz(u_k, u_l) to the pair columns.
    #[inline(always)]
    fn add_second_order(&mut self, t: f64, y: &[f64], ydot: &mut [f64]) {
        let (nx, stride, pairs) = (self.shape.rows, self.shape.stride, self.pairs.len());
        let first_pair = 1 + self.directions;
        if let Some(tensor) = &self.model.rhs.second {
            tensor.kernel.call([&[t][..], &self.x, &self.parameters, &[]], &mut self.second, &mut self.scratch);
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
                let out = &mut ydot[row as usize * stride + first_pair..][..pairs];
                for m in 0..pairs {
                    out[m] += h * w[m];
                }
            }
        }
    }

    /// Prepares Newton's method: factorises I - gamma J at (t, y). With `reuse` the Jacobian of the last time may be kept.
    ///
    /// Returns whether the Jacobian is that at (t, y), and whether the factorisation succeeded.
    #[inline(always)]
    pub fn factorise(&mut self, t: f64, y: &[f64], reuse: bool, gamma: f64) -> (bool, bool) {
        let stride = self.shape.stride;
        let mut current = true;
        // With sensitivities the right-hand side at the predicted state has computed the Jacobian already.
        let known = self.jacobian_time == t && self.x.iter().zip(y.chunks_exact(stride)).all(|(x, row)| *x == row[0]);
        if known {
            self.newton_jacobian.copy_from_slice(&self.jacobian);
        } else if reuse {
            current = false;
        } else {
            self.gather_states(y);
            self.jacobian_time = f64::NAN;
            let inputs = [&[t][..], &self.x, &self.parameters, &[]];
            self.model.rhs.dx.kernel.call(inputs, &mut self.newton_jacobian, &mut self.scratch);
        }
        let dx = &self.model.rhs.dx;
        if current && let Some(bad) = self.newton_jacobian.iter().position(|v| !v.is_finite()) {
            self.not_finite = Some(NotFinite { time: t, row: dx.rows[bad] as usize, column: 0 });
            return (current, false);
        }
        (current, self.linear.factorise(gamma, &dx.rows, &dx.columns, &self.newton_jacobian))
    }

    /// Solves (I - gamma J) d = b for all columns of the block `b`, in place.
    #[inline(always)]
    pub fn solve(&self, b: &mut [f64]) {
        let stride = b.len() / self.shape.rows.max(1);
        self.linear.solve(b, stride);
    }

    /// Error weights of a block.
    #[inline(always)]
    pub fn weights(&self, y: &[f64], w: &mut [f64]) {
        block::weights(y, w, self.rtol, self.atol, &self.weight_factors);
    }

    /// Evaluates all root functions at a block into `roots`. Returns false if one is not a number.
    pub fn evaluate_roots(&mut self, t: f64, y: &[f64]) -> bool {
        self.gather_states(y);
        self.jacobian_time = f64::NAN;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        self.model.roots.value.call(inputs, &mut self.roots, &mut self.scratch);
        !self.roots.iter().any(|g| g.is_nan())
    }

    /// f(t, x, p) with x from column 0 of a block.
    pub fn states_rhs(&mut self, t: f64, y: &[f64], f: &mut [f64]) {
        self.gather_states(y);
        self.jacobian_time = f64::NAN;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        self.model.rhs.value.call(inputs, f, &mut self.scratch);
    }

    /// x'' = J f + f_t, given f.
    pub fn states_second_rate(&mut self, t: f64, y: &[f64], f: &[f64], out: &mut [f64]) {
        self.gather_states(y);
        self.jacobian_time = f64::NAN;
        let function = &self.model.rhs;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        function.dt.call(inputs, out, &mut self.scratch);
        function.dx.kernel.call(inputs, &mut self.jacobian, &mut self.scratch);
        for ((&i, &j), &v) in function.dx.rows.iter().zip(&function.dx.columns).zip(&self.jacobian) {
            out[i as usize] += v * f[j as usize];
        }
    }

    /// Right-hand sides of CVODES' own sensitivity vectors at the state vector y: one call of `column` for each of them
    /// gives the vector and takes its derivative. Only for the oracle in `forward.rs`.
    pub fn forward_rhs(&mut self, t: f64, y: &[f64], s: &[&[f64]], sdot: &mut [&mut [f64]]) -> bool {
        self.x.copy_from_slice(y);
        self.jacobian_time = f64::NAN;
        let function = &self.model.rhs;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
        function.dx.kernel.call(inputs, &mut self.newton_jacobian, &mut self.scratch);
        function.dp.kernel.call(inputs, &mut self.parameter_jacobian, &mut self.scratch);
        for (k, (s, sdot)) in s.iter().zip(sdot.iter_mut()).enumerate() {
            sdot.fill(0.0);
            for ((&i, &j), &v) in function.dx.rows.iter().zip(&function.dx.columns).zip(&self.newton_jacobian) {
                sdot[i as usize] += v * s[j as usize];
            }
            for ((&i, &b), &v) in function.dp.rows.iter().zip(&function.dp.columns).zip(&self.parameter_jacobian) {
                if (b as usize) < self.parameters.len() {
                    sdot[i as usize] += v * self.seeds[b as usize * self.directions + k];
                }
            }
            if !block::all_finite(sdot) {
                return false;
            }
        }
        true
    }

    /// Column 0 of a block.
    pub fn states(&mut self, y: &[f64]) -> &[f64] {
        self.gather_states(y);
        self.jacobian_time = f64::NAN;
        &self.x
    }

    /// Component `z` of u_k = (s_k, v_k).
    #[inline(always)]
    pub fn direction(&self, y: &[f64], z: usize, k: usize) -> f64 {
        let nx = self.shape.rows;
        if z < nx { y[z * self.shape.stride + 1 + k] } else { self.seeds[(z - nx) * self.directions + k] }
    }

    /// Directional derivatives of every output of `function` along the columns of block `y`: its values in column 0 of
    /// `out` (outputs by `columns`, not padded), first and second derivatives in the others.
    ///
    /// This is the chain rule for a function evaluated at a fixed time; it serves the changes between periods.
    pub fn differentiate(&mut self, function: &Function, t: f64, y: &[f64], out: &mut [f64]) {
        let (nx, stride, ns, columns) = (self.shape.rows, self.shape.stride, self.directions, self.shape.columns);
        let np = self.parameters.len();
        self.gather_states(y);
        self.jacobian_time = f64::NAN;
        let inputs = [&[t][..], &self.x, &self.parameters, &[]];
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
        if let (true, Some(tensor)) = (pairs > 0, &function.second) {
            values.resize(tensor.kernel.outputs(), 0.0);
            tensor.kernel.call(inputs, &mut values, &mut self.scratch);
            for (&[o, a, b], &h) in tensor.entries.iter().zip(&values) {
                let (a, b) = (a as usize, b as usize);
                if b >= nx + np {
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
