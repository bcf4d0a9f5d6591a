//! Added and removed elements of plain sets.

use std::collections::BTreeMap;

use super::super::{Operation, Patch};
use super::{element_changes, exchange, is_map};
use crate::model::{Element, Key};
use crate::name::Name;

type Elements = BTreeMap<Key, Element>;

/// The changes in each plain set: removed elements, and added ones. An element whose comment changes is in both.
pub(super) struct Members<'a>(BTreeMap<&'a Name, (&'a Elements, &'a Elements)>);

impl<'a> Members<'a> {
    /// The changes of all sets except those that let a pod reach itself.
    pub(super) fn of(patch: &'a Patch) -> Self {
        Self::of_sets(patch, |key| !is_pair(key))
    }

    /// The changes of the sets that let a pod reach itself.
    pub(super) fn pairs(patch: &'a Patch) -> Self {
        Self::of_sets(patch, is_pair)
    }

    fn of_sets(patch: &'a Patch, mut meant: impl FnMut(&Key) -> bool) -> Self {
        let sets = element_changes(patch).filter(|(_, gone, new)| !is_map(gone, new));
        let meant = sets.filter(|(_, gone, new)| gone.keys().chain(new.keys()).all(&mut meant));
        Self(meant.map(|(name, gone, new)| (name, (gone, new))).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sets.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Name> {
        self.0.keys().copied()
    }

    /// Adds the new elements.
    pub(super) fn add(&self) -> Vec<Operation> {
        let only_new = |(name, (gone, new)): (&&Name, &(&Elements, &Elements))| {
            exchange(name, Elements::new(), without(new, gone))
        };
        self.0.iter().flat_map(only_new).collect()
    }

    /// Deletes the removed elements, and replaces the changed ones.
    pub(super) fn remove(&self) -> Vec<Operation> {
        let rest = |(name, (gone, new)): (&&Name, &(&Elements, &Elements))| {
            let changed = new.iter().filter(|(key, _)| gone.contains_key(key));
            exchange(name, (*gone).clone(), changed.map(|(key, element)| (key.clone(), element.clone())).collect())
        };
        self.0.iter().flat_map(rest).collect()
    }

    /// All changes at once.
    pub(super) fn replace(&self) -> Vec<Operation> {
        self.0.iter().flat_map(|(name, (gone, new))| exchange(name, (*gone).clone(), (*new).clone())).collect()
    }
}

pub(super) fn is_pair(key: &Key) -> bool {
    matches!(key, Key::AddressPair(..))
}

fn without(elements: &Elements, others: &Elements) -> Elements {
    let rest = elements.iter().filter(|(key, _)| !others.contains_key(key));
    rest.map(|(key, element)| (key.clone(), element.clone())).collect()
}
