//! Events.

use std::sync::Arc;

use palisade_policy::input::{Change, ContainerPort, Labels, Namespace, NamespacedName, Pod, Policy, State};
use proptest::collection::vec;
use proptest::prelude::*;

use super::alphabet::{NAMESPACES, container_ports, namespace_labels, pick, pod_labels};
use super::cluster::{AddressSeed, Life, PodSeed, address, life, pod};
use super::policy::{PolicySeed, policy};

/// The number of nodes for new pods.
const NODES: u8 = super::MAX_NODES;

/// An event, independent of existing objects. Its numbers pick among the objects that exist then.
#[derive(Clone, Debug)]
pub(crate) enum ChangeSeed {
    PodCreated(u8, PodSeed),
    PodGone(u16),
    PodRelabelled(u16, Labels),
    PodReaddressed(u16, AddressSeed),
    PodLives(u16, Life),
    PodPorts(u16, Vec<ContainerPort>),
    PodAgain(u16),
    PodNeverSeenGone,
    NamespaceCreated(u16, Labels),
    NamespaceTerminates(u16),
    NamespaceGone(u16),
    NamespaceAgain(u16),
    /// Becomes terminating, then its policies, its pods and finally itself are deleted; the first two in either order.
    NamespaceRemoved(u16, bool),
    PolicyCreated(u8, PolicySeed),
    PolicyEdited(u16, PolicySeed),
    PolicyGone(u16),
    PolicyAgain(u16),
    /// A list that lacks every n-th pod, optionally in reverse order, with a new one.
    Pods(u8, bool, Option<(u8, PodSeed)>),
    Namespaces(u8, Labels),
    Policies(u8, bool, Option<(u8, PolicySeed)>),
}

/// Up to thirty events.
pub(crate) fn changes() -> impl Strategy<Value = Vec<ChangeSeed>> {
    vec(change(), 1..30)
}

fn change() -> impl Strategy<Value = ChangeSeed> {
    let number = any::<u16>;
    // Few names, so that deleted ones come back.
    let new_pod = || (12_u8..16, pod());
    let new_policy = || (8_u8..11, policy());
    let pods = prop_oneof![
        4 => new_pod().prop_map(|(number, seed)| ChangeSeed::PodCreated(number, seed)),
        4 => number().prop_map(ChangeSeed::PodGone),
        4 => (number(), pod_labels()).prop_map(|(pod, labels)| ChangeSeed::PodRelabelled(pod, labels)),
        5 => (number(), address()).prop_map(|(pod, address)| ChangeSeed::PodReaddressed(pod, address)),
        5 => (number(), life()).prop_map(|(pod, life)| ChangeSeed::PodLives(pod, life)),
        2 => (number(), container_ports()).prop_map(|(pod, ports)| ChangeSeed::PodPorts(pod, ports)),
        1 => number().prop_map(ChangeSeed::PodAgain),
        1 => Just(ChangeSeed::PodNeverSeenGone),
    ];
    let namespaces = prop_oneof![
        4 => (number(), namespace_labels()).prop_map(|(name, labels)| ChangeSeed::NamespaceCreated(name, labels)),
        2 => number().prop_map(ChangeSeed::NamespaceTerminates),
        2 => number().prop_map(ChangeSeed::NamespaceGone),
        1 => number().prop_map(ChangeSeed::NamespaceAgain),
        2 => (number(), any::<bool>()).prop_map(|(name, pods_first)| ChangeSeed::NamespaceRemoved(name, pods_first)),
    ];
    let policies = prop_oneof![
        3 => new_policy().prop_map(|(number, seed)| ChangeSeed::PolicyCreated(number, seed)),
        4 => (number(), policy()).prop_map(|(policy, seed)| ChangeSeed::PolicyEdited(policy, seed)),
        3 => number().prop_map(ChangeSeed::PolicyGone),
        1 => number().prop_map(ChangeSeed::PolicyAgain),
    ];
    let lists = prop_oneof![
        (2_u8..6, any::<bool>(), prop::option::of(new_pod())).prop_map(|(n, back, new)| ChangeSeed::Pods(n, back, new)),
        (2_u8..6, namespace_labels()).prop_map(|(n, labels)| ChangeSeed::Namespaces(n, labels)),
        (2_u8..6, any::<bool>(), prop::option::of(new_policy()))
            .prop_map(|(n, back, new)| ChangeSeed::Policies(n, back, new)),
    ];
    prop_oneof![10 => pods, 4 => namespaces, 6 => policies, 2 => lists]
}

pub(crate) fn resolve(seeds: &[ChangeSeed], start: &State) -> Vec<Change> {
    let mut state = start.clone();
    let mut changes = Vec::new();
    for seed in seeds {
        for change in seed.changes(&state) {
            state.apply(change.clone());
            changes.push(change);
        }
    }
    changes
}

impl ChangeSeed {
    /// The events for the existing objects; none if the event's object is missing.
    fn changes(&self, state: &State) -> Vec<Change> {
        let single = match self {
            Self::PodCreated(number, seed) => Some(Change::Pod(new_pod(*number, seed))),
            Self::PodGone(pod) => some_pod(state, *pod).map(|pod| Change::PodGone(pod.key)),
            Self::PodRelabelled(pod, labels) => edit_pod(state, *pod, |pod| pod.labels = labels.clone()),
            Self::PodReaddressed(pod, address) => edit_pod(state, *pod, |pod| readdress(pod, *address)),
            Self::PodLives(pod, life) => edit_pod(state, *pod, |pod| life.give(pod)),
            Self::PodPorts(pod, ports) => edit_pod(state, *pod, |pod| pod.ports.clone_from(ports)),
            Self::PodAgain(pod) => some_pod(state, *pod).map(Change::Pod),
            Self::PodNeverSeenGone => Some(Change::PodGone(NamespacedName::new("alpha", "never-seen"))),
            Self::NamespaceCreated(name, labels) => {
                pick(&NAMESPACES, *name).map(|name| Change::Namespace(Namespace::new(*name, labels.clone())))
            }
            Self::NamespaceTerminates(name) => some_namespace(state, *name).map(terminate),
            Self::NamespaceGone(name) => some_namespace(state, *name).map(|found| Change::NamespaceGone(found.name)),
            Self::NamespaceAgain(name) => some_namespace(state, *name).map(Change::Namespace),
            Self::NamespaceRemoved(name, pods_first) => return remove_namespace(state, *name, *pods_first),
            Self::PolicyCreated(number, seed) => new_policy(state, *number, seed).map(Change::Policy),
            Self::PolicyEdited(policy, seed) => some_policy(state, *policy)
                .map(|policy| Change::Policy(seed.policy(policy.key, &state.every_pod().cloned().collect::<Vec<_>>()))),
            Self::PolicyGone(policy) => some_policy(state, *policy).map(|policy| Change::PolicyGone(policy.key)),
            Self::PolicyAgain(policy) => some_policy(state, *policy).map(Change::Policy),
            Self::Pods(n, back, new) => {
                let new = new.iter().map(|(number, seed)| new_pod(*number, seed));
                Some(Change::Pods(list(state.every_pod().cloned(), *n, *back, new, |pod| pod.key.clone())))
            }
            Self::Namespaces(n, labels) => Some(Change::Namespaces(relist_namespaces(state, *n, labels))),
            Self::Policies(n, back, new) => {
                let kept = state.policies.values().filter(|policy| !state.tombstones.contains(&policy.key)).cloned();
                let new = new.iter().filter_map(|(number, seed)| new_policy(state, *number, seed));
                Some(Change::Policies(list(kept, *n, *back, new, |policy| policy.key.clone())))
            }
        };
        single.into_iter().collect()
    }
}

fn new_pod(number: u8, seed: &PodSeed) -> Pod {
    let namespaces = u8::try_from(NAMESPACES.len()).unwrap_or(u8::MAX);
    seed.pod(number, namespaces, NODES, &[])
}

fn new_policy(state: &State, number: u8, seed: &PolicySeed) -> Option<Policy> {
    let namespaces = u8::try_from(NAMESPACES.len()).unwrap_or(u8::MAX);
    let pods: Vec<_> = state.every_pod().cloned().collect();
    seed.policies(&format!("policy-{number}"), namespaces, &pods).into_iter().next()
}

fn some_pod(state: &State, number: u16) -> Option<Pod> {
    pick(&state.every_pod().collect::<Vec<_>>(), number).map(|pod| (*pod).clone())
}

fn some_namespace(state: &State, number: u16) -> Option<Namespace> {
    pick(&state.namespaces.values().collect::<Vec<_>>(), number).map(|namespace| (*namespace).clone())
}

/// A policy that the source still has.
fn some_policy(state: &State, number: u16) -> Option<Policy> {
    let live: Vec<_> = state.policies.values().filter(|policy| !state.tombstones.contains(&policy.key)).collect();
    pick(&live, number).map(|policy| (*policy).clone())
}

fn edit_pod(state: &State, number: u16, edit: impl FnOnce(&mut Pod)) -> Option<Change> {
    let mut pod = some_pod(state, number)?;
    edit(&mut pod);
    Some(Change::Pod(pod))
}

fn terminate(namespace: Namespace) -> Change {
    Change::Namespace(Namespace { terminating: true, ..namespace })
}

/// A pod's own IP has its number; another's is copied.
fn readdress(pod: &mut Pod, seed: AddressSeed) {
    let tail = |text: &str| text.rsplit('-').next().and_then(|tail| tail.parse().ok());
    let number = tail(&pod.key.name).unwrap_or(0);
    let node = pod.node.as_deref().and_then(tail).unwrap_or(0);
    let another = |number: u16| {
        let [low, high] = number.to_le_bytes();
        Some((1 + low % NODES, high % 12))
    };
    pod.addresses = seed.addresses((node, number), another);
}

fn remove_namespace(state: &State, number: u16, pods_first: bool) -> Vec<Change> {
    let Some(namespace) = some_namespace(state, number) else {
        return Vec::new();
    };
    let name: Arc<str> = namespace.name.clone();
    let pods = state.pods_of(&name).map(|pod| Change::PodGone(pod.key.clone()));
    let policies = state.policies_of(&name).map(|policy| Change::PolicyGone(policy.key.clone()));
    let contents: Vec<_> = if pods_first { pods.chain(policies).collect() } else { policies.chain(pods).collect() };
    let first = std::iter::once(terminate(namespace));
    first.chain(contents).chain(std::iter::once(Change::NamespaceGone(name))).collect()
}

/// The content of a new list: the old one except every n-th, and new objects in place of those with the same name.
fn list<T, K: PartialEq>(
    old: impl Iterator<Item = T>,
    n: u8,
    back: bool,
    new: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let new: Vec<T> = new.collect();
    let is_kept = |index: usize| !index.is_multiple_of(n.into());
    let kept = old.enumerate().filter(|(index, _)| is_kept(*index)).map(|(_, one)| one);
    let mut all: Vec<T> = kept.filter(|one| !new.iter().any(|other| key(other) == key(one))).collect();
    all.extend(new);
    if back {
        all.reverse();
    }
    all
}

/// All except every n-th; the last one gets these labels.
fn relist_namespaces(state: &State, n: u8, labels: &Labels) -> Vec<Namespace> {
    let mut all = list(state.namespaces.values().cloned(), n, false, std::iter::empty(), |one| one.name.clone());
    if let Some(last) = all.last_mut() {
        *last = Namespace { terminating: last.terminating, ..Namespace::new(last.name.clone(), labels.clone()) };
    }
    all
}
