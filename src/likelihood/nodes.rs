//! Points and weights for integrals over the random effects that many data share (NLME.md 2.7, 8.2).
//!
//! Nodes are standard normal scores z; an effect vector is b = L z with the lower Cholesky factor L of D. (With points as rows this is
//! Z L^T; Z L would have covariance L^T L, which is not D unless D is diagonal.) The nodes stay the same for a whole optimisation, so
//! that the objective is a smooth function of the parameters.

use super::covariance::Omega;
use super::ebe::cell_parameters;
use nalgebra::{DMatrix, DVector};

/// Nodes z of the standard normal distribution with weights that sum to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Nodes {
    /// Points, one column of length n_b for each.
    pub z: DMatrix<f64>,
    /// Weights.
    pub weights: Vec<f64>,
}

impl Nodes {
    /// Tensor product of the Gauss-Hermite rule with `points` points in `dimension` dimensions, exact for polynomials of degree
    /// 2 `points` - 1 in each direction. One node at zero for dimension 0.
    pub fn gauss_hermite(dimension: usize, points: usize) -> Nodes {
        let (x, w) = gauss_hermite(points);
        let n = points.pow(u32::try_from(dimension).unwrap_or(u32::MAX));
        let digit = |q: usize, k: usize| q / points.pow(u32::try_from(k).unwrap_or(u32::MAX)) % points;
        Nodes {
            z: DMatrix::from_fn(dimension, n, |k, q| x[digit(q, k)]),
            weights: (0..n).map(|q| (0..dimension).map(|k| w[digit(q, k)]).product()).collect(),
        }
    }

    /// Equally weighted nodes from standard normal scores, one column of length n_b for each node.
    pub fn from_normal_scores(z: DMatrix<f64>) -> Nodes {
        let n = z.ncols();
        Nodes { z, weights: vec![1.0 / n as f64; n] }
    }

    /// Points per dimension of the tensor rule that integrates over `dimension` random effects, or `None` where quasi-random nodes are
    /// the better choice: 15 up to two effects, 9 for three, 7 for four.
    pub fn tensor_points(dimension: usize) -> Option<usize> {
        match dimension {
            0..=2 => Some(15),
            3 => Some(9),
            4 => Some(7),
            _ => None,
        }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Parameters phi_typical + Z L z of the individual at node `q`, where effect k moves component `targets[k]`.
    pub fn cell_parameters(&self, q: usize, phi_typical: &[f64], targets: &[usize], omega: &Omega) -> Vec<f64> {
        cell_parameters(phi_typical, targets, &(&omega.l * self.z.column(q)))
    }
}

/// Nodes and weights of the Gauss-Hermite rule for the standard normal density, nodes ascending (Golub and Welsch 1969).
///
/// The eigenvalues of the Jacobi matrix are improved by Newton steps on the orthonormal Hermite polynomials, and the weights are the
/// inverse Christoffel sums, so that the smallest ones keep their relative accuracy. At most a few hundred nodes: beyond, the
/// polynomials overflow.
pub fn gauss_hermite(n: usize) -> (Vec<f64>, Vec<f64>) {
    let jacobi = DMatrix::from_fn(n, n, |i, j| if i.abs_diff(j) == 1 { (i.max(j) as f64).sqrt() } else { 0.0 });
    let mut x: Vec<f64> = if n == 0 { Vec::new() } else { jacobi.symmetric_eigenvalues().iter().copied().collect() };
    x.sort_by(f64::total_cmp);
    let mut w = Vec::with_capacity(n);
    for x in &mut x {
        // Orthonormal polynomials: sqrt(k + 1) h_(k+1) = x h_k - sqrt(k) h_(k-1), with h_n' = sqrt(n) h_(n-1).
        let polynomials = |x: f64| {
            let mut h = vec![1.0; n + 1];
            for k in 0..n {
                let before = if k == 0 { 0.0 } else { (k as f64).sqrt() * h[k - 1] };
                h[k + 1] = (x * h[k] - before) / ((k + 1) as f64).sqrt();
            }
            h
        };
        for _ in 0..2 {
            let h = polynomials(*x);
            *x -= h[n] / ((n as f64).sqrt() * h[n - 1]);
        }
        w.push(1.0 / polynomials(*x)[..n].iter().map(|h| h * h).sum::<f64>());
    }
    // The rule is symmetric; rounding is not.
    for i in 0..n / 2 {
        let (a, b) = (0.5 * (x[n - 1 - i] - x[i]), 0.5 * (w[i] + w[n - 1 - i]));
        (x[i], x[n - 1 - i], w[i], w[n - 1 - i]) = (-a, a, b, b);
    }
    if n % 2 == 1 {
        x[n / 2] = 0.0;
    }
    (x, w)
}

/// log sum exp of the terms, and their shares of the sum. `None` if the sum is zero or not finite.
pub(super) fn log_sum_exp(terms: &[f64]) -> Option<(f64, DVector<f64>)> {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return None;
    }
    let shares = DVector::from_iterator(terms.len(), terms.iter().map(|t| (t - largest).exp()));
    let sum = shares.sum();
    Some((largest + sum.ln(), shares / sum)).filter(|(value, _)| value.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gauss_hermite_integrates_polynomials() {
        for n in [1, 2, 3, 7, 15, 40, 150] {
            let (x, w) = gauss_hermite(n);
            assert!(x.windows(2).all(|p| p[0] < p[1]));
            let mut moment = 1.0;
            for degree in (0..2 * n.min(20)).step_by(2) {
                let sum: f64 = x.iter().zip(&w).map(|(x, w)| w * x.powi(i32::try_from(degree).unwrap())).sum();
                assert!((sum / moment - 1.0).abs() < 1e-12, "{n} nodes, degree {degree}: {sum} is not {moment}");
                moment *= (degree + 1) as f64;
            }
        }
        // Abramowitz and Stegun table 25.10, n = 5, in the probabilists' form: x * sqrt(2), w / sqrt(pi).
        let (x, w) = gauss_hermite(5);
        assert!((x[4] - 2.020_182_870_456_086 * 2f64.sqrt()).abs() < 1e-14);
        assert!((w[4] - 1.995_324_205_905e-2 / std::f64::consts::PI.sqrt()).abs() < 1e-13);
    }

    #[test]
    fn nodes_have_the_covariance() {
        let d = DMatrix::from_row_slice(2, 2, &[0.3, -0.2, -0.2, 0.5]);
        let omega = Omega::new(d.clone(), vec![], vec![], &|i| i.to_string()).unwrap();
        let nodes = Nodes::gauss_hermite(2, 3);
        assert_eq!(nodes.len(), 9);
        let mut sum = DMatrix::zeros(2, 2);
        for q in 0..nodes.len() {
            let phi = nodes.cell_parameters(q, &[0.0, 7.0, 0.0], &[2, 0], &omega);
            assert_eq!(phi[1], 7.0);
            let b = DVector::from_vec(vec![phi[2], phi[0]]);
            sum += &b * b.transpose() * nodes.weights[q];
        }
        assert!((sum - d).amax() < 1e-14);
    }

    #[test]
    fn log_sum_exp_does_not_overflow() {
        let (value, shares) = log_sum_exp(&[1000.0, 1000.0, f64::NEG_INFINITY]).unwrap();
        assert!((value - 1000.0 - 2f64.ln()).abs() < 1e-12);
        assert_eq!(shares.as_slice(), &[0.5, 0.5, 0.0]);
        assert!(log_sum_exp(&[f64::NEG_INFINITY]).is_none());
        assert!(log_sum_exp(&[f64::NAN, 1.0]).is_none() && log_sum_exp(&[]).is_none());
    }
}
