//! The map between the vector an optimiser sees (estimated parameters on their scales) and natural values.

use super::simulated::Direction;
use super::{Estimated, prior};
use crate::petab::{Problem, Scale};

/// Estimation vector and parameter table.
#[derive(Debug, Clone)]
pub struct ParameterMap {
    estimated: Vec<Estimated>,
    rows: Vec<usize>,
    nominal: Vec<f64>,
}

impl ParameterMap {
    /// The map of a problem: estimated parameters in the table's order.
    pub fn new(problem: &Problem) -> Self {
        let nominal = problem.parameters.iter().map(|p| p.nominal.unwrap_or(f64::NAN)).collect();
        let rows: Vec<usize> = (0..problem.parameters.len()).filter(|i| problem.parameters[*i].estimate).collect();
        let estimated = rows
            .iter()
            .map(|i| {
                let p = &problem.parameters[*i];
                let (lower, upper) = prior::limits(p, problem.version);
                Estimated {
                    id: p.id.clone(),
                    scale: p.scale,
                    lower: p.scale.scale(lower),
                    upper: p.scale.scale(upper),
                    nominal: p.scale.scale(p.nominal.unwrap_or(f64::NAN)),
                    start: prior::start(p, problem.version),
                }
            })
            .collect();
        ParameterMap { estimated, rows, nominal }
    }

    /// The estimated parameters.
    pub fn estimated(&self) -> &[Estimated] {
        &self.estimated
    }

    /// Row of the parameter table of estimated parameter `k`.
    pub fn theta(&self, k: usize) -> usize {
        self.rows[k]
    }

    /// Natural values of the whole parameter table at `x`.
    pub fn natural(&self, x: &[f64]) -> Vec<f64> {
        let mut values = self.nominal.clone();
        for ((row, e), x) in self.rows.iter().zip(&self.estimated).zip(x) {
            values[*row] = e.scale.unscale(*x);
        }
        values
    }

    /// Nominal values of the whole parameter table.
    pub fn nominal(&self) -> &[f64] {
        &self.nominal
    }

    /// The estimation vector for natural values of the whole parameter table.
    pub fn scaled(&self, natural: &[f64]) -> Vec<f64> {
        self.rows.iter().zip(&self.estimated).map(|(row, e)| e.scale.scale(natural[*row])).collect()
    }

    /// The direction of estimated parameter `k` at its natural value.
    pub fn direction(&self, k: usize, natural: f64) -> Direction {
        scale_direction(self.rows[k], self.estimated[k].scale, natural)
    }
}

/// The direction that moves row `theta` along its estimation scale.
pub fn scale_direction(theta: usize, scale: Scale, natural: f64) -> Direction {
    let first = scale.derivative(natural);
    let second = match scale {
        Scale::Lin => 0.0,
        Scale::Log => natural,
        Scale::Log10 => natural * std::f64::consts::LN_10.powi(2),
    };
    Direction { theta, first, second, paired: true }
}
