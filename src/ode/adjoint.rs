//! Adjoint sensitivities: the gradient of a function of the outputs by one backward integration, whatever the number of parameters.
//!
//! With L a function of the states x and parameters p at the output times, lambda = dL/dx and mu = dL/dp by what is in force at time t
//! obey, backward in time,
//!
//! * lambda' = -J^T lambda and mu' = -f_p^T lambda on a smooth stretch,
//! * a jump by the derivatives of L at an output time,
//! * the transpose of a moment's map (`record.rs`) at a moment.
//!
//! (Cao, Li, Petzold and Serban 2003, SIAM J. Sci. Comput. 24:1076.) At the start they are dL/dx0 and dL/dp.
//!
//! Every output begins the integration anew, and most stretches between outputs are stiff and short. A multistep method has to climb
//! from order one each time; a one-step implicit method keeps its order, and as the equations are linear and the states known, a step
//! costs one factorisation and some evaluations of J: see `esdirk.rs`. (That is the reason for the choice; CVODES backward has not been
//! measured beside it.) Nothing here is `unsafe`.
//!
//! Errors are measured in units of L: that of lambda_i times the largest magnitude of x_i, that of mu_b times p_b, relative to what is there
//! already. So a state that never matters is no hindrance.

use super::SimulationError;
use super::cvodes::backward_step;
use super::esdirk::{C, GAMMA, Path, STAGES, Tableau};
use super::linear::DenseLu;
use super::record::{Piece, Record};
use super::simulator::{Counts, Options};
use crate::jit::Scratch;
use crate::model::CompiledModel;

/// Derivatives of a function L of a simulation's outputs.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// dL/dx: outputs by nx, row-major.
    pub states: Vec<f64>,
    /// dL/dp by the parameters in force at each output, as (parameter, derivative); empty where there are none at all.
    pub parameters: Vec<Vec<(usize, f64)>>,
}

/// Derivatives of L by the start of the simulation.
#[derive(Debug, Clone, Default)]
pub struct Gradient {
    /// dL/dx0 (nx).
    pub states: Vec<f64>,
    /// dL/dp (np) by the parameters in force at the start, for active parameters.
    pub parameters: Vec<f64>,
}

/// Largest and smallest change of the step size.
const GROWTH: f64 = 8.0;
const SHRINK: f64 = 0.1;
/// Safety factor of the step size.
const SAFETY: f64 = 0.9;
/// Most iterations for the equations of a stage.
const MAX_ITERATIONS: usize = 8;
/// How much smaller than the tolerance the error of their solution is.
const STAGE_ERROR: f64 = 0.05;
/// What counts as nothing, relative to the largest contribution to L so far. Near an optimum contributions cancel, so that small ones
/// matter. Bachmann at tolerance 1e-8: 1e-3 gives an error of 4e-5 in 19,200 steps, 1e-4 7e-6 in 21,400, 1e-5 5e-6 in 24,700.
const NOTHING: f64 = 1e-4;

/// Integrates backward along a record, whose outputs are at `times`, all finite. `end` are derivatives by the states and parameters at its
/// end.
pub fn backward(
    record: &Record,
    model: &CompiledModel,
    options: &Options,
    times: &[f64],
    weights: &Weights,
    end: &[f64],
) -> Result<(Gradient, Counts), SimulationError> {
    let (nx, np) = (model.states.len(), model.parameters.len());
    let mut z = vec![0.0; record.length];
    z[..nx + np].copy_from_slice(end);
    let mut integrator = Backward::new(model, record, options);
    let add = |i: usize, z: &mut [f64]| {
        z.iter_mut().zip(&weights.states[i * nx..(i + 1) * nx]).for_each(|(z, w)| *z += w);
        weights.parameters.get(i).into_iter().flatten().for_each(|&(b, w)| z[nx + b] += w);
    };
    for piece in record.pieces.iter().rev() {
        let mut t = piece.times.last().copied().unwrap_or(f64::NAN);
        integrator.enter(piece);
        for i in piece.outputs.clone().rev() {
            // An output without weight is none.
            if weights.states[i * nx..(i + 1) * nx].iter().any(|w| *w != 0.0) {
                integrator.go(&mut t, times[i], &mut z)?;
            }
            add(i, &mut z);
        }
        integrator.go(&mut t, piece.times.first().copied().unwrap_or(f64::NAN), &mut z)?;
        match &piece.moment {
            None => piece.outputs_at.clone().for_each(|i| add(i, &mut z)),
            Some(moment) => {
                let mut before = vec![0.0; z.len()];
                let mut shown = vec![0.0; z.len()];
                piece.outputs_at.clone().for_each(|i| add(i, &mut shown));
                moment.map.add_transposed(&z, &mut before);
                moment.seen.as_ref().unwrap_or(&moment.map).add_transposed(&shown, &mut before);
                z = before;
            }
        }
    }
    z.truncate(nx + np);
    let parameters = z.split_off(nx);
    Ok((Gradient { states: z, parameters }, integrator.counts))
}

/// One of the stages: where, and the equations there.
#[derive(Default, Clone)]
struct Stage {
    /// Entries of J.
    jacobian: Vec<f64>,
    /// Entries of f_p.
    parameter_jacobian: Vec<f64>,
    /// J^T lambda.
    slope: Vec<f64>,
    /// f_p^T lambda, by `Backward::parameters`.
    quadrature: Vec<f64>,
}

/// A backward integration in progress.
pub(super) struct Backward<'a> {
    model: &'a CompiledModel,
    path: Path<'a>,
    in_force: &'a [f64],
    tableau: Tableau,
    tolerance: f64,
    most_steps: usize,
    /// Sizes of the states and, by `parameters`, of the parameters.
    sizes: &'a [f64],
    parameter_sizes: Vec<f64>,
    /// Parameters that the equations use.
    parameters: Vec<usize>,
    /// Entries of f_p as (entry, row, place in `parameters`).
    entries: Vec<(u32, u32, u32)>,
    /// The largest contribution to L so far.
    scale: f64,
    /// First step after the last jump.
    first: f64,
    stages: Vec<Stage>,
    /// Whether stage 0 holds J and f_p of the present.
    ready: bool,
    linear: DenseLu,
    x: Vec<f64>,
    lambda: Vec<f64>,
    right: Vec<f64>,
    delta: Vec<f64>,
    weights: Vec<f64>,
    quadrature_weights: Vec<f64>,
    scratch: Scratch,
    counts: Counts,
}

impl<'a> Backward<'a> {
    fn new(model: &'a CompiledModel, record: &'a Record, options: &Options) -> Self {
        let (nx, np) = (model.states.len(), model.parameters.len());
        let dp = &model.rhs.dp;
        let mut parameters: Vec<usize> = dp.columns.iter().map(|c| *c as usize).filter(|b| *b < np).collect();
        parameters.sort_unstable();
        parameters.dedup();
        let place = |b: u32| parameters.binary_search(&(b as usize)).ok();
        let entries = dp.rows.iter().zip(&dp.columns).enumerate();
        let entries = entries.filter_map(|(k, (&i, &b))| Some((k as u32, i, place(b)? as u32))).collect();
        let stage = Stage {
            jacobian: vec![0.0; model.rhs.dx.rows.len()],
            parameter_jacobian: vec![0.0; dp.rows.len()],
            slope: vec![0.0; nx],
            quadrature: vec![0.0; parameters.len()],
        };
        let v = || vec![0.0; nx];
        Backward {
            model,
            path: Path::new(&[], &[], nx),
            in_force: &[],
            tableau: Tableau::new(),
            tolerance: options.rtol * options.adjoint_factor,
            most_steps: options.max_steps,
            sizes: &record.sizes,
            parameter_sizes: vec![0.0; parameters.len()],
            quadrature_weights: vec![0.0; parameters.len()],
            parameters,
            entries,
            scale: 0.0,
            first: f64::NAN,
            stages: vec![stage; STAGES],
            ready: false,
            linear: DenseLu::new(nx),
            x: v(),
            lambda: v(),
            right: v(),
            delta: v(),
            weights: v(),
            scratch: Scratch::default(),
            counts: Counts::default(),
        }
    }

    /// Turns to another stretch.
    fn enter(&mut self, piece: &'a Piece) {
        self.path = Path::new(&piece.times, &piece.states, self.model.states.len());
        self.in_force = &piece.parameters;
        for (size, &b) in self.parameter_sizes.iter_mut().zip(&self.parameters) {
            *size = piece.parameters[b].abs();
        }
        self.ready = false;
    }

    /// J and f_p at `t`, into a stage.
    #[inline(always)]
    fn evaluate(&mut self, stage: usize, t: f64) -> Result<(), SimulationError> {
        self.path.at(t, &mut self.x);
        let inputs = [&[t][..], &self.x, self.in_force, &[]];
        let (rhs, place) = (&self.model.rhs, &mut self.stages[stage]);
        rhs.dx.kernel.call(inputs, &mut place.jacobian, &mut self.scratch);
        rhs.dp.kernel.call(inputs, &mut place.parameter_jacobian, &mut self.scratch);
        self.counts.jacobian_evaluations += 1;
        for (values, sparse) in [(&place.jacobian, &rhs.dx), (&place.parameter_jacobian, &rhs.dp)] {
            if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
                let what = format!("a derivative of d({})/dt", self.model.states[sparse.rows[bad] as usize]);
                return Err(SimulationError::NonFinite { time: t, what });
            }
        }
        Ok(())
    }

    /// Adds `factor` J^T lambda of a stage to `out`.
    #[inline(always)]
    fn transposed_product(&self, stage: usize, factor: f64, lambda: &[f64], out: &mut [f64]) {
        let dx = &self.model.rhs.dx;
        for ((&i, &j), v) in dx.rows.iter().zip(&dx.columns).zip(&self.stages[stage].jacobian) {
            out[j as usize] += factor * v * lambda[i as usize];
        }
    }

    /// f_p^T lambda of a stage.
    #[inline(always)]
    fn integrand(&mut self, stage: usize, lambda: &[f64]) {
        let Stage { parameter_jacobian, quadrature, .. } = &mut self.stages[stage];
        quadrature.fill(0.0);
        for &(k, i, b) in &self.entries {
            quadrature[b as usize] += parameter_jacobian[k as usize] * lambda[i as usize];
        }
    }

    /// Integrates `z` back from `t` to `to`.
    fn go(&mut self, t: &mut f64, to: f64, z: &mut [f64]) -> Result<(), SimulationError> {
        let nx = self.lambda.len();
        let from = *t;
        // Outputs that are not within the stretch are at its ends, up to rounding; a stretch without states has no times.
        if to >= from || from.is_nan() || to.is_nan() {
            return Ok(());
        }
        *t = to;
        if z[..nx].iter().all(|v| *v == 0.0) {
            self.ready = false;
            return Ok(());
        }
        let mut lambda = std::mem::take(&mut self.lambda);
        lambda.copy_from_slice(&z[..nx]);
        let result = self.integrate(from, to, &mut lambda, &mut z[nx..]);
        z[..nx].copy_from_slice(&lambda);
        self.lambda = lambda;
        result
    }

    fn integrate(&mut self, from: f64, to: f64, lambda: &mut [f64], mu: &mut [f64]) -> Result<(), SimulationError> {
        if !self.ready {
            self.evaluate(0, from)?;
            self.ready = true;
        }
        let mut slope = std::mem::take(&mut self.stages[0].slope);
        slope.fill(0.0);
        self.transposed_product(0, 1.0, lambda, &mut slope);
        self.stages[0].slope = slope;
        self.integrand(0, lambda);
        self.set_weights(lambda, mu);
        let mut t = from;
        let mut h = self.first_step(from - to, lambda);
        let (mut begun, mut rejected) = (false, false);
        for step in 0.. {
            if step == self.most_steps {
                return Err(SimulationError::StepLimit { time: t, steps: step });
            }
            let rest = t - to;
            // No last step that is tiny.
            let last = h >= rest * (1.0 - 1e-10);
            let length = if last { rest } else { h.min(0.5 * rest) };
            if length <= 4.0 * f64::EPSILON * t.abs() && !last {
                return Err(SimulationError::StepTooSmall { time: t, state: None });
            }
            let end = if last { to } else { t - length };
            self.counts.steps += 1;
            let Some(error) = backward_step(self, t, length, lambda)? else {
                self.counts.newton_failures += 1;
                (h, rejected) = (0.25 * length, true);
                continue;
            };
            let factor = (SAFETY * error.powf(-0.2)).clamp(SHRINK, GROWTH);
            if error.is_nan() || error > 1.0 {
                self.counts.error_test_failures += 1;
                (h, rejected) = (length * factor.min(0.8), true);
                continue;
            }
            if !begun {
                (self.first, begun) = (if last && !rejected { self.first.max(length) } else { length }, true);
            }
            t = end;
            lambda.copy_from_slice(&self.right);
            for (place, &b) in self.parameters.iter().enumerate() {
                let change: f64 = self.tableau.a[STAGES - 1].iter().zip(&self.stages).map(|(w, s)| w * s.quadrature[place]).sum();
                mu[b] += length * change;
            }
            self.stages.swap(0, STAGES - 1);
            self.set_weights(lambda, mu);
            if last {
                return Ok(());
            }
            h = length * if rejected { factor.min(1.0) } else { factor };
            rejected = false;
        }
        Ok(())
    }

    /// A first step for a way of length `way`.
    fn first_step(&self, way: f64, lambda: &[f64]) -> f64 {
        if self.first.is_finite() {
            return (2.0 * self.first).min(way);
        }
        // A hundredth of the time in which lambda would double (Hairer, Norsett and Wanner 1993, section II.4).
        let norm = |v: &[f64]| v.iter().zip(&self.weights).map(|(v, w)| (v * w).abs()).fold(0.0, f64::max);
        let guess = 0.01 * norm(lambda) / norm(&self.stages[0].slope);
        if guess.is_finite() { guess.min(way) } else { way }
    }

    /// Error weights at the present values.
    fn set_weights(&mut self, lambda: &[f64], mu: &[f64]) {
        for (l, size) in lambda.iter().zip(self.sizes) {
            self.scale = self.scale.max((l * size).abs());
        }
        for (&b, size) in self.parameters.iter().zip(&self.parameter_sizes) {
            self.scale = self.scale.max((mu[b] * size).abs());
        }
        let least = NOTHING * self.scale;
        // The weight is 1 / (tolerance (|v| + least / size)), without dividing by a size of 0.
        let weight = |v: f64, size: f64| size / (self.tolerance * (v.abs() * size + least));
        let finite = |w: f64| if w.is_finite() { w } else { 0.0 };
        for (w, (l, size)) in self.weights.iter_mut().zip(lambda.iter().zip(self.sizes)) {
            *w = finite(weight(*l, *size));
        }
        for (w, (&b, size)) in self.quadrature_weights.iter_mut().zip(self.parameters.iter().zip(&self.parameter_sizes)) {
            *w = finite(weight(mu[b], *size));
        }
    }

    /// One step of length `h` from `t`: the new lambda into `right`. Returns the error in units of what is tolerated; `None` where the
    /// equations of a stage have not been solved.
    ///
    /// This and what it calls is compiled for the processor at hand, see `cvodes.rs`.
    #[inline(always)]
    pub(super) fn step(&mut self, t: f64, h: f64, lambda: &[f64]) -> Result<Option<f64>, SimulationError> {
        for (stage, c) in C.iter().enumerate().skip(1) {
            self.evaluate(stage, t - c * h)?;
        }
        let dx = &self.model.rhs.dx;
        self.counts.factorisations += 1;
        // J in the middle of the step.
        if !self.linear.factorise(GAMMA * h, &dx.columns, &dx.rows, &self.stages[2].jacobian) {
            return Ok(None);
        }
        let n = lambda.len();
        let mut value = lambda.to_vec();
        let mut right = std::mem::take(&mut self.right);
        let mut delta = std::mem::take(&mut self.delta);
        let mut solved = true;
        for stage in 1..STAGES {
            right.copy_from_slice(lambda);
            for (a, s) in self.tableau.a[stage][..stage].iter().zip(&self.stages) {
                if *a != 0.0 {
                    right.iter_mut().zip(&s.slope).for_each(|(r, k)| *r += h * a * k);
                }
            }
            if stage > 1 {
                value.copy_from_slice(&right);
                self.linear.solve(&mut value, 1, &(0..1));
            }
            let mut previous = f64::NAN;
            let mut converged = false;
            for _ in 0..MAX_ITERATIONS {
                self.counts.newton_iterations += 1;
                for i in 0..n {
                    delta[i] = right[i] - value[i];
                }
                self.transposed_product(stage, GAMMA * h, &value, &mut delta);
                self.linear.solve(&mut delta, 1, &(0..1));
                value.iter_mut().zip(&delta).for_each(|(v, d)| *v += d);
                let size = self.norm(&delta);
                let rate = size / previous;
                // Without a second iteration nothing is known of the convergence.
                let left = if rate.is_finite() { size * rate / (1.0 - rate).max(1e-3) } else { size };
                if size == 0.0 || left <= STAGE_ERROR {
                    converged = true;
                    break;
                }
                if rate > 0.9 || size.is_nan() {
                    break;
                }
                previous = size;
            }
            if !converged {
                solved = false;
                break;
            }
            let slope = &mut self.stages[stage].slope;
            for i in 0..n {
                slope[i] = (value[i] - right[i]) / (GAMMA * h);
            }
            self.integrand(stage, &value);
        }
        self.right = value;
        drop(right);
        let result = solved.then(|| {
            delta.fill(0.0);
            for (e, s) in self.tableau.error.iter().zip(&self.stages) {
                delta.iter_mut().zip(&s.slope).for_each(|(d, k)| *d += h * e * k);
            }
            // Of what is stiff the plain difference says too much.
            self.linear.solve(&mut delta, 1, &(0..1));
            let mut largest: f64 = 0.0;
            for (place, w) in self.quadrature_weights.iter().enumerate() {
                let error: f64 = self.tableau.error.iter().zip(&self.stages).map(|(e, s)| e * s.quadrature[place]).sum();
                let error = (h * error * w).abs();
                largest = if error <= largest { largest } else { error };
            }
            let error = self.norm(&delta);
            (if error <= largest { largest } else { error }).max(1e-10)
        });
        self.delta = delta;
        Ok(result)
    }

    /// Weighted root-mean-square norm.
    #[inline(always)]
    fn norm(&self, v: &[f64]) -> f64 {
        let sum: f64 = v.iter().zip(&self.weights).map(|(v, w)| (v * w) * (v * w)).sum();
        (sum / v.len() as f64).sqrt()
    }
}
