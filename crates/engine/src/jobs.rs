//! What is still to be done until the table is what the objects say.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use palisade_ruleset::change::{Batch, Transaction};

use crate::report::CommitKind;

/// One thing to do, in the order of the queue.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Open,
    Look,
    /// Read the table back, and commit what it lacks.
    Synchronize,
    /// Wait, if packets may be under way that have met the table before the last batch.
    Wait,
    Batch(Batch),
    Replace,
    Wake,
    /// The commit is complete.
    Finish,
    /// The addresses are closed, or their new owners are; now their flows can go.
    Forget(BTreeSet<IpAddr>),
}

/// The jobs of one commit, and what it amounts to.
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

    /// The batches of a transaction, before what is to be done already.
    pub(crate) fn first(&mut self, transaction: &Transaction) {
        for job in self.count(transaction).into_iter().rev() {
            self.jobs.push_front(job);
        }
    }

    /// The batches of a transaction, after what is to be done already.
    pub(crate) fn then(&mut self, transaction: &Transaction) {
        let jobs = self.count(transaction);
        self.jobs.extend(jobs);
    }

    /// A transaction begins when the packets have left that were under way at the one before.
    fn count(&mut self, transaction: &Transaction) -> Vec<Job> {
        self.operations += transaction.operations();
        let mut jobs = Vec::new();
        for batch in transaction.batches() {
            self.batches += 1;
            if jobs.is_empty() || batch.waits {
                jobs.push(Job::Wait);
            }
            jobs.push(Job::Batch(batch.clone()));
        }
        jobs
    }
}
