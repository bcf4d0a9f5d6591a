//! Addresses that left their pods, until conntrack has forgotten the flows that they had.
//!
//! Such a flow would let the peers of the former pod into the one that gets the address next. So the address is *held* while
//! it is due and a pod has it again: it is nobody's peer, and where it is isolated nothing is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Index;
use super::apply::Touched;
use crate::input::Isolates;

/// More addresses than these that nobody has and that were no local pod's are not waited with: they are due now.
const WAITING: usize = 4_096;

/// Beyond these, addresses that nobody has and that were no local pod's are given up, the lowest first.
const KEPT: usize = 131_072;

/// What a local pod was whose address nobody has since: the table keeps it until the flows are forgotten, so that whoever
/// adopts the table knows of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The pod, marked as one that is gone.
    pub name: Arc<str>,
    /// The directions in which it was isolated, and in which nothing passes until then.
    pub isolates: Isolates,
}

/// How the name of an address's owner begins while the flows of the one before are still to be forgotten.
const GONE: &str = "gone: ";
pub(super) const REUSED: &str = "reused: ";

/// The addresses, apart by whose they were.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// They were a local pod's.
    local: BTreeSet<IpAddr>,
    /// They were a pod's of another node.
    remote: BTreeSet<IpAddr>,
    /// Those of both that a pod has again, as last looked at.
    held: BTreeSet<IpAddr>,
    /// The local pods that had them as the table last showed.
    former: BTreeMap<IpAddr, Former>,
    /// Those that left a pod since their flows were last begun to be forgotten.
    again: BTreeSet<IpAddr>,
}

impl Former {
    /// A pod that had the address and is gone.
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

    /// Notes whether an address is held.
    pub(super) fn hold(&mut self, address: IpAddr, held: bool) {
        if held {
            self.held.insert(address);
        } else {
            self.held.remove(&address);
        }
    }

    /// Who had it, if nobody has it since.
    pub(super) fn former(&self, address: IpAddr) -> Option<&Former> {
        self.former.get(&address)
    }

    /// Notes who had it; who had it before that stays.
    pub(super) fn note_former(&mut self, address: IpAddr, former: Former) {
        self.former.entry(address).or_insert(former);
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.local.iter().chain(&self.remote).copied()
    }
}

impl Index {
    /// The addresses whose flows are to be forgotten, sooner or later.
    pub fn due(&self) -> BTreeSet<IpAddr> {
        self.due.iter().collect()
    }

    /// Those whose flows are to be forgotten now: what a local pod had, and what a pod has again. Flows of others end nowhere
    /// on this node; they are left until they are many, since each look at conntrack costs the same.
    pub fn due_now(&self) -> BTreeSet<IpAddr> {
        let all = self.due.remote.len() > WAITING;
        let remote = self.due.remote.iter().filter(|address| all || self.is_owned(**address));
        self.due.local.iter().chain(remote).copied().collect()
    }

    /// Whether a pod has this address again before the flows of the one before were forgotten.
    pub fn is_held(&self, address: IpAddr) -> bool {
        self.due.contains(address) && self.is_owned(address)
    }

    /// Those whose flows are to be forgotten now, as [`Index::due_now`]: it begins. An address that leaves a pod from here on
    /// is due again when it is done.
    pub fn begin_forgetting(&mut self) -> BTreeSet<IpAddr> {
        let now = self.due_now();
        self.due.again.retain(|address| !now.contains(address));
        now
    }

    /// The flows of these addresses, as they were when it began, are forgotten.
    pub fn end_forgetting(&mut self, addresses: &BTreeSet<IpAddr>) {
        let done = addresses.iter().filter(|address| !self.due.again.contains(address));
        let done = done.copied().collect();
        self.forgotten(&done);
    }

    /// The flows of these addresses are forgotten.
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

    /// The flows of these addresses are to be forgotten, whoever had them: for a start, of which nobody knows what was before
    /// but the table that was left. It may say which local pod had an address.
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

    /// Notes which pod of this node has had an address as the table shows.
    pub(super) fn remember_former(&mut self, address: IpAddr) {
        let Some(name) = self.compiled.local.get(&address) else { return };
        let subject = self.compiled.subjects.get(&address);
        let isolates = Isolates {
            egress: subject.is_some_and(|subject| subject.egress.is_some()),
            ingress: subject.is_some_and(|subject| subject.ingress.is_some()),
        };
        self.due.note_former(address, Former::gone(name, isolates));
    }

    /// Gives up what nobody can be harmed by soon, when there is too much of it.
    pub(super) fn bound_due(&mut self) {
        while self.due.remote.len() > KEPT {
            let spare = self.due.remote.iter().find(|address| !self.owners.contains_key(address)).copied();
            let Some(spare) = spare else { return };
            self.due.remove(spare);
        }
    }
}
