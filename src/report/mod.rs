//! Report: from results as plain data to a run directory with tables, summaries and one self-contained page.
//!
//! Only draws and writes; nothing is estimated or simulated here. [`write_run`] goes through the files: `summary` (page for the
//! terminal, JSON), `tables` (tab-separated values), `page` (HTML by `page.html`), which asks `waterfall`, `trace`,
//! `parameters`, `fits`, `plots`, `residuals` and `etas` for figures; these place marks through `axis` (scales and ticks) and write them through `svg`.
//!
//! `time_course` draws the simulation of a bare model, as a picture of its own.
//!
//! To add a figure: a file that returns SVG text, a `Figure` in `page` with its question, reading aid and table.

pub mod axis;
mod etas;
mod fits;
pub mod number;
mod page;
mod parameters;
mod plots;
mod residuals;
mod summary;
pub mod svg;
mod tables;
pub mod time_course;
mod trace;
mod waterfall;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::estimate::Fit;
use crate::petab::{DataType, PlotScale, PlotType, Scale};

/// Everything a run directory shows.
#[derive(Debug, Clone)]
pub struct RunResults {
    /// Provenance of the run.
    pub info: RunInfo,
    /// Objective at the best point and what is derived from it.
    pub objective: ObjectiveSummary,
    /// All starts of the optimisation; points are on the estimation scale, in the order of `parameters`.
    pub fit: Fit,
    /// Estimated parameters.
    pub parameters: Vec<ParameterRow>,
    /// Random effects of the population.
    pub random_effects: Vec<RandomEffectRow>,
    /// Names of the effects in [`CellRow::ebe`] and [`CellRow::posterior_sd`].
    pub effect_ids: Vec<String>,
    /// Cells with their empirical Bayes estimates.
    pub cells: Vec<CellRow>,
    /// Data and model by observable, experiment and (for trajectories) individual.
    pub series: Vec<Series>,
    /// Figures of the problem's visualization table.
    pub plots: Vec<Plot>,
    /// Content of `simulations.tsv`, written as it is.
    pub simulations_tsv: String,
    /// The problem's parameter table with the estimates as nominal values.
    pub parameters_tsv: String,
    /// Facts on the numerics: what, and its value.
    pub health: Vec<(String, String)>,
}

/// Provenance of a run.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// Name of the problem.
    pub problem: String,
    /// Version of the software.
    pub version: String,
    /// Command line that repeats the run.
    pub command: String,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of threads.
    pub threads: usize,
    /// Path and SHA-256 of every input.
    pub inputs: Vec<(String, String)>,
    /// All options after defaults.
    pub options: serde_json::Value,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Messages to the reader, each with its code.
    pub warnings: Vec<String>,
    /// Description of problem, model and objective: what, and its text.
    pub description: Vec<(String, String)>,
}

/// The objective at the best point.
#[derive(Debug, Clone)]
pub struct ObjectiveSummary {
    /// What was minimised: the negative log-posterior (not normalised), without priors the negative log-likelihood.
    pub nllh: f64,
    /// Log-likelihood by the objective's own method, without priors.
    pub llh: f64,
    /// Sum of the log densities of the priors; `None` in a problem without priors.
    pub log_prior: Option<f64>,
    /// Summands of `nllh`: name and value.
    pub terms: Vec<(String, f64)>,
    /// Number of estimated parameters.
    pub n_parameters: usize,
    /// Number of measurements.
    pub n_data: usize,
    /// Number of individuals.
    pub n_individuals: usize,
    /// Akaike's information criterion, like the following ones of the likelihood at the best point.
    pub aic: f64,
    /// Bayesian information criterion.
    pub bic: f64,
    /// What the BIC counts as its sample size, e.g. `30 cells`.
    pub bic_n: String,
    /// Minus twice the log-likelihood by `method`.
    pub minus2ll: f64,
    /// How `minus2ll` was computed, e.g. `Laplace` or `importance sampling`.
    pub method: String,
    /// Monte Carlo standard error of `minus2ll`, where it has one.
    pub standard_error: Option<f64>,
}

impl ObjectiveSummary {
    /// What `nllh` is called.
    fn name(&self) -> &'static str {
        if self.log_prior.is_some() { "−log posterior" } else { "−log L" }
    }
}

/// An estimated parameter. Values are natural ones unless said otherwise.
#[derive(Debug, Clone)]
pub struct ParameterRow {
    /// Identifier.
    pub id: String,
    /// Estimation scale.
    pub scale: Scale,
    /// Estimate.
    pub estimate: f64,
    /// Estimate on the estimation scale.
    pub scaled: f64,
    /// Standard error.
    pub standard_error: Option<f64>,
    /// Standard error from the sandwich, which does not presume that the model is right.
    pub robust_error: Option<f64>,
    /// Relative standard error as a fraction (0.05 is 5 %).
    pub rse: Option<f64>,
    /// Lower end of the 95 % confidence interval.
    pub lower95: Option<f64>,
    /// Upper end of the 95 % confidence interval.
    pub upper95: Option<f64>,
    /// Lower bound of the estimation.
    pub lower_bound: f64,
    /// Upper bound of the estimation.
    pub upper_bound: f64,
    /// Whether the estimate lies at a bound.
    pub at_bound: bool,
    /// Nominal value of the problem.
    pub nominal: Option<f64>,
}

/// A random effect of the population.
#[derive(Debug, Clone)]
pub struct RandomEffectRow {
    /// Identifier of the effect.
    pub id: String,
    /// Parameter it acts on.
    pub target: String,
    /// Standard deviation ω of the effect.
    pub sd: f64,
    /// Coefficient of variation between cells in percent.
    pub cv_percent: Option<f64>,
    /// Shrinkage of the empirical Bayes estimates as a fraction (0.3 is 30 %).
    pub shrinkage: Option<f64>,
}

/// A cell (individual).
#[derive(Debug, Clone)]
pub struct CellRow {
    /// Experiment.
    pub experiment: String,
    /// Cell.
    pub cell: String,
    /// Empirical Bayes estimate of each effect in [`RunResults::effect_ids`]; none where the cell has no such effect.
    pub ebe: Vec<Option<f64>>,
    /// Posterior standard deviation of each effect.
    pub posterior_sd: Vec<Option<f64>>,
    /// Individual parameters: name and natural value.
    pub parameters: Vec<(String, f64)>,
    /// Negative log-likelihood of the cell.
    pub nll: f64,
    /// Subpopulations with the probability that the cell is of them; empty where there are none.
    pub subpopulations: Vec<(String, f64)>,
    /// `ok`, or what went wrong.
    pub status: String,
}

/// Data and model for one panel.
#[derive(Debug, Clone)]
pub struct Series {
    /// Observable.
    pub observable: String,
    /// Experiment.
    pub experiment: String,
    /// Cell of a trajectory, as in [`CellRow::cell`]; none for data of a population or a bulk.
    pub individual: Option<String>,
    /// Kind of the data, e.g. `trajectory` or `bulk`; shown to the reader.
    pub kind: String,
    /// Measurements.
    pub points: Vec<Point>,
    /// Model over time: time and value.
    pub curve: Vec<(f64, f64)>,
    /// Whether values span a logarithmic axis and σ is on the logarithmic scale.
    pub log: bool,
    /// Whether [`RunResults::plots`] show it.
    pub plotted: bool,
}

/// A figure of the problem's visualization table.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Title.
    pub title: String,
    /// How simulations are drawn.
    pub kind: PlotType,
    /// How measurements are drawn.
    pub data: DataType,
    /// Name of the abscissa.
    pub x_label: String,
    /// Name of the ordinate.
    pub y_label: String,
    /// Scale of the abscissa.
    pub x_scale: PlotScale,
    /// Scale of the ordinate.
    pub y_scale: PlotScale,
    /// Names of the abscissae 0, 1, ..., where they have names.
    pub names: Vec<String>,
    /// What shares the axes.
    pub sets: Vec<PlotSet>,
}

/// A dataset of a [`Plot`].
#[derive(Debug, Clone)]
pub struct PlotSet {
    /// Name in the legend.
    pub legend: String,
    /// Measurements; [`Point::t`] is the abscissa, of which only times may be infinite and which is NaN where there is none.
    pub points: Vec<Point>,
    /// Model between the abscissae, where these are times.
    pub curves: Vec<Vec<(f64, f64)>>,
    /// Whether σ is on the logarithmic scale.
    pub log: bool,
}

/// A measurement beside its simulation.
#[derive(Debug, Clone)]
pub struct Point {
    /// Time.
    pub t: f64,
    /// Measured value.
    pub measurement: f64,
    /// Simulated value.
    pub simulation: f64,
    /// Standard deviation of the noise (of the natural logarithm where [`Series::log`]).
    pub sigma: f64,
}

/// Writes a run directory.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is something at `directory`; otherwise what the file system says. Nothing is left
/// behind then.
pub fn write_run(directory: &Path, results: &RunResults) -> io::Result<()> {
    // The whole content comes first: a failure while drawing leaves nothing behind.
    let files = files(results)?;
    if occupied(directory) {
        return Err(already_exists(directory));
    }
    let name = directory.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the run directory has no name"))?;
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let created: Vec<&Path> = parent.ancestors().take_while(|p| *p != Path::new("") && !p.exists()).collect();
    fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".{}.partial-{}", name.to_string_lossy(), std::process::id()));
    fs::create_dir(&temporary).inspect_err(|_| remove_empty(&created))?;
    let outcome = write_files(&temporary, &files).and_then(|()| {
        if occupied(directory) {
            return Err(already_exists(directory));
        }
        fs::rename(&temporary, directory)
    });
    if outcome.is_err() {
        // The first error is the one to report; what cannot be removed stays.
        let _ = fs::remove_dir_all(&temporary);
        remove_empty(&created);
    }
    outcome
}

/// Removes folders that were made for the run; those that hold something by now stay.
fn remove_empty(folders: &[&Path]) {
    for folder in folders {
        let _ = fs::remove_dir(folder);
    }
}

fn write_files(directory: &Path, files: &[(&str, String)]) -> io::Result<()> {
    files.iter().try_for_each(|(name, content)| fs::write(directory.join(name), content))
}

fn files(results: &RunResults) -> io::Result<Vec<(&'static str, String)>> {
    let mut files = vec![
        ("report.html", page::page(results).map_err(io::Error::other)?),
        ("summary.txt", summary::text(results)),
        ("summary.json", summary::json(results)),
        ("run.json", summary::provenance(results)),
        ("estimates.tsv", tables::estimates(results)),
        ("starts.tsv", tables::starts(results)),
        ("trace.tsv", tables::trace(results)),
        ("simulations.tsv", results.simulations_tsv.clone()),
        ("parameters.tsv", results.parameters_tsv.clone()),
    ];
    if !results.cells.is_empty() {
        files.push(("cells.tsv", tables::cells(results)));
    }
    if !results.random_effects.is_empty() {
        files.push(("random_effects.tsv", tables::random_effects(results)));
    }
    Ok(files)
}

/// Whether something has this name; a dangling link counts.
fn occupied(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn already_exists(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists; a run directory is never overwritten", path.display()))
}

/// The page for the terminal and `summary.txt`.
pub fn summary_text(results: &RunResults) -> String {
    summary::text(results)
}

/// The first free one of `<name>-fit-001`, `<name>-fit-002`, … in `base`.
pub fn next_run_directory(base: &Path, name: &str) -> PathBuf {
    let mut number = 1usize;
    loop {
        let candidate = base.join(format!("{name}-fit-{number:03}"));
        if !occupied(&candidate) {
            return candidate;
        }
        number += 1;
    }
}
