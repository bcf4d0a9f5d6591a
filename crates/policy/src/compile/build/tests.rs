use std::collections::BTreeSet;

use super::*;
use crate::input::{IpBlock, Isolates, LabelSelector, Rule};

fn block(number: u32) -> Peer {
    let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number);
    Peer::IpBlock(IpBlock { cidr: ipnet::Ipv4Net::new_assert(address, 32).into(), except: Vec::new() })
}

fn tcp(first: u16, last: u16) -> Port {
    Port::Range { protocol: Protocol::Tcp, first, last }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        key: NamespacedName::new("shop", "p"),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress: rules,
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn rule(peers: Vec<Peer>, ports: Vec<Port>) -> Rule {
    Rule { peers: Peers::Of(peers), ports: Ports::Of(ports) }
}

/// The number of blocks in all unions, each union once.
fn terms(allowed: &Allowed) -> usize {
    let ports = &allowed.protocols[&Protocol::Tcp];
    let unions: BTreeSet<_> =
        ports.ranges.iter().chain(&ports.overlapping).map(|range| Arc::as_ptr(&range.peers)).collect();
    let one = |union: &*const PeerUnion| {
        let ranges = ports.ranges.iter().chain(&ports.overlapping);
        ranges
            .map(|range| &range.peers)
            .find(|peers| Arc::as_ptr(peers) == *union)
            .map_or(0, |peers| peers.blocks.len())
    };
    unions.iter().map(one).sum()
}

#[test]
fn ports_of_a_rule_share_its_peers() {
    let peers: Vec<_> = (0..500).map(block).collect();
    let ports: Vec<_> = (0..500).map(|number| tcp(number * 2 + 1, number * 2 + 1)).collect();
    let allowed = compile(Direction::Ingress, [&policy(vec![rule(peers, ports)])]);
    assert_eq!(allowed.protocols[&Protocol::Tcp].ranges.len(), 500);
    assert_eq!(terms(&allowed), 500);
}

#[test]
fn pieces_of_the_same_rules_share_one_union() {
    let one = rule((0..100).map(block).collect(), (0..50).map(|number| tcp(number * 4, number * 4 + 1)).collect());
    let other = rule((100..200).map(block).collect(), (0..50).map(|number| tcp(number * 4, number * 4 + 1)).collect());
    let allowed = compile(Direction::Ingress, [&policy(vec![one, other])]);
    assert_eq!(allowed.protocols[&Protocol::Tcp].ranges.len(), 50);
    assert_eq!(terms(&allowed), 200);
}

#[test]
fn ranges_that_would_be_split_too_often_stay_whole() {
    let staircase = |count: u16| {
        let rules =
            (0..count).map(|number| rule(vec![block(u32::from(number))], vec![tcp(number + 1, 30_000 + number)]));
        compile(Direction::Ingress, [&policy(rules.collect())])
    };
    let few = staircase(40);
    assert_eq!(few.protocols[&Protocol::Tcp].ranges.len(), 79);
    assert!(few.protocols[&Protocol::Tcp].overlapping.is_empty());
    let many = staircase(3_000);
    assert!(many.protocols[&Protocol::Tcp].ranges.is_empty());
    assert_eq!((many.protocols[&Protocol::Tcp].overlapping.len(), terms(&many)), (3_000, 3_000));
}

#[test]
fn many_policies_of_one_pod_stay_linear_in_their_total_size() {
    let one = |number: u16| Policy {
        key: NamespacedName::new("shop", format!("p{number}")),
        ..policy(vec![rule(vec![block(u32::from(number))], vec![tcp(number + 1, 30_000 + number)])])
    };
    for count in [500, 1_000, 2_000, 4_000] {
        let policies: Vec<_> = (0..count).map(one).collect();
        let allowed = compile(Direction::Ingress, &policies);
        assert!(terms(&allowed) <= 16_384 + 40 * usize::from(count), "{count}: {}", terms(&allowed));
    }
}
