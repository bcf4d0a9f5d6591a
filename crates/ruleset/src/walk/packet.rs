//! A packet, as rules see it.

use std::net::IpAddr;

use palisade_policy::flow::Transport;
use palisade_policy::input::{Family, Protocol};

use super::number_of;
use crate::model::{CtStates, Hook, Key, L4, Load, PacketType};

/// The conntrack entry of a packet. Its tuples are the same for request and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// `ct original saddr`.
    pub opener: IpAddr,
    /// `ct reply saddr`: after Service translation.
    pub server: IpAddr,
    /// `ct original proto-src` and `proto-dst`, for protocols with ports; the latter before Service translation.
    pub original_ports: Option<(u16, u16)>,
    /// `ct reply proto-src`, for protocols with ports.
    pub server_port: Option<u16>,
    /// `ct mark`.
    pub mark: u32,
}

/// The TCP flags that rules distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ACK, without SYN, FIN or RST.
    Middle,
    /// Any other flags.
    Other,
}

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The hook.
    pub hook: Hook,
    /// The packet's source.
    pub source: IpAddr,
    /// The packet's destination, at this hook.
    pub destination: IpAddr,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// The packet's destination port, at this hook, of protocols with ports.
    pub destination_port: Option<u16>,
    /// Its conntrack state.
    pub states: CtStates,
    /// Its conntrack entry; `None` if invalid or untracked.
    pub flow: Option<Flow>,
    /// Its input interface.
    pub input_interface: Option<String>,
    /// How the frame was addressed.
    pub frame_type: PacketType,
    /// The kind of the source's address, to the node.
    pub source_type: PacketType,
    /// The kind of the destination's address, to the node.
    pub destination_type: PacketType,
    /// The flags, of TCP.
    pub segment: Option<Segment>,
    /// The type, of ICMPv6.
    pub icmpv6_type: Option<u8>,
    /// The hop limit, of IPv6.
    pub hop_limit: u8,
}

/// What kind of address `fib` finds it to be; a subnet's broadcast IP is only known to a node of that subnet.
fn kind_of(address: IpAddr) -> PacketType {
    match address {
        IpAddr::V4(address) if address.is_broadcast() => PacketType::Broadcast,
        _ if address.is_multicast() => PacketType::Multicast,
        _ => PacketType::Unicast,
    }
}

/// A client port, for flows where it does not matter.
const EPHEMERAL: u16 = 45_678;

impl Packet {
    /// The first packet of a flow. `server` is its destination after Service translation.
    pub fn request(hook: Hook, opener: IpAddr, server: IpAddr, transport: Transport) -> Self {
        let icmp = if opener.is_ipv4() { L4::Icmp } else { L4::Icmpv6 };
        let (protocol, port) = match transport {
            Transport::Port(protocol, port) => (number_of(L4::Transport(protocol)), Some(port)),
            Transport::Portless => (number_of(icmp), None),
        };
        let is_tcp = matches!(transport, Transport::Port(Protocol::Tcp, _));
        Self {
            hook,
            source: opener,
            destination: server,
            protocol,
            destination_port: port,
            states: CtStates { new: true, ..CtStates::default() },
            flow: Some(Flow {
                opener,
                server,
                original_ports: port.map(|port| (EPHEMERAL, port)),
                server_port: port,
                mark: 0,
            }),
            input_interface: None,
            frame_type: PacketType::Unicast,
            source_type: kind_of(opener),
            destination_type: kind_of(server),
            segment: is_tcp.then_some(Segment::Other),
            icmpv6_type: (icmp == L4::Icmpv6 && port.is_none()).then_some(128),
            hop_limit: 64,
        }
    }

    /// A packet of the same flow in the other direction, at the hook that it meets.
    #[must_use]
    pub fn reply(&self, hook: Hook) -> Self {
        Self {
            hook,
            source: self.destination,
            destination: self.source,
            destination_port: self.destination_port.map(|_| EPHEMERAL),
            states: CtStates { established: true, ..CtStates::default() },
            source_type: self.destination_type,
            destination_type: self.source_type,
            segment: self.segment.map(|_| Segment::Middle),
            icmpv6_type: self.icmpv6_type.map(|_| 129),
            ..self.clone()
        }
    }

    /// The same packet of the flow as the walk of an earlier one left it.
    #[must_use]
    pub fn after(&self, walk: &super::Walk) -> Self {
        Self { flow: self.flow.map(|flow| Flow { mark: walk.mark, ..flow }), ..self.clone() }
    }

    /// The same packet without a conntrack entry: invalid, or untracked.
    #[must_use]
    pub fn without_flow(&self, states: CtStates) -> Self {
        Self { states, flow: None, ..self.clone() }
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }
}

impl Load {
    /// The address that this load gives, if it is one of the packet's.
    pub(super) fn address(self, packet: &Packet) -> Option<IpAddr> {
        let (address, family) = match self {
            Self::Client(family) => (packet.flow?.opener, family),
            Self::Server(family) => (packet.flow?.server, family),
            Self::PacketSource(family) => (packet.source, family),
            Self::PacketDestination(family) => (packet.destination, family),
            _ => return None,
        };
        (Family::of(address) == family).then_some(address)
    }

    /// The port that this load gives, if it is one of the packet's.
    pub(super) fn port(self, packet: &Packet) -> Option<u16> {
        match self {
            Self::ServerPort => packet.flow?.server_port,
            Self::OriginalSourcePort => packet.flow?.original_ports.map(|(source, _)| source),
            Self::OriginalDestinationPort => packet.flow?.original_ports.map(|(_, destination)| destination),
            Self::DestinationPort(protocol) if number_of(L4::Transport(protocol)) == packet.protocol => {
                packet.destination_port
            }
            _ => None,
        }
    }

    /// The port, type or hop limit that this load gives.
    pub(super) fn number(self, packet: &Packet) -> Option<u16> {
        match self {
            Self::Icmpv6Type => packet.icmpv6_type.map(u16::from),
            Self::HopLimit => (packet.family() == Family::V6).then_some(u16::from(packet.hop_limit)),
            _ => self.port(packet),
        }
    }
}

/// The key to look up for these values.
pub(super) fn key(packet: &Packet, loads: &[Load]) -> Option<Key> {
    match loads {
        [Load::InputInterface] => packet.input_interface.clone().map(Key::InterfaceName),
        [load] => load.address(packet).map(Key::Address),
        [address, Load::ServerPort] => Some(Key::AddressPort(address.address(packet)?, Load::ServerPort.port(packet)?)),
        [one, other] => Some(Key::AddressPair(one.address(packet)?, other.address(packet)?)),
        _ => None,
    }
}
