//! Marginal likelihood of one individual by adaptive cubature, for conditional likelihoods that are no normal peak: survivors, whose
//! density is cut off where the event never happens, or cells with several modes.
//!
//! The integral runs over the whitened effects u = L^-1 b, in which the prior is standard normal, by the rules of degrees 7 and 5 of
//! Genz and Malik (1980, J Comput Appl Math 6:295; one dimension: Gauss and Kronrod's of 7 and 15 points), on boxes that are halved where the two differ most.

use super::covariance::Omega;
use super::ebe::cell_parameters;
use super::individual::{Conditional, ConditionalOrder, Scope};
use super::laplace::IndividualTerm;
use super::{EvaluationError, Order};
use nalgebra::DVector;
use std::collections::BinaryHeap;
use std::f64::consts::PI;

/// Most random effects for which the rules are worth their points.
pub const MOST_EFFECTS: usize = 4;

/// Settings of the integration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CubatureOptions {
    /// Relative error of the likelihood at which the integration ends.
    pub tolerance: f64,
    /// Evaluations of the conditional likelihood after which it ends in any case.
    pub most_evaluations: usize,
}

impl Default for CubatureOptions {
    fn default() -> Self {
        CubatureOptions { tolerance: 1e-4, most_evaluations: 300_000 }
    }
}

/// Marginal likelihood by cubature.
#[derive(Debug, Clone)]
pub struct Cubature {
    /// Negative log marginal likelihood.
    pub value: f64,
    /// Estimate of its error.
    pub error: f64,
    /// Gradient by phi_typical (empty for [`Order::Value`]).
    pub d_phi: DVector<f64>,
    /// Gradient by the natural covariance parameters (empty for [`Order::Value`]).
    pub d_parameters: DVector<f64>,
    /// Evaluations of the conditional likelihood.
    pub evaluations: usize,
}

/// Prior standard deviations to which the integral extends at least: beyond, the prior has 1e-11 of its mass.
const REACH: f64 = 7.0;

/// Integrates over the random effects; `laplace` is the individual's estimate at the same parameters, where the first boxes are cut. The
/// gradient is Fisher's identity, integrated with the likelihood.
///
/// # Errors
/// Those of the conditional likelihood, except that the density vanishes; [`EvaluationError::Inner`] if the likelihood is not finite,
/// or if its error is above a thousandth after the last evaluation.
///
/// # Panics
/// If there are more effects than [`MOST_EFFECTS`], or none.
pub fn cubature<C: Conditional + ?Sized>(
    conditional: &mut C,
    phi_typical: &[f64],
    targets: &[usize],
    omega: &Omega,
    laplace: &IndividualTerm,
    options: &CubatureOptions,
    order: Order,
) -> Result<Cubature, EvaluationError> {
    let n = targets.len();
    assert!((1..=MOST_EFFECTS).contains(&n), "one to four random effects");
    let gradient = order > Order::Value;
    let (wanted, n_phi) = (if gradient { ConditionalOrder::Gradient } else { ConditionalOrder::Value }, phi_typical.len());
    let mode = omega.whiten(&laplace.b);
    let reference = laplace.parts.data + 0.5 * mode.norm_squared();
    let mut evaluations = 0;
    // Likelihood relative to the mode's, and its products with the gradients of the joint density.
    let mut integrand = |u: &[f64]| -> Result<Vec<f64>, EvaluationError> {
        evaluations += 1;
        let u = DVector::from_column_slice(u);
        let b = &omega.l * &u;
        let data = match conditional.evaluate(&cell_parameters(phi_typical, targets, &b), wanted, Scope::All) {
            Ok(data) => data,
            Err(EvaluationError::Density(_)) => return Ok(vec![0.0; if gradient { 1 + n_phi + omega.dd.len() } else { 1 }]),
            Err(error) => return Err(error),
        };
        let density = (reference - data.value - 0.5 * u.norm_squared()).exp();
        let mut result = vec![density];
        if gradient {
            let prior = omega.prior_gradient(&b);
            result.extend(data.gradient.iter().chain(prior.iter()).map(|g| if density > 0.0 { density * g } else { 0.0 }));
        }
        Ok(result)
    };
    // Standard deviations of the normal approximation in u.
    let roots: Vec<DVector<f64>> = laplace.posterior_root.column_iter().map(|c| omega.whiten(&c.into_owned())).collect();
    let sd = DVector::from_fn(n, |i, _| roots.iter().map(|r| r[i] * r[i]).sum::<f64>().sqrt());
    let boxes = first_boxes(&mode, &sd);
    let integral = integrate(&mut integrand, boxes, n, options)?;
    let total = integral.value[0];
    if !(total > 0.0 && total.is_finite()) {
        return Err(EvaluationError::Inner("the marginal likelihood of an individual is not finite".to_string()));
    }
    let error = integral.error / total;
    if error > 1e-3 {
        return Err(EvaluationError::Inner(format!(
            "the marginal likelihood of an individual has a relative error of {error:.1e} after {evaluations} evaluations"
        )));
    }
    let mean = |range: std::ops::Range<usize>| DVector::from_iterator(range.len(), integral.value[range].iter().map(|v| v / total));
    Ok(Cubature {
        value: reference + 0.5 * n as f64 * (2.0 * PI).ln() - total.ln(),
        error,
        d_phi: if gradient { mean(1..1 + n_phi) } else { DVector::zeros(0) },
        d_parameters: if gradient { mean(1 + n_phi..1 + n_phi + omega.dd.len()) } else { DVector::zeros(0) },
        evaluations,
    })
}

/// A box by its centre and half widths.
#[derive(Debug, Clone)]
struct Cell {
    centre: Vec<f64>,
    half: Vec<f64>,
}

/// Largest half widths of the first boxes, by number of effects: from two effects on, as small as the number of boxes allows. A posterior may
/// be a thin, bent ridge, of which a wide box sees nothing at its few points.
const WIDEST: [f64; MOST_EFFECTS] = [1.75, 0.5, 1.75, 3.5];

/// Boxes that cover the prior and the mode, cut at five standard deviations `sd` of the normal approximation around the mode so that a narrow peak
/// is not missed, and evenly between these cuts.
fn first_boxes(mode: &DVector<f64>, sd: &DVector<f64>) -> Vec<Cell> {
    let cuts: Vec<Vec<f64>> = (mode.iter().zip(sd.iter()))
        .map(|(m, s)| {
            let reach = REACH.max(m.abs() + 5.0);
            let width = (5.0 * s).clamp(0.05, reach);
            let mut cuts = vec![-reach];
            cuts.extend([m - width, m + width].into_iter().filter(|c| c.abs() < reach));
            cuts.push(reach);
            let even = |w: &[f64]| {
                let (from, width) = (w[0], w[1] - w[0]);
                let pieces = (width / (2.0 * WIDEST[mode.len() - 1]) - 1e-9).ceil().max(1.0);
                (1..=pieces as usize).map(move |k| from + width * k as f64 / pieces)
            };
            std::iter::once(-reach).chain(cuts.windows(2).flat_map(even)).collect()
        })
        .collect();
    let mut boxes = vec![Cell { centre: vec![], half: vec![] }];
    for cuts in &cuts {
        let wider = |b: &Cell| -> Vec<Cell> {
            let piece = |w: &[f64]| {
                let mut b = b.clone();
                b.centre.push(0.5 * (w[0] + w[1]));
                b.half.push(0.5 * (w[1] - w[0]));
                b
            };
            cuts.windows(2).map(piece).collect()
        };
        boxes = boxes.iter().flat_map(wider).collect();
    }
    boxes
}

/// The integral over one box.
struct Piece {
    cell: Cell,
    value: Vec<f64>,
    error: f64,
    /// The axis along which the integrand bends most.
    axis: usize,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.error == other.error
    }
}

impl Eq for Piece {}

impl PartialOrd for Piece {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Piece {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.error.total_cmp(&other.error)
    }
}

struct Integral {
    value: Vec<f64>,
    error: f64,
}

type Integrand<'a> = dyn FnMut(&[f64]) -> Result<Vec<f64>, EvaluationError> + 'a;

fn integrate(f: &mut Integrand, boxes: Vec<Cell>, n: usize, options: &CubatureOptions) -> Result<Integral, EvaluationError> {
    let per_box = if n == 1 { 15 } else { (1 << n) + 2 * n * n + 2 * n + 1 };
    let mut heap = BinaryHeap::new();
    let mut evaluations = 0;
    for cell in boxes {
        heap.push(rule(f, cell, n)?);
        evaluations += per_box;
    }
    let sum = |heap: &BinaryHeap<Piece>| heap.iter().fold((0.0, 0.0), |s, p| (s.0 + p.value[0], s.1 + p.error));
    let (mut total, mut error) = sum(&heap);
    while error > options.tolerance * total.abs() && evaluations + 2 * per_box <= options.most_evaluations {
        let Some(worst) = heap.pop() else { break };
        total -= worst.value[0];
        error -= worst.error;
        let mut halves = Vec::with_capacity(2);
        for side in [-0.5, 0.5] {
            let mut cell = worst.cell.clone();
            cell.half[worst.axis] *= 0.5;
            cell.centre[worst.axis] += side * worst.cell.half[worst.axis];
            halves.push(rule(f, cell, n)?);
        }
        // Both rules may miss the same. Then the whole and its halves differ, which are not to be trusted before theirs agree.
        let missed = 0.5 * (halves.iter().map(|p| p.value[0]).sum::<f64>() - worst.value[0]).abs();
        for mut piece in halves {
            piece.error = piece.error.max(missed);
            total += piece.value[0];
            error += piece.error;
            heap.push(piece);
        }
        evaluations += 2 * per_box;
        // Sums that are updated lose digits.
        if heap.len().is_multiple_of(256) {
            (total, error) = sum(&heap);
        }
    }
    // In an order that does not depend on how the heap stores its pieces.
    let mut pieces = heap.into_sorted_vec();
    pieces.sort_by(|a, b| {
        a.error.total_cmp(&b.error).then_with(|| a.cell.centre.partial_cmp(&b.cell.centre).unwrap_or(std::cmp::Ordering::Equal))
    });
    let length = pieces.first().map_or(1, |p| p.value.len());
    let mut value = vec![0.0; length];
    for piece in &pieces {
        value.iter_mut().zip(&piece.value).for_each(|(v, p)| *v += p);
    }
    Ok(Integral { value, error: pieces.iter().map(|p| p.error).sum() })
}

/// Nodes and weights of Kronrod's rule of 15 points on [0, 1] of [-1, 1], and of Gauss' rule of 7 points at every second of them.
const KRONROD: [[f64; 3]; 8] = [
    [0.991_455_371_120_812_6, 0.022_935_322_010_529_224, 0.0],
    [0.949_107_912_342_758_5, 0.063_092_092_629_978_55, 0.129_484_966_168_869_7],
    [0.864_864_423_359_769_1, 0.104_790_010_322_250_19, 0.0],
    [0.741_531_185_599_394_4, 0.140_653_259_715_525_92, 0.279_705_391_489_276_64],
    [0.586_087_235_467_691_1, 0.169_004_726_639_267_9, 0.0],
    [0.405_845_151_377_397_2, 0.190_350_578_064_785_41, 0.381_830_050_505_118_9],
    [0.207_784_955_007_898_47, 0.204_432_940_075_298_9, 0.0],
    [0.0, 0.209_482_141_084_727_83, 0.417_959_183_673_469_4],
];

fn rule(f: &mut Integrand, cell: Cell, n: usize) -> Result<Piece, EvaluationError> {
    if n == 1 { line(f, cell) } else { genz_malik(f, cell, n) }
}

fn add(sum: &mut Vec<f64>, weight: f64, values: &[f64]) {
    sum.resize(values.len(), 0.0);
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += weight * v);
}

fn line(f: &mut Integrand, cell: Cell) -> Result<Piece, EvaluationError> {
    let (mut value, mut coarse) = (Vec::new(), 0.0);
    for [node, kronrod, gauss] in KRONROD {
        let signs: &[f64] = if node == 0.0 { &[1.0] } else { &[1.0, -1.0] };
        for sign in signs {
            let values = f(&[cell.centre[0] + sign * node * cell.half[0]])?;
            add(&mut value, kronrod * cell.half[0], &values);
            coarse += gauss * cell.half[0] * values[0];
        }
    }
    let error = (value[0] - coarse).abs();
    Ok(Piece { cell, value, error, axis: 0 })
}

fn genz_malik(f: &mut Integrand, cell: Cell, n: usize) -> Result<Piece, EvaluationError> {
    let (l2, l4, l5) = ((9.0_f64 / 70.0).sqrt(), 0.9_f64.sqrt(), (9.0_f64 / 19.0).sqrt());
    let dimension = n as f64;
    // Weights of the rules of degree 7 and 5 for a box of volume 1.
    let w = [
        (12824.0 - 9120.0 * dimension + 400.0 * dimension * dimension) / 19683.0,
        980.0 / 6561.0,
        (1820.0 - 400.0 * dimension) / 19683.0,
        200.0 / 19683.0,
        6859.0 / 19683.0 / f64::from(1 << n),
    ];
    let e = [
        (729.0 - 950.0 * dimension + 50.0 * dimension * dimension) / 729.0,
        245.0 / 486.0,
        (265.0 - 100.0 * dimension) / 1458.0,
        25.0 / 729.0,
    ];
    let volume: f64 = cell.half.iter().map(|h| 2.0 * h).product();
    let (mut value, mut coarse) = (Vec::new(), 0.0);
    let mut point = cell.centre.clone();
    let middle = f(&point)?;
    add(&mut value, w[0] * volume, &middle);
    coarse += e[0] * volume * middle[0];
    let mut bends = vec![0.0; n];
    for i in 0..n {
        let mut seconds = [0.0; 2];
        for (k, l) in [l2, l4].into_iter().enumerate() {
            for sign in [1.0, -1.0] {
                point[i] = cell.centre[i] + sign * l * cell.half[i];
                let values = f(&point)?;
                add(&mut value, w[1 + k] * volume, &values);
                coarse += e[1 + k] * volume * values[0];
                seconds[k] += values[0];
            }
            seconds[k] -= 2.0 * middle[0];
        }
        point[i] = cell.centre[i];
        bends[i] = (seconds[0] - l2 * l2 / (l4 * l4) * seconds[1]).abs();
    }
    for i in 0..n {
        for j in i + 1..n {
            for (a, b) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
                point[i] = cell.centre[i] + a * l4 * cell.half[i];
                point[j] = cell.centre[j] + b * l4 * cell.half[j];
                let values = f(&point)?;
                add(&mut value, w[3] * volume, &values);
                coarse += e[3] * volume * values[0];
            }
            point[i] = cell.centre[i];
            point[j] = cell.centre[j];
        }
    }
    for corner in 0..1_usize << n {
        for (i, p) in point.iter_mut().enumerate() {
            let sign = if corner >> i & 1 == 1 { 1.0 } else { -1.0 };
            *p = cell.centre[i] + sign * l5 * cell.half[i];
        }
        let values = f(&point)?;
        add(&mut value, w[4] * volume, &values);
    }
    let error = (value[0] - coarse).abs();
    // Where nothing bends, the widest side is cut.
    let largest = bends.iter().copied().fold(0.0, f64::max);
    let axis = (0..n).filter(|i| bends[*i] >= 0.999 * largest).max_by(|a, b| cell.half[*a].total_cmp(&cell.half[*b])).unwrap_or(0);
    Ok(Piece { cell, value, error, axis })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(n: usize, f: impl Fn(&[f64]) -> f64, tolerance: f64) -> Integral {
        let mut integrand = |u: &[f64]| Ok(vec![f(u), 2.0 * f(u)]);
        let cell = Cell { centre: vec![0.5; n], half: vec![0.5; n] };
        integrate(&mut integrand, vec![cell], n, &CubatureOptions { tolerance, most_evaluations: 3_000_000 })
            .unwrap_or(Integral { value: vec![f64::NAN], error: f64::NAN })
    }

    /// Both rules are exact for polynomials of degree 5, so one box is enough.
    #[test]
    fn polynomials_are_exact() {
        for n in 1..=4 {
            let integral = over(n, |u| u.iter().map(|x| x.powi(5)).sum::<f64>() + u[0] * u[n - 1].powi(2), 1e-3);
            let cross = if n == 1 { 0.25 } else { 1.0 / 6.0 };
            let expected = n as f64 / 6.0 + cross;
            assert!((integral.value[0] - expected).abs() < 1e-13, "{n}: {} {expected}", integral.value[0]);
            assert!((integral.value[1] - 2.0 * expected).abs() < 1e-13);
            assert!(integral.error < 1e-12);
        }
    }

    #[test]
    fn peaks_and_edges_are_found() {
        for n in 1..=3 {
            let peak = |u: &[f64]| u.iter().map(|x| (-0.5 * ((x - 0.5) / 0.07).powi(2)).exp()).product::<f64>();
            let expected = (0.07 * (2.0 * PI).sqrt()).powi(n as i32);
            let integral = over(n, peak, 1e-5);
            assert!((integral.value[0] / expected - 1.0).abs() < 1e-5, "{n}: {}", integral.value[0] / expected);
        }
        // An edge that lies across the boxes.
        let edge = |u: &[f64]| 1.0 / (1.0 + ((u[0] + u[1] - 1.0) / 0.01).exp());
        assert!((over(2, edge, 1e-6).value[0] - 0.5).abs() < 2e-6);
    }
}
