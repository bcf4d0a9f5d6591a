//! The enforcement loop: drives the engine.
//!
//! One thread owns the engine and the kernel's table; nothing here is shared or locked. It feeds the source's events to
//! the engine, performs the engine's steps, and reports. Slow work happens elsewhere: [`super::flows`] deletes flows,
//! requests go out through the source, log lines through a queue.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use palisade_dataplane::perform::Kernel;
use palisade_engine::{Done, Engine, Input, Report, Step};
use palisade_policy::input::{Change, NamespacedName};
use palisade_watch::{Arrival, Event, Kind, Notice, ObjectName, Request};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::flows::{Flows, Outcome};
use super::foreign::{Following, Foreign, follow};
use super::health::Health;
use super::metrics::Metrics;
use super::pace::{self, Retries};
use super::report;
use super::requests::Requests;
use super::server::Refresh;
use super::status::Status;
use super::untracked::Untracked;

/// How often the node and the table are checked while idle.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// The most events in one commit, so that the first of them does not wait forever.
const TOGETHER: usize = 1024;

/// The loop's state.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) kernel: Kernel,
    pub(crate) flows: Flows,
    /// Where questions for the source go; `None` if it answers none.
    pub(crate) requests: Option<mpsc::Sender<Request>>,
    pub(crate) status: Status,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

/// The loop's inputs.
pub(crate) struct Inputs {
    pub(crate) events: mpsc::Receiver<Arrival>,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(crate) refreshes: mpsc::Receiver<Refresh>,
}

/// The loop's state.
pub(crate) struct Enforcer {
    parts: Parts,
    /// For each event, when it arrived and how many renderings there were by then.
    arrivals: VecDeque<(u64, Instant)>,
    /// When the current commit began.
    began: Option<Instant>,
    retries: Retries,
    requests: Requests,
    /// The bridge that lets tagged frames bypass the rules, once it has been reported.
    warned_of: Option<String>,
    untracked: Untracked,
}

impl Enforcer {
    pub(crate) fn new(mut parts: Parts) -> Self {
        Self {
            requests: Requests::new(parts.requests.take()),
            parts,
            arrivals: VecDeque::new(),
            began: None,
            retries: Retries::default(),
            warned_of: None,
            untracked: Untracked::default(),
        }
    }

    /// Runs until the source of events is gone.
    pub(crate) async fn run(mut self, mut inlets: Inputs) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (notify, mut foreign) = mpsc::channel(1);
        let mut foreign_changes = Following::Not(notify);
        loop {
            self.follow_foreign_changes(&mut foreign_changes);
            self.parts.health.idle();
            let due = self.next_due();
            tokio::select! {
                event = inlets.events.recv() => match event {
                    Some(event) => self.take_all(event, &mut inlets.events),
                    None => return,
                },
                Some(outcome) = inlets.outcomes.recv() => self.conntrack_done(outcome),
                Some(done) = inlets.refreshes.recv() => {
                    self.read_counters();
                    done.send(()).ok();
                    continue;
                }
                _ = look.tick() => self.look(),
                Some(changed) = foreign.recv() => match changed {
                    Foreign::Changed => self.parts.engine.suspect(),
                    Foreign::Lost => foreign_changes = foreign_changes.lost(),
                },
                () = pace::until(due), if due.is_some() => {}
            }
            self.parts.health.busy();
            self.when_due();
            self.work();
        }
    }

    /// When to act next if nothing arrives.
    fn next_due(&self) -> Option<Instant> {
        self.retries.due().into_iter().chain(self.requests.due()).min()
    }

    fn when_due(&mut self) {
        let now = Instant::now();
        if self.retries.step_is_due(now) {
            self.parts.engine.retry();
        }
        if self.retries.quarantine_is_due(now) {
            self.parts.engine.retry_quarantined();
        }
    }

    /// Takes an event and those queued behind it. Merges consecutive changes, so that the engine examines an object
    /// once even if several of them affect it.
    fn take_all(&mut self, event: Arrival, events: &mut mpsc::Receiver<Arrival>) {
        let mut changes = Vec::new();
        let mut next = Some(event);
        let mut taken = 0;
        while let Some(Arrival { at, event }) = next.take() {
            self.parts.health.progress();
            report::event(&event, &self.parts.metrics);
            match event {
                Event::Changes(more) => {
                    self.arrivals.push_back((self.parts.engine.rendered(), at));
                    changes.extend(more);
                }
                other => {
                    self.take_changes(&mut changes);
                    self.take(at, other);
                }
            }
            taken += 1;
            if taken < TOGETHER {
                next = events.try_recv().ok();
            }
        }
        self.take_changes(&mut changes);
    }

    fn take_changes(&mut self, changes: &mut Vec<Change>) {
        if !changes.is_empty() {
            self.parts.engine.take(Input::Changes(std::mem::take(changes)));
        }
    }

    fn take(&mut self, at: Instant, event: Event) {
        let input = match event {
            Event::List(part) => Input::List(part),
            Event::NamespaceAnswer { name, answer, .. } => {
                report::answer(&name, &answer);
                Input::Namespace { name, answer }
            }
            Event::ObjectAnswer { kind, key, answer, .. } => {
                report::object_answer(kind, &key, answer);
                Input::Object { kind, key, answer }
            }
            Event::PodRanges(ranges) => {
                report::pod_ranges(&ranges);
                self.parts.health.ranges_known(!ranges.is_empty());
                Input::PodRanges(ranges)
            }
            other => {
                if let Event::Warning { object: Some(object), message } = &other {
                    self.note_warning(object, message);
                }
                report::source(&other, &self.parts.metrics, &self.parts.status);
                return;
            }
        };
        self.arrivals.push_back((self.parts.engine.rendered(), at));
        self.parts.engine.take(input);
    }

    /// Keeps a warning about a policy, to report as an Event if it selects a pod of this node.
    fn note_warning(&mut self, object: &ObjectName, message: &str) {
        let Some(namespace) = object.namespace.clone().filter(|_| object.kind == Kind::NetworkPolicy) else { return };
        let policy = NamespacedName::new(namespace, object.name.clone());
        let message = format!("{message}; it matches nothing, and the pods that the policy selects stay isolated");
        self.requests.notice(Notice { policy, reason: "TermNotEnforced", message });
    }

    /// Performs steps until there are none.
    fn work(&mut self) {
        while let Some(step) = self.parts.engine.next_step() {
            self.parts.health.progress();
            match step {
                Step::Ask(ask) => self.requests.ask(ask),
                Step::Forget(addresses) => self.parts.flows.forget(addresses),
                Step::ClearStamps(stale) => self.parts.flows.clear_stamps(stale),
                step => {
                    self.began.get_or_insert_with(Instant::now);
                    let is_look = matches!(step, Step::Look { .. });
                    let done = self.parts.kernel.perform(step, self.parts.engine.ruleset());
                    if is_look {
                        self.report_look(done.as_ref());
                    }
                    if let Some(done) = done {
                        self.parts.engine.done(done);
                    }
                }
            }
            self.report();
        }
        self.report();
        if self.parts.engine.is_in_step() {
            // Changes that leave the table unchanged are already enforced.
            self.arrivals.clear();
            self.began = None;
        }
        self.requests.send(&self.parts.engine);
        // Now, so that the next change need not wait.
        if let Some(table) = self.parts.kernel.table() {
            table.wait_for_packets();
        }
        report::state(&self.parts.engine, &self.parts.metrics, &self.parts.status);
    }

    /// Logs and counts what the engine reports.
    fn report(&mut self) {
        for event in self.parts.engine.take_reports() {
            let elapsed = self.began.map(|began| began.elapsed()).unwrap_or_default();
            report::engine(&event, elapsed, &self.parts.metrics, &self.parts.status);
            match event {
                Report::Committed { rendered, batches, .. } => {
                    self.retries.succeeded();
                    self.began = None;
                    while let Some((_, at)) = self.arrivals.front().filter(|(before, _)| *before < rendered) {
                        if batches > 0 {
                            self.parts.metrics.enforced(at.elapsed().as_secs_f64());
                        }
                        self.arrivals.pop_front();
                    }
                }
                Report::OverBudget { policy, why } => {
                    self.requests.notice(Notice { policy, reason: "PolicyTooLarge", message: why });
                }
                Report::Released { .. } => self.retries.trying(),
                Report::Failed { quarantined, trouble, .. } => {
                    self.retries.failed();
                    self.began = None;
                    for policy in quarantined {
                        let message = format!(
                            "{}; the policy matches nothing, and the pods that it selects stay isolated",
                            trouble.message
                        );
                        self.requests.notice(Notice { policy, reason: "NotEnforced", message });
                    }
                }
                _ => {}
            }
        }
        let back_off = self.parts.engine.back_off();
        let quarantined = self.parts.engine.renderer().quarantined().next().is_some();
        self.retries.follow(back_off, quarantined);
    }

    fn report_look(&mut self, done: Option<&Done>) {
        if let Some(Done::Looked(Err(trouble))) = done {
            tracing::warn!(error = %trouble, "cannot inspect the node's interfaces");
            return;
        }
        let look = self.parts.kernel.last_look();
        report::look(look, &self.parts.status);
        if let Some(bridge) = look.vlan_tags_bypass.clone().filter(|bridge| self.warned_of.as_ref() != Some(bridge)) {
            report::vlan_tags_bypass(&bridge);
            self.warned_of = Some(bridge);
        }
    }

    /// Idle work: the node's interfaces and the table may have changed.
    fn look(&mut self) {
        if !self.parts.engine.is_in_step() {
            return;
        }
        self.parts.engine.look();
        self.read_counters();
        let Some(table) = self.parts.kernel.table() else { return };
        match table.changed_by_others() {
            Ok(false) => {}
            Ok(true) => self.parts.engine.suspect(),
            Err(error) => tracing::warn!(%error, "cannot read the generation of the kernel's ruleset"),
        }
    }

    fn conntrack_done(&mut self, outcome: Outcome) {
        let done = match outcome {
            Outcome::Forgot { forgotten, flows, took } => {
                self.parts.metrics.forgot(flows, took);
                Done::Forgot(forgotten)
            }
            Outcome::Cleared { cleared, took } => {
                report::cleared(cleared, took);
                Done::ClearedStamps { all: cleared.all }
            }
        };
        self.parts.engine.done(done);
    }

    fn read_counters(&mut self) {
        let Some(table) = self.parts.kernel.table() else { return };
        match table.counters() {
            Ok(counters) => {
                report::counters(&counters, &self.parts.metrics);
                if let Some([egress, ingress]) = self.untracked.read(&counters, Instant::now()) {
                    report::untracked(egress, ingress);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot read the counters"),
        }
    }

    /// Follows other programs' changes to the table, once it exists and unless the agent owns it.
    fn follow_foreign_changes(&mut self, following: &mut Following) {
        if !self.parts.engine.is_in_step() || !following.is_due() {
            return;
        }
        let Some(table) = self.parts.kernel.table() else { return };
        if table.is_owned() {
            return;
        }
        let began = table.foreign_changes().map_err(|error| error.to_string()).and_then(|changes| {
            let notify = following.sender();
            let thread = thread::Builder::new().name("foreign changes".to_owned());
            thread.spawn(move || follow(changes, &notify)).map_err(|error| error.to_string())
        });
        *following = match began {
            Ok(_) => following.began(),
            Err(error) => {
                tracing::warn!(error, "cannot follow nftables changes; checking every {LOOK:?}, and trying again");
                following.lost()
            }
        };
    }
}
