//! The index itself: the objects, and the data derived from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::apply::Touched;
use super::counts::Tally;
use super::due::Due;
use super::groups::Groups;
use super::owner::{Claims, Owned, Owner};
use super::selecting::Selecting;
use super::shares::Shares;
use super::terms::Terms;
use super::{Dirty, NodePolicy};
use crate::Pulse;
use crate::compile::Resolved;
use crate::input::{Budget, Change, NamespacedName, Pod, State};

/// The objects, and the compiled policy of one node that follows them.
#[derive(Clone, Debug)]
pub struct Index {
    pub(super) node: Arc<str>,
    pub(super) state: State,
    pub(super) claims: Claims,
    pub(super) owners: BTreeMap<IpAddr, Owned>,
    pub(super) compiled: NodePolicy,
    /// The pods of this node without a known IP, isolated or not.
    pub(super) without_address: BTreeSet<NamespacedName>,
    /// The local IPs by the namespaces of their pods. By IP, because a duplicate IP may be local through a pod of
    /// another namespace.
    pub(super) local_of: BTreeSet<(Arc<str>, IpAddr)>,
    pub(super) namespaces_of: BTreeMap<IpAddr, Vec<Arc<str>>>,
    pub(super) groups: Groups,
    pub(super) terms: Terms,
    /// The resolved peers of policies that have a group.
    pub(super) resolved: Resolved,
    pub(super) due: Due,
    pub(super) tally: Tally,
    pub(super) selecting: Selecting,
    /// The elements of each namespace's policies, and the policies that are set aside because they have too many.
    pub(super) shares: Shares,
    pub(super) dirty: Dirty,
    pub(super) pulse: Pulse,
}

impl Index {
    /// An empty index for the pods of `node`.
    pub fn new(node: impl Into<Arc<str>>) -> Self {
        Self {
            node: node.into(),
            state: State::default(),
            claims: Claims::default(),
            owners: BTreeMap::new(),
            compiled: NodePolicy::default(),
            without_address: BTreeSet::new(),
            local_of: BTreeSet::new(),
            namespaces_of: BTreeMap::new(),
            groups: Groups::default(),
            terms: Terms::default(),
            resolved: Resolved::default(),
            due: Due::default(),
            tally: Tally::default(),
            selecting: Selecting::default(),
            shares: Shares::default(),
            dirty: Dirty::default(),
            pulse: Pulse::default(),
        }
    }

    /// Sets another budget of policies. Call it before the first event.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.state.budget = budget;
        self
    }

    /// An index of everything in `state`, built from scratch.
    pub fn build(node: impl Into<Arc<str>>, state: &State) -> Self {
        let mut index = Self::new(node);
        index.state = state.clone();
        let mut touched = Touched::default();
        for pod in state.pods.values() {
            index.claims.add(pod);
            touched.addresses.extend(pod.claims().map(|address| (address, None)));
            touched.starting.insert(pod.key.clone());
        }
        for policy in state.policies.values() {
            index.tally.policy(policy, true);
            index.selecting.add(policy);
        }
        index.refresh(&touched);
        index
    }

    /// The node whose pods are subjects.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// The objects.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The compiled policy.
    pub fn compiled(&self) -> &NodePolicy {
        &self.compiled
    }

    /// The counter that the index increments while it works.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether a pod has this IP.
    pub fn is_owned(&self, address: IpAddr) -> bool {
        self.owners.contains_key(&address)
    }

    /// The owner of an IP, as named in tables.
    pub fn owner_name(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.owners.get(&address).map(|owned| &owned.name)
    }

    /// Whether a policy in force selects a pod of this node.
    pub fn selects_local_pod(&self, policy: &NamespacedName) -> bool {
        let Some(policy) = self.state.policies.get(policy) else { return false };
        let mut pods = self.state.pods_of(&policy.key.namespace);
        pods.any(|pod| pod.node.as_ref() == Some(&self.node) && policy.pod_selector.selects(&pod.labels))
    }

    /// Sets the budget of policies. Call it before the first event.
    pub fn set_budget(&mut self, budget: Budget) {
        self.state.budget = budget;
    }

    /// Whether a change since the last call affects a ruleset.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The changes since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Applies one event.
    pub fn apply(&mut self, change: Change) {
        self.apply_all([change]);
    }

    /// Applies events in order, then computes once everything that they touched.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut touched = Touched::default();
        for change in changes {
            if matches!(change, Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_)) {
                self.dirty.order.lose();
            }
            for single in self.state.singles(change) {
                self.pulse.beat();
                self.take(single, &mut touched);
            }
        }
        self.refresh(&touched);
        if self.dirty.is_empty() {
            self.dirty = Dirty::default();
        }
    }

    /// Marks the order of the changes since the last commit as unknown.
    pub fn forget_order(&mut self) {
        self.dirty.order.lose();
    }

    /// Sets the IPs of this node itself, which no pod can have, whatever its status contains: isolating one would cut
    /// the node's own traffic. Flows of such an IP are the node's, so none are deleted when a pod's claim is refused.
    pub fn refuse_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        let changed: Vec<_> = self.claims.refused.symmetric_difference(&addresses).copied().collect();
        let mut touched = Touched::default();
        changed.iter().for_each(|address| self.touch(*address, &mut touched));
        self.claims.refused = addresses;
        if !changed.is_empty() {
            self.dirty.order.lose();
        }
        self.refresh(&touched);
    }

    /// The pod that alone owns `address`.
    pub(super) fn owner_pod(&self, address: IpAddr) -> Option<(&Arc<Pod>, &Arc<str>)> {
        let owned = self.owners.get(&address)?;
        match &owned.owner {
            Owner::Pod(pod) if !self.due.contains(address) => Some((pod, &owned.name)),
            Owner::Pod(_) | Owner::Twice(_) => None,
        }
    }
}
