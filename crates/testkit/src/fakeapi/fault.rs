//! What goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::request::{Resource, Verb};

/// How a request is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// As it should be.
    #[default]
    Right,
    /// Not at all: the connection stays open.
    Hang,
    /// Sends the head and half of the list or object; then nothing, forever.
    HangInside,
    /// With an error of this HTTP status.
    Status(u16),
    /// By closing the connection.
    Close,
    /// With status 200 and what is no JSON.
    Garbage,
    /// Rightly, but with so long a pause after each byte.
    Dribble(Duration),
    /// A watch begins and ends at once with 410 Gone; other requests get it as the response.
    Expired,
}

/// What a list contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Every object.
    #[default]
    All,
    /// Nothing.
    Nothing,
    /// The first so many, without a word of the rest.
    First(usize),
    /// The last so many.
    Last(usize),
    /// Alternately the first and the last so many, so that no two consecutive lists agree.
    Alternating(usize),
    /// These objects instead: those of another cluster.
    Instead(Vec<Value>),
}

/// Every fault there is.
#[derive(Debug)]
pub(super) struct Faults {
    answers: BTreeMap<(Verb, Resource), Answer>,
    pub(super) shown: BTreeMap<Resource, Shown>,
    pub(super) upcoming: BTreeMap<Resource, VecDeque<Shown>>,
    silent: BTreeSet<Resource>,
    pub(super) mangle: BTreeSet<Resource>,
    pub(super) bookmarks: Option<Duration>,
    pub(super) unlimited: bool,
}

impl Faults {
    pub(super) fn none() -> Self {
        Self {
            answers: BTreeMap::new(),
            shown: BTreeMap::new(),
            upcoming: BTreeMap::new(),
            silent: BTreeSet::new(),
            mangle: BTreeSet::new(),
            bookmarks: Some(Duration::from_secs(30)),
            unlimited: false,
        }
    }

    pub(super) fn set(&mut self, verb: Verb, resource: Resource, answer: Answer) {
        self.answers.insert((verb, resource), answer);
    }

    pub(super) fn set_all(&mut self, answer: &Answer) {
        for verb in Verb::ALL {
            for resource in Resource::ALL {
                self.answers.insert((verb, resource), answer.clone());
            }
        }
    }

    pub(super) fn answer(&self, verb: Verb, resource: Resource) -> Answer {
        self.answers.get(&(verb, resource)).cloned().unwrap_or_default()
    }

    /// What the list that is asked for now contains.
    pub(super) fn next_shown(&mut self, resource: Resource) -> Shown {
        let upcoming = self.upcoming.get_mut(&resource).and_then(VecDeque::pop_front);
        upcoming.or_else(|| self.shown.get(&resource).cloned()).unwrap_or_default()
    }

    pub(super) fn silence(&mut self, resource: Resource, silent: bool) {
        if silent {
            self.silent.insert(resource);
        } else {
            self.silent.remove(&resource);
        }
    }

    pub(super) fn is_silent(&self, resource: Resource) -> bool {
        self.silent.contains(&resource)
    }
}
