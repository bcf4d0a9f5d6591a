//! The marks of flows in conntrack.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_ruleset::cache::Stale;
use palisade_ruleset::walk::{End, Flow, Packet, Walk};

/// Source, destination, port and protocol.
type Ends = (IpAddr, IpAddr, Option<u16>, u8);

/// The marks that are not 0, by flow.
#[derive(Default)]
pub(super) struct Marks(BTreeMap<Ends, u32>);

impl Marks {
    /// The packet with its flow's mark.
    pub(super) fn on(&self, packet: &Packet) -> Packet {
        let mark = self.0.get(&ends(packet)).copied().unwrap_or_default();
        Packet { flow: packet.flow.map(|flow| Flow { mark, ..flow }), ..packet.clone() }
    }

    /// Keeps what a packet leaves; without a packet that passes, there is no flow.
    pub(super) fn keep(&mut self, packet: &Packet, walk: &Walk) {
        if walk.end == End::Accept {
            self.0.insert(ends(packet), walk.mark);
        }
    }

    /// Clears stamps.
    pub(super) fn clear(&mut self, stale: Stale) {
        self.0.retain(|_, mark| !stale.is_in(*mark));
    }
}

fn ends(packet: &Packet) -> Ends {
    (packet.source, packet.destination, packet.destination_port, packet.protocol)
}
