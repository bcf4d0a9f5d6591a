//! Expressions in nft's words.

use std::fmt;

use palisade_policy::input::{Family, Protocol};

use crate::model::{CtStates, Expression, L4, Load, MarkBits, PacketType, Test, Verdict};

/// An expression as nft prints it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelled<'a>(pub(crate) &'a Expression);

/// The expressions that are printed: all except a test of family or protocol directly before the expression that
/// implies it. nft omits such a test in listings, and adds it when it loads.
pub(crate) fn spelled(expressions: &[Expression]) -> impl Iterator<Item = Spelled<'_>> {
    let is_spelled = |position: &usize| {
        let rest = expressions.get(*position..).unwrap_or_default();
        !matches!(rest, [test, next, ..] if implies(next, test))
            && !matches!(rest, [test, middle, next, ..] if implies(next, test) && implies(next, middle))
    };
    let positions = (0..expressions.len()).filter(is_spelled);
    positions.filter_map(|position| expressions.get(position)).map(Spelled)
}

/// Whether `expression` cannot be written without nft testing `test` before it.
fn implies(expression: &Expression, test: &Expression) -> bool {
    let load = match expression {
        Expression::Match(load, _) | Expression::Vmap(load, _) => *load,
        _ => return false,
    };
    let family =
        |wanted: Family| matches!(test, Expression::Match(Load::Nfproto, Test::Family(found)) if *found == wanted);
    let protocol = |wanted: L4| matches!(test, Expression::Match(Load::L4Proto, Test::L4(found)) if *found == wanted);
    match load {
        Load::PacketSource(wanted) | Load::PacketDestination(wanted) => family(wanted),
        Load::HopLimit => family(Family::V6),
        Load::Icmpv6Type => family(Family::V6) || protocol(L4::Icmpv6),
        Load::DestinationPort(wanted) => protocol(L4::Transport(wanted)),
        Load::TcpFlags => protocol(L4::Transport(Protocol::Tcp)),
        _ => false,
    }
}

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match(Load::TcpFlags, Test::MidStream) => f.write_str("tcp flags & (fin | syn | rst | ack) == ack"),
            Self::Match(Load::Icmpv6Type, Test::Range(first, last)) if first == last => {
                write!(f, "icmpv6 type ")?;
                match icmpv6_name(*first) {
                    Some(name) => f.write_str(name),
                    None => first.fmt(f),
                }
            }
            Self::Match(load, test) => write!(f, "{load} {test}"),
            Self::Lookup(loads, set) => {
                let loads: Vec<_> = loads.iter().map(Load::to_string).collect();
                write!(f, "{} @{set}", loads.join(" . "))
            }
            Self::Vmap(load, map) => write!(f, "{load} vmap @{map}"),
            Self::Counter => f.write_str("counter"),
            Self::CountIn(name) => write!(f, "counter name \"{name}\""),
            // As nft lists what it stores: (mark & mask) ^ value.
            Self::SetMark(bits) if bits.mask == bits.value => write!(f, "ct mark set ct mark | {:#010x}", bits.value),
            Self::SetMark(bits) => {
                write!(f, "ct mark set ct mark & {:#010x} | {:#010x}", !bits.mask | bits.value, bits.value)
            }
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family: &Family| match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        match self {
            Self::Nfproto => f.write_str("meta nfproto"),
            Self::L4Proto => f.write_str("meta l4proto"),
            Self::InputInterface => f.write_str("iifname"),
            Self::PacketType => f.write_str("meta pkttype"),
            Self::SourceType => f.write_str("fib saddr type"),
            Self::DestinationType => f.write_str("fib daddr type"),
            Self::CtState => f.write_str("ct state"),
            Self::CtMark => f.write_str("ct mark"),
            Self::Client(family) => write!(f, "ct original {} saddr", ip(family)),
            Self::Server(family) => write!(f, "ct reply {} saddr", ip(family)),
            Self::ServerPort => f.write_str("ct reply proto-src"),
            Self::OriginalSourcePort => f.write_str("ct original proto-src"),
            Self::OriginalDestinationPort => f.write_str("ct original proto-dst"),
            Self::PacketSource(family) => write!(f, "{} saddr", ip(family)),
            Self::PacketDestination(family) => write!(f, "{} daddr", ip(family)),
            Self::DestinationPort(protocol) => write!(f, "{} dport", protocol.name()),
            Self::HopLimit => f.write_str("ip6 hoplimit"),
            Self::Icmpv6Type => f.write_str("icmpv6 type"),
            Self::TcpFlags => f.write_str("tcp flags"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Prefix(net) => net.fmt(f),
            Self::AddressRange(first, last) => write!(f, "{first}-{last}"),
            Self::Range(first, last) if first == last => first.fmt(f),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Family(Family::V4) => f.write_str("ipv4"),
            Self::Family(Family::V6) => f.write_str("ipv6"),
            Self::L4(L4::Transport(protocol)) => f.write_str(protocol.name()),
            Self::L4(L4::Icmp) => f.write_str("icmp"),
            Self::L4(L4::Icmpv6) => f.write_str("ipv6-icmp"),
            Self::PacketType(PacketType::Unicast) => f.write_str("unicast"),
            Self::PacketType(PacketType::Broadcast) => f.write_str("broadcast"),
            Self::PacketType(PacketType::Multicast) => f.write_str("multicast"),
            Self::States(states) => states.fmt(f),
            Self::Mark(MarkBits { mask, value }) => match mask.leading_ones() {
                // As nft lists a mask that begins with the first bit.
                bits if bits == mask.count_ones() => write!(f, "{value:#010x}/{bits}"),
                _ => write!(f, "& {mask:#010x} == {value:#010x}"),
            },
            Self::MidStream => f.write_str("& (fin | syn | rst | ack) == ack"),
            Self::In(set) => write!(f, "@{set}"),
        }
    }
}

impl fmt::Display for CtStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.invalid, "invalid"),
            (self.established, "established"),
            (self.related, "related"),
            (self.new, "new"),
            (self.untracked, "untracked"),
        ];
        let names: Vec<_> = all.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// How nft 1.0.6 spells the ICMPv6 types that rules name.
fn icmpv6_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        130 => "mld-listener-query",
        131 => "mld-listener-report",
        132 => "mld-listener-done",
        133 => "nd-router-solicit",
        134 => "nd-router-advert",
        135 => "nd-neighbor-solicit",
        136 => "nd-neighbor-advert",
        137 => "nd-redirect",
        143 => "mld2-listener-report",
        _ => return None,
    })
}
