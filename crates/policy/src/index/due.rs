//! IPs that left their pods and whose flows are not yet deleted from conntrack.
//!
//! Such a flow would give the former pod's peers access to the next pod with the IP. So the IP is *held* while it is
//! due and a pod has it again: it is not a peer, and if it is isolated nothing is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Index;
use super::apply::Touched;
use crate::input::Isolates;

/// Unclaimed IPs of former remote pods wait; above this number, they are due now.
const WAITING: usize = 4_096;

/// Above this number, unclaimed IPs of former remote pods are dropped, the lowest first.
const KEPT: usize = 131_072;

/// A former local pod whose IP no pod has now. The table keeps it until the flows are deleted, so that an agent that
/// adopts the table knows that they are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The pod's name, marked as gone.
    pub name: Arc<str>,
    /// The directions in which it was isolated. If it was isolated in any, nothing passes in either until the flows are
    /// deleted.
    pub isolates: Isolates,
}

/// The prefix of an owner's name while the flows of the former pod are not yet deleted.
const GONE: &str = "gone: ";
pub(super) const REUSED: &str = "reused: ";

/// The IPs, by former owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// IPs of local pods.
    local: BTreeSet<IpAddr>,
    /// IPs of pods of other nodes.
    remote: BTreeSet<IpAddr>,
    /// IPs of both kinds that a pod had again when last computed.
    held: BTreeSet<IpAddr>,
    /// The former local pods, as the table last had them.
    former: BTreeMap<IpAddr, Former>,
    /// IPs that left a pod since the last deletion of their flows began.
    again: BTreeSet<IpAddr>,
}

impl Former {
    /// A pod that had the IP and is gone.
    pub fn gone(name: &str, isolates: Isolates) -> Self {
        let name = name.strip_prefix(GONE).or_else(|| name.strip_prefix(REUSED)).unwrap_or(name);
        Self { name: format!("{GONE}{name}").into(), isolates }
    }
}

impl Due {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.local.contains(&address) || self.remote.contains(&address)
    }

    pub(super) fn len(&self) -> usize {
        self.local.len() + self.remote.len()
    }

    pub(super) fn add(&mut self, address: IpAddr, was_local: bool) {
        self.again.insert(address);
        if was_local || self.local.contains(&address) {
            self.remote.remove(&address);
            self.local.insert(address);
        } else {
            self.remote.insert(address);
        }
    }

    fn remove(&mut self, address: IpAddr) -> bool {
        self.former.remove(&address);
        self.again.remove(&address);
        self.local.remove(&address) || self.remote.remove(&address)
    }

    /// Notes whether an IP is held.
    pub(super) fn hold(&mut self, address: IpAddr, held: bool) {
        if held {
            self.held.insert(address);
        } else {
            self.held.remove(&address);
        }
    }

    /// The former owner, if no pod has the IP now.
    pub(super) fn former(&self, address: IpAddr) -> Option<&Former> {
        self.former.get(&address)
    }

    /// Notes a former owner, unless one is already known.
    pub(super) fn note_former(&mut self, address: IpAddr, former: Former) {
        self.former.entry(address).or_insert(former);
    }

    /// The number of held IPs.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.local.iter().chain(&self.remote).copied()
    }
}

impl Index {
    /// The IPs whose flows are due for deletion, now or later.
    pub fn due(&self) -> BTreeSet<IpAddr> {
        self.due.iter().collect()
    }

    /// The IPs whose flows are due now: those of former local pods, and those that a pod has again. Flows of others
    /// have no end on this node. They wait until there are many, because each conntrack dump costs the same.
    pub fn due_now(&self) -> BTreeSet<IpAddr> {
        let all = self.due.remote.len() > WAITING;
        let remote = self.due.remote.iter().filter(|address| all || self.is_owned(**address));
        self.due.local.iter().chain(remote).copied().collect()
    }

    /// Whether a pod has this IP again before the flows of the former pod are deleted.
    pub fn is_held(&self, address: IpAddr) -> bool {
        self.due.contains(address) && self.is_owned(address)
    }

    /// The IPs of [`Index::due_now`], whose flows are deleted from now on. An IP that leaves a pod after this is due
    /// again when the deletion ends.
    pub fn begin_deletion(&mut self) -> BTreeSet<IpAddr> {
        let now = self.due_now();
        self.due.again.retain(|address| !now.contains(address));
        now
    }

    /// Notes that the flows that these IPs had at [`Index::begin_deletion`] are deleted.
    pub fn end_deletion(&mut self, addresses: &BTreeSet<IpAddr>) {
        let done = addresses.iter().filter(|address| !self.due.again.contains(address));
        let done = done.copied().collect();
        self.forgotten(&done);
    }

    /// Notes that all flows of these IPs are deleted.
    pub fn forgotten(&mut self, addresses: &BTreeSet<IpAddr>) {
        let mut touched = Touched::default();
        for address in addresses {
            if self.due.remove(*address) {
                self.dirty.order.push(BTreeSet::from([*address]));
                touched.addresses.insert(*address, None);
            }
        }
        self.refresh(&touched);
    }

    /// Marks the flows of these IPs as due, no matter which pod had them. For the start, when only the previous agent's
    /// table knows the owners; it may name the local pod that had an IP.
    pub fn mark_due(&mut self, addresses: impl IntoIterator<Item = (IpAddr, Option<Former>)>) {
        let mut touched = Touched::default();
        for (address, former) in addresses {
            self.touch(address, &mut touched);
            self.dirty.order.lose();
            self.due.add(address, true);
            if let Some(former) = former {
                self.due.note_former(address, former);
            }
        }
        self.refresh(&touched);
    }

    /// Notes the local pod that had an IP, as named in the table.
    pub(super) fn remember_former(&mut self, address: IpAddr) {
        let Some(name) = self.compiled.local.get(&address) else { return };
        let subject = self.compiled.subjects.get(&address);
        let isolates = Isolates {
            egress: subject.is_some_and(|subject| subject.egress.is_some()),
            ingress: subject.is_some_and(|subject| subject.ingress.is_some()),
        };
        self.due.note_former(address, Former::gone(name, isolates));
    }

    /// Drops the least dangerous IPs if there are too many.
    pub(super) fn bound_due(&mut self) {
        while self.due.remote.len() > KEPT {
            let spare = self.due.remote.iter().find(|address| !self.owners.contains_key(address)).copied();
            let Some(spare) = spare else { return };
            self.due.remove(spare);
        }
    }
}
