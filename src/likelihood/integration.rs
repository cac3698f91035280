//! The choice of an individual's marginal likelihood.

use super::cubature::MOST_EFFECTS;
use super::individual::Curvature;
use super::simulated_individual::View;
use std::fmt;
use std::str::FromStr;

/// How the random effects of a single individual are integrated out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integration {
    /// First-order method (FO): the model linearised at the typical individual.
    FirstOrder,
    /// First-order conditional estimation (FOCE): linearised at the estimate, with the noise of the typical individual.
    Conditional,
    /// First-order conditional estimation with interaction (FOCEI): the expected information in the determinant.
    ConditionalInteraction,
    /// Laplace's approximation with the Gauss-Newton matrix.
    GaussNewton,
    /// Laplace's approximation with the exact Hessian.
    #[default]
    Laplace,
    /// Adaptive Gauss-Hermite quadrature with so many nodes for each effect.
    GaussHermite(usize),
    /// Importance sampling with so many quasi-random draws.
    Importance(usize),
    /// Adaptive cubature, where there are few enough random effects.
    Exact,
}

/// Nodes for each effect, and draws, where a hint names the method only.
const NODES: usize = 5;
const DRAWS: usize = 1024;

/// Nodes around one individual's estimate, at most.
const MOST_NODES: usize = 1_000_000;

impl Integration {
    /// Matrix in the determinant of the Laplace approximation.
    pub fn curvature(self) -> Curvature {
        match self {
            Integration::FirstOrder | Integration::Conditional | Integration::ConditionalInteraction => Curvature::Expected,
            Integration::GaussNewton => Curvature::GaussNewton,
            Integration::Laplace | Integration::GaussHermite(_) | Integration::Importance(_) | Integration::Exact => Curvature::Exact,
        }
    }

    /// The model of the measurements to which it is applied.
    pub fn view(self) -> View {
        match self {
            Integration::FirstOrder => View::Linearised,
            Integration::Conditional => View::TypicalNoise,
            _ => View::Simulated,
        }
    }

    /// Why individuals with `n` random effects are too many for it, if so.
    pub fn too_many_effects(self, n: usize) -> Option<String> {
        match self {
            Integration::Exact if n > MOST_EFFECTS => {
                Some(format!("the exact marginal likelihood of individuals with more than {MOST_EFFECTS} random effects"))
            }
            Integration::GaussHermite(points)
                if u32::try_from(n).ok().and_then(|n| points.checked_pow(n)).is_none_or(|k| k > MOST_NODES) =>
            {
                Some(format!("the method {self} with more than {MOST_NODES} nodes for an individual"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Integration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Integration::FirstOrder => f.write_str("fo"),
            Integration::Conditional => f.write_str("foce"),
            Integration::ConditionalInteraction => f.write_str("focei"),
            Integration::GaussNewton => f.write_str("gauss-newton"),
            Integration::Laplace => f.write_str("laplace"),
            Integration::GaussHermite(n) => write!(f, "agq={n}"),
            Integration::Importance(n) => write!(f, "importance={n}"),
            Integration::Exact => f.write_str("exact"),
        }
    }
}

impl FromStr for Integration {
    type Err = String;

    /// Reads the name of a method, as the command line has it or (with `_`) as hints of problems have it.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| wrong(text))?)),
            None => (text, None),
        };
        match (name.replace('_', "-").as_str(), number) {
            ("fo", None) => Ok(Integration::FirstOrder),
            ("foce", None) => Ok(Integration::Conditional),
            ("focei", None) => Ok(Integration::ConditionalInteraction),
            ("gauss-newton", None) => Ok(Integration::GaussNewton),
            ("laplace", None) => Ok(Integration::Laplace),
            ("exact", None) => Ok(Integration::Exact),
            ("agq" | "gauss-hermite", n) => Ok(Integration::GaussHermite(n.unwrap_or(NODES))),
            ("importance", n) => Ok(Integration::Importance(n.unwrap_or(DRAWS))),
            _ => Err(wrong(text)),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is none of fo, foce, focei, gauss-newton, laplace, agq=NODES, importance=DRAWS, exact")
}
