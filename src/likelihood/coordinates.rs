//! Coordinates of an individual's parameter vector phi: the scale on which a random effect is added, or the estimation scale.

use super::simulated::{Direction, Rows};
use super::subpopulations::Class;
use crate::petab::{Problem, RandomEffect, Scale, Transformation};

/// A coordinate of phi and the row of theta it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinate {
    /// Row of the parameter table.
    pub theta: usize,
    /// The row whose value it has: another one where a subpopulation puts that in its place.
    pub source: usize,
    /// The scale.
    pub kind: CoordinateKind,
}

/// Scale of a coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CoordinateKind {
    /// phi = theta.
    Lin,
    /// phi = log theta.
    Log,
    /// phi = log10 theta.
    Log10,
    /// phi = log((theta - lower)/(upper - theta)).
    Logit(f64, f64),
}

impl From<Scale> for CoordinateKind {
    fn from(scale: Scale) -> Self {
        match scale {
            Scale::Lin => CoordinateKind::Lin,
            Scale::Log => CoordinateKind::Log,
            Scale::Log10 => CoordinateKind::Log10,
        }
    }
}

impl From<Transformation> for CoordinateKind {
    fn from(transformation: Transformation) -> Self {
        match transformation {
            Transformation::Additive => CoordinateKind::Lin,
            Transformation::Log => CoordinateKind::Log,
            Transformation::Logit(lower, upper) => CoordinateKind::Logit(lower, upper),
        }
    }
}

impl CoordinateKind {
    /// phi at a natural value.
    pub fn of(self, natural: f64) -> f64 {
        match self {
            CoordinateKind::Lin => natural,
            CoordinateKind::Log => natural.ln(),
            CoordinateKind::Log10 => natural.log10(),
            CoordinateKind::Logit(lower, upper) => ((natural - lower) / (upper - natural)).ln(),
        }
    }

    /// Natural value at phi, with its first and second derivative.
    pub fn natural(self, phi: f64) -> (f64, f64, f64) {
        match self {
            CoordinateKind::Lin => (phi, 1.0, 0.0),
            CoordinateKind::Log => {
                let value = phi.exp();
                (value, value, value)
            }
            CoordinateKind::Log10 => {
                let (value, ln10) = (10f64.powf(phi), std::f64::consts::LN_10);
                (value, value * ln10, value * ln10 * ln10)
            }
            CoordinateKind::Logit(lower, upper) => {
                let p = 1.0 / (1.0 + (-phi).exp());
                let width = upper - lower;
                (lower + width * p, width * p * (1.0 - p), width * p * (1.0 - p) * (1.0 - 2.0 * p))
            }
        }
    }
}

impl Coordinate {
    /// The direction of this coordinate at phi, and the natural value.
    pub fn direction(self, phi: f64) -> (f64, Direction) {
        let (value, first, second) = self.kind.natural(phi);
        (value, Direction { theta: self.theta, first, second, paired: true })
    }

    /// dphi/dx for x the parameter on its estimation scale, at its natural value.
    pub fn chain(self, scale: Scale, natural: f64) -> f64 {
        let (_, first, _) = self.kind.natural(self.kind.of(natural));
        scale.derivative(natural) / first
    }
}

/// Coordinates of phi for one simulation and the random effects that move them.
#[derive(Debug, Clone)]
pub struct Coordinates {
    /// The coordinates.
    pub all: Vec<Coordinate>,
    /// Which of them random effects move.
    pub random: Vec<bool>,
    /// Random effects (indices) that reach the rows.
    pub effects: Vec<usize>,
    /// Coordinate that each of them moves.
    pub targets: Vec<usize>,
}

impl Coordinates {
    /// Coordinates of everything that `rows` depend on and that is estimated or random, for individuals of `class`.
    pub fn new(problem: &Problem, effects: &[RandomEffect], rows: &Rows, class: &Class) -> Result<Self, String> {
        let applies = |e: &RandomEffect| e.experiments.as_ref().is_none_or(|list| list.contains(&rows.experiment));
        let mut result = Coordinates { all: Vec::new(), random: Vec::new(), effects: Vec::new(), targets: Vec::new() };
        for theta in &rows.reaching {
            let Some(source) = class.source(*theta) else { continue };
            let acting: Vec<usize> = (0..effects.len()).filter(|k| effects[*k].target == source && applies(&effects[*k])).collect();
            if acting.is_empty() && !problem.parameters[source].estimate {
                continue;
            }
            let kind = match acting.first() {
                Some(k) => CoordinateKind::from(effects[*k].transformation),
                None => CoordinateKind::from(problem.parameters[source].scale),
            };
            if let Some(other) = acting.iter().find(|k| CoordinateKind::from(effects[**k].transformation) != kind) {
                return Err(format!(
                    "random effects with different transformations on one parameter (`{}` on `{}`)",
                    effects[*other].id, problem.parameters[source].id
                ));
            }
            if !acting.is_empty() && result.all.iter().any(|c| c.source == source) {
                return Err(format!(
                    "a parameter with random effects that a subpopulation puts in the place of two others (`{}` in `{}`)",
                    problem.parameters[source].id, class.id
                ));
            }
            result.targets.extend(acting.iter().map(|_| result.all.len()));
            result.random.push(!acting.is_empty());
            result.effects.extend(acting);
            result.all.push(Coordinate { theta: *theta, source, kind });
        }
        // Effects in the problem's order, as the covariance has them.
        let mut order: Vec<usize> = (0..result.effects.len()).collect();
        order.sort_by_key(|i| result.effects[*i]);
        result.targets = order.iter().map(|i| result.targets[*i]).collect();
        result.effects = order.iter().map(|i| result.effects[*i]).collect();
        Ok(result)
    }

    /// phi of the typical individual.
    pub fn typical(&self, natural: &[f64]) -> Vec<f64> {
        self.all.iter().map(|c| c.kind.of(natural[c.source])).collect()
    }
}
