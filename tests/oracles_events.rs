//! NLME.md section 7, event times and their derivatives: O2, O6, O7, O10 and O13, at the tolerances of the section.
#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::likelihood::individual::{Conditional, ConditionalOrder, ConditionalValue, Scope};
use mixode::likelihood::laplace::{MarginalOptions, individual_marginal};
use mixode::likelihood::noise::Measured;
use mixode::likelihood::quadrature::Rule;
use mixode::likelihood::{EvaluationError, Order};
use mixode::petab::{Censoring, NoiseDistribution};
use nalgebra::{DMatrix, DVector};
use oracle_support::event_support::{Event, Subject, document};
use oracle_support::nlme_support::{close, close_all, numbers, oracles};
use oracle_support::tight;

fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|(n, v)| (n.to_string(), *v)).collect()
}

/// First and second derivatives (pairs k <= l) by theta as those by log theta.
fn by_logarithms(theta: &[f64], first: &[f64], second: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = theta.len();
    let d: Vec<f64> = first.iter().zip(theta).map(|(d, p)| d * p).collect();
    let pairs = (0..n).flat_map(|k| (k..n).map(move |l| (k, l)));
    let dd = pairs.zip(second).map(|((k, l), v)| v * theta[k] * theta[l] + if k == l { d[k] } else { 0.0 }).collect();
    (d, dd)
}

/// O2: the typical cell of the conversion reaction as an SBML model with an event: x2 and the event time, both with first and second
/// derivatives by the logarithms of the parameters.
#[test]
fn typical_conversion() {
    let Some(oracles) = oracles() else { return };
    let o2 = &oracles["O2_conversion_typical_cell"];
    let variables = [("x1", "th1/(th1 + th2)", "th2*x2 - th1*x1"), ("x2", "th2/(th1 + th2)", "th1*x1 - th2*x2"), ("n", "0", "")];
    let xml = document(&variables, &["th1", "th2", "s", "c"], &[Event::new("s*x2 > c*th1/(th1 + th2)", &[("n", "n + 1")])]);
    let theta = [0.6, 0.2, 2.5, 1.8];
    let subject = Subject::new(&xml, &named(&[("th1", theta[0]), ("th2", theta[1]), ("s", theta[2]), ("c", theta[3])]), true).unwrap();
    let rows = o2["x2"].as_array().unwrap();
    let times: Vec<f64> = rows.iter().map(|r| r["t"].as_f64().unwrap()).collect();
    let trajectory = subject.simulate(&theta, 2, &times, &tight()).unwrap();
    let x2 = subject.state("x2");
    for (i, row) in rows.iter().enumerate() {
        let found = &trajectory.block(i)[x2 * trajectory.columns..][..trajectory.columns];
        let (first, second) = by_logarithms(&theta, &found[1..5], &found[5..]);
        close(found[0], row["x2"].as_f64().unwrap(), 1e-10, 0.0);
        close_all(&first[..2], &numbers(&row["d_log"]), 1e-10);
        close_all(&[second[0], second[1], second[4]], &numbers(&row["d2_log"]), 1e-10);
        assert!(first[2..].iter().chain([2, 3, 5, 6, 7, 8, 9].map(|p| &second[p])).all(|v| *v == 0.0));
    }
    let execution = &trajectory.executions[0];
    let (first, second) = by_logarithms(&theta, &execution.clock.first, &execution.clock.second);
    close(execution.time, o2["event_time"].as_f64().unwrap(), 1e-10, 0.0);
    close_all(&first, &numbers(&o2["dt_dlog"]), 1e-10);
    let expected: Vec<Vec<f64>> = o2["d2t_dlog2"].as_array().unwrap().iter().map(numbers).collect();
    let expected: Vec<f64> = (0..4).flat_map(|k| expected[k][k..].to_vec()).collect();
    close_all(&second, &expected, 1e-10);
}

/// x' = -k x from 1, event where x falls to 1/2, with phi = log k: one measurement of the event time or of x at 1.
struct Decay {
    subject: Subject,
    event: bool,
    measured: Measured,
    sigma: f64,
}

impl Decay {
    fn new(event: bool, value: f64, censoring: Censoring, sigma: f64) -> Self {
        let xml = document(&[("x", "1", "-k*x"), ("n", "0", "")], &["k"], &[Event::new("x < 0.5", &[("n", "n + 1")])]);
        let measured = Measured { distribution: NoiseDistribution::Normal, value, censoring, has_hazard: false };
        Decay { subject: Subject::new(&xml, &named(&[("k", 1.0)]), true).unwrap(), event, measured, sigma }
    }

    /// The measured quantity with its derivatives by log k.
    fn simulate(&self, log_k: f64) -> Option<[f64; 3]> {
        let k = [log_k.exp()];
        let end = if self.event { 1e4 } else { 1.0 };
        let trajectory = self.subject.simulate(&k, 2, &[end], &tight()).unwrap();
        let (value, first, second) = if self.event {
            let execution = trajectory.executions.first()?;
            (execution.time, execution.clock.first.clone(), execution.clock.second.clone())
        } else {
            let x = &trajectory.block(0)[self.subject.state("x") * 3..][..3];
            (x[0], vec![x[1]], vec![x[2]])
        };
        let (first, second) = by_logarithms(&k, &first, &second);
        Some([value, first[0], second[0]])
    }

    /// The likelihood over log k ~ N(0, 0.5^2) by quadrature with `points` nodes.
    fn marginal(mut self, points: usize) -> f64 {
        let one = |x: f64| DMatrix::from_element(1, 1, x);
        let omega = mixode::likelihood::covariance::Omega::new(one(0.25), vec![], vec![], &|i| i.to_string()).unwrap();
        let options = MarginalOptions { rule: Some(Rule::gauss_hermite(1, points)), ..MarginalOptions::default() };
        let term = individual_marginal(&mut self, &[0.0], &[0], &omega, &options, &mut Default::default(), Order::Value).unwrap();
        (-term.value).exp()
    }
}

impl Conditional for Decay {
    fn dimension(&self) -> usize {
        1
    }

    fn evaluate(&mut self, phi: &[f64], _: ConditionalOrder, _: Scope) -> Result<ConditionalValue, EvaluationError> {
        let [y, dy, ddy] = self.simulate(phi[0]).ok_or_else(|| EvaluationError::Density("no event".to_string()))?;
        let d = self.measured.density(y, self.sigma)?;
        let hessian = DMatrix::from_element(1, 1, d.dyy * dy * dy + d.dy * ddy);
        Ok(ConditionalValue {
            value: d.value,
            gradient: DVector::from_element(1, d.dy * dy),
            gauss_newton: Some(hessian.clone()),
            hessian: Some(hessian),
        })
    }
}

/// O5: density of one cell seen once, by simulation and quadrature.
#[test]
fn density_of_one_cell() {
    let Some(oracles) = oracles() else { return };
    for row in oracles["O5_snapshot_density"]["rows"].as_array().unwrap() {
        let found = Decay::new(false, row["y"].as_f64().unwrap(), Censoring::None, 0.05).marginal(120);
        close(found, row["p"].as_f64().unwrap(), 1e-10, 0.0);
    }
}

/// O6: density of an event time, survival and an interval with noise 0.2; survival without noise, where the threshold of log k
/// is found by Newton steps with the event time's derivative.
#[test]
fn time_to_event() {
    let Some(oracles) = oracles() else { return };
    let o6 = &oracles["O6_time_to_event"];
    let number = |key: &str| o6[key].as_f64().unwrap();
    for row in o6["density"].as_array().unwrap() {
        let found = Decay::new(true, row["T"].as_f64().unwrap(), Censoring::None, 0.2).marginal(200);
        close(found, row["p"].as_f64().unwrap(), 1e-10, 0.0);
    }
    close(Decay::new(true, 1.5, Censoring::Right, 0.2).marginal(200), number("P_survive_noise"), 1e-10, 0.0);
    close(Decay::new(true, 0.5, Censoring::Interval(1.0), 0.2).marginal(200), number("P_interval_0_5_1"), 1e-10, 0.0);
    let decay = Decay::new(true, 1.5, Censoring::Right, 0.2);
    let [_, slope, _] = decay.simulate(0.0).unwrap();
    close(slope, number("dtstar_dlogk_at_typical"), 1e-10, 0.0);
    let log_k = (0..20).fold(0.0, |log_k, _| {
        let [t, dt, _] = decay.simulate(log_k).unwrap();
        log_k - (t - 1.5) / dt
    });
    let survival = Measured { distribution: NoiseDistribution::Normal, value: 0.0, censoring: Censoring::Left, has_hazard: false };
    close((-survival.density(-log_k, 0.5).unwrap().value).exp(), number("P_survive_noise_free"), 1e-10, 0.0);
}

/// O7: x' = -k x, and x := x + d where x falls to c, once.
#[test]
fn jump_at_a_state() {
    let Some(oracles) = oracles() else { return };
    let o7 = &oracles["O7_jump_sensitivity"];
    let once = [Event::new("x <= c && n < 0.5", &[("x", "x + d"), ("n", "1")])];
    let xml = document(&[("x", "x0", "-k*x"), ("n", "0", "")], &["k", "x0", "c", "d"], &once);
    let subject = Subject::new(&xml, &named(&[("k", 0.8), ("x0", 2.0), ("c", 1.0), ("d", 0.7)]), true).unwrap();
    let t = o7["t_event"].as_f64().unwrap();
    // Both sides of the event, carried back to it by the flow s' = -k s - x dk.
    let step = 1e-3;
    let trajectory = subject.simulate(&subject.theta, 2, &[t - step, t + step, 2.0], &tight()).unwrap();
    let at_event = |i: usize, h: f64| {
        let growth = (0.8 * h).exp();
        let x = trajectory.block(i)[0] * growth;
        let mut s: Vec<f64> = trajectory.block(i)[1..5].iter().map(|s| s * growth).collect();
        s[0] += h * x;
        s
    };
    let execution = &trajectory.executions[0];
    close(execution.time, t, 1e-10, 0.0);
    close_all(&execution.clock.first, &numbers(&o7["dtau"]), 1e-10);
    close_all(&at_event(0, -step), &numbers(&o7["sx_minus"]), 1e-10);
    close_all(&at_event(1, step), &numbers(&o7["sx_plus"]), 1e-10);
    close(trajectory.block(2)[0], o7["x_at_t"].as_f64().unwrap(), 1e-10, 0.0);
    close_all(&trajectory.block(2)[1..5], &numbers(&o7["dx"]), 1e-10);
    // To second order from the closed form x(t) = (c + d) exp(-k (t - t*)) with t* = log(x0/c)/k:
    // log x(t) = log(c + d) - k t + log(x0/c).
    let (x, x0, c, both) = (trajectory.block(2)[0], 2.0, 1.0, 1.7);
    let first = [-2.0, 1.0 / x0, 1.0 / both - 1.0 / c, 1.0 / both];
    let second = |k: usize, l: usize| match (k, l) {
        (1, 1) => -1.0 / (x0 * x0),
        (2, 2) => 1.0 / (c * c) - 1.0 / (both * both),
        (2, 3) | (3, 3) => -1.0 / (both * both),
        _ => 0.0,
    };
    let expected: Vec<f64> =
        (0..4).flat_map(|k| (k..4).map(move |l| (k, l))).map(|(k, l)| x * (first[k] * first[l] + second(k, l))).collect();
    close_all(&trajectory.block(2)[5..15], &expected, 1e-10);
    let k = 0.8;
    let tau =
        [[2.0 * t / (k * k), -1.0 / (k * k * x0), 1.0 / (k * k * c)], [0.0, -1.0 / (k * x0 * x0), 0.0], [0.0, 0.0, 1.0 / (k * c * c)]];
    let pairs = (0..4).flat_map(|k| (k..4).map(move |l| (k, l)));
    let expected: Vec<f64> = pairs.map(|(k, l)| if l == 3 { 0.0 } else { tau[k][l] }).collect();
    close_all(&execution.clock.second, &expected, 1e-10);
}

/// O13: a jump that depends on state, time and parameter, at a falling root that does too, and a right-hand side that switches.
#[test]
fn general_jump() {
    let Some(oracles) = oracles() else { return };
    let o13 = &oracles["O13_event_formulas"]["general_jump"];
    let sets = [("x", "x + a*x*time"), ("on", "1")];
    let variables = [("x", "x0", "-k*x*(1 - on) + (1 - m*x)*on"), ("on", "0", "")];
    let xml = document(&variables, &["k", "x0", "c", "a", "m"], &[Event::new("x <= c*(1 + time/10) && on < 0.5", &sets)]);
    let theta = named(&[("k", 0.8), ("x0", 2.0), ("c", 1.0), ("a", 0.3), ("m", 0.5)]);
    let subject = Subject::new(&xml, &theta, true).unwrap();
    let number = |key: &str| o13[key].as_f64().unwrap();
    let (t, step) = (number("t_event"), 1e-3);
    let trajectory = subject.simulate(&subject.theta, 1, &[t - step, t + step, 2.0], &tight()).unwrap();
    let execution = &trajectory.executions[0];
    close(execution.time, t, 1e-10, 0.0);
    close_all(&execution.clock.first, &numbers(&o13["tau"]), 1e-10);
    close(trajectory.block(0)[0] * (-0.8 * step).exp(), number("x_minus"), 1e-10, 0.0);
    // Back to the event along x' = 1 - m x, where s' = -m s - x dm.
    let growth = (0.5 * step).exp();
    let after = 2.0 + (trajectory.block(1)[0] - 2.0) * growth;
    close(after, number("x_plus"), 1e-10, 0.0);
    let mut s: Vec<f64> = trajectory.block(1)[1..6].iter().map(|s| s * growth).collect();
    // x = 1/m + (x+ - 1/m) exp(-m h) has the derivative -1/m^2 (1 - e) - h (x+ - 1/m) e by m.
    let e = 1.0 / growth;
    s[4] -= (-4.0 * (1.0 - e) - step * (after - 2.0) * e) * growth;
    close_all(&s, &numbers(&o13["s_plus"]), 1e-10);
    close(trajectory.block(2)[0], number("x_end"), 1e-10, 0.0);
    close_all(&trajectory.block(2)[1..6], &numbers(&o13["dx_end"]), 1e-10);
}
