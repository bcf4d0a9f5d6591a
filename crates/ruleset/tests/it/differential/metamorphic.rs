//! What must not matter to the final ruleset: the order of events of different objects, whether they come singly,
//! squashed or in smaller steps, events that repeat known facts, and object names.

use std::collections::{BTreeMap, BTreeSet};

use palisade_policy::index::Index;
use palisade_policy::input::{Change, Pod, State};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, Renderer};
use palisade_testkit::generate::{History, arb_history};
use palisade_testkit::trials::Trials;
use proptest::prelude::*;

use crate::differential::canonical::canonical;

use crate::differential::renaming::Renaming;

/// Histories in a test run; with `PALISADE_VERDICTS`, one for every `VERDICTS_PER_HISTORY`.
const HISTORIES: usize = 300;
const VERDICTS_PER_HISTORY: usize = 200;

/// A history, and the numbers for shuffling and renaming it.
#[derive(Clone, Debug)]
struct Twist {
    history: History,
    node: u8,
    keys: Vec<u16>,
}

fn arb_twist() -> impl Strategy<Value = Twist> {
    let keys = prop::collection::vec(any::<u16>(), 64);
    (arb_history(), 1_u8..=3, keys).prop_map(|(history, node, keys)| Twist { history, node, keys })
}

#[test]
fn the_final_ruleset_depends_on_the_final_objects_alone() {
    Trials::of("histories", "PALISADE_VERDICTS", HISTORIES * VERDICTS_PER_HISTORY)
        .divided(VERDICTS_PER_HISTORY)
        .run(arb_twist, twist);
}

fn twist(twist: &Twist) -> Result<usize, TestCaseError> {
    let Twist { history, node, keys } = twist;
    let (state, expected) = follow(*node, &history.start, &history.changes, |_| true);
    let scratch = rendered(*node, &state);
    prop_assert_eq!(&expected, &scratch, "one by one");

    let (squashed, ruleset) = follow(*node, &history.start, &history.changes, |_| false);
    prop_assert_eq!((&squashed, &ruleset), (&state, &expected), "squashed into one");
    let (squashed, ruleset) =
        follow(*node, &history.start, &history.changes, |number| keys[number % keys.len()].is_multiple_of(3));
    prop_assert_eq!((&squashed, &ruleset), (&state, &expected), "squashed by some");

    says_nothing_new(*node, &state)?;

    let renaming = Renaming::by(keys[0]);
    let renamed = rendered(*node, &renaming.state(&state));
    prop_assert_eq!(canonical(&renamed), canonical(&expected), "renamed");

    // Which policies a terminating namespace keeps depends on the order of deletions.
    let lasting = lasting(history);
    let (state, expected) = follow(*node, &lasting.start, &lasting.changes, |_| true);
    for (what, changes) in [
        ("in another order", shuffled(&lasting.changes, keys)),
        ("only the last of each object", last_of_each(&lasting.changes)),
        ("in smaller steps", in_steps(&lasting)),
        ("from nothing, in another order", shuffled(&created(&state), keys)),
    ] {
        let start = if what.starts_with("from nothing") { &State::default() } else { &lasting.start };
        let (other, ruleset) = follow(*node, start, &changes, |number| keys[number % keys.len()] % 5 != 0);
        prop_assert_eq!(&other, &state, "{}", what);
        prop_assert_eq!(&ruleset, &expected, "{}", what);
    }
    Ok(1)
}

fn rendered(node: u8, state: &State) -> Ruleset {
    palisade_ruleset::render::render(Index::build(format!("node-{node}"), state).compiled(), &Options::default())
}

/// The objects and the ruleset after these events; `is_looked_at` says after which events to take the changes.
fn follow(node: u8, start: &State, changes: &[Change], is_looked_at: impl Fn(usize) -> bool) -> (State, Ruleset) {
    let mut index = Index::build(format!("node-{node}"), start);
    index.take_dirty();
    let mut renderer = Renderer::new(Options::default());
    renderer.update(index.compiled(), &index.compiled().everything());
    for (number, change) in changes.iter().enumerate() {
        index.apply(change.clone());
        if is_looked_at(number) {
            let dirty = index.take_dirty();
            renderer.update(index.compiled(), &dirty);
        }
    }
    let due = index.due();
    index.forgotten(&due);
    let dirty = index.take_dirty();
    renderer.update(index.compiled(), &dirty);
    (index.state().clone(), renderer.into_ruleset())
}

/// Repeats every object, alone and in lists: nothing is dirty, and the patch is empty.
fn says_nothing_new(node: u8, state: &State) -> Result<(), TestCaseError> {
    let mut index = Index::build(format!("node-{node}"), state);
    index.take_dirty();
    let mut renderer = Renderer::new(Options::default());
    renderer.update(index.compiled(), &index.compiled().everything());
    let policies: Vec<_> =
        state.policies.values().filter(|policy| !state.tombstones.contains(&policy.key)).cloned().collect();
    let lists = [
        Change::Pods(state.pods.values().rev().map(|pod| (**pod).clone()).collect()),
        Change::Namespaces(state.namespaces.values().rev().cloned().collect()),
        Change::Policies(policies.iter().rev().cloned().collect()),
    ];
    let again = created(state).into_iter().filter(|change| match change {
        Change::Policy(policy) => !state.tombstones.contains(&policy.key),
        _ => true,
    });
    for change in again.chain(lists) {
        index.apply(change.clone());
        prop_assert_eq!(index.state(), state);
        let dirty = index.take_dirty();
        prop_assert!(dirty.is_empty(), "{dirty:?} after {change:?}");
        let patches = renderer.update(index.compiled(), &dirty);
        prop_assert!(patches.is_empty(), "{patches:?} after {change:?}");
    }
    Ok(())
}

/// The objects as events.
fn created(state: &State) -> Vec<Change> {
    let pods = state.every_pod().cloned().map(Change::Pod);
    let namespaces = state.namespaces.values().cloned().map(Change::Namespace);
    pods.chain(namespaces).chain(state.policies.values().cloned().map(Change::Policy)).collect()
}

/// The history without the end of any namespace, in single events.
fn lasting(history: &History) -> History {
    let mut start = history.start.clone();
    start.tombstones.clear();
    start.departing.clear();
    start.namespaces.values_mut().for_each(|namespace| namespace.terminating = false);
    let mut state = start.clone();
    let mut changes = Vec::new();
    for change in &history.changes {
        for mut single in state.singles(change.clone()) {
            match &mut single {
                Change::NamespaceGone(_) => continue,
                Change::Namespace(namespace) => namespace.terminating = false,
                _ => {}
            }
            state.apply(single.clone());
            changes.push(single);
        }
    }
    History { start, changes }
}

/// The object of an event.
fn object(change: &Change) -> (u8, String) {
    match change {
        Change::Pod(pod) => (0, pod.key.to_string()),
        Change::PodGone(key) => (0, key.to_string()),
        Change::Namespace(namespace) => (1, namespace.name.to_string()),
        Change::NamespaceGone(name) => (1, name.to_string()),
        Change::Policy(policy) => (2, policy.key.to_string()),
        Change::PolicyGone(key) => (2, key.to_string()),
        Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_) => panic!("a list is about many"),
    }
}

/// In another order, except that the events of one object keep theirs.
fn shuffled(changes: &[Change], keys: &[u16]) -> Vec<Change> {
    let key = |number: usize| (keys[number % keys.len()], number);
    let mut places: Vec<usize> = (0..changes.len()).collect();
    places.sort_by_key(|place| key(*place));
    let mut in_order: BTreeMap<_, std::collections::VecDeque<&Change>> = BTreeMap::new();
    changes.iter().for_each(|change| in_order.entry(object(change)).or_default().push_back(change));
    let next = |place: &usize| {
        in_order.get_mut(&object(&changes[*place])).and_then(std::collections::VecDeque::pop_front).cloned()
    };
    places.iter().filter_map(next).collect()
}

/// Only the last event of each object.
fn last_of_each(changes: &[Change]) -> Vec<Change> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<_> = changes.iter().rev().filter(|change| seen.insert(object(change))).cloned().collect();
    last.reverse();
    last
}

/// Splits each change of a pod into single steps; each policy is deleted before it comes back changed.
fn in_steps(history: &History) -> Vec<Change> {
    let mut state = history.start.clone();
    let mut steps = Vec::new();
    for change in &history.changes {
        match change {
            Change::Pod(new) => {
                if let Some(old) = state.pods.get(&new.key).map(|old| (**old).clone()) {
                    let labelled = Pod { labels: new.labels.clone(), ..old };
                    let addressed = Pod { addresses: new.addresses, ..labelled.clone() };
                    steps.extend([labelled, addressed].map(Change::Pod));
                }
            }
            Change::Policy(new) if state.policies.contains_key(&new.key) => {
                steps.push(Change::PolicyGone(new.key.clone()));
            }
            _ => {}
        }
        steps.push(change.clone());
        state.apply(change.clone());
    }
    steps
}
