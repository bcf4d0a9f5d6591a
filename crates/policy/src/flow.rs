//! A flow, and the judgement of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::input::{Direction, Family, NamespacedName, Protocol};

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A pod by name. One that is finished or on the host's network stands for its plain address.
    Pod(NamespacedName),
    /// An address; one that belongs to a live pod is that pod.
    Address(IpAddr),
    /// A node by name; only the opener of a flow can be one.
    Node(Arc<str>),
}

/// What a flow carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A protocol with ports, and the destination's port after Service translation.
    Port(Protocol, u16),
    /// ICMP or ICMPv6 echo, or any other protocol without ports: only a rule without `ports` allows it.
    Portless,
}

/// A flow: who opens it, to whom, carrying what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The opener.
    pub from: Endpoint,
    /// The server.
    pub to: Endpoint,
    /// Protocol and port.
    pub transport: Transport,
    /// The family; by default the first of `from` that `to` has too.
    pub family: Option<Family>,
}

/// What about nodes the objects themselves do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Addresses of nodes by name, beyond the `status.hostIPs` of their pods.
    pub addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Whether a pod may always reach its own node (`--allow-egress-to-own-node`).
    pub allow_egress_to_own_node: bool,
    /// The ranges that nodes give their pods addresses from (`spec.podCIDRs`), by name.
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
    /// Both must allow.
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

/// Why one direction came out as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This end is no pod that policies know: nothing to judge here.
    NotAPod,
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// A pod cannot block access to itself.
    Itself,
    /// The traffic comes from the pod's own node.
    OwnNode,
    /// `--allow-egress-to-own-node` is given and the destination is the pod's own node.
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
    /// The pod is isolated by these policies and none of their rules matches.
    NoRule {
        /// The policies that isolate the pod in this direction.
        policies: Vec<NamespacedName>,
    },
    /// No pod of the node shows the address, and it may be that of one of these, which are starting there and isolated.
    Starting {
        /// The pods.
        pods: Vec<NamespacedName>,
    },
    /// Two live pods claim the address, and one of them is isolated: nothing is allowed until one goes.
    ClaimedTwice {
        /// The pods.
        pods: Vec<NamespacedName>,
    },
}

/// The verdict of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

/// The verdict on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Allow only if both directions do.
    pub verdict: Verdict,
    /// What the opener's policies say.
    pub egress: Decision,
    /// What the server's policies say.
    pub ingress: Decision,
}

/// Why a flow cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// No such pod.
    #[error("pod {0} is not among the objects read")]
    UnknownPod(NamespacedName),
    /// A node can only open flows.
    #[error("node/{0} cannot be the destination: name one of its addresses")]
    NodeAsDestination(Arc<str>),
    /// The two ends have no address family in common.
    #[error("{from} and {to} share no address family")]
    NoSharedFamily {
        /// The opener.
        from: String,
        /// The server.
        to: String,
    },
    /// The family asked for is not one of an end's.
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
