//! Marginal likelihood of one individual by importance sampling around its empirical Bayes estimate: unbiased for the likelihood, with an
//! error estimate, for any number of random effects.

use super::EvaluationError;
use super::covariance::Omega;
use super::ebe::cell_parameters;
use super::individual::{Conditional, ConditionalOrder, Scope};
use super::laplace::IndividualTerm;
use super::nodes::log_sum_exp;
use nalgebra::{DMatrix, DVector};
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;
use std::f64::consts::PI;

/// Draws from a standardised proposal distribution, to be shifted and scaled for each individual.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Draws, one column of length n_b for each.
    x: DMatrix<f64>,
    /// Log densities of the draws.
    log_density: Vec<f64>,
}

impl Proposal {
    /// Standard normal draws: the scores themselves, one column for each draw.
    pub fn normal(scores: &DMatrix<f64>) -> Proposal {
        let n = scores.nrows() as f64;
        let log_density = scores.column_iter().map(|x| -0.5 * x.norm_squared() - 0.5 * n * (2.0 * PI).ln()).collect();
        Proposal { x: scores.clone(), log_density }
    }

    /// Draws of the multivariate t distribution with `degrees` degrees of freedom, whose tails cover those of most posteriors. `scores`
    /// has n_b + 1 rows of standard normal scores; the last one becomes the chi-squared variable. `None` without rows or if `degrees` is
    /// not positive.
    pub fn student(scores: &DMatrix<f64>, degrees: f64) -> Option<Proposal> {
        let n = scores.nrows().checked_sub(1)?;
        let chi = ChiSquared::new(degrees).ok()?;
        let normal = Normal::standard();
        let mut x = scores.rows(0, n).into_owned();
        let constant = ln_gamma(0.5 * (degrees + n as f64)) - ln_gamma(0.5 * degrees) - 0.5 * n as f64 * (degrees * PI).ln();
        let mut log_density = Vec::with_capacity(scores.ncols());
        for (q, mut x) in x.column_iter_mut().enumerate() {
            let quantile = chi.inverse_cdf(normal.cdf(scores[(n, q)]));
            // The quantile underflows for scores far in the lower tail.
            x *= (degrees / quantile.max(1e-300)).sqrt();
            log_density.push(constant - 0.5 * (degrees + n as f64) * (x.norm_squared() / degrees).ln_1p());
        }
        Some(Proposal { x, log_density })
    }

    /// Draws, one column each, and their log densities.
    pub(super) fn parts(self) -> (DMatrix<f64>, Vec<f64>) {
        (self.x, self.log_density)
    }

    /// Number of draws.
    pub fn len(&self) -> usize {
        self.log_density.len()
    }

    /// Whether there are no draws.
    pub fn is_empty(&self) -> bool {
        self.log_density.is_empty()
    }
}

/// Marginal likelihood by importance sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Importance {
    /// Negative log marginal likelihood.
    pub value: f64,
    /// Standard error of the value for independent draws; quasi-random draws do better.
    pub standard_error: f64,
    /// Effective sample size (sum w)^2 / sum w^2.
    pub effective_sample_size: f64,
    /// Shape of the generalised Pareto distribution of the largest weights. Above 0.7 the result is not reliable (Vehtari, Simpson, Gelman,
    /// Yao and Gabry 2024). NaN with fewer than 25 draws.
    pub pareto_shape: f64,
    /// Draws at which the conditional likelihood had no value; they count as zero density.
    pub failed: usize,
}

/// Where a proposal is centred, and a square root of its covariance.
#[derive(Debug, Clone)]
struct Frame {
    centre: DVector<f64>,
    root: DMatrix<f64>,
}

/// Draws with their log weights.
struct Draws {
    b: Vec<DVector<f64>>,
    log_weights: Vec<f64>,
    failed: usize,
    failure: Option<EvaluationError>,
}

/// Integrates over the random effects with `proposal` shifted to the estimate of `laplace` and scaled by its posterior covariance. Where the
/// weights then show that the posterior is no such peak (a survivor's is cut off at an edge, or there are several modes), the proposal is
/// fitted to the posterior: first to draws from it and from the prior, then to draws from what was found, at most [`ADAPTATIONS`] times. The
/// result with the largest effective sample size counts.
///
/// # Errors
/// The last error of the conditional likelihood if every draw fails; [`EvaluationError::Inner`] if the sum of weights is not finite.
///
/// # Panics
/// If the proposal's dimension is not the number of random effects.
pub fn importance_sampling<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    laplace: &IndividualTerm,
    proposal: &Proposal,
) -> Result<Importance, EvaluationError> {
    assert_eq!(proposal.x.nrows(), targets.len(), "one component for each random effect");
    let mut draw = |frame: &Frame| draws(conditional, phi_typical, targets, omega, frame, proposal);
    let mut frame = Frame { centre: laplace.b.clone(), root: laplace.posterior_root.clone() };
    let mut at = draw(&frame);
    let first = estimate(&mut at);
    let n = proposal.len() as f64;
    let good = |i: &Importance| i.effective_sample_size >= 0.2 * n && (i.pareto_shape < 0.5 || i.pareto_shape.is_nan());
    if targets.is_empty() || first.as_ref().is_ok_and(good) {
        return first;
    }
    let mut best = first;
    // The prior's draws find what lies beside the mode.
    let wide = draw(&Frame { centre: DVector::zeros(targets.len()), root: omega.l.clone() });
    at.b.extend(wide.b);
    at.log_weights.extend(wide.log_weights);
    for _ in 0..ADAPTATIONS {
        let Some(next) = fitted(&at, targets.len()) else { break };
        frame = next;
        at = draw(&frame);
        let now = estimate(&mut at);
        let better = match (&now, &best) {
            (Ok(now), Ok(best)) => now.effective_sample_size > best.effective_sample_size,
            (now, _) => now.is_ok(),
        };
        if better {
            best = now;
        }
        if best.as_ref().is_ok_and(good) {
            break;
        }
    }
    best
}

/// How often a proposal is fitted to the posterior at most.
const ADAPTATIONS: usize = 4;

fn draws<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    frame: &Frame,
    proposal: &Proposal,
) -> Draws {
    let log_det_root = if targets.is_empty() { 0.0 } else { frame.root.determinant().abs().ln() };
    let constant = log_det_root - 0.5 * targets.len() as f64 * (2.0 * PI).ln();
    let mut result = Draws { b: Vec::new(), log_weights: Vec::with_capacity(proposal.len()), failed: 0, failure: None };
    for (x, log_density) in proposal.x.column_iter().zip(&proposal.log_density) {
        let b = &frame.centre + &frame.root * x;
        match conditional.evaluate(&cell_parameters(phi_typical, targets, &b), ConditionalOrder::Value, Scope::All) {
            Ok(data) => result.log_weights.push(constant - data.value - omega.prior(&b) - log_density),
            Err(error) => {
                // Where the density vanishes, as it does for deaths where the event never happens, the weight is 0.
                result.failed += usize::from(!matches!(error, EvaluationError::Density(_)));
                result.failure = Some(error);
                result.log_weights.push(f64::NEG_INFINITY);
            }
        }
        result.b.push(b);
    }
    result
}

fn estimate(draws: &mut Draws) -> Result<Importance, EvaluationError> {
    let n = draws.log_weights.len() as f64;
    let Some((log_sum, shares)) = log_sum_exp(&draws.log_weights) else {
        let default = EvaluationError::Inner("the marginal likelihood of an individual is not finite at any draw".to_string());
        return Err(draws.failure.take().unwrap_or(default));
    };
    let squares = shares.norm_squared();
    Ok(Importance {
        value: n.ln() - log_sum,
        // Coefficient of variation of the mean weight, which is the standard error of its logarithm to first order.
        standard_error: ((squares - 1.0 / n).max(0.0) * n / (n - 1.0)).sqrt(),
        effective_sample_size: 1.0 / squares,
        pareto_shape: pareto_shape(shares.as_slice()),
        failed: draws.failed,
    })
}

/// Mean and covariance of the posterior by weighted draws. Weights are cut at their tempered size where few draws carry all of them.
fn fitted(draws: &Draws, n: usize) -> Option<Frame> {
    let mut tempered = draws.log_weights.clone();
    for _ in 0..8 {
        let (_, shares) = log_sum_exp(&tempered)?;
        if 1.0 / shares.norm_squared() >= 4.0 * n as f64 + 4.0 {
            let centre = draws.b.iter().zip(shares.iter()).fold(DVector::zeros(n), |sum, (b, w)| sum + b * *w);
            let covariance = draws.b.iter().zip(shares.iter()).fold(DMatrix::zeros(n, n), |sum, (b, w)| {
                let d = b - &centre;
                sum + &d * d.transpose() * *w
            });
            return Some(Frame { centre, root: covariance.cholesky()?.l() });
        }
        tempered.iter_mut().for_each(|w| *w *= 0.5);
    }
    None
}

/// Shape of a generalised Pareto distribution fitted to the largest weights: Zhang and Stephens (2009), with the weak prior of Vehtari et
/// al. towards 1/2.
fn pareto_shape(weights: &[f64]) -> f64 {
    let n = weights.len();
    let tail = (0.2 * n as f64).min(3.0 * (n as f64).sqrt()) as usize;
    if tail < 5 {
        return f64::NAN;
    }
    let mut sorted = weights.to_vec();
    sorted.sort_by(f64::total_cmp);
    let threshold = sorted[n - tail - 1];
    let x: Vec<f64> = sorted[n - tail..].iter().map(|w| w - threshold).collect();
    let m = tail as f64;
    let (largest, quartile) = (x[tail - 1], x[((m / 4.0 + 0.5) as usize).max(1) - 1]);
    if !(quartile > 0.0 && largest.is_finite()) {
        // Equal weights have no tail.
        return if largest > 0.0 { f64::INFINITY } else { f64::NEG_INFINITY };
    }
    let shape = |theta: f64| x.iter().map(|x| (-theta * x).ln_1p()).sum::<f64>() / m;
    let grid = 30.0 + m.sqrt().floor();
    let thetas: Vec<f64> =
        (1..=grid as usize).map(|i| 1.0 / largest + (1.0 - (grid / (i as f64 - 0.5)).sqrt()) / (3.0 * quartile)).collect();
    let profile: Vec<f64> = thetas
        .iter()
        .map(|theta| {
            let k = shape(*theta);
            m * ((-theta / k).ln() - k - 1.0)
        })
        .collect();
    let Some((_, shares)) = log_sum_exp(&profile) else { return f64::NAN };
    let theta: f64 = thetas.iter().zip(shares.iter()).map(|(t, s)| t * s).sum();
    (shape(theta) * m + 5.0) / (m + 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_pareto_weights_is_found() {
        // Quantiles of a Pareto distribution with tail index 1/k.
        for k in [0.2, 0.5, 1.0] {
            let n = 20_000;
            let weights: Vec<f64> = (0..n).map(|i| (1.0 - (f64::from(i) + 0.5) / f64::from(n)).powf(-k)).collect();
            let found = pareto_shape(&weights);
            assert!((found - k).abs() < 0.05, "{found} is not {k}");
        }
        assert!(pareto_shape(&[1.0; 100]) < 0.0);
        assert!(pareto_shape(&[1.0; 10]).is_nan());
    }

    #[test]
    fn proposals_are_densities() {
        // One dimension: draws at the quantiles of the distribution average 1/density times a known density to one.
        let n = 2000;
        let scores = DMatrix::from_fn(2, n, |i, q| {
            let at = if i == 0 { (q as f64 + 0.5) / n as f64 } else { ((q as f64 + 0.5) * 0.618_033_988_749_894_9).fract() };
            Normal::standard().inverse_cdf(at)
        });
        for proposal in [Some(Proposal::normal(&scores.rows(0, 1).into_owned())), Proposal::student(&scores, 5.0)] {
            let proposal = proposal.unwrap_or(Proposal { x: DMatrix::zeros(0, 0), log_density: vec![] });
            let density = |x: f64| -0.5 * (x / 0.8).powi(2) - (0.8 * (2.0 * PI).sqrt()).ln();
            let mean = (0..n).map(|q| (density(proposal.x[(0, q)]) - proposal.log_density[q]).exp()).sum::<f64>() / n as f64;
            assert!((mean - 1.0).abs() < 2e-3, "{mean}");
        }
        assert!(Proposal::student(&scores, 0.0).is_none());
    }
}
