//! Routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;
use palisade_policy::input::Family;

use crate::Error;
use crate::netlink::{Attributes, Socket, Writer};

/// `RTM_GETROUTE`.
const GET_ROUTE: u16 = 26;
/// `RTA_DST`.
const DESTINATION: u16 = 1;
/// `RTA_OIF`.
const DEVICE: u16 = 4;
/// `RTA_MULTIPATH`.
const MULTIPATH: u16 = 9;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// The length of `struct rtmsg`; the family, destination length and type are its bytes 0, 1 and 7.
const HEADER: usize = 12;
/// The length of `struct rtnexthop`; the device is its bytes 4 to 7.
const NEXT_HOP: usize = 8;

fn header(writer: &mut Writer, family: Family, destination_bits: u8) {
    let number = match family {
        Family::V4 => nix::libc::AF_INET,
        Family::V6 => nix::libc::AF_INET6,
    };
    let family = u8::try_from(number).unwrap_or_default();
    writer.raw(&[family, destination_bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// The outgoing device of packets to an IP; `None` if there is no route, or the IP is the node's own.
pub(super) fn device_to(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>, Error> {
    let answer = socket.request(GET_ROUTE, 0, |writer| match address {
        IpAddr::V4(ip) => {
            header(writer, Family::V4, 32);
            writer.attribute(DESTINATION, &ip.octets());
        }
        IpAddr::V6(ip) => {
            header(writer, Family::V6, 128);
            writer.attribute(DESTINATION, &ip.octets());
        }
    });
    let no_route = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EINVAL, Errno::EACCES, Errno::EAFNOSUPPORT];
    let bodies = match answer {
        Ok(bodies) => bodies,
        Err(error) if no_route.iter().any(|errno| error.raw_os_error() == Some(*errno as i32)) => return Ok(None),
        Err(source) => return Err(Error::Read { what: "a route", source }),
    };
    let unicast = bodies.iter().find(|body| body.get(7) == Some(&UNICAST));
    Ok(unicast.and_then(|body| Attributes::after(body, HEADER).ne32(DEVICE)))
}

/// The devices of all default routes, of both families and all routing tables.
pub(super) fn default_devices(socket: &mut Socket) -> Result<BTreeSet<u32>, Error> {
    let mut devices = BTreeSet::new();
    for family in Family::ALL {
        let bodies = socket
            .dump(GET_ROUTE, |writer| header(writer, family, 0))
            .map_err(|source| Error::Read { what: "routes", source })?;
        for body in bodies.iter().filter(|body| body.get(1) == Some(&0) && body.get(7) == Some(&UNICAST)) {
            let route = Attributes::after(body, HEADER);
            devices.extend(route.ne32(DEVICE));
            devices.extend(next_hops(route.get(MULTIPATH).unwrap_or_default()));
        }
    }
    Ok(devices)
}

/// The devices of a route with several next hops.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let (Some(length), Some(device)) = (bytes.first_chunk(), bytes.get(4..NEXT_HOP).and_then(<[u8]>::first_chunk))
    {
        devices.push(u32::from_ne_bytes(*device));
        let length = usize::from(u16::from_ne_bytes(*length)).max(NEXT_HOP);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    devices
}
