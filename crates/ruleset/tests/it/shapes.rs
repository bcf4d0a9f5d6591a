//! The table's size follows a policy's cost, whatever its shape, and the cost follows the size of the object.
//!
//! Seen to fail when: the peers of a rule are stored once for each of its ports; overlapping ranges are always split;
//! each named port creates a set for each of its peers.

use std::time::Instant;

use palisade_policy::index::Index;
use palisade_policy::input::{
    Addresses, Budget, Change, IpBlock, Isolates, LabelSelector, Namespace, NamespaceScope, NamespacedName, Operator,
    Peer, Peers, Phase, Pod, Policy, Port, Ports, Protocol, Requirement, Rule,
};
use palisade_ruleset::change::{Operation, Transaction, diff};
use palisade_ruleset::model::{Chain, Expression, Rule as NftRule, Ruleset, SetKind, Verdict};
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{INGRESS_MAPS, Options, Renderer, render};
use palisade_testkit::difference::of_rulesets;
use palisade_testkit::table::perform;
use proptest::prelude::*;

/// The most objects, rules and elements per unit of cost, in addition to the fixed part.
const PER_UNIT: u64 = 4;

fn block(number: u32, excepts: u32) -> Peer {
    let net = |number: u32, length| ipnet::Ipv4Net::new_assert((0x0b00_0000 + number).into(), length).trunc();
    let except = (0..excepts).map(|except| net((number << 12) + except * 2, 32).into());
    Peer::IpBlock(IpBlock { cidr: net(number << 12, 20).into(), except: except.collect() })
}

fn app(number: u32) -> Peer {
    Peer::Pods { namespaces: NamespaceScope::Own, pods: LabelSelector::labels([("app", number.to_string())]) }
}

fn arb_peers() -> impl Strategy<Value = Vec<Peer>> {
    let distinct = (0..200_u32, 0..60_u32);
    prop_oneof![
        distinct.clone().prop_map(|(first, count)| (first..first + count).map(app).collect()),
        (distinct.clone(), 0..8_u32)
            .prop_map(|((first, count), excepts)| (first..first + count).map(|n| block(n, excepts)).collect()),
        distinct.prop_map(|(first, count)| (first..first + count).flat_map(|n| [app(n), block(n, 0)]).collect()),
    ]
}

fn arb_ports() -> impl Strategy<Value = Ports> {
    let range = |first: u16, last: u16| Port::Range { protocol: Protocol::Tcp, first, last: last.max(first) };
    prop_oneof![
        Just(Ports::Any),
        Just(Ports::Of(vec![Port::All(Protocol::Tcp)])),
        (1..500_u16, 1..200_u16, 1..5_u16).prop_map(move |(first, count, step)| {
            Ports::Of((0..count).map(|n| range(first + n * step, first + n * step)).collect())
        }),
        proptest::collection::vec((1..2000_u16, 1..2000_u16), 1..20)
            .prop_map(move |ranges| Ports::Of(ranges.into_iter().map(|(first, last)| range(first, last)).collect())),
        (0..50_u16, 1..50_u16).prop_map(|(first, count)| {
            let named = |n: u16| Port::Named { protocol: Protocol::Tcp, name: format!("p{n}").into() };
            Ports::Of((first..first + count).map(named).collect())
        }),
    ]
}

fn arb_policy() -> impl Strategy<Value = Policy> {
    let rule = || (arb_peers(), arb_ports()).prop_map(|(peers, ports)| Rule { peers: Peers::Of(peers), ports });
    let rules = || proptest::collection::vec(rule(), 0..40);
    (rules(), rules(), any::<bool>()).prop_map(|(ingress, egress, both)| Policy {
        isolates: Isolates { ingress: true, egress: both },
        ..policy("p", ingress, egress)
    })
}

fn policy(name: &str, ingress: Vec<Rule>, egress: Vec<Rule>) -> Policy {
    Policy {
        key: NamespacedName::new("shop", name),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress,
        egress,
        unenforceable: Vec::new(),
    }
}

fn pod(name: &str, last: u8, app: &str) -> Change {
    let v6: std::net::Ipv6Addr = format!("fd42::{last}").parse().unwrap();
    Change::Pod(Pod {
        node: Some("node-1".into()),
        phase: Phase::Running,
        addresses: Addresses::accept([[10, 42, 1, last].into(), v6.into()]).0,
        labels: [("app".to_owned(), app.to_owned())].into(),
        ..Pod::new(NamespacedName::new("shop", name))
    })
}

fn shop() -> Index {
    let mut index = Index::new("node-1");
    index.apply_all([Change::Namespace(Namespace::new("shop", [].into())), pod("one", 2, "1"), pod("two", 3, "2")]);
    index
}

/// Objects, rules and elements.
fn size(ruleset: &Ruleset) -> u64 {
    let sets = ruleset.sets.values().map(|set| 1 + set.elements.len());
    let chains = ruleset.chains.values().map(|chain| 1 + chain.rules.len());
    sets.chain(chains).sum::<usize>() as u64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn what_is_kept_of_a_policy_follows_its_cost(policy in arb_policy()) {
        let mut index = shop();
        let bare = size(&render(index.compiled(), &Options::default()));
        let cost = policy.cost().0;
        prop_assume!(cost <= Budget::DEFAULT.policy.0);
        index.apply(Change::Policy(policy));
        let kept = size(&render(index.compiled(), &Options::default()));
        // Chains and map elements of two isolated pods are additional.
        prop_assert!(kept <= bare + 32 + PER_UNIT * cost, "{} of {} units", kept - bare, cost);
    }
}

/// A policy of many rules, each with its own set that contains every pod of the namespace.
fn wide_policy(rules: u16) -> Change {
    let wide = |number: u16| {
        let operator = Operator::NotIn([format!("x{number}")].into());
        let requirement = Requirement { key: "app".to_owned(), operator };
        let pods = LabelSelector { requirements: [requirement].into() };
        Peer::Pods { namespaces: NamespaceScope::Own, pods }
    };
    let rule = |number: u16| Rule {
        peers: Peers::Of(vec![wide(number)]),
        ports: Ports::Of(vec![Port::Range { protocol: Protocol::Tcp, first: number + 1, last: number + 1 }]),
    };
    Change::Policy(policy("p", (0..rules).map(rule).collect(), Vec::new()))
}

/// Pods that swap places in every set of a policy are followed event by event, without copies of sets.
#[test]
fn single_pods_are_followed_in_place_in_many_sets() {
    let mut index = shop();
    let mut renderer = Renderer::new(Options::default());
    index.apply(wide_policy(80));
    let dirty = index.take_dirty();
    renderer.follow(index.compiled(), &dirty);
    let gone = Change::PodGone(NamespacedName::new("shop", "one"));
    index.apply_all([gone, pod("three", 4, "3")]);
    let dirty = index.take_dirty();
    let plans = renderer.follow(index.compiled(), &dirty);
    let batches = || plans.iter().flat_map(Transaction::batches);
    let copies = batches().flat_map(|batch| &batch.operations).filter(|one| matches!(one, Operation::AddSet(..)));
    assert_eq!(copies.count(), 0);
    let names: Vec<_> = batches().map(|batch| batch.name).collect();
    assert_eq!(plans.len(), 2, "{names:?}");
}

/// If the order of events is unknown, all are followed at once, and copies are not compared with each other.
#[test]
fn copies_of_many_sets_are_planned_in_a_moment() {
    let mut index = shop();
    let mut renderer = Renderer::new(Options::default());
    index.apply(wide_policy(800));
    let dirty = index.take_dirty();
    let first = renderer.follow(index.compiled(), &dirty);
    assert_eq!(first.len(), 1);
    let gone = Change::PodGone(NamespacedName::new("shop", "one"));
    index.apply_all([gone, pod("three", 4, "3")]);
    index.forget_order();
    let dirty = index.take_dirty();
    let started = Instant::now();
    let plans = renderer.follow(index.compiled(), &dirty);
    let operations: usize = plans.iter().map(Transaction::operations).sum();
    assert!(operations > 800 * 2 * 4, "{operations}: every set is copied");
    // Cubic time would take minutes in a test build.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

/// A quarantine survives a new family and new pod ranges, and ends on request.
#[test]
fn a_quarantine_survives_a_full_rendering() {
    let mut index = shop();
    let (mut renderer, options) = (Renderer::new(Options::default()), Options::default());
    let rule = Rule { peers: Peers::Of((0..20).map(app).collect()), ports: Ports::Any };
    index.apply(Change::Policy(policy("p", vec![rule], Vec::new())));
    let dirty = index.take_dirty();
    renderer.update(index.compiled(), &dirty);
    let object = renderer.ruleset().sets.keys().find(|name| name.as_str().starts_with("pods/")).unwrap().clone();
    let groups = renderer.quarantine(index.compiled(), &object);
    assert_eq!(groups.len(), 1);
    let closed = renderer.ruleset().clone();
    assert!(!closed.sets.contains_key(&object));
    renderer.set_pod_ranges(index.compiled(), ["10.42.1.0/24".parse().unwrap()].into());
    assert!(!renderer.ruleset().sets.contains_key(&object), "late pod ranges do not end it");
    let Change::Pod(one) = pod("one", 2, "1") else { unreachable!() };
    let Change::Pod(two) = pod("two", 3, "2") else { unreachable!() };
    let v4_only = |pod: Pod| Pod { addresses: Addresses { v6: None, ..pod.addresses }, ..pod };
    index.apply_all([Change::Pod(v4_only(one)), Change::Pod(v4_only(two))]);
    index.forgotten(&index.due());
    let dirty = index.take_dirty();
    renderer.update(index.compiled(), &dirty);
    assert_eq!(renderer.quarantined().cloned().collect::<Vec<_>>(), groups, "nor does a family that goes");
    assert_eq!(renderer.counts().quarantined, 1);
    let patch = renderer.end_quarantine(index.compiled(), &groups[0]);
    assert!(patch.sets.keys().any(|name| name.as_str().starts_with("pods/")));
    assert_eq!(renderer.counts().quarantined, 0);
    let options = Options { pod_ranges: ["10.42.1.0/24".parse().unwrap()].into(), ..options };
    assert_eq!(renderer.ruleset(), &render(index.compiled(), &options));
    assert!(renderer.end_quarantine(index.compiled(), &groups[0]).is_empty());
}

/// An agent that was killed during a commit leaves scratch chains and sets, and elements may still point to them.
/// Agents before 0.2.0 called them `transit`. The next agent's first commit deletes either.
#[test]
fn left_overs_of_an_interrupted_commit_are_deleted() {
    let mut index = shop();
    let rule = Rule { peers: Peers::Of(vec![app(2)]), ports: Ports::Any };
    index.apply(Change::Policy(policy("p", vec![rule], Vec::new())));
    let wanted = render(index.compiled(), &Options::default());
    let map = Name::new(INGRESS_MAPS[0]);
    for prefix in ["scratch", "transit"] {
        let (chain, set) = (Name::new(&format!("{prefix}/0")), Name::new(&format!("{prefix}/set/0")));
        let mut table = wanted.clone();
        let jumps: Vec<_> = wanted.sets[&map].elements.values().filter_map(|element| element.verdict.clone()).collect();
        assert!(!jumps.is_empty(), "an isolated pod");
        let rule =
            |verdict: &Verdict| NftRule { expressions: vec![Expression::Verdict(verdict.clone())], comment: None };
        let both = Chain { rules: jumps.iter().map(rule).collect(), ..Chain::default() };
        table.chains.insert(chain.clone(), both);
        let peers = table.sets.iter().find(|(_, set)| set.kind == SetKind::Set && !set.elements.is_empty());
        let copy = peers.unwrap().1.clone();
        table.sets.insert(set.clone(), copy);
        for element in table.sets.get_mut(&map).unwrap().elements.values_mut() {
            element.verdict = Some(Verdict::Jump(chain.clone()));
        }
        let transaction = diff(&table, &wanted).unwrap().plan(&wanted);
        let batches = transaction.batches();
        batches.flat_map(|batch| &batch.operations).for_each(|operation| perform(&mut table, operation));
        assert_eq!(of_rulesets(&table, &wanted), None, "{prefix}");
    }
}
