//! The engine: what is known, what the kernel has, and what is wanted.

mod done;
mod next;
mod plan;
mod synchronize;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::index::Index;
use palisade_policy::input::{Budget, Change, Kind, LegacyIsolation, NamespacedName};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{Options as RenderOptions, Renderer};

use crate::cause::Cause;
use crate::doubt::Reason;
use crate::jobs::Work;
use crate::report::Report;
use crate::source::{Input, Outbox, Source};
use crate::step::{Ask, Class};

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

/// What is known of the table of a predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Predecessor {
    /// Nobody has looked.
    Unknown,
    /// The first lists have been held against it.
    Compared,
    /// It is ours.
    Adopted,
}

/// What whoever drives the engine wants it to do when there is nothing more urgent.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    /// The node is to be looked at.
    look: bool,
    /// Somebody else may have changed the table.
    suspect: bool,
    /// A quarantined group is to be tried again.
    try_quarantined: bool,
}

/// Which [`Done`](crate::Done) comes next.
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
    table: Table,
    work: Work,
    awaited: Option<Awaited>,
    /// Packets may be under way that have met the table before its last change.
    under_way: bool,
    predecessor: Predecessor,
    wishes: Wishes,
    /// Addresses whose flows are being deleted.
    forgetting: BTreeSet<IpAddr>,
    back_off: Option<BackOff>,
    failures: u32,
    /// The object that the kernel did not take last, and how often in a row, each time after a reading.
    refused: Option<(Name, u32)>,
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
            table: Table::Closed,
            work: Work::none(),
            awaited: None,
            under_way: false,
            predecessor: Predecessor::Unknown,
            wishes: Wishes::default(),
            forgetting: BTreeSet::new(),
            back_off: None,
            failures: 0,
            refused: None,
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
        let set_aside = self.index.take_set_aside().into_iter();
        self.reports.extend(set_aside.map(|(policy, why)| Report::OverBudget { policy, why }));
        std::mem::take(&mut self.reports)
    }

    /// Takes what the source of objects says. Nothing of it reaches the table before the next rendering.
    pub fn take(&mut self, input: Input) {
        let mut out = Outbox { asks: &mut self.asks, reports: &mut self.reports };
        let was_synced = self.source.is_synced();
        let believed = match input {
            Input::Changes(changes) => self.source.changes(changes, &self.index, &mut out),
            Input::List(part) => {
                let believed = self.source.list(part, &self.index, &mut out);
                if !believed.is_empty() {
                    self.index.forget_order();
                }
                believed
            }
            Input::Namespace { name, answer } => self.source.answer(&name, answer, self.index.state(), &mut out),
            Input::Object { kind, key, answer } => {
                self.source.object(kind, key, answer, &mut out);
                return;
            }
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
        self.wishes.look = true;
    }

    /// Somebody else may have changed the table.
    pub fn suspect(&mut self) {
        self.wishes.suspect = true;
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        self.back_off = None;
    }

    /// Tries a quarantined object again; the kernel may take it now.
    pub fn retry_quarantined(&mut self) {
        self.wishes.try_quarantined = true;
    }
}
