//! Hosts outside the cluster, on the fabric.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::family::Family;
use crate::namespace::Namespace;
use crate::topology::address::{FABRIC, fabric4, fabric6};
use crate::topology::fabric::{new_namespace, pod_routes};
use crate::traffic::flow::Listen;
use crate::traffic::serve::Server;

/// A machine outside the cluster. A cheap handle; clones mean the same host.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: u8,
    further: Vec<IpAddr>,
    namespace: Namespace,
    servers: Mutex<Vec<Server>>,
}

impl Host {
    pub(crate) fn new(name: &str, number: u8, further: &[IpAddr]) -> Result<Self> {
        let namespace = new_namespace(name)?;
        let inner = Inner { number, further: further.to_vec(), namespace, servers: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn set_up(&self, nodes: impl Iterator<Item = u8>) -> Result<()> {
        let (address4, address6) = (fabric4(self.inner.number), fabric6(self.inner.number));
        let (via4, via6) = (fabric4(FABRIC), fabric6(FABRIC));
        let mut lines = format!(
            "link set lo up\n\
             addr add {address4}/24 dev eth0\n\
             addr add {address6}/64 dev eth0 nodad\n"
        );
        for address in &self.inner.further {
            let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
            writeln!(lines, "addr add {address}/{length} dev eth0{nodad}").unwrap_or(());
        }
        writeln!(lines, "link set eth0 up\nroute add default via {via4}\nroute add default via {via6}").unwrap_or(());
        let first = |family| self.inner.further.iter().copied().find(|&address| Family::of(address) == family);
        lines.push_str(&pod_routes(nodes, (first(Family::V4), first(Family::V6))));
        for address in self.inner.further.iter().copied().chain([address4.into(), address6.into()]) {
            self.namespace().add_address(address);
        }
        self.namespace().ip_batch(&lines)
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.namespace().name()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Its addresses: first the additional ones, then those on the fabric.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.namespace().addresses()
    }

    /// The address of a family that nodes and pods see: the first additional one, otherwise the one on the fabric.
    pub fn address(&self, family: Family) -> IpAddr {
        let further = self.inner.further.iter().copied().find(|&address| Family::of(address) == family);
        further.unwrap_or(match family {
            Family::V4 => fabric4(self.inner.number).into(),
            Family::V6 => fabric6(self.inner.number).into(),
        })
    }

    /// Starts echo servers on all its addresses.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when a port is taken.
    pub fn serve(&self, listen: &[Listen]) -> Result<()> {
        let server = Server::start(self.namespace(), &self.addresses(), listen)?;
        self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(())
    }

    /// A command inside the host's namespace; see [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace().command(program)
    }
}

impl AsRef<Namespace> for Host {
    fn as_ref(&self) -> &Namespace {
        self.namespace()
    }
}
