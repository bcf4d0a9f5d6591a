//! The text form, which people read and `nft -f` loads.
//!
//! Spelled and ordered as `nft list table inet palisade` (1.0.6) prints it, except for counters' values.

mod expression;
mod listing;
mod transaction;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::model::{Chain, Element, Field, Hook, Key, KeyType, Rule, Ruleset, Set, SetKind, TABLE, TABLE_COMMENT};
use crate::name::Name;

pub(crate) use expression::spelled;
pub use listing::Listing;
pub use transaction::transaction;

/// The table block, as in a listing.
pub fn ruleset(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    write_ruleset(&mut text, ruleset, &Counts::default()).ok();
    text
}

/// Packets and bytes of the counters in rules, by chain and the position of the rule.
pub type RuleCounts = BTreeMap<(Name, usize), (u64, u64)>;

/// Packets and bytes of counters: of named ones, and of rules.
#[derive(Clone, Copy, Default)]
struct Counts<'a> {
    named: Option<&'a BTreeMap<Name, (u64, u64)>>,
    rules: Option<&'a RuleCounts>,
}

/// A script for `nft -f` that makes the table equal to this one, whatever it contained.
pub fn script(ruleset: &Ruleset) -> String {
    // `delete` fails if there is no table; the first line creates it if needed.
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n{}", self::ruleset(ruleset))
}

/// One rule, without its indentation.
pub fn rule(rule: &Rule) -> String {
    let mut text = String::new();
    write_rule(&mut text, rule).ok();
    text
}

/// One element, as a listing has it.
pub fn element(key: &Key, element: &Element) -> String {
    let mut text = String::new();
    write_element(&mut text, key, element).ok();
    text
}

/// Rules, one a line.
pub(crate) fn rules(rules: &[Rule]) -> impl fmt::Display {
    fmt::from_fn(|f| {
        rules.iter().try_for_each(|rule| {
            write_rule(f, rule)?;
            f.write_char('\n')
        })
    })
}

/// The elements of a set, one a line.
pub(crate) fn elements(elements: &BTreeMap<Key, Element>) -> impl fmt::Display {
    fmt::from_fn(|f| {
        elements.iter().try_for_each(|(key, element)| {
            write_element(f, key, element)?;
            f.write_char('\n')
        })
    })
}

fn write_ruleset(out: &mut impl Write, ruleset: &Ruleset, counts: &Counts<'_>) -> fmt::Result {
    writeln!(out, "table inet {TABLE} {{\n\tcomment \"{TABLE_COMMENT}\"\n")?;
    let mut first = true;
    let mut separate = |out: &mut dyn Write| -> fmt::Result {
        if !std::mem::take(&mut first) {
            writeln!(out)?;
        }
        Ok(())
    };
    for name in &ruleset.counters {
        separate(out)?;
        writeln!(out, "\tcounter {name} {{")?;
        if let Some((packets, bytes)) = counts.named.and_then(|named| named.get(name)) {
            writeln!(out, "\t\tpackets {packets} bytes {bytes}")?;
        }
        writeln!(out, "\t}}")?;
    }
    for (name, set) in &ruleset.sets {
        separate(out)?;
        write_set(out, name, set)?;
    }
    for (name, chain) in in_order(ruleset) {
        separate(out)?;
        write_chain(out, name, chain, counts)?;
    }
    writeln!(out, "}}")
}

/// Base chains first: a reader begins where packets do.
pub(crate) fn in_order(ruleset: &Ruleset) -> impl Iterator<Item = (&Name, &Chain)> {
    let with = |base: bool| ruleset.chains.iter().filter(move |(_, chain)| chain.hook.is_some() == base);
    with(true).chain(with(false))
}

fn write_set(out: &mut impl Write, name: &Name, set: &Set) -> fmt::Result {
    let (word, verdict) = match set.kind {
        SetKind::Set => ("set", ""),
        SetKind::VerdictMap => ("map", " : verdict"),
    };
    writeln!(out, "\t{word} {name} {{")?;
    writeln!(out, "\t\ttype {}{verdict}", key_type(set.key))?;
    if set.interval {
        writeln!(out, "\t\tflags interval")?;
    }
    if let Some(comment) = &set.comment {
        writeln!(out, "\t\tcomment \"{comment}\"")?;
    }
    if !set.elements.is_empty() {
        write!(out, "\t\telements = {{ ")?;
        for (position, (key, element)) in set.elements.iter().enumerate() {
            if position > 0 {
                write!(out, ",\n\t\t\t     ")?;
            }
            write_element(out, key, element)?;
        }
        writeln!(out, " }}")?;
    }
    writeln!(out, "\t}}")
}

fn key_type(key: KeyType) -> String {
    let fields = key.fields();
    let names = fields.iter().map(|field| match field {
        Field::Address(palisade_policy::input::Family::V4) => "ipv4_addr",
        Field::Address(palisade_policy::input::Family::V6) => "ipv6_addr",
        Field::Port => "inet_service",
        Field::InterfaceName => "ifname",
    });
    names.collect::<Vec<_>>().join(" . ")
}

fn write_element(out: &mut impl Write, key: &Key, element: &Element) -> fmt::Result {
    write!(out, "{key}")?;
    if let Some(comment) = &element.comment {
        write!(out, " comment \"{comment}\"")?;
    }
    if let Some(verdict) = &element.verdict {
        write!(out, " : {verdict}")?;
    }
    Ok(())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::AddressRange(first, last) => {
                let range = palisade_policy::compile::AddressRange { first: *first, last: *last };
                match range.as_net() {
                    Some(_) if first == last => first.fmt(f),
                    Some(net) => net.fmt(f),
                    None => write!(f, "{first}-{last}"),
                }
            }
            Self::AddressPair(one, other) => write!(f, "{one} . {other}"),
            Self::AddressPort(address, port) => write!(f, "{address} . {port}"),
            Self::PortRange(first, last) if first == last => first.fmt(f),
            Self::PortRange(first, last) => write!(f, "{first}-{last}"),
            Self::InterfaceName(name) => write!(f, "\"{name}\""),
        }
    }
}

fn write_chain(out: &mut impl Write, name: &Name, chain: &Chain, counts: &Counts<'_>) -> fmt::Result {
    writeln!(out, "\tchain {name} {{")?;
    if let Some(comment) = &chain.comment {
        writeln!(out, "\t\tcomment \"{comment}\"")?;
    }
    if let Some(hook) = chain.hook {
        let hook = match hook {
            Hook::Forward => "forward",
            Hook::Input => "input",
        };
        writeln!(out, "\t\ttype filter hook {hook} priority filter; policy accept;")?;
    }
    for (position, rule) in chain.rules.iter().enumerate() {
        out.write_str("\t\t")?;
        let count = counts.rules.and_then(|rules| rules.get(&(name.clone(), position)));
        write_counted(out, rule, count)?;
        out.write_char('\n')?;
    }
    writeln!(out, "\t}}")
}

fn write_rule(out: &mut impl Write, rule: &Rule) -> fmt::Result {
    write_counted(out, rule, None)
}

/// The rule with the packets and bytes of its counter, if they are known.
fn write_counted(out: &mut impl Write, rule: &Rule, count: Option<&(u64, u64)>) -> fmt::Result {
    let spelled = expression::spelled(&rule.expressions).map(|spelled| spelled.to_string());
    let mut words: Vec<String> = match count {
        // Nothing else is spelled so.
        Some((packets, bytes)) => spelled
            .map(|word| if word == "counter" { format!("counter packets {packets} bytes {bytes}") } else { word })
            .collect(),
        None => spelled.collect(),
    };
    if let Some(comment) = &rule.comment {
        words.push(format!("comment \"{comment}\""));
    }
    out.write_str(&words.join(" "))
}
