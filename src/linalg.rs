//! Small dense linear algebra that nalgebra lacks: Cholesky factors with log determinant, symmetric pseudo-inverses, the
//! trust-region subproblem and Gauss-Hermite nodes. Matrices are symmetric unless said otherwise; no function panics on NaN.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// Lower Cholesky factor of a symmetric positive definite matrix.
#[derive(Debug, Clone)]
pub struct Cholesky {
    factor: nalgebra::Cholesky<f64, nalgebra::Dyn>,
}

/// Factorises a symmetric matrix (its lower triangle is read). None if it is not positive definite or not finite.
pub fn cholesky(matrix: &DMatrix<f64>) -> Option<Cholesky> {
    if !is_finite(matrix) {
        return None;
    }
    let factor = nalgebra::Cholesky::new(matrix.clone())?;
    let regular = factor.l_dirty().diagonal().iter().all(|d| d.is_finite() && *d > 0.0);
    regular.then_some(Cholesky { factor })
}

impl Cholesky {
    /// The lower triangular factor L with L L^T the matrix.
    pub fn lower(&self) -> DMatrix<f64> {
        self.factor.l()
    }

    /// Logarithm of the determinant of the matrix.
    pub fn log_determinant(&self) -> f64 {
        2.0 * self.factor.l_dirty().diagonal().iter().map(|d| d.ln()).sum::<f64>()
    }

    /// Solution of (L L^T) x = b.
    pub fn solve(&self, b: &DVector<f64>) -> DVector<f64> {
        self.factor.solve(b)
    }

    /// Solution of (L L^T) X = B.
    pub fn solve_matrix(&self, b: &DMatrix<f64>) -> DMatrix<f64> {
        self.factor.solve(b)
    }

    /// L^-1 b, whose squared norm is b^T (L L^T)^-1 b.
    pub fn whiten(&self, b: &DVector<f64>) -> DVector<f64> {
        let mut x = b.clone();
        // The diagonal is positive, so the substitution cannot fail.
        self.factor.l_dirty().solve_lower_triangular_mut(&mut x);
        x
    }

    /// The inverse of the matrix.
    pub fn inverse(&self) -> DMatrix<f64> {
        self.factor.inverse()
    }
}

/// Logarithm of the determinant of a symmetric positive definite matrix, None if it is not positive definite.
pub fn log_determinant(matrix: &DMatrix<f64>) -> Option<f64> {
    cholesky(matrix).map(|factor| factor.log_determinant())
}

/// Whether all entries are finite.
pub fn is_finite(matrix: &DMatrix<f64>) -> bool {
    matrix.iter().all(|x| x.is_finite())
}

/// The symmetric part (A + A^T) / 2.
pub fn symmetrised(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    (matrix + matrix.transpose()) * 0.5
}

/// Eigenvalues in increasing order and eigenvectors (columns) of a symmetric matrix. None if it has entries that are not finite.
pub fn symmetric_eigen(matrix: &DMatrix<f64>) -> Option<(DVector<f64>, DMatrix<f64>)> {
    let n = matrix.nrows();
    if !is_finite(matrix) {
        return None;
    }
    // Iterations grow linearly with n; the limit only guards against a matrix that never converges.
    let eigen = SymmetricEigen::try_new(matrix.clone(), f64::EPSILON, 1000 + 100 * n)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[i].total_cmp(&eigen.eigenvalues[j]));
    let values = DVector::from_iterator(n, order.iter().map(|&i| eigen.eigenvalues[i]));
    let mut vectors = DMatrix::zeros(n, n);
    for (to, &from) in order.iter().enumerate() {
        vectors.set_column(to, &eigen.eigenvectors.column(from));
    }
    Some((values, vectors))
}

/// Q f(lambda) Q^T.
fn spectral(values: &DVector<f64>, vectors: &DMatrix<f64>, f: impl Fn(f64) -> f64) -> DMatrix<f64> {
    let mut scaled = vectors.clone();
    for (mut column, &value) in scaled.column_iter_mut().zip(values.iter()) {
        column *= f(value);
    }
    symmetrised(&(scaled * vectors.transpose()))
}

/// A symmetric matrix with its eigenvalues raised to at least `relative` times the largest in size, and how many were raised.
/// None if the matrix is not finite or zero.
pub fn eigen_floor(matrix: &DMatrix<f64>, relative: f64) -> Option<(DMatrix<f64>, usize)> {
    let (values, vectors) = symmetric_eigen(matrix)?;
    let floor = relative * values.amax();
    if matrix.nrows() > 0 && floor <= 0.0 {
        return None;
    }
    let raised = values.iter().filter(|&&v| v < floor).count();
    if raised == 0 {
        return Some((matrix.clone(), 0));
    }
    Some((spectral(&values, &vectors, |v| v.max(floor)), raised))
}

/// Moore-Penrose inverse of a symmetric matrix and its rank: eigenvalues of size up to `relative` times the largest count as
/// zero. None if the matrix is not finite.
pub fn pseudo_inverse(matrix: &DMatrix<f64>, relative: f64) -> Option<(DMatrix<f64>, usize)> {
    let (values, vectors) = symmetric_eigen(matrix)?;
    let cut = relative * values.amax();
    let kept = |v: f64| v.abs() > cut;
    let rank = values.iter().filter(|&&v| kept(v)).count();
    Some((spectral(&values, &vectors, |v| if kept(v) { 1.0 / v } else { 0.0 }), rank))
}

/// A global minimiser of g^T s + s^T B s / 2 over |s| <= `radius`, for any symmetric B, indefinite ones included.
///
/// Works in the eigenbasis of B, where the step is s(mu) = -(B + mu)^-1 g and mu >= max(0, -lambda_min) solves |s(mu)| = radius
/// unless the Newton step is inside (More & Sorensen 1983, SIAM J. Sci. Stat. Comput. 4, 553-572). In the hard case, where g has
/// no component along the eigenvectors of the smallest eigenvalue, a multiple of one of them fills the radius. Where the model
/// has no finite entries the step is zero.
pub fn trust_region_step(gradient: &DVector<f64>, hessian: &DMatrix<f64>, radius: f64) -> DVector<f64> {
    let n = gradient.len();
    let finite = gradient.iter().all(|g| g.is_finite());
    match symmetric_eigen(hessian) {
        Some((values, vectors)) if n > 0 && finite && radius > 0.0 => {
            let components = vectors.tr_mul(gradient);
            &vectors * eigenbasis_step(&components, &values, radius)
        }
        _ => DVector::zeros(n),
    }
}

/// The trust-region step in the eigenbasis; `values` in increasing order.
///
/// The unknown is tau = mu + lambda_min instead of mu: near the hard case tau is many orders smaller than lambda_min.
fn eigenbasis_step(c: &DVector<f64>, values: &DVector<f64>, radius: f64) -> DVector<f64> {
    let n = c.len();
    let smallest = values[0];
    let rounding = 4.0 * f64::EPSILON * values.amax();
    let gaps = DVector::from_fn(n, |i, _| if values[i] - smallest <= rounding { 0.0 } else { values[i] - smallest });
    let step = |tau: f64| DVector::from_fn(n, |i, _| if c[i] == 0.0 { 0.0 } else { -c[i] / (gaps[i] + tau) });
    if smallest > 0.0 {
        let newton = step(smallest);
        if newton.norm() <= radius {
            return newton;
        }
    }
    // Components below rounding error of the gradient do not exist: dividing them by a vanishing shift would invent a step.
    let negligible = f64::EPSILON * c.amax();
    let lowest = smallest.max(0.0);
    let degenerate = |i: usize| gaps[i] == 0.0;
    if smallest <= rounding && (0..n).filter(|&i| degenerate(i)).all(|i| c[i].abs() <= negligible) {
        let mut regular = DVector::from_fn(n, |i, _| if degenerate(i) { 0.0 } else { -c[i] / gaps[i] });
        if regular.norm() <= radius {
            if smallest < -rounding {
                let rest = (radius * radius - regular.norm_squared()).max(0.0).sqrt();
                regular[0] = if c[0] > 0.0 { -rest } else { rest };
            }
            return regular;
        }
    }
    // |s(tau)| decreases for tau > lowest. Each component alone bounds the root from below, all together from above.
    let mut low = lowest;
    let mut high = (c.norm() / radius).max(lowest) * (1.0 + 4.0 * f64::EPSILON);
    let mut tau = (0..n).map(|i| c[i].abs() / radius - gaps[i]).fold(lowest, f64::max).min(high);
    let mut best = step(high);
    for _ in 0..200 {
        let s = step(tau);
        let length = s.norm();
        if (length / radius - 1.0).abs() <= 1e-12 {
            best = s;
            break;
        }
        if length <= radius {
            high = high.min(tau);
            best = s.clone();
        } else {
            low = low.max(tau);
        }
        // Newton step for 1 / radius - 1 / |s(tau)|, which is nearly linear (Hebden; More & Sorensen 1983, (3.9)).
        let slope: f64 = (0..n).filter(|&i| s[i] != 0.0).map(|i| s[i] * s[i] / (gaps[i] + tau)).sum();
        tau += (length / radius - 1.0) * length * length / slope;
        if !(tau > low && tau < high) {
            tau = 0.5 * (low + high);
        }
        if tau <= low || tau >= high {
            break;
        }
    }
    let length = best.norm();
    if length > radius && length.is_finite() { best * (radius / length) } else { best }
}

/// The decrease the quadratic model promises for a step: -(g^T s + s^T B s / 2).
pub fn predicted_reduction(gradient: &DVector<f64>, hessian: &DMatrix<f64>, step: &DVector<f64>) -> f64 {
    -(gradient.dot(step) + 0.5 * step.dot(&(hessian * step)))
}

/// Nodes (increasing) and weights of the `n`-point Gauss-Hermite rule for the standard normal density: sum w_k f(x_k) is the
/// expectation of f exactly for polynomials up to degree 2n - 1, and the weights sum to 1.
///
/// Nodes are eigenvalues of the Jacobi matrix with off-diagonal sqrt(k) (Golub & Welsch 1969), polished by Newton's method on the
/// orthonormal Hermite polynomials; weights are the Christoffel numbers 1 / sum_k p_k(x)^2.
pub fn gauss_hermite(n: usize) -> (Vec<f64>, Vec<f64>) {
    let jacobi = DMatrix::from_fn(n, n, |i, j| if i.abs_diff(j) == 1 { (i.max(j) as f64).sqrt() } else { 0.0 });
    let mut nodes: Vec<f64> = match symmetric_eigen(&jacobi) {
        Some((values, _)) => values.iter().copied().collect(),
        None => return (Vec::new(), Vec::new()),
    };
    // Values p_{n-1}(x), p_n(x) and the sum of squares of p_0 .. p_{n-1}, by the recurrence of the orthonormal polynomials.
    let polynomials = |x: f64| {
        let (mut previous, mut current, mut squares) = (0.0, 1.0, 0.0);
        for k in 0..n {
            squares += current * current;
            let next = (x * current - (k as f64).sqrt() * previous) / ((k + 1) as f64).sqrt();
            previous = current;
            current = next;
        }
        (previous, current, squares)
    };
    for x in &mut nodes {
        for _ in 0..3 {
            let (below, value, _) = polynomials(*x);
            let correction = value / ((n as f64).sqrt() * below);
            if correction.is_finite() {
                *x -= correction;
            }
        }
    }
    // The rule is symmetric; make it so to the last bit.
    for i in 0..n / 2 {
        let x = 0.5 * (nodes[n - 1 - i] - nodes[i]);
        nodes[i] = -x;
        nodes[n - 1 - i] = x;
    }
    if n % 2 == 1 {
        nodes[n / 2] = 0.0;
    }
    let mut weights: Vec<f64> = nodes.iter().map(|&x| 1.0 / polynomials(x).2).collect();
    let total: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= total;
    }
    (nodes, weights)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::{Purpose, normal, stream, uniform};

    fn random_matrix(n: usize, seed: u64) -> DMatrix<f64> {
        let mut generator = stream(seed, Purpose::Noise, 0);
        DMatrix::from_fn(n, n, |_, _| normal(&mut generator))
    }

    #[test]
    fn cholesky_of_a_known_matrix() {
        let a = DMatrix::from_row_slice(2, 2, &[4.0, 2.0, 2.0, 3.0]);
        let factor = cholesky(&a).unwrap();
        assert!((factor.log_determinant() - 8f64.ln()).abs() < 1e-15);
        let b = DVector::from_vec(vec![1.0, 2.0]);
        assert!((&a * factor.solve(&b) - &b).amax() < 1e-15);
        assert!((factor.whiten(&b).norm_squared() - b.dot(&factor.solve(&b))).abs() < 1e-15);
        assert!((factor.inverse() * &a - DMatrix::identity(2, 2)).amax() < 1e-15);
        assert!((factor.lower() * factor.lower().transpose() - a).amax() < 1e-15);
    }

    #[test]
    fn cholesky_refuses_what_is_not_positive_definite() {
        for entries in [[1.0, 2.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0, -1.0], [f64::NAN, 0.0, 0.0, 1.0]] {
            assert!(cholesky(&DMatrix::from_row_slice(2, 2, &entries)).is_none(), "{entries:?}");
        }
        assert_eq!(log_determinant(&DMatrix::zeros(0, 0)), Some(0.0));
    }

    #[test]
    fn eigenvalues_are_floored_and_inverted() {
        let a = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0, 1.0]); // eigenvalues -1 and 3
        let (floored, raised) = eigen_floor(&a, 0.1).unwrap();
        assert_eq!(raised, 1);
        let (values, _) = symmetric_eigen(&floored).unwrap();
        assert!((values[0] - 0.3).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14);
        let singular = DMatrix::from_row_slice(2, 2, &[1.0, 1.0, 1.0, 1.0]);
        let (inverse, rank) = pseudo_inverse(&singular, 1e-10).unwrap();
        assert_eq!(rank, 1);
        assert!((inverse - &singular * 0.25).amax() < 1e-15);
        assert!(pseudo_inverse(&DMatrix::from_element(2, 2, f64::NAN), 1e-10).is_none());
    }

    /// Checks the optimality conditions of More & Sorensen: (B + mu) s = -g, B + mu positive semidefinite, mu (radius - |s|) = 0.
    fn check_step(g: &DVector<f64>, b: &DMatrix<f64>, radius: f64) {
        let s = trust_region_step(g, b, radius);
        let scale = g.norm() + b.amax() * radius;
        assert!(s.norm() <= radius * (1.0 + 1e-10), "{} > {radius}", s.norm());
        let residual = -(g + b * &s);
        let mu = if s.norm_squared() > 0.0 { residual.dot(&s) / s.norm_squared() } else { 0.0 };
        assert!((residual - &s * mu).amax() <= 1e-9 * scale, "not stationary: {g} {b} {radius}");
        let (values, _) = symmetric_eigen(b).unwrap();
        assert!(values[0] + mu >= -1e-9 * (b.amax() + mu.abs()), "shift {mu} too small for {}", values[0]);
        assert!(mu >= -1e-9 * b.amax().max(1e-300));
        assert!(mu * (radius - s.norm()) <= 1e-8 * scale.max(1e-300), "slack {mu} {} {radius}", s.norm());
    }

    #[test]
    fn trust_region_step_is_optimal_for_random_models() {
        let mut generator = stream(3, Purpose::Noise, 1);
        for trial in 0..600 {
            let n = 1 + trial % 7;
            let root = random_matrix(n, trial as u64);
            let mut b = symmetrised(&root);
            match trial % 4 {
                0 => b = &root * root.transpose(),
                1 if n > 1 => {
                    // Singular and positive semidefinite.
                    let narrow = root.columns(0, n - 1).into_owned();
                    b = &narrow * narrow.transpose();
                }
                2 => {
                    let scaling = DMatrix::from_diagonal(&DVector::from_fn(n, |i, _| 10f64.powi(2 * i as i32)));
                    b = &scaling * b * &scaling;
                }
                _ => {}
            }
            let g = DVector::from_fn(n, |_, _| normal(&mut generator)) * 10f64.powf(4.0 * uniform(&mut generator) - 2.0);
            check_step(&g, &b, 10f64.powf(6.0 * uniform(&mut generator) - 3.0));
        }
    }

    #[test]
    fn trust_region_step_in_the_hard_case() {
        // No gradient along the direction of negative curvature: the step must use it nevertheless.
        let b = DMatrix::from_diagonal(&DVector::from_vec(vec![-2.0, 1.0, 3.0]));
        let g = DVector::from_vec(vec![0.0, 1.0, -1.0]);
        let s = trust_region_step(&g, &b, 5.0);
        assert!((s.norm() - 5.0).abs() < 1e-12);
        assert!((s[1] + 1.0 / 3.0).abs() < 1e-12 && (s[2] - 0.2).abs() < 1e-12, "{s}");
        check_step(&g, &b, 5.0);
        check_step(&g, &b, 0.1);
        // Saddle point: zero gradient.
        let s = trust_region_step(&DVector::zeros(3), &b, 2.0);
        assert!((s[0].abs() - 2.0).abs() < 1e-12 && s[1] == 0.0);
        // Nearly hard.
        check_step(&DVector::from_vec(vec![1e-13, 1.0, -1.0]), &b, 5.0);
        // Flat direction without gradient: the shortest solution.
        let b = DMatrix::from_diagonal(&DVector::from_vec(vec![0.0, 2.0]));
        let s = trust_region_step(&DVector::from_vec(vec![0.0, 1.0]), &b, 5.0);
        assert_eq!((s[0], s[1]), (0.0, -0.5));
        // Linear model, and nothing at all.
        let s = trust_region_step(&DVector::from_vec(vec![3.0, -4.0]), &DMatrix::zeros(2, 2), 2.0);
        assert!((s[0] + 1.2).abs() < 1e-12 && (s[1] - 1.6).abs() < 1e-12, "{s}");
        assert_eq!(trust_region_step(&DVector::zeros(2), &DMatrix::zeros(2, 2), 2.0).norm(), 0.0);
        assert_eq!(trust_region_step(&DVector::from_element(2, f64::NAN), &DMatrix::zeros(2, 2), 2.0).norm(), 0.0);
    }

    #[test]
    fn gauss_hermite_integrates_moments() {
        for n in 1..=30 {
            let (nodes, weights) = gauss_hermite(n);
            let mut moment = 1.0; // (2k - 1)!!
            for k in 0..n {
                if k > 0 {
                    moment *= (2 * k - 1) as f64;
                }
                let sum: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(2 * k as i32)).sum();
                // Condition: an error of one ulp in a node enters a moment 2k-fold.
                assert!((sum / moment - 1.0).abs() < 2e-15 * (2 * k + 4) as f64, "n {n}, moment {}: {}", 2 * k, sum / moment - 1.0);
                let odd: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(2 * k as i32 + 1)).sum();
                assert!(odd.abs() < 1e-15 * moment * (2 * k + 4) as f64, "n {n}, moment {}", 2 * k + 1);
            }
        }
        // Abramowitz & Stegun, table 25.10 (n = 5), nodes times sqrt 2 and weights over sqrt pi.
        let (nodes, weights) = gauss_hermite(5);
        assert!((nodes[4] - 2.020182870456086 * 2f64.sqrt()).abs() < 4e-15);
        assert!((weights[4] - 0.01995324205904591 / std::f64::consts::PI.sqrt()).abs() < 1e-16);
        assert!((weights[2] - 8.0 / 15.0).abs() < 1e-15);
        let (nodes, weights) = gauss_hermite(100);
        assert!(nodes.windows(2).all(|pair| pair[0] < pair[1]) && weights.iter().all(|w| *w > 0.0));
    }
}
