//! Expressions of rules, one for one with the kernel's.
//!
//! nft's implicit dependencies are explicit here (an address of the packet needs `meta nfproto` before it, an ICMPv6
//! type needs `meta nfproto ipv6` and `meta l4proto ipv6-icmp`, TCP flags and a packet's port need `meta l4proto`).
//! Like nft, the text form omits such a test directly before the expression that needs it.

use ipnet::IpNet;
use palisade_policy::input::{Direction, Family, Protocol};
use std::net::IpAddr;

use crate::name::Name;

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expression {
    /// Continues if the loaded value passes the test. A value that cannot be loaded (no conntrack entry, other family)
    /// never passes.
    Match(Load, Test),
    /// Continues if the concatenation of the loaded values is an element of the set.
    Lookup(Vec<Load>, Name),
    /// Looks the value up in a verdict map; continues with the next expression if it is not there.
    Vmap(Load, Name),
    /// Counts the packet, anonymously.
    Counter,
    /// Counts the packet in a named counter.
    CountIn(Name),
    /// Writes these bits of the flow's `ct mark`, and keeps the others.
    SetMark(MarkBits),
    /// Ends the rule.
    Verdict(Verdict),
}

/// The fate of the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Leaves the base chain; the packet passes this hook's chain.
    Accept,
    /// Drops the packet.
    Drop,
    /// Returns to the rule after the last jump.
    Return,
    /// Jumps to a chain, and back at its end.
    Jump(Name),
    /// Goes to a chain, and at its end returns to the last jump.
    Goto(Name),
}

/// A value of the packet, its flow or its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// `meta nfproto`: the family.
    Nfproto,
    /// `meta l4proto`.
    L4Proto,
    /// `iifname`.
    InputInterface,
    /// `meta pkttype`.
    PacketType,
    /// `fib saddr type`, tested against a [`PacketType`].
    SourceType,
    /// `fib daddr type`, tested against a [`PacketType`].
    DestinationType,
    /// `ct state`.
    CtState,
    /// `ct mark`.
    CtMark,
    /// `ct original ip saddr`: the client.
    Client(Family),
    /// `ct reply ip saddr`: the server, after Service translation.
    Server(Family),
    /// `ct reply proto-src`: the server's port.
    ServerPort,
    /// `ct original proto-src`.
    OriginalSourcePort,
    /// `ct original proto-dst`.
    OriginalDestinationPort,
    /// `ip saddr`, `ip6 saddr`: the packet's own.
    PacketSource(Family),
    /// `ip daddr`, `ip6 daddr`: the packet's own.
    PacketDestination(Family),
    /// `tcp dport`, `udp dport`, `sctp dport`: the packet's own.
    DestinationPort(Protocol),
    /// `ip6 hoplimit`.
    HopLimit,
    /// `icmpv6 type`.
    Icmpv6Type,
    /// `tcp flags`.
    TcpFlags,
}

/// A test of a loaded value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// An address equals this one, or is in this prefix (`/32` and `/128` are written as the address).
    Prefix(IpNet),
    /// An address is between these, both included.
    AddressRange(IpAddr, IpAddr),
    /// A port, ICMPv6 type or hop limit is between these, both included; a single value has equal ends.
    Range(u16, u16),
    /// The family.
    Family(Family),
    /// The protocol.
    L4(L4),
    /// The link-layer destination, or the type of the destination address.
    PacketType(PacketType),
    /// The state is one of these.
    States(CtStates),
    /// Some bits of the mark have this value.
    Mark(MarkBits),
    /// `tcp flags & (fin|syn|rst|ack) == ack`: a segment in the middle of a stream.
    MidStream,
    /// The value is an element of the set.
    In(Name),
}

/// Layer 4 protocols that rules name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L4 {
    /// A protocol that policies name.
    Transport(Protocol),
    /// `icmp` (1).
    Icmp,
    /// `ipv6-icmp` (58).
    Icmpv6,
}

/// Some bits of `ct mark`, and their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkBits {
    /// Which bits: a run of ones.
    pub mask: u32,
    /// The value, in place: no bit outside the mask is set.
    pub value: u32,
}

/// How the frame was addressed (`meta pkttype`), or what kind of address an end is (`fib saddr type`, `fib daddr
/// type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// To one receiver.
    Unicast,
    /// Broadcast.
    Broadcast,
    /// Multicast.
    Multicast,
}

/// A set of conntrack states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state that nft names; a bit set would say less")]
pub struct CtStates {
    /// `invalid` (bit 1).
    pub invalid: bool,
    /// `established` (bit 2).
    pub established: bool,
    /// `related` (bit 4).
    pub related: bool,
    /// `new` (bit 8).
    pub new: bool,
    /// `untracked` (bit 64).
    pub untracked: bool,
}

impl Load {
    /// The packet's address that is looked up in a direction's map if the packet has no flow.
    pub fn packet_end(direction: Direction, family: Family) -> Self {
        match direction {
            Direction::Egress => Self::PacketSource(family),
            Direction::Ingress => Self::PacketDestination(family),
        }
    }

    /// The end of the flow whose policies judge this direction.
    pub fn subject(direction: Direction, family: Family) -> Self {
        match direction {
            Direction::Egress => Self::Client(family),
            Direction::Ingress => Self::Server(family),
        }
    }

    /// The end of the flow that a direction's peers are compared with.
    pub fn peer(direction: Direction, family: Family) -> Self {
        match direction {
            Direction::Egress => Self::Server(family),
            Direction::Ingress => Self::Client(family),
        }
    }
}
