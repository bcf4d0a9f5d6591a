//! For tests: packets that stay in a hook for tens of milliseconds.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::visit;
use crate::space::load;

/// Rules that a slow packet meets. Each does a route lookup; together they take tens of milliseconds.
const RULES: usize = 100_000;

/// A CPU that handles a slow packet runs nothing else: two tests at a time would keep each other from their moments.
static ALONE: Mutex<()> = Mutex::new(());

/// Slow rules in `input`, and a socket that packets reach through them. Only one at a time.
pub(crate) struct Slow {
    pub(crate) receiver: UdpSocket,
    /// How long a packet takes at least.
    pub(crate) time: Duration,
    _alone: MutexGuard<'static, ()>,
}

impl Slow {
    /// In the network namespace of the thread. The rules come before those of other tables.
    pub(crate) fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        let rules = "fib daddr type local fib saddr type local meta mark 77 drop\n".repeat(RULES);
        let chain = format!("chain input {{\ntype filter hook input priority -10\n{rules}}}\n");
        load(&format!("table inet slow {{\n{chain}}}\n"));
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        // The first one finds nothing in the CPU's caches.
        let times = (0..5).map(|_| {
            let (sender, _begins) = channel();
            let (began, ended) = send_slowly(receiver.local_addr().unwrap(), &sender);
            receiver.recv(&mut [0; 8]).unwrap();
            ended - began
        });
        let time = times.min().unwrap();
        assert!(time > Duration::from_millis(5), "the packet is not slow: {time:?}");
        Self { receiver, time, _alone: alone }
    }
}

/// Sends a packet that stays in a hook of the first CPU for long; says so just before, and returns when that began and
/// ended.
pub(crate) fn send_slowly(to: SocketAddr, begins: &Sender<()>) -> (Instant, Instant) {
    visit(0).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    begins.send(()).unwrap();
    let began = Instant::now();
    socket.send_to(b"slow", to).unwrap();
    (began, Instant::now())
}
