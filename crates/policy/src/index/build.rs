//! Keeps [`NodePolicy`] equal to what the objects say, event by event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::owner::Claims;
use super::{Dirty, NodePolicy, Subject};
use crate::compile::{Allowed, Group, NamedPort, Namespaces, Owner, PeerSelector, compile};
use crate::input::{Change, Direction, Isolates, LabelSelector, NamespacedName, Pod, State};

/// The objects, and the compiled policy of one node that follows them.
#[derive(Clone, Debug)]
pub struct Index {
    node: Arc<str>,
    state: State,
    claims: Claims,
    pub(super) owners: BTreeMap<IpAddr, Owner>,
    compiled: NodePolicy,
    /// The pods of this node whose address is not known, isolated or not.
    without_address: BTreeSet<NamespacedName>,
    /// How many (address, direction) pairs are in each group.
    members: BTreeMap<Group, usize>,
    /// How many groups name each selector and each named port.
    selector_users: BTreeMap<PeerSelector, usize>,
    named_port_users: BTreeMap<NamedPort, usize>,
    pub(super) dirty: Dirty,
    pub(super) due: BTreeSet<IpAddr>,
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
            members: BTreeMap::new(),
            selector_users: BTreeMap::new(),
            named_port_users: BTreeMap::new(),
            dirty: Dirty::default(),
            due: BTreeSet::new(),
        }
    }

    /// An index of everything in `state`, built from scratch.
    pub fn build(node: impl Into<Arc<str>>, state: &State) -> Self {
        let mut index = Self::new(node);
        index.state = state.clone();
        for pod in state.pods.values() {
            index.claims.add(pod);
        }
        let addresses: BTreeSet<_> = state.pods.values().flat_map(Pod::claims).collect();
        for address in addresses {
            index.refresh_address(address);
        }
        for key in state.pods.keys() {
            index.refresh_starting(key);
        }
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

    /// Addresses that two live pods claim with equal right, for warnings.
    pub fn claimed_twice(&self) -> impl Iterator<Item = (IpAddr, &[NamespacedName])> {
        self.owners.iter().filter_map(|(address, owner)| match owner {
            Owner::Twice(keys) => Some((*address, keys.as_slice())),
            Owner::Pod(_) => None,
        })
    }

    /// Whether a pod has this address.
    pub fn is_owned(&self, address: IpAddr) -> bool {
        self.owners.contains_key(&address)
    }

    /// Whether anything that a ruleset shows changed since it was last asked.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Addresses of this node itself, which no pod can have, whatever its status says: isolating one would cut the node's
    /// own traffic.
    pub fn refuse_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        let changed: Vec<_> = self.claims.refused.symmetric_difference(&addresses).copied().collect();
        self.claims.refused = addresses;
        for address in changed {
            self.refresh_address(address);
        }
    }

    /// Applies one event.
    pub fn apply(&mut self, change: Change) {
        for single in self.state.singles(change) {
            self.apply_single(single);
        }
    }

    fn apply_single(&mut self, change: Change) {
        match &change {
            Change::Pod(pod) => {
                let key = pod.key.clone();
                self.apply_pod(&key, change);
            }
            Change::PodGone(key) => {
                let key = key.clone();
                self.apply_pod(&key, change);
            }
            Change::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.apply_namespace(&name, change);
            }
            Change::NamespaceGone(name) => {
                let name = name.clone();
                self.apply_namespace(&name, change);
            }
            Change::Policy(policy) => {
                let key = policy.key.clone();
                self.apply_policy(&key, change);
            }
            Change::PolicyGone(key) => {
                let key = key.clone();
                self.apply_policy(&key, change);
            }
            Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_) => {}
        }
    }

    fn apply_pod(&mut self, key: &NamespacedName, change: Change) {
        let mut touched = BTreeSet::new();
        if let Some(old) = self.state.pods.get(key) {
            touched.extend(old.claims());
            self.claims.remove(old);
        }
        let ended = self.state.apply_single(change);
        if let Some(new) = self.state.pods.get(key) {
            touched.extend(new.claims());
            self.claims.add(new);
        }
        for address in touched {
            self.refresh_address(address);
        }
        self.refresh_starting(key);
        self.refresh_policies(&ended);
    }

    fn apply_namespace(&mut self, name: &Arc<str>, change: Change) {
        let labels = |state: &State| state.namespaces.get(name).map(|namespace| namespace.labels.clone());
        let before = labels(&self.state);
        let ended = self.state.apply_single(change);
        if labels(&self.state) != before {
            let addresses: BTreeSet<_> = self.state.pods_of(name).flat_map(Pod::claims).collect();
            for address in addresses {
                self.refresh_peers(address, std::slice::from_ref(name));
            }
        }
        self.refresh_policies(&ended);
    }

    fn apply_policy(&mut self, key: &NamespacedName, change: Change) {
        self.state.apply_single(change);
        self.refresh_policies(std::slice::from_ref(key));
    }

    /// Follows policies that came, went or changed: first what their groups allow, then who is in which group.
    fn refresh_policies(&mut self, changed: &[NamespacedName]) {
        for key in changed {
            let concerned: Vec<Group> =
                self.compiled.groups.keys().filter(|group| names(group, key)).cloned().collect();
            for group in concerned {
                self.recompile(&group);
            }
        }
        let namespaces: BTreeSet<_> = changed.iter().map(|key| key.namespace.clone()).collect();
        for namespace in namespaces {
            // By address and not by node: an address claimed twice may be local through a pod of another namespace.
            let is_local = |address: &IpAddr| self.compiled.local.contains_key(address);
            let addresses: BTreeSet<_> =
                self.state.pods_of(&namespace).flat_map(Pod::claims).filter(is_local).collect();
            for address in addresses {
                self.refresh_subject(address);
            }
            let starting = self.without_address.iter().filter(|key| key.namespace == namespace);
            for key in starting.cloned().collect::<Vec<_>>() {
                self.refresh_starting(&key);
            }
        }
    }

    /// Follows whether a pod is one of this node's whose address is not known, and isolated.
    fn refresh_starting(&mut self, key: &NamespacedName) {
        let pod = self.state.pods.get(key).filter(|pod| pod.is_starting_on(&self.node));
        let isolated = |pod, direction| self.group(pod, direction).is_some();
        let isolates = pod.map(|pod| Isolates {
            egress: isolated(pod, Direction::Egress),
            ingress: isolated(pod, Direction::Ingress),
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

    /// Follows everything that depends on whose address it is.
    fn refresh_address(&mut self, address: IpAddr) {
        let before = self.owners.get(&address).cloned();
        let after = self.claims.owner(address, &self.state);
        if before != after {
            if before.is_some() {
                self.dirty.released.insert(address);
            }
            match &after {
                Some(owner) => self.owners.insert(address, owner.clone()),
                None => self.owners.remove(&address),
            };
        }
        let mut namespaces = Vec::new();
        for owner in [&before, &after] {
            if let Some(Owner::Pod(key)) = owner
                && !namespaces.contains(&key.namespace)
            {
                namespaces.push(key.namespace.clone());
            }
        }
        self.refresh_peers(address, &namespaces);
        self.refresh_named_ports(address);
        self.refresh_subject(address);
    }

    /// The pod that alone owns `address`.
    fn owner_pod(&self, address: IpAddr) -> Option<&Pod> {
        match self.owners.get(&address)? {
            Owner::Pod(key) => self.state.pods.get(key),
            Owner::Twice(_) => None,
        }
    }

    /// Follows the membership of `address` in the selectors that can concern pods of these namespaces.
    fn refresh_peers(&mut self, address: IpAddr, namespaces: &[Arc<str>]) {
        let changed: Vec<(PeerSelector, Option<Arc<str>>)> = {
            let pod = self.owner_pod(address);
            let namespace = pod.and_then(|pod| self.state.namespaces.get(&pod.key.namespace));
            let name: Option<Arc<str>> = pod.map(|pod| pod.key.to_string().into());
            let change = |selector: &PeerSelector| {
                let member = pod.filter(|pod| selector.selects(pod, namespace)).and(name.as_ref());
                let present = self.compiled.peers.get(selector)?.get(&address);
                (present != member).then(|| (selector.clone(), member.cloned()))
            };
            candidates(&self.selector_users, namespaces).filter_map(change).collect()
        };
        for (selector, member) in changed {
            let Some(members) = self.compiled.peers.get_mut(&selector) else { continue };
            match member {
                Some(name) => members.insert(address, name),
                None => members.remove(&address),
            };
            self.dirty.peers.entry(selector).or_default().insert(address);
        }
    }

    fn refresh_named_ports(&mut self, address: IpAddr) {
        let named: Vec<NamedPort> = self.named_port_users.keys().cloned().collect();
        for named_port in named {
            let wanted = self.owner_pod(address).map(|pod| resolved(pod, address, &named_port)).unwrap_or_default();
            let Some(ports) = self.compiled.named_ports.get_mut(&named_port) else { continue };
            let present = ports.range((address, 0)..=(address, u16::MAX));
            let present: BTreeMap<_, _> = present.map(|(key, name)| (*key, name.clone())).collect();
            if present == wanted {
                continue;
            }
            let dirty = self.dirty.named_ports.entry(named_port).or_default();
            for key in present.keys() {
                ports.remove(key);
            }
            dirty.extend(present.keys().chain(wanted.keys()));
            ports.extend(wanted);
        }
    }

    /// Follows the groups of `address`, if it is a local pod's.
    fn refresh_subject(&mut self, address: IpAddr) {
        let wanted = self.subject(address);
        let local = self.local_owner(address);
        let before = self.compiled.subjects.get(&address).cloned();
        if before == wanted && self.compiled.local.get(&address) == local.as_ref() {
            return;
        }
        self.dirty.subjects.insert(address);
        match local {
            Some(name) => self.compiled.local.insert(address, name),
            None => self.compiled.local.remove(&address),
        };
        // Enter the new groups before leaving the old ones, so that what both need is not dropped in between.
        for group in groups_of(wanted.as_ref()) {
            self.enter(group);
        }
        for group in groups_of(before.as_ref()) {
            self.leave(group);
        }
        match wanted {
            Some(subject) => self.compiled.subjects.insert(address, subject),
            None => self.compiled.subjects.remove(&address),
        };
    }

    /// Whose local address it is, isolated or not.
    fn local_owner(&self, address: IpAddr) -> Option<Arc<str>> {
        let owner = self.owners.get(&address)?;
        self.claimants(owner).any(|pod| pod.node.as_ref() == Some(&self.node)).then(|| owner.to_string().into())
    }

    fn claimants<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a Pod> {
        let keys = match owner {
            Owner::Pod(key) => std::slice::from_ref(key),
            Owner::Twice(keys) => keys.as_slice(),
        };
        keys.iter().filter_map(|key| self.state.pods.get(key))
    }

    fn subject(&self, address: IpAddr) -> Option<Subject> {
        let name = self.local_owner(address)?;
        let owner = self.owners.get(&address)?;
        let group = |direction| match owner {
            Owner::Pod(key) => self.state.pods.get(key).and_then(|pod| self.group(pod, direction)),
            Owner::Twice(_) => {
                let isolated = self.claimants(owner).any(|pod| self.group(pod, direction).is_some());
                isolated.then_some(Group::ClaimedTwice(direction))
            }
        };
        let (egress, ingress) = (group(Direction::Egress), group(Direction::Ingress));
        (egress.is_some() || ingress.is_some()).then_some(Subject { owner: name, egress, ingress })
    }

    /// The group that the policies put `pod` into.
    fn group(&self, pod: &Pod, direction: Direction) -> Option<Group> {
        let namespace = &pod.key.namespace;
        let isolating = self.state.policies_of(namespace).filter(|policy| policy.isolates.in_direction(direction));
        let selecting = isolating.filter(|policy| policy.pod_selector.selects(&pod.labels));
        let policies: Vec<_> = selecting.map(|policy| policy.key.name.clone()).collect();
        (!policies.is_empty()).then(|| Group::Policies { direction, namespace: namespace.clone(), policies })
    }

    fn enter(&mut self, group: &Group) {
        let count = self.members.entry(group.clone()).or_default();
        *count += 1;
        if *count == 1 {
            let allowed = self.allowed(group);
            self.use_terms(&allowed);
            self.compiled.groups.insert(group.clone(), allowed);
            self.dirty.groups.insert(group.clone());
        }
    }

    fn leave(&mut self, group: &Group) {
        let Some(count) = self.members.get_mut(group) else { return };
        *count -= 1;
        if *count == 0 {
            self.members.remove(group);
            if let Some(allowed) = self.compiled.groups.remove(group) {
                self.release_terms(&allowed);
            }
            self.dirty.groups.insert(group.clone());
        }
    }

    fn recompile(&mut self, group: &Group) {
        let allowed = self.allowed(group);
        if self.compiled.groups.get(group) == Some(&allowed) {
            return;
        }
        self.use_terms(&allowed);
        if let Some(before) = self.compiled.groups.insert(group.clone(), allowed) {
            self.release_terms(&before);
        }
        self.dirty.groups.insert(group.clone());
    }

    fn allowed(&self, group: &Group) -> Allowed {
        match group {
            Group::ClaimedTwice(_) => Allowed::default(),
            Group::Policies { direction, namespace, policies } => {
                let key = |name: &Arc<str>| NamespacedName { namespace: namespace.clone(), name: name.clone() };
                compile(*direction, policies.iter().filter_map(|name| self.state.policies.get(&key(name))))
            }
        }
    }

    fn use_terms(&mut self, allowed: &Allowed) {
        for selector in allowed.selectors() {
            let users = self.selector_users.entry(selector.clone()).or_default();
            *users += 1;
            if *users == 1 {
                let members = self.select(selector);
                self.dirty.peers.entry(selector.clone()).or_default().extend(members.keys());
                self.compiled.peers.insert(selector.clone(), members);
            }
        }
        for named_port in allowed.named_ports() {
            let users = self.named_port_users.entry(named_port.clone()).or_default();
            *users += 1;
            if *users == 1 {
                let ports: BTreeMap<_, _> = self
                    .owners
                    .keys()
                    .filter_map(|address| Some((*address, self.owner_pod(*address)?)))
                    .flat_map(|(address, pod)| resolved(pod, address, &named_port))
                    .collect();
                self.dirty.named_ports.entry(named_port.clone()).or_default().extend(ports.keys());
                self.compiled.named_ports.insert(named_port, ports);
            }
        }
    }

    fn release_terms(&mut self, allowed: &Allowed) {
        for selector in allowed.selectors() {
            if release(&mut self.selector_users, selector) {
                // The selector may be needed again before anybody asks what changed, without those that go meanwhile.
                let members = self.compiled.peers.remove(selector).unwrap_or_default();
                self.dirty.peers.entry(selector.clone()).or_default().extend(members.keys());
            }
        }
        for named_port in allowed.named_ports() {
            if release(&mut self.named_port_users, &named_port) {
                let ports = self.compiled.named_ports.remove(&named_port).unwrap_or_default();
                self.dirty.named_ports.entry(named_port).or_default().extend(ports.keys());
            }
        }
    }

    fn select(&self, selector: &PeerSelector) -> BTreeMap<IpAddr, Arc<str>> {
        let member = |address: &IpAddr| {
            let pod = self.owner_pod(*address)?;
            let namespace = self.state.namespaces.get(&pod.key.namespace);
            selector.selects(pod, namespace).then(|| (*address, pod.key.to_string().into()))
        };
        self.owners.keys().filter_map(member).collect()
    }
}

fn names(group: &Group, key: &NamespacedName) -> bool {
    match group {
        Group::Policies { namespace, policies, .. } => *namespace == key.namespace && policies.contains(&key.name),
        Group::ClaimedTwice(_) => false,
    }
}

fn groups_of(subject: Option<&Subject>) -> impl Iterator<Item = &Group> {
    subject.into_iter().flat_map(|subject| subject.egress.iter().chain(&subject.ingress))
}

/// The tracked selectors that can select pods of these namespaces: those that name one, and those that select namespaces.
fn candidates<'a>(
    tracked: &'a BTreeMap<PeerSelector, usize>,
    namespaces: &'a [Arc<str>],
) -> impl Iterator<Item = &'a PeerSelector> {
    let first = |namespaces| PeerSelector { namespaces, pods: LabelSelector::everything() };
    let named = namespaces.iter().flat_map(move |name| {
        let scope = Namespaces::Named(name.clone());
        tracked.range(first(scope.clone())..).map(|(key, _)| key).take_while(move |key| key.namespaces == scope)
    });
    let matching = tracked.range(first(Namespaces::Matching(LabelSelector::everything()))..).map(|(key, _)| key);
    named.chain(matching)
}

/// The numbers that `pod` declares for a named port, at one of its addresses.
fn resolved(pod: &Pod, address: IpAddr, named_port: &NamedPort) -> BTreeMap<(IpAddr, u16), Arc<str>> {
    let declared =
        |port: &&crate::input::ContainerPort| port.name == named_port.name && port.protocol == named_port.protocol;
    let name: Arc<str> = pod.key.to_string().into();
    pod.ports.iter().filter(declared).map(|port| ((address, port.port), name.clone())).collect()
}

/// Counts one user less; true if that was the last.
fn release<K: Ord>(users: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = users.get_mut(key) else { return false };
    *count -= 1;
    if *count == 0 {
        users.remove(key);
        return true;
    }
    false
}
