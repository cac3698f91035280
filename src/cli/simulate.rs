//! `mixode simulate`: a bare SBML model to CSV, or a PEtab problem to a simulation table or to a problem with synthetic data.

use super::load::load;
use super::{Status, cannot_write, evaluate, fail, output, time_course};
use crate::likelihood::population::PopulationOptions;
use crate::likelihood::synthetic::{self, Settings};
use crate::ode::Options;
use crate::petab::is_problem;
use std::path::{Path, PathBuf};

/// Arguments of `simulate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// SBML file, which may be compressed, PEtab YAML file or its folder, or an archive that holds a model or a problem
    pub model: PathBuf,
    /// Name of the model or problem file in an archive that holds several
    #[arg(long)]
    pub entry: Option<String>,
    /// Start time (SBML)
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub start: String,
    /// Length of the simulation (SBML); empty means flux balance, with the objective of package fbc
    #[arg(long, default_value = "10", allow_hyphen_values = true)]
    pub duration: String,
    /// Number of output steps; there is one row more than steps (SBML)
    #[arg(long, default_value = "100", allow_hyphen_values = true)]
    pub steps: String,
    /// Output variables, comma separated: species, compartments, parameters, reactions (SBML; default: all species, or where there are
    /// none what has a rate rule)
    #[arg(long, value_delimiter = ',')]
    pub variables: Vec<String>,
    /// All species, compartments, parameters and reactions as output variables (SBML)
    #[arg(long, conflicts_with = "variables")]
    pub all: bool,
    /// Species wanted as amounts
    #[arg(long, value_delimiter = ',')]
    pub amounts: Vec<String>,
    /// Species wanted as concentrations
    #[arg(long, value_delimiter = ',')]
    pub concentrations: Vec<String>,
    /// Relative tolerance of the integrator
    #[arg(long, default_value_t = 1e-10)]
    pub rtol: f64,
    /// Absolute tolerance of the integrator, in units of the largest initial state where all are below 1 (SBML)
    #[arg(long, default_value_t = 1e-12)]
    pub atol: f64,
    /// Seed of what the model leaves to chance, such as the order of events of equal priority (SBML), and of synthetic data (PEtab)
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Picture of the time course, to a file that ends in .svg or .html (SBML)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Logarithmic axis of values in the picture
    #[arg(long, requires = "plot")]
    pub log: bool,
    /// Seconds spent on loading (reading, building, compiling) and on simulating, as JSON to a file (SBML)
    #[arg(long, value_name = "FILE")]
    pub timings: Option<PathBuf>,
    /// Table of parameter values (parameterId, value), natural scale (PEtab)
    #[arg(long)]
    pub parameters: Option<PathBuf>,
    /// Synthetic data, written as a problem to the folder OUTPUT: N individuals with the designs of the existing ones in turn, whose random
    /// effects are drawn; all other rows keep their design (PEtab)
    #[arg(long, value_name = "N", requires = "output", value_parser = clap::value_parser!(u32).range(1..))]
    pub population: Option<u32>,
    /// Synthetic data, written as a problem to the folder OUTPUT: with measurement noise, of the existing individuals where there is no
    /// --population (PEtab)
    #[arg(long, requires = "output")]
    pub noise: bool,
    /// Output file, or folder of a problem with synthetic data; standard output without it
    #[arg(short = 'o', long)]
    pub output: Option<PathBuf>,
}

impl Arguments {
    /// Settings of the integrator.
    pub fn options(&self) -> Options {
        Options { rtol: self.rtol, atol: self.atol, seed: self.seed, ..Options::default() }
    }
}

/// Runs `simulate`.
pub fn run(arguments: &Arguments) -> Result<(), Status> {
    let problem = is_problem(&arguments.model, arguments.entry.as_deref());
    let misplaced = [
        (problem && arguments.all, "--all"),
        (problem && arguments.plot.is_some(), "--plot"),
        (problem && arguments.timings.is_some(), "--timings"),
        (!problem && arguments.parameters.is_some(), "--parameters"),
        (!problem && arguments.population.is_some(), "--population"),
        (!problem && arguments.noise, "--noise"),
    ];
    if let Some((_, option)) = misplaced.iter().find(|(wrong, _)| *wrong) {
        let (form, here) = if problem { ("an SBML model", "a PEtab problem") } else { ("a PEtab problem", "an SBML model") };
        return Err(fail(Status::Usage, format_args!("{option} is for {form}, and {} is {here}", arguments.model.display())));
    }
    let positive = |tolerance: f64| tolerance > 0.0 && tolerance.is_finite();
    if !positive(arguments.rtol) || !positive(arguments.atol) {
        return Err(fail(Status::Usage, "--rtol and --atol must be positive numbers"));
    }
    if let (Some(folder), true) = (&arguments.output, arguments.noise || arguments.population.is_some()) {
        return simulate_data(arguments, folder);
    }
    for path in [&arguments.output, &arguments.plot, &arguments.timings].into_iter().flatten() {
        output::check_destination(path)?;
    }
    let text = if problem { simulate_problem(arguments)? } else { time_course::run(arguments)? };
    match &arguments.output {
        None => output::print(&text),
        Some(path) => output::write_file(path, text.as_bytes()),
    }
}

fn simulate_problem(arguments: &Arguments) -> Result<String, Status> {
    let loaded = load(&arguments.model, arguments.entry.as_deref())?;
    let point = evaluate::natural_parameters(&loaded.problem, arguments.parameters.as_deref())?;
    let simulations = evaluate::simulate_rows(&loaded, arguments.options(), &point)?;
    let mut bytes = Vec::new();
    crate::petab::write_simulations(&loaded.problem, &simulations, &mut bytes).map_err(|e| fail(Status::Files, e))?;
    String::from_utf8(bytes).map_err(|e| fail(Status::Files, e))
}

/// Draws synthetic data and writes the problem that has them.
fn simulate_data(arguments: &Arguments, folder: &Path) -> Result<(), Status> {
    if folder.exists() {
        return Err(fail(Status::Files, format_args!("{} exists; results are never overwritten", folder.display())));
    }
    let loaded = load(&arguments.model, arguments.entry.as_deref())?;
    let point = evaluate::natural_parameters(&loaded.problem, arguments.parameters.as_deref())?;
    let objective = evaluate::objective(&loaded, arguments.options(), &PopulationOptions::default())?;
    if arguments.population.is_some() && objective.individuals() == 0 {
        return Err(fail(Status::Usage, "--population: the problem has no individuals whose design could be repeated"));
    }
    let parts: Vec<_> = objective.parts().iter().zip(loaded.parts().map(|part| &part.problem)).collect();
    let settings = Settings { individuals: arguments.population.map(|n| n as usize), noise: arguments.noise, seed: arguments.seed };
    let rows = synthetic::draw(&parts, &point, &settings).map_err(|e| fail(Status::Numerics, e))?;
    let files = crate::petab::with_data(&loaded.problem, &rows, &point).map_err(|e| fail(Status::Files, e))?;
    for (name, text) in &files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| cannot_write(parent, &e))?;
        output::write_file(&path, text.as_bytes())?;
    }
    println!("{}: {} measurements, {} files", folder.join("problem.yaml").display(), rows.len(), files.len());
    Ok(())
}
