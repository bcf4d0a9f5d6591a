//! When a list is not believed at first.
//!
//! A list takes away what it leaves out, and taking a policy away opens its pods. A list can be empty or short without any
//! error: a restored etcd, a faulty proxy, another cluster behind the same address. So a list that would take away too much
//! changes nothing until a second one takes away the same, and the server does not have the single objects that it is asked for.

use std::collections::BTreeSet;

use palisade_policy::index::Index;
use palisade_policy::input::{Direction, Kind, NamespacedName, Policy, State};

use crate::witness::Witnesses;

/// Why a list is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It would remove more than half of what is known of the kind.
    Half,
    /// It would remove the last policy that isolates a pod of this node.
    Isolation,
    /// It lacks what every list of the cluster has: namespace `kube-system`, or the agent's own pod.
    Canary,
    /// At a start: pods that the table of the agent before has isolated would be open, or most of its pods are gone.
    Table,
    /// It lacks an object that the server has when it is asked for it.
    Object,
    /// The server has not said yet whether it has single objects that the list lacks.
    Unanswered,
}

impl Reason {
    /// As a metric label.
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
            Self::Half => "it lacks more than half of what is known",
            Self::Isolation => "it lacks the last policy that isolates a pod of this node",
            Self::Canary => "it lacks namespace kube-system or the agent's own pod",
            Self::Table => "it would open what the table of the agent before isolates",
            Self::Object => "it lacks an object that the API server has when asked for it",
            Self::Unanswered => "the API server has not said yet whether it has objects that the list lacks",
        })
    }
}

/// The namespace that every cluster has.
pub(crate) const SYSTEM: &str = "kube-system";

/// Objects of one kind by name; those of namespaces have an empty namespace.
pub(crate) type Keys = BTreeSet<NamespacedName>;

/// A list that waits for a second one.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    pub(crate) reason: Reason,
    /// What the last list lacked.
    pub(crate) missing: Keys,
    /// Some of that, which the server is asked for one by one.
    pub(crate) witnesses: Witnesses,
}

/// Why a list that `lacks` these of the `known` objects of a kind is doubted, if it is: `missing` of them are a surprise.
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

/// Whether a local pod that is isolated in a direction, by a missing policy at least, would not be without all that a list
/// lacks.
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

/// Whether a pod is one that this node enforces policies for.
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
