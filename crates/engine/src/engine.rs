//! The engine: what is known, what the kernel has, and what is to be done next.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::index::Index;
use palisade_policy::input::{Budget, Change, Kind, LegacyIsolation, NamespacedName};
use palisade_ruleset::change::diff;
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::render::{Options as RenderOptions, Renderer};

use crate::cause::Cause;
use crate::doubt::Reason;
use crate::jobs::{Job, Work};
use crate::report::{CommitKind, Report};
use crate::source::{Input, Outbox, Source};
use crate::step::{Ask, Class, Done, Forgotten, NodeView, Present, Step, Trouble};
use crate::{adopt, freeze};

/// What an engine depends on beside objects and kernel.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How the table is rendered.
    pub render: RenderOptions,
    /// Honour the annotation that isolated namespaces before Kubernetes 1.7.
    pub legacy_isolation: bool,
    /// The source of objects answers [`Ask`]s. A directory of manifests does not.
    pub source_answers: bool,
    /// What one policy may cost.
    pub budget: Budget,
    /// The pod that the agent runs in, which every list of pods must have.
    pub own_pod: Option<NamespacedName>,
}

/// How far the kernel's table is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Nobody has taken hold of it.
    Closed,
    /// It may be anything: it is read before the next commit.
    Unknown,
    /// It is what was last rendered, as soon as the jobs are done.
    Known,
}

/// Which [`Done`] comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Opened,
    Looked,
    Read,
    Waited,
    Committed,
}

/// Nothing is done on the kernel until [`Engine::retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// What went wrong last.
    pub class: Class,
    /// How many steps failed since the table was last in step.
    pub failures: u32,
}

/// The order of an enforcement on one node. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Engine {
    index: Index,
    legacy: Option<LegacyIsolation>,
    renderer: Renderer,
    source: Source,
    source_answers: bool,
    table: Table,
    work: Work,
    awaited: Option<Awaited>,
    /// Packets may be under way that have met the table before its last change.
    under_way: bool,
    /// Whether the first lists have been held against the table of a predecessor.
    compared: bool,
    /// The table of a predecessor has been adopted.
    adopted: bool,
    /// The node is to be looked at.
    look: bool,
    /// Somebody else may have changed the table.
    suspect: bool,
    /// A quarantined group is to be tried again.
    try_quarantined: bool,
    /// Addresses whose flows are being deleted.
    forgetting: BTreeSet<IpAddr>,
    back_off: Option<BackOff>,
    failures: u32,
    cause: Cause,
    rendered: u64,
    asks: VecDeque<Ask>,
    reports: Vec<Report>,
}

impl Engine {
    /// An engine for the pods of `node` that knows nothing yet.
    pub fn new(node: impl Into<Arc<str>>, options: Options) -> Self {
        let mut index = Index::new(node);
        index.set_budget(options.budget);
        Self {
            renderer: Renderer::new(options.render).with_pulse(index.pulse().clone()),
            index,
            legacy: options.legacy_isolation.then(LegacyIsolation::default),
            source: Source::new(options.source_answers, options.own_pod),
            source_answers: options.source_answers,
            table: Table::Closed,
            work: Work::none(),
            awaited: None,
            under_way: false,
            compared: false,
            adopted: false,
            look: false,
            suspect: false,
            try_quarantined: false,
            forgetting: BTreeSet::new(),
            back_off: None,
            failures: 0,
            cause: Cause::default(),
            rendered: 0,
            asks: VecDeque::new(),
            reports: Vec::new(),
        }
    }

    /// The objects that are believed, and what they compile to.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The renderer, for its figures.
    pub fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    /// What the table is to be.
    pub fn ruleset(&self) -> &Ruleset {
        self.renderer.ruleset()
    }

    /// All kinds of objects have been listed, so that the table may be touched.
    pub fn is_synced(&self) -> bool {
        self.source.is_synced()
    }

    /// The table is what was last rendered, and nothing is left to be done about it.
    pub fn is_in_step(&self) -> bool {
        self.table == Table::Known && self.work.jobs.is_empty() && self.awaited.is_none()
    }

    /// In step, nothing new is known, and no flow is left to be deleted.
    pub fn is_settled(&self) -> bool {
        self.is_in_step() && !self.index.is_dirty() && self.forgetting.is_empty() && self.index.due_now().is_empty()
    }

    /// How many times the objects have been rendered; what is taken now is in the next one.
    pub fn rendered(&self) -> u64 {
        self.rendered
    }

    /// Why nothing is done on the kernel until [`Engine::retry`], if so.
    pub fn back_off(&self) -> Option<BackOff> {
        self.back_off
    }

    /// The kinds whose last list is not believed, and why.
    pub fn doubts(&self) -> impl Iterator<Item = (Kind, Reason)> {
        self.source.doubts()
    }

    /// How many deletions of policies wait until it is known whether their namespace is being deleted.
    pub fn held_deletions(&self) -> usize {
        self.source.held()
    }

    /// What happened since this was last asked.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Takes what the source of objects says. Nothing of it reaches the table before the next rendering.
    pub fn take(&mut self, input: Input) {
        let mut out = Outbox { asks: &mut self.asks, reports: &mut self.reports };
        let was_synced = self.source.is_synced();
        let believed = match input {
            Input::Changes(changes) => self.source.changes(changes, &self.index, &mut out),
            Input::List(part) => self.source.list(part, &self.index, &mut out),
            Input::Namespace { name, answer } => self.source.answer(&name, answer, self.index.state(), &mut out),
            Input::PodRanges(ranges) => {
                self.renderer.set_pod_ranges(self.index.compiled(), ranges);
                self.table_is_unknown();
                self.cause = Cause::other("the node's pod ranges");
                return;
            }
        };
        self.apply(believed);
        if !was_synced && self.source.is_synced() {
            self.cause = Cause::other("start");
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in &changes {
            self.cause.add(change, self.index.state());
        }
        let changes: Vec<_> = changes.into_iter().map(|change| self.bound(change)).collect();
        let changes: Vec<_> = match &mut self.legacy {
            Some(legacy) => changes.into_iter().flat_map(|change| legacy.expand(change)).collect(),
            None => changes,
        };
        self.index.apply_all(changes);
    }

    /// The same, with a policy above the budget in the form that is enforced of it.
    fn bound(&mut self, change: Change) -> Change {
        let Change::Policy(policy) = change else { return change };
        let policy = policy.within(&self.index.state().budget);
        if let Some(term) = policy.unenforceable.first().filter(|_| policy.is_over_budget()) {
            self.reports.push(Report::OverBudget { policy: policy.key.clone(), why: term.reason.clone() });
        }
        Change::Policy(policy)
    }

    /// Have the node looked at: its interfaces or addresses may have changed.
    pub fn look(&mut self) {
        self.look = true;
    }

    /// Somebody else may have changed the table.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        self.back_off = None;
    }

    /// Tries a quarantined object again; the kernel may take it now.
    pub fn retry_quarantined(&mut self) {
        self.try_quarantined = true;
    }

    /// What is to be done next; none while a step is being done, and when there is nothing to do.
    pub fn next(&mut self) -> Option<Step> {
        if let Some(ask) = self.asks.pop_front() {
            return Some(Step::Ask(ask));
        }
        let waits_for_source = !self.source.is_synced() || self.source.is_confirming();
        if self.awaited.is_some() || self.back_off.is_some() || waits_for_source {
            return None;
        }
        loop {
            match self.work.jobs.pop_front() {
                Some(job) => {
                    if let Some(step) = self.start(job) {
                        return Some(step);
                    }
                }
                None if self.find_work() => {}
                None => return None,
            }
        }
    }

    /// Starts a job; none if there is nothing to do about it.
    fn start(&mut self, job: Job) -> Option<Step> {
        let (awaited, step) = match job {
            Job::Open => (Awaited::Opened, Step::Open),
            Job::Look => (Awaited::Looked, self.look_step()),
            Job::Synchronize => (Awaited::Read, Step::Read),
            Job::Wait => {
                if !self.under_way {
                    return None;
                }
                (Awaited::Waited, Step::WaitForPackets)
            }
            Job::Batch(batch) => {
                self.under_way = true;
                (Awaited::Committed, Step::Commit(batch))
            }
            Job::Replace => {
                self.under_way = true;
                self.work.replaced = true;
                (Awaited::Committed, Step::Replace)
            }
            Job::Wake => (Awaited::Committed, Step::Wake),
            Job::Finish => {
                self.finish();
                return None;
            }
            Job::Forget(addresses) => {
                self.forgetting.clone_from(&addresses);
                return Some(Step::Forget(addresses));
            }
        };
        self.awaited = Some(awaited);
        Some(step)
    }

    fn look_step(&self) -> Step {
        let compiled = self.index.compiled();
        // Pods that are starting are behind the interface of the others, if it is there.
        let ranges = self.renderer.pod_ranges().iter().filter_map(|range| range.hosts().nth(1));
        Step::Look {
            local: compiled.local.keys().copied().chain(ranges).collect(),
            isolated: compiled.subjects.keys().copied().collect(),
        }
    }

    /// Finds out what is to be done; whether there is anything.
    fn find_work(&mut self) -> bool {
        let full = |jobs: &[Job]| Work::new(CommitKind::Full, jobs.iter().cloned());
        match self.table {
            Table::Closed => self.work = full(&[Job::Open, Job::Look, Job::Synchronize]),
            Table::Unknown => self.work = full(&[Job::Look, Job::Synchronize]),
            Table::Known if std::mem::take(&mut self.suspect) => {
                self.work = Work::new(CommitKind::Repair, [Job::Synchronize]);
            }
            Table::Known if self.index.is_dirty() => self.render(),
            Table::Known if std::mem::take(&mut self.look) => {
                self.work = Work::new(CommitKind::Incremental, [Job::Look]);
                self.cause = Cause::other("the node's interfaces changed");
            }
            Table::Known if std::mem::take(&mut self.try_quarantined) => self.end_quarantine(),
            Table::Known => {
                self.work = Work::new(CommitKind::Incremental, self.forget_jobs());
                if self.work.jobs.is_empty() {
                    return false;
                }
            }
        }
        !self.work.jobs.is_empty()
    }

    /// What deletes the flows that are due, once what is planned before it is done. Before they are deleted, packets of
    /// theirs must have left that could bring them back. What is being deleted already is due again when that is done.
    fn forget_jobs(&mut self) -> Vec<Job> {
        if !self.forgetting.is_empty() {
            return Vec::new();
        }
        let due = self.index.begin_forgetting();
        if due.is_empty() { Vec::new() } else { vec![Job::Wait, Job::Forget(due)] }
    }

    /// Renders what changed, and plans how it gets to the kernel.
    fn render(&mut self) {
        let dirty = self.index.take_dirty();
        self.rendered += 1;
        let mut work = Work::new(CommitKind::Incremental, []);
        for transaction in self.renderer.follow(self.index.compiled(), &dirty) {
            work.then(&transaction);
        }
        if !dirty.subjects.is_empty() {
            work.jobs.push_back(Job::Look);
        }
        work.jobs.push_back(Job::Finish);
        work.jobs.extend(self.forget_jobs());
        self.work = work;
    }

    /// Puts back what the kernel refused earlier, one group at a time.
    fn end_quarantine(&mut self) {
        let Some(group) = self.renderer.quarantined().next().cloned() else { return };
        let patch = self.renderer.end_quarantine(self.index.compiled(), &group);
        let mut work = Work::new(CommitKind::Incremental, []);
        work.then(&patch.plan(self.renderer.ruleset()));
        work.jobs.push_back(Job::Finish);
        self.work = work;
        self.cause = Cause::other("a quarantined policy is tried again");
        self.reports.push(Report::Released { policies: group.policies().into_iter().collect() });
    }

    fn finish(&mut self) {
        if self.table == Table::Known {
            self.failures = 0;
        }
        let Work { kind, operations, batches, replaced, .. } = self.work;
        let cause = std::mem::take(&mut self.cause).to_string();
        self.reports.push(Report::Committed { kind, cause, operations, batches, replaced, rendered: self.rendered });
        (self.work.operations, self.work.batches) = (0, 0);
    }

    /// Takes what came of a step. What nobody waits for is left aside, but for [`Done::Forgot`].
    pub fn done(&mut self, done: Done) {
        let awaited = match &done {
            Done::Forgot(_) => None,
            Done::Opened(_) => Some(Awaited::Opened),
            Done::Looked(_) => Some(Awaited::Looked),
            Done::Read(_) => Some(Awaited::Read),
            Done::Waited => Some(Awaited::Waited),
            Done::Committed(_) => Some(Awaited::Committed),
        };
        if awaited.is_some() {
            if awaited != self.awaited {
                return;
            }
            self.awaited = None;
        }
        match done {
            Done::Forgot(forgotten) => self.forgot(&forgotten),
            Done::Waited => self.under_way = false,
            Done::Opened(Ok(())) => {}
            Done::Committed(Ok(())) => {}
            Done::Looked(Ok(view)) => self.looked(view),
            // The last view of the node stays; the next look is due with the next tick or change.
            Done::Looked(Err(_)) => {}
            Done::Read(Ok(present)) => self.synchronize(present),
            Done::Opened(Err(trouble)) => {
                self.fail(trouble);
                self.table = Table::Closed;
            }
            Done::Read(Err(trouble)) | Done::Committed(Err(trouble)) => self.fail(trouble),
        }
    }

    fn forgot(&mut self, forgotten: &Forgotten) {
        let finished: BTreeSet<_> = forgotten.finished.intersection(&self.forgetting).copied().collect();
        for address in forgotten.finished.union(&forgotten.unfinished) {
            self.forgetting.remove(address);
        }
        self.index.end_forgetting(&finished);
        if self.cause.is_empty() {
            self.cause = Cause::other("flows of former pods are deleted");
        }
    }

    fn looked(&mut self, view: NodeView) {
        self.look = false;
        self.index.refuse_addresses(view.addresses);
        let patch = self.renderer.update_pod_ports(&view.pod_interfaces);
        if self.table != Table::Known || patch.is_empty() {
            return;
        }
        let transaction = patch.plan(self.renderer.ruleset());
        if self.work.jobs.is_empty() {
            self.work.jobs.push_back(Job::Finish);
        }
        self.work.first(&transaction);
    }

    /// The kernel's table may now be anything between the old and the new state: it is read before the next commit.
    fn fail(&mut self, trouble: Trouble) {
        let kind = self.work.kind;
        self.table_is_unknown();
        self.failures = self.failures.saturating_add(1);
        let object = trouble.object.as_ref().filter(|_| trouble.class == Class::Object);
        let groups = object.map(|name| self.renderer.quarantine(self.index.compiled(), name));
        let quarantined = groups.into_iter().flatten().flat_map(|group| group.policies()).collect();
        self.back_off = Some(BackOff { class: trouble.class, failures: self.failures });
        self.reports.push(Report::Failed { kind, trouble, quarantined });
    }

    fn table_is_unknown(&mut self) {
        if self.table == Table::Known {
            self.table = Table::Unknown;
        }
        if self.awaited.is_none() {
            self.work = Work::none();
        } else {
            // The step that is being done still has its result coming; nothing follows it.
            self.work.jobs.clear();
        }
    }

    /// Whether the first lists would open what the table of a predecessor has closed. Then second ones are asked for, and the
    /// table stays as it is until they have come.
    fn doubts_first_lists(&mut self, present: &Ruleset) -> bool {
        if !self.source_answers || std::mem::replace(&mut self.compared, true) {
            return false;
        }
        if !adopt::contradicts(present, &self.index) {
            return false;
        }
        let mut out = Outbox { asks: &mut self.asks, reports: &mut self.reports };
        self.source.confirm(&Kind::ALL, &mut out);
        for kind in Kind::ALL {
            self.reports.push(Report::Doubted { kind, reason: Reason::Table, missing: 0 });
        }
        self.table = Table::Unknown;
        true
    }

    /// The table is this: plans what it lacks.
    fn synchronize(&mut self, present: Option<Present>) {
        if let Some(present) = &present
            && self.doubts_first_lists(&present.ruleset)
        {
            return;
        }
        self.compared = true;
        if let Some(present) = &present
            && !std::mem::replace(&mut self.adopted, true)
        {
            self.adopt(&present.ruleset);
        }
        self.adopted = true;
        let dirty = self.index.take_dirty();
        self.rendered += 1;
        self.renderer.follow(self.index.compiled(), &dirty);
        let kind = self.work.kind;
        let mut work = Work::new(kind, []);
        match present {
            None => {
                self.repairing(kind, "it was deleted");
                work.jobs.push_back(Job::Replace);
            }
            Some(Present { foreign: true, .. }) => {
                self.repairing(kind, "it holds what is not Palisade's");
                work.jobs.push_back(Job::Replace);
            }
            Some(present) => {
                if present.dormant {
                    self.repairing(kind, "its chains were switched off");
                    work.jobs.push_back(Job::Wake);
                }
                self.plan_difference(&present.ruleset, &mut work);
            }
        }
        self.table = Table::Known;
        work.jobs.push_back(Job::Finish);
        // A look at a table that is as it should be is no commit.
        if kind == CommitKind::Repair && work.batches == 0 && !work.jobs.iter().any(is_change) {
            work.jobs.retain(|job| !matches!(job, Job::Finish));
        }
        work.jobs.extend(self.forget_jobs());
        self.work = work;
    }

    fn plan_difference(&mut self, present: &Ruleset, work: &mut Work) {
        match diff(present, self.renderer.ruleset()) {
            Ok(patch) => {
                if !patch.is_empty() {
                    self.repairing(work.kind, "objects of it were changed");
                }
                work.then(&patch.plan(self.renderer.ruleset()));
            }
            Err(incompatible) => {
                self.reports.push(Report::OtherLayout { objects: incompatible.to_string() });
                work.jobs.push_back(Job::Replace);
            }
        }
    }

    fn repairing(&mut self, kind: CommitKind, how: &'static str) {
        if kind == CommitKind::Repair {
            self.cause = Cause::other("the table was changed by somebody else");
            self.reports.push(Report::Repairing { how });
        }
    }

    /// Follows what only the table of a predecessor knows: which pods of terminating namespaces were isolated, and which
    /// addresses changed hands.
    fn adopt(&mut self, present: &Ruleset) {
        let frozen = freeze::changes(present, self.index.state());
        if !frozen.is_empty() {
            let namespaces = frozen.iter().filter_map(|change| match change {
                Change::Policy(policy) => Some(policy.key.namespace.clone()),
                _ => None,
            });
            self.reports.push(Report::Frozen { namespaces: namespaces.collect() });
            self.index.apply_all(frozen);
        }
        let changed = adopt::changed_hands(present, &self.index);
        if !changed.is_empty() {
            self.reports.push(Report::ChangedHands { addresses: changed.len() });
            self.index.mark_due(changed);
        }
    }
}

fn is_change(job: &Job) -> bool {
    matches!(job, Job::Replace | Job::Wake | Job::Batch(_))
}
