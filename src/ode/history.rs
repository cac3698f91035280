//! The past of a simulation, for delay differential equations.
//!
//! States at earlier times are interpolated by cubic Hermite polynomials between the ends of the integrator's steps.
//! Before the start everything had its initial value, as a function of time where an initial assignment says so. A delayed value has a kink or jump one delay after every
//! discontinuity; the integrator stops there.

use super::switch::near;
use super::system::System;
use crate::jit::Kernel;

/// Kinks are followed over this many delays; each one is smoother by one order.
const GENERATIONS: u32 = 5;

/// States, rates and parameters at the end of a step.
#[derive(Debug, Clone)]
struct Record {
    time: f64,
    states: Vec<f64>,
    rates: Vec<f64>,
    parameters: Vec<f64>,
}

/// The past.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The delayed quantities before the start.
    before: Vec<Kernel>,
    records: Vec<Record>,
    /// Where the integration began anew last.
    begin: f64,
    /// Times at which a delayed value is not smooth, and which generation of the kink it is.
    kinks: Vec<(f64, u32)>,
}

impl History {
    /// Index of the record from which to go on at `time`; of two at the same time the later one if `after`.
    fn place(&self, time: f64, after: bool) -> usize {
        let after_all = self.records.partition_point(|r| r.time <= time || near(r.time, time));
        let before_all = self.records.partition_point(|r| r.time < time && !near(r.time, time));
        if after { after_all.saturating_sub(1) } else { before_all.min(self.records.len().saturating_sub(1)) }
    }

    fn is_before(&self, time: f64) -> bool {
        self.records.first().is_some_and(|first| time < first.time && !near(time, first.time))
    }

    /// States and parameters at an earlier time; `now` are those of the present, at the end of the step in progress.
    fn at(&self, time: f64, after: bool, now: (f64, &[f64])) -> (Vec<f64>, Vec<f64>) {
        if self.records.is_empty() {
            return (now.1.to_vec(), vec![]);
        }
        let place = self.place(time, after);
        let record = &self.records[place];
        if near(record.time, time) {
            return (record.states.clone(), record.parameters.clone());
        }
        let (a, b) = if record.time > time { (&self.records[place - 1], Some(record)) } else { (record, self.records.get(place + 1)) };
        let Some(b) = b else {
            // Within the step in progress: a parabola through the last record to the present.
            let h = now.0 - a.time;
            let s = time - a.time;
            let w = if h > 0.0 { s / h } else { 0.0 };
            let states = (0..a.states.len()).map(|i| a.states[i] + a.rates[i] * s + (now.1[i] - a.states[i] - a.rates[i] * h) * w * w);
            return (states.collect(), a.parameters.clone());
        };
        let h = b.time - a.time;
        let s = (time - a.time) / h;
        let (h00, h01) = ((1.0 + 2.0 * s) * (1.0 - s) * (1.0 - s), s * s * (3.0 - 2.0 * s));
        let (h10, h11) = (s * (1.0 - s) * (1.0 - s), s * s * (s - 1.0));
        let states =
            (0..a.states.len()).map(|i| h00 * a.states[i] + h01 * b.states[i] + h * (h10 * a.rates[i] + h11 * b.rates[i])).collect();
        // Only delayed values of delayed values change within a step; all other parameters are the same at both ends.
        let parameters = a.parameters.iter().zip(&b.parameters).map(|(a, b)| a + (b - a) * s).collect();
        (states, parameters)
    }
}

/// Forgets the past: a simulation starts at `t`.
pub fn start(system: &mut System, t: f64, y: &[f64], before: &[Kernel]) {
    system.history = History { before: before.to_vec(), begin: t, ..History::default() };
    record(system, t, y);
}

/// Brings the delayed values up to date, at time `t` with the states `x`.
pub fn refresh(system: &mut System, t: f64, x: &[f64]) {
    let model = system.model.clone();
    let after = near(t, system.history.begin);
    let mut out = [0.0];
    for (k, &parameter) in model.delays.parameters.iter().enumerate() {
        model.delays.delays[k].call([&[t][..], x, &system.parameters, &[]], &mut out, &mut system.scratch);
        let time = t - out[0].max(0.0);
        if let Some(before) = system.history.before.get(k).filter(|_| system.history.is_before(time)) {
            before.clone().call([&[time][..], &[], &system.parameters, &[]], &mut out, &mut system.scratch);
            system.parameters[parameter] = out[0];
            continue;
        }
        let (states, mut parameters) = system.history.at(time, after, (t, x));
        if parameters.is_empty() {
            parameters.clone_from(&system.parameters);
        }
        model.delays.values[k].call([&[time][..], &states, &parameters, &[]], &mut out, &mut system.scratch);
        system.parameters[parameter] = out[0];
    }
}

/// Remembers the end of a step.
pub fn record(system: &mut System, t: f64, y: &[f64]) {
    let states = system.states(y).to_vec();
    let mut rates = vec![0.0; states.len()];
    system.states_rhs(t, y, &mut rates);
    let parameters = system.parameters.clone();
    system.history.records.push(Record { time: t, states, rates, parameters });
}

/// The integration begins anew at `t`: remembers the block, and the times at which this will be felt.
pub fn begin(system: &mut System, t: f64, y: &[f64], jump: bool) {
    system.history.begin = t;
    record(system, t, y);
    let generation = if jump { 0 } else { system.history.kinks.iter().filter(|k| near(k.0, t)).map(|k| k.1 + 1).min().unwrap_or(0) };
    system.history.kinks.retain(|k| k.0 > t && !near(k.0, t));
    if generation >= GENERATIONS {
        return;
    }
    let model = system.model.clone();
    let x = system.states(y).to_vec();
    for delay in &model.delays.delays {
        let mut out = [0.0];
        delay.call([&[t][..], &x, &system.parameters, &[]], &mut out, &mut system.scratch);
        let kink = t + out[0];
        if kink.is_finite() && kink > t && !near(kink, t) && !system.history.kinks.iter().any(|k| near(k.0, kink)) {
            system.history.kinks.push((kink, generation));
        }
    }
}

/// The next time at which a delayed value is not smooth.
pub fn next_kink(system: &System, t: f64) -> Option<f64> {
    system.history.kinks.iter().map(|k| k.0).filter(|k| *k > t && !near(*k, t)).reduce(f64::min)
}

/// The shortest delay at the present: a step should not be longer.
pub fn shortest(system: &mut System, t: f64, y: &[f64]) -> Option<f64> {
    let model = system.model.clone();
    let x = system.states(y).to_vec();
    let mut shortest: Option<f64> = None;
    for delay in &model.delays.delays {
        let mut out = [0.0];
        delay.call([&[t][..], &x, &system.parameters, &[]], &mut out, &mut system.scratch);
        if out[0] > 0.0 {
            shortest = Some(shortest.map_or(out[0], |s| s.min(out[0])));
        }
    }
    shortest
}
