//! The command line: one file per subcommand. Results go to stdout, messages and progress to stderr.
//!
//! Exit status: 0 done, 1 the input has errors, 2 wrong usage, 3 numerical failure, 5 files, 77 the input needs something not supported yet, 130 interrupted.
//!
//! | code | meaning |
//! | --- | --- |
//! | F0004 | an archive holds no SBML model |
//! | F0005 | an archive holds several SBML models and none is chosen |
//! | F0008 | warning: the priors of a converted problem are of another kind |

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod check;
mod convert;
pub mod describe;
mod evaluate;
mod fit;
mod flux_balance;
mod gradient_check;
pub mod load;
pub mod model_file;
mod output;
mod pooled;
mod progress;
mod series;
mod simulate;
mod time_course;

use crate::likelihood::integration::Integration;
use crate::likelihood::population::PopulationOptions;
use crate::likelihood::prior::Convention;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Exit status of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done = 0,
    /// The input has errors.
    Input = 1,
    /// Wrong usage (clap's own status).
    Usage = 2,
    /// A simulation or every start failed.
    Numerics = 3,
    /// A file is missing or cannot be written, or the run directory exists.
    Files = 5,
    /// The input is right as far as it was read but needs something that is not supported yet.
    Unsupported = 77,
    /// Interrupted; partial results were written.
    Interrupted = 130,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(status as u8)
    }
}

const AFTER_HELP: &str = "Exit status: 0 done, 1 the input has errors, 2 wrong usage, 3 numerical failure, 5 files, 77 not supported yet, 130 interrupted.\n\
PROBLEM is a PEtab YAML file, the folder that holds it, or a zip file or COMBINE archive that holds both. SBML may be compressed (gzip)\n\
or in an archive.";

/// Fits mixed-effects ODE models (SBML, PEtab) to single-cell and bulk data.
#[derive(Parser)]
#[command(name = "mixode", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read a problem or an SBML model and report everything wrong with it
    Check(check::Arguments),
    /// Show what was understood: model, data, statistics, parameters
    Describe(describe::Arguments),
    /// Simulate an SBML model (CSV) or a PEtab problem (simulation table)
    Simulate(simulate::Arguments),
    /// Objective, gradient and simulations at given parameters
    Evaluate(evaluate::Arguments),
    /// Turn a PEtab version 1 problem into version 2, with the same likelihood
    Convert(convert::Arguments),
    /// Compare the gradient with finite differences of the objective, parameter by parameter
    GradientCheck(gradient_check::Arguments),
    /// Estimate the parameters: many starts, standard errors, a run directory with a report
    Fit(fit::Arguments),
}

/// How messages about the input are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// With the marked lines of the input
    Full,
    /// One line each, for editors
    Concise,
    /// JSON
    Json,
}

/// What the objective priors of PEtab 1 mean; PEtab 2 leaves no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PriorConvention {
    /// Densities of parameterScale... priors on the parameter's scale, all others of the parameter; not truncated
    OwnScale,
    /// Densities of the parameter, truncated to its bounds
    Linear,
    /// Densities of the parameter, not truncated
    LinearUntruncated,
}

impl From<PriorConvention> for Convention {
    fn from(convention: PriorConvention) -> Self {
        match convention {
            PriorConvention::OwnScale => Convention::OwnScale,
            PriorConvention::Linear => Convention::Linear,
            PriorConvention::LinearUntruncated => Convention::LinearUntruncated,
        }
    }
}

/// Options about populations.
#[derive(Debug, Clone, clap::Args)]
struct PopulationArguments {
    /// How the random effects of single individuals are integrated out: fo, foce, focei (expected information, as in NONMEM),
    /// gauss-newton (observed information), laplace, agq=NODES (for each effect), importance=DRAWS, or exact: adaptive cubature, for up to
    /// four random effects, where Laplace's approximation is poor, as for survivors (default: as the problem hints, else laplace)
    #[arg(long, value_name = "METHOD")]
    integration: Option<Integration>,
    /// Quasi-random nodes for fractions with an event and for statistics of the population with more than four random effects (default: as the
    /// problem hints, else 4096)
    #[arg(long)]
    nodes: Option<usize>,
    /// Seed of the nodes (default: as the problem hints, else 1)
    #[arg(long)]
    node_seed: Option<u64>,
}

impl PopulationArguments {
    fn options(&self) -> PopulationOptions {
        PopulationOptions { integration: self.integration, nodes: self.nodes, seed: self.node_seed }
    }
}

/// The problem that a command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ProblemArguments {
    /// PEtab YAML file, its folder, or an archive that holds it
    #[arg(value_name = "PROBLEM")]
    path: std::path::PathBuf,
    /// Name of the problem file in an archive that holds several
    #[arg(long)]
    entry: Option<String>,
}

impl ProblemArguments {
    /// Reads the problem, prints all messages, and gives the exit status where it cannot be used.
    fn load(&self) -> Result<load::Loaded, Status> {
        load::load(&self.path, self.entry.as_deref())
    }
}

/// Options shared by the commands that simulate.
#[derive(Debug, Clone, clap::Args)]
struct SolverArguments {
    /// Relative tolerance of the integrator (default: 1e-10; 1e-8 in fits of populations)
    #[arg(long)]
    rtol: Option<f64>,
    /// Absolute tolerance of the integrator (default: 1e-12; 1e-10 in fits of populations)
    #[arg(long)]
    atol: Option<f64>,
    /// A steady state is where Newton's method converges or, where it does not apply, where every rate per unit of time is below this
    /// part of the state
    #[arg(long, value_name = "RTOL", default_value_t = 1e-8)]
    steady_rtol: f64,
    /// ... plus this
    #[arg(long, value_name = "ATOL", default_value_t = 1e-12)]
    steady_atol: f64,
    /// Number of threads (0: all cores)
    #[arg(short = 'j', long, default_value_t = 0)]
    threads: usize,
}

impl SolverArguments {
    fn options(&self) -> crate::ode::Options {
        self.options_or(crate::ode::Options::default())
    }

    /// The settings, with those of `default` where none are given.
    fn options_or(&self, default: crate::ode::Options) -> crate::ode::Options {
        let steady_state = (self.steady_rtol, self.steady_atol);
        crate::ode::Options { rtol: self.rtol.unwrap_or(default.rtol), atol: self.atol.unwrap_or(default.atol), steady_state, ..default }
    }

    /// Sets the size of the global thread pool; it can only be set once per process.
    fn start_threads(&self) {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build_global();
    }
}

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check(a) => check::run(&a),
        Command::Describe(a) => describe::run(&a),
        Command::Simulate(a) => simulate::run(&a),
        Command::Evaluate(a) => evaluate::run(&a),
        Command::Convert(a) => convert::run(&a),
        Command::GradientCheck(a) => gradient_check::run(&a),
        Command::Fit(a) => fit::run(&a),
    };
    match result {
        Ok(()) => Status::Done.into(),
        Err(status) => status.into(),
    }
}

/// Reports a message that has no place in the input.
fn fail(status: Status, message: impl std::fmt::Display) -> Status {
    eprintln!("error: {message}");
    status
}

/// Reports that a file could not be written.
fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Status {
    fail(Status::Files, format_args!("cannot write {}: {error}", path.display()))
}
