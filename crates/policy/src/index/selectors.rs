//! Selectors in use, indexed by labels that they require.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Users;
use crate::compile::{Namespaces, PeerSelector};
use crate::input::{Labels, Operator};

/// A selector with more values than this for each of its labels is indexed like one without a required label.
const VALUES: usize = 32;

type Keys = BTreeSet<Arc<PeerSelector>>;

/// Selectors by a label that they require, if any.
#[derive(Clone, Debug, Default)]
pub(super) struct ByLabel {
    by_value: BTreeMap<String, BTreeMap<String, Keys>>,
    others: Keys,
}

impl ByLabel {
    pub(super) fn insert(&mut self, selector: &Arc<PeerSelector>) {
        let Some((key, values)) = demanded(selector) else {
            self.others.insert(selector.clone());
            return;
        };
        for value in values {
            let by_value = self.by_value.entry(key.to_owned()).or_default();
            by_value.entry(value.clone()).or_default().insert(selector.clone());
        }
    }

    fn remove(&mut self, selector: &PeerSelector) {
        let Some((key, values)) = demanded(selector) else {
            self.others.remove(selector);
            return;
        };
        let Some(by_value) = self.by_value.get_mut(key) else { return };
        for value in values {
            if let Some(selectors) = by_value.get_mut(value) {
                selectors.remove(selector);
                if selectors.is_empty() {
                    by_value.remove(value);
                }
            }
        }
        if by_value.is_empty() {
            self.by_value.remove(key);
        }
    }

    fn is_empty(&self) -> bool {
        self.by_value.is_empty() && self.others.is_empty()
    }

    /// The selectors that can select a pod with these labels.
    pub(super) fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Arc<PeerSelector>> {
        let by_value = labels.iter().filter_map(|(key, value)| self.by_value.get(key)?.get(value)).flatten();
        by_value.chain(&self.others)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<PeerSelector>> {
        self.by_value.values().flat_map(BTreeMap::values).flatten().chain(&self.others)
    }
}

/// The label that a selector requires with the fewest values.
fn demanded(selector: &PeerSelector) -> Option<(&str, &BTreeSet<String>)> {
    let demanded = selector.pods.requirements.iter().filter_map(|requirement| match &requirement.operator {
        Operator::In(values) if values.len() <= VALUES => Some((requirement.key.as_str(), values)),
        _ => None,
    });
    demanded.min_by_key(|(_, values)| values.len())
}

/// The selectors that groups name.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    /// The groups that name each.
    users: Users<Arc<PeerSelector>>,
    /// The selectors that name a namespace, by namespace.
    named: BTreeMap<Arc<str>, ByLabel>,
    /// The selectors that select namespaces.
    matching: ByLabel,
}

impl Selectors {
    /// Adds a user; true if it is the first.
    pub(super) fn gain(&mut self, selector: &Arc<PeerSelector>) -> bool {
        if !self.users.gain(selector) {
            return false;
        }
        match &selector.namespaces {
            Namespaces::Named(name) => self.named.entry(name.clone()).or_default().insert(selector),
            Namespaces::Matching(_) => self.matching.insert(selector),
        }
        true
    }

    /// Removes a user; true if it was the last.
    pub(super) fn lose(&mut self, selector: &PeerSelector) -> bool {
        if !self.users.lose(selector) {
            return false;
        }
        match &selector.namespaces {
            Namespaces::Named(name) => {
                if let Some(there) = self.named.get_mut(name) {
                    there.remove(selector);
                    if there.is_empty() {
                        self.named.remove(name);
                    }
                }
            }
            Namespaces::Matching(_) => self.matching.remove(selector),
        }
        true
    }

    /// The selectors that can select a pod of this namespace with these labels.
    pub(super) fn candidates<'a>(
        &'a self,
        namespace: &str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<PeerSelector>> {
        let named = self.named.get(namespace).into_iter().flat_map(|there| there.candidates(labels));
        named.chain(self.matching.candidates(labels))
    }

    /// The namespace selectors that match exactly one of two sets of labels.
    pub(super) fn matching_one_of(&self, one: Option<&Labels>, other: Option<&Labels>) -> ByLabel {
        let mut differing = ByLabel::default();
        for selector in self.matching.all() {
            if let Namespaces::Matching(namespaces) = &selector.namespaces {
                let selects = |labels: Option<&Labels>| labels.is_some_and(|labels| namespaces.selects(labels));
                if selects(one) != selects(other) {
                    differing.insert(selector);
                }
            }
        }
        differing
    }
}
