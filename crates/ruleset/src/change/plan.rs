//! The order in which the kernel sees a patch. At no moment does a packet pass that neither state allows, or get lost
//! that both allow.
//!
//! | batch | what it does |
//! |---|---|
//! | stage | new sets, maps and chains, which nothing refers to yet; pods that may reach themselves |
//! | narrow | map elements that change point to a chain where old *and* new must allow |
//! | widen | an IP that moves between sets is added to its new ones |
//! | switch | elements leave sets, rules change |
//! | settle | map elements get their final verdicts |
//! | fill | sets that were read through copies get their elements |
//! | restore | rules read these sets themselves again |
//! | sweep | unused objects are deleted; pods that are gone |
//!
//! A map element for one end of a flow selects a chain, and that chain's sets judge the other end. A packet reads the
//! rules of one generation from start to end (of one parity, in truth: two batches later it would read those of the
//! second), but sets and maps live. Before *widen*, *switch*, *settle* and *fill* the agent waits for packets in
//! flight, so none combines more than two neighbouring states:
//!
//! - Without *narrow*, its egress could be judged by an old map element and its ingress by a new one.
//! - One IP may leave sets and join others in place, in two batches: the flows concerned have it at one end, and
//!   the narrowed verdict belongs to the other end.
//! - If more changes at once, rules are *switched* to copies of the sets, which hold the new elements, and back when
//!   the sets hold them too.

mod in_place;
mod members;
mod transit;

use std::collections::BTreeMap;

use palisade_policy::Pulse;

use super::{ChainChange, Operation, Patch, SetChange, Transaction};
use crate::model::{Chain, Element, Expression, Key, Rule, Ruleset, Test, Verdict};
use crate::name::Name;
pub(super) use in_place::InPlace;
use members::Members;
use transit::Transits;

/// The batches of `patch`, which leads to `after`.
pub(super) fn plan(patch: &Patch, after: &Ruleset, pulse: &Pulse) -> Transaction {
    let (members, pairs) = (Members::of(patch), Members::pairs(patch));
    let maps = map_changes(patch);
    let in_place = may_change_in_place(patch, after);
    let mut transits = Transits::default();
    if !in_place {
        transits.copy_sets(patch, after, &members, pulse);
    }
    // The elements of one map may change at once if nothing else does: each packet finds the old or the new one.
    let at_once = !all_jump(patch) || (in_place && members.is_empty() && maps.len() <= 1);
    if !at_once {
        transits.narrow(patch);
    }
    let mut stage = stage(patch, &transits);
    stage.extend(transits.stage());
    // A pod may reach itself before it is isolated and after.
    let new_pairs = pairs.add();
    let admits = !new_pairs.is_empty();
    stage.extend(new_pairs);
    let mut switch = if in_place { members.remove() } else { rule_changes(patch, &transits) };
    if at_once {
        switch.extend(maps.into_iter().flatten());
    }
    let transaction = Transaction::default().then("stage", stage);
    let transaction = if admits {
        transaction.after_packets("narrow", transits.narrowed())
    } else {
        transaction.then("narrow", transits.narrowed())
    };
    let transaction = if in_place { transaction.after_packets("widen", members.add()) } else { transaction };
    let transaction = transaction.after_packets("switch", switch).after_packets("settle", transits.settled());
    let transaction = if in_place {
        transaction
    } else {
        // The copies and the sets are equal now, so restoring the rules has no effect on packets.
        transaction.after_packets("fill", members.replace()).then("restore", transits.restore(after))
    };
    let mut sweep = pairs.remove();
    sweep.extend(transits.sweep());
    sweep.extend(self::sweep(patch));
    transaction.then("sweep", sweep)
}

/// The number of sets that are read through copies meanwhile.
pub(super) fn copies(patch: &Patch, after: &Ruleset) -> usize {
    if may_change_in_place(patch, after) { 0 } else { Members::of(patch).sets().count() }
}

fn may_change_in_place(patch: &Patch, after: &Ruleset) -> bool {
    !changes_rules(patch) && InPlace::of(patch, after).is_possible()
}

/// Whether rules of existing chains change.
pub(super) fn changes_rules(patch: &Patch) -> bool {
    patch.chains.values().any(|change| match change {
        ChainChange::Create(chain) => chain.hook.is_some(),
        ChainChange::Rules { .. } => true,
        ChainChange::Delete => false,
    })
}

/// Chains can be combined only if map elements jump to them.
fn all_jump(patch: &Patch) -> bool {
    let jumps = |element: &Element| matches!(element.verdict, Some(Verdict::Jump(_)));
    element_changes(patch)
        .filter(|(_, remove, add)| is_map(remove, add))
        .all(|(_, remove, add)| remove.values().chain(add.values()).all(jumps))
}

/// The changes of map elements, by map.
fn map_changes(patch: &Patch) -> Vec<Vec<Operation>> {
    let maps = element_changes(patch).filter(|(_, remove, add)| is_map(remove, add));
    maps.map(|(map, remove, add)| exchange(map, remove.clone(), add.clone())).collect()
}

/// Replaces elements of a set or map.
fn exchange(name: &Name, gone: BTreeMap<Key, Element>, new: BTreeMap<Key, Element>) -> Vec<Operation> {
    let gone = (!gone.is_empty()).then(|| Operation::DeleteElements(name.clone(), gone));
    let new = (!new.is_empty()).then(|| Operation::AddElements(name.clone(), new));
    gone.into_iter().chain(new).collect()
}

/// The sets and maps that stay and whose elements change.
fn element_changes(patch: &Patch) -> impl Iterator<Item = (&Name, &BTreeMap<Key, Element>, &BTreeMap<Key, Element>)> {
    patch.sets.iter().filter_map(|(name, change)| match change {
        SetChange::Elements { remove, add } => Some((name, remove, add)),
        _ => None,
    })
}

fn is_map(remove: &BTreeMap<Key, Element>, add: &BTreeMap<Key, Element>) -> bool {
    remove.values().chain(add.values()).any(|element| element.verdict.is_some())
}

/// New objects, each before what refers to it. No packet can reach them yet: base chains come in with the switch.
fn stage(patch: &Patch, transits: &Transits) -> Vec<Operation> {
    let mut stage: Vec<_> = patch.counters.iter().cloned().map(Operation::AddCounter).collect();
    stage.extend(transits.stage_sets());
    let created = || {
        patch.sets.iter().filter_map(|(name, change)| match change {
            SetChange::Create(set) => Some((name, set)),
            _ => None,
        })
    };
    for (name, set) in created() {
        stage.push(Operation::AddSet(name.clone(), set.without_elements()));
    }
    let chains: Vec<_> = new_chains(patch).filter(|(_, chain)| chain.hook.is_none()).collect();
    stage.extend(chains.iter().map(|(name, chain)| add_chain(name, chain)));
    stage.extend(chains.iter().filter_map(|(name, chain)| append(name, transits.rules_of_new(name, chain))));
    // Elements last: those of verdict maps point at chains.
    for (name, set) in created().filter(|(_, set)| !set.elements.is_empty()) {
        stage.push(Operation::AddElements(name.clone(), set.elements.clone()));
    }
    stage
}

/// Deletes objects that nothing refers to: first their contents, which may refer to each other, then the objects.
fn sweep(patch: &Patch) -> Vec<Operation> {
    let gone: Vec<_> = patch.chains.iter().filter(|(_, change)| matches!(change, ChainChange::Delete)).collect();
    let mut sweep: Vec<_> = gone.iter().map(|(name, _)| Operation::FlushChain((*name).clone())).collect();
    let sets = patch.sets.iter().filter(|(_, change)| matches!(change, SetChange::Delete));
    sweep.extend(sets.map(|(name, _)| Operation::DeleteSet(name.clone())));
    sweep.extend(gone.iter().map(|(name, _)| Operation::DeleteChain((*name).clone())));
    sweep
}

/// New base chains with their rules, and new rules of chains that stay. Rules switch with their generation, so the
/// order within the batch does not matter.
fn rule_changes(patch: &Patch, transits: &Transits) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (name, chain) in new_chains(patch).filter(|(_, chain)| chain.hook.is_some()) {
        operations.push(add_chain(name, chain));
        operations.extend(append(name, transits.rules_of_new(name, chain)));
    }
    operations.extend(transits.switch());
    operations
}

fn new_chains(patch: &Patch) -> impl Iterator<Item = (&Name, &Chain)> {
    patch.chains.iter().filter_map(|(name, change)| match change {
        ChainChange::Create(chain) => Some((name, chain)),
        _ => None,
    })
}

fn add_chain(name: &Name, chain: &Chain) -> Operation {
    Operation::AddChain(name.clone(), Chain { rules: Vec::new(), ..chain.clone() })
}

fn append(name: &Name, rules: Vec<Rule>) -> Option<Operation> {
    (!rules.is_empty()).then(|| Operation::AppendRules(name.clone(), rules))
}

fn flush_and_append(name: &Name, rules: Vec<Rule>) -> impl Iterator<Item = Operation> {
    std::iter::once(Operation::FlushChain(name.clone())).chain(append(name, rules))
}

impl Expression {
    /// The set or map in which it looks something up.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Match(_, Test::In(name)) | Self::Lookup(_, name) | Self::Vmap(_, name) => Some(name),
            _ => None,
        }
    }

    /// The same, to change it.
    fn set_mut(&mut self) -> Option<&mut Name> {
        match self {
            Self::Match(_, Test::In(name)) | Self::Lookup(_, name) | Self::Vmap(_, name) => Some(name),
            _ => None,
        }
    }

    /// The chain that it jumps or goes to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Verdict(verdict) => verdict.chain(),
            _ => None,
        }
    }
}

impl Verdict {
    /// The chain that it jumps or goes to.
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(name) | Self::Goto(name) => Some(name),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}
