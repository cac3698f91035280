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

/// Degree, coefficients and initial direction numbers of the primitive polynomials of dimensions 2 to 21 (Joe and Kuo 2008, "new-joe-kuo-6").
const JOE_KUO: [(u32, u32, &[u32]); 20] = [
    (1, 0, &[1]),
    (2, 1, &[1, 3]),
    (3, 1, &[1, 3, 1]),
    (3, 2, &[1, 1, 1]),
    (4, 1, &[1, 1, 3, 3]),
    (4, 4, &[1, 3, 5, 13]),
    (5, 2, &[1, 1, 5, 5, 17]),
    (5, 4, &[1, 1, 5, 5, 5]),
    (5, 7, &[1, 1, 7, 11, 19]),
    (5, 11, &[1, 1, 5, 1, 1]),
    (5, 13, &[1, 1, 1, 3, 11]),
    (5, 14, &[1, 3, 5, 5, 31]),
    (6, 1, &[1, 3, 3, 9, 7, 49]),
    (6, 13, &[1, 1, 1, 15, 21, 21]),
    (6, 16, &[1, 3, 1, 13, 27, 49]),
    (6, 19, &[1, 1, 1, 15, 7, 5]),
    (6, 22, &[1, 3, 1, 15, 13, 25]),
    (6, 25, &[1, 1, 5, 5, 19, 61]),
    (7, 1, &[1, 3, 7, 11, 23, 15, 103]),
    (7, 4, &[1, 3, 7, 13, 13, 15, 69]),
];

/// Largest dimension of [`sobol_normal`].
pub const SOBOL_DIMENSIONS: usize = JOE_KUO.len() + 1;

/// The 32 direction numbers of a dimension (counted from 0), most significant bit first.
fn directions(dimension: usize) -> [u32; 32] {
    let mut v = [0u32; 32];
    match dimension.checked_sub(1).map(|d| JOE_KUO[d]) {
        None => (0..32).for_each(|k| v[k] = 1 << (31 - k)),
        Some((s, a, m)) => {
            let s = s as usize;
            for k in 0..32 {
                v[k] = if k < s {
                    m[k] << (31 - k)
                } else {
                    let mut next = v[k - s] ^ (v[k - s] >> s);
                    for j in 1..s {
                        if a >> (s - 1 - j) & 1 == 1 {
                            next ^= v[k - j];
                        }
                    }
                    next
                };
            }
        }
    }
    v
}

/// A well mixed hash (the finaliser of splitmix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Owen's nested uniform scrambling: each bit is flipped by a random bit that depends on the more significant ones. Returns a number strictly between 0 and 1.
fn scramble(x: u32, key: u64) -> f64 {
    let mut result = 0u64;
    for k in 0..32 {
        let prefix = if k == 0 { 0 } else { u64::from(x >> (32 - k)) };
        let flip = mix(key ^ mix(prefix | 1 << (k + 32))) & 1;
        result = result << 1 | (u64::from(x >> (31 - k)) & 1 ^ flip);
    }
    // Below the 32 scrambled bits every point has its own uniform remainder.
    let rest = mix(key ^ mix(u64::from(x) | 1 << 63)) >> 44;
    ((result << 20 | rest) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The first `n` points of an Owen-scrambled Sobol sequence in the unit cube, row-major. Best with n a power of two. `dimension` is at most
/// [`SOBOL_DIMENSIONS`]; further coordinates would repeat.
pub fn sobol(n: usize, dimension: usize, seed: u64) -> Vec<f64> {
    let mut points = vec![0.0; n * dimension];
    for d in 0..dimension {
        let v = directions(d % SOBOL_DIMENSIONS);
        let key = mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(d as u64 + 1));
        let mut x = 0u32;
        for i in 0..n {
            points[i * dimension + d] = scramble(x, key);
            // Gray code order: the next point differs in the direction of the lowest zero bit of i.
            x ^= v[(i as u32).trailing_ones().min(31) as usize];
        }
    }
    points
}

/// Standard normal quasi-random numbers: [`sobol`] points through the inverse normal distribution function.
pub fn sobol_normal(n: usize, dimension: usize, seed: u64) -> Vec<f64> {
    sobol(n, dimension, seed).into_iter().map(normal_quantile).collect()
}

/// The standard normal quantile.
pub fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * statrs::function::erf::erfc_inv(2.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sobol_points_are_stratified() {
        for m in [4u32, 8, 10] {
            let n = 1usize << m;
            let points = sobol(n, SOBOL_DIMENSIONS, 7);
            for d in 0..SOBOL_DIMENSIONS {
                let mut cells: Vec<usize> = (0..n).map(|i| (points[i * SOBOL_DIMENSIONS + d] * n as f64) as usize).collect();
                cells.sort_unstable();
                assert!(cells.iter().enumerate().all(|(i, c)| i == *c), "dimension {d}: one point in each of {n} intervals");
            }
            // The first two dimensions are a (0, m, 2)-net: one point in every elementary box of volume 1/n.
            for k in 0..=m {
                let mut boxes = vec![0; n];
                for i in 0..n {
                    let a = (points[i * SOBOL_DIMENSIONS] * f64::from(1 << k)) as usize;
                    let b = (points[i * SOBOL_DIMENSIONS + 1] * f64::from(1 << (m - k))) as usize;
                    boxes[a << (m - k) | b] += 1;
                }
                assert!(boxes.iter().all(|c| *c == 1));
            }
        }
    }

    #[test]
    fn quasi_random_normals_have_the_right_moments() {
        let (n, d) = (4096, 8);
        let z = sobol_normal(n, d, 1);
        for j in 0..d {
            let moment = |k: i32| (0..n).map(|i| z[i * d + j].powi(k)).sum::<f64>() / n as f64;
            assert!(moment(1).abs() < 2e-3 && (moment(2) - 1.0).abs() < 5e-3 && (moment(4) - 3.0).abs() < 0.05);
        }
        assert!((normal_quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-14);
    }

    #[test]
    fn latin_hypercube_has_one_point_per_interval() {
        let points = latin_hypercube(17, &[-1.0, 0.0], &[1.0, 10.0], 3);
        for (j, (a, b)) in [(-1.0, 1.0), (0.0, 10.0)].into_iter().enumerate() {
            let mut cells: Vec<usize> = points.iter().map(|p| ((p[j] - a) / (b - a) * 17.0) as usize).collect();
            cells.sort_unstable();
            assert!(cells.iter().enumerate().all(|(i, c)| i == *c));
        }
    }
}
