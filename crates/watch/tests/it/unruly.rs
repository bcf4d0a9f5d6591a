//! An API server that hangs, lies, forgets and refuses, and the source's reaction.
//!
//! Seen to fail when: a request has no deadline; a silent watch is kept; a watch is refused forever and nothing is
//! listed; an unreadable line is skipped; lists follow each other without a pause; a list that broke off is not
//! reported as abandoned; pages keep their size; questions are asked one by one, all at once, or once for each time.

pub(crate) mod server;

mod lists;
mod requests;
mod watches;

use std::time::{Duration, Instant};

use crate::common::gather::Gather;
use palisade_policy::input::{Change, NamespacedName, State};
use palisade_watch::{ApiServer, Arrival, Contact, Event, Failure, Kind, ListPart, Request, Timing};
use server::Server;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Short times for tests, in about the agent's proportions.
fn quick() -> Timing {
    Timing {
        answer: Duration::from_secs(5),
        watch: Duration::from_secs(3),
        short_watch: Duration::from_secs(1),
        silence: Duration::from_secs(5),
        brief: Duration::from_millis(100),
        retry_first: Duration::from_millis(20),
        retry_most: Duration::from_millis(200),
        refusals: 3,
        healthy: Duration::from_millis(1500),
        between_lists: Duration::from_secs(1),
        relist: Duration::from_secs(3600),
        page_bytes: 16 << 20,
        notice_spread: Duration::ZERO,
        notice_pause: Duration::from_millis(100),
        ranges: Duration::from_millis(200),
    }
}

/// The same with short deadlines, for servers that do not answer.
fn hasty() -> Timing {
    Timing { answer: Duration::from_millis(300), ..quick() }
}

/// A source on an unruly server, and the state that a receiver keeps.
struct Watching {
    rx: Receiver<Arrival>,
    requests: Sender<Request>,
    contact: Contact,
    gather: Gather,
    state: State,
    /// The parts of lists of each kind, a letter each.
    parts: Vec<(Kind, char)>,
    failures: Vec<Failure>,
    others: Vec<Event>,
}

impl Watching {
    async fn start(server: &Server, timing: Timing) -> Self {
        Self::run(ApiServer::connect(Some(&server.kubeconfig)).await.unwrap().with_timing(timing))
    }

    fn run(source: ApiServer) -> Self {
        let contact = source.contact();
        let (tx, rx) = channel(4);
        let (requests, asked) = channel(64);
        tokio::spawn(source.run(tx, asked));
        let (gather, state, parts) = (Gather::default(), State::default(), vec![]);
        Self { rx, requests, contact, gather, state, parts, failures: vec![], others: vec![] }
    }

    /// Receives until the condition holds, also checking it now and then while nothing arrives.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            let at = (&self.parts, &self.failures, &self.others);
            assert!(Instant::now() < end, "not in time: {what}; {at:?}");
            if let Ok(arrival) = timeout(Duration::from_millis(20), self.rx.recv()).await {
                self.take(arrival.unwrap());
            }
        }
    }

    fn take(&mut self, arrival: Arrival) {
        assert!(arrival.at <= Instant::now());
        match arrival.event {
            Event::List(part) => {
                self.parts.push(match &part {
                    ListPart::Begin(kind) => (*kind, 'b'),
                    ListPart::Page(objects) => (objects.first().unwrap().kind(), 'p'),
                    ListPart::End(kind) => (*kind, 'e'),
                    ListPart::Abandoned(kind) => (*kind, 'a'),
                });
                if let Some(list) = self.gather.take(part) {
                    self.state.apply(list);
                }
            }
            Event::Changes(changes) => {
                for change in changes {
                    let of_policy = matches!(change, Change::Policy(_) | Change::PolicyGone(_));
                    assert!(!of_policy || !self.gather.is_coming(Kind::NetworkPolicy), "in a list: {change:?}");
                    self.state.apply(change);
                }
            }
            Event::Failed(failure) => self.failures.push(failure),
            other => self.others.push(other),
        }
    }

    fn parts_of(&self, kind: Kind) -> String {
        self.parts.iter().filter(|(of, _)| *of == kind).map(|(_, part)| *part).collect()
    }

    /// The number of lists that ended.
    fn lists_of(&self, kind: Kind) -> usize {
        self.parts_of(kind).matches('e').count()
    }

    async fn until_listed(&mut self) {
        self.until("all listed", |now| Kind::ALL.iter().all(|kind| now.lists_of(*kind) > 0)).await;
    }

    fn has_policy(&self, name: &str) -> bool {
        self.state.policies.contains_key(&NamespacedName::new("n", name))
    }

    fn has_pod(&self, name: &str) -> bool {
        self.state.pods.contains_key(&NamespacedName::new("n", name))
    }
}
