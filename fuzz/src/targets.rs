//! The fuzz targets. Also part of a test that replays the corpus (`crates/testkit/tests/it/corpus.rs`).

use palisade_engine::{Engine, Options};
use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::index::Index;
use palisade_policy::input::{Change, NamespacedName, Protocol, State};
use palisade_policy::reference::Reference;
use palisade_ruleset::render::{Options as RenderOptions, render};
use palisade_testkit::generate::{Case, flow_line, ports_in_use};
use palisade_testkit::kernel::{ModelKernel, hand_in, list};
use palisade_testkit::walking::Nodes;

/// Maximum number of events, so that an input takes little time.
const EVENTS: usize = 40;

/// Bytes as the text of a manifest file and as an object of the API server. They give a result, never a panic; the
/// objects read are compiled, and flows between their pods get one verdict.
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

/// Lines of JSON as events: an object of the API server, or, after a minus, its deletion. After each, the engine has
/// brought the kernel to the ruleset from scratch, by plans that the kernel accepts; at the end, flows get one verdict.
pub fn compile(data: &[u8]) {
    let mut engine = Engine::new("node-1", Options::default());
    let mut kernel = ModelKernel::default();
    list(&mut engine, &State::default());
    kernel.settle(&mut engine);
    for change in data.split(|byte| *byte == b'\n').take(EVENTS).flat_map(changes) {
        hand_in(&mut engine, change);
        kernel.settle(&mut engine);
        assert!(kernel.is_as_wanted(&engine));
        let index = Index::build("node-1", engine.index().state());
        assert_eq!(&render(index.compiled(), &RenderOptions::default()), engine.ruleset());
    }
    let state = engine.index().state().clone();
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

/// Flows between some of the pods.
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
