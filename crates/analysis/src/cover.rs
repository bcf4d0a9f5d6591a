//! Whether one term allows no more than another, whatever pods exist.
//!
//! "Yes" is always right. "No" may be wrong if several terms together cover one.

use palisade_policy::input::{
    IpBlock, LabelSelector, METADATA_NAME, NamespaceScope, Operator, Peer, Peers, Policy, Port, Ports, Requirement,
    Rule,
};

use super::view::View;

/// Whether `broader`, a rule of policy `of_broader`, allows everything that `rule`, a rule of policy `of_rule`, allows.
/// Both policies are of the same namespace.
pub(crate) fn is_rule_within(
    view: &View<'_>,
    of_rule: &Policy,
    rule: &Rule,
    of_broader: &Policy,
    broader: &Rule,
) -> bool {
    debug_assert_eq!(of_rule.key.namespace, of_broader.key.namespace);
    let peers = match (&rule.peers, &broader.peers) {
        (_, Peers::Any) => true,
        (Peers::Any, Peers::Of(_)) => false,
        (Peers::Of(inner), Peers::Of(outer)) => {
            inner.iter().all(|inner| outer.iter().any(|outer| is_peer_within(view, of_rule, inner, outer)))
        }
    };
    peers && are_ports_within(&rule.ports, &broader.ports)
}

fn is_peer_within(view: &View<'_>, policy: &Policy, inner: &Peer, outer: &Peer) -> bool {
    match (inner, outer) {
        (
            Peer::Pods { namespaces: inner_namespaces, pods: inner_pods },
            Peer::Pods { namespaces: outer_namespaces, pods: outer_pods },
        ) => {
            is_scope_within(view, policy, inner_namespaces, outer_namespaces)
                && is_selector_within(inner_pods, outer_pods)
        }
        (Peer::IpBlock(inner), Peer::IpBlock(outer)) => is_block_within(inner, outer),
        _ => false,
    }
}

fn is_scope_within(view: &View<'_>, policy: &Policy, inner: &NamespaceScope, outer: &NamespaceScope) -> bool {
    let own = &policy.key.namespace;
    match (inner, outer) {
        (NamespaceScope::Own, NamespaceScope::Own) => true,
        (NamespaceScope::Own, NamespaceScope::Matching(outer)) => {
            let labels = view.state.namespaces.get(own).map(|namespace| &namespace.labels);
            view.can_judge(outer) && labels.is_some_and(|labels| outer.selects(labels)) || outer.is_everything()
        }
        (NamespaceScope::Matching(inner), NamespaceScope::Own) => inner.requirements.iter().any(|requirement| {
            let is_own = |value: &String| **value == **own;
            matches!(&requirement.operator, Operator::In(values)
                if requirement.key == METADATA_NAME && values.iter().all(is_own))
        }),
        (NamespaceScope::Matching(inner), NamespaceScope::Matching(outer)) => is_selector_within(inner, outer),
    }
}

/// Whether everything that `inner` selects is selected by `outer`.
pub(crate) fn is_selector_within(inner: &LabelSelector, outer: &LabelSelector) -> bool {
    outer.requirements.iter().all(|needed| inner.requirements.iter().any(|given| implies(given, needed)))
}

fn implies(given: &Requirement, needed: &Requirement) -> bool {
    given.key == needed.key
        && match (&given.operator, &needed.operator) {
            (Operator::In(given), Operator::In(needed)) => given.is_subset(needed),
            (Operator::In(given), Operator::NotIn(needed)) => given.is_disjoint(needed),
            (Operator::NotIn(given), Operator::NotIn(needed)) => given.is_superset(needed),
            (Operator::In(_) | Operator::Exists, Operator::Exists)
            | (Operator::DoesNotExist, Operator::NotIn(_) | Operator::DoesNotExist) => true,
            _ => false,
        }
}

fn is_block_within(inner: &IpBlock, outer: &IpBlock) -> bool {
    let is_left_out = |hole: &ipnet::IpNet| {
        let is_apart = !hole.contains(&inner.cidr) && !inner.cidr.contains(hole);
        is_apart || inner.except.iter().any(|except| except.contains(hole))
    };
    outer.cidr.contains(&inner.cidr) && outer.except.iter().all(is_left_out)
}

fn are_ports_within(inner: &Ports, outer: &Ports) -> bool {
    match (inner, outer) {
        (_, Ports::Any) => true,
        (Ports::Any, Ports::Of(_)) => false,
        (Ports::Of(inner), Ports::Of(outer)) => {
            inner.iter().all(|inner| outer.iter().any(|outer| is_port_within(inner, outer)))
        }
    }
}

fn is_port_within(inner: &Port, outer: &Port) -> bool {
    match (inner, outer) {
        (Port::All(a) | Port::Range { protocol: a, .. } | Port::Named { protocol: a, .. }, Port::All(b)) => a == b,
        (
            Port::Range { protocol: a, first, last },
            Port::Range { protocol: b, first: outer_first, last: outer_last },
        ) => a == b && outer_first <= first && last <= outer_last,
        (Port::Named { .. }, Port::Named { .. }) => inner == outer,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(cidr: &str, except: &[&str]) -> IpBlock {
        IpBlock { cidr: cidr.parse().unwrap(), except: except.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn selector(operator: Operator) -> LabelSelector {
        LabelSelector { requirements: [Requirement { key: "a".to_owned(), operator }].into() }
    }

    fn values(all: &[&str]) -> std::collections::BTreeSet<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn blocks() {
        let within = |inner: &IpBlock, outer: &IpBlock| is_block_within(inner, outer);
        assert!(within(&block("10.1.0.0/16", &[]), &block("10.0.0.0/8", &[])));
        assert!(within(&block("10.1.0.0/16", &[]), &block("10.0.0.0/8", &["10.2.0.0/16"])));
        assert!(within(&block("10.1.0.0/16", &["10.1.0.0/17"]), &block("10.0.0.0/8", &["10.1.1.0/24"])));
        assert!(!within(&block("10.1.0.0/16", &[]), &block("10.0.0.0/8", &["10.1.1.0/24"])));
        assert!(!within(&block("10.1.0.0/16", &[]), &block("10.0.0.0/8", &["10.0.0.0/9"])));
        assert!(!within(&block("10.0.0.0/8", &[]), &block("10.1.0.0/16", &[])));
        assert!(!within(&block("10.0.0.0/8", &[]), &block("::/0", &[])));
    }

    #[test]
    fn selectors() {
        let within = |inner: Operator, outer: Operator| is_selector_within(&selector(inner), &selector(outer));
        assert!(is_selector_within(&selector(Operator::Exists), &LabelSelector::everything()));
        assert!(!is_selector_within(&LabelSelector::everything(), &selector(Operator::Exists)));
        assert!(within(Operator::In(values(&["x"])), Operator::In(values(&["x", "y"]))));
        assert!(!within(Operator::In(values(&["x", "z"])), Operator::In(values(&["x", "y"]))));
        assert!(within(Operator::In(values(&["x"])), Operator::Exists));
        assert!(!within(Operator::Exists, Operator::In(values(&["x"]))));
        assert!(within(Operator::In(values(&["x"])), Operator::NotIn(values(&["y"]))));
        assert!(!within(Operator::In(values(&["x"])), Operator::NotIn(values(&["x"]))));
        assert!(within(Operator::NotIn(values(&["x", "y"])), Operator::NotIn(values(&["y"]))));
        assert!(!within(Operator::NotIn(values(&["y"])), Operator::NotIn(values(&["x", "y"]))));
        assert!(within(Operator::DoesNotExist, Operator::NotIn(values(&["y"]))));
        assert!(!within(Operator::NotIn(values(&["y"])), Operator::Exists));
    }
}
