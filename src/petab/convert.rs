//! A version 1 problem as tables of version 2 that mean the same (PETAB.md section 6).
//!
//! What changes form: pairs of conditions become experiments; the scale of log10 noise and of log10 priors is multiplied by ln 10, since
//! version 2 knows the natural logarithm only; overrides that name something else than a parameter of the table become
//! what they stand for; a constant that a pre-equilibration changes and the simulation condition does not is set
//! back explicitly, because changes of version 2 stay in force.

use super::table::show;
use super::{Change, Experiment, NoiseDistribution, Override, Parameter, PriorFamily, Problem, Scale, Version};
use crate::diag::{Diagnostics, Span};
use crate::expr::AstKind;
use indexmap::{IndexMap, IndexSet};
use rustc_hash::{FxHashMap, FxHashSet};
use std::f64::consts::LN_10;

/// What conversion has to know of the model.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Constants that have a number.
    pub numbers: FxHashMap<String, f64>,
    /// Constants that are given by an initial assignment, with the names it uses.
    pub assigned: Vec<(String, Vec<String>)>,
    /// Quantities that change by themselves: states, and what rules give.
    pub variable: FxHashSet<String>,
    /// Constants to which the model gives no value.
    pub without_value: FxHashSet<String>,
}

/// A table: columns and rows of cells.
struct Sheet {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    fn new(columns: &[&str]) -> Self {
        Sheet { columns: columns.iter().map(|c| c.to_string()).collect(), rows: Vec::new() }
    }

    fn text(&self) -> String {
        let line = |cells: &[String]| cells.iter().map(|c| quoted(c)).collect::<Vec<_>>().join("\t") + "\n";
        std::iter::once(line(&self.columns)).chain(self.rows.iter().map(|r| line(r))).collect()
    }
}

/// A cell of a tab-separated file.
fn quoted(cell: &str) -> String {
    if cell.contains(['\t', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

/// A version 2 problem.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The files by name, without the model's.
    pub files: Vec<(String, String)>,
    /// Place of the first prior, where there are any: those of version 2 are densities of the parameter itself, within its bounds, so the posterior
    /// is another one.
    pub first_prior: Option<Span>,
}

/// The problem as version 2; the model's file is to be called `model_file`. `None` if something cannot be said in version 2, which is
/// reported.
pub fn to_version_2(problem: &Problem, facts: &ModelFacts, model_file: &str, d: &mut Diagnostics) -> Option<Converted> {
    let mut converter =
        Converter { problem, facts, rows: problem.parameters.iter().map(|p| p.id.as_str()).collect(), failed: false, first_prior: None, d };
    if problem.version == Version::V2 || problem.nlme.is_some() || !problem.others.is_empty() {
        let what = if problem.nlme.is_some() {
            "the conversion of a problem with the extension `nlme`"
        } else if problem.version == Version::V2 {
            "the conversion of a version 2 problem"
        } else {
            "the conversion of a problem of several sub-problems"
        };
        let place = problem.parameters.first().map_or_else(|| problem.model.span(0..0), |p| p.span.clone());
        converter.refuse(&place, what, "only plain version 1 problems of one model are converted, to version 2");
        return None;
    }
    let (conditions, experiments, names) = converter.experiments();
    let observables = converter.observables();
    let measurements = converter.measurements(&names);
    let parameters = converter.parameters();
    if converter.failed {
        return None;
    }
    let yaml = format!(
        "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  model: {{location: '{}', language: sbml}}\nobservable_files: [observables.tsv]\n\
         measurement_files: [measurements.tsv]\ncondition_files: [conditions.tsv]\nexperiment_files: [experiments.tsv]\n",
        model_file.replace('\'', "''")
    );
    let sheets = [
        ("parameters.tsv", parameters),
        ("observables.tsv", observables),
        ("conditions.tsv", conditions),
        ("experiments.tsv", experiments),
        ("measurements.tsv", measurements),
    ];
    let tables = sheets.iter().map(|(name, sheet)| (name.to_string(), sheet.text()));
    let files = std::iter::once(("problem.yaml".to_string(), yaml)).chain(tables).collect();
    Some(Converted { files, first_prior: converter.first_prior })
}

/// Targets and values of a condition.
type Rows = Vec<(String, String)>;

struct Converter<'a> {
    problem: &'a Problem,
    facts: &'a ModelFacts,
    /// Ids of the parameter table.
    rows: FxHashSet<&'a str>,
    failed: bool,
    first_prior: Option<Span>,
    d: &'a mut Diagnostics,
}

impl<'a> Converter<'a> {
    fn refuse(&mut self, place: &Span, construct: &str, help: &str) {
        self.failed = true;
        self.d.push(super::unsupported(place, construct, help));
    }

    /// Conditions, experiments, and for each experiment of the problem its id.
    fn experiments(&mut self) -> (Sheet, Sheet, Vec<String>) {
        let mut taken: FxHashSet<String> = self.problem.parameters.iter().map(|p| p.id.clone()).collect();
        taken.extend(self.problem.observables.iter().map(|o| o.id.clone()));
        taken.extend(self.facts.numbers.keys().cloned().chain(self.facts.variable.iter().cloned()));
        let mut fresh = |wanted: String| {
            let mut id = wanted.clone();
            while !taken.insert(id.clone()) {
                id += "_";
            }
            id
        };
        let mut conditions = Sheet::new(&["conditionId", "targetId", "targetValue"]);
        let mut experiments = Sheet::new(&["experimentId", "time", "conditionId"]);
        let targets = self.targets();
        let mut known: IndexMap<Vec<(String, String)>, String> = IndexMap::new();
        let mut names = Vec::new();
        for experiment in &self.problem.experiments {
            let (before, simulation) = experiment.conditions.clone().unwrap_or_default();
            let name = match &before {
                Some(before) => format!("experiment__{before}__{simulation}"),
                None => format!("experiment__{simulation}"),
            };
            let name = fresh(name);
            let mut periods =
                experiment.periods.iter().zip(before.iter().chain([&simulation])).map(|(p, id)| (p, id.clone())).collect::<Vec<_>>();
            let reset = self.resets(experiment);
            let mut steps: Vec<(f64, String, Rows)> = Vec::new();
            for (period, id) in periods.drain(..) {
                let changes = period.changes.iter().filter(|c| targets.contains(c.target.as_str()));
                let rows = changes.filter_map(|c| Some((c.target.clone(), self.value(c, &period.changes)?))).collect();
                steps.push((period.time, id, rows));
            }
            if !reset.is_empty() {
                steps.push((0.0, format!("reset__{}__{simulation}", before.unwrap_or_default()), reset));
            }
            for (time, id, rows) in steps {
                if rows.is_empty() {
                    experiments.rows.push(vec![name.clone(), time_text(time), String::new()]);
                    continue;
                }
                let id = known.entry(rows).or_insert_with_key(|rows| {
                    let id = fresh(id);
                    conditions.rows.extend(rows.iter().map(|(target, value)| vec![id.clone(), target.clone(), value.clone()]));
                    id
                });
                experiments.rows.push(vec![name.clone(), time_text(time), id.clone()]);
            }
            names.push(name);
        }
        (conditions, experiments, names)
    }

    /// What conditions of version 2 can change: entities of the model and names in formulas. What only overrides name stands in the
    /// measurement table by its value.
    fn targets(&self) -> FxHashSet<&'a str> {
        let facts = self.facts;
        let constants = facts.numbers.keys().chain(facts.assigned.iter().map(|a| &a.0)).chain(&facts.without_value);
        let mut targets: FxHashSet<&str> = constants.chain(&facts.variable).map(String::as_str).collect();
        for formula in self.problem.observables.iter().flat_map(|o| [&o.formula, &o.noise]) {
            formula.ast.walk(&mut |node| targets.extend(if let AstKind::Name(name) = &node.kind { Some(name.as_str()) } else { None }));
        }
        targets
    }

    /// Constants that the pre-equilibration of an experiment changes and its simulation condition does not, with the model's values.
    fn resets(&mut self, experiment: &Experiment) -> Vec<(String, String)> {
        let [before, after] = experiment.periods.as_slice() else { return Vec::new() };
        let named: FxHashSet<&str> = after.changes.iter().map(|c| c.target.as_str()).collect();
        let mut changed: FxHashSet<&str> = before.changes.iter().map(|c| c.target.as_str()).chain(named.iter().copied()).collect();
        let mut rows = Vec::new();
        for change in before.changes.iter().filter(|c| !named.contains(c.target.as_str()) && !self.facts.variable.contains(&c.target)) {
            match self.facts.numbers.get(&change.target) {
                Some(value) => rows.push((change.target.clone(), show(*value))),
                // An output parameter without a value in the simulation condition is of no use there.
                None if !self.facts.assigned.iter().any(|a| a.0 == change.target) => {}
                None => {
                    let what = format!("setting `{}` back to its initial assignment after a pre-equilibration", change.target);
                    self.refuse(&change.span, &what, "name its value in the simulation condition too");
                }
            }
        }
        // Version 1 evaluates initial assignments of constants anew for the simulation condition.
        for _ in 0..self.facts.assigned.len() {
            let more = self.facts.assigned.iter().filter(|(_, names)| names.iter().any(|n| changed.contains(n.as_str())));
            changed.extend(more.map(|(id, _)| id.as_str()).collect::<Vec<_>>());
        }
        let facts = self.facts;
        for (id, _) in facts.assigned.iter().filter(|(id, _)| changed.contains(id.as_str()) && !named.contains(id.as_str())) {
            if let Some(change) =
                before.changes.first().or(after.changes.first()).filter(|_| !before.changes.iter().any(|c| c.target == *id))
            {
                let what = format!("the initial assignment of `{id}`, which depends on conditions, after a pre-equilibration");
                self.refuse(&change.span.clone(), &what, "give it an assignment rule instead");
            }
        }
        rows
    }

    /// The value of a change in a condition with these changes, as version 2 may write it: a number or a parameter of the table.
    fn value(&mut self, change: &Change, all: &[Change]) -> Option<String> {
        self.resolved(&change.value.ast.kind, &change.value.span, all, 0)
    }

    fn resolved(&mut self, value: &AstKind, place: &Span, condition: &[Change], depth: usize) -> Option<String> {
        match value {
            AstKind::Number(value) => Some(show(*value)),
            AstKind::Name(name) => self.named(name, place, condition, depth),
            _ => {
                self.refuse(place, "a formula in a condition table of version 1", "write a number or a name");
                None
            }
        }
    }

    fn named(&mut self, name: &str, place: &Span, condition: &[Change], depth: usize) -> Option<String> {
        let in_condition = condition.iter().find(|c| c.target == name).filter(|_| depth < condition.len() + 1);
        if let Some(change) = in_condition {
            return self.resolved(&change.value.ast.kind, &change.value.span, condition, depth + 1);
        }
        if self.rows.contains(name) {
            return Some(name.to_string());
        }
        if let Some(value) = self.facts.numbers.get(name) {
            return Some(show(*value));
        }
        self.refuse(
            place,
            &format!("the value `{name}`, which is no number and no parameter of the table,"),
            "put it into the parameter table",
        );
        None
    }

    fn observables(&mut self) -> Sheet {
        let mut sheet = Sheet::new(&[
            "observableId",
            "observableName",
            "observableFormula",
            "noiseFormula",
            "noiseDistribution",
            "observablePlaceholders",
            "noisePlaceholders",
        ]);
        for o in &self.problem.observables {
            let (family, decadic) = match o.distribution {
                NoiseDistribution::Normal => ("normal", false),
                NoiseDistribution::LogNormal => ("log-normal", false),
                NoiseDistribution::Log10Normal => ("log-normal", true),
                NoiseDistribution::Laplace => ("laplace", false),
                NoiseDistribution::LogLaplace => ("log-laplace", false),
                NoiseDistribution::Log10Laplace => ("log-laplace", true),
            };
            let noise = if decadic { format!("({}) * {}", text(&o.noise.span), show(LN_10)) } else { text(&o.noise.span) };
            sheet.rows.push(vec![
                o.id.clone(),
                o.name.clone().unwrap_or_default(),
                text(&o.formula.span),
                noise,
                family.to_string(),
                o.observable_placeholders.join(";"),
                o.noise_placeholders.join(";"),
            ]);
        }
        sheet
    }

    /// The measurements; further columns of the tables stay, but for those that version 2 reads otherwise.
    fn measurements(&mut self, experiments: &[String]) -> Sheet {
        const OWN: [&str; 7] = [
            "observableId",
            "preequilibrationConditionId",
            "simulationConditionId",
            "time",
            "measurement",
            "observableParameters",
            "noiseParameters",
        ];
        const READ_OTHERWISE: [&str; 2] = ["experimentId", "modelId"];
        let tables = &self.problem.tables;
        let mut others: IndexSet<&str> = IndexSet::new();
        for table in tables.tables.iter() {
            others.extend(table.columns().map(|c| c.0).filter(|c| !c.is_empty() && !OWN.contains(c) && !READ_OTHERWISE.contains(c)));
        }
        let columns = ["observableId", "experimentId", "time", "measurement", "observableParameters", "noiseParameters"];
        let mut sheet = Sheet::new(&columns.into_iter().chain(others.iter().copied()).collect::<Vec<_>>());
        let problem = self.problem;
        for (m, (table, row)) in problem.measurements.iter().zip(&tables.rows) {
            let condition = problem.experiments[m.experiment].periods.last().map_or(&[][..], |p| p.changes.as_slice());
            let mut list = |values: &[Override]| {
                let texts = values.iter().filter_map(|value| match value {
                    Override::Number(value) => Some(show(*value)),
                    Override::Id(id, span) => self.named(id, span, condition, 0),
                });
                texts.collect::<Vec<_>>().join(";")
            };
            let mut cells = vec![
                problem.observables[m.observable].id.clone(),
                experiments[m.experiment].clone(),
                time_text(m.time),
                show(m.value),
                list(&m.observable_parameters),
                list(&m.noise_parameters),
            ];
            let table = &tables.tables[*table as usize];
            cells.extend(others.iter().map(|name| table.cell(*row as usize, table.find(name)).text().to_string()));
            sheet.rows.push(cells);
        }
        sheet
    }

    fn parameters(&mut self) -> Sheet {
        let mut sheet =
            Sheet::new(&["parameterId", "lowerBound", "upperBound", "nominalValue", "estimate", "priorDistribution", "priorParameters"]);
        let mut priors: Vec<&Span> = Vec::new();
        for p in &self.problem.parameters {
            let (family, numbers) = prior(p).unwrap_or_default();
            if !family.is_empty() {
                priors.extend(p.prior.iter().map(|prior| &prior.span));
            }
            sheet.rows.push(vec![
                p.id.clone(),
                show(p.lower),
                show(p.upper),
                p.nominal.map(show).unwrap_or_default(),
                p.estimate.to_string(),
                family.to_string(),
                numbers.iter().map(|v| show(*v)).collect::<Vec<_>>().join(";"),
            ]);
        }
        self.first_prior = priors.first().map(|p| Span::clone(p));
        sheet
    }
}

/// The prior in version 2's families: those on a logarithmic scale are densities of the logarithm.
fn prior(parameter: &Parameter) -> Option<(&'static str, Vec<f64>)> {
    let prior = parameter.prior.as_ref()?;
    let factor = match parameter.scale {
        Scale::Log10 => LN_10,
        Scale::Lin | Scale::Log => 1.0,
    };
    let scaled = || prior.parameters.iter().map(|v| v * factor).collect::<Vec<_>>();
    let on_lin = parameter.scale == Scale::Lin;
    Some(match prior.family {
        PriorFamily::Uniform => ("uniform", prior.parameters.clone()),
        PriorFamily::Normal => ("normal", prior.parameters.clone()),
        PriorFamily::Laplace => ("laplace", prior.parameters.clone()),
        PriorFamily::LogNormal => ("log-normal", prior.parameters.clone()),
        PriorFamily::LogLaplace => ("log-laplace", prior.parameters.clone()),
        PriorFamily::ScaleNormal if on_lin => ("normal", prior.parameters.clone()),
        PriorFamily::ScaleNormal => ("log-normal", scaled()),
        PriorFamily::ScaleLaplace if on_lin => ("laplace", prior.parameters.clone()),
        PriorFamily::ScaleLaplace => ("log-laplace", scaled()),
        // A uniform prior on the scale is none in version 1, and the others are not of version 1.
        _ => return None,
    })
}

fn text(span: &Span) -> String {
    span.source.text()[span.range.clone()].to_string()
}

fn time_text(time: f64) -> String {
    if time == f64::INFINITY {
        "inf".into()
    } else if time == f64::NEG_INFINITY {
        "-inf".into()
    } else {
        show(time)
    }
}
