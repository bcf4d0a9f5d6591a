//! Corners that others have got wrong and decisions where the API is silent, as cases of the same form as the conformance
//! table (`tests/data/conformance/corners`), held the same three ways. The API server takes CIDRs as servers before 1.36
//! did, so that clusters hold what they still hold.
//!
//! `docs/conformance.md` lists which corner is shown here and which by another test.
//!
//! Seen to fail when: ranges of ports end one early; `NotIn` needs the key; ports of sidecars are not read; leading zeros
//! make a number octal; a name that nobody defines is any port; an except is taken from all blocks of its rule; finished
//! pods keep their addresses; the agent ignores that policies are deleted.

use crate::conformance::assert_none;
use crate::conformance::bed::Bed;
use crate::conformance::offline;
use crate::conformance::table::{self, Way};

const TABLE: &str = "conformance/corners";
const ENDINGS: &str = "conformance/endings";

/// How often what depends on the order of two watches is tried.
const ROUNDS: usize = 15;

#[test]
fn the_evaluator_gives_the_expected_matrix() {
    assert_none(&offline::failures(&table::read(TABLE), Way::Evaluator));
}

#[test]
fn the_packet_walk_gives_the_expected_matrix() {
    assert_none(&offline::failures(&table::read(TABLE), Way::Walk));
}

#[test]
fn real_packets_get_the_expected_matrix() {
    let mut bed = Bed::new(&["--feature-gates=StrictIPCIDRValidation=false"]);
    assert_none(&bed.all_failures(&table::read(TABLE)));
}

/// A case about a namespace that is being deleted, so often, on a bed of its own.
fn assert_shut(case: &str, rounds: usize) {
    let mut cases = table::read(ENDINGS);
    cases.retain(|found| found.name == case);
    let mut bed = Bed::new(&[]);
    let failures = (0..rounds).flat_map(|round| bed.failures(round, &cases[0]));
    assert_none(&failures.collect::<Vec<_>>());
}

#[test]
fn a_namespace_that_ends_stays_shut() {
    assert_shut("a-namespace-that-ends", 1);
}

#[test]
fn a_namespace_that_ends_at_once_stays_shut() {
    assert_shut("a-namespace-that-ends-at-once", ROUNDS);
}

#[test]
fn a_namespace_that_ends_stays_shut_across_a_restart() {
    assert_shut("a-namespace-that-ends-across-a-restart", 1);
}
