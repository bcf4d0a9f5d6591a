//! A cluster of a given size, always the same: for benchmarks and for counting operations.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use palisade_policy::input::{
    Addresses, ContainerPort, IpBlock, Isolates, LabelSelector, Namespace, NamespaceScope, NamespacedName, Operator,
    Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule, State,
};

/// The size of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Pods of `node-0`.
    pub local_pods: u32,
    /// All pods.
    pub pods: u32,
    /// All policies.
    pub policies: u32,
    /// Namespaces.
    pub namespaces: u32,
}

/// A full node of a cluster of 5,000 pods and 500 policies.
pub const FULL_NODE: Size = Size { local_pods: 250, pods: 5000, policies: 500, namespaces: 50 };

/// Applications of a namespace; each pod belongs to one.
const APPS: u32 = 10;

/// A cluster of this size, dual stack. Pods of `node-0` come first in the numbering, spread over all namespaces.
pub fn cluster(size: Size) -> State {
    let mut state = State::default();
    for number in 0..size.namespaces {
        let labels = [("team".to_owned(), format!("team-{}", number % 7))].into();
        let namespace = Namespace::new(namespace(number), labels);
        state.namespaces.insert(namespace.name.clone(), namespace);
    }
    for number in 0..size.pods {
        let pod = pod(size, number);
        state.pods.insert(pod.key.clone(), pod.into());
    }
    for number in 0..size.policies {
        let policy = policy(size, number);
        state.policies.insert(policy.key.clone(), policy);
    }
    state
}

fn namespace(number: u32) -> String {
    format!("namespace-{number}")
}

/// The pod of this number.
pub fn pod(size: Size, number: u32) -> Pod {
    let key = NamespacedName::new(namespace(number % size.namespaces), format!("pod-{number}"));
    let node = if number < size.local_pods { 0 } else { 1 + number / 250 };
    let addresses = [
        IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([10, 64, 0, 0]) + number)),
        IpAddr::V6(Ipv6Addr::from_bits((0xfd64_u128 << 112) + u128::from(number) + 1)),
    ];
    let app = (number / size.namespaces) % APPS;
    Pod {
        labels: [("app".to_owned(), format!("app-{app}")), ("tier".to_owned(), format!("tier-{}", app % 3))].into(),
        node: Some(format!("node-{node}").into()),
        phase: Phase::Running,
        addresses: Addresses::accept(addresses).0,
        ports: vec![ContainerPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        ..Pod::new(key)
    }
}

/// The policy of this number.
pub fn policy(size: Size, number: u32) -> Policy {
    let key = NamespacedName::new(namespace(number % size.namespaces), format!("policy-{number}"));
    let app = (number / size.namespaces) % APPS;
    let labels = |key: &str, value: String| LabelSelector::labels([(key, value)]);
    let own = |pods| Peer::Pods { namespaces: NamespaceScope::Own, pods };
    let elsewhere = Peer::Pods {
        namespaces: NamespaceScope::Matching(labels("team", format!("team-{}", number % 7))),
        pods: LabelSelector {
            requirements: BTreeSet::from([Requirement {
                key: "tier".to_owned(),
                operator: Operator::In([format!("tier-{}", number % 3)].into()),
            }]),
        },
    };
    let net = |third, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, third, 0), length));
    let block = Peer::IpBlock(IpBlock { cidr: net(0, 16), except: vec![net(7, 24)] });
    let port = |port| Port::Range { protocol: Protocol::Tcp, first: port, last: port };
    Policy {
        key,
        pod_selector: labels("app", format!("app-{app}")),
        isolates: Isolates { ingress: true, egress: number.is_multiple_of(3) },
        ingress: vec![
            Rule { peers: Peers::Of(vec![own(labels("app", format!("app-{}", (app + 1) % APPS)))]), ports: Ports::Any },
            Rule { peers: Peers::Of(vec![elsewhere, block]), ports: Ports::Of(vec![port(8080), port(9090)]) },
        ],
        egress: vec![
            Rule {
                peers: Peers::Of(vec![own(LabelSelector::everything())]),
                ports: Ports::Of(vec![Port::Named { protocol: Protocol::Tcp, name: "http".into() }]),
            },
            Rule {
                peers: Peers::Any,
                ports: Ports::Of(vec![Port::Range { protocol: Protocol::Udp, first: 53, last: 53 }, port(53)]),
            },
        ],
        unenforceable: Vec::new(),
    }
}
