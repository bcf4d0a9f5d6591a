//! Binding to a chosen port.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

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
