//! The structural tests of NLME.md section 7, through whole problems.
#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::likelihood::{Objective, Order};
use mixode::ode::{Options, SimulationError};
use mixode::petab::Problem;
use oracle_support::event_support::{Event, Subject, document};
use oracle_support::nlme_support::{close, close_all, numbers, oracles, shared};
use oracle_support::{Integration, Tables, conversion_parameters, natural_gradient, objective, read, term, tight};
use std::path::Path;

/// Four cells, means and variances of the conversion reaction, whose unit of time is 1/`unit` of a minute; cells see the event where
/// `events`.
fn conversion(unit: f64, events: bool) -> Tables<'static> {
    let (theta1, theta2) = (0.6_f64, 0.2_f64);
    let mut measurements = Vec::new();
    for cell in 0..4 {
        let (p, q) = (theta1 * (0.3 * f64::from(cell) - 0.4).exp(), theta2 * (0.2 - 0.15 * f64::from(cell)).exp());
        for i in 0..6 {
            let t = 0.5 * f64::from(i);
            let x = (p + (q - p) * (-(p + q) * t).exp()) / (p + q);
            let y = 2.5 * x + 0.05 * f64::from(7 * cell + 3 * i).sin();
            measurements.push(format!("y - {y:e} {:e} trajectory c{cell} - - -", t * unit));
        }
        if events {
            let t = unit * [1.9, 1.2, 0.9, 0.7][cell as usize];
            measurements.push(format!("when - {t:e} {t:e} time_to_event c{cell} event - -"));
        }
    }
    for (t, mean, variance) in [(0.0, 0.25, 0.007), (0.8, 0.51, 0.0021), (2.4, 0.66, 0.0058)] {
        measurements.push(format!("x - {mean:e} {:e} bulk - - mean 0.03", t * unit));
        measurements.push(format!("x - {variance:e} {:e} snapshot_statistic - - variance 0.001", t * unit));
    }
    let name = |id: &str, formula: &str, noise: &str| (id.to_string(), formula.to_string(), noise.to_string());
    let variables = [("x1", "th1/(th1 + th2)", "th2*x2 - th1*x1"), ("x2", "th2/(th1 + th2)", "th1*x1 - th2*x2")];
    Tables {
        model: document(&variables, &["th1", "th2", "s", "c"], &[]),
        parameters: vec![("th1", theta1 / unit), ("th2", theta2 / unit), ("s", 2.5), ("c", 1.8)],
        effects: vec![("th1", "log"), ("th2", "log"), ("c", "log")],
        covariance: vec![("th1", "th1", "sd", "w1"), ("th2", "th2", "sd", "w2"), ("c", "c", "sd", "w3")],
        hyperparameters: vec![("w1", 0.3), ("w2", 0.35), ("w3", 0.1)],
        observables: vec![name("y", "s*x2", "0.06"), name("when", "time", &format!("{:e}", 0.06 * unit)), name("x", "x2", "0.03")],
        trigger: if events { "s*x2 - c*th1/(th1 + th2)" } else { "" },
        columns: "observableId experimentId measurement time dataType individualId eventId statistic statisticSd",
        measurements,
        ..Tables::default()
    }
}

fn value_and_gradient(problem: &Problem) -> (f64, Vec<f64>) {
    let objective = objective(problem, tight(), Integration::Laplace);
    let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
    let e = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap();
    (e.value, e.gradient.iter().copied().collect())
}

/// Importance sampling tends to the exact marginal of O3 as the draws grow.
#[test]
fn importance_sampling_tends_to_the_exact_value() {
    let (Some(oracles), Some(folder)) = (oracles(), shared("problems/conversion_published")) else { return };
    let truth = &oracles["O3_conversion_joint"]["truth"];
    let objective = objective(&read(&folder.join("problem_trajectory.yaml")), Options::default(), Integration::Laplace);
    let natural = conversion_parameters(&numbers(&truth["xi"]));
    let exact = truth["nll_traj_dataset2_agh"].as_f64().unwrap();
    let mut last = f64::INFINITY;
    for draws in [256, 1024, 4096] {
        let sampled = objective.importance(&natural, draws, 5).unwrap();
        assert!((sampled.value - exact).abs() < 4.0 * sampled.standard_error, "{} with {draws} draws", sampled.value);
        assert!(sampled.standard_error < 0.6 * last);
        last = sampled.standard_error;
    }
    assert!(last < 0.03, "{last}");
}

/// As the covariance vanishes, means over the population and single cells become the plain PEtab likelihood.
#[test]
fn vanishing_covariance_gives_the_typical_individual() {
    let mut tables = conversion(1.0, false);
    tables.measurements.retain(|row| !row.contains("variance"));
    tables.hyperparameters = vec![("w1", 1e-8), ("w2", 1e-8), ("w3", 1e-8)];
    let population = tables.problem();
    for row in &mut tables.measurements {
        let cells: Vec<&str> = row.split(' ').collect();
        *row = format!("{} - {} {} - - - - -", cells[0], cells[2], cells[3]);
    }
    let plain = tables.problem();
    let (value, gradient) = value_and_gradient(&population);
    let (expected, plain_gradient) = value_and_gradient(&plain);
    close(value, expected, 1e-10, 0.0);
    close_all(&gradient[..3], &plain_gradient[..3], 1e-8);
}

/// A cell that is there twice counts twice.
#[test]
fn duplicated_cells_double() {
    let mut tables = conversion(1.0, true);
    tables.measurements.retain(|row| row.contains(" c2 "));
    let once = value_and_gradient(&tables.problem());
    let copies: Vec<String> = tables.measurements.iter().map(|row| row.replace(" c2 ", " d2 ")).collect();
    tables.measurements.extend(copies);
    let twice = value_and_gradient(&tables.problem());
    close(twice.0, 2.0 * once.0, 1e-12, 0.0);
    close_all(&twice.1, &once.1.iter().map(|g| 2.0 * g).collect::<Vec<_>>(), 1e-12);
    // So do all rows together, whose population statistics have the same population behind them.
    let all = value_and_gradient(&conversion(1.0, true).problem());
    let mut doubled = conversion(1.0, true);
    let copies: Vec<String> = doubled
        .measurements
        .clone()
        .iter()
        .map(|row| (0..4).fold(row.clone(), |r, c| r.replace(&format!(" c{c} "), &format!(" d{c} "))))
        .collect();
    doubled.measurements.extend(copies);
    close(value_and_gradient(&doubled.problem()).0, 2.0 * all.0, 1e-12, 0.0);
}

/// The published problem with the rows of the tables that `reversed` chooses from last to first, and its measurement files too.
fn reversed(folder: &Path, reversed: &dyn Fn(&str) -> bool) -> Problem {
    let other = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        let (text, name) = (std::fs::read_to_string(&path).unwrap(), name.to_str().unwrap());
        let text = if name.ends_with(".tsv") && reversed(name) {
            let mut lines: Vec<&str> = text.lines().collect();
            lines[1..].reverse();
            lines.join("\n") + "\n"
        } else if name == "problem.yaml" {
            let files = "measurements_trajectory.tsv, measurements_events.tsv, measurements_bulk.tsv, measurements_snapshot.tsv";
            assert!(text.contains(files));
            text.replace(files, "measurements_snapshot.tsv, measurements_events.tsv, measurements_bulk.tsv, measurements_trajectory.tsv")
        } else {
            text
        };
        std::fs::write(other.path().join(name), text).unwrap();
    }
    read(&other.path().join("problem.yaml"))
}

/// The order of rows and of files is without effect: on the value to rounding errors; on the gradient within the tolerance of the empirical
/// Bayes estimates, whose searches also start where those of other individuals ended.
#[test]
fn order_is_without_effect() {
    let Some(folder) = shared("problems/conversion_published") else { return };
    let here = value_and_gradient(&read(&folder.join("problem.yaml")));
    let there = value_and_gradient(&reversed(&folder, &|name| name.starts_with("measurements") || name == "observables.tsv"));
    close(there.0, here.0, 1e-12, 0.0);
    close_all(&there.1, &here.1, 1e-8);
    // The order of parameters is that of the gradient; with it the integrator's steps change too.
    let there = value_and_gradient(&reversed(&folder, &|_| true));
    close(there.0, here.0, 1e-11, 0.0);
    let [fixed, hyper] = [&there.1[..4], &there.1[4..]].map(|g| g.iter().rev().copied().collect::<Vec<_>>());
    close_all(&[fixed, hyper].concat(), &here.1, 1e-8);
}

/// A diagonal covariance by its standard deviations, variances, log variances, with correlations of zero and by its Cholesky factor.
#[test]
fn covariance_kinds_agree() {
    let sds = [0.3_f64, 0.35, 0.1];
    let evaluate = |kind: &'static str, value: &dyn Fn(f64) -> f64, off: &[(&'static str, &'static str, &'static str, &'static str)]| {
        let mut tables = conversion(1.0, true);
        tables.covariance = [("th1", "w1"), ("th2", "w2"), ("c", "w3")].map(|(id, w)| (id, id, kind, w)).to_vec();
        tables.covariance.extend(off);
        tables.hyperparameters = vec![("w1", value(sds[0])), ("w2", value(sds[1])), ("w3", value(sds[2]))];
        let problem = tables.problem();
        let objective = objective(&problem, tight(), Integration::Laplace);
        let natural = objective.map().nominal().to_vec();
        (objective.summary(&natural).unwrap().nllh, natural_gradient(&objective, &natural))
    };
    let (expected, gradient) = evaluate("sd", &|s| s, &[]);
    let corr = [("th2", "th1", "corr", "0"), ("c", "th1", "corr", "0"), ("c", "th2", "corr", "0")];
    let zeros = corr.map(|(a, b, _, v)| (a, b, "chol", v));
    // Slopes of each kind's parameter by the standard deviation.
    let slope = |name: &str, s: f64| match name {
        "var" => 2.0 * s,
        "log_var" => 2.0 / s,
        _ => 1.0,
    };
    let cases = [
        ("var", evaluate("var", &|s| s * s, &[])),
        ("log_var", evaluate("log_var", &|s| 2.0 * s.ln(), &[])),
        ("sd and corr", evaluate("sd", &|s| s, &corr)),
        ("chol", evaluate("chol", &|s| s, &zeros)),
    ];
    for (name, (value, g)) in cases {
        close(value, expected, 1e-12, 0.0);
        let by_sd: Vec<f64> = (0..7).map(|k| if k < 4 { g[k] } else { g[k] * slope(name, sds[k - 4]) }).collect();
        close_all(&by_sd, &gradient, 1e-8);
    }
}

/// The gradient of all kinds of data together against central differences (of fourth order) at rtol 1e-10, 1e-6 relative.
#[test]
fn gradient_by_differences() {
    let objective =
        objective(&conversion(1.0, true).problem(), Options { rtol: 1e-10, atol: 1e-13, ..Options::default() }, Integration::Laplace);
    let x: Vec<f64> = objective.parameters().iter().enumerate().map(|(k, p)| p.nominal + 0.03 * (k as f64).cos()).collect();
    let gradient = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap().gradient;
    let value = |k: usize, h: f64| {
        let mut y = x.clone();
        y[k] += h;
        objective.evaluate(&y, Order::Value, &mut objective.memory()).unwrap().value
    };
    let h = 2e-3;
    let differences: Vec<f64> =
        (0..x.len()).map(|k| (8.0 * (value(k, h) - value(k, -h)) - value(k, 2.0 * h) + value(k, -2.0 * h)) / (12.0 * h)).collect();
    close_all(gradient.as_slice(), &differences, 1e-6);
}

/// x = a t - t^2 / 2 reaches c at a - sqrt(a^2 - 2 c) or not at all. On the side where it does, the time's derivatives are those of the
/// formula until the trigger grazes, where they are refused; on the other there is no event.
#[test]
fn both_sides_of_grazing() {
    let xml = document(&[("x", "0*a", "a - time"), ("n", "0", "")], &["a", "c"], &[Event::new("x > c", &[("n", "n + 1")])]);
    let a = 1.0;
    for gap in [1e-1, 1e-2, 1e-4, 1e-6] {
        let c = 0.5 * (a * a - gap);
        let subject = Subject::new(&xml, &[("a".into(), a), ("c".into(), c)], true).unwrap();
        let trajectory = subject.simulate(&[a, c], 1, &[3.0], &tight()).unwrap();
        assert_eq!(trajectory.executions.len(), 1);
        let execution = &trajectory.executions[0];
        // The time is the less certain the flatter the trigger.
        let root = gap.sqrt();
        close(execution.time, a - root, 1e-11 / root, 1.0);
        close_all(&execution.clock.first, &[1.0 - a / root, 1.0 / root], 1e-11 / gap);
        let c = 0.5 * (a * a + gap);
        let never = subject.simulate(&[a, c], 1, &[3.0], &tight()).unwrap();
        assert!(never.executions.is_empty());
        assert!(never.block(0).iter().all(|v| v.is_finite()));
    }
    let c = 0.5 * (a * a - 1e-19);
    let subject = Subject::new(&xml, &[("a".into(), a), ("c".into(), c)], true).unwrap();
    match subject.simulate(&[a, c], 1, &[3.0], &tight()) {
        Err(error) => assert!(matches!(error, SimulationError::Grazing { .. }), "{error}"),
        Ok(trajectory) => assert!(trajectory.executions.is_empty(), "{:?}", trajectory.executions),
    }
}

/// In minutes or in seconds: the same likelihood of concentrations, and densities of times change by the unit.
#[test]
fn units_of_time_are_without_effect() {
    let unit = 60.0;
    let terms = |unit: f64, events: bool| {
        let objective = objective(&conversion(unit, events).problem(), tight(), Integration::Laplace);
        let natural = objective.map().nominal().to_vec();
        let (summary, gradient) = (objective.summary(&natural).unwrap(), natural_gradient(&objective, &natural));
        let by_logarithm: Vec<f64> = gradient.iter().zip(&natural).map(|(g, p)| g * p).collect();
        let population = term(&summary, "bulk") + term(&summary, "snapshot_statistic");
        (summary.individuals.iter().map(|i| i.nll).collect::<Vec<f64>>(), population, by_logarithm)
    };
    for events in [false, true] {
        let (minutes, seconds) = (terms(1.0, events), terms(unit, events));
        let shift = if events { unit.ln() } else { 0.0 };
        let expected: Vec<f64> = minutes.0.iter().map(|v| v + shift).collect();
        close_all(&seconds.0, &expected, 1e-9);
        close(seconds.1, minutes.1, 1e-9, 0.0);
        close_all(&seconds.2, &minutes.2, 1e-7);
    }
}

/// One thread or two: the same bits, for Laplace and cubature.
#[test]
fn threads_are_without_effect() {
    let Some(folder) = shared("problems/conversion_published") else { return };
    let bits = |path: &Path, integration: Integration, threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut problem = read(path);
            if integration == Integration::Exact {
                // A few cells with two effects.
                problem.measurements.truncate(40);
            }
            let objective = objective(&problem, Options::default(), integration);
            let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
            let e = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap();
            std::iter::once(e.value).chain(e.gradient.iter().copied()).map(f64::to_bits).collect::<Vec<u64>>()
        })
    };
    for (yaml, integration) in [("problem.yaml", Integration::Laplace), ("problem_trajectory.yaml", Integration::Exact)] {
        let path = folder.join(yaml);
        assert_eq!(bits(&path, integration, 1), bits(&path, integration, 2), "{yaml}");
    }
}
