//! Points and weights for integrals over the random effects that many data share (NLME.md 2.7, 8.2).
//!
//! Nodes are standard normal scores z; an effect vector is b = L z with the lower Cholesky factor L of D. (With points as rows this is
//! Z L^T; Z L would have covariance L^T L, which is not D unless D is diagonal.) The nodes stay the same for a whole optimisation, so
//! that the objective is a smooth function of the parameters.

use super::covariance::Omega;
use super::ebe::cell_parameters;
use crate::linalg::gauss_hermite;
use crate::random::{Purpose, SOBOL_DIMENSIONS, normal_quantile, sobol_normal, stream, uniform};
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
    /// The rule for population integrals over `dimension` random effects: a tensor product of Gauss-Hermite rules up to four effects
    /// (see [`Nodes::tensor_points`]), beyond that `n` scrambled Sobol points of `seed`; `n` should be a power of two.
    pub fn new(dimension: usize, n: usize, seed: u64) -> Nodes {
        match Nodes::tensor_points(dimension) {
            Some(points) => Nodes::gauss_hermite(dimension, points),
            None => Nodes::sobol(dimension, n, seed),
        }
    }

    /// `n` scrambled Sobol points with equal weights; coordinates beyond [`SOBOL_DIMENSIONS`] are pseudo-random. Points of different seeds
    /// are independent: the spread of a statistic over eight seeds is the standard error with one of them.
    pub fn sobol(dimension: usize, n: usize, seed: u64) -> Nodes {
        let sobol = sobol_normal(n, dimension.min(SOBOL_DIMENSIONS), seed);
        let mut z = DMatrix::zeros(dimension, n);
        z.rows_mut(0, dimension.min(SOBOL_DIMENSIONS)).copy_from_slice(&sobol);
        for k in SOBOL_DIMENSIONS..dimension {
            let mut rng = stream(seed, Purpose::Nodes, k as u64);
            for q in 0..n {
                // The smallest number of the generator is zero, of which there is no quantile.
                z[(k, q)] = normal_quantile(uniform(&mut rng).max(f64::EPSILON / 4.0));
            }
        }
        Nodes::from_normal_scores(z)
    }

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
    fn the_rule_fits_the_dimension() {
        let sizes = [0, 1, 2, 3, 4, 5, 30].map(|n| Nodes::new(n, 256, 3).len());
        assert_eq!(sizes, [1, 15, 225, 729, 2401, 256, 256]);
        for dimension in [5, 30] {
            let nodes = Nodes::new(dimension, 256, 3);
            assert_eq!(nodes.z.shape(), (dimension, 256));
            assert_eq!(nodes, Nodes::new(dimension, 256, 3));
            assert_ne!(nodes, Nodes::new(dimension, 256, 4));
            let covariance = &nodes.z * nodes.z.transpose() / 256.0;
            let sobol = covariance.view((0, 0), (5, 5)) - DMatrix::<f64>::identity(5, 5);
            assert!(sobol.amax() < 0.05, "{sobol}");
            // Random coordinates have errors of the order 1/16.
            assert!((covariance - DMatrix::<f64>::identity(dimension, dimension)).amax() < 0.35);
        }
        assert!((Nodes::new(3, 1, 1).weights.iter().sum::<f64>() - 1.0).abs() < 1e-13);
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
