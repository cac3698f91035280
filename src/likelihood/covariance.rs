//! Covariance D of the random effects as a function of the problem's parameters (NLME.md 4.5).

use super::EvaluationError;
use crate::diag::{Diagnostic, Diagnostics};
use crate::petab::{CovarianceEntry, CovarianceKind, TableValue};
use nalgebra::{Cholesky, DMatrix, DVector};

/// The covariance table of a problem, checked and ordered. Rows and columns follow the list of random effects it was made with.
#[derive(Debug, Clone)]
pub struct Covariance {
    ids: Vec<String>,
    entries: Vec<Entry>,
    parameters: Vec<usize>,
}

/// An entry of the lower triangle.
#[derive(Debug, Clone, Copy)]
struct Entry {
    row: usize,
    column: usize,
    kind: CovarianceKind,
    value: Value,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Number(f64),
    /// Position in [`Covariance::parameters`].
    Parameter(usize),
}

/// A covariance at one point of the parameter space, with its first derivatives.
#[derive(Debug, Clone)]
pub struct Omega {
    /// D, n_b by n_b.
    pub d: DMatrix<f64>,
    /// Lower Cholesky factor L, D = L L^T.
    pub l: DMatrix<f64>,
    /// log det D.
    pub log_det: f64,
    /// Inverse of D.
    pub inverse: DMatrix<f64>,
    /// The parameters behind D, as indices into the problem's parameter list: the order of `dd` and `dl`.
    pub parameters: Vec<usize>,
    /// dD by each parameter on its natural scale.
    pub dd: Vec<DMatrix<f64>>,
    /// dL by each parameter on its natural scale.
    pub dl: Vec<DMatrix<f64>>,
}

impl Omega {
    /// The covariance `d` with derivatives `dd` by `parameters`; `name` gives the name of an effect for messages.
    ///
    /// # Errors
    /// [`EvaluationError::Density`] where `d` is not finite or not positive definite, naming the effects that are concerned.
    pub fn new(
        d: DMatrix<f64>,
        parameters: Vec<usize>,
        dd: Vec<DMatrix<f64>>,
        name: &dyn Fn(usize) -> String,
    ) -> Result<Self, EvaluationError> {
        let l = lower_cholesky(&d).map_err(|failed| not_positive_definite(&d, failed, name))?;
        let n = d.nrows();
        let log_det = 2.0 * (0..n).map(|i| l[(i, i)].ln()).sum::<f64>();
        let inverse = inverse_from_factor(&l);
        let dl = dd.iter().map(|dd| factor_derivative(&l, dd)).collect();
        Ok(Omega { d, l, log_det, inverse, parameters, dd, dl })
    }

    /// Number n_b of random effects.
    pub fn dimension(&self) -> usize {
        self.d.nrows()
    }

    /// The covariance of the effects `effects` alone: a sub-block of D, with every parameter kept. It is the covariance of the marginal
    /// of an individual that only these effects reach.
    pub fn select(&self, effects: &[usize]) -> Omega {
        let block = |m: &DMatrix<f64>| DMatrix::from_fn(effects.len(), effects.len(), |i, j| m[(effects[i], effects[j])]);
        let (d, dd) = (block(&self.d), self.dd.iter().map(block).collect::<Vec<_>>());
        // A principal block in the same order has a positive definite factor; only rounding could stop the factorisation, and the
        // whole matrix has passed it.
        let l = lower_cholesky(&d).unwrap_or_else(|_| block(&self.l));
        let log_det = 2.0 * (0..effects.len()).map(|i| l[(i, i)].ln()).sum::<f64>();
        let inverse = inverse_from_factor(&l);
        let dl = dd.iter().map(|dd| factor_derivative(&l, dd)).collect();
        Omega { d, l, log_det, inverse, parameters: self.parameters.clone(), dd, dl }
    }

    /// The covariance of independent vectors of effects, which have the same parameters: their covariances in blocks along the diagonal.
    pub fn direct_sum(parts: &[Omega]) -> Omega {
        let places: Vec<usize> = parts
            .iter()
            .scan(0, |end, part| {
                *end += part.dimension();
                Some(*end - part.dimension())
            })
            .collect();
        let n = parts.iter().map(Omega::dimension).sum();
        let join = |of: &dyn Fn(&Omega) -> &DMatrix<f64>| {
            let mut whole = DMatrix::zeros(n, n);
            for (part, place) in parts.iter().map(of).zip(&places) {
                whole.view_mut((*place, *place), part.shape()).copy_from(part);
            }
            whole
        };
        let parameters = parts.first().map_or(Vec::new(), |part| part.parameters.clone());
        Omega {
            d: join(&|o| &o.d),
            l: join(&|o| &o.l),
            log_det: parts.iter().map(|part| part.log_det).sum(),
            inverse: join(&|o| &o.inverse),
            dd: (0..parameters.len()).map(|k| join(&|o| &o.dd[k])).collect(),
            dl: (0..parameters.len()).map(|k| join(&|o| &o.dl[k])).collect(),
            parameters,
        }
    }

    /// Derivatives of 1/2 b^T D^-1 b + 1/2 log det D by the parameters at fixed b.
    pub fn prior_gradient(&self, b: &DVector<f64>) -> DVector<f64> {
        let q = &self.inverse * b;
        DVector::from_iterator(self.dd.len(), self.dd.iter().map(|dd| 0.5 * (self.inverse.dot(dd) - q.dot(&(dd * &q)))))
    }

    /// 1/2 b^T D^-1 b + 1/2 log det D. The n_b/2 log 2 pi is left out: it cancels in every marginal (NLME.md 2.2).
    pub fn prior(&self, b: &DVector<f64>) -> f64 {
        let u = self.whiten(b);
        0.5 * u.norm_squared() + 0.5 * self.log_det
    }

    /// u = L^-1 b.
    pub fn whiten(&self, b: &DVector<f64>) -> DVector<f64> {
        let mut u = b.clone();
        // The diagonal of L is positive, so the substitution cannot fail.
        self.l.solve_lower_triangular_mut(&mut u);
        u
    }
}

impl Covariance {
    /// Checks the table `entries` against the random effects `ids` (their indices are the table's rows and columns).
    ///
    /// Off-diagonals without an entry are zero. Entries may be given in either triangle. `sd`, `var` and `log_var` on the diagonal,
    /// `var` and `corr` off it; `chol` entries give rows of the lower factor, with j <= i, where both effects have `chol` on the diagonal.
    ///
    /// # Errors
    /// Diagnostics P0480 (no diagonal entry), P0481 (entry given twice), P0482 (kind impossible at this place).
    pub fn new(entries: &[CovarianceEntry], ids: &[String]) -> Result<Self, Diagnostics> {
        use CovarianceKind::{Chol, Corr, LogVar, Sd, Var};
        let mut diagnostics = Diagnostics::new();
        let mut diagonal: Vec<Option<CovarianceKind>> = vec![None; ids.len()];
        let mut parameters = Vec::new();
        let mut seen = std::collections::HashMap::new();
        for entry in entries.iter().filter(|e| e.row == e.column) {
            diagonal[entry.row] = Some(entry.kind);
        }
        for (i, kind) in diagonal.iter().enumerate() {
            if kind.is_none() {
                diagnostics.push(
                    Diagnostic::error("P0480", format!("random effect `{}` has no variance", ids[i]))
                        .help("add a row with the effect as rowId and colId and kind `sd`, `var`, `log_var` or `chol`"),
                );
            }
        }
        let mut checked = Vec::new();
        for entry in entries {
            let (row, column) = (entry.row.max(entry.column), entry.row.min(entry.column));
            if let Some(first) = seen.insert((row, column), &entry.span) {
                diagnostics.push(
                    Diagnostic::error("P0481", format!("the covariance of `{}` and `{}` is given twice", ids[row], ids[column]))
                        .at(&entry.span, "second entry")
                        .also(first, "first entry"),
                );
                continue;
            }
            let both_factor = diagonal[row] == Some(Chol) && diagonal[column] == Some(Chol);
            let any_factor = diagonal[row] == Some(Chol) || diagonal[column] == Some(Chol);
            let problem = match (entry.kind, row == column) {
                (Corr, true) => Some("a diagonal entry is `sd`, `var`, `log_var` or `chol`"),
                (Sd | LogVar, false) => Some("an off-diagonal entry is `corr`, `var` (a covariance) or `chol`"),
                (Chol, false) if !both_factor => Some("both effects of a `chol` entry need a `chol` entry on the diagonal"),
                (Chol, false) if entry.row < entry.column => Some(
                    "`chol` entries form a lower triangle: swap rowId and colId, \
                    or list the effects in the other order in the random effect table",
                ),
                (Corr | Var, false) if any_factor => Some("effects with a `chol` entry on the diagonal are related by `chol` entries only"),
                _ => None,
            };
            if let Some(problem) = problem {
                diagnostics.push(
                    Diagnostic::error("P0482", format!("this kind of covariance entry cannot relate `{}` and `{}`", ids[row], ids[column]))
                        .at(&entry.span, problem),
                );
                continue;
            }
            let value = match entry.value {
                TableValue::Number(value) => Value::Number(value),
                TableValue::Parameter(index) => Value::Parameter(position(&mut parameters, index)),
            };
            checked.push(Entry { row, column, kind: entry.kind, value });
        }
        // Diagonals first: the correlations need them.
        checked.sort_by_key(|e| (e.row != e.column, e.row, e.column));
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        Ok(Covariance { ids: ids.to_vec(), entries: checked, parameters })
    }

    /// Indices (into the problem's parameter list) of the parameters behind D, in the order of the derivatives of an [`Omega`].
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }

    /// Number n_b of random effects.
    pub fn dimension(&self) -> usize {
        self.ids.len()
    }

    /// D at the parameters `natural` (natural scale, the whole parameter list of the problem).
    ///
    /// # Errors
    /// [`EvaluationError::Density`] where a standard deviation or variance is not positive, a correlation not between -1 and 1, or D not
    /// positive definite.
    pub fn evaluate(&self, natural: &[f64]) -> Result<Omega, EvaluationError> {
        use CovarianceKind::{Chol, Corr, LogVar, Sd, Var};
        let n = self.ids.len();
        let zero = || DMatrix::<f64>::zeros(n, n);
        let (mut d, mut dd) = (zero(), vec![zero(); self.parameters.len()]);
        // The factor of the effects with `chol` entries and its derivatives, zero elsewhere.
        let (mut factor, mut dfactor) = (zero(), vec![zero(); self.parameters.len()]);
        let refuse = |what: String, value: f64| Err(EvaluationError::Density(format!("{what} ({value})")));
        for entry in &self.entries {
            let Entry { row: i, column: j, .. } = *entry;
            let (x, parameter) = match entry.value {
                Value::Number(x) => (x, None),
                Value::Parameter(k) => (natural[self.parameters[k]], Some(k)),
            };
            match (entry.kind, i == j) {
                (Chol, _) => {
                    if i == j && !(x.is_finite() && x != 0.0) {
                        return refuse(format!("the diagonal `chol` entry of random effect `{}` is zero or not finite", self.ids[i]), x);
                    }
                    factor[(i, j)] += x;
                    if let Some(k) = parameter {
                        dfactor[k][(i, j)] += 1.0;
                    }
                }
                (Corr, _) => {
                    if x.is_nan() || x.abs() >= 1.0 {
                        let pair = format!("`{}` and `{}`", self.ids[j], self.ids[i]);
                        return refuse(format!("the correlation of random effects {pair} is not between -1 and 1"), x);
                    }
                    let scale = (d[(i, i)] * d[(j, j)]).sqrt();
                    set(&mut d, i, j, x * scale);
                    for (k, dd) in dd.iter_mut().enumerate() {
                        let own = if parameter == Some(k) { scale } else { 0.0 };
                        let relative = 0.5 * (dd[(i, i)] / d[(i, i)] + dd[(j, j)] / d[(j, j)]);
                        set(dd, i, j, own + x * scale * relative);
                    }
                }
                (Sd | Var | LogVar, diagonal) => {
                    let (value, derivative, word) = match entry.kind {
                        Sd => (x * x, 2.0 * x, "standard deviation"),
                        LogVar => (x.exp(), x.exp(), "variance"),
                        _ => (x, 1.0, "variance"),
                    };
                    if diagonal && !(value > 0.0 && value.is_finite() && (entry.kind != Sd || x > 0.0)) {
                        return refuse(format!("the {word} of random effect `{}` is not a positive number", self.ids[i]), x);
                    }
                    set(&mut d, i, j, value);
                    if let Some(k) = parameter {
                        set(&mut dd[k], i, j, derivative);
                    }
                }
            }
        }
        d += &factor * factor.transpose();
        for (dd, dfactor) in dd.iter_mut().zip(&dfactor) {
            let half = dfactor * factor.transpose();
            *dd += &half + half.transpose();
        }
        Omega::new(d, self.parameters.clone(), dd, &|i| self.ids[i].clone())
    }
}

/// Where `index` stands in `list`, appending it if it is new.
fn position(list: &mut Vec<usize>, index: usize) -> usize {
    list.iter().position(|x| *x == index).unwrap_or_else(|| {
        list.push(index);
        list.len() - 1
    })
}

fn set(m: &mut DMatrix<f64>, i: usize, j: usize, value: f64) {
    m[(i, j)] = value;
    m[(j, i)] = value;
}

/// Lower Cholesky factor, or the first row at which the matrix is not positive definite. A pivot that rounding alone could have left
/// (1e-14 of the diagonal) counts as zero.
pub(super) fn lower_cholesky(d: &DMatrix<f64>) -> Result<DMatrix<f64>, usize> {
    let n = d.nrows();
    let mut l = DMatrix::zeros(n, n);
    for i in 0..n {
        for j in 0..=i {
            let sum = d[(i, j)] - (0..j).map(|k| l[(i, k)] * l[(j, k)]).sum::<f64>();
            if i == j {
                if !(sum > 1e-14 * d[(i, i)].abs() && sum.is_finite()) {
                    return Err(i);
                }
                l[(i, i)] = sum.sqrt();
            } else {
                l[(i, j)] = sum / l[(j, j)];
            }
        }
    }
    Ok(l)
}

/// (L L^T)^-1.
pub(super) fn inverse_from_factor(l: &DMatrix<f64>) -> DMatrix<f64> {
    Cholesky::pack_dirty(l.clone()).inverse()
}

/// dL for a symmetric dD: L Phi(L^-1 dD L^-T), where Phi keeps the lower triangle and halves the diagonal.
fn factor_derivative(l: &DMatrix<f64>, dd: &DMatrix<f64>) -> DMatrix<f64> {
    let mut m = dd.clone();
    // The diagonal of L is positive, so the substitutions cannot fail.
    l.solve_lower_triangular_mut(&mut m);
    m.transpose_mut();
    l.solve_lower_triangular_mut(&mut m);
    let n = l.nrows();
    let phi = DMatrix::from_fn(n, n, |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Greater => m[(i, j)],
        std::cmp::Ordering::Equal => 0.5 * m[(i, i)],
        std::cmp::Ordering::Less => 0.0,
    });
    l * phi
}

fn not_positive_definite(d: &DMatrix<f64>, failed: usize, name: &dyn Fn(usize) -> String) -> EvaluationError {
    // The leading block up to the failing row is indefinite; the effects tied to that row are the ones to look at.
    let tied: Vec<String> = (0..failed).filter(|j| d[(failed, *j)] != 0.0).map(|j| format!("`{}`", name(j))).collect();
    let with = if tied.is_empty() { String::new() } else { format!(" together with {}", tied.join(", ")) };
    EvaluationError::Density(format!("the covariance of the random effects is not positive definite at `{}`{with}", name(failed)))
}
