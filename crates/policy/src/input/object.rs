//! Pods and namespaces, with the few fields that NetworkPolicy needs.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Family, Labels, Protocol};

/// The label that the control plane puts on every namespace; its value is the namespace's name.
pub const METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// The name of a namespaced object; the key of pods and of policies.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NamespacedName {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// The object `name` of `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

// Most names that are compared with each other are in one namespace, whose name they share.
impl Ord for NamespacedName {
    fn cmp(&self, other: &Self) -> Ordering {
        let same = Arc::ptr_eq(&self.namespace, &other.namespace);
        let namespaces = if same { Ordering::Equal } else { self.namespace.cmp(&other.namespace) };
        namespaces.then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for NamespacedName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started yet; also the phase of a pod without status.
    #[default]
    Pending,
    /// Running.
    Running,
    /// All containers succeeded; the IP may already belong to another pod.
    Succeeded,
    /// All containers ended, and one failed; the IP may already belong to another pod.
    Failed,
    /// The kubelet does not answer.
    Unknown,
}

impl Phase {
    /// Whether the pod has finished (Succeeded or Failed): it is neither subject nor peer, whatever IP the status still
    /// has.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A pod's IPs: at most one of each family (`status.podIPs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The first usable IP of each family. The rest is returned for a warning: an IP that no pod can have (loopback,
    /// unspecified, multicast, link-local, broadcast, IPv4-mapped) or a second one of a family. A status cannot be
    /// trusted: such an IP in a set would match traffic that is not the pod's.
    pub fn accept(claimed: impl IntoIterator<Item = IpAddr>) -> (Self, Vec<IpAddr>) {
        let mut addresses = Self::default();
        let mut refused = Vec::new();
        for address in claimed {
            match address {
                IpAddr::V4(v4) if addresses.v4.is_none() && is_unicast4(v4) => addresses.v4 = Some(v4),
                IpAddr::V6(v6) if addresses.v6.is_none() && is_unicast6(v6) => addresses.v6 = Some(v6),
                _ if addresses.contains(address) => {}
                _ => refused.push(address),
            }
        }
        (addresses, refused)
    }

    /// The IP of `family`.
    pub fn of(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// The pod's IPs, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        Family::ALL.into_iter().filter_map(move |family| self.of(family))
    }

    /// Whether `address` is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.of(Family::of(address)) == Some(address)
    }

    /// Whether there is no IP yet.
    pub fn is_empty(self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

fn is_unicast4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_link_local()
        || address.is_broadcast())
}

fn is_unicast6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}

/// A port that a container declares; named ports of policies are resolved through it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    /// `name`; ports without one are left out, because no policy can name them.
    pub name: Arc<str>,
    /// `protocol`, TCP by default.
    pub protocol: Protocol,
    /// `containerPort`, 1–65535.
    pub port: u16,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: NamespacedName,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.nodeName`, once scheduled.
    pub node: Option<Arc<str>>,
    /// `spec.hostNetwork`: the pod is neither subject nor peer, and its traffic is its node's.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: Phase,
    /// `metadata.deletionTimestamp` is set. The pod is still subject and peer until it is gone or finished.
    pub terminating: bool,
    /// Condition `PodReadyToStartContainers` is False (beta in Kubernetes 1.29): its sandbox is gone, or has no network
    /// yet. The IPs in its status are then those of an earlier sandbox.
    pub awaits_network: bool,
    /// `status.podIPs`, or `podIP`.
    pub addresses: Addresses,
    /// `status.hostIPs`, or `hostIP`: IPs of its node.
    pub host_addresses: Vec<IpAddr>,
    /// Named ports of the containers, and of the init containers that restart always (sidecars).
    pub ports: Vec<ContainerPort>,
}

impl Pod {
    /// A pending pod with only a name.
    pub fn new(key: NamespacedName) -> Self {
        Self {
            key,
            labels: Labels::new(),
            node: None,
            host_network: false,
            phase: Phase::default(),
            terminating: false,
            awaits_network: false,
            addresses: Addresses::default(),
            host_addresses: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Whether policies apply to it: it is neither hostNetwork nor finished.
    pub fn is_live(&self) -> bool {
        !self.host_network && !self.phase.is_terminal()
    }

    /// Whether it runs on this node and waits for its IP. A terminating pod gets no other IP.
    pub fn is_starting_on(&self, node: &str) -> bool {
        let has_none = self.claims().next().is_none() || (self.awaits_network && !self.terminating);
        self.is_live() && self.node.as_deref() == Some(node) && has_none
    }

    /// The numbers that it declares for a port name.
    pub fn ports_named(&self, protocol: Protocol, name: &str) -> impl Iterator<Item = u16> {
        let is_it = move |port: &&ContainerPort| port.protocol == protocol && *port.name == *name;
        self.ports.iter().filter(is_it).map(|port| port.port)
    }

    /// The IPs that it claims: those of a live pod, except any that its own status lists as an IP of the node.
    pub fn claims(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(|address| self.is_live() && !self.host_addresses.contains(address))
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`, always with [`METADATA_NAME`].
    pub labels: Labels,
    /// `metadata.deletionTimestamp` is set: from now on its policies may be deleted before its pods.
    pub terminating: bool,
    /// [`LEGACY_ANNOTATION`](super::LEGACY_ANNOTATION) is `DefaultDeny`. It has no effect unless
    /// [`LegacyIsolation`](super::LegacyIsolation) is used.
    pub legacy_isolation: bool,
}

impl Namespace {
    /// A namespace with these labels and the one that the control plane adds.
    pub fn new(name: impl Into<Arc<str>>, mut labels: Labels) -> Self {
        let name = name.into();
        labels.insert(METADATA_NAME.to_owned(), name.to_string());
        Self { name, labels, terminating: false, legacy_isolation: false }
    }
}
