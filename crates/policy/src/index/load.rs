//! The number of elements that the policies of a namespace have on this node.
//!
//! An element is a member of a selector, a port that a named port resolves to, or a member of a set for more selectors
//! than get separate sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Index;
use crate::compile::{Allowed, Group, NamedPort, PeerSelector, PeerUnion};
use crate::input::{Direction, SETS_APART};

/// A number of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) elements: u64,
    /// The maximum number of elements that one IP, or a port of its pod, adds.
    pub(super) spread: u64,
}

/// The numbers found so far in a lookup.
#[derive(Default)]
pub(super) struct Pending<'a> {
    pub(super) selectors: BTreeMap<&'a PeerSelector, usize>,
    pub(super) ports: BTreeMap<&'a NamedPort, usize>,
}

impl Share {
    fn add(&mut self, elements: u64) {
        self.elements = self.elements.saturating_add(elements);
        self.spread = self.spread.saturating_add(1);
    }
}

impl Index {
    /// The load of a namespace's groups, or an upper bound of it that is at most `enough`.
    pub(super) fn load(&self, namespace: &Arc<str>, pending: &Pending<'_>, enough: u64) -> Share {
        let mut load = Share::default();
        for named_port in self.groups_in(namespace).flat_map(Allowed::named_ports).collect::<BTreeSet<_>>() {
            load.add(self.ports_found(&named_port, pending));
        }
        let unions = self.unions_in(namespace);
        let terms: u64 = unions.iter().map(|union| count(union.pods.len()) + u64::from(is_united(union))).sum();
        let most = load.elements.saturating_add(terms.saturating_mul(self.reach()));
        if most <= enough {
            return Share { elements: most, spread: load.spread.saturating_add(terms) };
        }
        let mut seen: BTreeSet<&PeerSelector> = BTreeSet::new();
        let mut united: BTreeSet<Vec<&PeerSelector>> = BTreeSet::new();
        for union in unions {
            self.pulse.beat();
            let mut members = 0_u64;
            for selector in union.pods.keys() {
                let found = self.members_found(selector, pending);
                members = members.saturating_add(found);
                if seen.insert(selector) {
                    load.add(found);
                }
            }
            if is_united(union) && united.insert(union.pods.keys().map(|selector| &**selector).collect()) {
                load.add(members.min(self.reach()));
            }
        }
        load
    }

    /// The share of each policy of a namespace.
    pub(super) fn shares(&self, namespace: &Arc<str>, pending: &Pending<'_>) -> BTreeMap<Arc<str>, Share> {
        let mut shares: BTreeMap<Arc<str>, Share> = BTreeMap::new();
        let mut seen: BTreeSet<(&str, &PeerSelector)> = BTreeSet::new();
        for union in self.unions_in(namespace) {
            self.pulse.beat();
            let mut members: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
            for (selector, sources) in &union.pods {
                let found = self.members_found(selector, pending);
                let policies: BTreeSet<_> = sources.iter().map(|source| &source.policy).collect();
                for policy in policies {
                    let sum = members.entry(policy).or_default();
                    *sum = sum.saturating_add(found);
                    if seen.insert((&**policy, selector)) {
                        shares.entry(policy.clone()).or_default().add(found);
                    }
                }
            }
            for (policy, members) in members.into_iter().filter(|_| is_united(union)) {
                shares.entry(policy.clone()).or_default().add(members.min(self.reach()));
            }
        }
        let mut named: BTreeSet<(Arc<str>, NamedPort)> = BTreeSet::new();
        for (protocol, ports) in self.groups_in(namespace).flat_map(|allowed| &allowed.protocols) {
            for (name, union) in &ports.named {
                let port = NamedPort { name: name.clone(), protocol: *protocol };
                let policies = union.sources().flat_map(|sources| sources.iter().map(|source| source.policy.clone()));
                named.extend(policies.map(|policy| (policy, port.clone())));
            }
        }
        for (policy, port) in named {
            shares.entry(policy).or_default().add(self.ports_found(&port, pending));
        }
        shares
    }

    /// The number of IPs that a selector may select.
    pub(super) fn reach(&self) -> u64 {
        count(self.owners.len())
    }

    fn members_found(&self, selector: &PeerSelector, pending: &Pending<'_>) -> u64 {
        let found = || pending.selectors.get(selector).copied().unwrap_or_default();
        count(self.compiled.peers.get(selector).map_or_else(found, BTreeMap::len))
    }

    fn ports_found(&self, port: &NamedPort, pending: &Pending<'_>) -> u64 {
        let found = || pending.ports.get(port).copied().unwrap_or_default();
        count(self.compiled.named_ports.get(port).map_or_else(found, BTreeMap::len))
    }

    pub(super) fn groups_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Allowed> {
        Direction::ALL.into_iter().flat_map(move |direction| {
            let first = Group::Policies { direction, namespace: namespace.clone(), policies: Arc::new([]) };
            let is_there = move |group: &Group| match group {
                Group::Policies { direction: found, namespace: there, .. } => *found == direction && there == namespace,
                Group::DuplicateIp(_) | Group::Held(_) => false,
            };
            let there = self.compiled.groups.range(first..).take_while(move |(group, _)| is_there(group));
            there.map(|(_, allowed)| allowed)
        })
    }

    /// The unions of peers of a namespace's groups, each once.
    fn unions_in(&self, namespace: &Arc<str>) -> Vec<&PeerUnion> {
        let mut seen = BTreeSet::new();
        let unions = self.groups_in(namespace).flat_map(Allowed::unions);
        unions.filter(|union| seen.insert(Arc::as_ptr(union))).map(|union| &**union).collect()
    }
}

/// Whether one set unites its selectors.
fn is_united(union: &PeerUnion) -> bool {
    count(union.pods.len()) > SETS_APART
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
