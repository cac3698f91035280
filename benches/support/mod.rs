//! Loading of problems for the benches.

#![allow(dead_code)]

use mixode::diag::Diagnostics;
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::problem::ProblemObjective;
use mixode::model::{self, CompileOptions};
use mixode::ode::Options;
use mixode::{petab, sbml};
use std::path::{Path, PathBuf};

/// A bundled problem.
pub fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("petab_problems").join(name)
}

/// A problem of the benchmark collection, where the reference data are present.
pub fn benchmark(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("MIXODE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = shared.join("suites/benchmarks").join(name);
    if !path.is_dir() {
        println!("left out: {name} (no reference data; set MIXODE_SHARED)");
        return None;
    }
    Some(path)
}

/// The objective of a problem at default settings, on one thread.
pub fn objective(path: &Path) -> ProblemObjective {
    // A second call finds the pool set already, which is fine.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    let mut diagnostics = Diagnostics::new();
    let problem = petab::read(path, &mut diagnostics).expect("the problem reads");
    let sbml = sbml::read(&problem.model, &mut diagnostics).expect("the model reads");
    let system = model::build(&sbml, Some(&problem), 0.0, &mut diagnostics).expect("the system builds");
    let compile = CompileOptions { second: ProblemObjective::needs_second_order(&problem), ..CompileOptions::default() };
    let compiled = model::compile(&system, compile).expect("the model compiles");
    ProblemObjective::new(compiled, &problem, Options::default(), &PopulationOptions::default()).expect("the problem is supported")
}
