//! NLME.md section 7 through whole problems (SBML, PEtab, simulation): O1, O4, O4b, O5 and O12.
#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::likelihood::{Objective, Order};
use oracle_support::event_support::document;
use oracle_support::nlme_support::{close, close_all, numbers, oracles, table};
use oracle_support::{Integration, Tables, conversion_parameters, natural_gradient, objective, tight};

fn owned(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    rows.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect()
}

fn conversion_model(constants: &[&str]) -> String {
    let variables = [("x1", "th1/(th1 + th2)", "th2*x2 - th1*x1"), ("x2", "th2/(th1 + th2)", "th1*x1 - th2*x2")];
    document(&variables, constants, &[])
}

/// O1: a straight line with correlated effects on intercept and slope, by simulation; Laplace is exact.
#[test]
fn linear_model() {
    let Some(oracles) = oracles() else { return };
    let oracle = &oracles["O1_linear_gaussian"];
    let theta = numbers(&oracle["theta"]);
    let mut measurements = Vec::new();
    for (i, subject) in oracle["data"].as_array().unwrap().iter().enumerate() {
        for (t, y) in numbers(&subject["t"]).iter().zip(numbers(&subject["y"])) {
            measurements.push(format!("y - {y:e} {t:e} trajectory c{i}"));
        }
    }
    let chol = [("beta0", "beta0", "chol", "l11"), ("beta1", "beta0", "chol", "l21"), ("beta1", "beta1", "chol", "l22")];
    let problem = Tables {
        model: document(&[("x", "beta0", "beta1")], &["beta0", "beta1", "sigma"], &[]),
        parameters: vec![("beta0", theta[0]), ("beta1", theta[1]), ("sigma", theta[5].exp())],
        effects: vec![("beta0", "additive"), ("beta1", "additive")],
        covariance: chol.to_vec(),
        hyperparameters: vec![("l11", theta[2].exp()), ("l21", theta[3]), ("l22", theta[4].exp())],
        observables: owned(&[("y", "x", "sigma")]),
        columns: "observableId experimentId measurement time dataType individualId",
        measurements,
        ..Tables::default()
    }
    .problem();
    for integration in [Integration::Laplace, Integration::GaussNewton] {
        let objective = objective(&problem, tight(), integration);
        let natural = objective.map().nominal().to_vec();
        let summary = objective.summary(&natural).unwrap();
        close(summary.nllh, oracle["nll_total"].as_f64().unwrap(), 1e-10, 0.0);
        for (found, expected) in summary.individuals.iter().zip(oracle["per_subject"].as_array().unwrap()) {
            close(found.nll, expected["nll"].as_f64().unwrap(), 1e-10, 0.0);
            let b: Vec<f64> = found.ebe.iter().map(|(_, b)| *b).collect();
            close_all(&b, &numbers(&expected["bhat"]), 1e-10);
        }
        // The oracle's order is beta0, beta1, log l11, l21, log l22, log sigma.
        let g = natural_gradient(&objective, &natural);
        let found = [g[0], g[1], g[3] * natural[3], g[4], g[5] * natural[5], g[2] * natural[2]];
        close_all(&found, &numbers(&oracle["gradient_nll"]), 1e-9);
    }
    let cubature = objective(&problem, tight(), Integration::Cubature);
    let value = cubature.summary(cubature.map().nominal()).unwrap().nllh;
    close(value, oracle["nll_total"].as_f64().unwrap(), 3e-4, 0.0);
}

/// O4: mean, variance, third and fourth central moment of x2 over log-normal rates, as bulk statistics. With 15 nodes in each dimension,
/// the rule of NLME.md 8.2 ("error <= 1e-9").
#[test]
fn conversion_moments() {
    let Some(oracles) = oracles() else { return };
    let rows = oracles["O4_population_moments"]["rows"].as_array().unwrap();
    let mut observables = owned(&[("y", "x2", "1")]);
    let mut measurements = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        for power in [3, 4] {
            observables.push((format!("central{power}_{i}"), format!("(x2 - {:e})^{power}", row["mean"].as_f64().unwrap()), "1".into()));
        }
        for (observable, statistic) in
            [("y".into(), "mean"), ("y".into(), "variance_y"), (format!("central3_{i}"), "mean"), (format!("central4_{i}"), "mean")]
        {
            measurements.push(format!("{observable} - 0 {:e} bulk {statistic} 1", row["t"].as_f64().unwrap()));
        }
    }
    let problem = Tables {
        model: conversion_model(&["th1", "th2"]),
        parameters: vec![("th1", 0.6), ("th2", 0.2)],
        effects: vec![("th1", "log"), ("th2", "log")],
        covariance: vec![("th1", "th1", "var", "v1"), ("th2", "th2", "var", "v2")],
        hyperparameters: vec![("v1", 0.1), ("v2", 0.1)],
        observables,
        statistics: vec![("variance_y", "var(y)")],
        columns: "observableId experimentId measurement time dataType statistic statisticSd",
        measurements,
        ..Tables::default()
    }
    .problem();
    let objective = objective(&problem, tight(), Integration::Laplace);
    let found = objective.summary(objective.map().nominal()).unwrap().simulations;
    for (row, found) in rows.iter().zip(found.chunks(4)) {
        for (name, value) in ["mean", "var", "third_central", "fourth_central"].iter().zip(found) {
            println!("{} {name} {value} {:e}", row["t"], value / row[name].as_f64().unwrap() - 1.0);
            close(*value, row[name].as_f64().unwrap(), 1e-9, 1.0);
        }
    }
}

fn decay(times: &[f64], measurement: &dyn Fn(usize) -> f64) -> Tables<'static> {
    Tables {
        model: document(&[("x", "1", "-k*x")], &["k"], &[]),
        parameters: vec![("k", 1.0)],
        effects: vec![("k", "log")],
        covariance: vec![("k", "k", "sd", "omega")],
        hyperparameters: vec![("omega", 0.5)],
        observables: owned(&[("y", "x", "1")]),
        statistics: vec![("variance_y", "var(y)")],
        columns: "observableId experimentId measurement time dataType statistic statisticSd",
        measurements: times.iter().enumerate().map(|(i, t)| format!("y - {:e} {t:e} bulk mean 1", measurement(i))).collect(),
        ..Tables::default()
    }
}

/// O4b: moments of a log-normal decay, with the derivatives of the mean by the median and the standard deviation of log k: where the
/// datum is 1 below the mean, the derivative of its term is that of the mean.
#[test]
fn decay_moments() {
    let Some(oracles) = oracles() else { return };
    for row in oracles["O4b_lognormal_decay"]["rows"].as_array().unwrap() {
        let number = |key: &str| row[key].as_f64().unwrap();
        let mut tables = decay(&[number("t")], &|_| number("mean") - 1.0);
        let first = objective(&tables.problem(), tight(), Integration::Laplace);
        let mean = first.summary(&[1.0, 0.5]).unwrap().simulations[0];
        let gradient = natural_gradient(&first, &[1.0, 0.5]);
        tables.measurements = vec![format!("y - 0 {:e} bulk variance_y 1", number("t"))];
        let second = objective(&tables.problem(), tight(), Integration::Laplace);
        let variance = second.summary(&[1.0, 0.5]).unwrap().simulations[0];
        for (name, value) in [("mean", mean), ("var", variance), ("dmean_dmu", gradient[0]), ("dmean_domega", gradient[1])] {
            println!("{} {name} {value} {:e}", row["t"], value / number(name) - 1.0);
            close(value, number(name), 1e-9, 0.0);
        }
    }
}

/// O5: a cell seen once, as an individual of its own whose effect is integrated out by cubature.
#[test]
fn one_measurement() {
    let Some(oracles) = oracles() else { return };
    let rows = oracles["O5_snapshot_density"]["rows"].as_array().unwrap();
    let mut tables = decay(&[], &|_| 0.0);
    tables.statistics.clear();
    tables.observables = owned(&[("y", "x", "0.05")]);
    tables.columns = "observableId experimentId measurement time dataType individualId";
    tables.measurements = rows.iter().enumerate().map(|(i, row)| format!("y - {} 1 trajectory c{i}", row["y"])).collect();
    let objective = objective(&tables.problem(), tight(), Integration::Cubature);
    for (found, row) in objective.summary(&[1.0, 0.5]).unwrap().individuals.iter().zip(rows) {
        println!("{} {:e}", row["y"], (-found.nll).exp() / row["p"].as_f64().unwrap() - 1.0);
        close((-found.nll).exp(), row["p"].as_f64().unwrap(), 1e-6, 0.0);
    }
}

/// O12: trajectories with event times, survivors censored at 3, three random effects, each cell by cubature; the tolerance of the total is 3e-4.
///
/// The oracle extrapolates event times beyond the start of the simulation (its closed form may be negative, and is minus infinity where the
/// event is long past), other than NLME.md 4.5, so its closed form is the observable. A large number stands for infinity.
#[test]
fn trajectories_with_event_times() {
    let (Some(oracles), Some(rows), Some(events)) = (
        oracles(),
        table("problems/conversion_published/measurements_trajectory.tsv"),
        table("problems/conversion_published/measurements_events_censored.tsv"),
    ) else {
        return;
    };
    let time = "piecewise(1000, x2_cut >= scaling, log((1 - th2/th1)/(1 - x2_cut/scaling))/(th1 + th2), th1 > th2, -1000)";
    let mut measurements: Vec<String> =
        rows.iter().map(|r| format!("y - {} {} trajectory {} none", r["measurement"], r["time"], r["individualId"])).collect();
    measurements
        .extend(events.iter().map(|r| format!("event_time - {} 0 trajectory {} {}", r["measurement"], r["individualId"], r["censoring"])));
    let xi = numbers(&oracles["O3_conversion_joint"]["truth"]["xi"]);
    let p = conversion_parameters(&xi);
    let problem = Tables {
        model: conversion_model(&["th1", "th2", "scaling", "x2_cut"]),
        parameters: vec![("th1", p[0]), ("th2", p[1]), ("scaling", p[2]), ("x2_cut", p[3])],
        effects: vec![("th1", "log"), ("th2", "log"), ("x2_cut", "log")],
        covariance: vec![("th1", "th1", "sd", "w1"), ("th2", "th2", "sd", "w2"), ("x2_cut", "x2_cut", "sd", "w3")],
        hyperparameters: vec![("w1", p[4]), ("w2", p[5]), ("w3", p[6])],
        observables: owned(&[("y", "scaling*x2", "0.06"), ("event_time", time, "0.06")]),
        columns: "observableId experimentId measurement time dataType individualId censoring",
        measurements,
        ..Tables::default()
    }
    .problem();
    let objective = objective(&problem, mixode::ode::Options::default(), Integration::Cubature);
    for point in ["truth", "stored_optimum_scenario1"] {
        let natural = conversion_parameters(&numbers(&oracles["O3_conversion_joint"][point]["xi"]));
        let expected = &oracles["O12_traj_plus_events_grid"][point];
        let summary = objective.summary(&natural).unwrap();
        let start = std::time::Instant::now();
        for (found, expected) in summary.individuals.iter().zip(numbers(&expected["per_cell"])) {
            println!("{} {} {expected} {:e}", found.id, found.nll, found.nll - expected);
        }
        println!("{point}: {} in {:?}", summary.nllh, start.elapsed());
        close(summary.nllh, expected["nll_total"].as_f64().unwrap(), 3e-4, 1.0);
        let x = objective.map().scaled(&natural);
        close(objective.evaluate(&x, Order::Value, &mut objective.memory()).unwrap().value, summary.nllh, 1e-6, 1.0);
    }
}
