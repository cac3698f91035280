//! Events with derivatives: oracles of closed form, cascades, delays, simultaneous events, and the event models of the SBML suite
//! against differences.
#![allow(clippy::unwrap_used)]

mod event_support;
mod reference_data;
use event_support::{Event, Subject, document, reactions, suite_case, tight, with_rules};
use mixode::ode::SimulationError;
use reference_data::{numbers, oracles, shared};

fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|(n, v)| (n.to_string(), *v)).collect()
}

fn close(what: &str, computed: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(computed.len(), expected.len(), "{what}");
    for (i, (c, e)) in computed.iter().zip(expected).enumerate() {
        assert!((c - e).abs() <= tolerance * (1.0 + e.abs()), "{what} [{i}]: {c}, expected {e}");
    }
}

fn oracle(name: &str) -> Option<serde_json::Value> {
    Some(oracles()?[name].take())
}

/// First and second derivatives of all states at `times` against central differences of values and of first derivatives.
fn by_differences(subject: &Subject, times: &[f64], tolerance: f64) {
    let n = subject.theta.len();
    let nominal = subject.simulate(&subject.theta, 2, times, &tight()).unwrap();
    let first = subject.simulate(&subject.theta, 1, times, &tight()).unwrap();
    let moved: Vec<_> = (0..n)
        .map(|k| {
            let h = 1e-5 * subject.theta[k].abs().max(1e-2);
            let at = |sign: f64| {
                let mut theta = subject.theta.clone();
                theta[k] += sign * h;
                subject.simulate(&theta, 1, times, &tight()).unwrap()
            };
            (h, at(-1.0), at(1.0))
        })
        .collect();
    let difference = |k: usize, t: usize, i: usize, c: usize| {
        let (h, low, high) = &moved[k];
        (high.block(t)[i * (1 + n) + c] - low.block(t)[i * (1 + n) + c]) / (2.0 * h)
    };
    for t in 0..times.len() {
        let block = nominal.block(t);
        let columns = nominal.columns;
        for i in 0..nominal.nx {
            let row = &block[i * columns..][..columns];
            let mut pair = 1 + n;
            for k in 0..n {
                let what = format!("{} at {} by {k}", subject.model.states[i], times[t]);
                close(&what, &[row[1 + k]], &[difference(k, t, i, 0)], tolerance);
                close(&format!("{what}, first order alone"), &[first.block(t)[i * (1 + n) + 1 + k]], &[row[1 + k]], tolerance);
                for l in k..n {
                    close(&format!("{what} and {l}"), &[row[pair]], &[difference(l, t, i, 1 + k)], tolerance);
                    pair += 1;
                }
            }
        }
    }
}

/// O7 of NLME.md: x' = -k x, and x := x + d where x falls to c.
#[test]
fn jump_at_a_state() {
    let Some(o7) = oracle("O7_jump_sensitivity") else { return };
    // The oracle's jump happens once.
    let once = [Event::new("x <= c && n < 0.5", &[("x", "x + d"), ("n", "1")])];
    let xml = document(&[("x", "x0", "-k*x"), ("n", "0", "")], &["k", "x0", "c", "d"], &once);
    let subject = Subject::new(&xml, &named(&[("k", 0.8), ("x0", 2.0), ("c", 1.0), ("d", 0.7)]), true).unwrap();
    let t = o7["t_event"].as_f64().unwrap();
    // Just after the event the sensitivities are those of the oracle up to a step of 1e-9.
    let trajectory = subject.simulate(&subject.theta, 1, &[t + 1e-9, 2.0], &tight()).unwrap();
    close("t*", &[trajectory.executions[0].time], &[t], 1e-10);
    close("tau", &trajectory.executions[0].clock.first, &numbers(&o7["dtau"]), 1e-9);
    close("s+", &trajectory.block(0)[1..], &numbers(&o7["sx_plus"]), 1e-8);
    close("x", &trajectory.block(1)[..1], &[o7["x_at_t"].as_f64().unwrap()], 1e-9);
    close("dx", &trajectory.block(1)[1..], &numbers(&o7["dx"]), 1e-9);
    by_differences(&subject, &[0.5, 1.3, 2.0], 2e-6);
}

/// O6: x = exp(-k t) falls to 1/2 at log(2) / k; the time is recorded with its derivatives of both orders.
#[test]
fn time_of_an_event() {
    let Some(o6) = oracle("O6_time_to_event") else { return };
    let xml = document(&[("x", "1", "-k*x"), ("n", "0", "")], &["k"], &[Event::new("x < 0.5", &[("n", "n + 1")])]);
    let k = 1.3;
    let subject = Subject::new(&xml, &named(&[("k", k)]), true).unwrap();
    let trajectory = subject.simulate(&[k], 2, &[3.0], &tight()).unwrap();
    let execution = &trajectory.executions[0];
    let t = std::f64::consts::LN_2 / k;
    close("t*", &[execution.time], &[t], 1e-11);
    close("by k", &execution.clock.first, &[-t / k], 1e-10);
    close("twice by k", &execution.clock.second, &[2.0 * t / (k * k)], 1e-9);
    // The oracle has the derivative by log k at k = 1.
    close("by log k", &[execution.clock.first[0] * k * k], &[o6["dtstar_dlogk_at_typical"].as_f64().unwrap()], 1e-9);
}

/// O13: a jump that depends on state, time and parameter, at a falling root that does too, and a right-hand side that switches.
#[test]
fn general_jump() {
    let Some(o13) = oracle("O13_event_formulas") else { return };
    let o13 = &o13["general_jump"];
    let rate = "-k*x*(1 - on) + (1 - m*x)*on";
    let sets = [("x", "x + a*x*time"), ("on", "1")];
    let xml = document(&[("x", "x0", rate), ("on", "0", "")], &["k", "x0", "c", "a", "m"], &[Event::new("x <= c*(1 + time/10)", &sets)]);
    let theta = named(&[("k", 0.8), ("x0", 2.0), ("c", 1.0), ("a", 0.3), ("m", 0.5)]);
    let subject = Subject::new(&xml, &theta, true).unwrap();
    let t = o13["t_event"].as_f64().unwrap();
    let trajectory = subject.simulate(&subject.theta, 1, &[t + 1e-9, 2.0], &tight()).unwrap();
    close("t*", &[trajectory.executions[0].time], &[t], 1e-10);
    close("tau", &trajectory.executions[0].clock.first, &numbers(&o13["tau"]), 1e-9);
    close("x+", &trajectory.block(0)[..1], &[o13["x_plus"].as_f64().unwrap()], 1e-8);
    close("s+", &trajectory.block(0)[1..], &numbers(&o13["s_plus"]), 1e-8);
    close("x", &trajectory.block(1)[..1], &[o13["x_end"].as_f64().unwrap()], 1e-9);
    close("dx", &trajectory.block(1)[1..], &numbers(&o13["dx_end"]), 1e-9);
    by_differences(&subject, &[0.4, 1.0, 2.0], 2e-6);
}

/// A dose at a time that is a parameter.
#[test]
fn dose_at_a_parameter() {
    let xml = document(&[("x", "0", "-k*x")], &["k", "dose", "when"], &[Event::new("time >= when", &[("x", "x + dose")])]);
    let subject = Subject::new(&xml, &named(&[("k", 0.7), ("dose", 3.0), ("when", 1.1)]), true).unwrap();
    let trajectory = subject.simulate(&subject.theta, 2, &[1.0, 2.5], &tight()).unwrap();
    let x = 3.0 * (-0.7 * 1.4_f64).exp();
    close("before", trajectory.block(0), &[0.0; 10], 1e-12);
    let expected = [x, -1.4 * x, x / 3.0, 0.7 * x, 1.96 * x, -1.4 * x / 3.0, (1.0 - 1.4 * 0.7) * x, 0.0, 0.7 * x / 3.0, 0.49 * x];
    close("after", trajectory.block(1), &expected, 1e-9);
}

/// Delayed events: values of the trigger's time and of the execution's, with a delay that depends on states and parameters.
#[test]
fn delayed_events() {
    for at_trigger in [true, false] {
        let sets = [("x", "x + a*y*time"), ("k", "k*b")];
        let event = Event { delay: Some("d + 0.1*x"), at_trigger, ..Event::new("x < c", &sets) };
        let xml = document(&[("x", "x0", "-k*x"), ("y", "1", "x - 0.3*y"), ("k", "k0", "")], &["x0", "k0", "a", "b", "c", "d"], &[event]);
        let theta = named(&[("x0", 2.0), ("k0", 0.9), ("a", 0.4), ("b", 0.6), ("c", 1.2), ("d", 0.5)]);
        let subject = Subject::new(&xml, &theta, true).unwrap();
        by_differences(&subject, &[0.5, 0.9, 1.4, 3.0], 3e-6);
    }
}

/// A first dose triggers a second event at once, which triggers a third: AMICI's known weak point (NLME.md 3.2).
#[test]
fn cascades() {
    let events = [
        Event::new("x < c", &[("y", "y + d*x")]),
        Event::new("y > 1", &[("x", "x + 2*d"), ("z", "z + y*time")]),
        Event::new("z > 0.5", &[("x", "x*e")]),
    ];
    let xml = document(&[("x", "x0", "-k*x"), ("y", "0", "-0.2*y"), ("z", "0", "0.05*x")], &["x0", "k", "c", "d", "e"], &events);
    let subject = Subject::new(&xml, &named(&[("x0", 2.0), ("k", 0.8), ("c", 1.0), ("d", 1.5), ("e", 0.7)]), true).unwrap();
    by_differences(&subject, &[0.5, 1.0, 1.6], 3e-6);
}

/// Two events whose times agree for every parameter value, ordered by priority; and one that happens a little before another by
/// chance of the parameters, whose effect the other one sees.
#[test]
fn simultaneous_events() {
    let events = [
        Event { priority: Some("1"), ..Event::new("x < c", &[("y", "y*2")]) },
        Event { priority: Some("2"), ..Event::new("2*x < 2*c", &[("y", "y + d*time")]) },
        Event::new("x < 0.9*c", &[("y", "y - x")]),
    ];
    let xml = document(&[("x", "x0", "-k*x"), ("y", "1", "0.3*x")], &["x0", "k", "c", "d"], &events);
    let subject = Subject::new(&xml, &named(&[("x0", 2.0), ("k", 0.8), ("c", 1.0), ("d", 1.5)]), true).unwrap();
    let trajectory = subject.simulate(&subject.theta, 0, &[2.0], &tight()).unwrap();
    let order: Vec<usize> = trajectory.executions.iter().map(|e| e.event).collect();
    assert_eq!(order, [1, 0, 2]);
    by_differences(&subject, &[0.5, 1.0, 2.0], 3e-6);
}

/// Algebraic rules: one linear in its variable, one that is not, and one whose variable an assignment moves away from it.
#[test]
fn algebraic_rules() {
    let variables = [("x", "x0", "-k*x"), ("y", "0", "z + u"), ("z", "0.5", ""), ("u", "0", "")];
    let events = [Event::new("x < c", &[("x", "x + a*time"), ("y", "y*z")])];
    let xml = with_rules(&document(&variables, &["x0", "k", "a", "c"], &events), &["z + z^3 - a*x - time*c", "2*u - a*z - x"]);
    let subject = Subject::new(&xml, &named(&[("x0", 2.0), ("k", 0.8), ("a", 0.7), ("c", 1.0)]), true).unwrap();
    let trajectory = subject.simulate(&subject.theta, 0, &[0.0, 0.5, 2.0], &tight()).unwrap();
    let (x, z) = (subject.state("x"), subject.state("z"));
    for (i, t) in [0.0, 0.5, 2.0].iter().enumerate() {
        let (x, z) = (trajectory.block(i)[x], trajectory.block(i)[z]);
        // The equation is kept by its derivative, so to the accuracy of the integration.
        close("residual", &[z + z.powi(3) - 0.7 * x - t], &[0.0], 1e-9);
    }
    by_differences(&subject, &[0.0, 0.5, 1.0, 2.0], 3e-6);
}

/// Fast reactions: A + B <-> C in equilibrium with constant q, while A is produced and C decays.
#[test]
fn fast_reactions() {
    let list: [(bool, &[&str], &[&str], &str); 3] =
        [(true, &["A", "B"], &["C"], "A*B - q*C"), (false, &[], &["A"], "p*V"), (false, &["C"], &[], "V*d*C")];
    let xml = reactions(&[("A", "a0"), ("B", "b0"), ("C", "0")], &["q", "p", "d", "a0", "b0"], &list);
    let subject = Subject::new(&xml, &named(&[("q", 0.4), ("p", 0.3), ("d", 0.5), ("a0", 1.0), ("b0", 2.0)]), true).unwrap();
    let times = [0.0, 0.5, 3.0];
    let trajectory = subject.simulate(&subject.theta, 0, &times, &tight()).unwrap();
    let [a, b, c] = ["A", "B", "C"].map(|id| subject.state(id));
    for i in 0..times.len() {
        let x = trajectory.block(i);
        close("equilibrium", &[x[a] * x[b]], &[0.4 * x[c]], 1e-10);
    }
    close("totals at the start", &[trajectory.block(0)[a] + trajectory.block(0)[c]], &[1.0], 1e-12);
    by_differences(&subject, &times, 3e-6);
}

/// x' = -x(t - 1) with x = 1 before the start: x = 1 - t until 1, then 1 - t + (t - 1)^2/2, then also - (t - 2)^3/6. A dose at 0.5 is
/// felt again one delay later.
#[test]
fn delay_differential_equation() {
    let dose = [Event::new("time >= 0.5", &[("y", "y + 1")])];
    let xml = document(&[("x", "1", "-LAG_x"), ("y", "0", "LAG_y")], &["LAG_x", "LAG_y"], &dose);
    let lagged = |xml: String, id: &str| {
        let symbol = "<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/delay\">d</csymbol>";
        xml.replace(&format!("<ci>LAG_{id}</ci>"), &format!("<apply>{symbol}<ci>{id}</ci><cn>1</cn></apply>"))
    };
    let xml = lagged(lagged(xml, "x"), "y");
    let subject = Subject::new(&xml, &named(&[("LAG_x", 1.0)]), false).unwrap();
    let times = [0.5, 1.0, 1.25, 2.0, 2.75];
    let trajectory = subject.simulate(&[1.0], 0, &times, &mixode::ode::Options { rtol: 1e-10, atol: 1e-12, ..tight() }).unwrap();
    let (x, y) = (subject.state("x"), subject.state("y"));
    for (i, t) in times.iter().enumerate() {
        let late = |lag: f64| f64::max(t - lag, 0.0);
        close("x", &[trajectory.block(i)[x]], &[1.0 - t + late(1.0).powi(2) / 2.0 - late(2.0).powi(3) / 6.0], 1e-8);
        // y is 1 from 0.5 on, and what came in then comes in again from 1.5 and 2.5 on.
        let again = late(1.5) + late(2.5).powi(2) / 2.0;
        close("y", &[trajectory.block(i)[y]], &[if *t < 0.5 { 0.0 } else { 1.0 + again }], 1e-8);
    }
    let error = subject.simulate(&[1.0], 1, &times, &tight()).unwrap_err();
    assert!(matches!(&error, SimulationError::Unsupported { what } if what.contains("delay")), "{error}");
}

/// Rounded numbers in conditions: x grows in the first half of every period of 3.
#[test]
fn periodic_conditions() {
    let xml = document(&[("x", "0", "ON")], &["ON"], &[]);
    let periodic = "<piecewise><piece><cn>1</cn><apply><lt/><apply><minus/>TIME<apply><times/><cn>3</cn><apply><floor/><apply><divide/>\
                    TIME<cn>3</cn></apply></apply></apply></apply><cn>0.5</cn></apply></piece><otherwise><cn>0</cn></otherwise></piecewise>";
    let xml = xml.replace("<ci>ON</ci>", &periodic.replace("TIME", TIME));
    let subject = Subject::new(&xml, &named(&[("ON", 1.0)]), false).unwrap();
    let trajectory = subject.simulate(&[1.0], 0, &[0.25, 3.0, 20.0], &tight()).unwrap();
    close("x", trajectory.blocks.as_slice(), &[0.25, 0.5, 3.5], 1e-10);
}

const TIME: &str = "<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/time\">t</csymbol>";

/// A bouncing ball: v := -e v where the height falls to 0, many times.
#[test]
fn bouncing_ball() {
    let xml = document(&[("h", "h0", "v"), ("v", "0", "-g")], &["h0", "g", "e"], &[Event::new("h <= 0", &[("v", "-e*v")])]);
    let subject = Subject::new(&xml, &named(&[("h0", 1.5), ("g", 9.81), ("e", 0.8)]), true).unwrap();
    by_differences(&subject, &[0.3, 0.8, 1.9, 2.6], 1e-5);
}

/// An event that is not persistent is not executed if its condition ends before its delay does.
#[test]
fn persistence() {
    for (persistent, expected) in [(true, 1.0), (false, 0.0)] {
        let event = Event { delay: Some("1"), persistent, ..Event::new("time > 1 && time < 1.5", &[("x", "x + 1")]) };
        let xml = document(&[("x", "0", "")], &["k"], &[event]);
        let subject = Subject::new(&xml, &named(&[("k", 1.0)]), false).unwrap();
        let trajectory = subject.simulate(&[1.0], 0, &[3.0], &tight()).unwrap();
        let x = subject.model.parameters.iter().position(|p| p == "x").unwrap();
        assert_eq!(trajectory.parameters[trajectory.segment[0]][x], expected);
    }
}

/// A trigger that holds for a thousandth of the integrator's steps is not missed, nor is a peak that only just gets there.
#[test]
fn short_windows() {
    let sine = [("x", "0", "v"), ("v", "1", "-x"), ("n", "0", "")];
    // The peaks of x are 1, at pi/2, 5 pi/2, ...: above 0.999999 for 0.003.
    let events = [Event::new("x > 0.999999", &[("n", "n + 1")])];
    let subject = Subject::new(&document(&sine, &["k"], &events), &named(&[("k", 1.0)]), false).unwrap();
    let trajectory = subject.simulate(&[1.0], 0, &[30.0], &mixode::ode::Options { rtol: 1e-9, ..tight() }).unwrap();
    assert_eq!(trajectory.executions.len(), 5);
    let window = [Event::new("x > 0.18 && x < 0.180001", &[("n", "n + 1")])];
    let subject = Subject::new(&document(&sine, &["k"], &window), &named(&[("k", 1.0)]), false).unwrap();
    let trajectory = subject.simulate(&[1.0], 0, &[30.0], &mixode::ode::Options { rtol: 1e-6, atol: 1e-9, ..tight() }).unwrap();
    assert_eq!(trajectory.executions.len(), 10);
}

/// Events of equal priority are drawn; the draw is recorded and follows the seed.
#[test]
fn random_order_follows_the_seed() {
    let event = |set: &'static [(&'static str, &'static str)]| Event { priority: Some("1"), ..Event::new("time >= 1", set) };
    let events = [event(&[("x", "1")]), event(&[("x", "2")])];
    let subject = Subject::new(&document(&[("x", "0", "")], &["k"], &events), &named(&[("k", 1.0)]), false).unwrap();
    let last = |seed: u64| {
        let options = mixode::ode::Options { seed, ..tight() };
        let trajectory = subject.simulate(&[1.0], 0, &[2.0], &options).unwrap();
        assert!(trajectory.executions[0].drawn && !trajectory.executions[1].drawn);
        trajectory.executions[1].event
    };
    let ends: Vec<usize> = (0..20).map(last).collect();
    assert!(ends.contains(&0) && ends.contains(&1));
    assert_eq!(ends, (0..20).map(last).collect::<Vec<_>>());
}

/// Assignments that trigger their own event again and again end with an error that names it.
#[test]
fn endless_events_end() {
    let events = [
        Event::new("x > 0", &[("x", "-1"), ("y", "1")]),
        Event::new("y > 0", &[("x", "1"), ("y", "-1")]),
        Event::new("z > 0", &[("x", "1")]),
    ];
    let xml = document(&[("x", "-1", ""), ("y", "-1", ""), ("z", "-1", "1")], &["k"], &events);
    let subject = Subject::new(&xml, &named(&[("k", 1.0)]), false).unwrap();
    let error = subject.simulate(&[1.0], 0, &[3.0], &tight()).unwrap_err();
    assert!(matches!(error, SimulationError::EventLoop { .. }), "{error}");
}

/// First derivatives of the suite's event models against differences, wherever the differences from both sides agree.
#[test]
fn event_models_of_the_suite() {
    let Some(suite) = shared("suites/sbml") else { return };
    let folders = std::fs::read_dir(suite).unwrap();
    let mut folders: Vec<_> = folders.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let (mut compared, mut one_sided, mut models, mut refused, mut wrong) = (0, 0, 0, 0, vec![]);
    for folder in folders {
        let Some((xml, parameters, times)) = suite_case(&folder) else { continue };
        let Some(subject) = Subject::new(&xml, &parameters, false) else { continue };
        let case = folder.file_name().unwrap().to_str().unwrap().to_string();
        let n = parameters.len();
        let nominal = match subject.simulate(&subject.theta, 1, &times, &tight()) {
            Ok(trajectory) => trajectory,
            // Grazing and the like: the result says that there is no derivative.
            Err(SimulationError::Grazing { .. } | SimulationError::Unsupported { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("{case}: {error}"),
        };
        if nominal.executions.iter().any(|e| e.drawn) {
            continue;
        }
        models += 1;
        for k in 0..n {
            let h = 2e-6 * subject.theta[k].abs();
            let at = |steps: f64| {
                let mut theta = subject.theta.clone();
                theta[k] += steps * h;
                subject.simulate(&theta, 0, &times, &tight())
            };
            let (Ok(low), Ok(middle), Ok(high)) = (at(-1.0), at(0.0), at(1.0)) else { continue };
            for t in 0..times.len() {
                for i in 0..nominal.nx {
                    let (a, b, c) = (low.block(t)[i], middle.block(t)[i], high.block(t)[i]);
                    let (left, right, central) = ((b - a) / h, (c - b) / h, (c - a) / (2.0 * h));
                    let noise = 1e-9 * (a.abs() + b.abs()).max(1e-3) / h;
                    if (left - right).abs() > 1e-2 * central.abs() + noise {
                        one_sided += 1;
                        continue;
                    }
                    compared += 1;
                    let computed = nominal.block(t)[i * (1 + n) + 1 + k];
                    if (computed - central).abs() > 1e-3 * central.abs() + noise {
                        wrong.push(format!(
                            "{case}: d{}/d{} at {}: {computed}, by differences {central}",
                            subject.model.states[i], parameters[k].0, times[t]
                        ));
                    }
                }
            }
        }
    }
    eprintln!("{models} event models, {compared} derivatives compared, {one_sided} with different sides, {refused} models refused");
    assert!(wrong.is_empty(), "{} of {compared} derivatives:\n{}", wrong.len(), wrong.join("\n"));
    assert!(models >= 150 && compared >= 3000, "too few: {models} models, {compared} derivatives");
}
