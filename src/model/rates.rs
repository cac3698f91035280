//! Time derivatives of the states: reactions, rate rules, changing compartments.

use super::build::{Builder, Residual, Stage, amount_name, symbol_of};
use crate::expr::ExprId;
use crate::sbml;

impl Builder<'_> {
    /// Time derivative of state `i`.
    pub(super) fn rate(&mut self, i: usize) -> Option<ExprId> {
        if let Some(rate) = self.rates[i] {
            return Some(rate);
        }
        if !self.rate_in_progress.insert(i) {
            return self.circle(self.state_ids[i], None);
        }
        let id = self.state_ids[i];
        let rate = match (self.rate_rules.get(id).copied(), self.species.get(id).copied()) {
            (Some(rule), species) => {
                let rate = self.lower_sbml(&rule.formula, &rule.span, Stage::Running);
                match species {
                    Some(species) => rate.and_then(|rate| self.amount_rate_of_concentration(species, rate)),
                    None => rate,
                }
            }
            // What algebraic rules determine together with its rate.
            (None, species) if species.is_none_or(|s| s.boundary || s.constant || !self.changes_of.contains_key(id)) => {
                let name = extent_name(id);
                Some(self.graph.symbol(&name))
            }
            (None, species) => self.species_rate(species?),
        };
        self.rate_in_progress.remove(&i);
        self.rates[i] = rate;
        rate
    }

    /// n' of a species whose concentration c = n / V has the rate c', where V changes: n' = V c' + c V'.
    fn amount_rate_of_concentration(&mut self, species: &sbml::Species, rate: ExprId) -> Option<ExprId> {
        if !self.amounts.contains_key(&amount_name(&species.id)) {
            return Some(rate);
        }
        let volume = self.entity(&species.compartment, Some(&species.span))?;
        let volume_rate = self.total_derivative(volume)?;
        let concentration = self.entity(&species.id, None)?;
        let own = self.graph.mul(volume, rate);
        let dilution = self.graph.mul(concentration, volume_rate);
        Some(self.graph.add(own, dilution))
    }

    /// Change of a species by reactions: n' = sum of conversion factor times stoichiometry times rate, and c' = n'/V where
    /// the system holds the concentration.
    fn species_rate(&mut self, species: &sbml::Species) -> Option<ExprId> {
        let changes = self.changes_of.get(species.id.as_str()).cloned().unwrap_or_default();
        let mut terms = Vec::new();
        let mut next = 0;
        while let Some(&(reaction, _, _)) = changes.get(next) {
            // References of one reaction are added up first, so that what cancels vanishes.
            let end = changes[next..].iter().position(|c| !std::ptr::eq(c.0, reaction)).map_or(changes.len(), |n| next + n);
            let mut coefficients = Vec::new();
            for (_, reference, sign) in &changes[next..end] {
                let coefficient = self.stoichiometry(reference, Stage::Running)?;
                coefficients.push(if *sign < 0.0 { self.graph.neg(coefficient) } else { coefficient });
            }
            next = end;
            let coefficient = self.graph.sum(&coefficients);
            if self.graph.constant_value(coefficient) == Some(0.0) {
                continue;
            }
            let rate = if reaction.fast {
                let name = extent_name(&reaction.id);
                self.graph.symbol(&name)
            } else {
                self.entity(&reaction.id, Some(&reaction.span))?
            };
            terms.push(self.graph.mul(coefficient, rate));
        }
        let mut rate = self.graph.sum(&terms);
        if let Some(factor) = species.conversion_factor.as_ref().or(self.model.conversion_factor.as_ref()) {
            let factor = self.entity(factor, Some(&species.span))?;
            rate = self.graph.mul(factor, rate);
        }
        if self.is_amount(species) || self.amounts.contains_key(&amount_name(&species.id)) {
            return Some(rate);
        }
        let volume = self.entity(&species.compartment, Some(&species.span))?;
        Some(self.graph.div(rate, volume))
    }

    /// The stoichiometric coefficient of a species reference.
    pub(super) fn stoichiometry(&mut self, reference: &sbml::SpeciesReference, stage: Stage) -> Option<ExprId> {
        if let Some(formula) = &reference.stoichiometry_math {
            return self.lower_sbml(formula, &reference.span, stage);
        }
        match (&reference.id, stage) {
            (Some(id), Stage::Running) => self.entity(id, Some(&reference.span)),
            _ => Some(self.graph.constant(reference.stoichiometry.unwrap_or(1.0))),
        }
    }

    /// d/dt of an expression of (t, x, p) along the solution.
    pub(super) fn total_derivative(&mut self, e: ExprId) -> Option<ExprId> {
        let time = self.time;
        let mut terms = vec![self.graph.derivative(e, time)];
        for i in 0..self.state_ids.len() {
            let symbol = self.symbol_of(self.state_ids[i]);
            if self.graph.depends_on(e, symbol) {
                let slope = self.graph.derivative(e, symbol);
                let rate = self.rate(i)?;
                terms.push(self.graph.mul(slope, rate));
            }
        }
        Some(self.graph.sum(&terms))
    }

    /// Fast reactions are in equilibrium: their rates are 0, and their extents are what keeps them so.
    pub(super) fn add_fast_reactions(&mut self) {
        let model = self.model;
        for reaction in model.reactions.iter().filter(|r| r.fast && r.rate.is_some()) {
            if let Some(residual) = self.entity(&reaction.id, None) {
                let rate = symbol_of(&mut self.graph, &extent_name(&reaction.id));
                self.residuals.push(Residual { residual, rate, positive: true });
            }
        }
    }
}

/// Name of the unknown rate of a fast reaction, or of a state that algebraic rules determine.
pub(super) fn extent_name(id: &str) -> String {
    format!("<rate of {id}>")
}
