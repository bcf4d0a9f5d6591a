//! The behaviours of the upstream NetworkPolicy suite, each as a case of a readable table (`tests/data/conformance`),
//! checked in three ways: by the evaluator, by the packet walk through the rendered rulesets, and by real packets
//! between pods while agents follow a real API server. IPv4, IPv6 and dual stack; packets go to Services.
//!
//! Seen to fail when: the agent ignores deletions of policies; an except applies to all blocks of its rule; a range of
//! SCTP ports applies to TCP; tests do not wait until the agents have enforced a change.

mod api;
pub(crate) mod bed;
pub(crate) mod cluster;
pub(crate) mod offline;
mod page;
pub(crate) mod table;

use bed::Bed;
use table::Way;

const TABLE: &str = "conformance";

pub(crate) fn assert_none(failures: &[String]) {
    let first: Vec<_> = failures.iter().take(40).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} failures, the first of them:\n{}", failures.len(), first.join("\n"));
}

#[test]
fn every_behaviour_on_packets_has_its_case() {
    let cases = table::read(TABLE);
    let number = |name: &str| name.split('-').next().unwrap().parse::<u32>().unwrap();
    let mut numbers: Vec<_> = cases.iter().map(|case| number(&case.name)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=48).collect::<Vec<_>>(), "49 and 50 are in api.rs");
}

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
    let mut bed = Bed::new(&[]);
    let cases = table::read(TABLE);
    assert_none(&bed.all_failures(&cases));
}
