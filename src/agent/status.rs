//! What the agent tells its probes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A loop that has not gone round for this long is stuck.
const STUCK: Duration = Duration::from_mins(2);

/// Readiness and liveness, shared by the loop that enforces and the server that tells.
#[derive(Clone, Debug)]
pub(crate) struct Status(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Why the agent is not ready, by what is missing; empty when it is ready.
    missing: BTreeMap<&'static str, String>,
    /// Manifests whose present content cannot be read, and why.
    rejected: BTreeMap<PathBuf, String>,
    /// When the loop last went round.
    beat: Instant,
}

impl Status {
    /// Not ready: neither synced nor committed.
    pub(crate) fn new() -> Self {
        let missing = BTreeMap::from([
            ("sync", "pods, namespaces and policies have not all been listed yet".to_owned()),
            ("commit", "nothing has been committed to the kernel yet".to_owned()),
        ]);
        Self(Arc::new(Mutex::new(Inner { missing, rejected: BTreeMap::new(), beat: Instant::now() })))
    }

    /// Something is missing, and why. Whether that is new.
    pub(crate) fn miss(&self, what: &'static str, why: String) -> bool {
        let mut inner = self.inner();
        let new = inner.missing.get(what) != Some(&why);
        inner.missing.insert(what, why);
        new
    }

    /// Something is there. Whether that is new.
    pub(crate) fn have(&self, what: &'static str) -> bool {
        self.inner().missing.remove(what).is_some()
    }

    /// A manifest was rejected. Before the first sync that is why there is none; later the last good content is in force.
    pub(crate) fn note_rejected(&self, file: &Path, errors: &str) {
        let mut inner = self.inner();
        inner.rejected.insert(file.to_owned(), errors.to_owned());
    }

    /// A rejected manifest can be read again.
    pub(crate) fn note_mended(&self, file: &Path) {
        self.inner().rejected.remove(file);
    }

    /// The loop goes round.
    pub(crate) fn beat(&self) {
        self.inner().beat = Instant::now();
    }

    /// Ready, or why not.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let inner = self.inner();
        if inner.missing.is_empty() {
            return Ok(());
        }
        let missing = inner.missing.iter().map(|(what, why)| format!("{what}: {why}\n"));
        let rejected = inner.rejected.values().map(|errors| format!("{}\n", errors.trim_end()));
        Err(missing.chain(rejected).collect())
    }

    /// Alive, or why not.
    pub(crate) fn liveness(&self) -> Result<(), String> {
        let silent = self.inner().beat.elapsed();
        if silent < STUCK { Ok(()) } else { Err(format!("the loop has not gone round for {} s\n", silent.as_secs())) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The values stay whole whatever happened to another holder of the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
