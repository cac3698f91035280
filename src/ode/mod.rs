//! Integration of the states together with their first- and second-order sensitivities (DESIGN.md 2.3).
//!
//! A direction k has seeds dx0/dxi_k and dp/dxi_k; the simulator propagates dx/dxi_k, and d2x/(dxi_k dxi_l) for the pairs asked for.
//!
//! From the top: [`simulator`] owns the memory of simulations, `run` goes from moment to moment, [`events`] does what happens at one,
//! `switch` says what conditions are there and just after, `clock` carries sensitivities to moving times, `invariant` moves
//! states back onto algebraic rules and equilibria, `history` knows the past for delays, `roots` finds the next moment within a
//! step, `cvodes` makes the steps, `newton` solves each step's equations, `system` is what they are made of, `linear` solves
//! linear systems, `steady_state` finds where a simulation comes to rest, `block` is the arithmetic on states and sensitivities as
//! one matrix. [`forward`] is CVODES' own method, the oracle.
//! For gradients by many parameters `record` notes what a simulation without directions does, and [`adjoint`] goes back along it
//! with the method of `esdirk`.
//!
//! To add a linear solver, edit `linear.rs`; an option of the integrator, `simulator::Options` and `cvodes::Integrator::new`.

pub mod adjoint;
mod block;
mod clock;
mod cvodes;
pub mod error;
mod esdirk;
pub mod events;
pub mod forward;
mod history;
mod invariant;
mod linear;
mod newton;
mod record;
mod roots;
mod run;
pub mod simulator;
mod steady_state;
mod switch;
mod system;
mod time_course;

pub use adjoint::{Gradient, Weights};
pub use clock::Clock;
pub use error::SimulationError;
pub use events::Execution;
pub use forward::cvodes_forward;
pub use simulator::{Awaited, Counts, Input, Options, Second, Simulator, Trajectory};
pub use time_course::{TimeCourse, time_course};
