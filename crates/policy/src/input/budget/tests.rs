use super::*;
use crate::input::{IpBlock, Isolates, LabelSelector, NamespacedName};

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

fn of(peers: Vec<Peer>, ports: Vec<Port>) -> Rule {
    Rule { peers: Peers::Of(peers), ports: Ports::Of(ports) }
}

#[test]
fn a_port_does_not_repeat_the_cost_of_its_peers() {
    let peers: Vec<_> = (0..1_000).map(block).collect();
    let ports: Vec<_> = (0..1_000).map(|number| tcp(number * 2 + 1, number * 2 + 1)).collect();
    assert_eq!(policy(vec![of(peers, ports)]).cost(), Cost(1_000 + 1_000 + 1_000 + PORT_CHAIN));
}

#[test]
fn overlaps_cost_as_much_as_the_cheaper_way_to_write_them() {
    let staircase = |count: u16| {
        let rules = (0..count).map(|number| of(vec![block(number.into())], vec![tcp(number + 1, 30_000 + number)]));
        policy(rules.collect()).cost().0
    };
    assert!(staircase(4_000) <= 2 * staircase(2_000) + 100);
    let span = |rule, first, last| PortSpan { rule, first, last };
    // Three pieces; the middle one belongs to both rules.
    let spans = [span(0, 1, 10), span(1, 5, 20)];
    assert_eq!(split_cost(&spans, |_| 7), 3 * (1 + PORT_CHAIN) + 14);
    // The same rules in two places share one union; a rule that overlaps itself is one rule.
    let spans = [span(0, 1, 10), span(1, 1, 10), span(0, 21, 30), span(1, 21, 30), span(0, 5, 7)];
    assert_eq!(split_cost(&spans, |_| 7), 4 + PORT_CHAIN + 14);
}

#[test]
fn only_directions_in_which_it_isolates_cost() {
    let rules = vec![of((0..100).map(block).collect(), vec![tcp(1, 1)])];
    let inert = Policy { egress: rules.clone(), ..policy(Vec::new()) };
    assert_eq!(inert.cost(), Cost(0));
    let both =
        Policy { egress: rules.clone(), isolates: Isolates { ingress: true, egress: true }, ..policy(rules.clone()) };
    assert_eq!(both.cost().0, 2 * policy(rules).cost().0);
}

#[test]
fn over_budget_only_isolation_is_left() {
    let large = policy(vec![of((0..100).map(block).collect(), vec![tcp(1, 1)])]);
    let budget = |cost| Budget::of(Cost(cost));
    assert_eq!(large.clone().within(&budget(large.cost().0)), large);
    let reduced = large.clone().within(&budget(large.cost().0 - 1));
    assert!(reduced.is_over_budget() && !large.is_over_budget());
    assert!(reduced.ingress.is_empty() && reduced.isolates == large.isolates);
    assert_eq!(reduced.unenforceable.len(), 1);
    let reason = &reduced.unenforceable[0].reason;
    assert!(reason.contains(&large.cost().to_string()), "{reason}");
    assert_eq!(reduced.clone().within(&budget(1)), reduced);
}

#[test]
fn ordinary_policies_are_far_below_the_budget() {
    let selector = |name: &str| Peer::Pods {
        namespaces: NamespaceScope::Matching(LabelSelector::labels([("team", name)])),
        pods: LabelSelector::labels([("app", name)]),
    };
    let rule = |number: u16| {
        let peers = (0..20).map(|peer| selector(&format!("{number}-{peer}"))).chain((0..100).map(block)).collect();
        of(peers, (0..20).map(|port| tcp(port * 100 + number, port * 100 + number)).collect())
    };
    assert!(policy((0..20).map(rule).collect()).cost().0 < Budget::DEFAULT.policy.0 / 4);
}
