//! The reference evaluator reports everything it considered, matched as written; the words for a verdict name only
//! policies that select the pod.
//!
//! Matching is written a second time here, with the engine's selectors and ipnet's blocks.
//!
//! Seen to fail when: `policies` left out those that do not select the pod; `rules` left out the last one; a peer matched
//! in the policy's namespace only; an `except` was ignored; a port range ended one early; the words named every policy of
//! the namespace.

use palisade_analysis::words;
use palisade_policy::compile::PeerSelector;
use palisade_policy::flow::{Flow, Transport, Verdict};
use palisade_policy::input::{Direction, Peer, Peers, Policy, Port, Ports, State};
use palisade_policy::reference::{End, Reference, Side};
use palisade_testkit::generate::{Case, arb_case};
use proptest::prelude::*;

fn is_peer(state: &State, policy: &Policy, peer: &Peer, end: &End<'_>) -> bool {
    match peer {
        Peer::Pods { namespaces, pods } => end.the_pod().is_some_and(|pod| {
            let namespace = state.namespaces.get(&pod.key.namespace);
            PeerSelector::of(namespaces, pods, &policy.key.namespace).selects(pod, namespace)
        }),
        Peer::IpBlock(block) => end.address.is_some_and(|address| {
            block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
        }),
        Peer::Unmatchable => false,
    }
}

fn is_port(port: &Port, server: &End<'_>, transport: Transport) -> bool {
    let Transport::Port(protocol, number) = transport else { return false };
    match port {
        Port::All(named) => *named == protocol,
        Port::Range { protocol: named, first, last } => *named == protocol && (*first..=*last).contains(&number),
        Port::Named { protocol: named, name } => server.the_pod().is_some_and(|pod| {
            let is_it = |port: &palisade_policy::input::ContainerPort| {
                (&port.name, port.protocol, port.port) == (name, *named, number) && *named == protocol
            };
            pod.ports.iter().any(is_it)
        }),
        Port::Unmatchable => false,
    }
}

/// Whether any rule of the policies that isolate the pod allows the flow.
fn folded(state: &State, side: &Side<'_>, server: &End<'_>, transport: Transport) -> bool {
    let isolating = state.policies.values().filter(|policy| {
        let is_subject = |pod: &&palisade_policy::input::Pod| {
            pod.key.namespace == policy.key.namespace && policy.pod_selector.selects(&pod.labels)
        };
        policy.isolates.in_direction(side.direction) && side.subject.pods.iter().any(is_subject)
    });
    let mut rules = isolating.flat_map(|policy| policy.rules(side.direction).iter().map(move |rule| (policy, rule)));
    rules.any(|(policy, rule)| {
        let peer = match &rule.peers {
            Peers::Any => true,
            Peers::Of(list) => list.iter().any(|peer| is_peer(state, policy, peer, side.peer)),
        };
        let port = match &rule.ports {
            Ports::Any => true,
            Ports::Of(list) => list.iter().any(|port| is_port(port, server, transport)),
        };
        peer && port
    })
}

fn look_at(state: &State, side: &Side<'_>, server: &End<'_>, transport: Transport) -> Result<(), TestCaseError> {
    let in_scope = state
        .policies
        .values()
        .filter(|policy| side.subject.pods.iter().any(|pod| pod.key.namespace == policy.key.namespace));
    let expected: Vec<_> = in_scope.map(|policy| &policy.key).collect();
    let found: Vec<_> = side.policies().map(|considered| &considered.policy.key).collect();
    prop_assert_eq!(found, expected);
    for considered in side.policies() {
        let policy = considered.policy;
        for (pod, selection) in considered.selections() {
            prop_assert_eq!(selection.is_match(), policy.pod_selector.selects(&pod.labels));
        }
        let rules: Vec<_> = considered.rules().collect();
        prop_assert_eq!(rules.len(), policy.rules(side.direction).len());
        for rule in rules {
            let written = policy.rules(side.direction).get(rule.index).unwrap();
            let peers: Vec<_> = rule.peers().map(|(peer, found)| (peer.clone(), found.is_match())).collect();
            let ports: Vec<_> = rule.ports().map(|(port, found)| (port.clone(), found.is_match())).collect();
            let all = match &written.peers {
                Peers::Any => Vec::new(),
                Peers::Of(list) => list.clone(),
            };
            let matched = |peer: &Peer| is_peer(state, policy, peer, side.peer);
            prop_assert_eq!(peers, all.iter().map(|peer| (peer.clone(), matched(peer))).collect::<Vec<_>>());
            let all = match &written.ports {
                Ports::Any => Vec::new(),
                Ports::Of(list) => list.clone(),
            };
            let matched = |port: &Port| is_port(port, server, transport);
            prop_assert_eq!(ports, all.iter().map(|port| (port.clone(), matched(port))).collect::<Vec<_>>());
        }
    }
    let decision = side.decision();
    if let Some(settled) = side.settled() {
        prop_assert_eq!(decision, settled);
    } else {
        let verdict = if folded(state, side, server, transport) { Verdict::Allow } else { Verdict::Deny };
        prop_assert_eq!(decision.verdict, verdict);
    }
    Ok(())
}

fn compare(case: &Case, flow: &Flow) -> Result<(), TestCaseError> {
    let Case { state, facts, .. } = case;
    let reference = Reference::new(state, facts);
    // Two ends may share no family.
    let Ok(considered) = reference.consider(flow) else { return Ok(()) };
    let judgement = considered.judgement();
    prop_assert_eq!(reference.evaluate(flow), Ok(judgement.clone()));
    for direction in Direction::ALL {
        look_at(state, &considered.side(direction), &considered.ends.to, flow.transport)?;
    }
    let reasons = words::reasons(state, flow, &considered, &judgement);
    for (direction, reason) in Direction::ALL.into_iter().zip(reasons) {
        let side = considered.side(direction);
        let selecting: Vec<_> = side
            .policies()
            .filter(|policy| policy.selections().any(|(_, selection)| selection.is_match()))
            .map(|policy| policy.policy.key.to_string())
            .collect();
        // Pods and policies may share a name, so only words after "policy" and "policies" count.
        let (_, named) = reason.split_once("polic").unwrap_or_default();
        let words = named.split([' ', ',', ';', ':']).take_while(|word| !word.starts_with("isolate"));
        for word in words.filter(|word| word.contains('/')) {
            let is_policy = state.policies.keys().any(|key| key.to_string() == word);
            let is_pod = side.subject.pods.iter().any(|pod| pod.key.to_string() == word);
            prop_assert!(!is_policy || is_pod || selecting.iter().any(|key| key == word), "{}: {}", word, reason);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn everything_is_considered_and_the_verdict_is_its_fold(case in arb_case()) {
        for flow in &case.flows {
            compare(&case, flow)?;
        }
    }
}
