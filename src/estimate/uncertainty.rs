//! Standard errors from the curvature of the objective at the optimum.

use crate::likelihood::{EvaluationError, Objective, Order};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

/// Distance to a bound, on the estimation scale relative to 1 + |bound|, below which a parameter counts as at its bound.
const AT_BOUND: f64 = 1e-6;

/// Relative step of the differences of the gradient.
const STEP: f64 = 1e-3;

/// An eigenvalue of the scaled observed information below this counts as zero: the data do not determine that direction.
const SINGULAR: f64 = 1e-8;

/// Uncertainty of the estimates, on the estimation scale.
#[derive(Debug, Clone)]
pub struct Uncertainty {
    /// Observed information (Hessian of the negative log-posterior), n by n; zero for parameters at a bound.
    pub information: DMatrix<f64>,
    /// Covariance of the estimates; `None` where the information is singular or not positive definite.
    pub covariance: Option<DMatrix<f64>>,
    /// Parameters at a bound, which are left out.
    pub at_bound: Vec<bool>,
}

impl Uncertainty {
    /// Standard error of parameter `k`; `None` at a bound or where the information is singular.
    pub fn standard_error(&self, k: usize) -> Option<f64> {
        let variance = self.covariance.as_ref()?[(k, k)];
        (!self.at_bound[k] && variance > 0.0).then(|| variance.sqrt())
    }
}

/// Observed information by central differences of the gradient with a step of 1e-3 (NLME.md 8.5), inverted over the parameters that are not
/// at a bound.
pub fn uncertainty<O: Objective>(objective: &O, x: &[f64]) -> Result<Uncertainty, EvaluationError> {
    let n = x.len();
    let parameters = objective.parameters();
    let near = |value: f64, bound: f64| bound.is_finite() && (value - bound).abs() <= AT_BOUND * (1.0 + bound.abs());
    let at_bound: Vec<bool> = (0..n).map(|k| near(x[k], parameters[k].lower) || near(x[k], parameters[k].upper)).collect();
    let free: Vec<usize> = (0..n).filter(|k| !at_bound[*k]).collect();
    let columns: Vec<Result<DVector<f64>, EvaluationError>> = free
        .par_iter()
        .map(|k| {
            let mut memory = objective.memory();
            let step = STEP * x[*k].abs().max(1.0);
            let mut gradient = |h: f64| {
                let mut point = x.to_vec();
                point[*k] += h;
                objective.evaluate(&point, Order::Gradient, &mut memory).map(|e| e.gradient)
            };
            Ok((gradient(step)? - gradient(-step)?) / (2.0 * step))
        })
        .collect();
    let mut information = DMatrix::zeros(n, n);
    for (k, column) in free.iter().zip(columns) {
        let column = column?;
        for l in &free {
            information[(*l, *k)] = column[*l];
        }
    }
    let information = (&information + information.transpose()) * 0.5;
    let covariance = invert(&information, &free);
    Ok(Uncertainty { information, covariance, at_bound })
}

/// Inverse over the rows `free`, by eigenvalues after scaling to unit diagonal; `None` unless positive definite.
fn invert(information: &DMatrix<f64>, free: &[usize]) -> Option<DMatrix<f64>> {
    let m = free.len();
    let scale: Vec<f64> = free.iter().map(|k| information[(*k, *k)]).collect();
    if scale.iter().any(|d| *d <= 0.0 || !d.is_finite()) {
        return None;
    }
    let scaled = DMatrix::from_fn(m, m, |i, j| information[(free[i], free[j])] / (scale[i] * scale[j]).sqrt());
    let eigen = scaled.symmetric_eigen();
    if eigen.eigenvalues.iter().any(|v| *v < SINGULAR) {
        return None;
    }
    let inverse = &eigen.eigenvectors * DMatrix::from_diagonal(&eigen.eigenvalues.map(f64::recip)) * eigen.eigenvectors.transpose();
    let mut covariance = DMatrix::zeros(information.nrows(), information.ncols());
    for i in 0..m {
        for j in 0..m {
            covariance[(free[i], free[j])] = inverse[(i, j)] / (scale[i] * scale[j]).sqrt();
        }
    }
    Some(covariance)
}
