//! The progress of long work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that long work increments as it progresses. Another thread can use it to tell slow work from stuck work.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Records progress.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of records.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
