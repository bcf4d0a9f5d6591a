//! Rules that a wider rule makes redundant. Nothing is rendered for them; the comment of the wider rule names them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::RuleRef;
use crate::input::Protocol;

/// The number of covered rules that are named.
const NAMED: usize = 3;

/// The ports of a covered rule, if they are fewer than those of the rule that covers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ports {
    /// The same.
    Same,
    /// All of a protocol.
    Protocol(Protocol),
    /// From the first to the last.
    Range(u16, u16),
    /// A named port.
    Named(Arc<str>),
}

/// Rules that a wider one covers: the first few, and whether there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covers {
    first: BTreeSet<(RuleRef, Ports)>,
    more: bool,
}

impl Covers {
    /// Whether it covers no rule.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn add(&mut self, rule: &RuleRef, ports: Ports) {
        if self.first.len() >= NAMED && self.first.last().is_some_and(|(last, _)| last < rule) {
            self.more = true;
            return;
        }
        self.first.insert((rule.clone(), ports));
        if self.first.len() > NAMED {
            self.first.pop_last();
            self.more = true;
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.more |= other.more;
        for (rule, ports) in other.first {
            self.add(&rule, ports);
        }
    }
}

impl fmt::Display for Covers {
    /// The text form: `covers scrape ingress[0] port 8080, …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (rule, ports)) in self.first.iter().enumerate() {
            write!(f, "{}{rule}{ports}", if position > 0 { ", " } else { "covers " })?;
        }
        if self.more { f.write_str(", …") } else { Ok(()) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => Ok(()),
            Self::Protocol(protocol) => write!(f, " {protocol}"),
            Self::Range(first, last) if first == last => write!(f, " port {first}"),
            Self::Range(first, last) => write!(f, " ports {first}-{last}"),
            Self::Named(name) => write!(f, " port {name}"),
        }
    }
}
