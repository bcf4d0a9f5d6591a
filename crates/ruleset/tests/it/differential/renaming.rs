//! The same cluster with other names: of namespaces, pods, policies and ports, and of labels and their values.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use palisade_policy::input::{
    LabelSelector, Labels, METADATA_NAME, Namespace, NamespaceScope, NamespacedName, Operator, Peer, Peers, Pod,
    Policy, Port, Ports, Requirement, Rule, State,
};

/// One way to rename everything; the order of names changes, too.
pub(crate) struct Renaming(u16);

impl Renaming {
    pub(crate) fn by(number: u16) -> Self {
        Self(number)
    }

    pub(crate) fn state(&self, state: &State) -> State {
        let pods = state.every_pod().map(|pod| self.pod(pod));
        let namespaces = state.namespaces.values().map(|namespace| self.namespace(namespace));
        let policies = state.policies.values().map(|policy| self.policy(policy));
        State {
            pods: pods.map(|pod| (pod.key.clone(), pod.into())).collect(),
            namespaces: namespaces.map(|namespace| (namespace.name.clone(), namespace)).collect(),
            policies: policies.map(|policy| (policy.key.clone(), policy)).collect(),
            tombstones: state.tombstones.iter().map(|key| self.key(key)).collect(),
            departing: state.departing.iter().map(|name| self.name(name)).collect(),
            budget: state.budget,
        }
    }

    fn text(&self, name: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (self.0, name).hash(&mut hasher);
        format!("n{:x}", hasher.finish())
    }

    fn name(&self, name: &str) -> Arc<str> {
        self.text(name).into()
    }

    fn key(&self, key: &NamespacedName) -> NamespacedName {
        NamespacedName { namespace: self.name(&key.namespace), name: self.name(&key.name) }
    }

    /// The well-known label keeps its name.
    fn label(&self, key: &str) -> String {
        if key == METADATA_NAME { key.to_owned() } else { self.text(key) }
    }

    fn labels(&self, labels: &Labels) -> Labels {
        labels.iter().map(|(key, value)| (self.label(key), self.text(value))).collect()
    }

    fn selector(&self, selector: &LabelSelector) -> LabelSelector {
        let requirement = |requirement: &Requirement| {
            let values =
                |values: &std::collections::BTreeSet<String>| values.iter().map(|value| self.text(value)).collect();
            let operator = match &requirement.operator {
                Operator::In(of) => Operator::In(values(of)),
                Operator::NotIn(of) => Operator::NotIn(values(of)),
                other => other.clone(),
            };
            Requirement { key: self.label(&requirement.key), operator }
        };
        LabelSelector { requirements: selector.requirements.iter().map(requirement).collect() }
    }

    fn namespace(&self, namespace: &Namespace) -> Namespace {
        Namespace { name: self.name(&namespace.name), labels: self.labels(&namespace.labels), ..namespace.clone() }
    }

    fn pod(&self, pod: &Pod) -> Pod {
        let mut renamed = Pod { key: self.key(&pod.key), labels: self.labels(&pod.labels), ..pod.clone() };
        renamed.ports.iter_mut().for_each(|port| port.name = self.name(&port.name));
        renamed
    }

    fn policy(&self, policy: &Policy) -> Policy {
        Policy {
            key: self.key(&policy.key),
            pod_selector: self.selector(&policy.pod_selector),
            ingress: policy.ingress.iter().map(|rule| self.rule(rule)).collect(),
            egress: policy.egress.iter().map(|rule| self.rule(rule)).collect(),
            ..policy.clone()
        }
    }

    fn rule(&self, rule: &Rule) -> Rule {
        let mut renamed = rule.clone();
        if let Peers::Of(peers) = &mut renamed.peers {
            for peer in peers {
                if let Peer::Pods { namespaces, pods } = peer {
                    *pods = self.selector(pods);
                    if let NamespaceScope::Matching(selector) = namespaces {
                        *selector = self.selector(selector);
                    }
                }
            }
        }
        if let Ports::Of(ports) = &mut renamed.ports {
            for port in ports {
                if let Port::Named { name, .. } = port {
                    *name = self.name(name);
                }
            }
        }
        renamed
    }
}
