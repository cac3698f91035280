//! Straight-line programs: the order in which the nodes of an expression list are computed.

use super::{CompileError, Layout};
use crate::expr::{Binary, ExprId, Graph, Node, Unary};
use rustc_hash::FxHashMap;

/// One step; its value goes to the slot with its own number. Operands are slots of earlier steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Constant(f64),
    /// Input array and offset.
    Load(u8, u32),
    Unary(Unary, u32),
    Binary(Binary, u32, u32),
    Select(u32, u32, u32),
}

/// The steps for one list of expressions and the slot of each output.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    pub outputs: Vec<u32>,
    /// Least length of each input array.
    pub needs: [usize; super::ARRAYS],
}

impl Program {
    /// Schedules the nodes depth first from each output in turn, so that what belongs together stands together.
    pub fn new(graph: &Graph, layout: &Layout, outputs: &[ExprId]) -> Result<Self, CompileError> {
        let mut program = Program { steps: Vec::new(), outputs: Vec::with_capacity(outputs.len()), needs: [0; super::ARRAYS] };
        let mut slots: FxHashMap<ExprId, u32> = FxHashMap::default();
        let mut stack = Vec::new();
        for output in outputs {
            stack.push(*output);
            while let Some(&e) = stack.last() {
                if slots.contains_key(&e) {
                    stack.pop();
                    continue;
                }
                let before = stack.len();
                let node = graph.node(e);
                let mut want = |child: ExprId| match slots.get(&child) {
                    Some(slot) => *slot,
                    None => {
                        stack.push(child);
                        0
                    }
                };
                let step = match node {
                    Node::Constant(bits) => Step::Constant(f64::from_bits(bits)),
                    Node::Symbol(symbol) => {
                        let (array, offset) = *layout.places.get(&symbol).ok_or_else(|| CompileError::Unplaced(graph.name(symbol).to_string()))?;
                        let need = &mut program.needs[array as usize];
                        *need = (*need).max(offset as usize + 1);
                        Step::Load(array, offset)
                    }
                    // The last operand is pushed last and so computed first; the order does not matter for the values.
                    Node::Unary(op, a) => Step::Unary(op, want(a)),
                    Node::Binary(op, a, b) => Step::Binary(op, want(a), want(b)),
                    Node::Select(c, a, b) => Step::Select(want(c), want(a), want(b)),
                };
                if stack.len() == before {
                    slots.insert(e, program.steps.len() as u32);
                    program.steps.push(step);
                    stack.pop();
                }
            }
            program.outputs.push(slots[output]);
        }
        Ok(program)
    }

    /// Runs the program step by step.
    pub fn interpret(&self, inputs: [&[f64]; super::ARRAYS], out: &mut [f64], slots: &mut Vec<f64>) {
        slots.clear();
        for step in &self.steps {
            let value = match *step {
                Step::Constant(value) => value,
                Step::Load(array, offset) => inputs[array as usize][offset as usize],
                Step::Unary(op, a) => op.apply(slots[a as usize]),
                Step::Binary(op, a, b) => op.apply(slots[a as usize], slots[b as usize]),
                Step::Select(c, a, b) => slots[if slots[c as usize] != 0.0 { a } else { b } as usize],
            };
            slots.push(value);
        }
        for (o, slot) in out.iter_mut().zip(&self.outputs) {
            *o = slots[*slot as usize];
        }
    }
}
