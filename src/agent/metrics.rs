//! The agent's metrics, for `/metrics`.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use palisade_engine::CommitKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Labels of a metric with one label. Values come from closed sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    kind: &'static str,
}

/// Labels of commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CommitLabels {
    kind: &'static str,
    result: &'static str,
}

/// Labels of pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct IsolationLabels {
    isolation: &'static str,
}

/// Labels of watch events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EventLabels {
    resource: &'static str,
    event: &'static str,
}

/// Labels of errors of the object source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FailureLabels {
    resource: &'static str,
    reason: &'static str,
}

/// Labels of doubted lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DoubtLabels {
    resource: &'static str,
    reason: &'static str,
}

/// Labels of policies that match nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QuarantineLabels {
    reason: &'static str,
}

/// Labels of drops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DropLabels {
    /// `egress`, `ingress`, or `none` for packets that isolation in no direction denies.
    pub(crate) direction: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) family: &'static str,
}

/// The metrics. Cheap to clone; all clones share the counts.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    commits: Family<CommitLabels, Counter>,
    commit_duration: Histogram,
    pub(crate) operations: Counter,
    implementation_delay: Histogram,
    pub(crate) policies: Gauge,
    pods: Family<IsolationLabels, Gauge>,
    objects: Family<Kind, Gauge>,
    pub(crate) flows_deleted: Counter,
    pub(crate) duplicate_ips: Gauge,
    pub(crate) starting_pods: Gauge,
    pub(crate) unenforceable_terms: Gauge,
    events: Family<EventLabels, Counter>,
    watch_errors: Family<FailureLabels, Counter>,
    pub(crate) rejected_files: Counter,
    pub(crate) synced: Gauge,
    doubted: Family<DoubtLabels, Counter>,
    quarantined: Family<QuarantineLabels, Gauge>,
    pub(crate) addresses_due: Gauge,
    pub(crate) addresses_held: Gauge,
    pub(crate) held_deletions: Gauge,
    pub(crate) verdict_cache: Gauge,
    forget_duration: Histogram,
    dropped_packets: Family<DropLabels, Counter<u64, AtomicU64>>,
    dropped_bytes: Family<DropLabels, Counter<u64, AtomicU64>>,
}

/// The possible results of a commit.
const RESULTS: [&str; 2] = ["success", "error"];

impl Metrics {
    /// The metrics and the registry that prints them.
    pub(crate) fn new() -> (Self, Registry) {
        let seconds = || Histogram::new([1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        let metrics = Self {
            commits: Family::default(),
            commit_duration: seconds(),
            operations: Counter::default(),
            implementation_delay: seconds(),
            policies: Gauge::default(),
            pods: Family::default(),
            objects: Family::default(),
            flows_deleted: Counter::default(),
            duplicate_ips: Gauge::default(),
            starting_pods: Gauge::default(),
            unenforceable_terms: Gauge::default(),
            events: Family::default(),
            watch_errors: Family::default(),
            rejected_files: Counter::default(),
            synced: Gauge::default(),
            doubted: Family::default(),
            quarantined: Family::default(),
            addresses_due: Gauge::default(),
            addresses_held: Gauge::default(),
            held_deletions: Gauge::default(),
            verdict_cache: Gauge::default(),
            forget_duration: seconds(),
            dropped_packets: Family::default(),
            dropped_bytes: Family::default(),
        };
        metrics.start_at_zero();
        let registry = metrics.register();
        (metrics, registry)
    }

    /// Creates the series of commits, so that a rate sees the first one.
    fn start_at_zero(&self) {
        for kind in [CommitKind::Full, CommitKind::Incremental, CommitKind::Repair] {
            for result in RESULTS {
                drop(self.commits.get_or_create(&CommitLabels { kind: kind.name(), result }));
            }
        }
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("palisade");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        registry.register("commits", "Commits to the kernel, by kind and result", self.commits.clone());
        registry.register_with_unit(
            "commit_duration",
            "Time from the start of rendering to the end of the commit",
            Unit::Seconds,
            self.commit_duration.clone(),
        );
        registry.register(
            "commit_operations",
            "Objects, elements and rules written to the kernel",
            self.operations.clone(),
        );
        registry.register_with_unit(
            "policy_implementation_delay",
            "Time from an event's arrival to the commit that enforces it",
            Unit::Seconds,
            self.implementation_delay.clone(),
        );
        registry.register("policies", "Policies in force in the cluster", self.policies.clone());
        registry.register("local_addresses", "IPs of this node's pods, by isolation", self.pods.clone());
        registry.register("objects", "Objects in the table, by kind", self.objects.clone());
        registry.register(
            "conntrack_flows_deleted",
            "Flows deleted because their IP left its pod",
            self.flows_deleted.clone(),
        );
        registry.register("duplicate_ips", "IPs that two live pods have", self.duplicate_ips.clone());
        registry.register(
            "starting_pods",
            "Isolated pods of this node whose IP is not known yet",
            self.starting_pods.clone(),
        );
        registry.register(
            "unenforceable_terms",
            "Terms of policies that match nothing because they cannot be enforced",
            self.unenforceable_terms.clone(),
        );
        registry.register(
            "verdict_cache_in_use",
            "Whether packets of allowed flows are accepted by a stamp in ct mark",
            self.verdict_cache.clone(),
        );
        registry.register("watch_events", "Events received, by resource and event", self.events.clone());
        registry.register("watch_errors", "Errors of the object source", self.watch_errors.clone());
        registry.register(
            "manifests_rejected",
            "Manifest files rejected; their last good content stays in force",
            self.rejected_files.clone(),
        );
        registry.register(
            "watch_synced",
            "Whether pods, namespaces and policies have all been listed",
            self.synced.clone(),
        );
        registry.register("lists_doubted", "Lists doubted, by resource and reason", self.doubted.clone());
        registry.register(
            "policies_quarantined",
            "Policies that match nothing while their pods stay isolated, by reason",
            self.quarantined.clone(),
        );
        registry.register(
            "addresses_due",
            "IPs that left their pods and whose conntrack entries are not deleted yet",
            self.addresses_due.clone(),
        );
        registry.register(
            "addresses_held",
            "Due IPs that another pod already has; no selector matches them",
            self.addresses_held.clone(),
        );
        registry.register(
            "policy_deletions_held",
            "Deleted policies in force until it is known whether their namespace is terminating",
            self.held_deletions.clone(),
        );
        registry.register_with_unit(
            "conntrack_dump_duration",
            "Time of one pass over conntrack, deletions included",
            Unit::Seconds,
            self.forget_duration.clone(),
        );
        registry.register(
            "dropped_packets",
            "Packets dropped, by direction, reason and family",
            self.dropped_packets.clone(),
        );
        registry.register(
            "dropped_bytes",
            "Bytes dropped, by direction, reason and family",
            self.dropped_bytes.clone(),
        );
        registry
    }

    /// A commit ended after `seconds`.
    pub(crate) fn committed(&self, kind: CommitKind, succeeded: bool, seconds: f64) {
        let [success, error] = RESULTS;
        let result = if succeeded { success } else { error };
        self.commits.get_or_create(&CommitLabels { kind: kind.name(), result }).inc();
        self.commit_duration.observe(seconds);
    }

    /// An event was enforced `seconds` after its arrival.
    pub(crate) fn enforced(&self, seconds: f64) {
        self.implementation_delay.observe(seconds);
    }

    /// An event arrived.
    pub(crate) fn event(&self, resource: &'static str, event: &'static str) {
        self.events.get_or_create(&EventLabels { resource, event }).inc();
    }

    /// The object source failed.
    pub(crate) fn watch_error(&self, resource: &'static str, reason: &'static str) {
        self.watch_errors.get_or_create(&FailureLabels { resource, reason }).inc();
    }

    /// A list was doubted.
    pub(crate) fn list_doubted(&self, resource: &'static str, reason: &'static str) {
        self.doubted.get_or_create(&DoubtLabels { resource, reason }).inc();
    }

    /// How many policies match nothing.
    pub(crate) fn set_quarantined(&self, reason: &'static str, count: usize) {
        self.quarantined.get_or_create(&QuarantineLabels { reason }).set(gauge(count));
    }

    /// Conntrack entries were deleted.
    pub(crate) fn forgot(&self, flows: usize, took: Duration) {
        self.flows_deleted.inc_by(u64::try_from(flows).unwrap_or(u64::MAX));
        self.forget_duration.observe(took.as_secs_f64());
    }

    /// How many IPs of local pods have each isolation.
    pub(crate) fn set_pods(&self, isolation: &'static str, count: usize) {
        self.pods.get_or_create(&IsolationLabels { isolation }).set(gauge(count));
    }

    /// How many objects of a kind the table has.
    pub(crate) fn set_objects(&self, kind: &'static str, count: usize) {
        self.objects.get_or_create(&Kind { kind }).set(gauge(count));
    }

    /// The kernel's drop counters for one reason and family.
    pub(crate) fn set_dropped(&self, labels: &DropLabels, packets: u64, bytes: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        self.dropped_packets.get_or_create(labels).inner().store(packets, Relaxed);
        self.dropped_bytes.get_or_create(labels).inner().store(bytes, Relaxed);
    }
}

/// A count as a gauge's value.
pub(crate) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The text that Prometheus reads.
pub(crate) fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}
