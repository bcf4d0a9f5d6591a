//! Echo servers.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;
use socket2::{Domain, Protocol as Socket2Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::traffic::flow::{Listen, Protocol};
use crate::traffic::packet::{SHOT_MARK, sctp, skip_ipv4_header};
use crate::traffic::signal::{Stop, Worker};
use crate::traffic::socket::{bind, enlarge_queue};

/// Largest message an echo server reads at once.
const BUFFER: usize = 65_536;
/// Unsent bytes at which a TCP connection stops reading from its client.
const OWED_LIMIT: usize = 1 << 20;
/// The tag of every SCTP answer; the servers keep no associations.
const SERVER_TAG: u32 = 0x1ab0_1ab0;

/// Echo servers on one thread. Dropping it closes the ports.
#[derive(Debug)]
pub struct Server {
    _worker: Worker,
}

impl Server {
    /// Serves on these addresses of the namespace. Pods, nodes and hosts of a lab have methods for it.
    ///
    /// # Errors
    /// [`Error::Socket`] when a port is taken.
    pub fn start(namespace: &Namespace, addresses: &[IpAddr], listen: &[Listen]) -> Result<Self> {
        let ports = namespace.run(|| Ports::open(addresses, listen))?;
        let mut ports =
            ports.map_err(|(what, source)| Error::Socket { what, namespace: namespace.name().into(), source })?;
        Ok(Self { _worker: Worker::start("lab-echo", move |stop| ports.serve(stop))? })
    }
}

/// The sockets of a server.
#[derive(Debug, Default)]
struct Ports {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    /// Raw sockets, one per address, with the ports that are served.
    sctp: Vec<(IpAddr, Socket)>,
    inits_taken_on: BTreeSet<u16>,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    owed: Vec<u8>,
}

impl Ports {
    fn open(addresses: &[IpAddr], listen: &[Listen]) -> std::result::Result<Self, (String, io::Error)> {
        let mut ports = Self::default();
        for &Listen { protocol, port } in listen {
            for &address in addresses {
                let at = SocketAddr::new(address, port);
                ports.open_one(protocol, at).map_err(|source| (format!("serve {protocol} on {at}"), source))?;
            }
        }
        Ok(ports)
    }

    fn open_one(&mut self, protocol: Protocol, at: SocketAddr) -> io::Result<()> {
        match protocol {
            Protocol::Tcp => {
                let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Socket2Protocol::TCP))?;
                socket.set_reuse_address(true)?;
                bind(&socket, at)?;
                socket.listen(1024)?;
                socket.set_nonblocking(true)?;
                self.tcp.push(socket.into());
            }
            Protocol::Udp => {
                // Bound to the address: a wildcard server may answer from another one.
                let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Socket2Protocol::UDP))?;
                bind(&socket, at)?;
                enlarge_queue(&socket, 4 << 20)?;
                socket.set_nonblocking(true)?;
                self.udp.push(socket.into());
            }
            Protocol::Sctp => {
                self.inits_taken_on.insert(at.port());
                if !self.sctp.iter().any(|(address, _)| *address == at.ip()) {
                    self.sctp.push((at.ip(), open_sctp(at.ip())?));
                }
            }
            // The kernel answers echo requests.
            Protocol::Icmp => {}
        }
        Ok(())
    }

    fn serve(&mut self, stop: &Stop) {
        let mut buffer = vec![0; BUFFER];
        while !stop.is_raised() {
            // `poll` fails only if the kernel is out of memory.
            let Ok(ready) = stop.wait(&self.wanted(), None) else { return };
            let (tcp, udp, sctp) = (self.tcp.len(), self.udp.len(), self.sctp.len());
            // Connections from the highest position down, so that removing one does not move those still to come.
            for position in ready.into_iter().rev() {
                if position < tcp {
                    self.accept(position);
                } else if position < tcp + udp {
                    self.echo_datagrams(position - tcp, &mut buffer);
                } else if position < tcp + udp + sctp {
                    self.answer_inits(position - tcp - udp, &mut buffer);
                } else {
                    self.advance(position - tcp - udp - sctp, &mut buffer);
                }
            }
        }
    }

    fn wanted(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let listeners = self.tcp.iter().map(|socket| (socket.as_fd(), PollFlags::POLLIN));
        let datagrams = self.udp.iter().map(|socket| (socket.as_fd(), PollFlags::POLLIN));
        let raw = self.sctp.iter().map(|(_, socket)| (socket.as_fd(), PollFlags::POLLIN));
        let connections = self.connections.iter().map(|connection| (connection.stream.as_fd(), connection.wants()));
        listeners.chain(datagrams).chain(raw).chain(connections).collect()
    }

    fn accept(&mut self, position: usize) {
        let Some(listener) = self.tcp.get(position) else { return };
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok() {
                self.connections.push(Connection { stream, owed: Vec::new() });
            }
        }
    }

    fn echo_datagrams(&mut self, position: usize, buffer: &mut [u8]) {
        let Some(socket) = self.udp.get(position) else { return };
        // An error is either "nothing left" or an ICMP error of an earlier answer: wait for the next event.
        while let Ok((size, from)) = socket.recv_from(buffer) {
            let Some(message) = buffer.get(..size) else { return };
            if message.starts_with(&SHOT_MARK.to_be_bytes()) {
                // A shot: its echo would look like another shot at the sender.
                continue;
            }
            // The client is gone, or a queue is full: datagrams may be lost.
            socket.send_to(message, from).ok();
        }
    }

    fn answer_inits(&mut self, position: usize, buffer: &mut [u8]) {
        let Some((address, socket)) = self.sctp.get(position) else { return };
        // The standard library's type reads raw sockets as well, with the sender's address.
        while let Ok((size, from)) = receive_from(socket, buffer) {
            let Some(packet) = buffer.get(..size) else { return };
            let segment = if address.is_ipv4() { skip_ipv4_header(packet) } else { Some(packet) };
            let Some(init) = segment.and_then(sctp::Packet::parse) else { continue };
            if init.chunk == sctp::INIT && self.inits_taken_on.contains(&init.destination_port) {
                let answer = sctp::init_ack(&init, SERVER_TAG);
                socket.send_to(&answer, &SocketAddr::new(from, 0).into()).ok();
            }
        }
    }

    /// Reads from and writes to a connection; drops it at its end.
    fn advance(&mut self, position: usize, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(position) else { return };
        if connection.advance(buffer).is_err() {
            self.connections.swap_remove(position);
        }
    }
}

impl Connection {
    fn wants(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, self.owed.len() < OWED_LIMIT);
        flags.set(PollFlags::POLLOUT, !self.owed.is_empty());
        flags
    }

    fn advance(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.owed.len() < OWED_LIMIT {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => self.owed.extend(buffer.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        match self.stream.write(&self.owed) {
            Ok(size) => drop(self.owed.drain(..size)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn open_sctp(address: IpAddr) -> io::Result<Socket> {
    let at = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(at), Type::RAW, Some(Socket2Protocol::SCTP))?;
    socket.bind(&at.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Reads one packet of a raw socket with its sender.
fn receive_from(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
    use nix::sys::socket::{SockaddrStorage, recvfrom};
    use std::os::fd::AsRawFd;

    let (size, from) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), buffer)?;
    let from = from.ok_or(ErrorKind::InvalidData)?;
    let address = from.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    let address = address.or_else(|| from.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())));
    Ok((size, address.ok_or(ErrorKind::InvalidData)?))
}
