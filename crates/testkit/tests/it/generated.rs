//! Generated cases are useful: verdicts of every kind and every corner case occur, and cases print as manifests that
//! are read back as the same cluster.
//!
//! Seen to fail when: pods never share an IP; every rule is `Any`; no policy isolates for egress; no flow is aimed at a
//! rule; blocks have no excepts; no policy outlives its source; the events have no lists; manifests omit `endPort`, an
//! except, a value of `NotIn`, a namespaceSelector next to a podSelector, or a pod's second IP; a failing case does not
//! print its flows.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::flow::{Decision, FlowError, NodeFacts, Reason};
use palisade_policy::input::{Change, Direction, Operator, Peer, Peers, Port, Ports, Rule, State};
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, arb_case, arb_history, flow_line, manifests};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const SAMPLES: usize = 500;

fn samples<T>(strategy: &impl Strategy<Value = T>) -> impl Iterator<Item = T> {
    let mut runner = TestRunner::deterministic();
    (0..SAMPLES).filter_map(move |_| strategy.new_tree(&mut runner).ok()).map(|tree| tree.current())
}

#[derive(Debug, Default)]
struct Counts(BTreeMap<String, usize>);

impl Counts {
    fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn note_if(&mut self, what: &str, holds: bool) {
        if holds {
            self.note(what);
        }
    }

    fn of(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn expect(&self, least: usize, all: &[&str]) {
        for what in all {
            assert!(self.of(what) >= least, "{what}: {} times, expected {least}: {self:#?}", self.of(what));
        }
    }
}

fn kind(direction: Direction, decision: &Decision) -> String {
    let reason = match decision.reason {
        Reason::NotAPod => "not a pod",
        Reason::NotIsolated => "not isolated",
        Reason::Itself => "itself",
        Reason::OwnNode => "own node",
        Reason::ToOwnNode => "to own node",
        Reason::Rule { .. } => "rule",
        Reason::NoRule { .. } => "no rule",
        Reason::DuplicateIp { .. } => "claimed twice",
        Reason::Starting { .. } => "starting",
    };
    format!("{direction}: {reason}")
}

#[test]
fn verdicts_of_every_kind_occur() {
    let mut counts = Counts::default();
    for case in samples(&arb_case()) {
        let reference = Reference::new(&case.state, &case.facts);
        for flow in &case.flows {
            counts.note("flow");
            match reference.evaluate(flow) {
                Ok(judgement) => {
                    counts.note(judgement.verdict.to_string());
                    counts.note(kind(Direction::Egress, &judgement.egress));
                    counts.note(kind(Direction::Ingress, &judgement.ingress));
                }
                Err(FlowError::NoSharedFamily { .. } | FlowError::FamilyMissing { .. }) => counts.note("no family"),
                Err(error) => panic!("{}: {error}\n{case:?}", flow_line(flow)),
            }
        }
    }
    let flows = counts.of("flow");
    counts.expect(flows / 5, &["allow", "deny"]);
    counts.expect(flows / 20, &["egress: not isolated", "ingress: not isolated", "egress: not a pod"]);
    counts.expect(flows / 25, &["egress: rule", "ingress: rule", "egress: no rule", "ingress: no rule"]);
    counts.expect(flows / 100, &["egress: itself", "ingress: itself"]);
    counts.expect(20, &["ingress: own node", "ingress: claimed twice", "egress: claimed twice"]);
    counts.expect(20, &["egress: starting", "ingress: starting"]);
    counts.expect(3, &["egress: to own node"]);
    assert!(counts.of("no family") * 6 < flows, "{counts:#?}");
}

fn note_rule(rule: &Rule, counts: &mut Counts) {
    match &rule.peers {
        Peers::Any => counts.note("any peer"),
        Peers::Of(peers) => {
            counts.note_if("many peers", peers.len() > 8);
            for peer in peers {
                note_peer(peer, counts);
            }
        }
    }
    let Ports::Of(ports) = &rule.ports else {
        return counts.note("any port");
    };
    counts.note_if("many ports", ports.len() > 8);
    counts.note_if("very many ports", ports.len() > 20);
    for port in ports {
        match port {
            Port::All(_) => counts.note("all ports"),
            Port::Range { first, last, .. } => {
                counts.note_if("range", first < last);
                counts.note_if("up to 65535", *last == u16::MAX);
                counts.note_if("from 1", *first == 1);
            }
            Port::Named { .. } => counts.note("named port"),
            Port::Unmatchable => counts.note("unmatchable port"),
        }
    }
}

fn note_peer(peer: &Peer, counts: &mut Counts) {
    match peer {
        Peer::Pods { pods, .. } => {
            for requirement in &pods.requirements {
                counts.note(match requirement.operator {
                    Operator::In(_) => "In",
                    Operator::NotIn(_) => "NotIn",
                    Operator::Exists => "Exists",
                    Operator::DoesNotExist => "DoesNotExist",
                });
            }
        }
        Peer::IpBlock(block) => {
            let nested = |(inner, outer): (&IpNet, &IpNet)| inner != outer && outer.contains(inner);
            let mut pairs = block.except.iter().flat_map(|one| block.except.iter().map(move |other| (one, other)));
            counts.note_if("except", !block.except.is_empty());
            counts.note_if("nested excepts", pairs.any(nested));
            counts.note_if("everything", block.cidr.prefix_len() == 0);
            counts.note_if("one address", block.cidr.prefix_len() == block.cidr.max_prefix_len());
            assert!(block.except.iter().all(|except| except.prefix_len() > block.cidr.prefix_len()));
            assert!(block.except.iter().all(|except| block.cidr.contains(except)));
        }
        Peer::Unmatchable => counts.note("unmatchable peer"),
    }
}

#[test]
fn corners_occur() {
    let mut counts = Counts::default();
    for case in samples(&arb_case()) {
        let state = &case.state;
        counts.note_if("tombstone", !state.tombstones.is_empty());
        counts.note_if("departing namespace", !state.departing.is_empty());
        counts.note_if("unseen namespace", state.pods.keys().any(|key| !state.namespaces.contains_key(&key.namespace)));
        counts.note_if("many policies", state.policies.len() > 10);
        for pod in state.every_pod() {
            counts.note_if("no address", pod.addresses.is_empty());
            counts.note_if("hostNetwork", pod.host_network);
            counts.note_if("finished", pod.phase.is_terminal());
            counts.note_if("terminating", pod.terminating);
            counts.note_if("not scheduled", pod.node.is_none());
            counts.note_if("one name, several ports", {
                let mut ports = pod.ports.iter().flat_map(|one| pod.ports.iter().map(move |other| (one, other)));
                ports.any(|(one, other)| one.name == other.name && one != other)
            });
        }
        for rule in state.policies.values().flat_map(|policy| policy.ingress.iter().chain(&policy.egress)) {
            note_rule(rule, &mut counts);
        }
    }
    counts.expect(100, &["any peer", "any port", "all ports", "range", "named port", "up to 65535", "from 1"]);
    counts.expect(100, &["In", "NotIn", "Exists", "DoesNotExist", "except", "one address"]);
    counts.expect(
        30,
        &["unmatchable port", "unmatchable peer", "everything", "nested excepts", "many peers", "many ports"],
    );
    counts.expect(
        30,
        &["no address", "hostNetwork", "finished", "terminating", "not scheduled", "one name, several ports"],
    );
    counts.expect(10, &["very many ports", "many policies", "tombstone", "departing namespace", "unseen namespace"]);
}

#[test]
fn events_of_every_kind_occur() {
    let mut counts = Counts::default();
    for history in samples(&arb_history()) {
        let mut state = history.start;
        for change in history.changes {
            let before = state.clone();
            counts.note(match &change {
                Change::Pod(_) => "pod",
                Change::PodGone(_) => "pod gone",
                Change::Namespace(_) => "namespace",
                Change::NamespaceGone(_) => "namespace gone",
                Change::Policy(_) => "policy",
                Change::PolicyGone(_) => "policy gone",
                Change::Pods(_) => "pods",
                Change::Namespaces(_) => "namespaces",
                Change::Policies(_) => "policies",
            });
            state.apply(change);
            counts.note_if("no difference", state == before);
            counts.note_if("tombstone", state.tombstones.len() > before.tombstones.len());
            counts.note_if("tombstone ends", state.tombstones.len() < before.tombstones.len());
        }
    }
    let all =
        ["pod", "pod gone", "namespace", "namespace gone", "policy", "policy gone", "pods", "namespaces", "policies"];
    counts.expect(100, &all);
    counts.expect(50, &["no difference", "tombstone", "tombstone ends"]);
}

/// The cluster read from the manifests judges every flow like the cluster that they were printed from.
#[test]
fn manifests_say_the_same() {
    let directory = std::env::temp_dir().join(format!("palisade-generated-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("cluster.yaml");
    let mut compared = 0;
    for Case { state, facts, flows } in samples(&arb_case()).take(150) {
        // Manifests do not have a namespace without an object.
        if state.pods.keys().any(|key| !state.namespaces.contains_key(&key.namespace)) {
            continue;
        }
        let text = manifests(&state);
        fs::write(&file, &text).unwrap();
        let read: State = palisade_watch::read_manifests(std::slice::from_ref(&file))
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .into();
        assert_eq!(read.pods, state.pods, "{text}");
        for name in state.namespaces.keys() {
            assert_eq!(read.namespaces.get(name), state.namespaces.get(name), "{text}");
        }
        compared += flows.len();
        for flow in &flows {
            let judge = |state: &State, facts: &NodeFacts| Reference::new(state, facts).evaluate(flow);
            assert_eq!(judge(&read, &facts), judge(&state, &facts), "{}\n{text}", flow_line(flow));
        }
    }
    fs::remove_dir_all(&directory).unwrap();
    assert!(compared > 1000, "{compared} flows compared");
}

#[test]
fn failing_cases_print_themselves() {
    let case = samples(&arb_case()).find(|case| !case.state.policies.is_empty()).unwrap();
    let text = format!("{case:?}");
    let name: Arc<str> = case.state.policies.keys().next().unwrap().name.clone();
    assert!(text.contains("kind: NetworkPolicy") && text.contains(&*name), "{text}");
    assert!(case.flows.iter().all(|flow| text.contains(&flow_line(flow))), "{text}");
}
