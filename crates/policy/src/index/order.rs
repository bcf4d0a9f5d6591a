//! The order in which pods changed since the last commit.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The number of events to keep. More are cheaper as one change.
const MOST: usize = 256;

/// The events since the last commit, in order, if all of them were about single pods.
///
/// The table may follow them one after the other, because the cluster was in each of these states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventOrder {
    events: Vec<BTreeSet<IpAddr>>,
    lost: bool,
}

impl EventOrder {
    /// The IPs of each event; no IP is in two events. None if there is no such order.
    pub fn events(&self) -> Option<&[BTreeSet<IpAddr>]> {
        (!self.lost).then_some(&self.events)
    }

    /// Whether an event changed this IP.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.events.iter().any(|event| event.contains(&address))
    }

    /// Adds an event that changed these IPs.
    pub(super) fn push(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.lost || addresses.is_empty() || self.events.last() == Some(&addresses) {
            return;
        }
        // A commit changes an IP once. If it has events before and after those of other IPs, no place in the order is
        // right.
        if self.events.len() >= MOST || addresses.iter().any(|address| self.has(*address)) {
            self.lose();
        } else {
            self.events.push(addresses);
        }
    }

    /// Gives up the order: something other than a pod changed, or the order of events is unknown.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.events.clear();
    }
}
