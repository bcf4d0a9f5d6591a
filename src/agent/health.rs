//! The state of the loop and the source, for probes and scrapes. Any thread can read it without waiting for either.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use palisade_policy::Pulse;
use palisade_watch::{Arrival, Contact, Kind, KindContact};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::mpsc;

/// A resource that has been silent for this long is considered unknown. Servers send a bookmark about once a minute.
const SILENCE: Duration = Duration::from_secs(75);

/// A resource that could not be read for this long is considered unknown.
const FAILING: Duration = Duration::from_secs(40);

/// Shared by the loop, the source and the server; clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// Microseconds from the start, plus one, at which the loop began to work; 0 while it waits.
    busy_since: AtomicU64,
    busy_total: AtomicU64,
    progress: AtomicU64,
    /// The engine's progress counter for long work.
    pulse: OnceLock<Pulse>,
    ranges_known: AtomicBool,
    /// The API server's contact; `None` for a directory of manifests.
    contact: OnceLock<Contact>,
    /// The queue of events, to see whether any wait.
    queue: OnceLock<mpsc::WeakSender<Arrival>>,
    /// Since when each kind could not be read, as of the last check.
    failing: Mutex<[Option<Instant>; 3]>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            start: Instant::now(),
            busy_since: AtomicU64::new(0),
            busy_total: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            pulse: OnceLock::new(),
            ranges_known: AtomicBool::new(false),
            contact: OnceLock::new(),
            queue: OnceLock::new(),
            failing: Mutex::default(),
        }))
    }

    /// Watches the length of this queue.
    pub(crate) fn watch_queue(&self, events: &mpsc::Sender<Arrival>) {
        drop(self.0.queue.set(events.downgrade()));
    }

    /// Watches the contact with an API server.
    pub(crate) fn watch_contact(&self, contact: Contact) {
        drop(self.0.contact.set(contact));
    }

    /// Watches the engine's long work.
    pub(crate) fn watch_pulse(&self, pulse: Pulse) {
        drop(self.0.pulse.set(pulse));
    }

    /// A counter that grows while the loop makes progress.
    pub(crate) fn progress_count(&self) -> u64 {
        let of_engine = self.0.pulse.get().map(Pulse::count).unwrap_or_default();
        self.0.progress.load(Ordering::Relaxed).wrapping_add(of_engine)
    }

    /// The loop makes progress.
    pub(crate) fn progress(&self) {
        self.0.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop is idle.
    pub(crate) fn idle(&self) {
        let since = self.0.busy_since.swap(0, Ordering::Relaxed);
        if let Some(since) = since.checked_sub(1) {
            self.0.busy_total.fetch_add(self.now().saturating_sub(since), Ordering::Relaxed);
        }
        self.progress();
    }

    /// The loop is busy.
    pub(crate) fn busy(&self) {
        self.0.busy_since.store(self.now().saturating_add(1), Ordering::Relaxed);
        self.progress();
    }

    /// Whether the node's pod ranges are known.
    pub(crate) fn ranges_known(&self, known: bool) {
        self.0.ranges_known.store(known, Ordering::Relaxed);
    }

    /// The resources that are no longer known, and why.
    pub(crate) fn unheard(&self) -> Vec<String> {
        let now = Instant::now();
        let Some(contact) = self.0.contact.get() else { return Vec::new() };
        let mut failing = self.0.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unheard = Vec::new();
        for (kind, since) in Kind::ALL.into_iter().zip(failing.iter_mut()) {
            let KindContact { heard, failing, .. } = contact.of(kind);
            let silent = now.saturating_duration_since(heard.unwrap_or(self.0.start));
            match &failing {
                None => *since = None,
                Some(_) => drop(since.get_or_insert(now)),
            }
            let failed = since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
            let resource = kind.resource();
            if let Some((failures, why)) = failing.filter(|_| failed >= FAILING) {
                let seconds = failed.as_secs();
                unheard.push(format!("{resource} could not be read for {seconds} s ({failures} attempts): {why}"));
            } else if silent >= SILENCE {
                unheard.push(format!("{resource} silent for {} s", silent.as_secs()));
            }
        }
        unheard
    }

    fn now(&self) -> u64 {
        micros(self.0.start.elapsed())
    }

    /// Upper bound of how long the oldest queued event has waited. The loop takes none while it works.
    fn queue_age(&self) -> Duration {
        let waiting = self.0.queue.get().and_then(mpsc::WeakSender::upgrade);
        let waits = waiting.is_some_and(|queue| queue.capacity() < queue.max_capacity());
        let since = self.0.busy_since.load(Ordering::Relaxed).checked_sub(1);
        let busy = since.map(|since| Duration::from_micros(self.now().saturating_sub(since)));
        busy.filter(|_| waits).unwrap_or_default()
    }

    fn busy_total(&self) -> Duration {
        let since = self.0.busy_since.load(Ordering::Relaxed).checked_sub(1);
        let now = since.map(|since| self.now().saturating_sub(since)).unwrap_or_default();
        Duration::from_micros(self.0.busy_total.load(Ordering::Relaxed).saturating_add(now))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Values computed at each scrape.
impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let age = ConstGauge::new(self.queue_age().as_secs_f64());
        let help = "Upper bound of how long the oldest queued event has waited";
        age.encode(encoder.encode_descriptor("event_queue_age", help, Some(&Unit::Seconds), MetricType::Gauge)?)?;
        let busy = ConstCounter::new(self.busy_total().as_secs_f64());
        let help = "Time in which the enforcement loop was busy";
        busy.encode(encoder.encode_descriptor("loop_busy", help, Some(&Unit::Seconds), MetricType::Counter)?)?;
        let known = ConstGauge::new(i64::from(self.0.ranges_known.load(Ordering::Relaxed)));
        let help = "Whether this node's pod ranges are known";
        known.encode(encoder.encode_descriptor("pod_ranges_known", help, None, MetricType::Gauge)?)?;
        let Some(contact) = self.0.contact.get() else { return Ok(()) };
        for (name, help, of) in [
            (
                "watch_last_contact",
                "Time since the API server last sent anything about a resource",
                heard as fn(&_) -> _,
            ),
            ("watch_last_list", "Time since the last complete list of a resource", listed),
        ] {
            let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
            for kind in Kind::ALL {
                let since = of(&contact.of(kind)).unwrap_or(self.0.start);
                let age = ConstGauge::new(since.elapsed().as_secs_f64());
                age.encode(family.encode_family(&[("resource", kind.resource())])?)?;
            }
        }
        Ok(())
    }
}

fn heard(contact: &KindContact) -> Option<Instant> {
    contact.heard
}

fn listed(contact: &KindContact) -> Option<Instant> {
    contact.listed
}
