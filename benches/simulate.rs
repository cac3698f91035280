//! Time and work of one simulation: states alone, with first derivatives in one block, with second derivatives, and by
//! CVODES' staggered method.
//!
//! The problems are those of DESIGN.md 2.3, at their nominal parameters, first experiment, derivatives by the logarithms of all
//! estimated parameters that matter there. They are read from the benchmark collection below `MIXODE_SHARED`; without
//! it only a generated cascade runs.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/ode_support/mod.rs"]
mod ode_support;

use criterion::{Criterion, criterion_group, criterion_main};
use mixode::diag::Diagnostics;
use mixode::jit::Scratch;
use mixode::model::{CompileOptions, CompiledModel, build, compile};
use mixode::ode::{Input, Options, Second, Simulator, cvodes_forward};
use mixode::{petab, sbml};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

struct Case {
    name: String,
    model: Arc<CompiledModel>,
    times: Vec<f64>,
    start: f64,
    parameters: Vec<f64>,
    states: Vec<f64>,
    directions: usize,
    state_seeds: Vec<f64>,
    parameter_seeds: Vec<f64>,
    pairs: Vec<(u32, u32)>,
    states_second: Vec<f64>,
    parameters_second: Vec<f64>,
}

impl Case {
    /// From a model whose experiment 0 is run, and the values of theta with whether they are estimated.
    fn new(name: &str, model: Arc<CompiledModel>, theta: &[(f64, bool)], times: Vec<f64>) -> Self {
        let (nx, np) = (model.states.len(), model.parameters.len());
        let experiment = &model.experiments[0];
        let setup = &experiment.setup;
        let mut p = vec![0.0; np];
        theta.iter().zip(&mut p).for_each(|((v, _), p)| *p = *v);
        let mut scratch = Scratch::default();
        let values = setup.values(&p, &mut scratch);
        let slopes = setup.derivatives(&p, &mut scratch);
        // A direction matters where it moves an initial state or a parameter of the right-hand side.
        let matters = |row: usize| row >= np || model.rhs.dp.columns.contains(&(row as u32));
        let mut moving: Vec<usize> = slopes.iter().filter(|(row, ..)| matters(*row)).map(|(_, b, _)| *b).collect();
        moving.sort_unstable();
        moving.dedup();
        moving.retain(|&b| b < theta.len() && theta[b].1);
        let ns = moving.len();
        let mut seeds = vec![0.0; (np + nx) * ns];
        for (row, b, slope) in slopes {
            if let Ok(k) = moving.binary_search(&b) {
                seeds[row * ns + k] += slope * p[b];
            }
        }
        let mut case = Case {
            name: name.into(),
            times,
            start: experiment.start,
            parameters: values[..np].to_vec(),
            states: values[np..].to_vec(),
            directions: ns,
            state_seeds: seeds[np * ns..].to_vec(),
            parameter_seeds: seeds[..np * ns].to_vec(),
            pairs: vec![],
            states_second: vec![],
            parameters_second: vec![],
            model: model.clone(),
        };
        case.choose_pairs();
        case
    }

    /// All pairs of the first six directions. Their price does not depend on the curvature of the seeds, which is left out.
    fn choose_pairs(&mut self) {
        let few = self.directions.min(6) as u32;
        self.pairs = (0..few).flat_map(|k| (k..few).map(move |l| (k, l))).collect();
        self.states_second = vec![0.0; self.states.len() * self.pairs.len()];
        self.parameters_second = vec![0.0; self.parameters.len() * self.pairs.len()];
    }

    fn input(&self, order: usize) -> Input<'_> {
        let changes = self.model.experiments.first().map_or(&[][..], |e| &e.changes);
        let second = Second { pairs: &self.pairs, states: &self.states_second, parameters: &self.parameters_second };
        let first = order > 0;
        Input {
            start: self.start,
            states: &self.states,
            parameters: &self.parameters,
            changes,
            triggers: None,
            before: &[],
            directions: if first { self.directions } else { 0 },
            state_seeds: if first { &self.state_seeds } else { &[] },
            parameter_seeds: if first { &self.parameter_seeds } else { &[] },
            second: (order > 1).then_some(second),
            awaited: None,
        }
    }
}

fn benchmark_problem(folder: &Path) -> Option<Case> {
    let name = folder.file_name()?.to_str()?;
    let mut diagnostics = Diagnostics::new();
    let problem = petab::read(&folder.join(format!("{name}.yaml")), &mut diagnostics)?;
    let model = sbml::read(&problem.model, &mut diagnostics)?;
    let system = build(&model, Some(&problem), 0.0, &mut diagnostics)?;
    let model = compile(&system, CompileOptions { second: true, ..CompileOptions::default() }).ok()?;
    let theta: Vec<(f64, bool)> = problem.parameters.iter().map(|p| (p.nominal.unwrap_or(1.0), p.estimate)).collect();
    let mut times: Vec<f64> = problem.measurements.iter().filter(|m| m.experiment == 0 && m.time.is_finite()).map(|m| m.time).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    Some(Case::new(name, model, &theta, times))
}

/// A cycle of `n` saturable steps, two parameters each.
fn cascade(n: usize) -> Case {
    let names: Vec<String> = (0..n).flat_map(|i| [format!("a{i}"), format!("b{i}")]).collect();
    let parameters: Vec<&str> = names.iter().map(String::as_str).collect();
    let states: Vec<String> = (0..n).map(|i| format!("x{i}")).collect();
    let rates: Vec<String> = (0..n).map(|i| format!("a{i}*x{}/(1 + x{i}) - b{i}*x{i}", (i + n - 1) % n)).collect();
    let equations: Vec<(&str, &str)> = states.iter().zip(&rates).map(|(x, f)| (x.as_str(), f.as_str())).collect();
    let model = ode_support::model(&equations, &parameters, &[]);
    let values: Vec<f64> = (0..n).flat_map(|i| [0.3 + 0.1 * (i % 5) as f64, 0.2 + 0.1 * (i % 3) as f64]).collect();
    let initial: Vec<&str> = (0..n).map(|i| if i == 0 { "1" } else { "0" }).collect();
    let directions: Vec<ode_support::Direction> = (0..2 * n).map(ode_support::Log).collect();
    let start = ode_support::Start::new(&model, &initial, &values, &directions, false);
    let mut case = Case {
        name: "cascade".into(),
        times: (1..=20).map(f64::from).collect(),
        start: 0.0,
        parameters: start.parameters,
        states: start.states,
        directions: start.directions,
        state_seeds: start.state_seeds,
        parameter_seeds: start.parameter_seeds,
        pairs: vec![],
        states_second: vec![],
        parameters_second: vec![],
        model,
    };
    case.choose_pairs();
    case
}

fn simulate(c: &mut Criterion) {
    let shared = std::env::var_os("MIXODE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let collection = shared.join("suites/benchmarks");
    let mut cases = vec![cascade(12)];
    for name in ["Boehm_JProteomeRes2014", "Bachmann_MSB2011", "Lucarelli_CellSystems2018"] {
        match benchmark_problem(&collection.join(name)) {
            Some(case) => cases.push(case),
            None => println!("left out: {name}, not found below MIXODE_SHARED or not readable"),
        }
    }
    let options = Options::default();
    for case in &cases {
        let mut group = c.benchmark_group(format!("{} {}x{}", case.name, case.states.len(), case.directions));
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        for (order, label) in ["states", "first order", "second order"].into_iter().enumerate() {
            let mut simulator = Simulator::new(case.model.clone(), options.clone()).unwrap();
            let input = case.input(order);
            if let Err(error) = simulator.simulate(&input, &case.times) {
                println!("{} {label}: {error}", case.name);
                continue;
            }
            println!("{} {label}: {:?}", case.name, simulator.counts());
            group.bench_function(label, |b| b.iter(|| simulator.simulate(&input, &case.times).map(|t| t.blocks[0]).unwrap()));
        }
        let input = case.input(1);
        match cvodes_forward(&case.model, &options, &input, &case.times) {
            Err(error) => println!("{} staggered: {error}", case.name),
            Ok((_, counts)) => {
                println!("{} staggered: {counts:?}", case.name);
                group.bench_function("staggered", |b| {
                    b.iter(|| cvodes_forward(&case.model, &options, &input, &case.times).map(|r| r.1.steps).unwrap())
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, simulate);
criterion_main!(benches);
