//! The block: states and all their sensitivities as one matrix, and the arithmetic on it (DESIGN.md 2.3).
//!
//! A block has one row per state and `columns` columns: the state itself, its first derivatives, its second derivatives.
//! It is stored row-major, every row padded to `stride` numbers so that the loops below work on whole SIMD registers.
//! Padding is always finite and never enters a norm.
//!
//! All functions are plain loops over slices. They are `inline(always)` so that the callers in `cvodes.rs` can compile
//! them twice, for the baseline processor and for AVX2. No loop uses fused multiply-add and reductions have a fixed
//! order, so every processor computes the same bits.

use std::cell::Cell;
use std::ops::Range;

/// Numbers in one unrolled piece of a row.
const WIDE: usize = 8;
/// Rows of more than one column are padded to a multiple of this.
const NARROW: usize = 4;

/// Size of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// States.
    pub rows: usize,
    /// 1 + first-order directions + pairs.
    pub columns: usize,
    /// Distance between rows: 1, or `columns` rounded up to a multiple of four.
    pub stride: usize,
}

impl Shape {
    /// The shape of a block of `rows` by `columns`.
    pub fn new(rows: usize, columns: usize) -> Self {
        let stride = if columns <= 1 { 1 } else { columns.next_multiple_of(NARROW) };
        Shape { rows, columns, stride }
    }

    /// Numbers in a block, padding included.
    pub fn len(&self) -> usize {
        self.rows * self.stride
    }
}

/// z = a x + b y.
#[inline(always)]
pub fn linear_sum(a: f64, x: &[f64], b: f64, y: &[f64], z: &mut [f64]) {
    let n = z.len();
    let (x, y) = (&x[..n], &y[..n]);
    // The integrator's most frequent calls are sums and differences; they need no multiplication.
    if a == 1.0 && b == 1.0 {
        for i in 0..n {
            z[i] = x[i] + y[i];
        }
    } else if b == 1.0 {
        for i in 0..n {
            z[i] = a * x[i] + y[i];
        }
    } else {
        for i in 0..n {
            z[i] = a * x[i] + b * y[i];
        }
    }
}

/// z = a x + b z.
#[inline(always)]
pub fn linear_sum_in_place(a: f64, x: &[f64], b: f64, z: &mut [f64]) {
    let n = z.len();
    let x = &x[..n];
    if b == 1.0 {
        if a == 1.0 {
            for i in 0..n {
                z[i] += x[i];
            }
        } else {
            for i in 0..n {
                z[i] += a * x[i];
            }
        }
    } else {
        for i in 0..n {
            z[i] = a * x[i] + b * z[i];
        }
    }
}

/// z = c x.
#[inline(always)]
pub fn scale(c: f64, x: &[f64], z: &mut [f64]) {
    let n = z.len();
    let x = &x[..n];
    if c == 1.0 {
        z.copy_from_slice(x);
    } else if c == -1.0 {
        for i in 0..n {
            z[i] = -x[i];
        }
    } else {
        for i in 0..n {
            z[i] = c * x[i];
        }
    }
}

/// z = c z.
#[inline(always)]
pub fn scale_in_place(c: f64, z: &mut [f64]) {
    z.iter_mut().for_each(|v| *v *= c);
}

/// Sets every number to c.
#[inline(always)]
pub fn fill(c: f64, z: &mut [f64]) {
    z.fill(c);
}

/// z_i = f(x_i), where z may be x.
#[inline(always)]
pub fn map(x: &[Cell<f64>], z: &[Cell<f64>], f: impl Fn(f64) -> f64) {
    for (x, z) in x.iter().zip(z) {
        z.set(f(x.get()));
    }
}

/// z_i = f(x_i, y_i), where z may be x or y.
#[inline(always)]
pub fn map2(x: &[Cell<f64>], y: &[Cell<f64>], z: &[Cell<f64>], f: impl Fn(f64, f64) -> f64) {
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        z.set(f(x.get(), y.get()));
    }
}

/// The largest magnitude.
#[inline(always)]
pub fn max_norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m: f64, v| if v.abs() <= m { m } else { v.abs() })
}

/// Sums of (x w)^2 over the rows of columns `first..first + W`.
#[inline(always)]
fn column_sums<const W: usize>(x: &[f64], w: &[f64], stride: usize, first: usize) -> [f64; W] {
    let mut sums = [0.0; W];
    for (x, w) in x.chunks_exact(stride).zip(w.chunks_exact(stride)) {
        let (x, w) = (&x[first..first + W], &w[first..first + W]);
        for c in 0..W {
            let v = x[c] * w[c];
            sums[c] += v * v;
        }
    }
    sums
}

/// Runs a statement for the pieces of eight, four or one columns that make up a range, which begins and ends at multiples of four or is
/// the only column. A macro and not a function of closures, because closures are not compiled for the caller's processor.
macro_rules! for_pieces {
    ($columns:expr, |$first:ident, $WIDTH:ident| $body:block) => {
        let (mut $first, end) = ($columns.start, $columns.end);
        while $first + WIDE <= end {
            const $WIDTH: usize = WIDE;
            $body
            $first += WIDE;
        }
        if $first + NARROW <= end {
            const $WIDTH: usize = NARROW;
            $body
            $first += NARROW;
        }
        if $first < end {
            const $WIDTH: usize = 1;
            $body
        }
    };
}

/// The smallest range of whole pieces that holds `columns`.
pub fn covering(columns: &Range<usize>, stride: usize) -> Range<usize> {
    if stride == 1 { 0..1 } else { columns.start / NARROW * NARROW..columns.end.next_multiple_of(NARROW) }
}

/// The largest of the weighted root-mean-square norms of `columns`, sqrt(1/rows sum_i (x_ik w_ik)^2).
///
/// This is how CVODES combines the norms of the states and of each sensitivity in its error test. Not-a-number in one of the
/// columns gives not-a-number.
#[inline(always)]
pub fn wrms_norm_of(x: &[f64], w: &[f64], stride: usize, columns: &Range<usize>) -> f64 {
    let mut largest = 0.0;
    for_pieces!(covering(columns, stride), |first, WIDTH| {
        for (c, s) in column_sums::<WIDTH>(x, w, stride, first).into_iter().enumerate() {
            // Nothing is greater than NaN, so NaN stays.
            if columns.contains(&(first + c)) && (s > largest || s.is_nan()) {
                largest = s;
            }
        }
    });
    (largest * stride as f64 / x.len() as f64).sqrt()
}

/// [`wrms_norm_of`] all columns of a block.
#[inline(always)]
pub fn wrms_norm(x: &[f64], w: &[f64], shape: Shape) -> f64 {
    wrms_norm_of(x, w, shape.stride, &(0..shape.columns))
}

/// Error weights: 1 / (rtol |y| + atol) times the factor of the column (`factors`, one per column of the stride; 0 for padding).
/// `atol` has one number per row.
#[inline(always)]
pub fn weights(y: &[f64], w: &mut [f64], rtol: f64, atol: &[f64], factors: &[f64]) {
    let stride = factors.len();
    for ((y, w), &atol) in y.chunks_exact(stride).zip(w.chunks_exact_mut(stride)).zip(atol) {
        for c in 0..stride {
            w[c] = factors[c] / (rtol * y[c].abs() + atol);
        }
    }
}

/// Whether every number is finite.
#[inline(always)]
pub fn all_finite(x: &[f64]) -> bool {
    // v * 0 is 0 for finite v and NaN otherwise; NaN survives the sums.
    let mut sums = [0.0; WIDE];
    let (pieces, rest) = x.as_chunks::<WIDE>();
    for piece in pieces {
        for c in 0..WIDE {
            sums[c] += piece[c] * 0.0;
        }
    }
    let total: f64 = sums.iter().sum::<f64>() + rest.iter().map(|v| v * 0.0).sum::<f64>();
    total == 0.0
}

#[inline(always)]
fn accumulate_piece<const W: usize>(row: &mut [f64], source: &[f64], index: &[u32], coefficient: &[f64], first: usize) {
    let stride = row.len();
    let row = &mut row[first..first + W];
    let mut sum = [0.0; W];
    sum.copy_from_slice(row);
    for (&j, &a) in index.iter().zip(coefficient) {
        let start = j as usize * stride + first;
        let s = &source[start..start + W];
        for c in 0..W {
            sum[c] += a * s[c];
        }
    }
    row.copy_from_slice(&sum);
}

/// Adds to one row of a block the rows `index` of `source`, each times its coefficient, in the columns of [`covering`] range `columns`. The
/// row's length is the stride.
#[inline(always)]
pub fn accumulate_rows(row: &mut [f64], source: &[f64], index: &[u32], coefficient: &[f64], columns: &Range<usize>) {
    for_pieces!(columns, |first, WIDTH| {
        accumulate_piece::<WIDTH>(row, source, index, coefficient, first);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        let mut s = seed;
        (0..n)
            .map(|_| {
                s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (s >> 11) as f64 / (1u64 << 53) as f64 - 0.5
            })
            .collect()
    }

    #[test]
    fn norm_is_the_largest_column_norm() {
        for columns in [1, 2, 3, 7, 8, 12, 13, 30] {
            let shape = Shape::new(5, columns);
            let x = numbers(shape.len(), 1);
            let mut w = numbers(shape.len(), 2);
            for row in w.chunks_exact_mut(shape.stride) {
                row[columns..].fill(0.0);
            }
            let expected = (0..columns)
                .map(|c| ((0..5).map(|r| (x[r * shape.stride + c] * w[r * shape.stride + c]).powi(2)).sum::<f64>() / 5.0).sqrt())
                .fold(0.0, f64::max);
            assert!((wrms_norm(&x, &w, shape) - expected).abs() < 1e-15, "{columns} columns");
        }
    }

    #[test]
    fn norm_of_some_columns() {
        for columns in [3, 7, 12, 13] {
            let shape = Shape::new(5, columns);
            let (x, w) = (numbers(shape.len(), 1), numbers(shape.len(), 2));
            for range in [0..1, 1..2, 1..columns, columns - 1..columns] {
                let expected = range
                    .clone()
                    .map(|c| ((0..5).map(|r| (x[r * shape.stride + c] * w[r * shape.stride + c]).powi(2)).sum::<f64>() / 5.0).sqrt())
                    .fold(0.0, f64::max);
                assert!((wrms_norm_of(&x, &w, shape.stride, &range) - expected).abs() < 1e-15, "{range:?} of {columns}");
            }
        }
    }

    #[test]
    fn norm_of_nan_is_nan() {
        let shape = Shape::new(2, 3);
        let mut x = vec![1.0; shape.len()];
        x[shape.stride + 1] = f64::NAN;
        assert!(wrms_norm(&x, &vec![1.0; shape.len()], shape).is_nan());
    }

    #[test]
    fn accumulates_rows_of_any_stride() {
        for columns in [1, 2, 4, 9, 15, 24] {
            let shape = Shape::new(4, columns);
            let source = numbers(shape.len(), 3);
            let mut row = numbers(shape.stride, 4);
            let expected: Vec<f64> =
                (0..shape.stride).map(|c| row[c] + 2.0 * source[shape.stride + c] + -0.5 * source[3 * shape.stride + c]).collect();
            accumulate_rows(&mut row, &source, &[1, 3], &[2.0, -0.5], &(0..shape.stride));
            assert_eq!(row, expected);
        }
    }

    #[test]
    fn finds_what_is_not_finite() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for n in [1, 7, 8, 19] {
                for i in 0..n {
                    let mut x = vec![1e300; n];
                    assert!(all_finite(&x));
                    x[i] = bad;
                    assert!(!all_finite(&x));
                }
            }
        }
    }
}
