//! Notices to the owners of a policy, as Events on it.
//!
//! The agents of all nodes may have the same notice. They derive the Event's name from its text, so that the first
//! creates it and the others find it. Each waits for a random time first, so that they rarely collide.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use super::chance;
use super::timing::Timing;
use crate::event::Notice;

/// The reporting component.
const COMPONENT: &str = "palisade";
/// The API accepts a message of at most this many bytes.
const LONGEST: usize = 1024;
/// How many notices may wait; further ones are dropped and only logged.
const WAITING: usize = 256;
/// The number of kinds of failure that are logged, each once.
const FAILURES: usize = 8;

/// The sender of notices. When it is dropped, waiting notices are dropped too.
#[derive(Debug)]
pub(super) struct Notices(Sender<Notice>);

impl Notices {
    /// The sender of notices, and the task that writes them as Events.
    pub(super) fn new(client: Client, timing: Timing) -> (Self, impl Future<Output = ()> + Send) {
        let (tx, rx) = channel(WAITING);
        (Self(tx), Writer { client, timing, failures: BTreeSet::new() }.run(rx))
    }

    /// Queues a notice, without waiting.
    pub(super) fn hand_in(&self, notice: Notice) {
        if let Err(refused) = self.0.try_send(notice) {
            let policy = refused.into_inner().policy;
            tracing::debug!(%policy, "too many Events are waiting; dropping this one");
        }
    }
}

struct Writer {
    client: Client,
    timing: Timing,
    /// The kinds of failure that were logged.
    failures: BTreeSet<String>,
}

impl Writer {
    async fn run(mut self, mut rx: Receiver<Notice>) {
        while let Some(first) = rx.recv().await {
            sleep(chance::up_to(self.timing.notice_spread)).await;
            let mut next = Some(first);
            while let Some(notice) = next {
                self.write(&notice).await;
                sleep(self.timing.notice_pause).await;
                next = rx.try_recv().ok();
            }
        }
    }

    async fn write(&mut self, notice: &Notice) {
        let (sort, error) = match self.create(notice).await {
            Ok(()) => return,
            // Usually a missing permission, which fails every notice.
            Err(kube::Error::Api(status)) => (status.code.to_string(), status.to_string()),
            Err(error) => ("transport".to_owned(), error.to_string()),
        };
        if self.failures.len() < FAILURES && self.failures.insert(sort) {
            tracing::warn!(policy = %notice.policy, error, "cannot write an Event; the ClusterRole must allow get of networkpolicies and create of events");
        }
    }

    async fn create(&self, notice: &Notice) -> Result<(), kube::Error> {
        let namespace = &*notice.policy.namespace;
        let policies = Api::<NetworkPolicy>::namespaced(self.client.clone(), namespace);
        // Tools find the Events of an object by its uid.
        let found = in_time(self.timing.answer, policies.get_metadata_opt(&notice.policy.name)).await?;
        let Some(policy) = found else { return Ok(()) };
        sleep(self.timing.notice_pause).await;
        let event = event(notice, policy.metadata);
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        match in_time(self.timing.answer, events.create(&PostParams::default(), &event)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            result => result.map(drop),
        }
    }
}

async fn in_time<T>(patience: Duration, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(patience, request).await.unwrap_or_else(|late| Err(kube::Error::Service(Box::new(late))))
}

/// The Event on a policy with this metadata.
fn event(notice: &Notice, policy: ObjectMeta) -> Event {
    let namespace = &*notice.policy.namespace;
    let uid = policy.uid.unwrap_or_default();
    let now = Time(Timestamp::now());
    Event {
        metadata: ObjectMeta {
            name: Some(name(&notice.policy.name, &uid, &notice.message)),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("networking.k8s.io/v1".to_owned()),
            kind: Some("NetworkPolicy".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(notice.policy.name.to_string()),
            uid: Some(uid),
            resource_version: policy.resource_version,
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(notice.reason.to_owned()),
        message: Some(text(&notice.message)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        ..Event::default()
    }
}

fn text(message: &str) -> String {
    let mut text = message.to_owned();
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// An Event's name: that of its object, cut to fit (253 bytes), and a hash of its text.
fn name(policy: &str, uid: &str, message: &str) -> String {
    // FNV-1a: short, and stable across nodes and versions; a collision is of no use to an attacker.
    let bytes = uid.bytes().chain([0]).chain(message.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let head: String = policy.chars().take(253 - 17).collect();
    format!("{}.{hash:016x}", head.trim_end_matches(['.', '-']))
}
