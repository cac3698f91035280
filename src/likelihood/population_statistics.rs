//! Statistics of a population as functions of its parameters: moments of simulated quantities over the random effects, their sampling
//! errors, and the likelihood of measured ones (NLME.md 2.5, 2.6, 3.4).
//!
//! All derivatives are by xi = (phi_typical, natural covariance parameters), in this order, by the reparametrisation b = L z at fixed
//! nodes z: dphi = dphi_typical + Z dL z.

use super::EvaluationError;
use super::covariance::Omega;
use super::nodes::Nodes;
use super::noise::density;
use super::subpopulations::Probabilities;
use crate::petab::NoiseDistribution;
use nalgebra::{DMatrix, DVector};
use statrs::function::gamma::ln_gamma;

/// Values of one individual and their Jacobian, as a [`PopulationModel`] gives them.
pub type NodeResult = Result<(Vec<f64>, DMatrix<f64>), EvaluationError>;

/// What to simulate for one individual of the population.
pub trait PopulationModel {
    /// Values at `phi` (n_values) and, if `derivatives` is set, their Jacobian by phi (n_values by n_phi, else 0 by 0). Values are whatever
    /// the statistics need: noise-free observables at times, and noise standard deviations.
    fn evaluate(&mut self, phi: &[f64], derivatives: bool) -> NodeResult;
}

/// A number with its gradient by xi (empty where derivatives were not asked for).
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    /// The number.
    pub value: f64,
    /// Its gradient.
    pub gradient: DVector<f64>,
}

impl Statistic {
    /// A number that depends on nothing; `n` is the length of its gradient.
    pub fn constant(value: f64, n: usize) -> Self {
        Statistic { value, gradient: DVector::zeros(n) }
    }

    /// f(self), given the value and derivative of f.
    fn map(self, value: f64, derivative: f64) -> Self {
        Statistic { value, gradient: self.gradient * derivative }
    }

    /// Linear combination: the value, and the gradient sum of d * gradient.
    fn combine(value: f64, parts: &[(f64, &Statistic)]) -> Self {
        let n = parts.first().map_or(0, |(_, s)| s.gradient.len());
        Statistic { value, gradient: parts.iter().fold(DVector::zeros(n), |sum, (d, s)| sum + &s.gradient * *d) }
    }
}

/// An observable within a sample of the population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Index of the noise-free observable among the values.
    pub value: usize,
    /// Index of its noise standard deviation among the values, where the statistic includes noise. It may vary between individuals.
    pub noise: Option<usize>,
}

/// A functional of the distribution over the population.
///
/// Means and covariances are unaffected by (independent) noise; variances include its expected variance. Noise matters to the sampling
/// errors of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Functional {
    /// Mean.
    Mean(Channel),
    /// Variance, with the expected noise variance.
    Variance(Channel),
    /// Square root of the variance.
    Sd(Channel),
    /// Variance of the natural logarithm of the observable, with the expected noise variance, which is on the logarithmic scale.
    LogVariance(Channel),
    /// Covariance of two observables.
    Covariance(Channel, Channel),
}

/// Simulated values of a weighted sample of the population with their derivatives by xi.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Weights, which sum to one.
    weights: DVector<f64>,
    /// Values, n_nodes by n_values.
    values: DMatrix<f64>,
    /// For each value its derivatives, n_xi by n_nodes; empty without derivatives.
    jacobians: Vec<DMatrix<f64>>,
    /// Length of xi, or 0 without derivatives.
    n_xi: usize,
    /// Weight of the nodes that were left out because their simulation failed.
    failed: f64,
    /// Components of xi on which the weights depend, the probabilities of subpopulations, and the derivatives of all weights by them.
    weight_slopes: Vec<(usize, DVector<f64>)>,
}

/// Largest weight of nodes that may fail. Leaving out more would bias the statistics.
const FAILED: f64 = 1e-3;

impl Sample {
    /// Simulates the individuals at all nodes, where effect k moves component `targets[k]` of phi.
    ///
    /// # Errors
    /// See [`Sample::collect`].
    pub fn evaluate<M: PopulationModel + ?Sized>(
        model: &mut M,
        phi_typical: &[f64],
        targets: &[usize],
        omega: &Omega,
        nodes: &Nodes,
        derivatives: bool,
    ) -> Result<Self, EvaluationError> {
        let results =
            (0..nodes.len()).map(|q| model.evaluate(&nodes.cell_parameters(q, phi_typical, targets, omega), derivatives)).collect();
        Sample::collect(nodes, targets, omega, results)
    }

    /// The sample from the results of all nodes in their order, as a [`PopulationModel`] gives them at
    /// [`Nodes::cell_parameters`]; for callers that simulate the nodes in parallel.
    ///
    /// # Errors
    /// The first error among the results if nodes with more than 0.1 % of the weight failed; fewer are left out.
    /// [`EvaluationError::Inner`] if there are no nodes.
    pub fn collect(nodes: &Nodes, targets: &[usize], omega: &Omega, results: Vec<NodeResult>) -> Result<Self, EvaluationError> {
        let mut failed = 0.0;
        let mut kept = Vec::with_capacity(results.len());
        for (q, result) in results.into_iter().enumerate() {
            match result {
                Ok((values, jacobian)) if values.iter().all(|v| v.is_finite()) => kept.push((q, values, jacobian)),
                other => {
                    failed += nodes.weights[q];
                    if failed > FAILED {
                        let default = || EvaluationError::Inner("a simulated value of the population is not finite".to_string());
                        return Err(other.err().unwrap_or_else(default));
                    }
                }
            }
        }
        let Some((_, first, jacobian)) = kept.first() else {
            return Err(EvaluationError::Inner("a population statistic has no simulated individuals".to_string()));
        };
        let (n_values, n_phi) = (first.len(), jacobian.ncols());
        let n_xi = if n_phi == 0 { 0 } else { n_phi + omega.dl.len() };
        let mut sample = Sample {
            weights: DVector::from_iterator(kept.len(), kept.iter().map(|(q, ..)| nodes.weights[*q] / (1.0 - failed))),
            values: DMatrix::zeros(kept.len(), n_values),
            jacobians: vec![DMatrix::zeros(n_xi, kept.len()); if n_phi == 0 { 0 } else { n_values }],
            n_xi,
            failed,
            weight_slopes: Vec::new(),
        };
        for (row, (q, values, jacobian)) in kept.iter().enumerate() {
            for (i, value) in values.iter().enumerate() {
                sample.values[(row, i)] = *value;
            }
            if n_phi == 0 {
                continue;
            }
            // db by each covariance parameter.
            let z = nodes.z.column(*q);
            let db: Vec<DVector<f64>> = omega.dl.iter().map(|dl| dl * z).collect();
            for (i, target) in sample.jacobians.iter_mut().enumerate() {
                for j in 0..n_phi {
                    target[(j, row)] = jacobian[(i, j)];
                }
                for (k, db) in db.iter().enumerate() {
                    target[(n_phi + k, row)] = targets.iter().zip(db.iter()).map(|(&j, db)| jacobian[(i, j)] * db).sum();
                }
            }
        }
        Ok(sample)
    }

    /// The sample of a mixture from those of its classes. Its xi has the xi of all classes in turn, then the parameters of `probabilities`.
    pub fn mixture(mut classes: Vec<Sample>, probabilities: &Probabilities) -> Self {
        if classes.len() == 1 {
            return classes.remove(0);
        }
        let (nodes, n_values) = (classes.iter().map(Sample::len).sum(), classes.first().map_or(0, |c| c.values.ncols()));
        let derivatives = classes.iter().any(|c| c.n_xi > 0);
        let of_classes: usize = classes.iter().map(|c| c.n_xi).sum();
        let n_xi = if derivatives { of_classes + probabilities.parameters.len() } else { 0 };
        let mut mixture = Sample {
            weights: DVector::zeros(nodes),
            values: DMatrix::zeros(nodes, n_values),
            jacobians: vec![DMatrix::zeros(n_xi, nodes); if derivatives { n_values } else { 0 }],
            n_xi,
            failed: 0.0,
            weight_slopes: Vec::new(),
        };
        if derivatives {
            mixture.weight_slopes = (of_classes..n_xi).map(|place| (place, DVector::zeros(nodes))).collect();
        }
        let (mut node, mut place) = (0, 0);
        for (c, class) in classes.iter().enumerate() {
            let (n, p) = (class.len(), probabilities.values[c]);
            mixture.weights.rows_mut(node, n).copy_from(&(&class.weights * p));
            mixture.values.rows_mut(node, n).copy_from(&class.values);
            for (all, own) in mixture.jacobians.iter_mut().zip(&class.jacobians) {
                all.view_mut((place, node), (class.n_xi, n)).copy_from(own);
            }
            for ((_, weights), slopes) in mixture.weight_slopes.iter_mut().zip(&probabilities.slopes) {
                weights.rows_mut(node, n).copy_from(&(&class.weights * slopes[c]));
            }
            mixture.failed += p * class.failed;
            (node, place) = (node + n, place + class.n_xi);
        }
        mixture
    }

    /// Number of nodes that have values.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Weight of the nodes that were left out because their simulation failed.
    pub fn failed(&self) -> f64 {
        self.failed
    }

    /// Length of the gradients: components of phi and covariance parameters, or 0 without derivatives.
    pub fn gradient_len(&self) -> usize {
        self.n_xi
    }

    /// Weights of the nodes.
    pub(super) fn weights(&self) -> &DVector<f64> {
        &self.weights
    }

    /// Value `i` at node `q`.
    pub(super) fn value(&self, q: usize, i: usize) -> f64 {
        self.values[(q, i)]
    }

    /// Derivative by xi of the sum over nodes of `coefficients` times value `i`.
    pub(super) fn derivative(&self, i: usize, coefficients: &DVector<f64>) -> DVector<f64> {
        if self.n_xi == 0 { DVector::zeros(0) } else { &self.jacobians[i] * coefficients }
    }

    /// Derivative by xi, through the weights, of the sum over nodes of weights times `values`.
    pub(super) fn weight_derivative(&self, values: &DVector<f64>) -> DVector<f64> {
        let mut gradient = DVector::zeros(self.n_xi);
        for (place, slopes) in &self.weight_slopes {
            gradient[*place] += slopes.dot(values);
        }
        gradient
    }

    /// Expectation of f over the population. f gets the values `indices` of an individual and returns its value and its derivatives by
    /// them.
    fn expectation<const N: usize>(&self, indices: [usize; N], f: impl Fn([f64; N]) -> (f64, [f64; N])) -> Statistic {
        let mut values = DVector::zeros(self.len());
        let mut coefficients = [(); N].map(|()| DVector::zeros(self.len()));
        for q in 0..self.len() {
            let (at, slopes) = f(indices.map(|i| self.values[(q, i)]));
            values[q] = at;
            for (c, slope) in coefficients.iter_mut().zip(slopes) {
                c[q] = self.weights[q] * slope;
            }
        }
        let start = self.weight_derivative(&values);
        let gradient = indices.iter().zip(&coefficients).fold(start, |sum, (i, c)| sum + self.derivative(*i, c));
        Statistic { value: self.weights.dot(&values), gradient }
    }

    /// Mean of value `i`.
    pub fn mean(&self, i: usize) -> Statistic {
        self.expectation([i], |[y]| (y, [1.0]))
    }

    /// Covariance of values `i` and `j`, without noise.
    pub fn covariance(&self, i: usize, j: usize) -> Statistic {
        let (a, b) = (self.mean(i).value, self.mean(j).value);
        // The derivatives of the means drop out, because the deviations have mean zero.
        self.expectation([i, j], |[y, z]| ((y - a) * (z - b), [z - b, y - a]))
    }

    /// Quantile of value `i` at probability `p`, linear between the midpoints of the weights. Meant for many equally weighted nodes.
    pub fn quantile(&self, i: usize, p: f64) -> Statistic {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|a, b| self.values[(*a, i)].total_cmp(&self.values[(*b, i)]));
        let mut coefficients = DVector::zeros(self.len());
        let mut through_weights = DVector::zeros(self.n_xi);
        let mut below = 0.0;
        let mut last: Option<(usize, f64)> = None;
        for (rank, &q) in order.iter().enumerate() {
            let middle = below + 0.5 * self.weights[q];
            below += self.weights[q];
            if middle >= p {
                match last {
                    Some((before, at)) => {
                        let (share, width) = ((p - at) / (middle - at), middle - at);
                        coefficients[q] = share;
                        coefficients[before] = 1.0 - share;
                        let jump = self.values[(q, i)] - self.values[(before, i)];
                        for (place, slopes) in &self.weight_slopes {
                            let d_at = order[..rank].iter().map(|q| slopes[*q]).sum::<f64>() - 0.5 * slopes[before];
                            let d_width = 0.5 * (slopes[before] + slopes[q]);
                            through_weights[*place] -= jump * (d_at + share * d_width) / width;
                        }
                    }
                    None => coefficients[q] = 1.0,
                }
                last = None;
                break;
            }
            last = Some((q, middle));
        }
        if let Some((q, _)) = last {
            coefficients[q] = 1.0;
        }
        let value = coefficients.iter().enumerate().filter(|(_, c)| **c != 0.0).map(|(q, c)| c * self.values[(q, i)]).sum();
        Statistic { value, gradient: self.derivative(i, &coefficients) + through_weights }
    }

    /// The functional of the population.
    ///
    /// # Errors
    /// [`EvaluationError::Density`] for the logarithm of a value that is not positive, or a standard deviation of zero.
    pub fn functional(&self, functional: Functional) -> Result<Statistic, EvaluationError> {
        match functional {
            Functional::Mean(channel) => Ok(self.mean(channel.value)),
            Functional::Variance(channel) => Ok(self.central_moments(channel, false)?.0),
            Functional::LogVariance(channel) => Ok(self.central_moments(channel, true)?.0),
            Functional::Covariance(first, second) => Ok(self.covariance(first.value, second.value)),
            Functional::Sd(channel) => {
                let variance = self.central_moments(channel, false)?.0;
                if variance.value.is_nan() || variance.value <= 0.0 {
                    return Err(EvaluationError::Density("the standard deviation of a population statistic is zero".to_string()));
                }
                let sd = variance.value.sqrt();
                Ok(variance.map(sd, 0.5 / sd))
            }
        }
    }

    /// Variance of the functional's estimate from a sample of `size` individuals, noise included (NLME.md 3.4-2): of the mean, C/n; of
    /// the unbiased variance, (mu4 - mu2^2 (n-3)/(n-1))/n; of the unbiased covariance, (mu22 - c12^2 (n-2)/(n-1) + c11 c22/(n-1))/n; of
    /// the standard deviation by the delta method. Estimates of different functionals from one sample are treated as independent
    /// elsewhere; their covariances (mu3/n between mean and variance) are left out.
    ///
    /// # Errors
    /// As for [`Sample::functional`]; [`EvaluationError::Density`] for fewer than two individuals.
    pub fn sampling_variance(&self, functional: Functional, size: u64) -> Result<Statistic, EvaluationError> {
        if size < 2 {
            return Err(EvaluationError::Density(format!("the sampling error of a statistic needs two individuals or more ({size})")));
        }
        let n = size as f64;
        match functional {
            Functional::Mean(channel) => {
                let (variance, _) = self.central_moments(channel, false)?;
                let value = variance.value / n;
                Ok(variance.map(value, 1.0 / n))
            }
            Functional::Variance(channel) | Functional::LogVariance(channel) | Functional::Sd(channel) => {
                let logarithm = matches!(functional, Functional::LogVariance(_));
                let (mu2, mu4) = self.central_moments(channel, logarithm)?;
                let factor = (n - 3.0) / (n - 1.0);
                let value = (mu4.value - mu2.value * mu2.value * factor) / n;
                let variance = Statistic::combine(value, &[(1.0 / n, &mu4), (-2.0 * mu2.value * factor / n, &mu2)]);
                if !matches!(functional, Functional::Sd(_)) {
                    return Ok(variance);
                }
                if mu2.value.is_nan() || mu2.value <= 0.0 {
                    return Err(EvaluationError::Density("the standard deviation of a population statistic is zero".to_string()));
                }
                let scale = 0.25 / mu2.value;
                Ok(Statistic::combine(value * scale, &[(scale, &variance), (-value * scale / mu2.value, &mu2)]))
            }
            Functional::Covariance(first, second) => {
                let (c11, c22) = (self.central_moments(first, false)?.0, self.central_moments(second, false)?.0);
                let c12 = self.covariance(first.value, second.value);
                let mu22 = self.mixed_moment(first, second);
                let (a, b) = ((n - 2.0) / (n - 1.0), 1.0 / (n - 1.0));
                let value = (mu22.value - c12.value * c12.value * a + c11.value * c22.value * b) / n;
                Ok(Statistic::combine(
                    value,
                    &[(1.0 / n, &mu22), (-2.0 * c12.value * a / n, &c12), (c22.value * b / n, &c11), (c11.value * b / n, &c22)],
                ))
            }
        }
    }

    /// Second and fourth central moments of an observable with noise: y = h + e with e ~ N(0, s^2) given the individual has
    /// mu2 = E d^2 + E s^2 and mu4 = E d^4 + 6 E d^2 s^2 + 3 E s^4, d = h - E h. With `logarithm` h is the logarithm of the value.
    fn central_moments(&self, channel: Channel, logarithm: bool) -> Result<(Statistic, Statistic), EvaluationError> {
        let i = channel.value;
        if logarithm && let Some(value) = self.values.column(i).iter().find(|v| **v <= 0.0) {
            return Err(EvaluationError::Density(format!(
                "the simulation of an individual is not positive, but the variance of its logarithm was measured ({value})"
            )));
        }
        // Observable and its derivative by the value.
        let transformed = |y: f64| if logarithm { (y.ln(), 1.0 / y) } else { (y, 1.0) };
        let mean = self.expectation([i], |[y]| {
            let (h, slope) = transformed(y);
            (h, [slope])
        });
        // Without noise the value itself stands in for s, with weight zero.
        let (s, noisy) = channel.noise.map_or((i, 0.0), |s| (s, 1.0));
        let second = self.expectation([i, s], |[y, s]| {
            let ((h, slope), v) = (transformed(y), noisy * s * s);
            let d = h - mean.value;
            (d * d + v, [2.0 * d * slope, noisy * 2.0 * s])
        });
        let fourth = |y: f64, s: f64| {
            let ((h, slope), v) = (transformed(y), noisy * s * s);
            let d = h - mean.value;
            let (by_d, by_v) = (4.0 * d.powi(3) + 12.0 * d * v, 6.0 * d * d + 6.0 * v);
            (d.powi(4) + 6.0 * d * d * v + 3.0 * v * v, by_d, by_d * slope, by_v * noisy * 2.0 * s)
        };
        let mut mu4 = self.expectation([i, s], |[y, s]| {
            let (value, _, by_y, by_s) = fourth(y, s);
            (value, [by_y, by_s])
        });
        let by_mean: f64 = (0..self.len()).map(|q| self.weights[q] * fourth(self.values[(q, i)], self.values[(q, s)]).1).sum();
        mu4.gradient -= &mean.gradient * by_mean;
        Ok((second, mu4))
    }

    /// E[(d1^2 + s1^2)(d2^2 + s2^2)] with the deviations d of two observables from their means and their independent noises: mu22 of the
    /// noisy observables.
    fn mixed_moment(&self, first: Channel, second: Channel) -> Statistic {
        let (mean1, mean2) = (self.mean(first.value), self.mean(second.value));
        let (s1, noisy1) = first.noise.map_or((first.value, 0.0), |s| (s, 1.0));
        let (s2, noisy2) = second.noise.map_or((second.value, 0.0), |s| (s, 1.0));
        let parts = |y1: f64, y2: f64, s1: f64, s2: f64| {
            let (d1, d2) = (y1 - mean1.value, y2 - mean2.value);
            (d1, d2, d1 * d1 + noisy1 * s1 * s1, d2 * d2 + noisy2 * s2 * s2)
        };
        let mut result = self.expectation([first.value, second.value, s1, s2], |[y1, y2, s1, s2]| {
            let (d1, d2, a, b) = parts(y1, y2, s1, s2);
            (a * b, [2.0 * d1 * b, 2.0 * d2 * a, noisy1 * 2.0 * s1 * b, noisy2 * 2.0 * s2 * a])
        });
        for q in 0..self.len() {
            let at = |i: usize| self.values[(q, i)];
            let (d1, d2, a, b) = parts(at(first.value), at(second.value), at(s1), at(s2));
            result.gradient -= (&mean1.gradient * (2.0 * d1 * b) + &mean2.gradient * (2.0 * d2 * a)) * self.weights[q];
        }
        result
    }
}

/// Negative log-likelihood of one measured statistic.
#[derive(Debug, Clone)]
pub struct StatisticTerm {
    /// Value, all constants included.
    pub value: f64,
    /// Gradient by xi.
    pub gradient: DVector<f64>,
    /// Gauss-Newton Hessian, by the expected information of the measurement's distribution: positive semidefinite.
    pub gauss_newton: DMatrix<f64>,
    /// Residual, whose square is the contribution to chi2.
    pub residual: f64,
}

/// Likelihood of the measured value of a statistic with standard deviation (or scale) `sd`, given or derived from a sampling variance.
///
/// # Errors
/// Those of [`density`].
pub fn statistic_term(
    distribution: NoiseDistribution,
    measurement: f64,
    statistic: &Statistic,
    sd: &Statistic,
) -> Result<StatisticTerm, EvaluationError> {
    let d = density(distribution, measurement, statistic.value, sd.value)?;
    let (y, s) = (&statistic.gradient, &sd.gradient);
    Ok(StatisticTerm {
        value: d.value,
        gradient: y * d.dy + s * d.ds,
        gauss_newton: y * y.transpose() * d.fisher_yy + s * s.transpose() * d.fisher_ss,
        residual: d.residual,
    })
}

/// Likelihood of the fraction `measurement` of `size` individuals, each with the probability `p`: binomial, with the factorials of numbers
/// that need not be whole by the gamma function.
///
/// # Errors
/// [`EvaluationError::Density`] if the fraction is none, or if the probability is 0 or 1 and the fraction is not.
pub fn fraction_term(measurement: f64, size: u64, p: &Statistic) -> Result<StatisticTerm, EvaluationError> {
    if !(0.0..=1.0).contains(&measurement) {
        return Err(EvaluationError::Density(format!("a measured fraction of individuals is not between 0 and 1 ({measurement})")));
    }
    let n = size as f64;
    let (with, without) = (n * measurement, n * (1.0 - measurement));
    // The terms of a count 0 vanish whatever the probability is.
    let part = |count: f64, p: f64| if count == 0.0 { (0.0, 0.0) } else { (-count * p.ln(), -count / p) };
    let ((a, da), (b, db)) = (part(with, p.value), part(without, 1.0 - p.value));
    let value = a + b - (ln_gamma(n + 1.0) - ln_gamma(with + 1.0) - ln_gamma(without + 1.0));
    if !value.is_finite() {
        return Err(EvaluationError::Density(format!(
            "a measured fraction of individuals has no probability under the fraction {}",
            p.value
        )));
    }
    let variance = p.value * (1.0 - p.value) / n;
    let information = if variance > 0.0 { 1.0 / variance } else { 0.0 };
    Ok(StatisticTerm {
        value,
        gradient: &p.gradient * (da - db),
        gauss_newton: &p.gradient * p.gradient.transpose() * information,
        residual: if variance > 0.0 { (measurement - p.value) / variance.sqrt() } else { 0.0 },
    })
}

/// Standard deviation from a sampling variance and a technical standard deviation in quadrature.
///
/// # Errors
/// [`EvaluationError::Density`] if the sum of the variances is not positive.
pub fn standard_deviation(sampling_variance: &Statistic, technical: &Statistic) -> Result<Statistic, EvaluationError> {
    let variance = sampling_variance.value + technical.value * technical.value;
    if variance.is_nan() || variance <= 0.0 {
        return Err(EvaluationError::Density(format!("the standard deviation of a population statistic is not positive ({variance})")));
    }
    let sd = variance.sqrt();
    Ok(Statistic::combine(sd, &[(0.5 / sd, sampling_variance), (technical.value / sd, technical)]))
}
