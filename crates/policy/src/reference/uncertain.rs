//! Whether a verdict depends on label values that only controllers know.

use super::membership::Selection;
use super::terms::PeerMatch;
use super::{ConsideredPolicy, ConsideredRule, Side, is_same_end};
use crate::flow::Verdict;
use crate::input::{Direction, Policy, Requirement};

/// Whether something matches, if unknown label values can be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty<'c> {
    No,
    Maybe(&'c Requirement),
    Yes,
}

impl<'c> From<Selection<'c>> for Certainty<'c> {
    fn from(selection: Selection<'c>) -> Self {
        match selection {
            Selection::Yes => Self::Yes,
            Selection::No(_) => Self::No,
            Selection::Unknown { requirement, .. } => Self::Maybe(requirement),
        }
    }
}

impl<'c> ConsideredRule<'c> {
    fn certainty(&self) -> Certainty<'c> {
        if !self.is_port_match() {
            return Certainty::No;
        }
        let mut found =
            if self.peers().next().is_none() && self.is_peer_match() { Certainty::Yes } else { Certainty::No };
        for (_, peer) in self.peers() {
            match peer {
                PeerMatch::Matches => return Certainty::Yes,
                PeerMatch::Pod(Selection::Unknown { requirement, .. }) => found = Certainty::Maybe(requirement),
                _ => {}
            }
        }
        found
    }
}

impl<'c> ConsideredPolicy<'c> {
    fn allows(&self) -> Certainty<'c> {
        let mut found = Certainty::No;
        for rule in self.rules() {
            match rule.certainty() {
                Certainty::Yes => return Certainty::Yes,
                Certainty::Maybe(requirement) => found = Certainty::Maybe(requirement),
                Certainty::No => {}
            }
        }
        found
    }
}

impl<'c> Side<'c> {
    /// The policy, and its requirement on an unknown label value, that makes the verdict uncertain: another value could
    /// give another verdict. Unknown values are assumed to be independent.
    pub fn uncertain(&self) -> Option<(&'c Policy, &'c Requirement)> {
        let pod = self.subject.the_pod()?;
        let is_own_node = || match self.direction {
            Direction::Ingress => true,
            Direction::Egress => self.reference.facts.allow_egress_to_own_node,
        } && self.reference.is_own_node(&[pod], self.peer);
        if is_same_end(self.subject, self.peer) || is_own_node() {
            return None;
        }
        let (mut sure, mut unsure) = (Vec::new(), Vec::new());
        for policy in self.policies().filter(|policy| policy.policy.isolates.in_direction(self.direction)) {
            for (_, selection) in policy.selections() {
                match Certainty::from(selection) {
                    Certainty::Yes => sure.push(policy),
                    Certainty::Maybe(requirement) => unsure.push((policy, requirement)),
                    Certainty::No => {}
                }
            }
        }
        if sure.iter().any(|policy| policy.allows() == Certainty::Yes) {
            return None;
        }
        let in_rules = sure.iter().find_map(|policy| match policy.allows() {
            Certainty::Maybe(requirement) => Some((policy.policy, requirement)),
            Certainty::Yes | Certainty::No => None,
        });
        let in_selection = unsure.into_iter().find_map(|(policy, requirement)| {
            let changes = match policy.allows() {
                // This policy allows, and without it other policies deny.
                Certainty::Yes => !sure.is_empty(),
                Certainty::Maybe(_) => true,
                // This policy denies, and without it the pod is not isolated.
                Certainty::No => sure.is_empty(),
            };
            changes.then_some((policy.policy, requirement))
        });
        // If starting pods or duplicate IPs decide, no policy makes the verdict uncertain.
        let is_decided = self.settled().is_some_and(|settled| settled.verdict == Verdict::Deny);
        in_rules.or(in_selection).filter(|_| !is_decided)
    }
}
