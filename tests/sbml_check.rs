//! What `mixode check` says about a model beyond what reading it needs: units, references, probable slips.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod reference_data;
use mixode::diag::{Diagnostics, Severity, Source};
use mixode::sbml;
use reference_data::shared;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

fn checked(text: &str) -> Diagnostics {
    checked_file("model.xml", text)
}

fn checked_file(name: &str, text: &str) -> Diagnostics {
    let source = Source::new(name, text);
    let mut diagnostics = Diagnostics::new();
    let model = sbml::read(&source, &mut diagnostics);
    sbml::lint(&source, model.as_ref(), &mut diagnostics);
    diagnostics
}

/// All messages as "code message".
fn messages(text: &str) -> Vec<String> {
    checked(text).items().iter().map(|d| format!("{} {}", d.code, d.message)).collect()
}

const MATHML: &str = "xmlns=\"http://www.w3.org/1998/Math/MathML\"";

/// Level 3, in mole, litre and second: compartment c, species S (concentration) and A (amount), and parameters k (1/second),
/// n (a number without unit), two (dimensionless), t (minute), m (millimole), v (metre^3), x (mole, variable).
fn level_3(content: &str) -> String {
    let unit = |id: &str, kind: &str, exponent: i32, scale: i32, multiplier: f64| {
        format!(
            "<unitDefinition id=\"{id}\"><listOfUnits><unit kind=\"{kind}\" exponent=\"{exponent}\" scale=\"{scale}\" \
             multiplier=\"{multiplier}\"/></listOfUnits></unitDefinition>"
        )
    };
    let parameter = |id: &str, units: &str| format!("<parameter id=\"{id}\" value=\"2\" constant=\"true\" {units}/>");
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" xmlns:u=\"http://www.sbml.org/sbml/level3/version2/core\" \
         level=\"3\" version=\"2\">\n\
         <model id=\"m\" substanceUnits=\"mole\" timeUnits=\"second\" volumeUnits=\"litre\" extentUnits=\"mole\">\n\
         <listOfUnitDefinitions>{}{}{}{}</listOfUnitDefinitions>\n\
         <listOfCompartments><compartment id=\"c\" size=\"2\" spatialDimensions=\"3\" constant=\"true\"/></listOfCompartments>\n\
         <listOfSpecies><species id=\"S\" compartment=\"c\" initialAmount=\"3\" hasOnlySubstanceUnits=\"false\" \
         boundaryCondition=\"false\" constant=\"false\"/><species id=\"A\" compartment=\"c\" initialAmount=\"3\" \
         hasOnlySubstanceUnits=\"true\" boundaryCondition=\"false\" constant=\"false\"/></listOfSpecies>\n\
         <listOfParameters>{}{}{}{}{}{}<parameter id=\"x\" value=\"1\" constant=\"false\" units=\"mole\"/></listOfParameters>\n\
         {content}</model></sbml>",
        unit("per_second", "second", -1, 0, 1.0),
        unit("minute", "second", 1, 0, 60.0),
        unit("millimole", "mole", 1, -3, 1.0),
        unit("cubic", "metre", 3, 0, 1.0),
        parameter("k", "units=\"per_second\""),
        parameter("n", ""),
        parameter("two", "units=\"dimensionless\""),
        parameter("t", "units=\"minute\""),
        parameter("m", "units=\"millimole\""),
        parameter("v", "units=\"cubic\""),
    )
}

/// What is said about a rule for x (mole).
fn rule(formula: &str) -> String {
    let text =
        level_3(&format!("<listOfRules><assignmentRule variable=\"x\"><math {MATHML}>{formula}</math></assignmentRule></listOfRules>"));
    messages(&text).join("; ").replace("the assignment rule for `x`", "x")
}

/// The formula in Polish notation as MathML: `(times k S)`.
fn polish(text: &str) -> String {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut out = String::new();
    let mut is_head = false;
    for token in spaced.split_whitespace() {
        match token {
            "(" => out.push_str("<apply>"),
            ")" => out.push_str("</apply>"),
            head if is_head => write!(out, "<{head}/>").unwrap(),
            "time" => out.push_str("<csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/time\">t</csymbol>"),
            number if number.starts_with(|c: char| c.is_ascii_digit()) => match number.split_once(':') {
                Some((value, unit)) => write!(out, "<cn u:units=\"{unit}\">{value}</cn>").unwrap(),
                None => write!(out, "<cn>{number}</cn>").unwrap(),
            },
            name => write!(out, "<ci>{name}</ci>").unwrap(),
        }
        is_head = token == "(";
    }
    out
}

#[test]
fn consistent_formulas_raise_no_warning() {
    for formula in [
        "A",
        "(times S c)",
        "(times 2 A)",
        "(divide A two)",
        "(times A (power two 3))",
        "(plus A (times S c) (times S c n))",
        "(minus 1 A)",
        "(times A (exp (minus (times k time))))",
        "(times A (divide (power S n) (plus (power S n) (power S n))))",
        "(root (power A 2))",
        "(times S c (plus 1 (divide S S)))",
        "(times 0.37 t)",
        "(plus n A)",
        "(divide A 1000)",
        "1",
        "(max A (times c S))",
    ] {
        assert_eq!(rule(&polish(formula)), "", "{formula}");
    }
}

#[test]
fn units_that_do_not_fit_are_named() {
    for (formula, expected) in [
        ("S", "S0810 x is in `mole / litre`, not `mole`"),
        ("(times A A)", "S0810 x is in `mole^2`, not `mole`"),
        ("m", "S0810 x is in `millimole`, not `mole`: they differ by a factor of 1000"),
        ("(times S v)", "S0810 x is in `mole metre^3 / litre`, not `mole`: they differ by a factor of 1000"),
        ("(plus A k)", "S0809 x adds `mole` to `1 / second`"),
        ("(plus (times n A) S A)", "S0809 x adds `mole / litre` to `mole`"),
        ("(minus A m)", "S0809 x adds `mole` to `millimole`, which differ by a factor of 1000"),
        ("(times A (exp t))", "S0809 x takes `exp` of something in `minute`, which is not dimensionless"),
        ("(ln S)", "S0809 x takes `ln` of something in `mole / litre`, which is not dimensionless"),
        ("(power two t)", "S0809 x has as exponent something in `minute`, which is not dimensionless"),
        ("(times A (gt time t))", "S0809 x compares `second` and `minute`, which differ by a factor of 60"),
        ("(plus A 3:second)", "S0809 x adds `mole` to `second`"),
        ("(root A)", "S0810 x is in `mole^0.5`, not `mole`"),
        ("(power A n)", "S0810 x is in `mole^2`, not `mole`"),
    ] {
        assert_eq!(rule(&polish(formula)), expected, "{formula}");
    }
    let pieces = format!("<piecewise><piece><ci>A</ci>{}</piece><otherwise><ci>S</ci></otherwise></piecewise>", polish("(gt k k)"));
    assert_eq!(rule(&pieces), "S0809 x chooses between `mole` and `mole / litre`");
    let delayed = "<apply><csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/delay\"/><ci>A</ci><ci>t</ci></apply>";
    assert_eq!(rule(delayed), "S0809 x delays by `minute`, but time is in `second`");
    let rate = "<apply><csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/rateOf\"/><ci>A</ci></apply>";
    assert_eq!(rule(rate), "S0810 x is in `mole / second`, not `mole`");
}

#[test]
fn every_kind_of_formula_has_its_unit() {
    let s = format!("<math {MATHML}><ci>S</ci></math>");
    let law = |formula: &str, locals: &str| {
        format!(
            "<listOfReactions><reaction id=\"r\" reversible=\"false\"><listOfReactants><speciesReference species=\"S\" stoichiometry=\"1\" \
             constant=\"true\"/></listOfReactants><kineticLaw><math {MATHML}>{formula}</math>{locals}</kineticLaw></reaction></listOfReactions>"
        )
    };
    let event = |delay: &str, assignment: &str| {
        format!(
            "<listOfEvents><event id=\"e\" useValuesFromTriggerTime=\"true\"><trigger initialValue=\"true\" persistent=\"true\">\
             <math {MATHML}>{}</math></trigger><delay><math {MATHML}>{delay}</math></delay><listOfEventAssignments>\
             <eventAssignment variable=\"x\"><math {MATHML}>{assignment}</math></eventAssignment></listOfEventAssignments></event></listOfEvents>",
            polish("(gt S 1)")
        )
    };
    let said = |content: &str| messages(&level_3(content)).join("; ");
    assert_eq!(
        said(&format!("<listOfInitialAssignments><initialAssignment symbol=\"x\">{s}</initialAssignment></listOfInitialAssignments>")),
        "S0810 the initial assignment for `x` is in `mole / litre`, not `mole`"
    );
    assert_eq!(
        said(&format!("<listOfRules><rateRule variable=\"x\">{s}</rateRule></listOfRules>")),
        "S0810 the rate rule for `x` is in `mole / litre`, not `mole / second`"
    );
    assert_eq!(said(&law(&polish("(times c k S)"), "")), "");
    assert_eq!(said(&law(&polish("(times k S)"), "")), "S0810 the rate of reaction `r` is in `mole / litre / second`, not `mole / second`");
    let local = "<listOfLocalParameters><localParameter id=\"q\" value=\"2\" units=\"mole\"/></listOfLocalParameters>";
    assert_eq!(said(&law(&polish("(times k q)"), local)), "");
    assert_eq!(said(&law("<ci>q</ci>", local)), "S0810 the rate of reaction `r` is in `mole`, not `mole / second`");
    assert_eq!(said(&event(&polish("1:second"), &polish("A"))), "");
    assert_eq!(
        said(&event("<ci>t</ci>", "<ci>A</ci>")),
        "S0810 the delay of event `e` is in `minute`, not `second`: they differ by a factor of 60"
    );
    assert_eq!(said(&event("<cn>1</cn>", "<ci>t</ci>")), "S0810 the assignment to `x` of event `e` is in `minute`, not `mole`");
}

#[test]
fn the_compartment_is_suggested_where_it_is_missing() {
    let text = level_3(&format!(
        "<listOfReactions><reaction id=\"r\" reversible=\"false\"><listOfReactants><speciesReference species=\"S\" stoichiometry=\"1\" \
         constant=\"true\"/></listOfReactants><kineticLaw><math {MATHML}>{}</math></kineticLaw></reaction></listOfReactions>",
        polish("(minus (times k S) (times k S))")
    ));
    assert_eq!(checked(&text).items()[0].help, ["multiply by the compartment: c * (k * S - k * S)"]);
}

#[test]
fn functions_are_looked_into() {
    let text = level_3(&format!(
        "<listOfFunctionDefinitions><functionDefinition id=\"f\"><math {MATHML}><lambda><bvar><ci>a</ci></bvar><bvar><ci>b</ci></bvar>{}\
         </lambda></math></functionDefinition></listOfFunctionDefinitions>\
         <listOfRules><assignmentRule variable=\"x\"><math {MATHML}><apply><ci>f</ci><ci>A</ci><ci>t</ci></apply></math></assignmentRule></listOfRules>",
        polish("(plus a b)")
    ));
    assert_eq!(messages(&text), ["S0809 function `f`, called in the assignment rule for `x`, adds `mole` to `minute`"]);
}

/// Every function calls the one before twice.
#[test]
fn functions_that_call_functions_end() {
    let mut functions = String::new();
    for i in 0..60 {
        let call = if i == 0 { "<ci>a</ci>".to_owned() } else { format!("<apply><ci>f{}</ci><ci>a</ci></apply>", i - 1) };
        write!(
            functions,
            "<functionDefinition id=\"f{i}\"><math {MATHML}><lambda><bvar><ci>a</ci></bvar><apply><plus/>{call}{call}</apply></lambda></math></functionDefinition>"
        )
        .unwrap();
    }
    let rule = format!("<math {MATHML}><apply><ci>f59</ci><ci>A</ci></apply></math>");
    let text = level_3(&format!(
        "<listOfFunctionDefinitions>{functions}</listOfFunctionDefinitions><listOfRules><assignmentRule variable=\"x\">{rule}</assignmentRule></listOfRules>"
    ));
    assert_eq!(messages(&text), [""; 0]);
}

#[test]
fn levels_1_and_2_have_units_of_their_own() {
    let level_2 = |units: &str| {
        format!(
            "<sbml xmlns=\"http://www.sbml.org/sbml/level2/version4\" level=\"2\" version=\"4\"><model>{units}\
             <listOfCompartments><compartment id=\"c\" size=\"1\"/></listOfCompartments>\
             <listOfSpecies><species id=\"S\" compartment=\"c\" initialAmount=\"1\"/></listOfSpecies>\
             <listOfParameters><parameter id=\"k\" value=\"1\" units=\"hertz\"/></listOfParameters>\
             <listOfReactions><reaction id=\"r\"><listOfReactants><speciesReference species=\"S\"/></listOfReactants>\
             <kineticLaw><math {MATHML}>{}</math></kineticLaw></reaction></listOfReactions></model></sbml>",
            polish("(times k S c)")
        )
    };
    assert_eq!(messages(&level_2("")), [""; 0]);
    let minutes = "<listOfUnitDefinitions><unitDefinition id=\"time\"><listOfUnits><unit kind=\"second\" multiplier=\"60\"/></listOfUnits></unitDefinition></listOfUnitDefinitions>";
    assert_eq!(
        messages(&level_2(minutes)),
        ["S0810 the rate of reaction `r` is in `hertz mole`, not `mole / minute`: they differ by a factor of 60"]
    );
    let level_1 = "<sbml xmlns=\"http://www.sbml.org/sbml/level1\" level=\"1\" version=\"2\"><model name=\"m\">\
        <listOfCompartments><compartment name=\"c\" volume=\"1\" units=\"liter\"/></listOfCompartments>\
        <listOfSpecies><species name=\"S\" compartment=\"c\" initialAmount=\"1\" units=\"substance\"/></listOfSpecies>\
        <listOfParameters><parameter name=\"p\" units=\"volume\"/></listOfParameters>\
        <listOfRules><parameterRule name=\"p\" formula=\"c + S\"/></listOfRules></model></sbml>";
    assert_eq!(messages(level_1), ["S0809 the assignment rule for `p` adds `liter` to `mole / liter`"]);
}

#[test]
fn names_of_units_are_checked_even_after_other_errors() {
    let text = level_3("<listOfRules><assignmentRule variable=\"nothing\"><math xmlns=\"http://www.w3.org/1998/Math/MathML\"><cn>1</cn></math></assignmentRule></listOfRules>")
        .replace("units=\"minute\"", "units=\"minutes\"")
        .replace("id=\"cubic\"", "id=\"minute\"");
    let said = messages(&text).join("; ");
    for part in
        ["S0104", "S0811 unit `minutes` is not defined", "S0811 unit `cubic` is not defined", "S0119 unit `minute` is defined twice"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let text = level_3("").replace("substanceUnits=\"mole\"", "substanceUnits=\"substance\"");
    let said = checked(&text);
    assert_eq!(said.items()[0].help, ["level 3 has no built-in unit `substance`; define it, or leave the attribute out"]);
}

#[test]
fn algebraic_rules_take_the_variables_that_are_left() {
    let rules = |formulas: &[&str]| {
        let rules: String =
            formulas.iter().map(|f| format!("<algebraicRule><math {MATHML}>{}</math></algebraicRule>", polish(f))).collect();
        let parameters = "<parameter id=\"y\" constant=\"false\"/><parameter id=\"z\" constant=\"false\"/></listOfParameters>";
        let text = level_3(&format!("<listOfRules>{rules}</listOfRules>")).replacen("</listOfParameters>", parameters, 1);
        let model = sbml::read(&Source::new("model.xml", text), &mut Diagnostics::new()).unwrap();
        sbml::determined_by_algebraic_rules(&model).into_iter().map(Option::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(rules(&["(minus x y)"]), ["y"], "what has no value comes first");
    assert_eq!(rules(&["(minus z y)", "(plus z 1)"]), ["y", "z"]);
    assert_eq!(rules(&["(minus x S)"]), ["x"], "then the order in the formula");
}

/// Valid models are not called wrong. Their warnings are counted, for a look at what people would see.
#[test]
fn models_of_the_suites_have_no_errors() {
    let Some(suites) = shared("suites") else { return };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut models = 0;
    for suite in ["sbml", "biomodels", "biomodels-import-only"] {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(suites.join(suite)).into_iter().flatten().map(|e| e.unwrap().path()).collect();
        folders.sort();
        for file in folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().map(|e| e.unwrap().path()) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            if file.extension().is_none_or(|e| e != "xml") {
                continue;
            }
            models += 1;
            for d in checked_file(&file.display().to_string(), &text).items() {
                *counts.entry(d.code).or_default() += 1;
                // Packages that are not supported are another matter.
                if d.severity == Severity::Error && !d.code.starts_with("S09") {
                    wrong.push(format!("{}: {} {}", file.display(), d.code, d.message));
                }
            }
        }
    }
    println!("{models} models: {counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
