use palisade_policy::compile::Namespaces;
use palisade_policy::input::{Direction, LabelSelector, Protocol};

use super::*;

fn group(policies: &[&str]) -> Group {
    let policies = policies.iter().map(|name| Arc::from(*name)).collect();
    Group::Policies { direction: Direction::Ingress, namespace: "shop".into(), policies }
}

fn pods(label: &str) -> SetKey {
    let selector =
        PeerSelector { namespaces: Namespaces::Named("shop".into()), pods: LabelSelector::labels([("app", label)]) };
    SetKey::new(SetIdentity::Pods(vec![Arc::new(selector)], Family::V4))
}

#[test]
fn groups_that_read_alike_get_different_names() {
    let mut names = Names::default();
    let (one, other) = (group(&["a", "b"]), group(&["a_b"]));
    let first = names.of_group(&one);
    let second = names.of_group(&other);
    assert_eq!(first.as_str(), "ingress/shop/a_b");
    assert_ne!(first, second);
    assert!(second.as_str().starts_with("ingress/shop/a_b/"), "{second}");
    // Each keeps its name, in any order of requests.
    assert_eq!((names.of_group(&other), names.of_group(&one)), (second.clone(), first.clone()));
    assert_eq!(names.identity(&second), Some(&Identity::Group(other)));
}

#[test]
fn a_colliding_hash_is_made_longer() {
    let mut names = Names::default();
    let (one, other) = (pods("one"), pods("other"));
    // As if the 48 bits in the names were the same.
    let first = names.assign(Identity::Set(one.clone()), &one.0.0);
    names.sets.insert(one.clone(), first.clone());
    let second = names.assign(Identity::Set(other.clone()), &one.0.0);
    let third = names.assign(Identity::Content(Digested::of(format_args!("x"))), &one.0.0);
    assert_eq!(first.as_str(), one.0.0);
    assert_ne!(second, first);
    assert!(third != second && third != first, "{third}");
    assert!(second.as_str().starts_with(&format!("{first}/")), "{second}");
}

#[test]
fn a_name_is_free_when_its_object_is_gone() {
    let mut names = Names::default();
    let (one, other) = (group(&["a", "b"]), group(&["a_b"]));
    let first = names.of_group(&one);
    names.of_group(&other);
    names.release(&first);
    assert_eq!(names.identity(&first), None);
    // The other keeps its name, although the shorter name is free now.
    assert_ne!(names.of_group(&other), first);
    assert_eq!(names.of_group(&one), first);
    names.retain(|name| *name != first);
    assert_eq!(names.identity(&first), None);
    assert_eq!(names.groups.len(), 1);
}

#[test]
fn sets_of_equal_content_share_a_name_and_others_do_not() {
    let mut names = Names::default();
    assert_eq!(names.of_set(&pods("one")), names.of_set(&pods("one")));
    assert_ne!(names.of_set(&pods("one")), names.of_set(&pods("other")));
    let port = |protocol| {
        let port = NamedPort { name: "dns".into(), protocol };
        SetKey::new(SetIdentity::NamedPort(port, Family::V6))
    };
    assert_eq!(names.of_set(&port(Protocol::Udp)).as_str(), "named-ports/dns-udp/6");
    assert_ne!(names.of_set(&port(Protocol::Udp)), names.of_set(&port(Protocol::Tcp)));
}
