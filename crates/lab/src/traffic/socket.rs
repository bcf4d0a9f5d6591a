//! Setup common to several kinds of sockets.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use socket2::Socket;

/// How long a closed socket may still hold its port.
const LIMIT: Duration = Duration::from_millis(200);

/// Binds, retrying for a moment if the port is taken.
///
/// A closed socket stays open while any thread of this process starts a program: between `fork` and `exec` the child
/// has a copy of every descriptor.
pub(crate) fn bind(socket: &Socket, at: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match socket.bind(&at.into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < LIMIT => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// Gives a socket a receive queue of this many bytes, or as many as the system allows if this process may not force it
/// (in a user namespace).
pub(crate) fn enlarge_queue(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    match setsockopt(socket, RcvBufForce, &bytes) {
        Err(Errno::EPERM) => Ok(setsockopt(socket, RcvBuf, &bytes)?),
        other => Ok(other?),
    }
}
