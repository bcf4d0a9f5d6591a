//! Services: ClusterIP and NodePort by destination NAT, as kube-proxy does it, with a single backend each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::family::Family;
use crate::topology::pod::Pod;
use crate::traffic::flow::Protocol;

/// The mark of NodePort traffic to masquerade: the same bit as kube-proxy's.
const MASQUERADE_MARK: u32 = 0x4000;

/// Which source address a backend behind a NodePort sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalTraffic {
    /// Every node serves the port and puts its own address in place of the client's.
    Cluster,
    /// Only the backend's node serves the port; the client's address is kept.
    Local,
}

/// A Service with one backend pod.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name, unique in the lab.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its addresses, by convention from 10.96.0.0/16 and fd96::/112.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The backend.
    pub backend: Pod,
    /// The backend's port.
    pub target_port: u16,
    /// A port on nodes' own addresses.
    pub node_port: Option<(u16, ExternalTraffic)>,
}

impl Service {
    /// A Service of `protocol` at `addresses`:`port`, leading to `backend`:`target_port`.
    pub fn new(
        name: impl Into<String>,
        (protocol, port): (Protocol, u16),
        addresses: &[IpAddr],
        (backend, target_port): (&Pod, u16),
    ) -> Self {
        Self {
            name: name.into(),
            protocol,
            addresses: addresses.to_vec(),
            port,
            backend: backend.clone(),
            target_port,
            node_port: None,
        }
    }

    /// The same Service with a node port.
    #[must_use]
    pub fn node_port(mut self, port: u16, traffic: ExternalTraffic) -> Self {
        self.node_port = Some((port, traffic));
        self
    }

    fn protocol_name(&self) -> Result<&'static str> {
        match self.protocol {
            Protocol::Tcp => Ok("tcp"),
            Protocol::Udp => Ok("udp"),
            Protocol::Sctp => Ok("sctp"),
            Protocol::Icmp => Err(self.wrong("ICMP has no ports to translate")),
        }
    }

    fn wrong(&self, reason: &'static str) -> Error {
        Error::Service { name: self.name.clone(), reason }
    }
}

/// The elements of one family's sets and maps.
#[derive(Debug, Default)]
struct Elements {
    cluster: BTreeMap<String, String>,
    node: BTreeMap<String, String>,
    masqueraded: BTreeSet<String>,
    hairpin: BTreeSet<String>,
}

/// The nftables script that makes `inet lab-services` on a node equal to the Services.
pub(crate) fn render(services: &BTreeMap<String, Service>, node: &str, masquerade: bool) -> Result<String> {
    let mut script = String::from("table inet lab-services\ndelete table inet lab-services\n");
    if services.is_empty() && !masquerade {
        return Ok(script);
    }
    let (four, six) = (elements(services, node, Family::V4)?, elements(services, node, Family::V6)?);
    script.push_str("table inet lab-services {\n");
    declare(&mut script, &four, "4", "ipv4_addr");
    declare(&mut script, &six, "6", "ipv6_addr");
    let mark = MASQUERADE_MARK;
    write!(
        script,
        "\tchain services {{\n\
         \t\tmeta l4proto != {{ tcp, udp, sctp }} return\n\
         \t\tdnat ip to ip daddr . meta l4proto . th dport map @cluster4\n\
         \t\tdnat ip6 to ip6 daddr . meta l4proto . th dport map @cluster6\n\
         \t\tfib daddr type != local return\n\
         \t\tmeta nfproto ipv4 meta l4proto . th dport @masqueraded4 meta mark set meta mark | {mark:#x}\n\
         \t\tmeta nfproto ipv6 meta l4proto . th dport @masqueraded6 meta mark set meta mark | {mark:#x}\n\
         \t\tmeta nfproto ipv4 dnat ip to meta l4proto . th dport map @node4\n\
         \t\tmeta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @node6\n\
         \t}}\n\
         \tchain prerouting {{\n\t\ttype nat hook prerouting priority dstnat\n\t\tjump services\n\t}}\n\
         \tchain output {{\n\t\ttype nat hook output priority -100\n\t\tjump services\n\t}}\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat\n\
         \t\tmeta mark & {mark:#x} == {mark:#x} masquerade\n\
         \t\tct status dnat ip saddr . ip daddr @hairpin4 masquerade\n\
         \t\tct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade\n"
    )
    .unwrap_or(());
    if masquerade {
        script.push_str(
            "\t\tip saddr 10.42.0.0/16 ip daddr != { 10.42.0.0/16, 224.0.0.0/4 } masquerade\n\
             \t\tip6 saddr fd42::/16 ip6 daddr != { fd42::/16, ff00::/8 } masquerade\n",
        );
    }
    script.push_str("\t}\n}\n");
    Ok(script)
}

fn elements(services: &BTreeMap<String, Service>, node: &str, family: Family) -> Result<Elements> {
    let mut out = Elements::default();
    for service in services.values() {
        let protocol = service.protocol_name()?;
        let addresses: Vec<_> = service.addresses.iter().filter(|&&address| Family::of(address) == family).collect();
        let Ok(backend) = service.backend.address(family) else {
            if addresses.is_empty() {
                continue;
            }
            return Err(service.wrong("its backend has no address of the family of one of its addresses"));
        };
        let target = format!("{backend} . {}", service.target_port);
        for address in addresses {
            let key = format!("{address} . {protocol} . {}", service.port);
            if out.cluster.insert(key, target.clone()).is_some() {
                return Err(service.wrong("another Service has its address and port"));
            }
        }
        if let Some((port, traffic)) = service.node_port
            && (traffic == ExternalTraffic::Cluster || service.backend.node() == node)
        {
            let key = format!("{protocol} . {port}");
            if out.node.insert(key.clone(), target).is_some() {
                return Err(service.wrong("another Service has its node port"));
            }
            if traffic == ExternalTraffic::Cluster {
                out.masqueraded.insert(key);
            }
        }
        out.hairpin.insert(format!("{backend} . {backend}"));
    }
    Ok(out)
}

fn declare(script: &mut String, elements: &Elements, suffix: &str, address: &str) {
    let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(key, value)| format!("{key} : {value}")).collect();
    let single = |set: &BTreeSet<String>| set.iter().cloned().collect();
    let declarations: [(&str, &str, String, Vec<String>); 4] = [
        (
            "map",
            "cluster",
            format!("{address} . inet_proto . inet_service : {address} . inet_service"),
            pairs(&elements.cluster),
        ),
        ("map", "node", format!("inet_proto . inet_service : {address} . inet_service"), pairs(&elements.node)),
        ("set", "masqueraded", "inet_proto . inet_service".into(), single(&elements.masqueraded)),
        ("set", "hairpin", format!("{address} . {address}"), single(&elements.hairpin)),
    ];
    for (kind, name, types, members) in declarations {
        write!(script, "\t{kind} {name}{suffix} {{\n\t\ttype {types}\n").unwrap_or(());
        if !members.is_empty() {
            writeln!(script, "\t\telements = {{ {} }}", members.join(", ")).unwrap_or(());
        }
        script.push_str("\t}\n");
    }
}
