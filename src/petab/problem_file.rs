//! What the problem file says, with both versions brought to one form.
//!
//! Version 1: PEtab v1 "Problem description YAML"; version 2: PEtab v2 JSON schema. The key `extensions` is read in both
//! (version 1 tolerates further keys); its block `nlme`: specification of the extension, section "YAML".

use super::yaml::{Kind, Node};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use std::ops::Range;

/// A file named in the YAML.
#[derive(Debug, Clone)]
pub struct FileName {
    /// As written, relative to the YAML file.
    pub name: String,
    /// Where it is written.
    pub span: Span,
}

/// What the problem file says, with both versions brought to one form.
#[derive(Debug, Clone, Default)]
pub struct ProblemFile {
    /// The major format version, 1 or 2.
    pub version: u32,
    /// `id` of version 2.
    pub id: Option<String>,
    /// Parameter tables.
    pub parameters: Vec<FileName>,
    /// Sub-problems, which share the parameters: any number in version 1, one in version 2.
    pub parts: Vec<PartFiles>,
    /// The extension `nlme`.
    pub nlme: Option<NlmeFile>,
    /// Whether the file has all keys in the right form. If not, what is read from it may lack whole tables.
    pub complete: bool,
}

/// The files of a sub-problem.
#[derive(Debug, Clone, Default)]
pub struct PartFiles {
    /// Ids of the models (version 2).
    pub model_ids: Vec<String>,
    /// The models' files; none where one of them cannot be read anyway.
    pub models: Vec<FileName>,
    /// Observable tables.
    pub observables: Vec<FileName>,
    /// Measurement tables.
    pub measurements: Vec<FileName>,
    /// Condition tables.
    pub conditions: Vec<FileName>,
    /// Experiment tables (version 2).
    pub experiments: Vec<FileName>,
    /// Mapping tables.
    pub mappings: Vec<FileName>,
    /// Visualization tables (version 1).
    pub visualizations: Vec<FileName>,
}

/// The block of the extension `nlme`.
#[derive(Debug, Clone, Default)]
pub struct NlmeFile {
    /// Hyperparameter tables.
    pub hyperparameters: Vec<FileName>,
    /// Random-effect tables.
    pub random_effects: Vec<FileName>,
    /// Covariance tables.
    pub covariance: Vec<FileName>,
    /// Event tables.
    pub events: Vec<FileName>,
    /// Tables of composite statistics.
    pub statistics: Vec<FileName>,
    /// Tables of subpopulations.
    pub subpopulations: Vec<FileName>,
    /// Hints.
    pub defaults: super::Defaults,
}

/// Keys of a version 2 problem file (JSON schema; others are errors).
const KEYS_V2: [&str; 10] = [
    "format_version",
    "parameter_files",
    "model_files",
    "observable_files",
    "measurement_files",
    "id",
    "condition_files",
    "experiment_files",
    "mapping_files",
    "extensions",
];

/// Keys of the extension's block.
const KEYS_NLME: [&str; 9] = [
    "version",
    "required",
    "hyperparameter_files",
    "random_effect_files",
    "covariance_files",
    "event_files",
    "statistic_files",
    "subpopulation_files",
    "defaults",
];

type Entries<'n> = &'n [(String, Range<usize>, Node)];

/// Makes sense of the tree. `None` if the version is unknown; otherwise what could be read, with everything wrong reported.
pub fn read(source: &Source, root: &Node, diagnostics: &mut Diagnostics) -> Option<ProblemFile> {
    let mut reader = Reader { source, d: diagnostics, complete: true };
    let entries = reader.map(root, "the problem file")?;
    let mut file = ProblemFile { version: reader.version(entries)?, ..ProblemFile::default() };
    if file.version == 1 {
        reader.version_1(entries, &mut file);
    } else {
        reader.version_2(entries, &mut file);
    }
    if let Some(extensions) = value(entries, "extensions") {
        file.nlme = reader.extensions(extensions);
    }
    file.complete = reader.complete;
    Some(file)
}

fn value<'n>(entries: Entries<'n>, key: &str) -> Option<&'n Node> {
    entries.iter().find(|e| e.0 == key).map(|e| &e.2).filter(|n| n.kind != Kind::Null)
}

struct Reader<'a> {
    source: &'a Source,
    d: &'a mut Diagnostics,
    complete: bool,
}

impl Reader<'_> {
    fn version(&mut self, entries: Entries) -> Option<u32> {
        let Some(node) = value(entries, "format_version") else {
            self.missing("format_version", self.source.span(0..0), entries, "");
            return None;
        };
        let major = match &node.kind {
            Kind::Scalar(text) => text.split('.').next().and_then(|m| m.parse().ok()),
            _ => None,
        };
        if let Some(version) = major.filter(|v| matches!(v, 1 | 2)) {
            return Some(version);
        }
        self.d.push(
            Diagnostic::error("P0008", "the format version of the problem is not known")
                .at(&self.source.span(node.range.clone()), "expected 1 or 2.0.0")
                .help("PEtab has the versions 1 and 2"),
        );
        None
    }

    fn version_1(&mut self, entries: Entries, file: &mut ProblemFile) {
        let hint = "`parameter_files` and `model_files` at the top are PEtab v2; this problem says format_version 1";
        let hint = if value(entries, "model_files").is_some() { hint } else { "" };
        file.parameters = self.required_files(entries, "parameter_file", self.source.span(0..0), hint);
        let Some(problems) = value(entries, "problems") else {
            self.missing("problems", self.source.span(0..0), entries, hint);
            return;
        };
        let Kind::List(problems) = &problems.kind else {
            self.wrong(problems, "problems", "a list");
            return;
        };
        for problem in problems {
            let Some(entries) = self.map(problem, "`problems`") else { continue };
            let place = self.source.span(problem.range.clone());
            let mut models = self.required_files(entries, "sbml_files", place.clone(), "");
            if let Some(second) = models.get(1) {
                let help = "nothing in version 1 says which measurement belongs to which model; make a sub-problem for each";
                self.unsupported(&second.span.range, "a sub-problem with several models", help);
            }
            models.truncate(1);
            file.parts.push(PartFiles {
                model_ids: Vec::new(),
                models,
                measurements: self.required_files(entries, "measurement_files", place.clone(), ""),
                conditions: self.required_files(entries, "condition_files", place.clone(), ""),
                observables: self.required_files(entries, "observable_files", place, ""),
                experiments: Vec::new(),
                mappings: self.files(entries, "mapping_files"),
                visualizations: self.files(entries, "visualization_files"),
            });
        }
    }

    fn version_2(&mut self, entries: Entries, file: &mut ProblemFile) {
        let hint = "`problems` is PEtab v1; this problem says format_version 2. In v2 the lists of files stand at the top";
        let hint = if value(entries, "problems").is_some() { hint } else { "" };
        if hint.is_empty() {
            self.unknown_keys(entries, &KEYS_V2, "a PEtab v2 problem file");
        }
        let top = self.source.span(0..0);
        file.parameters = self.required_files(entries, "parameter_files", top.clone(), hint);
        let mut part = PartFiles {
            model_ids: Vec::new(),
            models: Vec::new(),
            observables: self.required_files(entries, "observable_files", top.clone(), hint),
            measurements: self.required_files(entries, "measurement_files", top.clone(), hint),
            conditions: self.files(entries, "condition_files"),
            experiments: self.files(entries, "experiment_files"),
            mappings: self.files(entries, "mapping_files"),
            visualizations: Vec::new(),
        };
        file.id = value(entries, "id").and_then(|node| self.text(node, "id"));
        match value(entries, "model_files") {
            None => self.missing("model_files", top, entries, hint),
            Some(models) => {
                let models = self.map(models, "`model_files`").unwrap_or_default();
                part.model_ids = models.iter().map(|(id, ..)| id.clone()).collect();
                let files: Vec<Option<FileName>> = models.iter().map(|(_, range, model)| self.model(range, model)).collect();
                part.models = files.into_iter().collect::<Option<_>>().unwrap_or_default();
            }
        }
        file.parts.push(part);
    }

    /// The file of a model of version 2, if it is SBML.
    fn model(&mut self, range: &Range<usize>, model: &Node) -> Option<FileName> {
        let model = self.map(model, "the model")?;
        let place = self.source.span(range.clone());
        let file = self.required_files(model, "location", place.clone(), "").into_iter().next();
        let Some(node) = value(model, "language") else {
            self.missing("language", place, model, "");
            return file;
        };
        let Some(language) = self.text(node, "language").filter(|l| !l.eq_ignore_ascii_case("sbml")) else { return file };
        let help = match language.to_ascii_lowercase().as_str() {
            "pysb" => "the model is a Python program, which is not run; export it as SBML with `pysb.export`",
            _ => "convert the model to SBML",
        };
        self.unsupported(&node.range, &format!("a model in the language `{language}`"), help);
        None
    }

    fn extensions(&mut self, node: &Node) -> Option<NlmeFile> {
        let mut nlme = None;
        for (name, range, node) in self.map(node, "`extensions`")? {
            if name == "nlme" {
                nlme = self.nlme(range, node);
                continue;
            }
            let required = match &node.kind {
                Kind::Map(entries) => value(entries, "required").is_some_and(|n| self.truth(n, "required")),
                _ => false,
            };
            let place = self.source.span(range.clone());
            if required {
                self.d.push(
                    Diagnostic::error("P0902", format!("extension `{name}` is required by the problem and not supported"))
                        .at(&place, "only `nlme` is supported")
                        .suggest(name, ["nlme"])
                        .help("PEtab demands rejection of unknown required extensions"),
                );
            } else {
                self.d.push(
                    Diagnostic::warning("P0505", format!("extension `{name}` is not known"))
                        .at(&place, "it is not required and will be ignored"),
                );
            }
        }
        nlme
    }

    fn nlme(&mut self, key: &Range<usize>, node: &Node) -> Option<NlmeFile> {
        let entries = self.map(node, "the extension `nlme`")?;
        self.unknown_keys(entries, &KEYS_NLME, "the extension `nlme`");
        match value(entries, "version") {
            None => self.missing("version", self.source.span(key.clone()), entries, ""),
            Some(node) => {
                if self.text(node, "version").is_some_and(|v| v != "0.1" && !v.starts_with("0.1.")) {
                    self.d.push(
                        Diagnostic::error("P0401", "this version of the extension `nlme` is not supported")
                            .at(&self.source.span(node.range.clone()), "expected 0.1.0"),
                    );
                }
            }
        }
        if let Some(node) = value(entries, "required") {
            self.truth(node, "required");
        }
        let mut file = NlmeFile {
            hyperparameters: self.files(entries, "hyperparameter_files"),
            random_effects: self.files(entries, "random_effect_files"),
            covariance: self.files(entries, "covariance_files"),
            events: self.files(entries, "event_files"),
            statistics: self.files(entries, "statistic_files"),
            subpopulations: self.files(entries, "subpopulation_files"),
            defaults: super::Defaults::default(),
        };
        let Some(defaults) = value(entries, "defaults") else { return Some(file) };
        for (key, range, node) in self.map(defaults, "`defaults`")? {
            let Some(text) = self.text(node, key) else { continue };
            let place = self.source.span(node.range.clone());
            match key.as_str() {
                "individual_integration" | "population_integration" => {
                    check_hint(key, &text, &place, self.d);
                    let slot = if key == "individual_integration" {
                        &mut file.defaults.individual_integration
                    } else {
                        &mut file.defaults.population_integration
                    };
                    *slot = Some(text);
                }
                "population_nodes" => match text.parse().ok().filter(|n| *n > 0) {
                    Some(nodes) => file.defaults.population_nodes = Some(nodes),
                    None => self.wrong(node, key, "a positive whole number"),
                },
                "seed" => match text.parse() {
                    Ok(seed) => file.defaults.seed = Some(seed),
                    Err(_) => self.wrong(node, key, "a whole number that is not negative"),
                },
                _ => self.d.push(
                    Diagnostic::warning("P0516", format!("the hint `{key}` is not known"))
                        .at(&self.source.span(range.clone()), "ignored")
                        .suggest(key, ["individual_integration", "population_integration", "population_nodes", "seed"]),
                ),
            }
        }
        Some(file)
    }

    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<Entries<'n>> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            _ => {
                self.wrong(node, what, "a map of keys and values");
                None
            }
        }
    }

    fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        match &node.kind {
            Kind::Scalar(text) => Some(text.clone()),
            _ => {
                self.wrong(node, key, "a single value");
                None
            }
        }
    }

    fn truth(&mut self, node: &Node, key: &str) -> bool {
        match self.text(node, key).map(|t| t.to_ascii_lowercase()).as_deref() {
            Some("true") => true,
            Some("false") | None => false,
            Some(_) => {
                self.wrong(node, key, "true or false");
                // Taken as true: an extension that might be required must not be ignored.
                true
            }
        }
    }

    /// The files under a key: a list of names, or one name.
    fn files(&mut self, entries: Entries, key: &str) -> Vec<FileName> {
        let Some(node) = value(entries, key) else { return Vec::new() };
        let nodes = match &node.kind {
            Kind::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut files = Vec::new();
        for node in nodes {
            match &node.kind {
                Kind::Scalar(name) => files.push(FileName { name: name.clone(), span: self.source.span(node.range.clone()) }),
                _ => self.wrong(node, key, "the name of a file"),
            }
        }
        files
    }

    fn required_files(&mut self, entries: Entries, key: &str, place: Span, hint: &str) -> Vec<FileName> {
        if value(entries, key).is_none() {
            self.missing(key, place, entries, hint);
        }
        self.files(entries, key)
    }

    fn missing(&mut self, key: &str, place: Span, entries: Entries, hint: &str) {
        self.complete = false;
        let near = crate::diag::nearest(key, entries.iter().map(|e| e.0.as_str()));
        let misspelt = near.and_then(|near| entries.iter().find(|e| e.0 == near)).map(|e| self.source.span(e.1.clone()));
        let mut diagnostic = Diagnostic::error("P0005", format!("the problem file has no `{key}`"));
        diagnostic = match (misspelt, near) {
            (Some(span), Some(near)) => diagnostic.at(&span, format!("expected `{key}`")).help(format!("rename `{near}` to `{key}`")),
            // Without a better place the first key is shown, whose line also shows the level that is meant.
            _ => diagnostic.at(&entries.first().map_or(place, |e| self.source.span(e.1.clone())), format!("expected `{key}` beside this")),
        };
        self.d.push(if hint.is_empty() { diagnostic } else { diagnostic.help(hint) });
    }

    fn wrong(&mut self, node: &Node, key: &str, expected: &str) {
        self.complete = false;
        let key = if key.contains([' ', '`']) { key.to_string() } else { format!("`{key}`") };
        self.d.push(
            Diagnostic::error("P0006", format!("{key} has the wrong form"))
                .at(&self.source.span(node.range.clone()), format!("expected {expected}, found {}", node.describe())),
        );
    }

    fn unknown_keys(&mut self, entries: Entries, known: &[&str], what: &str) {
        for (key, range, _) in entries.iter().filter(|e| !known.contains(&e.0.as_str())) {
            self.complete = false;
            self.d.push(
                Diagnostic::error("P0007", format!("unknown key `{key}`"))
                    .at(&self.source.span(range.clone()), format!("not a key of {what}"))
                    .suggest(key, known.iter().copied()),
            );
        }
    }

    fn unsupported(&mut self, range: &Range<usize>, construct: &str, help: &str) {
        self.d.push(super::unsupported(&self.source.span(range.clone()), construct, help));
    }
}

/// Known words of the hints `individual_integration` and `population_integration`; others are passed on with a warning. A number of nodes
/// or draws may follow: `gauss_hermite=9`.
fn check_hint(key: &str, word: &str, span: &Span, d: &mut Diagnostics) {
    let (known, counted): (&[&str], &[&str]) = match key {
        "individual_integration" => {
            (&["laplace", "gauss_newton", "gauss_hermite", "importance", "exact", "fo", "foce", "focei"], &["gauss_hermite", "importance"])
        }
        _ => (&["sobol", "gauss_hermite", "monte_carlo"], &[]),
    };
    let is_known = match word.split_once('=') {
        Some((name, number)) => counted.contains(&name) && number.parse::<usize>().is_ok_and(|n| n > 0),
        None => known.contains(&word),
    };
    if !is_known {
        d.push(
            Diagnostic::warning("P0515", format!("the hint `{key}: {word}` is not known"))
                .at(span, format!("known: {}", known.join(", ")))
                .suggest(word, known.iter().copied()),
        );
    }
}
