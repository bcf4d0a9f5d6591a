//! Pods: a namespace with `eth0` on a node.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::family::Family;
use crate::namespace::Namespace;
use crate::topology::fabric::new_namespace;
use crate::topology::layout::Layout;
use crate::topology::link::{Link, await_links};
use crate::traffic::flow::Listen;
use crate::traffic::packet::{Mac, arp};
use crate::traffic::raw::FrameSocket;
use crate::traffic::serve::Server;

/// How a pod gets its address of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<A> {
    /// The lowest free one of the node's range.
    Next,
    /// This one.
    Fixed(A),
    /// None: the pod lacks the family.
    Absent,
}

impl<A> Choice<A> {
    pub(crate) fn resolve(self, next: A) -> Option<A> {
        match self {
            Self::Next => Some(next),
            Self::Fixed(address) => Some(address),
            Self::Absent => None,
        }
    }
}

/// A pod to be added to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// The name, by convention `namespace/name`; unique on the node.
    pub name: String,
    /// The IPv4 address.
    pub ipv4: Choice<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Choice<Ipv6Addr>,
}

impl PodSpec {
    /// A dual-stack pod with the lowest free addresses.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ipv4: Choice::Next, ipv6: Choice::Next }
    }

    /// With this IPv4 address.
    #[must_use]
    pub fn ipv4(mut self, address: Ipv4Addr) -> Self {
        self.ipv4 = Choice::Fixed(address);
        self
    }

    /// With this IPv6 address.
    #[must_use]
    pub fn ipv6(mut self, address: Ipv6Addr) -> Self {
        self.ipv6 = Choice::Fixed(address);
        self
    }

    /// Without IPv6.
    #[must_use]
    pub fn only_ipv4(mut self) -> Self {
        self.ipv6 = Choice::Absent;
        self
    }

    /// Without IPv4.
    #[must_use]
    pub fn only_ipv6(mut self) -> Self {
        self.ipv4 = Choice::Absent;
        self
    }
}

/// What a pod needs of its node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeSide<'a> {
    /// The node's namespace; its name is the node's.
    pub(crate) namespace: &'a Namespace,
    pub(crate) layout: Layout,
    /// The pods' gateway, IPv4 and IPv6.
    pub(crate) gateway: (Ipv4Addr, Ipv6Addr),
}

/// What the node chose for a pod.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mac: Mac,
    pub(crate) host_interface: String,
}

/// A pod. A cheap handle; clones mean the same pod.
#[derive(Clone, Debug)]
pub struct Pod {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: Parts,
    node: String,
    namespace: Namespace,
    servers: Mutex<Vec<Server>>,
}

impl Pod {
    /// Creates the namespace and connects it. `announce` announces addresses that had another owner before.
    pub(crate) fn make(node: &NodeSide<'_>, parts: Parts, announce: bool) -> Result<Self> {
        let namespace = new_namespace(&parts.name)?;
        node.namespace.ip_batch(&host_side(node.layout, &parts, &namespace.path()))?;
        if node.layout == Layout::Routed {
            // The node answers for the gateway address; the delay would be a random wait before each answer.
            let port = &parts.host_interface;
            node.namespace.sysctl(&[
                (&format!("net/ipv4/conf/{port}/proxy_arp"), "1"),
                (&format!("net/ipv4/neigh/{port}/proxy_delay"), "0"),
            ])?;
        }
        namespace.ip_batch(&pod_side(node, &parts))?;
        let port = &parts.host_interface;
        await_links(&namespace, &[Link::Addressed("eth0")])?;
        match node.layout {
            Layout::Bridge => await_links(node.namespace, &[Link::Port(port), Link::Addressed("cni0")])?,
            Layout::Routed => await_links(node.namespace, &[Link::Addressed(port)])?,
        }
        let pod = Self {
            inner: Arc::new(Inner { parts, node: node.namespace.name().into(), namespace, servers: Mutex::default() }),
        };
        for address in pod.addresses() {
            pod.namespace().add_address(address);
        }
        if announce && node.layout == Layout::Bridge {
            pod.announce()?;
        }
        Ok(pod)
    }

    /// Announces the new owner of the addresses on the link, as a pod's first packets do in a cluster.
    fn announce(&self) -> Result<()> {
        let socket = FrameSocket::open(self.namespace(), "eth0")?;
        if let Some(address) = self.ipv4() {
            socket.send(&arp::announcement(self.mac(), address))?;
        }
        if let Some(address) = self.ipv6() {
            socket.send(&arp::advertisement(self.mac(), address))?;
        }
        Ok(())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.parts.name
    }

    /// The name of its node.
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.inner.parts.ipv4
    }

    /// Its global IPv6 address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.inner.parts.ipv6
    }

    /// Its global addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.ipv4().map(IpAddr::from).into_iter().chain(self.ipv6().map(IpAddr::from)).collect()
    }

    /// Its address of a family.
    ///
    /// # Errors
    /// [`Error::NoAddress`] when it lacks the family.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        let address = self.addresses().into_iter().find(|&address| Family::of(address) == family);
        address.ok_or_else(|| Error::NoAddress { name: self.name().into(), family: family.name() })
    }

    /// The MAC address of `eth0`.
    pub fn mac(&self) -> Mac {
        self.inner.parts.mac
    }

    /// The link-local address of `eth0`. Always there, also on pods without a global IPv6 address.
    pub fn link_local(&self) -> Ipv6Addr {
        arp::link_local(self.mac())
    }

    /// The node's end of the pod's cable.
    pub fn host_interface(&self) -> &str {
        &self.inner.parts.host_interface
    }

    /// Starts echo servers on the pod's addresses. They run until [`Pod::stop_serving`] or the pod's removal.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when a port is taken.
    pub fn serve(&self, listen: &[Listen]) -> Result<()> {
        let server = Server::start(self.namespace(), &self.addresses(), listen)?;
        self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(())
    }

    /// Stops all echo servers of the pod.
    pub fn stop_serving(&self) {
        let stopped = std::mem::take(&mut *self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(stopped);
    }

    /// A command inside the pod's namespace; see [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace().command(program)
    }

    /// Runs a closure inside the pod's namespace; see [`Namespace::run`].
    ///
    /// # Errors
    /// [`crate::Error::Namespace`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace().run(work)
    }

    /// Opens a socket that sends and receives whole Ethernet frames on the pod's `eth0`.
    ///
    /// # Errors
    /// [`crate::Error::Socket`].
    pub fn frames(&self) -> Result<FrameSocket> {
        FrameSocket::open(self.namespace(), "eth0")
    }
}

impl AsRef<Namespace> for Pod {
    fn as_ref(&self) -> &Namespace {
        self.namespace()
    }
}

/// The `ip` lines for the node's end.
fn host_side(layout: Layout, parts: &Parts, pod: &str) -> String {
    let Parts { mac, host_interface: port, .. } = parts;
    let mut lines = format!(
        "link add {port} type veth peer name eth0 \
         address {mac} netns {pod}\n"
    );
    match layout {
        Layout::Bridge => write!(
            lines,
            "link set {port} master cni0\n\
             link set {port} type bridge_slave hairpin on\n\
             link set {port} up\n"
        )
        .unwrap_or(()),
        Layout::Routed => {
            write!(lines, "addr add fe80::1/64 dev {port} nodad\nlink set {port} up\n").unwrap_or(());
            for address in parts.ipv4.map(IpAddr::from).into_iter().chain(parts.ipv6.map(IpAddr::from)) {
                writeln!(lines, "route add {address} dev {port}").unwrap_or(());
            }
        }
    }
    lines
}

/// The `ip` lines for the pod's end.
fn pod_side(node: &NodeSide<'_>, parts: &Parts) -> String {
    let (gateway4, gateway6) = node.gateway;
    let (length4, length6) = match node.layout {
        Layout::Bridge => (24, 64),
        Layout::Routed => (32, 128),
    };
    let mut lines = String::from("link set lo up\n");
    if let Some(address) = parts.ipv4 {
        writeln!(lines, "addr add {address}/{length4} dev eth0").unwrap_or(());
    }
    if let Some(address) = parts.ipv6 {
        writeln!(lines, "addr add {address}/{length6} dev eth0 nodad").unwrap_or(());
    }
    lines.push_str("link set eth0 up\n");
    if parts.ipv4.is_some() {
        if node.layout == Layout::Routed {
            writeln!(lines, "route add {gateway4} dev eth0 scope link").unwrap_or(());
        }
        writeln!(lines, "route add default via {gateway4} dev eth0").unwrap_or(());
    }
    if parts.ipv6.is_some() {
        writeln!(lines, "route add default via {gateway6} dev eth0").unwrap_or(());
    }
    lines
}
