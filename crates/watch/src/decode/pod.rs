//! Pods: the few fields that policies use.

use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{Addresses, ContainerPort, Kind, Object, Phase, Pod, Protocol};
use serde::Deserialize;

use super::decoder::{Decoder, Mode};
use super::field::Field;
use super::metadata::{self, ObjectMeta};
use super::path::Path;
use super::rule::ProtocolCase;
use super::{Decoded, Structure, cidr, defaults, syntax};
use crate::finding::Flaw;

/// The condition of a pod whose sandbox has a network.
const HAS_NETWORK: &str = "PodReadyToStartContainers";

/// `v1` Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KubePod {
    metadata: Field<ObjectMeta>,
    spec: Field<PodSpec>,
    status: Field<PodStatus>,
}

/// The `spec` of a pod, or of the template of a workload.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    node_name: Field<String>,
    host_network: Field<bool>,
    containers: Field<Vec<Field<Container>>>,
    init_containers: Field<Vec<Field<Container>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    ports: Field<Vec<Field<Port>>>,
    restart_policy: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    name: Field<String>,
    #[serde(rename = "containerPort")]
    number: Field<i64>,
    protocol: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Field<String>,
    #[serde(rename = "podIP")]
    pod_ip: Field<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Field<Vec<Field<Ip>>>,
    #[serde(rename = "hostIP")]
    host_ip: Field<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Field<Vec<Field<Ip>>>,
    conditions: Field<Vec<Field<Condition>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Field<String>,
    status: Field<String>,
}

/// A port that a container declares, with or without a name.
pub(crate) type DeclaredPort = (Protocol, u16);

impl Structure for KubePod {
    const KIND: Kind = Kind::Pod;

    fn version(&self) -> &str {
        metadata::version(&self.metadata)
    }

    fn decode(self, decoder: &mut Decoder, path: &Path<'_>) -> Option<Decoded> {
        let metadata = decoder.namespaced(self.metadata, path);
        // Check the rest even without a name.
        let mut pod = Pod::new(metadata.key.clone().unwrap_or_else(super::nameless));
        (pod.labels, pod.terminating) = (metadata.labels, metadata.terminating);
        let ports = decoder.pod_spec(self.spec.or_default(), &mut pod, path);
        decoder.pod_status(self.status.or_default(), &mut pod, path);
        metadata.key.map(|_| Decoded { object: Object::Pod(pod), ports })
    }
}

impl Decoder {
    /// Fills in the `spec` of a pod. Returns all ports that its containers and sidecars declare.
    pub(super) fn pod_spec(&mut self, spec: PodSpec, pod: &mut Pod, path: &Path<'_>) -> Vec<DeclaredPort> {
        let path = &path.key("spec");
        pod.node = spec.node_name.get().filter(|node| !node.is_empty()).map(Arc::from);
        pod.host_network = spec.host_network.or_default();
        let mut declared = Vec::new();
        for (list, containers) in [("containers", spec.containers), ("initContainers", spec.init_containers)] {
            let path = &path.key(list);
            for (index, container) in containers.or_default().into_iter().enumerate() {
                let container = container.or_default();
                let is_sidecar = || container.restart_policy.as_ref().get().is_some_and(|policy| policy == "Always");
                if list == "containers" || is_sidecar() {
                    let path = &path.index(index);
                    self.container_ports(container.ports.or_default(), &path.key("ports"), pod, &mut declared);
                }
            }
        }
        declared
    }

    fn container_ports(
        &mut self,
        ports: Vec<Field<Port>>,
        path: &Path<'_>,
        pod: &mut Pod,
        declared: &mut Vec<DeclaredPort>,
    ) {
        for (index, port) in ports.into_iter().enumerate() {
            let path = &path.index(index);
            // Do not also report the missing number of an unreadable port.
            if matches!(port, Field::Unreadable) {
                continue;
            }
            let Port { name, number, protocol } = port.or_default();
            let protocol = self.container_protocol(protocol, path);
            let name = name.or_default();
            if let Some(reason) = syntax::port_name(&name).filter(|_| !name.is_empty()) {
                self.error(0, &path.key("name"), format!("the port name {name:?} {reason}"), None);
            }
            let port = self.container_port(number, &path.key("containerPort"));
            let (Some(protocol), Some(port)) = (protocol, port) else { continue };
            declared.push((protocol, port));
            if !name.is_empty() {
                pod.ports.push(ContainerPort { name: Arc::from(name), protocol, port });
            }
        }
    }

    /// The protocol of a container's port. Empty text means the default.
    fn container_protocol(&mut self, protocol: Field<String>, path: &Path<'_>) -> Option<Protocol> {
        match protocol {
            Field::Unreadable => None,
            Field::Is(name) if !name.is_empty() => {
                self.protocol_named(&name, &path.key("protocol"), ProtocolCase::Upper)
            }
            Field::Is(_) | Field::Absent => Some(defaults::PROTOCOL),
        }
    }

    fn container_port(&mut self, number: Field<i64>, path: &Path<'_>) -> Option<u16> {
        if matches!(number, Field::Absent) {
            self.missing(0, path, "is missing", None);
        }
        let number = number.get()?;
        let port = syntax::port_number(number);
        if port.is_none() {
            self.error(0, path, format!("{number} is not a port: 1 to 65535"), None);
        }
        port
    }

    fn pod_status(&mut self, status: PodStatus, pod: &mut Pod, path: &Path<'_>) {
        let path = &path.key("status");
        pod.phase = self.phase(status.phase, path);
        pod.awaits_network = status.conditions.or_default().into_iter().filter_map(Field::get).any(|condition| {
            let is = |field: Field<String>, text: &str| field.get().is_some_and(|value| value == text);
            is(condition.kind, HAS_NETWORK) && is(condition.status, "False")
        });
        let mut refused = Vec::new();
        let claimed = self.addresses(status.pod_ips, status.pod_ip, path, ["podIPs", "podIP"], &mut refused);
        let impossible;
        (pod.addresses, impossible) = Addresses::accept(claimed);
        refused.extend(impossible.into_iter().map(|address| {
            format!("the pod address {address} is ignored: no pod can have it, or the pod has another of its family")
        }));
        pod.host_addresses = self.addresses(status.host_ips, status.host_ip, path, ["hostIPs", "hostIP"], &mut refused);
        for reason in refused {
            self.warn(Flaw::PodAddress, 0, path, reason);
        }
    }

    fn phase(&mut self, phase: Field<String>, path: &Path<'_>) -> Phase {
        const PHASES: [(&str, Phase); 5] = [
            ("Pending", Phase::Pending),
            ("Running", Phase::Running),
            ("Succeeded", Phase::Succeeded),
            ("Failed", Phase::Failed),
            ("Unknown", Phase::Unknown),
        ];
        let text = phase.or_default();
        if text.is_empty() {
            return Phase::default();
        }
        if let Some((_, phase)) = PHASES.iter().find(|(name, _)| *name == text) {
            return *phase;
        }
        let names = PHASES.map(|(name, _)| name);
        let hint = syntax::nearest(&text, names).map(|meant| format!("did you mean {meant}?"));
        self.error(0, &path.key("phase"), format!("{text:?} is not one of {}", names.join(", ")), hint);
        Phase::Unknown
    }

    /// The IPs of the list; if it has none, the single IP.
    fn addresses(
        &mut self,
        list: Field<Vec<Field<Ip>>>,
        single: Field<String>,
        path: &Path<'_>,
        [plural, singular]: [&str; 2],
        refused: &mut Vec<String>,
    ) -> Vec<IpAddr> {
        let is_some = |text: &String| !text.is_empty();
        let mut texts = Vec::new();
        for (index, ip) in list.or_default().into_iter().enumerate() {
            let Some(text) = ip.or_default().ip.get().filter(is_some) else { continue };
            self.check_address(&text, &path.key(plural).index(index).key("ip"));
            texts.push(text);
        }
        if texts.is_empty()
            && let Some(text) = single.get().filter(is_some)
        {
            self.check_address(&text, &path.key(singular));
            texts.push(text);
        }
        let read = |text: String| match cidr::sloppy_address(&text) {
            None => {
                refused.push(format!("{text:?} is not an address and is ignored"));
                None
            }
            address => address,
        };
        texts.into_iter().filter_map(read).collect()
    }

    fn check_address(&mut self, text: &str, path: &Path<'_>) {
        if self.mode == Mode::Manifest && text.parse::<IpAddr>().is_err() {
            let hint = cidr::sloppy_address(text).map(|address| format!("write {address}"));
            self.error(0, path, format!("{text:?} is not an address"), hint);
        }
    }
}
