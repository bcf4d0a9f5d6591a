//! The open connections: how many, for how long, and which one is closed if there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answers::Answers;

/// The most open connections. Each takes a descriptor; netlink and the API server also need some.
pub(super) const MOST: usize = 64;

/// How long the head of a request may take.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a connection may last, until the last byte of the response.
pub(super) const WHOLE_TIME: Duration = Duration::from_secs(10);

/// The largest head of a request.
const HEAD_BYTES: usize = 16 * 1024;

/// The open connections, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    by_age: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    /// A whole request has arrived.
    asked: bool,
}

impl Connections {
    /// Serves one request of a new connection; closes an older one if there are too many.
    pub(super) fn take(&self, stream: TcpStream, answers: Answers) {
        let mut open = self.open();
        if open.by_age.len() >= MOST {
            open.close_oldest();
        }
        let number = open.next;
        open.next = open.next.wrapping_add(1);
        let connections = self.clone();
        let task = tokio::spawn(async move {
            // Late, rejected or gone: no peer still waits for a response.
            timeout(WHOLE_TIME, connections.serve(number, stream, &answers)).await.ok();
            connections.open().by_age.remove(&number);
        });
        open.by_age.insert(number, Connection { task: task.abort_handle(), asked: false });
    }

    /// Closes the oldest connection without a request, or else the oldest. Returns whether there was one.
    pub(super) fn close_oldest(&self) -> bool {
        self.open().close_oldest()
    }

    /// The number of open connections.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open().by_age.len()
    }

    async fn serve(&self, number: u64, stream: TcpStream, answers: &Answers) -> hyper::Result<()> {
        let service = service_fn(|request| {
            if let Some(connection) = self.open().by_age.get_mut(&number) {
                connection.asked = true;
            }
            answers.answer(request)
        });
        // One request each: keep-alive gains nothing for a few requests a minute.
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn close_oldest(&mut self) -> bool {
        let silent = self.by_age.iter().find(|(_, connection)| !connection.asked);
        let oldest = silent.or_else(|| self.by_age.first_key_value()).map(|(number, _)| *number);
        let closed = oldest.and_then(|number| self.by_age.remove(&number));
        if let Some(connection) = &closed {
            connection.task.abort();
        }
        closed.is_some()
    }
}
