//! Package comp: models made of models, flattened into one.
//!
//! Source: SBML Level 3 Package, Hierarchical Model Composition, Version 1 Release 3. Each submodel is an *instance* of a model
//! definition; an instance and a node of its document make a [`Key`], one thing of the whole model. First the instances are
//! made, then what deletions and replacements refer to is looked up. Each instance is read by the reader of plain models, which
//! passes over what was deleted or replaced, and then seen from outside by `comp_names`. What is called x in submodel A has the
//! name A__x in the flat model, unless something outside replaces it or is replaced by it: then it has the outer name.

use super::comp_files::File;
use super::comp_names::{Meaning, Names, product, quotient};
use super::read::{self, Draft, Mention};
use super::xml::{Element, Reader};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::expr::Ast;
use roxmltree::NodeId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::rc::Rc;

/// Namespace of the package.
pub(super) const COMP: &str = "http://www.sbml.org/sbml/level3/version1/comp/version1";

/// Most submodels of one model, at all depths. A few definitions that hold each other twice would make billions.
const MAX_INSTANCES: usize = 10_000;

/// Most bytes of model definitions, each counted as often as it is used.
const MAX_TEXT: usize = 500_000_000;

/// Deepest nesting of submodels and of references into them.
const MAX_DEPTH: usize = 100;

/// Whether a document is made of several models.
pub(super) fn is_used(root: Element<'_>) -> bool {
    root.descendants().any(|node| node.is_element() && node.tag_name().namespace() == Some(COMP))
}

/// A file of the model that could be opened.
struct Document<'d> {
    file: &'d File,
    root: Element<'d>,
    level: u32,
    version: u32,
    core: &'static str,
}

/// What the references into a model definition can mean.
#[derive(Default)]
struct Index<'d> {
    ids: FxHashMap<&'d str, Element<'d>>,
    meta_ids: FxHashMap<&'d str, Element<'d>>,
    units: FxHashMap<&'d str, Element<'d>>,
    ports: FxHashMap<&'d str, Element<'d>>,
    /// Elements `replacedElement` and `replacedBy`.
    replacements: Vec<Element<'d>>,
}

/// One use of a model definition: the whole model, or a submodel.
struct Instance<'d> {
    document: usize,
    model: Element<'d>,
    index: Rc<Index<'d>>,
    /// The instance that holds it, and the element `submodel` there.
    parent: Option<(usize, Element<'d>)>,
    depth: usize,
    prefix: String,
    /// Its own submodels: id and element, and the instance where there is one.
    submodels: Vec<(&'d str, Element<'d>, Option<usize>)>,
}

/// Something of the whole model: an instance and a node of its document.
type Key = (usize, NodeId);

/// Something in a submodel that has its name from outside.
#[derive(Clone)]
struct Claim {
    outer: Key,
    /// The conversion factor, with its place and the instance whose parameter it is.
    factor: Option<(String, Span, usize)>,
}

struct Hierarchy<'d, 'r> {
    documents: Vec<Option<Document<'d>>>,
    diagnostics: &'r mut Diagnostics,
    indices: FxHashMap<(usize, NodeId), Rc<Index<'d>>>,
    instances: Vec<Instance<'d>>,
    deleted: FxHashSet<Key>,
    /// What things in submodels are called outside.
    claims: FxHashMap<Key, Claim>,
    /// What stands in the place of an outer thing (`replacedBy`).
    replaced_by: FxHashMap<Key, Key>,
}

/// Flattens the model of the first file, whose other files come with it. `trees` are the contents of the files.
pub(super) fn flatten<'d>(files: &'d [File], trees: &'d [Option<roxmltree::Document<'d>>], diagnostics: &mut Diagnostics) -> Option<Draft> {
    let mut documents = Vec::new();
    for (file, tree) in files.iter().zip(trees) {
        let open = tree.as_ref().and_then(|tree| {
            let root = tree.root_element();
            let mut reader = read::open(&file.source, diagnostics, root)?;
            // Those of the first file are reported already.
            if !documents.is_empty() {
                read::packages(&mut reader, root);
                reader.report_unsupported();
            }
            Some(Document { file, root, level: reader.level, version: reader.version, core: reader.core })
        });
        documents.push(open);
    }
    let mut hierarchy = Hierarchy {
        documents,
        diagnostics,
        indices: FxHashMap::default(),
        instances: Vec::new(),
        deleted: FxHashSet::default(),
        claims: FxHashMap::default(),
        replaced_by: FxHashMap::default(),
    };
    let root = hierarchy.documents.first()?.as_ref()?.root;
    hierarchy.add(0, root.children().find(|c| c.has_tag_name("model"))?, None, String::new());
    hierarchy.expand();
    for instance in 0..hierarchy.instances.len() {
        hierarchy.deletions(instance);
        hierarchy.replacements(instance);
    }
    hierarchy.read()
}

/// The trimmed value of an attribute of the package. Level 3 version 2 has `id` in the core as well.
fn value<'a>(node: Element<'a>, name: &str) -> Option<&'a str> {
    node.attributes().find(|a| a.name() == name && matches!(a.namespace(), None | Some(COMP))).map(|a| a.value().trim())
}

/// Children of the package.
fn children<'a>(node: Element<'a>, name: &'static str) -> impl Iterator<Item = Element<'a>> {
    node.children().filter(move |c| c.has_tag_name((COMP, name)))
}

fn items<'a>(node: Element<'a>, list: &'static str, item: &'static str) -> impl Iterator<Item = Element<'a>> {
    children(node, list).flat_map(move |list| children(list, item))
}

impl<'d> Index<'d> {
    fn new(model: Element<'d>) -> Self {
        let mut index = Index::default();
        for node in model.descendants().skip(1).filter(|n| n.is_element()) {
            if let Some(id) = node.attribute("metaid") {
                index.meta_ids.entry(id.trim()).or_insert(node);
            }
            let name = node.tag_name().name();
            let in_package = node.tag_name().namespace() == Some(COMP);
            if in_package && matches!(name, "replacedElement" | "replacedBy") {
                index.replacements.push(node);
            }
            let Some(id) = value(node, "id") else { continue };
            let ids = match name {
                "submodel" if in_package => &mut index.ids,
                "port" if in_package => &mut index.ports,
                _ if in_package => continue,
                "unitDefinition" => &mut index.units,
                _ if local_parameter_of(node).is_some() => continue,
                _ => &mut index.ids,
            };
            ids.entry(id).or_insert(node);
        }
        index
    }
}

/// The reaction whose local parameter a node is.
fn local_parameter_of(node: Element<'_>) -> Option<Element<'_>> {
    let is_parameter = matches!(node.tag_name().name(), "localParameter" | "parameter");
    let law = node.ancestors().nth(2).filter(|n| is_parameter && n.tag_name().name() == "kineticLaw")?;
    law.parent()
}

impl<'d> Hierarchy<'d, '_> {
    fn reader<T>(&mut self, document: usize, removed: FxHashSet<NodeId>, work: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
        let Document { file, level, version, core, .. } = self.documents[document].as_ref()?;
        let mut reader = Reader::new(&file.source, self.diagnostics, core);
        (reader.level, reader.version) = (*level, *version);
        reader.removed = Rc::new(removed);
        Some(work(&mut reader))
    }

    /// The place of an attribute of the package; of the element's tag where it is missing.
    fn place(&mut self, document: usize, node: Element<'d>, attribute: &str) -> Option<Span> {
        let found = node.attributes().find(|a| a.name() == attribute && matches!(a.namespace(), None | Some(COMP)));
        self.reader(document, FxHashSet::default(), |reader| match found {
            Some(attribute) => reader.span(attribute.range_value()),
            None => reader.tag(node),
        })
    }

    /// An attribute that must be there.
    fn required(&mut self, document: usize, node: Element<'d>, name: &str) -> Option<&'d str> {
        let found = value(node, name);
        if found.is_none() {
            self.reader(document, FxHashSet::default(), |reader| reader.missing(node, name));
        }
        found
    }

    fn add(&mut self, document: usize, model: Element<'d>, parent: Option<(usize, Element<'d>)>, prefix: String) -> usize {
        let index = self.indices.entry((document, model.id())).or_insert_with(|| Rc::new(Index::new(model))).clone();
        let depth = parent.map_or(0, |(parent, _)| self.instances[parent].depth + 1);
        self.instances.push(Instance { document, model, index, parent, depth, prefix, submodels: Vec::new() });
        self.instances.len() - 1
    }

    /// Makes the submodels of all instances.
    fn expand(&mut self) {
        let mut next = 0;
        let mut text = 0;
        while next < self.instances.len() {
            let Instance { document, model, .. } = self.instances[next];
            for node in items(model, "listOfSubmodels", "submodel") {
                let (id, reference) = (self.required(document, node, "id"), self.required(document, node, "modelRef"));
                let (Some(id), Some(reference)) = (id, reference) else { continue };
                let found = self.definition(document, node, reference);
                let found = found.filter(|found| self.is_new_on_the_way(next, node, *found));
                text += found.map_or(0, |(_, model)| model.range().len());
                if found.is_some() && (self.instances.len() == MAX_INSTANCES || text > MAX_TEXT) {
                    if let Some(place) = self.place(document, node, "id") {
                        let message = "the model has too many submodels, or too large ones";
                        self.diagnostics.push(
                            Diagnostic::error("S0307", message).at(&place, format!("submodel number {MAX_INSTANCES}, or {MAX_TEXT} bytes")),
                        );
                    }
                    return;
                }
                let prefix = format!("{}{id}__", self.instances[next].prefix);
                let made = found.map(|(document, model)| self.add(document, model, Some((next, node)), prefix));
                self.instances[next].submodels.push((id, node, made));
            }
            next += 1;
        }
    }

    /// Whether a model is none of those that hold the submodel; reports it otherwise.
    fn is_new_on_the_way(&mut self, holder: usize, node: Element<'d>, (document, model): (usize, Element<'d>)) -> bool {
        let mut ancestor = Some(holder);
        while let Some(instance) = ancestor {
            let Instance { document: other, model: other_model, parent, .. } = &self.instances[instance];
            if (*other, other_model.id()) == (document, model.id()) {
                self.circle(self.instances[holder].document, node, "modelRef");
                return false;
            }
            ancestor = parent.map(|(parent, _)| parent);
        }
        if self.instances[holder].depth >= MAX_DEPTH {
            self.circle(self.instances[holder].document, node, "modelRef");
            return false;
        }
        true
    }

    fn circle(&mut self, document: usize, node: Element<'d>, attribute: &str) {
        if let Some(place) = self.place(document, node, attribute) {
            self.diagnostics.push(
                Diagnostic::error("S0302", "a model contains itself, directly or by its submodels").at(&place, "this closes the circle"),
            );
        }
    }

    /// The model that a name means, through external definitions where necessary. `node` is where the name stands.
    fn definition(&mut self, document: usize, node: Element<'d>, name: &'d str) -> Option<(usize, Element<'d>)> {
        let (mut place, mut node, mut name, mut document) = (document, node, Some(name), document);
        for _ in 0..MAX_DEPTH {
            let root = self.documents[document].as_ref()?.root;
            let main = root.children().find(|c| c.has_tag_name("model"));
            let models: Vec<_> = main.into_iter().chain(items(root, "listOfModelDefinitions", "modelDefinition")).collect();
            let external: Vec<_> = items(root, "listOfExternalModelDefinitions", "externalModelDefinition").collect();
            let named = |candidates: &[Element<'d>]| candidates.iter().find(|c| name.is_some() && value(**c, "id") == name).copied();
            if let Some(model) = if name.is_some() { named(&models) } else { main } {
                return Some((document, model));
            }
            let Some(definition) = named(&external) else {
                let known: Vec<&str> = models.iter().chain(&external).filter_map(|c| value(*c, "id")).collect();
                let place = self.place(place, node, "modelRef")?;
                let name = name.unwrap_or("");
                self.diagnostics.push(
                    Diagnostic::error("S0301", format!("there is no model `{name}`"))
                        .at(&place, format!("not defined in {}", self.documents[document].as_ref()?.file.source.name()))
                        .suggest(name, known),
                );
                return None;
            };
            let source = self.required(document, definition, "source")?;
            (place, node, name) = (document, definition, value(definition, "modelRef"));
            // A file that cannot be read is reported already.
            document = *self.documents[document].as_ref()?.file.references.get(source)?;
        }
        self.circle(place, node, "source");
        None
    }

    /// The thing in an instance that a reference means (section 3.7). The reference stands in `document`.
    fn target(&mut self, document: usize, reference: Element<'d>, instance: usize, depth: usize) -> Option<Key> {
        const WAYS: [&str; 4] = ["idRef", "metaIdRef", "portRef", "unitRef"];
        let given: Vec<(&str, &str)> = WAYS.iter().filter_map(|way| Some((*way, value(reference, way)?))).collect();
        let name = reference.tag_name().name();
        let &[(way, id)] = given.as_slice() else {
            let place = self.place(document, reference, given.get(1).map_or("", |(way, _)| way))?;
            let message = format!("`{name}` does not say in exactly one way what it means");
            let deletion = if name == "replacedElement" { ", or deletion" } else { "" };
            self.diagnostics.push(
                Diagnostic::error("S0305", message).at(&place, format!("expected one of idRef, metaIdRef, portRef and unitRef{deletion}")),
            );
            return None;
        };
        let index = self.instances[instance].index.clone();
        let (table, what) = match way {
            "idRef" => (&index.ids, "id"),
            "metaIdRef" => (&index.meta_ids, "metaid"),
            "portRef" => (&index.ports, "port"),
            _ => (&index.units, "unit"),
        };
        let Some(found) = table.get(id).copied() else {
            self.nothing(document, reference, way, &format!("nothing in the submodel has the {what} `{id}`"), table.keys().copied());
            return None;
        };
        // Ports and parts of parts lead on; a circle of ports is as wrong as one that leads nowhere.
        if depth == MAX_DEPTH {
            self.nothing(document, reference, way, "the reference has no end", []);
            return None;
        }
        let key = if way == "portRef" {
            self.target(self.instances[instance].document, found, instance, depth + 1)?
        } else {
            (instance, found.id())
        };
        let Some(part) = children(reference, "sBaseRef").next() else { return Some(key) };
        let submodel = self.instances[key.0].submodels.iter().find(|(_, node, _)| node.id() == key.1).copied();
        let Some((_, _, inner)) = submodel else {
            let place = self.place(document, part, "")?;
            self.diagnostics.push(
                Diagnostic::error("S0306", format!("`{id}` is not a submodel and has no parts"))
                    .at(&place, "expected the end of the reference"),
            );
            return None;
        };
        self.target(document, part, inner?, depth + 1)
    }

    /// Reports a reference that means nothing.
    fn nothing<'n>(
        &mut self,
        document: usize,
        reference: Element<'d>,
        attribute: &str,
        message: &str,
        candidates: impl IntoIterator<Item = &'n str>,
    ) {
        let Some(place) = self.place(document, reference, attribute) else { return };
        let wanted = value(reference, attribute).unwrap_or("");
        // The first of equally near names is suggested, so their order must not depend on a hash.
        let mut candidates: Vec<&str> = candidates.into_iter().collect();
        candidates.sort_unstable();
        self.diagnostics.push(Diagnostic::error("S0304", message).at(&place, "refers to nothing").suggest(wanted, candidates));
    }

    /// Looks up what the submodels of an instance leave out.
    fn deletions(&mut self, instance: usize) {
        let document = self.instances[instance].document;
        for (_, node, inner) in self.instances[instance].submodels.clone() {
            let Some(inner) = inner else { continue };
            for deletion in items(node, "listOfDeletions", "deletion") {
                let target = self.target(document, deletion, inner, 0);
                self.deleted.extend(target);
            }
        }
    }

    /// Looks up what the elements of an instance replace, and what replaces them.
    fn replacements(&mut self, instance: usize) {
        let document = self.instances[instance].document;
        for node in self.instances[instance].index.clone().replacements.iter().copied() {
            let by_inner = node.tag_name().name() == "replacedBy";
            let Some(owner) = node.ancestors().nth(if by_inner { 1 } else { 2 }) else { continue };
            let Some(name) = self.required(document, node, "submodelRef") else { continue };
            let submodels = self.instances[instance].submodels.clone();
            let Some((_, submodel, inner)) = submodels.iter().find(|(id, ..)| *id == name).copied() else {
                let known = submodels.iter().map(|(id, ..)| *id);
                self.nothing(document, node, "submodelRef", &format!("the model has no submodel `{name}`"), known);
                continue;
            };
            let Some(inner) = inner else { continue };
            if let Some(deletion) = value(node, "deletion") {
                // What was deleted has no name that could pass on; it is only checked to exist.
                let known: Vec<&str> = items(submodel, "listOfDeletions", "deletion").filter_map(|d| value(d, "id")).collect();
                if !known.contains(&deletion) {
                    self.nothing(document, node, "deletion", &format!("submodel `{name}` has no deletion `{deletion}`"), known);
                }
                continue;
            }
            let Some(target) = self.target(document, node, inner, 0) else { continue };
            let outer = (instance, owner.id());
            let factor = value(node, "conversionFactor").filter(|_| !by_inner).map(str::to_owned);
            let factor = factor.and_then(|name| Some((name, self.place(document, node, "conversionFactor")?, instance)));
            if by_inner {
                self.replaced_by.insert(outer, target);
            }
            let earlier = self.claims.get(&target).cloned();
            let Some(earlier) = earlier else {
                self.claims.insert(target, Claim { outer, factor });
                continue;
            };
            if self.outermost(target) == self.outermost(outer) {
                continue;
            }
            // Something further outside has reached past this model. It then has this model's thing as well.
            if earlier.outer.0 != instance && factor.is_none() && !self.claims.contains_key(&outer) {
                self.claims.insert(outer, earlier);
                continue;
            }
            let way = ["idRef", "metaIdRef", "portRef", "unitRef"].into_iter().find(|way| value(node, way).is_some());
            let Some(place) = self.place(document, node, way.unwrap_or("")) else { continue };
            self.diagnostics.push(
                Diagnostic::error("S0308", "something in a submodel is replaced by two things")
                    .at(&place, "this is replaced by something else already"),
            );
        }
    }

    /// What gives a thing its name. Claims lead from submodels to what holds them, so this ends.
    fn outermost(&self, mut key: Key) -> Key {
        while let Some(claim) = self.claims.get(&key) {
            key = claim.outer;
        }
        key
    }

    /// What stays of a group of things that replace each other, by its outermost.
    fn survivor(&self, mut key: Key) -> Key {
        while let Some(inner) = self.replaced_by.get(&key) {
            key = *inner;
        }
        key
    }

    fn node(&self, (instance, node): Key) -> Option<Element<'d>> {
        self.instances[instance].model.document().get_node(node)
    }

    /// Whether a thing, or something that holds it, is deleted.
    fn is_deleted(&self, key: Key) -> bool {
        let held_by_deleted = self.node(key).is_some_and(|node| node.ancestors().any(|n| self.deleted.contains(&(key.0, n.id()))));
        held_by_deleted || self.instances[key.0].parent.is_some_and(|(parent, submodel)| self.is_deleted((parent, submodel.id())))
    }

    /// Reads all instances and puts them together.
    fn read(mut self) -> Option<Draft> {
        let mut removed: Vec<FxHashSet<NodeId>> = vec![FxHashSet::default(); self.instances.len()];
        self.deleted.iter().for_each(|(instance, node)| {
            removed[*instance].insert(*node);
        });
        for key in self.claims.keys().chain(self.replaced_by.keys()) {
            let outermost = self.outermost(*key);
            if self.survivor(outermost) != *key || self.is_deleted(outermost) {
                removed[key.0].insert(key.1);
            }
        }
        let gone: Vec<bool> = (0..self.instances.len())
            .map(|mut instance| {
                while let Some((parent, submodel)) = self.instances[instance].parent {
                    if removed[parent].contains(&submodel.id()) {
                        return true;
                    }
                    instance = parent;
                }
                false
            })
            .collect();
        let mut all_names: Vec<Names> = Vec::new();
        let mut whole: Option<Draft> = None;
        for (instance, removed) in removed.into_iter().enumerate() {
            let mut factors = Vec::new();
            // Instances stand behind those that hold them, whose names are known by then.
            let names = self.names(instance, &all_names, &mut factors);
            if !gone[instance] {
                let Instance { document, model, .. } = self.instances[instance];
                if let Some(mut draft) = self.reader(document, removed, |reader| read::model(reader, model)) {
                    names.apply(&mut draft);
                    draft.factors.append(&mut factors);
                    match &mut whole {
                        Some(whole) => whole.append(draft),
                        None => whole = Some(draft),
                    }
                }
            }
            all_names.push(names);
        }
        whole
    }

    /// How an instance is seen from outside. `outer` are the names of the instances before it; conversion factors are added to
    /// `factors` by their flat names, to be checked.
    fn names(&mut self, instance: usize, outer: &[Names], factors: &mut Vec<Mention>) -> Names {
        let (mut time, mut extent) = (None, None);
        if let Some((parent, submodel)) = self.instances[instance].parent {
            let document = self.instances[parent].document;
            time.clone_from(&outer[parent].time);
            extent.clone_from(&outer[parent].extent);
            for (attribute, total) in [("timeConversionFactor", &mut time), ("extentConversionFactor", &mut extent)] {
                let Some(name) = value(submodel, attribute) else { continue };
                let Some(span) = self.place(document, submodel, attribute) else { continue };
                let by = format!("submodel `{}`", value(submodel, "id").unwrap_or(""));
                *total = product(total.take(), self.factor(parent, &outer[parent], name, by, span, factors));
            }
        }
        let mut names = Names {
            prefix: self.instances[instance].prefix.clone(),
            rate: quotient(extent.clone(), time.clone()),
            time,
            extent,
            ..Names::default()
        };
        let index = self.instances[instance].index.clone();
        for (id, node) in &index.ids {
            let meaning = self.meaning((instance, node.id()), id, &names, outer, factors);
            names.global.insert((*id).to_owned(), meaning);
        }
        let claimed: Vec<NodeId> = self.claims.keys().filter(|(i, _)| *i == instance).map(|(_, node)| *node).collect();
        for node in claimed {
            let Some(node) = self.node((instance, node)) else { continue };
            let Some(reaction) = local_parameter_of(node) else { continue };
            let (Some(reaction), Some(id)) = (value(reaction, "id"), value(node, "id")) else { continue };
            let meaning = self.meaning((instance, node.id()), id, &names, outer, factors);
            names.local.insert((reaction.to_owned(), id.to_owned()), meaning);
        }
        names
    }
}

impl Hierarchy<'_, '_> {
    /// A conversion factor, given by the name of a parameter in an instance; nothing if there is no such parameter.
    fn factor(&self, instance: usize, names: &Names, name: &str, by: String, span: Span, factors: &mut Vec<Mention>) -> Option<Ast> {
        let Meaning { name: flat, factor } = names.meaning(name);
        let known = self.instances[instance].index.ids.contains_key(name);
        factors.push(Mention { by, name: flat.clone(), span });
        quotient(known.then(|| Ast::name(flat)), factor.filter(|_| known))
    }

    /// What a thing is outside. `own` are the names of its instance as far as they are known.
    fn meaning(&self, key: Key, id: &str, own: &Names, outer: &[Names], factors: &mut Vec<Mention>) -> Meaning {
        let mut factor = None;
        let mut outermost = key;
        while let Some(claim) = self.claims.get(&outermost) {
            if let Some((name, span, instance)) = &claim.factor {
                let by = format!("the replaced `{id}`");
                factor = product(factor, self.factor(*instance, &outer[*instance], name, by, span.clone(), factors));
            }
            outermost = claim.outer;
        }
        let outer_id = self.node(outermost).and_then(|node| value(node, "id"));
        let name = match outer_id {
            Some(id) => format!("{}{id}", self.instances[outermost.0].prefix),
            None => format!("{}{id}", own.prefix),
        };
        // Rates of reactions have the units of time and extent of the instance where the reaction is.
        let survivor = self.survivor(outermost);
        if self.node(survivor).is_some_and(|node| node.tag_name().name() == "reaction") {
            let is_inside = outermost.0 == key.0 || self.is_within(survivor.0, key.0);
            let rate = if is_inside { &own.rate } else { &outer[outermost.0].rate };
            factor = product(factor, rate.clone());
        }
        Meaning { name, factor }
    }

    fn is_within(&self, mut instance: usize, holder: usize) -> bool {
        while instance != holder {
            match self.instances[instance].parent {
                Some((parent, _)) => instance = parent,
                None => return false,
            }
        }
        true
    }
}
