//! A live API server as a source of objects.
//!
//! Three watches: namespaces, pods and network policies of the whole cluster. All pods are needed, those of other nodes
//! as peers. Of each object only what policies look at is kept while it is decoded.

mod ending;
mod lists;
mod notice;
mod objects;
mod ranges;
mod survey;

use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, watcher::Event as WatchEvent};
use kube::{Api, Client, Config};
use tokio::sync::mpsc::Sender;

use crate::error::SourceError;
use crate::event::{Event, Failure};
use crate::finding::Kind;
use crate::manifests::Object;
use ending::Endings;
use lists::{Lists, Step};
use notice::Notices;
use objects::{Decoded, KubeNamespace, KubePod, KubePolicy, Read};
use ranges::Asker;

/// The JSON of an object, read as each of the kinds that are watched, for fuzzing.
pub(crate) fn read_as_any_kind(json: &[u8]) -> Vec<Object> {
    objects::read_as_any_kind(json)
}

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;
/// Seconds until the server ends a watch, which is then taken up where it was. A connection that died silently is
/// noticed five seconds later, so this is also how old the picture may get unnoticed.
const WATCH_SECONDS: u32 = 120;

/// An API server that is watched for changes.
///
/// Lists are read from the server's newest state, never from an older cache: a list that is older than what was seen
/// before could bring back a policy or a label that is gone. Errors are retried for ever, with a growing and jittered
/// delay of 0.8 to 30 seconds for each kind.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    /// The node whose pod ranges are to be told.
    node: Option<Arc<str>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Sets up a client; the server is not asked yet. Without `kubeconfig` the usual places are tried: `$KUBECONFIG`,
    /// `~/.kube/config`, then the pod's service account.
    ///
    /// # Errors
    /// No server is known, or the configuration makes no sense.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, SourceError> {
        // One provider is compiled in, but another dependency could bring a second, and rustls then refuses to choose.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was installed before");
        }
        let config = match kubeconfig {
            Some(path) => {
                let refused = |source| SourceError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
                let file = Kubeconfig::read_from(path).map_err(refused)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(refused)?
            }
            None => Config::infer().await.map_err(|source| SourceError::NoServer(Box::new(source)))?,
        };
        let client = Client::try_from(config).map_err(|source| SourceError::Client(Box::new(source)))?;
        Ok(Self { client, node: None })
    }

    /// Also tells the ranges that a node gives its pods addresses from, before everything else if the server knows them by
    /// then.
    #[must_use]
    pub fn with_pod_ranges_of(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Sends the objects of the server and then every change, until the receiver is dropped. What is warned about in a
    /// policy also becomes an Event on it, one for all nodes.
    ///
    /// # Errors
    /// None so far: an API server that cannot be reached or refuses is asked again.
    pub async fn run(self, tx: Sender<Event>) -> Result<(), SourceError> {
        let notices = Notices::start(self.client.clone());
        let mut endings = Endings::new(self.client.clone());
        let mut lists = Lists::default();
        let mut later = FuturesUnordered::new();
        if let Some(node) = self.node.clone() {
            let mut asker = Asker::new(self.client.clone(), node);
            match asker.ask().await {
                Some(ranges) => {
                    if tx.send(Event::PodRanges(ranges)).await.is_err() {
                        return Ok(());
                    }
                }
                None => later.push(asker.ask_on()),
            }
        }
        let mut steps = stream::select_all([
            self.watch::<KubeNamespace>(Kind::Namespace),
            self.watch::<KubePod>(Kind::Pod),
            self.watch::<KubePolicy>(Kind::NetworkPolicy),
        ]);
        loop {
            let next: Option<Vec<_>> = tokio::select! {
                next = steps.next() => next.map(|(kind, step)| {
                    let step = if kind == Kind::NetworkPolicy { endings.hold(step) } else { Some(step) };
                    step.map(|step| (kind, step)).into_iter().collect()
                }),
                Some(steps) = endings.next() => Some(steps),
                Some(ranges) = later.next() => {
                    if tx.send(Event::PodRanges(ranges)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                () = tx.closed() => None,
            };
            let Some(steps) = next else { return Ok(()) };
            for event in steps.into_iter().flat_map(|(kind, step)| lists.take(kind, step)).collect::<Vec<_>>() {
                if let Event::Warning { object: Some(object), message } = &event {
                    notices.hand_in(object, message);
                }
                if tx.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn watch<K: Read>(&self, kind: Kind) -> BoxStream<'static, (Kind, Step)> {
        let config = watcher::Config::default().page_size(PAGE_SIZE).timeout(WATCH_SECONDS);
        watcher(Api::<K>::all(self.client.clone()), config)
            .default_backoff()
            .filter_map(move |event| async move { Some((kind, step(kind, event)?)) })
            .boxed()
    }
}

/// What an event of the watcher means here. An object without a name means nothing.
fn step<K: Read>(kind: Kind, event: Result<WatchEvent<K>, watcher::Error>) -> Option<Step> {
    Some(match event {
        Ok(WatchEvent::Init) => Step::ListBegins,
        Ok(WatchEvent::InitApply(object)) => Step::Listed(object.read()?),
        Ok(WatchEvent::InitDone) => Step::ListEnds,
        Ok(WatchEvent::Apply(object)) => Step::Applied(object.read()?),
        Ok(WatchEvent::Delete(object)) => {
            let Decoded { object, .. } = object.read()?;
            Step::Gone(object.name())
        }
        Err(error) => Step::Failed(failure(kind, &error)),
    })
}

fn failure(kind: Kind, error: &watcher::Error) -> Failure {
    let reason = match error {
        watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => "list",
        watcher::Error::WatchError(status) if status.code == 410 => "expired",
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410 => "expired",
        watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_) => "watch",
    };
    let mut message = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 403 =>
        {
            format!("{error}; the ClusterRole must allow list and watch of {}", kind.resource())
        }
        _ => error.to_string(),
    };
    // Errors of the transport say what happened only in their causes.
    let mut cause = std::error::Error::source(error).and_then(std::error::Error::source);
    while let Some(deeper) = cause {
        let text = deeper.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = deeper.source();
    }
    Failure { resource: Some(kind), reason, message }
}
