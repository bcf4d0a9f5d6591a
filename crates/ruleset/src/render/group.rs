//! The chain of a group: what the union of its policies allows, then drop.
//!
//! Rules test the port first and the peers second: a rule missed at the port costs a quarter of one missed at a set.

use std::collections::{BTreeMap, BTreeSet};

use palisade_policy::compile::{AddressRange, Allowed, AllowedPorts, Group, PeerUnion, PortRange, Sources};
use palisade_policy::input::{Direction, Family, Protocol};

use super::Options;
use super::base::{drop_chain, is_family};
use super::names::{Names, SetIdentity, group_comment};
use crate::model::{Chain, CtStates, Element, Expression, Key, KeyType, L4, Load, Rule, Set, SetKind, Test, Verdict};
use crate::name::{Name, comment};

/// One rule per peer selector up to here, one merged set beyond.
const SELECTORS_INLINE: usize = 8;

/// One rule per piece of an ipBlock up to here, one interval set beyond: an interval set holds 16 KiB, however small.
const BLOCKS_INLINE: usize = 8;

/// One rule per port range of a protocol up to here, one port map beyond.
const PORTS_INLINE: usize = 8;

/// How many source rules a comment names before it only counts.
const SOURCES_NAMED: usize = 3;

/// The objects that a group brings.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupObjects {
    /// The name of its chain.
    pub(super) chain_name: Option<Name>,
    /// Its chain.
    pub(super) chain: Chain,
    /// Chains and maps for its ports, named by their content: never changed, shared with groups that need the same.
    pub(super) port_chains: BTreeMap<Name, Chain>,
    pub(super) port_maps: BTreeMap<Name, Set>,
    /// The shared sets it looks up.
    pub(super) sets: BTreeSet<SetIdentity>,
}

/// Renders one group.
pub(super) fn render_group(
    names: &mut Names,
    options: &Options,
    families: &[Family],
    group: &Group,
    allowed: &Allowed,
) -> GroupObjects {
    let objects = GroupObjects { chain_name: Some(names.of_group(group)), ..GroupObjects::default() };
    let mut writer = Writer { names, families, direction: group.direction(), terms: Terms::Flow, objects };
    let mut rules = Vec::new();
    writer.allow_all(&mut rules, &[], allowed);
    if allowed.anything.anyone.is_empty() {
        if options.judge_untracked && group.direction() == Direction::Egress {
            writer.terms = Terms::Packet;
            let untracked = CtStates { untracked: true, ..CtStates::default() };
            writer.allow_all(&mut rules, &[Expression::Match(Load::CtState, Test::States(untracked))], allowed);
        }
        rules.push(end(group.direction()));
    }
    writer.objects.chain = Chain { hook: None, comment: Some(group_comment(group)), rules };
    writer.objects
}

/// The last rule of a group's chain.
fn end(direction: Direction) -> Rule {
    let goto = Expression::Verdict(Verdict::Goto(drop_chain(direction.name())));
    Rule { expressions: vec![Expression::Counter, goto], comment: None }
}

/// What rules compare peers and ports with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terms {
    /// The packet's flow.
    Flow,
    /// The packet itself: for packets to the node that no flow is known of, as those to a DNS cache that takes the address of
    /// the Service (NodeLocal DNSCache). Such an address is no pod's, so only ipBlocks and rules without peers matter.
    Packet,
}

struct Writer<'a> {
    names: &'a mut Names,
    families: &'a [Family],
    direction: Direction,
    terms: Terms,
    objects: GroupObjects,
}

impl Writer<'_> {
    fn set(&mut self, identity: SetIdentity) -> Name {
        let name = self.names.of_set(&identity);
        self.objects.sets.insert(identity);
        name
    }

    fn allow_all(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], allowed: &Allowed) {
        self.allow(rules, tests, &allowed.anything);
        if allowed.anything.anyone.is_empty() {
            for (protocol, ports) in &allowed.protocols {
                let is_protocol = Expression::Match(Load::L4Proto, Test::L4(L4::Transport(*protocol)));
                let tests: Vec<_> = tests.iter().cloned().chain([is_protocol]).collect();
                self.allow_ports(rules, &tests, *protocol, ports);
            }
        }
    }

    /// One protocol: first what holds for all its ports, then named ports, then numbers, which may lead away for good.
    fn allow_ports(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], protocol: Protocol, ports: &AllowedPorts) {
        self.allow(rules, tests, &ports.all);
        let with = |expression| tests.iter().cloned().chain([expression]).collect::<Vec<_>>();
        if self.terms == Terms::Packet {
            for range in &ports.ranges {
                let port = Test::Range(range.first, range.last);
                self.allow(rules, &with(Expression::Match(Load::DestinationPort(protocol), port)), &range.peers);
            }
            return;
        }
        for (name, peers) in &ports.named {
            let named_port = palisade_policy::compile::NamedPort { name: name.clone(), protocol };
            for family in self.families {
                let set = self.set(SetIdentity::NamedPort(named_port.clone(), *family));
                let lookup = Expression::Lookup(vec![Load::Server(*family), Load::ServerPort], set);
                self.allow_family(rules, &with(lookup), peers, *family);
            }
        }
        if ports.ranges.len() <= PORTS_INLINE {
            for range in &ports.ranges {
                let is_port = Expression::Match(Load::ServerPort, Test::Range(range.first, range.last));
                self.allow(rules, &with(is_port), &range.peers);
            }
        } else {
            let map = self.port_map(&ports.ranges);
            rules.push(Rule { expressions: with(Expression::Vmap(Load::ServerPort, map)), comment: None });
        }
    }

    /// A map from ports to chains that judge the peers and end in their own drop.
    fn port_map(&mut self, ranges: &[PortRange]) -> Name {
        let mut elements = BTreeMap::new();
        for range in ranges {
            let mut rules = Vec::new();
            self.allow(&mut rules, &[], &range.peers);
            if range.peers.anyone.is_empty() {
                rules.push(end(self.direction));
            }
            let content = format!("port chain {:?} {rules:?}", self.direction);
            let chain = self.names.of_content(&format!("ports/{}", self.direction), content);
            self.objects.port_chains.insert(chain.clone(), Chain { rules, ..Chain::default() });
            let element = Element { verdict: Some(Verdict::Goto(chain)), comment: None };
            elements.insert(Key::PortRange(range.first, range.last), element);
        }
        let name = self.names.of_content("ports", format!("port map {elements:?}"));
        let map = Set { kind: SetKind::VerdictMap, key: KeyType::Port, interval: true, comment: None, elements };
        self.objects.port_maps.insert(name.clone(), map);
        name
    }

    /// Rules that allow `peers` what `tests` say.
    fn allow(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], peers: &PeerUnion) {
        if !peers.anyone.is_empty() {
            rules.push(rule(tests, Vec::new(), &peers.anyone));
            return;
        }
        for family in self.families {
            self.allow_family(rules, tests, peers, *family);
        }
    }

    fn allow_family(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], peers: &PeerUnion, family: Family) {
        if !peers.anyone.is_empty() {
            rules.push(rule(tests, Vec::new(), &peers.anyone));
            return;
        }
        if self.terms == Terms::Flow {
            for (selectors, sources) in peer_sets(peers) {
                let set = self.set(SetIdentity::Pods(selectors, family));
                rules.push(rule(tests, self.is_peer(family, Test::In(set)), &sources));
            }
        }
        let blocks = || peers.blocks.iter().map(|(ranges, sources)| (of_family(ranges, family), sources));
        if blocks().map(|(ranges, _)| ranges.len()).sum::<usize>() <= BLOCKS_INLINE {
            for (ranges, sources) in blocks() {
                for range in ranges {
                    rules.push(rule(tests, self.is_in(range), sources));
                }
            }
        } else {
            let merged = AddressRange::merge(blocks().flat_map(|(ranges, _)| ranges));
            let sources: Sources = blocks().flat_map(|(_, sources)| sources.iter().cloned()).collect();
            let test = if let [range] = merged.as_slice() {
                self.is_in(*range)
            } else {
                let set = self.set(SetIdentity::Blocks(merged, family));
                self.is_peer(family, Test::In(set))
            };
            rules.push(rule(tests, test, &sources));
        }
    }

    fn is_peer(&self, family: Family, test: Test) -> Vec<Expression> {
        match self.terms {
            Terms::Flow => vec![Expression::Match(Load::peer(self.direction, family), test)],
            Terms::Packet => vec![is_family(family), Expression::Match(Load::PacketDestination(family), test)],
        }
    }

    fn is_in(&self, range: AddressRange) -> Vec<Expression> {
        let family = range.family();
        match range.as_net() {
            // Every address of a family: the kernel has no compare of zero bits.
            Some(net) if net.prefix_len() == 0 => vec![is_family(family)],
            Some(net) => self.is_peer(family, Test::Prefix(net)),
            None => self.is_peer(family, Test::AddressRange(range.first, range.last)),
        }
    }
}

/// An allowed flow returns: after egress the ingress map still judges it, and while an element is on its way from one
/// chain to another both judge it.
fn rule(tests: &[Expression], more: Vec<Expression>, sources: &Sources) -> Rule {
    let mut expressions = tests.to_vec();
    expressions.extend(more);
    expressions.push(Expression::Verdict(Verdict::Return));
    Rule { expressions, comment: Some(describe(sources)) }
}

/// The selectors of `peers` by the set that stands for them: one each while they are few, all in one when they are many.
fn peer_sets(peers: &PeerUnion) -> Vec<(Vec<palisade_policy::compile::PeerSelector>, Sources)> {
    if peers.pods.len() <= SELECTORS_INLINE {
        return peers.pods.iter().map(|(selector, sources)| (vec![selector.clone()], sources.clone())).collect();
    }
    let sources = peers.pods.values().flatten().cloned().collect();
    vec![(peers.pods.keys().cloned().collect(), sources)]
}

fn of_family(ranges: &[AddressRange], family: Family) -> Vec<AddressRange> {
    ranges.iter().copied().filter(|range| range.family() == family).collect()
}

/// The rules that something comes from, the first few by name.
fn describe(sources: &Sources) -> String {
    let named: Vec<_> = sources.iter().take(SOURCES_NAMED).map(ToString::to_string).collect();
    let more = sources.len().saturating_sub(SOURCES_NAMED);
    let rest = if more > 0 { format!(" +{more}") } else { String::new() };
    comment(&format!("{}{rest}", named.join(", ")))
}
