//! Comparisons become flags, so that right-hand side and triggers are smooth between switches.

use super::build::{Builder, symbol_of};
use super::system::{OdeSystem, Parameter, State, SwitchRoot};
use crate::expr::{Binary, ExprId, Node, SymbolId};
use rustc_hash::{FxHashMap, FxHashSet};

impl Builder<'_> {
    /// Replaces every comparison of rates and triggers that can change between events by a flag.
    pub(super) fn extract_switches(&mut self, system: &mut OdeSystem) {
        let graph = &mut system.graph;
        let delayed = system.delays.iter().map(|d| system.parameters[d.parameter].symbol);
        let continuous: FxHashSet<SymbolId> = system.states.iter().map(|s| s.symbol).chain(delayed).collect();
        let roots: Vec<ExprId> = system.states.iter().map(|s| s.rate).chain(system.events.iter().map(|e| e.trigger)).collect();
        let mut map: FxHashMap<ExprId, ExprId> = FxHashMap::default();
        // Children come before parents, so a comparison inside another one is replaced first.
        for node in graph.reachable(&roots) {
            let Node::Binary(op, a, b) = graph.node(node) else { continue };
            let truth = match op {
                Binary::Lt | Binary::Gt => [false, false, true],
                Binary::Le | Binary::Ge => [false, true, true],
                Binary::Eq => [false, true, false],
                Binary::Ne => [true, false, true],
                _ => continue,
            };
            let difference = if matches!(op, Binary::Lt | Binary::Le) { graph.sub(b, a) } else { graph.sub(a, b) };
            let symbols = graph.symbols_of(&[difference]);
            let moves = symbols.iter().any(|s| continuous.contains(s));
            if !moves && !symbols.contains(&system.time) {
                continue;
            }
            let root = graph.replace(&[difference], &map)[0];
            let slope = graph.derivative(root, system.time);
            let curved = graph.depends_on(slope, system.time);
            let flag = system.parameters.len();
            let id = format!("<switch {}>", system.switches.len());
            map.insert(node, graph.symbol(&id));
            let symbol = symbol_of(graph, &id);
            system.parameters.push(Parameter { id, symbol, active: false });
            system.switches.push(SwitchRoot { flag, root, explicit_time: !moves && !curved, curved_in_time: curved, truth });
        }
        for s in &mut system.states {
            s.rate = graph.replace(&[s.rate], &map)[0];
        }
        for e in &mut system.events {
            e.trigger = graph.replace(&[e.trigger], &map)[0];
        }
        let zero = graph.constant(0.0);
        for e in &mut system.experiments {
            e.parameters.resize(system.parameters.len(), zero);
        }
        if system.states.is_empty() && (!system.delays.is_empty() || system.switches.iter().any(|s| !s.explicit_time)) {
            // Something must be integrated for switches to be looked for.
            let id = "<clock>".to_string();
            let symbol = symbol_of(graph, &id);
            system.states.push(State { id, symbol, rate: zero });
            system.experiments.iter_mut().for_each(|e| e.states.push(zero));
        }
    }
}
