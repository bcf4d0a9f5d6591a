//! The incremental index: turns objects into the compiled policy of one node, and reports exactly what changed.
//!
//! One task owns the index. The work for an event depends on the size of the change, not of the cluster: events are
//! first applied to the objects, then everything that they touched is computed once.

mod apply;
mod build;
mod counts;
mod due;
mod groups;
mod load;
mod order;
mod owner;
mod refresh;
mod selecting;
mod selectors;
mod shares;
mod terms;
#[cfg(test)]
mod tests;

pub use build::Index;
pub use counts::Counts;
pub use due::Former;
pub use order::EventOrder;
pub use shares::{set_aside, set_aside_somewhere};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::{Allowed, Group, NamedPort, PeerSelector};
use crate::input::{Isolates, NamespacedName};

/// A local IP that is isolated in a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The pod that has the IP, as `default/web-0`.
    pub owner: Arc<str>,
    /// Its group for egress, if isolated.
    pub egress: Option<Group>,
    /// Its group for ingress, if isolated.
    pub ingress: Option<Group>,
}

/// The compiled policy of one node, from which its ruleset is rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// Every group with a local pod, and the flows that it allows.
    pub groups: BTreeMap<Group, Allowed>,
    /// Every isolated local IP.
    pub subjects: BTreeMap<IpAddr, Subject>,
    /// IPs of former local pods that no pod has now and whose flows are not deleted yet.
    pub former: BTreeMap<IpAddr, Arc<str>>,
    /// Every IP of a local pod, isolated or not, and its owner.
    pub local: BTreeMap<IpAddr, Arc<str>>,
    /// The members of every peer selector that a group names: IP and pod, cluster-wide.
    pub peers: BTreeMap<Arc<PeerSelector>, BTreeMap<IpAddr, Arc<str>>>,
    /// The isolated pods of this node that have no IP yet, or only an outdated one in their status.
    pub starting: BTreeMap<NamespacedName, Isolates>,
    /// Every named port that a group names: IP and number of each pod that declares it, cluster-wide.
    pub named_ports: BTreeMap<NamedPort, BTreeMap<(IpAddr, u16), Arc<str>>>,
}

/// The changes since the last call: the entries of [`NodePolicy`] that may differ. All others are unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Groups that were added, removed or changed.
    pub groups: BTreeSet<Group>,
    /// IPs whose entry in `subjects` or `local` changed.
    pub subjects: BTreeSet<IpAddr>,
    /// IPs that joined or left a peer selector.
    pub peers: BTreeMap<Arc<PeerSelector>, BTreeSet<IpAddr>>,
    /// Ports that joined or left a named port.
    pub named_ports: BTreeMap<NamedPort, BTreeSet<(IpAddr, u16)>>,
    /// Whether `starting` changed.
    pub starting: bool,
    /// The order of the changes.
    pub order: EventOrder,
}

impl Dirty {
    /// Whether no change affects a ruleset.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
            && self.subjects.is_empty()
            && self.peers.is_empty()
            && self.named_ports.is_empty()
            && !self.starting
    }
}

impl NodePolicy {
    /// Every entry, as if all had just been added.
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
