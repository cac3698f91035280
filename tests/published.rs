//! The two published case studies against values computed independently of mixode (`problems/README.md` of the reference data).

#![allow(clippy::unwrap_used)]

use mixode::diag::Diagnostics;
use mixode::likelihood::integration::Integration;
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{Objective, Order};
use mixode::model::{self, CompileOptions};
use mixode::ode::Options;
use mixode::petab::{self, DataKind, Problem};
use mixode::sbml;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder of a problem in the reference data, or `None` with a visible line.
fn folder(problem: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("MIXODE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    if shared.is_dir() {
        return Some(shared.join("problems").join(problem));
    }
    eprintln!("left out: tests of {problem} (no reference data; set MIXODE_SHARED)");
    None
}

fn read(path: &Path) -> Problem {
    let mut diagnostics = Diagnostics::new();
    petab::read(path, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)))
}

fn objective(problem: &Problem, tolerances: (f64, f64), integration: Integration) -> ProblemObjective {
    let mut diagnostics = Diagnostics::new();
    let sbml = sbml::read(&problem.model, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    let system = model::build(&sbml, Some(problem), 0.0, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    let compile = CompileOptions { second: ProblemObjective::needs_second_order(problem), ..CompileOptions::default() };
    let compiled = model::compile(&system, compile).unwrap();
    let options = Options { rtol: tolerances.0, atol: tolerances.1, ..Options::default() };
    let population = PopulationOptions { integration: Some(integration), ..PopulationOptions::default() };
    ProblemObjective::new(compiled, problem, options, &population).unwrap()
}

fn reference(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("reference.json")).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// The rows of the parameter table with the values of `values`, nominal ones otherwise.
fn natural(problem: &Problem, values: &Value) -> Vec<f64> {
    problem.parameters.iter().map(|p| values[&p.id].as_f64().or(p.nominal).unwrap()).collect()
}

/// The problem with the measurements that `keep` chooses.
fn with_rows(problem: &Problem, keep: impl Fn(&DataKind, &str) -> bool) -> Problem {
    let mut part = problem.clone();
    let experiments = &problem.experiments;
    part.measurements.retain(|m| keep(&m.kind, &experiments[m.experiment].id));
    part
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, absolute: f64, relative: f64) {
    let error = (found - expected).abs();
    assert!(error <= absolute.max(relative * expected.abs()), "{what}: {found} is not {expected} ({error:.1e})");
}

/// Derivatives by the logarithms of the parameters, which are the estimation scales of these problems.
fn check_gradient(what: &str, objective: &ProblemObjective, natural: &[f64], expected: &Value, absolute: f64, relative: f64) {
    let x = objective.map().scaled(natural);
    let evaluation = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap();
    for (p, g) in objective.parameters().iter().zip(evaluation.gradient.iter()) {
        close(&format!("{what}: d/dlog {}", p.id), *g, expected[&p.id].as_f64().unwrap_or(0.0), absolute, relative);
    }
}

const VARIANTS: [&str; 12] = [
    "problem",
    "problem_censored",
    "problem_weighted",
    "problem_scenario2",
    "problem_scenario3",
    "problem_scenario4",
    "problem_scenario5",
    "problem_scenario6",
    "problem_trajectory",
    "problem_trajectory_bulk",
    "problem_trajectory_snapshot",
    "problem_no_events",
];

/// Every variant at both parameter sets. The reference gives 1e-8 a cell and 1e-7 in total; statistics of the population have 1e-9.
#[test]
fn conversion_totals() {
    let Some(folder) = folder("conversion_published") else { return };
    let reference = reference(&folder);
    for variant in VARIANTS {
        let problem = read(&folder.join(format!("{variant}.yaml")));
        let objective = objective(&problem, (1e-12, 1e-15), Integration::Laplace);
        for set in ["nominal", "repository_estimate"] {
            let summary = objective.summary(&natural(&problem, &reference[set]["parameters"])).unwrap();
            let expected = number(&reference[set]["totals"]["laplace_nll"][variant]);
            close(&format!("{variant} at {set}"), summary.nllh, expected, if summary.individuals.is_empty() { 1e-9 } else { 1e-7 }, 0.0);
        }
    }
}

#[test]
fn conversion_cells() {
    let Some(folder) = folder("conversion_published") else { return };
    let reference = reference(&folder);
    for (group, variant) in [(0, "problem_trajectory"), (1, "problem_scenario5"), (2, "problem_censored")] {
        let problem = read(&folder.join(format!("{variant}.yaml")));
        let group = &reference["nominal"]["groups"][group];
        for (integration, name) in [(Integration::Laplace, "laplace_nll"), (Integration::GaussNewton, "laplace_nll_gauss_newton")] {
            let objective = objective(&problem, (1e-12, 1e-15), integration);
            let summary = objective.summary(&natural(&problem, &Value::Null)).unwrap();
            assert_eq!(summary.individuals.len(), 30);
            for cell in &summary.individuals {
                let expected = &group["per_cell"][&cell.id];
                close(&format!("{variant} {} {name}", cell.id), cell.nll, number(&expected[name]), 1e-8, 0.0);
            }
            if integration == Integration::Laplace {
                let measured: Vec<usize> = (0..problem.measurements.len())
                    .filter(|m| matches!(problem.measurements[*m].kind, DataKind::TimeToEvent { .. }))
                    .collect();
                for (m, cell) in measured.into_iter().zip(&summary.individuals) {
                    let expected = group["per_cell"][&cell.id]["event_time"].as_f64().unwrap_or(f64::INFINITY);
                    close(&format!("{variant} {} event time", cell.id), summary.simulations[m], expected, 1e-7, 0.0);
                }
            }
        }
    }
}

#[test]
fn conversion_gradients() {
    let Some(folder) = folder("conversion_published") else { return };
    let reference = reference(&folder);
    for (group, variant) in [(0, "problem_trajectory"), (1, "problem_scenario5"), (3, "problem_scenario6")] {
        let problem = read(&folder.join(format!("{variant}.yaml")));
        let group = &reference["nominal"]["groups"][group];
        let expected = if group["gradient"].is_null() { &group["gradient_laplace"] } else { &group["gradient"] };
        let objective = objective(&problem, (1e-12, 1e-15), Integration::Laplace);
        check_gradient(variant, &objective, &natural(&problem, &Value::Null), &expected["d_nll_d_log"], 1e-6, 1e-6);
    }
    // Survivors: the cells alone.
    let problem = with_rows(&read(&folder.join("problem_censored.yaml")), |kind, _| {
        matches!(kind, DataKind::Trajectory { .. } | DataKind::TimeToEvent { .. })
    });
    let objective = objective(&problem, (1e-12, 1e-15), Integration::Laplace);
    let expected = &reference["nominal"]["groups"][2]["gradient_laplace"]["d_nll_d_log"];
    check_gradient("survivors", &objective, &natural(&problem, &Value::Null), expected, 1e-6, 1e-6);
}

/// Two cells of every dose and line: Laplace values to 1e-7, as the reference states.
#[test]
fn apoptosis_cells() {
    let Some(folder) = folder("apoptosis_published") else { return };
    let reference = reference(&folder);
    let problem = read(&folder.join("problem_scenario3.yaml"));
    let individuals = &problem.nlme.as_ref().unwrap().individuals;
    let chosen: Vec<bool> = individuals.iter().map(|i| i.id.ends_with("_c01") || i.id.ends_with("_c07")).collect();
    assert_eq!(chosen.iter().filter(|c| **c).count(), 16);
    let part = with_rows(&problem, |kind, _| match kind {
        DataKind::Trajectory { individual } | DataKind::TimeToEvent { individual, .. } => chosen[*individual],
        _ => false,
    });
    for (integration, name) in [(Integration::Laplace, "laplace_nll"), (Integration::GaussNewton, "laplace_nll_gauss_newton")] {
        let objective = objective(&part, (1e-12, 1e-14), integration);
        let summary = objective.summary(&natural(&part, &Value::Null)).unwrap();
        assert_eq!(summary.individuals.len(), 16);
        for cell in &summary.individuals {
            let expected = &reference["cells"][&cell.id];
            close(&format!("{} {name}", cell.id), cell.nll, number(&expected[name]), 1e-7, 0.0);
            for (effect, b) in cell.ebe.iter().filter(|_| integration == Integration::Laplace) {
                let known = &expected["b_hat"][effect.trim_start_matches("b_")];
                close(&format!("{} {effect}", cell.id), *b, known.as_f64().unwrap_or(0.0), 1e-7, 0.0);
            }
        }
    }
}

#[test]
fn apoptosis_cell_gradients() {
    let Some(folder) = folder("apoptosis_published") else { return };
    let reference = reference(&folder);
    let problem = read(&folder.join("problem_scenario3.yaml"));
    let individuals = &problem.nlme.as_ref().unwrap().individuals;
    for (id, expected) in reference["cell_gradients"]["cells"].as_object().unwrap() {
        let cell = individuals.iter().position(|i| i.id == *id).unwrap();
        let part = with_rows(
            &problem,
            |kind, _| matches!(kind, DataKind::Trajectory { individual } | DataKind::TimeToEvent { individual, .. } if *individual == cell),
        );
        let objective = objective(&part, (1e-11, 1e-13), Integration::Laplace);
        check_gradient(id, &objective, &natural(&part, &Value::Null), &expected["d_laplace_nll_d_log"], 1e-5, 1e-5);
    }
}

/// Statistics without ligand are in closed form in the reference (1e-10); those of the blots over time are integrals, where 4096 points are off by
/// 0.003 (root mean square over scrambles) and 0.006 at most, as the reference states.
#[test]
fn apoptosis_population() {
    let Some(folder) = folder("apoptosis_published") else { return };
    let reference = reference(&folder);
    let problem = read(&folder.join("problem_scenario2.yaml"));
    for group in reference["population_groups"].as_array().unwrap() {
        let (experiment, data_type) = (group["experimentId"].as_str().unwrap(), group["dataType"].as_str().unwrap());
        let part = with_rows(&problem, |kind, e| {
            e == experiment
                && if data_type == "bulk" { matches!(kind, DataKind::Bulk(_)) } else { matches!(kind, DataKind::SnapshotStatistic(_)) }
        });
        assert_eq!(part.measurements.len() as u64, group["rows"].as_u64().unwrap());
        let objective = objective(&part, (1e-10, 1e-12), Integration::Laplace);
        let at = natural(&part, &Value::Null);
        let summary = objective.summary(&at).unwrap();
        let what = format!("{experiment} {data_type}");
        if experiment.ends_with("_0") {
            close(&what, summary.nllh, number(&group["nll"]), 1e-9, 0.0);
            check_gradient(&what, &objective, &at, &group["gradient_wrt_log_parameter"], 1e-5, 1e-5);
        } else {
            close(&what, summary.nllh, number(&group["nll"]), 0.006, 0.0);
            for (model, expected) in summary.simulations.iter().zip(group["model_values"].as_array().unwrap()) {
                close(&what, *model, number(&expected["value"]), 1e-2 * number(&expected["sd"]), 0.0);
            }
        }
    }
}

/// Where survivors are censored, Laplace's approximation misses 1.5 to 2.3 in each of the 11 (reference README); importance sampling meets the
/// exact values of all cells within its errors.
#[test]
fn conversion_survivors_by_importance_sampling() {
    let Some(folder) = folder("conversion_published") else { return };
    let reference = reference(&folder);
    let problem = read(&folder.join("problem_censored.yaml"));
    let objective = objective(&problem, (1e-8, 1e-10), Integration::Laplace);
    let at = natural(&problem, &Value::Null);
    let (summary, importance) = (objective.summary(&at).unwrap(), objective.importance(&at, 500, 1).unwrap());
    let cells = &reference["nominal"]["groups"][2]["per_cell"];
    let mut poor = 0;
    for ((id, value, error), laplace) in importance.individuals.iter().zip(&summary.individuals) {
        close(&format!("{id} by importance sampling"), *value, number(&cells[id]["exact_nll"]), 5.0 * error, 0.0);
        poor += usize::from((laplace.nll - value).abs() > f64::max(0.1, 3.0 * error));
    }
    assert!(importance.standard_error < 0.25, "{}", importance.standard_error);
    assert!((10..=12).contains(&poor), "{poor} individuals with a poor Laplace approximation");
}

/// Two cells by cubature: one with an observed event and a survivor.
#[test]
fn conversion_cells_exact() {
    let Some(folder) = folder("conversion_published") else { return };
    let reference = reference(&folder);
    let problem = read(&folder.join("problem_trajectory.yaml"));
    let individuals = &problem.nlme.as_ref().unwrap().individuals;
    let chosen: Vec<usize> = (0..individuals.len()).filter(|i| ["c02", "c13"].contains(&individuals[*i].id.as_str())).collect();
    let part = with_rows(&problem, |kind, _| matches!(kind, DataKind::Trajectory { individual } if chosen.contains(individual)));
    let mut diagnostics = Diagnostics::new();
    let sbml = sbml::read(&part.model, &mut diagnostics).unwrap();
    let system = model::build(&sbml, Some(&part), 0.0, &mut diagnostics).unwrap();
    let compiled = model::compile(&system, CompileOptions { second: true, ..CompileOptions::default() }).unwrap();
    let population = PopulationOptions { integration: Some(Integration::Exact), ..PopulationOptions::default() };
    let objective = ProblemObjective::new(compiled, &part, Options::default(), &population).unwrap();
    let at = natural(&part, &Value::Null);
    for cell in &objective.summary(&at).unwrap().individuals {
        close(&cell.id, cell.nll, number(&reference["nominal"]["groups"][0]["per_cell"][&cell.id]["exact_nll"]), 1e-4, 0.0);
    }
    // Fisher's identity against central differences.
    let x = objective.map().scaled(&at);
    let gradient = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap().gradient;
    for k in 0..x.len() {
        let value = |h: f64| {
            let mut y = x.clone();
            y[k] += h;
            objective.evaluate(&y, Order::Value, &mut objective.memory()).unwrap().value
        };
        let difference = (8.0 * (value(1e-2) - value(-1e-2)) - value(2e-2) + value(-2e-2)) / 0.12;
        // The integrals are good to 1e-4, so their differences to about a hundredth.
        close(&format!("d/dlog {}", objective.parameters()[k].id), gradient[k], difference, 0.02, 1e-3);
    }
}
