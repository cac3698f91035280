//! NLME.md section 7, O10 (the apoptosis model: states, death times and their derivatives; tolerance 1e-8), and the snapshots of 5.4.
#![allow(clippy::unwrap_used)]

mod oracle_support;

use mixode::petab::DataKind;
use oracle_support::event_support::{Event, Subject, document};
use oracle_support::nlme_support::{close, numbers, oracles, shared};
use oracle_support::{Integration, objective, read, tight, with_rows};
use serde_json::Value;

const KINETICS: [&str; 11] = ["KDR", "KDL", "kon", "koff", "kp55", "kcis", "ktr55", "ktr43", "kp18i", "kB", "kpr"];
const INITIAL: [&str; 6] = ["R0", "F0", "P0", "B0", "ER0", "NES0"];

/// The rate laws of NLME.md 5.2 with the event that tBID reaches the fraction `thr` of BID_0; theta is kinetics, initial amounts, ligand
/// and threshold.
fn apoptosis(kinetics: &[f64], initial: &[f64], ligand: f64, threshold: f64) -> Subject {
    let receptor = "KDL^2*L*R0^3/((L + KDL)*(KDL^2*R0^2 + KDR*L^2 + 2*KDR*KDL*L + KDR*KDL^2))";
    let variables = [
        ("A", receptor, ""),
        ("FADD", "F0", "-kon*A*FADD + koff*DISC"),
        ("DISC", "0*F0", "kon*A*FADD - koff*DISC - kp55*DISC*p55 + kcis*p43 + ktr55*(DISCp55 + p30)*p30 + ktr43*p43*p30"),
        ("p55", "P0", "-kp55*DISC*p55"),
        ("DISCp55", "0*F0", "kp55*DISC*p55 - kcis*DISCp55 - ktr55*(DISCp55 + p30)*DISCp55 - ktr43*p43*DISCp55"),
        ("p30", "0*F0", "kcis*DISCp55 - ktr55*(DISCp55 + p30)*p30 - ktr43*p43*p30"),
        ("p43", "0*F0", "ktr55*(DISCp55 + p30)*DISCp55 + ktr43*p43*DISCp55 - kcis*p43"),
        ("p18", "0*F0", "kcis*p43 + ktr55*(DISCp55 + p30)*p30 + ktr43*p43*p30 - kp18i*p18"),
        ("p18i", "0*F0", "kp18i*p18"),
        ("BID", "B0", "-kB*(p43 + p18)*BID"),
        ("tBID", "0*F0", "kB*(p43 + p18)*BID"),
        ("PrER", "ER0", "-kpr*p18*PrER"),
        ("PrNES", "NES0", "-kpr*(p18 + p43)*PrNES"),
        ("exposure", "0*F0", "A"),
        ("deaths", "0", ""),
    ];
    let names: Vec<&str> = KINETICS.into_iter().chain(INITIAL).chain(["L", "thr"]).collect();
    let values = kinetics.iter().chain(initial).copied().chain([ligand, threshold]);
    let theta: Vec<(String, f64)> = names.iter().map(|n| n.to_string()).zip(values).collect();
    let xml = document(&variables, &names, &[Event::new("tBID > thr*B0", &[("deaths", "deaths + 1")])]);
    Subject::new(&xml, &theta, false).unwrap()
}

fn values(map: &Value, names: &[&str]) -> Vec<f64> {
    names.iter().map(|n| map[n].as_f64().unwrap()).collect()
}

/// The published parameters of both cell lines: active receptor, 12 states at 11 times, death time.
#[test]
fn published_cell_lines() {
    let Some(oracles) = oracles() else { return };
    let names = ["KDR", "KDL", "kon_FADD", "koff_FADD", "kon_p55", "kpd_cis", "ked_tr_p55", "ked_tr_p43", "kp18i", "kBID", "kprobe"];
    for line in ["BIOMD0000000523_CD95HeLa", "BIOMD0000000524_wtHeLa"] {
        let o = &oracles["O10_apoptosis"][line];
        let initial = values(&o["init"], &["CD95", "FADD", "p55", "BID", "PrER", "PrNES"]);
        let subject = apoptosis(&values(&o["kinetics"], &names), &initial, o["CD95L"].as_f64().unwrap(), 0.3136);
        let times = numbers(&o["t"]);
        let trajectory = subject.simulate(&subject.theta, 0, &times, &tight()).unwrap();
        let rows = o["values"].as_array().unwrap();
        assert_eq!((times.len(), rows.len()), (11, 11));
        for (i, row) in rows.iter().enumerate() {
            for (name, expected) in o["states"].as_array().unwrap().iter().zip(numbers(row)) {
                let found = trajectory.block(i)[subject.state(name.as_str().unwrap()) * trajectory.columns];
                close(found, expected, 1e-8, 1e-3);
            }
        }
        close(trajectory.executions[0].time, o["death_time_threshold_0_3136"].as_f64().unwrap(), 1e-8, 0.0);
    }
}

/// The repository's optimum: death times of the typical cell for five doses of both lines, and the derivatives by the logarithms of
/// the kinetic parameters.
#[test]
fn death_times() {
    let Some(oracles) = oracles() else { return };
    let oracle = &oracles["O10_apoptosis"];
    let beta = &oracle["preprint_repo_optimum_scenario1"]["beta_linear"];
    let names = ["KDR", "KDL", "kon_FADD", "koff_FADD", "kon_p55", "kpd_cis", "ked_tr_p55", "ked_tr_p43", "kp18i", "kBID", "kprobes_s_C8"];
    let rows = oracle["preprint_repo_optimum_typical_death_times"].as_array().unwrap();
    assert_eq!(rows.len(), 10);
    let mut derivatives = 0;
    for row in rows {
        let initial = match row["line"].as_str().unwrap() {
            "CD95-HeLa" => ["CD95_0A", "FADD_0", "p55_0", "BID_0", "PrERF1_0A", "PrNESF2_0A"],
            _ => ["CD95_0H", "FADD_0", "p55_0", "BID_0", "PrERF1_0H", "PrNESF2_0H"],
        };
        let threshold = beta["tBID_tapt"].as_f64().unwrap();
        let subject = apoptosis(&values(beta, &names), &values(beta, &initial), row["CD95L"].as_f64().unwrap(), threshold);
        let trajectory = subject.simulate(&subject.theta, 1, &[1000.0], &tight()).unwrap();
        let execution = &trajectory.executions[0];
        close(execution.time, row["typical_death_time_min"].as_f64().unwrap(), 1e-8, 0.0);
        let exposure = trajectory.block(0)[subject.state("exposure") * trajectory.columns];
        close(exposure / 1000.0, row["CD95act"].as_f64().unwrap(), 1e-10, 0.0);
        if row["dt_dlogk_11"].is_array() {
            for (k, expected) in numbers(&row["dt_dlogk_11"]).iter().enumerate() {
                close(execution.clock.first[k] * subject.theta[k], *expected, 1e-8, 1.0);
            }
            derivatives += 1;
        }
    }
    assert_eq!(derivatives, 1);
}

/// NLME.md 5.4: variances of log amounts (volume times concentration) at the start are sums of the two log variances.
#[test]
fn snapshots_in_closed_form() {
    let Some(folder) = shared("problems/apoptosis_published") else { return };
    let problem = with_rows(&read(&folder.join("problem_scenario2.yaml")), |kind| matches!(kind, DataKind::SnapshotStatistic(_)));
    let objective = objective(&problem, tight(), Integration::Laplace);
    let natural = objective.map().nominal().to_vec();
    let variance = |id: &str| natural[problem.parameters.iter().position(|p| p.id == id).unwrap()].powi(2);
    let found = objective.summary(&natural).unwrap().simulations;
    assert_eq!(found.len(), 8);
    for (row, found) in problem.measurements.iter().zip(found) {
        let observable = problem.observables[row.observable].id.trim_start_matches("log_amount_");
        let line = &problem.experiments[row.experiment].id[..1];
        let amount = if observable == "CD95" { format!("omega_CD95_0_{line}") } else { format!("omega_{observable}_0") };
        close(found, variance(&amount) + variance("omega_volume_0"), 1e-10, 0.0);
    }
}
