//! Switches of the right-hand side: when they happen, and how the sensitivities jump there.
//!
//! At a switch the state is continuous and f changes from f- to f+. With tau_k = dt*/dxi_k the sensitivities become
//!
//! * s_k+ = s_k- + (f- - f+) tau_k,
//! * s_kl+ = s_kl- + [s_k'] tau_l + [s_l'] tau_k + [x''] tau_k tau_l + [f] tau_kl, where [a] = a- - a+,
//!
//! by differentiating x-(t*, xi) = x+(t*, xi) once and twice. The derivatives of the switching time are those of NLME.md 3.2
//! (first order: Froehlich et al. 2017, Bioinformatics 33:1049).

use super::SimulationError;
use super::system::System;
use crate::model::compiled::{SparseKernel, TensorKernel};

/// Whether two times are the same up to rounding. CVODES cannot step over less, so such times are made one.
pub fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 100.0 * f64::EPSILON * a.abs().max(b.abs())
}

/// Time and direction (value after it) at which switch `j`, one of an explicit time, happens under the current parameters.
///
/// `None`: never. The root function is g = g(0) + g_t t.
fn explicit_crossing(roots_at_zero: f64, rate: f64) -> Option<(f64, bool)> {
    if rate == 0.0 || !rate.is_finite() {
        return None;
    }
    let time = -roots_at_zero / rate;
    time.is_finite().then_some((time, rate > 0.0))
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

/// The switches of explicit time that lie after `t`: (time, switch).
pub fn crossings_after(system: &mut System, t: f64) -> Vec<(f64, usize)> {
    if system.model.switches.iter().all(|s| !s.explicit_time) {
        return vec![];
    }
    let (value, rate) = roots_at_zero(system);
    let explicit = system.model.switches.iter().enumerate().filter(|(_, s)| s.explicit_time).map(|(j, _)| j);
    explicit
        .filter_map(|j| explicit_crossing(value[j], rate[j]).map(|(time, _)| (time, j)))
        .filter(|&(time, _)| time > t && !near(time, t))
        .collect()
}

/// Sets the flags of all switches except `kept` to their values just after `t` at the block `y`.
///
/// A state switch whose root function is 0 takes the sign of its total time derivative, which depends on the flags itself;
/// the rule is repeated until nothing changes. Fails where a root function is not a number.
pub fn set_flags(system: &mut System, t: f64, y: &[f64], kept: &[usize]) -> Result<(), SimulationError> {
    let n = system.model.switches.len();
    let mut known = vec![false; n];
    for round in 0..=n + 1 {
        if n == 0 {
            break;
        }
        if !system.evaluate_roots(t, y) {
            return Err(SimulationError::NonFinite { time: t, what: "condition of a piecewise formula".into() });
        }
        let (zero, rate) = roots_at_zero(system);
        let mut total: Option<Vec<f64>> = None;
        let mut changed = false;
        for j in 0..n {
            if kept.contains(&j) {
                continue;
            }
            let switch = system.model.switches[j].clone();
            let g = system.roots[j];
            let value = if switch.explicit_time {
                match explicit_crossing(zero[j], rate[j]) {
                    Some((time, rising)) => rising == (t >= time || near(t, time)),
                    None if g == 0.0 => switch.true_when_equal,
                    None => g > 0.0,
                }
            } else if g != 0.0 {
                g > 0.0
            } else if round == 0 {
                // The derivative of g needs all flags, so the first guess is the value at equality.
                switch.true_when_equal
            } else {
                if total.is_none() {
                    total = Some(total_rates(system, t, y));
                }
                match &total {
                    Some(rates) if rates[j] != 0.0 => rates[j] > 0.0,
                    _ => switch.true_when_equal,
                }
            };
            let flag = &mut system.parameters[switch.flag];
            let number = f64::from(u8::from(value));
            if *flag != number || !known[j] {
                changed |= *flag != number || (!switch.explicit_time && g == 0.0);
                *flag = number;
                known[j] = true;
            }
        }
        system.parameters_changed();
        if !changed {
            break;
        }
    }
    Ok(())
}

/// g_t + g_x f of all root functions.
fn total_rates(system: &mut System, t: f64, y: &[f64]) -> Vec<f64> {
    let mut f = vec![0.0; system.shape.rows];
    system.states_rhs(t, y, &mut f);
    let x = system.states(y).to_vec();
    let inputs = [&[t][..], &x, &system.parameters, &[]];
    let roots = &system.model.roots;
    let mut rates = vec![0.0; roots.dt.outputs()];
    roots.dt.call(inputs, &mut rates, &mut system.scratch);
    let mut dx = vec![0.0; roots.dx.kernel.outputs()];
    roots.dx.kernel.call(inputs, &mut dx, &mut system.scratch);
    for ((&j, &i), &g) in roots.dx.rows.iter().zip(&roots.dx.columns).zip(&dx) {
        rates[j as usize] += g * f[i as usize];
    }
    rates
}

/// Whether a state switch's flag contradicts the sign of its root function, by the values of the last root evaluation.
pub fn contradictions(system: &System) -> Vec<usize> {
    let contradicts = |&j: &usize| {
        let g = system.roots[j];
        g != 0.0 && (g > 0.0) != (system.parameters[system.model.switches[j].flag] != 0.0)
    };
    system.state_switches.iter().map(|&j| j as usize).filter(contradicts).collect()
}

/// Derivatives of one root function at one point.
struct Root {
    /// Nonzeros (z, g_z) of the gradient with respect to z = (x, p).
    gradient: Vec<(usize, f64)>,
    rate: f64,
}

fn evaluate(kernel: &SparseKernel, row: usize, offset: usize, inputs: [&[f64]; 4], scratch: &mut crate::jit::Scratch, out: &mut Vec<(usize, f64)>) {
    let mut values = vec![0.0; kernel.kernel.outputs()];
    kernel.kernel.call(inputs, &mut values, scratch);
    let entries = kernel.rows.iter().zip(&kernel.columns).zip(&values);
    out.extend(entries.filter(|((i, _), _)| **i as usize == row).map(|((_, &column), &v)| (offset + column as usize, v)));
}

fn root(system: &mut System, t: f64, x: &[f64], j: usize) -> Root {
    let inputs = [&[t][..], x, &system.parameters, &[]];
    let roots = &system.model.roots;
    let (nx, limit) = (x.len(), x.len() + system.parameters.len());
    let mut gradient = vec![];
    evaluate(&roots.dx, j, 0, inputs, &mut system.scratch, &mut gradient);
    evaluate(&roots.dp, j, nx, inputs, &mut system.scratch, &mut gradient);
    gradient.retain(|&(z, _)| z < limit);
    let mut rates = vec![0.0; roots.dt.outputs()];
    roots.dt.call(inputs, &mut rates, &mut system.scratch);
    Root { gradient, rate: rates[j] }
}

/// d/dt of the partial derivatives of root function j at constant x, by differences.
///
/// The compiled roots have no symbolic derivatives of this kind. The formula of fourth order is exact up to rounding where the
/// root function is a polynomial of time of degree below five; that of a switch of explicit time is affine.
fn root_time_derivative(system: &mut System, t: f64, x: &[f64], j: usize, h: f64) -> Root {
    let mut result = root(system, t, x, j);
    result.gradient.iter_mut().for_each(|(_, g)| *g = 0.0);
    result.rate = 0.0;
    for (step, weight) in [(-2.0, 1.0 / 12.0), (-1.0, -2.0 / 3.0), (1.0, 2.0 / 3.0), (2.0, -1.0 / 12.0)] {
        let at = root(system, t + step * h, x, j);
        for ((_, sum), (_, g)) in result.gradient.iter_mut().zip(&at.gradient) {
            *sum += weight * g / h;
        }
        result.rate += weight * at.rate / h;
    }
    result
}

/// The bilinear form of output j: sum over entries (j, a, b) of h_ab times (u_a w_b + u_b w_a), once where a = b.
fn bilinear(tensor: &TensorKernel, values: &[f64], j: usize, limit: usize, u: &dyn Fn(usize) -> f64, w: &dyn Fn(usize) -> f64) -> f64 {
    let mut sum = 0.0;
    for (&[i, a, b], &h) in tensor.entries.iter().zip(values) {
        let (a, b) = (a as usize, b as usize);
        if i as usize != j || b >= limit {
            continue;
        }
        sum += h * if a == b { u(a) * w(a) } else { u(a) * w(b) + u(b) * w(a) };
    }
    sum
}

/// A switch that happens.
#[derive(Debug, Clone, Copy)]
pub struct Occurrence {
    /// Which one.
    pub switch: usize,
    /// Its value afterwards.
    pub value: bool,
    /// When.
    pub time: f64,
    /// The integrator's step before it.
    pub step: f64,
    /// Length of the simulation.
    pub span: f64,
}

/// Carries out a switch: its flag changes, the flags that follow from it are set, and the sensitivity columns of `y` jump.
/// `kept` are switches that happen at the same time and have their own turn.
///
/// The order of simultaneous switches matters only where their effects do not add up; then the result is the derivative
/// for one of the possible orders.
///
/// Fails with `Grazing` where derivatives are asked for, f jumps, and the root function only touches 0.
pub fn apply(system: &mut System, y: &mut [f64], occurrence: &Occurrence, kept: &[usize]) -> Result<(), SimulationError> {
    let Occurrence { switch: j, value, time: t, step, span } = *occurrence;
    let switch = system.model.switches[j].clone();
    let number = f64::from(u8::from(value));
    if system.parameters[switch.flag] == number {
        return Ok(());
    }
    let (nx, ns, pairs, stride) = (system.shape.rows, system.directions, system.pairs.len(), system.shape.stride);
    let mut kept = kept.to_vec();
    kept.push(j);
    let flip = |system: &mut System, y: &[f64]| {
        system.parameters[switch.flag] = number;
        system.parameters_changed();
        set_flags(system, t, y, &kept)
    };
    if ns == 0 || nx == 0 {
        return flip(system, y);
    }

    // Before the switch.
    let not_finite = |system: &System, t: f64| SimulationError::NonFinite {
        time: t,
        what: system.not_finite.map_or_else(|| "right-hand side".into(), |n| format!("d({})/dt", system.model.states[n.row])),
    };
    let x = system.states(y).to_vec();
    let mut before = vec![0.0; system.shape.len()];
    if !system.rhs(t, y, &mut before) {
        return Err(not_finite(system, t));
    }
    let f_before: Vec<f64> = before.iter().step_by(stride).copied().collect();
    let g = root(system, t, &x, j);
    let dot_f = |g: &Root, f: &[f64]| g.gradient.iter().filter(|(z, _)| *z < nx).map(|&(z, v)| v * f[z]).sum::<f64>();
    let rate = g.rate + dot_f(&g, &f_before);
    let along = |system: &System, y: &[f64], g: &Root, k: usize| g.gradient.iter().map(|&(z, v)| v * system.direction(y, z, k)).sum::<f64>();
    let gamma: Vec<f64> = (0..ns).map(|k| along(system, y, &g, k)).collect();

    // A switch whose time depends on no direction changes no sensitivity.
    let moves = gamma.iter().any(|v| *v != 0.0) || pairs > 0;
    if !moves {
        return flip(system, y);
    }
    let mut x_rate_before = vec![0.0; nx];
    system.states_second_rate(t, y, &f_before, &mut x_rate_before);
    let scale: f64 = g.gradient.iter().filter(|(z, _)| *z < nx).map(|&(z, v)| (v * x[z]).abs()).sum();
    // Of a parabola that touches 0, g'/g'' is the time by which the touch is missed.
    let least = 1e-8 * (scale / span).max(dot_f(&g, &x_rate_before).abs() * span);
    let grazes = rate.is_nan() || rate.abs() <= least;
    let tau: Vec<f64> = gamma.iter().map(|v| -v / rate).collect();
    let tau_second = if pairs > 0 { second_derivatives(system, t, y, j, &x, &g, &before, &f_before, &x_rate_before, rate, &tau, step)? } else { vec![] };

    // After it.
    flip(system, y)?;
    let mut f_after = vec![0.0; nx];
    system.states_rhs(t, y, &mut f_after);
    let jump: Vec<f64> = f_before.iter().zip(&f_after).map(|(a, b)| a - b).collect();
    let matters = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-10 * (a.abs() + b.abs()));
    if grazes {
        // A kink of f where g touches 0 moves nothing; a jump has no derivative.
        if !matters(&f_before, &f_after) {
            return Ok(());
        }
        return Err(SimulationError::Grazing { time: t, switch: describe(system, j) });
    }
    for (row, d) in y.chunks_exact_mut(stride).zip(&jump) {
        for k in 0..ns {
            row[1 + k] += d * tau[k];
        }
    }
    if pairs > 0 {
        let mut after = vec![0.0; system.shape.len()];
        let mut x_rate_after = vec![0.0; nx];
        if !system.rhs(t, y, &mut after) {
            return Err(not_finite(system, t));
        }
        system.states_second_rate(t, y, &f_after, &mut x_rate_after);
        for i in 0..nx {
            let s_rate = |k: usize| before[i * stride + 1 + k] - after[i * stride + 1 + k];
            let x_rate = x_rate_before[i] - x_rate_after[i];
            for m in 0..pairs {
                let (k, l) = (system.pairs[m].0 as usize, system.pairs[m].1 as usize);
                y[i * stride + 1 + ns + m] +=
                    s_rate(k) * tau[l] + s_rate(l) * tau[k] + x_rate * tau[k] * tau[l] + jump[i] * tau_second[m];
            }
        }
    }
    Ok(())
}

/// Second derivatives tau_kl of the switching time for all pairs (NLME.md 3.2).
#[allow(clippy::too_many_arguments)]
fn second_derivatives(
    system: &mut System, t: f64, y: &[f64], j: usize, x: &[f64], g: &Root, before: &[f64], f: &[f64], x_rate: &[f64], rate: f64, tau: &[f64],
    step: f64,
) -> Result<Vec<f64>, SimulationError> {
    let (nx, ns, stride) = (system.shape.rows, system.directions, system.shape.stride);
    let limit = nx + system.parameters.len();
    let model = system.model.clone();
    let Some(tensor) = &model.roots.second else {
        return Err(SimulationError::Unsupported { what: "a switch in second order without second derivatives of its condition".into() });
    };
    let mut h = vec![0.0; tensor.kernel.outputs()];
    tensor.kernel.call([&[t][..], x, &system.parameters, &[]], &mut h, &mut system.scratch);
    let explicit = model.switches[j].explicit_time;
    let difference = if explicit { t.abs().max(1.0) } else { (0.1 * step).max(1e-4 * t.abs()).max(f64::MIN_POSITIVE) };
    let g_time = root_time_derivative(system, t, x, j, difference);

    let gradient_time: f64 = g.gradient.iter().filter(|(z, _)| *z < nx).map(|&(z, v)| v * x_rate[z]).sum();
    let flow = |z: usize| if z < nx { f[z] } else { 0.0 };
    let mixed_time: f64 = g_time.gradient.iter().map(|&(z, v)| v * flow(z)).sum();
    let gamma_tt = gradient_time + bilinear(tensor, &h, j, limit, &flow, &flow) + 2.0 * mixed_time + g_time.rate;
    let gamma_kt: Vec<f64> = (0..ns)
        .map(|k| {
            let u = |z: usize| system.direction(y, z, k);
            let carried: f64 = g.gradient.iter().filter(|(z, _)| *z < nx).map(|&(z, v)| v * before[z * stride + 1 + k]).sum();
            let explicit: f64 = g_time.gradient.iter().map(|&(z, v)| v * u(z)).sum();
            carried + bilinear(tensor, &h, j, limit, &flow, &u) + explicit
        })
        .collect();
    let pairs = system.pairs.len();
    let second = |m: usize| {
        let (k, l) = (system.pairs[m].0 as usize, system.pairs[m].1 as usize);
        let u_kl = |z: usize| if z < nx { y[z * stride + 1 + ns + m] } else { system.seeds_second[(z - nx) * pairs + m] };
        let linear: f64 = g.gradient.iter().map(|&(z, v)| v * u_kl(z)).sum();
        let gamma_kl = linear + bilinear(tensor, &h, j, limit, &|z| system.direction(y, z, k), &|z| system.direction(y, z, l));
        -(gamma_kl + gamma_kt[k] * tau[l] + gamma_kt[l] * tau[k] + gamma_tt * tau[k] * tau[l]) / rate
    };
    Ok((0..pairs).map(second).collect())
}

/// A switch by the name of its flag.
fn describe(system: &System, j: usize) -> String {
    system.model.parameters.get(system.model.switches[j].flag).cloned().unwrap_or_else(|| format!("switch {j}"))
}
