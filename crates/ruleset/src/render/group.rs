//! The chain of a group: returns what the union of its policies allows, and drops the rest.
//!
//! Rules test the port first and the peers second: a mismatch at the port costs a quarter of one at a set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_policy::Pulse;
use palisade_policy::compile::{
    AddressRange, Allowed, AllowedPorts, Block, Covers, Group, PeerSelector, PeerUnion, PortRange, Sources,
};
use palisade_policy::input::{Direction, Family, Protocol};

use super::Options;
use super::drops::drop_chain;
use super::names::{Names, SetIdentity, SetKey, group_comment};
use super::parts::{UNTRACKED, commented, is_family, reaches_itself, states};
use super::words;
use crate::model::{Chain, Element, Expression, Key, KeyType, L4, Load, Rule, Set, SetKind, Test, Verdict};
use crate::name::{Name, comment};
use crate::text;

/// Up to this number, one rule per peer selector; beyond it, one merged set.
const SELECTORS_INLINE: usize = 8;

/// Up to this number, one rule per piece of an ipBlock; beyond it, one interval set. Even a small interval set takes 16
/// KiB.
const BLOCKS_INLINE: usize = 8;

/// Up to this number, one rule per port range of a protocol; beyond it, one port map.
const PORTS_INLINE: usize = 8;

/// The objects of a group.
#[derive(Clone, Debug)]
pub(super) struct GroupObjects {
    /// The name of its chain.
    pub(super) chain_name: Name,
    /// Its chain.
    pub(super) chain: Chain,
    /// Chains and maps for its ports, named by their content: never changed, and shared with groups that need the same
    /// ones.
    pub(super) port_chains: BTreeMap<Name, Chain>,
    pub(super) port_maps: BTreeMap<Name, Set>,
    /// The shared sets it looks up.
    pub(super) sets: BTreeSet<SetKey>,
}

/// Renders one group.
pub(super) fn render_group(
    names: &mut Names,
    options: &Options,
    families: &[Family],
    pulse: &Pulse,
    group: &Group,
    allowed: &Allowed,
) -> GroupObjects {
    let objects = GroupObjects {
        chain_name: names.of_group(group),
        chain: Chain::default(),
        port_chains: BTreeMap::new(),
        port_maps: BTreeMap::new(),
        sets: BTreeSet::new(),
    };
    let namespace = match group {
        Group::Policies { namespace, .. } => namespace,
        Group::DuplicateIp(_) | Group::Held(_) => "",
    };
    let (direction, terms) = (group.direction(), Terms::Flow);
    let mut writer = Writer { names, families, pulse, namespace, direction, terms, objects, known: BTreeMap::new() };
    let mut rules = Vec::new();
    writer.allow_all(&mut rules, &[], allowed);
    if allowed.anything.anyone.is_empty() {
        if options.judge_untracked && group.direction() == Direction::Egress {
            writer.terms = Terms::Packet;
            writer.allow_all(&mut rules, &[states(UNTRACKED)], allowed);
        }
        writer.drop_rest(&mut rules, &words::of_end(group));
    }
    writer.objects.chain = Chain { hook: None, comment: Some(group_comment(group)), rules };
    writer.objects
}

/// The addresses and ports that rules compare with peers and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Terms {
    /// The packet's flow.
    Flow,
    /// The packet itself: for packets to the node without a flow, such as those to a DNS cache on the Service's IP
    /// (NodeLocal DNSCache). No pod has such an IP, so only ipBlocks and rules without peers matter.
    Packet,
}

/// A rule's tests of the peer, and its comment.
type PeerRule = (Vec<Expression>, String);

/// The union of peers that rules were written for, by its memory address: the union lives as long as the rendering.
type Known = BTreeMap<(*const PeerUnion, Terms, Family), Arc<[PeerRule]>>;

struct Writer<'a> {
    names: &'a mut Names,
    families: &'a [Family],
    pulse: &'a Pulse,
    namespace: &'a str,
    direction: Direction,
    terms: Terms,
    objects: GroupObjects,
    /// The rules already written for peers that several ports share.
    known: Known,
}

impl Writer<'_> {
    fn set(&mut self, identity: SetIdentity) -> Name {
        let key = SetKey::new(identity);
        let name = self.names.of_set(&key);
        self.objects.sets.insert(key);
        name
    }

    /// The last rules of a chain.
    fn drop_rest(&self, rules: &mut Vec<Rule>, text: &str) {
        rules.extend(self.families.iter().copied().map(reaches_itself));
        let drop = Expression::Verdict(Verdict::Goto(drop_chain(self.direction)));
        rules.push(commented([Expression::Counter, drop], text));
    }

    fn allow_all(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], allowed: &Allowed) {
        self.allow(rules, tests, &allowed.anything, &allowed.covers);
        if allowed.anything.anyone.is_empty() {
            for (protocol, ports) in &allowed.protocols {
                let is_protocol = Expression::Match(Load::L4Proto, Test::L4(L4::Transport(*protocol)));
                let tests: Vec<_> = tests.iter().cloned().chain([is_protocol]).collect();
                self.allow_ports(rules, &tests, *protocol, ports);
            }
        }
    }

    /// One protocol: first all its ports, then named ports, then port numbers, since a port map does not return.
    fn allow_ports(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], protocol: Protocol, ports: &AllowedPorts) {
        self.allow(rules, tests, &ports.all, &ports.covers);
        let with = |expression| tests.iter().cloned().chain([expression]).collect::<Vec<_>>();
        if self.terms == Terms::Packet {
            for range in ports.ranges.iter().chain(&ports.overlapping) {
                let port = Test::Range(range.first, range.last);
                let is_port = Expression::Match(Load::DestinationPort(protocol), port);
                self.allow(rules, &with(is_port), &range.peers, &range.covers);
            }
            return;
        }
        for (name, peers) in &ports.named {
            self.pulse.beat();
            let named_port = palisade_policy::compile::NamedPort { name: name.clone(), protocol };
            for family in self.families {
                let set = self.set(SetIdentity::NamedPort(named_port.clone(), *family));
                let lookup = Expression::Lookup(vec![Load::Server(*family), Load::ServerPort], set);
                self.allow_family(rules, &with(lookup), peers, ports.named_covers.get(name), *family);
            }
        }
        let inline = if ports.ranges.len() <= PORTS_INLINE { ports.ranges.as_slice() } else { &[] };
        for range in ports.overlapping.iter().chain(inline) {
            self.pulse.beat();
            let is_port = Expression::Match(Load::ServerPort, Test::Range(range.first, range.last));
            self.allow(rules, &with(is_port), &range.peers, &range.covers);
        }
        if ports.ranges.len() > PORTS_INLINE {
            let map = self.port_map(&ports.ranges);
            rules.push(Rule { expressions: with(Expression::Vmap(Load::ServerPort, map)), comment: None });
        }
    }

    /// A map from ports to chains that judge the peers and drop the rest. Ports with the same peers share a chain.
    fn port_map(&mut self, ranges: &[PortRange]) -> Name {
        let mut chains: BTreeMap<*const PeerUnion, Name> = BTreeMap::new();
        let mut elements = BTreeMap::new();
        for range in ranges {
            let known = chains.get(&Arc::as_ptr(&range.peers)).cloned();
            let chain = known.unwrap_or_else(|| self.port_chain(&range.peers));
            chains.insert(Arc::as_ptr(&range.peers), chain.clone());
            let element = Element { verdict: Some(Verdict::Goto(chain)), comment: None };
            elements.insert(Key::PortRange(range.first, range.last), element);
        }
        let name = self.names.of_content("ports", text::elements(&elements));
        let text = "server port to the chain of its peers".to_owned();
        let (kind, key) = (SetKind::VerdictMap, KeyType::Port);
        let map = Set { kind, key, interval: true, comment: Some(text), elements };
        self.objects.port_maps.insert(name.clone(), map);
        name
    }

    fn port_chain(&mut self, peers: &Arc<PeerUnion>) -> Name {
        self.pulse.beat();
        let mut rules = Vec::new();
        self.allow(&mut rules, &[], peers, &Covers::default());
        if peers.anyone.is_empty() {
            self.drop_rest(&mut rules, "no other peer is allowed on this port");
        }
        let name = self.names.of_content(&format!("ports/{}", self.direction), text::rules(&rules));
        let text = "peers of the ports that a map sends here".to_owned();
        self.objects.port_chains.insert(name.clone(), Chain { rules, comment: Some(text), hook: None });
        name
    }

    /// Rules that allow packets of `peers` that pass `tests`.
    fn allow(&mut self, rules: &mut Vec<Rule>, tests: &[Expression], peers: &Arc<PeerUnion>, covers: &Covers) {
        if !peers.anyone.is_empty() {
            rules.push(rule(tests, &[], words::of_sources(self.namespace, &peers.anyone, Some(covers))));
            return;
        }
        for family in self.families {
            self.allow_family(rules, tests, peers, None, *family);
        }
    }

    fn allow_family(
        &mut self,
        rules: &mut Vec<Rule>,
        tests: &[Expression],
        peers: &Arc<PeerUnion>,
        covers: Option<&Covers>,
        family: Family,
    ) {
        if !peers.anyone.is_empty() {
            rules.push(rule(tests, &[], words::of_sources(self.namespace, &peers.anyone, covers)));
            return;
        }
        let key = (Arc::as_ptr(peers), self.terms, family);
        let known = self.known.get(&key).cloned();
        let peer_rules = known.unwrap_or_else(|| {
            let written: Arc<[PeerRule]> = self.peer_rules(peers, family).into();
            self.known.insert(key, written.clone());
            written
        });
        rules.extend(peer_rules.iter().map(|(test, comment)| rule(tests, test, comment.clone())));
    }

    /// The rules for peers of a family, without the tests of ports.
    fn peer_rules(&mut self, peers: &PeerUnion, family: Family) -> Vec<PeerRule> {
        let mut rules = Vec::new();
        if self.terms == Terms::Flow {
            for (selectors, sources) in peer_sets(peers) {
                let set = self.set(SetIdentity::Pods(selectors, family));
                rules.push((self.is_peer(family, Test::In(set)), self.from(&sources)));
            }
        }
        let blocks = || peers.blocks.iter().map(|(ranges, block)| (of_family(ranges, family), ranges, block));
        if blocks().map(|(of_family, ..)| of_family.count()).sum::<usize>() <= BLOCKS_INLINE {
            for (of_family, ranges, block) in blocks() {
                let text = self.of_block(ranges, block);
                rules.extend(of_family.map(|range| (self.is_in(range), text.clone())));
            }
        } else {
            let merged = AddressRange::merge(blocks().flat_map(|(of_family, ..)| of_family));
            let sources = united(peers.blocks.values().map(|block| &block.sources));
            let test = if let [range] = merged.as_slice() {
                self.is_in(*range)
            } else {
                let set = self.set(SetIdentity::Blocks(merged, family));
                self.is_peer(family, Test::In(set))
            };
            rules.push((test, self.from(&sources)));
        }
        rules
    }

    /// The sources, as the comment of a rule.
    fn from(&self, sources: &Sources) -> String {
        words::of_sources(self.namespace, sources, None)
    }

    /// The sources of a block, and the first `except` that narrows it.
    fn of_block(&self, ranges: &[AddressRange], block: &Block) -> String {
        let sources = self.from(&block.sources);
        let holes = AddressRange::of_net(block.cidr).without(ranges.iter().copied());
        let Some(first) = holes.first() else { return sources };
        let more = if holes.len() > 1 { format!(" +{}", holes.len() - 1) } else { String::new() };
        comment(&format!("{sources}, {} except {first}{more}", block.cidr.trunc()))
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
            // Every address of a family: the kernel cannot compare zero bits.
            Some(net) if net.prefix_len() == 0 => vec![is_family(family)],
            Some(net) => self.is_peer(family, Test::Prefix(net)),
            None => self.is_peer(family, Test::AddressRange(range.first, range.last)),
        }
    }
}

/// A rule that allows: it returns, because the ingress map still judges the packet after egress, and both chains judge
/// it while an element moves from one to the other.
fn rule(tests: &[Expression], more: &[Expression], comment: String) -> Rule {
    let expressions = tests.iter().chain(more).cloned().chain([Expression::Verdict(Verdict::Return)]);
    Rule { expressions: expressions.collect(), comment: Some(comment) }
}

/// The selectors of `peers` by their set: one set each if they are few, one for all if they are many.
fn peer_sets(peers: &PeerUnion) -> Vec<(Vec<Arc<PeerSelector>>, Sources)> {
    if peers.pods.len() <= SELECTORS_INLINE {
        return peers.pods.iter().map(|(selector, sources)| (vec![selector.clone()], sources.clone())).collect();
    }
    vec![(peers.pods.keys().cloned().collect(), united(peers.pods.values()))]
}

/// All these sources, without repetition.
fn united<'a>(sources: impl Iterator<Item = &'a Sources>) -> Sources {
    let mut all = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for sources in sources.filter(|sources| seen.insert(Arc::as_ptr(sources))) {
        all.extend(sources.iter().cloned());
    }
    Arc::new(all)
}

fn of_family(ranges: &[AddressRange], family: Family) -> impl Iterator<Item = AddressRange> {
    ranges.iter().copied().filter(move |range| range.family() == family)
}
