//! An IP that pods of two nodes claim, as each node compiles it. (A packet test cannot cover it: the packet's node is
//! unknown.)
//!
//! Seen to fail when such an IP is local only if all its claimants are local.

use std::net::IpAddr;

use palisade_policy::compile::Group;
use palisade_policy::index::Index;
use palisade_policy::input::{
    Addresses, Change, Direction, Isolates, LabelSelector, Labels, Namespace, NamespacedName, Phase, Pod, Policy, State,
};

fn state() -> State {
    let mut state = State::default();
    state.apply(Change::Namespace(Namespace::new("shop", Labels::new())));
    for (name, node) in [("one", "node-1"), ("other", "node-2")] {
        state.apply(Change::Pod(Pod {
            node: Some(node.into()),
            phase: Phase::Running,
            addresses: Addresses::accept([address()]).0,
            labels: [("app".to_owned(), name.to_owned())].into(),
            ..Pod::new(NamespacedName::new("shop", name))
        }));
    }
    // Matches the pod on node-1 only.
    state.apply(Change::Policy(Policy {
        key: NamespacedName::new("shop", "lock"),
        pod_selector: LabelSelector::labels([("app", "one")]),
        isolates: Isolates { ingress: true, egress: false },
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }));
    state
}

fn address() -> IpAddr {
    [10, 42, 1, 10].into()
}

#[test]
fn an_address_claimed_on_two_nodes_is_isolated_on_both() {
    for node in ["node-1", "node-2"] {
        let index = Index::build(node, &state());
        let subject = index.compiled().subjects.get(&address());
        let groups = subject.map(|subject| (subject.egress.clone(), subject.ingress.clone()));
        assert_eq!(groups, Some((None, Some(Group::DuplicateIp(Direction::Ingress)))), "{node}");
    }
    let elsewhere = Index::build("node-3", &state());
    assert!(elsewhere.compiled().subjects.is_empty() && elsewhere.compiled().local.is_empty());
}
