//! What the table of a predecessor tells: whose an address was.
//!
//! An address that passed from one pod to another while no agent was running may still have flows of its former owner, which
//! would let that one's peers into the new pod. The elements of the table name their owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_policy::index::Index;
use palisade_ruleset::model::{Key, Ruleset};
use palisade_ruleset::name::comment;

/// The addresses that `table` says were somebody else's than `index` says they are.
pub(crate) fn changed_hands(table: &Ruleset, index: &Index) -> BTreeSet<IpAddr> {
    let mut owners: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (key, element) in table.sets.values().flat_map(|set| &set.elements) {
        let (Key::Address(address) | Key::AddressPair(address, _) | Key::AddressPort(address, _)) = key else {
            continue;
        };
        if let Some(owner) = &element.comment {
            owners.insert(*address, owner);
        }
    }
    let is_another = |(address, before): &(IpAddr, &str)| {
        index.owner(*address).is_none_or(|owner| comment(&owner.to_string()) != **before)
    };
    owners.into_iter().filter(is_another).map(|(address, _)| address).collect()
}
