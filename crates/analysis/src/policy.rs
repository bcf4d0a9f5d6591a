//! A policy explained: what it selects, what its rules mean here, and what of that nothing else allows.

use std::collections::{BTreeMap, BTreeSet};

use palisade_policy::compile::PeerSelector;
use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{Direction, NamespacedName, Peer, Peers, Pod, Policy, Ports, Rule, State};

use crate::diff::{Change, Scope, diff};
use crate::reach::name;
use crate::words::near::{of_peer, port};

/// A policy explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The workloads that it selects, with the number of their pods.
    pub selected: BTreeMap<String, usize>,
    /// The directions in which it isolates them.
    pub isolates: Vec<Direction>,
    /// Its rules in these directions.
    pub rules: Vec<OfRule>,
}

/// A rule explained.
#[derive(Clone, Debug)]
pub struct OfRule {
    /// The direction.
    pub direction: Direction,
    /// The position in `spec.egress` or `spec.ingress`.
    pub index: usize,
    /// Each peer, and the workloads that it matches; `None` for a peer that is no selector.
    pub peers: Vec<(String, Option<BTreeSet<String>>)>,
    /// The ports.
    pub ports: String,
    /// What it allows and no other rule of any policy does.
    pub adds: Vec<Change>,
}

impl OfRule {
    /// Whether it allows nothing that other rules do not allow too.
    pub fn is_shadowed(&self) -> bool {
        self.adds.is_empty()
    }
}

/// Explains a policy of these objects.
pub fn explain(state: &State, facts: &NodeFacts, policy: &Policy) -> Explanation {
    let pods = state.pods_of(&policy.key.namespace).filter(|pod| pod.is_live());
    let pods: Vec<_> = pods.filter(|pod| policy.selects(pod)).collect();
    let keys: BTreeSet<_> = pods.iter().map(|pod| pod.key.clone()).collect();
    let mut selected = BTreeMap::new();
    pods.iter().for_each(|pod| *selected.entry(name(pod).to_string()).or_default() += 1);
    let isolates: Vec<_> =
        Direction::ALL.into_iter().filter(|direction| policy.isolates.in_direction(*direction)).collect();
    let rules = isolates.iter().flat_map(|direction| {
        policy.rules(*direction).iter().enumerate().map(|(index, rule)| OfRule {
            direction: *direction,
            index,
            peers: peers(state, policy, rule),
            ports: ports(&rule.ports),
            adds: adds(state, facts, policy, *direction, index, &keys),
        })
    });
    Explanation { selected, rules: rules.collect(), isolates }
}

fn peers(state: &State, policy: &Policy, rule: &Rule) -> Vec<(String, Option<BTreeSet<String>>)> {
    let Peers::Of(list) = &rule.peers else { return vec![("every peer".to_owned(), None)] };
    let of = |peer: &Peer| {
        let Peer::Pods { namespaces, pods } = peer else { return (of_peer(peer), None) };
        let selector = PeerSelector::of(namespaces, pods, &policy.key.namespace);
        let is_peer = |pod: &&Pod| pod.is_live() && selector.selects(pod, state.namespaces.get(&pod.key.namespace));
        let matched = state.every_pod().filter(is_peer).map(|pod| name(pod).to_string());
        (of_peer(peer), Some(matched.collect()))
    };
    list.iter().map(of).collect()
}

/// Ports in words.
pub(crate) fn ports(ports: &Ports) -> String {
    match ports {
        Ports::Any => "every port".to_owned(),
        Ports::Of(list) => list.iter().map(port).collect::<Vec<_>>().join(", "),
    }
}

/// What would close without this rule.
fn adds(
    state: &State,
    facts: &NodeFacts,
    policy: &Policy,
    direction: Direction,
    index: usize,
    pods: &BTreeSet<NamespacedName>,
) -> Vec<Change> {
    let mut without = state.clone();
    if let Some(policy) = without.policies.get_mut(&policy.key) {
        let rules = policy.rules_mut(direction);
        if index < rules.len() {
            rules.remove(index);
        }
    }
    diff(&without, state, facts, Scope::Of(direction, pods)).changes
}
