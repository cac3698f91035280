//! The content of a PEtab problem: a superset of versions 1 and 2 and of the extension `nlme`.

use super::files::InputFile;
use crate::diag::{Source, Span};
use crate::expr::Ast;
use std::path::PathBuf;
use std::sync::Arc;

/// Version of the PEtab format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.x
    V1,
    /// 2.x
    V2,
}

/// A formula with its place: ranges in `ast` count from the start of `span`.
#[derive(Debug, Clone)]
pub struct Formula {
    /// The parsed formula.
    pub ast: Ast,
    /// The table cell.
    pub span: Span,
}

/// A PEtab problem with one model; of a problem with several, the first model's part.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Path of the YAML file as given; in an archive, behind the archive's.
    pub path: PathBuf,
    /// Format version.
    pub version: Version,
    /// Name to show: the YAML's `id`, else the file's or folder's name.
    pub name: String,
    /// Every input file that was read: an archive first, then the YAML, the model and the tables.
    pub files: Vec<InputFile>,
    /// The SBML file's text.
    pub model: Source,
    /// Names of the problem for entities of the model (version 2, mapping table).
    pub aliases: Vec<Alias>,
    /// Parameter table in file order, hyperparameters of `nlme` after the core parameters.
    pub parameters: Vec<Parameter>,
    /// Observable table.
    pub observables: Vec<Observable>,
    /// Experiments that measurements refer to (in v1: the distinct pairs of conditions), in order of first use.
    pub experiments: Vec<Experiment>,
    /// Measurement table, all files in order.
    pub measurements: Vec<Measurement>,
    /// Extension `nlme`, where the problem uses it.
    pub nlme: Option<Nlme>,
    /// Figures of the visualization table (version 1).
    pub plots: Vec<super::Plot>,
    /// The parts of further models. They have the same parameters, and no further parts.
    pub others: Vec<Problem>,
    /// The tables as they stand in the files, for writing simulations beside the data and estimates in the place of nominal values.
    pub tables: OriginalTables,
}

impl Problem {
    /// The problem with the rows of those individuals (numbers in [`Nlme::individuals`]) that `keep` chooses, without the parts of
    /// further models. All other rows stay.
    pub fn of_individuals(&self, keep: &dyn Fn(usize) -> bool) -> Problem {
        let kept = |m: &&Measurement| match m.kind {
            DataKind::Trajectory { individual } | DataKind::TimeToEvent { individual, .. } => keep(individual),
            _ => true,
        };
        let measurements: Vec<Measurement> = self.measurements.iter().filter(kept).cloned().collect();
        let rows = self.measurements.iter().zip(&self.tables.rows).filter(|(m, _)| kept(m)).map(|(_, row)| *row).collect();
        Problem {
            version: self.version,
            name: self.name.clone(),
            path: self.path.clone(),
            files: self.files.clone(),
            model: self.model.clone(),
            aliases: self.aliases.clone(),
            parameters: self.parameters.clone(),
            observables: self.observables.clone(),
            experiments: self.experiments.clone(),
            measurements,
            nlme: self.nlme.clone(),
            plots: Vec::new(),
            others: Vec::new(),
            tables: OriginalTables { parameters: self.tables.parameters.clone(), tables: self.tables.tables.clone(), rows },
        }
    }

    /// The parts of all models, this one first.
    pub fn parts(&self) -> impl Iterator<Item = &Problem> {
        std::iter::once(self).chain(&self.others)
    }
}

/// A name of the problem for an entity of the model.
#[derive(Debug, Clone)]
pub struct Alias {
    /// The name in the tables.
    pub id: String,
    /// The name in the model.
    pub entity: String,
    /// Place of the latter.
    pub span: Span,
}

/// The tables that results are written into, and where each measurement came from.
#[derive(Debug, Clone, Default)]
pub struct OriginalTables {
    /// The parameter tables, those of hyperparameters last, for writing estimates into them.
    pub parameters: Arc<[super::table::Table]>,
    /// The measurement tables in the YAML's order, of all models.
    pub tables: Arc<[super::table::Table]>,
    /// For each entry of [`Problem::measurements`] the table and the row in it.
    pub rows: Vec<(u32, u32)>,
}

/// Scale on which a parameter is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The parameter itself.
    Lin,
    /// Natural logarithm.
    Log,
    /// Decadic logarithm.
    Log10,
}

impl Scale {
    /// From the natural to the estimation scale.
    pub fn scale(self, value: f64) -> f64 {
        match self {
            Scale::Lin => value,
            Scale::Log => value.ln(),
            Scale::Log10 => value.log10(),
        }
    }

    /// From the estimation scale back.
    pub fn unscale(self, value: f64) -> f64 {
        match self {
            Scale::Lin => value,
            Scale::Log => value.exp(),
            Scale::Log10 => 10f64.powf(value),
        }
    }

    /// Derivative of the natural value with respect to the scaled one, at the natural value.
    pub fn derivative(self, natural: f64) -> f64 {
        match self {
            Scale::Lin => 1.0,
            Scale::Log => natural,
            Scale::Log10 => natural * std::f64::consts::LN_10,
        }
    }
}

/// A row of the parameter table. Values and bounds are on the natural scale.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Identifier.
    pub id: String,
    /// Estimation scale (v2: `Log` for positive lower and finite upper bounds, else `Lin`; reasons in `parameters.rs`).
    pub scale: Scale,
    /// Lower bound (may be -inf).
    pub lower: f64,
    /// Upper bound (may be inf).
    pub upper: f64,
    /// Nominal value.
    pub nominal: Option<f64>,
    /// Whether it is estimated.
    pub estimate: bool,
    /// Objective prior.
    pub prior: Option<Prior>,
    /// Initialisation prior of version 1, from which starting values are drawn.
    pub start: Option<Prior>,
    /// Whether it comes from a hyperparameter file of `nlme`.
    pub hyper: bool,
    /// Place of the id.
    pub span: Span,
}

/// A prior as the table gives it.
#[derive(Debug, Clone)]
pub struct Prior {
    /// Its family.
    pub family: PriorFamily,
    /// Its parameters: finite, as many as the family has, and within its domain.
    pub parameters: Vec<f64>,
    /// Place.
    pub span: Span,
}

/// Families of priors of both versions. Those that begin with `Scale` are distributions of the parameter on its scale, those that begin
/// with `Log` are given by the natural logarithm of the parameter, all others are distributions of the parameter itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PriorFamily {
    Cauchy,
    ChiSquare,
    Exponential,
    Gamma,
    Laplace,
    LogLaplace,
    LogNormal,
    LogUniform,
    Normal,
    Rayleigh,
    Uniform,
    ScaleLaplace,
    ScaleNormal,
    ScaleUniform,
}

impl PriorFamily {
    /// What the parameters are.
    pub fn parameters(self) -> &'static [&'static str] {
        use PriorFamily::*;
        match self {
            Normal | LogNormal | ScaleNormal => &["mean", "standard deviation"],
            Laplace | LogLaplace | ScaleLaplace | Cauchy => &["location", "scale"],
            Uniform | LogUniform | ScaleUniform => &["lower end", "upper end"],
            Gamma => &["shape", "scale"],
            ChiSquare => &["degrees of freedom"],
            Exponential | Rayleigh => &["scale"],
        }
    }
}

/// Distribution of a measurement around the simulation, with the transformation folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NoiseDistribution {
    Normal,
    LogNormal,
    Log10Normal,
    Laplace,
    LogLaplace,
    Log10Laplace,
}

/// A row of the observable table.
#[derive(Debug, Clone)]
pub struct Observable {
    /// Identifier.
    pub id: String,
    /// Display name.
    pub name: Option<String>,
    /// Observable formula.
    pub formula: Formula,
    /// Noise formula (standard deviation or Laplace scale, on the transformed scale).
    pub noise: Formula,
    /// Noise distribution.
    pub distribution: NoiseDistribution,
    /// Names of the observable placeholders in order (v1: `observableParameter1_id`, ...).
    pub observable_placeholders: Vec<String>,
    /// Names of the noise placeholders in order.
    pub noise_placeholders: Vec<String>,
    /// Place of the id.
    pub span: Span,
}

/// What happens to the system over time.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Identifier (v2), or the v1 ids joined; empty for "model as is".
    pub id: String,
    /// Version 1: (preequilibrationConditionId, simulationConditionId).
    pub conditions: Option<(Option<String>, String)>,
    /// Periods in order of time. At least one; the first may start at -inf (pre-equilibration).
    pub periods: Vec<Period>,
}

/// One period of an experiment.
///
/// In version 2 changes stay in force in later periods. In version 1 (`Experiment::conditions` is `Some`) a parameter that
/// the pre-equilibration changes and the simulation condition does not has the model's value again at time 0.
#[derive(Debug, Clone)]
pub struct Period {
    /// Start (v1: -inf or 0).
    pub time: f64,
    /// Simultaneous changes at the start.
    pub changes: Vec<Change>,
}

/// `target := value` at a period's start.
#[derive(Debug, Clone)]
pub struct Change {
    /// Model entity or output parameter.
    pub target: String,
    /// New value.
    pub value: Formula,
    /// Place of the target.
    pub span: Span,
}

/// Value of a placeholder in one measurement row.
#[derive(Debug, Clone, PartialEq)]
pub enum Override {
    /// A number.
    Number(f64),
    /// A parameter.
    Id(String, Span),
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.range == other.range && self.source.name() == other.source.name()
    }
}

/// A row of the measurement table.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Index into [`Problem::observables`].
    pub observable: usize,
    /// Index into [`Problem::experiments`].
    pub experiment: usize,
    /// Time; `inf` for a steady state.
    pub time: f64,
    /// Measured value.
    pub value: f64,
    /// Values of the observable placeholders.
    pub observable_parameters: Vec<Override>,
    /// Values of the noise placeholders.
    pub noise_parameters: Vec<Override>,
    /// What the row means (extension `nlme`; `Typical` without it).
    pub kind: DataKind,
    /// Multiplier of the log-likelihood (extension `nlme`), 1 unless given.
    pub weight: f64,
    /// Censoring (extension `nlme`).
    pub censoring: Censoring,
    /// Place of the row's measurement.
    pub span: Span,
}

/// Kind of data of a row (extension `nlme`, measurement table).
#[derive(Debug, Clone, PartialEq)]
pub enum DataKind {
    /// An ordinary PEtab row: the typical individual.
    Typical,
    /// A value of one individual over time.
    Trajectory {
        /// Index into [`Nlme::individuals`].
        individual: usize,
    },
    /// The time of an event of one individual.
    TimeToEvent {
        /// Index into [`Nlme::individuals`].
        individual: usize,
        /// Event id.
        event: String,
    },
    /// A value of an individual seen once.
    Snapshot {
        /// Individual id where rows belong together.
        individual: Option<String>,
        /// Number of individuals that the row stands for, such as those in the bin of a histogram.
        cells: u64,
    },
    /// A statistic of many individuals at one time.
    SnapshotStatistic(PopulationStatistic),
    /// An average over the population.
    Bulk(PopulationStatistic),
}

/// A population functional and its precision.
#[derive(Debug, Clone, PartialEq)]
pub struct PopulationStatistic {
    /// Which functional.
    pub statistic: Statistic,
    /// Number of individuals behind it.
    pub sample_size: Option<u64>,
    /// Standard deviation of the statistic: a number or a parameter.
    pub sd: Option<Override>,
}

/// Population functionals.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Statistic {
    Mean,
    Variance,
    Sd,
    LogVariance,
    /// With the second observable's index.
    Covariance(usize),
    /// Fraction of individuals that have had the event (id) by the row's time.
    FractionEvent(String),
    /// A composite statistic of the statistics table.
    Composite(String),
}

/// Censoring of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Censoring {
    /// Observed exactly.
    None,
    /// Known to be above the value.
    Right,
    /// Known to be below the value.
    Left,
    /// Between the value and this upper end.
    Interval(f64),
}

/// The extension `nlme`.
#[derive(Debug, Clone)]
pub struct Nlme {
    /// Random effects in file order.
    pub random_effects: Vec<RandomEffect>,
    /// Entries of the covariance.
    pub covariance: Vec<CovarianceEntry>,
    /// Individuals in order of first appearance: id and experiment.
    pub individuals: Vec<Individual>,
    /// Hints of the YAML's `defaults`.
    pub defaults: Defaults,
    /// Events of the event tables.
    pub events: Vec<EventTrigger>,
    /// Composite statistics of the statistics tables.
    pub statistics: Vec<CompositeStatistic>,
    /// Subpopulations, the classes of a mixture; none where all individuals are of one kind.
    pub subpopulations: Vec<Subpopulation>,
}

/// A subpopulation: a class of individuals in which some parameters have another value. Which class an individual is of is not known.
#[derive(Debug, Clone)]
pub struct Subpopulation {
    /// Identifier.
    pub id: String,
    /// Its probability; `None`: the rest.
    pub probability: Option<TableValue>,
    /// Core parameters (indices) and what takes their place, with its random effects.
    pub values: Vec<(usize, TableValue)>,
    /// Place of the id.
    pub span: Span,
}

/// An observed event: the time at which a trigger formula crosses 0, or one that comes at random with a hazard. It never changes the state.
#[derive(Debug, Clone)]
pub struct EventTrigger {
    /// Identifier.
    pub id: String,
    /// The formula g of the trigger, or the hazard.
    pub formula: Formula,
    /// Where the formula is a hazard: the name of the state that holds its integral.
    pub cumulative_hazard: Option<String>,
    /// Which crossings count.
    pub direction: Direction,
    /// Which of the crossings, counted from 1.
    pub occurrence: u32,
    /// Place of the id.
    pub span: Span,
}

/// Direction of a crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From negative to positive.
    Up,
    /// From positive to negative.
    Down,
    /// Either.
    Any,
}

/// A statistic composed of population functionals, such as a ratio of means.
#[derive(Debug, Clone)]
pub struct CompositeStatistic {
    /// Identifier.
    pub id: String,
    /// The formula; the name `_fN` in it stands for `functionals[N]`.
    pub formula: Formula,
    /// The functionals in order of appearance, equal ones once.
    pub functionals: Vec<Functional>,
    /// Place of the id.
    pub span: Span,
}

/// A functional over the random effects of noise-free observables (indices into [`Problem::observables`]).
#[derive(Debug, Clone, PartialEq)]
pub enum Functional {
    /// `mean(obs)` at the row's time, or `mean_at(obs, t)`.
    Mean {
        /// The observable.
        observable: usize,
        /// The time, if it is not the row's.
        time: Option<f64>,
    },
    /// `var(obs)`.
    Variance(usize),
    /// `cov(a, b)`.
    Covariance(usize, usize),
    /// `quantile(obs, p)`.
    Quantile(usize, f64),
}

/// An individual (cell).
#[derive(Debug, Clone)]
pub struct Individual {
    /// Identifier.
    pub id: String,
    /// Index into [`Problem::experiments`].
    pub experiment: usize,
    /// The group (replicate, donor) it is of; its random effects of level `group` are those of all its individuals.
    pub group: Option<String>,
}

/// A random effect.
#[derive(Debug, Clone)]
pub struct RandomEffect {
    /// Identifier.
    pub id: String,
    /// Index of the core parameter it acts on.
    pub target: usize,
    /// How it acts.
    pub transformation: Transformation,
    /// Experiments (indices) it is restricted to; `None` for all.
    pub experiments: Option<Vec<usize>>,
    /// Whether all individuals of a group share it.
    pub of_group: bool,
    /// Place of the id.
    pub span: Span,
}

/// How a random effect b moves a parameter: T(cell) = T(typical) + b.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transformation {
    /// T = identity.
    Additive,
    /// T = log.
    Log,
    /// T = logit between lower and upper.
    Logit(f64, f64),
}

/// Kind of a covariance entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CovarianceKind {
    Sd,
    Var,
    LogVar,
    Corr,
    Chol,
}

/// An entry of the random-effect covariance table.
#[derive(Debug, Clone)]
pub struct CovarianceEntry {
    /// Index of the row's random effect.
    pub row: usize,
    /// Index of the column's random effect.
    pub column: usize,
    /// Kind.
    pub kind: CovarianceKind,
    /// Its value.
    pub value: TableValue,
    /// Place.
    pub span: Span,
}

/// A number or a parameter in a cell of the extension's tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TableValue {
    /// Fixed.
    Number(f64),
    /// Index into [`Problem::parameters`].
    Parameter(usize),
}

/// Hints for the integration over random effects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Defaults {
    /// `laplace`, `gauss_newton`, ...
    pub individual_integration: Option<String>,
    /// `sobol`, `gauss_hermite`, ...
    pub population_integration: Option<String>,
    /// Number of nodes.
    pub population_nodes: Option<usize>,
    /// Seed of the nodes.
    pub seed: Option<u64>,
}
