//! Local uncertainty at an optimum: standard errors, correlations and intervals from the observed information, the Hessian of the
//! negative log-posterior, taken by differences of its gradient.

use crate::likelihood::{Estimated, EvaluationError, Objective, Order};
use crate::linalg;
use crate::petab::Scale;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

/// Quantile 0.975 of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// A parameter closer to a bound than this part of max(1, |bound|) (or of the width of the bounds, if that is less) lies on it.
const AT_BOUND: f64 = 1e-6;

/// Directions with less than this part of the largest scaled curvature count as undetermined, and so do those with less than the
/// error of the differences, of which the asymmetry of the matrix is a measure.
const FLAT: f64 = 1e-8;

/// A parameter with more than this squared part in undetermined directions gets no standard error.
const LOADING: f64 = 1e-3;

/// Which bound a parameter lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The lower one.
    Lower,
    /// The upper one.
    Upper,
}

/// Uncertainty of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterUncertainty {
    /// Value on the estimation scale.
    pub value: f64,
    /// The bound it lies on, if any; then it is held fixed and has neither standard error nor interval.
    pub at_bound: Option<Bound>,
    /// Standard error on the estimation scale. None at a bound and where the data do not determine the parameter.
    pub standard_error: Option<f64>,
    /// 95 % interval (Wald) on the estimation scale; may reach beyond the bounds.
    pub interval: Option<(f64, f64)>,
    /// The interval mapped to the natural scale.
    pub natural_interval: Option<(f64, f64)>,
}

/// Uncertainty of all parameters, on the estimation scale. Matrices are n by n.
#[derive(Debug, Clone)]
pub struct Uncertainty {
    /// One entry for each parameter, in their order.
    pub parameters: Vec<ParameterUncertainty>,
    /// Observed information (Hessian of the negative log-posterior); zero in rows and columns of parameters at a bound.
    pub information: DMatrix<f64>,
    /// Its inverse over the parameters that are not at a bound; None where it is not positive definite: then the point is no strict
    /// minimum, or the data do not determine some combination of parameters. Parameters that have no part in such a
    /// combination keep their standard errors.
    pub covariance: Option<DMatrix<f64>>,
    /// Correlations; NaN in rows and columns of parameters without a standard error.
    pub correlation: DMatrix<f64>,
    /// Parameters at a bound, which are held fixed.
    pub at_bound: Vec<bool>,
    /// Number of directions that the data do not determine.
    pub undetermined: usize,
    /// Ratio of the largest to the smallest eigenvalue of the information scaled to unit diagonal (infinite if it is singular).
    pub condition: f64,
}

impl Uncertainty {
    /// Standard error of parameter `k`; None at a bound and where the data do not determine it.
    pub fn standard_error(&self, k: usize) -> Option<f64> {
        self.parameters.get(k)?.standard_error
    }
}

/// Covariance of the estimates if the model need not be right, the sandwich A^-1 (sum of s s^T) A^-1 with the inverse observed information A^-1 =
/// `covariance` and the gradients `scores` of the independent terms of the likelihood (White 1982). It is that of [`Uncertainty`] in the
/// limit of many terms of a right model.
pub fn sandwich(covariance: &DMatrix<f64>, scores: &[DVector<f64>]) -> DMatrix<f64> {
    let n = covariance.nrows();
    let columns = DMatrix::from_fn(n, scores.len(), |i, j| scores[j][i]);
    let half = covariance * columns;
    &half * half.transpose()
}

/// Uncertainty at the optimum `x` (estimation scale). The information comes from central differences of the gradient, two
/// evaluations for each free parameter; next to a bound from one-sided differences of second order. Parameters are done in
/// parallel, each with a memory of its own, so the result does not depend on threads. Steps without a value are tried again
/// shorter; if that does not help, the error is returned.
pub fn uncertainty<O: Objective>(objective: &O, x: &[f64]) -> Result<Uncertainty, EvaluationError> {
    uncertainty_from(objective, x, &objective.memory())
}

/// Like [`uncertainty`], with what is known from evaluations near `x`.
pub fn uncertainty_from<O: Objective>(objective: &O, x: &[f64], memory: &O::Memory) -> Result<Uncertainty, EvaluationError> {
    let parameters = objective.parameters();
    let n = x.len();
    let at_bound: Vec<Option<Bound>> = parameters.iter().zip(x).map(|(p, &value)| bound_of(p, value)).collect();
    let free: Vec<usize> = (0..n).filter(|&i| at_bound[i].is_none()).collect();
    let mut memory = memory.clone();
    let centre = objective.evaluate(x, Order::Fisher, &mut memory)?;
    let columns: Vec<Result<DVector<f64>, EvaluationError>> = free
        .par_iter()
        .map(|&i| {
            let curvature = centre.fisher.as_ref().map_or(f64::NAN, |f| f[(i, i)]);
            let mut differences = Differences { objective, x, gradient: &centre.gradient, memory: memory.clone() };
            differences.column(i, step(&parameters[i], x[i], curvature))
        })
        .collect();
    let mut information = DMatrix::zeros(free.len(), free.len());
    for (column, derivative) in columns.into_iter().enumerate() {
        information.set_column(column, &derivative?.select_rows(&free));
    }
    Ok(summarise(parameters, x, at_bound, &free, &information))
}

/// Uncertainty at the optimum `x` from an information matrix by all parameters.
pub fn uncertainty_of(parameters: &[Estimated], x: &[f64], information: &DMatrix<f64>) -> Uncertainty {
    let at_bound: Vec<Option<Bound>> = parameters.iter().zip(x).map(|(p, &value)| bound_of(p, value)).collect();
    let free: Vec<usize> = (0..x.len()).filter(|&i| at_bound[i].is_none()).collect();
    let own = DMatrix::from_fn(free.len(), free.len(), |i, j| information[(free[i], free[j])]);
    summarise(parameters, x, at_bound, &free, &own)
}

/// The bound that a value lies on.
fn bound_of(parameter: &Estimated, value: f64) -> Option<Bound> {
    let width = parameter.upper - parameter.lower;
    let close = |bound: f64| bound.is_finite() && (value - bound).abs() <= AT_BOUND * bound.abs().max(1.0).min(width);
    if close(parameter.lower) {
        Some(Bound::Lower)
    } else if close(parameter.upper) {
        Some(Bound::Upper)
    } else {
        None
    }
}

/// Length of a difference step: a fiftieth of the standard error that the Fisher information gives the parameter alone, within
/// 1e-5 to 1e-2 of its size; 1e-3 of its size where there is none. The size is 1 on logarithmic scales.
fn step(parameter: &Estimated, value: f64, curvature: f64) -> f64 {
    let size = match parameter.scale {
        Scale::Log | Scale::Log10 => 1.0,
        Scale::Lin if value != 0.0 => value.abs(),
        Scale::Lin => (parameter.upper - parameter.lower).min(1.0),
    };
    let wanted = 0.02 / curvature.sqrt();
    if wanted.is_finite() { wanted.clamp(1e-5 * size, 1e-2 * size) } else { 1e-3 * size }
}

/// Differences of the gradient around a point.
struct Differences<'a, O: Objective> {
    objective: &'a O,
    x: &'a [f64],
    gradient: &'a DVector<f64>,
    memory: O::Memory,
}

impl<O: Objective> Differences<'_, O> {
    /// Derivative of the gradient by parameter `i`.
    fn column(&mut self, i: usize, step: f64) -> Result<DVector<f64>, EvaluationError> {
        let mut h = step;
        let mut attempts = 0;
        loop {
            match self.try_column(i, h) {
                Err(_) if attempts < 3 => {
                    attempts += 1;
                    h *= 0.1;
                }
                result => return result,
            }
        }
    }

    fn try_column(&mut self, i: usize, h: f64) -> Result<DVector<f64>, EvaluationError> {
        let parameter = &self.objective.parameters()[i];
        let (below, above) = (self.x[i] - parameter.lower, parameter.upper - self.x[i]);
        if below >= h && above >= h {
            return Ok((self.at(i, h)? - self.at(i, -h)?) / (2.0 * h));
        }
        // (-3 g(x) + 4 g(x + h) - g(x + 2 h)) / 2 h, away from the nearer bound, within the other one.
        let (room, sign) = if below < above { (above, 1.0) } else { (below, -1.0) };
        let h = sign * h.min(0.5 * room);
        Ok((self.at(i, h)? * 4.0 - self.at(i, 2.0 * h)? - self.gradient * 3.0) / (2.0 * h))
    }

    /// The gradient at x + h e_i.
    fn at(&mut self, i: usize, h: f64) -> Result<DVector<f64>, EvaluationError> {
        let mut x = self.x.to_vec();
        x[i] += h;
        Ok(self.objective.evaluate(&x, Order::Gradient, &mut self.memory)?.gradient)
    }
}

/// Standard errors and the rest from the information of the free parameters, symmetric up to errors of the differences.
fn summarise(parameters: &[Estimated], x: &[f64], at_bound: Vec<Option<Bound>>, free: &[usize], raw: &DMatrix<f64>) -> Uncertainty {
    let (n, m) = (x.len(), free.len());
    let hessian = linalg::symmetrised(raw);
    // Scaled to unit diagonal, so that what counts as flat does not depend on the units of the parameters.
    let scale = DVector::from_fn(m, |i, _| {
        let curvature = hessian[(i, i)].abs();
        if curvature > 0.0 && curvature.is_finite() { curvature.sqrt() } else { 1.0 }
    });
    let scaled = DMatrix::from_fn(m, m, |i, j| hessian[(i, j)] / (scale[i] * scale[j]));
    let asymmetry = DMatrix::from_fn(m, m, |i, j| 0.5 * (raw[(i, j)] - raw[(j, i)]) / (scale[i] * scale[j])).norm();
    let mut covariance = DMatrix::from_element(m, m, f64::NAN);
    let mut determined = vec![false; m];
    let mut undetermined = m;
    let mut condition = f64::INFINITY;
    if let Some((values, vectors)) = linalg::symmetric_eigen(&scaled) {
        let flat = (FLAT * values.amax()).max(asymmetry);
        let is_flat = |k: usize| values[k] <= flat;
        undetermined = (0..m).filter(|&k| is_flat(k)).count();
        if m > 0 && values[0] > 0.0 {
            condition = values[m - 1] / values[0];
        }
        for (i, entry) in determined.iter_mut().enumerate() {
            let loading: f64 = (0..m).filter(|&k| is_flat(k)).map(|k| vectors[(i, k)].powi(2)).sum();
            *entry = loading <= LOADING;
        }
        // The pseudo-inverse, which is the inverse if no direction is flat.
        covariance = DMatrix::from_fn(m, m, |i, j| {
            let sum: f64 = (0..m).filter(|&k| !is_flat(k)).map(|k| vectors[(i, k)] * vectors[(j, k)] / values[k]).sum();
            sum / (scale[i] * scale[j])
        });
    }
    let errors: Vec<Option<f64>> = (0..m).map(|i| determined[i].then(|| covariance[(i, i)].sqrt()).filter(|e| e.is_finite())).collect();
    let mut correlation = DMatrix::from_element(n, n, f64::NAN);
    for i in 0..m {
        for j in 0..m {
            if let (Some(a), Some(b)) = (errors[i], errors[j]) {
                correlation[(free[i], free[j])] = if i == j { 1.0 } else { covariance[(i, j)] / (a * b) };
            }
        }
    }
    let describe =
        |(&value, &at_bound)| ParameterUncertainty { value, at_bound, standard_error: None, interval: None, natural_interval: None };
    let mut described: Vec<ParameterUncertainty> = x.iter().zip(&at_bound).map(describe).collect();
    for (&i, error) in free.iter().zip(errors) {
        let interval = error.map(|e| (x[i] - Z95 * e, x[i] + Z95 * e));
        described[i].standard_error = error;
        described[i].interval = interval;
        let unscale = |value| parameters[i].scale.unscale(value);
        described[i].natural_interval = interval.map(|(low, high)| (unscale(low), unscale(high)));
    }
    let positive_definite = undetermined == 0 && linalg::cholesky(&hessian).is_some();
    let spread = |matrix: &DMatrix<f64>| {
        let mut whole = DMatrix::zeros(n, n);
        for i in 0..m {
            for j in 0..m {
                whole[(free[i], free[j])] = matrix[(i, j)];
            }
        }
        whole
    };
    Uncertainty {
        parameters: described,
        information: spread(&hessian),
        covariance: positive_definite.then(|| spread(&covariance)),
        correlation,
        at_bound: at_bound.iter().map(Option::is_some).collect(),
        undetermined,
        condition,
    }
}
