//! Namespaces, pods, and the cluster as a whole.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::flow::NodeFacts;
use palisade_policy::input::{
    Addresses, Change, ContainerPort, Family, Labels, Namespace, NamespacedName, Phase, Pod, State,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::MAX_NODES;
use super::alphabet::{
    NAMESPACES, container_ports, namespace_labels, node_address, pick, pod_address, pod_labels, pod_range,
};
use super::policy::{PolicySeed, policy, stack};

/// A whole cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSeed {
    nodes: u8,
    namespaces: Vec<(Labels, Presence)>,
    pods: Vec<PodSeed>,
    policies: Vec<PolicySeed>,
}

/// The facts about a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Seen,
    Unseen,
    Terminating,
    /// Its policies were deleted before its pods.
    TerminatingWithoutPolicies,
    /// Its object was deleted before its pods.
    Gone,
}

/// A pod, independent of the other pods.
#[derive(Clone, Debug)]
pub(crate) struct PodSeed {
    namespace: u16,
    /// 0 means not scheduled.
    node: u8,
    labels: Labels,
    life: Life,
    address: AddressSeed,
    ports: Vec<ContainerPort>,
    host: HostSeed,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Life {
    Phase(Phase),
    Terminating,
    HostNetwork,
    /// Running, and its sandbox is being recreated.
    AwaitsNetwork,
}

/// The IPs in a pod's status.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AddressSeed {
    /// Its own, of these families.
    Own(&'static [Family]),
    /// Those of another pod.
    Another(u16),
    /// Those of a node.
    Node(u8),
}

#[derive(Clone, Copy, Debug)]
enum HostSeed {
    V4,
    Dual,
    Unknown,
}

pub(crate) fn cluster() -> impl Strategy<Value = ClusterSeed> {
    let presence = prop_oneof![
        14 => Just(Presence::Seen),
        1 => Just(Presence::Unseen),
        1 => Just(Presence::Terminating),
        1 => Just(Presence::TerminatingWithoutPolicies),
        1 => Just(Presence::Gone),
    ];
    let namespaces = vec((namespace_labels(), presence), 2..=NAMESPACES.len());
    let policies = prop_oneof![12 => vec(policy(), 0..8), 1 => stack()];
    (2..=MAX_NODES, namespaces, vec(pod(), 1..=12), policies)
        .prop_map(|(nodes, namespaces, pods, policies)| ClusterSeed { nodes, namespaces, pods, policies })
}

pub(crate) fn pod() -> impl Strategy<Value = PodSeed> {
    let node = prop_oneof![20 => 1..=MAX_NODES, 1 => Just(0)];
    let host = prop_oneof![6 => Just(HostSeed::V4), 3 => Just(HostSeed::Dual), 1 => Just(HostSeed::Unknown)];
    (any::<u16>(), node, pod_labels(), life(), address(), container_ports(), host).prop_map(
        |(namespace, node, labels, life, address, ports, host)| PodSeed {
            namespace,
            node,
            labels,
            life,
            address,
            ports,
            host,
        },
    )
}

pub(crate) fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        12 => Just(Life::Phase(Phase::Running)),
        1 => Just(Life::Phase(Phase::Pending)),
        1 => Just(Life::Phase(Phase::Unknown)),
        1 => Just(Life::Phase(Phase::Succeeded)),
        1 => Just(Life::Phase(Phase::Failed)),
        2 => Just(Life::Terminating),
        1 => Just(Life::HostNetwork),
        1 => Just(Life::AwaitsNetwork),
    ]
}

pub(crate) fn address() -> impl Strategy<Value = AddressSeed> {
    prop_oneof![
        12 => Just(AddressSeed::Own(&Family::ALL)),
        1 => Just(AddressSeed::Own(&[Family::V4])),
        1 => Just(AddressSeed::Own(&[Family::V6])),
        2 => Just(AddressSeed::Own(&[])),
        2 => any::<u16>().prop_map(AddressSeed::Another),
        1 => (1..=MAX_NODES).prop_map(AddressSeed::Node),
    ]
}

/// Node addresses in addition to what pods report: the second family, or a bridge's.
pub(crate) fn facts() -> impl Strategy<Value = NodeFacts> {
    let bridge = |node: u8| -> IpAddr { [10, 42, node, 1].into() };
    let known = vec((1..=MAX_NODES, any::<bool>()), 0..3).prop_map(move |list| {
        let one = |(node, is_bridge)| {
            let address = if is_bridge { bridge(node) } else { node_address(node, Family::V6) };
            (node_name(node), BTreeSet::from([address]))
        };
        list.into_iter().map(one).collect()
    });
    let ranges = btree_set(1..=MAX_NODES, 0..=3).prop_map(|nodes| {
        let of = |node| (node_name(node), Family::ALL.map(|family| pod_range(node, family)).into());
        nodes.into_iter().map(of).collect()
    });
    (known, prop::bool::weighted(0.2), ranges).prop_map(|(addresses, allow_egress_to_own_node, pod_ranges)| NodeFacts {
        addresses,
        allow_egress_to_own_node,
        pod_ranges,
    })
}

/// `node-1` and so on, as in the lab.
pub(crate) fn node_name(node: u8) -> Arc<str> {
    format!("node-{node}").into()
}

impl ClusterSeed {
    /// The cluster as a result of events.
    pub(crate) fn state(&self) -> State {
        let mut state = State::default();
        let known = u8::try_from(self.namespaces.len()).unwrap_or(u8::MAX);
        for (name, (labels, presence)) in NAMESPACES.iter().zip(&self.namespaces) {
            if *presence != Presence::Unseen {
                let terminating = matches!(presence, Presence::Terminating | Presence::TerminatingWithoutPolicies);
                let namespace = Namespace::new(*name, labels.clone());
                state.apply(Change::Namespace(Namespace { terminating, ..namespace }));
            }
        }
        let numbers = || (0_u8..).zip(&self.pods);
        let pods: Vec<_> = numbers().map(|(number, seed)| seed.pod(number, known, self.nodes, &self.pods)).collect();
        let policies = (0_u16..).zip(&self.policies);
        let policies = policies.flat_map(|(number, seed)| seed.policies(&format!("policy-{number}"), known, &pods));
        for policy in policies {
            state.apply(Change::Policy(policy));
        }
        for pod in pods {
            state.apply(Change::Pod(pod));
        }
        for (name, (_, presence)) in NAMESPACES.iter().zip(&self.namespaces) {
            depart(&mut state, (*name).into(), *presence);
        }
        state
    }
}

fn depart(state: &mut State, name: Arc<str>, presence: Presence) {
    if presence == Presence::TerminatingWithoutPolicies {
        let keys: Vec<_> = state.policies_of(&name).map(|policy| policy.key.clone()).collect();
        for key in keys {
            state.apply(Change::PolicyGone(key));
        }
    }
    if presence == Presence::Gone {
        state.apply(Change::NamespaceGone(name));
    }
}

impl PodSeed {
    /// The pod with this number; `all` are the pods whose IPs it may claim.
    pub(crate) fn pod(&self, number: u8, namespaces: u8, nodes: u8, all: &[Self]) -> Pod {
        let known = NAMESPACES.get(..usize::from(namespaces)).unwrap_or(&NAMESPACES);
        let namespace = pick(known, self.namespace).copied().unwrap_or_default();
        let node = self.node_among(nodes);
        let mut pod = Pod {
            labels: self.labels.clone(),
            node: (node > 0).then(|| node_name(node)),
            host_addresses: self.host_addresses(node),
            ports: self.ports.clone(),
            ..Pod::new(NamespacedName::new(namespace, format!("pod-{number}")))
        };
        self.life.give(&mut pod);
        pod.addresses = self.addresses(number, nodes, all);
        if pod.host_network && node > 0 {
            // As the kubelet reports it.
            pod.addresses = Addresses::accept(pod.host_addresses.iter().copied()).0;
        }
        pod
    }

    fn node_among(&self, nodes: u8) -> u8 {
        self.node.min(nodes)
    }

    fn host_addresses(&self, node: u8) -> Vec<IpAddr> {
        let families: &[Family] = match self.host {
            _ if node == 0 => &[],
            HostSeed::Unknown => &[],
            HostSeed::V4 => &[Family::V4],
            HostSeed::Dual => &Family::ALL,
        };
        families.iter().map(|family| node_address(node, *family)).collect()
    }

    fn addresses(&self, number: u8, nodes: u8, all: &[Self]) -> Addresses {
        let other = |another: u16| {
            let index = usize::from(another).checked_rem(all.len())?;
            Some((u8::try_from(index).ok()?, all.get(index)?))
        };
        self.address.addresses((self.node_among(nodes), number), |another| {
            other(another).map(|(number, seed)| (seed.node_among(nodes), number))
        })
    }
}

impl Life {
    pub(crate) fn give(self, pod: &mut Pod) {
        pod.phase = Phase::Running;
        pod.terminating = false;
        pod.host_network = false;
        pod.awaits_network = false;
        match self {
            Self::Phase(phase) => pod.phase = phase,
            Self::Terminating => pod.terminating = true,
            Self::HostNetwork => pod.host_network = true,
            Self::AwaitsNetwork => pod.awaits_network = true,
        }
    }
}

impl AddressSeed {
    /// The IPs in the status of a pod with this node and number; `other` is the node and number of another pod.
    pub(crate) fn addresses(self, own: (u8, u8), other: impl Fn(u16) -> Option<(u8, u8)>) -> Addresses {
        let of = |(node, number): (u8, u8), families: &[Family]| {
            Addresses::accept(families.iter().map(|family| pod_address(node.max(1), number, *family))).0
        };
        match self {
            Self::Own(families) => of(own, families),
            Self::Another(another) => of(other(another).unwrap_or(own), &Family::ALL),
            Self::Node(node) => Addresses::accept([node_address(node, Family::V4)]).0,
        }
    }
}
