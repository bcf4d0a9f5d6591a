//! Pods: the few fields that policies use.

use std::net::IpAddr;
use std::sync::Arc;

use palisade_policy::input::{Addresses, ContainerPort, Labels, NamespacedName, Phase, Pod, Protocol};

use super::cidr;
use super::context::Context;
use super::path::Path;
use super::rule::ProtocolCase;
use super::syntax;
use crate::finding::Flaw;
use crate::node::{Node, Value};

/// The condition of a pod whose sandbox has a network.
pub(crate) const HAS_NETWORK: &str = "PodReadyToStartContainers";

/// What a pod's `spec` and `status` contain, as text and unverified.
#[derive(Debug, Default)]
pub(crate) struct PodFacts {
    /// `spec.nodeName`.
    pub(crate) node: Option<String>,
    /// `spec.hostNetwork`.
    pub(crate) host_network: bool,
    /// `status.phase`.
    pub(crate) phase: Option<String>,
    /// The condition [`HAS_NETWORK`] is False.
    pub(crate) awaits_network: bool,
    /// `status.podIPs`, or `podIP`.
    pub(crate) addresses: Vec<String>,
    /// `status.hostIPs`, or `hostIP`.
    pub(crate) host_addresses: Vec<String>,
    /// Ports of containers and of sidecars.
    pub(crate) ports: Vec<ContainerPort>,
}

impl PodFacts {
    /// The pod, and for a warning the IPs in its status that are not possible.
    pub(crate) fn into_pod(self, key: NamespacedName, labels: Labels, terminating: bool) -> (Pod, Vec<String>) {
        let mut refused = Vec::new();
        let claimed = parse_all(&self.addresses, &mut refused);
        let (addresses, impossible) = Addresses::accept(claimed);
        refused.extend(impossible.into_iter().map(|address| {
            format!("the pod address {address} is ignored: no pod can have it, or it is a second one of its family")
        }));
        let host_addresses = parse_all(&self.host_addresses, &mut refused);
        let phase = match self.phase.as_deref() {
            None | Some("" | "Pending") => Phase::Pending,
            Some(phase) => parse_phase(phase).unwrap_or(Phase::Unknown),
        };
        let pod = Pod {
            labels,
            node: self.node.filter(|node| !node.is_empty()).map(Arc::from),
            host_network: self.host_network,
            phase,
            terminating,
            awaits_network: self.awaits_network,
            addresses,
            host_addresses,
            ports: self.ports,
            ..Pod::new(key)
        };
        (pod, refused)
    }
}

fn parse_all(texts: &[String], refused: &mut Vec<String>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match cidr::sloppy_address(text) {
            Some(address) => addresses.push(address),
            None => refused.push(format!("{text:?} is not an address and is ignored")),
        }
    }
    addresses
}

fn parse_phase(text: &str) -> Option<Phase> {
    Some(match text {
        "Pending" => Phase::Pending,
        "Running" => Phase::Running,
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        "Unknown" => Phase::Unknown,
        _ => return None,
    })
}

/// A port that a container declares, with or without a name.
pub(crate) type DeclaredPort = (Protocol, u16);

impl Context {
    /// Reads a Pod manifest: only the fields that policies use; the rest may be anything. Every declared port is added
    /// to `declared`.
    pub(crate) fn pod(&mut self, object: &Node, path: &Path<'_>, declared: &mut Vec<DeclaredPort>) -> Pod {
        let metadata = self.metadata(object, path);
        let key = NamespacedName::new(metadata.namespace, metadata.name);
        let facts = self.pod_facts(object, path, declared);
        let (pod, refused) = facts.into_pod(key, metadata.labels, metadata.terminating);
        let status = object.get("status");
        for reason in refused {
            let line = status.map_or(object.line, |status| status.line);
            self.warn(Flaw::PodAddress, line, &path.key("status"), reason);
        }
        pod
    }

    /// Reads the `spec` of a pod, or of the template of a workload.
    pub(super) fn pod_spec(&mut self, object: &Node, path: &Path<'_>, declared: &mut Vec<DeclaredPort>) -> PodFacts {
        let absent = Node::null(object.line);
        let mut facts = PodFacts::default();
        let path = &path.key("spec");
        let spec = object.get("spec").unwrap_or(&absent);
        if self.mapping(spec, path, None).is_some() {
            facts.node = self.text(spec, "nodeName", path).map(str::to_owned);
            facts.host_network = self.boolean(spec, "hostNetwork", path).unwrap_or(false);
            self.containers(spec, path, &mut facts.ports, declared);
        }
        facts
    }

    fn pod_facts(&mut self, object: &Node, path: &Path<'_>, declared: &mut Vec<DeclaredPort>) -> PodFacts {
        let absent = Node::null(object.line);
        let mut facts = self.pod_spec(object, path, declared);
        let status_path = &path.key("status");
        let status = object.get("status").unwrap_or(&absent);
        if self.mapping(status, status_path, None).is_some() {
            facts.phase = self.phase(status, status_path);
            facts.awaits_network = self.awaits_network(status, status_path);
            facts.addresses = self.addresses(status, status_path, "podIPs", "podIP");
            facts.host_addresses = self.addresses(status, status_path, "hostIPs", "hostIP");
        }
        facts
    }

    fn phase(&mut self, status: &Node, path: &Path<'_>) -> Option<String> {
        let phase = self.text(status, "phase", path)?;
        if !phase.is_empty() && parse_phase(phase).is_none() {
            const PHASES: [&str; 5] = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];
            let hint = syntax::nearest(phase, PHASES).map(|meant| format!("did you mean {meant}?"));
            let line = status.get("phase").map_or(status.line, |field| field.line);
            self.error(line, &path.key("phase"), format!("{phase:?} is not one of {}", PHASES.join(", ")), hint);
        }
        Some(phase.to_owned())
    }

    fn awaits_network(&mut self, status: &Node, path: &Path<'_>) -> bool {
        let mut awaits = false;
        let list = &path.key("conditions");
        for (index, item) in self.items(status, "conditions", list).iter().enumerate() {
            let path = &list.index(index);
            if self.mapping(item, path, None).is_some() && self.text(item, "type", path) == Some(HAS_NETWORK) {
                awaits |= self.text(item, "status", path) == Some("False");
            }
        }
        awaits
    }

    /// The addresses of `plural`, or if there are none, of `single`.
    fn addresses(&mut self, status: &Node, path: &Path<'_>, plural: &str, single: &str) -> Vec<String> {
        let mut addresses = Vec::new();
        let list = &path.key(plural);
        for (index, item) in self.items(status, plural, list).iter().enumerate() {
            let path = &list.index(index);
            if self.mapping(item, path, None).is_none() {
                continue;
            }
            let Some(text) = self.text(item, "ip", path) else { continue };
            self.check_address(text, item.line, &path.key("ip"));
            addresses.push(text.to_owned());
        }
        if addresses.is_empty()
            && let Some(text) = self.text(status, single, path)
        {
            let line = status.get(single).map_or(status.line, |field| field.line);
            self.check_address(text, line, &path.key(single));
            addresses.push(text.to_owned());
        }
        addresses
    }

    fn check_address(&mut self, text: &str, line: usize, path: &Path<'_>) {
        if !text.is_empty() && text.parse::<IpAddr>().is_err() {
            let hint = cidr::sloppy_address(text).map(|address| format!("write {address}"));
            self.error(line, path, format!("{text:?} is not an address"), hint);
        }
    }

    fn containers(
        &mut self,
        spec: &Node,
        path: &Path<'_>,
        ports: &mut Vec<ContainerPort>,
        declared: &mut Vec<DeclaredPort>,
    ) {
        for list in ["containers", "initContainers"] {
            let path = &path.key(list);
            for (index, container) in self.items(spec, list, path).iter().enumerate() {
                let path = &path.index(index);
                if self.mapping(container, path, None).is_none() {
                    continue;
                }
                let restart = self.text(container, "restartPolicy", path);
                if list == "initContainers" && restart != Some("Always") {
                    continue;
                }
                self.container_ports(container, path, ports, declared);
            }
        }
    }

    fn container_ports(
        &mut self,
        container: &Node,
        path: &Path<'_>,
        ports: &mut Vec<ContainerPort>,
        declared: &mut Vec<DeclaredPort>,
    ) {
        let path = &path.key("ports");
        for (index, item) in self.items(container, "ports", path).iter().enumerate() {
            let path = &path.index(index);
            if self.mapping(item, path, None).is_none() {
                continue;
            }
            let protocol = self.protocol(item, path, ProtocolCase::Upper);
            let name = self.text(item, "name", path).unwrap_or_default();
            if let Some(reason) = syntax::port_name(name).filter(|_| !name.is_empty()) {
                self.error(item.line, &path.key("name"), format!("the port name {name:?} {reason}"), None);
            }
            let port = self.container_port(item, path);
            let (Some(protocol), Some(port)) = (protocol, port) else { continue };
            declared.push((protocol, port));
            if !name.is_empty() {
                ports.push(ContainerPort { name: Arc::from(name), protocol, port });
            }
        }
    }

    fn container_port(&mut self, item: &Node, path: &Path<'_>) -> Option<u16> {
        let path = &path.key("containerPort");
        match item.get("containerPort") {
            None => self.missing(item.line, path, "is missing", None),
            Some(Node { value: Value::Integer(number, _), line }) => {
                let port = syntax::port_number(*number);
                if port.is_some() {
                    return port;
                }
                self.error(*line, path, format!("{number} is not a port: 1 to 65535"), None);
            }
            Some(field) => {
                self.wrong_type(field.line, path, format!("must be a whole number, not {}", field.in_words()), None);
            }
        }
        None
    }
}
