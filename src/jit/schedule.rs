//! From expressions to straight-line programs: only what the outputs need, in an order that keeps things close together.

use super::{ARRAYS, CompileError, Layout};
use crate::expr::op::{PowerPlan, power_plan, whole_power};
use crate::expr::{Binary, ExprId, Graph, Node, Unary};
use rustc_hash::FxHashMap;

/// Index of an instruction; stands for the instruction's value.
pub(super) type Slot = u32;

/// One value of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Instruction {
    /// Bits of an f64.
    Constant(u64),
    /// Element of an input array.
    Load(u8, u32),
    /// Function of one value.
    Unary(Unary, Slot),
    /// Function of two values; powers with the constant exponents of [`power_plan`] do not occur.
    Binary(Binary, Slot, Slot),
    /// `first != 0 ? second : third`.
    Select(Slot, Slot, Slot),
}

impl Instruction {
    /// Whether the value is at hand without a computation (it is not kept, but made again where it is used).
    pub fn is_leaf(self) -> bool {
        matches!(self, Instruction::Constant(_) | Instruction::Load(..))
    }

    /// Calls `visit` for every argument.
    pub fn for_each_argument(self, mut visit: impl FnMut(Slot)) {
        match self {
            Instruction::Constant(_) | Instruction::Load(..) => {}
            Instruction::Unary(_, a) => visit(a),
            Instruction::Binary(_, a, b) => [a, b].into_iter().for_each(visit),
            Instruction::Select(c, a, b) => [c, a, b].into_iter().for_each(visit),
        }
    }
}

/// A straight-line program. Arguments stand before their uses; no two instructions are equal.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    pub instructions: Vec<Instruction>,
    /// The slot of each output.
    pub outputs: Vec<Slot>,
    /// Needed length of each input array.
    pub lengths: [usize; ARRAYS],
}

/// The program of a list of expressions. The order is depth first, output by output.
pub(super) fn schedule(graph: &Graph, layout: &Layout, outputs: &[ExprId]) -> Result<Program, CompileError> {
    let mut builder = Builder { program: Program::default(), index: FxHashMap::default() };
    let mut slots: FxHashMap<ExprId, Slot> = FxHashMap::default();
    let mut stack: Vec<(ExprId, bool)> = Vec::new();
    for output in outputs {
        stack.push((*output, false));
        while let Some((e, ready)) = stack.pop() {
            if slots.contains_key(&e) {
                continue;
            }
            if !ready {
                stack.push((e, true));
                let first = stack.len();
                graph.node(e).for_each_argument(|a| {
                    if !slots.contains_key(&a) {
                        stack.push((a, false));
                    }
                });
                stack[first..].reverse();
                continue;
            }
            let slot = match graph.node(e) {
                Node::Constant(bits) => builder.add(Instruction::Constant(bits)),
                Node::Symbol(s) => {
                    let Some((array, offset)) = layout.places.get(&s).copied() else {
                        return Err(CompileError::Unplaced(graph.name(s).to_owned()));
                    };
                    let length = &mut builder.program.lengths[usize::from(array)];
                    *length = (*length).max(offset as usize + 1);
                    builder.add(Instruction::Load(array, offset))
                }
                Node::Unary(op, a) => builder.add(Instruction::Unary(op, slots[&a])),
                Node::Binary(op, a, b) => builder.binary(op, slots[&a], slots[&b]),
                Node::Select(c, a, b) => builder.add(Instruction::Select(slots[&c], slots[&a], slots[&b])),
            };
            slots.insert(e, slot);
        }
        builder.program.outputs.push(slots[output]);
    }
    Ok(builder.program)
}

struct Builder {
    program: Program,
    index: FxHashMap<Instruction, Slot>,
}

impl Builder {
    /// The slot of that instruction, new or old.
    fn add(&mut self, instruction: Instruction) -> Slot {
        let instructions = &mut self.program.instructions;
        *self.index.entry(instruction).or_insert_with(|| {
            instructions.push(instruction);
            u32::try_from(instructions.len() - 1).expect("a program has fewer than 2^32 instructions")
        })
    }

    /// `op(a, b)`; powers take the steps that [`Binary::apply`] takes.
    fn binary(&mut self, op: Binary, a: Slot, b: Slot) -> Slot {
        let plan = match (op, self.program.instructions[b as usize]) {
            (Binary::Pow, Instruction::Constant(bits)) => power_plan(f64::from_bits(bits)),
            _ => None,
        };
        match plan {
            None => self.add(Instruction::Binary(op, a, b)),
            Some(PowerPlan::Product(n)) => self.power(a, n),
            Some(PowerPlan::Reciprocal(n)) => {
                let power = self.power(a, n);
                self.reciprocal(power)
            }
            Some(PowerPlan::Root) => self.add(Instruction::Unary(Unary::Sqrt, a)),
            Some(PowerPlan::ReciprocalRoot) => {
                let root = self.add(Instruction::Unary(Unary::Sqrt, a));
                self.reciprocal(root)
            }
        }
    }

    fn power(&mut self, a: Slot, n: u32) -> Slot {
        whole_power(a, n, |x, y| self.add(Instruction::Binary(Binary::Mul, x, y)))
    }

    fn reciprocal(&mut self, a: Slot) -> Slot {
        let one = self.add(Instruction::Constant(1f64.to_bits()));
        self.add(Instruction::Binary(Binary::Div, one, a))
    }
}

impl Program {
    /// Runs the program; `values` is working memory.
    pub fn interpret(&self, inputs: [&[f64]; ARRAYS], out: &mut [f64], values: &mut Vec<f64>) {
        values.clear();
        for instruction in &self.instructions {
            let value = |slot: Slot| values[slot as usize];
            values.push(match *instruction {
                Instruction::Constant(bits) => f64::from_bits(bits),
                Instruction::Load(array, offset) => inputs[usize::from(array)][offset as usize],
                Instruction::Unary(op, a) => op.apply(value(a)),
                Instruction::Binary(op, a, b) => op.apply(value(a), value(b)),
                Instruction::Select(c, a, b) => {
                    if value(c) != 0.0 {
                        value(a)
                    } else {
                        value(b)
                    }
                }
            });
        }
        for (out, slot) in out.iter_mut().zip(&self.outputs) {
            *out = values[*slot as usize];
        }
    }
}
