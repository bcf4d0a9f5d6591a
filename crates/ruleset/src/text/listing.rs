//! The table as a listing with the values of its counters, whole or for one pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Counts, RuleCounts, write_ruleset};
use crate::model::{Element, Key, Ruleset, Verdict};
use crate::name::Name;

/// A table that was read, with the packets and bytes of its counters.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// The table.
    pub ruleset: &'a Ruleset,
    /// Of named counters.
    pub named: &'a BTreeMap<Name, (u64, u64)>,
    /// Of rules, by chain and position.
    pub rules: &'a RuleCounts,
}

impl Listing<'_> {
    /// All of it.
    pub fn whole(&self) -> String {
        self.text(self.ruleset)
    }

    /// The elements of a pod, `namespace/name`, or of an IP, and the chains that they lead to; `None` if there are none.
    pub fn of(&self, pod: &str) -> Option<String> {
        let address: Option<IpAddr> = pod.parse().ok();
        let is_of = |key: &Key, element: &Element| match address {
            Some(address) => is_about(key, address),
            None => element.comment.as_deref() == Some(pod),
        };
        let mut part = Ruleset::default();
        for (name, set) in &self.ruleset.sets {
            let elements = set.elements.iter().filter(|(key, element)| is_of(key, element));
            let elements: BTreeMap<_, _> = elements.map(|(key, element)| (key.clone(), element.clone())).collect();
            if !elements.is_empty() {
                part.sets.insert(name.clone(), crate::model::Set { elements, ..set.clone() });
            }
        }
        if part.sets.is_empty() {
            return None;
        }
        let elements = part.sets.values().flat_map(|set| set.elements.values());
        let chains: BTreeSet<_> = elements
            .filter_map(|element| match &element.verdict {
                Some(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
                _ => None,
            })
            .collect();
        let chains = chains.into_iter().filter_map(|name| Some((name.clone(), self.ruleset.chains.get(name)?.clone())));
        part.chains = chains.collect();
        Some(self.text(&part))
    }

    fn text(&self, ruleset: &Ruleset) -> String {
        let mut text = String::new();
        let counts = Counts { named: Some(self.named), rules: Some(self.rules) };
        // Writing to a String cannot fail.
        write_ruleset(&mut text, ruleset, &counts).ok();
        text
    }
}

/// Whether a key has this address.
fn is_about(key: &Key, address: IpAddr) -> bool {
    match key {
        Key::AddressPair(one, other) => *one == address || *other == address,
        Key::AddressRange(first, last) => (*first..=*last).contains(&address),
        _ => key.address() == Some(address),
    }
}
