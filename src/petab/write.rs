//! Tables out: simulations in the form of the measurement table (v1 and v2 "Simulation table").

use super::Problem;
use std::io::{Error, ErrorKind, Write};

/// Writes the simulation table: the measurement tables' columns and rows as they stand in the files, with a column
/// `simulation` in the place of `measurement`.
///
/// `simulations` has one value per entry of [`Problem::measurements`]; rows without a measurement, which are not among
/// these, are left out. Of several files the columns are united, as in the measurement table they form together.
/// Fails if the lengths differ or `out` cannot be written.
pub fn write_simulations(problem: &Problem, simulations: &[f64], out: &mut dyn Write) -> std::io::Result<()> {
    let rows = &problem.tables.rows;
    if simulations.len() != rows.len() {
        let message = format!("{} simulated values for {} measurements", simulations.len(), rows.len());
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let mut names: Vec<&str> = Vec::new();
    for table in &problem.tables.tables {
        for (name, _) in table.columns() {
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').terminator(csv::Terminator::Any(b'\n')).from_writer(out);
    writer.write_record(names.iter().map(|name| if *name == "measurement" { "simulation" } else { name }))?;
    let positions: Vec<Vec<Option<usize>>> = problem.tables.tables.iter().map(|t| names.iter().map(|n| t.find(n)).collect()).collect();
    for ((table, row), value) in rows.iter().zip(simulations) {
        let (table, columns) = (&problem.tables.tables[*table as usize], &positions[*table as usize]);
        for (name, column) in names.iter().zip(columns) {
            if *name == "measurement" {
                // The shortest text that reads back as the same number; small and large ones with an exponent.
                writer.write_field(format!("{value:?}"))?;
            } else {
                writer.write_field(table.cell(*row as usize, *column).text())?;
            }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}
