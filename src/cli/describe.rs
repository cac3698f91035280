//! `mixode describe`: what was understood.

use super::Status;
use super::load::{Loaded, load};
use crate::likelihood::prior::{Convention, Priors};
use crate::petab::{self, DataKind, NoiseDistribution, Parameter, PriorFamily, Problem, Scale, Transformation, Version};
use indexmap::IndexMap;
use std::path::PathBuf;

/// Arguments of `describe`.
#[derive(clap::Args)]
pub struct Arguments {
    /// PEtab YAML file or its folder
    problem: PathBuf,
}

/// Runs `describe`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let loaded = load(&arguments.problem)?;
    println!("{} · PEtab {}", loaded.problem.name, if loaded.problem.version == crate::petab::Version::V1 { "1" } else { "2" });
    for (label, text) in description(&loaded, Convention::default()) {
        for (i, line) in text.lines().enumerate() {
            println!("{:<13}{line}", if i == 0 { label.as_str() } else { "" });
        }
    }
    Ok(())
}

/// The page as (label, text) pairs; the report shows the same.
pub fn description(loaded: &Loaded, convention: Convention) -> Vec<(String, String)> {
    let Loaded { problem, model, system } = loaded;
    let mut page = Vec::new();
    let mut add = |label: &str, text: String| page.push((label.to_string(), text));
    let (states, reactions) = (system.states.len(), model.reactions.len());
    let mut text = format!("SBML L{}V{}; {states} states, {reactions} reactions", model.level_version.0, model.level_version.1);
    let parts = [
        (system.switches.len(), "switches of formulas"),
        (system.events.len(), "events"),
        (system.invariants.len(), "equations solved with the states"),
        (system.delays.len(), "delayed quantities"),
        (system.constraints.len(), "constraints"),
    ];
    for (count, what) in parts.into_iter().filter(|p| p.0 > 0) {
        text += &format!(", {count} {what}");
    }
    add("model", text);
    let mut kinds: IndexMap<&str, usize> = IndexMap::new();
    for m in &problem.measurements {
        *kinds.entry(kind_name(&m.kind)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(k, n)| format!("{n} {k}")).collect();
    let individuals = problem.nlme.as_ref().map_or(String::new(), |n| format!("{} individuals, ", n.individuals.len()));
    add(
        "data",
        format!(
            "{individuals}{} experiments, {} observables; measurements: {}",
            problem.experiments.len(),
            problem.observables.len(),
            kinds.join(", ")
        ),
    );
    let statistics: Vec<String> = problem
        .observables
        .iter()
        .zip(&system.observables)
        .take(12)
        .map(|(o, f)| {
            let (family, transform) = match o.distribution {
                NoiseDistribution::Normal => ("Normal", ""),
                NoiseDistribution::LogNormal => ("Normal", "log"),
                NoiseDistribution::Log10Normal => ("Normal", "log10"),
                NoiseDistribution::Laplace => ("Laplace", ""),
                NoiseDistribution::LogLaplace => ("Laplace", "log"),
                NoiseDistribution::Log10Laplace => ("Laplace", "log10"),
            };
            let wrap = |text: String| if transform.is_empty() { text } else { format!("{transform}({text})") };
            format!("{} ~ {family}({}, {})", wrap(o.id.clone()), wrap(system.graph.print(f.value)), system.graph.print(f.noise))
        })
        .collect();
    let rest = problem.observables.len().saturating_sub(statistics.len());
    add("observation", statistics.join("\n") + &if rest > 0 { format!("\n... and {rest} more") } else { String::new() });
    if let Some(nlme) = &problem.nlme {
        let effects: Vec<String> = nlme
            .random_effects
            .iter()
            .map(|e| {
                let id = &problem.parameters[e.target].id;
                match e.transformation {
                    Transformation::Additive => format!("{id}(cell) = {id} + {}", e.id),
                    Transformation::Log => format!("log {id}(cell) = log {id} + {}", e.id),
                    Transformation::Logit(a, b) => format!("logit({id}(cell); {a}, {b}) = logit({id}; {a}, {b}) + {}", e.id),
                }
            })
            .collect();
        let diagonal = nlme.covariance.iter().all(|c| c.row == c.column);
        add(
            "cells",
            effects.join("\n")
                + &format!(
                    "\n({}) ~ Normal(0, Omega), Omega {}",
                    nlme.random_effects.iter().map(|e| e.id.as_str()).collect::<Vec<_>>().join(", "),
                    if diagonal { "diagonal" } else { "full" }
                ),
        );
    }
    let estimated: Vec<_> = problem.parameters.iter().filter(|p| p.estimate).collect();
    let on = |scale: Scale| estimated.iter().filter(|p| p.scale == scale).count();
    add(
        "estimate",
        format!(
            "{} parameters ({} on the log scale, {} on log10, {} linear); {} fixed",
            estimated.len(),
            on(Scale::Log),
            on(Scale::Log10),
            on(Scale::Lin),
            problem.parameters.len() - estimated.len()
        ),
    );
    let priors = priors(problem, convention);
    let objective =
        if priors.is_some() { "negative log-posterior: negative log-likelihood less the log prior" } else { "negative log-likelihood" };
    let method = "Laplace approximation of each individual's marginal likelihood; population integrals over fixed nodes";
    if let Some(text) = priors {
        add("priors", text);
    }
    add("objective", if problem.nlme.is_some() { format!("{objective}\n{method}") } else { objective.to_string() });
    add(
        "solver",
        format!(
            "CVODE BDF, states and sensitivities in one block, dense Jacobian ({0} x {0}), rtol 1e-10, atol 1e-12",
            system.states.len()
        ),
    );
    page
}

/// The priors in statistical notation, and what is done with them; `None` without any.
fn priors(problem: &Problem, convention: Convention) -> Option<String> {
    let given: Vec<_> = problem
        .parameters
        .iter()
        .filter(|p| p.estimate && p.lower < p.upper)
        .filter_map(|p| p.prior.as_ref().map(|prior| (p, prior)))
        .collect();
    let terms = Priors::new(problem, convention).len();
    if terms == 0 {
        return None;
    }
    let line = |(parameter, prior): &(&Parameter, &petab::Prior)| {
        let (name, scale) = match prior.family {
            PriorFamily::Cauchy => ("Cauchy", Scale::Lin),
            PriorFamily::ChiSquare => ("ChiSquare", Scale::Lin),
            PriorFamily::Exponential => ("Exponential", Scale::Lin),
            PriorFamily::Gamma => ("Gamma", Scale::Lin),
            PriorFamily::Laplace => ("Laplace", Scale::Lin),
            PriorFamily::LogLaplace => ("Laplace", Scale::Log),
            PriorFamily::LogNormal => ("Normal", Scale::Log),
            PriorFamily::LogUniform => ("LogUniform", Scale::Lin),
            PriorFamily::Normal => ("Normal", Scale::Lin),
            PriorFamily::Rayleigh => ("Rayleigh", Scale::Lin),
            PriorFamily::Uniform => ("Uniform", Scale::Lin),
            PriorFamily::ScaleLaplace => ("Laplace", parameter.scale),
            PriorFamily::ScaleNormal => ("Normal", parameter.scale),
            PriorFamily::ScaleUniform => ("Uniform", parameter.scale),
        };
        let subject = match scale {
            Scale::Lin => parameter.id.clone(),
            Scale::Log => format!("log({})", parameter.id),
            Scale::Log10 => format!("log10({})", parameter.id),
        };
        let numbers: Vec<String> = prior.parameters.iter().map(f64::to_string).collect();
        format!("{subject} ~ {name}({})", numbers.join(", "))
    };
    let mut lines: Vec<String> = given.iter().take(12).map(line).collect();
    if given.len() > lines.len() {
        lines.push(format!("... and {} more", given.len() - lines.len()));
    }
    let uniform = terms.saturating_sub(given.len());
    if uniform > 0 {
        lines.push(format!("uniform between the bounds: the {uniform} other estimated parameters with finite bounds"));
    }
    lines.push(
        match (problem.version, convention) {
            (Version::V2, _) => "densities of the parameters, truncated to their bounds",
            (_, Convention::OwnScale) => "densities on the scale the prior is given for, not truncated (convention own-scale)",
            (_, Convention::Linear) => "densities of the parameters, truncated to their bounds (convention linear)",
            (_, Convention::LinearUntruncated) => "densities of the parameters, not truncated (convention linear-untruncated)",
        }
        .to_string(),
    );
    Some(lines.join("\n"))
}

fn kind_name(kind: &DataKind) -> &'static str {
    match kind {
        DataKind::Typical => "ordinary",
        DataKind::Trajectory { .. } => "trajectory",
        DataKind::TimeToEvent { .. } => "time_to_event",
        DataKind::Snapshot { .. } => "snapshot",
        DataKind::SnapshotStatistic(_) => "snapshot_statistic",
        DataKind::Bulk(_) => "bulk",
    }
}
