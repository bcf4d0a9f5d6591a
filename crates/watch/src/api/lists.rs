//! From the steps of three watches to the events of one source.

use std::collections::BTreeMap;

use palisade_policy::input::{Change, NamespacedName};

use super::objects::Decoded;
use crate::event::{Event, Failure};
use crate::finding::{Kind, ObjectName};
use crate::manifests::Object;

/// One step of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Everything of the kind follows.
    ListBegins,
    /// One object of a list.
    Listed(Decoded),
    /// That was everything.
    ListEnds,
    /// An object was added or changed.
    Applied(Decoded),
    /// An object is gone.
    Gone(ObjectName),
    /// The watch failed and is tried again.
    Failed(Failure),
}

type Collected = BTreeMap<ObjectName, Object>;

/// Collects lists and swaps them in whole.
///
/// Until every kind has been listed once, the finished lists are held here, and what changes meanwhile changes them, so
/// that the receiver gets nothing but three lists before it may act.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Lists that have begun and not ended.
    coming: BTreeMap<Kind, Collected>,
    /// Finished lists, until all are.
    held: BTreeMap<Kind, Collected>,
    synced: bool,
    /// The warnings last sent, by object.
    warned: BTreeMap<ObjectName, Vec<String>>,
}

impl Lists {
    /// What follows from a step.
    pub(super) fn take(&mut self, kind: Kind, step: Step) -> Vec<Event> {
        match step {
            Step::ListBegins => {
                self.coming.insert(kind, Collected::new());
                Vec::new()
            }
            Step::Listed(Decoded { object, warnings }) => {
                let name = object.name();
                let events = self.warn(&name, warnings);
                self.coming.entry(kind).or_default().insert(name, object);
                events
            }
            Step::ListEnds => {
                let list = self.coming.remove(&kind).unwrap_or_default();
                self.forget_warnings(kind, &list);
                self.complete(kind, list)
            }
            Step::Applied(Decoded { object, warnings }) => {
                let name = object.name();
                let mut events = self.warn(&name, warnings);
                match self.held.get_mut(&kind) {
                    Some(list) => drop(list.insert(name, object)),
                    None if self.synced => events.insert(0, Event::Changes(vec![applied(object)])),
                    // A watch follows its list; there is nothing yet that this could change.
                    None => {}
                }
                events
            }
            Step::Gone(name) => {
                self.warned.remove(&name);
                match self.held.get_mut(&kind) {
                    Some(list) => {
                        list.remove(&name);
                        Vec::new()
                    }
                    None if self.synced => vec![Event::Changes(vec![gone(name)])],
                    None => Vec::new(),
                }
            }
            Step::Failed(failure) => vec![Event::Failed(failure)],
        }
    }

    fn complete(&mut self, kind: Kind, list: Collected) -> Vec<Event> {
        if self.synced {
            return vec![Event::Changes(vec![whole(kind, list)])];
        }
        self.held.insert(kind, list);
        if self.held.len() < Kind::ALL.len() {
            return Vec::new();
        }
        self.synced = true;
        let mut held = std::mem::take(&mut self.held);
        let list = |kind| Event::Changes(vec![whole(kind, held.remove(&kind).unwrap_or_default())]);
        Kind::ALL.into_iter().map(list).chain([Event::Synced]).collect()
    }

    /// The warnings about an object, unless they were sent before.
    fn warn(&mut self, name: &ObjectName, warnings: Vec<String>) -> Vec<Event> {
        if warnings.is_empty() {
            self.warned.remove(name);
            return Vec::new();
        }
        let known = self.warned.get(name);
        let new = warnings.iter().filter(|message| known.is_none_or(|known| !known.contains(message)));
        let events =
            new.map(|message| Event::Warning { object: Some(name.clone()), message: message.clone() }).collect();
        self.warned.insert(name.clone(), warnings);
        events
    }

    fn forget_warnings(&mut self, kind: Kind, list: &Collected) {
        self.warned.retain(|name, _| name.kind != kind || list.contains_key(name));
    }
}

fn applied(object: Object) -> Change {
    match object {
        Object::Pod(pod) => Change::Pod(pod),
        Object::Namespace(namespace) => Change::Namespace(namespace),
        Object::Policy(policy) => Change::Policy(policy),
    }
}

fn gone(name: ObjectName) -> Change {
    let key = |name: ObjectName| NamespacedName::new(name.namespace.unwrap_or_default(), name.name);
    match name.kind {
        Kind::Pod => Change::PodGone(key(name)),
        Kind::Namespace => Change::NamespaceGone(name.name),
        Kind::NetworkPolicy => Change::PolicyGone(key(name)),
    }
}

/// A list as one change. A watch of a kind brings objects of that kind only.
fn whole(kind: Kind, list: Collected) -> Change {
    let (mut pods, mut namespaces, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for object in list.into_values() {
        match object {
            Object::Pod(pod) => pods.push(pod),
            Object::Namespace(namespace) => namespaces.push(namespace),
            Object::Policy(policy) => policies.push(policy),
        }
    }
    match kind {
        Kind::Pod => Change::Pods(pods),
        Kind::Namespace => Change::Namespaces(namespaces),
        Kind::NetworkPolicy => Change::Policies(policies),
    }
}

#[cfg(test)]
mod tests;
