//! The union of policies: which peers may use which ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{AddressRange, NamedPort, Namespaces, PeerSelector, ranges_of_block};
use crate::input::{Direction, NamespaceScope, Peer, Peers, Policy, Port, Ports, Protocol};

/// A rule of a policy of the group's namespace and direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef {
    /// The name of the policy.
    pub policy: Arc<str>,
    /// The direction of the rule.
    pub direction: Direction,
    /// Its position in `spec.ingress` or `spec.egress`.
    pub index: usize,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}

/// The rules that something comes from.
pub type Sources = BTreeSet<RuleRef>;

/// A union of peers, each with the rules it comes from. Empty: nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerUnion {
    /// Rules that allow anyone; if there are any, the rest is empty.
    pub anyone: Sources,
    /// Pods by selector.
    pub pods: BTreeMap<PeerSelector, Sources>,
    /// Blocks of addresses, each as its disjoint ranges.
    pub blocks: BTreeMap<Vec<AddressRange>, Sources>,
}

impl PeerUnion {
    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.anyone.is_empty() && self.pods.is_empty() && self.blocks.is_empty()
    }

    fn add(&mut self, other: &Self) {
        self.anyone.extend(other.anyone.iter().cloned());
        for (selector, sources) in &other.pods {
            self.pods.entry(selector.clone()).or_default().extend(sources.iter().cloned());
        }
        for (ranges, sources) in &other.blocks {
            self.blocks.entry(ranges.clone()).or_default().extend(sources.iter().cloned());
        }
        if !self.anyone.is_empty() {
            self.pods.clear();
            self.blocks.clear();
        }
    }
}

/// From `first` to `last`, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
    /// Who may use it.
    pub peers: PeerUnion,
}

/// What is allowed of one protocol, beyond what [`Allowed::anything`] allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedPorts {
    /// Who may use every port.
    pub all: PeerUnion,
    /// Disjoint ranges in order; neighbours have different peers.
    pub ranges: Vec<PortRange>,
    /// Named ports, resolved on the destination.
    pub named: BTreeMap<Arc<str>, PeerUnion>,
}

/// What the union of a group's policies allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Who may use everything, protocols without ports included.
    pub anything: PeerUnion,
    /// What else is allowed by protocol.
    pub protocols: BTreeMap<Protocol, AllowedPorts>,
}

impl Allowed {
    /// Every union of peers in it.
    fn unions(&self) -> impl Iterator<Item = &PeerUnion> {
        let ports = self.protocols.values().flat_map(|ports| {
            let ranges = ports.ranges.iter().map(|range| &range.peers);
            std::iter::once(&ports.all).chain(ranges).chain(ports.named.values())
        });
        std::iter::once(&self.anything).chain(ports)
    }

    /// The peer selectors that it needs resolved.
    pub fn selectors(&self) -> BTreeSet<&PeerSelector> {
        self.unions().flat_map(|union| union.pods.keys()).collect()
    }

    /// The named ports that it needs resolved.
    pub fn named_ports(&self) -> BTreeSet<NamedPort> {
        let named = |(protocol, ports): (&Protocol, &AllowedPorts)| {
            let protocol = *protocol;
            let names: Vec<_> = ports.named.keys().map(|name| NamedPort { name: name.clone(), protocol }).collect();
            names
        };
        self.protocols.iter().flat_map(named).collect()
    }
}

/// The union of what the policies of one namespace allow in one direction.
pub fn compile<'a>(direction: Direction, policies: impl IntoIterator<Item = &'a Policy>) -> Allowed {
    let mut allowed = Allowed::default();
    let mut ranges: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    for policy in policies {
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            let source = RuleRef { policy: policy.key.name.clone(), direction, index };
            let peers = resolve(&rule.peers, &policy.key.namespace, &source);
            if peers.is_empty() {
                continue;
            }
            match &rule.ports {
                Ports::Any => allowed.anything.add(&peers),
                Ports::Of(ports) => ports.iter().for_each(|port| add_port(&mut allowed, &mut ranges, port, &peers)),
            }
        }
    }
    for (protocol, ranges) in ranges {
        allowed.protocols.entry(protocol).or_default().ranges = disjoint(&ranges);
    }
    drop_subsumed(&mut allowed);
    allowed
}

fn resolve(peers: &Peers, own: &Arc<str>, source: &RuleRef) -> PeerUnion {
    let sources = || Sources::from([source.clone()]);
    let mut union = PeerUnion::default();
    let Peers::Of(peers) = peers else {
        union.anyone = sources();
        return union;
    };
    for peer in peers {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let namespaces = match namespaces {
                    NamespaceScope::Own => Namespaces::Named(own.clone()),
                    NamespaceScope::Matching(selector) => Namespaces::Matching(selector.clone()),
                };
                union.pods.insert(PeerSelector { namespaces, pods: pods.clone() }, sources());
            }
            Peer::IpBlock(block) => {
                let ranges = ranges_of_block(block);
                if !ranges.is_empty() {
                    union.blocks.insert(ranges, sources());
                }
            }
            Peer::Unmatchable => {}
        }
    }
    union
}

fn add_port(allowed: &mut Allowed, ranges: &mut BTreeMap<Protocol, Vec<PortRange>>, port: &Port, peers: &PeerUnion) {
    match port {
        Port::All(protocol) => allowed.protocols.entry(*protocol).or_default().all.add(peers),
        Port::Named { protocol, name } => {
            allowed.protocols.entry(*protocol).or_default().named.entry(name.clone()).or_default().add(peers);
        }
        Port::Range { protocol, first, last } if first <= last => {
            let range = PortRange { first: *first, last: *last, peers: peers.clone() };
            ranges.entry(*protocol).or_default().push(range);
        }
        Port::Range { .. } | Port::Unmatchable => {}
    }
}

/// Splits overlapping ranges at their edges, unites the peers of each piece, and joins neighbours with equal peers.
fn disjoint(ranges: &[PortRange]) -> Vec<PortRange> {
    // At each edge, which ranges begin and which end; ends are exclusive, so 65,536 is one.
    let mut edges: BTreeMap<u32, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (position, range) in ranges.iter().enumerate() {
        edges.entry(u32::from(range.first)).or_default().0.push(position);
        edges.entry(u32::from(range.last) + 1).or_default().1.push(position);
    }
    let mut pieces: Vec<PortRange> = Vec::new();
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut from = 0;
    for (edge, (begins, ends)) in edges {
        let (first, last) = (u16::try_from(from), u16::try_from(edge.saturating_sub(1)));
        if let (false, Ok(first), Ok(last)) = (open.is_empty(), first, last) {
            let mut peers = PeerUnion::default();
            open.iter().filter_map(|position| ranges.get(*position)).for_each(|range| peers.add(&range.peers));
            match pieces.last_mut() {
                Some(previous) if previous.last.checked_add(1) == Some(first) && previous.peers == peers => {
                    previous.last = last;
                }
                _ => pieces.push(PortRange { first, last, peers }),
            }
        }
        open.extend(begins);
        for end in ends {
            open.remove(&end);
        }
        from = edge;
    }
    pieces
}

/// Drops what a rule for anyone already allows; it would only lengthen chains and keep needless sets.
fn drop_subsumed(allowed: &mut Allowed) {
    if !allowed.anything.anyone.is_empty() {
        allowed.protocols.clear();
    }
    for ports in allowed.protocols.values_mut() {
        if !ports.all.anyone.is_empty() {
            ports.ranges.clear();
            ports.named.clear();
        }
    }
}
