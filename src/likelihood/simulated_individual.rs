//! The conditional likelihood of one individual's trajectory, by simulation.

use super::EvaluationError;
use super::coordinates::Coordinate;
use super::individual::{Conditional, ConditionalOrder, ConditionalValue, Curvature, Scope, trace_gradient_by_differences};
use super::simulated::{Derivatives, Direction, Rows, Simulated, Worker, failure, pair_index};
use nalgebra::{DMatrix, DVector};
use std::rc::Rc;

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
    /// The last simulation with all second derivatives, and where it was.
    pub last: Option<(Vec<f64>, Rc<Simulated>)>,
}

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
            None => Ok(Rc::new(self.simulate(phi, &(0..self.coordinates.len()).collect::<Vec<_>>(), order)?)),
        }
    }

    /// Expected information of the data about phi, n_phi by n_phi, positive semidefinite: the Gauss-Newton matrix with the noise
    /// distribution's expected curvature.
    pub fn information(&mut self, phi: &[f64]) -> Result<DMatrix<f64>, EvaluationError> {
        let n = self.coordinates.len();
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
}

impl Conditional for SimulatedIndividual<'_> {
    fn dimension(&self) -> usize {
        self.coordinates.len()
    }

    fn evaluate(&mut self, phi: &[f64], order: ConditionalOrder, scope: Scope) -> Result<ConditionalValue, EvaluationError> {
        let n = self.coordinates.len();
        let chosen: Vec<usize> = match scope {
            Scope::All => (0..n).collect(),
            Scope::Random => (0..n).filter(|k| self.random[*k]).collect(),
        };
        let derivatives = match order {
            ConditionalOrder::Value => Derivatives::None,
            ConditionalOrder::Gradient | ConditionalOrder::GaussNewton => Derivatives::First,
            ConditionalOrder::Hessian => Derivatives::Second,
        };
        let s = Rc::new(self.simulate(phi, &chosen, derivatives)?);
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

    /// The Gauss-Newton matrix holds first derivatives of the simulation only, so its derivatives are at hand.
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
        let n = self.coordinates.len();
        let s = self.with_all_derivatives(phi, Derivatives::Second)?;
        let n_pairs = n * (n + 1) / 2;
        let random: Vec<usize> = (0..n).filter(|k| self.random[*k]).collect();
        let mut result = DVector::zeros(n);
        for (r, row) in self.rows.rows.iter().enumerate() {
            let d = row.measured.density(s.y[r], s.sigma[r])?;
            let [by_y, by_sigma] = row.measured.curvature_slopes(s.y[r], s.sigma[r])?;
            let (dy, ds) = (&s.dy[r * n..(r + 1) * n], &s.ds[r * n..(r + 1) * n]);
            // With the slopes a = (dy, ds) and the noise curvature C: tr(M d(a C a^T)) = 2 (M a C) . da + (a^T M a) . dC.
            let product = |values: &[f64], j: usize| -> f64 { random.iter().map(|k| weights[(j, *k)] * values[*k]).sum() };
            let (mut yy, mut ys, mut ss) = (0.0, 0.0, 0.0);
            for &j in &random {
                let (my, ms) = (product(dy, j), product(ds, j));
                yy += dy[j] * my;
                ys += dy[j] * ms;
                ss += ds[j] * ms;
                let (wy, ws) = (2.0 * (d.dyy * my + d.dys * ms), 2.0 * (d.dys * my + d.dss * ms));
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
