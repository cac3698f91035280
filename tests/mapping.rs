//! Aliases of the mapping table: the problem means the same as without them.
#![allow(clippy::unwrap_used)]

mod event_support;
use event_support::reactions;
use std::path::Path;
use std::process::Command;

/// Writes a problem whose tables call the model's `k1` and `A` by these names, and evaluates it.
fn evaluated(folder: &Path, k1: &str, a: &str, mapping: &str) -> Result<serde_json::Value, String> {
    let put = |name: &str, text: &str| {
        let tabs = |l: &str| l.split_whitespace().collect::<Vec<_>>().join("\t") + "\n";
        let text = if name.ends_with(".tsv") { text.lines().map(tabs).collect() } else { text.to_string() };
        std::fs::write(folder.join(name), text).unwrap();
    };
    put("model.xml", &reactions(&[("A", "1"), ("B", "0")], &["k1", "k2"], &[(false, &["A"], &["B"], "V*(k1*A - k2*B)")]));
    put(
        "problem.yaml",
        "format_version: 2.0.0\nparameter_files: [p.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\nobservable_files: [o.tsv]\n\
         measurement_files: [m.tsv]\ncondition_files: [c.tsv]\nexperiment_files: [e.tsv]\nmapping_files: [map.tsv]\n",
    );
    put("p.tsv", &format!("parameterId lowerBound upperBound nominalValue estimate\n{k1} 0 10 0.7 true"));
    put("c.tsv", &format!("conditionId targetId targetValue\nstart {a} 2\nlater {a} 2*{a}+{k1}"));
    put("e.tsv", "experimentId time conditionId\ne 0 start\ne 1 later");
    put("o.tsv", &format!("observableId observableFormula noiseFormula\no {a}+B*{k1} 0.1"));
    put("m.tsv", "observableId experimentId time measurement\no e 0.5 1\no e 3 2");
    std::fs::write(folder.join("map.tsv"), mapping).unwrap();
    let json = folder.join("out.json");
    let run = Command::new(env!("CARGO_BIN_EXE_mixode"))
        .args(["evaluate", folder.to_str().unwrap(), "--gradient", "forward", "--json", json.to_str().unwrap()])
        .output()
        .unwrap();
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned());
    }
    Ok(serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap())
}

const HEAD: &str = "petabEntityId\tmodelEntityId\tname\n";

#[test]
fn aliases_mean_the_entities() {
    let folder = tempfile::tempdir().unwrap();
    let plain = evaluated(folder.path(), "k1", "A", &format!("{HEAD}start\t\ta note\nk1\tk1\tsame\n")).unwrap();
    let aliased = evaluated(folder.path(), "rate", "substrate", &format!("{HEAD}rate\tk1\t\nsubstrate\tA\t\n")).unwrap();
    assert_eq!(plain["llh"], aliased["llh"]);
    assert_eq!(plain["gradient"]["k1"], aliased["gradient"]["rate"]);
}

/// An alias of nothing, and one that is no new name.
#[test]
fn wrong_aliases() {
    let folder = tempfile::tempdir().unwrap();
    let message = evaluated(folder.path(), "rate", "A", &format!("{HEAD}rate\tk_1\t\n")).unwrap_err();
    assert!(message.contains("M0208") && message.contains("map.tsv:2:6") && message.contains("`k1`"), "{message}");
    let message = evaluated(folder.path(), "k1", "A", &format!("{HEAD}k2\tk1\t\n")).unwrap_err();
    assert!(message.contains("M0209") && message.contains("map.tsv:2:4"), "{message}");
}
