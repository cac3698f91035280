//! Steady states and pre-equilibration: closed forms, differences, and what comes before an experiment.
#![allow(clippy::unwrap_used)]

mod event_support;
use event_support::{Event, Subject, document, reactions, tight};
use mixode::diag::Diagnostics;
use mixode::likelihood::adjoint::Request;
use mixode::likelihood::population::PopulationOptions;
use mixode::likelihood::problem::ProblemObjective;
use mixode::likelihood::{Objective, Order};
use mixode::model::{self, CompileOptions};
use mixode::ode::{Options, SimulationError};
use mixode::{petab, sbml};

fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|(n, v)| (n.to_string(), *v)).collect()
}

#[track_caller]
fn close(what: &str, computed: f64, expected: f64, tolerance: f64) {
    assert!((computed - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}: {computed}, expected {expected}");
}

const AT_INFINITY: [f64; 1] = [f64::INFINITY];

/// A <-> B: B* = k1 (A0 + B0) / (k1 + k2), where A + B is conserved.
#[test]
fn conversion() {
    let xml = reactions(&[("A", "a0"), ("B", "b0")], &["a0", "b0", "k1", "k2"], &[(false, &["A"], &["B"], "V*(k1*A - k2*B)")]);
    let theta = [("a0", 1.5), ("b0", 0.25), ("k1", 0.7), ("k2", 0.3)];
    let subject = Subject::new(&xml, &named(&theta), true).unwrap();
    assert_eq!(subject.model.conserved.len(), 1);
    let trajectory = subject.simulate(&subject.theta, 2, &[1.0, f64::INFINITY], &tight()).unwrap();
    let (total, k1, k2) = (1.75, 0.7, 0.3);
    let sum: f64 = k1 + k2;
    let row = &trajectory.block(1)[trajectory.columns * subject.state("B")..][..trajectory.columns];
    let expected = [
        k1 * total / sum,
        k1 / sum,
        k1 / sum,
        k2 * total / sum.powi(2),
        -k1 * total / sum.powi(2),
        // Pairs in the order (a0, a0), (a0, b0), (a0, k1), ..., (k2, k2).
        0.0,
        0.0,
        k2 / sum.powi(2),
        -k1 / sum.powi(2),
        0.0,
        k2 / sum.powi(2),
        -k1 / sum.powi(2),
        -2.0 * k2 * total / sum.powi(3),
        (k1 - k2) * total / sum.powi(3),
        2.0 * k1 * total / sum.powi(3),
    ];
    for (c, (found, expected)) in row.iter().zip(expected).enumerate() {
        close(&format!("column {c}"), *found, expected, 1e-12);
    }
    // At a finite time before, nothing has changed.
    close("A at 1", trajectory.block(0)[0], 1.75 * k2 + (1.5 - 1.75 * k2) * (-1.0_f64).exp(), 1e-10);
}

/// An enzyme that turns S into P, which decays back: nonlinear, two conserved quantities. The reference is a simulation so long that
/// nothing changes any more, with its integrated sensitivities.
#[test]
fn enzyme_cycle_as_after_a_long_time() {
    let xml = reactions(
        &[("S", "s0"), ("E", "e0"), ("C", "0"), ("P", "0")],
        &["s0", "e0", "k1", "k2", "k3", "k4"],
        &[(false, &["S", "E"], &["C"], "V*(k1*S*E - k2*C)"), (false, &["C"], &["P", "E"], "V*k3*C"), (false, &["P"], &["S"], "V*k4*P")],
    );
    let theta = [("s0", 3.0), ("e0", 0.4), ("k1", 2.0), ("k2", 0.5), ("k3", 1.2), ("k4", 0.2)];
    let subject = Subject::new(&xml, &named(&theta), true).unwrap();
    assert_eq!(subject.model.conserved.len(), 2);
    let end = subject.simulate(&subject.theta, 2, &AT_INFINITY, &tight()).unwrap();
    let long = subject.simulate(&subject.theta, 2, &[500.0], &tight()).unwrap();
    for (i, (a, b)) in end.block(0).iter().zip(long.block(0)).enumerate() {
        close(&format!("entry {i}"), *a, *b, 1e-9);
    }
}

/// x' = -a x, y' = b x^2: y* = y0 + b x0^2 / (2 a). The steady states are a line that no linear conserved quantity describes, so
/// the Jacobian stays singular and the sensitivities are integrated.
#[test]
fn steady_states_that_are_not_isolated() {
    let xml = document(&[("x", "x0", "-a*x"), ("y", "y0", "b*x*x")], &["a", "b", "x0", "y0"], &[]);
    let subject = Subject::new(&xml, &named(&[("a", 0.8), ("b", 0.6), ("x0", 1.5), ("y0", 0.2)]), true).unwrap();
    assert!(subject.model.conserved.is_empty());
    let options = Options { steady_state: (1e-11, 1e-14), ..tight() };
    let trajectory = subject.simulate(&subject.theta, 2, &AT_INFINITY, &options).unwrap();
    let (a, b, x0, y0): (f64, f64, f64, f64) = (0.8, 0.6, 1.5, 0.2);
    let row = &trajectory.block(0)[trajectory.columns..];
    close("y", row[0], y0 + b * x0 * x0 / (2.0 * a), 1e-10);
    for (c, expected) in [-b * x0 * x0 / (2.0 * a * a), x0 * x0 / (2.0 * a), b * x0 / a, 1.0].into_iter().enumerate() {
        close(&format!("dy by {c}"), row[1 + c], expected, 1e-9);
    }
    close("d2y/da2", row[5], b * x0 * x0 / a.powi(3), 1e-8);
    close("d2y/dx0 db", row[10], x0 / a, 1e-8);
}

/// The start is a steady state already: an isolated one, one where the Jacobian is singular, and one with nothing to conserve.
#[test]
fn already_at_rest() {
    let xml = document(&[("x", "x0", "-k*x*x"), ("y", "p/d", "p - d*y")], &["k", "x0", "p", "d"], &[]);
    let subject = Subject::new(&xml, &named(&[("k", 0.8), ("x0", 0.0), ("p", 3.0), ("d", 2.0)]), true).unwrap();
    let trajectory = subject.simulate(&subject.theta, 1, &AT_INFINITY, &tight()).unwrap();
    let (x, y) = trajectory.block(0).split_at(5);
    // dx/dx0 along x = 0 is 1 for all time.
    for (c, (found, expected)) in x.iter().zip([0.0, 0.0, 1.0, 0.0, 0.0]).enumerate() {
        close(&format!("x, column {c}"), *found, expected, 1e-12);
    }
    for (c, (found, expected)) in y.iter().zip([1.5, 0.0, 0.0, 0.5, -0.75]).enumerate() {
        close(&format!("y, column {c}"), *found, expected, 1e-9);
    }
}

/// x' = x (1 - x) (x - 1/2): a start just above the unstable steady state ends at 1, on it stays there.
#[test]
fn an_unstable_steady_state_is_passed() {
    let xml = document(&[("x", "x0", "k*x*(1-x)*(x-0.5)")], &["k", "x0"], &[]);
    for (x0, end) in [(0.5, 0.5), (0.5 + 1e-7, 1.0), (0.5 + 1e-3, 1.0), (0.5 - 1e-5, 0.0)] {
        let subject = Subject::new(&xml, &named(&[("k", 2.0), ("x0", x0)]), true).unwrap();
        let trajectory = subject.simulate(&subject.theta, 1, &AT_INFINITY, &tight()).unwrap_or_else(|e| panic!("from {x0}: {e}"));
        close(&format!("from {x0}"), trajectory.block(0)[0], end, 1e-9);
    }
}

/// Events on the way: x = k/d (1 - exp(-d t)) reaches c at t* = -log(1 - c d/k)/d, when y grows by t*; at 40, another one doubles y.
#[test]
fn events_on_the_way() {
    let events = [Event::new("x >= c", &[("y", "y + s*time")]), Event::new("time >= 40", &[("y", "2*y")])];
    let xml = document(&[("x", "0", "k - d*x"), ("y", "y0", "0*y")], &["k", "d", "c", "y0", "s"], &events);
    let theta = [("k", 1.0), ("d", 0.5), ("c", 1.2), ("y0", 0.3), ("s", 1.5)];
    let subject = Subject::new(&xml, &named(&theta), true).unwrap();
    let trajectory = subject.simulate(&subject.theta, 1, &AT_INFINITY, &tight()).unwrap();
    assert_eq!(trajectory.executions.len(), 2);
    let (k, d, c, y0, s): (f64, f64, f64, f64, f64) = (1.0, 0.5, 1.2, 0.3, 1.5);
    let rest = 1.0 - c * d / k;
    let time = -rest.ln() / d;
    let (dk, dd, dc) = (-(c / (k * k)) / rest, c / (k * rest * d) + rest.ln() / (d * d), 1.0 / (k * rest));
    let y = &trajectory.block(0)[subject.state("y") * 6..][..6];
    let expected = [y0 + s * time, s * dk, s * dd, s * dc, 1.0, time].map(|v| 2.0 * v);
    for (column, (found, expected)) in y.iter().zip(expected).enumerate() {
        close(&format!("y, column {column}"), *found, expected, 1e-8);
    }
    let x = &trajectory.block(0)[subject.state("x") * 6..][..3];
    for (column, (found, expected)) in x.iter().zip([k / d, 1.0 / d, -k / (d * d)]).enumerate() {
        close(&format!("x, column {column}"), *found, expected, 1e-12);
    }
}

/// What never comes to rest is an error that says how far it is.
#[test]
fn no_steady_state() {
    let drift = document(&[("x", "x0", "1")], &["x0"], &[]);
    let oscillation = document(&[("x", "x0", "v"), ("v", "0", "-x")], &["x0"], &[]);
    for (xml, options) in [(drift, tight()), (oscillation, Options { max_steps: 5000, ..tight() })] {
        let subject = Subject::new(&xml, &named(&[("x0", 1.0)]), true).unwrap();
        match subject.simulate(&subject.theta, 1, &AT_INFINITY, &options) {
            Err(SimulationError::SteadyState { rate: Some((_, rate)), .. }) => assert!(rate.abs() > 1e-3),
            other => panic!("{other:?}"),
        }
    }
}

/// A problem in a temporary folder.
struct Written(tempfile::TempDir);

impl Written {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            // Columns are written with blanks between them.
            let tabs = |line: &str| line.split_whitespace().collect::<Vec<_>>().join("\t");
            let text = if name.ends_with(".tsv") { text.lines().map(|l| tabs(l) + "\n").collect() } else { text.to_string() };
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Written(folder)
    }

    fn objective(&self, options: Options) -> ProblemObjective {
        let mut d = Diagnostics::new();
        let problem = petab::read(self.0.path(), &mut d).unwrap_or_else(|| panic!("{}", d.render(false)));
        let model = sbml::read(&problem.model, &mut d).unwrap_or_else(|| panic!("{}", d.render(false)));
        let system = model::build(&model, Some(&problem), 0.0, &mut d).unwrap_or_else(|| panic!("{}", d.render(false)));
        let compiled = model::compile(&system, CompileOptions::default()).unwrap();
        ProblemObjective::new(compiled, &problem, options, &PopulationOptions::default()).unwrap()
    }
}

/// Gradients of a tight objective, forward and adjoint, against central differences.
fn gradient_agrees(written: &Written, tolerance: f64) {
    let mut objective = written.objective(tight());
    let x: Vec<f64> = objective.parameters().iter().map(|p| p.nominal).collect();
    let nominal = objective.map().nominal().to_vec();
    objective.choose_method(Request::Adjoint, 1.0, &nominal);
    let backward = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap().gradient;
    objective.choose_method(Request::Forward, 1.0, &nominal);
    let gradient = objective.evaluate(&x, Order::Gradient, &mut objective.memory()).unwrap().gradient;
    for k in 0..x.len() {
        let at = |h: f64| {
            let mut moved = x.clone();
            moved[k] += h;
            objective.evaluate(&moved, Order::Value, &mut objective.memory()).unwrap().value
        };
        let h = 1e-4;
        let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        close(&objective.parameters()[k].id, gradient[k], difference, tolerance);
        close(&format!("{}, adjoint", objective.parameters()[k].id), backward[k], difference, tolerance);
    }
}

/// Version 1: two simulation conditions after one pre-equilibration, another after none; a state that is set to a parameter, a
/// constant that only the pre-equilibration changes (it has the model's value again), a constant with an initial assignment
/// that depends on a changed one, an output parameter, and a measurement at infinity.
#[test]
fn version_1() {
    let xml = reactions(
        &[("A", "1"), ("B", "b_start"), ("C", "0")],
        &["k1", "k2", "k3", "b_start", "light", "double"],
        &[(false, &["A"], &["B"], "V*(k1*light*A - k2*B)"), (false, &["B"], &["C"], "V*double*B*C"), (false, &["C"], &["A"], "V*k3*C")],
    );
    // C starts at a positive value so that its autocatalysis runs, and `double` follows `light`.
    let xml = xml.replace(
        "</listOfInitialAssignments>",
        "<initialAssignment symbol=\"double\"><math xmlns=\"http://www.w3.org/1998/Math/MathML\">\
         <apply><times/><cn>0.4</cn><ci>light</ci></apply></math></initialAssignment></listOfInitialAssignments>",
    );
    let written = Written::new(&[
        ("model.xml", &xml),
        (
            "problem.yaml",
            "format_version: 1\nparameter_file: parameters.tsv\nproblems:\n- {sbml_files: [model.xml], condition_files: [conditions.tsv], \
             observable_files: [observables.tsv], measurement_files: [measurements.tsv]}\n",
        ),
        (
            "parameters.tsv",
            "parameterId parameterScale lowerBound upperBound nominalValue estimate
             k1 log10 1e-3 1e3 0.5 1
             k2 log10 1e-3 1e3 0.8 1
             k3 lin 0 10 0.05 1
             dark lin 0 10 0.6 1
             a_new lin 0 10 1.3 1
             offset lin -1 1 0.05 1",
        ),
        (
            "conditions.tsv",
            "conditionId light C A shift
             rest dark 0.2 0.9 0
             on 1.5 NaN a_new offset
             off NaN NaN NaN 0.1
             alone 0.7 0.3 0.4 offset",
        ),
        ("observables.tsv", "observableId observableFormula noiseFormula\n o A+shift 0.1\n p C 0.05\n q B*light 0.1"),
        (
            "measurements.tsv",
            "observableId preequilibrationConditionId simulationConditionId time measurement
             o rest on 0 1.2
             o rest on 2 0.9
             p rest on 2 0.3
             q rest on 5 0.3
             p rest on inf 0.8
             o rest off 0 0.5
             p rest off 3 0.4
             q rest off inf 0.3
             o NaN alone 1 0.3
             p NaN alone inf 0.3",
        ),
    ]);
    gradient_agrees(&written, 1e-7);
    // The state that the condition names has the parameter's value, the others that of the steady state.
    let objective = written.objective(tight());
    let natural = objective.map().nominal().to_vec();
    let simulations = objective.summary(&natural).unwrap().simulations;
    close("A + offset at 0", simulations[0], 1.3 + 0.05, 1e-12);
    // After `off`, light is 1 again, double 0.4 of it: C* = (T - k3/0.4 (1 + ...)) follows from B* = k3/0.4.
    close("B* light under off", simulations[7], 0.05 / 0.4, 1e-9);
}

/// Without the inhibitor its complexes are cut off from the rest, and their sum is conserved although the equations do not say so.
#[test]
fn a_part_that_is_cut_off() {
    let xml = reactions(
        &[("A", "1"), ("AI", "0.3"), ("BI", "0.1")],
        &["inhibitor", "k1", "k2", "k3", "k4"],
        &[
            (false, &["A"], &["AI"], "V*k1*inhibitor*A"),
            (false, &["AI"], &["BI"], "V*(k3*AI - k4*BI)"),
            (false, &["AI"], &["A"], "V*k2*inhibitor*AI"),
        ],
    );
    let written = Written::new(&[
        ("model.xml", &xml),
        (
            "problem.yaml",
            "format_version: 1\nparameter_file: parameters.tsv\nproblems:\n- {sbml_files: [model.xml], condition_files: [conditions.tsv], \
             observable_files: [observables.tsv], measurement_files: [measurements.tsv]}\n",
        ),
        (
            "parameters.tsv",
            "parameterId parameterScale lowerBound upperBound nominalValue estimate
             k1 log10 1e-3 1e3 0.5 1
             k2 log10 1e-3 1e3 0.8 1
             k3 lin 0 10 0.3 1
             k4 lin 0 10 0.7 1",
        ),
        ("conditions.tsv", "conditionId inhibitor\n without 0\n with 0.5"),
        ("observables.tsv", "observableId observableFormula noiseFormula\n b BI 0.05\n a A 0.05"),
        (
            "measurements.tsv",
            "observableId preequilibrationConditionId simulationConditionId time measurement
             b without with 0 0.2
             a without with 2 0.8
             b without with inf 0.2
             b NaN without inf 0.1",
        ),
    ]);
    gradient_agrees(&written, 1e-7);
    let objective = written.objective(tight());
    let simulations = objective.summary(objective.map().nominal()).unwrap().simulations;
    close("BI without inhibitor", simulations[0], 0.4 * 0.3, 1e-12);
}

/// Version 2, as case 0023 of its test suite describes it: p grows by 1 per time up to 500, where an event adds 1000. The event of the
/// pre-equilibration is not executed again at 0, and there is no finite period.
#[test]
fn version_2_trigger_survives() {
    let events = [Event::new("p >= 500", &[("p", "p + 1000")])];
    let xml = document(&[("p", "p0", "f")], &["p0"], &events);
    let ramp = "<assignmentRule variable=\"f\"><math xmlns=\"http://www.w3.org/1998/Math/MathML\"><piecewise><piece><cn>1</cn><apply><lt/>\
                <ci>p</ci><cn>500</cn></apply></piece><otherwise><cn>0</cn></otherwise></piecewise></math></assignmentRule>";
    let xml = xml.replace("<listOfParameters>", "<listOfParameters><parameter id=\"f\" constant=\"false\"/>");
    let xml = xml.replace("<listOfRules>", &format!("<listOfRules>{ramp}"));
    let written = Written::new(&[
        ("model.xml", &xml),
        (
            "problem.yaml",
            "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
             observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\nexperiment_files: [experiments.tsv]\n",
        ),
        ("parameters.tsv", "parameterId lowerBound upperBound nominalValue estimate\n p0 -inf inf 10 true"),
        ("experiments.tsv", "experimentId\ttime\tconditionId\n e\t-inf\t"),
        ("observables.tsv", "observableId observableFormula noiseFormula\n o p 1"),
        ("measurements.tsv", "observableId experimentId time measurement\n o e 0 1500\n o e inf 1500\n o e 5 1499"),
    ]);
    let objective = written.objective(Options::default());
    let simulations = objective.summary(&[10.0]).unwrap().simulations;
    for (i, found) in simulations.iter().enumerate() {
        close(&format!("row {i}"), *found, 1500.0, 1e-9);
    }
    let gradient = objective.evaluate(&[10.0], Order::Gradient, &mut objective.memory()).unwrap().gradient;
    // p is 1500 whatever p0 is.
    close("gradient", gradient[0], 0.0, 1e-7);
}
