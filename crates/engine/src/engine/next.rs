//! The next step.

use super::{Awaited, Engine};
use crate::jobs::Job;
use crate::step::Step;

impl Engine {
    /// The next step; none while one is pending, or if there is no work.
    pub fn next_step(&mut self) -> Option<Step> {
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

    /// Starts a job; none if the job needs no step.
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
            Job::ClearStamps => return self.cache.clear().map(Step::ClearStamps),
        };
        self.awaited = Some(awaited);
        Some(step)
    }

    fn look_step(&self) -> Step {
        let compiled = self.index.compiled();
        // Starting pods use the same interface as the others, if it exists.
        let ranges = self.renderer.pod_ranges().iter().filter_map(|range| range.hosts().nth(1));
        Step::Look {
            local: compiled.local.keys().copied().chain(ranges).collect(),
            isolated: compiled.subjects.keys().copied().collect(),
        }
    }
}
