//! What a simulation leaves for the backward integration of adjoint sensitivities: its states, and a linear map for every moment.
//!
//! All that derivatives depend on stands in one vector z: the states, the parameters in force, and what is *held*, that is
//! determined at one moment and used at a later one (time and values of delayed events, see [`Held`]). A moment maps dz before to dz
//! after. The map is found by running the moment on a block whose directions are unit vectors of z, with the code that forward
//! sensitivities use, so that events mean the same in both. Only components on which something can depend get a direction.

use super::SimulationError;
use super::clock::Clock;
use super::events::{Agenda, Held};
use super::invariant;
use super::run::apply_change;
use super::simulator::{Input, Options};
use super::switch::Crossing;
use super::system::System;
use crate::model::CompiledModel;
use crate::model::compiled::{Assignments, Function, PeriodChange, Target};
use std::collections::BTreeSet;
use std::ops::Range;

/// A linear map, as the nonzeros (row, column, value) of its difference from the identity.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(u32, u32, f64)>);

impl Map {
    /// Adds the transpose times `v` to `out`.
    pub fn add_transposed(&self, v: &[f64], out: &mut [f64]) {
        out.iter_mut().zip(v).for_each(|(o, v)| *o += v);
        for &(row, column, value) in &self.0 {
            out[column as usize] += value * v[row as usize];
        }
    }
}

/// A moment at which derivatives change.
#[derive(Debug, Clone)]
pub struct Moment {
    /// From before to after.
    pub map: Map,
    /// From before to what outputs at this time show, where that is something else.
    pub seen: Option<Map>,
}

/// A moment, and the smooth stretch that follows it.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// Where derivatives change at the beginning.
    pub moment: Option<Moment>,
    /// Outputs at the moment.
    pub outputs_at: Range<usize>,
    /// Outputs later.
    pub outputs: Range<usize>,
    /// Parameters in force.
    pub parameters: Vec<f64>,
    /// Ends of the integrator's steps.
    pub times: Vec<f64>,
    /// The states there, points by nx.
    pub states: Vec<f64>,
}

/// What is about to happen at a moment.
pub struct Happening<'a> {
    /// When.
    pub time: f64,
    /// Whether this is the start.
    pub first: bool,
    /// Changes of period.
    pub changes: &'a [PeriodChange],
    /// Root functions that cross.
    pub crossings: &'a [Crossing],
    /// Whether their times have derivatives.
    pub moving: bool,
    /// Length of the simulation.
    pub span: f64,
    /// Whether there are outputs.
    pub seen: bool,
}

/// The record of one simulation.
#[derive(Default)]
pub struct Record {
    /// Its pieces in order of time.
    pub pieces: Vec<Piece>,
    /// Length of z.
    pub length: usize,
    /// Sizes of the states: their largest magnitudes.
    pub sizes: Vec<f64>,
    nx: usize,
    moment: Option<Moment>,
    /// What is held, with its first place in z.
    held: Vec<(Held, usize)>,
    /// States and parameters on which moments depend, or which they set, as places in z.
    sources: Vec<usize>,
    options: Options,
    /// The system that runs moments.
    wide: Option<System>,
    spare: Vec<Piece>,
}

/// Intervals that differ by more than this from their neighbours are merged: polynomials through close points amplify errors.
const UNEVEN: f64 = 50.0;

impl Record {
    /// Begins the record of a simulation.
    pub fn begin(&mut self, model: &CompiledModel, input: &Input, options: &Options) {
        self.spare.append(&mut self.pieces);
        self.nx = model.states.len();
        self.length = self.nx + model.parameters.len();
        self.sizes.clear();
        self.sizes.resize(self.nx, 0.0);
        self.moment = None;
        self.held.clear();
        self.sources = sources(model, input.changes);
        self.options = options.clone();
    }

    /// Notes what is about to happen to the states in block `y` (one column) of `system`.
    pub fn moment(&mut self, system: &System, y: &[f64], happening: &Happening, agenda: &Agenda) -> Result<(), SimulationError> {
        let model = &system.model;
        let quiet = happening.changes.is_empty() && happening.crossings.is_empty() && model.events.is_empty();
        // At the start the states are moved onto the invariants.
        if quiet && (!happening.first || model.invariants.positive.is_empty()) {
            return Ok(());
        }
        // Directions: the sources, then what is held.
        let mut columns = self.sources.clone();
        let mut places = vec![];
        for (held, numbers) in agenda.held(0) {
            if let Some(&(_, first)) = self.held.iter().find(|h| h.0 == held) {
                places.push((held, columns.len()));
                columns.extend(first..first + numbers.len());
            }
        }
        let mut wide = self.wide_system(system, columns.len());
        let mut block = vec![0.0; wide.shape.len()];
        self.seed(system, y, &columns, &mut wide, &mut block);
        let place_of = |held: Held| places.iter().find(|p| p.0 == held).map(|p| p.1);
        let mut agenda = agenda.widened(wide.directions, place_of);
        let t = happening.time;
        if happening.first {
            invariant::project(&mut wide, t, &mut block)?;
        }
        for change in happening.changes {
            apply_change(&mut wide, &mut block, change, t)?;
        }
        let mut seen = None;
        let nx = self.nx;
        let mut observe = |wide: &mut System, block: &[f64]| {
            if happening.seen {
                seen = Some(map(nx, &columns, wide, block));
            }
        };
        agenda.settle(&mut wide, &mut block, t, happening.crossings.to_vec(), happening.moving, happening.span, &mut observe)?;
        let mut after = map(nx, &columns, &wide, &block);
        self.hold(&agenda, &wide, &columns, &mut after);
        self.moment = Some(Moment { map: after, seen });
        self.wide = Some(wide);
        Ok(())
    }

    /// A system with room for `columns` directions.
    fn wide_system(&mut self, system: &System, columns: usize) -> System {
        match self.wide.take() {
            Some(wide) if wide.directions >= columns && std::sync::Arc::ptr_eq(&wide.model, &system.model) => wide,
            // Some more, for what is held later.
            _ => System::new(system.model.clone(), &self.options, columns + columns / 4, 0),
        }
    }

    /// The values of `system`, and the unit vectors of `columns` as directions.
    fn seed(&self, system: &System, y: &[f64], columns: &[usize], wide: &mut System, block: &mut [f64]) {
        let (nx, ns, stride) = (self.nx, wide.directions, wide.shape.stride);
        wide.parameters.copy_from_slice(&system.parameters);
        wide.seeds.fill(0.0);
        wide.clock = Clock::fixed(ns, 0);
        wide.not_finite = None;
        for (row, x) in block.chunks_exact_mut(stride).zip(y) {
            row[0] = *x;
        }
        for (k, &z) in columns.iter().enumerate() {
            if z < nx {
                block[z * stride + 1 + k] = 1.0;
            } else if z < nx + system.parameters.len() {
                wide.seeds[(z - nx) * ns + k] = 1.0;
            }
        }
        wide.seeds_changed();
    }

    /// Gives everything that is held after a moment, and moves, its places in z and rows of the map.
    fn hold(&mut self, agenda: &Agenda, wide: &System, columns: &[usize], after: &mut Map) {
        let mut held = vec![];
        for (what, rows) in agenda.held(wide.directions) {
            let before = self.held.iter().find(|h| h.0 == what).copied();
            let unit = |row: &[f64], place: usize| {
                columns.iter().zip(row).all(|(&column, &v)| v == if column == place { 1.0 } else { 0.0 }) && columns.contains(&place)
            };
            if let Some((_, first)) = before.filter(|(_, first)| rows.iter().enumerate().all(|(k, row)| unit(row, first + k))) {
                held.push((what, first));
            } else if rows.iter().any(|row| row.iter().any(|v| *v != 0.0)) {
                held.push((what, self.length));
                for row in rows {
                    let entries = columns.iter().zip(row).filter(|(_, v)| **v != 0.0);
                    after.0.extend(entries.map(|(&column, &v)| (self.length as u32, column as u32, v)));
                    self.length += 1;
                }
            }
        }
        self.held = held;
    }

    /// Begins a stretch with these parameters; `outputs` were written at the moment before it.
    pub fn begin_piece(&mut self, parameters: &[f64], outputs: Range<usize>) {
        let mut piece = self.spare.pop().unwrap_or_default();
        piece.moment = self.moment.take();
        piece.outputs = outputs.end..outputs.end;
        piece.outputs_at = outputs;
        piece.parameters.clear();
        piece.parameters.extend_from_slice(parameters);
        piece.times.clear();
        piece.states.clear();
        self.pieces.push(piece);
    }

    /// Ends the stretch: all outputs before number `end` are written.
    pub fn end_piece(&mut self, end: usize) {
        self.pieces.iter_mut().next_back().into_iter().for_each(|piece| piece.outputs.end = end);
    }

    /// Notes states on the way.
    pub fn state(&mut self, t: f64, x: &[f64]) {
        let Some(piece) = self.pieces.last_mut() else { return };
        self.sizes.iter_mut().zip(x).for_each(|(size, x)| *size = size.max(x.abs()));
        if piece.times.last().is_some_and(|last| t <= *last) {
            return;
        }
        if let [.., before, last] = piece.times[..] {
            let ratio = (t - last) / (last - before);
            if ratio * UNEVEN < 1.0 || ratio > UNEVEN {
                piece.times.pop();
                piece.states.truncate(piece.times.len() * self.nx);
            }
        }
        piece.times.push(t);
        piece.states.extend_from_slice(x);
    }
}

/// The map to the states and parameters of a block whose directions are the unit vectors of `columns`.
fn map(nx: usize, columns: &[usize], wide: &System, block: &[f64]) -> Map {
    let (ns, stride) = (wide.directions, wide.shape.stride);
    let states = block.chunks_exact(stride).map(|row| &row[1..1 + ns]);
    let parameters = wide.seeds.chunks_exact(ns.max(1));
    let mut entries = vec![];
    for (z, row) in states.chain(parameters).enumerate() {
        for (&column, &v) in columns.iter().zip(row) {
            let difference = v - if z == column { 1.0 } else { 0.0 };
            if difference != 0.0 {
                entries.push((z as u32, column as u32, difference));
            }
        }
    }
    debug_assert_eq!(block.len(), nx * stride);
    Map(entries)
}

/// States and parameters whose derivatives moments use or replace, as places in z. All others pass unchanged: a moving time shifts
/// the states, but by how much depends on the sources alone.
fn sources(model: &CompiledModel, changes: &[PeriodChange]) -> Vec<usize> {
    let (nx, np) = (model.states.len(), model.parameters.len());
    let mut found = BTreeSet::new();
    let mut function = |f: &Function| {
        found.extend(f.dx.columns.iter().map(|c| *c as usize));
        found.extend(f.dp.columns.iter().map(|c| nx + *c as usize).filter(|z| *z < nx + np));
    };
    let assignments = |a: &Assignments, function: &mut dyn FnMut(&Function)| {
        function(&a.values);
        a.volumes.iter().for_each(|volumes| function(volumes));
    };
    changes.iter().for_each(|c| assignments(&c.assignments, &mut function));
    for event in &model.events {
        assignments(&event.assignments, &mut function);
        event.delay.iter().for_each(&mut function);
    }
    function(&model.roots);
    function(&model.invariants.residuals);
    let targets = changes.iter().map(|c| &c.assignments).chain(model.events.iter().map(|e| &e.assignments)).flat_map(|a| &a.targets);
    found.extend(targets.map(|target| match *target {
        Target::State(i) => i,
        Target::Parameter(b) => nx + b,
    }));
    found.extend(model.invariants.places.iter().map(|p| p.1));
    found.into_iter().collect()
}
