//! Steady states: f(x, p) = 0 with the conserved quantities as they are (DESIGN.md 2.6).
//!
//! The steady state that belongs to a start is the limit of the simulation, so the simulation chooses it: it runs until
//! Newton's method, started from it, ends close by. Newton's equations are those of the rates, with the rows of dependent states
//! replaced by the conserved quantities, M = [rows of J; conservation]. Where M is singular (the steady states of the
//! remaining system are not isolated) or does not apply, the simulation goes on until the rates themselves vanish.
//!
//! Sensitivities follow from the implicit function theorem, M dx = -[f_p dp; 0] + [0; conserved dx before], and once more for the
//! second order. Where M is singular they are integrated until they rest.

use super::switch::Cells;
use super::system::System;
use crate::model::conservation::Conservation;
use nalgebra::{DMatrix, Dyn, LU};

/// How close to the simulation's state Newton's method must end, relative to the largest value that a state had. A simulation
/// that passes by an unstable steady state is not that close to it, unless it starts there.
const NEAR: f64 = 1e-4;

/// Most iterations of Newton's method.
const MAX_ITERATIONS: usize = 12;

/// Most states for which conserved quantities are looked for numerically.
const MOST_STATES_FOR_LAWS: usize = 200;

/// Steps of Newton's method that are this small, relative to the states, and do not shrink any more are rounding errors: a state of
/// 1e-9 beside others of 1 has no more digits than this.
const STAGNANT: f64 = 1e-6;

/// A pivot this small beside the largest is 0 but for rounding. Rows and columns are scaled.
const SINGULAR: f64 = 1e-13;

/// The linearised equations at a state, or their transpose, factorised.
pub struct Factors {
    lu: LU<f64, Dyn, Dyn>,
    /// Factors of the right-hand sides and of the solutions.
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Factors {
    /// M at the states `x` with these conserved quantities, or `None` where it is singular, not finite, or does not apply: a model with invariants or delays.
    pub fn new(system: &mut System, t: f64, x: &[f64], laws: &[Conservation], transposed: bool) -> Option<Self> {
        let model = system.model.clone();
        if !model.invariants.positive.is_empty() || !model.delays.parameters.is_empty() || !system.evaluate_jacobian(t, x) {
            return None;
        }
        let nx = x.len();
        let mut matrix = DMatrix::zeros(nx, nx);
        let dx = &model.rhs.dx;
        for ((&i, &j), &v) in dx.rows.iter().zip(&dx.columns).zip(system.jacobian()) {
            matrix[(i as usize, j as usize)] = v;
        }
        for law in laws {
            matrix.row_mut(law.dependent).fill(0.0);
            law.weights.iter().for_each(|&(j, w)| matrix[(law.dependent, j)] = w);
        }
        // Rates and states differ by many orders of magnitude; what is small is judged after scaling.
        let largest = x.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let least = (1e-6 * largest).max(system.absolute_tolerance());
        let columns: Vec<f64> = x.iter().map(|x| x.abs().max(least)).collect();
        for (j, scale) in columns.iter().enumerate() {
            matrix.column_mut(j).scale_mut(*scale);
        }
        let mut rows = Vec::with_capacity(nx);
        for mut row in matrix.row_iter_mut() {
            let size = row.amax();
            if size == 0.0 || !size.is_finite() {
                return None;
            }
            row.scale_mut(1.0 / size);
            rows.push(1.0 / size);
        }
        if transposed {
            // The transpose of R M C, whose right-hand sides are scaled by C and whose solutions by R.
            matrix.transpose_mut();
        }
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        let lu = matrix.lu();
        let u = lu.u();
        let pivots = u.diagonal().abs();
        let regular = pivots.min() > SINGULAR * pivots.max();
        regular.then_some(Factors { lu, rows, columns })
    }

    /// Replaces `b` by the solution of M z = b, column by column. Returns whether it is finite.
    pub fn solve(&self, b: &mut DMatrix<f64>) -> bool {
        for (mut row, scale) in b.row_iter_mut().zip(&self.rows) {
            row.scale_mut(*scale);
        }
        let solved = self.lu.solve_mut(b);
        for (mut row, scale) in b.row_iter_mut().zip(&self.columns) {
            row.scale_mut(*scale);
        }
        solved && b.iter().all(|v| v.is_finite())
    }
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Newton's method converged: derivatives follow from M, which has these conserved quantities.
    Isolated(Vec<Conservation>),
    /// The rates vanish.
    AtRest,
}

/// The search for a steady state along a simulation.
#[derive(Debug, Clone)]
pub struct Search {
    /// Largest value that each state had.
    scales: Vec<f64>,
    /// The conserved quantities: those of the model, or more where some reactions are off.
    laws: Vec<Conservation>,
    /// The states whose conserved quantities are those of the steady state.
    reference: Vec<f64>,
    /// Whether more conserved quantities have been looked for.
    looked_for_laws: bool,
    steps: usize,
    next_look: usize,
    /// Time that had passed at the last look.
    last_look: f64,
    /// Time at which the search began.
    start: f64,
    /// The block at two times, the first at most half as far from the start as the second.
    earlier: [Option<(f64, Vec<f64>)>; 2],
    tolerances: (f64, f64),
    /// The state whose rate is largest beside the tolerances at the last look, and the rate.
    pub largest_rate: Option<(usize, f64)>,
}

impl Search {
    /// A search, from time `start` on, for where the rates are below `tolerances.0` times the state plus `tolerances.1`.
    pub fn new(tolerances: (f64, f64), start: f64) -> Self {
        Search {
            scales: vec![],
            laws: vec![],
            reference: vec![],
            looked_for_laws: false,
            steps: 0,
            next_look: 0,
            last_look: 0.0,
            start,
            earlier: [None, None],
            tolerances,
            largest_rate: None,
        }
    }

    /// What happens to the states otherwise than by their rates changes the conserved quantities: they are taken anew.
    pub fn begin(&mut self, system: &mut System, y: &[f64]) {
        self.reference = system.states(y).to_vec();
        self.scales.resize(self.reference.len(), 0.0);
        self.laws.clone_from(&system.model.conserved);
        self.looked_for_laws = false;
        self.next_look = self.steps;
    }

    /// Looks at the block after a step, at time `t`. If it is at a steady state or close to one, column 0 becomes it.
    pub fn look(&mut self, system: &mut System, y: &mut [f64], t: f64, cells: &Cells) -> Option<Found> {
        let x = system.states(y).to_vec();
        self.scales.iter_mut().zip(&x).for_each(|(s, x)| *s = s.max(x.abs()));
        let passed = t - self.start;
        let due = self.steps >= self.next_look || passed >= 2.0 * self.last_look;
        self.steps += 1;
        if !due {
            return None;
        }
        // A look costs about as much as a few steps, which grow fast where the states come to rest.
        (self.next_look, self.last_look) = (self.steps + 5 + self.steps / 4, passed);
        let stride = system.shape.stride;
        if let Some(limit) = self.newton(system, t, &x, cells) {
            y.iter_mut().step_by(stride).zip(&limit).for_each(|(y, x)| *y = *x);
            return Some(Found::Isolated(self.laws.clone()));
        }
        self.rests(system, y, &x, t).then_some(Found::AtRest)
    }

    /// Whether the block is at rest: its rates are small, and it did not change since half of the time that has passed.
    ///
    /// The rates alone do not tell, since what grows without bound has small rates beside itself in the end; nor does the change,
    /// since little time has passed at first.
    fn rests(&mut self, system: &mut System, y: &[f64], x: &[f64], t: f64) -> bool {
        let (stride, columns) = (system.shape.stride, system.shape.columns);
        let mut rates = vec![0.0; y.len()];
        if !system.rhs(t, y, &mut rates) || !system.evaluate_jacobian(t, x) {
            return false;
        }
        let passed = t - self.start;
        if self.earlier[1].as_ref().is_none_or(|(time, _)| passed >= 2.0 * time) {
            self.earlier.swap(0, 1);
            self.earlier[1] = Some((passed, y.to_vec()));
        }
        let (relative, absolute) = self.tolerances;
        let looser = system.sensitivity_factor();
        let factor = |c: usize| if c == 0 { 1.0 } else { looser };
        // Rates that errors of the integration cause are none.
        let mut noise = vec![0.0; y.len()];
        let mut weights = vec![0.0; y.len()];
        system.weights(y, &mut weights);
        let dx = &system.model.rhs.dx;
        for ((&i, &j), v) in dx.rows.iter().zip(&dx.columns).zip(system.jacobian()) {
            for c in 0..columns {
                noise[i as usize * stride + c] += v.abs() / weights[j as usize * stride + c];
            }
        }
        let places = || (0..x.len()).flat_map(|i| (0..columns).map(move |c| (i * stride + c, c)));
        let bound = |place: usize, c: usize| factor(c) * (relative * y[place].abs() + absolute);
        let worst = (0..x.len()).max_by(|a, b| {
            let over = |i: usize| rates[i * stride].abs() / (bound(i * stride, 0) + noise[i * stride]);
            over(*a).total_cmp(&over(*b))
        });
        self.largest_rate = worst.map(|i| (i, rates[i * stride]));
        if places().any(|(place, c)| rates[place].abs() > bound(place, c) + noise[place]) {
            return false;
        }
        match &self.earlier[0] {
            Some((_, before)) => places().all(|(place, c)| (y[place] - before[place]).abs() <= 10.0 * bound(place, c)),
            None => places().all(|(place, _)| rates[place] == 0.0),
        }
    }

    /// Newton's method from `x`. `None` if it does not converge to a state near by and in the same cells of the switches.
    fn newton(&mut self, system: &mut System, t: f64, start: &[f64], cells: &Cells) -> Option<Vec<f64>> {
        let (mut x, absolute) = (start.to_vec(), system.absolute_tolerance());
        let mut last = f64::INFINITY;
        for iteration in 0..MAX_ITERATIONS {
            if !system.evaluate_states(t, &x) {
                return None;
            }
            let mut step = DMatrix::from_column_slice(x.len(), 1, system.rates());
            let factors = Factors::new(system, t, &x, &self.laws, false).or_else(|| self.with_more_laws(system, t, &x))?;
            for law in &self.laws {
                step[law.dependent] = law.weights.iter().map(|&(j, w)| w * (x[j] - self.reference[j])).sum::<f64>();
            }
            if !factors.solve(&mut step) {
                return None;
            }
            x.iter_mut().zip(step.iter()).for_each(|(x, d)| *x -= d);
            let far = |x: &[f64], bound: f64| {
                x.iter().zip(start).zip(&self.scales).any(|((x, s), scale)| (x - s).abs() > bound * scale + absolute)
            };
            // From far away the way is not worth its cost.
            if (iteration == 0 && far(&x, 10.0 * NEAR)) || x.iter().any(|x| !x.is_finite()) {
                return None;
            }
            let size = x.iter().zip(step.iter()).map(|(x, d)| d.abs() / (x.abs() + absolute)).fold(0.0, f64::max);
            // At rounding level steps stop to shrink.
            if size <= 4.0 * f64::EPSILON || (size < STAGNANT && size >= 0.5 * last) {
                let accepted = !far(&x, NEAR)
                    && self.approaches(system, t, start, &x)
                    && !depends_on_time(system, t, &x)
                    && stays(system, t, &x, cells);
                return accepted.then_some(x);
            }
            last = size;
        }
        None
    }

    /// M with all conserved quantities that there are for the parameters in force: where inhibitors are absent, parts of a network are cut off
    /// and conserved by themselves, which the equations do not show. They are the left null vectors that J has in common at the
    /// reference, at `x` and half way between.
    fn with_more_laws(&mut self, system: &mut System, t: f64, x: &[f64]) -> Option<Factors> {
        let nx = x.len();
        let moved = x.iter().zip(&self.reference).any(|(x, r)| x != r);
        // With directions that change the parameters it is for the integration to say what is conserved.
        if self.looked_for_laws
            || !moved
            || system.directions > 0
            || nx > MOST_STATES_FOR_LAWS
            || !system.model.invariants.positive.is_empty()
        {
            return None;
        }
        self.looked_for_laws = true;
        let model = system.model.clone();
        let dx = &model.rhs.dx;
        let mut all = DMatrix::zeros(nx, 3 * nx);
        for (place, share) in [0.0, 0.5, 1.0].into_iter().enumerate() {
            let between: Vec<f64> = x.iter().zip(&self.reference).map(|(x, r)| r + share * (x - r)).collect();
            if !system.evaluate_jacobian(t, &between) {
                return None;
            }
            for ((&i, &j), &v) in dx.rows.iter().zip(&dx.columns).zip(system.jacobian()) {
                all[(i as usize, place * nx + j as usize)] = v;
            }
        }
        let mut laws = left_null_vectors(all)?;
        if laws.len() <= self.laws.len() {
            return None;
        }
        std::mem::swap(&mut self.laws, &mut laws);
        let factors = Factors::new(system, t, x, &self.laws, false);
        if factors.is_none() {
            self.laws = laws;
        }
        factors
    }

    /// Whether the states move towards the `limit`, or are there but for rounding. They leave an unstable steady state.
    fn approaches(&self, system: &mut System, t: f64, x: &[f64], limit: &[f64]) -> bool {
        let absolute = system.absolute_tolerance();
        let distance = |(i, (x, l)): (usize, (&f64, &f64))| (x - l) / (self.scales[i] + absolute);
        let way: Vec<f64> = x.iter().zip(limit).enumerate().map(distance).collect();
        if way.iter().all(|d| d.abs() < 1e-13) {
            return true;
        }
        system.evaluate_states(t, x)
            && way.iter().zip(system.rates()).zip(&self.scales).map(|((d, f), s)| d * f / (s + absolute)).sum::<f64>() < 0.0
    }
}

/// A basis of the left null space, in reduced echelon form. `None` if it cannot be told.
fn left_null_vectors(mut matrix: DMatrix<f64>) -> Option<Vec<Conservation>> {
    let n = matrix.nrows();
    for mut column in matrix.column_iter_mut() {
        let size = column.amax();
        if size > 0.0 {
            column.scale_mut(1.0 / size);
        }
    }
    let decomposition = matrix.svd(true, false);
    let u = decomposition.u?;
    let largest = decomposition.singular_values.max();
    let null: Vec<usize> = (0..n).filter(|k| decomposition.singular_values[*k] <= SINGULAR * largest).collect();
    let mut rows: Vec<Vec<f64>> = null.iter().map(|k| u.column(*k).iter().copied().collect()).collect();
    let mut laws = Vec::new();
    for k in 0..rows.len() {
        let (pivot, size) = rows[k].iter().enumerate().map(|(j, v)| (j, v.abs())).max_by(|a, b| a.1.total_cmp(&b.1))?;
        if size < 1e-6 {
            return None;
        }
        let scale = 1.0 / rows[k][pivot];
        rows[k].iter_mut().for_each(|v| *v *= scale);
        let own = rows[k].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(other, _)| *other != k) {
            let factor = row[pivot];
            row.iter_mut().zip(&own).for_each(|(v, o)| *v -= factor * o);
        }
        laws.push(pivot);
    }
    let weights = |row: &[f64]| row.iter().copied().enumerate().filter(|(_, v)| v.abs() > 1e-9).collect();
    Some(laws.into_iter().zip(&rows).map(|(dependent, row)| Conservation { weights: weights(row), dependent }).collect())
}

/// Whether the rates still change with time itself, so that their zero is not the limit.
fn depends_on_time(system: &mut System, t: f64, x: &[f64]) -> bool {
    let model = system.model.clone();
    let mut slopes = vec![0.0; x.len()];
    model.rhs.dt.call([&[t][..], x, &system.parameters, &[]], &mut slopes, &mut system.scratch);
    slopes.iter().any(|v| *v != 0.0)
}

/// Whether all switches that states cause are in their cells at `x`.
fn stays(system: &mut System, t: f64, x: &[f64], cells: &Cells) -> bool {
    let model = system.model.clone();
    let mut roots = vec![0.0; model.roots.value.outputs()];
    model.roots.value.call([&[t][..], x, &system.parameters, &[]], &mut roots, &mut system.scratch);
    system.state_switches.iter().all(|&j| !cells.left(j as usize, roots[j as usize]))
}

/// Sensitivities of the isolated steady state in column 0 of `y`. The other columns hold those of an earlier time, which say how the
/// conserved quantities depend on the directions. Returns whether they are finite.
pub fn differentiate(system: &mut System, t: f64, y: &mut [f64], laws: &[Conservation]) -> bool {
    let (nx, ns, stride, pairs) = (system.shape.rows, system.directions, system.shape.stride, system.pairs.len());
    if ns == 0 {
        return true;
    }
    let x = system.states(y).to_vec();
    let Some(factors) = Factors::new(system, t, &x, laws, false) else { return false };
    let totals: Vec<Vec<f64>> = (laws.iter())
        .map(|law| (1..1 + ns + pairs).map(|c| law.weights.iter().map(|&(j, w)| w * y[j * stride + c]).sum()).collect())
        .collect();
    // With no sensitivities of the states in the block, its rates are what remains of their equations. Those of second order need
    // the first order's.
    let mut rates = vec![0.0; y.len()];
    for (first, count) in [(1, ns), (1 + ns, pairs)] {
        if count == 0 {
            continue;
        }
        for row in y.chunks_exact_mut(stride) {
            row[first..].fill(0.0);
        }
        if !system.rhs(t, y, &mut rates) {
            return false;
        }
        // What is conserved only for the parameters in force may not be by directions that change them.
        for law in laws {
            for c in first..first + count {
                let terms = || law.weights.iter().map(|&(j, w)| w * rates[j * stride + c]);
                if terms().sum::<f64>().abs() > 1e-9 * terms().map(f64::abs).sum::<f64>() {
                    return false;
                }
            }
        }
        let mut right = DMatrix::from_fn(nx, count, |i, c| -rates[i * stride + first + c]);
        for (law, total) in laws.iter().zip(&totals) {
            (0..count).for_each(|c| right[(law.dependent, c)] = total[first - 1 + c]);
        }
        if !factors.solve(&mut right) {
            return false;
        }
        for (i, row) in y.chunks_exact_mut(stride).enumerate() {
            (0..count).for_each(|c| row[first + c] = right[(i, c)]);
        }
    }
    true
}

/// Derivatives by the states before a steady state, and by parameters (index, derivative).
type Before = (Vec<f64>, Vec<(usize, f64)>);

/// The transpose of [`differentiate`]: from derivatives `by_states` of a function by the isolated steady state `x` to those by the states
/// before and by the parameters in force (index, derivative). The latter may not be finite for a parameter on which nothing depends.
/// `None` where it cannot be.
pub fn backward(system: &mut System, t: f64, x: &[f64], laws: &[Conservation], by_states: &[f64]) -> Option<Before> {
    let model = system.model.clone();
    let factors = Factors::new(system, t, x, laws, true)?;
    let mut z = DMatrix::from_column_slice(x.len(), 1, by_states);
    if !factors.solve(&mut z) {
        return None;
    }
    let mut before = vec![0.0; x.len()];
    for law in laws {
        law.weights.iter().for_each(|&(j, w)| before[j] += w * z[law.dependent]);
        z[law.dependent] = 0.0;
    }
    let dp = &model.rhs.dp;
    let mut values = vec![0.0; dp.rows.len()];
    dp.kernel.call([&[t][..], x, &system.parameters, &[]], &mut values, &mut system.scratch);
    let entries = dp.rows.iter().zip(&dp.columns).zip(&values).filter(|((_, b), _)| (**b as usize) < system.parameters.len());
    Some((before, entries.map(|((&i, &b), v)| (b as usize, -v * z[i as usize])).filter(|e| e.1 != 0.0).collect()))
}
