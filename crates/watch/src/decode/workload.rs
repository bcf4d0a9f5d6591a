//! Workloads, each as the one pod of its template.

use palisade_policy::input::{NamespacedName, Pod};

use super::context::Context;
use super::controller;
use super::path::Path;
use super::pod::DeclaredPort;
use super::schema::METADATA;
use crate::node::{Entry, Node, Value};

/// The kinds that create pods from a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    ReplicationController,
}

impl WorkloadKind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::ReplicationController,
    ];

    /// The kind as manifests spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::ReplicationController => "ReplicationController",
        }
    }

    /// The API group.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet | Self::ReplicaSet => "apps",
            Self::Job | Self::CronJob => "batch",
            Self::ReplicationController => "",
        }
    }

    /// Where the template is.
    fn template(self) -> &'static [&'static str] {
        match self {
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }
}

impl Context {
    /// Reads a workload as the pod of its template: its namespace and name, the template's labels and containers, no
    /// IP. Every declared port is added to `declared`.
    pub(crate) fn workload(
        &mut self,
        kind: WorkloadKind,
        object: &Node,
        path: &Path<'_>,
        declared: &mut Vec<DeclaredPort>,
    ) -> Pod {
        let metadata = self.metadata(&with_name(object), path);
        let key = NamespacedName::new(metadata.namespace, metadata.name);
        let mut pod = self.template(kind.template(), object, path, declared, key);
        pod.labels.extend(controller::labels(kind, object));
        pod
    }

    fn template(
        &mut self,
        steps: &[&'static str],
        node: &Node,
        path: &Path<'_>,
        declared: &mut Vec<DeclaredPort>,
        key: NamespacedName,
    ) -> Pod {
        if let Some((step, rest)) = steps.split_first() {
            let path = &path.key(step);
            return match node.get(step) {
                Some(next) if matches!(next.value, Value::Mapping(_)) => self.template(rest, next, path, declared, key),
                Some(other) => {
                    self.wrong_type(other.line, path, format!("must be a mapping, not {}", other.in_words()), None);
                    Pod::new(key)
                }
                None => {
                    self.missing(node.line, path, "is missing", None);
                    Pod::new(key)
                }
            };
        }
        let labels = node.get("metadata").map(|metadata| {
            let path = &path.key("metadata");
            self.fields(metadata, path, &METADATA);
            self.labels(metadata, path)
        });
        let facts = self.pod_spec(node, path, declared);
        facts.into_pod(key, labels.unwrap_or_default(), false).0
    }
}

/// The object, named after its `generateName` if it has no name.
fn with_name(object: &Node) -> Node {
    let mut metadata = match object.get("metadata") {
        Some(metadata) => metadata.clone(),
        None => return Node { line: object.line, value: Value::Mapping(Vec::new()) },
    };
    let generated = metadata.get("generateName").and_then(Node::text).map(|name| name.trim_end_matches('-').into());
    let is_unnamed = metadata.get("name").is_none();
    if let (true, Some(name), Value::Mapping(entries)) = (is_unnamed, generated, &mut metadata.value) {
        let (key, line) = ("name".into(), object.line);
        entries.retain(|entry| &*entry.key != "name");
        entries.push(Entry { key, line, node: Node { line, value: Value::String(name) } });
    }
    let entry = Entry { key: "metadata".into(), line: metadata.line, node: metadata };
    Node { line: object.line, value: Value::Mapping(vec![entry]) }
}
