//! Names of objects: they depend only on what an object is, never on its members, and two objects never share one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use palisade_policy::compile::{AddressRange, Group, NamedPort, PeerSelector};
use palisade_policy::input::Family;

use super::words;
use crate::model::KeyType;
use crate::name::{Digested, Name, comment, hash};

/// The identity of a set; groups that need the same one share the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SetIdentity {
    /// The IPs of the pods that any of these selectors selects.
    Pods(Vec<Arc<PeerSelector>>, Family),
    /// The IPs and ports of a named port, on every pod that declares it.
    NamedPort(NamedPort, Family),
    /// Ranges of addresses, disjoint and in order.
    Blocks(Vec<AddressRange>, Family),
}

impl SetIdentity {
    pub(super) fn key_type(&self) -> KeyType {
        match self {
            Self::Pods(_, family) | Self::Blocks(_, family) => KeyType::Address(*family),
            Self::NamedPort(_, family) => KeyType::AddressPort(*family),
        }
    }

    /// Its name while no other object has that name.
    fn name(&self) -> String {
        match self {
            Self::Pods(selectors, family) => {
                let words = match selectors.as_slice() {
                    [selector] => words::of_selector(selector),
                    several => format!("{}-selectors", several.len()),
                };
                format!("pods/{words}/{}/{}", hash(&join(selectors, "; ")), family.digit())
            }
            Self::NamedPort(NamedPort { name, protocol }, family) => {
                format!("named-ports/{name}-{}/{}", protocol.name(), family.digit())
            }
            Self::Blocks(ranges, family) => {
                format!("cidrs/{}-ranges/{}/{}", ranges.len(), hash(&listed(ranges)), family.digit())
            }
        }
    }

    /// Its description.
    pub(super) fn comment(&self) -> String {
        match self {
            Self::Pods(selectors, _) => comment(&format!("{}; empty: no such pod", join(selectors, "; "))),
            Self::NamedPort(NamedPort { name, protocol }, _) => {
                comment(&format!("port {name} ({protocol}) of the pods that declare it; empty: none does"))
            }
            Self::Blocks(ranges, _) => comment(&listed(ranges)),
        }
    }
}

/// A set's identity with its preferred name. Identities may be large, so they are shared, and compared by name first.
#[derive(Clone, Debug)]
pub(super) struct SetKey(Arc<(String, SetIdentity)>);

impl SetKey {
    pub(super) fn new(identity: SetIdentity) -> Self {
        Self(Arc::new((identity.name(), identity)))
    }

    pub(super) fn identity(&self) -> &SetIdentity {
        &self.0.1
    }
}

impl Ord for SetKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for SetKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SetKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SetKey {}

fn listed(ranges: &[AddressRange]) -> String {
    join(&ranges.iter().map(describe).collect::<Vec<_>>(), ", ")
}

fn describe(range: &AddressRange) -> String {
    range.as_net().map_or_else(|| format!("{}-{}", range.first, range.last), |net| net.to_string())
}

fn join<T: fmt::Display>(items: &[T], separator: &str) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

/// The name of a group's chain: direction, namespace, policies.
fn group_name(group: &Group) -> String {
    match group {
        Group::Policies { direction, namespace, policies } => {
            format!("{direction}/{namespace}/{}", join(policies, "_"))
        }
        Group::DuplicateIp(direction) => format!("{direction}/duplicate-ip"),
        Group::Held(direction) => format!("{direction}/reused-ip"),
    }
}

/// The description of a group's chain.
pub(super) fn group_comment(group: &Group) -> String {
    match group {
        Group::Policies { namespace, policies, .. } => comment(&format!("{namespace}: {}", join(policies, ", "))),
        Group::DuplicateIp(_) => "IPs that two live pods have".to_owned(),
        Group::Held(_) => "IPs that changed hands: flows of the former pod are still being deleted".to_owned(),
    }
}

/// The owner of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Set(SetKey),
    Group(Group),
    /// A chain or map that is identified by its content.
    Content(Digested),
}

impl Identity {
    /// The description that distinguishes it from all others.
    fn text(&self) -> String {
        match self {
            Self::Set(key) => format!("{:?}", key.identity()),
            Self::Group(group) => format!("{group:?}"),
            Self::Content(digest) => format!("{digest:?}"),
        }
    }
}

/// The name of each object. Names end in 48 bits of a hash, and an attacker may provoke a collision; then the later
/// object gets a name with a longer hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    sets: BTreeMap<SetKey, Name>,
    groups: BTreeMap<Group, Name>,
    contents: BTreeMap<Digested, Name>,
    taken: BTreeMap<Name, Identity>,
}

impl Names {
    pub(super) fn of_set(&mut self, key: &SetKey) -> Name {
        if let Some(name) = self.sets.get(key) {
            return name.clone();
        }
        let name = self.assign(Identity::Set(key.clone()), &key.0.0);
        self.sets.insert(key.clone(), name.clone());
        name
    }

    pub(super) fn of_group(&mut self, group: &Group) -> Name {
        if let Some(name) = self.groups.get(group) {
            return name.clone();
        }
        let name = self.assign(Identity::Group(group.clone()), &group_name(group));
        self.groups.insert(group.clone(), name.clone());
        name
    }

    /// The name of a chain or map that is identified by its content.
    pub(super) fn of_content(&mut self, head: &str, content: impl fmt::Display) -> Name {
        let digest = Digested::of(format_args!("{head} {content}"));
        if let Some(name) = self.contents.get(&digest) {
            return name.clone();
        }
        let name = self.assign(Identity::Content(digest), &format!("{head}/{}", digest.digits()));
        self.contents.insert(digest, name.clone());
        name
    }

    fn assign(&mut self, identity: Identity, readable: &str) -> Name {
        let mut name = Name::new(readable);
        let mut round = 0;
        while self.taken.contains_key(&name) {
            round += 1;
            let text = identity.text();
            name = Name::new(&format!("{readable}/{}{}", hash(&format!("{round}{text}")), hash(&text)));
        }
        self.taken.insert(name.clone(), identity);
        name
    }

    /// The object with this name.
    pub(super) fn identity(&self, name: &Name) -> Option<&Identity> {
        self.taken.get(name)
    }

    /// Frees the name of a deleted object.
    pub(super) fn release(&mut self, name: &Name) {
        match self.taken.remove(name) {
            Some(Identity::Set(key)) => drop(self.sets.remove(&key)),
            Some(Identity::Group(group)) => drop(self.groups.remove(&group)),
            Some(Identity::Content(digest)) => drop(self.contents.remove(&digest)),
            None => {}
        }
    }

    /// Frees the names that are no longer wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        let gone: Vec<_> = self.taken.keys().filter(|name| !wanted(name)).cloned().collect();
        gone.iter().for_each(|name| self.release(name));
    }
}

#[cfg(test)]
mod tests;
