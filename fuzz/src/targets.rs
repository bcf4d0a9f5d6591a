//! What is done with made-up bytes. Also part of a test that replays the corpus (`crates/testkit/tests/corpus.rs`).

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::input::{Protocol, State};
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, flow_line};
use palisade_testkit::walking::Nodes;

/// Bytes as the text of a manifest file and as an object of the API server. An answer, never a panic; whatever is read is
/// compiled, and flows between its pods get one verdict.
pub fn decode(data: &[u8]) {
    let mut state = State::default();
    for change in palisade_watch::fuzzing::manifest(data).into_iter().flatten() {
        state.apply(change);
    }
    for change in palisade_watch::fuzzing::api_object(data) {
        state.apply(change);
    }
    let pods: Vec<_> = state.pods.keys().take(4).cloned().collect();
    let ends = pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to)));
    let flows = ends.flat_map(|(from, to)| {
        [Transport::Portless, Transport::Port(Protocol::Tcp, 80), Transport::Port(Protocol::Udp, 53)].map(|transport| {
            Flow { from: Endpoint::Pod(from.clone()), to: Endpoint::Pod(to.clone()), transport, family: None }
        })
    });
    judge(&Case { flows: flows.collect(), state, facts: NodeFacts::default() });
}

fn judge(case: &Case) {
    let reference = Reference::new(&case.state, &case.facts);
    let nodes = Nodes::render(&case.state, &case.facts);
    for flow in &case.flows {
        let Ok(judgement) = reference.evaluate(flow) else { continue };
        let Ok(ends) = reference.ends(flow) else { continue };
        let ways = nodes.send(flow, &ends).unwrap_or_else(|invalid| panic!("{}: {invalid}\n{case:?}", flow_line(flow)));
        for way in ways.iter().flatten() {
            assert_eq!(way.verdict, judgement.verdict, "{}: {judgement:?}\n{case:?}", flow_line(flow));
        }
    }
}
