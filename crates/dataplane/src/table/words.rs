//! Describes operations, for errors.

use std::collections::BTreeMap;

use palisade_ruleset::change::Operation;
use palisade_ruleset::model::{Element, Key, Rule, SetKind};

/// An operation and its object, with the rule or element in question.
pub(super) fn describe(operation: &Operation, detail: Option<String>) -> String {
    let (what, name) = match operation {
        Operation::AddCounter(name) => ("add counter", name),
        Operation::AddSet(name, set) if set.kind == SetKind::VerdictMap => ("add map", name),
        Operation::AddSet(name, _) => ("add set", name),
        Operation::DeleteSet(name) => ("delete set", name),
        Operation::AddElements(name, _) => ("add elements to set", name),
        Operation::DeleteElements(name, _) => ("delete elements from set", name),
        Operation::AddChain(name, _) => ("add chain", name),
        Operation::FlushChain(name) => ("flush chain", name),
        Operation::DeleteChain(name) => ("delete chain", name),
        Operation::AppendRules(name, _) => ("append rules to chain", name),
    };
    match detail {
        Some(detail) => format!("{what} {name}, at {detail}"),
        None => format!("{what} {name}"),
    }
}

/// A rule by its position and comment.
pub(super) fn rule(place: usize, rule: &Rule) -> String {
    with_comment(format!("rule {}", place + 1), rule.comment.as_deref())
}

/// The element whose key starts as this one does.
pub(super) fn element(key: &Key, elements: &BTreeMap<Key, Element>) -> Option<String> {
    let (key, element) = elements.iter().find(|(found, _)| start(found) == start(key))?;
    Some(with_comment(format!("element {}", key_words(key)), element.comment.as_deref()))
}

fn with_comment(text: String, comment: Option<&str>) -> String {
    match comment {
        Some(comment) => format!("{text} ({comment})"),
        None => text,
    }
}

/// The key with a range cut down to its first value.
fn start(key: &Key) -> Key {
    match key {
        Key::AddressRange(first, _) => Key::AddressRange(*first, *first),
        Key::PortRange(first, _) => Key::PortRange(*first, *first),
        other => other.clone(),
    }
}

fn key_words(key: &Key) -> String {
    match key {
        Key::Address(address) => address.to_string(),
        Key::AddressRange(first, last) => format!("{first}-{last}"),
        Key::AddressPair(first, second) => format!("{first} . {second}"),
        Key::AddressPort(address, port) => format!("{address} . {port}"),
        Key::PortRange(first, last) if first == last => first.to_string(),
        Key::PortRange(first, last) => format!("{first}-{last}"),
        Key::InterfaceName(name) => name.clone(),
    }
}
