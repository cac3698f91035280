//! Where in a step of the integrator a root function first leaves its cell.
//!
//! The dense output is looked at within the step as well as at its end, and where a root function comes close to 0 and
//! turns back, its extremum is looked for: so a condition that holds for a part of a step only is not missed.

use super::cvodes::{Failure, Integrator};
use super::switch::{Cells, Crossing};
use std::sync::Arc;

/// Parts into which a step is divided.
const PARTS: usize = 4;

/// Refinements of an extremum.
const REFINEMENTS: usize = 4;

/// A time within a step and the root functions there.
struct Sample {
    time: f64,
    roots: Vec<f64>,
}

/// Root functions at the times at which a step was looked at; re-used from step to step.
#[derive(Default)]
pub struct RootFinder {
    samples: Vec<Sample>,
    spare: Vec<Vec<f64>>,
}

impl RootFinder {
    /// The first time in (from, to], a part of the last step, at which a root function has left its cell, with all root functions that cross there.
    pub fn first(&mut self, it: &mut Integrator, from: f64, to: f64, cells: &Cells) -> Result<Option<(f64, Vec<Crossing>)>, Failure> {
        self.spare.extend(self.samples.drain(..).map(|s| s.roots));
        let watched = Arc::clone(&it.system().state_switches);
        let crossed = |roots: &[f64]| watched.iter().any(|&j| cells.left(j as usize, roots[j as usize]));
        for i in 0..=PARTS {
            let time = if i == PARTS { to } else { from + (to - from) * i as f64 / PARTS as f64 };
            let sample = self.sample(it, time)?;
            // What crosses at the very beginning has been dealt with; only its value is of use.
            let found = i > 0 && crossed(&sample.roots);
            self.samples.push(sample);
            if found {
                return self.locate(it, i - 1, cells, &watched).map(Some);
            }
            if i >= 2 && self.turn(it, i - 1, cells, &watched)? {
                return self.locate(it, self.samples.len() - 2, cells, &watched).map(Some);
            }
        }
        Ok(None)
    }

    fn sample(&mut self, it: &mut Integrator, time: f64) -> Result<Sample, Failure> {
        let mut roots = self.spare.pop().unwrap_or_default();
        let (system, block) = it.interpolated(time)?;
        system.evaluate_roots(time, block);
        roots.clear();
        roots.extend_from_slice(&system.roots);
        Ok(Sample { time, roots })
    }

    /// Looks for an extremum beyond 0 around sample `i` of root functions that come near to 0 there. If there is one, the samples
    /// end with it: the one at which it was found is the last, the one before it the last on this side.
    fn turn(&mut self, it: &mut Integrator, i: usize, cells: &Cells, watched: &[u32]) -> Result<bool, Failure> {
        for &j in watched {
            let j = j as usize;
            let side = cells.sign(j);
            if side == 0.0 {
                continue;
            }
            let mut points: Vec<(f64, f64)> = self.samples[i - 1..=i + 1].iter().map(|s| (s.time, side * s.roots[j])).collect();
            for _ in 0..REFINEMENTS {
                let Some((vertex, lowest)) = vertex(&points) else { break };
                let range = points.iter().map(|p| p.1).fold(0.0, f64::max) - lowest;
                if lowest > 0.2 * range {
                    break;
                }
                let sample = self.sample(it, vertex)?;
                let f = side * sample.roots[j];
                if cells.left(j, sample.roots[j]) {
                    let before = points.iter().map(|p| p.0).filter(|t| *t < vertex).fold(points[0].0, f64::max);
                    self.spare.extend(self.samples.drain(i - 1..).map(|s| s.roots));
                    let before = self.sample(it, before)?;
                    self.samples.extend([before, sample]);
                    return Ok(true);
                }
                self.spare.push(sample.roots);
                // The next three points are the lowest of all and its neighbours.
                let place = points.partition_point(|p| p.0 < vertex);
                points.insert(place, (vertex, f));
                let Some(low) = (1..3).find(|k| points[*k].1 <= points[k - 1].1 && points[*k].1 <= points[k + 1].1) else { break };
                points = points[low - 1..=low + 1].to_vec();
            }
        }
        Ok(false)
    }

    /// Narrows down the first crossing between samples `i` and `i + 1`.
    fn locate(&mut self, it: &mut Integrator, i: usize, cells: &Cells, watched: &[u32]) -> Result<(f64, Vec<Crossing>), Failure> {
        self.spare.extend(self.samples.drain(i + 2..).map(|s| s.roots));
        let (Some(mut high), Some(mut low)) = (self.samples.pop(), self.samples.pop()) else { return Ok((f64::NAN, vec![])) };
        let differs = |s: &Sample, j: usize| cells.left(j, s.roots[j]);
        let tolerance = 4.0 * f64::EPSILON * high.time.abs().max(low.time.abs());
        let end = high.time;
        let mut round = 0;
        while high.time - low.time > tolerance {
            round += 1;
            let width = high.time - low.time;
            let mut time = low.time + 0.5 * width;
            if round % 3 != 0 {
                // Where straight lines cross 0, the first of them; a little beyond, so that the bracket shrinks from above.
                let crossing = watched.iter().map(|&j| j as usize).filter(|&j| differs(&high, j)).map(|j| {
                    let (a, b) = (low.roots[j], high.roots[j]);
                    if a * b < 0.0 { low.time + width * a / (a - b) } else { time }
                });
                time = crossing.fold(high.time, f64::min) + 0.5 * tolerance;
                time = time.clamp(low.time + 0.5 * tolerance.min(width), high.time - 0.25 * tolerance.min(width));
            }
            if time <= low.time || time >= high.time {
                break;
            }
            let sample = self.sample(it, time)?;
            let crossed = watched.iter().any(|&j| differs(&sample, j as usize));
            let old = std::mem::replace(if crossed { &mut high } else { &mut low }, sample);
            self.spare.push(old.roots);
        }
        // Root functions that cross together differ by rounding: those that cross a moment later belong to the same time.
        let later = self.sample(it, (high.time + 8.0 * tolerance).min(end.max(high.time)))?;
        let together = watched.iter().map(|&j| j as usize).filter(|&j| differs(&high, j) || differs(&later, j));
        let crossings =
            together.map(|j| Crossing { switch: j, value: high.roots[j], direction: (later.roots[j] - low.roots[j]).signum() }).collect();
        self.spare.push(later.roots);
        Ok((high.time, crossings))
    }
}

/// Place and value of the minimum of the parabola through three points, if it lies between them.
fn vertex(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let [(a, fa), (b, fb), (c, fc)] = [points[0], points[1], points[2]];
    let (left, right) = ((fb - fa) / (b - a), (fc - fb) / (c - b));
    let bend = (right - left) / (c - a);
    let time = 0.5 * (a + b) - 0.5 * left / bend;
    let value = fa + left * (time - a) + bend * (time - a) * (time - b);
    (bend > 0.0 && time > a && time < c && time != b).then_some((time, value))
}
