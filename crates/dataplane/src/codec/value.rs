//! Values, verdicts and addresses as the kernel stores them.

use std::net::IpAddr;

use palisade_policy::input::Family;
use palisade_ruleset::model::Verdict;
use palisade_ruleset::name::Name;

use super::constant::{attribute, verdict};
use crate::netlink::{Attributes, Writer};

const CODE: u16 = 1;
const CHAIN: u16 = 2;

/// Appends a `NFTA_DATA_VALUE` in an attribute.
pub(super) fn write_value(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nest(kind, |writer| writer.attribute(attribute::DATA_VALUE, value));
}

/// Appends a `NFTA_DATA_VERDICT` in an attribute.
pub(super) fn write_verdict(writer: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (verdict::ACCEPT, None),
        Verdict::Drop => (verdict::DROP, None),
        Verdict::Return => (verdict::RETURN, None),
        Verdict::Jump(chain) => (verdict::JUMP, Some(chain)),
        Verdict::Goto(chain) => (verdict::GOTO, Some(chain)),
    };
    writer.nest(kind, |writer| {
        writer.nest(attribute::DATA_VERDICT, |writer| {
            writer.be32(CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                writer.string(CHAIN, chain.as_str());
            }
        });
    });
}

/// The verdict in a `NFTA_DATA_VERDICT`.
pub(super) fn decode_verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.nest(attribute::DATA_VERDICT);
    let chain = || verdict.string(CHAIN).and_then(Name::parse);
    match verdict.be32(CODE)?.cast_signed() {
        verdict::ACCEPT => Some(Verdict::Accept),
        verdict::DROP => Some(Verdict::Drop),
        verdict::RETURN => Some(Verdict::Return),
        verdict::JUMP => chain().map(Verdict::Jump),
        verdict::GOTO => chain().map(Verdict::Goto),
        _ => None,
    }
}

/// The bytes of an address.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// How many bytes an address has.
pub(super) fn address_length(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// The address in exactly as many bytes as its family needs.
pub(super) fn decode_address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
