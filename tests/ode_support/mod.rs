//! Small models from formulas, and the starts of their simulations.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use mixode::expr::{self, AstKind, ExprId, Graph, SymbolId};
use mixode::jit::{Backend, Kernel, Layout, compile};
use mixode::model::CompiledModel;
use mixode::model::compiled::{
    Assignments, Delays, Function, Invariants, PeriodChange, SparseKernel, Switch, SwitchKind, Target, TensorKernel, array,
};
use mixode::ode::{Input, Second};
use std::sync::Arc;

/// The symbols of one model, with their places in the kernels' inputs.
pub struct Symbols {
    graph: Graph,
    layout: Layout,
    states: Vec<SymbolId>,
    parameters: Vec<SymbolId>,
    time: SymbolId,
}

impl Symbols {
    pub fn new(states: &[&str], parameters: &[&str]) -> Self {
        let mut graph = Graph::new();
        let mut layout = Layout::new();
        let mut symbol = |name: &str, array, offset| {
            let e = graph.symbol(name);
            let id = graph.symbol_id(e).unwrap();
            layout.place(id, array, offset);
            id
        };
        let time = symbol("time", array::TIME, 0);
        let states = states.iter().enumerate().map(|(i, n)| symbol(n, array::STATES, i)).collect();
        let parameters = parameters.iter().enumerate().map(|(i, n)| symbol(n, array::PARAMETERS, i)).collect();
        Symbols { graph, layout, states, parameters, time }
    }

    pub fn formula(&mut self, text: &str) -> ExprId {
        let ast = expr::parse(text).unwrap();
        let mut resolve = |graph: &mut Graph, node: &expr::Ast| match &node.kind {
            AstKind::Name(name) => {
                assert!(graph.find(name).is_some(), "unknown name {name}");
                Some(graph.symbol(name))
            }
            AstKind::Time => Some(graph.symbol("time")),
            _ => None,
        };
        self.graph.lower(&ast, &mut resolve).unwrap()
    }

    pub fn kernel(&self, outputs: &[ExprId]) -> Kernel {
        compile(&self.graph, &self.layout, &[outputs], Backend::Auto).unwrap().remove(0)
    }

    pub fn nonzero(&self, e: ExprId) -> bool {
        self.graph.constant_value(e) != Some(0.0)
    }

    pub fn sparse(&mut self, outputs: &[ExprId], by: &[SymbolId]) -> SparseKernel {
        let (mut rows, mut columns, mut values) = (vec![], vec![], vec![]);
        for (i, &e) in outputs.iter().enumerate() {
            for (j, &s) in by.iter().enumerate() {
                let d = self.graph.derivative(e, s);
                if self.nonzero(d) {
                    rows.push(i as u32);
                    columns.push(j as u32);
                    values.push(d);
                }
            }
        }
        SparseKernel { kernel: self.kernel(&values), rows, columns }
    }

    pub fn function(&mut self, formulas: &[&str]) -> Function {
        let outputs: Vec<ExprId> = formulas.iter().map(|f| self.formula(f)).collect();
        let (states, parameters) = (self.states.clone(), self.parameters.clone());
        let dx = self.sparse(&outputs, &states);
        let dp = self.sparse(&outputs, &parameters);
        let dt: Vec<ExprId> = outputs.iter().map(|&e| self.graph.derivative(e, self.time)).collect();
        // These functions have no placeholders, so time comes after the parameters.
        let z: Vec<SymbolId> = states.into_iter().chain(parameters).chain([self.time]).collect();
        let (mut entries, mut values) = (vec![], vec![]);
        for (i, &e) in outputs.iter().enumerate() {
            for a in 0..z.len() {
                let d = self.graph.derivative(e, z[a]);
                for b in a..z.len() {
                    let dd = self.graph.derivative(d, z[b]);
                    if self.nonzero(dd) {
                        entries.push([i as u32, a as u32, b as u32]);
                        values.push(dd);
                    }
                }
            }
        }
        let second = Some(TensorKernel { kernel: self.kernel(&values), entries });
        Function { value: self.kernel(&outputs), dx, dp, dt: self.kernel(&dt), second }
    }
}

/// A model from (state, rate) and (flag, root function, explicit time); the flags come last in `parameters`.
pub fn model(states: &[(&str, &str)], parameters: &[&str], switches: &[(&str, &str, bool)]) -> Arc<CompiledModel> {
    let names: Vec<&str> = states.iter().map(|s| s.0).collect();
    let mut symbols = Symbols::new(&names, parameters);
    let rates: Vec<&str> = states.iter().map(|s| s.1).collect();
    let rhs = symbols.function(&rates);
    let conditions: Vec<&str> = switches.iter().map(|s| s.1).collect();
    let roots = symbols.function(&conditions);
    let switches = switches
        .iter()
        .map(|(flag, _, explicit)| Switch {
            flag: parameters.iter().position(|p| p == flag).unwrap(),
            explicit_time: *explicit,
            curved_in_time: false,
            only_observed: false,
            kind: SwitchKind::Comparison([false, false, true]),
        })
        .collect();
    Arc::new(CompiledModel {
        states: names.iter().map(|s| s.to_string()).collect(),
        parameters: parameters.iter().map(|s| s.to_string()).collect(),
        theta: parameters.len(),
        rhs,
        switches,
        roots,
        events: vec![],
        triggers: symbols.kernel(&[]),
        observed_events: vec![],
        invariants: Invariants {
            residuals: symbols.function(&[]),
            places: vec![],
            directions: symbols.kernel(&[]),
            directions_vary: false,
            positive: vec![],
        },
        delays: Delays { parameters: vec![], values: vec![], delays: vec![] },
        conserved: vec![],
        constraints: symbols.kernel(&[]),
        outputs: symbols.kernel(&[]),
        observables: vec![],
        experiments: vec![],
    })
}

pub fn change(model: &CompiledModel, time: f64, changes: &[(Target, &str)]) -> PeriodChange {
    let states: Vec<&str> = model.states.iter().map(String::as_str).collect();
    let parameters: Vec<&str> = model.parameters.iter().map(String::as_str).collect();
    let formulas: Vec<&str> = changes.iter().map(|c| c.1).collect();
    let function = Symbols::new(&states, &parameters).function(&formulas);
    let targets = changes.iter().map(|c| c.0).collect();
    PeriodChange { time, assignments: Assignments { targets, values: Arc::new(function), volumes: None, numbers: vec![] } }
}

/// The seeds of a simulation whose directions are logarithms of some parameters, or the parameters themselves, with initial
/// states that are formulas of the parameters.
pub struct Start {
    pub parameters: Vec<f64>,
    pub directions: usize,
    pub states: Vec<f64>,
    pub state_seeds: Vec<f64>,
    pub parameter_seeds: Vec<f64>,
    pub pairs: Vec<(u32, u32)>,
    pub states_second: Vec<f64>,
    pub parameters_second: Vec<f64>,
}

/// Which parameter a direction moves: its logarithm or itself.
#[derive(Clone, Copy)]
pub enum Direction {
    Log(usize),
    Plain(usize),
}
pub use Direction::{Log, Plain};

impl Start {
    pub fn new(model: &CompiledModel, initial: &[&str], values: &[f64], directions: &[Direction], second: bool) -> Self {
        let (nx, np, ns) = (initial.len(), values.len(), directions.len());
        let pairs: Vec<(u32, u32)> =
            if second { (0..ns as u32).flat_map(|k| (k..ns as u32).map(move |l| (k, l))).collect() } else { vec![] };
        let names: Vec<&str> = model.parameters.iter().map(String::as_str).collect();
        let mut start = Start {
            parameters: values.to_vec(),
            directions: ns,
            states: vec![0.0; nx],
            state_seeds: vec![0.0; nx * ns],
            parameter_seeds: vec![0.0; np * ns],
            states_second: vec![0.0; nx * pairs.len()],
            parameters_second: vec![0.0; np * pairs.len()],
            pairs,
        };
        for (k, d) in directions.iter().enumerate() {
            let (b, v) = match *d {
                Log(b) => (b, values[b]),
                Plain(b) => (b, 1.0),
            };
            start.parameter_seeds[b * ns + k] = v;
            if let (Log(_), Some(m)) = (d, start.pairs.iter().position(|&p| p == (k as u32, k as u32))) {
                start.parameters_second[b * start.pairs.len() + m] = v;
            }
        }
        for (i, text) in initial.iter().enumerate() {
            let [value, first, second] = expected(&names, text, values, directions);
            start.states[i] = value[0];
            start.state_seeds[i * ns..(i + 1) * ns].copy_from_slice(&first);
            if !start.pairs.is_empty() {
                let n = start.pairs.len();
                start.states_second[i * n..(i + 1) * n].copy_from_slice(&second);
            }
        }
        start
    }

    pub fn input<'a>(&'a self, changes: &'a [PeriodChange]) -> Input<'a> {
        let second = Second { pairs: &self.pairs, states: &self.states_second, parameters: &self.parameters_second };
        Input {
            start: 0.0,
            states: &self.states,
            parameters: &self.parameters,
            changes,
            triggers: None,
            before: &[],
            directions: self.directions,
            state_seeds: &self.state_seeds,
            parameter_seeds: &self.parameter_seeds,
            second: (!self.pairs.is_empty()).then_some(second),
            awaited: None,
        }
    }
}

/// Value, first and second derivatives of a closed form of the parameters along the directions.
pub fn expected(names: &[&str], text: &str, values: &[f64], directions: &[Direction]) -> [Vec<f64>; 3] {
    let mut s = Symbols::new(&[], names);
    let e = s.formula(text);
    let at = |s: &Symbols, e: ExprId| {
        let value = |id: SymbolId| values[s.parameters.iter().position(|p| *p == id).unwrap()];
        s.graph.evaluate(&[e], &value)[0]
    };
    let parameter = |d: Direction| match d {
        Log(b) | Plain(b) => b,
    };
    let scale = |d: Direction| match d {
        Log(b) => values[b],
        Plain(_) => 1.0,
    };
    let value = at(&s, e);
    let (mut first, mut second) = (vec![], vec![]);
    for (k, &dk) in directions.iter().enumerate() {
        let d = s.graph.derivative(e, s.parameters[parameter(dk)]);
        let g = at(&s, d) * scale(dk);
        first.push(g);
        for (l, &dl) in directions.iter().enumerate().skip(k) {
            let dd = s.graph.derivative(d, s.parameters[parameter(dl)]);
            let diagonal = if l == k && matches!(dk, Log(_)) { g } else { 0.0 };
            second.push(at(&s, dd) * scale(dk) * scale(dl) + diagonal);
        }
    }
    [vec![value], first, second]
}
