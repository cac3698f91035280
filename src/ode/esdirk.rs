//! The method of backward integration: ESDIRK5(4)7L[2]SA2 (Kennedy and Carpenter 2019, Appl. Numer. Math. 146:221, table 8),
//! and interpolation of what the forward integration left.
//!
//! Seven stages, the first explicit, all others with the same diagonal coefficient; order 5, stiffly accurate and L-stable, with an
//! embedded method of order 4. All abscissas are within the step.

/// Stages.
pub const STAGES: usize = 7;
/// Diagonal coefficient of the implicit stages.
pub const GAMMA: f64 = 23.0 / 125.0;
/// Abscissas.
pub const C: [f64; STAGES] =
    [0.0, 46.0 / 125.0, 7121331996143.0 / 11335814405378.0, 49.0 / 353.0, 3706679970760.0 / 5295570149437.0, 347.0 / 382.0, 1.0];
/// Weights of order 5, from the second on.
const B: [f64; STAGES] = [
    0.0,
    -188593204321.0 / 4778616380481.0,
    2809310203510.0 / 10304234040467.0,
    1021729336898.0 / 2364210264653.0,
    870612361811.0 / 2470410392208.0,
    -1307970675534.0 / 8059683598661.0,
    GAMMA,
];
/// Weights of order 4, from the second on.
const EMBEDDED: [f64; STAGES] = [
    0.0,
    -582099335757.0 / 7214068459310.0,
    615023338567.0 / 3362626566945.0,
    3192122436311.0 / 6174152374399.0,
    6156034052041.0 / 14430468657929.0,
    -1011318518279.0 / 9693750372484.0,
    1914490192573.0 / 13754262428401.0,
];
/// Coefficients right of the first column.
const A: [[f64; STAGES]; STAGES] = [
    [0.0; STAGES],
    [0.0, GAMMA, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 791020047304.0 / 3561426431547.0, GAMMA, 0.0, 0.0, 0.0, 0.0],
    [0.0, -158159076358.0 / 11257294102345.0, -85517644447.0 / 5003708988389.0, GAMMA, 0.0, 0.0, 0.0],
    [0.0, -1653327111580.0 / 4048416487981.0, 1514767744496.0 / 9099671765375.0, 14283835447591.0 / 12247432691556.0, GAMMA, 0.0, 0.0],
    [
        0.0,
        -4540011970825.0 / 8418487046959.0,
        -1790937573418.0 / 7393406387169.0,
        10819093665085.0 / 7266595846747.0,
        4109463131231.0 / 7386972500302.0,
        GAMMA,
        0.0,
    ],
    B,
];

/// The coefficients with their first column, which makes every row sum to its abscissa and the weights to 1.
pub struct Tableau {
    /// Coefficients of the stages; the last row are the weights of order 5.
    pub a: [[f64; STAGES]; STAGES],
    /// Weights of order 5 minus those of order 4.
    pub error: [f64; STAGES],
}

impl Tableau {
    /// The method.
    pub fn new() -> Self {
        let mut a = A;
        for (row, c) in a.iter_mut().zip(C) {
            row[0] = c - row.iter().sum::<f64>();
        }
        let mut embedded = EMBEDDED;
        embedded[0] = 1.0 - embedded.iter().sum::<f64>();
        let mut error = a[STAGES - 1];
        error.iter_mut().zip(embedded).for_each(|(b, e)| *b -= e);
        Tableau { a, error }
    }
}

/// Points through which an interpolating polynomial goes at most.
pub const NODES: usize = 6;

/// Lagrange's weights of `nodes` at `t`.
fn weights(nodes: &[f64], t: f64, out: &mut [f64; NODES]) {
    for (k, &node) in nodes.iter().enumerate() {
        let others = nodes.iter().enumerate().filter(|(j, _)| *j != k);
        out[k] = others.map(|(_, other)| (t - other) / (node - other)).product();
    }
}

/// States between the ends of the integrator's steps: the polynomial through the six nearest ends.
///
/// Rates are not made use of (Hermite interpolation): in a stiff system they are the errors of the states times large
/// eigenvalues, and second derivatives times their squares.
pub struct Path<'a> {
    times: &'a [f64],
    states: &'a [f64],
    nx: usize,
    /// The interval looked at last.
    place: usize,
}

impl<'a> Path<'a> {
    /// States (points by nx) at increasing times.
    pub fn new(times: &'a [f64], states: &'a [f64], nx: usize) -> Self {
        Path { times, states, nx, place: times.len().saturating_sub(2) }
    }

    /// The states at `t`.
    #[inline(always)]
    pub fn at(&mut self, t: f64, x: &mut [f64]) {
        let last = self.times.len().saturating_sub(2);
        while self.place > 0 && t < self.times[self.place] {
            self.place -= 1;
        }
        while self.place < last && t > self.times[self.place + 1] {
            self.place += 1;
        }
        let count = NODES.min(self.times.len());
        let first = (self.place + 1).saturating_sub(NODES / 2).min(self.times.len() - count);
        let mut w = [0.0; NODES];
        weights(&self.times[first..first + count], t, &mut w);
        x.fill(0.0);
        for (w, state) in w[..count].iter().zip(self.states[first * self.nx..].chunks_exact(self.nx)) {
            x.iter_mut().zip(state).for_each(|(x, s)| *x += w * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Order conditions up to order 5 (Hairer, Norsett and Wanner 1993, table II.2.2), those of the embedded method up to 4.
    /// Tolerance: rounding of the published fractions, which have 13 digits.
    #[test]
    fn order_conditions() {
        let Tableau { a, error } = Tableau::new();
        let dot = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
        let apply = |v: &[f64]| a.iter().map(|row| dot(row, v)).collect::<Vec<f64>>();
        let times = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(a, b)| a * b).collect::<Vec<f64>>();
        let c = C.to_vec();
        let (c2, ac) = (times(&c, &c), apply(&c));
        let (c3, ac2, aac) = (times(&c2, &c), apply(&c2), apply(&ac));
        let conditions = [
            (1, vec![1.0; STAGES], 1.0),
            (2, c.clone(), 1.0 / 2.0),
            (3, c2.clone(), 1.0 / 3.0),
            (3, ac.clone(), 1.0 / 6.0),
            (4, c3.clone(), 1.0 / 4.0),
            (4, times(&c, &ac), 1.0 / 8.0),
            (4, ac2.clone(), 1.0 / 12.0),
            (4, aac.clone(), 1.0 / 24.0),
            (5, times(&c2, &c2), 1.0 / 5.0),
            (5, times(&c2, &ac), 1.0 / 10.0),
            (5, times(&ac, &ac), 1.0 / 20.0),
            (5, times(&c, &ac2), 1.0 / 15.0),
            (5, times(&c, &aac), 1.0 / 30.0),
            (5, apply(&c3), 1.0 / 20.0),
            (5, apply(&times(&c, &ac)), 1.0 / 40.0),
            (5, apply(&ac2), 1.0 / 60.0),
            (5, apply(&aac), 1.0 / 120.0),
        ];
        for (order, vector, wanted) in conditions {
            let b = a[STAGES - 1];
            assert!((dot(&b, &vector) - wanted).abs() < 1e-12, "order {order}: {wanted}");
            if order <= 4 {
                assert!(dot(&error, &vector).abs() < 1e-12, "embedded, order {order}: {wanted}");
            }
        }
    }

    /// A polynomial of degree 5 is its own interpolation, at the borders too.
    #[test]
    fn interpolates_polynomials() {
        let times: Vec<f64> = (0..9).map(|k| 0.1 * f64::from(k) + 0.01 * f64::from(k * k)).collect();
        let f = |t: f64| 1.0 - t + 3.0 * t.powi(5);
        let states: Vec<f64> = times.iter().flat_map(|t| [f(*t), 2.0 * f(*t)]).collect();
        let mut path = Path::new(&times, &states, 2);
        let mut x = [0.0; 2];
        for t in [1.3, 0.0, 0.05, 0.4, 0.77, 1.44] {
            path.at(t, &mut x);
            assert!((x[0] - f(t)).abs() < 1e-12 && (x[1] - 2.0 * f(t)).abs() < 1e-12, "t = {t}");
        }
    }
}
