//! Telling the owners of a policy, by an Event on it, that a term of it cannot be enforced.
//!
//! The agents of all nodes see the same policy. They name the Event alike, after what it says, so that the first creates it
//! and the others find it there.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::finding::{Kind, ObjectName};

/// Who reports.
const COMPONENT: &str = "palisade";
/// Why, in one word, as Events have it.
const REASON: &str = "TermNotEnforced";
/// The API takes a message of at most this many bytes.
const LONGEST: usize = 1024;
/// At most one request for an Event in this time, however many policies are wrong.
const PAUSE: Duration = Duration::from_secs(1);
/// Notices that wait for their turn; further ones are dropped, and the log has them.
const WAITING: usize = 256;

/// What is wrong with a policy.
#[derive(Debug)]
struct Notice {
    policy: ObjectName,
    message: String,
}

/// Where notices are handed in. When it is dropped, what waits is forgotten.
#[derive(Debug)]
pub(super) struct Notices(Sender<Notice>);

impl Notices {
    /// Starts the task that writes Events.
    pub(super) fn start(client: Client) -> Self {
        let (tx, rx) = channel(WAITING);
        tokio::spawn(write(client, rx));
        Self(tx)
    }

    /// Hands in what an object was warned about, if it is a policy. Does not wait.
    pub(super) fn hand_in(&self, object: &ObjectName, message: &str) {
        if object.kind == Kind::NetworkPolicy {
            let notice = Notice { policy: object.clone(), message: message.to_owned() };
            if self.0.try_send(notice).is_err() {
                tracing::debug!(%object, "too many Events wait already");
            }
        }
    }
}

async fn write(client: Client, mut rx: Receiver<Notice>) {
    let mut failures = BTreeSet::new();
    while let Some(notice) = rx.recv().await {
        if let Err(error) = create(&client, &notice).await {
            let error = error.to_string();
            // Mostly a missing right, which is the same for all.
            if failures.insert(error.clone()) {
                tracing::warn!(object = %notice.policy, error, "cannot write an Event; the ClusterRole must allow get of networkpolicies and create of events");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn create(client: &Client, notice: &Notice) -> Result<(), kube::Error> {
    let namespace = notice.policy.namespace.as_deref().unwrap_or_default();
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), namespace);
    // Tools find the Events of an object by its uid.
    let Some(policy) = policies.get_metadata_opt(&notice.policy.name).await? else { return Ok(()) };
    let uid = policy.metadata.uid.unwrap_or_default();
    let now = Time(Timestamp::now());
    let event = Event {
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
            resource_version: policy.metadata.resource_version,
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(REASON.to_owned()),
        message: Some(text(&notice.message)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        reporting_component: Some(COMPONENT.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        ..Event::default()
    };
    match Api::<Event>::namespaced(client.clone(), namespace).create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        result => result.map(drop),
    }
}

fn text(message: &str) -> String {
    let mut text = format!("{message}; this term matches nothing, and the pods that the policy selects stay isolated");
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// An Event's name: that of its object, cut so that it fits (253 bytes), and a number for what it says.
fn name(policy: &str, uid: &str, message: &str) -> String {
    // FNV-1a: short, the same everywhere and for ever; nobody gains from making two collide.
    let bytes = uid.bytes().chain([0]).chain(message.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let head: String = policy.chars().take(253 - 17).collect();
    format!("{}.{hash:016x}", head.trim_end_matches(['.', '-']))
}
