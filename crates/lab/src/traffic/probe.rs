//! Probes with real sockets: what an application at the source sees.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, Protocol as Socket2Protocol, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::traffic::flow::{Flow, Outcome, Protocol};
use crate::traffic::packet::{echo_reply_type, echo_request_type, sctp, skip_ipv4_header};
use crate::traffic::raw::{scope, uplink};
use crate::traffic::signal::{ready, wait_for};
use crate::traffic::socket::bind;

/// The usual deadline of a denied probe.
pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(300);

/// Probes running at once; more wait for these.
const AT_ONCE: usize = 500;
/// Attempts of a probe within its deadline, evenly spread.
const TRIES: u32 = 3;
/// The receive window an SCTP probe offers.
const SCTP_WINDOW: u32 = 65_536;
/// Source ports of probes that need to know theirs: inside the kernel's default ephemeral range.
const EPHEMERAL: std::ops::Range<u16> = 32_768..60_999;

/// One probe; see [`probe_all`].
///
/// # Errors
/// As [`probe_all`].
pub fn probe(flow: &Flow, deadline: Duration) -> Result<Outcome> {
    let outcomes = probe_all(std::slice::from_ref(flow), deadline)?;
    Ok(outcomes.first().copied().unwrap_or(Outcome::Unreachable))
}

/// Tries all flows at once with real sockets, as echo clients, and returns each outcome, in their order.
///
/// A probe that gets its answer ends at once; any number without answers takes one deadline. TCP connects and exchanges
/// a message, UDP and ICMP exchange one, SCTP sends an INIT and expects an INIT ACK. Each is tried three times within
/// the deadline (TCP: with two connections, or one if the source port is fixed).
///
/// # Errors
/// [`Error::Socket`] when a probe cannot be set up, for example because its source address does not exist.
pub fn probe_all(flows: &[Flow], deadline: Duration) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(flows.len());
    for chunk in flows.chunks(AT_ONCE) {
        let mut probes = open(chunk)?;
        run(&mut probes, deadline)?;
        outcomes.extend(probes.into_iter().map(|probe| probe.outcome.unwrap_or(Outcome::Unreachable)));
    }
    Ok(outcomes)
}

/// A number that no other probe on this machine is likely to use.
pub(crate) fn token() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The next source port, for packets whose port the kernel does not choose.
pub(crate) fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    EPHEMERAL.start + NEXT.fetch_add(1, Ordering::Relaxed) % (EPHEMERAL.end - EPHEMERAL.start)
}

/// A running probe.
#[derive(Debug)]
struct Probe {
    protocol: Protocol,
    to: SocketAddr,
    /// The socket in use is the last; TCP keeps one more for a second connection.
    sockets: Vec<Socket>,
    source_port: u16,
    token: u64,
    sent: bool,
    outcome: Option<Outcome>,
}

/// Opens the sockets of all probes, entering each namespace once.
fn open(flows: &[Flow]) -> Result<Vec<Probe>> {
    let mut probes: Vec<Option<Probe>> = flows.iter().map(|_| None).collect();
    let mut namespaces: Vec<&Namespace> = Vec::new();
    for flow in flows {
        if !namespaces.iter().any(|namespace| namespace.id() == flow.from.id()) {
            namespaces.push(&flow.from);
        }
    }
    for namespace in namespaces {
        namespace.run(|| {
            let uplink = uplink();
            let from_here = |flow: &Flow| flow.from.id() == namespace.id();
            for (flow, slot) in flows.iter().zip(&mut probes).filter(|(flow, _)| from_here(flow)) {
                let what = || format!("set up the probe {flow}");
                *slot = Some(Probe::open(flow, uplink).map_err(|source| Error::Socket {
                    what: what(),
                    namespace: namespace.name().into(),
                    source,
                })?);
            }
            Ok(())
        })??;
    }
    Ok(probes.into_iter().flatten().collect())
}

fn run(probes: &mut [Probe], deadline: Duration) -> Result<()> {
    let start = Instant::now();
    for number in 0..=TRIES {
        if number < TRIES {
            probes.iter_mut().filter(|probe| probe.outcome.is_none()).for_each(|probe| probe.attempt(number));
        }
        let until = deadline * (number + 1) / TRIES;
        if number == TRIES {
            break;
        }
        loop {
            let waiting: Vec<&mut Probe> = probes.iter_mut().filter(|probe| probe.outcome.is_none()).collect();
            let left = until.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
            let (false, Some(left)) = (waiting.is_empty(), left) else { break };
            await_events(waiting, left).map_err(|source| Error::Io { what: "wait for probes", source })?;
        }
    }
    Ok(())
}

/// Waits until one of the probes has an event, and handles all events.
fn await_events(mut waiting: Vec<&mut Probe>, limit: Duration) -> io::Result<()> {
    let events: Vec<usize> = {
        let mut polled: Vec<PollFd<'_>> = waiting.iter().filter_map(|probe| probe.polled()).collect();
        wait_for(&mut polled, Some(limit))?;
        ready(&polled).collect()
    };
    for position in events {
        if let Some(probe) = waiting.get_mut(position) {
            probe.advance();
        }
    }
    Ok(())
}

impl Probe {
    fn open(flow: &Flow, uplink: u32) -> io::Result<Self> {
        let mut to = SocketAddr::new(flow.to, if flow.protocol == Protocol::Icmp { 0 } else { flow.port });
        if let SocketAddr::V6(v6) = &mut to {
            v6.set_scope_id(scope(*v6.ip(), uplink));
        }
        let source_port = flow.source_port.unwrap_or_else(|| match flow.protocol {
            Protocol::Sctp => next_port(),
            _ => 0,
        });
        let any = if flow.to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = SocketAddr::new(flow.source.unwrap_or(any), source_port);
        let count = if flow.protocol == Protocol::Tcp && flow.source_port.is_none() { 2 } else { 1 };
        let sockets = (0..count).map(|_| open_socket(flow, from)).collect::<io::Result<_>>()?;
        let mut probe =
            Self { protocol: flow.protocol, to, sockets, source_port, token: token(), sent: false, outcome: None };
        if flow.protocol != Protocol::Tcp {
            probe.connect();
        }
        Ok(probe)
    }

    fn socket(&self) -> Option<&Socket> {
        self.sockets.last()
    }

    fn polled(&self) -> Option<PollFd<'_>> {
        let wanted = if self.protocol == Protocol::Tcp && !self.sent { PollFlags::POLLOUT } else { PollFlags::POLLIN };
        self.socket().map(|socket| PollFd::new(socket.as_fd(), wanted))
    }

    /// Sends (again), at the start of try `number`.
    fn attempt(&mut self, number: u32) {
        match (self.protocol, number) {
            (Protocol::Tcp, 0) => self.connect(),
            // The first connection may have lost its SYN; the kernel repeats it only after a second.
            (Protocol::Tcp, 1) if self.sockets.len() > 1 && !self.sent => {
                self.sockets.pop();
                self.connect();
            }
            (Protocol::Tcp, _) => {}
            _ => self.send(),
        }
    }

    fn connect(&mut self) {
        let to = SockAddr::from(match self.protocol {
            Protocol::Sctp | Protocol::Icmp => without_port(self.to),
            _ => self.to,
        });
        match self.socket().map(|socket| socket.connect(&to)) {
            Some(Err(error)) if error.raw_os_error() != Some(libc::EINPROGRESS) => self.fail(&error),
            _ => {}
        }
    }

    fn send(&mut self) {
        let message = self.message();
        if let Some(Err(error)) = self.socket().map(|socket| socket.send(&message)) {
            self.fail(&error);
        }
    }

    /// The message, above IP for raw sockets and above the transport for the others.
    fn message(&self) -> Vec<u8> {
        let token = self.token.to_be_bytes();
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => token.to_vec(),
            // Ping sockets fill in identifier and checksum.
            Protocol::Icmp => [&[echo_request_type(self.to.ip()), 0, 0, 0, 0, 0, 0, 1], token.as_slice()].concat(),
            Protocol::Sctp => sctp::init(self.source_port, self.to.port(), self.tag(), SCTP_WINDOW, self.tag()),
        }
    }

    /// The SCTP tag: never zero.
    fn tag(&self) -> u32 {
        u32::try_from(self.token >> 32).unwrap_or(0) | 1
    }

    /// Handles an event of the socket.
    fn advance(&mut self) {
        if self.protocol == Protocol::Tcp && !self.sent {
            match self.socket().map(Socket::take_error) {
                Some(Ok(None)) => {
                    self.sent = true;
                    self.send();
                }
                Some(Ok(Some(error)) | Err(error)) => self.fail(&error),
                None => {}
            }
            return;
        }
        let mut buffer = [0; 2048];
        match self.socket().map(|mut socket| socket.read(&mut buffer)) {
            Some(Ok(size)) => {
                if let Some(outcome) = buffer.get(..size).and_then(|answer| self.judge(answer)) {
                    self.outcome = Some(outcome);
                }
            }
            Some(Err(error)) => self.fail(&error),
            None => {}
        }
    }

    /// Whether a received message is the expected answer.
    fn judge(&self, answer: &[u8]) -> Option<Outcome> {
        let token = self.token.to_be_bytes();
        match self.protocol {
            // A server that closes without an echo was reached, but is not ours.
            Protocol::Tcp if answer.is_empty() => Some(Outcome::Refused),
            Protocol::Tcp | Protocol::Udp => (answer == token).then_some(Outcome::Reachable),
            Protocol::Icmp => {
                let is_reply = answer.first() == Some(&echo_reply_type(self.to.ip()));
                (is_reply && answer.get(8..) == Some(&token)).then_some(Outcome::Reachable)
            }
            Protocol::Sctp => {
                let segment = if self.to.is_ipv4() { skip_ipv4_header(answer)? } else { answer };
                let packet = sctp::Packet::parse(segment)?;
                let ports = (packet.source_port, packet.destination_port);
                if ports != (self.to.port(), self.source_port) || packet.verification_tag != self.tag() {
                    return None;
                }
                match packet.chunk {
                    sctp::INIT_ACK => Some(Outcome::Reachable),
                    sctp::ABORT => Some(Outcome::Refused),
                    _ => None,
                }
            }
        }
    }

    /// Handles an error of the socket: final, or ignored because a later attempt may succeed.
    fn fail(&mut self, error: &io::Error) {
        self.outcome = match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOPROTOOPT | libc::EPROTO) => Some(Outcome::Refused),
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ETIMEDOUT | libc::EACCES | libc::EADDRNOTAVAIL) => {
                Some(Outcome::Unreachable)
            }
            _ if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            // Dropped by an egress rule or a full queue: lost like any other packet.
            _ => None,
        };
    }
}

fn open_socket(flow: &Flow, from: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(from);
    let icmp = if from.is_ipv4() { Socket2Protocol::ICMPV4 } else { Socket2Protocol::ICMPV6 };
    let socket = match flow.protocol {
        Protocol::Tcp => Socket::new(domain, Type::STREAM, Some(Socket2Protocol::TCP))?,
        Protocol::Udp => Socket::new(domain, Type::DGRAM, Some(Socket2Protocol::UDP))?,
        Protocol::Icmp => Socket::new(domain, Type::DGRAM, Some(icmp))?,
        Protocol::Sctp => Socket::new(domain, Type::RAW, Some(Socket2Protocol::SCTP))?,
    };
    socket.set_nonblocking(true)?;
    if flow.source.is_some() || flow.source_port.is_some() {
        if flow.protocol == Protocol::Tcp && flow.source_port.is_some() {
            socket.set_reuse_address(true)?;
            // Closed with a reset, so that no TIME_WAIT keeps the port from the next probe.
            socket.set_linger(Some(Duration::ZERO))?;
        }
        let from = if flow.protocol == Protocol::Sctp { without_port(from) } else { from };
        bind(&socket, from)?;
    }
    Ok(socket)
}

/// Raw and ping sockets need port 0 (in IPv6, a raw socket takes the port for a protocol number).
fn without_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}
