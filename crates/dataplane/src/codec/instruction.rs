//! The kernel's expressions, one for one.

use palisade_ruleset::model::Verdict;

use super::constant::{nft, nfta};
use super::value::{decode_verdict, write_value, write_verdict};
use crate::netlink::{Attributes, Writer};

/// One expression of the kernel's virtual machine. Registers are those of `enum nft_registers`: 1 to 4 of 16 bytes, or
/// the same room as 8 to 23 of 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Loads metadata.
    Meta { key: u32, register: u32 },
    /// Loads from the conntrack entry.
    Ct { key: u32, direction: Option<u8>, register: u32 },
    /// Loads from the packet.
    Payload { base: u32, offset: u32, length: u32, register: u32 },
    /// Asks the routing table.
    Fib { result: u32, flags: u32, register: u32 },
    /// Compares a register.
    Compare { register: u32, operator: u32, value: Vec<u8> },
    /// Masks a register, then exclusive or.
    Bitwise { register: u32, mask: Vec<u8>, xor: Vec<u8> },
    /// Writes to the conntrack entry.
    SetCt { key: u32, register: u32 },
    /// Looks registers up in a set, or in a verdict map.
    Lookup { set: String, register: u32, verdict: bool },
    /// Counts.
    Counter,
    /// Uses a named object.
    Object { kind: u32, name: String },
    /// Ends or leaves the rule.
    Immediate(Verdict),
}

impl Instruction {
    /// Appends the instruction to the list of a rule.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nest(nfta::LIST_ELEM, |writer| {
            writer.string(nfta::EXPR_NAME, self.name());
            writer.nest(nfta::EXPR_DATA, |writer| self.write_data(writer));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Ct { .. } | Self::SetCt { .. } => "ct",
            Self::Payload { .. } => "payload",
            Self::Fib { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Counter => "counter",
            Self::Object { .. } => "objref",
            Self::Immediate(_) => "immediate",
        }
    }

    fn write_data(&self, writer: &mut Writer) {
        match self {
            Self::Meta { key, register } => {
                writer.be32(nfta::META_KEY, *key);
                writer.be32(nfta::META_DREG, *register);
            }
            Self::Ct { key, direction, register } => {
                writer.be32(nfta::CT_KEY, *key);
                writer.be32(nfta::CT_DREG, *register);
                if let Some(direction) = direction {
                    writer.attribute(nfta::CT_DIRECTION, &[*direction]);
                }
            }
            Self::Payload { base, offset, length, register } => {
                writer.be32(nfta::PAYLOAD_DREG, *register);
                writer.be32(nfta::PAYLOAD_BASE, *base);
                writer.be32(nfta::PAYLOAD_OFFSET, *offset);
                writer.be32(nfta::PAYLOAD_LEN, *length);
            }
            Self::Fib { result, flags, register } => {
                writer.be32(nfta::FIB_FLAGS, *flags);
                writer.be32(nfta::FIB_RESULT, *result);
                writer.be32(nfta::FIB_DREG, *register);
            }
            Self::Compare { register, operator, value } => {
                writer.be32(nfta::CMP_SREG, *register);
                writer.be32(nfta::CMP_OP, *operator);
                write_value(writer, nfta::CMP_DATA, value);
            }
            Self::Bitwise { register, mask, xor } => {
                writer.be32(nfta::BITWISE_SREG, *register);
                writer.be32(nfta::BITWISE_DREG, *register);
                writer.be32(nfta::BITWISE_OP, nft::BITWISE_MASK_XOR);
                writer.be32(nfta::BITWISE_LEN, u32::try_from(mask.len()).unwrap_or_default());
                write_value(writer, nfta::BITWISE_MASK, mask);
                write_value(writer, nfta::BITWISE_XOR, xor);
            }
            Self::SetCt { key, register } => {
                writer.be32(nfta::CT_KEY, *key);
                writer.be32(nfta::CT_SREG, *register);
            }
            Self::Lookup { set, register, verdict } => {
                writer.be32(nfta::LOOKUP_SREG, *register);
                if *verdict {
                    writer.be32(nfta::LOOKUP_DREG, nft::REG_VERDICT);
                }
                writer.string(nfta::LOOKUP_SET, set);
            }
            Self::Counter => {
                writer.attribute(nfta::COUNTER_BYTES, &[0; 8]);
                writer.attribute(nfta::COUNTER_PACKETS, &[0; 8]);
            }
            Self::Object { kind, name } => {
                writer.be32(nfta::OBJREF_IMM_TYPE, *kind);
                writer.string(nfta::OBJREF_IMM_NAME, name);
            }
            Self::Immediate(verdict) => {
                writer.be32(nfta::IMMEDIATE_DREG, nft::REG_VERDICT);
                write_verdict(writer, nfta::IMMEDIATE_DATA, verdict);
            }
        }
    }

    /// The instruction in an element of a rule's list; `Err` describes a foreign one.
    pub(super) fn decode(element: &[u8]) -> Result<Self, String> {
        let element = Attributes::new(element);
        let name = element.string(nfta::EXPR_NAME).unwrap_or_default();
        Self::decode_data(name, element.nest(nfta::EXPR_DATA))
            .ok_or_else(|| format!("an expression {name} that is not ours"))
    }

    fn decode_data(name: &str, data: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" => Self::Meta { key: data.be32(nfta::META_KEY)?, register: data.be32(nfta::META_DREG)? },
            "ct" if data.get(nfta::CT_SREG).is_some() => {
                Self::SetCt { key: data.be32(nfta::CT_KEY)?, register: data.be32(nfta::CT_SREG)? }
            }
            "ct" => Self::Ct {
                key: data.be32(nfta::CT_KEY)?,
                direction: data.get(nfta::CT_DIRECTION).and_then(|value| value.first().copied()),
                register: data.be32(nfta::CT_DREG)?,
            },
            "payload" => Self::Payload {
                base: data.be32(nfta::PAYLOAD_BASE)?,
                offset: data.be32(nfta::PAYLOAD_OFFSET)?,
                length: data.be32(nfta::PAYLOAD_LEN)?,
                register: data.be32(nfta::PAYLOAD_DREG)?,
            },
            "fib" => Self::Fib {
                result: data.be32(nfta::FIB_RESULT)?,
                flags: data.be32(nfta::FIB_FLAGS)?,
                register: data.be32(nfta::FIB_DREG)?,
            },
            "cmp" => Self::Compare {
                register: data.be32(nfta::CMP_SREG)?,
                operator: data.be32(nfta::CMP_OP)?,
                value: data.nest(nfta::CMP_DATA).get(nfta::DATA_VALUE)?.to_vec(),
            },
            "bitwise" => decode_bitwise(data)?,
            "lookup" if data.be32(nfta::LOOKUP_FLAGS).unwrap_or_default() == 0 => {
                let destination = data.be32(nfta::LOOKUP_DREG);
                if destination.is_some_and(|register| register != nft::REG_VERDICT) {
                    return None;
                }
                let set = data.string(nfta::LOOKUP_SET)?.to_owned();
                Self::Lookup { set, register: data.be32(nfta::LOOKUP_SREG)?, verdict: destination.is_some() }
            }
            "counter" => Self::Counter,
            "objref" => Self::Object {
                kind: data.be32(nfta::OBJREF_IMM_TYPE)?,
                name: data.string(nfta::OBJREF_IMM_NAME)?.to_owned(),
            },
            "immediate" if data.be32(nfta::IMMEDIATE_DREG)? == nft::REG_VERDICT => {
                Self::Immediate(decode_verdict(data.nest(nfta::IMMEDIATE_DATA))?)
            }
            _ => return None,
        })
    }
}

fn decode_bitwise(data: Attributes<'_>) -> Option<Instruction> {
    let register = data.be32(nfta::BITWISE_SREG)?;
    let mask = data.nest(nfta::BITWISE_MASK).get(nfta::DATA_VALUE)?.to_vec();
    let xor = data.nest(nfta::BITWISE_XOR).get(nfta::DATA_VALUE)?.to_vec();
    let plain = data.be32(nfta::BITWISE_DREG)? == register
        && data.be32(nfta::BITWISE_OP).unwrap_or_default() == nft::BITWISE_MASK_XOR;
    plain.then_some(Instruction::Bitwise { register, mask, xor })
}
