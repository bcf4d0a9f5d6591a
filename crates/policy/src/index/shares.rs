//! Sets policies aside if those of their namespace have too many elements on this node.
//!
//! The cost of a policy does not include the number of pods that its selectors match, which is counted during the
//! lookup. A policy that is set aside isolates its pods and allows nothing, like one over budget, and the members of
//! its selectors are not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Index;
use super::apply::Touched;
use super::load::{Pending, Share};
use super::terms::Excess;
use crate::compile::Group;
use crate::input::{NamespacedName, Pod, Policy, State};

/// The known loads, and the policies set aside for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    /// The load of each namespace's groups, and the value of `changed` when it was counted.
    loads: BTreeMap<Arc<str>, (Share, u64)>,
    /// Namespaces whose groups have changed since they were counted.
    suspects: BTreeSet<Arc<str>>,
    aside: BTreeMap<NamespacedName, Aside>,
    /// Namespaces whose groups changed, so that their set-aside policies may be retried.
    stirred: BTreeSet<Arc<str>>,
    /// Policies that are being retried, one of each namespace.
    tried: BTreeSet<NamespacedName>,
    /// The number of changed IPs so far, each with its ports.
    changed: u64,
    /// The minimum number of policies to set aside next in this call of [`Index::settle`]: it doubles each time.
    at_once: usize,
    news: Vec<(NamespacedName, String)>,
}

/// A policy that is set aside.
#[derive(Clone, Debug)]
struct Aside {
    written: Policy,
    /// Its share, as counted so far.
    share: Share,
    /// The value of `changed` at that time.
    at: u64,
}

impl Shares {
    /// Notes that a group's allowed flows are new or removed.
    pub(super) fn suspect(&mut self, group: &Group) {
        if let Group::Policies { namespace, .. } = group
            && !self.suspects.contains(namespace)
        {
            self.suspects.insert(namespace.clone());
        }
    }

    /// Notes that a policy is gone or replaced.
    pub(super) fn forget(&mut self, policy: &NamespacedName) {
        self.aside.remove(policy);
    }

    fn since(&self, at: u64) -> u64 {
        self.changed.saturating_sub(at)
    }

    /// The namespaces that may now exceed the limit, and their last loads.
    fn grown(&self, limit: u64) -> impl Iterator<Item = (&Arc<str>, &Share)> {
        let may_be_more =
            move |load: &Share, at| load.elements.saturating_add(load.spread.saturating_mul(self.since(at))) > limit;
        self.loads.iter().filter(move |(_, (load, at))| may_be_more(load, *at)).map(|(name, (load, _))| (name, load))
    }
}

impl Index {
    /// A policy as written, even if it is set aside.
    pub(super) fn written(&self, policy: &NamespacedName) -> Option<&Policy> {
        let aside = self.shares.aside.get(policy).map(|aside| &aside.written);
        aside.or_else(|| self.state.policies.get(policy))
    }

    /// The policies that were set aside since the last call, with the reasons.
    pub fn take_set_aside(&mut self) -> Vec<(NamespacedName, String)> {
        std::mem::take(&mut self.shares.news)
    }

    /// Counts the changes that may affect members. If so many could exceed the limit, members are not updated one by
    /// one but looked up again at the end, because that lookup stops in time.
    pub(super) fn prepare_for(&mut self, touched: &Touched) {
        let ports = |pod: &Pod| pod.ports.len();
        let of = |address| 1 + self.owner_pod(address).map_or(0, |(pod, _)| ports(pod));
        let addresses: usize = touched.addresses.keys().map(|address| of(*address)).sum();
        let relabelled = touched.namespaces.keys().flat_map(|namespace| self.state.pods_of(namespace));
        let relabelled: usize = relabelled.map(|pod| pod.claims().count() + ports(pod)).sum();
        let changed = u64::try_from(addresses + relabelled).unwrap_or(u64::MAX);
        self.shares.changed = self.shares.changed.saturating_add(changed);
        let limit = self.state.budget.elements;
        let is_much = |load: &Share| load.spread.saturating_mul(changed) > limit / 4;
        let grown = self.shares.grown(limit).filter(|(_, load)| is_much(load));
        for namespace in grown.map(|(namespace, _)| namespace.clone()).collect::<Vec<_>>() {
            self.refill(&namespace);
        }
    }

    /// Looks up new members, sets aside policies that are too large, and retries those that may fit again.
    pub(super) fn settle(&mut self) {
        if !self.shares.aside.is_empty() {
            self.shares.stirred.extend(self.shares.suspects.iter().cloned());
        }
        let grown = self.shares.grown(self.state.budget.elements).map(|(namespace, _)| namespace.clone());
        let grown: Vec<_> = grown.collect();
        self.shares.suspects.extend(grown);
        self.fill_and_admit();
        self.try_again();
        self.fill_and_admit();
        self.shares.tried.clear();
    }

    fn fill_and_admit(&mut self) {
        self.shares.at_once = 1;
        loop {
            let admitted = self.fill().and_then(|()| self.admit(&Pending::default()));
            let Err(too_much) = admitted else { break };
            if !self.set_aside(too_much) {
                break;
            }
            self.shares.at_once = self.shares.at_once.saturating_mul(2);
        }
        for namespace in std::mem::take(&mut self.shares.suspects) {
            let load = self.load(&namespace, &Pending::default(), self.state.budget.elements);
            if load == Share::default() {
                self.shares.loads.remove(&namespace);
            } else {
                self.shares.loads.insert(namespace, (load, self.shares.changed));
            }
        }
    }

    /// Checks that the namespaces whose groups changed are within the limit; the error has the policies to set aside.
    pub(super) fn admit(&self, pending: &Pending<'_>) -> Result<(), Excess> {
        let mut too_much = Vec::new();
        for namespace in &self.shares.suspects {
            self.pulse.beat();
            let bar = self.bar(namespace);
            let load = self.load(namespace, pending, bar);
            if load.elements > bar {
                too_much.extend(self.choose(namespace, load, pending));
            }
        }
        if too_much.is_empty() { Ok(()) } else { Err(too_much) }
    }

    /// The limit for the policies of a namespace. It is lower while a policy is retried because there are fewer pods,
    /// so that policies do not flap with each pod.
    fn bar(&self, namespace: &Arc<str>) -> u64 {
        let limit = self.state.budget.elements;
        let first = NamespacedName::new(namespace.clone(), "");
        let is_tried = self.shares.tried.range(first..).next().is_some_and(|key| key.namespace == *namespace);
        if is_tried { self.bar_to_return(namespace) } else { limit }
    }

    fn bar_to_return(&self, namespace: &Arc<str>) -> u64 {
        let limit = self.state.budget.elements;
        if self.shares.stirred.contains(namespace) { limit } else { limit - limit / 4 }
    }

    /// The policies to set aside: the largest, or, if some are being retried, the largest of those.
    fn choose(&self, namespace: &Arc<str>, load: Share, pending: &Pending<'_>) -> Excess {
        let key = |name: Arc<str>| NamespacedName { namespace: namespace.clone(), name };
        let shares = self.shares(namespace, pending).into_iter();
        let mut shares: Excess = shares.map(|(name, share)| (key(name), share)).collect();
        if shares.iter().any(|(policy, _)| self.shares.tried.contains(policy)) {
            shares.retain(|(policy, _)| self.shares.tried.contains(policy));
        }
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.elements));
        let mut excess = load.elements.saturating_sub(self.bar(namespace));
        // Shared elements do not leave with one policy, so more policies may have to be set aside than the sums
        // suggest.
        let needed = shares.iter().enumerate().take_while(|(number, (_, share))| {
            let is_needed = excess > 0 || *number < self.shares.at_once;
            excess = excess.saturating_sub(share.elements);
            is_needed
        });
        let needed = needed.count();
        shares.truncate(needed);
        shares
    }

    /// Reduces policies to their isolation. Returns whether there were any.
    fn set_aside(&mut self, policies: Excess) -> bool {
        let mut keys = BTreeSet::new();
        for (key, share) in policies {
            let Some(written) = self.state.policies.get(&key).cloned() else { continue };
            let isolation = written.clone().too_wide(&self.state.budget);
            if !self.shares.tried.remove(&key) {
                let why = isolation.unenforceable.first().map(|term| term.reason.clone()).unwrap_or_default();
                self.shares.news.push((key.clone(), why));
                // Other policies may have ended the count early.
                self.shares.stirred.insert(key.namespace.clone());
            }
            self.replace(isolation);
            self.shares.aside.insert(key.clone(), Aside { written, share, at: self.shares.changed });
            keys.insert(key);
        }
        self.recompile_under(&keys);
        !keys.is_empty()
    }

    /// Brings back policies that may fit, judged by how much the changed IPs can have reduced their elements. They are
    /// counted again when other policies of their namespace, or enough IPs, have changed. One policy of a namespace at
    /// a time, so each is measured alone and the work is bounded.
    fn try_again(&mut self) {
        let mut candidates: BTreeMap<&Arc<str>, Vec<(u64, &NamespacedName)>> = BTreeMap::new();
        for (key, aside) in &self.shares.aside {
            let changed = self.shares.since(aside.at);
            let is_worth_it = changed.saturating_mul(WORTH_IT) >= self.reach();
            let least = aside.share.elements.saturating_sub(aside.share.spread.saturating_mul(changed));
            let may_return = is_worth_it || self.shares.stirred.contains(&key.namespace);
            if may_return && least <= self.bar_to_return(&key.namespace) {
                candidates.entry(&key.namespace).or_default().push((least, key));
            }
        }
        let fits = |(namespace, policies): (_, Vec<(u64, &NamespacedName)>)| {
            let (least, key) = policies.into_iter().min()?;
            let others = self.load(namespace, &Pending::default(), 0).elements;
            (others.saturating_add(least) <= self.bar_to_return(namespace)).then(|| key.clone())
        };
        let keys: BTreeSet<_> = candidates.into_iter().filter_map(fits).collect();
        self.shares.stirred.retain(|namespace| keys.iter().any(|key| key.namespace == *namespace));
        for key in &keys {
            if let Some(aside) = self.shares.aside.remove(key) {
                self.replace(aside.written);
            }
        }
        self.recompile_under(&keys);
        self.shares.tried = keys;
    }

    /// Replaces the policy of the same name, which selects and isolates the same pods.
    fn replace(&mut self, policy: Policy) {
        self.resolved.forget(&policy.key);
        self.tally.policy(&policy, true);
        if let Some(before) = self.state.policies.insert(policy.key.clone(), policy) {
            self.tally.policy(&before, false);
        }
    }

    fn recompile_under(&mut self, policies: &BTreeSet<NamespacedName>) {
        for group in self.groups.under(policies, u64::MAX) {
            self.recompile(&group);
        }
    }
}

/// The policies that a node with all pods of the cluster would set aside, with the reasons. For commands that judge
/// objects without a node.
pub fn set_aside_somewhere(state: &State) -> Vec<(NamespacedName, String)> {
    let addresses = state.every_pod().map(|pod| pod.claims().count()).sum::<usize>();
    let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
    let mut costs: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    for policy in state.policies.values() {
        let cost = costs.entry(&policy.key.namespace).or_default();
        *cost = cost.saturating_add(policy.cost().0);
    }
    // This holds for nearly all clusters, and saves the copy.
    if costs.values().all(|cost| cost.saturating_mul(addresses) <= state.budget.elements) {
        return Vec::new();
    }
    let everywhere: Arc<str> = "every node".into();
    let mut state = state.clone();
    state.pods.values_mut().for_each(|pod| Arc::make_mut(pod).node = Some(everywhere.clone()));
    Index::build(everywhere, &state).take_set_aside()
}

/// Reduces the policies that [`set_aside_somewhere`] names to their isolation, as an agent does. Returns them with the
/// reasons.
pub fn set_aside(state: &mut State) -> Vec<(NamespacedName, String)> {
    let aside = set_aside_somewhere(state);
    for (key, _) in &aside {
        if let Some(policy) = state.policies.remove(key) {
            state.policies.insert(key.clone(), policy.too_wide(&state.budget));
        }
    }
    aside
}

/// A set-aside policy is counted again when one in this many IPs has changed.
const WORTH_IT: u64 = 16;

#[cfg(test)]
mod tests;
