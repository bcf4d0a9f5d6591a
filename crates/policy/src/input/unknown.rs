//! Label values that only a controller knows.

use std::borrow::Cow;

use super::{LabelSelector, Labels, Operator};

/// The value of a label that a controller will set, and that the manifest does not contain. No selector can have it.
pub const UNKNOWN_LABEL: &str = "?";

/// The selector without its requirements on unknown values of existing labels. It matches if the selector may match.
pub fn without_unknown<'s>(selector: &'s LabelSelector, labels: &Labels) -> Cow<'s, LabelSelector> {
    let is_unknown = |key: &str| labels.get(key).is_some_and(|value| value == UNKNOWN_LABEL);
    if !selector.requirements.iter().any(|requirement| is_unknown(&requirement.key)) {
        return Cow::Borrowed(selector);
    }
    let mut known = selector.clone();
    known.requirements.retain(|requirement| {
        !(is_unknown(&requirement.key) && matches!(requirement.operator, Operator::In(_) | Operator::NotIn(_)))
    });
    Cow::Owned(known)
}
