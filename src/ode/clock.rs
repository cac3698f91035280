//! Sensitivities at times that move with the parameters.
//!
//! At a time t*(xi) with derivatives tau_k and tau_kl, the *carried* block holds the total derivatives of x(t*(xi), xi):
//!
//! * X_k = s_k + f tau_k,
//! * X_kl = s_kl + s_k' tau_l + s_l' tau_k + x'' tau_k tau_l + f tau_kl.
//!
//! In these terms whatever happens at t* (an assignment, a change of the right-hand side, a move back onto an invariant) is an ordinary
//! function of (t, x, p), to which the chain rule applies; going back with the right-hand side after it gives the formulas of
//! NLME.md 3.2 (Froehlich et al. 2017, Bioinformatics 33:1049) and their second order.

use super::SimulationError;
use super::system::System;
use crate::model::compiled::TensorKernel;

/// Derivatives of a moving time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clock {
    /// tau_k.
    pub first: Vec<f64>,
    /// tau_kl.
    pub second: Vec<f64>,
}

impl Clock {
    /// A time that does not move.
    pub fn fixed(directions: usize, pairs: usize) -> Self {
        Clock { first: vec![0.0; directions], second: vec![0.0; pairs] }
    }

    fn is_fixed(&self) -> bool {
        self.first.iter().chain(&self.second).all(|v| *v == 0.0)
    }
}

/// Carries the block to another moving time, with the right-hand side as it is.
pub fn carry(system: &mut System, t: f64, y: &mut [f64], to: &Clock) -> Result<(), SimulationError> {
    if system.clock == *to {
        return Ok(());
    }
    leave(system, t, y)?;
    enter(system, t, y, to)
}

fn block_rates(system: &mut System, t: f64, y: &[f64]) -> Result<Vec<f64>, SimulationError> {
    let mut rates = vec![0.0; system.shape.len()];
    if system.rhs(t, y, &mut rates) {
        return Ok(rates);
    }
    let what = system.not_finite.map_or_else(|| "right-hand side".into(), |n| format!("d({})/dt", system.model.states[n.row]));
    Err(SimulationError::NonFinite { time: t, what })
}

/// From s to X.
fn enter(system: &mut System, t: f64, y: &mut [f64], to: &Clock) -> Result<(), SimulationError> {
    if !to.is_fixed() {
        let rates = block_rates(system, t, y)?;
        shift(system, t, y, &rates, to, 1.0);
    }
    system.clock.clone_from(to);
    Ok(())
}

/// From X to s.
fn leave(system: &mut System, t: f64, y: &mut [f64]) -> Result<(), SimulationError> {
    if system.clock.is_fixed() {
        return Ok(());
    }
    let (ns, stride) = (system.directions, system.shape.stride);
    let clock = std::mem::take(&mut system.clock);
    let mut f = vec![0.0; system.shape.rows];
    system.states_rhs(t, y, &mut f);
    for (row, f) in y.chunks_exact_mut(stride).zip(&f) {
        for k in 0..ns {
            row[1 + k] -= f * clock.first[k];
        }
    }
    if !system.pairs.is_empty() {
        // The rates of s need s itself, which is known now.
        let rates = block_rates(system, t, y)?;
        let first = y.to_vec();
        shift(system, t, y, &rates, &clock, -1.0);
        for (row, known) in y.chunks_exact_mut(stride).zip(first.chunks_exact(stride)) {
            row[1..1 + ns].copy_from_slice(&known[1..1 + ns]);
        }
    }
    system.clock = Clock::fixed(ns, system.pairs.len());
    Ok(())
}

/// Adds `factor` times the terms of the time's derivatives to all columns.
fn shift(system: &mut System, t: f64, y: &mut [f64], rates: &[f64], clock: &Clock, factor: f64) {
    let (ns, stride, nx) = (system.directions, system.shape.stride, system.shape.rows);
    let f: Vec<f64> = rates.iter().step_by(stride).copied().collect();
    let mut second_rate = vec![0.0; nx];
    if !system.pairs.is_empty() {
        system.states_second_rate(t, y, &f, &mut second_rate);
    }
    for i in 0..nx {
        let (row, rate) = (&mut y[i * stride..][..stride], &rates[i * stride..][..stride]);
        for k in 0..ns {
            row[1 + k] += factor * f[i] * clock.first[k];
        }
        for (m, &(k, l)) in system.pairs.iter().enumerate() {
            let (k, l) = (k as usize, l as usize);
            let (tau_k, tau_l) = (clock.first[k], clock.first[l]);
            row[1 + ns + m] +=
                factor * (rate[1 + k] * tau_l + rate[1 + l] * tau_k + second_rate[i] * tau_k * tau_l + f[i] * clock.second[m]);
        }
    }
}

/// The derivatives of the time at which switch `j` crosses, from the block before. `None` if its root function only touches 0.
///
/// tau_k = -g_k / g_t and tau_kl = -(g_kl + g_kt tau_l + g_lt tau_k + g_tt tau_k tau_l) / g_t with the total derivatives of
/// g(t, x(t, xi), p(xi)) (NLME.md 3.2). `span` is the length of the simulation.
pub fn crossing_clock(system: &mut System, t: f64, y: &[f64], j: usize, span: f64) -> Result<Option<Clock>, SimulationError> {
    let (nx, ns, stride, np) = (system.shape.rows, system.directions, system.shape.stride, system.parameters.len());
    let model = system.model.clone();
    let x = system.states(y).to_vec();
    let rates = block_rates(system, t, y)?;
    let f: Vec<f64> = rates.iter().step_by(stride).copied().collect();
    let inputs = [&[t][..], &x, &system.parameters, &[]];
    let mut gradient: Vec<(usize, f64)> = vec![];
    for (kernel, offset) in [(&model.roots.dx, 0), (&model.roots.dp, nx)] {
        let mut values = vec![0.0; kernel.kernel.outputs()];
        kernel.kernel.call(inputs, &mut values, &mut system.scratch);
        let entries = kernel.rows.iter().zip(&kernel.columns).zip(&values).filter(|((i, _), _)| **i as usize == j);
        gradient.extend(entries.map(|((_, &column), &v)| (offset + column as usize, v)));
    }
    gradient.retain(|&(z, _)| z < nx + np);
    let mut by_time = vec![0.0; model.roots.dt.outputs()];
    model.roots.dt.call(inputs, &mut by_time, &mut system.scratch);
    let in_states = || gradient.iter().filter(|(z, _)| *z < nx);
    let rate = by_time[j] + in_states().map(|&(z, g)| g * f[z]).sum::<f64>();
    let along = |system: &System, k: usize| gradient.iter().map(|&(z, g)| g * system.direction(y, z, k)).sum::<f64>();
    let first: Vec<f64> = (0..ns).map(|k| along(system, k)).collect();
    let still = first.iter().all(|v| *v == 0.0);
    let pairs = system.pairs.len();
    if still && pairs == 0 {
        return Ok(Some(Clock::fixed(ns, 0)));
    }
    let mut second_rate = vec![0.0; nx];
    system.states_second_rate(t, y, &f, &mut second_rate);
    let scale: f64 = in_states().map(|&(z, g)| (g * x[z]).abs()).sum();
    let bend: f64 = in_states().map(|&(z, g)| g * second_rate[z]).sum();
    // Of a parabola that touches 0, g'/g'' is the time by which the touch is missed.
    if rate.is_nan() || rate.abs() <= 1e-8 * (scale / span).max(bend.abs() * span) {
        return Ok(None);
    }
    let first: Vec<f64> = first.iter().map(|v| -v / rate).collect();
    if pairs == 0 {
        return Ok(Some(Clock { first, second: vec![] }));
    }
    let Some(tensor) = &model.roots.second else {
        return Err(SimulationError::Unsupported { what: "a switch in second order without second derivatives of its condition".into() });
    };
    let mut curvature = vec![0.0; tensor.kernel.outputs()];
    tensor.kernel.call([&[t][..], &x, &system.parameters, &[]], &mut curvature, &mut system.scratch);
    // Along the flow of time: states with f, time with 1.
    let flow = |z: usize| match z {
        z if z < nx => f[z],
        z if z == nx + np => 1.0,
        _ => 0.0,
    };
    let direction = |k: usize| move |system: &System, z: usize| if z == nx + np { 0.0 } else { system.direction(y, z, k) };
    let g_tt = bend + bilinear(tensor, &curvature, j, &flow, &flow);
    let g_kt: Vec<f64> = (0..ns)
        .map(|k| {
            let carried: f64 = in_states().map(|&(z, g)| g * rates[z * stride + 1 + k]).sum();
            carried + bilinear(tensor, &curvature, j, &flow, &|z| direction(k)(system, z))
        })
        .collect();
    let second = (0..pairs).map(|m| {
        let (k, l) = (system.pairs[m].0 as usize, system.pairs[m].1 as usize);
        let u_kl = |z: usize| if z < nx { y[z * stride + 1 + ns + m] } else { system.seeds_second[(z - nx) * pairs + m] };
        let linear: f64 = gradient.iter().map(|&(z, g)| g * u_kl(z)).sum();
        let g_kl = linear + bilinear(tensor, &curvature, j, &|z| direction(k)(system, z), &|z| direction(l)(system, z));
        -(g_kl + g_kt[k] * first[l] + g_kt[l] * first[k] + g_tt * first[k] * first[l]) / rate
    });
    let second = second.collect();
    Ok(Some(Clock { first, second }))
}

/// The bilinear form of output j: sum over entries (j, a, b) of h_ab times (u_a w_b + u_b w_a), once where a = b.
fn bilinear(tensor: &TensorKernel, values: &[f64], j: usize, u: &dyn Fn(usize) -> f64, w: &dyn Fn(usize) -> f64) -> f64 {
    let mut sum = 0.0;
    for (&[i, a, b], &h) in tensor.entries.iter().zip(values) {
        let (a, b) = (a as usize, b as usize);
        if i as usize == j {
            sum += h * if a == b { u(a) * w(a) } else { u(a) * w(b) + u(b) * w(a) };
        }
    }
    sum
}
