//! Covariances of random effects: parametrisations (oracle O8) and covariance tables.
#![allow(clippy::unwrap_used)]

mod nlme_support;

use mixode::diag::Source;
use mixode::likelihood::EvaluationError;
use mixode::likelihood::covariance::{Covariance, Omega};
use mixode::likelihood::parametrisation::Parametrisation;
use mixode::petab::CovarianceEntry;
use mixode::petab::CovarianceKind::{self, *};
use mixode::petab::TableValue::{self, Number, Parameter};
use nalgebra::{DMatrix, DVector};
use nlme_support::{close, close_all, matrix, numbers, oracles};

/// NLME.md O8: mpmath with 40 digits; tolerance 1e-10 relative to the largest entry of each matrix. Entry by entry where the
/// matrices are well conditioned.
#[test]
fn parametrisations_agree_with_the_oracle() {
    let Some(oracles) = oracles() else { return };
    let names = [
        ("matrix_log_lower_rowwise", Parametrisation::MatrixLogarithm),
        ("log_cholesky_UtU", Parametrisation::LogCholesky),
        ("spherical_UtU", Parametrisation::Spherical),
        ("lie", Parametrisation::Lie),
        ("givens", Parametrisation::Givens),
    ];
    let oracle = &oracles["O8_covariance_parametrisations"];
    assert_eq!(oracle.as_object().unwrap().len(), 10);
    for (name, parametrisation) in names {
        for m in [2, 3] {
            let expected = &oracle[format!("{name}_m{m}")];
            let result = parametrisation.evaluate(m, &numbers(&expected["delta"])).unwrap();
            let check = |a: &DMatrix<f64>, b: DMatrix<f64>| {
                println!("{name} {m}");
                close_all(a.as_slice(), b.as_slice(), 1e-10);
            };
            check(&result.d, matrix(&expected["D"]));
            check(&result.inverse, matrix(&expected["invD"]));
            close(result.log_det, expected["logdet"].as_f64().unwrap(), 1e-10, 0.0);
            let dd = expected["dD_ddelta"].as_array().unwrap();
            assert_eq!(result.dd.len(), dd.len());
            for (a, b) in result.dd.iter().zip(dd) {
                check(a, matrix(b));
            }
        }
    }
}

#[test]
fn a_diagonal_covariance_is_the_same_in_all_parametrisations() {
    let log_variances = [-1.2, 0.4, -3.0];
    let cases = [
        (Parametrisation::LogVariance, vec![-1.2, 0.4, -3.0]),
        (Parametrisation::MatrixLogarithm, vec![-1.2, 0.0, 0.4, 0.0, 0.0, -3.0]),
        (Parametrisation::LogCholesky, vec![-0.6, 0.2, -1.5, 0.0, 0.0, 0.0]),
        (Parametrisation::Spherical, {
            let right = std::f64::consts::FRAC_PI_2;
            vec![-0.6, 0.2, -1.5, right, right, right]
        }),
        (Parametrisation::Givens, vec![-1.2, 0.4, -3.0, 0.0, 0.0, 0.0]),
        (Parametrisation::Lie, vec![-1.2, 0.4, -3.0, 0.0, 0.0, 0.0]),
    ];
    let b = DVector::from_vec(vec![0.3, -1.0, 0.2]);
    let expected: f64 = b.iter().zip(log_variances).map(|(b, v): (&f64, f64)| 0.5 * (b * b / v.exp() + v)).sum();
    for (parametrisation, delta) in cases {
        let p = parametrisation.evaluate(3, &delta).unwrap();
        let d = DMatrix::from_diagonal(&DVector::from_iterator(3, log_variances.map(f64::exp).into_iter()));
        close_all(p.d.as_slice(), d.as_slice(), 1e-14);
        let omega = Omega::new(p.d, (0..delta.len()).collect(), p.dd, &|i| i.to_string()).unwrap();
        close(omega.prior(&b), expected, 1e-13, 0.0);
        // Equal likelihoods need equal derivatives where two forms share the meaning of a parameter: d/d log variance.
        if matches!(parametrisation, Parametrisation::LogVariance | Parametrisation::Givens | Parametrisation::Lie) {
            let gradient = omega.prior_gradient(&b);
            for k in 0..3 {
                close(gradient[k], 0.5 * (1.0 - b[k] * b[k] / log_variances[k].exp()), 1e-13, 0.0);
            }
        }
    }
    assert!(Parametrisation::LogVariance.evaluate(3, &[0.0; 6]).is_none());
}

fn entry(row: usize, column: usize, kind: CovarianceKind, value: TableValue) -> CovarianceEntry {
    CovarianceEntry { row, column, kind, value, span: Source::new("covariance.tsv", "x").span(0..1) }
}

fn ids(n: usize) -> Vec<String> {
    ["b_k", "b_v", "b_s"][..n].iter().map(|s| (*s).to_string()).collect()
}

#[test]
fn tables_of_every_kind_give_the_covariance_they_describe() {
    // Parameters of the problem; only 1..=4 are used, 2 twice.
    let natural = [f64::NAN, 0.5, 0.3, -1.2, 0.4];
    let mixed = Covariance::new(
        &[
            entry(1, 0, Corr, Parameter(4)),
            entry(0, 0, Sd, Parameter(1)),
            entry(1, 1, Var, Parameter(2)),
            entry(2, 2, LogVar, Parameter(3)),
            entry(1, 2, Var, Number(0.05)),
        ],
        &ids(3),
    )
    .unwrap();
    let omega = mixed.evaluate(&natural).unwrap();
    let c = 0.4 * 0.5 * 0.3_f64.sqrt();
    let d = DMatrix::from_row_slice(3, 3, &[0.25, c, 0.0, c, 0.3, 0.05, 0.0, 0.05, (-1.2_f64).exp()]);
    close_all(omega.d.as_slice(), d.as_slice(), 1e-15);
    assert_eq!(omega.parameters, [4, 1, 2, 3]);

    let factor = Covariance::new(
        &[entry(0, 0, Chol, Parameter(1)), entry(1, 0, Chol, Parameter(3)), entry(1, 1, Chol, Parameter(2)), entry(2, 2, Sd, Parameter(2))],
        &ids(3),
    )
    .unwrap();
    let omega = factor.evaluate(&natural).unwrap();
    let d = DMatrix::from_row_slice(3, 3, &[0.25, -0.6, 0.0, -0.6, 1.44 + 0.09, 0.0, 0.0, 0.0, 0.09]);
    close_all(omega.d.as_slice(), d.as_slice(), 1e-15);
    close_all(omega.l.as_slice(), &[0.5, -1.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.3], 1e-14);

    for covariance in [&mixed, &factor] {
        let omega = covariance.evaluate(&natural).unwrap();
        close_all((&omega.d * &omega.inverse).as_slice(), DMatrix::<f64>::identity(3, 3).as_slice(), 1e-12);
        close_all((&omega.l * omega.l.transpose()).as_slice(), omega.d.as_slice(), 1e-14);
        close(omega.log_det, omega.d.determinant().ln(), 1e-13, 0.0);
        let b = DVector::from_vec(vec![0.2, -0.3, 0.7]);
        let gradient = omega.prior_gradient(&b);
        for (k, &parameter) in omega.parameters.iter().enumerate() {
            let at = |h: f64| {
                let mut x = natural;
                x[parameter] += h;
                covariance.evaluate(&x).unwrap()
            };
            let h = 1e-4;
            let (plus, minus) = (at(h), at(-h));
            let difference = |f: &dyn Fn(&Omega) -> DMatrix<f64>| (f(&plus) - f(&minus)) / (2.0 * h);
            close_all(omega.dd[k].as_slice(), difference(&|o| o.d.clone()).as_slice(), 1e-6);
            close_all(omega.dl[k].as_slice(), difference(&|o| o.l.clone()).as_slice(), 1e-6);
            close(gradient[k], (plus.prior(&b) - minus.prior(&b)) / (2.0 * h), 1e-6, 1.0);
        }
    }

    // A sub-block has its own factor.
    let omega = mixed.evaluate(&natural).unwrap();
    let part = omega.select(&[1, 2]);
    close_all(part.d.as_slice(), omega.d.view((1, 1), (2, 2)).clone_owned().as_slice(), 0.0);
    close_all((&part.l * part.l.transpose()).as_slice(), part.d.as_slice(), 1e-14);
    close(part.log_det, part.d.determinant().ln(), 1e-13, 0.0);
    assert_eq!(part.parameters, omega.parameters);
}

#[test]
fn impossible_covariances_are_named() {
    let message = |entries: &[CovarianceEntry], natural: &[f64]| match Covariance::new(entries, &ids(2)).unwrap().evaluate(natural) {
        Err(EvaluationError::Density(text)) => text,
        other => panic!("{other:?}"),
    };
    let full = [entry(0, 0, Var, Number(1.0)), entry(1, 1, Var, Number(1.0)), entry(0, 1, Var, Parameter(0))];
    assert_eq!(message(&full, &[1.5]), "the covariance of the random effects is not positive definite at `b_v` together with `b_k`");
    assert_eq!(message(&full, &[1.0]), "the covariance of the random effects is not positive definite at `b_v` together with `b_k`");
    let diagonal = [entry(0, 0, Sd, Parameter(0)), entry(1, 1, Var, Number(1.0))];
    assert_eq!(message(&diagonal, &[-0.5]), "the standard deviation of random effect `b_k` is not a positive number (-0.5)");
    let correlated = [entry(0, 0, Sd, Number(1.0)), entry(1, 1, Sd, Number(1.0)), entry(1, 0, Corr, Parameter(0))];
    assert_eq!(message(&correlated, &[1.0]), "the correlation of random effects `b_k` and `b_v` is not between -1 and 1 (1)");
}

#[test]
fn impossible_tables_are_refused() {
    let codes = |entries: &[CovarianceEntry]| {
        let diagnostics = Covariance::new(entries, &ids(2)).unwrap_err();
        diagnostics.items().iter().map(|d| d.code).collect::<Vec<_>>()
    };
    let first = entry(0, 0, Sd, Number(1.0));
    let second = entry(1, 1, Sd, Number(1.0));
    assert_eq!(codes(std::slice::from_ref(&first)), ["P0480"]);
    assert_eq!(codes(&[first.clone(), second.clone(), entry(0, 1, Corr, Number(0.0)), entry(1, 0, Corr, Number(0.0))]), ["P0481"]);
    assert_eq!(codes(&[first.clone(), second.clone(), entry(1, 0, Sd, Number(0.1))]), ["P0482"]);
    assert_eq!(codes(&[first.clone(), second.clone(), entry(1, 0, Chol, Number(0.1))]), ["P0482"]);
    assert_eq!(codes(&[first, entry(1, 1, Chol, Number(1.0)), entry(1, 0, Corr, Number(0.1))]), ["P0482"]);
    let factor = [entry(0, 0, Chol, Number(1.0)), entry(1, 1, Chol, Number(1.0)), entry(0, 1, Chol, Number(0.1))];
    assert_eq!(codes(&factor), ["P0482"]);
}
