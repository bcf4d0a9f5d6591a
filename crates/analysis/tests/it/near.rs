//! The nearest miss is right: with its one term changed, and nothing else, the flow passes in that direction.
//!
//! Seen to fail when: an `except` stayed; no port was added; a selector that misses by two requirements counted as near.

use std::cell::RefCell;
use std::collections::BTreeMap;

use palisade_analysis::near::{Term, misses};
use palisade_policy::flow::{Flow, Reason, Verdict};
use palisade_policy::input::Direction;
use palisade_policy::reference::Reference;
use palisade_testkit::generate::{Case, arb_case};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// How often each kind of miss was seen.
type Seen = BTreeMap<&'static str, usize>;

fn kind(term: Term<'_>) -> &'static str {
    match term {
        Term::Except(..) => "except",
        Term::Ports => "ports",
        Term::PodLabel(..) => "pod label",
        Term::NamespaceLabel(..) => "namespace label",
        Term::OtherNamespace(_) => "other namespace",
        Term::Subject(_) => "subject",
        Term::Address => "address",
        Term::NewRule => "new rule",
    }
}

fn fix_each(case: &Case, flow: &Flow, seen: &mut Seen) -> Result<(), TestCaseError> {
    let Case { state, facts, .. } = case;
    let reference = Reference::new(state, facts);
    // Two ends may share no family.
    let Ok(considered) = reference.consider(flow) else { return Ok(()) };
    for direction in Direction::ALL {
        let side = considered.side(direction);
        let found = misses(side);
        let wants_rule = matches!(side.decision().reason, Reason::NoRule { .. });
        prop_assert!(wants_rule || found.is_empty());
        for miss in &found {
            *seen.entry(kind(miss.term)).or_default() += 1;
            let mut changed = state.clone();
            changed.policies.insert(miss.policy.key.clone(), miss.fixed());
            let after = Reference::new(&changed, facts);
            let after = after.consider(flow).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let decision = after.side(direction).decision();
            // A changed podSelector may isolate a pod that is starting, and until its IP is known, it may be this one.
            if matches!((miss.term, &decision.reason), (Term::Subject(_), Reason::Starting { .. })) {
                continue;
            }
            prop_assert_eq!(decision.verdict, Verdict::Allow, "{:?} {} {:?}", miss.term, miss.policy.key, miss.index);
            // A requirement that is relaxed selects more pods; it must not only have un-isolated this one.
            prop_assert!(matches!(decision.reason, Reason::Rule { .. }), "{:?}", decision.reason);
        }
    }
    Ok(())
}

#[test]
fn one_changed_term_opens_the_flow() {
    let seen = RefCell::new(Seen::new());
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
    let every_flow = |case: Case| case.flows.iter().try_for_each(|flow| fix_each(&case, flow, &mut seen.borrow_mut()));
    TestRunner::new(config).run(&arb_case(), every_flow).unwrap();
    println!("{:?}", seen.borrow());
    for kind in ["except", "ports", "pod label", "namespace label", "other namespace", "subject", "address", "new rule"]
    {
        assert!(seen.borrow().get(kind).is_some_and(|count| *count >= 5), "{kind}: {:?}", seen.borrow());
    }
}
