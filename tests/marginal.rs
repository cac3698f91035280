//! Marginal likelihoods of individuals: the numbered oracles of NLME.md section 7 and structural properties.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod nlme_support;

use mixode::diag::Source;
use mixode::likelihood::Order;
use mixode::likelihood::covariance::{Covariance, Omega};
use mixode::likelihood::ebe::WarmStart;
use mixode::likelihood::importance::{Proposal, importance_sampling};
use mixode::likelihood::individual::Curvature;
use mixode::likelihood::laplace::{IndividualTerm, MarginalOptions, individual_marginal};
use mixode::likelihood::nodes::Nodes;
use mixode::likelihood::parametrisation::Parametrisation;
use mixode::likelihood::quadrature::Rule;
use mixode::petab::{CovarianceEntry, CovarianceKind, TableValue};
use nalgebra::{DMatrix, DVector};
use nlme_support::models::{Cell, Jet, Model, conversion, line};
use nlme_support::{close, close_all, matrix, numbers, oracles, table};

fn covariance(entries: &[(usize, usize, CovarianceKind, usize)], n: usize) -> Covariance {
    let entries: Vec<CovarianceEntry> = entries
        .iter()
        .map(|&(row, column, kind, index)| CovarianceEntry {
            row,
            column,
            kind,
            value: TableValue::Parameter(index),
            span: Source::new("", "").span(0..0),
        })
        .collect();
    Covariance::new(&entries, &(0..n).map(|i| format!("b{i}")).collect::<Vec<_>>()).unwrap()
}

fn cell(model: Model, data: Vec<(f64, f64)>, n_phi: usize) -> Cell<Model> {
    Cell { n_phi, data, model, evaluations: 0 }
}

fn laplace(cell: &mut Cell<Model>, phi: &[f64], omega: &Omega, curvature: Curvature) -> IndividualTerm {
    let options = MarginalOptions { curvature, ..MarginalOptions::default() };
    let targets: Vec<usize> = (0..omega.dimension()).collect();
    individual_marginal(cell, phi, &targets, omega, &options, &mut WarmStart::default(), Order::Gradient).unwrap()
}

fn quadrature(cell: &mut Cell<Model>, phi: &[f64], omega: &Omega, points: usize) -> IndividualTerm {
    let targets: Vec<usize> = (0..omega.dimension()).collect();
    let options = MarginalOptions { rule: Some(Rule::gauss_hermite(targets.len(), points)), ..MarginalOptions::default() };
    individual_marginal(cell, phi, &targets, omega, &options, &mut WarmStart::default(), Order::Gradient).unwrap()
}

/// O1: Laplace is exact for the linear Gaussian model. mpmath with 40 digits, tolerance 1e-10.
#[test]
fn linear_gaussian_model() {
    let Some(oracles) = oracles() else { return };
    let oracle = &oracles["O1_linear_gaussian"];
    let theta = numbers(&oracle["theta"]);
    // Parameters: log l11, l21, log l22 as the `chol` entries l11, l21, l22.
    let natural = [theta[2].exp(), theta[3], theta[4].exp()];
    let covariance = covariance(&[(0, 0, CovarianceKind::Chol, 0), (1, 0, CovarianceKind::Chol, 1), (1, 1, CovarianceKind::Chol, 2)], 2);
    let omega = covariance.evaluate(&natural).unwrap();
    close_all(omega.d.as_slice(), matrix(&oracle["D"]).as_slice(), 1e-14);
    let phi = [theta[0], theta[1], theta[5]];
    for curvature in [Curvature::Exact, Curvature::GaussNewton] {
        let (mut total, mut gradient) = (0.0, vec![0.0; 6]);
        for (data, expected) in oracle["data"].as_array().unwrap().iter().zip(oracle["per_subject"].as_array().unwrap()) {
            let data = numbers(&data["t"]).into_iter().zip(numbers(&data["y"])).collect();
            let term = laplace(&mut cell(line(), data, 3), &phi, &omega, curvature);
            let number = |key: &str| expected[key].as_f64().unwrap();
            close(term.value, number("nll"), 1e-10, 0.0);
            close(term.parts.data, number("J_D"), 1e-10, 0.0);
            close(term.parts.prior, number("J_b_plus_halflogdetD"), 1e-10, 0.0);
            close(term.parts.half_log_det, number("half_logdetH"), 1e-10, 0.0);
            close_all(term.b.as_slice(), &numbers(&expected["bhat"]), 1e-10);
            let hessian = matrix(&expected["H"]);
            close_all(term.hessian.as_slice(), hessian.as_slice(), 1e-10);
            close_all((&term.posterior * &hessian).as_slice(), DMatrix::<f64>::identity(2, 2).as_slice(), 1e-10);
            assert!(term.flags.converged && term.flags.floored == 0 && !term.flags.far);
            total += term.value;
            for (k, j) in [(0, 0), (1, 1), (2, 5)] {
                gradient[j] += term.d_phi[k];
            }
            for (k, chain) in [natural[0], 1.0, natural[2]].into_iter().enumerate() {
                gradient[2 + k] += term.d_parameters[k] * chain;
            }
        }
        close(total, oracle["nll_total"].as_f64().unwrap(), 1e-10, 0.0);
        // Entry by entry, relative. The Gauss-Newton trace is differenced along log sigma.
        let tolerance = if curvature == Curvature::Exact { 1e-10 } else { 1e-9 };
        for (a, b) in gradient.iter().zip(numbers(&oracle["gradient_nll"])) {
            close(*a, b, tolerance, 0.0);
        }
    }
}

/// The stored conversion trajectories (set 2 of NLME.md 1.3), cell by cell.
fn trajectories() -> Option<Vec<Vec<(f64, f64)>>> {
    let mut cells = std::collections::BTreeMap::<String, Vec<(f64, f64)>>::new();
    for row in table("problems/conversion_published/measurements_trajectory.tsv")? {
        cells.entry(row["individualId"].clone()).or_default().push((row["time"].parse().unwrap(), row["measurement"].parse().unwrap()));
    }
    let cells: Vec<_> = cells.into_values().collect();
    assert_eq!((cells.len(), cells[0].len()), (30, 8));
    Some(cells)
}

/// Two effects with log variances as parameters 0 and 1.
fn log_variances(deltas: &[f64]) -> Omega {
    covariance(&[(0, 0, CovarianceKind::LogVar, 0), (1, 1, CovarianceKind::LogVar, 1)], 2).evaluate(deltas).unwrap()
}

/// O3, trajectories by Laplace with exact Hessian and with the Gauss-Newton matrix: values 1e-8 (absolute), gradients 1e-6 relative to
/// each entry; single cells 1e-8.
#[test]
fn conversion_trajectories() {
    let (Some(oracles), Some(cells)) = (oracles(), trajectories()) else { return };
    let oracle = &oracles["O3_conversion_joint"];
    for (point, has_gradient) in [("truth", true), ("stored_optimum_scenario1", false)] {
        let expected = &oracle[point];
        let xi = numbers(&expected["xi"]);
        let omega = log_variances(&xi[4..6]);
        for (curvature, name, gradient_name) in [(Curvature::Exact, "lap", "laplace"), (Curvature::GaussNewton, "gn", "laplace_gn")] {
            let (mut total, mut gradient) = (0.0, vec![0.0; 5]);
            for (i, data) in cells.iter().enumerate() {
                let term = laplace(&mut cell(conversion(0.06), data.clone(), 3), &xi[..3], &omega, curvature);
                assert!(term.flags.converged && term.flags.floored == 0);
                total += term.value;
                for k in 0..3 {
                    gradient[k] += term.d_phi[k];
                }
                for k in 0..2 {
                    gradient[3 + k] += term.d_parameters[k];
                }
                if i < 5 {
                    let (per_cell, h) = match curvature {
                        Curvature::Exact => ("nll_laplace_exactH", "H_exact"),
                        _ => ("nll_laplace_GN", "H_gauss_newton"),
                    };
                    let expected = &expected["cells_1_to_5"][i];
                    close(term.value, expected[per_cell].as_f64().unwrap(), 1e-8, 0.0);
                    close(term.parts.data + term.parts.prior, expected["J"].as_f64().unwrap(), 1e-10, 0.0);
                    close_all(term.b.as_slice(), &numbers(&expected["bhat"]), 1e-8);
                    close_all(term.hessian.as_slice(), matrix(&expected[h]).as_slice(), 1e-8);
                }
            }
            close(total, expected[format!("nll_traj_dataset2_{name}")].as_f64().unwrap(), 1e-8, 1.0);
            if has_gradient {
                for (a, b) in gradient.iter().zip(numbers(&oracle["gradients_truth"][gradient_name])) {
                    close(*a, b, 1e-6, 0.0);
                }
            }
        }
    }
}

/// Table of NLME.md section 6: few points per cell, where the curvature is far from quadratic. Values 1e-8 (absolute).
#[test]
fn conversion_trajectories_with_few_points() {
    let (Some(oracles), Some(cells)) = (oracles(), trajectories()) else { return };
    let xi = numbers(&oracles["O3_conversion_joint"]["truth"]["xi"]);
    let omega = log_variances(&xi[4..6]);
    for row in oracles["O3_conversion_joint"]["laplace_error_vs_points_per_cell"].as_array().unwrap() {
        let times = numbers(&row["time_points"]);
        for (curvature, name) in [(Curvature::Exact, "laplace"), (Curvature::GaussNewton, "laplace_GN")] {
            let total: f64 = cells
                .iter()
                .map(|data| {
                    let kept = data.iter().copied().filter(|(t, _)| times.iter().any(|x| (x - t).abs() < 1e-9)).collect::<Vec<_>>();
                    assert_eq!(kept.len(), times.len());
                    laplace(&mut cell(conversion(0.06), kept, 3), &xi[..3], &omega, curvature).value
                })
                .sum();
            close(total, row[name].as_f64().unwrap(), 1e-8, 1.0);
        }
    }
}

/// O3, exact trajectories by adaptive quadrature with 21^2 nodes: values 1e-8 (absolute), gradient 1e-6 relative.
#[test]
fn conversion_trajectories_exact() {
    let (Some(oracles), Some(cells)) = (oracles(), trajectories()) else { return };
    let oracle = &oracles["O3_conversion_joint"];
    for (point, has_gradient) in [("truth", true), ("stored_optimum_scenario1", false)] {
        let expected = &oracle[point];
        let xi = numbers(&expected["xi"]);
        let omega = log_variances(&xi[4..6]);
        let (mut total, mut gradient) = (0.0, vec![0.0; 5]);
        for data in &cells {
            let mut cell = cell(conversion(0.06), data.clone(), 3);
            let exact = quadrature(&mut cell, &xi[..3], &omega, 21);
            total += exact.value;
            for (k, g) in exact.d_phi.iter().chain(exact.d_parameters.iter()).enumerate() {
                gradient[k] += g;
            }
        }
        close(total, expected["nll_traj_dataset2_agh"].as_f64().unwrap(), 1e-8, 1.0);
        if has_gradient {
            for (a, b) in gradient.iter().zip(numbers(&oracle["gradients_truth"]["exact"])) {
                close(*a, b, 1e-6, 0.0);
            }
        }
    }
}

/// y = exp(phi_0 - exp(phi_1) t) with noise exp(phi_2) sqrt(y): nonlinear in everything, and the noise depends on the random effects too.
/// phi_3 does nothing.
fn decay() -> Model {
    Box::new(|t, phi| {
        let k = phi[1].exp();
        let e = (-k * t).exp();
        let y = phi[0].exp() * e;
        let n = 4;
        // dy/dphi_1 = -k t y, d2y/dphi_1^2 = (k t)^2 y - k t y.
        let kt = k * t;
        let gradient = DVector::from_vec(vec![y, -kt * y, 0.0, 0.0]);
        let mut hessian = DMatrix::zeros(n, n);
        hessian[(0, 0)] = y;
        hessian[(0, 1)] = -kt * y;
        hessian[(1, 0)] = -kt * y;
        hessian[(1, 1)] = (kt * kt - kt) * y;
        // log s = phi_2 + (log y) / 2.
        let log_s: Jet = (
            phi[2] + 0.5 * y.ln(),
            DVector::from_vec(vec![0.5, -0.5 * kt, 1.0, 0.0]),
            DMatrix::from_fn(n, n, |i, j| if (i, j) == (1, 1) { -0.5 * kt } else { 0.0 }),
        );
        y.is_finite().then_some(((y, gradient, hessian), log_s))
    })
}

fn decay_data() -> Vec<(f64, f64)> {
    let y = [2.31, 1.70, 1.62, 1.05, 0.97, 0.61, 0.60, 0.33, 0.41, 0.19];
    y.iter().enumerate().map(|(i, y)| (0.25 * i as f64, *y)).collect()
}

/// Correlated effects on log amplitude and log rate, and a third one on the log rate again.
const DECAY_TARGETS: [usize; 3] = [0, 1, 1];

fn decay_covariance() -> Covariance {
    use CovarianceKind::{Corr, LogVar, Sd, Var};
    covariance(&[(0, 0, Sd, 0), (1, 1, Var, 1), (1, 0, Corr, 2), (2, 2, LogVar, 3)], 3)
}

const DECAY_PHI: [f64; 4] = [0.6, 0.3, -2.0, 0.7];
const DECAY_NATURAL: [f64; 4] = [0.3, 0.2, -0.4, -3.0];

fn decay_marginal(phi: &[f64], natural: &[f64], curvature: Curvature, warm: &mut WarmStart) -> IndividualTerm {
    decay_by(phi, natural, &MarginalOptions { curvature, ..MarginalOptions::default() }, warm)
}

fn decay_by(phi: &[f64], natural: &[f64], options: &MarginalOptions, warm: &mut WarmStart) -> IndividualTerm {
    let omega = decay_covariance().evaluate(natural).unwrap();
    let mut cell = cell(decay(), decay_data(), 4);
    individual_marginal(&mut cell, phi, &DECAY_TARGETS, &omega, options, warm, Order::Gradient).unwrap()
}

#[test]
fn gradients_are_those_of_the_value() {
    let by = |curvature, rule| MarginalOptions { curvature, rule, ..MarginalOptions::default() };
    let rules = [Some(Rule::gauss_hermite(3, 1)), Some(Rule::gauss_hermite(3, 3)), Rule::draws(3, 64, 1)];
    let methods = rules.into_iter().map(|rule| by(Curvature::Exact, rule));
    for options in methods.chain([by(Curvature::Exact, None), by(Curvature::GaussNewton, None)]) {
        let term = decay_by(&DECAY_PHI, &DECAY_NATURAL, &options, &mut WarmStart::default());
        assert!(term.flags.converged && term.flags.floored == 0);
        let value = |k: usize, h: f64| {
            let (mut phi, mut natural) = (DECAY_PHI, DECAY_NATURAL);
            if k < 4 {
                phi[k] += h
            } else {
                natural[k - 4] += h
            }
            decay_by(&phi, &natural, &options, &mut WarmStart::default()).value
        };
        for (k, exact) in term.d_phi.iter().chain(term.d_parameters.iter()).enumerate() {
            let h = 1e-3;
            let numeric = (8.0 * (value(k, h) - value(k, -h)) - value(k, 2.0 * h) + value(k, -2.0 * h)) / (12.0 * h);
            close(*exact, numeric, 1e-6, 0.01);
        }
        // The data do not know phi_3.
        close(term.d_phi[3], 0.0, 0.0, 1.0);
    }
}

#[test]
fn warm_starts_change_the_effort_and_not_the_result() {
    let mut warm = WarmStart::default();
    decay_marginal(&DECAY_PHI, &DECAY_NATURAL, Curvature::Exact, &mut warm);
    assert!(!warm.is_empty());
    let phi = [0.62, 0.27, -2.02, 0.7];
    let natural = [0.31, 0.19, -0.35, -2.9];
    let cold = decay_marginal(&phi, &natural, Curvature::Exact, &mut WarmStart::default());
    let near = decay_marginal(&phi, &natural, Curvature::Exact, &mut warm);
    close(near.value, cold.value, 1e-12, 1.0);
    close_all(near.d_phi.as_slice(), cold.d_phi.as_slice(), 1e-9);
    assert!(near.evaluations < cold.evaluations, "{} is not less than {}", near.evaluations, cold.evaluations);
    // A useless warm start falls back to the typical individual.
    let far = decay_marginal(&[6.0, 0.3, -2.0, 0.7], &natural, Curvature::Exact, &mut WarmStart::default());
    assert!(far.flags.far);
    let mut warm = WarmStart::default();
    decay_marginal(&[12.0, 2.3, 0.0, 0.7], &natural, Curvature::Exact, &mut warm);
    close(decay_marginal(&phi, &natural, Curvature::Exact, &mut warm).value, cold.value, 1e-10, 1.0);
}

/// Two effects on one parameter are one effect with the summed covariance.
#[test]
fn effects_on_one_parameter_add_up() {
    let three = decay_marginal(&DECAY_PHI, &DECAY_NATURAL, Curvature::Exact, &mut WarmStart::default());
    let omega = decay_covariance().evaluate(&DECAY_NATURAL).unwrap();
    let sum = DMatrix::from_row_slice(2, 3, &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    let merged = Omega::new(&sum * &omega.d * sum.transpose(), vec![], vec![], &|i| i.to_string()).unwrap();
    let two = laplace(&mut cell(decay(), decay_data(), 4), &DECAY_PHI, &merged, Curvature::Exact);
    close(three.value, two.value, 1e-11, 1.0);
    close_all(three.d_phi.as_slice(), two.d_phi.as_slice(), 1e-8);
    close_all((sum * three.b).as_slice(), two.b.as_slice(), 1e-9);
}

#[test]
fn all_parametrisations_of_a_diagonal_covariance_give_one_likelihood() {
    let right = std::f64::consts::FRAC_PI_2;
    let (a, b) = (-1.4_f64, -2.6_f64);
    let cases = [
        (Parametrisation::LogVariance, vec![a, b]),
        (Parametrisation::MatrixLogarithm, vec![a, 0.0, b]),
        (Parametrisation::LogCholesky, vec![0.5 * a, 0.5 * b, 0.0]),
        (Parametrisation::Spherical, vec![0.5 * a, 0.5 * b, right]),
        (Parametrisation::Givens, vec![a, b, 0.0]),
        (Parametrisation::Lie, vec![a, b, 0.0]),
    ];
    let reference = laplace(&mut cell(decay(), decay_data(), 4), &DECAY_PHI, &log_variances(&[a, b]), Curvature::Exact);
    for (parametrisation, delta) in cases {
        let p = parametrisation.evaluate(2, &delta).unwrap();
        let omega = Omega::new(p.d, (0..delta.len()).collect(), p.dd, &|i| i.to_string()).unwrap();
        let term = laplace(&mut cell(decay(), decay_data(), 4), &DECAY_PHI, &omega, Curvature::Exact);
        close(term.value, reference.value, 1e-12, 1.0);
        close_all(term.d_phi.as_slice(), reference.d_phi.as_slice(), 1e-9);
        // Log variance, log standard deviation or matrix entry: the diagonal parameters have the same meaning up to a factor.
        let (second, factor) = match parametrisation {
            Parametrisation::MatrixLogarithm => (2, 1.0),
            Parametrisation::LogCholesky | Parametrisation::Spherical => (1, 0.5),
            _ => (1, 1.0),
        };
        close(term.d_parameters[0] * factor, reference.d_parameters[0], 1e-8, 1.0);
        close(term.d_parameters[second] * factor, reference.d_parameters[1], 1e-8, 1.0);
    }
}

/// A cell observed twice as two individuals counts twice; observed twice as one individual it does not.
#[test]
fn a_duplicate_cell_doubles_the_likelihood() {
    let Some(cells) = trajectories() else { return };
    let omega = log_variances(&[-2.3, -2.3]);
    let phi = [-0.5, -1.6, 0.9];
    let value = |data: &[(f64, f64)]| laplace(&mut cell(conversion(0.06), data.to_vec(), 3), &phi, &omega, Curvature::Exact).value;
    let once = value(&cells[0]);
    let total: f64 = [&cells[0], &cells[0]].map(|data| value(data)).iter().sum();
    assert_eq!(total, 2.0 * once);
    let mut reversed = cells[0].clone();
    reversed.reverse();
    close(value(&reversed), once, 1e-12, 0.0);
    assert!((value(&[cells[0].clone(), cells[0].clone()].concat()) - total).abs() > 1.0);
}

/// Quasi-random standard normal scores.
fn scores(rows: usize, n: usize) -> DMatrix<f64> {
    Nodes::sobol(rows, n, 1).z
}

#[test]
fn importance_sampling_and_quadrature_converge_to_each_other() {
    let Some(cells) = trajectories() else { return };
    let phi = [-0.51, -1.61, 0.916];
    let omega = log_variances(&[-2.3, -2.3]);
    for data in &cells[..4] {
        let mut cell = cell(conversion(0.06), data.clone(), 3);
        let term = laplace(&mut cell, &phi, &omega, Curvature::Exact);
        let exact = quadrature(&mut cell, &phi, &omega, 21);
        for (proposal, largest_shape) in
            [(Proposal::student(&scores(3, 8192), 4.0).unwrap(), 0.5), (Proposal::normal(&scores(2, 8192)), 0.7)]
        {
            let sampled = importance_sampling(&mut cell, &phi, &[0, 1], &omega, &term, &proposal).unwrap();
            assert_eq!(sampled.failed, 0);
            assert!(sampled.standard_error < 1e-2 && sampled.standard_error > 1e-4, "{sampled:?}");
            assert!((sampled.value - exact.value).abs() < 2.0 * sampled.standard_error, "{sampled:?} is not {}", exact.value);
            assert!(sampled.pareto_shape < largest_shape, "{sampled:?}");
            assert!(sampled.effective_sample_size > 4096.0);
        }
    }
    // Laplace is one node, and both methods are exact for it when the model is linear.
    let mut cell = cell(line(), vec![(0.0, 1.1), (1.0, 1.9), (2.0, 3.2)], 3);
    let term = laplace(&mut cell, &[1.0, 1.0, -1.6], &omega, Curvature::Exact);
    for points in [1, 5] {
        let exact = quadrature(&mut cell, &[1.0, 1.0, -1.6], &omega, points);
        close(exact.value, term.value, 1e-12, 1.0);
    }
    let sampled = importance_sampling(&mut cell, &[1.0, 1.0, -1.6], &[0, 1], &omega, &term, &Proposal::normal(&scores(2, 100))).unwrap();
    close(sampled.value, term.value, 1e-12, 1.0);
    assert!(sampled.standard_error < 1e-6);
    close(sampled.effective_sample_size, 100.0, 1e-9, 0.0);
}

/// As the variance vanishes the marginal becomes the likelihood of the typical individual.
#[test]
fn small_variances_give_the_typical_individual() {
    let typical = {
        use mixode::likelihood::individual::{Conditional, ConditionalOrder, Scope};
        cell(decay(), decay_data(), 4).evaluate(&DECAY_PHI, ConditionalOrder::Gradient, Scope::All).unwrap()
    };
    let tiny = laplace(&mut cell(decay(), decay_data(), 4), &DECAY_PHI, &log_variances(&[-40.0, -40.0]), Curvature::Exact);
    close(tiny.value, typical.value, 1e-12, 1.0);
    close_all(tiny.d_phi.as_slice(), typical.gradient.as_slice(), 1e-9);
    let none = log_variances(&[0.0, 0.0]).select(&[]);
    let none = laplace(&mut cell(decay(), decay_data(), 4), &DECAY_PHI, &none, Curvature::Exact);
    assert_eq!(none.value, typical.value);
    assert_eq!(none.d_phi, typical.gradient);
    assert_eq!(none.d_parameters.as_slice(), &[0.0, 0.0]);
}

/// A curvature that is not positive definite is raised to a floor and flagged; its determinant's absolute value is never taken.
#[test]
fn indefinite_curvature_is_floored_and_flagged() {
    use mixode::likelihood::EvaluationError;
    use mixode::likelihood::individual::{Conditional, ConditionalOrder, ConditionalValue, Scope};
    /// -3/2 (phi_0^2) + phi_0^4, stationary but not minimal at 0, beside phi_1^2 / 2.
    struct Saddle;
    impl Conditional for Saddle {
        fn dimension(&self) -> usize {
            2
        }
        fn evaluate(&mut self, phi: &[f64], _: ConditionalOrder, _: Scope) -> Result<ConditionalValue, EvaluationError> {
            let (x, y) = (phi[0], phi[1]);
            let hessian = DMatrix::from_diagonal(&DVector::from_vec(vec![-3.0 + 12.0 * x * x, 1.0]));
            Ok(ConditionalValue {
                value: -1.5 * x * x + x.powi(4) + 0.5 * y * y,
                gradient: DVector::from_vec(vec![-3.0 * x + 4.0 * x.powi(3), y]),
                gauss_newton: Some(hessian.clone()),
                hessian: Some(hessian),
            })
        }
    }
    let omega = log_variances(&[0.0, 0.0]);
    let run = |starts: Vec<DVector<f64>>| {
        let mut options = MarginalOptions::default();
        options.ebe.starts = starts;
        individual_marginal(&mut Saddle, &[0.0, 0.0], &[0, 1], &omega, &options, &mut WarmStart::default(), Order::Gradient).unwrap()
    };
    let saddle = run(vec![]);
    assert_eq!((saddle.flags.floored, saddle.flags.modes), (1, 1));
    assert_eq!(saddle.b.as_slice(), &[0.0, 0.0]);
    // A = diag(-2, 2): the floor is 1e-8 of the largest eigenvalue.
    close(saddle.value, 0.5 * (2e-8_f64.ln() + 2f64.ln()), 1e-12, 1.0);
    // Other starting points find the two minima: 4 x^3 = 2 x.
    let starts = [1.0, -1.0].map(|x| DVector::from_vec(vec![x, 0.5])).to_vec();
    let minimum = run(starts);
    assert_eq!((minimum.flags.floored, minimum.flags.modes), (0, 2));
    close(minimum.b[0].abs(), 0.5_f64.sqrt(), 1e-9, 1.0);
    close(minimum.parts.data + minimum.parts.prior, -0.25, 1e-12, 1.0);
}
