//! The clusters that an agent is measured in.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use palisade_policy::input::{
    Addresses, IpBlock, Isolates, LabelSelector, Namespace, NamespacedName, Object, Peer, Peers, Pod, Policy, Port,
    Ports, Protocol, Rule, State,
};
use palisade_testkit::cluster::{Size, cluster, pod};
use palisade_testkit::generate::{object, objects};
use serde_json::{Value, json};

use crate::clusters::CLUSTERS;

/// A cluster, as seen by the agent of `node-0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// An edge cluster.
    W1,
    /// A full node of a middle-sized cluster.
    W2,
    /// A large cluster.
    W3,
    /// One policy of 10,000 ipBlocks with 1,000 excepts, and one of 200 port ranges.
    W5,
    /// Many policies of one rule, and very many pods.
    W6,
    /// `W2` with both families.
    W8,
}

/// The namespace that is relabelled: none of its pods is local.
pub(crate) const CROWD: &str = "crowd";

/// Its pods.
pub(crate) const CROWD_PODS: u32 = 1_000;

impl Workload {
    /// All of them, small ones first.
    pub(crate) const ALL: [Self; 6] = [Self::W1, Self::W5, Self::W2, Self::W8, Self::W3, Self::W6];

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn size(self) -> Size {
        let size = |local_pods, pods, policies, namespaces| Size { local_pods, pods, policies, namespaces };
        match self {
            Self::W1 => size(30, 330, 60, 20),
            Self::W2 | Self::W8 => size(110, 5_110, 500, 100),
            Self::W3 => size(250, 50_250, 5_000, 1_000),
            Self::W5 => size(30, 330, 0, 20),
            Self::W6 => size(250, 100_250, 10_000, 1_000),
        }
    }

    /// For people.
    pub(crate) fn describe(self) -> &'static str {
        let found = CLUSTERS.iter().find(|(name, _)| *name == self.name());
        found.map_or("", |(_, text)| text)
    }

    pub(crate) fn state(self) -> State {
        let mut state = cluster(self.size());
        if self != Self::W8 {
            state.pods.values_mut().for_each(|pod| *pod = single(pod).into());
        }
        match self {
            Self::W5 => {
                let policies = [many_blocks(), many_ranges()];
                state.policies = policies.map(|policy| (policy.key.clone(), policy)).into();
            }
            Self::W6 => state.policies.values_mut().for_each(|policy| {
                policy.ingress.truncate(1);
                policy.egress.truncate(1);
            }),
            Self::W2 => add_crowd(&mut state),
            Self::W1 | Self::W3 | Self::W8 => {}
        }
        state
    }

    /// Its pod of this number, as an object.
    pub(crate) fn pod(self, number: u32) -> Pod {
        let pod = pod(self.size(), number);
        if self == Self::W8 { pod } else { single(&pod) }
    }
}

/// The pod with its IPv4 address only.
fn single(pod: &Pod) -> Pod {
    let addresses = pod.addresses.iter().filter(IpAddr::is_ipv4);
    Pod { addresses: Addresses::accept(addresses).0, ..pod.clone() }
}

/// A namespace with many pods that the policies of two teams select, one after the other.
fn add_crowd(state: &mut State) {
    let labels = [("team".to_owned(), "team-1".to_owned())].into();
    state.namespaces.insert(CROWD.into(), Namespace::new(CROWD, labels));
    for number in 0..CROWD_PODS {
        let pod = crowd_pod(number);
        state.pods.insert(pod.key.clone(), pod.into());
    }
}

/// A pod of that namespace.
pub(crate) fn crowd_pod(number: u32) -> Pod {
    let like = Workload::W2.pod(Workload::W2.size().pods + number);
    let address = IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([10, 96, 0, 0]) + number));
    let key = NamespacedName::new(CROWD, format!("crowd-{number}"));
    Pod { key, addresses: Addresses::accept([address]).0, node: Some("node-9".into()), ..like }
}

fn policy(name: &str, rule: Rule) -> Policy {
    Policy {
        key: NamespacedName::new("namespace-0", name),
        pod_selector: LabelSelector::everything(),
        isolates: Isolates { ingress: true, egress: false },
        ingress: vec![rule],
        egress: Vec::new(),
        unenforceable: Vec::new(),
    }
}

fn many_blocks() -> Policy {
    let net = |bits: u32, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(bits), length));
    let block = |number: u32| {
        // Every second /24 from 96.0.0.0 on, so that no two of them touch.
        let first = u32::from_be_bytes([96, 0, 0, 0]) + number * 512;
        let except = if number.is_multiple_of(10) { vec![net(first + 16, 28)] } else { Vec::new() };
        Peer::IpBlock(IpBlock { cidr: net(first, 24), except })
    };
    policy("blocks", Rule { peers: Peers::Of((0..10_000).map(block).collect()), ports: Ports::Any })
}

fn many_ranges() -> Policy {
    let range =
        |number: u16| Port::Range { protocol: Protocol::Tcp, first: 1_000 + number * 10, last: 1_004 + number * 10 };
    policy("ranges", Rule { peers: Peers::Any, ports: Ports::Of((0..200).map(range).collect()) })
}

/// The objects, as an API server sends them.
pub(crate) fn served(state: &State) -> impl Iterator<Item = Value> {
    objects(state).map(|object| if object["kind"] == "Pod" { full(object) } else { object })
}

/// A pod as an API server sends it.
pub(crate) fn served_pod(pod: &Pod) -> Value {
    full(object(&Object::Pod(pod.clone())))
}

/// Adds to a pod what every pod of a Deployment has and no policy needs: it grows to about 4 KiB.
fn full(mut pod: Value) -> Value {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080, "scheme": "HTTP" }, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3 });
    let container = json!({
        "name": "main", "image": "registry.invalid/team/service:1.2.3",
        "env": (0..6).map(|number| json!({ "name": format!("SETTING_{number}"), "value": "a value of some length" })).collect::<Vec<_>>(),
        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
        "volumeMounts": [{ "name": "kube-api-access-x2v5n", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }],
        "livenessProbe": probe, "readinessProbe": probe, "imagePullPolicy": "IfNotPresent",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    if let Some(first) = pod.pointer_mut("/spec/containers/0").and_then(Value::as_object_mut) {
        let own = std::mem::take(first);
        first.extend(container.as_object().cloned().unwrap_or_default());
        first.extend(own);
    }
    let spec = json!({
        "volumes": [{ "name": "kube-api-access-x2v5n", "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        ] } }],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": "default",
        "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        "tolerations": [
            { "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
            { "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 },
        ],
    });
    let condition = |kind| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:10Z" });
    let conditions =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    let status = json!({
        "conditions": conditions,
        "startTime": "2026-01-01T00:00:00Z", "qosClass": "Burstable",
        "containerStatuses": [{
            "name": "main", "ready": true, "started": true, "restartCount": 0, "state": { "running": { "startedAt": "2026-01-01T00:00:09Z" } }, "lastState": {},
            "image": "registry.invalid/team/service:1.2.3", "imageID": "registry.invalid/team/service@sha256:6b9e2c1f0d7a4358b1c26f93a7e5d4c8b0f1e2d3c4b5a69788796a5b4c3d2e1f",
            "containerID": "containerd://9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        }],
    });
    let managed = |manager: &str, fields: Value| json!({ "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields });
    let named = |names: &[&str]| Value::Object(names.iter().map(|name| (format!("f:{name}"), json!({}))).collect());
    let metadata = json!({
        "generateName": "service-7d4b9c6f58-", "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "service-7d4b9c6f58", "uid": "0b5a1d9e-2f43-4c1a-9b7e-6d8c5f4e3a21", "controller": true, "blockOwnerDeletion": true }],
        "managedFields": [
            managed("kube-controller-manager", json!({ "f:metadata": named(&["generateName", "labels", "ownerReferences"]), "f:spec": named(&["containers", "dnsPolicy", "enableServiceLinks", "restartPolicy", "schedulerName", "securityContext", "terminationGracePeriodSeconds"]) })),
            managed("kubelet", json!({ "f:status": named(&["conditions", "containerStatuses", "hostIP", "hostIPs", "phase", "podIP", "podIPs", "startTime"]) })),
        ],
    });
    for (part, more) in [("metadata", metadata), ("spec", spec), ("status", status)] {
        if let (Some(fields), Value::Object(more)) = (pod[part].as_object_mut(), more) {
            for (field, value) in more {
                fields.entry(field).or_insert(value);
            }
        }
    }
    pod
}
