//! The visualization table (v1 "Visualization table"): which data share a figure, and how it is drawn.
//!
//! It changes no number, so whatever is wrong with it is a warning, and a row that cannot be understood is left out.

use super::files::Files;
use super::problem_file::FileName;
use super::table::{Cell, Repeated, Table, parse_number};
use super::{Measurement, Observable};
use crate::diag::{Diagnostic, Diagnostics};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

/// How simulations are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotType {
    /// A line over the abscissae.
    Line,
    /// A bar for each dataset.
    Bar,
    /// Simulations over measurements.
    Scatter,
}

/// How measurements at one abscissa are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// Mean and standard deviation.
    MeanAndSd,
    /// Mean and standard error of the mean.
    MeanAndSem,
    /// Each for itself.
    Replicate,
    /// Each with its noise.
    Provided,
}

/// Scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotScale {
    /// Linear.
    Linear,
    /// Logarithmic, natural or decadic: these differ in nothing but ticks.
    Logarithmic,
    /// Values in their order, equally spaced.
    Order,
}

/// A figure: the rows of one `plotId`.
#[derive(Debug, Clone)]
pub struct Plot {
    /// `plotName`, else `plotId`.
    pub title: String,
    /// How simulations are drawn.
    pub kind: PlotType,
    /// How measurements are drawn.
    pub data: DataType,
    /// Name of the abscissa.
    pub x_label: String,
    /// Name of the ordinate.
    pub y_label: String,
    /// Scale of the abscissa.
    pub x_scale: PlotScale,
    /// Scale of the ordinate.
    pub y_scale: PlotScale,
    /// Whether abscissae are times.
    pub over_time: bool,
    /// Names of the abscissae 0, 1, ... where they are conditions.
    pub conditions: Vec<String>,
    /// The rows.
    pub datasets: Vec<Dataset>,
}

/// A row: some measurements and their simulations.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// `legendEntry`, else the dataset's or the observable's id.
    pub legend: String,
    /// Measurements, as indices into [`super::Problem::measurements`], with their abscissae; NaN where a condition's value is no number.
    pub points: Vec<(usize, f64)>,
    /// Added to abscissae.
    pub x_offset: f64,
    /// Added to measurements and simulations.
    pub y_offset: f64,
}

const PLOT_TYPES: [(&str, PlotType); 3] = [("LinePlot", PlotType::Line), ("BarPlot", PlotType::Bar), ("ScatterPlot", PlotType::Scatter)];

const DATA_TYPES: [(&str, DataType); 4] = [
    ("MeanAndSD", DataType::MeanAndSd),
    ("MeanAndSEM", DataType::MeanAndSem),
    ("replicate", DataType::Replicate),
    ("provided", DataType::Provided),
];

const SCALES: [(&str, PlotScale); 4] =
    [("lin", PlotScale::Linear), ("log", PlotScale::Logarithmic), ("log10", PlotScale::Logarithmic), ("order", PlotScale::Order)];

/// What the table refers to.
pub struct Data<'a> {
    /// Observable table.
    pub observables: &'a [Observable],
    /// Condition tables.
    pub conditions: &'a [Table],
    /// Measurement tables.
    pub tables: &'a [Table],
    /// Measurements.
    pub measurements: &'a [Measurement],
    /// Table and row of each.
    pub rows: &'a [(u32, u32)],
}

/// Reads the visualization tables.
pub fn read(names: &[FileName], files: &mut Files, data: &Data, diagnostics: &mut Diagnostics) -> Vec<Plot> {
    let mut d = Diagnostics::new();
    let mut plots = IndexMap::new();
    for name in names {
        let table = files.named(name, &mut d).and_then(|source| Table::parse("visualization", &source, &mut d));
        if let Some(table) = table {
            read_table(&table, data, &mut plots, &mut d);
        }
    }
    d.group(0);
    diagnostics.append_as_warnings(d);
    plots.into_values().collect()
}

fn read_table(table: &Table, data: &Data, plots: &mut IndexMap<String, Plot>, d: &mut Diagnostics) {
    let Some(plot_id) = table.require("plotId", &[], d) else { return };
    let mut undefined = Repeated::default();
    let lookup = Lookup::new(data);
    for row in 0..table.rows() {
        let cell = |name: &str| table.cell(row, table.find(name));
        let given = |name: &str| Some(cell(name)).filter(|c| !c.is_missing()).map(|c| c.text());
        let Some(id) = Some(table.cell(row, Some(plot_id))).filter(|c| !c.is_missing()).map(|c| c.text()) else {
            table.cell(row, Some(plot_id)).empty("the figure that the row belongs to", d);
            continue;
        };
        let (kind, data_type) = (cell("plotTypeSimulation").word(&PLOT_TYPES, d), cell("plotTypeData").word(&DATA_TYPES, d));
        // Only abscissae can be in order.
        let (x_scale, y_scale) = (cell("xScale").word(&SCALES, d), cell("yScale").word(&SCALES[..3], d));
        let offsets = [cell("xOffset").optional_number(d), cell("yOffset").optional_number(d)];
        let chosen = lookup.row(&cell("datasetId"), &cell("yValues"), &cell("xValues"), &mut undefined);
        let (Ok(kind), Ok(data_type), Ok(x_scale), Ok(y_scale), [Ok(x_offset), Ok(y_offset)], Some((x, points))) =
            (kind, data_type, x_scale, y_scale, offsets, chosen)
        else {
            continue;
        };
        // What concerns the figure, its first row says.
        let plot = plots.entry(id.to_string()).or_insert_with(|| Plot {
            title: given("plotName").unwrap_or(id).to_string(),
            kind: kind.unwrap_or(PlotType::Line),
            data: data_type.unwrap_or(DataType::MeanAndSd),
            x_label: given("xLabel").unwrap_or(x).to_string(),
            y_label: given("yLabel").or(given("yValues")).unwrap_or("values").to_string(),
            x_scale: x_scale.unwrap_or(PlotScale::Linear),
            y_scale: y_scale.unwrap_or(PlotScale::Linear),
            over_time: x == "time",
            conditions: if x == "condition" { lookup.conditions.keys().map(|c| c.to_string()).collect() } else { Vec::new() },
            datasets: Vec::new(),
        });
        let legend = given("legendEntry").or(given("datasetId")).or(given("yValues")).unwrap_or("data").to_string();
        plot.datasets.push(Dataset { legend, points, x_offset: x_offset.unwrap_or(0.0), y_offset: y_offset.unwrap_or(0.0) });
    }
    undefined.finish(d);
}

/// The tables by what visualization rows ask for.
struct Lookup<'a> {
    data: &'a Data<'a>,
    /// Measurements by `datasetId`.
    datasets: FxHashMap<&'a str, Vec<usize>>,
    /// Table and row of conditions.
    conditions: IndexMap<&'a str, (&'a Table, usize)>,
}

impl<'a> Lookup<'a> {
    fn new(data: &'a Data<'a>) -> Self {
        let mut datasets: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
        // A dataset all of whose rows were left out is no mistake of this table.
        for table in data.tables {
            let column = table.find("datasetId");
            datasets.extend((0..table.rows()).map(|row| (table.cell(row, column).text(), Vec::new())));
        }
        for measurement in 0..data.measurements.len() {
            datasets.entry(of_measurement(data, measurement, "datasetId")).or_default().push(measurement);
        }
        let mut conditions = IndexMap::new();
        for table in data.conditions {
            let id = table.find("conditionId");
            conditions.extend((0..table.rows()).map(|row| (table.cell(row, id).text(), (table, row))));
        }
        Lookup { data, datasets, conditions }
    }

    /// What a row shows: the abscissa's name, and measurements with their abscissae. `None` if it shows nothing that is defined.
    fn row<'c>(
        &self,
        dataset: &Cell<'c>,
        observable: &Cell<'c>,
        abscissa: &Cell<'c>,
        undefined: &mut Repeated,
    ) -> Option<(&'c str, Vec<(usize, f64)>)> {
        let known = dataset.is_missing() || self.datasets.contains_key(dataset.text());
        if !known {
            unknown("dataset", dataset, "no row of the measurement table has this `datasetId`", self.datasets.keys().copied(), undefined);
        }
        let index = self.data.observables.iter().position(|o| o.id == observable.text());
        if index.is_none() && !observable.is_missing() {
            unknown(
                "observable",
                observable,
                "there is no such observable",
                self.data.observables.iter().map(|o| o.id.as_str()),
                undefined,
            );
            return None;
        }
        let x = if abscissa.is_missing() { "time" } else { abscissa.text() };
        let columns = || self.data.conditions.iter().flat_map(|t| t.columns().map(|(name, _)| name)).filter(|name| *name != "conditionId");
        if !["time", "condition"].contains(&x) && columns().all(|name| name != x) {
            unknown(
                "abscissa",
                abscissa,
                "neither `time` nor a column of the condition table",
                columns().chain(["time", "condition"]),
                undefined,
            );
            return None;
        }
        if !known {
            return None;
        }
        let all: Vec<usize>;
        let rows = if dataset.is_missing() {
            all = (0..self.data.measurements.len()).collect();
            &all
        } else {
            self.datasets.get(dataset.text())?
        };
        let shown = rows.iter().filter(|i| index.is_none_or(|o| self.data.measurements[**i].observable == o));
        Some((x, shown.map(|i| (*i, self.abscissa(*i, x))).collect()))
    }

    fn abscissa(&self, measurement: usize, x: &str) -> f64 {
        let condition = || of_measurement(self.data, measurement, "simulationConditionId");
        match x {
            "time" => self.data.measurements[measurement].time,
            "condition" => self.conditions.get_index_of(condition()).map_or(f64::NAN, |i| i as f64),
            column => {
                let row = self.conditions.get(condition());
                let cell = row.and_then(|(table, row)| Some(table.cell(*row, Some(table.find(column)?))));
                cell.and_then(|c| parse_number(c.text())).unwrap_or(f64::NAN)
            }
        }
    }
}

/// A cell of the row that a measurement comes from.
fn of_measurement<'a>(data: &Data<'a>, measurement: usize, column: &str) -> &'a str {
    let (table, row) = data.rows[measurement];
    let table = &data.tables[table as usize];
    table.cell(row as usize, table.find(column)).text()
}

fn unknown<'n>(what: &str, cell: &Cell, label: &str, known: impl Iterator<Item = &'n str>, undefined: &mut Repeated) {
    let text = cell.text();
    undefined.push(format!("{what} {text}"), || {
        Diagnostic::warning("P0521", format!("the visualization table shows the {what} `{text}`, which is not defined"))
            .at(&cell.span(), label)
            .suggest(text, known)
    });
}
