use std::collections::BTreeSet;
use std::net::IpAddr;

use super::set_aside_somewhere;
use crate::compile::Group;
use crate::index::Index;
use crate::input::{
    Addresses, Budget, Change, ContainerPort, Cost, Direction, Isolates, LabelSelector, Labels, Namespace,
    NamespaceScope, NamespacedName, Operator, Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement,
    Rule,
};

const NODE: &str = "node-1";

/// The maximum number of elements of a namespace in these tests.
const LIMIT: u64 = 400;

fn address(number: u32) -> IpAddr {
    (0x0a2b_0000 + number).to_be_bytes().into()
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("shop", name)
}

/// A pod of another node.
fn pod(number: u32) -> Pod {
    Pod {
        node: Some("node-2".into()),
        phase: Phase::Running,
        addresses: Addresses::accept([address(number)]).0,
        ports: vec![ContainerPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
        ..Pod::new(NamespacedName::new("shop", format!("pod-{number}")))
    }
}

fn gone(number: u32) -> Change {
    Change::PodGone(NamespacedName::new("shop", format!("pod-{number}")))
}

/// Selects every pod.
fn wide(number: u32) -> Peer {
    let requirement = Requirement { key: "k".to_owned(), operator: Operator::NotIn([format!("v{number}")].into()) };
    Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector { requirements: [requirement].into() } }
}

fn rule(peers: impl IntoIterator<Item = Peer>) -> Rule {
    Rule { peers: Peers::Of(peers.into_iter().collect()), ports: Ports::Any }
}

fn policy(name: &str, ingress: Vec<Rule>) -> Policy {
    Policy {
        key: key(name),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress,
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

/// A policy that selects all pods this many times.
fn selecting(name: &str, selectors: std::ops::Range<u32>) -> Change {
    Change::Policy(policy(name, vec![rule(selectors.map(wide))]))
}

/// A local pod, and as many remote ones as `pods` needs.
fn shop(pods: u32) -> Index {
    let mut index = Index::new(NODE).with_budget(Budget { policy: Cost(100_000), elements: LIMIT });
    index.apply(Change::Namespace(Namespace::new("shop", Labels::new())));
    index.apply(Change::Pod(Pod { node: Some(NODE.into()), ..pod(0) }));
    index.apply_all((1..pods).map(|number| Change::Pod(pod(number))));
    index
}

fn members(index: &Index) -> usize {
    index.compiled().peers.values().map(std::collections::BTreeMap::len).sum()
}

fn set_aside(index: &Index) -> BTreeSet<String> {
    let policies = index.state().policies.values().filter(|policy| policy.is_over_budget());
    let names: BTreeSet<_> = policies.map(|policy| policy.key.name.to_string()).collect();
    assert_eq!(index.counts().over_budget, names.len());
    let subject = &index.compiled().subjects[&address(0)];
    assert!(matches!(subject.ingress, Some(Group::Policies { direction: Direction::Ingress, .. })), "stays isolated");
    names
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn newly_set_aside(index: &mut Index) -> Vec<NamespacedName> {
    index.take_set_aside().into_iter().map(|(policy, _)| policy).collect()
}

/// Asserts that the result of events equals one built from the same objects, and is within the budget.
fn assert_kept(index: &Index) {
    let mut scratch = Index::build(NODE, index.state());
    scratch.mark_due(index.due().into_iter().map(|address| (address, index.former(address))));
    assert_eq!(index.compiled(), scratch.compiled());
    assert_eq!(newly_set_aside(&mut scratch), []);
}

#[test]
fn a_policy_that_selects_too_many_pods_returns_when_there_are_fewer() {
    let mut index = shop(80);
    index.apply(selecting("wide", 0..5));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 400));
    index.apply(Change::Pod(pod(80)));
    assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 0));
    assert_eq!(newly_set_aside(&mut index), [key("wide")]);
    assert_kept(&index);
    for number in (61..81).rev() {
        index.apply(gone(number));
        assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 0), "{number} others");
    }
    index.apply(gone(60));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 300), "three quarters are left");
    assert_kept(&index);
}

#[test]
fn it_does_not_flap_with_a_pod() {
    let mut index = shop(80);
    index.apply(selecting("wide", 0..5));
    for _ in 0..50 {
        index.apply(Change::Pod(pod(80)));
        index.apply(gone(80));
    }
    assert_eq!(set_aside(&index), names(["wide"]));
    assert_eq!(newly_set_aside(&mut index), [key("wide")]);
}

#[test]
fn far_too_many_are_not_even_collected() {
    let mut index = shop(1_000);
    index.apply(selecting("wide", 0..2_000));
    assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 0));
    let aside = &index.shares.aside[&key("wide")];
    assert!(aside.share.elements < 10_000, "{:?}, of two millions", aside.share);
    // The same object again, as in a list.
    index.take_dirty();
    index.apply(Change::Policies(vec![aside_written(&index)]));
    assert!(!index.is_dirty());
}

#[test]
fn not_even_if_the_pods_come_after_the_policy() {
    let mut index = shop(2);
    index.apply(selecting("wide", 0..190));
    assert_eq!(set_aside(&index), names([]));
    index.apply_all((2..1_000).map(|number| Change::Pod(pod(number))));
    assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 0));
    let aside = &index.shares.aside[&key("wide")];
    assert!(aside.share.elements < 10_000, "{:?}, of 190,000", aside.share);
}

#[test]
fn many_pods_at_once_are_followed_if_they_fit() {
    let mut index = shop(2);
    index.apply_all([selecting("modest", 0..3), selecting("other", 2..4)]);
    index.take_dirty();
    index.apply_all((2..90).map(|number| Change::Pod(pod(number))));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 360));
    let dirty = index.take_dirty();
    assert!(dirty.peers.len() == 4 && dirty.peers.values().all(|members| members.len() >= 88), "{dirty:?}");
    assert_kept(&index);
}

fn aside_written(index: &Index) -> Policy {
    index.written(&key("wide")).unwrap().clone()
}

#[test]
fn selectors_that_policies_share_count_once() {
    let mut index = shop(80);
    index.apply_all((0..10).map(|number| selecting(&format!("p{number}"), 0..5)));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 400));
    index.apply(Change::Pod(pod(80)));
    assert_eq!(members(&index), 0, "none of them fits");
    assert_kept(&index);
}

#[test]
fn the_largest_of_a_namespace_is_set_aside_first_and_returns_when_there_is_room() {
    let mut index = shop(80);
    index.apply_all([selecting("large", 0..4), selecting("small", 4..6)]);
    assert_eq!((set_aside(&index), members(&index)), (names(["large"]), 160));
    assert_kept(&index);
    index.apply(Change::PolicyGone(key("small")));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 320));
    index.apply(selecting("other", 10..12));
    assert_eq!(set_aside(&index), names(["large"]));
    index.apply(selecting("large", 0..3));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 400), "another one by its name");
    index.apply(selecting("large", 0..9));
    assert_eq!(set_aside(&index), names(["large"]));
    index.apply(Change::PolicyGone(key("large")));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 160));
    assert!(index.shares.aside.is_empty());
    assert_kept(&index);
}

#[test]
fn some_of_many_that_do_not_all_fit_are_in_force() {
    let mut index = shop(50);
    index.apply_all((0..20).map(|number| selecting(&format!("p{number:02}"), 3 * number..3 * number + 3)));
    let aside = set_aside(&index);
    assert!((100..=400).contains(&members(&index)), "{} members, {aside:?}", members(&index));
    assert_kept(&index);
    // The others are tried one by one.
    (0..20).for_each(|_| index.apply(Change::Pod(pod(1))));
    assert_eq!(members(&index), 300);
    let aside = set_aside(&index);
    index.apply_all(aside.iter().map(|name| Change::PolicyGone(key(name))));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 300));
}

#[test]
fn a_policy_set_aside_is_found_without_a_node() {
    let mut index = shop(80);
    index.apply(selecting("modest", 0..4));
    assert_eq!(set_aside_somewhere(index.state()), []);
    index.apply(Change::Policy(policy("modest", Vec::new())));
    let mut state = index.state().clone();
    state.apply(selecting("wide", 0..6));
    let (policies, reasons): (Vec<_>, Vec<_>) = set_aside_somewhere(&state).into_iter().unzip();
    assert_eq!(policies, [key("wide")]);
    assert!(reasons[0].contains("more than 400 elements"), "{reasons:?}");
}

#[test]
fn each_namespace_has_its_own_budget() {
    let mut index = shop(80);
    let other = |name: &str| NamespacedName::new("other", name);
    index.apply(Change::Namespace(Namespace::new("other", Labels::new())));
    let here = Pod { key: other("web"), node: Some(NODE.into()), ..pod(90) };
    let Peer::Pods { pods, .. } = wide(1) else { unreachable!() };
    let all = Peer::Pods { namespaces: NamespaceScope::Matching(LabelSelector::everything()), pods };
    index.apply_all([
        Change::Pod(here),
        Change::Policy(Policy { key: other("modest"), ..policy("modest", vec![rule([all])]) }),
        selecting("wide", 0..50),
    ]);
    assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 81));
}

#[test]
fn labels_of_namespaces_decide_too() {
    let mut index = shop(80);
    let namespace =
        |team: &str| Change::Namespace(Namespace::new("shop", [("team".to_owned(), team.to_owned())].into()));
    let peers = (0..6).map(|number| {
        let Peer::Pods { pods, .. } = wide(number) else { unreachable!() };
        Peer::Pods { namespaces: NamespaceScope::Matching(LabelSelector::labels([("team", "a")])), pods }
    });
    index.apply(Change::Policy(policy("wide", vec![rule(peers)])));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 0));
    index.apply(namespace("a"));
    assert_eq!((set_aside(&index), members(&index)), (names(["wide"]), 0));
    index.apply(namespace("b"));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 0));
    assert_kept(&index);
}

#[test]
fn named_ports_count_with_the_pods_that_declare_them() {
    let mut index = shop(400);
    let http = Ports::Of(vec![Port::Named { protocol: Protocol::Tcp, name: "http".into() }]);
    index.apply(Change::Policy(policy("web", vec![Rule { peers: Peers::Any, ports: http }])));
    assert_eq!(set_aside(&index), names([]));
    index.apply(Change::Pod(pod(400)));
    assert_eq!(set_aside(&index), names(["web"]));
    assert!(index.compiled().named_ports.is_empty());
    assert_kept(&index);
}

#[test]
fn sets_that_unite_selectors_count_too() {
    // Each rule has nine of the ten selectors and its own port, and so a different set.
    let rules = |count: u16| {
        (0..count).map(|number| Rule {
            peers: Peers::Of((0..10).filter(|n| *n != u32::from(number)).map(wide).collect()),
            ports: Ports::Of(vec![Port::Range { protocol: Protocol::Tcp, first: 1 + number, last: 1 + number }]),
        })
    };
    let mut index = shop(30);
    index.apply(Change::Policy(policy("wide", rules(3).collect())));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 300));
    index.apply(Change::Policy(policy("wide", rules(4).collect())));
    assert_eq!(set_aside(&index), names(["wide"]));
}

#[test]
fn a_tombstone_that_returns_is_still_a_tombstone() {
    let mut index = shop(100);
    index.apply(selecting("wide", 0..5));
    let namespace = Namespace { terminating: true, ..Namespace::new("shop", Labels::new()) };
    index.apply_all([Change::Namespace(namespace), Change::PolicyGone(key("wide"))]);
    assert_eq!(set_aside(&index), names(["wide"]));
    index.apply_all((20..100).map(gone));
    assert_eq!((set_aside(&index), members(&index)), (names([]), 100));
    assert!(index.state().tombstones.contains(&key("wide")));
    index.apply_all((0..20).map(gone));
    index.apply(Change::NamespaceGone("shop".into()));
    assert!(index.state().policies.is_empty() && index.shares.aside.is_empty());
}
