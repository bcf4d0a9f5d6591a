//! The work left until the table matches the objects.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use palisade_ruleset::change::{Batch, Transaction};

use crate::cache::Cache;
use crate::report::CommitKind;

/// One job, in the order of the queue.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Open,
    Look,
    /// Read the table, and commit the difference.
    Synchronize,
    /// Wait, if packets that met the table before the last batch may be in flight.
    Wait,
    Batch(Batch),
    Replace,
    Wake,
    /// The commit is complete.
    Finish,
    /// Delete the flows of these IPs. They are closed, or their new owners are.
    Forget(BTreeSet<IpAddr>),
    /// Remove old stamps from conntrack; no rule writes them.
    ClearStamps,
}

/// The jobs of one commit, and its totals.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) kind: CommitKind,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) operations: usize,
    pub(crate) batches: usize,
    pub(crate) replaced: bool,
}

impl Work {
    pub(crate) fn new(kind: CommitKind, jobs: impl IntoIterator<Item = Job>) -> Self {
        Self { kind, jobs: jobs.into_iter().collect(), operations: 0, batches: 0, replaced: false }
    }

    /// No work.
    pub(crate) fn none() -> Self {
        Self::new(CommitKind::Incremental, [])
    }

    /// Adds the batches of a transaction before the other jobs.
    pub(crate) fn first(&mut self, transaction: &Transaction, cache: &mut Cache) {
        for job in self.count(transaction, cache).into_iter().rev() {
            self.jobs.push_front(job);
        }
    }

    /// Adds the batches of a transaction after the other jobs.
    pub(crate) fn then(&mut self, transaction: &Transaction, cache: &mut Cache) {
        let jobs = self.count(transaction, cache);
        self.jobs.extend(jobs);
    }

    /// The jobs of a transaction. It begins once the packets in flight at the previous one have left. If it may deny
    /// something, its first batch also ends the use of the verdict cache's stamp.
    fn count(&mut self, transaction: &Transaction, cache: &mut Cache) -> Vec<Job> {
        self.operations += transaction.operations();
        let mut jobs = Vec::new();
        for batch in transaction.batches() {
            self.batches += 1;
            if jobs.is_empty() || batch.waits {
                jobs.push(Job::Wait);
            }
            let mut batch = batch.clone();
            if transaction.restricts() {
                batch.operations.splice(0..0, cache.suspend());
            }
            jobs.push(Job::Batch(batch));
        }
        jobs
    }
}
