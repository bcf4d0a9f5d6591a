//! Raw sending and receiving: any IP packet, any Ethernet frame.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{LinkAddr, SockaddrLike, bind, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::traffic::signal::wait_for;

/// `ETH_P_ALL` of `linux/if_ether.h`: frames of every ethertype.
const EVERY_ETHERTYPE: u16 = 3;
/// `IPPROTO_RAW`: the sender makes the IP header.
const HEADER_INCLUDED: i32 = 255;
/// `PACKET_OUTGOING` of `linux/if_packet.h`: a frame this machine sent.
const OUTGOING: u8 = 4;
/// Largest frame read.
const LARGEST_FRAME: usize = 65_536;

/// Sockets of a namespace that send IP packets with the caller's header.
#[derive(Debug)]
pub(crate) struct Launchers {
    v4: Socket,
    v6: Socket,
    /// Index of `eth0`, which link-local destinations need; zero when there is none.
    uplink: u32,
}

impl Launchers {
    pub(crate) fn open(namespace: &Namespace) -> Result<Self> {
        let opened = namespace.run(|| {
            let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(HEADER_INCLUDED)))?;
            v4.set_broadcast(true)?;
            let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(HEADER_INCLUDED)))?;
            Ok(Self { v4, v6, uplink: uplink() })
        })?;
        opened.map_err(Error::socket::<io::Error>("open raw sockets", namespace.name()))
    }

    /// Sends a whole IP packet to the destination its header names.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let to = destination(packet).ok_or(io::ErrorKind::InvalidInput)?;
        let (socket, to) = match to {
            IpAddr::V4(_) => (&self.v4, SocketAddr::new(to, 0)),
            IpAddr::V6(v6) => (&self.v6, SocketAddrV6::new(v6, 0, 0, scope(v6, self.uplink)).into()),
        };
        socket.send_to(packet, &to.into()).map(drop)
    }

    pub(crate) fn uplink(&self) -> u32 {
        self.uplink
    }
}

/// Index of `eth0` of the calling thread's namespace; zero when there is none.
pub(crate) fn uplink() -> u32 {
    if_nametoindex("eth0").unwrap_or(0)
}

/// The interface an IPv6 destination must name: link-local addresses and link-scope groups do.
pub(crate) fn scope(address: Ipv6Addr, interface: u32) -> u32 {
    let is_link_group = matches!(address.octets(), [0xff, flags, ..] if flags & 0x0f == 2);
    if address.is_unicast_link_local() || is_link_group { interface } else { 0 }
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => <[u8; 4]>::try_from(packet.get(16..20)?).ok().map(|octets| Ipv4Addr::from(octets).into()),
        6 => <[u8; 16]>::try_from(packet.get(24..40)?).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

impl Namespace {
    /// Sends an arbitrary IPv4 or IPv6 packet, header included (see [`crate::packet`]), through the namespace's routing
    /// and output hooks. Link-local destinations leave through `eth0`.
    ///
    /// # Errors
    /// [`Error::Socket`]; `EPERM` means that a rule of the namespace itself dropped the packet.
    pub fn send_packet(&self, packet: &[u8]) -> Result<()> {
        Launchers::open(self)?.send(packet).map_err(Error::socket::<io::Error>("send a raw packet", self.name()))
    }
}

/// A socket that sends and receives whole Ethernet frames on one interface, bypassing all IP hooks of its own
/// namespace.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
    namespace: String,
}

impl FrameSocket {
    /// Opens a socket on an interface. It receives from now on, including frames for other stations.
    ///
    /// # Errors
    /// [`Error::Socket`], for example when there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let opened = namespace.run(|| {
            let every = i32::from(EVERY_ETHERTYPE.to_be());
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every)))?;
            let address = link_address(interface)?;
            bind(socket.as_raw_fd(), &address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let what = format!("open a frame socket on {interface}");
        let socket = opened.map_err(Error::socket::<io::Error>(what, namespace.name()))?;
        Ok(Self { socket, namespace: namespace.name().into() })
    }

    /// Sends a frame, Ethernet header included.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame).map(drop).map_err(Error::socket::<io::Error>("send a frame", &self.namespace))
    }

    /// Waits for a received (not sent) frame that satisfies the condition; earlier ones are discarded. `None` after the
    /// limit.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn wait_for(&self, limit: Duration, condition: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let failed = |source| Error::socket::<io::Error>("receive a frame", &self.namespace)(source);
        let start = Instant::now();
        loop {
            while let Some(frame) = self.receive().map_err(failed)? {
                if condition(&frame) {
                    return Ok(Some(frame));
                }
            }
            let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { return Ok(None) };
            wait_for(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], Some(left)).map_err(failed)?;
        }
    }

    /// The frames received so far.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn drain(&self) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) =
            self.receive().map_err(Error::socket::<io::Error>("receive a frame", &self.namespace))?
        {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// The next received frame, if any.
    fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; LARGEST_FRAME];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                Ok((size, _)) => {
                    buffer.truncate(size);
                    return Ok(Some(buffer));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The link-layer address of an interface of the calling thread's namespace.
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| entry.address)
        .filter(|address| address.family() == Some(nix::sys::socket::AddressFamily::Packet))
        .find_map(|address| address.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {interface}")))
}
