//! Blocks unknown IPs while an isolated pod is starting: its packets cannot be distinguished from those of other
//! unknown IPs, so none of them passes.

use std::collections::BTreeSet;

use ipnet::IpNet;
use palisade_policy::input::{Direction, Family};

use super::Options;
use super::drops::{Reason, drop_counted};
use super::parts::{WITHOUT_FLOW, commented, is_family, pods_on_node, regular, rule, states, verdict};
use crate::model::{Chain, Expression, Load, Rule, Test, Verdict};
use crate::name::Name;

/// The name of the chain for IPs in the node's pod ranges.
pub(super) fn starting_chain(direction: Direction) -> Name {
    Name::new(&format!("unknown-pod-ip/{direction}"))
}

/// The rule that asks whether the client or server is an unknown pod; none without pod ranges.
pub(super) fn to_starting(
    options: &Options,
    tests: impl IntoIterator<Item = Expression>,
    direction: Direction,
) -> Option<Rule> {
    let jump = verdict(Verdict::Jump(starting_chain(direction)));
    let rule = || commented(tests.into_iter().chain([jump]), "is an isolated pod starting?");
    (!options.pod_ranges.is_empty()).then(rule)
}

/// The chain; it drops unknown IPs in the node's pod ranges if `held`: while a pod isolated in this direction is
/// starting.
pub(super) fn starting(options: &Options, direction: Direction, held: bool) -> Chain {
    let rules = if held { rules(&options.pod_ranges, direction) } else { Vec::new() };
    regular(&format!("empty unless a pod isolated for {direction} is starting; then drops IPs of no known pod"), rules)
}

fn rules(ranges: &BTreeSet<IpNet>, direction: Direction) -> Vec<Rule> {
    let reason = Reason::UnknownPodIp(direction);
    let of_flow = |family, test| vec![Expression::Match(Load::subject(direction, family), test)];
    let of_packet = |family, test| {
        let end = Expression::Match(Load::packet_end(direction, family), test);
        vec![states(WITHOUT_FLOW), is_family(family), end]
    };
    let known = |tests: Vec<Expression>| rule(tests.into_iter().chain([verdict(Verdict::Return)]));
    let mut rules: Vec<Rule> = Vec::new();
    for family in Family::ALL {
        rules.push(known(of_flow(family, Test::In(pods_on_node(family)))));
        rules.push(known(of_packet(family, Test::In(pods_on_node(family)))));
    }
    for range in ranges {
        let family = Family::of(range.addr());
        let text = "the node's pod range, of no known pod, while an isolated one starts";
        let drop = |tests| drop_counted(tests, reason, family, text);
        rules.extend([of_flow(family, Test::Prefix(*range)), of_packet(family, Test::Prefix(*range))].map(drop));
    }
    rules
}
