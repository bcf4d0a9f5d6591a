//! The table with the values of its counters, for people.

use std::collections::BTreeMap;

use palisade_ruleset::name::Name;

use super::{ReadBack, read};
use crate::Error;
use crate::codec::{decode_count, msg};
use crate::netlink::{Attributes, NETFILTER, Socket};

/// Packets and bytes.
pub type PacketsAndBytes = (u64, u64);

/// The table, read without a claim on it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The table, the rules of its verdict cache included.
    pub found: ReadBack,
    /// The named counters.
    pub named: BTreeMap<Name, PacketsAndBytes>,
    /// The counters in rules, by chain and the position of the rule.
    pub rules: BTreeMap<(Name, usize), PacketsAndBytes>,
}

pub(super) fn show() -> Result<Option<Shown>, Error> {
    let mut socket = Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })?;
    let found = read::read(&mut socket, false)?;
    if !found.exists {
        return Ok(None);
    }
    let counters = read::counters(&mut socket)?;
    let named = counters.into_iter().map(|(name, count)| (name, (count.packets, count.bytes))).collect();
    let mut positions: BTreeMap<Name, usize> = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for body in read::dump(&mut socket, msg::GETRULE, "rules", |_| {})? {
        let Some((chain, count)) = decode_count(Attributes::after(&body, 4)) else { continue };
        let Some(chain) = Name::parse(chain) else { continue };
        let position = positions.entry(chain.clone()).or_default();
        if let Some(count) = count {
            rules.insert((chain, *position), count);
        }
        *position += 1;
    }
    Ok(Some(Shown { found, named, rules }))
}
