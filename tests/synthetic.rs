//! Synthetic data: what is drawn has the distribution that the likelihood claims, in the design of the data that were there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Random effects move k1, so that much has a closed form: the event `crossed` happens at 1 / k1.
const FILES: [(&str, &str); 8] = [
    (
        "problem.yaml",
        "format_version: 2.0.0\nid: every_type\nparameter_files: [tables/parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
         observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv, '../outside/more.tsv']\nextensions:\n  nlme:\n    version: 0.1.0\n    required: true\n    \
         hyperparameter_files: [hyperparameters.tsv]\n    random_effect_files: [effects.tsv]\n    covariance_files: [covariance.tsv]\n    event_files: [events.tsv]\n",
    ),
    (
        "observables.tsv",
        "observableId\tobservableFormula\tnoiseFormula\tnoiseDistribution\nrate\tk1\tsigma\tlog-normal\nflat\tscale\t0.3\tlaplace\namount\tB\t0.03\tnormal\n\
         crossing\ttime\t0.05\tnormal\nlimited\tk1\t0.1\tnormal\n",
    ),
    (
        "tables/parameters.tsv",
        "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nk1\t0.01\t100\t0.60\ttrue\nk2\t0.01\t100\t0.2\ttrue\nscale\t0.1\t100\t2.5\ttrue\nsigma\t0.01\t1\t0.2\ttrue\n",
    ),
    ("hyperparameters.tsv", "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\nomega\t0.01\t2\t0.3\ttrue\n"),
    ("effects.tsv", "randomEffectId\ttargetId\ttransformation\tlevel\tdistribution\nb\tk1\tlog\tindividual\tnormal\n"),
    ("covariance.tsv", "rowId\tcolId\tkind\tvalue\nb\tb\tsd\tomega\n"),
    ("events.tsv", "eventId\ttriggerFormula\tdirection\toccurrence\ncrossed\tk1*time - 1\tup\tfirst\n"),
    (
        "measurements.tsv",
        "observableId\texperimentId\tmeasurement\ttime\tdataType\tindividualId\teventId\tcensoring\tmeasurementUpper\n\
         rate\t\t0.5\t1\ttrajectory\tone\t\t\t\nflat\t\t2.4\t2\ttrajectory\tone\t\t\t\ncrossing\t\t2.0\t2.0\ttime_to_event\tone\tcrossed\tright\t\n\
         crossing\t\t1.0\t1.0\ttime_to_event\ttwo\tcrossed\tinterval\t1.5\nlimited\t\t0.4\t4\ttrajectory\ttwo\t\tleft\t\namount\t\t0.5\t3\t\t\t\t\t\n",
    ),
];

const MORE: &str = "observableId\texperimentId\tmeasurement\ttime\tdataType\teventId\tcensoring\tmeasurementUpper\tstatistic\tsampleSize\tstatisticSd\n\
    amount\t\t0.4\t1\tsnapshot\t\tinterval\t0.5\t\t300\t\namount\t\t0.3\t1\tsnapshot\t\tinterval\t0.4\t\t700\t\namount\t\t0.6\t2\tsnapshot\t\t\t\t\t\t\n\
    amount\t\t0.6\t2\tbulk\t\t\t\t\t\t\namount\t\t0.01\t2\tsnapshot_statistic\t\t\t\tvariance\t4000\t\nrate\t\t0.09\t2\tsnapshot_statistic\t\t\t\tlog_variance\t4000\t\n\
    crossing\t\t0.4\t1.5\tbulk\tcrossed\t\t\tfraction_event\t5000\t\namount\t\t0.02\t2\tsnapshot_statistic\t\t\t\tvariance\t100\t0.5\n";

fn write_problem(folder: &Path) {
    let problem = folder.join("problem");
    std::fs::create_dir_all(problem.join("tables")).unwrap();
    std::fs::create_dir_all(folder.join("outside")).unwrap();
    for (name, text) in FILES {
        std::fs::write(problem.join(name), text).unwrap();
    }
    std::fs::write(folder.join("outside/more.tsv"), MORE).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("petab_problems/conversion_cells/model.xml");
    std::fs::copy(model, problem.join("model.xml")).unwrap();
}

fn mixode(folder: &Path, arguments: &[&str], threads: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixode")).current_dir(folder).env("RAYON_NUM_THREADS", threads).args(arguments).output().unwrap()
}

fn simulate(folder: &Path, to: &str, options: &[&str]) -> PathBuf {
    let arguments = [&["simulate", "problem", "-o", to], options].concat();
    let output = mixode(folder, &arguments, "2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let check = mixode(folder, &["check", to], "2");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    folder.join(to)
}

/// Rows of a table by the names of its columns.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(path).unwrap();
    let names = reader.headers().unwrap().clone();
    reader.records().map(|r| names.iter().map(str::to_string).zip(r.unwrap().iter().map(str::to_string)).collect()).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("`{}` in column {column} of {row:?}", row[column]))
}

fn of<'a>(rows: &'a [BTreeMap<String, String>], column: &str, value: &str) -> Vec<&'a BTreeMap<String, String>> {
    rows.iter().filter(|r| r[column] == value).collect()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn variance(x: &[f64]) -> f64 {
    let m = mean(x);
    x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / x.len() as f64
}

/// Fails unless `found` is within four of its standard errors of `expected`.
fn near(what: &str, found: f64, expected: f64, standard_error: f64) {
    assert!((found - expected).abs() < 4.0 * standard_error, "{what} is {found}, expected {expected} +- {standard_error}");
}

#[test]
fn data_keep_their_design() {
    let folder = tempfile::tempdir().unwrap();
    write_problem(folder.path());
    let new = simulate(folder.path(), "new", &["--noise", "--seed", "3"]);
    let (old, drawn) = (rows(&folder.path().join("problem/measurements.tsv")), rows(&new.join("measurements.tsv")));
    assert_eq!(old.len(), drawn.len());
    for (old, new) in old.iter().zip(&drawn) {
        for column in ["observableId", "experimentId", "dataType", "individualId", "eventId"] {
            assert_eq!(old[column], new[column]);
        }
        assert!(old["measurement"] != new["measurement"] || new["censoring"] != "", "{new:?}");
        if new["dataType"] == "time_to_event" {
            assert_eq!(new["time"], new["measurement"]);
        }
    }
    // A file outside of the folder comes into it, and the other names stay.
    assert!(new.join("more.tsv").is_file() && new.join("tables/parameters.tsv").is_file());
    assert!(std::fs::read_to_string(new.join("tables/parameters.tsv")).unwrap().contains("\t0.60\t"));
    assert_eq!(rows(&new.join("truth.tsv")).len(), 5);
    // The data depend on the seed and not on the number of threads.
    let read = |folder: &Path| ["measurements.tsv", "more.tsv"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    let again = mixode(folder.path(), &["simulate", "problem", "-o", "again", "--noise", "--seed", "3"], "1");
    assert!(again.status.success());
    assert_eq!(read(&new), read(&folder.path().join("again")));
    assert_ne!(read(&new), read(&simulate(folder.path(), "other", &["--noise", "--seed", "4"])));
}

#[test]
fn values_without_noise() {
    let folder = tempfile::tempdir().unwrap();
    write_problem(folder.path());
    std::fs::write(folder.path().join("p.tsv"), "parameterId\tvalue\nscale\t3.5\n").unwrap();
    let new = simulate(folder.path(), "new", &["--population", "5", "--parameters", "p.tsv"]);
    let drawn = rows(&new.join("measurements.tsv"));
    let individuals: Vec<&str> = drawn.iter().map(|r| r["individualId"].as_str()).collect();
    let expected =
        ["", "c0001", "c0001", "c0001", "c0002", "c0002", "c0003", "c0003", "c0003", "c0004", "c0004", "c0005", "c0005", "c0005"];
    assert_eq!(individuals, expected);
    for i in [1, 6, 11] {
        // A scale that is the same for all, the rate of the individual, and the event that follows from it.
        assert_eq!(number(&drawn[i + 1], "measurement"), 3.5);
        let (time, reported) = (1.0 / number(&drawn[i], "measurement"), &drawn[i + 2]);
        assert_eq!(reported["censoring"], if time > 2.0 { "right" } else { "" });
        assert!((number(reported, "measurement") - time.min(2.0)).abs() < 1e-8);
    }
    assert!(std::fs::read_to_string(new.join("tables/parameters.tsv")).unwrap().contains("scale\t0.1\t100\t3.5\t"));
    // The population's statistics are those of the likelihood.
    let output = mixode(folder.path(), &["simulate", "problem", "--parameters", "p.tsv"], "2");
    let text = String::from_utf8(output.stdout).unwrap();
    std::fs::write(folder.path().join("table.tsv"), &text).unwrap();
    let statistics = |all: Vec<BTreeMap<String, String>>, column: &str| -> Vec<f64> {
        all.iter().filter(|r| r["statistic"] != "" || r["dataType"] == "bulk").map(|r| number(r, column)).collect()
    };
    let (table, more) = (rows(&folder.path().join("table.tsv")), rows(&new.join("more.tsv")));
    assert_eq!(statistics(table, "simulation"), statistics(more, "measurement"));
}

#[test]
fn individuals_have_the_claimed_distribution() {
    let folder = tempfile::tempdir().unwrap();
    write_problem(folder.path());
    let n = 4000;
    let new = simulate(folder.path(), "new", &["--noise", "--population", &(2 * n).to_string()]);
    let drawn = rows(&new.join("measurements.tsv"));
    let root = f64::from(n).sqrt();
    // log k1 has the standard deviation 0.3, its noise 0.2.
    let logs: Vec<f64> = of(&drawn, "observableId", "rate").iter().map(|r| number(r, "measurement").ln()).collect();
    assert_eq!(logs.len(), n as usize);
    near("the mean of log k1", mean(&logs), 0.6f64.ln(), 0.13f64.sqrt() / root);
    near("the variance of log k1", variance(&logs), 0.13, 0.13 * 2f64.sqrt() / root);
    // The mean deviation of the Laplace distribution is its scale, and so is the standard deviation of that.
    let deviations: Vec<f64> = of(&drawn, "observableId", "flat").iter().map(|r| (number(r, "measurement") - 2.5).abs()).collect();
    near("the Laplace scale", mean(&deviations), 0.3, 0.3 / root);
    // Censored at 2: k1 below 0.5, which is 0.6077 standard deviations below the median. With the noise of the time, 0.2717 becomes 0.2727.
    let events = of(&drawn, "observableId", "crossing");
    let watched: Vec<_> =
        events.iter().filter(|r| r["measurementUpper"].is_empty() && number(r, "measurement") <= 2.0 && r["censoring"] != "left").collect();
    let late = watched.iter().filter(|r| r["censoring"] == "right" && number(r, "measurement") == 2.0).count();
    near("the fraction of late events", late as f64 / f64::from(n), 0.2727, 0.445 / root);
    assert!(watched.iter().filter(|r| r["censoring"].is_empty()).all(|r| number(r, "measurement") < 2.0));
    // Inspections every half, until the last row of the individual at 4.
    let inspected: Vec<_> = events.iter().filter(|r| r["censoring"] == "interval").collect();
    assert!(
        inspected.iter().all(|r| number(r, "measurement") % 0.5 == 0.0 && number(r, "measurementUpper") - number(r, "measurement") == 0.5)
    );
    assert!(inspected.iter().any(|r| number(r, "measurement") == 2.5) && inspected.iter().all(|r| number(r, "measurementUpper") <= 4.0));
    // Nothing is seen below the limit of 0.4; the probability by numerical integration over z in 0.6 exp(0.3 z) + 0.1 e.
    let limited = of(&drawn, "observableId", "limited");
    let below = limited.iter().filter(|r| r["censoring"] == "left").count();
    assert!(limited.iter().all(|r| if r["censoring"] == "left" {
        number(r, "measurement") == 0.4
    } else {
        number(r, "measurement") >= 0.4
    }));
    near("the fraction below the limit", below as f64 / f64::from(n), 0.1337, 0.341 / root);
}

#[test]
fn population_rows_have_the_claimed_distribution() {
    let folder = tempfile::tempdir().unwrap();
    write_problem(folder.path());
    let output = mixode(folder.path(), &["simulate", "problem"], "2");
    std::fs::write(folder.path().join("table.tsv"), output.stdout).unwrap();
    let expected = rows(&folder.path().join("table.tsv"));
    let expected = |name: &str, size: &str| {
        let row = expected.iter().find(|r| r["statistic"] == name && r["sampleSize"] == size).unwrap();
        number(row, "simulation")
    };
    let drawn = rows(&simulate(folder.path(), "new", &["--noise"]).join("more.tsv"));
    let found = |name: &str, size: &str| {
        let row = drawn.iter().find(|r| r["statistic"] == name && r["sampleSize"] == size).unwrap();
        number(row, "measurement")
    };
    for (name, size) in [("variance", "4000"), ("log_variance", "4000")] {
        // The relative standard error of a variance, somewhat larger than that of a normal distribution.
        near(name, found(name, size), expected(name, size), expected(name, size) * (3.0f64 / 4000.0).sqrt());
    }
    near("log_variance", expected("log_variance", "4000"), 0.13, 1e-6);
    let p = expected("fraction_event", "5000");
    near("fraction_event", found("fraction_event", "5000"), p, (p * (1.0 - p) / 5000.0).sqrt());
    assert_eq!(found("fraction_event", "5000") * 5000.0 % 1.0, 0.0);
    // A stated standard deviation comes before the sampling error: 0.5, where a variance of B has an error of 0.01.
    let far = (found("variance", "100") - expected("variance", "100")).abs();
    assert!(far > 0.02 && far < 2.0, "{far}");
    // The histogram has its 1000 cells, the bins it had, and what lies beside them.
    let bins: Vec<_> = drawn.iter().filter(|r| r["dataType"] == "snapshot" && r["time"] == "1").collect();
    assert_eq!(bins.iter().map(|r| number(r, "sampleSize")).sum::<f64>(), 1000.0);
    let at: Vec<(&str, f64)> = bins.iter().map(|r| (r["censoring"].as_str(), number(r, "measurement"))).collect();
    assert!(at.iter().all(|b| [("left", 0.3), ("interval", 0.3), ("interval", 0.4), ("right", 0.5)].contains(b)), "{at:?}");
    assert_eq!(at.len(), 4, "{at:?}");
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("petab_problems/conversion");
    let plain = plain.to_str().unwrap();
    let status = |arguments: &[&str]| mixode(folder.path(), arguments, "2").status.code().unwrap();
    assert_eq!(status(&["simulate", plain, "--population", "3", "-o", "new"]), 2);
    assert_eq!(status(&["simulate", plain, "--noise"]), 2);
    assert_eq!(status(&["simulate", plain, "--noise", "-o", "."]), 5);
    assert_eq!(status(&["simulate", &format!("{plain}/model.xml"), "--noise", "-o", "new"]), 2);
    assert!(!folder.path().join("new").exists());
    assert_eq!(status(&["simulate", plain, "--noise", "-o", "new"]), 0);
}
