//! `palisade agent`: watches objects and keeps the kernel's ruleset up to date.
//!
//! Four threads, so that none blocks another: this one runs the object source and handles signals, the [`enforcer`]
//! makes commits, which block, the HTTP [`server`] answers probes and scrapes, and the [`log`] writes lines. The
//! ruleset stays when the agent exits.

mod enforcer;
mod flows;
mod foreign;
mod health;
mod log;
mod metrics;
mod pace;
mod report;
mod requests;
mod server;
mod settings;
mod status;
mod untracked;

use std::process::ExitCode;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palisade_dataplane::perform::{BridgeNetfilter, Kernel};
use palisade_dataplane::table::Ownership;
use palisade_engine::{Engine, Options};
use palisade_policy::input::{Budget, Cost, NamespacedName};
use palisade_watch::{Arrival, Request};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{self, AgentArgs, NewPods, Untracked};
use crate::output::Failure;
use enforcer::{Enforcer, Inputs, Parts};
use flows::Flows;
use health::Health;
use log::Log;
use metrics::Metrics;
use server::Answers;
use status::Status;

/// Events that may wait while a commit runs; beyond that, the source waits.
const QUEUE: usize = 4096;

/// How many requests to the source may be outstanding.
const REQUESTS: usize = 1024;

/// More descriptors than the agent needs: 64 for connections of the HTTP server, some for netlink and the API server.
const DESCRIPTORS: u64 = 65_536;

/// Runs the agent until it gets a signal.
pub(crate) fn run(arguments: AgentArgs) -> ExitCode {
    let log = match log::start(arguments.log_format) {
        Ok(log) => log,
        Err(error) => return Failure::caused("cannot start the log", &error).report(),
    };
    let done = run_with(arguments, &log);
    let status = done.map_or_else(
        |failure| {
            // Through the log, because stderr may be blocked, and the exit must not wait for it.
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
    // A read from a lost disk must not delay the exit.
    runtime.shutdown_background();
    ended
}

/// Raises the limit of open files. Container runtimes that set none leave 1,024, and often allow far more.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(DESCRIPTORS);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files; continuing with the current one");
    }
}

async fn serve(arguments: AgentArgs, log: &Log) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|error| Failure::caused("cannot wait for signals", &error));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let (metrics, mut registry) = Metrics::new();
    registry.register("log_lines_dropped", "Log lines dropped", log.dropped());
    let health = Health::new();
    registry.register_collector(Box::new(health.clone()));
    let status = Status::new(health.clone());
    let (to_enforcer, events) = mpsc::channel(QUEUE);
    health.watch_queue(&to_enforcer);
    let (refresh, refreshes) = mpsc::channel(1);
    let (requests, to_source) = mpsc::channel(REQUESTS);

    settings::log(&arguments);
    registry.register("flags", "The agent's flags in effect", settings::info(&arguments));
    registry.register_collector(Box::new(status.clone()));
    let answers = Answers::new(status.clone(), registry, refresh);
    let source = watch(&arguments, health.clone(), to_enforcer, to_source);
    let requests = arguments.manifests.is_none().then_some(requests);
    let enforcing = enforce(&arguments, Shared { status, metrics, health, requests }, events, refreshes)?;
    server::start(arguments.listen, answers).map_err(|error| Failure::caused("cannot start a thread", &error))?;

    tokio::select! {
        _ = terminate.recv() => tracing::info!("terminated; the ruleset stays, and `palisade cleanup` removes it"),
        _ = interrupt.recv() => tracing::info!("interrupted; the ruleset stays, and `palisade cleanup` removes it"),
        ended = source => ended?,
        _ = enforcing => return Err(Failure::new("the enforcement loop ended; the ruleset stays")),
    }
    Ok(())
}

/// The object source, as a future that completes only on failure.
fn watch(
    arguments: &AgentArgs,
    health: Health,
    events: mpsc::Sender<Arrival>,
    requests: mpsc::Receiver<Request>,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let manifests = arguments.manifests.clone();
    let (kubeconfig, context) = (arguments.kubeconfig.clone(), arguments.context.clone());
    let ranges_of = (arguments.new_pods == NewPods::Hold).then(|| arguments.node.clone());
    async move {
        let ended = match manifests {
            Some(directory) => match palisade_watch::ManifestDirectory::open(directory) {
                Ok(directory) => directory.run(events).await,
                Err(error) => Err(error),
            },
            None => match palisade_watch::ApiServer::connect_to(kubeconfig.as_deref(), context.as_deref()).await {
                Ok(server) => {
                    health.watch_contact(server.contact());
                    match ranges_of {
                        Some(node) => server.with_pod_ranges_of(&node).run(events, requests).await,
                        None => server.run(events, requests).await,
                    }
                }
                Err(error) => Err(error),
            },
        };
        ended.map_err(|error| Failure::caused("cannot read objects", &error))
    }
}

/// The state that the loop shares with the server and the source.
struct Shared {
    status: Status,
    metrics: Metrics,
    health: Health,
    requests: Option<mpsc::Sender<Request>>,
}

/// Starts the enforcement thread; the receiver ends when the thread does.
fn enforce(
    arguments: &AgentArgs,
    shared: Shared,
    events: mpsc::Receiver<Arrival>,
    refreshes: mpsc::Receiver<server::Refresh>,
) -> Result<tokio::sync::oneshot::Receiver<()>, Failure> {
    let options = engine_options(arguments);
    let node = arguments.node.clone();
    let bridges = match arguments.bridge_netfilter {
        cli::BridgeNetfilter::Set => BridgeNetfilter::Set,
        cli::BridgeNetfilter::Check => BridgeNetfilter::Check,
    };
    let (ended, on_end) = tokio::sync::oneshot::channel();
    let no_thread = |error| Failure::caused("cannot start a thread", &error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("cannot start", &error))?;
    let (flows, outcomes) = Flows::start().map_err(no_thread)?;
    let body = move || {
        let Shared { status, metrics, health, requests } = shared;
        let kernel = Kernel::new(Ownership::Automatic, bridges);
        let options =
            Options { verdict_cache: options.verdict_cache.filter(|bits| report::has_no_mark_users(*bits)), ..options };
        let engine = Engine::new(node, options);
        health.watch_pulse(engine.index().pulse().clone());
        let enforcer = Enforcer::new(Parts { engine, kernel, flows, requests, status, metrics, health });
        runtime.block_on(enforcer.run(Inputs { events, outcomes, refreshes }));
        drop(ended);
    };
    thread::Builder::new().name("enforcer".to_owned()).spawn(body).map_err(no_thread)?;
    Ok(on_end)
}

fn engine_options(arguments: &AgentArgs) -> Options {
    let own_pod = arguments.pod.as_ref().and_then(|pod| pod.split_once('/'));
    Options {
        render: palisade_ruleset::render::Options {
            allow_egress_to_own_node: arguments.allow_egress_to_own_node,
            established: arguments.established.into(),
            judge_untracked: arguments.untracked == Untracked::Judge,
            ..palisade_ruleset::render::Options::default()
        },
        legacy_isolation: arguments.legacy_namespace_isolation,
        source_answers: arguments.manifests.is_none(),
        verdict_cache: arguments.verdict_cache.0,
        budget: Budget::of(Cost(arguments.policy_budget)),
        own_pod: own_pod.map(|(namespace, name)| NamespacedName::new(namespace, name)),
    }
}
