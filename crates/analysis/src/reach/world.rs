//! Addresses that are no pod's and no node's, in ranges that policies treat alike.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use palisade_policy::flow::{Endpoint, NodeFacts};
use palisade_policy::input::{Direction, Family, NamespacedName, Peer, Peers, Pod, Policy, State};

use super::{PortSet, Reach};

/// How many CIDRs a range spells out.
const CIDRS: usize = 4;

/// Addresses from the first to the last, and what is allowed from or to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
    /// What is allowed.
    pub ports: PortSet,
}

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

    /// What a pod may exchange with each address of a node.
    pub fn nodes(&self, reaches: &[&Reach<'_>], pod: &NamespacedName, direction: Direction) -> Vec<Vec<Atom>> {
        let of_reach = |reach: &&Reach<'_>| {
            let atom = |address: &IpAddr| Atom {
                first: *address,
                last: *address,
                ports: with(reach, pod, *address, direction),
            };
            self.nodes.iter().map(atom).collect()
        };
        reaches.iter().map(of_reach).collect()
    }

    /// What a pod may exchange with the world: for egress, what it may send, for ingress, what it may receive. The
    /// ranges end wherever a block of one of the policies does that isolate the pod in one of the states.
    pub fn atoms<'s>(&self, reaches: &[&Reach<'s>], pod: &NamespacedName, direction: Direction) -> Vec<Vec<Atom>> {
        let of_state = |reach: &&Reach<'s>| {
            let state = reach.state;
            let isolating = state.pod(pod).map(|pod| reach.isolating(pod, direction)).unwrap_or_default();
            isolating.into_iter().filter_map(|key| state.policies.get(&key)).collect::<Vec<_>>()
        };
        let policies: Vec<&Policy> = reaches.iter().flat_map(of_state).collect();
        let mut all = vec![Vec::new(); reaches.len()];
        for family in Family::ALL {
            for (first, last) in ranges(&policies, direction, family) {
                let Some(one) = self.unknown_in(first, last) else { continue };
                for (atoms, reach) in all.iter_mut().zip(reaches) {
                    atoms.push(Atom { first, last, ports: with(reach, pod, one, direction) });
                }
            }
        }
        all
    }

    /// The first address of a range that is no pod's and no node's.
    fn unknown_in(&self, first: IpAddr, last: IpAddr) -> Option<IpAddr> {
        let mut next = Some(first);
        // Known addresses are few, and each is skipped once.
        while let Some(address) = next.filter(|address| *address <= last) {
            if !self.known.contains(&address) {
                return Some(address);
            }
            next = after(address);
        }
        None
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

/// Neighbours that allow the same, as one.
pub fn join(atoms: impl IntoIterator<Item = Atom>) -> Vec<Atom> {
    let mut joined: Vec<Atom> = Vec::new();
    for atom in atoms {
        match joined.last_mut() {
            Some(before) if before.ports == atom.ports && before.is_before(&atom) => {
                before.last = atom.last;
            }
            _ => joined.push(atom),
        }
    }
    joined
}

/// The ranges that no block of these policies tells apart.
fn ranges(policies: &[&Policy], direction: Direction, family: Family) -> Vec<(IpAddr, IpAddr)> {
    let (lowest, highest): (IpAddr, IpAddr) = match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()),
    };
    let mut starts = BTreeSet::from([lowest]);
    let rules = policies.iter().flat_map(|policy| policy.rules(direction));
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Any => &[],
        Peers::Of(list) => list.as_slice(),
    });
    for peer in peers {
        let Peer::IpBlock(block) = peer else { continue };
        for net in std::iter::once(&block.cidr).chain(&block.except) {
            if Family::of(net.addr()) == family {
                starts.insert(net.network());
                starts.extend(after(net.broadcast()));
            }
        }
    }
    let starts: Vec<_> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).filter_map(|next| before(*next)).chain([highest]);
    starts.iter().copied().zip(ends).collect()
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

impl Atom {
    /// Whether another one begins right after it.
    pub fn is_before(&self, next: &Self) -> bool {
        after(self.last) == Some(next.first)
    }

    /// The range as CIDRs.
    pub fn cidrs(&self) -> Vec<IpNet> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it is a whole family.
    pub fn is_whole(&self) -> bool {
        self.cidrs().iter().any(|net| net.prefix_len() == 0)
    }
}

impl fmt::Display for Atom {
    /// `0.0.0.0/0`, `10.0.0.0/8`, or, if that takes many CIDRs, `10.0.0.1-10.0.255.254`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cidrs = self.cidrs();
        if cidrs.len() > CIDRS {
            return write!(f, "{}-{}", self.first, self.last);
        }
        f.write_str(&cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}
