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

/// With more addresses than this, or fewer entries than that, one dump of everything is cheaper than four filtered ones for
/// each address: every dump goes through the whole table.
const FEW_ADDRESSES: usize = 16;
const FEW_ENTRIES: u32 = 20_000;

/// Deletes the conntrack entries, of both families and all protocols, that have one of these addresses as the source or
/// the destination of either tuple. Returns how many were deleted.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`], [`Error::Forget`].
pub fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
    forget_in(addresses, FEW_ENTRIES)
}

/// The same; a table with more entries than `few` is not dumped whole for a few addresses.
fn forget_in(addresses: &BTreeSet<IpAddr>, few: u32) -> Result<usize, Error> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::open(NETFILTER).map_err(|source| Error::Socket { protocol: "netfilter", source })?;
    let mut deleted = 0;
    for entry in find(&mut socket, addresses, few)? {
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
fn find(socket: &mut Socket, addresses: &BTreeSet<IpAddr>, few: u32) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |source| Error::Read { what: "conntrack entries", source };
    if addresses.len() <= FEW_ADDRESSES && entries(socket).map_err(failed)? > few {
        match find_filtered(socket, addresses) {
            // Linux before 5.8 does not know such filters.
            Err(error) if is(&error, Errno::EOPNOTSUPP) || is(&error, Errno::EINVAL) => {}
            result => return result.map_err(failed),
        }
    }
    socket.dump(GET, |writer| header(writer, None)).map_err(failed)
}

/// How many entries there are.
fn entries(socket: &mut Socket) -> io::Result<u32> {
    let answers = socket.request(STATISTICS, 0, |writer| header(writer, None))?;
    let count = answers.iter().find_map(|answer| Attributes::after(answer, 4).get(ENTRIES));
    let count = count.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    count.ok_or_else(|| io::Error::from(Errno::EBADMSG))
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

/// Of a family, or of both.
fn header(writer: &mut Writer, family: Option<Family>) {
    let number = match family {
        Some(Family::V4) => nix::libc::AF_INET,
        Some(Family::V6) => nix::libc::AF_INET6,
        None => nix::libc::AF_UNSPEC,
    };
    writer.raw(&[u8::try_from(number).unwrap_or_default(), 0, 0, 0]);
}

/// A partial tuple, and which parts of it count.
fn write_filter(writer: &mut Writer, address: IpAddr, tuple: u16, end: End) {
    header(writer, Some(Family::of(address)));
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn entry(from: &str, to: &str, server: &str, port: &str) {
        let reply = ["--reply-src", server, "--reply-dst", from, "--reply-port-src", "80", "--reply-port-dst", port];
        let original = ["-I", "-p", "udp", "-s", from, "-d", to, "--sport", port, "--dport", "80", "--timeout", "1000"];
        let done = Command::new("conntrack").args(original).args(reply).output().expect("conntrack is installed");
        assert!(done.status.success(), "{done:?}");
    }

    /// Seen to fail when only sources were asked for.
    #[test]
    fn a_full_table_is_searched_by_address() {
        let space = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root, for network namespaces");
            entry("10.0.0.1", "10.96.0.1", "10.0.0.2", "1");
            entry("10.0.0.2", "10.96.0.1", "10.0.0.1", "2");
            entry("10.0.0.3", "10.96.0.9", "10.0.0.2", "3");
            entry("fd00::1", "fd00::99", "fd00::2", "4");
            entry("fd00::3", "fd00::99", "fd00::4", "5");
            let mut socket = Socket::open(NETFILTER).unwrap();
            assert_eq!(entries(&mut socket).unwrap(), 5);
            let forget = |address: &str| forget_in(&[address.parse().unwrap()].into(), 0).unwrap();
            assert_eq!(forget("10.0.0.9"), 0);
            assert_eq!(forget("10.0.0.1"), 2, "the opener of one and the server of another");
            assert_eq!(forget("10.96.0.9"), 1, "whom the opener addressed");
            assert_eq!(forget("fd00::2"), 1, "a server behind an address that stays");
            assert_eq!(entries(&mut socket).unwrap(), 1);
        });
        space.join().unwrap();
    }
}
