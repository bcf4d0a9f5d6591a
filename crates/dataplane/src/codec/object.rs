//! The table, chains and counters.

use palisade_ruleset::model::{Chain, Hook, TABLE};

use super::constant::{nf, nft, nfta};
use super::userdata;
use crate::netlink::{Attributes, Writer};

/// `NF_INET_LOCAL_IN`.
const HOOK_INPUT: u32 = 1;
/// `NF_INET_FORWARD`.
const HOOK_FORWARD: u32 = 2;
/// `NF_IP_PRI_FILTER`.
const PRIORITY_FILTER: u32 = 0;
/// The chain accepts packets that no rule decides.
const POLICY_ACCEPT: u32 = nf::ACCEPT.cast_unsigned();

/// The attributes of the table, after its name.
pub(crate) fn write_table(writer: &mut Writer, flags: u32, comment: &str) {
    writer.be32(nfta::TABLE_FLAGS, flags);
    writer.attribute(nfta::TABLE_USERDATA, &userdata::comment(Some(comment)));
}

/// The attributes of a chain after its table, without its rules.
pub(crate) fn write_chain(writer: &mut Writer, name: &str, chain: &Chain) {
    writer.string(nfta::CHAIN_NAME, name);
    if let Some(hook) = chain.hook {
        let number = match hook {
            Hook::Forward => HOOK_FORWARD,
            Hook::Input => HOOK_INPUT,
        };
        writer.string(nfta::CHAIN_TYPE, "filter");
        writer.be32(nfta::CHAIN_POLICY, POLICY_ACCEPT);
        writer.nest(nfta::CHAIN_HOOK, |writer| {
            writer.be32(nfta::HOOK_HOOKNUM, number);
            writer.be32(nfta::HOOK_PRIORITY, PRIORITY_FILTER);
        });
    }
    let userdata = userdata::comment(chain.comment.as_deref());
    if !userdata.is_empty() {
        writer.attribute(nfta::CHAIN_USERDATA, &userdata);
    }
}

/// The name of a chain of our table, and the chain without its rules, or the reason why it is foreign.
pub(crate) fn decode_chain(attributes: Attributes<'_>) -> Option<(&str, Result<Chain, String>)> {
    if attributes.string(nfta::CHAIN_TABLE) != Some(TABLE) {
        return None;
    }
    let name = attributes.string(nfta::CHAIN_NAME)?;
    let comment = userdata::decode_comment(attributes.get(nfta::CHAIN_USERDATA));
    let hook = attributes.get(nfta::CHAIN_HOOK).map(|_| {
        let hook = attributes.nest(nfta::CHAIN_HOOK);
        let ours = hook.be32(nfta::HOOK_PRIORITY) == Some(PRIORITY_FILTER)
            && attributes.be32(nfta::CHAIN_POLICY) == Some(POLICY_ACCEPT)
            && attributes.string(nfta::CHAIN_TYPE) == Some("filter");
        match hook.be32(nfta::HOOK_HOOKNUM) {
            Some(HOOK_FORWARD) if ours => Ok(Hook::Forward),
            Some(HOOK_INPUT) if ours => Ok(Hook::Input),
            _ => Err("a hook, priority, type or policy that is not ours".to_owned()),
        }
    });
    Some((name, hook.transpose().map(|hook| Chain { hook, comment, rules: Vec::new() })))
}

/// The attributes of a named counter after its table.
pub(crate) fn write_counter(writer: &mut Writer, name: &str) {
    writer.string(nfta::OBJ_NAME, name);
    writer.be32(nfta::OBJ_TYPE, nft::OBJECT_COUNTER);
    writer.nest(nfta::OBJ_DATA, |writer| {
        writer.attribute(nfta::COUNTER_BYTES, &[0; 8]);
        writer.attribute(nfta::COUNTER_PACKETS, &[0; 8]);
    });
}

/// The name of a counter of our table, and its packets and bytes.
pub(crate) fn decode_counter(attributes: Attributes<'_>) -> Option<(&str, (u64, u64))> {
    let ours = attributes.string(nfta::OBJ_TABLE) == Some(TABLE)
        && attributes.be32(nfta::OBJ_TYPE) == Some(nft::OBJECT_COUNTER);
    let data = attributes.nest(nfta::OBJ_DATA);
    let name = attributes.string(nfta::OBJ_NAME)?;
    ours.then(|| (name, (data.be64(nfta::COUNTER_PACKETS).unwrap_or(0), data.be64(nfta::COUNTER_BYTES).unwrap_or(0))))
}
