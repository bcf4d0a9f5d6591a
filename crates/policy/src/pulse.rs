//! How far long work has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that long work raises as it goes on. Whoever watches it from another thread can tell work that is long from work
/// that is stuck.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Work went on.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
