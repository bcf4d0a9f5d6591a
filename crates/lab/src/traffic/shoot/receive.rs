//! The sockets that record arriving shots.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockFilter, Socket, Type};

use super::craft::{id_offset, mark_offset};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::namespace::Namespace;
use crate::traffic::flow::Protocol;
use crate::traffic::packet::{SHOT_MARK, echo_request_type, field_u32, skip_ipv4_header};
use crate::traffic::socket::enlarge_queue;

/// Queue of a receiver, bytes. It holds many chunks; the kernel's default limit of 212,992 bytes still holds two.
const QUEUE: usize = 4 << 20;

/// The sockets of a namespace that record arriving shots: a raw socket per protocol and family gets a copy of every
/// packet delivered in the namespace, after its input hook; a filter passes only shots.
#[derive(Debug)]
pub(super) struct Receivers {
    pub(super) sockets: Vec<Receiver>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    family: Family,
    protocol: Protocol,
    socket: Socket,
}

impl Receivers {
    pub(super) fn open(namespace: &Namespace) -> Result<Self> {
        let opened = namespace.run(|| {
            let mut sockets = Vec::new();
            for family in Family::ALL {
                for protocol in Protocol::ALL {
                    sockets.push(Receiver { family, protocol, socket: open_receiver(family, protocol)? });
                }
            }
            Ok(Self { sockets })
        })?;
        opened.map_err(Error::socket::<io::Error>("open receivers of shots", namespace.name()))
    }
}

fn open_receiver(family: Family, protocol: Protocol) -> io::Result<Socket> {
    let (domain, any): (_, IpAddr) = match family {
        Family::V4 => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        Family::V6 => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let number = i32::from(protocol.number(any));
    let socket = Socket::new(domain, Type::RAW, Some(number.into()))?;
    socket.attach_filter(&only_shots(family, protocol))?;
    enlarge_queue(&socket, QUEUE)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A classic BPF program that keeps marked packets. IPv4 raw sockets see the IP header, IPv6 ones do not.
fn only_shots(family: Family, protocol: Protocol) -> Vec<SockFilter> {
    use nix::libc::{BPF_ABS, BPF_B, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W};

    let code = |bits: u32| u16::try_from(bits).unwrap_or(0);
    let offset = mark_offset(protocol);
    let mut program = match family {
        Family::V4 => vec![
            SockFilter::new(code(BPF_LDX | BPF_B | BPF_MSH), 0, 0, 0),
            SockFilter::new(code(BPF_LD | BPF_W | BPF_IND), 0, 0, offset),
        ],
        Family::V6 => vec![SockFilter::new(code(BPF_LD | BPF_W | BPF_ABS), 0, 0, offset)],
    };
    program.push(SockFilter::new(code(BPF_JMP | BPF_JEQ | BPF_K), 0, 1, SHOT_MARK));
    program.push(SockFilter::new(code(BPF_RET | BPF_K), 0, 0, u32::MAX));
    program.push(SockFilter::new(code(BPF_RET | BPF_K), 0, 0, 0));
    program
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Receiver {
    /// Passes the id of every shot in the queue to `note`.
    pub(super) fn drain(&self, mut note: impl FnMut(u32)) {
        let mut buffer = [0; 256];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(size) => {
                    if let Some(id) = buffer.get(..size).and_then(|packet| self.id(packet)) {
                        note(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer; more may be queued behind it.
                Err(_) => {}
            }
        }
    }

    fn id(&self, packet: &[u8]) -> Option<u32> {
        let segment = if self.family == Family::V4 { skip_ipv4_header(packet)? } else { packet };
        let mark = field_u32(segment, usize::try_from(mark_offset(self.protocol)).ok()?)?;
        let any: IpAddr =
            if self.family == Family::V4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // Echo replies carry the mark back to the sender.
        let is_reply = self.protocol == Protocol::Icmp && segment.first() != Some(&echo_request_type(any));
        (mark == SHOT_MARK && !is_reply).then(|| field_u32(segment, id_offset(self.protocol))).flatten()
    }
}
