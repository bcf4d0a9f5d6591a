//! Whether a namespace is there, and whether it is terminating.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kube::{Api, Client};
use palisade_policy::input::Object;

use super::chance;
use super::objects::{KubeNamespace, Read as _};
use crate::event::{Event, NamespaceAnswer};

/// How many questions are under way at a time.
const AT_ONCE: usize = 4;

/// How long after a failure the server is asked again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// The question about one namespace.
enum Question {
    Waiting,
    UnderWay {
        /// Somebody asked while the server was being asked: what they know may be newer than the answer.
        again: bool,
    },
}

/// The questions that wait for an answer, at most one for a namespace.
pub(super) struct Questions {
    client: Client,
    patience: Duration,
    open: BTreeMap<Arc<str>, Question>,
    waiting: VecDeque<Arc<str>>,
    under_way: FuturesUnordered<BoxFuture<'static, (Arc<str>, Instant, NamespaceAnswer)>>,
}

impl Questions {
    pub(super) fn new(client: Client, patience: Duration) -> Self {
        let under_way = FuturesUnordered::new();
        Self { client, patience, open: BTreeMap::new(), waiting: VecDeque::new(), under_way }
    }

    /// Takes a question.
    pub(super) fn ask(&mut self, name: Arc<str>) {
        match self.open.get_mut(&name) {
            Some(Question::Waiting) => {}
            Some(Question::UnderWay { again }) => *again = true,
            None => {
                self.open.insert(name.clone(), Question::Waiting);
                self.waiting.push_back(name);
                self.go_on();
            }
        }
    }

    /// The next answer. None while nothing is asked.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let (name, asked, answer) = self.under_way.next().await?;
        if let Some(Question::UnderWay { again: true }) = self.open.remove(&name) {
            self.open.insert(name.clone(), Question::Waiting);
            self.waiting.push_back(name.clone());
        }
        self.go_on();
        Some(Event::NamespaceAnswer { name, asked, answer })
    }

    fn go_on(&mut self) {
        while self.under_way.len() < AT_ONCE
            && let Some(name) = self.waiting.pop_front()
        {
            self.open.insert(name.clone(), Question::UnderWay { again: false });
            self.under_way.push(Box::pin(answer(self.client.clone(), name, self.patience)));
        }
    }
}

/// Asks until there is an answer; also tells when the question was put that was answered.
async fn answer(client: Client, name: Arc<str>, patience: Duration) -> (Arc<str>, Instant, NamespaceAnswer) {
    let namespaces = Api::<KubeNamespace>::all(client);
    let mut failures = 0_u32;
    loop {
        let asked = Instant::now();
        let error = match tokio::time::timeout(patience, namespaces.get_opt(&name)).await {
            Err(_) => format!("no answer within {patience:?}"),
            Ok(Ok(None)) => return (name, asked, NamespaceAnswer::Absent),
            Ok(Ok(Some(found))) => match found.read().map(|decoded| decoded.object) {
                Some(Object::Namespace(namespace)) => return (name, asked, NamespaceAnswer::Present(namespace)),
                _ => "the answer is no namespace".to_owned(),
            },
            // Without the right to ask there is no answer to wait for.
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => return (name, asked, NamespaceAnswer::Refused),
            Ok(Err(error)) => error.to_string(),
        };
        failures = failures.saturating_add(1);
        tracing::debug!(namespace = &*name, error, "cannot ask whether a namespace is being deleted; asking again");
        tokio::time::sleep(chance::after_failures(failures, RETRY_FIRST, RETRY_MOST)).await;
    }
}
