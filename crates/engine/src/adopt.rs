//! The owners of IPs according to the table of a previous agent.
//!
//! An IP that passed from one pod to another while no agent was running may still have flows of its former owner. They
//! would give the former owner's peers access to the new pod. The elements of the table name their owners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use palisade_policy::index::{Former, Index};
use palisade_policy::input::{Family, Isolates, Kind, NamespacedName};
use palisade_ruleset::model::{Element, Key, Ruleset};
use palisade_ruleset::name::{Name, comment, shared_comment};
use palisade_ruleset::render::{EGRESS_MAPS, INGRESS_MAPS, pods_on_node};

use crate::doubt::Keys;

/// The objects of each kind that the table names and the lists lack, if the first lists would open a pod that the table
/// isolates, or lack more than half of its local pods.
pub(crate) fn contradiction(table: &Ruleset, index: &Index) -> Option<BTreeMap<Kind, Keys>> {
    let (compiled, state) = (index.compiled(), index.state());
    let opened = |maps: [&str; 2], is_isolated: &dyn Fn(IpAddr) -> bool| {
        let maps = maps.into_iter().filter_map(|map| table.sets.get(&Name::new(map)));
        let is_opened = |(key, element): &(&Key, &Element)| {
            let Key::Address(address) = key else { return false };
            let owner = compiled.local.get(address).map(shared_comment);
            owner.is_some() && owner == element.comment && !is_isolated(*address)
        };
        let opened: Vec<_> = maps.flat_map(|map| &map.elements).filter(is_opened).map(|(_, element)| element).collect();
        opened
    };
    let subject = |address| compiled.subjects.get(&address);
    let egress = |address| subject(address).is_some_and(|subject| subject.egress.is_some());
    let ingress = |address| subject(address).is_some_and(|subject| subject.ingress.is_some());
    let opened = [opened(EGRESS_MAPS, &egress), opened(INGRESS_MAPS, &ingress)].concat();
    let local = table.sets.values().flat_map(|set| &set.elements).filter_map(|(key, element)| match key {
        Key::AddressPair(address, _) => Some((address, element)),
        _ => None,
    });
    let (left, gone): (Vec<_>, Vec<_>) = local.partition(|(address, _)| compiled.local.contains_key(address));
    let most_are_gone = gone.len() > left.len();
    if opened.is_empty() && !most_are_gone {
        return None;
    }
    let chains = opened.iter().filter_map(|element| table.chains.get(element.verdict.as_ref()?.chain()?));
    let policies = chains.filter_map(|chain| chain.comment.as_deref()).flat_map(policies);
    let pods = gone.iter().filter(|_| most_are_gone).filter_map(|(_, element)| pod(element.comment.as_deref()?));
    let policies: Keys = policies.filter(|key| !state.policies.contains_key(key)).collect();
    let pods: Keys = pods.filter(|key| !state.pods.contains_key(key)).collect();
    let named = [(Kind::NetworkPolicy, policies), (Kind::Pod, pods)];
    Some(named.into_iter().filter(|(_, keys)| !keys.is_empty()).collect())
}

/// The policies that the comment of a group's chain names.
fn policies(comment: &str) -> impl Iterator<Item = NamespacedName> {
    let (namespace, names) = comment.split_once(": ").unwrap_or_default();
    names.split(", ").filter_map(move |name| named(namespace, name))
}

/// The pod that the comment of an element names.
fn pod(comment: &str) -> Option<NamespacedName> {
    let (namespace, name) = comment.split_once('/')?;
    named(namespace, name)
}

/// The object of this name, if the text is a valid name: comments may be truncated, and other comments name no object.
fn named(namespace: &str, name: &str) -> Option<NamespacedName> {
    let is_name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
    };
    (is_name(namespace) && is_name(name)).then(|| NamespacedName::new(namespace, name))
}

/// The IPs whose owner in `table` differs from that in `index`, with the pods of this node that had them.
pub(crate) fn changed_hands(table: &Ruleset, index: &Index) -> Vec<(IpAddr, Option<Former>)> {
    let mut owners: BTreeMap<IpAddr, (&str, bool)> = BTreeMap::new();
    // Comments name the owner, except those that say how a pod is isolated.
    let isolation = Family::ALL.map(pods_on_node);
    let sets = table.sets.iter().filter(|(name, _)| !isolation.contains(name));
    for (key, element) in sets.flat_map(|(_, set)| &set.elements) {
        let (address, is_local) = match key {
            Key::Address(address) | Key::AddressPort(address, _) => (address, false),
            // The pairs let a pod reach itself: only local pods have one.
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
