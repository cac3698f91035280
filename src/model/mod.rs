//! From an SBML model and a PEtab problem to one system of equations, and from it to compiled functions.
//!
//! [`build`](build::build) marries the two documents into an [`OdeSystem`](system::OdeSystem) (symbolic),
//! [`compile`](compiled::compile) derives what is asked for and makes machine code ([`CompiledModel`]).
//!
//! Conventions: the states x are the quantities as formulas see them (a species' concentration unless
//! `hasOnlySubstanceUnits`), but amounts where the compartment changes. The parameters p are everything that is constant between two
//! changes of an experiment or events: first every row of the PEtab parameter table (theta), then the model's own constants, then what
//! the integrator sets: delayed quantities and the flags of the switches. Assignment rules and function definitions are substituted.
//!
//! Diagnostic codes raised in this room:
//!
//! | code | meaning |
//! | --- | --- |
//! | M0101 | a formula uses an undefined symbol |
//! | M0102 | definitions refer to each other in a circle |
//! | M0103 | wrong number of arguments in the call of a function definition |
//! | M0104 | functions that call functions make a formula too large |
//! | M0201 | a change or the parameter table names something that has no settable value |
//! | M0202 | a parameter of the parameter table has the name of a state |
//! | M0203 | an override names something that is not a parameter |
//! | M0204 | a quantity that the equations need has no value |
//! | M0205 | a condition changes something that does not exist |
//! | M0206 | an observable or a placeholder has the name of a model entity |
//! | M0207 | the parameter table names a local parameter of a reaction |
//! | M0208 | the mapping table names what is not in the model |
//! | M0209 | an alias of the mapping table is not a new name |
//! | M0802 | warning: a value that a model standing alone does not give, and the one taken |
//! | M0803 | warning: parameters of the parameter table without effect |
//! | M0901 | too many fast reactions and nonlinear algebraic rules (not supported) |

mod algebraic;
mod aliases;
pub mod build;
pub mod compiled;
pub mod conservation;
mod entities;
mod events;
mod finish;
mod initial;
mod lint;
mod rates;
pub mod setup;
mod switches;
pub mod system;

pub use aliases::apply_aliases;
pub use build::build;
pub use compiled::{CompileOptions, CompiledModel, compile};
pub use lint::report_unused_parameters;
pub use system::{OdeSystem, Unit};
