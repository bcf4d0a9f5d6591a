//! The agent's answers to its probes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::health::Health;

/// The words that begin a line of `/readyz`.
const REASONS: [&str; 5] = ["sync", "commit", "node", "lists", "watch"];

/// A loop without progress for this long is stuck.
const STUCK: Duration = Duration::from_mins(2);

/// Readiness and liveness, shared by the enforcement loop and the server.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    inner: Arc<Mutex<Inner>>,
    health: Health,
}

#[derive(Debug)]
struct Inner {
    /// Why the agent is not ready, by what is missing; empty when it is ready.
    missing: BTreeMap<&'static str, String>,
    /// Manifests whose current content cannot be read, and why.
    rejected: BTreeMap<PathBuf, String>,
    /// When the loop last made progress. Long work that progresses must not cause a restart, because the work would
    /// begin again.
    beat: Instant,
    /// The progress counter at that time.
    seen: u64,
}

impl Status {
    /// Not ready: neither synced nor committed.
    pub(crate) fn new(health: Health) -> Self {
        let missing = BTreeMap::from([
            ("sync", "pods, namespaces and policies have not all been listed yet".to_owned()),
            ("commit", "nothing has been committed to the kernel yet".to_owned()),
        ]);
        let (rejected, beat) = (BTreeMap::new(), Instant::now());
        Self { inner: Arc::new(Mutex::new(Inner { missing, rejected, beat, seen: 0 })), health }
    }

    /// Notes that something is missing, and why. Returns whether that is new.
    pub(crate) fn miss(&self, what: &'static str, why: String) -> bool {
        let mut inner = self.inner();
        let new = inner.missing.get(what) != Some(&why);
        inner.missing.insert(what, why);
        new
    }

    /// Notes that something is not missing. Returns whether that is new.
    pub(crate) fn have(&self, what: &'static str) -> bool {
        self.inner().missing.remove(what).is_some()
    }

    /// Notes a rejected manifest. Before the sync it is the reason to wait; later its last good content is in force.
    pub(crate) fn note_rejected(&self, file: &Path, errors: &str) {
        let mut inner = self.inner();
        inner.rejected.insert(file.to_owned(), errors.to_owned());
    }

    /// Notes that a rejected manifest can be read again.
    pub(crate) fn note_recovered(&self, file: &Path) {
        self.inner().rejected.remove(file);
    }

    /// Ready, or why not.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let unheard = self.health.unheard();
        let inner = self.inner();
        if inner.missing.is_empty() && unheard.is_empty() {
            return Ok(());
        }
        let missing = inner.missing.iter().map(|(what, why)| format!("{what}: {why}\n"));
        let unheard = unheard.iter().map(|why| format!("watch: {why}; the rules stay\n"));
        let rejected = inner.rejected.values().map(|errors| format!("{}\n", errors.trim_end()));
        Err(missing.chain(unheard).chain(rejected).collect())
    }

    /// Alive, or why not.
    pub(crate) fn liveness(&self) -> Result<(), String> {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> Result<(), String> {
        let mut inner = self.inner();
        let progress = self.health.progress_count();
        if progress != inner.seen {
            inner.seen = progress;
            inner.beat = now;
        }
        let silent = now.saturating_duration_since(inner.beat);
        if silent < STUCK { Ok(()) } else { Err(format!("enforcement loop stalled for {} s\n", silent.as_secs())) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The values stay consistent even if another holder of the lock panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readiness at a scrape, by reason.
impl Collector for Status {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let is_silent = !self.health.unheard().is_empty();
        let inner = self.inner();
        let help = "Whether the agent is not ready, for each reason that /readyz can have";
        let mut family = encoder.encode_descriptor("not_ready", help, None, MetricType::Gauge)?;
        for reason in REASONS {
            let is_given = inner.missing.contains_key(reason) || (reason == "watch" && is_silent);
            ConstGauge::new(i64::from(is_given)).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail when: progress is ignored; a counter that moved once counts forever.

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn each_reason_not_to_be_ready_is_a_series() {
        let status = Status::new(Health::new());
        let mut registry = Registry::with_prefix("palisade");
        registry.register_collector(Box::new(status.clone()));
        let given = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let reason = |line: &str| {
                let (reason, value) = line.strip_prefix("palisade_not_ready{reason=\"")?.split_once("\"} ")?;
                (value == "1").then(|| reason.to_owned())
            };
            text.lines().filter_map(reason).collect::<Vec<_>>()
        };
        assert_eq!(given(), ["sync", "commit"]);
        status.have("sync");
        status.have("commit");
        assert_eq!(given(), [""; 0]);
        status.miss("node", "a bridge bypasses netfilter".to_owned());
        status.miss("lists", "waiting".to_owned());
        assert_eq!(given(), ["node", "lists"]);
    }

    #[test]
    fn a_loop_is_alive_while_its_work_progresses() {
        let health = Health::new();
        let status = Status::new(health.clone());
        let start = Instant::now();
        let after = |seconds| status.liveness_at(start + Duration::from_secs(seconds));
        after(119).unwrap();
        assert_eq!(after(121).unwrap_err(), "enforcement loop stalled for 121 s\n");
        for minute in 2..=10 {
            health.progress();
            after(60 * minute).unwrap();
        }
        after(719).unwrap();
        after(720).unwrap_err();
        health.progress();
        after(721).unwrap();
    }
}
