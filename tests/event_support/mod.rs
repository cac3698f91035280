//! SBML models with parameters to derive by, and their simulation with derivatives.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, dead_code)]

use mixode::diag::Diagnostics;
use mixode::jit::Scratch;
use mixode::model::{self, CompileOptions, CompiledModel};
use mixode::ode::{Input, Options, Second, SimulationError, Simulator, Trajectory, Weights};
use mixode::{petab, sbml};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// A model with the `parameters` (names, values) as theta, compiled with second derivatives where `second`.
pub struct Subject {
    pub model: Arc<CompiledModel>,
    pub theta: Vec<f64>,
}

impl Subject {
    /// `None` where the model cannot be read as a PEtab problem.
    pub fn new(xml: &str, parameters: &[(String, f64)], second: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("model.xml", xml);
        let mut table = "parameterId\tlowerBound\tupperBound\tnominalValue\testimate\n".to_string();
        for (id, value) in parameters {
            let _ = writeln!(table, "{id}\t-1e6\t1e6\t{value:e}\ttrue");
        }
        write("parameters.tsv", &table);
        write("observables.tsv", &format!("observableId\tobservableFormula\tnoiseFormula\nobserved_here\t{}\t1\n", parameters.first()?.0));
        write("measurements.tsv", "observableId\texperimentId\tmeasurement\ttime\nobserved_here\t\t0\tinf\n");
        write(
            "problem.yaml",
            "format_version: 2.0.0\nparameter_files: [parameters.tsv]\nmodel_files:\n  m: {location: model.xml, language: sbml}\n\
             observable_files: [observables.tsv]\nmeasurement_files: [measurements.tsv]\n",
        );
        let mut diagnostics = Diagnostics::new();
        let built = petab::read_what_is_there(&folder.path().join("problem.yaml"), None, &mut diagnostics).and_then(|problem| {
            let model = sbml::read(&problem.model, &mut diagnostics)?;
            model::build(&model, Some(&problem), 0.0, &mut diagnostics)
        });
        if diagnostics.has_errors() {
            eprintln!("{}", diagnostics.concise());
        }
        let system = built?;
        let model = model::compile(&system, CompileOptions { second, ..CompileOptions::default() }).unwrap();
        Some(Subject { model, theta: parameters.iter().map(|p| p.1).collect() })
    }

    pub fn state(&self, id: &str) -> usize {
        self.model.states.iter().position(|s| s == id).unwrap()
    }

    /// Simulates at `theta` with derivatives by all of theta up to `order`.
    pub fn simulate(&self, theta: &[f64], order: usize, times: &[f64], options: &Options) -> Result<Trajectory, SimulationError> {
        let experiment = &self.model.experiments[0];
        let (np, nx, nt) = (self.model.parameters.len(), self.model.states.len(), theta.len());
        let ns = if order > 0 { nt } else { 0 };
        let pairs: Vec<(u32, u32)> =
            if order > 1 { (0..nt as u32).flat_map(|k| (k..nt as u32).map(move |l| (k, l))).collect() } else { vec![] };
        let mut input = vec![0.0; np];
        input[..nt].copy_from_slice(theta);
        let mut scratch = Scratch::default();
        let values = experiment.setup.values(&input, &mut scratch);
        let mut seeds = vec![0.0; (np + nx) * ns];
        if ns > 0 {
            for (output, theta, v) in experiment.setup.derivatives(&input, &mut scratch) {
                seeds[output * ns + theta] += v;
            }
        }
        let mut second = vec![0.0; (np + nx) * pairs.len()];
        if !pairs.is_empty() {
            for ([output, k, l], v) in experiment.setup.second_derivatives(&input, nx, &mut scratch) {
                let place = pairs.iter().position(|p| *p == (k as u32, l as u32)).unwrap();
                second[output * pairs.len() + place] += v;
            }
        }
        let input = Input {
            start: experiment.start,
            states: &values[np..],
            parameters: &values[..np],
            changes: &experiment.changes,
            triggers: None,
            before: &experiment.before,
            directions: ns,
            state_seeds: &seeds[np * ns..],
            parameter_seeds: &seeds[..np * ns],
            second: (!pairs.is_empty()).then_some(Second {
                pairs: &pairs,
                states: &second[np * pairs.len()..],
                parameters: &second[..np * pairs.len()],
            }),
            awaited: None,
        };
        let mut simulator = Simulator::new(self.model.clone(), options.clone())?;
        simulator.simulate(&input, times).cloned()
    }
}

impl Subject {
    /// By adjoint sensitivities: the gradient by theta of the sum over all outputs (times by states) of `weights` times states.
    pub fn gradient(&self, weights: &[f64], times: &[f64], options: &Options) -> Result<Vec<f64>, SimulationError> {
        let experiment = &self.model.experiments[0];
        let np = self.model.parameters.len();
        let mut input = vec![0.0; np];
        input[..self.theta.len()].copy_from_slice(&self.theta);
        let mut scratch = Scratch::default();
        let values = experiment.setup.values(&input, &mut scratch);
        let start = Input {
            start: experiment.start,
            states: &values[np..],
            parameters: &values[..np],
            changes: &experiment.changes,
            triggers: None,
            before: &experiment.before,
            directions: 0,
            state_seeds: &[],
            parameter_seeds: &[],
            second: None,
            awaited: None,
        };
        let mut simulator = Simulator::new(self.model.clone(), options.clone())?;
        simulator.record(&start, times)?;
        let by_start = simulator.backward(&Weights { states: weights.to_vec(), parameters: vec![] })?;
        let mut gradient = vec![0.0; self.theta.len()];
        for (output, row, v) in experiment.setup.derivatives(&input, &mut scratch) {
            gradient[row] += v * if output < np { by_start.parameters[output] } else { by_start.states[output - np] };
        }
        Ok(gradient)
    }
}

pub fn tight() -> Options {
    Options { rtol: 1e-12, atol: 1e-14, sensitivity_factor: 1.0, ..Options::default() }
}

/// MathML of a formula in the grammar of PEtab, for the few operators that the tests use.
pub fn math(formula: &str) -> String {
    use mixode::expr::{Ast, AstKind, Binary, Unary};
    fn element(ast: &Ast) -> String {
        match &ast.kind {
            AstKind::Number(v) => format!("<cn>{v}</cn>"),
            AstKind::Name(n) => format!("<ci>{n}</ci>"),
            AstKind::Time => "<csymbol encoding=\"text\" definitionURL=\"http://www.sbml.org/sbml/symbols/time\">t</csymbol>".into(),
            AstKind::Unary(Unary::Neg, a) => format!("<apply><minus/>{}</apply>", element(a)),
            AstKind::Binary(op, a, b) => {
                let name = match op {
                    Binary::Add => "plus",
                    Binary::Sub => "minus",
                    Binary::Mul => "times",
                    Binary::Div => "divide",
                    Binary::Pow => "power",
                    Binary::Lt => "lt",
                    Binary::Le => "leq",
                    Binary::Gt => "gt",
                    Binary::Ge => "geq",
                    Binary::And => "and",
                    _ => panic!("operator {op:?}"),
                };
                format!("<apply><{name}/>{}{}</apply>", element(a), element(b))
            }
            other => panic!("{other:?}"),
        }
    }
    format!("<math xmlns=\"http://www.w3.org/1998/Math/MathML\">{}</math>", element(&mixode::expr::parse(formula).unwrap()))
}

/// An event of level 3.
pub struct Event<'a> {
    pub trigger: &'a str,
    pub delay: Option<&'a str>,
    pub priority: Option<&'a str>,
    pub at_trigger: bool,
    pub persistent: bool,
    pub sets: &'a [(&'a str, &'a str)],
}

impl<'a> Event<'a> {
    pub fn new(trigger: &'a str, sets: &'a [(&'a str, &'a str)]) -> Self {
        Event { trigger, delay: None, priority: None, at_trigger: true, persistent: true, sets }
    }
}

/// The model with algebraic rules added; their variables are listed without a rate.
pub fn with_rules(document: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|r| format!("<algebraicRule>{}</algebraicRule>", math(r))).collect();
    document.replace("</listOfRules>", &format!("{rules}</listOfRules>"))
}

/// A model of species in a compartment of volume V and of reactions (fast, reactants, products, rate), level 3 version 1.
pub fn reactions(species: &[(&str, &str)], constants: &[&str], reactions: &[(bool, &[&str], &[&str], &str)]) -> String {
    let mut s =
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version1/core\" level=\"3\" version=\"1\"><model id=\"m\"><listOfCompartments>\
                 <compartment id=\"V\" size=\"2\" spatialDimensions=\"3\" constant=\"true\"/></listOfCompartments><listOfSpecies>"
            .to_string();
    for (id, _) in species {
        let _ = write!(
            s,
            "<species id=\"{id}\" compartment=\"V\" hasOnlySubstanceUnits=\"false\" boundaryCondition=\"false\" constant=\"false\"/>"
        );
    }
    s += "</listOfSpecies><listOfParameters>";
    for id in constants {
        let _ = write!(s, "<parameter id=\"{id}\" value=\"1\" constant=\"true\"/>");
    }
    s += "</listOfParameters><listOfInitialAssignments>";
    for (id, initial) in species {
        let _ = write!(s, "<initialAssignment symbol=\"{id}\">{}</initialAssignment>", math(initial));
    }
    s += "</listOfInitialAssignments><listOfReactions>";
    for (number, (fast, reactants, products, rate)) in reactions.iter().enumerate() {
        let _ = write!(s, "<reaction id=\"r{number}\" reversible=\"true\" fast=\"{fast}\">");
        for (list, side) in [("listOfReactants", reactants), ("listOfProducts", products)] {
            if !side.is_empty() {
                let references =
                    side.iter().map(|id| format!("<speciesReference species=\"{id}\" stoichiometry=\"1\" constant=\"true\"/>"));
                let _ = write!(s, "<{list}>{}</{list}>", references.collect::<String>());
            }
        }
        let _ = write!(s, "<kineticLaw>{}</kineticLaw></reaction>", math(rate));
    }
    s + "</listOfReactions></model></sbml>"
}

/// A model of variables (name, initial value, rate; rate "" for none) and events.
pub fn document(variables: &[(&str, &str, &str)], constants: &[&str], events: &[Event]) -> String {
    let mut s =
        "<sbml xmlns=\"http://www.sbml.org/sbml/level3/version2/core\" level=\"3\" version=\"2\"><model id=\"m\"><listOfParameters>"
            .to_string();
    for (id, ..) in variables {
        let _ = write!(s, "<parameter id=\"{id}\" constant=\"false\"/>");
    }
    for id in constants {
        let _ = write!(s, "<parameter id=\"{id}\" value=\"1\" constant=\"true\"/>");
    }
    s += "</listOfParameters><listOfInitialAssignments>";
    for (id, initial, _) in variables {
        let _ = write!(s, "<initialAssignment symbol=\"{id}\">{}</initialAssignment>", math(initial));
    }
    s += "</listOfInitialAssignments><listOfRules>";
    for (id, _, rate) in variables.iter().filter(|v| !v.2.is_empty()) {
        let _ = write!(s, "<rateRule variable=\"{id}\">{}</rateRule>", math(rate));
    }
    s += "</listOfRules><listOfEvents>";
    for e in events {
        let _ = write!(s, "<event useValuesFromTriggerTime=\"{}\">", e.at_trigger);
        let _ = write!(s, "<trigger initialValue=\"true\" persistent=\"{}\">{}</trigger>", e.persistent, math(e.trigger));
        e.delay.iter().for_each(|d| s += &format!("<delay>{}</delay>", math(d)));
        e.priority.iter().for_each(|p| s += &format!("<priority>{}</priority>", math(p)));
        s += "<listOfEventAssignments>";
        for (id, value) in e.sets {
            let _ = write!(s, "<eventAssignment variable=\"{id}\">{}</eventAssignment>", math(value));
        }
        s += "</listOfEventAssignments></event>";
    }
    s += "</listOfEvents></model></sbml>";
    s
}

/// Constant parameters of a file with their values, and the output times of its settings, moved off round numbers.
pub fn suite_case(folder: &Path) -> Option<(String, Vec<(String, f64)>, Vec<f64>)> {
    let case = folder.file_name()?.to_str()?.to_string();
    let mut files: Vec<_> = std::fs::read_dir(folder).ok()?.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_str().unwrap().starts_with(&format!("{case}-sbml-l")));
    let xml = std::fs::read_to_string(files.into_iter().max()?).ok()?;
    if !xml.contains("<event ") && !xml.contains("<event>") || xml.contains("symbols/delay") || xml.contains("comp:") {
        return None;
    }
    let document = roxmltree::Document::parse(&xml).ok()?;
    let list = document.descendants().find(|n| n.has_tag_name_local("listOfParameters"))?;
    let assigned: Vec<&str> = document.descendants().filter_map(|n| n.attribute("variable").or(n.attribute("symbol"))).collect();
    let parameters: Vec<(String, f64)> = list
        .children()
        .filter(|n| n.is_element())
        .filter_map(|n| Some((n.attribute("id")?.to_string(), n.attribute("value")?.parse::<f64>().ok()?)))
        .filter(|(id, value)| *value != 0.0 && value.is_finite() && !assigned.contains(&id.as_str()))
        .take(6)
        .collect();
    let settings = std::fs::read_to_string(folder.join(format!("{case}-settings.txt"))).ok()?;
    let duration: f64 = settings.lines().find_map(|l| l.strip_prefix("duration:"))?.trim().parse().ok()?;
    (!parameters.is_empty()).then(|| (xml.clone(), parameters, [0.137, 0.389, 0.713, 0.971].map(|f| f * duration).to_vec()))
}

trait Local {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl Local for roxmltree::Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name && self.parent_element().is_some_and(|p| p.tag_name().name() == "model")
    }
}
