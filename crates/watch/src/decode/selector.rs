//! Label selectors.

use std::collections::BTreeSet;

use palisade_policy::input::{LabelSelector, Operator, Requirement};

use super::decoder::Decoder;
use super::path::Path;
use super::schema::{REQUIREMENT, SELECTOR};
use super::syntax;
use crate::node::{Node, Value};

impl Decoder {
    /// Reads a `metav1.LabelSelector`, without requirements that have mistakes.
    pub(super) fn selector(&mut self, node: &Node, path: &Path<'_>) -> LabelSelector {
        self.fields(node, path, &SELECTOR);
        let mut selector = LabelSelector::everything();
        if let Some(labels) = node.get("matchLabels") {
            let path = &path.key("matchLabels");
            let entries = self.mapping(labels, path, None).unwrap_or_default();
            for entry in entries {
                let path = &path.key(&entry.key);
                let (value, sound) = self.part(|decoder| decoder.selector_label(&entry.key, &entry.node, path));
                // A mistake in one label must not drop the others.
                if let (Some(value), true) = (value, sound) {
                    selector.requirements.extend(LabelSelector::labels([(&*entry.key, &*value)]).requirements);
                }
            }
        }
        let path = &path.key("matchExpressions");
        for (index, item) in self.items(node, "matchExpressions", path).iter().enumerate() {
            let (requirement, sound) = self.part(|decoder| decoder.requirement(item, &path.index(index)));
            selector.requirements.extend(requirement.filter(|_| sound));
        }
        selector
    }

    fn requirement(&mut self, node: &Node, path: &Path<'_>) -> Option<Requirement> {
        self.fields(node, path, &REQUIREMENT);
        if !matches!(node.value, Value::Mapping(_) | Value::Null) {
            return None;
        }
        let key = self.text(node, "key", path).unwrap_or_default();
        if let Some(reason) = syntax::label_key(key) {
            let line = node.get("key").map_or(node.line, |field| field.line);
            self.error(line, &path.key("key"), format!("the label key {key:?} {reason}"), None);
        }
        let values = self.values(node, path);
        let operator = self.operator(node, path, values)?;
        Some(Requirement { key: key.to_owned(), operator })
    }

    fn values(&mut self, node: &Node, path: &Path<'_>) -> BTreeSet<String> {
        let path = &path.key("values");
        let mut values = BTreeSet::new();
        for (index, item) in self.items(node, "values", path).iter().enumerate() {
            let path = &path.index(index);
            let Some(value) = self.text_of(item, path) else { continue };
            if let Some(reason) = syntax::label_value(value) {
                self.error(item.line, path, format!("the label value {value:?} {reason}"), None);
            }
            values.insert(value.to_owned());
        }
        values
    }

    fn operator(&mut self, node: &Node, path: &Path<'_>, values: BTreeSet<String>) -> Option<Operator> {
        const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
        let field = &path.key("operator");
        let Some(operator) = node.get("operator") else {
            self.missing(node.line, field, "is missing; it is In, NotIn, Exists or DoesNotExist", None);
            return None;
        };
        let name = self.text_of(operator, field)?;
        let values_line = node.get("values").map_or(operator.line, |values| values.line);
        match name {
            "In" | "NotIn" if values.is_empty() => {
                let reason = format!("needs at least one value with operator {name}");
                self.error(values_line, &path.key("values"), reason, None);
                None
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let other = if name == "Exists" { "In" } else { "NotIn" };
                let hint = format!("leave out values, or write operator: {other}");
                self.error(values_line, &path.key("values"), format!("must be empty with operator {name}"), Some(hint));
                None
            }
            "In" => Some(Operator::In(values)),
            "NotIn" => Some(Operator::NotIn(values)),
            "Exists" => Some(Operator::Exists),
            "DoesNotExist" => Some(Operator::DoesNotExist),
            _ => {
                let meant = match name {
                    "=" | "==" | "Equals" | "Equal" => Some("In"),
                    "!=" | "NotEquals" | "NotEqual" => Some("NotIn"),
                    "NotExists" | "!Exists" => Some("DoesNotExist"),
                    _ => syntax::nearest(name, OPERATORS),
                };
                let hint = meant.map(|meant| format!("did you mean {meant}?"));
                self.error(operator.line, field, format!("{name:?} is not In, NotIn, Exists or DoesNotExist"), hint);
                None
            }
        }
    }
}
