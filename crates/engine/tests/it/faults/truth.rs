//! The true state of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_policy::input::{Change, Kind, Namespace, NamespacedName, Pod, Policy, State};

/// The objects as the server has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) pods: BTreeMap<NamespacedName, Arc<Pod>>,
    pub(crate) namespaces: BTreeMap<Arc<str>, Namespace>,
    pub(crate) policies: BTreeMap<NamespacedName, Policy>,
}

impl Truth {
    pub(crate) fn of(state: &State) -> Self {
        let mut policies = state.policies.clone();
        policies.retain(|key, _| !state.tombstones.contains(key));
        Self { pods: state.pods.clone(), namespaces: state.namespaces.clone(), policies }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Pod(pod) => drop(self.pods.insert(pod.key.clone(), pod.into())),
            Change::PodGone(key) => drop(self.pods.remove(&key)),
            Change::Namespace(namespace) => drop(self.namespaces.insert(namespace.name.clone(), namespace)),
            Change::NamespaceGone(name) => drop(self.namespaces.remove(&name)),
            Change::Policy(policy) => drop(self.policies.insert(policy.key.clone(), policy)),
            Change::PolicyGone(key) => drop(self.policies.remove(&key)),
            Change::Pods(all) => self.pods = all.into_iter().map(|pod| (pod.key.clone(), pod.into())).collect(),
            Change::Namespaces(all) => self.namespaces = all.into_iter().map(|one| (one.name.clone(), one)).collect(),
            Change::Policies(all) => self.policies = all.into_iter().map(|one| (one.key.clone(), one)).collect(),
        }
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, kind: Kind) -> BTreeSet<NamespacedName> {
        match kind {
            Kind::Pod => self.pods.keys().cloned().collect(),
            Kind::Namespace => self.namespaces.keys().map(|name| NamespacedName::new("", name.clone())).collect(),
            Kind::NetworkPolicy => self.policies.keys().cloned().collect(),
        }
    }

    pub(crate) fn state(&self) -> State {
        State {
            pods: self.pods.clone(),
            namespaces: self.namespaces.clone(),
            policies: self.policies.clone(),
            ..State::default()
        }
    }
}
