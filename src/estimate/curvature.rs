//! Where the trust-region method takes its curvature from: the Fisher information of the objective, quasi-Newton updates, or both.

use super::trust_region::Curvature;
use nalgebra::{DMatrix, DVector};

/// See `switch_model`.
const VOTES: usize = 2;

/// The current approximation of the Hessian.
#[derive(Debug, Clone)]
pub(super) struct Approximation {
    kind: Curvature,
    /// Fisher information at the current point, if the objective has one.
    fisher: Option<DMatrix<f64>>,
    /// Quasi-Newton matrix; for [`Curvature::Hybrid`] with a Fisher information only what that leaves out.
    secant: DMatrix<f64>,
    updated: bool,
    /// Hybrid: whether the model in use is Fisher information plus secant correction.
    corrected: bool,
    /// Hybrid: trials in a row on which the corrected model was the better one.
    votes: usize,
}

impl Approximation {
    /// At the first point. Without a Fisher information the curvature is the identity until the first update.
    pub fn new(kind: Curvature, n: usize, fisher: Option<DMatrix<f64>>) -> Approximation {
        let fisher = if matches!(kind, Curvature::Fisher | Curvature::Hybrid) { fisher } else { None };
        let secant = if fisher.is_some() { DMatrix::zeros(n, n) } else { DMatrix::identity(n, n) };
        Approximation { kind, fisher, secant, updated: false, corrected: false, votes: 0 }
    }

    /// The matrix of the model.
    pub fn matrix(&self) -> DMatrix<f64> {
        match &self.fisher {
            Some(fisher) if self.corrected => fisher + &self.secant,
            Some(fisher) => fisher.clone(),
            None => self.secant.clone(),
        }
    }

    /// Learns from a trial step `s` with change `y` of the gradient and `change` of the value. `gradient` is at the old point,
    /// `fisher` at the new one; `accepted` says whether the new point becomes the current one.
    pub fn learn(
        &mut self,
        s: &DVector<f64>,
        y: &DVector<f64>,
        change: f64,
        gradient: &DVector<f64>,
        fisher: Option<DMatrix<f64>>,
        accepted: bool,
    ) {
        match (self.kind, self.fisher.clone(), fisher) {
            (Curvature::Sr1, ..) => self.secant_update(s, y, false),
            (Curvature::Hybrid, Some(old), Some(new)) => {
                self.switch_model(s, change, gradient, &old);
                // A rejected step still tells the curvature on the way; its Fisher information is that of the far end.
                self.structured_update(s, y, &new);
                if accepted {
                    self.fisher = Some(new);
                }
            }
            (Curvature::Fisher, Some(_), new) => {
                if accepted && new.is_some() {
                    self.fisher = new;
                }
            }
            _ => self.secant_update(s, y, true),
        }
    }

    /// Takes the model, with or without correction, that predicts the change of the value better (after Dennis, Gay & Welsch 1981,
    /// NL2SOL, ACM Trans. Math. Softw. 7, 348-368). The correction has to be better by half, [`VOTES`] times in a row, because
    /// far from the optimum it is out of date; it is given up as soon as the Fisher information alone is better by half.
    fn switch_model(&mut self, s: &DVector<f64>, change: f64, gradient: &DVector<f64>, fisher: &DMatrix<f64>) {
        if !self.updated {
            return;
        }
        let plain = gradient.dot(s) + 0.5 * s.dot(&(fisher * s));
        let full = plain + 0.5 * s.dot(&(&self.secant * s));
        let (plain, full) = ((plain - change).abs(), (full - change).abs());
        self.votes = if plain > 1.5 * full { self.votes + 1 } else { 0 };
        if self.corrected {
            self.corrected = full <= 1.5 * plain;
        } else {
            self.corrected = self.votes >= VOTES;
        }
    }

    /// Forgets what steps have taught.
    pub fn forget(&mut self) {
        let n = self.secant.nrows();
        self.secant = if self.fisher.is_some() { DMatrix::zeros(n, n) } else { DMatrix::identity(n, n) };
        self.updated = false;
        self.corrected = false;
        self.votes = 0;
    }

    /// Whether the model in use is a Fisher information, known at the current point alone, rather than learnt from steps.
    pub fn is_local(&self) -> bool {
        self.fisher.is_some() && !self.corrected
    }

    /// Structured secant update (Dennis, Martinez & Tapia 1989, J. Optim. Theory Appl. 61, 161-178): the correction A changes such
    /// that (F + A) s = y at the new point. A is first sized down where it is too large (NL2SOL), so that it vanishes with the
    /// residuals.
    fn structured_update(&mut self, s: &DVector<f64>, y: &DVector<f64>, fisher: &DMatrix<f64>) {
        let wanted = s.dot(&(y - fisher * s)).abs();
        let present = s.dot(&(&self.secant * s)).abs();
        if wanted < present {
            self.secant *= wanted / present;
        }
        let total = fisher + &self.secant;
        if let Some(updated) = bfgs(&total, s, y).or_else(|| sr1(&total, s, y)) {
            self.secant = updated - fisher;
            self.updated = true;
        }
    }

    /// BFGS update, or the symmetric rank-one update.
    fn secant_update(&mut self, s: &DVector<f64>, y: &DVector<f64>, positive: bool) {
        let curvature = y.dot(s) / s.norm_squared();
        let mut base = self.secant.clone();
        if !self.updated && curvature > 0.0 && curvature.is_finite() {
            // The first curvature seen is a better scale than 1. BFGS corrects eigenvalues that are too small faster than those that
            // are too large, so it gets the smaller of the usual choices (Nocedal & Wright 2006, section 6.1); with that choice a
            // symmetric rank-one update would not exist.
            let scale = if positive { curvature } else { y.norm_squared() / y.dot(s) };
            base = DMatrix::identity(s.len(), s.len()) * scale;
        }
        let updated = if positive { bfgs(&base, s, y) } else { sr1(&base, s, y) };
        if let Some(updated) = updated {
            self.secant = updated;
            self.updated = true;
        }
    }
}

/// The BFGS update of `b`; None where it would lose positive definiteness.
fn bfgs(b: &DMatrix<f64>, s: &DVector<f64>, y: &DVector<f64>) -> Option<DMatrix<f64>> {
    let bs = b * s;
    let (sbs, sy) = (s.dot(&bs), s.dot(y));
    if sy <= 1e-10 * s.norm() * y.norm() || sbs <= 1e-14 * s.norm() * bs.norm() {
        return None;
    }
    let updated = b + y * y.transpose() / sy - &bs * bs.transpose() / sbs;
    crate::linalg::is_finite(&updated).then_some(updated)
}

/// The symmetric rank-one update of `b`; None where its denominator vanishes (Nocedal & Wright 2006, (6.26)).
fn sr1(b: &DMatrix<f64>, s: &DVector<f64>, y: &DVector<f64>) -> Option<DMatrix<f64>> {
    let r = y - b * s;
    let denominator = r.dot(s);
    if denominator.abs() <= 1e-8 * r.norm() * s.norm() {
        return None;
    }
    let updated = b + &r * r.transpose() / denominator;
    crate::linalg::is_finite(&updated).then_some(updated)
}
