//! Deletes flows from conntrack, clears their marks, and counts them.
//!
//! The verdict on a flow depends on the addresses of its conntrack entry. When an IP leaves its pod, entries with it
//! would let peers of the old owner reach the next one as if they were replying, so these entries are deleted.
//!
//! The kernel has no index by address: every query walks the whole table. So one dump looks for all addresses, and it
//! is streamed, never held in memory.

mod census;
mod stamps;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use palisade_policy::input::Family;
use palisade_ruleset::cache::Stale;

use crate::Error;
use crate::codec::nfgenmsg;
use crate::netlink::{Attributes, NETFILTER, Socket, Writer};

pub use census::{Census, NoEntry, Tracked};
pub use stamps::Cleared;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS`.
const STATISTICS: u16 = 1 << 8 | 5;

/// `CTA_STATS_GLOBAL_ENTRIES`.
const ENTRIES: u16 = 1;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`.
const TUPLES: [u16; 2] = [1, 2];
/// `CTA_ID`.
const ID: u16 = 12;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP`.
const TUPLE_IP: u16 = 1;
/// `CTA_IP_V4_SRC` and `_DST`, `CTA_IP_V6_SRC` and `_DST`.
const V4: [u16; 2] = [1, 2];
const V6: [u16; 2] = [3, 4];

/// How often to repeat a truncated dump. More is not needed: unfinished IPs are due again after that, and the engine
/// has their flows deleted with the next dump.
const TRIES: usize = 5;

/// The result of deleting flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries that were deleted.
    pub flows: usize,
    /// Addresses that may still have entries: one could not be deleted, or not all could be read.
    pub unfinished: BTreeSet<IpAddr>,
    /// Entries that were read.
    pub scanned: usize,
}

/// The conntrack table of the network namespace that this was opened in. It may be passed to another thread.
#[derive(Debug)]
pub struct Conntrack {
    /// One socket dumps while the other deletes or changes entries.
    dumps: Socket,
    changes: Socket,
}

/// As [`Conntrack::forget`], in the network namespace of this thread.
///
/// # Errors
/// As [`Conntrack::open`] and [`Conntrack::forget`].
pub fn forget(addresses: &BTreeSet<IpAddr>) -> Result<Forgotten, Error> {
    Conntrack::open()?.forget(addresses)
}

/// As [`Conntrack::clear_stamps`], in the network namespace of this thread.
///
/// # Errors
/// As [`Conntrack::open`] and [`Conntrack::clear_stamps`].
pub fn clear_stamps(stale: Stale) -> Result<Cleared, Error> {
    Conntrack::open()?.clear_stamps(stale)
}

/// As [`Conntrack::entries`], in the network namespace of this thread.
///
/// # Errors
/// As [`Conntrack::open`] and [`Conntrack::entries`].
pub fn entries() -> Result<u32, Error> {
    Conntrack::open()?.entries()
}

/// As [`Conntrack::census`], in the network namespace of this thread.
///
/// # Errors
/// As [`Conntrack::open`] and [`Conntrack::census`].
pub fn census() -> Result<Census, Error> {
    Conntrack::open()?.census()
}

impl Conntrack {
    /// Opens the table.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let socket = || Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source });
        Ok(Self { dumps: socket()?, changes: socket()? })
    }

    /// Deletes the entries, of both families and all protocols, that have one of these addresses as the source or
    /// destination of either tuple. An entry that cannot be deleted does not stop the others from being deleted.
    ///
    /// # Errors
    /// [`Error::Read`]; any of the addresses may then still have entries.
    pub fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Forgotten, Error> {
        let wanted = Wanted::new(addresses);
        let mut forgotten = Forgotten::default();
        if addresses.is_empty() {
            return Ok(forgotten);
        }
        for _ in 0..TRIES {
            // An entry that another attempt does not find is gone.
            forgotten.unfinished.clear();
            if self.pass(&wanted, &mut forgotten).map_err(failed)? {
                return Ok(forgotten);
            }
        }
        forgotten.unfinished.clone_from(addresses);
        Ok(forgotten)
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn entries(&mut self) -> Result<u32, Error> {
        let answers = self.dumps.request(STATISTICS, 0, |writer| header(writer, None)).map_err(failed)?;
        let count = answers.iter().find_map(|answer| Attributes::after(answer, 4).be32(ENTRIES));
        count.ok_or_else(|| failed(Errno::EBADMSG.into()))
    }

    /// One dump, and the deletion of matching entries. Returns whether the dump was complete.
    fn pass(&mut self, wanted: &Wanted, forgotten: &mut Forgotten) -> io::Result<bool> {
        let Self { dumps, changes } = self;
        dumps.dump_once(
            GET,
            |writer| header(writer, wanted.family),
            |entry| {
                forgotten.scanned += 1;
                let mut found = wanted.of(entry).peekable();
                if found.peek().is_none() {
                    return;
                }
                match change(changes, DELETE, entry, |_| {}) {
                    Ok(()) => forgotten.flows += 1,
                    // It ended by itself, or was found twice.
                    Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a conntrack entry cannot be deleted");
                        forgotten.unfinished.extend(found);
                    }
                }
            },
        )
    }
}

fn failed(source: io::Error) -> Error {
    Error::Read { what: "conntrack entries", source }
}

/// The IPs to search for.
struct Wanted {
    addresses: HashSet<IpAddr>,
    /// The family, if all are of one.
    family: Option<Family>,
}

impl Wanted {
    fn new(addresses: &BTreeSet<IpAddr>) -> Self {
        let families: BTreeSet<_> = addresses.iter().map(|address| Family::of(*address)).collect();
        let family = families.first().copied().filter(|_| families.len() == 1);
        Self { addresses: addresses.iter().copied().collect(), family }
    }

    /// The ones that an entry contains.
    fn of<'a>(&'a self, entry: &'a [u8]) -> impl Iterator<Item = IpAddr> + 'a {
        let tuples = Attributes::after(entry, 4).iter().filter(|(kind, _)| TUPLES.contains(kind));
        let ends = tuples.flat_map(|(_, tuple)| Attributes::new(tuple).nest(TUPLE_IP).iter());
        ends.filter_map(|(kind, value)| address(kind, value)).filter(|address| self.addresses.contains(address))
    }
}

fn address(kind: u16, value: &[u8]) -> Option<IpAddr> {
    if V4.contains(&kind) {
        <[u8; 4]>::try_from(value).ok().map(IpAddr::from)
    } else if V6.contains(&kind) {
        <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
    } else {
        None
    }
}

/// For one family, or for both.
fn header(writer: &mut Writer, family: Option<Family>) {
    let number = match family {
        Some(Family::V4) => nix::libc::AF_INET,
        Some(Family::V6) => nix::libc::AF_INET6,
        None => nix::libc::AF_UNSPEC,
    };
    nfgenmsg(writer, u8::try_from(number).unwrap_or_default(), 0);
}

/// Deletes or changes exactly this entry, by its full tuple, zone and identity. Without a tuple the kernel would delete
/// all.
fn change(socket: &mut Socket, kind: u16, entry: &[u8], fill: impl FnOnce(&mut Writer)) -> io::Result<()> {
    let attributes = Attributes::after(entry, 4);
    let [original, _] = TUPLES;
    let tuple = attributes.get(original).filter(|tuple| !tuple.is_empty());
    let Some(tuple) = tuple else { return Err(Errno::ENOENT.into()) };
    socket.request(kind, 0, |writer| {
        nfgenmsg(writer, entry.first().copied().unwrap_or_default(), 0);
        writer.nest(original, |writer| writer.raw(tuple));
        for kind in [ZONE, ID] {
            if let Some(value) = attributes.get(kind) {
                writer.attribute(kind, value);
            }
        }
        fill(writer);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
