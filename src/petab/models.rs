//! Problems of several models: each model with the experiments, observables and measurements that are its own is a problem by itself, and
//! all of them share the parameter table (v2 "Measurement table", `modelId`; v1 "Problem description", `problems`).

use super::{DataKind, Functional, Problem, Statistic};
use crate::diag::Source;

/// Splits a problem whose measurements belong to several models: `model_of` says for each measurement to which of `models`. The first
/// model's part keeps the others in [`Problem::others`]. What no measurement of a part uses need not be valid for its model and is left out.
pub(super) fn split(whole: Problem, models: &[Source], model_of: &[usize]) -> Problem {
    let mut parts = (0..models.len()).map(|k| part(&whole, models, k, model_of)).collect::<Vec<_>>().into_iter();
    match parts.next() {
        Some(first) => Problem { others: parts.collect(), ..first },
        None => whole,
    }
}

/// Old indices that are used, in order; what is used later stands behind.
#[derive(Default)]
struct Used(Vec<usize>);

impl Used {
    /// The new index of an old one.
    fn place(&mut self, old: usize) -> usize {
        self.0.iter().position(|o| *o == old).unwrap_or_else(|| {
            self.0.push(old);
            self.0.len() - 1
        })
    }

    fn pick<T: Clone>(&self, all: &[T]) -> Vec<T> {
        self.0.iter().map(|old| all[*old].clone()).collect()
    }
}

fn part(whole: &Problem, models: &[Source], k: usize, model_of: &[usize]) -> Problem {
    let mine: Vec<usize> = (0..whole.measurements.len()).filter(|m| model_of[*m] == k).collect();
    let (mut observables, mut experiments, mut individuals) = (Used::default(), Used::default(), Used::default());
    let mut measurements: Vec<_> = mine.iter().map(|m| whole.measurements[*m].clone()).collect();
    for m in &mut measurements {
        m.observable = observables.place(m.observable);
        m.experiment = experiments.place(m.experiment);
        match &mut m.kind {
            DataKind::Trajectory { individual } | DataKind::TimeToEvent { individual, .. } => *individual = individuals.place(*individual),
            DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => {
                if let Statistic::Covariance(other) = &mut s.statistic {
                    *other = observables.place(*other);
                }
            }
            DataKind::Typical | DataKind::Snapshot { .. } => {}
        }
    }
    let nlme = whole.nlme.as_ref().map(|nlme| {
        let mut nlme = nlme.clone();
        let named = |id: &str| {
            measurements.iter().any(|m| match &m.kind {
                DataKind::TimeToEvent { event, .. } => event == id,
                DataKind::Bulk(s) | DataKind::SnapshotStatistic(s) => match &s.statistic {
                    Statistic::FractionEvent(name) | Statistic::Composite(name) => name == id,
                    _ => false,
                },
                _ => false,
            })
        };
        nlme.events.retain(|e| named(&e.id));
        nlme.statistics.retain(|s| named(&s.id));
        for functional in nlme.statistics.iter_mut().flat_map(|s| &mut s.functionals) {
            match functional {
                Functional::Mean { observable, .. } | Functional::Variance(observable) | Functional::Quantile(observable, _) => {
                    *observable = observables.place(*observable);
                }
                Functional::Covariance(a, b) => (*a, *b) = (observables.place(*a), observables.place(*b)),
            }
        }
        nlme.individuals = individuals.pick(&nlme.individuals);
        for individual in &mut nlme.individuals {
            individual.experiment = experiments.place(individual.experiment);
        }
        for list in nlme.random_effects.iter_mut().filter_map(|e| e.experiments.as_mut()) {
            *list = list.iter().filter_map(|old| experiments.0.iter().position(|o| o == old)).collect();
        }
        nlme
    });
    // An alias belongs to the models that have its entity; one that no model has is reported with the first.
    let names = |model: &Source, entity: &str| {
        let text = model.text();
        text.contains(&format!("\"{entity}\"")) || text.contains(&format!("'{entity}'"))
    };
    let belongs = |entity: &str| names(&models[k], entity) || (k == 0 && !models.iter().any(|m| names(m, entity)));
    let aliases = whole.aliases.iter().filter(|a| belongs(&a.entity)).cloned().collect();
    let mut tables = whole.tables.clone();
    tables.rows = mine.iter().map(|m| whole.tables.rows[*m]).collect();
    Problem {
        model: models[k].clone(),
        aliases,
        observables: observables.pick(&whole.observables),
        experiments: experiments.pick(&whole.experiments),
        measurements,
        nlme,
        tables,
        plots: if k == 0 { whole.plots.clone() } else { Vec::new() },
        ..whole.clone()
    }
}
