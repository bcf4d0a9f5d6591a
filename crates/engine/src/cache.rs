//! Which stamp the verdict cache uses, and which ones must be cleared from conntrack first.
//!
//! The rules of the cache are suspended in the batch that may deny something, and come back with the next stamp once
//! there is no other work. A stamp is used again only after every flow with it lost it: while the stamps of one
//! half are in use, those of the other are cleared. See ADR 13.

use std::collections::BTreeSet;

use palisade_ruleset::cache::{self, Half, Slice, Stale, Stamp};
use palisade_ruleset::change::{Batch, Operation};

/// The state of the verdict cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    /// The bits of its stamps; none if there is no cache.
    slice: Option<Slice>,
    /// The stamp in the table's rules, once the batches on their way are committed.
    active: Option<Stamp>,
    /// The last stamp that was in the rules. None: conntrack may have any stamps.
    last: Option<Stamp>,
    /// The halves of which conntrack has no stamps.
    clean: BTreeSet<Half>,
    /// The stamps that are being cleared, and whether the result still counts.
    clearing: Option<(Stale, bool)>,
}

impl Cache {
    /// A cache with stamps in these bits, or none.
    pub(crate) fn new(slice: Option<Slice>) -> Self {
        Self { slice, ..Self::default() }
    }

    /// The stamp in the table's rules.
    pub(crate) fn active(&self) -> Option<Stamp> {
        self.active
    }

    /// Ends the use of the current stamp: returns the operations for the batch that may deny something, or for one
    /// before it.
    pub(crate) fn suspend(&mut self) -> Vec<Operation> {
        if self.active.take().is_some() { cache::suspend().into() } else { Vec::new() }
    }

    /// Begins the use of the next stamp, if it can be used: returns the batch.
    pub(crate) fn resume(&mut self) -> Option<Batch> {
        let next = self.next()?;
        if self.enters(next) {
            self.clean.remove(&next.half());
        }
        (self.active, self.last) = (Some(next), Some(next));
        Some(cache::resume(next))
    }

    /// The stamp that can be used next.
    fn next(&self) -> Option<Stamp> {
        let slice = self.slice.filter(|_| self.active.is_none())?;
        let next = self.last.map_or(slice.first(), Stamp::next);
        (!self.enters(next) || self.clean.contains(&next.half())).then_some(next)
    }

    /// Whether the stamps of its half were not in use a moment ago.
    fn enters(&self, stamp: Stamp) -> bool {
        self.last.is_none_or(|last| last.half() != stamp.half())
    }

    /// Whether there are stamps to clear.
    pub(crate) fn has_stale(&self) -> bool {
        self.stale().is_some()
    }

    /// The stamps to clear from conntrack, from now on: no rule writes them.
    pub(crate) fn clear(&mut self) -> Option<Stale> {
        let stale = self.stale()?;
        self.clearing = Some((stale, true));
        Some(stale)
    }

    fn stale(&self) -> Option<Stale> {
        // Without a last stamp, the rules are those of an earlier agent: they may write any.
        let is_foreign = self.active.is_some() && self.last.is_none();
        let slice = self.slice.filter(|_| self.clearing.is_none() && !is_foreign)?;
        let half = self.last.map(|last| last.half().other());
        let is_clean = half.map_or(self.clean.len() == 2, |half| self.clean.contains(&half));
        (!is_clean).then_some(Stale { slice, half })
    }

    /// Takes the result of clearing: whether no flow has such a stamp any more.
    pub(crate) fn cleared(&mut self, all: bool) {
        let Some((stale, true)) = self.clearing.take().filter(|_| all) else { return };
        match stale.half {
            Some(half) => drop(self.clean.insert(half)),
            None => self.clean.extend([Half::Low, Half::High]),
        }
    }

    /// Takes the stamp that the table's rules were found with. Returns whether their use must end: they are not those
    /// of this cache.
    pub(crate) fn adopt(&mut self, found: Option<Stamp>) -> bool {
        self.active = found;
        let Some(found) = found else { return false };
        let is_ours = Some(found.slice()) == self.slice && self.last.is_none_or(|last| last == found);
        if is_ours {
            self.last = Some(found);
        } else {
            self.distrust();
        }
        !is_ours
    }

    /// The table is new: it has no rules of the cache, and conntrack may have any stamps.
    pub(crate) fn begin(&mut self) {
        self.active = None;
        self.distrust();
    }

    fn distrust(&mut self) {
        self.last = None;
        self.clean.clear();
        if let Some((_, counts)) = &mut self.clearing {
            *counts = false;
        }
    }

    /// Gives up: the kernel refuses the rules.
    pub(crate) fn give_up(&mut self) {
        *self = Self::default();
    }

    /// Whether it has no work: nothing to clear, and no stamp to begin with.
    pub(crate) fn is_settled(&self) -> bool {
        self.next().is_none() && self.clearing.is_none() && self.stale().is_none()
    }
}

#[cfg(test)]
mod tests;
