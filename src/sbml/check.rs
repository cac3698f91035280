//! What must hold between the parts of a model: identifiers, references, and what may set a variable. One function per
//! rule; the numbers in the comments are those of the validation rules in the SBML specifications.

use super::determination;
use super::model::{Model, SpeciesReference};
use super::read::{Draft, Mention, Target, TargetKind};
use super::xml::Reader;
use crate::diag::{Diagnostic, Source, Span};
use crate::expr::{Ast, AstKind};
use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Compartment,
    Species,
    Parameter,
    Function,
    Reaction,
    SpeciesReference,
    Event,
}

impl Kind {
    /// Whether formulas may use the name.
    fn has_value(self) -> bool {
        !matches!(self, Kind::Function | Kind::Event)
    }

    fn words(self) -> &'static str {
        match self {
            Kind::Compartment => "a compartment",
            Kind::Species => "a species",
            Kind::Parameter => "a parameter",
            Kind::Function => "a function",
            Kind::Reaction => "a reaction",
            Kind::SpeciesReference => "a species reference",
            Kind::Event => "an event",
        }
    }
}

/// All global identifiers in the order of the file's lists.
type Names<'m> = IndexMap<&'m str, (Kind, &'m Span)>;

/// Checks everything.
pub(super) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    let names = identifiers(reader, &draft.model);
    placements(reader, draft, &names);
    participants(reader, draft, &names);
    targets(reader, draft, &names);
    one_setter(reader, &draft.targets);
    event_targets(reader, &draft.model);
    conversion_factors(reader, draft);
    constant_targets(reader, draft);
    changed_by_reactions(reader, draft);
    stoichiometries(reader, draft);
    formulas(reader, draft, &names);
    recursion(reader, &draft.model);
    determination::check(reader, &draft.model);
}

/// Identifiers are unique in the model (10301), those of local parameters in their kinetic law (10303).
fn identifiers<'m>(reader: &mut Reader<'_>, model: &'m Model) -> Names<'m> {
    let mut names = Names::default();
    let mut doubles: Vec<(&str, &Span, &Span)> = Vec::new();
    let references = model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products));
    let all = (model.compartments.iter().map(|c| (&c.id, Kind::Compartment, &c.span)))
        .chain(model.species.iter().map(|s| (&s.id, Kind::Species, &s.span)))
        .chain(model.parameters.iter().map(|p| (&p.id, Kind::Parameter, &p.span)))
        .chain(model.functions.iter().map(|f| (&f.id, Kind::Function, &f.span)))
        .chain(model.reactions.iter().map(|r| (&r.id, Kind::Reaction, &r.span)))
        .chain(model.events.iter().filter_map(|e| Some((e.id.as_ref()?, Kind::Event, &e.span))))
        .chain(references.filter_map(|r| Some((r.id.as_ref()?, Kind::SpeciesReference, &r.span))));
    for (id, kind, span) in all {
        match names.entry(id.as_str()) {
            indexmap::map::Entry::Vacant(entry) => {
                entry.insert((kind, span));
            }
            indexmap::map::Entry::Occupied(entry) => doubles.push((id, span, entry.get().1)),
        }
    }
    for reaction in &model.reactions {
        let mut local: FxHashMap<&str, &Span> = FxHashMap::default();
        for parameter in &reaction.local_parameters {
            if let Some(first) = local.get(parameter.id.as_str()) {
                doubles.push((&parameter.id, &parameter.span, first));
            } else {
                local.insert(&parameter.id, &parameter.span);
            }
        }
    }
    for (id, second, first) in doubles {
        reader.push(
            Diagnostic::error("S0101", format!("identifier `{id}` is used twice"))
                .at(second, "expected an identifier that nothing else has")
                .also(first, "first used here"),
        );
    }
    names
}

/// Identifiers of one kind.
fn of_kind<'n>(names: &'n Names<'_>, kind: Kind) -> impl Iterator<Item = &'n str> {
    names.iter().filter(move |(_, (k, _))| *k == kind).map(|(name, _)| *name)
}

/// The compartment of a species or reaction exists (20608, 21108).
fn placements(reader: &mut Reader<'_>, draft: &Draft, names: &Names<'_>) {
    for Mention { by, name, span } in &draft.placements {
        if names.get(name.as_str()).is_some_and(|(kind, _)| *kind == Kind::Compartment) {
            continue;
        }
        let mut diagnostic = Diagnostic::error("S0102", format!("{by} is placed in an unknown compartment `{name}`"))
            .at(span, "no compartment has this id")
            .suggest(name, of_kind(names, Kind::Compartment));
        if let [only] = draft.model.compartments.as_slice() {
            diagnostic = diagnostic.also(&only.span, "the model's only compartment");
        }
        reader.push(diagnostic);
    }
}

/// Reactants, products and modifiers exist (21111).
fn participants(reader: &mut Reader<'_>, draft: &Draft, names: &Names<'_>) {
    for Mention { by, name, span } in &draft.participants {
        if names.get(name.as_str()).is_none_or(|(kind, _)| *kind != Kind::Species) {
            reader.push(
                Diagnostic::error("S0103", format!("{by} refers to an unknown species `{name}`"))
                    .at(span, "no species has this id")
                    .suggest(name, of_kind(names, Kind::Species)),
            );
        }
    }
}

/// What a rule, initial assignment or event sets exists and has a value to set (20801, 20901, 20902, 21211).
fn targets(reader: &mut Reader<'_>, draft: &Draft, names: &Names<'_>) {
    for target in &draft.targets {
        let what = target.kind.words();
        let label = match names.get(target.name.as_str()) {
            Some((Kind::Compartment | Kind::Species | Kind::Parameter | Kind::SpeciesReference, _)) => continue,
            Some((kind, _)) => format!("this is {}", kind.words()),
            None => "no compartment, species or parameter has this id".to_owned(),
        };
        let candidates = [Kind::Compartment, Kind::Species, Kind::Parameter].into_iter().flat_map(|kind| of_kind(names, kind));
        reader.push(
            Diagnostic::error("S0104", format!("the {what} for `{}` has nothing to set", target.name))
                .at(&target.span, label)
                .suggest(&target.name, candidates),
        );
    }
}

/// At most one rule sets a variable (10304), at most one initial assignment (10305), and an assignment rule excludes an
/// initial assignment (20803) and an event (21212).
fn one_setter(reader: &mut Reader<'_>, targets: &[Target]) {
    let mut first: FxHashMap<(&str, bool), &Target> = FxHashMap::default();
    for target in targets.iter().filter(|t| t.has_formula) {
        // An initial assignment excludes an assignment rule and another initial assignment, but not a rate rule; an
        // assignment rule excludes everything. So there are two places: who sets the start, and who sets the course.
        let places: &[bool] = match target.kind {
            TargetKind::InitialAssignment => &[false],
            TargetKind::AssignmentRule => &[false, true],
            TargetKind::RateRule => &[true],
            TargetKind::Event => continue,
        };
        if let Some(other) = places.iter().find_map(|place| first.get(&(target.name.as_str(), *place))) {
            reader.push(
                Diagnostic::error("S0105", format!("`{}` is set twice", target.name))
                    .at(&target.span, format!("by this {}", target.kind.words()))
                    .also(&other.span, format!("and by this {}", other.kind.words()))
                    .help("keep one of the two"),
            );
            continue;
        }
        for place in places {
            first.insert((target.name.as_str(), *place), target);
        }
    }
    for target in targets.iter().filter(|t| t.has_formula && t.kind == TargetKind::Event) {
        let rule = first.get(&(target.name.as_str(), true)).filter(|rule| rule.kind == TargetKind::AssignmentRule);
        if let Some(rule) = rule {
            reader.push(
                Diagnostic::error("S0113", format!("an event sets `{}`, which an assignment rule sets at all times", target.name))
                    .at(&target.span, "by this event assignment")
                    .also(&rule.span, "and by this assignment rule")
                    .help("keep one of the two"),
            );
        }
    }
}

/// An event sets a variable at most once (10306).
fn event_targets(reader: &mut Reader<'_>, model: &Model) {
    for event in &model.events {
        let mut first: FxHashMap<&str, &Span> = FxHashMap::default();
        for assignment in &event.assignments {
            if let Some(other) = first.insert(&assignment.variable, &assignment.span) {
                reader.push(
                    Diagnostic::error("S0114", format!("an event sets `{}` twice", assignment.variable))
                        .at(&assignment.span, "second assignment")
                        .also(other, "first assignment"),
                );
            }
        }
    }
}

/// Conversion factors are constant parameters (20216, 20617).
fn conversion_factors(reader: &mut Reader<'_>, draft: &Draft) {
    for Mention { by, name, span } in &draft.factors {
        let parameter = draft.model.parameters.iter().find(|p| p.id == *name);
        if parameter.is_some_and(|p| p.constant) {
            continue;
        }
        let diagnostic = Diagnostic::error("S0115", format!("the conversion factor `{name}` of {by} is not a constant parameter"));
        let diagnostic = match parameter {
            Some(parameter) => diagnostic.at(span, "expected a constant parameter").also(&parameter.span, "declared here"),
            None => diagnostic.at(span, "no parameter has this id").suggest(name, draft.model.parameters.iter().map(|p| p.id.as_str())),
        };
        reader.push(diagnostic);
    }
}

/// What a rule or event sets is not declared constant (20903, 20904, 21212).
fn constant_targets(reader: &mut Reader<'_>, draft: &Draft) {
    let model = &draft.model;
    let references = model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products));
    let constant: FxHashMap<&str, &Span> = (model.compartments.iter().filter(|c| c.constant).map(|c| (c.id.as_str(), &c.span)))
        .chain(model.species.iter().filter(|s| s.constant).map(|s| (s.id.as_str(), &s.span)))
        .chain(model.parameters.iter().filter(|p| p.constant).map(|p| (p.id.as_str(), &p.span)))
        .chain(references.filter(|r| r.constant).filter_map(|r| Some((r.id.as_deref()?, &r.span))))
        .collect();
    for target in draft.targets.iter().filter(|t| t.has_formula && t.kind != TargetKind::InitialAssignment) {
        if let Some(declaration) = constant.get(target.name.as_str()) {
            reader.push(
                Diagnostic::error("S0106", format!("the {} for `{}` sets something constant", target.kind.words(), target.name))
                    .at(&target.span, "expected something variable")
                    .also(declaration, "declared here")
                    .help(format!("write constant=\"false\" where `{}` is declared", target.name)),
            );
        }
    }
}

/// What reactions change is not constant (20611) and not set by a rule (20610), unless it is on the boundary.
fn changed_by_reactions(reader: &mut Reader<'_>, draft: &Draft) {
    let model = &draft.model;
    let species: FxHashMap<&str, _> = model.species.iter().filter(|s| !s.boundary).map(|s| (s.id.as_str(), s)).collect();
    let is_rule = |t: &&Target| t.has_formula && matches!(t.kind, TargetKind::AssignmentRule | TargetKind::RateRule);
    let rules = draft.targets.iter().filter(is_rule);
    let rules: FxHashMap<&str, &Target> = rules.map(|t| (t.name.as_str(), t)).collect();
    let mut reported = FxHashSet::default();
    for reaction in &model.reactions {
        for reference in reaction.reactants.iter().chain(&reaction.products) {
            let name = reference.species.as_str();
            let Some(species) = species.get(name) else { continue };
            let obstacle = match rules.get(name) {
                Some(rule) => Some((&rule.span, format!("set by this {}", rule.kind.words()))),
                None if species.constant => Some((&species.span, "declared constant here".to_owned())),
                None => None,
            };
            if let (Some((place, words)), true) = (obstacle, reported.insert(name)) {
                reader.push(
                    Diagnostic::error("S0107", format!("reaction `{}` changes species `{name}`, which nothing may change", reaction.id))
                        .at(&reference.span, "changed by the reaction")
                        .also(place, words)
                        .help(format!("write boundaryCondition=\"true\" where `{name}` is declared if the reaction shall not change it")),
                );
            }
        }
    }
}

/// Species references of level 3 have a stoichiometry where it matters. Other simulators take 1 where it is missing, and
/// models rely on that.
fn stoichiometries(reader: &mut Reader<'_>, draft: &Draft) {
    let assigned: FxHashSet<&str> = draft.targets.iter().filter(|t| t.has_formula).map(|t| t.name.as_str()).collect();
    let is_assigned = |r: &SpeciesReference| r.id.as_deref().is_some_and(|id| assigned.contains(id));
    let missing: Vec<_> = draft.missing_stoichiometries.iter().filter(|r| !is_assigned(r)).collect();
    if let [first, others @ ..] = missing.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(" and {} others", others.len()) };
        let message = format!("species reference `{}`{more} has no stoichiometry; 1 is taken", first.species);
        reader.push(
            Diagnostic::warning("S0805", message)
                .at(&first.span, "level 3 defines no default")
                .help("write stoichiometry=\"1\" if this is meant"),
        );
    }
}

/// A formula and what it may use besides the global names.
struct Scope<'m> {
    formula: &'m Ast,
    /// The file that holds the formula.
    source: &'m Source,
    owner: String,
    locals: Vec<&'m str>,
    /// In a function body only the arguments have a meaning.
    closed: bool,
}

/// Names and functions in formulas exist (10208, 10214, 10215, 20304), and functions get as many arguments as they take.
fn formulas<'d>(reader: &mut Reader<'_>, draft: &'d Draft, names: &Names<'_>) {
    let model = &draft.model;
    let assignments = (model.initial_assignments.iter().map(|a| (a, "initial assignment")))
        .chain(model.assignment_rules.iter().map(|a| (a, "assignment rule")))
        .chain(model.rate_rules.iter().map(|a| (a, "rate rule")));
    let open = |formula, span: &'d Span, owner| Scope { formula, source: &span.source, owner, locals: Vec::new(), closed: false };
    let mut scopes: Vec<Scope<'_>> =
        assignments.map(|(a, what)| open(&a.formula, &a.span, format!("the {what} for `{}`", a.variable))).collect();
    scopes.extend(model.algebraic_rules.iter().map(|r| open(&r.formula, &r.span, "an algebraic rule".to_owned())));
    scopes.extend(model.constraints.iter().map(|c| open(&c.condition, &c.span, "a constraint".to_owned())));
    for event in &model.events {
        let name = event.id.as_ref().map_or_else(|| "an event".to_owned(), |id| format!("event `{id}`"));
        let parts = [(Some(&event.trigger), "trigger"), (event.delay.as_ref(), "delay"), (event.priority.as_ref(), "priority")];
        scopes.extend(parts.into_iter().filter_map(|(formula, what)| Some(open(formula?, &event.span, format!("the {what} of {name}")))));
        scopes.extend(event.assignments.iter().map(|a| open(&a.formula, &a.span, format!("the assignment to `{}` of {name}", a.variable))));
    }
    for reference in model.reactions.iter().flat_map(|r| r.reactants.iter().chain(&r.products)) {
        let math = reference.stoichiometry_math.as_ref();
        scopes.extend(math.map(|formula| open(formula, &reference.span, format!("the stoichiometry of `{}`", reference.species))));
    }
    for function in &model.functions {
        scopes.push(Scope {
            formula: &function.body,
            source: &function.span.source,
            owner: format!("function `{}`", function.id),
            locals: function.arguments.iter().map(String::as_str).collect(),
            closed: true,
        });
    }
    for reaction in &model.reactions {
        let Some(rate) = &reaction.rate else { continue };
        scopes.push(Scope {
            formula: rate,
            source: &reaction.span.source,
            owner: format!("the rate of reaction `{}`", reaction.id),
            locals: reaction.local_parameters.iter().map(|p| p.id.as_str()).collect(),
            closed: false,
        });
    }
    let arities: FxHashMap<&str, usize> = model.functions.iter().map(|f| (f.id.as_str(), f.arguments.len())).collect();
    for scope in &scopes {
        let mut reported = FxHashSet::default();
        scope.formula.walk(&mut |node| {
            let span = scope.source.span(node.range.clone());
            match &node.kind {
                AstKind::Name(name) => {
                    if let (false, true) = (is_defined(scope, names, name), reported.insert(name.as_str())) {
                        undefined_name(reader, scope, names, name, &span);
                    }
                }
                AstKind::Call(name, arguments) => match arities.get(name.as_str()) {
                    Some(arity) => wrong_arity(reader, name, *arity, arguments.len(), &span),
                    None => unknown_function(reader, draft, scope, name, &span),
                },
                _ => {}
            }
        });
    }
}

fn is_defined(scope: &Scope<'_>, names: &Names<'_>, name: &str) -> bool {
    scope.locals.contains(&name) || (!scope.closed && names.get(name).is_some_and(|(kind, _)| kind.has_value()))
}

fn undefined_name(reader: &mut Reader<'_>, scope: &Scope<'_>, names: &Names<'_>, name: &str, span: &Span) {
    let label = if scope.closed { "not an argument of the function" } else { "nothing in the model has this id" };
    let globals = names.iter().filter(|(_, (kind, _))| !scope.closed && kind.has_value()).map(|(name, _)| *name);
    let candidates = scope.locals.iter().copied().chain(globals);
    let mut diagnostic =
        Diagnostic::error("S0110", format!("{} uses an undefined symbol `{name}`", scope.owner)).at(span, label).suggest(name, candidates);
    if let Some((kind, place)) = names.get(name) {
        diagnostic = diagnostic.also(place, format!("this is {}", kind.words())).help(match kind {
            Kind::Function => format!("a function needs arguments: <apply> <ci> {name} </ci> … </apply>"),
            Kind::Event => "an event has no value".to_owned(),
            _ => format!("functions see their arguments only; make `{name}` an argument"),
        });
    } else if matches!(name, "time" | "t" | "Time") {
        diagnostic = diagnostic.help("the simulation time is the csymbol http://www.sbml.org/sbml/symbols/time");
    }
    reader.push(diagnostic);
}

fn wrong_arity(reader: &mut Reader<'_>, name: &str, expected: usize, found: usize, span: &Span) {
    if expected != found {
        reader.push(
            Diagnostic::error("S0111", format!("function `{name}` takes {expected} arguments, not {found}"))
                .at(span, format!("expected {expected} arguments")),
        );
    }
}

fn unknown_function(reader: &mut Reader<'_>, draft: &Draft, scope: &Scope<'_>, name: &str, span: &Span) {
    let declared = draft.functions_without_body.iter().any(|f| f == name);
    let label = if declared { "its definition has no body" } else { "no function definition has this id" };
    reader.push(
        Diagnostic::error("S0112", format!("{} calls an unknown function `{name}`", scope.owner))
            .at(span, label)
            .suggest(name, draft.model.functions.iter().map(|f| f.id.as_str())),
    );
}

/// Functions do not call themselves, directly or by others (20302, 20303).
fn recursion(reader: &mut Reader<'_>, model: &Model) {
    let index: FxHashMap<&str, usize> = model.functions.iter().enumerate().map(|(i, f)| (f.id.as_str(), i)).collect();
    let calls: Vec<Vec<usize>> = model
        .functions
        .iter()
        .map(|function| {
            let mut called = Vec::new();
            function.body.walk(&mut |node| {
                if let AstKind::Call(name, _) = &node.kind {
                    called.extend(index.get(name.as_str()));
                }
            });
            called
        })
        .collect();
    // Functions that only call finished ones are finished; what remains in the end calls, or is in, a cycle.
    let mut finished = vec![false; calls.len()];
    loop {
        let next: Vec<usize> = (0..calls.len()).filter(|f| !finished[*f] && calls[*f].iter().all(|c| finished[*c])).collect();
        if next.is_empty() {
            break;
        }
        next.into_iter().for_each(|f| finished[f] = true);
    }
    for start in (0..calls.len()).filter(|f| !finished[*f]) {
        let mut reached = vec![false; calls.len()];
        let mut stack = calls[start].clone();
        while let Some(f) = stack.pop() {
            if !std::mem::replace(&mut reached[f], true) {
                stack.extend(&calls[f]);
            }
        }
        if reached[start] {
            let function = &model.functions[start];
            reader.push(
                Diagnostic::error("S0108", format!("function `{}` calls itself", function.id))
                    .at(&function.span, "recursion, directly or by other functions"),
            );
        }
    }
}
