//! The objects that exist, and the events that change them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Budget, Namespace, NamespacedName, Pod, Policy};

/// One event of an object source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pod was added or changed.
    Pod(Pod),
    /// A pod is gone.
    PodGone(NamespacedName),
    /// A namespace was added or changed.
    Namespace(Namespace),
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A policy was added or changed.
    Policy(Policy),
    /// A policy is gone.
    PolicyGone(NamespacedName),
    /// A new list of all pods, applied at once.
    Pods(Vec<Pod>),
    /// A new list of all namespaces, applied at once.
    Namespaces(Vec<Namespace>),
    /// A new list of all policies, applied at once.
    Policies(Vec<Policy>),
}

/// The objects that exist.
///
/// While a namespace is being deleted, its policies may be deleted before its pods (CVE-2024-7598). The pods must stay
/// isolated, so [`State::apply`] keeps such a policy in `policies` as a tombstone until the namespace and its pods are
/// gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Pods by name.
    pub pods: BTreeMap<NamespacedName, Arc<Pod>>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Policies in force by name, tombstones included.
    pub policies: BTreeMap<NamespacedName, Policy>,
    /// The tombstones in `policies`: the source no longer has them.
    pub tombstones: BTreeSet<NamespacedName>,
    /// Namespaces that are gone, but some of their pods are not.
    pub departing: BTreeSet<Arc<str>>,
    /// The budget of policies. A policy over it is reduced to its isolation ([`Policy::within`]).
    pub budget: Budget,
}

/// The objects that an event removed or replaced.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    pub(crate) namespace: Option<Namespace>,
    /// The policy of the event, and tombstones that ended.
    pub(crate) policies: Vec<Policy>,
}

impl State {
    /// Applies one event. A list is applied as single events.
    pub fn apply(&mut self, change: Change) {
        for single in self.singles(change) {
            self.apply_single(single);
        }
    }

    /// The single events of a change: itself, or, for a list, first the deletions, then the listed objects.
    pub fn singles(&self, change: Change) -> Vec<Change> {
        match change {
            Change::Pods(pods) => {
                let kept: BTreeSet<_> = pods.iter().map(|pod| &pod.key).collect();
                let gone = self.pods.keys().filter(|key| !kept.contains(key)).cloned().map(Change::PodGone);
                let gone: Vec<_> = gone.collect();
                gone.into_iter().chain(pods.into_iter().map(Change::Pod)).collect()
            }
            Change::Namespaces(namespaces) => {
                let kept: BTreeSet<_> = namespaces.iter().map(|namespace| &namespace.name).collect();
                let gone = self.namespaces.keys().filter(|name| !kept.contains(name)).cloned();
                let gone: Vec<_> = gone.map(Change::NamespaceGone).collect();
                gone.into_iter().chain(namespaces.into_iter().map(Change::Namespace)).collect()
            }
            Change::Policies(policies) => {
                let kept: BTreeSet<_> = policies.iter().map(|policy| &policy.key).collect();
                let gone = self.policies.keys().filter(|key| !kept.contains(key)).cloned().map(Change::PolicyGone);
                let gone: Vec<_> = gone.collect();
                gone.into_iter().chain(policies.into_iter().map(Change::Policy)).collect()
            }
            single => vec![single],
        }
    }

    /// Applies an event that is not a list; lists are ignored here.
    pub(crate) fn apply_single(&mut self, change: Change) -> Replaced {
        let mut replaced = Replaced::default();
        match change {
            Change::Pod(pod) => drop(self.pods.insert(pod.key.clone(), Arc::new(pod))),
            Change::PodGone(key) => {
                self.pods.remove(&key);
                replaced.policies = self.end_tombstones(&key.namespace);
            }
            Change::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.departing.remove(&name);
                replaced.namespace = self.namespaces.insert(name.clone(), namespace);
                replaced.policies = self.end_tombstones(&name);
            }
            Change::NamespaceGone(name) => {
                replaced.namespace = self.namespaces.remove(&name);
                if self.has_pods(&name) {
                    self.departing.insert(name.clone());
                }
                replaced.policies = self.end_tombstones(&name);
            }
            Change::Policy(policy) => {
                self.tombstones.remove(&policy.key);
                let policy = policy.within(&self.budget);
                replaced.policies.extend(self.policies.insert(policy.key.clone(), policy));
            }
            Change::PolicyGone(key) => {
                if self.is_leaving(&key.namespace) && self.policies.contains_key(&key) {
                    self.tombstones.insert(key);
                    return replaced;
                }
                self.tombstones.remove(&key);
                replaced.policies.extend(self.policies.remove(&key));
            }
            Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_) => {}
        }
        replaced
    }

    /// The pod of this name.
    pub fn pod(&self, key: &NamespacedName) -> Option<&Pod> {
        self.pods.get(key).map(|pod| &**pod)
    }

    /// All pods.
    pub fn every_pod(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(|pod| &**pod)
    }

    /// The pods of a namespace.
    pub fn pods_of(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Pod> + use<'_> {
        in_namespace(&self.pods, namespace).map(|pod| &**pod)
    }

    /// The policies in force in a namespace.
    pub fn policies_of(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Policy> + use<'_> {
        in_namespace(&self.policies, namespace)
    }

    fn has_pods(&self, namespace: &Arc<str>) -> bool {
        self.pods_of(namespace).next().is_some()
    }

    fn is_leaving(&self, namespace: &Arc<str>) -> bool {
        self.departing.contains(namespace) || self.namespaces.get(namespace).is_some_and(|found| found.terminating)
    }

    /// Drops the tombstones of a namespace that is not being deleted, or that is gone with all its pods.
    fn end_tombstones(&mut self, namespace: &Arc<str>) -> Vec<Policy> {
        if self.departing.contains(namespace) && !self.has_pods(namespace) {
            self.departing.remove(namespace);
        }
        if self.is_leaving(namespace) {
            return Vec::new();
        }
        let first = NamespacedName::new(namespace.clone(), "");
        let there = self.tombstones.range(first..).take_while(|key| key.namespace == *namespace);
        let ended: Vec<_> = there.cloned().collect();
        ended
            .iter()
            .filter_map(|key| {
                self.tombstones.remove(key);
                self.policies.remove(key)
            })
            .collect()
    }
}

fn in_namespace<'a, T>(
    objects: &'a BTreeMap<NamespacedName, T>,
    namespace: &Arc<str>,
) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let namespace = namespace.clone();
    objects
        .range(NamespacedName::new(namespace.clone(), "")..)
        .take_while(move |(key, _)| key.namespace == namespace)
        .map(|(_, object)| object)
}
