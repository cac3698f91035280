//! Priors of both PEtab versions: values and derivatives against mpmath, the published numbers of benchmark problems, the objective and
//! starting points.

#![allow(clippy::unwrap_used)]

#[path = "reference_data/mod.rs"]
mod reference_data;

use mixode::diag::Diagnostics;
use mixode::estimate::MultistartOptions;
use mixode::estimate::multistart::{multistart, starting_points};
use mixode::likelihood::distribution::Distribution;
use mixode::likelihood::parameters::ParameterMap;
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::prior::{Convention, Prior, Priors};
use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{EvaluationError, Objective, Order};
use mixode::model::{self, CompileOptions};
use mixode::ode::Options;
use mixode::petab::{self, Problem, Scale};
use mixode::sbml;
use reference_data::shared;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const CONVENTIONS: [(&str, Convention); 3] =
    [("own-scale", Convention::OwnScale), ("linear", Convention::Linear), ("linear-untruncated", Convention::LinearUntruncated)];

const HEADER_V1: &str = "parameterId\tparameterScale\tlowerBound\tupperBound\tnominalValue\testimate\tobjectivePriorType\tobjectivePriorParameters\t\
     initializationPriorType\tinitializationPriorParameters\n";
const HEADER_V2: &str = "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\tpriorDistribution\tpriorParameters\n";

fn reference() -> Value {
    serde_json::from_str(include_str!("reference_data/priors.json")).unwrap()
}

/// Numbers, also those that JSON does not have.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

#[track_caller]
fn close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs();
    assert!(error <= tolerance * expected.abs().max(1.0), "{what}: {found:.17} but {expected:.17} (error {error:.1e})");
}

fn read(path: &Path) -> Problem {
    let mut diagnostics = Diagnostics::new();
    petab::read(path, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)))
}

/// A small problem of that version with these rows of the parameter table.
fn with_table(version: u64, rows: &str) -> Problem {
    let folder = tempfile::tempdir().unwrap();
    let original = format!("tests/diagnostics/correct_v{version}");
    for file in std::fs::read_dir(original).unwrap().map(|e| e.unwrap().path()) {
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let header = if version == 1 { HEADER_V1 } else { HEADER_V2 };
    std::fs::write(folder.path().join("parameters.tsv"), format!("{header}{rows}")).unwrap();
    read(folder.path())
}

fn objective(problem: &Problem, convention: Convention) -> ProblemObjective {
    let mut diagnostics = Diagnostics::new();
    let model = sbml::read(&problem.model, &mut diagnostics).unwrap();
    let system = model::build(&model, Some(problem), 0.0, &mut diagnostics).unwrap_or_else(|| panic!("{}", diagnostics.render(false)));
    let compiled = model::compile(&system, CompileOptions::default()).unwrap();
    ProblemObjective::new(compiled, problem, Options::default(), &PopulationOptions::default())
        .unwrap()
        .with_convention(problem, convention)
}

/// The three parameters that the small problems measure something with.
const MEASURED_V1: &str = "gamma\tlog10\t0.01\t100\t1\t1\nscale\tlog10\t0.01\t100\t1\t1\nsigma\tlog10\t0.01\t10\t0.1\t1\n";
const MEASURED_V2: &str = "gamma\t0.01\t100\t1\ttrue\nscale\t0.01\t100\t1\ttrue\nsigma\t0.01\t10\t0.1\ttrue\n";

/// Log probabilities of intervals, in the middle and where distribution functions are 0 or 1 or agree to 12 digits.
#[test]
fn probabilities_of_intervals() {
    for case in reference()["masses"].as_array().unwrap() {
        let p: Vec<f64> = case["parameters"].as_array().unwrap().iter().map(number).collect();
        let distribution = match case["family"].as_str().unwrap() {
            "normal" => Distribution::Normal { mean: p[0], sd: p[1] },
            "laplace" => Distribution::Laplace { location: p[0], scale: p[1] },
            "cauchy" => Distribution::Cauchy { location: p[0], scale: p[1] },
            "rayleigh" => Distribution::Rayleigh { scale: p[0] },
            "gamma" => Distribution::Gamma { shape: p[0], scale: p[1] },
            other => panic!("{other}"),
        };
        let (a, b) = (number(&case["a"]), number(&case["b"]));
        let found = distribution.log_mass(a, b);
        let expected = number(&case["log_mass"]);
        // Relative to 1: the error of a logarithm is the relative error of the probability.
        close(&format!("{distribution:?} from {a} to {b}"), found, expected, 1e-12);
        // Logarithms close to 0 are those of probabilities close to 1, whose complement counts.
        if expected > -1e-3 {
            assert!((found / expected - 1.0).abs() < 1e-12, "{distribution:?} from {a} to {b}: {found:e} but {expected:e}");
        }
        // Reflected, the other tail.
        if matches!(distribution, Distribution::Normal { .. } | Distribution::Laplace { .. } | Distribution::Cauchy { .. }) {
            close("reflected", distribution.log_mass(-b, -a), expected, 1e-12);
        }
        // The quantiles of the truncated distribution lie where its distribution function says.
        let mut last = f64::NEG_INFINITY;
        for u in [1e-6, 0.03, 0.5, 0.8, 1.0 - 1e-6] {
            let x = distribution.quantile(u, a, b);
            assert!(x.is_finite() && x >= a && x <= b && x >= last, "{distribution:?} from {a} to {b}, quantile {u}: {x}");
            last = x;
            // Where the numbers between a and b are too few to resolve a millionth, the quantile is one of the two next to it.
            let below = |x: f64| (distribution.log_mass(a, x) - found).exp();
            let resolution = 1e-9 + below(x.next_up().min(b)) - below(x.next_down().max(a));
            assert!((below(x) - u).abs() <= resolution, "{distribution:?} from {a} to {b}, quantile {u}: {x}, below {}", below(x));
        }
    }
}

/// Every family on every scale, under every convention, through the tables: values, gradient, curvature.
#[test]
fn densities_and_derivatives() {
    let reference = reference();
    let cases = reference["densities"].as_array().unwrap();
    for version in [1, 2] {
        for (name, convention) in CONVENTIONS {
            let cases: Vec<&Value> = cases.iter().filter(|c| c["version"] == version && c["convention"] == name).collect();
            if cases.is_empty() {
                continue;
            }
            let mut table = String::from(if version == 1 { MEASURED_V1 } else { MEASURED_V2 });
            for (i, c) in cases.iter().enumerate() {
                let parameters: Vec<String> = c["parameters"].as_array().unwrap().iter().map(Value::to_string).collect();
                let bounds = format!("{}\t{}\t1", c["bounds"][0].as_str().unwrap(), c["bounds"][1].as_str().unwrap());
                let prior = format!("{}\t{}", c["family"].as_str().unwrap(), parameters.join(";"));
                if version == 1 {
                    writeln!(table, "p{i}\t{}\t{bounds}\t1\t{prior}", c["scale"].as_str().unwrap()).unwrap();
                } else {
                    writeln!(table, "p{i}\t{bounds}\ttrue\t{prior}").unwrap();
                }
            }
            let problem = with_table(version, &table);
            let priors = Priors::new(&problem, convention);
            for point in 0..3 {
                let x = |i: usize| number(&cases[i]["at"][point]["x"]);
                let natural: Vec<f64> = [1.0, 1.0, 0.1].into_iter().chain((0..cases.len()).map(x)).collect();
                let densities = priors.log_densities(&natural);
                for (i, c) in cases.iter().enumerate() {
                    let expected = &c["at"][point];
                    let what = format!("{} {c}", expected["x"]);
                    let (_, found) = densities.iter().find(|(id, _)| *id == format!("p{i}")).unwrap();
                    close(&what, *found, number(&expected["value"]), 1e-12);
                    // The same from the prior itself, which gives the derivatives too.
                    let parameter = &problem.parameters[i + 3];
                    assert_eq!(format!("{:?}", parameter.scale).to_lowercase(), c["scale"].as_str().unwrap(), "{what}");
                    let truncated = version == 2 || convention == Convention::Linear;
                    let bounds = truncated.then_some((parameter.lower, parameter.upper));
                    let own = convention == Convention::OwnScale;
                    let prior = Prior::new(parameter.prior.as_ref().unwrap(), parameter.scale, bounds, !own);
                    let [value, first, second] = prior.log_density(x(i), parameter.scale);
                    assert_eq!(value.to_bits(), found.to_bits(), "{what}");
                    close(&what, first, number(&expected["first"]), 1e-12);
                    close(&what, second, number(&expected["second"]), 1e-11);
                    // Central differences on a scale that is not the parameter's own.
                    for scale in [Scale::Lin, Scale::Log, Scale::Log10] {
                        let [_, first, second] = prior.log_density(x(i), scale);
                        let at = |h: f64| prior.log_density(scale.unscale(scale.scale(x(i)) + h), scale);
                        let h = 1e-5;
                        close(&what, first, (at(h)[0] - at(-h)[0]) / (2.0 * h), 1e-6);
                        close(&what, second, (at(h)[1] - at(-h)[1]) / (2.0 * h), 1e-6);
                    }
                }
            }
        }
    }
}

/// What stands outside of bounds or support has no density; a bound itself has, also when it comes back from a logarithm.
#[test]
fn outside_of_the_support() {
    let problem = with_table(2, &format!("{MEASURED_V2}p\t0.3\t7\t1\ttrue\tlog-normal\t0;1\nq\t0\t10\t4\ttrue\tuniform\t3;5\n"));
    let priors = Priors::new(&problem, Convention::default());
    let at = |p: f64, q: f64| {
        let densities = priors.log_densities(&[1.0, 1.0, 0.1, p, q]);
        (densities[3].1, densities[4].1)
    };
    let inside = at(2.0, 4.0);
    assert!(inside.0.is_finite());
    close("uniform", inside.1, -2f64.ln(), 1e-15);
    assert_eq!(at(0.29, 2.99), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    assert_eq!(at(7.01, 5.01), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    assert_eq!(at(-1.0, f64::NEG_INFINITY), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    for bound in [0.3f64, 7.0] {
        assert!(at(bound.ln().exp(), 3.0).0.is_finite() && at(10f64.powf(bound.log10()), 5.0).0.is_finite());
    }
    // The estimation keeps to what the priors allow.
    let objective = objective(&problem, Convention::default());
    let q = &objective.parameters()[4];
    assert_eq!((q.lower, q.upper), (3.0, 5.0));
    let mut x = objective.map().scaled(&[1.0, 1.0, 0.1, 1.0, 4.0]);
    assert!(objective.evaluate(&x, Order::Fisher, &mut objective.memory()).is_ok());
    x[4] = 5.5;
    let error = objective.evaluate(&x, Order::Value, &mut objective.memory()).unwrap_err();
    assert!(matches!(&error, EvaluationError::Prior { parameter, value } if parameter == "q" && *value == 5.5), "{error}");
    let summary = objective.summary(&objective.map().natural(&x)).unwrap();
    assert!(summary.llh.is_finite() && summary.nllh == f64::INFINITY);
}

/// Which estimated parameters have a term. Version 2: all, as soon as one has a prior, except between infinite bounds; version 1:
/// those with a prior; fixed ones never.
#[test]
fn which_parameters_have_a_term() {
    let ids = |problem: &Problem| {
        Priors::new(problem, Convention::default())
            .log_densities(&vec![1.0; problem.parameters.len()])
            .into_iter()
            .map(|t| t.0)
            .collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(ids(&with_table(2, MEASURED_V2)), none);
    let rest = "p\t-inf\tinf\t1\ttrue\tcauchy\t0;1\nhalf\t0\tinf\t1\ttrue\nfixed\t0\t1\t1\tfalse\tnormal\t0;1\npoint\t1\t1\t1\ttrue\tnormal\t0;1\n";
    let problem = with_table(2, &format!("{MEASURED_V2}{rest}"));
    assert_eq!(ids(&problem), ["gamma", "scale", "sigma", "p"]);
    let densities = Priors::new(&problem, Convention::default()).log_densities(&[1.0; 7]);
    close("uniform between the bounds", densities[0].1, -(99.99f64).ln(), 1e-15);
    let rest =
        "p\tlog10\t0.1\t10\t1\t1\tparameterScaleUniform\t-1;1\nfixed\tlin\t0\t1\t1\t0\tnormal\t0;1\nq\tlin\t-2\t2\t1\t1\tuniform\t\n";
    let problem = with_table(1, &format!("{MEASURED_V1}{rest}"));
    assert_eq!(ids(&problem), ["q"]);
    close("uniform without numbers", Priors::new(&problem, Convention::default()).log_densities(&[1.0; 6])[0].1, -4f64.ln(), 1e-15);
}

/// The PEtab test suite: every family, with bounds that truncate (0024) and bounds that do not (0025). Tolerance of the suite: 1e-14.
#[test]
fn petab_suite() {
    for case in ["0024", "0025"] {
        let Some(folder) = shared(&format!("suites/petab/v2/{case}")) else { return };
        let problem = read(&folder.join(format!("_{case}.yaml")));
        let solution = std::fs::read_to_string(folder.join(format!("_{case}_solution.yaml"))).unwrap();
        let expected = |id: &str| -> f64 {
            let line = solution.lines().map(str::trim).find_map(|l| l.strip_prefix(&format!("{id}:")));
            line.unwrap_or_else(|| panic!("{id} in {case}")).trim().parse().unwrap()
        };
        let summary = objective(&problem, Convention::default()).summary(ParameterMap::new(&problem).nominal()).unwrap();
        assert_eq!(summary.log_prior.len(), 12);
        for (id, value) in &summary.log_prior {
            // The solution has 15 digits.
            assert!((value - expected(id)).abs() < 1e-13, "{case} {id}: {value:.16}");
        }
        close(case, summary.llh, expected("llh"), 1e-9);
        close(case, -summary.nllh, expected("unnorm_log_posterior"), 1e-9);
    }
}

/// Negative log priors of benchmark problems at their nominal parameters. Own scale: 17 digits from the tests of PEtab.jl (PETAB.md 3.6);
/// the other conventions: libpetab 0.8, with and without truncation, to the digits given there.
#[test]
fn benchmark_problems() {
    let cases: [(&str, &str, Convention, f64, f64); 7] = [
        ("Isensee_JCB2018", "own scale", Convention::OwnScale, 4.452999704602743, 1e-13),
        ("Isensee_JCB2018", "linear", Convention::Linear, 16.0961309, 5e-8),
        ("Isensee_JCB2018", "linear untruncated", Convention::LinearUntruncated, 16.8998286, 5e-8),
        ("Schwen_PONE2014", "own scale", Convention::OwnScale, 12.51913707313282, 1e-13),
        ("Schwen_PONE2014", "linear", Convention::Linear, 22.5894166, 5e-8),
        ("Bachmann_MSB2011", "own scale", Convention::OwnScale, -0.7237496, 5e-8),
        ("Bachmann_MSB2011", "linear", Convention::Linear, 1.4906154, 5e-8),
    ];
    for (name, what, convention, expected, tolerance) in cases {
        let Some(folder) = shared(&format!("suites/benchmarks/{name}")) else { continue };
        let problem = read(&folder);
        let natural = ParameterMap::new(&problem).nominal().to_vec();
        let found: f64 = -Priors::new(&problem, convention).log_densities(&natural).iter().map(|(_, v)| v).sum::<f64>();
        assert!((found - expected).abs() <= tolerance, "{name}, {what}: {found:.16} but {expected:.16}");
    }
}

/// The objective is the negative log-likelihood less the log densities, with their gradient and their positive curvature.
#[test]
fn objective_with_priors() {
    let rest = "gamma\tlog10\t0.01\t100\t1\t1\tparameterScaleNormal\t0.2;0.4\nscale\tlog10\t0.01\t100\t1\t1\tlogLaplace\t0.3;0.5\n\
                sigma\tlin\t0.01\t10\t0.1\t1\tnormal\t0.3;0.2\n";
    let problem = with_table(1, rest);
    let plain = objective(&with_table(1, MEASURED_V1), Convention::default());
    let natural = [1.3, 20.0, 0.7];
    for (name, convention) in CONVENTIONS {
        let objective = objective(&problem, convention);
        let summary = objective.summary(&natural).unwrap();
        close(name, summary.llh, plain.summary(&natural).unwrap().llh, 1e-12);
        let log_prior: f64 = summary.log_prior.iter().map(|(_, v)| v).sum();
        close(name, summary.nllh, -summary.llh - log_prior, 1e-14);
        let x = objective.map().scaled(&natural);
        let mut memory = objective.memory();
        let evaluation = objective.evaluate(&x, Order::Fisher, &mut memory).unwrap();
        close(name, evaluation.value, summary.nllh, 1e-9);
        for k in 0..3 {
            let mut at = |h: f64| {
                let mut y = x.clone();
                y[k] += h;
                objective.evaluate(&y, Order::Value, &mut memory).unwrap().value
            };
            let h = 1e-4;
            let difference = (8.0 * (at(h) - at(-h)) - at(2.0 * h) + at(-2.0 * h)) / (12.0 * h);
            close(name, evaluation.gradient[k], difference, 1e-6);
        }
        let fisher = evaluation.fisher.unwrap();
        // Each problem has its own scales.
        let by_x = |p: &ProblemObjective| p.evaluate(&p.map().scaled(&natural), Order::Fisher, &mut p.memory()).unwrap().fisher.unwrap();
        let of_data = by_x(&plain)[(0, 0)];
        close(name, fisher[(0, 0)] - of_data, 1.0 / 0.16, 1e-6);
        // The parabola under the logarithm of the Laplace density, on the scale of its estimation: 1 / (b |log x - location|) per log x.
        let expected = std::f64::consts::LN_10.powi(2) / (0.5 * (20f64.ln() - 0.3));
        close(name, fisher[(1, 1)] - by_x(&plain)[(1, 1)], expected, 1e-6);
    }
}

/// Starting points are quantiles of initialisation priors (version 1) and priors (version 2), truncated to the bounds.
#[test]
fn starting_points_from_priors() {
    let rest = "uni\tlog10\t1e-3\t1e3\t1\t1\t\t\tparameterScaleUniform\t-1;2\nnorm\tlog10\t1e-3\t1e3\t1\t1\t\t\tparameterScaleNormal\t2.5;1\n\
                lin\tlog\t0.5\t4\t1\t1\t\t\tnormal\t1;2\nplain\tlog10\t1e-3\t1e3\t1\t1\tparameterScaleNormal\t0;1\t\t\n\
                open\tlin\t-inf\tinf\t1\t1\tnormal\t5;2\t\t\n";
    let problem = with_table(1, &format!("{MEASURED_V1}{rest}"));
    let options = MultistartOptions { starts: 1000, ..MultistartOptions::default() };
    let map = ParameterMap::new(&problem);
    let points = starting_points(map.estimated(), &options);
    let sorted = |k: usize, points: &[Vec<f64>]| {
        let mut column: Vec<f64> = points.iter().map(|p| p[k]).collect();
        column.sort_by(f64::total_cmp);
        column
    };
    // A Latin hypercube has exactly one point in every thousandth of each distribution.
    let stratified = |column: &[f64], quantile: &dyn Fn(f64) -> f64| {
        let n = column.len() as f64;
        for (i, x) in column.iter().enumerate() {
            let (low, high) = (quantile(i as f64 / n), quantile((i + 1) as f64 / n));
            assert!(low - 1e-9 <= *x && *x <= high + 1e-9, "{x} is not from {low} to {high}");
        }
    };
    let truncated = |d: Distribution, a: f64, b: f64| move |u: f64| d.quantile(u.clamp(1e-12, 1.0 - 1e-12), a, b);
    stratified(&sorted(3, &points), &|u| -1.0 + 3.0 * u);
    stratified(&sorted(4, &points), &truncated(Distribution::Normal { mean: 2.5, sd: 1.0 }, -3.0, 3.0));
    let normal = truncated(Distribution::Normal { mean: 1.0, sd: 2.0 }, 0.5, 4.0);
    stratified(&sorted(5, &points), &|u| normal(u).ln());
    stratified(&sorted(6, &points), &|u| -3.0 + 6.0 * u);
    let open = sorted(7, &points);
    stratified(&open, &truncated(Distribution::Normal { mean: 5.0, sd: 2.0 }, f64::NEG_INFINITY, f64::INFINITY));

    let rest = "p\t0\tinf\t1\ttrue\tlog-normal\t1;3\nq\t-inf\tinf\t1\ttrue\tcauchy\t0;1\nr\t0.1\t2\t1\ttrue\tgamma\t0.01;1\nhalf\t0\tinf\t1\ttrue\n";
    let problem = with_table(2, &format!("{MEASURED_V2}{rest}"));
    let points = starting_points(ParameterMap::new(&problem).estimated(), &options);
    assert!(points.iter().flatten().all(|x| x.is_finite()));
    let normal = truncated(Distribution::Normal { mean: 1.0, sd: 3.0 }, f64::NEG_INFINITY, f64::INFINITY);
    stratified(&sorted(3, &points).iter().map(|x| x.ln()).collect::<Vec<_>>(), &normal);
    let gamma = truncated(Distribution::Gamma { shape: 0.01, scale: 1.0 }, 0.1, 2.0);
    stratified(&sorted(5, &points), &|u| gamma(u).ln());
    assert_eq!(points, starting_points(ParameterMap::new(&problem).estimated(), &options));
}

/// A fit of nothing but priors ends at their modes, also at the kinks of Laplace densities.
#[test]
fn the_maximum_of_the_priors() {
    let rest = "gamma\t0.01\t100\t1\tfalse\nscale\t0.01\t100\t1\tfalse\nsigma\t0.01\t10\t0.1\tfalse\n\
                a\t-50\t50\t1\ttrue\tlaplace\t3;5\nb\t0.01\t90\t1\ttrue\tlaplace\t7;2\nc\t0\t90\t1\ttrue\tlog-laplace\t1;0.5\n\
                d\t-50\t50\t1\ttrue\tnormal\t-4;2\ne\t0\tinf\t1\ttrue\tgamma\t3;5\nf\t0\t10\t1\ttrue\trayleigh\t3\n\
                g\t-inf\tinf\t1\ttrue\tcauchy\t2;1\nh\t0\t50\t1\ttrue\tlog-normal\t2;1\n";
    let problem = with_table(2, rest);
    let objective = objective(&problem, Convention::default());
    let options = MultistartOptions { starts: 20, ..MultistartOptions::default() };
    let fit = multistart(&objective, &options, &|_| {}, &AtomicBool::new(false));
    let modes = [3.0, 7.0, 1f64.exp(), -4.0, 10.0, 3.0, 2.0, 1f64.exp()];
    for start in &fit.starts {
        let natural = objective.map().natural(&start.point);
        for (k, mode) in modes.iter().enumerate() {
            close(&format!("start {}, parameter {k}, {:?}", start.index, start.stop), natural[k + 3], *mode, 1e-4);
            assert_eq!(objective.priors().at_kink(k, &natural), k < 3);
        }
    }
}
