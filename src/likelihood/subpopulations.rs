//! Subpopulations: the classes of a mixture, in which parameters have other values (petab_problems/EXTENSION.md, section "Subpopulations").
//!
//! A population without them is one class of probability one.

use super::EvaluationError;
use super::nodes::log_sum_exp;
use crate::petab::{Nlme, TableValue};

/// The classes of a population, at least one.
#[derive(Debug, Clone)]
pub struct Subpopulations {
    classes: Vec<Class>,
}

/// A class.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// Identifier; empty where there is one class only.
    pub id: String,
    probability: Option<TableValue>,
    values: Vec<(usize, TableValue)>,
}

/// Probabilities of the classes with their derivatives.
#[derive(Debug, Clone, PartialEq)]
pub struct Probabilities {
    /// One value per class.
    pub values: Vec<f64>,
    /// The parameters behind them, as rows of the parameter table.
    pub parameters: Vec<usize>,
    /// For each parameter the derivatives of all values by it, on its natural scale.
    pub slopes: Vec<Vec<f64>>,
}

impl Subpopulations {
    /// Those of the extension's table.
    pub fn new(nlme: &Nlme) -> Self {
        let class = |s: &crate::petab::Subpopulation| Class { id: s.id.clone(), probability: s.probability, values: s.values.clone() };
        let mut classes: Vec<Class> = nlme.subpopulations.iter().map(class).collect();
        if classes.is_empty() {
            classes.push(Class::default());
        }
        Subpopulations { classes }
    }

    /// The classes.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Probabilities at natural parameter values.
    ///
    /// # Errors
    /// [`EvaluationError::Density`] where one of them is negative or their sum is not one.
    pub fn probabilities(&self, natural: &[f64]) -> Result<Probabilities, EvaluationError> {
        let mut values = vec![0.0; self.classes.len()];
        let (mut parameters, mut slopes): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        let rest = self.classes.iter().position(|c| c.probability.is_none());
        for (c, class) in self.classes.iter().enumerate() {
            match class.probability {
                None => {}
                Some(TableValue::Number(p)) => values[c] = p,
                Some(TableValue::Parameter(theta)) => {
                    values[c] = natural[theta];
                    let k = parameters.iter().position(|p| *p == theta).unwrap_or_else(|| {
                        parameters.push(theta);
                        slopes.push(vec![0.0; self.classes.len()]);
                        parameters.len() - 1
                    });
                    slopes[k][c] += 1.0;
                    if let Some(rest) = rest {
                        slopes[k][rest] -= 1.0;
                    }
                }
            }
        }
        if let Some(rest) = rest {
            values[rest] = 1.0 - values.iter().sum::<f64>();
        }
        let sum: f64 = values.iter().sum();
        if values.iter().any(|p| !(0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-9 {
            return Err(EvaluationError::Density(format!("the probabilities of the subpopulations are {values:?}")));
        }
        Ok(Probabilities { values, parameters, slopes })
    }
}

impl Class {
    /// The row of the parameter table that has the value of row `theta` in this class; `None` where it is a number.
    pub fn source(&self, theta: usize) -> Option<usize> {
        match self.values.iter().find(|(target, _)| *target == theta) {
            None => Some(theta),
            Some((_, TableValue::Parameter(source))) => Some(*source),
            Some((_, TableValue::Number(_))) => None,
        }
    }

    /// Natural values of all rows of the parameter table in this class.
    pub fn natural(&self, natural: &[f64]) -> Vec<f64> {
        let mut values = natural.to_vec();
        for (target, value) in &self.values {
            values[*target] = match value {
                TableValue::Number(number) => *number,
                TableValue::Parameter(source) => natural[*source],
            };
        }
        values
    }
}

/// What an individual has in the classes, put together.
#[derive(Debug, Clone)]
pub struct Mixed<R> {
    /// -log of the sum over the classes of probability times likelihood.
    pub value: f64,
    /// Classes in which the data have a density: the probability that the individual is of it, given its data, and the result.
    pub members: Vec<(usize, f64, R)>,
}

impl Probabilities {
    /// Puts the results of all classes together; `value` is the negative log-likelihood in a class.
    ///
    /// # Errors
    /// The first error, except that data may have no density in some classes.
    pub fn mix<R>(
        &self,
        results: impl Iterator<Item = Result<R, EvaluationError>>,
        value: impl Fn(&R) -> f64,
    ) -> Result<Mixed<R>, EvaluationError> {
        let mut found = Vec::with_capacity(self.values.len());
        let mut failure = None;
        for (class, result) in results.enumerate() {
            match result {
                Ok(result) => found.push((class, result)),
                Err(error @ EvaluationError::Density(_)) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let logs: Vec<f64> = found.iter().map(|(class, result)| self.values[*class].ln() - value(result)).collect();
        let Some((log_sum, shares)) = log_sum_exp(&logs) else {
            let default = || EvaluationError::Density("the data of an individual have no density in any subpopulation".to_string());
            return Err(failure.unwrap_or_else(default));
        };
        let members = found.into_iter().zip(shares.iter()).map(|((class, result), share)| (class, *share, result)).collect();
        Ok(Mixed { value: -log_sum, members })
    }

    /// The class of a draw `u`, uniform between 0 and 1.
    pub fn draw(&self, u: f64) -> usize {
        let mut below = 0.0;
        let found = self.values.iter().position(|p| {
            below += p;
            u < below
        });
        // Rounding may leave the sum just below one.
        found.unwrap_or_else(|| self.values.iter().rposition(|p| *p > 0.0).unwrap_or(0))
    }
}
