//! The cause of a commit, as text for the log.

use std::fmt;

use palisade_policy::input::{Change, State};

/// The number of events that are named; the rest is counted.
const NAMED: usize = 3;

/// The events behind a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    named: Vec<String>,
    more: usize,
}

impl Cause {
    /// A cause that is not an event of an object.
    pub fn other(text: &str) -> Self {
        Self { named: vec![text.to_owned()], more: 0 }
    }

    /// Whether it has no event.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Adds an event; `state` is the state before it.
    pub fn add(&mut self, change: &Change, state: &State) {
        if self.named.len() < NAMED {
            self.named.push(describe(change, state));
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join(", "))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}

fn describe(change: &Change, state: &State) -> String {
    let verb = |known: bool| if known { "changed" } else { "added" };
    match change {
        Change::Pod(pod) => format!("pod {} {}", pod.key, verb(state.pods.contains_key(&pod.key))),
        Change::PodGone(key) => format!("pod {key} gone"),
        Change::Namespace(namespace) => {
            format!("namespace {} {}", namespace.name, verb(state.namespaces.contains_key(&namespace.name)))
        }
        Change::NamespaceGone(name) => format!("namespace {name} gone"),
        Change::Policy(policy) => {
            format!("policy {} {}", policy.key, verb(state.policies.contains_key(&policy.key)))
        }
        Change::PolicyGone(key) => format!("policy {key} deleted"),
        Change::Pods(pods) => format!("list of {} pods", pods.len()),
        Change::Namespaces(namespaces) => format!("list of {} namespaces", namespaces.len()),
        Change::Policies(policies) => format!("list of {} policies", policies.len()),
    }
}
