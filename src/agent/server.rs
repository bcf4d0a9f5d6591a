//! `/livez`, `/readyz` and `/metrics`, on one port.

use std::net::SocketAddr;
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

/// Binds the address.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, answers: Answers) -> std::io::Result<()> {
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
