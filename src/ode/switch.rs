//! Comparisons as flags: which side of its threshold every root function is on, at a time and just after it.
//!
//! Two moments are told apart. *At* t a root function that is just crossing is 0, so `x >= c` is true and `x > c` is not. *Just
//! after* t it has the sign of its time derivative. SBML's events look at both.

use super::system::System;
use crate::model::compiled::Switch;

/// Whether two times are the same up to rounding. CVODES cannot step over less, so such times are made one.
pub fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 100.0 * f64::EPSILON * a.abs().max(b.abs())
}

/// Sign of a root function that is not a number: no comparison holds but `!=`.
pub const UNKNOWN: i8 = 2;

/// -1, 0, 1 or [`UNKNOWN`].
pub fn sign(g: f64) -> i8 {
    if g > 0.0 {
        1
    } else if g < 0.0 {
        -1
    } else if g == 0.0 {
        0
    } else {
        UNKNOWN
    }
}

/// Truth value of a comparison by the sign of its root function.
pub fn truth(switch: &Switch, sign: i8) -> bool {
    match sign {
        -1 => switch.truth[0],
        0 => switch.truth[1],
        1 => switch.truth[2],
        _ => switch.truth[0] && switch.truth[2],
    }
}

/// A root function that crosses 0 now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Which switch.
    pub switch: usize,
    /// Value of the root function now: 0 up to rounding.
    pub value: f64,
    /// Sign afterwards, if nothing intervenes.
    pub after: i8,
}

/// On which side of 0 every root function is between two moments.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Their signs.
    pub signs: Vec<i8>,
    /// A root function that rests at 0 but for rounding has no sign of its own until it is farther from 0 than this.
    bands: Vec<f64>,
}

impl Sides {
    /// Sign of root function `j` where its value is `g`.
    pub fn of(&self, j: usize, g: f64) -> i8 {
        if g.abs() <= self.bands[j] { self.signs[j] } else { sign(g) }
    }

    /// Whether root function `j` has left its side.
    pub fn left(&self, j: usize, g: f64) -> bool {
        self.of(j, g) != self.signs[j]
    }
}

/// Width of the band around 0 in which a root function can rest, relative to the size of its terms.
const BAND: f64 = 1e-9;

/// Time and direction (sign after it) at which a switch of explicit time crosses, from value and slope of its root function at 0.
///
/// `None`: never. The root function is g = g(0) + g_t t.
fn explicit_crossing(value: f64, slope: f64) -> Option<(f64, i8)> {
    let time = -value / slope;
    (slope != 0.0 && slope.is_finite() && time.is_finite()).then_some((time, if slope > 0.0 { 1 } else { -1 }))
}

/// Values and time derivatives of all root functions at time 0, where those of explicit time are taken.
fn roots_at_zero(system: &mut System) -> (Vec<f64>, Vec<f64>) {
    let n = system.model.switches.len();
    let (mut value, mut rate) = (vec![0.0; n], vec![0.0; n]);
    let states = vec![0.0; system.shape.rows];
    let inputs = [&[0.0][..], &states, &system.parameters, &[]];
    system.model.roots.value.call(inputs, &mut value, &mut system.scratch);
    system.model.roots.dt.call(inputs, &mut rate, &mut system.scratch);
    (value, rate)
}

/// All crossings of the switches of explicit time: (time, switch, sign after).
pub fn explicit_crossings(system: &mut System) -> Vec<(f64, usize, i8)> {
    if system.model.switches.iter().all(|s| !s.explicit_time) {
        return vec![];
    }
    let (value, rate) = roots_at_zero(system);
    let explicit = (0..value.len()).filter(|j| system.model.switches[*j].explicit_time);
    explicit.filter_map(|j| explicit_crossing(value[j], rate[j]).map(|(time, after)| (time, j, after))).collect()
}

/// Signs of all root functions at `t`, or just `after` it, with the flags that they imply; the flags of `system` are left at them.
///
/// Flags can occur in root functions and in the right-hand side, on which the signs just after depend, so the rule is repeated
/// until nothing changes. `span` is the length of the simulation.
pub fn settle_flags(system: &mut System, t: f64, y: &[f64], crossings: &[Crossing], after: bool, span: f64) -> Sides {
    let n = system.model.switches.len();
    let mut signs = vec![UNKNOWN; n];
    let mut bands = vec![0.0; n];
    let model = system.model.clone();
    for _ in 0..n + 2 {
        if n == 0 {
            break;
        }
        system.evaluate_roots(t, y);
        let explicit = explicit_crossings(system);
        for (j, switch) in model.switches.iter().enumerate() {
            let g = system.roots[j];
            let crossing = crossings.iter().find(|c| c.switch == j && c.value.to_bits() == g.to_bits());
            signs[j] = match explicit.iter().find(|e| e.1 == j) {
                Some(&(time, _, after)) if switch.explicit_time => match (near(time, t), t > time) {
                    (true, _) => 0,
                    (false, true) => after,
                    (false, false) => -after,
                },
                _ if crossing.is_some() => 0,
                _ => sign(g),
            };
        }
        if after && signs.contains(&0) {
            let (rates, scales) = total_rates(system, t, y);
            for j in (0..n).filter(|j| signs[*j] == 0).collect::<Vec<_>>() {
                let crossing = crossings.iter().find(|c| c.switch == j);
                let rests = rates[j].abs() * span <= 100.0 * BAND * scales[j];
                bands[j] = if rests { BAND * scales[j] } else { 0.0 };
                signs[j] = match (explicit.iter().find(|e| e.1 == j), crossing) {
                    (Some(e), _) if model.switches[j].explicit_time => e.2,
                    // The rates of delayed values are not known.
                    (_, Some(c)) if rests || rates[j].is_nan() || !model.delays.parameters.is_empty() => c.after,
                    _ => sign(rates[j]).min(1),
                };
            }
        }
        let mut changed = false;
        for (switch, sign) in model.switches.iter().zip(&signs) {
            let flag = f64::from(u8::from(truth(switch, *sign)));
            changed |= system.parameters[switch.flag] != flag;
            system.parameters[switch.flag] = flag;
        }
        if !changed {
            break;
        }
    }
    Sides { signs, bands }
}

/// g_t + g_x f of all root functions, and the sizes of the terms of g that depend on states.
fn total_rates(system: &mut System, t: f64, y: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut f = vec![0.0; system.shape.rows];
    system.states_rhs(t, y, &mut f);
    let x = system.states(y).to_vec();
    let inputs = [&[t][..], &x, &system.parameters, &[]];
    let roots = &system.model.roots;
    let mut rates = vec![0.0; roots.dt.outputs()];
    let mut scales = vec![0.0; roots.dt.outputs()];
    roots.dt.call(inputs, &mut rates, &mut system.scratch);
    let mut dx = vec![0.0; roots.dx.kernel.outputs()];
    roots.dx.kernel.call(inputs, &mut dx, &mut system.scratch);
    for ((&j, &i), &g) in roots.dx.rows.iter().zip(&roots.dx.columns).zip(&dx) {
        rates[j as usize] += g * f[i as usize];
        scales[j as usize] += (g * x[i as usize]).abs();
    }
    (rates, scales)
}
