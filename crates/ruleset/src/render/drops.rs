//! Why packets are dropped, and the chains and counters that record it.

use std::fmt;

use palisade_policy::input::{Direction, Family};

use super::parts::{INVALID, UNTRACKED, WITH_FLOW, commented, is_family, regular, rule, states, verdict};
use crate::model::{Chain, Expression, Rule, Verdict};
use crate::name::Name;

/// Why packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The policies that isolate a pod in this direction do not allow the flow.
    Policy(Direction),
    /// The packet belongs to a pod isolated in this direction, and conntrack does not track it.
    Untracked(Direction),
    /// The packet belongs to a pod isolated in this direction, and conntrack considers it invalid.
    Invalid(Direction),
    /// The IP is in the node's pod range, no known pod has it, and a pod isolated in this direction is starting.
    UnknownPodIp(Direction),
    /// Link-local, broadcast, multicast or router message, from a pod.
    LinkScope,
    /// A TCP segment that would pick up a lost connection with client and server swapped.
    ReversedPickup,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Policy(Direction::Egress),
        Self::Policy(Direction::Ingress),
        Self::Untracked(Direction::Egress),
        Self::Untracked(Direction::Ingress),
        Self::Invalid(Direction::Egress),
        Self::Invalid(Direction::Ingress),
        Self::UnknownPodIp(Direction::Egress),
        Self::UnknownPodIp(Direction::Ingress),
        Self::LinkScope,
        Self::ReversedPickup,
    ];

    /// The direction whose isolation is the reason, if any.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Self::Policy(direction)
            | Self::Untracked(direction)
            | Self::Invalid(direction)
            | Self::UnknownPodIp(direction) => Some(direction),
            Self::LinkScope | Self::ReversedPickup => None,
        }
    }

    /// The reason without its direction: `policy`, `untracked`, `invalid`, `unknown-pod-ip`, `link-scope`,
    /// `reversed-pickup`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy(_) => "policy",
            Self::Untracked(_) => "untracked",
            Self::Invalid(_) => "invalid",
            Self::UnknownPodIp(_) => "unknown-pod-ip",
            Self::LinkScope => "link-scope",
            Self::ReversedPickup => "reversed-pickup",
        }
    }

    /// The named counter of the packets dropped for this reason.
    pub fn counter(self, family: Family) -> Name {
        Name::new(&format!("{self}/{}", family.digit()))
    }
}

impl fmt::Display for Reason {
    /// As in names: `drop/egress/policy`, `drop/link-scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.direction() {
            Some(direction) => write!(f, "drop/{direction}/{}", self.name()),
            None => write!(f, "drop/{}", self.name()),
        }
    }
}

/// The chain that drops packets because of isolation in this direction.
pub(super) fn drop_chain(direction: Direction) -> Name {
    Name::new(&format!("drop/{direction}"))
}

/// The chain that drops packets with link scope.
pub(super) fn drop_link_scope() -> Name {
    Name::new("drop/link-scope")
}

/// The chains that count and drop.
pub(super) fn drop_chains() -> Vec<(Name, Chain)> {
    let by_direction = Direction::ALL.map(|direction| (drop_chain(direction), of_direction(direction)));
    let text = "counts packets with link scope, and drops them";
    let link_scope =
        (drop_link_scope(), regular(text, count_and_drop(Reason::LinkScope, "not between pods of a node")));
    by_direction.into_iter().chain([link_scope]).collect()
}

/// Drops packets because of isolation in a direction, by reason; the most frequent one first.
fn of_direction(direction: Direction) -> Chain {
    let mut rules = Vec::new();
    for (state, reason, text) in [
        (WITH_FLOW, Reason::Policy(direction), "allowed by no policy"),
        (UNTRACKED, Reason::Untracked(direction), "a foreign rule keeps it out of conntrack"),
        (INVALID, Reason::Invalid(direction), "conntrack knows no flow of it"),
    ] {
        for family in Family::ALL {
            rules.push(drop_counted([states(state), is_family(family)], reason, family, text));
        }
    }
    // No packet has another state; one that had would be dropped, too.
    rules.push(rule([verdict(Verdict::Drop)]));
    regular(&format!("counts what isolation for {direction} denies, by reason, and drops it"), rules)
}

/// The rule that drops packets that pass these tests, and counts them.
pub(super) fn drop_counted(
    tests: impl IntoIterator<Item = Expression>,
    reason: Reason,
    family: Family,
    text: &str,
) -> Rule {
    let end = [Expression::CountIn(reason.counter(family)), verdict(Verdict::Drop)];
    commented(tests.into_iter().chain(end), text)
}

/// Rules that count a packet by its family and drop it.
fn count_and_drop(reason: Reason, text: &str) -> Vec<Rule> {
    let count = |family| rule([is_family(family), Expression::CountIn(reason.counter(family))]);
    let drop = commented([verdict(Verdict::Drop)], text);
    Family::ALL.into_iter().map(count).chain([drop]).collect()
}
