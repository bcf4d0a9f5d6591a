//! Labels that controllers add to the pods of a workload.

use palisade_policy::input::{Labels, UNKNOWN_LABEL};

use super::workload::WorkloadKind;
use crate::node::{Node, Value};

/// The labels that the controller of a workload adds to its pods. `name` is `metadata.name` as written.
pub(super) fn labels(kind: WorkloadKind, name: Option<&str>, object: &Node) -> Labels {
    let known = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN_LABEL.to_owned());
    let unknown = || UNKNOWN_LABEL.to_owned();
    let added: Vec<(&str, String)> = match kind {
        WorkloadKind::Deployment => vec![("pod-template-hash", unknown())],
        WorkloadKind::DaemonSet => {
            vec![("controller-revision-hash", unknown()), ("pod-template-generation", unknown())]
        }
        WorkloadKind::StatefulSet => {
            let ordinal = only_ordinal(object);
            let pod = name.zip(ordinal).map(|(name, ordinal)| format!("{name}-{ordinal}"));
            vec![
                ("controller-revision-hash", unknown()),
                ("apps.kubernetes.io/pod-index", known(ordinal.map(|ordinal| ordinal.to_string()))),
                ("statefulset.kubernetes.io/pod-name", known(pod)),
            ]
        }
        WorkloadKind::Job | WorkloadKind::CronJob => {
            let job = known(name.filter(|_| kind == WorkloadKind::Job).map(str::to_owned));
            vec![
                ("batch.kubernetes.io/controller-uid", unknown()),
                ("controller-uid", unknown()),
                ("batch.kubernetes.io/job-name", job.clone()),
                ("job-name", job),
            ]
        }
        WorkloadKind::ReplicaSet | WorkloadKind::ReplicationController => Vec::new(),
    };
    added.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The number of a StatefulSet's pod, if it has only one.
fn only_ordinal(object: &Node) -> Option<i64> {
    let number = |field: Option<&Node>, default| match field.map(|field| &field.value) {
        None => Some(default),
        Some(Value::Integer(number, _)) => Some(*number),
        Some(_) => None,
    };
    let spec = object.get("spec");
    let replicas = number(spec.and_then(|spec| spec.get("replicas")), 1)?;
    let start = number(spec.and_then(|spec| spec.get("ordinals")).and_then(|ordinals| ordinals.get("start")), 0)?;
    (replicas == 1).then_some(start)
}
