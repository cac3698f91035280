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
                        let (array, offset) =
                            *layout.places.get(&symbol).ok_or_else(|| CompileError::Unplaced(graph.name(symbol).to_string()))?;
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
        assert_eq!(out.len(), self.outputs.len(), "length of a kernel's output");
        for (input, need) in inputs.iter().zip(self.needs) {
            assert!(input.len() >= need, "an input array of a kernel is too short");
        }
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

/// A part of a program that becomes one function of machine code.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    pub items: Vec<Item>,
    /// Steps computed here whose values later chunks read, with their places in the scratch memory.
    pub exports: Vec<(u32, u32)>,
    /// Values of earlier chunks that this one reads, likewise.
    pub imports: Vec<(u32, u32)>,
}

/// What a chunk does. Constants and inputs are no items: every chunk makes its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item {
    /// Compute the step of this number.
    Compute(u32),
    /// Write the value of a step to an output.
    Store { output: u32, step: u32 },
}

impl Step {
    /// The operands, by step.
    pub fn operands(&self) -> impl Iterator<Item = u32> {
        let (a, b, c) = match *self {
            Step::Constant(_) | Step::Load(..) => (None, None, None),
            Step::Unary(_, a) => (Some(a), None, None),
            Step::Binary(_, a, b) => (Some(a), Some(b), None),
            Step::Select(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }

    /// Whether any chunk can make the value for itself.
    fn is_free(&self) -> bool {
        matches!(self, Step::Constant(_) | Step::Load(..))
    }
}

impl Program {
    /// Cuts the program into chunks of about `size` items and finds which values go from one to another. Returns the chunks in
    /// the order of running and the number of places they need in the scratch memory.
    pub fn cut(&self, size: usize) -> (Vec<Chunk>, usize) {
        let mut by_step: Vec<(u32, u32)> = self.outputs.iter().enumerate().map(|(output, step)| (*step, output as u32)).collect();
        by_step.sort_unstable();
        let mut stores = by_step.into_iter().peekable();
        let mut chunks = vec![Chunk::default()];
        // Chunk in which a step is computed, and the last one in which it is read.
        let mut home = vec![0_u32; self.steps.len()];
        let mut last = vec![0_u32; self.steps.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let index = index as u32;
            if !step.is_free() {
                // A cut may fall only here, between a value's store and the next step, so that no value crosses just to be stored.
                let current = start_if_full(&mut chunks, size);
                home[index as usize] = current;
                last[index as usize] = current;
                if let Some(chunk) = chunks.last_mut() {
                    chunk.items.push(Item::Compute(index));
                }
                for operand in step.operands() {
                    last[operand as usize] = current;
                }
            }
            while let Some((step_of, output)) = stores.next_if(|(of, _)| *of == index) {
                // One value stored very often would make a long chunk; constants (the zeros of a Jacobian) cross for nothing.
                let current = start_if_full(&mut chunks, if step.is_free() { size } else { 2 * size });
                last[index as usize] = current;
                if let Some(chunk) = chunks.last_mut() {
                    chunk.items.push(Item::Store { output, step: step_of });
                }
            }
        }
        let places = self.share(&mut chunks, &home, &last);
        (chunks, places)
    }

    /// Assigns scratch places to the values that cross chunks; a place is free again after the last chunk that reads its value.
    fn share(&self, chunks: &mut [Chunk], home: &[u32], last: &[u32]) -> usize {
        const NONE: u32 = u32::MAX;
        let mut place_of = vec![NONE; self.steps.len()];
        let mut free: Vec<u32> = Vec::new();
        // Places to be freed when the chunk of this number starts.
        let mut expiring: Vec<Vec<u32>> = vec![Vec::new(); chunks.len() + 1];
        let mut places = 0;
        let mut imported = vec![NONE; self.steps.len()];
        for (number, chunk) in chunks.iter_mut().enumerate() {
            free.append(&mut expiring[number]);
            let now = number as u32;
            for item in &chunk.items {
                let read = match *item {
                    Item::Compute(step) => {
                        if last[step as usize] > now {
                            let place = free.pop().unwrap_or_else(|| {
                                places += 1;
                                places - 1
                            });
                            place_of[step as usize] = place;
                            expiring[last[step as usize] as usize + 1].push(place);
                            chunk.exports.push((step, place));
                        }
                        self.steps[step as usize]
                    }
                    // As if the store were an operation on the value.
                    Item::Store { step, .. } => Step::Unary(Unary::Neg, step),
                };
                for operand in read.operands() {
                    let o = operand as usize;
                    if !self.steps[o].is_free() && home[o] < now && imported[o] != now {
                        imported[o] = now;
                        chunk.imports.push((operand, place_of[o]));
                    }
                }
            }
        }
        places as usize
    }
}

/// Begins a new chunk if the last one is full; returns the number of the last.
fn start_if_full(chunks: &mut Vec<Chunk>, size: usize) -> u32 {
    if chunks.last().is_none_or(|c| c.items.len() >= size) {
        chunks.push(Chunk::default());
    }
    chunks.len() as u32 - 1
}
