//! Shots as bytes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;

use super::opened::Opened;
use crate::error::Result;
use crate::family::Family;
use crate::traffic::flow::{Flow, Protocol};
use crate::traffic::packet::{Ends, SHOT_MARK, Tcp, sctp, tcp_flag};
use crate::traffic::probe::next_port;
use crate::traffic::raw::{Launchers, scope};

/// A packet, and the sockets that send it.
#[derive(Debug)]
pub(super) struct Shot {
    pub(super) from: Arc<Launchers>,
    pub(super) packet: Vec<u8>,
}

/// The shot of every flow; `None` if the source has no address or route for it.
pub(super) fn craft(flows: &[Flow], first: u32, launchers: &mut Opened<Launchers>) -> Result<Vec<Option<Shot>>> {
    let mut sources = Sources::default();
    let mut shots = Vec::with_capacity(flows.len());
    for (flow, offset) in flows.iter().zip(0_u32..) {
        let from = launchers.of(&flow.from)?;
        let Some(source) = sources.of(flow, from.uplink())? else {
            shots.push(None);
            continue;
        };
        let packet = craft_one(flow, Ends::new(source, flow.to)?, first.wrapping_add(offset));
        shots.push(Some(Shot { from, packet }));
    }
    Ok(shots)
}

/// The packet of a flow. All packets of a protocol have the mark at the same place, see [`mark_offset`].
fn craft_one(flow: &Flow, ends: Ends, id: u32) -> Vec<u8> {
    let source_port = flow.source_port.unwrap_or_else(next_port);
    let payload = [SHOT_MARK.to_be_bytes(), id.to_be_bytes()].concat();
    let segment = match flow.protocol {
        // Without the ACK flag the acknowledgement number has no meaning, so it can hold the mark.
        Protocol::Tcp => ends.tcp(
            &Tcp {
                source_port,
                destination_port: flow.port,
                sequence: id,
                acknowledgement: SHOT_MARK,
                flags: tcp_flag::SYN,
            },
            &[],
        ),
        Protocol::Udp => ends.udp(source_port, flow.port, &payload),
        // The tag must not be zero (RFC 9260 section 3.3.2).
        Protocol::Sctp => sctp::init(source_port, flow.port, id | 1, SHOT_MARK, id),
        Protocol::Icmp => ends.echo_request(source_port, 1, &payload),
    };
    ends.packet(flow.protocol, &segment)
}

/// The position of the mark in a segment: TCP's acknowledgement number, the first payload word of UDP and ICMP, the
/// receive window of an SCTP INIT.
pub(super) fn mark_offset(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp => 8,
        Protocol::Sctp => 20,
    }
}

/// The position of the id: TCP's sequence number, the second payload word, SCTP's initial TSN.
pub(super) fn id_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 4,
        Protocol::Udp | Protocol::Icmp => 12,
        Protocol::Sctp => 28,
    }
}

/// Source addresses, as the kernel would choose them.
#[derive(Debug, Default)]
struct Sources {
    known: HashMap<(u64, IpAddr), Option<IpAddr>>,
}

impl Sources {
    /// The source of a flow from a namespace whose `eth0` has the index `uplink`.
    fn of(&mut self, flow: &Flow, uplink: u32) -> Result<Option<IpAddr>> {
        if flow.source.is_some() {
            return Ok(flow.source);
        }
        let family = Family::of(flow.to);
        let addresses: Vec<IpAddr> =
            flow.from.addresses().into_iter().filter(|&address| Family::of(address) == family).collect();
        let is_global = matches!(flow.to, IpAddr::V4(_)) || matches!(flow.to, IpAddr::V6(v6) if scope(v6, 1) == 0);
        match *addresses.as_slice() {
            [only] if is_global => Ok(Some(only)),
            _ => self.ask(flow, uplink),
        }
    }

    /// Asks the kernel, by connecting a socket.
    fn ask(&mut self, flow: &Flow, uplink: u32) -> Result<Option<IpAddr>> {
        let key = (flow.from.id(), flow.to);
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let chosen = flow.from.run(|| {
            let (any, to): (SocketAddr, SocketAddr) = match flow.to {
                IpAddr::V4(v4) => ((Ipv4Addr::UNSPECIFIED, 0).into(), (v4, 9).into()),
                IpAddr::V6(v6) => {
                    ((Ipv6Addr::UNSPECIFIED, 0).into(), SocketAddrV6::new(v6, 9, 0, scope(v6, uplink)).into())
                }
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.local_addr()
        })?;
        let chosen = chosen.ok().map(|address| address.ip());
        self.known.insert(key, chosen);
        Ok(chosen)
    }
}
