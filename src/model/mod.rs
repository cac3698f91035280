//! From an SBML model and a PEtab problem to one system of equations, and from it to compiled functions.
//!
//! [`build`](build::build) marries the two documents into an [`OdeSystem`](system::OdeSystem) (symbolic),
//! [`compile`](compiled::compile) derives what is asked for and makes machine code ([`CompiledModel`]).
//!
//! Conventions: the states x are the quantities as formulas see them (a species' concentration unless
//! `hasOnlySubstanceUnits`). The parameters p are everything that is constant between two changes of an experiment: first
//! every row of the PEtab parameter table (theta), then the model's own constants, then the flags of the switches.
//! Assignment rules and function definitions are substituted.

pub mod build;
pub mod compiled;
pub mod system;

pub use build::build;
pub use compiled::{CompileOptions, CompiledModel, compile};
pub use system::{OdeSystem, Unit};
