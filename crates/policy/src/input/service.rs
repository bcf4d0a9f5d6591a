//! Services and EndpointSlices. Policies do not know them: rules match pods and their ports. They are read to find the
//! pods and ports behind a Service that a flow is asked about.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{LabelSelector, NamespacedName, Protocol};

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: NamespacedName,
    /// `spec.selector`; without one, EndpointSlices say what is behind it.
    pub selector: Option<LabelSelector>,
    /// `spec.clusterIPs` and `spec.externalIPs`, and those of its load balancer.
    pub addresses: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; may be missing if it is the only one.
    pub name: Option<Arc<str>>,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `targetPort`.
    pub target: TargetPort,
}

/// The port of a pod that a port of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// A port name that the pod declares.
    Named(Arc<str>),
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: NamespacedName,
    /// The Service that it is of (label `kubernetes.io/service-name`).
    pub service: NamespacedName,
    /// The addresses of its endpoints.
    pub addresses: Vec<IpAddr>,
    /// Its ports: name, protocol, number.
    pub ports: Vec<(Option<Arc<str>>, Protocol, u16)>,
}

/// All Services, with what is behind those without a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// The Services by name.
    pub services: BTreeMap<NamespacedName, Service>,
    /// The EndpointSlices by name.
    pub slices: BTreeMap<NamespacedName, EndpointSlice>,
}

impl Services {
    /// The Service with this IP.
    pub fn with_address(&self, address: IpAddr) -> Option<&Service> {
        self.services.values().find(|service| service.addresses.contains(&address))
    }
}
