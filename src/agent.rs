//! `palisade agent`: objects in, a ruleset in the kernel out, for as long as it runs.
//!
//! Two threads. This one runs the object source, the HTTP server and the signals; a thread of its own runs the
//! [`enforcer`], whose commits block. When the agent ends, the ruleset stays.

mod cause;
mod enforcer;
mod freeze;
mod gather;
mod kernel;
mod metrics;
mod report;
mod server;
mod status;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::thread;

use palisade_ruleset::render::Options;
use palisade_watch::{Arrival, Request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::{AgentArgs, Established, LogFormat, NewPods, Untracked};
use crate::output::Failure;
use enforcer::Enforcer;
use kernel::Netlink;
use metrics::Metrics;
use server::Answers;
use status::Status;

/// Events that wait while a commit runs; beyond, the source waits.
const QUEUE: usize = 4096;

/// What the loop may ask of the source at a time.
const REQUESTS: usize = 1024;

/// Runs the agent until it is told to end.
pub(crate) fn run(arguments: AgentArgs) -> Result<(), Failure> {
    init_log(arguments.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    runtime.block_on(serve(arguments))
}

fn init_log(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

async fn serve(arguments: AgentArgs) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::caused("cannot wait for signals", &error));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let (metrics, registry) = Metrics::new();
    let status = Status::new();
    let (to_enforcer, events) = mpsc::channel(QUEUE);
    let (refresh, refreshes) = mpsc::channel(1);

    let listener = server::bind(arguments.listen)
        .await
        .map_err(|error| Failure::caused(&format!("cannot listen on {}", arguments.listen), &error))
        .map_err(|failure| failure.hint("another program has the port; choose one with --listen"))?;
    tracing::info!(node = arguments.node, listen = %arguments.listen, version = env!("CARGO_PKG_VERSION"), "starting");
    let answers = Answers { status: status.clone(), registry: Arc::new(registry), refresh };
    let server = server::serve(listener, answers);
    let (ask, requests) = mpsc::channel(REQUESTS);
    let ask = arguments.manifests.is_none().then_some(ask);
    let source = watch(&arguments, to_enforcer, requests);
    let enforcing = enforce(&arguments, status, metrics, events, ask, refreshes)?;

    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end; the ruleset stays, and `palisade cleanup` removes it"),
        _ = interrupt.recv() => tracing::info!("interrupted; the ruleset stays, and `palisade cleanup` removes it"),
        ended = source => ended?,
        ended = server => ended.map_err(|error| Failure::caused("the HTTP server failed", &error))?,
        _ = enforcing => return Err(Failure::new("the loop that enforces ended; the ruleset stays as it was")),
    }
    Ok(())
}

/// The object source, as a future that ends only when it fails.
fn watch(
    arguments: &AgentArgs,
    events: mpsc::Sender<Arrival>,
    requests: mpsc::Receiver<Request>,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let manifests = arguments.manifests.clone();
    let kubeconfig = arguments.kubeconfig.clone();
    let ranges_of = (arguments.new_pods == NewPods::Hold).then(|| arguments.node.clone());
    async move {
        let ended = match manifests {
            Some(directory) => match palisade_watch::ManifestDirectory::open(directory) {
                Ok(directory) => directory.run(events).await,
                Err(error) => Err(error),
            },
            None => match palisade_watch::ApiServer::connect(kubeconfig.as_deref()).await {
                Ok(server) => match ranges_of {
                    Some(node) => server.with_pod_ranges_of(&node).run(events, requests).await,
                    None => server.run(events, requests).await,
                },
                Err(error) => Err(error),
            },
        };
        ended.map_err(|error| Failure::caused("cannot read objects", &error))
    }
}

/// Starts the thread that enforces; the receiver ends when the thread does.
fn enforce(
    arguments: &AgentArgs,
    status: Status,
    metrics: Metrics,
    events: mpsc::Receiver<Arrival>,
    requests: Option<mpsc::Sender<Request>>,
    refreshes: mpsc::Receiver<server::Refresh>,
) -> Result<tokio::sync::oneshot::Receiver<()>, Failure> {
    let legacy = arguments.legacy_namespace_isolation;
    let options = Options {
        allow_egress_to_own_node: arguments.allow_egress_to_own_node,
        keep_established: arguments.established == Established::Keep,
        judge_untracked: arguments.untracked == Untracked::Judge,
        ..Options::default()
    };
    let node = arguments.node.clone();
    let (ended, on_end) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let body = move || {
        let mut enforcer = Enforcer::new(&node, options, Netlink::new(), status, metrics);
        if let Some(requests) = requests {
            enforcer.ask(requests);
        }
        if legacy {
            enforcer.honour_legacy_isolation();
        }
        runtime.block_on(enforcer.run(events, refreshes));
        drop(ended);
    };
    thread::Builder::new()
        .name("enforcer".to_owned())
        .spawn(body)
        .map_err(|error| Failure::caused("cannot start a thread", &error))?;
    Ok(on_end)
}
