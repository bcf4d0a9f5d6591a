//! The conditions under which a list is not believed at first.
//!
//! A list removes every object it lacks, and removing a policy opens its pods. A list can be empty or short without any
//! error: a restored etcd, a faulty proxy, another cluster at the same IP. So a list that would remove too much changes
//! nothing until a second list lacks the same objects and the server does not return them to single GETs.

use std::collections::BTreeSet;

use palisade_policy::index::Index;
use palisade_policy::input::{Direction, Kind, NamespacedName, Policy, State};

use crate::witness::Witnesses;

/// Why a list is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It would remove more than half of the known objects of the kind.
    Half,
    /// It would remove the last policy that isolates a pod of this node.
    Isolation,
    /// It lacks an object that every list of the cluster has: namespace `kube-system`, or the agent's own pod.
    Canary,
    /// At a start: it would open pods that the previous agent's table isolates, or lacks most pods of that table.
    Table,
    /// It lacks an object that the server returns to a GET.
    Object,
    /// The server has not answered the GETs of objects that the list lacks.
    Unanswered,
}

impl Reason {
    /// Its metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Isolation => "isolation",
            Self::Canary => "canary",
            Self::Table => "table",
            Self::Object => "object",
            Self::Unanswered => "unanswered",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Half => "it lacks more than half of the known objects",
            Self::Isolation => "it lacks the last policy that isolates a pod of this node",
            Self::Canary => "it lacks namespace kube-system or the agent's own pod",
            Self::Table => "it would open pods that the previous agent's table isolates",
            Self::Object => "it lacks an object that the API server returns to a GET",
            Self::Unanswered => "the API server has not answered the GETs of objects that the list lacks",
        })
    }
}

/// The namespace that every cluster has.
pub(crate) const SYSTEM: &str = "kube-system";

/// Names of objects of one kind; a namespace's key has an empty namespace.
pub(crate) type Keys = BTreeSet<NamespacedName>;

/// A list that waits for a second one.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    pub(crate) reason: Reason,
    /// The objects that the last list lacked.
    pub(crate) missing: Keys,
    /// Some of these objects, which the server is asked for with a GET each.
    pub(crate) witnesses: Witnesses,
}

/// The reason to doubt a list of a kind with `known` objects that `lacks` these; `missing` are those of them that no
/// watch reported as deleted and that the doubted list before it had.
pub(crate) fn doubt(
    kind: Kind,
    missing: &Keys,
    lacks: &Keys,
    known: usize,
    index: &Index,
    own_pod: Option<&NamespacedName>,
) -> Option<Reason> {
    if missing.is_empty() {
        return None;
    }
    let canary = match kind {
        Kind::Namespace => missing.iter().any(|key| &*key.name == SYSTEM),
        Kind::Pod => own_pod.is_some_and(|own| missing.contains(own)),
        Kind::NetworkPolicy => false,
    };
    if canary {
        return Some(Reason::Canary);
    }
    if missing.len().saturating_mul(2) > known {
        return Some(Reason::Half);
    }
    (kind == Kind::NetworkPolicy && opens_a_local_pod(missing, lacks, index)).then_some(Reason::Isolation)
}

/// Whether the list would leave no policy that isolates a local pod in a direction, and at least one of them is
/// `missing`.
fn opens_a_local_pod(missing: &Keys, lacks: &Keys, index: &Index) -> bool {
    let state = index.state();
    let namespaces: BTreeSet<_> = missing.iter().map(|key| &key.namespace).collect();
    namespaces.into_iter().any(|namespace| {
        let local = |pod: &&_| is_local(index, pod);
        state.pods_of(namespace).filter(local).any(|pod| {
            Direction::ALL.into_iter().any(|direction| {
                let isolates = |policy: &&Policy| {
                    policy.isolates.in_direction(direction) && policy.pod_selector.selects(&pod.labels)
                };
                let isolating = || state.policies_of(namespace).filter(isolates).map(|policy| &policy.key);
                isolating().all(|key| lacks.contains(key)) && isolating().any(|key| missing.contains(key))
            })
        })
    })
}

/// Whether this node enforces policies for a pod.
pub(crate) fn is_local(index: &Index, pod: &palisade_policy::input::Pod) -> bool {
    pod.is_live() && pod.node.as_ref() == Some(index.node())
}

/// Whether a namespace has pods on this node.
pub(crate) fn has_local_pods(index: &Index, namespace: &std::sync::Arc<str>) -> bool {
    index.state().pods_of(namespace).any(|pod| is_local(index, pod))
}

/// Whether policies of this namespace stay in force as tombstones when they are deleted.
pub(crate) fn is_ending(state: &State, namespace: &std::sync::Arc<str>) -> bool {
    state.departing.contains(namespace) || state.namespaces.get(namespace).is_some_and(|found| found.terminating)
}
