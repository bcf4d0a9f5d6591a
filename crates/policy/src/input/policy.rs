//! `networking.k8s.io/v1` NetworkPolicy, with the API server's defaults applied.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Direction, LabelSelector, NamespacedName, Pod, Protocol};

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Namespace and name.
    pub key: NamespacedName,
    /// `spec.podSelector`: the pods of its namespace that it selects.
    pub pod_selector: LabelSelector,
    /// `spec.policyTypes`, defaulted: the directions in which a selected pod is isolated.
    pub isolates: Isolates,
    /// `spec.ingress`; inert unless it isolates for ingress.
    pub ingress: Vec<Rule>,
    /// `spec.egress`; inert unless it isolates for egress.
    pub egress: Vec<Rule>,
    /// Terms that match nothing because they cannot be enforced, for warnings.
    pub unenforceable: Vec<Unenforceable>,
}

impl Policy {
    /// The rules of one direction, whether or not the policy isolates in it.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Policy {
    /// Whether its `podSelector` selects this pod. This is the index's matcher; the reference evaluator has its own.
    pub fn selects(&self, pod: &Pod) -> bool {
        pod.key.namespace == self.key.namespace && self.pod_selector.selects(&pod.labels)
    }

    /// The rules of one direction, to change them.
    pub fn rules_mut(&mut self, direction: Direction) -> &mut Vec<Rule> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

/// The directions in which a policy isolates the pods it selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isolates {
    /// `policyTypes` has `Ingress`.
    pub ingress: bool,
    /// `policyTypes` has `Egress`.
    pub egress: bool,
}

impl Isolates {
    /// Whether it isolates in `direction`.
    pub fn in_direction(self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// A term of an accepted policy that cannot be enforced and therefore matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforceable {
    /// The field, as `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    /// Why it cannot be enforced.
    pub reason: String,
}

/// One ingress or egress rule: a flow must match a peer and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `from` or `to`.
    pub peers: Peers,
    /// `ports`.
    pub ports: Ports,
}

/// The peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// The field is missing or empty: any peer, inside and outside the cluster.
    Any,
    /// Any one of these; never empty in a decoded policy.
    Of(Vec<Peer>),
}

impl Peers {
    /// The listed peers; none if any peer will do.
    pub fn list(&self) -> &[Peer] {
        match self {
            Self::Any => &[],
            Self::Of(list) => list,
        }
    }
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `podSelector`, `namespaceSelector`, or both.
    Pods {
        /// The namespaces of the pods.
        namespaces: NamespaceScope,
        /// The pods in these namespaces.
        pods: LabelSelector,
    },
    /// `ipBlock`.
    IpBlock(IpBlock),
    /// A term that cannot be enforced; matches nothing.
    Unmatchable,
}

/// The namespaces of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceScope {
    /// No `namespaceSelector`: the policy's own.
    Own,
    /// The namespaces that a `namespaceSelector` selects.
    Matching(LabelSelector),
}

/// `ipBlock`: the IPs of `cidr` except those of any `except`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpBlock {
    /// `cidr`, without host bits.
    pub cidr: IpNet,
    /// `except`, without host bits; outside `cidr` they have no effect.
    pub except: Vec<IpNet>,
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The field is missing or empty: every port of every protocol, and protocols without ports.
    Any,
    /// Any one of these; never empty in a decoded policy.
    Of(Vec<Port>),
}

impl Ports {
    /// The listed ports; none if any port will do.
    pub fn list(&self) -> &[Port] {
        match self {
            Self::Any => &[],
            Self::Of(list) => list,
        }
    }
}

/// One port of a rule: always the destination's, after Service translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A protocol without a port: all its ports.
    All(Protocol),
    /// `port`, or `port` to `endPort`, both included.
    Range {
        /// The protocol.
        protocol: Protocol,
        /// `port`.
        first: u16,
        /// `endPort`, or `port`.
        last: u16,
    },
    /// A named port, resolved on the destination pod by name and protocol.
    Named {
        /// The protocol.
        protocol: Protocol,
        /// The name.
        name: Arc<str>,
    },
    /// A term that cannot be enforced; matches nothing.
    Unmatchable,
}
