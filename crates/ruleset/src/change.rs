//! The difference of two rulesets, and the order in which the kernel may see it.
//!
//! A packet reads the rules of one generation from start to end, but looks set and map elements up live. So a
//! difference reaches the kernel as several batches, each atomic ([`Transaction`]), and before some of them the agent
//! waits until packets in flight have left; the module `plan` says which and why.

mod gates;
mod plan;
mod restricts;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_policy::Pulse;

use crate::model::{Chain, Element, Key, Rule, Ruleset, Set};
use crate::name::Name;
pub use gates::Gates;

/// If a change would copy more sets than this, it is cheaper to change one IP after the other, in place.
const FEW_COPIES: usize = 32;

/// The change of one set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// It is new.
    Create(Set),
    /// It is deleted.
    Delete,
    /// Elements were added and removed. An element whose verdict or comment changed is in both.
    Elements {
        /// Removed elements.
        remove: BTreeMap<Key, Element>,
        /// Added elements.
        add: BTreeMap<Key, Element>,
    },
}

/// The change of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainChange {
    /// It is new.
    Create(Chain),
    /// It is deleted.
    Delete,
    /// Its rules changed.
    Rules {
        /// The rules it had.
        before: Vec<Rule>,
        /// The rules it has now.
        after: Vec<Rule>,
    },
}

/// The difference of two rulesets, by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Counters that are new. Counters are never deleted.
    pub counters: BTreeSet<Name>,
    /// Sets and maps.
    pub sets: BTreeMap<Name, SetChange>,
    /// Chains.
    pub chains: BTreeMap<Name, ChainChange>,
}

/// One operation on the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds a named counter.
    AddCounter(Name),
    /// Adds a set or map without elements.
    AddSet(Name, Set),
    /// Deletes a set or map.
    DeleteSet(Name),
    /// Adds elements to a set or map. `Set` has its key type and kind; ignore the elements in it.
    AddElements(Name, BTreeMap<Key, Element>),
    /// Deletes elements.
    DeleteElements(Name, BTreeMap<Key, Element>),
    /// Adds a chain without rules.
    AddChain(Name, Chain),
    /// Removes all rules of a chain.
    FlushChain(Name),
    /// Deletes a chain, which must be empty and unreferenced.
    DeleteChain(Name),
    /// Appends rules to a chain.
    AppendRules(Name, Vec<Rule>),
}

/// The batches of a difference, in commit order, each with a name for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    batches: Vec<Batch>,
    restricts: bool,
}

/// Operations that take effect together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its effect, in one word.
    pub name: &'static str,
    /// Whether it must wait until no packet in flight has met the table before the last batch.
    pub waits: bool,
    /// The operations, in order.
    pub operations: Vec<Operation>,
}

/// Objects whose structure (key type, kind, comment, hook) differs between two rulesets and cannot be changed in place.
/// The whole table must be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be changed in place", .names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))]
pub struct Incompatible {
    /// The objects.
    pub names: Vec<Name>,
}

/// The patch that turns `old` into `new`.
///
/// # Errors
/// [`Incompatible`] if an object in both differs in a way that the kernel cannot change in place.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Result<Patch, Incompatible> {
    let mut patch = Patch { counters: new.counters.difference(&old.counters).cloned().collect(), ..Patch::default() };
    let mut incompatible = Vec::new();
    for (name, set) in &new.sets {
        match old.sets.get(name) {
            None => patch.put_set(name, SetChange::Create(set.clone())),
            Some(before) if !before.is_like(set) => incompatible.push(name.clone()),
            Some(before) => patch.put_set(name, element_changes(&before.elements, &set.elements)),
        }
    }
    for (name, chain) in &new.chains {
        match old.chains.get(name) {
            Some(before) if before.hook != chain.hook || before.comment != chain.comment => {
                incompatible.push(name.clone());
            }
            _ => patch.put_chain(old, name, chain.clone()),
        }
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(name)) {
        patch.delete_set(old, name);
    }
    for name in old.chains.keys().filter(|name| !new.chains.contains_key(name)) {
        patch.delete_chain(old, name);
    }
    if incompatible.is_empty() { Ok(patch) } else { Err(Incompatible { names: incompatible }) }
}

/// The element changes that turn `old` into `new`.
pub fn element_changes(old: &BTreeMap<Key, Element>, new: &BTreeMap<Key, Element>) -> SetChange {
    let missing_in = |other: &BTreeMap<Key, Element>, key: &Key, element: &Element| other.get(key) != Some(element);
    let of = |from: &BTreeMap<Key, Element>, other: &BTreeMap<Key, Element>| {
        let changed = from.iter().filter(|(key, element)| missing_in(other, key, element));
        changed.map(|(key, element)| (key.clone(), element.clone())).collect()
    };
    SetChange::Elements { remove: of(old, new), add: of(new, old) }
}

impl Set {
    /// The set without its elements.
    fn without_elements(&self) -> Self {
        Self {
            kind: self.kind,
            key: self.key,
            interval: self.interval,
            comment: self.comment.clone(),
            elements: BTreeMap::new(),
        }
    }

    /// Whether it can become `other` by adding and removing elements.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.key == other.key
            && self.interval == other.interval
            && self.comment == other.comment
    }
}

impl Patch {
    /// Records the change of a set, unless no element changed.
    pub(crate) fn put_set(&mut self, name: &Name, change: SetChange) {
        if !matches!(&change, SetChange::Elements { remove, add } if remove.is_empty() && add.is_empty()) {
            self.sets.insert(name.clone(), change);
        }
    }

    /// Records this chain as new or changed, unless `old` already has it as it is.
    pub(crate) fn put_chain(&mut self, old: &Ruleset, name: &Name, chain: Chain) {
        let change = match old.chains.get(name) {
            None => ChainChange::Create(chain),
            Some(before) if before.rules != chain.rules => {
                ChainChange::Rules { before: before.rules.clone(), after: chain.rules }
            }
            Some(_) => return,
        };
        self.chains.insert(name.clone(), change);
    }

    /// Records that the ruleset `old` is not to have this chain, which may be in the patch only.
    pub(crate) fn delete_chain(&mut self, old: &Ruleset, name: &Name) {
        if old.chains.contains_key(name) {
            self.chains.insert(name.clone(), ChainChange::Delete);
        } else {
            self.chains.remove(name);
        }
    }

    /// Records that the ruleset `old` is not to have this set, which may be in the patch only.
    pub(crate) fn delete_set(&mut self, old: &Ruleset, name: &Name) {
        if old.sets.contains_key(name) {
            self.sets.insert(name.clone(), SetChange::Delete);
        } else {
            self.sets.remove(name);
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.sets.is_empty() && self.chains.is_empty()
    }

    /// Applies the patch to the ruleset that it was made for. Changes of missing objects are left out.
    pub fn apply(&self, ruleset: &mut Ruleset) {
        ruleset.counters.extend(self.counters.iter().cloned());
        for (name, change) in &self.sets {
            match change {
                SetChange::Create(set) => {
                    ruleset.sets.insert(name.clone(), set.clone());
                }
                SetChange::Delete => {
                    ruleset.sets.remove(name);
                }
                SetChange::Elements { remove, add } => {
                    if let Some(set) = ruleset.sets.get_mut(name) {
                        for key in remove.keys() {
                            set.elements.remove(key);
                        }
                        set.elements.extend(add.iter().map(|(key, element)| (key.clone(), element.clone())));
                    }
                }
            }
        }
        for (name, change) in &self.chains {
            match change {
                ChainChange::Create(chain) => {
                    ruleset.chains.insert(name.clone(), chain.clone());
                }
                ChainChange::Delete => {
                    ruleset.chains.remove(name);
                }
                ChainChange::Rules { after, .. } => {
                    if let Some(chain) = ruleset.chains.get_mut(name) {
                        chain.rules.clone_from(after);
                    }
                }
            }
        }
    }

    /// The batches that bring the patch to the kernel. `after` is the resulting ruleset.
    pub fn plan(&self, after: &Ruleset) -> Transaction {
        self.plan_with(after, &Pulse::default())
    }

    /// Like [`Patch::plan`], and raises a counter while it works.
    pub fn plan_with(&self, after: &Ruleset, pulse: &Pulse) -> Transaction {
        plan::plan(self, after, pulse)
    }

    /// Like [`Patch::plan_with`], but returns several plans, to commit one after the other, if one plan would copy many
    /// sets and the changes can be split by event.
    pub fn plan_in_order(
        &self,
        events: Option<&[BTreeSet<IpAddr>]>,
        after: &Ruleset,
        pulse: &Pulse,
    ) -> Vec<Transaction> {
        let in_one = || vec![self.plan_with(after, pulse)];
        let copies = plan::copies(self, after);
        if copies <= FEW_COPIES {
            return in_one();
        }
        match events.and_then(|events| self.split(events, after)) {
            Some(parts) if parts.len() <= copies / FEW_COPIES => {
                parts.iter().map(|part| part.plan_with(after, pulse)).collect()
            }
            _ => in_one(),
        }
    }
}

/// Leaves out empty batches.
impl FromIterator<Batch> for Transaction {
    fn from_iter<T: IntoIterator<Item = Batch>>(batches: T) -> Self {
        let batches = batches.into_iter().filter(|batch| !batch.operations.is_empty()).collect();
        Self { batches, restricts: true }
    }
}

impl Transaction {
    /// The batches in order; none is empty.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// The batches in order; none is empty.
    pub fn into_batches(self) -> impl Iterator<Item = Batch> {
        self.batches.into_iter()
    }

    /// Whether it may deny packets that were allowed before.
    pub fn restricts(&self) -> bool {
        self.restricts
    }

    /// The number of operations, elements and rules counted one by one.
    pub fn operations(&self) -> usize {
        self.batches().flat_map(|batch| &batch.operations).map(Operation::weight).sum()
    }
}

impl Operation {
    /// The set, map, chain or counter that the operation changes.
    pub fn object(&self) -> &Name {
        match self {
            Self::AddCounter(name)
            | Self::AddSet(name, _)
            | Self::DeleteSet(name)
            | Self::AddElements(name, _)
            | Self::DeleteElements(name, _)
            | Self::AddChain(name, _)
            | Self::FlushChain(name)
            | Self::DeleteChain(name)
            | Self::AppendRules(name, _) => name,
        }
    }

    /// The number of objects, elements and rules that it changes.
    pub fn weight(&self) -> usize {
        match self {
            Self::AddElements(_, elements) | Self::DeleteElements(_, elements) => elements.len(),
            Self::AppendRules(_, rules) => rules.len(),
            _ => 1,
        }
    }
}
