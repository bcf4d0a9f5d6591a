//! The pods behind a name: those of a Service, of a workload, or of a label.

use std::net::IpAddr;

use palisade_policy::flow::Endpoint;
use palisade_policy::input::{
    LabelSelector, NamespacedName, Pod, Protocol, Service, ServicePort, Services, State, TargetPort,
};

use crate::reach::{name, workloads};

/// A server behind a Service, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The server.
    pub endpoint: Endpoint,
    /// The port after translation.
    pub port: u16,
}

/// Why a Service leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    /// It has no such port.
    #[error("service {service} has no {protocol} port {port}; it has {known}")]
    NoPort {
        /// The Service.
        service: NamespacedName,
        /// The protocol that was asked for.
        protocol: Protocol,
        /// The port that was asked for.
        port: String,
        /// The ports there are.
        known: String,
    },
    /// A port is to be named.
    #[error("service {service} has several {protocol} ports: name one of {known}")]
    WhichPort {
        /// The Service.
        service: NamespacedName,
        /// The protocol that was asked for.
        protocol: Protocol,
        /// The ports there are.
        known: String,
    },
    /// Nothing is behind it.
    #[error("nothing is behind service {0}: its selector matches no pod, or it has no endpoints")]
    Empty(NamespacedName),
}

/// What is behind a port of a Service: one pod of each workload that its selector matches, or its endpoints. `port` is a
/// number or a name; it may be missing if the Service has one port of the protocol.
pub fn backends(
    state: &State,
    services: &Services,
    service: &Service,
    protocol: Protocol,
    port: Option<&str>,
) -> Result<Vec<Backend>, NoBackend> {
    let own = port_of(service, protocol, port)?;
    let found = match &service.selector {
        Some(selector) => selected(state, &service.key, selector, own),
        None => listed(services, &service.key, own),
    };
    if found.is_empty() { Err(NoBackend::Empty(service.key.clone())) } else { Ok(found) }
}

/// The pods that the Service's selector matches.
fn selected(state: &State, service: &NamespacedName, selector: &LabelSelector, own: &ServicePort) -> Vec<Backend> {
    let is_behind = |pod: &&Pod| {
        pod.key.namespace == service.namespace && !pod.phase.is_terminal() && selector.selects(&pod.labels)
    };
    let pods: Vec<_> = state.every_pod().filter(is_behind).collect();
    let backend = |pod: &Pod| Some(Backend { endpoint: Endpoint::Pod(pod.key.clone()), port: target(own, pod)? });
    one_of_each(state, &pods).into_iter().filter_map(backend).collect()
}

/// The endpoints of the Service's EndpointSlices.
fn listed(services: &Services, service: &NamespacedName, own: &ServicePort) -> Vec<Backend> {
    let mut found = Vec::new();
    for slice in services.slices.values().filter(|slice| slice.service == *service) {
        let ports = slice.ports.iter().filter(|(name, of, _)| *name == own.name && *of == own.protocol);
        for (_, _, port) in ports {
            let backend = |address: &IpAddr| Backend { endpoint: Endpoint::Address(*address), port: *port };
            found.extend(slice.addresses.iter().map(backend));
        }
    }
    found
}

fn port_of<'s>(service: &'s Service, protocol: Protocol, port: Option<&str>) -> Result<&'s ServicePort, NoBackend> {
    let of_protocol: Vec<_> = service.ports.iter().filter(|own| own.protocol == protocol).collect();
    let known = || {
        let names = service.ports.iter().map(|own| {
            own.name.as_ref().map_or_else(String::new, |name| format!("{name} "))
                + &format!("{} {}", own.protocol, own.port)
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let service = || service.key.clone();
    match (port, of_protocol.as_slice()) {
        (None, [one]) => Ok(one),
        (None, [_, _, ..]) => Err(NoBackend::WhichPort { service: service(), protocol, known: known() }),
        (port, all) => {
            let port = port.unwrap_or("(any)");
            let is_it = |own: &&&ServicePort| own.port.to_string() == port || own.name.as_deref() == Some(port);
            all.iter().find(is_it).copied().ok_or_else(|| NoBackend::NoPort {
                service: service(),
                protocol,
                port: port.to_owned(),
                known: known(),
            })
        }
    }
}

/// The port of a pod that a port of a Service leads to; none if the pod does not declare its name.
fn target(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Named(name) => pod.ports_named(port.protocol, name).next(),
    }
}

/// The pods of a workload, as `kubectl` names it without its kind; one of each that policies treat differently.
pub fn of_workload<'s>(state: &'s State, workload: &NamespacedName) -> Vec<&'s Pod> {
    let pods: Vec<_> = state.every_pod().filter(|pod| pod.is_live() && name(pod) == *workload).collect();
    one_of_each(state, &pods)
}

/// One pod of each of the workloads that these pods are of.
fn one_of_each<'s>(state: &'s State, pods: &[&'s Pod]) -> Vec<&'s Pod> {
    let live: Vec<_> = workloads(&[state])
        .into_iter()
        .filter_map(|workload| pods.iter().find(|pod| workload.pods.contains(&pod.key)).copied())
        .collect();
    // Pods of the host's network are of no workload.
    live.into_iter().chain(pods.iter().filter(|pod| !pod.is_live()).copied()).collect()
}
