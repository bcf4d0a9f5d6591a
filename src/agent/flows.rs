//! Deletes conntrack entries, and clears their stamps, on a separate thread: a dump of a large table takes a while.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use palisade_dataplane::conntrack::Cleared;
use palisade_dataplane::perform::{clear_stamps, forget};
use palisade_engine::Forgotten;
use palisade_ruleset::cache::Stale;
use tokio::sync::mpsc;

/// The minimum time from the start of one dump to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Work for the thread.
#[derive(Debug)]
enum Request {
    Forget(BTreeSet<IpAddr>),
    ClearStamps(Stale),
}

/// The result of one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Flows were deleted.
    Forgot {
        forgotten: Forgotten,
        /// How many entries were deleted.
        flows: usize,
        /// How long it took.
        took: Duration,
    },
    /// Stamps were cleared.
    Cleared {
        cleared: Cleared,
        /// How long it took.
        took: Duration,
    },
}

/// Sends requests to the thread that walks conntrack.
#[derive(Debug)]
pub(crate) struct Flows(std_mpsc::Sender<Request>);

impl Flows {
    /// Starts the thread, in this thread's network namespace. Outcomes arrive in the order of the requests.
    pub(crate) fn start() -> std::io::Result<(Self, mpsc::UnboundedReceiver<Outcome>)> {
        let (requests, receiver) = std_mpsc::channel();
        let (sender, outcomes) = mpsc::unbounded_channel();
        thread::Builder::new().name("conntrack".to_owned()).spawn(move || work(&receiver, &sender))?;
        Ok((Self(requests), outcomes))
    }

    /// Requests the deletion of these IPs' flows. The engine waits for the outcome before its next such request.
    pub(crate) fn forget(&self, addresses: BTreeSet<IpAddr>) {
        self.request(Request::Forget(addresses));
    }

    /// Requests that these stamps be cleared. The engine waits for the outcome before its next such request.
    pub(crate) fn clear_stamps(&self, stale: Stale) {
        self.request(Request::ClearStamps(stale));
    }

    fn request(&self, request: Request) {
        if self.0.send(request).is_err() {
            tracing::error!("the conntrack thread has ended");
        }
    }
}

fn work(requests: &std_mpsc::Receiver<Request>, outcomes: &mpsc::UnboundedSender<Outcome>) {
    let mut last: Option<Instant> = None;
    while let Ok(request) = requests.recv() {
        if let Some(last) = last {
            thread::sleep(EVERY.saturating_sub(last.elapsed()));
        }
        let began = Instant::now();
        last = Some(began);
        let outcome = match request {
            Request::Forget(addresses) => {
                let (forgotten, flows) = forget(addresses);
                Outcome::Forgot { forgotten, flows, took: began.elapsed() }
            }
            Request::ClearStamps(stale) => Outcome::Cleared { cleared: clear_stamps(stale), took: began.elapsed() },
        };
        if outcomes.send(outcome).is_err() {
            return;
        }
    }
}
