//! Which policies are set aside because those of their namespace bring too many elements to this node.
//!
//! What a policy costs by itself does not tell how many pods its selectors select. That is counted while they are looked up. A
//! policy that is set aside isolates the pods that it selects and allows nothing, as one above the budget, and nothing is kept
//! of whom its selectors select.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Index;
use super::apply::Touched;
use super::load::{Pending, Share};
use super::terms::TooMuch;
use crate::compile::Group;
use crate::input::{NamespacedName, Pod, Policy, State};

/// What is known of loads, and what follows from them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    /// What the groups of each namespace bring, and what `changed` was when it was counted.
    loads: BTreeMap<Arc<str>, (Share, u64)>,
    /// Namespaces whose groups changed since.
    suspects: BTreeSet<Arc<str>>,
    aside: BTreeMap<NamespacedName, Aside>,
    /// Namespaces whose groups changed, of whose policies that are set aside some may be tried again.
    stirred: BTreeSet<Arc<str>>,
    /// Policies that are tried again just now, one of a namespace.
    tried: BTreeSet<NamespacedName>,
    /// How many addresses changed so far, each with its ports.
    changed: u64,
    /// In the present settling, so many policies are set aside at once at least: twice as many each time.
    at_once: usize,
    news: Vec<(NamespacedName, String)>,
}

/// A policy that is set aside.
#[derive(Clone, Debug)]
struct Aside {
    written: Policy,
    /// What it brings, as far as it was counted.
    share: Share,
    /// What `changed` was then.
    at: u64,
}

impl Shares {
    /// What a group allows is new, or goes.
    pub(super) fn suspect(&mut self, group: &Group) {
        if let Group::Policies { namespace, .. } = group
            && !self.suspects.contains(namespace)
        {
            self.suspects.insert(namespace.clone());
        }
    }

    /// A policy is gone, or another one is in its place.
    pub(super) fn forget(&mut self, policy: &NamespacedName) {
        self.aside.remove(policy);
    }

    fn since(&self, at: u64) -> u64 {
        self.changed.saturating_sub(at)
    }

    /// The namespaces that may bring more than the limit by now, and what they brought.
    fn grown(&self, limit: u64) -> impl Iterator<Item = (&Arc<str>, &Share)> {
        let may_be_more =
            move |load: &Share, at| load.elements.saturating_add(load.spread.saturating_mul(self.since(at))) > limit;
        self.loads.iter().filter(move |(_, (load, at))| may_be_more(load, *at)).map(|(name, (load, _))| (name, load))
    }
}

impl Index {
    /// A policy as it was written, also if it is set aside.
    pub(super) fn written(&self, policy: &NamespacedName) -> Option<&Policy> {
        let aside = self.shares.aside.get(policy).map(|aside| &aside.written);
        aside.or_else(|| self.state.policies.get(policy))
    }

    /// The policies that were set aside since the last call, and why.
    pub fn take_set_aside(&mut self) -> Vec<(NamespacedName, String)> {
        std::mem::take(&mut self.shares.news)
    }

    /// Counts what may change who is selected. Where so much at once may be too much, members are not followed one by one but
    /// looked up anew in the end, as that is stopped in time.
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
            self.look_up_anew(&namespace);
        }
    }

    /// Looks up what is new, sets aside what is too much of it, and tries again what may not be too much any more.
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

    /// Whether the namespaces whose groups changed bring no more than they may; if not, which of their policies are to be set
    /// aside.
    pub(super) fn admit(&self, pending: &Pending<'_>) -> Result<(), TooMuch> {
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

    /// What the policies of a namespace may bring: less while some of them are tried again because pods are fewer, lest they
    /// come and go with each pod.
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

    /// The policies to be set aside: the largest, of those that are tried again if there are any.
    fn choose(&self, namespace: &Arc<str>, load: Share, pending: &Pending<'_>) -> TooMuch {
        let key = |name: Arc<str>| NamespacedName { namespace: namespace.clone(), name };
        let shares = self.shares(namespace, pending).into_iter();
        let mut shares: TooMuch = shares.map(|(name, share)| (key(name), share)).collect();
        if shares.iter().any(|(policy, _)| self.shares.tried.contains(policy)) {
            shares.retain(|(policy, _)| self.shares.tried.contains(policy));
        }
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.elements));
        let mut excess = load.elements.saturating_sub(self.bar(namespace));
        // What policies share does not go with one of them, so more of them may have to go than seems.
        let needed = shares.iter().enumerate().take_while(|(number, (_, share))| {
            let is_needed = excess > 0 || *number < self.shares.at_once;
            excess = excess.saturating_sub(share.elements);
            is_needed
        });
        let needed = needed.count();
        shares.truncate(needed);
        shares
    }

    /// Leaves nothing of policies but the isolation. Whether there was any.
    fn set_aside(&mut self, policies: TooMuch) -> bool {
        let mut keys = BTreeSet::new();
        for (key, share) in policies {
            let Some(written) = self.state.policies.get(&key).cloned() else { continue };
            let isolation = written.clone().too_wide(&self.state.budget);
            if !self.shares.tried.remove(&key) {
                let why = isolation.unenforceable.first().map(|term| term.reason.clone()).unwrap_or_default();
                self.shares.news.push((key.clone(), why));
                // Others that were looked up with it may have kept it from being counted to the end.
                self.shares.stirred.insert(key.namespace.clone());
            }
            self.replace(isolation);
            self.shares.aside.insert(key.clone(), Aside { written, share, at: self.shares.changed });
            keys.insert(key);
        }
        self.recompile_under(&keys);
        !keys.is_empty()
    }

    /// Brings back what there may be room for, by what is known of it: at most so much of it can have gone as addresses
    /// changed. It is counted anew when other policies of its namespace changed, or enough addresses to be worth it. One policy
    /// of a namespace at a time: so each is measured by itself, and what there is to do at once is bounded.
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

    /// Puts a policy in the place of the one of its name, which selects and isolates the same.
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

/// The policies that a node with the pods of all nodes would set aside, and why: for verbs that judge objects without a node.
pub fn set_aside_somewhere(state: &State) -> Vec<(NamespacedName, String)> {
    let addresses = state.pods.values().map(|pod| pod.claims().count()).sum::<usize>();
    let addresses = u64::try_from(addresses).unwrap_or(u64::MAX);
    let mut costs: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    for policy in state.policies.values() {
        let cost = costs.entry(&policy.key.namespace).or_default();
        *cost = cost.saturating_add(policy.cost().0);
    }
    // So it is nearly everywhere, and then nothing has to be copied.
    if costs.values().all(|cost| cost.saturating_mul(addresses) <= state.budget.elements) {
        return Vec::new();
    }
    let everywhere: Arc<str> = "every node".into();
    let mut state = state.clone();
    state.pods.values_mut().for_each(|pod| pod.node = Some(everywhere.clone()));
    Index::build(everywhere, &state).take_set_aside()
}

/// A policy that is set aside is counted again when one in so many addresses changed.
const WORTH_IT: u64 = 16;

#[cfg(test)]
mod tests;
