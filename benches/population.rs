//! Population objectives at nominal parameters, one thread, cold (fresh empirical Bayes estimates) and warm.

use criterion::{Criterion, criterion_group, criterion_main};
use mixode::likelihood::{Objective, Order};
use std::hint::black_box;

#[path = "support/mod.rs"]
mod support;

fn populations(criterion: &mut Criterion) {
    for name in ["conversion_cells", "transfection"] {
        let objective = support::objective(&support::own(name));
        let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.bench_function("gradient, cold", |b| b.iter(|| black_box(objective.evaluate(&x, Order::Gradient, &mut objective.memory()))));
        let mut memory = objective.memory();
        let first = objective.evaluate(&x, Order::Gradient, &mut memory);
        assert!(first.is_ok());
        group.bench_function("value, warm", |b| b.iter(|| black_box(objective.evaluate(&x, Order::Value, &mut memory))));
        group.bench_function("gradient, warm", |b| b.iter(|| black_box(objective.evaluate(&x, Order::Gradient, &mut memory.clone()))));
        group.finish();
    }
}

criterion_group!(benches, populations);
criterion_main!(benches);
