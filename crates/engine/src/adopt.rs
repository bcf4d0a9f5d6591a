//! What the table of a predecessor tells: whose an address was.
//!
//! An address that passed from one pod to another while no agent was running may still have flows of its former owner, which
//! would let that one's peers into the new pod. The elements of the table name their owners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_policy::index::{Former, Index};
use palisade_policy::input::Isolates;
use palisade_ruleset::model::{Key, Ruleset};
use palisade_ruleset::name::{Name, comment};
use palisade_ruleset::render::{EGRESS_MAPS, INGRESS_MAPS};

/// Whether the first lists would open a pod that the table of a predecessor isolates, or lack more than half of its pods.
pub(crate) fn contradicts(table: &Ruleset, index: &Index) -> bool {
    let compiled = index.compiled();
    let opens = |maps: [&str; 2], is_isolated: &dyn Fn(IpAddr) -> bool| {
        let maps = maps.into_iter().filter_map(|map| table.sets.get(&Name::new(map)));
        maps.flat_map(|map| &map.elements).any(|(key, element)| {
            let Key::Address(address) = key else { return false };
            let owner = compiled.local.get(address).map(|owner| comment(owner));
            owner.is_some() && owner == element.comment && !is_isolated(*address)
        })
    };
    let subject = |address| compiled.subjects.get(&address);
    let egress = |address| subject(address).is_some_and(|subject| subject.egress.is_some());
    let ingress = |address| subject(address).is_some_and(|subject| subject.ingress.is_some());
    let local = table.sets.values().flat_map(|set| set.elements.keys()).filter_map(|key| match key {
        Key::AddressPair(address, _) => Some(*address),
        _ => None,
    });
    let (left, gone): (Vec<_>, Vec<_>) = local.partition(|address| compiled.local.contains_key(address));
    opens(EGRESS_MAPS, &egress) || opens(INGRESS_MAPS, &ingress) || gone.len() > left.len()
}

/// The addresses that `table` says were somebody else's than `index` says they are, and the pods of this node that had them.
pub(crate) fn changed_hands(table: &Ruleset, index: &Index) -> Vec<(IpAddr, Option<Former>)> {
    let mut owners: BTreeMap<IpAddr, (&str, bool)> = BTreeMap::new();
    for (key, element) in table.sets.values().flat_map(|set| &set.elements) {
        let (address, is_local) = match key {
            Key::Address(address) | Key::AddressPort(address, _) => (address, false),
            // A pod may reach itself: only a local one is named so.
            Key::AddressPair(address, _) => (address, true),
            Key::AddressRange(..) | Key::PortRange(..) | Key::InterfaceName(_) => continue,
        };
        if let Some(owner) = &element.comment {
            let known = owners.entry(*address).or_insert((owner, is_local));
            known.1 |= is_local;
        }
    }
    let is_another = |(address, (before, _)): &(IpAddr, (&str, bool))| {
        index.owner_name(*address).is_none_or(|owner| comment(owner) != **before)
    };
    let isolated = |maps: [&str; 2], address| {
        let maps = maps.into_iter().filter_map(|map| table.sets.get(&Name::new(map)));
        maps.flat_map(|map| map.elements.keys()).any(|key| *key == Key::Address(address))
    };
    let former = |(address, (name, is_local)): (IpAddr, (&str, bool))| {
        let isolates = || Isolates { egress: isolated(EGRESS_MAPS, address), ingress: isolated(INGRESS_MAPS, address) };
        (address, is_local.then(|| Former::gone(name, isolates())))
    };
    owners.into_iter().filter(is_another).map(former).collect()
}
