//! Flux balance analysis: the fluxes of reactions in steady state that make an objective as large or small as possible.
//!
//! The linear programme: optimise c·v subject to N v = 0 for every species that reactions change, and to the limits of v. As there
//! are often many optima, the one of the smallest total flux Σ|v| is taken, which has no idle cycles. The solver is a simplex method
//! (crate `microlp`).
//!
//! Source: SBML Level 3 Package, Flux Balance Constraints, Version 2, section 1.1; Orth, Thiele & Palsson 2010; for the choice
//! among optima Lewis et al. 2010 (parsimonious enzyme usage).

use crate::expr::{Ast, AstKind, Graph};
use crate::sbml::{FluxLimit, FluxValue, Model, Objective};
use indexmap::IndexMap;
use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};
use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

/// A flux that reaches this where it has no limit has none: the programme is solved again with this limit to say which.
const HUGE: f64 = 1e6;

/// The least by which a species must miss its balance to be named as a cause.
const IMBALANCE: f64 = 1e-6;

/// How much of the objective may be given up for a smaller total flux, relative to 1 + |objective|, where rounding demands it.
const SLACK: f64 = 1e-9;

/// An optimum.
#[derive(Debug, Clone)]
pub struct Optimum {
    /// Value of the objective.
    pub objective: f64,
    /// Fluxes by reaction, in the order of the model.
    pub fluxes: IndexMap<String, f64>,
}

/// Why there is no optimum.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum FluxBalanceError {
    /// The model has no objective.
    #[error("the model has no active objective of the package fbc")]
    NoObjective,
    /// A limit is a parameter without a constant value.
    #[error("the flux bound `{0}` has no constant value")]
    NoValue(String),
    /// A coefficient of a reaction has no constant value.
    #[error("the stoichiometry of `{species}` in reaction `{reaction}` has no constant value")]
    NoStoichiometry {
        /// Reaction id.
        reaction: String,
        /// Species id.
        species: String,
    },
    /// The limits of one flux exclude each other.
    #[error("the limits of reaction `{reaction}` exclude each other: its flux is at least {lower} and at most {upper}")]
    Contradiction {
        /// Reaction id.
        reaction: String,
        /// Lower limit.
        lower: f64,
        /// Upper limit.
        upper: f64,
    },
    /// No fluxes within the limits keep the species constant.
    #[error("no fluxes within their limits keep every species constant; out of balance: {}", list(.0))]
    Infeasible(Vec<String>),
    /// The objective has no limit.
    #[error("the objective has no limit; without limit grow the fluxes {}", list(.fluxes))]
    Unbounded {
        /// Whether it grows to positive infinity.
        upwards: bool,
        /// Reactions whose fluxes grow with it.
        fluxes: Vec<String>,
    },
    /// The solver gave up.
    #[error("the linear programme could not be solved: {0}")]
    Solver(String),
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The programme in numbers: one column for each reaction, one row for each species that must be in balance.
struct Programme<'m> {
    reactions: Vec<&'m str>,
    limits: Vec<(f64, f64)>,
    cost: Vec<f64>,
    maximize: bool,
    rows: IndexMap<&'m str, Vec<(usize, f64)>>,
}

/// The fluxes that optimise the active objective of a model.
///
/// Units: those of the limits.
/// Fails: if there is no objective, a limit or stoichiometry is no constant, or there is no finite optimum; see [`FluxBalanceError`].
pub fn optimize(model: &Model) -> Result<Optimum, FluxBalanceError> {
    let programme = Programme::new(model)?;
    let first = match programme.solve(&programme.limits) {
        Ok(fluxes) => fluxes,
        Err(microlp::Error::Infeasible) => return Err(FluxBalanceError::Infeasible(programme.out_of_balance())),
        Err(microlp::Error::Unbounded) => {
            return Err(FluxBalanceError::Unbounded { upwards: programme.maximize, fluxes: programme.without_limit() });
        }
        Err(error) => return Err(FluxBalanceError::Solver(error.to_string())),
    };
    let objective = programme.value(&first);
    // If rounding leaves no room for the second step even so, the first optimum is as good as any.
    let slack = SLACK * (1.0 + objective.abs());
    let fluxes = programme.smallest(objective, 0.0).or_else(|| programme.smallest(objective, slack)).unwrap_or(first);
    Ok(Optimum { objective, fluxes: programme.reactions.iter().zip(fluxes).map(|(id, flux)| ((*id).to_owned(), flux)).collect() })
}

impl<'m> Programme<'m> {
    fn new(model: &'m Model) -> Result<Self, FluxBalanceError> {
        let balance = model.flux_balance.as_ref();
        let objective: Option<&Objective> = balance.and_then(|b| b.objectives.get(b.active?));
        let (Some(balance), Some(objective)) = (balance, objective) else { return Err(FluxBalanceError::NoObjective) };
        let constants = constants(model);
        let reactions: Vec<&str> = model.reactions.iter().map(|r| r.id.as_str()).collect();
        let index: FxHashMap<&str, usize> = reactions.iter().enumerate().map(|(i, id)| (*id, i)).collect();

        let mut limits = vec![(f64::NEG_INFINITY, f64::INFINITY); reactions.len()];
        for bound in &balance.bounds {
            let value = match &bound.value {
                FluxValue::Number(value) => *value,
                FluxValue::Parameter(id) => *constants.get(id.as_str()).ok_or_else(|| FluxBalanceError::NoValue(id.clone()))?,
            };
            if value.is_nan() {
                return Err(FluxBalanceError::NoValue(bound.span.text().to_owned()));
            }
            let Some(limit) = index.get(bound.reaction.as_str()).map(|i| &mut limits[*i]) else { continue };
            if bound.limit != FluxLimit::Upper {
                limit.0 = limit.0.max(value);
            }
            if bound.limit != FluxLimit::Lower {
                limit.1 = limit.1.min(value);
            }
        }
        let is_possible = |(lower, upper): (f64, f64)| lower <= upper && lower < f64::INFINITY && upper > f64::NEG_INFINITY;
        if let Some(i) = limits.iter().position(|limit| !is_possible(*limit)) {
            let (lower, upper) = limits[i];
            return Err(FluxBalanceError::Contradiction { reaction: reactions[i].to_owned(), lower, upper });
        }

        let mut cost = vec![0.0; reactions.len()];
        for term in &objective.terms {
            if let Some(i) = index.get(term.reaction.as_str()) {
                cost[*i] += term.coefficient;
            }
        }
        let mut rows: IndexMap<&str, Vec<(usize, f64)>> =
            model.species.iter().filter(|s| !s.boundary && !s.constant).map(|s| (s.id.as_str(), Vec::new())).collect();
        for (i, reaction) in model.reactions.iter().enumerate() {
            let sides = reaction.reactants.iter().map(|r| (r, -1.0)).chain(reaction.products.iter().map(|r| (r, 1.0)));
            for (reference, sign) in sides {
                let Some(row) = rows.get_mut(reference.species.as_str()) else { continue };
                let named = reference.id.as_deref().and_then(|id| constants.get(id));
                let computed = reference.stoichiometry_math.as_ref().and_then(|formula| value(formula, &constants));
                let assigned = |id: &str| model.initial_assignments.iter().chain(&model.assignment_rules).any(|a| a.variable == id);
                let is_open = reference.stoichiometry_math.is_some() || reference.id.as_deref().is_some_and(assigned);
                let plain = (!is_open).then(|| reference.stoichiometry.unwrap_or(1.0));
                let number = named.copied().or(computed).or(plain).filter(|n| n.is_finite());
                let number = number.ok_or_else(|| FluxBalanceError::NoStoichiometry {
                    reaction: reaction.id.clone(),
                    species: reference.species.clone(),
                })?;
                match row.iter_mut().find(|(column, _)| *column == i) {
                    Some((_, total)) => *total += sign * number,
                    None => row.push((i, sign * number)),
                }
            }
        }
        rows.retain(|_, row| row.iter().any(|(_, number)| *number != 0.0));
        Ok(Programme { reactions, limits, cost, maximize: objective.maximize, rows })
    }

    fn value(&self, fluxes: &[f64]) -> f64 {
        // An empty sum of floats would be minus zero.
        self.cost.iter().zip(fluxes).fold(0.0, |sum, (c, v)| sum + c * v)
    }

    fn direction(&self) -> OptimizationDirection {
        if self.maximize { OptimizationDirection::Maximize } else { OptimizationDirection::Minimize }
    }

    fn balance(&self, problem: &mut Problem, columns: &[Variable]) {
        for row in self.rows.values() {
            let terms: Vec<(Variable, f64)> = row.iter().map(|(i, number)| (columns[*i], *number)).collect();
            problem.add_constraint(&terms, ComparisonOp::Eq, 0.0);
        }
    }

    /// Fluxes of an optimum within limits.
    fn solve(&self, limits: &[(f64, f64)]) -> Result<Vec<f64>, microlp::Error> {
        let mut problem = Problem::new(self.direction());
        let columns: Vec<Variable> = self.cost.iter().zip(limits).map(|(cost, limit)| problem.add_var(*cost, *limit)).collect();
        self.balance(&mut problem, &columns);
        values(&problem, &columns)
    }

    /// The fluxes of the smallest total among those whose objective is as good, up to a slack.
    fn smallest(&self, objective: f64, slack: f64) -> Option<Vec<f64>> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let columns: Vec<Variable> = self.limits.iter().map(|limit| problem.add_var(0.0, *limit)).collect();
        for column in &columns {
            let size = problem.add_var(1.0, (0.0, f64::INFINITY));
            problem.add_constraint([(size, 1.0), (*column, -1.0)], ComparisonOp::Ge, 0.0);
            problem.add_constraint([(size, 1.0), (*column, 1.0)], ComparisonOp::Ge, 0.0);
        }
        self.balance(&mut problem, &columns);
        let terms: Vec<(Variable, f64)> = columns.iter().copied().zip(self.cost.iter().copied()).filter(|(_, c)| *c != 0.0).collect();
        match (terms.is_empty(), self.maximize) {
            (true, _) => {}
            (_, true) => problem.add_constraint(&terms, ComparisonOp::Ge, objective - slack),
            (_, false) => problem.add_constraint(&terms, ComparisonOp::Le, objective + slack),
        }
        values(&problem, &columns).ok()
    }

    /// Species that stay out of balance when the sum of all imbalances is as small as possible.
    fn out_of_balance(&self) -> Vec<String> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let columns: Vec<Variable> = self.limits.iter().map(|limit| problem.add_var(0.0, *limit)).collect();
        let mut sides = Vec::new();
        for row in self.rows.values() {
            let [missing, surplus] = [(); 2].map(|()| problem.add_var(1.0, (0.0, f64::INFINITY)));
            let terms = row.iter().map(|(i, number)| (columns[*i], *number)).chain([(missing, 1.0), (surplus, -1.0)]);
            problem.add_constraint(terms.collect::<Vec<_>>(), ComparisonOp::Eq, 0.0);
            sides.extend([missing, surplus]);
        }
        let imbalances = values(&problem, &sides).unwrap_or_default();
        let named = self.rows.keys().zip(imbalances.chunks(2)).filter(|(_, sides)| sides.iter().any(|s| *s > IMBALANCE));
        named.map(|(species, _)| (*species).to_owned()).collect()
    }

    /// Reactions whose fluxes grow with an objective that has no limit.
    fn without_limit(&self) -> Vec<String> {
        let limits: Vec<(f64, f64)> = self.limits.iter().map(|(lower, upper)| (lower.max(-HUGE), upper.min(HUGE))).collect();
        let fluxes = self.solve(&limits).unwrap_or_default();
        let grows = |i: &usize| {
            let ((lower, upper), flux) = (self.limits[*i], fluxes[*i]);
            (flux >= HUGE * 0.999 && upper == f64::INFINITY) || (flux <= -HUGE * 0.999 && lower == f64::NEG_INFINITY)
        };
        (0..fluxes.len()).filter(grows).map(|i| self.reactions[i].to_owned()).collect()
    }
}

/// Values of some variables at the optimum of a problem.
fn values(problem: &Problem, columns: &[Variable]) -> Result<Vec<f64>, microlp::Error> {
    let outcome = problem.solve()?;
    let solution = outcome.into_solution().map_err(|_| microlp::Error::InternalError("the solver was interrupted".to_owned()))?;
    Ok(columns.iter().map(|column| solution.var_value(*column)).collect())
}

/// Values that a model fixes: numbers it gives, and what initial assignments and assignment rules make of them.
fn constants(model: &Model) -> FxHashMap<&str, f64> {
    let mut open: Vec<(&str, &Ast)> =
        model.initial_assignments.iter().chain(&model.assignment_rules).map(|a| (a.variable.as_str(), &a.formula)).collect();
    let computed: FxHashSet<&str> = open.iter().map(|(id, _)| *id).collect();
    let parameters = model.parameters.iter().filter_map(|p| Some((p.id.as_str(), p.value?)));
    let sizes = model.compartments.iter().filter_map(|c| Some((c.id.as_str(), c.size?)));
    let mut known: FxHashMap<&str, f64> = parameters.chain(sizes).filter(|(id, _)| !computed.contains(id)).collect();
    loop {
        let before = open.len();
        open.retain(|(id, formula)| match value(formula, &known) {
            Some(value) => known.insert(id, value).is_some(),
            None => true,
        });
        if open.len() == before {
            return known;
        }
    }
}

/// The value of a formula that needs nothing but known values.
fn value(formula: &Ast, known: &FxHashMap<&str, f64>) -> Option<f64> {
    let mut graph = Graph::new();
    let resolved = graph.lower(formula, &mut |graph, node| match &node.kind {
        AstKind::Name(name) => known.get(name.as_str()).map(|value| graph.constant(*value)),
        _ => None,
    })?;
    graph.constant_value(resolved)
}
