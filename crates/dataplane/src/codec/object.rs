//! The table, chains and counters.

use palisade_ruleset::model::{Chain, Hook, TABLE};

use super::constant::OBJECT_COUNTER;
use super::constant::attribute::{chain, object, table};
use super::userdata;
use crate::netlink::{Attributes, Writer};

/// `NF_INET_LOCAL_IN`.
const HOOK_INPUT: u32 = 1;
/// `NF_INET_FORWARD`.
const HOOK_FORWARD: u32 = 2;
/// `NF_IP_PRI_FILTER`.
const PRIORITY_FILTER: u32 = 0;
/// `NF_ACCEPT`.
const POLICY_ACCEPT: u32 = 1;

/// The attributes of the table.
pub(crate) fn write_table(writer: &mut Writer, flags: u32, comment: &str) {
    writer.string(table::NAME, TABLE);
    writer.be32(table::FLAGS, flags);
    writer.attribute(table::USERDATA, &userdata::comment(Some(comment)));
}

/// The attributes of a chain, without its rules.
pub(crate) fn write_chain(writer: &mut Writer, name: &str, chain: &Chain) {
    writer.string(chain::TABLE, TABLE);
    writer.string(chain::NAME, name);
    if let Some(hook) = chain.hook {
        let number = match hook {
            Hook::Forward => HOOK_FORWARD,
            Hook::Input => HOOK_INPUT,
        };
        writer.string(chain::TYPE, "filter");
        writer.be32(chain::POLICY, POLICY_ACCEPT);
        writer.nest(chain::HOOK, |writer| {
            writer.be32(chain::HOOK_NUMBER, number);
            writer.be32(chain::HOOK_PRIORITY, PRIORITY_FILTER);
        });
    }
    let userdata = userdata::comment(chain.comment.as_deref());
    if !userdata.is_empty() {
        writer.attribute(chain::USERDATA, &userdata);
    }
}

/// The name of a chain of our table, and the chain without its rules, or what makes it foreign.
pub(crate) fn decode_chain(attributes: Attributes<'_>) -> Option<(&str, Result<Chain, String>)> {
    if attributes.string(chain::TABLE) != Some(TABLE) {
        return None;
    }
    let name = attributes.string(chain::NAME)?;
    let comment = userdata::decode_comment(attributes.get(chain::USERDATA));
    let hook = attributes.get(chain::HOOK).map(|_| {
        let hook = attributes.nest(chain::HOOK);
        let ours = hook.be32(chain::HOOK_PRIORITY) == Some(PRIORITY_FILTER)
            && attributes.be32(chain::POLICY) == Some(POLICY_ACCEPT)
            && attributes.string(chain::TYPE) == Some("filter");
        match hook.be32(chain::HOOK_NUMBER) {
            Some(HOOK_FORWARD) if ours => Ok(Hook::Forward),
            Some(HOOK_INPUT) if ours => Ok(Hook::Input),
            _ => Err("a hook, priority, type or policy that is not ours".to_owned()),
        }
    });
    Some((name, hook.transpose().map(|hook| Chain { hook, comment, rules: Vec::new() })))
}

/// The attributes of a named counter.
pub(crate) fn write_counter(writer: &mut Writer, name: &str) {
    writer.string(object::TABLE, TABLE);
    writer.string(object::NAME, name);
    writer.be32(object::TYPE, OBJECT_COUNTER);
    writer.nest(object::DATA, |writer| {
        writer.attribute(object::COUNTER_BYTES, &[0; 8]);
        writer.attribute(object::COUNTER_PACKETS, &[0; 8]);
    });
}

/// The name of a counter of our table, and its packets and bytes.
pub(crate) fn decode_counter(attributes: Attributes<'_>) -> Option<(&str, (u64, u64))> {
    let ours = attributes.string(object::TABLE) == Some(TABLE) && attributes.be32(object::TYPE) == Some(OBJECT_COUNTER);
    let data = attributes.nest(object::DATA);
    let name = attributes.string(object::NAME)?;
    ours.then(|| {
        (name, (data.be64(object::COUNTER_PACKETS).unwrap_or(0), data.be64(object::COUNTER_BYTES).unwrap_or(0)))
    })
}
