//! Version 1 problems as version 2: the likelihood stays the same to rounding.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod event_support;
mod reference_data;
use event_support::reactions;
use reference_data::shared;
use std::path::Path;
use std::process::{Command, Output};

fn mixode(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).args(arguments).output().unwrap()
}

/// Log-likelihood and chi2 of a problem.
fn values(problem: &Path) -> [f64; 2] {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let run = mixode(&["evaluate", problem.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    ["llh", "chi2"].map(|k| value[k].as_f64().unwrap())
}

fn stays_the_same(problem: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v2");
    let run = mixode(&["convert", problem.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for (old, new) in values(problem).into_iter().zip(values(&out)) {
        assert!((old - new).abs() <= 1e-12 * (1.0 + old.abs()), "{}: {old} and {new}", problem.display());
    }
}

/// Log10 noise, a constant that only the pre-equilibration changes, an override that a condition sets, one that is a constant of the
/// model, and a measurement at infinity.
fn write(folder: &Path, xml: &str) {
    let tabs = |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join("\t") + "\n").collect::<String>();
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    put("model.xml", xml);
    put(
        "problem.yaml",
        "format_version: 1\nparameter_file: p.tsv\nproblems:\n- {sbml_files: [model.xml], condition_files: [c.tsv], observable_files: [o.tsv], \
         measurement_files: [m.tsv]}\n",
    );
    put(
        "p.tsv",
        &tabs(
            "parameterId parameterScale lowerBound upperBound nominalValue estimate\nk1 log10 1e-3 1e3 0.5 1\nfast lin 0 10 2.5 1\nsd lin 0 1 0.07 1",
        ),
    );
    put("c.tsv", &tabs("conditionId k2 light A shift\nrest fast 0.3 2 1\non 0.8 NaN 1.5 fast\nalone 1.1 0.4 k3 3"));
    put(
        "o.tsv",
        &tabs(
            "observableId observableFormula noiseFormula observableTransformation noiseDistribution\n\
             b observableParameter1_b*B*light+0.1 noiseParameter1_b log10 normal\na A 0.2 log10 laplace",
        ),
    );
    put(
        "m.tsv",
        &tabs(
            "observableId preequilibrationConditionId simulationConditionId time measurement observableParameters noiseParameters datasetId\n\
             b rest on 0 1.2 shift sd one\nb rest on 2 1.1 k3 0.1 two\na rest on inf 0.9 NaN NaN three\nb NaN alone 1 0.8 2 sd four\na NaN alone 3 0.5 NaN NaN five",
        ),
    );
}

fn model() -> String {
    reactions(&[("A", "1"), ("B", "0.5")], &["k1", "k2", "k3", "light"], &[(false, &["A"], &["B"], "V*(k1*light*A - k2*B)")])
}

#[test]
fn forms_that_differ_between_the_versions() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &model());
    stays_the_same(folder.path());
}

/// What version 2 cannot say is refused with its place, and nothing is written.
#[test]
fn what_cannot_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let assigned =
        "<initialAssignment symbol=\"k3\"><math xmlns=\"http://www.w3.org/1998/Math/MathML\"><ci>light</ci></math></initialAssignment>";
    write(folder.path(), &model().replace("</listOfInitialAssignments>", &format!("{assigned}</listOfInitialAssignments>")));
    let out = folder.path().join("v2");
    let run = mixode(&["convert", folder.path().to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(77));
    let message = String::from_utf8_lossy(&run.stderr).to_string();
    assert!(message.contains("`k3`, which depends on conditions, after a pre-equilibration") && message.contains("c.tsv:"), "{message}");
    assert!(!out.exists());
}

#[test]
fn benchmark_problems() {
    let Some(folder) = shared("suites/benchmarks") else { return };
    for name in [
        "Boehm_JProteomeRes2014",
        "Brannmark_JBC2010",
        "Perelson_Science1996",
        "Zheng_PNAS2012",
        "Blasi_CellSystems2016",
        "Borghans_BiophysChem1997",
    ] {
        stays_the_same(&folder.join(name).join(format!("{name}.yaml")));
    }
}
