//! Instructions to expressions.

use ipnet::IpNet;
use palisade_policy::input::{Family, Protocol};
use palisade_ruleset::model::{CtStates, Expression, L4, Load, MarkBits, PacketType, Test};
use palisade_ruleset::name::Name;

use super::constant::nft;
use super::instruction::Instruction;
use super::lower::{
    ACK_FLAG, REGISTER, STREAM_FLAGS, Value, address_type, family_number, load, lower, packet_type, protocol_number,
};
use super::value::{address_bytes, address_length, decode_address};

/// Everything that can be loaded. The instruction does not say which protocol a port belongs to.
const LOADS: [Load; 23] = [
    Load::Nfproto,
    Load::L4Proto,
    Load::InputInterface,
    Load::PacketType,
    Load::SourceType,
    Load::DestinationType,
    Load::CtState,
    Load::CtMark,
    Load::Client(Family::V4),
    Load::Client(Family::V6),
    Load::Server(Family::V4),
    Load::Server(Family::V6),
    Load::ServerPort,
    Load::OriginalSourcePort,
    Load::OriginalDestinationPort,
    Load::PacketSource(Family::V4),
    Load::PacketSource(Family::V6),
    Load::PacketDestination(Family::V4),
    Load::PacketDestination(Family::V6),
    Load::DestinationPort(Protocol::Tcp),
    Load::HopLimit,
    Load::Icmpv6Type,
    Load::TcpFlags,
];

/// The expressions of a rule. They must lower to what was read, so nothing is misread.
pub(super) fn lift(instructions: &[Instruction]) -> Result<Vec<Expression>, String> {
    let mut expressions = Vec::new();
    let mut rest = instructions;
    while !rest.is_empty() {
        let (mut expression, taken) =
            lift_first(rest).ok_or_else(|| format!("no meaning known for {:?}", rest.first()))?;
        if let Expression::Match(Load::DestinationPort(protocol), _) = &mut expression {
            *protocol = tested(&expressions).ok_or("a port of no protocol")?;
        }
        expressions.push(expression);
        rest = rest.get(taken..).unwrap_or_default();
    }
    match lower(&expressions) {
        Ok(again) if again == instructions => Ok(expressions),
        _ => Err("expressions that resemble ours but are not".to_owned()),
    }
}

/// The protocol that the rest of the rule tests.
fn tested(expressions: &[Expression]) -> Option<Protocol> {
    expressions.iter().rev().find_map(|expression| match expression {
        Expression::Match(Load::L4Proto, Test::L4(L4::Transport(protocol))) => Some(*protocol),
        _ => None,
    })
}

/// The first expression, and its number of instructions.
fn lift_first(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    match instructions.first()? {
        Instruction::Counter => Some((Expression::Counter, 1)),
        Instruction::Object { kind: nft::OBJECT_COUNTER, name } => Some((Expression::CountIn(Name::parse(name)?), 1)),
        Instruction::Immediate(verdict) => Some((Expression::Verdict(verdict.clone()), 1)),
        _ => lift_set_mark(instructions).or_else(|| lift_loaded(instructions)),
    }
}

fn lift_set_mark(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    let [first, Instruction::Bitwise { mask, xor, .. }, Instruction::SetCt { key: nft::CT_MARK, .. }, ..] =
        instructions
    else {
        return None;
    };
    let bits = MarkBits { mask: !word(mask)?, value: word(xor)? };
    (lift_load(first)? == Load::CtMark).then_some((Expression::SetMark(bits), 3))
}

/// An expression that starts with a load.
fn lift_loaded(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    let loads: Vec<_> = instructions.iter().map_while(lift_load).collect();
    let rest = instructions.get(loads.len()..)?;
    if let Some(Instruction::Lookup { set, verdict, .. }) = rest.first() {
        let set = Name::parse(set)?;
        let expression = match (loads.as_slice(), verdict) {
            ([load], true) => Expression::Vmap(*load, set),
            ([load], false) => Expression::Match(*load, Test::In(set)),
            (_, false) => Expression::Lookup(loads.clone(), set),
            (_, true) => return None,
        };
        return Some((expression, loads.len() + 1));
    }
    let [load] = loads.as_slice() else { return None };
    let (test, taken) = lift_test(*load, rest)?;
    Some((Expression::Match(*load, test), taken + 1))
}

/// The value that an instruction loads. It may load only a part of an IP in the packet (see `lower_prefix`).
fn lift_load(instruction: &Instruction) -> Option<Load> {
    LOADS.into_iter().find(|candidate| match (instruction, load(*candidate, REGISTER)) {
        (Instruction::Meta { key, .. }, Instruction::Meta { key: ours, .. }) => *key == ours,
        (Instruction::Ct { key, direction, .. }, Instruction::Ct { key: our_key, direction: our_direction, .. }) => {
            (*key, *direction) == (our_key, our_direction)
        }
        (
            Instruction::Payload { base, offset, .. },
            Instruction::Payload { base: our_base, offset: our_offset, .. },
        ) => (*base, *offset) == (our_base, our_offset),
        (Instruction::Fib { result, flags, .. }, Instruction::Fib { result: our_result, flags: our_flags, .. }) => {
            (*result, *flags) == (our_result, our_flags)
        }
        _ => false,
    })
}

/// The test that follows a load, and its number of instructions.
fn lift_test(load: Load, rest: &[Instruction]) -> Option<(Test, usize)> {
    match rest {
        [Instruction::Bitwise { mask, .. }, Instruction::Compare { value, .. }, ..] => {
            lift_masked(load, mask, value).map(|test| (test, 2))
        }
        [
            Instruction::Compare { operator: nft::CMP_GTE, value: first, .. },
            Instruction::Compare { operator: nft::CMP_LTE, value: last, .. },
            ..,
        ] => lift_range(load, first, last).map(|test| (test, 2)),
        [Instruction::Compare { operator: nft::CMP_EQ, value, .. }, ..] => {
            lift_equal(load, value).map(|test| (test, 1))
        }
        _ => None,
    }
}

fn lift_masked(load: Load, mask: &[u8], value: &[u8]) -> Option<Test> {
    match Value::of(load) {
        Value::Address(family) => {
            let address = decode_address(family, value)?;
            let mask = decode_address(family, mask)?;
            IpNet::with_netmask(address, mask).ok().map(Test::Prefix)
        }
        Value::States => {
            let bits = word(mask)?;
            let has = |bit| bits & bit != 0;
            Some(Test::States(CtStates {
                invalid: has(1),
                established: has(2),
                related: has(4),
                new: has(8),
                untracked: has(64),
            }))
        }
        Value::Mark => Some(Test::Mark(MarkBits { mask: word(mask)?, value: word(value)? })),
        Value::Flags => (mask == [STREAM_FLAGS] && value == [ACK_FLAG]).then_some(Test::MidStream),
        _ => None,
    }
}

fn lift_range(load: Load, first: &[u8], last: &[u8]) -> Option<Test> {
    match Value::of(load) {
        Value::Address(family) => {
            Some(Test::AddressRange(decode_address(family, first)?, decode_address(family, last)?))
        }
        Value::Port | Value::Byte => Some(Test::Range(number(first)?, number(last)?)),
        _ => None,
    }
}

fn lift_equal(load: Load, value: &[u8]) -> Option<Test> {
    let byte = || <[u8; 1]>::try_from(value).ok().map(|[byte]| byte);
    match Value::of(load) {
        Value::Address(family) => {
            let mut bytes = value.to_vec();
            bytes.resize(address_length(family), 0);
            let bits = u8::try_from(value.len() * 8).ok()?;
            let net = IpNet::new(decode_address(family, &bytes)?, bits).ok()?;
            (address_bytes(net.addr()).len() >= value.len()).then_some(Test::Prefix(net))
        }
        Value::Port | Value::Byte => number(value).map(|number| Test::Range(number, number)),
        Value::Family => {
            let number = byte()?;
            Family::ALL.into_iter().find(|family| family_number(*family) == number).map(Test::Family)
        }
        Value::L4 => {
            let number = byte()?;
            let transports = Protocol::ALL.into_iter().map(L4::Transport);
            transports.chain([L4::Icmp, L4::Icmpv6]).find(|l4| protocol_number(*l4) == number).map(Test::L4)
        }
        Value::PacketType => {
            let number = byte()?;
            packet_types().find(|kind| packet_type(*kind) == number).map(Test::PacketType)
        }
        Value::AddressType => {
            let number = word(value)?;
            packet_types().find(|kind| address_type(*kind) == number).map(Test::PacketType)
        }
        Value::Interface | Value::States | Value::Mark | Value::Flags => None,
    }
}

fn packet_types() -> impl Iterator<Item = PacketType> {
    [PacketType::Unicast, PacketType::Broadcast, PacketType::Multicast].into_iter()
}

/// A number of the kernel, in the order of the machine.
fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// A port or a byte.
fn number(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [byte] => Some(u16::from(*byte)),
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}
