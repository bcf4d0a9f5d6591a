//! Compiles the rules of policies into their union.
//!
//! The peers of a rule are resolved once and shared by all its ports; ports with the same rules share one union.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::covers::Ports as Covered;
use super::{
    Allowed, AllowedPorts, Block, Covers, PeerSelector, PeerUnion, PortRange, RuleRef, Sources, ranges_of_block,
};
use crate::Pulse;
use crate::input::{
    Direction, NamespacedName, Peer, Peers, Policy, Port, PortSpan, Ports, Protocol, split_cost, whole_cost,
};

/// Ranges are split if that costs at most this many times the cost of the unsplit ranges, plus this many units.
const SPLIT_FACTOR: u64 = 2;
const SPLIT_UNITS: u64 = 16_384;

/// The resolved peers of policies' rules, shared by all groups that a policy is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved(BTreeMap<(NamespacedName, Direction), Arc<[Arc<PeerUnion>]>>);

impl Resolved {
    /// The peers of each rule.
    fn of(&mut self, policy: &Policy, direction: Direction) -> Arc<[Arc<PeerUnion>]> {
        let entry = self.0.entry((policy.key.clone(), direction));
        let resolve_all = || {
            let rules = policy.rules(direction).iter().enumerate();
            let peers = rules.map(|(index, rule)| {
                let source = RuleRef { policy: policy.key.name.clone(), direction, index };
                Arc::new(resolve(&rule.peers, &policy.key.namespace, source))
            });
            peers.collect()
        };
        entry.or_insert_with(resolve_all).clone()
    }

    /// A policy changed, or is no longer in any group.
    pub(crate) fn forget(&mut self, policy: &NamespacedName) {
        for direction in Direction::ALL {
            self.0.remove(&(policy.clone(), direction));
        }
    }
}

/// The union of the policies of one namespace in one direction.
pub fn compile<'a>(direction: Direction, policies: impl IntoIterator<Item = &'a Policy>) -> Allowed {
    compile_resolved(direction, policies, &mut Resolved::default(), &Pulse::default())
}

/// Like `compile`, with already resolved peers.
pub(crate) fn compile_resolved<'a>(
    direction: Direction,
    policies: impl IntoIterator<Item = &'a Policy>,
    resolved: &mut Resolved,
    pulse: &Pulse,
) -> Allowed {
    let (mut rules, mut uses) = (Rules::default(), Uses::default());
    for policy in policies {
        pulse.beat();
        for (rule, peers) in policy.rules(direction).iter().zip(resolved.of(policy, direction).iter()) {
            if !peers.is_empty() {
                uses.add(&rule.ports, rules.push(peers.clone()));
            }
        }
    }
    uses.compile(&mut rules, pulse)
}

fn resolve(peers: &Peers, own: &Arc<str>, source: RuleRef) -> PeerUnion {
    let sources: Sources = Arc::new(BTreeSet::from([source]));
    let mut union = PeerUnion::default();
    let Peers::Of(peers) = peers else {
        union.anyone = sources;
        return union;
    };
    for peer in peers {
        match peer {
            Peer::Pods { namespaces, pods } => {
                union.pods.insert(Arc::new(PeerSelector::of(namespaces, pods, own)), sources.clone());
            }
            Peer::IpBlock(block) => {
                let ranges = ranges_of_block(block);
                if !ranges.is_empty() {
                    union.blocks.insert(ranges.into(), Block { sources: sources.clone(), cidr: block.cidr });
                }
            }
            Peer::Unmatchable => {}
        }
    }
    union
}

/// The peers of each rule that has any, by number, and the unions made of them.
#[derive(Default)]
struct Rules {
    peers: Vec<Arc<PeerUnion>>,
    unions: BTreeMap<Vec<usize>, Arc<PeerUnion>>,
}

impl Rules {
    fn push(&mut self, peers: Arc<PeerUnion>) -> usize {
        self.peers.push(peers);
        self.peers.len() - 1
    }

    fn is_for_anyone(&self, rule: usize) -> bool {
        self.peers.get(rule).is_some_and(|peers| !peers.anyone.is_empty())
    }

    /// The rules that determine the union: if some allow any peer, only they.
    fn deciding(&self, rules: impl Iterator<Item = usize> + Clone) -> Vec<usize> {
        let anyone: Vec<_> = rules.clone().filter(|rule| self.is_for_anyone(*rule)).collect();
        if anyone.is_empty() { rules.collect() } else { anyone }
    }

    /// The union of rules; equal sets of rules share one.
    fn union(&mut self, rules: &[usize]) -> Arc<PeerUnion> {
        if let [rule] = rules
            && let Some(peers) = self.peers.get(*rule)
        {
            return peers.clone();
        }
        if let Some(union) = self.unions.get(rules) {
            return union.clone();
        }
        let mut union = PeerUnion::default();
        rules.iter().filter_map(|rule| self.peers.get(*rule)).for_each(|peers| union.add(peers));
        let union = Arc::new(union);
        self.unions.insert(rules.to_vec(), union.clone());
        union
    }

    fn union_of(&mut self, rules: &BTreeSet<usize>) -> Arc<PeerUnion> {
        let rules = self.deciding(rules.iter().copied());
        self.union(&rules)
    }

    /// If `union` is for any peer, adds the rules that it covers.
    fn cover(&self, union: &PeerUnion, rules: impl Iterator<Item = usize>, ports: &Covered, covers: &mut Covers) {
        if union.anyone.is_empty() {
            return;
        }
        // Everything in the peers of one rule comes from that rule.
        let sources = rules.filter_map(|rule| self.peers.get(rule)?.sources().find_map(|sources| sources.first()));
        for source in sources.filter(|source| !union.anyone.contains(source)) {
            covers.add(source, ports.clone());
        }
    }

    fn weight(&self, rule: usize) -> u64 {
        let size = self.peers.get(rule).map_or(0, |peers| 1 + peers.pods.len() + peers.blocks.len());
        u64::try_from(size).unwrap_or(u64::MAX)
    }
}

/// The rules of ports, by number.
#[derive(Default)]
struct Uses {
    anything: BTreeSet<usize>,
    all: BTreeMap<Protocol, BTreeSet<usize>>,
    named: BTreeMap<Protocol, BTreeMap<Arc<str>, BTreeSet<usize>>>,
    spans: BTreeMap<Protocol, Vec<PortSpan>>,
}

impl Uses {
    fn add(&mut self, ports: &Ports, rule: usize) {
        let Ports::Of(ports) = ports else {
            self.anything.insert(rule);
            return;
        };
        for port in ports {
            match port {
                Port::All(protocol) => drop(self.all.entry(*protocol).or_default().insert(rule)),
                Port::Named { protocol, name } => {
                    let named = self.named.entry(*protocol).or_default();
                    named.entry(name.clone()).or_default().insert(rule);
                }
                Port::Range { protocol, first, last } if first <= last => {
                    let span = PortSpan { rule, first: *first, last: *last };
                    self.spans.entry(*protocol).or_default().push(span);
                }
                Port::Range { .. } | Port::Unmatchable => {}
            }
        }
    }

    /// Removes terms that a rule for any peer already covers; they would only lengthen chains and keep needless sets.
    fn compile(&self, rules: &mut Rules, pulse: &Pulse) -> Allowed {
        let mut allowed = Allowed { anything: rules.union_of(&self.anything), ..Allowed::default() };
        if !allowed.anything.anyone.is_empty() {
            let union = &allowed.anything;
            rules.cover(union, self.anything.iter().copied(), &Covered::Same, &mut allowed.covers);
            for protocol in Protocol::ALL {
                self.cover_protocol(rules, protocol, union, &Covered::Protocol(protocol), &mut allowed.covers);
            }
            return allowed;
        }
        for protocol in Protocol::ALL {
            let mut ports = AllowedPorts::default();
            if let Some(all) = self.all.get(&protocol) {
                ports.all = rules.union_of(all);
                self.cover_protocol(rules, protocol, &ports.all, &Covered::Same, &mut ports.covers);
            }
            if ports.all.anyone.is_empty() {
                for (name, users) in self.named.get(&protocol).into_iter().flatten() {
                    let (union, mut covers) = (rules.union_of(users), Covers::default());
                    rules.cover(&union, users.iter().copied(), &Covered::Same, &mut covers);
                    ports.named.insert(name.clone(), union);
                    if !covers.is_empty() {
                        ports.named_covers.insert(name.clone(), covers);
                    }
                }
                let spans = self.spans.get(&protocol).map(Vec::as_slice).unwrap_or_default();
                if may_be_split(spans, rules) {
                    ports.ranges = disjoint(spans, rules, pulse);
                } else {
                    ports.overlapping = whole(spans, rules);
                }
            }
            if ports != AllowedPorts::default() {
                allowed.protocols.insert(protocol, ports);
            }
        }
        allowed
    }

    /// If `union`, which may use all ports of a protocol, is for any peer, adds the protocol's rules that it covers;
    /// `all` describes the ports of rules for all ports.
    fn cover_protocol(&self, rules: &Rules, protocol: Protocol, union: &PeerUnion, all: &Covered, covers: &mut Covers) {
        if union.anyone.is_empty() {
            return;
        }
        rules.cover(union, self.all.get(&protocol).into_iter().flatten().copied(), all, covers);
        for (name, users) in self.named.get(&protocol).into_iter().flatten() {
            rules.cover(union, users.iter().copied(), &Covered::Named(name.clone()), covers);
        }
        for span in self.spans.get(&protocol).into_iter().flatten() {
            rules.cover(union, std::iter::once(span.rule), &Covered::Range(span.first, span.last), covers);
        }
    }
}

fn may_be_split(spans: &[PortSpan], rules: &Rules) -> bool {
    let weight = |rule| rules.weight(rule);
    split_cost(spans, weight) <= whole_cost(spans, weight).saturating_mul(SPLIT_FACTOR).saturating_add(SPLIT_UNITS)
}

/// Splits overlapping ranges at their edges, unites the peers of each piece, and joins neighbours with equal peers.
fn disjoint(spans: &[PortSpan], rules: &mut Rules, pulse: &Pulse) -> Vec<PortRange> {
    // The rules that begin and end at each edge; ends are exclusive, so 65,536 may be one.
    let mut edges: BTreeMap<u32, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for span in spans {
        edges.entry(u32::from(span.first)).or_default().0.push(span.rule);
        edges.entry(u32::from(span.last) + 1).or_default().1.push(span.rule);
    }
    let mut pieces: Vec<PortRange> = Vec::new();
    // The number of open ranges of each rule.
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    let mut from = 0;
    for (edge, (begins, ends)) in edges {
        pulse.beat();
        let (first, last) = (u16::try_from(from), u16::try_from(edge.saturating_sub(1)));
        if let (false, Ok(first), Ok(last)) = (open.is_empty(), first, last) {
            let matter = rules.deciding(open.keys().copied());
            let peers = rules.union(&matter);
            let mut covers = Covers::default();
            rules.cover(&peers, open.keys().copied(), &Covered::Range(first, last), &mut covers);
            match pieces.last_mut() {
                // A union names its rules, so unions are equal exactly if their rules are.
                Some(previous)
                    if previous.last.checked_add(1) == Some(first) && Arc::ptr_eq(&previous.peers, &peers) =>
                {
                    previous.last = last;
                    previous.covers.extend(covers);
                }
                _ => pieces.push(PortRange { first, last, peers, covers }),
            }
        }
        for rule in begins {
            *open.entry(rule).or_default() += 1;
        }
        for rule in ends {
            if let Some(count) = open.get_mut(&rule) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&rule);
                }
            }
        }
        from = edge;
    }
    pieces
}

/// The ranges unsplit; touching ranges of one rule are joined.
fn whole(spans: &[PortSpan], rules: &Rules) -> Vec<PortRange> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<PortSpan> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match joined.last_mut() {
            Some(previous) if previous.rule == span.rule && span.first <= previous.last.saturating_add(1) => {
                previous.last = previous.last.max(span.last);
            }
            _ => joined.push(span),
        }
    }
    let range = |span: PortSpan| {
        let peers = rules.peers.get(span.rule)?.clone();
        Some(PortRange { first: span.first, last: span.last, peers, covers: Covers::default() })
    };
    joined.into_iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests;
