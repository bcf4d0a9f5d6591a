use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::compile::Group;
use crate::input::{
    Addresses, Budget, Change, ContainerPort, Cost, Direction, IpBlock, LabelSelector, Labels, Namespace,
    NamespaceScope, Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Rule,
};

const NODE: &str = "node-1";

fn address(last: u8) -> IpAddr {
    [10, 42, 1, last].into()
}

fn pod(name: &str, node: &str, last: u8, app: &str) -> Change {
    Change::Pod(Pod {
        node: Some(node.into()),
        phase: Phase::Running,
        addresses: Addresses::accept([address(last)]).0,
        labels: [("app".to_owned(), app.to_owned())].into(),
        ports: vec![ContainerPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }],
        ..Pod::new(NamespacedName::new("shop", name))
    })
}

fn gone(name: &str) -> Change {
    Change::PodGone(NamespacedName::new("shop", name))
}

fn policy(name: &str, app: &str, peers: Vec<Peer>, ports: Ports) -> Policy {
    Policy {
        key: NamespacedName::new("shop", name),
        pod_selector: LabelSelector::labels([("app", app)]),
        isolates: Isolates { ingress: true, egress: false },
        ingress: vec![Rule { peers: Peers::Of(peers), ports }],
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn app(name: &str) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector::labels([("app", name)]) }
}

/// A web server that clients may reach by port name.
fn shop() -> Index {
    let mut index = Index::new(NODE);
    let http = Ports::Of(vec![Port::Named { protocol: Protocol::Tcp, name: "http".into() }]);
    index.apply_all([
        Change::Namespace(Namespace::new("shop", Labels::new())),
        pod("web-0", NODE, 1, "web"),
        pod("client", "node-2", 2, "client"),
        Change::Policy(policy("web", "web", vec![app("client")], http)),
    ]);
    index
}

fn members(index: &Index) -> BTreeSet<IpAddr> {
    index.compiled().peers.values().flat_map(|members| members.keys().copied()).collect()
}

fn named(index: &Index) -> BTreeSet<IpAddr> {
    index.compiled().named_ports.values().flat_map(|ports| ports.keys().map(|(address, _)| *address)).collect()
}

fn ingress(index: &Index, last: u8) -> Option<Group> {
    index.compiled().subjects.get(&address(last)).and_then(|subject| subject.ingress.clone())
}

#[test]
fn a_reused_ip_is_held_until_its_flows_are_deleted() {
    let mut index = shop();
    let open = ingress(&index, 1);
    // A pod of the same name, as in a StatefulSet, in one batch with the end of the previous one.
    index.apply_all([gone("web-0"), pod("web-0", NODE, 1, "web")]);
    assert!(index.is_held(address(1)));
    assert_eq!(ingress(&index, 1), Some(Group::Held(Direction::Ingress)));
    assert_eq!((index.counts().due, index.counts().held), (1, 1));
    assert!(!named(&index).contains(&address(1)), "no named port maps to it");
    assert_eq!(index.due_now(), BTreeSet::from([address(1)]));
    index.take_dirty();
    index.forgotten(&BTreeSet::from([address(1)]));
    assert!(index.is_dirty() && index.due().is_empty());
    assert_eq!(ingress(&index, 1), open);
    assert!(named(&index).contains(&address(1)));
    assert_eq!((index.counts().due, index.counts().held), (0, 0));
}

#[test]
fn the_ip_of_a_remote_peer_is_due_when_a_pod_has_it_again() {
    let mut index = shop();
    assert_eq!(members(&index), BTreeSet::from([address(2)]));
    index.apply(gone("client"));
    assert_eq!(index.due(), BTreeSet::from([address(2)]));
    assert!(index.due_now().is_empty(), "no pod has it, and it was not a local pod's");
    index.apply(pod("other", "node-2", 2, "client"));
    assert_eq!(index.due_now(), BTreeSet::from([address(2)]));
    assert!(members(&index).is_empty(), "a held IP is in no peer set");
    index.forgotten(&index.due());
    assert_eq!(members(&index), BTreeSet::from([address(2)]));
}

#[test]
fn a_local_pods_ip_is_due_at_once_and_until_its_flows_are_deleted() {
    let mut index = shop();
    index.apply(gone("web-0"));
    assert_eq!(index.due_now(), BTreeSet::from([address(1)]));
    index.take_dirty();
    assert_eq!(index.due_now(), BTreeSet::from([address(1)]), "taking the changes loses nothing");
    // The IP is blocked until then, because the pod was isolated.
    assert_eq!(ingress(&index, 1), Some(Group::Held(Direction::Ingress)));
    assert_eq!(index.compiled().former.get(&address(1)).map(|name| &**name), Some("gone: shop/web-0"));
    assert!(!index.compiled().local.contains_key(&address(1)));
    index.forgotten(&BTreeSet::from([address(1)]));
    assert!(index.is_dirty());
    assert_eq!(ingress(&index, 1), None);
    assert!(index.compiled().former.is_empty());
}

#[test]
fn no_pod_has_an_ip_of_the_node_which_keeps_its_flows() {
    let mut index = shop();
    index.refuse_addresses(BTreeSet::from([address(1)]));
    assert_eq!(ingress(&index, 1), None, "the node would be cut off");
    assert!(index.compiled().local.is_empty() && index.due().is_empty());
    index.refuse_addresses(BTreeSet::new());
    assert!(ingress(&index, 1).is_some());
    // The IP left a pod before it became the node's.
    index.apply(gone("web-0"));
    index.refuse_addresses(BTreeSet::from([address(1)]));
    assert_eq!((ingress(&index, 1), index.compiled().former.len()), (None, 0));
    assert_eq!(index.due_now(), BTreeSet::from([address(1)]));
}

#[test]
fn ips_of_a_former_agent_are_held_from_the_start() {
    let mut index = shop();
    index.mark_due([(address(1), None), (address(9), None)]);
    assert_eq!(ingress(&index, 1), Some(Group::Held(Direction::Ingress)));
    assert_eq!(index.due_now(), BTreeSet::from([address(1), address(9)]));
}

#[test]
fn many_unclaimed_ips_are_due_together() {
    let mut index = Index::new(NODE);
    let wide = |number: u32| {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let Change::Pod(pod) = pod(&format!("pod-{number}"), "node-2", 1, "x") else { panic!() };
        Pod { addresses: Addresses::accept([address]).0, ..pod }
    };
    let pods: Vec<_> = (1..5_000).map(wide).collect();
    index.apply(Change::Pods(pods.clone()));
    index.apply(Change::Pods(pods[..2_000].to_vec()));
    assert_eq!((index.due().len(), index.due_now().len()), (2_999, 0));
    index.apply(Change::Pods(Vec::new()));
    assert_eq!(index.due_now().len(), 4_999);
}

#[test]
fn unchanged_objects_change_nothing() {
    let mut index = shop();
    index.take_dirty();
    let state = index.state().clone();
    index.apply_all([
        Change::Pods(state.every_pod().cloned().collect()),
        Change::Namespaces(state.namespaces.values().cloned().collect()),
        Change::Policies(state.policies.values().cloned().collect()),
    ]);
    assert_eq!(index.take_dirty(), Dirty::default());
    assert_eq!(index.state(), &state);
}

#[test]
fn a_policy_over_budget_isolates_and_allows_nothing() {
    let mut index = Index::new(NODE).with_budget(Budget::of(Cost(100)));
    index.apply_all([Change::Namespace(Namespace::new("shop", Labels::new())), pod("web-0", NODE, 1, "web")]);
    let cidrs = (0..=255).map(|third| {
        Peer::IpBlock(IpBlock { cidr: format!("192.168.{third}.0/24").parse().unwrap(), except: Vec::new() })
    });
    let large = policy("web", "web", cidrs.collect(), Ports::Any);
    index.apply(Change::Policy(large.clone()));
    assert_eq!(index.counts().over_budget, 1);
    assert_eq!(index.counts().unenforceable_terms, 1);
    let kept = &index.state().policies[&large.key];
    assert!(kept.is_over_budget() && kept.ingress.is_empty() && kept.isolates == large.isolates);
    assert!(ingress(&index, 1).is_some(), "its pods stay isolated");
    assert!(
        index.compiled().groups.values().all(|allowed| allowed.anything.is_empty() && allowed.protocols.is_empty())
    );
    index.take_dirty();
    index.apply(Change::Policy(large));
    assert!(!index.is_dirty(), "the same object again changes nothing");
    index.apply(Change::PolicyGone(NamespacedName::new("shop", "web")));
    assert_eq!((index.counts().over_budget, index.counts().unenforceable_terms), (0, 0));
}

#[test]
fn long_work_increments_the_pulse() {
    let mut index = shop();
    let before = index.pulse().count();
    let policies = (0..500).map(|number| {
        Change::Policy(policy(&format!("p{number}"), "web", vec![app(&format!("a{number}"))], Ports::Any))
    });
    index.apply_all(policies);
    assert!(index.pulse().count() - before > 1_000, "{}", index.pulse().count() - before);
}

#[test]
fn a_policy_selects_pods_of_this_node_in_its_namespace_only() {
    let mut index = shop();
    let selects = |index: &Index, name: &str| index.selects_local_pod(&NamespacedName::new("shop", name));
    index.apply(Change::Policy(policy("clients", "client", Vec::new(), Ports::Any)));
    assert!(selects(&index, "web"));
    assert!(!selects(&index, "clients"), "the client is on another node");
    assert!(!selects(&index, "missing"));
    let elsewhere = Policy { key: NamespacedName::new("bank", "web"), ..policy("web", "web", Vec::new(), Ports::Any) };
    index.apply(Change::Policy(elsewhere));
    assert!(!index.selects_local_pod(&NamespacedName::new("bank", "web")));
    index.apply(gone("web-0"));
    assert!(!selects(&index, "web"));
}
