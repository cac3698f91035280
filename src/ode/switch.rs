//! Comparisons and rounded numbers as flags: in which cell every root function is, at a time and just after it.
//!
//! Two moments are told apart. *At* t a root function that is just crossing is 0, so `x >= c` is true and `x > c` is not. *Just
//! after* t it has the sign of its time derivative. SBML's events look at both.

use super::system::System;
use crate::model::compiled::SwitchKind;

/// Whether two times are the same up to rounding. CVODES cannot step over less, so such times are made one.
pub fn near(a: f64, b: f64) -> bool {
    let size = a.abs().max(b.abs());
    a == b || (size.is_finite() && (a - b).abs() <= 100.0 * f64::EPSILON * size)
}

/// Cell of a comparison whose root function is not a number: nothing holds but `!=`.
const UNKNOWN: f64 = 2.0;

/// The cell in which a root function lies: the sign -1, 0 or 1 of a comparison's, the rounded number itself.
fn cell(kind: SwitchKind, g: f64) -> f64 {
    match kind {
        SwitchKind::Comparison(_) if g.is_nan() => UNKNOWN,
        SwitchKind::Comparison(_) => f64::from(i8::from(g > 0.0) - i8::from(g < 0.0)),
        SwitchKind::Floor => g.floor(),
        SwitchKind::Ceil => g.ceil(),
        SwitchKind::Truncate => g.trunc(),
    }
}

/// The cell of a root function that is at a boundary of cells, moves in `direction` (-1, 0, 1), and is `g` up to rounding.
fn cell_beyond(kind: SwitchKind, g: f64, direction: f64) -> f64 {
    let boundary = g.round();
    match kind {
        SwitchKind::Comparison(_) => direction,
        SwitchKind::Floor => boundary + direction.min(0.0),
        SwitchKind::Ceil => boundary + direction.max(0.0),
        SwitchKind::Truncate if boundary > 0.0 => boundary + direction.min(0.0),
        SwitchKind::Truncate => boundary + if boundary < 0.0 { direction.max(0.0) } else { 0.0 },
    }
}

/// Whether a root function lies on a boundary of cells.
fn on_boundary(kind: SwitchKind, g: f64) -> bool {
    match kind {
        SwitchKind::Comparison(_) => g == 0.0,
        _ => g.fract() == 0.0,
    }
}

/// The value of a flag by the cell of its root function.
fn flag_value(kind: SwitchKind, cell: f64) -> f64 {
    let SwitchKind::Comparison(truth) = kind else { return cell };
    let holds = match cell {
        UNKNOWN => truth[0] && truth[2],
        _ => truth[(cell + 1.0) as usize],
    };
    f64::from(u8::from(holds))
}

/// A root function that crosses a boundary of cells now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// Which switch.
    pub switch: usize,
    /// Value of the root function now: at the boundary up to rounding.
    pub value: f64,
    /// Direction -1 or 1 in which it goes, if nothing intervenes.
    pub direction: f64,
}

/// In which cell every root function is between two moments.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    kinds: Vec<SwitchKind>,
    cells: Vec<f64>,
    /// A root function that rests at 0 but for rounding has no sign of its own until it is farther from 0 than this.
    bands: Vec<f64>,
}

impl Cells {
    /// Whether root function `j`, which is `g`, has left its cell.
    pub fn left(&self, j: usize, g: f64) -> bool {
        g.abs() > self.bands[j] && cell(self.kinds[j], g) != self.cells[j]
    }

    /// Whether root function `j` belongs to a comparison of equal sides.
    pub fn rests(&self, j: usize) -> bool {
        matches!(self.kinds[j], SwitchKind::Comparison(_)) && self.cells[j] == 0.0
    }

    /// The sign of root function `j` if it is that of a comparison, else 0.
    pub fn sign(&self, j: usize) -> f64 {
        match self.kinds[j] {
            SwitchKind::Comparison(_) if self.cells[j] != UNKNOWN => self.cells[j],
            _ => 0.0,
        }
    }
}

/// Width of the band around 0 in which a root function can rest, relative to the size of its terms.
const BAND: f64 = 1e-9;

/// Time and direction at which a switch of explicit time crosses, from value and slope of its root function at 0.
///
/// `None`: never. The root function is g = g(0) + g_t t.
fn explicit_crossing(value: f64, slope: f64) -> Option<(f64, f64)> {
    let time = -value / slope;
    (slope != 0.0 && slope.is_finite() && time.is_finite()).then_some((time, slope.signum()))
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

/// All crossings of the switches of explicit time: (time, switch, direction).
pub fn explicit_crossings(system: &mut System) -> Vec<(f64, usize, f64)> {
    if system.model.switches.iter().all(|s| !s.explicit_time) {
        return vec![];
    }
    let (value, rate) = roots_at_zero(system);
    let explicit = (0..value.len()).filter(|j| system.model.switches[*j].explicit_time);
    explicit.filter_map(|j| explicit_crossing(value[j], rate[j]).map(|(time, direction)| (time, j, direction))).collect()
}

/// Cells of all root functions at `t`, or just `after` it, with the flags that they imply; the flags of `system` are left at them.
///
/// Flags can occur in root functions and in the right-hand side, on which the cells just after depend, so the rule is repeated
/// until nothing changes. `span` is the length of the simulation.
pub fn settle_flags(system: &mut System, t: f64, y: &[f64], crossings: &[Crossing], after: bool, span: f64) -> Cells {
    let n = system.model.switches.len();
    let model = system.model.clone();
    let kinds: Vec<SwitchKind> = model.switches.iter().map(|s| s.kind).collect();
    let mut cells = vec![UNKNOWN; n];
    let mut bands = vec![0.0; n];
    for _ in 0..n + 2 {
        if n == 0 {
            break;
        }
        system.evaluate_roots(t, y);
        let explicit = explicit_crossings(system);
        let explicit: Vec<Option<(f64, f64)>> = (0..n).map(|j| explicit.iter().find(|e| e.1 == j).map(|e| (e.0, e.2))).collect();
        let mut rates = None;
        for (j, &kind) in kinds.iter().enumerate() {
            let g = system.roots[j];
            let crossing = crossings.iter().find(|c| c.switch == j);
            if let Some((time, direction)) = explicit[j] {
                cells[j] = match (near(time, t), t > time) {
                    (true, _) if after => direction,
                    (true, _) => 0.0,
                    (false, true) => direction,
                    (false, false) => -direction,
                };
                continue;
            }
            let crosses = crossing.is_some_and(|c| c.value.to_bits() == g.to_bits());
            if !crosses && !on_boundary(kind, g) {
                (cells[j], bands[j]) = (cell(kind, g), 0.0);
                continue;
            }
            let mut direction = 0.0;
            if after {
                let (rates, scales) = rates.get_or_insert_with(|| total_rates(system, t, y));
                let rests = rates[j].abs() * span <= 100.0 * BAND * scales[j];
                bands[j] = if rests && matches!(kind, SwitchKind::Comparison(_)) { BAND * scales[j] } else { 0.0 };
                direction = match crossing {
                    // The rates of delayed values are not known.
                    Some(c) if rests || rates[j].is_nan() || !model.delays.parameters.is_empty() => c.direction,
                    _ if rates[j] > 0.0 => 1.0,
                    _ if rates[j] < 0.0 => -1.0,
                    _ => 0.0,
                };
            }
            cells[j] = cell_beyond(kind, g, direction);
        }
        let mut changed = false;
        for (switch, cell) in model.switches.iter().zip(&cells) {
            let flag = flag_value(switch.kind, *cell);
            changed |= system.parameters[switch.flag] != flag;
            system.parameters[switch.flag] = flag;
        }
        if !changed {
            break;
        }
    }
    Cells { kinds, cells, bands }
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
