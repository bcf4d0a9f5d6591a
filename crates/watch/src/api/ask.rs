//! Questions about single objects: whether a namespace exists and is terminating, and whether an object exists.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use kube::core::params::GetParams;
use kube::core::{PartialObjectMeta, Request};
use palisade_policy::input::{Kind, NamespacedName, Object};

use super::chance;
use super::objects::{Received, url};
use crate::decode::KubeNamespace;
use crate::event::{Event, NamespaceAnswer, ObjectAnswer};

/// The number of concurrent questions.
const AT_ONCE: usize = 4;

/// The wait after a failure: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// The subject of a question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A namespace: does it exist, and is it terminating?
    Namespace(Arc<str>),
    /// Any object: does it exist?
    Object(Kind, NamespacedName),
}

/// The question about one subject.
enum Question {
    Waiting,
    UnderWay {
        /// Another question about the subject arrived during the request: its sender may know more than the answer.
        again: bool,
    },
}

/// The pending questions, at most one for each subject.
pub(super) struct Questions {
    client: Client,
    patience: Duration,
    open: BTreeMap<Subject, Question>,
    waiting: VecDeque<Subject>,
    under_way: FuturesUnordered<BoxFuture<'static, (Subject, Event)>>,
}

impl Questions {
    pub(super) fn new(client: Client, patience: Duration) -> Self {
        let under_way = FuturesUnordered::new();
        Self { client, patience, open: BTreeMap::new(), waiting: VecDeque::new(), under_way }
    }

    /// Takes a question.
    pub(super) fn ask(&mut self, subject: Subject) {
        match self.open.get_mut(&subject) {
            Some(Question::Waiting) => {}
            Some(Question::UnderWay { again }) => *again = true,
            None => {
                self.open.insert(subject.clone(), Question::Waiting);
                self.waiting.push_back(subject);
                self.go_on();
            }
        }
    }

    /// The next answer; none if no question is open.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let (subject, event) = self.under_way.next().await?;
        if let Some(Question::UnderWay { again: true }) = self.open.remove(&subject) {
            self.open.insert(subject.clone(), Question::Waiting);
            self.waiting.push_back(subject);
        }
        self.go_on();
        Some(event)
    }

    fn go_on(&mut self) {
        while self.under_way.len() < AT_ONCE
            && let Some(subject) = self.waiting.pop_front()
        {
            self.open.insert(subject.clone(), Question::UnderWay { again: false });
            self.under_way.push(Box::pin(answer(self.client.clone(), subject, self.patience)));
        }
    }
}

/// Asks until there is an answer; also returns the time of the request that was answered.
async fn answer(client: Client, subject: Subject, patience: Duration) -> (Subject, Event) {
    let mut failures = 0_u32;
    loop {
        let asked = Instant::now();
        let answered = tokio::time::timeout(patience, subject.ask(&client, asked)).await;
        let error = match answered.unwrap_or_else(|_late| Err(format!("no answer within {patience:?}"))) {
            Ok(event) => return (subject, event),
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        tracing::debug!(?subject, error, "cannot ask about an object; asking again");
        tokio::time::sleep(chance::after_failures(failures, RETRY_FIRST, RETRY_MOST)).await;
    }
}

impl Subject {
    /// Asks once. If the permission is missing, the refusal is the answer.
    async fn ask(&self, client: &Client, asked: Instant) -> Result<Event, String> {
        match self {
            Self::Namespace(name) => {
                let answer = terminating(client, name).await?;
                Ok(Event::NamespaceAnswer { name: name.clone(), asked, answer })
            }
            Self::Object(kind, key) => {
                let answer = is_there(client, *kind, key).await?;
                Ok(Event::ObjectAnswer { kind: *kind, key: key.clone(), asked, answer })
            }
        }
    }
}

/// Whether a namespace exists, and whether it is terminating.
async fn terminating(client: &Client, name: &str) -> Result<NamespaceAnswer, String> {
    let request = Request::new(url(Kind::Namespace, None)).get(name, &GetParams::default());
    match client.request::<KubeNamespace>(request.map_err(|error| error.to_string())?).await {
        Ok(found) => match Received::read(found).map(|received| received.object) {
            Some(Object::Namespace(namespace)) => Ok(NamespaceAnswer::Present(namespace)),
            _ => Err("the answer is not a namespace".to_owned()),
        },
        Err(kube::Error::Api(status)) if status.reason == "NotFound" => Ok(NamespaceAnswer::Absent),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(NamespaceAnswer::Refused),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an object exists. Its content does not matter, and may be large. A proxy may also answer 404 or 403, so only
/// a `Status` of an API server counts.
async fn is_there(client: &Client, kind: Kind, key: &NamespacedName) -> Result<ObjectAnswer, String> {
    let namespace = (kind != Kind::Namespace).then_some(&*key.namespace);
    let request = Request::new(url(kind, namespace)).get_metadata(&key.name, &GetParams::default());
    match client.request::<PartialObjectMeta>(request.map_err(|error| error.to_string())?).await {
        Ok(found) if found.metadata.name.as_deref() == Some(&*key.name) => Ok(ObjectAnswer::Present),
        Ok(_) => Err("the answer is another object".to_owned()),
        Err(kube::Error::Api(status)) if status.reason == "NotFound" => Ok(ObjectAnswer::Absent),
        Err(kube::Error::Api(status)) if status.reason == "Forbidden" => Ok(ObjectAnswer::Refused),
        Err(error) => Err(error.to_string()),
    }
}
