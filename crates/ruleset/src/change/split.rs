//! Splits one difference into several, each of which can change its sets in place.
//!
//! While the elements of several IPs change at once, rules read copies of the sets, and each copy costs the kernel
//! about a millisecond if a table has thousands of sets. If only single pods changed, the sets may follow one event
//! after the other instead: the cluster was in each of these states.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::plan::{ByAddress, changes_rules};
use super::{ChainChange, Patch, SetChange};
use crate::model::{Element, Key, Ruleset, Set};
use crate::name::Name;

impl Patch {
    /// Splits the patch into several, to commit one after the other, each without copies of sets. `events` has the IPs
    /// of each event, in order; `after` is the ruleset that the patch leads to. None if such a split is impossible.
    pub fn split(&self, events: &[BTreeSet<IpAddr>], after: &Ruleset) -> Option<Vec<Self>> {
        if changes_rules(self) {
            return None;
        }
        let changes = ByAddress::of(self, after);
        let changed: BTreeSet<_> = changes.addresses()?.collect();
        let known: BTreeSet<_> = events.iter().flatten().copied().collect();
        if !changed.is_subset(&known) || self.mixes_states(&changes, &changed) {
            return None;
        }
        let runs = runs(events, &changes)?;
        let mut parts: Vec<_> = runs.iter().map(|run| self.of_addresses(run)).collect();
        let (first, last) = (self.created(), self.deleted());
        parts.first_mut()?.absorb(first);
        parts.last_mut()?.absorb(last);
        Some(parts)
    }

    /// Whether new or deleted sets, which get or lose all elements at once, would let one judged IP meet another as of
    /// a different moment.
    fn mixes_states(&self, changes: &ByAddress, changed: &BTreeSet<IpAddr>) -> bool {
        let has_changed = |set: &Set| set.elements.keys().filter_map(Key::address).any(|key| changed.contains(&key));
        let mut sets = self.sets.values();
        let hides = sets.any(|change| match change {
            SetChange::Create(set) => has_changed(set),
            SetChange::Delete => true,
            SetChange::Elements { .. } => false,
        });
        hides && changed.iter().filter(|address| changes.is_judged(**address)).count() > 1
    }

    /// The changes of the elements of these IPs.
    fn of_addresses(&self, addresses: &BTreeSet<IpAddr>) -> Self {
        let of = |elements: &BTreeMap<Key, Element>| -> BTreeMap<Key, Element> {
            let own = elements.iter().filter(|(key, _)| key.address().is_some_and(|key| addresses.contains(&key)));
            own.map(|(key, element)| (key.clone(), element.clone())).collect()
        };
        let mut part = Self::default();
        for (name, change) in &self.sets {
            if let SetChange::Elements { remove, add } = change {
                part.put_set(name, SetChange::Elements { remove: of(remove), add: of(add) });
            }
        }
        part
    }

    fn created(&self) -> Self {
        Self { counters: self.counters.clone(), ..self.some(|set| matches!(set, SetChange::Create(_)), is_new) }
    }

    fn deleted(&self) -> Self {
        self.some(|set| matches!(set, SetChange::Delete), |chain| !is_new(chain))
    }

    fn some(&self, sets: impl Fn(&SetChange) -> bool, chains: impl Fn(&ChainChange) -> bool) -> Self {
        fn only<T: Clone>(all: &BTreeMap<Name, T>, wanted: impl Fn(&T) -> bool) -> BTreeMap<Name, T> {
            all.iter().filter(|(_, one)| wanted(one)).map(|(name, one)| (name.clone(), one.clone())).collect()
        }
        Self { counters: BTreeSet::new(), sets: only(&self.sets, sets), chains: only(&self.chains, chains) }
    }

    /// Adds the changes of another patch; no object is in both.
    fn absorb(&mut self, other: Self) {
        self.counters.extend(other.counters);
        self.sets.extend(other.sets);
        self.chains.extend(other.chains);
    }
}

fn is_new(change: &ChainChange) -> bool {
    matches!(change, ChainChange::Create(_))
}

/// Joins events whose IPs may change at once. None if the IPs of a single event may not.
fn runs(events: &[BTreeSet<IpAddr>], changes: &ByAddress) -> Option<Vec<BTreeSet<IpAddr>>> {
    let mut runs: Vec<BTreeSet<IpAddr>> = Vec::new();
    for event in events {
        match runs.last_mut() {
            Some(run) if changes.allows(run.union(event)) => run.extend(event),
            _ if changes.allows(event.iter()) => runs.push(event.clone()),
            _ => return None,
        }
    }
    Some(runs)
}
