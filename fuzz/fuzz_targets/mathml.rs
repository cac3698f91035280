//! Bytes as the formula of a rate rule in a small model: reading, building and compiling it for the interpreter.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mixode::diag::{Diagnostics, Source};
use mixode::jit::Backend;
use mixode::model::{self, CompileOptions};

const BEFORE: &str = r#"<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model>
<listOfFunctionDefinitions><functionDefinition id="f"><math xmlns="http://www.w3.org/1998/Math/MathML"><lambda><bvar><ci>a</ci></bvar><bvar><ci>b</ci></bvar><apply><times/><ci>a</ci><ci>b</ci></apply></lambda></math></functionDefinition></listOfFunctionDefinitions>
<listOfParameters><parameter id="x" value="1" constant="false"/><parameter id="y" value="2" constant="false"/><parameter id="k" value="3" constant="true"/></listOfParameters>
<listOfRules><rateRule variable="y"><math xmlns="http://www.w3.org/1998/Math/MathML"><ci>x</ci></math></rateRule><rateRule variable="x"><math xmlns="http://www.w3.org/1998/Math/MathML">"#;
const AFTER: &str = "</math></rateRule></listOfRules></model></sbml>";

/// Longer formulas are for the target `sbml`; here the derivatives of each are taken, which is slow.
const LONGEST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Ok(math) = std::str::from_utf8(bytes) else { return };
    if math.len() > LONGEST {
        return;
    }
    let mut diagnostics = Diagnostics::new();
    let source = Source::new("fuzz.xml", format!("{BEFORE}{math}{AFTER}"));
    let Some(read) = mixode::sbml::read(&source, &mut diagnostics) else {
        assert!(diagnostics.has_errors(), "no model, and no error that says why");
        return;
    };
    let Some(system) = model::build(&read, None, 0.0, &mut diagnostics) else {
        assert!(diagnostics.has_errors(), "no system, and no error that says why");
        return;
    };
    let options = CompileOptions { second: false, backend: Backend::Interpreter };
    assert!(model::compile(&system, options).is_ok());
});
