//! The vocabulary of rules, and the names of the objects that every table has.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use palisade_policy::input::{Direction, Family};

use super::Options;
use crate::change::Gates;
use crate::model::{Chain, CtStates, Element, Expression, Hook, Key, L4, Load, Rule, Test, Verdict};
use crate::name::{Name, comment};

/// The maps from an isolated pod's IP to its egress chain.
pub const EGRESS_MAPS: [&str; 2] = ["egress4", "egress6"];

/// The maps from an isolated pod's IP to its ingress chain.
pub const INGRESS_MAPS: [&str; 2] = ["ingress4", "ingress6"];

/// The map of a direction and family.
pub fn verdict_map(direction: Direction, family: Family) -> Name {
    Name::new(&format!("{direction}{}", family.digit()))
}

/// The IPs of this node's pods that are isolated in any direction.
pub(super) fn isolated_any(family: Family) -> Name {
    Name::new(&format!("isolated-any{}", family.digit()))
}

/// The IPs of this node's pods; the comments of the elements say how each is isolated.
pub fn pods_on_node(family: Family) -> Name {
    Name::new(&format!("pods-on-node{}", family.digit()))
}

/// The sets other than peer sets that decide about a pod's packets.
pub fn gates(options: &Options) -> Gates {
    // Without ranges, no rule looks up the set of the node's pods.
    let admit = if options.pod_ranges.is_empty() { Vec::new() } else { Family::ALL.map(pods_on_node).into() };
    Gates { admit, bar: Family::ALL.map(isolated_any).into() }
}

/// Each local pod's IP, paired with itself; the comments of the elements are the pods' names.
pub(super) fn pod_to_itself(family: Family) -> Name {
    Name::new(&format!("pod-to-itself{}", family.digit()))
}

/// The rule that lets a pod reach itself: it goes before the rule that drops.
pub(super) fn reaches_itself(family: Family) -> Rule {
    let pair = Expression::Lookup(vec![Load::Client(family), Load::Server(family)], pod_to_itself(family));
    commented([pair, verdict(Verdict::Return)], "a pod may reach itself")
}

/// The interfaces that lead to the node's pods.
pub(super) fn pod_interfaces() -> Name {
    Name::new("pod-interfaces")
}

/// The elements of the set of pod interfaces.
pub(super) fn interface_elements(interfaces: &BTreeSet<String>) -> BTreeMap<Key, Element> {
    interfaces.iter().map(|interface| (Key::InterfaceName(interface.clone()), Element::default())).collect()
}

/// A rule without a comment.
pub(super) fn rule(expressions: impl IntoIterator<Item = Expression>) -> Rule {
    Rule { expressions: expressions.into_iter().collect(), comment: None }
}

/// A rule with a comment.
pub(super) fn commented(expressions: impl IntoIterator<Item = Expression>, text: &str) -> Rule {
    Rule { expressions: expressions.into_iter().collect(), comment: Some(comment(text)) }
}

pub(super) fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

pub(super) fn jump(chain: &str) -> Expression {
    verdict(Verdict::Jump(Name::new(chain)))
}

pub(super) fn goto(chain: &str) -> Expression {
    verdict(Verdict::Goto(Name::new(chain)))
}

pub(super) fn states(states: CtStates) -> Expression {
    Expression::Match(Load::CtState, Test::States(states))
}

const NO_STATE: CtStates =
    CtStates { invalid: false, established: false, related: false, new: false, untracked: false };
pub(super) const RELATED: CtStates = CtStates { related: true, ..NO_STATE };
pub(super) const NEW: CtStates = CtStates { new: true, ..NO_STATE };
pub(super) const ESTABLISHED: CtStates = CtStates { established: true, ..NO_STATE };
pub(super) const INVALID: CtStates = CtStates { invalid: true, ..NO_STATE };
pub(super) const UNTRACKED: CtStates = CtStates { untracked: true, ..NO_STATE };
/// The conntrack states of packets with a flow.
pub(super) const WITH_FLOW: CtStates = CtStates { established: true, related: true, new: true, ..NO_STATE };
/// All states but *established*.
pub(super) const NOT_ESTABLISHED: CtStates = CtStates { related: true, new: true, ..WITHOUT_FLOW };
/// First packets, and packets without a flow.
pub(super) const NEW_OR_WITHOUT_FLOW: CtStates = CtStates { new: true, ..WITHOUT_FLOW };
/// The conntrack states of packets without a flow.
pub(super) const WITHOUT_FLOW: CtStates = CtStates { invalid: true, untracked: true, ..NO_STATE };

pub(super) fn is_family(family: Family) -> Expression {
    Expression::Match(Load::Nfproto, Test::Family(family))
}

pub(super) fn is_l4(l4: L4) -> Expression {
    Expression::Match(Load::L4Proto, Test::L4(l4))
}

/// `icmpv6 type`, with the tests that nft puts before it.
pub(super) fn icmpv6_type(kind: u16) -> [Expression; 3] {
    [is_family(Family::V6), is_l4(L4::Icmpv6), Expression::Match(Load::Icmpv6Type, Test::Range(kind, kind))]
}

pub(super) fn prefix(load: Load, family: Family, net: IpNet) -> [Expression; 2] {
    [is_family(family), Expression::Match(load, Test::Prefix(net))]
}

pub(super) fn base(hook: Hook, comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(hook), comment: Some(comment.to_owned()), rules }
}

pub(super) fn regular(comment: &str, rules: Vec<Rule>) -> Chain {
    Chain { hook: None, comment: Some(comment.to_owned()), rules }
}
