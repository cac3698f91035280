//! The linear systems of Newton's method: (I - gamma J) d = r for all columns of a block at once.

use super::block::accumulate_rows;

/// LU factors of a dense matrix with partial pivoting (Golub and Van Loan, Matrix Computations, algorithm 3.4.1).
///
/// The factors are kept as lists of their nonzeros, because kinetic Jacobians are sparse and one factorisation serves
/// several solves of many columns each.
#[derive(Debug, Clone, Default)]
pub struct DenseLu {
    n: usize,
    /// The matrix, then its factors, row-major.
    matrix: Vec<f64>,
    /// Row exchanged with row k in step k.
    pivots: Vec<u32>,
    inverse_diagonal: Vec<f64>,
    /// Nonzeros of row i of L, negated, at `lower_start[i]..lower_start[i + 1]`.
    lower: Rows,
    /// Nonzeros of row i of U right of the diagonal, negated; columns count from i + 1.
    upper: Rows,
}

#[derive(Debug, Clone, Default)]
struct Rows {
    start: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Rows {
    fn clear(&mut self) {
        self.start.clear();
        self.start.push(0);
        self.columns.clear();
        self.values.clear();
    }

    #[inline(always)]
    fn push_row(&mut self, row: &[f64]) {
        for (j, &v) in row.iter().enumerate() {
            if v != 0.0 {
                self.columns.push(j as u32);
                self.values.push(-v);
            }
        }
        self.start.push(self.columns.len() as u32);
    }

    #[inline(always)]
    fn row(&self, i: usize) -> (&[u32], &[f64]) {
        let range = self.start[i] as usize..self.start[i + 1] as usize;
        (&self.columns[range.clone()], &self.values[range])
    }
}

impl DenseLu {
    /// Room for matrices of n by n.
    pub fn new(n: usize) -> Self {
        DenseLu { n, matrix: vec![0.0; n * n], pivots: vec![0; n], inverse_diagonal: vec![0.0; n], ..Default::default() }
    }

    /// Factorises I - gamma J, where J has `values` at (`rows`, `columns`). Returns false where the matrix is singular.
    #[inline(always)]
    pub fn factorise(&mut self, gamma: f64, rows: &[u32], columns: &[u32], values: &[f64]) -> bool {
        let n = self.n;
        self.matrix.fill(0.0);
        for ((&i, &j), &v) in rows.iter().zip(columns).zip(values) {
            self.matrix[i as usize * n + j as usize] = -gamma * v;
        }
        for i in 0..n {
            self.matrix[i * n + i] += 1.0;
        }
        for k in 0..n {
            let mut pivot = k;
            let mut largest = self.matrix[k * n + k].abs();
            for i in k + 1..n {
                let v = self.matrix[i * n + k].abs();
                if v > largest {
                    (pivot, largest) = (i, v);
                }
            }
            if largest == 0.0 || largest.is_nan() {
                return false;
            }
            self.pivots[k] = pivot as u32;
            let (head, tail) = self.matrix.split_at_mut((k + 1) * n);
            let pivot_row = &mut head[k * n..];
            if pivot != k {
                pivot_row.swap_with_slice(&mut tail[(pivot - k - 1) * n..(pivot - k) * n]);
            }
            let inverse = 1.0 / pivot_row[k];
            self.inverse_diagonal[k] = inverse;
            for row in tail.chunks_exact_mut(n) {
                if row[k] == 0.0 {
                    continue;
                }
                let factor = row[k] * inverse;
                row[k] = factor;
                for (v, p) in row[k + 1..].iter_mut().zip(&pivot_row[k + 1..]) {
                    *v -= factor * p;
                }
            }
        }
        self.lower.clear();
        self.upper.clear();
        for (i, row) in self.matrix.chunks_exact(n.max(1)).enumerate() {
            self.lower.push_row(&row[..i]);
            self.upper.push_row(&row[i + 1..]);
        }
        true
    }

    /// Replaces every column of the block `b` (n rows of `stride`) by the solution with that right-hand side.
    #[inline(always)]
    pub fn solve(&self, b: &mut [f64], stride: usize) {
        for (k, &pivot) in self.pivots.iter().enumerate() {
            let pivot = pivot as usize;
            if pivot != k {
                let (head, tail) = b.split_at_mut(pivot * stride);
                head[k * stride..(k + 1) * stride].swap_with_slice(&mut tail[..stride]);
            }
        }
        for i in 0..self.n {
            let (head, tail) = b.split_at_mut(i * stride);
            let (columns, values) = self.lower.row(i);
            accumulate_rows(&mut tail[..stride], head, columns, values);
        }
        for i in (0..self.n).rev() {
            let (head, tail) = b.split_at_mut((i + 1) * stride);
            let row = &mut head[i * stride..];
            let (columns, values) = self.upper.row(i);
            accumulate_rows(row, tail, columns, values);
            let inverse = self.inverse_diagonal[i];
            row.iter_mut().for_each(|v| *v *= inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (I - gamma J) x must give back the right-hand side, with a J that needs row exchanges.
    #[test]
    fn solves_all_columns() {
        let n = 6;
        let (mut rows, mut columns, mut values) = (vec![], vec![], vec![]);
        for i in 0..n {
            for j in 0..n {
                if (i + 2 * j) % 3 != 0 || i == j {
                    rows.push(i as u32);
                    columns.push(j as u32);
                    // The diagonal of I - gamma J is almost 0, so the largest element is elsewhere.
                    values.push(if i == j { 2.0 - 1e-9 * i as f64 } else { ((7 * i + 3 * j) % 5) as f64 - 1.5 });
                }
            }
        }
        let gamma = 0.5;
        let mut lu = DenseLu::new(n);
        assert!(lu.factorise(gamma, &rows, &columns, &values));
        for stride in [1, 4, 12] {
            let right: Vec<f64> = (0..n * stride).map(|k| ((k * k) % 17) as f64 - 8.0).collect();
            let mut x = right.clone();
            lu.solve(&mut x, stride);
            let mut back = x.clone();
            for ((&i, &j), &v) in rows.iter().zip(&columns).zip(&values) {
                for c in 0..stride {
                    back[i as usize * stride + c] -= gamma * v * x[j as usize * stride + c];
                }
            }
            for (a, b) in back.iter().zip(&right) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }

    #[test]
    fn reports_singular_matrices() {
        let mut lu = DenseLu::new(2);
        assert!(!lu.factorise(1.0, &[0, 1], &[0, 1], &[1.0, 1.0]));
        assert!(!lu.factorise(1.0, &[0], &[0], &[f64::NAN]));
        assert!(lu.factorise(1.0, &[0, 0, 1, 1], &[0, 1, 0, 1], &[1.0, 1.0, 1.0, 1.0]));
    }
}
