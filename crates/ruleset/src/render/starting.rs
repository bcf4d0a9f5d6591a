//! What is blocked while an isolated pod is starting: its packets cannot be distinguished from those of other unknown
//! IPs, so none of them passes.

use ipnet::IpNet;
use palisade_policy::input::{Direction, Family};

use super::Options;
use super::base::{drop_chain, is_family, local_set, prefix, regular, rule, states, verdict};
use crate::model::{Chain, CtStates, Expression, Load, Rule, Test, Verdict};
use crate::name::Name;

/// The chain for IPs of the node's pod ranges, of which not all are known.
pub(super) fn starting_chain(direction: Direction) -> Name {
    Name::new(&format!("starting/{direction}"))
}

/// Rules that send IPs of the node's pod ranges to where unknown ones may be dropped.
pub(super) fn to_starting(
    options: &Options,
    tests: &[Expression],
    direction: Direction,
    load: impl Fn(Family) -> Load,
) -> Vec<Rule> {
    let to = |range: &IpNet| {
        let load = load(Family::of(range.addr()));
        let address = match load {
            Load::PacketSource(family) | Load::PacketDestination(family) => prefix(load, family, *range).to_vec(),
            _ => vec![Expression::Match(load, Test::Prefix(*range))],
        };
        let jump = verdict(Verdict::Jump(starting_chain(direction)));
        rule(tests.iter().cloned().chain(address).chain([jump]))
    };
    options.pod_ranges.iter().map(to).collect()
}

/// The chain; `held` while a pod isolated in this direction is starting.
pub(super) fn starting(direction: Direction, held: bool) -> Chain {
    let mut rules = Vec::new();
    if held {
        let no_flow = CtStates { invalid: true, untracked: true, ..CtStates::default() };
        let known = |tests: Vec<Expression>, load, family| {
            let known = Expression::Match(load, Test::In(local_set(family)));
            rule(tests.into_iter().chain([known, verdict(Verdict::Return)]))
        };
        rules.extend(Family::ALL.map(|family| known(Vec::new(), Load::subject(direction, family), family)));
        rules.extend(Family::ALL.map(|family| {
            known(vec![states(no_flow), is_family(family)], Load::packet_end(direction, family), family)
        }));
        rules.push(rule([Expression::Counter, verdict(Verdict::Goto(drop_chain(direction.name())))]));
    }
    regular(
        &format!("the node's pod range: while a pod isolated for {direction} is starting, only known pods pass"),
        rules,
    )
}
