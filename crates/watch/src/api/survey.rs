//! All objects of an API server, read once.

use kube::core::Request;
use kube::core::params::ListParams;
use palisade_policy::input::{Change, Kind, NamespacedName};
use serde::Deserialize;
use serde_json::Value as Json;

use super::ApiServer;
use crate::decode::{Context, Issue, Mode, Path};
use crate::error::SourceError;
use crate::finding::{Finding, ObjectName, Place};
use crate::manifests::{Lines, Survey, Written};
use crate::node::Node;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// A page of a list. Its items are not decoded here.
#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Json>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl ApiServer {
    /// Reads all namespaces, pods and policies once, whatever mistakes they have. The place of an object is its
    /// resource, namespace and name, as `networkpolicies/shop/web`.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn survey(&self) -> Result<Survey, SourceError> {
        let mut survey = Survey::default();
        for kind in Kind::ALL {
            let mut taken = Vec::new();
            let mut next = None;
            loop {
                let page = self.page(kind, next).await?;
                taken.extend(page.items.into_iter().filter_map(|item| survey.take(kind, &Node::from(item))));
                next = page.metadata.next.filter(|token| !token.is_empty());
                if next.is_none() {
                    break;
                }
            }
            for change in taken {
                survey.state.apply(change);
            }
        }
        Ok(survey)
    }

    async fn page(&self, kind: Kind, next: Option<String>) -> Result<Page, SourceError> {
        let failed = |source| SourceError::List { resource: kind.resource(), source: Box::new(source) };
        let group = if kind == Kind::NetworkPolicy { "/apis/networking.k8s.io/v1" } else { "/api/v1" };
        let parameters = ListParams { limit: Some(PAGE_SIZE), continue_token: next, ..ListParams::default() };
        let request = Request::new(format!("{group}/{}", kind.resource())).list(&parameters);
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        self.client.request(request).await.map_err(failed)
    }
}

impl Survey {
    /// Takes an object; none if it has no name, which no server sends.
    fn take(&mut self, kind: Kind, node: &Node) -> Option<Change> {
        let mut context = Context::new(Mode::Accepted);
        let mut ports = Vec::new();
        let (name, change) = match kind {
            Kind::Pod => {
                let pod = context.pod(node, &Path::Root, &mut ports);
                (ObjectName::pod(&pod.key), Change::Pod(pod))
            }
            Kind::Namespace => {
                let namespace = context.namespace(node, &Path::Root);
                (ObjectName::namespace(&namespace.name), Change::Namespace(namespace))
            }
            Kind::NetworkPolicy => {
                let metadata = node.get("metadata")?;
                let text = |key| metadata.get(key).and_then(Node::text).map(str::to_owned);
                let key = NamespacedName::new(text("namespace")?, text("name")?);
                (ObjectName::policy(&key), Change::Policy(context.accepted_policy(key, node.get("spec"))))
            }
        };
        if name.name.is_empty() {
            return None;
        }
        let file = match &name.namespace {
            Some(namespace) => format!("{}/{namespace}/{}", kind.resource(), name.name),
            None => format!("{}/{}", kind.resource(), name.name),
        };
        let place = Place { file: file.clone().into(), document: 0, line: 0 };
        self.findings.extend(context.warnings.into_iter().map(|issue| finding(&file, &name, issue)));
        let lines = Lines::default();
        let written = Written { place, sound: true, workload: None, ports, prefix: String::new(), lines };
        self.written.insert(name, written);
        Some(change)
    }
}

fn finding(file: &str, name: &ObjectName, issue: Issue) -> Finding {
    Finding {
        object: Some(name.clone()),
        field: issue.field,
        hint: issue.hint,
        ..Finding::of_file(file, issue.flaw, issue.reason)
    }
}
