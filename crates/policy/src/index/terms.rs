//! The selectors and named ports that groups name, and their members.
//!
//! New terms are filled at the end of a refresh, all in one pass over the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Index;
use super::load::{Pending, Share};
use super::selectors::{ByLabel, Selectors};
use crate::Users;
use crate::compile::{Allowed, NamedPort, Namespaces, PeerSelector};
use crate::input::{LabelSelector, NamespacedName, Pod};

/// The terms that groups name.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    pub(super) selectors: Selectors,
    named_ports: Users<NamedPort>,
    /// The terms that are not filled yet.
    new_selectors: BTreeSet<Arc<PeerSelector>>,
    new_ports: BTreeSet<NamedPort>,
}

/// Policies that have too many elements, and their shares.
pub(super) type Excess = Vec<(NamespacedName, Share)>;

/// Signals that enough members were found to attribute them to policies.
struct Watch {
    found: u64,
    step: u64,
    next: u64,
}

impl Watch {
    fn is_due(&mut self) -> bool {
        let is_due = self.found > self.next;
        if is_due {
            self.next = self.found.saturating_add(self.step);
        }
        is_due
    }
}

type Members = BTreeMap<IpAddr, Arc<str>>;
type Ports = BTreeMap<(IpAddr, u16), Arc<str>>;

impl Index {
    pub(super) fn use_terms(&mut self, allowed: &Allowed) {
        for selector in allowed.selectors() {
            self.pulse.beat();
            if self.terms.selectors.gain(selector) {
                self.terms.new_selectors.insert(selector.clone());
            }
        }
        for named_port in allowed.named_ports() {
            if self.terms.named_ports.gain(&named_port) {
                self.terms.new_ports.insert(named_port);
            }
        }
    }

    pub(super) fn release_terms(&mut self, allowed: &Allowed) {
        for selector in allowed.selectors() {
            self.pulse.beat();
            if self.terms.selectors.lose(selector) {
                self.terms.new_selectors.remove(selector);
                // The selector may be needed again before the next `take_dirty`, and members that leave before that
                // would be missed.
                let members = self.compiled.peers.remove(selector).unwrap_or_default();
                self.dirty.peers.entry(selector.clone()).or_default().extend(members.keys());
            }
        }
        for named_port in allowed.named_ports() {
            if self.terms.named_ports.lose(&named_port) {
                self.terms.new_ports.remove(&named_port);
                let ports = self.compiled.named_ports.remove(&named_port).unwrap_or_default();
                self.dirty.named_ports.entry(named_port).or_default().extend(ports.keys());
            }
        }
    }

    /// Drops the members of the selectors and named ports of a namespace's groups, so they are filled like new terms.
    pub(super) fn refill(&mut self, namespace: &Arc<str>) {
        let groups = || self.groups_in(namespace);
        let selectors: Vec<_> = groups().flat_map(Allowed::selectors).cloned().collect();
        let named_ports: Vec<_> = groups().flat_map(Allowed::named_ports).collect();
        for selector in selectors {
            self.pulse.beat();
            if let Some(members) = self.compiled.peers.remove(&selector) {
                self.dirty.peers.entry(selector.clone()).or_default().extend(members.keys());
                self.terms.new_selectors.insert(selector);
            }
        }
        for named_port in named_ports {
            if let Some(ports) = self.compiled.named_ports.remove(&named_port) {
                self.dirty.named_ports.entry(named_port.clone()).or_default().extend(ports.keys());
                self.terms.new_ports.insert(named_port);
            }
        }
    }

    /// Fills the new selectors and named ports. Stops as soon as a namespace has too many elements, and returns the
    /// policies at fault.
    pub(super) fn fill(&mut self) -> Result<(), Excess> {
        if !self.terms.new_selectors.is_empty() {
            for (selector, members) in self.select_all(&self.terms.new_selectors)? {
                self.pulse.beat();
                // If no change of the term is noted yet, no set contains it: its sets will be new.
                if let Some(noted) = self.dirty.peers.get_mut(&selector) {
                    noted.extend(members.keys());
                }
                self.compiled.peers.insert(selector, members);
            }
            self.terms.new_selectors.clear();
        }
        if !self.terms.new_ports.is_empty() {
            for (named_port, ports) in self.resolve_all(&self.terms.new_ports)? {
                self.dirty.named_ports.entry(named_port.clone()).or_default().extend(ports.keys());
                self.compiled.named_ports.insert(named_port, ports);
            }
            self.terms.new_ports.clear();
        }
        Ok(())
    }

    /// The members of selectors: each pod is only compared with those indexed under its labels.
    fn select_all(&self, selectors: &BTreeSet<Arc<PeerSelector>>) -> Result<Vec<(Arc<PeerSelector>, Members)>, Excess> {
        let mut named: BTreeMap<&Arc<str>, ByLabel> = BTreeMap::new();
        let mut matching: BTreeMap<&LabelSelector, ByLabel> = BTreeMap::new();
        for selector in selectors {
            match &selector.namespaces {
                Namespaces::Named(name) => named.entry(name).or_default().insert(selector),
                Namespaces::Matching(namespaces) => matching.entry(namespaces).or_default().insert(selector),
            }
        }
        // By pointer: comparing selectors with each other would take longer than comparing them with pods.
        let mut members: BTreeMap<*const PeerSelector, Members> =
            selectors.iter().map(|selector| (Arc::as_ptr(selector), Members::new())).collect();
        let mut watch = self.watch();
        let objects = if matching.is_empty() { None } else { Some(self.state.namespaces.keys()) };
        let namespaces: BTreeSet<&Arc<str>> = objects.into_iter().flatten().chain(named.keys().copied()).collect();
        for name in namespaces {
            self.pulse.beat();
            let labels = self.state.namespaces.get(name).map(|namespace| &namespace.labels);
            let meant = matching.iter().filter(|(selector, _)| labels.is_some_and(|labels| selector.selects(labels)));
            let lists: Vec<&ByLabel> = named.get(name).into_iter().chain(meant.map(|(_, list)| list)).collect();
            if lists.is_empty() {
                continue;
            }
            for (pod, address, owner) in self.owned_in(name) {
                self.pulse.beat();
                let candidates = lists.iter().flat_map(|list| list.candidates(&pod.labels));
                for selector in candidates.filter(|selector| selector.pods.selects(&pod.labels)) {
                    if let Some(members) = members.get_mut(&Arc::as_ptr(selector)) {
                        members.insert(address, owner.clone());
                        watch.found += 1;
                    }
                }
                if watch.is_due() {
                    let size = |selector| members.get(&Arc::as_ptr(selector)).map_or(0, Members::len);
                    let selectors = selectors.iter().map(|selector| (&**selector, size(selector))).collect();
                    self.admit(&Pending { selectors, ..Pending::default() })?;
                }
            }
        }
        let of = |selector: Arc<PeerSelector>| {
            let members = members.remove(&Arc::as_ptr(&selector)).unwrap_or_default();
            // A map built at once takes less memory than one that grows.
            (selector, members.into_iter().collect())
        };
        Ok(selectors.iter().cloned().map(of).collect())
    }

    /// The pods of a namespace, with the IPs of which each is the only owner.
    fn owned_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = (&Pod, IpAddr, &Arc<str>)> {
        self.state.pods_of(namespace).flat_map(move |pod| {
            pod.claims().filter_map(move |address| {
                let (owner, name) = self.owner_pod(address)?;
                (owner.key == pod.key).then_some((pod, address, name))
            })
        })
    }

    fn resolve_all(&self, wanted: &BTreeSet<NamedPort>) -> Result<BTreeMap<NamedPort, Ports>, Excess> {
        let mut found: BTreeMap<NamedPort, Ports> = wanted.iter().map(|port| (port.clone(), Ports::new())).collect();
        let mut watch = self.watch();
        for address in self.owners.keys() {
            let Some((pod, owner)) = self.owner_pod(*address) else { continue };
            for port in &pod.ports {
                let named_port = NamedPort { name: port.name.clone(), protocol: port.protocol };
                if let Some(ports) = found.get_mut(&named_port) {
                    ports.insert((*address, port.port), owner.clone());
                    watch.found += 1;
                }
            }
            if watch.is_due() {
                let ports = found.iter().map(|(port, found)| (port, found.len())).collect();
                self.admit(&Pending { ports, ..Pending::default() })?;
            }
        }
        self.pulse.beat();
        Ok(found)
    }

    fn watch(&self) -> Watch {
        let step = self.state.budget.elements / 4;
        Watch { found: 0, step, next: step }
    }

    /// Updates the membership of `address` in the selectors that may select its former or its current pod.
    pub(super) fn refresh_peers(&mut self, address: IpAddr, before: Option<&Pod>) {
        let changed: Vec<(Arc<PeerSelector>, Option<Arc<str>>)> = {
            let now = self.owner_pod(address);
            let namespace = now.and_then(|(pod, _)| self.state.namespaces.get(&pod.key.namespace));
            let change = |selector: &Arc<PeerSelector>| {
                let member = now.filter(|(pod, _)| selector.selects(pod, namespace)).map(|(_, name)| name);
                let present = self.compiled.peers.get(selector)?.get(&address);
                (present != member).then(|| (selector.clone(), member.cloned()))
            };
            let pods = before.into_iter().chain(now.map(|(pod, _)| &**pod));
            let candidates = pods.flat_map(|pod| self.terms.selectors.candidates(&pod.key.namespace, &pod.labels));
            candidates.filter_map(change).collect()
        };
        self.put_members(address, changed);
    }

    /// Updates the membership of the pods of a namespace in selectors that select namespaces.
    pub(super) fn refresh_peers_in(&mut self, namespace: &Arc<str>, selectors: &ByLabel) {
        let addresses: BTreeSet<_> = self.state.pods_of(namespace).flat_map(Pod::claims).collect();
        for address in addresses {
            self.pulse.beat();
            let changed: Vec<_> = {
                let Some((pod, name)) = self.owner_pod(address) else { continue };
                let object = self.state.namespaces.get(&pod.key.namespace);
                let change = |selector: &Arc<PeerSelector>| {
                    let member = selector.selects(pod, object).then_some(name);
                    let present = self.compiled.peers.get(selector)?.get(&address);
                    (present != member).then(|| (selector.clone(), member.cloned()))
                };
                selectors.candidates(&pod.labels).filter_map(change).collect()
            };
            self.put_members(address, changed);
        }
    }

    fn put_members(&mut self, address: IpAddr, changed: Vec<(Arc<PeerSelector>, Option<Arc<str>>)>) {
        for (selector, member) in changed {
            let Some(members) = self.compiled.peers.get_mut(&selector) else { continue };
            match member {
                Some(name) => members.insert(address, name),
                None => members.remove(&address),
            };
            self.dirty.peers.entry(selector).or_default().insert(address);
        }
    }

    /// Updates the named ports of the former and the current pod of `address`.
    pub(super) fn refresh_named_ports(&mut self, address: IpAddr, before: Option<&Pod>) {
        if self.compiled.named_ports.is_empty() {
            return;
        }
        let now = self.owner_pod(address);
        let declared = before.into_iter().chain(now.map(|(pod, _)| &**pod)).flat_map(|pod| &pod.ports);
        let named: BTreeSet<NamedPort> =
            declared.map(|port| NamedPort { name: port.name.clone(), protocol: port.protocol }).collect();
        for named_port in named {
            let now = self.owner_pod(address);
            let wanted = now.map(|(pod, name)| resolved(pod, name, address, &named_port)).unwrap_or_default();
            let Some(ports) = self.compiled.named_ports.get_mut(&named_port) else { continue };
            let present = ports.range((address, 0)..=(address, u16::MAX));
            let present: Ports = present.map(|(key, name)| (*key, name.clone())).collect();
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
}

/// The numbers that `pod` declares for a named port, at one of its IPs.
fn resolved(pod: &Pod, name: &Arc<str>, address: IpAddr, named_port: &NamedPort) -> Ports {
    let declared =
        |port: &&crate::input::ContainerPort| port.name == named_port.name && port.protocol == named_port.protocol;
    pod.ports.iter().filter(declared).map(|port| ((address, port.port), name.clone())).collect()
}
