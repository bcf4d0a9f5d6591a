//! When an API server was last heard from; any thread can read it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use palisade_policy::input::Kind;

/// The contact with an API server, updated while the source runs. Clones share it.
#[derive(Clone, Debug)]
pub struct Contact(Arc<Kinds>);

/// The contact for one kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindContact {
    /// The last time the server sent something about the kind: the head of a list or a watch, a page, a change or a
    /// bookmark. A refusal does not count.
    pub heard: Option<Instant>,
    /// The end of the last list that was read completely.
    pub listed: Option<Instant>,
    /// Whether a list is being read.
    pub listing: bool,
    /// The number of failed attempts since the last success, and the reason for the last.
    pub failing: Option<(u32, String)>,
}

#[derive(Debug)]
struct Kinds {
    /// The start; times are relative to it.
    start: Instant,
    namespaces: Cell,
    pods: Cell,
    policies: Cell,
}

#[derive(Debug, Default)]
struct Cell {
    /// Microseconds since the start, plus one; 0 is never.
    heard: AtomicU64,
    listed: AtomicU64,
    listing: AtomicBool,
    failures: AtomicU32,
    /// Locked only during failures.
    reason: Mutex<String>,
}

impl Contact {
    pub(crate) fn new() -> Self {
        let (namespaces, pods, policies) = (Cell::default(), Cell::default(), Cell::default());
        Self(Arc::new(Kinds { start: Instant::now(), namespaces, pods, policies }))
    }

    /// The contact for a kind.
    pub fn of(&self, kind: Kind) -> KindContact {
        let cell = self.cell(kind);
        let failures = cell.failures.load(Ordering::Acquire);
        let reason = || cell.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        KindContact {
            heard: self.time(&cell.heard),
            listed: self.time(&cell.listed),
            listing: cell.listing.load(Ordering::Relaxed),
            failing: (failures > 0).then(|| (failures, reason())),
        }
    }

    pub(crate) fn hear(&self, kind: Kind) {
        self.cell(kind).heard.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn begin_list(&self, kind: Kind) {
        self.cell(kind).listing.store(true, Ordering::Relaxed);
    }

    /// Notes that a list is complete, or broke off.
    pub(crate) fn end_list(&self, kind: Kind, whole: bool) {
        let cell = self.cell(kind);
        cell.listing.store(false, Ordering::Relaxed);
        if whole {
            cell.listed.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(crate) fn fail(&self, kind: Kind, reason: &str) {
        let cell = self.cell(kind);
        reason.clone_into(&mut cell.reason.lock().unwrap_or_else(PoisonError::into_inner));
        cell.failures.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn succeed(&self, kind: Kind) {
        self.cell(kind).failures.store(0, Ordering::Release);
    }

    fn cell(&self, kind: Kind) -> &Cell {
        match kind {
            Kind::Namespace => &self.0.namespaces,
            Kind::Pod => &self.0.pods,
            Kind::NetworkPolicy => &self.0.policies,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn time(&self, stored: &AtomicU64) -> Option<Instant> {
        let micros = stored.load(Ordering::Relaxed).checked_sub(1)?;
        self.0.start.checked_add(Duration::from_micros(micros))
    }
}
