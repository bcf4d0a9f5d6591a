//! The terms of a probe: who sends what to whom, and the outcome.

use std::fmt;
use std::net::IpAddr;

use crate::namespace::Namespace;

/// A protocol of layer four that probes and shots speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP. Linux as tested here has no SCTP sockets; packets are crafted.
    Sctp,
    /// ICMP echo on IPv4, ICMPv6 echo on IPv6. It has no ports.
    Icmp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Icmp];

    /// The protocol's number in an IP header of the family of `address`.
    pub fn number(self, address: IpAddr) -> u8 {
        match (self, address) {
            (Self::Tcp, _) => 6,
            (Self::Udp, _) => 17,
            (Self::Sctp, _) => 132,
            (Self::Icmp, IpAddr::V4(_)) => 1,
            (Self::Icmp, IpAddr::V6(_)) => 58,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// One flow to try: as a probe with real sockets ([`crate::probe_all`]) or as a shot ([`crate::Lab::shoot`]).
#[derive(Clone, Debug)]
pub struct Flow {
    /// Where it starts: a pod's, a node's or a host's namespace.
    pub from: Namespace,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination, possibly a Service's address.
    pub to: IpAddr,
    /// The destination port; ignored for ICMP.
    pub port: u16,
    /// The source address; `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// The source port (for ICMP the echo identifier of a shot); `None` takes a fresh ephemeral one. After some ten
    /// thousand flows ports repeat and may hit conntrack entries of earlier flows: flush them
    /// ([`crate::Node::conntrack`]) if that matters, for example after a Service has changed its backend.
    pub source_port: Option<u16>,
}

impl Flow {
    /// A flow with source address and port left open.
    pub fn new(from: impl AsRef<Namespace>, protocol: Protocol, to: impl Into<IpAddr>, port: u16) -> Self {
        Self { from: from.as_ref().clone(), protocol, to: to.into(), port, source: None, source_port: None }
    }

    /// A TCP connection.
    pub fn tcp(from: impl AsRef<Namespace>, to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(from, Protocol::Tcp, to, port)
    }

    /// A UDP datagram (and its answer).
    pub fn udp(from: impl AsRef<Namespace>, to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(from, Protocol::Udp, to, port)
    }

    /// An SCTP association.
    pub fn sctp(from: impl AsRef<Namespace>, to: impl Into<IpAddr>, port: u16) -> Self {
        Self::new(from, Protocol::Sctp, to, port)
    }

    /// An ICMP or ICMPv6 echo.
    pub fn ping(from: impl AsRef<Namespace>, to: impl Into<IpAddr>) -> Self {
        Self::new(from, Protocol::Icmp, to, 0)
    }

    /// The same flow from a chosen source port.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        self.source_port = Some(port);
        self
    }

    /// The same flow from a chosen source address.
    #[must_use]
    pub fn from_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.source = Some(address.into());
        self
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol, self.from.name(), self.to)?;
        match self.protocol {
            Protocol::Icmp => Ok(()),
            _ => write!(f, " port {}", self.port),
        }
    }
}

/// What an application at the source sees of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other end answered as an echo server does.
    Reachable,
    /// The other end's kernel answered that the port is closed, so the network passed the packet. A rule that *rejects*
    /// looks the same.
    Refused,
    /// Nothing came back before the deadline, or the source has no route.
    Unreachable,
}

impl Outcome {
    /// Whether the other end answered as an echo server does.
    pub fn is_reachable(self) -> bool {
        self == Self::Reachable
    }
}

/// What an echo server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// The protocol. ICMP needs no server: the kernel answers.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Listen {
    /// TCP on a port.
    pub const fn tcp(port: u16) -> Self {
        Self { protocol: Protocol::Tcp, port }
    }

    /// UDP on a port.
    pub const fn udp(port: u16) -> Self {
        Self { protocol: Protocol::Udp, port }
    }

    /// SCTP on a port.
    pub const fn sctp(port: u16) -> Self {
        Self { protocol: Protocol::Sctp, port }
    }
}
