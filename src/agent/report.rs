//! The loop's log lines and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use palisade_policy::index::Index;
use palisade_policy::input::{Change, Family};
use palisade_ruleset::change::Transaction;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{Renderer, dropped_counter};
use palisade_watch::{Event, Kind};

use super::cause::Cause;
use super::metrics::{CommitKind, Metrics, gauge};
use super::status::Status;

/// An event of an object.
pub(super) fn event(change: &Change, metrics: &Metrics) {
    let (resource, event) = match change {
        Change::Pod(_) => ("pod", "applied"),
        Change::PodGone(_) => ("pod", "deleted"),
        Change::Pods(_) => ("pod", "listed"),
        Change::Namespace(_) => ("namespace", "applied"),
        Change::NamespaceGone(_) => ("namespace", "deleted"),
        Change::Namespaces(_) => ("namespace", "listed"),
        Change::Policy(_) => ("networkpolicy", "applied"),
        Change::PolicyGone(_) => ("networkpolicy", "deleted"),
        Change::Policies(_) => ("networkpolicy", "listed"),
    };
    metrics.event(resource, event);
    let policies = match change {
        Change::Policy(policy) => std::slice::from_ref(policy),
        Change::Policies(policies) => policies.as_slice(),
        _ => return,
    };
    for policy in policies {
        for term in &policy.unenforceable {
            let (policy, field, reason) = (&policy.key, &term.field, &term.reason);
            tracing::warn!(%policy, field, reason, "a term cannot be enforced: it matches nothing, its pods stay isolated");
        }
    }
}

/// What an object source says beside changes.
pub(super) fn source(event: &Event, metrics: &Metrics, status: &Status) {
    match event {
        Event::Warning { object, message } => {
            let object = object.as_ref().map(ToString::to_string);
            tracing::warn!(object, "{message}");
        }
        Event::Failed(failure) => {
            let resource = failure.resource.map_or("all", Kind::resource);
            metrics.watch_error(resource, failure.reason);
            tracing::warn!(
                resource,
                error = failure.message,
                "cannot read objects; trying again, and the ruleset stays"
            );
        }
        Event::FileRejected { file, errors } => {
            metrics.rejected_files.inc();
            let file_name = file.display();
            tracing::error!(file = %file_name, %errors, "manifest rejected; its last good content stays in force");
            status.note_rejected(file, &errors.to_string());
        }
        Event::FileMended { file } => {
            tracing::info!(file = %file.display(), "manifest can be read again");
            status.note_mended(file);
        }
        Event::Changes(_) | Event::Synced | Event::PodRanges(_) => {}
    }
}

/// The ranges from which the node's pods get their addresses.
pub(super) fn pod_ranges(ranges: &BTreeSet<IpNet>) {
    let ranges = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(ranges, "pods of this node get their addresses from these ranges");
}

/// A commit that went well.
pub(super) fn commit(kind: CommitKind, transaction: &Transaction, cause: &Cause, elapsed: Duration) {
    tracing::info!(
        kind = kind.name(),
        %cause,
        operations = transaction.operations(),
        batches = transaction.batches().count(),
        elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "committed"
    );
}

/// The table was made anew.
pub(super) fn replaced(ruleset: &Ruleset, cause: &Cause, elapsed: Duration) {
    tracing::info!(
        kind = "full",
        %cause,
        chains = ruleset.chains.len(),
        sets = ruleset.sets.len(),
        elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "committed a new table"
    );
}

/// The gauges.
pub(super) fn state(index: &Index, renderer: &Renderer, metrics: &Metrics) {
    let counts = index.counts();
    for (isolation, count) in [
        ("none", counts.not_isolated),
        ("egress", counts.isolated_egress),
        ("ingress", counts.isolated_ingress),
        ("both", counts.isolated_both),
    ] {
        metrics.set_pods(isolation, count);
    }
    metrics.policies.set(gauge(counts.policies));
    metrics.unenforceable_terms.set(gauge(counts.unenforceable_terms));
    metrics.starting_pods.set(gauge(counts.starting));
    metrics.claimed_twice.set(gauge(counts.claimed_twice));
    let objects = renderer.counts();
    metrics.set_objects("chain", objects.chains);
    metrics.set_objects("map", objects.maps);
    metrics.set_objects("set", objects.sets);
}

/// The kernel's counters of drops.
pub(super) fn counters(counters: &BTreeMap<Name, (u64, u64)>, metrics: &Metrics) {
    for direction in ["egress", "ingress", "stray"] {
        for (family, label) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
            let (packets, bytes) = counters.get(&dropped_counter(direction, family)).copied().unwrap_or_default();
            metrics.set_dropped(direction, label, packets, bytes);
        }
    }
}
