//! The elements of sets and maps, from the compiled policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use palisade_policy::index::{Dirty, NodePolicy, Subject};
use palisade_policy::input::{Direction, Family};

use super::names::{Names, SetIdentity, SetKey};
use super::parts::{isolated_any, pod_to_itself, pods_on_node, verdict_map};
use crate::model::{Element, Key, Set, SetKind, Verdict};
use crate::name::Name;

/// Element changes by set, collected before they become a patch.
pub(super) type Touched = BTreeMap<Name, BTreeMap<Key, Option<Element>>>;

/// The elements of local IPs in the maps and sets of the skeleton.
pub(super) fn touch_subjects(names: &mut Names, policy: &NodePolicy, dirty: &Dirty, touched: &mut Touched) {
    for address in &dirty.subjects {
        let family = Family::of(*address);
        let subject = policy.subjects.get(address);
        let isolated = subject.map(|subject| named(&subject.owner));
        touched.entry(isolated_any(family)).or_default().insert(Key::Address(*address), isolated);
        for direction in Direction::ALL {
            let group = subject.and_then(|subject| match direction {
                Direction::Egress => subject.egress.as_ref().map(|group| (subject, group)),
                Direction::Ingress => subject.ingress.as_ref().map(|group| (subject, group)),
            });
            let element = group.map(|(subject, group)| Element {
                verdict: Some(Verdict::Jump(names.of_group(group))),
                comment: named(&subject.owner).comment,
            });
            touched.entry(verdict_map(direction, family)).or_default().insert(Key::Address(*address), element);
        }
        let owner = policy.local.get(address);
        let listed = owner.map(|owner| with_isolation(owner, subject));
        touched.entry(pods_on_node(family)).or_default().insert(Key::Address(*address), listed);
        // Keeps the IP in a chain that allows nothing, so that an agent that adopts the table knows its pod.
        let own = owner.or_else(|| policy.former.get(address)).map(named);
        touched.entry(pod_to_itself(family)).or_default().insert(Key::AddressPair(*address, *address), own);
    }
}

/// A shared set with all its members.
pub(super) fn whole_set(key: &SetKey, policy: &NodePolicy) -> Set {
    let identity = key.identity();
    let elements = match identity {
        SetIdentity::Pods(selectors, family) => {
            // Each member once, before its element is built: many selectors share most of their members.
            let members = selectors.iter().filter_map(|selector| policy.peers.get(selector)).flatten();
            let mut owners = BTreeMap::new();
            for (address, owner) in members.filter(|(address, _)| Family::of(**address) == *family) {
                owners.entry(address).or_insert(owner);
            }
            owners.into_iter().map(|(address, owner)| (Key::Address(*address), named(owner))).collect()
        }
        SetIdentity::NamedPort(named_port, family) => policy
            .named_ports
            .get(named_port)
            .into_iter()
            .flatten()
            .filter(|((address, _), _)| Family::of(*address) == *family)
            .map(|((address, port), owner)| (Key::AddressPort(*address, *port), named(owner)))
            .collect(),
        SetIdentity::Blocks(ranges, _) => {
            ranges.iter().map(|range| (Key::AddressRange(range.first, range.last), Element::default())).collect()
        }
    };
    Set {
        kind: SetKind::Set,
        key: identity.key_type(),
        interval: matches!(identity, SetIdentity::Blocks(..)),
        comment: Some(identity.comment()),
        elements,
    }
}

/// The comment that says how an IP's pod is isolated. The name comes last: only it can be too long.
fn with_isolation(owner: &str, subject: Option<&Subject>) -> Element {
    let isolated = |direction: fn(&Subject) -> bool| subject.is_some_and(direction);
    let isolation = match (isolated(|pod| pod.ingress.is_some()), isolated(|pod| pod.egress.is_some())) {
        (false, false) => "not isolated",
        (true, false) => "isolated for ingress",
        (false, true) => "isolated for egress",
        (true, true) => "isolated for ingress and egress",
    };
    Element { verdict: None, comment: Some(crate::name::comment(&format!("{isolation}: {owner}")).into()) }
}

/// The comment that names an IP's pod.
pub(super) fn named(owner: &Arc<str>) -> Element {
    Element { verdict: None, comment: Some(crate::name::shared_comment(owner)) }
}
