//! Label selectors in the Kubernetes client library and in the reference evaluator.
//!
//! Seen to fail when the evaluator's `NotIn` needs the key, and when it takes any requirement instead of all.

use kube_core::{Expression, Selector, SelectorExt as _};
use palisade_policy::flow::{Endpoint, Flow, NodeFacts, Reason, Transport};
use palisade_policy::input::{
    Change, Isolates, LabelSelector, Labels, NamespacedName, Operator, Phase, Pod, Policy, State,
};
use palisade_policy::reference::evaluate;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;
use proptest::sample::select;

const KEYS: [&str; 3] = ["app", "tier", "kubernetes.io/metadata.name"];
const VALUES: [&str; 4] = ["", "a", "b", "c"];

fn word(words: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    select(words.to_vec()).prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let operator = prop_oneof![
        btree_set(word(&VALUES), 1..4).prop_map(Operator::In),
        btree_set(word(&VALUES), 1..4).prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    let requirement = (word(&KEYS), operator);
    let requirement = requirement.prop_map(|(key, operator)| palisade_policy::input::Requirement { key, operator });
    btree_set(requirement, 0..4).prop_map(|requirements| LabelSelector { requirements })
}

fn kubes(selector: &LabelSelector) -> Selector {
    let expressions = selector.requirements.iter().map(|requirement| {
        let key = requirement.key.clone();
        match requirement.operator.clone() {
            Operator::In(values) => Expression::In(key, values),
            Operator::NotIn(values) => Expression::NotIn(key, values),
            Operator::Exists => Expression::Exists(key),
            Operator::DoesNotExist => Expression::DoesNotExist(key),
        }
    });
    expressions.collect()
}

/// Whether the reference evaluator selects a pod with these labels: isolation reveals it.
fn is_selected(selector: &LabelSelector, labels: &Labels) -> bool {
    let key = NamespacedName::new("default", "it");
    let pod = Pod { labels: labels.clone(), phase: Phase::Running, ..Pod::new(key.clone()) };
    let policy = Policy {
        key: key.clone(),
        pod_selector: selector.clone(),
        isolates: Isolates { ingress: true, egress: false },
        ingress: Vec::new(),
        egress: Vec::new(),
        unenforceable: Vec::new(),
    };
    let mut state = State::default();
    state.apply(Change::Pod(pod));
    state.apply(Change::Policy(policy));
    let from = Endpoint::Address([9, 9, 9, 9].into());
    let flow = Flow { from, to: Endpoint::Pod(key), transport: Transport::Portless, family: None };
    let judgement = evaluate(&state, &NodeFacts::default(), &flow).unwrap();
    !matches!(judgement.ingress.reason, Reason::NotIsolated)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reference_agrees_with_kube(selector in selector(), labels in btree_map(word(&KEYS), word(&VALUES), 0..4)) {
        let labels: Labels = labels.into_iter().collect();
        prop_assert_eq!(is_selected(&selector, &labels), kubes(&selector).matches(&labels), "{} on {:?}", selector, labels);
    }
}
