//! SBML files, exactly as they stand: no evaluation, no flattening, no guessing beyond the defaults of each level.

mod mathml;
pub mod model;
mod read;

pub use model::*;
pub use read::read;
