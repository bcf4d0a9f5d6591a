//! Sets other than peer sets that decide about a flow's packets.
//!
//! If both kinds change for a flow, its packets could meet the old state of one and the new state of the other, and
//! pass although neither state allows them. So a change that closes such a set is committed before peers are added, and
//! a change that opens it after peers are removed.

use std::collections::BTreeMap;

use super::{Patch, SetChange};
use crate::model::Element;
use crate::name::Name;

/// The sets, by the meaning of an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// Packets of IPs in these sets pass; those of other IPs may be dropped.
    pub admit: Vec<Name>,
    /// Packets of IPs in these sets may be dropped; those of other IPs pass. These sets are looked up last, so a packet
    /// that has found peers also finds an IP that was added together with them.
    pub bar: Vec<Name>,
}

impl Patch {
    /// Splits the patch into patches to commit one after the other.
    pub fn around(mut self, gates: &Gates) -> Vec<Self> {
        let (opens, closes) = self.peers_change(gates);
        let (mut first, mut last) = (Self::default(), Self::default());
        for name in &gates.admit {
            if opens {
                self.move_elements(name, Which::Gone, &mut first);
            }
            if closes {
                self.move_elements(name, Which::New, &mut last);
            }
        }
        for name in gates.bar.iter().filter(|_| closes) {
            self.move_elements(name, Which::Gone, &mut last);
        }
        [first, self, last].into_iter().filter(|patch| !patch.is_empty()).collect()
    }

    /// Whether sets other than gates gain elements, and whether they lose any.
    fn peers_change(&self, gates: &Gates) -> (bool, bool) {
        let is_gate = |name: &Name| gates.admit.contains(name) || gates.bar.contains(name);
        let sets = self.sets.iter().filter(|(name, _)| !is_gate(name));
        let elements = sets.filter_map(|(_, change)| match change {
            SetChange::Elements { remove, add } if !remove.values().chain(add.values()).any(is_verdict) => {
                Some((add.keys().any(|key| !remove.contains_key(key)), remove.keys().any(|key| !add.contains_key(key))))
            }
            _ => None,
        });
        let both = |found: (bool, bool), set: (bool, bool)| (found.0 | set.0, found.1 | set.1);
        elements.fold((false, false), both)
    }

    fn move_elements(&mut self, name: &Name, which: Which, to: &mut Self) {
        let Some(SetChange::Elements { remove, add }) = self.sets.get_mut(name) else { return };
        let (from, other) = match which {
            Which::Gone => (&mut *remove, &mut *add),
            Which::New => (&mut *add, &mut *remove),
        };
        let moved = from.extract_if(.., |key, _| !other.contains_key(key)).collect();
        if remove.is_empty() && add.is_empty() {
            self.sets.remove(name);
        }
        let (remove, add) = match which {
            Which::Gone => (moved, BTreeMap::new()),
            Which::New => (BTreeMap::new(), moved),
        };
        to.put_set(name, SetChange::Elements { remove, add });
    }
}

/// Removed or added elements.
#[derive(Clone, Copy)]
enum Which {
    Gone,
    New,
}

fn is_verdict(element: &Element) -> bool {
    element.verdict.is_some()
}
