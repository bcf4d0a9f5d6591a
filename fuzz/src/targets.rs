//! What is done with made-up bytes. Also part of a test that replays the corpus (`crates/testkit/tests/corpus.rs`).

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::index::Index;
use palisade_policy::input::{Change, NamespacedName, Protocol, State};
use palisade_policy::reference::Reference;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, Renderer, render};
use palisade_testkit::generate::{Case, flow_line, ports_in_use};
use palisade_testkit::table::perform;
use palisade_testkit::walking::Nodes;

/// Of so many events at most, so that an input is done in time.
const EVENTS: usize = 40;

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
    let transports = [Transport::Portless, Transport::Port(Protocol::Tcp, 80), Transport::Port(Protocol::Udp, 53)];
    judge(&Case { flows: flows(&state, &transports), state, facts: NodeFacts::default() });
}

/// Lines of JSON as events: an object of the API server as it is, or behind a minus as it goes. After each, the ruleset by
/// difference is the one from scratch, and the plan is one that the kernel would take; in the end, flows get one verdict.
pub fn compile(data: &[u8]) {
    let mut index = Index::new("node-1");
    let mut renderer = Renderer::new(Options::default());
    let mut table = Ruleset::default();
    for change in data.split(|byte| *byte == b'\n').take(EVENTS).flat_map(changes) {
        index.apply(change);
        let due = index.due();
        index.forgotten(&due);
        let dirty = index.take_dirty();
        let patch = renderer.update(index.compiled(), &dirty);
        let plan = patch.plan(renderer.ruleset());
        plan.batches().flat_map(|batch| &batch.operations).for_each(|operation| perform(&mut table, operation));
        assert_eq!(&table, renderer.ruleset());
        let scratch = render(Index::build("node-1", index.state()).compiled(), &Options::default());
        assert_eq!(&scratch, renderer.ruleset());
    }
    let state = index.state().clone();
    let ports = ports_in_use(&state).into_iter().take(6).map(|(protocol, port)| Transport::Port(protocol, port));
    let flows = flows(&state, &ports.chain([Transport::Portless]).collect::<Vec<_>>());
    judge(&Case { flows, state, facts: NodeFacts::default() });
}

fn changes(line: &[u8]) -> Vec<Change> {
    let Some(json) = line.strip_prefix(b"-") else { return palisade_watch::fuzzing::api_object(line) };
    let gone = |change| match change {
        Change::Pod(pod) => Change::PodGone(pod.key),
        Change::Namespace(namespace) => Change::NamespaceGone(namespace.name),
        Change::Policy(policy) => Change::PolicyGone(policy.key),
        list => list,
    };
    palisade_watch::fuzzing::api_object(json).into_iter().map(gone).collect()
}

/// Between some of the pods.
fn flows(state: &State, transports: &[Transport]) -> Vec<Flow> {
    let pods = || state.pods.keys().take(4).cloned();
    let pairs = pods().flat_map(|from| pods().map(move |to| (from.clone(), to)));
    let flow = |(from, to): (NamespacedName, NamespacedName), transport: &Transport| Flow {
        from: Endpoint::Pod(from),
        to: Endpoint::Pod(to),
        transport: *transport,
        family: None,
    };
    pairs.flat_map(|pair| transports.iter().map(move |transport| flow(pair.clone(), transport))).collect()
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
