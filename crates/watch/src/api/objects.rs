//! Objects of the API server, trimmed while they are decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use palisade_policy::input::{ContainerPort, LEGACY_ANNOTATION, Labels, Namespace, NamespacedName, Object, Protocol};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::decode::{Context, HAS_NETWORK, LEGACY_WARNING, Mode, PodFacts, demands_isolation};
use crate::node::Node;

/// An object and the warnings about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoded {
    pub(super) object: Object,
    pub(super) warnings: Vec<String>,
}

/// A trimmed object that can be watched.
pub(super) trait Read:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The object as policies see it. None if it has no name, which no server sends.
    fn read(self) -> Option<Decoded>;
}

/// `v1` Pod.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct KubePod {
    metadata: Meta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

/// `v1` Namespace.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct KubeNamespace {
    metadata: Meta,
    #[serde(default)]
    status: NamespaceStatus,
}

/// `networking.k8s.io/v1` NetworkPolicy. The decoder of manifests reads its spec, so that there is only one reading of
/// each clause.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct KubePolicy {
    metadata: Meta,
    #[serde(default)]
    spec: serde_json::Value,
}

/// The kept fields of `metadata`.
#[derive(Clone, Debug, Default)]
struct Meta {
    kept: ObjectMeta,
    terminating: bool,
    legacy_annotation: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<IgnoredAny>,
    annotations: Option<RawAnnotations>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "net.beta.kubernetes.io/network-policy")]
    legacy: Option<String>,
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawMeta::deserialize(deserializer)?;
        Ok(Self {
            kept: ObjectMeta {
                name: raw.name,
                namespace: raw.namespace,
                resource_version: raw.resource_version,
                labels: raw.labels,
                ..ObjectMeta::default()
            },
            terminating: raw.deletion_timestamp.is_some(),
            legacy_annotation: raw.annotations.and_then(|annotations| annotations.legacy),
        })
    }
}

impl Meta {
    fn key(&self) -> Option<NamespacedName> {
        Some(NamespacedName::new(self.kept.namespace.clone()?, self.kept.name.clone()?))
    }

    fn labels(&mut self) -> Labels {
        self.kept.labels.take().unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    ports: Option<Vec<Port>>,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    name: Option<String>,
    #[serde(rename = "containerPort")]
    number: Option<i64>,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Ip>>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Option<Vec<Ip>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Ip {
    ip: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NamespaceStatus {
    phase: Option<String>,
}

impl Port {
    /// The port as policies' named ports see it; none if it has no name.
    fn named(self) -> Option<ContainerPort> {
        let protocol = self.protocol.as_deref().unwrap_or("TCP");
        Some(ContainerPort {
            name: self.name.filter(|name| !name.is_empty())?.into(),
            protocol: Protocol::ALL.into_iter().find(|known| known.to_string() == protocol)?,
            port: u16::try_from(self.number?).ok().filter(|port| *port != 0)?,
        })
    }
}

/// The IPs of the list, or if it is empty, the single one.
fn addresses(list: Option<Vec<Ip>>, single: Option<String>) -> Vec<String> {
    let listed: Vec<_> = list.into_iter().flatten().filter_map(|item| item.ip).filter(|ip| !ip.is_empty()).collect();
    if listed.is_empty() { single.into_iter().collect() } else { listed }
}

impl Read for KubePod {
    fn read(mut self) -> Option<Decoded> {
        let key = self.metadata.key()?;
        let sidecars = self.spec.init_containers.into_iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let containers = self.spec.containers.into_iter().flatten().chain(sidecars);
        let facts = PodFacts {
            node: self.spec.node_name,
            host_network: self.spec.host_network.unwrap_or(false),
            phase: self.status.phase,
            awaits_network: self.status.conditions.into_iter().flatten().any(|condition| {
                condition.kind.as_deref() == Some(HAS_NETWORK) && condition.status.as_deref() == Some("False")
            }),
            addresses: addresses(self.status.pod_ips, self.status.pod_ip),
            host_addresses: addresses(self.status.host_ips, self.status.host_ip),
            ports: containers.filter_map(|container| container.ports).flatten().filter_map(Port::named).collect(),
        };
        let (pod, warnings) = facts.into_pod(key, self.metadata.labels(), self.metadata.terminating);
        Some(Decoded { object: Object::Pod(pod), warnings })
    }
}

impl Read for KubeNamespace {
    fn read(mut self) -> Option<Decoded> {
        let name = self.metadata.kept.name.clone()?;
        let mut namespace = Namespace::new(name, self.metadata.labels());
        namespace.terminating = self.metadata.terminating || self.status.phase.as_deref() == Some("Terminating");
        let legacy = self.metadata.legacy_annotation;
        namespace.legacy_isolation = legacy.as_deref().is_some_and(demands_isolation);
        let warnings = if legacy.is_some() {
            vec![format!("the annotation {LEGACY_ANNOTATION} {LEGACY_WARNING}")]
        } else {
            vec![]
        };
        Some(Decoded { object: Object::Namespace(namespace), warnings })
    }
}

impl Read for KubePolicy {
    fn read(self) -> Option<Decoded> {
        let key = self.metadata.key()?;
        let spec = Node::from(self.spec);
        let policy = Context::new(Mode::Accepted).accepted_policy(key, Some(&spec));
        let warnings = policy.unenforceable.iter().map(|term| format!("{}: {}", term.field, term.reason)).collect();
        Some(Decoded { object: Object::Policy(policy), warnings })
    }
}

/// JSON decoded as each of the watched kinds, for fuzzing.
pub(super) fn read_as_any_kind(json: &[u8]) -> Vec<Object> {
    fn read<R: Read>(json: &[u8]) -> Option<Object> {
        Some(serde_json::from_slice::<R>(json).ok()?.read()?.object)
    }
    [read::<KubeNamespace>(json), read::<KubePod>(json), read::<KubePolicy>(json)].into_iter().flatten().collect()
}

/// Implements kube's `Resource` for a trimmed type.
macro_rules! resource {
    ($type:ty, $scope:ty, $group:literal, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata.kept
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata.kept
            }
        }
    };
}

resource!(KubePod, NamespaceResourceScope, "", "Pod", "pods");
resource!(KubeNamespace, ClusterResourceScope, "", "Namespace", "namespaces");
resource!(KubePolicy, NamespaceResourceScope, "networking.k8s.io", "NetworkPolicy", "networkpolicies");

#[cfg(test)]
mod tests;
