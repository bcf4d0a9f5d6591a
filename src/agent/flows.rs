//! Deletes conntrack entries on a separate thread, because a dump of a large table takes a while.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant};

use palisade_dataplane::perform::forget;
use palisade_engine::Forgotten;
use tokio::sync::mpsc;

/// The minimum time from the start of one dump to the next.
const EVERY: Duration = Duration::from_secs(1);

/// The result of one deletion.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) forgotten: Forgotten,
    /// How many entries were deleted.
    pub(crate) flows: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Sends IPs to the thread that deletes their flows.
#[derive(Debug)]
pub(crate) struct Flows(std_mpsc::Sender<BTreeSet<IpAddr>>);

impl Flows {
    /// Starts the thread, in this thread's network namespace. Outcomes arrive in the order of the requests.
    pub(crate) fn start() -> std::io::Result<(Self, mpsc::UnboundedReceiver<Outcome>)> {
        let (requests, receiver) = std_mpsc::channel();
        let (outcomes, forgotten) = mpsc::unbounded_channel();
        thread::Builder::new().name("conntrack".to_owned()).spawn(move || work(&receiver, &outcomes))?;
        Ok((Self(requests), forgotten))
    }

    /// Requests the deletion of these IPs' flows. The engine waits for the outcome before its next request.
    pub(crate) fn forget(&self, addresses: BTreeSet<IpAddr>) {
        if self.0.send(addresses).is_err() {
            tracing::error!("the conntrack thread has ended");
        }
    }
}

fn work(requests: &std_mpsc::Receiver<BTreeSet<IpAddr>>, outcomes: &mpsc::UnboundedSender<Outcome>) {
    let mut last: Option<Instant> = None;
    while let Ok(addresses) = requests.recv() {
        if let Some(last) = last {
            thread::sleep(EVERY.saturating_sub(last.elapsed()));
        }
        let began = Instant::now();
        last = Some(began);
        let (forgotten, flows) = forget(addresses);
        if outcomes.send(Outcome { forgotten, flows, took: began.elapsed() }).is_err() {
            return;
        }
    }
}
