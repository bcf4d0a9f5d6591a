//! Deletions of policies, held back until it is known whether their namespace is being deleted too.
//!
//! Then the policies of a namespace go before its pods (CVE-2024-7598), and a receiver must know of the one before the other
//! to keep the pods isolated. Three watches have no common order, so the server is asked for the namespace. Until it answers
//! the policy stays in force.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::{Api, Client};

use super::lists::Step;
use super::objects::{KubeNamespace, Read as _};
use crate::finding::{Kind, ObjectName};
use crate::manifests::Object;

/// How long after a failure the server is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A deleted policy, and its namespace as it was found afterwards, if it is there.
type Answer = (ObjectName, Option<KubeNamespace>);

/// The deletions that are held back.
pub(super) struct Endings {
    client: Client,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    held: BTreeSet<ObjectName>,
}

impl Endings {
    pub(super) fn new(client: Client) -> Self {
        Self { client, asked: FuturesUnordered::new(), held: BTreeSet::new() }
    }

    /// Takes a step of the watch of policies: gives it back unless it has to wait.
    pub(super) fn hold(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::Gone(policy) => {
                if self.held.insert(policy.clone()) {
                    self.asked.push(Box::pin(ask(self.client.clone(), policy)));
                }
                None
            }
            Step::Applied(decoded) => {
                self.held.remove(&decoded.object.name());
                Some(Step::Applied(decoded))
            }
            Step::ListEnds => {
                self.held.clear();
                Some(Step::ListEnds)
            }
            other => Some(other),
        }
    }

    /// The next deletion that need not wait any more: what is to be told first of its namespace, and itself. None while
    /// nothing is held.
    pub(super) async fn next(&mut self) -> Option<Vec<(Kind, Step)>> {
        loop {
            let (policy, namespace) = self.asked.next().await?;
            if !self.held.remove(&policy) {
                // It came back, or a list said everything.
                continue;
            }
            let ending = namespace.and_then(KubeNamespace::read).filter(|found| is_ending(&found.object));
            let first = ending.map(|namespace| (Kind::Namespace, Step::Applied(namespace)));
            return Some(first.into_iter().chain([(Kind::NetworkPolicy, Step::Gone(policy))]).collect());
        }
    }
}

fn is_ending(object: &Object) -> bool {
    matches!(object, Object::Namespace(namespace) if namespace.terminating)
}

async fn ask(client: Client, policy: ObjectName) -> Answer {
    let name = policy.namespace.clone().unwrap_or_default();
    let namespaces = Api::<KubeNamespace>::all(client);
    loop {
        match namespaces.get_opt(&name).await {
            Ok(found) => return (policy, found),
            // Without the right to ask there is no answer to wait for.
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::warn!(namespace = &*name, error = %status, "cannot ask whether a namespace is being deleted; the ClusterRole must allow get of namespaces");
                return (policy, None);
            }
            Err(error) => {
                tracing::debug!(namespace = &*name, %error, "cannot ask whether a namespace is being deleted; asking again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
