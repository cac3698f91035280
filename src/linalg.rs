//! Small dense linear algebra that nalgebra lacks.

use nalgebra::{DMatrix, DVector};

/// The step s that minimises g's + 1/2 s'Hs within |s| <= radius, exactly, for any symmetric H (More and Sorensen 1983, by eigenvalues;
/// the hard case included).
pub fn trust_region_step(gradient: &DVector<f64>, hessian: &DMatrix<f64>, radius: f64) -> DVector<f64> {
    let eigen = hessian.clone().symmetric_eigen();
    let (values, vectors) = (&eigen.eigenvalues, &eigen.eigenvectors);
    let g = vectors.tr_mul(gradient);
    let n = g.len();
    let smallest = values.min();
    let largest = values.amax().max(f64::MIN_POSITIVE);
    let step = |shift: f64| DVector::from_fn(n, |i, _| if g[i] == 0.0 { 0.0 } else { -g[i] / (values[i] + shift) });
    // The Newton step, if it is a minimum and inside.
    if smallest > largest * 1e-14 {
        let s = step(0.0);
        if s.norm() <= radius {
            return vectors * s;
        }
    }
    // Otherwise |s(shift)| = radius with H + shift I positive semidefinite; the norm decreases with the shift.
    let floor = (-smallest).max(0.0);
    let edge = floor + largest * 1e-14;
    let at_edge = step(edge);
    if at_edge.norm() < radius {
        // Hard case: the gradient has no part along the most negative direction, which fills the step up to the boundary.
        let mut s = at_edge;
        if smallest < 0.0 {
            let i = values.imin();
            s[i] = 0.0;
            s[i] = (radius * radius - s.norm_squared()).max(0.0).sqrt() * if g[i] > 0.0 { -1.0 } else { 1.0 };
        }
        return vectors * s;
    }
    let (mut low, mut high) = (edge, edge + gradient.norm() / radius + largest);
    let mut shift = high;
    for _ in 0..200 {
        let s = step(shift);
        let norm = s.norm();
        if (norm - radius).abs() <= 1e-10 * radius {
            break;
        }
        if norm > radius {
            low = shift;
        } else {
            high = shift;
        }
        // Newton on 1/|s| - 1/radius, which is nearly linear in the shift.
        let derivative: f64 = (0..n).map(|i| s[i] * s[i] / (values[i] + shift)).sum();
        let newton = shift + (norm - radius) / radius * norm * norm / derivative;
        shift = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
    }
    vectors * step(shift)
}

/// Nodes and weights of Gauss-Hermite quadrature for the standard normal density: sum of w f(z) is the expectation of f, exact for
/// polynomials up to degree 2n - 1. Golub and Welsch (1969), polished by Newton's method.
pub fn gauss_hermite(n: usize) -> (Vec<f64>, Vec<f64>) {
    let jacobi = DMatrix::from_fn(n, n, |i, j| if i.abs_diff(j) == 1 { (i.max(j) as f64).sqrt() } else { 0.0 });
    let mut nodes: Vec<f64> = jacobi.symmetric_eigenvalues().iter().copied().collect();
    nodes.sort_by(f64::total_cmp);
    // Orthonormal polynomials p_0..p_n at z by their recurrence.
    let polynomials = |z: f64| {
        let mut p = vec![1.0, z];
        for k in 1..n.max(1) {
            let next = (z * p[k] - (k as f64).sqrt() * p[k - 1]) / ((k + 1) as f64).sqrt();
            p.push(next);
        }
        p
    };
    let mut weights = Vec::with_capacity(n);
    for z in &mut nodes {
        for _ in 0..3 {
            let p = polynomials(*z);
            // p_n' = sqrt(n) p_(n-1)
            *z -= p[n] / ((n as f64).sqrt() * p[n - 1]);
        }
        let p = polynomials(*z);
        weights.push(1.0 / p[..n].iter().map(|v| v * v).sum::<f64>());
    }
    (nodes, weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauss_hermite_gives_the_moments_of_the_normal_distribution() {
        for n in [1, 2, 5, 15, 21, 41] {
            let (z, w) = gauss_hermite(n);
            let moment = |k: i32| z.iter().zip(&w).map(|(z, w)| w * z.powi(k)).sum::<f64>();
            let mut exact = 1.0;
            for k in (0..2 * n as i32).step_by(2) {
                assert!((moment(k) / exact - 1.0).abs() < 1e-12, "n {n} moment {k}");
                exact *= f64::from(k + 1);
            }
            assert!(moment(1).abs() < 1e-13);
        }
    }

    #[test]
    fn steps_solve_the_subproblem() {
        let h = DMatrix::from_row_slice(3, 3, &[2.0, 0.5, 0.0, 0.5, -1.0, 0.3, 0.0, 0.3, 4.0]);
        let g = DVector::from_vec(vec![1.0, -0.2, 3.0]);
        let s = trust_region_step(&g, &h, 0.7);
        assert!((s.norm() - 0.7).abs() < 1e-8);
        let model = |s: &DVector<f64>| g.dot(s) + 0.5 * s.dot(&(&h * s));
        for i in 0..1000 {
            let a = f64::from(i);
            let t = DVector::from_vec(vec![a.sin(), (1.7 * a).cos(), (2.3 * a).sin()]).normalize() * 0.7;
            assert!(model(&s) <= model(&t) + 1e-9);
        }
        // Hard case: the gradient is orthogonal to the negative direction.
        let h = DMatrix::from_diagonal(&DVector::from_vec(vec![1.0, -2.0]));
        let s = trust_region_step(&DVector::from_vec(vec![1.0, 0.0]), &h, 1.0);
        assert!((s.norm() - 1.0).abs() < 1e-8 && (s[0] + 1.0 / 3.0).abs() < 1e-6);
        // Inside: the Newton step.
        let s = trust_region_step(&DVector::from_vec(vec![1.0, 1.0]), &DMatrix::identity(2, 2), 10.0);
        assert!((s[0] + 1.0).abs() < 1e-14);
    }
}
