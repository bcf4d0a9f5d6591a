//! The cost of enforcing a policy, counted before anything is built from it.
//!
//! The size of an object does not bound its cost: each of a rule's ports is combined with each of its peers, and
//! overlapping port ranges are split at their edges. The compiler shares equal parts; this module counts the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Direction, NamespaceScope, Peer, Peers, Policy, Port, Ports, Protocol, Rule, Unenforceable};

/// A selector: it may become a set for each family, and is compared with every pod that is added or changed.
const SELECTOR: u64 = 16;
/// A named port: a set for each family, and separate rules.
const NAMED_PORT: u64 = 32;
/// A chain for an element of a port map.
const PORT_CHAIN: u64 = 16;
/// A rule that compares ports itself, because a map is not possible: packets meet such rules one after the other.
const INLINE_RULE: u64 = 16;
/// Up to this number, each selector becomes a separate set; more of them become one set.
pub(crate) const SETS_APART: u64 = 8;

/// The elements on a node for each unit of the budget.
const ELEMENTS_PER_UNIT: u64 = 4;

/// The cost of a policy, or of a part of it. One unit is the cost of one `ipBlock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The limits of the cost of one policy, and of the elements of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The highest cost of a policy that is enforced as written.
    pub policy: Cost,
    /// The maximum number of elements of one namespace's policies on a node: members of their selectors, and pods'
    /// ports for their named ports.
    pub elements: u64,
}

impl Budget {
    /// The default: no object that an API server accepts occupies an agent for more than a second, and handwritten
    /// policies cost far less. It allows 120,000 blocks, 7,000 selectors, or 2,500 named ports.
    pub const DEFAULT: Self = Self::of(Cost(131_072));

    /// A budget of this cost for one policy, with a proportional number of elements: by default half a million.
    pub const fn of(policy: Cost) -> Self {
        Self { policy, elements: policy.0.saturating_mul(ELEMENTS_PER_UNIT) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The start of the reason for a policy over budget.
const TOO_COSTLY: &str = "is too large to be enforced";

impl Policy {
    /// The policy itself, or, if it is over budget, one that isolates the same pods in the same directions and allows
    /// nothing.
    #[must_use]
    pub fn within(self, budget: &Budget) -> Self {
        let cost = self.cost();
        if cost <= budget.policy {
            return self;
        }
        let reason = format!(
            "{TOO_COSTLY}: it costs {cost} units and the budget of a policy is {}; its pods are isolated and nothing is \
             allowed",
            budget.policy
        );
        self.isolation_alone(reason)
    }

    /// A policy that isolates the same pods in the same directions and allows nothing, because this one has too many
    /// elements. The reason has no figure that differs between nodes, so all nodes write the same Event.
    #[must_use]
    pub(crate) fn too_wide(self, budget: &Budget) -> Self {
        let reason = format!(
            "{TOO_COSTLY}: its selectors and named ports, with those of the other policies of its namespace, have more \
             than {} elements on a node; its pods are isolated and nothing is allowed",
            budget.elements
        );
        self.isolation_alone(reason)
    }

    fn isolation_alone(self, reason: String) -> Self {
        Self {
            ingress: Vec::new(),
            egress: Vec::new(),
            unenforceable: vec![Unenforceable { field: "spec".to_owned(), reason }],
            ..self
        }
    }

    /// Whether the policy is the reduced form of one over budget.
    pub fn is_over_budget(&self) -> bool {
        self.unenforceable.iter().any(|term| term.field == "spec" && term.reason.starts_with(TOO_COSTLY))
    }

    /// The cost of the directions in which it isolates.
    pub fn cost(&self) -> Cost {
        let directions = Direction::ALL.into_iter().filter(|direction| self.isolates.in_direction(*direction));
        let rules = directions.map(|direction| direction_cost(self.rules(direction)));
        Cost(rules.fold(selector_cost(&self.pod_selector), u64::saturating_add))
    }
}

/// A range of ports, with the number of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortSpan {
    pub(crate) rule: usize,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// The cost of one direction: the peers of each rule once, and its ports.
fn direction_cost(rules: &[Rule]) -> u64 {
    let weights: Vec<u64> = rules.iter().map(rule_cost).collect();
    let weight = |rule: usize| weights.get(rule).copied().unwrap_or_default();
    let mut total: u64 = weights.iter().copied().fold(0, u64::saturating_add);
    let mut spans: BTreeMap<Protocol, Vec<PortSpan>> = BTreeMap::new();
    let mut named: BTreeMap<(Protocol, &str), BTreeSet<usize>> = BTreeMap::new();
    for (number, rule) in rules.iter().enumerate().filter(|(number, _)| weight(*number) > 0) {
        let Ports::Of(ports) = &rule.ports else { continue };
        for port in ports {
            total = total.saturating_add(1);
            match port {
                Port::Range { protocol, first, last } if first <= last => {
                    spans.entry(*protocol).or_default().push(PortSpan { rule: number, first: *first, last: *last });
                }
                Port::Named { protocol, name } => drop(named.entry((*protocol, name)).or_default().insert(number)),
                Port::All(_) | Port::Range { .. } | Port::Unmatchable => {}
            }
        }
    }
    for users in named.values() {
        let peers = users.iter().map(|rule| inline_cost(weight(*rule)));
        total = peers.fold(total.saturating_add(NAMED_PORT), u64::saturating_add);
    }
    for spans in spans.values() {
        total = total.saturating_add(split_cost(spans, weight).min(whole_cost(spans, weight)));
    }
    total
}

/// The cost of a rule's peers alone; 0 if no peer matches.
fn rule_cost(rule: &Rule) -> u64 {
    match &rule.peers {
        Peers::Any => 1,
        Peers::Of(peers) => peers.iter().map(peer_cost).fold(0, u64::saturating_add),
    }
}

fn peer_cost(peer: &Peer) -> u64 {
    match peer {
        Peer::Pods { namespaces, pods } => {
            let namespaces = match namespaces {
                NamespaceScope::Own => 0,
                NamespaceScope::Matching(selector) => selector_cost(selector),
            };
            SELECTOR + namespaces + selector_cost(pods)
        }
        Peer::IpBlock(block) => 1 + count(block.except.len()),
        Peer::Unmatchable => 0,
    }
}

/// The cost of a selector's requirements, whose values are stored and compared.
fn selector_cost(selector: &super::LabelSelector) -> u64 {
    use super::Operator;
    let values = selector.requirements.iter().map(|requirement| match &requirement.operator {
        Operator::In(values) | Operator::NotIn(values) => 1 + count(values.len()) / 8,
        Operator::Exists | Operator::DoesNotExist => 1,
    });
    values.sum()
}

/// The cost of comparing peers of this weight in separate rules: beyond a few, they are one set.
fn inline_cost(weight: u64) -> u64 {
    weight.min(SETS_APART * SELECTOR)
}

/// The cost of splitting ranges at their edges and uniting the peers of each piece; unions of the same rules count
/// once.
pub(crate) fn split_cost(spans: &[PortSpan], weight: impl Fn(usize) -> u64) -> u64 {
    let mut edges: Vec<(u32, bool, usize)> = Vec::with_capacity(spans.len() * 2);
    for span in spans {
        edges.push((u32::from(span.first), true, span.rule));
        edges.push((u32::from(span.last) + 1, false, span.rule));
    }
    edges.sort_unstable();
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut weights, mut rules) = (0_u64, 0_u128);
    let mut seen: BTreeSet<u128> = BTreeSet::new();
    let mut total = 0_u64;
    let mut edges = edges.into_iter().peekable();
    while let Some((edge, begins, rule)) = edges.next() {
        let others = open.entry(rule).or_default();
        let (was_open, is_open) = if begins { (*others > 0, true) } else { (true, *others > 1) };
        *others = if begins { *others + 1 } else { others.saturating_sub(1) };
        match (was_open, is_open) {
            (false, true) => {
                weights = weights.saturating_add(weight(rule));
                rules = rules.wrapping_add(tag(rule));
            }
            (true, false) => {
                open.remove(&rule);
                weights = weights.saturating_sub(weight(rule));
                rules = rules.wrapping_sub(tag(rule));
            }
            _ => {}
        }
        if edges.peek().is_some_and(|(next, ..)| *next == edge) || open.is_empty() {
            continue;
        }
        // Finding the union takes a pass over the rules of each piece.
        total = total.saturating_add(1 + count(open.len()) / 8);
        if seen.insert(rules) {
            let united = if open.len() > 1 { weights } else { 0 };
            total = total.saturating_add(PORT_CHAIN).saturating_add(united);
        }
    }
    total
}

/// The cost of unsplit ranges, each in separate rules.
pub(crate) fn whole_cost(spans: &[PortSpan], weight: impl Fn(usize) -> u64) -> u64 {
    spans.iter().map(|span| INLINE_RULE + inline_cost(weight(span.rule))).fold(0, u64::saturating_add)
}

/// A number for a rule. Sums of different rules practically always differ (splitmix64, twice).
fn tag(rule: usize) -> u128 {
    let mixed = |seed: u64| {
        let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    let number = count(rule).wrapping_mul(2).wrapping_add(1);
    mixed(number) << 64 | mixed(number.wrapping_add(1))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
