//! The order in which the kernel sees a patch. At no moment does a packet pass that both states deny, and none is lost
//! that both allow.
//!
//! A map element for one end of a flow selects a chain, and that chain's sets judge the other end. A packet reads the
//! rules of one generation from start to end (in fact of one parity: two batches later it would read those of the
//! second), but sees sets and maps as they are now. So a patch becomes several batches, one for each [`Step`], and the
//! agent waits for packets in flight before some of them ([`Step::waits`]): no packet combines more than two
//! neighbouring states. The [`Strategy`] decides how the elements change.

mod by_address;
mod members;
mod scratch;
mod stage;

use std::collections::BTreeMap;

use palisade_policy::Pulse;

use super::{Batch, ChainChange, Operation, Patch, SetChange, Transaction};
use crate::model::{Chain, Element, Expression, Key, Rule, Ruleset, Test, Verdict};
use crate::name::Name;
pub(super) use by_address::ByAddress;
use members::Members;
use scratch::Scratch;

/// The batches of a transaction, in commit order. Empty ones are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// New sets, maps and chains, which nothing refers to yet; pods that may reach themselves.
    Stage,
    /// Changing map elements point to a chain where the old *and* the new one must allow. Without this, a packet's
    /// egress could be judged by an old map element and its ingress by a new one.
    Restrict,
    /// An IP that moves between sets is added to its new ones.
    Widen,
    /// Elements leave sets, rules change.
    Switch,
    /// Map elements get their final verdicts.
    Finish,
    /// Sets that are read through copies get their elements.
    Backfill,
    /// Rules read these sets directly again.
    Unshadow,
    /// Unused objects are deleted, and the entries of pods that are gone.
    Sweep {
        /// Pods that are gone cannot reach themselves any more.
        expels: bool,
    },
}

impl Step {
    /// Its name in errors.
    fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Restrict => "restrict",
            Self::Widen => "widen",
            Self::Switch => "switch",
            Self::Finish => "finish",
            Self::Backfill => "backfill",
            Self::Unshadow => "unshadow",
            Self::Sweep { .. } => "sweep",
        }
    }

    /// Whether the agent waits for packets in flight first: a packet that read the state before the last batch must not
    /// meet the effect of this one. (It also waits before the first batch of every transaction.)
    fn waits(self) -> bool {
        match self {
            // Nothing refers to what is staged, and copies equal their sets when these are read again. A packet that
            // finds its pod isolated finds later that the pod may reach itself: that was staged.
            Self::Stage | Self::Restrict | Self::Unshadow => false,
            // Nothing refers to objects that are swept. A packet that found its pod isolated may still have to find
            // that the pod may reach itself.
            Self::Sweep { expels } => expels,
            Self::Widen | Self::Switch | Self::Finish | Self::Backfill => true,
        }
    }

    fn batch(self, operations: Vec<Operation>) -> Batch {
        Batch { name: self.name(), waits: self.waits(), operations }
    }
}

/// How the elements of existing sets and maps change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// All in the switch, if only elements of one map change. Each packet finds the old or the new element.
    OneBatch,
    /// While rules read them, if one IP leaves sets and joins others. That takes two batches: the affected flows have
    /// this IP at one end, and the restricted verdict belongs to the other end.
    InPlace,
    /// All larger changes: rules switch to copies of the sets that have the new elements, and back when the sets have
    /// them too.
    ThroughCopies,
}

impl Strategy {
    fn of(patch: &Patch, after: &Ruleset, members: &Members<'_>) -> Self {
        if changes_rules(patch) || !ByAddress::of(patch, after).may_change_at_once() {
            return Self::ThroughCopies;
        }
        if members.is_empty() && changed_maps(patch).count() <= 1 { Self::OneBatch } else { Self::InPlace }
    }
}

/// The batches of `patch`, which leads to `after`.
pub(super) fn plan(patch: &Patch, after: &Ruleset, pulse: &Pulse) -> Transaction {
    let members = Members::of(patch);
    match Strategy::of(patch, after, &members) {
        Strategy::OneBatch => one_batch(patch),
        Strategy::InPlace => in_place(patch, &members),
        Strategy::ThroughCopies => through_copies(patch, after, &members, pulse),
    }
    .into_iter()
    .collect::<Transaction>()
    .restricting(patch.restricts())
}

fn one_batch(patch: &Patch) -> Vec<Batch> {
    let scratch = Scratch::default();
    let mut batches = stage::batches(patch, &scratch);
    batches.extend([Step::Switch.batch(map_changes(patch).flatten().collect()), sweep(patch, &scratch)]);
    batches
}

fn in_place(patch: &Patch, members: &Members<'_>) -> Vec<Batch> {
    let mut scratch = Scratch::default();
    let at_once = restrict(&mut scratch, patch);
    let mut batches = stage::batches(patch, &scratch);
    batches.extend([
        Step::Restrict.batch(scratch.restricted()),
        Step::Widen.batch(members.add()),
        Step::Switch.batch([members.remove(), at_once].concat()),
        Step::Finish.batch(scratch.finished()),
        sweep(patch, &scratch),
    ]);
    batches
}

fn through_copies(patch: &Patch, after: &Ruleset, members: &Members<'_>, pulse: &Pulse) -> Vec<Batch> {
    let mut scratch = Scratch::default();
    scratch.copy_sets(patch, after, members, pulse);
    let at_once = restrict(&mut scratch, patch);
    let mut batches = stage::batches(patch, &scratch);
    batches.extend([
        Step::Restrict.batch(scratch.restricted()),
        Step::Switch.batch([rule_changes(patch, &scratch), at_once].concat()),
        Step::Finish.batch(scratch.finished()),
        Step::Backfill.batch(members.replace()),
        Step::Unshadow.batch(scratch.unshadow(after)),
        sweep(patch, &scratch),
    ]);
    batches
}

/// Restricts changing map elements. Returns the changes of those that cannot be restricted: only chains that elements
/// jump to can be combined.
fn restrict(scratch: &mut Scratch, patch: &Patch) -> Vec<Operation> {
    if all_jump(patch) {
        scratch.restrict(patch);
        return Vec::new();
    }
    map_changes(patch).flatten().collect()
}

/// The number of sets that are read through copies during the transaction.
pub(super) fn copies(patch: &Patch, after: &Ruleset) -> usize {
    let members = Members::of(patch);
    match Strategy::of(patch, after, &members) {
        Strategy::OneBatch | Strategy::InPlace => 0,
        Strategy::ThroughCopies => members.sets().count(),
    }
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
    changed_maps(patch).all(|(_, remove, add)| remove.values().chain(add.values()).all(jumps))
}

/// The changes of map elements, by map.
fn map_changes(patch: &Patch) -> impl Iterator<Item = Vec<Operation>> {
    changed_maps(patch).map(|(map, remove, add)| exchange(map, remove.clone(), add.clone()))
}

/// Replaces elements of a set or map.
fn exchange(name: &Name, gone: BTreeMap<Key, Element>, new: BTreeMap<Key, Element>) -> Vec<Operation> {
    let gone = (!gone.is_empty()).then(|| Operation::DeleteElements(name.clone(), gone));
    let new = (!new.is_empty()).then(|| Operation::AddElements(name.clone(), new));
    gone.into_iter().chain(new).collect()
}

/// The elements that a set or map loses and gains.
pub(super) type Changed<'a> = (&'a Name, &'a BTreeMap<Key, Element>, &'a BTreeMap<Key, Element>);

/// The existing maps whose elements change.
fn changed_maps(patch: &Patch) -> impl Iterator<Item = Changed<'_>> {
    element_changes(patch).filter(|(_, remove, add)| is_map(remove, add))
}

/// The existing sets and maps whose elements change.
pub(super) fn element_changes(patch: &Patch) -> impl Iterator<Item = Changed<'_>> {
    patch.sets.iter().filter_map(|(name, change)| match change {
        SetChange::Elements { remove, add } => Some((name, remove, add)),
        _ => None,
    })
}

pub(super) fn is_map(remove: &BTreeMap<Key, Element>, add: &BTreeMap<Key, Element>) -> bool {
    remove.values().chain(add.values()).any(|element| element.verdict.is_some())
}

/// Deletes objects that nothing refers to: first their contents, which may refer to each other, then the objects.
fn sweep(patch: &Patch, scratch: &Scratch) -> Batch {
    let mut sweep = Members::pairs(patch).remove();
    let step = Step::Sweep { expels: !sweep.is_empty() };
    sweep.extend(scratch.sweep());
    let gone: Vec<_> = patch.chains.iter().filter(|(_, change)| matches!(change, ChainChange::Delete)).collect();
    sweep.extend(gone.iter().map(|(name, _)| Operation::FlushChain((*name).clone())));
    let sets = patch.sets.iter().filter(|(_, change)| matches!(change, SetChange::Delete));
    sweep.extend(sets.map(|(name, _)| Operation::DeleteSet(name.clone())));
    sweep.extend(gone.iter().map(|(name, _)| Operation::DeleteChain((*name).clone())));
    step.batch(sweep)
}

/// New base chains with their rules, and new rules of existing chains. Rules take effect with their generation, so the
/// order within the batch does not matter.
fn rule_changes(patch: &Patch, scratch: &Scratch) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (name, chain) in new_chains(patch).filter(|(_, chain)| chain.hook.is_some()) {
        operations.push(add_chain(name, chain));
        operations.extend(append(name, scratch.rules_of_new(name, chain)));
    }
    operations.extend(scratch.switch());
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
    /// The set or map that it looks up.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::Match(_, Test::In(name)) | Self::Lookup(_, name) | Self::Vmap(_, name) => Some(name),
            _ => None,
        }
    }

    /// Like [`Expression::set`], but mutable.
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
