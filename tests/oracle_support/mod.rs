//! Population problems written in the tests (SBML and PEtab), and the one place where marginal likelihoods of whole problems are asked for.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

#[path = "../event_support/mod.rs"]
pub mod event_support;
#[path = "../nlme_support/mod.rs"]
pub mod nlme_support;

use mixode::diag::Diagnostics;
pub use mixode::likelihood::integration::Integration;
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::problem::{ProblemObjective, Summary};
use mixode::likelihood::{Objective, Order};
use mixode::model::{self, CompileOptions};
use mixode::ode::Options;
use mixode::petab::{self, DataKind, Problem};
use mixode::sbml;
use std::fmt::Write as _;
use std::path::Path;

/// Decay of x from 2 at the rate k x - leak.
pub const DECAY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">
  <model id="decay">
    <listOfCompartments><compartment id="c" size="1" constant="true"/></listOfCompartments>
    <listOfSpecies>
      <species id="x" compartment="c" initialConcentration="2" hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/>
    </listOfSpecies>
    <listOfParameters><parameter id="k" value="1" constant="true"/><parameter id="leak" value="0.1" constant="true"/></listOfParameters>
    <listOfReactions>
      <reaction id="loss" reversible="false" fast="false">
        <listOfReactants><speciesReference species="x" stoichiometry="1" constant="true"/></listOfReactants>
        <kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML">
          <apply><times/><ci>c</ci><apply><minus/><apply><times/><ci>k</ci><ci>x</ci></apply><ci>leak</ci></apply></apply></math></kineticLaw>
      </reaction>
    </listOfReactions>
  </model>
</sbml>
"#;

fn population_options(integration: Integration) -> PopulationOptions {
    PopulationOptions { integration: Some(integration), ..PopulationOptions::default() }
}

pub fn tight() -> Options {
    Options { rtol: 1e-12, atol: 1e-15, sensitivity_factor: 1.0, ..Options::default() }
}

#[track_caller]
pub fn read(path: &Path) -> Problem {
    let mut diagnostics = Diagnostics::new();
    petab::read(path, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)))
}

#[track_caller]
pub fn objective(problem: &Problem, options: Options, integration: Integration) -> ProblemObjective {
    let mut diagnostics = Diagnostics::new();
    let sbml = sbml::read(&problem.model, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    let system = model::build(&sbml, Some(problem), 0.0, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    let compile = CompileOptions { second: ProblemObjective::needs_second_order(problem), ..CompileOptions::default() };
    ProblemObjective::new(model::compile(&system, compile).unwrap(), problem, options, &population_options(integration)).unwrap()
}

/// The problem with the measurements that `keep` chooses.
pub fn with_rows(problem: &Problem, keep: impl Fn(&DataKind) -> bool) -> Problem {
    let mut part = problem.clone();
    part.measurements.retain(|m| keep(&m.kind));
    part
}

/// Natural parameters (theta1, theta2, scaling, x2_cut, three SDs) of O3's xi = (log theta1, log theta2, log s, log c, log variances).
pub fn conversion_parameters(xi: &[f64]) -> Vec<f64> {
    xi[..4].iter().map(|v| v.exp()).chain(xi[4..].iter().map(|v| (0.5 * v).exp())).collect()
}

/// Derivatives of the objective by the natural parameters.
pub fn natural_gradient(objective: &ProblemObjective, natural: &[f64]) -> Vec<f64> {
    let x = objective.map().scaled(natural);
    let gradient = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap().gradient;
    gradient.iter().enumerate().map(|(k, g)| g / objective.map().direction(k, natural[objective.map().theta(k)]).first).collect()
}

/// The negative log-likelihood of one kind of data.
pub fn term(summary: &Summary, kind: &str) -> f64 {
    summary.terms.iter().find(|(k, _)| *k == kind).unwrap().1
}

/// A problem of one model with the extension `nlme`. Tables are given row by row, cells separated by blanks, `-` for an empty cell.
#[derive(Debug, Clone, Default)]
pub struct Tables<'a> {
    pub model: String,
    pub parameters: Vec<(&'a str, f64)>,
    /// Targets of random effects, whose names are `b_` and the target, with their transformations.
    pub effects: Vec<(&'a str, &'a str)>,
    /// Row and column (targets), kind, value.
    pub covariance: Vec<(&'a str, &'a str, &'a str, &'a str)>,
    pub hyperparameters: Vec<(&'a str, f64)>,
    /// Identifier, formula, noise formula.
    pub observables: Vec<(String, String, String)>,
    pub statistics: Vec<(&'a str, &'a str)>,
    /// Trigger of the event `event`, which rises.
    pub trigger: &'a str,
    /// Columns of the measurements.
    pub columns: &'a str,
    pub measurements: Vec<String>,
}

/// Cells separated by blanks as a line of a table.
pub fn line(cells: &str) -> String {
    let cells: Vec<&str> = cells.split_whitespace().map(|cell| if cell == "-" { "" } else { cell }).collect();
    cells.join("\t") + "\n"
}

impl Tables<'_> {
    #[track_caller]
    pub fn problem(&self) -> Problem {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let parameters = |rows: &[(&str, f64)]| {
            let mut table = line("parameterId lowerBound upperBound nominalValue estimate");
            for (id, value) in rows {
                let (lower, upper) = if *value > 0.0 { (1e-12, 1e6) } else { (-1e6, 1e6) };
                table += &line(&format!("{id} {lower} {upper} {value:e} true"));
            }
            table
        };
        write("model.xml", &self.model);
        write("parameters.tsv", &parameters(&self.parameters));
        write("hyperparameters.tsv", &parameters(&self.hyperparameters));
        let mut effects = line("randomEffectId targetId transformation level distribution");
        for (target, transformation) in &self.effects {
            effects += &line(&format!("b_{target} {target} {transformation} individual normal"));
        }
        write("random_effects.tsv", &effects);
        let mut covariance = line("rowId colId kind value");
        for (row, column, kind, value) in &self.covariance {
            covariance += &line(&format!("b_{row} b_{column} {kind} {value}"));
        }
        write("covariance.tsv", &covariance);
        let mut observables = line("observableId observableFormula noiseFormula noiseDistribution");
        for (id, formula, noise) in &self.observables {
            let _ = writeln!(observables, "{id}\t{formula}\t{noise}\tnormal");
        }
        write("observables.tsv", &observables);
        write("measurements.tsv", &(line(self.columns) + &self.measurements.iter().map(|row| line(row)).collect::<String>()));
        let mut yaml =
            "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
             observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\nextensions:\n  nlme:\n    version: 0.1.0\n    \
             required: true\n    random_effect_files: [random_effects.tsv]\n    covariance_files: [covariance.tsv]\n"
                .to_string();
        if !self.hyperparameters.is_empty() {
            yaml += "    hyperparameter_files: [hyperparameters.tsv]\n";
        }
        if !self.trigger.is_empty() {
            write("events.tsv", &format!("eventId\ttriggerFormula\tdirection\toccurrence\nevent\t{}\tup\tfirst\n", self.trigger));
            yaml += "    event_files: [events.tsv]\n";
        }
        if !self.statistics.is_empty() {
            let mut table = line("statisticId formula");
            self.statistics.iter().for_each(|(id, formula)| table += &format!("{id}\t{formula}\n"));
            write("statistics.tsv", &table);
            yaml += "    statistic_files: [statistics.tsv]\n";
        }
        write("problem.yaml", &yaml);
        read(&folder.path().join("problem.yaml"))
    }
}
