//! Running connections: when exactly is one cut, and when does it resume?

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use socket2::{Domain, Protocol as Socket2Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::traffic::flood::connected;
use crate::traffic::flow::{Flow, Protocol};
use crate::traffic::signal::{Stop, Worker};
use crate::traffic::socket::bind;

/// How long a TCP stream may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Length of a message: its sequence number.
const LENGTH: usize = 8;

/// A client that sends a numbered message to an echo server every few milliseconds and records the answers.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    _worker: Worker,
}

#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<StreamStats>,
    changed: Condvar,
}

/// The observations of a stream so far.
#[derive(Clone, Debug, Default)]
pub struct StreamStats {
    /// Messages sent (for TCP: accepted by the kernel).
    pub sent: u64,
    /// Answers received.
    pub replies: u64,
    /// When the last answer came.
    pub last_reply_at: Option<Instant>,
    /// When the latest answered message was sent: nothing sent later got through and back.
    pub last_answered_sent_at: Option<Instant>,
    /// Why the connection ended, if it did (TCP).
    pub closed: Option<String>,
}

impl Stream {
    /// Connects to the echo server at the flow's destination over TCP or UDP.
    ///
    /// # Errors
    /// [`Error::Socket`] when a TCP connection cannot be opened (within two seconds), or for another protocol.
    pub fn start(flow: &Flow, interval: Duration) -> Result<Self> {
        let pipe = match flow.protocol {
            Protocol::Tcp => Pipe::Tcp(connect(flow)?, Vec::new()),
            _ => Pipe::Udp(connected(flow)?),
        };
        pipe.set_nonblocking().map_err(Error::socket::<io::Error>(format!("open stream {flow}"), flow.from.name()))?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let worker = Worker::start("lab-stream", move |stop| {
            Client { pipe, interval, unsent: Vec::new(), pending: VecDeque::new(), sent: 0 }.run(&seen, stop);
        })?;
        Ok(Self { shared, _worker: worker })
    }

    /// The observations so far.
    pub fn stats(&self) -> StreamStats {
        self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an answer to a message sent after `moment`, and returns how long after it the answer came.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn wait_alive_after(&self, moment: Instant, limit: Duration) -> Result<Duration> {
        let stats = self.wait(limit, "an answer of the stream", |stats| {
            stats.last_answered_sent_at.is_some_and(|sent| sent > moment)
        })?;
        Ok(stats.last_reply_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(moment)))
    }

    /// Waits for an answer to a message sent from now on.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn wait_alive(&self, limit: Duration) -> Result<()> {
        self.wait_alive_after(Instant::now(), limit).map(drop)
    }

    /// Waits until no answer has come for `quiet`.
    ///
    /// # Errors
    /// [`Error::Deadline`] when answers keep coming.
    pub fn wait_silent(&self, quiet: Duration, limit: Duration) -> Result<StreamStats> {
        let start = Instant::now();
        loop {
            let stats = self.stats();
            let silent = stats.last_reply_at.unwrap_or(start).max(start).elapsed();
            let Some(left) = quiet.checked_sub(silent).filter(|left| !left.is_zero()) else { return Ok(stats) };
            if start.elapsed() > limit {
                return Err(Error::Deadline { what: "silence of the stream".into(), waited: limit });
            }
            // With or without an answer, check again.
            let replies = stats.replies;
            self.wait(left, "an answer", |stats| stats.replies > replies).ok();
        }
    }

    fn wait(&self, limit: Duration, what: &str, condition: impl Fn(&StreamStats) -> bool) -> Result<StreamStats> {
        let stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let (stats, timeout) = self
            .shared
            .changed
            .wait_timeout_while(stats, limit, |stats| !condition(stats))
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && !condition(&stats) {
            return Err(Error::Deadline { what: what.into(), waited: limit });
        }
        Ok(stats.clone())
    }
}

fn connect(flow: &Flow) -> Result<TcpStream> {
    let opened = flow.from.run(|| {
        let to = SocketAddr::new(flow.to, flow.port);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Socket2Protocol::TCP))?;
        if let (source, Some(port)) = (flow.source, flow.source_port) {
            let any = if flow.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            socket.set_reuse_address(true)?;
            bind(&socket, SocketAddr::new(source.unwrap_or(any), port))?;
        }
        socket.connect_timeout(&to.into(), CONNECT_LIMIT)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    })?;
    opened.map_err(Error::socket::<io::Error>(format!("connect {flow}"), flow.from.name()))
}

/// The client's socket; for TCP with the start of an incomplete answer.
#[derive(Debug)]
enum Pipe {
    Tcp(TcpStream, Vec<u8>),
    Udp(std::net::UdpSocket),
}

impl Pipe {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.set_nonblocking(true),
            Self::Udp(socket) => socket.set_nonblocking(true),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream, _) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// The sending thread's own state.
#[derive(Debug)]
struct Client {
    pipe: Pipe,
    interval: Duration,
    /// Bytes that TCP has not accepted yet.
    unsent: Vec<u8>,
    /// The times and numbers of messages without an answer, oldest first.
    pending: VecDeque<(u64, Instant)>,
    sent: u64,
}

impl Client {
    fn run(&mut self, shared: &Shared, stop: &Stop) {
        let mut next = Instant::now();
        while !stop.is_raised() {
            let now = Instant::now();
            let result = if now >= next {
                next = (next + self.interval).max(now);
                self.send(now)
            } else {
                Ok(())
            };
            if let Err(error) = result.and_then(|()| self.receive(shared)) {
                shared.stats.lock().unwrap_or_else(PoisonError::into_inner).closed = Some(error.to_string());
                shared.changed.notify_all();
                return;
            }
            shared.stats.lock().unwrap_or_else(PoisonError::into_inner).sent = self.sent;
            let left = next.saturating_duration_since(Instant::now());
            if stop.wait(&[(self.pipe.as_fd(), PollFlags::POLLIN)], Some(left)).is_err() {
                return;
            }
        }
    }

    fn send(&mut self, now: Instant) -> io::Result<()> {
        let message = self.sent.to_be_bytes();
        match &mut self.pipe {
            Pipe::Udp(socket) => {
                // An ICMP error of an earlier message, or an egress rule: lost like any other datagram.
                socket.send(&message).ok();
            }
            Pipe::Tcp(stream, _) => {
                self.unsent.extend(message);
                match stream.write(&self.unsent) {
                    Ok(size) => drop(self.unsent.drain(..size)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.pending.push_back((self.sent, now));
        self.sent += 1;
        Ok(())
    }

    /// Reads the available answers.
    fn receive(&mut self, shared: &Shared) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let size = match &mut self.pipe {
                Pipe::Udp(socket) => socket.recv(&mut buffer),
                Pipe::Tcp(stream, _) => stream.read(&mut buffer),
            };
            let is_tcp = matches!(self.pipe, Pipe::Tcp(..));
            match size {
                Ok(0) if is_tcp => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => self.take(buffer.get(..size).unwrap_or_default(), shared),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_tcp => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8], shared: &Shared) {
        let numbers: Vec<u64> = match &mut self.pipe {
            Pipe::Udp(_) => bytes.try_into().ok().map(u64::from_be_bytes).into_iter().collect(),
            Pipe::Tcp(_, partial) => {
                partial.extend(bytes);
                let whole = partial.len() / LENGTH * LENGTH;
                let complete: Vec<u8> = partial.drain(..whole).collect();
                complete
                    .chunks_exact(LENGTH)
                    .filter_map(|chunk| chunk.try_into().ok())
                    .map(u64::from_be_bytes)
                    .collect()
            }
        };
        for number in numbers {
            // Messages before an answered one are answered or lost.
            while self.pending.front().is_some_and(|&(pending, _)| pending < number) {
                self.pending.pop_front();
            }
            let sent_at = self.pending.front().filter(|&&(pending, _)| pending == number).map(|&(_, at)| at);
            let mut stats = shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
            stats.replies += 1;
            stats.last_reply_at = Some(Instant::now());
            stats.last_answered_sent_at = stats.last_answered_sent_at.max(sent_at);
        }
        shared.changed.notify_all();
    }
}
