//! What the kernel tells of changes of nftables, and another program that changes a table of its own meanwhile.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use palisade_lab::Namespace;

/// The bit of `NFNLGRP_NFTABLES` (7).
const GROUP: u32 = 1 << 6;

/// Types of messages: `NFNL_SUBSYS_NFTABLES << 8`, and `NFT_MSG_NEWSETELEM`, `NFT_MSG_DELSETELEM`, `NFT_MSG_NEWGEN`.
const SUBSYSTEM: u16 = 10 << 8;
const NEW_ELEMENT: u16 = SUBSYSTEM + 12;
const ELEMENT_GONE: u16 = SUBSYSTEM + 14;
const NEW_GENERATION: u16 = SUBSYSTEM + 15;

/// The thread of an agent that commits.
const COMMITTER: &[u8] = b"enforcer";

/// Room for the notices of one large commit.
const ROOM: usize = 256 << 20;

/// A commit by the agent.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// When its last notice was received.
    pub(crate) at: Instant,
    /// The elements that it added or deleted.
    pub(crate) elements: usize,
    /// The IPv4 addresses among the keys of the elements that it added.
    pub(crate) added: Vec<[u8; 4]>,
}

/// The commits of a namespace's agent, as they happen.
pub(crate) struct Notices {
    commits: Receiver<Commit>,
}

impl Notices {
    pub(crate) fn listen(namespace: &Namespace) -> Self {
        let socket =
            namespace.run(|| open(GROUP)).expect("a namespace").expect("CAP_NET_ADMIN, for notices of nftables");
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM).expect("CAP_NET_ADMIN, for a large buffer");
        let (sender, commits) = channel();
        // The thread ends with the process.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            let (mut elements, mut added) = (0, Vec::new());
            loop {
                let size = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("notices of nftables");
                let at = Instant::now();
                for (kind, body) in messages(&buffer[..size]) {
                    match kind {
                        NEW_ELEMENT => {
                            elements += 1;
                            added.extend(addresses(body));
                        }
                        ELEMENT_GONE => elements += 1,
                        NEW_GENERATION => {
                            let (elements, added) = (std::mem::take(&mut elements), std::mem::take(&mut added));
                            let is_ours = body.windows(COMMITTER.len()).any(|window| window == COMMITTER);
                            if is_ours && sender.send(Commit { at, elements, added }).is_err() {
                                return;
                            }
                        }
                        _ => {}
                    }
                }
            }
        });
        Self { commits }
    }

    /// The next commit, if it comes in time.
    pub(crate) fn next(&self, limit: Duration) -> Option<Commit> {
        self.commits.recv_timeout(limit).ok()
    }

    /// Forgets the commits so far.
    pub(crate) fn forget(&self) {
        while self.commits.try_recv().is_ok() {}
    }

    /// The commits until there is none for this long.
    pub(crate) fn until_quiet(&self, quiet: Duration) -> Vec<Commit> {
        std::iter::from_fn(|| self.next(quiet)).collect()
    }
}

/// A socket of netfilter that receives the messages of these groups.
fn open(groups: u32) -> io::Result<OwnedFd> {
    let kind = (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = socket(kind.0, kind.1, kind.2, kind.3)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// The messages of a datagram: type and body.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(message) = bytes.get(..length) else { break };
        found.push((u16::from_ne_bytes([head[4], head[5]]), &message[16..]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The values of four bytes in a message (`NFTA_DATA_VALUE` of length 8).
fn addresses(body: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    let [length, kind] = [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()];
    let head = [length[0], length[1], kind[0], kind[1]];
    body.windows(8)
        .step_by(4)
        .filter(move |window| window[..4] == head)
        .filter_map(|window| window[4..].try_into().ok())
}

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

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("a short message");
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
