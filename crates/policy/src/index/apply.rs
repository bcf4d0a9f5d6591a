//! Applies events to the objects, one after the other, and notes what to recompute.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Index;
use super::owner::Owner;
use crate::input::{Change, Labels, NamespacedName, Pod};

/// What to recompute after some events, and the state before.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// IPs, each with the only pod that had it, as the pod was before.
    pub(super) addresses: BTreeMap<IpAddr, Option<Arc<Pod>>>,
    /// Pods that may have begun or ended to be starting.
    pub(super) starting: BTreeSet<NamespacedName>,
    /// Policies that were added, removed or changed.
    pub(super) policies: BTreeSet<NamespacedName>,
    /// Namespaces that were added, removed or changed, with the labels they had before.
    pub(super) namespaces: BTreeMap<Arc<str>, Option<Labels>>,
}

/// The owner of an IP at a moment between two events.
pub(super) struct Moment {
    owner: Owner,
    is_local: bool,
}

impl Index {
    /// Applies an event that is not a list to the objects.
    pub(super) fn take(&mut self, change: Change, touched: &mut Touched) {
        match change {
            Change::Pod(ref pod) => {
                let key = pod.key.clone();
                if self.state.pod(&key) != Some(pod) {
                    self.take_pod(key, change, touched);
                }
            }
            Change::PodGone(ref key) => {
                let key = key.clone();
                if self.state.pods.contains_key(&key) {
                    self.take_pod(key, change, touched);
                }
            }
            Change::Namespace(ref namespace) => {
                let name = namespace.name.clone();
                if self.state.namespaces.get(&name) != Some(namespace) {
                    self.take_namespace(name, change, touched);
                }
            }
            Change::NamespaceGone(ref name) => self.take_namespace(name.clone(), change, touched),
            Change::Policy(policy) => {
                let policy = policy.within(&self.state.budget);
                let is_tombstone = self.state.tombstones.contains(&policy.key);
                if is_tombstone || self.written(&policy.key) != Some(&policy) {
                    self.take_policy(policy.key.clone(), Change::Policy(policy), touched);
                }
            }
            Change::PolicyGone(ref key) => {
                let key = key.clone();
                self.take_policy(key, change, touched);
            }
            Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_) => {}
        }
    }

    fn take_pod(&mut self, key: NamespacedName, change: Change, touched: &mut Touched) {
        let new = if let Change::Pod(new) = &change { Some(new) } else { None };
        let old = self.state.pod(&key);
        if let (Some(old), Some(new)) = (old, new)
            && self.means_the_same(old, new)
        {
            self.state.apply_single(change);
            self.renew(&key);
            return;
        }
        let addresses: BTreeSet<_> = old.into_iter().chain(new).flat_map(Pod::claims).collect();
        let before: Vec<_> = addresses.iter().map(|address| self.owner_now(*address)).collect();
        addresses.iter().for_each(|address| self.touch(*address, touched));
        // The next pod with an IP is no peer before the flows of the former pod are deleted.
        let is_held = |address: &&IpAddr| self.due.contains(**address) && self.dirty.order.has(**address);
        let changing = addresses.iter().filter(|address| !is_held(address)).copied().collect();
        self.dirty.order.push(changing);
        if let Some(old) = self.state.pod(&key) {
            self.claims.remove(old);
        }
        let replaced = self.state.apply_single(change);
        if let Some(new) = self.state.pods.get(&key) {
            self.claims.add(new);
        }
        for (address, before) in addresses.into_iter().zip(before) {
            self.release_if_left(address, before);
        }
        touched.starting.insert(key);
        self.note_policies(&replaced.policies, touched);
    }

    /// Points to the object that replaced one that means the same.
    fn renew(&mut self, key: &NamespacedName) {
        let Some(pod) = self.state.pods.get(key) else { return };
        self.claims.add(pod);
        for address in pod.claims() {
            if let (Some(owned), Some(owner)) = (self.owners.get_mut(&address), self.claims.owner(address))
                && owned.owner.is_same(&owner)
            {
                owned.owner = owner;
            }
        }
    }

    /// Whether the change of a pod affects no policy.
    fn means_the_same(&self, old: &Pod, new: &Pod) -> bool {
        old.labels == new.labels
            && old.node == new.node
            && old.terminating == new.terminating
            && old.ports == new.ports
            && old.claims().eq(new.claims())
            && old.is_starting_on(&self.node) == new.is_starting_on(&self.node)
    }

    fn take_namespace(&mut self, name: Arc<str>, change: Change, touched: &mut Touched) {
        let replaced = self.state.apply_single(change);
        let before = replaced.namespace.map(|namespace| namespace.labels);
        let after = self.state.namespaces.get(&name).map(|namespace| &namespace.labels);
        if before.as_ref() != after {
            touched.namespaces.entry(name).or_insert(before);
            self.dirty.order.lose();
        }
        self.note_policies(&replaced.policies, touched);
    }

    fn take_policy(&mut self, key: NamespacedName, change: Change, touched: &mut Touched) {
        self.dirty.order.lose();
        let replaced = self.state.apply_single(change);
        self.note_policies(&replaced.policies, touched);
        // The event may turn the policy into a tombstone, which was already counted.
        if let Some(policy) = self.state.policies.get(&key)
            && !self.state.tombstones.contains(&key)
        {
            self.tally.policy(policy, true);
            self.selecting.add(policy);
            touched.policies.insert(key);
        }
    }

    /// Notes policies that are no longer in force, or have changed.
    fn note_policies(&mut self, replaced: &[crate::input::Policy], touched: &mut Touched) {
        for policy in replaced {
            self.dirty.order.lose();
            self.tally.policy(policy, false);
            self.selecting.remove(policy);
            self.shares.forget(&policy.key);
            touched.policies.insert(policy.key.clone());
        }
    }

    /// Notes an IP to recompute, and its owner before the first event about it.
    pub(super) fn touch(&self, address: IpAddr, touched: &mut Touched) {
        let before = || self.owner_pod(address).map(|(pod, _)| pod.clone());
        touched.addresses.entry(address).or_insert_with(before);
    }

    /// The owner of an IP after the events so far.
    pub(super) fn owner_now(&self, address: IpAddr) -> Option<Moment> {
        let owner = self.claims.owner(address)?;
        let is_local = owner.is_on(&self.node);
        Some(Moment { owner, is_local })
    }

    /// Notes an IP whose flows must be deleted, if a pod had it before an event and no longer has it after.
    pub(super) fn release_if_left(&mut self, address: IpAddr, before: Option<Moment>) {
        let Some(before) = before else { return };
        if !self.claims.owner(address).is_some_and(|after| after.is_same(&before.owner)) {
            self.due.add(address, before.is_local);
            if before.is_local {
                self.remember_former(address);
            }
        }
    }
}
