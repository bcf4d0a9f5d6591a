//! Policies by a label that their `podSelector` demands, so that a pod is compared with few of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::input::{LabelSelector, Operator, Pod, Policy};

/// The names of the policies in force, by namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Selecting {
    by_namespace: BTreeMap<Arc<str>, InNamespace>,
}

#[derive(Clone, Debug, Default)]
struct InNamespace {
    /// By key and value of one label that the selector demands. A policy is under one key only.
    by_label: BTreeMap<String, BTreeMap<String, BTreeSet<Arc<str>>>>,
    /// Those that demand no label with a value.
    others: BTreeSet<Arc<str>>,
}

impl Selecting {
    pub(super) fn add(&mut self, policy: &Policy) {
        let place = self.by_namespace.entry(policy.key.namespace.clone()).or_default();
        let Some((key, values)) = demanded(&policy.pod_selector) else {
            place.others.insert(policy.key.name.clone());
            return;
        };
        let by_value = place.by_label.entry(key.to_owned()).or_default();
        for value in values {
            by_value.entry(value.clone()).or_default().insert(policy.key.name.clone());
        }
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        let Some(place) = self.by_namespace.get_mut(&policy.key.namespace) else { return };
        if let Some((key, values)) = demanded(&policy.pod_selector) {
            if let Some(by_value) = place.by_label.get_mut(key) {
                for value in values {
                    let Some(names) = by_value.get_mut(value) else { continue };
                    names.remove(&policy.key.name);
                    if names.is_empty() {
                        by_value.remove(value);
                    }
                }
                if by_value.is_empty() {
                    place.by_label.remove(key);
                }
            }
        } else {
            place.others.remove(&policy.key.name);
        }
        if place.by_label.is_empty() && place.others.is_empty() {
            self.by_namespace.remove(&policy.key.namespace);
        }
    }

    /// The policies that may select a pod, in the order of their names.
    pub(super) fn candidates(&self, pod: &Pod) -> Vec<&Arc<str>> {
        let Some(place) = self.by_namespace.get(&pod.key.namespace) else { return Vec::new() };
        let labelled = pod.labels.iter().filter_map(|(key, value)| place.by_label.get(key)?.get(value));
        let mut names: Vec<_> = labelled.flatten().chain(&place.others).collect();
        names.sort_unstable();
        names
    }
}

/// The first label that a selector demands, with the values that it takes.
fn demanded(selector: &LabelSelector) -> Option<(&str, &BTreeSet<String>)> {
    selector.requirements.iter().find_map(|requirement| match &requirement.operator {
        Operator::In(values) => Some((requirement.key.as_str(), values)),
        Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
    })
}

#[cfg(test)]
mod tests {
    use super::Selecting;
    use crate::input::{Isolates, LabelSelector, NamespacedName, Operator, Pod, Policy, Requirement};

    fn policy(name: &str, operator: Operator) -> Policy {
        let requirements = [Requirement { key: "app".to_owned(), operator }].into();
        Policy {
            key: NamespacedName::new("shop", name),
            pod_selector: LabelSelector { requirements },
            isolates: Isolates { ingress: true, egress: false },
            ingress: Vec::new(),
            egress: Vec::new(),
            unenforceable: Vec::new(),
        }
    }

    fn candidates(selecting: &Selecting, namespace: &str, app: &str) -> Vec<String> {
        let labels = [("app".to_owned(), app.to_owned())].into();
        let pod = Pod { labels, ..Pod::new(NamespacedName::new(namespace, "pod")) };
        selecting.candidates(&pod).into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_is_a_candidate_for_each_value_it_takes_and_without_one_for_every_pod() {
        let one_of = |values: [&str; 2]| Operator::In(values.map(str::to_owned).into());
        let policies =
            [policy("b", one_of(["web", "api"])), policy("a", Operator::Exists), policy("c", one_of(["db", "x"]))];
        let mut selecting = Selecting::default();
        policies.iter().for_each(|policy| selecting.add(policy));
        assert_eq!(candidates(&selecting, "shop", "web"), ["a", "b"]);
        assert_eq!(candidates(&selecting, "shop", "api"), ["a", "b"]);
        assert_eq!(candidates(&selecting, "shop", "db"), ["a", "c"]);
        assert!(candidates(&selecting, "data", "web").is_empty());
        let [b, a, c] = &policies;
        selecting.remove(b);
        assert_eq!(candidates(&selecting, "shop", "api"), ["a"]);
        assert_eq!(candidates(&selecting, "shop", "x"), ["a", "c"]);
        [a, c].into_iter().for_each(|policy| selecting.remove(policy));
        assert!(selecting.by_namespace.is_empty());
    }
}
