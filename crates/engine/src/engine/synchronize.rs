//! The way from the kernel's table to the desired one.

use palisade_policy::input::Change;
use palisade_ruleset::change::{Batch, diff};
use palisade_ruleset::model::Ruleset;

use super::{Engine, Predecessor, Table};
use crate::cause::Cause;
use crate::doubt::Reason;
use crate::jobs::{Job, Work};
use crate::report::{CommitKind, Report};
use crate::source::Outbox;
use crate::step::Present;
use crate::{adopt, freeze};

impl Engine {
    /// Whether the first lists would open pods that the previous agent's table isolates. If so, it requests other
    /// lists, and the table stays as it is until they arrive; after that, for as long as the server has objects that
    /// they lack.
    fn doubts_first_lists(&mut self, present: &Ruleset) -> bool {
        if !self.source.answers() || self.predecessor == Predecessor::Adopted {
            return false;
        }
        let before = std::mem::replace(&mut self.predecessor, Predecessor::Compared);
        let Some(named) = adopt::contradiction(present, &self.index) else { return false };
        let reason = match before {
            Predecessor::Unknown => Some(Reason::Table),
            _ => self.source.objection(&named),
        };
        let Some(reason) = reason else { return false };
        let mut out = Outbox { asks: &mut self.asks, reports: &mut self.reports };
        self.source.confirm(reason, named, &mut out);
        self.table = Table::Unknown;
        true
    }

    /// Takes the table that was read, and plans the difference.
    pub(super) fn synchronize(&mut self, present: Option<Present>) {
        if let Some(present) = &present
            && self.doubts_first_lists(&present.ruleset)
        {
            return;
        }
        let before = std::mem::replace(&mut self.predecessor, Predecessor::Adopted);
        if let Some(present) = present.as_ref().filter(|_| before != Predecessor::Adopted) {
            self.adopt(&present.ruleset);
        }
        let dirty = self.index.take_dirty();
        self.rendered += 1;
        // The plan starts from the table that was found, not from the last rendering.
        self.renderer.update(self.index.compiled(), &dirty);
        let kind = self.work.kind;
        let mut work = Work::new(kind, []);
        let stamp = present.as_ref().and_then(|present| present.stamp);
        let has_other_stamp = self.cache.adopt(stamp);
        match present {
            None => {
                self.repairing(kind, "it was deleted");
                self.replace(&mut work);
            }
            Some(Present { foreign: true, .. }) => {
                self.repairing(kind, "it holds objects that are not Palisade's");
                self.replace(&mut work);
            }
            Some(present) => {
                if has_other_stamp {
                    let operations = self.cache.suspend();
                    work.jobs.push_back(Job::Batch(Batch { name: "suspend", waits: false, operations }));
                }
                if present.dormant {
                    self.repairing(kind, "its chains were switched off");
                    work.jobs.push_back(Job::Wake);
                }
                self.plan_difference(&present.ruleset, &mut work);
            }
        }
        self.table = Table::Known;
        work.jobs.push_back(Job::Finish);
        // A check that finds no difference is not a commit.
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
                    self.repairing(work.kind, "its objects were changed");
                }
                let transactions = self.renderer.plan(patch, None);
                transactions.iter().for_each(|transaction| work.then(transaction, &mut self.cache));
            }
            Err(incompatible) => {
                self.reports.push(Report::OtherLayout { objects: incompatible.to_string() });
                self.replace(work);
            }
        }
    }

    fn replace(&mut self, work: &mut Work) {
        self.cache.begin();
        work.jobs.push_back(Job::Replace);
    }

    fn repairing(&mut self, kind: CommitKind, how: &'static str) {
        if kind == CommitKind::Repair {
            self.cause = Cause::other("another program changed the table");
            self.reports.push(Report::Repairing { how });
        }
    }

    /// Follows facts that only the previous agent's table has: the isolated pods of terminating namespaces, and the IPs
    /// that changed hands.
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
