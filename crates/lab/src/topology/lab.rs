//! The lab: a fabric with nodes and hosts on it, and Services.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::process::check_requirements;
use crate::topology::address::{FIRST_HOST, MAX_NODES, fabric4, fabric6};
use crate::topology::fabric::{build_fabric, plug};
use crate::topology::host::Host;
use crate::topology::layout::Layout;
use crate::topology::link::{Link, await_links};
use crate::topology::node::Node;
use crate::topology::service::{Service, render};
use crate::traffic::flood::interface_drops;
use crate::traffic::flow::Flow;
use crate::traffic::shoot::Shooter;

/// The plan of a lab. Made by [`Lab::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    layouts: Vec<Layout>,
    masquerade: bool,
}

impl Builder {
    /// Adds a node; the first is `node-1`.
    #[must_use]
    pub fn node(mut self, layout: Layout) -> Self {
        self.layouts.push(layout);
        self
    }

    /// Adds `count` nodes of one layout.
    #[must_use]
    pub fn nodes(mut self, count: usize, layout: Layout) -> Self {
        self.layouts.extend(std::iter::repeat_n(layout, count));
        self
    }

    /// Whether nodes masquerade what their pods send out of the cluster, as flannel's `--ip-masq` does. Off by default:
    /// hosts then see pod addresses.
    #[must_use]
    pub fn masquerade(mut self, masquerade: bool) -> Self {
        self.masquerade = masquerade;
        self
    }

    /// Builds the lab. Takes about 30 ms for two nodes. Raises this process's soft limit of open files to its hard
    /// limit, since every pod takes some.
    ///
    /// # Errors
    /// [`Error::Privilege`], [`Error::Tool`], [`Error::Kernel`] when the machine cannot hold a lab.
    pub fn build(self) -> Result<Lab> {
        check_requirements()?;
        raise_file_limit()?;
        let fabric = build_fabric()?;
        let count = u8::try_from(self.layouts.len()).ok().filter(|&count| count <= MAX_NODES);
        let count = count.ok_or(Error::Kernel { what: "addresses for so many nodes", hint: "100 is the limit" })?;
        let numbers = || (1..=count).zip(self.layouts.iter().copied());
        let nodes = numbers().map(|(number, layout)| Node::new(number, layout)).collect::<Result<Vec<_>>>()?;
        for node in &nodes {
            plug(&fabric, node.namespace(), node.name())?;
        }
        for (node, (number, _)) in nodes.iter().zip(numbers()) {
            let peers = (1..=count).filter(|&peer| peer != number);
            node.set_up(peers)?;
        }
        for node in &nodes {
            await_links(node.namespace(), &[Link::Addressed("eth0")])?;
        }
        let ports: Vec<Link<'_>> = nodes.iter().map(|node| Link::Port(node.name())).collect();
        await_links(&fabric, &ports)?;
        let lab = Lab {
            shooter: Mutex::new(Shooter::new(&fabric)?),
            fabric,
            nodes,
            hosts: Mutex::default(),
            services: Mutex::default(),
            masquerade: self.masquerade,
        };
        if lab.masquerade {
            lab.load_services(&BTreeMap::new())?;
        }
        Ok(lab)
    }
}

/// A set of network namespaces shaped like a small cluster. Dropping it and all handles from it removes everything.
///
/// Several labs may exist at once in one process and in several; they share nothing.
#[derive(Debug)]
pub struct Lab {
    fabric: Namespace,
    nodes: Vec<Node>,
    hosts: Mutex<Vec<Host>>,
    services: Mutex<BTreeMap<String, Service>>,
    shooter: Mutex<Shooter>,
    masquerade: bool,
}

impl Lab {
    /// Describes a lab; add nodes to it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The nodes, `node-1` first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node number `number`, counted from 1 as in its name and addresses.
    ///
    /// # Panics
    /// When there is no such node: a mistake of the caller, which chose their number.
    #[expect(clippy::expect_used, reason = "the caller said how many nodes the lab has")]
    pub fn node(&self, number: usize) -> &Node {
        number.checked_sub(1).and_then(|index| self.nodes.get(index)).expect("the lab has a node of this number")
    }

    /// The namespace whose bridge connects the nodes.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// Adds a host outside the cluster, with an address on the fabric, a route to every node's pods, and the additional
    /// addresses. Nodes get a route to those, and the host prefers the first of each family as its source.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or what `ip` says.
    pub fn add_host(&self, name: &str, further: &[IpAddr]) -> Result<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.iter().any(|host| host.name() == name) {
            return Err(Error::NameTaken { name: name.into() });
        }
        let number = u8::try_from(hosts.len()).ok().and_then(|index| FIRST_HOST.checked_add(index));
        let number = number.ok_or(Error::AddressesExhausted { node: "fabric".into() })?;
        let host = Host::new(name, number, further)?;
        let port = format!("host-{number}");
        plug(&self.fabric, host.namespace(), &port)?;
        host.set_up(self.nodes.iter().map(Node::number))?;
        await_links(host.namespace(), &[Link::Addressed("eth0")])?;
        await_links(&self.fabric, &[Link::Port(&port)])?;
        let mut routes = String::new();
        for address in further {
            let via: IpAddr = if address.is_ipv4() { fabric4(number).into() } else { fabric6(number).into() };
            writeln!(routes, "route replace {address} via {via}").unwrap_or(());
        }
        if !routes.is_empty() {
            self.nodes.iter().try_for_each(|node| node.namespace().ip_batch(&routes))?;
        }
        hosts.push(host.clone());
        Ok(host)
    }

    /// Adds a Service to every node, or replaces the one of that name. One nftables transaction per node.
    ///
    /// # Errors
    /// [`Error::Service`] when it clashes with another or has no usable address, [`Error::Command`] from nft.
    pub fn add_service(&self, service: Service) -> Result<()> {
        self.add_services([service])
    }

    /// As [`Lab::add_service`], for many at once.
    ///
    /// # Errors
    /// As [`Lab::add_service`]; none of them is added then.
    pub fn add_services(&self, added: impl IntoIterator<Item = Service>) -> Result<()> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = services.clone();
        next.extend(added.into_iter().map(|service| (service.name.clone(), service)));
        self.load_services(&next)?;
        *services = next;
        Ok(())
    }

    /// Removes a Service from every node. Connections that were already translated continue, as in a cluster.
    ///
    /// # Errors
    /// [`Error::Service`] when there is none of that name.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = services.clone();
        if next.remove(name).is_none() {
            return Err(Error::Service { name: name.into(), reason: "there is no such Service" });
        }
        self.load_services(&next)?;
        *services = next;
        Ok(())
    }

    fn load_services(&self, services: &BTreeMap<String, Service>) -> Result<()> {
        for node in &self.nodes {
            node.namespace().nft(&render(services, node.name(), self.masquerade)?)?;
        }
        Ok(())
    }

    /// Every namespace in which packets may arrive: nodes, their pods, hosts.
    pub fn endpoints(&self) -> Vec<Namespace> {
        let mut endpoints = Vec::new();
        for node in &self.nodes {
            endpoints.push(node.namespace().clone());
            endpoints.extend(node.pods().iter().map(|pod| pod.namespace().clone()));
        }
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.extend(hosts.iter().map(|host| host.namespace().clone()));
        endpoints
    }

    /// Sends one packet per flow (TCP SYN, UDP datagram, SCTP INIT, ICMP echo request) and returns for each, in order,
    /// whether it was delivered anywhere in the lab. Many thousands per second; no timeouts are involved.
    ///
    /// "Delivered" means that the destination's kernel handed it to its sockets, after the destination's own input
    /// hook.
    ///
    /// # Errors
    /// [`Error::LateShots`] or [`Error::Fence`] when the verdicts cannot be trusted.
    pub fn shoot(&self, flows: &[Flow]) -> Result<Vec<bool>> {
        Ok(self.shoot_where(flows)?.into_iter().map(|place| place.is_some()).collect())
    }

    /// Like [`Lab::shoot`], but returns where each packet was delivered: the name of the namespace (of the pod, node or
    /// host), or `None`.
    ///
    /// # Errors
    /// As [`Lab::shoot`].
    pub fn shoot_where(&self, flows: &[Flow]) -> Result<Vec<Option<String>>> {
        let mut shooter = self.shooter.lock().unwrap_or_else(PoisonError::into_inner);
        shooter.shoot(flows, &self.endpoints())
    }

    /// Waits until every packet in flight in the lab (on any CPU) has been delivered or dropped.
    ///
    /// # Errors
    /// [`Error::Fence`].
    pub fn settle(&self) -> Result<()> {
        self.shooter.lock().unwrap_or_else(PoisonError::into_inner).settle()
    }

    /// How many packets the kernel has dropped for lack of queue space (not by rule) on the lab's interfaces so far:
    /// the sum of the receive drops in `/proc/net/dev`. A loss test compares it before and after.
    ///
    /// # Errors
    /// [`Error::Namespace`] or [`Error::Socket`] when it cannot be read.
    pub fn queue_drops(&self) -> Result<u64> {
        let mut total = 0;
        for namespace in self.endpoints().iter().chain([&self.fabric]) {
            total += interface_drops(namespace)?;
        }
        Ok(total)
    }
}

fn raise_file_limit() -> Result<()> {
    let failed = |what| move |errno: nix::Error| Error::Io { what, source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed("read the limit of open files"))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed("raise the limit of open files"))?;
    }
    Ok(())
}
