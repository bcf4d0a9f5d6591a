//! Flows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::flow::{Endpoint, Flow, Transport};
use palisade_policy::input::{Direction, Family, NamespacedName, Peer, Peers, Policy, Ports, Protocol, Rule, State};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::MAX_NODES;
use super::alphabet::{node_address, numbers_of, pick, protocol};
use super::cluster::node_name;

/// A flow, before it is known which pods and policies there are.
#[derive(Clone, Debug)]
pub(crate) struct FlowSeed {
    from: EndSeed,
    to: EndSeed,
    transport: TransportSeed,
    /// The family of ends that are addresses.
    six: bool,
    /// Whether to ask for a family, and for that one.
    asked: Option<bool>,
}

#[derive(Clone, Debug)]
enum EndSeed {
    Pod(u16),
    PodAddress(u16),
    /// As a destination: its address.
    Node(u8),
    NodeAddress(u8),
    /// First but one, first, last, last but one and the middle of a block in use.
    Edge(u16, u8),
    Outside(u16),
    /// As a destination: the same as the opener.
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

/// Addresses that are nobody's: in the world, and at the ends of everything.
const OUTSIDE: [&str; 8] = [
    "9.9.9.9",
    "10.42.1.250",
    "255.255.255.254",
    "192.0.2.1",
    "2001:db8::1",
    "fd42:1::fa",
    "2620:fe::9",
    "fd00:30::99",
];

/// Up to forty flows.
pub(crate) fn flows() -> impl Strategy<Value = Vec<FlowSeed>> {
    vec(flow(), 1..40)
}

fn flow() -> impl Strategy<Value = FlowSeed> {
    let transport = prop_oneof![
        8 => any::<u16>().prop_map(TransportSeed::Used),
        2 => (any::<u16>(), protocol()).prop_map(|(number, protocol)| TransportSeed::Twisted(number, protocol)),
        2 => Just(TransportSeed::Portless),
    ];
    let asked = prop_oneof![10 => Just(None), 2 => Just(Some(true)), 1 => Just(Some(false))];
    (end(), end(), transport, prop::bool::weighted(0.3), asked).prop_map(|(from, to, transport, six, asked)| FlowSeed {
        from,
        to,
        transport,
        six,
        asked,
    })
}

fn end() -> impl Strategy<Value = EndSeed> {
    prop_oneof![
        12 => any::<u16>().prop_map(EndSeed::Pod),
        4 => any::<u16>().prop_map(EndSeed::PodAddress),
        1 => (1..=MAX_NODES).prop_map(EndSeed::Node),
        1 => (1..=MAX_NODES).prop_map(EndSeed::NodeAddress),
        4 => (any::<u16>(), 0_u8..5).prop_map(|(block, edge)| EndSeed::Edge(block, edge)),
        1 => any::<u16>().prop_map(EndSeed::Outside),
        1 => Just(EndSeed::Same),
    ]
}

/// What flows can be about in a cluster.
struct Vocabulary {
    pods: Vec<NamespacedName>,
    addresses: Vec<IpAddr>,
    blocks: Vec<IpNet>,
    transports: Vec<(Protocol, u16)>,
}

pub(crate) fn resolve(seeds: &[FlowSeed], state: &State) -> Vec<Flow> {
    let vocabulary = Vocabulary::of(state);
    seeds.iter().map(|seed| vocabulary.flow(seed)).collect()
}

impl Vocabulary {
    fn of(state: &State) -> Self {
        let mut blocks = BTreeSet::new();
        let mut transports = BTreeSet::from([(Protocol::Tcp, 80)]);
        for rule in state.policies.values().flat_map(rules) {
            if let Peers::Of(peers) = &rule.peers {
                for peer in peers {
                    if let Peer::IpBlock(block) = peer {
                        blocks.insert(block.cidr);
                        blocks.extend(&block.except);
                    }
                }
            }
            if let Ports::Of(ports) = &rule.ports {
                transports.extend(numbers_of(ports));
            }
        }
        let declared = state.pods.values().flat_map(|pod| &pod.ports);
        transports.extend(declared.map(|port| (port.protocol, port.port)));
        let addresses: BTreeSet<_> = state.pods.values().flat_map(|pod| pod.addresses.iter()).collect();
        Self {
            pods: state.pods.keys().cloned().collect(),
            addresses: addresses.into_iter().collect(),
            blocks: blocks.into_iter().collect(),
            transports: transports.into_iter().collect(),
        }
    }

    fn flow(&self, seed: &FlowSeed) -> Flow {
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
        found.or_else(|| outside(0).map(Endpoint::Address)).unwrap_or(Endpoint::Node(Arc::default()))
    }
}

fn rules(policy: &Policy) -> impl Iterator<Item = &Rule> {
    Direction::ALL.into_iter().flat_map(|direction| policy.rules(direction))
}

/// An address at the edge of a block or just beside it.
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

/// The line that stands for a flow in a file for `palisade trace --flows`.
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
