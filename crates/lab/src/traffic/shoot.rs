//! Shots: one crafted packet per flow, and receivers that note which of them arrive.
//!
//! How a verdict is known without waiting: the kernel handles what one CPU sends over veth devices in the order it was
//! sent, on that CPU (`netif_rx` puts each packet at the end of the CPU's backlog). So the sending thread stays on one
//! CPU, and behind the shots it sends fences: datagrams over a loopback device, each of which passes the backlog once.
//! When a fence is back, everything that was ahead of it has moved on by one device. After as many fences as the
//! longest way has devices (address resolution included), every shot is either delivered or dropped.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;
use std::panic;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::topology::address::Family;
use crate::traffic::flow::{Flow, Protocol};
use crate::traffic::packet::{Ends, Tcp, echo_request_type, field_u32, sctp, tcp_flag};
use crate::traffic::probe::{next_port, token};
use crate::traffic::raw::scope;
use crate::traffic::serve::skip_ipv4_header;
use crate::traffic::signal::{ready, wait_for};
use crate::traffic::socket::enlarge_queue;

/// What marks a packet as a shot; any value that does not occur by chance.
pub(crate) const MARK: u32 = 0x5ba1_15ad;
/// Shots between two rounds of fences: below the kernel's default backlog of 1,000 packets.
const CHUNK: usize = 256;
/// More devices than the longest way has: pod, node, fabric, node, pod, with address resolution on each link.
const FENCES: u32 = 24;
/// How long a fence may take on a busy machine.
const FENCE_LIMIT: Duration = Duration::from_secs(5);
/// Flows in one batch: ids of a batch must be far from those of the next.
const BATCH_LIMIT: usize = 1 << 24;
/// Queue of a receiver, bytes. A chunk fits many times, and twice into the kernel's default limit of 212,992 bytes.
const QUEUE: usize = 4 << 20;

/// The sender of shots of a lab. One batch at a time.
#[derive(Debug)]
pub(crate) struct Shooter {
    fence: Fence,
    /// Id of the next shot.
    next: u32,
}

impl Shooter {
    pub(crate) fn new(fabric: &Namespace) -> Result<Self> {
        let next = u32::try_from(token() >> 32).unwrap_or(0);
        Ok(Self { fence: Fence::open(fabric)?, next })
    }

    /// Sends one packet per flow and returns the name of the namespace each was delivered in.
    pub(crate) fn shoot(&mut self, flows: &[Flow], targets: &[Namespace]) -> Result<Vec<Option<String>>> {
        if flows.len() > BATCH_LIMIT {
            return Err(Error::TooManyFlows { count: flows.len(), limit: BATCH_LIMIT });
        }
        let count = u32::try_from(flows.len()).unwrap_or(u32::MAX);
        let first = self.next;
        self.next = first.wrapping_add(count);
        for target in targets {
            target.receivers()?;
        }
        let packets = craft(flows, first)?;
        let mut tally = Tally { first, places: vec![None; flows.len()], late: Vec::new() };
        let fence = &mut self.fence;
        let fired = thread::scope(|scope| {
            let shooter = thread::Builder::new()
                .name("lab-shooter".into())
                .spawn_scoped(scope, || fire(flows, &packets, targets, fence, &mut tally))
                .map_err(|source| Error::Io { what: "start a thread", source })?;
            shooter.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        fired?;
        if let Some(&place) = tally.late.first() {
            let namespace = targets.get(place).map(|target| target.name().to_owned()).unwrap_or_default();
            return Err(Error::LateShots { count: tally.late.len(), namespace });
        }
        let name = |place: usize| targets.get(place).map(|target| target.name().to_owned());
        Ok(tally.places.into_iter().map(|place| place.and_then(name)).collect())
    }

    /// Waits until everything that was on its way on any CPU has been delivered or dropped.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let failed = |errno: nix::Error| Error::Io { what: "choose a CPU", source: errno.into() };
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(failed)?;
        for cpu in (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)) {
            let fence = &mut self.fence;
            thread::scope(|scope| {
                let flusher = scope.spawn(move || {
                    pin(cpu).map_err(failed)?;
                    fence.pass()
                });
                flusher.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
            })?;
        }
        Ok(())
    }
}

/// What a batch has found so far.
#[derive(Debug)]
struct Tally {
    first: u32,
    /// For each flow the position of the namespace it was delivered in.
    places: Vec<Option<usize>>,
    /// Where ids of earlier batches came in.
    late: Vec<usize>,
}

impl Tally {
    fn note(&mut self, id: u32, place: usize) {
        let position = usize::try_from(id.wrapping_sub(self.first)).ok();
        match position.and_then(|position| self.places.get_mut(position)) {
            Some(slot) => *slot = Some(place),
            None => self.late.push(place),
        }
    }
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) -> nix::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &only)
}

/// Sends the packets from one CPU and collects what arrives.
fn fire(
    flows: &[Flow],
    packets: &[Option<Vec<u8>>],
    targets: &[Namespace],
    fence: &mut Fence,
    tally: &mut Tally,
) -> Result<()> {
    sched_getcpu().and_then(pin).map_err(|errno| Error::Io { what: "stay on one CPU", source: errno.into() })?;
    for (flows, packets) in flows.chunks(CHUNK).zip(packets.chunks(CHUNK)) {
        for (flow, packet) in flows.iter().zip(packets) {
            let Some(packet) = packet else { continue };
            // Refused by the sender's own kernel (no route, a rule on its way out): not delivered.
            flow.from.launchers()?.send(packet).ok();
        }
        fence.pass()?;
        collect(targets, tally)?;
    }
    Ok(())
}

/// Notes every shot that waits in a receiver's queue.
fn collect(targets: &[Namespace], tally: &mut Tally) -> Result<()> {
    let mut sockets = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        sockets.extend(target.receivers()?.sockets.iter().map(|receiver| (place, receiver)));
    }
    let mut polled: Vec<_> =
        sockets.iter().map(|(_, receiver)| PollFd::new(receiver.socket.as_fd(), PollFlags::POLLIN)).collect();
    wait_for(&mut polled, Some(Duration::ZERO)).map_err(|source| Error::Io { what: "wait for shots", source })?;
    for (place, receiver) in ready(&polled).filter_map(|position| sockets.get(position)) {
        receiver.drain(|id| tally.note(id, *place));
    }
    Ok(())
}

// === crafting ===

/// The packet of every flow; `None` where the source has no address or route for it.
fn craft(flows: &[Flow], first: u32) -> Result<Vec<Option<Vec<u8>>>> {
    let mut sources = Sources::default();
    let mut packets = Vec::with_capacity(flows.len());
    for (flow, offset) in flows.iter().zip(0_u32..) {
        let Some(source) = sources.of(flow)? else {
            packets.push(None);
            continue;
        };
        packets.push(Some(craft_one(flow, Ends::new(source, flow.to)?, first.wrapping_add(offset))));
    }
    Ok(packets)
}

/// All marks stand at the same place for a protocol, see [`mark_offset`].
fn craft_one(flow: &Flow, ends: Ends, id: u32) -> Vec<u8> {
    let source_port = flow.source_port.unwrap_or_else(next_port);
    let payload = [MARK.to_be_bytes(), id.to_be_bytes()].concat();
    let segment = match flow.protocol {
        // Without the ACK flag the acknowledgement number means nothing, and is free for the mark.
        Protocol::Tcp => ends.tcp(
            &Tcp {
                source_port,
                destination_port: flow.port,
                sequence: id,
                acknowledgement: MARK,
                flags: tcp_flag::SYN,
            },
            &[],
        ),
        Protocol::Udp => ends.udp(source_port, flow.port, &payload),
        // The tag must not be zero (RFC 9260 section 3.3.2).
        Protocol::Sctp => sctp::init(source_port, flow.port, id | 1, MARK, id),
        Protocol::Icmp => ends.echo_request(source_port, 1, &payload),
    };
    ends.packet(flow.protocol, &segment)
}

/// The position of the mark in a segment: TCP's acknowledgement number, the first payload word of UDP and ICMP, the
/// receive window of an SCTP INIT.
fn mark_offset(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp => 8,
        Protocol::Sctp => 20,
    }
}

/// The position of the id: TCP's sequence number, the second payload word, SCTP's initial TSN.
fn id_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 4,
        Protocol::Udp | Protocol::Icmp => 12,
        Protocol::Sctp => 28,
    }
}

/// Source addresses, as the kernel would choose them.
#[derive(Debug, Default)]
struct Sources {
    known: HashMap<(String, IpAddr), Option<IpAddr>>,
}

impl Sources {
    fn of(&mut self, flow: &Flow) -> Result<Option<IpAddr>> {
        if flow.source.is_some() {
            return Ok(flow.source);
        }
        let family = Family::of(flow.to);
        let addresses: Vec<IpAddr> =
            flow.from.addresses().into_iter().filter(|&address| Family::of(address) == family).collect();
        let is_global = matches!(flow.to, IpAddr::V4(_)) || matches!(flow.to, IpAddr::V6(v6) if scope(v6, 1) == 0);
        match *addresses.as_slice() {
            [only] if is_global => Ok(Some(only)),
            _ => self.ask(flow),
        }
    }

    /// Asks the kernel, by connecting a socket.
    fn ask(&mut self, flow: &Flow) -> Result<Option<IpAddr>> {
        let key = (flow.from.name().to_owned(), flow.to);
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let uplink = flow.from.launchers()?.uplink();
        let chosen = flow.from.run(|| {
            let (any, to): (SocketAddr, SocketAddr) = match flow.to {
                IpAddr::V4(v4) => ((Ipv4Addr::UNSPECIFIED, 0).into(), (v4, 9).into()),
                IpAddr::V6(v6) => {
                    ((Ipv6Addr::UNSPECIFIED, 0).into(), SocketAddrV6::new(v6, 9, 0, scope(v6, uplink)).into())
                }
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.local_addr()
        })?;
        let chosen = chosen.ok().map(|address| address.ip());
        self.known.insert(key, chosen);
        Ok(chosen)
    }
}

// === receiving ===

/// The sockets of a namespace that note arriving shots: a raw socket per protocol and family gets a copy of every
/// packet the namespace delivers to itself, past its input hook; a filter keeps all but shots out.
#[derive(Debug)]
pub(crate) struct Receivers {
    sockets: Vec<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    family: Family,
    protocol: Protocol,
    socket: Socket,
}

impl Receivers {
    pub(crate) fn open(namespace: &Namespace) -> Result<Self> {
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
    program.push(SockFilter::new(code(BPF_JMP | BPF_JEQ | BPF_K), 0, 1, MARK));
    program.push(SockFilter::new(code(BPF_RET | BPF_K), 0, 0, u32::MAX));
    program.push(SockFilter::new(code(BPF_RET | BPF_K), 0, 0, 0));
    program
}

impl Receiver {
    /// Gives the id of every shot in the queue.
    fn drain(&self, mut note: impl FnMut(u32)) {
        let mut buffer = [0; 256];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(size) => {
                    if let Some(id) = buffer.get(..size).and_then(|packet| self.id(packet)) {
                        note(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer; the queue goes on behind it.
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
        (mark == MARK && !is_reply).then(|| field_u32(segment, id_offset(self.protocol))).flatten()
    }
}

// === the fence ===

/// Two sockets joined by the fabric's loopback device.
#[derive(Debug)]
struct Fence {
    sender: UdpSocket,
    receiver: UdpSocket,
    number: u64,
}

impl Fence {
    fn open(fabric: &Namespace) -> Result<Self> {
        let opened = fabric.run(|| {
            let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            sender.connect(receiver.local_addr()?)?;
            receiver.connect(sender.local_addr()?)?;
            receiver.set_read_timeout(Some(FENCE_LIMIT))?;
            Ok(Self { sender, receiver, number: 0 })
        })?;
        opened.map_err(Error::socket::<io::Error>("open the fence", fabric.name()))
    }

    /// Sends fences one after the other, each when the last is back.
    fn pass(&mut self) -> Result<()> {
        for _ in 0..FENCES {
            self.number += 1;
            let expected = self.number.to_be_bytes();
            self.sender.send(&expected).map_err(Error::socket::<io::Error>("send a fence", "fabric"))?;
            let mut seen = [0; 8];
            while seen != expected {
                self.receiver.recv(&mut seen).map_err(|error| match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Fence { waited: FENCE_LIMIT },
                    _ => Error::socket::<io::Error>("receive a fence", "fabric")(error),
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
