//! Blocks unknown IPs while an isolated pod is starting: its packets cannot be distinguished from those of other
//! unknown IPs, so none of them passes.

use ipnet::IpNet;
use palisade_policy::input::{Direction, Family};

use super::Options;
use super::drops::{Reason, count_and_drop};
use super::parts::{WITHOUT_FLOW, commented, is_family, pods_on_node, prefix, regular, rule, states, verdict};
use crate::model::{Chain, Expression, Load, Rule, Test, Verdict};
use crate::name::Name;

/// The name of the chain for IPs in the node's pod ranges.
pub(super) fn starting_chain(direction: Direction) -> Name {
    Name::new(&format!("unknown-pod-ip/{direction}"))
}

/// Rules that send packets of IPs in the node's pod ranges to that chain.
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
        commented(tests.iter().cloned().chain(address).chain([jump]), "the node's pod range")
    };
    options.pod_ranges.iter().map(to).collect()
}

/// The chain; it drops unknown IPs if `held`: while a pod isolated in this direction is starting.
pub(super) fn starting(direction: Direction, held: bool) -> Chain {
    let mut rules = Vec::new();
    if held {
        let known = |tests: Vec<Expression>, load, family| {
            let known = Expression::Match(load, Test::In(pods_on_node(family)));
            rule(tests.into_iter().chain([known, verdict(Verdict::Return)]))
        };
        rules.extend(Family::ALL.map(|family| known(Vec::new(), Load::subject(direction, family), family)));
        rules.extend(Family::ALL.map(|family| {
            known(vec![states(WITHOUT_FLOW), is_family(family)], Load::packet_end(direction, family), family)
        }));
        rules.extend(count_and_drop(Reason::UnknownPodIp(direction), "of no known pod, while an isolated one starts"));
    }
    regular(&format!("empty unless a pod isolated for {direction} is starting; then drops IPs of no known pod"), rules)
}
