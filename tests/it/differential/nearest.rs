//! The nearest miss of a denied flow, on packets: with that one term changed, the packet arrives.

use palisade_analysis::near::misses;
use palisade_policy::flow::Verdict;
use palisade_policy::input::{Direction, State};
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, flow_line};
use proptest::prelude::*;

use super::{Bed, Tally, Trial};

/// The most flows of a case that are tried; each takes a commit on every node.
const MOST: usize = 4;

impl Bed {
    /// Changes the nearest miss of some denied flows, one flow at a time, and sends each again. Returns how many.
    pub(super) fn fix_nearest(
        &mut self,
        case: &Case,
        trials: &[Trial],
        tally: &mut Tally,
    ) -> Result<usize, TestCaseError> {
        let denied = trials.iter().filter(|trial| trial.judgement.verdict == Verdict::Deny);
        let changed = denied.filter_map(|trial| Some((trial, fixed(case, trial)?)));
        let mut number = 0;
        for (trial, state) in changed.take(MOST) {
            self.enforce(&state, &case.facts);
            let arrived = self.lab.shoot(std::slice::from_ref(&trial.shot)).unwrap();
            prop_assert_eq!(arrived, [true], "{} after its nearest miss was changed", flow_line(&trial.flow));
            let (sent, through) = tally.entry("the nearest miss changed".to_owned()).or_default();
            (*sent, *through) = (*sent + 1, *through + 1);
            number += 1;
        }
        Ok(number)
    }
}

/// The cluster with the nearest miss changed in each direction that is denied; none if a direction is not denied for want
/// of a rule.
fn fixed(case: &Case, trial: &Trial) -> Option<State> {
    let reference = Reference::new(&case.state, &case.facts);
    let considered = reference.consider(&trial.flow).ok()?;
    let mut state = case.state.clone();
    for direction in Direction::ALL {
        let side = considered.side(direction);
        if side.decision().verdict == Verdict::Allow {
            continue;
        }
        let found = misses(side);
        let nearest = found.first()?;
        // A policy may judge both ends: its other direction was changed already.
        let policy = state.policies.get_mut(&nearest.policy.key)?;
        let fixed = nearest.fixed();
        if *policy == *nearest.policy {
            *policy = fixed;
        } else {
            *policy.rules_mut(direction) = fixed.rules(direction).to_vec();
        }
    }
    let after = Reference::new(&state, &case.facts);
    // Changed in one direction, a selector may isolate the other end too.
    (after.evaluate(&trial.flow).ok()?.verdict == Verdict::Allow).then_some(state)
}
