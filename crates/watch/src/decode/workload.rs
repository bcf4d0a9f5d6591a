//! Workloads, each read as one pod of its template.

use palisade_policy::input::Pod;
use serde::Deserialize;

use super::controller;
use super::decoder::Decoder;
use super::field::Field;
use super::metadata::ObjectMeta;
use super::path::Path;
use super::pod::{DeclaredPort, PodSpec};
use crate::node::{Node, Value};

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

    /// The path of the pod template.
    fn template(self) -> &'static [&'static str] {
        match self {
            Self::CronJob => &["spec", "jobTemplate", "spec", "template"],
            _ => &["spec", "template"],
        }
    }
}

/// `v1` PodTemplateSpec.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Field<ObjectMeta>,
    spec: Field<PodSpec>,
}

impl Decoder {
    /// Reads a workload as one pod, with the ports that it declares. The pod has the workload's namespace and name, the
    /// template's labels and containers, and no IP. None if the workload has no name.
    pub(crate) fn workload(
        &mut self,
        kind: WorkloadKind,
        object: &Node,
        path: &Path<'_>,
    ) -> Option<(Pod, Vec<DeclaredPort>)> {
        let mut head = self.metadata_of(object, path);
        let name = head.as_ref().get().and_then(|metadata| metadata.name.as_ref().get()).cloned();
        if let Field::Is(metadata) = &mut head
            && let (Field::Absent, Field::Is(generated)) = (&metadata.name, &metadata.generate_name)
        {
            metadata.name = Field::Is(generated.trim_end_matches('-').to_owned());
        }
        let key = self.namespaced(head, path).key;
        // Check the rest even without a name.
        let mut pod = Pod::new(key.clone().unwrap_or_else(super::nameless));
        let ports = self.template(kind.template(), object, path, &mut pod);
        pod.labels.extend(controller::labels(kind, name.as_deref(), object));
        key.map(|_| (pod, ports))
    }

    fn template(&mut self, steps: &[&'static str], node: &Node, path: &Path<'_>, pod: &mut Pod) -> Vec<DeclaredPort> {
        if let Some((step, rest)) = steps.split_first() {
            let path = &path.key(step);
            match node.get(step) {
                Some(next) if matches!(next.value, Value::Mapping(_)) => return self.template(rest, next, path, pod),
                Some(other) => {
                    self.wrong_type(other.line, path, format!("must be a mapping, not {}", other.in_words()), None);
                }
                None => self.missing(node.line, path, "is missing", None),
            }
            return Vec::new();
        }
        self.metadata_fields(node, path);
        let Template { metadata, spec } = self.read(node, path);
        pod.labels = self.template_labels(metadata, path);
        self.pod_spec(spec.or_default(), pod, path)
    }
}
