//! What was probably meant by a value of the wrong shape.

use crate::node::{Node, Value};

/// What to write if `key` should have been a list.
pub(super) fn for_missing_list(key: &str, found: &Node) -> Option<String> {
    match (key, &found.value) {
        ("ingress" | "egress", Value::Mapping(entries)) if entries.is_empty() => {
            Some(format!("{key}: [] allows nothing, {key}: [{{}}] allows everything"))
        }
        (_, Value::Mapping(_)) => Some("put a `-` before the first key".to_owned()),
        (_, Value::String(text)) => Some(format!("write {key}: [{text}]")),
        (_, Value::Integer(_, written)) => match key {
            "ports" => Some(format!("write ports: [{{port: {written}}}]")),
            _ => Some(format!("write {key}: [{written}]")),
        },
        _ => None,
    }
}

/// What to write instead of an item of `policyTypes` that is not text, such as `{Ingress: {}}`.
pub(super) fn for_policy_type(found: &Node) -> Option<String> {
    match &found.value {
        Value::Mapping(entries) => {
            entries.first().map(|entry| format!("write `- {}` and give its rules under spec", entry.key))
        }
        _ => Some("write Ingress or Egress".to_owned()),
    }
}
