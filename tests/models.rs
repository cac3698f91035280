//! Problems of several models: each model's part counts as a problem of its own would.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn mixode(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).args(arguments).output().unwrap()
}

fn model(id: &str, species: &str, rate: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version2/core" level="3" version="2"><model id="{id}">
<listOfCompartments><compartment id="cell" size="1" constant="true" spatialDimensions="3"/></listOfCompartments>
<listOfSpecies><species id="{species}" compartment="cell" initialConcentration="1" hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/></listOfSpecies>
<listOfParameters><parameter id="k" value="0.5" constant="true"/><parameter id="dose" value="1" constant="true"/></listOfParameters>
<listOfReactions><reaction id="loss" reversible="false"><listOfReactants><speciesReference species="{species}" stoichiometry="1" constant="true"/></listOfReactants>
<kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>k</ci>{rate}<ci>{species}</ci></apply></math></kineticLaw></reaction></listOfReactions>
</model></sbml>"#
    )
}

fn tabs(text: &str) -> String {
    text.lines().map(|l| l.trim().split_whitespace().map(|c| if c == "." { "" } else { c }).collect::<Vec<_>>().join("\t") + "\n").collect()
}

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

const PARAMETERS_V2: &str =
    "parameterId lowerBound upperBound nominalValue estimate\nk 1e-3 1e3 0.7 true\nsd_a 1e-3 10 0.1 true\nsd_b 1e-3 10 0.2 true";
const A: [&str; 3] = ["a_obs . 1 0.6 fast", "a_obs . 2 0.3 fast", "a_obs high 1 0.2 fast"];
const B: [&str; 2] = ["b_obs . 1 0.5 slow", "b_obs high 3 0.4 slow"];

/// A version 2 problem of the given models and rows.
fn version_2(folder: &Path, models: &[&str], rows: &[&str]) {
    put(folder, "fast.xml", &model("fast", "A", "<ci>dose</ci>"));
    put(folder, "slow.xml", &model("slow", "B", "<cn>0.3</cn>"));
    let files: String = models.iter().map(|m| format!("  {m}: {{location: {m}.xml, language: sbml}}\n")).collect();
    put(
        folder,
        "problem.yaml",
        &format!(
            "format_version: 2.0.0\nparameter_files: [p.tsv]\nmodel_files:\n{files}observable_files: [o.tsv]\nmeasurement_files: [m.tsv]\n\
             condition_files: [c.tsv]\nexperiment_files: [e.tsv]\n"
        ),
    );
    put(folder, "p.tsv", &tabs(PARAMETERS_V2));
    // Neither observable is valid in the other model.
    let used: Vec<&str> = [("fast", "a_obs 2*A sd_a normal"), ("slow", "b_obs B+0.1 sd_b*(1+B) normal")]
        .iter()
        .filter(|(m, _)| models.contains(m))
        .map(|(_, o)| *o)
        .collect();
    put(folder, "o.tsv", &tabs(&format!("observableId observableFormula noiseFormula noiseDistribution\n{}", used.join("\n"))));
    put(folder, "c.tsv", &tabs("conditionId targetId targetValue\nstrong dose 3"));
    put(folder, "e.tsv", &tabs("experimentId time conditionId\nhigh 0 strong"));
    put(folder, "m.tsv", &tabs(&format!("observableId experimentId time measurement modelId\n{}", rows.join("\n"))));
}

fn evaluate(problem: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let run = mixode(&["evaluate", problem.to_str().unwrap(), "--gradient", "forward", "--json", json.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-11 * (1.0 + a.abs()), "{a} and {b}");
}

fn is_the_sum(whole: &Value, parts: &[Value]) {
    let sum = |path: &dyn Fn(&Value) -> f64| parts.iter().map(path).sum::<f64>();
    close(whole["llh"].as_f64().unwrap(), sum(&|p| p["llh"].as_f64().unwrap()));
    close(whole["chi2"].as_f64().unwrap(), sum(&|p| p["chi2"].as_f64().unwrap()));
    for k in ["k", "sd_a", "sd_b"] {
        close(whole["gradient"][k].as_f64().unwrap(), sum(&|p| p["gradient"][k].as_f64().unwrap_or(0.0)));
    }
}

#[test]
fn version_2_models_add_up() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [whole, a, b] = [0, 1, 2].map(|i| folders[i].path());
    // Rows of both models mixed.
    version_2(whole, &["fast", "slow"], &[A[0], B[0], A[1], B[1], A[2]]);
    version_2(a, &["fast"], &A);
    version_2(b, &["slow"], &B);
    is_the_sum(&evaluate(whole), &[evaluate(a), evaluate(b)]);

    // Simulations stand beside their rows.
    let simulate = |folder: &Path| -> Vec<String> {
        let run = mixode(&["simulate", folder.to_str().unwrap()]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap().lines().skip(1).map(str::to_string).collect()
    };
    let (all, first, second) = (simulate(whole), simulate(a), simulate(b));
    assert_eq!(all, [&first[0], &second[0], &first[1], &second[1], &first[2]].map(String::clone));

    // The gradient is that of the value, and nothing is said of parameters that one model alone has.
    let check = mixode(&["gradient-check", whole.to_str().unwrap()]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let check = mixode(&["check", whole.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&check.stdout).contains("4 experiments, 5 measurements"), "{}", String::from_utf8_lossy(&check.stdout));
    assert!(!String::from_utf8_lossy(&check.stderr).contains("M0803"), "{}", String::from_utf8_lossy(&check.stderr));
    let describe = mixode(&["describe", whole.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&describe.stdout).into_owned();
    assert_eq!(text.matches("\nmodel ").count(), 2, "{text}");

    let out = whole.join("run");
    let fit = mixode(&["fit", whole.to_str().unwrap(), "--starts", "3", "-q", "-o", out.to_str().unwrap()]);
    assert!(fit.status.success(), "{}", String::from_utf8_lossy(&fit.stderr));
    assert_eq!(std::fs::read_to_string(out.join("simulations.tsv")).unwrap().lines().count(), 6);
}

#[test]
fn version_1_sub_problems_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put(folder, "fast.xml", &model("fast", "A", "<ci>dose</ci>"));
    put(folder, "slow.xml", &model("slow", "B", "<cn>0.3</cn>"));
    put(
        folder,
        "p.tsv",
        &tabs(
            "parameterId parameterScale lowerBound upperBound nominalValue estimate\nk log10 1e-3 1e3 0.7 1\nsd_a log10 1e-3 10 0.1 1\nsd_b log10 1e-3 10 0.2 1",
        ),
    );
    // The same names mean something else in each sub-problem.
    put(folder, "o_fast.tsv", &tabs("observableId observableFormula noiseFormula\nobs 2*A sd_a"));
    put(folder, "o_slow.tsv", &tabs("observableId observableFormula noiseFormula\nobs B+0.1 sd_b"));
    put(folder, "c_fast.tsv", &tabs("conditionId dose\nc 3"));
    put(folder, "c_slow.tsv", "conditionId\nc\n");
    put(folder, "m_fast.tsv", &tabs("observableId simulationConditionId time measurement\nobs c 1 0.2\nobs c 2 0.1"));
    put(folder, "m_slow.tsv", &tabs("observableId simulationConditionId time measurement\nobs c 1 0.5"));
    let part = |m: &str| {
        format!(
            "- {{sbml_files: [{m}.xml], condition_files: [c_{m}.tsv], observable_files: [o_{m}.tsv], measurement_files: [m_{m}.tsv]}}\n"
        )
    };
    let head = "format_version: 1\nparameter_file: p.tsv\nproblems:\n";
    put(folder, "both.yaml", &format!("{head}{}{}", part("fast"), part("slow")));
    put(folder, "fast.yaml", &format!("{head}{}", part("fast")));
    put(folder, "slow.yaml", &format!("{head}{}", part("slow")));
    let value = |name: &str| evaluate(&folder.join(name));
    is_the_sum(&value("both.yaml"), &[value("fast.yaml"), value("slow.yaml")]);

    let run = mixode(&["simulate", folder.join("both.yaml").to_str().unwrap()]);
    assert_eq!(String::from_utf8(run.stdout).unwrap().lines().count(), 4);
    let convert = mixode(&["convert", folder.join("both.yaml").to_str().unwrap(), "-o", folder.join("v2").to_str().unwrap()]);
    assert_eq!(convert.status.code(), Some(77));
    assert!(!folder.join("v2").exists());
}

#[test]
fn a_row_has_to_say_of_which_model_it_is() {
    let folder = tempfile::tempdir().unwrap();
    version_2(folder.path(), &["fast", "slow"], &["a_obs . 1 0.6 .", "b_obs . 1 0.6 slaw"]);
    let check = mixode(&["check", folder.path().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(check.status.code(), Some(1), "{text}");
    assert!(text.contains("error[P0217]: a measurement names no model, but the problem has several"), "{text}");
    assert!(text.contains("error[P0214]: measurement refers to an undefined model `slaw`") && text.contains("`slow`"), "{text}");
}

#[test]
fn an_alias_belongs_to_the_models_that_have_its_entity() {
    // An entity of the first model, of the second, and of none, which stays an error.
    for (entity, formula, status) in [("A", "2*A", 0), ("B", "B+0.1", 0), ("nothing", "B+0.1", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        version_2(folder, &["fast", "slow"], &[A[0], B[0], A[1], B[1], A[2]]);
        let expected = evaluate(folder);
        put(folder, "map.tsv", &tabs(&format!("petabEntityId modelEntityId\nalias {entity}")));
        let edit = |name: &str, change: &dyn Fn(String) -> String| {
            put(folder, name, &change(std::fs::read_to_string(folder.join(name)).unwrap()));
        };
        edit("problem.yaml", &|text| text + "mapping_files: [map.tsv]\n");
        if status == 0 {
            edit("o.tsv", &|text| text.replace(formula, &formula.replace(entity, "alias")).replace(&format!("(1+{entity})"), "(1+alias)"));
            close(evaluate(folder)["llh"].as_f64().unwrap(), expected["llh"].as_f64().unwrap());
        }
        let check = mixode(&["check", folder.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(status), "{entity}: {text}");
        assert_eq!(text.matches("error[M0208]").count(), status as usize, "{entity}: {text}");
    }
}
