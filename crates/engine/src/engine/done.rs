//! The results of steps.

use std::collections::BTreeSet;

use palisade_ruleset::cache;

use super::{Awaited, BackOff, Engine, Table};
use crate::cause::Cause;
use crate::jobs::{Job, Work};
use crate::report::Report;
use crate::step::{Class, Done, Forgotten, NodeView, Trouble};

/// The number of times in a row that an object may be refused as stale before the object itself is at fault.
const PATIENCE: u32 = 3;

impl Engine {
    pub(super) fn finish(&mut self) {
        if self.table == Table::Known {
            self.failures = 0;
            self.refused = None;
        }
        let Work { kind, operations, batches, replaced, .. } = self.work;
        let cause = std::mem::take(&mut self.cause).to_string();
        self.reports.push(Report::Committed { kind, cause, operations, batches, replaced, rendered: self.rendered });
        (self.work.operations, self.work.batches) = (0, 0);
    }

    /// Takes the result of a step. It ignores an unexpected one, except [`Done::Forgot`] and [`Done::ClearedStamps`].
    pub fn done(&mut self, done: Done) {
        let awaited = match &done {
            Done::Forgot(_) | Done::ClearedStamps { .. } => None,
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
            Done::ClearedStamps { all } => self.cache.cleared(all),
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
        self.index.end_deletion(&finished);
        if self.cause.is_empty() {
            self.cause = Cause::other("flows of former pods are deleted");
        }
    }

    fn looked(&mut self, view: NodeView) {
        self.wishes.look = false;
        self.index.refuse_addresses(view.addresses);
        let patch = self.renderer.update_pod_interfaces(&view.pod_interfaces);
        if self.table != Table::Known || patch.is_empty() {
            return;
        }
        let transaction = patch.plan(self.renderer.ruleset());
        if self.work.jobs.is_empty() {
            self.work.jobs.push_back(Job::Finish);
        }
        self.work.first(&transaction, &mut self.cache);
    }

    /// The kernel's table may now be anything between the old and the new state: the engine reads it before the next
    /// commit.
    fn fail(&mut self, mut trouble: Trouble) {
        self.blame(&mut trouble);
        let kind = self.work.kind;
        self.table_is_unknown();
        self.failures = self.failures.saturating_add(1);
        let object = trouble.object.as_ref().filter(|_| trouble.class == Class::Object);
        if object.is_some_and(|name| [cache::ACCEPT, cache::STAMP].contains(&name.as_str())) {
            self.cache.give_up();
            self.reports.push(Report::NoVerdictCache);
        }
        let groups = object.map(|name| self.renderer.quarantine(self.index.compiled(), name));
        let quarantined = groups.into_iter().flatten().flat_map(|group| group.policies()).collect();
        self.back_off = Some(BackOff { class: trouble.class, failures: self.failures });
        self.reports.push(Report::Failed { kind, trouble, quarantined });
    }

    /// Blames an object that is refused repeatedly, each time just after the table was read: a kernel that lacks a
    /// module of nftables answers ENOENT.
    fn blame(&mut self, trouble: &mut Trouble) {
        let before = self.refused.take();
        let Some(object) = trouble.object.clone().filter(|_| trouble.class == Class::Stale) else { return };
        let times = before.filter(|(name, _)| *name == object).map_or(1, |(_, times)| times + 1);
        if times >= PATIENCE {
            trouble.class = Class::Object;
        } else {
            self.refused = Some((object, times));
        }
    }

    pub(super) fn table_is_unknown(&mut self) {
        if self.table == Table::Known {
            self.table = Table::Unknown;
        }
        if self.awaited.is_none() {
            self.work = Work::none();
        } else {
            // The pending step still returns its result; no step follows it.
            self.work.jobs.clear();
        }
    }
}
