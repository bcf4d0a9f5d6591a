//! The order in which pods changed since the last commit.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many events are remembered. More changes than these are cheaper as one.
const MOST: usize = 256;

/// The events since the last commit, in their order, as long as all of them were about single pods.
///
/// If the table follows one after the other, every state in between is one that the cluster has been in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventOrder {
    events: Vec<BTreeSet<IpAddr>>,
    lost: bool,
}

impl EventOrder {
    /// The addresses that each event is about; no address is in two. None if there is no such order.
    pub fn events(&self) -> Option<&[BTreeSet<IpAddr>]> {
        (!self.lost).then_some(&self.events)
    }

    /// Whether there was an event about this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.events.iter().any(|event| event.contains(&address))
    }

    /// An event changed what is known of these addresses.
    pub(super) fn push(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.lost || addresses.is_empty() || self.events.last() == Some(&addresses) {
            return;
        }
        // An address with events before and after those of others changes once, and neither place is right.
        if self.events.len() >= MOST || addresses.iter().any(|address| self.has(*address)) {
            self.lose();
        } else {
            self.events.push(addresses);
        }
    }

    /// Something else changed, or the order of events is not known.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.events.clear();
    }
}
