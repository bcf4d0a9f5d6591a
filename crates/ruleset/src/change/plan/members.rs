//! Elements of plain sets that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::{Operation, Patch};
use super::{element_changes, exchange, is_map};
use crate::model::{Element, Key};
use crate::name::Name;

type Elements = BTreeMap<Key, Element>;

/// What changes in each plain set: gone, and new. An element whose comment changes is in both.
pub(super) struct Members<'a>(BTreeMap<&'a Name, (&'a Elements, &'a Elements)>);

impl<'a> Members<'a> {
    /// Those that decide between members of a group and others.
    pub(super) fn of(patch: &'a Patch) -> Self {
        Self::of_sets(patch, |key| !is_pair(key))
    }

    /// Those of the sets by which a pod reaches itself, whatever else changes about it.
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

    /// Whether the sets may change under the rules that read them, while no rule changes.
    pub(super) fn may_change_in_place(&self, patch: &Patch) -> bool {
        let new = || self.0.values().flat_map(|(gone, new)| new.keys().filter(|key| !gone.contains_key(key)));
        let gone = || self.0.values().flat_map(|(gone, new)| gone.keys().filter(|key| !new.contains_key(key)));
        let one_way = new().next().is_none() || gone().next().is_none();
        let maps = element_changes(patch).filter(|(_, gone, new)| is_map(gone, new));
        let mut of_maps = maps.flat_map(|(_, gone, new)| gone.keys().chain(new.keys())).peekable();
        if one_way && of_maps.peek().is_none() {
            // Nobody is judged differently but by sets that only grow or only shrink.
            return true;
        }
        let (mut addresses, mut others, mut ports) = (BTreeSet::new(), false, false);
        for key in new().chain(gone()).chain(of_maps) {
            match key {
                Key::Address(address) => drop(addresses.insert(*address)),
                Key::AddressPort(address, _) => {
                    addresses.insert(*address);
                    ports = true;
                }
                Key::AddressRange(..) | Key::AddressPair(..) | Key::PortRange(..) | Key::InterfaceName(_) => {
                    others = true;
                }
            }
        }
        // No flow has ends of two families.
        let of_v4 = addresses.iter().filter(|address| IpAddr::is_ipv4(address)).count();
        let one_of_each_family = of_v4 <= 1 && addresses.len() - of_v4 <= 1;
        // Both ends of a flow to a named port are judged by the address of the one. When that comes or goes, such a flow may
        // be lost for a moment; to copy sets with every pod would be too dear. It must not change from one to another so.
        let named_ports_may = one_way || !ports;
        (one_of_each_family || self.is_empty()) && !others && named_ports_may
    }

    /// What only comes.
    pub(super) fn add(&self) -> Vec<Operation> {
        let only_new = |(name, (gone, new)): (&&Name, &(&Elements, &Elements))| {
            exchange(name, Elements::new(), without(new, gone))
        };
        self.0.iter().flat_map(only_new).collect()
    }

    /// What goes, and what changes.
    pub(super) fn remove(&self) -> Vec<Operation> {
        let rest = |(name, (gone, new)): (&&Name, &(&Elements, &Elements))| {
            let changed = new.iter().filter(|(key, _)| gone.contains_key(key));
            exchange(name, (*gone).clone(), changed.map(|(key, element)| (key.clone(), element.clone())).collect())
        };
        self.0.iter().flat_map(rest).collect()
    }

    /// All of it at once.
    pub(super) fn replace(&self) -> Vec<Operation> {
        self.0.iter().flat_map(|(name, (gone, new))| exchange(name, (*gone).clone(), (*new).clone())).collect()
    }
}

fn is_pair(key: &Key) -> bool {
    matches!(key, Key::AddressPair(..))
}

fn without(elements: &Elements, others: &Elements) -> Elements {
    let rest = elements.iter().filter(|(key, _)| !others.contains_key(key));
    rest.map(|(key, element)| (key.clone(), element.clone())).collect()
}
