//! Keeps a ruleset equal to the compiled policy, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use palisade_policy::compile::{Allowed, Group, PeerSelector};
use palisade_policy::index::{Dirty, NodePolicy};
use palisade_policy::input::{Direction, Family};

use super::Options;
use super::base::{pod_ports, port_elements, skeleton, stray_chains};
use super::elements::{Touched, named, touch_subjects, whole_set};
use super::group::{GroupObjects, render_group};
use super::names::{Names, SetIdentity};
use super::starting::{starting, starting_chain};
use crate::change::{ChainChange, Patch, SetChange, element_changes};
use crate::model::{Key, Ruleset};
use crate::name::Name;

/// The ruleset of a node, and what it was rendered from.
#[derive(Clone, Debug)]
pub struct Renderer {
    options: Options,
    ruleset: Ruleset,
    /// Nothing was rendered yet, not even the skeleton.
    fresh: bool,
    /// The families that local pods have addresses of; the other would only fill chains and sets that no packet meets.
    families: Vec<Family>,
    names: Names,
    groups: BTreeMap<Group, GroupObjects>,
    /// Groups whose objects the kernel refused.
    quarantined: BTreeSet<Group>,
    /// How many groups use each shared set, and each chain or map that is named by its content.
    set_users: BTreeMap<SetIdentity, usize>,
    content_users: BTreeMap<Name, usize>,
    /// The sets that a selector's members are in.
    sets_of: BTreeMap<PeerSelector, BTreeSet<SetIdentity>>,
}

impl Renderer {
    /// A renderer that has rendered nothing: the first patch creates everything.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ruleset: Ruleset::default(),
            fresh: true,
            families: Vec::new(),
            names: Names::default(),
            groups: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            set_users: BTreeMap::new(),
            content_users: BTreeMap::new(),
            sets_of: BTreeMap::new(),
        }
    }

    /// The ruleset as last rendered.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The ruleset as last rendered.
    pub fn into_ruleset(self) -> Ruleset {
        self.ruleset
    }

    /// The ranges that the node gives its pods addresses from, as far as they matter.
    pub fn pod_ranges(&self) -> &BTreeSet<IpNet> {
        &self.options.pod_ranges
    }

    /// Takes what the policies allow out of the groups that brought an object which the kernel refused: their pods stay
    /// isolated and everything else goes on. It ends for a group when its policies change. Returns the groups.
    pub fn quarantine(&mut self, policy: &NodePolicy, object: &Name) -> Vec<Group> {
        let mut names = self.names.clone();
        let mut brought_by = |objects: &GroupObjects| {
            objects.chain_name.as_ref() == Some(object)
                || objects.port_chains.contains_key(object)
                || objects.port_maps.contains_key(object)
                || objects.sets.iter().any(|identity| names.of_set(identity) == *object)
        };
        let brought = self.groups.iter().filter(|(_, objects)| brought_by(objects)).map(|(group, _)| group.clone());
        let groups: Vec<Group> = brought.filter(|group| !self.quarantined.contains(group)).collect();
        self.quarantined.extend(groups.iter().cloned());
        let mut patch = Patch::default();
        self.update_groups(policy, &groups.iter().cloned().collect(), &mut patch);
        patch.apply(&mut self.ruleset);
        groups
    }

    /// Quarantined.
    pub fn quarantined(&self) -> impl Iterator<Item = &Group> {
        self.quarantined.iter()
    }

    /// Ends.
    pub fn end_quarantine(&mut self, policy: &NodePolicy, group: &Group) -> Patch {
        self.quarantined.remove(group);
        let mut patch = Patch::default();
        self.update_groups(policy, &[group.clone()].into(), &mut patch);
        patch.apply(&mut self.ruleset);
        patch
    }

    /// Follows what changed in `policy` and returns the difference.
    pub fn update(&mut self, policy: &NodePolicy, dirty: &Dirty) -> Patch {
        let families = families(policy);
        if families != self.families && !self.groups.is_empty() {
            return self.render_anew(policy, families);
        }
        self.families = families;
        let mut patch = Patch::default();
        self.add_skeleton(&mut patch);
        self.quarantined.retain(|group| !dirty.groups.contains(group));
        let created = self.update_groups(policy, &dirty.groups, &mut patch);
        let mut touched = Touched::new();
        self.update_peers(policy, dirty, &created, &mut touched);
        self.update_named_ports(policy, dirty, &created, &mut touched);
        touch_subjects(&mut self.names, policy, dirty, &mut touched);
        self.put_elements(touched, &mut patch);
        self.update_stray_chains(policy, &mut patch);
        patch.apply(&mut self.ruleset);
        patch
    }

    /// Follows whether isolated pods are starting. To be committed after what [`Renderer::update`] returns: a pod that has got its
    /// address is isolated by that first.
    pub fn update_starting(&mut self, policy: &NodePolicy) -> Patch {
        let mut patch = Patch::default();
        for direction in Direction::ALL {
            let held = policy.starting.values().any(|isolates| isolates.in_direction(direction));
            let (name, chain) = (starting_chain(direction), starting(direction, held));
            if let Some(before) = self.ruleset.chains.get(&name)
                && before.rules != chain.rules
            {
                patch.put_chain(&name, ChainChange::Rules { before: before.rules.clone(), after: chain.rules });
            }
        }
        patch.apply(&mut self.ruleset);
        patch
    }

    /// Sets the ranges that the node gives its pods addresses from: those of the options, once they are known.
    pub fn set_pod_ranges(&mut self, policy: &NodePolicy, ranges: BTreeSet<IpNet>) {
        self.options.pod_ranges = ranges;
        if !self.fresh {
            self.render_anew(policy, families(policy));
        }
    }

    /// Follows the interfaces that pods are behind.
    pub fn update_pod_ports(&mut self, ports: &BTreeSet<String>) -> Patch {
        let mut patch = Patch::default();
        self.options.pod_ports.clone_from(ports);
        if let Some(set) = self.ruleset.sets.get(&pod_ports()) {
            patch.put_set(&pod_ports(), element_changes(&set.elements, &port_elements(ports)));
        }
        patch.apply(&mut self.ruleset);
        patch
    }

    /// A family came or went: every group has other rules. The names are kept, so that objects which stay are the same.
    fn render_anew(&mut self, policy: &NodePolicy, families: Vec<Family>) -> Patch {
        let names = self.names.clone();
        let mut anew = Self { families, names, ..Self::new(self.options.clone()) };
        anew.update(policy, &policy.everything());
        anew.update_starting(policy);
        let ruleset = &anew.ruleset;
        anew.names.retain(|name| ruleset.sets.contains_key(name) || ruleset.chains.contains_key(name));
        // A name stands for one object, and an object's structure follows from what it is: nothing can be incompatible.
        let patch = crate::change::diff(&self.ruleset, &anew.ruleset).unwrap_or_default();
        *self = anew;
        patch
    }

    fn add_skeleton(&mut self, patch: &mut Patch) {
        if !self.fresh {
            return;
        }
        self.fresh = false;
        let skeleton = skeleton(&self.options);
        patch.counters.extend(skeleton.counters);
        for (name, set) in skeleton.sets {
            // Created empty in the patch and filled by what follows.
            self.ruleset.sets.insert(name.clone(), set.clone());
            patch.put_set(&name, SetChange::Create(set));
        }
        for (name, chain) in skeleton.chains {
            patch.put_chain(&name, ChainChange::Create(chain));
        }
    }

    /// Renders the groups that changed. Returns the sets that came with them.
    fn update_groups(
        &mut self,
        policy: &NodePolicy,
        changed: &BTreeSet<Group>,
        patch: &mut Patch,
    ) -> BTreeSet<SetIdentity> {
        let nothing = Allowed::default();
        let (mut used, mut unused) = (Vec::new(), Vec::new());
        for group in changed {
            let old = self.groups.remove(group);
            if let Some(allowed) = policy.groups.get(group) {
                let allowed = if self.quarantined.contains(group) { &nothing } else { allowed };
                let new = render_group(&mut self.names, &self.options, &self.families, group, allowed);
                used.push(new.clone());
                self.groups.insert(group.clone(), new);
            }
            unused.extend(old);
        }
        for objects in &used {
            self.put_group_chain(objects, patch);
        }
        let mut created = BTreeSet::new();
        for objects in &used {
            self.use_objects(objects, patch, policy, &mut created);
        }
        for objects in &unused {
            self.release_objects(objects, patch, &mut created);
        }
        created
    }

    fn put_group_chain(&self, objects: &GroupObjects, patch: &mut Patch) {
        let Some(name) = &objects.chain_name else { return };
        match self.ruleset.chains.get(name) {
            None => patch.put_chain(name, ChainChange::Create(objects.chain.clone())),
            Some(before) if before.rules != objects.chain.rules => {
                let (before, after) = (before.rules.clone(), objects.chain.rules.clone());
                patch.put_chain(name, ChainChange::Rules { before, after });
            }
            Some(_) => {}
        }
    }

    fn use_objects(
        &mut self,
        objects: &GroupObjects,
        patch: &mut Patch,
        policy: &NodePolicy,
        created: &mut BTreeSet<SetIdentity>,
    ) {
        for (name, chain) in &objects.port_chains {
            if gain(&mut self.content_users, name) {
                patch.put_chain(name, ChainChange::Create(chain.clone()));
            }
        }
        for (name, map) in &objects.port_maps {
            if gain(&mut self.content_users, name) {
                patch.put_set(name, SetChange::Create(map.clone()));
            }
        }
        for identity in &objects.sets {
            if gain(&mut self.set_users, identity) {
                if let SetIdentity::Pods(selectors, _) = identity {
                    for selector in selectors {
                        self.sets_of.entry(selector.clone()).or_default().insert(identity.clone());
                    }
                }
                let name = self.names.of_set(identity);
                patch.put_set(&name, SetChange::Create(whole_set(identity, policy)));
                created.insert(identity.clone());
            }
        }
    }

    fn release_objects(&mut self, objects: &GroupObjects, patch: &mut Patch, created: &mut BTreeSet<SetIdentity>) {
        if let Some(name) = &objects.chain_name
            && !self.groups.values().any(|group| group.chain_name.as_ref() == Some(name))
        {
            patch.put_chain(name, ChainChange::Delete);
            self.names.release(name);
        }
        for name in objects.port_chains.keys() {
            if lose(&mut self.content_users, name) {
                self.names.release(name);
                if self.ruleset.chains.contains_key(name) {
                    patch.put_chain(name, ChainChange::Delete);
                } else {
                    patch.chains.remove(name);
                }
            }
        }
        for name in objects.port_maps.keys() {
            if lose(&mut self.content_users, name) {
                self.names.release(name);
                self.delete_set(name, patch);
            }
        }
        for identity in &objects.sets {
            if lose(&mut self.set_users, identity) {
                if let SetIdentity::Pods(selectors, _) = identity {
                    for selector in selectors {
                        if let Some(sets) = self.sets_of.get_mut(selector) {
                            sets.remove(identity);
                            if sets.is_empty() {
                                self.sets_of.remove(selector);
                            }
                        }
                    }
                }
                let name = self.names.of_set(identity);
                self.names.release(&name);
                created.remove(identity);
                self.delete_set(&name, patch);
            }
        }
    }

    fn delete_set(&self, name: &Name, patch: &mut Patch) {
        if self.ruleset.sets.contains_key(name) {
            patch.put_set(name, SetChange::Delete);
        } else {
            patch.sets.remove(name);
        }
    }

    fn update_peers(
        &mut self,
        policy: &NodePolicy,
        dirty: &Dirty,
        created: &BTreeSet<SetIdentity>,
        touched: &mut Touched,
    ) {
        for (selector, addresses) in &dirty.peers {
            let Some(sets) = self.sets_of.get(selector) else { continue };
            for identity in sets.iter().filter(|identity| !created.contains(identity)) {
                let SetIdentity::Pods(selectors, family) = identity else { continue };
                let elements = touched.entry(self.names.of_set(identity)).or_default();
                for address in addresses.iter().filter(|address| Family::of(**address) == *family) {
                    let mut members = selectors.iter().filter_map(|selector| policy.peers.get(selector));
                    let owner = members.find_map(|members| members.get(address));
                    elements.insert(Key::Address(*address), owner.map(named));
                }
            }
        }
    }

    fn update_named_ports(
        &mut self,
        policy: &NodePolicy,
        dirty: &Dirty,
        created: &BTreeSet<SetIdentity>,
        touched: &mut Touched,
    ) {
        for (named_port, keys) in &dirty.named_ports {
            for family in Family::ALL {
                let identity = SetIdentity::NamedPort(named_port.clone(), family);
                if created.contains(&identity) || !self.set_users.contains_key(&identity) {
                    continue;
                }
                let elements = touched.entry(self.names.of_set(&identity)).or_default();
                let ports = policy.named_ports.get(named_port);
                for (address, port) in keys.iter().filter(|(address, _)| Family::of(*address) == family) {
                    let owner = ports.and_then(|ports| ports.get(&(*address, *port)));
                    elements.insert(Key::AddressPort(*address, *port), owner.map(named));
                }
            }
        }
    }

    /// Turns wanted elements into changes against what is there.
    fn put_elements(&self, touched: Touched, patch: &mut Patch) {
        for (name, wanted) in touched {
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

    fn update_stray_chains(&self, policy: &NodePolicy, patch: &mut Patch) {
        let any_starting = !self.options.pod_ranges.is_empty() && !policy.starting.is_empty();
        for (name, chain) in stray_chains(!policy.subjects.is_empty() || any_starting) {
            match self.ruleset.chains.get(&name) {
                None => patch.put_chain(&name, ChainChange::Create(chain)),
                Some(before) if *before != chain => {
                    patch.put_chain(&name, ChainChange::Rules { before: before.rules.clone(), after: chain.rules });
                }
                Some(_) => {}
            }
        }
    }
}

fn families(policy: &NodePolicy) -> Vec<Family> {
    let first6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any4 = policy.local.range(IpAddr::V4(Ipv4Addr::UNSPECIFIED)..first6).next().is_some();
    let any6 = policy.local.range(first6..).next().is_some();
    [(any4, Family::V4), (any6, Family::V6)].into_iter().filter(|(any, _)| *any).map(|(_, family)| family).collect()
}

/// Counts one user more; true if it is the first.
fn gain<K: Ord + Clone>(users: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let count = users.entry(key.clone()).or_default();
    *count += 1;
    *count == 1
}

/// Counts one user less; true if it was the last.
fn lose<K: Ord>(users: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = users.get_mut(key) else { return false };
    *count -= 1;
    if *count == 0 {
        users.remove(key);
        return true;
    }
    false
}
