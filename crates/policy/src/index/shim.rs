//! Temporary.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Index;
use crate::compile::Owner;
use crate::input::Change;

impl Index {
    /// Applies events.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.apply(change));
        let released = std::mem::take(&mut self.dirty.released);
        self.due.extend(released);
    }

    /// Whose it is.
    pub fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(&address)
    }

    /// Due.
    pub fn due_now(&self) -> BTreeSet<IpAddr> {
        self.due.clone()
    }

    /// Due.
    pub fn mark_due(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.due.extend(addresses);
    }

    /// Done.
    pub fn forgotten(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.due.retain(|address| !addresses.contains(address));
    }
}
