//! Objective and gradient of whole problems at nominal parameters, one thread: the bundled conversion problem, and benchmark problems where
//! the reference data are present (MIXODE_SHARED).

use criterion::{Criterion, criterion_group, criterion_main};
use mixode::likelihood::{Objective, Order};
use std::hint::black_box;

#[path = "support/mod.rs"]
mod support;

fn gradients(criterion: &mut Criterion) {
    let mut paths = vec![("conversion", support::own("conversion"))];
    for name in ["Boehm_JProteomeRes2014", "Fujita_SciSignal2010", "Bachmann_MSB2011", "Lucarelli_CellSystems2018"] {
        paths.extend(support::benchmark(name).map(|path| (name, path)));
    }
    for (name, path) in paths {
        let objective = support::objective(&path);
        let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        for (label, order) in [("value", Order::Value), ("gradient", Order::Gradient), ("Fisher", Order::Fisher)] {
            let before = objective.counts();
            let evaluation = objective.evaluate(&x, order, &mut objective.memory());
            let after = objective.counts();
            assert!(evaluation.is_ok());
            println!(
                "{name} {label}: {} steps, {} right-hand sides, {} factorisations",
                after.steps - before.steps,
                after.rhs_evaluations - before.rhs_evaluations,
                after.factorisations - before.factorisations
            );
            group.bench_function(label, |b| b.iter(|| black_box(objective.evaluate(&x, order, &mut objective.memory()))));
        }
        group.finish();
    }
}

criterion_group!(benches, gradients);
criterion_main!(benches);
