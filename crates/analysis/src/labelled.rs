//! Objects by their labels, so that a selector is compared with few of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use palisade_policy::input::{LabelSelector, Labels, Namespace, Operator, Pod, Requirement, UNKNOWN_LABEL};
use palisade_policy::nearest;

/// How many values around a misspelled one are compared with it, if there are more.
const NEIGHBOURS: usize = 64;

/// An object with labels.
pub(crate) trait HasLabels {
    /// Its labels.
    fn labels(&self) -> &Labels;
}

impl HasLabels for Pod {
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

impl HasLabels for Namespace {
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// Objects by label key and value.
#[derive(Debug)]
pub(crate) struct Labelled<'a, T> {
    all: Vec<&'a T>,
    by_key: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a T>>>,
}

impl<T> Default for Labelled<'_, T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_key: BTreeMap::new() }
    }
}

impl<'a, T: HasLabels> Labelled<'a, T> {
    pub(crate) fn add(&mut self, object: &'a T) {
        self.all.push(object);
        for (key, value) in object.labels() {
            self.by_key.entry(key).or_default().entry(value).or_default().push(object);
        }
    }

    /// The objects that a selector can match: those with the rarest of the labels that it demands.
    pub(crate) fn candidates(&self, selector: &LabelSelector) -> Vec<&'a T> {
        let lists = selector.requirements.iter().filter_map(|requirement| self.demanded(requirement));
        let rarest = lists.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        rarest.map_or_else(|| self.all.clone(), |lists| lists.into_iter().flatten().copied().collect())
    }

    /// The objects that may meet a requirement, if it demands a label.
    fn demanded(&self, requirement: &Requirement) -> Option<Vec<&Vec<&'a T>>> {
        let there = self.by_key.get(requirement.key.as_str());
        match &requirement.operator {
            Operator::In(values) => {
                let values = values.iter().map(String::as_str).chain([UNKNOWN_LABEL]);
                Some(values.filter_map(|value| there?.get(value)).collect())
            }
            Operator::Exists => Some(there.into_iter().flat_map(BTreeMap::values).collect()),
            Operator::NotIn(_) | Operator::DoesNotExist => None,
        }
    }

    /// Whether an object meets a requirement by itself.
    pub(crate) fn meets(&self, requirement: &Requirement) -> bool {
        let with = |value: Option<&str>| {
            let there = self.by_key.get(requirement.key.as_str()).into_iter().flatten();
            there
                .filter(|(found, _)| value.is_none_or(|value| **found == value))
                .map(|(_, list)| list.len())
                .sum::<usize>()
        };
        match &requirement.operator {
            Operator::In(_) | Operator::Exists => self.demanded(requirement).is_some_and(|lists| !lists.is_empty()),
            Operator::NotIn(values) => values.iter().map(|value| with(Some(value))).sum::<usize>() < self.all.len(),
            Operator::DoesNotExist => with(None) < self.all.len(),
        }
    }

    /// The values of a label.
    pub(crate) fn values(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.by_key.get(key).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// The value of a label that a misspelled one probably meant. Of many values, only the neighbours in sorted order
    /// are compared.
    pub(crate) fn nearest(&self, key: &str, wanted: &str) -> Option<&'a str> {
        let values = self.by_key.get(key)?;
        if values.len() <= 2 * NEIGHBOURS {
            return nearest(wanted, values.keys().copied());
        }
        let before = values.range::<str, _>((Bound::Unbounded, Bound::Excluded(wanted))).rev().take(NEIGHBOURS);
        let after = values.range::<str, _>((Bound::Included(wanted), Bound::Unbounded)).take(NEIGHBOURS);
        nearest(wanted, before.chain(after).map(|(value, _)| *value))
    }
}
