//! The checks do not compare everything with everything: twice the objects need little more than twice the comparisons.
//!
//! Seen to fail when: selectors were compared with all pods of the namespace; a rule with all rules of the namespace; the
//! pods that may query DNS were looked up for each policy.

use std::collections::{BTreeMap, BTreeSet};

use palisade_analysis::check::check;
use palisade_analysis::{Input, ObjectFacts};
use palisade_policy::input::{
    Change, Isolates, LabelSelector, Labels, Namespace, NamespaceScope, NamespacedName, ObjectName, Peer, Peers, Pod,
    Policy, Port, Ports, Protocol, Rule, State,
};

/// The shape of a generated cluster.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One namespace; each policy selects its own pod and has its own peer.
    OwnPods,
    /// One namespace; each policy selects every pod and has its own peer.
    AllPods,
    /// One namespace; each policy selects every pod and allows the same peer on its own port.
    OwnPorts,
    /// One namespace; each policy selects no pod.
    NoPods,
    /// One namespace; each policy allows egress to its own block, and no DNS.
    Blocks,
    /// A namespace for each fifty objects; each policy allows another namespace.
    Namespaces,
}

fn rule(peer: Peer, number: usize) -> Rule {
    let port = u16::try_from(1 + number % 60_000).unwrap_or(1);
    let port = Port::Range { protocol: Protocol::Tcp, first: port, last: port };
    Rule { peers: Peers::Of(vec![peer]), ports: Ports::Of(vec![port]) }
}

fn objects(shape: Shape, count: usize) -> State {
    let mut state = State::default();
    let namespace = |number: usize| match shape {
        Shape::Namespaces => format!("n{}", number / 50),
        _ => "n".to_owned(),
    };
    for number in 0..count {
        let name = namespace(number);
        state.apply(Change::Namespace(Namespace::new(name.as_str(), Labels::new())));
        let mut pod = Pod::new(NamespacedName::new(name.as_str(), format!("pod{number}")));
        pod.labels.insert("app".to_owned(), format!("app{number}"));
        pod.labels.insert("tier".to_owned(), "front".to_owned());
        state.apply(Change::Pod(pod));
        let app = |number: usize| LabelSelector::labels([("app", format!("app{number}"))]);
        let pods = |selector| Peer::Pods { namespaces: NamespaceScope::Own, pods: selector };
        let block = |number: usize| {
            let cidr = format!("10.{}.{}.0/24", number / 256, number % 256);
            Peer::IpBlock(palisade_policy::input::IpBlock {
                cidr: cidr.parse().unwrap_or_default(),
                except: Vec::new(),
            })
        };
        let named = |number: usize| LabelSelector::labels([("kubernetes.io/metadata.name", format!("n{number}"))]);
        let (pod_selector, peer) = match shape {
            Shape::OwnPods => (app(number), pods(app(number + 1))),
            Shape::AllPods => (LabelSelector::everything(), pods(app(number))),
            Shape::OwnPorts => (LabelSelector::everything(), pods(LabelSelector::labels([("tier", "front")]))),
            Shape::NoPods => (app(number + count), pods(app(number + count))),
            Shape::Blocks => (LabelSelector::everything(), block(number)),
            Shape::Namespaces => {
                let namespaces = NamespaceScope::Matching(named(number / 50 + 1));
                (app(number), Peer::Pods { namespaces, pods: LabelSelector::everything() })
            }
        };
        let rules = vec![rule(peer, number)];
        let egress = matches!(shape, Shape::Blocks | Shape::Namespaces);
        let (ingress, egress_rules) = if egress { (Vec::new(), rules) } else { (rules, Vec::new()) };
        state.apply(Change::Policy(Policy {
            key: NamespacedName::new(name.as_str(), format!("policy{number}")),
            pod_selector,
            isolates: Isolates { ingress: !egress, egress },
            ingress,
            egress: egress_rules,
            unenforceable: Vec::new(),
        }));
    }
    state
}

fn work(shape: Shape, count: usize) -> u64 {
    let state = objects(shape, count);
    let policies = state.policies.keys().map(ObjectName::policy);
    let pods = state.pods.keys().map(ObjectName::pod);
    let names: Vec<_> = policies.chain(pods).chain(state.namespaces.keys().map(ObjectName::namespace)).collect();
    let written: BTreeMap<_, _> = names.iter().map(|name| (name, ObjectFacts { sound: true, ports: &[] })).collect();
    check(&Input { state: &state, written, whole: true, custom: &BTreeSet::new() }).work
}

#[test]
fn twice_the_objects_take_little_more_than_twice_the_work() {
    for shape in [Shape::OwnPods, Shape::AllPods, Shape::NoPods, Shape::Blocks, Shape::Namespaces] {
        let (one, two) = (work(shape, 400), work(shape, 800));
        assert!(one >= 400 && two <= one * 5 / 2, "{shape:?}: {one} comparisons, then {two}");
    }
}

/// Rules with one peer and different ports must be compared with each other, and only those.
#[test]
fn rules_with_one_peer_are_compared_with_each_other_only() {
    let two = work(Shape::OwnPorts, 800);
    assert!(two <= 800 * 800 + 50 * 800, "{two} comparisons");
}
