//! Reading SBML: small models for each construct, each error with its place, and the staged collections of models.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod formula_text;
mod reference_data;
use formula_text::show;
use mixode::diag::{Diagnostics, Severity, Source};
use mixode::expr::{Ast, AstKind, Binary, Unary};
use mixode::sbml::{self, Model};
use reference_data::shared;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

fn read(text: &str) -> (Option<Model>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let model = sbml::read(&Source::new("model.xml", text), &mut diagnostics);
    assert_eq!(model.is_none(), diagnostics.has_errors(), "{:#?}", diagnostics.items());
    (model, diagnostics)
}

/// A document of level 3 version 2 with this content of the model.
fn level_3(content: &str) -> String {
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" level=\"3\" version=\"2\">\n<model id=\"m\">\n{content}\n</model></sbml>"
    )
}

/// A document of level 2 version 4 with this content of the model.
fn level_2(content: &str) -> String {
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level2/version4\" level=\"2\" version=\"4\">\n<model id=\"m\">\n{content}\n</model></sbml>"
    )
}

/// A document of level 1 version 2 with this content of the model.
fn level_1(content: &str) -> String {
    format!("<sbml xmlns=\"http://www.sbml.org/sbml/level1\" level=\"1\" version=\"2\">\n<model name=\"m\">\n{content}\n</model></sbml>")
}

fn math(content: &str) -> String {
    format!("<math xmlns=\"http://www.w3.org/1998/Math/MathML\">{content}</math>")
}

/// Three variables x, y, z, a compartment c, species S1 and S2, and this content besides.
const VARIABLES: &str = r#"<listOfCompartments><compartment id="c" size="2" constant="true"/></listOfCompartments>
<listOfSpecies>
<species id="S1" compartment="c" initialAmount="3" hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/>
<species id="S2" compartment="c" initialConcentration="4" hasOnlySubstanceUnits="true" boundaryCondition="false" constant="false"/>
</listOfSpecies>
<listOfParameters>
<parameter id="x" value="1" constant="false"/><parameter id="y" constant="false"/><parameter id="k" value="5" constant="true"/>
</listOfParameters>
"#;

fn with_variables(content: &str) -> String {
    level_3(&format!("{VARIABLES}{content}"))
}

/// A model in which x follows a formula.
fn rule(formula: &str) -> String {
    with_variables(&format!("<listOfRules><assignmentRule variable=\"x\">{}</assignmentRule></listOfRules>", math(formula)))
}

fn accepted(text: &str) -> Model {
    let (model, diagnostics) = read(text);
    assert!(diagnostics.items().is_empty(), "{:#?}", diagnostics.items());
    model.unwrap()
}

/// The formula as [`show`] prints it.
fn formula(mathml: &str) -> String {
    show(&accepted(&rule(mathml)).assignment_rules[0].formula)
}

/// All diagnostics as "code marked-text".
fn complaints(text: &str) -> Vec<String> {
    let (_, diagnostics) = read(text);
    diagnostics.items().iter().map(|d| format!("{} {}", d.code, d.span.as_ref().unwrap().text())).collect()
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructs

#[test]
fn a_model_of_level_3_is_read() {
    let text = with_variables(&format!(
        r#"<listOfInitialAssignments><initialAssignment symbol="y">{initial}</initialAssignment></listOfInitialAssignments>
<listOfRules><rateRule variable="y">{rate}</rateRule></listOfRules>
<listOfReactions><reaction id="r" reversible="true">
<listOfReactants><speciesReference id="ref" species="S1" stoichiometry="2" constant="true"/></listOfReactants>
<listOfProducts><speciesReference species="S2" stoichiometry="0.5" constant="true"/></listOfProducts>
<listOfModifiers><modifierSpeciesReference species="S2"/></listOfModifiers>
<kineticLaw>{law}<listOfLocalParameters><localParameter id="k" value="7"/></listOfLocalParameters></kineticLaw>
</reaction></listOfReactions>"#,
        initial = math("<cn> 3 </cn>"),
        rate = math("<ci>ref</ci>"),
        law = math("<apply><times/><ci> k </ci><ci>S1</ci><ci>c</ci></apply>"),
    ));
    let model = accepted(&text);
    assert_eq!((model.level_version, model.id.as_str()), ((3, 2), "m"));
    let c = &model.compartments[0];
    assert_eq!((c.id.as_str(), c.size, c.dimensions, c.constant), ("c", Some(2.0), 3.0, true));
    let [s1, s2] = model.species.as_slice() else { panic!() };
    assert_eq!((s1.initial_amount, s1.initial_concentration, s1.only_substance_units), (Some(3.0), None, false));
    assert_eq!((s2.initial_amount, s2.initial_concentration, s2.only_substance_units), (None, Some(4.0), true));
    assert_eq!((s1.compartment.as_str(), s1.boundary, s1.constant, s1.span.text()), ("c", false, false, "S1"));
    assert_eq!((model.parameters[1].value, model.parameters[1].constant, model.parameters[2].constant), (None, false, true));
    assert_eq!((model.initial_assignments[0].variable.as_str(), show(&model.initial_assignments[0].formula)), ("y", "3".to_owned()));
    assert_eq!((model.rate_rules[0].span.text(), show(&model.rate_rules[0].formula)), ("y", "ref".to_owned()));
    let r = &model.reactions[0];
    assert_eq!(
        (r.reactants[0].species.as_str(), r.reactants[0].stoichiometry, r.reactants[0].id.as_deref()),
        ("S1", Some(2.0), Some("ref"))
    );
    assert_eq!((r.products[0].species.as_str(), r.products[0].stoichiometry, r.products[0].span.text()), ("S2", Some(0.5), "S2"));
    assert_eq!((r.local_parameters[0].id.as_str(), r.local_parameters[0].value), ("k", Some(7.0)));
    assert_eq!(show(r.rate.as_ref().unwrap()), "Mul(Mul(k, S1), c)");
}

#[test]
fn ranges_in_formulas_are_places_in_the_file() {
    let text = rule("<apply><plus/><ci> k </ci><cn> 1 </cn></apply>");
    let model = accepted(&text);
    let AstKind::Binary(_, k, one) = &model.assignment_rules[0].formula.kind else { panic!() };
    assert_eq!((&text[k.range.clone()], &text[one.range.clone()]), ("k", "<cn> 1 </cn>"));
}

#[test]
fn level_2_fills_in_its_defaults() {
    let model = accepted(&level_2(
        r#"<listOfCompartments><compartment id="c"/></listOfCompartments>
<listOfSpecies><species id="S" compartment="c"/></listOfSpecies>
<listOfParameters><parameter id="p"/></listOfParameters>
<listOfReactions><reaction id="r"><listOfProducts><speciesReference species="S"/></listOfProducts></reaction></listOfReactions>"#,
    ));
    let (c, s, p) = (&model.compartments[0], &model.species[0], &model.parameters[0]);
    assert_eq!((c.size, c.dimensions, c.constant), (None, 3.0, true));
    assert_eq!((s.initial_amount, s.initial_concentration), (None, None));
    assert_eq!((s.only_substance_units, s.boundary, s.constant), (false, false, false));
    assert_eq!((p.value, p.constant), (None, true));
    assert_eq!(model.reactions[0].products[0].stoichiometry, Some(1.0));
    assert!(model.reactions[0].rate.is_none());
}

#[test]
fn the_stoichiometry_math_of_level_2_is_read() {
    let model = accepted(&level_2(&format!(
        r#"<listOfCompartments><compartment id="c"/></listOfCompartments><listOfSpecies><species id="S" compartment="c"/></listOfSpecies>
<listOfParameters><parameter id="p"/></listOfParameters><listOfReactions><reaction id="r"><listOfProducts><speciesReference species="S">
<stoichiometryMath>{}</stoichiometryMath></speciesReference></listOfProducts></reaction></listOfReactions>"#,
        math("<apply><times/><cn>2</cn><ci>p</ci></apply>")
    )));
    let product = &model.reactions[0].products[0];
    assert_eq!((product.stoichiometry, product.stoichiometry_math.as_ref().map(show)), (None, Some("Mul(2, p)".to_owned())));
    assert!(product.constant);
}

#[test]
fn level_1_is_read() {
    let model = accepted(&level_1(
        r#"<listOfCompartments><compartment name="c"/><compartment name="d" volume="3"/></listOfCompartments>
<listOfSpecies><species name="S" compartment="c" initialAmount="2" boundaryCondition="true"/></listOfSpecies>
<listOfParameters><parameter name="p" value="1"/><parameter name="q"/></listOfParameters>
<listOfRules><parameterRule name="q" formula="2 * p"/><compartmentVolumeRule compartment="d" type="rate" formula="-p^2 - sqr(p)/ 1.5e-1"/></listOfRules>
<listOfReactions><reaction name="r"><listOfReactants><speciesReference species="S" stoichiometry="3" denominator="2"/></listOfReactants>
<kineticLaw formula="k * pow(S, 2) * log(c)"><listOfParameters><parameter name="k" value="4"/></listOfParameters></kineticLaw></reaction></listOfReactions>"#,
    ));
    assert_eq!((model.level_version, model.id.as_str()), ((1, 2), "m"));
    assert_eq!((model.compartments[0].size, model.compartments[0].constant), (Some(1.0), true));
    assert_eq!((model.compartments[1].size, model.compartments[1].constant), (Some(3.0), false));
    assert_eq!((model.species[0].initial_amount, model.species[0].boundary), (Some(2.0), true));
    assert_eq!((model.parameters[0].constant, model.parameters[1].constant), (true, false));
    assert_eq!(show(&model.assignment_rules[0].formula), "Mul(2, p)");
    // Negation binds more tightly than the power.
    assert_eq!(show(&model.rate_rules[0].formula), "Sub(Pow(Neg(p), 2), Div(Pow(p, 2), 0.15))");
    let r = &model.reactions[0];
    assert_eq!(r.reactants[0].stoichiometry, Some(1.5));
    let rate = r.rate.as_ref().unwrap();
    assert_eq!(show(rate), "Mul(Mul(k, Pow(S, 2)), Ln(c))");
    assert_eq!(&model.source.text()[rate.range.clone()], "k * pow(S, 2) * log(c)");
    assert_eq!(r.local_parameters[0].value, Some(4.0));
}

#[test]
fn version_1_of_level_1_spells_species_without_s() {
    let text = r#"<sbml xmlns="http://www.sbml.org/sbml/level1" level="1" version="1"><model>
<listOfCompartments><compartment name="c"/></listOfCompartments><listOfSpecies><specie name="S" compartment="c" initialAmount="1"/></listOfSpecies>
<listOfReactions><reaction name="r"><listOfProducts><specieReference specie="S"/></listOfProducts><kineticLaw formula="1"/></reaction></listOfReactions></model></sbml>"#;
    assert_eq!(accepted(text).reactions[0].products[0].species, "S");
    assert!(complaints(&text.replace("specie=\"S\"", "specie=\"T\"")).contains(&"S0103 T".to_owned()));
}

#[test]
fn numbers_of_all_types_are_read() {
    let check = |cn: &str, expected: f64| {
        let shown = formula(cn);
        assert_eq!(shown.parse::<f64>().unwrap(), expected, "{cn}");
    };
    check("<cn>1.5</cn>", 1.5);
    check("<cn>\n  -2e3 </cn>", -2000.0);
    check("<cn type=\"real\"> .5 </cn>", 0.5);
    check("<cn type=\"integer\"> -7 </cn>", -7.0);
    // The same double as the literal, not mantissa times power.
    check("<cn type=\"e-notation\"> 6.02214179 <sep/> 23 </cn>", 6.02214179e23);
    check("<cn type=\"e-notation\">1<sep/> -3 </cn>", 1e-3);
    check("<cn type=\"rational\"> 1 <sep/> 3 </cn>", 1.0 / 3.0);
    check("<cn xmlns:s=\"http://www.sbml.org/sbml/level3/version2/core\" s:units=\"dimensionless\">4</cn>", 4.0);
    check("<true/>", 1.0);
    check("<false/>", 0.0);
    check("<pi/>", std::f64::consts::PI);
    check("<exponentiale/>", std::f64::consts::E);
    check("<infinity/>", f64::INFINITY);
    assert_eq!(formula("<notanumber/>"), "NaN");
}

#[test]
fn symbols_of_sbml_are_read() {
    let symbol =
        |name: &str| format!("<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/{name}\"> any </csymbol>");
    assert_eq!(formula(&symbol("time")), "time");
    assert_eq!(formula(&symbol("avogadro")).parse::<f64>().unwrap(), 6.02214179e23);
    assert_eq!(formula(&format!("<apply>{}<ci>S1</ci></apply>", symbol("rateOf"))), "rateOf(S1)");
    assert_eq!(formula(&format!("<apply>{}<ci>y</ci><cn>2</cn></apply>", symbol("delay"))), "delay(y, 2)");
}

#[test]
fn operators_become_chains() {
    let apply = |content: &str| formula(&format!("<apply>{content}</apply>"));
    // No argument: level 3 version 2, section 3.4.
    for (name, empty) in [("plus", "0"), ("times", "1")] {
        assert_eq!(apply(&format!("<{name}/>")), empty);
        assert_eq!(apply(&format!("<{name}/><ci>k</ci>")), "k");
    }
    for (name, op, empty) in [("and", "And", 1), ("or", "Or", 0), ("xor", "Xor", 0)] {
        assert_eq!(apply(&format!("<{name}/>")), empty.to_string());
        assert_eq!(apply(&format!("<{name}/><ci>k</ci>")), format!("{op}({empty}, k)"));
        assert_eq!(apply(&format!("<{name}/><ci>k</ci><ci>y</ci><ci>c</ci>")), format!("{op}({op}(k, y), c)"));
    }
    assert_eq!(apply("<plus/><ci>k</ci><ci>y</ci><ci>c</ci>"), "Add(Add(k, y), c)");
    assert_eq!(apply("<max/><ci>k</ci>"), "k");
    assert_eq!(apply("<max/><ci>k</ci><ci>y</ci><ci>c</ci>"), "Max(Max(k, y), c)");
    assert_eq!(apply("<min/><ci>k</ci><ci>y</ci>"), "Min(k, y)");
    assert_eq!(apply("<minus/><ci>k</ci>"), "Neg(k)");
    assert_eq!(apply("<minus/><ci>k</ci><ci>y</ci>"), "Sub(k, y)");
    assert_eq!(apply("<lt/><ci>k</ci><ci>y</ci>"), "Lt(k, y)");
    assert_eq!(apply("<leq/><ci>k</ci><ci>y</ci><ci>c</ci>"), "And(Le(k, y), Le(y, c))");
    assert_eq!(apply("<eq/><cn>1</cn><ci>y</ci><ci>c</ci><ci>k</ci>"), "And(And(Eq(1, y), Eq(y, c)), Eq(c, k))");
    assert_eq!(apply("<neq/><ci>k</ci><ci>y</ci>"), "Ne(k, y)");
    assert_eq!(apply("<implies/><ci>k</ci><ci>y</ci>"), "Or(Not(k), y)");
    assert_eq!(apply("<quotient/><ci>k</ci><ci>y</ci>"), "Quotient(k, y)");
    assert_eq!(apply("<rem/><ci>k</ci><ci>y</ci>"), "Rem(k, y)");
    assert_eq!(apply("<divide/><ci>k</ci><ci>y</ci>"), "Div(k, y)");
    assert_eq!(apply("<power/><ci>k</ci><ci>y</ci>"), "Pow(k, y)");
}

#[test]
fn functions_with_qualifiers_are_read() {
    let apply = |content: &str| formula(&format!("<apply>{content}</apply>"));
    assert_eq!(apply("<root/><ci>k</ci>"), "Sqrt(k)");
    assert_eq!(apply("<root/><degree><cn type=\"integer\">2</cn></degree><ci>k</ci>"), "Sqrt(k)");
    assert_eq!(apply("<root/><degree><ci>y</ci></degree><ci>k</ci>"), "Pow(k, Div(1, y))");
    assert_eq!(apply("<log/><ci>k</ci>"), "Log10(k)");
    assert_eq!(apply("<log/><logbase><cn>10</cn></logbase><ci>k</ci>"), "Log10(k)");
    assert_eq!(apply("<log/><logbase><cn>2</cn></logbase><ci>k</ci>"), "Log2(k)");
    assert_eq!(apply("<log/><logbase><ci>y</ci></logbase><ci>k</ci>"), "Div(Ln(k), Ln(y))");
}

#[test]
fn elementary_functions_are_read() {
    let names = "not:Not abs:Abs floor:Floor ceiling:Ceil factorial:Factorial exp:Exp ln:Ln \
        sin:Sin cos:Cos tan:Tan sec:Sec csc:Csc cot:Cot arcsin:Asin arccos:Acos arctan:Atan arcsec:Asec arccsc:Acsc arccot:Acot \
        sinh:Sinh cosh:Cosh tanh:Tanh sech:Sech csch:Csch coth:Coth \
        arcsinh:Asinh arccosh:Acosh arctanh:Atanh arcsech:Asech arccsch:Acsch arccoth:Acoth";
    for (name, op) in names.split_whitespace().map(|pair| pair.split_once(':').unwrap()) {
        assert_eq!(formula(&format!("<apply><{name}/><ci>k</ci></apply>")), format!("{op}(k)"));
    }
}

#[test]
fn piecewise_and_wrappers_are_read() {
    let condition = "<apply><gt/><ci>k</ci><cn>1</cn></apply>";
    assert_eq!(formula(&format!("<piecewise><piece><cn>2</cn>{condition}</piece></piecewise>")), "piecewise(2 if Gt(k, 1))");
    assert_eq!(
        formula(&format!("<piecewise><piece><cn>2</cn>{condition}</piece><otherwise><ci>y</ci></otherwise></piecewise>")),
        "piecewise(2 if Gt(k, 1), y)"
    );
    assert_eq!(formula("<piecewise><otherwise><ci>y</ci></otherwise></piecewise>"), "piecewise(y)");
    assert_eq!(formula("<semantics><ci>k</ci><annotation>k</annotation></semantics>"), "k");
    assert_eq!(formula("<!-- half --><apply><!-- of --><divide/><ci>k</ci><cn>2</cn></apply>"), "Div(k, 2)");
    assert_eq!(formula("<apply><apply><divide/><ci>k</ci><cn>2</cn></apply></apply>"), "Div(k, 2)");
}

#[test]
fn functions_are_defined_and_called() {
    let lambda = |body: &str| math(&format!("<lambda><bvar><ci>a</ci></bvar><bvar><ci> b </ci></bvar>{body}</lambda>"));
    let text = with_variables(&format!(
        r#"<listOfFunctionDefinitions><functionDefinition id="g">{}</functionDefinition><functionDefinition id="f">{}</functionDefinition>
<functionDefinition id="one">{}</functionDefinition></listOfFunctionDefinitions>
<listOfRules><assignmentRule variable="x">{}</assignmentRule></listOfRules>"#,
        lambda("<apply><ci>f</ci><ci>b</ci><ci>a</ci></apply>"),
        lambda("<apply><minus/><ci>a</ci><ci>b</ci></apply>"),
        math("<semantics><lambda><cn>1</cn></lambda></semantics>"),
        math("<apply><ci> g </ci><ci>k</ci><apply><ci>one</ci></apply></apply>"),
    ));
    let model = accepted(&text);
    assert_eq!(model.functions[0].arguments, ["a", "b"]);
    assert_eq!((model.functions[0].id.as_str(), show(&model.functions[0].body)), ("g", "f(b, a)".to_owned()));
    assert_eq!(show(&model.functions[1].body), "Sub(a, b)");
    assert_eq!(show(&model.assignment_rules[0].formula), "g(k, one())");
}

#[test]
fn what_has_no_formula_is_ignored() {
    let text = with_variables(
        r#"<listOfFunctionDefinitions><functionDefinition id="f"/></listOfFunctionDefinitions>
<listOfInitialAssignments><initialAssignment symbol="x"/></listOfInitialAssignments>
<listOfRules><assignmentRule variable="x"/><rateRule variable="x"/></listOfRules>
<listOfReactions><reaction id="r" reversible="true"><listOfProducts><speciesReference id="ref" species="S1" stoichiometry="1" constant="false"/></listOfProducts>
<kineticLaw/></reaction></listOfReactions>"#,
    );
    let (model, diagnostics) = read(&text);
    let model = model.unwrap();
    assert!(model.functions.is_empty() && model.initial_assignments.is_empty() && model.assignment_rules.is_empty());
    assert!(model.rate_rules.is_empty() && model.reactions[0].rate.is_none());
    assert_eq!(diagnostics.items().iter().map(|d| d.code).collect::<Vec<_>>(), ["S0804"; 5]);
}

#[test]
fn local_parameters_shadow_every_global_name() {
    let reaction = |local: &str| {
        with_variables(&format!(
            r#"<listOfReactions><reaction id="r" reversible="true"><listOfProducts><speciesReference id="ref" species="S1" stoichiometry="1" constant="true"/></listOfProducts>
<kineticLaw>{}<listOfLocalParameters><localParameter id="{local}" value="1"/></listOfLocalParameters></kineticLaw></reaction></listOfReactions>"#,
            math(&format!("<ci>{local}</ci>"))
        ))
    };
    for name in ["r", "ref", "S1", "k", "new"] {
        assert_eq!(accepted(&reaction(name)).reactions[0].local_parameters[0].id, name);
    }
}

#[test]
fn a_long_sum_makes_a_shallow_tree() {
    let terms = "<ci>k</ci>".repeat(50_000);
    let model = accepted(&rule(&format!("<apply><plus/>{terms}</apply>")));
    let mut names = 0;
    model.assignment_rules[0].formula.walk(&mut |node| names += usize::from(matches!(node.kind, AstKind::Name(_))));
    assert_eq!(names, 50_000);
}

#[test]
fn events_are_read() {
    let event =
        |content: &str| format!("<listOfEvents><event id=\"e\" useValuesFromTriggerTime=\"false\">{content}</event></listOfEvents>");
    let trigger =
        format!("<trigger initialValue=\"false\" persistent=\"true\">{}</trigger>", math("<apply><gt/><ci>S1</ci><cn>1</cn></apply>"));
    let rest = format!(
        "<delay>{}</delay><priority>{}</priority><listOfEventAssignments><eventAssignment variable=\"x\">{}</eventAssignment>\
         <eventAssignment variable=\"S1\">{}</eventAssignment></listOfEventAssignments>",
        math("<cn>2</cn>"),
        math("<ci>k</ci>"),
        math("<ci>y</ci>"),
        math("<cn>0</cn>")
    );
    let model = accepted(&with_variables(&event(&format!("{trigger}{rest}"))));
    let e = &model.events[0];
    assert_eq!((e.id.as_deref(), e.span.text(), show(&e.trigger)), (Some("e"), "e", "Gt(S1, 1)".to_owned()));
    assert_eq!((e.initial_value, e.persistent, e.values_from_trigger_time), (false, true, false));
    assert_eq!((e.delay.as_ref().map(show), e.priority.as_ref().map(show)), (Some("2".to_owned()), Some("k".to_owned())));
    let assignments: Vec<_> = e.assignments.iter().map(|a| (a.variable.as_str(), show(&a.formula), a.span.text())).collect();
    assert_eq!(assignments, [("x", "y".to_owned(), "x"), ("S1", "0".to_owned(), "S1")]);

    // Without a condition an event never happens (level 3 version 2), but mistakes in it count.
    assert!(accepted(&with_variables(&event(""))).events.is_empty());
    assert_eq!(complaints(&with_variables(&event(&rest.replace("\"S1\"", "\"S3\"")))), ["S0104 S3"]);

    // An event is known by its tag where it has no id, and level 2 has no attributes at the trigger.
    let text = level_2(&format!("<listOfEvents><event><trigger>{}</trigger></event></listOfEvents>", math("<true/>")));
    let e = &accepted(&text).events[0];
    assert_eq!((e.id.as_deref(), e.span.text(), e.initial_value, e.persistent), (None, "event", true, true));
    assert!(e.values_from_trigger_time && e.delay.is_none() && e.priority.is_none() && e.assignments.is_empty());
}

#[test]
fn algebraic_rules_and_constraints_are_read() {
    let model = accepted(&with_variables(&format!(
        "<listOfRules><algebraicRule>{}</algebraicRule></listOfRules><listOfConstraints><constraint>{}\
         <message><p xmlns=\"http://www.w3.org/1999/xhtml\">too\n <b>much</b></p></message></constraint></listOfConstraints>",
        math("<apply><minus/><ci>x</ci><ci>y</ci></apply>"),
        math("<apply><lt/><ci>x</ci><cn>1</cn></apply>")
    )));
    assert_eq!((show(&model.algebraic_rules[0].formula), model.algebraic_rules[0].span.text()), ("Sub(x, y)".to_owned(), "algebraicRule"));
    let constraint = &model.constraints[0];
    assert_eq!((show(&constraint.condition).as_str(), constraint.message.as_str()), ("Lt(x, 1)", "too much"));
}

#[test]
fn fast_reactions_and_conversion_factors_are_read() {
    let model = accepted(&with_variables("<listOfReactions><reaction id=\"quick\" fast=\"true\"/><reaction id=\"r\"/></listOfReactions>"));
    assert_eq!(model.reactions.iter().map(|r| r.fast).collect::<Vec<_>>(), [true, false]);
    let text = with_variables("").replace("<model id=\"m\"", "<model id=\"m\" conversionFactor=\"k\"");
    assert_eq!(accepted(&text).conversion_factor.as_deref(), Some("k"));
    let model = accepted(&with_variables("").replace("id=\"S1\"", "id=\"S1\" conversionFactor=\"k\""));
    assert_eq!(model.species.iter().map(|s| s.conversion_factor.as_deref()).collect::<Vec<_>>(), [Some("k"), None]);
}

#[test]
fn stoichiometries_may_be_variables() {
    let reaction = r#"<listOfReactions><reaction id="r"><listOfProducts><speciesReference id="n" species="S1" constant="false"/></listOfProducts></reaction></listOfReactions>"#;
    let one = math("<cn>1</cn>");
    let rule = format!("<listOfRules><rateRule variable=\"n\">{one}</rateRule></listOfRules>");
    let model = accepted(&with_variables(&format!("{rule}{reaction}")));
    let product = &model.reactions[0].products[0];
    assert_eq!((product.id.as_deref(), product.stoichiometry, product.constant), (Some("n"), None, false));
    // Without any assignment a missing stoichiometry is 1.
    assert_eq!(complaints(&with_variables(reaction)), ["S0805 S1"]);
}

#[test]
fn optional_packages_are_ignored_with_a_note() {
    let package = |required: &str, content: &str| {
        let head = format!(
            "xmlns:qual=\"http://www.sbml.org/sbml/level3/version1/qual/version1\" qual:required=\"{required}\" \
             xmlns=\"http://www.sbml.org/sbml/level3/version2/core\""
        );
        level_3(content).replace("xmlns=\"http://www.sbml.org/sbml/level3/version2/core\"", &head)
    };
    let used = "<qual:listOfTransitions/>";
    assert_eq!(complaints(&package("false", used)), ["S0802 qual:required=\"false\""]);
    assert_eq!(complaints(&package("true", "")), ["S0802 qual:required=\"true\""]);
    assert_eq!(complaints(&package("true", used)), ["S0905 qual:required=\"true\""]);
    let (model, diagnostics) = read(&package("false", used));
    assert!(model.is_some() && diagnostics.items()[0].severity == Severity::Note);
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors

#[test]
fn errors_of_the_document_have_their_place() {
    assert_eq!(complaints("<sbml>\n<model></modle></sbml>"), ["S0001 <"]);
    let (_, diagnostics) = read("<sbml>\n  <model></modle></sbml>");
    assert_eq!(diagnostics.items()[0].span.as_ref().unwrap().position(), "model.xml:2:10");
    assert_eq!(complaints("<sbml><model>"), ["S0001 "]);
    assert_eq!(complaints(""), ["S0001 "]);
    assert_eq!(complaints("<!DOCTYPE a [<!ENTITY b \"c\">]><sbml/>"), ["S0001 <"]);
    assert_eq!(complaints("<html/>"), ["S0002 html"]);
    assert_eq!(complaints("<sbml level=\"3\" version=\"2\"/>"), ["S0002 sbml"]);
    assert_eq!(complaints(&level_3("").replace("version=\"2\"", "version=\"3\"")), ["S0003 3"]);
    assert_eq!(complaints(&level_3("").replace("version=\"2\"", "version=\"1\"")), ["S0004 sbml"]);
    assert_eq!(complaints(&level_3("").replace("level=\"3\"", "")), ["S0007 sbml"]);
    assert_eq!(complaints("<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" level=\"3\" version=\"2\"/>"), ["S0005 sbml"]);
}

#[test]
fn errors_of_elements_and_attributes_have_their_place() {
    assert_eq!(complaints(&level_3("<listOfSpecie/>")), ["S0006 listOfSpecie"]);
    assert_eq!(complaints(&level_3("<listOfParameters><parametr id=\"a\"/></listOfParameters>"))[0], "S0006 parametr");
    let parameter = |attributes: &str| complaints(&level_3(&format!("<listOfParameters><parameter {attributes}/></listOfParameters>")));
    assert_eq!(parameter("id='a' constant='true' valeu='1'"), ["S0803 valeu"]);
    assert_eq!(parameter("id='a' value='1'"), ["S0007 parameter"]);
    assert_eq!(parameter("value='1' constant='true'"), ["S0007 parameter"]);
    assert_eq!(parameter("id='1a' constant='true'"), ["S0008 1a"]);
    assert_eq!(parameter("id='a' constant='true' value='1,5'"), ["S0009 1,5"]);
    assert_eq!(parameter("id='a' constant='true' value='nan'"), ["S0009 nan"]);
    assert_eq!(parameter("id='a' constant='true' value=''"), ["S0009 "]);
    assert_eq!(parameter("id='a' constant='True'"), ["S0010 True"]);
    assert!(parameter("id='a' constant='true' value=' INF '").is_empty());
    let two = rule("<cn>1</cn>").replace("</math>", "</math><math xmlns=\"http://www.w3.org/1998/Math/MathML\"><cn>1</cn></math>");
    assert_eq!(complaints(&two), ["S0011 math"]);
    let no_namespace = rule("<cn>1</cn>").replace(" xmlns=\"http://www.w3.org/1998/Math/MathML\"", "");
    assert_eq!(complaints(&no_namespace)[0], "S0006 math");
    // Level 3 version 2 does without a trigger.
    assert_eq!(complaints(&level_2("<listOfEvents><event id=\"e\"/></listOfEvents>")), ["S0012 event"]);
    assert!(complaints(&level_3("<listOfEvents><event id=\"e\" useValuesFromTriggerTime=\"true\"/></listOfEvents>")).is_empty());
    let trigger =
        format!("<listOfEvents><event useValuesFromTriggerTime=\"true\"><trigger>{}</trigger></event></listOfEvents>", math("<true/>"));
    assert_eq!(complaints(&level_3(&trigger)), ["S0007 trigger", "S0007 trigger"]);
}

#[test]
fn errors_of_references_have_their_place() {
    let c = |content: &str| complaints(&with_variables(content));
    assert_eq!(complaints(&with_variables("").replace("\"S2\"", "\"S1\"")), ["S0101 S1"]);
    assert_eq!(complaints(&with_variables("").replace("compartment=\"c\" initialA", "compartment=\"d\" initialA")), ["S0102 d"]);
    assert_eq!(
        complaints(&with_variables("").replace("initialAmount=\"3\"", "initialAmount=\"3\" initialConcentration=\"1.5\"")),
        ["S0109 1.5"]
    );
    let reaction =
        |content: &str| format!("<listOfReactions><reaction id=\"r\" reversible=\"true\">{content}</reaction></listOfReactions>");
    let product = |name: &str| {
        format!("<listOfProducts><speciesReference species=\"{name}\" stoichiometry=\"1\" constant=\"true\"/></listOfProducts>")
    };
    assert_eq!(c(&reaction(&product("S3"))), ["S0103 S3"]);
    assert_eq!(c(&reaction(&product("k"))), ["S0103 k"]);
    assert_eq!(c(&reaction("<listOfModifiers><modifierSpeciesReference species=\"S4\"/></listOfModifiers>")), ["S0103 S4"]);
    let one = math("<cn>1</cn>");
    let rule = |variable: &str| format!("<listOfRules><rateRule variable=\"{variable}\">{one}</rateRule></listOfRules>");
    let initial = |variable: &str| {
        format!("<listOfInitialAssignments><initialAssignment symbol=\"{variable}\">{one}</initialAssignment></listOfInitialAssignments>")
    };
    let assign = |variable: &str| rule(variable).replace("rateRule", "assignmentRule");
    assert_eq!(c(&rule("xx")), ["S0104 xx"]);
    assert_eq!(c(&initial("nothing")), ["S0104 nothing"]);
    assert_eq!(c(&format!("{}{}", rule("r"), reaction(""))), ["S0104 r"]);
    assert_eq!(c(&(rule("x") + &assign("x"))), ["S0105 x"]);
    assert_eq!(c(&(initial("x") + &assign("x"))), ["S0105 x"]);
    assert_eq!(c(&(initial("x") + &initial("x"))), ["S0105 x"]);
    assert!(c(&(initial("x") + &rule("x"))).is_empty());
    assert_eq!(c(&rule("k")), ["S0106 k"]);
    assert!(c(&initial("k")).is_empty());
    assert_eq!(c(&(rule("S1") + &reaction(&product("S1")))), ["S0107 S1"]);
    let constant = with_variables(&reaction(&product("S1"))).replacen("constant=\"false\"", "constant=\"true\"", 1);
    assert_eq!(complaints(&constant), ["S0107 S1"]);
    let law = |local: &str| {
        reaction(&format!("<kineticLaw>{one}<listOfLocalParameters>{}</listOfLocalParameters></kineticLaw>", local.repeat(2)))
    };
    assert_eq!(c(&law("<localParameter id=\"k1\"/>")), ["S0101 k1"]);
}

#[test]
fn errors_of_events_and_conversion_factors_have_their_place() {
    let c = |content: &str| complaints(&with_variables(content));
    let one = math("<cn>1</cn>");
    let event = |variables: &[&str]| {
        let assignments: String = variables.iter().map(|v| format!("<eventAssignment variable=\"{v}\">{one}</eventAssignment>")).collect();
        format!(
            "<listOfEvents><event id=\"e\" useValuesFromTriggerTime=\"true\"><trigger initialValue=\"true\" persistent=\"true\">{one}</trigger>\
             <listOfEventAssignments>{assignments}</listOfEventAssignments></event></listOfEvents>"
        )
    };
    let rule = format!("<listOfRules><assignmentRule variable=\"x\">{one}</assignmentRule></listOfRules>");
    assert!(c(&event(&["x", "y"])).is_empty());
    assert_eq!(c(&event(&["k"])), ["S0106 k"]);
    assert_eq!(c(&event(&["nothing"])), ["S0104 nothing"]);
    assert_eq!(c(&format!("{rule}{}", event(&["x"]))), ["S0113 x"]);
    assert!(c(&format!("{}{}", rule.replace("assignmentRule", "rateRule"), event(&["x"]))).is_empty());
    assert_eq!(c(&event(&["x", "y", "x"])), ["S0114 x"]);
    let (_, diagnostics) = read(&with_variables(&event(&["x"]).replacen(&one, &math("<ci>S3</ci>"), 1)));
    assert_eq!(diagnostics.items()[0].message, "the trigger of event `e` uses an undefined symbol `S3`");

    let factor = |name: &str| complaints(&with_variables("").replace("id=\"S1\"", &format!("id=\"S1\" conversionFactor=\"{name}\"")));
    assert_eq!(factor("x"), ["S0115 x"]);
    assert_eq!(factor("c"), ["S0115 c"]);
    assert_eq!(factor("kk"), ["S0115 kk"]);
    assert_eq!(complaints(&with_variables("").replace("<model id=\"m\"", "<model id=\"m\" conversionFactor=\"S2\"")), ["S0115 S2"]);
}

#[test]
fn errors_of_names_in_formulas_have_their_place() {
    assert_eq!(complaints(&rule("<apply><plus/><ci> kk </ci><ci>zzz</ci><ci>zzz</ci></apply>")), ["S0110 kk", "S0110 zzz"]);
    let (_, diagnostics) = read(&rule("<ci>S11</ci>"));
    let found = &diagnostics.items()[0];
    assert_eq!(found.message, "the assignment rule for `x` uses an undefined symbol `S11`");
    assert_eq!(found.help, ["did you mean `S1`?"]);
    assert_eq!(found.span.as_ref().unwrap().position(), "model.xml:11:96");
    assert_eq!(complaints(&rule("<apply><ci>ff</ci></apply>")), ["S0112 <apply><ci>ff</ci></apply>"]);
    let functions = |body_f: &str, body_g: &str, content: &str| {
        let define = |id: &str, body: &str| {
            format!(
                "<functionDefinition id=\"{id}\">{}</functionDefinition>",
                math(&format!("<lambda><bvar><ci>a</ci></bvar>{body}</lambda>"))
            )
        };
        let rule = format!("<listOfRules><assignmentRule variable=\"x\">{}</assignmentRule></listOfRules>", math(content));
        let definitions = define("f", body_f) + &define("g", body_g);
        complaints(&with_variables(&format!("<listOfFunctionDefinitions>{definitions}</listOfFunctionDefinitions>{rule}")))
    };
    let call = |name: &str| format!("<apply><ci>{name}</ci><ci>a</ci></apply>");
    assert_eq!(functions("<ci>a</ci>", "<ci>k</ci>", "<cn>1</cn>"), ["S0110 k"]);
    assert_eq!(functions("<ci>a</ci>", "<ci>a</ci>", "<ci>f</ci>"), ["S0110 f"]);
    assert_eq!(functions("<ci>a</ci>", &call("f"), "<apply><ci>f</ci></apply>"), ["S0111 <apply><ci>f</ci></apply>"]);
    assert_eq!(functions(&call("f"), &call("f"), "<cn>1</cn>"), ["S0108 f"]);
    assert_eq!(functions(&call("g"), &call("f"), "<cn>1</cn>"), ["S0108 f", "S0108 g"]);
}

#[test]
fn errors_in_formulas_have_their_place() {
    let c = |formula: &str| complaints(&rule(formula));
    assert_eq!(c("<apply><diff/><ci>k</ci></apply>"), ["S0201 diff"]);
    assert_eq!(c("<plus/>"), ["S0201 plus"]);
    assert_eq!(c("<lambda><cn>1</cn></lambda>"), ["S0201 lambda"]);
    assert_eq!(c("<apply><plus xmlns=\"\"/><ci>k</ci></apply>"), ["S0201 plus"]);
    assert_eq!(c("<apply><divide/><cn>1</cn></apply>"), ["S0202 divide"]);
    assert_eq!(c("<apply><sin/><cn>1</cn><cn>2</cn></apply>"), ["S0202 sin"]);
    assert_eq!(c("<apply><minus/></apply>"), ["S0202 minus"]);
    assert_eq!(c("<apply><lt/><cn>1</cn></apply>"), ["S0202 lt"]);
    assert_eq!(c("<apply><max/></apply>"), ["S0202 max"]);
    assert_eq!(c("<piecewise><piece><cn>1</cn></piece></piecewise>"), ["S0202 piece"]);
    assert_eq!(c("<cn> 1.2.3 </cn>"), ["S0203 1.2.3"]);
    assert_eq!(c("<cn/>"), ["S0203 <cn/>"]);
    assert_eq!(c("<cn type=\"integer\">1.5</cn>"), ["S0203 1.5"]);
    assert_eq!(c("<cn type=\"rational\">1</cn>"), ["S0203 1"]);
    assert_eq!(c("<cn base=\"16\">10</cn>"), ["S0203 10"]);
    assert_eq!(
        c("<csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/tiem\">t</csymbol>"),
        ["S0204 http://www.sbml.org/sbml/symbols/tiem"]
    );
    assert_eq!(c("<csymbol>t</csymbol>"), ["S0204 csymbol"]);
    assert_eq!(c("<ci> a b </ci>"), ["S0206 a b"]);
    assert_eq!(c("<ci/>"), ["S0206 <ci/>"]);
    assert_eq!(c(""), ["S0207 math"]);
    assert_eq!(c("<cn>1</cn><cn>2</cn>"), ["S0207 math"]);
    assert_eq!(c("<apply/>"), ["S0207 apply"]);
    assert_eq!(c("<csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/delay\">t</csymbol>"), ["S0207 csymbol"]);
    assert_eq!(c("<piecewise><cn>1</cn></piecewise>"), ["S0207 cn"]);
    // Two errors in one formula are both reported.
    assert_eq!(c("<apply><plus/><cn>a</cn><cn>b</cn></apply>"), ["S0203 a", "S0203 b"]);
    let level_1 = |formula: &str| {
        let parameters = "<listOfParameters><parameter name=\"x\"/><parameter name=\"k\"/></listOfParameters>";
        complaints(&level_1(&format!("{parameters}<listOfRules><parameterRule name=\"x\" formula=\"{formula}\"/></listOfRules>")))
    };
    assert_eq!(level_1("k + * 2"), ["S0208 *"]);
    assert_eq!(level_1("k k"), ["S0208 k"]);
    assert_eq!(level_1("(k"), ["S0208 "]);
    assert_eq!(level_1("1..2"), ["S0208 1"]);
    assert_eq!(level_1("k + kk"), ["S0110 kk"]);
    assert_eq!(level_1("sin(k, 2)"), ["S0112 sin(k, 2)"]);
}

#[test]
fn formulas_without_end_are_refused() {
    let nested = |open: &str, close: &str, n: usize| rule(&format!("{}<ci>k</ci>{}", open.repeat(n), close.repeat(n)));
    assert_eq!(complaints(&nested("<apply><minus/>", "</apply>", 100_000)), ["S0205 apply"]);
    assert!(complaints(&nested("<apply><minus/>", "</apply>", 400)).is_empty());
    // The middle argument occurs twice at each level.
    assert_eq!(complaints(&nested("<apply><lt/><cn>1</cn>", "<cn>2</cn></apply>", 60)).len(), 1);
    let level_1 = |formula: String| {
        let parameters = "<listOfParameters><parameter name=\"x\"/></listOfParameters>";
        complaints(&level_1(&format!("{parameters}<listOfRules><parameterRule name=\"x\" formula=\"{formula}\"/></listOfRules>")))
    };
    assert_eq!(level_1(format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000))).len(), 1);
    assert_eq!(level_1(format!("1{}", "+1".repeat(100_000))).len(), 1);
    assert!(level_1(format!("1{}", "+1".repeat(1000))).is_empty());
}

#[test]
fn all_errors_come_at_once_with_suggestions() {
    let text = r#"<sbml xmlns="http://www.sbml.org/sbml/level2/version4" level="2" version="4">
  <model>
    <listOfCompartments><compartment id="cell" size="1"/></listOfCompartments>
    <listOfSpecies>
      <species id="GFP" compartment="cel"/>
    </listOfSpecies>
    <listOfReactions>
      <reaction id="translation"><listOfProducts><speciesReference species="GFB"/></listOfProducts></reaction>
    </listOfReactions>
    <listOfEvents><event id="dose"/></listOfEvents>
  </model>
</sbml>"#;
    let (model, diagnostics) = read(text);
    assert!(model.is_none());
    let found: Vec<_> = diagnostics.items().iter().map(|d| (d.code, d.span.as_ref().unwrap().position(), d.message.as_str())).collect();
    assert_eq!(
        found,
        [
            ("S0012", "model.xml:10:20".to_owned(), "event `dose` has no trigger"),
            ("S0102", "model.xml:5:38".to_owned(), "species `GFP` is placed in an unknown compartment `cel`"),
            ("S0103", "model.xml:8:77".to_owned(), "reaction `translation` refers to an unknown species `GFB`"),
        ]
    );
    assert_eq!(diagnostics.items()[1].help, ["did you mean `cell`?"]);
    assert_eq!(diagnostics.items()[1].related[0].0.text(), "cell");
    assert_eq!(diagnostics.items()[2].help, ["did you mean `GFP`?"]);
}

/// Takes out each element and each attribute in turn: whatever is missing, the reader reports it or does without.
#[test]
fn nothing_is_missed_so_badly_that_reading_breaks() {
    let text = with_variables(&format!(
        r#"<listOfFunctionDefinitions><functionDefinition id="f">{}</functionDefinition></listOfFunctionDefinitions>
<listOfInitialAssignments><initialAssignment symbol="y">{}</initialAssignment></listOfInitialAssignments>
<listOfRules><rateRule variable="y">{}</rateRule></listOfRules>
<listOfReactions><reaction id="r" reversible="true"><listOfReactants><speciesReference species="S1" stoichiometry="2" constant="true"/></listOfReactants>
<kineticLaw>{}<listOfLocalParameters><localParameter id="l" value="7"/></listOfLocalParameters></kineticLaw></reaction></listOfReactions>"#,
        math("<lambda><bvar><ci>a</ci></bvar><apply><ci>sin</ci><ci>a</ci></apply></lambda>").replace("<ci>sin</ci>", "<sin/>"),
        math("<piecewise><piece><cn type=\"rational\">1<sep/>3</cn><true/></piece><otherwise><pi/></otherwise></piecewise>"),
        math("<apply><csymbol definitionURL=\"http://www.sbml.org/sbml/symbols/rateOf\">r</csymbol><ci>S1</ci></apply>"),
        math("<apply><log/><logbase><cn>3</cn></logbase><apply><ci>f</ci><ci>l</ci></apply></apply>"),
    ));
    accepted(&text);
    let document = roxmltree::Document::parse(&text).unwrap();
    let mut cuts = Vec::new();
    for node in document.descendants().filter(|n| n.is_element()) {
        cuts.push(node.range());
        cuts.extend(node.attributes().map(|a| a.range()));
        cuts.extend(node.first_child().zip(node.last_child()).map(|(first, last)| first.range().start..last.range().end));
    }
    let mut refused = 0;
    for cut in &cuts {
        refused += usize::from(read(&format!("{}{}", &text[..cut.start], &text[cut.end..])).0.is_none());
    }
    assert!(cuts.len() > 100 && refused > cuts.len() / 2, "{refused} of {}", cuts.len());
}

#[test]
fn every_code_is_documented_and_raised_in_one_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sbml");
    let (mut documented, mut raised) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        documented.extend(text.split("//! | S").skip(1).map(|rest| format!("S{}", &rest[..4])));
        raised.extend(text.split("\"S0").skip(1).map(|rest| format!("S0{}", &rest[..3])));
    }
    raised.sort();
    documented.sort();
    assert_eq!(documented, raised);
    let mut tests =
        [include_str!("sbml_read.rs"), include_str!("sbml_check.rs"), include_str!("sbml_comp.rs"), include_str!("flux_balance.rs")]
            .concat();
    for case in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")).unwrap() {
        tests += &std::fs::read_to_string(case.unwrap().path().join("expected.txt")).unwrap();
    }
    let untested: BTreeSet<_> = documented.iter().filter(|code| !tests.contains(code.as_str())).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Collections of models

fn models_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            models_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "xml") {
            found.push(path);
        }
    }
}

fn read_file(shared: &Path, file: &Path) -> (Option<Model>, Diagnostics) {
    let source = Source::new(file.strip_prefix(shared).unwrap().display().to_string(), std::fs::read_to_string(file).unwrap());
    let mut diagnostics = Diagnostics::new();
    let beside = |referring: &Source, reference: &str| {
        let full = Source::new(shared.join(referring.name()).display().to_string(), referring.text());
        sbml::beside(&full, reference)
    };
    let model = sbml::read_with(&source, &beside, &mut diagnostics);
    assert_eq!(model.is_some(), !diagnostics.has_errors(), "{}", source.name());
    (model, diagnostics)
}

/// Reads every model below the folders, counts the outcomes, and fails on errors that do not say "not supported".
/// Returns how many were read.
fn survey(folders: &[&str]) -> usize {
    let Some(shared) = shared(".") else { return 0 };
    let mut files = Vec::new();
    folders.iter().for_each(|folder| models_below(&shared.join(folder), &mut files));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in files {
        let (_, diagnostics) = read_file(&shared, &file);
        let errors = || diagnostics.items().iter().filter(|d| d.severity == Severity::Error);
        let codes: BTreeSet<_> = errors().map(|d| d.code).collect();
        let outcome = if codes.is_empty() { "read".to_owned() } else { Vec::from_iter(codes).join(" ") };
        *outcomes.entry(outcome).or_default() += 1;
        for d in errors().filter(|d| !d.code.starts_with("S09")) {
            wrong.push(format!("{} {} {}", d.code, d.span.as_ref().map_or(String::new(), |s| s.position()), d.message));
        }
    }
    println!("{folders:?}: {outcomes:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    outcomes.get("read").copied().unwrap_or(0)
}

#[test]
fn models_of_petab_problems_are_read() {
    let read = survey(&["suites/petab", "suites/benchmarks", "problems"]);
    assert!(shared(".").is_none() || read >= 71, "{read}");
}

#[test]
fn cases_of_the_sbml_suite_are_read_or_named_unsupported() {
    let read = survey(&["suites/sbml"]);
    assert!(shared(".").is_none() || read >= 1903, "{read}");
}

#[test]
fn published_models_are_read_or_named_unsupported() {
    let read = survey(&["suites/biomodels", "suites/biomodels-import-only"]);
    assert!(shared(".").is_none() || read >= 90, "{read}");
}

/// The value of arithmetic, with a number for each name; `None` where there is more than arithmetic.
fn value(ast: &Ast) -> Option<f64> {
    Some(match &ast.kind {
        AstKind::Number(value) => *value,
        AstKind::Name(name) => name.bytes().enumerate().map(|(i, b)| f64::from(b) / (i + 3) as f64).sum::<f64>().sqrt(),
        AstKind::Unary(Unary::Neg, a) => -value(a)?,
        AstKind::Unary(Unary::Floor, a) => value(a)?.floor(),
        AstKind::Binary(op, a, b) => {
            let (a, b) = (value(a)?, value(b)?);
            match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Pow => a.powf(b),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// A model without its places and without what the levels express differently, as comparable text. `constancy` tells
/// also what is constant, which level 1 cannot say.
fn essence(model: &Model, constancy: bool) -> String {
    // Converters write the same arithmetic in several ways, with 15 digits.
    let formula = |ast: &Ast| value(ast).map_or_else(|| show(ast), |value| format!("{value:.12e}"));
    // A size that is missing stands in level 1 as its default of 1.
    let size = |id: &str| model.compartments.iter().find(|c| c.id == id).and_then(|c| c.size).unwrap_or(1.0);
    let mut lines = Vec::new();
    for c in &model.compartments {
        lines.push(format!("{} {} {} {}", c.id, size(&c.id), c.dimensions, constancy && c.constant));
    }
    for s in &model.species {
        let amount = s.initial_amount.or(s.initial_concentration.map(|c| c * size(&s.compartment))).map(|a| format!("{a:.12e}"));
        // In a compartment without dimensions there are no concentrations; only the newest files of the suite say so.
        let only_substance_units =
            s.only_substance_units || model.compartments.iter().any(|c| c.id == s.compartment && c.dimensions == 0.0);
        let flags = [only_substance_units, s.boundary, constancy && s.constant];
        lines.push(format!("{} in {}: {amount:?} {flags:?}", s.id, s.compartment));
    }
    for p in &model.parameters {
        lines.push(format!("{} {:?} {}", p.id, p.value, constancy && p.constant));
    }
    for f in &model.functions {
        lines.push(format!("{}({:?}) = {}", f.id, f.arguments, show(&f.body)));
    }
    for (what, list) in [("initially", &model.initial_assignments), ("assigned", &model.assignment_rules), ("rate", &model.rate_rules)] {
        lines.extend(list.iter().map(|a| format!("{what} {} {}", a.variable, formula(&a.formula))));
    }
    for r in &model.reactions {
        let side =
            |list: &[sbml::SpeciesReference]| list.iter().map(|r| format!("{:?} {}", r.stoichiometry, r.species)).collect::<Vec<_>>();
        let locals: Vec<_> = r.local_parameters.iter().map(|p| format!("{} {:?}", p.id, p.value)).collect();
        let rate = r.rate.as_ref().map_or(String::new(), formula);
        lines.push(format!("{}: {:?} -> {:?} {locals:?} {rate} {}", r.id, side(&r.reactants), side(&r.products), r.fast));
    }
    lines.extend(model.algebraic_rules.iter().map(|r| format!("0 = {}", formula(&r.formula))));
    for e in &model.events {
        let parts = [Some(&e.trigger), e.delay.as_ref(), e.priority.as_ref()].map(|part| part.map(formula));
        let assignments: Vec<_> = e.assignments.iter().map(|a| format!("{} := {}", a.variable, formula(&a.formula))).collect();
        let flags = [e.initial_value, e.persistent, e.values_from_trigger_time];
        lines.push(format!("event {parts:?} {flags:?} {assignments:?}"));
    }
    lines.join("\n")
}

/// The suite holds some cases in several levels, written by libSBML's converters: all must be the same model.
#[test]
fn all_levels_of_a_case_are_the_same_model() {
    let Some(shared) = shared(".") else { return };
    // Level 1 demands a compartment where the other levels have none.
    let exceptions = ["00168-sbml-l1v2.xml", "00574-sbml-l1v2.xml", "01812-sbml-l1v2.xml"];
    let mut files = Vec::new();
    models_below(&shared.join("suites/sbml"), &mut files);
    let mut cases: BTreeMap<PathBuf, Vec<(String, Model)>> = BTreeMap::new();
    for file in files.into_iter().filter(|f| f.to_string_lossy().contains("-sbml-l")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if let (Some(model), _) = read_file(&shared, &file)
            && !exceptions.contains(&name.as_str())
        {
            cases.entry(file.parent().unwrap().to_owned()).or_default().push((name, model));
        }
    }
    let mut compared = 0;
    let mut differing = Vec::new();
    for (best, older) in cases.values().filter_map(|levels| levels.split_last()) {
        for (name, model) in older {
            compared += 1;
            let constancy = model.level_version.0 > 1;
            let (found, expected) = (essence(model, constancy), essence(&best.1, constancy));
            if found != expected {
                differing.push(format!("{name}\n{found}\n\n{}\n{expected}\n", best.0));
            }
        }
    }
    println!("{compared} files of older levels compared with the newest of their case");
    assert!(differing.is_empty(), "{} differ: {}", differing.len(), differing.join("\n"));
    assert!(compared >= 300, "{compared}");
}
