//! Isolation of a whole namespace by an annotation, as before Kubernetes 1.7.
//!
//! With `net.beta.kubernetes.io/network-policy: {"ingress": {"isolation": "DefaultDeny"}}`, only flows that policies
//! allow, and flows of the node itself, reached the namespace's pods. Today, a policy that selects all pods and allows
//! nothing does this; if the annotation is honoured, it is replaced by such a policy (semantics of 1.3:
//! kubernetes/community, `contributors/design-proposals/network/network-policy.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Isolates, LabelSelector, Namespace, NamespacedName, Policy, State};

/// The annotation, and the name of the policy that replaces it. No other policy can have this name, because names have
/// no slash.
pub const LEGACY_ANNOTATION: &str = "net.beta.kubernetes.io/network-policy";

/// Replaces annotations by policies while objects change.
#[derive(Clone, Debug, Default)]
pub struct LegacyIsolation {
    isolated: BTreeSet<Arc<str>>,
}

impl LegacyIsolation {
    /// The changes to make for a change. A policy comes before its namespace.
    pub fn expand(&mut self, change: Change) -> Vec<Change> {
        let mut changes = Vec::new();
        match change {
            Change::Namespace(namespace) => {
                if namespace.legacy_isolation && self.isolated.insert(namespace.name.clone()) {
                    changes.push(Change::Policy(policy(&namespace.name)));
                } else if !namespace.legacy_isolation && self.isolated.remove(&namespace.name) {
                    changes.push(Change::PolicyGone(key(&namespace.name)));
                }
                changes.push(Change::Namespace(namespace));
            }
            Change::NamespaceGone(name) => {
                let was_isolated = self.isolated.remove(&name);
                let gone = was_isolated.then(|| Change::PolicyGone(key(&name)));
                changes.push(Change::NamespaceGone(name));
                changes.extend(gone);
            }
            Change::Namespaces(namespaces) => {
                let now: BTreeSet<_> = isolated(namespaces.iter()).collect();
                changes.extend(now.difference(&self.isolated).map(|name| Change::Policy(policy(name))));
                let gone: Vec<_> = self.isolated.difference(&now).map(|name| Change::PolicyGone(key(name))).collect();
                changes.push(Change::Namespaces(namespaces));
                changes.extend(gone);
                self.isolated = now;
            }
            Change::Policies(mut policies) => {
                policies.extend(self.isolated.iter().map(policy));
                changes.push(Change::Policies(policies));
            }
            other => changes.push(other),
        }
        changes
    }

    /// Replaces the annotations of a state by policies.
    pub fn honour(state: &mut State) {
        let names: Vec<_> = isolated(state.namespaces.values()).collect();
        for name in names {
            state.apply(Change::Policy(policy(&name)));
        }
    }
}

fn isolated<'a>(namespaces: impl Iterator<Item = &'a Namespace>) -> impl Iterator<Item = Arc<str>> {
    namespaces.filter(|namespace| namespace.legacy_isolation).map(|namespace| namespace.name.clone())
}

fn key(namespace: &Arc<str>) -> NamespacedName {
    NamespacedName::new(namespace.clone(), LEGACY_ANNOTATION)
}

/// A policy that selects all pods of the namespace and allows no ingress.
fn policy(namespace: &Arc<str>) -> Policy {
    Policy {
        key: key(namespace),
        pod_selector: LabelSelector::default(),
        isolates: Isolates { ingress: true, egress: false },
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
