//! The state of the host: the interfaces that lead to pods, the node's own IPs, and settings that would let packets
//! bypass the table.

mod bridge;
mod flowtable;
mod link;
mod marks;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::Error;
use crate::netlink::Socket;

pub use bridge::{Switched, call_netfilter_on_bridge};
pub use marks::{MarkUser, Usage, mark_users};

/// A condition of the host that prevents enforcement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Pods of one node reach each other over a bridge without passing the forward hook.
    #[error(
        "frames between pods on bridge {bridge} bypass netfilter ({setting} is 0), so policies between them would not be \
         enforced; set {setting} to 1"
    )]
    BridgeBypasses {
        /// The bridge.
        bridge: String,
        /// The setting.
        setting: &'static str,
    },
    /// The kernel cannot pass bridged packets to netfilter.
    #[error(
        "frames between pods on bridge {bridge} bypass netfilter (br_netfilter is not loaded), so policies between them \
         would not be enforced; run modprobe br_netfilter on the node"
    )]
    NoBridgeNetfilter {
        /// The bridge.
        bridge: String,
    },
    /// Service traffic bypasses the forward hook.
    #[error(
        "IPVS has {services} services, so kube-proxy seems to run in IPVS mode, which sends Service traffic past the \
         forward hook; switch kube-proxy to nftables or iptables mode"
    )]
    Ipvs {
        /// The number of virtual services.
        services: usize,
    },
    /// Packets of a pod take an unknown path.
    #[error(
        "no interface of a pod leads to {address} (no route, or one through the device of the default route), so policies \
         for it would not be enforced; Palisade needs pods on a bridge or on their own interfaces"
    )]
    NoInterface {
        /// The pod's IP.
        address: IpAddr,
    },
    /// Packets of established connections bypass all hooks but the first.
    #[error(
        "flowtable {flowtable} of nftables table {table} takes connections of {device} past the forward hook, so policies \
         would not be enforced on established connections; delete the flowtable, or remove {device} from it"
    )]
    Flowtable {
        /// The family and name of its table.
        table: String,
        /// Its name.
        flowtable: String,
        /// The pods' interface.
        device: String,
    },
}

/// The interfaces of the node's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPorts {
    /// The interfaces that routes to pods use: a bridge, or one for each pod.
    pub names: BTreeSet<String>,
    /// IPs without such an interface. A terminating pod's may be among them for a moment.
    pub without: BTreeSet<IpAddr>,
}

/// The interfaces that routes to these IPs of the node's pods use, except loopback and the devices of default routes,
/// which lead to pods of other nodes.
///
/// It asks the kernel for the route of each IP, because only the kernel evaluates routing rules and tables.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`].
pub fn pod_interfaces(addresses: &BTreeSet<IpAddr>) -> Result<PodPorts, Error> {
    let mut ports = PodPorts::default();
    if addresses.is_empty() {
        return Ok(ports);
    }
    let mut socket = socket()?;
    let uplinks = route::default_devices(&mut socket)?;
    let links = link::names(&mut socket)?;
    for address in addresses {
        let device = route::device_to(&mut socket, *address)?.filter(|device| !uplinks.contains(device));
        match device.and_then(|device| links.get(&device)) {
            Some(name) => drop(ports.names.insert(name.clone())),
            None => drop(ports.without.insert(*address)),
        }
    }
    Ok(ports)
}

/// All addresses of all interfaces of the node, link-local ones included.
///
/// # Errors
/// [`Error::Read`].
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, Error> {
    let interfaces =
        getifaddrs().map_err(|errno| Error::Read { what: "the node's addresses", source: errno.into() })?;
    Ok(interfaces.filter_map(|interface| ip(&interface.address?)).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

/// Conditions that would let packets bypass the table.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`].
pub fn findings(pod_interfaces: &BTreeSet<String>) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (name, bridge) in bridges_among(pod_interfaces)? {
        findings.extend(bridge_findings(&name, bridge));
    }
    findings.extend(ipvs());
    findings.extend(flowtable::findings(pod_interfaces)?);
    Ok(findings)
}

/// The bridges among the interfaces.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`].
pub fn bridges(pod_interfaces: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    Ok(bridges_among(pod_interfaces)?.into_keys().collect())
}

fn bridges_among(pod_interfaces: &BTreeSet<String>) -> Result<BTreeMap<String, link::Bridge>, Error> {
    if pod_interfaces.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut bridges = link::bridges(&mut socket()?)?;
    bridges.retain(|name, _| pod_interfaces.contains(name));
    Ok(bridges)
}

/// The bridge on which frames with a VLAN tag bypass netfilter, if there is one: the kernel's default, and a way past
/// the rules for pods that may send such frames (`NET_RAW`). Linux treats a frame with VLAN ID 0 as untagged.
///
/// # Errors
/// [`Error::Socket`], [`Error::Read`].
pub fn passed_by_tagged_frames(pod_interfaces: &BTreeSet<String>) -> Result<Option<String>, Error> {
    // Without br_netfilter there is a worse finding.
    let hidden = fs::read_to_string(FILTER_VLAN_TAGGED).is_ok_and(|value| value.trim() == "0");
    if !hidden {
        return Ok(None);
    }
    Ok(bridges_among(pod_interfaces)?.into_keys().next())
}

const FILTER_VLAN_TAGGED: &str = "/proc/sys/net/bridge/bridge-nf-filter-vlan-tagged";

/// A bridge calls netfilter if its own setting, or the one for all bridges of the network namespace, says so.
fn bridge_findings(name: &str, bridge: link::Bridge) -> Vec<Finding> {
    let settings = [
        ("net.bridge.bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-iptables", bridge.ipv4),
        ("net.bridge.bridge-nf-call-ip6tables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables", bridge.ipv6),
    ];
    let mut findings = Vec::new();
    for (setting, path, own) in settings {
        match fs::read_to_string(path) {
            // The bridge's own setting has no effect without the module.
            Err(_) => return vec![Finding::NoBridgeNetfilter { bridge: name.to_owned() }],
            Ok(value) if value.trim() == "0" && !own => {
                findings.push(Finding::BridgeBypasses { bridge: name.to_owned(), setting });
            }
            Ok(_) => {}
        }
    }
    findings
}

fn ipvs() -> Option<Finding> {
    let table = fs::read_to_string("/proc/thread-self/net/ip_vs").ok()?;
    let services = count_services(&table);
    (services > 0).then_some(Finding::Ipvs { services })
}

/// Services are the lines that start with a protocol or a firewall mark; lines of their servers start with an arrow.
fn count_services(table: &str) -> usize {
    let kinds = ["TCP", "UDP", "SCTP", "FWM"];
    table.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind))).count()
}

fn socket() -> Result<Socket, Error> {
    Socket::open(netlink_sys::protocols::NETLINK_ROUTE).map_err(|source| Error::Socket { protocol: "route", source })
}

/// The family of a table, as nft writes it.
fn family_name(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::count_services;

    #[test]
    fn services_are_counted_without_their_servers() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\n\
                     Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
                     TCP  0A600001:01BB rr \n  -> 0A000001:192B      Masq    1      0          0         \n\
                     UDP  0A60000A:0035 rr \n";
        assert_eq!(count_services(table), 2);
        assert_eq!(count_services("IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port\n"), 0);
    }
}
