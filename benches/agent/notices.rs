//! The kernel's notices of changes of nftables.

use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use palisade_lab::Namespace;

use crate::netlink::{ELEMENT_GONE, NEW_ELEMENT, NEW_GENERATION, messages, open};

/// The bit of `NFNLGRP_NFTABLES` (7).
const GROUP: u32 = 1 << 6;

/// The thread of Palisade's agent that commits.
pub(crate) const PALISADE: &str = "enforcer";

/// Room for the notices of one large commit.
const ROOM: usize = 256 << 20;

/// A commit by the agent that is measured.
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
    /// `committer` is the name of the thread or program that commits for the agent.
    pub(crate) fn listen(namespace: &Namespace, committer: &'static str) -> Self {
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
                            let is_ours = body.windows(committer.len()).any(|window| window == committer.as_bytes());
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

/// The values of four bytes in a message (`NFTA_DATA_VALUE` of length 8).
fn addresses(body: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    let [length, kind] = [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes()];
    let head = [length[0], length[1], kind[0], kind[1]];
    body.windows(8)
        .step_by(4)
        .filter(move |window| window[..4] == head)
        .filter_map(|window| window[4..].try_into().ok())
}
