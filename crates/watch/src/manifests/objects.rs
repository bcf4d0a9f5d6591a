//! The objects of a set of manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use palisade_policy::input::{Change, Labels, Namespace, NamespacedName, Object, Pod, Policy, Services, State};

use super::document::Content;
use crate::finding::{Finding, Flaw, ObjectName, Place};

/// All objects of a set of manifests.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The pods, by name.
    pub pods: Vec<Pod>,
    /// The namespaces, by name: those with a manifest, and those that a pod or policy is in.
    pub namespaces: Vec<Namespace>,
    /// The policies, by name.
    pub policies: Vec<Policy>,
    /// The position of each object; a namespace that is only mentioned has none.
    pub places: BTreeMap<ObjectName, Place>,
    /// The Services and EndpointSlices, if workloads are read too.
    pub services: Services,
    /// Warnings.
    pub warnings: Vec<Finding>,
    /// How many objects of other kinds there were, by kind.
    pub ignored: BTreeMap<String, usize>,
}

impl Objects {
    /// The three lists: namespaces, pods, policies.
    pub fn into_changes(self) -> [Change; 3] {
        [Change::Namespaces(self.namespaces), Change::Pods(self.pods), Change::Policies(self.policies)]
    }
}

impl From<Objects> for State {
    fn from(objects: Objects) -> Self {
        let mut state = Self::default();
        for change in objects.into_changes() {
            state.apply(change);
        }
        state
    }
}

/// Objects by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub(crate) pods: BTreeMap<NamespacedName, Pod>,
    pub(crate) namespaces: BTreeMap<Arc<str>, Namespace>,
    pub(crate) policies: BTreeMap<NamespacedName, Policy>,
}

/// Merges the objects of several files and adds the namespaces that are only mentioned.
pub(crate) fn assemble<'o>(objects: impl IntoIterator<Item = &'o Object>) -> Assembled {
    let mut assembled = Assembled::default();
    for object in objects {
        match object {
            Object::Pod(pod) => {
                assembled.pods.insert(pod.key.clone(), pod.clone());
            }
            Object::Namespace(namespace) => {
                assembled.namespaces.insert(Arc::clone(&namespace.name), namespace.clone());
            }
            Object::Policy(policy) => {
                assembled.policies.insert(policy.key.clone(), policy.clone());
            }
        }
    }
    let mentioned: BTreeSet<_> =
        assembled.pods.keys().chain(assembled.policies.keys()).map(|key| Arc::clone(&key.namespace)).collect();
    for name in mentioned {
        assembled.namespaces.entry(Arc::clone(&name)).or_insert_with(|| Namespace::new(name, Labels::new()));
    }
    assembled
}

/// An object that is written twice.
pub(crate) struct Duplicate<'c> {
    name: ObjectName,
    first: &'c Place,
    second: &'c Place,
}

impl Duplicate<'_> {
    /// The error, at the second position.
    pub(crate) fn finding(&self) -> Finding {
        self.finding_at(self.second, self.first)
    }

    /// The error, at the position in `file`, if it is one of the two.
    pub(crate) fn finding_in(&self, file: &Path) -> Option<Finding> {
        if self.second.file == file {
            Some(self.finding())
        } else if self.first.file == file {
            Some(self.finding_at(self.first, self.second))
        } else {
            None
        }
    }

    fn finding_at(&self, here: &Place, there: &Place) -> Finding {
        Finding {
            file: here.file.clone(),
            document: Some(here.document),
            line: Some(here.line),
            object: Some(self.name.clone()),
            flaw: Flaw::WrittenTwice,
            field: String::new(),
            reason: format!("{} is written twice: it is also at {there}", self.name),
            hint: Some("remove one of the two".to_owned()),
        }
    }
}

/// Every further occurrence of an object, with the first one.
pub(crate) fn duplicates<'c>(contents: impl IntoIterator<Item = &'c Content>) -> Vec<Duplicate<'c>> {
    let mut firsts: BTreeMap<ObjectName, &Place> = BTreeMap::new();
    let mut duplicates = Vec::new();
    for (object, second) in contents.into_iter().flat_map(|content| &content.objects) {
        let name = ObjectName::of(object);
        match firsts.get(&name) {
            None => {
                firsts.insert(name, second);
            }
            Some(first) => duplicates.push(Duplicate { name, first, second }),
        }
    }
    duplicates
}

/// Forgets each object and workload that a later path has too.
pub(super) fn forget_replaced(contents: &mut [Content]) {
    let (mut objects, mut workloads) = (BTreeMap::new(), BTreeMap::new());
    for content in contents.iter().rev() {
        for (object, _) in &content.objects {
            objects.entry(ObjectName::of(object)).or_insert(content.origin);
        }
        for workload in &content.workloads {
            workloads.entry((workload.kind, workload.pod.key.clone())).or_insert(content.origin);
        }
    }
    for content in contents {
        let is_last = |object: &Object| objects.get(&ObjectName::of(object)).is_none_or(|last| *last == content.origin);
        // With `Reading::Everything`, there is one `written` for each object.
        let mut kept = content.objects.iter().map(|(object, _)| is_last(object)).collect::<Vec<_>>().into_iter();
        content.written.retain(|_| kept.next().unwrap_or(true));
        content.objects.retain(|(object, _)| is_last(object));
        let origin = content.origin;
        content.workloads.retain(|workload| {
            workloads.get(&(workload.kind, workload.pod.key.clone())).is_none_or(|last| *last == origin)
        });
    }
}

impl Objects {
    /// Merges files that have neither errors nor duplicates.
    pub(crate) fn of(contents: Vec<Content>) -> Self {
        let assembled = assemble(contents.iter().flat_map(|content| &content.objects).map(|(object, _)| object));
        let mut objects = Self {
            pods: assembled.pods.into_values().collect(),
            namespaces: assembled.namespaces.into_values().collect(),
            policies: assembled.policies.into_values().collect(),
            ..Self::default()
        };
        for content in contents {
            let (services, slices) = (content.services.into_iter(), content.slices.into_iter());
            objects.services.services.extend(services.map(|service| (service.key.clone(), service)));
            objects.services.slices.extend(slices.map(|slice| (slice.key.clone(), slice)));
            objects.warnings.extend(content.warnings);
            objects.places.extend(content.objects.into_iter().map(|(object, place)| (ObjectName::of(&object), place)));
            for (kind, count) in content.ignored {
                *objects.ignored.entry(kind).or_default() += count;
            }
        }
        objects
    }
}
