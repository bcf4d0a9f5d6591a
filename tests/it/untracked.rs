//! Packets that a foreign rule exempts from conntrack, as NodeLocal DNSCache does for its own: by default an isolated
//! pod may send none, and with `--untracked judge` those that its egress rules allow by IP and port.
//!
//! Seen to fail when: the option changes nothing; rules for untracked packets omit the port, the ipBlock or, for every
//! IP, the family; they exist without the option.

mod trace;

use std::net::IpAddr;
use std::time::Duration;

use crate::common::driven::Driven;
use crate::common::objects::{block, egress, namespace, pod, pods, policy, port, rule};
use palisade_lab::{Flow, Lab, Layout, Listen, Pod, Protocol as LabProtocol, probe_all};
use palisade_policy::input::{Change, Port, Protocol, Rule, State};
use palisade_ruleset::render::Options;

/// The rules of NodeLocal DNSCache on a node, for one additional port.
const NOTRACK: &str = "table inet dns {
    chain prerouting { type filter hook prerouting priority raw; meta l4proto { tcp, udp } th dport { 53, 153 } notrack; }
    chain output { type filter hook output priority raw; meta l4proto { tcp, udp } th sport { 53, 153 } notrack; }
}";

/// The cache: on the node's bridge, reachable for its pods.
struct Cache {
    addresses: [IpAddr; 2],
}

impl Cache {
    /// Whether each of UDP and TCP, to ports 53, 153 (both untracked) and 253, gets an answer; for each family.
    fn answers(&self, client: &Pod) -> [String; 2] {
        self.addresses.map(|address| {
            let flows = [LabProtocol::Udp, LabProtocol::Tcp]
                .map(|protocol| [53, 153, 253].map(|port| Flow::new(client, protocol, address, port)));
            let outcomes = probe_all(flows.as_flattened(), Duration::from_secs(1)).unwrap();
            let letters = outcomes.iter().map(|outcome| if outcome.is_reachable() { '+' } else { '-' });
            letters.enumerate().fold(String::new(), |line, (at, letter)| {
                if at == 3 { format!("{line} {letter}") } else { format!("{line}{letter}") }
            })
        })
    }
}

/// Runs the node and the client; returns the answers under each of these lists of egress rules.
fn answers(judge_untracked: bool, allowed: &[Vec<Rule>]) -> Vec<[String; 2]> {
    let lab = Lab::builder().node(Layout::Bridge).build().unwrap();
    let client = lab.node(1).add_pod("default/client").unwrap();
    lab.node(1).nft(NOTRACK).unwrap();
    let ports = [53, 153, 253].map(|port| [Listen::udp(port), Listen::tcp(port)]);
    lab.node(1).serve(ports.as_flattened()).unwrap();
    let mut state = State::default();
    state.apply(Change::Namespace(namespace("default", &[])));
    state.apply(Change::Pod(pod("default/client", "node-1", &[("app", "client")], &client.addresses())));
    let options = Options { judge_untracked, ..Options::default() };
    let mut enforcer = Driven::start_with(lab.node(1), &state, &options);
    let (four, six) = lab.node(1).gateway();
    let cache = Cache { addresses: [four.into(), six.into()] };
    assert_eq!(cache.answers(&client), ["+++ +++", "+++ +++"], "not isolated");
    let isolated = allowed.iter().map(|rules| {
        enforcer.apply([Change::Policy(egress(policy("default/client", &[("app", "client")]), rules.clone()))]);
        cache.answers(&client)
    });
    isolated.collect()
}

/// Rules, each with the remaining answers over IPv4 and IPv6, tracked and untracked.
fn cases() -> Vec<(&'static str, Rule, [&'static str; 2])> {
    let udp = |number| port(Protocol::Udp, number);
    let tcp = |number| port(Protocol::Tcp, number);
    vec![
        ("DNS to anybody", rule(vec![], vec![udp(53), tcp(53)]), ["+-- +--", "+-- +--"]),
        ("UDP alone", rule(vec![], vec![udp(53), udp(253)]), ["+-+ ---", "+-+ ---"]),
        (
            "a range",
            rule(vec![], vec![Port::Range { protocol: Protocol::Tcp, first: 100, last: 300 }]),
            ["--- -++", "--- -++"],
        ),
        ("ports of one address", rule(vec![block("10.42.1.1/32")], vec![udp(53), tcp(153)]), ["+-- -+-", "--- ---"]),
        ("a block", rule(vec![block("10.42.0.0/16"), block("fd42:9::/64")], vec![]), ["+++ +++", "--- ---"]),
        ("every IPv6 address", rule(vec![block("::/0")], vec![]), ["--- ---", "+++ +++"]),
        ("another block", rule(vec![block("10.43.0.0/16")], vec![udp(53)]), ["--- ---", "--- ---"]),
        ("pods", rule(vec![pods(&[])], vec![]), ["--- ---", "--- ---"]),
    ]
}

#[test]
fn untracked_packets_are_judged_by_address_and_port() {
    let cases = cases();
    let rules: Vec<_> = cases.iter().map(|(_, rule, _)| vec![rule.clone()]).collect();
    for ((name, _, expected), measured) in cases.iter().zip(answers(true, &rules)) {
        assert_eq!(measured, *expected, "{name}");
    }
}

#[test]
fn untracked_packets_of_isolated_pods_are_dropped_by_default() {
    let udp = |number| port(Protocol::Udp, number);
    let rules = vec![rule(vec![], vec![udp(53), udp(153), udp(253)])];
    // Everything tracked, and nothing else.
    assert_eq!(answers(false, &[rules]), [["--+ ---", "--+ ---"]]);
}
