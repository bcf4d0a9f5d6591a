//! Matches one term of a rule, a peer or a port, against one flow.

use super::membership::{Selection, excepted, is_in_net, selection};
use super::{End, Reference};
use crate::flow::Transport;
use crate::input::{ContainerPort, IpBlock, NamespaceScope, NamespacedName, Peer, Port, Protocol};

/// How far a peer of a rule matched the other end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMatch<'a> {
    /// The peer matches.
    Matches,
    /// Selectors match only pods, and the end is not a pod.
    NotAPod,
    /// Selectors never match a duplicate IP.
    DuplicateIp,
    /// The end is a pod, but not in the policy's namespace.
    OtherNamespace,
    /// The object of the pod's namespace has not been seen.
    NamespaceUnseen,
    /// The `namespaceSelector` does not match the pod's namespace.
    Namespace(Selection<'a>),
    /// The namespace matches, but the `podSelector` does not, or may not.
    Pod(Selection<'a>),
    /// The term is an `ipBlock`, and the end's IP is unknown.
    NoAddress,
    /// The IP is not in the block.
    OutsideBlock,
    /// The IP is in this `except` of the block.
    Excepted(ipnet::IpNet),
    /// The term cannot be enforced.
    Unenforceable,
}

impl PeerMatch<'_> {
    /// Whether the peer counts as matching.
    pub fn is_match(self) -> bool {
        match self {
            Self::Matches => true,
            Self::Pod(selection) => selection.is_match(),
            _ => false,
        }
    }
}

/// How far a port of a rule matched a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMatch {
    /// The port matches.
    Matches,
    /// The flow has no ports, and only a rule without `ports` allows it.
    Portless,
    /// The term is for this protocol, and the flow has another.
    OtherProtocol(Protocol),
    /// The protocol matches and the number does not.
    OtherNumber,
    /// The term is a port name, and the server is not a single known pod.
    NotAPod,
    /// The server does not declare the port name with this protocol.
    Undeclared,
    /// The server declares the port name with this number.
    Declared(u16),
    /// The term cannot be enforced.
    Unenforceable,
}

impl PortMatch {
    /// Whether the port counts as matching.
    pub fn is_match(self) -> bool {
        self == Self::Matches
    }
}

impl Reference<'_> {
    /// How far a peer of a policy matches an end.
    pub(super) fn peer<'p>(&self, peer: &'p Peer, policy: &NamespacedName, end: &End<'_>) -> PeerMatch<'p> {
        match peer {
            // 1.2: selectors match live pods, never other IPs; both selectors in one item must match. Section 4: no
            // selector matches a duplicate IP.
            Peer::Pods { namespaces, pods } => {
                let Some(pod) = end.the_pod() else {
                    return if end.pods.is_empty() { PeerMatch::NotAPod } else { PeerMatch::DuplicateIp };
                };
                match self.namespace(namespaces, policy, &pod.key.namespace) {
                    PeerMatch::Matches => match selection(pods, &pod.labels) {
                        Selection::Yes => PeerMatch::Matches,
                        other => PeerMatch::Pod(other),
                    },
                    missed => missed,
                }
            }
            Peer::IpBlock(block) => in_block(block, end),
            // Section 4: a term that cannot be enforced matches nothing.
            Peer::Unmatchable => PeerMatch::Unenforceable,
        }
    }

    fn namespace<'p>(&self, scope: &'p NamespaceScope, policy: &NamespacedName, namespace: &str) -> PeerMatch<'p> {
        match scope {
            // 1.2: without namespaceSelector, the policy's own namespace. Its object is not needed for that.
            NamespaceScope::Own if *policy.namespace == *namespace => PeerMatch::Matches,
            NamespaceScope::Own => PeerMatch::OtherNamespace,
            // Section 4: no namespaceSelector, not even `{}`, matches a namespace whose object has not been seen.
            NamespaceScope::Matching(selector) => {
                let Some(found) = self.state.namespaces.get(namespace) else { return PeerMatch::NamespaceUnseen };
                let selection = selection(selector, &found.labels);
                if selection.is_match() { PeerMatch::Matches } else { PeerMatch::Namespace(selection) }
            }
        }
    }
}

/// 1.2, 1.3: by IP alone, regardless of the pod that has it. A pod without an IP is in no block.
fn in_block<'p>(block: &IpBlock, end: &End<'_>) -> PeerMatch<'p> {
    let Some(address) = end.address else { return PeerMatch::NoAddress };
    if !is_in_net(&block.cidr, address) {
        return PeerMatch::OutsideBlock;
    }
    excepted(block, address).map_or(PeerMatch::Matches, PeerMatch::Excepted)
}

/// How far a port matches a flow to this server.
pub(super) fn port(port: &Port, server: &End<'_>, transport: Transport) -> PortMatch {
    // Section 4: only a rule without ports allows ICMP echo and other protocols.
    let Transport::Port(protocol, number) = transport else { return PortMatch::Portless };
    let named = match port {
        Port::All(named) | Port::Range { protocol: named, .. } | Port::Named { protocol: named, .. } => *named,
        Port::Unmatchable => return PortMatch::Unenforceable,
    };
    if named != protocol {
        return PortMatch::OtherProtocol(named);
    }
    match port {
        // 1.2: a protocol without port: all its ports, and no other protocol's.
        Port::All(_) => PortMatch::Matches,
        // 1.3: port to endPort, both included.
        Port::Range { first, last, .. } if *first <= number && number <= *last => PortMatch::Matches,
        Port::Range { .. } => PortMatch::OtherNumber,
        // 1.4: resolved on the destination pod in both directions, by name and protocol; every container that declares
        // the name counts. An end that is not a single known pod declares nothing, so the term matches nothing.
        Port::Named { name, .. } => {
            let Some(pod) = server.the_pod() else { return PortMatch::NotAPod };
            let is_named = |declared: &&ContainerPort| declared.name == *name && declared.protocol == protocol;
            let mut numbers = pod.ports.iter().filter(is_named).map(|declared| declared.port);
            match numbers.clone().find(|declared| *declared == number).or_else(|| numbers.next()) {
                Some(declared) if declared == number => PortMatch::Matches,
                Some(declared) => PortMatch::Declared(declared),
                None => PortMatch::Undeclared,
            }
        }
        Port::Unmatchable => PortMatch::Unenforceable,
    }
}
