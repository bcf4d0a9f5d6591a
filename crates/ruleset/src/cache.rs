//! The verdict cache: the rules that accept a flow's packets by a stamp in `ct mark`, and those that write it.
//!
//! A packet that passes all of `forward` stamps its flow with the current number; the next packets with that stamp are
//! accepted by the first rule. Before the table denies anything that it allowed, both rules go, in the same batch; they
//! come back later with the next number. So no stamp outlives the verdict that it stands for. See ADR 13.
//!
//! Both rules have a chain of their own, because deleting rules costs the kernel nothing, while adding some to `forward`
//! makes it validate the whole table.

use crate::change::{Batch, Operation};
use crate::model::{CtStates, Expression, Load, MarkBits, PacketType, Rule, Ruleset, Test, Verdict};
use crate::name::{Name, comment};

/// The chain with the rule that accepts stamped flows.
pub const ACCEPT: &str = "verdict-cache/accept";

/// The chain with the rule that stamps flows.
pub const STAMP: &str = "verdict-cache/stamp";

/// The fewest bits of a slice: with 255 stamps, old ones are cleared after every 127 changes.
const FEWEST_BITS: u32 = 8;

/// The bits of `ct mark` that stamps use: a run of 8 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice(u32);

/// Why a mask is no [`Slice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:#010x} is not a run of 8 to 31 bits, such as 0xffff0000")]
pub struct NotASlice(u32);

/// A number in a slice; never 0, which means *no stamp*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    slice: Slice,
    number: u32,
}

/// The stamps with the same first bit. Those of one half are cleared from conntrack while those of the other are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// From 1.
    Low,
    /// To the greatest number.
    High,
}

/// Stamps that no rule honours any more, to be cleared from conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stale {
    /// The bits.
    pub slice: Slice,
    /// The half; both if none.
    pub half: Option<Half>,
}

impl Default for Slice {
    /// The upper 16 bits: other programs mark flows with small numbers, which are no stamps then.
    fn default() -> Self {
        Self(0xffff_0000)
    }
}

impl Slice {
    /// The bits of a mask.
    ///
    /// # Errors
    /// [`NotASlice`].
    pub fn new(mask: u32) -> Result<Self, NotASlice> {
        let run = mask.count_ones();
        let is_run = run + mask.leading_zeros() + mask.trailing_zeros() == u32::BITS;
        if is_run && (FEWEST_BITS..u32::BITS).contains(&run) { Ok(Self(mask)) } else { Err(NotASlice(mask)) }
    }

    /// The mask.
    pub fn mask(self) -> u32 {
        self.0
    }

    /// The first stamp.
    pub fn first(self) -> Stamp {
        Stamp { slice: self, number: 1 }
    }

    /// The number of stamps, which is also the greatest.
    pub fn size(self) -> u32 {
        self.0 >> self.0.trailing_zeros()
    }

    /// The stamp in a mark, if there is one.
    pub fn stamp(self, mark: u32) -> Option<Stamp> {
        let number = (mark & self.0) >> self.0.trailing_zeros();
        (number > 0).then_some(Stamp { slice: self, number })
    }
}

impl Stamp {
    /// The bits that it is in.
    pub fn slice(self) -> Slice {
        self.slice
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// The next one; after the greatest, the first.
    #[must_use]
    pub fn next(self) -> Self {
        if self.number < self.slice.size() { Self { number: self.number + 1, ..self } } else { self.slice.first() }
    }

    /// Its half.
    pub fn half(self) -> Half {
        if self.number > self.slice.size() / 2 { Half::High } else { Half::Low }
    }

    /// Its bits in a mark.
    pub fn bits(self) -> MarkBits {
        MarkBits { mask: self.slice.mask(), value: self.number << self.slice.mask().trailing_zeros() }
    }

    /// The rule of [`ACCEPT`]. Not for related packets: conntrack copies the mark of a connection to those that a helper
    /// expects, and ICMP errors have the mark of the flow that they are about.
    fn accept(self) -> Rule {
        let states = CtStates { established: true, new: true, ..CtStates::default() };
        let expressions = vec![
            Expression::Match(Load::CtState, Test::States(states)),
            Expression::Match(Load::CtMark, Test::Mark(self.bits())),
            Expression::Verdict(Verdict::Accept),
        ];
        let text = format!("stamp {}: the current rules allowed an earlier packet of this flow", self.number);
        Rule { expressions, comment: Some(comment(&text)) }
    }

    /// The rule of [`STAMP`]. Not for flows from a broadcast or multicast address: replies to it are judged by
    /// link-scope/forward, each.
    fn stamp(self) -> Rule {
        let expressions = vec![
            Expression::Match(Load::SourceType, Test::PacketType(PacketType::Unicast)),
            Expression::SetMark(self.bits()),
        ];
        let text = format!("stamp {}: the current rules allow this flow", self.number);
        Rule { expressions, comment: Some(comment(&text)) }
    }
}

impl Half {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl Stale {
    /// Whether a mark has such a stamp.
    pub fn is_in(self, mark: u32) -> bool {
        self.slice.stamp(mark).is_some_and(|stamp| self.half.is_none_or(|half| stamp.half() == half))
    }
}

/// The operations that end the use of stamps.
pub fn suspend() -> [Operation; 2] {
    [ACCEPT, STAMP].map(|chain| Operation::FlushChain(Name::new(chain)))
}

/// The batch that begins the use of a stamp.
pub fn resume(stamp: Stamp) -> Batch {
    let append = |chain: &str, rule| Operation::AppendRules(Name::new(chain), vec![rule]);
    let operations = vec![append(ACCEPT, stamp.accept()), append(STAMP, stamp.stamp())];
    Batch { name: "resume", waits: true, operations }
}

/// Takes the rules that [`resume`] added out of a table that was read, and returns their stamp.
pub fn take(ruleset: &mut Ruleset) -> Option<Stamp> {
    let stamp = find(ruleset)?;
    for chain in [ACCEPT, STAMP] {
        ruleset.chains.get_mut(&Name::new(chain))?.rules.clear();
    }
    Some(stamp)
}

fn find(ruleset: &Ruleset) -> Option<Stamp> {
    let rules = |chain| ruleset.chains.get(&Name::new(chain)).map(|chain| chain.rules.as_slice());
    let ([accept], [stamp]) = (rules(ACCEPT)?, rules(STAMP)?) else { return None };
    let mut bits = stamp.expressions.iter().filter_map(|expression| match expression {
        Expression::SetMark(bits) => Some(*bits),
        _ => None,
    });
    let MarkBits { mask, value } = bits.next()?;
    let found = Slice::new(mask).ok()?.stamp(value)?;
    (*accept == found.accept() && *stamp == found.stamp()).then_some(found)
}

#[cfg(test)]
mod tests;
