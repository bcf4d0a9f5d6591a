//! `/livez`, `/readyz` and `/metrics`, on one port that whoever reaches the node can reach.
//!
//! The server has a thread of its own and shares nothing with enforcement but what it answers from: the agent enforces
//! whether it can listen or not, and whatever comes to the port. What that may cost is bounded: connections, the time and
//! size of a request, and how often the kernel's counters are read.

mod answers;
mod connections;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;

pub(crate) use answers::{Answers, Refresh};
use connections::Connections;

/// Between two attempts to bind the address: at first, and at most.
const BIND_FIRST: Duration = Duration::from_secs(1);
const BIND_MOST: Duration = Duration::from_secs(30);

/// How long nothing is accepted when the kernel cannot give a connection and there is none to close for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections are accepted before those there are get their turn: a part of [`connections::MOST`].
const ACCEPT_TOGETHER: usize = connections::MOST / 8;

/// Starts the thread that serves, for as long as the program runs. An address that cannot be bound is tried again and again.
pub(crate) fn start(address: SocketAddr, answers: Answers) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        runtime.block_on(async {
            let listener = bind_at_last(address).await;
            serve(&listener, &answers, &Connections::default()).await;
        });
    };
    thread::Builder::new().name("http".to_owned()).spawn(body).map(drop)
}

/// Binds the address, however long that takes. Says so when it fails first, and when it works after that.
async fn bind_at_last(address: SocketAddr) -> TcpListener {
    let mut wait = BIND_FIRST;
    let mut failed = false;
    loop {
        match bind(address).await {
            Ok(listener) => {
                if failed {
                    tracing::info!(listen = %address, "serving probes and metrics");
                }
                return listener;
            }
            Err(error) => {
                if !failed {
                    tracing::error!(
                        listen = %address,
                        %error,
                        "cannot listen for probes and metrics; policies are enforced, and it is tried again. If another \
                         program has the port, choose one with --listen"
                    );
                }
                failed = true;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BIND_MOST);
            }
        }
    }
}

/// Binds the address. Where the kernel has no IPv6, every address is every IPv4 address.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await.map_err(|_of_ipv4| error)
        }
        bound => bound,
    }
}

/// Serves until the task is dropped.
async fn serve(listener: &TcpListener, answers: &Answers, connections: &Connections) {
    let (mut failing, mut accepted) = (false, 0);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                connections.take(stream, answers.clone());
                // So that a request which has come with its connection is read before many more of them are accepted: a
                // flood of connections must not push it out unread.
                accepted = (accepted + 1) % ACCEPT_TOGETHER;
                if accepted == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept connections to probes and metrics; trying again");
                    failing = true;
                }
                // There are no descriptors, or no memory. Connections that say nothing have to make room.
                if connections.close_oldest() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that its peer gave up before it was accepted says nothing about the next one.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
