//! Adjoint sensitivities against closed forms, against forward sensitivities for everything that events can do, and on benchmark problems.
#![allow(clippy::unwrap_used)]

mod event_support;
mod ode_support;
mod reference_data;

use event_support::{Event, Subject, document, reactions, suite_case, with_rules};
use mixode::diag::Diagnostics;
use mixode::likelihood::adjoint::{Method, Request};
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{Evaluation, Objective, Order};
use mixode::model::compiled::{PeriodChange, Target};
use mixode::model::{self, CompileOptions, CompiledModel};
use mixode::ode::{Input, Options, SimulationError, Simulator, Weights};
use mixode::{petab, sbml};
use ode_support::{Direction, Plain, Start, change, expected, model};
use reference_data::shared;
use std::path::Path;
use std::sync::Arc;

fn tight() -> Options {
    Options { rtol: 1e-12, atol: 1e-14, sensitivity_factor: 1.0, adjoint_factor: 10.0, record_factor: 0.1, ..Options::default() }
}

/// dL/dp with L the weighted sum of outputs, where initial states are formulas of the parameters.
fn gradient(
    m: &Arc<CompiledModel>,
    initial: &[&str],
    values: &[f64],
    changes: &[PeriodChange],
    times: &[f64],
    weights: &[f64],
) -> Vec<f64> {
    let directions: Vec<Direction> = (0..values.len()).map(Plain).collect();
    let start = Start::new(m, initial, values, &directions, false);
    let input = Input { directions: 0, state_seeds: &[], parameter_seeds: &[], second: None, ..start.input(changes) };
    let mut simulator = Simulator::new(m.clone(), tight()).unwrap();
    simulator.record(&input, times).unwrap();
    let by_start = simulator.backward(&Weights { states: weights.to_vec(), parameters: vec![] }).unwrap();
    let chain = |b: usize| (0..initial.len()).map(|i| by_start.states[i] * start.state_seeds[i * values.len() + b]).sum::<f64>();
    (0..values.len()).map(|b| by_start.parameters[b] + chain(b)).collect()
}

#[track_caller]
fn close(what: &str, found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f - w).abs() <= tolerance * scale, "{what} [{i}]: {f}, expected {w} (difference {:e})", f - w);
    }
}

/// The sum of closed forms, weighted, with its derivatives by all parameters.
fn closed_form(names: &[&str], values: &[f64], terms: &[(f64, String)]) -> Vec<f64> {
    let directions: Vec<Direction> = (0..values.len()).map(Plain).collect();
    let text = terms.iter().map(|(w, f)| format!("({w})*({f})")).collect::<Vec<_>>().join(" + ");
    expected(names, &text, values, &directions)[1].clone()
}

/// Conversion A <-> B with closed form, many outputs with weights of both signs. Tolerance: 1e-8, as forward sensitivities have.
#[test]
fn linear_model() {
    let names = ["a", "b", "x0"];
    let m = model(&[("x", "b*y - a*x"), ("y", "a*x - b*y")], &names, &[]);
    let values = [0.6, 0.2, 1.5];
    let times: Vec<f64> = (0..12).map(|i| 0.3 * f64::from(i)).collect();
    let weights: Vec<f64> = (0..24).map(|i| f64::from(i % 5) - 1.7).collect();
    let found = gradient(&m, &["x0", "0*x0"], &values, &[], &times, &weights);
    let terms: Vec<(f64, String)> = (times.iter().enumerate())
        .flat_map(|(i, t)| {
            let y = format!("x0*a/(a + b)*(1 - exp(-(a + b)*{t}))");
            [(weights[2 * i], format!("x0 - {y}")), (weights[2 * i + 1], y)]
        })
        .collect();
    close("dL/dp", &found, &closed_form(&names, &values, &terms), 1e-8);
}

/// Logistic growth, whose Jacobian changes along the way.
#[test]
fn nonlinear_model() {
    let names = ["r", "k", "x0"];
    let m = model(&[("x", "r*x*(1 - x/k)")], &names, &[]);
    let values = [0.9, 3.0, 0.2];
    let times = [0.5, 2.0, 4.0, 9.0];
    let weights = [1.0, -2.0, 0.5, 3.0];
    let found = gradient(&m, &["x0"], &values, &[], &times, &weights);
    let form = |t: &f64| format!("k*x0/(x0 + (k - x0)*exp(-r*{t}))");
    let terms: Vec<(f64, String)> = weights.iter().zip(&times).map(|(w, t)| (*w, form(t))).collect();
    close("dL/dp", &found, &closed_form(&names, &values, &terms), 1e-8);
}

/// Periods that set a state and a parameter, with an output at the very time of a change and later ones.
#[test]
fn changes_of_period() {
    let names = ["k", "x0", "dose"];
    let m = model(&[("x", "-k*x")], &names, &[]);
    let values = [0.7, 2.0, 0.4];
    let changes = [change(&m, 1.0, &[(Target::State(0), "x + dose*k"), (Target::Parameter(0), "2*k + 0.1*x")])];
    let times = [0.5, 1.0, 1.8];
    let found = gradient(&m, &["x0"], &values, &changes, &times, &[0.3, -1.0, 2.0]);
    let before = "x0*exp(-k)";
    let after = format!("({before} + dose*k)");
    let terms = [(0.3, "x0*exp(-0.5*k)".to_string()), (-1.0, after.clone()), (2.0, format!("{after}*exp(-0.8*(2*k + 0.1*{before}))"))];
    close("dL/dp", &found, &closed_form(&names, &values, &terms), 1e-8);
}

/// A switch at a state whose time moves with all parameters: x = c exp(-b (t - t*)) with t* = log(x0/c)/a.
#[test]
fn switch_at_a_state() {
    let names = ["a", "b", "c", "x0", "above"];
    let m = model(&[("x", "-above*a*x - (1 - above)*b*x")], &names, &[("above", "x - c", false)]);
    let found = gradient(&m, &["x0"], &[0.9, 0.25, 0.7, 3.0, 0.0], &[], &[1.0, 4.0], &[1.0, 2.0]);
    let values = [0.9, 0.25, 0.7, 3.0];
    let terms = [(1.0, "x0*exp(-a)".to_string()), (2.0, "c*exp(-b*(4 - log(x0/c)/a))".to_string())];
    close("dL/dp", &found[..4], &closed_form(&names[..4], &values, &terms), 1e-8);
}

/// Weights of both signs for all outputs.
fn some_weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| [1.0, -0.6, 0.35, 1.7, -1.2][i % 5]).collect()
}

/// The gradient that forward sensitivities give for the same weights, with the size of its largest contributions.
fn forward(subject: &Subject, weights: &[f64], times: &[f64], options: &Options) -> Result<(Vec<f64>, Vec<f64>), SimulationError> {
    let trajectory = subject.simulate(&subject.theta, 1, times, options)?;
    let n = subject.theta.len();
    let (mut sum, mut size) = (vec![0.0; n], vec![0.0_f64; n]);
    for (i, w) in weights.iter().enumerate() {
        let row = &trajectory.block(i / trajectory.nx)[i % trajectory.nx * trajectory.columns..][..1 + n];
        for k in 0..n {
            sum[k] += w * row[1 + k];
            size[k] = size[k].max((w * row[1 + k]).abs());
        }
    }
    Ok((sum, size))
}

#[track_caller]
fn agrees(what: &str, xml: &str, theta: &[(&str, f64)], times: &[f64]) {
    let theta: Vec<(String, f64)> = theta.iter().map(|(n, v)| (n.to_string(), *v)).collect();
    let subject = Subject::new(xml, &theta, false).unwrap();
    let weights = some_weights(times.len() * subject.model.states.len());
    let (wanted, _) = forward(&subject, &weights, times, &tight()).unwrap();
    close(what, &subject.gradient(&weights, times, &tight()).unwrap(), &wanted, 1e-7);
}

/// Delayed events hold a time, and values, from one moment to a later one; both depend on states and parameters.
#[test]
fn delayed_events() {
    for at_trigger in [true, false] {
        let sets = [("x", "x + a*y*time"), ("k", "k*b")];
        let event = Event { delay: Some("d + 0.1*x"), at_trigger, ..Event::new("x < c", &sets) };
        let xml = document(&[("x", "x0", "-k*x"), ("y", "1", "x - 0.3*y"), ("k", "k0", "")], &["x0", "k0", "a", "b", "c", "d"], &[event]);
        let theta = [("x0", 2.0), ("k0", 0.9), ("a", 0.4), ("b", 0.6), ("c", 1.2), ("d", 0.5)];
        agrees("delayed", &xml, &theta, &[0.5, 0.9, 1.4, 3.0]);
    }
}

#[test]
fn cascades_and_simultaneous_events() {
    let events = [
        Event::new("x < c", &[("y", "y + d*x")]),
        Event::new("y > 1", &[("x", "x + 2*d"), ("z", "z + y*time")]),
        Event::new("z > 0.5", &[("x", "x*e")]),
    ];
    let xml = document(&[("x", "x0", "-k*x"), ("y", "0", "-0.2*y"), ("z", "0", "0.05*x")], &["x0", "k", "c", "d", "e"], &events);
    agrees("cascade", &xml, &[("x0", 2.0), ("k", 0.8), ("c", 1.0), ("d", 1.5), ("e", 0.7)], &[0.5, 1.0, 1.6]);
    let events = [
        Event { priority: Some("1"), ..Event::new("x < c", &[("y", "y*2")]) },
        Event { priority: Some("2"), ..Event::new("2*x < 2*c", &[("y", "y + d*time")]) },
        Event::new("x < 0.9*c", &[("y", "y - x")]),
    ];
    let xml = document(&[("x", "x0", "-k*x"), ("y", "1", "0.3*x")], &["x0", "k", "c", "d"], &events);
    agrees("simultaneous", &xml, &[("x0", 2.0), ("k", 0.8), ("c", 1.0), ("d", 1.5)], &[0.5, 1.0, 2.0]);
}

#[test]
fn algebraic_rules_and_fast_reactions() {
    let variables = [("x", "x0", "-k*x"), ("y", "0", "z + u"), ("z", "0.5", ""), ("u", "0", "")];
    let events = [Event::new("x < c", &[("x", "x + a*time"), ("y", "y*z")])];
    let xml = with_rules(&document(&variables, &["x0", "k", "a", "c"], &events), &["z + z^3 - a*x - time*c", "2*u - a*z - x"]);
    agrees("algebraic", &xml, &[("x0", 2.0), ("k", 0.8), ("a", 0.7), ("c", 1.0)], &[0.0, 0.5, 1.0, 2.0]);
    let list: [(bool, &[&str], &[&str], &str); 3] =
        [(true, &["A", "B"], &["C"], "A*B - q*C"), (false, &[], &["A"], "p*V"), (false, &["C"], &[], "V*d*C")];
    let xml = reactions(&[("A", "a0"), ("B", "b0"), ("C", "0")], &["q", "p", "d", "a0", "b0"], &list);
    agrees("fast", &xml, &[("q", 0.4), ("p", 0.3), ("d", 0.5), ("a0", 1.0), ("b0", 2.0)], &[0.0, 0.5, 3.0]);
}

/// The suite's event models, all states at four times. Tolerance: 1e-5 of the largest contribution, at the tight tolerances of both.
#[test]
fn event_models_of_the_suite() {
    let Some(suite) = shared("suites/sbml") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(suite).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let (mut compared, mut refused, mut wrong) = (0, vec![], vec![]);
    for folder in folders {
        let Some((xml, parameters, times)) = suite_case(&folder) else { continue };
        let Some(subject) = Subject::new(&xml, &parameters, false) else { continue };
        let case = folder.file_name().unwrap().to_str().unwrap().to_string();
        let weights = some_weights(times.len() * subject.model.states.len());
        let Ok((wanted, size)) = forward(&subject, &weights, &times, &tight()) else { continue };
        let found = match subject.gradient(&weights, &times, &tight()) {
            Ok(found) => found,
            Err(error) => {
                refused.push(format!("{case}: {error}"));
                continue;
            }
        };
        compared += 1;
        let largest = size.iter().fold(0.0_f64, |m, v| m.max(*v));
        for k in 0..found.len() {
            // False for a number that is none.
            let good = (found[k] - wanted[k]).abs() <= 1e-5 * size[k].max(1e-3 * largest) + 1e-9;
            if !good {
                wrong.push(format!("{case}: by {}: {}, forward {}", parameters[k].0, found[k], wanted[k]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} models:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.is_empty(), "refused, but not by forward sensitivities:\n{}", refused.join("\n"));
    assert!(compared >= 150, "too few: {compared} models");
}

fn objective(path: &Path, options: Options) -> ProblemObjective {
    let mut diagnostics = Diagnostics::new();
    let problem = petab::read(path, &mut diagnostics).unwrap();
    let sbml = sbml::read(&problem.model, &mut diagnostics).unwrap();
    let system = model::build(&sbml, Some(&problem), 0.0, &mut diagnostics).unwrap();
    let compiled = model::compile(&system, CompileOptions::default()).unwrap();
    ProblemObjective::new(compiled, &problem, options, &PopulationOptions::default()).unwrap()
}

/// Benchmark problems: adjoint gradients at default settings against forward ones at tight tolerances. DESIGN.md 2.4 asks for 1e-4;
/// the largest one measured was 7.5e-6 (Bachmann), and the check leaves a factor of 4 for other processors.
#[test]
fn benchmark_problems() {
    for name in ["Boehm_JProteomeRes2014", "Fujita_SciSignal2010", "Bachmann_MSB2011", "Borghans_BiophysChem1997", "Smith_BMCSystBiol2013"]
    {
        let Some(folder) = shared(&format!("suites/benchmarks/{name}")) else { continue };
        let evaluate = |request: Request, options: Options, order: Order| -> Evaluation {
            let mut objective = objective(&folder, options);
            objective.choose_method(request, 1.0, &[]);
            let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
            objective.evaluate(&x, order, &mut objective.memory()).unwrap()
        };
        let reference = evaluate(Request::Forward, Options { rtol: 1e-12, atol: 1e-15, ..Options::default() }, Order::Gradient);
        let adjoint = evaluate(Request::Adjoint, Options::default(), Order::Fisher);
        assert!(adjoint.fisher.is_none(), "adjoint sensitivities have no Fisher information");
        let relative = (&adjoint.gradient - &reference.gradient).norm() / reference.gradient.norm();
        assert!(relative < 3e-5, "{name}: {relative:e}");
        assert!((adjoint.value - reference.value).abs() < 1e-8 * reference.value.abs(), "{name}: {}", adjoint.value);
    }
}

/// The estimate takes forward sensitivities for few parameters and many outputs (Beer: measured 11 times faster), adjoint ones for many
/// parameters, also with many outputs (Lang: forward does not end in the time of ten adjoint gradients).
#[test]
fn automatic_choice() {
    let expected = [
        ("Lucarelli_CellSystems2018", Method::Adjoint),
        ("Lang_PLOSComputBiol2024", Method::Adjoint),
        ("Beer_MolBioSystems2014", Method::Forward),
    ];
    for (name, method) in expected {
        let Some(folder) = shared(&format!("suites/benchmarks/{name}")) else { continue };
        let mut objective = objective(&folder, Options::default());
        let nominal = objective.map().nominal().to_vec();
        let choice = objective.choose_method(Request::Auto, 1.0, &nominal);
        assert_eq!(choice.method, method, "{name}: {}", choice.reason);
    }
}
