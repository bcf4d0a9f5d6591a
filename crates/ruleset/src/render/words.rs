//! Words of names and comments: whom a set holds, and where a rule comes from.

use std::collections::BTreeSet;
use std::fmt;

use palisade_policy::compile::{Covers, Group, Namespaces, PeerSelector, Sources};
use palisade_policy::input::{LabelSelector, Operator, Requirement};

use crate::name::comment;

/// How many rules or policies a comment names before it only counts.
const NAMED: usize = 3;

/// The label by which a namespace is selected by its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// How much of each part of a set's name is words: all of it stays far below the 128 bytes of a name.
const WORDS: usize = 48;

/// Whom a peer selector selects, as in a name: `shop/app-frontend`, `all-namespaces/all-pods`.
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

/// `app=web,!legacy` as `app-web-not-legacy`; of keys only the part behind the domain.
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

/// The first bytes, with characters that a name cannot have replaced.
fn cut(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.chars().map(|c| if is_safe(c) { c } else { '_' }).take(WORDS).collect()
}

/// The rules of a namespace that something comes from, the first few by name.
pub(super) fn of_sources(namespace: &str, sources: &Sources, covers: Option<&Covers>) -> String {
    let rules = first_of(namespace, sources.iter());
    let covered = covers.filter(|covers| !covers.is_empty());
    let covered = covered.map(|covers| format!(", {covers}")).unwrap_or_default();
    comment(&format!("{rules}{covered}"))
}

/// What has these names in a namespace: the first few, and how many more.
fn first_of<T: fmt::Display>(namespace: &str, all: impl ExactSizeIterator<Item = T>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<_> = all.take(NAMED).map(|name| format!("{namespace}/{name}")).collect();
    let rest = if more > 0 { format!(" +{more}") } else { String::new() };
    named.join(", ") + &rest
}

/// Why a group's last rule drops what reaches it.
pub(super) fn of_end(group: &Group) -> String {
    match group {
        Group::DuplicateIp(_) => "two live pods have this IP".to_owned(),
        Group::Held(_) => "flows of the former pod are still being deleted".to_owned(),
        Group::Policies { namespace, policies, .. } => {
            comment(&format!("not allowed by {}", first_of(namespace, policies.iter())))
        }
    }
}
