//! The union of policies: the allowed peers for each port.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::{AddressRange, Covers, NamedPort, PeerSelector, RuleRef};
use crate::input::Protocol;

/// The rules behind a term; shared by all terms with the same rules.
pub type Sources = Arc<BTreeSet<RuleRef>>;

/// The source of a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The rules.
    pub sources: Sources,
    /// The `cidr` of the ipBlock, from which its `except`s are subtracted.
    pub cidr: IpNet,
}

/// A union of peers, each with the rules that it comes from; no peer if empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerUnion {
    /// Rules that allow any peer; if there are any, the rest is empty.
    pub anyone: Sources,
    /// Pods by selector.
    pub pods: BTreeMap<Arc<PeerSelector>, Sources>,
    /// Blocks of addresses, each as its disjoint ranges.
    pub blocks: BTreeMap<Arc<[AddressRange]>, Block>,
}

impl PeerUnion {
    /// Whether it allows no peer.
    pub fn is_empty(&self) -> bool {
        self.anyone.is_empty() && self.pods.is_empty() && self.blocks.is_empty()
    }

    /// The rules of everything in it.
    pub fn sources(&self) -> impl Iterator<Item = &Sources> {
        let blocks = self.blocks.values().map(|block| &block.sources);
        self.pods.values().chain(blocks).chain([&self.anyone])
    }

    /// Merges another union. Both are for any peer, or neither is.
    pub(super) fn add(&mut self, other: &Self) {
        extend(&mut self.anyone, &other.anyone);
        for (selector, sources) in &other.pods {
            extend(self.pods.entry(selector.clone()).or_default(), sources);
        }
        for (ranges, block) in &other.blocks {
            match self.blocks.get_mut(ranges) {
                Some(present) => {
                    extend(&mut present.sources, &block.sources);
                    present.cidr = present.cidr.min(block.cidr);
                }
                None => drop(self.blocks.insert(ranges.clone(), block.clone())),
            }
        }
    }
}

/// Adds sources to others, without a copy if there were none.
fn extend(sources: &mut Sources, more: &Sources) {
    if sources.is_empty() {
        sources.clone_from(more);
    } else if !more.is_empty() && !Arc::ptr_eq(sources, more) {
        Arc::make_mut(sources).extend(more.iter().cloned());
    }
}

/// From `first` to `last`, with its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
    /// The peers; ranges with the same rules share them.
    pub peers: Arc<PeerUnion>,
    /// The rules that are not rendered because any peer may use it.
    pub covers: Covers,
}

/// The allowed ports of one protocol, beyond [`Allowed::anything`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedPorts {
    /// The peers that may use every port.
    pub all: Arc<PeerUnion>,
    /// The rules that are not rendered because any peer may use every port.
    pub covers: Covers,
    /// Disjoint ranges in order; neighbours have different peers.
    pub ranges: Vec<PortRange>,
    /// Ranges as the rules have them, which may overlap. Used instead of `ranges`, which is then empty, if splitting at
    /// the edges would multiply them.
    pub overlapping: Vec<PortRange>,
    /// Named ports, resolved on the destination.
    pub named: BTreeMap<Arc<str>, Arc<PeerUnion>>,
    /// The rules that are not rendered because any peer may use a named port.
    pub named_covers: BTreeMap<Arc<str>, Covers>,
}

/// The union of a group's policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The peers that may use everything, including protocols without ports.
    pub anything: Arc<PeerUnion>,
    /// The rules that are not rendered because any peer may use everything.
    pub covers: Covers,
    /// The rest of the union, by protocol.
    pub protocols: BTreeMap<Protocol, AllowedPorts>,
}

impl Allowed {
    /// Every union of peers in it, once.
    pub(crate) fn unions(&self) -> impl Iterator<Item = &Arc<PeerUnion>> {
        let ports = self.protocols.values().flat_map(|ports| {
            let ranges = ports.ranges.iter().chain(&ports.overlapping).map(|range| &range.peers);
            std::iter::once(&ports.all).chain(ranges).chain(ports.named.values())
        });
        let mut seen = BTreeSet::new();
        std::iter::once(&self.anything).chain(ports).filter(move |union| seen.insert(Arc::as_ptr(union)))
    }

    /// The peer selectors that must be resolved.
    pub fn selectors(&self) -> BTreeSet<&Arc<PeerSelector>> {
        self.unions().flat_map(|union| union.pods.keys()).collect()
    }

    /// The named ports that must be resolved.
    pub fn named_ports(&self) -> BTreeSet<NamedPort> {
        let named = |(protocol, ports): (&Protocol, &AllowedPorts)| {
            let protocol = *protocol;
            let names: Vec<_> = ports.named.keys().map(|name| NamedPort { name: name.clone(), protocol }).collect();
            names
        };
        self.protocols.iter().flat_map(named).collect()
    }
}
