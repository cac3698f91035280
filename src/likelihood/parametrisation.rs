//! Unconstrained parametrisations of a covariance matrix (NLME.md 2.8): every vector delta gives a positive definite D.
//!
//! They serve comparisons with other tools and tests; problems give their covariance entry by entry (see
//! [`covariance`](super::covariance)). The diagonal and log-Cholesky forms are the usual ones for optimisation (Pinheiro and Bates 1996).

use super::covariance::inverse_from_factor;
use nalgebra::{DMatrix, DVector};

/// How a vector delta gives D of dimension m.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parametrisation {
    /// m log variances; D is diagonal.
    LogVariance,
    /// D = exp(A), delta the lower triangle of the symmetric A, row by row.
    MatrixLogarithm,
    /// D = U^T U; m logarithms of the diagonal of the upper triangular U, then its strict upper part column by column.
    LogCholesky,
    /// D = U^T U; m logarithms of the column norms of U (the standard deviations), then the angles of column 2, 3, ...
    Spherical,
    /// D = U^T Lambda U; m log eigenvalues, then one angle for each plane (i, j), i < j in lexicographic order; U is the product of the
    /// plane rotations.
    Givens,
    /// D = R Lambda R^T, R = exp(K); m log eigenvalues, then the strict upper part of the skew-symmetric K column by column.
    Lie,
}

/// D with inverse, log-determinant and derivatives.
#[derive(Debug, Clone)]
pub struct Parametrised {
    /// D, m by m.
    pub d: DMatrix<f64>,
    /// Inverse of D.
    pub inverse: DMatrix<f64>,
    /// log det D.
    pub log_det: f64,
    /// dD by each entry of delta.
    pub dd: Vec<DMatrix<f64>>,
}

impl Parametrisation {
    /// Length of delta for dimension `m`.
    pub fn parameters(self, m: usize) -> usize {
        if self == Parametrisation::LogVariance { m } else { m * (m + 1) / 2 }
    }

    /// D for `delta`, or `None` if its length does not fit the dimension `m`.
    pub fn evaluate(self, m: usize, delta: &[f64]) -> Option<Parametrised> {
        if delta.len() != self.parameters(m) {
            return None;
        }
        Some(match self {
            Parametrisation::LogVariance => log_variance(delta),
            Parametrisation::MatrixLogarithm => matrix_logarithm(m, delta),
            Parametrisation::LogCholesky => log_cholesky(m, delta),
            Parametrisation::Spherical => spherical(m, delta),
            Parametrisation::Givens => givens(m, delta),
            Parametrisation::Lie => lie(m, delta),
        })
    }
}

fn log_variance(delta: &[f64]) -> Parametrised {
    let m = delta.len();
    let v = DVector::from_iterator(m, delta.iter().map(|x| x.exp()));
    let dd = (0..m)
        .map(|k| {
            let mut d = DMatrix::zeros(m, m);
            d[(k, k)] = v[k];
            d
        })
        .collect();
    Parametrised { d: DMatrix::from_diagonal(&v), inverse: DMatrix::from_diagonal(&v.map(f64::recip)), log_det: delta.iter().sum(), dd }
}

fn matrix_logarithm(m: usize, delta: &[f64]) -> Parametrised {
    let mut a = DMatrix::zeros(m, m);
    let places: Vec<(usize, usize)> = (0..m).flat_map(|i| (0..=i).map(move |j| (i, j))).collect();
    for (&(i, j), &x) in places.iter().zip(delta) {
        a[(i, j)] = x;
        a[(j, i)] = x;
    }
    let log_det = a.trace();
    let eigen = a.symmetric_eigen();
    let (v, lambda) = (eigen.eigenvectors, eigen.eigenvalues);
    // Derivative of exp in direction E (Daleckii and Krein): V (F o V^T E V) V^T with the divided differences F of exp, written so that
    // equal eigenvalues lose no digits.
    let differences = DMatrix::from_fn(m, m, |i, j| {
        let x = 0.5 * (lambda[i] - lambda[j]);
        (0.5 * (lambda[i] + lambda[j])).exp() * if x.abs() < 1e-4 { 1.0 + x * x / 6.0 } else { x.sinh() / x }
    });
    let dd = places
        .iter()
        .map(|&(i, j)| {
            let mut e = DMatrix::zeros(m, m);
            e[(i, j)] = 1.0;
            e[(j, i)] = 1.0;
            &v * (v.transpose() * e * &v).component_mul(&differences) * v.transpose()
        })
        .collect();
    let function = |f: &dyn Fn(f64) -> f64| &v * DMatrix::from_diagonal(&lambda.map(f)) * v.transpose();
    Parametrised { d: function(&|x| x.exp()), inverse: function(&|x| (-x).exp()), log_det, dd }
}

/// D = U^T U from the upper triangular U and its derivatives.
fn from_upper(u: DMatrix<f64>, du: Vec<DMatrix<f64>>) -> Parametrised {
    let log_det = 2.0 * u.diagonal().iter().map(|x| x.abs().ln()).sum::<f64>();
    let dd = du
        .into_iter()
        .map(|du| {
            let half = u.transpose() * du;
            &half + half.transpose()
        })
        .collect();
    let lower = u.transpose();
    Parametrised { d: &lower * &u, inverse: inverse_from_factor(&lower), log_det, dd }
}

fn log_cholesky(m: usize, delta: &[f64]) -> Parametrised {
    let mut u = DMatrix::zeros(m, m);
    let mut du = vec![DMatrix::zeros(m, m); delta.len()];
    for i in 0..m {
        u[(i, i)] = delta[i].exp();
        du[i][(i, i)] = u[(i, i)];
    }
    for (k, (i, j)) in strict_upper(m).into_iter().enumerate() {
        u[(i, j)] = delta[m + k];
        du[m + k][(i, j)] = 1.0;
    }
    from_upper(u, du)
}

fn spherical(m: usize, delta: &[f64]) -> Parametrised {
    let mut u = DMatrix::zeros(m, m);
    let mut du = vec![DMatrix::zeros(m, m); delta.len()];
    for c in 0..m {
        let norm = delta[c].exp();
        let first = m + c * c.saturating_sub(1) / 2;
        let angles = &delta[first..first + c];
        for r in 0..=c {
            // Row r is the product of the sines of the angles before r and, but for the last row, the cosine of angle r.
            let factor = |q: usize, derivative: bool| match (q < r, derivative) {
                (true, false) => angles[q].sin(),
                (true, true) => angles[q].cos(),
                (false, false) => angles[q].cos(),
                (false, true) => -angles[q].sin(),
            };
            let used = (r + 1).min(c);
            let product = |wrt: Option<usize>| norm * (0..used).map(|q| factor(q, wrt == Some(q))).product::<f64>();
            u[(r, c)] = product(None);
            du[c][(r, c)] = u[(r, c)];
            for q in 0..used {
                du[first + q][(r, c)] = product(Some(q));
            }
        }
    }
    from_upper(u, du)
}

fn givens(m: usize, delta: &[f64]) -> Parametrised {
    let planes: Vec<(usize, usize)> = (0..m).flat_map(|i| (i + 1..m).map(move |j| (i, j))).collect();
    let rotation = |k: usize, derivative: bool| {
        let (i, j) = planes[k];
        let (sin, cos) = delta[m + k].sin_cos();
        let mut g = if derivative { DMatrix::zeros(m, m) } else { DMatrix::identity(m, m) };
        let (diagonal, off) = if derivative { (-sin, cos) } else { (cos, sin) };
        g[(i, i)] = diagonal;
        g[(j, j)] = diagonal;
        g[(i, j)] = off;
        g[(j, i)] = -off;
        g
    };
    let product = |wrt: Option<usize>| (0..planes.len()).fold(DMatrix::identity(m, m), |u, k| u * rotation(k, wrt == Some(k)));
    let u = product(None);
    let du = (0..planes.len()).map(|k| product(Some(k)).transpose()).collect();
    from_eigen(&u.transpose(), du, &delta[..m])
}

fn lie(m: usize, delta: &[f64]) -> Parametrised {
    let places = strict_upper(m);
    let mut k = DMatrix::zeros(m, m);
    for (&(i, j), &x) in places.iter().zip(&delta[m..]) {
        k[(i, j)] = x;
        k[(j, i)] = -x;
    }
    let dr = places
        .iter()
        .map(|&(i, j)| {
            // exp([[K, E], [0, K]]) has the derivative of exp(K) in direction E as its upper right block.
            let mut block = DMatrix::zeros(2 * m, 2 * m);
            block.view_mut((0, 0), (m, m)).copy_from(&k);
            block.view_mut((m, m), (m, m)).copy_from(&k);
            block[(i, m + j)] = 1.0;
            block[(j, m + i)] = -1.0;
            block.exp().view((0, m), (m, m)).into_owned()
        })
        .collect();
    from_eigen(&k.exp(), dr, &delta[..m])
}

/// D = R Lambda R^T from an orthogonal R, its derivatives and the log eigenvalues.
fn from_eigen(r: &DMatrix<f64>, dr: Vec<DMatrix<f64>>, log_lambda: &[f64]) -> Parametrised {
    let m = log_lambda.len();
    let lambda = DVector::from_iterator(m, log_lambda.iter().map(|x| x.exp()));
    let with = |v: &DVector<f64>| r * DMatrix::from_diagonal(v) * r.transpose();
    let mut dd: Vec<DMatrix<f64>> = (0..m)
        .map(|k| {
            let column = r.column(k);
            column * column.transpose() * lambda[k]
        })
        .collect();
    for dr in dr {
        let half = dr * DMatrix::from_diagonal(&lambda) * r.transpose();
        dd.push(&half + half.transpose());
    }
    Parametrised { d: with(&lambda), inverse: with(&lambda.map(f64::recip)), log_det: log_lambda.iter().sum(), dd }
}

/// Places of the strict upper triangle, column by column.
fn strict_upper(m: usize) -> Vec<(usize, usize)> {
    (1..m).flat_map(|j| (0..j).map(move |i| (i, j))).collect()
}
