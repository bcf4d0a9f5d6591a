//! Policies of a shape, of which only the last admits the client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use palisade_policy::input::{
    Addresses, Family, IpBlock, Isolates, LabelSelector, Namespace, NamespaceScope, NamespacedName, Peer, Peers, Phase,
    Pod, Policy, Port, Ports, Protocol, Rule, State,
};

/// The server's port.
pub(crate) const PORT: u16 = 7_000;

/// What tells the rules of the policies apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A peer each, any port.
    Peers,
    /// A peer and a port each.
    Ports,
    /// A block each.
    Blocks,
    /// A block and a port each.
    BlocksAndPorts,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] = [Self::Peers, Self::Ports, Self::Blocks, Self::BlocksAndPorts];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peers => "peers",
            Self::Ports => "peers-and-ports",
            Self::Blocks => "blocks",
            Self::BlocksAndPorts => "blocks-and-ports",
        })
    }
}

/// The pods of the node that traffic is measured between, each with its IP of the family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
    /// Isolated, and not admitted by the server.
    pub(crate) denied: IpAddr,
    /// Not isolated.
    pub(crate) open: [IpAddr; 2],
}

/// The cluster: `number` policies of the server, and one that lets the isolated client send everything.
pub(crate) fn state(shape: Shape, number: u16, ends: &Ends) -> State {
    let mut state = State::default();
    let namespace = Namespace::new("bench", [].into());
    state.namespaces.insert(namespace.name.clone(), namespace);
    let mut add = |name: &str, node: &str, role: &str, address: IpAddr| {
        let pod = pod(name, node, role, address);
        state.pods.insert(pod.key.clone(), pod.into());
    };
    add("client", "node-1", &role(number), ends.client);
    add("server", "node-1", "server", ends.server);
    add("denied", "node-1", "denied", ends.denied);
    ends.open.iter().zip(["open-a", "open-b"]).for_each(|(address, name)| add(name, "node-1", name, *address));
    for other in 1..number {
        add(&role(other), "node-2", &role(other), elsewhere(other, Family::of(ends.client)).addr());
    }
    let mut policies: Vec<_> = (1..=number).map(|one| of_server(shape, one, one == number, ends)).collect();
    let anything = Rule { peers: Peers::Any, ports: Ports::Any };
    policies.extend(["denied", &role(number)].map(|role| Policy {
        isolates: Isolates { ingress: true, egress: true },
        egress: vec![anything.clone()],
        ..policy(&format!("egress-of-{role}"), role)
    }));
    state.policies = policies.into_iter().map(|policy| (policy.key.clone(), policy)).collect();
    state
}

/// The cluster with one policy of the server, which selects the client and as many pods elsewhere as make this number.
pub(crate) fn with_peers(number: u16, ends: &Ends) -> State {
    let mut state = state(Shape::Peers, 1, ends);
    for other in 1..number {
        let pod =
            pod(&format!("like-client-{other}"), "node-2", &role(1), elsewhere(other, Family::of(ends.client)).addr());
        state.pods.insert(pod.key.clone(), pod.into());
    }
    state
}

fn pod(name: &str, node: &str, role: &str, address: IpAddr) -> Pod {
    Pod {
        labels: [("role".to_owned(), role.to_owned())].into(),
        node: Some(node.into()),
        phase: Phase::Running,
        addresses: Addresses::accept([address]).0,
        ..Pod::new(NamespacedName::new("bench", name))
    }
}

fn of_server(shape: Shape, number: u16, is_last: bool, ends: &Ends) -> Policy {
    let net = if is_last { IpNet::from(ends.client) } else { elsewhere(number, Family::of(ends.client)) };
    let peer = match shape {
        Shape::Peers | Shape::Ports => {
            Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector::labels([("role", role(number))]) }
        }
        Shape::Blocks | Shape::BlocksAndPorts => Peer::IpBlock(IpBlock { cidr: net, except: Vec::new() }),
    };
    let port = if is_last { PORT } else { PORT + number };
    let port = Port::Range { protocol: Protocol::Udp, first: port, last: port };
    let ports = match shape {
        Shape::Peers | Shape::Blocks => Ports::Any,
        Shape::Ports | Shape::BlocksAndPorts => Ports::Of(vec![port]),
    };
    Policy {
        isolates: Isolates { ingress: true, egress: false },
        ingress: vec![Rule { peers: Peers::Of(vec![peer]), ports }],
        ..policy(&format!("server-{number:05}"), "server")
    }
}

fn policy(name: &str, of: &str) -> Policy {
    Policy {
        key: NamespacedName::new("bench", name),
        pod_selector: LabelSelector::labels([("role", of)]),
        isolates: Isolates::default(),
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn role(number: u16) -> String {
    format!("peer-{number:05}")
}

/// An IP outside this node, as a block.
pub(crate) fn elsewhere(number: u16, family: Family) -> IpNet {
    let [high, low] = number.to_be_bytes();
    match family {
        // Every other one, so that neighbours do not merge.
        Family::V4 => IpNet::from(IpAddr::from(Ipv4Addr::new(10, 200 + (high >> 7), high << 1 | low >> 7, low << 1))),
        Family::V6 => IpNet::from(IpAddr::from(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, number, 0))),
    }
}
