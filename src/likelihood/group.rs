//! Individuals that share random effects: the cells of a replicate, the samples of a donor, the occasions of a patient.
//!
//! A group is treated as one individual. Its parameter vector has a shift for every random effect of the group, which is typically 0, and behind
//! these the parameter vectors of its members: member i is simulated at phi_i plus the shifts of the components that effects of the
//! group move. With that every marginal likelihood of an individual is one of a group too, at the price that its matrices have as many
//! rows as all its members have effects.

use super::coordinates::Coordinates;
use super::covariance::Omega;
use super::ebe::{WarmStart, cell_parameters};
use super::individual::{Conditional, ConditionalOrder, ConditionalValue, Curvature, Scope, missing};
use super::laplace::{IndividualTerm, MarginalOptions, individual_marginal};
use super::population::{Chain, IndividualData};
use super::simulated::{Pool, Worker, failure};
use super::simulated_individual::{Last, SimulatedIndividual, View};
use super::{EvaluationError, Order};
use crate::petab::RandomEffect;
use nalgebra::{DMatrix, DVector};

/// A group of individuals.
pub(super) struct Group {
    /// Identifier.
    pub id: String,
    /// Indices of its individuals.
    pub members: Vec<usize>,
    /// Random effects of the group that reach them, in the problem's order.
    pub shared: Vec<usize>,
    /// Weight of its marginal log-likelihood.
    pub weight: f64,
    /// Components of its parameter vector.
    pub layout: Layout,
    /// Settings of its marginal likelihood.
    pub options: MarginalOptions,
}

impl Group {
    /// The groups of `individuals`, in order of first appearance; none where no effect is of groups. `options` gives the
    /// settings for a number of effects.
    ///
    /// # Errors
    /// What is not supported, for a message.
    pub fn all(
        effects: &[RandomEffect],
        individuals: &[IndividualData],
        options: &dyn Fn(usize) -> Result<MarginalOptions, String>,
    ) -> Result<Vec<Group>, String> {
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        if !effects.iter().any(|e| e.of_group) {
            return Ok(Vec::new());
        }
        for (i, data) in individuals.iter().enumerate() {
            // Individuals without a group have been reported.
            let id = data.group.clone().unwrap_or_default();
            match groups.iter_mut().find(|(known, _)| *known == id) {
                Some((_, members)) => members.push(i),
                None => groups.push((id, vec![i])),
            }
        }
        let make = |(id, members): (String, Vec<usize>)| {
            let weight = individuals[members[0]].weight;
            if members.iter().any(|i| individuals[*i].weight != weight) {
                return Err(format!("individuals of different weights in one group (`{id}`)"));
            }
            let coordinates: Vec<&Coordinates> = members.iter().map(|i| &individuals[*i].classes[0]).collect();
            let mut shared: Vec<usize> = coordinates.iter().flat_map(|c| &c.effects).copied().filter(|k| effects[*k].of_group).collect();
            shared.sort_unstable();
            shared.dedup();
            let layout = Layout::new(&shared, &coordinates);
            let options = options(layout.targets.len()).map_err(|reason| format!("{reason} (group `{id}`)"))?;
            Ok(Group { id, members, shared, weight, layout, options })
        };
        groups.into_iter().map(make).collect()
    }

    /// Covariance of the effects of the group and its members, in the order of [`Layout::targets`].
    fn omega(&self, individuals: &[IndividualData], omega: &Omega) -> Omega {
        let mut parts = vec![omega.select(&self.shared)];
        for (member, i) in self.layout.members.iter().zip(&self.members) {
            let effects = &individuals[*i].classes[0].effects;
            parts.push(omega.select(&member.own.iter().map(|k| effects[*k]).collect::<Vec<_>>()));
        }
        Omega::direct_sum(&parts)
    }

    /// The parameter vector of the typical individuals.
    fn typical(&self, individuals: &[IndividualData], natural: &[f64]) -> Vec<f64> {
        let members = self.members.iter().flat_map(|i| individuals[*i].classes[0].typical(natural));
        vec![0.0; self.shared.len()].into_iter().chain(members).collect()
    }

    /// Runs `task` on the conditional likelihood, the parameters of the typical individuals, and the covariance.
    pub fn with<R>(
        &self,
        pool: &Pool,
        individuals: &[IndividualData],
        natural: &[f64],
        omega: &Omega,
        task: impl FnOnce(&mut GroupedIndividuals, &[f64], &Omega) -> Result<R, EvaluationError>,
    ) -> Result<R, EvaluationError> {
        let (phi, omega) = (self.typical(individuals, natural), self.omega(individuals, omega));
        let last = vec![None; self.members.len()];
        let named = |e: EvaluationError| match e {
            EvaluationError::Inner(message) => EvaluationError::Inner(format!("group `{}`: {message}", self.id)),
            other => other,
        };
        pool.with(|worker| task(&mut GroupedIndividuals { worker, group: self, individuals, natural, last }, &phi, &omega))
            .map_err(|e| failure(&individuals[self.members[0]].experiment, None, e))?
            .map_err(named)
    }

    /// The marginal likelihood, and for [`Order::Fisher`] the parameter vector at the estimates.
    pub fn marginal(
        &self,
        pool: &Pool,
        individuals: &[IndividualData],
        natural: &[f64],
        omega: &Omega,
        warm: &mut WarmStart,
        order: Order,
    ) -> Result<(IndividualTerm, Option<Information>), EvaluationError> {
        self.with(pool, individuals, natural, omega, |c, phi, omega| {
            let term = individual_marginal(c, phi, &self.layout.targets, omega, &self.options, warm, order)?;
            let mut information = None;
            if order == Order::Fisher {
                let phi = cell_parameters(phi, &self.layout.targets, &term.b);
                information = Some((c.information(&phi)?, omega.clone()));
            }
            Ok((term, information))
        })
    }

    /// Places in x and slopes of the components of the parameter vector and of the covariance parameters.
    pub fn slopes(&self, individuals: &[IndividualData], natural: &[f64], omega: &Omega, chain: &Chain) -> Vec<Option<(usize, f64)>> {
        let members = self.members.iter().flat_map(|i| chain.slopes(natural, &individuals[*i].classes[0].all, &[]));
        vec![None; self.shared.len()].into_iter().chain(members).chain(chain.slopes(natural, &[], &omega.parameters)).collect()
    }

    /// Estimates of the effects that reach a member, its own and the group's, with posterior variances: in the order of [`Coordinates::effects`].
    /// Behind them the member's parameters.
    pub fn of_member(&self, i: usize, coordinates: &Coordinates, phi_typical: &[f64], term: &IndividualTerm) -> MemberEstimate {
        let before: usize = self.layout.members[..i].iter().map(|m| m.own.len()).sum();
        let mut own = self.shared.len() + before;
        let mut estimate = MemberEstimate { b: Vec::new(), variances: Vec::new(), phi: phi_typical.to_vec() };
        for (effect, target) in coordinates.effects.iter().zip(&coordinates.targets) {
            let place = self.shared.iter().position(|s| s == effect).unwrap_or_else(|| {
                own += 1;
                own - 1
            });
            estimate.b.push(term.b[place]);
            estimate.variances.push(term.posterior[(place, place)]);
            estimate.phi[*target] += term.b[place];
        }
        estimate
    }
}

/// Information of the data about a group's parameter vector, and the covariance of its effects.
type Information = (DMatrix<f64>, Omega);

/// A member at the estimates of a group.
pub(super) struct MemberEstimate {
    /// Estimates of the effects.
    pub b: Vec<f64>,
    /// Their posterior variances.
    pub variances: Vec<f64>,
    /// The member's parameters.
    pub phi: Vec<f64>,
}

/// Where the components of a group's parameter vector are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Number of components.
    pub dimension: usize,
    /// Component that each random effect of the group and its members moves: those of the group first, then those of one member after the other.
    pub targets: Vec<usize>,
    /// Members in their order.
    pub members: Vec<MemberLayout>,
}

/// Where the components of a member are.
#[derive(Debug, Clone)]
pub struct MemberLayout {
    /// Its first component.
    pub offset: usize,
    /// Number of its components.
    pub length: usize,
    /// Shifts, as components of the group, and the member's component that each moves.
    pub shifts: Vec<(usize, usize)>,
    /// The member's components that random effects move.
    random: Vec<usize>,
    /// The member's random effects that are its own, as indices into [`Coordinates::effects`].
    pub own: Vec<usize>,
}

impl Layout {
    /// The layout of members with these coordinates; `shared` are the effects of the group, in order.
    pub fn new(shared: &[usize], members: &[&Coordinates]) -> Layout {
        let mut layout = Layout { dimension: shared.len(), targets: (0..shared.len()).collect(), members: Vec::new() };
        for coordinates in members {
            let offset = layout.dimension;
            let mut member = MemberLayout {
                offset,
                length: coordinates.all.len(),
                shifts: Vec::new(),
                random: coordinates.targets.clone(),
                own: Vec::new(),
            };
            for (i, (effect, target)) in coordinates.effects.iter().zip(&coordinates.targets).enumerate() {
                match shared.iter().position(|s| s == effect) {
                    Some(shift) => member.shifts.push((shift, *target)),
                    None => {
                        member.own.push(i);
                        layout.targets.push(offset + target);
                    }
                }
            }
            member.random.sort_unstable();
            member.random.dedup();
            layout.dimension += member.length;
            layout.members.push(member);
        }
        layout
    }
}

impl MemberLayout {
    /// The member's parameter vector within that of the group.
    pub fn phi(&self, phi: &[f64]) -> Vec<f64> {
        let mut own = phi[self.offset..self.offset + self.length].to_vec();
        for (shift, component) in &self.shifts {
            own[*component] += phi[*shift];
        }
        own
    }

    /// Components of the group that move each component of the member, with themselves: pairs (group's, member's).
    fn moved(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.length).map(|k| (self.offset + k, k)).chain(self.shifts.iter().copied())
    }

    fn add_vector(&self, total: &mut DVector<f64>, own: &DVector<f64>) {
        for (place, k) in self.moved() {
            total[place] += own[k];
        }
    }

    fn add_matrix(&self, total: &mut DMatrix<f64>, own: &DMatrix<f64>) {
        for (row, i) in self.moved() {
            for (column, j) in self.moved() {
                total[(row, column)] += own[(i, j)];
            }
        }
    }

    /// S M S^T for the derivative S of the member's parameter vector by the group's.
    fn project(&self, whole: &DMatrix<f64>) -> DMatrix<f64> {
        let mut own = DMatrix::zeros(self.length, self.length);
        for (row, i) in self.moved() {
            for (column, j) in self.moved() {
                own[(i, j)] += whole[(row, column)];
            }
        }
        own
    }
}

/// The conditional likelihood of a group.
pub(super) struct GroupedIndividuals<'a> {
    worker: &'a mut Worker,
    group: &'a Group,
    individuals: &'a [IndividualData],
    natural: &'a [f64],
    /// What each member remembers of its last simulation.
    last: Vec<Last>,
}

impl GroupedIndividuals<'_> {
    /// Runs `task` on a member.
    pub fn with_member<R>(&mut self, i: usize, task: impl FnOnce(&mut SimulatedIndividual) -> R) -> R {
        let data = &self.individuals[self.group.members[i]];
        let mut member = SimulatedIndividual {
            worker: &mut *self.worker,
            rows: &data.rows,
            coordinates: &data.classes[0].all,
            random: &data.classes[0].random,
            natural: self.natural.to_vec(),
            experiment: &data.experiment,
            individual: &data.id,
            view: View::Simulated,
            typical: None,
            last: self.last[i].take(),
        };
        let result = task(&mut member);
        self.last[i] = member.last.take();
        result
    }
}

impl Conditional for GroupedIndividuals<'_> {
    fn dimension(&self) -> usize {
        self.group.layout.dimension
    }

    fn evaluate(&mut self, phi: &[f64], order: ConditionalOrder, scope: Scope) -> Result<ConditionalValue, EvaluationError> {
        let n = self.group.layout.dimension;
        let empty = |from: ConditionalOrder| (order >= from).then(|| DMatrix::zeros(n, n));
        let mut total = ConditionalValue {
            value: 0.0,
            gradient: DVector::zeros(if order == ConditionalOrder::Value { 0 } else { n }),
            gauss_newton: empty(ConditionalOrder::GaussNewton),
            hessian: empty(ConditionalOrder::Hessian),
        };
        let layout = &self.group.layout;
        for (i, member) in layout.members.iter().enumerate() {
            let own = self.with_member(i, |m| m.evaluate(&member.phi(phi), order, scope))?;
            total.value += own.value;
            if order > ConditionalOrder::Value {
                member.add_vector(&mut total.gradient, &own.gradient);
            }
            for (whole, part) in [(&mut total.gauss_newton, &own.gauss_newton), (&mut total.hessian, &own.hessian)] {
                if let (Some(whole), Some(part)) = (whole, part) {
                    member.add_matrix(whole, part);
                }
            }
        }
        Ok(total)
    }

    fn information(&mut self, phi: &[f64]) -> Result<DMatrix<f64>, EvaluationError> {
        let mut total = DMatrix::zeros(phi.len(), phi.len());
        let layout = &self.group.layout;
        for (i, member) in layout.members.iter().enumerate() {
            let own = self.with_member(i, |m| m.information(&member.phi(phi)))?;
            member.add_matrix(&mut total, &own);
        }
        Ok(total)
    }

    fn trace_gradient(
        &mut self,
        phi: &[f64],
        at: &ConditionalValue,
        _targets: &[usize],
        weights: &DMatrix<f64>,
        which: Curvature,
    ) -> Result<DVector<f64>, EvaluationError> {
        let mut total = DVector::zeros(phi.len());
        let layout = &self.group.layout;
        for (i, member) in layout.members.iter().enumerate() {
            // A member's own block of the group's derivatives is its own derivatives.
            let block = |m: &DMatrix<f64>| m.view((member.offset, member.offset), (member.length, member.length)).into_owned();
            let own = ConditionalValue {
                value: at.value,
                gradient: at.gradient.rows(member.offset, member.length).into_owned(),
                gauss_newton: at.gauss_newton.as_ref().map(block),
                hessian: at.hessian.as_ref().map(block),
            };
            if own.hessian.is_none() && which == Curvature::Exact {
                return Err(missing());
            }
            let weights = member.project(weights);
            let gradient = self.with_member(i, |m| m.trace_gradient(&member.phi(phi), &own, &member.random, &weights, which))?;
            member.add_vector(&mut total, &gradient);
        }
        Ok(total)
    }
}
