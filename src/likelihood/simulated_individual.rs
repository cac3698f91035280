//! The conditional likelihood of one individual's trajectory, by simulation.

use super::EvaluationError;
use super::coordinates::Coordinate;
use super::individual::{Conditional, ConditionalOrder, ConditionalValue, Curvature, Scope, trace_gradient_by_differences};
use super::noise::Density;
use super::simulated::{Derivatives, Direction, Rows, Simulated, Worker, failure, pair_index};
use crate::petab::NoiseDistribution;
use nalgebra::{DMatrix, DVector};
use std::rc::Rc;

/// The model of the measurements that a likelihood sees.
///
/// First-order methods replace the model by one around the typical individual phi_0. There the parameter vector is (phi, phi_0), twice as
/// long, so that derivatives by both are at hand; random effects move the first half, and the gradient by phi_typical is the sum of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// The simulation.
    #[default]
    Simulated,
    /// The simulation with the noise of the typical individual (first-order conditional estimation without interaction).
    TypicalNoise,
    /// The first-order expansion around the typical individual, on the scale of the noise, with its noise (first-order method).
    Linearised,
}

/// The rows of one individual given its parameter vector phi.
pub struct SimulatedIndividual<'a> {
    /// Simulates.
    pub worker: &'a mut Worker,
    /// The individual's measurements.
    pub rows: &'a Rows,
    /// The coordinates of phi.
    pub coordinates: &'a [Coordinate],
    /// Which coordinates random effects move.
    pub random: &'a [bool],
    /// Natural values of all rows of the parameter table; those of the coordinates are replaced by phi's.
    pub natural: Vec<f64>,
    /// Name of the experiment, for messages.
    pub experiment: &'a str,
    /// Name of the individual, for messages.
    pub individual: &'a str,
    /// The model of the measurements.
    pub view: View,
    /// The typical individual as last simulated for the view, and where it is.
    pub typical: Option<(Vec<f64>, Rc<Simulated>)>,
    /// The last simulation with all second derivatives, and where it was.
    pub last: Last,
}

/// A simulation, and where it was.
pub type Last = Option<(Vec<f64>, Rc<Simulated>)>;

impl SimulatedIndividual<'_> {
    /// Simulates at `phi` with derivatives in the `chosen` coordinates.
    pub fn simulate(&mut self, phi: &[f64], chosen: &[usize], order: Derivatives) -> Result<Simulated, EvaluationError> {
        let directions: Vec<(f64, Direction)> = self.coordinates.iter().zip(phi).map(|(c, phi)| c.direction(*phi)).collect();
        for (c, (value, _)) in self.coordinates.iter().zip(&directions) {
            self.natural[c.theta] = *value;
        }
        // The likelihood's Hessian is wanted in the rows of random components only.
        let directions: Vec<Direction> = chosen.iter().map(|k| Direction { paired: self.random[*k], ..directions[*k].1 }).collect();
        self.worker
            .simulate(self.rows, &self.natural, &directions, order, None)
            .map_err(|e| failure(self.experiment, Some(self.individual), e))
    }
}

impl SimulatedIndividual<'_> {
    /// The simulation at `phi` with derivatives in all coordinates, as it was last made or anew.
    fn with_all_derivatives(&mut self, phi: &[f64], order: Derivatives) -> Result<Rc<Simulated>, EvaluationError> {
        match self.last.as_ref().filter(|(known, _)| known.as_slice() == phi) {
            Some((_, s)) => Ok(s.clone()),
            None => Ok(Rc::new(self.seen(phi, &(0..self.dimension()).collect::<Vec<_>>(), order)?)),
        }
    }

    /// The typical individual with derivatives in all coordinates.
    fn typical(&mut self, phi: &[f64]) -> Result<Rc<Simulated>, EvaluationError> {
        if let Some((_, s)) = self.typical.as_ref().filter(|(known, _)| known.as_slice() == phi) {
            return Ok(s.clone());
        }
        let order = if self.view == View::Linearised { Derivatives::Second } else { Derivatives::First };
        let s = Rc::new(self.simulate(phi, &(0..self.coordinates.len()).collect::<Vec<_>>(), order)?);
        self.typical = Some((phi.to_vec(), s.clone()));
        Ok(s)
    }

    /// The measurements as the view has them, with derivatives in the `chosen` components of its parameter vector.
    fn seen(&mut self, phi: &[f64], chosen: &[usize], order: Derivatives) -> Result<Simulated, EvaluationError> {
        let n = self.coordinates.len();
        if self.view == View::Simulated {
            return self.simulate(phi, chosen, order);
        }
        let (own, typical) = phi.split_at(n);
        let base = self.typical(typical)?;
        let (rows, nd) = (self.rows.rows.len(), if order == Derivatives::None { 0 } else { chosen.len() });
        let n_pairs = if order == Derivatives::Second { nd * (nd + 1) / 2 } else { 0 };
        let mut s = Simulated {
            y: Vec::with_capacity(rows),
            sigma: base.sigma.clone(),
            dy: vec![0.0; rows * nd],
            ds: vec![0.0; rows * nd],
            dyy: vec![0.0; rows * n_pairs],
            dss: vec![0.0; rows * n_pairs],
        };
        // The noise is the typical individual's. Its second derivatives, by two components of the second half, are never read.
        for r in 0..rows {
            for (i, &k) in chosen.iter().enumerate().take(nd).filter(|(_, k)| **k >= n) {
                s.ds[r * nd + i] = base.ds[r * n + k - n];
            }
        }
        if self.view == View::TypicalNoise {
            // Components of the first half come first.
            let mine: Vec<usize> = chosen.iter().copied().filter(|k| *k < n).collect();
            let own = self.simulate(own, &mine, order)?;
            let (m, m_pairs) = (mine.len(), mine.len() * (mine.len() + 1) / 2);
            for r in (0..rows).filter(|_| nd > 0) {
                s.dy[r * nd..r * nd + m].copy_from_slice(&own.dy[r * m..(r + 1) * m]);
                for (i, j) in (0..m).flat_map(|i| (i..m).map(move |j| (i, j))).filter(|_| n_pairs > 0) {
                    s.dyy[r * n_pairs + pair_index(nd, i, j)] = own.dyy[r * m_pairs + pair_index(m, i, j)];
                }
            }
            s.y = own.y;
            return Ok(s);
        }
        let away: Vec<f64> = own.iter().zip(typical).map(|(a, b)| a - b).collect();
        let pairs = n * (n + 1) / 2;
        for (r, row) in self.rows.rows.iter().enumerate() {
            // Under a logarithm the logarithm is linear: h = log y.
            let log = !matches!(row.measured.distribution, NoiseDistribution::Normal | NoiseDistribution::Laplace);
            let y = base.y[r];
            let slope: Vec<f64> = base.dy[r * n..(r + 1) * n].iter().map(|d| if log { d / y } else { *d }).collect();
            let bend = |k: usize, l: usize| {
                let second = base.dyy[r * pairs + pair_index(n, k.min(l), k.max(l))];
                if log { second / y - slope[k] * slope[l] } else { second }
            };
            let change: f64 = slope.iter().zip(&away).map(|(g, d)| g * d).sum();
            let value = if log { y * change.exp() } else { y + change };
            s.y.push(value);
            let first: Vec<f64> = chosen[..nd]
                .iter()
                .map(|&k| if k < n { slope[k] } else { (0..n).filter(|l| self.random[*l]).map(|l| bend(k - n, l) * away[l]).sum() })
                .collect();
            let scale = if log { value } else { 1.0 };
            for (i, f) in first.iter().enumerate() {
                s.dy[r * nd + i] = scale * f;
            }
            for (i, j) in (0..nd).flat_map(|i| (i..nd).map(move |j| (i, j))).filter(|_| n_pairs > 0) {
                let (k, l) = (chosen[i].min(chosen[j]), chosen[i].max(chosen[j]));
                let mixed = if k < n && l >= n { bend(k, l - n) } else { 0.0 };
                let product = if log { first[i] * first[j] } else { 0.0 };
                s.dyy[r * n_pairs + pair_index(nd, i, j)] = scale * (mixed + product);
            }
        }
        Ok(s)
    }
}

impl Conditional for SimulatedIndividual<'_> {
    fn dimension(&self) -> usize {
        if self.view == View::Simulated { self.coordinates.len() } else { 2 * self.coordinates.len() }
    }

    fn information(&mut self, phi: &[f64]) -> Result<DMatrix<f64>, EvaluationError> {
        let n = self.dimension();
        let s = self.with_all_derivatives(phi, Derivatives::First)?;
        let mut information = DMatrix::zeros(n, n);
        for (r, row) in self.rows.rows.iter().enumerate() {
            let d = row.measured.density(s.y[r], s.sigma[r])?;
            let (dy, ds) = (&s.dy[r * n..(r + 1) * n], &s.ds[r * n..(r + 1) * n]);
            for l in 0..n {
                for k in 0..n {
                    information[(k, l)] += d.fisher_yy * dy[k] * dy[l] + d.fisher_ss * ds[k] * ds[l];
                }
            }
        }
        Ok(information)
    }

    fn evaluate(&mut self, phi: &[f64], order: ConditionalOrder, scope: Scope) -> Result<ConditionalValue, EvaluationError> {
        let n = self.dimension();
        let chosen: Vec<usize> = match scope {
            Scope::All => (0..n).collect(),
            Scope::Random => (0..self.random.len()).filter(|k| self.random[*k]).collect(),
        };
        let derivatives = match order {
            ConditionalOrder::Value => Derivatives::None,
            ConditionalOrder::Gradient | ConditionalOrder::GaussNewton => Derivatives::First,
            ConditionalOrder::Hessian => Derivatives::Second,
        };
        let s = Rc::new(self.seen(phi, &chosen, derivatives)?);
        if (order, scope) == (ConditionalOrder::Hessian, Scope::All) {
            self.last = Some((phi.to_vec(), s.clone()));
        }
        let nd = if derivatives == Derivatives::None { 0 } else { chosen.len() };
        let n_pairs = nd * (nd + 1) / 2;
        let mut value = 0.0;
        let mut gradient = vec![0.0; nd];
        let mut gauss_newton = vec![0.0; n_pairs];
        let mut curvature = vec![0.0; n_pairs];
        for (r, row) in self.rows.rows.iter().enumerate() {
            let d = row.measured.density(s.y[r], s.sigma[r])?;
            value += d.value;
            if nd == 0 {
                continue;
            }
            let (dy, ds) = (&s.dy[r * nd..(r + 1) * nd], &s.ds[r * nd..(r + 1) * nd]);
            for k in 0..nd {
                gradient[k] += d.dy * dy[k] + d.ds * ds[k];
            }
            if order < ConditionalOrder::GaussNewton {
                continue;
            }
            for k in 0..nd {
                let (wy, ws) = (d.dyy * dy[k] + d.dys * ds[k], d.dys * dy[k] + d.dss * ds[k]);
                for l in k..nd {
                    gauss_newton[pair_index(nd, k, l)] += wy * dy[l] + ws * ds[l];
                }
            }
            if order == ConditionalOrder::Hessian {
                let second = |values: &[f64], i: usize| values[r * n_pairs + i];
                for (i, c) in curvature.iter_mut().enumerate() {
                    *c += d.dy * second(&s.dyy, i) + d.ds * second(&s.dss, i);
                }
            }
        }
        let full = |packed: &dyn Fn(usize) -> f64| {
            let mut m = DMatrix::zeros(n, n);
            for k in 0..nd {
                for l in k..nd {
                    let v = packed(pair_index(nd, k, l));
                    m[(chosen[k], chosen[l])] = v;
                    m[(chosen[l], chosen[k])] = v;
                }
            }
            m
        };
        let mut all = DVector::zeros(if nd == 0 { 0 } else { n });
        for (k, g) in chosen.iter().zip(&gradient) {
            all[*k] = *g;
        }
        Ok(ConditionalValue {
            value,
            gradient: all,
            gauss_newton: (order >= ConditionalOrder::GaussNewton).then(|| full(&|i| gauss_newton[i])),
            hessian: (order == ConditionalOrder::Hessian).then(|| full(&|i| gauss_newton[i] + curvature[i])),
        })
    }

    /// The Gauss-Newton matrix and the information hold first derivatives of the simulation only, so their derivatives are at hand.
    fn trace_gradient(
        &mut self,
        phi: &[f64],
        at: &ConditionalValue,
        targets: &[usize],
        weights: &DMatrix<f64>,
        which: Curvature,
    ) -> Result<DVector<f64>, EvaluationError> {
        if which == Curvature::Exact {
            return trace_gradient_by_differences(self, phi, at, targets, weights, which);
        }
        let curvature = |d: &Density| match which {
            Curvature::Expected => [d.fisher_yy, 0.0, d.fisher_ss],
            _ => [d.dyy, d.dys, d.dss],
        };
        let n = self.dimension();
        let s = self.with_all_derivatives(phi, Derivatives::Second)?;
        let n_pairs = n * (n + 1) / 2;
        let random: Vec<usize> = (0..self.random.len()).filter(|k| self.random[*k]).collect();
        let mut result = DVector::zeros(n);
        for (r, row) in self.rows.rows.iter().enumerate() {
            let d = row.measured.density(s.y[r], s.sigma[r])?;
            let [dyy, dys, dss] = curvature(&d);
            let [by_y, by_sigma] = row.measured.curvature_slopes(s.y[r], s.sigma[r], curvature)?;
            let (dy, ds) = (&s.dy[r * n..(r + 1) * n], &s.ds[r * n..(r + 1) * n]);
            // With the slopes a = (dy, ds) and the noise curvature C: tr(M d(a C a^T)) = 2 (M a C) . da + (a^T M a) . dC.
            let product = |values: &[f64], j: usize| -> f64 { random.iter().map(|k| weights[(j, *k)] * values[*k]).sum() };
            let (mut yy, mut ys, mut ss) = (0.0, 0.0, 0.0);
            for &j in &random {
                let (my, ms) = (product(dy, j), product(ds, j));
                yy += dy[j] * my;
                ys += dy[j] * ms;
                ss += ds[j] * ms;
                let (wy, ws) = (2.0 * (dyy * my + dys * ms), 2.0 * (dys * my + dss * ms));
                for l in 0..n {
                    let i = r * n_pairs + pair_index(n, j.min(l), j.max(l));
                    result[l] += wy * s.dyy[i] + ws * s.dss[i];
                }
            }
            let slope = |by: [f64; 3]| by[0] * yy + 2.0 * by[1] * ys + by[2] * ss;
            let (along_y, along_sigma) = (slope(by_y), slope(by_sigma));
            for l in 0..n {
                result[l] += along_y * dy[l] + along_sigma * ds[l];
            }
        }
        Ok(result)
    }
}
