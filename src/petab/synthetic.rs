//! A problem with other data: all its files, with new rows in the measurement tables and the true parameters as nominal values.

use super::table::{Table, parse_number};
use super::write::tab_separated;
use super::{Censoring, DataKind, Problem};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::io::Error;
use std::path::{Component, Path};

/// A new row that takes the place of an existing one.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticRow {
    /// The existing row whose design it has, by number among the measurements of all parts.
    pub measurement: usize,
    /// Number of the new individual, where these are new.
    pub individual: Option<usize>,
    /// Measured value. That of an event is its time as well.
    pub value: f64,
    /// Censoring.
    pub censoring: Censoring,
    /// Number of individuals that a snapshot row stands for.
    pub cells: Option<u64>,
}

/// Name of the table of the true parameters among the files.
const TRUTH: &str = "truth.tsv";

/// The files of `problem`, name and text, with `rows` as its data and `natural` (one value per entry of [`Problem::parameters`]) as nominal values.
/// Files keep their names where these stay within the problem's folder. The problem file is `problem.yaml`.
///
/// Fails where a table cannot be written as text.
pub fn with_data(problem: &Problem, rows: &[SyntheticRow], natural: &[f64]) -> std::io::Result<Vec<(String, String)>> {
    let measurements = measurement_tables(problem, rows)?;
    let parameters = problem.tables.parameters.iter().map(|t| parameter_table(problem, t, natural)).collect::<std::io::Result<Vec<_>>>()?;
    let tables = problem.tables.tables.iter().zip(measurements).chain(problem.tables.parameters.iter().zip(parameters));
    // Of a table that several sub-problems share, each has written its own rows, which is one text with the rows of all.
    let mut written: FxHashMap<&str, String> = FxHashMap::default();
    for (table, text) in tables {
        written
            .entry(table.source().name())
            .and_modify(|known| known.push_str(text.split_once('\n').map_or("", |(_, rest)| rest)))
            .or_insert(text);
    }
    let mut taken: BTreeSet<String> = ["problem.yaml", TRUTH].map(str::to_string).into();
    let mut files = Vec::new();
    let mut renamed = Vec::new();
    for file in problem.files.iter().filter(|f| !f.named.is_empty()) {
        let Some(source) = &file.source else { continue };
        let wanted = file.named[0].text().trim_matches(['\'', '"']);
        let mut name = wanted.to_string();
        if !stays_inside(wanted) || taken.contains(wanted) {
            let base = Path::new(wanted).file_name().and_then(|n| n.to_str()).unwrap_or("file");
            name = base.to_string();
            let mut number = 2;
            while taken.contains(&name) {
                name = format!("{number}_{base}");
                number += 1;
            }
        }
        taken.insert(name.clone());
        renamed.extend(file.named.iter().filter(|span| span.text().trim_matches(['\'', '"']) != name).map(|span| (span, name.clone())));
        files.push((name, written.remove(source.name()).unwrap_or_else(|| source.text().to_string())));
    }
    renamed.sort_by_key(|(span, _)| std::cmp::Reverse(span.range.start));
    let mut yaml = problem
        .files
        .iter()
        .find(|f| f.path == problem.path)
        .and_then(|f| f.source.as_ref())
        .map_or(String::new(), |s| s.text().to_string());
    for (span, name) in renamed {
        yaml.replace_range(span.range.clone(), &format!("'{}'", name.replace('\'', "''")));
    }
    files.insert(0, ("problem.yaml".to_string(), yaml));
    let truth = problem.parameters.iter().zip(natural).map(|(p, value)| format!("{}\t{value:?}\n", p.id));
    files.push((TRUTH.to_string(), std::iter::once("parameterId\tvalue\n".to_string()).chain(truth).collect()));
    Ok(files)
}

fn stays_inside(name: &str) -> bool {
    !name.contains(['\\', ':']) && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Columns that new rows may have and old ones lack.
const NEW_COLUMNS: [&str; 4] = ["individualId", "censoring", "measurementUpper", "sampleSize"];

/// The measurement tables with the new rows: those about no new individual first, in the old order.
fn measurement_tables(problem: &Problem, rows: &[SyntheticRow]) -> std::io::Result<Vec<String>> {
    let origins: Vec<((u32, u32), &DataKind)> =
        problem.parts().flat_map(|p| p.tables.rows.iter().copied().zip(p.measurements.iter().map(|m| &m.kind))).collect();
    let width = rows.iter().filter_map(|r| r.individual).max().map_or(0, |n| (n + 1).to_string().len()).max(4);
    let prefix = free_prefix(&origins);
    let mut texts = Vec::new();
    for (number, table) in problem.tables.tables.iter().enumerate() {
        let mut own: Vec<&SyntheticRow> = rows.iter().filter(|r| origins[r.measurement].0.0 as usize == number).collect();
        own.sort_by_key(|r| (r.individual.map(|i| i + 1), origins[r.measurement].0.1));
        let cell = |r: &SyntheticRow, column: &str| {
            let ((_, row), kind) = origins[r.measurement];
            let old = table.cell(row as usize, table.find(column)).text().to_string();
            match column {
                "measurement" => format!("{:?}", r.value),
                "time" if matches!(kind, DataKind::TimeToEvent { .. }) => format!("{:?}", r.value),
                "individualId" => r.individual.map_or(old, |i| format!("{prefix}{:0width$}", i + 1)),
                "censoring" => match r.censoring {
                    Censoring::None if old == "none" => old,
                    Censoring::None => String::new(),
                    Censoring::Right => "right".into(),
                    Censoring::Left => "left".into(),
                    Censoring::Interval(_) => "interval".into(),
                },
                "measurementUpper" => {
                    if let Censoring::Interval(upper) = r.censoring {
                        format!("{upper:?}")
                    } else {
                        String::new()
                    }
                }
                "sampleSize" => match r.cells {
                    Some(1) if old.is_empty() => old,
                    Some(cells) => cells.to_string(),
                    None => old,
                },
                _ => old,
            }
        };
        let mut names: Vec<&str> = table.columns().map(|(name, _)| name).filter(|name| !name.is_empty()).collect();
        for column in NEW_COLUMNS {
            if !names.contains(&column) && own.iter().any(|r| !cell(r, column).is_empty()) {
                names.push(column);
            }
        }
        texts.push(text(&names, own.iter().map(|r| names.iter().map(|name| cell(r, name)).collect()))?);
    }
    Ok(texts)
}

/// What the names of new individuals begin with, so that they are not those of cells seen once.
fn free_prefix(origins: &[((u32, u32), &DataKind)]) -> String {
    let mut prefix = "c".to_string();
    let numbered = |id: &str, prefix: &str| id.strip_prefix(prefix).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
    while origins.iter().any(|(_, kind)| matches!(kind, DataKind::Snapshot { individual: Some(id), .. } if numbered(id, &prefix))) {
        prefix.push('_');
    }
    prefix
}

/// A parameter table with other nominal values; a number that stays the same keeps its spelling.
fn parameter_table(problem: &Problem, table: &Table, natural: &[f64]) -> std::io::Result<String> {
    const NOMINAL: &str = "nominalValue";
    let mut names: Vec<&str> = table.columns().map(|(name, _)| name).filter(|name| !name.is_empty()).collect();
    if !names.contains(&NOMINAL) {
        names.push(NOMINAL);
    }
    let rows = (0..table.rows()).map(|row| {
        let id = table.cell(row, table.find("parameterId")).text();
        let value = problem.parameters.iter().position(|p| p.id == id).and_then(|j| natural.get(j));
        let cell = |name: &&str| {
            let old = table.cell(row, table.find(name)).text();
            match value.filter(|v| *name == NOMINAL && parse_number(old) != Some(**v)) {
                Some(value) => format!("{value:?}"),
                None => old.to_string(),
            }
        };
        names.iter().map(cell).collect()
    });
    text(&names, rows)
}

fn text(names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    {
        let mut writer = tab_separated(&mut bytes);
        writer.write_record(names)?;
        for row in rows {
            writer.write_record(&row)?;
        }
        writer.flush()?;
    }
    String::from_utf8(bytes).map_err(Error::other)
}
