//! `/livez`, `/readyz` and `/metrics`, on a port that anyone who reaches the node can reach.
//!
//! The server runs on its own thread and shares only its inputs with enforcement: the agent enforces even if it cannot
//! listen, and under any load on the port. The cost is bounded: connections, time and size of a request, and how often
//! the kernel's counters are read.

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

/// The wait between two attempts to bind the address: at first, and at most.
const BIND_FIRST: Duration = Duration::from_secs(1);
const BIND_MOST: Duration = Duration::from_secs(30);

/// How long to stop accepting if the kernel cannot open a connection and there is none to close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections to accept before the open ones get a turn: a part of [`connections::MOST`].
const ACCEPT_TOGETHER: usize = connections::MOST / 8;

/// Starts the server thread, for as long as the program runs. It keeps trying to bind the address.
pub(crate) fn start(address: SocketAddr, answers: Answers) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        runtime.block_on(async {
            let listener = bind_with_retry(address).await;
            serve(&listener, &answers, &Connections::default()).await;
        });
    };
    thread::Builder::new().name("http".to_owned()).spawn(body).map(drop)
}

/// Binds the address, and retries until that succeeds. Logs the first failure, and the success after one.
async fn bind_with_retry(address: SocketAddr) -> TcpListener {
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
                        "cannot listen for probes and metrics; policies are still enforced; trying again; if another \
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

/// Binds the address. If the kernel has no IPv6, `[::]` means every IPv4 address.
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
                // Read requests that arrived with their connections before accepting many more: a flood of connections
                // must not push them out unread.
                accepted = (accepted + 1) % ACCEPT_TOGETHER;
                if accepted == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_peer_error(&error) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot accept connections to probes and metrics; trying again");
                    failing = true;
                }
                // No descriptors, or no memory: a silent connection must make room.
                if connections.close_oldest() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether a peer gave up before its connection was accepted; the next one may be fine.
fn is_peer_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
