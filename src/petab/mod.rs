//! PEtab problems of version 1 and 2, with the extension `nlme`, as plain data.
//!
//! Both versions are read into one [`Problem`]: a version 1 condition pair becomes an [`Experiment`] of one or two periods.

pub mod problem;
mod read;

pub use problem::*;
pub use read::read;
