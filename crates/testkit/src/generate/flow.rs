//! Flows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{
    ContainerPort, Direction, Family, NamespacedName, Peer, Peers, Policy, Port, Ports, Protocol, Rule, State,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::MAX_NODES;
use super::alphabet::{node_address, numbers_of, pick, protocol};
use super::cluster::node_name;

/// A flow, independent of the pods and policies.
#[derive(Clone, Debug)]
pub(crate) struct FlowSeed {
    from: EndSeed,
    to: EndSeed,
    transport: TransportSeed,
    /// The family of ends that are IPs.
    six: bool,
    /// Whether to request a family, and which.
    asked: Option<bool>,
    /// The rule that it targets: at a pod of its namespace, from or to one of its peers, with one of its ports.
    aim: Option<u16>,
}

#[derive(Clone, Debug)]
enum EndSeed {
    Pod(u16),
    PodAddress(u16),
    /// As a destination: its IP.
    Node(u8),
    NodeAddress(u8),
    /// The first, second, middle, last but one or last IP of a block in use.
    Edge(u16, u8),
    Outside(u16),
    /// As a destination: the same as the client.
    Same,
}

#[derive(Clone, Debug)]
enum TransportSeed {
    /// One in use.
    Used(u16),
    /// The number of one in use, with this protocol.
    Twisted(u16, Protocol),
    Portless,
}

/// IPs that no pod or node has: outside, and at the ends of the address space.
const OUTSIDE: [&str; 10] = [
    "9.9.9.9",
    "10.42.1.250",
    "10.42.2.21",
    "fd42:2::15",
    "255.255.255.254",
    "192.0.2.1",
    "2001:db8::1",
    "fd42:1::fa",
    "2620:fe::9",
    "fd00:30::99",
];

/// This many flows.
pub(crate) fn flows(count: Range<usize>) -> impl Strategy<Value = Vec<FlowSeed>> {
    vec(flow(), count)
}

fn flow() -> impl Strategy<Value = FlowSeed> {
    let transport = prop_oneof![
        8 => any::<u16>().prop_map(TransportSeed::Used),
        2 => (any::<u16>(), protocol()).prop_map(|(number, protocol)| TransportSeed::Twisted(number, protocol)),
        2 => Just(TransportSeed::Portless),
    ];
    let asked = prop_oneof![10 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    let aim = prop_oneof![1 => Just(None), 2 => any::<u16>().prop_map(Some)];
    (end(), end(), transport, prop::bool::weighted(0.3), asked, aim)
        .prop_map(|(from, to, transport, six, asked, aim)| FlowSeed { from, to, transport, six, asked, aim })
}

fn end() -> impl Strategy<Value = EndSeed> {
    prop_oneof![
        12 => any::<u16>().prop_map(EndSeed::Pod),
        4 => any::<u16>().prop_map(EndSeed::PodAddress),
        1 => (1..=MAX_NODES).prop_map(EndSeed::Node),
        1 => (1..=MAX_NODES).prop_map(EndSeed::NodeAddress),
        4 => (any::<u16>(), 0_u8..5).prop_map(|(block, edge)| EndSeed::Edge(block, edge)),
        2 => any::<u16>().prop_map(EndSeed::Outside),
        1 => Just(EndSeed::Same),
    ]
}

/// The possible ends and ports of flows in a cluster.
struct Vocabulary {
    pods: Vec<NamespacedName>,
    addresses: Vec<IpAddr>,
    blocks: Vec<IpNet>,
    transports: Vec<(Protocol, u16)>,
    declared: Vec<ContainerPort>,
    rules: Vec<(Arc<str>, Direction, Rule)>,
}

pub(crate) fn resolve(seeds: &[FlowSeed], state: &State) -> Vec<Flow> {
    let vocabulary = Vocabulary::of(state);
    seeds.iter().map(|seed| vocabulary.flow(seed)).collect()
}

/// On and next to every port that a policy names or a pod declares.
pub fn ports_in_use(state: &State) -> Vec<(Protocol, u16)> {
    Vocabulary::of(state).transports
}

impl Vocabulary {
    fn of(state: &State) -> Self {
        let mut blocks = BTreeSet::new();
        let mut transports = BTreeSet::from([(Protocol::Tcp, 80)]);
        let rules: Vec<_> = state.policies.values().flat_map(rules).collect();
        for (_, _, rule) in &rules {
            if let Peers::Of(peers) = &rule.peers {
                blocks.extend(peers.iter().flat_map(blocks_of));
            }
            if let Ports::Of(ports) = &rule.ports {
                transports.extend(numbers_of(ports));
            }
        }
        let declared: Vec<_> = state.every_pod().flat_map(|pod| pod.ports.iter().cloned()).collect();
        transports.extend(declared.iter().map(|port| (port.protocol, port.port)));
        let addresses: BTreeSet<_> = state.every_pod().flat_map(|pod| pod.addresses.iter()).collect();
        Self {
            pods: state.pods.keys().cloned().collect(),
            addresses: addresses.into_iter().collect(),
            blocks: blocks.into_iter().collect(),
            transports: transports.into_iter().collect(),
            declared,
            rules,
        }
    }

    fn flow(&self, seed: &FlowSeed) -> Flow {
        let plain = self.plain(seed);
        match seed.aim.and_then(|aim| pick(&self.rules, aim).zip(Some(aim))) {
            Some((rule, aim)) => self.aimed(plain, rule, aim),
            None => plain,
        }
    }

    /// The flow, aimed at a rule.
    fn aimed(&self, plain: Flow, (namespace, direction, rule): &(Arc<str>, Direction, Rule), aim: u16) -> Flow {
        // The number that chose the rule chooses the rest, rotated a little each time.
        let [low, high] = aim.to_le_bytes();
        let own: Vec<_> = self.pods.iter().filter(|pod| pod.namespace == *namespace).cloned().collect();
        let (subject, peer) = match direction {
            Direction::Egress => (plain.from, plain.to),
            Direction::Ingress => (plain.to, plain.from),
        };
        let subject = pick(&own, high.into()).cloned().map_or(subject, Endpoint::Pod);
        let peer = match &rule.peers {
            Peers::Of(peers) => match pick(peers, low.into()) {
                Some(Peer::IpBlock(block)) => Endpoint::Address(edge_of(block.cidr, low % 5)),
                Some(Peer::Pods { .. }) => pick(&self.pods, aim.rotate_left(3)).cloned().map_or(peer, Endpoint::Pod),
                Some(Peer::Unmatchable) | None => peer,
            },
            Peers::Any => peer,
        };
        let transport = match &rule.ports {
            Ports::Of(ports) => {
                let numbers: Vec<_> = ports.iter().flat_map(|port| self.numbers(port)).collect();
                let chosen = pick(&numbers, aim.rotate_left(5)).copied();
                chosen.map_or(plain.transport, |(protocol, port)| Transport::Port(protocol, port))
            }
            Ports::Any => plain.transport,
        };
        let (from, to) = match direction {
            Direction::Egress => (subject, peer),
            Direction::Ingress => (peer, subject),
        };
        Flow { from, to, transport, family: plain.family }
    }

    /// On and next to a port, or the ports that pods declare under its name.
    fn numbers(&self, port: &Port) -> Vec<(Protocol, u16)> {
        match port {
            Port::Named { protocol, name } => {
                let meant = self.declared.iter().filter(|port| port.name == *name && port.protocol == *protocol);
                meant.map(|port| (port.protocol, port.port)).collect()
            }
            other => numbers_of(std::slice::from_ref(other)).into_iter().collect(),
        }
    }

    fn plain(&self, seed: &FlowSeed) -> Flow {
        let family = if seed.six { Family::V6 } else { Family::V4 };
        let other = if seed.six { Family::V4 } else { Family::V6 };
        let from = self.end(&seed.from, family, true);
        let to = match seed.to {
            EndSeed::Same if !matches!(from, Endpoint::Node(_)) => from.clone(),
            _ => self.end(&seed.to, family, false),
        };
        let transport = match seed.transport {
            TransportSeed::Used(number) => pick(&self.transports, number).copied(),
            TransportSeed::Twisted(number, protocol) => {
                pick(&self.transports, number).map(|(_, number)| (protocol, *number))
            }
            TransportSeed::Portless => None,
        };
        let transport = transport.map_or(Transport::Portless, |(protocol, port)| Transport::Port(protocol, port));
        Flow { from, to, transport, family: seed.asked.map(|same| if same { family } else { other }) }
    }

    fn end(&self, seed: &EndSeed, family: Family, is_opener: bool) -> Endpoint {
        let of_family = |list: &[IpAddr], number| {
            let list: Vec<_> = list.iter().copied().filter(|address| Family::of(*address) == family).collect();
            pick(&list, number).copied()
        };
        let outside = |number| {
            let list: Vec<_> = OUTSIDE.iter().filter_map(|address| address.parse().ok()).collect();
            of_family(&list, number)
        };
        let found = match seed {
            EndSeed::Pod(number) => pick(&self.pods, *number).cloned().map(Endpoint::Pod),
            EndSeed::PodAddress(number) => of_family(&self.addresses, *number).map(Endpoint::Address),
            EndSeed::Node(node) if is_opener => Some(Endpoint::Node(node_name(*node))),
            EndSeed::Node(node) | EndSeed::NodeAddress(node) => Some(Endpoint::Address(node_address(*node, family))),
            EndSeed::Edge(number, edge) => {
                let blocks = self.blocks.iter().copied();
                let blocks: Vec<_> = blocks.filter(|block| Family::of(block.addr()) == family).collect();
                pick(&blocks, *number).map(|block| Endpoint::Address(edge_of(*block, *edge)))
            }
            EndSeed::Outside(number) => outside(*number).map(Endpoint::Address),
            EndSeed::Same => None,
        };
        found.or_else(|| outside(0).map(Endpoint::Address)).unwrap_or_else(|| Endpoint::Address([9, 9, 9, 9].into()))
    }
}

fn rules(policy: &Policy) -> impl Iterator<Item = (Arc<str>, Direction, Rule)> {
    let directions = Direction::ALL.into_iter().filter(|direction| policy.isolates.in_direction(*direction));
    directions.flat_map(move |direction| {
        policy.rules(direction).iter().map(move |rule| (policy.key.namespace.clone(), direction, rule.clone()))
    })
}

fn blocks_of(peer: &Peer) -> Vec<IpNet> {
    match peer {
        Peer::IpBlock(block) => std::iter::once(block.cidr).chain(block.except.iter().copied()).collect(),
        Peer::Pods { .. } | Peer::Unmatchable => Vec::new(),
    }
}

/// An IP at the edge of a block or right next to it.
fn edge_of(block: IpNet, edge: u8) -> IpAddr {
    let step = |address: IpAddr, up: bool| match (address, up) {
        (IpAddr::V4(address), true) => IpAddr::V4(address.to_bits().saturating_add(1).into()),
        (IpAddr::V4(address), false) => IpAddr::V4(address.to_bits().saturating_sub(1).into()),
        (IpAddr::V6(address), true) => IpAddr::V6(address.to_bits().saturating_add(1).into()),
        (IpAddr::V6(address), false) => IpAddr::V6(address.to_bits().saturating_sub(1).into()),
    };
    match edge {
        0 => step(block.network(), false),
        1 => block.network(),
        2 => block.broadcast(),
        3 => step(block.broadcast(), true),
        _ => step(block.network(), true),
    }
}

/// The line for a flow in a file for `palisade trace --flows`.
pub fn flow_line(flow: &Flow) -> String {
    let mut line = Map::new();
    line.insert("from".to_owned(), Value::from(flow.from.to_string()));
    line.insert("to".to_owned(), Value::from(flow.to.to_string()));
    match flow.transport {
        Transport::Port(protocol, port) => {
            line.insert("protocol".to_owned(), Value::from(protocol.to_string()));
            line.insert("port".to_owned(), json!(port));
        }
        Transport::Portless => {
            line.insert("protocol".to_owned(), Value::from("ICMP"));
        }
    }
    if let Some(family) = flow.family {
        line.insert("family".to_owned(), Value::from(family.to_string()));
    }
    Value::Object(line).to_string()
}
