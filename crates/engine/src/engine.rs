//! The engine: the believed objects, the state of the kernel's table, and the work between them.

mod done;
mod next;
mod plan;
mod synchronize;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::index::Index;
use palisade_policy::input::{Budget, Change, Kind, LegacyIsolation, NamespacedName};
use palisade_ruleset::cache::{Slice, Stamp};
use palisade_ruleset::model::Ruleset;
use palisade_ruleset::name::Name;
use palisade_ruleset::render::{Established, Options as RenderOptions, Renderer};

use crate::cache::Cache;
use crate::cause::Cause;
use crate::doubt::Reason;
use crate::jobs::Work;
use crate::report::Report;
use crate::source::{Input, Outbox, Source};
use crate::step::{Ask, Class};

/// The settings of an engine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How the table is rendered.
    pub render: RenderOptions,
    /// Honour the annotation that isolated namespaces before Kubernetes 1.7.
    pub legacy_isolation: bool,
    /// The source of objects answers [`Ask`]s. A manifest directory does not.
    pub source_answers: bool,
    /// The bits of `ct mark` that the verdict cache uses; none turns it off.
    pub verdict_cache: Option<Slice>,
    /// The budget of one policy.
    pub budget: Budget,
    /// The agent's own pod, which every list of pods must have.
    pub own_pod: Option<NamespacedName>,
}

/// The engine's knowledge of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// It is not open.
    Closed,
    /// Its content is unknown: the engine reads it before the next commit.
    Unknown,
    /// It is the last rendering, once the jobs are done.
    Known,
}

/// The engine's knowledge of the previous agent's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Predecessor {
    /// Not read yet.
    Unknown,
    /// The first lists have been compared with it.
    Compared,
    /// It has been adopted.
    Adopted,
}

/// Work that the driver asked for, to do when nothing is more urgent.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    /// Look at the node.
    look: bool,
    /// Another program may have changed the table.
    suspect: bool,
    /// Retry a quarantined group.
    try_quarantined: bool,
}

/// The [`Done`](crate::Done) that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Opened,
    Looked,
    Read,
    Waited,
    Committed,
}

/// No step on the kernel before [`Engine::retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The last failure.
    pub class: Class,
    /// The number of failed steps since the table was last in step.
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
    /// Packets that met the table before its last change may be in flight.
    under_way: bool,
    cache: Cache,
    predecessor: Predecessor,
    wishes: Wishes,
    /// IPs whose flows are being deleted.
    forgetting: BTreeSet<IpAddr>,
    back_off: Option<BackOff>,
    failures: u32,
    /// The object that the kernel refused last, and how often in a row, each time after reading the table.
    refused: Option<(Name, u32)>,
    cause: Cause,
    rendered: u64,
    asks: VecDeque<Ask>,
    reports: Vec<Report>,
}

impl Engine {
    /// An engine for the pods of `node`, without any objects.
    pub fn new(node: impl Into<Arc<str>>, options: Options) -> Self {
        let mut index = Index::new(node);
        index.set_budget(options.budget);
        let slice = options.verdict_cache.filter(|_| options.render.established != Established::Keep);
        let established = match options.render.established {
            Established::Keep => Established::Keep,
            _ if slice.is_some() => Established::Remember,
            _ => Established::Judge,
        };
        let render = RenderOptions { established, ..options.render };
        Self {
            cache: Cache::new(slice),
            renderer: Renderer::new(render).with_pulse(index.pulse().clone()),
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

    /// The believed objects and the policy compiled from them.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The renderer, for its figures.
    pub fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    /// The desired ruleset, without the rules of the verdict cache.
    pub fn ruleset(&self) -> &Ruleset {
        self.renderer.ruleset()
    }

    /// Every kind of object has been listed, so the table may be changed.
    pub fn is_synced(&self) -> bool {
        self.source.is_synced()
    }

    /// The table is the last rendering, and no job is left.
    pub fn is_in_step(&self) -> bool {
        self.table == Table::Known && self.work.jobs.is_empty() && self.awaited.is_none()
    }

    /// In step, no change is waiting to be rendered, no flow is left to be deleted, and the verdict cache is in use.
    pub fn is_settled(&self) -> bool {
        let deletes_nothing = self.forgetting.is_empty() && self.index.due_now().is_empty();
        self.is_in_step() && !self.index.is_dirty() && deletes_nothing && self.cache.is_settled()
    }

    /// The stamp that the verdict cache uses now.
    pub fn stamp(&self) -> Option<Stamp> {
        self.cache.active()
    }

    /// The number of renderings; input taken now is in the next one.
    pub fn rendered(&self) -> u64 {
        self.rendered
    }

    /// The reason why the engine waits for [`Engine::retry`], if it does.
    pub fn back_off(&self) -> Option<BackOff> {
        self.back_off
    }

    /// The kinds whose last list is not believed, with the reasons.
    pub fn doubts(&self) -> impl Iterator<Item = (Kind, Reason)> {
        self.source.doubts()
    }

    /// The number of deleted policies that wait for an answer about their namespace.
    pub fn held_deletions(&self) -> usize {
        self.source.held()
    }

    /// The reports since the last call.
    pub fn take_reports(&mut self) -> Vec<Report> {
        let set_aside = self.index.take_set_aside().into_iter();
        self.reports.extend(set_aside.map(|(policy, why)| Report::OverBudget { policy, why }));
        std::mem::take(&mut self.reports)
    }

    /// Takes input from the source of objects. It reaches the table with the next rendering.
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

    /// The change, with a policy above the budget reduced to the form that is enforced.
    fn bound(&mut self, change: Change) -> Change {
        let Change::Policy(policy) = change else { return change };
        let policy = policy.within(&self.index.state().budget);
        if let Some(term) = policy.unenforceable.first().filter(|_| policy.is_over_budget()) {
            self.reports.push(Report::OverBudget { policy: policy.key.clone(), why: term.reason.clone() });
        }
        Change::Policy(policy)
    }

    /// Requests a look at the node: its interfaces or IPs may have changed.
    pub fn look(&mut self) {
        self.wishes.look = true;
    }

    /// Requests a check of the table: another program may have changed it.
    pub fn suspect(&mut self) {
        self.wishes.suspect = true;
    }

    /// Ends the back-off and retries the failed step.
    pub fn retry(&mut self) {
        self.back_off = None;
    }

    /// Retries a quarantined object; the kernel may accept it now.
    pub fn retry_quarantined(&mut self) {
        self.wishes.try_quarantined = true;
    }
}
