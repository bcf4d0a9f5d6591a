//! Rules.

use palisade_ruleset::model::Rule;

use super::constant::nfta;
use super::instruction::Instruction;
use super::lift::lift;
use super::lower::{Mismatch, lower};
use super::userdata;
use crate::netlink::{Attributes, Writer};

/// The attributes of a rule of a chain, after its table.
pub(crate) fn write_rule(writer: &mut Writer, chain: &str, rule: &Rule) -> Result<(), Mismatch> {
    let instructions = lower(&rule.expressions)?;
    writer.string(nfta::RULE_CHAIN, chain);
    writer.nest(nfta::RULE_EXPRESSIONS, |writer| {
        for instruction in &instructions {
            instruction.write(writer);
        }
    });
    let userdata = userdata::comment(rule.comment.as_deref());
    if !userdata.is_empty() {
        writer.attribute(nfta::RULE_USERDATA, &userdata);
    }
    Ok(())
}

/// The chain of a rule that was read, and the rule, or the reason why it is foreign.
pub(crate) fn decode_rule(attributes: Attributes<'_>) -> Option<(&str, Result<Rule, String>)> {
    let chain = attributes.string(nfta::RULE_CHAIN)?;
    let instructions: Result<Vec<_>, _> =
        attributes.nest(nfta::RULE_EXPRESSIONS).iter().map(|(_, element)| Instruction::decode(element)).collect();
    let comment = userdata::decode_comment(attributes.get(nfta::RULE_USERDATA));
    let decoded = instructions
        .and_then(|instructions| lift(&instructions))
        .map(|expressions| Rule { expressions, comment: comment.clone() });
    Some((chain, decoded))
}

/// The chain of a rule of our table, and the packets and bytes of its own counter, if it has one.
pub(crate) fn decode_count(attributes: Attributes<'_>) -> Option<(&str, Option<(u64, u64)>)> {
    let chain = attributes.string(nfta::RULE_CHAIN)?;
    let expressions = attributes.nest(nfta::RULE_EXPRESSIONS).iter();
    let mut counters = expressions.filter_map(|(_, element)| {
        let element = Attributes::new(element);
        let data = element.nest(nfta::EXPR_DATA);
        let values = || Some((data.be64(nfta::COUNTER_PACKETS)?, data.be64(nfta::COUNTER_BYTES)?));
        if element.string(nfta::EXPR_NAME) == Some("counter") { values() } else { None }
    });
    Some((chain, counters.next()))
}
