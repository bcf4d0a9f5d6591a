//! Counts for metrics, kept up to date with each change.

use super::{Index, Subject};
use crate::input::Policy;

/// Counts for gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Local IPs that are not isolated.
    pub not_isolated: usize,
    /// Local IPs that are isolated for egress only.
    pub isolated_egress: usize,
    /// Local IPs that are isolated for ingress only.
    pub isolated_ingress: usize,
    /// Local IPs that are isolated in both directions.
    pub isolated_both: usize,
    /// Policies in force, tombstones included.
    pub policies: usize,
    /// Terms of policies that match nothing because they cannot be enforced.
    pub unenforceable_terms: usize,
    /// Policies that cost more than their budget.
    pub over_budget: usize,
    /// Isolated pods of this node without a known IP.
    pub starting: usize,
    /// IPs that several live pods claim with equal right.
    pub duplicate_ips: usize,
    /// IPs whose flows are due for deletion.
    pub due: usize,
    /// Due IPs that a pod has again.
    pub held: usize,
}

/// The counts that are updated with each change.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    egress: usize,
    ingress: usize,
    both: usize,
    unenforceable: usize,
    over_budget: usize,
    pub(super) duplicate_ips: usize,
}

impl Tally {
    /// Counts a policy that is now in force, or no longer is.
    pub(super) fn policy(&mut self, policy: &Policy, comes: bool) {
        step(&mut self.unenforceable, policy.unenforceable.len(), comes);
        step(&mut self.over_budget, usize::from(policy.is_over_budget()), comes);
    }

    /// Counts a subject that was added or removed.
    pub(super) fn subject(&mut self, subject: &Subject, comes: bool) {
        match (&subject.egress, &subject.ingress) {
            (Some(_), Some(_)) => step(&mut self.both, 1, comes),
            (Some(_), None) => step(&mut self.egress, 1, comes),
            (None, Some(_)) => step(&mut self.ingress, 1, comes),
            (None, None) => {}
        }
    }
}

/// Adds or subtracts.
pub(super) fn step(count: &mut usize, by: usize, more: bool) {
    *count = if more { count.saturating_add(by) } else { count.saturating_sub(by) };
}

impl Index {
    /// The counts. The call is cheap.
    pub fn counts(&self) -> Counts {
        let former = self.compiled.former.keys();
        let isolated_former = former.filter(|address| self.compiled.subjects.contains_key(*address)).count();
        Counts {
            not_isolated: (self.compiled.local.len() + isolated_former).saturating_sub(self.compiled.subjects.len()),
            isolated_egress: self.tally.egress,
            isolated_ingress: self.tally.ingress,
            isolated_both: self.tally.both,
            policies: self.state.policies.len(),
            unenforceable_terms: self.tally.unenforceable,
            over_budget: self.tally.over_budget,
            starting: self.compiled.starting.len(),
            duplicate_ips: self.tally.duplicate_ips,
            due: self.due.len(),
            held: self.due.held(),
        }
    }
}
