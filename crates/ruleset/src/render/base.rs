//! The fixed part of the table: base chains, verdict maps, drops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use palisade_policy::input::{Direction, Family, Protocol};

use super::Options;
use super::starting::{starting, starting_chain, to_starting};
use crate::change::Gates;
use crate::model::{
    Chain, CtStates, Expression, Hook, Key, KeyType, L4, Load, PacketType, Rule, Ruleset, Set, SetKind, Test, Verdict,
};
use crate::name::Name;

/// The maps from an isolated pod's IP to its egress chain.
pub const EGRESS_MAPS: [&str; 2] = ["egress4", "egress6"];

/// The maps from an isolated pod's IP to its ingress chain.
pub const INGRESS_MAPS: [&str; 2] = ["ingress4", "ingress6"];

/// The counter for drops in neither direction: packets that belong to no flow of a pod.
const STRAY: &str = "stray";

/// The map of a direction and family.
pub(super) fn verdict_map(direction: Direction, family: Family) -> Name {
    Name::new(&format!("{direction}{}", family.digit()))
}

/// The IPs of this node's isolated pods.
pub(super) fn isolated_set(family: Family) -> Name {
    Name::new(&format!("isolated{}", family.digit()))
}

/// The IPs of this node's pods.
pub(super) fn local_set(family: Family) -> Name {
    Name::new(&format!("local{}", family.digit()))
}

/// The sets besides those of peers that decide about a pod's packets.
pub fn gates() -> Gates {
    Gates { admit: Family::ALL.map(local_set).into(), bar: Family::ALL.map(isolated_set).into() }
}

/// Each local pod's IP, paired with itself.
pub(super) fn self_set(family: Family) -> Name {
    Name::new(&format!("self{}", family.digit()))
}

/// The interfaces that lead to the node's pods.
pub(super) fn pod_ports() -> Name {
    Name::new("pod-ports")
}

/// The chain that counts and drops; `kind` is a direction or `stray`.
pub(super) fn drop_chain(kind: &str) -> Name {
    Name::new(&format!("drop/{kind}"))
}

/// The named counter of dropped packets; `kind` is `egress`, `ingress` or `stray`.
pub fn dropped_counter(kind: &str, family: Family) -> Name {
    Name::new(&format!("dropped/{kind}/{}", family.digit()))
}

/// The ruleset of a node without isolated pods.
pub(super) fn skeleton(options: &Options) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let set = |kind, key, comment: &str| Set {
        kind,
        key,
        interval: false,
        comment: Some(comment.to_owned()),
        elements: BTreeMap::new(),
    };
    for family in Family::ALL {
        for direction in Direction::ALL {
            let comment = format!("isolated for {direction}: pod address to chain");
            let map = set(SetKind::VerdictMap, KeyType::Address(family), &comment);
            ruleset.sets.insert(verdict_map(direction, family), map);
        }
        let isolated = set(SetKind::Set, KeyType::Address(family), "isolated pods of this node");
        ruleset.sets.insert(isolated_set(family), isolated);
        let own = set(SetKind::Set, KeyType::AddressPair(family), "pods of this node; a pod may reach itself");
        ruleset.sets.insert(self_set(family), own);
        if !options.pod_ranges.is_empty() {
            ruleset.sets.insert(local_set(family), set(SetKind::Set, KeyType::Address(family), "pods of this node"));
        }
    }
    if !options.pod_ranges.is_empty() {
        ruleset.chains.extend(Direction::ALL.map(|direction| (starting_chain(direction), starting(direction, false))));
    }
    let mut ports = set(SetKind::Set, KeyType::InterfaceName, "interfaces that lead to pods of this node");
    ports.elements = port_elements(&options.pod_ports);
    ruleset.sets.insert(pod_ports(), ports);
    for kind in ["egress", "ingress", STRAY] {
        ruleset.counters.extend(Family::ALL.map(|family| dropped_counter(kind, family)));
        ruleset.chains.insert(drop_chain(kind), drop_rules(kind));
    }
    let chains = [
        ("forward", forward(options)),
        ("input", input(options)),
        ("icmpv6-basics", icmpv6()),
        ("no-flow", no_flow(options)),
        ("mid-stream", mid_stream()),
        ("stray/forward", stray_forward(false)),
        ("stray/input", stray_input(false)),
    ];
    ruleset.chains.extend(chains.map(|(name, chain)| (Name::new(name), chain)));
    ruleset
}

/// The elements of the set of pod interfaces.
pub(super) fn port_elements(ports: &BTreeSet<String>) -> BTreeMap<Key, crate::model::Element> {
    ports.iter().map(|port| (Key::InterfaceName(port.clone()), crate::model::Element::default())).collect()
}

/// The chains whose rules depend on whether any local pod is isolated.
pub(super) fn stray_chains(any_isolated: bool) -> [(Name, Chain); 2] {
    [(Name::new("stray/forward"), stray_forward(any_isolated)), (Name::new("stray/input"), stray_input(any_isolated))]
}

pub(super) fn rule(expressions: impl IntoIterator<Item = Expression>) -> Rule {
    Rule { expressions: expressions.into_iter().collect(), comment: None }
}

pub(super) fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

fn jump(chain: &str) -> Expression {
    verdict(Verdict::Jump(Name::new(chain)))
}

fn stray_end() -> [Expression; 2] {
    [Expression::Counter, verdict(Verdict::Goto(drop_chain(STRAY)))]
}

pub(super) fn states(states: CtStates) -> Expression {
    Expression::Match(Load::CtState, Test::States(states))
}

pub(super) fn is_family(family: Family) -> Expression {
    Expression::Match(Load::Nfproto, Test::Family(family))
}

fn is_l4(l4: L4) -> Expression {
    Expression::Match(Load::L4Proto, Test::L4(l4))
}

/// `icmpv6 type`, with the tests that nft puts before it.
fn icmpv6_type(first: u16, last: u16) -> [Expression; 3] {
    [is_family(Family::V6), is_l4(L4::Icmpv6), Expression::Match(Load::Icmpv6Type, Test::Range(first, last))]
}

pub(super) fn prefix(load: Load, family: Family, net: IpNet) -> [Expression; 2] {
    [is_family(family), Expression::Match(load, Test::Prefix(net))]
}

fn base(hook: Hook, comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(hook), comment: Some(comment.to_owned()), rules }
}

pub(super) fn regular(comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { hook: None, comment: Some(comment.to_owned()), rules }
}

/// Between pods, and between pods and everything beyond the node.
fn forward(options: &Options) -> Chain {
    let accept = || verdict(Verdict::Accept);
    let related = CtStates { related: true, ..CtStates::default() };
    let no_flow = CtStates { invalid: true, untracked: true, ..CtStates::default() };
    let new = CtStates { new: true, ..CtStates::default() };
    let mut rules = vec![
        rule([is_l4(L4::Icmpv6), jump("icmpv6-basics")]),
        rule([states(related), is_l4(L4::Icmp), accept()]),
        rule([states(no_flow), jump("no-flow")]),
    ];
    for family in Family::ALL {
        let pair = Expression::Lookup(vec![Load::Opener(family), Load::Server(family)], self_set(family));
        rules.push(rule([pair, accept()]));
    }
    rules.extend(keep_established(options));
    // A mid-stream segment that would open a flow from a low port to an ephemeral one: conntrack lost the connection,
    // its server spoke first, and the flow would have client and server swapped.
    rules.push(rule([
        states(new),
        is_l4(L4::Transport(Protocol::Tcp)),
        Expression::Match(Load::TcpFlags, Test::MidStream),
        Expression::Match(Load::OriginalSourcePort, Test::Range(1, 32767)),
        Expression::Match(Load::OriginalDestinationPort, Test::Range(32768, 65535)),
        jump("mid-stream"),
    ]));
    for direction in Direction::ALL {
        rules.extend(to_starting(options, &[], direction, |family| Load::subject(direction, family)));
    }
    for direction in Direction::ALL {
        for family in Family::ALL {
            rules.push(rule([Expression::Vmap(Load::subject(direction, family), verdict_map(direction, family))]));
        }
    }
    rules.push(rule([jump("stray/forward")]));
    base(Hook::Forward, "judges every packet between pods and beyond by its flow", rules)
}

/// A flow that was once answered continues, whatever the policies say now. A flow whose first packet is dropped is
/// never answered.
fn keep_established(options: &Options) -> Option<Rule> {
    let established = CtStates { established: true, ..CtStates::default() };
    options.keep_established.then(|| rule([states(established), verdict(Verdict::Accept)]))
}

/// From pods to their own node. The node's own packets leave through the output hook, where Palisade has no chain.
fn input(options: &Options) -> Chain {
    let no_flow = CtStates { invalid: true, untracked: true, ..CtStates::default() };
    let mut rules = vec![rule([is_l4(L4::Icmpv6), jump("icmpv6-basics")])];
    if !options.allow_egress_to_own_node {
        let related = CtStates { related: true, ..CtStates::default() };
        rules.push(rule([states(related), is_l4(L4::Icmp), verdict(Verdict::Accept)]));
        // From pods only: the node may have IPs of the range too, and pods answer what it sends.
        let from_pods = Expression::Match(Load::InputInterface, Test::In(pod_ports()));
        let (new, egress) = (CtStates { new: true, ..CtStates::default() }, Direction::Egress);
        let without_flow = [from_pods.clone(), states(no_flow)];
        rules.extend(to_starting(options, &without_flow, egress, |family| Load::packet_end(egress, family)));
        rules.extend(to_starting(options, &[from_pods, states(new)], egress, |family| Load::subject(egress, family)));
        for family in Family::ALL {
            let map = verdict_map(Direction::Egress, family);
            rules.push(rule([
                states(no_flow),
                is_family(family),
                Expression::Vmap(Load::packet_end(Direction::Egress, family), map),
            ]));
        }
        rules.extend(keep_established(options));
        for family in Family::ALL {
            let map = verdict_map(Direction::Egress, family);
            rules.push(rule([Expression::Vmap(Load::subject(Direction::Egress, family), map)]));
        }
    }
    rules.push(rule([Expression::Match(Load::InputInterface, Test::In(pod_ports())), jump("stray/input")]));
    base(Hook::Input, "judges what pods send to their own node", rules)
}

/// What IPv6 cannot work without. The hop limit proves that neighbour discovery comes from the same link (RFC 4861
/// §6.1).
fn icmpv6() -> Chain {
    let related = CtStates { related: true, ..CtStates::default() };
    let from_link = || Expression::Match(Load::HopLimit, Test::Range(255, 255));
    let accept = || verdict(Verdict::Accept);
    let mut rules = vec![rule([states(related), accept()])];
    for (first, last) in [(133, 133), (135, 136)] {
        let types = Expression::Match(Load::Icmpv6Type, Test::Range(first, last));
        rules.push(rule([is_family(Family::V6), from_link(), is_l4(L4::Icmpv6), types, accept()]));
    }
    for (first, last) in [(130, 132), (143, 143)] {
        rules.push(rule(icmpv6_type(first, last).into_iter().chain([accept()])));
    }
    regular("errors of known flows, neighbour discovery, multicast listeners", rules)
}

/// Packets without a flow in conntrack: flow rules cannot match them, so isolated pods neither send nor receive them.
fn no_flow(options: &Options) -> Chain {
    let mut rules = Vec::new();
    for direction in Direction::ALL {
        rules.extend(to_starting(options, &[], direction, |family| Load::packet_end(direction, family)));
    }
    for direction in Direction::ALL {
        for family in Family::ALL {
            let vmap = Expression::Vmap(Load::packet_end(direction, family), verdict_map(direction, family));
            rules.push(rule([is_family(family), vmap]));
        }
    }
    regular("packets without a flow: judged by their own addresses", rules)
}

fn mid_stream() -> Chain {
    let mut rules = Vec::new();
    for family in Family::ALL {
        for end in [Load::Opener(family), Load::Server(family)] {
            let isolated = Expression::Match(end, Test::In(isolated_set(family)));
            rules.push(rule([isolated].into_iter().chain(stray_end())));
        }
    }
    regular("a lost stream picked up from its server's side, where an end is isolated", rules)
}

/// Forwarded packets with addresses in no map; all of them are bridged from pod to pod.
fn stray_forward(any_isolated: bool) -> Chain {
    let mut rules = router_messages();
    if any_isolated {
        let link_local6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));
        let multicast6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
        let multicast4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4));
        let everyone4 = IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST));
        let packet_type = |packet_type| [Expression::Match(Load::PacketType, Test::PacketType(packet_type))];
        let broadcast = [Expression::Match(Load::DestinationType, Test::PacketType(PacketType::Broadcast))];
        let mut drop = |tests: &[Expression]| rules.push(rule(tests.iter().cloned().chain(stray_end())));
        drop(&prefix(Load::PacketSource(Family::V6), Family::V6, link_local6));
        drop(&prefix(Load::PacketDestination(Family::V6), Family::V6, link_local6));
        drop(&prefix(Load::PacketDestination(Family::V6), Family::V6, multicast6));
        drop(&prefix(Load::PacketDestination(Family::V4), Family::V4, multicast4));
        drop(&prefix(Load::PacketDestination(Family::V4), Family::V4, everyone4));
        drop(&packet_type(PacketType::Broadcast));
        drop(&packet_type(PacketType::Multicast));
        drop(&broadcast);
    }
    regular("between pods of one bridge: link-local, broadcast, multicast, router messages", rules)
}

/// Packets from pods to the node with addresses in no map.
fn stray_input(any_isolated: bool) -> Chain {
    let mut rules = router_messages();
    if any_isolated {
        let link_local6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));
        let source = prefix(Load::PacketSource(Family::V6), Family::V6, link_local6);
        rules.push(rule(source.into_iter().chain(stray_end())));
    }
    regular("from pods to their node: link-local, router messages", rules)
}

/// Router advertisements and redirects: from a pod, an attempt to become the router (CVE-2020-10749).
fn router_messages() -> Vec<Rule> {
    [134, 137].map(|kind| rule(icmpv6_type(kind, kind).into_iter().chain(stray_end()))).to_vec()
}

fn drop_rules(kind: &str) -> Chain {
    let count = |family| rule([is_family(family), Expression::CountIn(dropped_counter(kind, family))]);
    let mut rules: Vec<_> = Family::ALL.into_iter().map(count).collect();
    rules.push(rule([verdict(Verdict::Drop)]));
    Chain { hook: None, comment: None, rules }
}
