//! Composite statistics: formulas of population functionals and parameters, such as ratios of means (specification of the extension,
//! section "Extension tables").

use super::population_statistics::{Sample, Statistic};
use crate::expr::{AstKind, ExprId, Graph, SymbolId};
use crate::petab::{CompositeStatistic, Problem};
use rustc_hash::FxHashMap;

/// A functional of values of a sample, without noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleFunctional {
    /// Mean of a value.
    Mean(usize),
    /// Covariance of two values (the variance of one, if they are the same).
    Covariance(usize, usize),
    /// Quantile of a value at a probability.
    Quantile(usize, f64),
}

/// A composite statistic with its derivatives.
#[derive(Debug, Clone)]
pub struct Composite {
    graph: Graph,
    value: ExprId,
    functionals: Vec<(SymbolId, SampleFunctional)>,
    /// Rows of the parameter table.
    parameters: Vec<(SymbolId, usize)>,
    /// Derivatives by the functionals, then by the parameters.
    slopes: Vec<ExprId>,
}

impl Composite {
    /// The statistic with its functionals, in the order of [`CompositeStatistic::functionals`], as functionals of a sample. Names that
    /// are no parameters have been reported when the tables were read.
    pub fn new(problem: &Problem, statistic: &CompositeStatistic, functionals: &[SampleFunctional]) -> Self {
        let mut graph = Graph::new();
        let value = graph.lower(&statistic.formula.ast, &mut |graph, node| match &node.kind {
            AstKind::Name(name) => Some(graph.symbol(name)),
            _ => None,
        });
        let value = value.unwrap_or_else(|| graph.constant(f64::NAN));
        let symbols = graph.symbols_of(&[value]);
        let find = |name: &str| graph.find(name).filter(|s| symbols.contains(s));
        let functionals: Vec<(SymbolId, SampleFunctional)> =
            functionals.iter().enumerate().filter_map(|(i, f)| Some((find(&format!("_f{i}"))?, *f))).collect();
        let parameters: Vec<(SymbolId, usize)> =
            problem.parameters.iter().enumerate().filter_map(|(theta, p)| Some((find(&p.id)?, theta))).collect();
        let by: Vec<SymbolId> = functionals.iter().map(|f| f.0).chain(parameters.iter().map(|p| p.0)).collect();
        let slopes = by.into_iter().map(|symbol| graph.derivative(value, symbol)).collect();
        Composite { graph, value, functionals, parameters, slopes }
    }

    /// Rows of the parameter table in the formula.
    pub fn parameters(&self) -> impl Iterator<Item = usize> + '_ {
        self.parameters.iter().map(|p| p.1)
    }

    /// The statistic of a sample. `parameter` gives a row of the parameter table as a number with its gradient.
    pub fn evaluate(&self, sample: &Sample, parameter: &dyn Fn(usize) -> Statistic) -> Statistic {
        let of_sample = |functional: &SampleFunctional| match *functional {
            SampleFunctional::Mean(i) => sample.mean(i),
            SampleFunctional::Covariance(i, j) => sample.covariance(i, j),
            SampleFunctional::Quantile(i, p) => sample.quantile(i, p),
        };
        let inputs: Vec<(SymbolId, Statistic)> = (self.functionals.iter().map(|(symbol, f)| (*symbol, of_sample(f))))
            .chain(self.parameters.iter().map(|(symbol, theta)| (*symbol, parameter(*theta))))
            .collect();
        let values: FxHashMap<SymbolId, f64> = inputs.iter().map(|(symbol, s)| (*symbol, s.value)).collect();
        let wanted: Vec<ExprId> = std::iter::once(self.value).chain(self.slopes.iter().copied()).collect();
        let results = self.graph.evaluate(&wanted, &|symbol| values.get(&symbol).copied().unwrap_or(f64::NAN));
        let mut result = Statistic::constant(results[0], sample.gradient_len());
        for (slope, (_, input)) in results[1..].iter().zip(&inputs) {
            result.gradient += &input.gradient * *slope;
        }
        result
    }
}
