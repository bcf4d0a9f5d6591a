//! Handwritten cases, by clause of docs/semantics.md. Each expectation follows from the clause, in the short form of
//! [`short`]; a row is client, server, transport, egress, ingress.
//!
//! Seen to fail when the evaluator has one of these faults: `NotIn` needs the key; `Exists` or `DoesNotExist` is always
//! true; a selector takes any requirement instead of all; a prefix is a bit short, in either family; 0.0.0.0/0 contains
//! IPv6; an except is ignored; `Own` means every namespace; an unknown namespace is one without labels; either end of a
//! range is left out; a range, `Port::All` or a named port ignores the protocol, or that of the declared port; a named
//! port is resolved on the client, or on the subject; an unmatchable peer or port matches; ICMP passes `Port::All`;
//! peer or port suffices; `Any` means pods; finished or hostNetwork pods claim IPs, or keep their identity when named;
//! a pod claims its node's IP; a pod without an IP is ignored; a terminating claimant equals a live one; an IP with
//! terminating claimants only belongs to no pod; an IP claimed twice is the first claimant's, as subject or as peer, or
//! isolated only if all are; another namespace's policy isolates; policyTypes are ignored; the node rule holds for
//! egress by default, for every node, for pods, only by name, or only by IP; the user's node IPs are ignored;
//! hostNetwork pods do not reveal their node's IPs; the largest IP of a node counts; a pod's traffic to itself is
//! judged, or recognised by the pod only, or by the IP only; two missing IPs are equal; the family is the server's
//! choice, or the requested one is ignored; the last rule is named; one end decides.

mod addresses;
mod nodes;
mod peers;
mod ports;
mod rule;
mod sources;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Reference, evaluate};
use crate::flow::{Decision, Endpoint, Flow, FlowError, NodeFacts, Reason, Transport, Verdict};
use crate::input::{
    Change, ContainerPort, Family, IpBlock, Isolates, LabelSelector, Labels, Namespace, NamespaceScope, NamespacedName,
    Operator, Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule, State,
};

/// Namespaces `a` (team=red) and `b` (team=blue); node n1 with a/x, a/y, node n2 with b/x, b/y; each pod is labelled
/// app=NAME and declares `web` as TCP 80.
struct Cluster {
    state: State,
    facts: NodeFacts,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self { state: State::default(), facts: NodeFacts::default() };
        for (name, team) in [("a", "red"), ("b", "blue")] {
            cluster.apply(Change::Namespace(Namespace::new(name, labels(&[("team", team)]))));
        }
        for (key, node, last) in [("a/x", "n1", 1), ("a/y", "n1", 2), ("b/x", "n2", 1), ("b/y", "n2", 2)] {
            let number = &node[1..];
            let mut pod = pod(key);
            pod.node = Some(node.into());
            pod.labels = labels(&[("app", &key[2..])]);
            pod.addresses.v4 = Some(format!("10.42.{number}.{last}").parse().unwrap());
            pod.addresses.v6 = Some(format!("fd42:{number}::{last}").parse().unwrap());
            pod.host_addresses = vec![ip(&format!("172.30.0.1{number}"))];
            pod.ports = vec![port("web", Protocol::Tcp, 80)];
            cluster.apply(Change::Pod(pod));
        }
        cluster
    }

    fn apply(&mut self, change: Change) {
        self.state.apply(change);
    }

    fn with(mut self, policy: Policy) -> Self {
        self.apply(Change::Policy(policy));
        self
    }

    /// Changes a pod of the cluster, or a new one.
    fn pod(mut self, key: &str, edit: impl FnOnce(&mut Pod)) -> Self {
        let mut pod = self.state.pod(&name(key)).cloned().unwrap_or_else(|| pod(key));
        edit(&mut pod);
        self.apply(Change::Pod(pod));
        self
    }

    fn check(&self, rows: &[(&str, &str, &str, &str, &str)]) {
        for (from, to, transport, egress, ingress) in rows {
            let judgement = evaluate(&self.state, &self.facts, &flow(from, to, transport)).unwrap();
            let found = (short(&judgement.egress), short(&judgement.ingress));
            assert_eq!(found, ((*egress).to_owned(), (*ingress).to_owned()), "{from} -> {to} {transport}");
            let both = [&judgement.egress, &judgement.ingress].iter().all(|one| one.verdict == Verdict::Allow);
            assert_eq!(judgement.verdict == Verdict::Allow, both, "{from} -> {to} {transport}");
        }
    }

    /// Rows that differ only in the client, to a/x on TCP 80; the expectation is the ingress decision.
    fn check_ingress(&self, rows: &[(&str, &str)]) {
        for (from, expected) in rows {
            let judgement = evaluate(&self.state, &self.facts, &flow(from, "a/x", "tcp/80")).unwrap();
            assert_eq!(short(&judgement.ingress), *expected, "{from} -> a/x");
        }
    }

    fn error(&self, from: &str, to: &str, family: Option<Family>) -> FlowError {
        let flow = Flow { family, ..flow(from, to, "tcp/80") };
        evaluate(&self.state, &self.facts, &flow).unwrap_err()
    }
}

/// `-` not a pod, `open` not isolated, `self`, `own-node`, `to-own-node`, `p[0]` allowed by rule 0 of policy p, `!p,q`
/// no rule of p and q, `!twice x,y` the IP is claimed by x and y, `!starting x` the IP may be that of x.
fn short(decision: &Decision) -> String {
    let list = |keys: &[NamespacedName]| keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>().join(",");
    let (verdict, text) = match &decision.reason {
        Reason::NotAPod => (Verdict::Allow, "-".to_owned()),
        Reason::NotIsolated => (Verdict::Allow, "open".to_owned()),
        Reason::Itself => (Verdict::Allow, "self".to_owned()),
        Reason::OwnNode => (Verdict::Allow, "own-node".to_owned()),
        Reason::ToOwnNode => (Verdict::Allow, "to-own-node".to_owned()),
        Reason::Rule { policy, index, .. } => (Verdict::Allow, format!("{}[{index}]", policy.name)),
        Reason::NoRule { policies } => (Verdict::Deny, format!("!{}", list(policies))),
        Reason::DuplicateIp { pods } => (Verdict::Deny, format!("!twice {}", list(pods))),
        Reason::Starting { pods } => (Verdict::Deny, format!("!starting {}", list(pods))),
    };
    assert_eq!(decision.verdict, verdict, "{text}");
    text
}

fn name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap();
    NamespacedName::new(namespace, name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(key: &str) -> Pod {
    Pod { phase: Phase::Running, ..Pod::new(name(key)) }
}

fn port(name: &str, protocol: Protocol, port: u16) -> ContainerPort {
    ContainerPort { name: name.into(), protocol, port }
}

fn endpoint(text: &str) -> Endpoint {
    if let Some(node) = text.strip_prefix("node/") {
        return Endpoint::Node(node.into());
    }
    text.parse().map_or_else(|_| Endpoint::Pod(name(text)), Endpoint::Address)
}

/// `tcp/80`, or `icmp`.
fn flow(from: &str, to: &str, transport: &str) -> Flow {
    let transport = transport.split_once('/').map_or(Transport::Portless, |(protocol, port)| {
        let protocol = Protocol::ALL.into_iter().find(|one| one.name() == protocol).unwrap();
        Transport::Port(protocol, port.parse().unwrap())
    });
    Flow { from: endpoint(from), to: endpoint(to), transport, family: None }
}

/// A policy without rules that selects every pod of its namespace and isolates in the given directions (`i`, `e`).
fn policy(key: &str, directions: &str) -> Policy {
    Policy {
        key: name(key),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: directions.contains('i'), egress: directions.contains('e') },
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

/// An ingress policy of namespace a with one rule of these peers and any port.
fn from(peers: Vec<Peer>) -> Policy {
    Policy { ingress: vec![Rule { peers: Peers::Of(peers), ports: Ports::Any }], ..policy("a/p", "i") }
}

/// An ingress policy of namespace a with one rule of these ports and any peer.
fn on(ports: Vec<Port>) -> Policy {
    Policy { ingress: vec![Rule { peers: Peers::Any, ports: Ports::Of(ports) }], ..policy("a/p", "i") }
}

fn anything() -> Rule {
    Rule { peers: Peers::Any, ports: Ports::Any }
}

fn own(pods: LabelSelector) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Own, pods }
}

fn anywhere(namespaces: LabelSelector, pods: LabelSelector) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Matching(namespaces), pods }
}

fn all() -> LabelSelector {
    LabelSelector::everything()
}

fn app(value: &str) -> LabelSelector {
    LabelSelector::labels([("app", value)])
}

fn requirement(key: &str, operator: Operator) -> LabelSelector {
    LabelSelector { requirements: BTreeSet::from([Requirement { key: key.to_owned(), operator }]) }
}

fn values(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|except| except.parse().unwrap()).collect();
    Peer::IpBlock(IpBlock { cidr: cidr.parse().unwrap(), except })
}
