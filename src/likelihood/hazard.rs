//! Likelihood of the time of an event that comes at random with a hazard (NLME.md 3.3).
//!
//! With the hazard lambda and its integral Lambda from the start of the experiment the negative log likelihood of a time T is
//!
//! * observed: Lambda(T) - log lambda(T),
//! * right-censored at T: Lambda(T),
//! * left-censored at T: -log(1 - exp(-Lambda(T))),
//! * in the interval (T, U]: Lambda(T) - log(1 - exp(-(Lambda(U) - Lambda(T)))).

use super::EvaluationError;
use super::noise::Density;
use crate::petab::Censoring;

/// Negative log likelihood by `cumulative` = Lambda(T) and `other`, with derivatives by both in the places of those by y and s. `other` is
/// lambda(T), or Lambda(U) for an interval.
///
/// There is no expected information of a single row; `fisher_yy` is that of a Poisson number of events with the mean Lambda, whose
/// likelihood an observed or censored time has up to constants. `residual` is 0.
///
/// # Errors
/// [`EvaluationError::Density`] where the likelihood vanishes or is undefined.
pub fn density(censoring: Censoring, cumulative: f64, other: f64) -> Result<Density, EvaluationError> {
    let refuse = |what: &str, value: f64| Err(EvaluationError::Density(format!("{what} ({value})")));
    if !(cumulative >= 0.0 && cumulative.is_finite()) {
        return refuse("the cumulative hazard of an event is no number from 0 on", cumulative);
    }
    let fisher_yy = if cumulative > 0.0 { cumulative.recip() } else { 0.0 };
    let mut d = Density { fisher_yy, ..Density::certain(cumulative) };
    match censoring {
        Censoring::None => {
            if !(other > 0.0 && other.is_finite()) {
                return refuse("the hazard of an event is not a positive number", other);
            }
            d.value -= other.ln();
            (d.dy, d.ds, d.dss) = (1.0, -other.recip(), (other * other).recip());
        }
        Censoring::Right => d.dy = 1.0,
        Censoring::Interval(upper) if upper == f64::INFINITY => d.dy = 1.0,
        Censoring::Left => {
            let (value, first, second) = log_probability(cumulative);
            (d.value, d.dy, d.dyy) = (-value, -first, -second);
        }
        Censoring::Interval(_) => {
            let (value, first, second) = log_probability(other - cumulative);
            d.value -= value;
            (d.dy, d.ds) = (1.0 + first, -first);
            (d.dyy, d.dys, d.dss) = (-second, second, -second);
        }
    }
    if !d.value.is_finite() || !d.dy.is_finite() || !d.ds.is_finite() {
        return refuse("the likelihood of the time of an event vanishes at the cumulative hazard", cumulative);
    }
    Ok(d)
}

/// log(1 - exp(-x)) with its first two derivatives.
fn log_probability(x: f64) -> (f64, f64, f64) {
    let odds = x.exp_m1().recip();
    let value = if x < 0.5 { (-(-x).exp_m1()).ln() } else { (-(-x).exp()).ln_1p() };
    (value, odds, -odds * (1.0 + odds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_those_of_the_survival_function() {
        let s = |x: f64| (-x).exp();
        for (censoring, other, expected) in [
            (Censoring::None, 0.3, 0.3 * s(0.7)),
            (Censoring::Right, f64::NAN, s(0.7)),
            (Censoring::Left, f64::NAN, 1.0 - s(0.7)),
            (Censoring::Interval(9.0), 1.9, s(0.7) - s(1.9)),
        ] {
            let d = density(censoring, 0.7, other).unwrap();
            assert!((d.value + expected.ln()).abs() < 1e-14, "{censoring:?}");
        }
        assert!(density(Censoring::None, 0.7, 0.0).is_err());
        assert!(density(Censoring::Left, 0.0, f64::NAN).is_err());
        assert!(density(Censoring::Right, f64::NAN, 1.0).is_err());
    }

    #[test]
    fn derivatives_are_those_of_the_value() {
        for censoring in [Censoring::None, Censoring::Right, Censoring::Left, Censoring::Interval(9.0)] {
            let (y, s, h) = (0.7, 1.9, 1e-5);
            let at = |y: f64, s: f64| density(censoring, y, s).unwrap();
            let d = at(y, s);
            let by_y = |f: &dyn Fn(&Density) -> f64| (f(&at(y + h, s)) - f(&at(y - h, s))) / (2.0 * h);
            let by_s = |f: &dyn Fn(&Density) -> f64| (f(&at(y, s + h)) - f(&at(y, s - h))) / (2.0 * h);
            let pairs = [
                (d.dy, by_y(&|d| d.value)),
                (d.ds, by_s(&|d| d.value)),
                (d.dyy, by_y(&|d| d.dy)),
                (d.dys, by_s(&|d| d.dy)),
                (d.dss, by_s(&|d| d.ds)),
            ];
            for (exact, difference) in pairs {
                assert!((exact - difference).abs() < 1e-8, "{censoring:?}: {exact} {difference}");
            }
        }
    }
}
