//! Corner cases that others have got wrong, and decisions where the API says nothing, as cases in the form of the
//! conformance table (`tests/data/conformance/corners`), checked in the same three ways. The API server accepts CIDRs
//! as servers before 1.36 did, since clusters may still have such objects.
//!
//! `docs/conformance.md` lists which corner case is tested here and which elsewhere.
//!
//! Seen to fail when: ranges of ports end one early; `NotIn` needs the key; ports of sidecars are not read; leading
//! zeros make a number octal; an undeclared port name is any port; an except applies to all blocks of its rule;
//! finished pods keep their IPs; the agent ignores deletions of policies.

use crate::conformance::assert_none;
use crate::conformance::bed::Bed;
use crate::conformance::offline;
use crate::conformance::table::{self, Way};

const TABLE: &str = "conformance/corners";
const ENDINGS: &str = "conformance/endings";

/// Repetitions of cases that depend on the order of two watches.
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

/// Repeats a case about a terminating namespace on a separate bed.
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
