//! Requests to the source of objects: the engine's questions, and Events to write. They wait here until the source takes
//! them, so that the loop never waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use palisade_engine::{Ask, Engine};
use palisade_watch::{Kind, Notice, Request};
use tokio::sync::mpsc;

/// How long after a doubted list to request another.
const LIST_AGAIN: Duration = Duration::from_secs(3);

/// How soon to retry requests that the source could not take.
const OFFER_AGAIN: Duration = Duration::from_millis(100);

/// How many Events may wait for the first lists; further ones are dropped and only logged.
const NOTICES: usize = 256;

/// The requests that the source has not taken yet.
pub(super) struct Requests {
    /// `None` if the source answers no questions.
    source: Option<mpsc::Sender<Request>>,
    /// Questions, which the engine bounds, and Events that are due.
    waiting: VecDeque<Request>,
    /// Lists to request again, and when.
    lists: VecDeque<(Instant, Kind)>,
    /// Events about policies. Whether they select a pod of this node is known after the first lists.
    notices: VecDeque<Notice>,
}

impl Requests {
    pub(super) fn new(source: Option<mpsc::Sender<Request>>) -> Self {
        Self { source, waiting: VecDeque::new(), lists: VecDeque::new(), notices: VecDeque::new() }
    }

    /// Forwards a question of the engine.
    pub(super) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::ListAgain(kind) => self.lists.push_back((Instant::now() + LIST_AGAIN, kind)),
            Ask::Namespace(name) => self.add(Request::Namespace(name)),
            Ask::Object { kind, key } => self.add(Request::Object { kind, key }),
        }
    }

    /// Requests an Event, if its policy selects a pod of this node.
    pub(super) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES {
            self.notices.push_back(notice);
        }
    }

    fn add(&mut self, request: Request) {
        if self.source.is_some() {
            self.waiting.push_back(request);
        }
    }

    /// When to call [`Requests::send`] again, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let lists = self.lists.front().map(|(due, _)| *due);
        let waiting = (!self.waiting.is_empty()).then(|| Instant::now() + OFFER_AGAIN);
        lists.into_iter().chain(waiting).min()
    }

    /// Sends what is due, until the source's queue is full.
    pub(super) fn send(&mut self, engine: &Engine) {
        while let Some((_, kind)) = self.lists.pop_front_if(|(due, _)| *due <= Instant::now()) {
            self.add(Request::List(kind));
        }
        if engine.is_synced() {
            for notice in std::mem::take(&mut self.notices) {
                if engine.index().selects_local_pod(&notice.policy) {
                    self.add(Request::Notice(notice));
                }
            }
        }
        let Some(source) = &self.source else { return };
        while let Some(request) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(request)) = source.try_send(request) {
                self.waiting.push_front(request);
                return;
            }
        }
    }
}
