//! The objects of groups, some of them shared.

use std::collections::BTreeSet;
use std::sync::Arc;

use palisade_policy::compile::{Allowed, Group};
use palisade_policy::index::NodePolicy;

use super::Renderer;
use super::elements::whole_set;
use super::group::{GroupObjects, render_group};
use super::names::{Identity, SetIdentity, SetKey};
use crate::change::{Patch, SetChange};
use crate::name::Name;

/// The names of a group's objects; the objects themselves are in the ruleset.
#[derive(Clone, Debug)]
pub(super) struct Brought {
    chain: Name,
    port_chains: BTreeSet<Name>,
    port_maps: BTreeSet<Name>,
    sets: BTreeSet<SetKey>,
}

/// Whether this name is one of the group's objects.
pub(super) fn brought_by(group: &Group, brought: &Brought, identity: &Identity, object: &Name) -> bool {
    match identity {
        Identity::Group(named) => named == group,
        Identity::Set(key) => brought.sets.contains(key),
        Identity::Content(_) => brought.port_chains.contains(object) || brought.port_maps.contains(object),
    }
}

impl Renderer {
    /// Renders the groups that changed. Returns the sets created for them.
    pub(super) fn update_groups(
        &mut self,
        policy: &NodePolicy,
        changed: &BTreeSet<Group>,
        patch: &mut Patch,
    ) -> BTreeSet<SetKey> {
        let nothing = Allowed::default();
        let (mut used, mut unused) = (Vec::new(), Vec::new());
        for group in changed {
            self.pulse.beat();
            let old = self.groups.remove(group);
            let stays = policy.groups.get(group);
            unused.extend(old.map(|old| (old, stays.is_some())));
            if let Some(allowed) = stays {
                let allowed = if self.quarantined.contains(group) { &nothing } else { allowed };
                let new = render_group(&mut self.names, &self.options, &self.families, &self.pulse, group, allowed);
                used.push((group, new));
            }
        }
        let mut created = BTreeSet::new();
        for (group, objects) in used {
            self.pulse.beat();
            let brought = self.use_objects(objects, patch, policy, &mut created);
            self.groups.insert(group.clone(), brought);
        }
        for (old, stays) in &unused {
            self.pulse.beat();
            self.release_objects(old, *stays, patch, &mut created);
        }
        created
    }

    fn use_objects(
        &mut self,
        objects: GroupObjects,
        patch: &mut Patch,
        policy: &NodePolicy,
        created: &mut BTreeSet<SetKey>,
    ) -> Brought {
        patch.put_chain(&self.ruleset, &objects.chain_name, objects.chain);
        let port_chains: BTreeSet<_> = objects.port_chains.keys().cloned().collect();
        for (name, chain) in objects.port_chains {
            if self.content_users.gain(&name) {
                patch.put_chain(&self.ruleset, &name, chain);
            }
        }
        let port_maps: BTreeSet<_> = objects.port_maps.keys().cloned().collect();
        for (name, map) in objects.port_maps {
            if self.content_users.gain(&name) {
                patch.put_set(&name, SetChange::Create(map));
            }
        }
        for key in &objects.sets {
            if self.set_users.gain(key) {
                self.pulse.beat();
                if let SetIdentity::Pods(selectors, _) = key.identity() {
                    for selector in selectors {
                        self.sets_of.entry(Arc::clone(selector)).or_default().insert(key.clone());
                    }
                }
                let name = self.names.of_set(key);
                patch.put_set(&name, SetChange::Create(whole_set(key, policy)));
                created.insert(key.clone());
            }
        }
        Brought { chain: objects.chain_name, port_chains, port_maps, sets: objects.sets }
    }

    fn release_objects(&mut self, brought: &Brought, stays: bool, patch: &mut Patch, created: &mut BTreeSet<SetKey>) {
        if !stays {
            patch.delete_chain(&self.ruleset, &brought.chain);
            self.names.release(&brought.chain);
        }
        for name in &brought.port_chains {
            if self.content_users.lose(name) {
                self.names.release(name);
                patch.delete_chain(&self.ruleset, name);
            }
        }
        for name in &brought.port_maps {
            if self.content_users.lose(name) {
                self.names.release(name);
                patch.delete_set(&self.ruleset, name);
            }
        }
        for key in &brought.sets {
            if self.set_users.lose(key) {
                if let SetIdentity::Pods(selectors, _) = key.identity() {
                    for selector in selectors {
                        if let Some(sets) = self.sets_of.get_mut(selector) {
                            sets.remove(key);
                            if sets.is_empty() {
                                self.sets_of.remove(selector);
                            }
                        }
                    }
                }
                let name = self.names.of_set(key);
                self.names.release(&name);
                created.remove(key);
                patch.delete_set(&self.ruleset, &name);
            }
        }
    }
}
