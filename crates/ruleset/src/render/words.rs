//! Words of names and comments: whose IPs a set has, and which policies a rule comes from.

use std::collections::BTreeSet;
use std::fmt;

use palisade_policy::compile::{Covers, Group, Namespaces, PeerSelector, Sources};
use palisade_policy::input::{LabelSelector, Operator, Requirement};

use crate::name::comment;

/// How many rules or policies a comment names; it only counts the rest.
const NAMED: usize = 3;

/// The label that has a namespace's name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The maximum length of each part of a set's name, so that the whole stays far below 128 bytes.
const WORDS: usize = 48;

/// A peer selector as part of a name: `shop/app-frontend`, `all-namespaces/all-pods`.
pub(super) fn of_selector(selector: &PeerSelector) -> String {
    let namespace = match &selector.namespaces {
        Namespaces::Named(name) => name.to_string(),
        Namespaces::Matching(selector) if selector.is_everything() => "all-namespaces".to_owned(),
        Namespaces::Matching(selector) => {
            namespace_name(selector).map_or_else(|| format!("namespaces-{}", of_labels(selector)), str::to_owned)
        }
    };
    let pods = if selector.pods.is_everything() { "all-pods".to_owned() } else { of_labels(&selector.pods) };
    format!("{}/{}", cut(&namespace), cut(&pods))
}

/// The name of the only namespace that a selector can select.
fn namespace_name(selector: &LabelSelector) -> Option<&str> {
    let mut requirements = selector.requirements.iter();
    match (requirements.next(), requirements.next()) {
        (Some(Requirement { key, operator: Operator::In(values) }), None) if key == NAMESPACE_NAME => {
            if values.len() == 1 { values.first().map(String::as_str) } else { None }
        }
        _ => None,
    }
}

/// `app=web,!legacy` as `app-web-not-legacy`; keys lose their domain.
fn of_labels(selector: &LabelSelector) -> String {
    let one = |requirement: &Requirement| {
        let key = requirement.key.rsplit('/').next().unwrap_or_default();
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join("-or-");
        match &requirement.operator {
            Operator::In(values) => format!("{key}-{}", list(values)),
            Operator::NotIn(values) => format!("{key}-not-{}", list(values)),
            Operator::Exists => key.to_owned(),
            Operator::DoesNotExist => format!("no-{key}"),
        }
    };
    selector.requirements.iter().map(one).collect::<Vec<_>>().join("-")
}

/// The first bytes; characters that a name cannot have are replaced.
fn cut(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.chars().map(|c| if is_safe(c) { c } else { '_' }).take(WORDS).collect()
}

/// The source rules of a namespace: the first few by name, and how many more.
pub(super) fn of_sources(namespace: &str, sources: &Sources, covers: Option<&Covers>) -> String {
    let rules = first_of(namespace, sources.iter());
    let covered = covers.filter(|covers| !covers.is_empty());
    let covered = covered.map(|covers| format!(", {covers}")).unwrap_or_default();
    comment(&format!("{rules}{covered}"))
}

/// Names in a namespace: the first few, and how many more.
fn first_of<T: fmt::Display>(namespace: &str, all: impl ExactSizeIterator<Item = T>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<_> = all.take(NAMED).map(|name| format!("{namespace}/{name}")).collect();
    let rest = if more > 0 { format!(" +{more}") } else { String::new() };
    named.join(", ") + &rest
}

/// Why a group's last rule drops packets.
pub(super) fn of_end(group: &Group) -> String {
    match group {
        Group::DuplicateIp(_) => "two live pods have this IP".to_owned(),
        Group::Held(_) => "flows of the former pod are still being deleted".to_owned(),
        Group::Policies { namespace, policies, .. } => {
            comment(&format!("not allowed by {}", first_of(namespace, policies.iter())))
        }
    }
}
