//! Marginal likelihoods of individuals: the numbered oracles of NLME.md section 7 and structural properties.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod nlme_support;

use mixode::diag::Source;
use mixode::likelihood::Order;
use mixode::likelihood::covariance::{Covariance, Omega};
use mixode::likelihood::ebe::WarmStart;
use mixode::likelihood::individual::Curvature;
use mixode::likelihood::laplace::{IndividualTerm, MarginalOptions, individual_marginal};
use mixode::petab::{CovarianceEntry, CovarianceKind, CovarianceValue};
use nalgebra::{DMatrix, DVector};
use nlme_support::models::{Cell, Model, conversion, conversion_x2, line};
use nlme_support::{close, close_all, matrix, numbers, oracles, table};

fn covariance(entries: &[(usize, usize, CovarianceKind, usize)], n: usize) -> Covariance {
    let entries: Vec<CovarianceEntry> = entries
        .iter()
        .map(|&(row, column, kind, index)| CovarianceEntry {
            row,
            column,
            kind,
            value: CovarianceValue::Parameter(index),
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

/// O1: Laplace is exact for the linear Gaussian model. mpmath with 40 digits, tolerance 1e-10.
#[test]
fn linear_gaussian_model() {
    let Some(oracles) = oracles() else { return };
    let oracle = &oracles["O1_linear_gaussian"];
    let theta = numbers(&oracle["theta"]);
    // Parameters: log l11, l21, log l22 as the `chol` entries l11, l21, l22.
    let natural = [theta[2].exp(), theta[3], theta[4].exp()];
    let covariance =
        covariance(&[(0, 0, CovarianceKind::Chol, 0), (1, 0, CovarianceKind::Chol, 1), (1, 1, CovarianceKind::Chol, 2)], 2);
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
                        Curvature::GaussNewton => ("nll_laplace_GN", "H_gauss_newton"),
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
