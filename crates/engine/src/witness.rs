//! GETs of single objects before a list without them is believed.
//!
//! Lists can be false for as long as their cause lasts: a cache, a proxy, an aggregator. Another part often serves
//! single objects, and a GET is cheap. An object that exists proves that the list is false.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use palisade_policy::index::Index;
use palisade_policy::input::{Kind, NamespacedName, ObjectAnswer, Pod};

use crate::doubt::{Keys, Reason, SYSTEM, is_local};
use crate::step::Ask;

/// The limit on GETs: many agents may doubt the same list.
const MOST: usize = 3;

/// Objects of one kind that were asked for, and the server's answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witnesses(BTreeMap<NamespacedName, Option<ObjectAnswer>>);

impl Witnesses {
    /// Asks for the first of these objects.
    pub(crate) fn ask(kind: Kind, keys: impl IntoIterator<Item = NamespacedName>, asks: &mut VecDeque<Ask>) -> Self {
        let keys: Vec<_> = keys.into_iter().take(MOST).collect();
        asks.extend(keys.iter().map(|key| Ask::Object { kind, key: key.clone() }));
        Self(keys.into_iter().map(|key| (key, None)).collect())
    }

    /// The answers for objects that the next list lacks too. The server is asked for `fresh` ones, and again for those
    /// that exist or have no answer: they may still go.
    pub(crate) fn and(
        mut self,
        kind: Kind,
        fresh: Vec<NamespacedName>,
        missing: &Keys,
        asks: &mut VecDeque<Ask>,
    ) -> Self {
        self.0.retain(|key, _| missing.contains(key));
        let is_open = |answer: &Option<ObjectAnswer>| matches!(answer, None | Some(ObjectAnswer::Present));
        let open = self.0.iter().filter(|(key, answer)| is_open(answer) && !fresh.contains(key));
        let again: Vec<_> = open.map(|(key, _)| key.clone()).take(MOST).collect();
        let asked = Self::ask(kind, fresh, asks).0.into_iter().chain(Self::ask(kind, again, asks).0);
        self.0.extend(asked);
        self
    }

    /// Takes an answer. Returns whether it was expected.
    pub(crate) fn answer(&mut self, key: &NamespacedName, answer: ObjectAnswer) -> bool {
        self.0.get_mut(key).is_some_and(|known| known.replace(answer) != Some(answer))
    }

    /// Drops the question about this object, and the answer.
    pub(crate) fn forget(&mut self, key: &NamespacedName) {
        self.0.remove(key);
    }

    /// The objection to a list that lacks these objects. A refusal is none: the right to ask may be missing forever.
    pub(crate) fn objection(&self, missing: &Keys) -> Option<Reason> {
        let mut answers = self.0.iter().filter(|(key, _)| missing.contains(*key)).map(|(_, answer)| *answer);
        if answers.clone().any(|answer| answer == Some(ObjectAnswer::Present)) {
            return Some(Reason::Object);
        }
        answers.any(|answer| answer.is_none()).then_some(Reason::Unanswered)
    }

    /// Whether the server was asked for any of these.
    pub(crate) fn is_about(&self, missing: &Keys) -> bool {
        self.0.keys().any(|key| missing.contains(key))
    }
}

/// The objects that a list lacks, the most important first: policies that isolate pods of this node, isolated pods and
/// canaries, then other objects of this node.
pub(crate) fn by_weight(
    kind: Kind,
    missing: &Keys,
    index: &Index,
    own_pod: Option<&NamespacedName>,
) -> Vec<NamespacedName> {
    let state = index.state();
    let local: Vec<&Pod> = state.every_pod().filter(|pod| is_local(index, pod)).collect();
    let names: BTreeSet<_> = local.iter().map(|pod| &pod.key).collect();
    let spaces: BTreeSet<&Arc<str>> = local.iter().map(|pod| &pod.key.namespace).collect();
    let is_isolated = |pod: &&Pod| pod.claims().any(|address| index.compiled().subjects.contains_key(&address));
    let isolated: BTreeSet<_> = local.iter().copied().filter(is_isolated).map(|pod| &pod.key).collect();
    let isolates = |key: &NamespacedName| {
        let of_space = |pod: &&&Pod| pod.key.namespace == key.namespace;
        let policy = state.policies.get(key);
        policy.is_some_and(|policy| local.iter().filter(of_space).any(|pod| policy.pod_selector.selects(&pod.labels)))
    };
    let weight = |key: &&NamespacedName| {
        let is_near = spaces.contains(if kind == Kind::Namespace { &key.name } else { &key.namespace });
        match kind {
            Kind::NetworkPolicy => (!(is_near && isolates(key)), !is_near),
            Kind::Pod if own_pod == Some(*key) => (false, false),
            Kind::Pod => (!isolated.contains(key), !names.contains(key)),
            Kind::Namespace => (&*key.name != SYSTEM, !is_near),
        }
    };
    let mut keys: Vec<_> = missing.iter().collect();
    keys.sort_by_cached_key(weight);
    keys.into_iter().take(MOST).cloned().collect()
}
