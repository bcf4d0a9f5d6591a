//! The warnings about objects, so that each is sent once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use palisade_policy::input::Kind;

use crate::event::Event;
use crate::finding::ObjectName;

/// How many objects of a kind to warn about at a time: any user may create more.
const MOST: usize = 4096;

/// The longest message, in bytes.
const LONGEST: usize = 1024;

/// The objects of a kind that have warnings.
#[derive(Debug, Default)]
pub(super) struct Warned {
    /// A digest of each object's last warnings.
    said: BTreeMap<ObjectName, u64>,
    /// The objects of the list that is arriving.
    listed: BTreeSet<ObjectName>,
    /// The warning that there are more was sent.
    full: bool,
}

impl Warned {
    /// The warning to send for an object with these warnings.
    pub(super) fn warn(&mut self, name: &ObjectName, warnings: &[String]) -> Option<Event> {
        let Some(first) = warnings.first() else {
            self.said.remove(name);
            return None;
        };
        let mut hasher = DefaultHasher::new();
        warnings.hash(&mut hasher);
        let digest = hasher.finish();
        if !self.said.contains_key(name) && self.said.len() >= MOST {
            let text = format!("more than {MOST} objects have warnings; the others are not named");
            return (!std::mem::replace(&mut self.full, true)).then(|| event(None, text));
        }
        let known = self.said.insert(name.clone(), digest) == Some(digest);
        (!known).then(|| event(Some(name.clone()), message(name.kind, first, warnings.len())))
    }

    /// Notes that an object is gone.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        self.said.remove(name);
    }

    /// Notes that a list begins.
    pub(super) fn list_begins(&mut self) {
        self.listed.clear();
    }

    /// The warning to send for an object of a list.
    pub(super) fn warn_listed(&mut self, name: &ObjectName, warnings: &[String]) -> Option<Event> {
        let event = self.warn(name, warnings);
        if self.said.contains_key(name) {
            self.listed.insert(name.clone());
        }
        event
    }

    /// Notes that a list ended, and drops objects that it lacks.
    pub(super) fn list_ends(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        self.said.retain(|name, _| listed.contains(name));
        self.full &= self.said.len() >= MOST;
    }
}

fn event(object: Option<ObjectName>, message: String) -> Event {
    Event::Warning { object, message }
}

fn message(kind: Kind, first: &str, count: usize) -> String {
    let mut text = match (kind, count) {
        (_, 1) => first.to_owned(),
        (Kind::NetworkPolicy, count) => format!("{count} terms cannot be enforced, the first: {first}"),
        (_, count) => format!("{count} warnings, the first: {first}"),
    };
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_policy::input::NamespacedName;

    fn pod(number: usize) -> ObjectName {
        ObjectName::pod(&NamespacedName::new("n", format!("pod-{number}")))
    }

    fn said(event: Option<Event>) -> Option<String> {
        event.map(|event| match event {
            Event::Warning { message, .. } => message,
            other => panic!("{other:?}"),
        })
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_warning_is_sent_once_and_again_when_it_changes() {
        let mut warned = Warned::default();
        assert_eq!(said(warned.warn(&pod(1), &texts(&["x"]))).as_deref(), Some("x"));
        assert_eq!(warned.warn(&pod(1), &texts(&["x"])), None);
        assert_eq!(said(warned.warn(&pod(1), &texts(&["x", "y"]))).as_deref(), Some("2 warnings, the first: x"));
        assert_eq!(warned.warn(&pod(1), &[]), None);
        assert_eq!(said(warned.warn(&pod(1), &texts(&["x"]))).as_deref(), Some("x"));
        warned.list_begins();
        assert_eq!(warned.warn_listed(&pod(1), &texts(&["x"])), None);
        warned.list_ends();
        assert_eq!(warned.said.len(), 1);
        warned.list_begins();
        warned.list_ends();
        assert!(warned.said.is_empty(), "objects that are gone are forgotten");
    }

    #[test]
    fn only_the_first_of_many_terms_is_named() {
        let terms: Vec<_> = (0..5000).map(|number| format!("term {number}: {}", "é".repeat(2000))).collect();
        let policy = ObjectName::policy(&NamespacedName::new("n", "p"));
        let message = said(Warned::default().warn(&policy, &terms)).unwrap();
        assert!(message.starts_with("5000 terms cannot be enforced, the first: term 0: é"), "{message}");
        assert!((LONGEST - 1..=LONGEST).contains(&message.len()));
    }

    #[test]
    fn remembered_and_sent_warnings_are_bounded() {
        let mut warned = Warned::default();
        let events = (0..3 * MOST).filter_map(|number| warned.warn(&pod(number), &texts(&["x"]))).count();
        assert_eq!((events, warned.said.len()), (MOST + 1, MOST));
        warned.list_begins();
        let again = (0..3 * MOST).filter_map(|number| warned.warn_listed(&pod(number), &texts(&["x"]))).count();
        warned.list_ends();
        assert_eq!((again, warned.said.len()), (0, MOST));
    }
}
