//! Package comp: models made of models are read as one flat model.

#![allow(clippy::unwrap_used)]

mod formula_text;
use formula_text::show;
use mixode::diag::{Diagnostics, Source};
use mixode::sbml::{self, Model};

fn document(model: &str, definitions: &str) -> String {
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" xmlns:comp=\"http://www.sbml.org/sbml/level3/version1/comp/version1\" \
         level=\"3\" version=\"2\" comp:required=\"true\">\n<model id=\"whole\">\n{model}\n</model>\n{definitions}\n</sbml>"
    )
}

/// A document whose model definitions have these ids and contents.
fn with_definitions(model: &str, definitions: &[(&str, &str)]) -> String {
    let definitions: String = definitions
        .iter()
        .map(|(id, content)| format!("<comp:modelDefinition id=\"{id}\">\n{content}\n</comp:modelDefinition>\n"))
        .collect();
    document(model, &format!("<comp:listOfModelDefinitions>\n{definitions}</comp:listOfModelDefinitions>"))
}

/// Submodels given as `id:definition` or `id:definition attributes`, and with content after `>`.
fn submodels(list: &[&str]) -> String {
    let one = |text: &&str| {
        let (head, content) = text.split_once('>').unwrap_or((text, ""));
        let (id, rest) = head.split_once(':').unwrap();
        let (definition, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
        format!("<comp:submodel comp:id=\"{id}\" comp:modelRef=\"{definition}\" {attributes}>{content}</comp:submodel>\n")
    };
    format!("<comp:listOfSubmodels>\n{}</comp:listOfSubmodels>", list.iter().map(one).collect::<String>())
}

fn deletions(list: &[&str]) -> String {
    let list: String = list.iter().map(|attributes| format!("<comp:deletion {attributes}/>")).collect();
    format!("<comp:listOfDeletions>{list}</comp:listOfDeletions>")
}

fn replaces(list: &[&str]) -> String {
    let list: String = list.iter().map(|attributes| format!("<comp:replacedElement {attributes}/>")).collect();
    format!("<comp:listOfReplacedElements>{list}</comp:listOfReplacedElements>")
}

fn math(content: &str) -> String {
    format!("<math xmlns=\"http://www.w3.org/1998/Math/MathML\">{content}</math>")
}

fn symbol(name: &str) -> String {
    format!("<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/{name}\"> t </csymbol>")
}

fn parameter(id: &str, attributes: &str, content: &str) -> String {
    format!("<parameter id=\"{id}\" metaid=\"meta_{id}\" {attributes}>{content}</parameter>")
}

fn parameters(list: &[String]) -> String {
    format!("<listOfParameters>\n{}\n</listOfParameters>", list.join("\n"))
}

fn rules(list: &[(&str, &str, &str)]) -> String {
    let rules: String = list
        .iter()
        .map(|(kind, variable, content)| {
            let variable = if variable.is_empty() { String::new() } else { format!("variable=\"{variable}\" metaid=\"rule_{variable}\"") };
            format!("<{kind} {variable}>{}</{kind}>\n", math(content))
        })
        .collect();
    format!("<listOfRules>\n{rules}</listOfRules>")
}

fn read(text: &str) -> (Option<Model>, Diagnostics) {
    read_files(text, &[])
}

fn read_files(text: &str, files: &[(&str, &str)]) -> (Option<Model>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let load = |_: &Source, name: &str| {
        let found = files.iter().find(|(file, _)| *file == name);
        found.map(|(_, text)| Source::new(name, *text)).ok_or_else(|| "no such file".to_owned())
    };
    let model = sbml::read_with(&Source::new("model.xml", text), &load, &mut diagnostics);
    assert_eq!(model.is_none(), diagnostics.has_errors(), "{}", diagnostics.render(false));
    (model, diagnostics)
}

fn accepted(text: &str) -> Model {
    let (model, diagnostics) = read(text);
    assert!(diagnostics.items().is_empty(), "{}", diagnostics.render(false));
    model.unwrap()
}

fn complaints(text: &str) -> Vec<String> {
    of(&read(text).1)
}

/// All diagnostics as "code marked-text".
fn of(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.items().iter().map(|d| format!("{} {}", d.code, d.span.as_ref().unwrap().text())).collect()
}

fn parameter_ids(model: &Model) -> Vec<&str> {
    model.parameters.iter().map(|p| p.id.as_str()).collect()
}

/// `variable := formula` of all initial assignments, assignment rules and rate rules.
fn assignments(model: &Model) -> Vec<String> {
    let all = model.initial_assignments.iter().chain(&model.assignment_rules).chain(&model.rate_rules);
    all.map(|a| format!("{} := {}", a.variable, show(&a.formula))).collect()
}

const P: &str = "value=\"1\" constant=\"false\"";
const K: &str = "value=\"1\" constant=\"true\"";

// ---------------------------------------------------------------------------------------------------------------------
// Names

#[test]
fn submodels_at_all_depths_have_their_names_in_front() {
    let leaf = parameters(&[parameter("x", P, "")]) + &rules(&[("rateRule", "x", "<ci>x</ci>")]);
    let text = with_definitions(
        &(parameters(&[parameter("x", K, "")]) + &submodels(&["A:middle", "B:leaf"])),
        &[("middle", &submodels(&["C:leaf", "D:leaf"])), ("leaf", &leaf)],
    );
    let model = accepted(&text);
    assert_eq!(model.id, "whole");
    assert_eq!(parameter_ids(&model), ["x", "B__x", "A__C__x", "A__D__x"]);
    assert_eq!(assignments(&model), ["B__x := B__x", "A__C__x := A__C__x", "A__D__x := A__D__x"]);
    // Places stay those of the definition.
    assert_eq!(model.parameters[2].span.text(), "x");
    let formula = &model.rate_rules[2].formula;
    assert_eq!(&text[formula.range.clone()], "x");
}

#[test]
fn what_is_replaced_has_the_name_of_its_replacement() {
    let inner = parameters(&[parameter("p", P, ""), parameter("q", K, "")])
        + &rules(&[("assignmentRule", "p", "<apply><times/><cn>2</cn><ci>q</ci></apply>")]);
    let outer = |way: &str| {
        let q = parameter("Q", K, &replaces(&[way]));
        with_definitions(
            &(parameters(&[q]) + &submodels(&["A:inner"])),
            &[("inner", &format!("{inner}<comp:listOfPorts><comp:port comp:idRef=\"q\" comp:id=\"port_q\"/></comp:listOfPorts>"))],
        )
    };
    for way in ["comp:idRef=\"q\"", "comp:metaIdRef=\"meta_q\"", "comp:portRef=\"port_q\""] {
        let model = accepted(&outer(&format!("comp:submodelRef=\"A\" {way}")));
        assert_eq!(parameter_ids(&model), ["Q", "A__p"]);
        assert_eq!(assignments(&model), ["A__p := Mul(2, Q)"]);
    }
}

#[test]
fn what_replaces_from_inside_has_the_outer_name() {
    let q = parameter("Q", "value=\"1\" constant=\"true\"", "<comp:replacedBy comp:submodelRef=\"A\" comp:idRef=\"q\"/>");
    let inner = parameters(&[parameter("p", P, ""), parameter("q", "value=\"7\" constant=\"true\"", "")])
        + &rules(&[("assignmentRule", "p", "<ci>q</ci>")]);
    let model = accepted(&with_definitions(&(parameters(&[q]) + &submodels(&["A:inner"])), &[("inner", &inner)]));
    assert_eq!(parameter_ids(&model), ["A__p", "Q"]);
    assert_eq!(model.parameters[1].value, Some(7.0));
    assert_eq!(assignments(&model), ["A__p := Q"]);
}

#[test]
fn replacements_go_through_several_levels() {
    let leaf = parameters(&[parameter("z", P, "")]) + &rules(&[("rateRule", "z", "<ci>z</ci>")]);
    let z = |id: &str, way: &str| parameters(&[parameter(id, P, &replaces(&[way]))]);
    let middle = z("y", "comp:submodelRef=\"C\" comp:idRef=\"z\"") + &submodels(&["C:leaf"]);
    // Through what the middle replaces already, and past the middle into its part.
    let chained = z("x", "comp:submodelRef=\"B\" comp:idRef=\"y\"") + &submodels(&["B:middle"]);
    let model = accepted(&with_definitions(&chained, &[("middle", &middle), ("leaf", &leaf)]));
    assert_eq!((parameter_ids(&model), assignments(&model)), (vec!["x"], vec!["x := x".to_owned()]));

    let into = "<comp:listOfReplacedElements><comp:replacedElement comp:submodelRef=\"B\" comp:idRef=\"C\"><comp:sBaseRef comp:idRef=\"z\"/>\
                </comp:replacedElement></comp:listOfReplacedElements>";
    let direct = parameters(&[parameter("x", P, into)]) + &submodels(&["B:middle"]);
    let model = accepted(&with_definitions(&direct, &[("middle", &submodels(&["C:leaf"])), ("leaf", &leaf)]));
    assert_eq!((parameter_ids(&model), assignments(&model)), (vec!["x"], vec!["x := x".to_owned()]));
}

#[test]
fn what_is_reached_past_a_model_takes_its_replacement_along() {
    let leaf = parameters(&[parameter("z", "value=\"8\" constant=\"false\"", "")]);
    let y = parameter("y", P, "<comp:replacedBy comp:submodelRef=\"C\" comp:idRef=\"z\"/>");
    let middle = parameters(&[y]) + &rules(&[("rateRule", "y", "<ci>y</ci>")]) + &submodels(&["C:leaf"]);
    let by = "<comp:replacedBy comp:submodelRef=\"B\" comp:idRef=\"C\"><comp:sBaseRef comp:idRef=\"z\"/></comp:replacedBy>";
    let whole = parameters(&[parameter("x", P, by)]) + &submodels(&["B:middle"]);
    let model = accepted(&with_definitions(&whole, &[("middle", &middle), ("leaf", &leaf)]));
    assert_eq!((parameter_ids(&model), model.parameters[0].value), (vec!["x"], Some(8.0)));
    assert_eq!(assignments(&model), ["x := x"]);
}

#[test]
fn deletions_leave_out_any_element() {
    let inner = parameters(&[parameter("p", P, ""), parameter("q", P, "")])
        + &rules(&[("rateRule", "p", "<cn>1</cn>"), ("rateRule", "q", "<cn>2</cn>")]);
    let deleted = deletions(&["comp:metaIdRef=\"rule_p\"", "comp:idRef=\"p\""]);
    let model = accepted(&with_definitions(&submodels(&[&format!("A:inner>{deleted}"), "B:inner"]), &[("inner", &inner)]));
    assert_eq!(parameter_ids(&model), ["A__q", "B__p", "B__q"]);
    assert_eq!(assignments(&model), ["A__q := 2", "B__p := 1", "B__q := 2"]);

    // A submodel of a submodel, and what a reaction is left with.
    let text = with_definitions(
        &submodels(&[&format!("A:middle>{}", deletions(&["comp:idRef=\"B\""]))]),
        &[("middle", &(parameters(&[parameter("r", K, "")]) + &submodels(&["B:inner"]))), ("inner", &inner)],
    );
    assert_eq!(parameter_ids(&accepted(&text)), ["A__r"]);
}

#[test]
fn local_parameters_stay_what_they_are() {
    let law = |metaid: &str| {
        format!(
            "<kineticLaw>{}<listOfLocalParameters><localParameter id=\"f\" metaid=\"{metaid}\" value=\"3\"/></listOfLocalParameters></kineticLaw>",
            math("<apply><times/><ci>f</ci><ci>k</ci></apply>")
        )
    };
    let inner = parameters(&[parameter("k", K, "")])
        + &format!("<listOfReactions><reaction id=\"J\" reversible=\"true\">{}</reaction></listOfReactions>", law("local"));
    let factor = parameters(&[parameter("f", K, "")]) + &submodels(&["A:inner comp:timeConversionFactor=\"f\""]);
    // The factor of time has the local parameter's name, so that one gives way.
    let model = accepted(&with_definitions(&factor, &[("inner", &inner)]));
    let j = &model.reactions[0];
    assert_eq!((j.id.as_str(), j.local_parameters[0].id.as_str()), ("A__J", "f_"));
    assert_eq!(show(j.rate.as_ref().unwrap()), "Mul(Mul(f_, A__k), Div(1, f))");
    // It can be replaced by something global.
    let replacing =
        parameters(&[parameter("g", K, &replaces(&["comp:submodelRef=\"A\" comp:metaIdRef=\"local\""]))]) + &submodels(&["A:inner"]);
    let model = accepted(&with_definitions(&replacing, &[("inner", &inner)]));
    assert!(model.reactions[0].local_parameters.is_empty());
    assert_eq!(show(model.reactions[0].rate.as_ref().unwrap()), "Mul(g, A__k)");
    // In the whole model, a local parameter that shadows a global one keeps its name.
    let outer = format!(
        "{}<listOfReactions><reaction id=\"J\" reversible=\"true\">{}</reaction></listOfReactions>{}",
        parameters(&[parameter("f", K, ""), parameter("k", K, "")]),
        law("local"),
        submodels(&["A:inner"])
    );
    let model = accepted(&with_definitions(&outer, &[("inner", &inner)]));
    assert_eq!(model.reactions[0].local_parameters[0].id, "f");
    assert_eq!(show(model.reactions[0].rate.as_ref().unwrap()), "Mul(f, k)");
}

// ---------------------------------------------------------------------------------------------------------------------
// Conversion factors

#[test]
fn time_and_extent_are_converted_everywhere() {
    let one = |content: &str| math(content);
    let inner = format!(
        "<listOfCompartments><compartment id=\"c\" size=\"1\" constant=\"true\"/></listOfCompartments><listOfSpecies><species id=\"S\" \
         compartment=\"c\" hasOnlySubstanceUnits=\"true\" boundaryCondition=\"false\" constant=\"false\"/></listOfSpecies>{}{}\
         <listOfReactions><reaction id=\"J\" reversible=\"true\"><listOfProducts><speciesReference species=\"S\" stoichiometry=\"1\" \
         constant=\"true\"/></listOfProducts><kineticLaw>{}</kineticLaw></reaction></listOfReactions><listOfEvents><event \
         useValuesFromTriggerTime=\"true\"><trigger initialValue=\"true\" persistent=\"true\">{}</trigger><delay>{}</delay>\
         <listOfEventAssignments><eventAssignment variable=\"r\">{}</eventAssignment></listOfEventAssignments></event></listOfEvents>",
        parameters(&["a", "r", "d", "j", "v"].map(|id| parameter(id, P, ""))),
        rules(&[
            ("assignmentRule", "a", &symbol("time")),
            ("rateRule", "r", "<ci>a</ci>"),
            ("assignmentRule", "d", &format!("<apply>{}<ci>a</ci><cn>2</cn></apply>", symbol("delay"))),
            ("assignmentRule", "j", "<ci>J</ci>"),
            ("assignmentRule", "v", &format!("<apply>{}<ci>r</ci></apply>", symbol("rateOf"))),
        ]),
        one("<ci>S</ci>"),
        one(&format!("<apply><gt/>{}<cn>3</cn></apply>", symbol("time"))),
        one("<cn>5</cn>"),
        one("<ci>J</ci>"),
    );
    let outer = parameters(&[parameter("t", K, ""), parameter("x", K, "")])
        + &submodels(&["A:inner comp:timeConversionFactor=\"t\" comp:extentConversionFactor=\"x\""]);
    let model = accepted(&with_definitions(&outer, &[("inner", &inner)]));
    assert_eq!(
        assignments(&model),
        [
            "A__a := Div(time, t)",
            "A__d := delay(A__a, Mul(2, t))",
            "A__j := Div(A__J, Div(x, t))",
            "A__v := Mul(rateOf(A__r), t)",
            "A__r := Div(A__a, t)",
        ]
    );
    assert_eq!(show(model.reactions[0].rate.as_ref().unwrap()), "Mul(A__S, Div(x, t))");
    let event = &model.events[0];
    assert_eq!((show(&event.trigger), show(event.delay.as_ref().unwrap())), ("Gt(Div(time, t), 3)".to_owned(), "Mul(5, t)".to_owned()));
    assert_eq!(show(&event.assignments[0].formula), "Div(A__J, Div(x, t))");
}

#[test]
fn factors_of_nested_submodels_multiply() {
    let leaf = parameters(&[parameter("z", P, "")]) + &rules(&[("rateRule", "z", &symbol("time"))]);
    let middle = parameters(&[parameter("u", K, "")]) + &submodels(&["C:leaf comp:timeConversionFactor=\"u\""]);
    let outer = parameters(&[parameter("t", K, "")]) + &submodels(&["B:middle comp:timeConversionFactor=\"t\""]);
    let model = accepted(&with_definitions(&outer, &[("middle", &middle), ("leaf", &leaf)]));
    assert_eq!(assignments(&model), ["B__C__z := Div(Div(time, Mul(t, B__u)), Mul(t, B__u))"]);
}

#[test]
fn replaced_values_are_converted() {
    let inner = parameters(&[parameter("p", P, ""), parameter("q", P, "")])
        + &format!(
            "<listOfInitialAssignments><initialAssignment symbol=\"p\">{}</initialAssignment></listOfInitialAssignments>",
            math("<cn>3</cn>")
        )
        + &rules(&[("rateRule", "p", "<ci>p</ci>"), ("assignmentRule", "q", &format!("<apply>{}<ci>p</ci></apply>", symbol("rateOf")))]);
    let outer = parameters(&[
        parameter("f", K, ""),
        parameter("P", P, &replaces(&["comp:submodelRef=\"A\" comp:idRef=\"p\" comp:conversionFactor=\"f\""])),
    ]) + &submodels(&["A:inner"]);
    let model = accepted(&with_definitions(&outer, &[("inner", &inner)]));
    assert_eq!(assignments(&model), ["P := Mul(3, f)", "A__q := Div(rateOf(P), f)", "P := Mul(Div(P, f), f)"]);
    // A factor that changes, or is none, is reported once at its place, even where the definition is used twice.
    let wrong = |name: &str| outer.replace("conversionFactor=\"f\"", &format!("conversionFactor=\"{name}\""));
    let varying = wrong("V").replace("<listOfParameters>", &format!("<listOfParameters>{}", parameter("V", P, "")));
    assert_eq!(complaints(&with_definitions(&varying, &[("inner", &inner)])), ["S0115 V"]);
    assert_eq!(complaints(&with_definitions(&wrong("ff"), &[("inner", &inner)])), ["S0115 ff"]);
}

#[test]
fn the_conversion_factor_of_a_model_is_that_of_its_own_species() {
    let content = "<listOfCompartments><compartment id=\"c\" size=\"1\" constant=\"true\"/></listOfCompartments><listOfSpecies><species id=\"S\" \
        compartment=\"c\" hasOnlySubstanceUnits=\"true\" boundaryCondition=\"false\" constant=\"false\"/></listOfSpecies>\
        <listOfParameters><parameter id=\"k\" value=\"2\" constant=\"true\"/></listOfParameters>";
    let text = with_definitions(&format!("{content}{}", submodels(&["A:inner", "B:other"])), &[("inner", content), ("other", content)])
        .replace("<model id=\"whole\"", "<model id=\"whole\" conversionFactor=\"k\"")
        .replace("id=\"inner\"", "id=\"inner\" conversionFactor=\"k\"");
    let model = accepted(&text);
    let factors: Vec<_> = model.species.iter().map(|s| s.conversion_factor.as_deref()).collect();
    assert_eq!((factors, model.conversion_factor), (vec![Some("k"), Some("A__k"), None], None));
}

#[test]
fn deep_formulas_are_converted() {
    let deep = format!("{}{}{}", "<apply><minus/>".repeat(240), symbol("time"), "</apply>".repeat(240));
    let sum = format!("<apply><plus/>{}</apply>", "<ci>x</ci>".repeat(20_000));
    let inner = parameters(&[parameter("x", P, ""), parameter("y", P, "")]) + &rules(&[("rateRule", "x", &deep), ("rateRule", "y", &sum)]);
    let outer = parameters(&[parameter("t", K, "")]) + &submodels(&["A:inner comp:timeConversionFactor=\"t\""]);
    assert_eq!(accepted(&with_definitions(&outer, &[("inner", &inner)])).rate_rules.len(), 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

fn external(id: &str, attributes: &str) -> String {
    format!(
        "<comp:listOfExternalModelDefinitions><comp:externalModelDefinition comp:id=\"{id}\" {attributes}/></comp:listOfExternalModelDefinitions>"
    )
}

#[test]
fn models_come_from_other_files() {
    let leaf = with_definitions(
        &parameters(&[parameter("p", P, "")]),
        &[("part", &(parameters(&[parameter("q", P, "")]) + &rules(&[("rateRule", "q", "<ci>q</ci>")])))],
    );
    let middle = document("", &external("through", "comp:source=\"leaf.xml\" comp:modelRef=\"part\""));
    let main = document(&submodels(&["A:far", "B:near"]), &{
        let far =
            "comp:source=\"middle.xml\" comp:modelRef=\"through\"/><comp:externalModelDefinition comp:id=\"near\" comp:source=\"leaf.xml\"";
        external("far", far)
    });
    let (model, diagnostics) = read_files(&main, &[("middle.xml", &middle), ("leaf.xml", &leaf)]);
    assert!(diagnostics.items().is_empty(), "{}", diagnostics.render(false));
    let model = model.unwrap();
    assert_eq!(parameter_ids(&model), ["A__q", "B__p"]);
    // The place is in the file of the definition.
    let rule = &model.rate_rules[0];
    assert_eq!((rule.span.source.name(), &rule.span.source.text()[rule.formula.range.clone()]), ("leaf.xml", "q"));

    // What is wrong there is shown there.
    let wrong = leaf.replace("<ci>q</ci>", "<ci>qq</ci>");
    let (_, diagnostics) = read_files(&main, &[("middle.xml", &middle), ("leaf.xml", &wrong)]);
    assert_eq!(of(&diagnostics), ["S0110 qq"]);
    assert!(diagnostics.items()[0].span.as_ref().unwrap().position().starts_with("leaf.xml:"));
}

#[test]
fn files_are_looked_up_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    let leaf = document(&parameters(&[parameter("p", P, "")]), "");
    std::fs::write(folder.path().join("parts/leaf.xml"), leaf).unwrap();
    let read = |source: &str| {
        let text = document(&submodels(&["A:leaf"]), &external("leaf", &format!("comp:source=\"{source}\"")));
        let path = folder.path().join("model.xml");
        let mut diagnostics = Diagnostics::new();
        let model = sbml::read(&Source::new(path.display().to_string(), text), &mut diagnostics);
        (model.map(|m| m.parameters.len()), of(&diagnostics))
    };
    assert_eq!(read("parts/leaf.xml"), (Some(1), Vec::new()));
    assert_eq!(read("file:./parts/../parts/leaf.xml"), (Some(1), Vec::new()));
    for wrong in ["leaf.xml", "/parts/leaf.xml", "http://example.org/leaf.xml"] {
        assert_eq!(read(wrong), (None, vec![format!("S0303 {wrong}")]));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors

#[test]
fn circles_of_models_are_reported() {
    assert_eq!(complaints(&with_definitions(&submodels(&["A:whole"]), &[])), ["S0302 whole"]);
    let text = with_definitions(&submodels(&["A:one"]), &[("one", &submodels(&["B:two"])), ("two", &submodels(&["C:one"]))]);
    assert_eq!(complaints(&text), ["S0302 one"]);
    // External definitions that lead to each other, and files that hold each other.
    let main = document(&submodels(&["A:a"]), &external("a", "comp:source=\"b.xml\" comp:modelRef=\"b\""));
    let other = document("", &external("b", "comp:source=\"model.xml\" comp:modelRef=\"a\""));
    let (_, diagnostics) = read_files(&main, &[("b.xml", &other), ("model.xml", &main)]);
    assert_eq!(of(&diagnostics), ["S0302 model.xml"]);
    let main = document(&submodels(&["A:a"]), &external("a", "comp:source=\"b.xml\""));
    let other = document(&submodels(&["B:b"]), &external("b", "comp:source=\"model.xml\""));
    let (_, diagnostics) = read_files(&main, &[("b.xml", &other), ("model.xml", &main)]);
    assert_eq!(of(&diagnostics), ["S0302 b"]);
}

#[test]
fn models_that_double_at_every_level_are_refused() {
    let names: Vec<String> = (0..40).map(|i| format!("m{i}")).collect();
    let contents: Vec<String> =
        (0..40).map(|i| if i == 39 { String::new() } else { submodels(&[&format!("A:m{}", i + 1), &format!("B:m{}", i + 1)]) }).collect();
    let definitions: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(contents.iter().map(String::as_str)).collect();
    let found = complaints(&with_definitions(&submodels(&["A:m0"]), &definitions));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("S0307"), "{found:?}");
}

#[test]
fn references_to_nothing_have_their_place() {
    let inner = parameters(&[parameter("p", P, ""), parameter("q", P, "")]);
    let c = |outer: &str| complaints(&with_definitions(outer, &[("inner", &inner)]));
    assert_eq!(c(&submodels(&["A:iner"])), ["S0301 iner"]);
    assert_eq!(c("<comp:listOfSubmodels><comp:submodel comp:id=\"A\"/></comp:listOfSubmodels>"), ["S0007 comp:submodel"]);
    let replacing = |attributes: &str| c(&(parameters(&[parameter("P", P, &replaces(&[attributes]))]) + &submodels(&["A:inner"])));
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:idRef=\"p\""), Vec::<String>::new());
    assert_eq!(replacing("comp:submodelRef=\"B\" comp:idRef=\"p\""), ["S0304 B"]);
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:idRef=\"pp\""), ["S0304 pp"]);
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:metaIdRef=\"meta\""), ["S0304 meta"]);
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:portRef=\"p\""), ["S0304 p"]);
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:deletion=\"d\""), ["S0304 d"]);
    assert_eq!(replacing("comp:idRef=\"p\""), ["S0007 comp:replacedElement"]);
    assert_eq!(replacing("comp:submodelRef=\"A\""), ["S0305 comp:replacedElement"]);
    assert_eq!(replacing("comp:submodelRef=\"A\" comp:idRef=\"p\" comp:metaIdRef=\"meta_p\""), ["S0305 meta_p"]);
    let deleting = |attributes: &str| c(&submodels(&[&format!("A:inner>{}", deletions(&[attributes]))]));
    assert_eq!(deleting("comp:idRef=\"r\""), ["S0304 r"]);
    assert_eq!(deleting(""), ["S0305 comp:deletion"]);
    let part = "<comp:listOfReplacedElements><comp:replacedElement comp:submodelRef=\"A\" comp:idRef=\"p\"><comp:sBaseRef comp:idRef=\"z\"/>\
                </comp:replacedElement></comp:listOfReplacedElements>";
    assert_eq!(c(&(parameters(&[parameter("P", P, part)]) + &submodels(&["A:inner"]))), ["S0306 comp:sBaseRef"]);
    let twice = replaces(&["comp:submodelRef=\"A\" comp:idRef=\"p\""]);
    let twice = parameters(&[parameter("P", P, &twice), parameter("R", P, &twice)]) + &submodels(&["A:inner"]);
    assert_eq!(c(&twice), ["S0308 p"]);
    // The suggestion is the nearest name.
    let (_, diagnostics) = read(&with_definitions(&submodels(&["A:iner"]), &[("inner", &inner)]));
    assert_eq!(diagnostics.items()[0].help, ["did you mean `inner`?"]);
}

#[test]
fn a_mistake_in_a_definition_is_said_once() {
    let inner = parameters(&["<parameter id=\"p\" value=\"x\"/>".to_owned()]) + &rules(&[("rateRule", "p", "<ci>pp</ci>")]);
    let found = complaints(&with_definitions(&submodels(&["A:inner", "B:inner", "C:inner"]), &[("inner", &inner)]));
    assert_eq!(found, ["S0009 x", "S0007 parameter", "S0110 pp"]);
}
