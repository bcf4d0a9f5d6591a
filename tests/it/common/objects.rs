//! Short constructors of objects.

#![allow(clippy::expect_used, reason = "in tests, also outside of test functions")]

use std::net::IpAddr;

use palisade_policy::input::{
    Addresses, IpBlock, Isolates, LabelSelector, Labels, Namespace, NamespaceScope, NamespacedName, Peer, Peers, Phase,
    Pod, Policy, Port, Ports, Protocol, Rule,
};

/// Pairs of a label's key and value.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

pub(crate) fn labels(pairs: Pairs<'_>) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// `namespace/name`.
pub(crate) fn key(name: &str) -> NamespacedName {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

/// A running pod, `namespace/name`.
pub(crate) fn pod(name: &str, node: &str, pairs: Pairs<'_>, addresses: &[IpAddr]) -> Pod {
    Pod {
        labels: labels(pairs),
        node: Some(node.into()),
        phase: Phase::Running,
        addresses: Addresses::accept(addresses.iter().copied()).0,
        ..Pod::new(key(name))
    }
}

/// A namespace with these labels.
pub(crate) fn namespace(name: &str, pairs: Pairs<'_>) -> Namespace {
    Namespace::new(name, labels(pairs))
}

/// A policy, `namespace/name`, that selects the pods with these labels and isolates none yet.
pub(crate) fn policy(name: &str, selector: Pairs<'_>) -> Policy {
    Policy {
        key: key(name),
        pod_selector: LabelSelector::labels(selector.iter().copied()),
        isolates: Isolates::default(),
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

/// The policy, isolating for ingress except for these rules.
pub(crate) fn ingress(mut policy: Policy, rules: Vec<Rule>) -> Policy {
    policy.isolates.ingress = true;
    policy.ingress = rules;
    policy
}

/// The policy, isolating for egress except for these rules.
pub(crate) fn egress(mut policy: Policy, rules: Vec<Rule>) -> Policy {
    policy.isolates.egress = true;
    policy.egress = rules;
    policy
}

/// A rule; no peers are any peer, no ports any port.
pub(crate) fn rule(peers: Vec<Peer>, ports: Vec<Port>) -> Rule {
    Rule {
        peers: if peers.is_empty() { Peers::Any } else { Peers::Of(peers) },
        ports: if ports.is_empty() { Ports::Any } else { Ports::Of(ports) },
    }
}

/// Pods of the policy's own namespace with these labels.
pub(crate) fn pods(selector: Pairs<'_>) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector::labels(selector.iter().copied()) }
}

/// Pods of the namespaces with these labels.
pub(crate) fn namespaces(selector: Pairs<'_>) -> Peer {
    let namespaces = NamespaceScope::Matching(LabelSelector::labels(selector.iter().copied()));
    Peer::Pods { namespaces, pods: LabelSelector::everything() }
}

/// An address block.
pub(crate) fn block(cidr: &str) -> Peer {
    Peer::IpBlock(IpBlock { cidr: cidr.parse().expect("a CIDR"), except: Vec::new() })
}

/// One port.
pub(crate) fn port(protocol: Protocol, number: u16) -> Port {
    Port::Range { protocol, first: number, last: number }
}
