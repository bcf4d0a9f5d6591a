//! Another program that commits to a table of its own while an agent works.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, send};
use palisade_lab::Namespace;

use crate::netlink::{ELEMENT_GONE, NEW_ELEMENT, attribute, message, messages, open};

/// How often another program commits.
const EVERY: Duration = Duration::from_millis(1);

/// Another program that adds and deletes one element of a table of its own.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Vec<Duration>>>,
}

impl Neighbour {
    /// Makes its table. The kernel first finishes the deletion of others.
    pub(crate) fn settle(namespace: &Namespace) {
        namespace.nft("table ip neighbour {\nset addresses {\ntype ipv4_addr\n}\n}\n").expect("a table");
    }

    pub(crate) fn start(namespace: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = namespace.spawn(move || commits(&ends).expect("commits of another table")).expect("a thread");
        Self { stop, thread }
    }

    /// The times of its commits, each from when it was due.
    pub(crate) fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread of another table").expect("a namespace")
    }
}

fn commits(stop: &AtomicBool) -> io::Result<Vec<Duration>> {
    let socket = open(0)?;
    let mut times = Vec::new();
    let mut answer = vec![0; 64 << 10];
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let batch = batch(times.len() % 2 == 0);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(socket.as_raw_fd(), &batch, MsgFlags::empty())?;
        let size = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        times.push(due.elapsed());
        due += EVERY;
        // NLMSG_ERROR (2) with the code 0 acknowledges.
        let refused = messages(&answer[..size]).into_iter().any(|(kind, body)| kind != 2 || body[..4] != [0; 4]);
        if refused {
            return Err(io::Error::other("the kernel refused an element"));
        }
    }
    Ok(times)
}

/// A batch that adds or deletes one element.
fn batch(add: bool) -> Vec<u8> {
    /// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
    const EDGES: [u16; 2] = [16, 17];
    /// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`.
    const FLAGS: [u16; 3] = [1, 4, 0x400];
    let [request, acknowledge, create] = FLAGS;
    let [begin, end] = EDGES.map(|kind| message(kind, request, &[0, 0, 0, 10]));
    let key = attribute(1, &attribute(1, &[192, 0, 2, 1]));
    let names = [attribute(1, b"neighbour\0"), attribute(2, b"addresses\0")].concat();
    // nfgenmsg: AF_INET.
    let body = [&[2, 0, 0, 0][..], &names, &attribute(3, &attribute(1, &key))].concat();
    let (kind, flags) = if add { (NEW_ELEMENT, create) } else { (ELEMENT_GONE, 0) };
    [begin, message(kind, request | acknowledge | flags, &body), end].concat()
}
