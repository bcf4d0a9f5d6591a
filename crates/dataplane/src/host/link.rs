//! Network interfaces.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::netlink::{Attributes, Socket, Writer};

/// `RTM_GETLINK`.
const GET_LINK: u16 = 18;
/// `IFLA_IFNAME`.
pub(super) const NAME: u16 = 3;
/// `IFLA_MASTER`.
const MASTER: u16 = 10;
/// `IFLA_LINKINFO`, `IFLA_INFO_KIND` and `IFLA_INFO_DATA`.
pub(super) const INFO: u16 = 18;
pub(super) const INFO_KIND: u16 = 1;
pub(super) const INFO_DATA: u16 = 2;
/// `IFLA_EXT_MASK`, and `RTEXT_FILTER_SKIP_STATS` in it.
const EXTENT: u16 = 29;
const WITHOUT_STATISTICS: u32 = 8;
/// `IFLA_BR_NF_CALL_IPTABLES` and `IFLA_BR_NF_CALL_IP6TABLES`.
pub(super) const CALL_IPTABLES: u16 = 36;
pub(super) const CALL_IP6TABLES: u16 = 37;
/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 8;
/// The length of `struct ifinfomsg`; the index is its bytes 4 to 7, the flags are bytes 8 to 11.
pub(super) const HEADER: usize = 16;

/// Whether a bridge passes its packets to netfilter by its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

fn dump(socket: &mut Socket, fill: impl Fn(&mut Writer)) -> Result<Vec<Vec<u8>>, Error> {
    let request = |writer: &mut Writer| {
        writer.raw(&[0; HEADER]);
        writer.attribute(EXTENT, &WITHOUT_STATISTICS.to_ne_bytes());
        fill(writer);
    };
    socket.dump(GET_LINK, request).map_err(|source| Error::Read { what: "network interfaces", source })
}

/// The names of all interfaces except loopback, by index.
pub(super) fn names(socket: &mut Socket) -> Result<BTreeMap<u32, String>, Error> {
    let bodies = dump(socket, |_| {})?;
    let named = bodies.iter().filter_map(|body| {
        let index = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
        let flags = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
        let name = Attributes::after(body, HEADER).string(NAME)?.to_owned();
        (flags & LOOPBACK == 0).then_some((index, name))
    });
    Ok(named.collect())
}

/// The ports of one of these bridges.
pub(super) fn members(socket: &mut Socket, bridges: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let names = names(socket)?;
    let bodies = dump(socket, |_| {})?;
    let members = bodies.iter().filter_map(|body| {
        let attributes = Attributes::after(body, HEADER);
        names.get(&attributes.ne32(MASTER)?).filter(|bridge| bridges.contains(*bridge))?;
        attributes.string(NAME).map(str::to_owned)
    });
    Ok(members.collect())
}

/// All bridges and their settings, by name.
pub(super) fn bridges(socket: &mut Socket) -> Result<BTreeMap<String, Bridge>, Error> {
    // The kernel omits other kinds, unless it is older than 4.6.
    let bodies = dump(socket, |writer| writer.nest(INFO, |writer| writer.string(INFO_KIND, "bridge")))?;
    let bridges = bodies.iter().filter_map(|body| {
        let attributes = Attributes::after(body, HEADER);
        let info = attributes.nest(INFO);
        let data = info.nest(INFO_DATA);
        let on = |kind| data.get(kind).is_some_and(|value| value != [0]);
        let bridge = Bridge { ipv4: on(CALL_IPTABLES), ipv6: on(CALL_IP6TABLES) };
        (info.string(INFO_KIND) == Some("bridge")).then_some((attributes.string(NAME)?.to_owned(), bridge))
    });
    Ok(bridges.collect())
}
