//! Values, verdicts and addresses as the kernel stores them.

use std::net::IpAddr;

use palisade_policy::input::Family;
use palisade_ruleset::model::Verdict;
use palisade_ruleset::name::Name;

use super::constant::{nf, nft, nfta};
use crate::netlink::{Attributes, Writer};

/// Appends a `NFTA_DATA_VALUE` in an attribute.
pub(super) fn write_value(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nest(kind, |writer| writer.attribute(nfta::DATA_VALUE, value));
}

/// Appends a `NFTA_DATA_VERDICT` in an attribute.
pub(super) fn write_verdict(writer: &mut Writer, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (nf::ACCEPT, None),
        Verdict::Drop => (nf::DROP, None),
        Verdict::Return => (nft::RETURN, None),
        Verdict::Jump(chain) => (nft::JUMP, Some(chain)),
        Verdict::Goto(chain) => (nft::GOTO, Some(chain)),
    };
    writer.nest(kind, |writer| {
        writer.nest(nfta::DATA_VERDICT, |writer| {
            writer.be32(nfta::VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                writer.string(nfta::VERDICT_CHAIN, chain.as_str());
            }
        });
    });
}

/// The verdict in a `NFTA_DATA_VERDICT`.
pub(super) fn decode_verdict(data: Attributes<'_>) -> Option<Verdict> {
    let verdict = data.nest(nfta::DATA_VERDICT);
    let chain = || verdict.string(nfta::VERDICT_CHAIN).and_then(Name::parse);
    match verdict.be32(nfta::VERDICT_CODE)?.cast_signed() {
        nf::ACCEPT => Some(Verdict::Accept),
        nf::DROP => Some(Verdict::Drop),
        nft::RETURN => Some(Verdict::Return),
        nft::JUMP => chain().map(Verdict::Jump),
        nft::GOTO => chain().map(Verdict::Goto),
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
