//! Closed-form models behind the traits of the mixed-effects likelihoods.

use mixode::likelihood::EvaluationError;
use mixode::likelihood::individual::{Conditional, ConditionalOrder, ConditionalValue, Scope};
use nalgebra::{DMatrix, DVector};

/// Data of one individual with simulation y(t, phi) and noise s(phi), both with first and second derivatives by phi.
pub struct Cell<F> {
    pub n_phi: usize,
    pub data: Vec<(f64, f64)>,
    /// (t, phi) to the value, gradient and Hessian of y, and of the logarithm of s.
    pub model: F,
    /// Number of evaluations with derivatives.
    pub evaluations: usize,
}

pub type Jet = (f64, DVector<f64>, DMatrix<f64>);

impl<F: Fn(f64, &[f64]) -> Option<(Jet, Jet)>> Conditional for Cell<F> {
    fn dimension(&self) -> usize {
        self.n_phi
    }

    fn evaluate(&mut self, phi: &[f64], order: ConditionalOrder, _scope: Scope) -> Result<ConditionalValue, EvaluationError> {
        let n = self.n_phi;
        let (mut value, mut gradient) = (0.0, DVector::zeros(n));
        let (mut gauss_newton, mut hessian) = (DMatrix::zeros(n, n), DMatrix::zeros(n, n));
        self.evaluations += usize::from(order > ConditionalOrder::Value);
        for &(t, m) in &self.data {
            let Some(((y, dy, ddy), (log_s, ds, dds))) = (self.model)(t, phi) else {
                return Err(EvaluationError::Inner("outside the domain of the model".to_string()));
            };
            // In terms of log s: 1/2 ((m - y)/s)^2 + log s + 1/2 log 2 pi.
            let s = log_s.exp();
            let r = (m - y) / s;
            value += 0.5 * r * r + log_s + 0.5 * (2.0 * std::f64::consts::PI).ln();
            gradient += &dy * (-r / s) + &ds * (1.0 - r * r);
            let gn = &dy * dy.transpose() / (s * s)
                + (&dy * ds.transpose() + &ds * dy.transpose()) * (2.0 * r / s)
                + &ds * ds.transpose() * (2.0 * r * r);
            hessian += &gn + ddy * (-r / s) + dds * (1.0 - r * r);
            gauss_newton += gn;
        }
        Ok(ConditionalValue { value, gradient, gauss_newton: Some(gauss_newton), hessian: Some(hessian) })
    }
}

/// A model of [`Cell`] as an object.
pub type Model = Box<dyn Fn(f64, &[f64]) -> Option<(Jet, Jet)>>;

fn constant(value: f64, n: usize) -> Jet {
    (value, DVector::zeros(n), DMatrix::zeros(n, n))
}

/// y = phi_0 + phi_1 t with noise exp(phi_2).
pub fn line() -> Model {
    Box::new(|t, phi| {
        let y = (phi[0] + phi[1] * t, DVector::from_vec(vec![1.0, t, 0.0]), DMatrix::zeros(3, 3));
        Some((y, (phi[2], DVector::from_vec(vec![0.0, 0.0, 1.0]), DMatrix::zeros(3, 3))))
    })
}

/// x2 of the conversion reaction with derivatives by (log theta1, log theta2), NLME.md 1.3: x2 = u + v E with u = p/k, v = (q - p)/k,
/// E = exp(-k t), k = p + q.
pub fn conversion_x2(t: f64, a: f64, c: f64) -> Jet {
    let (p, q) = (a.exp(), c.exp());
    let k = p + q;
    let e = (-k * t).exp();
    let (k2, k3) = (k * k, k * k * k);
    let (u, v) = (p / k, (q - p) / k);
    let (up, uq, vp, vq) = (q / k2, -p / k2, -2.0 * q / k2, 2.0 * p / k2);
    let (upp, uqq, upq) = (-2.0 * q / k3, 2.0 * p / k3, (p - q) / k3);
    let (vpp, vqq, vpq) = (4.0 * q / k3, -4.0 * p / k3, 2.0 * (q - p) / k3);
    let (xp, xq) = (up + (vp - t * v) * e, uq + (vq - t * v) * e);
    let xpp = upp + (vpp - 2.0 * t * vp + t * t * v) * e;
    let xqq = uqq + (vqq - 2.0 * t * vq + t * t * v) * e;
    let xpq = upq + (vpq - t * (vp + vq) + t * t * v) * e;
    let cross = p * q * xpq;
    let hessian = DMatrix::from_row_slice(2, 2, &[p * xp + p * p * xpp, cross, cross, q * xq + q * q * xqq]);
    (u + v * e, DVector::from_vec(vec![p * xp, q * xq]), hessian)
}

/// y = s x2 with phi = (log theta1, log theta2, log s) and constant noise.
pub fn conversion(sigma: f64) -> Model {
    Box::new(move |t, phi| {
        let (x, dx, ddx) = conversion_x2(t, phi[0], phi[1]);
        let s = phi[2].exp();
        let y = s * x;
        let gradient = DVector::from_vec(vec![s * dx[0], s * dx[1], y]);
        let mut hessian = DMatrix::zeros(3, 3);
        hessian.view_mut((0, 0), (2, 2)).copy_from(&(ddx * s));
        for j in 0..3 {
            hessian[(2, j)] = gradient[j];
            hessian[(j, 2)] = gradient[j];
        }
        Some(((y, gradient, hessian), constant(sigma.ln(), 3)))
    })
}
