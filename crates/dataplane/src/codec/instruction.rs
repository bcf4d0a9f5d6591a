//! The kernel's expressions, one for one.

use palisade_ruleset::model::Verdict;

use super::constant::attribute::{DATA_VALUE, LIST_ELEMENT};
use super::value::{decode_verdict, write_value, write_verdict};
use crate::netlink::{Attributes, Writer};

/// `NFTA_EXPR_NAME`.
const NAME: u16 = 1;
/// `NFTA_EXPR_DATA`.
const DATA: u16 = 2;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;

/// One expression of the kernel's virtual machine. Registers are numbered as the kernel prints them (1 to 4 of 16
/// bytes, 8 to 23 of 4 bytes).
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
    /// Masks a register (and with `mask`, exclusive or with 0).
    Mask { register: u32, mask: Vec<u8> },
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
        writer.nest(LIST_ELEMENT, |writer| {
            writer.string(NAME, self.name());
            writer.nest(DATA, |writer| self.write_data(writer));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Payload { .. } => "payload",
            Self::Fib { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Counter => "counter",
            Self::Object { .. } => "objref",
            Self::Immediate(_) => "immediate",
        }
    }

    fn write_data(&self, writer: &mut Writer) {
        match self {
            Self::Meta { key, register } => {
                writer.be32(2, *key);
                writer.be32(1, *register);
            }
            Self::Ct { key, direction, register } => {
                writer.be32(2, *key);
                writer.be32(1, *register);
                if let Some(direction) = direction {
                    writer.attribute(3, &[*direction]);
                }
            }
            Self::Payload { base, offset, length, register } => {
                writer.be32(1, *register);
                writer.be32(2, *base);
                writer.be32(3, *offset);
                writer.be32(4, *length);
            }
            Self::Fib { result, flags, register } => {
                writer.be32(3, *flags);
                writer.be32(2, *result);
                writer.be32(1, *register);
            }
            Self::Compare { register, operator, value } => {
                writer.be32(1, *register);
                writer.be32(2, *operator);
                write_value(writer, 3, value);
            }
            Self::Mask { register, mask } => {
                writer.be32(1, *register);
                writer.be32(2, *register);
                writer.be32(6, 0);
                writer.be32(3, u32::try_from(mask.len()).unwrap_or_default());
                write_value(writer, 4, mask);
                write_value(writer, 5, &vec![0; mask.len()]);
            }
            Self::Lookup { set, register, verdict } => {
                writer.be32(2, *register);
                if *verdict {
                    writer.be32(3, VERDICT_REGISTER);
                }
                writer.string(1, set);
            }
            Self::Counter => {
                writer.attribute(1, &[0; 8]);
                writer.attribute(2, &[0; 8]);
            }
            Self::Object { kind, name } => {
                writer.be32(1, *kind);
                writer.string(2, name);
            }
            Self::Immediate(verdict) => {
                writer.be32(1, VERDICT_REGISTER);
                write_verdict(writer, 2, verdict);
            }
        }
    }

    /// The instruction in an element of a rule's list; `Err` describes a foreign one.
    pub(super) fn decode(element: &[u8]) -> Result<Self, String> {
        let element = Attributes::new(element);
        let name = element.string(NAME).unwrap_or_default();
        Self::decode_data(name, element.nest(DATA)).ok_or_else(|| format!("an expression {name} that is not ours"))
    }

    fn decode_data(name: &str, data: Attributes<'_>) -> Option<Self> {
        Some(match name {
            "meta" => Self::Meta { key: data.be32(2)?, register: data.be32(1)? },
            "ct" => Self::Ct {
                key: data.be32(2)?,
                direction: data.get(3).and_then(|value| value.first().copied()),
                register: data.be32(1)?,
            },
            "payload" => Self::Payload {
                base: data.be32(2)?,
                offset: data.be32(3)?,
                length: data.be32(4)?,
                register: data.be32(1)?,
            },
            "fib" => Self::Fib { result: data.be32(2)?, flags: data.be32(3)?, register: data.be32(1)? },
            "cmp" => Self::Compare {
                register: data.be32(1)?,
                operator: data.be32(2)?,
                value: data.nest(3).get(DATA_VALUE)?.to_vec(),
            },
            "bitwise" => decode_mask(data)?,
            "lookup" if data.be32(5).unwrap_or_default() == 0 => {
                let destination = data.be32(3);
                if destination.is_some_and(|register| register != VERDICT_REGISTER) {
                    return None;
                }
                let set = data.string(1)?.to_owned();
                Self::Lookup { set, register: data.be32(2)?, verdict: destination.is_some() }
            }
            "counter" => Self::Counter,
            "objref" => Self::Object { kind: data.be32(1)?, name: data.string(2)?.to_owned() },
            "immediate" if data.be32(1)? == VERDICT_REGISTER => Self::Immediate(decode_verdict(data.nest(2))?),
            _ => return None,
        })
    }
}

fn decode_mask(data: Attributes<'_>) -> Option<Instruction> {
    let register = data.be32(1)?;
    let mask = data.nest(4).get(DATA_VALUE)?.to_vec();
    let plain = data.be32(2)? == register
        && data.be32(6).unwrap_or_default() == 0
        && data.nest(5).get(DATA_VALUE)?.iter().all(|byte| *byte == 0);
    plain.then_some(Instruction::Mask { register, mask })
}
