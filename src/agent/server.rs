//! `/livez`, `/readyz` and `/metrics`, on one port.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::metrics;
use super::status::Status;

/// Asks the loop that enforces to read the kernel's counters into the metrics.
pub(crate) type Refresh = oneshot::Sender<()>;

/// How long a scrape waits for fresh counters before it is served the last ones.
const REFRESH_TIME: Duration = Duration::from_secs(1);

/// What the routes answer from.
#[derive(Clone)]
pub(crate) struct Answers {
    pub(crate) status: Status,
    pub(crate) registry: Arc<Registry>,
    pub(crate) refresh: mpsc::Sender<Refresh>,
}

/// Binds the address. Where the kernel has no IPv6, every address is every IPv4 address.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await.map_err(|_of_ipv4| error)
        }
        bound => bound,
    }
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, answers: Answers) -> io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(async |State(answers): State<Answers>| probe(answers.status.liveness())))
        .route("/readyz", get(async |State(answers): State<Answers>| probe(answers.status.readiness())))
        .route("/metrics", get(async |State(answers): State<Answers>| scrape(answers).await))
        .with_state(answers);
    axum::serve(listener, routes).await
}

fn probe(answer: Result<(), String>) -> Response {
    match answer {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn scrape(answers: Answers) -> Response {
    let (done, refreshed) = oneshot::channel();
    if answers.refresh.try_send(done).is_ok() {
        // Late or failed: the last counters are served.
        tokio::time::timeout(REFRESH_TIME, refreshed).await.ok();
    }
    match metrics::text(&answers.registry) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        // A port that somebody has is taken, in whichever family.
        bind(([0; 16], port).into()).await.unwrap_err();
    }
}
