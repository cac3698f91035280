//! Tables out: simulations in the form of the measurement table (v1 and v2 "Simulation table"), estimates in the form of the
//! parameter table.

use super::Problem;
use super::table::Table;
use std::io::{Error, ErrorKind, Write};

/// Writes the simulation table: the measurement tables' columns and rows as they stand in the files, with a column
/// `simulation` in the place of `measurement`.
///
/// `simulations` has one value per entry of [`Problem::measurements`], of all parts in turn; rows without a measurement, which are not among
/// these, are left out. Of several files the columns are united, as in the measurement table they form together.
/// Fails if the lengths differ or `out` cannot be written.
pub fn write_simulations(problem: &Problem, simulations: &[f64], out: &mut dyn Write) -> std::io::Result<()> {
    let rows: Vec<(u32, u32)> = problem.parts().flat_map(|p| &p.tables.rows).copied().collect();
    if simulations.len() != rows.len() {
        let message = format!("{} simulated values for {} measurements", simulations.len(), rows.len());
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let names = united_columns(&problem.tables.tables);
    let mut writer = tab_separated(out);
    writer.write_record(names.iter().map(|name| if *name == "measurement" { "simulation" } else { name }))?;
    let positions: Vec<Vec<Option<usize>>> = problem.tables.tables.iter().map(|t| names.iter().map(|n| t.find(n)).collect()).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| rows[*i]);
    for i in order {
        let ((table, row), value) = (rows[i], simulations[i]);
        let (table, columns) = (&problem.tables.tables[table as usize], &positions[table as usize]);
        for (name, column) in names.iter().zip(columns) {
            if *name == "measurement" {
                // The shortest text that reads back as the same number; small and large ones with an exponent.
                writer.write_field(format!("{value:?}"))?;
            } else {
                writer.write_field(table.cell(row as usize, *column).text())?;
            }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}

/// Writes the parameter table (that of hyperparameters of `nlme` after it) as it stands in the files, with `values` (natural scale, one per
/// entry of [`Problem::parameters`]) as nominal values of what is estimated. So the next run can begin with the estimates.
///
/// Fails if `out` cannot be written.
pub fn write_parameters(problem: &Problem, values: &[f64], out: &mut dyn Write) -> std::io::Result<()> {
    const NOMINAL: &str = "nominalValue";
    let mut names = united_columns(&problem.tables.parameters);
    if !names.contains(&NOMINAL) {
        names.push(NOMINAL);
    }
    let mut writer = tab_separated(out);
    writer.write_record(&names)?;
    for table in problem.tables.parameters.iter() {
        let id = table.find("parameterId");
        for row in 0..table.rows() {
            let name = table.cell(row, id).text();
            let place = problem.parameters.iter().position(|p| p.id == name && p.estimate);
            for column in &names {
                match place.filter(|_| *column == NOMINAL).and_then(|j| values.get(j)) {
                    Some(value) => writer.write_field(format!("{value:?}"))?,
                    None => writer.write_field(table.cell(row, table.find(column)).text())?,
                }
            }
            writer.write_record(None::<&[u8]>)?;
        }
    }
    writer.flush()
}

/// The columns of several tables together, in order of first appearance.
fn united_columns(tables: &[Table]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in tables.iter().flat_map(Table::columns) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

pub(super) fn tab_separated(out: &mut dyn Write) -> csv::Writer<&mut dyn Write> {
    csv::WriterBuilder::new().delimiter(b'\t').terminator(csv::Terminator::Any(b'\n')).from_writer(out)
}
