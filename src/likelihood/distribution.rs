//! Univariate distributions: log densities with derivatives, logarithms of probabilities that stay accurate far out in the tails, and
//! quantiles of truncated distributions.

use crate::random::normal_quantile;
use libm::{erfc, lgamma};
use std::f64::consts::{FRAC_1_PI, LN_2, PI, SQRT_2};

/// 1/2 log(2 pi).
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

/// A distribution on the real line or a part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Distribution {
    Uniform {
        lower: f64,
        upper: f64,
    },
    Normal {
        mean: f64,
        sd: f64,
    },
    Laplace {
        location: f64,
        scale: f64,
    },
    Cauchy {
        location: f64,
        scale: f64,
    },
    /// With shape 1 the exponential distribution, with shape n/2 and scale 2 the chi-square distribution of n degrees of freedom.
    Gamma {
        shape: f64,
        scale: f64,
    },
    Rayleigh {
        scale: f64,
    },
}

use Distribution::{Cauchy, Gamma, Laplace, Normal, Rayleigh, Uniform};

impl Distribution {
    /// Where the density is not zero.
    pub fn support(&self) -> (f64, f64) {
        match *self {
            Uniform { lower, upper } => (lower, upper),
            Normal { .. } | Laplace { .. } | Cauchy { .. } => (f64::NEG_INFINITY, f64::INFINITY),
            Gamma { .. } | Rayleigh { .. } => (0.0, f64::INFINITY),
        }
    }

    /// Log density at `x` with its first and second derivative by `x`; -inf, 0, 0 outside of the support. At the kink of the Laplace
    /// density the first derivative is 0, which lies between those of both sides.
    pub fn log_density(&self, x: f64) -> [f64; 3] {
        let (low, high) = self.support();
        if x < low || x > high {
            return [f64::NEG_INFINITY, 0.0, 0.0];
        }
        match *self {
            Uniform { lower, upper } => [-(upper - lower).ln(), 0.0, 0.0],
            Normal { mean, sd } => {
                let z = (x - mean) / sd;
                [-0.5 * z * z - sd.ln() - HALF_LN_2PI, -z / sd, -1.0 / (sd * sd)]
            }
            Laplace { location, scale } => {
                let z = (x - location) / scale;
                let sign = if z == 0.0 { 0.0 } else { z.signum() };
                [-z.abs() - (2.0 * scale).ln(), -sign / scale, 0.0]
            }
            Cauchy { location, scale } => {
                let z = (x - location) / scale;
                let w = 1.0 / (1.0 + z * z);
                let second = -2.0 * w * (2.0 * w - 1.0) / (scale * scale);
                [-(PI * scale).ln() - 2.0 * z.hypot(1.0).ln(), -2.0 * z * w / scale, second]
            }
            // Without the power of x, which would be 0 times infinity at 0.
            Gamma { shape: 1.0, scale } => [-x / scale - scale.ln(), -1.0 / scale, 0.0],
            Gamma { shape, scale } => {
                let k = shape - 1.0;
                let z = x / scale;
                [k * z.ln() - z - lgamma(shape) - scale.ln(), k / x - 1.0 / scale, -k / (x * x)]
            }
            Rayleigh { scale } => {
                let z = x / scale;
                [z.ln() - 0.5 * z * z - scale.ln(), 1.0 / x - z / scale, -1.0 / (x * x) - 1.0 / (scale * scale)]
            }
        }
    }

    /// Logarithm of the probability of a value below `x`.
    fn log_lower(&self, x: f64) -> f64 {
        let (low, high) = self.support();
        if x <= low {
            return f64::NEG_INFINITY;
        }
        if x >= high {
            return 0.0;
        }
        match *self {
            Uniform { lower, upper } => ((x - lower) / (upper - lower)).ln(),
            Normal { mean, sd } => normal_log_lower((x - mean) / sd),
            Laplace { location, scale } => laplace_log_lower((x - location) / scale),
            Cauchy { location, scale } => cauchy_log_lower((x - location) / scale),
            Gamma { shape, scale } => gamma_log_tails(shape, x / scale).0,
            Rayleigh { scale } => log_one_minus_exp(-0.5 * (x / scale).powi(2)),
        }
    }

    /// Logarithm of the probability of a value above `x`.
    fn log_upper(&self, x: f64) -> f64 {
        let (low, high) = self.support();
        if x >= high {
            return f64::NEG_INFINITY;
        }
        if x <= low {
            return 0.0;
        }
        match *self {
            Uniform { lower, upper } => ((upper - x) / (upper - lower)).ln(),
            Normal { mean, sd } => normal_log_lower((mean - x) / sd),
            Laplace { location, scale } => laplace_log_lower((location - x) / scale),
            Cauchy { location, scale } => cauchy_log_lower((location - x) / scale),
            Gamma { shape, scale } => gamma_log_tails(shape, x / scale).1,
            Rayleigh { scale } => -0.5 * (x / scale).powi(2),
        }
    }

    /// Logarithm of the probability of a value from `a` to `b`; -inf if a >= b. Absolute error below 1e-12 (of gamma distributions for
    /// shapes up to 100; it grows in proportion to the shape), also where both ends lie in the same tail or close together.
    pub fn log_mass(&self, a: f64, b: f64) -> f64 {
        let (low, high) = self.support();
        let (a, b) = (a.max(low), b.min(high));
        if a.is_nan() || b.is_nan() || a >= b {
            return f64::NEG_INFINITY;
        }
        match *self {
            Uniform { lower, upper } => return ((b - a) / (upper - lower)).ln(),
            // Both sides of the kink, neither of which cancels.
            Laplace { location, scale } if a < location && location < b => {
                return (-0.5 * (((a - location) / scale).exp_m1() + ((location - b) / scale).exp_m1())).ln();
            }
            _ => {}
        }
        // The difference of probabilities is taken in the tail that holds less.
        let (lower, upper) = (self.log_lower(b), self.log_upper(a));
        let (mass, kept) = if lower <= -LN_2 {
            let difference = self.log_lower(a) - lower;
            (lower + log_one_minus_exp(difference), -difference.exp_m1())
        } else if upper <= -LN_2 {
            let difference = self.log_upper(b) - upper;
            (upper + log_one_minus_exp(difference), -difference.exp_m1())
        } else {
            let outside = self.log_lower(a).exp() + self.log_upper(b).exp();
            ((-outside).ln_1p(), 1.0 - outside)
        };
        // Written so that a difference without any digit left, which may be NaN, is not kept either.
        if kept > NARROW {
            return mass;
        }
        self.narrow_log_mass(a, b).unwrap_or(mass)
    }

    /// [`Self::log_mass`] by Gauss-Legendre quadrature of the density, where it varies little from `a` to `b`.
    fn narrow_log_mass(&self, a: f64, b: f64) -> Option<f64> {
        let centre = self.log_density(0.5 * (a + b))[0];
        let smooth = [a, b].iter().all(|x| (self.log_density(*x)[0] - centre).abs() < 1.0);
        let mean: f64 = (LEGENDRE.iter())
            .flat_map(|(x, weight)| [(*x, weight), (-x, weight)])
            .map(|(x, weight)| 0.5 * weight * (self.log_density(0.5 * (a + b) + 0.5 * (b - a) * x)[0] - centre).exp())
            .sum();
        smooth.then(|| centre + (b - a).ln() + mean.ln())
    }

    /// Quantile `u` (0 < u < 1) of the distribution truncated to `a..b`: finite, and within the bounds. NaN if they hold nothing.
    ///
    /// The truncated distribution function is inverted by bisection of its log odds, to the last digits of a f64.
    pub fn quantile(&self, u: f64, a: f64, b: f64) -> f64 {
        let (low, high) = self.support();
        let (a, b) = (a.max(low), b.min(high));
        if a.is_nan() || b.is_nan() || a > b {
            return f64::NAN;
        }
        match *self {
            Uniform { .. } => return (a * (1.0 - u) + b * u).clamp(a, b),
            Normal { mean, sd } if a == f64::NEG_INFINITY && b == f64::INFINITY => return mean + sd * normal_quantile(u),
            _ => {}
        }
        let target = u.ln() - (-u).ln_1p();
        let below = |x: f64| self.log_mass(a, x) - self.log_mass(x, b) < target;
        let (centre, width) = match *self {
            Uniform { lower, upper } => (lower, upper - lower),
            Normal { mean, sd } => (mean, sd),
            Laplace { location, scale } | Cauchy { location, scale } => (location, scale),
            Gamma { shape, scale } => (shape * scale, shape.sqrt() * scale),
            Rayleigh { scale } => (scale, scale),
        };
        // An infinite end is replaced by the first of a doubling sequence of values that lies beyond the quantile.
        let beyond = |from: f64, step: f64, wanted: &dyn Fn(f64) -> bool| {
            let end = f64::MAX.copysign(step);
            (0..2000).map(|k| from + step * 2f64.powi(k)).take_while(|x| x.is_finite()).find(|x| wanted(*x)).unwrap_or(end)
        };
        let mut lower = if a.is_finite() { a } else { beyond(centre.min(b), -width, &below) };
        let mut upper = if b.is_finite() { b } else { beyond(centre.max(a), width, &|x| !below(x)) };
        loop {
            let middle = 0.5 * lower + 0.5 * upper;
            if !(lower < middle && middle < upper) {
                return middle.clamp(a.max(f64::MIN), b.min(f64::MAX));
            }
            if below(middle) {
                lower = middle;
            } else {
                upper = middle;
            }
        }
    }
}

/// A difference of probabilities that keeps less than this part of them is taken by quadrature instead.
const NARROW: f64 = 1e-2;

/// Positive nodes and weights of the Gauss-Legendre rule with 8 points (Abramowitz & Stegun 1964, table 25.4).
#[rustfmt::skip]
const LEGENDRE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362), (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5), (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

/// log(1 - exp(t)) for t <= 0 (Maechler 2012).
fn log_one_minus_exp(t: f64) -> f64 {
    if t > -LN_2 { (-t.exp_m1()).ln() } else { (-t.exp()).ln_1p() }
}

/// Logarithm of the standard normal distribution function.
fn normal_log_lower(z: f64) -> f64 {
    if z > 0.0 {
        return (-0.5 * erfc(z / SQRT_2)).ln_1p();
    }
    let t = -z;
    if t < 5.0 {
        return (0.5 * erfc(t / SQRT_2)).ln();
    }
    // Laplace's continued fraction of Mills' ratio (Abramowitz & Stegun 26.2.14), from its end; 60 terms are plenty from t = 5 on.
    let denominator = (1..=60).rev().fold(t, |tail, k| t + f64::from(k) / tail);
    -0.5 * t * t - HALF_LN_2PI - denominator.ln()
}

/// Logarithm of the distribution function of the Laplace distribution with scale 1.
fn laplace_log_lower(z: f64) -> f64 {
    if z > 0.0 { (-0.5 * (-z).exp()).ln_1p() } else { z - LN_2 }
}

/// Logarithm of the distribution function of the Cauchy distribution with scale 1.
fn cauchy_log_lower(z: f64) -> f64 {
    if z < -1.0 {
        ((-1.0 / z).atan() * FRAC_1_PI).ln()
    } else if z <= 1.0 {
        (0.5 + z.atan() * FRAC_1_PI).ln()
    } else {
        (-(1.0 / z).atan() * FRAC_1_PI).ln_1p()
    }
}

/// Logarithms of the regularised incomplete gamma functions P(a, x) and Q(a, x), 0 < x < inf: the power series for small x
/// (Abramowitz & Stegun 6.5.29), else Legendre's continued fraction (6.5.31) by the method of Lentz.
fn gamma_log_tails(a: f64, x: f64) -> (f64, f64) {
    let factor = a * x.ln() - x - lgamma(a);
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0, 1.0, a);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        let lower = (factor - a.ln() + f64::ln(sum)).min(0.0);
        return (lower, log_one_minus_exp(lower));
    }
    let mut b = x + 1.0 - a;
    let mut c = f64::MAX;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for n in 1..100_000 {
        let n = f64::from(n);
        b += 2.0;
        d = 1.0 / (b - n * (n - a) * d);
        c = b - n * (n - a) / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    let upper = (factor + fraction.ln()).min(0.0);
    (log_one_minus_exp(upper), upper)
}
