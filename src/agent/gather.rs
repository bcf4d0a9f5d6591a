//! From what a source sends to what the index takes: lists put together, deletions of policies held until it is known whether
//! their namespace is being deleted too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use palisade_policy::input::{Change, NamespacedName};
use palisade_watch::{Kind, ListPart, NamespaceAnswer, Notice, Object, ObjectName, Request};
use tokio::sync::mpsc::Sender;

/// Lists that are coming, and deletions that wait.
#[derive(Debug, Default)]
pub(super) struct Gather {
    coming: BTreeMap<Kind, Vec<Object>>,
    listed: BTreeSet<Kind>,
    held: BTreeMap<NamespacedName, Instant>,
    /// Whom to ask about namespaces; without it nothing is held.
    requests: Option<Sender<Request>>,
}

impl Gather {
    /// Asks an API server about namespaces from here on.
    pub(super) fn ask(&mut self, requests: Sender<Request>) {
        self.requests = Some(requests);
    }

    /// Whether every kind has been listed.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// The list that a part of it completes.
    pub(super) fn list(&mut self, part: ListPart) -> Option<Change> {
        match part {
            ListPart::Begin(kind) => drop(self.coming.insert(kind, Vec::new())),
            ListPart::Page(objects) => {
                if let Some(kind) = objects.first().map(Object::kind) {
                    self.coming.entry(kind).or_default().extend(objects);
                }
            }
            ListPart::Abandoned(kind) => drop(self.coming.remove(&kind)),
            ListPart::End(kind) => {
                self.listed.insert(kind);
                if kind == Kind::NetworkPolicy {
                    self.held.clear();
                }
                return Some(whole(kind, self.coming.remove(&kind).unwrap_or_default()));
            }
        }
        None
    }

    /// Gives a change back unless it has to wait.
    pub(super) fn hold(&mut self, change: Change, at: Instant) -> Option<Change> {
        match (change, &self.requests) {
            (Change::PolicyGone(key), Some(requests)) => {
                // While the queue is full the next answer or the next list finds it.
                requests.try_send(Request::Namespace(Arc::clone(&key.namespace))).ok();
                self.held.insert(key, at);
                None
            }
            (change, _) => {
                if let Change::Policy(policy) = &change {
                    self.held.remove(&policy.key);
                }
                Some(change)
            }
        }
    }

    /// Has the owners of a policy told what is the matter with it.
    pub(super) fn notice(&self, object: &ObjectName, message: &str) {
        if let (Kind::NetworkPolicy, Some(namespace), Some(requests)) = (object.kind, &object.namespace, &self.requests)
        {
            let policy = NamespacedName::new(Arc::clone(namespace), Arc::clone(&object.name));
            let message = format!(
                "{message}; what cannot be enforced matches nothing, and the pods that the policy selects stay isolated"
            );
            requests.try_send(Request::Notice(Notice { policy, reason: "TermNotEnforced", message })).ok();
        }
    }

    /// What may happen now that a namespace has been asked for.
    pub(super) fn answered(&mut self, name: &Arc<str>, asked: Instant, answer: NamespaceAnswer) -> Vec<Change> {
        let mut changes = Vec::new();
        if let NamespaceAnswer::Present(namespace) = answer
            && namespace.terminating
        {
            changes.push(Change::Namespace(namespace));
        }
        let due = self.held.iter().filter(|(key, at)| key.namespace == *name && **at <= asked);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in due {
            self.held.remove(&key);
            changes.push(Change::PolicyGone(key));
        }
        if self.held.keys().any(|key| key.namespace == *name)
            && let Some(requests) = &self.requests
        {
            requests.try_send(Request::Namespace(Arc::clone(name))).ok();
        }
        changes
    }
}

/// A list as one change.
fn whole(kind: Kind, objects: Vec<Object>) -> Change {
    let (mut pods, mut namespaces, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for object in objects {
        match object {
            Object::Pod(pod) => pods.push(pod),
            Object::Namespace(namespace) => namespaces.push(namespace),
            Object::Policy(policy) => policies.push(policy),
        }
    }
    match kind {
        Kind::Pod => Change::Pods(pods),
        Kind::Namespace => Change::Namespaces(namespaces),
        Kind::NetworkPolicy => Change::Policies(policies),
    }
}
