//! The order in which pods changed since the last commit.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The number of events to keep. More changes are cheaper as one.
const MOST: usize = 256;

/// The events since the last commit, in their order, if all of them were about single pods.
///
/// If the table follows them one after the other, the cluster was in every state in between.
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

    /// Whether an event concerned this IP.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.events.iter().any(|event| event.contains(&address))
    }

    /// Adds an event that changed these IPs.
    pub(super) fn push(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.lost || addresses.is_empty() || self.events.last() == Some(&addresses) {
            return;
        }
        // An IP with events before and after those of others changes once, and neither place is right.
        if self.events.len() >= MOST || addresses.iter().any(|address| self.has(*address)) {
            self.lose();
        } else {
            self.events.push(addresses);
        }
    }

    /// Something else changed, or the order of events is unknown.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.events.clear();
    }
}
