//! Input from the source of objects, and the decision how much of it to believe.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;
use palisade_policy::index::Index;
use palisade_policy::input::{
    Change, Kind, LEGACY_ANNOTATION, ListPart, NamespaceAnswer, NamespacedName, Object, ObjectAnswer, State,
};

use crate::doubt::{Doubt, Keys, Reason, doubt, has_local_pods, is_ending};
use crate::report::Report;
use crate::step::Ask;
use crate::witness::{Witnesses, by_weight};

/// One report from the source.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Changes with one cause, none of them a list: they take effect together.
    Changes(Vec<Change>),
    /// A part of a list.
    List(ListPart),
    /// The answer to [`Ask::Namespace`].
    Namespace {
        /// The name.
        name: Arc<str>,
        /// The state of the namespace.
        answer: NamespaceAnswer,
    },
    /// The answer to [`Ask::Object`].
    Object {
        /// The kind.
        kind: Kind,
        /// The name.
        key: NamespacedName,
        /// Whether it exists.
        answer: ObjectAnswer,
    },
    /// The IP ranges that the node assigns pod IPs from.
    PodRanges(BTreeSet<IpNet>),
}

/// A list that is still arriving.
#[derive(Clone, Debug, Default)]
struct Listing {
    /// The objects it has that were known before.
    seen: HashSet<NamespacedName>,
    /// Its objects that are new or differ.
    changed: Vec<Object>,
}

/// Deletions of policies of one namespace. They are held until it is known whether the namespace is terminating too: in
/// that case its policies are deleted before its pods (CVE-2024-7598), and the pods must stay isolated.
#[derive(Clone, Debug, Default)]
struct Held {
    /// The policies that the pending question covers.
    policies: BTreeSet<NamespacedName>,
    /// The policies deleted since then: the answer may be older, so they need another question.
    later: BTreeSet<NamespacedName>,
    /// The namespace is gone, and the watch of namespaces has not reported it yet.
    absent: bool,
}

/// The believed state of the source, and the input that waits for confirmation.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Whether it answers questions; a manifest directory does not.
    answers: bool,
    own_pod: Option<NamespacedName>,
    listing: BTreeMap<Kind, Listing>,
    /// The kinds that have been listed once.
    listed: BTreeSet<Kind>,
    doubts: BTreeMap<Kind, Doubt>,
    /// The kinds that need another list before the first change to the table, with the reasons.
    unconfirmed: BTreeMap<Kind, Reason>,
    /// Objects that the previous agent's table names and the first lists lack.
    named: BTreeMap<Kind, Witnesses>,
    held: BTreeMap<Arc<str>, Held>,
}

/// The queues of questions and reports.
pub(crate) struct Outbox<'a> {
    pub(crate) asks: &'a mut VecDeque<Ask>,
    pub(crate) reports: &'a mut Vec<Report>,
}

impl Source {
    pub(crate) fn new(answers: bool, own_pod: Option<NamespacedName>) -> Self {
        Self {
            answers,
            own_pod,
            listing: BTreeMap::new(),
            listed: BTreeSet::new(),
            doubts: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            named: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Whether it answers questions.
    pub(crate) fn answers(&self) -> bool {
        self.answers
    }

    /// Whether every kind has been listed.
    pub(crate) fn is_synced(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// Requests another list of every kind before the first change to the table, and GETs of some objects in `named`.
    pub(crate) fn confirm(&mut self, reason: Reason, named: BTreeMap<Kind, Keys>, out: &mut Outbox<'_>) {
        let ask = |(kind, keys)| (kind, Witnesses::ask(kind, keys, out.asks));
        self.named = named.into_iter().map(ask).collect();
        for kind in Kind::ALL {
            self.unconfirmed.insert(kind, reason);
            out.asks.push_back(Ask::ListAgain(kind));
            out.reports.push(Report::Doubted { kind, reason, missing: 0 });
        }
    }

    /// The objection to lists that still lack these objects, which the previous agent's table names.
    pub(crate) fn objection(&self, named: &BTreeMap<Kind, Keys>) -> Option<Reason> {
        let objections = named.iter().map(|(kind, missing)| match self.named.get(kind) {
            Some(witnesses) if witnesses.is_about(missing) => witnesses.objection(missing),
            _ => Some(Reason::Table),
        });
        objections.flatten().max()
    }

    /// Whether a second list is needed before the first change to the table.
    pub(crate) fn is_confirming(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// The kinds whose last list is doubted.
    pub(crate) fn doubts(&self) -> impl Iterator<Item = (Kind, Reason)> {
        let unconfirmed = self.unconfirmed.iter().map(|(kind, reason)| (*kind, *reason));
        self.doubts.iter().map(|(kind, doubt)| (*kind, doubt.reason)).chain(unconfirmed)
    }

    /// The number of deleted policies that wait for an answer about their namespace.
    pub(crate) fn held(&self) -> usize {
        self.held.values().map(|held| held.policies.len() + held.later.len()).sum()
    }

    /// The changes to apply.
    pub(crate) fn changes(&mut self, changes: Vec<Change>, index: &Index, out: &mut Outbox<'_>) -> Vec<Change> {
        let mut believed = Vec::with_capacity(changes.len());
        for change in changes {
            self.change(change, index, out, &mut believed);
        }
        believed
    }

    fn change(&mut self, change: Change, index: &Index, out: &mut Outbox<'_>, believed: &mut Vec<Change>) {
        match change {
            Change::PolicyGone(key) => self.depart(key, index, out, believed),
            Change::Policy(policy) => {
                self.exists(Kind::NetworkPolicy, &policy.key);
                self.keep(&policy.key);
                believed.push(Change::Policy(policy));
            }
            Change::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.exists(Kind::Namespace, &NamespacedName::new("", name.clone()));
                believed.push(Change::Namespace(namespace));
                self.release_absent(&name, believed);
            }
            Change::NamespaceGone(name) => {
                believed.push(Change::NamespaceGone(name.clone()));
                self.release_absent(&name, believed);
            }
            Change::Pod(pod) => {
                self.exists(Kind::Pod, &pod.key);
                believed.push(Change::Pod(pod));
            }
            other => believed.push(other),
        }
    }

    /// A watch reported an object, so a doubted list before it and a GET say nothing about the object any more.
    fn exists(&mut self, kind: Kind, key: &NamespacedName) {
        if let Some(doubt) = self.doubts.get_mut(&kind) {
            doubt.missing.remove(key);
            doubt.witnesses.forget(key);
        }
    }

    /// Handles the deletion of a policy. It is believed at once if no local pod depends on it, or if its namespace is
    /// known to be ending.
    fn depart(&mut self, key: NamespacedName, index: &Index, out: &mut Outbox<'_>, believed: &mut Vec<Change>) {
        let state = index.state();
        if let Some(held) = self.held.get_mut(&key.namespace) {
            if held.absent {
                held.policies.insert(key)
            } else {
                held.later.insert(key)
            };
            return;
        }
        let matters = self.answers
            && state.policies.contains_key(&key)
            && !is_ending(state, &key.namespace)
            && has_local_pods(index, &key.namespace);
        if matters {
            out.asks.push_back(Ask::Namespace(key.namespace.clone()));
            self.held.entry(key.namespace.clone()).or_default().policies.insert(key);
        } else {
            believed.push(Change::PolicyGone(key));
        }
    }

    /// Ends the wait for a policy that exists again.
    fn keep(&mut self, key: &NamespacedName) {
        if let Some(held) = self.held.get_mut(&key.namespace) {
            held.policies.remove(key);
            held.later.remove(key);
        }
    }

    /// Releases deletions once the namespace watch reports a namespace that an answer said is gone.
    fn release_absent(&mut self, name: &Arc<str>, believed: &mut Vec<Change>) {
        if self.held.get(name).is_some_and(|held| held.absent) {
            let held = self.held.remove(name).unwrap_or_default();
            believed.extend(held.policies.into_iter().map(Change::PolicyGone));
        }
    }

    /// Takes the answer to a question about a namespace.
    pub(crate) fn answer(
        &mut self,
        name: &Arc<str>,
        answer: NamespaceAnswer,
        state: &State,
        out: &mut Outbox<'_>,
    ) -> Vec<Change> {
        let Some(mut held) = self.held.remove(name) else { return Vec::new() };
        let mut believed = Vec::new();
        match answer {
            // From now on deletions leave tombstones, later ones too.
            NamespaceAnswer::Present(namespace) if namespace.terminating => {
                believed.push(Change::Namespace(namespace));
                held.policies.append(&mut held.later);
            }
            // The watch of namespaces has not reported it yet; policies leave tombstones only after it does.
            NamespaceAnswer::Absent if state.namespaces.contains_key(name) => {
                held.policies.append(&mut held.later);
                self.held.insert(name.clone(), Held { absent: true, ..held });
                return believed;
            }
            NamespaceAnswer::Present(_) | NamespaceAnswer::Absent | NamespaceAnswer::Refused => {}
        }
        believed.extend(held.policies.into_iter().map(Change::PolicyGone));
        if !held.later.is_empty() {
            out.asks.push_back(Ask::Namespace(name.clone()));
            let held = Held { policies: held.later, ..Held::default() };
            self.held.insert(name.clone(), held);
        }
        believed
    }

    /// Takes the answer to a question about an object that a list lacks.
    pub(crate) fn object(&mut self, kind: Kind, key: NamespacedName, answer: ObjectAnswer, out: &mut Outbox<'_>) {
        let doubt = self.doubts.get_mut(&kind).map(|doubt| (Some(&mut doubt.reason), &mut doubt.witnesses));
        let first = self.named.get_mut(&kind).map(|witnesses| (self.unconfirmed.get_mut(&kind), witnesses));
        let mut is_false = false;
        for (reason, witnesses) in doubt.into_iter().chain(first) {
            if witnesses.answer(&key, answer) && answer == ObjectAnswer::Present {
                reason.into_iter().for_each(|reason| *reason = Reason::Object);
                is_false = true;
            }
        }
        if is_false {
            out.reports.push(Report::Contradicted { kind, object: key });
        }
    }

    /// Takes a part of a list. Returns the changes to apply at its end.
    pub(crate) fn list(&mut self, part: ListPart, index: &Index, out: &mut Outbox<'_>) -> Vec<Change> {
        match part {
            ListPart::Begin(kind) => drop(self.listing.insert(kind, Listing::default())),
            ListPart::Page(objects) => objects.into_iter().for_each(|object| self.listed(object, index.state())),
            ListPart::Abandoned(kind) => drop(self.listing.remove(&kind)),
            ListPart::End(kind) => return self.end_of_list(kind, index, out),
        }
        Vec::new()
    }

    /// Takes an object of a list. An unchanged one leaves only a mark.
    fn listed(&mut self, object: Object, state: &State) {
        let Some(listing) = self.listing.get_mut(&object.kind()) else { return };
        let object = match object {
            // In the form that the index stores, for comparison.
            Object::Policy(policy) => Object::Policy(policy.within(&state.budget)),
            other => other,
        };
        let known = match &object {
            Object::Pod(pod) => state.pod(&pod.key).map(|known| (known.key.clone(), known == pod)),
            Object::Namespace(namespace) => state
                .namespaces
                .get(&namespace.name)
                .map(|known| (NamespacedName::new("", known.name.clone()), known == namespace)),
            // A tombstone of the same name is not the object in the list.
            Object::Policy(policy) => state
                .policies
                .get(&policy.key)
                .map(|known| (known.key.clone(), known == policy && !state.tombstones.contains(&policy.key))),
        };
        let same = known.as_ref().is_some_and(|(_, same)| *same);
        listing.seen.extend(known.map(|(key, _)| key));
        if let (true, Object::Policy(policy)) = (same, &object) {
            let key = policy.key.clone();
            self.keep(&key);
        } else if !same {
            listing.changed.push(object);
        }
    }

    fn end_of_list(&mut self, kind: Kind, index: &Index, out: &mut Outbox<'_>) -> Vec<Change> {
        let Some(listing) = self.listing.remove(&kind) else { return Vec::new() };
        let state = index.state();
        let (missing, known) = missing(kind, &listing.seen, state);
        let first = !self.listed.contains(&kind);
        if !first && self.answers && self.is_doubted(kind, &missing, known, index, out) {
            return Vec::new();
        }
        self.listed.insert(kind);
        self.unconfirmed.remove(&kind);
        let mut believed = Vec::new();
        let arrivals = listing.changed.into_iter().map(Change::from);
        // A pod leaves its IP before another gets it; policies come before the pods that they isolate.
        let departures = missing.into_iter().map(|key| gone(kind, key));
        for change in departures.chain(arrivals) {
            self.change(change, index, out, &mut believed);
        }
        believed
    }

    /// Whether this list must wait for another one, which it then requests.
    fn is_doubted(&mut self, kind: Kind, missing: &Keys, known: usize, index: &Index, out: &mut Outbox<'_>) -> bool {
        let before = self.doubts.remove(&kind);
        let own_pod = self.own_pod.as_ref();
        // A deletion that a watch reported gives no doubt.
        let is_held = |key: &&NamespacedName| {
            let held = self.held.get(&key.namespace).filter(|_| kind == Kind::NetworkPolicy);
            held.is_some_and(|held| held.policies.contains(*key) || held.later.contains(*key))
        };
        let surprising: Keys = missing.iter().filter(|key| !is_held(key)).cloned().collect();
        // Objects known to be gone do not count as known.
        let left = |new: &Keys| known.saturating_sub(missing.len().saturating_sub(new.len()));
        let judge = |new: &Keys| doubt(kind, new, missing, left(new), index, own_pod);
        // Objects that the previous list lacked too are gone, unless the server has some of them; the rest is judged
        // alone.
        let new: Keys = match &before {
            None => surprising.clone(),
            Some(before) => surprising.difference(&before.missing).cloned().collect(),
        };
        let doubtful = judge(&new);
        let reason = doubtful.or_else(|| {
            let witnesses = &before.as_ref()?.witnesses;
            let unasked = || judge(&surprising).filter(|_| !witnesses.is_about(&surprising));
            witnesses.objection(&surprising).or_else(unasked)
        });
        if let Some(reason) = reason {
            let fresh = by_weight(kind, if doubtful.is_some() { &new } else { &surprising }, index, own_pod);
            let known = before.map(|before| before.witnesses).unwrap_or_default();
            let witnesses = known.and(kind, fresh, &surprising, out.asks);
            out.asks.push_back(Ask::ListAgain(kind));
            out.reports.push(Report::Doubted { kind, reason, missing: missing.len() });
            self.doubts.insert(kind, Doubt { reason, missing: missing.clone(), witnesses });
            return true;
        }
        if before.is_some() {
            out.reports.push(if missing.is_empty() {
                Report::Dispelled { kind }
            } else {
                Report::Believed { kind, gone: missing.len() }
            });
        }
        false
    }
}

/// The objects of the source that a list lacks, and the number of objects before it.
fn missing(kind: Kind, seen: &HashSet<NamespacedName>, state: &State) -> (Keys, usize) {
    let lacks = |key: &NamespacedName| !seen.contains(key);
    match kind {
        Kind::Pod => (state.pods.keys().filter(|key| lacks(key)).cloned().collect(), state.pods.len()),
        Kind::Namespace => {
            let keys = state.namespaces.keys().map(|name| NamespacedName::new("", name.clone()));
            (keys.filter(lacks).collect(), state.namespaces.len())
        }
        Kind::NetworkPolicy => {
            // Neither tombstones nor stand-ins for an annotation came from a list.
            let listed = |key: &&NamespacedName| !state.tombstones.contains(*key) && &*key.name != LEGACY_ANNOTATION;
            let keys = || state.policies.keys().filter(listed);
            (keys().filter(|key| lacks(key)).cloned().collect(), keys().count())
        }
    }
}

fn gone(kind: Kind, key: NamespacedName) -> Change {
    match kind {
        Kind::Pod => Change::PodGone(key),
        Kind::Namespace => Change::NamespaceGone(key.name),
        Kind::NetworkPolicy => Change::PolicyGone(key),
    }
}
