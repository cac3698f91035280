//! Statistics of populations and their likelihoods: the numbered oracles of NLME.md section 7, exact enumerations, difference quotients.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod nlme_support;

use mixode::likelihood::EvaluationError;
use mixode::likelihood::covariance::Omega;
use mixode::likelihood::nodes::Nodes;
use mixode::likelihood::noise::Measured;
use mixode::likelihood::population_statistics::{
    Channel, Functional, PopulationModel, Sample, Statistic, standard_deviation, statistic_term,
};
use mixode::likelihood::snapshot::{SnapshotMeasurement, snapshot_density};
use mixode::petab::{Censoring, NoiseDistribution};
use nalgebra::{DMatrix, DVector};
use nlme_support::models::conversion_x2;
use nlme_support::{close, close_all, numbers, oracles, table};

/// A population model from a closure of phi to values and Jacobian.
struct Closure<F>(F);

impl<F: Fn(&[f64]) -> Result<(Vec<f64>, DMatrix<f64>), EvaluationError>> PopulationModel for Closure<F> {
    fn evaluate(&mut self, phi: &[f64], derivatives: bool) -> Result<(Vec<f64>, DMatrix<f64>), EvaluationError> {
        let (values, jacobian) = (self.0)(phi)?;
        Ok((values, if derivatives { jacobian } else { DMatrix::zeros(0, 0) }))
    }
}

/// Diagonal covariance with log variances as parameters.
fn log_variances(deltas: &[f64]) -> Omega {
    let n = deltas.len();
    let d = DMatrix::from_diagonal(&DVector::from_iterator(n, deltas.iter().map(|x| x.exp())));
    let dd = (0..n).map(|k| DMatrix::from_fn(n, n, |i, j| if i == k && j == k { d[(k, k)] } else { 0.0 })).collect();
    Omega::new(d, (0..n).collect(), dd, &|i| i.to_string()).unwrap()
}

/// A value that was measured exactly.
fn exact(distribution: NoiseDistribution, value: f64) -> Measured {
    Measured { distribution, value, censoring: Censoring::None, has_hazard: false }
}

/// One effect with its standard deviation as parameter.
fn sd(omega: f64) -> Omega {
    let matrix = |x: f64| DMatrix::from_element(1, 1, x);
    Omega::new(matrix(omega * omega), vec![0], vec![matrix(2.0 * omega)], &|i| i.to_string()).unwrap()
}

const TIMES: [f64; 8] = [0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8];

/// x2 of the conversion reaction at [`TIMES`], then a constant noise of 0.06; phi = (log theta1, log theta2).
fn conversion(phi: &[f64]) -> Result<(Vec<f64>, DMatrix<f64>), EvaluationError> {
    let mut values = Vec::new();
    let mut jacobian = DMatrix::zeros(TIMES.len() + 1, 2);
    for (i, t) in TIMES.iter().enumerate() {
        let (x, dx, _) = conversion_x2(*t, phi[0], phi[1]);
        values.push(x);
        jacobian.row_mut(i).copy_from(&dx.transpose());
    }
    values.push(0.06);
    Ok((values, jacobian))
}

fn plain(value: usize) -> Channel {
    Channel { value, noise: None }
}

/// O4: moments over log-normal rates by 60^2-point quadrature; tolerance 1e-10.
#[test]
fn moments_of_the_conversion_reaction() {
    let Some(oracles) = oracles() else { return };
    let omega = log_variances(&[0.1_f64.ln(), 0.1_f64.ln()]);
    let phi = [0.6_f64.ln(), 0.2_f64.ln()];
    let nodes = Nodes::gauss_hermite(2, 60);
    let sample = Sample::evaluate(&mut Closure(conversion), &phi, &[0, 1], &omega, &nodes, false).unwrap();
    for (i, row) in oracles["O4_population_moments"]["rows"].as_array().unwrap().iter().enumerate() {
        assert_eq!(row["t"].as_f64().unwrap(), TIMES[i]);
        let number = |key: &str| row[key].as_f64().unwrap();
        close(sample.mean(i).value, number("mean"), 1e-10, 0.0);
        let variance = sample.functional(Functional::Variance(plain(i))).unwrap();
        close(variance.value, number("var"), 1e-10, 0.0);
        assert!(variance.gradient.is_empty());
        // The fourth moment from the sampling variance of the variance.
        let n = 50.0;
        let sampling = sample.sampling_variance(Functional::Variance(plain(i)), 50).unwrap().value;
        close(n * sampling + number("var").powi(2) * (n - 3.0) / (n - 1.0), number("fourth_central"), 1e-9, 0.0);
    }
    // The rule that is used by default is as accurate as NLME.md 8.2 says.
    let default = Nodes::gauss_hermite(2, Nodes::tensor_points(2).unwrap());
    let sample = Sample::evaluate(&mut Closure(conversion), &phi, &[0, 1], &omega, &default, false).unwrap();
    for (i, row) in oracles["O4_population_moments"]["rows"].as_array().unwrap().iter().enumerate() {
        close(sample.mean(i).value, row["mean"].as_f64().unwrap(), 1e-9, 0.0);
    }
}

/// O4b: log-normal decay with derivatives by the median and the standard deviation; tolerance 1e-10.
#[test]
fn moments_of_log_normal_decay() {
    let Some(oracles) = oracles() else { return };
    let rows = oracles["O4b_lognormal_decay"]["rows"].as_array().unwrap();
    let times: Vec<f64> = rows.iter().map(|r| r["t"].as_f64().unwrap()).collect();
    let model = |phi: &[f64]| {
        let k = phi[0].exp();
        let x: Vec<f64> = times.iter().map(|t| (-k * t).exp()).collect();
        let jacobian = DMatrix::from_fn(times.len(), 1, |i, _| -k * times[i] * x[i]);
        Ok((x, jacobian))
    };
    let sample = Sample::evaluate(&mut Closure(model), &[0.0], &[0], &sd(0.5), &Nodes::gauss_hermite(1, 80), true).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let number = |key: &str| row[key].as_f64().unwrap();
        let mean = sample.mean(i);
        close(mean.value, number("mean"), 1e-10, 0.0);
        close(mean.gradient[0], number("dmean_dmu"), 1e-10, 0.0);
        close(mean.gradient[1], number("dmean_domega"), 1e-10, 0.0);
        close(sample.functional(Functional::Variance(plain(i))).unwrap().value, number("var"), 1e-10, 0.0);
    }
}

/// O5: density of one cell seen once; tolerance 1e-10. The noise is narrow, so that many nodes are needed.
#[test]
fn density_of_a_snapshot() {
    let Some(oracles) = oracles() else { return };
    let model = |phi: &[f64]| {
        let k = phi[0].exp();
        let x = (-k).exp();
        Ok((vec![x, 0.05], DMatrix::from_column_slice(2, 1, &[-k * x, 0.0])))
    };
    let sample = |points: usize, phi: f64, omega: f64| {
        Sample::evaluate(&mut Closure(model), &[phi], &[0], &sd(omega), &Nodes::gauss_hermite(1, points), true).unwrap()
    };
    let cell = |y: f64| [SnapshotMeasurement { value: 0, noise: 1, measured: exact(NoiseDistribution::Normal, y) }];
    let rows = oracles["O5_snapshot_density"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let y = row["y"].as_f64().unwrap();
        let term = snapshot_density(&sample(300, 0.0, 0.5), &cell(y)).unwrap();
        close((-term.value).exp(), row["p"].as_f64().unwrap(), 1e-10, 0.0);
        assert!(term.effective_nodes > 5.0, "{}", term.effective_nodes);
        let value = |phi: f64, omega: f64| snapshot_density(&sample(300, phi, omega), &cell(y)).unwrap().value;
        let h = 1e-5;
        close(term.gradient[0], (value(h, 0.5) - value(-h, 0.5)) / (2.0 * h), 1e-7, 1.0);
        close(term.gradient[1], (value(0.0, 0.5 + h) - value(0.0, 0.5 - h)) / (2.0 * h), 1e-7, 1.0);
        // Too few nodes are visible.
        assert!(snapshot_density(&sample(5, 0.0, 0.5), &cell(y)).unwrap().effective_nodes < 2.0);
    }
    let positive = [SnapshotMeasurement { value: 0, noise: 1, measured: exact(NoiseDistribution::LogNormal, -0.1) }];
    assert!(matches!(snapshot_density(&sample(5, 0.0, 0.5), &positive), Err(EvaluationError::Density(_))));
}

/// Two channels of one cell multiply within the node, not outside.
#[test]
fn simultaneous_measurements_share_the_node() {
    // y1 = y2 = phi + b exactly, so the pair is bivariate normal with covariance omega^2 beside the noise.
    let model = |phi: &[f64]| Ok((vec![phi[0], phi[0], 0.6], DMatrix::from_column_slice(3, 1, &[1.0, 1.0, 0.0])));
    let sample = Sample::evaluate(&mut Closure(model), &[1.0], &[0], &sd(0.5), &Nodes::gauss_hermite(1, 60), true).unwrap();
    let channel = |value, measurement| SnapshotMeasurement { value, noise: 2, measured: exact(NoiseDistribution::Normal, measurement) };
    let term = snapshot_density(&sample, &[channel(0, 1.7), channel(1, 0.4)]).unwrap();
    let (v, c) = (0.25 + 0.36, 0.25);
    let (a, b) = (0.7, -0.6);
    let det: f64 = v * v - c * c;
    let expected = 0.5 * (v * a * a - 2.0 * c * a * b + v * b * b) / det + 0.5 * det.ln() + (2.0 * std::f64::consts::PI).ln();
    close(term.value, expected, 1e-12, 1.0);
    close(term.gradient[0], -(a + b) / (v + c), 1e-12, 1.0);
}

/// O3: population averages (set 4) and snapshot variances (set 7) of the stored data: values 1e-8, gradients 1e-6.
#[test]
fn conversion_bulk_and_snapshots() {
    let Some(oracles) = oracles() else { return };
    let (Some(bulk), Some(snapshots)) =
        (table("problems/conversion_published/measurements_bulk.tsv"), table("problems/conversion_published/measurements_snapshot.tsv"))
    else {
        return;
    };
    let oracle = &oracles["O3_conversion_joint"];
    let nodes = Nodes::gauss_hermite(2, 40);
    for (point, has_gradient) in [("truth", true), ("stored_optimum_scenario1", false)] {
        let expected = &oracle[point];
        let xi = numbers(&expected["xi"]);
        let omega = log_variances(&xi[4..6]);
        let sample = Sample::evaluate(&mut Closure(conversion), &xi[..2], &[0, 1], &omega, &nodes, true).unwrap();
        let likelihood = |rows: &[std::collections::HashMap<String, String>], functional: &dyn Fn(usize) -> Functional| {
            assert_eq!(rows.len(), 8);
            let (mut value, mut gradient) = (0.0, DVector::zeros(4));
            for row in rows {
                let number = |key: &str| row[key].parse::<f64>().unwrap();
                let i = TIMES.iter().position(|t| (t - number("time")).abs() < 1e-9).unwrap();
                let statistic = sample.functional(functional(i)).unwrap();
                let sd = Statistic::constant(number("statisticSd"), sample.gradient_len());
                let term = statistic_term(NoiseDistribution::Normal, number("measurement"), &statistic, &sd).unwrap();
                value += term.value;
                gradient += term.gradient;
            }
            (value, gradient)
        };
        let (pa, pa_gradient) = likelihood(&bulk, &|i| Functional::Mean(plain(i)));
        let (scsh, scsh_gradient) = likelihood(&snapshots, &|i| Functional::Variance(Channel { value: i, noise: Some(8) }));
        close(pa, expected["nll_PA_dataset4"].as_f64().unwrap(), 1e-8, 1.0);
        close(scsh, expected["nll_SCSH_variance_dataset7"].as_f64().unwrap(), 1e-8, 1.0);
        if has_gradient {
            for (gradient, name) in [(pa_gradient, "PA"), (scsh_gradient, "SCSH")] {
                let reference = numbers(&oracle["gradients_truth"][name]);
                // The third entry is log s, of which neither data set knows.
                for (k, j) in [(0, 0), (1, 1), (2, 3), (3, 4)] {
                    close(gradient[k], reference[j], 1e-6, 0.0);
                }
            }
        }
    }
}

/// Values with noise that depends on the individual: (y1, y2, s1, s2) of phi = (p0, p1, p2) with effects on p0 and p1.
fn noisy(phi: &[f64]) -> Result<(Vec<f64>, DMatrix<f64>), EvaluationError> {
    let (a, b, c) = (phi[0], phi[1], phi[2]);
    let y1 = (a + 0.3 * b).exp();
    let y2 = 1.0 + a * b + b * c;
    let s1 = 0.2 * (0.5 * a + c).exp();
    let s2 = 0.3 * c.exp();
    let jacobian = DMatrix::from_row_slice(4, 3, &[y1, 0.3 * y1, 0.0, b, a + c, b, 0.5 * s1, 0.0, s1, 0.0, 0.0, s2]);
    Ok((vec![y1, y2, s1, s2], jacobian))
}

const NOISY_PHI: [f64; 3] = [0.4, -0.2, 0.1];

/// Correlated covariance with parameters (sd1, sd2, correlation).
fn correlated(p: [f64; 3]) -> Omega {
    let [s, t, r] = p;
    let m = |a, b, c| DMatrix::from_row_slice(2, 2, &[a, b, b, c]);
    let dd = vec![m(2.0 * s, r * t, 0.0), m(0.0, r * s, 2.0 * t), m(0.0, s * t, 0.0)];
    Omega::new(m(s * s, r * s * t, t * t), vec![0, 1, 2], dd, &|i| i.to_string()).unwrap()
}

const CORRELATED: [f64; 3] = [0.3, 0.4, 0.5];

fn channels() -> (Channel, Channel) {
    (Channel { value: 0, noise: Some(2) }, Channel { value: 1, noise: Some(3) })
}

fn functionals() -> Vec<Functional> {
    let (first, second) = channels();
    vec![
        Functional::Mean(first),
        Functional::Mean(second),
        Functional::Variance(first),
        Functional::Variance(plain(1)),
        Functional::Sd(second),
        Functional::LogVariance(first),
        Functional::LogVariance(plain(0)),
        Functional::Covariance(first, second),
        Functional::Covariance(plain(1), plain(0)),
    ]
}

#[test]
fn derivatives_of_statistics_and_their_terms() {
    let nodes = Nodes::gauss_hermite(2, 6);
    let at = |k: usize, h: f64| {
        let (mut phi, mut natural) = (NOISY_PHI, CORRELATED);
        if k < 3 {
            phi[k] += h
        } else if k < 6 {
            natural[k - 3] += h
        }
        Sample::evaluate(&mut Closure(noisy), &phi, &[0, 1], &correlated(natural), &nodes, true).unwrap()
    };
    let check = |f: &dyn Fn(&Sample) -> Statistic, what: &str| {
        let exact = f(&at(6, 0.0));
        assert_eq!(exact.gradient.len(), 6);
        for k in 0..6 {
            let h = 1e-3;
            let value = |h: f64| f(&at(k, h)).value;
            let numeric = (8.0 * (value(h) - value(-h)) - value(2.0 * h) + value(-2.0 * h)) / (12.0 * h);
            let scale = exact.value.abs().max(numeric.abs());
            assert!((exact.gradient[k] - numeric).abs() <= 1e-8 * scale, "{what}, {k}: {} is not {numeric}", exact.gradient[k]);
        }
    };
    for functional in functionals() {
        check(&|s| s.functional(functional).unwrap(), &format!("{functional:?}"));
        check(&|s| s.sampling_variance(functional, 20).unwrap(), &format!("sampling variance of {functional:?}"));
        // The likelihood with its own sampling error and a technical error that depends on a parameter.
        let term = |s: &Sample| {
            let mut technical = Statistic::constant(0.1 + s.mean(3).value, s.gradient_len());
            technical.gradient = s.mean(3).gradient;
            let sd = standard_deviation(&s.sampling_variance(functional, 20).unwrap(), &technical).unwrap();
            statistic_term(NoiseDistribution::LogNormal, 0.7, &s.functional(functional).unwrap(), &sd)
        };
        if term(&at(6, 0.0)).is_ok() {
            check(
                &|s| {
                    let t = term(s).unwrap();
                    Statistic { value: t.value, gradient: t.gradient }
                },
                &format!("term of {functional:?}"),
            );
        }
    }
    // Gauss-Newton is what it says.
    let sample = at(6, 0.0);
    let (mean, noise) = (sample.mean(0), sample.mean(2));
    let term = statistic_term(NoiseDistribution::Normal, 2.0, &mean, &noise).unwrap();
    let expected = (&mean.gradient * mean.gradient.transpose() + &noise.gradient * noise.gradient.transpose() * 2.0) / noise.value.powi(2);
    close_all(term.gauss_newton.as_slice(), expected.as_slice(), 1e-14);
    close(term.residual, (2.0 - mean.value) / noise.value, 1e-14, 1.0);
}

/// The sampling variances are exact for the finite population of nodes, with the noise as further nodes: all samples of 2 and of 3
/// individuals are enumerated.
#[test]
fn sampling_variances_by_enumeration() {
    let omega = correlated(CORRELATED);
    // Three noise nodes integrate up to the fourth moment exactly.
    let effects = Nodes::gauss_hermite(2, 2);
    let noise = Nodes::gauss_hermite(2, 3);
    let sample = Sample::evaluate(&mut Closure(noisy), &NOISY_PHI, &[0, 1], &omega, &effects, false).unwrap();
    let mut population: Vec<(f64, f64, f64)> = Vec::new();
    for q in 0..effects.len() {
        let (v, _) = noisy(&effects.cell_parameters(q, &NOISY_PHI, &[0, 1], &omega)).unwrap();
        for e in 0..noise.len() {
            let weight = effects.weights[q] * noise.weights[e];
            population.push((weight, v[0] + v[2] * noise.z[(0, e)], v[1] + v[3] * noise.z[(1, e)]));
        }
    }
    let (first, second) = channels();
    // Variance over all samples of n of an estimator, and its expectation.
    let enumerate = |n: u32, estimator: &dyn Fn(&[(f64, f64)]) -> f64| {
        let (mut mean, mut square) = (0.0, 0.0);
        for code in 0..population.len().pow(n) {
            let mut weight = 1.0;
            let members: Vec<(f64, f64)> = (0..n)
                .map(|k| {
                    let (w, y, z) = population[code / population.len().pow(k) % population.len()];
                    weight *= w;
                    (y, z)
                })
                .collect();
            let value = estimator(&members);
            mean += weight * value;
            square += weight * value * value;
        }
        (mean, square - mean * mean)
    };
    let average = |f: &dyn Fn(&(f64, f64)) -> f64, s: &[(f64, f64)]| s.iter().map(f).sum::<f64>() / s.len() as f64;
    let covariance = |s: &[(f64, f64)], f: &dyn Fn(&(f64, f64)) -> f64, g: &dyn Fn(&(f64, f64)) -> f64| {
        let (a, b) = (average(f, s), average(g, s));
        s.iter().map(|x| (f(x) - a) * (g(x) - b)).sum::<f64>() / (s.len() as f64 - 1.0)
    };
    for n in [2, 3] {
        let size = u64::from(n);
        let cases: [(Functional, &dyn Fn(&[(f64, f64)]) -> f64); 4] = [
            (Functional::Mean(first), &|s| average(&|x| x.0, s)),
            (Functional::Variance(first), &|s| covariance(s, &|x| x.0, &|x| x.0)),
            (Functional::Variance(second), &|s| covariance(s, &|x| x.1, &|x| x.1)),
            (Functional::Covariance(first, second), &|s| covariance(s, &|x| x.0, &|x| x.1)),
        ];
        for (functional, estimator) in cases {
            let (mean, variance) = enumerate(n, estimator);
            close(sample.functional(functional).unwrap().value, mean, 1e-10, 0.0);
            close(sample.sampling_variance(functional, size).unwrap().value, variance, 1e-9, 0.0);
        }
    }
    assert!(matches!(sample.sampling_variance(Functional::Mean(first), 1), Err(EvaluationError::Density(_))));
}

#[test]
fn quantiles_of_a_normal_population() {
    use statrs::distribution::{ContinuousCDF, Normal};
    let n = 1001;
    let scores = DMatrix::from_fn(1, n, |_, q| Normal::standard().inverse_cdf((q as f64 + 0.5) / n as f64));
    let model = |phi: &[f64]| Ok((vec![phi[0]], DMatrix::identity(1, 1)));
    let sample = Sample::evaluate(&mut Closure(model), &[2.0], &[0], &sd(0.5), &Nodes::from_normal_scores(scores), true).unwrap();
    for p in [0.025, 0.3, 0.5, 0.975] {
        let z = Normal::standard().inverse_cdf(p);
        let quantile = sample.quantile(0, p);
        close(quantile.value, 2.0 + 0.5 * z, 1e-4, 1.0);
        close(quantile.gradient[0], 1.0, 1e-12, 0.0);
        close(quantile.gradient[1], z, 1e-4, 1.0);
    }
    close(sample.quantile(0, 0.0).value, sample.quantile(0, 1e-9).value, 0.0, 1.0);
    assert!(sample.quantile(0, 1.0).value > 3.5);
}

#[test]
fn failing_nodes_are_counted_and_not_dropped_silently() {
    let model = |limit: f64| {
        move |phi: &[f64]| {
            if phi[0] > limit {
                return Err(EvaluationError::Inner("too large".to_string()));
            }
            Ok((vec![phi[0]], DMatrix::identity(1, 1)))
        }
    };
    let nodes = Nodes::gauss_hermite(1, 15);
    let evaluate = |limit: f64| Sample::evaluate(&mut Closure(model(limit)), &[0.0], &[0], &sd(1.0), &nodes, true);
    assert_eq!(evaluate(10.0).unwrap().failed(), 0.0);
    let sample = evaluate(4.0).unwrap();
    assert!(sample.failed() > 0.0 && sample.failed() < 1e-3 && sample.len() < 15);
    close(sample.functional(Functional::Variance(plain(0))).unwrap().value, 1.0, 1e-2, 0.0);
    assert!(matches!(evaluate(1.0), Err(EvaluationError::Inner(text)) if text == "too large"));
    // The logarithm of values that are not positive is refused.
    let error = evaluate(10.0).unwrap().functional(Functional::LogVariance(plain(0))).unwrap_err();
    assert!(error.to_string().contains("is not positive"), "{error}");
}

/// As the covariance vanishes, means are the typical individual's values and variances the noise's.
#[test]
fn small_covariances_give_the_typical_individual() {
    let nodes = Nodes::gauss_hermite(2, 15);
    let omega = correlated([1e-9, 1e-9, 0.2]);
    let sample = Sample::evaluate(&mut Closure(noisy), &NOISY_PHI, &[0, 1], &omega, &nodes, true).unwrap();
    let (typical, jacobian) = noisy(&NOISY_PHI).unwrap();
    let mean = sample.mean(0);
    close(mean.value, typical[0], 1e-12, 0.0);
    close_all(&mean.gradient.as_slice()[..3], jacobian.row(0).transpose().as_slice(), 1e-12);
    close(sample.functional(Functional::Variance(channels().0)).unwrap().value, typical[2] * typical[2], 1e-12, 0.0);
}
