//! From a path to a [`Problem`]: finds the problem file, reads all files, then table by table.

use super::files::Files;
use super::measurements::Context;
use super::problem_file::{FileName, NlmeFile, ProblemFile};
use super::table::Table;
use super::{
    Nlme, OriginalTables, Problem, Version, experiments, lint, measurements, observables, parameters, population, problem_file,
    random_effects, statistics, visualization, yaml,
};
use crate::diag::{Diagnostics, Source};
use rustc_hash::FxHashSet;
use std::path::Path;

/// Reads the problem whose YAML file is `path` (or that lies in the folder `path`). Everything wrong is reported; `None`
/// if there was an error.
///
/// In a folder the problem is `problem.yaml`, else the only YAML file; in an archive, the one that its manifest marks as master first.
/// Names of files in messages are written from the same place as `path`.
pub fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Problem> {
    let mut found = Diagnostics::new();
    let problem = read_what_is_there(path, None, &mut found);
    let failed = found.has_errors();
    diagnostics.append(found);
    problem.filter(|_| !failed)
}

/// Like [`read`], but gives the parts that could be read even if others have errors, so that the model can be checked in
/// the same go. Such a problem is incomplete and only good for further checks. `entry` names the problem file of an archive.
pub fn read_what_is_there(path: &Path, entry: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Problem> {
    let mut files = Files::find(path, entry, diagnostics)?;
    let source = files.problem_file(diagnostics)?;
    let root = yaml::parse(&source, diagnostics)?;
    problem_file::read(&source, &root, diagnostics).and_then(|file| read_files(files, &file, diagnostics))
}

/// Reads everything that the problem file names.
fn read_files(mut files: Files, file: &ProblemFile, d: &mut Diagnostics) -> Option<Problem> {
    let model = file.model.as_ref().and_then(|name| files.named(name, d));
    let mut missing = false;
    // The tables of one kind, and whether all of them could be split into cells.
    let mut tables = |kind: &'static str, names: &[FileName], d: &mut Diagnostics| -> (Vec<Table>, bool) {
        let sources: Vec<Option<Source>> = names.iter().map(|name| files.named(name, d)).collect();
        missing |= sources.iter().any(Option::is_none);
        let tables: Vec<Table> = sources.into_iter().flatten().filter_map(|source| Table::parse(kind, &source, d)).collect();
        let complete = tables.len() == names.len();
        (tables, complete)
    };
    let (parameter_tables, mut parameters_complete) = tables("parameter", &file.parameters, d);
    let (observable_tables, mut observables_complete) = tables("observable", &file.observables, d);
    let (condition_tables, conditions_complete) = tables("condition", &file.conditions, d);
    let (experiment_tables, mut experiments_complete) = tables("experiment", &file.experiments, d);
    let (mapping_tables, _) = tables("mapping", &file.mappings, d);
    let (measurement_tables, _) = tables("measurement", &file.measurements, d);
    let none = NlmeFile::default();
    let extension = file.nlme.as_ref().unwrap_or(&none);
    let (hyper_tables, mut hyper_complete) = tables("hyperparameter", &extension.hyperparameters, d);
    let (effect_tables, effects_complete) = tables("random-effect", &extension.random_effects, d);
    let (covariance_tables, covariance_complete) = tables("covariance", &extension.covariance, d);
    let (event_tables, events_complete) = tables("event", &extension.events, d);
    let (statistic_tables, statistics_complete) = tables("statistics", &extension.statistics, d);
    if missing || !file.complete || !events_complete || !statistics_complete {
        // What a missing table defines would be reported as undefined all over the others.
        return None;
    }

    let version = if file.version == 1 { Version::V1 } else { Version::V2 };
    let mut parameters = parameters::read(&parameter_tables, version, false, &mut parameters_complete, d);
    let core = parameters.len();
    parameters.extend(parameters::read(&hyper_tables, version, true, &mut hyper_complete, d));
    let observables = observables::read(&observable_tables, version, &mut observables_complete, d);
    let conditions = match version {
        Version::V1 => experiments::read_conditions_v1(&condition_tables, conditions_complete, d),
        Version::V2 => experiments::read_conditions_v2(&condition_tables, conditions_complete, d),
    };
    let planned =
        (version == Version::V2).then(|| experiments::read_experiments(&experiment_tables, &conditions, &mut experiments_complete, d));
    let aliases = lint::mappings(&mapping_tables, d);
    lint::columns(&parameter_tables, &observable_tables, &measurement_tables, version, d);

    let events = statistics::read_events(&event_tables, d);
    let ids: Vec<&str> = parameters.iter().map(|p| p.id.as_str()).collect();
    let statistics = statistics::read_statistics(&statistic_tables, &observables, parameters_complete.then_some(&ids), d);
    let known = file.nlme.as_ref().map(|_| population::Known { events: &events, statistics: &statistics });
    let core_ids: FxHashSet<&str> = ids[..core].iter().copied().collect();
    let is_parameter = |id: &str| {
        // Version 1 allows the model's own parameters too. The model is not read here, but an id that stands nowhere in it
        // as an attribute's value is surely not one of them.
        let in_model = |m: &Source| m.text().contains(&format!("\"{id}\"")) || m.text().contains(&format!("'{id}'"));
        !parameters_complete
            || core_ids.contains(id)
            || (version == Version::V1 && (conditions.targets.contains_key(id) || model.as_ref().is_none_or(in_model)))
    };
    let context = Context {
        version,
        observables: &observables,
        complete: (observables_complete, experiments_complete),
        conditions: &conditions,
        planned: planned.as_ref(),
        is_parameter: &is_parameter,
        parameter_ids: &ids,
        model_id: file.model_id.as_deref(),
        nlme: known.as_ref(),
    };
    let measured = measurements::read(&measurement_tables, &context, d);
    measured.individuals.check(d);

    let nlme = file.nlme.as_ref().map(|file| {
        let defined: Vec<&str> = match &planned {
            Some(planned) => planned.keys().map(String::as_str).collect(),
            None => conditions.by_id.keys().map(String::as_str).collect(),
        };
        let all = parameters_complete && hyper_complete && experiments_complete && effects_complete && covariance_complete;
        let (mut random_effects, mut covariance) = (Vec::new(), Vec::new());
        if all {
            random_effects = random_effects::read(&effect_tables, &parameters, &measured.experiments, &defined, d);
            covariance = random_effects::read_covariance(&covariance_tables, &random_effects, &parameters, d);
        }
        let individuals = measured.individuals.list;
        Nlme { random_effects, covariance, individuals, defaults: file.defaults.clone(), events, statistics }
    });
    lint::problem(version, &parameters, &observables, &conditions, planned.as_ref(), parameters_complete, d);
    if !d.has_errors() {
        lint::unmeasured(&observables, &measured.measurements, nlme.as_ref().map_or(&[], |n| &n.statistics), d);
    }

    let data = visualization::Data {
        observables: &observables,
        conditions: &condition_tables,
        tables: &measurement_tables,
        measurements: &measured.measurements,
        rows: &measured.rows,
    };
    let plots = visualization::read(&file.visualizations, &mut files, &data, d);

    Some(Problem {
        version,
        name: file.id.clone().unwrap_or_else(|| files.name()),
        path: files.problem,
        files: files.read,
        model: model?,
        aliases,
        parameters,
        observables,
        experiments: measured.experiments,
        measurements: measured.measurements,
        nlme,
        plots,
        tables: OriginalTables {
            parameters: parameter_tables.into_iter().chain(hyper_tables).collect(),
            tables: measurement_tables,
            rows: measured.rows,
        },
    })
}
