//! YAML and tables to [`Problem`].

use super::Problem;
use crate::diag::Diagnostics;
use std::path::Path;

/// Reads the problem whose YAML file is `path` (or that lies in the folder `path`). Everything wrong is reported; `None`
/// if there was an error.
pub fn read(_path: &Path, _diagnostics: &mut Diagnostics) -> Option<Problem> {
    todo!()
}
