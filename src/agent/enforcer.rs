//! The loop: events in, a staged and atomically switched change out.
//!
//! One task owns the index, the renderer and the kernel's table; nothing here is shared or locked. Events are enforced at
//! once when the loop is idle; those that arrive during a commit are taken together.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use palisade_dataplane::table::ForeignChanges;
use palisade_policy::index::Index;
use palisade_policy::input::{Change, LegacyIsolation};
use palisade_ruleset::change::{Transaction, diff};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options, Renderer};
use palisade_watch::Event;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::cause::Cause;
use super::freeze;
use super::kernel::{Kernel, KernelError};
use super::metrics::{CommitKind, Metrics};
use super::report;
use super::server::Refresh;
use super::status::Status;

/// How often the node and the table are looked at while nothing happens.
const LOOK: Duration = Duration::from_secs(10);

/// How long after a failed commit the next one is tried: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// How many events one commit takes at most, so that the first of them does not wait for ever.
const TOGETHER: usize = 1024;

/// The loop's state.
pub(crate) struct Enforcer<K> {
    index: Index,
    /// Puts policies in the place of annotations, if these are to be honoured.
    legacy: Option<LegacyIsolation>,
    renderer: Renderer,
    kernel: K,
    status: Status,
    metrics: Metrics,
    /// All three kinds of objects have been listed.
    synced: bool,
    /// The table that a predecessor left has been looked at.
    started: bool,
    /// The kernel has what the renderer last rendered.
    in_step: bool,
    /// When the next attempt is due, and how long the one after it waits.
    retry: Option<(Instant, Duration)>,
    /// The bridge that tagged frames pass by, when it has been told.
    warned_of: Option<String>,
}

impl<K: Kernel> Enforcer<K> {
    pub(crate) fn new(node: &str, options: Options, kernel: K, status: Status, metrics: Metrics) -> Self {
        Self {
            index: Index::new(node),
            legacy: None,
            renderer: Renderer::new(options),
            kernel,
            status,
            metrics,
            synced: false,
            started: false,
            in_step: false,
            retry: None,
            warned_of: None,
        }
    }

    /// Isolates namespaces with the annotation of old; to be called before the first event.
    pub(crate) fn honour_legacy_isolation(&mut self) {
        self.legacy = Some(LegacyIsolation::default());
    }

    /// Goes round until the source of events is gone.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, mut refresh: mpsc::Receiver<Refresh>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (told, mut foreign) = mpsc::channel(1);
        let mut told = Some(told);
        loop {
            self.follow_foreign_changes(&mut told);
            let retry = self.retry.map_or(LOOK, |(due, _)| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event, &mut events),
                    None => return,
                },
                Some(done) = refresh.recv() => {
                    self.read_counters();
                    done.send(()).ok();
                }
                _ = look.tick() => self.look(),
                Some(()) = foreign.recv() => if self.in_step { self.repair() },
                () = tokio::time::sleep(retry), if self.retry.is_some() => self.synchronize(CommitKind::Full, &Cause::other("retry")),
            }
            self.status.beat();
        }
    }

    /// Follows the changes that others make to the table, once it is there and if they can.
    fn follow_foreign_changes(&mut self, told: &mut Option<mpsc::Sender<()>>) {
        if !self.in_step {
            return;
        }
        let Some(told) = told.take() else { return };
        let failed = match self.kernel.foreign_changes() {
            Ok(None) => return,
            Ok(Some(changes)) => {
                let thread = thread::Builder::new().name("foreign changes".to_owned());
                thread.spawn(move || tell(changes, &told)).err().map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(error, "cannot follow the changes of nftables; looking every {LOOK:?}");
        }
    }

    /// Takes an event and those that wait behind it, and enforces them.
    fn take(&mut self, event: Event, events: &mut mpsc::Receiver<Event>) {
        let arrived = Instant::now();
        let mut cause = Cause::default();
        let mut taken = 1;
        let mut next = Some(event);
        while let Some(event) = next.take() {
            match event {
                Event::Changes(changes) => {
                    changes.into_iter().for_each(|change| self.note(change, &mut cause));
                }
                Event::Synced => {
                    self.synced = true;
                    cause = Cause::other("start");
                    self.metrics.synced.set(1);
                    self.status.have("sync");
                }
                Event::PodRanges(ranges) => {
                    report::pod_ranges(&ranges);
                    self.renderer.set_pod_ranges(self.index.compiled(), ranges);
                    self.in_step = false;
                    cause = Cause::other("the node's pod ranges");
                }
                other => report::source(&other, &self.metrics, &self.status),
            }
            if taken < TOGETHER {
                taken += 1;
                next = events.try_recv().ok();
            }
        }
        self.enforce(&cause, arrived);
    }

    /// Puts a change into the index.
    fn note(&mut self, change: Change, cause: &mut Cause) {
        report::event(&change, &self.metrics);
        cause.add(&change, self.index.state());
        let changes = match &mut self.legacy {
            Some(legacy) => legacy.expand(change),
            None => vec![change],
        };
        changes.into_iter().for_each(|change| self.index.apply(change));
    }

    /// Brings the kernel in step with the index.
    fn enforce(&mut self, cause: &Cause, arrived: Instant) {
        if !self.synced {
            return;
        }
        if !self.in_step {
            if self.retry.is_none() {
                self.synchronize(CommitKind::Full, cause);
            }
            return;
        }
        let started = Instant::now();
        // Before its new owner is let in anywhere, nothing may be left of the flows of an address's old one.
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            self.index.due_now().into_iter().partition(|address| self.index.is_owned(*address));
        self.forget(&before);
        let dirty = self.index.take_dirty();
        if !dirty.is_empty() {
            let mut patch = self.renderer.update(self.index.compiled(), &dirty);
            if !dirty.subjects.is_empty() {
                let transaction = patch.plan(self.renderer.ruleset());
                if self.commit(CommitKind::Incremental, &transaction, cause, started).is_err() {
                    return;
                }
                patch = self.survey();
            }
            let transaction = patch.plan(self.renderer.ruleset());
            if self.commit(CommitKind::Incremental, &transaction, cause, started).is_err() {
                return;
            }
            // A pod that has its address now is isolated by it before others may pass.
            let transaction = self.renderer.update_starting(self.index.compiled()).plan(self.renderer.ruleset());
            if self.commit(CommitKind::Incremental, &transaction, cause, started).is_err() {
                return;
            }
            self.metrics.enforced(arrived.elapsed().as_secs_f64());
            // Before flows are forgotten, packets of theirs must not bring them back; and the next commit need not wait.
            self.kernel.wait_for_packets();
        }
        self.forget(&after);
        report::state(&self.index, &self.renderer, &self.metrics);
    }

    /// Commits a transaction and tells how it went; an empty one is no commit.
    fn commit(
        &mut self,
        kind: CommitKind,
        transaction: &Transaction,
        cause: &Cause,
        started: Instant,
    ) -> Result<(), KernelError> {
        if transaction.batches().next().is_none() {
            return Ok(());
        }
        let outcome = self.kernel.commit(transaction);
        let elapsed = started.elapsed();
        self.metrics.committed(kind, outcome.is_ok(), elapsed.as_secs_f64());
        match &outcome {
            Ok(()) => {
                self.metrics.operations.inc_by(u64::try_from(transaction.operations()).unwrap_or(u64::MAX));
                report::commit(kind, transaction, cause, elapsed);
            }
            Err(error) => self.fall_out_of_step(error),
        }
        outcome
    }

    /// The kernel's table may now be anything between the old and the new state: read it before the next commit.
    fn fall_out_of_step(&mut self, error: &KernelError) {
        self.in_step = false;
        let wait = self.retry.map_or(RETRY_FIRST, |(_, wait)| wait);
        self.retry = Some((Instant::now() + wait, (wait * 2).min(RETRY_MOST)));
        let groups = error.object.as_ref().map(|name| self.renderer.quarantine(self.index.compiled(), name));
        let policies: BTreeSet<_> = groups.into_iter().flatten().flat_map(|group| group.policies()).collect();
        let policies: Vec<_> = policies.iter().map(ToString::to_string).collect();
        tracing::error!(
            %error,
            quarantined = policies.join(", "),
            retry_ms = wait.as_millis(),
            "commit failed; the kernel goes on with what it has, and pods of quarantined policies will be isolated"
        );
        self.status.miss("commit", format!("the last commit failed: {error}"));
    }

    /// Makes the kernel's table what the index says, starting from what it is.
    fn synchronize(&mut self, kind: CommitKind, cause: &Cause) {
        let started = Instant::now();
        self.forget(&self.index.due_now().into_iter().filter(|address| self.index.is_owned(*address)).collect());
        let dirty = self.index.take_dirty();
        self.renderer.update(self.index.compiled(), &dirty);
        self.renderer.update_starting(self.index.compiled());
        self.survey();
        if let Err(error) = self.try_synchronize(kind, cause, started) {
            self.metrics.committed(kind, false, started.elapsed().as_secs_f64());
            self.fall_out_of_step(&error);
            return;
        }
        self.kernel.wait_for_packets();
        self.forget(&self.index.due_now());
        self.in_step = true;
        self.retry = None;
        self.status.have("commit");
        report::state(&self.index, &self.renderer, &self.metrics);
    }

    fn try_synchronize(&mut self, kind: CommitKind, cause: &Cause, started: Instant) -> Result<(), KernelError> {
        self.kernel.open()?;
        let present = self.kernel.read()?;
        if let Some(present) = &present
            && !std::mem::replace(&mut self.started, true)
        {
            self.freeze(present);
        }
        match present.map(|present| diff(&present, self.renderer.ruleset())) {
            Some(Ok(patch)) => {
                let transaction = patch.plan(self.renderer.ruleset());
                self.kernel.commit(&transaction)?;
                let elapsed = started.elapsed();
                self.metrics.committed(kind, true, elapsed.as_secs_f64());
                self.metrics.operations.inc_by(u64::try_from(transaction.operations()).unwrap_or(u64::MAX));
                report::commit(kind, &transaction, cause, elapsed);
            }
            structure => {
                if let Some(Err(incompatible)) = structure {
                    tracing::warn!(%incompatible, "the table is of another layout and is replaced whole");
                }
                self.kernel.replace(self.renderer.ruleset())?;
                let elapsed = started.elapsed();
                self.metrics.committed(kind, true, elapsed.as_secs_f64());
                report::replaced(self.renderer.ruleset(), cause, elapsed);
            }
        }
        Ok(())
    }

    /// Keeps pods isolated that a predecessor isolated, where their policies may have gone before them.
    fn freeze(&mut self, present: &Ruleset) {
        let changes = freeze::changes(present, self.index.state());
        if changes.is_empty() {
            return;
        }
        let namespaces: BTreeSet<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Policy(policy) => Some(&*policy.key.namespace),
                _ => None,
            })
            .collect();
        let namespaces = namespaces.into_iter().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            namespaces,
            "namespaces are being deleted; their pods stay isolated as they were, and nobody is let in"
        );
        changes.into_iter().for_each(|change| self.index.apply(change));
        let dirty = self.index.take_dirty();
        self.renderer.update(self.index.compiled(), &dirty);
        self.renderer.update_starting(self.index.compiled());
    }

    /// Looks at the node: which interfaces lead to its pods, which addresses are its own. Returns what that changes.
    fn survey(&mut self) -> palisade_ruleset::change::Patch {
        let local = self.index.compiled().local.keys().copied();
        // Pods that are starting are behind the interface of the others, if it is there.
        let ranges = self.renderer.pod_ranges().iter().filter_map(|range| range.hosts().nth(1));
        let local = local.chain(ranges).collect();
        match self.kernel.survey(&local) {
            Ok(survey) => {
                match survey.obstacle {
                    Some(why) => {
                        if self.status.miss("node", why.clone()) {
                            tracing::error!(why, "this node cannot be enforced; not ready");
                        }
                    }
                    None => {
                        if self.status.have("node") {
                            tracing::info!("this node can be enforced again");
                        }
                    }
                }
                if let Some(bridge) = survey.tags_pass_on.filter(|bridge| self.warned_of.as_ref() != Some(bridge)) {
                    tracing::warn!(
                        bridge,
                        "frames with a VLAN tag pass by the rules between pods of a bridge, so pods with NET_RAW can get past \
                         them; set net.bridge.bridge-nf-filter-vlan-tagged to 1"
                    );
                    self.warned_of = Some(bridge);
                }
                self.index.refuse_addresses(survey.addresses);
                self.renderer.update_pod_ports(&survey.pod_ports)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look at the node's interfaces");
                palisade_ruleset::change::Patch::default()
            }
        }
    }

    /// What is done while nothing happens: the node's interfaces and the table may have changed.
    fn look(&mut self) {
        if !self.in_step {
            return;
        }
        let started = Instant::now();
        let transaction = self.survey().plan(self.renderer.ruleset());
        let cause = Cause::other("the node's interfaces changed");
        if self.commit(CommitKind::Incremental, &transaction, &cause, started).is_err() {
            return;
        }
        if self.index.is_dirty() {
            self.in_step = false;
            self.synchronize(CommitKind::Incremental, &Cause::other("the node's addresses changed"));
        }
        match self.kernel.may_have_changed() {
            Ok(false) => {}
            Ok(true) => self.repair(),
            Err(error) => tracing::warn!(%error, "cannot ask for the generation of the kernel's ruleset"),
        }
    }

    /// Somebody wrote to nftables: put the table right if it was ours.
    fn repair(&mut self) {
        let differs = match self.kernel.read() {
            Ok(Some(present)) => present != *self.renderer.ruleset(),
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "cannot read the table back");
                return;
            }
        };
        if differs {
            tracing::warn!("table inet palisade was changed by somebody else; putting it right");
            self.in_step = false;
            self.synchronize(CommitKind::Repair, &Cause::other("the table was changed by somebody else"));
        }
    }

    fn forget(&mut self, addresses: &BTreeSet<std::net::IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        match self.kernel.forget(addresses) {
            Ok(flows) => {
                self.metrics.flows_deleted.inc_by(u64::try_from(flows).unwrap_or(u64::MAX));
                tracing::debug!(
                    addresses = addresses.len(),
                    flows,
                    "forgot the flows of addresses that left their pods"
                );
                self.index.forgotten(addresses);
            }
            Err(error) => tracing::warn!(%error, "cannot forget the flows of addresses that left their pods"),
        }
    }

    fn read_counters(&mut self) {
        match self.kernel.counters() {
            Ok(counters) => report::counters(&counters, &self.metrics),
            Err(error) => tracing::debug!(%error, "cannot read the counters"),
        }
    }
}

/// Tells of every change on a channel, from a thread that ends with the channel.
fn tell(mut changes: ForeignChanges, told: &mpsc::Sender<()>) {
    while !told.is_closed() {
        match changes.wait() {
            Ok(true) => drop(told.try_send(())),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot follow the changes of nftables any more; looking every {LOOK:?}");
                return;
            }
        }
    }
}
