//! The command `simulate` on SBML files: what it writes, and that wrong usage is found before anything is written.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

/// x decays with rate k; the reaction R moves A to B in compartment c.
const MODEL: &str = r#"<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">
  <model id="two">
    <listOfCompartments><compartment id="c" size="2" spatialDimensions="3" constant="true"/></listOfCompartments>
    <listOfSpecies>
      <species id="A" compartment="c" initialAmount="4" hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/>
      <species id="B" compartment="c" initialAmount="0" hasOnlySubstanceUnits="false" boundaryCondition="false" constant="false"/>
    </listOfSpecies>
    <listOfParameters><parameter id="k" value="0.5" constant="true"/></listOfParameters>
    <listOfReactions>
      <reaction id="R" reversible="false" fast="false">
        <listOfReactants><speciesReference species="A" stoichiometry="1" constant="true"/></listOfReactants>
        <listOfProducts><speciesReference species="B" stoichiometry="1" constant="true"/></listOfProducts>
        <kineticLaw><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/><ci>c</ci><ci>k</ci><ci>A</ci></apply></math></kineticLaw>
      </reaction>
    </listOfReactions>
  </model>
</sbml>
"#;

const RULE: &str = r#"<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" level="3" version="1">
  <model>
    <listOfParameters><parameter id="k" value="1" constant="true"/><parameter id="x" value="2" constant="false"/></listOfParameters>
    <listOfRules><rateRule variable="x"><math xmlns="http://www.w3.org/1998/Math/MathML"><apply><minus/><ci>x</ci></apply></math></rateRule></listOfRules>
  </model>
</sbml>
"#;

fn simulate(folder: &Path, arguments: &[&str]) -> Output {
    for (name, text) in [("two.xml", MODEL), ("rule.xml", RULE)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_mixode")).current_dir(folder).arg("simulate").args(arguments).output().unwrap()
}

fn header(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("").to_owned()
}

#[test]
fn variables_of_a_time_course() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(header(&simulate(folder.path(), &["two.xml"])), "time,A,B");
    assert_eq!(header(&simulate(folder.path(), &["two.xml", "--all"])), "time,A,B,c,k,R");
    assert_eq!(header(&simulate(folder.path(), &["two.xml", "--variables", "R,A", "--seed", "7"])), "time,R,A");
    assert_eq!(header(&simulate(folder.path(), &["rule.xml"])), "time,x");
    let output = simulate(folder.path(), &["two.xml", "--variables", "A", "--amounts", "A", "--duration", "1", "--steps", "2"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().nth(1).unwrap(), "0,4e0");
}

#[test]
fn files_of_a_time_course() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, html, json, csv) =
        (folder.path().join("a.svg"), folder.path().join("a.html"), folder.path().join("t.json"), folder.path().join("a.csv"));
    let output = simulate(folder.path(), &["two.xml", "-o", "a.csv", "--plot", "a.svg", "--timings", "t.json", "--log"]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(std::fs::read_to_string(csv).unwrap().starts_with("time,A,B\n0,2e0,0e0\n"));
    let picture = std::fs::read_to_string(svg).unwrap();
    let document = roxmltree::Document::parse(&picture).unwrap();
    let texts: Vec<_> =
        document.descendants().filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "text"))).filter_map(|n| n.text()).collect();
    for wanted in ["two", "time", "concentration", "A", "B"] {
        assert!(texts.contains(&wanted), "{wanted} is not in {texts:?}");
    }
    let timings: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    for key in ["load", "read", "build", "compile", "simulate"] {
        assert!(timings[key].as_f64().unwrap() >= 0.0);
    }
    assert!(simulate(folder.path(), &["rule.xml", "--plot", "a.html"]).status.success());
    assert!(std::fs::read_to_string(html).unwrap().contains("<svg"));
    let left_over =
        std::fs::read_dir(folder.path()).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(left_over.count(), 0);
}

#[test]
fn wrong_usage_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder.csv")).unwrap();
    std::fs::write(folder.path().join("old.csv"), "old").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["two.xml", "--plot", "a.gif"], 2, ".svg"),
        (&["two.xml", "--plot", "a.png"], 2, "PNG"),
        (&["two.xml", "--plot", "missing/a.svg"], 5, "missing"),
        (&["two.xml", "-o", "missing/a.csv"], 5, "there is no folder missing"),
        (&["two.xml", "-o", "folder.csv"], 5, "is a folder"),
        (&["two.xml", "-o", "old.csv", "--variables", "a"], 1, "did you mean `A`?"),
        (&["two.xml", "-o", "old.csv", "--amounts", "Z"], 1, "`Z`"),
        (&["two.xml", "-o", "old.csv", "--duration", "long"], 2, "`long`"),
        (&["two.xml", "-o", "old.csv", "--duration", "-1"], 2, "negative"),
        (&["two.xml", "-o", "old.csv", "--duration", "inf"], 2, "inf"),
        (&["two.xml", "-o", "old.csv", "--steps", "-3"], 2, "--steps"),
        (&["two.xml", "-o", "old.csv", "--steps", "1e300"], 2, "--steps"),
        (&["two.xml", "-o", "old.csv", "--start", "NaN"], 2, "--start"),
        (&["two.xml", "-o", "old.csv", "--rtol", "0"], 2, "--rtol"),
        (&["two.xml", "-o", "old.csv", "--duration", ""], 1, "no active objective"),
        (&["two.xml", "-o", "old.csv", "--parameters", "p.tsv"], 2, "--parameters"),
        (&["two.xml", "--log"], 2, "--plot"),
        (&["two.xml", "--all", "--variables", "A"], 2, "--all"),
        (&["problem.yaml", "--plot", "a.svg"], 2, "--plot"),
        (&[".", "--all"], 2, "--all"),
    ];
    for (arguments, status, message) in cases {
        let output = simulate(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("old.csv")).unwrap(), "old");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["folder.csv", "old.csv", "rule.xml", "two.xml"]);
}
