//! Comparisons and rounded numbers become flags, so that right-hand side and triggers are smooth between switches.

use super::build::{Builder, symbol_of};
use super::compiled::SwitchKind;
use super::system::{OdeSystem, Parameter, State, SwitchRoot};
use crate::expr::{Binary, ExprId, Graph, Node, SymbolId, Unary};
use rustc_hash::{FxHashMap, FxHashSet};

impl Builder<'_> {
    /// Replaces everything that can jump between events in rates and triggers by a flag.
    pub(super) fn extract_switches(&mut self, system: &mut OdeSystem) {
        let graph = &mut system.graph;
        let delayed = system.delays.iter().map(|d| system.parameters[d.parameter].symbol);
        let continuous: FxHashSet<SymbolId> = system.states.iter().map(|s| s.symbol).chain(delayed).collect();
        let roots: Vec<ExprId> = system.states.iter().map(|s| s.rate).chain(system.events.iter().map(|e| e.trigger)).collect();
        let mut map: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        // Children come before parents, so a comparison inside another one is replaced first.
        for node in graph.reachable(&roots) {
            let Some((kind, difference)) = jumping(graph, node) else { continue };
            let symbols = graph.symbols_of(&[difference]);
            let moves = symbols.iter().any(|s| continuous.contains(s));
            if !moves && !symbols.contains(&system.time) {
                continue;
            }
            let root = graph.replace(&[difference], &map)[0];
            let slope = graph.derivative(root, system.time);
            let curved = graph.depends_on(slope, system.time);
            // A rounded number jumps many times, so there is not one time at which to stop.
            let explicit_time = !moves && !curved && matches!(kind, SwitchKind::Comparison(_));
            let flag = system.parameters.len();
            let id = format!("<switch {}>", system.switches.len());
            let symbol = symbol_of(graph, &id);
            let mut value = graph.symbol(&id);
            if let Node::Binary(Binary::Rem, a, b) = graph.node(node) {
                // The remainder of a division is continuous but for the rounded quotient.
                let operands = graph.replace(&[a, b], &map);
                let multiple = graph.mul(operands[1], value);
                value = graph.sub(operands[0], multiple);
            }
            map.insert(node, value);
            system.parameters.push(Parameter { id, symbol, active: false });
            system.switches.push(SwitchRoot { flag, root, explicit_time, curved_in_time: curved, kind, only_observed: true });
        }
        for s in &mut system.states {
            s.rate = graph.replace(&[s.rate], &map)[0];
        }
        for e in &mut system.events {
            e.trigger = graph.replace(&[e.trigger], &map)[0];
        }
        mark_rulers(system);
        let graph = &mut system.graph;
        let zero = graph.constant(0.0);
        for e in &mut system.setups {
            e.parameters.resize(system.parameters.len(), zero);
        }
        if system.states.is_empty() && (!system.delays.is_empty() || system.switches.iter().any(|s| !s.explicit_time)) {
            // Something must be integrated for switches to be looked for.
            let id = "<clock>".to_string();
            let symbol = symbol_of(graph, &id);
            system.states.push(State { id, symbol, rate: zero });
            system.setups.iter_mut().for_each(|e| e.states.push(zero));
        }
    }
}

/// Marks the switches on which rates or events of the model depend, directly or through another switch.
fn mark_rulers(system: &mut OdeSystem) {
    let observed: FxHashSet<usize> = system.observed_events.iter().flat_map(|o| o.events.iter().copied()).collect();
    let triggers = system.events.iter().enumerate().filter(|(i, _)| !observed.contains(i)).map(|(_, e)| e.trigger);
    let mut open: Vec<ExprId> = system.states.iter().map(|s| s.rate).chain(triggers).collect();
    while !open.is_empty() {
        let symbols: FxHashSet<SymbolId> = system.graph.symbols_of(&open).into_iter().collect();
        open.clear();
        for switch in system.switches.iter_mut().filter(|s| s.only_observed) {
            if symbols.contains(&system.parameters[switch.flag].symbol) {
                switch.only_observed = false;
                open.push(switch.root);
            }
        }
    }
}

/// How a node jumps, and the expression that decides about it; `None` where it does not jump.
fn jumping(graph: &mut Graph, node: ExprId) -> Option<(SwitchKind, ExprId)> {
    match graph.node(node) {
        Node::Unary(Unary::Floor, a) => Some((SwitchKind::Floor, a)),
        Node::Unary(Unary::Ceil, a) => Some((SwitchKind::Ceil, a)),
        Node::Binary(Binary::Quotient | Binary::Rem, a, b) => Some((SwitchKind::Truncate, graph.div(a, b))),
        Node::Binary(op, a, b) => {
            let truth = match op {
                Binary::Lt | Binary::Gt => [false, false, true],
                Binary::Le | Binary::Ge => [false, true, true],
                Binary::Eq => [false, true, false],
                Binary::Ne => [true, false, true],
                _ => return None,
            };
            let difference = if matches!(op, Binary::Lt | Binary::Le) { graph.sub(b, a) } else { graph.sub(a, b) };
            Some((SwitchKind::Comparison(truth), difference))
        }
        _ => None,
    }
}
