//! The incremental index: objects in, the compiled policy of one node and precise changes out.
//!
//! The index is a value owned by one task. Its work for an event follows the size of the change, not of the cluster: many
//! events are applied to the objects first, and then everything that they touched is looked at once.

mod apply;
mod build;
mod counts;
mod due;
mod groups;
mod load;
mod order;
mod owner;
mod refresh;
mod selectors;
mod shares;
mod terms;
#[cfg(test)]
mod tests;

pub use build::Index;
pub use counts::Counts;
pub use due::Former;
pub use order::EventOrder;
pub use shares::set_aside_somewhere;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::{Allowed, Group, NamedPort, PeerSelector};
use crate::input::{Isolates, NamespacedName};

/// A local address that is isolated in a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose address it is, as `default/web-0`.
    pub owner: Arc<str>,
    /// Its group for egress, if isolated.
    pub egress: Option<Group>,
    /// Its group for ingress, if isolated.
    pub ingress: Option<Group>,
}

/// The compiled policy of one node: what a ruleset is rendered from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// Every group with a local pod, and what it allows.
    pub groups: BTreeMap<Group, Allowed>,
    /// Every isolated local address.
    pub subjects: BTreeMap<IpAddr, Subject>,
    /// Addresses that local pods had, that nobody has since, and whose flows are still to be forgotten.
    pub former: BTreeMap<IpAddr, Arc<str>>,
    /// Every address of a local pod, isolated or not, and whose it is.
    pub local: BTreeMap<IpAddr, Arc<str>>,
    /// The members of every peer selector that a group names: address and pod, cluster-wide.
    pub peers: BTreeMap<Arc<PeerSelector>, BTreeMap<IpAddr, Arc<str>>>,
    /// The isolated pods of this node that have no address yet, or another one than they show.
    pub starting: BTreeMap<NamespacedName, Isolates>,
    /// Every named port that a group names: address and number of each pod that declares it, cluster-wide.
    pub named_ports: BTreeMap<NamedPort, BTreeMap<(IpAddr, u16), Arc<str>>>,
}

/// What changed since it was last asked. Names places in [`NodePolicy`] that may differ; what is not named does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Groups that came, went or allow something else.
    pub groups: BTreeSet<Group>,
    /// Addresses whose entry in `subjects` or `local` changed.
    pub subjects: BTreeSet<IpAddr>,
    /// Addresses that came to or went from a peer selector.
    pub peers: BTreeMap<Arc<PeerSelector>, BTreeSet<IpAddr>>,
    /// Ports that came to or went from a named port.
    pub named_ports: BTreeMap<NamedPort, BTreeSet<(IpAddr, u16)>>,
    /// `starting` changed.
    pub starting: bool,
    /// In which order.
    pub order: EventOrder,
}

impl Dirty {
    /// Nothing that a ruleset shows changed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.subjects.is_empty()
            && self.peers.is_empty()
            && self.named_ports.is_empty()
            && !self.starting
    }
}

impl NodePolicy {
    /// Everything that is there, as if it all had just come.
    pub fn everything(&self) -> Dirty {
        Dirty {
            groups: self.groups.keys().cloned().collect(),
            subjects: self.local.keys().chain(self.former.keys()).copied().collect(),
            peers: self.peers.iter().map(|(key, members)| (key.clone(), members.keys().copied().collect())).collect(),
            named_ports: self
                .named_ports
                .iter()
                .map(|(key, ports)| (key.clone(), ports.keys().copied().collect()))
                .collect(),
            starting: !self.starting.is_empty(),
            order: EventOrder::default(),
        }
    }
}
