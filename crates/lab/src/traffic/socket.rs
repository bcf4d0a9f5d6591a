//! What several kinds of sockets are prepared with.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use socket2::Socket;

/// How long a port may stay taken by a socket that was closed.
const LIMIT: Duration = Duration::from_millis(200);

/// Binds, and tries again for a moment when the port is taken.
///
/// A closed socket lives on while a program is being started anywhere in this process: between `fork` and `exec` the
/// child has a copy of every descriptor.
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

/// Gives a socket a receive queue of so many bytes, or as many as the system allows where this process may not force it
/// (in a user namespace).
pub(crate) fn enlarge_queue(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    match setsockopt(socket, RcvBufForce, &bytes) {
        Err(Errno::EPERM) => Ok(setsockopt(socket, RcvBuf, &bytes)?),
        other => Ok(other?),
    }
}
