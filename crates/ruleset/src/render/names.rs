//! Names are functions of what an object is, never of its members; two objects never share one.

use std::collections::BTreeMap;
use std::fmt;

use palisade_policy::compile::{AddressRange, Group, NamedPort, PeerSelector};
use palisade_policy::input::Family;

use crate::model::KeyType;
use crate::name::{Name, comment, hash};

/// What a set is: the key that it is shared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SetIdentity {
    /// The addresses of the pods that any of these selectors selects.
    Pods(Vec<PeerSelector>, Family),
    /// Where a named port leads, on every pod that declares it.
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

    /// The name it has while no other object has it.
    fn name(&self) -> String {
        match self {
            Self::Pods(selectors, family) => format!("pods/{}/{}", hash(&format!("{selectors:?}")), family.digit()),
            Self::NamedPort(NamedPort { name, protocol }, family) => {
                format!("named-ports/{name}-{}/{}", protocol.name(), family.digit())
            }
            Self::Blocks(ranges, family) => format!("cidrs/{}/{}", hash(&format!("{ranges:?}")), family.digit()),
        }
    }

    /// What it is in words.
    pub(super) fn comment(&self) -> String {
        match self {
            Self::Pods(selectors, _) => comment(&join(selectors, "; ")),
            Self::NamedPort(NamedPort { name, protocol }, _) => {
                comment(&format!("port {name} ({protocol}) of the pods that declare it"))
            }
            Self::Blocks(ranges, _) => comment(&join(&ranges.iter().map(describe).collect::<Vec<_>>(), ", ")),
        }
    }
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
        Group::ClaimedTwice(direction) => format!("{direction}/claimed-twice"),
    }
}

/// What a group's chain is in words.
pub(super) fn group_comment(group: &Group) -> String {
    match group {
        Group::Policies { namespace, policies, .. } => comment(&format!("{namespace}: {}", join(policies, ", "))),
        Group::ClaimedTwice(_) => "addresses that two live pods claim".to_owned(),
    }
}

/// Which object has which name. Names end in 48 bits of a hash, which somebody may bring to collide on purpose; then the
/// later object gets a name with a longer one.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    by_identity: BTreeMap<String, Name>,
    taken: BTreeMap<Name, String>,
}

impl Names {
    pub(super) fn of_set(&mut self, identity: &SetIdentity) -> Name {
        self.assign(format!("{identity:?}"), || identity.name())
    }

    pub(super) fn of_group(&mut self, group: &Group) -> Name {
        self.assign(format!("{group:?}"), || group_name(group))
    }

    /// The name of a chain or map that is nothing but its content.
    pub(super) fn of_content(&mut self, head: &str, content: String) -> Name {
        let digits = hash(&content);
        self.assign(content, || format!("{head}/{digits}"))
    }

    fn assign(&mut self, identity: String, make: impl FnOnce() -> String) -> Name {
        if let Some(name) = self.by_identity.get(&identity) {
            return name.clone();
        }
        let readable = make();
        let mut name = Name::new(&readable);
        let mut round = 0;
        while self.taken.contains_key(&name) {
            round += 1;
            name = Name::new(&format!("{readable}/{}{}", hash(&format!("{round}{identity}")), hash(&identity)));
        }
        self.taken.insert(name.clone(), identity.clone());
        self.by_identity.insert(identity, name.clone());
        name
    }

    /// The object of this name is gone.
    pub(super) fn release(&mut self, name: &Name) {
        if let Some(identity) = self.taken.remove(name) {
            self.by_identity.remove(&identity);
        }
    }

    /// Forgets the names that are not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.taken.retain(|name, _| wanted(name));
        self.by_identity.retain(|_, name| wanted(name));
    }
}
