//! Expressions to instructions, as nft 1.0.6 generates them.

use std::net::IpAddr;

use ipnet::IpNet;
use palisade_policy::input::{Family, Protocol};
use palisade_ruleset::model::{CtStates, Expression, L4, Load, MarkBits, PacketType, Test};

use super::constant::{FIB_F_DADDR, FIB_F_SADDR, ip_ct_dir, nfproto, nft};
use super::instruction::Instruction;
use super::value::{address_bytes, address_length};

/// The first register; loads of single values go here.
pub(super) const REGISTER: u32 = nft::REG_1;
/// `fin|syn|rst|ack`.
pub(super) const STREAM_FLAGS: u8 = 0x17;
/// `ack`.
pub(super) const ACK_FLAG: u8 = 0x10;

/// A test that does not apply to the loaded value, such as a port range for an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{load:?} cannot be tested with {test:?}")]
pub(crate) struct Mismatch {
    load: Load,
    test: Test,
}

/// The composition of a loaded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Family,
    L4,
    Interface,
    /// One byte: `meta pkttype`.
    PacketType,
    /// Four bytes: `fib … type`.
    AddressType,
    States,
    Mark,
    Address(Family),
    Port,
    Byte,
    Flags,
}

impl Value {
    pub(super) fn of(load: Load) -> Self {
        match load {
            Load::Nfproto => Self::Family,
            Load::L4Proto => Self::L4,
            Load::InputInterface => Self::Interface,
            Load::PacketType => Self::PacketType,
            Load::SourceType | Load::DestinationType => Self::AddressType,
            Load::CtState => Self::States,
            Load::CtMark => Self::Mark,
            Load::Client(family) | Load::Server(family) => Self::Address(family),
            Load::PacketSource(family) | Load::PacketDestination(family) => Self::Address(family),
            Load::ServerPort | Load::OriginalSourcePort | Load::OriginalDestinationPort => Self::Port,
            Load::DestinationPort(_) => Self::Port,
            Load::HopLimit | Load::Icmpv6Type => Self::Byte,
            Load::TcpFlags => Self::Flags,
        }
    }

    /// Its number of 4-byte registers.
    fn registers(self) -> u32 {
        match self {
            Self::Address(Family::V6) | Self::Interface => 4,
            _ => 1,
        }
    }
}

/// The instructions of a rule.
pub(super) fn lower(expressions: &[Expression]) -> Result<Vec<Instruction>, Mismatch> {
    let mut instructions = Vec::with_capacity(expressions.len() * 2);
    for expression in expressions {
        match expression {
            Expression::Match(load, test) => lower_match(*load, test, &mut instructions)?,
            Expression::Lookup(loads, set) => {
                let mut slot = 0;
                for load in loads {
                    instructions.push(self::load(*load, register(slot)));
                    slot += Value::of(*load).registers();
                }
                instructions.push(lookup(set.as_str(), false));
            }
            Expression::Vmap(load, set) => {
                instructions.push(self::load(*load, REGISTER));
                instructions.push(lookup(set.as_str(), true));
            }
            Expression::Counter => instructions.push(Instruction::Counter),
            Expression::CountIn(name) => {
                instructions.push(Instruction::Object { kind: nft::OBJECT_COUNTER, name: name.to_string() });
            }
            Expression::SetMark(bits) => set_mark(*bits, &mut instructions),
            Expression::Verdict(verdict) => instructions.push(Instruction::Immediate(verdict.clone())),
        }
    }
    Ok(instructions)
}

/// Replaces some bits of the mark. Registers have it in the order of the machine.
fn set_mark(bits: MarkBits, out: &mut Vec<Instruction>) {
    let (mask, xor) = ((!bits.mask).to_ne_bytes().to_vec(), bits.value.to_ne_bytes().to_vec());
    out.push(load(Load::CtMark, REGISTER));
    out.push(Instruction::Bitwise { register: REGISTER, mask, xor });
    out.push(Instruction::SetCt { key: nft::CT_MARK, register: REGISTER });
}

/// The number of the register that starts at a 4-byte slot: a 16-byte one if one starts there.
fn register(slot: u32) -> u32 {
    if slot.is_multiple_of(4) { REGISTER + slot / 4 } else { nft::REG32_00 + slot }
}

fn lookup(set: &str, verdict: bool) -> Instruction {
    Instruction::Lookup { set: set.to_owned(), register: REGISTER, verdict }
}

/// The instruction that loads a value.
pub(super) fn load(load: Load, register: u32) -> Instruction {
    let meta = |key| Instruction::Meta { key, register };
    let ct = |key, direction| Instruction::Ct { key, direction, register };
    let payload = |base, offset, length| Instruction::Payload { base, offset, length, register };
    let source = |family| match family {
        Family::V4 => nft::CT_SRC_IP,
        Family::V6 => nft::CT_SRC_IP6,
    };
    match load {
        Load::Nfproto => meta(nft::META_NFPROTO),
        Load::L4Proto => meta(nft::META_L4PROTO),
        Load::InputInterface => meta(nft::META_IIFNAME),
        Load::PacketType => meta(nft::META_PKTTYPE),
        Load::SourceType => Instruction::Fib { result: nft::FIB_RESULT_ADDRTYPE, flags: FIB_F_SADDR, register },
        Load::DestinationType => Instruction::Fib { result: nft::FIB_RESULT_ADDRTYPE, flags: FIB_F_DADDR, register },
        Load::CtState => ct(nft::CT_STATE, None),
        Load::CtMark => ct(nft::CT_MARK, None),
        Load::Client(family) => ct(source(family), Some(ip_ct_dir::ORIGINAL)),
        Load::Server(family) => ct(source(family), Some(ip_ct_dir::REPLY)),
        Load::ServerPort => ct(nft::CT_PROTO_SRC, Some(ip_ct_dir::REPLY)),
        Load::OriginalSourcePort => ct(nft::CT_PROTO_SRC, Some(ip_ct_dir::ORIGINAL)),
        Load::OriginalDestinationPort => ct(nft::CT_PROTO_DST, Some(ip_ct_dir::ORIGINAL)),
        Load::PacketSource(Family::V4) => payload(nft::PAYLOAD_NETWORK_HEADER, 12, 4),
        Load::PacketDestination(Family::V4) => payload(nft::PAYLOAD_NETWORK_HEADER, 16, 4),
        Load::PacketSource(Family::V6) => payload(nft::PAYLOAD_NETWORK_HEADER, 8, 16),
        Load::PacketDestination(Family::V6) => payload(nft::PAYLOAD_NETWORK_HEADER, 24, 16),
        Load::DestinationPort(_) => payload(nft::PAYLOAD_TRANSPORT_HEADER, 2, 2),
        Load::HopLimit => payload(nft::PAYLOAD_NETWORK_HEADER, 7, 1),
        Load::Icmpv6Type => payload(nft::PAYLOAD_TRANSPORT_HEADER, 0, 1),
        Load::TcpFlags => payload(nft::PAYLOAD_TRANSPORT_HEADER, 13, 1),
    }
}

fn lower_match(load: Load, test: &Test, out: &mut Vec<Instruction>) -> Result<(), Mismatch> {
    let mismatch = || Mismatch { load, test: test.clone() };
    let value = Value::of(load);
    if let (Value::Address(family), Test::Prefix(net)) = (value, test) {
        return lower_prefix(load, family, *net, out).ok_or_else(mismatch);
    }
    out.push(self::load(load, REGISTER));
    match (value, test) {
        (_, Test::In(set)) => out.push(lookup(set.as_str(), false)),
        (Value::Address(family), Test::AddressRange(first, last))
            if [first, last].into_iter().all(|address| Family::of(*address) == family) =>
        {
            between(out, address_bytes(*first), address_bytes(*last));
        }
        (Value::Port, Test::Range(first, last)) => {
            range(out, first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
        }
        (Value::Byte, Test::Range(first, last)) => {
            let byte = |value: u16| u8::try_from(value).ok().ok_or_else(mismatch);
            range(out, vec![byte(*first)?], vec![byte(*last)?]);
        }
        (Value::Family, Test::Family(family)) => out.push(equal(vec![family_number(*family)])),
        (Value::L4, Test::L4(protocol)) => out.push(equal(vec![protocol_number(*protocol)])),
        (Value::PacketType, Test::PacketType(kind)) => out.push(equal(vec![packet_type(*kind)])),
        (Value::Mark, Test::Mark(bits)) => {
            out.push(masked(bits.mask.to_ne_bytes().to_vec()));
            out.push(equal(bits.value.to_ne_bytes().to_vec()));
        }
        (Value::AddressType, Test::PacketType(kind)) => out.push(equal(address_type(*kind).to_ne_bytes().to_vec())),
        (Value::States, Test::States(states)) => {
            out.push(masked(state_bits(*states).to_ne_bytes().to_vec()));
            out.push(Instruction::Compare { register: REGISTER, operator: nft::CMP_NEQ, value: vec![0; 4] });
        }
        (Value::Flags, Test::MidStream) => {
            out.push(masked(vec![STREAM_FLAGS]));
            out.push(equal(vec![ACK_FLAG]));
        }
        _ => return Err(mismatch()),
    }
    Ok(())
}

/// A prefix of whole bytes compares only these bytes, and loads only these from a packet; for other prefixes the rest
/// is masked.
fn lower_prefix(load: Load, family: Family, net: IpNet, out: &mut Vec<Instruction>) -> Option<()> {
    let address = address_bytes(net.addr());
    let bits = usize::from(net.prefix_len());
    if address.len() != address_length(family) || net.addr() != net.trunc().addr() {
        return None;
    }
    let mut instruction = self::load(load, REGISTER);
    let whole = bits / 8;
    if bits > 0 && bits.is_multiple_of(8) {
        if let Instruction::Payload { length, .. } = &mut instruction {
            *length = u32::try_from(whole).ok()?;
        }
        out.push(instruction);
        out.push(equal(address.get(..whole)?.to_vec()));
    } else {
        out.push(instruction);
        out.push(masked(address_bytes(net.netmask())));
        out.push(equal(address));
    }
    Some(())
}

fn masked(mask: Vec<u8>) -> Instruction {
    Instruction::Bitwise { register: REGISTER, xor: vec![0; mask.len()], mask }
}

fn equal(value: Vec<u8>) -> Instruction {
    Instruction::Compare { register: REGISTER, operator: nft::CMP_EQ, value }
}

fn range(out: &mut Vec<Instruction>, first: Vec<u8>, last: Vec<u8>) {
    if first == last { out.push(equal(first)) } else { between(out, first, last) }
}

fn between(out: &mut Vec<Instruction>, first: Vec<u8>, last: Vec<u8>) {
    out.push(Instruction::Compare { register: REGISTER, operator: nft::CMP_GTE, value: first });
    out.push(Instruction::Compare { register: REGISTER, operator: nft::CMP_LTE, value: last });
}

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => nfproto::IPV4,
        Family::V6 => nfproto::IPV6,
    }
}

pub(super) fn protocol_number(protocol: L4) -> u8 {
    match protocol {
        L4::Transport(Protocol::Tcp) => 6,
        L4::Transport(Protocol::Udp) => 17,
        L4::Transport(Protocol::Sctp) => 132,
        L4::Icmp => 1,
        L4::Icmpv6 => 58,
    }
}

/// `PACKET_*` of linux/if_packet.h.
pub(super) fn packet_type(kind: PacketType) -> u8 {
    match kind {
        PacketType::Unicast => 0,
        PacketType::Broadcast => 1,
        PacketType::Multicast => 2,
    }
}

/// `RTN_*` of linux/rtnetlink.h.
pub(super) fn address_type(kind: PacketType) -> u32 {
    match kind {
        PacketType::Unicast => 1,
        PacketType::Broadcast => 3,
        PacketType::Multicast => 5,
    }
}

/// `NF_CT_STATE_BIT`s.
pub(super) fn state_bits(states: CtStates) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(states.invalid, 1)
        | bit(states.established, 2)
        | bit(states.related, 4)
        | bit(states.new, 8)
        | bit(states.untracked, 64)
}

/// The last address of a family.
pub(super) fn last_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([0xff; 4]),
        Family::V6 => IpAddr::from([0xff; 16]),
    }
}
