//! A live API server as a source of objects.
//!
//! Three watches: namespaces, pods and network policies of the whole cluster. All pods are needed, those of other nodes
//! as peers. Objects are trimmed to the fields that policies need while they are decoded.

mod ask;
mod chance;
mod cycle;
mod notice;
mod objects;
mod pace;
mod ranges;
mod split;
mod survey;
mod timing;
mod trouble;
mod warned;
mod wire;

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use palisade_policy::input::{Kind, Object};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::contact::Contact;
use crate::decode::{KubeNamespace, KubePod, KubePolicy};
use crate::error::SourceError;
use crate::event::{Arrival, Event, Request};
use ask::{Questions, Subject};
use cycle::Cycle;
use notice::Notices;
use ranges::RangePoller;
pub use timing::Timing;
use wire::Wire;

/// Decodes the JSON of an object as each of the watched kinds, for fuzzing.
pub(crate) fn read_as_any_kind(json: &[u8]) -> Vec<Object> {
    objects::read_as_any_kind(json)
}

/// An API server, watched for changes.
///
/// Lists are read from the server's newest state, never from an older cache: a list that is older than data seen before
/// could bring back a policy or a label that is gone. Every request has a deadline, and errors are retried forever,
/// each kind at a separate pace ([`Timing`]): a server in trouble gets no more than about one list request a minute.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    url: String,
    timing: Timing,
    contact: Contact,
    /// The node whose pod ranges are reported.
    node: Option<Arc<str>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Sets up a client, without a request. Without `kubeconfig` it tries the usual places: `$KUBECONFIG`,
    /// `~/.kube/config`, then the pod's service account.
    ///
    /// # Errors
    /// No server is known, or the configuration is invalid.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, SourceError> {
        Self::connect_to(kubeconfig, None).await
    }

    /// The same, with a context of the kubeconfig instead of its current one.
    ///
    /// # Errors
    /// No server is known, there is no such context, or the configuration is invalid.
    pub async fn connect_to(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, SourceError> {
        // One provider is compiled in, but another dependency could bring a second, and rustls then refuses to choose.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was already installed");
        }
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let mut config = match (kubeconfig, context) {
            (Some(path), _) => {
                let refused = |source| SourceError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
                let file = Kubeconfig::read_from(path).map_err(refused)?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(refused)?
            }
            (None, Some(name)) => {
                let refused = |source| SourceError::Context { name: name.to_owned(), source: Box::new(source) };
                Config::from_kubeconfig(&options).await.map_err(refused)?
            }
            (None, None) => Config::infer().await.map_err(|source| SourceError::NoServer(Box::new(source)))?,
        };
        // This module paces retries; many retries at once within a request would only add to the load.
        config.default_retry = false;
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|source| SourceError::Client(Box::new(source)))?;
        Ok(Self { client, url, timing: Timing::default(), contact: Contact::new(), node: None })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// Also reports the IP ranges that a node assigns pod IPs from: before everything else if the server has them by
    /// then, and whenever they change.
    #[must_use]
    pub fn with_pod_ranges_of(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Replaces the agent's timing, for tests.
    #[must_use]
    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// The contact with the server, updated while [`ApiServer::run`] runs.
    pub fn contact(&self) -> Contact {
        self.contact.clone()
    }

    /// Sends the objects of the server and then every change, and answers requests, until the receiver is dropped. It
    /// continues when `requests` is closed.
    ///
    /// # Errors
    /// None so far: an API server that cannot be reached or refuses is retried.
    pub async fn run(self, tx: Sender<Arrival>, requests: Receiver<Request>) -> Result<(), SourceError> {
        let mut all = FuturesUnordered::<BoxFuture<'static, ()>>::new();
        if let Some(node) = self.node.clone() {
            let mut asker = RangePoller::new(self.client.clone(), node);
            let ranges = tokio::select! {
                ranges = asker.ask() => ranges,
                () = tx.closed() => return Ok(()),
            };
            if let Some(ranges) = ranges
                && tx.send(Arrival::now(Event::PodRanges(ranges))).await.is_err()
            {
                return Ok(());
            }
            all.push(asker.poll(self.timing.ranges, tx.clone()).boxed());
        }
        let (namespaces, wish_namespaces) = self.cycle(Kind::Namespace, &tx);
        let (pods, wish_pods) = self.cycle(Kind::Pod, &tx);
        let (policies, wish_policies) = self.cycle(Kind::NetworkPolicy, &tx);
        all.push(namespaces.run::<KubeNamespace>().boxed());
        all.push(pods.run::<KubePod>().boxed());
        all.push(policies.run::<KubePolicy>().boxed());
        let (notices, writing) = Notices::new(self.client.clone(), self.timing.clone());
        all.push(writing.boxed());
        let questions = || Questions::new(self.client.clone(), self.timing.answer);
        let questions = Asked { namespaces: questions(), objects: questions() };
        let wishes = Wishes { namespaces: wish_namespaces, pods: wish_pods, policies: wish_policies };
        all.push(answer(requests, questions, wishes, notices, tx.clone()).boxed());
        // None of them ends before the receiver is gone.
        tokio::select! {
            _ = all.next() => {}
            () = tx.closed() => {}
        }
        Ok(())
    }

    /// The list-and-watch of a kind, and the channel to request a list from it.
    fn cycle(&self, kind: Kind, tx: &Sender<Arrival>) -> (Cycle, Sender<()>) {
        let (wish, wishes) = channel(1);
        let (client, contact, patience) = (self.client.clone(), self.contact.clone(), self.timing.answer);
        let wire = Wire { client, kind, contact, patience };
        (Cycle::new(wire, self.timing.clone(), tx.clone(), wishes), wish)
    }
}

/// The channels to request lists. Each holds one request: further ones would add nothing.
struct Wishes {
    namespaces: Sender<()>,
    pods: Sender<()>,
    policies: Sender<()>,
}

impl Wishes {
    fn wish(&self, kind: Kind) {
        let wish = match kind {
            Kind::Namespace => &self.namespaces,
            Kind::Pod => &self.pods,
            Kind::NetworkPolicy => &self.policies,
        };
        if wish.try_send(()).is_err() {
            tracing::trace!(%kind, "a list was already requested");
        }
    }
}

/// The pending questions. The two kinds are independent: an unanswered question about an object delays no deletion.
struct Asked {
    namespaces: Questions,
    objects: Questions,
}

/// Serves the receiver's requests.
async fn answer(
    mut requests: Receiver<Request>,
    mut asked: Asked,
    wishes: Wishes,
    notices: Notices,
    tx: Sender<Arrival>,
) {
    let mut open = true;
    loop {
        tokio::select! {
            request = requests.recv(), if open => match request {
                Some(Request::List(kind)) => wishes.wish(kind),
                Some(Request::Namespace(name)) => asked.namespaces.ask(Subject::Namespace(name)),
                Some(Request::Object { kind, key }) => asked.objects.ask(Subject::Object(kind, key)),
                Some(Request::Notice(notice)) => notices.hand_in(notice),
                None => open = false,
            },
            Some(event) = asked.namespaces.next() => {
                if tx.send(Arrival::now(event)).await.is_err() {
                    return;
                }
            }
            Some(event) = asked.objects.next() => {
                if tx.send(Arrival::now(event)).await.is_err() {
                    return;
                }
            }
            else => std::future::pending().await,
        }
    }
}
