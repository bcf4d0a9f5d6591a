//! Elements of sets that follow the members of selectors and named ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use palisade_policy::index::{Dirty, NodePolicy};
use palisade_policy::input::Family;

use super::Renderer;
use super::elements::{Touched, named};
use super::names::{SetIdentity, SetKey};
use crate::change::{Patch, SetChange};
use crate::model::Key;

impl Renderer {
    pub(super) fn update_peers(
        &mut self,
        policy: &NodePolicy,
        dirty: &Dirty,
        created: &BTreeSet<SetKey>,
        touched: &mut Touched,
    ) {
        // Each set once, however many of its selectors changed.
        let mut concerned: BTreeMap<&SetKey, BTreeSet<IpAddr>> = BTreeMap::new();
        for (selector, addresses) in &dirty.peers {
            let Some(sets) = self.sets_of.get(selector) else { continue };
            for key in sets.iter().filter(|key| !created.contains(key)) {
                concerned.entry(key).or_default().extend(addresses);
            }
        }
        for (key, addresses) in concerned {
            self.pulse.beat();
            let SetIdentity::Pods(selectors, family) = key.identity() else { continue };
            let elements = touched.entry(self.names.of_set(key)).or_default();
            for address in addresses.into_iter().filter(|address| Family::of(*address) == *family) {
                let mut members = selectors.iter().filter_map(|selector| policy.peers.get(selector));
                let owner = members.find_map(|members| members.get(&address));
                elements.insert(Key::Address(address), owner.map(named));
            }
        }
    }

    pub(super) fn update_named_ports(
        &mut self,
        policy: &NodePolicy,
        dirty: &Dirty,
        created: &BTreeSet<SetKey>,
        touched: &mut Touched,
    ) {
        for (named_port, keys) in &dirty.named_ports {
            for family in Family::ALL {
                let key = SetKey::new(SetIdentity::NamedPort(named_port.clone(), family));
                if created.contains(&key) || !self.set_users.contains_key(&key) {
                    continue;
                }
                let elements = touched.entry(self.names.of_set(&key)).or_default();
                let ports = policy.named_ports.get(named_port);
                for (address, port) in keys.iter().filter(|(address, _)| Family::of(*address) == family) {
                    let owner = ports.and_then(|ports| ports.get(&(*address, *port)));
                    elements.insert(Key::AddressPort(*address, *port), owner.map(named));
                }
            }
        }
    }

    /// Turns wanted elements into changes of the current ones.
    pub(super) fn put_elements(&self, touched: Touched, patch: &mut Patch) {
        for (name, wanted) in touched {
            self.pulse.beat();
            let Some(set) = self.ruleset.sets.get(&name) else { continue };
            if let Some(SetChange::Create(new)) = patch.sets.get_mut(&name) {
                new.elements.extend(wanted.into_iter().filter_map(|(key, element)| Some((key, element?))));
                continue;
            }
            let (mut remove, mut add) = (BTreeMap::new(), BTreeMap::new());
            for (key, element) in wanted {
                let before = set.elements.get(&key);
                if before == element.as_ref() {
                    continue;
                }
                if let Some(before) = before {
                    remove.insert(key.clone(), before.clone());
                }
                if let Some(element) = element {
                    add.insert(key, element);
                }
            }
            patch.put_set(&name, SetChange::Elements { remove, add });
        }
    }
}
