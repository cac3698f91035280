//! The run directory: tables, summaries, the page and its figures.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use mixode::estimate::{Fit, Start, StopReason};
use mixode::petab::Scale;
use mixode::report::axis::{Axis, linear_ticks, log_ticks};
use mixode::report::svg::{Mark, Svg, shorten};
use mixode::report::*;

/// Numbers between -1 and 1 that look random and never change (fractional parts of multiples of the golden ratio, Weyl).
fn weyl(i: usize) -> f64 {
    2.0 * ((i as f64 + 1.0) * 0.618_033_988_749_895 % 1.0) - 1.0
}

fn start(index: usize, value: f64, stop: StopReason, n: usize) -> Start {
    let trace: Vec<f64> = (0..30).map(|i| value + 900.0 * (1.0 + 0.2 * weyl(index)) * (-0.5 * f64::from(i)).exp()).collect();
    Start {
        index,
        initial: vec![0.0; n],
        initial_value: trace[0],
        point: (0..n).map(|i| -1.0 + 0.3 * i as f64 + (value - 1204.0).min(40.0) * 0.03 * weyl(index + i)).collect(),
        value,
        gradient: vec![1e-6; n],
        gradient_norm: 2e-5,
        iterations: 29,
        evaluations: 41,
        duration: Duration::from_millis(3100),
        stop,
        trace,
    }
}

fn parameter(id: &str, scaled: f64) -> ParameterRow {
    let estimate = 10f64.powf(scaled);
    ParameterRow {
        id: id.to_owned(),
        scale: Scale::Log10,
        estimate,
        scaled,
        standard_error: Some(0.05 * estimate),
        robust_error: None,
        rse: Some(0.05),
        lower95: Some(0.7 * estimate),
        upper95: Some(1.6 * estimate),
        lower_bound: 1e-3,
        upper_bound: 1e3,
        at_bound: false,
        nominal: Some(estimate * 1.02),
    }
}

/// 20 starts, 12 cells with trajectories of 180 points, bulk data in four experiments.
fn fixture() -> RunResults {
    let ids = ["delta", "gamma", "k_m0_scale", "t0", "offset", "sigma_GFP"];
    let starts = (0..20)
        .map(|i| match i {
            3 | 11 => {
                let mut s = start(i, f64::INFINITY, StopReason::Failed("CVODES: too many steps at t = 3.2".to_owned()), 6);
                s.point.clear();
                s.trace.clear();
                s
            }
            7 => start(i, 1310.2, StopReason::Iterations, 6),
            8 => start(i, 1212.5, StopReason::Interrupted, 6),
            _ if i % 3 == 0 => start(i, 1215.0 + 60.0 * weyl(i).abs(), StopReason::Step, 6),
            _ if i % 4 == 1 => start(i, 1204.317 + 1e-3 * weyl(i).abs(), StopReason::Function, 6),
            _ => start(i, 1204.317 + 1e-5 * (i % 5) as f64, StopReason::Gradient, 6),
        })
        .collect();
    let gfp =
        |t: f64, scale: f64, delay: f64| 3.0 + scale * (1.0 - (-(t - delay).max(0.0) * 0.3).exp()) * (-(t - delay).max(0.0) * 0.05).exp();
    let mut cells = Vec::new();
    let mut series = Vec::new();
    for c in 0..12usize {
        let (a, b) = (weyl(c) * 0.5, weyl(3 * c + 1) * 0.3);
        let scale = 200.0 * f64::exp(a);
        let points = (0..180)
            .map(|k| {
                let t = k as f64 / 6.0;
                let simulation = gfp(t, scale, 1.0 + b);
                let noise = 0.06 * (weyl(180 * c + k) + weyl(7 * k + c) + weyl(13 * k + 5 * c));
                Point { t, measurement: simulation * noise.exp(), simulation, sigma: 0.06 }
            })
            .collect();
        series.push(Series {
            observable: "GFP_obs".to_owned(),
            experiment: "transfection".to_owned(),
            individual: Some(format!("cell_{c:02}")),
            kind: "trajectory".to_owned(),
            points,
            curve: (0..=200).map(|k| f64::from(k) * 0.15).map(|t| (t, gfp(t, scale, 1.0 + b))).collect(),
            log: true,
            plotted: false,
        });
        cells.push(CellRow {
            experiment: "transfection".to_owned(),
            cell: format!("cell_{c:02}"),
            ebe: vec![Some(a), if c == 5 { Some(2.0) } else { Some(b) }, None],
            posterior_sd: vec![Some(0.1), Some(0.2), None],
            parameters: vec![("k_m0_scale".to_owned(), scale), ("t0".to_owned(), 1.0 + b)],
            subpopulations: Vec::new(),
            nll: 60.0 + 20.0 * weyl(5 * c),
            status: if c == 9 { "not converged".to_owned() } else { "ok".to_owned() },
        });
    }
    for (e, dose) in ["dose 0.1 nM", "dose 1 nM", "dose 10 nM", "steady state"].into_iter().enumerate() {
        let level = 10.0 * (e + 1) as f64;
        let value = |t: f64| level * (1.0 - (-0.2 * t).exp());
        let mut points: Vec<Point> = (0..24)
            .map(|k| {
                let t = f64::from(k / 3) * 4.0;
                Point { t, measurement: value(t) + 2.0 * weyl(24 * e + k as usize), simulation: value(t), sigma: 1.2 + 0.05 * t }
            })
            .collect();
        if e == 3 {
            points.push(Point { t: f64::INFINITY, measurement: level + 0.7, simulation: level, sigma: 1.2 });
        }
        series.push(Series {
            observable: "pERK_bulk".to_owned(),
            experiment: dose.to_owned(),
            individual: None,
            kind: "bulk".to_owned(),
            points,
            curve: (0..=60).map(|k| (f64::from(k) * 0.5, value(f64::from(k) * 0.5))).collect(),
            log: false,
            plotted: false,
        });
    }
    let mut parameters: Vec<ParameterRow> = ids.iter().enumerate().map(|(i, id)| parameter(id, -1.0 + 0.3 * i as f64)).collect();
    parameters[4].at_bound = true;
    parameters[4].scaled = -3.0;
    parameters[4].estimate = 1e-3;
    parameters[4].standard_error = None;
    parameters[4].rse = None;
    parameters[4].lower95 = None;
    let effect = |id: &str, target: &str, sd, shrinkage| RandomEffectRow {
        id: id.to_owned(),
        target: target.to_owned(),
        sd,
        cv_percent: Some(100.0 * sd),
        shrinkage,
    };
    RunResults {
        info: RunInfo {
            problem: "transfection & <GFP>".to_owned(),
            version: "0.1.0".to_owned(),
            command: "mixode fit transfection --starts 20 --seed 1".to_owned(),
            seed: 1,
            threads: 2,
            inputs: vec![("problem.yaml".to_owned(), "ab".repeat(32)), ("model.xml".to_owned(), "cd".repeat(32))],
            options: serde_json::json!({ "starts": 20, "rtol": 1e-8, "atol": 1e-10 }),
            seconds: 41.3,
            warnings: vec!["gamma and delta enter symmetrically: expect two equivalent optima [E0107]".to_owned()],
            description: vec![
                ("model".to_owned(), "2 states (mRNA, GFP), 2 reactions, 0 events".to_owned()),
                ("data".to_owned(), "12 cells, 2,160 measurements of GFP_obs, 0–30 h; bulk in 4 experiments".to_owned()),
                ("cells".to_owned(), "log(k_m0_scale) = mu_k + η₁,  log(t0) = mu_t0 + η₂\nη ~ Normal(0, Ω), Ω diagonal".to_owned()),
            ],
        },
        objective: ObjectiveSummary {
            nllh: 1204.317,
            llh: -1204.317,
            log_prior: None,
            terms: vec![("trajectories".to_owned(), 1100.2), ("bulk".to_owned(), 104.117)],
            n_parameters: 6,
            n_data: 2257,
            n_individuals: 12,
            aic: 2420.634,
            bic: 2423.54,
            bic_n: "12 cells".to_owned(),
            minus2ll: 2408.634,
            method: "Laplace".to_owned(),
            standard_error: Some(0.21),
        },
        fit: Fit { starts, duration: Duration::from_secs(41) },
        parameters,
        random_effects: vec![
            effect("eta_k", "k_m0_scale", 0.3, Some(0.12)),
            effect("eta_t0", "t0", 0.2, Some(0.35)),
            effect("eta_x", "x", 0.1, None),
        ],
        effect_ids: vec!["eta_k".to_owned(), "eta_t0".to_owned(), "eta_x".to_owned()],
        cells,
        series,
        plots: Vec::new(),
        simulations_tsv: "observableId\ttime\tsimulation\n".to_owned(),
        parameters_tsv: "parameterId\tnominalValue\n".to_owned(),
        health: vec![("integrations".to_owned(), "12,480, 2 failed".to_owned()), ("gradient check".to_owned(), "1e-7".to_owned())],
    }
}

/// Writes a run and gives the page, after checking that it is well-formed, small and asks nothing of the network.
fn page(results: &RunResults) -> String {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write_run(&run, results).unwrap();
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: u32::MAX, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&html, options).unwrap_or_else(|e| panic!("not well-formed: {e}"));
    assert!(html.len() <= 2_000_000, "{} bytes", html.len());
    assert!(!html.contains("NaN NaN") && !html.contains("<script"));
    for node in document.descendants().filter(|n| n.is_element()) {
        if let Some(target) = node.attribute("href") {
            assert!(target.starts_with('#') || run.join(target).exists(), "link to nothing: {target}");
        }
        assert!(node.attribute("src").is_none());
        if let Some(data) = node.attribute("d") {
            assert!(!data.contains("NaN") && !data.contains("inf"), "{data}");
        }
    }
    html
}

fn headings(html: &str) -> Vec<String> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: u32::MAX, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(html, options).unwrap();
    document
        .descendants()
        .filter(|n| n.has_tag_name(("http://www.w3.org/1999/xhtml", "h2")))
        .map(|n| n.text().unwrap().to_owned())
        .collect()
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    fs::read_to_string(path).unwrap().lines().map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
    ticks.into_iter().map(|t| t.1).collect()
}

#[test]
fn ticks_at_round_numbers() {
    assert_eq!(labels(linear_ticks(0.0, 30.0, 6)), ["0", "5", "10", "15", "20", "25", "30"]);
    assert_eq!(labels(linear_ticks(-0.31, 0.29, 3)), ["−0.2", "0.0", "0.2"].map(|s| if s == "0.0" { "0" } else { s }));
    assert_eq!(labels(linear_ticks(0.0, 2.1e7, 4)), ["0", "10⁷", "2·10⁷"]);
    assert_eq!(labels(log_ticks(1e-4, 1e3, 8)), ["10⁻⁴", "0.001", "0.01", "0.1", "1", "10", "100", "1000"]);
    assert_eq!(labels(log_ticks(1e-12, 1e12, 6)), ["10⁻¹⁰", "10⁻⁵", "1", "10⁵", "10¹⁰"]);
    assert_eq!(labels(log_ticks(1.5, 60.0, 6)), ["2", "5", "10", "20", "50"]);
    assert_eq!(labels(log_ticks(11.0, 14.0, 3)), ["11", "12", "13", "14"]);
    assert!(linear_ticks(f64::NAN, 1.0, 5).is_empty());
    assert!(log_ticks(0.0, 1.0, 5).is_empty());
}

#[test]
fn positions_on_axes() {
    let log = Axis::exact(1.0, 1000.0, true, 0.0, 300.0);
    assert!((log.position(10.0).unwrap() - 100.0).abs() < 1e-9);
    assert_eq!(log.position(0.0), None);
    assert_eq!(log.position(-1.0), None);
    let linear = Axis::exact(0.0, 10.0, false, 200.0, 0.0);
    assert!((linear.position(2.5).unwrap() - 150.0).abs() < 1e-9);
    assert_eq!(linear.position(f64::NAN), None);
    // Degenerate data still give an axis.
    for values in [vec![], vec![3.0], vec![0.0, 0.0], vec![f64::NAN, f64::INFINITY], vec![-1e308, 1e308], vec![5e-324]] {
        for axis in [Axis::linear(values.clone(), 0.0, 1.0), Axis::log(values.clone(), 0.0, 1.0)] {
            let ticks = axis.ticks(5);
            assert!(!ticks.is_empty(), "{values:?} {axis:?}");
            assert!(ticks.iter().all(|t| t.1.is_finite() && t.2.chars().count() < 20), "{values:?} {ticks:?}");
        }
    }
}

#[test]
fn small_figure_as_text() {
    let mut svg = Svg::new(100.0, 50.0);
    svg.path("model", [Some((0.0, 1.0)), Some((2.05, 3.0)), None, Some((4.0, -0.01))]);
    svg.dots("dots", [(1.0, 2.0), (3.0, 4.5)]);
    svg.mark("m-good", Mark::Disc, 5.0, 6.0);
    svg.label("name", 1.0, 9.0, "a<b & a very long identifier", 11);
    insta::assert_snapshot!(svg.finish("x \"y\""), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50" role="img" aria-label="x &quot;y&quot;">
    <path class="model" d="M0 1L2.1 3M4 0"/>
    <path class="dots" d="M1 2h0M3 4.5h0"/>
    <circle class="m-good" cx="5" cy="6" r="3.5"/>
    <text class="name" x="1" y="9">a&lt;b &amp;…ifier<title>a&lt;b &amp; a very long identifier</title></text>
    </svg>
    "##);
    assert_eq!(shorten("abc", 3), "abc");
    assert_eq!(shorten("abcdefgh", 5), "ab…gh");
}

#[test]
fn files_and_columns() {
    let folder = tempfile::tempdir().unwrap();
    // Missing parents are made.
    let run = folder.path().join("deep/run");
    let results = fixture();
    write_run(&run, &results).unwrap();
    let mut names: Vec<String> = fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = "cells.tsv estimates.tsv parameters.tsv random_effects.tsv report.html run.json simulations.tsv starts.tsv summary.json summary.txt trace.tsv";
    assert_eq!(names.join(" "), expected);

    let estimates = rows(&run.join("estimates.tsv"));
    let columns =
        "parameterId estimate scale standardError rse lower95 upper95 lowerBound upperBound atBound nominalValue robustStandardError";
    assert_eq!(estimates[0].join(" "), columns);
    assert_eq!(estimates[1][..3].join(" "), "delta 0.1 log10");
    assert_eq!(estimates[5][3], "");
    assert_eq!(estimates[5][9], "true");

    let starts = rows(&run.join("starts.tsv"));
    assert_eq!(starts.len(), 21);
    assert!(starts.iter().all(|r| r.len() == starts[0].len()));
    assert_eq!(starts[4][3], "inf");
    assert_eq!(starts[4][8], "failed");
    assert_eq!(starts[4][10], "", "a failed start has no point");
    // Final points are natural values.
    let natural = 10f64.powf(results.fit.starts[0].point[2]);
    assert_eq!(starts[1][12].parse::<f64>().unwrap(), natural);

    let trace = rows(&run.join("trace.tsv"));
    assert_eq!(trace.len(), 1 + 18 * 30);
    let cells = rows(&run.join("cells.tsv"));
    let columns = "experimentId cellId ebe_eta_k ebe_eta_t0 ebe_eta_x posteriorSd_eta_k posteriorSd_eta_t0 posteriorSd_eta_x k_m0_scale t0 negLogLikelihood status";
    assert_eq!(cells[0].join(" "), columns);
    assert_eq!(cells[10][11], "not converged");
    assert_eq!(cells[1][4], "");
    assert_eq!(rows(&run.join("random_effects.tsv"))[2].join(" "), format!("eta_t0 t0 {:?} 0.2 20.0 0.35", 0.2 * 0.2));

    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["nllh"], 1204.317);
    assert_eq!(summary["minus2LL"]["method"], "Laplace");
    assert_eq!(summary["parameters"]["delta"], 0.1);
    assert_eq!(summary["starts"], serde_json::json!({ "total": 20, "converged": 16, "within_0.1_of_best": 10 }));
    let run_json: serde_json::Value = serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    assert_eq!(run_json["options"]["starts"], 20);
    assert_eq!(run_json["inputs"][1]["path"], "model.xml");
    assert_eq!(fs::read_to_string(run.join("summary.txt")).unwrap(), summary_text(&results));
}

#[test]
fn printed_page() {
    insta::assert_snapshot!(summary_text(&fixture()), @r"
    best −log L 1204.317 · found by 10 of 20 starts (within 0.1) · 16 converged
    AIC 2420.63 · BIC 2423.54 (n = 12 cells) · −2 log L 2408.63 (Laplace, SE 0.21)
    6 parameters · 2257 measurements · 12 individuals · 41.3 s · seed 1

    parameter   estimate       SE  RSE  95 % interval
    delta            0.1    0.005  5 %    0.07 … 0.16
    gamma         0.1995  0.00998  5 %   0.14 … 0.319
    k_m0_scale    0.3981   0.0199  5 %  0.279 … 0.637
    t0            0.7943   0.0397  5 %   0.556 … 1.27
    offset         0.001        –    –              –  at bound
    sigma_GFP      3.162    0.158  5 %    2.21 … 5.06

    random effect  on           SD  CV between cells  shrinkage
    eta_k          k_m0_scale  0.3              30 %       12 %
    eta_t0         t0          0.2              20 %       35 %  !
    eta_x          x           0.1              10 %          –
    ! shrinkage above 30 %: the estimates of single cells say little about this effect

    gamma and delta enter symmetrically: expect two equivalent optima [E0107]
    ");
}

#[test]
fn never_overwrites_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let results = fixture();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    assert_eq!(write_run(&taken, &results).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 0);
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert_eq!(write_run(&file, &results).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(write_run(&file.join("below"), &results).is_err());
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["file", "taken"]);
}

#[test]
fn next_free_directory() {
    let folder = tempfile::tempdir().unwrap();
    let next = || next_run_directory(folder.path(), "transfection").file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(next(), "transfection-fit-001");
    fs::create_dir(folder.path().join("transfection-fit-001")).unwrap();
    fs::write(folder.path().join("transfection-fit-002"), "").unwrap();
    assert_eq!(next(), "transfection-fit-003");
}

#[test]
fn page_with_everything() {
    let results = fixture();
    let html = page(&results);
    let expected = [
        "Verdict",
        "What was fitted",
        "Did the optimisation work?",
        "Parameters",
        "Does it fit?",
        "Population",
        "Numerical health",
        "Reproduce",
    ];
    assert_eq!(headings(&html), expected);
    assert!(html.contains("transfection &#38; &#60;GFP&#62;"));
    assert!(html.contains("eta_t0 at 10 SD") && html.contains("not converged"));
    // All nine chosen cells, each once: three best, three middle, three worst.
    for (word, count) in [("best · −log L", 3), ("middle · −log L", 3), ("worst · −log L", 3)] {
        assert_eq!(html.matches(word).count(), count, "{word}");
    }
    assert_eq!(html, page(&results), "the same results give the same bytes");
    if let Ok(path) = std::env::var("MIXODE_REPORT_OUT") {
        fs::write(path, html).unwrap();
    }
}

#[test]
fn page_without_results() {
    let mut results = fixture();
    results.fit.starts.retain(|s| !s.value.is_finite());
    assert!(page(&results).contains("None of the 2 starts"));
    results.fit.starts.clear();
    results.cells.clear();
    results.random_effects.clear();
    results.effect_ids.clear();
    results.series.clear();
    results.parameters.clear();
    results.health.clear();
    results.info.description.clear();
    assert_eq!(headings(&page(&results)), ["Verdict", "Reproduce"]);
}

#[test]
fn page_of_a_large_problem() {
    let mut results = fixture();
    results.parameters = (0..150).map(|i| parameter(&format!("{}_{i}", "a_very_long_identifier_of_a_rate".repeat(3)), weyl(i))).collect();
    results.fit.starts = (0..1500).map(|i| start(i, 1204.0 + i as f64 * 0.01, StopReason::Gradient, 150)).collect();
    let template = results.series[12].clone();
    for o in 0..60 {
        for e in 0..30 {
            let mut series = template.clone();
            series.observable = format!("observable_{o}");
            series.experiment = format!("experiment_{e}");
            results.series.push(series);
        }
    }
    let trajectory = results.series[0].clone();
    for o in 0..6 {
        for c in 0..50 {
            let mut series = trajectory.clone();
            series.observable = format!("GFP_{o}");
            series.individual = Some(format!("cell_{c:02}"));
            results.series.push(series);
        }
    }
    let html = page(&results);
    assert!(html.contains("1756 more are left out"), "panels left out are counted");
    assert!(html.contains("3 further groups of trajectories are left out"));
    assert!(html.contains("90 parameters are left out"));
}

#[test]
fn page_of_broken_numbers() {
    let mut results = fixture();
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e308, -1e308];
    for (i, s) in results.series.iter_mut().enumerate() {
        for (k, p) in s.points.iter_mut().enumerate() {
            p.measurement = bad[(i + k) % bad.len()];
            p.sigma = bad[(i + 2 * k) % bad.len()];
            p.simulation = bad[(i + 3 * k) % bad.len()];
            if k % 5 == 0 {
                p.t = bad[k % bad.len()];
            }
        }
        s.curve.iter_mut().enumerate().for_each(|(k, c)| c.1 = bad[(i + k) % bad.len()]);
    }
    for (i, p) in results.parameters.iter_mut().enumerate() {
        p.estimate = bad[i];
        p.scaled = bad[i + 1];
        p.standard_error = Some(bad[i]);
        p.upper95 = Some(bad[i]);
        p.lower_bound = bad[(i + 3) % bad.len()];
    }
    for (i, s) in results.fit.starts.iter_mut().enumerate() {
        s.trace.iter_mut().step_by(3).for_each(|v| *v = bad[i % bad.len()]);
        s.point.truncate(2);
        s.value = if i % 3 == 0 { bad[i % bad.len()] } else { s.value };
    }
    for (i, c) in results.cells.iter_mut().enumerate() {
        c.ebe = vec![Some(bad[i % bad.len()])];
        c.nll = f64::NAN;
        c.status = "\u{0}\u{1b}[31m bad\n\t<b>".to_owned();
    }
    results.random_effects[0].sd = f64::NAN;
    results.random_effects[1].sd = 0.0;
    results.objective.nllh = f64::NAN;
    results.objective.bic = f64::INFINITY;
    page(&results);
    assert!(summary_text(&results).contains("NaN"));
}

/// In a problem with priors, likelihood and posterior are told apart.
#[test]
fn likelihood_and_posterior() {
    let mut results = fixture();
    results.objective.nllh = 1208.77;
    results.objective.log_prior = Some(-4.453);
    results.objective.terms.push(("prior".to_owned(), 4.453));
    let text = summary_text(&results);
    let lines: Vec<&str> = text.lines().take(3).collect();
    assert!(lines[0].starts_with("best −log posterior 1208.770 · found by"), "{}", lines[0]);
    assert_eq!(lines[1], "−log L 1204.317 · −log prior 4.453 · AIC and BIC take the likelihood there");
    assert!(lines[2].starts_with("AIC 2420.63 · BIC 2423.54"), "{}", lines[2]);
    let html = page(&results);
    for wanted in
        ["The best −log posterior is 1208.770", "Where −log posterior comes from", "−log posterior above the best", "<dt>−log prior</dt>"]
    {
        assert!(html.contains(wanted), "{wanted}");
    }
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join("run"), &results).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&fs::read_to_string(folder.path().join("run/summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["nllh"], &summary["llh"], &summary["log_prior"]), (&1208.77.into(), &(-1204.317).into(), &(-4.453).into()));
}

/// Figures of a visualization table: what the axes cannot show is counted, and nothing breaks the page.
#[test]
fn figures_of_the_visualization_table() {
    use mixode::petab::{DataType, PlotScale, PlotType};
    let point = |t: f64, measurement: f64| Point { t, measurement, simulation: 1.1 * measurement, sigma: 0.1 };
    let times = [0.0, 0.0, 1.0, 10.0, f64::INFINITY];
    let set = |legend: &str, times: &[f64]| PlotSet {
        legend: legend.to_owned(),
        points: times.iter().enumerate().map(|(i, t)| point(*t, 1.0 + i as f64)).collect(),
        curves: Vec::new(),
        log: false,
    };
    let plot = |kind, data, x_scale, names: &[&str], sets| Plot {
        title: "a < b".to_owned(),
        kind,
        data,
        x_label: "dose".to_owned(),
        y_label: "signal & noise".to_owned(),
        x_scale,
        y_scale: PlotScale::Logarithmic,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        sets,
    };
    use PlotScale::{Linear, Logarithmic, Order};
    let two = || vec![set("first", &times), set("second", &[1.0, f64::NAN])];
    let many = || (0..30).map(|i| set(&format!("a dataset with number {i}"), &[0.0])).collect::<Vec<_>>();
    let plots = vec![
        plot(PlotType::Line, DataType::MeanAndSd, Linear, &[], two()),
        plot(PlotType::Line, DataType::Provided, Logarithmic, &[], two()),
        plot(PlotType::Line, DataType::Replicate, Order, &[], two()),
        plot(PlotType::Line, DataType::MeanAndSem, Linear, &["control", "treated"], vec![set("s", &[0.0, 1.0, 1.0])]),
        plot(PlotType::Bar, DataType::MeanAndSd, Linear, &["control", "treated"], vec![set("s", &[0.0, 1.0, 1.0])]),
        plot(PlotType::Bar, DataType::MeanAndSd, Linear, &[], many()),
        plot(PlotType::Scatter, DataType::MeanAndSd, Linear, &[], many()),
        plot(PlotType::Line, DataType::MeanAndSd, Linear, &[], vec![PlotSet { points: Vec::new(), ..set("none", &[]) }]),
    ];
    let count = plots.len();
    let mut results = fixture();
    results.plots = plots;
    results.series.iter_mut().for_each(|s| s.plotted = true);
    let folder = tempfile::tempdir().unwrap();
    write_run(&folder.path().join("run"), &results).unwrap();
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    let document =
        roxmltree::Document::parse_with_options(&page, roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() }).unwrap();
    let figures: Vec<_> = document.descendants().filter(|n| n.attribute("aria-label") == Some("a < b: data and model")).collect();
    assert_eq!(figures.len(), count);
    let texts = |i: usize| figures[i].descendants().filter_map(|n| n.text()).collect::<Vec<_>>();
    let classes = |i: usize, class: &str| {
        figures[i].descendants().filter(|n| n.attribute("class").is_some_and(|c| c.split(' ').any(|c| c == class))).count()
    };
    assert!(texts(0).contains(&"1 not on these axes") && texts(0).contains(&"∞") && texts(0).contains(&"second"), "{:?}", texts(0));
    assert_eq!(classes(0, "error"), 1, "of the two values at one time");
    assert!(texts(1).contains(&"3 not on these axes"), "0 on a logarithmic axis: {:?}", texts(1));
    assert!(texts(2).contains(&"10"), "{:?}", texts(2));
    assert!(texts(3).contains(&"control") && texts(3).contains(&"treated"), "{:?}", texts(3));
    assert_eq!(classes(4, "column"), 2);
    assert_eq!(classes(5, "column"), 24);
    assert!(texts(5).contains(&"and 6 more datasets"), "{:?}", texts(5));
    assert_eq!(page.matches("Does the model describe each observable").count(), 0, "what figures show is not shown again");
}
