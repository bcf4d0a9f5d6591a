//! Namespaces that were already being deleted when the agent started.
//!
//! Policies of such a namespace may be gone while its pods still run (CVE-2024-7598). An agent that saw the deletion
//! keeps the policies as tombstones. One that starts later only finds the isolated pods, in the table of the previous
//! agent. They stay isolated. The peers that their policies allowed are unknown, so nothing is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{Change, Isolates, LabelSelector, Labels, NamespacedName, Pod, Policy, State};
use palisade_ruleset::model::{Key, Ruleset};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{EGRESS_MAPS, INGRESS_MAPS};

/// The changes that keep pods of terminating namespaces isolated as in `table`: for pods with the same labels a policy
/// that allows nothing, and its deletion, which leaves a tombstone.
pub(crate) fn changes(table: &Ruleset, state: &State) -> Vec<Change> {
    let (egress, ingress) = (isolated(table, EGRESS_MAPS), isolated(table, INGRESS_MAPS));
    let mut lost: BTreeMap<(Arc<str>, Labels), Isolates> = BTreeMap::new();
    for pod in state.every_pod().filter(|pod| is_ending(state, pod)) {
        let policies =
            || state.policies_of(&pod.key.namespace).filter(|policy| policy.pod_selector.selects(&pod.labels));
        let was = |map: &BTreeSet<IpAddr>| pod.claims().any(|address| map.contains(&address));
        let isolates = Isolates {
            egress: was(&egress) && !policies().any(|policy| policy.isolates.egress),
            ingress: was(&ingress) && !policies().any(|policy| policy.isolates.ingress),
        };
        if isolates.egress || isolates.ingress {
            let before = lost.entry((pod.key.namespace.clone(), pod.labels.clone())).or_default();
            before.egress |= isolates.egress;
            before.ingress |= isolates.ingress;
        }
    }
    let policies = lost.into_iter().enumerate().map(|(number, ((namespace, labels), isolates))| Policy {
        key: NamespacedName::new(namespace, format!("deleted-before-start-{number}")),
        pod_selector: LabelSelector::labels(labels),
        isolates,
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    });
    let pairs = policies.map(|policy| (policy.key.clone(), policy));
    pairs.flat_map(|(key, policy)| [Change::Policy(policy), Change::PolicyGone(key)]).collect()
}

fn is_ending(state: &State, pod: &Pod) -> bool {
    state.namespaces.get(&pod.key.namespace).is_some_and(|namespace| namespace.terminating)
}

/// The IPs in verdict maps.
fn isolated(table: &Ruleset, maps: [&str; 2]) -> BTreeSet<IpAddr> {
    let maps = maps.into_iter().filter_map(|map| table.sets.get(&Name::new(map)));
    let keys = maps.flat_map(|map| map.elements.keys());
    keys.filter_map(|key| if let Key::Address(address) = key { Some(*address) } else { None }).collect()
}
