//! Pods as workloads: those that every policy treats alike, by the name of what creates them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::input::{ContainerPort, Direction, Family, Labels, NamespacedName, Peer, Pod, Policy, State};

use super::world::nets;

/// Labels that controllers add to tell the pods or the versions of one workload apart.
const OF_CONTROLLERS: [&str; 9] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
    "batch.kubernetes.io/job-name",
    "job-name",
];

/// Pods that every policy treats alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace and name. Pods of one workload that policies treat differently are several of these with one name.
    pub key: NamespacedName,
    /// Its pods.
    pub pods: Vec<NamespacedName>,
}

/// What policies can tell pods apart by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Traits {
    labels: Vec<(String, String)>,
    ports: Vec<ContainerPort>,
    families: [bool; 2],
    /// The blocks that contain one of its IPs.
    blocks: Vec<bool>,
}

/// The workloads of one or more states of a cluster: pods that none of them tells apart. Without pods of the host's
/// network and those that have finished, which no policy selects.
pub fn workloads(states: &[&State]) -> Vec<Workload> {
    let views: Vec<_> =
        states.iter().map(|state| View { state, blocks: blocks(state), matched: matched(state) }).collect();
    let keys: BTreeSet<&NamespacedName> =
        states.iter().flat_map(|state| state.every_pod()).filter(|pod| pod.is_live()).map(|pod| &pod.key).collect();
    let mut found: BTreeMap<(NamespacedName, Vec<Option<Traits>>), Vec<NamespacedName>> = BTreeMap::new();
    for key in keys {
        let pods: Vec<_> = views.iter().map(|view| view.state.pod(key).filter(|pod| pod.is_live())).collect();
        let Some(one) = pods.iter().flatten().next() else { continue };
        let traits = views.iter().zip(&pods).map(|(view, pod)| pod.map(|pod| view.traits(pod))).collect();
        found.entry((name(one), traits)).or_default().push(key.clone());
    }
    found.into_iter().map(|((key, _), pods)| Workload { key, pods }).collect()
}

struct View<'a> {
    state: &'a State,
    blocks: BTreeSet<IpNet>,
    matched: BTreeSet<&'a str>,
}

impl View<'_> {
    fn traits(&self, pod: &Pod) -> Traits {
        let is_in = |block: &IpNet| pod.addresses.iter().any(|address| block.contains(&address));
        let has = |family| pod.addresses.of(family).is_some();
        // A controller's label counts if a selector asks for it.
        let counts = |key: &str| !OF_CONTROLLERS.contains(&key) || self.matched.contains(key);
        let labels = pod.labels.iter().filter(|(key, _)| counts(key));
        Traits {
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            ports: pod.ports.clone(),
            families: Family::ALL.map(has),
            blocks: self.blocks.iter().map(is_in).collect(),
        }
    }
}

/// Every block and except of the policies.
fn blocks(state: &State) -> BTreeSet<IpNet> {
    let both = |policy| Direction::ALL.into_iter().flat_map(move |direction| nets(policy, direction));
    state.policies.values().flat_map(both).collect()
}

fn peers(policy: &Policy) -> impl Iterator<Item = &Peer> {
    let rules = policy.ingress.iter().chain(&policy.egress);
    rules.flat_map(|rule| rule.peers.list())
}

/// The labels of pods that selectors ask for.
fn matched(state: &State) -> BTreeSet<&str> {
    let of_peers = state.policies.values().flat_map(peers).filter_map(|peer| match peer {
        Peer::Pods { pods, .. } => Some(pods),
        Peer::IpBlock(_) | Peer::Unmatchable => None,
    });
    let selectors = state.policies.values().map(|policy| &policy.pod_selector).chain(of_peers);
    selectors.flat_map(|selector| &selector.requirements).map(|requirement| requirement.key.as_str()).collect()
}

/// Their names; of workloads with one name that policies treat differently, with the first pod of each.
pub fn titles(all: &[&Workload]) -> Vec<String> {
    let mut counts: BTreeMap<&NamespacedName, usize> = BTreeMap::new();
    all.iter().for_each(|workload| *counts.entry(&workload.key).or_default() += 1);
    let title = |workload: &&Workload| match (counts.get(&workload.key), workload.pods.as_slice()) {
        (Some(2..), [pod, rest @ ..]) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("{} (pod {}{more})", workload.key, pod.name)
        }
        _ => workload.key.to_string(),
    };
    all.iter().map(title).collect()
}

/// The name of the workload that a pod is of, from its own name and from what its controller adds.
pub fn name(pod: &Pod) -> NamespacedName {
    let text = &*pod.key.name;
    let name = of_controller(text, &pod.labels).filter(|name| !name.is_empty()).unwrap_or(text);
    NamespacedName { namespace: Arc::clone(&pod.key.namespace), name: name.into() }
}

fn of_controller<'t>(pod: &'t str, labels: &'t Labels) -> Option<&'t str> {
    let label = |key: &str| labels.get(key).map(String::as_str);
    let (stem, _) = pod.rsplit_once('-').unwrap_or((pod, ""));
    // A ReplicaSet of a Deployment is named after it and the hash.
    if let Some(hash) = label("pod-template-hash") {
        return stem.strip_suffix(hash)?.strip_suffix('-');
    }
    if label("apps.kubernetes.io/pod-index").is_some() || label("controller-revision-hash").is_some() {
        return Some(stem);
    }
    label("batch.kubernetes.io/job-name").or_else(|| label("job-name"))
}
