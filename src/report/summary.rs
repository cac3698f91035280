//! The page for the terminal, `summary.json` and `run.json`.

use serde_json::{Map, Value, json};

use super::number::{general, objective, seconds};
use super::{RunResults, tables};

/// Distance from the best objective within which a start counts as having found the same optimum.
pub const PLATEAU: f64 = 0.1;

/// Shrinkage above which empirical Bayes estimates say little about single cells (Savic & Karlsson 2009, AAPS J 11:558).
pub const SHRINKAGE_LIMIT: f64 = 0.3;

/// How many starts there are, ended with a value, converged, and are on the best plateau.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartCounts {
    pub total: usize,
    pub finite: usize,
    pub converged: usize,
    pub plateau: usize,
}

/// Counts of the starts.
pub fn counts(results: &RunResults) -> StartCounts {
    let starts = &results.fit.starts;
    let best = results.fit.best().map_or(f64::NAN, |s| s.value);
    StartCounts {
        total: starts.len(),
        finite: starts.iter().filter(|s| s.value.is_finite()).count(),
        converged: starts.iter().filter(|s| s.stop.converged() && s.value.is_finite()).count(),
        plateau: starts.iter().filter(|s| s.value - best <= PLATEAU).count(),
    }
}

/// The page for the terminal.
pub fn text(results: &RunResults) -> String {
    let (o, n) = (&results.objective, counts(results));
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let found = match n {
        StartCounts { total: 0, .. } => "no optimisation".to_owned(),
        StartCounts { finite: 0, total, .. } => format!("none of {total} starts ended with a value"),
        _ => format!("found by {} of {} starts (within {PLATEAU}) · {} converged", n.plateau, n.total, n.converged),
    };
    line(format!("best {} {} · {found}", o.name(), objective(o.nllh, 3)));
    if let Some(log_prior) = o.log_prior {
        line(format!("−log L {} · −log prior {} · AIC and BIC take the likelihood there", objective(-o.llh, 3), objective(-log_prior, 3)));
    }
    line(format!(
        "AIC {} · BIC {} (n = {}) · −2 log L {} ({}{})",
        objective(o.aic, 2),
        objective(o.bic, 2),
        o.bic_n,
        objective(o.minus2ll, 2),
        o.method,
        o.standard_error.map(|s| format!(", SE {}", general(s, 2))).unwrap_or_default()
    ));
    line(format!(
        "{} parameters · {} measurements · {} individuals · {} · seed {}",
        o.n_parameters,
        o.n_data,
        o.n_individuals,
        seconds(results.info.seconds),
        results.info.seed
    ));
    if !results.parameters.is_empty() {
        line(String::new());
        let mut rows = vec![["parameter", "estimate", "SE", "RSE", "95 % interval", ""].map(str::to_owned)];
        let optional = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| general(v, 3));
        for p in &results.parameters {
            let interval = match (p.lower95, p.upper95) {
                (Some(a), Some(b)) => format!("{} … {}", general(a, 3), general(b, 3)),
                _ => "–".to_owned(),
            };
            let rse = p.rse.map_or_else(|| "–".to_owned(), |r| format!("{} %", general(100.0 * r, 2)));
            let flag = if p.at_bound { "at bound" } else { "" };
            rows.push([p.id.clone(), general(p.estimate, 4), optional(p.standard_error), rse, interval, flag.to_owned()]);
        }
        columns(&rows, 1).into_iter().for_each(&mut line);
    }
    if !results.random_effects.is_empty() {
        line(String::new());
        let mut rows = vec![["random effect", "on", "SD", "CV between cells", "shrinkage", ""].map(str::to_owned)];
        for e in &results.random_effects {
            let cv = e.cv_percent.map_or_else(|| "–".to_owned(), |c| format!("{} %", general(c, 3)));
            let shrinkage = e.shrinkage.map_or_else(|| "–".to_owned(), |s| format!("{:.0} %", 100.0 * s));
            let flag = if e.shrinkage.is_some_and(|s| s > SHRINKAGE_LIMIT) { "!" } else { "" };
            rows.push([e.id.clone(), e.target.clone(), general(e.sd, 3), cv, shrinkage, flag.to_owned()]);
        }
        columns(&rows, 2).into_iter().for_each(&mut line);
        if results.random_effects.iter().any(|e| e.shrinkage.is_some_and(|s| s > SHRINKAGE_LIMIT)) {
            line("! shrinkage above 30 %: the estimates of single cells say little about this effect".to_owned());
        }
    }
    if !results.info.warnings.is_empty() {
        line(String::new());
        results.info.warnings.iter().for_each(|w| line(w.clone()));
    }
    out
}

/// Columns beside each other: the first `left` flush left, the others flush right, the last one flush left.
fn columns<const N: usize>(rows: &[[String; N]], left: usize) -> Vec<String> {
    let length = |s: &String| s.chars().count();
    let widths: [usize; N] = std::array::from_fn(|i| rows.iter().map(|r| length(&r[i])).max().unwrap_or(0));
    rows.iter()
        .map(|row| {
            let cells = row.iter().enumerate().map(|(i, cell)| {
                let space = " ".repeat(widths[i] - length(cell));
                if i < left || i + 1 == N { format!("{cell}{space}") } else { format!("{space}{cell}") }
            });
            cells.collect::<Vec<_>>().join("  ")
        })
        .collect()
}

/// `summary.json`. Numbers that are not finite are null.
pub fn json(results: &RunResults) -> String {
    let (o, n) = (&results.objective, counts(results));
    let parameters: Map<String, Value> = results.parameters.iter().map(|p| (p.id.clone(), json!(p.estimate))).collect();
    let value = json!({
        "schema": "mixode-summary-1",
        "nllh": o.nllh,
        "llh": o.llh,
        "log_prior": o.log_prior,
        "minus2LL": { "value": o.minus2ll, "method": o.method, "standard_error": o.standard_error },
        "parameters": parameters,
        "starts": { "total": n.total, "converged": n.converged, "within_0.1_of_best": n.plateau },
        "seconds": results.info.seconds,
        "aic": o.aic,
        "bic": o.bic,
    });
    pretty(&value)
}

/// `run.json`: where the results come from.
pub fn provenance(results: &RunResults) -> String {
    let info = &results.info;
    let inputs: Vec<Value> = info.inputs.iter().map(|(path, hash)| json!({ "path": path, "sha256": hash })).collect();
    let stops: Vec<&str> = results.fit.starts.iter().map(|s| tables::stop(&s.stop)).collect();
    let mut reasons = Map::new();
    for stop in ["gradient", "function", "step", "iterations", "interrupted", "failed"] {
        reasons.insert(stop.to_owned(), json!(stops.iter().filter(|s| **s == stop).count()));
    }
    let value = json!({
        "schema": "mixode-run-1",
        "problem": info.problem,
        "version": info.version,
        "command": info.command,
        "seed": info.seed,
        "threads": info.threads,
        "seconds": info.seconds,
        "host": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH },
        "inputs": inputs,
        "options": info.options,
        "stops": reasons,
        "warnings": info.warnings,
    });
    pretty(&value)
}

fn pretty(value: &Value) -> String {
    // The alternate form of a JSON value is indented and never fails.
    format!("{value:#}\n")
}
