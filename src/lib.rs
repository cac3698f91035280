//! mixode fits mixed-effects ODE models: one mechanistic model to trajectories of single cells, snapshots and bulk data at once.
//!
//! # The line
//!
//! 1. [`petab::read`] reads a problem: YAML and tables of PEtab 1 or 2, with the extension `nlme`.
//! 2. [`sbml::read`] reads its model as the file says, composed models flattened.
//! 3. [`model::build`] marries both into one [`model::OdeSystem`]: states, parameters, observables, experiments as expressions.
//! 4. [`model::compile`] derives first and second derivatives and makes machine code: [`model::CompiledModel`].
//! 5. [`ode::Simulator`] integrates states and sensitivities in one block, stopping at every switch and event; [`ode::time_course`] is the
//!    simulation of a model alone.
//! 6. [`likelihood::problem::ProblemObjective`] turns simulations and data into the negative log-likelihood, its gradient and information.
//! 7. [`estimate::multistart::multistart`] minimises it from many points: [`estimate::Fit`].
//! 8. [`report::write_run`] writes the run directory. The commands of [`cli`] are these steps in a row.
//!
//! # The rooms, lowest first
//!
//! A room imports only from rooms before it; `tests/architecture.rs` keeps it so.
//!
//! | room | job |
//! | --- | --- |
//! | [`diag`], [`linalg`], [`matching`], [`random`] | messages with places; dense linear algebra; which equation determines which unknown; keyed random and quasi-random numbers |
//! | [`archive`] | files that come compressed or many in one, COMBINE archives among them |
//! | [`expr`] | formulas: parse, build, differentiate, print, evaluate |
//! | [`sbml`], [`petab`], [`jit`] | the two inputs as plain data; machine code for lists of expressions |
//! | [`model`], [`flux_balance`] | the system of equations and its compiled form; fluxes in steady state by linear programming |
//! | [`ode`] | integration and sensitivities |
//! | [`likelihood`] | noise, random effects, marginal likelihoods, population statistics, objectives |
//! | [`estimate`] | optimisation, multi-start, standard errors, gradient check |
//! | [`report`], [`cli`] | what people see |
//!
//! # Invariants
//!
//! - The objective is the negative log-likelihood with every constant, and is minimised.
//! - The same input gives the same bits for any number of threads: sums run in index order, random streams are keyed, nothing reads a clock.
//! - Wrong input gives all mistakes at once; a numerical failure at a point is a typed error; a panic is a bug.
//!
//! # Where to change what
//!
//! | to add | touch |
//! | --- | --- |
//! | an SBML construct | `sbml/read.rs`, `sbml/model.rs`, `model/build.rs`; what has names: `sbml/comp_names.rs` |
//! | a function of formulas | `expr/op.rs`, its derivative in `expr/derivative.rs`, its names in `expr/parse.rs`, `sbml/mathml.rs` |
//! | a noise distribution | `likelihood/noise.rs`, its name in `petab/observables.rs` |
//! | a PEtab column | the table's file in `petab/` |
//! | a population statistic | `likelihood/population_statistics.rs`, `likelihood/population_rows.rs` |
//! | a command | a file in `cli/` |

pub mod archive;
pub mod cli;
pub mod diag;
pub mod estimate;
pub mod expr;
pub mod flux_balance;
pub mod jit;
pub mod likelihood;
pub mod linalg;
pub mod matching;
pub mod model;
pub mod ode;
pub mod petab;
pub mod random;
pub mod report;
pub mod sbml;
