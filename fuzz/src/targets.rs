//! What is done with made-up bytes. Also part of a test that replays the corpus (`crates/testkit/tests/corpus.rs`).

use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Transport};
use palisade_policy::index::Index;
use palisade_policy::input::{Protocol, State};
use palisade_policy::reference::Reference;
use palisade_ruleset::change::diff;
use palisade_ruleset::render::{Options, Renderer, render};
use palisade_testkit::generate::{Case, arb_case, arb_history, flow_line};
use palisade_testkit::table::perform;
use palisade_testkit::walking::Nodes;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

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
        [Transport::Portless, Transport::Port(Protocol::Tcp, 80), Transport::Port(Protocol::Udp, 53)].map(|transport| Flow {
            from: Endpoint::Pod(from.clone()),
            to: Endpoint::Pod(to.clone()),
            transport,
            family: None,
        })
    });
    judge(&Case { flows: flows.collect(), state, facts: NodeFacts::default() });
}

/// Bytes as the choices of the generators: one verdict for each flow, one ruleset however events come, and a plan for every
/// change that the kernel would take.
pub fn compile(data: &[u8]) {
    let (is_case, choices) = data.split_first().map_or((true, data), |(first, rest)| (first % 2 == 0, rest));
    if is_case {
        if let Some(case) = generate(&arb_case(), choices) {
            judge(&case);
        }
        return;
    }
    let Some(history) = generate(&arb_history(), choices) else { return };
    let mut index = Index::build("node-1", &history.start);
    index.take_dirty();
    let mut renderer = Renderer::new(Options::default());
    renderer.update(index.compiled(), &index.compiled().everything());
    let mut table = renderer.ruleset().clone();
    for change in history.changes {
        index.apply(change);
        let dirty = index.take_dirty();
        let patch = renderer.update(index.compiled(), &dirty);
        let plan = patch.plan(renderer.ruleset());
        plan.batches().flat_map(|batch| &batch.operations).for_each(|operation| perform(&mut table, operation));
        assert_eq!(&table, renderer.ruleset());
    }
    let scratch = render(Index::build("node-1", index.state()).compiled(), &Options::default());
    assert!(diff(&scratch, renderer.ruleset()).is_ok_and(|patch| patch.is_empty()));
}

/// What a generator makes of these choices.
fn generate<S: Strategy>(strategy: &S, choices: &[u8]) -> Option<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, choices);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    strategy.new_tree(&mut runner).ok().map(|tree| tree.current())
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
