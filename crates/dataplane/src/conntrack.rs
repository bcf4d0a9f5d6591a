//! Forgetting flows.
//!
//! The verdict on a flow stands on the addresses of its conntrack entry. When an address leaves its pod, entries with it
//! would let peers of the old owner reach the next one as if they were replying; so these entries are deleted.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use palisade_policy::input::Family;

use crate::Error;
use crate::netlink::{Attributes, Socket, Writer};

/// `NETLINK_NETFILTER`.
const NETFILTER: isize = 12;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;

/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`.
const TUPLES: [u16; 2] = [1, 2];
/// `CTA_ID`.
const ID: u16 = 12;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `CTA_FILTER`.
const FILTER: u16 = 25;
/// `CTA_TUPLE_IP`.
const TUPLE_IP: u16 = 1;

/// The source or the destination of a tuple.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// With more addresses than this, one dump of everything is cheaper than four filtered ones for each.
const FEW: usize = 16;

/// Deletes the conntrack entries, of both families and all protocols, that have one of these addresses as the source or
/// the destination of either tuple. Returns how many were deleted.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`], [`Error::Forget`].
pub fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })?;
    let mut deleted = 0;
    for entry in find(&mut socket, addresses)? {
        let Some(address) = addresses.iter().find(|address| concerns(&entry, **address)) else { continue };
        match delete(&mut socket, &entry) {
            Ok(()) => deleted += 1,
            // It ended by itself, or was found twice.
            Err(error) if is(&error, Errno::ENOENT) => {}
            Err(source) => return Err(Error::Forget { address: *address, source }),
        }
    }
    Ok(deleted)
}

/// Entries that may concern the addresses.
fn find(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |source| Error::Read { what: "conntrack entries", source };
    let mut found = Vec::new();
    if addresses.len() <= FEW {
        match find_filtered(socket, addresses) {
            // Linux before 5.8 does not know such filters.
            Err(error) if is(&error, Errno::EOPNOTSUPP) || is(&error, Errno::EINVAL) => {}
            result => return result.map_err(failed),
        }
    }
    for family in Family::ALL {
        if addresses.iter().any(|address| Family::of(*address) == family) {
            found.extend(socket.dump(GET, |writer| header(writer, family)).map_err(failed)?);
        }
    }
    Ok(found)
}

fn find_filtered(socket: &mut Socket, addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for address in addresses {
        for tuple in TUPLES {
            for end in [End::Source, End::Destination] {
                found.extend(socket.dump(GET, |writer| write_filter(writer, *address, tuple, end))?);
            }
        }
    }
    Ok(found)
}

fn header(writer: &mut Writer, family: Family) {
    let number = match family {
        Family::V4 => nix::libc::AF_INET,
        Family::V6 => nix::libc::AF_INET6,
    };
    writer.raw(&[u8::try_from(number).unwrap_or_default(), 0, 0, 0]);
}

/// A partial tuple, and which parts of it count.
fn write_filter(writer: &mut Writer, address: IpAddr, tuple: u16, end: End) {
    header(writer, Family::of(address));
    writer.nest(tuple, |writer| {
        writer.nest(TUPLE_IP, |writer| match address {
            IpAddr::V4(ip) => writer.attribute(attribute(address, end), &ip.octets()),
            IpAddr::V6(ip) => writer.attribute(attribute(address, end), &ip.octets()),
        });
    });
    // CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_F_CTA_IP_DST.
    let flag: u32 = match end {
        End::Source => 1,
        End::Destination => 2,
    };
    // CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS have the numbers of the tuples; the other one must be there too.
    writer.nest(FILTER, |writer| {
        for flags in TUPLES {
            writer.attribute(flags, &(if flags == tuple { flag } else { 0 }).to_ne_bytes());
        }
    });
}

/// `CTA_IP_V4_SRC` and so on.
fn attribute(address: IpAddr, end: End) -> u16 {
    match (address, end) {
        (IpAddr::V4(_), End::Source) => 1,
        (IpAddr::V4(_), End::Destination) => 2,
        (IpAddr::V6(_), End::Source) => 3,
        (IpAddr::V6(_), End::Destination) => 4,
    }
}

/// Whether an entry has the address somewhere.
fn concerns(entry: &[u8], address: IpAddr) -> bool {
    let attributes = Attributes::after(entry, 4);
    TUPLES.into_iter().any(|tuple| {
        let ip = attributes.nest(tuple).nest(TUPLE_IP);
        [End::Source, End::Destination].into_iter().any(|end| match address {
            IpAddr::V4(wanted) => ip.get(attribute(address, end)) == Some(&wanted.octets()),
            IpAddr::V6(wanted) => ip.get(attribute(address, end)) == Some(&wanted.octets()),
        })
    })
}

/// Deletes exactly this entry, by its full tuple, zone and identity. Without a tuple the kernel would delete all.
fn delete(socket: &mut Socket, entry: &[u8]) -> io::Result<()> {
    let attributes = Attributes::after(entry, 4);
    let [original, _] = TUPLES;
    let tuple = attributes.get(original).filter(|tuple| !tuple.is_empty());
    let Some(tuple) = tuple else { return Err(Errno::ENOENT.into()) };
    socket.request(DELETE, 0, |writer| {
        writer.raw(&[entry.first().copied().unwrap_or_default(), 0, 0, 0]);
        writer.nest(original, |writer| writer.raw(tuple));
        for kind in [ZONE, ID] {
            if let Some(value) = attributes.get(kind) {
                writer.attribute(kind, value);
            }
        }
    })?;
    Ok(())
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
