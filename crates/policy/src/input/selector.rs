//! Label selectors.

mod parse;

use std::collections::BTreeSet;
use std::fmt;

use super::Labels;

pub use parse::NotASelector;

/// The condition of a requirement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The label exists and has one of these values. A `matchLabels` entry is this with one value.
    In(BTreeSet<String>),
    /// The label is absent or has another value.
    NotIn(BTreeSet<String>),
    /// The label exists.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition on it.
    pub operator: Operator,
}

/// A conjunction of requirements (`metav1.LabelSelector`); without any, it selects everything.
///
/// Requirements are a set, so selectors that differ only in the order or repetition of requirements are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSelector {
    /// All of them must hold.
    pub requirements: BTreeSet<Requirement>,
}

impl LabelSelector {
    /// The selector that selects everything: `{}`.
    pub fn everything() -> Self {
        Self::default()
    }

    /// `matchLabels` with these pairs.
    pub fn labels<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let requirements = pairs
            .into_iter()
            .map(|(key, value)| Requirement { key: key.into(), operator: Operator::In(BTreeSet::from([value.into()])) })
            .collect();
        Self { requirements }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    /// Whether `labels` meet the requirement. This is the index's matcher; the reference evaluator has a separate one.
    pub fn is_met_by(&self, labels: &Labels) -> bool {
        match (&self.operator, labels.get(&self.key)) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::Exists, Some(_)) | (Operator::NotIn(_) | Operator::DoesNotExist, None) => true,
            (Operator::In(_) | Operator::Exists, None) | (Operator::DoesNotExist, Some(_)) => false,
        }
    }
}

impl LabelSelector {
    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.is_met_by(labels))
    }
}

impl fmt::Display for LabelSelector {
    /// The form of `kubectl -l`: `app=web,tier in (a,b),!legacy`; `*` for everything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("*");
        }
        for (position, requirement) in self.requirements.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(requirement, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}
