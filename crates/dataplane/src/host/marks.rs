//! Rules of other programs that use the bits of `ct mark` that the verdict cache would use.
//!
//! One that writes them could have packets accepted that no policy allows; one that copies them into packets may change
//! how these are routed.

use std::collections::BTreeMap;
use std::fmt;

use palisade_ruleset::cache::Slice;
use palisade_ruleset::model::TABLE;

use crate::Error;
use crate::codec::{msg, nfgenmsg, nft, nfta};
use crate::netlink::{Attributes, NETFILTER, Socket};

/// `NFT_META_MARK`, and `NFTA_META_SREG`.
const META_MARK: u32 = 3;
const META_SREG: u16 = 3;
/// `NFTA_TARGET_NAME` and `_INFO`: a target of iptables-nft.
const TARGET_NAME: u16 = 1;
const TARGET_INFO: u16 = 3;
/// The modes of `struct xt_connmark_tginfo1` (linux/netfilter/xt_connmark.h).
const CONNMARK_RESTORE: u8 = 2;

/// How often to dump until a dump is complete.
const TRIES: usize = 5;

/// A rule that uses bits of `ct mark`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkUser {
    /// The family, table and chain of the rule.
    pub place: String,
    /// What it does with them.
    pub usage: Usage,
    /// The bits, those of the verdict cache included.
    pub bits: u32,
}

/// What a rule does with bits of `ct mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It changes them.
    Writes,
    /// It copies them into the mark of packets.
    Copies,
}

impl fmt::Display for MarkUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usage = match self.usage {
            Usage::Writes => "writes",
            Usage::Copies => "copies",
        };
        write!(f, "a rule in {} {usage} {:#010x} of ct mark", self.place, self.bits)
    }
}

/// The nftables rules of other tables, those of iptables-nft included, that use any of these bits, at most one for each
/// chain. Rules of iptables-legacy and eBPF programs cannot be seen.
///
/// # Errors
/// Failures to talk to the kernel.
pub fn mark_users(slice: Slice) -> Result<Vec<MarkUser>, Error> {
    let mut socket = Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })?;
    let mut users: BTreeMap<String, MarkUser> = BTreeMap::new();
    // If other programs keep changing nftables, the rules of several dumps together have to do: others may come at any
    // time anyway.
    for _ in 0..TRIES {
        let complete = socket.dump_once(
            msg::GETRULE,
            |writer| nfgenmsg(writer, 0, 0),
            |body| {
                if let Some(user) = user(body, slice) {
                    users.entry(user.place.clone()).or_insert(user);
                }
            },
        );
        if complete.map_err(|source| Error::Read { what: "rules of other tables", source })? {
            break;
        }
    }
    Ok(users.into_values().collect())
}

fn user(body: &[u8], slice: Slice) -> Option<MarkUser> {
    let rule = Attributes::after(body, 4);
    let table = rule.string(nfta::RULE_TABLE)?;
    let family = super::family_name(*body.first()?);
    // The table palisade-next has the same rules.
    if family == "inet" && table.starts_with(TABLE) {
        return None;
    }
    let chain = rule.string(nfta::RULE_CHAIN)?;
    let mut registers = Registers::default();
    let expressions = rule.nest(nfta::RULE_EXPRESSIONS).iter();
    let mut used = expressions.filter_map(|(_, element)| registers.follow(Attributes::new(element)));
    let (usage, bits) = used.find(|(_, bits)| bits & slice.mask() != 0)?;
    Some(MarkUser { place: format!("{family} {table}, chain {chain}"), usage, bits })
}

/// The registers that have `ct mark`: the bits that are still the mark's, and those that are set whatever they were.
#[derive(Default)]
struct Registers(BTreeMap<u32, (u32, u32)>);

impl Registers {
    /// Follows an expression; returns what it does with bits of `ct mark`.
    fn follow(&mut self, expression: Attributes<'_>) -> Option<(Usage, u32)> {
        let data = expression.nest(nfta::EXPR_DATA);
        match expression.string(nfta::EXPR_NAME)? {
            "ct" if data.be32(nfta::CT_KEY) == Some(nft::CT_MARK) => {
                if let Some(register) = data.be32(nfta::CT_SREG) {
                    let (kept, set) = self.0.get(&register).copied().unwrap_or_default();
                    return Some((Usage::Writes, !kept | set));
                }
                self.0.insert(data.be32(nfta::CT_DREG)?, (u32::MAX, 0));
                None
            }
            "bitwise" => {
                self.mask(data);
                None
            }
            "meta" if data.be32(nfta::META_KEY) == Some(META_MARK) => {
                let (kept, _) = self.0.get(&data.be32(META_SREG)?)?;
                Some((Usage::Copies, *kept))
            }
            "target" if data.string(TARGET_NAME) == Some("CONNMARK") => connmark(data.get(TARGET_INFO)?),
            _ => None,
        }
    }

    fn mask(&mut self, data: Attributes<'_>) -> Option<()> {
        let (source, destination) = (data.be32(nfta::BITWISE_SREG)?, data.be32(nfta::BITWISE_DREG)?);
        let number = |kind| data.nest(kind).ne32(nfta::DATA_VALUE);
        let before = self.0.remove(&source);
        if data.be32(nfta::BITWISE_OP).unwrap_or_default() != nft::BITWISE_MASK_XOR {
            return None;
        }
        let ((kept, set), mask, xor) = (before?, number(nfta::BITWISE_MASK)?, number(nfta::BITWISE_XOR)?);
        self.0.insert(destination, (kept & mask, set & mask | xor));
        Some(())
    }
}

/// The target of iptables: `u32 ctmark, ctmask, nfmask; u8 mode`, in the machine's order.
fn connmark(info: &[u8]) -> Option<(Usage, u32)> {
    let number = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let (mark, mask) = (number(0)?, number(4)?);
    match info.get(12)? {
        &CONNMARK_RESTORE => Some((Usage::Copies, mask)),
        _ => Some((Usage::Writes, mask | mark)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{isolated, load};

    fn users_of(rules: &[&str]) -> Vec<(Usage, u32)> {
        let chain = rules.join("\n");
        let script = format!("table inet other {{ chain marks {{\n{chain}\n}}; }}");
        isolated(|| {
            load(&script);
            let users = mark_users(Slice::default()).unwrap();
            assert!(users.iter().all(|user| user.place == "inet other, chain marks"), "{users:?}");
            users.into_iter().map(|user| (user.usage, user.bits)).collect()
        })
    }

    #[test]
    fn rules_that_write_or_copy_the_bits_are_found() {
        for (rule, usage, bits) in [
            ("ct mark set 1", Usage::Writes, u32::MAX),
            ("ct mark set meta mark", Usage::Writes, u32::MAX),
            ("ct mark set ct mark and 0xff00ffff or 0x00400000", Usage::Writes, 0x00ff_0000),
            ("ct mark set ct mark or 0x80000000", Usage::Writes, 0x8000_0000),
            ("meta mark set ct mark", Usage::Copies, u32::MAX),
            ("meta mark set ct mark and 0x00ff0000", Usage::Copies, 0x00ff_0000),
        ] {
            assert_eq!(users_of(&["accept", rule, "drop"]), [(usage, bits)], "{rule}");
        }
    }

    #[test]
    fn rules_with_other_bits_are_none() {
        let rules = [
            "ct mark set ct mark and 0xffffff7f or 0x80",
            "ct mark set ct mark or 0x3f00",
            "meta mark set ct mark and 0xffff",
            "meta mark set 0x00010000",
            "ct mark and 0xffff0000 == 0x10000 accept",
            "meta mark set meta mark or 0x4000",
        ];
        assert_eq!(users_of(&rules), []);
    }

    #[test]
    fn targets_of_iptables_are_understood() {
        let info = |mark: u32, mask: u32, packet: u32, mode: u8| {
            let numbers = [mark, mask, packet].map(u32::to_ne_bytes).concat();
            connmark(&[numbers, vec![mode, 0, 0, 0]].concat())
        };
        assert_eq!(info(0x80, 0x80, 0, 0), Some((Usage::Writes, 0x80)));
        assert_eq!(info(0, u32::MAX, u32::MAX, 1), Some((Usage::Writes, u32::MAX)));
        assert_eq!(info(0, 0x00ff_0000, 0x00ff_0000, CONNMARK_RESTORE), Some((Usage::Copies, 0x00ff_0000)));
        assert_eq!(connmark(&[0; 8]), None);
    }
}
