//! What every entity of the model is: a state, a parameter, or given by a rule.

use super::build::{Builder, Origin, Scope, Stage, amount_name};
use crate::diag::{Diagnostic, Span};
use crate::expr::{Ast, AstKind, ExprId};
use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

/// Kinds of model entities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A state of this index.
    State(usize),
    /// Constant between events.
    Parameter,
    /// By an assignment rule.
    Assigned,
    /// By algebraic rules: what the system holds for it as a function of (t, x, p).
    Solved(ExprId),
    Reaction,
}

impl<'a> Builder<'a> {
    /// Decides for every entity whether it is a state, a parameter or given by a rule.
    pub(super) fn classify(&mut self) {
        let model = self.model;
        for reaction in &model.reactions {
            for (references, sign) in [(&reaction.products, 1.0), (&reaction.reactants, -1.0)] {
                for reference in references {
                    self.changes_of.entry(&reference.species).or_default().push((reaction, reference, sign));
                }
            }
        }
        let varying: FxHashSet<&str> = model.compartments.iter().map(|c| c.id.as_str()).filter(|id| self.varies(id)).collect();
        for s in &model.species {
            if varying.contains(s.compartment.as_str()) && !self.is_amount(s) && !self.rules.contains_key(s.id.as_str()) {
                self.amounts.insert(amount_name(&s.id), &s.id);
            }
        }
        for s in &model.species {
            self.add(&s.id, self.changes_of.contains_key(s.id.as_str()) && !s.boundary && !s.constant);
        }
        for c in &model.compartments {
            self.add(&c.id, false);
        }
        for p in &model.parameters {
            self.add(&p.id, false);
        }
        for r in &model.reactions {
            self.kinds.insert(&r.id, Kind::Reaction);
            for id in r.reactants.iter().chain(&r.products).filter_map(|reference| reference.id.as_deref()) {
                self.add(id, false);
            }
        }
    }

    fn add(&mut self, id: &'a str, changed_by_reactions: bool) {
        let kind = if self.rules.contains_key(id) {
            Kind::Assigned
        } else if changed_by_reactions || self.rate_rules.contains_key(id) {
            self.state_ids.push(id);
            Kind::State(self.state_ids.len() - 1)
        } else {
            Kind::Parameter
        };
        self.kinds.insert(id, kind);
    }

    /// Whether an entity that is no species can change during a simulation.
    fn varies(&self, id: &str) -> bool {
        let constant = |id: &str| {
            self.model.compartments.iter().any(|c| c.id == id && c.constant)
                || self.model.parameters.iter().any(|p| p.id == id && p.constant)
        };
        let mut seen: FxHashSet<&str> = FxHashSet::default();
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if self.rate_rules.contains_key(id) || self.event_targets.contains(id) {
                return true;
            }
            let Some(rule) = self.rules.get(id) else {
                // Species and reactions are taken to vary, and what an algebraic rule may determine.
                let constant_kind = !self.species.contains_key(id) && !self.reactions.contains_key(id);
                if !constant_kind || (!self.model.algebraic_rules.is_empty() && !constant(id)) {
                    return true;
                }
                continue;
            };
            let mut varies = false;
            rule.formula.walk(&mut |node| match &node.kind {
                AstKind::Name(name) if seen.insert(name) => stack.push(name),
                AstKind::Time | AstKind::Delay(..) | AstKind::RateOf(_) => varies = true,
                _ => {}
            });
            if varies || self.calls_time(&rule.formula) {
                return true;
            }
        }
        false
    }

    /// Whether a function that a formula calls may use time.
    fn calls_time(&self, formula: &Ast) -> bool {
        let mut found = false;
        formula.walk(&mut |node| {
            if let AstKind::Call(name, _) = &node.kind
                && let Some(function) = self.functions.get(name.as_str())
            {
                function.body.walk(&mut |n| found |= matches!(n.kind, AstKind::Time | AstKind::Call(..)));
            }
        });
        found
    }

    /// Lists the parameters: theta, then the model's constants, then names that only changes introduce.
    pub(super) fn declare_parameters(&mut self) {
        let problem = self.problem;
        for p in problem.iter().flat_map(|problem| &problem.parameters) {
            match self.kinds.get(p.id.as_str()) {
                Some(kind) if self.species.contains_key(p.id.as_str()) || matches!(kind, Kind::State(_)) => {
                    let what = if self.species.contains_key(p.id.as_str()) { "species" } else { "state" };
                    self.diagnostics.push(
                        Diagnostic::error("M0202", format!("parameter `{}` of the parameter table is a {what} of the model", p.id))
                            .at(&p.span, "expected a constant, or a name that the model does not have")
                            .help("introduce a parameter for its initial value, and let the model or a condition set it"),
                    );
                }
                None | Some(Kind::Parameter) => {}
                Some(_) => self.not_settable(&p.id, &p.span, "it is given by a rule or reaction of the model"),
            }
        }
        let constants: Vec<String> =
            self.kinds.iter().filter(|(_, kind)| **kind == Kind::Parameter).map(|(id, _)| self.symbol_name(id)).collect();
        self.parameters.extend(constants);
        for change in problem.iter().flat_map(|p| &p.experiments).flat_map(|e| &e.periods).flat_map(|p| &p.changes) {
            match self.kinds.get(change.target.as_str()) {
                None => {
                    self.parameters.insert(change.target.clone());
                }
                Some(Kind::State(_) | Kind::Parameter) => {}
                Some(_) => self.not_settable(&change.target, &change.span, "it is given by a rule or reaction of the model"),
            }
        }
    }

    fn not_settable(&mut self, id: &str, span: &Span, why: &str) {
        if self.reported.insert(format!("settable {id}")) {
            self.diagnostics.push(
                Diagnostic::error("M0201", format!("`{id}` cannot be set"))
                    .at(span, why)
                    .help("set or estimate a constant, or the initial value of a state"),
            );
        }
    }

    /// Lowers every entity of the model, so that mistakes in formulas that nothing uses are found too.
    pub(super) fn lower_entities(&mut self) -> IndexMap<String, ExprId> {
        let ids: Vec<&'a str> = self.kinds.keys().copied().collect();
        let mut entities = IndexMap::new();
        for id in ids {
            if let Some(value) = self.entity(id, None) {
                entities.insert(id.to_string(), value);
            }
        }
        entities
    }

    /// The value of an entity during integration. `asked_at` is where it was named, for messages about circles.
    pub(super) fn entity(&mut self, id: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        match *self.kinds.get(id)? {
            Kind::State(_) | Kind::Parameter => {
                let name = self.symbol_name(id);
                let held = self.graph.symbol(&name);
                self.as_seen(id, held, asked_at)
            }
            Kind::Solved(held) => self.as_seen(id, held, asked_at),
            Kind::Assigned | Kind::Reaction => {
                // Long chains of definitions are lowered from their ends, so that the stack does not grow with them.
                for needed in self.needed_first(id, |b, id| b.running.contains_key(id), Builder::defining_formulas) {
                    self.lower_definition(&needed);
                }
                if let Some(known) = self.running.get(id).copied() {
                    return known.or_else(|| self.circle(id, asked_at));
                }
                self.lower_definition(id)
            }
        }
    }

    fn lower_definition(&mut self, id: &str) -> Option<ExprId> {
        self.running.insert(id.to_string(), None);
        let value = self.definition(id, Stage::Running);
        self.running.insert(id.to_string(), value);
        value
    }

    /// The formulas that define an entity during integration.
    pub(super) fn defining_formulas(&self, id: &str) -> Vec<&'a Ast> {
        match self.kinds.get(id) {
            Some(Kind::Assigned) => self.rules.get(id).map(|r| &r.formula).into_iter().collect(),
            Some(Kind::Reaction) => self.reactions.get(id).and_then(|r| r.rate.as_ref()).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// What must be lowered before `id`, in that order, `id` itself not included: what the formulas of names refer to, as far as it
    /// is not `known` and has formulas itself.
    pub(super) fn needed_first(
        &self,
        id: &str,
        known: impl Fn(&Self, &str) -> bool,
        formulas: impl Fn(&Self, &str) -> Vec<&'a Ast>,
    ) -> Vec<String> {
        let mut order = Vec::new();
        let mut seen = FxHashSet::from_iter([id.to_string()]);
        let mut stack = vec![(id.to_string(), false)];
        while let Some((id, done)) = stack.pop() {
            if done {
                order.push(id);
                continue;
            }
            let mut names = Vec::new();
            for formula in formulas(self, &id) {
                formula.walk(&mut |node| names.extend(if let AstKind::Name(name) = &node.kind { Some(name.as_str()) } else { None }));
            }
            stack.push((id, true));
            for name in names.into_iter().rev() {
                if !known(self, name) && !formulas(self, name).is_empty() && seen.insert(name.to_string()) {
                    stack.push((name.to_string(), false));
                }
            }
        }
        order.pop();
        order
    }

    /// What formulas see of an entity that the system holds as `held`.
    fn as_seen(&mut self, id: &str, held: ExprId, asked_at: Option<&Span>) -> Option<ExprId> {
        let Some(species) = self.amounts.get(&amount_name(id)).copied() else { return Some(held) };
        let compartment = self.species.get(species).map(|s| s.compartment.as_str())?;
        let volume = self.entity(compartment, asked_at)?;
        Some(self.graph.div(held, volume))
    }

    /// Lowers the rule or kinetic law that defines `id`.
    pub(super) fn definition(&mut self, id: &str, stage: Stage) -> Option<ExprId> {
        if let Some(rule) = self.rules.get(id).copied() {
            return self.lower_sbml(&rule.formula, &rule.span, stage);
        }
        let reaction = self.reactions.get(id).copied()?;
        let mut local = FxHashMap::default();
        for p in &reaction.local_parameters {
            local.insert(p.id.clone(), self.graph.constant(p.value.unwrap_or(f64::NAN)));
        }
        match &reaction.rate {
            Some(rate) => self.lower(rate, Scope { origin: Origin::Sbml(&reaction.span.source), local: &local, only_local: false, stage }),
            None => Some(self.graph.constant(0.0)),
        }
    }

    /// Reports that `id` depends on itself. The value NaN lets the work go on to find other mistakes.
    pub(super) fn circle(&mut self, id: &str, asked_at: Option<&Span>) -> Option<ExprId> {
        // A circle is met again from each of its members; one message is enough.
        if self.reported.insert(format!("circle {id}")) {
            let mut diagnostic = Diagnostic::error("M0102", format!("the definition of `{id}` refers to itself"));
            if let Some(span) = asked_at {
                diagnostic = diagnostic.at(span, "used here, directly or through other definitions");
            }
            self.diagnostics.push(diagnostic);
        }
        Some(self.graph.constant(f64::NAN))
    }
}
