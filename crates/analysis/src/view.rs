//! The objects as the checks see them, with which policy selects which pod.

use std::borrow::Cow;
use std::sync::Arc;

use palisade_policy::compile::{Namespaces, PeerSelector};
use palisade_policy::input::{
    Direction, Kind, LabelSelector, METADATA_NAME, Namespace, NamespaceScope, ObjectName, Peer, Peers, Pod, Policy,
    Protocol, Rule, State, without_unknown,
};

use crate::input::Input;

/// The objects, with what is known about them beyond the state.
pub(crate) struct View<'a> {
    /// The objects, those with mistakes included.
    pub(crate) state: &'a State,
    input: &'a Input<'a>,
    knows_namespaces: bool,
}

/// The pods that a selector matches, grouped by how policies treat them.
#[derive(Default)]
pub(crate) struct Selected<'a> {
    /// Those that it selects.
    pub(crate) live: Vec<&'a Pod>,
    /// Pods that it would match if they were not on the host's network.
    pub(crate) on_host: Vec<&'a Pod>,
    /// Whether it matches any finished pods.
    pub(crate) finished: bool,
}

impl Selected<'_> {
    /// Not even a pod that policies ignore.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.on_host.is_empty() && !self.finished
    }
}

impl<'a> FromIterator<&'a Pod> for Selected<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Pod>>(pods: I) -> Self {
        let mut selected = Self::default();
        for pod in pods {
            if pod.is_live() {
                selected.live.push(pod);
            } else if pod.phase.is_terminal() {
                selected.finished = true;
            } else {
                selected.on_host.push(pod);
            }
        }
        selected
    }
}

impl<'a> View<'a> {
    pub(crate) fn new(input: &'a Input<'a>) -> Self {
        let knows_namespaces = input.written.keys().any(|name| name.kind == Kind::Namespace);
        Self { state: input.state, input, knows_namespaces }
    }

    /// Whether there are any pods; without them, nothing can be said about what matches none.
    pub(crate) fn knows_pods(&self) -> bool {
        !self.state.pods.is_empty()
    }

    /// Whether the object has no mistakes.
    pub(crate) fn is_sound(&self, name: &ObjectName) -> bool {
        self.input.written.get(name).is_some_and(|written| written.sound)
    }

    /// Whether the object is written, rather than only mentioned.
    pub(crate) fn is_written(&self, name: &ObjectName) -> bool {
        self.input.written.contains_key(name)
    }

    /// The policies without mistakes. A policy with mistakes is not in force, so its effect does not matter.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &'a Policy> {
        self.state.policies.values().filter(|policy| self.is_sound(&ObjectName::policy(&policy.key)))
    }

    /// The ports that a pod declares, with or without a name.
    pub(crate) fn ports(&self, pod: &Pod) -> &'a [(Protocol, u16)] {
        self.input.written.get(&ObjectName::pod(&pod.key)).map(|written| written.ports).unwrap_or_default()
    }

    /// The pods that a policy's `podSelector` matches.
    pub(crate) fn selected(&self, policy: &Policy) -> Selected<'a> {
        let pods = self.state.pods_of(&policy.key.namespace);
        pods.filter(|pod| may_select(&policy.pod_selector, pod)).collect()
    }

    /// The pods that a peer matches; `None` if it has no selectors.
    pub(crate) fn peer(&self, policy: &Policy, peer: &Peer) -> Option<Selected<'a>> {
        let selector = peer_selector(policy, peer)?;
        let is_meant = |pod: &&Pod| {
            let namespace = self.state.namespaces.get(&pod.key.namespace);
            match without_unknown(&selector.pods, &pod.labels) {
                Cow::Borrowed(_) => selector.selects(pod, namespace),
                Cow::Owned(pods) => {
                    PeerSelector { namespaces: selector.namespaces.clone(), pods }.selects(pod, namespace)
                }
            }
        };
        Some(self.state.pods.values().filter(is_meant).collect())
    }

    /// The namespaces that a selector selects.
    pub(crate) fn namespaces(&self, selector: &LabelSelector) -> Vec<&'a Namespace> {
        self.state.namespaces.values().filter(|namespace| selector.selects(&namespace.labels)).collect()
    }

    /// Whether it is known which namespaces a selector selects. If no Namespace is written, only the names are known.
    pub(crate) fn can_judge(&self, selector: &LabelSelector) -> bool {
        self.knows_namespaces || selector.requirements.iter().all(|requirement| requirement.key == METADATA_NAME)
    }
}

/// Whether a selector matches a pod, if the values that only controllers know are those that it names.
pub(crate) fn may_select(selector: &LabelSelector, pod: &Pod) -> bool {
    without_unknown(selector, &pod.labels).selects(&pod.labels)
}

/// A peer with selectors, whatever policy it is from.
pub(crate) fn peer_selector(policy: &Policy, peer: &Peer) -> Option<PeerSelector> {
    let Peer::Pods { namespaces, pods } = peer else { return None };
    let namespaces = match namespaces {
        NamespaceScope::Own => Namespaces::Named(Arc::clone(&policy.key.namespace)),
        NamespaceScope::Matching(selector) => Namespaces::Matching(selector.clone()),
    };
    Some(PeerSelector { namespaces, pods: pods.clone() })
}

/// The rules of a policy that have an effect, with their fields.
pub(crate) fn rules(policy: &Policy) -> impl Iterator<Item = (Direction, String, &Rule)> {
    let directions = Direction::ALL.into_iter().filter(|direction| policy.isolates.in_direction(*direction));
    directions.flat_map(|direction| {
        let rules = policy.rules(direction).iter().enumerate();
        rules.map(move |(index, rule)| (direction, format!("spec.{direction}[{index}]"), rule))
    })
}

/// The listed peers of a rule, with their fields.
pub(crate) fn peers<'r>(direction: Direction, field: &str, rule: &'r Rule) -> impl Iterator<Item = (String, &'r Peer)> {
    let list = match &rule.peers {
        Peers::Any => &[],
        Peers::Of(list) => list.as_slice(),
    };
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    list.iter().enumerate().map(move |(index, peer)| (format!("{field}.{key}[{index}]"), peer))
}
