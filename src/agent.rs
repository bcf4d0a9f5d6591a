//! `palisade agent`: objects in, a ruleset in the kernel out, for as long as it runs.
//!
//! Four threads, so that none holds up another. This one runs the object source and the signals; one runs the
//! [`enforcer`], whose commits block; one the HTTP [`server`]; one writes the [`log`]. When the agent ends, the ruleset
//! stays.

mod cause;
mod enforcer;
mod freeze;
mod kernel;
mod log;
mod metrics;
mod report;
mod server;
mod status;

use std::process::ExitCode;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palisade_ruleset::render::Options;
use palisade_watch::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{AgentArgs, Established, NewPods, Untracked};
use crate::output::Failure;
use enforcer::Enforcer;
use kernel::Netlink;
use log::Log;
use metrics::Metrics;
use server::Answers;
use status::Status;

/// Events that wait while a commit runs; beyond, the source waits.
const QUEUE: usize = 4096;

/// How many descriptors are enough in any case: 64 connections of the HTTP server, and some of netlink and the API server.
const DESCRIPTORS: u64 = 65_536;

/// Runs the agent until it is told to end.
pub(crate) fn run(arguments: AgentArgs) -> ExitCode {
    let log = match log::start(arguments.log_format) {
        Ok(log) => log,
        Err(error) => return Failure::caused("cannot start the log", &error).report(),
    };
    let done = run_with(arguments, &log);
    let status = done.map_or_else(
        |failure| {
            // Through the log, for stderr may be stuck, and ending must not wait for that.
            log.line(failure.text().as_bytes());
            failure.exit_code()
        },
        |()| ExitCode::SUCCESS,
    );
    log.flush(log::FLUSH_TIME);
    status
}

fn run_with(arguments: AgentArgs, log: &Log) -> Result<(), Failure> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let ended = runtime.block_on(serve(arguments, log));
    // A file that is being read, on a disk that is gone, must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Container runtimes that set no limit leave 1,024 descriptors, and may allow far more.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(DESCRIPTORS);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files; going on with what there is");
    }
}

async fn serve(arguments: AgentArgs, log: &Log) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::caused("cannot wait for signals", &error));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let (metrics, mut registry) = Metrics::new();
    registry.register("log_lines_dropped", "Lines that the log could not take or write", log.dropped());
    let status = Status::new();
    let (to_enforcer, events) = mpsc::channel(QUEUE);
    let (refresh, refreshes) = mpsc::channel(1);

    tracing::info!(node = arguments.node, listen = %arguments.listen, version = env!("CARGO_PKG_VERSION"), "starting");
    let answers = Answers::new(status.clone(), registry, refresh);
    let source = watch(&arguments, to_enforcer);
    let enforcing = enforce(&arguments, status, metrics, events, refreshes)?;
    server::start(arguments.listen, answers).map_err(|error| Failure::caused("cannot start a thread", &error))?;

    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end; the ruleset stays, and `palisade cleanup` removes it"),
        _ = interrupt.recv() => tracing::info!("interrupted; the ruleset stays, and `palisade cleanup` removes it"),
        ended = source => ended?,
        _ = enforcing => return Err(Failure::new("the loop that enforces ended; the ruleset stays as it was")),
    }
    Ok(())
}

/// The object source, as a future that ends only when it fails.
fn watch(arguments: &AgentArgs, events: mpsc::Sender<Event>) -> impl Future<Output = Result<(), Failure>> + use<> {
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
                    Some(node) => server.with_pod_ranges_of(&node).run(events).await,
                    None => server.run(events).await,
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
    events: mpsc::Receiver<Event>,
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
