//! Addresses that are no pod's and no node's, in ranges that policies treat alike.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use palisade_policy::compile::AddressRange;
use palisade_policy::flow::{Endpoint, NodeFacts};
use palisade_policy::input::{Direction, Family, NamespacedName, Peer, Pod, Policy, State};

use super::{PortSet, Reach};

/// How many CIDRs a range spells out.
const CIDRS: usize = 4;

/// The addresses of the world, and those of nodes.
#[derive(Debug)]
pub struct World {
    /// Addresses of pods and nodes.
    known: BTreeSet<IpAddr>,
    /// Addresses of nodes, unless a pod has them too.
    nodes: BTreeSet<IpAddr>,
}

impl World {
    /// The addresses that are no pod's and no node's in any of these states.
    pub fn of(states: &[&State], facts: &NodeFacts) -> Self {
        let pods = || states.iter().flat_map(|state| state.every_pod());
        let of_pods: BTreeSet<_> = pods().flat_map(Pod::claims).collect();
        let on_host = pods().filter(|pod| pod.host_network).flat_map(|pod| pod.addresses.iter());
        let of_hosts = pods().flat_map(|pod| pod.host_addresses.iter().copied()).chain(on_host);
        let told = facts.addresses.values().flatten().copied();
        let nodes: BTreeSet<_> = of_hosts.chain(told).filter(|address| !of_pods.contains(address)).collect();
        let known = of_pods.union(&nodes).copied().collect();
        Self { known, nodes }
    }

    /// What a pod may exchange with each address of a node, in each state.
    pub fn nodes<const N: usize>(
        &self,
        reaches: [&Reach<'_>; N],
        pod: &NamespacedName,
        direction: Direction,
    ) -> Vec<(IpAddr, [PortSet; N])> {
        let ports = |address: IpAddr| reaches.map(|reach| with(reach, pod, address, direction));
        self.nodes.iter().map(|address| (*address, ports(*address))).collect()
    }

    /// What a pod may exchange with the world, in each state: for egress, what it may send, for ingress, what it may
    /// receive. A range ends wherever a block does of a policy that isolates the pod in one of the states.
    pub fn ranges<const N: usize>(
        &self,
        reaches: [&Reach<'_>; N],
        pod: &NamespacedName,
        direction: Direction,
    ) -> Vec<(AddressRange, [PortSet; N])> {
        let of_pod = |reach: &Reach<'_>| {
            let isolating = reach.state().pod(pod).map(|pod| reach.isolating(pod, direction)).unwrap_or_default();
            isolating.into_iter().flat_map(|policy| nets(policy, direction)).collect::<Vec<_>>()
        };
        let nets: Vec<_> = reaches.iter().flat_map(|reach| of_pod(reach)).collect();
        let ranges = Family::ALL.into_iter().flat_map(|family| AddressRange::between(family, nets.iter().copied()));
        let judged = ranges.filter_map(|range| {
            // Any address stands for the range, unless it is a pod's or a node's.
            let one = range.addresses().find(|address| !self.known.contains(address))?;
            Some((range, reaches.map(|reach| with(reach, pod, one, direction))))
        });
        judged.collect()
    }
}

/// What a pod may exchange with an address.
fn with(reach: &Reach<'_>, pod: &NamespacedName, address: IpAddr, direction: Direction) -> PortSet {
    let (own, other) = (Endpoint::Pod(pod.clone()), Endpoint::Address(address));
    match direction {
        Direction::Egress => reach.allowed(&own, &other, Family::of(address)),
        Direction::Ingress => reach.allowed(&other, &own, Family::of(address)),
    }
}

/// Every block and except of a policy's rules.
pub(super) fn nets(policy: &Policy, direction: Direction) -> impl Iterator<Item = IpNet> {
    let peers = policy.rules(direction).iter().flat_map(|rule| rule.peers.list());
    let blocks = peers.filter_map(|peer| match peer {
        Peer::IpBlock(block) => Some(block),
        Peer::Pods { .. } | Peer::Unmatchable => None,
    });
    blocks.flat_map(|block| std::iter::once(block.cidr).chain(block.except.iter().copied()))
}

/// Neighbours with the same value, as one.
pub fn join<T: PartialEq>(ranges: impl IntoIterator<Item = (AddressRange, T)>) -> Vec<(AddressRange, T)> {
    let mut joined: Vec<(AddressRange, T)> = Vec::new();
    for (range, value) in ranges {
        match joined.last_mut() {
            Some((before, same)) if *same == value && before.is_before(range) => before.last = range.last,
            _ => joined.push((range, value)),
        }
    }
    joined
}

/// `0.0.0.0/0`, `10.0.0.0/8`, or, if that takes many CIDRs, `10.0.0.1-10.0.255.254`.
pub fn spelled(range: AddressRange) -> String {
    let cidrs: Vec<IpNet> = match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    };
    if cidrs.len() > CIDRS {
        return format!("{}-{}", range.first, range.last);
    }
    cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
