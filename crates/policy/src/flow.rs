//! A flow, and the verdict on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::input::{Direction, Family, NamespacedName, Protocol};

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A pod by name. A finished or hostNetwork pod is treated as its plain IP.
    Pod(NamespacedName),
    /// An IP; it means the live pod that has it, if there is one.
    Address(IpAddr),
    /// A node by name; only the client of a flow can be one.
    Node(Arc<str>),
}

/// The protocol and port of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A protocol with ports; the port is the server's after Service translation.
    Port(Protocol, u16),
    /// ICMP or ICMPv6 echo, or any other protocol without ports: only a rule without `ports` allows it.
    Portless,
}

/// A flow: client, server, transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client.
    pub from: Endpoint,
    /// The server.
    pub to: Endpoint,
    /// Protocol and port.
    pub transport: Transport,
    /// The family; by default the first of `from`'s that `to` has too.
    pub family: Option<Family>,
}

/// Facts about nodes that the objects do not contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// IPs of nodes by name, in addition to the `status.hostIPs` of their pods.
    pub addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Whether a pod may always reach its own node (`--allow-egress-to-own-node`).
    pub allow_egress_to_own_node: bool,
    /// The ranges from which nodes assign pod IPs (`spec.podCIDRs`), by name.
    pub pod_ranges: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The flow may pass.
    Allow,
    /// The flow is dropped.
    Deny,
}

impl Verdict {
    /// Allow if both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Allow { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// The reason for one direction's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This end is not a pod that policies apply to.
    NotAPod,
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// A pod always reaches itself.
    Itself,
    /// The traffic comes from the pod's own node.
    OwnNode,
    /// `--allow-egress-to-own-node` is set and the destination is the pod's own node.
    ToOwnNode,
    /// This rule allows it.
    Rule {
        /// The policy.
        policy: NamespacedName,
        /// The direction of the rule.
        direction: Direction,
        /// Its position in `spec.ingress` or `spec.egress`.
        index: usize,
    },
    /// These policies isolate the pod, and none of their rules matches.
    NoRule {
        /// The policies that isolate the pod in this direction.
        policies: Vec<NamespacedName>,
    },
    /// No pod of the node has the IP, and it may belong to one of these isolated pods, which are starting there.
    Starting {
        /// The pods.
        pods: Vec<NamespacedName>,
    },
    /// Two live pods have the IP, and one of them is isolated: nothing is allowed until one of them is gone.
    DuplicateIp {
        /// The pods.
        pods: Vec<NamespacedName>,
    },
}

/// The verdict of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The reason.
    pub reason: Reason,
}

/// The verdict on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Allow only if both directions do.
    pub verdict: Verdict,
    /// The verdict of the client's policies.
    pub egress: Decision,
    /// The verdict of the server's policies.
    pub ingress: Decision,
}

/// Why a flow cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// No such pod.
    #[error("pod {0} is not among the objects read")]
    UnknownPod(NamespacedName),
    /// A node can only be the client of a flow.
    #[error("node/{0} cannot be the destination: name one of its addresses")]
    NodeAsDestination(Arc<str>),
    /// The two ends share no address family.
    #[error("{from} and {to} share no address family")]
    NoSharedFamily {
        /// The client.
        from: String,
        /// The server.
        to: String,
    },
    /// An end lacks the requested family.
    #[error("{end} has no {family} address")]
    FamilyMissing {
        /// The end.
        end: String,
        /// The family asked for.
        family: Family,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Node(name) => write!(f, "node/{name}"),
        }
    }
}
