//! Reference data for the tests of the mixed-effects likelihoods.
#![allow(clippy::unwrap_used, dead_code)]

pub mod models;

#[path = "../reference_data/mod.rs"]
mod reference_data;

#[allow(unused_imports)]
pub use reference_data::{numbers, oracles, shared};

pub fn matrix(value: &serde_json::Value) -> nalgebra::DMatrix<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(numbers).collect();
    nalgebra::DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

/// Rows of a tab-separated table as maps from column to text.
pub fn table(path: &str) -> Option<Vec<std::collections::HashMap<String, String>>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(shared(path)?).unwrap();
    Some(reader.deserialize().map(Result::unwrap).collect())
}

/// |a - b| <= tolerance * max(|b|, floor): relative to the reference, absolute below the floor.
#[track_caller]
pub fn close(a: f64, b: f64, tolerance: f64, floor: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(floor), "{a} is not {b}: difference {:e}, tolerance {tolerance:e}", a - b);
}

/// Each entry is close relative to the largest reference entry.
#[track_caller]
pub fn close_all(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    for (k, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "entry {k}: {x} is not {y}: difference {:e}, scale {scale:e}\n{a:?}\n{b:?}", x - y);
    }
}
