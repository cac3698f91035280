//! Random and quasi-random numbers: keyed streams, scrambled Sobol points, Latin hypercubes, normal scores. Nothing here reads
//! a clock or keeps a state: every number is a function of (seed, purpose, index), so results do not depend on threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What random numbers are for. Streams of different purposes are independent even for the same seed and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Starting points of an estimation (index: parameter).
    Starts,
    /// Replacements for starting points without a value (index: start and attempt).
    Redraws,
    /// Integration nodes.
    Nodes,
    /// Simulated measurement noise (index: measurement).
    Noise,
    /// Importance sampling.
    Importance,
    /// Order of simultaneous events.
    Events,
    /// Starting points of pooled fits (index: start).
    Pooled,
    /// Individuals of synthetic data, random effects and noise (index: individual).
    Individuals,
    /// Individuals behind synthetic snapshots and statistics (index: measurement and individual).
    Sampled,
    /// Random effects of the groups of synthetic data (index: first individual of the group).
    Groups,
}

impl Purpose {
    /// The key of the purpose. Part of what makes results reproducible: never change a number, only add.
    fn key(self) -> u64 {
        match self {
            Purpose::Starts => 1,
            Purpose::Nodes => 2,
            Purpose::Noise => 3,
            Purpose::Importance => 4,
            Purpose::Redraws => 5,
            Purpose::Events => 6,
            Purpose::Pooled => 8,
            Purpose::Individuals => 9,
            Purpose::Sampled => 10,
            Purpose::Groups => 11,
        }
    }
}

/// The random stream of (seed, purpose, index). ChaCha with 8 rounds gives the same numbers on every platform.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose.key().to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(index);
    generator
}

/// A uniform number in the open interval (0, 1) from the upper 52 bits of `bits`, symmetric about 1/2 and exact in f64.
fn open_unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// The next uniform number in the open interval (0, 1).
pub fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    open_unit(generator.next_u64())
}

/// The next standard normal number, by inversion.
pub fn normal(generator: &mut ChaCha8Rng) -> f64 {
    normal_quantile(uniform(generator))
}

/// A random permutation of 0..n (Fisher-Yates; the multiplication is biased by less than n / 2^64).
fn permutation(n: usize, generator: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = ((u128::from(generator.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

/// `n` points of a Latin hypercube in the box `lower..upper`: in every coordinate each of the `n` strata of equal width holds
/// exactly one point, at a uniform place within it (McKay, Beckman & Conover 1979). Bounds must be finite and of equal length.
pub fn latin_hypercube(n: usize, lower: &[f64], upper: &[f64], seed: u64) -> Vec<Vec<f64>> {
    debug_assert_eq!(lower.len(), upper.len());
    let mut points = vec![vec![0.0; lower.len()]; n];
    for (j, (&low, &high)) in lower.iter().zip(upper).enumerate() {
        let mut generator = stream(seed, Purpose::Starts, j as u64);
        let strata = permutation(n, &mut generator);
        for (point, stratum) in points.iter_mut().zip(strata) {
            let u = (stratum as f64 + uniform(&mut generator)) / n as f64;
            // Written as a mean of the bounds so that a wide box does not overflow.
            point[j] = (low * (1.0 - u) + high * u).clamp(low, high);
        }
    }
    points
}

/// Number of dimensions with direction numbers of their own.
pub const SOBOL_DIMENSIONS: usize = 53;

/// Direction numbers for dimensions 2 to 53: degree and inner coefficients of the primitive polynomial, initial numbers m.
/// Source: S. Joe & F. Y. Kuo, Constructing Sobol sequences with better two-dimensional projections, SIAM J. Sci. Comput. 30
/// (2008) 2635-2654, set new-joe-kuo-6; all primitive polynomials up to degree 8.
#[rustfmt::skip]
const JOE_KUO: [(u32, u64, [u64; 8]); SOBOL_DIMENSIONS - 1] = [
    (1, 0, [1, 0, 0, 0, 0, 0, 0, 0]),         (2, 1, [1, 3, 0, 0, 0, 0, 0, 0]),
    (3, 1, [1, 3, 1, 0, 0, 0, 0, 0]),         (3, 2, [1, 1, 1, 0, 0, 0, 0, 0]),
    (4, 1, [1, 1, 3, 3, 0, 0, 0, 0]),         (4, 4, [1, 3, 5, 13, 0, 0, 0, 0]),
    (5, 2, [1, 1, 5, 5, 17, 0, 0, 0]),        (5, 4, [1, 1, 5, 5, 5, 0, 0, 0]),
    (5, 7, [1, 1, 7, 11, 19, 0, 0, 0]),       (5, 11, [1, 1, 5, 1, 1, 0, 0, 0]),
    (5, 13, [1, 1, 1, 3, 11, 0, 0, 0]),       (5, 14, [1, 3, 5, 5, 31, 0, 0, 0]),
    (6, 1, [1, 3, 3, 9, 7, 49, 0, 0]),        (6, 13, [1, 1, 1, 15, 21, 21, 0, 0]),
    (6, 16, [1, 3, 1, 13, 27, 49, 0, 0]),     (6, 19, [1, 1, 1, 15, 7, 5, 0, 0]),
    (6, 22, [1, 3, 1, 15, 13, 25, 0, 0]),     (6, 25, [1, 1, 5, 5, 19, 61, 0, 0]),
    (7, 1, [1, 3, 7, 11, 23, 15, 103, 0]),    (7, 4, [1, 3, 7, 13, 13, 15, 69, 0]),
    (7, 7, [1, 1, 3, 13, 7, 35, 63, 0]),      (7, 8, [1, 3, 5, 9, 1, 25, 53, 0]),
    (7, 14, [1, 3, 1, 13, 9, 35, 107, 0]),    (7, 19, [1, 3, 1, 5, 27, 61, 31, 0]),
    (7, 21, [1, 1, 5, 11, 19, 41, 61, 0]),    (7, 28, [1, 3, 5, 3, 3, 13, 69, 0]),
    (7, 31, [1, 1, 7, 13, 1, 19, 1, 0]),      (7, 32, [1, 3, 7, 5, 13, 19, 59, 0]),
    (7, 37, [1, 1, 3, 9, 25, 29, 41, 0]),     (7, 41, [1, 3, 5, 13, 23, 1, 55, 0]),
    (7, 42, [1, 3, 7, 3, 13, 59, 17, 0]),     (7, 50, [1, 3, 1, 3, 5, 53, 69, 0]),
    (7, 55, [1, 1, 5, 5, 23, 33, 13, 0]),     (7, 56, [1, 1, 7, 7, 1, 61, 123, 0]),
    (7, 59, [1, 1, 7, 9, 13, 61, 49, 0]),     (7, 62, [1, 3, 3, 5, 3, 55, 33, 0]),
    (8, 14, [1, 3, 1, 15, 31, 13, 49, 245]),  (8, 21, [1, 3, 5, 15, 31, 59, 63, 97]),
    (8, 22, [1, 3, 1, 11, 11, 11, 77, 249]),  (8, 38, [1, 3, 1, 11, 27, 43, 71, 9]),
    (8, 47, [1, 1, 7, 15, 21, 11, 81, 45]),   (8, 49, [1, 3, 7, 3, 25, 31, 65, 79]),
    (8, 50, [1, 3, 1, 1, 19, 11, 3, 205]),    (8, 52, [1, 1, 5, 9, 19, 21, 29, 157]),
    (8, 56, [1, 3, 7, 11, 1, 33, 89, 185]),   (8, 67, [1, 3, 3, 3, 15, 9, 79, 71]),
    (8, 70, [1, 3, 7, 11, 15, 39, 119, 27]),  (8, 84, [1, 1, 3, 1, 11, 31, 97, 225]),
    (8, 97, [1, 1, 1, 3, 23, 43, 57, 177]),   (8, 103, [1, 3, 7, 7, 17, 17, 37, 71]),
    (8, 115, [1, 3, 1, 5, 27, 63, 123, 213]), (8, 122, [1, 1, 3, 5, 11, 43, 53, 133]),
];

/// Bits of an index: at most 2^32 points.
const INDEX_BITS: usize = 32;

/// Direction numbers of a dimension (from 0), left-justified in 64 bits.
fn directions(dimension: usize) -> [u64; INDEX_BITS] {
    let mut v = [0u64; INDEX_BITS];
    if dimension == 0 {
        for (k, value) in v.iter_mut().enumerate() {
            *value = 1 << (63 - k);
        }
        return v;
    }
    let (degree, coefficients, initial) = JOE_KUO[dimension - 1];
    let s = degree as usize;
    for k in 0..s {
        v[k] = initial[k] << (63 - k);
    }
    for k in s..INDEX_BITS {
        v[k] = v[k - s] ^ (v[k - s] >> s);
        for i in 1..s {
            if (coefficients >> (s - 1 - i)) & 1 == 1 {
                v[k] ^= v[k - i];
            }
        }
    }
    v
}

/// Coordinate of Sobol point `index` (in Gray code order), as a binary fraction left-justified in 64 bits.
fn sobol_integer(index: u32, directions: &[u64; INDEX_BITS]) -> u64 {
    let mut gray = index ^ (index >> 1);
    let mut x = 0;
    while gray != 0 {
        x ^= directions[gray.trailing_zeros() as usize];
        gray &= gray - 1;
    }
    x
}

/// A bijective mixing of 64 bits (finaliser of SplitMix64, Steele, Lea & Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An odd number with well distributed bits (2^64 divided by the golden ratio).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Nested uniform scrambling (Owen 1995) of the leading `bits` bits of `x`: each bit is flipped or not by a coin that belongs to
/// the node of the binary tree given by all higher bits, so every elementary interval is mapped onto one of the same size. The
/// coins are hashes of (key, node), which makes the scrambling random access.
fn owen(x: u64, bits: u32, key: u64) -> u64 {
    let mut flips = 0;
    for bit in 0..bits {
        // Heap number of the node: a leading one followed by the `bit` higher bits.
        let node = if bit == 0 { 1 } else { (1 << bit) | (x >> (64 - bit)) };
        let coin = mix(mix(node.wrapping_mul(GOLDEN) ^ key).wrapping_add(key)) >> 63;
        flips |= coin << (63 - bit);
    }
    x ^ flips
}

/// `n` Owen-scrambled Sobol points in the open cube (0, 1)^dimension, row-major (point by point); at most 2^32 points.
///
/// Each point is uniformly distributed over the choice of the seed and, for n a power of two, every coordinate has exactly one
/// point in each interval \[i/n, (i+1)/n). No point is dropped: the scrambled sequence needs its first one (Owen 2020).
/// Dimensions beyond [`SOBOL_DIMENSIONS`] come from further Sobol sets whose points are taken in shuffled order ("padding",
/// Burley 2020): still stratified in each coordinate, but no better than random across sets.
pub fn sobol(n: usize, dimension: usize, seed: u64) -> Vec<f64> {
    debug_assert!(n as u64 <= 1 << INDEX_BITS);
    let base = mix(seed.wrapping_add(GOLDEN.wrapping_mul(Purpose::Nodes.key())));
    let mut points = vec![0.0; n * dimension];
    for j in 0..dimension {
        let key = mix(base.wrapping_add(GOLDEN.wrapping_mul(2 * j as u64 + 1)));
        let set = j / SOBOL_DIMENSIONS;
        let set_key = mix(base.wrapping_add(GOLDEN.wrapping_mul(2 * set as u64)));
        let v = directions(j % SOBOL_DIMENSIONS);
        for i in 0..n {
            let index = if set == 0 { i as u32 } else { shuffled(i as u32, set_key) };
            points[i * dimension + j] = open_unit(owen(sobol_integer(index, &v), 52, key));
        }
    }
    points
}

/// A random permutation of the indices that maps each aligned block of 2^m onto an aligned block of 2^m, so that the first 2^m
/// points of a shuffled sequence are again a net.
fn shuffled(index: u32, key: u64) -> u32 {
    // Reading the index as a fraction with its highest bit first keeps blocks together.
    (owen(u64::from(index) << 32, 32, key) >> 32) as u32
}

/// `n` scrambled Sobol points pushed through the normal quantile: standard normal scores, row-major `n` x `dimension`.
pub fn sobol_normal(n: usize, dimension: usize, seed: u64) -> Vec<f64> {
    let mut points = sobol(n, dimension, seed);
    for value in &mut points {
        *value = normal_quantile(*value);
    }
    points
}

/// Ratio of two polynomials with coefficients from the highest power down.
fn ratio(numerator: &[f64; 8], denominator: &[f64; 8], r: f64) -> f64 {
    let horner = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * r + c);
    horner(numerator) / horner(denominator)
}

/// Quantile of the standard normal distribution, relative error below 1e-15. Source: M. J. Wichura, Algorithm AS 241, Applied
/// Statistics 37 (1988) 477-484, routine PPND16. Returns -inf at 0, +inf at 1 and NaN outside of \[0, 1].
#[allow(clippy::excessive_precision)] // the coefficients are given as published
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 8] = [
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ];
    const B: [f64; 8] = [
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ];
    const C: [f64; 8] = [
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ];
    const D: [f64; 8] = [
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ];
    const E: [f64; 8] = [
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ];
    const F: [f64; 8] = [
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ];
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p == 1.0 {
        return f64::INFINITY;
    }
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * ratio(&A, &B, 0.180625 - q * q);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let magnitude = if r <= 5.0 { ratio(&C, &D, r - 1.6) } else { ratio(&E, &F, r - 5.0) };
    if q < 0.0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::excessive_precision)]
    use super::*;

    /// Column `j` of row-major points.
    fn column(points: &[f64], dimension: usize, j: usize) -> Vec<f64> {
        points.chunks(dimension).map(|point| point[j]).collect()
    }

    /// Smallest t for which the points, 2^m of them, are a (t, m, 2)-net in base 2.
    fn quality(x: &[f64], y: &[f64]) -> u32 {
        let m = x.len().trailing_zeros();
        (0..=m)
            .find(|t| {
                (0..=m - t).all(|a| {
                    let b = m - t - a;
                    let mut counts = vec![0u32; 1 << (m - t)];
                    for (u, v) in x.iter().zip(y) {
                        let (i, j) = ((u * f64::from(1u32 << a)) as usize, (v * f64::from(1u32 << b)) as usize);
                        counts[(i << b) + j] += 1;
                    }
                    counts.iter().all(|&count| count == 1 << t)
                })
            })
            .unwrap()
    }

    #[test]
    fn streams_are_keyed() {
        let first = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let reference = first(1, Purpose::Starts, 0);
        assert_eq!(reference, first(1, Purpose::Starts, 0));
        for other in [first(2, Purpose::Starts, 0), first(1, Purpose::Noise, 0), first(1, Purpose::Starts, 1)] {
            assert_ne!(reference, other);
        }
        let mut generator = stream(7, Purpose::Noise, 3);
        let sample: Vec<f64> = (0..20_000).map(|_| normal(&mut generator)).collect();
        let mean = sample.iter().sum::<f64>() / 2e4;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
        // Four standard errors of mean and variance.
        assert!(mean.abs() < 4.0 / 2e4f64.sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 4.0 * (2.0 / 2e4f64).sqrt(), "{variance}");
    }

    #[test]
    fn quantile_agrees_with_high_precision() {
        // Roots of erfc(-z / sqrt 2) / 2 = p in 50 digits (mpmath 1.3, Newton), p the nearest f64.
        #[rustfmt::skip]
        let reference = [
            (1e-300, -37.047096299361199237), (1e-20, -9.2623400897984075796), (1.1102230246251565e-16, -8.2095361516013868556),
            (1e-10, -6.3613409024040561991), (1e-5, -4.2648907939228246102), (0.001, -3.0902323061678135354),
            (0.02425, -1.9729610513118848376), (0.074, -1.4466320671589785099), (0.075, -1.4395314709384559349),
            (0.076, -1.4325027208258116188), (0.2, -0.84162123357291416552), (0.49, -0.025068908258711058033),
            (0.4999999, -2.5066282747031065135e-7), (0.6, 0.25334710313579974132), (0.925, 1.4395314709384562291),
            (0.93, 1.475791028179171099), (0.975, 1.9599639845400538556), (0.999, 3.0902323061678132778),
            (0.99999999, 5.6120012433055049826),
        ];
        for (p, z) in reference {
            let relative = (normal_quantile(p) / z - 1.0f64).abs();
            assert!(relative < 1e-15, "{p}: {relative:e}");
        }
        assert_eq!(normal_quantile(0.5), 0.0);
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        assert!(normal_quantile(-0.1).is_nan() && normal_quantile(1.1).is_nan() && normal_quantile(f64::NAN).is_nan());
    }

    #[test]
    fn unscrambled_sobol_points_are_the_published_ones() {
        // First ten points in three dimensions as printed with the direction numbers by Joe & Kuo.
        #[rustfmt::skip]
        let expected = [
            [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.75, 0.25, 0.25], [0.25, 0.75, 0.75], [0.375, 0.375, 0.625],
            [0.875, 0.875, 0.125], [0.625, 0.125, 0.875], [0.125, 0.625, 0.375], [0.1875, 0.3125, 0.9375], [0.6875, 0.8125, 0.4375],
        ];
        for (i, point) in expected.iter().enumerate() {
            for (j, &value) in point.iter().enumerate() {
                let x = sobol_integer(i as u32, &directions(j)) as f64 / 2f64.powi(64);
                assert_eq!(x, value, "point {i}, dimension {j}");
            }
        }
    }

    #[test]
    fn direction_numbers_are_admissible() {
        let mut polynomials = Vec::new();
        for (degree, coefficients, initial) in JOE_KUO {
            for (i, m) in initial.iter().enumerate().take(degree as usize) {
                assert!(m % 2 == 1 && *m < 2 << i, "m_{} = {m}", i + 1);
            }
            // The order of x modulo a primitive polynomial of degree s is 2^s - 1.
            let polynomial = (1 << degree) | (coefficients << 1) | 1;
            let (mut power, mut order) = (2u64, 1);
            if degree == 1 {
                power = 1;
            }
            while power != 1 {
                power <<= 1;
                if power >> degree == 1 {
                    power ^= polynomial;
                }
                order += 1;
            }
            assert_eq!(order, (1 << degree) - 1, "polynomial {polynomial:b}");
            polynomials.push(polynomial);
        }
        // In increasing order, none twice: all primitive polynomials up to degree 8 (1 + 1 + 2 + 2 + 6 + 6 + 18 + 16).
        assert!(polynomials.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(polynomials.len(), 52);
    }

    #[test]
    fn sobol_points_stay_nets_when_scrambled() {
        let dimension = 60;
        for m in [0, 1, 5, 10] {
            let n = 1 << m;
            let points = sobol(n, dimension, 42);
            for j in 0..dimension {
                let mut strata: Vec<usize> = column(&points, dimension, j).iter().map(|x| (x * n as f64) as usize).collect();
                strata.sort_unstable();
                assert_eq!(strata, (0..n).collect::<Vec<_>>(), "dimension {j}, {n} points");
            }
        }
        let points = sobol(256, 10, 7);
        let columns: Vec<Vec<f64>> = (0..10).map(|j| column(&points, 10, j)).collect();
        assert_eq!(quality(&columns[0], &columns[1]), 0);
        // A pair of dimensions with polynomials of degrees p and q has t <= (p - 1) + (q - 1) (Sobol 1967), degree 1 for the first.
        for a in 0..10 {
            for b in a + 1..10 {
                let degree = |j: usize| if j == 0 { 1 } else { JOE_KUO[j - 1].0 };
                assert!(quality(&columns[a], &columns[b]) <= degree(a) + degree(b) - 2, "dimensions {a} and {b}");
            }
        }
    }

    #[test]
    fn scrambling_is_uniform_and_keyed() {
        assert_eq!(sobol(16, 3, 1), sobol(16, 3, 1));
        assert_ne!(sobol(16, 3, 1), sobol(16, 3, 2));
        // The shorter sequence is the beginning of the longer one.
        assert_eq!(sobol(10, 3, 1), sobol(16, 3, 1)[..30]);
        // Over seeds each single point is uniform and its coordinates are independent: moments within four standard errors.
        let seeds = 4000u64;
        let (mut mean, mut square, mut product) = (0.0, 0.0, 0.0);
        for seed in 0..seeds {
            let points = sobol(4, 2, seed);
            let (x, y) = (points[6], points[7]);
            mean += x / seeds as f64;
            square += x * x / seeds as f64;
            product += (x - 0.5) * (y - 0.5) / seeds as f64;
        }
        let error = 4.0 / (seeds as f64).sqrt();
        assert!((mean - 0.5).abs() < error * (1.0f64 / 12.0).sqrt());
        assert!((square - 1.0 / 3.0).abs() < error * (4.0f64 / 45.0).sqrt());
        assert!(product.abs() < error / 12.0);
        let points = sobol(1 << 12, 8, 3);
        assert!(points.iter().all(|x| *x > 0.0 && *x < 1.0));
    }

    #[test]
    fn integrals_converge_faster_than_monte_carlo() {
        // The product of 1 + (x_j - 1/2) / 2 over d coordinates has integral 1; Monte Carlo has standard error
        // sqrt(((1 + 1/48)^d - 1) / n).
        let rms = |n: usize, d: usize| {
            let error = |seed| {
                let points = sobol(n, d, seed);
                let sum: f64 = points.chunks(d).map(|p| p.iter().map(|x| 1.0 + 0.5 * (x - 0.5)).product::<f64>()).sum();
                sum / n as f64 - 1.0
            };
            ((0..16).map(|seed| f64::powi(error(seed), 2)).sum::<f64>() / 16.0).sqrt()
        };
        let monte_carlo = |n: usize, d: i32| (((1.0f64 + 1.0 / 48.0).powi(d) - 1.0) / n as f64).sqrt();
        assert!(rms(1 << 12, 21) < monte_carlo(1 << 12, 21) / 5.0);
        assert!(rms(1 << 12, 5) < monte_carlo(1 << 12, 5) / 50.0);
        // Sixteen times the points: the error falls by more than sixteen (n^-1), where Monte Carlo gives four.
        assert!(rms(1 << 12, 5) < rms(1 << 8, 5) / 16.0);
    }

    #[test]
    fn normal_scores_have_normal_moments() {
        let (n, dimension) = (1 << 12, 6);
        let z = sobol_normal(n, dimension, 5);
        for j in 0..dimension {
            let x = column(&z, dimension, j);
            let moment = |k| x.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
            assert!(moment(1).abs() < 1e-3, "mean {}", moment(1));
            assert!((moment(2) - 1.0).abs() < 3e-3, "variance {}", moment(2));
            assert!((moment(4) - 3.0).abs() < 0.1, "fourth moment {}", moment(4));
            for k in j + 1..dimension {
                let y = column(&z, dimension, k);
                let covariance = x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                assert!(covariance.abs() < 0.02, "covariance {covariance}");
            }
        }
    }

    #[test]
    fn latin_hypercube_is_stratified() {
        let (lower, upper) = ([-3.0, 10.0, 0.0], [5.0, 11.0, 0.0]);
        let n = 37;
        let points = latin_hypercube(n, &lower, &upper, 11);
        for j in 0..2 {
            let mut strata: Vec<usize> = points.iter().map(|p| ((p[j] - lower[j]) / (upper[j] - lower[j]) * n as f64) as usize).collect();
            strata.sort_unstable();
            assert_eq!(strata, (0..n).collect::<Vec<_>>());
        }
        assert!(points.iter().all(|p| p[2] == 0.0));
        assert_ne!(points, latin_hypercube(n, &lower, &upper, 12));
    }
}
