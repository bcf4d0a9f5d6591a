//! Faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::request::{Resource, Verb};

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// The correct one.
    #[default]
    Right,
    /// None: the connection stays open.
    Hang,
    /// Sends the head and half of the list or object; then nothing, forever.
    HangInside,
    /// An error with this HTTP status.
    Status(u16),
    /// The connection is closed.
    Close,
    /// Status 200 and a body that is not JSON.
    Garbage,
    /// The correct one, with this pause after each byte.
    Dribble(Duration),
    /// A watch begins and ends at once with 410 Gone; other requests get it as the response.
    Expired,
}

/// The content of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Every object.
    #[default]
    All,
    /// Nothing.
    Nothing,
    /// The first objects up to this number, without any sign of the rest.
    First(usize),
    /// The last objects up to this number.
    Last(usize),
    /// Alternately the first and the last objects up to this number, so that no two consecutive lists agree.
    Alternating(usize),
    /// These objects instead, as of another cluster.
    Instead(Vec<Value>),
}

/// The present faults.
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

    /// The content of the list that is requested now.
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
