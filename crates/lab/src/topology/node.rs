//! Nodes: a namespace with an uplink, forwarding, and pods behind a bridge or behind routes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::family::Family;
use crate::namespace::Namespace;
use crate::process::require;
use crate::topology::address::{FABRIC, ROUTED_GATEWAY4, ROUTED_GATEWAY6, fabric4, fabric6, node_number, pod4, pod6};
use crate::topology::fabric::{new_namespace, pod_routes};
use crate::topology::layout::Layout;
use crate::topology::pod::{Choice, NodeSide, Parts, Pod, PodSpec};
use crate::traffic::flow::Listen;
use crate::traffic::packet::Mac;
use crate::traffic::serve::Server;

/// Sysctls of nodes, in addition to those of every namespace.
const NODE_SYSCTLS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

const BRIDGE_SYSCTLS: [(&str, &str); 2] =
    [("net/bridge/bridge-nf-call-iptables", "1"), ("net/bridge/bridge-nf-call-ip6tables", "1")];

/// A node. A cheap handle; clones mean the same node.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    number: u8,
    layout: Layout,
    namespace: Namespace,
    state: Mutex<State>,
    /// Pods made so far: numbers interfaces and MAC addresses, never reused.
    made: AtomicU16,
    servers: Mutex<Vec<Server>>,
}

#[derive(Debug, Default)]
struct State {
    /// Pods by name; `None` while one is being made.
    pods: BTreeMap<String, Option<Pod>>,
    taken: BTreeSet<IpAddr>,
    /// Addresses that were ever used: neighbours may have their former owner cached.
    used: BTreeSet<IpAddr>,
}

impl Node {
    pub(crate) fn new(number: u8, layout: Layout) -> Result<Self> {
        let name = format!("node-{number}");
        let namespace = new_namespace(&name)?;
        namespace.sysctl(&NODE_SYSCTLS)?;
        if layout == Layout::Bridge {
            namespace.sysctl(&BRIDGE_SYSCTLS).map_err(|error| match error {
                Error::Sysctl { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::Kernel {
                    what: "br_netfilter, which lets bridged packets visit the IP hooks",
                    hint: "load it with `modprobe br_netfilter`",
                },
                other => other,
            })?;
        }
        let inner = Inner {
            name,
            number,
            layout,
            namespace,
            state: Mutex::default(),
            made: AtomicU16::new(0),
            servers: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives the uplink its addresses and routes, and makes the bridge.
    pub(crate) fn set_up(&self, peers: impl Iterator<Item = u8>) -> Result<()> {
        let (address4, address6) = (self.ipv4(), self.ipv6());
        let (via4, via6) = (fabric4(FABRIC), fabric6(FABRIC));
        let mut lines = format!(
            "link set lo up\n\
             addr add {address4}/24 dev eth0\n\
             addr add {address6}/64 dev eth0 nodad\n\
             link set eth0 up\n\
             route add default via {via4}\n\
             route add default via {via6}\n"
        );
        lines.push_str(&pod_routes(peers, (None, None)));
        self.namespace().add_address(address4.into());
        self.namespace().add_address(address6.into());
        if self.layout() == Layout::Bridge {
            let (gateway4, gateway6) = self.gateway();
            let mac = self.bridge_mac();
            write!(
                lines,
                "link add name cni0 address {mac} type bridge \
                 forward_delay 0\n\
                 addr add {gateway4}/24 dev cni0\n\
                 addr add {gateway6}/64 dev cni0 nodad\n\
                 link set cni0 up\n"
            )
            .unwrap_or(());
            self.namespace().add_address(gateway4.into());
            self.namespace().add_address(gateway6.into());
        }
        self.namespace().ip_batch(&lines)
    }

    /// `node-1`, `node-2`…
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// 1 for `node-1`.
    pub fn number(&self) -> u8 {
        self.inner.number
    }

    /// How it connects its pods.
    pub fn layout(&self) -> Layout {
        self.inner.layout
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Its address on the fabric.
    pub fn ipv4(&self) -> Ipv4Addr {
        fabric4(node_number(self.number()))
    }

    /// Its address on the fabric.
    pub fn ipv6(&self) -> Ipv6Addr {
        fabric6(node_number(self.number()))
    }

    /// Its address on the fabric in a family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4().into(),
            Family::V6 => self.ipv6().into(),
        }
    }

    /// The pods' gateway addresses: those of `cni0`, or link-local ones on a routed node.
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        match self.layout() {
            Layout::Bridge => (pod4(self.number(), 1), pod6(self.number(), 1)),
            Layout::Routed => (ROUTED_GATEWAY4, ROUTED_GATEWAY6),
        }
    }

    /// The MAC address of `cni0`.
    pub fn bridge_mac(&self) -> Mac {
        Mac([0x02, 0x43, self.number(), 0, 0, 1])
    }

    /// The pod ranges in CIDR notation.
    pub fn pod_ranges(&self) -> (String, String) {
        (format!("{}/24", pod4(self.number(), 0)), format!("{}/64", pod6(self.number(), 0)))
    }

    /// Adds a dual-stack pod with the lowest free addresses.
    ///
    /// # Errors
    /// As [`Node::add_pod_with`].
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        self.add_pod_with(PodSpec::new(name))
    }

    /// Adds a pod.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::AddressTaken`], [`Error::AddressesExhausted`], or what `ip` says.
    pub fn add_pod_with(&self, spec: PodSpec) -> Result<Pod> {
        let (ipv4, ipv6, reused) = self.reserve(&spec)?;
        let made = Pod::make(&self.side(), self.parts(&spec.name, ipv4, ipv6), reused);
        let mut state = self.state();
        if let Ok(pod) = &made {
            state.pods.insert(spec.name, Some(pod.clone()));
        } else {
            state.pods.remove(&spec.name);
            let free = [ipv4.map(IpAddr::from), ipv6.map(IpAddr::from)];
            state.taken.retain(|address| !free.contains(&Some(*address)));
        }
        made
    }

    fn side(&self) -> NodeSide<'_> {
        NodeSide { namespace: self.namespace(), layout: self.layout(), gateway: self.gateway() }
    }

    fn parts(&self, name: &str, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Parts {
        let serial = self.inner.made.fetch_add(1, Ordering::Relaxed);
        let [high, low] = serial.to_be_bytes();
        Parts {
            name: name.to_owned(),
            ipv4,
            ipv6,
            mac: Mac([0x02, 0x42, self.number(), 0, high, low]),
            host_interface: format!("veth{serial}"),
        }
    }

    /// Reserves the name and the addresses. Returns whether one of the addresses had an owner before.
    fn reserve(&self, spec: &PodSpec) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>, bool)> {
        let mut state = self.state();
        if state.pods.contains_key(&spec.name) {
            return Err(Error::NameTaken { name: spec.name.clone() });
        }
        let free_host = (2..=254).find(|&host| {
            let free4 = spec.ipv4 != Choice::Next || !state.taken.contains(&pod4(self.number(), host).into());
            let free6 = spec.ipv6 != Choice::Next || !state.taken.contains(&pod6(self.number(), host).into());
            free4 && free6
        });
        let host = free_host.ok_or_else(|| Error::AddressesExhausted { node: self.name().into() })?;
        let ipv4 = spec.ipv4.resolve(pod4(self.number(), host));
        let ipv6 = spec.ipv6.resolve(pod6(self.number(), host));
        let wanted: Vec<IpAddr> = ipv4.map(IpAddr::from).into_iter().chain(ipv6.map(IpAddr::from)).collect();
        let gateway: [IpAddr; 2] = [pod4(self.number(), 1).into(), pod6(self.number(), 1).into()];
        if let Some(&address) =
            wanted.iter().find(|&address| state.taken.contains(address) || gateway.contains(address))
        {
            return Err(Error::AddressTaken { address, node: self.name().into() });
        }
        let reused = wanted.iter().any(|address| state.used.contains(address));
        state.pods.insert(spec.name.clone(), None);
        state.taken.extend(&wanted);
        state.used.extend(&wanted);
        Ok((ipv4, ipv6, reused))
    }

    /// Removes a pod: its interface is gone when this returns, and its addresses are free. The node's conntrack entries
    /// stay, as on a real node. Handles to the pod keep its (now unconnected) namespace.
    ///
    /// # Errors
    /// [`Error::NoSuchPod`].
    pub fn remove_pod(&self, name: &str) -> Result<()> {
        let pod = self.state().pods.get(name).cloned().flatten();
        let pod = pod.ok_or_else(|| Error::NoSuchPod { name: name.into(), node: self.name().into() })?;
        pod.stop_serving();
        self.namespace().ip_batch(&format!("link del {}\n", pod.host_interface()))?;
        let mut state = self.state();
        state.pods.remove(name);
        for address in pod.addresses() {
            state.taken.remove(&address);
        }
        Ok(())
    }

    /// The pods of the node, by name.
    pub fn pods(&self) -> Vec<Pod> {
        self.state().pods.values().flatten().cloned().collect()
    }

    /// A pod by name.
    pub fn pod(&self, name: &str) -> Option<Pod> {
        self.state().pods.get(name).cloned().flatten()
    }

    /// Starts echo servers on all addresses of the node, like hostNetwork pods.
    ///
    /// # Errors
    /// [`Error::Socket`] when a port is taken.
    pub fn serve(&self, listen: &[Listen]) -> Result<()> {
        let server = Server::start(self.namespace(), &self.namespace().addresses(), listen)?;
        self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(())
    }

    /// Stops all echo servers of the node itself.
    pub fn stop_serving(&self) {
        let stopped = std::mem::take(&mut *self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(stopped);
    }

    /// Runs the `conntrack` tool in the node's namespace and returns its output. Deleting nothing (`-D` without a
    /// match) is no error.
    ///
    /// # Errors
    /// [`Error::Tool`] when it is not installed, [`Error::Command`] otherwise.
    pub fn conntrack(&self, args: &[&str]) -> Result<String> {
        require("conntrack", "conntrack")?;
        match self.namespace().output("conntrack", args, "") {
            Err(Error::Command { stderr, .. }) if stderr.contains("0 flow entries") => Ok(String::new()),
            other => other,
        }
    }

    /// Loads an nftables script in the node's namespace.
    ///
    /// # Errors
    /// [`Error::Command`] with nft's message.
    pub fn nft(&self, script: &str) -> Result<String> {
        self.namespace().nft(script)
    }

    /// A command inside the node's namespace; see [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace().command(program)
    }

    /// Runs a closure inside the node's namespace; see [`Namespace::run`].
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace().run(work)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<Namespace> for Node {
    fn as_ref(&self) -> &Namespace {
        self.namespace()
    }
}
