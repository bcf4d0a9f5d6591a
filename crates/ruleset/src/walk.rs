//! A packet's path through the model, as the kernel would take it.

mod packet;

pub use packet::{Flow, Packet, Segment};

use std::fmt;

use crate::model::{CtStates, Expression, Hook, Key, L4, Load, Rule, Ruleset, Set, Test, Verdict};
use crate::name::Name;

/// The fate of a packet in a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It continues to the next base chain.
    Accept,
    /// It is dropped.
    Drop,
}

/// A rule that the packet matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The chain.
    pub chain: Name,
    /// The rule's position in it.
    pub rule: usize,
    /// The rule's comment.
    pub comment: Option<String>,
    /// Its effect: its verdict, or that of the element it found.
    pub verdict: Option<Verdict>,
}

/// A packet's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The packet's fate.
    pub end: End,
    /// The rules that matched, in order.
    pub steps: Vec<Step>,
    /// The number of lookups in sets and maps.
    pub lookups: usize,
    /// The flow's `ct mark` after it; 0 without a flow.
    pub mark: u32,
}

/// A ruleset that no kernel would load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A rule names a missing chain.
    #[error("chain {chain} is not in the ruleset")]
    MissingChain {
        /// The chain.
        chain: Name,
    },
    /// A rule names a missing set or map.
    #[error("set {set} is not in the ruleset")]
    MissingSet {
        /// The set or map.
        set: Name,
    },
    /// Jumps nest deeper than the kernel allows (NFT_JUMP_STACK_SIZE).
    #[error("chain {chain} is reached by more than 16 jumps")]
    TooDeep {
        /// The chain.
        chain: Name,
    },
}

/// NFT_JUMP_STACK_SIZE.
const DEEPEST: usize = 16;

/// Walks a packet through the base chains of its hook. If there is none, it is accepted.
pub fn walk(ruleset: &Ruleset, packet: &Packet) -> Result<Walk, Invalid> {
    Walker::new(ruleset, None, packet).hook()
}

/// Walks a packet through one chain and those that it leads to. If it returns from the chain, it is accepted.
pub fn walk_chain(ruleset: &Ruleset, chain: &Name, packet: &Packet) -> Result<Walk, Invalid> {
    Walker::new(ruleset, None, packet).chain(chain)
}

/// The table that a packet in flight meets after some of its lookups.
#[derive(Clone, Copy, Debug)]
pub struct Later<'a> {
    /// The number of lookups before the change.
    pub lookups: usize,
    /// The chains that the packet enters from then on. The current one, and those that it came from, stay as they were.
    pub rules: &'a Ruleset,
    /// The contents of sets and maps from then on.
    pub elements: &'a Ruleset,
}

/// Walks a packet in flight while the table changes.
///
/// The kernel keeps the rules of two generations. A packet reads those of the generation it began with, even after one
/// batch; after two, chains that it enters have the rules of the second. Elements are looked up live.
pub fn walk_across(before: &Ruleset, later: Later<'_>, packet: &Packet) -> Result<Walk, Invalid> {
    Walker::new(before, Some(later), packet).hook()
}

struct Walker<'a> {
    ruleset: &'a Ruleset,
    later: Option<Later<'a>>,
    packet: &'a Packet,
    steps: Vec<Step>,
    lookups: usize,
    mark: u32,
}

/// A chain that a packet is in, with the rules at that time.
#[derive(Clone, Copy)]
struct Entered<'a> {
    name: &'a Name,
    rules: &'a [Rule],
}

/// The outcome of a rule.
enum Next {
    /// The next rule: this one did not match, or has no verdict.
    Rule,
    /// This verdict applies.
    Verdict(Verdict),
}

impl<'a> Walker<'a> {
    fn new(ruleset: &'a Ruleset, later: Option<Later<'a>>, packet: &'a Packet) -> Self {
        let mark = packet.flow.map_or(0, |flow| flow.mark);
        Self { ruleset, later, packet, steps: Vec::new(), lookups: 0, mark }
    }

    fn hook(mut self) -> Result<Walk, Invalid> {
        let mut end = End::Accept;
        for (name, chain) in &self.ruleset.chains {
            if chain.hook == Some(self.packet.hook) && end == End::Accept {
                end = self.base_chain(name)?;
            }
        }
        Ok(Walk { end, steps: self.steps, lookups: self.lookups, mark: self.mark })
    }

    fn chain(mut self, name: &'a Name) -> Result<Walk, Invalid> {
        let end = self.base_chain(name)?;
        Ok(Walk { end, steps: self.steps, lookups: self.lookups, mark: self.mark })
    }

    /// The kernel's loop (`nft_do_chain`): a jump keeps its position on a stack, a goto does not.
    fn base_chain(&mut self, base: &'a Name) -> Result<End, Invalid> {
        let mut stack: Vec<(Entered<'_>, usize)> = Vec::new();
        let (mut chain, mut position) = (self.enter(base)?, 0);
        loop {
            let Some(rule) = chain.rules.get(position) else {
                // The end of a chain: back to the last jump, or to the base chain's policy, which is accept.
                match stack.pop() {
                    Some((entered, next)) => (chain, position) = (entered, next),
                    None => return Ok(End::Accept),
                }
                continue;
            };
            let Next::Verdict(verdict) = self.rule(chain.name, position, rule)? else {
                position += 1;
                continue;
            };
            match verdict {
                Verdict::Accept => return Ok(End::Accept),
                Verdict::Drop => return Ok(End::Drop),
                Verdict::Return => match stack.pop() {
                    Some((entered, next)) => (chain, position) = (entered, next),
                    None => return Ok(End::Accept),
                },
                Verdict::Jump(target) => {
                    if stack.len() == DEEPEST {
                        return Err(Invalid::TooDeep { chain: target });
                    }
                    stack.push((chain, position + 1));
                    (chain, position) = (self.enter(&target)?, 0);
                }
                Verdict::Goto(target) => (chain, position) = (self.enter(&target)?, 0),
            }
        }
    }

    /// Applies the batches in between, if the packet has come that far.
    fn later(&self) -> Option<Later<'a>> {
        self.later.filter(|later| self.lookups >= later.lookups)
    }

    fn enter(&self, chain: &Name) -> Result<Entered<'a>, Invalid> {
        let later = self.later().and_then(|later| later.rules.chains.get_key_value(chain));
        let found = later.or_else(|| self.ruleset.chains.get_key_value(chain));
        let (name, chain) = found.ok_or_else(|| Invalid::MissingChain { chain: chain.clone() })?;
        Ok(Entered { name, rules: &chain.rules })
    }

    fn rule(&mut self, chain: &Name, position: usize, rule: &Rule) -> Result<Next, Invalid> {
        let mut verdict = None;
        for expression in &rule.expressions {
            match expression {
                Expression::Match(load, test) => {
                    if !self.passes(*load, test)? {
                        return Ok(Next::Rule);
                    }
                }
                Expression::Lookup(loads, set) => {
                    let elements = &self.set(set)?.elements;
                    if !packet::key(self.packet, loads).is_some_and(|key| elements.contains_key(&key)) {
                        return Ok(Next::Rule);
                    }
                }
                Expression::Vmap(load, map) => {
                    // In the kernel a lookup that finds nothing ends the rule.
                    match self.element(*load, map)? {
                        Some(found) => verdict = Some(found),
                        None => return Ok(Next::Rule),
                    }
                }
                Expression::Counter | Expression::CountIn(_) => {}
                // Without a flow the kernel writes nothing, and goes on.
                Expression::SetMark(bits) if self.packet.flow.is_some() => {
                    self.mark = self.mark & !bits.mask | bits.value;
                }
                Expression::SetMark(_) => {}
                Expression::Verdict(found) => verdict = Some(found.clone()),
            }
            if verdict.is_some() {
                break;
            }
        }
        let comment = rule.comment.clone();
        self.steps.push(Step { chain: chain.clone(), rule: position, comment, verdict: verdict.clone() });
        Ok(verdict.map_or(Next::Rule, Next::Verdict))
    }

    /// The set as this lookup finds it. A set that the batch deletes exists until no packet uses it.
    fn set(&mut self, name: &Name) -> Result<&'a Set, Invalid> {
        let later = self.later().and_then(|later| later.elements.sets.get(name));
        self.lookups += 1;
        let found = later.or_else(|| self.ruleset.sets.get(name));
        found.ok_or_else(|| Invalid::MissingSet { set: name.clone() })
    }

    fn element(&mut self, load: Load, map: &Name) -> Result<Option<Verdict>, Invalid> {
        let set = self.set(map)?;
        let found = match load.port(self.packet) {
            Some(port) if set.interval => set.elements.iter().find(|(key, _)| key.has_port(port)),
            _ => packet::key(self.packet, &[load]).and_then(|key| set.elements.get_key_value(&key)),
        };
        Ok(found.and_then(|(_, element)| element.verdict.clone()))
    }

    /// Whether a value passes a test. A value that cannot be loaded passes none.
    fn passes(&mut self, load: Load, test: &Test) -> Result<bool, Invalid> {
        let packet = self.packet;
        let address = load.address(packet);
        Ok(match test {
            Test::Prefix(net) => address.is_some_and(|address| net.contains(&address)),
            Test::AddressRange(first, last) => address.is_some_and(|address| *first <= address && address <= *last),
            Test::Range(first, last) => load.number(packet).is_some_and(|value| (*first..=*last).contains(&value)),
            Test::Family(family) => load == Load::Nfproto && packet.family() == *family,
            Test::L4(l4) => load == Load::L4Proto && packet.protocol == number_of(*l4),
            Test::PacketType(wanted) => match load {
                Load::PacketType => packet.frame_type == *wanted,
                Load::SourceType => packet.source_type == *wanted,
                Load::DestinationType => packet.destination_type == *wanted,
                _ => false,
            },
            Test::States(states) => load == Load::CtState && any_of(*states, packet.states),
            Test::Mark(bits) => load == Load::CtMark && packet.flow.is_some() && self.mark & bits.mask == bits.value,
            Test::MidStream => load == Load::TcpFlags && packet.segment == Some(Segment::Middle),
            Test::In(name) => {
                let set = self.set(name)?;
                match address {
                    Some(address) if set.interval => set.elements.keys().any(|key| key.has_address(address)),
                    _ => packet::key(packet, &[load]).is_some_and(|key| set.elements.contains_key(&key)),
                }
            }
        })
    }
}

impl Key {
    fn has_address(&self, address: std::net::IpAddr) -> bool {
        matches!(self, Self::AddressRange(first, last) if *first <= address && address <= *last)
    }

    fn has_port(&self, port: u16) -> bool {
        matches!(self, Self::PortRange(first, last) if *first <= port && port <= *last)
    }
}

fn any_of(wanted: CtStates, is: CtStates) -> bool {
    (wanted.invalid && is.invalid)
        || (wanted.established && is.established)
        || (wanted.related && is.related)
        || (wanted.new && is.new)
        || (wanted.untracked && is.untracked)
}

/// IANA's protocol number.
fn number_of(l4: L4) -> u8 {
    use palisade_policy::input::Protocol::{Sctp, Tcp, Udp};
    match l4 {
        L4::Icmp => 1,
        L4::Transport(Tcp) => 6,
        L4::Transport(Udp) => 17,
        L4::Icmpv6 => 58,
        L4::Transport(Sctp) => 132,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.chain, self.rule)?;
        if let Some(verdict) = &self.verdict {
            write!(f, ": {verdict}")?;
        }
        if let Some(comment) = &self.comment {
            write!(f, " ({comment})")?;
        }
        Ok(())
    }
}

impl Hook {
    /// Both hooks.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Input];
}
