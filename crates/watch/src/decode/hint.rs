//! What was probably meant by a value of the wrong shape.

use crate::node::{Node, Value};

/// What to write if `key` should have been a list.
pub(super) fn for_missing_list(key: &str, found: &Node) -> Option<String> {
    match (key, &found.value) {
        ("ingress" | "egress", Value::Mapping(entries)) if entries.is_empty() => {
            Some(format!("{key}: [] allows nothing, {key}: [{{}}] allows everything"))
        }
        (_, Value::Mapping(_)) => Some("put a `-` before the first key".to_owned()),
        (_, Value::String(text)) if is_plain(text) => Some(format!("write {key}: [{text}]")),
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
            let key = entries.first().map(|entry| &entry.key).filter(|key| is_plain(key));
            key.map(|key| format!("write `- {key}` and give its rules under spec"))
        }
        _ => Some("write Ingress or Egress".to_owned()),
    }
}

/// Whether `text` means the same when it is written into a one-line list without quotes.
fn is_plain(text: &str) -> bool {
    const LONGEST: usize = 80;
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._/".contains(character);
    (1..=LONGEST).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Node {
        Node { line: 1, value: Value::String(value.into()) }
    }

    #[test]
    fn a_list_is_proposed_of_text_that_needs_no_quotes() {
        assert_eq!(for_missing_list("policyTypes", &text("Ingress")).as_deref(), Some("write policyTypes: [Ingress]"));
        for other in ["", "two\nlines", "a, b", "key: value", "a # b", &"a".repeat(81)] {
            assert_eq!(for_missing_list("policyTypes", &text(other)), None, "{other:?}");
        }
    }
}
