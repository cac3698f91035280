//! `mixode describe`: what was understood.

use super::load::Loaded;
use super::output::print;
use super::{ProblemArguments, Status, evaluate};
use crate::likelihood::adjoint::Request;
use crate::likelihood::population::PopulationOptions;
use crate::likelihood::prior::{Convention, Priors};
use crate::likelihood::problem::ProblemObjective;
use crate::likelihood::{Objective, Order};
use crate::petab::{
    self, DataKind, Experiment, Nlme, NoiseDistribution, Parameter, PriorFamily, Problem, Scale, TableValue, Transformation, Version,
};
use crate::report::number::{general, objective as likelihood};
use indexmap::IndexMap;
use std::time::Instant;

/// Arguments of `describe`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    problem: ProblemArguments,
}

/// Runs `describe`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let loaded = arguments.problem.load()?;
    print(&page(&loaded))?;
    let begin = Instant::now();
    let mut objective = evaluate::objective(&loaded, crate::ode::Options::default(), &PopulationOptions::default())?;
    let ready = duration(begin);
    let nominal = objective.map().nominal().to_vec();
    let reason = objective.choose_method(Request::Auto, 1.0, &nominal).reason;
    let mut gradient = Vec::new();
    if objective.has_ordinary_rows() {
        gradient.push(reason.strip_prefix("gradient: ").unwrap_or(&reason));
    }
    if loaded.parts().any(|part| ProblemObjective::needs_second_order(&part.problem)) {
        gradient.push("individuals: forward sensitivities of first and second order");
    } else if objective.populations().next().is_some() {
        gradient.push("population: forward sensitivities");
    }
    print(&lines("gradient", &gradient.join("\n")))?;
    print(&lines("kernels", &format!("ready in {ready}; {}", timings(&loaded.problem, &objective))))
}

/// The page as text, without what differs from machine to machine.
pub fn page(loaded: &Loaded) -> String {
    let Loaded { problem, model, .. } = loaded;
    let version = if problem.version == Version::V1 { "1" } else { "2" };
    let extension = if problem.nlme.is_some() { " + nlme" } else { "" };
    let (level, sbml_version) = model.level_version;
    let title = format!("{} · PEtab {version}{extension} · SBML L{level}V{sbml_version}\n", problem.name);
    title + &description(loaded, Convention::default()).iter().map(|(label, text)| lines(label, text)).collect::<String>()
}

fn lines(label: &str, text: &str) -> String {
    text.lines().enumerate().map(|(i, line)| format!("{:<13}{line}\n", if i == 0 { label } else { "" })).collect()
}

/// The page as (label, text) pairs; the report shows the same.
pub fn description(loaded: &Loaded, convention: Convention) -> Vec<(String, String)> {
    let Loaded { problem, system, .. } = loaded;
    let mut page = Vec::new();
    let mut add = |label: &str, text: String| page.push((label.to_string(), text));
    for part in loaded.parts() {
        add("model", model_line(part));
        add("data", data(&part.problem));
        add("experiments", experiments(&part.problem));
        add("observation", observation(&part.problem));
        if let Some(nlme) = &part.problem.nlme {
            add("cells", cells(&part.problem, nlme));
        }
    }
    add("estimate", estimate(problem));
    let priors = priors(problem, convention);
    let objective =
        if priors.is_some() { "negative log-posterior: negative log-likelihood less the log prior" } else { "negative log-likelihood" };
    let method = "Laplace approximation of each individual's marginal likelihood; population integrals over fixed nodes";
    if let Some(text) = priors {
        add("priors", text);
    }
    add("objective", if problem.nlme.is_some() { format!("{objective}\n{method}") } else { objective.to_string() });
    let options = crate::ode::Options::default();
    let states = system.states.len();
    let mut solver = format!("CVODE BDF, dense Jacobian ({states} × {states}), rtol {:e}, atol {:e}", options.rtol, options.atol);
    let at_rest = problem.measurements.iter().any(|m| m.time == f64::INFINITY) || problem.experiments.iter().any(is_equilibrated);
    if at_rest {
        solver += "\nsteady states by simulation until Newton's method converges";
        if !system.conserved.is_empty() {
            solver += &format!(", with {}", counted(system.conserved.len(), "conserved quantity", "conserved quantities"));
        }
    }
    add("solver", solver);
    page
}

fn model_line(loaded: &Loaded) -> String {
    let Loaded { model, system, .. } = loaded;
    let states = listing(system.states.iter().map(|s| s.id.as_str()), 6);
    let mut text = counted(system.states.len(), "state", "states");
    if !states.is_empty() {
        text += &format!(" ({states})");
    }
    text += &format!(", {}", counted(model.reactions.len(), "reaction", "reactions"));
    text += &format!(", {}", counted(system.events.len(), "event", "events"));
    let parts = [
        (system.switches.len(), "switch of formulas", "switches of formulas"),
        (system.invariants.len(), "equation solved with the states", "equations solved with the states"),
        (system.delays.len(), "delayed quantity", "delayed quantities"),
        (system.constraints.len(), "constraint", "constraints"),
    ];
    for (count, one, many) in parts.into_iter().filter(|p| p.0 > 0) {
        text += &format!(", {}", counted(count, one, many));
    }
    text
}

fn data(problem: &Problem) -> String {
    let mut kinds: IndexMap<&str, usize> = IndexMap::new();
    for m in &problem.measurements {
        *kinds.entry(kind_name(&m.kind)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}{}", if kind.is_empty() { "" } else { " " })).collect();
    let individuals = problem.nlme.iter().map(|n| counted(n.individuals.len(), "individual", "individuals") + ", ").collect::<String>();
    let finite = || problem.measurements.iter().map(|m| m.time).filter(|t| t.is_finite());
    let names = listing(problem.observables.iter().map(|o| o.id.as_str()), 6);
    let mut text = format!(
        "{individuals}{}, {}measurements of {}",
        counted(problem.experiments.len(), "experiment", "experiments"),
        kinds.join(", "),
        if problem.observables.len() == 1 { names } else { format!("{} observables ({names})", problem.observables.len()) }
    );
    let (first, last) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if first < last {
        text += &format!(", times {} to {}", short(first), short(last));
    } else if first == last {
        text += &format!(", at time {}", short(first));
    }
    match problem.measurements.len() - finite().count() {
        0 => text,
        count => text + &format!(", {count} of a steady state"),
    }
}

fn is_equilibrated(experiment: &Experiment) -> bool {
    experiment.periods.first().is_some_and(|p| p.time == f64::NEG_INFINITY)
}

/// The periods of the first experiments, and how many of all have a pre-equilibration or change on the way.
fn experiments(problem: &Problem) -> String {
    const MOST_CHANGES: usize = 3;
    let mut text = Vec::new();
    for experiment in problem.experiments.iter().take(6) {
        let periods: Vec<String> = (experiment.periods.iter())
            .map(|period| {
                let mut changes: Vec<String> =
                    period.changes.iter().take(MOST_CHANGES).map(|c| format!("{} = {}", c.target, c.value.span.text())).collect();
                if period.changes.len() > MOST_CHANGES {
                    changes.push(format!("... ({} in all)", period.changes.len()));
                }
                let changes = if changes.is_empty() { "the model as it is".to_string() } else { changes.join(", ") };
                let start =
                    if period.time == f64::NEG_INFINITY { "pre-equilibration".to_string() } else { format!("from {}", short(period.time)) };
                format!("{start}: {changes}")
            })
            .collect();
        let name = if experiment.id.is_empty() { String::new() } else { format!("{}  ", experiment.id) };
        text.push(cut(&format!("{name}{}", periods.join("; "))));
    }
    let more = problem.experiments.len().saturating_sub(text.len());
    if more > 0 {
        text.push(format!("... and {more} more"));
    }
    let equilibrated = problem.experiments.iter().filter(|e| is_equilibrated(e)).count();
    let several = problem.experiments.iter().filter(|e| e.periods.iter().filter(|p| p.time.is_finite()).count() > 1).count();
    let of_all = format!("of {}", counted(problem.experiments.len(), "experiment", "experiments"));
    let counts = [(equilibrated, "with pre-equilibration"), (several, "with changes at later times")];
    text.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {of_all} {what}")));
    text.join("\n")
}

/// The observables in statistical notation, as their formulas stand in the table.
fn observation(problem: &Problem) -> String {
    const SHOWN: usize = 12;
    let mut text: Vec<String> = (problem.observables.iter().take(SHOWN))
        .map(|o| {
            let (family, transform) = match o.distribution {
                NoiseDistribution::Normal => ("Normal", ""),
                NoiseDistribution::LogNormal => ("Normal", "log"),
                NoiseDistribution::Log10Normal => ("Normal", "log10"),
                NoiseDistribution::Laplace => ("Laplace", ""),
                NoiseDistribution::LogLaplace => ("Laplace", "log"),
                NoiseDistribution::Log10Laplace => ("Laplace", "log10"),
            };
            let wrap = |text: &str| if transform.is_empty() { text.to_string() } else { format!("{transform}({text})") };
            cut(&format!("{} ~ {family}({}, {})", wrap(&o.id), wrap(o.formula.span.text()), o.noise.span.text()))
        })
        .collect();
    let rest = problem.observables.len().saturating_sub(SHOWN);
    if rest > 0 {
        text.push(format!("... and {rest} more"));
    }
    let placeholders: usize = problem.observables.iter().map(|o| o.observable_placeholders.len() + o.noise_placeholders.len()).sum();
    if placeholders > 0 {
        text.push(format!("{} set by the rows of the measurement table", counted(placeholders, "placeholder", "placeholders")));
    }
    text.join("\n")
}

/// The random effects in statistical notation.
fn cells(problem: &Problem, nlme: &Nlme) -> String {
    let mut text: Vec<String> = (nlme.random_effects.iter())
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
    let effects: Vec<&str> = nlme.random_effects.iter().map(|e| e.id.as_str()).collect();
    text.push(format!("({}) ~ Normal(0, Ω), Ω {}", effects.join(", "), if diagonal { "diagonal" } else { "full" }));
    let named = |value: &TableValue| match value {
        TableValue::Number(number) => number.to_string(),
        TableValue::Parameter(j) => problem.parameters[*j].id.clone(),
    };
    for s in &nlme.subpopulations {
        let probability = s.probability.as_ref().map_or("the rest".to_string(), |p| format!("probability {}", named(p)));
        let values = s.values.iter().map(|(target, value)| format!("{} = {}", problem.parameters[*target].id, named(value)));
        text.push(format!("subpopulation {}, {probability}: {}", s.id, values.collect::<Vec<_>>().join(", ")));
    }
    text.join("\n")
}

fn estimate(problem: &Problem) -> String {
    let estimated: Vec<_> = problem.parameters.iter().filter(|p| p.estimate).collect();
    let mut text = counted(estimated.len(), "parameter", "parameters");
    let hyper = estimated.iter().filter(|p| p.hyper).count();
    if hyper > 0 {
        text += &format!(", {hyper} of them of the distribution of cells");
    }
    let names = listing(estimated.iter().map(|p| p.id.as_str()), 12);
    if !names.is_empty() {
        text += &format!(": {names}");
    }
    let on = |scale: Scale| estimated.iter().filter(|p| p.scale == scale).count();
    let scales = [(on(Scale::Log), "log"), (on(Scale::Log10), "log10"), (on(Scale::Lin), "linear")];
    let scales: Vec<String> = scales.iter().filter(|s| s.0 > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if !scales.is_empty() {
        text += &format!("\nscales: {}", scales.join(", "));
    }
    match problem.parameters.len() - estimated.len() {
        0 => text,
        fixed => {
            text + &format!("\n{fixed} fixed: {}", listing(problem.parameters.iter().filter(|p| !p.estimate).map(|p| p.id.as_str()), 12))
        }
    }
}

/// How long things take here. Values that cannot be computed are no error: the problem is described all the same.
fn timings(problem: &Problem, objective: &ProblemObjective) -> String {
    // A gradient costs several values, and an answer is expected at once.
    const LONGEST_VALUE: f64 = 1.0;
    let nominal: Vec<f64> = problem.parameters.iter().map(|p| p.nominal.unwrap_or(f64::NAN)).collect();
    let x = objective.map().scaled(&nominal);
    if x.iter().any(|v| !v.is_finite()) {
        return "not every nominal value is a number on its scale".to_string();
    }
    let mut memory = objective.memory();
    let begin = Instant::now();
    let mut text = match objective.evaluate(&x, Order::Value, &mut memory) {
        Ok(evaluation) => format!("one objective {} (nominal: {})", duration(begin), likelihood(evaluation.value, 3)),
        Err(error) => return format!("no objective at the nominal values: {error}"),
    };
    if begin.elapsed().as_secs_f64() < LONGEST_VALUE {
        let begin = Instant::now();
        if objective.evaluate(&x, Order::Gradient, &mut memory).is_ok() {
            text += &format!(", with gradient {}", duration(begin));
        }
    }
    text
}

fn duration(begin: Instant) -> String {
    let seconds = begin.elapsed().as_secs_f64();
    if seconds < 1.0 { format!("{} ms", general(1e3 * seconds, 2)) } else { format!("{} s", general(seconds, 2)) }
}

fn short(value: f64) -> String {
    general(value, 6)
}

/// "1 state", "2 states".
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first names: as many as a line holds, and at most `most`.
fn listing<'a>(names: impl Iterator<Item = &'a str>, most: usize) -> String {
    const LONGEST: usize = 90;
    let mut text = String::new();
    for (k, name) in names.enumerate() {
        if k == most || (k > 0 && text.chars().count() + name.chars().count() > LONGEST) {
            return text + ", ...";
        }
        text += if k > 0 { ", " } else { "" };
        text += name;
    }
    text
}

/// A line that does not fill the screen.
fn cut(line: &str) -> String {
    const LONGEST: usize = 120;
    if line.chars().count() <= LONGEST { line.to_string() } else { line.chars().take(LONGEST - 3).collect::<String>() + "..." }
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
        DataKind::Typical => "",
        DataKind::Trajectory { .. } => "trajectory",
        DataKind::TimeToEvent { .. } => "time_to_event",
        DataKind::Snapshot { .. } => "snapshot",
        DataKind::SnapshotStatistic(_) => "snapshot_statistic",
        DataKind::Bulk(_) => "bulk",
    }
}
