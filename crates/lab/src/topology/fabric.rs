//! The link between nodes and hosts, and what every namespace on it has.

use std::fmt::Write as _;
use std::net::IpAddr;

use nix::unistd::getegid;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::topology::address::{FABRIC, fabric4, fabric6, node_number, pod4, pod6};

/// Sysctls of every namespace: addresses are usable at once, and router advertisements are ignored.
const COMMON_SYSCTLS: [(&str, &str); 7] = [
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// Makes a namespace with the settings every namespace of a lab has.
pub(crate) fn new_namespace(name: &str) -> Result<Namespace> {
    let namespace = Namespace::new(name)?;
    // Ping sockets are for members of these groups. In a user namespace only mapped groups are allowed.
    let group = getegid();
    let group = format!("{group} {group}");
    let settings = COMMON_SYSCTLS.into_iter().chain([("net/ipv4/ping_group_range", group.as_str())]);
    namespace.sysctl(&settings.collect::<Vec<_>>())?;
    Ok(namespace)
}

/// Makes the fabric's bridge.
pub(crate) fn build_fabric() -> Result<Namespace> {
    let fabric = new_namespace("fabric")?;
    // The fabric is a wire: its packets need not traverse netfilter. (The key is absent without br_netfilter.)
    for key in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
        fabric.sysctl(&[(key, "0")]).or_else(ignore_missing_sysctl)?;
    }
    let (gateway4, gateway6) = (fabric4(FABRIC), fabric6(FABRIC));
    fabric.ip_batch(&format!(
        "link set lo up\n\
         link add name fabric address 02:30:00:00:00:01 type bridge forward_delay 0\n\
         addr add {gateway4}/24 dev fabric\n\
         addr add {gateway6}/64 dev fabric nodad\n\
         link set fabric up\n"
    ))?;
    Ok(fabric)
}

/// Accepts a sysctl whose file does not exist.
fn ignore_missing_sysctl(error: Error) -> Result<()> {
    match error {
        Error::Sysctl { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Err(other),
    }
}

/// Connects a namespace's `eth0` to the fabric.
pub(crate) fn plug(fabric: &Namespace, to: &Namespace, port: &str) -> Result<()> {
    fabric.ip_batch(&format!(
        "link add {port} type veth peer name eth0 netns {path}\n\
         link set {port} master fabric\n\
         link set {port} up\n",
        path = to.path()
    ))
}

/// The routes to the pods of other nodes, as flannel's host-gw backend makes them.
pub(crate) fn pod_routes(nodes: impl Iterator<Item = u8>, source: (Option<IpAddr>, Option<IpAddr>)) -> String {
    let with_source = |address: Option<IpAddr>| address.map(|address| format!(" src {address}")).unwrap_or_default();
    let (source4, source6) = (with_source(source.0), with_source(source.1));
    let mut lines = String::new();
    for node in nodes {
        let number = node_number(node);
        let (range4, range6) = (pod4(node, 0), pod6(node, 0));
        let (via4, via6) = (fabric4(number), fabric6(number));
        writeln!(lines, "route add {range4}/24 via {via4} dev eth0{source4}").unwrap_or(());
        writeln!(lines, "route add {range6}/64 via {via6} dev eth0{source6}").unwrap_or(());
    }
    lines
}
