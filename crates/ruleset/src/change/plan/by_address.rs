//! Whether sets may change while rules read them.
//!
//! A flow reads up to four things that can change: the map element of each of its ends, and each end's membership in
//! the sets that the chain of the other end reads. If only one end changes, the order of the batches makes every moment
//! equal to before or after: the map element is restricted to flows that both states allow, and the IP is in its old
//! and new sets at once. If both ends change, a flow could meet the old state of one and the new state of the other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use palisade_policy::input::Family;

use super::super::Patch;
use super::members::is_pair;
use super::{element_changes, is_map};
use crate::model::{Key, KeyType, Ruleset, SetKind};

/// Changes of elements whose key is not an IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Others {
    #[default]
    Stay,
    /// A comment changes.
    Comment,
    /// An element is added or removed, or its verdict changes.
    Change,
}

/// The changes in sets and maps, by IP.
#[derive(Debug, Default)]
pub(in crate::change) struct ByAddress {
    /// IPs whose map elements change.
    maps: BTreeSet<IpAddr>,
    /// IPs that join or leave sets.
    sets: BTreeSet<IpAddr>,
    /// Those of `sets` that a map leads to a chain, before or after.
    judged: BTreeSet<IpAddr>,
    /// IPs of which only a comment or the pair with themselves changes.
    neutral: BTreeSet<IpAddr>,
    /// Changes of keys that are not an IP.
    others: Others,
    /// Elements with an IP and a port are added or removed.
    ports: bool,
    /// Sets only grow, or only shrink.
    one_way: bool,
    /// Map elements change.
    any_map: bool,
}

impl ByAddress {
    /// The changes by `patch`, which leads to `after`.
    pub(in crate::change) fn of(patch: &Patch, after: &Ruleset) -> Self {
        let mut found = Self::default();
        let (mut grows, mut shrinks) = (false, false);
        for (_, gone, new) in element_changes(patch) {
            let is_map = is_map(gone, new);
            found.any_map |= is_map;
            for key in gone.keys().chain(new.keys()) {
                let in_both = gone.contains_key(key) && new.contains_key(key);
                if !is_map && !is_pair(key) && !in_both {
                    grows |= new.contains_key(key);
                    shrinks |= gone.contains_key(key);
                }
                found.add(key, is_map, in_both);
            }
        }
        found.one_way = !(grows && shrinks);
        if found.sets.len() > 1 {
            found.judged = found.sets.iter().filter(|address| found.maps.contains(address)).copied().collect();
            let by_address = |key| matches!(key, KeyType::Address(_));
            let maps = after.sets.values().filter(|set| set.kind == SetKind::VerdictMap && by_address(set.key));
            for map in maps {
                let here = found.sets.iter().filter(|address| map.elements.contains_key(&Key::Address(**address)));
                found.judged.extend(here.copied());
            }
        }
        found
    }

    fn add(&mut self, key: &Key, is_map: bool, in_both: bool) {
        let Some(address) = key.address() else {
            let found = if is_map || !in_both { Others::Change } else { Others::Comment };
            self.others = self.others.max(found);
            return;
        };
        if is_map {
            self.maps.insert(address);
        } else if in_both || is_pair(key) {
            self.neutral.insert(address);
        } else {
            self.sets.insert(address);
            self.ports |= matches!(key, Key::AddressPort(..));
        }
    }

    /// Whether everything may change at once.
    pub(super) fn may_change_at_once(&self) -> bool {
        // Only sets that only grow or only shrink affect verdicts.
        (self.one_way && !self.any_map) || (self.is_by_address() && self.allows(self.maps.iter().chain(&self.sets)))
    }

    /// Whether all changes are by IP. For a named port, the server's IP decides about both ends of a flow. When that IP
    /// is added or removed, such a flow may lose packets for a moment; copying sets for every pod would cost too much.
    /// A change from one owner to another must lose none.
    fn is_by_address(&self) -> bool {
        self.others < Others::Change && (self.one_way || !self.ports)
    }

    /// Every changed IP. None if something else changes too.
    pub(in crate::change) fn addresses(&self) -> Option<impl Iterator<Item = IpAddr>> {
        let all = self.maps.iter().chain(&self.sets).chain(&self.neutral);
        (self.is_by_address() && self.others == Others::Stay).then(|| all.copied())
    }

    /// Whether a map leads packets of this IP to a chain.
    pub(in crate::change) fn is_judged(&self, address: IpAddr) -> bool {
        self.maps.contains(&address) || self.judged.contains(&address)
    }

    /// Whether these IPs may change at once.
    pub(in crate::change) fn allows<'a>(&self, addresses: impl Iterator<Item = &'a IpAddr>) -> bool {
        // Both ends of a flow have the same family.
        let (of_v4, of_v6): (BTreeSet<_>, BTreeSet<_>) =
            addresses.copied().partition(|address| Family::of(*address) == Family::V4);
        [of_v4, of_v6].iter().all(|addresses| {
            let in_sets = || addresses.iter().filter(|address| self.sets.contains(address));
            let in_maps = addresses.iter().any(|address| self.maps.contains(address));
            let changing =
                addresses.iter().filter(|address| self.maps.contains(address) || self.sets.contains(address));
            if in_sets().next().is_none() {
                true
            } else if in_maps {
                changing.count() <= 1
            } else {
                in_sets().filter(|address| self.judged.contains(address)).count() <= 1
            }
        })
    }
}
