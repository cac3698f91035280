//! Random and quasi-random numbers. Every stream is keyed by (seed, purpose, index), so that nothing depends on the order in which
//! threads ask, and nothing reads a clock.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Purpose {
    Starts = 1,
    Nodes = 2,
    Noise = 3,
    Importance = 4,
}

/// The stream of (seed, purpose, index).
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A Latin hypercube of `n` points between the bounds: each coordinate has one point in each of n equal intervals.
pub fn latin_hypercube(n: usize, lower: &[f64], upper: &[f64], seed: u64) -> Vec<Vec<f64>> {
    let mut points = vec![vec![0.0; lower.len()]; n];
    for (j, (a, b)) in lower.iter().zip(upper).enumerate() {
        let mut rng = stream(seed, Purpose::Starts, j as u64);
        let mut cells: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            cells.swap(i, rng.random_range(0..=i));
        }
        for (point, cell) in points.iter_mut().zip(cells) {
            point[j] = a + (b - a) * (cell as f64 + uniform(&mut rng)) / n as f64;
        }
    }
    points
}

/// A number in [0, 1).
pub fn uniform(rng: &mut impl Rng) -> f64 {
    rng.random::<f64>()
}
