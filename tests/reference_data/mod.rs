//! Where the reference data are: `MIXODE_SHARED`, by default the folder `shared` beside the project.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code)]

use std::path::PathBuf;

/// A file or folder of the shared reference data, or `None` with a visible note where the data are absent.
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
