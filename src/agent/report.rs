//! The loop's log lines and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use palisade_dataplane::conntrack::Cleared;
use palisade_dataplane::host::mark_users;
use palisade_dataplane::perform::Look;
use palisade_dataplane::table::Count;
use palisade_engine::{CommitKind, Engine, ListPart, NamespaceAnswer, ObjectAnswer, Report};
use palisade_policy::input::{Change, Direction, Family, NamespacedName};
use palisade_ruleset::cache::Slice;
use palisade_ruleset::name::Name;
use palisade_ruleset::render::Reason;
use palisade_watch::{Event, Kind};

use super::metrics::{DropLabels, Metrics, gauge};
use super::status::Status;

/// Counts an event of the source.
pub(super) fn event(event: &Event, metrics: &Metrics) {
    match event {
        Event::Changes(changes) => changes.iter().for_each(|change| count(change, metrics)),
        Event::List(ListPart::End(kind)) => metrics.event(resource(*kind), "listed"),
        _ => {}
    }
}

fn count(change: &Change, metrics: &Metrics) {
    let (kind, event) = match change {
        Change::Pod(_) => (Kind::Pod, "applied"),
        Change::PodGone(_) => (Kind::Pod, "deleted"),
        Change::Namespace(_) => (Kind::Namespace, "applied"),
        Change::NamespaceGone(_) => (Kind::Namespace, "deleted"),
        Change::Policy(_) => (Kind::NetworkPolicy, "applied"),
        Change::PolicyGone(_) => (Kind::NetworkPolicy, "deleted"),
        // Sources send lists in parts.
        Change::Pods(_) | Change::Namespaces(_) | Change::Policies(_) => return,
    };
    metrics.event(resource(kind), event);
}

/// The answer to a question about a namespace.
pub(super) fn answer(namespace: &str, answer: &NamespaceAnswer) {
    if *answer == NamespaceAnswer::Refused {
        tracing::warn!(
            namespace,
            "cannot ask whether a namespace is terminating, so policies deleted with it open its pods; the ClusterRole must \
             allow get of namespaces"
        );
    }
}

/// The answer to a question about an object that a list lacks.
pub(super) fn object_answer(kind: Kind, object: &NamespacedName, answer: ObjectAnswer) {
    if answer == ObjectAnswer::Refused {
        let (resource, object) = (kind.resource(), name(object));
        tracing::warn!(
            object,
            "cannot ask whether an object is there that a list lacks, so a second list is believed without this \
             check; the ClusterRole must allow get of {resource}"
        );
    }
}

/// A name as text; a namespace has no namespace.
fn name(object: &NamespacedName) -> String {
    if object.namespace.is_empty() { object.name.to_string() } else { object.to_string() }
}

/// The kind as the label of events.
fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::Pod => "pod",
        Kind::Namespace => "namespace",
        Kind::NetworkPolicy => "networkpolicy",
    }
}

/// Logs the events of an object source other than changes.
pub(super) fn source(event: &Event, metrics: &Metrics, status: &Status) {
    match event {
        Event::Warning { object, message } => {
            let object = object.as_ref().map(ToString::to_string);
            tracing::warn!(object, "{message}");
        }
        Event::Failed(failure) => {
            let resource = failure.resource.map_or("all", Kind::resource);
            metrics.watch_error(resource, failure.reason);
            tracing::warn!(resource, error = failure.message, "cannot read objects; trying again, the ruleset stays");
        }
        Event::FileRejected { file, errors } => {
            metrics.rejected_files.inc();
            let file_name = file.display();
            tracing::error!(file = %file_name, %errors, "manifest rejected; its last good content stays in force");
            status.note_rejected(file, &errors.to_string());
        }
        Event::FileRecovered { file } => {
            tracing::info!(file = %file.display(), "manifest can be read again");
            status.note_recovered(file);
        }
        Event::List(_)
        | Event::Changes(_)
        | Event::NamespaceAnswer { .. }
        | Event::ObjectAnswer { .. }
        | Event::PodRanges(_) => {}
    }
}

/// The ranges from which the node assigns pod IPs.
pub(super) fn pod_ranges(ranges: &BTreeSet<IpNet>) {
    let ranges = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(ranges, "this node assigns pod IPs from these ranges");
}

/// Logs and counts a report of the engine; `elapsed` counts from the start of the current commit.
pub(super) fn engine(report: &Report, elapsed: Duration, metrics: &Metrics, status: &Status) {
    match report {
        Report::Committed { kind, cause, operations, batches, replaced, .. } => {
            status.have("commit");
            if *batches == 0 && !replaced && *kind == CommitKind::Incremental {
                return;
            }
            metrics.committed(*kind, true, elapsed.as_secs_f64());
            metrics.operations.inc_by(u64::try_from(*operations).unwrap_or(u64::MAX));
            let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            if *replaced {
                tracing::info!(kind = kind.name(), cause, elapsed_us, "committed a new table");
            } else {
                tracing::info!(kind = kind.name(), cause, operations, batches, elapsed_us, "committed");
            }
        }
        Report::Failed { kind, trouble, quarantined } => {
            metrics.committed(*kind, false, elapsed.as_secs_f64());
            let quarantined: Vec<_> = quarantined.iter().map(ToString::to_string).collect();
            tracing::error!(
                error = %trouble,
                quarantined = quarantined.join(", "),
                "commit failed; the rules in the kernel stay, and pods of quarantined policies will be isolated"
            );
            status.miss("commit", format!("the last commit failed: {trouble}"));
        }
        Report::Repairing { how } => {
            tracing::warn!(how, "another program changed table inet palisade; repairing it");
        }
        Report::OtherLayout { objects } => {
            tracing::warn!(objects, "the table has a different layout; replacing it");
        }
        Report::Frozen { namespaces } => {
            let namespaces: Vec<_> = namespaces.iter().map(|name| &**name).collect();
            tracing::warn!(
                namespaces = namespaces.join(", "),
                "namespaces are terminating; their pods stay isolated; earlier allow rules are unknown, so all ingress and \
                 egress is denied"
            );
        }
        Report::OverBudget { policy, why } => {
            tracing::warn!(%policy, why, "a policy is over budget: its pods are isolated, and it allows nothing");
        }
        Report::NoVerdictCache => tracing::warn!(
            "the kernel refuses the rules of the verdict cache; every packet is judged by all rules, until a restart"
        ),
        Report::ChangedHands { addresses } => tracing::info!(
            addresses,
            "IPs changed hands while no agent was running; flows of their former pods are deleted first"
        ),
        Report::Doubted { kind, reason, missing } => {
            metrics.list_doubted(kind.resource(), reason.name());
            tracing::warn!(
                resource = kind.resource(),
                %reason,
                missing,
                "a list is not believed until a second one agrees; the rules stay"
            );
        }
        Report::Contradicted { kind, object } => {
            tracing::warn!(
                resource = kind.resource(),
                object = name(object),
                "the API server has an object that its list lacks: the list is false, and the rules stay"
            );
        }
        Report::Believed { kind, gone } => {
            tracing::warn!(resource = kind.resource(), gone, "a second list lacks the same objects: they are gone");
        }
        Report::Dispelled { kind } => {
            tracing::info!(resource = kind.resource(), "a second list has what the doubted one lacked");
        }
        Report::Released { policies } => {
            let policies: Vec<_> = policies.iter().map(ToString::to_string).collect();
            tracing::info!(policies = policies.join(", "), "retrying quarantined policies");
        }
    }
}

/// Whether the verdict cache can have these bits of `ct mark`: no rule of another program uses them.
pub(super) fn has_no_mark_users(bits: Slice) -> bool {
    match mark_users(bits) {
        Ok(users) if users.is_empty() => true,
        Ok(users) => {
            for user in users {
                tracing::warn!(%user, "no verdict cache: another program uses its bits; see --verdict-cache");
            }
            false
        }
        Err(error) => {
            tracing::warn!(%error, "no verdict cache: cannot tell whether another program uses its bits");
            false
        }
    }
}

/// Stamps of the verdict cache were cleared from conntrack.
pub(super) fn cleared(cleared: Cleared, took: Duration) {
    let elapsed_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(flows = cleared.flows, all = cleared.all, elapsed_us, "cleared old stamps from conntrack");
}

/// The result of inspecting the node.
pub(super) fn look(look: &Look, status: &Status) {
    for (bridge, switched) in &look.switched {
        tracing::info!(
            bridge,
            ipv4 = switched.ipv4,
            ipv6 = switched.ipv6,
            "bridged packets of these families bypassed netfilter; turned netfilter on for the bridge"
        );
    }
    for failure in &look.failures {
        tracing::debug!(error = failure, "cannot turn on netfilter for a bridge");
    }
    if look.findings.is_empty() {
        if status.have("node") {
            tracing::info!("this node can be enforced again");
        }
        return;
    }
    let why = look.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if status.miss("node", why.clone()) {
        tracing::error!(why, "this node cannot be enforced; not ready");
    }
}

/// Frames with a VLAN tag bypass the rules.
pub(super) fn vlan_tags_bypass(bridge: &str) {
    tracing::warn!(
        bridge,
        "frames with a VLAN tag bypass the rules between pods of a bridge, so pods with NET_RAW can get past them; set \
         net.bridge.bridge-nf-filter-vlan-tagged to 1"
    );
}

/// Untracked packets of isolated pods were dropped, so many since the last reading.
pub(super) fn untracked(egress: u64, ingress: u64) {
    tracing::warn!(
        egress,
        ingress,
        "untracked packets of isolated pods are dropped: another program's rule keeps them out of conntrack, as for NodeLocal \
         DNSCache, which needs --untracked judge and an egress rule with an ipBlock"
    );
}

/// Sets the gauges, and readiness for doubted lists.
pub(super) fn state(engine: &Engine, metrics: &Metrics, status: &Status) {
    if engine.is_synced() {
        metrics.synced.set(1);
        status.have("sync");
    }
    let doubts: Vec<_> = engine.doubts().map(|(kind, reason)| format!("{}: {reason}", kind.resource())).collect();
    if doubts.is_empty() {
        status.have("lists");
    } else {
        status.miss("lists", format!("waiting for another list of what is doubted: {}", doubts.join("; ")));
    }
    let (index, renderer) = (engine.index(), engine.renderer());
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
    metrics.duplicate_ips.set(gauge(counts.duplicate_ips));
    metrics.addresses_due.set(gauge(counts.due));
    metrics.addresses_held.set(gauge(counts.held));
    metrics.held_deletions.set(gauge(engine.held_deletions()));
    metrics.verdict_cache.set(i64::from(engine.stamp().is_some()));
    let objects = renderer.counts();
    metrics.set_quarantined("budget", counts.over_budget);
    metrics.set_quarantined("kernel", objects.quarantined);
    metrics.set_objects("chain", objects.chains);
    metrics.set_objects("map", objects.maps);
    metrics.set_objects("set", objects.sets);
}

/// The kernel's drop counters.
pub(super) fn counters(counters: &BTreeMap<Name, Count>, metrics: &Metrics) {
    for reason in Reason::ALL {
        for (family, label) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
            let Count { packets, bytes } = counters.get(&reason.counter(family)).copied().unwrap_or_default();
            let direction = reason.direction().map_or("none", Direction::name);
            metrics.set_dropped(&DropLabels { direction, reason: reason.name(), family: label }, packets, bytes);
        }
    }
}
