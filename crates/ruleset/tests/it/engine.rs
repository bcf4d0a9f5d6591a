//! Index and renderer against a build from scratch, on generated clusters. `differential/verdicts.rs` compares
//! verdicts.
//!
//! Seen to fail when: the index did not re-evaluate the peers of a relabelled pod; it re-evaluated only the namespace
//! of an IP's new owner; a selector that was needed again at once missed the members that had left meanwhile; the
//! renderer kept the set of a removed group; `diff` ignored an element's comment.

use std::collections::BTreeSet;

use palisade_policy::index::{Counts, Index};
use palisade_policy::input::State;
use palisade_ruleset::change::diff;
use palisade_ruleset::model::{Ruleset, SetKind};
use palisade_ruleset::render::{Options, Renderer, render};
use palisade_testkit::difference::{of_rulesets, of_values};
use palisade_testkit::generate::{History, arb_history, arb_state};
use palisade_testkit::table::perform;
use proptest::prelude::*;

/// Cases of each property; few, so that `hack/test` stays quick. PROPTEST_CASES does not override it.
const CASES: u32 = 256;

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

fn rendered(node: &str, state: &State) -> Ruleset {
    render(Index::build(node, state).compiled(), &Options::default())
}

/// Fails with the lines that differ between two values.
macro_rules! prop_assert_same {
    ($of:ident, $left:expr, $right:expr, $($what:tt)+) => {
        if let Some(difference) = $of($left, $right) {
            prop_assert!(false, "{}\n{}", format_args!($($what)+), difference);
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    /// Invariants 4 and 5: following events in any order gives the same result as a build from scratch, and each patch
    /// is the difference between the rulesets before and after.
    #[test]
    fn following_events_equals_building_from_scratch(history in arb_history()) {
        follow(&history, u64::MAX)?;
    }

    /// Events applied together give the same result as one by one, and leave the same IPs due.
    #[test]
    fn events_together_equal_events_one_by_one(history in arb_history(), together in 1_usize..8) {
        for node in NODES {
            let (mut single, mut joint) = (Index::build(node, &history.start), Index::build(node, &history.start));
            for changes in history.changes.chunks(together) {
                changes.iter().for_each(|change| single.apply(change.clone()));
                joint.apply_all(changes.iter().cloned());
                prop_assert_eq!(joint.state(), single.state());
                prop_assert_eq!(joint.due(), single.due());
                // A pod that came and went between two rounds had nothing in the table.
                let due = single.due();
                single.forgotten(&due);
                joint.forgotten(&due);
                let (joint_policy, single_policy) = (joint.compiled(), single.compiled());
                prop_assert_same!(of_values, joint_policy, single_policy, "compiled policy of {node} after {changes:?}");
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
        prop_assert_same!(of_rulesets, &patched, &b, "a difference applied");
        prop_assert!(diff(&b, &b).unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES / 4) })]

    /// Invariant 4 when policies bring more elements than allowed: the result equals a build from the same objects,
    /// with the same policies set aside, and is within the limit.
    #[test]
    fn what_is_set_aside_leaves_nothing_behind(history in arb_history(), elements in 0_u64..40) {
        follow(&history, elements)?;
    }
}

/// Follows a history with this limit on the elements of a namespace's policies.
fn follow(history: &History, elements: u64) -> Result<(), TestCaseError> {
    for node in NODES {
        let mut state = history.start.clone();
        state.budget.elements = elements;
        let mut index = Index::build(node, &state);
        index.take_dirty();
        let options = Options { pod_ranges: BTreeSet::from(["10.42.1.0/24".parse().unwrap()]), ..Options::default() };
        let mut renderer = Renderer::new(options.clone());
        renderer.update(index.compiled(), &index.compiled().everything());
        for (number, change) in history.changes.iter().enumerate() {
            let before = renderer.ruleset().clone();
            state.apply(change.clone());
            index.apply(change.clone());
            if elements == u64::MAX {
                prop_assert_eq!(index.state(), &state);
            }
            // Every second time, IPs stay due. With a limit they never do: an IP that is due belongs to no pod, so it
            // would not count.
            if number % 2 == 0 || elements < u64::MAX {
                let due = index.due();
                index.forgotten(&due);
            }
            let mut scratch = Index::build(node, index.state());
            scratch.mark_due(index.due().into_iter().map(|address| (address, index.former(address))));
            let (followed, built) = (index.compiled(), scratch.compiled());
            prop_assert_same!(of_values, followed, built, "compiled policy of {node} after {change:?}");
            let counts = Counts { due: index.counts().due, ..scratch.counts() };
            prop_assert_eq!(index.counts(), counts, "counts of {} after {:?}", node, change);
            prop_assert_eq!(scratch.take_set_aside(), Vec::new(), "set aside on {} after {:?}", node, change);
            let dirty = index.take_dirty();
            let patches = renderer.update(index.compiled(), &dirty);
            prop_assert!(patches.is_empty() || !dirty.is_empty(), "{} after {:?}: {:?}", node, change, patches);
            let whole = render(scratch.compiled(), &options);
            prop_assert_same!(of_rulesets, renderer.ruleset(), &whole, "ruleset of {node} after {change:?}");
            let counts = renderer.counts();
            prop_assert_eq!(counts.chains, whole.chains.len());
            let maps = whole.sets.values().filter(|set| set.kind == SetKind::VerdictMap).count();
            prop_assert_eq!((counts.maps, counts.sets), (maps, whole.sets.len() - maps));
            let mut table = before;
            for patch in patches {
                let mut after = table.clone();
                patch.apply(&mut after);
                let expected = diff(&table, &after).unwrap();
                prop_assert_same!(of_values, &patch, &expected, "patch of {node} after {change:?}");
                let transaction = patch.plan(&after);
                let operations = transaction.batches().flat_map(|batch| &batch.operations);
                operations.for_each(|operation| perform(&mut table, operation));
                prop_assert_same!(of_rulesets, &table, &after, "table of {node} after {change:?}");
            }
            prop_assert_same!(of_rulesets, &table, &whole, "patched ruleset of {node} after {change:?}");
        }
    }
    Ok(())
}
