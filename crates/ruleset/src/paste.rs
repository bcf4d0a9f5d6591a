//! A name or a line of a listing, found again in a ruleset: a chain, set, map or counter, a rule, or an element.

use std::collections::BTreeSet;

use crate::model::{Chain, Element, Expression, Key, Rule, Ruleset, TABLE, Test, Verdict};
use crate::name::Name;
use crate::text;

/// The maximum length of a pasted text; a line of a listing has a few hundred bytes.
pub const MAX_TEXT: usize = 4096;

/// A pasted text, without what differs from one listing to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pasted {
    /// The chain that a line of `nft monitor trace` names.
    chain: Option<String>,
    /// The name, or the line. A shell may have removed the quotes, so they do not count.
    line: String,
}

/// Why a text cannot be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing is left of it.
    #[error("the text is empty")]
    Empty,
    /// It is longer than [`MAX_TEXT`].
    #[error("the text has more than {MAX_TEXT} bytes: paste one line")]
    TooLong,
    /// It is a line of a trace in another table.
    #[error("the line is of table {0}, which is not Palisade's")]
    OtherTable(String),
}

/// An object of a ruleset, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A chain.
    Chain(Name),
    /// A rule, by its position in a chain.
    Rule(Name, usize),
    /// A set or map.
    Set(Name),
    /// An element of a set or map.
    Element(Name, Key),
    /// A named counter.
    Counter(Name),
}

impl Pasted {
    /// Reads a name, a line of `nft list`, or a line of `nft monitor trace`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(pasted: &str) -> Result<Self, Unreadable> {
        if pasted.len() > MAX_TEXT {
            return Err(Unreadable::TooLong);
        }
        let words: Vec<_> = pasted.split_whitespace().collect();
        let found = match words.as_slice() {
            ["trace", "id", _, family, table, chain, rest @ ..] => {
                if *family != "inet" || (*table != TABLE && *table != format!("{TABLE}-next")) {
                    return Err(Unreadable::OtherTable(format!("{family} {table}")));
                }
                let line = match rest {
                    ["rule", rule @ ..] => without_verdict(&normal(rule)),
                    _ => String::new(),
                };
                Self { chain: Some((*chain).to_owned()), line }
            }
            ["chain" | "set" | "map" | "counter", name] | ["chain" | "set" | "map" | "counter", name, "{", ..] => {
                Self { chain: None, line: (*name).to_owned() }
            }
            ["elements", "=", "{", elements @ ..] => Self { chain: None, line: normal(elements) },
            words => Self { chain: None, line: normal(words) },
        };
        if found.line.is_empty() && found.chain.is_none() { Err(Unreadable::Empty) } else { Ok(found) }
    }

    /// Where a ruleset has it. A rule may be in several chains.
    pub fn find(&self, ruleset: &Ruleset) -> Vec<Place> {
        let rules = |name: &Name, rules: &[Rule]| {
            let is_it = |(_, rule): &(usize, &Rule)| normal_text(&text::rule(rule)) == self.line;
            let found = rules.iter().enumerate().filter(is_it);
            found.map(|(position, _)| Place::Rule(name.clone(), position)).collect::<Vec<_>>()
        };
        if let Some(chain) = &self.chain {
            let chain = ruleset.chains.iter().find(|(name, _)| name.as_str() == chain);
            let Some((name, chain)) = chain else { return Vec::new() };
            let found = if self.line.is_empty() { Vec::new() } else { rules(name, &chain.rules) };
            return if found.is_empty() { vec![Place::Chain(name.clone())] } else { found };
        }
        let bare = self.line.trim_start_matches('@');
        let is_it = |name: &&Name| name.as_str() == bare;
        let mut found: Vec<_> = ruleset.chains.keys().filter(is_it).cloned().map(Place::Chain).collect();
        found.extend(ruleset.sets.keys().filter(is_it).cloned().map(Place::Set));
        found.extend(ruleset.counters.iter().filter(is_it).cloned().map(Place::Counter));
        if found.is_empty() {
            found.extend(ruleset.chains.iter().flat_map(|(name, chain)| rules(name, &chain.rules)));
        }
        if found.is_empty() {
            // nft prints two on a line.
            let elements: BTreeSet<_> =
                self.line.split(", ").map(|part| part.trim_end_matches(['}', ',', ' '])).collect();
            for (name, set) in &ruleset.sets {
                let is_it =
                    |(key, found): &(&Key, &Element)| elements.contains(&*normal_text(&text::element(key, found)));
                found.extend(
                    set.elements.iter().filter(is_it).map(|(key, _)| Place::Element(name.clone(), key.clone())),
                );
            }
        }
        found
    }

    /// The text that names are compared with, to propose the nearest.
    pub fn name(&self) -> &str {
        self.chain.as_deref().unwrap_or(&self.line)
    }
}

/// The names of all objects.
pub fn names(ruleset: &Ruleset) -> impl Iterator<Item = &str> {
    ruleset.chains.keys().chain(ruleset.sets.keys()).chain(&ruleset.counters).map(Name::as_str)
}

/// The rules that look up a set, by chain and position.
pub fn users<'a>(ruleset: &'a Ruleset, set: &Name) -> Vec<(&'a Name, &'a Rule)> {
    let names = |rule: &&Rule| rule.expressions.iter().any(|expression| named(expression) == Some(set));
    let of_chain = |(name, chain): (&'a Name, &'a Chain)| {
        chain.rules.iter().filter(names).map(move |rule| (name, rule)).collect::<Vec<_>>()
    };
    ruleset.chains.iter().flat_map(of_chain).collect()
}

/// The object itself and all chains and maps that lead to it.
pub fn leading_to(ruleset: &Ruleset, object: &Name) -> BTreeSet<Name> {
    let mut found = BTreeSet::from([object.clone()]);
    let mut next = vec![object.clone()];
    while let Some(target) = next.pop() {
        let chains = users(ruleset, &target).into_iter().map(|(chain, _)| chain);
        let leads = |element: &Element| element.verdict.as_ref().and_then(target_of) == Some(&target);
        let maps = ruleset.sets.iter().filter(|(_, set)| set.elements.values().any(leads)).map(|(name, _)| name);
        let new: Vec<_> = chains.chain(maps).filter(|name| !found.contains(*name)).cloned().collect();
        found.extend(new.iter().cloned());
        next.extend(new);
    }
    found
}

/// The object that an expression names.
fn named(expression: &Expression) -> Option<&Name> {
    match expression {
        Expression::Match(_, Test::In(name))
        | Expression::Lookup(_, name)
        | Expression::Vmap(_, name)
        | Expression::CountIn(name) => Some(name),
        Expression::Verdict(verdict) => target_of(verdict),
        Expression::Match(..) | Expression::Counter | Expression::SetMark(_) => None,
    }
}

fn target_of(verdict: &Verdict) -> Option<&Name> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        Verdict::Accept | Verdict::Drop | Verdict::Return => None,
    }
}

/// Without the verdict that a trace adds to a rule: `(verdict jump ingress/shop/web)`.
fn without_verdict(line: &str) -> String {
    line.rsplit_once(" (verdict ").map_or(line, |(rule, _)| rule).to_owned()
}

fn normal_text(text: &str) -> String {
    normal(&text.split_whitespace().collect::<Vec<_>>())
}

/// Words joined by single spaces, without the values of counters, handles and quotes.
fn normal(words: &[&str]) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut rest = words;
    loop {
        rest = match rest {
            ["packets", packets, "bytes", bytes, more @ ..] if is_number(packets) && is_number(bytes) => more,
            ["#", "handle", handle, more @ ..] if is_number(handle) => more,
            [word, more @ ..] => {
                kept.push(word.replace('"', ""));
                more
            }
            [] => break,
        };
    }
    kept.retain(|word| !word.is_empty());
    kept.join(" ")
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
