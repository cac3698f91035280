//! Reading PEtab problems: the official test suites, the benchmark collection, the published NLME problems, and small
//! problems written here. Where the reference data are not there, what is left out is printed.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use mixode::diag::{Diagnostics, Severity};
use mixode::petab::{self, Problem};
use std::path::{Path, PathBuf};

/// The folder of reference data, or `None` with a visible note.
fn shared(part: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("MIXODE_SHARED").map(PathBuf::from).unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join(part);
    if !path.exists() {
        eprintln!("left out: {} is not there (set MIXODE_SHARED)", path.display());
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> (Option<Problem>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let problem = petab::read(path, &mut diagnostics);
    (problem, diagnostics)
}

/// All problem files in the folders of `root`, sorted.
fn problem_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml") && !p.to_string_lossy().ends_with("_solution.yaml"))
        .collect();
    files.sort();
    files
}

/// A problem file and the codes of its errors.
type Failure = (String, Vec<&'static str>);

/// Reads all problems below `part`; returns their number and those that gave errors.
fn failures(part: &str) -> Option<(usize, Vec<Failure>)> {
    let root = shared(part)?;
    let files = problem_files(&root);
    let mut failed = Vec::new();
    for file in &files {
        let (problem, diagnostics) = read(file);
        assert_eq!(problem.is_none(), diagnostics.has_errors(), "{}", file.display());
        if diagnostics.has_errors() {
            eprintln!("{}", diagnostics.render(false));
            let codes = diagnostics.items().iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect();
            failed.push((file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), codes));
        }
    }
    Some((files.len(), failed))
}

#[test]
fn suite_version_1() {
    let Some((count, failed)) = failures("suites/petab/v1") else { return };
    assert_eq!((count, failed), (15, vec![]));
}

#[test]
fn suite_version_2() {
    let Some((count, failed)) = failures("suites/petab/v2") else { return };
    assert_eq!((count, failed), (23, vec![]));
}

#[test]
fn suite_version_2_pysb_is_unsupported() {
    let Some((count, failed)) = failures("suites/petab/v2-pysb") else { return };
    assert_eq!(failed.len(), count);
    assert!(failed.iter().all(|(_, codes)| codes.contains(&"P0901")), "{failed:?}");
}

#[test]
fn benchmarks() {
    let Some((count, failed)) = failures("suites/benchmarks") else { return };
    assert!(count >= 26, "{count}");
    // This variant names a model file that the collection does not have under that name.
    let expected = vec![("Zhao_QuantBiol2020/petab_test_Zhao_QuantBiol2020.yaml".to_string(), vec!["P0002"])];
    assert_eq!(failed, expected);
}

#[test]
fn nlme_problems() {
    let Some((count, failed)) = failures("problems") else { return };
    assert!(count >= 10, "{count}");
    assert_eq!(failed, vec![]);
}

/// The collection's yaml of a benchmark problem (not the variants).
fn benchmark(root: &Path, name: &str) -> PathBuf {
    let own = root.join(name).join(format!("{name}.yaml"));
    if own.exists() { own } else { root.join(name) }
}

/// Counts against those that libpetab and AMICI report (table 1 of the baseline's README: est/total, cond, meas).
#[test]
fn benchmark_counts() {
    let (Some(root), Some(table)) = (shared("suites/benchmarks"), shared("baseline/README.md")) else { return };
    let text = std::fs::read_to_string(table).unwrap();
    let mut seen = 0;
    for line in text.lines().skip_while(|l| !l.starts_with("| problem | species")).skip(2).take_while(|l| l.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (estimated, total) = cells[7].split_once('/').unwrap_or_else(|| panic!("{line}"));
        let number = |text: &str| text.parse::<usize>().unwrap();
        let (problem, diagnostics) = read(&benchmark(&root, cells[1]));
        let problem = problem.unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
        let found = (problem.parameters.iter().filter(|p| p.estimate).count(), problem.parameters.len());
        assert_eq!(found, (number(estimated), number(total)), "parameters of {}", cells[1]);
        assert_eq!(problem.measurements.len(), number(cells[9]), "measurements of {}", cells[1]);
        assert_eq!(problem.experiments.len(), number(cells[8]), "conditions of {}", cells[1]);
        seen += 1;
    }
    assert_eq!(seen, 26);
}

/// A folder with these files; cells are written with `|` for the tab.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let text = if name.ends_with(".tsv") { text.replace('|', "\t") } else { text.to_string() };
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read_folder(files: &[(&str, &str)]) -> Problem {
    let (problem, diagnostics) = read(folder(files).path());
    problem.unwrap_or_else(|| panic!("{}", diagnostics.render(false)))
}

const V1: &str = "format_version: 1\nparameter_file: p.tsv\nproblems:\n- sbml_files: [m.xml]\n  condition_files: [c.tsv]\n  observable_files: [o.tsv]\n  measurement_files: [d.tsv]\n";
const V2: &str = "format_version: 2.0.0\nid: small\nparameter_files: [p.tsv]\nmodel_files: {m: {location: m.xml, language: sbml}}\ncondition_files: [c.tsv]\nexperiment_files: [e.tsv]\nobservable_files: [o.tsv]\nmeasurement_files: [d.tsv, d2.tsv]\n";
const MODEL: (&str, &str) = ("m.xml", "<sbml><parameter id=\"k\"/></sbml>");

#[test]
fn conditions_of_version_1() {
    let problem = read_folder(&[
        MODEL,
        ("problem.yaml", V1),
        (
            "p.tsv",
            "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate\na|log10|1e-3|1E3|.5|1\nb|lin||||0\n"
                .replace("lin||||0", "lin|||5.|0")
                .as_str(),
        ),
        ("c.tsv", "conditionId|conditionName|k|x\npre|before|1|0.5\nhigh||a|NaN\nlow|||\n"),
        ("o.tsv", "observableId|observableFormula|noiseFormula\no|x|1\n"),
        (
            "d.tsv",
            "observableId|preequilibrationConditionId|simulationConditionId|time|measurement\no|pre|high|0|1\no||low|inf|2\no|pre|high|3|3\no|pre|pre|3|3\n",
        ),
    ]);
    let ids: Vec<_> = problem.experiments.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["pre__high", "low", "pre__pre"]);
    assert_eq!(problem.measurements.iter().map(|m| m.experiment).collect::<Vec<_>>(), [0, 1, 0, 2]);
    let changes = |experiment: usize, period: usize| {
        let period: &petab::Period = &problem.experiments[experiment].periods[period];
        (period.time, period.changes.iter().map(|c| (c.target.as_str(), c.value.span.text())).collect::<Vec<_>>())
    };
    assert_eq!(changes(0, 0), (f64::NEG_INFINITY, vec![("k", "1"), ("x", "0.5")]));
    assert_eq!(changes(0, 1), (0.0, vec![("k", "a")]), "NaN changes nothing");
    assert_eq!(changes(1, 0), (0.0, vec![]));
    assert_eq!(problem.experiments[1].conditions, Some((None, "low".to_string())));
    assert_eq!(problem.experiments[2].periods.len(), 2, "a condition can be both");
    assert_eq!(problem.measurements[1].time, f64::INFINITY);
    let [a, b] = &problem.parameters[..] else { panic!() };
    assert_eq!((a.scale, a.lower, a.upper, a.nominal, a.estimate), (petab::Scale::Log10, 1e-3, 1e3, Some(0.5), true));
    assert_eq!((b.lower, b.upper, b.nominal, b.estimate), (f64::NEG_INFINITY, f64::INFINITY, Some(5.0), false));
}

#[test]
fn placeholders_of_version_1() {
    let many: Vec<String> = (1..=11).map(|n| format!("noiseParameter{n}_o")).collect();
    let observables = format!(
        "observableId|observableFormula|noiseFormula|observableTransformation|noiseDistribution\no|observableParameter1_o*x + noiseParameter1_other|{}|log10|laplace\n",
        many.join("+")
    );
    let values: Vec<String> = (1..=11).map(|n| n.to_string()).collect();
    let measurements = format!(
        "observableId|simulationConditionId|time|measurement|observableParameters|noiseParameters\no|c|0|1|k|{}\n",
        values.join(";")
    );
    let problem = read_folder(&[
        MODEL,
        ("problem.yaml", V1),
        ("p.tsv", "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate\nnoiseParameter1_other|lin|0|1|1|0\n"),
        ("c.tsv", "conditionId\nc\n"),
        ("o.tsv", &observables),
        ("d.tsv", &measurements),
    ]);
    let observable = &problem.observables[0];
    assert_eq!(observable.noise_placeholders, many, "in numeric, not in alphabetic order");
    assert_eq!(observable.observable_placeholders, ["observableParameter1_o"]);
    assert_eq!(observable.distribution, petab::NoiseDistribution::Log10Laplace);
    let expected: Vec<_> = (1..=11).map(|n| petab::Override::Number(n as f64)).collect();
    assert_eq!(problem.measurements[0].noise_parameters, expected);
    assert!(
        matches!(&problem.measurements[0].observable_parameters[..], [petab::Override::Id(id, span)] if id == "k" && span.text() == "k")
    );
}

fn small_v2() -> Vec<(&'static str, &'static str)> {
    vec![
        MODEL,
        ("problem.yaml", V2),
        (
            "p.tsv",
            "parameterId|lowerBound|upperBound|nominalValue|estimate|priorDistribution|priorParameters\npos|0.1|10||true|log-normal|0;1\nopen|0.1|inf|1|true||\nzero|0|10|1|true||\nfix|0.1|10|1|false||\n",
        ),
        ("c.tsv", "conditionId|targetId|targetValue\nc1|x|pos\nc2|y|2\nc3|x|x + 1\n"),
        ("e.tsv", "experimentId|time|conditionId\ne|10|c3\ne|-inf|c2\ne|0|c1\ne|0|c2\npre|-inf|c1\n"),
        ("o.tsv", "observableId|observableFormula|noiseFormula|noiseDistribution|noisePlaceholders\no|x|s|log-normal|s\nq|y|1||\n"),
        (
            "d.tsv",
            "observableId|experimentId|time|measurement|noiseParameters|comment\no|e|20|1|fix|\"a \"\"b\"\"\"\nq|pre|inf|3||\nq|e|1|nan||left out\n",
        ),
        ("d2.tsv", "time|measurement|observableId|experimentId\n0.5|1.5|q|\n"),
    ]
}

#[test]
fn experiments_of_version_2() {
    let problem = read_folder(&small_v2());
    assert_eq!(problem.name, "small");
    assert_eq!(problem.experiments.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["e", "pre", ""]);
    let times = |i: usize| problem.experiments[i].periods.iter().map(|p: &petab::Period| p.time).collect::<Vec<_>>();
    assert_eq!(times(0), [f64::NEG_INFINITY, 0.0, 10.0]);
    assert_eq!(times(1), [f64::NEG_INFINITY, 0.0], "a period at 0 follows a lone pre-equilibration");
    assert_eq!(times(2), [0.0]);
    let targets: Vec<_> = problem.experiments[0].periods[1].changes.iter().map(|c| c.target.as_str()).collect();
    assert_eq!(targets, ["x", "y"], "simultaneous conditions are united");
    assert_eq!(problem.measurements.len(), 3, "the row without a value is left out");
    assert_eq!(problem.measurements[2].experiment, 2);
    assert_eq!(problem.measurements[0].span.text(), "1");
    assert_eq!(problem.model.text(), MODEL.1);
    assert_eq!(problem.files.len(), 8);
}

#[test]
fn scales_of_version_2_follow_from_the_bounds() {
    use petab::Scale::{Lin, Log};
    let problem = read_folder(&small_v2());
    assert_eq!(problem.parameters.iter().map(|p| p.scale).collect::<Vec<_>>(), [Log, Lin, Lin, Lin]);
    let prior = problem.parameters[0].prior.as_ref().unwrap();
    assert_eq!((prior.family, &prior.parameters[..]), (petab::PriorFamily::LogNormal, &[0.0, 1.0][..]));
    assert_eq!(problem.parameters[0].nominal, None);
}

#[test]
fn simulation_tables_keep_the_rows_as_they_stand() {
    let problem = read_folder(&small_v2());
    let mut out = Vec::new();
    petab::write_simulations(&problem, &[1e-20, f64::INFINITY, 0.1], &mut out).unwrap();
    let expected = "observableId|experimentId|time|simulation|noiseParameters|comment\no|e|20|1e-20|fix|\"a \"\"b\"\"\"\nq|pre|inf|inf||\nq||0.5|0.1||\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected.replace('|', "\t"));
    assert!(petab::write_simulations(&problem, &[1.0], &mut Vec::new()).is_err(), "one value is not three");
}

/// The suite's own simulation tables, written from their values, are the suite's tables again.
#[test]
fn simulation_tables_of_the_suite() {
    for version in ["v1", "v2"] {
        let Some(root) = shared(&format!("suites/petab/{version}")) else { return };
        for file in problem_files(&root) {
            let problem = read(&file).0.unwrap();
            let table = std::fs::read_to_string(file.parent().unwrap().join("_simulations.tsv")).unwrap();
            let rows = |text: &str| -> Vec<Vec<String>> { text.lines().map(|l| l.split('\t').map(str::to_string).collect()).collect() };
            let reference = rows(&table);
            let column = |rows: &[Vec<String>], name: &str| rows[0].iter().position(|c| c == name);
            let simulation = column(&reference, "simulation").unwrap();
            let values: Vec<f64> = reference[1..].iter().map(|r| r[simulation].parse().unwrap()).collect();
            let mut out = Vec::new();
            petab::write_simulations(&problem, &values, &mut out).unwrap();
            let written = rows(std::str::from_utf8(&out).unwrap());
            assert_eq!(written.len(), reference.len());
            for name in ["observableId", "simulationConditionId", "preequilibrationConditionId", "experimentId", "observableParameters"] {
                let (Some(a), Some(b)) = (column(&written, name), column(&reference, name)) else { continue };
                (0..written.len()).for_each(|i| assert_eq!(written[i][a], reference[i][b], "{name}, {}", file.display()));
            }
            for name in ["simulation", "time"] {
                let (a, b) = (column(&written, name).unwrap(), column(&reference, name).unwrap());
                let number = |row: &[String], c: usize| row[c].parse::<f64>().unwrap();
                (1..written.len()).for_each(|i| assert_eq!(number(&written[i], a), number(&reference[i], b), "{name}, {}", file.display()));
            }
        }
    }
}

#[test]
fn the_conversion_problem_in_detail() {
    use petab::{Censoring, DataKind, PopulationStatistic, Statistic};
    let Some(root) = shared("problems/conversion_published") else { return };
    let problem = read(&root).0.unwrap();
    assert_eq!(problem.name, "conversion_published");
    assert_eq!((problem.measurements.len(), problem.experiments.len()), (286, 1));
    let nlme = problem.nlme.as_ref().unwrap();
    assert_eq!((nlme.individuals.len(), nlme.random_effects.len(), nlme.covariance.len(), nlme.events.len()), (30, 3, 3, 1));
    assert_eq!(nlme.defaults.population_integration.as_deref(), Some("gauss_hermite"));
    assert_eq!(nlme.events[0].direction, petab::Direction::Up);
    let hyper: Vec<_> = problem.parameters.iter().filter(|p| p.hyper).map(|p| p.id.as_str()).collect();
    assert_eq!(hyper, ["omega_theta1", "omega_theta2", "omega_cut"]);
    assert_eq!(
        nlme.random_effects.iter().map(|e| problem.parameters[e.target].id.as_str()).collect::<Vec<_>>(),
        ["theta1", "theta2", "x2_cut"]
    );
    let of = |want: fn(&DataKind) -> bool| problem.measurements.iter().filter(|m| want(&m.kind)).count();
    assert_eq!(of(|k| matches!(k, DataKind::Trajectory { .. })), 240);
    assert_eq!(of(|k| matches!(k, DataKind::TimeToEvent { event, .. } if event == "threshold")), 30);
    let mean = PopulationStatistic { statistic: Statistic::Mean, sample_size: None, sd: Some(petab::Override::Number(0.03)) };
    assert_eq!(problem.measurements.iter().filter(|m| m.kind == DataKind::Bulk(mean.clone())).count(), 8);
    assert_eq!(of(|k| matches!(k, DataKind::SnapshotStatistic(s) if s.statistic == Statistic::Variance && s.sample_size == Some(100))), 8);

    let censored = read(&root.join("problem_censored.yaml")).0.unwrap();
    assert_eq!(censored.measurements.iter().filter(|m| m.censoring == Censoring::Right).count(), 11);
    let (weighted, diagnostics) = read(&root.join("problem_weighted.yaml"));
    assert!(weighted.unwrap().measurements.iter().any(|m| (m.weight - 1.0 / 30.0).abs() < 1e-15));
    assert!(diagnostics.items().iter().any(|d| d.code == "P0513"));
}

#[test]
fn the_apoptosis_problem_in_detail() {
    use petab::{DataKind, Functional};
    let Some(root) = shared("problems/apoptosis_published") else { return };
    let problem = read(&root).0.unwrap();
    let nlme = problem.nlme.as_ref().unwrap();
    assert_eq!((problem.measurements.len(), nlme.individuals.len(), nlme.statistics.len()), (5478, 160, 16));
    assert_eq!(problem.parameters.iter().filter(|p| !p.hyper).count(), 24);
    assert_eq!(problem.measurements.iter().filter(|m| matches!(m.kind, DataKind::Bulk(_))).count(), 74);
    assert_eq!(nlme.defaults.population_nodes, Some(4096));
    let index = |id: &str| problem.observables.iter().position(|o| o.id == id).unwrap();
    let fraction = &nlme.statistics[0];
    let at_zero = |id: &str| Functional::Mean { observable: index(id), time: Some(0.0) };
    let mean = Functional::Mean { observable: index("wb_p55"), time: None };
    assert_eq!(fraction.functionals, [mean, at_zero("wb_p55"), at_zero("wb_p43"), at_zero("wb_p30"), at_zero("wb_p18")]);
    let mut places = Vec::new();
    fraction.formula.ast.walk(&mut |node| {
        if let mixode::expr::AstKind::Name(name) = &node.kind {
            let place = node.range.start..node.range.start + 5;
            places.push((name.clone(), fraction.formula.span.part(place).text().to_string()));
        }
    });
    let expected = ["mean(", "mean_", "mean_", "mean_", "mean_"].iter().enumerate().map(|(i, place)| (format!("_f{i}"), place.to_string()));
    assert_eq!(places, expected.collect::<Vec<_>>(), "the names stand where the functionals stood");
}

/// Tables of ten thousand rows must not be felt.
#[test]
fn large_tables_are_read_fast() {
    let mut measurements = String::from("observableId|experimentId|time|measurement|noiseParameters|dataType|individualId\n");
    for row in 0..50_000 {
        measurements.push_str(&format!("o|e|{}|{}|fix|trajectory|c{}\n", 10.0 + row as f64 / 7.0, 1.0 + row as f64 / 3.0, row / 100));
    }
    let mut files = small_v2();
    files.retain(|f| f.0 != "d.tsv" && f.0 != "problem.yaml");
    files.push(("d.tsv", &measurements));
    let extension = format!("{V2}extensions:\n  nlme: {{version: 0.1.0, required: true}}\n");
    files.push(("problem.yaml", &extension));
    let folder = folder(&files);
    let start = std::time::Instant::now();
    let (problem, diagnostics) = read(folder.path());
    let seconds = start.elapsed().as_secs_f64();
    let problem = problem.unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    assert_eq!(problem.nlme.unwrap().individuals.len(), 500);
    eprintln!("50,001 rows in {seconds:.3} s");
}

#[test]
fn a_folder_is_read_by_its_only_yaml_file() {
    let mut files = small_v2();
    files.iter_mut().filter(|f| f.0 == "problem.yaml").for_each(|f| f.0 = "model_7.yml");
    let (problem, _) = read(folder(&files).path());
    assert_eq!(problem.unwrap().experiments.len(), 3);
}

/// Whatever stands in the files, reading ends with a problem or with errors, and the errors can be drawn.
#[test]
fn mangled_files_are_no_panic() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        // Knuth's linear congruential generator; the quality does not matter here, the repeatability does.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let cases: Vec<PathBuf> = std::fs::read_dir("tests/diagnostics").unwrap().map(|e| e.unwrap().path()).collect();
    let bits =
        ["\t", "\n", "\r", "\"", ";", "", "nan", "-inf", "1e999", "\u{e9}", "\u{feff}", ":", "[", "{", "- ", "x", "0", " ", "(", "*", "|"];
    for round in 0..400 {
        let case = &cases[random(cases.len())];
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(case).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.ends_with("expected.txt")) {
            let mut text = String::from_utf8_lossy(&std::fs::read(&entry).unwrap()).into_owned();
            for _ in 0..random(4) {
                let at = (0..=random(text.len() + 1)).rev().find(|i| text.is_char_boundary(*i)).unwrap();
                let end = (at + random(4)..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
                text.replace_range(at..end, bits[random(bits.len())]);
            }
            std::fs::write(folder.path().join(entry.file_name().unwrap()), text).unwrap();
        }
        let (problem, diagnostics) = read(folder.path());
        assert_eq!(problem.is_none(), diagnostics.has_errors(), "round {round}: {}", diagnostics.render(false));
        assert!(!diagnostics.render(true).is_empty() || diagnostics.items().is_empty());
        diagnostics.concise();
        diagnostics.to_json();
    }
}

/// The parameter table with estimates: read again, it has them as nominal values, and everything else as it was.
#[test]
fn estimates_in_the_parameter_table() {
    for name in ["conversion", "conversion_cells"] {
        let folder = Path::new("petab_problems").join(name);
        let problem = petab::read(&folder, &mut Diagnostics::new()).unwrap();
        let values: Vec<f64> = problem.parameters.iter().map(|p| p.nominal.unwrap() * 1.25).collect();
        let mut out = Vec::new();
        petab::write_parameters(&problem, &values, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
        let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
        for (p, (line, value)) in problem.parameters.iter().zip(lines.by_ref().zip(&values)) {
            let cells: Vec<&str> = line.split('\t').collect();
            assert_eq!(cells[column("parameterId")], p.id);
            let expected = if p.estimate { *value } else { p.nominal.unwrap() };
            assert_eq!(cells[column("nominalValue")].parse::<f64>().unwrap(), expected, "{}", p.id);
            assert_eq!(cells[column("lowerBound")].parse::<f64>().unwrap(), p.lower, "{}", p.id);
        }
        assert_eq!(lines.next(), None);
    }
}

/// The visualization tables of the benchmark collection have nothing to warn of, and every row of them becomes a dataset.
#[test]
fn visualization_tables_of_the_benchmarks() {
    let Some(root) = shared("suites/benchmarks") else { return };
    let mut tables = 0;
    for path in problem_files(&root) {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("visualization_files") {
            continue;
        }
        let (problem, diagnostics) = read(&path);
        // One copy in the collection names a model that is not there.
        let Some(problem) = problem else { continue };
        let about = |d: &&mixode::diag::Diagnostic| d.span.as_ref().is_some_and(|s| s.source.name().contains("visualization"));
        let messages: Vec<_> = diagnostics.items().iter().filter(about).map(|d| &d.message).collect();
        assert!(messages.is_empty(), "{}: {messages:?}", path.display());
        let named: Vec<_> = problem.files.iter().filter(|f| f.path.to_string_lossy().contains("visualization")).collect();
        let rows: usize =
            named.iter().map(|f| std::fs::read_to_string(&f.path).unwrap().lines().skip(1).filter(|l| !l.trim().is_empty()).count()).sum();
        assert_eq!(problem.plots.iter().map(|p| p.datasets.len()).sum::<usize>(), rows, "{}", path.display());
        let empty = problem.plots.iter().flat_map(|p| &p.datasets).filter(|d| d.points.is_empty()).count();
        assert_eq!(empty, 0, "{}", path.display());
        tables += named.len();
    }
    assert!(tables >= 20, "{tables} tables");
}

#[test]
fn a_visualization_table_groups_measurements() {
    let problem = petab::read(Path::new("tests/diagnostics/correct_visualization"), &mut Diagnostics::new()).unwrap();
    let [times, doses] = problem.plots.as_slice() else { panic!("{:?}", problem.plots) };
    assert_eq!((times.title.as_str(), times.x_label.as_str(), times.y_label.as_str()), ("over_time", "time", "obs_B"));
    assert_eq!((times.kind, times.data, times.y_scale), (petab::PlotType::Line, petab::DataType::MeanAndSd, petab::PlotScale::Logarithmic));
    let sets: Vec<_> = times.datasets.iter().map(|d| (d.legend.as_str(), d.points.clone())).collect();
    assert_eq!(sets, [("control", vec![(0, 1.0)]), ("inhibited", vec![(1, 1.0)])]);
    assert_eq!((doses.kind, doses.x_scale), (petab::PlotType::Scatter, petab::PlotScale::Order));
    assert_eq!(doses.datasets[0].points, [(0, 0.0), (1, 2.0)], "the values of the condition table's column");
}
