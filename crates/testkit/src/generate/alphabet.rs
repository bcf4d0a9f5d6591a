//! The few labels, selectors, ports and CIDRs in generated objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use palisade_policy::input::{
    ContainerPort, Family, LabelSelector, Labels, METADATA_NAME, Operator, Port, Ports, Protocol, Requirement,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// Names of namespaces; a cluster uses the first few.
pub(crate) const NAMESPACES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Names of ports. No pod declares the last one.
const PORT_NAMES: [&str; 4] = ["web", "dns", "alt", "nope"];
/// Ends of ranges: the ends of the number space, neighbours, and lone ones.
const NUMBERS: [u16; 12] = [1, 2, 79, 80, 81, 82, 443, 1000, 2000, 8080, 65534, 65535];
/// Blocks that do not depend on pods or nodes.
const BLOCKS: [&str; 22] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "10.42.0.0/16",
    "10.42.1.0/24",
    "10.42.2.0/24",
    "10.42.1.0/28",
    "172.30.0.0/24",
    "172.30.0.11/32",
    "192.0.2.0/24",
    "255.255.255.255/32",
    "::/0",
    "::/1",
    "8000::/1",
    "fd42::/16",
    "fd42:1::/64",
    "fd42:2::/64",
    "fd42:1::/124",
    "fd00:30::/64",
    "fd00:30::b/128",
    "2001:db8::/32",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
];

/// An element by any number.
pub(crate) fn pick<T>(list: &[T], number: u16) -> Option<&T> {
    usize::from(number).checked_rem(list.len()).and_then(|index| list.get(index))
}

/// The address of a node in the lab.
pub(crate) fn node_address(node: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => [172, 30, 0, 10 + node].into(),
        Family::V6 => [0xfd00, 0x30, 0, 0, 0, 0, 0, 10 + u16::from(node)].into(),
    }
}

/// The address of the pod with this number on a node.
pub(crate) fn pod_address(node: u8, number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 42, node, 10 + number].into(),
        Family::V6 => [0xfd42, node.into(), 0, 0, 0, 0, 0, 10 + u16::from(number)].into(),
    }
}

/// The range of the pods' IPs on a node.
pub(crate) fn pod_range(node: u8, family: Family) -> IpNet {
    let length = match family {
        Family::V4 => 24,
        Family::V6 => 64,
    };
    IpNet::new_assert(pod_address(node, 0, family), length).trunc()
}

pub(crate) fn pod_labels() -> impl Strategy<Value = Labels> {
    let app = prop_oneof![1 => Just(None), 6 => select(vec!["web", "db", "api"]).prop_map(Some)];
    let tier = prop_oneof![3 => Just(None), 3 => select(vec!["front", "back"]).prop_map(Some), 1 => Just(Some(""))];
    (app, tier).prop_map(|(app, tier)| labels([("app", app), ("tier", tier)]))
}

pub(crate) fn namespace_labels() -> impl Strategy<Value = Labels> {
    let team = prop_oneof![1 => Just(None), 4 => select(vec!["red", "blue"]).prop_map(Some)];
    let env = prop_oneof![2 => Just(None), 1 => Just(Some("prod"))];
    (team, env).prop_map(|(team, env)| labels([("team", team), ("env", env)]))
}

fn labels<const N: usize>(pairs: [(&str, Option<&str>); N]) -> Labels {
    pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
}

pub(crate) fn pod_selector() -> impl Strategy<Value = LabelSelector> {
    let app = requirement("app", &["web", "db", "api", "none"]);
    let tier = requirement("tier", &["front", "back", ""]);
    let other = requirement("other", &["x"]);
    selector(prop_oneof![6 => app, 3 => tier, 1 => other])
}

pub(crate) fn namespace_selector() -> impl Strategy<Value = LabelSelector> {
    let team = requirement("team", &["red", "blue"]);
    let env = requirement("env", &["prod", "test"]);
    let name = requirement(METADATA_NAME, &NAMESPACES);
    selector(prop_oneof![4 => team, 2 => env, 2 => name])
}

fn selector(requirement: impl Strategy<Value = Requirement>) -> impl Strategy<Value = LabelSelector> {
    // Fewest first, since shrinking goes there.
    let several = btree_set(requirement, 0..3);
    prop_oneof![2 => Just(LabelSelector::everything()), 7 => several.prop_map(|requirements| LabelSelector { requirements })]
}

fn requirement(key: &'static str, values: &[&'static str]) -> impl Strategy<Value = Requirement> + use<> {
    let values = btree_set(select(values.to_vec()).prop_map(str::to_owned), 1..3);
    let operator = prop_oneof![
        6 => values.clone().prop_map(Operator::In),
        3 => values.prop_map(Operator::NotIn),
        2 => Just(Operator::Exists),
        2 => Just(Operator::DoesNotExist),
    ];
    operator.prop_map(move |operator| Requirement { key: key.to_owned(), operator })
}

pub(crate) fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![4 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

/// The ports that a pod's containers declare: the same name with another number, with another protocol, twice.
pub(crate) fn container_ports() -> impl Strategy<Value = Vec<ContainerPort>> {
    let declared = vec![
        ("web", Protocol::Tcp, 80),
        ("web", Protocol::Tcp, 8080),
        ("web", Protocol::Tcp, 81),
        ("dns", Protocol::Tcp, 53),
        ("dns", Protocol::Udp, 53),
        ("dns", Protocol::Udp, 5353),
        ("alt", Protocol::Sctp, 80),
        ("alt", Protocol::Tcp, 80),
    ];
    let port = select(declared).prop_map(|(name, protocol, port)| ContainerPort { name: name.into(), protocol, port });
    // In the order of the manifest that they may be printed in.
    btree_set(port, 0..4).prop_map(|ports| ports.into_iter().collect())
}

pub(crate) fn ports() -> impl Strategy<Value = Ports> {
    let few = vec(port(), 1..4).prop_map(Ports::Of);
    prop_oneof![6 => Just(Ports::Any), 15 => few, 2 => many_ports(), 1 => adjacent_ports()]
}

fn port() -> impl Strategy<Value = Port> {
    let range = (protocol(), select(NUMBERS.to_vec()), select(NUMBERS.to_vec()));
    let single = (protocol(), select(NUMBERS.to_vec()));
    let named = (protocol(), select(PORT_NAMES.to_vec()));
    prop_oneof![
        5 => single.prop_map(|(protocol, first)| Port::Range { protocol, first, last: first }),
        4 => range.prop_map(|(protocol, one, other)| {
            Port::Range { protocol, first: one.min(other), last: one.max(other) }
        }),
        2 => protocol().prop_map(Port::All),
        4 => named.prop_map(|(protocol, name)| Port::Named { protocol, name: name.into() }),
        1 => Just(Port::Unmatchable),
    ]
}

/// A range with single ports right before it, at its end and right behind it; one of them of another protocol.
fn adjacent_ports() -> impl Strategy<Value = Ports> {
    (protocol(), protocol(), 79_u16..82, 1_u16..4).prop_map(|(protocol, other, first, count)| {
        let last = first + count;
        let range = |protocol, first, last| Port::Range { protocol, first, last };
        Ports::Of(vec![
            range(protocol, first - 1, first - 1),
            range(protocol, first, last),
            range(other, last, last),
            range(protocol, last + 1, last + 1),
        ])
    })
}

/// More distinct ports than get a rule each.
fn many_ports() -> impl Strategy<Value = Ports> {
    (protocol(), 9_u16..26, 1_u16..9).prop_map(|(protocol, count, step)| {
        let range = |first| Port::Range { protocol, first, last: first };
        Ports::Of((0..count).map(|number| range(3000 + number * step)).collect())
    })
}

/// All fixed blocks.
pub(crate) fn blocks() -> Vec<IpNet> {
    BLOCKS.iter().filter_map(|block| block.parse().ok()).collect()
}

/// The numbers at the edges of these ports, with their protocols.
pub(crate) fn numbers_of(ports: &[Port]) -> BTreeSet<(Protocol, u16)> {
    ports
        .iter()
        .flat_map(|port| match *port {
            Port::Range { protocol, first, last } => {
                vec![
                    (protocol, first.saturating_sub(1).max(1)),
                    (protocol, first),
                    (protocol, last),
                    (protocol, last.saturating_add(1)),
                ]
            }
            Port::All(protocol) => vec![(protocol, 1), (protocol, 65535)],
            Port::Named { .. } | Port::Unmatchable => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_block_is_one() {
        assert_eq!(super::blocks().len(), super::BLOCKS.len());
        assert!(super::blocks().iter().all(|block| block.addr() == block.network()));
    }
}
