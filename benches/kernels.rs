//! Machine code: time to compile and time to run, by number of outputs.
//!
//! The expressions resemble a model's right-hand side with its Jacobian: sums of shared mass-action, Michaelis-Menten and power
//! rates, entries of derivatives, and zeros.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mixode::expr::{Binary, ExprId, Graph};
use mixode::jit::{Backend, Kernel, Layout, Scratch, compile};
use rand::{RngExt, SeedableRng};
use std::hint::black_box;

struct Model {
    graph: Graph,
    layout: Layout,
    outputs: Vec<ExprId>,
    states: usize,
}

fn model(outputs: usize) -> Model {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (mut graph, mut layout) = (Graph::new(), Layout::new());
    let states = (outputs / 10).max(10);
    let mut symbols = |graph: &mut Graph, prefix: &str, array: usize| -> Vec<ExprId> {
        let place = |i| {
            let symbol = graph.symbol(&format!("{prefix}{i}"));
            layout.place(graph.symbol_id(symbol).unwrap(), array, i);
            symbol
        };
        (0..states).map(place).collect()
    };
    let x = symbols(&mut graph, "x", 1);
    let p = symbols(&mut graph, "p", 2);
    let mut pick = |from: &[ExprId]| from[random.random_range(0..from.len())];
    let mut rates = Vec::new();
    for i in 0..2 * states {
        let (substrate, second, k, km) = (pick(&x), pick(&x), pick(&p), pick(&p));
        let rate = graph.mul(k, substrate);
        rates.push(match i % 8 {
            0 | 4 => {
                let bottom = graph.add(km, substrate);
                graph.div(rate, bottom)
            }
            1 | 5 => graph.mul(rate, second),
            2 if i % 16 == 2 => graph.binary(Binary::Pow, substrate, k),
            _ => rate,
        });
    }
    let list = (0..outputs).map(|i| match i % 8 {
        0 | 2 | 4 | 6 => {
            let gain = graph.add(pick(&rates), pick(&rates));
            graph.sub(gain, pick(&rates))
        }
        1 => graph.constant(0.0),
        _ => {
            let rate = pick(&rates);
            let by = graph.symbols_of(&[rate])[0];
            graph.derivative(rate, by)
        }
    });
    let outputs = list.collect();
    Model { graph, layout, outputs, states }
}

fn kernel(model: &Model, backend: Backend) -> Kernel {
    compile(&model.graph, &model.layout, &[&model.outputs], backend).unwrap().remove(0)
}

fn kernels(criterion: &mut Criterion) {
    let sizes = [100, 1_000, 10_000];
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for size in sizes {
        let model = model(size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(|| (), |()| kernel(&model, Backend::Machine), BatchSize::PerIteration);
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("run");
    for (name, backend) in [("machine", Backend::Machine), ("interpreter", Backend::Interpreter)] {
        for size in sizes {
            let model = model(size);
            let kernel = kernel(&model, backend);
            let (x, p) = (vec![0.5; model.states], vec![1.5; model.states]);
            let (mut out, mut scratch) = (vec![0.0; size], Scratch::default());
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| kernel.call([&[], black_box(&x), black_box(&p), &[]], black_box(&mut out), &mut scratch));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
