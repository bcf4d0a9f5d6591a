//! Computes the results of events: owners of IPs, members of groups, allowed flows, and peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::apply::Touched;
use super::counts::step;
use super::due::{Former, REUSED};
use super::groups::is_under;
use super::owner::{Owned, Owner};
use super::{Index, Subject};
use crate::compile::{Allowed, Group, compile_resolved};
use crate::input::{Direction, Isolates, NamespacedName, Pod, Policy};

/// The groups of a pod.
#[derive(Default)]
struct PodGroups {
    egress: Option<Group>,
    ingress: Option<Group>,
}

/// Blocks all traffic from and to the IP, if its last pod was isolated.
fn held_for(former: Former) -> Option<Subject> {
    let isolated = former.isolates.egress || former.isolates.ingress;
    isolated.then_some(held(former.name))
}

/// Blocked in both directions: a flow that the former pod opened is judged by egress alone, and its replies would reach
/// the next pod.
fn held(owner: Arc<str>) -> Subject {
    Subject { owner, egress: Some(Group::Held(Direction::Egress)), ingress: Some(Group::Held(Direction::Ingress)) }
}

impl Index {
    /// Computes once everything that the events touched.
    pub(super) fn refresh(&mut self, touched: &Touched) {
        for key in &touched.policies {
            self.resolved.forget(key);
        }
        let first_new = self.groups.next();
        for address in touched.addresses.keys() {
            self.pulse.beat();
            self.refresh_owner(*address);
        }
        self.prepare_for(touched);
        for (address, before) in &touched.addresses {
            self.pulse.beat();
            self.refresh_peers(*address, before.as_deref());
            self.refresh_named_ports(*address, before.as_deref());
            self.refresh_subject(*address);
        }
        let by_namespace = self.refresh_selected(touched);
        for group in self.groups.under(&touched.policies, first_new) {
            self.recompile(&group);
        }
        for (name, before) in &touched.namespaces {
            let after = self.state.namespaces.get(name).map(|namespace| &namespace.labels);
            let selectors = self.terms.selectors.matching_one_of(before.as_ref(), after);
            self.refresh_peers_in(name, &selectors);
        }
        let mut starting = touched.starting.clone();
        for namespace in by_namespace {
            let first = NamespacedName::new(namespace.clone(), "");
            let there = self.without_address.range(first..).take_while(|key| key.namespace == namespace);
            starting.extend(there.cloned());
        }
        starting.iter().for_each(|key| self.refresh_starting(key));
        self.settle();
        self.bound_due();
    }

    /// Updates the group members in the namespaces of changed policies. Returns the namespaces.
    fn refresh_selected(&mut self, touched: &Touched) -> BTreeSet<Arc<str>> {
        let mut by_namespace: BTreeMap<Arc<str>, Vec<&NamespacedName>> = BTreeMap::new();
        for key in &touched.policies {
            by_namespace.entry(key.namespace.clone()).or_default().push(key);
        }
        for (namespace, keys) in &by_namespace {
            let lowest = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            let local = self.local_of.range((namespace.clone(), lowest)..).take_while(|(name, _)| name == namespace);
            let changed: Vec<_> = keys.iter().map(|key| (&key.name, self.state.policies.get(*key))).collect();
            let concerned = local.map(|(_, address)| *address).filter(|address| {
                self.pulse.beat();
                !touched.addresses.contains_key(address) && self.is_concerned(*address, &changed)
            });
            for address in concerned.collect::<Vec<_>>() {
                self.pulse.beat();
                self.refresh_subject(address);
            }
        }
        by_namespace.into_keys().collect()
    }

    /// Whether one of these policies starts or stops selecting the pod of an IP.
    fn is_concerned(&self, address: IpAddr, changed: &[(&Arc<str>, Option<&Policy>)]) -> bool {
        let Some((pod, _)) = self.owner_pod(address) else { return true };
        let subject = self.compiled.subjects.get(&address);
        changed.iter().any(|(name, policy)| {
            let selects = policy.filter(|policy| policy.pod_selector.selects(&pod.labels));
            let is = |direction| selects.is_some_and(|policy| policy.isolates.in_direction(direction));
            let was_egress = is_under(subject.and_then(|subject| subject.egress.as_ref()), name);
            let was_ingress = is_under(subject.and_then(|subject| subject.ingress.as_ref()), name);
            is(Direction::Egress) != was_egress || is(Direction::Ingress) != was_ingress
        })
    }

    /// Updates the owner of an IP.
    fn refresh_owner(&mut self, address: IpAddr) {
        let after = self.claims.owner(address);
        let before = self.owners.get_mut(&address);
        match (before, after) {
            (Some(before), Some(after)) if before.owner.is_same(&after) => before.owner = after,
            (before, after) => {
                let twice = |owner: Option<&Owner>| usize::from(matches!(owner, Some(Owner::Twice(_))));
                step(&mut self.tally.duplicate_ips, twice(before.map(|before| &before.owner)), false);
                step(&mut self.tally.duplicate_ips, twice(after.as_ref()), true);
                match after {
                    Some(owner) => self.owners.insert(address, Owned::new(owner)),
                    None => self.owners.remove(&address),
                };
            }
        }
        self.due.hold(address, self.is_held(address));
    }

    /// Updates whether a pod is an isolated one of this node without a known IP.
    fn refresh_starting(&mut self, key: &NamespacedName) {
        let pod = self.state.pods.get(key).filter(|pod| pod.is_starting_on(&self.node));
        let isolates = pod.map(|pod| {
            let groups = self.groups_of(pod);
            Isolates { egress: groups.egress.is_some(), ingress: groups.ingress.is_some() }
        });
        if isolates.is_some() {
            self.without_address.insert(key.clone());
        } else {
            self.without_address.remove(key);
        }
        let wanted = isolates.filter(|isolates| isolates.egress || isolates.ingress);
        if self.compiled.starting.get(key) == wanted.as_ref() {
            return;
        }
        match wanted {
            Some(isolates) => self.compiled.starting.insert(key.clone(), isolates),
            None => self.compiled.starting.remove(key),
        };
        self.dirty.starting = true;
    }

    /// Updates the groups of `address`, if a local pod has it.
    fn refresh_subject(&mut self, address: IpAddr) {
        let local = self.local_owner(address);
        if self.compiled.local.get(&address) != local.as_ref() {
            self.refresh_local(address, local.as_ref());
        }
        let former = self.former(address);
        self.refresh_former(address, former.as_ref().map(|former| &former.name));
        let wanted = match former {
            Some(former) => held_for(former),
            None => local.and_then(|name| self.subject(address, name)),
        };
        let before = self.compiled.subjects.get(&address);
        if before == wanted.as_ref() {
            return;
        }
        let before = before.cloned();
        self.dirty.subjects.insert(address);
        // Enter the new groups before leaving the old ones, so that what both share is kept.
        let wanted = wanted.map(|subject| Subject {
            egress: subject.egress.map(|group| self.enter(&group)),
            ingress: subject.ingress.map(|group| self.enter(&group)),
            owner: subject.owner,
        });
        if let Some(before) = before {
            before.egress.iter().chain(&before.ingress).for_each(|group| self.leave(group));
            self.tally.subject(&before, false);
        }
        match wanted {
            Some(subject) => {
                self.tally.subject(&subject, true);
                self.compiled.subjects.insert(address, subject);
            }
            None => drop(self.compiled.subjects.remove(&address)),
        }
    }

    /// Updates the owner of a local IP, and the namespaces that list it.
    fn refresh_local(&mut self, address: IpAddr, local: Option<&Arc<str>>) {
        self.dirty.subjects.insert(address);
        for namespace in self.namespaces_of.remove(&address).unwrap_or_default() {
            self.local_of.remove(&(namespace, address));
        }
        let Some(name) = local else {
            self.compiled.local.remove(&address);
            return;
        };
        self.compiled.local.insert(address, name.clone());
        let pods = self.owners.get(&address).map(|owned| owned.owner.pods()).unwrap_or_default();
        let namespaces: Vec<Arc<str>> = pods.iter().map(|pod| pod.key.namespace.clone()).collect();
        self.local_of.extend(namespaces.iter().map(|namespace| (namespace.clone(), address)));
        self.namespaces_of.insert(address, namespaces);
    }

    /// The owner of a local IP, isolated or not.
    fn local_owner(&self, address: IpAddr) -> Option<Arc<str>> {
        let owned = self.owners.get(&address)?;
        let name =
            || if self.due.contains(address) { format!("{REUSED}{}", owned.name).into() } else { owned.name.clone() };
        owned.owner.is_on(&self.node).then(name)
    }

    /// The former local pod of an IP that neither a pod nor the node has now.
    pub fn former(&self, address: IpAddr) -> Option<Former> {
        let nobody_has_it = !self.owners.contains_key(&address) && !self.claims.refused.contains(&address);
        self.due.former(address).filter(|_| nobody_has_it).cloned()
    }

    fn refresh_former(&mut self, address: IpAddr, name: Option<&Arc<str>>) {
        if self.compiled.former.get(&address) == name {
            return;
        }
        self.dirty.subjects.insert(address);
        match name {
            Some(name) => self.compiled.former.insert(address, name.clone()),
            None => self.compiled.former.remove(&address),
        };
    }

    /// The groups of a local IP. A duplicate IP is isolated if one of its pods is.
    fn subject(&self, address: IpAddr, name: Arc<str>) -> Option<Subject> {
        let owner = &self.owners.get(&address)?.owner;
        let mut groups = PodGroups::default();
        for pod in owner.pods() {
            let found = self.groups_of(pod);
            groups.egress = groups.egress.or(found.egress);
            groups.ingress = groups.ingress.or(found.ingress);
        }
        if groups.egress.is_none() && groups.ingress.is_none() {
            return None;
        }
        if self.due.contains(address) {
            return Some(held(name));
        }
        if matches!(owner, Owner::Twice(_)) {
            groups.egress = groups.egress.map(|_| Group::DuplicateIp(Direction::Egress));
            groups.ingress = groups.ingress.map(|_| Group::DuplicateIp(Direction::Ingress));
        }
        let PodGroups { egress, ingress } = groups;
        Some(Subject { owner: name, egress, ingress })
    }

    /// The groups that the policies put `pod` into.
    fn groups_of(&self, pod: &Pod) -> PodGroups {
        let namespace = &pod.key.namespace;
        let (mut egress, mut ingress) = (Vec::new(), Vec::new());
        let key = |name: &Arc<str>| NamespacedName { namespace: namespace.clone(), name: name.clone() };
        let candidates = self.selecting.candidates(pod).into_iter();
        let candidates = candidates.filter_map(|name| self.state.policies.get(&key(name)));
        for policy in candidates.filter(|policy| policy.pod_selector.selects(&pod.labels)) {
            if policy.isolates.egress {
                egress.push(policy.key.name.clone());
            }
            if policy.isolates.ingress {
                ingress.push(policy.key.name.clone());
            }
        }
        let group = |direction, policies: Vec<Arc<str>>| {
            let of = |policies: Vec<_>| Group::Policies {
                direction,
                namespace: namespace.clone(),
                policies: policies.into(),
            };
            Some(policies).filter(|policies| !policies.is_empty()).map(of)
        };
        PodGroups { egress: group(Direction::Egress, egress), ingress: group(Direction::Ingress, ingress) }
    }

    /// Puts an IP into a group, and returns the shared copy of the group.
    fn enter(&mut self, group: &Group) -> Group {
        let (group, is_new) = self.groups.enter(group);
        if is_new {
            self.shares.suspect(&group);
            let allowed = self.allowed(&group);
            self.use_terms(&allowed);
            self.compiled.groups.insert(group.clone(), allowed);
            self.dirty.groups.insert(group.clone());
        }
        group
    }

    fn leave(&mut self, group: &Group) {
        if let Some(unused) = self.groups.leave(group) {
            self.shares.suspect(group);
            unused.iter().for_each(|policy| self.resolved.forget(policy));
            if let Some(allowed) = self.compiled.groups.remove(group) {
                self.release_terms(&allowed);
            }
            self.dirty.groups.insert(group.clone());
        }
    }

    pub(super) fn recompile(&mut self, group: &Group) {
        self.shares.suspect(group);
        let allowed = self.allowed(group);
        self.use_terms(&allowed);
        if let Some(before) = self.compiled.groups.insert(group.clone(), allowed) {
            self.release_terms(&before);
        }
        self.dirty.groups.insert(group.clone());
    }

    fn allowed(&mut self, group: &Group) -> Allowed {
        self.pulse.beat();
        match group {
            Group::DuplicateIp(_) | Group::Held(_) => Allowed::default(),
            Group::Policies { direction, namespace, policies } => {
                let key = |name: &Arc<str>| NamespacedName { namespace: namespace.clone(), name: name.clone() };
                let policies = policies.iter().filter_map(|name| self.state.policies.get(&key(name)));
                compile_resolved(*direction, policies, &mut self.resolved, &self.pulse)
            }
        }
    }
}
