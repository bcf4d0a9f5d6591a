//! Policies.

use std::net::IpAddr;

use ipnet::IpNet;
use palisade_policy::input::{
    IpBlock, Isolates, LabelSelector, NamespaceScope, NamespacedName, Peer, Peers, Pod, Policy, Ports, Rule,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::alphabet::{NAMESPACES, blocks, namespace_selector, pick, pod_selector, ports};

/// A policy, independent of the existing pods.
#[derive(Clone, Debug)]
pub(crate) struct PolicySeed {
    namespace: u16,
    pod_selector: LabelSelector,
    isolates: Isolates,
    ingress: Vec<RuleSeed>,
    egress: Vec<RuleSeed>,
    /// The number of duplicates under other names.
    duplicates: u8,
}

#[derive(Clone, Debug)]
struct RuleSeed {
    peers: PeersSeed,
    ports: Ports,
}

#[derive(Clone, Debug)]
enum PeersSeed {
    Any,
    Of(Vec<PeerSeed>),
    /// This many single IPs, starting with some pod's, every second one.
    Hosts(u16, u8),
}

#[derive(Clone, Debug)]
enum PeerSeed {
    Ready(Peer),
    Block(CidrSeed, Vec<ExceptSeed>),
}

#[derive(Clone, Debug)]
enum CidrSeed {
    Fixed(u16),
    /// Around an IP of a pod, shorter than a single IP by this many bits.
    Pod(u16, u8),
}

/// Longer than the block by this many bits, at its start, its end or in between.
#[derive(Clone, Debug)]
struct ExceptSeed {
    longer: u8,
    place: u128,
}

/// Policies that mostly select the same pods: all of one namespace.
pub(crate) fn stack() -> impl Strategy<Value = Vec<PolicySeed>> {
    let of_all = |seed| PolicySeed { namespace: 0, pod_selector: LabelSelector::everything(), duplicates: 0, ..seed };
    vec(policy().prop_map(of_all), 5..12)
}

/// A policy of one of the first namespaces.
pub(crate) fn policy() -> impl Strategy<Value = PolicySeed> {
    let isolates = prop_oneof![
        3 => Just(Isolates { ingress: true, egress: false }),
        2 => Just(Isolates { ingress: false, egress: true }),
        4 => Just(Isolates { ingress: true, egress: true }),
    ];
    let duplicates = prop_oneof![20 => Just(0_u8), 2 => Just(1), 1 => 8_u8..13];
    (any::<u16>(), pod_selector(), isolates, vec(rule(), 0..4), vec(rule(), 0..4), duplicates).prop_map(
        |(namespace, pod_selector, isolates, ingress, egress, duplicates)| PolicySeed {
            namespace,
            pod_selector,
            isolates,
            ingress,
            egress,
            duplicates,
        },
    )
}

fn rule() -> impl Strategy<Value = RuleSeed> {
    let peers = prop_oneof![
        3 => Just(PeersSeed::Any),
        12 => vec(peer(), 1..4).prop_map(PeersSeed::Of),
        1 => vec(peer(), 9..14).prop_map(PeersSeed::Of),
        1 => vec(pods_peer(), 10..16).prop_map(PeersSeed::Of),
        1 => (any::<u16>(), 9_u8..20).prop_map(|(pod, count)| PeersSeed::Hosts(pod, count)),
    ];
    (peers, ports()).prop_map(|(peers, ports)| RuleSeed { peers, ports })
}

fn pods_peer() -> impl Strategy<Value = PeerSeed> {
    let scope = prop_oneof![
        1 => Just(NamespaceScope::Own),
        1 => namespace_selector().prop_map(NamespaceScope::Matching),
    ];
    (scope, pod_selector()).prop_map(|(namespaces, pods)| PeerSeed::Ready(Peer::Pods { namespaces, pods }))
}

fn peer() -> impl Strategy<Value = PeerSeed> {
    let cidr = prop_oneof![
        3 => any::<u16>().prop_map(CidrSeed::Fixed),
        3 => (any::<u16>(), prop_oneof![Just(0_u8), 0_u8..9]).prop_map(|(pod, less)| CidrSeed::Pod(pod, less)),
    ];
    let place = prop_oneof![Just(0), Just(u128::MAX), any::<u128>()];
    let except = (1_u8..12, place).prop_map(|(longer, place)| ExceptSeed { longer, place });
    prop_oneof![
        8 => pods_peer(),
        6 => (cidr.clone(), vec(except, 0..4)).prop_map(|(cidr, except)| PeerSeed::Block(cidr, except)),
        // Both halves: no IP is left.
        1 => cidr.prop_map(|cidr| PeerSeed::Block(cidr, [0, u128::MAX].map(|place| ExceptSeed { longer: 1, place }).into())),
        1 => Just(PeerSeed::Ready(Peer::Unmatchable)),
    ]
}

impl PolicySeed {
    /// The policy with this name, and its duplicates.
    pub(crate) fn policies(&self, name: &str, namespaces: u8, pods: &[Pod]) -> Vec<Policy> {
        let known = NAMESPACES.get(..usize::from(namespaces)).unwrap_or(&NAMESPACES);
        let namespace = pick(known, self.namespace).copied().unwrap_or_default();
        let one = |name: &str| self.policy(NamespacedName::new(namespace, name), pods);
        let others = (0..self.duplicates).map(|number| one(&format!("{name}-again-{number}")));
        std::iter::once(one(name)).chain(others).collect()
    }

    /// The one policy with this name.
    pub(crate) fn policy(&self, key: NamespacedName, pods: &[Pod]) -> Policy {
        let rules = |seeds: &[RuleSeed]| seeds.iter().map(|seed| seed.rule(pods)).collect();
        Policy {
            key,
            pod_selector: self.pod_selector.clone(),
            isolates: self.isolates,
            ingress: rules(&self.ingress),
            egress: rules(&self.egress),
            unenforceable: Vec::new(),
        }
    }
}

impl RuleSeed {
    fn rule(&self, pods: &[Pod]) -> Rule {
        let peers = match &self.peers {
            PeersSeed::Any => Peers::Any,
            PeersSeed::Of(seeds) => Peers::Of(seeds.iter().map(|seed| seed.peer(pods)).collect()),
            PeersSeed::Hosts(pod, count) => Peers::Of(hosts(address_of(pods, *pod), *count)),
        };
        Rule { peers, ports: self.ports.clone() }
    }
}

impl PeerSeed {
    fn peer(&self, pods: &[Pod]) -> Peer {
        match self {
            Self::Ready(peer) => peer.clone(),
            Self::Block(cidr, except) => {
                let cidr = cidr.cidr(pods);
                let except = except.iter().filter_map(|except| except.within(cidr)).collect();
                Peer::IpBlock(IpBlock { cidr, except })
            }
        }
    }
}

impl CidrSeed {
    fn cidr(&self, pods: &[Pod]) -> IpNet {
        match self {
            Self::Fixed(number) => pick(&blocks(), *number).copied().unwrap_or_default(),
            Self::Pod(pod, less) => {
                let whole = IpNet::from(address_of(pods, *pod));
                IpNet::new(whole.addr(), whole.max_prefix_len().saturating_sub(*less)).unwrap_or(whole).trunc()
            }
        }
    }
}

impl ExceptSeed {
    /// A strict subset of the block; none of a single address.
    fn within(&self, cidr: IpNet) -> Option<IpNet> {
        let width = cidr.max_prefix_len();
        let length = (cidr.prefix_len() < width).then(|| cidr.prefix_len().saturating_add(self.longer).min(width))?;
        // The bits of `place` beyond the block's own.
        let address = match cidr.addr() {
            IpAddr::V4(network) => {
                let hosts = u32::MAX.checked_shr(cidr.prefix_len().into()).unwrap_or(0);
                let place = u32::try_from(self.place >> 96).unwrap_or(u32::MAX);
                IpAddr::V4((network.to_bits() | (place & hosts)).into())
            }
            IpAddr::V6(network) => {
                let hosts = u128::MAX.checked_shr(cidr.prefix_len().into()).unwrap_or(0);
                IpAddr::V6((network.to_bits() | (self.place & hosts)).into())
            }
        };
        IpNet::new(address, length).ok().map(|net| net.trunc())
    }
}

/// An IP of a pod.
fn address_of(pods: &[Pod], number: u16) -> IpAddr {
    let addresses: Vec<_> = pods.iter().flat_map(|pod| pod.addresses.iter()).collect();
    pick(&addresses, number).copied().unwrap_or_else(|| [192, 0, 2, 1].into())
}

/// Single IPs that cannot be written as one block.
fn hosts(first: IpAddr, count: u8) -> Vec<Peer> {
    let at = |number: u8| -> IpAddr {
        match first {
            IpAddr::V4(first) => IpAddr::V4(first.to_bits().wrapping_add(u32::from(number) * 2).into()),
            IpAddr::V6(first) => IpAddr::V6(first.to_bits().wrapping_add(u128::from(number) * 2).into()),
        }
    };
    (0..count).map(|number| Peer::IpBlock(IpBlock { cidr: at(number).into(), except: Vec::new() })).collect()
}
