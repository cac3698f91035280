//! Package fbc: what is read, and the fluxes that come out.

#![allow(clippy::unwrap_used)]

use mixode::diag::{Diagnostics, Source};
use mixode::flux_balance::{FluxBalanceError, optimize};
use mixode::sbml::{self, FluxLimit, FluxValue, Model};

/// Reactions as `id: reactants -> products`, for species A, B and C; X is on the boundary.
fn reactions(list: &[&str], attributes: &str) -> String {
    let side = |text: &str, list: &str| {
        let references: String =
            text.split_whitespace().map(|s| format!("<speciesReference species=\"{s}\" stoichiometry=\"1\" constant=\"true\"/>")).collect();
        if references.is_empty() { String::new() } else { format!("<{list}>{references}</{list}>") }
    };
    let one = |text: &&str| {
        let (id, rest) = text.split_once(':').unwrap();
        let (left, right) = rest.split_once("->").unwrap();
        let sides = side(left, "listOfReactants") + &side(right, "listOfProducts");
        format!("<reaction id=\"{id}\" reversible=\"true\" {attributes}>{sides}</reaction>\n")
    };
    format!("<listOfReactions>\n{}</listOfReactions>", list.iter().map(one).collect::<String>())
}

fn document(version: u32, content: &str) -> String {
    let species: String = ["A", "B", "C", "X"]
        .iter()
        .map(|id| {
            format!(
                "<species id=\"{id}\" compartment=\"c\" hasOnlySubstanceUnits=\"true\" boundaryCondition=\"{}\" constant=\"false\"/>\n",
                *id == "X"
            )
        })
        .collect();
    format!(
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" xmlns:fbc=\"http://www.sbml.org/sbml/level3/version1/fbc/version{version}\" \
         level=\"3\" version=\"2\" fbc:required=\"false\"><model id=\"m\" fbc:strict=\"true\">\
         <listOfCompartments><compartment id=\"c\" size=\"1\" constant=\"true\"/></listOfCompartments>\
         <listOfSpecies>{species}</listOfSpecies>{content}</model></sbml>"
    )
}

fn objective(kind: &str, terms: &[(&str, &str)]) -> String {
    let terms: String = terms.iter().map(|(id, c)| format!("<fbc:fluxObjective fbc:reaction=\"{id}\" fbc:coefficient=\"{c}\"/>")).collect();
    format!(
        "<fbc:listOfObjectives fbc:activeObjective=\"o\"><fbc:objective fbc:id=\"o\" fbc:type=\"{kind}\"><fbc:listOfFluxObjectives>{terms}\
         </fbc:listOfFluxObjectives></fbc:objective></fbc:listOfObjectives>"
    )
}

/// Limits of version 1 as `reaction operation value`.
fn bounds(list: &[&str]) -> String {
    let one = |text: &&str| {
        let parts: Vec<&str> = text.split(' ').collect();
        format!("<fbc:fluxBound fbc:reaction=\"{}\" fbc:operation=\"{}\" fbc:value=\"{}\"/>", parts[0], parts[1], parts[2])
    };
    format!("<fbc:listOfFluxBounds>{}</fbc:listOfFluxBounds>", list.iter().map(one).collect::<String>())
}

fn read(text: &str) -> (Option<Model>, Vec<String>) {
    let mut diagnostics = Diagnostics::new();
    let model = sbml::read(&Source::new("model.xml", text), &mut diagnostics);
    (model, diagnostics.items().iter().map(|d| format!("{} {}", d.code, d.span.as_ref().unwrap().text())).collect())
}

fn accepted(text: &str) -> Model {
    let (model, complaints) = read(text);
    assert!(complaints.is_empty(), "{complaints:?}");
    model.unwrap()
}

/// X -> A -> B -> X by two ways from A to B, one of them through C.
const NETWORK: [&str; 5] = ["in: X -> A", "direct: A -> B", "first: A -> C", "second: C -> B", "out: B -> X"];

fn network(objective: &str, list: &[&str]) -> Model {
    accepted(&document(1, &(reactions(&NETWORK, "") + &bounds(list) + objective)))
}

#[test]
fn limits_of_version_1_and_2_are_read() {
    let model = network(&objective("maximize", &[("out", "2")]), &["in lessEqual 10", "out greaterEqual -1", "first equal 0"]);
    let balance = model.flux_balance.unwrap();
    let bounds: Vec<_> = balance.bounds.iter().map(|b| (b.reaction.as_str(), b.limit, b.value.clone())).collect();
    assert_eq!(
        bounds,
        [
            ("in", FluxLimit::Upper, FluxValue::Number(10.0)),
            ("out", FluxLimit::Lower, FluxValue::Number(-1.0)),
            ("first", FluxLimit::Equal, FluxValue::Number(0.0))
        ]
    );
    let o = &balance.objectives[balance.active.unwrap()];
    assert_eq!((o.id.as_str(), o.maximize, o.terms[0].reaction.as_str(), o.terms[0].coefficient), ("o", true, "out", 2.0));

    let parameters =
        "<listOfParameters><parameter id=\"lo\" value=\"0\" constant=\"true\"/><parameter id=\"hi\" constant=\"true\"/></listOfParameters>";
    let limited = reactions(&NETWORK, "fbc:lowerFluxBound=\"lo\" fbc:upperFluxBound=\"hi\"");
    let text = document(2, &format!("{parameters}{limited}{}", objective("maximize", &[("out", "1")])));
    let model = accepted(&text);
    let bounds = &model.flux_balance.as_ref().unwrap().bounds;
    assert_eq!((bounds.len(), bounds[0].limit, &bounds[0].value), (10, FluxLimit::Lower, &FluxValue::Parameter("lo".to_owned())));
    assert_eq!(optimize(&model).unwrap_err(), FluxBalanceError::NoValue("hi".to_owned()));
    // The value may come from an initial assignment.
    let assignment = "<listOfInitialAssignments><initialAssignment symbol=\"hi\"><math xmlns=\"http://www.w3.org/1998/Math/MathML\"><apply><plus/>\
                      <cn>3</cn><ci>lo</ci></apply></math></initialAssignment></listOfInitialAssignments><listOfReactions>";
    let found = optimize(&accepted(&text.replace("<listOfReactions>", assignment))).unwrap();
    assert!((found.objective - 3.0).abs() < 1e-9);
}

#[test]
fn the_optimum_has_the_smallest_total_flux() {
    let free = ["in greaterEqual 0", "in lessEqual 10", "direct greaterEqual 0", "first greaterEqual 0", "second greaterEqual 0"];
    let found = optimize(&network(&objective("maximize", &[("out", "2")]), &free)).unwrap();
    assert!((found.objective - 20.0).abs() < 1e-6, "{found:?}");
    // The way through C takes two reactions, the direct one only one.
    let fluxes: Vec<f64> = found.fluxes.values().map(|v| (v * 1e6).round() / 1e6).collect();
    assert_eq!(
        (found.fluxes.keys().map(String::as_str).collect::<Vec<_>>(), fluxes),
        (vec!["in", "direct", "first", "second", "out"], vec![10.0, 10.0, 0.0, 0.0, 10.0])
    );
    let found = optimize(&network(&objective("minimize", &[("out", "1")]), &free)).unwrap();
    assert_eq!((found.objective, found.fluxes["in"]), (0.0, 0.0));
}

#[test]
fn where_there_is_no_optimum_the_cause_is_named() {
    let best = objective("maximize", &[("out", "1")]);
    let error = optimize(&network(&best, &["in equal 1", "out equal 2"])).unwrap_err();
    let FluxBalanceError::Infeasible(species) = &error else { panic!("{error}") };
    assert!(species.iter().all(|s| ["A", "B", "C"].contains(&s.as_str())) && !species.is_empty(), "{species:?}");
    let error = optimize(&network(&best, &["in lessEqual 1", "in greaterEqual 2"])).unwrap_err();
    assert_eq!(error.to_string(), "the limits of reaction `in` exclude each other: its flux is at least 2 and at most 1");
    let error = optimize(&network(&best, &["in greaterEqual 0"])).unwrap_err();
    let FluxBalanceError::Unbounded { upwards: true, fluxes } = &error else { panic!("{error}") };
    assert!(fluxes.contains(&"out".to_owned()), "{fluxes:?}");
    assert_eq!(optimize(&network("", &["in lessEqual 1"])).unwrap_err(), FluxBalanceError::NoObjective);
}

#[test]
fn mistakes_have_their_place() {
    let c = |limits: &[&str], objective: &str| read(&document(1, &(reactions(&NETWORK, "") + &bounds(limits) + objective))).1;
    let best = objective("maximize", &[("out", "1")]);
    assert_eq!(c(&["inn lessEqual 1"], &best), ["S0401 inn"]);
    assert_eq!(c(&[], &objective("maximize", &[("outt", "1")])), ["S0401 outt"]);
    assert_eq!(c(&["in lessequal 1"], &best), ["S0403 lessequal"]);
    assert_eq!(c(&["in lessEqual one"], &best), ["S0009 one"]);
    assert_eq!(c(&[], &objective("maximise", &[("out", "1")])), ["S0403 maximise"]);
    assert_eq!(c(&[], &best.replace("activeObjective=\"o\"", "activeObjective=\"p\"")), ["S0404 p"]);
    assert_eq!(c(&[], &best.replace("fbc:activeObjective=\"o\"", "")), ["S0007 fbc:listOfObjectives"]);
    let limited = reactions(&NETWORK[..1], "fbc:upperFluxBound=\"high\"");
    assert_eq!(read(&document(2, &limited)).1, ["S0402 high"]);
    let quadratic = best.replace("fbc:coefficient=\"1\"", "fbc:coefficient=\"1\" fbc:variableType=\"quadratic\"");
    assert_eq!(read(&document(3, &(reactions(&NETWORK, "") + &quadratic))).1, ["S0906 quadratic"]);
}
