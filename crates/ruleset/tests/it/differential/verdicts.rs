//! The packet walk through the rendered rulesets gives the evaluator's verdict, for requests and replies,
//! with the stamps of the verdict cache and without.

use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, arb_case_with};
use palisade_testkit::trials::Trials;
use palisade_testkit::walking::Nodes;
use proptest::prelude::*;

/// Verdicts compared in a test run.
const VERDICTS: usize = 100_000;

#[test]
fn the_walk_gives_the_verdict_of_the_evaluator() {
    Trials::of("verdicts", "PALISADE_VERDICTS", VERDICTS).run(|| arb_case_with(1..60), compare);
}

/// Compares the verdicts of all flows; returns their number.
fn compare(case: &Case) -> Result<usize, TestCaseError> {
    let reference = Reference::new(&case.state, &case.facts);
    let nodes = Nodes::render(&case.state, &case.facts);
    let mut compared = 0;
    for flow in &case.flows {
        let Ok(judgement) = reference.evaluate(flow) else { continue };
        let Some(ways) = nodes.send(flow, &reference.ends(flow).unwrap()).unwrap() else { continue };
        for (way, which) in ways.iter().zip(["request", "reply", "next request", "next reply"]) {
            prop_assert_eq!(
                way.verdict,
                judgement.verdict,
                "{} of {}: {:?}\n{}",
                which,
                palisade_testkit::generate::flow_line(flow),
                judgement,
                way.steps.join("\n")
            );
        }
        compared += 1;
    }
    Ok(compared)
}
