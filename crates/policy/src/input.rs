//! Pods, namespaces and policies, in the shape of the API with its defaults applied.
//!
//! These types cannot confuse "absent" with "empty": a rule without `from` is [`Peers::Any`], an empty rule list is an
//! empty `Vec`, and a term that cannot be enforced is [`Peer::Unmatchable`] or [`Port::Unmatchable`], which matches
//! nothing.

mod budget;
mod kind;
mod labels;
mod legacy;
mod object;
mod policy;
mod pool;
mod selector;
mod service;
mod state;
mod unknown;

pub use budget::{Budget, Cost};
pub(crate) use budget::{PortSpan, SETS_APART, split_cost, whole_cost};
pub use kind::{Kind, ListPart, NamespaceAnswer, Object, ObjectAnswer, ObjectName};
pub use labels::Labels;
pub use legacy::{LEGACY_ANNOTATION, LegacyIsolation};
pub use object::{Addresses, ContainerPort, METADATA_NAME, Namespace, NamespacedName, Phase, Pod};
pub use policy::{IpBlock, Isolates, NamespaceScope, Peer, Peers, Policy, Port, Ports, Rule, Unenforceable};
pub use pool::Pool;
pub use selector::{LabelSelector, NotASelector, Operator, Requirement};
pub use service::{EndpointSlice, Service, ServicePort, Services, TargetPort};
pub use state::{Change, State};
pub use unknown::{UNKNOWN_LABEL, without_unknown};

use std::fmt;
use std::net::IpAddr;

/// An address family. Everything in a table exists for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an IP.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `4` or `6`, the last character of names of sets and maps.
    pub fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that a policy can name (`ports[].protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The default of the API.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The lower-case name, as nft writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// The direction of a pod's flows that a policy covers (`policyTypes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Flows that the pod opens.
    Egress,
    /// Flows that other hosts open to the pod.
    Ingress,
}

impl Direction {
    /// Both directions, in the order in which a packet meets them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The lower-case name, as in a policy's fields.
    pub fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
