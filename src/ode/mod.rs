//! Integration of the states together with their first- and second-order sensitivities (DESIGN.md 2.3).
//!
//! A direction k has seeds dx0/dxi_k and dp/dxi_k; the simulator propagates dx/dxi_k, and d2x/(dxi_k dxi_l) for the pairs asked for.

pub mod error;
pub mod simulator;

pub use error::SimulationError;
pub use simulator::{Counts, Input, Options, Second, Simulator, Trajectory};
