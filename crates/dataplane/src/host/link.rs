//! Network interfaces.

use nix::errno::Errno;

use crate::Error;
use crate::netlink::{Attributes, Socket, Writer};

/// `RTM_GETLINK`.
const GET_LINK: u16 = 18;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `IFLA_LINKINFO`, `IFLA_INFO_KIND` and `IFLA_INFO_DATA`.
const INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
/// `IFLA_BR_NF_CALL_IPTABLES` and `IFLA_BR_NF_CALL_IP6TABLES`.
const CALL_IPTABLES: u16 = 36;
const CALL_IP6TABLES: u16 = 37;
/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 8;
/// The length of `struct ifinfomsg`; the index is its bytes 4 to 7, the flags are bytes 8 to 11.
const HEADER: usize = 16;

/// An interface.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: String,
}

/// Whether a bridge, by its own settings, shows its packets to netfilter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bridge {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

fn request(socket: &mut Socket, fill: impl FnOnce(&mut Writer)) -> Result<Option<Vec<u8>>, Error> {
    match socket.request(GET_LINK, 0, fill) {
        Ok(bodies) => Ok(bodies.into_iter().next()),
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(source) => Err(Error::Read { what: "a network interface", source }),
    }
}

/// The interface of an index; none if it is loopback, or gone.
pub(super) fn describe(socket: &mut Socket, index: u32) -> Result<Option<Link>, Error> {
    let body = request(socket, |writer| {
        writer.raw(&[0; 4]);
        writer.raw(&index.to_ne_bytes());
        writer.raw(&[0; 8]);
    })?;
    Ok(body.and_then(|body| {
        let flags = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?);
        let name = Attributes::after(&body, HEADER).string(NAME)?.to_owned();
        (flags & LOOPBACK == 0).then_some(Link { name })
    }))
}

/// The settings of a bridge; none if the interface is something else, or gone.
pub(super) fn bridge(socket: &mut Socket, name: &str) -> Result<Option<Bridge>, Error> {
    let body = request(socket, |writer| {
        writer.raw(&[0; HEADER]);
        writer.string(NAME, name);
    })?;
    Ok(body.and_then(|body| {
        let info = Attributes::after(&body, HEADER).nest(INFO);
        let data = info.nest(INFO_DATA);
        let on = |kind| data.get(kind).is_some_and(|value| value != [0]);
        (info.string(INFO_KIND) == Some("bridge")).then(|| Bridge { ipv4: on(CALL_IPTABLES), ipv6: on(CALL_IP6TABLES) })
    }))
}
