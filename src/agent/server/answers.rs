//! The response of each path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::agent::metrics;
use crate::agent::status::Status;

/// Asks the enforcement loop to read the kernel's counters into the metrics.
pub(crate) type Refresh = oneshot::Sender<()>;

/// How long a scrape waits for fresh counters before it gets the last ones.
const REFRESH_TIME: Duration = Duration::from_secs(1);

/// The minimum time between two refreshes of the counters, for any number of scrapes.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The data that responses come from.
#[derive(Clone)]
pub(crate) struct Answers {
    status: Status,
    registry: Arc<Registry>,
    refresh: mpsc::Sender<Refresh>,
    /// When the loop was last asked for fresh counters.
    refreshed: Arc<Mutex<Option<Instant>>>,
}

impl Answers {
    /// Answers from these, and requests fresh counters through `refresh`.
    pub(crate) fn new(status: Status, registry: Registry, refresh: mpsc::Sender<Refresh>) -> Self {
        Self { status, registry: Arc::new(registry), refresh, refreshed: Arc::default() }
    }

    /// The response to a request. It waits for the loop only for counters, and only briefly.
    pub(super) async fn answer(&self, request: Request<impl Body>) -> Result<Response<Full<Bytes>>, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(refused);
        }
        if !request.body().is_end_stream() {
            return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "requests must not have a body\n".to_owned()));
        }
        Ok(match request.uri().path() {
            "/livez" => probe(self.status.liveness()),
            "/readyz" => probe(self.status.readiness()),
            "/metrics" => self.scrape().await,
            _ => text(StatusCode::NOT_FOUND, "only /livez, /readyz and /metrics are served here\n".to_owned()),
        })
    }

    async fn scrape(&self) -> Response<Full<Bytes>> {
        self.refresh().await;
        match metrics::text(&self.registry) {
            Ok(metrics) => response(StatusCode::OK, OPEN_METRICS, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    /// Refreshes the counters unless they are fresh. Concurrent scrapes wait for the same refresh.
    async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|last| last.elapsed() < REFRESH_EVERY) {
            return;
        }
        let (done, fresh) = oneshot::channel();
        if self.refresh.try_send(done).is_ok() {
            // Late or failed: serve the last counters.
            timeout(REFRESH_TIME, fresh).await.ok();
        }
        *refreshed = Some(Instant::now());
    }
}

fn probe(answer: Result<(), String>) -> Response<Full<Bytes>> {
    match answer {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    response(status, TEXT, text)
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
