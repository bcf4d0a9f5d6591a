//! `diff` has exactly the flows whose verdict changes, and none twice.
//!
//! Seen to fail when: ingress from the world was not compared; ranges of the world were joined although one of them
//! changes otherwise; pods of one name were one workload although a block tells them apart.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_analysis::diff::{Change, End, Scope, diff};
use palisade_policy::flow::{Endpoint, NodeFacts, Transport, Verdict};
use palisade_policy::input::{
    Addresses, Family, IpBlock, Isolates, LabelSelector, Namespace, NamespacedName, Peer, Peers, Phase, Pod, Policy,
    Ports, Rule, State,
};
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, arb_case};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// The end that a resolved end of a flow is; none if it is not compared: a pod that no policy can select.
fn is_end(end: &End, found: &palisade_policy::reference::End<'_>, nodes: &BTreeSet<IpAddr>) -> bool {
    match (end, found.the_pod(), found.address) {
        (End::Workload(_, pods), Some(pod), _) => pods.contains(&pod.key),
        (End::Node(address), None, Some(found)) => *address == found,
        (End::World(range), None, Some(found)) => {
            (range.first..=range.last).contains(&found) && !nodes.contains(&found)
        }
        _ => false,
    }
}

fn has(change: &Change, transport: Transport, verdict: Verdict) -> bool {
    let ports = if verdict == Verdict::Allow { &change.opened } else { &change.closed };
    match transport {
        Transport::Port(protocol, port) => ports.contains(protocol, port),
        Transport::Portless => ports.portless,
    }
}

fn compare(case: &Case, other: &Case, changed: &Cell<usize>) -> Result<(), TestCaseError> {
    let Case { state: before, facts, flows } = case;
    // A verb is not told the ranges of nodes, in which any IP may be a starting pod's.
    let facts = &NodeFacts { pod_ranges: [].into(), ..facts.clone() };
    // The same pods under other policies.
    let after = State { policies: other.state.policies.clone(), ..before.clone() };
    let found = diff(before, &after, facts, Scope::All);
    prop_assert!(found.added.is_empty() && found.removed.is_empty());
    let nodes = before.every_pod().flat_map(|pod| pod.host_addresses.iter().copied());
    let of_host = before.every_pod().filter(|pod| pod.host_network).flat_map(|pod| pod.addresses.iter());
    let nodes = nodes.chain(of_host).chain(facts.addresses.values().flatten().copied()).collect();
    let (old, new) = (Reference::new(before, facts), Reference::new(&after, facts));
    for flow in flows {
        let Ok(considered) = old.consider(flow) else { continue };
        let family = considered.ends.family;
        let (one, two) = (considered.judgement().verdict, new.evaluate(flow).unwrap().verdict);
        let (from, to) = (&considered.ends.from, &considered.ends.to);
        // A node by its name is no end of `diff`, and a pod that finished, or without an IP, is not where its name is.
        let is_plain = !matches!(flow.from, Endpoint::Node(_))
            && [from, to].iter().all(|end| end.pods.len() <= 1 && end.address.is_some() && end.node.is_none());
        let same_end = from.address == to.address;
        if !is_plain || same_end {
            continue;
        }
        let is_of = |change: &&Change| {
            change.family.is_none_or(|of| Some(of) == family)
                && is_end(&change.from, from, &nodes)
                && is_end(&change.to, to, &nodes)
        };
        let of_flow: Vec<_> =
            found.changes.iter().filter(is_of).filter(|change| has(change, flow.transport, two)).collect();
        let expected = usize::from(one != two);
        changed.set(changed.get() + expected);
        prop_assert_eq!(of_flow.len(), expected, "{} {} {:?}: {:?}", one, two, flow, of_flow);
    }
    Ok(())
}

#[test]
fn a_difference_has_exactly_the_flows_whose_verdict_changes() {
    let changed = Cell::new(0);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) };
    let cases = (arb_case(), arb_case());
    TestRunner::new(config).run(&cases, |(one, other)| compare(&one, &other, &changed)).unwrap();
    println!("{} flows changed", changed.get());
    assert!(changed.get() > 500, "only {} flows changed", changed.get());
}

/// A family is named only where the other one differs.
#[test]
fn a_flow_is_named_once() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) };
    TestRunner::new(config)
        .run(&(arb_case(), arb_case()), |(one, other)| {
            let after = State { policies: other.state.policies.clone(), ..one.state.clone() };
            let found = diff(&one.state, &after, &one.facts, Scope::All).changes;
            for (number, change) in found.iter().enumerate() {
                prop_assert!(change.opened.and(&change.closed).is_empty());
                let same = |other: &&Change| {
                    let family = |change: &Change| change.family.map_or(vec![Family::V4, Family::V6], |one| vec![one]);
                    let shared = family(change).iter().any(|one| family(other).contains(one));
                    shared && other.from == change.from && other.to == change.to
                };
                prop_assert_eq!(found.iter().skip(number + 1).filter(same).count(), 0);
            }
            Ok(())
        })
        .unwrap();
}

/// A pod of a Deployment.
fn replica(number: u8) -> Pod {
    Pod {
        labels: [("app".to_owned(), "web".to_owned()), ("pod-template-hash".to_owned(), "5d4f".to_owned())].into(),
        phase: Phase::Running,
        addresses: Addresses::accept([IpAddr::from([10, 42, number, 9])]).0,
        ..Pod::new(NamespacedName::new("shop", format!("web-5d4f-{number}")))
    }
}

#[test]
fn pods_of_a_deployment_are_one_end_unless_a_block_tells_them_apart() {
    let mut before = State::default();
    before.namespaces.insert("shop".into(), Namespace::new("shop", [].into()));
    for number in 1..=4 {
        let pod = replica(number);
        before.pods.insert(pod.key.clone(), pod.into());
    }
    let ends = |cidr: &str| {
        let peer = Peer::IpBlock(IpBlock { cidr: cidr.parse().unwrap(), except: Vec::new() });
        let policy = Policy {
            key: NamespacedName::new("shop", "blocks"),
            pod_selector: LabelSelector::everything(),
            isolates: Isolates { ingress: true, egress: false },
            ingress: vec![Rule { peers: Peers::Of(vec![peer]), ports: Ports::Any }],
            egress: Vec::new(),
            unenforceable: Vec::new(),
        };
        let policies = [(policy.key.clone(), policy)].into();
        let after = State { policies, ..before.clone() };
        let found = diff(&before, &after, &NodeFacts::default(), Scope::All).changes;
        let between = found.iter().filter(|change| !matches!(change.from, End::World(..)));
        between.map(|change| format!("{} → {}", change.from, change.to)).collect::<Vec<_>>()
    };
    assert_eq!(ends("192.0.2.0/24"), ["shop/web → shop/web"]);
    // The block has the first pod: the others can no longer reach any, and the first still reaches them.
    let three = "shop/web (pod web-5d4f-2 and 2 more)";
    assert_eq!(ends("10.42.1.0/24"), [format!("{three} → shop/web (pod web-5d4f-1)"), format!("{three} → {three}")]);
}
