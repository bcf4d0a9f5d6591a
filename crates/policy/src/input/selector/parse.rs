//! The form of `kubectl -l`, read.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::{LabelSelector, Operator, Requirement};

/// Why a selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of key=value, key!=value, key in (a,b), key notin (a,b), key and !key")]
pub struct NotASelector(String);

impl FromStr for LabelSelector {
    type Err = NotASelector;

    /// `app=web,tier in (a,b),!legacy`; `*` or nothing selects everything.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text.trim(), "" | "*") {
            return Ok(Self::everything());
        }
        let requirements = terms(text).into_iter().map(requirement).collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }
}

/// The parts between commas that are not in brackets.
fn terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0_usize, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.extend(text.get(start..));
    terms
}

fn requirement(text: &str) -> Result<Requirement, NotASelector> {
    let wrong = || NotASelector(text.trim().to_owned());
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let (key, operator) = if let Some((key, values)) = text.split_once('(') {
        let values = values.trim().strip_suffix(')').ok_or_else(wrong)?;
        let values: BTreeSet<_> = values.split(',').map(|value| value.trim().to_owned()).collect();
        let key = key.trim();
        if let Some(key) = key.strip_suffix(" notin") {
            (key, Operator::NotIn(values))
        } else {
            (key.strip_suffix(" in").ok_or_else(wrong)?, Operator::In(values))
        }
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Operator::In(one(value.strip_prefix('=').unwrap_or(value))))
    } else if let Some(key) = text.trim().strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (text, Operator::Exists)
    };
    let key = key.trim();
    let is_of_label = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    let is_label = |text: &str| text.chars().all(is_of_label);
    let values_are = match &operator {
        Operator::In(values) | Operator::NotIn(values) => values.iter().all(|value| is_label(value)),
        Operator::Exists | Operator::DoesNotExist => true,
    };
    if key.is_empty() || !is_label(key) || !values_are {
        return Err(wrong());
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["*", "app=web", "a!=b,app in (x,y),!legacy,tier notin (a,b),track"] {
            assert_eq!(text.parse::<LabelSelector>().unwrap().to_string(), text);
        }
        assert_eq!(
            "app == web , tier in ( b, a )".parse::<LabelSelector>().unwrap().to_string(),
            "app=web,tier in (a,b)"
        );
        for wrong in ["app=a=b", "in (a)", "app in a", "app in (a", "a b", ",", "app=web,", "=x"] {
            assert!(wrong.parse::<LabelSelector>().is_err(), "{wrong}");
        }
    }
}
