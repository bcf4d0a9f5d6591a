//! The parts of every table: base chains, verdict maps, and the chains for packets that no policy judges.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use palisade_policy::input::{Direction, Family, Protocol};

use super::drops::{Reason, drop_chains, drop_counted, drop_link_scope};
use super::parts::{
    ESTABLISHED, NEW, NEW_OR_WITHOUT_FLOW, NOT_ESTABLISHED, RELATED, WITHOUT_FLOW, base, commented, goto, icmpv6_type,
    interface_elements, is_family, is_l4, isolated_any, jump, pod_interfaces, pod_to_itself, pods_on_node, prefix,
    reaches_itself, regular, rule, states, verdict, verdict_map,
};
use super::starting::{starting, starting_chain, to_starting};
use super::{Established, Options};
use crate::cache;
use crate::model::{
    Chain, Expression, Hook, KeyType, L4, Load, PacketType, Rule, Ruleset, Set, SetKind, Test, Verdict,
};
use crate::name::Name;

/// The ruleset of a node without isolated pods.
pub(super) fn skeleton(options: &Options) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for family in Family::ALL {
        ruleset.sets.extend(sets(family));
    }
    if !options.pod_ranges.is_empty() {
        let nobody = |direction| (starting_chain(direction), starting(options, direction, false));
        ruleset.chains.extend(Direction::ALL.map(nobody));
    }
    let text = "interfaces that lead to pods of this node; empty: no pod runs here, or palisade render wrote this";
    let mut interfaces = empty_set(SetKind::Set, KeyType::InterfaceName, text);
    interfaces.elements = interface_elements(&options.pod_interfaces);
    ruleset.sets.insert(pod_interfaces(), interfaces);
    for reason in Reason::ALL {
        ruleset.counters.extend(Family::ALL.map(|family| reason.counter(family)));
    }
    ruleset.chains.extend(drop_chains());
    let chains = [
        ("forward", forward(options)),
        ("input", input(options)),
        ("not-established", not_established()),
        ("first-packet", first_packet()),
        ("icmpv6-basics", icmpv6()),
        ("invalid-untracked", without_flow(options)),
        ("reversed-pickup", reversed_pickup()),
    ];
    ruleset.chains.extend(chains.map(|(name, chain)| (Name::new(name), chain)));
    if options.has_verdict_cache() {
        ruleset.chains.extend(verdict_cache());
    }
    ruleset.chains.extend(link_scope_chains(false));
    ruleset
}

/// The sets and maps of a family that every table has.
fn sets(family: Family) -> Vec<(Name, Set)> {
    let address = KeyType::Address(family);
    let map = |direction: Direction| {
        let text = format!("pods isolated for {direction}: IP to chain; an IP that is not listed is not isolated");
        (verdict_map(direction, family), empty_set(SetKind::VerdictMap, address, &text))
    };
    let mut sets: Vec<_> = Direction::ALL.map(map).into();
    let text = "pods of this node that are isolated in either direction; empty: none is";
    sets.push((isolated_any(family), empty_set(SetKind::Set, address, text)));
    let text = "all pods of this node with their isolation; empty: none has an IP";
    sets.push((pods_on_node(family), empty_set(SetKind::Set, address, text)));
    let text = "all pods of this node; a pod may always reach itself";
    sets.push((pod_to_itself(family), empty_set(SetKind::Set, KeyType::AddressPair(family), text)));
    sets
}

fn empty_set(kind: SetKind, key: KeyType, comment: &str) -> Set {
    Set { kind, key, interval: false, comment: Some(comment.to_owned()), elements: BTreeMap::new() }
}

/// The chains whose rules depend on whether any local pod is isolated.
pub(super) fn link_scope_chains(any_isolated: bool) -> [(Name, Chain); 3] {
    [
        (Name::new("link-scope/forward"), link_scope_forward(any_isolated)),
        (Name::new("link-scope/ipv6"), link_scope_ipv6(any_isolated)),
        (Name::new("link-scope/input"), link_scope_input(any_isolated)),
    ]
}

/// Packets between pods, and between pods and everything beyond the node.
fn forward(options: &Options) -> Chain {
    let mut rules = Vec::new();
    if options.has_verdict_cache() {
        rules.push(commented([jump(cache::ACCEPT)], "was this flow allowed before?"));
    }
    rules.push(commented([states(NOT_ESTABLISHED), jump("not-established")], "first packets, ICMP errors, no flow"));
    rules.extend(keep_established(options));
    rules.extend(Direction::ALL.into_iter().filter_map(|direction| to_starting(options, [], direction)));
    for direction in Direction::ALL {
        for family in Family::ALL {
            let text = match direction {
                Direction::Egress => "is the client isolated for egress?",
                Direction::Ingress => "is the server isolated for ingress?",
            };
            let vmap = Expression::Vmap(Load::subject(direction, family), verdict_map(direction, family));
            rules.push(commented([vmap], text));
        }
    }
    rules.push(commented([jump("link-scope/forward")], "broadcast, multicast, link-local"));
    if options.has_verdict_cache() {
        rules.push(commented([jump(cache::STAMP)], "allowed: remember the flow"));
    }
    let text = "each packet, replies too, by its flow: client's egress, then server's ingress. return: go on here. End of chain: allowed";
    base(Hook::Forward, text, rules)
}

/// The chains of the verdict cache; their rules come and go with each change that denies something.
fn verdict_cache() -> [(Name, Chain); 2] {
    let accept = "flows that the current rules allowed; empty while rules change, and in palisade render";
    let stamp = "allowed flows get a stamp in ct mark; empty while rules change, and in palisade render";
    [(cache::ACCEPT, accept), (cache::STAMP, stamp)].map(|(name, text)| (Name::new(name), regular(text, Vec::new())))
}

/// Packets that are not of a flow with packets in both directions.
fn not_established() -> Chain {
    let rules = vec![
        commented([states(NEW), goto("first-packet")], "the first packet of a flow"),
        to_icmpv6_basics(),
        icmp_errors(),
        commented([states(WITHOUT_FLOW), jump("invalid-untracked")], "no flow: judged by the packet's own IPs"),
    ];
    regular("first packets of flows, ICMP errors, packets without a flow; most return", rules)
}

/// First packets of flows.
fn first_packet() -> Chain {
    let rules = vec![
        to_icmpv6_basics(),
        // A mid-stream segment that would open a flow from a low port to an ephemeral one: conntrack lost the
        // connection, its server sent first, and the new flow would have client and server swapped. Linux assigns
        // client ports from 32768 (net.ipv4.ip_local_port_range).
        commented(
            [
                is_l4(L4::Transport(Protocol::Tcp)),
                Expression::Match(Load::TcpFlags, Test::MidStream),
                Expression::Match(Load::OriginalSourcePort, Test::Range(1, 32767)),
                Expression::Match(Load::OriginalDestinationPort, Test::Range(32768, 65535)),
                jump("reversed-pickup"),
            ],
            "a lost connection, client and server swapped",
        ),
    ];
    regular("first packets of flows; most return", rules)
}

fn to_icmpv6_basics() -> Rule {
    rule([is_l4(L4::Icmpv6), jump("icmpv6-basics")])
}

/// ICMP errors about a flow, such as "fragmentation needed".
fn icmp_errors() -> Rule {
    commented([states(RELATED), is_l4(L4::Icmp), verdict(Verdict::Accept)], "ICMP errors about known flows")
}

/// A flow that has had a reply continues, whatever the policies say now. A flow whose first packet was dropped has no
/// reply.
fn keep_established(options: &Options) -> Option<Rule> {
    let accept = [states(ESTABLISHED), verdict(Verdict::Accept)];
    (options.established == Established::Keep).then(|| commented(accept, "--established keep"))
}

/// Packets from pods to their own node. The node's own packets leave through the output hook, where Palisade has no
/// chain.
fn input(options: &Options) -> Chain {
    let mut rules = vec![to_icmpv6_basics()];
    if !options.allow_egress_to_own_node {
        rules.push(icmp_errors());
        // From pods only: the node may have IPs in the range too, and pods answer its packets.
        let from_pods = Expression::Match(Load::InputInterface, Test::In(pod_interfaces()));
        let egress = Direction::Egress;
        rules.extend(to_starting(options, [from_pods, states(NEW_OR_WITHOUT_FLOW)], egress));
        for family in Family::ALL {
            let vmap = Expression::Vmap(Load::packet_end(egress, family), verdict_map(egress, family));
            let expressions = [states(WITHOUT_FLOW), is_family(family), vmap];
            rules.push(commented(expressions, "no flow: is the sender isolated for egress?"));
        }
        rules.extend(keep_established(options));
        for family in Family::ALL {
            let vmap = Expression::Vmap(Load::subject(egress, family), verdict_map(egress, family));
            rules.push(commented([vmap], "is the client isolated for egress?"));
        }
    }
    let from_pods = Expression::Match(Load::InputInterface, Test::In(pod_interfaces()));
    rules.push(commented([from_pods, jump("link-scope/input")], "link-local, router messages"));
    base(
        Hook::Input,
        "what pods send to their node, by egress only; what the node sends to pods is never judged. End of chain: allowed",
        rules,
    )
}

/// The ICMPv6 messages that IPv6 needs. The hop limit proves that neighbour discovery comes from the same link (RFC
/// 4861 §6.1).
fn icmpv6() -> Chain {
    let accept = || verdict(Verdict::Accept);
    let mut rules = vec![commented([states(RELATED), accept()], "errors about known flows")];
    // Router and neighbour solicitations, neighbour advertisements.
    for kind in [133, 135, 136] {
        let types = Expression::Match(Load::Icmpv6Type, Test::Range(kind, kind));
        let from_link = Expression::Match(Load::HopLimit, Test::Range(255, 255));
        rules.push(rule([is_family(Family::V6), from_link, is_l4(L4::Icmpv6), types, accept()]));
    }
    // Multicast listener queries, reports and ends (MLD).
    for kind in [130, 131, 132, 143] {
        rules.push(rule(icmpv6_type(kind).into_iter().chain([accept()])));
    }
    regular("errors about known flows, neighbour discovery, multicast listeners: always allowed", rules)
}

/// Packets without a flow in conntrack. Flow rules cannot match them, so isolated pods neither send nor receive them.
fn without_flow(options: &Options) -> Chain {
    let mut rules = Vec::new();
    rules.extend(Direction::ALL.into_iter().filter_map(|direction| to_starting(options, [], direction)));
    for direction in Direction::ALL {
        let text = match direction {
            Direction::Egress => "is the sender isolated for egress?",
            Direction::Ingress => "is the receiver isolated for ingress?",
        };
        for family in Family::ALL {
            let vmap = Expression::Vmap(Load::packet_end(direction, family), verdict_map(direction, family));
            rules.push(commented([is_family(family), vmap], text));
        }
    }
    regular("no flow in conntrack: the chain of an isolated pod drops it, but for what --untracked judge allows", rules)
}

fn reversed_pickup() -> Chain {
    let mut rules = Family::ALL.map(reaches_itself).to_vec();
    for family in Family::ALL {
        for (end, text) in [(Load::Client(family), "the real server"), (Load::Server(family), "the real client")] {
            let isolated = Expression::Match(end, Test::In(isolated_any(family)));
            rules.push(drop_counted([isolated], Reason::ReversedPickup, family, &format!("{text} is isolated")));
        }
    }
    regular("TCP that conntrack lost, picked up by a packet of its server: client and server are swapped", rules)
}

/// Forwarded packets to everyone on the link; all of them are bridged from pod to pod. `fib` knows the broadcast IP of
/// each subnet, 255.255.255.255 and the multicast range.
fn link_scope_forward(any_isolated: bool) -> Chain {
    let mut rules = Vec::new();
    let is = |load, kind| Expression::Match(load, Test::PacketType(kind));
    let everyone = [PacketType::Broadcast, PacketType::Multicast];
    if any_isolated {
        rules.extend(everyone.map(|kind| link_scope(&[is(Load::PacketType, kind)])));
    }
    rules.push(rule([is_family(Family::V6), goto("link-scope/ipv6")]));
    if any_isolated {
        let to_one = is(Load::DestinationType, PacketType::Unicast);
        rules.push(commented([to_one, verdict(Verdict::Return)], "nearly every packet: to one receiver"));
        rules.extend(everyone.map(|kind| link_scope(&[is(Load::DestinationType, kind)])));
    }
    regular("while any pod of this node is isolated, drops broadcast and multicast", rules)
}

/// Those of IPv6, in a chain of their own: packets of IPv4 pass by.
fn link_scope_ipv6(any_isolated: bool) -> Chain {
    let mut rules = router_messages();
    if any_isolated {
        let multicast6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
        let ends = [
            (Load::PacketSource(Family::V6), link_local6()),
            (Load::PacketDestination(Family::V6), link_local6()),
            (Load::PacketDestination(Family::V6), multicast6),
        ];
        rules.extend(ends.map(|(load, net)| link_scope(&prefix(load, Family::V6, net))));
    }
    regular("while any pod of this node is isolated, drops link-local and multicast; router messages always", rules)
}

fn link_local6() -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10))
}

/// A rule that drops packets that pass these tests.
fn link_scope(tests: &[Expression]) -> Rule {
    rule(tests.iter().cloned().chain(link_scope_end()))
}

/// Packets from pods to the node whose IPs are in no map.
fn link_scope_input(any_isolated: bool) -> Chain {
    let mut rules = router_messages();
    if any_isolated {
        rules.push(link_scope(&prefix(Load::PacketSource(Family::V6), Family::V6, link_local6())));
    }
    regular("while any pod of this node is isolated, drops link-local to the node; router messages always", rules)
}

/// Router advertisements and redirects: a pod that sends them tries to become the router (CVE-2020-10749).
fn router_messages() -> Vec<Rule> {
    let drop = |kind| commented(icmpv6_type(kind).into_iter().chain(link_scope_end()), "a pod is no router");
    [134, 137].map(drop).to_vec()
}

fn link_scope_end() -> [Expression; 2] {
    [Expression::Counter, verdict(Verdict::Goto(drop_link_scope()))]
}
