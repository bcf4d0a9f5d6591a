//! The engine against itself and against the reference evaluator, on generated clusters.
//!
//! Seen to fail when: the index did not look at the peers of a relabelled pod again; it looked only in the namespace of an
//! address's new owner; it forgot, in a selector needed again at once, who had gone meanwhile; the renderer kept the set of
//! a group that went; a merged set held the members of its first selector only; pods could not reach themselves; `diff`
//! ignored an element's comment; an egress chain accepted what it allows; an `except` was not taken out of its block; the
//! named port of another protocol counted; port ranges ended one early.

use std::collections::BTreeSet;

use palisade_policy::index::{Counts, Index};
use palisade_policy::input::State;
use palisade_policy::reference::Reference;
use palisade_ruleset::change::diff;
use palisade_ruleset::model::{Ruleset, SetKind};
use palisade_ruleset::render::{Options, Renderer, render};
use palisade_testkit::generate::{Case, History, arb_case, arb_history, arb_state, flow_line};
use palisade_testkit::table::perform;
use palisade_testkit::walking::Nodes;
use proptest::prelude::*;

/// Cases of each property; `hack/test` stays quick with these, and PROPTEST_CASES does not override them.
const CASES: u32 = 256;

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

fn rendered(node: &str, state: &State) -> Ruleset {
    render(Index::build(node, state).compiled(), &Options::default())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    /// Invariants 4 and 5: whatever order events come in, following them leads where a build from scratch leads, and each
    /// patch is the difference of the rulesets before and after.
    #[test]
    fn following_events_equals_building_from_scratch(history in arb_history()) {
        follow(&history, u64::MAX)?;
    }

    /// Events that are applied together lead where they lead one by one, and leave the same addresses due.
    #[test]
    fn events_together_equal_events_one_by_one(history in arb_history(), together in 1_usize..8) {
        for node in NODES {
            let (mut single, mut joint) = (Index::build(node, &history.start), Index::build(node, &history.start));
            for changes in history.changes.chunks(together) {
                changes.iter().for_each(|change| single.apply(change.clone()));
                joint.apply_all(changes.iter().cloned());
                prop_assert_eq!(joint.state(), single.state());
                prop_assert_eq!(joint.due(), single.due());
                // A pod that came and went between two looks had nothing in the table.
                let due = single.due();
                single.forgotten(&due);
                joint.forgotten(&due);
                prop_assert_eq!(joint.compiled(), single.compiled(), "compiled policy of {} after {:?}", node, changes);
                prop_assert_eq!(joint.counts(), single.counts());
            }
        }
    }

    /// Invariant 5 on unrelated rulesets.
    #[test]
    fn a_difference_applied_gives_the_other_ruleset(a in arb_state(), b in arb_state()) {
        let (a, b) = (rendered("node-1", &a), rendered("node-1", &b));
        let patch = diff(&a, &b).unwrap();
        let mut patched = a.clone();
        patch.apply(&mut patched);
        prop_assert_eq!(&patched, &b);
        prop_assert!(diff(&b, &b).unwrap().is_empty());
    }

    /// Invariant 2: the packet walk through the rendered rulesets gives the evaluator's verdict, for request and reply.
    #[test]
    fn the_walk_equals_the_evaluator(case in arb_case()) {
        compare(&case)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES / 4) })]

    /// Invariant 4 where policies bring more elements than they may: what is kept is what would be made of the objects, with
    /// those set aside that are, and no more than is allowed.
    #[test]
    fn what_is_set_aside_leaves_nothing_behind(history in arb_history(), elements in 0_u64..40) {
        follow(&history, elements)?;
    }
}

/// Follows a history where the policies of a namespace may bring so many elements.
fn follow(history: &History, elements: u64) -> Result<(), TestCaseError> {
    for node in NODES {
        let mut state = history.start.clone();
        state.budget.elements = elements;
        let mut index = Index::build(node, &state);
        index.take_dirty();
        let options = Options { pod_ranges: BTreeSet::from(["10.42.1.0/24".parse().unwrap()]), ..Options::default() };
        let mut renderer = Renderer::new(options.clone());
        renderer.update(index.compiled(), &index.compiled().everything());
        renderer.update_starting(index.compiled());
        for (number, change) in history.changes.iter().enumerate() {
            let before = renderer.ruleset().clone();
            state.apply(change.clone());
            index.apply(change.clone());
            if elements == u64::MAX {
                prop_assert_eq!(index.state(), &state);
            }
            // Every second time, before conntrack has forgotten what is due. What is due is nobody's, so it counts for nothing.
            if number % 2 == 0 || elements < u64::MAX {
                let due = index.due();
                index.forgotten(&due);
            }
            let mut scratch = Index::build(node, index.state());
            scratch.mark_due(index.due().into_iter().map(|address| (address, index.former(address))));
            prop_assert_eq!(index.compiled(), scratch.compiled(), "compiled policy of {} after {:?}", node, change);
            let counts = Counts { due: index.counts().due, ..scratch.counts() };
            prop_assert_eq!(index.counts(), counts, "counts of {} after {:?}", node, change);
            prop_assert_eq!(scratch.take_set_aside(), Vec::new(), "set aside on {} after {:?}", node, change);
            let dirty = index.take_dirty();
            let patch = renderer.update(index.compiled(), &dirty);
            let between = renderer.ruleset().clone();
            let starting = renderer.update_starting(index.compiled());
            prop_assert!(starting.is_empty() || dirty.starting, "starting on {} after {:?}", node, change);
            let whole = render(scratch.compiled(), &options);
            prop_assert_eq!(renderer.ruleset(), &whole, "ruleset of {} after {:?}", node, change);
            let counts = renderer.counts();
            prop_assert_eq!(counts.chains, whole.chains.len());
            let maps = whole.sets.values().filter(|set| set.kind == SetKind::VerdictMap).count();
            prop_assert_eq!((counts.maps, counts.sets), (maps, whole.sets.len() - maps));
            let mut table = before;
            for (patch, after) in [(patch, &between), (starting, &whole)] {
                prop_assert_eq!(&patch, &diff(&table, after).unwrap(), "patch of {} after {:?}", node, change);
                let transaction = patch.plan(after);
                let operations = transaction.batches().flat_map(|batch| &batch.operations);
                operations.for_each(|operation| perform(&mut table, operation));
                prop_assert_eq!(&table, after, "table of {} after {:?}", node, change);
            }
        }
    }
    Ok(())
}

fn compare(case: &Case) -> Result<(), TestCaseError> {
    let reference = Reference::new(&case.state, &case.facts);
    let nodes = Nodes::render(&case.state, &case.facts);
    for flow in &case.flows {
        let Ok(judgement) = reference.evaluate(flow) else { continue };
        let Some(ways) = nodes.send(flow, &reference.ends(flow).unwrap()).unwrap() else { continue };
        for (way, which) in ways.iter().zip(["request", "reply"]) {
            let steps = way.steps.join("\n");
            prop_assert_eq!(
                way.verdict,
                judgement.verdict,
                "{} of {}: {:?}\n{}",
                which,
                flow_line(flow),
                judgement,
                steps
            );
        }
    }
    Ok(())
}
