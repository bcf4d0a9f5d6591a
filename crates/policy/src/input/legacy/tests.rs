//! Seen to fail when: a list of policies removes the stand-ins; a namespace that loses its annotation stays isolated; a
//! list of namespaces without the annotated one leaves its stand-in.

use super::*;

fn namespace(name: &str, legacy_isolation: bool) -> Namespace {
    Namespace { legacy_isolation, ..Namespace::new(name, super::super::Labels::new()) }
}

/// The namespaces that are isolated after these changes.
fn isolated_after(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    let (mut legacy, mut state) = (LegacyIsolation::default(), State::default());
    for change in changes {
        legacy.expand(change).into_iter().for_each(|change| state.apply(change));
    }
    state.policies.keys().map(|key| key.namespace.to_string()).collect()
}

#[test]
fn the_annotation_isolates_while_it_is_there() {
    let (with, without) = (namespace("a", true), namespace("a", false));
    assert_eq!(isolated_after([Change::Namespace(with.clone())]), ["a"]);
    assert_eq!(isolated_after([Change::Namespace(without.clone())]), [""; 0]);
    assert_eq!(isolated_after([Change::Namespace(with.clone()), Change::Namespace(without.clone())]), [""; 0]);
    assert_eq!(isolated_after([Change::Namespace(without), Change::Namespace(with.clone())]), ["a"]);
    assert_eq!(isolated_after([Change::Namespace(with), Change::NamespaceGone("a".into())]), [""; 0]);
}

#[test]
fn lists_in_any_order_leave_every_annotated_namespace_isolated() {
    let (a, b) = (namespace("a", true), namespace("b", true));
    let policies = || Change::Policies(Vec::new());
    assert_eq!(isolated_after([Change::Namespaces(vec![a.clone()]), policies()]), ["a"]);
    assert_eq!(isolated_after([policies(), Change::Namespaces(vec![a.clone(), b.clone()])]), ["a", "b"]);
    assert_eq!(isolated_after([Change::Namespaces(vec![a.clone()]), policies(), Change::Namespaces(vec![b])]), ["b"]);
    assert_eq!(isolated_after([Change::Namespaces(vec![a]), policies(), policies()]), ["a"]);
}
