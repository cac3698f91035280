//! Reference data for the tests of the mixed-effects likelihoods.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code)]

pub mod models;

use std::path::PathBuf;

/// A file of the shared reference data, or `None` with a visible note where the data are absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MIXODE_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let file = root.join(path);
    if file.exists() {
        return Some(file);
    }
    eprintln!("LEFT OUT: no reference data `{path}` (set MIXODE_SHARED to the folder that holds them)");
    None
}

/// The numbered oracles of NLME.md section 7.
pub fn oracles() -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(shared("nlme/oracles/oracles.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

pub fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

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
