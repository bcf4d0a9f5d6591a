//! Fast streams of numbered datagrams, and sinks that count them: is any packet lost, does any pass?

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use socket2::{Domain, Protocol as Socket2Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::traffic::flow::Flow;
use crate::traffic::packet::field_u32;
use crate::traffic::signal::{Stop, Worker};
use crate::traffic::socket::{bind, enlarge_queue};

/// The first bytes of a flood's datagrams.
const MARK: [u8; 4] = *b"Flud";
/// Length of a datagram: mark, flood id, sequence number.
const LENGTH: usize = 16;
/// Queue of a sink, bytes.
const QUEUE: usize = 64 << 20;
/// How many datagrams a sink reads before it publishes its counts.
const READ_BATCH: usize = 256;
/// How long a rate-limited flood sleeps between two bursts, at least.
const BURST_PERIOD: Duration = Duration::from_micros(500);

/// A thread that sends numbered UDP datagrams from one namespace to one address until it is stopped.
#[derive(Debug)]
pub struct Flood {
    id: u32,
    counters: Arc<Counters>,
    started: Instant,
    worker: Worker,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    refused: AtomicU64,
}

/// The result of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodReport {
    /// The flood's id in a sink's counts.
    pub id: u32,
    /// Datagrams handed to the network, numbered from 0.
    pub sent: u64,
    /// Datagrams that the sender's own kernel refused (an egress rule, a full queue). They have no numbers.
    pub refused: u64,
    /// How long it ran.
    pub elapsed: Duration,
}

impl FloodReport {
    /// Datagrams sent per second.
    pub fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.sent).unwrap_or(u32::MAX)) / self.elapsed.as_secs_f64()
    }
}

impl Flood {
    /// Starts sending along `flow` (whose protocol must be UDP), at most `rate` datagrams per second on average, or as
    /// fast as possible.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket cannot be set up.
    pub fn start(flow: &Flow, rate: Option<u32>) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = connected(flow)?;
        let counters = Arc::new(Counters::default());
        let seen = Arc::clone(&counters);
        let worker = Worker::start("lab-flood", move |stop| send(&socket, id, rate, &seen, stop))?;
        Ok(Self { id, counters, started: Instant::now(), worker })
    }

    /// The flood's id in a sink's counts.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Acquire)
    }

    /// Stops sending.
    pub fn stop(mut self) -> FloodReport {
        self.worker.finish();
        FloodReport {
            id: self.id,
            sent: self.sent(),
            refused: self.counters.refused.load(Ordering::Acquire),
            elapsed: self.started.elapsed(),
        }
    }
}

/// A UDP socket of the flow's source, connected to its destination.
pub(crate) fn connected(flow: &Flow) -> Result<UdpSocket> {
    let opened = flow.from.run(|| {
        let to = SocketAddr::new(flow.to, flow.port);
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Socket2Protocol::UDP))?;
        if flow.source.is_some() || flow.source_port.is_some() {
            let any = if flow.to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let from = SocketAddr::new(flow.source.unwrap_or(any), flow.source_port.unwrap_or(0));
            bind(&socket, from)?;
        }
        socket.connect(&to.into())?;
        Ok(socket.into())
    })?;
    opened.map_err(Error::socket::<io::Error>(format!("connect {flow}"), flow.from.name()))
}

fn send(socket: &UdpSocket, id: u32, rate: Option<u32>, counters: &Counters, stop: &Stop) {
    let start = Instant::now();
    let mut sequence: u64 = 0;
    let mut message = [0; LENGTH];
    for (byte, value) in message.iter_mut().zip(MARK.into_iter().chain(id.to_be_bytes())) {
        *byte = value;
    }
    while !stop.is_raised() {
        if let Some(rate) = rate {
            let due = u128::from(rate) * start.elapsed().as_micros() / 1_000_000;
            if u128::from(sequence) >= due {
                thread::sleep(BURST_PERIOD.max(Duration::from_secs(1) / rate.max(1)));
                continue;
            }
        }
        for (byte, value) in message.iter_mut().skip(8).zip(sequence.to_be_bytes()) {
            *byte = value;
        }
        match socket.send(&message) {
            Ok(_) => {
                sequence += 1;
                counters.sent.store(sequence, Ordering::Release);
            }
            // An ICMP error of an earlier datagram is reported in place of sending: this one was not sent.
            Err(_) => drop(counters.refused.fetch_add(1, Ordering::AcqRel)),
        }
    }
}

/// A thread that counts the datagrams of floods arriving at a UDP port.
#[derive(Debug)]
pub struct Sink {
    namespace: Namespace,
    port: u16,
    tallies: Arc<Mutex<Tallies>>,
    /// Asks the thread to say when its queue is empty.
    requests: mpsc::Sender<mpsc::Sender<()>>,
    worker: Worker,
}

#[derive(Debug, Default)]
struct Tallies {
    floods: BTreeMap<u32, Tally>,
    strangers: u64,
}

#[derive(Debug, Default)]
struct Tally {
    received: u64,
    distinct: u64,
    highest: Option<u64>,
    /// A bit per sequence number seen.
    seen: Vec<u64>,
}

/// What a sink has counted of one flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounts {
    /// Datagrams received.
    pub received: u64,
    /// Different sequence numbers among them.
    pub distinct: u64,
    /// The highest sequence number.
    pub highest: Option<u64>,
}

impl SinkCounts {
    /// Sequence numbers below `sent` that never came.
    pub fn missing(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.distinct)
    }
}

impl Sink {
    /// Opens a sink on an address and port of a namespace. Its queue holds tens of thousands of datagrams.
    ///
    /// # Errors
    /// [`Error::Socket`] when the port is taken.
    pub fn open(namespace: impl AsRef<Namespace>, address: impl Into<IpAddr>, port: u16) -> Result<Self> {
        let namespace = namespace.as_ref().clone();
        let at = SocketAddr::new(address.into(), port);
        let opened = namespace.run(|| {
            let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Socket2Protocol::UDP))?;
            bind(&socket, at)?;
            enlarge_queue(&socket, QUEUE)?;
            socket.set_nonblocking(true)?;
            Ok(UdpSocket::from(socket))
        })?;
        let socket = opened.map_err(Error::socket::<io::Error>(format!("open a sink on {at}"), namespace.name()))?;
        let port = socket.local_addr().map_or(port, |bound| bound.port());
        let tallies = Arc::new(Mutex::new(Tallies::default()));
        let kept = Arc::clone(&tallies);
        let (requests, asked) = mpsc::channel();
        let worker = Worker::start("lab-sink", move |stop| receive(&socket, &kept, &asked, stop))?;
        Ok(Self { namespace, port, tallies, requests, worker })
    }

    /// The port, for a sink opened on port 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The counts of a flood, after everything in the queue has been counted. Zeros for an unknown flood.
    ///
    /// Datagrams in flight are not included: call [`crate::Lab::settle`] first.
    pub fn counts(&self, flood: u32) -> SinkCounts {
        let (answer, emptied) = mpsc::channel();
        if self.requests.send(answer).is_ok() {
            self.worker.nudge();
            // Fails only if the thread has ended: then the counts are final.
            emptied.recv().unwrap_or(());
        }
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.floods.get(&flood).map_or_else(SinkCounts::default, |tally| SinkCounts {
            received: tally.received,
            distinct: tally.distinct,
            highest: tally.highest,
        })
    }

    /// Datagrams received that belong to no flood.
    pub fn strangers(&self) -> u64 {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).strangers
    }

    /// Datagrams the kernel dropped because the sink's queue was full: lost in the sink, not in the network.
    ///
    /// # Errors
    /// [`Error::Socket`] when the kernel's table cannot be read.
    pub fn socket_drops(&self) -> Result<u64> {
        let read = self.namespace.run(|| -> io::Result<u64> {
            let mut drops = 0;
            for table in ["udp", "udp6"] {
                let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
                drops += text.lines().skip(1).filter_map(|line| drops_of(line, self.port)).sum::<u64>();
            }
            Ok(drops)
        })?;
        read.map_err(Error::socket::<io::Error>("read the table of UDP sockets", self.namespace.name()))
    }
}

/// The drop count (last column) of a line of `/proc/net/udp` if its local port is this one.
fn drops_of(line: &str, port: u16) -> Option<u64> {
    let mut columns = line.split_whitespace();
    let local = columns.nth(1)?.rsplit(':').next()?;
    (u16::from_str_radix(local, 16).ok()? == port).then(|| columns.next_back()?.parse().ok()).flatten()
}

fn receive(socket: &UdpSocket, tallies: &Mutex<Tallies>, asked: &mpsc::Receiver<mpsc::Sender<()>>, stop: &Stop) {
    let mut buffer = [0; 2048];
    while !stop.is_raised() {
        if stop.wait(&[(socket.as_fd(), PollFlags::POLLIN)], None).is_err() {
            return;
        }
        // Taken before the queue is emptied, answered after.
        let waiting: Vec<_> = asked.try_iter().collect();
        let mut emptied = false;
        while !emptied {
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..READ_BATCH {
                match socket.recv(&mut buffer) {
                    Ok(size) => tallies.count(buffer.get(..size).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        emptied = true;
                        break;
                    }
                    Err(_) => {}
                }
            }
            emptied |= stop.is_raised();
        }
        for answer in waiting {
            // The asker may be gone.
            answer.send(()).unwrap_or(());
        }
    }
}

impl Tallies {
    fn count(&mut self, message: &[u8]) {
        let sequence = (message.len() == LENGTH && message.starts_with(&MARK))
            .then(|| Some((field_u32(message, 4)?, message.get(8..)?.try_into().ok().map(u64::from_be_bytes)?)))
            .flatten();
        let Some((flood, sequence)) = sequence else {
            self.strangers += 1;
            return;
        };
        self.floods.entry(flood).or_default().count(sequence);
    }
}

impl Tally {
    fn count(&mut self, sequence: u64) {
        self.received += 1;
        self.highest = self.highest.max(Some(sequence));
        // A number beyond any real flood would only cost memory.
        let Some(word) = usize::try_from(sequence / 64).ok().filter(|&word| word < 1 << 26) else { return };
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if let Some(bits) = self.seen.get_mut(word) {
            let bit = 1 << (sequence % 64);
            self.distinct += u64::from(*bits & bit == 0);
            *bits |= bit;
        }
    }
}

/// Packets dropped for lack of queue space on all interfaces of a namespace.
pub(crate) fn interface_drops(namespace: &Namespace) -> Result<u64> {
    let read = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
    let text = read.map_err(Error::socket::<io::Error>("read the table of interfaces", namespace.name()))?;
    // Columns after the name: bytes, packets, errors, drops of the receiving side.
    let drops = |line: &str| line.split_once(':')?.1.split_whitespace().nth(3)?.parse::<u64>().ok();
    Ok(text.lines().filter_map(drops).sum())
}
