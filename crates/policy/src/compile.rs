//! The union of a group's policies, as the ruleset needs it: ports first, peers second.

mod build;
mod covers;
mod interval;
mod rule_ref;
mod union;

pub use build::compile;
pub(crate) use build::{Resolved, compile_resolved};
pub use covers::Covers;
pub use interval::{AddressRange, ranges_of_block};
pub use rule_ref::RuleRef;
pub use union::{Allowed, AllowedPorts, Block, PeerUnion, PortRange, Sources};

use std::fmt;
use std::sync::Arc;

use crate::input::{Direction, LabelSelector, Namespace, NamespaceScope, NamespacedName, Pod, Protocol};

/// A group: the local pods that the same policies isolate in one direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Pods of one namespace, isolated by these policies.
    Policies {
        /// The direction of isolation.
        direction: Direction,
        /// The namespace of pods and policies.
        namespace: Arc<str>,
        /// The names of the policies, in order.
        policies: Arc<[Arc<str>]>,
    },
    /// IPs that two live pods have, one of them isolated: nothing is allowed until one of the pods is gone.
    DuplicateIp(Direction),
    /// IPs of isolated pods that other pods had before: nothing is allowed until the flows of the former pods are
    /// deleted.
    Held(Direction),
}

impl Group {
    /// The direction in which its pods are isolated.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Policies { direction, .. } | Self::DuplicateIp(direction) | Self::Held(direction) => *direction,
        }
    }

    /// The policies that form its union.
    pub fn policies(&self) -> Vec<NamespacedName> {
        match self {
            Self::DuplicateIp(_) | Self::Held(_) => Vec::new(),
            Self::Policies { namespace, policies, .. } => {
                policies.iter().map(|name| NamespacedName::new(namespace.clone(), name.clone())).collect()
            }
        }
    }
}

/// The namespaces of a peer, with the policy's own resolved to its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// The namespace of this name.
    Named(Arc<str>),
    /// The namespaces that the selector selects.
    Matching(LabelSelector),
}

/// A peer selector, independent of its policy: the key of shared peer sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerSelector {
    /// The namespaces of the pods.
    pub namespaces: Namespaces,
    /// The pods in them.
    pub pods: LabelSelector,
}

impl PeerSelector {
    /// The selector of a peer of a policy in the namespace `own`.
    pub fn of(namespaces: &NamespaceScope, pods: &LabelSelector, own: &Arc<str>) -> Self {
        let namespaces = match namespaces {
            NamespaceScope::Own => Namespaces::Named(own.clone()),
            NamespaceScope::Matching(selector) => Namespaces::Matching(selector.clone()),
        };
        Self { namespaces, pods: pods.clone() }
    }

    /// Whether it selects `pod`, whose Namespace object is `namespace` if it has been seen.
    pub fn selects(&self, pod: &Pod, namespace: Option<&Namespace>) -> bool {
        let there = match &self.namespaces {
            Namespaces::Named(name) => pod.key.namespace == *name,
            Namespaces::Matching(selector) => namespace.is_some_and(|found| selector.selects(&found.labels)),
        };
        there && self.pods.selects(&pod.labels)
    }
}

impl fmt::Display for PeerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespaces {
            Namespaces::Named(name) => write!(f, "namespace {name}: ")?,
            Namespaces::Matching(selector) if selector.is_everything() => f.write_str("all namespaces: ")?,
            Namespaces::Matching(selector) => write!(f, "namespaces {selector}: ")?,
        }
        if self.pods.is_everything() { f.write_str("all pods") } else { write!(f, "{}", self.pods) }
    }
}

/// A port name with its protocol: the key of shared sets of resolved ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
}
