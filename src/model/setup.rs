//! How an experiment begins: parameters and initial states as functions of theta.
//!
//! Problems have up to ten thousands of conditions that differ in a few numbers. Numbers and parameters that a condition puts
//! into the model are therefore *inputs* of functions that many experiments share, and what a condition does not touch is computed
//! by one function for all of them.

use super::compiled::Function;
use crate::jit::Scratch;
use std::sync::Arc;

/// What stands in an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// The row of theta of this index.
    Theta(usize),
}

/// The beginning of an experiment. Outputs are all np parameters, then all nx initial states.
#[derive(Debug, Clone)]
pub struct Setup {
    /// All outputs, right but for those of `own`.
    pub(super) common: Arc<Function>,
    /// The outputs that this kind of experiment has otherwise.
    pub(super) own: Arc<Function>,
    /// Which outputs these are, sorted.
    pub(super) own_outputs: Arc<[u32]>,
    /// For each input what stands in it.
    pub(super) settings: Vec<Setting>,
}

/// From a row of a function to an output of the setup.
type OutputOf<'a> = Box<dyn Fn(u32) -> Option<usize> + 'a>;

impl Setup {
    fn inputs(&self, theta: &[f64]) -> Vec<f64> {
        let value = |s: &Setting| match s {
            Setting::Number(value) => *value,
            Setting::Theta(j) => theta[*j],
        };
        self.settings.iter().map(value).collect()
    }

    /// Equal for setups with the same functions and inputs.
    pub(super) fn key(&self) -> impl Iterator<Item = u64> + '_ {
        let settings = self.settings.iter().flat_map(|s| match s {
            Setting::Number(value) => [0, value.to_bits()],
            Setting::Theta(j) => [1, *j as u64],
        });
        [Arc::as_ptr(&self.own) as u64].into_iter().chain(settings)
    }

    /// `theta` has np entries, of which only the leading rows of theta matter.
    pub fn values(&self, theta: &[f64], scratch: &mut Scratch) -> Vec<f64> {
        let inputs = self.inputs(theta);
        let arrays = [&[0.0][..], &[], theta, &inputs];
        let mut all = vec![0.0; self.common.value.outputs()];
        self.common.value.call(arrays, &mut all, scratch);
        let mut own = vec![0.0; self.own_outputs.len()];
        self.own.value.call(arrays, &mut own, scratch);
        self.own_outputs.iter().zip(own).for_each(|(output, value)| all[*output as usize] = value);
        all
    }

    /// The row of theta behind column `b` of a function of theta and inputs.
    fn theta_of(&self, b: u32, np: usize) -> Option<usize> {
        match (b as usize).checked_sub(np) {
            None => Some(b as usize),
            Some(k) => match self.settings[k] {
                Setting::Number(_) => None,
                Setting::Theta(j) => Some(j),
            },
        }
    }

    /// Both functions, each with the output behind each of its own outputs. Those of the common one that are not used are `None`.
    fn parts(&self) -> [(&Function, OutputOf<'_>); 2] {
        let common = |row: u32| self.own_outputs.binary_search(&row).is_err().then_some(row as usize);
        let own = |row: u32| Some(self.own_outputs[row as usize] as usize);
        [(&self.common, Box::new(common)), (&self.own, Box::new(own))]
    }

    /// Which outputs depend on which rows of theta. Pairs can occur twice.
    pub fn dependencies(&self, np: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (function, output) in self.parts() {
            let entries = function.dp.rows.iter().zip(&function.dp.columns);
            found.extend(entries.filter_map(|(row, b)| Some((output(*row)?, self.theta_of(*b, np)?))));
        }
        found
    }

    /// First derivatives as (output, row of theta, value); what occurs twice is to be added.
    pub fn derivatives(&self, theta: &[f64], scratch: &mut Scratch) -> Vec<(usize, usize, f64)> {
        let inputs = self.inputs(theta);
        let mut found = Vec::new();
        let mut values = Vec::new();
        for (function, output) in self.parts() {
            values.resize(function.dp.rows.len(), 0.0);
            function.dp.kernel.call([&[0.0], &[], theta, &inputs], &mut values, scratch);
            let entries = function.dp.rows.iter().zip(&function.dp.columns).zip(&values);
            found.extend(entries.filter_map(|((row, b), v)| Some((output(*row)?, self.theta_of(*b, theta.len())?, *v))));
        }
        found
    }

    /// Second derivatives as (output, rows of theta a <= b, value); those of a < b stand for both orders, and what occurs twice is to
    /// be added. Empty where the model has none.
    pub fn second_derivatives(&self, theta: &[f64], nx: usize, scratch: &mut Scratch) -> Vec<([usize; 3], f64)> {
        let inputs = self.inputs(theta);
        let mut found = Vec::new();
        let mut values = Vec::new();
        for (function, output) in self.parts() {
            let Some(tensor) = &function.second else { continue };
            values.resize(tensor.entries.len(), 0.0);
            tensor.kernel.call([&[0.0], &[], theta, &inputs], &mut values, scratch);
            for (&[row, a, b], v) in tensor.entries.iter().zip(&values) {
                // Functions of theta have no states among their variables.
                let place = |z: u32| self.theta_of(z - nx as u32, theta.len());
                let (Some(row), Some(i), Some(j)) = (output(row), place(a), place(b)) else { continue };
                // Two inputs with the same parameter: both orders fall on its second derivative.
                let both = if a != b && i == j { 2.0 } else { 1.0 };
                found.push(([row, i.min(j), i.max(j)], both * v));
            }
        }
        found
    }
}
