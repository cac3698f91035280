//! XML to [`Model`].

use super::Model;
use crate::diag::{Diagnostics, Source};

/// Reads an SBML document of level 2 version 1 to level 3 version 2. Everything wrong or not supported is reported;
/// `None` if there was an error.
pub fn read(_source: &Source, _diagnostics: &mut Diagnostics) -> Option<Model> {
    todo!()
}
