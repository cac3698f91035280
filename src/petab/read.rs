//! From a path to a [`Problem`]: finds the problem file, reads all files, then table by table.

use super::files::Files;
use super::measurements::Context;
use super::problem_file::{FileName, NlmeFile, PartFiles, ProblemFile};
use super::table::Table;
use super::{
    Nlme, OriginalTables, Parameter, Problem, Version, experiments, lint, measurements, models, observables, parameters, population,
    problem_file, random_effects, statistics, subpopulations, visualization, yaml,
};
use crate::diag::{Diagnostics, Source};
use rustc_hash::FxHashSet;
use std::path::Path;
use std::sync::Arc;

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

/// What the sub-problems of a problem share.
struct Shared<'a> {
    version: Version,
    file: &'a ProblemFile,
    parameters: Vec<Parameter>,
    /// Number of parameters that are no hyperparameters.
    core: usize,
    /// Whether all tables of parameters, and all of hyperparameters, could be read.
    complete: (bool, bool),
    parameter_tables: Vec<Table>,
    /// Tables of hyperparameters, random effects, covariances, events, statistics and subpopulations, and whether those of effects and of covariances are
    /// complete.
    nlme_tables: NlmeTables,
}

struct NlmeTables {
    hyper: Vec<Table>,
    effects: Vec<Table>,
    covariance: Vec<Table>,
    events: Vec<Table>,
    statistics: Vec<Table>,
    subpopulations: Vec<Table>,
    complete: bool,
}

/// The tables of one kind, and whether all of them could be split into cells; `missing` if a file cannot be read.
fn tables(kind: &'static str, names: &[FileName], files: &mut Files, missing: &mut bool, d: &mut Diagnostics) -> (Vec<Table>, bool) {
    let sources: Vec<Option<Source>> = names.iter().map(|name| files.named(name, d)).collect();
    *missing |= sources.iter().any(Option::is_none);
    let tables: Vec<Table> = sources.into_iter().flatten().filter_map(|source| Table::parse(kind, &source, d)).collect();
    let complete = tables.len() == names.len();
    (tables, complete)
}

/// Reads everything that the problem file names.
fn read_files(mut files: Files, file: &ProblemFile, d: &mut Diagnostics) -> Option<Problem> {
    let mut missing = false;
    let (parameter_tables, mut parameters_complete) = tables("parameter", &file.parameters, &mut files, &mut missing, d);
    let none = NlmeFile::default();
    let extension = file.nlme.as_ref().unwrap_or(&none);
    let mut tables_of = |kind, names: &[FileName], d: &mut Diagnostics| tables(kind, names, &mut files, &mut missing, d);
    let (hyper, mut hyper_complete) = tables_of("hyperparameter", &extension.hyperparameters, d);
    let (effects, effects_complete) = tables_of("random-effect", &extension.random_effects, d);
    let (covariance, covariance_complete) = tables_of("covariance", &extension.covariance, d);
    let (events, events_complete) = tables_of("event", &extension.events, d);
    let (statistics, statistics_complete) = tables_of("statistics", &extension.statistics, d);
    let (subpopulations, _) = tables_of("subpopulation", &extension.subpopulations, d);
    let version = if file.version == 1 { Version::V1 } else { Version::V2 };
    let mut parameters = parameters::read(&parameter_tables, version, false, &mut parameters_complete, d);
    let core = parameters.len();
    parameters.extend(parameters::read(&hyper, version, true, &mut hyper_complete, d));
    let complete = effects_complete && covariance_complete;
    let nlme_tables = NlmeTables { hyper, effects, covariance, events, statistics, subpopulations, complete };
    let shared = Shared { version, file, parameters, core, complete: (parameters_complete, hyper_complete), parameter_tables, nlme_tables };
    if file.parts.len() > 1 && file.nlme.is_some() {
        let place = &file.parts[1].models.first()?.span;
        d.push(super::unsupported(
            place,
            "the extension `nlme` in a problem of several sub-problems",
            "use version 2, with several models",
        ));
        return None;
    }
    // What a missing table defines would be reported as undefined all over the others.
    missing |= !file.complete || !events_complete || !statistics_complete;
    let mut parts = Vec::new();
    for (number, names) in file.parts.iter().enumerate() {
        let mut own = Diagnostics::new();
        parts.push(read_part(names, &shared, &mut files, missing, &mut own));
        if number == 0 {
            d.append(own);
        } else {
            // What is wrong with the parameters has been said.
            d.append_new(own);
        }
    }
    let mut parts = parts.into_iter().collect::<Option<Vec<Problem>>>()?.into_iter();
    let mut problem = parts.next()?;
    problem.others.extend(parts);
    // All parts write their simulations into the tables of all.
    let measured: Arc<[Table]> = problem.parts().flat_map(|p| p.tables.tables.iter().cloned()).collect();
    if file.parts.len() > 1 {
        let mut before = 0;
        for part in std::iter::once(&mut problem.tables).chain(problem.others.iter_mut().map(|p| &mut p.tables)) {
            part.rows.iter_mut().for_each(|row| row.0 += before);
            before += part.tables.len() as u32;
            part.tables = measured.clone();
        }
    }
    problem.name = file.id.clone().unwrap_or_else(|| files.name());
    problem.path = files.problem;
    problem.files = files.read;
    Some(problem)
}

/// Reads the tables of a sub-problem, and checks them together with what is shared.
fn read_part(names: &PartFiles, shared: &Shared, files: &mut Files, mut missing: bool, d: &mut Diagnostics) -> Option<Problem> {
    let Shared { version, file, parameters, core, parameter_tables, nlme_tables, .. } = shared;
    let (version, core, (parameters_complete, hyper_complete)) = (*version, *core, shared.complete);
    let models: Vec<Source> = names.models.iter().filter_map(|name| files.named(name, d)).collect();
    let mut tables_of = |kind, names: &[FileName], d: &mut Diagnostics| tables(kind, names, files, &mut missing, d);
    let (observable_tables, mut observables_complete) = tables_of("observable", &names.observables, d);
    let (condition_tables, conditions_complete) = tables_of("condition", &names.conditions, d);
    let (experiment_tables, mut experiments_complete) = tables_of("experiment", &names.experiments, d);
    let (mapping_tables, _) = tables_of("mapping", &names.mappings, d);
    let (measurement_tables, _) = tables_of("measurement", &names.measurements, d);
    if missing {
        return None;
    }

    let observables = observables::read(&observable_tables, version, &mut observables_complete, d);
    let conditions = match version {
        Version::V1 => experiments::read_conditions_v1(&condition_tables, conditions_complete, d),
        Version::V2 => experiments::read_conditions_v2(&condition_tables, conditions_complete, d),
    };
    let planned =
        (version == Version::V2).then(|| experiments::read_experiments(&experiment_tables, &conditions, &mut experiments_complete, d));
    let aliases = lint::mappings(&mapping_tables, d);
    lint::columns(parameter_tables, &observable_tables, &measurement_tables, version, d);

    let events = statistics::read_events(&nlme_tables.events, d);
    let ids: Vec<&str> = parameters.iter().map(|p| p.id.as_str()).collect();
    let statistics = statistics::read_statistics(&nlme_tables.statistics, &observables, parameters_complete.then_some(&ids), d);
    let known = file.nlme.as_ref().map(|_| population::Known { events: &events, statistics: &statistics });
    let core_ids: FxHashSet<&str> = ids[..core].iter().copied().collect();
    let is_parameter = |id: &str| {
        // Version 1 allows the model's own parameters too. The model is not read here, but an id that stands nowhere in it
        // as an attribute's value is surely not one of them.
        let in_model = |m: &Source| m.text().contains(&format!("\"{id}\"")) || m.text().contains(&format!("'{id}'"));
        !parameters_complete
            || core_ids.contains(id)
            || (version == Version::V1 && (conditions.targets.contains_key(id) || models.first().is_none_or(in_model)))
    };
    let model_ids: Vec<&str> = names.model_ids.iter().map(String::as_str).collect();
    let context = Context {
        version,
        observables: &observables,
        complete: (observables_complete, experiments_complete),
        conditions: &conditions,
        planned: planned.as_ref(),
        is_parameter: &is_parameter,
        parameter_ids: &ids,
        model_ids: &model_ids,
        nlme: known.as_ref(),
    };
    let measured = measurements::read(&measurement_tables, &context, d);
    measured.individuals.check(d);

    statistics::check_hazards(&events, &measured.experiments, &measured.measurements, d);
    let nlme = file.nlme.as_ref().map(|file| {
        let defined: Vec<&str> = match &planned {
            Some(planned) => planned.keys().map(String::as_str).collect(),
            None => conditions.by_id.keys().map(String::as_str).collect(),
        };
        let (mut random_effects, mut covariance, mut subpopulations) = (Vec::new(), Vec::new(), Vec::new());
        if parameters_complete && hyper_complete && experiments_complete && nlme_tables.complete {
            random_effects = random_effects::read(&nlme_tables.effects, parameters, &measured.experiments, &defined, d);
            covariance = random_effects::read_covariance(&nlme_tables.covariance, &random_effects, parameters, d);
            measured.individuals.check_groups(&random_effects, d);
            subpopulations = subpopulations::read(&nlme_tables.subpopulations, parameters, d);
        }
        let individuals = measured.individuals.list;
        Nlme { random_effects, covariance, individuals, defaults: file.defaults.clone(), events, statistics, subpopulations }
    });
    lint::problem(version, parameters, &observables, &conditions, planned.as_ref(), parameters_complete, d);
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
    let plots = visualization::read(&names.visualizations, files, &data, d);

    let whole = Problem {
        version,
        name: String::new(),
        path: files.problem.clone(),
        files: Vec::new(),
        model: models.first()?.clone(),
        aliases,
        parameters: parameters.clone(),
        observables,
        experiments: measured.experiments,
        measurements: measured.measurements,
        nlme,
        plots,
        others: Vec::new(),
        tables: OriginalTables {
            parameters: parameter_tables.iter().chain(&nlme_tables.hyper).cloned().collect(),
            tables: measurement_tables.into(),
            rows: measured.rows,
        },
    };
    // The models of a problem with an error need not have been read.
    let several = models.len() > 1 && models.len() == names.models.len();
    Some(if several { models::split(whole, &models, &measured.models) } else { whole })
}
