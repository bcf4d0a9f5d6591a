//! The choice and order of work.

use super::{Engine, Table};
use crate::cause::Cause;
use crate::jobs::{Job, Work};
use crate::report::{CommitKind, Report};

impl Engine {
    /// Plans the next work. Returns whether there is any.
    pub(super) fn find_work(&mut self) -> bool {
        let full = |jobs: &[Job]| Work::new(CommitKind::Full, jobs.iter().cloned());
        match self.table {
            Table::Closed => self.work = full(&[Job::Open, Job::Look, Job::Synchronize]),
            Table::Unknown => self.work = full(&[Job::Look, Job::Synchronize]),
            Table::Known if std::mem::take(&mut self.wishes.suspect) => {
                self.work = Work::new(CommitKind::Repair, [Job::Synchronize]);
            }
            Table::Known if self.index.is_dirty() => self.render(),
            Table::Known if std::mem::take(&mut self.wishes.look) => {
                self.work = Work::new(CommitKind::Incremental, [Job::Look]);
                self.cause = Cause::other("the node's interfaces changed");
            }
            Table::Known if std::mem::take(&mut self.wishes.try_quarantined) && self.has_quarantined() => {
                self.end_quarantine();
            }
            Table::Known => {
                let jobs = [self.forget_jobs(), self.cache_jobs()].concat();
                self.work = Work::new(CommitKind::Incremental, jobs);
            }
        }
        !self.work.jobs.is_empty()
    }

    /// The jobs that delete the due flows, after the other planned jobs. Packets of these flows must have left first,
    /// since they could create the entries again. Flows that are being deleted already are due again after that.
    pub(super) fn forget_jobs(&mut self) -> Vec<Job> {
        if !self.forgetting.is_empty() {
            return Vec::new();
        }
        let due = self.index.begin_deletion();
        if due.is_empty() { Vec::new() } else { vec![Job::Wait, Job::Forget(due)] }
    }

    /// The jobs that bring the verdict cache back into use. The batch waits: packets in flight were judged by what has
    /// changed since, and would find its rule.
    fn cache_jobs(&mut self) -> Vec<Job> {
        let clear = self.cache.has_stale().then_some([Job::Wait, Job::ClearStamps]);
        let resume = self.cache.resume().map(|batch| [Job::Wait, Job::Batch(batch)]);
        clear.into_iter().chain(resume).flatten().collect()
    }

    /// Renders the changes, and plans their commit.
    fn render(&mut self) {
        let dirty = self.index.take_dirty();
        self.rendered += 1;
        let mut work = Work::new(CommitKind::Incremental, []);
        for transaction in self.renderer.follow(self.index.compiled(), &dirty) {
            work.then(&transaction, &mut self.cache);
        }
        if !dirty.subjects.is_empty() {
            work.jobs.push_back(Job::Look);
        }
        // A wait here lets the next commit start at once.
        work.jobs.extend([Job::Finish, Job::Wait]);
        work.jobs.extend(self.forget_jobs());
        self.work = work;
    }

    fn has_quarantined(&self) -> bool {
        self.renderer.quarantined().next().is_some()
    }

    /// Retries the objects that the kernel refused earlier, one group at a time.
    fn end_quarantine(&mut self) {
        let Some(group) = self.renderer.quarantined().next().cloned() else { return };
        let patch = self.renderer.end_quarantine(self.index.compiled(), &group);
        let mut work = Work::new(CommitKind::Incremental, []);
        let transactions = self.renderer.plan(patch, None);
        transactions.iter().for_each(|transaction| work.then(transaction, &mut self.cache));
        work.jobs.push_back(Job::Finish);
        self.work = work;
        self.cause = Cause::other("a quarantined policy is tried again");
        self.reports.push(Report::Released { policies: group.policies().into_iter().collect() });
    }
}
