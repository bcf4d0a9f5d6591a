//! Clears stamps of the verdict cache from the marks of conntrack entries.

use std::io;

use palisade_ruleset::cache::Stale;

use super::{Conntrack, GET, change, failed, header};
use crate::Error;
use crate::netlink::{Attributes, Writer};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`; for an entry that exists, a change.
const CHANGE: u16 = 1 << 8;

/// `CTA_MARK`.
const MARK: u16 = 8;
/// `CTA_MARK_MASK`: the bits that change.
const MARK_MASK: u16 = 21;

/// How often to dump until none is found. An entry that moves within the kernel's table may be missed by one dump.
const TRIES: usize = 8;

/// The result of clearing stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// The entries that had a stamp.
    pub flows: usize,
    /// No entry has one any more: a whole dump found none.
    pub all: bool,
}

impl Conntrack {
    /// Removes stale stamps from the marks of all entries; other bits of the marks stay.
    ///
    /// # Errors
    /// [`Error::Read`]; entries may then still have such stamps.
    pub fn clear_stamps(&mut self, stale: Stale) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        for _ in 0..TRIES {
            let (found, complete) = self.clear_once(stale).map_err(failed)?;
            cleared.flows += found;
            if found == 0 && complete {
                return Ok(Cleared { all: true, ..cleared });
            }
        }
        Ok(cleared)
    }

    /// One dump. Returns how many entries had such a stamp, and whether the dump was complete.
    fn clear_once(&mut self, stale: Stale) -> io::Result<(usize, bool)> {
        let Self { dumps, changes } = self;
        let mut found = 0;
        let complete = dumps.dump_once(
            GET,
            |writer| header(writer, None),
            |entry| {
                // An entry without a mark has no attribute.
                let mark = Attributes::after(entry, 4).be32(MARK).unwrap_or_default();
                if stale.is_in(mark) {
                    found += 1;
                    let clear = |writer: &mut Writer| {
                        writer.be32(MARK, 0);
                        writer.be32(MARK_MASK, stale.slice.mask());
                    };
                    if let Err(error) = change(changes, CHANGE, entry, clear) {
                        tracing::debug!(%error, "the mark of a conntrack entry cannot be changed");
                    }
                }
            },
        )?;
        Ok((found, complete))
    }
}
