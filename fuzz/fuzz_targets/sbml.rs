//! Bytes as an SBML document: reading it ends with a model or with messages, and the messages can be written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mixode::diag::{Diagnostics, Source};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut diagnostics = Diagnostics::new();
    let model = mixode::sbml::read(&Source::new("fuzz.xml", text), &mut diagnostics);
    assert!(model.is_some() || diagnostics.has_errors(), "no model, and no error that says why");
    let _ = diagnostics.render(false);
    let _ = diagnostics.concise();
});
